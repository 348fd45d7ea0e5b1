"""Generation by servers with the OpenAI API's `/v1/completions`: many requests in flight, and faults got over.

httpx, which Axolotl brings along with huggingface_hub and datasets, and not the `openai` client: its retries know
neither a server that is away for minutes nor one that is started again, and its types leave out vLLM's keys.
"""

import asyncio
import contextlib
import email.utils
import logging
import math
import random
import ssl
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from arte_plugin.config.engines import ServerEngineArgs
from arte_plugin.engines.base import Completion, Keep, Request
from arte_plugin.engines.dialects import Writer
from arte_plugin.engines.own_server import OwnServer
from arte_plugin.engines.parts import Parts
from arte_plugin.engines.server_queue import ServerQueue
from arte_plugin.errors import ServerError
from arte_plugin.ranks import LOGGER

LOG = logging.getLogger(LOGGER)

#: Longest pause between two attempts (s); before the first one it is half a second at most.
LONGEST_PAUSE = 30.0
#: A server that is away is tried again at least this often (s).
LOOK_AGAIN = 5.0
#: Batches are so many times what can be in flight, so that waiting for a batch's last replies costs little.
BATCH = 16
#: Connections of one HTTP client, about: for each request it looks through all that it has.
CONNECTIONS = 16
#: What a server that is starting or ending says, or a proxy in its place.
AWAY = (502, 503)
#: What is worth another attempt, beside what is away: too slow, too many, and faults of the server's own.
AGAIN = (408, 425, 429)
#: uvicorn closes a connection that was idle for 5 s; one that it is just closing must not be used.
KEEP_ALIVE = 3.0

#: A connection that breaks once is no news.
_TOLD = 1


class _Away(Exception):
    """A server can't be reached, broke the connection, says that it can't serve, or seems to hang."""


