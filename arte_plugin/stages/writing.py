"""The teacher at work: new questions until there are enough, and rationales for them. Shared by stages 1 and 6."""

import hashlib
import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from arte_plugin.config.elicit import ElicitArgs
from arte_plugin.config.tasks import AnswerType
from arte_plugin.data.same_question import comparable, strictly, targets_an_option
from arte_plugin.data.tasks import Task
from arte_plugin.engines.base import Completion, Request
from arte_plugin.errors import TeacherError
from arte_plugin.language import answers, prompts
from arte_plugin.language.question_tags import begun_before, parse_questions
from arte_plugin.models.model import Model
from arte_plugin.rows import Dropped, content_id

#: Questions asked for without a single usable one after which a teacher is given up.
HOPELESS = 40

#: Longest answer, in tokens, to what `elicit.prefill` puts behind a rationale.
ANSWER_TOKENS = 64


@dataclass(frozen=True)
class NewQuestion:
    """A question that the teacher wrote, the answer that it claims, and what it saw and had written before it."""

    question_id: str
    question: str
    target: str
    prompt: str
    #: What stood before it in the teacher's reply.
    begun: str = ""


def write_questions(
    task: Task, teacher: Model, settings: ElicitArgs, *, wanted: int, temperature: float, max_new_tokens: int,
    stage: str, seed: int,
) -> tuple[list[NewQuestion], list[Dropped], list[int]]:  # fmt: skip
    """Ask for questions, wave after wave, until `wanted` are there (paper, section 3.1).

    With what was kept and what was dropped, how many questions each reply held that could be read.
    Raises `TeacherError` when nothing usable has come after a bounded number of calls.
    """
    per_call = settings.questions_per_prompt
    hopeless = math.ceil(HOPELESS / per_call)
    most_calls = max(hopeless, settings.max_calls * math.ceil(wanted / per_call))
    taken = task.taken()
    kept: list[NewQuestion] = []
    dropped: list[Dropped] = []
    replies: list[str] = []
    held: list[int] = []
    while len(kept) < wanted and len(replies) < most_calls:
        if len(replies) >= hopeless and not kept:
            break
        wave_calls = first_wave(wanted - len(kept), per_call)
        wave = range(len(replies), min(len(replies) + wave_calls, most_calls))
        asked = question_requests(
            task, teacher, settings, wave,
            temperature=temperature, max_new_tokens=max_new_tokens, stage=stage, seed=seed,
        )  # fmt: skip
        what = f"{stage} {task.name}: questions ({len(kept)}/{wanted})"
        completions = teacher.ask([request for _, _, request in asked], what)
        for call, (text, prefill, _), completion in zip(wave, asked, completions, strict=True):
            replies.append(prefill + completion.text)
            source = f"call {call}"
            said = teacher.renderer.said(completion.text)
            if said is None:
                dropped.append(Dropped(stage, "question_thought_unfinished", task.name, source, completion.text))
                held.append(0)
                continue
            parsed, rejected = parse_questions(prefill + said)
            held.append(len(parsed))
            dropped += [Dropped(stage, f"question_{reason}", task.name, source, bad) for reason, bad in rejected]
            for new, begun in zip(parsed, begun_before(prefill + said), strict=True):
                key = comparable(new.question)
                reason = None
                if answers.normalise(new.target, task.args.answer) is None:
                    reason = "bad_target"
                elif not targets_an_option(new.question, new.target, task.args.answer):
                    reason = "target_is_no_option"
                elif teacher.renderer.special_strings_in(new.question + new.target):
                    reason = "question_with_special_string"
                elif key in taken:
                    reason = "duplicate" if taken[key] == "new" else f"repeats_{taken[key]}"
                elif len(kept) == wanted:
                    reason = "surplus"
                if reason:
                    dropped.append(Dropped(stage, reason, task.name, source, f"{new.question} -> {new.target}"))
                    continue
                taken[key] = "new"
                name = content_id(task.name, strictly(new.question))
                kept.append(NewQuestion(name, new.question, new.target, text, begun))
    if not kept:
        raise TeacherError(_nothing_usable(task, teacher, replies, dropped, settings))
    return kept, dropped, held


def first_wave(wanted: int, per_call: int) -> int:
    """How many calls are made at once for `wanted` questions.

    A quarter more than would do if every question were usable: a wave takes as long as its longest reply.
    """
    return math.ceil(1.25 * wanted / per_call)


def question_requests(
    task: Task, teacher: Model, settings: ElicitArgs, calls: Sequence[int], *, temperature: float, max_new_tokens: int,
    stage: str, seed: int,
) -> list[tuple[str, str, Request]]:  # fmt: skip
    """For each of `calls` the question prompt as a text, how its reply is begun, and the request."""
    per_call = settings.questions_per_prompt
    found = []
    for call in calls:
        seeds = _seeds(task, settings, stage, seed, call)
        text = prompts.question_prompt(task.args.description, [(q.question, q.target) for q in seeds], per_call)
        prefill = prompts.question_prefill(len(seeds)) if settings.prefill else ""
        request = Request(
            prompt=teacher.renderer.asking(text, prefill),
            group=f"{task.name}/{stage}/{call}",
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            seed=_number(seed, task.name, stage, "questions", str(call)),
            thought=teacher.renderer.thought,
        )
        found.append((text, prefill, request))
    return found


