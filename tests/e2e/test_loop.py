"""The whole loop through the real `axolotl train`, on a tiny model that was taught the form of the tasks."""

import json
import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from arte_plugin.config.check import check_config
from arte_plugin.data.same_question import comparable
from arte_plugin.plan.make import make_plan
from arte_plugin.rows import (
    Draft,
    Dropped,
    PreferencePair,
    Probe,
    Response,
    Score,
    TailoredExample,
    WorkedSeed,
    read_rows,
)
from arte_plugin.run.manifest import Manifest
from arte_plugin.stages import STAGES
from arte_plugin.stages.set_consistency import preference_set_report
from tests.e2e.conftest import arte, axolotl, command
from tests.hub_cache import put_arc

#: Every file that a run leaves, by the design.
#: Stages that a run has only where its YAML asks for them.
FEW_HAVE = ["student-dpo", "diagnose"]

FILES = [
    "01-elicit/drafts.jsonl",
    "02-preference-set/responses.jsonl",
    "02-preference-set/preference_set.jsonl",
    "02-preference-set/irt.json",
    "03-probe/probes.jsonl",
    "03-probe/scores.jsonl",
    "04-pair/pairs.jsonl",
    "04-pair/dropped.jsonl",
    "04-pair/gaps.json",
    "03-probe/consistency_probes.jsonl",
    "03-probe/consistency.json",
    "05-align-check/rationales.jsonl",
    "05-align-check/probes.jsonl",
    "05-align-check/pairs.jsonl",
    "05-align-check/alignment.json",
    "06-regenerate/tailored.jsonl",
    "07-sft/student.yaml",
    "07-sft/student/model.safetensors",
    "08-evaluate/results.json",
    "manifest.json",
    "requests.sqlite",
]


@pytest.fixture(scope="module")
def finished(tiny_config, tmp_path_factory):
    """One run of the whole loop, which the tests of this module look at: its YAML, its folder, all that it printed."""
    place = tmp_path_factory.mktemp("loop")
    config = place / "arte.yaml"
    checked = {
        **tiny_config["arte"],
        "preference_set": {"size": 6, "consistency_questions": 3},
        "align": {"check": True},
    }
    config.write_text(yaml.safe_dump({**tiny_config, "output_dir": str(place / "out"), "arte": checked}))
    done = command("axolotl", "train", str(config), together=True)
    assert done.returncode == 0, done.stdout[-3000:]
    return config, place / "out" / "arte", done.stdout


def test_every_file_of_the_design_is_there(finished):
    _, folder, _ = finished
    assert [name for name in FILES if not (folder / name).is_file()] == []
    assert (folder.parent / "adapter_config.json").is_file()


def test_one_file_holds_every_answer(finished, tmp_path):
    _, folder, _ = finished
    assert sorted(file.name for file in folder.glob("requests*")) == ["requests.sqlite"]
    shutil.copy(folder / "requests.sqlite", tmp_path / "alone.sqlite")
    with closing(sqlite3.connect(tmp_path / "alone.sqlite")) as alone:
        tables = ("completions", "likelihoods")
        answers = sum(alone.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0] for table in tables)
    stages = Manifest(folder / "manifest.json").stages()
    assert answers == sum(stage.usage.get("asked", 0) for stage in stages.values()) > 100


def test_ends_with_the_stage_table_and_the_accuracy_table(finished):
    config, folder, output = finished
    # To the last character: nothing that a library prints on the way out comes behind.
    table = output[output.rindex("\nstage  ") :]
    assert [stage for stage in STAGES if f"\n{stage} " not in table] == FEW_HAVE
    assert table.index("\nprobe/consistency ") > table.index("\nprobe ")
    assert "halves agree" in table and "can't be told" in table and "best the same" in table
    assert "95 % interval" in table
    assert "base" in table and "arte" in table
    shown_again = command("arte", "status", str(config))
    assert shown_again.returncode == 0
    assert table.strip() in shown_again.stdout
    _, narrow = command("arte", "status", str(config), COLUMNS="80").stdout.split(f"{folder}\n", 1)
    assert max(map(len, narrow.splitlines())) <= 100
    assert sorted(re.sub("-{2,}", "", narrow).split()) == sorted(re.sub("-{2,}", "", table).split())


