"""Rows of a small task, for tests of diagnostics; what asks nobody is given no model."""

import random

from arte_plugin.config.tasks import TaskArgs
from arte_plugin.data.tasks import Task
from arte_plugin.rows import Draft, PreferencePair, Question, TailoredExample, content_id


def questions(count, task="sums", split="test", target=lambda i: str(i + 1)):
    """Questions `1 + i`, of a split each with words of its own."""
    return [Question(f"{split}{i}", task, f"{split}: 1 + {i}", target(i)) for i in range(count)]


def a_task(name="sums", answer="number", seeds=3, validation=4, test=4):
    """A task with so many questions, or with these, in every split."""
    args = TaskArgs(name=name, description="Add.", answer=answer, questions={"path": "nowhere.jsonl"})
    wanted = {"seeds": seeds, "validation": validation, "test": test}
    made = [one if isinstance(one, list) else questions(one, name, split) for split, one in wanted.items()]
    return Task(args, *made, 0)


def a_draft(question, rationale, technique="split", target="2", answer=None, task="sums"):
    """A draft of `question`."""
    ids = content_id(task, question), content_id(task, question, technique)
    return Draft(ids[1], task, ids[0], question, target, technique, rationale, answer or target, "write", "solve")


def an_example(question, rationale="so <ans>2</ans>", target="2", answer=None, task="sums"):
    """A tailored example."""
    return TailoredExample(task, question, target, rationale, answer or target, "solve")


def a_pair(chosen, rejected, ids=None, level="rationale", task="sums"):
    """A preference pair; `ids` of what is chosen and rejected, otherwise those of its texts."""
    chosen_id, rejected_id = ids or (content_id(chosen), content_id(rejected))
    return PreferencePair(
        content_id(chosen, rejected), level, task, "solve", chosen, rejected, 0.6, 0.4, chosen_id, rejected_id
    )


class Offline:
    """Chance, and nobody to ask."""

    seed = 1

    def rng(self, *words):
        return random.Random("/".join(words))


def by_head(lines):
    """The lines of a table as dictionaries; every one has a cell for each column."""
    head, *rest = lines
    assert len(set(head)) == len(head) or head.count("95 % interval") > 1
    assert all(len(line) == len(head) for line in rest)
    return [dict(zip(head, line, strict=True)) for line in rest]
