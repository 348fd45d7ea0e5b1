"""docs/extending.md: its strategies are taken from the page into a folder of their own, and real commands run them."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from arte_plugin.config import plugs
from arte_plugin.rows import Draft, Dropped, Measure, PreferencePair, Score, TailoredExample, read_rows
from tests.e2e.conftest import ROOT, command, write_changed

PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
#: Each block of Python that begins with its file's name.
FILES = dict(re.findall(r"```python\n# (my_strategies/\w+\.py)\n(.*?)```", PAGE, re.DOTALL))
#: All that the page puts under `arte:`.
YAML = {
    key: value
    for text in re.findall(r"```yaml\n(arte:\n.*?)```", PAGE, re.DOTALL)
    for key, value in yaml.safe_load(text)["arte"].items()
}


class Run(NamedTuple):
    config: Path
    paths: Mapping[str, str]
    planned: str
    done: subprocess.CompletedProcess[str]

    @property
    def rows(self) -> Path:
        return self.config.parent / "run/arte"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where a user keeps strategies, outside of the package."""
    made = tmp_path_factory.mktemp("work")
    for name, text in FILES.items():
        (made / name).parent.mkdir(exist_ok=True)
        (made / name).write_text(text)
    return made


@pytest.fixture(scope="module")
def run(folder, tiny_config) -> Run:
    """The whole loop on the tiny model, with everything that the page shows."""
    changes = {f"arte.{key}": {**tiny_config["arte"].get(key, {}), **value} if isinstance(value, dict) else value
               for key, value in YAML.items()}  # fmt: skip
    config = write_changed(tiny_config, {"output_dir": str(folder / "run"), **changes}, folder / "arte.yaml")
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))}
    planned = command("arte", "plan", str(config), **paths)
    assert planned.returncode == 0, planned.stderr[-3000:]
    done = command("axolotl", "train", str(config), **paths)
    assert done.returncode == 0, done.stderr[-3000:]
    return Run(config, paths, planned.stdout, done)


def test_all_files_of_the_page_are_taken():
    assert PAGE.count("# my_strategies/") == len(FILES) == 6
    assert set(YAML) == {"signals", "pair", "arms", "diagnostics"}


@pytest.mark.parametrize("name", sorted(FILES))
def test_each_is_what_one_plug_point_asks_for(name, folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    module = name.removesuffix(".py").replace("/", ".")
    kind = re.findall(r"^class (\w+)", FILES[name], re.MULTILINE)[-1]
    fitting = []
    for point, (_, protocol) in plugs.POINTS.items():
        try:
            plugs._imported(point, f"{module}:{kind}", protocol)
        except ValueError as error:
            assert "it has no" in str(error)
        else:
            fitting.append(point)
    assert len(fitting) == 1


def test_the_signal_scores_drafts(run):
    assert "attempts" in run.planned
    drafts = {one.draft_id: one for one in read_rows(run.rows / "01-elicit/drafts.jsonl", Draft)}
    measures = read_rows(run.rows / "03-probe/measures.jsonl", Measure)
    [(name, settings)] = YAML["signals"][0].items()
    own = {one.id: one for one in measures if one.signal == name}
    paper = {one.id: one for one in measures if one.signal == "answers"}
    assert own.keys() == paper.keys() == drafts.keys()
    for draft_id, one in own.items():
        words = [word for word in re.findall(r"\w+", drafts[draft_id].rationale) if len(word) >= settings["shortest"]]
        assert one.n == len(words)
        assert one.value * one.n == pytest.approx(round(one.value * one.n))
    assert len({one.value for one in own.values()}) > 1
    for score in read_rows(run.rows / "03-probe/scores.jsonl", Score):
        assert score.score == pytest.approx((own[score.draft_id].value + paper[score.draft_id].value) / 2)


def test_the_pairing_makes_pairs(run):
    pairs = read_rows(run.rows / "04-pair/pairs.jsonl", PreferencePair)
    dropped = read_rows(run.rows / "04-pair/dropped.jsonl", Dropped)
    scores = {one.draft_id: one.score for one in read_rows(run.rows / "03-probe/scores.jsonl", Score)}
    assert pairs
    assert len(pairs) + sum(one.reason == "rationale_none_longer_is_worse" for one in dropped) == 8
    for one in pairs:
        assert len(one.chosen) < len(one.rejected)
        assert one.chosen_score == pytest.approx(scores[one.chosen_id])
        assert one.chosen_score > one.rejected_score == pytest.approx(scores[one.rejected_id])


def test_the_plan_asks_about_topics_and_no_student_reads_of_them(run):
    arm = YAML["arms"][1]
    [topics] = [settings["topics"] for entry in arm["plan"] for settings in entry.values()]
    examples = read_rows(run.rows / f"06-regenerate/{arm['name']}.jsonl", TailoredExample)
    assert examples
    trained = (run.rows / f"06-regenerate/{arm['name']}.jsonl").read_text()
    assert not [topic for topic in topics if f"about this: {topic}" in trained]
    # Asked with words of its own, the teacher writes other questions than without.
    plain = read_rows(run.rows / "06-regenerate/tailored.jsonl", TailoredExample)
    assert {one.question for one in examples} != {one.question for one in plain}


def test_the_selector_leaves_out_what_is_long(run):
    arm = YAML["arms"][1]
    [words] = [settings["words"] for entry in arm["select"] for settings in entry.values()]
    lengths = [
        len(one.rationale.split())
        for one in read_rows(run.rows / f"06-regenerate/{arm['name']}.jsonl", TailoredExample)
    ]
    assert lengths and max(lengths) <= words


def test_the_diagnostic_is_written(run):
    text = (run.rows / "09-diagnose/diagnostics.md").read_text()
    assert "One answer to all" in text and "most frequent" in text
    for arm in ("arte", YAML["arms"][1]["name"]):
        assert re.search(rf"\|\s*{arm}\s*\|", text)


def test_run_again_it_asks_nobody(run):
    before = json.loads((run.rows / "manifest.json").read_text())
    again = command("axolotl", "train", str(run.config), **run.paths)
    assert again.returncode == 0, again.stderr[-3000:]
    assert json.loads((run.rows / "manifest.json").read_text()) == before
