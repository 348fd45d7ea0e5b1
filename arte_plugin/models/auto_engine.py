"""`engine: {kind: auto}`: which engine a run takes for its teacher and for its students, and why.

A run stays with the program that it began with and with who is served by it, as soon as anything has been answered; the
commands are made anew at every start.
"""

import os
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from typing import Any

from arte_plugin import ranks
from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.engines import (
    AutoEngineArgs,
    AutoServedArgs,
    EngineArgs,
    ServerEngineArgs,
    TransformersEngineArgs,
)
from arte_plugin.config.signals import reads_likelihoods
from arte_plugin.config.student import StudentArgs
from arte_plugin.errors import ConfigError
from arte_plugin.models import gpus_seen
from arte_plugin.models.request_cache import cache_file, is_empty
from arte_plugin.run.manifest import Manifest

#: The kinds of server that are started, by what their command is called.
KINDS = {"vllm": "vLLM", "sglang": "SGLang"}
ROLES = ("student", "teacher")
#: Ranks of an adapter that vLLM makes room for (`MaxLoRARanks` in vllm/config/lora.py).
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
#: Of a GPU's memory, what weights may take and leave enough for keys and values.
_ROOM = 0.6
#: Keys of a teacher's config by which its weights are others than a server would load.
_QUANTISED = ("load_in_4bit", "load_in_8bit", "gptq")


@dataclass(frozen=True)
class Machine:
    """What a choice rests on: how many GPUs there are, the bytes of one, and which programs are found."""

    gpus: int
    memory: int
    finds: Callable[[str], bool]
    #: Whether servers can be given a GPU each by its number.
    numbered: bool = True

    @classmethod
    def here(cls) -> "Machine":
        """This machine, as this process sees it."""
        memory = gpus_seen.seen().memory
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        numbered = visible is None or visible.split(",") == [str(one) for one in range(len(memory))]
        return cls(len(memory), min(memory, default=0), finds, numbered)


@dataclass(frozen=True)
class Choice:
    """Who runs what, and why, as the manifest keeps it."""

    #: `vllm` or `sglang`, and the program that is started; both empty where nobody is served.
    api: str
    program: str
    student: dict[str, Any] | None
    teacher: dict[str, Any] | None
    #: By role, in words.
    why: dict[str, str]

    def engine(self, settings: AutoEngineArgs) -> TransformersEngineArgs | ServerEngineArgs:
        """The engine that it comes to, with what else the YAML says of it."""
        shared = settings.model_dump(include=set(EngineArgs.model_fields))
        if not (self.student or self.teacher):
            return TransformersEngineArgs.model_validate(shared)
        own = settings.model_dump(include={"concurrency", "start_timeout"})
        made = {"student": self.student, "teacher": self.teacher}
        roles = {role: AutoServedArgs.model_validate(served) for role, served in made.items() if served}
        return ServerEngineArgs.model_validate({**shared, **own, "kind": "server", "api": self.api, **roles})

    def line(self) -> str:
        """Who runs what and why, in one line."""
        return f"engine auto: {'; '.join(self._role(role) for role in ROLES)}"

    def _role(self, role: str) -> str:
        served = f"on {KINDS[self.api]} ({self.program})" if getattr(self, role) else "in this process"
        return f"{role} {served}, {self.why[role]}"


def finds(program: str) -> bool:
    """Whether there is such a command, on the path or as a file."""
    return shutil.which(os.path.expanduser(program)) is not None


def choose(
    args: ArteArgs, cfg: Mapping[str, Any], machine: Machine, calls: Mapping[str, int],
    dtype_of: Callable[[StudentArgs], str],
) -> Choice:  # fmt: skip
    """The engine of a run that begins; `calls` are how often teacher and student will be asked."""
    settings = args.engine
    assert isinstance(settings, AutoEngineArgs)
    program = next((one for one in settings.programs if machine.finds(one)), "")
    why: dict[str, str] = {}
    served: dict[str, dict[str, Any] | None] = dict.fromkeys(ROLES)
    for role in ROLES:
        against = _against_any(settings, machine, program, calls[role], _against_role(role, args, cfg, dtype_of))
        to_come = f"for its {calls[role]:,} requests to come"
        why[role] = against or f"{to_come}, where {settings.from_requests:,} make up for its start"
        if not against:
            served[role] = _server(role, program, args, cfg, machine, dtype_of)
    kind = _kind(program) if any(served.values()) else ""
    return Choice(kind, program if kind else "", served["student"], served["teacher"], why)


