"""Data sets of one's own beside `arte://pairs`: other rows are another training of the teacher."""

import json
import os

import pytest

from arte_plugin.data.local_files import hashes_of_datasets
from arte_plugin.run.manifest import hash_of
from arte_plugin.run.run import Run
from arte_plugin.training.align import prepared_folder
from tests.unit.test_run_rendering import config, dated  # noqa: F401

GOOD = json.dumps({"prompt": "a", "chosen": "good", "rejected": "bad"}) + "\n"
OTHER = json.dumps({"prompt": "a", "chosen": "bad", "rejected": "good"}) + "\n"


@pytest.fixture
def identities(config, tmp_path):  # noqa: F811
    """The identity of the teacher's training and the folder of its prepared rows, with more data in the YAML."""

    def of(**more):
        cfg = config()
        for key, entries in more.items():
            cfg[key] = [*(cfg.get(key) or []), *entries]
        run = Run(cfg)
        run.pairs_file.parent.mkdir(parents=True, exist_ok=True)
        run.pairs_file.write_text("")
        inputs = run.align_inputs()
        return hash_of(inputs), prepared_folder(inputs, run.teacher_tokenizer())

    return of


@pytest.mark.parametrize("key", ["datasets", "test_datasets"])
def test_other_rows_in_a_file_beside_the_pairs_train_and_prepare_anew(identities, tmp_path, key):
    file = tmp_path / "more.jsonl"
    entry = {"path": str(file), "ds_type": "json", "split": "train", "type": "user_defined.default"}
    file.write_text(GOOD)
    before = identities(**{key: [entry]})
    assert identities(**{key: [entry]}) == before
    os.utime(file, (1, 1))
    assert identities(**{key: [entry]}) == before, "only touched"
    file.write_text(OTHER * 500)
    after = identities(**{key: [entry]})
    assert after[0] != before[0]
    assert after[1] != before[1]


def test_without_any_local_file_a_training_is_what_it_was(identities):
    run = identities(datasets=[{"path": "org/pairs", "revision": "abc", "type": "chatml.ultra", "split": "train"}])
    assert run[1] == identities()[1]
    assert hashes_of_datasets([{"path": "org/pairs", "data_files": ["train.jsonl"]}]) == []


@pytest.mark.parametrize("shape", ["folder", "named file", "named files", "by split", "pattern"])
def test_whatever_way_the_files_are_named(tmp_path, monkeypatch, shape):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "more" / "deep" / "a.jsonl"
    file.parent.mkdir(parents=True)
    entry = {
        "folder": {"path": "more"},
        "named file": {"path": "json", "data_files": "more/deep/a.jsonl"},
        "named files": {"path": "json", "data_files": ["more/deep/a.jsonl"]},
        "by split": {"path": "json", "data_files": {"train": ["more/deep/a.jsonl"]}},
        "pattern": {"path": "more", "data_files": "more/**/*.jsonl"},
    }[shape]
    file.write_text(GOOD)
    before = hashes_of_datasets([entry])
    assert len(before) == 1
    file.write_text(OTHER)
    assert hashes_of_datasets([entry]) != before
