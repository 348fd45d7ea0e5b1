"""`from_run`: what of another run can be used, and what is refused."""

import pytest

from arte_plugin.config.arms import ARMS
from arte_plugin.config.elicit import ElicitArgs
from arte_plugin.config.regenerate import RegenerateArgs
from arte_plugin.config.tasks import TaskArgs
from arte_plugin.data.tasks import Task
from arte_plugin.errors import ConfigError, DataError
from arte_plugin.models.identity import fingerprint_model
from arte_plugin.rows import Draft, Question, Score, write_rows
from arte_plugin.run.manifest import Count, Manifest, hash_of
from arte_plugin.run.source import SourceRun
from arte_plugin.stages.tailoring import Teachers, regenerate


@pytest.fixture
def teacher(tmp_path):
    folder = tmp_path / "teacher"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


@pytest.fixture
def other(tmp_path, teacher):
    """The output folder of a run that has finished."""
    folder = tmp_path / "other"
    (folder / "arte").mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    inputs = {"teacher": fingerprint_model(str(teacher)), "prompt_style": "chat"}
    Manifest(folder / "arte/manifest.json").record("align", inputs, [Count("pairs", 3, 3)], {}, 1.0)
    return folder


def source(folder, teacher, style="chat", **keys):
    found = SourceRun(str(folder), {"base_model": str(teacher), "adapter": "lora", **keys})
    found.check_rendering({"prompt_style": style, "rendering": [{"style": style, "date": "2025-01-01"}]})
    return found


def test_a_finished_run_is_taken(other, teacher):
    assert source(other, teacher).output_dir == other


def test_its_scores_count_as_they_did_there(other, teacher):
    assert source(other, teacher).weights == {}
    manifest = Manifest(other / "arte/manifest.json")
    manifest.record("pair", {"weights": {"a": 2.0, "b": 1.0}}, [Count("pairs", 3, 3)], {}, 1.0)
    assert source(other, teacher).weights == {"a": 2.0, "b": 1.0}


def test_a_run_from_the_hub_may_come_without_its_manifest(other, teacher):
    (other / "arte/manifest.json").unlink()
    assert source(other, teacher).weights == {}
    assert source(other, teacher).trained("any") is None


@pytest.mark.parametrize("name", ["./nowhere", "~/nowhere", "a/b/c", "nowhere"])
def test_a_folder_that_is_not_there(name, teacher):
    with pytest.raises(ConfigError, match="`from_run`: there is no folder"):
        source(name, teacher)


def test_a_repository_that_is_not_to_be_had(teacher):
    with pytest.raises(ConfigError, match="nobody/nothing is no folder here, and not to be had from the Hub"):
        source("nobody/nothing", teacher)


def test_a_run_without_its_teacher(other, teacher):
    with pytest.raises(ConfigError, match=r"There should be config.json \(the YAML has no `adapter`\)"):
        source(other, teacher, adapter=None)


def test_another_teacher(other, tmp_path):
    another = tmp_path / "another"
    another.mkdir()
    (another / "config.json").write_text('{"layers": 1}')
    with pytest.raises(ConfigError, match=r"was not aligned from .*another, but from another model"):
        source(other, another)


def test_another_prompt_style(other, teacher):
    with pytest.raises(ConfigError, match=r"`teacher\.prompt_style: chat`, here it is plain"):
        source(other, teacher, style="plain")


def test_scored_drafts_count_by_task(other, teacher):
    run = source(other, teacher)
    assert not run.has_scored_drafts(["sums"])
    write_rows(run.drafts, [draft("sums", "q1"), draft("words", "q2")])
    write_rows(run.scores, [Score("q1-steps", "q1", "sums", "s", 0.5, 2, 0.1, 0.9, 0)])
    assert run.has_scored_drafts(["sums"])
    assert not run.has_scored_drafts(["sums", "words"])


def test_a_student_is_taken_from_where_it_lies_now(other, teacher, tmp_path):
    inputs = {"tailored": "abc"}
    manifest = Manifest(other / "arte/manifest.json")
    manifest.record("sft/question_only", inputs, [], {}, 1.0, {"model": "/gone/student", "adapter": None})
    run = source(other, teacher)
    assert run.trained(hash_of(inputs)) is None
    here = other / "arte/07-sft/question_only/student"
    here.mkdir(parents=True)
    assert run.trained(hash_of(inputs)) == {"model": str(here), "adapter": None}
    assert run.trained("of other inputs") is None
    manifest.record("sft/question_only", inputs, [], {}, 1.0, {"model": "some/base", "adapter": "/gone/student"})
    assert run.trained(hash_of(inputs)) == {"model": "some/base", "adapter": str(here)}


def draft(task: str, question: str, text: str = "") -> Draft:
    text = text or f"text of {question}"
    return Draft(f"{question}-steps", task, question, text, "4", "steps", "<ans>4</ans>", "4", "ask", f"solve {text}")


def test_drafts_that_repeat_this_runs_questions_are_dropped():
    task = Task(
        TaskArgs(name="sums", description="Add.", questions={"path": "unread.jsonl"}),
        [], [], [Question("t", "sums", "What is  2 + 2?", "4")], 0,
    )  # fmt: skip
    drafts = [draft("sums", "q1", "what is 2 + 2?"), draft("sums", "q2")]
    scored = {row.draft_id: 0.5 for row in drafts}
    never, arms = Teachers(None), {"original_teacher": ARMS["original_teacher"]}  # type: ignore[arg-type]
    [made] = regenerate([task], never, arms, drafts, scored, RegenerateArgs(), ElicitArgs(), 1)
    assert [row.question for row in made.examples["original_teacher"]] == ["text of q2"]
    assert [(row.reason, row.id) for row in made.dropped["original_teacher"]] == [("repeats_test", "q1")]
    with pytest.raises(DataError, match="every draft repeats one of this run's own questions"):
        regenerate(
            [task],
            never,
            {"original_teacher": ARMS["original_teacher"]},
            drafts[:1],
            scored,
            RegenerateArgs(),
            ElicitArgs(),
            1,
        )
