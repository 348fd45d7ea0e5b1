"""A real HTTP server in this process that answers as it is told to, and remembers what it was asked."""

import contextlib
import http.server
import json
import socket
import threading
import time

from arte_plugin.engines.base import Request


def ask(prompt="Say it.", **changes) -> Request:
    return Request(**{"prompt": prompt, "group": "a", "max_new_tokens": 9, "temperature": 0.0, "seed": 5} | changes)


def answer(text="fine", finish="stop", tokens=2):
    usage = {"prompt_tokens": 7, "completion_tokens": tokens}
    return 200, {}, {"choices": [{"text": text, "finish_reason": finish}], "usage": usage}


class Staged(http.server.ThreadingHTTPServer):
    """Answers with what it is told, in turn, and with the last of it from then on; remembers what it was asked."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *answers, port=0, delay=0.0):
        super().__init__(("127.0.0.1", port), Handler)
        self.answers = list(answers) or [answer()]
        self.delay = delay
        self.asked: list[tuple[str, dict, dict]] = []
        self.times: list[float] = []
        self.lock = threading.Lock()
        self.now = self.most = 0
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"

    @property
    def bodies(self):
        return [body for path, _, body in self.asked if path == "/v1/completions"]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        staged = self.server
        with staged.lock:
            staged.asked.append((self.path, dict(self.headers), body))
            staged.times.append(time.monotonic())
            told = staged.answers.pop(0) if len(staged.answers) > 1 else staged.answers[0]
            status, headers, content = told(body) if callable(told) else told
            staged.now += 1
            staged.most = max(staged.most, staged.now)
        time.sleep(staged.delay)
        with staged.lock:
            staged.now -= 1
        if status == "hang up":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        # A client that has seen enough is gone.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(data)

    def log_message(self, *args):
        pass
