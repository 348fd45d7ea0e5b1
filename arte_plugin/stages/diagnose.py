"""Behind stage 8: tables that a reader must know before believing a result (`diagnostics/`), where the YAML names some.

Those that ask nobody are also made on demand, `arte status --diagnostics`, so that a run needs this stage only for what
asks a model, and to have the tables written beside the rows.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import override

from arte_plugin.config.arte import ArteArgs
from arte_plugin.models.asking import ModelAsking
from arte_plugin.models.model import Model
from arte_plugin.models.student import student_model
from arte_plugin.models.teacher import teacher_model
from arte_plugin.plan.work import Sizes, Work
from arte_plugin.plugs import Asking
from arte_plugin.run.evidence import NobodyAsked, RunFiles
from arte_plugin.run.folder import Files, Made
from arte_plugin.run.manifest import Count, StageRecord, hash_file
from arte_plugin.show.tables import markdown_table
from arte_plugin.stages import STAGES
from arte_plugin.stages.aligned_teacher import aligned_teacher
from arte_plugin.stages.diagnosing import asks, tables
from arte_plugin.stages.stage import DRAFTING, Stage, differs

if TYPE_CHECKING:
    from arte_plugin.run.run import Run

NAME = "diagnose"
TABLES = "diagnostics.md"

#: What tables are made of, by the stage whose folder it lies in; examples come beside these, by arm.
_FILES = {
    "elicit": ("drafts.jsonl", "dropped.jsonl"),
    "preference-set": ("responses.jsonl", "preference_set.jsonl", "irt.json"),
    "probe": ("probes.jsonl", "scores.jsonl", "measures.jsonl", "attempts.jsonl", "consistency.json"),
    "pair": ("pairs.jsonl", "gaps.json"),
    "align-check": ("alignment.json", "rationales.jsonl"),
    "regenerate": ("dropped.jsonl",),
    "evaluate": ("results.json",),
}


class Diagnose(Stage):
    """The diagnostics of `arte.diagnostics`, as tables."""

    name: ClassVar[str] = NAME
    what = "tables to know before believing the result, where `diagnostics` names some"
    behind = ("evaluate",)
    writes = (TABLES, "diagnostics.json", "attempts.jsonl")
    on_one_rank = True
    rare = True

    @override
    def asked(self, args: ArteArgs, makes_drafts: bool) -> bool:
        return bool(args.diagnostics)

    @override
    def calls(self, args: ArteArgs, task: Sizes) -> Iterable[Work]:
        """What several ask alike is asked once."""
        found: dict[tuple[str, str], Work] = {}
        for one in args.chosen_diagnostics:
            for work in one.made().calls(task):
                known = found.get((work.who, work.what))
                found[work.who, work.what] = work if known is None or work.calls > known.calls else known
        return found.values()

    @override
    def models(self, run: "Run") -> list[Model]:
        """Both teachers and the students, if a diagnostic asks; nobody is loaded who is not asked."""
        if not any(map(asks, run.args.chosen_diagnostics)):
            return []
        students = [student_model(one, run.args, run.cfg, run.cache) for one in run.args.students]
        made = [teacher_model(run.cfg, run.args, run.cache), aligned_teacher(run), *students]
        for one in made:
            # Only the first rank is here.
            one.alone = True
        return made

    @override
    def inputs(self, run: "Run", models: Sequence[Model]) -> Mapping[str, Any]:
        drafts, scores = _elsewhere(run)
        files = {
            f"{stage}/{name}": hash_file(file)
            for stage, names in _FILES.items()
            for name in names
            if stage in _done(run) and (file := run.out.file(stage, name)).is_file()
        }
        files |= {f"{arm} examples": hash_file(run.examples_file(arm)) for arm in run.args.combinations}
        files |= {str(name): hash_file(file) for name, file in (("drafts", drafts), ("scores", scores)) if file}
        return {
            "diagnostics": [one.identity for one in run.args.chosen_diagnostics],
            "tasks": run.task_inputs(),
            "seed": run.args.sampling_seed,
            "files": files,
            **({"weights": run.weights} if run.weights else {}),
            **({"asked": [run.asking(one) for one in models], "tokens": run.args.regenerate.max_new_tokens,
                "probe": run.args.probe.model_dump(exclude={"batch_size", "budget", "racing", "min_readable"})}
               if models else {}),
        }  # fmt: skip

    @override
    def work(self, run: "Run", models: Sequence[Model]) -> Made:
        drafts, scores = _elsewhere(run)
        arms = [*run.args.combinations]
        evidence = RunFiles(run.out.path, _done(run), arms, drafts, scores, run.weights).evidence(run.tasks)
        asking: Asking = NobodyAsked(run.args.sampling_seed)
        attempts = {}
        if models:
            before, teacher, *students = models
            asking = service = ModelAsking(
                students, lambda: teacher, run.args.probe, run.args.regenerate.max_new_tokens, run.args.sampling_seed,
                NAME, lambda: before,
            )  # fmt: skip
            attempts = service.attempted
        made = tables(run.args.chosen_diagnostics, run.tasks, evidence, asking)
        text = [
            f"## {title}\n\n{markdown_table(lines) if lines else 'Nothing to show.'}" for title, lines in made.values()
        ]
        report = {
            name: {"title": title, "head": list(lines[0]) if lines else [], "rows": [list(line) for line in lines[1:]]}
            for name, (title, lines) in made.items()
        }
        files: Files = {
            self.file(run, TABLES): "\n\n".join(text) + "\n",
            self.file(run, "diagnostics.json"): json.dumps({"format": 1, "diagnostics": report}, indent=2) + "\n",
            self.file(run, "attempts.jsonl"): list(attempts.values()),
        }
        shown = sum(bool(lines) for _, lines in made.values())
        counts = [
            Count("tables", len(made), shown, {"nothing_to_show": len(made) - shown} if shown < len(made) else {})
        ]
        if attempts:
            counts.append(Count("attempts", len(attempts), len(attempts)))
        return files, counts, {}

    @override
    def differences(
        self, record: StageRecord, folder: Path, stages: Mapping[str, StageRecord], elsewhere: bool
    ) -> Iterator[bool]:
        """Every file that there was."""
        for key, then in record.inputs.get("files", {}).items():
            stage, _, name = key.partition("/")
            if stage in STAGES:
                yield differs(then, folder / STAGES[stage] / name)

    @override
    def shown(self, folder: Path) -> str:
        file = folder / self.folder / "diagnostics.json"
        names = ", ".join(json.loads(file.read_text(encoding="utf-8"))["diagnostics"])
        return f"\ndiagnostics: {names}: {folder / self.folder / TABLES}\n"


def _done(run: "Run") -> list[str]:
    """The stages whose files are of this config: what it has, of all that was ever done in this folder."""
    not_its_own = [*([] if run.makes_drafts else DRAFTING), *([] if run.args.align.check else ["align-check"])]
    if run.source is not None:
        not_its_own += ["pair", "align-check"]
    return [name for name in run.out.manifest.stages() if name not in not_its_own]


def _elsewhere(run: "Run") -> tuple[Path | None, Path | None]:
    """Drafts and scores that are not this run's own."""
    drafts, scores = run.scored_drafts()
    return (None, None) if drafts == run.out.file("elicit", "drafts.jsonl") else (drafts, scores)
