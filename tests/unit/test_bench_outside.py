"""Contenders of the benchmark with environments of their own: what they are told, and what is made of their replies."""

import json
import subprocess
import sys
import types

import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from benchmarks.probing import measure, run, table, worker  # noqa: E402
from benchmarks.probing.outside import installed, turn, with_openvino, with_vllm  # noqa: E402
from tests.tiny import tiny_model  # noqa: E402

SPEC = {"threads": 3, "exported": "folder", "model": "m", "device": "cpu", "dtype": "float32", "longest": 2176}
REAL = turn.Replies(64, (2, 7), ("</ans>",), False)
FIXED = turn.Replies(32, (), (), True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model(tmp_path_factory.mktemp("tiny"))


class Greedy:
    """Answers like another project's engine would: with tokens, a stop string's own among them."""

    def __init__(self, folder):
        from transformers import AutoModelForCausalLM

        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.model.generation_config.eos_token_id = None
        self.asked = []

    def answer(self, prompts, replies):
        self.asked.append((len(prompts), replies))
        given = [torch.tensor([prompt]) for prompt in prompts]
        settings = {"max_new_tokens": replies.max_new_tokens, "do_sample": False, "pad_token_id": 0}
        if replies.ends:
            settings["eos_token_id"] = list(replies.ends)
        return [self.model.generate(one, **settings)[0, one.shape[1] :].tolist() for one in given]

    def peak_memory(self):
        return None


@pytest.fixture
def bench(folder, tmp_path, monkeypatch):
    """Runs the command with our engine and `openvino`, whose engine stands in for it here."""
    greedy = Greedy(folder)

    def in_process(spec):
        spec = json.loads(json.dumps(spec))
        if spec["contender"] == "ceilings":
            return measure.ceilings("cpu", torch.float32, size=64, numbers=4096)
        if spec["contender"] == "engine":
            return list(worker.run(spec))
        assert spec["exported"] == "exported" and spec["python"] == ".venv-openvino/bin/python"
        found = list(turn.run(spec, greedy, worker.load_renderer(str(folder)).tokenizer))
        return [one | {"load_seconds": 7.0} for one in found]

    monkeypatch.setattr(run, "run_worker", in_process)
    monkeypatch.setattr(installed, "versions", lambda name, python: {"openvino-genai": "9.9"})
    monkeypatch.setattr(installed, "exported", lambda python, model, kept: ("exported", 31.0))

    def start(*more):
        given = ["--model", folder, "--prefixes", 600, "--siblings", 2, "--turns", 2, "--contenders", "engine,openvino"]
        done = CliRunner().invoke(run.main, [*map(str, [*given, *more]), "--out", str(tmp_path)])
        assert done.exit_code == 0, done.output
        return json.loads((tmp_path / "results.json").read_text()), (tmp_path / "table.md").read_text()

    return start, greedy


def test_another_projects_engine_is_asked_the_same_and_compared_with_ours(bench):
    start, greedy = bench
    results, shown = start("--prefixes", "400,600")
    # A warm-up and its turn at each work; the first warm-ups have as many prompts.
    rows = [2, 2, 2, 2, 1, 2, 1, 2]
    lengths = [False, False, True, True]
    assert [prompts for prompts, _ in greedy.asked] == rows * 2
    assert [replies.fixed for _, replies in greedy.asked] == lengths * 4
    real, fixed = greedy.asked[1][1], greedy.asked[3][1]
    # Ends and stop strings where lengths are real.
    assert real.ends and "</ans>" in real.stop and (fixed.ends, fixed.stop) == ((), ())
    lines = table.against(results)[1:]
    assert [(line[1], line[2], line[4]) for line in lines] == [
        ("real lengths", "OpenVINO GenAI", "4 of 4"),
        ("32 new tokens each", "OpenVINO GenAI", "4 of 4"),
    ] * 2
    assert "openvino-genai 9.9" in shown and "OpenVINO GenAI 7 s" in shown and "took 31 s to write" in shown
    assert all(row["length_kept"] for row in results["turns"])
    targets = [line[0] for line in table.targets(results) if line[1] == "600/real"]
    assert "at least 1 x the speed of OpenVINO GenAI" in targets


def test_ratios_are_those_of_a_turn_and_replies_that_differ_are_told(bench, monkeypatch):
    start, greedy = bench
    answer = greedy.answer
    monkeypatch.setattr(greedy, "answer", lambda prompts, replies: [one[::-1] for one in answer(prompts, replies)])
    results, _ = start("--lengths", "fixed")
    for row in results["turns"]:
        # The second turn finds the machine four times as slow.
        row["seconds"] = (1, 4)[row["turn"]] * (1.0 if row["contender"] == "engine" else 1.5)
    [_, line] = table.against(results)
    assert line[3:] == ["1.50 x (1.50 to 1.50)", "0 of 4"]
    results["turns"][-1] = {**results["turns"][-1], "error": "no memory"}
    assert table.against(results)[1][3] == "1.50 x"


def test_tokens_that_are_not_those_of_the_others_end_a_turn(folder):
    job = {
        "work": {"wanted": 9, "length": "fixed", "prompts": ["ab"], "prompt_tokens": [3]},
        "places": [0], "warm_up": ["a"], "stop": [], "max_new_tokens": 1,
    }  # fmt: skip
    tokenizer = worker.load_renderer(str(folder)).tokenizer
    with pytest.raises(ValueError, match="other tokens"):
        list(turn.run({"jobs": [job], "ends": []}, Greedy(folder), tokenizer))


def test_what_is_not_installed_is_told_before_anything_else(tmp_path):
    given = ["--contenders", "engine,vllm", "--vllm-python", str(tmp_path / "python"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(run.main, given)
    assert done.exit_code == 2 and not (tmp_path / "out").exists()
    assert f"vLLM isn't installed: there is no {tmp_path / 'python'}; `make vllm` installs it" in done.output
    # An environment, and another one than that of OpenVINO.
    given = ["--contenders", "openvino", "--openvino-python", sys.executable]
    done = CliRunner().invoke(run.main, given)
    assert done.exit_code == 2 and "has no OpenVINO GenAI (" in done.output and "`make openvino`" in done.output


def test_openvino_is_not_compared_in_another_precision():
    done = CliRunner().invoke(run.main, ["--contenders", "engine,openvino", "--dtype", "bfloat16"])
    assert done.exit_code == 2 and "in float32, not on cpu in bfloat16" in done.output


def test_their_modules_need_no_package_of_ours():
    """Nor any of theirs before they load: `-S` leaves nothing but Python's own."""
    modules = ", ".join(one.module for one in installed.OUTSIDE.values())
    code = f"import sys; import {modules}; print({{'arte_plugin', 'torch', 'axolotl'}} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], env={"PYTHONPATH": str(installed.ROOT)}, capture_output=True, text=True
    )
    assert done.stdout.strip() == "set()", done.stderr


class Recorded(types.SimpleNamespace):
    """Settings that are put into it."""

    def __init__(self, **given):
        super().__init__(**given)


def test_openvino_computes_in_float32_and_finds_the_prefix(monkeypatch):
    asked, made = [], []
    reasons = types.SimpleNamespace(STOP="stop", LENGTH="length")

    def pipeline(*given):
        made.append(given)

        def generate(prompts, configs):
            asked.append((prompts, configs))
            ends = ["stop", "length", "none"]
            return [Recorded(m_generation_ids=[[4]], finish_reasons=[ends[i]]) for i in range(len(prompts))]

        return Recorded(generate=generate)

    fake = Recorded(
        SchedulerConfig=Recorded, GenerationConfig=Recorded, ContinuousBatchingPipeline=pipeline,
        GenerationFinishReason=reasons,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "openvino_genai", fake)
    monkeypatch.setitem(sys.modules, "openvino", Recorded(Tensor=lambda array: array.tolist()))
    engine = with_openvino.OpenVino(SPEC)
    [(exported, scheduler, device, settings)] = made
    assert (exported, device, scheduler.enable_prefix_caching) == ("folder", "CPU", True)
    assert settings == {
        "INFERENCE_PRECISION_HINT": "f32",
        "KV_CACHE_PRECISION": "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        "INFERENCE_NUM_THREADS": 3,
    }
    assert engine.answer([[1, 2], [1, 3]], REAL) == [[4], [4]]
    (first, [once]), (both, [config, _]) = asked
    assert (first, once.max_new_tokens, both) == ([[[1, 2]]], 1, [[[1, 2]], [[1, 3]]])
    assert (config.max_new_tokens, config.ignore_eos, config.stop_strings) == (64, False, {"</ans>"})
    assert config.stop_token_ids == {2, 7} and config.include_stop_str_in_output and not config.do_sample
    assert not config.apply_chat_template, "prompts have their template already"
    engine.answer([[1, 2]], FIXED)
    assert len(asked) == 3 and asked[2][1][0].ignore_eos and not hasattr(asked[2][1][0], "stop_token_ids")
    with pytest.raises(RuntimeError, match="1 of 3 requests were given up"):
        engine.answer([[1, 2]] * 3, FIXED)


def test_vllm_takes_as_many_threads_as_the_others(monkeypatch):
    made, asked = [], []

    def generate(prompts, settings, use_tqdm):
        asked.append((prompts, settings))
        return [Recorded(outputs=[Recorded(token_ids=(5,))]) for _ in prompts]

    def model(name, **settings):
        made.append((name, settings))
        return Recorded(generate=generate)

    monkeypatch.setitem(sys.modules, "vllm", Recorded(LLM=model, SamplingParams=Recorded))
    environ = {}
    monkeypatch.setattr(with_vllm, "os", Recorded(environ=environ, sched_getaffinity=lambda _: {5, 4, 1, 0}))
    engine = with_vllm.Vllm(SPEC)
    assert environ["VLLM_CPU_OMP_THREADS_BIND"] == "0,1,4" and environ["OMP_NUM_THREADS"] == "3"
    [(name, settings)] = made
    assert (name, settings["dtype"], settings["max_model_len"]) == ("m", "float32", 2176)
    assert settings["enable_prefix_caching"] and "enforce_eager" not in settings
    assert engine.answer([[1], [2]], REAL) == [[5], [5]] and engine.answer([[1]], FIXED) == [[5]]
    (prompts, real), (_, fixed) = asked
    assert prompts == [{"prompt_token_ids": [1]}, {"prompt_token_ids": [2]}]
    assert (real.temperature, real.max_tokens, real.stop, real.stop_token_ids) == (0.0, 64, ["</ans>"], [2, 7])
    assert real.include_stop_str_in_output and real.detokenize and not real.ignore_eos
    assert fixed.ignore_eos and (fixed.max_tokens, fixed.stop, fixed.stop_token_ids) == (32, [], [])
    assert with_vllm.cpu_settings(3, [0, 1])["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"


def test_its_form_of_a_model_is_written_once_and_whole(tmp_path, folder, monkeypatch):
    program = tmp_path / "optimum-cli"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/log\nfor one; do last=$one; done\nmkdir "$last"\n$FAIL\n')
    program.chmod(0o755)
    monkeypatch.setattr(installed, "versions", lambda name, python: {"openvino-genai": "9.9", "optimum-intel": "2"})
    monkeypatch.setenv("FAIL", "false")
    given = (str(tmp_path / "python"), str(folder), tmp_path / "kept")
    with pytest.raises(installed.click.ClickException, match="can't export"):
        installed.exported(*given)
    assert list((tmp_path / "kept").iterdir()) == []
    monkeypatch.setenv("FAIL", "true")
    made, seconds = installed.exported(*given)
    assert made.endswith("-9.9-2") and seconds > 0 and (tmp_path / "kept").joinpath(made).is_dir()
    assert installed.exported(*given) == (made, 0.0)
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) == 2 and f"--model {folder}" in lines[1] and "--weight-format fp32" in lines[1]
