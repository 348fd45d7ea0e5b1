"""Data sets as if fetched from the Hub once: put where `datasets.load_dataset` looks when there is no network."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FACTS = [
    ("Which of these is a fruit?", ["a pear", "a hammer", "a very long wooden spoon", "rain"], "A"),
    ("What do bees make?", ["iron", "honey", "paper for printing books", "salt"], "B"),
    ("What is frozen water called?", ["steam", "sand", "ice", "the deep blue sea"], "C"),
    ("Which animal can fly by itself?", ["a cow", "an old grey elephant", "a pig", "a swallow"], "D"),
    ("What does a plant need to grow?", ["light", "a television set", "petrol", "music"], "A"),
    ("Where do trout live?", ["in trees", "in rivers", "on the far side of the moon", "in bread"], "B"),
]
#: Questions of our own in the columns of ARC.
ARC = [
    {"id": f"own-{i}", "question": question, "choices": {"text": texts, "label": list("ABCD")}, "answerKey": answer}
    for i, (question, texts, answer) in enumerate(FACTS)
]


def put_into_cache(
    cache: Path, repository: str, config: str, splits: Mapping[str, Sequence[Mapping[str, Any]]]
) -> None:
    """Write rows, by split, into the `datasets` cache `cache` as configuration `config` of a data set on the Hub."""
    from datasets.packaged_modules.json.json import Json

    sources = cache / "sources" / repository / config
    sources.mkdir(parents=True)
    for split, rows in splits.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (sources / f"{split}.jsonl").write_text(text)
    namespace, name = repository.split("/")
    builder = Json(
        cache_dir=str(cache),
        dataset_name=name,
        config_name=config,
        config_id=config,
        hash="0" * 40,
        data_files={split: str(sources / f"{split}.jsonl") for split in splits},
    )
    builder.download_and_prepare()
    # A builder with a `repo_id` refuses files from anywhere else; all that it adds here is the folder's name.
    (cache / f"{namespace}___{name}").mkdir(exist_ok=True)
    (cache / name / config).rename(cache / f"{namespace}___{name}" / config)


def put_arc(cache: Path, config: str = "ARC-Easy", rows: Sequence[Mapping[str, Any]] = ARC) -> None:
    """The same rows as every split of a part of ARC."""
    put_into_cache(cache, "allenai/ai2_arc", config, {split: rows for split in ("train", "validation", "test")})


def put_model(cache: Path, repository: str, folder: Path, commit: str, *branches: str) -> Path:
    """Put a model's `folder` into the Hub's cache `cache` as a commit of `repository`, to which `branches` point.

    Returns the snapshot. The files are links to blobs, as there.
    """
    place = cache / f"models--{repository.replace('/', '--')}"
    snapshot = place / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (place / "blobs").mkdir(exist_ok=True)
    (place / "refs").mkdir(exist_ok=True)
    for file in folder.iterdir():
        blob = place / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        blob.write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(blob)
    for branch in branches:
        (place / "refs" / branch).write_text(commit)
    return snapshot
