"""The two quickstart tasks: random questions, exact solvers, and a worked solution in each technique's style.

Boolean expressions look like those of Big-Bench-Hard; `object_counting` asks how many things somebody has. Both are
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
    #: How answers are read and compared: `answer` of the task in the YAML.
    answer: str
    question: Callable[[random.Random], str]
    solve: Callable[[str], str]
    rationale: Callable[[str, str], str]


# --- Boolean expressions -------------------------------------------------------------------------------------------
# An expression is a nested tuple: True | False | ("not", e) | ("brackets", e) | ("and", l, r) | ("or", l, r).


def boolean_question(rng: random.Random) -> str:
    return f"{_show(_random_expression(rng, rng.choice((2, 2, 2, 3, 3))))} is"


def _random_expression(rng: random.Random, literals: int):
    if literals == 1:
        literal = rng.random() < 0.5
        return ("not", literal) if rng.random() < 0.3 else literal
    left = rng.randint(1, literals - 1)
    operator = rng.choice(("and", "or"))
    sides = [_random_expression(rng, left), _random_expression(rng, literals - left)]
    # An inner `and`/`or` stands in brackets, but for some where the order of precedence says the same.
    bare = {"and"} if operator == "or" and rng.random() < 0.4 else set()
    sides = [("brackets", side) if _operator(side) in {"and", "or"} - bare else side for side in sides]
    sides = [("not", side) if _operator(side) == "brackets" and rng.random() < 0.15 else side for side in sides]
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


# --- Object counting -----------------------------------------------------------------------------------------------

KINDS = {
    "fruits": {"apple": "apples", "pear": "pears", "plum": "plums", "peach": "peaches", "lemon": "lemons"},
    "animals": {"cat": "cats", "dog": "dogs", "goat": "goats", "duck": "ducks", "rabbit": "rabbits"},
    "tools": {"hammer": "hammers", "saw": "saws", "drill": "drills", "spade": "spades", "rake": "rakes"},
    "instruments": {"drum": "drums", "flute": "flutes", "violin": "violins", "piano": "pianos", "harp": "harps"},
}


def counting_question(rng: random.Random) -> str:
    kind = rng.choice(list(KINDS))
    nouns = rng.sample(list(KINDS[kind]), rng.choice((2, 2, 3, 3)))
    things = [_things(rng.randint(1, 5), noun, KINDS[kind]) for noun in nouns]
    return f"I have {', '.join(things[:-1])} and {things[-1]}. How many {kind} do I have?"


def _things(number: int, noun: str, nouns: dict[str, str]) -> str:
    return f"{number} {noun if number == 1 else nouns[noun]}"


def _counted(question: str) -> tuple[str, list[tuple[int, str]]]:
    """The kind that is asked for, and its things: `[(2, "2 apples"), (1, "1 plum")]`."""
    found = re.fullmatch(r"I have (.+)\. How many (\w+) do I have\?", question.strip())
    if not found or found[2] not in KINDS:
        raise ValueError(f"not a question of counting: {question!r}")
    nouns = {noun for pair in KINDS[found[2]].items() for noun in pair}
    things = []
    for thing in re.split(r", and |, | and ", found[1]):
        number, _, noun = thing.partition(" ")
        if not number.isdecimal() or noun not in nouns:
            raise ValueError(f"not a number of {found[2]}: {thing!r}")
        things.append((int(number), thing))
    return found[2], things


def counting_solve(question: str) -> str:
    return str(sum(number for number, _ in _counted(question)[1]))


def counting_rationale(question: str, technique: str) -> str:
    kind, things = _counted(question)
    numbers = [number for number, _ in things]
    total = sum(numbers)
    added = f"{' + '.join(map(str, numbers))} = {total}"
    answer = f"So the answer is <ans>{total}</ans>"
    if technique == "step_by_step":
        lines = [f"Begin with {things[0][1]}: {numbers[0]}."]
        for i, (number, thing) in enumerate(things[1:], 1):
            lines.append(f"Add {thing}: {sum(numbers[:i])} + {number} = {sum(numbers[: i + 1])}.")
        return "\n".join([*lines, answer])
    if technique == "split":
        parts = [f"Part {chr(65 + i)}: {thing}." for i, (_, thing) in enumerate(things)]
        return "\n".join([*parts, f"Together: {added}.", answer])
    if technique == "rule_first":
        return f"Rule: the number of {kind} is the sum of the numbers of each of them.\nApplied: {added}.\n{answer}"
    if technique == "solve_then_check":
        back = [f"{sum(numbers[: i + 1])} - {numbers[i]} = {sum(numbers[:i])}" for i in range(len(numbers) - 1, 0, -1)]
        return f"There are {added} {kind}. Check: {', '.join(back) or total}, which leaves {things[0][1]}.\n{answer}"
    raise ValueError(f"unknown technique: {technique}")


TASKS = {
    "boolean_expressions": Generator(
        "Work out the value of a Boolean expression made of True, False, not, and, or and brackets.",
        "boolean",
        boolean_question,
        boolean_solve,
        boolean_rationale,
    ),
    "object_counting": Generator(
        "Count the things that somebody has.",
        "number",
        counting_question,
        counting_solve,
        counting_rationale,
    ),
}
