"""A plan as it is shown at the terminal."""

from collections.abc import Iterator, Mapping, Sequence

from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.signals import signal_lines
from arte_plugin.plan.make import Plan, serves
from arte_plugin.plan.memory import GIB, Need
from arte_plugin.plan.rates import Rate
from arte_plugin.plan.sizes import Measured
from arte_plugin.plan.totals import UNREADABLE
from arte_plugin.plan.work import Work
from arte_plugin.show.tables import Lines, format_table, wrap
from arte_plugin.training.teacher_recipe import as_line

#: GiB of the GPUs that there are.
CARDS = (8, 12, 16, 24, 32, 40, 48, 64, 80, 96, 141, 180)
#: What CUDA keeps for itself, in GiB, and the share that is lost between the pieces of memory.
CONTEXT, LOST = 0.7, 0.05


def as_text(plan: Plan, args: ArteArgs) -> str:
    """The tables of calls, memory and disk, what was assumed, and what it comes to."""
    tables = [
        call_lines(plan.works, plan.rates),
        *([memory_lines(plan.needs)] if plan.needs else []),
        disk_lines(plan.disk),
    ]
    notes = "\n".join(wrap(f"- {note}", "  ") for note in (*assumed(plan, args), *plan.missing))
    return "\n\n".join([*map(format_table, tables), notes, wrap(closing(plan))]) + "\n"


def call_lines(works: Sequence[Work], rates: Mapping[str, Rate]) -> Lines:
    """A line for each kind of call."""
    lines: Lines = [
        ["stage", "what", "who", "calls", "prompt tokens", "computed", "new tokens", "at most", "GPU-hours"]
    ]
    for one in works:
        tokens = [_count(figure) for figure in (one.asked, one.computed, one.new, one.most)]
        lines.append([one.stage, one.what, one.who, f"{one.calls:,.0f}", *tokens, _figure(one.hours(rates[one.who]))])
    totals = [_count(sum(getattr(one, key) for one in works)) for key in ("asked", "computed", "new", "most")]
    hours = sum(one.hours(rates[one.who]) for one in works)
    return [*lines, ["all", "", "", f"{sum(one.calls for one in works):,.0f}", *totals, _figure(hours)]]


def memory_lines(needs: Sequence[Need]) -> Lines:
    """A line for each step; figures are GiB of one device."""
    lines: Lines = [["GiB of a GPU", "model", "weights", "kept", "beside", "in all", "tokens", "at most", "tokens"]]
    for one in needs:
        figures = [f"{figure / GIB:.1f}" for figure in (one.weights, one.kept, one.usual, one.total, one.most)]
        usual, longest = (f"{tokens:,}" for tokens in one.tokens)
        # Whose it is and where it lies takes half of a line, and stands in the YAML.
        name = one.model.rstrip("/").rpartition("/")[2]
        lines.append([one.step, name, *figures[:4], usual, figures[4], longest])
    return lines


def disk_lines(disk: Mapping[str, float]) -> Lines:
    """A line for each large file."""
    lines: Lines = [["on disk", "about"]]
    lines += [[what, weight(size)] for what, size in disk.items() if size >= 1e6]
    return [*lines, ["all", weight(sum(disk.values()))]]


