"""Standard benchmarks: lm-eval's own tasks, run for real on questions of our own in the benchmarks' columns."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from arte_plugin.config.evaluate import EvaluateArgs
from arte_plugin.config.student import StudentArgs
from arte_plugin.errors import ConfigError
from arte_plugin.rows import wilson
from arte_plugin.show.benchmark_table import benchmark_lines
from arte_plugin.stages import benchmark_tasks
from arte_plugin.stages import benchmarks as stage
from arte_plugin.stages.benchmark_results import FILE, TABLE, BenchmarkResult, read_benchmarks
from arte_plugin.stages.fine_tuning import TrainedStudent
from arte_plugin.stages.student_lm import Candidate
from tests.hub_cache import ARC, FACTS, put_arc, put_into_cache
from tests.tiny import BOS, tiny_model

#: Questions of our own in the columns of GSM8K.
SUMS = [
    {"question": f"Ann has {i} plums and buys 3. How many has she?", "answer": f"She has {i + 3}.\n#### {i + 3}"}
    for i in range(12)
]


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of data sets, and no network."""
    import datasets
    import huggingface_hub

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "datasets"


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("student"))


def make_args(*names: str, limit: int | None = None) -> EvaluateArgs:
    return EvaluateArgs(benchmarks=list(names), benchmark_limit=limit, batch_size=4)


def candidates(**students: Path) -> list[Candidate]:
    return [
        Candidate(arm, arm, StudentArgs(base_model=str(path)), TrainedStudent(str(path)))
        for arm, path in students.items()
    ]


def test_a_name_that_lm_eval_does_not_know_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"no task or group 'arc_esy'; did you mean .*arc_easy"):
        benchmark_tasks.check_names(["gsm8k", "arc_esy"])
    benchmark_tasks.check_names(["gsm8k", "arc_easy", "arc_challenge", "piqa", "commonsense_qa", "mmlu", "ai2_arc"])


def test_lm_eval_is_not_asked_for_its_tasks_where_no_benchmark_is_named(monkeypatch):
    monkeypatch.setattr(benchmark_tasks, "_manager", None)
    benchmark_tasks.check_names([])
    with pytest.raises(TypeError):
        benchmark_tasks.check_names(["gsm8k"])


@pytest.mark.parametrize(
    ("names", "lower", "main"),
    [
        (["acc,none", "acc_norm,none"], [], "acc_norm,none"),
        (["acc,none"], [], "acc,none"),
        (["exact_match,strict-match", "exact_match,flexible-extract"], [], "exact_match,strict-match"),
        (["word_perplexity,none", "acc,none"], ["word_perplexity"], "acc,none"),
        (["word_perplexity,none", "bits_per_byte,none"], ["word_perplexity", "bits_per_byte"], "word_perplexity,none"),
    ],
)
def test_the_main_metric_follows_the_tasks_own_order(names, lower, main):
    higher_is_better = {name.split(",")[0]: name.split(",")[0] not in lower for name in names}
    assert stage.main_metric(names, higher_is_better) == main


