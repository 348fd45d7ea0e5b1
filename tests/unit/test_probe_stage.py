"""Stage 3 in a run folder, with a student that answers at once: the files that it leaves, by the signals named."""

from types import SimpleNamespace

import pytest

from arte_plugin.config.arte import ArteArgs
from arte_plugin.rows import PreferenceQuestion, Probe, Response, Score, read_rows, write_rows
from arte_plugin.run.folder import RunFolder
from arte_plugin.stages.probe import ProbeDrafts
from tests.unit.test_probe import TASK, AtOnce, made
from tests.unit.test_scoring import student

STAGE = ProbeDrafts()


@pytest.fixture
def run(tmp_path):
    """A run whose drafts and preference set are there."""
    out = RunFolder(tmp_path / "arte", 10.0)
    drafts, chosen = made(9, 5)
    write_rows(out.file("elicit", "drafts.jsonl"), drafts)
    write_rows(out.file("preference-set", "preference_set.jsonl"), chosen)

    def configured(**keys):
        task = {"name": "sums", "description": "Add.", "questions": {"path": "unread.jsonl"}, "answer": "number"}
        args = ArteArgs.model_validate({"student": {"base_model": "s"}, "tasks": [task], **keys})
        return SimpleNamespace(
            args=args, out=out, tasks=[TASK], cfg={}, cache=None, asking=lambda model: model.identity
        )

    return configured


def done(run, models) -> list[str]:
    """Do the stage, and name the files in its folder."""
    inputs = STAGE.inputs(run, models)
    run.out.stage("probe", inputs, lambda: STAGE.work(run, models), models)
    return sorted(path.name for path in STAGE.file(run, "scores.jsonl").parent.iterdir())


def test_each_choice_of_signals_leaves_its_own_files_and_asks_only_for_what_is_new(run, tmp_path):
    def again():
        return [student(tmp_path / "c.sqlite")]

    paper = ["probes.jsonl", "readable.md", "scores.jsonl"]
    models = again()
    assert done(run(), models) == paper and models[0].usage.asked == 25
    first = STAGE.file(run(), "scores.jsonl").read_bytes()
    models = again()
    mixed = run(signals=["answers", "agreement", {"frontier": {"samples": 2}}])
    assert done(mixed, models) == sorted(
        [*paper, "measures.jsonl", "questions.jsonl", "attempts.jsonl", "dropped.jsonl"]
    )
    # Nine questions, of which every other has its neighbour's text, twice.
    assert models[0].usage.asked == 2 * 5
    assert mixed.out.manifest.stages()["probe"].usage["asked"] == 10
    # No probe is made or left where nobody reads any: what pairing reads beside these scores is theirs.
    assert done(run(signals=["format_length"]), again()) == ["dropped.jsonl", "measures.jsonl", "scores.jsonl"]
    # Back to the paper's, to the byte, from the cache; what the others left is gone.
    models = again()
    assert done(run(), models) == paper and models[0].usage.asked == 0
    assert STAGE.file(run(), "scores.jsonl").read_bytes() == first


def test_rows_depend_on_signals_only_where_they_are_not_the_papers(run, tmp_path):
    models = [student(tmp_path / "c.sqlite")]

    def inputs(**keys):
        return STAGE.inputs(run(**keys), models)

    paper = inputs()
    assert set(paper) == {"students", "drafts", "preference_set", "max_new_tokens"}
    assert inputs(signals=["answers"]) == inputs(signals=[{"answers": {"weight": 3}}]) == paper
    for keys in ({"probe": {"score": "likelihood"}}, {"signals": ["likelihood"]}):
        # As it was before there were signals.
        assert inputs(**keys) == {**paper, "score": "likelihood"}
    mixed = inputs(signals=["answers", {"agreement": {"weight": 2}}])
    assert [one["name"] for one in mixed["signals"]] == ["answers", "agreement"]
    assert mixed["signals"][1] == {
        "name": "agreement", "version": 1, "settings": {"weight": 2.0, "against": "target"},
    }  # fmt: skip
    assert "responses" not in mixed
    answered = Response("s 0-shot", 0, "sums", "v1", "", "", "wrong")
    write_rows(run().out.file("preference-set", "responses.jsonl"), [answered])
    assert "responses" in inputs(signals=["ifd"]) and inputs() == paper


def test_the_same_rows_after_a_kill(run, tmp_path):
    signals = run(signals=["answers", "neighbours", {"frontier": {"samples": 2}}])
    names = ("probes.jsonl", "measures.jsonl", "questions.jsonl", "attempts.jsonl", "scores.jsonl")
    done(signals, [student(tmp_path / "c.sqlite")])
    rows = {name: STAGE.file(signals, name).read_bytes() for name in names}

    class Dies:
        """Answers some, then no more."""

        left = 11

        def generate(self, batch, keep=None):
            if Dies.left < len(batch):
                raise KeyboardInterrupt
            Dies.left -= len(batch)
            return AtOnce().generate(batch)

        def report(self):
            return ""

        def close(self):
            pass

    # The engine that stayed loaded is let go.
    signals.out.close()
    signals.out.manifest.forget("probe")
    for name in names:
        STAGE.file(signals, name).unlink()
    with pytest.raises(KeyboardInterrupt):
        done(signals, [student(tmp_path / "killed.sqlite", Dies())])
    again = student(tmp_path / "killed.sqlite")
    done(signals, [again])
    assert {name: STAGE.file(signals, name).read_bytes() for name in names} == rows
    assert 0 < again.usage.asked <= 25 + 10 - 9, "what had been answered is not asked again"
    scores = read_rows(STAGE.file(signals, "scores.jsonl"), Score)
    assert {row.signals for row in scores} == {"answers, neighbours"}
    assert len(read_rows(STAGE.file(signals, "probes.jsonl"), Probe)) == 45
    assert len(read_rows(signals.out.file("preference-set", "preference_set.jsonl"), PreferenceQuestion)) == 5
