"""`make test-matrix`: both rows are run whatever becomes of the first, each in its own place, and told at the end."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = {
    "3.11": "Python 3.11 with axolotl==0.19.0 torch==2.13.0",
    "3.12": "Python 3.12 with axolotl==0.21.0",
}


def script(file: Path, lines: str) -> Path:
    file.write_text(f"#!/bin/sh\n{lines}\n")
    file.chmod(0o755)
    return file


@pytest.fixture
def matrix(tmp_path):
    """Run it with Pythons that say they are `versions`, and a `make test` that fails for the version `failing`."""

    def run(versions=("3.11", "3.12"), failing="none"):
        pythons = [script(tmp_path / f"python{i}", f"echo {version}") for i, version in enumerate(versions)]
        fake = script(tmp_path / "make", f'echo "$@" >> {tmp_path}/calls\ncase "$*" in *-{failing}*) exit 2;; esac')
        words = [f"MAKE={fake}", f"PYTHON311={pythons[0]}", f"PYTHON312={pythons[1]}"]
        # Under `make test` a make is a sub-make, and says which directory it enters and leaves: behind our table.
        env = {name: value for name, value in os.environ.items() if name not in ("MAKELEVEL", "MAKEFLAGS", "MFLAGS")}
        done = subprocess.run(["make", "test-matrix", *words], cwd=ROOT, env=env, capture_output=True, text=True)
        calls = (tmp_path / "calls").read_text().splitlines() if (tmp_path / "calls").exists() else []
        return done.returncode, done.stdout.splitlines(), calls

    return run


def test_each_row_has_its_own_environment_and_models(matrix):
    code, said, calls = matrix()
    assert code == 0
    assert said[-3:] == ["test-matrix", *(f"  {name}: passed (0 min)" for name in ROWS.values())]
    for version, call in zip(ROWS, calls, strict=True):
        assert f"VENV=.venv-{version} MODELS=.venv-{version}/models" in call
    assert "TORCH=axolotl==0.19.0 torch==2.13.0" in calls[0] and "TORCH=axolotl==0.21.0" in calls[1]


@pytest.mark.parametrize("failing", ROWS)
def test_one_that_fails_is_named_and_the_other_is_run(matrix, failing):
    code, said, calls = matrix(failing=failing)
    assert code != 0 and len(calls) == 2
    for version, name in ROWS.items():
        assert f"  {name}: {'FAILED' if version == failing else 'passed'} (0 min)" in said


def test_a_python_that_is_not_there_is_asked_for(matrix):
    code, said, calls = matrix(versions=("3.11", "3.10"))
    assert code != 0 and len(calls) == 1
    (row,) = [line for line in said if line.startswith(f"  {ROWS['3.12']}: NOT RUN")]
    assert "is no Python 3.12. Name one: make test-matrix PYTHON312=" in row
