"""ARTE for Axolotl: align a teacher with its student's preferences, then train the student on what it writes.

`ArtePlugin` goes under `plugins:`, and beside it, for a training in full, `Float32Weights`; `preference_pairs` is the
DPO dataset strategy `arte_plugin.preference_pairs`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from arte_plugin.plugin import ArtePlugin
    from arte_plugin.strategies.pairs import preference_pairs
    from arte_plugin.training.float32_weights import Float32Weights

__version__ = "0.1.0"
__all__ = ["ArtePlugin", "Float32Weights", "__version__", "preference_pairs"]


def __getattr__(name: str) -> Any:
    # Imported when used: `arte --help` and Axolotl commands that don't need us must not wait for torch.
    try:
        if name == "ArtePlugin":
            from arte_plugin.plugin import ArtePlugin

            return ArtePlugin
        if name == "Float32Weights":
            from arte_plugin.training.float32_weights import Float32Weights

            return Float32Weights
        if name == "preference_pairs":
            from arte_plugin.strategies.pairs import preference_pairs

            return preference_pairs
    except ImportError as error:
        from arte_plugin.errors import ConfigError, shown_errors

        # Of a plugin that raises ImportError Axolotl 0.19 only logs that, and goes on without it; 0.21 does so whatever
        # the exception.
        with shown_errors():
            raise ConfigError(
                f"arte_plugin.{name} can't be imported: {error}. Is all that it needs installed, in the versions that "
                "it needs (`pip check`)?"
            ) from error
    raise AttributeError(f"module 'arte_plugin' has no attribute {name!r}")
