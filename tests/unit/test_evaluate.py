"""Stage 8: the task files, a real lm-eval run on a tiny model, and the table."""

import contextlib
import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from arte_plugin import versions
from arte_plugin.config.evaluate import EvaluateArgs
from arte_plugin.config.student import StudentArgs
from arte_plugin.config.tasks import TaskArgs
from arte_plugin.data.tasks import Task
from arte_plugin.errors import DataError
from arte_plugin.language import answers, prompts
from arte_plugin.language.rendering import Renderer
from arte_plugin.models.student_replies import StudentReply
from arte_plugin.rows import Question, wilson
from arte_plugin.stages import evaluation as stage
from arte_plugin.stages import lm_eval_files
from arte_plugin.stages.fine_tuning import TrainedStudent
from arte_plugin.stages.student_lm import Candidate
from tests.tiny import BOS, tiny_model

NUMBER = {"prompt": "What is 1 + 1?", "target": "2", "answer_type": "number"}


def make_task(name: str = "sums", questions: int = 4) -> Task:
    args = TaskArgs.model_validate(
        {"name": name, "description": "Add.", "answer": "number", "questions": {"path": "none.jsonl"}}
    )
    rows = [Question(f"q{i}", name, f"What is {i} + {i}?", str(2 * i)) for i in range(questions + 2)]
    seeds = [Question("s0", name, "What is 1 + 9?", "10", "1 and 9 make <ans>10</ans>"), rows[0]]
    return Task(args, seeds, rows[1:2], rows[2:], 0)


def make_args(**evaluate) -> EvaluateArgs:
    return EvaluateArgs.model_validate({"shots": [0, 2], "max_new_tokens": 8, "batch_size": 4, **evaluate})


def candidate(student: Path, arm: str = "base", label: str | None = None, **settings) -> Candidate:
    named = StudentArgs(base_model=str(student), **settings)
    return Candidate(label or arm, arm, named, TrainedStudent(str(student)))


def test_rows_show_the_first_seeds_with_their_rationale_or_the_bare_answer():
    task = make_task()
    (row, *_) = lm_eval_files.question_rows(task, 2)
    examples = [("What is 1 + 9?", "1 and 9 make <ans>10</ans>"), ("What is 0 + 0?", "The answer is <ans>0</ans>")]
    assert row["prompt"] == prompts.solve_prompt("Add.", "number", "What is 2 + 2?", examples)
    assert (row["question_id"], row["target"], row["answer_type"]) == ("q2", "4", "number")


def test_more_shots_than_seeds_is_refused():
    with pytest.raises(DataError, match="3 seed questions, there are 2"):
        lm_eval_files.question_rows(make_task(), 3)


@pytest.mark.parametrize(
    ("response", "metrics"),
    [
        ("It is <ans>2</ans>", (1, 0)),
        ("It is <ans>3</ans>", (0, 0)),
        ("It is <ans>2</ans> or <ans>3</ans>", (1, 0)),
        ("I don't know", (0, 1)),
        ("", (0, 1)),
    ],
)
def test_a_response_is_judged_up_to_its_first_closed_answer(response, metrics):
    assert tuple(lm_eval_files.judge_response(NUMBER, [response]).values()) == metrics


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("student"))


def test_lm_eval_runs_the_tasks_and_what_is_done_is_not_run_again(student, tmp_path, monkeypatch):
    task, args = make_task(), make_args()
    students = [candidate(student)]
    evaluated = stage.evaluate([task], students, args, {}, tmp_path)
    results = [one.result for one in evaluated]

    assert [(r.task, r.arm, r.student, r.shots, r.n) for r in results] == [
        ("sums", "base", student.name, 0, 4),
        ("sums", "base", student.name, 2, 4),
    ]
    for result in results:
        assert (result.low, result.high) == wilson(result.correct, 4)
        assert 0 <= result.correct + result.unparsed <= 4
    samples = [json.loads(x) for x in (tmp_path / "samples/base/arte_sums_2shot.jsonl").read_text().splitlines()]
    rows = lm_eval_files.question_rows(task, 2)
    assert [s["question_id"] for s in samples] == ["q2", "q3", "q4", "q5"]
    assert {s["outcome"] for s in samples} <= {"correct", "wrong", "unparsed"}
    assert evaluated[1].right == {s["question_id"]: s["outcome"] == "correct" for s in samples}

    from transformers import AutoTokenizer

    renderer = Renderer(AutoTokenizer.from_pretrained(student), "auto")
    assert [s["prompt"] for s in samples] == [renderer.prompt(row["prompt"]) for row in rows]

    def never(*_):
        raise AssertionError("asked again")

    monkeypatch.setattr(stage, "_run", never)
    assert stage.evaluate([task], students, args, {}, tmp_path) == evaluated
    twins = [*students, candidate(student, "arte")]
    again = stage.evaluate([task], twins, args, {}, tmp_path)
    assert [(one.result.arm, one.right) for one in again[2:]] == [("arte", one.right) for one in evaluated]
    limited = make_args(limit=2)
    with pytest.raises(AssertionError, match="asked again"):
        stage.evaluate([task], students, limited, {}, tmp_path)


