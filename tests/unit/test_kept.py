"""What is loaded for a stage stays for the next one that asks the same model, and for nothing else."""

import logging
import sys
from collections.abc import Sequence

import pytest

from arte_plugin.config.engines import ServerEngineArgs
from arte_plugin.engines.base import Completion, Request
from arte_plugin.engines.dialects import Writer
from arte_plugin.engines.own_server import OwnServer
from arte_plugin.engines.server import ServerEngine
from arte_plugin.models.model import Model
from arte_plugin.models.request_cache import RequestCache
from arte_plugin.run.folder import RunFolder
from arte_plugin.run.manifest import Count
from arte_plugin.run.run import Run
from arte_plugin.stages import benchmarks, evaluate
from tests.plain import PlainRenderer
from tests.unit.test_memory import MB, device  # noqa: F401
from tests.unit.test_own_server import SERVER, alive
from tests.unit.test_run_rendering import config, dated  # noqa: F401


class Engine:
    """Answers with its number: the how manieth was loaded. `World.gpus` are told of the memory that it takes."""

    def __init__(self, world: "World"):
        self.world = world
        world.loaded += 1
        self.number = world.loaded
        world.alive += 1
        assert world.alive == 1, "two at a time"
        if world.gpus:
            world.gpus.take(0, 300 * MB)

    def generate(self, batch: Sequence[Request], keep=None) -> list[Completion]:
        return [Completion(str(self.number), "stop", 1, 1) for _ in batch]

    def report(self) -> str:
        return ""

    def describe(self):
        return {"number": self.number}

    def close(self) -> None:
        self.world.alive -= 1
        if self.world.gpus:
            self.world.gpus.take(0, -300 * MB + self.world.leaks)


class World:
    def __init__(self, path, gpus=None, leaks=0):
        self.folder, self.cache = RunFolder(path, 10.0), RequestCache(path / "requests.sqlite")
        self.gpus, self.leaks = gpus, leaks
        self.loaded = self.alive = 0

    def model(self, name: str, **identity) -> Model:
        return Model(
            name, {"model": name, **identity}, PlainRenderer(), lambda: Engine(self), self.cache, 4, 10.0
        )  # fmt: skip

    def ask(self, stage: str, *models: Model, fails: bool = False, closes: bool = False) -> list[str]:
        """Run a stage that asks each of `models` once; what they said."""
        said: list[str] = []

        def work():
            for model in models:
                [answer] = model.ask([Request(f"{stage}?", "g", 8, 0.0, 0)], stage)
                said.append(answer.text)
                if closes:
                    model.close()
            if fails:
                raise RuntimeError("amid the stage")
            return {}, [Count("rows", 1, 1)], {}

        self.folder.stage(stage, {"models": [dict(one.identity) for one in models]}, work, models)
        return said


