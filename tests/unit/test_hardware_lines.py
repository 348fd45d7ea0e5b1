"""What the recipes say of a machine: the disk that a run takes, and packages that can be installed."""

import re
import tomllib
from pathlib import Path

import yaml
from transformers import GemmaConfig, LlamaConfig

from arte_plugin.config.check import check_config
from arte_plugin.plan import make, shapes

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "yaml_examples").glob("*.yaml"))

#: The sizes in the config.json of the 80 GB recipe's models.
SIZES = {
    "meta-llama/Meta-Llama-3-70B-Instruct": LlamaConfig(
        vocab_size=128256, hidden_size=8192, intermediate_size=28672, num_hidden_layers=80, num_attention_heads=64,
        num_key_value_heads=8, tie_word_embeddings=False,
    ),
    "google/gemma-2b": GemmaConfig(
        vocab_size=256000, hidden_size=2048, intermediate_size=16384, num_hidden_layers=18, num_attention_heads=8,
        num_key_value_heads=1, head_dim=256,
    ),
}  # fmt: skip


def test_disk_of_the_80_gb_recipe(tmp_path, monkeypatch):
    text = (ROOT / "yaml_examples/80gb-qlora.yaml").read_text()
    cfg = yaml.safe_load(text)
    configs = {}
    for name, config in SIZES.items():
        configs[name] = str(tmp_path / name.replace("/", "-"))
        config.architectures = [f"{type(config).__name__.removesuffix('Config')}ForCausalLM"]
        config.to_json_file(configs[name], use_diff=False)
    # Memory is another matter, and takes long to count.
    monkeypatch.setattr(make, "_needs", lambda *_: [])
    left = sum(make.make_plan(cfg, check_config(cfg).arte, 1, configs).disk.values())
    models = sum(shapes.shape_of(name, Path(file)).weights("bfloat16") for name, file in configs.items())
    said = re.search(r"(\d+) GB of disk for the models and (\d+) GB for the run", text)
    assert said is not None
    for number, bytes_ in zip(said.groups(), (models, left), strict=True):
        assert bytes_ <= float(number) * 1e9 <= 1.1 * bytes_


def test_every_extra_that_is_named_is_there_and_has_wheels():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for path in [*RECIPES, *(ROOT / "docs").glob("*.md"), ROOT / "README.md"]:
        named = {one for found in re.findall(r"arte-plugin\[([\w,-]+)\]", path.read_text()) for one in found.split(",")}
        assert named <= extras.keys(), path
    # No wheel of it is made for a torch that Axolotl wants.
    assert not [extra for extra, wanted in extras.items() if "flash-attn" in wanted]


def test_no_recipe_pages_the_states_of_an_adapter():
    """In CUDA's managed memory they would outlive the training."""
    for path in RECIPES:
        cfg = yaml.safe_load(path.read_text())
        assert not (cfg.get("adapter") and str(cfg.get("optimizer")).startswith("paged_")), path
