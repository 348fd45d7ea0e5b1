"""What the code that has a version number (`arte_plugin/versions.py`) makes of fixed inputs, and the digests of it.

`python -m tests.behaviour` enters the digests anew, once the number has been raised.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from arte_plugin import versions
from arte_plugin.config.arms import ARMS
from arte_plugin.config.elicit import ElicitArgs
from arte_plugin.config.pair import PairArgs
from arte_plugin.config.preference_set import PreferenceSetArgs
from arte_plugin.config.probe import RacingArgs
from arte_plugin.config.regenerate import RegenerateArgs
from arte_plugin.config.tasks import TaskArgs
from arte_plugin.data.tasks import Task
from arte_plugin.engines.base import Completion
from arte_plugin.language import answers, prompts
from arte_plugin.language.question_tags import parse_questions
from arte_plugin.language.rendering import Renderer
from arte_plugin.models.model import Model
from arte_plugin.models.request_cache import RequestCache
from arte_plugin.rows import Draft, Question, Response, as_json
from arte_plugin.stages import choosing, irt, racing
from arte_plugin.stages.elicit import elicit
from arte_plugin.stages.pairing import pair
from arte_plugin.stages.tailoring import Teachers, regenerate
from arte_plugin.strategies.pairs import render_pair
from tests.tiny import tiny_model

ROOT = Path(__file__).parents[1]
FILE = ROOT / "tests/data/behaviour.json"
LABELLED = ROOT / "benchmarks/answers/labelled.jsonl"
WRITTEN = ROOT / "benchmarks/answers/forms.jsonl"

KINDS = ("choice", "boolean", "number", "text")
FORMS = [
    "<ans>(B)</ans>", "<ans>B</ans>", "The answer is (B).", "<ans> 1,234.50 </ans>", "<ans>True", "yes", "no.",
    "Put it between <ans> and </ans>.", "<ans>not (A)</ans>", "So 3 + 4 = 7. <ans>3 + 4 = 7</ans>", "<ans></ans>",
    "<ans>(A)</ans>\nQuestion: and now? <ans>(C)</ans>", "The answer is A or B.", "**Answer: False**", "",
]  # fmt: skip
REPLIES = [
    "<Question_4><input>2 + 5</input><target>7</target></Question_4>",
    "<Question_4><input>2 + 5</input><target>7</target></Question_4>\n<Question_5><input>1 + 1",
    "<input>6 + 1<target>7</target>", "<Question_4><input></input><target>7</target>", "nothing", "<input>a</inp",
]  # fmt: skip


def reading() -> Any:
    """Answers of every kind in every form, the labelled file, and written questions."""
    labelled, written = (
        [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] for file in (LABELLED, WRITTEN)
    )
    return {
        "extract": [answers.extract(form, kind) for form in FORMS for kind in KINDS],
        "tagged": [answers.tagged(form, kind) for form in FORMS for kind in KINDS],
        "written": [answers.extract(row["response"], row["kind"]) for row in written],
        "labelled": [answers.judge(row["response"], row["target"], row["kind"]) for row in labelled],
        "questions": [[[asdict(q) for q in made], lost] for made, lost in map(parse_questions, REPLIES)],
    }


def rendering() -> Any:
    """A prompt, a reply and a pair, with a chat template and without."""
    from transformers import AutoTokenizer

    from arte_plugin.strategies.tailored import tokenize

    made = []
    for chat in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            tokenizer = AutoTokenizer.from_pretrained(tiny_model(Path(folder), chat_template=chat))
        renderer = Renderer(tokenizer, "auto")
        made.append(
            {
                "prompt": renderer.prompt("Add 1 and 1."),
                "prefilled": renderer.prompt("Add 1 and 1.", "It is"),
                "completion": renderer.completion(" It is 2. "),
                "tokens": tokenize(renderer, "Add 1 and 1.", "It is 2."),
                "pair": render_pair({"prompt": "Add.", "chosen": "2", "rejected": "3"}, tokenizer, "auto"),
            }
        )
    return made


def _task() -> Task:
    args = TaskArgs(name="sums", description="Add up.", questions={"path": "unread.jsonl"}, answer="number")
    questions = [Question(f"s{i}", "sums", f"What is {i} + {i}?", str(2 * i)) for i in range(12)]
    return Task(args, questions[:4], questions[4:8], questions[8:], 0)


def _drafts() -> tuple[list[Draft], dict[str, float]]:
    drafts, scores = [], {}
    for q in range(8):
        for t in range(4):
            name = f"q{q}-t{t}"
            asked = prompts.question_prompt("Add up.", [("1 + 1", "2")] * 3, 5)
            solve = prompts.solve_prompt("Add up.", "number", f"{q} + {t}")
            reply = f"By way {t}: <ans>{q}</ans>"
            drafts.append(Draft(name, "sums", f"q{q}", f"{q} + 0", str(q), f"t{t}", reply, str(q), asked, solve))
            scores[name] = (3 * q + 5 * t) % 11 / 10
    return drafts, scores


def pairs() -> Any:
    """Pairs of both levels, ties among the scores."""
    made, dropped = pair(*_drafts(), PairArgs(question_pairs=3), 42, lambda prompt, completion: "q7" not in completion)
    return [list(map(as_json, made)), list(map(as_json, dropped))]


def chosen_questions() -> Any:
    """A preference set by each method, of a matrix with columns that all answer alike."""
    rng = np.random.default_rng(5)
    questions = [Question(f"v{i:02d}", "sums", f"{i} + 1", str(i + 1)) for i in range(24)]
    correct = rng.random((8, 24)) < np.linspace(0.1, 0.9, 24)
    correct[:, 3], correct[:, 17] = True, False
    responses = [
        Response(f"r{r} {r % 4}-shot", r % 4, "sums", q.question_id, "", "", "correct" if correct[r, i] else "wrong")
        for r in range(8)
        for i, q in enumerate(questions)
    ]
    of_method = {
        method: [
            row.preference_id
            for row in choosing.choose(questions, responses, PreferenceSetArgs(method=method, size=9), 42)[0]
        ]
        for method in ("irt", "random", "all")
    }
    return [of_method, [round(float(one), 2) for one in irt.fit(correct).discrimination]]


def raced() -> Any:
    """Which probes racing asks for."""
    rng = np.random.default_rng(7)
    outcome = {(f"q{q}-t{t}", f"p{i}"): bool(rng.random() < 0.5) for q in range(6) for t in range(3) for i in range(12)}
    question_of = {draft: draft.partition("-")[0] for draft, _ in outcome}
    asked: list[Any] = []

    def ask(cells: Any) -> list[bool]:
        asked.append(list(cells))
        return [outcome[cell] for cell in cells]

    settings = RacingArgs(first=3, step=2, share=0.6)
    racing.race(question_of, [f"p{i}" for i in range(12)], settings, 0.25, "seed", ask)
    return asked


class _Echo:
    """A teacher that always has an answer, another one for each prompt."""

    def generate(self, batch: Any, keep: Any = None) -> list[Completion]:
        return [Completion(self._reply(one.prompt, one.seed), "stop", 1, 1) for one in batch]

    def _reply(self, prompt: str, seed: int) -> str:
        number = int(hashlib.sha256(f"{prompt}{seed}".encode()).hexdigest()[:4], 16) % 90
        if "new questions" not in prompt:
            return "I can't tell." if number % 7 == 0 else f"It is {number}. <ans>{number}</ans>"
        return "".join(prompts.tagged_question(i, f"{number} + {i}", str(number + i)) for i in range(4, 7))

    def report(self) -> str:
        return ""

    def close(self) -> None:
        pass


def _teacher(folder: str, name: str) -> Model:
    renderer = SimpleNamespace(
        style="plain", thought=None, asking=lambda text, prefill="": f"{text} {prefill}", said=lambda text: text,
        special_strings_in=lambda text: [],
    )  # fmt: skip
    cache = RequestCache(Path(folder) / "requests.sqlite")
    return Model(name, {"model": name}, renderer, _Echo, cache, 4, 10.0)  # type: ignore[arg-type]


def elicited() -> Any:
    """Drafts of a teacher that sometimes gives no answer."""
    with tempfile.TemporaryDirectory() as folder:
        teacher = _teacher(folder, "teacher")
        made, dropped, _ = elicit(_task(), teacher, ElicitArgs(questions=6), 42)
        teacher.cache.close()
    return [list(map(as_json, made)), list(map(as_json, dropped))]


def regenerated() -> Any:
    """Two arms' examples, of the same teacher before and after."""
    arms = {name: ARMS[name] for name in ("arte", "original_teacher", "rationale_only")}
    with tempfile.TemporaryDirectory() as folder:
        teachers = Teachers(_teacher(folder, "aligned"), _teacher(folder, "unaligned"))
        settings, asking = RegenerateArgs(questions=4), ElicitArgs()
        [made] = regenerate([_task()], teachers, arms, *_drafts(), settings, asking, 42)
        teachers.aligned.cache.close()
    return {arm: [as_json(row) for row in made.examples[arm]] for arm in arms}


#: What is held against a digest: where its version stands, and the behaviour.
BEHAVIOUR: dict[str, tuple[Callable[[], int], Callable[[], Any]]] = {
    "READING": (lambda: versions.READING, reading),
    "RENDERING": (lambda: versions.RENDERING, rendering),
    'STAGES["elicit"]': (lambda: versions.STAGES["elicit"], elicited),
    'STAGES["preference-set"]': (lambda: versions.STAGES["preference-set"], chosen_questions),
    'STAGES["probe"]': (lambda: versions.STAGES["probe"], raced),
    'STAGES["pair"]': (lambda: versions.STAGES["pair"], pairs),
    'STAGES["regenerate"]': (lambda: versions.STAGES["regenerate"], regenerated),
}


def digest(name: str) -> str:
    """SHA-256 of what the code behind a version makes of its fixed inputs, shortened."""
    content = json.dumps(BEHAVIOUR[name][1](), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def committed() -> dict[str, list[Any]]:
    """Version and digest by name."""
    return json.loads(FILE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    lines = [f"  {json.dumps(name)}: {json.dumps([now(), digest(name)])}" for name, (now, _) in BEHAVIOUR.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{FILE.relative_to(ROOT)} is as the code is.")
