"""What a step holds on a device."""

from dataclasses import dataclass

from arte_plugin.engines.limits import SHARE

GIB = 2**30


@dataclass(frozen=True)
class Need:
    """What one step holds on each device, in bytes."""

    #: The stage, and what of it in words.
    stage: str
    step: str
    model: str
    weights: float
    #: Adapter, gradients kept from step to step, optimizer, a second reference model.
    kept: float
    #: Activations, logits, gradients on their way, keys and values: at the usual length, and at the longest.
    usual: float
    longest: float
    #: The lengths meant, in tokens.
    tokens: tuple[int, int]
    #: Keys and values take what there is to hold of a share of what is free: nothing else was said.
    fills: bool = False

    @property
    def total(self) -> float:
        """At the usual length."""
        return self.weights + self.kept + self.usual

    @property
    def most(self) -> float:
        """At the longest. Fewer long rows are in flight than usual ones, so that may be less."""
        return self.weights + self.kept + max(self.usual, self.longest)

    def of(self, memory: float) -> float:
        """The most that it takes of a GPU with so many bytes."""
        return max(self.most, self.weights + (memory - self.weights) * SHARE) if self.fills else self.most
