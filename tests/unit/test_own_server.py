"""Servers that a run starts itself, as processes: started again when they die or hang, and ended with the run."""

import fcntl
import logging
import os
import signal
import subprocess
import sys
import time

import pytest

from arte_plugin.config.engines import ServerEngineArgs
from arte_plugin.engines.dialects import Writer
from arte_plugin.engines.own_server import OwnServer, command_words
from arte_plugin.engines.server import ServerEngine
from arte_plugin.errors import ServerError
from arte_plugin.ranks import LOGGER
from tests.staged_server import ask

#: A server of ours that ends at its third request, unless it was started with another word.
SERVER = """
import http.server, json, os, subprocess, sys, time
port, model, once = int(sys.argv[1]), sys.argv[2], sys.argv[3]
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
open(once + ".worker", "w").write(str(worker.pid))
print("serving", model, flush=True)
if os.path.exists(once): open(once + ".again", "w").close()
count = 0
# Until it is started a second time.
stuck = once.endswith("hang") and not os.path.exists(once)
if stuck: open(once, "w").close()
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404); self.end_headers()
    def do_POST(self):
        global count
        count += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        if once.endswith("wait"):
            time.sleep(60)
        # Until the other server has died and is started again: all alone, this one would soon be through with the rest.
        while once.endswith("never") and not os.path.exists(once.removesuffix("never") + "once.again"):
            time.sleep(0.01)
        if stuck:
            self.send_response(503); self.send_header("Content-Length", "5"); self.end_headers()
            self.wfile.write(b"stuck")
            return
        if count == 3 and (once == "always" or not os.path.exists(once)):
            open(once, "w").close()
            print("out of memory", flush=True)
            os._exit(7)
        content = {"choices": [{"text": model, "finish_reason": "stop"}],
                   "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
        data = json.dumps(content).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(data))); self.end_headers()
        self.wfile.write(data)
    def log_message(self, *args): pass
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def own_server(tmp_path):
    script = tmp_path / "server.py"
    script.write_text(SERVER)
    made = []

    def make(name="teacher", last="once", **more):
        command = f"{sys.executable} '{script}' {{port}} {{model}} {{last}}"
        variables = {"model": f"model of {name}", "last": str(tmp_path / last)}
        made.append(OwnServer(name, more.get("command", command), variables, tmp_path / f"{name}.log", 20.0))
        return made[-1]

    yield make
    for server in made:
        server.stop()


def own_engine(*own, renderer, **settings):
    given = {"kind": "server", "api": "vllm", "teacher": {"command": "x {model} {port}"}, "concurrency": 1, **settings}
    return ServerEngine(Writer("vllm", renderer, "m"), ServerEngineArgs.model_validate(given), own=own)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] != "Z"


def wait_for(condition, timeout=5.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_our_server_is_started_again_when_it_dies_and_ended_with_its_workers(own_server, renderer, tmp_path, caplog):
    engine = own_engine(own_server(), renderer=renderer)
    with caplog.at_level(logging.INFO, LOGGER):
        done = engine.generate([ask(str(i)) for i in range(6)])
    assert [one.text for one in done] == ["model of teacher"] * 6
    [died] = [record.message for record in caplog.records if "started again" in record.message]
    assert "ended with exit code 7" in died and "out of memory" in died and "(1 of 3)" in died
    worker = int((tmp_path / "once.worker").read_text())
    assert alive(worker)
    engine.close()
    wait_for(lambda: not alive(worker))


def test_our_servers_share_the_work_and_each_is_started_again_by_itself(own_server, renderer, tmp_path, caplog):
    (tmp_path / "never").touch()
    first, second = own_server("first", "once"), own_server("second", "never")
    engine = own_engine(first, second, renderer=renderer)
    with caplog.at_level(logging.INFO, LOGGER):
        done = engine.generate([ask(str(i)) for i in range(60)])
    assert {one.text for one in done} == {"model of first", "model of second"} and len(done) == 60
    [died] = [record.message for record in caplog.records if "started again" in record.message]
    assert "The server for first ended with exit code 7" in died
    assert alive(second._process.pid)
    engine.close()
    workers = [int((tmp_path / f"{last}.worker").read_text()) for last in ("once", "never")]
    wait_for(lambda: not any(alive(worker) for worker in workers))


def test_our_server_is_started_again_when_it_hangs(own_server, renderer, tmp_path, caplog):
    """It says that it is well, and does not serve."""
    engine = own_engine(own_server(last="hang"), renderer=renderer, patience=0.5)
    with caplog.at_level(logging.INFO, LOGGER):
        assert len(engine.generate([ask(str(i)) for i in range(3)])) == 3
    [hung] = [record.message for record in caplog.records if "started again" in record.message]
    assert "runs, but did not answer for 0.5 s (503: stuck)" in hung


def test_a_server_that_an_earlier_run_left_behind_is_told(own_server, renderer, tmp_path, monkeypatch):
    monkeypatch.setattr("arte_plugin.engines.own_server.LEAVE", 0.3)
    own = own_server()
    with own.log_file.open("ab") as log:
        left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], stdout=log)
        fcntl.flock(log, fcntl.LOCK_EX)
    try:
        with pytest.raises(ServerError, match="from an earlier run still runs, and may hold the GPU: it writes to"):
            own_engine(own, renderer=renderer).generate([ask()])
    finally:
        left.kill()
        left.wait()
    assert own_engine(own, renderer=renderer).generate([ask()])[0].text == "model of teacher"


def test_ctrl_c_ends_the_run_and_our_server(own_server, tmp_path):
    """While the server starts, and while requests are in flight."""
    own = own_server(last="wait")
    code = (
        "import sys; from pathlib import Path; from arte_plugin.config.engines import ServerEngineArgs\n"
        "from arte_plugin.engines.base import Request; from arte_plugin.engines.own_server import OwnServer\n"
        "from arte_plugin.engines.server import ServerEngine\n"
        "class W:\n"
        "    from arte_plugin.engines.dialects import DIALECTS; dialect = DIALECTS['vllm']\n"
        "    def body(self, request): print('asking', flush=True); return {}\n"
        "own = OwnServer('t', sys.argv[1], {'model': 'm', 'last': sys.argv[2]}, Path(sys.argv[3]), 60.0)\n"
        "args = ServerEngineArgs(kind='server', api='vllm', teacher={'command': 'x {model} {port}'})\n"
        "own.ensure(); print(own._process.pid, flush=True)\n"
        "ServerEngine(W(), args, own=[own]).generate([Request('a', 'a', 1, 0.0, 0)])"
    )
    never_ready = f"{sys.executable} -c 'import time; time.sleep(60)' {{model}} {{port}}"
    for command in (never_ready, own._command):
        run = [sys.executable, "-c", code, command, str(tmp_path / "wait"), str(tmp_path / "log")]
        # In the background of a shell the signal is ignored, and children inherit that.
        listen = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
        with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **listen) as process:
            pid = int(process.stdout.readline())
            if command == own._command:
                assert process.stdout.readline() == "asking\n"
            else:
                time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            assert "KeyboardInterrupt" in process.communicate(timeout=20)[1]
        wait_for(lambda pid=pid: not alive(pid))


def test_our_server_is_not_started_again_for_ever(own_server, renderer, monkeypatch):
    monkeypatch.setattr("arte_plugin.engines.own_server.RESTARTS", 1)
    own = own_server()
    engine = own_engine(own, renderer=renderer)
    own._variables = {**own._variables, "last": "always"}
    monkeypatch.chdir(own.log_file.parent)
    with pytest.raises(ServerError, match=r"The server for teacher ended with exit code 7(.|\n)*out of memory"):
        engine.generate([ask(str(i)) for i in range(12)])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems tell no child of its parent's death")
def test_our_server_ends_when_the_run_is_killed(own_server, tmp_path):
    own = own_server()
    code = (
        "import os, sys; from pathlib import Path; from arte_plugin.engines.own_server import OwnServer\n"
        "own = OwnServer('teacher', sys.argv[1], {'model': 'm', 'last': sys.argv[2]}, Path(sys.argv[3]), 20.0)\n"
        "own.ensure(); print(own._process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    run = [sys.executable, "-c", code, own._command, str(tmp_path / "last"), str(tmp_path / "log")]
    pid = int(subprocess.run(run, capture_output=True, text=True, timeout=60).stdout)
    wait_for(lambda: not alive(pid))


def test_one_server_of_ours_runs_at_a_time(own_server, renderer):
    teacher, student = (
        own_engine(own_server("teacher"), renderer=renderer),
        own_engine(own_server("student"), renderer=renderer),
    )
    assert teacher.generate([ask()])[0].text == "model of teacher"
    assert student.generate([ask()])[0].text == "model of student"
    assert teacher._own[0]._process is None
    assert teacher.generate([ask()])[0].text == "model of teacher"
    assert student._own[0]._process is None


def test_a_command_that_can_t_serve(own_server, renderer):
    with pytest.raises(ServerError, match=r"can't be run: .*no-such-program"):
        own_engine(own_server(command="no-such-program {model} {port}"), renderer=renderer).generate([ask()])
    command = f"{sys.executable} -c 'print(\"no GPU here\"); raise SystemExit(3)' {{model}} {{port}}"
    with pytest.raises(ServerError, match=r"ended with exit code 3\. The end of its log(.|\n)*no GPU here"):
        own_engine(own_server(command=command), renderer=renderer).generate([ask()])
    own = own_server(command=f"{sys.executable} -c 'import time; time.sleep(60)' {{model}} {{port}}")
    own._start_timeout = 1.0
    with pytest.raises(ServerError, match=r"was not ready after 1 s \(`start_timeout`\)"):
        own_engine(own, renderer=renderer).generate([ask()])
    assert own._process is None


@pytest.mark.parametrize(
    ("name", "here", "there"),
    [
        # As `axolotl` sets it, for torch 2.9 and later and for older ones.
        ("PYTORCH_ALLOC_CONF", "expandable_segments:True", None),
        ("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True,max_split_size_mb:64", "max_split_size_mb:64"),
        ("PYTORCH_ALLOC_CONF", "max_split_size_mb:128, expandable_segments:True", "max_split_size_mb:128"),
        ("PYTORCH_CUDA_ALLOC_CONF", "roundup_power2_divisions:[256:1,>:4],expandable_segments:True",
         "roundup_power2_divisions:[256:1,>:4]"),
        ("PYTORCH_ALLOC_CONF", "max_split_size_mb:128", "max_split_size_mb:128"),
    ],
)  # fmt: skip
def test_a_server_does_not_inherit_expandable_segments(name, here, there, own_server, renderer, tmp_path, monkeypatch):
    monkeypatch.setenv(name, here)
    own = own_server()
    script = tmp_path / "server.py"
    script.write_text(f"import os\nprint('has', repr(os.environ.get({name!r})), flush=True)\n" + script.read_text())
    own_engine(own, renderer=renderer).generate([ask()])
    assert f"has {there!r}\n" in own.log_file.read_text()
    assert os.environ[name] == here


def test_a_command_s_words():
    variables = {"model": "/a b/c", "port": "80", "adapter": "/d e", "adapter_name": "arte-1"}
    words = command_words("vllm {model} --port {port} --x '{\"a\": 1}' --lora {adapter_name}={adapter}", variables)
    assert words == ["vllm", "/a b/c", "--port", "80", "--x", '{"a": 1}', "--lora", "arte-1=/d e"]
    assert command_words("~/bin/vllm {port}", variables)[0] == os.path.expanduser("~/bin/vllm")