def test_nothing_disappears_without_a_count(finished):
    _, folder, _ = finished
    stages = Manifest(folder / "manifest.json").stages()
    assert [stage for stage in stages if "/" not in stage] == [stage for stage in STAGES if stage not in FEW_HAVE]
    for record in stages.values():
        for count in record.counts:
            assert count.made == count.kept + sum(count.dropped.values())
    dropped = read_rows(folder / "01-elicit/dropped.jsonl", Dropped)
    assert len(dropped) == sum(sum(count.dropped.values()) for count in stages["elicit"].counts)
    assert stages["elicit"].usage["asked"] > 0


def test_probes_are_drafts_times_preference_questions_and_scores_are_their_means(finished):
    _, folder, _ = finished
    drafts = read_rows(folder / "01-elicit/drafts.jsonl", Draft)
    probes = read_rows(folder / "03-probe/probes.jsonl", Probe)
    assert len(probes) == len(drafts) * 6
    for score in read_rows(folder / "03-probe/scores.jsonl", Score):
        own = [probe.outcome for probe in probes if probe.draft_id == score.draft_id]
        assert score.n == len(own) == 6
        assert score.score == own.count("correct") / 6
        assert score.unparsed == own.count("unparsed")
        assert score.low <= score.score <= score.high


def test_the_check_probes_some_questions_on_the_rest_of_the_validation_set(finished):
    _, folder, _ = finished
    drafts = read_rows(folder / "01-elicit/drafts.jsonl", Draft)
    known = read_rows(folder / "03-probe/probes.jsonl", Probe)
    rows = read_rows(folder / "03-probe/consistency_probes.jsonl", Probe)
    question_of = {draft.draft_id: draft.question_id for draft in drafts}
    checked = {question_of[row.draft_id] for row in rows}
    assert len(checked) == 3
    assert len({row.preference_id for row in rows}) == 6
    assert not {row.preference_id for row in rows} & {row.preference_id for row in known}
    of_checked = [draft for draft in drafts if draft.question_id in checked]
    assert len(rows) == len(of_checked) * 6
    (task,) = preference_set_report(folder).values()
    # Four respondents are too few for halves.
    assert (task["method"], task["size"], task["validation"], task["chance"]) == ("irt", 6, 12, None)
    (found,) = task["consistency"].values()
    assert (found["questions"], found["drafts"], found["validation"]) == (3, len(of_checked), 12)
    tied = found["preference_set"]["tied"] + found["tied_on_validation_set"]
    assert found["preference_set"]["compared"] == 3 - tied


def test_the_plan_had_said_how_many_requests(finished):
    """Exactly, where the numbers of questions and drafts decide; of questions, a first wave and at most `max_calls`."""
    config, folder, _ = finished
    cfg = yaml.safe_load(config.read_text())
    args = check_config(cfg).arte
    planned = {one.what: one for one in make_plan(cfg, args, 1, {}).works}
    stages = Manifest(folder / "manifest.json").stages()
    drafts = len(read_rows(folder / "01-elicit/drafts.jsonl", Draft))
    lost = stages["elicit"].counts[1]
    assert lost.made == planned["rationales"].calls == 8 * 4
    assert stages["elicit"].usage["requests"] >= planned["draft questions"].calls + planned["rationales"].calls
    assert stages["elicit"].usage["requests"] - lost.made <= args.elicit.max_calls * 2
    assert stages["preference-set"].usage["requests"] == planned["respondents"].calls == 4 * 12
    # Drafts without an answer are not probed, and the plan can't know of them.
    assert stages["probe"].usage["requests"] == planned["probes"].calls * drafts / lost.made
    checked = len(read_rows(folder / "03-probe/consistency_probes.jsonl", Probe))
    assert checked == stages["probe/consistency"].usage["requests"] <= planned["consistency"].calls == 3 * 4 * 6
    check = stages["align-check"].usage["requests"]
    assert check <= sum(work.calls for what, work in planned.items() if what.startswith("check")) + 2 * 2 * 10
    examples = stages["regenerate"].counts[1]
    assert examples.made == planned["tailored rationales"].calls == 8
    written = stages["regenerate"].usage["requests"] - examples.made
    assert planned["tailored questions"].calls <= written <= args.elicit.max_calls * 2
    assert stages["evaluate"].counts[0].made == planned["evaluation"].calls
    # Prompts as they were, but for what the tiny teacher's own questions and rationales are longer or shorter by.
    asked = stages["preference-set"].usage["prompt_tokens"]
    assert planned["respondents"].asked == pytest.approx(asked, rel=0.1)


