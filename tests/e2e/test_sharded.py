"""A teacher that two real processes have sharded with FSDP2 is put together and loaded."""

import subprocess
import sys

import torch
from transformers import AutoModelForCausalLM

from arte_plugin.training import aligned_weights

#: Two ranks that shard a model with FSDP2 and write it as accelerate does with `SHARDED_STATE_DICT`.
TWO_RANKS = """
import sys
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import AutoModelForCausalLM

dist.init_process_group("gloo")
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16)
mesh = init_device_mesh("cpu", (2,))
for layer in model.model.layers:
    fully_shard(layer, mesh=mesh)
fully_shard(model, mesh=mesh)
shards = get_model_state_dict(model)
assert any(value.to_local().numel() < value.numel() for value in shards.values()), "nothing was sharded"
dcp.save({"model": shards}, checkpoint_id=sys.argv[2])
dist.destroy_process_group()
"""


def test_pieces_are_put_together(taught, tmp_path):
    # As Axolotl leaves it: the config, and a checkpoint.
    folder = tmp_path / "out"
    pieces = folder / "checkpoint-3" / aligned_weights.PIECES
    folder.mkdir()
    (folder / "config.json").write_bytes((taught / "config.json").read_bytes())
    program = tmp_path / "two_ranks.py"
    program.write_text(TWO_RANKS)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*launch, str(program), str(taught), str(pieces)], check=True, capture_output=True, timeout=300)
    (pieces.parent / "trainer_state.json").write_text("{}")
    assert not aligned_weights._is_whole(folder)
    assert aligned_weights.are_there(folder, adapter=False)
    aligned_weights.make_whole(folder, adapter=False, timeout=60)
    wanted = AutoModelForCausalLM.from_pretrained(taught, dtype=torch.bfloat16).state_dict()
    found = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], weights) for name, weights in wanted.items())
    assert not (folder / "merged").exists()
    before = (folder / "model.safetensors").stat().st_mtime_ns
    aligned_weights.make_whole(folder, adapter=False, timeout=60)
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
