"""How many requests a second one run can send to servers and read back: the most that it can keep busy.

    python -m benchmarks.client.run MODEL_DIR [--requests 8000] [--to results.json]

A server in another process answers every request at once, without a model. MODEL_DIR is for its tokenizer: prompts are
rendered, tokenised, sent and cached as in stage 3.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
#: About as long as a probe of a Big-Bench-Hard task: a draft of 200 words and a question of 60.
DRAFT, QUESTION = "and then the third part of it is not the first " * 18, "is it true that both are not false ? " * 7


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, show and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", nargs="?")
    parser.add_argument("--requests", type=int, default=8000)
    parser.add_argument("--to", type=Path, default=HERE / "results.json")
    options = parser.parse_args(arguments)
    if options.model is None:
        asyncio.run(_serve())
        return 0
    measured = []
    for prompts in ("tokens", "text"):
        measured.append(_measure(options.model, options.requests, prompts))
        print(measured[-1], flush=True)
    options.to.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    return 0


def _measure(model_dir: str, count: int, prompts: str) -> dict[str, object]:
    from transformers import AutoTokenizer

    from arte_plugin.config.engines import ServerEngineArgs
    from arte_plugin.engines.base import Request
    from arte_plugin.engines.dialects import Writer
    from arte_plugin.engines.server import BATCH, ServerEngine
    from arte_plugin.language.rendering import Renderer
    from arte_plugin.models.model import Model
    from arte_plugin.models.request_cache import RequestCache

    renderer = Renderer(AutoTokenizer.from_pretrained(model_dir), "auto")
    server = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        settings = ServerEngineArgs.model_validate(
            {"kind": "server", "api": "vllm", "prompts": prompts, "student": {"base_urls": [url]}, "concurrency": 256}
        )
        writer = Writer("vllm", renderer, "the-model", as_text=prompts == "text")
        requests = [
            Request(renderer.prompt(f"{i // 40} {DRAFT} {i} {QUESTION}"), str(i // 40), 256, 0.0, 0, ("</ans>",))
            for i in range(count)
        ]
        tokens = len(renderer.tokenizer(requests[0].prompt)["input_ids"])
        with tempfile.TemporaryDirectory() as folder:
            cache = RequestCache(Path(folder) / "requests.sqlite")
            engine = ServerEngine(writer, settings, [url])
            student = Model("s", {}, renderer, lambda: engine, cache, BATCH * settings.concurrency, 60.0, served=True)
            # The first request waits for imports.
            student.ask([Request("Say it.", "", 8, 0.0, 0)], "warm")
            started = time.monotonic()
            student.ask(requests, "probe")
            seconds = time.monotonic() - started
            cache.close()
    finally:
        server.kill()
        server.wait()
    return {"prompts": prompts, "prompt tokens": tokens, "requests a second": round(count / seconds)}


async def _serve() -> None:
    """Answer every POST with the same reply; print the port."""
    reply = {"choices": [{"text": " so the answer is <ans>True</ans>" * 2, "finish_reason": "stop"}]}
    body = json.dumps({**reply, "usage": {"prompt_tokens": 300, "completion_tokens": 40}}).encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length")
                )
                await reader.readexactly(length)
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    sys.exit(main())
