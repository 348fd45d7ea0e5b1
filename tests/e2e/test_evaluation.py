"""Our engine against lm-eval's own model, on the demo's student: the same answers to the last one."""

import json

from benchmarks.evaluation import run


def test_the_demos_questions_and_a_benchmark_are_answered_as_by_lm_evals_own_model(student_dir, tmp_path):
    file = tmp_path / "found.json"
    run.main(["--model", str(student_dir), "--turns", "1", "--questions", "10", "--out", str(file)])
    works = json.loads(file.read_text())["works"]
    demo, choice = works["demo"], works["choice"]
    assert (demo["questions"], demo["other_outcomes"]) == (20, 0)
    # Nats: float32 sums in another order.
    assert choice["questions"] == 10 and choice["largest_difference"] < 1e-4
    for work in (demo, choice):
        assert work["metrics"]["arte"] == work["metrics"]["hflm"]
        assert max(work["metrics"]["arte"].values()) > 0, "or nothing is told by them"
