"""What a request to `/v1/completions` looks like for each kind of server, and what its answer means."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from arte_plugin.engines.base import Completion, Request
from arte_plugin.errors import ServerError
from arte_plugin.language.rendering import Renderer

#: A checkpoint's own sampling settings are a server's defaults, unless every one of them is sent.
_NEUTRAL = {"top_p": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
_NEUTRAL_EVERYWHERE = {**_NEUTRAL, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}


@dataclass(frozen=True)
class Dialect:
    """What one kind of server takes beside the OpenAI API's own keys."""

    #: Tokens leave no question of a second BOS, and are what the transformers engine would run on.
    takes_tokens: bool
    #: Whether it can be told to leave the stop string in the text; one that is cut off can't be told from another.
    keeps_stop: bool
    extra: Mapping[str, Any] = field(default_factory=dict)
    #: Where a running server is given a LoRA adapter, as `{"lora_name": …, "lora_path": …}`.
    load_adapter: str | None = None


DIALECTS: Mapping[str, Dialect] = {
    # vllm-project/vllm: CompletionRequest in vllm/entrypoints/openai/completion/protocol.py (`prompt` may be tokens;
    # what is not sent comes from the checkpoint's generation_config.json); /v1/load_lora_adapter in
    # vllm/entrypoints/openai/models/serving.py, which needs VLLM_ALLOW_RUNTIME_LORA_UPDATING=True.
    "vllm": Dialect(
        takes_tokens=True,
        keeps_stop=True,
        extra={**_NEUTRAL_EVERYWHERE, "include_stop_str_in_output": True},
        load_adapter="/v1/load_lora_adapter",
    ),
    # sgl-project/sglang: python/sglang/srt/entrypoints/openai/serving_completions.py (tokens become `input_ids`, `seed`
    # the `sampling_seed`) and docs/advanced_features/lora (/load_lora_adapter; a request's `lora_path` is a name).
    "sglang": Dialect(
        takes_tokens=True,
        keeps_stop=True,
        extra={**_NEUTRAL_EVERYWHERE, "no_stop_trim": True},
        load_adapter="/load_lora_adapter",
    ),
    # huggingface/transformers: src/transformers/cli/serving/completion.py. Keys that it does not know are refused; a
    # seed is set for the whole process, so sampled text is not the same again.
    "transformers": Dialect(takes_tokens=False, keeps_stop=True),
    "openai": Dialect(takes_tokens=False, keeps_stop=False, extra=_NEUTRAL),
}


@dataclass(frozen=True)
class Writer:
    """Writes requests to, and reads answers of, one model on one kind of server."""

    api: str
    renderer: Renderer
    #: Name that the server knows the model by, and that of the adapter on it.
    model: str
    adapter: str | None = None
    #: To vLLM, tokens are sent unless somebody on the way must read the prompt.
    as_text: bool = False

    @property
    def dialect(self) -> Dialect:
        """What this kind of server takes."""
        return DIALECTS[self.api]

    def body(self, request: Request) -> dict[str, Any]:
        """The JSON of `request`."""
        body: dict[str, Any] = {
            "model": self.model,
            "prompt": self._prompt(request.prompt),
            "max_tokens": request.max_new_tokens,
            "temperature": request.temperature,
            **self.dialect.extra,
        }
        if self.as_text:
            # The text holds its special tokens.
            body["add_special_tokens"] = False
        if request.temperature > 0:
            body["seed"] = request.seed
        if request.stop and self.dialect.keeps_stop:
            body["stop"] = list(request.stop)
        if request.thought and self.dialect.takes_tokens:
            # A thought may be told from what follows by special tokens only.
            body["skip_special_tokens"] = False
        if self.dialect.takes_tokens:
            # Axolotl may have set another end-of-sequence token than the checkpoint's, and a base model's own may be
            # another than the one that its chat template ends a turn with.
            body["stop_token_ids"] = self.renderer.end_ids
        elif (end := self.renderer.end_of_reply.strip()) != self.renderer.tokenizer.eos_token:
            # As text: all that these servers take.
            body["stop"] = [*body.get("stop", []), end]
        if self.adapter and self.api == "vllm":
            body["model"] = self.adapter
        if self.adapter and self.api == "sglang":
            body["lora_path"] = self.adapter
        if self.api == "transformers":
            # It samples only where the checkpoint's settings say so; these take their place.
            settings = {"do_sample": request.temperature > 0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0}
            if request.temperature > 0:
                settings["temperature"] = request.temperature
            del body["temperature"]
            body["generation_config"] = json.dumps(settings)
        return body

    def completion(self, request: Request, answer: Any) -> Completion:
        """What the server's JSON says. Raises `ValueError` where it says nothing of use."""
        try:
            choice = answer["choices"][0]
            text, reason = choice["text"], choice["finish_reason"]
            usage = answer.get("usage") or {}
            prompt_tokens, new_tokens = usage["prompt_tokens"], usage["completion_tokens"]
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
        if not isinstance(text, str) or not isinstance(prompt_tokens, int) or not isinstance(new_tokens, int):
            raise ValueError("text or token counts of another type")
        if request.thought or not self.dialect.takes_tokens:
            # With special tokens kept, or a stop string kept, the one that ended the reply is there too.
            for token in (self.renderer.tokenizer.eos_token, self.renderer.end_of_reply.strip()):
                text = text.removesuffix(token or "")
        end = min((text.index(stop) + len(stop) for stop in request.stop if stop in text), default=None)
        if end is None and reason not in ("stop", "length"):
            raise ValueError(f"which ended for the reason {reason!r}")
        return Completion(
            text[:end], "length" if end is None and reason == "length" else "stop", prompt_tokens, new_tokens
        )

    def _prompt(self, text: str) -> str | list[int]:
        if self.as_text:
            return text
        if self.dialect.takes_tokens:
            return self.renderer.tokenizer(text, add_special_tokens=False)["input_ids"]
        bos = self.renderer.bos
        if bos and not text.startswith(bos):
            raise ServerError(
                f"The server would put {bos} before a prompt that has none: `api: {self.api}` sends plain text. Use "
                f"vLLM or SGLang, which are sent tokens. The prompt begins: {text[:200]!r}"
            )
        # The server's tokenizer puts it there.
        return text[len(bos) :]
