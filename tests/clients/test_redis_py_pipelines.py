"""Pipelines, transactions and optimistic locking, from one client and from many at once."""

from __future__ import annotations

import threading

import pytest
import redis


def test_pipeline_without_transaction(r: redis.Redis) -> None:
    with r.pipeline(transaction=False) as pipe:
        for i in range(5000):
            pipe.set(f"k{i}", i)
            pipe.incr("counter")
        replies = pipe.execute()
    assert replies[::2] == [True] * 5000
    assert replies[1::2] == list(range(1, 5001))


def test_pipeline_error_in_the_middle(r: redis.Redis) -> None:
    with r.pipeline(transaction=False) as pipe:
        pipe.set("k", "text").incr("k").get("k")
        replies = pipe.execute(raise_on_error=False)
    assert replies[0] is True and isinstance(replies[1], redis.ResponseError) and replies[2] == b"text"


def test_transaction(r: redis.Redis) -> None:
    with r.pipeline(transaction=True) as pipe:
        pipe.set("a", 1).lpush("b", "x", "y").zadd("c", {"m": 1}).hset("d", "f", "v").hgetall("d").lrange("b", 0, -1)
        assert pipe.execute() == [True, 2, 1, 1, {b"f": b"v"}, [b"y", b"x"]]


def test_transaction_keeps_going_after_an_error(r: redis.Redis) -> None:
    with r.pipeline(transaction=True) as pipe:
        pipe.set("k", "text").incr("k").set("after", 1)
        with pytest.raises(redis.ResponseError, match="Command # 2"):
            pipe.execute()
    assert r.get("after") == b"1"


def test_unknown_command_aborts_the_transaction(r: redis.Redis) -> None:
    with r.pipeline(transaction=True) as pipe:
        pipe.set("k", 1)
        pipe.execute_command("NOSUCHCOMMAND")
        with pytest.raises(redis.ResponseError):
            pipe.execute()
    assert r.get("k") is None


def test_watch_sees_a_foreign_write(r: redis.Redis, server) -> None:
    r.set("k", 1)
    with redis.Redis(port=server.port) as other, r.pipeline() as pipe:
        pipe.watch("k", "unrelated")
        value = int(pipe.get("k"))
        other.set("k", 10)
        pipe.multi()
        pipe.set("k", value + 1)
        with pytest.raises(redis.WatchError):
            pipe.execute()
    assert r.get("k") == b"10"


def test_unwatch_and_reset(r: redis.Redis, server) -> None:
    with redis.Redis(port=server.port) as other, r.pipeline() as pipe:
        pipe.watch("k")
        other.set("k", 1)
        pipe.unwatch()
        pipe.watch("j")
        pipe.multi()
        pipe.set("k", 2)
        assert pipe.execute() == [True]
        pipe.watch("k")
        other.set("k", 3)
        pipe.reset()
        pipe.set("k", 4)
        assert pipe.execute() == [True]


def test_concurrent_transfers_keep_the_sum(r: redis.Redis, server) -> None:
    """The WATCH loop of redis-py's documentation, over keys of several shards."""
    accounts = [f"account:{i}" for i in range(6)]
    r.mset(dict.fromkeys(accounts, 100))
    pool = redis.ConnectionPool(port=server.port)

    def work(number: int) -> None:
        with redis.Redis(connection_pool=pool) as mine:
            for i in range(40):
                source, target = accounts[(number + i) % 6], accounts[(number * 5 + i * 3 + 1) % 6]
                if source == target:
                    continue

                def transfer(pipe: redis.client.Pipeline) -> None:
                    amount = min(7, int(pipe.get(source)))
                    pipe.multi()
                    pipe.decrby(source, amount)
                    pipe.incrby(target, amount)

                mine.transaction(transfer, source, target)
                assert sum(map(int, mine.mget(accounts))) == 600

    run_threads(work, 6)
    assert sum(map(int, r.mget(accounts))) == 600


def test_concurrent_increments_are_all_counted(r: redis.Redis) -> None:
    def work(number: int) -> None:
        for _ in range(20):
            with r.pipeline(transaction=number % 2 == 0) as pipe:
                for key in ("a", "b", "c"):
                    pipe.incr(key)
                pipe.hincrby("h", "n", 1)
                pipe.execute()

    run_threads(work, 8)
    assert r.mget("a", "b", "c") == [b"160"] * 3
    assert r.hget("h", "n") == b"160"


def run_threads(work, count: int) -> None:
    """Runs work(0) ... work(count - 1) at once; the first exception is raised here."""
    problems: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as problem:  # noqa: BLE001 - handed to the test
            problems.append(problem)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if problems:
        raise problems[0]
