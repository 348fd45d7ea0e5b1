"""Where and in which precision the teacher is loaded to write, with numbers in the place of GPUs."""

import logging
import os

import axolotl.loaders
import pytest
import torch
from axolotl.utils.config import choose_device, normalize_config, validate_config
from axolotl.utils.dict import DictDefault
from transformers import AutoModelForCausalLM

from arte_plugin.config.arte import ArteArgs
from arte_plugin.engines.base import Request
from arte_plugin.engines.transformers import TransformersEngine
from arte_plugin.errors import StageError
from arte_plugin.models import placement
from arte_plugin.models.request_cache import RequestCache
from arte_plugin.models.teacher import teacher_model
from arte_plugin.plugin import ArtePlugin
from tests.tiny import tiny_model

GIB = 2**30
PROMPTS = ["Is the sky blue? Yes or no:", "Is the sky blue? Say why:", "Count from one to ten:"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tiny_model(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture
def config(model):
    """`config(adapter="lora")`: what Axolotl makes of a teacher's YAML, with such keys."""

    def of(**more):
        places = {"base_model": model, "base_model_config": model, "tokenizer_config": model}
        return DictDefault({**places, "torch_dtype": torch.float32, "world_size": 1, "local_rank": 0, **more})

    return of


@pytest.fixture
def load(model, tmp_path):
    """`load(config)`: the engine of the teacher that a config describes."""
    task = {"name": "t", "description": "d", "questions": {"path": "x"}}
    args = ArteArgs.model_validate({"student": {"base_model": model}, "tasks": [task]})
    cache = RequestCache(tmp_path / "requests.sqlite")
    yield lambda cfg: teacher_model(cfg, args, cache).load()
    cache.close()


@pytest.fixture
def gpus(monkeypatch):
    """`gpus(2, free=80)`: a machine with so many, and so many GiB free on each."""

    def there(count, free=80.0):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda place: (int(free * GIB), 80 * GIB))
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)

    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name in [name for name in os.environ if name.startswith("ACCELERATE_USE_")]:
        monkeypatch.delenv(name)
    return there


@pytest.fixture
def launched(monkeypatch):
    """As under `axolotl train`, whose launcher sets this for one process too."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "False")


@pytest.fixture
def loader(monkeypatch, model):
    """In the place of Axolotl's: it notes where it is told to put the model, and leaves it on the CPU."""
    told = []

    class Loader:
        def __init__(self, cfg, tokenizer, inference):
            told.append(cfg["device_map"])

        def load(self):
            return AutoModelForCausalLM.from_pretrained(model), None

    monkeypatch.setattr(axolotl.loaders, "ModelLoader", Loader)
    return told


@pytest.mark.parametrize("keys", [{}, {"adapter": "lora"}], ids=["in-full", "lora"])
def test_under_the_launcher_the_teacher_goes_to_the_gpu_or_the_run_ends(
    keys, config, load, gpus, launched, loader, monkeypatch
):
    # As PEFT's, which Axolotl's loader would have put around it.
    monkeypatch.setattr("transformers.LlamaForCausalLM.unload", lambda self: self, raising=False)
    gpus(1)
    cfg = config(**keys)
    choose_device(cfg)
    assert cfg["device_map"] is None
    with pytest.raises(StageError, match="loaded to the CPU, though there is a GPU"):
        load(cfg)
    assert loader == [{"": 0}]


def test_without_a_gpu_the_teacher_stays_where_axolotl_puts_it(config, load, gpus, launched, loader):
    gpus(0)
    cfg = config()
    choose_device(cfg)
    load(cfg)
    assert loader == [None]


def test_what_the_yaml_says_of_the_place_stays(config, gpus, load, loader):
    gpus(1)
    load(config(device_map={"": "cpu"}))
    assert loader == [{"": "cpu"}]
    assert placement.device_map(config(device_map="balanced")) == "balanced"


@pytest.mark.parametrize(
    ("keys", "free", "expected"),
    [
        ({}, 80, {"": 0}),
        # The tiny model's weights take 419 KiB in float32, and have to leave room for keys and values.
        ({}, 500 / 2**20, "auto"),
        ({"torch_dtype": torch.bfloat16}, 500 / 2**20, {"": 0}),
        # Where its config.json is, nobody knows.
        ({"base_model": "nobody/nothing"}, 80, "auto"),
    ],
    ids=["fits", "does-not", "fits-in-bfloat16", "unknown"],
)
def test_one_process_keeps_on_one_of_several_gpus_what_fits_it(keys, free, expected, config, gpus, caplog):
    gpus(4, free)
    cfg = config(**keys)
    choose_device(cfg)
    assert cfg["device_map"] == "auto"
    logging.getLogger("axolotl").propagate = True
    with caplog.at_level(logging.INFO, logger="axolotl.arte"):
        assert placement.device_map(cfg) == expected
    if expected != "auto":
        assert "on one GPU, where it fits" in caplog.text
    elif not keys:
        assert "spread over the GPUs" in caplog.text


