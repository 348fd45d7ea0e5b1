"""`arte.engine`: who runs the models."""

import shlex
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationError, model_validator

from arte_plugin.config.block import Block


class EngineArgs(Block):
    """What every engine has."""

    cache_gib: float | None = Field(
        None,
        gt=0,
        description="GiB for the keys and values of what transformers has in flight, on each rank. It bounds how many "
        "requests that are; one is always let in. Default: 4, on a GPU 60 % of what is free beside the model.",
    )
    rank_timeout: int = Field(
        1800, ge=10, description="Seconds without any progress after which a rank stops waiting for the others."
    )
    heartbeat_timeout: int = Field(
        60,
        ge=5,
        description="Seconds without a sign of life after which a rank on another machine counts as dead, and those "
        "that wait for it stop; on the same machine that is noticed at once.",
    )

    @model_validator(mode="before")
    @classmethod
    def _no_pages(cls, values: Any) -> Any:
        if isinstance(values, dict) and "page_size" in values:
            raise ValueError(
                "there is no `page_size` any more, for attention has no pages on a GPU now: take it out. "
                "`cache_gib` bounds the memory there too"
            )
        return values


class TransformersEngineArgs(EngineArgs):
    """Generation by transformers in this process."""

    kind: Literal["transformers"] = Field("transformers", description="Generation by transformers in this process.")


class AutoEngineArgs(EngineArgs):
    """An engine for each role, by what the machine has and what there is to ask.

    On a GPU, servers that the run starts for the student, and for a teacher that isn't quantised, where a program to
    start is found and enough is to be asked; else transformers in this process. It is said in one line of the log, and
    before by `arte validate` and `arte plan`. A run stays with the program that it began with and with who is served by
    it, with commands for the YAML and the machine of each start.
    """

    kind: Literal["auto"] = Field(description="An engine for each role.")
    programs: list[Annotated[str, Field(pattern=r"^\S*(vllm|sglang)$")]] = Field(
        ["vllm", "vllm/bin/vllm", "sglang", "sglang/bin/sglang"],
        description="Names or paths of vLLM's or SGLang's command: the first that is found is taken. vLLM wants an "
        "environment of its own: `python -m venv vllm && vllm/bin/pip install vllm`.",
    )
    from_requests: int = Field(
        5000,
        ge=1,
        description="A role is served where it is asked at least so many times when the run begins: a server takes "
        "a minute to start.",
    )
    concurrency: int = Field(256, ge=1, le=4096, description="As with `kind: server`.")
    start_timeout: float = Field(1200, gt=0, description="As with `kind: server`.")


