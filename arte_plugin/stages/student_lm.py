"""A student as a model of lm-evaluation-harness: how it is loaded, given back, and followed at the terminal."""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from arte_plugin.config.student import StudentArgs
from arte_plugin.engines.base import Completion, Engine, Keep, Request, plan_batches
from arte_plugin.language.rendering import Renderer
from arte_plugin.models.memory import release
from arte_plugin.models.student import student_dtype
from arte_plugin.models.student_replies import StudentReply, student_replies
from arte_plugin.ranks import LOGGER
from arte_plugin.stages.fine_tuning import TrainedStudent

LOG = logging.getLogger(LOGGER)


@dataclass(frozen=True, eq=False)
class Candidate:
    """A student to be evaluated: untouched (arm `base`), or as an arm made it."""

    #: Names it, and its files: unlike any other's.
    label: str
    arm: str
    student: StudentArgs
    trained: TrainedStudent
    #: Of its fine-tuning, where there are several.
    seed: int | None = None
    #: That its chat template is rendered with (ISO), where the template tells it.
    date: str | None = None

    def renderer(self, tokenizer: Any) -> Renderer:
        """Renders as the student was probed and trained."""
        return Renderer(tokenizer, self.student.prompt_style, self.student.chat_template_kwargs, self.date)


class Advance:
    """lm-eval tells its cache of every answer as it comes, and so the progress line hears of it."""

    def __init__(self, line: Any):
        self._line = line

    def add_partial(self, attr: str, req: Any, res: Any) -> None:
        """One answer more."""
        self._line.update(1)


def attention(student: StudentArgs, cfg: Mapping[str, Any]) -> str | None:
    """The attention that a student is evaluated with; None is transformers' own choice."""
    return student.attn_implementation or cfg.get("attn_implementation")


@contextlib.contextmanager
def loaded_student(candidate: Candidate, cfg: Mapping[str, Any], plain_greedy: bool) -> Iterator[tuple[Any, Any]]:
    """The student's model, on the GPU if there is one, and its tokenizer; its memory is given back at the end.

    With `plain_greedy`, whatever else the checkpoint's generation config asks for is left out.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    from arte_plugin.models.attention_kernels import pin_flash_kernel

    student, trust = candidate.trained, candidate.student.trust_remote_code
    LOG.info("loading %s%s", student.model, f" with {student.adapter}" if student.adapter else "")
    tokenizer = AutoTokenizer.from_pretrained(student.model, trust_remote_code=trust, **student.at_revision())
    wanted = attention(candidate.student, cfg)
    pin_flash_kernel()
    model = AutoModelForCausalLM.from_pretrained(
        student.model,
        **student.at_revision(),
        dtype=getattr(torch, student_dtype(candidate.student)),
        trust_remote_code=trust,
        **({"attn_implementation": wanted} if wanted else {}),
    )
    if plain_greedy:
        # Greedy means greedy: a checkpoint may bring a repetition penalty along.
        named = model.generation_config.eos_token_id
        ends = {tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])} - {None}
        model.generation_config = GenerationConfig(eos_token_id=sorted(ends), pad_token_id=tokenizer.pad_token_id)
    if student.adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, student.adapter)
    model = model.to("cuda" if torch.cuda.is_available() else "cpu")
    try:
        yield model, tokenizer
    finally:
        # Whoever still holds the model, as lm-eval's own does, holds no weights any more.
        model.to("meta")
        del model
        release()


def answered(
    engine: Engine, instances: Sequence[Any], batch_size: int | None, ask_again: bool, line: Any
) -> list[StudentReply]:
    """The replies to lm-eval's `generate_until` instances of our tasks, as the probes' are made, in their order."""
    requests = [
        Request(
            prompt=instance.args[0],
            group=str(instance.task_name),
            max_new_tokens=instance.args[1]["max_gen_toks"],
            temperature=0.0,
            seed=0,
            stop=tuple(instance.args[1]["until"]),
            answer=instance.doc["answer_type"],
        )
        for instance in instances
    ]

    def ask(wanted: Sequence[Request], keep: Keep | None = None) -> list[Completion]:
        done: dict[Request, Completion] = {}
        each = list(dict.fromkeys(wanted))
        for batch in plan_batches(each, batch_size or max(1, len(each))):
            done |= zip(batch, engine.generate(batch, keep), strict=True)
        return [done[request] for request in wanted]

    completions = ask(requests, lambda place, one: line.update(1))
    line.update(len(requests) - len(set(requests)))
    return student_replies(requests, completions, ask if ask_again else None)


@contextlib.contextmanager
def quiet(*loggers: str, output: Any = None) -> Iterator[None]:
    """Only errors from `loggers`; with `output`, whatever is printed goes there."""
    targets = [logging.getLogger(name) for name in loggers]
    before = [target.level for target in targets]
    for target in targets:
        target.setLevel(logging.ERROR)
    try:
        with contextlib.ExitStack() as stack:
            if output is not None:
                stack.enter_context(contextlib.redirect_stdout(output))
                stack.enter_context(contextlib.redirect_stderr(output))
            yield
    finally:
        for target, level in zip(targets, before, strict=True):
            target.setLevel(level)
