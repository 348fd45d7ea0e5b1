"""Real commands on real models: how the e2e tests run `axolotl`, and the models that they run it on."""

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e import preloaded
from tests.taught import TASK, TAUGHT
from tests.tiny import tiny_model

ROOT = Path(__file__).parents[2]
OFFLINE = {"HF_HUB_OFFLINE": "1", "AXOLOTL_DO_NOT_TRACK": "1", "DO_NOT_TRACK": "1", "WANDB_MODE": "disabled"}
# For the process that commands are forked from too: much of it is read when modules are imported.
os.environ.update(OFFLINE)
#: A template for a real server with the OpenAI API, on the CPU.
SERVE = f"{Path(sys.executable).parent / 'transformers'} serve {{model}} --device cpu --dtype float32 --port {{port}}"
#: A few rows are mapped and saved where they are: a process that `datasets` starts for that begins with long imports.
FEW_ROWS = {"AXOLOTL_DATASET_NUM_PROC": "0"}


@pytest.fixture(scope="session")
def demo_models(tmp_path_factory) -> Path:
    """A folder with SmolLM2 as `student` and the demo teacher as `teacher`; `make test` has made one already."""
    if made := os.environ.get("ARTE_DEMO_MODELS"):
        return Path(made)
    folder = tmp_path_factory.mktemp("demo-models")
    arte("demo-models", str(folder), timeout=600).check_returncode()
    return folder


@pytest.fixture(scope="session")
def student_dir(demo_models) -> Path:
    return demo_models / "student"


@pytest.fixture(scope="session")
def taught() -> Path:
    return TAUGHT


@pytest.fixture(scope="session")
def untaught(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("untaught"))


@pytest.fixture(scope="session")
def tiny_config(taught) -> dict[str, Any]:
    """The whole loop on the taught tiny model, in seconds; `output_dir` is for the test to set."""
    return {
        "base_model": str(taught),
        "rl": "dpo",
        "datasets": [{"path": "arte://pairs", "type": "arte_plugin.preference_pairs"}],
        "plugins": ["arte_plugin.ArtePlugin"],
        "arte": {
            "student": {"base_model": str(taught), "sft": {"learning_rate": 1e-3, "micro_batch_size": 4}},
            "tasks": [
                {
                    "name": TASK,
                    "description": "Work out the value of a Boolean expression made of True, False, not, and, or and "
                    "brackets.",
                    "questions": {"path": str(ROOT / "yaml_examples/data/boolean_expressions.jsonl")},
                    "seed_questions": 8,
                    "validation_questions": 12,
                    "test_questions": 12,
                    "answer": "boolean",
                }
            ],
            "elicit": {"questions": 8, "max_new_tokens": 300},
            "preference_set": {"size": 6},
            "probe": {"max_new_tokens": 64},
            "pair": {"question_pairs": 4},
            "regenerate": {"questions": 8, "max_new_tokens": 300},
            "arms": ["arte"],
            # Three models more to be loaded: asked for by the tests that look at it.
            "align": {"check": False},
            "evaluate": {"max_new_tokens": 64},
        },
        "adapter": "lora",
        "lora_r": 4,
        "lora_alpha": 8,
        "lora_target_linear": True,
        "learning_rate": 1e-3,
        "num_epochs": 1,
        "micro_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "sequence_len": 1024,
        "bf16": False,
        "fp16": False,
        "attn_implementation": "sdpa",
        "logging_steps": 1,
        "save_strategy": "no",
    }


@pytest.fixture
def write_config(tiny_config, tmp_path):
    """Write the tiny config with changes, `{"arte.elicit.questions": 3}`, to a file; None takes a key out."""

    def write(changes: dict[str, Any] | None = None, name: str = "arte", base: dict[str, Any] | None = None) -> Path:
        changes = {"output_dir": str(tmp_path / name), **(changes or {})}
        return write_changed(base or tiny_config, changes, tmp_path / f"{name}.yaml")

    return write


def write_changed(base: dict[str, Any], changes: dict[str, Any], path: Path) -> Path:
    """Write `base` with `changes`, `{"arte.elicit.questions": 3}`, to `path`; None takes a key out."""
    config = copy.deepcopy(base)
    for key, value in changes.items():
        *parents, last = key.split(".")
        block = config
        for parent in parents:
            block = block[int(parent)] if isinstance(block, list) else block.setdefault(parent, {})
        if value is None:
            block.pop(last, None)
        else:
            block[last] = value
    path.write_text(yaml.safe_dump(config))
    return path


def axolotl(*arguments: str, timeout: float = 600, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `axolotl ARGUMENTS`, and wait for it; see `preloaded`."""
    return preloaded.run("axolotl", arguments, timeout, _env(FEW_ROWS | env), ROOT)


def arte(*arguments: str, timeout: float = 300, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `arte ARGUMENTS`, and wait for it; see `preloaded`."""
    return preloaded.run("arte", arguments, timeout, _env(FEW_ROWS | env), ROOT)


def command(
    program: str, *arguments: str, timeout: float = 600, together: bool = False, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run the command itself, all as a user would have it, and wait for it.

    `together`: standard error comes in `stdout`, in the order in which a terminal would show the two.
    """
    errors = subprocess.STDOUT if together else subprocess.PIPE
    words, settings = _script(program, arguments), _env(env)
    return subprocess.run(
        words, stdout=subprocess.PIPE, stderr=errors, text=True, timeout=timeout, env=settings, cwd=ROOT
    )


def start(program: str, *arguments: str, log: Path, **env: str) -> subprocess.Popen[bytes]:
    """Start the command itself and don't wait; its output goes to `log`."""
    with log.open("wb") as output:
        return subprocess.Popen(
            _script(program, arguments), stdout=output, stderr=output, env=_env(FEW_ROWS | env), cwd=ROOT
        )


def _script(program: str, arguments: tuple[str, ...]) -> list[str]:
    return [str(Path(sys.executable).parent / program), *arguments]


def _env(env: dict[str, str]) -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    # A terminal in which no sentence that a test looks for is wrapped.
    return {**os.environ, "PATH": path, "COLUMNS": "600", **env}
