"""The models as strategies reach them (`plugs.Asking`): cached, counted, shared among ranks, one loaded at a time.

Made of models, not of a stage: stage 3 has one with the teacher as it was, stage 6 one with the aligned teacher.
"""

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

from arte_plugin.config.probe import ProbeArgs
from arte_plugin.data.tasks import Task
from arte_plugin.engines.base import Completion, Likelihood, Reply, Request
from arte_plugin.errors import ConfigError
from arte_plugin.language import answers, prompts
from arte_plugin.models.likelihoods import ask_likelihoods
from arte_plugin.models.model import Model
from arte_plugin.models.probes import asking_again, judged, probe_request
from arte_plugin.models.student_replies import student_replies
from arte_plugin.plugs import Asked
from arte_plugin.rows import Attempt, Draft, PreferenceQuestion, Probe, Question, content_id


class ModelAsking:
    """`plugs.Asking` over models of this process (or served to it).

    `settings` say how students reply; a teacher's own answers may have `teacher_tokens`. `teacher`, and the one
    `before` its alignment where that is another, are made when they are asked for. Who is asked is closed as soon as
    somebody else is. Every rank must ask the same in the same order.
    """

    def __init__(
        self, students: Sequence[Model], teacher: Callable[[], Model], settings: ProbeArgs, teacher_tokens: int,
        seed: int, stage: str = "probe", before: Callable[[], Model] | None = None,
    ):  # fmt: skip
        self.students = students
        #: At hand; whoever calls a strategy once for each student sets it.
        self.student = students[0]
        self.seed = seed
        self.stage = stage
        #: All attempts that were asked for, by id, in that order.
        self.attempted: dict[str, Attempt] = {}
        self._teacher = teacher
        self._before = before
        self._settings = settings
        self._teacher_tokens = teacher_tokens
        self._last: Model | None = None

    @cached_property
    def teacher(self) -> Model:
        """Nothing of it is read before somebody asks for it."""
        return self._teacher()

    @cached_property
    def before(self) -> Model:
        """The same as `teacher`, where no other was given."""
        return self.teacher if self._before is None else self._before()

    @property
    def models(self) -> list[Model]:
        """All that may have been asked: their usage, and what is to be closed."""
        made = [vars(self)[key] for key in ("teacher", "before") if key in vars(self)]
        return [*self.students, *(one for place, one in enumerate(made) if one not in made[:place])]

    def probes(self, task: Task, cells: Sequence[tuple[Draft, PreferenceQuestion]]) -> list[Probe]:
        """See `plugs.Asking`."""
        student = self._turn(self.student)
        requests = [probe_request(task, draft, question, student, self._settings) for draft, question in cells]
        completions = student.ask(requests, f"probe {task.name}") if requests else []
        replies = student_replies(requests, completions, asking_again(task, student, self._settings))
        return [judged(task, *cell, student, reply) for cell, reply in zip(cells, replies, strict=True)]

    def attempts(
        self, who: Asked, task: Task, questions: Sequence[Question], *, samples: int = 0, temperature: float = 0.7,
        greedy: bool = True,
    ) -> list[Attempt]:  # fmt: skip
        """See `plugs.Asking`; question by question, of each its samples in their order."""
        model = self._turn(who)
        numbers = [*([0] if greedy else []), *range(1, samples + 1)]
        plan = [(question, number) for question in questions for number in numbers]
        if not plan:
            return []
        kind = task.args.answer
        taught = any(model is one for one in self.students)
        requests = [
            Request(
                prompt=model.renderer.asking(prompts.solve_prompt(task.args.description, kind, question.question)),
                group=f"{task.name}/attempt/{question.question_id}",
                max_new_tokens=self._settings.max_new_tokens if taught else self._teacher_tokens,
                temperature=temperature if number else 0.0,
                # Of its own for each question: under one seed for all, samples would err and succeed together.
                seed=self._number("attempt", task.name, question.question, str(number)) if number else 0,
                stop=prompts.RATIONALE_STOP,
                answer=kind,
                thought=model.renderer.thought,
            )
            for question, number in plan
        ]
        completions = [
            replace(one, text=model.renderer.said(one.text) or "")
            for one in model.ask(requests, f"attempts {task.name}")
        ]
        again = asking_again(task, model, self._settings) if taught else None
        made = []
        for (question, number), request, reply in zip(
            plan, requests, student_replies(requests, completions, again), strict=True
        ):
            answer, outcome = answers.judge(reply.text, question.target, kind)
            asked = (model.name, task.name, question.question_id, request.prompt, str(request.temperature), str(number))
            made.append(
                Attempt(
                    attempt_id=content_id(*asked),
                    who=model.name,
                    task=task.name,
                    question_id=question.question_id,
                    sample=number,
                    prompt=request.prompt,
                    response=reply.text,
                    answer=answer,
                    outcome=outcome,
                )
            )
        self.attempted |= {one.attempt_id: one for one in made}
        return made

    def likelihoods(self, who: Asked, replies: Sequence[Reply], what: str) -> list[Likelihood]:
        """See `plugs.Asking`."""
        model = self._turn(who)
        if model.served:
            raise ConfigError(
                f"{what}: {model.name} is run by a server, which doesn't tell how likely a reply is. Leave it out of "
                "`engine`, so that it is loaded in this process, or choose a strategy that needs no likelihoods."
            )
        return ask_likelihoods(model, replies, what) if replies else []

    def texts(
        self, who: Asked, prompts: Sequence[str], *, what: str, max_new_tokens: int, temperature: float = 0.0
    ) -> list[Completion]:
        """See `plugs.Asking`; a thought that comes first is left out. Equal prompts get samples of their own."""
        model = self._turn(who)
        before: Counter[str] = Counter()
        requests = []
        for text in prompts:
            requests.append(
                Request(
                    prompt=model.renderer.asking(text),
                    group=f"text/{content_id(text)}",
                    max_new_tokens=max_new_tokens,
                    temperature=temperature,
                    seed=self._number("text", str(before[text])) if temperature > 0 else 0,
                    thought=model.renderer.thought,
                )
            )
            before[text] += 1
        completions = model.ask(requests, what) if requests else []
        return [replace(one, text=model.renderer.said(one.text) or "") for one in completions]

    def rng(self, *parts: str) -> random.Random:
        """See `plugs.Asking`."""
        return random.Random("/".join([str(self.seed), *parts]))

    def _turn(self, who: Asked) -> Model:
        """Whose turn it is; the one before is let go."""
        if not isinstance(who, Model):
            raise TypeError(f"{who!r} is no model of this run")
        if self._last is not None and self._last is not who:
            self._last.close()
        self._last = who
        return who

    def _number(self, *parts: str) -> int:
        """A seed for one request, the same in every run and on every machine."""
        return int.from_bytes(hashlib.sha256("\0".join([str(self.seed), *parts]).encode()).digest()[:4], "big")
