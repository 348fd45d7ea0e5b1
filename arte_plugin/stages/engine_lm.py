"""lm-evaluation-harness stays the judge; our engine answers what it asks, in the place of lm-eval's own model.

Texts are tokenised, cut and read by lm-eval's own code. What is asked of the model goes to the engine, which computes
what prompts begin with once, and pads nothing; log-probabilities are float32 whatever the model's precision.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text

from arte_plugin.engines.base import Completion, Continuation, Request, TokenRequest, plan_batches
from arte_plugin.engines.transformers import TransformersEngine

#: Rows of a padded batch, where lm-eval makes them itself.
PADDED = 16

#: What a greedy request of lm-eval's may say.
_UNDERSTOOD = {"until", "max_gen_toks", "do_sample", "temperature"}

#: What a checkpoint's generation config may say without a greedy reply being another one.
_WITHOUT_EFFECT = {
    "bos_token_id", "eos_token_id", "pad_token_id", "transformers_version", "do_sample", "temperature", "top_k",
    "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "max_length", "use_cache",
    "cache_implementation", "_from_model_config", "trust_remote_code",
}  # fmt: skip


class EngineLM(HFLM):
    """A loaded model, and the engine that runs it, as a model of lm-eval.

    Greedy generation and log-likelihoods, the rolling ones among them, come from the engine. What it doesn't do,
    lm-eval does with the model itself: sampling, beams, and penalties that a checkpoint's generation config asks for;
    and all likelihoods of a model whose attention can't be split. Of every answer lm-eval's cache hook hears as soon as
    it is there.
    """

    #: A progress line that is told how many answers there will be.
    line: Any = None

    def __init__(self, model: Any, tokenizer: Any, engine: TransformersEngine, batch_size: int | None = None):
        """`batch_size` is how many prompts the engine is given at a time, at most; None is all of them."""
        # Where lm-eval answers itself, its logarithms would be in the model's precision.
        super().__init__(
            pretrained=model,
            tokenizer=tokenizer,
            backend="causal",
            batch_size=min(batch_size or PADDED, PADDED),
            softmax_dtype="float32",
        )
        self.engine = engine
        self._special = {
            str(token): number for number, token in tokenizer.added_tokens_decoder.items() if token.special
        }
        self._at_a_time = batch_size

    def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> Any:
        """How likely each continuation is, and whether greedy decoding would write it."""
        self._expect(requests)
        return super().loglikelihood(requests, disable_tqdm)

    def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> Any:
        """How likely each text is, from its first token on."""
        self._expect(requests)
        return super().loglikelihood_rolling(requests, disable_tqdm)

    def _loglikelihood_tokens(self, requests: Any, disable_tqdm: bool = False, override_bs: int | None = None) -> Any:
        # Cut as lm-eval does: the last token is only scored, so one more than the context holds is no matter.
        cut = [((*context, *ending)[-(self.max_length + 1) :], len(ending)) for _, context, ending in requests]
        answers = self.engine.weigh([Continuation(tokens[:-last], tokens[-last:]) for tokens, last in cut])
        if answers is None:
            return super()._loglikelihood_tokens(requests, disable_tqdm, override_bs)
        found = [(one.log_probability, one.greedy) for one in answers]
        for (text, _, _), one in zip(requests, found, strict=True):
            if text is not None:  # A part of a rolling one, of which lm-eval tells as a whole.
                self.cache_hook.add_partial("loglikelihood", text, one)
        return found

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        """What the model writes behind each prompt, up to what ends it."""
        self._expect(requests)
        plain = not _has_effect(self.model.generation_config)
        ours = [plain and _is_greedy(normalize_gen_kwargs(one.args[1], self.max_gen_toks)) for one in requests]
        asked = [one for one, is_ours in zip(requests, ours, strict=True) if is_ours]
        left = [one for one, is_ours in zip(requests, ours, strict=True) if not is_ours]
        answers = iter(self._by_engine(asked))
        others = iter(super().generate_until(left, disable_tqdm) if left else [])
        return [next(answers if is_ours else others) for is_ours in ours]

    def _expect(self, requests: Sequence[Any]) -> None:
        if self.line is not None:
            self.line.reset(total=len(requests))

    def _by_engine(self, instances: Sequence[Any]) -> list[str]:
        wanted = [self._request(instance) for instance in instances]
        asked_by: dict[TokenRequest, list[int]] = {}
        for place, request in enumerate(wanted):
            asked_by.setdefault(request, []).append(place)
        found = [""] * len(wanted)
        for batch in plan_batches(list(asked_by), self._at_a_time or max(1, len(asked_by))):

            def keep(number: int, one: Completion, batch: Sequence[Request] = batch) -> None:
                request = batch[number]
                assert isinstance(request, TokenRequest)
                for place in asked_by[request]:
                    found[place] = postprocess_generated_text(one.text, list(request.stop), None)
                    self.cache_hook.add_partial("generate_until", instances[place].args, found[place])

            self.engine.generate(batch, keep)
        return found

    def _request(self, instance: Any) -> TokenRequest:
        prompt, asked = instance.args
        settings = normalize_gen_kwargs(asked, self.max_gen_toks)
        longest = settings["max_gen_toks"]
        tokens = self.tok_encode(prompt, left_truncate_len=self.max_length - longest)
        stops = handle_stop_sequences(settings.get("until"), eos=self.tok_decode(self.eot_token_id, False))
        return TokenRequest(
            prompt=prompt,
            group=str(instance.task_name),
            max_new_tokens=longest,
            temperature=0.0,
            seed=0,
            stop=tuple(stop for stop in stops if stop),
            tokens=tuple(tokens),
            ends=tuple(self._special[stop] for stop in stops if stop in self._special),
        )


def _is_greedy(settings: Mapping[str, Any]) -> bool:
    return not settings["do_sample"] and set(settings) <= _UNDERSTOOD


def _has_effect(config: Any) -> bool:
    """Whether a generation config asks for more than greedy decoding."""
    return not {key for key, value in config.to_diff_dict().items() if value} <= _WITHOUT_EFFECT
