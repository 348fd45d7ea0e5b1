"""What tests of plans share."""

from pathlib import Path

from arte_plugin.plan import shapes


def shape(config, folder: Path) -> shapes.Shape:
    """The shape of a model with this config."""
    file = folder / "config.json"
    config.to_json_file(file, use_diff=False)
    return shapes.shape_of("stand-in", file)
