"""The server engine against a real HTTP server in this process: what is sent, and what answers mean."""

import json
import logging

import pytest

from arte_plugin.config.engines import ServerEngineArgs
from arte_plugin.engines.base import Completion, Thought
from arte_plugin.engines.dialects import Writer
from arte_plugin.engines.server import ServerEngine
from arte_plugin.errors import ServerError
from arte_plugin.language.rendering import Renderer
from arte_plugin.models.model import Model
from arte_plugin.models.request_cache import RequestCache
from arte_plugin.ranks import LOGGER
from tests.shipped_templates import shipped, tokenizer_for
from tests.staged_server import answer, ask


def test_what_vllm_is_sent_and_what_its_answer_means(serve, engine_for, renderer):
    server = serve(answer("so <ans>A</ans> and", "stop"), answer("cut sh", "length", 9), answer("done", "stop"))
    engine = engine_for(server, api_key="secret", concurrency=1)
    done = engine.generate(
        [ask(stop=("</ans>", "\n")), ask(stop=("</ans>",)), ask("é?", temperature=0.7)],
    )
    assert done == [
        Completion("so <ans>A</ans>", "stop", 7, 2),
        Completion("cut sh", "length", 7, 9),
        Completion("done", "stop", 7, 2),
    ]
    first, _, sampled = server.bodies
    assert first["prompt"] == renderer.tokenizer("Say it.", add_special_tokens=False)["input_ids"]
    assert (first["model"], first["max_tokens"], first["temperature"]) == ("the-model", 9, 0.0)
    assert first["stop"] == ["</ans>", "\n"] and first["include_stop_str_in_output"] is True
    # A checkpoint's generation_config.json has no say.
    assert (first["top_k"], first["top_p"], first["min_p"], first["repetition_penalty"]) == (-1, 1.0, 0.0, 1.0)
    assert "seed" not in first and (sampled["seed"], sampled["temperature"]) == (5, 0.7)
    assert "stop" not in sampled
    assert server.asked[0][1]["Authorization"] == "Bearer secret"


def test_the_end_of_turn_of_a_base_models_template_ends_a_reply(serve):
    """Its EOS is another token: the server is told of both, by id or, where it takes none, as text."""
    renderer = Renderer(tokenizer_for(shipped()["trl/qwen2_5"], eos="<|endoftext|>"), "chat")
    end, eos = renderer.tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert Writer("vllm", renderer, "m").body(ask(renderer.prompt("Say it.")))["stop_token_ids"] == sorted([end, eos])
    prompt = renderer.bos + "Say it."
    for api, stops in (("transformers", ["</ans>", "<|im_end|>"]), ("openai", ["<|im_end|>"])):
        writer = Writer(api, renderer, "m")
        assert writer.body(ask(prompt, stop=("</ans>",)))["stop"] == stops
        assert writer.completion(ask(), answer("so it is<|im_end|>", "stop")[2]).text == "so it is"


def test_a_reply_cut_at_a_mention_of_the_tags_goes_on(serve, engine_for, renderer):
    mention = " between <ans> and </ans>"
    server = serve(answer(mention, "stop", 3), answer(" so <ans>A</ans>", "stop", 4))
    [done] = engine_for(server).generate([ask(stop=("\n",), answer="choice")])
    assert done == Completion(mention + " so <ans>A</ans>", "stop", 7, 7)
    first, second = server.bodies
    assert first["stop"] == second["stop"] == ["</ans>", "\n"]
    assert second["prompt"] == renderer.tokenizer("Say it." + mention, add_special_tokens=False)["input_ids"]
    assert (first["max_tokens"], second["max_tokens"]) == (9, 6)


def test_a_thought_keeps_its_special_tokens_and_the_reply_behind_it_does_not_end_in_one(serve, engine_for, renderer):
    end = renderer.tokenizer.eos_token
    server = serve(answer("hm <ans>B</ans> </think>", "stop", 3), answer(f" <ans>A</ans>{end}", "stop", 4))
    [done] = engine_for(server).generate([ask(answer="text", thought=Thought("</think>", 30))])
    assert done.text == "hm <ans>B</ans> </think> <ans>A</ans>"
    assert [(body["max_tokens"], body["stop"]) for body in server.bodies] == [(30, ["</think>"]), (9, ["</ans>"])]
    assert all(body["skip_special_tokens"] is False for body in server.bodies)


def test_a_router_that_reads_prompts_is_sent_text(serve, renderer):
    server = serve((408, {}, {"detail": "Request server side timeout"}), answer())
    settings = {"kind": "server", "api": "vllm", "prompts": "text", "student": {"base_urls": [server.url]}}
    writer = Writer("vllm", renderer, "the-model", as_text=True)
    engine = ServerEngine(writer, ServerEngineArgs.model_validate(settings), [server.url])
    assert engine.generate([ask(stop=("</ans>",))])[0].text == "fine"
    first, again = server.bodies
    assert first == again
    # Its special tokens are in the text: no second BOS.
    assert (first["prompt"], first["add_special_tokens"]) == ("Say it.", False)
    assert first["include_stop_str_in_output"] is True


