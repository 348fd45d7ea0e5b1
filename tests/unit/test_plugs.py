"""Strategies as the YAML names them."""

import pytest

from arte_plugin.config import plugs
from arte_plugin.config.block import Block
from arte_plugin.plugs import NoSettings


class Length:
    """A signal of a user's own."""

    of = "draft"
    version = 3
    costs = "nothing"

    class Settings(Block):
        weight: float = 1.0

    def __init__(self, settings):
        self.settings = settings

    def calls(self, sizes):
        return ()

    def measure(self, task, drafts, preference_set, evidence, asking):
        yield from ()


class Mute:
    of = "draft"
    version = 1
    Settings = NoSettings


@pytest.fixture(autouse=True)
def _known(monkeypatch):
    monkeypatch.setitem(plugs.POINTS, "signals", ({"length": Length}, plugs.POINTS["signals"][1]))


def test_a_name_and_its_settings():
    assert plugs.chosen("signals", "length").settings.weight == 1.0
    found = plugs.chosen("signals", {"length": {"weight": 0.5}})
    assert found.made().settings.weight == 0.5
    assert found.identity == {"name": "length", "version": 3, "settings": {"weight": 0.5}}


def test_a_users_own_by_its_import_path():
    assert plugs.chosen("signals", {f"{__name__}:Length": {"weight": 2}}).made().settings.weight == 2


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("lenght", "there is no signal `lenght`: did you mean `length`?"),
        ({"length": {"wait": 1}}, "`length.wait`: there is no such key; did you mean `weight`? known are weight"),
        ({"length": {"weight": "heavy"}}, "`length.weight`: Input should be a valid number"),
        ({"length": {}, "other": {}}, "a signal is its name, or"),
        (7, "a signal is its name, or"),
        ("no.such.module:Length", "can't import the signal `no.such.module:Length`: No module named 'no'"),
        (f"{__name__}:Missing", "can't import the signal"),
        (f"{__name__}:Mute", "is no signal: it has no calls, costs, measure (docs/extending.md)"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(entry, said):
    with pytest.raises(ValueError) as error:
        plugs.chosen("signals", entry)
    assert said in str(error.value)


def test_all_of_ours_are_what_the_contract_asks_for():
    """`_imported` looks at a user's own; ours are told apart by mypy, which knows nothing of docstrings."""
    for point, (known, protocol) in plugs.POINTS.items():
        for name, kind in known.items():
            assert not plugs._members(protocol) - set(dir(kind)), (point, name)
            assert kind.__doc__ and kind.__doc__.splitlines()[0].endswith("."), (point, name)
            assert isinstance(kind.costs, str) and kind.costs, (point, name)


def test_none_stands_there_twice():
    with pytest.raises(ValueError, match="`length` stands there twice"):
        plugs.chosen_all("signals", ["length", {"length": {}}])
    assert len(plugs.chosen_all("signals", ["length", {"length": {"weight": 2}}])) == 2
