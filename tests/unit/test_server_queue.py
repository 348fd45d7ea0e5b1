"""How the server engine shares requests among servers."""

import asyncio
import resource

from arte_plugin.engines.base import plan_queue
from arte_plugin.engines.server_queue import ServerQueue
from tests.staged_server import ask


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


def test_the_queue_mixes_groups_and_keeps_siblings_next_to_each_other():
    requests = [ask(f"{group} {i}", group=group) for i in range(3) for group in "xyz"] + [ask("alone", group="q")]
    batches = plan_queue(requests, 4)
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert "".join(request.group for batch in batches for request in batch) == "xxxyyyzzzq"
    assert plan_queue(requests[::-1], 4) == batches
    assert plan_queue([], 4) == []


def test_as_many_files_may_be_open_as_there_are_connections(engine_for):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
        engine_for("http://127.0.0.1:1/v1", concurrency=400)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(912, hard), hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
