"""`arte.regenerate`: stage 6."""

from pydantic import Field

from arte_plugin.config.block import Block
from arte_plugin.config.elicit import Keep


class RegenerateArgs(Block):
    """Stage 6: the aligned teacher writes the student's training data (paper, section 3.4)."""

    questions: int = Field(250, ge=1, description="Tailored examples a task.")
    temperature: float = Field(1.0, ge=0, le=5, description="Sampling temperature of questions; rationales are greedy.")
    max_new_tokens: int = Field(1024, ge=8, description="Longest reply, in tokens.")
    keep: Keep = Field(
        "all",
        description="Which of the rationales written here are trained on. `all`: as in the paper; "
        "`agrees_with_target`: those whose answer is the one that the teacher claimed with the question; `majority`: "
        "those whose answer more of `samples` sampled rationales give than any other, and at least two "
        "(self-consistency).",
    )
    samples: int = Field(
        5, ge=3, description="For `keep: majority`: rationales sampled for each question, beside the greedy one."
    )
    sample_temperature: float = Field(0.7, gt=0, le=5, description="For `keep: majority`: their temperature.")
