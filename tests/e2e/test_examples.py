"""Every YAML in `yaml_examples/` is one that the installed Axolotl takes."""

import pytest
import yaml

from tests.e2e.conftest import ROOT, arte

EXAMPLES = sorted((ROOT / "yaml_examples").glob("*.yaml"))


def test_there_are_examples():
    assert EXAMPLES


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_valid(example, taught, tmp_path):
    text = example.read_text()
    assert text.startswith("# Hardware: ")
    config = yaml.safe_load(text)
    # Any model will do to look at the keys.
    config |= {"base_model": str(taught), "output_dir": str(tmp_path / "out")}
    config["arte"]["student"]["base_model"] = str(taught)
    path = tmp_path / example.name
    path.write_text(yaml.safe_dump(config))
    done = arte("validate", str(path))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "is fine" in done.stdout
