"""What ARTE adds to the start of commands: `arte --help`, and Axolotl's commands with and without the plugin installed.

    python -m benchmarks.startup.run [--times 9] [--to results.json]

Commands that are compared take turns, each in a process of its own, so that a busy moment hits both. Medians are shown,
of seconds and of the processor's seconds.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent

#: Axolotl's command line, without our entry point where the first argument says so.
AXOLOTL = """
import sys
from axolotl.cli import plugins
found = plugins.entry_points
if sys.argv.pop(1) == "without":
    plugins.entry_points = lambda group: [one for one in found(group=group) if not one.value.startswith("arte_plugin")]
from axolotl.cli.main import main
main()
"""

#: Seconds of an import, once others are done.
IMPORT = """
import importlib, sys, time
for name in sys.argv[1].split(","):
    importlib.import_module(name)
started = time.perf_counter()
module = importlib.import_module(sys.argv[2])
getattr(module, sys.argv[3])
print(time.perf_counter() - started)
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, show and keep the medians."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--times", type=int, default=9)
    parser.add_argument("--to", type=Path, default=HERE / "results.json")
    options = parser.parse_args(arguments)
    commands = {
        "python -c pass": ["-c", "pass"],
        "arte --help": ["-m", "arte_plugin.cli", "--help"],
        **{
            f"axolotl {' '.join(command)}, {which} ARTE": ["-c", AXOLOTL, which, *command]
            for command in (["--help"], ["train", "--help"])
            for which in ("without", "with")
        },
    }
    imports = {
        "import arte_plugin, after axolotl.cli.main": ["axolotl.cli.main", "arte_plugin", "__version__"],
        "import arte_plugin.cli, after axolotl.cli.main": ["axolotl.cli.main", "arte_plugin.cli", "cli"],
        "arte_plugin.ArtePlugin, after what `axolotl train` imports": [
            "axolotl.train,axolotl.utils.config",
            "arte_plugin",
            "ArtePlugin",
        ],
    }
    seconds: dict[str, list[float]] = {name: [] for name in (*commands, *imports)}
    # Of the processor: does not grow when others use the machine.
    worked: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(options.times):
        for name, command in commands.items():
            started, before = time.perf_counter(), _children()
            _python(command)
            seconds[name].append(time.perf_counter() - started)
            worked[name].append(_children() - before)
        for name, names in imports.items():
            seconds[name].append(float(_python(["-c", IMPORT, *names]).splitlines()[-1]))
    medians = {name: round(median(some), 3) for name, some in seconds.items()}
    for name, value in medians.items():
        cpu = f"{median(worked[name]):8.3f} s" if name in worked else ""
        print(f"{value:8.3f} s {cpu:10}  {name}")
    found = {
        "times": options.times,
        "median seconds": medians,
        "median CPU seconds": {name: round(median(some), 3) for name, some in worked.items()},
    }
    options.to.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _python(arguments: Sequence[str]) -> str:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
