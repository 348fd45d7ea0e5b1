"""OpenVINO GenAI's turn: `python -m benchmarks.probing.outside.with_openvino SPEC RESULTS`, in its environment."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.probing import resident
from benchmarks.probing.outside.turn import Replies, main

#: GiB of keys and values.
CACHE = 2


class OpenVino:
    """Its continuous batching with prefix caching, on the export of the model, in float32 throughout."""

    def __init__(self, spec: Mapping[str, Any]):
        import openvino_genai

        self._genai = openvino_genai
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.enable_prefix_caching = True
        scheduler.cache_size = CACHE
        # Left alone it takes what the processor has for arithmetic (bfloat16 on many), and 8 bits for keys and values.
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "KV_CACHE_PRECISION": "f32",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
            "INFERENCE_NUM_THREADS": spec["threads"],
        }
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(spec["exported"], scheduler, "CPU", settings)

    def answer(self, prompts: Sequence[Sequence[int]], replies: Replies) -> list[list[int]]:
        """The tokens of greedy replies to the tokens of prompts, in their order."""
        config = self._config(replies)
        # A request looks for its prefix when it comes: asked all at once, each would compute it. One token of the first
        # one's reply is the least that leaves it in the cache.
        if len(prompts) > 1:
            self._ask(prompts[:1], self._config(replies, 1))
        return self._ask(prompts, config)

    def peak_memory(self) -> int | None:
        """Bytes resident at the peak."""
        return resident.peak()

    def _config(self, replies: Replies, max_new_tokens: int | None = None):
        config = self._genai.GenerationConfig()
        config.max_new_tokens = max_new_tokens or replies.max_new_tokens
        config.do_sample = False
        config.apply_chat_template = False
        config.ignore_eos = replies.fixed
        if replies.ends:
            config.eos_token_id = replies.ends[0]
            config.stop_token_ids = set(replies.ends)
        if replies.stop:
            config.stop_strings = set(replies.stop)
            config.include_stop_str_in_output = True
        return config

    def _ask(self, prompts: Sequence[Sequence[int]], config) -> list[list[int]]:
        import numpy
        import openvino

        given = [openvino.Tensor(numpy.array([prompt], dtype=numpy.int64)) for prompt in prompts]
        found = self._pipeline.generate(given, [config] * len(given))
        # What finds no room in the cache comes back like the others, and too short.
        over = (self._genai.GenerationFinishReason.STOP, self._genai.GenerationFinishReason.LENGTH)
        if given_up := sum(one.finish_reasons[0] not in over for one in found):
            raise RuntimeError(f"{given_up} of {len(given)} requests were given up: {CACHE} GiB are too small a cache")
        return [list(one.m_generation_ids[0]) for one in found]


if __name__ == "__main__":
    sys.exit(main(OpenVino))