def write_rationales(
    task: Task, teacher: Model, asks: Sequence[tuple[str, str]], *, temperature: float, max_new_tokens: int,
    prefill: bool, stage: str, seed: int,
) -> tuple[list[tuple[str, str] | None], list[Dropped]]:  # fmt: skip
    """A rationale for each of `asks`, `(id, prompt)` pairs, as `(rationale, answer)`, or None where none came of it.

    With `prefill`, a rationale that ended without an answer is asked for it: the second prompt of zero-shot chain of
    thought (Kojima et al., 2022, section 3.1). Raises `TeacherError` when nothing usable has come at all.
    """

    def ask(
        begun: Mapping[str, str], longest: int, stop: tuple[str, ...], answer: AnswerType | None, what: str
    ) -> dict[str, Completion]:
        """The rest of each reply, by id; `begun` holds the ids and how their replies begin."""
        requests = [
            Request(
                prompt=teacher.renderer.asking(texts[name], beginning),
                group=f"{task.name}/{stage}/{name}",
                max_new_tokens=longest,
                temperature=temperature,
                seed=_number(seed, task.name, stage, "rationale", name),
                stop=stop,
                answer=answer,
                thought=None if beginning else teacher.renderer.thought,
            )
            for name, beginning in begun.items()
        ]
        completions = teacher.ask(requests, f"{stage} {task.name}: {what}")
        return dict(zip(begun, completions, strict=True))

    texts = dict(asks)
    kind = task.args.answer
    replies = ask(dict.fromkeys(texts, ""), max_new_tokens, prompts.RATIONALE_STOP, kind, "rationales")
    said = {name: teacher.renderer.said(reply.text) for name, reply in replies.items()}
    rationales = {name: (text or "").split(prompts.NEXT_QUESTION)[0].strip() for name, text in said.items()}
    if prefill:
        begun = {
            name: rationale + prompts.ANSWER_PREFILL
            for name, rationale in rationales.items()
            if rationale and replies[name].finish == "stop" and prompts.ANSWER_BEGIN not in rationale
        }
        for name, reply in ask(begun, ANSWER_TOKENS, prompts.ANSWER_STOP, None, "answers").items() if begun else ():
            rationales[name] = begun[name] + prompts.closed_answer(reply.text)
    written: list[tuple[str, str] | None] = []
    dropped: list[Dropped] = []
    for name, rationale in rationales.items():
        answer = answers.tagged(rationale, task.args.answer)
        if said[name] is None:
            reason, rationale = "rationale_thought_unfinished", replies[name].text
        elif teacher.renderer.special_strings_in(rationale):
            reason = "rationale_with_special_string"
        elif answer is not None:
            written.append((rationale, answer))
            continue
        else:
            reason = "rationale_truncated" if replies[name].finish == "length" else "rationale_without_answer"
        dropped.append(Dropped(stage, reason, task.name, name, rationale))
        written.append(None)
    if len(dropped) == len(asks):
        raise TeacherError(_no_rationale(task, teacher, dropped, prefill))
    return written, dropped


def _seeds(task: Task, settings: ElicitArgs, stage: str, seed: int, call: int):
    count = min(settings.seeds_per_prompt, len(task.seeds))
    return random.Random(f"{seed}/{task.name}/{stage}/seeds/{call}").sample(task.seeds, count)


def _number(seed: int, *parts: str) -> int:
    """A seed for one request, the same in every run and on every machine."""
    return int.from_bytes(hashlib.sha256("\0".join([str(seed), *parts]).encode()).digest()[:4], "big")


def _nothing_usable(
    task: Task, teacher: Model, replies: list[str], dropped: list[Dropped], settings: ElicitArgs
) -> str:
    return (
        f"Task {task.name}: the teacher {teacher.name} wrote no usable question in {len(replies)} calls "
        f"({_reasons(dropped)}). {_remedy(teacher, dropped, settings.prefill)} Its first reply was:\n"
        f"{_excerpt(replies[0])}"
    )


def _no_rationale(task: Task, teacher: Model, dropped: list[Dropped], prefill: bool) -> str:
    return (
        f"Task {task.name}: none of the {len(dropped)} rationales of the teacher {teacher.name} ends in <ans>…</ans> "
        f"with an answer of the type {task.args.answer} ({_reasons(dropped)}). {_remedy(teacher, dropped, prefill)} "
        "If only the aligned teacher fails, lower its learning rate. The first rationale was:\n"
        f"{_excerpt(dropped[0].text)}"
    )


def _reasons(dropped: list[Dropped]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in Counter(row.reason for row in dropped).most_common())


def _remedy(teacher: Model, dropped: list[Dropped], prefill: bool) -> str:
    if teacher.renderer.thought:
        if any(row.reason.endswith("thought_unfinished") for row in dropped):
            return "Raise `arte.teacher.reasoning_tokens`, or set `arte.teacher.reasoning: false`."
        return "Try a larger teacher."
    return "Try a larger teacher." if prefill else "A small teacher may need `arte.elicit.prefill: true`."


def _excerpt(text: str) -> str:
    return text if len(text) <= 600 else text[:600] + "…"
