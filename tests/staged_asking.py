"""Models for strategies that are tested without one: what they answer is written down beforehand."""

import random
from dataclasses import dataclass, field

from arte_plugin.language import answers, prompts
from arte_plugin.rows import Attempt, content_id


@dataclass(frozen=True)
class Somebody:
    """A model's name; its replies lie with `StagedAsking`."""

    name: str
    renderer: object = None


@dataclass
class StagedAsking:
    """`plugs.Asking`: `replies` by (model, question)."""

    replies: dict = field(default_factory=dict)
    seed: int = 7
    stage: str = "regenerate"
    teacher: Somebody = Somebody("teacher")
    students: tuple = (Somebody("student"),)
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

    def rng(self, *parts):
        return random.Random("/".join([str(self.seed), *parts]))