def warnings(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.mark.parametrize("closes", [False, True])
def test_a_model_that_the_next_stage_asks_stays(world, closes):
    assert world.ask("preference-set", world.model("s"), closes=closes) == ["1"]
    assert world.alive == 1
    # Another object, as each stage makes its own.
    assert world.ask("probe", world.model("s"), closes=closes) == ["1"]
    assert world.loaded == 1
    assert world.folder.manifest.stages()["probe"].loaded == {"s": {"number": 1}}
    world.folder.close()
    assert world.alive == 0


def test_it_is_gone_before_a_stage_that_asks_another_or_none(world):
    world.ask("elicit", world.model("t"))
    assert world.ask("preference-set", world.model("s")) == ["2"]
    seen: list[int] = []

    def work():
        seen.append(world.alive)
        return {}, [], {}

    world.folder.stage("pair", {}, work)
    assert seen == [0]


def test_another_precision_is_another_model(world):
    world.ask("preference-set", world.model("s", dtype="float32"))
    assert world.ask("probe", world.model("s", dtype="bfloat16")) == ["2"]


def test_of_several_models_one_stays_and_none_is_there_beside_another(world):
    a, b = world.model("a"), world.model("b")
    assert world.ask("preference-set", a, b, closes=True) == ["1", "2"]
    assert world.alive == 1
    assert world.ask("probe", world.model("b"), world.model("a"), closes=True) == ["2", "3"]


def test_a_stage_that_is_done_already_ends_nothing(world):
    pair = ("pair", {}, lambda: ({}, [], {}))
    world.folder.stage(*pair)
    world.ask("preference-set", world.model("s"))
    world.folder.stage(*pair)
    assert world.ask("probe", world.model("s")) == ["1"]


def test_it_is_gone_before_the_benchmarks_where_the_evaluation_is_done_already(world, config, monkeypatch):  # noqa: F811
    """Stage 6 is made anew, comes to the same rows, and has kept the teacher: students would be loaded beside it."""
    run, seen = Run(config(), starts=False), []
    run.out = world.folder
    monkeypatch.setattr(evaluate, "candidates", lambda run: [])
    monkeypatch.setattr(evaluate, "enter_trainings", lambda *arguments: None)
    monkeypatch.setattr(benchmarks, "run_benchmarks", lambda *arguments: seen.append(world.alive))
    monkeypatch.setattr(world.folder.manifest, "finished", lambda name, inputs: name == "evaluate")
    monkeypatch.setattr(world.folder.manifest, "stages", lambda: {"evaluate": None})
    world.folder._kept.put("teacher", Engine(world))
    evaluate.Evaluate().do(run)
    assert seen == [0]


def test_nothing_stays_after_an_error(world):
    with pytest.raises(RuntimeError, match="amid the stage"):
        world.ask("probe", world.model("s"), fails=True)
    assert world.alive == 0


def test_outside_of_a_stage_nothing_stays(world):
    model = world.model("s")
    model.ask([Request("?", "g", 8, 0.0, 0)], "ask")
    model.close()
    assert world.alive == 0


def test_memory_is_compared_once_the_model_is_gone(tmp_path, device, caplog):  # noqa: F811
    world = World(tmp_path, device)
    before = 2 * device.now[0]
    world.ask("preference-set", world.model("s"))
    world.ask("probe", world.model("s"))
    memory = {name: record.memory for name, record in world.folder.manifest.stages().items()}
    assert memory["preference-set"]["allocated"] == device.now[0] and "after" not in memory["preference-set"]
    world.ask("pair")
    stages = world.folder.manifest.stages()
    assert (stages["probe"].memory["before"], stages["probe"].memory["after"]) == (before, before)
    counted = stages["probe"].memory
    assert counted["device_before"] == counted["device_after"] == before + sum(device.beside)
    assert not {"device_before", "device_after"} & memory["preference-set"].keys()
    assert not warnings(caplog)


def test_what_a_model_that_stayed_leaves_behind_is_told(tmp_path, device, caplog):  # noqa: F811
    world = World(tmp_path, device, leaks=150 * MB)
    world.ask("preference-set", world.model("s"))
    world.ask("probe", world.model("s"))
    assert not warnings(caplog)
    world.folder.close()
    [said] = warnings(caplog)
    assert said.startswith("probe has not given back 300 MB")


def test_a_server_is_started_once_for_two_stages_and_ended_before_the_third(tmp_path, monkeypatch):
    script, once = tmp_path / "server.py", tmp_path / "once"
    script.write_text(SERVER)
    once.touch()
    world = World(tmp_path)
    settings = ServerEngineArgs.model_validate(
        {"kind": "server", "api": "vllm", "student": {"command": "x {model} {port}"}}
    )

    def served() -> Model:
        def load():
            variables = {"model": "m", "last": str(once)}
            own = OwnServer("s", f"{sys.executable} {script} {{port}} {{model}} {{last}}", variables, log, 20.0)
            return ServerEngine(Writer("vllm", PlainRenderer(), "m"), settings, own=[own])

        return Model("s", {"model": "m"}, PlainRenderer(), load, world.cache, 4, 10.0, served=True)

    log = tmp_path / "server.log"
    monkeypatch.setattr(Writer, "body", lambda self, request: {"prompt": request.prompt})
    try:
        world.ask("preference-set", served())
        [one] = OwnServer._running
        pid = one._process.pid
        world.ask("probe", served())
        assert log.read_text().count("\n$ ") == 1
        assert alive(pid)
        world.ask("pair")
        assert not alive(pid) and OwnServer._running == []
    finally:
        OwnServer.end(list(OwnServer._running))
