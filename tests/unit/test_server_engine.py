"""The server engine against a real HTTP server in this process that fails as it is told to."""

import asyncio
import json
import logging
import resource
import socket
import threading
import time
from email.utils import formatdate

import pytest

from arte_plugin.config.engines import ServerEngineArgs
from arte_plugin.engines.base import Completion, Thought, plan_queue
from arte_plugin.engines.dialects import Writer
from arte_plugin.engines.server import ServerEngine
from arte_plugin.engines.server_queue import ServerQueue
from arte_plugin.errors import ServerError
from arte_plugin.language.rendering import Renderer
from arte_plugin.models.model import Model
from arte_plugin.models.request_cache import RequestCache
from arte_plugin.ranks import LOGGER
from tests.shipped_templates import shipped, tokenizer_for
from tests.staged_server import Staged, answer, ask


@pytest.fixture
def serve():
    made = []

    def start(*answers, **more):
        made.append(Staged(*answers, **more))
        return made[-1]

    yield start
    for server in made:
        server.shutdown()
        server.server_close()


@pytest.fixture
def engine_for(renderer):
    def make(*servers, api="vllm", adapter=None, api_key=None, **settings):
        urls = [server if isinstance(server, str) else server.url for server in servers]
        given = {"kind": "server", "api": api, "teacher": {"base_urls": urls}, "patience": 5, "timeout": 5, **settings}
        writer = Writer(api, renderer, "the-model", "arte-123" if adapter else None)
        return ServerEngine(
            writer, ServerEngineArgs.model_validate(given), urls, adapter=adapter, api_key=api_key
        )  # fmt: skip

    return make


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


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


def test_429_waits_as_long_as_it_is_told(serve, engine_for):
    server = serve((429, {"Retry-After": "1"}, {"error": {"message": "slow down"}}), answer())
    assert engine_for(server).generate([ask()])[0].text == "fine"
    assert server.times[1] - server.times[0] >= 1.0


def test_429_is_meant_for_every_request(serve, engine_for):
    server = serve((429, {"Retry-After": "1"}, "slow down"), answer())
    assert len(engine_for(server, concurrency=1).generate([ask(str(i)) for i in range(4)])) == 4
    assert len(server.times) == 5 and min(server.times[1:]) - server.times[0] >= 1.0


def test_429_waits_until_the_date_that_it_is_told(serve, engine_for, monkeypatch):
    monkeypatch.setattr(ServerEngine, "_pause", lambda self, failures: 0.0)
    until = int(time.time()) + 2
    server = serve((429, {"Retry-After": formatdate(until, usegmt=True)}, "slow down"), answer())
    assert engine_for(server).generate([ask()])[0].text == "fine"
    assert len(server.times) == 2 and time.time() >= until


def test_500_is_tried_again_and_not_for_ever(serve, engine_for):
    broken = (500, {}, {"error": {"message": "out of blocks"}})
    server = serve(broken, (503, {}, "busy"), answer())
    assert engine_for(server).generate([ask()])[0].text == "fine"
    assert len(server.times) == 3
    server = serve(broken)
    with pytest.raises(ServerError, match=r"in 3 attempts \(`retries`\)\. The last one: 500: out of blocks"):
        engine_for(server, retries=2).generate([ask()])
    assert len(server.times) == 3


@pytest.mark.parametrize(
    "odd",
    [
        (200, {}, {"choices": []}),
        answer("", "abort"),
        answer(None),
        answer(tokens=None),
        (200, {}, ["fine"]),
        (200, {}, {"choices": [{"text": "fine", "finish_reason": "stop"}], "usage": "much"}),
        (200, {}, b"<html>Welcome</html>"),
        (200, {}, b"\xff\xfe"),
        (200, {"Content-Length": "90"}, b'{"choices": [{"te'),
        (200, {"Content-Encoding": "gzip"}, b"no gzip"),
    ],
    ids=str,
)
def test_an_answer_of_no_use_is_asked_for_again(odd, serve, engine_for, monkeypatch):
    monkeypatch.setattr(ServerEngine, "_pause", lambda self, failures: 0.0)
    server = serve(odd, odd, answer())
    assert engine_for(server).generate([ask(stop=("</ans>",))])[0].text == "fine"
    assert len(server.bodies) == 3
    server = serve(lambda body: odd if "odd" in body["prompt"] else answer())
    with pytest.raises(ServerError, match=r"\(`retries`\)|`patience`"):
        engine_for(server, api="openai", retries=2, patience=0.5).generate([ask("odd"), ask("even")])


