import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from arte_plugin.config import plugs  # noqa: F401  the blocks of all strategies
from arte_plugin.config.block import Block
from arte_plugin.config.check import blocks, check_config

ROOT = Path(__file__).parents[2]


#: Whoever makes a page is found by its name, by `make docs` too.
MAKERS = sorted([*(ROOT / "docs").glob("make_*.py"), *ROOT.glob("benchmarks/*/make_page.py")])


def module(maker):
    return ".".join(maker.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("maker", [*map(module, MAKERS)])
def test_page_is_up_to_date(maker):
    done = subprocess.run([sys.executable, "-m", maker, "--check"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_make_finds_all_makers():
    said = subprocess.run(["make", "-n", "docs"], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert len(MAKERS) > 10
    assert set(map(module, MAKERS)) <= set(re.split(r"[\s;]+", said))


def test_every_key_is_described():
    # Those that other tests make up are in no page.
    every = [block for block in blocks(Block) if block.__module__.startswith("arte_plugin.")]
    assert any(block.__module__.startswith("arte_plugin.planners.") for block in every)
    assert len(every) > 10
    for block in every:
        assert block.model_config["extra"] == "forbid"
        for name, field in block.model_fields.items():
            assert (field.description and field.description[0].isupper()) or field.description[0] == "`", (block, name)


def test_the_yaml_of_the_scaling_page_is_right():
    page = (ROOT / "docs/scaling.md").read_text(encoding="utf-8")
    fragments = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    assert len(fragments) >= 7
    task = {"name": "sums", "description": "Add.", "questions": {"path": "none.jsonl"}}
    datasets = [{"path": "arte://pairs", "type": "arte_plugin.preference_pairs"}]
    for fragment in fragments:
        assert set(fragment) == {"arte"}
        arte = {"student": {"base_model": "org/small"}, "tasks": [task], **fragment["arte"]}
        config = {"rl": "dpo", "plugins": ["arte_plugin.ArtePlugin"], "datasets": datasets, "adapter": "lora"}
        check_config({**config, "arte": arte})