def settled(
    args: ArteArgs, cfg: Mapping[str, Any], manifest: Manifest, machine: Machine,
    calls: Callable[[], Mapping[str, int]], dtype_of: Callable[[StudentArgs], str], *, anew: bool = False,
) -> Choice:  # fmt: skip
    """The choice for the run of `manifest`: by `choose` where it begins now, else what it began with, as of today.

    It begins now, too, where it was begun and nothing came of it (`anew`: `nothing_asked`).

    That is its program, for those whom it served, with commands made from this YAML for this machine; how many requests
    are to come no longer counts. Who by this YAML can't be served goes on in this process: there another identity makes
    the stages anew, and what a server has answered stays in the cache.

    Raises `ConfigError` where the run began with a program that is not found here, with GPUs that are not here, or
    with servers before `auto` was asked for.
    """
    known = None if anew else manifest.engine()
    if known is None:
        stages = manifest.stages()
        if any(_was_served(record.inputs) for record in stages.values()):
            raise ConfigError(
                "arte.engine: this run began with the servers that its YAML named, and a run stays with its engine. "
                "Put that block back in the place of `kind: auto`, or take another `output_dir`."
            )
        if stages:
            return Choice("", "", None, None, dict.fromkeys(ROLES, "as this run began"))
        return choose(args, cfg, machine, calls(), dtype_of)
    begun = Choice(**known)
    against = {role: _against_role(role, args, cfg, dtype_of) for role in ROLES if getattr(begun, role)}
    stay = [role for role in against if not against[role]]
    _check_still_here(begun, stay, machine)
    served = {role: _server(role, begun.program, args, cfg, machine, dtype_of) for role in stay}
    why = dict.fromkeys(ROLES, "as this run began") | {
        role: f"{reason} (it began on {KINDS[begun.api]}: what it was asked there is kept, and is asked anew here)"
        for role, reason in against.items()
        if reason
    }
    kind, program = (begun.api, begun.program) if served else ("", "")
    return Choice(kind, program, served.get("student"), served.get("teacher"), why)


def nothing_asked(args: ArteArgs, folder: Path) -> bool:
    """Whether a start of the run in `folder` was ended before anything was answered, so that it can choose once more.

    Not where ranks are on several machines, of which only the first's choice counts: the others could not tell what it
    enters now from what it entered then. And later rounds go on with the first one's.
    """
    if args.round > 1 or ranks.on_several_machines():
        return False
    return not Manifest(folder / "manifest.json").stages() and is_empty(cache_file(args, folder))


def _check_still_here(begun: Choice, roles: Sequence[str], machine: Machine) -> None:
    """What the YAML says is a decision; a machine without what a run needs may be a mistake that costs all its answers.

    Raises `ConfigError` where `roles` can't be served here.
    """
    if not roles:
        return
    if machine.gpus == 0:
        lacks, remedy = "there is no GPU here", "Go on where there is one"
    elif not machine.finds(begun.program):
        lacks, remedy = f"its command, {begun.program}, is not found here", "Install it there"
    else:
        return
    raise ConfigError(
        f"arte.engine: this run began with {KINDS[begun.api]} for its {' and '.join(roles)}, and {lacks}; a run stays "
        f"with its engine. {remedy}, or go on without it by `engine: {{kind: transformers}}`: what was asked of it is "
        "then asked anew."
    )


def as_entered(choice: Choice) -> dict[str, Any]:
    """For the manifest."""
    return asdict(choice)


def _against_any(settings: AutoEngineArgs, machine: Machine, program: str, calls: int, of_role: str) -> str:
    """What speaks against a server, `of_role` or whoever is asked; empty for nothing."""
    if machine.gpus == 0:
        return "for there is no GPU, and on CPUs it is the faster one"
    if of_role:
        return of_role
    if not program:
        return "for no vLLM or SGLang is found (`engine.programs`)"
    if calls < settings.from_requests:
        return f"for {calls:,} requests to come don't make up for a server's start (`engine.from_requests`)"
    return ""


def _against_role(
    role: str, args: ArteArgs, cfg: Mapping[str, Any], dtype_of: Callable[[StudentArgs], str]
) -> str:  # fmt: skip
    """What in the YAML speaks against a server for `role`; empty for nothing."""
    return _against_student(args, dtype_of) if role == "student" else _against_teacher(cfg)


def _against_student(args: ArteArgs, dtype_of: Callable[[StudentArgs], str]) -> str:
    if args.probe.score != "answers":
        return f"for a server can't tell what `probe.score: {args.probe.score}` asks"
    if weighed := [one.name for one in args.chosen_signals if reads_likelihoods(one)]:
        return f"for a server can't tell what `signals: [{', '.join(weighed)}]` asks"
    if len({dtype_of(one) for one in args.students}) > 1:
        return "for the students' precisions differ, and a server's command has one"
    return ""


def _against_teacher(cfg: Mapping[str, Any]) -> str:
    from arte_plugin.plan.machine import has_float32_weights

    if any(cfg.get(key) for key in _QUANTISED):
        return "for it is quantised, and a server's weights would be others than those that are trained on"
    if has_float32_weights(cfg):
        return "for it is trained with float32 weights"
    if key := cfg.get("adapter") and _of_adapter(cfg):
        return f"for a server can't be given its adapter (`{key}`)"
    if int(cfg.get("lora_r") or 1) > _RANKS[-1]:
        return f"for its adapter's rank is more than {_RANKS[-1]}"
    return ""


