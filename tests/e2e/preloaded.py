"""Commands without their start, which takes longer than most of what the tests look at.

A process that has imported Axolotl forks itself for each command. The function is the one that the console script
calls; arguments, environment, output and exit code are the command's own. Processes that it starts, such as a student's
training, are as always. What is about the start, the launcher or being killed goes through the console scripts.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from importlib.metadata import entry_points
from pathlib import Path

#: Most of what `axolotl train` comes to import. What is missing here is imported by the command.
MODULES = [
    "axolotl.cli.main",
    "axolotl.cli.preprocess",
    "axolotl.cli.train",
    "arte_plugin.loop.loop",
    "arte_plugin.plugin",
]


def run(program: str, arguments: tuple[str, ...], timeout: float, env: dict[str, str], folder: Path):
    """Run `program ARGUMENTS` in `folder` with `env` and nothing else in its environment, and wait for it."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(MODULES)
    with tempfile.TemporaryDirectory() as logs:
        output, errors = (Path(logs) / name for name in ("stdout", "stderr"))
        process = context.Process(target=_main, args=(program, arguments, env, folder, output, errors))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired([program, *arguments], timeout, output.read_bytes(), errors.read_bytes())
        return subprocess.CompletedProcess(
            [program, *arguments], process.exitcode, output.read_text(), errors.read_text()
        )


def _main(program: str, arguments: tuple[str, ...], env: dict[str, str], folder: Path, output: Path, errors: Path):
    for path, number in ((Path(os.devnull), 0), (output, 1), (errors, 2)):
        with path.open("rb" if number == 0 else "wb") as file:
            os.dup2(file.fileno(), number)
    # That of a command, not the one that this process was made by.
    multiprocessing.set_start_method(None, force=True)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(folder)
    sys.argv = [program, *arguments]
    (script,) = entry_points(group="console_scripts", name=program)
    sys.exit(script.load()())
