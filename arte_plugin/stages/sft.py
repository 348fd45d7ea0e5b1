"""Stage 7: a child `axolotl train` fine-tunes the student on the tailored examples, once for each arm and seed."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from typing_extensions import override

from arte_plugin import versions
from arte_plugin.config.arte import ArteArgs
from arte_plugin.models.identity import fingerprint_model
from arte_plugin.models.memory import logged_peaks
from arte_plugin.rows import TailoredExample, read_rows
from arte_plugin.run.folder import Made
from arte_plugin.run.manifest import StageRecord, count_rows, hash_file, hash_of
from arte_plugin.run.trainings import Training, is_trained_over, lodges, trainings
from arte_plugin.stages import STAGES, batch, fine_tuning
from arte_plugin.stages.stage import Stage, differs
from arte_plugin.training import child
from arte_plugin.training.weight_change import Change

if TYPE_CHECKING:
    from arte_plugin.run.run import Run


class FineTuning(Stage):
    """Stage 7. In the manifest it is `sft` for the arm `arte`, and `sft/ARM` for others (`Training.stage`)."""

    name: ClassVar[str] = "sft"
    what = "a child `axolotl train` fine-tunes the student on them"
    behind = ("regenerate",)
    writes = ("student.yaml", "student/", "train.log", "dropped.jsonl")
    on_one_rank = True

    @override
    def entries(self, args: ArteArgs) -> set[str]:
        return {training.stage for training in trainings(args)}

    @override
    def do(self, run: "Run") -> None:
        """For every student, arm and seed; arms with the same examples have one student."""
        alike: dict[tuple[str, str, int], Training] = {}
        likes: dict[Training, Training] = {}
        for training in trainings(run.args):
            key = (hash_file(run.examples_file(training.arm)), training.student.name, training.seed)
            likes[training] = alike.setdefault(key, training)
        # Last those whose student lies in another's folder, where another may be trained before that.
        stages, folder = run.out.manifest.stages(), self.file(run, "")
        for training, like in sorted(likes.items(), key=lambda one: bool(lodges(stages, one[1].stage, folder))):
            self.train(run, training, like)

    def train(self, run: "Run", training: Training, like: Training) -> None:
        """One of them; `like` is the first with the same examples."""
        if is_trained_over(run.out.manifest.stages(), training.stage, self.file(run, "")):
            run.out.overwrites(training.stage)
        student = training.student.to_train
        tailored = run.examples_file(like.arm)
        folder = self.file(run, like.folder)
        date = run.student_rendering(training.student).get("date")
        known = {"student": fingerprint_model(student.base_model, student.revision), "tailored": hash_file(tailored)}
        made_from = versions.stage_inputs(training.stage, known)
        config = fine_tuning.student_config(run.cfg, student, tailored, folder, training.seed, date, made_from)
        inputs = {**known, "config": hash_of(fine_tuning.decisive(config, student.sft))}

        peaks: dict[str, int] = {}

        def work() -> Made:
            examples = read_rows(tailored, TailoredExample)
            dropped = fine_tuning.too_long(examples, config)
            if run.source is not None and (
                there := run.source.trained(hash_of(versions.stage_inputs(training.stage, inputs)))
            ):
                trained, note = there, f"trained in {run.source.name}"
            elif like is training:
                # The training begins by clearing the folder of the student that was trained there before.
                run.out.overwrites(training.stage)
                processes = batch.processes(student.sft, child.gpus())
                trained = asdict(fine_tuning.train(config, folder, processes))
                note = Change(**trained["change"]).note() if trained["change"] else ""
                peaks.update(logged_peaks(folder / "train.log"))
            else:
                trained, note = run.out.manifest.stages()[like.stage].result, f"the same examples as {like.arm}"
            counts = [count_rows("examples", len(examples) - len(dropped), dropped, note)]
            return {folder / "dropped.jsonl": dropped}, counts, trained

        run.out.stage(training.stage, inputs, work, peaks=lambda: peaks)

    @override
    def differences(
        self, record: StageRecord, folder: Path, stages: Mapping[str, StageRecord], elsewhere: bool
    ) -> Iterator[bool]:
        """Its examples are any arm's."""
        if there := [*(folder / STAGES["regenerate"]).glob("*.jsonl")]:
            yield all(differs(record.inputs.get("tailored"), file) for file in there)
