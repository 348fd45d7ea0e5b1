"""The two quickstart tasks: random questions, exact solvers, and a worked solution in each technique's style.

Boolean expressions look like those of Big-Bench-Hard; `navigate` asks whether a walk ends where it began. Both are
made here from a seed; no benchmark question is copied. `TASKS` is what other scripts use.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass

TECHNIQUES = ("step_by_step", "split", "rule_first", "solve_then_check")


@dataclass(frozen=True)
class Generator:
    """A task: its description in the quickstart YAML, and how to make, solve and explain its questions.

    `solve` and `rationale` raise `ValueError` for a text that is not a question of the task.
    """

    description: str
    question: Callable[[random.Random], str]
    solve: Callable[[str], str]
    rationale: Callable[[str, str], str]


# --- Boolean expressions -------------------------------------------------------------------------------------------
# An expression is a nested tuple: True | False | ("not", e) | ("brackets", e) | ("and", l, r) | ("or", l, r).


def boolean_question(rng: random.Random) -> str:
    return f"{_show(_random_expression(rng, rng.choice((2, 3, 3, 3, 3))))} is"


def _random_expression(rng: random.Random, literals: int):
    if literals == 1:
        literal = rng.random() < 0.5
        roll = rng.random()
        if roll < 0.35:
            return ("not", literal)
        if roll < 0.4:
            return ("not", ("brackets", literal))
        return ("brackets", literal) if roll < 0.45 else literal
    left = rng.randint(1, literals - 1)
    operator = rng.choice(("and", "or"))
    sides = [_random_expression(rng, left), _random_expression(rng, literals - left)]
    # An inner `and`/`or` stands in brackets, but for some where the order of precedence says the same.
    bare = {"and"} if operator == "or" and rng.random() < 0.4 else set()
    sides = [("brackets", side) if _operator(side) in {"and", "or"} - bare else side for side in sides]
    sides = [("not", side) if _operator(side) == "brackets" and rng.random() < 0.2 else side for side in sides]
    return (operator, *sides)


def _operator(expression) -> str:
    return "literal" if isinstance(expression, bool) else expression[0]


def _show(expression) -> str:
    match expression:
        case bool():
            return str(expression)
        case ("not", inner):
            return f"not {_show(inner)}"
        case ("brackets", inner):
            return f"( {_show(inner)} )"
        case (operator, left, right):
            return f"{_show(left)} {operator} {_show(right)}"


def _value(expression) -> bool:
    match expression:
        case bool():
            return expression
        case ("not", inner):
            return not _value(inner)
        case ("brackets", inner):
            return _value(inner)
        case ("and", left, right):
            return _value(left) and _value(right)
        case ("or", left, right):
            return _value(left) or _value(right)


def _parse(question: str):
    text = question.strip().removesuffix("?").strip().removesuffix("is")
    tokens = re.findall(r"\(|\)|\w+|\S", text)
    expression, rest = _parse_or(tokens)
    if rest:
        raise ValueError(f"not a Boolean expression: {question!r}")
    return expression


def _parse_or(tokens):
    left, rest = _parse_and(tokens)
    while rest[:1] == ["or"]:
        right, rest = _parse_and(rest[1:])
        left = ("or", left, right)
    return left, rest


def _parse_and(tokens):
    left, rest = _parse_not(tokens)
    while rest[:1] == ["and"]:
        right, rest = _parse_not(rest[1:])
        left = ("and", left, right)
    return left, rest


def _parse_not(tokens):
    match tokens:
        case ["not", *rest]:
            inner, rest = _parse_not(rest)
            return ("not", inner), rest
        case ["(", *rest]:
            inner, rest = _parse_or(rest)
            if rest[:1] != [")"]:
                raise ValueError("a bracket is never closed")
            return ("brackets", inner), rest[1:]
        case [("True" | "False") as literal, *rest]:
            return literal == "True", rest
    raise ValueError(f"expected True, False, not or a bracket, found {tokens[:1]}")


def boolean_solve(question: str) -> str:
    return str(_value(_parse(question)))


def boolean_rationale(question: str, technique: str) -> str:
    expression = _parse(question)
    value = _value(expression)
    answer = f"So the answer is <ans>{value}</ans>"
    lines = _reductions(expression)
    if technique == "step_by_step":
        return "\n".join([lines[0], *(f"= {line}" for line in lines[1:]), answer])
    if technique == "split":
        operator = _operator(expression)
        if operator not in ("and", "or"):
            return f"There is one part.\nPart A: {_show(expression)} is {value}.\n{answer}"
        _, left, right = expression
        return (
            f"Part A: {_chain(left)}.\nPart B: {_chain(right)}.\n"
            f"Together: {_value(left)} {operator} {_value(right)} is {value}.\n{answer}"
        )
    if technique == "rule_first":
        return (
            f"Rule: brackets come first, then not, then and, then or.\n"
            f"Applied: {'; '.join(_operations(expression)) or f'{value} stays {value}'}.\n{answer}"
        )
    if technique == "solve_then_check":
        return f"{' -> '.join(lines)}. Check: {_check(expression)}.\n{answer}"
    raise ValueError(f"unknown technique: {technique}")


def _chain(expression) -> str:
    return " is ".join(_reductions(expression)) if len(_reductions(expression)) > 1 else f"it is {_show(expression)}"


def _reduce(expression):
    """The expression after its innermost operations have been carried out once, or a literal."""
    match expression:
        case bool():
            return expression
        case ("brackets" | "not", inner) if isinstance(inner, bool):
            return _value(expression)
        case ("brackets", ("and" | "or" | "not", *sides)) if all(isinstance(side, bool) for side in sides):
            return _value(expression)
        case ("brackets" | "not" as operator, inner):
            return (operator, _reduce(inner))
        case (_, bool(), bool()):
            return _value(expression)
        case (operator, left, right):
            return (operator, _reduce(left), _reduce(right))


def _reductions(expression) -> list[str]:
    lines = [_show(expression)]
    while not isinstance(expression, bool):
        expression = _reduce(expression)
        lines.append(_show(expression))
    return lines


def _operations(expression) -> list[str]:
    """Each operation with its operands worked out, innermost first: `True and False is False`."""
    match expression:
        case bool():
            return []
        case ("brackets", inner):
            return _operations(inner)
        case ("not", inner):
            return [*_operations(inner), f"not {_value(inner)} is {_value(expression)}"]
        case (operator, left, right):
            done = f"{_value(left)} {operator} {_value(right)} is {_value(expression)}"
            return [*_operations(left), *_operations(right), done]


def _check(expression) -> str:
    value = _value(expression)
    match expression:
        case ("and", left, right):
            need = "both sides are True" if value else "one side is False"
            return f"{_value(left)} and {_value(right)} is {value} because {need}"
        case ("or", left, right):
            need = "one side is True" if value else "both sides are False"
            return f"{_value(left)} or {_value(right)} is {value} because {need}"
    return f"nothing is left to work out, it is {value}"


# --- Navigate ------------------------------------------------------------------------------------------------------

NAVIGATE = "Do you return to the starting point?"
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "forward": (0, 1), "backward": (0, -1)}
OPPOSITE = {"left": "right", "right": "left", "forward": "backward", "backward": "forward"}


def navigate_question(rng: random.Random) -> str:
    if rng.random() < 0.5:
        # There and back: every move is undone by a later one, in one piece.
        out = [(rng.randint(1, 5), rng.choice(list(DIRECTIONS))) for _ in range(rng.choice((1, 2, 2, 2)))]
        back = [(steps, OPPOSITE[direction]) for steps, direction in out]
        if rng.random() < 0.5:
            back.reverse()
        moves = out + back
    else:
        moves = [(rng.randint(1, 5), rng.choice(list(DIRECTIONS))) for _ in range(rng.choice((2, 3, 3, 3, 4)))]
    return " ".join([*(_move(*move) for move in moves), NAVIGATE])


def _move(steps: int, direction: str) -> str:
    return f"Take {steps} {'step' if steps == 1 else 'steps'} {direction}."


def _moves(question: str) -> list[tuple[int, str]]:
    walk, asked, rest = question.strip().partition(NAVIGATE)
    if not asked or rest:
        raise ValueError(f"not a walk: {question!r}")
    moves = []
    for sentence in walk.strip().removesuffix(".").split("."):
        found = re.fullmatch(r"\s*Take (\d+) steps? (left|right|forward|backward)\s*", sentence)
        if not found:
            raise ValueError(f"not a move: {sentence!r}")
        moves.append((int(found[1]), found[2]))
    return moves


def _end(moves) -> tuple[int, int]:
    x = sum(steps * DIRECTIONS[direction][0] for steps, direction in moves)
    y = sum(steps * DIRECTIONS[direction][1] for steps, direction in moves)
    return x, y


def navigate_solve(question: str) -> str:
    return "Yes" if _end(_moves(question)) == (0, 0) else "No"


def navigate_rationale(question: str, technique: str) -> str:
    moves = _moves(question)
    end = _end(moves)
    answer = f"So the answer is <ans>{'Yes' if end == (0, 0) else 'No'}</ans>"
    verdict = "the start" if end == (0, 0) else "not the start"
    if technique == "step_by_step":
        lines = ["Start at (0, 0)."]
        for i, (steps, direction) in enumerate(moves, 1):
            lines.append(f"{steps} {direction}: {_point(_end(moves[:i]))}.")
        return "\n".join([*lines, f"The end {_point(end)} is {verdict}.", answer])
    if technique == "split":
        return (
            f"Part A, left and right: {_sum(moves, ('left', 'right'), 0)}.\n"
            f"Part B, forward and backward: {_sum(moves, ('forward', 'backward'), 1)}.\n"
            f"Together: the end is {_point(end)}, {verdict}.\n{answer}"
        )
    if technique == "rule_first":
        return (
            "Rule: you return if left equals right and forward equals backward.\n"
            f"Applied: {_balance(moves, 'left', 'right')}; {_balance(moves, 'forward', 'backward')}.\n{answer}"
        )
    if technique == "solve_then_check":
        back = [f"{abs(end[0])} {'left' if end[0] > 0 else 'right'}"] if end[0] else []
        back += [f"{abs(end[1])} {'backward' if end[1] > 0 else 'forward'}"] if end[1] else []
        check = f"to get back takes {' and '.join(back)}" if back else "every move is undone by another"
        listed = ", ".join(f"{steps} {direction}" for steps, direction in moves)
        return f"The moves {listed} end at {_point(end)}. Check: {check}, so it is {verdict}.\n{answer}"
    raise ValueError(f"unknown technique: {technique}")


def _point(point: tuple[int, int]) -> str:
    return f"({point[0]}, {point[1]})"


def _sum(moves, directions: tuple[str, str], axis: int) -> str:
    terms = [steps * DIRECTIONS[direction][axis] for steps, direction in moves if direction in directions]
    if not terms:
        return "none, so 0"
    shown = " ".join([str(terms[0]), *(f"{'+' if term > 0 else '-'} {abs(term)}" for term in terms[1:])])
    return f"{shown} = {sum(terms)}" if len(terms) > 1 else shown


def _balance(moves, one: str, other: str) -> str:
    totals = [[steps for steps, direction in moves if direction == side] for side in (one, other)]
    shown = [f"{' + '.join(map(str, t))} = {sum(t)}" if len(t) > 1 else str(sum(t)) for t in totals]
    verdict = "equal" if sum(totals[0]) == sum(totals[1]) else "not equal"
    return f"{one} {shown[0]}, {other} {shown[1]}, {verdict}"


TASKS = {
    "boolean_expressions": Generator(
        "Work out the value of a Boolean expression made of True, False, not, and, or and brackets.",
        boolean_question,
        boolean_solve,
        boolean_rationale,
    ),
    "navigate": Generator(
        "Say whether a walk, always facing forward, ends where it began: Yes or No.",
        navigate_question,
        navigate_solve,
        navigate_rationale,
    ),
}
