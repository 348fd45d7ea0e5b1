"""Every YAML in `yaml_examples/` is one that the installed Axolotl takes, on the hardware that its first line names.

Axolotl validates them in this process, which is told of GPUs that are not there. The tiny model stands in for theirs:
validation looks at the model's config, never at its weights.
"""

import copy
import re
from typing import Any

import pytest
import yaml

from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.check import check_config
from arte_plugin.errors import ConfigError
from arte_plugin.stages.fine_tuning import student_config
from arte_plugin.training.sharding import as_in_one_process, switched_off
from benchmarks.gpu_check.attention import WANTED
from benchmarks.gpu_check.config import loop_config
from tests.e2e.conftest import ROOT, arte

EXAMPLES = sorted((ROOT / "yaml_examples").glob("*.yaml"))
#: What Axolotl finds out about the machine before it validates.
GPU = {"bf16": True, "fp8": True, "tf32": True, "compute_capability": "sm_90"}

each_example = pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)


@pytest.fixture(autouse=True)
def as_a_user(monkeypatch):
    """In the repository's folder, where the paths in the examples begin."""
    monkeypatch.chdir(ROOT)


def gpus(example) -> int:
    """How many GPUs the first line speaks of."""
    first = example.read_text().splitlines()[0]
    if "no GPU" in first:
        return 0
    number = re.match(r"# Hardware: (one|\d+) GPUs? with \d+ GB", first)
    assert number, first
    return 1 if number[1] == "one" else int(number[1])


def validate(config: dict[str, Any], n_gpu: int) -> Any:
    """What Axolotl makes of `config` on a machine with so many GPUs."""
    from axolotl.cli.config import prepare_plugins
    from axolotl.integrations.base import PluginManager
    from axolotl.utils.config import validate_config
    from axolotl.utils.dict import DictDefault
    from torch import __version__ as torch_version

    cfg = DictDefault(copy.deepcopy(config))
    # In a run the student's config has a process of its own, in which no plugin of the teacher's is registered.
    PluginManager.get_instance().plugins.clear()
    prepare_plugins(cfg)
    machine = {**GPU, "n_gpu": n_gpu} if n_gpu else {"n_gpu": 1}
    return validate_config(cfg, capabilities=machine, env_capabilities={"torch_version": torch_version.split("+")[0]})


def assert_kept(wanted: dict[str, Any], made: Any, place: str = "") -> None:
    """Axolotl drops a key that it does not know without a word; none of `wanted` may be lost or changed."""
    for key, value in wanted.items():
        assert key in made, f"Axolotl does not know {place}{key}"
        if isinstance(value, dict):
            assert_kept(value, made[key], f"{place}{key}.")
        else:
            assert getattr(made[key], "value", made[key]) == value, place + key


def test_there_are_examples():
    assert len(EXAMPLES) > 10


@each_example
def test_header_says_hardware_and_command(example):
    lines = example.read_text().splitlines()
    header = lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]
    assert header[0].startswith("# Hardware: ")
    assert any(f" yaml_examples/{example.name}" in line for line in header), "no command to run it"
    never_run = "# Validated against Axolotl's schema; not yet run on this hardware."
    # What needs no GPU has been run.
    assert (never_run in header) == (gpus(example) > 0)
    assert all(len(line) <= 120 for line in lines)


@each_example
def test_axolotl_takes_it(example, untaught):
    config = yaml.safe_load(example.read_text())
    made = validate(config | {"base_model": str(untaught)}, gpus(example))
    beside = {key: value for key, value in config.items() if key not in ("base_model", "arte", "datasets")}
    assert_kept(beside, made)


@each_example
def test_axolotl_takes_its_students(example, untaught, tmp_path):
    config = yaml.safe_load(example.read_text())
    made = validate(config | {"base_model": str(untaught)}, gpus(example))
    (tmp_path / "tailored.jsonl").write_text("")
    for student in ArteArgs.model_validate(config["arte"]).students:
        student.base_model = str(untaught)
        wanted = student_config(made, student, tmp_path / "tailored.jsonl", tmp_path, seed=1)
        if gpus(example):
            # Computing in bfloat16, on weights in float32, or without losing the update, or on an adapter.
            if wanted["optimizer"] != "optimi_adamw" and "adapter" not in wanted:
                assert (wanted["bf16"], wanted["plugins"]) == (False, ["arte_plugin.Float32Weights"])
            else:
                assert wanted["bf16"] is True
            assert wanted["attn_implementation"] == "flash_attention_2"
        assert_kept({key: value for key, value in wanted.items() if key != "datasets"}, validate(wanted, gpus(example)))


