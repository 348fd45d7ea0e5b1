"""The two quickstart tasks: random questions, exact solvers, and a worked solution in each technique's style.

Boolean expressions look like those of Big-Bench-Hard; `kind_of_thing` asks whether a word names a fruit, an animal, a
tool, … Both are made here from a seed; no benchmark question is copied. `TASKS` is what other scripts use.
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


# --- Kind of thing -------------------------------------------------------------------------------------------------

#: What tells each kind from the others, and words of it. No word is of two kinds.
KINDS = {
    "fruit": (
        "grows on a plant and is sweet",
        "apple apricot banana blackberry blueberry cherry coconut cranberry date fig grape grapefruit kiwi lemon lime "
        "mango melon nectarine papaya peach pear pineapple plum pomegranate raspberry strawberry tangerine watermelon",
    ),
    "animal": (
        "is alive and moves by itself",
        "bear bird camel cat chicken cow deer dog dolphin donkey duck elephant fish fox frog giraffe goat horse "
        "kangaroo lion monkey mouse panda pig rabbit shark sheep snake squirrel tiger whale wolf zebra",
    ),
    "tool": (
        "is held in the hand to work with",
        "axe chisel crowbar drill hammer hatchet hoe knife ladder mallet nail pickaxe pliers rake rope ruler saw "
        "scissors screwdriver shovel sledgehammer spade spanner trowel wrench",
    ),
    "instrument": (
        "is played to make music",
        "accordion banjo bassoon bugle cello clarinet cymbal drum fiddle flute guitar harmonica harp horn "
        "keyboard mandolin oboe organ piano saxophone sitar tambourine trombone trumpet tuba ukulele violin xylophone",
    ),
    "vehicle": (
        "takes people from place to place",
        "aeroplane airplane ambulance bicycle bike boat bus cab canoe car ferry helicopter jeep lorry minibus moped "
        "motorbike motorcycle plane rocket scooter ship submarine taxi tractor train tram truck van yacht",
    ),
    "colour": (
        "is seen but has no shape",
        "beige black blue brown crimson cyan gold gray green grey indigo magenta maroon pink purple red scarlet silver "
        "teal turquoise violet white yellow",
    ),
}
#: More words of each kind, which a teacher may come up with: for the solver, in no question of ours.
ALSO = {
    "fruit": (
        "avocado boysenberry cantaloupe clementine currant dragonfruit durian elderberry gooseberry guava "
        "honeydew kumquat lychee mandarin mulberry olive passionfruit persimmon plantain prune quince raisin "
        "satsuma sultana tamarind"
    ),
    "animal": (
        "alligator alpaca ant antelope ape baboon badger bat beaver bee beetle bison buffalo bull butterfly "
        "calf cheetah chimpanzee cockroach coyote crab crocodile crow cub eagle eel elk falcon ferret fly "
        "foal gazelle gerbil goose gorilla hamster hawk hedgehog hen heron hippo hippopotamus hyena jackal "
        "jaguar kitten koala lamb leopard lizard llama lobster lynx mole moose moth newt octopus ostrich "
        "otter owl ox oyster panther parrot peacock pelican penguin pigeon pony poodle puppy raven rat rhino "
        "rhinoceros robin rooster salmon seal skunk sloth snail sparrow spider squid stork swan toad tortoise "
        "trout tuna turkey turtle walrus wasp weasel wombat worm"
    ),
    "tool": (
        "awl bolt broom brush bucket chainsaw clamp cleaver fork grinder hacksaw jigsaw ladle lathe machete "
        "mattock mop needle paintbrush pincers pitchfork razor sander screw scythe secateurs shears sickle "
        "spatula spoon stapler tomahawk tongs torch tweezers vice whisk"
    ),
    "instrument": (
        "bagpipe bagpipes bongo bongos castanets clavichord conga cornet didgeridoo dulcimer euphonium "
        "glockenspiel gong harpsichord kazoo lute lyre maracas marimba piccolo recorder synth synthesizer "
        "tabla theremin timpani vibraphone viola whistle zither"
    ),
    "vehicle": (
        "airship barge blimp camper caravan carriage cart catamaran chariot coach convertible dinghy glider "
        "gondola hatchback hovercraft jet kayak limo limousine locomotive metro minivan pickup raft rickshaw "
        "sailboat sedan shuttle sled sledge sleigh snowmobile spaceship speedboat steamer subway tandem tank "
        "tanker trawler tricycle trolley unicycle wagon zeppelin"
    ),
    "colour": (
        "amber aqua aquamarine azure burgundy cerise cobalt cream ebony fuchsia ivory khaki lavender lilac "
        "mauve mustard navy ochre rose ruby sapphire sepia tan taupe ultramarine umber vermilion"
    ),
}
KIND_OF = {word: kind for kind, (_, words) in KINDS.items() for word in f"{words} {ALSO[kind]}".split()}


def kind_question(rng: random.Random) -> str:
    kind = rng.choice(list(KINDS))
    return f"What kind of thing does the word {rng.choice(KINDS[kind][1].split())} name?"


def _word(question: str) -> str:
    found = re.fullmatch(r"What kind of thing does the word (\w+) name\?", question.strip())
    if not found:
        raise ValueError(f"not a question of kinds: {question!r}")
    if found[1] not in KIND_OF:
        raise ValueError(f"of no known kind: {found[1]!r}")
    return found[1]


def kind_solve(question: str) -> str:
    return KIND_OF[_word(question)]


def kind_rationale(question: str, technique: str) -> str:
    word = _word(question)
    kind = KIND_OF[word]
    what = KINDS[kind][0]
    answer = f"So the answer is <ans>{kind}</ans>"
    if technique == "step_by_step":
        return f"The word {word} names something that {what}.\nSomething that {what} is of the kind {kind}.\n{answer}"
    if technique == "split":
        return f"Part A: {word} {what}.\nPart B: what is such a thing? The kind is {kind}.\nTogether: {kind}.\n{answer}"
    if technique == "rule_first":
        return f"Rule: whatever {what} is of the kind {kind}.\nApplied: {word} is such a thing.\n{answer}"
    if technique == "solve_then_check":
        return f"{word}: {kind}. Check: {word} {what}.\n{answer}"
    raise ValueError(f"unknown technique: {technique}")


TASKS = {
    "boolean_expressions": Generator(
        "Work out the value of a Boolean expression made of True, False, not, and, or and brackets.",
        "boolean",
        boolean_question,
        boolean_solve,
        boolean_rationale,
    ),
    "kind_of_thing": Generator(
        "Say which kind of thing a word names: fruit, animal, tool, instrument, vehicle or colour.",
        "text",
        kind_question,
        kind_solve,
        kind_rationale,
    ),
}
