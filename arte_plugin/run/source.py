"""A finished run that another goes on from (`from_run`): its aligned teacher, its scored drafts, its answers."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from arte_plugin.errors import ConfigError
from arte_plugin.models.identity import same_model
from arte_plugin.rows import Draft, Score, read_rows
from arte_plugin.run.manifest import Manifest
from arte_plugin.run.trainings import is_trained_over
from arte_plugin.stages import STAGES
from arte_plugin.training import weights_left


class SourceRun:
    """The output folder of a run, here or on the Hub; nothing in it is changed.

    Raises `ConfigError` where there is no such folder or no aligned teacher in it, and where that teacher was made of
    another one than `cfg` names.
    """

    def __init__(self, name: str, cfg: Mapping[str, Any], revision: str | None = None):
        self.name = name
        self.output_dir = _folder(name, revision)
        self.folder = self.output_dir / "arte"
        self.manifest = Manifest(self.folder / "manifest.json")
        weights = "adapter_config.json" if cfg.get("adapter") else "config.json"
        if not (self.output_dir / weights).is_file():
            because = f"the YAML has `adapter: {cfg['adapter']}`" if cfg.get("adapter") else "the YAML has no `adapter`"
            raise ConfigError(
                f"`from_run`: no aligned teacher in {self.output_dir}. There should be {weights} ({because}). Was that "
                "run made with these keys, and is it finished?"
            )
        align = self.manifest.stages().get("align")
        if align is None:
            return
        if not same_model(align.inputs.get("teacher"), cfg["base_model"], cfg.get("revision_of_model")):
            raise ConfigError(
                f"`from_run`: the teacher of {name} was not aligned from {cfg['base_model']}, but from another model. "
                "`base_model` must be what it was in that run."
            )
        left = align.result.get(weights_left.KEY)
        if left and (found := weights_left.differences(self.output_dir, left)):
            raise ConfigError(
                f"`from_run`: what lies in {self.output_dir} is not the teacher that this run has aligned: "
                f"{'; '.join(found)}. Start that run again: it goes on where it was."
            )

    def check_rendering(self, rendering: Mapping[str, Any]) -> None:
        """Raises `ConfigError` where the teacher was aligned with other prompts than it is asked with here."""
        align = self.manifest.stages().get("align")
        if align is None:
            return
        for key, key_here in (("prompt_style", "teacher.prompt_style"), ("rendering", "")):
            there, here = align.inputs.get(key), rendering.get(key)
            # What an older version did not enter, or left open, can't be compared.
            if there in (None, "auto") or there == here:
                continue
            if key_here:
                raise ConfigError(
                    f"`from_run`: the teacher of {self.name} was aligned with `{key_here}: {there}`, here it is {here}."
                )
            raise ConfigError(
                f"`from_run`: the prompts of {self.name} were rendered with {there}, here they are with {here}. Take "
                "over `teacher.chat_template_kwargs`, `teacher.reasoning` and `date` from that run's YAML."
            )

    @property
    def cache(self) -> Path:
        """Its request cache, where it has one of its own."""
        return self.folder / "requests.sqlite"

    @property
    def drafts(self) -> Path:
        """Its drafts."""
        return self.folder / STAGES["elicit"] / "drafts.jsonl"

    @property
    def scores(self) -> Path:
        """Their scores."""
        return self.folder / STAGES["probe"] / "scores.jsonl"

    @property
    def results(self) -> Path:
        """What students have been evaluated to, by the hash of what decides it."""
        return self.folder / STAGES["evaluate"] / "results"

    @property
    def weights(self) -> dict[str, float]:
        """How much each of that run's students counted in its scores, as its manifest has it."""
        pair = self.manifest.stages().get("pair")
        return dict(pair.inputs.get("weights") or {}) if pair else {}

    def has_scored_drafts(self, tasks: Iterable[str]) -> bool:
        """Whether there are scored drafts of each of `tasks`."""
        if not (self.drafts.is_file() and self.scores.is_file()):
            return False
        scored = {row.draft_id for row in read_rows(self.scores, Score)}
        return set(tasks) <= {draft.task for draft in read_rows(self.drafts, Draft) if draft.draft_id in scored}

    def trained(self, inputs_hash: str) -> dict[str, Any] | None:
        """A student that was fine-tuned there with just these inputs, as its manifest has it; None if there is none."""
        stages, students = self.manifest.stages(), self.folder / STAGES["sft"]
        for name, record in stages.items():
            stage, _, label = name.partition("/")
            if stage != "sft" or record.inputs_hash != inputs_hash or is_trained_over(stages, name, students):
                continue
            which = "adapter" if record.result.get("adapter") else "model"
            # The folder may have been moved, or downloaded, since.
            for place in (Path(record.result[which]), students / label / "student"):
                if place.is_dir():
                    return {**record.result, which: str(place)}
        return None


def _folder(name: str, revision: str | None) -> Path:
    folder = Path(name).expanduser()
    if folder.is_dir():
        if revision:
            raise ConfigError(f"`from_run`: {name} is a folder here, which has no `from_run_revision`: take that out.")
        return folder
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ConfigError(f"`from_run`: there is no folder {name} (seen from {Path.cwd()}).")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"`from_run`: {name} is no folder here, and not to be had from the Hub either "
            f"({str(error).splitlines()[0]})."
        ) from error
