import json
from collections import Counter

import pytest
import yaml
from click.testing import CliRunner

from arte_plugin.cli import cli
from arte_plugin.config.arte import ArteArgs
from arte_plugin.config.check import check_config
from arte_plugin.config.tasks import QuestionsArgs, TaskArgs
from arte_plugin.data import presets
from arte_plugin.data.tasks import load_task
from arte_plugin.errors import ConfigError

ALL = [name for one in presets.FAMILIES for name in presets.members(one)]
CONFIG = {
    "plugins": ["arte_plugin.ArtePlugin"],
    "rl": "dpo",
    "datasets": [{"path": "arte://pairs", "type": "arte_plugin.preference_pairs"}],
}


def tasks(*entries):
    return ArteArgs.model_validate({"student": {"base_model": "student"}, "tasks": list(entries)}).tasks


def refused(*entries):
    with pytest.raises(ConfigError) as error:
        check_config({**CONFIG, "arte": {"student": {"base_model": "student"}, "tasks": list(entries)}})
    return str(error.value)


@pytest.mark.parametrize("name", ALL)
def test_every_preset_is_a_whole_task(name):
    [task] = tasks({"preset": name})
    assert task == TaskArgs.model_validate(presets.expand({"preset": name})[0])
    assert task.preset is None
    assert task.category
    assert (task.seed_questions, task.validation_questions) == (10, 100)
    assert "answer is" in task.description
    techniques = task.techniques
    assert len(techniques) == len({text.casefold() for text in techniques.values()}) == 4
    for technique, text in techniques.items():
        assert technique.isidentifier() and technique == technique.lower()
        assert 40 < len(text) < 260 and text.endswith(".") and "<ans>" not in text


def test_big_bench_hard_is_27_files_and_23_tasks_in_four_categories():
    bbh = [task for task in presets.family("bbh").values()]
    assert len(bbh) == 27
    assert len({task["description"] for task in bbh}) == len({str(task["techniques"]) for task in bbh}) == 23
    assert Counter(task["category"].split()[0] for task in bbh) == {
        "algorithmic": 18,
        "natural": 3,
        "use": 5,
        "multilingual": 1,
    }
    assert all(name == f"bbh/{task['questions']['name']}" for name, task in presets.family("bbh").items())


def test_no_technique_is_used_for_two_tasks():
    sets = {str(presets.expand({"preset": name})[0]["techniques"]) for name in ALL}
    texts = [text for one in sets for text in yaml.safe_load(one).values()]
    assert len(texts) == len(set(texts)) == 4 * 27


def test_test_questions_come_from_a_split_with_labels():
    splits = {}
    for name in ALL:
        task = tasks({"preset": name})[0]
        splits[name.split("/")[0]] = task.test_questions.split if task.test_questions else None
    assert splits == {"bbh": None, "gsm8k": "test", "arc": "test", "piqa": "validation", "commonsense_qa": "validation"}


@pytest.mark.parametrize(
    ("preset", "name"), [("bbh/navigate", "navigate"), ("arc/easy", "arc_easy"), ("gsm8k", "gsm8k")]
)
def test_default_name(preset, name):
    assert tasks({"preset": preset})[0].name == name


def test_family_stands_for_all_its_tasks_in_place():
    made = tasks({"preset": "gsm8k"}, {"preset": "bbh", "seed_questions": 3}, {"preset": "arc"})
    assert len(made) == 1 + 27 + 2
    assert [task.seed_questions for task in made] == [10] + [3] * 27 + [10] * 2
    assert made[-1].name == "arc_challenge"


def test_own_keys_win_and_sources_are_merged():
    [task] = tasks(
        {
            "preset": "gsm8k",
            "name": "sums",
            "category": "mine",
            "techniques": {"one": "Do it.", "two": "Do it twice."},
            "questions": {"rationale": None},
            "test_questions": {"split": "train"},
        }
    )
    assert (task.name, task.category, list(task.techniques)) == ("sums", "mine", ["one", "two"])
    assert task.questions == QuestionsArgs(
        path="openai/gsm8k", name="main", split="train", answer_after="####", rationale_without=["<<", ">>"]
    )
    assert (task.test_questions.split, task.test_questions.rationale) == ("train", "answer")


def test_local_questions_leave_the_test_set_of_the_hub_alone():
    local = {"path": "data/train.jsonl"}
    assert tasks({"preset": "gsm8k", "questions": local})[0].test_questions is None
    assert tasks({"preset": "gsm8k", "questions": local, "test_questions": 50})[0].test_questions == 50
    both = tasks({"preset": "gsm8k", "questions": local, "test_questions": {"path": "data/test.jsonl"}})[0]
    assert (both.test_questions.path, both.test_questions.answer_after) == ("data/test.jsonl", "####")
    assert tasks({"preset": "gsm8k", "questions": {"path": "mirror/gsm8k"}})[0].test_questions.path == "openai/gsm8k"


def test_task_in_a_path():
    made = tasks({"preset": "bbh", "questions": {"path": "data/{task}.json"}, "test_questions": {"path": "t/{task}"}})
    assert made[17].questions.path == "data/ruin_names.json"
    assert (made[17].questions.answer, made[17].test_questions.path) == ("target", "t/ruin_names")
    [task] = tasks({"preset": "arc/easy", "questions": {"path": "data/{task}.jsonl"}})
    assert task.questions.path == "data/easy.jsonl"


