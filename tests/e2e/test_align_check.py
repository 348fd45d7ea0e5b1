"""The check behind stage 5, on a teacher that did not move and on one that did."""

import json

import pytest
import torch
import yaml

from arte_plugin.rows import Draft, PreferencePair, Score, TailoredExample, read_rows, write_rows
from arte_plugin.run.manifest import Manifest
from arte_plugin.run.run import Run
from arte_plugin.show.alignment import alignment_report
from arte_plugin.show.summary import summary
from arte_plugin.stages import align_check as check
from arte_plugin.stages.before_after import Rewritten
from tests.alive import alive_models, embedding_shape, watch_engines
from tests.e2e.conftest import ROOT, arte, axolotl
from tests.taught import TASK

SMALL = {
    "arte.align.check": True,
    "arte.elicit.questions": 4,
    "arte.regenerate.questions": 3,
    "arte.evaluate.shots": [0],
    "arte.evaluate.limit": 6,
}


def test_a_teacher_that_did_not_move_is_told_and_makes_one_student(write_config, tmp_path):
    changes = {**SMALL, "learning_rate": 1e-12, "arte.arms": None}
    config = write_config(changes)
    done = axolotl("train", str(config), "--launcher", "python")
    assert done.returncode == 0, done.stderr[-3000:]
    folder = tmp_path / "arte/arte"
    said = "no evidence that the teacher changed (0 of "
    report = json.loads((folder / "08-evaluate/results.json").read_text())
    assert report["alignment"] == alignment_report(folder)
    assert report["alignment"]["verdict"].startswith(said)
    assert report["alignment"]["replies"]["changed"] == 0 < report["alignment"]["replies"]["n"]
    for shown in (done.stdout, (folder / "08-evaluate/results.md").read_text(), arte("status", str(config)).stdout):
        assert f"alignment: {said}" in shown
    stages = Manifest(folder / "manifest.json").stages()
    assert stages["align-check"].counts[0].note == report["alignment"]["verdict"]
    # Nobody was probed: there is nothing new to be shown.
    assert not (folder / "05-align-check/probes.jsonl").read_text()

    rows = [read_rows(folder / f"06-regenerate/{name}.jsonl", TailoredExample) for name in ("tailored", "unaligned")]
    assert rows[0] == rows[1] != []
    notes = {count.what: count.note for count in stages["regenerate"].counts}
    assert "the same examples as arte" in notes["unaligned"]
    # The control had been asked for these questions by the check.
    assert stages["regenerate"].usage["asked"] < stages["regenerate"].usage["requests"]
    assert stages["sft/unaligned"].counts[0].note == "the same examples as arte"
    assert stages["sft/unaligned"].result == stages["sft"].result
    [alignment] = [row for row in report["comparisons"] if row["shows"] == "alignment"]
    assert (alignment["first"], alignment["second"], alignment["difference"]) == ("unaligned", "arte", 0.0)

    before = (folder / "manifest.json").read_text()
    stopped = arte("evaluate", str(write_config({**changes, "arte.align.require_change": 0.25})))
    assert stopped.returncode == 1
    assert "`arte.align.require_change` is 0.25" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    assert (folder / "manifest.json").read_text() == before


@pytest.fixture
def published(tmp_path):
    """Drafts and scores of thirty questions, each with a short rationale that is liked and a long one that is not."""
    drafts, scores = [], []
    for i in range(30):
        question = f"not not {'not ' * (i % 3)}True and {'False or ' * (i // 3)}True is"
        texts = {"short": "So it is True. <ans>True</ans>", "long": "Part A: it is False. Together: <ans>False</ans>"}
        for technique, rationale in texts.items():
            name, answer = f"q{i}-{technique}", "True" if technique == "short" else "False"
            prompt = f"Solve this.\n\nQuestion: {question}\nAnswer:"
            drafts.append(Draft(name, TASK, f"q{i}", question, "True", technique, rationale, answer, "ask", prompt))
            scores.append(Score(name, f"q{i}", TASK, "taught", 0.9 - 0.6 * (technique == "long"), 40, 0.0, 1.0, 0))
    write_rows(tmp_path / "drafts.jsonl", drafts)
    write_rows(tmp_path / "scores.jsonl", scores)
    return {
        "arte.pair.drafts": str(tmp_path / "drafts.jsonl"),
        "arte.pair.scores": str(tmp_path / "scores.jsonl"),
        "arte.pair.question_pairs": 0,
    }


