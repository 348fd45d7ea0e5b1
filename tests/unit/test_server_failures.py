"""The server engine and servers that refuse, break, hang, stay away or come back."""

import logging
import socket
import threading
import time
from email.utils import formatdate

import pytest

from arte_plugin.engines.server import ServerEngine
from arte_plugin.errors import ServerError
from arte_plugin.ranks import LOGGER
from tests.staged_server import answer, ask


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


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


def test_a_long_pause_is_told(serve, engine_for, caplog, monkeypatch):
    monkeypatch.setattr("arte_plugin.engines.server.LONGEST_PAUSE", 0.5)
    server = serve((429, {"Retry-After": "1"}, "slow down"), answer())
    engine_for(server).generate([ask()])
    assert any("asks for a pause of 1 s (`Retry-After`)" in record.message for record in caplog.records)
