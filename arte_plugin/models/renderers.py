"""What renders for a student, another respondent or the teacher, as its part of the YAML says."""

from typing import Any

from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.preference_set import RespondentArgs
from arte_plugin.config.student import StudentArgs
from arte_plugin.config.teacher import TeacherArgs
from arte_plugin.language.rendering import Renderer


def asking_renderer(tokenizer: Any, settings: StudentArgs | TeacherArgs | RespondentArgs, args: ArteArgs) -> Renderer:
    """What renders for a model, as its part of the YAML says; its tokenizer may be that of a tuned one."""
    thinks = isinstance(settings, TeacherArgs) and settings.reasoning is True
    return Renderer(
        tokenizer, settings.prompt_style, settings.chat_template_kwargs, args.date,
        thought_tokens=args.teacher.reasoning_tokens if thinks else 0,
    )  # fmt: skip


def more_ends(renderer: Renderer) -> dict[str, Any]:
    """The end of turn of a model whose tokenizer has another EOS: a reply ends there as well."""
    more = [token for token in renderer.end_ids if token != renderer.tokenizer.eos_token_id]
    return {"end_of_turn": more} if more else {}