@pytest.mark.parametrize(("wanted", "given"), [(None, [40]), (24, [20, 20]), (1, [1] * 40)])
def test_the_engine_is_given_all_questions_at_once_or_as_many_as_the_yaml_says(
    wanted, given, student, tmp_path, monkeypatch
):
    """Rows that end make room for others of the same batch, and examples are computed once for a batch."""
    from arte_plugin.engines.transformers import TransformersEngine

    sizes = []
    generate = TransformersEngine.generate

    def counted(self, batch, keep=None):
        sizes.append(len(batch))
        return generate(self, batch, keep)

    monkeypatch.setattr(TransformersEngine, "generate", counted)
    stage.evaluate([make_task(questions=20)], [candidate(student)], make_args(batch_size=wanted), {}, tmp_path)
    assert sizes == given


@pytest.fixture
def asked(monkeypatch):
    """Students that all say the same; the labels of those that are asked."""
    asked = []

    @contextlib.contextmanager
    def lm(candidate, *_):
        asked.append(candidate.label)
        yield SimpleNamespace(replies={"prompt": StudentReply("I make it <ans>7</ans>", "stop", 9)})

    def run(lm, questions, settings, ask_again, folder):
        reply = "I make it <ans>7</ans>"
        return {
            name: [
                {"doc": row, "doc_id": i, "target": row["target"], "arguments": [["prompt"]], "resps": [[reply]],
                 **lm_eval_files.judge_response(row, [reply])}
                for i, row in enumerate(rows)
            ]
            for name, rows in questions.items()
        }  # fmt: skip

    monkeypatch.setattr(stage, "_lm", lm)
    monkeypatch.setattr(stage, "_run", run)
    return asked


@pytest.fixture
def sevens():
    """A task whose every answer is the one that is given."""
    task = make_task()
    return dataclasses.replace(task, test=[dataclasses.replace(row, target="7") for row in task.test])


def test_after_a_change_of_the_reader_all_students_are_judged_by_the_same(asked, sevens, tmp_path):
    one, other = (tiny_model(tmp_path / f"student-{seed}", seed=seed) for seed in (0, 1))
    args, folder = make_args(shots=[0]), tmp_path / "evaluate"
    students = [candidate(one), candidate(other, "arte")]
    with pytest.MonkeyPatch.context() as patch:
        # A reader that reads nothing.
        patch.setattr(answers, "extract", lambda response, kind: None)
        (before,) = stage.evaluate([sevens], students[:1], args, {}, folder)
        assert (before.result.correct, before.result.unparsed) == (0, 4)
    now = stage.evaluate([sevens], students, args, {}, folder)
    assert [(one.result.arm, one.result.correct, one.result.unparsed) for one in now] == [
        ("base", 4, 0),
        ("arte", 4, 0),
    ]
    assert all(all(one.right.values()) for one in now)
    samples = (folder / "samples/base/arte_sums_0shot.jsonl").read_text()
    assert samples.count('"outcome": "correct"') == 4
    # So are those of another run.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers, "extract", lambda response, kind: None)
        later = stage.evaluate([sevens], students, args, {}, tmp_path / "later", [folder / "results"])
        assert [one.result.correct for one in later] == [0, 0]
    assert asked == ["base", "arte"], "each was asked once"


def test_a_reply_that_a_new_reader_would_not_have_ended_is_asked_anew(asked, sevens, student, tmp_path, monkeypatch):
    args = make_args(shots=[0])
    stage.evaluate([sevens], [candidate(student)], args, {}, tmp_path)
    monkeypatch.setattr(versions, "READING", versions.READING + 1)
    stage.evaluate([sevens], [candidate(student)], args, {}, tmp_path)
    assert asked == ["base"], "it ends where it did"
    monkeypatch.setattr(answers, "extract", lambda response, kind: None)
    for _ in range(2):
        stage.evaluate([sevens], [candidate(student)], args, {}, tmp_path)
    assert asked == ["base", "base"], "and by the new reader once"


