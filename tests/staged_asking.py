"""Models for strategies that are tested without one: what they answer is written down beforehand."""

import random
from dataclasses import dataclass, field

from arte_plugin.engines.base import Likelihood
from arte_plugin.language import answers, prompts
from arte_plugin.rows import Attempt, content_id


@dataclass(frozen=True)
class Bare:
    """A renderer for a model without a chat template."""

    def prompt(self, text, prefill=""):
        return text + (" " + prefill if prefill else "")


@dataclass(frozen=True)
class Somebody:
    """A model's name; its replies lie with `StagedAsking`."""

    name: str
    renderer: object = Bare()


@dataclass
class StagedAsking:
    """`plugs.Asking`: `replies` by (model, question)."""

    replies: dict = field(default_factory=dict)
    seed: int = 7
    stage: str = "regenerate"
    teacher: Somebody = Somebody("teacher")
    students: tuple = (Somebody("student"),)
    #: Log-probability of a reply's text, by (model, text).
    weights: dict = field(default_factory=dict)
    #: Whom it was asked for, and how much.
    asked: list = field(default_factory=list)

    @property
    def student(self):
        return self.students[0]

    def attempts(self, who, task, questions, *, samples=0, temperature=0.7):
        self.asked.append((who.name, task.name, len(questions)))
        found = []
        for question in questions:
            response = self.replies.get((who.name, question.question), "no idea")
            answer, outcome = answers.judge(response, question.target, task.args.answer)
            prompt = prompts.solve_prompt(task.args.description, task.args.answer, question.question)
            name = content_id(who.name, question.question_id, "0")
            found.append(Attempt(name, who.name, task.name, question.question_id, 0, prompt, response, answer, outcome))
        return found

    def likelihoods(self, who, replies, what):
        self.asked.append((who.name, what, len(replies)))
        return [Likelihood(self.weights[who.name, reply.text], 2, 9) for reply in replies]

    def rng(self, *parts):
        return random.Random("/".join([str(self.seed), *parts]))
