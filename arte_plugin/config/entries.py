"""The entries of `plugins` and `datasets` that bring ARTE into an Axolotl config."""

from collections.abc import Mapping
from typing import Any

SENTINEL = "arte://pairs"
PAIRS_STRATEGY = "arte_plugin.preference_pairs"


def is_arte(plugin: object) -> bool:
    """Whether an entry of `plugins` is the one that runs the loop."""
    return str(plugin).startswith("arte_plugin.") and str(plugin).endswith(".ArtePlugin")


def check_plugin_is_named(values: Mapping[str, Any]) -> None:
    """Raises `ValueError` where there is an `arte:` block, and nobody to run it."""
    if not any(is_arte(name) for name in values.get("plugins") or []):
        raise ValueError("`plugins` must name the plugin: `plugins: [arte_plugin.ArtePlugin]`")


def check_pairs_entry(values: Mapping[str, Any]) -> None:
    """Raises `ValueError` where `datasets` hasn't the one entry that the plugin fills with pairs."""
    # Axolotl has turned the entries into its own models by the time it validates.
    datasets = [entry if isinstance(entry, dict) else vars(entry) for entry in values.get("datasets") or []]
    paths = [entry.get("path") for entry in datasets]
    if paths.count(SENTINEL) != 1:
        raise ValueError(
            f"`datasets` must hold the entry {{path: {SENTINEL}, type: {PAIRS_STRATEGY}}} once, for the "
            f"plugin to fill in (found paths: {', '.join(map(str, paths)) or 'none'})"
        )
    entry = next(entry for entry in datasets if entry.get("path") == SENTINEL)
    if entry.get("type") != PAIRS_STRATEGY:
        raise ValueError(f"the data set {SENTINEL} needs `type: {PAIRS_STRATEGY}` (found {entry.get('type')!r})")