def _server(
    role: str, program: str, args: ArteArgs, cfg: Mapping[str, Any], machine: Machine,
    dtype_of: Callable[[StudentArgs], str],
) -> dict[str, Any]:  # fmt: skip
    """The servers of `role`, as `AutoServedArgs`."""
    if role == "student":
        return _student(program, args, dtype_of(args.students[0]), machine)
    return _teacher(program, cfg, machine)


def _of_adapter(cfg: Mapping[str, Any]) -> str:
    """The key that makes an adapter one that vLLM refuses (its lora/peft_helper.py), or may, once it is trained."""
    for key in ("peft_use_dora", "lora_modules_to_save", "lora_target_parameters", "peft_trainable_token_indices"):
        if cfg.get(key):
            return key
    # PiSSA, LoftQ and their like change the weights below the adapter, too.
    if str(cfg.get("peft_init_lora_weights") or True).lower() not in ("true", "gaussian", "eva", "orthogonal"):
        return "peft_init_lora_weights"
    if (cfg.get("peft") or {}).get("loftq_config"):
        return "peft.loftq_config"
    targets = cfg.get("lora_target_modules") or []
    if {"lm_head", "embed_tokens"} & set([targets] if isinstance(targets, str) else targets):
        return "lora_target_modules"
    return ""


def _student(program: str, args: ArteArgs, dtype: str, machine: Machine) -> dict[str, Any]:
    revisions = [one.revision for one in args.students] + [one.revision for one in args.preference_set.respondents]
    trusted = any(one.trust_remote_code for one in args.students)
    return _served(program, dtype, machine, 1, any(revisions), ["--trust-remote-code"] if trusted else [])


def _teacher(program: str, cfg: Mapping[str, Any], machine: Machine) -> dict[str, Any]:
    from arte_plugin.plan.machine import setup_of
    from arte_plugin.plan.shapes import SIZES

    dtype = setup_of(cfg, 1).dtype
    bytes_ = _parameters(str(cfg["base_model"]), cfg.get("revision_of_model")) * SIZES[dtype]
    together = 1
    # Heads are split evenly, so over two, four or eight.
    while together * 2 <= machine.gpus and bytes_ > _ROOM * machine.memory * together:
        together *= 2
    more = ["--trust-remote-code"] if cfg.get("trust_remote_code") else []
    served = _served(program, dtype, machine, together, bool(cfg.get("revision_of_model")), more)
    if cfg.get("adapter"):
        served["adapter_options"] = _adapter_options(_kind(program), int(cfg.get("lora_r") or 16))
    return served


def _served(
    program: str, dtype: str, machine: Machine, together: int, revision: bool, more: Sequence[str]
) -> dict[str, Any]:
    """A server on `together` GPUs, as often as there are so many, as `AutoServedArgs`."""
    vllm = _kind(program) == "vllm"
    words = [program, "serve", "{model}"] if vllm else [program, "serve", "--model-path", "{model}"]
    words += ["--port", "{port}", "--dtype", dtype, *(["--revision", "{revision}"] if revision else []), *more]
    if vllm:
        words += ["--enable-prefix-caching", "--max-model-len", "auto", "--gpu-memory-utilization", "0.85"]
    alone = words
    if together > 1:
        words = [*words, "--tensor-parallel-size", str(together)]
    replicas = machine.gpus // together
    if replicas > 1 and (together > 1 or not machine.numbered):
        # One command takes all GPUs that it sees.
        words = [*words, "--data-parallel-size", str(replicas)]
        replicas = 1
    elif replicas > 1:
        words = ["env", "CUDA_VISIBLE_DEVICES={replica}", *words]

    def command(words: Sequence[str]) -> str:
        # Braces are names to be filled in, so only the program can need quotes.
        return " ".join(shlex.quote(word) if word == program else word for word in words)

    served = AutoServedArgs(command=command(words), on_one_gpu=command(alone), replicas=replicas, dtype=dtype)
    return served.model_dump(exclude_defaults=True)


def _adapter_options(kind: str, rank: int) -> str:
    if kind == "sglang":
        return "--enable-lora --max-loras-per-batch 1 --lora-paths {adapter_name}={adapter}"
    room = next(one for one in _RANKS if one >= rank)
    return f"--enable-lora --max-lora-rank {room} --lora-modules {{adapter_name}}={{adapter}}"


def _parameters(name: str, revision: str | None) -> float:
    from arte_plugin.plan import rates, shapes

    try:
        return shapes.shape_of(name, shapes.find_config(name, revision)).parameters
    except ConfigError:
        return rates.size_by_name(name) or rates.UNKNOWN["teacher"]


def _kind(program: str) -> str:
    return "sglang" if PurePath(program).name.endswith("sglang") else "vllm"


def _was_served(inputs: Any) -> bool:
    """Whether a stage's inputs name a model that a server ran."""
    if isinstance(inputs, Mapping):
        return ("api" in inputs and "engine" in inputs) or any(_was_served(one) for one in inputs.values())
    return isinstance(inputs, Sequence) and not isinstance(inputs, str) and any(_was_served(one) for one in inputs)
