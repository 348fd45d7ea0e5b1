"""How each model of a run is asked: which prompts `auto` comes to, and whether its chat template can be used."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.engines import ServerEngineArgs
from arte_plugin.config.preference_set import RespondentArgs
from arte_plugin.config.student import StudentArgs
from arte_plugin.config.teacher import TeacherArgs
from arte_plugin.errors import ConfigError
from arte_plugin.language.chat_template import SWITCHES, ChatTemplate, OpenThoughtError
from arte_plugin.language.rendering import Renderer
from arte_plugin.models.renderers import asking_renderer

#: Words in a model's name.
_CHAT_WORDS = {"instruct", "chat", "it", "assistant", "thinking", "reasoning"}
_BASE_WORDS = {"base", "pt", "pretrain", "pretrained"}


@dataclass(frozen=True)
class Asked:
    """How one model is asked, and why."""

    role: str
    name: str
    #: Its part of the YAML.
    settings: Any
    renderer: Renderer
    reason: str
    warnings: list[str] = field(default_factory=list)


def settle(cfg: Mapping[str, Any], args: ArteArgs) -> list[Asked]:
    """Settle what `args` leave to be found out: `prompt_style: auto` becomes one of the two.

    No model is loaded. A model without a tokenizer is left as it is, for its loader to complain about. Raises
    `ConfigError` for a chat template that can't be used.
    """
    models: list[tuple[str, str, StudentArgs | TeacherArgs | RespondentArgs, bool]] = [
        ("teacher", str(cfg["base_model"]), args.teacher, False),
        *(("student", student.base_model, student, student.trust_remote_code) for student in args.students),
        *(("respondent", r.base_model, r, args.students[0].trust_remote_code) for r in args.preference_set.respondents),
    ]
    asked = []
    for role, name, settings, trust in models:
        revision = cfg.get("revision_of_model") if isinstance(settings, TeacherArgs) else settings.revision
        tokenizer = _teacher_tokenizer(cfg) if role == "teacher" else _tokenizer(name, trust, revision)
        if tokenizer is None:
            continue
        told = role == "teacher" and bool(cfg.get("chat_template"))
        settings.prompt_style, reason = found_style(tokenizer, name, settings, told, revision)
        if isinstance(settings, TeacherArgs):
            _settle_reasoning(tokenizer, args)
        _check_switches(tokenizer, name, settings)
        renderer = asking_renderer(tokenizer, settings, args)
        if renderer.thought:
            _check_thoughts_can_be_told(renderer, args)
        asked.append(Asked(role, name, settings, renderer, reason, list(_warnings(renderer))))
    return asked


def _settle_reasoning(tokenizer: Any, args: ArteArgs) -> None:
    """`auto` is on where the template opens a thought that it knows no switch for, or is told to open one."""
    teacher = args.teacher
    if teacher.reasoning != "auto":
        if teacher.reasoning and teacher.prompt_style == "plain":
            raise ConfigError("`teacher.reasoning` needs a chat template, and the teacher is asked plainly.")
        return
    teacher.reasoning = any(teacher.chat_template_kwargs.get(name) for name in SWITCHES)
    if teacher.prompt_style == "chat" and not teacher.reasoning:
        try:
            ChatTemplate(tokenizer, teacher.chat_template_kwargs, args.date)
        except OpenThoughtError:
            teacher.reasoning = True
    if teacher.reasoning and args.elicit.prefill:
        raise ConfigError(
            "The teacher thinks (its chat template opens a thought), and `elicit.prefill` begins its reply: not both."
        )


def _check_switches(tokenizer: Any, name: str, settings: StudentArgs | TeacherArgs | RespondentArgs) -> None:
    """A thought that the YAML switches on needs somebody who gives it room and takes it away from the reply."""
    told = settings.chat_template_kwargs
    switched = [key for key in SWITCHES if told.get(key)]
    if settings.prompt_style != "chat" or not switched or (isinstance(settings, TeacherArgs) and settings.reasoning):
        return
    template = ChatTemplate(tokenizer, {**told, **dict.fromkeys(switched, False)}, None, thinks=True)
    on = [key for key in switched if template.knows(key)]
    if not on:
        return
    if isinstance(settings, TeacherArgs):
        place, why = "teacher.chat_template_kwargs", "`teacher.reasoning: false` says that it does not think"
    else:
        place = "student.chat_template_kwargs" if isinstance(settings, StudentArgs) else "preference_set.respondents"
        why = "only a teacher can think (`teacher.reasoning`)"
    raise ConfigError(
        f"`{place}` switches thoughts on for {name} (`{on[0]}`), and {why}: it would be asked behind an empty thought "
        f"all the same. Take `{on[0]}` out."
    )


def _check_thoughts_can_be_told(renderer: Renderer, args: ArteArgs) -> None:
    """A server that leaves special tokens out of its replies may leave out what ends a thought."""
    from arte_plugin.engines.dialects import DIALECTS

    if not isinstance(args.engine, ServerEngineArgs) or not args.engine.teacher or renderer.thought is None:
        return
    end, api = renderer.thought.end, args.engine.api
    ids = renderer.tokenizer(end, add_special_tokens=False)["input_ids"]
    if not DIALECTS[api].takes_tokens and renderer.tokenizer.decode(ids, skip_special_tokens=True) != end:
        raise ConfigError(
            f"`teacher.reasoning`: a server of `api: {api}` leaves {end} out of what it sends, and a thought can't be "
            "told from the reply behind it. Use `api: vllm` or `sglang`, or the teacher in this process."
        )


def found_style(
    tokenizer: Any, name: str, settings: Any, told: bool = False, revision: str | None = None
) -> tuple[Any, str]:
    """`chat` or `plain`, and why; `told` is whether the YAML gives the tokenizer its template."""
    if settings.prompt_style != "auto":
        return settings.prompt_style, f"as `prompt_style: {settings.prompt_style}` says"
    if not tokenizer.chat_template:
        return "plain", "it has no chat template"
    if told:
        return "chat", "the YAML names its chat template"
    words = set(re.split(r"[^a-z0-9]+", PurePath(name).name.lower()))
    if words & _BASE_WORDS:
        return "plain", "a base model by its name, though it brings a chat template"
    if words & _CHAT_WORDS:
        return "chat", "a chat model by its name"
    end = ChatTemplate(tokenizer, settings.chat_template_kwargs, None, thinks=True).end_token
    if tokenizer.convert_tokens_to_ids(end) not in {tokenizer.eos_token_id, *_generation_ends(name, revision)}:
        return "plain", f"a base model that brings a chat template: it does not end its replies with {end}"
    return "chat", f"it has a chat template, and ends its replies with {end}"


def _generation_ends(name: str, revision: str | None) -> list[int]:
    """The end-of-sequence tokens of `generation_config.json`, if there is one."""
    from transformers import GenerationConfig

    try:
        named = GenerationConfig.from_pretrained(name, revision=revision or "main").eos_token_id
    except (OSError, ValueError):
        return []
    return named if isinstance(named, list) else [named]


def _warnings(renderer: Renderer) -> Iterator[str]:
    template = renderer.template
    if template is None:
        return
    if template.tells_the_date:
        yield f"the template writes the date into prompts: {renderer.date} for this run (`arte.date`)"
    if not template.writes_an_end:
        yield f"the template writes nothing behind a reply: {template.end} ends it here"
    if template.forgets_empty_thought:
        yield "the template asks behind an empty thought, which it does not write into earlier turns"


def _tokenizer(name: str, trust_remote_code: bool, revision: str | None) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code, revision=revision or "main")
    except (OSError, ValueError, KeyError, ImportError):
        return None


def _teacher_tokenizer(cfg: Mapping[str, Any]) -> Any:
    from axolotl.loaders import load_tokenizer
    from axolotl.utils.dict import DictDefault

    try:
        return load_tokenizer(cfg if isinstance(cfg, DictDefault) else DictDefault(cfg))
    except (OSError, ValueError, KeyError, ImportError):
        return None
