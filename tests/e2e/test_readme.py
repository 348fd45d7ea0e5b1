"""README's YAML works as it is printed: only the models and the data, which are not here, are put in its place."""

import json
import re
from typing import Any

import pytest
import yaml

from arte_plugin.training.teacher_recipe import missing
from tests.e2e.conftest import ROOT, arte
from tests.e2e.test_examples import as_a_user, assert_kept, validate

__all__ = ["as_a_user"]


@pytest.fixture
def printed() -> dict[str, Any]:
    """The YAML under "Use it"."""
    (block,) = re.findall(r"```yaml\n(base_model:.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return yaml.safe_load(block)


def with_local_models(config: dict[str, Any], model: Any, folder: Any) -> dict[str, Any]:
    """`config` with one model in the place of both, and files in the place of data from elsewhere."""
    config["base_model"] = config["arte"]["student"]["base_model"] = str(model)
    config["output_dir"] = str(folder / "out")
    for task in config["arte"]["tasks"]:
        target = "Yes" if task.get("preset") == "bbh/navigate" else "(A)"
        rows = [{"input": f"{task}, question {i}? (A) yes (B) no", "target": target} for i in range(250)]
        file = folder / f"{len(list(folder.iterdir()))}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        task["questions"] = task.get("questions", {}) | {"path": str(file)}
    return config


def test_arte_validate_takes_it(printed, untaught, tmp_path):
    path = tmp_path / "arte.yaml"
    path.write_text(yaml.safe_dump(with_local_models(printed, untaught, tmp_path)))
    done = arte("validate", str(path))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "is fine" in done.stdout
    (told,) = [line for line in done.stdout.splitlines() if "recipe" in line]
    assert "learning_rate: " in told and "lora_r: " in told and "gradient_accumulation_steps: 16" in told


def test_arte_plan_takes_it(printed, untaught, tmp_path):
    path = tmp_path / "arte.yaml"
    path.write_text(yaml.safe_dump(with_local_models(printed, untaught, tmp_path)))
    done = arte("plan", str(path))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "The teacher's training takes from its recipe what the YAML leaves out: " in done.stdout
    # Axolotl's precision where the YAML names none, on a GPU.
    assert "Students are planned with float32 weights." in done.stdout


def test_axolotls_schema_takes_it(printed, untaught, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    made = validate(printed | {"base_model": str(untaught)}, 1)
    beside = {key: value for key, value in printed.items() if key not in ("base_model", "arte", "datasets")}
    assert_kept(beside | missing(printed, 1), made)
    assert made["arte"]["recipe"] == missing(printed, 1)
