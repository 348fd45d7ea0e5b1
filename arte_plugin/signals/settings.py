"""What the settings of all signals have in common."""

from pydantic import Field

from arte_plugin.config.block import Block


class SignalSettings(Block):
    """Settings of a signal."""

    weight: float = Field(
        1.0,
        gt=0,
        description="How much it counts where there are several signals: a score is the weighted mean of their values.",
    )