def test_a_part_of_a_model_beside_the_gpu_is_told(gpus, caplog):
    gpus(1)
    logging.getLogger("axolotl").propagate = True

    class Spread:
        def parameters(self):
            kinds = [torch.device("cuda:0"), torch.device("meta")]
            return [type("Parameter", (), {"device": kind})() for kind in kinds]

    placement.check_placed(Spread(), "the teacher")
    assert "a part of the teacher lies outside of the GPU" in caplog.text


def test_each_rank_takes_its_own_gpu_before_anything_else(gpus, monkeypatch):
    taken = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    gpus(2)
    placement.take_own_gpu()
    assert taken == []  # One process: the first GPU, and no CUDA context before it is needed.
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")

    def first_thing(cfg):
        assert taken == [1]
        raise ZeroDivisionError

    monkeypatch.setattr("arte_plugin.loop.loop.begin", first_thing)
    with pytest.raises(ZeroDivisionError):
        ArtePlugin().load_datasets({})
    assert placement.device() == "cuda:1"
    gpus(0)
    taken.clear()
    placement.take_own_gpu()
    assert taken == [] and placement.device() == "cpu"


def replies(engine):
    requests = [Request(prompt, "one", 12, 0.0, 0) for prompt in PROMPTS]
    return [one.text for one in engine.generate(requests)]


@pytest.mark.parametrize("attention", ["sdpa", "eager", None])
def test_a_teacher_trained_in_full_writes_in_bfloat16(attention, config, load, model):
    """Axolotl has turned its norms, embeddings and output layer into float32, for a training with autocast."""
    more = {"attn_implementation": attention} if attention else {}
    keys = {"bf16": True, "micro_batch_size": 1, "gradient_accumulation_steps": 1, "learning_rate": 1e-6, **more}
    data = {"datasets": [{"path": "x", "type": "alpaca"}], "model_config_type": "llama", "sequence_len": 512}
    cfg = validate_config(DictDefault({**config(), **data, **keys}))
    normalize_config(cfg)
    engine = load(cfg)
    plain = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16, **more)
    assert replies(engine) == replies(TransformersEngine(plain, engine.tokenizer))
    for (name, one), (_, same) in zip(engine.model.named_parameters(), plain.named_parameters(), strict=True):
        assert one.dtype == torch.bfloat16 and torch.equal(one, same), name
    # Rotary frequencies rounded to 8 bits would move every token.
    assert {buffer.dtype for buffer in engine.model.buffers()} == {torch.float32}


@pytest.mark.parametrize(("bf16", "dtype"), [(True, torch.bfloat16), (False, torch.float32)], ids=["gpu", "cpu"])
def test_float32_weights_write_as_the_training_computes(bf16, dtype, config, load, monkeypatch):
    """By autocast it computes in bfloat16, and flash attention takes no float32."""
    monkeypatch.setattr("arte_plugin.training.child.has_bf16", lambda: bf16)
    keys = {"bf16": False, "micro_batch_size": 1, "gradient_accumulation_steps": 1, "learning_rate": 1e-6}
    data = {"datasets": [{"path": "x", "type": "alpaca"}], "model_config_type": "llama", "sequence_len": 512}
    cfg = validate_config(DictDefault({**config(), **data, **keys, "attn_implementation": "sdpa"}))
    normalize_config(cfg)
    cfg["plugins"] = ["arte_plugin.ArtePlugin", "arte_plugin.Float32Weights"]
    engine = load(cfg)
    assert {one.dtype for one in engine.model.parameters()} == {dtype}
    assert all(replies(engine))
    assert cfg["torch_dtype"] == torch.float32, "the training's own"


def test_what_a_model_s_code_keeps_in_float32_stays_so(model):
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16).float()
    loaded._keep_in_fp32_modules_strict = {"input_layernorm"}
    placement.one_precision(loaded, torch.bfloat16)
    kept = {name for name, one in loaded.named_parameters() if one.dtype == torch.float32}
    assert kept == {f"model.layers.{layer}.input_layernorm.weight" for layer in (0, 1)}
