"""What redis-py builds on more than one command: messages, waiting, scripts, streams, users, locks."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest
import redis
import redis.asyncio
from redis.exceptions import LockError, NoPermissionError, NoScriptError, ResponseError

from .test_redis_py_connections import wait
from .test_redis_py_pipelines import run_threads


@pytest.fixture
def other(r: redis.Redis, server):
    """A second client of the same protocol."""
    protocol = r.connection_pool.connection_kwargs["protocol"]
    with redis.Redis(port=server.port, protocol=protocol) as client:
        yield client


def messages(pubsub: redis.client.PubSub, count: int) -> list[tuple]:
    """The next `count` messages, as (type, pattern, channel, data), in order of their text."""
    found: list[tuple] = []
    wait(lambda: (m := pubsub.get_message(timeout=0.05)) and found.append(tuple(m.values())) or len(found) >= count)
    return sorted(found, key=repr)


def test_publish_and_subscribe(r: redis.Redis) -> None:
    with r.pubsub() as pubsub:
        pubsub.subscribe("news", "sport")
        pubsub.psubscribe("n*")
        assert [m[0] for m in messages(pubsub, 3)] == ["psubscribe", "subscribe", "subscribe"]
        assert r.publish("news", b"\x00hello") == 2
        assert messages(pubsub, 2) == [("message", None, b"news", b"\x00hello"), ("pmessage", b"n*", b"news", b"\x00hello")]
        assert r.pubsub_channels("s*") == [b"sport"]
        assert r.pubsub_numsub("news", "none") == [(b"news", 1), (b"none", 0)]
        assert r.pubsub_numpat() == 1
        pubsub.ping()
        assert messages(pubsub, 1)[0][0] == "pong"
        pubsub.unsubscribe()
        pubsub.punsubscribe()
        assert [m[0] for m in messages(pubsub, 3)] == ["punsubscribe", "unsubscribe", "unsubscribe"]
        assert r.publish("news", "nobody") == 0


def test_a_listening_thread_and_sharded_channels(r: redis.Redis) -> None:
    heard: list[bytes] = []
    pubsub = r.pubsub()
    pubsub.subscribe(jobs=lambda message: heard.append(message["data"]))
    thread = pubsub.run_in_thread(sleep_time=0.01, daemon=True)
    try:
        wait(lambda: r.publish("jobs", "ready?") == 1)
        for n in range(500):
            r.publish("jobs", n)
        wait(lambda: heard[-1:] == [b"499"])
        assert heard[-500:] == [b"%d" % n for n in range(500)]
    finally:
        thread.stop()
        thread.join(10)
    with r.pubsub() as sharded:
        sharded.ssubscribe("shard")
        assert messages(sharded, 1)[0][0] == "ssubscribe"
        assert r.execute_command("SPUBLISH", "shard", "x") == 1
        got: list = []
        wait(lambda: (m := sharded.get_sharded_message(timeout=0.05)) and got.append(m) or got)
        assert (got[0]["type"], got[0]["data"]) == ("smessage", b"x")


def test_keyspace_notifications(r: redis.Redis) -> None:
    r.config_set("notify-keyspace-events", "Ex")
    with r.pubsub() as pubsub:
        pubsub.psubscribe("__keyevent@*__:expired")
        messages(pubsub, 1)
        r.psetex("soon", 10, "v")
        assert messages(pubsub, 1) == [("pmessage", b"__keyevent@*__:expired", b"__keyevent@0__:expired", b"soon")]
    r.config_set("notify-keyspace-events", "")


def in_thread(call):
    """Runs `call` at once in a thread; the returned function waits for its result."""
    results: list = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start()

    def result():
        thread.join(20)
        return results[0]

    return result


def blocked(r: redis.Redis) -> None:
    wait(lambda: r.info("clients")["blocked_clients"] == 1)


def test_blocking(r: redis.Redis, other: redis.Redis) -> None:
    assert other.blpop(["a", "b"], timeout=0.02) is None
    popped = in_thread(lambda: other.blpop(["a", "b"], timeout=20))
    blocked(r)
    r.rpush("b", "x", "y")
    assert tuple(popped()) == (b"b", b"x")
    assert tuple(other.brpop("b", timeout=1)) == (b"b", b"y")
    moved = in_thread(lambda: other.blmove("from", "to", timeout=20))
    blocked(r)
    with r.pipeline() as pipe:
        assert pipe.rpush("from", "x").llen("from").execute() == [1, 1]
    assert moved() == b"x" and r.lrange("to", 0, -1) == [b"x"]
    lowest = in_thread(lambda: other.bzpopmin(["z"], timeout=20))
    blocked(r)
    r.zadd("z", {"m": 1.5})
    assert tuple(lowest()) == (b"z", b"m", 1.5)
    several = in_thread(lambda: other.blmpop(20, 2, "l1", "l2", direction="LEFT", count=5))
    blocked(r)
    r.rpush("l2", 1, 2)
    assert several() == [b"l2", [b"1", b"2"]]
    waiting = in_thread(lambda: other.blpop("never", timeout=0))
    blocked(r)
    victim = next(c for c in r.client_list() if c["cmd"] == "blpop")
    assert r.client_unblock(int(victim["id"])) == 1
    assert waiting() is None


def test_scripts(r: redis.Redis) -> None:
    multiply = r.register_script("local value = redis.call('GET', KEYS[1]) return tonumber(value) * ARGV[1]")
    r.set("n", 6)
    assert multiply(keys=["n"], args=[7]) == 42
    r.script_flush()
    assert multiply(keys=["n"], args=[7]) == 42  # redis-py loads it again
    assert r.script_exists(multiply.sha, "0" * 40) == [True, False]
    with r.pipeline() as pipe:
        multiply(keys=["n"], args=[2], client=pipe)
        pipe.incr("n")
        assert pipe.execute() == [12, 7]
    with pytest.raises(NoScriptError):
        r.evalsha("0" * 40, 0)
    with pytest.raises(ResponseError, match="not an integer"):
        r.eval("redis.call('SET', KEYS[1], 'x') return redis.call('INCR', KEYS[1])", 1, "n")
    assert r.get("n") == b"x"
    assert r.eval("return {1, 'two', {3, false}, redis.status_reply('FINE')}", 0) == [1, b"two", [3, None], b"FINE"]
    assert r.eval("local sum = 0 for _, key in ipairs(KEYS) do sum = sum + redis.call('INCRBY', key, ARGV[1]) end return sum",
                  5, "a", "b", "c", "d", "e", 2) == 10
    assert r.eval("return cjson.encode({list = {1, 2}, name = ARGV[1]})", 0, "x") in (
        b'{"list":[1,2],"name":"x"}', b'{"name":"x","list":[1,2]}')


def test_streams(r: redis.Redis, other: redis.Redis) -> None:
    first = r.xadd("s", {"f": "v", "n": 1})
    assert r.xrange("s") == [(first, {b"f": b"v", b"n": b"1"})]
    assert r.xgroup_create("s", "g", id="$") is True
    with pytest.raises(ResponseError, match="BUSYGROUP"):
        r.xgroup_create("s", "g")
    reading = in_thread(lambda: other.xreadgroup("g", "alice", {"s": ">"}, block=20_000))
    blocked(r)
    second = r.xadd("s", {"f": "w"})
    entries = reading()
    (name, read), = entries.items() if isinstance(entries, dict) else entries
    read = read[0] if isinstance(read[0], list) else read
    assert (name, read) == (b"s", [(second, {b"f": b"w"})])
    assert r.xpending("s", "g")["pending"] == 1
    assert r.xpending_range("s", "g", "-", "+", 10)[0]["consumer"] == b"alice"
    assert r.xautoclaim("s", "g", "bob", 0)[1] == [(second, {b"f": b"w"})]
    assert r.xclaim("s", "g", "alice", 0, [second], justid=True) == [second]
    assert r.xack("s", "g", second) == 1
    info = r.xinfo_stream("s")
    assert (info["length"], info["groups"], info["last-generated-id"]) == (2, 1, second)
    assert r.xinfo_groups("s")[0]["name"] == b"g"
    assert {c["name"] for c in r.xinfo_consumers("s", "g")} == {b"alice", b"bob"}
    for n in range(300):
        r.xadd("s", {"n": n}, maxlen=100, approximate=False)
    assert r.xlen("s") == 100
    assert r.xtrim("s", maxlen=10, approximate=False) == 90
    assert r.xdel("s", *(entry for entry, _ in r.xrevrange("s", count=3))) == 3


def test_users(r: redis.Redis, server) -> None:
    assert r.acl_whoami() in ("default", b"default")
    assert r.acl_setuser("reader", enabled=True, passwords=["+secret"], categories=["+@read"], keys=["public:*"],
                         channels=["news"], reset=True)
    try:
        r.mset({"public:k": "v", "private:k": "v"})
        with redis.Redis(port=server.port, username="reader", password="secret") as reader:
            assert reader.get("public:k") == b"v"
            for forbidden in (lambda: reader.get("private:k"), lambda: reader.set("public:k", 1),
                              lambda: reader.mget("public:k", "private:k")):
                with pytest.raises(NoPermissionError):
                    forbidden()
        user = r.acl_getuser("reader")
        assert user["enabled"] is True and user["categories"] == ["-@all", "+@read"]
        assert r.acl_log(count=10)[0]["username"] == "reader"
        assert r.acl_log_reset()
        assert "read" in plain(r.acl_cat()) and "get" in plain(r.acl_cat("read"))
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=server.port, username="reader", password="wrong", retry=None).ping()
    finally:
        assert r.acl_deluser("reader") == 1
    assert plain(r.acl_users()) == ["default"]


def plain(names: list) -> list[str]:
    """redis-py decodes these with RESP2 only."""
    return [name.decode() if isinstance(name, bytes) else name for name in names]


def test_locks(r: redis.Redis, other: redis.Redis) -> None:
    lock = r.lock("lock", timeout=30)
    assert lock.acquire(blocking=False) and lock.locked() and lock.owned()
    assert other.lock("lock", timeout=30).acquire(blocking=False) is False
    assert lock.extend(60) and lock.reacquire() and r.pttl("lock") > 0
    lock.release()
    with pytest.raises(LockError):
        lock.release()
    counted = {"n": 0, "inside": 0}

    def work(_: int) -> None:
        for _ in range(10):
            with r.lock("mutex", timeout=30, sleep=0.002, blocking_timeout=60):
                counted["inside"] += 1
                assert counted["inside"] == 1
                counted["n"] += 1
                counted["inside"] -= 1

    run_threads(work, 4)
    assert counted["n"] == 40
    r.set("mutex", "of another")
    assert not r.lock("mutex", blocking_timeout=0.05, sleep=0.01).acquire()


@pytest.mark.parametrize("protocol", [2, 3])
def test_asyncio(server, protocol: int) -> None:
    async def scenario() -> None:
        async with redis.asyncio.Redis(port=server.port, protocol=protocol, decode_responses=True) as r:
            await r.flushall()
            async with r.pubsub() as pubsub:
                await pubsub.subscribe("news")
                await pubsub.psubscribe("n*")
                for n in range(200):
                    await r.publish("news", n)
                heard = []
                async with asyncio.timeout(20):
                    async for message in pubsub.listen():
                        if message["type"] == "message":
                            heard.append(int(message["data"]))
                            if len(heard) == 200:
                                break
                assert heard == list(range(200))

            # Consumers that block, each with a connection of its own, and a producer.
            async def consume() -> list[str]:
                taken = []
                while (popped := await r.blpop(["queue", "end"], timeout=20))[0] != "end":
                    taken.append(popped[1])
                return taken

            consumers = [asyncio.create_task(consume()) for _ in range(5)]
            async with r.pipeline(transaction=False) as pipe:
                for n in range(300):
                    pipe.rpush("queue", n)
                await pipe.execute()
            async with asyncio.timeout(20):
                while await r.llen("queue"):
                    await asyncio.sleep(0.002)
            await r.rpush("end", *range(5))
            taken = [item for part in await asyncio.gather(*consumers) for item in part]
            assert sorted(map(int, taken)) == list(range(300))

            add = r.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
            assert sum(await asyncio.gather(*(add(keys=["sum"], args=[1]) for _ in range(50)))) == 51 * 25

            async def guarded(counted: list[int]) -> None:
                async with r.lock("lock", timeout=30, sleep=0.002, blocking_timeout=60):
                    before = len(counted)
                    await asyncio.sleep(0)
                    counted.append(before)

            counted: list[int] = []
            await asyncio.gather(*(guarded(counted) for _ in range(10)))
            assert counted == list(range(10))

            reading = asyncio.create_task(r.xread({"events": "$"}, block=20_000))
            async with asyncio.timeout(20):
                while (await r.info("clients"))["blocked_clients"] != 1:
                    await asyncio.sleep(0.002)
            entry = await r.xadd("events", {"kind": "login"})
            assert entry in str(await reading)

            # A command given up does not leave its reply to the next one.
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(r.blpop("never", timeout=0), 0.05)
            assert await r.get("sum") == "50"

    asyncio.run(scenario())


def test_client_side_caching(server) -> None:
    """What is cached is read without the server, until another client's write invalidates it."""
    if not server.is_basalt:
        pytest.skip("redis-py caches with Redis 7.4 and later only")
    from redis.cache import CacheConfig

    with redis.Redis(port=server.port, protocol=3, cache_config=CacheConfig()) as r, redis.Redis(port=server.port) as other:
        other.flushall()
        other.mset({f"k{i}": i for i in range(50)})
        assert [r.get(f"k{i}") for i in range(50)] == [b"%d" % i for i in range(50)]
        other.config_resetstat()
        assert [r.get(f"k{i}") for i in range(50)] == [b"%d" % i for i in range(50)]
        assert "cmdstat_get" not in other.info("commandstats")
        other.set("k7", "changed")
        other.delete("k8")
        wait(lambda: r.get("k7") == b"changed" and r.get("k8") is None)
        assert r.get("k9") == b"9"
        other.flushall()
        wait(lambda: r.get("k9") is None)