def assumed(plan: Plan, args: ArteArgs) -> Iterator[str]:
    """What the figures rest on."""
    found = plan.found
    first = found.tasks[0]
    yield f"Lengths of prompts: {_lengths(found)}."
    yield (
        f"Assumed: {first.teacher.rationale:.0f} tokens for a rationale, {first.student.reply:.0f} for a student's "
        "reply, and that no question has to be asked for again. `at most`: every reply as long as it may be."
    )
    if line := as_line(args.recipe):
        yield f"{line[0].upper()}{line[1:]}."
    if plan.float32_students:
        yield (
            "Students are planned with float32 weights. On a GPU that these don't fit they are trained in bfloat16, in "
            "half the memory (docs/recipes.md, The student's precision)."
        )
    if plan.engine:
        yield f"{plan.engine[0].upper()}{plan.engine[1:]}."
    for line in signal_lines(args.chosen_signals):
        yield f"{line[0].upper()}{line[1:]}."
    if args.probe.ask_again:
        yield f"Assumed: {100 * UNREADABLE:.0f} % of a student's replies have no answer, and are asked for it."
    if args.elicit.prefill:
        yield "`elicit.prefill` adds a short call for each rationale that ends without an answer."
    if args.teacher.reasoning is True:
        most = f"{args.teacher.reasoning_tokens:,}"
        yield f"Not counted: thoughts, of up to {most} tokens before each of the teacher's replies."
    of = ", ".join(f"{who} {rate}" for who, rate in plan.rates.items())
    yield (
        f"Assumed tokens a second of one GPU with 80 GB, of prompts and of replies: {of}. `--teacher-rates`, "
        "`--student-rates` for yours (docs/plan.md). Training is not in the GPU-hours."
    )
    if args.evaluate.benchmarks:
        yield "`evaluate.benchmarks` are not counted."
    if args.rounds > 1:
        yield f"Calls and disk are of all {args.rounds} rounds; they may end earlier."
        if args.keep_examples:
            yield "Each round's students are fine-tuned on the examples of all rounds so far."
    for role in ("teacher", "student"):
        if serves(args, role):
            yield f"A server runs the {role}: what that holds, its command says."
    if plan.needs:
        yield (
            "Memory: what PyTorch allocates, by counting what a real step on tensors without data would hold. `kept`: "
            "adapter, optimizer, reference model; `beside`: activations, logits, gradients, keys and values."
        )
    if any(one.fills for one in plan.needs):
        fills = ", ".join(one.step for one in plan.needs if one.fills)
        yield (
            f"Keys and values are counted as 4 GiB ({fills}); a GPU with more room holds more of them, up to 60 % of "
            "what is free, unless `engine.cache_gib` says how much."
        )


def _lengths(found: Measured) -> str:
    tasks, means = len(found.tasks), "means over Big-Bench-Hard"
    if found.read == 0:
        return f"{means}, for no task has its questions in local files"
    without = ", ".join(found.without_tokenizer)
    if len(found.without_tokenizer) == found.models:
        return f"{means}, for there is no tokenizer here of {without}"
    measured = f"measured on the questions of {found.read} of {tasks} tasks"
    measured += f", of the others {means}" if found.read < tasks else ""
    return f"{measured}; {means} for {without}, of which there is no tokenizer here" if without else measured


def closing(plan: Plan) -> str:
    """Which GPU will do, in a sentence."""
    if not plan.needs:
        return "No model's size is known, so nothing can be said of memory."
    usual = max(plan.needs, key=lambda one: one.total)
    longest = max(plan.needs, key=lambda one: one.most)
    which = f"{plan.gpus} GPUs" if plan.gpus > 1 else "one GPU"
    known = "What is known of it fits" if plan.missing else "Fits"
    return (
        f"{known} {which} {_card(longest.most)}, whatever comes: the largest is {longest.step}, at most "
        f"{longest.most / GIB:.1f} GiB. At the usual lengths, {which} {_card(usual.total)} will do: {usual.step}, "
        f"{usual.total / GIB:.1f} GiB."
    )


def _card(needed: float) -> str:
    gib = needed / GIB * (1 + LOST) + CONTEXT
    card = next((card for card in CARDS if gib <= card), None)
    return f"with {card} GB" if card else f"with {gib:.0f} GB, which there is not"


def weight(size: float) -> str:
    """Bytes in words."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size / 1e3:.0f} kB"


def _count(tokens: float) -> str:
    for unit, name in ((1e9, "bn"), (1e6, "M")):
        if tokens >= unit:
            return f"{tokens / unit:,.2f} {name}"
    return f"{tokens:,.0f}"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"
