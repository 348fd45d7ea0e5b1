"""The paper's data sets in one run."""

import json

from arte_plugin.manifest import Manifest
from arte_plugin.rows import Draft, TailoredExample, read_rows
from tests.e2e.conftest import axolotl

# Each way to come by an example once, but for `random_technique`, which is `most_preferred` with another draft.
ARMS = ["arte", "original_teacher", "rationale_only", "question_only", "most_preferred", "task_consistent"]


def test_arms_share_what_is_generated(write_config, tmp_path):
    changes = {
        "arte.arms": ARMS,
        "arte.elicit.questions": 5,
        "arte.regenerate.questions": 4,
        "arte.evaluate.shots": [0],
        "arte.evaluate.limit": 6,
    }
    config = write_config(changes)
    done = axolotl("train", str(config), "--launcher", "python")
    assert done.returncode == 0, done.stderr[-3000:]
    folder = tmp_path / "arte/arte"

    rows = {
        arm: read_rows(folder / "06-regenerate" / f"{'tailored' if arm == 'arte' else arm}.jsonl", TailoredExample)
        for arm in ARMS
    }
    questions = {arm: [row.question for row in rows[arm]] for arm in ARMS}
    sizes = {len(some) for some in rows.values()}
    assert len(sizes) == 1
    assert min(sizes) > 0
    drafted = {draft.question for draft in read_rows(folder / "01-elicit/drafts.jsonl", Draft)}
    for arm in ("original_teacher", "rationale_only", "most_preferred", "task_consistent"):
        assert set(questions[arm]) <= drafted
    assert not set(questions["arte"]) <= drafted
    assert questions["question_only"] == questions["arte"] or set(questions["question_only"]) & set(questions["arte"])
    assert rows["most_preferred"] == rows["original_teacher"]

    stages = Manifest(folder / "manifest.json").stages()
    assert stages["sft/most_preferred"].result == stages["sft/original_teacher"].result
    students = {stages["sft" if arm == "arte" else f"sft/{arm}"].result["model"] for arm in ARMS}
    assert len(students) == len({tuple(rows[arm]) for arm in ARMS}) > 2
    report = json.loads((folder / "08-evaluate/results.json").read_text())
    assert [row["arm"] for row in report["results"]] == ["base", *ARMS]
    assert [(row["first"], row["second"]) for row in report["comparisons"]] == [
        *(("base", arm) for arm in ARMS),
        *((arm, "arte") for arm in ARMS if arm != "arte"),
    ]
    assert "task_consistent" in (folder / "08-evaluate/results.md").read_text()
    for said in ("sft/task_consistent", "the same examples as original_teacher", "only second"):
        assert said in done.stdout

    # Fewer arms are a part of what is there: nothing is asked and nothing trained for them.
    fewer = write_config({**changes, "arte.arms": ["arte", "rationale_only"]}, name="arte")
    done = axolotl("train", str(fewer), "--launcher", "python")
    assert done.returncode == 0, done.stderr[-3000:]
    assert Manifest(folder / "manifest.json").stages()["regenerate"].usage["asked"] == 0
