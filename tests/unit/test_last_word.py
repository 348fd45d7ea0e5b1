"""What is on the screen last, by real processes: exit functions are heard, what comes behind them is not."""

import subprocess
import sys
from pathlib import Path

import pytest

#: Prints from C on standard error behind everything that Python does at its end, as nanobind does.
NOISE = "import atexit, ctypes, sys; c = ctypes.CDLL(None); ctypes.pythonapi.Py_AtExit(c.malloc_stats); "
RANK = """
from arte_plugin.errors import StageError, shown_errors
with shown_errors():
    raise StageError("no space left.\\nMake some.")
"""
#: What `accelerate launch` and `torchrun` do: start ranks, and end in a traceback when one has failed.
LAUNCHER = """
import subprocess, sys
ranks = [subprocess.Popen([sys.executable, "-c", sys.argv[2]]) for _ in range(int(sys.argv[3]))]
if any([rank.wait() for rank in ranks]):
    raise RuntimeError("a rank has failed")
"""


def output(*command: str) -> tuple[str, int]:
    """Both streams as on a terminal, and the exit code."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    return done.stdout, done.returncode


def launched(folder: Path, name: str, ranks: int, program: str = RANK) -> tuple[str, int]:
    folder.mkdir()
    (folder / name).write_text(LAUNCHER)
    return output(sys.executable, str(folder / name), "launch", program, str(ranks))


def test_exit_functions_are_heard_and_what_comes_behind_them_is_not():
    goes_on = "atexit.register(print, 'saved', file=sys.stderr); print('table', flush=True); "
    said = "from arte_plugin import last_word; last_word.is_said(); last_word.is_said(); "
    noisy, code = output(sys.executable, "-c", NOISE + goes_on + "sys.exit(3)")
    assert code == 3 and noisy.startswith("table\nsaved\n") and "in use bytes" in noisy
    assert output(sys.executable, "-c", NOISE + said + goes_on + "sys.exit(3)") == ("table\nsaved\n", 3)


def test_a_shown_error_is_the_last_thing():
    assert output(sys.executable, "-c", NOISE + RANK) == ("\narte: no space left.\nMake some.\n", 1)


@pytest.mark.parametrize(("name", "ranks"), [("accelerate", 1), ("torchrun", 3)])
def test_the_error_is_said_once_more_below_the_launchers_traceback(tmp_path, name, ranks):
    shown, code = launched(tmp_path / "bin", name, ranks)
    assert code == 1
    _, behind = shown.split("RuntimeError: a rank has failed\n")
    assert behind == "\narte: no space left.\nMake some.\n"
    assert shown.count("arte: no space left.") == ranks + 1


def test_what_is_no_launcher_is_not_waited_for(tmp_path):
    shown, code = launched(tmp_path / "bin", "nohup", 1)
    assert code == 1 and shown.endswith("RuntimeError: a rank has failed\n")


def test_a_run_that_ends_well_under_a_launcher_says_nothing_twice(tmp_path):
    program = "from arte_plugin import last_word; print('table'); last_word.is_said()"
    assert launched(tmp_path / "bin", "accelerate", 1, program) == ("table\n", 0)
