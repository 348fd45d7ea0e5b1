"""Data sets as if they had been fetched from the Hub once: put where `datasets.load_dataset` looks without a network."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


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
    builder = Json(
        cache_dir=str(cache),
        repo_id=repository,
        dataset_name=repository.split("/")[-1],
        config_name=config,
        config_id=config,
        hash="0" * 40,
        data_files={split: str(sources / f"{split}.jsonl") for split in splits},
    )
    builder.download_and_prepare()
