"""How applications hold connections: pools, URLs, sockets, decoding, health checks, restarts, asyncio."""

from __future__ import annotations

import asyncio
import threading

import pytest
import redis
import redis.asyncio
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from .test_redis_py_pipelines import run_threads
from support import Server


def test_decode_responses(server) -> None:
    for protocol in (2, 3):
        with redis.Redis(port=server.port, decode_responses=True, protocol=protocol) as r:
            r.flushall()
            r.set("ключ", "значение")
            assert r.get("ключ") == "значение"
            r.hset("h", mapping={"a": "ä"})
            assert r.hgetall("h") == {"a": "ä"}
            r.zadd("z", {"é": 1.5})
            assert [tuple(p) for p in r.zrange("z", 0, -1, withscores=True)] == [("é", 1.5)]
            r.sadd("s", "x")
            assert r.smembers("s") == {"x"}
            assert sorted(r.scan_iter()) == ["h", "s", "z", "ключ"]


@pytest.mark.parametrize("url", ["redis://127.0.0.1:{port}/3", "redis://127.0.0.1:{port}/3?protocol=3",
                                 "redis://localhost:{port}?db=3", "unix://{path}?db=3"])
def test_from_url(server, url: str) -> None:
    with redis.from_url(url.format(port=server.port, path=server.dir / "s.sock")) as r:
        r.flushall()
        r.set("k", "v")
        assert r.client_info()["db"] == 3
    with redis.Redis(port=server.port, db=3) as other:
        assert other.get("k") == b"v"


def test_pool_shared_by_threads(server) -> None:
    pool = redis.BlockingConnectionPool(port=server.port, max_connections=4, timeout=20)
    with redis.Redis(connection_pool=pool) as r:
        r.flushall()

        def work(number: int) -> None:
            for i in range(100):
                key = f"{number}:{i}"
                assert r.set(key, key)
                assert r.get(key) == key.encode()

        run_threads(work, 12)
        assert r.dbsize() == 1200
        assert len([c for c in r.client_list() if c["name"] == ""]) <= 6
    pool.disconnect()


def test_max_connections_error(server) -> None:
    pool = redis.ConnectionPool(port=server.port, max_connections=1)
    held = pool.get_connection()
    with pytest.raises(redis.ConnectionError):
        redis.Redis(connection_pool=pool).ping()
    pool.release(held)
    assert redis.Redis(connection_pool=pool).ping()
    pool.disconnect()


def test_names_and_library_info(server) -> None:
    with redis.Redis(port=server.port, client_name="worker-7", single_connection_client=True) as r:
        assert r.client_getname() in ("worker-7", b"worker-7")
        info = r.client_info()
        assert info["name"] == "worker-7"
        if server.is_basalt:  # CLIENT SETINFO came with 7.2
            assert info["lib-name"].startswith("redis-py")


def test_password(tmp_path) -> None:
    for kind in ("redis", "basalt"):
        with Server(kind, requirepass="sesame", dir=tmp_path / kind).spawn() as server:
            server.wait_ready()
            with redis.Redis(port=server.port, password="sesame", protocol=3) as r:
                assert r.ping()
            with redis.Redis(port=server.port, username="default", password="sesame") as r:
                assert r.ping()
            once = Retry(ConstantBackoff(0), 0)
            with pytest.raises(redis.AuthenticationError):
                redis.Redis(port=server.port, retry=once).ping()
            with pytest.raises(redis.AuthenticationError):
                redis.Redis(port=server.port, retry=once, password="wrong").ping()


def test_client_kill_and_automatic_reconnect(server) -> None:
    with redis.Redis(port=server.port, retry=Retry(ConstantBackoff(0.01), 3)) as r, redis.Redis(port=server.port) as other:
        r.set("k", "v")
        me = r.client_id()
        assert other.client_kill_filter(_id=me) == 1
        assert r.get("k") == b"v"
        assert r.client_id() != me


def test_health_check(server) -> None:
    with redis.Redis(port=server.port, health_check_interval=0.001, single_connection_client=True) as r:
        for i in range(50):
            assert r.set("k", i)


def test_timeout_then_reuse(server) -> None:
    """A command that takes too long is given up; the next one does not get its reply."""
    with redis.Redis(port=server.port, socket_timeout=0.15, retry=None) as r:
        r.set("k", "v")
        with pytest.raises(redis.TimeoutError):
            r.execute_command("DEBUG", "SLEEP", "0.5")
    with redis.Redis(port=server.port, socket_timeout=5) as r:
        assert r.get("k") == b"v"


@pytest.mark.parametrize("options", [{"kind": "redis"}, {"kind": "basalt", "shards": 2}], ids=["redis", "basalt"])
def test_clients_survive_a_restart(tmp_path, options) -> None:
    with Server(**options, dir=tmp_path, appendonly="yes").start() as server:
        r = redis.Redis(port=server.port, retry=Retry(ConstantBackoff(0.1), 100), socket_connect_timeout=2)
        stop = threading.Event()
        written: list[int] = []

        def writer() -> None:
            while not stop.is_set():
                written.append(r.incr("counter"))

        thread = threading.Thread(target=writer)
        thread.start()
        try:
            wait(lambda: len(written) > 200)
            server.restart(crash=True)
            seen = len(written)
            wait(lambda: len(written) > seen + 200)
        finally:
            stop.set()
            thread.join(30)
        assert written == sorted(set(written))  # nothing acknowledged was lost or counted twice
        assert int(r.get("counter")) >= written[-1]
        r.close()


def wait(holds, seconds: float = 20.0) -> None:
    import time

    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "condition not reached"
        time.sleep(0.005)


@pytest.mark.parametrize("protocol", [2, 3])
def test_asyncio(server, protocol: int) -> None:
    async def scenario() -> None:
        async with redis.asyncio.Redis(port=server.port, protocol=protocol, decode_responses=True) as r:
            await r.flushall()
            await asyncio.gather(*(r.set(f"k{i}", i) for i in range(300)))
            assert await r.mget([f"k{i}" for i in range(300)]) == [str(i) for i in range(300)]
            async with r.pipeline(transaction=True) as pipe:
                assert await pipe.incr("n").incr("n").get("n").execute() == [1, 2, "2"]
            assert len([key async for key in r.scan_iter("k*", count=50)]) == 300

            async def bump() -> None:
                async with r.pipeline() as pipe:
                    while True:
                        try:
                            await pipe.watch("bumped")
                            value = int(await pipe.get("bumped") or 0)
                            pipe.multi()
                            pipe.set("bumped", value + 1)
                            await pipe.execute()
                            return
                        except redis.WatchError:
                            continue

            await asyncio.gather(*(bump() for _ in range(10)))
            assert await r.get("bumped") == "10"

    asyncio.run(scenario())
