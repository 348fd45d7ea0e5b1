"""Stage 7: Axolotl fine-tunes the student on the tailored examples, in a process of its own (paper, section 3.4)."""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from arte_plugin.config import axolotl_keys
from arte_plugin.config.student import StudentArgs
from arte_plugin.errors import StageError
from arte_plugin.language.rendering import Renderer, as_input_format, from_input_format
from arte_plugin.models.identity import fingerprint_model
from arte_plugin.ranks import LOGGER
from arte_plugin.rows import Dropped, TailoredExample, content_id, write_text
from arte_plugin.run.manifest import hash_file, hash_of
from arte_plugin.stages import batch
from arte_plugin.training import child
from arte_plugin.training.precision import keeps_updates
from arte_plugin.training.weight_change import change

LOG = logging.getLogger(LOGGER)

STAGE = "sft"
TAILORED_STRATEGY = "arte_plugin.strategies.tailored"

#: The paper's recipe for the student (section 4.1), and what keeps a run restartable. `student.sft` goes over it.
RECIPE: dict[str, Any] = {
    "num_epochs": 1,
    "micro_batch_size": batch.BATCH,
    "gradient_accumulation_steps": 1,
    "optimizer": "adamw_torch",
    "learning_rate": 2e-5,
    "lr_scheduler": "linear",
    "warmup_ratio": 0.03,
    "weight_decay": 0.0,
    "train_on_inputs": False,
    "sample_packing": False,
    "val_set_size": 0,
    "logging_steps": 1,
    "save_total_limit": 1,
    "auto_resume_from_checkpoints": True,
}

#: For a student with `adapter: lora` or `qlora`, which the paper's rate would hardly train: ten times as much, as in
#: TRL's guide "LoRA Without Regret" (docs/source/lora_without_regret.md).
ADAPTER_RECIPE: dict[str, Any] = {"learning_rate": 2e-4, "lora_r": 16, "lora_alpha": 16, "lora_target_linear": True}

#: Keys of the teacher's config that speak of the machine, not of the teacher.
_OF_THE_MACHINE = ("bf16", "fp16", "bfloat16", "float16", "tf32", "attn_implementation", "flash_attention")
_ALSO_SHARED = ("sequence_len", "gradient_checkpointing", "gradient_checkpointing_kwargs", "dataset_num_proc")
#: What the student's config takes over from the teacher's.
SHARED_KEYS = (*_OF_THE_MACHINE, *_ALSO_SHARED)
_LORA_KERNELS = ("lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel", "lora_embedding_kernel")

_HEADER = """\
# The student's fine-tuning, written by arte_plugin from the teacher's YAML (`arte.student.sft` for changes).
# It is complete; to run it alone:  axolotl train {path}
"""


@dataclass(frozen=True)
class TrainedStudent:
    """A student that can be loaded: a full model, or a base model with an adapter on it."""

    #: Directory or Hub id.
    model: str
    #: Directory of the PEFT adapter, where the student was trained with one.
    adapter: str | None = None
    #: How far it is from the untouched student (`weight_change.Change`), where that could be told.
    change: dict[str, Any] | None = field(default=None, compare=False)
    #: Of `model`, where it comes from the Hub and the YAML names one.
    revision: str | None = None

    def fingerprints(self) -> list[str]:
        """The identity of the model and, where there is one, of its adapter."""
        adapter = [fingerprint_model(self.adapter)] if self.adapter else []
        return [fingerprint_model(self.model, self.revision), *adapter]

    def at_revision(self) -> dict[str, str]:
        """What a loader of `model` is told of the revision."""
        return {"revision": self.revision} if self.revision else {}