def test_what_axolotl_hands_on_is_read_again_as_the_same():
    args = ArteArgs.model_validate({"student": {"base_model": "student"}, "tasks": [{"preset": "bbh"}]})
    assert ArteArgs.model_validate(args.model_dump(exclude_none=True)) == args


def test_expansion_leaves_the_config_and_the_presets_as_they_were():
    entry = {"preset": "arc", "questions": {"path": "{task}.jsonl"}}
    before = json.dumps(entry)
    made = tasks(entry)
    made[0].techniques.clear()
    assert json.dumps(entry) == before
    assert len(tasks({"preset": "arc"})[0].techniques) == 4


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"preset": "bbh/navigat"}, ["no preset 'bbh/navigat'; did you mean bbh/navigate?", "bbh (27 tasks)", "piqa"]),
        ({"preset": "navigate"}, ["did you mean bbh/navigate?"]),
        ({"preset": "GSM8K"}, ["did you mean gsm8k?"]),
        ({"preset": "qqqq"}, ["there is no preset 'qqqq'. The families are"]),
        ({"preset": 7}, ["there is no preset 7."]),
        ({"preset": ["bbh"]}, ["there is no preset ['bbh']"]),
        ({"preset": "bbh", "name": "x"}, ["bbh stands for 27 tasks", "'x'"]),
        ({"preset": "bbh", "questions": {"path": "data/x.json"}}, ["can't all have their `questions`", "{task}"]),
        ({"preset": "arc", "test_questions": {"path": "./x"}}, ["can't all have their `test_questions`"]),
    ],
)
def test_wrong_preset_is_told_at_its_place(entry, said):
    message = refused({"preset": "bbh/navigate"}, entry)
    assert message.count("arte.tasks[1].preset: ") == 1
    for words in said:
        assert words in message


def test_errors_behind_a_family_are_told_at_the_entry_of_the_yaml():
    message = refused({"preset": "bbh"}, {"preset": "piqa", "questions": {"optionen": "x"}, "nam": "x"})
    assert "arte.tasks[1].questions.optionen: there is no such key; did you mean `options`?" in message
    assert "arte.tasks[1].nam: there is no such key; did you mean `name`?" in message


def test_an_error_of_a_family_is_told_once():
    assert refused({"preset": "bbh", "answers": "text"}).count("arte.tasks[0].answers: there is no such key") == 1


def test_a_wrong_preset_does_not_hide_other_errors():
    message = refused({"preset": "bbx"}, {"name": "a/b", "description": "d", "questions": {"path": "x.csv"}})
    assert "arte.tasks[0].preset" in message
    assert "arte.tasks[1].name" in message


def test_family_and_member_share_a_name():
    assert "two tasks are called 'navigate'" in refused({"preset": "bbh"}, {"preset": "bbh/navigate"})


def test_a_local_copy_is_loaded(tmp_path):
    examples = [{"input": f"Is {i} even?", "target": "Yes" if i % 2 == 0 else "No"} for i in range(30)]
    (tmp_path / "navigate.json").write_text(json.dumps({"canary": "x", "examples": examples}))
    entry = {"preset": "bbh/navigate", "questions": {"path": f"{tmp_path}/{{task}}.json"}, "validation_questions": 15}
    made = load_task(tasks(entry)[0], seed=1)
    assert [len(split) for split in made.splits().values()] == [10, 15, 5]


def test_the_hub_is_asked_for_what_the_preset_says(monkeypatch):
    import datasets

    asked = []

    def load_dataset(path, name, split, revision):
        asked.append((path, name, split, revision))
        first = 0 if split == "train" else 40
        return datasets.Dataset.from_list(
            [
                {
                    "question": f"Which number comes after {i}?",
                    "choices": {"text": [str(i + 2), str(i + 1)], "label": ["A", "B"] if i % 2 else ["1", "2"]},
                    "answerKey": "B" if i % 2 else "2",
                }
                for i in range(first, first + 30)
            ]
        )

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    made = load_task(tasks({"preset": "arc/challenge", "validation_questions": 15})[0], seed=1)
    assert asked == [("allenai/ai2_arc", "ARC-Challenge", split, None) for split in ("train", "test")]
    assert made.test[0].question == "Which number comes after 40?\nOptions:\n(A) 42\n(B) 41"
    assert {q.target for split in made.splits().values() for q in split} == {"(B)"}


def test_command_lists_every_preset():
    done = CliRunner().invoke(cli, ["presets"])
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.output.splitlines()[2:] if not line.startswith(" ")] == ALL
    assert max(map(len, done.output.splitlines())) <= 100


@pytest.mark.parametrize("name", ["bbh/dyck_languages", "gsm8k", "arc", "piqa"])
def test_command_writes_out_what_can_be_pasted(name):
    done = CliRunner().invoke(cli, ["presets", name])
    assert done.exit_code == 0
    assert "&id" not in done.output
    pasted = yaml.safe_load("arte:\n  tasks:\n" + done.output)["arte"]["tasks"]
    assert pasted == presets.expand({"preset": name})
    assert tasks(*pasted) == tasks({"preset": name})


def test_command_with_an_unknown_name():
    done = CliRunner().invoke(cli, ["presets", "bbh/navigat"])
    assert done.exit_code == 1
    assert "arte: There is no preset 'bbh/navigat'; did you mean bbh/navigate?" in done.output