def test_multiple_choice_gives_the_number_of_a_direct_computation(cache, student, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    put_arc(cache)
    made = stage.run_benchmarks(candidates(base=student), make_args("arc_easy"), {}, tmp_path)

    tokenizer = AutoTokenizer.from_pretrained(student)
    model = AutoModelForCausalLM.from_pretrained(student, dtype=torch.float32)
    right = {"acc,none": 0, "acc_norm,none": 0}
    for question, choices, answer in FACTS:
        before = tokenizer(f"Question: {question}\nAnswer:", return_tensors="pt")["input_ids"]
        sums = []
        for choice in choices:
            ids = tokenizer(f" {choice}", add_special_tokens=False, return_tensors="pt")["input_ids"]
            with torch.no_grad():
                scores = model(torch.cat([before, ids], dim=1)).logits.log_softmax(-1)[0, before.shape[1] - 1 : -1]
            sums.append(scores.gather(1, ids[0, :, None]).sum().item())
        place = "ABCD".index(answer)
        right["acc,none"] += max(range(4), key=sums.__getitem__) == place
        right["acc_norm,none"] += max(range(4), key=lambda i: sums[i] / len(choices[i])) == place
    # Else a constant would pass.
    assert right["acc,none"] != right["acc_norm,none"]

    (row,) = made.results
    assert row.metrics == {name: n / 6 for name, n in right.items()}
    assert (row.metric, row.value, row.n, row.shots) == ("acc_norm", right["acc_norm,none"] / 6, 6, 0)
    assert (row.low, row.high) == wilson(right["acc_norm,none"], 6)
    assert (row.benchmark, row.task, row.arm, row.filter, row.version) == (
        "arc_easy",
        "arc_easy",
        "base",
        "none",
        "1.0",
    )
    assert made.skipped == [] and made.settings["chat_template"] is False
    assert read_benchmarks(tmp_path) == made
    assert f"| arc_easy | 0 | base | acc_norm | 6 | {100 * row.value:.1f} % |" in (tmp_path / TABLE).read_text()


def test_a_student_is_asked_as_by_lm_evals_own_command(cache, student, tmp_path):
    """Stage 8 itself would use the chat template, leave the tokenizer's BOS out and put a stop behind `</ans>`."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    put_into_cache(cache, "openai/gsm8k", "main", {"train": SUMS, "test": SUMS[:4]})
    other = tiny_model(tmp_path / "other", seed=1)
    tokenizer = AutoTokenizer.from_pretrained(other)
    begin = TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.bos_token_id)])
    tokenizer.backend_tokenizer.post_processor = begin
    tokenizer.save_pretrained(other)
    students = candidates(base=student, arte=other)
    made = stage.run_benchmarks(students, make_args("gsm8k", limit=3), {}, tmp_path)
    for one in students:
        arm, trained = one.arm, one.trained
        samples = read_samples(tmp_path, arm, "gsm8k")
        stock = simple_evaluate(HFLM(pretrained=trained.model, device="cpu", dtype="float32"), tasks=["gsm8k"], limit=3)
        theirs = [one for one in stock["samples"]["gsm8k"] if one["filter"] == "strict-match"]
        assert [s["prompt"] for s in samples] == [one["arguments"][0][0] for one in theirs]
        assert [s["said"] for s in samples] == [one["resps"] for one in theirs]
        assert [s["exact_match"] for s in samples] == [one["exact_match"] for one in theirs]
        assert samples[0]["asked"][0][0]["until"] == ["Question:", "</s>", "<|im_end|>"]
        assert samples[0]["prompt"].count("Question:") == 6
    assert read_samples(tmp_path, "base", "gsm8k") != read_samples(tmp_path, "arte", "gsm8k")
    assert [(row.arm, row.n, row.shots, row.metric, row.filter) for row in made.results] == [
        (arm, 3, 5, "exact_match", "strict-match") for arm in ("base", "arte")
    ]


def test_likelihoods_are_in_float32_whatever_the_students_precision(cache, student, tmp_path):
    """In bfloat16 a sum near -60 nats is a multiple of a quarter, and choices tie that do not."""
    import torch

    put_arc(cache)
    (one,) = candidates(base=student)
    one = replace(one, student=one.student.model_copy(update={"dtype": "bfloat16"}))
    stage.run_benchmarks([one], make_args("arc_easy"), {}, tmp_path)
    said = [float(likelihood) for s in read_samples(tmp_path, "base", "arc_easy") for ((likelihood, _),) in s["said"]]
    assert len(said) == 24 and min(said) < -60
    assert sum(torch.tensor(value).bfloat16().item() == value for value in said) < 4


def test_what_was_asked_is_not_asked_again(cache, student, tmp_path, monkeypatch):
    put_arc(cache)
    students = candidates(base=student)
    made = stage.run_benchmarks(students, make_args("arc_easy"), {}, tmp_path)

    def never(*_, **__):
        raise AssertionError("asked again")

    monkeypatch.setattr(stage, "loaded_student", never)
    assert stage.run_benchmarks(students, make_args("arc_easy"), {}, tmp_path) == made
    # Arms that share a student share its answers.
    twins = stage.run_benchmarks(candidates(base=student, arte=student), make_args("arc_easy"), {}, tmp_path)
    assert twins.results == [*made.results, replace(made.results[0], arm="arte")]
    with pytest.raises(AssertionError, match="asked again"):
        stage.run_benchmarks(students, make_args("arc_easy", limit=2), {}, tmp_path)
    # The tables of another limit are not left for this one's.
    assert read_benchmarks(tmp_path) is None


def test_without_its_data_a_benchmark_is_skipped_and_tried_again(cache, student, tmp_path, caplog):
    put_arc(cache)
    students = candidates(base=student)
    names = ["piqa", "arc_easy", "arc_challenge"]
    made = stage.run_benchmarks(students, make_args(*names), {}, tmp_path)
    assert [row.benchmark for row in made.results] == ["arc_easy"]
    # Nothing of the data set is here, and: the data set is, but not this part of it.
    nothing, another_part = made.skipped
    assert nothing.benchmark == "piqa" and "Couldn't reach 'baber/piqa' on the Hub" in nothing.reason
    assert another_part.benchmark == "arc_challenge" and "ARC-Challenge" in another_part.reason
    assert [record.message.split(":")[0] for record in caplog.records if record.levelname == "WARNING"] == [
        "benchmark piqa skipped",
        "benchmark arc_challenge skipped",
    ]
    assert read_benchmarks(tmp_path) == made

    put_arc(cache, "ARC-Challenge", ARC[:3])
    again = stage.run_benchmarks(students, make_args(*names), {}, tmp_path)
    assert [(row.benchmark, row.n) for row in again.results] == [("arc_easy", 6), ("arc_challenge", 3)]
    assert again.skipped == [nothing]


def test_a_hub_out_of_reach_is_no_data_too(cache, tmp_path, monkeypatch):
    import datasets
    import huggingface_hub

    nowhere = "http://127.0.0.1:9"
    for module in (datasets.config, huggingface_hub.constants):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", nowhere)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", nowhere)
    tasks, (skipped,) = benchmark_tasks.load_tasks(["piqa"], tmp_path)
    assert tasks == {} and "did not come from the Hub" in skipped.reason


def test_data_that_a_task_can_not_read_is_an_error_not_a_skip(cache, student, tmp_path):
    put_arc(cache, rows=[{"frage": "Was machen Bienen?", "antwort": "Honig"}])
    with pytest.raises(Exception, match="undefined"):
        stage.run_benchmarks(candidates(base=student), make_args("arc_easy"), {}, tmp_path)


def test_no_benchmarks_leave_no_table_of_an_earlier_run(tmp_path):
    (tmp_path / FILE).write_text("{}")
    assert stage.run_benchmarks([], make_args(), {}, tmp_path).results == []
    assert read_benchmarks(tmp_path) is None


def read_samples(folder: Path, arm: str, task: str) -> list[dict]:
    return [json.loads(x) for x in (folder / "benchmark_samples" / arm / f"{task}.jsonl").read_text().splitlines()]


def row(benchmark: str, arm: str, right: int, n: int = 100, **changes) -> BenchmarkResult:
    low, high = wilson(right, n)
    made = BenchmarkResult(
        benchmark=benchmark, task=benchmark, arm=arm, shots=0, metric="acc", filter="none", higher_is_better=True, n=n,
        value=right / n, share=True, stderr=0.05, low=low, high=high, version="1", metrics={},
    )  # fmt: skip
    return replace(made, **changes)


def test_the_average_is_over_the_same_benchmarks_for_every_arm():
    rows = [
        row("a", "base", 40),
        row("a", "arte", 50),
        row("b", "base", 20),
        row("b", "arte", 50),
        row("c", "arte", 99),
    ]
    lines = benchmark_lines(rows)
    assert [line[:6] for line in lines[-2:]] == [
        ["(average)", "", "base", "", "200", "30.0 %"],
        ["(average)", "", "arte", "", "200", "50.0 %"],
    ]
    low, high = map(float, lines[-1][6].split(" to "))
    assert 42 < low < 44 and 56 < high < 58
    assert "(average)" not in [line[0] for line in benchmark_lines(rows[:2])]


def test_a_group_is_one_line_and_counts_once():
    group = [
        row("group", "base", right, task=f"part{right}", shots=shots) for right, shots in ((0, 5), (50, 5), (100, 5))
    ]
    lines = benchmark_lines([*group, row("a", "base", 90)])
    assert lines[1][:6] == ["group", "5", "base", "acc", "300", "50.0 %"]
    assert lines[-1][:6] == ["(average)", "", "base", "", "400", "70.0 %"]


def test_what_is_no_share_is_shown_in_its_own_unit_and_kept_out_of_the_average():
    words = row("words", "base", 0, value=21.5, share=False, low=20.0, high=23.0, metric="ppl", higher_is_better=False)
    lines = benchmark_lines([words, row("a", "base", 90), row("b", "base", 70)])
    assert lines[1] == ["words", "0", "base", "ppl, less is better", "100", "21.500", "20.000 to 23.000"]
    assert lines[-1][5] == "80.0 %"
