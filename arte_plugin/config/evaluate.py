"""`arte.evaluate`: stage 8."""

from typing import Annotated

from pydantic import Field, field_validator

from arte_plugin.config.block import Block, each_once


class EvaluateArgs(Block):
    """Stage 8: the base student and the tailored student on the test questions, by lm-evaluation-harness."""

    shots: list[Annotated[int, Field(ge=0, le=32)]] = Field(
        [0, 3], min_length=1, description="Numbers of examples in the prompt, each evaluated on its own."
    )
    limit: int | None = Field(None, ge=1, description="Test questions a task, at most.")
    max_new_tokens: int = Field(256, ge=8, description="Longest answer, in tokens.")
    batch_size: int | None = Field(
        None,
        ge=1,
        description="Questions that are given to the student at a time, at most; of benchmarks too. Default: all, of "
        "which as many are in flight together as there is memory for their keys and values.",
    )
    benchmarks: list[str] = Field(
        default_factory=list,
        description="Tasks or groups of lm-evaluation-harness to run too, by its own names and in its standard form: "
        "its prompts, number of examples, stop strings and metrics, and no chat template. The paper's Table 3 is "
        "`[gsm8k, arc_easy, arc_challenge, piqa, commonsense_qa]`. They come from the Hub; one whose data can't be had "
        "is skipped with the reason, and tried again by the next run.",
    )
    benchmark_limit: int | None = Field(None, ge=1, description="Questions a benchmark task, at most.")

    @field_validator("benchmarks")
    @classmethod
    def _benchmarks_differ(cls, names: list[str]) -> list[str]:
        return each_once(names)
