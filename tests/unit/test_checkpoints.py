"""Which checkpoint the teacher's training goes on from: one of its own inputs or none."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from arte_plugin.training import aligned_weights, checkpoints


@pytest.fixture
def run(tmp_path):
    (tmp_path / "out" / "arte").mkdir(parents=True)
    return SimpleNamespace(output_dir=tmp_path / "out", out=SimpleNamespace(path=tmp_path / "out" / "arte"))


def start(run, inputs_hash: str, **cfg) -> dict:
    checkpoints.resume(cfg, run.output_dir, run.out.path, inputs_hash)
    return cfg


def save(run, step: int, what: str) -> Path:
    folder = run.output_dir / f"checkpoint-{step}"
    folder.mkdir()
    (folder / "trainer_state.json").write_text(json.dumps({"what": what}))
    return folder


def test_a_checkpoint_of_another_config_is_never_gone_on_from(run):
    assert start(run, "A") == {}
    save(run, 36, "A")
    assert start(run, "B") == {}, "another config starts anew"
    # Killed before it saved anything.
    assert start(run, "B") == {}, "there is no checkpoint of B"
    own = save(run, 18, "B")
    assert start(run, "B") == {"resume_from_checkpoint": str(own)}, "whatever A's were numbered"
    assert start(run, "C", auto_resume_from_checkpoints=True) == {"auto_resume_from_checkpoints": False}
    assert start(run, "C") == {}


def test_pieces_of_another_config_are_no_weights_of_this_one(run):
    start(run, "A")
    pieces = save(run, 36, "A") / aligned_weights.PIECES
    pieces.mkdir()
    (pieces / ".metadata").touch()
    assert aligned_weights.are_there(run.output_dir, adapter=False)
    start(run, "B")
    assert not aligned_weights.are_there(run.output_dir, adapter=False)


def test_killed_while_they_are_put_aside_another_config_is_still_another(run, monkeypatch):
    start(run, "A")
    for step in (12, 24, 36):
        save(run, step, "A")
    rename, moved = Path.rename, []

    def dies(self, target):
        if moved:
            raise KeyboardInterrupt
        moved.append(self)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", dies)
    with pytest.raises(KeyboardInterrupt):
        start(run, "B")
    monkeypatch.undo()
    assert start(run, "B") == {}
    assert start(run, "B") == {}
    kept = sorted(path.name for path in run.out.path.rglob("checkpoint-*"))
    assert kept == ["checkpoint-12", "checkpoint-24", "checkpoint-36"], "put aside, not lost"


def test_only_the_last_config_s_are_kept(run):
    for config in "ABC":
        start(run, config)
        save(run, 1, config)
    start(run, "D")
    [kept] = run.out.path.rglob("trainer_state.json")
    assert json.loads(kept.read_text())["what"] == "C"


def test_half_a_checkpoint_of_another_config_is_put_aside_too(run):
    start(run, "A")
    (run.output_dir / "checkpoint-36").mkdir()
    start(run, "B")
    assert not (run.output_dir / "checkpoint-36").exists(), "B would save into what A had begun"


def test_the_checkpoint_that_the_config_names_is_taken_and_stays(run):
    start(run, "A")
    named, other = save(run, 12, "A"), save(run, 36, "A")
    assert start(run, "B", resume_from_checkpoint=str(named)) == {"resume_from_checkpoint": str(named)}
    assert named.is_dir() and not other.exists()


def test_another_rank_than_the_first_moves_nothing(run, monkeypatch):
    start(run, "A")
    save(run, 36, "A")
    monkeypatch.setattr(checkpoints.ranks, "is_first", lambda: False)
    assert start(run, "B", auto_resume_from_checkpoints=True) == {"auto_resume_from_checkpoints": False}
    assert (run.output_dir / "checkpoint-36").is_dir()
    assert json.loads((run.out.path / "align-started.json").read_text())["inputs_hash"] == "A"
