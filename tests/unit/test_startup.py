"""What is not imported before it is needed."""

import subprocess
import sys

import pytest

HEAVY = ("axolotl", "datasets", "httpx", "lm_eval", "numpy", "pydantic", "scipy", "torch", "transformers", "trl")


@pytest.mark.parametrize(
    "code",
    [
        "import arte_plugin; arte_plugin.__version__",
        "from arte_plugin.cli import cli; cli(['--help'], standalone_mode=False)",
        "from arte_plugin.cli import cli; cli(['probe', '--help'], standalone_mode=False)",
    ],
)
def test_help_waits_for_nothing_heavy(code):
    look = f"import sys; print('loaded:', *(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{look}"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].split() == ["loaded:"]