def test_a_request_that_breaks_the_server_each_time_does_not_hold_up_the_others(serve, engine_for, monkeypatch):
    monkeypatch.setattr(ServerEngine, "_pause", lambda self, failures: 0.01)
    server = serve(lambda body: ("hang up", {}, {}) if body["prompt"] == "poison" else answer())
    kept = []
    with pytest.raises(ServerError, match=r"was away for 0.5 s \(`patience`\): RemoteProtocolError"):
        engine_for(server, api="openai", concurrency=1, patience=0.5).generate(
            [ask("poison"), *(ask(str(i)) for i in range(20))], lambda place, one: kept.append(place)
        )
    assert kept == list(range(1, 21))


def test_a_server_that_is_loading_is_waited_for(serve, engine_for, caplog, monkeypatch):
    monkeypatch.setattr(ServerEngine, "_pause", lambda self, failures: 0.01)
    loading = (503, {}, {"error": {"message": "Loading model"}})
    server = serve(*[loading] * 30, answer())
    with caplog.at_level(logging.INFO, LOGGER):
        assert len(engine_for(server, retries=1).generate([ask(str(i)) for i in range(20)])) == 20
    said = [record.message for record in caplog.records]
    assert sum("is away (503: Loading model); waiting up to 5 s" in line for line in said) == 1
    assert sum("is back" in line for line in said) == 1
    server = serve(loading)
    with pytest.raises(ServerError, match=r"was away for 0.5 s \(`patience`\): 503: Loading model"):
        engine_for(server, patience=0.5).generate([ask()])


def test_a_server_that_comes_back_is_given_the_adapter_again(serve, engine_for, tmp_path, monkeypatch):
    monkeypatch.setattr(ServerEngine, "_pause", lambda self, failures: 0.01)
    loaded = (200, {}, "loaded")
    server = serve(loaded, answer(), ("hang up", {}, {}), loaded, answer())
    engine = engine_for(server, adapter=tmp_path, concurrency=1)
    assert len(engine.generate([ask(str(i)) for i in range(3)])) == 3
    assert [path.rsplit("/", 1)[1] for path, _, _ in server.asked] == [
        "load_lora_adapter", "completions", "completions", "load_lora_adapter", "completions", "completions",
    ]  # fmt: skip


def test_a_queue_gives_each_server_its_piece_and_what_others_have_left():
    async def takes():
        queue = ServerQueue(7, 2)
        first = [await queue.take(0, 0), await queue.take(1, 0)]
        assert await queue.put_back(0, 0, first[0])
        # A worker of the server that is away waits, the one that looks for it does not.
        waiting = asyncio.create_task(queue.take(0, 1))
        taken = [await queue.take(1, 0) for _ in range(4)]
        looked = await queue.take(0, 0)
        assert not waiting.done()
        await queue.answered(0)
        taken.append(await waiting)
        for _ in range(6):
            await queue.answered(1)
        assert await queue.take(1, 0) is None
        return first, taken, looked

    # The piece of server 1 ends, then the end of that of server 0: what was put back first.
    assert asyncio.run(takes()) == ([0, 3], [4, 5, 6, 0, 2], 1)


def test_a_fast_server_takes_over_from_a_slow_one(serve, engine_for):
    slow, fast = serve(delay=0.4), serve()
    assert len(engine_for(slow, fast, concurrency=2).generate([ask(str(i)) for i in range(40)])) == 40
    assert len(slow.bodies) < 20 < len(fast.bodies)


def test_as_many_files_may_be_open_as_there_are_connections(engine_for):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
        engine_for("http://127.0.0.1:1/v1", concurrency=400)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(912, hard), hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_may_help_is_said_with_the_refusal(serve, engine_for):
    for status, hint in ((401, "`api_key_env` names"), (404, "`base_urls` end in /v1")):
        with pytest.raises(ServerError, match=rf"refuses a request \({status}\): no\n{hint}"):
            engine_for(serve((status, {}, {"detail": "no"}))).generate([ask()])


