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

import httpx

from arte_plugin.engine_args import ServerEngineArgs
from arte_plugin.engines.base import Completion, Keep, Request
from arte_plugin.engines.dialects import Writer
from arte_plugin.engines.own_server import OwnServer
from arte_plugin.errors import ServerError
from arte_plugin.ranks import LOGGER

LOG = logging.getLogger(LOGGER)

#: Longest pause between two attempts (s); before the first one it is half a second at most.
LONGEST_PAUSE = 30.0
#: A server that can't be reached is tried again at least this often (s).
LOOK_AGAIN = 5.0
#: Batches are so many times what can be in flight, so that waiting for a batch's last replies costs little.
BATCH = 16
#: Connections of one HTTP client, about: for each request it looks through all that it has.
CONNECTIONS = 16


class ServerEngine:
    """Completes batches on servers that run already (`base_urls`) or on one of ours (`own`).

    `adapter` is the folder of a LoRA adapter that running servers are to be given first.
    """

    def __init__(
        self,
        writer: Writer,
        settings: ServerEngineArgs,
        base_urls: Sequence[str] = (),
        own: OwnServer | None = None,
        adapter: Path | None = None,
        api_key: str | None = None,
    ):
        self._writer = writer
        self._settings = settings
        self._urls = [url.rstrip("/") for url in base_urls]
        self._own = own
        self._adapter = adapter
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._away: set[int] = set()
        # Not seeded, and nobody else's: pauses must differ between processes.
        self._random = random.Random()
        self._count_anew()

    def generate(self, batch: Sequence[Request], keep: Keep | None = None) -> list[Completion]:
        """Complete `batch`, in its order; `keep` hears of each completion as it comes.

        Raises `ServerError` for what no retry helps against, with what the server said.
        """
        if self._own is not None:
            self._own.ensure()
        started = time.monotonic()
        done = asyncio.run(self._generate(batch, keep))
        self._seconds += time.monotonic() - started
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
        """End our server, which gives back its GPU memory; servers of others are left alone."""
        if self._own is not None:
            self._own.stop()

    def _count_anew(self) -> None:
        self._requests, self._tokens, self._seconds, self._waited = 0, 0, 0.0, 0.0

    def _url(self, server: int) -> str:
        # Ours has another port each time that it is started.
        return self._own.base_url if self._own is not None else self._urls[server]

    async def _generate(self, batch: Sequence[Request], keep: Keep | None) -> list[Completion]:
        settings = self._settings
        servers = max(1, len(self._urls))
        self._slots = [asyncio.Semaphore(settings.concurrency) for _ in range(servers)]
        self._quiet_until = [0.0] * servers
        async with contextlib.AsyncExitStack() as stack:
            in_flight = min(len(batch), settings.concurrency * servers)
            # Reading the certificates takes longer than all else.
            certificates = httpx.create_ssl_context()
            clients = [
                await stack.enter_async_context(self._client(certificates))
                for _ in range(math.ceil(in_flight / CONNECTIONS))
            ]
            if self._adapter is not None:
                for server in range(len(self._urls)):
                    await self._load_adapter(clients[0], server)

            async def ask(place: int, home: int) -> Completion:
                completion = await self._complete(clients[place % len(clients)], batch[place], home)
                if keep is not None:
                    keep(place, completion)
                return completion

            # In the order of the batch, as slots come free. The first error ends `asyncio.run`, which cancels the rest.
            return await asyncio.gather(*(ask(place, home) for place, home in enumerate(_homes(len(batch), servers))))

    def _client(self, certificates: ssl.SSLContext) -> httpx.AsyncClient:
        timeout = self._settings.timeout
        return httpx.AsyncClient(
            headers=self._headers,
            timeout=httpx.Timeout(timeout, connect=min(10.0, timeout), pool=None),
            limits=httpx.Limits(max_connections=None),
            verify=certificates,
            # A proxy is nothing for our own server.
            trust_env=self._own is None,
        )

    async def _complete(self, client: httpx.AsyncClient, request: Request, server: int) -> Completion:
        failures = 0
        while True:
            response, server = await self._post(client, server, request)
            if response is None:
                problem = f"no reply within {self._settings.timeout:.0f} s (`timeout`)"
            elif response.status_code == 200:
                try:
                    return self._writer.completion(request, response.json())
                except ValueError as error:
                    problem = str(error)
            elif response.status_code in (408, 429) or response.status_code >= 500:
                problem = f"{response.status_code}: {_message(response)}"
                # Meant for all that this server is asked.
                self._leave_alone(server, _retry_after(response))
            else:
                raise ServerError(
                    f"{self._url(server)} refuses a request ({response.status_code}): {_message(response)}\n"
                    f"The prompt begins: {request.prompt[:200]!r}"
                )
            failures += 1
            if failures > self._settings.retries:
                raise ServerError(
                    f"{self._url(server)} did not answer a request in {failures} attempts (`retries`). The last one: "
                    f"{problem}. What is answered is kept; start the run again."
                )
            await asyncio.sleep(self._pause(failures))

    async def _post(
        self, client: httpx.AsyncClient, server: int, request: Request
    ) -> tuple[httpx.Response | None, int]:
        """The response, or None where it took too long, and the server that gave it.

        One that can't be reached is started again (ours) or waited for (others'); meanwhile the others are tried.
        """
        since, failures = None, 0
        while True:
            async with self._slots[server]:
                while (quiet := self._quiet_until[server] - time.monotonic()) > 0:
                    await asyncio.sleep(quiet)
                body = self._writer.body(request)
                started = time.monotonic()
                try:
                    response = await client.post(f"{self._url(server)}/completions", json=body)
                    self._is_back(server)
                    return response, server
                except httpx.TransportError as error:
                    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
                        return None, server
                    problem = error
                finally:
                    self._waited += time.monotonic() - started
            if self._own is not None and self._own.ensure():
                since, failures = None, 0
                continue
            since = since or time.monotonic()
            failures += 1
            if self._own is None:
                self._is_away(server, problem)
            if time.monotonic() - since > self._settings.patience:
                raise ServerError(
                    f"{self._url(server)} could not be reached for {self._settings.patience:.0f} s (`patience`): "
                    f"{_named(problem)}. What is answered is kept; start the server, and the run again."
                )
            server = (server + 1) % len(self._slots)
            await asyncio.sleep(min(self._pause(failures), LOOK_AGAIN))

    def _pause(self, failures: int) -> float:
        """Exponential back-off with full jitter: requests that failed together do not come back together."""
        return self._random.uniform(0, min(LONGEST_PAUSE, 0.5 * 2 ** (failures - 1)))

    def _leave_alone(self, server: int, seconds: float) -> None:
        until = time.monotonic() + seconds
        if seconds > LONGEST_PAUSE and until > self._quiet_until[server] + 1:
            LOG.warning("%s asks for a pause of %.0f s (`Retry-After`).", self._url(server), seconds)
        self._quiet_until[server] = max(self._quiet_until[server], until)

    def _is_away(self, server: int, problem: httpx.TransportError) -> None:
        if server not in self._away:
            self._away.add(server)
            LOG.warning(
                "%s can't be reached (%s); waiting up to %.0f s for it.",
                self._url(server), _named(problem), self._settings.patience,
            )  # fmt: skip

    def _is_back(self, server: int) -> None:
        if server in self._away:
            self._away.discard(server)
            LOG.info("%s is back.", self._url(server))

    async def _load_adapter(self, client: httpx.AsyncClient, server: int) -> None:
        """Give a running server the aligned teacher's adapter. Its name is made from its content: no mix-up."""
        dialect = self._writer.dialect
        assert dialect.load_adapter is not None and self._adapter is not None
        url = self._url(server).removesuffix("/v1") + dialect.load_adapter
        body = {"lora_name": self._writer.adapter, "lora_path": str(self._adapter.absolute())}
        try:
            response = await client.post(url, json=body)
        except httpx.TransportError as error:
            raise ServerError(f"{url} can't be reached: {_named(error)}.") from error
        # A name that is there is refused: "has already been loaded" (vLLM), "already exists" (SGLang's LoRARegistry).
        if response.status_code != 200 and "already" not in response.text:
            raise ServerError(
                f"{url} did not take the aligned teacher's adapter ({response.status_code}): {_message(response)}\n"
                f"It must see the folder {self._adapter.absolute()} and be started with --enable-lora; vLLM also needs "
                "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its environment."
            )


def _homes(requests: int, servers: int) -> list[int]:
    """The server of each request: a piece of the batch, in its order, for each.

    Siblings of one group follow each other, so a server computes nearly every prefix once, and all have as much to do.
    """
    return [place * servers // requests for place in range(requests)]


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
