import subprocess
import sys
from pathlib import Path

import pytest

from arte_plugin.block import Block
from arte_plugin.config_check import blocks

ROOT = Path(__file__).parents[2]


PAGES = ("configuration", "presets", "answers", "performance", "fewer_calls")


@pytest.mark.parametrize("name", [f"make_{page}.py" for page in PAGES])
def test_page_is_up_to_date(name):
    script = ROOT / "docs" / name
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_key_is_described():
    every = list(blocks(Block))
    assert len(every) > 10
    for block in every:
        assert block.model_config["extra"] == "forbid"
        for name, field in block.model_fields.items():
            assert (field.description and field.description[0].isupper()) or field.description[0] == "`", (block, name)
