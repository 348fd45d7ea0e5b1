"""The date of a run: what chat templates that tell the date are rendered with, from the run's first start to its end.

Llama 3.2, SmolLM3, gpt-oss and others write today's date into every prompt. With the real one, a run that goes on next
day would ask other prompts, find none of its answers in the cache, and train under one date what it asks under another.
"""

import os
import uuid
from datetime import date
from pathlib import Path

from arte_plugin.errors import ConfigError

FILE = "date.txt"


def run_date(folder: Path, wanted: str | None, source: Path | None = None, keep: bool = True) -> str:
    """The date (ISO) of the run in `folder`: the one it was started with, that of the run it goes on from, or today.

    `wanted` is what the YAML says. With `keep`, a new run's date is written down, by whichever rank comes first.
    Raises `ConfigError` where the YAML has another date than the run was started with.
    """
    known = _read(folder / FILE)
    if known is None:
        new = wanted or (_read(source / FILE) if source else None) or date.today().isoformat()
        known = _write_once(folder / FILE, new) if keep else new
    if wanted and wanted != known:
        raise ConfigError(
            f"The run in {folder} was started with the date {known}, which its prompts tell; the YAML has "
            f"`arte.date: {wanted}`. Take that out, or take another `output_dir`; or delete {folder / FILE}, and "
            "all is asked anew."
        )
    return known


def _read(file: Path) -> str | None:
    if not file.is_file():
        return None
    text = file.read_text(encoding="utf-8").strip()
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise ConfigError(f"{file} should hold a date such as 2025-01-31, and has {text[:40]!r}. Delete it.") from None


def _write_once(file: Path, text: str) -> str:
    """Write `text` unless the file is there, whole in one step; what is in the file then."""
    file.parent.mkdir(parents=True, exist_ok=True)
    # `tempfile` would leave it to its owner alone.
    made = file.with_name(f".date-{uuid.uuid4().hex}")
    made.write_text(text + "\n", encoding="utf-8")
    try:
        os.link(made, file)
    except FileExistsError:
        pass
    except OSError:
        # A file system without links: of ranks that come at the same moment, the last one's stays.
        if not file.is_file():
            os.replace(made, file)
    finally:
        made.unlink(missing_ok=True)
    return file.read_text(encoding="utf-8").strip()