def test_a_refused_request_ends_the_run_with_the_server_s_words(serve, engine_for):
    message = "This model's maximum context length is 2048 tokens"
    for content in ({"error": {"message": message}}, {"detail": message}, {"object": "error", "message": message}):
        server = serve((400, {}, content))
        with pytest.raises(ServerError, match=rf"refuses a request \(400\): {message}\nThe prompt begins: 'Say it"):
            engine_for(server).generate([ask() for _ in range(5)])


def test_no_reply_in_time(serve, engine_for):
    server = serve(delay=1.0)
    with pytest.raises(ServerError, match=r"no reply within 0.2 s \(`timeout`\)"):
        engine_for(server, timeout=0.2, retries=1).generate([ask()])


def test_a_server_that_is_not_there_yet_is_waited_for(serve, engine_for, caplog):
    port = free_port()
    timer = threading.Timer(1.0, lambda: serve(port=port))
    timer.start()
    with caplog.at_level(logging.INFO, LOGGER):
        done = engine_for(f"http://127.0.0.1:{port}/v1").generate([ask(str(i)) for i in range(20)])
    assert [one.text for one in done] == ["fine"] * 20
    said = [record.message for record in caplog.records]
    assert sum("is away" in line for line in said) == 1 and sum("is back" in line for line in said) == 1


def test_a_server_that_stays_away_ends_the_run(engine_for):
    with pytest.raises(ServerError, match=r"was away for 1 s \(`patience`\): ConnectError"):
        engine_for(f"http://127.0.0.1:{free_port()}/v1", patience=1).generate([ask()])


def test_a_connection_that_breaks_is_made_again(serve, engine_for):
    server = serve(("hang up", {}, {}), answer())
    assert engine_for(server).generate([ask()])[0].text == "fine"


def test_another_server_takes_the_place_of_one_that_is_away(serve, engine_for):
    server = serve()
    away = f"http://127.0.0.1:{free_port()}/v1"
    done = engine_for(away, server).generate([ask(group=str(i)) for i in range(6)])
    assert len(done) == 6 and len(server.bodies) == 6


def test_another_server_takes_the_place_of_one_that_hangs(serve, engine_for):
    hangs, server = serve(delay=1.5), serve()
    engine = engine_for(hangs, server, concurrency=2, timeout=0.8, retries=0)
    assert len(engine.generate([ask(str(i)) for i in range(20)])) == 20
    # Two were under way when it turned out to hang; after that it was tried with one at a time.
    assert len(hangs.bodies) <= 3


def test_siblings_stay_together_and_servers_share_the_work(serve, engine_for):
    servers = serve(delay=0.1), serve(delay=0.1)
    requests = [ask(f"{group} {i}", group=group) for i in range(4) for group in "abcdef"]
    engine = engine_for(*servers, concurrency=3, api="openai")
    [batch] = plan_queue(requests, 100)
    done = engine.generate(batch)
    assert len(done) == 24
    for server in servers:
        groups = [body["prompt"][0] for body in server.bodies]
        # The one that is through first may take over some of the other's last group.
        assert 9 <= len(groups) <= 15 and 3 <= len(set(groups)) <= 4
        # A group's requests go out one after the other: at most those in flight come between.
        for group in set(groups):
            places = [i for i, one in enumerate(groups) if one == group]
            assert places[-1] - places[0] <= 3 + 2
        assert 1 < server.most <= 3


def test_one_large_group_is_shared_among_the_servers(serve, engine_for):
    servers = serve(), serve(), serve()
    engine_for(*servers).generate([ask(str(i)) for i in range(10)])
    assert sorted(len(server.bodies) for server in servers) == [3, 3, 4]


def test_a_long_pause_is_told(serve, engine_for, caplog, monkeypatch):
    monkeypatch.setattr("arte_plugin.engines.server.LONGEST_PAUSE", 0.5)
    server = serve((429, {"Retry-After": "1"}, "slow down"), answer())
    engine_for(server).generate([ask()])
    assert any("asks for a pause of 1 s (`Retry-After`)" in record.message for record in caplog.records)


def test_the_queue_mixes_groups_and_keeps_siblings_next_to_each_other():
    requests = [ask(f"{group} {i}", group=group) for i in range(3) for group in "xyz"] + [ask("alone", group="q")]
    batches = plan_queue(requests, 4)
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert "".join(request.group for batch in batches for request in batch) == "xxxyyyzzzq"
    assert plan_queue(requests[::-1], 4) == batches
    assert plan_queue([], 4) == []


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