def test_pairs_prefer_the_higher_score_under_prompts_that_the_teacher_saw(finished):
    _, folder, _ = finished
    drafts = read_rows(folder / "01-elicit/drafts.jsonl", Draft)
    by_id = {draft.draft_id: draft for draft in drafts}
    question_prompts = {(draft.question_prompt, draft.question_begun) for draft in drafts}
    pairs = read_rows(folder / "04-pair/pairs.jsonl", PreferencePair)
    assert {pair.level for pair in pairs} == {"question", "rationale"}
    for pair in pairs:
        assert pair.chosen_score > pair.rejected_score
        assert pair.chosen != pair.rejected
        if pair.level == "question":
            assert (pair.prompt, pair.begun) in question_prompts
        else:
            draft = by_id[pair.chosen_id]
            assert pair.chosen == draft.rationale
            # Prompt erasure: the technique that was asked for can't be seen any more.
            assert pair.prompt == draft.solve_prompt
            assert "Let's think step by step" in pair.prompt and "Solve it" not in pair.prompt


def test_tailored_examples_leak_no_validation_or_test_question(finished):
    _, folder, _ = finished
    examples = read_rows(folder / "06-regenerate/tailored.jsonl", TailoredExample)
    questions = [comparable(example.question) for example in examples]
    assert len(set(questions)) == len(questions) > 0
    held_out = [json.loads(line)["question"] for line in _lines(folder / "02-preference-set/preference_set.jsonl")]
    held_out += [json.loads(line)["prompt"] for line in _lines(folder / f"08-evaluate/{_task_file(folder)}")]
    assert not any(comparable(question) in questions for question in held_out[:6])
    assert not any(f"question {question} answer" in comparable(text) for question in questions for text in held_out[6:])


def test_student_yaml_runs_alone(finished):
    _, folder, _ = finished
    config = yaml.safe_load((folder / "07-sft/student.yaml").read_text())
    assert config["datasets"][0]["type"] == "arte_plugin.strategies.tailored"
    assert Path(config["base_model"]).is_absolute()
    assert not {"rl", "arte", "plugins", "adapter", "lora_r"} & config.keys()


def test_preprocess_stops_after_the_pairs(finished, tiny_config, tmp_path):
    _, folder, _ = finished
    config = tmp_path / "arte.yaml"
    shared = {**tiny_config["arte"], "cache": str(folder / "requests.sqlite")}
    config.write_text(yaml.safe_dump({**tiny_config, "output_dir": str(tmp_path / "out"), "arte": shared}))
    done = axolotl("preprocess", str(config))
    assert done.returncode == 0, done.stderr[-3000:]
    made = Manifest(tmp_path / "out/arte/manifest.json").stages()
    assert list(made) == ["elicit", "preference-set", "probe", "pair"]
    assert not (tmp_path / "out/adapter_config.json").exists()
    # The same requests as the finished run's: everything comes from its cache, and every row is the same, without the
    # check of the preference set that the finished run made.
    assert sum(record.usage.get("asked", 0) for record in made.values()) == 0
    for name in FILES[:8]:
        assert (tmp_path / "out/arte" / name).read_bytes() == (folder / name).read_bytes(), name


