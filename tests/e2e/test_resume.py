"""`kill -9` at four moments, and several ranks: the rows are the same to the last byte.

All with probes in rounds, where what is asked next hangs on what was answered.
"""

import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from arte_plugin.manifest import Manifest
from arte_plugin.rows import Draft, Probe, Score, read_rows
from tests.e2e.conftest import arte, axolotl, start

ROWS = ["01-elicit/drafts.jsonl", "03-probe/probes.jsonl", "03-probe/scores.jsonl", "04-pair/pairs.jsonl"]
RACING = {"arte.probe.budget": "racing", "arte.probe.racing": {"first": 2, "step": 2, "share": 0.6}}
#: Longer training, so that there is time to kill it, with a checkpoint a step.
SLOW = {
    **RACING,
    "save_strategy": "steps",
    "save_steps": 1,
    "num_epochs": 6,
    "arte.student.sft.num_epochs": 8,
    "arte.student.sft.save_steps": 2,
}


@pytest.fixture(scope="module")
def uninterrupted(tiny_config, tmp_path_factory) -> Path:
    import copy

    import yaml

    place = tmp_path_factory.mktemp("uninterrupted")
    config = copy.deepcopy(tiny_config)
    config["output_dir"] = str(place / "out")
    config["arte"]["probe"] |= {key.rpartition(".")[2]: value for key, value in RACING.items()}
    (place / "arte.yaml").write_text(yaml.safe_dump(config))
    done = arte("pair", str(place / "arte.yaml"))
    assert done.returncode == 0, done.stderr[-3000:]
    _saved_two_fifths(place / "out" / "arte")
    return place / "out" / "arte"


def answered(folder: Path) -> int:
    if not (folder / "requests.sqlite").is_file():
        return 0
    try:
        return sqlite3.connect(folder / "requests.sqlite").execute("SELECT COUNT(*) FROM completions").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def test_killed_at_every_stage_goes_on_and_makes_the_same_rows(uninterrupted, write_config, tmp_path):
    config = write_config(SLOW)
    folder = tmp_path / "arte" / "arte"
    moments = {
        "elicit": lambda: answered(folder) >= 4,
        "probe": lambda: (folder / "02-preference-set/irt.json").is_file() and answered(folder) > requests_before_probe,
        "align": lambda: any((tmp_path / "arte").glob("checkpoint-*/trainer_state.json")),
        "sft": lambda: any((folder / "07-sft/student").glob("checkpoint-*/trainer_state.json")),
    }
    stages = Manifest(uninterrupted / "manifest.json").stages()
    requests_before_probe = int(stages["elicit"].usage["requests"] + stages["preference-set"].usage["requests"]) + 12
    answers_before = 0
    for number, (stage, reached) in enumerate(moments.items()):
        process = start("axolotl", "train", str(config), "--launcher", "python", log=tmp_path / f"{number}.log")
        _kill_when(process, reached, tmp_path / f"{number}.log")
        done = Manifest(folder / "manifest.json").stages()
        assert stage not in done, f"killed too late: {stage} had finished"
        assert answered(folder) >= answers_before, "answers were lost"
        answers_before = answered(folder)
    done = axolotl("train", str(config), "--launcher", "python")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "the teacher's training goes on from" in (tmp_path / "3.log").read_text() + done.stdout + done.stderr
    for name in ROWS:
        assert (folder / name).read_bytes() == (uninterrupted / name).read_bytes(), name
    # No request was asked twice: as many answers as an uninterrupted run's stages had distinct requests.
    assert Manifest(folder / "manifest.json").stages()["probe"].usage["asked"] < stages["probe"].usage["asked"]


def test_two_ranks_share_the_requests_and_make_the_same_rows(uninterrupted, write_config, tmp_path):
    config = write_config(RACING)
    ranks = [
        start(
            "arte",
            "pair",
            str(config),
            log=tmp_path / f"rank{rank}.log",
            RANK=str(rank),
            WORLD_SIZE="2",
            LOCAL_RANK="0",
        )
        for rank in range(2)
    ]
    assert [process.wait(timeout=300) for process in ranks] == [0, 0], (tmp_path / "rank1.log").read_text()[-3000:]
    folder = tmp_path / "arte" / "arte"
    for name in ROWS:
        assert (folder / name).read_bytes() == (uninterrupted / name).read_bytes(), name
    usage = Manifest(folder / "manifest.json").stages()["probe"].usage
    assert 0 < usage["asked"] < usage["requests"], "rank 0 answered everything itself"
    assert "stage  " not in (tmp_path / "rank1.log").read_text()


def _saved_two_fifths(folder: Path) -> None:
    (probes, scores) = Manifest(folder / "manifest.json").stages()["probe"].counts
    drafts = read_rows(folder / "01-elicit/drafts.jsonl", Draft)
    made = read_rows(folder / "03-probe/probes.jsonl", Probe)
    assert probes.made == len(drafts) * 6 and scores.kept == len(drafts)
    assert probes.kept == len(made) == probes.made - probes.dropped["saved"] == int(0.6 * probes.made)
    asked = [score.n for score in read_rows(folder / "03-probe/scores.jsonl", Score)]
    assert sum(asked) == len(made) and min(asked) == 2 and max(asked) > 2


def _kill_when(process, reached, log: Path) -> None:
    until = time.monotonic() + 300
    while not reached():
        assert process.poll() is None, f"ended before it could be killed:\n{log.read_text()[-3000:]}"
        assert time.monotonic() < until, "the moment to kill never came"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
