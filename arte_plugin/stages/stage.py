"""What a stage is: one object that the loop, `arte plan`, `arte status` and the docs read from.

To add one:

1. Give it a place in the order, with its folder: a line in `STAGES` (`stages/__init__.py`). One that only adds to
   another's folder is named after that, as in `probe/consistency`, and needs none: it comes right behind it.
2. Write it: a file beside this one with a subclass of `Stage`. Two things it must say: what it depends on (`inputs`:
   the same inputs, the same rows) and what it does (`work`: rows or text by file, counts for the stage table, and what
   later stages have to know). The rest has defaults: whether a run has it (`asked`), whom it asks (`models`), what that
   will take (`calls`), what is wrong with the YAML (`check`), what follows once it is done (`ends`), and what
   `arte status` shows beyond its line (`shown`). What makes it long lies in modules beside it.
3. Add an object of it to `order.py`, and its version to `versions.py`.

The base skips what is done for the same inputs, writes, counts and records; a stage's `work` opens no file to write but
for what is too much to be held, and returns the rest.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from arte_plugin import versions
from arte_plugin.config.arte import ArteArgs
from arte_plugin.models.model import Model
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.run.folder import Made
from arte_plugin.run.manifest import StageRecord, hash_file
from arte_plugin.stages import STAGES

if TYPE_CHECKING:
    from arte_plugin.run.run import Run

#: The stages whose files a run takes from elsewhere where it makes no drafts of its own.
DRAFTING = ("elicit", "preference-set", "probe")


class Stage:
    """One stage. It has no state: all that it knows of a run it is given."""

    #: In the manifest, in `STAGES` and on the command line.
    name: ClassVar[str]
    #: What it does, in a few words, for docs/stages.md.
    what: ClassVar[str]
    #: The files that it depends on by their content: by the input's name, the stage that made it and the file's name.
    reads: ClassVar[Mapping[str, tuple[str, str]]] = {}
    #: The stages that it depends on as they are, besides files.
    behind: ClassVar[tuple[str, ...]] = ()
    #: The files that it leaves in its folder, for docs/stages.md.
    writes: ClassVar[tuple[str, ...]] = ()
    #: Whether it is the first rank's business alone: what it starts takes all GPUs by itself.
    on_one_rank: ClassVar[bool] = False
    #: Whether few runs have it: then `arte status` names it only where it has been, or is asked for.
    rare: ClassVar[bool] = False

    @property
    def folder(self) -> str:
        """Its folder in that of the run; several may share one. Empty for what lies in `output_dir` itself."""
        return STAGES[self.name.partition("/")[0]]

    @property
    def version(self) -> int:
        """Raised where its own code makes other rows of the same inputs."""
        return versions.STAGES[self.name]

    # --- Before a run ------------------------------------------------------------------------------------------------

    def asked(self, args: ArteArgs, makes_drafts: bool) -> bool:
        """Whether a run has this stage; `makes_drafts`: whether stages 1 to 3 are its own (`Run.makes_drafts`)."""
        return True

    def check(self, args: ArteArgs) -> None:
        """Raises `ConfigError` for what only this stage knows to be wrong, before any model is loaded."""

    def calls(self, args: ArteArgs, task: Sizes) -> Iterable[Work]:
        """What it asks of models for one task, for `arte plan`; asked only of stages that the run has."""
        return ()

    # --- In a run ----------------------------------------------------------------------------------------------------

    def models(self, run: "Run") -> list[Model]:
        """Whom it asks. Nobody is loaded before there is something to ask, and `do` closes them all."""
        return []

    def inputs(self, run: "Run", models: Sequence[Model]) -> Mapping[str, Any]:
        """All that decides its rows, ready for JSON. What came later enters only where it is not the default."""
        raise NotImplementedError

    def work(self, run: "Run", models: Sequence[Model]) -> Made:
        """Do it: what is to be written, what was counted, and results for later stages."""
        raise NotImplementedError

    def ends(self, run: "Run") -> None:
        """What follows, be it done just now or before."""

    def do(self, run: "Run") -> None:
        """Do the work and record it, unless that is done for the same inputs."""
        models = self.models(run)
        run.out.stage(self.name, self.inputs(run, models), lambda: self.work(run, models), models)
        self.ends(run)

    def file(self, run: "Run", name: str) -> Path:
        """A file of its folder."""
        return run.out.file(self.name.partition("/")[0], name)

    def read(self, run: "Run", key: str) -> Path:
        """The file that is the input `key` (`reads`), of this run's own folder."""
        return run.out.file(*self.reads[key])

    # --- Afterwards --------------------------------------------------------------------------------------------------

    def differences(
        self, record: StageRecord, folder: Path, stages: Mapping[str, StageRecord], elsewhere: bool
    ) -> Iterator[bool]:
        """Of each input of a finished stage that can be compared with what lies in a run folder now: does it differ?

        `elsewhere`: drafts and scores are not this run's own, and what lies here of them is of another config.
        """
        for key, (stage, name) in self.reads.items():
            if not (elsewhere and stage in DRAFTING):
                yield differs(record.inputs.get(key), folder / STAGES[stage] / name)

    def entries(self, args: ArteArgs) -> set[str]:
        """Its names in the manifest; `NAME/ARM` where it is done for each arm. Others there are of earlier configs."""
        return {self.name}

    def shown(self, folder: Path) -> str:
        """What `arte status` shows of it beyond its line in the stage table, once it is done; `folder` is the run's."""
        return ""


def differs(then: str | None, file: Path) -> bool:
    """Whether a file is there and not the one whose hash was `then`; what can't be compared counts as the same."""
    return then is not None and file.is_file() and hash_file(file) != then


def asks_again(run: "Run") -> dict[str, Any]:
    """An input: that replies without an answer are asked for it, which is not in the paper."""
    return {"ask_again": True} if run.args.probe.ask_again else {}