class ServedArgs(Block):
    """A server for one role: started and stopped by the run (`command`), or running already (`base_urls`)."""

    command: str | None = Field(
        None,
        min_length=1,
        description="Starts a server and stays in the foreground; no shell reads it. `{model}` is the path or Hub id, "
        "`{port}` a free port, and `{revision}` the model's revision (`main` where none is given). It is started when "
        "there is something to ask and ended, with all that it started, "
        "before anything else needs the GPU; its log is `OUTPUT_DIR/arte/servers/NAME.log`.",
    )
    adapter_options: str | None = Field(
        None,
        min_length=1,
        description="Put behind `command` to serve the aligned teacher's LoRA adapter: `{adapter}` is its folder, "
        "`{adapter_name}` the name that requests call it by.",
    )
    replicas: int = Field(
        1,
        ge=1,
        le=256,
        description="How many servers are started from `command`. `{replica}` in it is 0, 1 and so on: a GPU for each "
        "with `env CUDA_VISIBLE_DEVICES={replica} vllm serve …`.",
    )
    base_urls: list[Annotated[str, Field(pattern=r"^https?://\S+$")]] = Field(
        default_factory=list,
        description="Servers that run already, as `http://HOST:PORT/v1`, all with the same model: the top-level "
        "`base_model`, or the first student's. Requests with a common beginning mostly go to the same one; one that "
        "is done with its share takes over from the others.",
    )
    model: str | None = Field(
        None, min_length=1, description="Name that the servers know the model by; default: its path or Hub id."
    )
    dtype: str | None = Field(
        None,
        description="Precision and quantisation that the servers compute in, in your words (`bfloat16`, `awq`). They "
        "can't be asked for it: another value here, or another `command`, asks everything anew.",
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> "ServedArgs":
        if bool(self.command) == bool(self.base_urls):
            raise ValueError("give `command` for a server that is started by the run, or `base_urls` for running ones")
        if self.adapter_options and not self.command:
            raise ValueError("`adapter_options` go with `command`; a running vLLM or SGLang is given the adapter")
        for url in self.base_urls:
            try:
                urlsplit(url).port  # noqa: B018
            except ValueError as error:
                raise ValueError(f"`base_urls` has {url}: {error}") from None
        if self.replicas > 1 and "{replica}" not in (self.command or ""):
            raise ValueError(
                "with `replicas`, `command` must contain {replica}, which tells each server its GPU: "
                "env CUDA_VISIBLE_DEVICES={replica} …"
            )
        for key, text, needed in (
            ("command", self.command, ("{model}", "{port}")),
            ("adapter_options", self.adapter_options, ("{adapter}",)),
        ):
            for name in needed:
                if text and name not in text:
                    raise ValueError(f"`{key}` must contain {name}")
            try:
                shlex.split(text or "")
            except ValueError as error:
                raise ValueError(f"`{key}` can't be split into words: {error}") from None
        return self

    def identity(self) -> dict[str, Any]:
        """What of it decides replies."""
        stated = self.model_dump(include={"command", "adapter_options", "model", "dtype"})
        return {key: value for key, value in stated.items() if value}


class AutoServedArgs(ServedArgs):
    """A server for one role as `kind: auto` starts it."""

    on_one_gpu: str = Field(description="`command` as it would be on one GPU. Not to be set.")

    def identity(self) -> dict[str, Any]:
        """Neither over how many GPUs it is spread, nor the rank that it makes room for.

        A run may go on with more GPUs or fewer, and another rank is no reason to have the teacher write all drafts
        anew: its adapter has an identity of its own.
        """
        return {key: value for key, value in super().identity().items() if key != "adapter_options"} | {
            "command": self.on_one_gpu
        }


class ServerEngineArgs(EngineArgs):
    """Generation by servers, of the roles that are named here; transformers runs the others, and the evaluation."""

    kind: Literal["server"] = Field(description="Generation by servers with the OpenAI API's `/v1/completions`.")
    api: Literal["vllm", "sglang", "transformers", "openai"] = Field(
        description="What the servers are. `vllm` and `sglang` are sent tokens, and keep the text that ends a reply; "
        "`transformers` is `transformers serve`, for tests; `openai` stands for any other: it is sent plain text and "
        "no stop strings, for most servers cut those off, so replies run on to their end and are cut here."
    )
    prompts: Literal["tokens", "text"] = Field(
        "tokens",
        description="`text` is for vLLM behind a router that reads prompts to choose a server, such as Ray Serve's "
        "prefix-aware one; another value asks everything anew.",
    )
    teacher: ServedArgs | None = Field(None, description="Serves the teacher, before and after its alignment.")
    student: ServedArgs | None = Field(
        None,
        description="Serves the students and respondents, one after the other; with `base_urls` the first student "
        "only, and transformers runs the others.",
    )
    concurrency: int = Field(64, ge=1, le=4096, description="Requests in flight at a time, for each server.")
    timeout: float = Field(600, gt=0, description="Seconds to wait for one reply.")
    retries: int = Field(
        6,
        ge=0,
        le=100,
        description="How often a request is sent again that was not answered in time, not answered in a usable form, "
        "or answered with 408, 425, 429 or 5xx; with growing random pauses, and never sooner than `Retry-After` says.",
    )
    patience: float = Field(
        300,
        gt=0,
        description="Seconds to wait for a running server that can't be reached or answers 502 or 503, as one that "
        "loads its model; one of ours is started again after so long.",
    )
    start_timeout: float = Field(
        1200, gt=0, description="Seconds that a `command` has until its server is ready; a download counts too."
    )
    api_key_env: str | None = Field(
        None, min_length=1, description="Environment variable with the API key, if the servers want one."
    )

    @model_validator(mode="after")
    def _somebody_is_served(self) -> "ServerEngineArgs":
        if self.teacher is None and self.student is None:
            raise ValueError("`kind: server` needs a `teacher` or a `student` block: nobody is served")
        if self.student and self.student.adapter_options:
            raise ValueError("only the teacher has an adapter: take `adapter_options` out of `student`")
        if self.prompts == "text" and self.api != "vllm":
            raise ValueError("`prompts: text` goes with `api: vllm`; the others are sent what they can take")
        return self


def _which_engine(engine: Any) -> str:
    kind = engine.get("kind") if isinstance(engine, dict) else getattr(engine, "kind", None)
    return {"server": SERVED, "auto": CHOSEN}.get(kind, HERE) if isinstance(kind, str) else HERE


def _known_engine(engine: Any) -> Any:
    if isinstance(engine, dict) and engine.get("kind", "transformers") not in ("transformers", "auto", "server"):
        raise ValueError(f"`kind` is `transformers`, `auto` or `server` (found {engine['kind']!r})")
    return engine


#: Pydantic names these in the place of an error (`check` leaves them out).
TAGS = HERE, SERVED, CHOSEN = "engine-here", "engine-served", "engine-chosen"
Engine = Annotated[
    Annotated[TransformersEngineArgs, Tag(HERE)]
    | Annotated[AutoEngineArgs, Tag(CHOSEN)]
    | Annotated[ServerEngineArgs, Tag(SERVED)],
    Discriminator(_which_engine),
    BeforeValidator(_known_engine),
]


def check_revision_is_served(served: ServedArgs, revision: str | None, role: str) -> None:
    """Raises `ValueError` where a server would be started with another revision than is asked for."""
    if revision and served.command and "{revision}" not in served.command:
        raise ValueError(
            f"arte.engine.{role}: `command` must contain {{revision}}, for the YAML names one ({revision}): with vLLM, "
            "--revision {revision}"
        )


def check_aligned_teacher_can_be_served(values: dict[str, Any]) -> None:
    """Raises `ValueError` here, not after hours of training. Blocks of a wrong form are left to their own checks."""
    arte = values.get("arte")
    engine = arte.get("engine") if isinstance(arte, dict) else getattr(arte, "engine", None)
    try:
        settings = ServerEngineArgs.model_validate(engine, from_attributes=True)
    except ValidationError:
        return
    teacher = settings.teacher
    if teacher is None:
        return
    check_revision_is_served(teacher, values.get("revision_of_model"), "teacher")
    loads = settings.api in ("vllm", "sglang")
    if values.get("adapter"):
        if teacher.command and not teacher.adapter_options:
            raise ValueError(
                "arte.engine.teacher: the teacher is trained with an adapter, so `adapter_options` must say how the "
                "server is given it; for vLLM: --enable-lora --max-lora-rank RANK --lora-modules "
                "{adapter_name}={adapter}"
            )
        if teacher.base_urls and not loads:
            raise ValueError(
                "arte.engine.teacher: only a running vLLM or SGLang can be given the aligned teacher's adapter; use "
                "`command` and `adapter_options`"
            )
    elif teacher.base_urls:
        raise ValueError(
            "arte.engine.teacher: the teacher is trained in full, and a running server has its old weights only; use "
            "`command`"
        )