def test_who_is_asked_again_another_reader_decides_anew(asked, sevens, student, tmp_path, monkeypatch):
    args = make_args(shots=[0])
    for _ in range(2):
        stage.evaluate([sevens], [candidate(student)], args, {}, tmp_path, ask_again=True)
    assert asked == ["base"]
    monkeypatch.setattr(versions, "READING", versions.READING + 1)
    stage.evaluate([sevens], [candidate(student)], args, {}, tmp_path, ask_again=True)
    assert asked == ["base", "base"]


def test_the_test_asks_again_like_the_probes_and_not_for_what_was_asked_before(student, tmp_path):
    task, args = make_task(), make_args(shots=[0])
    # What the tiny model writes has digits in it, but hardly a truth value.
    task = dataclasses.replace(task, args=task.args.model_copy(update={"answer": "boolean"}))

    def samples(**more):
        stage.evaluate([task], [candidate(student)], args, {}, tmp_path, **more)
        text = (tmp_path / "samples/base/arte_sums_0shot.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    once, again = samples(), samples(ask_again=True)
    unparsed = [one["outcome"] == "unparsed" for one in once]
    assert any(unparsed), "the tiny model must fail to give some answer"
    assert [one["asked_again"] for one in again] == unparsed and not any(one["asked_again"] for one in once)
    assert {one["finish"] for one in once} <= {"stop", "length"}
    for first, second, more in zip(once, again, unparsed, strict=True):
        assert (prompts.ANSWER_PREFILL in second["response"]) == more == (second["new_tokens"] > first["new_tokens"])
        assert second["finish"] == first["finish"] and (more or second == first)


@pytest.mark.parametrize("style", ["chat", "plain with a BOS"])
def test_the_greedy_answer_is_the_models_own(style, tmp_path):
    """lm-eval's padding, special tokens and stops must not change what the student says."""
    import torch
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoModelForCausalLM, AutoTokenizer

    student = tiny_model(tmp_path / "student", chat_template=style == "chat")
    if style != "chat":
        tokenizer = AutoTokenizer.from_pretrained(student)
        special = [(BOS, tokenizer.bos_token_id)]
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{BOS} $A", special_tokens=special)
        tokenizer.save_pretrained(student)
        assert AutoTokenizer.from_pretrained(student)("a")["input_ids"][0] == tokenizer.bos_token_id
    task, args = make_task(), make_args(shots=[0], limit=3)
    stage.evaluate([task], [candidate(student)], args, {}, tmp_path)
    samples = [json.loads(x) for x in (tmp_path / "samples/base/arte_sums_0shot.jsonl").read_text().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(student)
    model = AutoModelForCausalLM.from_pretrained(student, dtype=torch.float32)
    renderer = Renderer(tokenizer, "auto")
    assert len(samples) == 3
    assert samples[0]["prompt"].startswith(BOS) == (style != "chat")
    for sample, question in zip(samples, task.test, strict=False):
        text = renderer.prompt(prompts.solve_prompt("Add.", "number", question.question))
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")
        out = model.generate(**ids, max_new_tokens=8, do_sample=False)
        said = tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
        assert sample["response"] == said.split(prompts.NEXT_QUESTION)[0]


def test_stock_lm_eval_renders_a_chat_prompt_to_the_letter(student, tmp_path):
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager, get_task_dict
    from transformers import AutoModelForCausalLM, AutoTokenizer

    task = make_task()
    lm_eval_files.write_tasks([task], EvaluateArgs(shots=[2]), tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(student)
    lm = HFLM(pretrained=AutoModelForCausalLM.from_pretrained(student), tokenizer=tokenizer, backend="causal")
    manager = TaskManager(include_path=str(tmp_path / lm_eval_files.TASKS_FOLDER), include_defaults=False)
    (found,) = get_task_dict(["arte_sums_2shot"], manager).values()
    rendered = found.fewshot_context(
        found.eval_docs[0], 0, apply_chat_template=True, fewshot_as_multiturn=True, chat_template=lm.apply_chat_template
    )
    assert rendered == Renderer(tokenizer, "chat").prompt(lm_eval_files.question_rows(task, 2)[0]["prompt"])


def test_a_prompt_that_does_not_fit_is_refused_not_cut(student, tmp_path):
    args = make_args(max_new_tokens=2040)
    with pytest.raises(DataError, match="exceeds the student's context of 2048"):
        stage.evaluate([make_task()], [candidate(student)], args, {}, tmp_path)
