"""vLLM's turn: `python -m benchmarks.probing.outside.with_vllm SPEC RESULTS`, in its environment."""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.probing.outside.turn import Replies, main

#: GiB of keys and values on a CPU.
CACHE = 2


class Vllm:
    """Its offline engine with prefix caching, compiled, as it comes: no server and no HTTP between."""

    def __init__(self, spec: Mapping[str, Any]):
        if spec["device"] == "cpu":
            os.environ |= cpu_settings(spec["threads"], sorted(os.sched_getaffinity(0)))
        import vllm

        self._vllm = vllm
        self._model = vllm.LLM(
            spec["model"],
            dtype=spec["dtype"],
            max_model_len=spec["longest"],
            enable_prefix_caching=True,
            # None of the checkpoint's own sampling settings: these replies are greedy.
            generation_config="vllm",
            disable_log_stats=True,
        )

    def answer(self, prompts: Sequence[Sequence[int]], replies: Replies) -> list[list[int]]:
        """The tokens of greedy replies to the tokens of prompts, in their order."""
        settings = self._vllm.SamplingParams(
            temperature=0.0,
            max_tokens=replies.max_new_tokens,
            stop=list(replies.stop),
            include_stop_str_in_output=True,
            stop_token_ids=list(replies.ends),
            ignore_eos=replies.fixed,
            # Text is made of the tokens afterwards, as for the others; it looks for stop strings in its own.
            detokenize=bool(replies.stop),
        )
        given = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        found = self._model.generate(given, settings, use_tqdm=False)
        return [list(one.outputs[0].token_ids) for one in found]

    def peak_memory(self) -> int | None:
        """None: the model lies in a process of vLLM's own."""
        return None


def cpu_settings(threads: int, cores: Sequence[int]) -> dict[str, str]:
    """Environment variables for `threads` threads.

    Left alone it binds one to each physical core, which where two logical ones share a core is half as many as the
    others have.
    """
    return {
        "VLLM_CPU_KVCACHE_SPACE": str(CACHE),
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cores[:threads])) if threads <= len(cores) else "nobind",
        "OMP_NUM_THREADS": str(threads),
        "VLLM_NO_USAGE_STATS": "1",
    }


if __name__ == "__main__":
    sys.exit(main(Vllm))