def test_what_the_other_servers_are_sent(serve, engine_for, renderer, monkeypatch):
    bodies = {}
    for api in ("sglang", "transformers", "openai"):
        server = serve(answer("so <ans>A</ans> and", "length"))
        [done] = engine_for(server, api=api).generate([ask(stop=("</ans>",), temperature=1.0)])
        assert (done.text, done.finish) == ("so <ans>A</ans>", "stop")
        [bodies[api]] = server.bodies
    assert bodies["sglang"]["no_stop_trim"] is True and bodies["sglang"]["stop"] == ["</ans>"]
    assert isinstance(bodies["sglang"]["prompt"][0], int)
    settings = json.loads(bodies["transformers"]["generation_config"])
    assert settings == {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0}
    assert bodies["transformers"]["prompt"] == "Say it." and bodies["transformers"]["stop"] == ["</ans>"]
    # It would cut the closing tag off, and a reply that ends in it would look like one without.
    assert "stop" not in bodies["openai"] and bodies["openai"]["prompt"] == "Say it."


def test_a_server_that_adds_bos_is_sent_the_prompt_without_it(serve, engine_for, renderer, monkeypatch):
    monkeypatch.setitem(renderer.__dict__, "bos", "<|bos|>")
    server = serve()
    engine = engine_for(server, api="openai")
    engine.generate([ask("<|bos|>Say it.")])
    assert server.bodies[0]["prompt"] == "Say it."
    with pytest.raises(ServerError, match=r"would put <\|bos\|> before a prompt that has none"):
        engine.generate([ask("Say it.")])


def test_throughput_is_told_once(serve, engine_for, renderer, tmp_path, caplog):
    server = serve(delay=0.2)
    engine = engine_for(server, concurrency=4)
    model = Model("m", {}, renderer, lambda: engine, RequestCache(tmp_path / "c.sqlite"), 100, 10.0, served=True)
    with caplog.at_level(logging.INFO, LOGGER):
        model.ask([ask(str(i)) for i in range(8)], "probe sums")
        model.ask([ask(str(i)) for i in range(8)], "probe sums")
    [line] = [record.message for record in caplog.records if "tokens/s" in record.message]
    assert line.startswith("probe sums: 8 requests in 0.")
    assert 2.0 < float(line.rsplit(" ", 1)[1]) <= 4.0
    assert len(server.bodies) == 8


def test_what_is_answered_is_kept_when_another_request_fails(serve, engine_for, renderer, tmp_path):
    cache = RequestCache(tmp_path / "c.sqlite")
    first = serve(answer(), answer(), answer(), (400, {}, "no"))
    requests = [ask(str(i)) for i in range(6)]

    def model(server):
        return Model("m", {}, renderer, lambda: engine_for(server, concurrency=1), cache, 100, 10.0, served=True)

    with pytest.raises(ServerError, match="refuses a request"):
        model(first).ask(requests, "probe sums")
    second = serve()
    assert len(model(second).ask(requests, "probe sums")) == 6
    assert len(second.bodies) == 3


def test_one_rank_asks_for_all(serve, engine_for, renderer, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    server, cache = serve(), RequestCache(tmp_path / "c.sqlite")
    requests = [ask(str(i)) for i in range(6)]
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        model = Model("m", {}, renderer, lambda: engine_for(server), cache, 2, 1.0, served=True)
        assert len(model.ask(requests, "probe sums")) == 6
        assert model.usage.asked == (6 if rank == "0" else 0)


def test_a_running_server_is_given_the_aligned_teacher_s_adapter(serve, engine_for, tmp_path):
    for api, path in (("vllm", "/v1/load_lora_adapter"), ("sglang", "/load_lora_adapter")):
        server = serve((200, {}, "loaded"), answer())
        engine_for(server, api=api, adapter=tmp_path).generate([ask()])
        assert server.asked[0][0] == path
        assert server.asked[0][2] == {"lora_name": "arte-123", "lora_path": str(tmp_path)}
        assert server.bodies[0]["model" if api == "vllm" else "lora_path"] == "arte-123"
    server = serve((400, {}, {"message": "The lora adapter 'arte-123' has already been loaded."}), answer())
    assert engine_for(server, adapter=tmp_path).generate([ask()])[0].text == "fine"
    server = serve((404, {}, {"detail": "Not Found"}))
    with pytest.raises(ServerError, match=r"adapter \(404\): Not Found\n.*VLLM_ALLOW_RUNTIME_LORA_UPDATING"):
        engine_for(server, adapter=tmp_path).generate([ask()])