def student_config(
    cfg: Mapping[str, Any], student: StudentArgs, tailored: Path, folder: Path, seed: int, date: str | None = None,
    made_from: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """A complete Axolotl config for the student's fine-tuning; `cfg` is the teacher's, `date` the run's (ISO).

    `made_from` is what tells this training from another that the config does not: the student's content, and the
    versions of the code.
    """
    folder = folder.absolute()
    # Axolotl's cache of prepared data sets goes by the config, not by what is in the file.
    content = hash_of({"tailored": hash_file(tailored), **(made_from or {})})[:16]
    config: dict[str, Any] = {
        "base_model": str(Path(student.base_model).expanduser().absolute())
        if Path(student.base_model).expanduser().is_dir()
        else student.base_model,
        **({"revision_of_model": student.revision} if student.revision else {}),
        **({"trust_remote_code": True} if student.trust_remote_code else {}),
        "datasets": [
            {
                "path": str(tailored.absolute()),
                "ds_type": "json",
                "type": TAILORED_STRATEGY,
                "input_format": as_input_format(student.prompt_style, student.chat_template_kwargs, date),
            }
        ],
        "dataset_prepared_path": str(folder / "prepared" / content),
        "output_dir": str(folder / "student"),
        "sequence_len": 2048,
        # What is left out is counted by `too_long`, and no example is worth stopping the run for.
        "excess_length_strategy": "drop",
        **recipe(student.sft, child.gpus()),
        "seed": seed,
        **({"bf16": "auto"} if child.gpus() else {"bf16": False, "fp16": False}),
    }
    wanted = [*SHARED_KEYS]
    if student.sft.get("adapter"):
        wanted += _LORA_KERNELS
        if not child.gpus():
            config |= dict.fromkeys(_LORA_KERNELS, False)
    config |= {key: plain(cfg[key]) for key in wanted if cfg.get(key) is not None}
    config |= student.sft
    config |= keeps_updates(config, student.sft)
    if not {"save_strategy", "save_steps", "saves_per_epoch"} & config.keys():
        config["saves_per_epoch"] = 2
    return config


def recipe(sft: Mapping[str, Any], gpus: int = 1) -> dict[str, Any]:
    """What `student.sft` goes over: the paper's recipe, and with an adapter its own rate and size.

    On several GPUs each process has its part of the batch.
    """
    made = RECIPE | batch.batch(sft, gpus)
    if sft.get("adapter") not in ("lora", "qlora"):
        return made
    made |= ADAPTER_RECIPE
    if sft.get("lora_target_modules") or sft.get("lora_target_parameters"):
        del made["lora_target_linear"]
    return made | ({"lora_alpha": sft["lora_r"]} if sft.get("lora_r") else {})


def decisive(config: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the trained student: the keys of `config` that have a say in it (`axolotl_keys`).

    The student and the examples count by their content, which is hashed beside it. `given` is `student.sft`.
    """
    return {**_kept(config), **batch.decisive(given, child.gpus())}


def _kept(config: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in config.items() if key != "datasets"}
    return {**axolotl_keys.of_training(kept), "input_format": _input_format(config)}


def _input_format(config: Mapping[str, Any]) -> str:
    """How prompts are rendered, as the config's one data set entry says it: of examples, or of pairs (stage 7b)."""
    entry = config["datasets"][0]
    return entry["input_format"] if "input_format" in entry else entry["field_messages"]


def tokenizer_and_renderer(config: Mapping[str, Any]) -> tuple[Any, Renderer]:
    """What turns prompts and replies into the tokens that `config` trains on."""
    from transformers import AutoTokenizer

    source = config.get("tokenizer_config") or config["base_model"]
    trust = bool(config.get("trust_remote_code"))
    tokenizer = AutoTokenizer.from_pretrained(
        source, trust_remote_code=trust, revision=config.get("revision_of_model") or "main"
    )
    return tokenizer, Renderer(tokenizer, **from_input_format(_input_format(config)))


def too_long(examples: Sequence[TailoredExample], config: Mapping[str, Any]) -> list[Dropped]:
    """The tailored examples that Axolotl will leave out because they exceed `sequence_len`.

    Raises `StageError` when that is all of them. `config` is what `student_config` returned.
    """
    from arte_plugin.strategies.tailored import tokenize

    _, renderer = tokenizer_and_renderer(config)
    longest = config["sequence_len"]
    dropped = []
    for example in examples:
        prompt_ids, completion_ids = tokenize(renderer, example.prompt, example.rationale)
        if (length := len(prompt_ids) + len(completion_ids)) > longest:
            name = content_id(example.task, example.question)
            text = f"{length} tokens: {example.question}"
            dropped.append(Dropped(STAGE, "longer_than_sequence_len", example.task, name, text))
    if examples and len(dropped) == len(examples):
        raise StageError(
            f"All {len(examples)} tailored examples are longer than the student's sequence_len of {longest} tokens. "
            "Raise `arte.student.sft.sequence_len`."
        )
    return dropped


def train(config: Mapping[str, Any], folder: Path, processes: int | None = None) -> TrainedStudent:
    """Run `axolotl train` on `config` as a child process; goes on from a checkpoint of the same config.

    `processes` is the number of those that the training is spread over; without it, one on each GPU. Raises
    `StageError` when it fails, with the end of its log, and when an earlier run's child is still at it.
    """
    config_file, log_file = folder / "student.yaml", folder / "train.log"
    output = Path(config["output_dir"])
    body = yaml.safe_dump(plain(config), sort_keys=False, allow_unicode=True)
    content = _HEADER.format(path=config_file.absolute()) + body
    with child.locked_log(log_file, "the student's training") as log:
        _clear(output, keep_checkpoints=_same_training(config_file, body))
        write_text(config_file, content)
        LOG.info("fine-tuning the student; its log is %s", log_file)
        code = child.train(log, config_file, processes or max(1, child.gpus()))
    if code != 0:
        raise StageError(f"The student's fine-tuning {child.failure(code, log_file)}")
    marker = "adapter_config.json" if config.get("adapter") else "config.json"
    if not (output / marker).is_file():
        raise StageError(f"The student's fine-tuning left no {marker} in {output}. {child.log_end(log_file)}")
    for checkpoint in _checkpoints(output):
        shutil.rmtree(checkpoint)
    revision = config.get("revision_of_model")
    moved = change(config["base_model"], output, "the student", revision)
    record = asdict(moved) if moved else None
    if config.get("adapter"):
        return TrainedStudent(config["base_model"], str(output), change=record, revision=revision)
    return TrainedStudent(str(output), change=record)


def plain(value: Any) -> Any:
    """Only what YAML has a word for: Axolotl's config holds dictionaries and enumerations of its own."""
    return json.loads(json.dumps(value, default=lambda other: getattr(other, "value", str(other))))


def _checkpoints(output: Path) -> list[Path]:
    return [path for path in output.glob("checkpoint-*") if path.is_dir()]


def _clear(output: Path, keep_checkpoints: bool) -> None:
    """Leave nothing of an earlier training but whole checkpoints, and those only where they fit."""
    if not output.is_dir():
        return
    for path in list(output.iterdir()):
        if not path.is_dir() or path.is_symlink():
            path.unlink()
        elif not (keep_checkpoints and path.name.startswith("checkpoint-") and _is_whole(path)):
            shutil.rmtree(path)


def _same_training(before: Path, body: str) -> bool:
    """Whether the config in the file `before` comes to the same student as the one in `body`, from the same rows."""
    try:
        configs = [yaml.safe_load(text) for text in (before.read_text(encoding="utf-8"), body)]
        # The last part of where the rows are prepared is a hash of them, of the student and of the code's versions.
        one, other = ((Path(config["dataset_prepared_path"]).name, _kept(config)) for config in configs)
    except (OSError, yaml.YAMLError, TypeError, LookupError):
        return False
    return one == other


def _is_whole(checkpoint: Path) -> bool:
    """The trainer's state is what a checkpoint ends with."""
    try:
        return "global_step" in json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