class ServerEngine:
    """Completes batches on servers that run already (`base_urls`) or on ours (`own`).

    `adapter` is the folder of a LoRA adapter that running servers are to be given first.
    """

    def __init__(
        self,
        writer: Writer,
        settings: ServerEngineArgs,
        base_urls: Sequence[str] = (),
        own: Sequence[OwnServer] = (),
        adapter: Path | None = None,
        api_key: str | None = None,
    ):
        self._writer = writer
        self._settings = settings
        self._urls = [url.rstrip("/") for url in base_urls]
        self._own = own
        self._adapter = adapter
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._servers = len(own or base_urls)
        #: Since when a server is away, and how often it was looked for.
        self._away: dict[int, tuple[float, int]] = {}
        self._has_adapter: set[int] = set()
        self._quiet_until = [0.0] * self._servers
        # Not seeded, and nobody else's: pauses must differ between processes.
        self._random = random.Random()
        self._count_anew()
        _allow_connections(settings.concurrency * self._servers)

    def generate(self, batch: Sequence[Request], keep: Keep | None = None) -> list[Completion]:
        """Complete `batch`, in its order; `keep` hears of each completion as it comes.

        Raises `ServerError` for what no retry helps against, with what the server said.
        """
        if self._own:
            OwnServer.make_room(self._own)
        try:
            for own in self._own:
                own.ensure()
            done = asyncio.run(self._generate(batch, keep))
        except BaseException:
            self.close()
            raise
        self._requests += len(done)
        self._tokens += sum(one.new_tokens for one in done)
        return done

    def report(self) -> str:
        """Requests, time, tokens a second and achieved concurrency since the last report."""
        if not self._requests:
            return ""
        said = (
            f"{self._requests} requests in {self._seconds:.1f} s: {self._tokens / self._seconds:.0f} tokens/s, "
            f"achieved concurrency {self._waited / self._seconds:.1f}"
        )
        self._count_anew()
        return said

    def close(self) -> None:
        """End our servers, which gives back their GPU memory; servers of others are left alone."""
        OwnServer.end(self._own)

    def _count_anew(self) -> None:
        self._requests, self._tokens, self._seconds, self._waited = 0, 0, 0.0, 0.0

    def _url(self, server: int) -> str:
        # Ours has another port each time that it is started.
        return self._own[server].base_url if self._own else self._urls[server]

    async def _generate(self, batch: Sequence[Request], keep: Keep | None) -> list[Completion]:
        settings = self._settings
        await asyncio.gather(*(_until_ready(own) for own in self._own))
        started = time.monotonic()
        self._queue = ServerQueue(len(batch), self._servers)
        self._loading = [asyncio.Lock() for _ in range(self._servers)]
        done: dict[int, Completion] = {}

        async def work(server: int, worker: int) -> None:
            while (place := await self._queue.take(server, worker)) is not None:
                try:
                    done[place] = await self._reply(client_of(server, worker), batch[place], server)
                except _Away as problem:
                    await self._is_away(server, worker, place, str(problem))
                    continue
                if keep is not None:
                    keep(place, done[place])
                self._is_back(server)
                await self._queue.answered(server)

        workers = range(min(settings.concurrency, len(batch)))
        async with contextlib.AsyncExitStack() as stack:
            # Reading the certificates takes longer than all else.
            certificates = httpx.create_ssl_context()
            clients = [
                await stack.enter_async_context(self._client(certificates))
                for _ in range(math.ceil(len(workers) * self._servers / CONNECTIONS))
            ]

            def client_of(server: int, worker: int) -> httpx.AsyncClient:
                return clients[(server * len(workers) + worker) // CONNECTIONS]

            # In turn, so that all servers begin with their own piece. The first error ends `asyncio.run`, which cancels
            # the rest.
            await asyncio.gather(*(work(server, worker) for worker in workers for server in range(self._servers)))
        self._seconds += time.monotonic() - started
        return [done[place] for place in range(len(batch))]

    def _client(self, certificates: ssl.SSLContext) -> httpx.AsyncClient:
        timeout = self._settings.timeout
        return httpx.AsyncClient(
            headers=self._headers,
            timeout=httpx.Timeout(timeout, connect=min(10.0, timeout), pool=None),
            limits=httpx.Limits(max_connections=None, keepalive_expiry=KEEP_ALIVE),
            verify=certificates,
            # A proxy is nothing for our own server.
            trust_env=not self._own,
        )

    async def _reply(self, client: httpx.AsyncClient, request: Request, server: int) -> Completion:
        parts = Parts(request, self._writer.dialect.keeps_stop)
        while (part := parts.next()) is not None:
            parts.add(await self._complete(client, part, server))
        return parts.completion()

    async def _complete(self, client: httpx.AsyncClient, request: Request, server: int) -> Completion:
        failures = 0
        while True:
            response = await self._post(client, server, self._writer.body(request))
            if response is None:
                problem = f"no reply within {self._settings.timeout:g} s (`timeout`)"
                if self._servers > 1:
                    # It may hang, and the others do not.
                    raise _Away(problem)
            elif response.status_code == 200:
                try:
                    return self._writer.completion(request, response.json())
                except ValueError as error:
                    problem = f"an answer of no use, {error}: {response.text[:300]!r}"
            elif response.status_code in AGAIN or response.status_code >= 500:
                problem = f"{response.status_code}: {_message(response)}"
                # Meant for all that this server is asked.
                self._leave_alone(server, _retry_after(response))
                if response.status_code in AWAY:
                    raise _Away(problem)
            else:
                raise ServerError(
                    f"{self._url(server)} refuses a request ({response.status_code}): {_message(response)}"
                    f"{_HINTS.get(response.status_code, '')}\nThe prompt begins: {request.prompt[:200]!r}"
                )
            failures += 1
            if failures > self._settings.retries:
                raise ServerError(
                    f"{self._url(server)} did not answer a request in {failures} attempts (`retries`). The last one: "
                    f"{problem}. What is answered is kept; start the run again."
                )
            await asyncio.sleep(self._pause(failures))

    async def _post(self, client: httpx.AsyncClient, server: int, body: dict[str, Any]) -> httpx.Response | None:
        """The response, or None where it took too long. Raises `_Away` where there is none to be had."""
        while (quiet := self._quiet_until[server] - time.monotonic()) > 0:
            # Not all at the same moment.
            await asyncio.sleep(quiet + self._random.uniform(0, min(1.0, quiet / 10)))
        if self._adapter is not None:
            async with self._loading[server]:
                if server not in self._has_adapter:
                    await self._load_adapter(client, server)
        started = time.monotonic()
        try:
            return await client.post(f"{self._url(server)}/completions", json=body)
        except httpx.ConnectTimeout as error:
            raise _Away(_named(error)) from error
        except httpx.TimeoutException:
            return None
        except httpx.RequestError as error:
            raise _Away(_named(error)) from error
        finally:
            self._waited += time.monotonic() - started

    async def _is_away(self, server: int, worker: int, place: int, problem: str) -> None:
        """One of others is waited for, one of ours started again. Meanwhile the other servers are asked."""
        since, failures = self._away.get(server, (time.monotonic(), 0))
        self._has_adapter.discard(server)
        self._away[server] = since, failures
        if not await self._queue.put_back(server, worker, place):
            return
        self._away[server] = since, failures + 1
        patience = self._settings.patience
        if failures == _TOLD and not self._own:
            LOG.warning("%s is away (%s); waiting up to %g s for it.", self._url(server), problem, patience)
        if self._own:
            late = time.monotonic() - since > patience
            self._own[server].ensure(f"runs, but did not answer for {patience:g} s ({problem})." if late else "")
            if not self._own[server].is_ready():
                await _until_ready(self._own[server])
                self._away[server] = time.monotonic(), 0
                return
        elif len(self._away) == self._servers and time.monotonic() - max(t for t, _ in self._away.values()) > patience:
            raise ServerError(
                f"{self._url(server)} was away for {patience:g} s (`patience`): {problem}. "
                "What is answered is kept; start the server, and the run again."
            )
        await asyncio.sleep(min(self._pause(failures + 1), LOOK_AGAIN))

    def _is_back(self, server: int) -> None:
        if self._away.pop(server, (0.0, 0))[1] > _TOLD and not self._own:
            LOG.info("%s is back.", self._url(server))

    def _pause(self, failures: int) -> float:
        """Exponential back-off with full jitter: requests that failed together do not come back together."""
        return self._random.uniform(0, min(LONGEST_PAUSE, 0.5 * 2 ** (failures - 1)))

    def _leave_alone(self, server: int, seconds: float) -> None:
        until = time.monotonic() + seconds
        if seconds > LONGEST_PAUSE and until > self._quiet_until[server] + 1:
            LOG.warning("%s asks for a pause of %.0f s (`Retry-After`).", self._url(server), seconds)
        self._quiet_until[server] = max(self._quiet_until[server], until)

    async def _load_adapter(self, client: httpx.AsyncClient, server: int) -> None:
        """Give a running server the aligned teacher's adapter. Its name is made from its content: no mix-up."""
        dialect = self._writer.dialect
        assert dialect.load_adapter is not None and self._adapter is not None
        url = self._url(server).removesuffix("/v1") + dialect.load_adapter
        body = {"lora_name": self._writer.adapter, "lora_path": str(self._adapter.absolute())}
        try:
            response = await client.post(url, json=body)
        except httpx.RequestError as error:
            raise _Away(_named(error)) from error
        if response.status_code in AWAY:
            raise _Away(f"{response.status_code}: {_message(response)}")
        # A name that is there is refused: "has already been loaded" (vLLM), "already exists" (SGLang's LoRARegistry).
        if response.status_code != 200 and "already" not in response.text:
            raise ServerError(
                f"{url} did not take the aligned teacher's adapter ({response.status_code}): {_message(response)}\n"
                f"It must see the folder {self._adapter.absolute()} and be started with --enable-lora; vLLM also needs "
                "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment."
            )
        self._has_adapter.add(server)


_HINTS = {
    401: "\n`api_key_env` names the environment variable with the key.",
    403: "\n`api_key_env` names the environment variable with the key.",
    404: "\n`base_urls` end in /v1 as a rule; `model` is the name that the server knows the model by.",
}


async def _until_ready(own: OwnServer) -> None:
    # In a thread: the other servers are asked meanwhile.
    while not await asyncio.to_thread(own.is_ready):
        await asyncio.sleep(0.5)


def _allow_connections(wanted: int) -> None:
    """Each connection is an open file, of which many systems allow 1024 unless they are asked for more."""
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted += 512
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the server asks for, 0 if none (RFC 9110, 10.2.3: a number of seconds, or a date)."""
    said = response.headers.get("Retry-After", "")
    if said.strip().isdigit():
        return float(said)
    try:
        return (email.utils.parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return 0.0


def _message(response: httpx.Response) -> str:
    """What the server says is wrong: OpenAI's form, FastAPI's, or the plain text."""
    try:
        said = response.json()
        found = said.get("error", said)
        found = found.get("message") or found.get("detail") or found if isinstance(found, dict) else found
    except (ValueError, AttributeError):
        found = response.text
    return str(found).strip()[:1000] or "(no message)"


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