def test_seeds_that_the_teacher_solves_are_shown_in_few_shot_prompts(finished, tiny_config, tmp_path):
    """All else comes from the finished run's cache: drafts, and what respondents say without an example."""
    _, folder, _ = finished
    config = tmp_path / "arte.yaml"
    block = {**tiny_config["arte"], "cache": str(folder / "requests.sqlite")}
    block["elicit"] = {**block["elicit"], "worked_examples": True}
    config.write_text(yaml.safe_dump({**tiny_config, "output_dir": str(tmp_path / "out"), "arte": block}))
    done = arte("preference-set", str(config))
    assert done.returncode == 0, done.stderr[-3000:]
    stages = Manifest(tmp_path / "out/arte/manifest.json").stages()
    assert list(stages) == ["elicit", "elicit/worked", "preference-set"]
    assert (stages["elicit"].usage["asked"], stages["elicit/worked"].usage["asked"]) == (8, 0)
    [counted] = stages["elicit/worked"].counts
    worked = read_rows(tmp_path / "out/arte/01-elicit/worked_seeds.jsonl", WorkedSeed)
    assert len(worked) == counted.kept > 0 and counted.made == 8
    assert len(_lines(tmp_path / "out/arte/01-elicit/worked_dropped.jsonl")) == 8 - counted.kept
    for name in ("01-elicit/drafts.jsonl", "01-elicit/dropped.jsonl"):
        assert (tmp_path / "out/arte" / name).read_bytes() == (folder / name).read_bytes()
    # 12 validation questions at 1, 2 and 3 shots; those at 0 shots are known.
    assert 0 < stages["preference-set"].usage["asked"] <= 3 * 12


def test_drafts_as_respondents_are_not_asked_again_in_stage_3(tiny_config, tmp_path):
    config = tmp_path / "arte.yaml"
    block = {**tiny_config["arte"], "preference_set": {"size": 6, "pilot_drafts": 8}}
    config.write_text(yaml.safe_dump({**tiny_config, "output_dir": str(tmp_path / "out"), "arte": block}))
    done = arte("probe", str(config))
    assert done.returncode == 0, done.stderr[-3000:]
    folder = tmp_path / "out/arte"
    stages = Manifest(folder / "manifest.json").stages()
    drafts = len(read_rows(folder / "01-elicit/drafts.jsonl", Draft))
    rows = read_rows(folder / "02-preference-set/responses.jsonl", Response)
    assert len({row.respondent for row in rows}) == 8 and len(rows) == 8 * 12
    assert stages["preference-set"].usage["requests"] == 8 * 12
    assert stages["probe"].usage["requests"] == drafts * 6
    assert stages["probe"].usage["asked"] <= (drafts - 8) * 6
    assert stages["probe"].usage["requests"] - stages["probe"].usage["asked"] >= 8 * 6
    # Eight respondents are enough to tell whether others would have chosen the same.
    (task,) = preference_set_report(folder).values()
    assert task["overlap"] is not None and task["respondents"] == 8


def test_other_pairs_from_published_scores_ask_no_model(finished, tiny_config, tmp_path):
    _, folder, _ = finished
    config = tmp_path / "arte.yaml"
    pair = {
        "drafts": str(folder / "01-elicit/drafts.jsonl"),
        "scores": str(folder / "03-probe/scores.jsonl"),
        "question_pairs": 1,
        "quantile": 0.5,
    }
    content = {**tiny_config, "output_dir": str(tmp_path / "out"), "arte": {**tiny_config["arte"], "pair": pair}}
    config.write_text(yaml.safe_dump(content))
    done = arte("pair", str(config))
    assert done.returncode == 0, done.stderr[-3000:]
    assert list(Manifest(tmp_path / "out/arte/manifest.json").stages()) == ["pair"]
    pairs = read_rows(tmp_path / "out/arte/04-pair/pairs.jsonl", PreferencePair)
    assert sum(pair.level == "question" for pair in pairs) == 1
    before = read_rows(folder / "04-pair/pairs.jsonl", PreferencePair)
    assert [p for p in pairs if p.level == "rationale"] == [p for p in before if p.level == "rationale"]

    # With another seed, some of that run's seed and preference questions are test questions here.
    everything_else = {**content["arte"]["tasks"][0], "test_questions": None}
    content["arte"] |= {"seed": 7, "tasks": [everything_else]}
    config.write_text(yaml.safe_dump(content))
    refused = arte("validate", str(config))
    assert refused.returncode == 1
    assert "test questions are questions that the teacher of " in refused.stderr
    content["arte"] |= {"overlap": "drop"}
    config.write_text(yaml.safe_dump(content))
    fine = arte("validate", str(config))
    assert fine.returncode == 0, fine.stderr[-3000:]
    assert " test questions that were aligned on left out)" in fine.stdout


