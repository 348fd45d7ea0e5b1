"""The paper's data sets in one run, of a teacher that is aligned in full."""

import json

from arte_plugin.models.identity import fingerprint_model
from arte_plugin.rows import Draft, TailoredExample, read_rows
from arte_plugin.run.manifest import Manifest
from tests.alive import ALIVE_FILE
from tests.e2e.conftest import axolotl

FULL = {"adapter": None, "lora_r": None, "lora_alpha": None, "lora_target_linear": None, "learning_rate": 1e-5}
# Each way to come by an example once, but for `random_technique` and `task_consistent`, which are `most_preferred` with
# another draft.
ARMS = ["arte", "unaligned", "original_teacher", "rationale_only", "question_only", "most_preferred"]


def test_arms_share_what_is_generated_with_one_another_and_with_later_runs(
    write_config, tmp_path, tiny_config, untaught
):
    changes = {
        **FULL,
        "arte.arms": ARMS,
        "arte.align.check": True,
        "arte.elicit.questions": 5,
        "arte.regenerate.questions": 4,
        "arte.evaluate.shots": [0],
        "arte.evaluate.limit": 6,
    }
    # In all three runs: what another plugin makes of a teacher may well be another teacher.
    changes["plugins"] = ["tests.alive.AlivePlugin", "arte_plugin.ArtePlugin"]
    config = write_config(changes)
    alive = tmp_path / "alive"
    done = axolotl("train", str(config), "--launcher", "python", **{ALIVE_FILE: str(alive)})
    assert done.returncode == 0, done.stderr[-3000:]
    folder = tmp_path / "arte/arte"
    # Teacher, respondent, student; the teacher is trained, and gone when its training is over. It is checked: it writes
    # as it was, then as it was aligned, and the student is shown what changed. Then it writes as it was aligned and as
    # it was. Before a model is loaded there is none, and it is alone while it is there.
    generates = ["load 0", "engine 1"]
    # DPO in full has a second one, the reference.
    trained = ["load 0", "load 1", "trainer 2", "unload 0"]
    asked_student = ["engine 1"]
    changed = (tmp_path / "arte/arte/05-align-check/probes.jsonl").read_text()
    checked = [*generates, *generates, *(asked_student if changed else [])]
    seen = alive.read_text().splitlines()
    # Its own only respondent, the student stays for stage 3; the aligned teacher stays if no student is asked of it.
    until_stage_6 = [*generates, *asked_student, *trained, *checked, *(generates if changed else [])]
    assert seen[: len(until_stage_6)] == until_stage_6
    # The teacher as it was, if the check has not had it write all of it, and the students that are evaluated.
    assert set(seen[len(until_stage_6) :]) <= {"load 0", "engine 1"}

    rows = {
        arm: read_rows(folder / "06-regenerate" / f"{'tailored' if arm == 'arte' else arm}.jsonl", TailoredExample)
        for arm in ARMS
    }
    questions = {arm: [row.question for row in rows[arm]] for arm in ARMS}
    sizes = {len(some) for some in rows.values()}
    assert len(sizes) == 1
    assert min(sizes) > 0
    drafted = {draft.question for draft in read_rows(folder / "01-elicit/drafts.jsonl", Draft)}
    for arm in ("original_teacher", "rationale_only", "most_preferred"):
        assert set(questions[arm]) <= drafted
    assert not set(questions["arte"]) <= drafted
    assert questions["question_only"] == questions["arte"] or set(questions["question_only"]) & set(questions["arte"])
    assert rows["most_preferred"] == rows["original_teacher"]
    # Both teachers were asked for questions by the same calls, the one that is not aligned last.
    assert not set(questions["unaligned"]) <= drafted
    note = {count.what: count.note for count in Manifest(folder / "manifest.json").stages()["regenerate"].counts}
    shared = len(set(questions["unaligned"]) & set(questions["arte"]))
    said = "the same examples as arte" if rows["unaligned"] == rows["arte"] else f"{shared} of {min(sizes)} questions"
    assert said in note["unaligned"] or shared == 0

    stages = Manifest(folder / "manifest.json").stages()
    drafting, aligned = (stages[stage].inputs["model"] for stage in ("elicit", "regenerate"))
    assert drafting["adapter"] is aligned["adapter"] is None
    assert aligned["model"] == fingerprint_model(str(tmp_path / "arte")) != drafting["model"]
    assert stages["sft/most_preferred"].result == stages["sft/original_teacher"].result
    students = {stages["sft" if arm == "arte" else f"sft/{arm}"].result["model"] for arm in ARMS}
    assert len(students) == len({tuple(rows[arm]) for arm in ARMS}) > 2
    report = json.loads((folder / "08-evaluate/results.json").read_text())
    assert [row["arm"] for row in report["results"]] == ["base", *ARMS]
    assert [(row["first"], row["second"]) for row in report["comparisons"]] == [
        *(("base", arm) for arm in ARMS),
        *((arm, "arte") for arm in ARMS if arm != "arte"),
    ]
    assert "most_preferred" in (folder / "08-evaluate/results.md").read_text()
    assert {(row["first"], row["second"]): row["shows"] for row in report["comparisons"] if row["shows"]} == {
        ("base", "arte"): "teaching and alignment",
        ("base", "unaligned"): "teaching",
        ("unaligned", "arte"): "alignment",
    }
    for said in ("sft/most_preferred", "the same examples as original_teacher", "only second"):
        assert said in done.stdout

    _same_config_from_that_run(write_config, tmp_path, changes, rows)
    _another_task_and_student_from_that_run(write_config, tmp_path, changes, tiny_config, untaught)


