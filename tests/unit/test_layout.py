"""What the layout must never come to: circles of imports, light modules that need torch, modules that only grow."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median

import pytest

PACKAGE = Path(__file__).parents[2] / "arte_plugin"
LONGEST = 400
#: Half of the modules have no more lines than this.
MEDIAN = 150
#: What is read, shown and said needs none of these; the command line must not wait for them.
HEAVY = ("torch", "transformers", "axolotl", "trl", "peft", "accelerate", "datasets", "lm_eval")


def module_name(file: Path, root: Path) -> str:
    """The dotted name of a module of the package `root`; that of a package for its `__init__`."""
    parts = file.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(root: Path) -> dict[str, set[str]]:
    """For each module of the package `root`: the modules of the package that it imports, within functions too."""
    files = {module_name(file, root): file for file in root.rglob("*.py")}
    found: dict[str, set[str]] = {name: set() for name in files}
    for name, file in files.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names} & files.keys()
            elif isinstance(node, ast.ImportFrom) and node.module:
                named = {f"{node.module}.{alias.name}" for alias in node.names}
                # What is no module of its own is a name within `node.module`.
                found[name] |= named & files.keys()
                if named - files.keys() and node.module in files:
                    found[name].add(node.module)
        # `from arte_plugin import __version__` in a package's own modules.
        found[name].discard(name)
    return found


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """The modules of one circle, in the order of their imports; empty where there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(reversed(error.args[1]))
    return []


def test_no_circle_of_imports():
    assert circle(imports(PACKAGE)) == []


def test_a_circle_is_found_wherever_the_import_stands(tmp_path):
    package = tmp_path / "house"
    (package / "rooms").mkdir(parents=True)
    for name, text in {
        "__init__.py": "", "rooms/__init__.py": "", "door.py": "from house.rooms import kitchen, hall\n",
        "rooms/hall.py": "from house.rooms.kitchen import stove\n", "rooms/kitchen.py": "stove = 1\n",
    }.items():  # fmt: skip
        (package / name).write_text(text)
    assert imports(package)["house.door"] == {"house.rooms.kitchen", "house.rooms.hall"}
    assert circle(imports(package)) == []
    (package / "rooms/kitchen.py").write_text("stove = 1\ndef cook():\n    import house.door\n")
    found = circle(imports(package))
    assert found[0] == found[-1] and set(found) >= {"house.door", "house.rooms.kitchen"}


@pytest.mark.parametrize("name", ["rows", "errors", "language"])
def test_light_modules_need_nothing_heavy(name):
    within = sorted((PACKAGE / name).glob("*.py")) or [PACKAGE / f"{name}.py"]
    modules = [module_name(file, PACKAGE) for file in within]
    program = (
        f"import sys, importlib; [importlib.import_module(name) for name in {modules!r}]; "
        f"print(*sorted(set({HEAVY!r}) & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    assert done.stdout.split() == []


def test_modules_are_short():
    lines = {
        file.relative_to(PACKAGE).as_posix(): len(file.read_text(encoding="utf-8").splitlines())
        for file in PACKAGE.rglob("*.py")
    }
    assert {file: length for file, length in lines.items() if length > LONGEST} == {}
    assert median(filter(None, lines.values())) <= MEDIAN