def test_training_sees_each_pair_once_with_its_end_and_no_second_beginning(finished):
    _, folder, _ = finished
    from datasets import load_from_disk
    from transformers import AutoTokenizer

    prepared = next(folder.glob("04-pair/prepared-*/*/dataset_info.json")).parent
    rows = load_from_disk(str(prepared))
    tokenizer = AutoTokenizer.from_pretrained(folder.parent)
    pairs = read_rows(folder / "04-pair/pairs.jsonl", PreferencePair)
    assert len(rows) == len(pairs)
    for row in rows:
        for side in ("chosen", "rejected"):
            ids = tokenizer(row["prompt"] + row[side])["input_ids"]
            # A question is one of several in a reply, and ends nothing.
            ends = 0 if row[side].endswith(tuple(f"</Question_{n}>" for n in range(4, 10))) else 1
            assert (ids[-1] == tokenizer.eos_token_id) == bool(ends)
            assert ids.count(tokenizer.eos_token_id) == row["prompt"].count(tokenizer.eos_token) + ends


def test_second_run_asks_no_model_and_trains_nothing_and_adds_benchmarks(finished, tmp_path):
    """Benchmarks are no part of any stage's inputs, and neither is how a training is told of. One without data is told.

    What a training with another `lora_alpha` that was stopped at once has left is put back.
    """
    config, folder, _ = finished
    adapter = folder.parent / "adapter_config.json"
    left = adapter.read_text()
    adapter.write_text(left.replace('"lora_alpha": 8', '"lora_alpha": 64'))
    assert adapter.read_text() != left
    content = yaml.safe_load(config.read_text())
    content |= {"logging_steps": 2, "save_total_limit": 1, "wandb_project": "mine", "dataloader_num_workers": 0}
    content["arte"]["evaluate"]["benchmarks"] = ["piqa", "arc_easy"]
    benchmarked = tmp_path / "arte.yaml"
    benchmarked.write_text(yaml.safe_dump(content))
    put_arc(tmp_path / "hf/datasets")
    before = {
        path: path.stat().st_mtime_ns for path in folder.parent.rglob("*") if path.suffix in (".jsonl", ".safetensors")
    }
    manifest = (folder / "manifest.json").read_text()
    done = command("axolotl", "train", str(benchmarked), "--launcher", "python", HF_HOME=str(tmp_path / "hf"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "95 % interval" in done.stdout
    assert (folder / "manifest.json").read_text() == manifest
    assert adapter.read_text() == left and "`lora_alpha: 64` instead of 8" in done.stdout + done.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before
    table = done.stdout[done.stdout.index("benchmark  ") :]
    assert [line.split()[:5] for line in table.splitlines()[2:4]] == [
        ["arc_easy", "0", arm, "acc_norm", "6"] for arm in ("base", "arte")
    ]
    assert "\npiqa skipped: its data is not in the cache here" in table and "Couldn't reach 'baber/piqa'" in table
    assert table.strip() in arte("status", str(benchmarked)).stdout


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def _task_file(folder: Path) -> str:
    return str(next((folder / "08-evaluate/lm_eval_tasks").glob("*_0shot.jsonl")).relative_to(folder / "08-evaluate"))