@pytest.mark.parametrize("attention", WANTED)
@pytest.mark.parametrize("size", ["small", "full"])
def test_axolotl_takes_what_gpu_check_runs(size, attention, untaught, tmp_path):
    config = loop_config("cuda", size, untaught, untaught, attention, tmp_path / "run")
    check_config(config)
    made = validate(config, 1)
    assert_kept({key: value for key, value in config.items() if key not in ("arte", "datasets")}, made)
    (tmp_path / "tailored.jsonl").write_text("")
    student = ArteArgs.model_validate(config["arte"]).students[0]
    wanted = student_config(made, student, tmp_path / "tailored.jsonl", tmp_path, seed=1)
    assert (wanted["plugins"], wanted["attn_implementation"]) == (["arte_plugin.Float32Weights"], attention)
    assert_kept({key: value for key, value in wanted.items() if key != "datasets"}, validate(wanted, 1))


@each_example
def test_wrong_key_is_refused(example):
    config = yaml.safe_load(example.read_text())
    check_config(config)
    students = config["arte"]["student"]
    students = students if isinstance(students, list) else [students]
    for block in (config["arte"], *students, config["arte"]["tasks"][0]):
        block["no_such_key"] = 1
        with pytest.raises(ConfigError, match="no_such_key: there is no such key"):
            check_config(config)
        with pytest.raises(SystemExit):
            validate(config, gpus(example))
        del block["no_such_key"]


@each_example
def test_files_that_it_names_are_there(example):
    config = yaml.safe_load(example.read_text())
    if config.get("deepspeed"):
        assert (ROOT / config["deepspeed"]).is_file()
    if source := config["arte"].get("from_run"):
        # The run that it goes on from has the same teacher.
        (other,) = [made for path in EXAMPLES if (made := yaml.safe_load(path.read_text())).get("output_dir") == source]
        own = ("output_dir", "arte")
        assert {k: v for k, v in config.items() if k not in own} == {k: v for k, v in other.items() if k not in own}


@each_example
def test_it_is_listed(example):
    assert f"](../yaml_examples/{example.name})" in (ROOT / "docs/recipes.md").read_text()
    assert "docs/recipes.md" in (ROOT / "README.md").read_text()


def test_outputs_differ():
    outputs = [yaml.safe_load(example.read_text())["output_dir"] for example in EXAMPLES]
    assert len(set(outputs)) == len(outputs)


@pytest.mark.parametrize("key", ["no_such_key", "fsdp_config.no_such_key", "deepspeeed"])
def test_key_that_axolotl_drops_is_noticed(key, untaught):
    config = yaml.safe_load((ROOT / "yaml_examples/multi-gpu-fsdp.yaml").read_text()) | {"base_model": str(untaught)}
    *parent, last = key.split(".")
    (config[parent[0]] if parent else config)[last] = 1
    made = validate(config, 4)
    with pytest.raises(AssertionError, match=f"Axolotl does not know {key}"):
        assert_kept({key: value for key, value in config.items() if key not in ("arte", "datasets")}, made)


def test_what_axolotl_refuses_is_noticed(untaught):
    config = yaml.safe_load((ROOT / "yaml_examples/multi-gpu-fsdp.yaml").read_text()) | {"base_model": str(untaught)}
    with pytest.raises(ValueError, match="FSDP2 does not support load_in_8bit or load_in_4bit"):
        validate(config | {"adapter": "qlora", "load_in_4bit": True}, 4)


@pytest.mark.parametrize("name", ["paper-8x80gb", "multi-gpu-deepspeed", "multi-gpu-fsdp"])
def test_one_process_goes_on_from_a_sharded_training(name, untaught):
    """`arte align` on all GPUs, then `arte evaluate` in one process: both must speak of the same teacher."""
    example = ROOT / "yaml_examples" / f"{name}.yaml"
    config = yaml.safe_load(example.read_text()) | {"base_model": str(untaught)}
    number = gpus(example)
    assert switched_off(config)
    sharded = as_in_one_process(validate(config, number), number)
    whole = as_in_one_process(validate(config | switched_off(config), 1), 1)
    machine = ("capabilities", "env_capabilities")
    assert {k: v for k, v in sharded.items() if k not in machine} == {
        k: v for k, v in whole.items() if k not in machine
    }


def test_by_the_command(untaught, tiny_config, tmp_path):
    """It needs neither GPUs nor DeepSpeed for what runs in one process."""
    name = "multi-gpu-deepspeed"
    config = yaml.safe_load((ROOT / "yaml_examples" / f"{name}.yaml").read_text())
    # Any model will do to look at the keys and the data.
    config |= {"base_model": str(untaught), "output_dir": str(tmp_path / "out")}
    config["arte"]["student"]["base_model"] = str(untaught)
    # Its own tokens and data are on the Hub.
    config["arte"]["tasks"] = tiny_config["arte"]["tasks"]
    del config["special_tokens"]
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    done = arte("validate", str(path))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "is fine" in done.stdout
