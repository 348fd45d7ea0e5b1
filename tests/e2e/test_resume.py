"""`kill -9` at four moments, and several ranks: the rows are the same to the last byte."""

import math
import os
import shutil
import signal
import sqlite3
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from arte_plugin.rows import Draft, Probe, Score, read_rows
from arte_plugin.run.manifest import Manifest
from tests.e2e.conftest import arte, axolotl, start, write_changed

ROWS = ["01-elicit/drafts.jsonl", "03-probe/probes.jsonl", "03-probe/scores.jsonl", "04-pair/pairs.jsonl"]
#: Stored in small parts, so that there is something to lose and something to share.
PARTS = {"arte.elicit.batch_size": 4, "arte.probe.batch_size": 24}
#: Longer training, so that there is time to kill it, with a checkpoint a step.
SLOW = {
    "save_strategy": "steps",
    "save_steps": 1,
    "num_epochs": 4,
    "arte.student.sft.num_epochs": 6,
    "arte.student.sft.save_steps": 2,
}


@pytest.fixture(scope="module")
def uninterrupted(tiny_config, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("uninterrupted")
    config = write_changed(tiny_config, {"output_dir": str(place / "out"), **PARTS}, place / "arte.yaml")
    done = arte("pair", str(config))
    assert done.returncode == 0, done.stderr[-3000:]
    return place / "out" / "arte"


def answered(folder: Path) -> int:
    if not (folder / "requests.sqlite").is_file():
        return 0
    try:
        return sqlite3.connect(folder / "requests.sqlite").execute("SELECT COUNT(*) FROM completions").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def test_killed_at_every_stage_goes_on_and_makes_the_same_rows(uninterrupted, write_config, tmp_path):
    config = write_config({**PARTS, **SLOW})
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


def test_two_ranks_share_the_requests_make_the_same_rows_and_train_together(uninterrupted, write_config, tmp_path):
    logs = tmp_path / "logs"
    config = write_config({**PARTS, "micro_batch_size": 1})
    options = ["--standalone", "--nproc-per-node", "2", "--log-dir", str(logs), "--redirects", "3"]
    log = tmp_path / "torchrun.log"
    run = start("torchrun", *options, "-m", "axolotl.cli.train", str(config), log=log, ARTE_UNTIL="align")
    assert run.wait(timeout=300) == 0, log.read_text()[-3000:]
    folder = tmp_path / "arte" / "arte"
    for name in ROWS:
        assert (folder / name).read_bytes() == (uninterrupted / name).read_bytes(), name
    usage = Manifest(folder / "manifest.json").stages()["probe"].usage
    assert 0 < usage["asked"] < usage["requests"], "rank 0 answered everything itself"
    told = [next(logs.rglob(f"{rank}/stdout.log")).read_text() for rank in range(2)]
    assert ["stage  " in text for text in told] == [True, False]
    pairs = Manifest(folder / "manifest.json").stages()["align"].counts[0]
    # Data parallel: two pairs a step.
    assert f"{math.ceil(pairs.kept / 2)} steps, loss" in pairs.note
    weights = load_file(folder.parent / "adapter_model.safetensors")
    assert any(value.abs().max() > 0 for name, value in weights.items() if "lora_B" in name)


def test_racing_over_a_finished_run_takes_its_probes_from_there(uninterrupted, write_config, tmp_path):
    shutil.copytree(uninterrupted, tmp_path / "arte" / "arte")
    folder = tmp_path / "arte" / "arte"
    changes = {"arte.probe.budget": "racing", "arte.probe.racing": {"first": 2, "step": 2, "share": 0.6}}
    done = arte("probe", str(write_config(changes)))
    assert done.returncode == 0, done.stderr[-3000:]
    stage = Manifest(folder / "manifest.json").stages()["probe"]
    assert stage.usage["asked"] == 0
    (probes, scores) = stage.counts
    drafts = read_rows(folder / "01-elicit/drafts.jsonl", Draft)
    made, all_made = (read_rows(place / "03-probe/probes.jsonl", Probe) for place in (folder, uninterrupted))
    assert probes.made == len(drafts) * 6 == len(all_made) and scores.kept == len(drafts)
    assert probes.kept == len(made) == probes.made - probes.dropped["saved"] == int(0.6 * probes.made)
    assert made == [row for row in all_made if row in set(made)], "some of the same rows, in the same order"
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
