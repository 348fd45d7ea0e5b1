"""What `arte validate` says of prompts: how each model is asked, and what to look at before a run."""

from collections import Counter
from collections.abc import Iterator, Sequence

from arte_plugin.data.tasks import Task
from arte_plugin.language import prompts
from arte_plugin.models.prompt_style import Asked

#: In front of every line of a prompt or a reply.
SHOWN = "  | "


def prompt_lines(asked: Sequence[Asked], tasks: Sequence[Task], show: bool = False) -> Iterator[str]:
    """A line for each model, and what is unusual about it; with `show`, a prompt and a reply as it sees them."""
    for one in asked:
        renderer = one.renderer
        yield f"{one.role} {one.name}: {renderer.style} prompts, {one.reason}"
        told = renderer.template.kwargs if renderer.template else {}
        if told:
            yield f"  its chat template is given {', '.join(f'{key}: {value}' for key, value in told.items())}"
        if renderer.thought:
            most, end = renderer.thought.max_tokens, renderer.thought.end
            yield f"  it thinks first, in {most:,} tokens at most; all up to {end} is cut off and not trained on"
        elif renderer.template and renderer.template.opening:
            yield f"  its prompts end in {renderer.template.opening!r}, so that a reply follows at once"
        yield from (f"  note: {warning}" for warning in one.warnings)
        for task in tasks:
            yield from (f"  note: {line}" for line in _special_strings(one, task))
        if show:
            yield from _example(one, tasks[0])


def special_string_lines(asked: Sequence[Asked], tasks: Sequence[Task]) -> Iterator[str]:
    """Which model is shown which task's texts otherwise than they are written."""
    return (f"{one.name}: {line}" for one in asked for task in tasks for line in _special_strings(one, task))


def _special_strings(one: Asked, task: Task) -> Iterator[str]:
    texts = [task.args.description, *(q.question for rows in task.splits().values() for q in rows)]
    found = [held for text in texts if (held := one.renderer.special_strings_in(text))]
    if not found:
        return
    strings = Counter(string for held in found for string in held)
    [(first, _)] = strings.most_common(1)
    yield (
        f"{task.name}: {len(found)} texts hold {', '.join(strings)}, tokens of this model; it is shown text in "
        f"their place, such as {first[0]} {first[1:]}"
    )


def _example(one: Asked, task: Task) -> Iterator[str]:
    rows = next((rows for rows in task.splits().values() if rows), None)
    question = rows[0].question if rows else "1 + 1"
    text = prompts.solve_prompt(task.args.description, task.args.answer, question)
    reply = one.renderer.completion("So it is. <ans>…</ans>")
    if one.renderer.thought:
        yield "  it is asked with:"
        yield from _indented(one.renderer.asking(text))
    yield "  it is trained on:" if one.renderer.thought else "  as it is asked, trained and tested:"
    yield from _indented(one.renderer.prompt(text) + "▶" + reply + "◀")


def _indented(text: str) -> Iterator[str]:
    return (f"{SHOWN}{line}" for line in text.split("\n"))