def _same_config_from_that_run(write_config, tmp_path, changes, rows):
    """`from_run` asks nothing that was asked before, and trains nothing that was trained."""
    config = write_config({**changes, "arte.from_run": str(tmp_path / "arte")}, name="again")
    done = axolotl("train", str(config), "--launcher", "python", **{ALIVE_FILE: str(tmp_path / "alive again")})
    assert done.returncode == 0, done.stderr[-3000:]
    folder = tmp_path / "again/arte"
    stages = Manifest(folder / "manifest.json").stages()
    assert {name.partition("/")[0] for name in stages} == {"align", "regenerate", "sft", "evaluate"}
    assert stages["regenerate"].usage["asked"] == 0 < stages["regenerate"].usage["requests"]
    for arm in ARMS:
        file = f"06-regenerate/{'tailored' if arm == 'arte' else arm}.jsonl"
        assert read_rows(folder / file, TailoredExample) == rows[arm]
        record = stages["sft" if arm == "arte" else f"sft/{arm}"]
        assert "trained in" in record.counts[0].note
        assert str(tmp_path / "arte") in record.result["model"]
    assert not (folder / "08-evaluate/samples").exists()
    here, there = (
        json.loads((tmp_path / name / "arte/08-evaluate/results.json").read_text()) for name in ("again", "arte")
    )
    assert here["results"] == there["results"]
    # The aligned teacher was checked there.
    of = here["alignment"].pop("from_run")
    assert (of["run"], of["other_students"]) == (str(tmp_path / "arte"), []) and of["students"] and of["tasks"]
    assert here["alignment"] == there["alignment"] != {}
    assert "not run yet" not in done.stdout
    assert not (tmp_path / "again/model.safetensors").exists()


def _another_task_and_student_from_that_run(write_config, tmp_path, changes, tiny_config, untaught):
    """A task that the teacher was not aligned on: an arm that takes drafts has them made, and nothing is aligned."""
    config = write_config(
        {
            **changes,
            "arte.arms": ["original_teacher"],
            "arte.from_run": str(tmp_path / "arte"),
            "arte.seeds": [1, 2],
            "arte.student.base_model": str(untaught),
            "arte.tasks": [{**tiny_config["arte"]["tasks"][0], "name": "another"}],
            # It has that run's questions, in splits of its own.
            "arte.overlap": "drop",
            # The student writes nothing that can be read.
            "arte.probe.min_readable": 0,
        },
        name="others",
    )
    done = axolotl("train", str(config), "--launcher", "python", **{ALIVE_FILE: str(tmp_path / "alive others")})
    assert done.returncode == 0, done.stderr[-3000:]
    folder = tmp_path / "others/arte"
    stages = Manifest(folder / "manifest.json").stages()
    trained = [f"sft/original_teacher/seed-{seed}" for seed in (1, 2)]
    assert list(stages) == ["elicit", "preference-set", "probe", "align", "regenerate", *trained, "evaluate"]
    assert stages["align"].counts[0].note == f"from {tmp_path / 'arte'}"
    assert not (tmp_path / "others/model.safetensors").exists()
    # What the unaligned teacher drafts here is what the arm of its own data is trained on.
    drafted = {draft.question for draft in read_rows(folder / "01-elicit/drafts.jsonl", Draft)}
    taken = read_rows(folder / "06-regenerate/original_teacher.jsonl", TailoredExample)
    assert {row.question for row in taken} <= drafted
    assert len({stages[name].result["model"] for name in trained}) == 2
    report = json.loads((folder / "08-evaluate/results.json").read_text())
    assert [(row["arm"], row["seed"]) for row in report["results"]] == [
        ("base", None),
        ("original_teacher", 1),
        ("original_teacher", 2),
    ]
    assert [(row["first"], row["second"], row["n"]) for row in report["comparisons"]] == [
        ("base", "original_teacher", 6)
    ]
    assert "SD of 2 seeds" in done.stdout
