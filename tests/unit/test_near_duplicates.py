import json
import random

import pytest

from arte_plugin.config.tasks import TaskArgs
from arte_plugin.data.tasks import Task
from arte_plugin.rows import Question
from arte_plugin.run.manifest import Manifest
from arte_plugin.show.summary import summary
from arte_plugin.stages.near_duplicates import FILE, NearDuplicates, as_json, near_generated, near_lines, near_splits

STORY = (
    "Anna packed {} boxes of apples on Monday, each with twelve apples in it, then sold {} of them at the market and "
    "gave what was left to her neighbour. How many apples did the neighbour get?"
)
OTHERS = ["What is the capital of France?", "Name a fruit.", "Sort the words oven, lake and tree by their letters."]


def task(seeds, validation, test):
    def questions(texts):
        return [Question(text, "t", text, "1") for text in texts]

    args = TaskArgs(name="t", description="d", questions={"path": "unread.jsonl"}, answer="number")
    return Task(args, questions(seeds), questions(validation), questions(test), 0)


@pytest.mark.parametrize(
    ("question", "near"),
    [
        (STORY.format(5, 40), True),
        ("Before that: " + STORY.format(5, 40)[30:150], True),
        ("Sort the words oven, lake and tree by their letters!", True),
        ("Sort the words pond, rock and dune by their letters.", False),
        ("Name a tree.", False),
        ("Anna packed 3 boxes.", False),
    ],
)
def test_a_long_run_or_most_short_runs_in_common(question, near):
    found = NearDuplicates([*OTHERS, STORY.format(3, 7)]).of(question)
    assert (found is not None) is near
    assert found in (None, STORY.format(3, 7), OTHERS[2])


def test_wording_that_the_questions_share_makes_no_near_duplicate():
    rule = "Here is a sequence of brackets, open and closed; complete the rest of it so that all of them are closed: "
    rng = random.Random(0)
    asked = [rule + " ".join(rng.choices(["(", "[", "{", "<", ")", "]", "}", ">"], k=20)) for _ in range(40)]
    assert NearDuplicates(asked[:20]).of(asked[20]) is None
    assert NearDuplicates(asked[:1]).of(asked[20]) == asked[0]


def test_it_finds_what_comparing_all_pairs_finds():
    """The index is exact for Jaccard's index, and it is the same either way round."""
    rng = random.Random(1)
    words = ["not", "true"]
    texts = [" ".join(rng.choices(words, k=rng.randint(3, 11))) for _ in range(250)]

    def runs(text):
        padded = ["", *text.split(), ""]
        return {tuple(padded[i : i + 3]) for i in range(len(padded) - 2)}

    def similar(one, other):
        return len(runs(one) & runs(other)) >= 0.8 * len(runs(one) | runs(other))

    known = NearDuplicates(texts[:120])
    expected = [any(similar(text, other) for other in texts[:120]) for text in texts[120:]]
    assert [known.of(text) is not None for text in texts[120:]] == expected
    assert 10 < sum(expected) < 120


def test_counts_stand_beside_what_chance_gives(tmp_path):
    numbers = iter(range(100))
    stories = [f"{STORY.format(next(numbers), next(numbers))} {words}" for words in OTHERS]
    mine = task(
        [*OTHERS[:1]], ["Name a river.", "Name a hill."], ["Which word is the longest one here?", "Name a sea."]
    )
    rows = near_splits(mine) + near_generated(mine, "drafts", ["Which word is the longest one here?", *stories])
    (tmp_path / "01-elicit").mkdir()
    (tmp_path / "01-elicit" / FILE).write_text(as_json(rows))
    assert near_lines(tmp_path) == [
        ["near duplicates", "n", "in seed", "in validation", "in test"],
        ["of validation", "2", "0 (chance 0.0)", "", ""],
        ["of test", "2", "0 (chance 0.0)", "0 (chance 0.0)", ""],
        ["of drafts", "4", "0 (chance 0.0)", "0 (chance 0.0)", "1 (chance 0.0)"],
    ]
    shown = [row["shown"] for row in json.loads(as_json(rows)) if row["found"]]
    assert shown == [[["Which word is the longest one here?", "Which word is the longest one here?"]]]


def test_in_a_task_made_from_a_template_chance_says_that_it_is_one():
    """Two numbers in a long text: any two questions are near duplicates, copied or not."""
    texts = [STORY.format(i, i + 1) for i in range(40)]
    rows = near_splits(task(texts[:1], texts[1:2], texts[2:])) + near_generated(
        task(texts[:10], texts[10:20], texts[20:30]), "drafts", texts[30:]
    )
    assert all(row.found == pytest.approx(row.by_chance) for row in rows)
    assert sum(row.found for row in rows) > 0


def test_where_there_are_none_a_line_says_so_and_no_table(tmp_path):
    mine = task(["Name a sea."], ["Name a river.", "Who wrote it?"], ["Which word is the longest one here?"])
    rows = near_splits(mine) + near_generated(mine, "drafts", ["Is it raining in Oslo now?"] * 1200)
    (tmp_path / "01-elicit").mkdir()
    (tmp_path / "01-elicit" / FILE).write_text(as_json(rows))
    Manifest(tmp_path / "manifest.json").record("elicit", {}, [], {}, 0.0)
    assert near_lines(tmp_path) == []
    assert "\nnear duplicates: none, of 1,203 questions\n" in summary(tmp_path)


def test_nothing_is_shown_before_anything_was_counted(tmp_path):
    assert near_lines(tmp_path) == []
    Manifest(tmp_path / "manifest.json").record("elicit", {}, [], {}, 0.0)
    assert "near duplicates" not in summary(tmp_path)
