"""Which request goes to which server next."""

import asyncio
from collections import deque


class ServerQueue:
    """A batch's requests that are not answered yet, as places in the batch: a piece for each server, in its order.

    Siblings of one group follow each other in a batch, so a server computes nearly every prefix once. A server that is
    through with its piece takes over from the end of another's: no server waits for a slower one, or for one that is
    away. Of a server that is away, a single worker looks whether it is back; the others leave the requests to those
    that answer.
    """

    def __init__(self, requests: int, servers: int):
        bounds = [server * requests // servers for server in range(servers + 1)]
        self._pieces = [deque(range(bounds[i], bounds[i + 1])) for i in range(servers)]
        self._left = requests
        self._lookers: dict[int, int] = {}
        self._changed = asyncio.Condition()

    async def take(self, server: int, worker: int) -> int | None:
        """The next place for a worker of `server`; waits for one, and gives None when every request is answered."""
        async with self._changed:
            while self._left:
                if self._lookers.get(server, worker) == worker and any(self._pieces):
                    own = self._pieces[server]
                    return own.popleft() if own else max(self._pieces, key=len).pop()
                await self._changed.wait()
            return None

    async def answered(self, server: int) -> None:
        """A request was answered by `server`."""
        self._left -= 1
        if self._left == 0 or self._lookers.pop(server, None) is not None:
            await self._tell()

    async def put_back(self, server: int, worker: int, place: int) -> bool:
        """The request at `place` found `server` away; whether it is this worker that now looks when it is back."""
        # At the end: should it be this request that breaks the server, the others are answered first.
        self._pieces[server].append(place)
        looker = self._lookers.setdefault(server, worker)
        await self._tell()
        return looker == worker

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()