def test_a_teacher_that_moved_is_weighed_on_pairs_that_it_has_not_seen(
    write_config, tmp_path, published, taught, monkeypatch
):
    from axolotl.cli.config import load_cfg

    changes = {**SMALL, **published, "arte.align.held_out": 0.2, "num_epochs": 3, "learning_rate": 3e-3}
    config = write_config(changes)
    done = axolotl("train", str(config), "--launcher", "python", ARTE_UNTIL="align")
    assert done.returncode == 0, done.stderr[-3000:]
    folder = tmp_path / "arte/arte"
    trained, held_out = (read_rows(folder / f"04-pair/{name}.jsonl", PreferencePair) for name in ("pairs", "held_out"))
    assert (len(trained), len(held_out)) == (24, 6)
    assert not {pair.prompt for pair in trained} & {pair.prompt for pair in held_out}
    stages = Manifest(folder / "manifest.json").stages()
    assert (stages["pair"].counts[-1].what, stages["pair"].counts[-1].dropped) == ("pairs to train on", {"held_out": 6})
    assert stages["align"].counts[0].kept == 24
    assert "(means of the first and last 5 of 18 logged)" in stages["align"].counts[0].note

    monkeypatch.setenv("AXOLOTL_DO_NOT_TRACK", "1")
    run = Run(load_cfg(str(config)))
    shape, alive = embedding_shape(taught), []
    watch_engines(lambda: alive.append(alive_models(shape)), monkeypatch)
    check.AlignCheck().do(run)
    # The teacher as it was, the teacher as it is, the student: each alone.
    assert alive == [1, 1, 1]
    run.out.close()
    assert alive_models(shape) == 0

    report = alignment_report(folder)
    rows = read_rows(folder / "05-align-check/rationales.jsonl", Rewritten)
    assert report["rationales"]["changed"] == sum(row.before != row.after for row in rows) > 0
    # A published run's preference set is not known: all validation questions.
    assert report["liking"]["validation"] == [12]
    assert report["verdict"].startswith(f"{100 * report['rationales']['share']:.0f} % of rationales changed")
    found = report["rewards"]["held_out"]["all"]
    assert (found["n"], found["accuracy"]) == (6, 1.0)
    assert report["rewards"]["trained"]["all"]["n"] == 24
    assert found["margin"] == pytest.approx(_margin(taught, tmp_path / "arte", held_out), rel=1e-3)

    # A teacher that is trained again, to the same weights, has been checked.
    again = run.out.manifest.stages()["align"]
    monkeypatch.setattr("time.strftime", lambda form: "2999-01-01T00:00:00+0000")
    run.out.manifest.record("align", again.inputs, again.counts, again.usage, again.seconds, again.result)
    alive.clear()
    check.AlignCheck().do(run)
    assert alive == []
    assert alignment_report(folder) == report
    _two_students_and_tasks_and_a_served_teacher(write_config, changes, taught, monkeypatch)


def _two_students_and_tasks_and_a_served_teacher(write_config, changes, taught, monkeypatch):
    """With the same aligned teacher; of a server nothing can be weighed."""
    from axolotl.cli.config import load_cfg

    students = [{"base_model": str(taught), "name": name, "weight": weight} for name, weight in (("a", 3), ("b", 1))]
    path = write_config({**changes, "arte.student": students, "arte.align.check_questions": 2})
    config = yaml.safe_load(path.read_text())
    words = {"questions": {"path": str(ROOT / "yaml_examples/data/kind_of_thing.jsonl")}, "answer": "text"}
    config["arte"]["tasks"].append({**config["arte"]["tasks"][0], "name": "words", **words})
    path.write_text(yaml.safe_dump(config))
    load = check.teacher_model

    def served(*arguments):
        model = load(*arguments)
        model.served = True
        return model

    monkeypatch.setattr(check, "teacher_model", served)
    run = Run(load_cfg(str(path)))
    check.AlignCheck().do(run)
    report = alignment_report(run.out.path)
    assert report["rewards"] == {
        "held_out": {},
        "trained": {},
        "not_measured": "not measured: a server doesn't tell how likely a reply is",
    }
    assert list(report["tasks"]) == [TASK, "words"]
    assert sum(task["rationales"]["n"] for task in report["tasks"].values()) == report["rationales"]["n"] > 0
    # One model under two names: whatever their weights, the mean is what each of them says.
    assert {name: found["score"] for name, found in report["liking"]["students"].items()} == {
        name: pytest.approx(report["liking"]["score"]) for name in ("a", "b")
    }
    assert report["verdict"] in " ".join(summary(run.out.path, run.args).split())


def _margin(base, adapter, pairs) -> float:
    """The mean margin of `pairs` in nats, by transformers and PEFT alone."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(adapter)
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter)

    def log_probability(prompt: str, reply: str) -> float:
        asked = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
        first = len(tokenizer(asked, add_special_tokens=False)["input_ids"])
        ids = torch.tensor([tokenizer(f"{asked}{reply}{tokenizer.eos_token}", add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            scores = torch.log_softmax(model(ids).logits[0, :-1], dim=-1).gather(1, ids[0, 1:, None])
        return float(scores[first - 1 :].sum())

    margins = []
    for pair in pairs:
        after = log_probability(pair.prompt, pair.chosen) - log_probability(pair.prompt, pair.rejected)
        with model.disable_adapter():
            before = log_probability(pair.prompt, pair.chosen) - log_probability(pair.prompt, pair.rejected)
        margins.append(after - before)
    return sum(margins) / len(margins)
