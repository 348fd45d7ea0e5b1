"""Before a run: how many calls and tokens it takes, how much memory and disk. No weights are loaded."""

#: Assumed, in tokens a second of one GPU with 80 GB: of prompts, of replies in large batches. A 70B teacher on vLLM
#: spread over four GPUs, as a share of each; a 2B student.
RATES: dict[str, tuple[float, float]] = {"teacher": (2_000, 400), "student": (50_000, 10_000)}
