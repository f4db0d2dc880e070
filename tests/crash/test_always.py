"""`appendfsync always` while fdatasync hangs: no reply shows a write that is not durable, and whoever
shows none of those waits for nobody."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from crash.faults import BadDisk
from support import Client, ReplyError, Server, plain

# How long nothing must come; longer only makes the tests slower, not safer.
SILENCE = 0.15
# With two shards, these keys are in the first and in the second.
FIRST, SECOND = ("b", "c", "bar"), ("a", "foo", "hello")


@pytest.fixture(scope="module", params=["batons", "messages", "one shard"])
def served(request, tmp_path_factory):
    flags = tmp_path_factory.mktemp("flags")
    disk = BadDisk(".incr.aof", flags)
    shards = 1 if request.param == "one shard" else 2
    cross_shard = "message" if request.param == "messages" else "auto"
    with Server(appendonly="yes", appendfsync="always", shards=shards, cross_shard=cross_shard,
                env=disk.environment) as server:
        yield server, disk


@pytest.fixture
def clients(served):
    """Connections on both workers, and keys that are durable."""
    server, _ = served
    clients = [server.client() for _ in range(6)]
    clients[0].cmd("FLUSHALL")
    clients[0].cmd("MSET", *(word for key in (*FIRST, *SECOND, "other") for word in (key, f"old {key}")))
    yield clients
    for client in clients:
        client.close()


def _is_silent(client: Client) -> bool:
    try:
        reply = client.recv(timeout=SILENCE)
    except TimeoutError:
        return True
    raise AssertionError(f"a reply came that shows what is not durable: {reply!r}")


# What writes, what then must wait (with its reply), and what must not.
CASES = {
    "SET": (("SET", "b", 1), [(("GET", "b"), b"1"), (("STRLEN", "b"), 1), (("TTL", "b"), -1), (("EXISTS", "b"), 1),
                             (("TYPE", "b"), b"string"), (("MGET", "a", "b"), [b"old a", b"1"]),
                             (("SET", "b", 2, "NX"), None), (("GETEX", "b"), b"1"), (("OBJECT", "ENCODING", "b"), b"int")],
            [("GET", "c"), ("MGET", "a", "c"), ("PING",), ("EXISTS", "nothing"), ("SET", "c", 2, "NX"), ("ECHO", "x")]),
    "DEL": (("DEL", "b"), [(("GET", "b"), None), (("EXISTS", "a", "b", "c"), 2)], [("GET", "c"), ("EXISTS", "a", "c")]),
    "RENAME": (("RENAME", "a", "b"), [(("GET", "b"), b"old a"), (("EXISTS", "a"), 0)], [("GET", "c"), ("GET", "foo")]),
    "MSET": (("MSET", "b", 1, "a", 2), [(("GET", "a"), b"2"), (("GET", "b"), b"1"), (("MGET", "c", "a"), [b"old c", b"2"])],
             [("GET", "c"), ("GET", "foo"), ("MGET", "c", "foo")]),
    "wrong type": (("LPUSH", "new", 1), [(("INCR", "new"), ReplyError)], [("GET", "c")]),
    "other database": (("MOVE", "b", 3), [(("GET", "b"), None)], [("GET", "c")]),
    "DBSIZE": (("SET", "new", 1), [(("DBSIZE",), 8), (("KEYS", "nothing*"), []), (("RANDOMKEY",), bytes)],
               [("GET", "c"), ("GET", "foo")]),
    "FLUSHALL": (("FLUSHALL",), [(("GET", "b"), None), (("GET", "a"), None)], [("PING",), ("ECHO", "x")]),
    "SWAPDB": (("SWAPDB", 0, 1), [(("GET", "b"), None), (("EXISTS", "a"), 0)], [("PING",)]),
    "EXEC": (("EXEC",), [(("GET", "b"), b"1"), (("MGET", "foo", "c"), [b"3", b"old c"])], [("GET", "a"), ("MGET", "c", "a")]),
}


@pytest.mark.parametrize("case", CASES)
def test_only_who_shows_what_is_not_durable_waits(case: str, served, clients):
    _, disk = served
    write, waiting, free = CASES[case]
    writer, bystander, *readers = clients
    if case == "EXEC":
        writer.pipeline([("MULTI",), ("SET", "b", 1), ("SET", "foo", 3)])
    with disk.hanging():
        writer.send(*write)
        assert _is_silent(writer)
        for command in free:
            bystander.cmd(*command)
        for number, (command, _) in enumerate(waiting):
            readers[number % len(readers)].send(*command)
        # In a transaction with others, from another connection.
        with_others = readers[0]
        with_others.send_many([("MULTI",), ("GET", "c"), waiting[0][0], ("EXEC",)])
        for reader in readers[:len(waiting)]:
            assert _is_silent(reader)
        for command in free:
            bystander.cmd(*command)
        bystander.pipeline([("MULTI",), *free, ("EXEC",)])
    assert not isinstance(writer.recv(), ReplyError)
    for number, (command, expected) in enumerate(waiting):
        reply = readers[number % len(readers)].recv()
        right = isinstance(reply, expected) if isinstance(expected, type) else plain(reply) == expected
        assert right, (command, reply)
    assert [with_others.recv() for _ in range(3)] == [b"OK", b"QUEUED", b"QUEUED"]
    assert len(with_others.recv()) == 2


def test_scan_waits_and_goes_on(served, clients):
    _, disk = served
    writer, reader, bystander, *_ = clients
    with disk.hanging():
        writer.send("SET", "new", 1)
        assert _is_silent(writer)
        reader.send("SCAN", 0, "COUNT", 1000)
        assert _is_silent(reader)
        assert bystander.cmd("GET", "c") == b"old c"
    writer.recv()
    cursor, keys = reader.recv()
    assert b"new" in keys or cursor != b"0"


def test_a_key_whose_time_has_passed(served, clients):
    _, disk = served
    writer, reader, bystander, *_ = clients
    writer.cmd("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    writer.cmd("SET", "b", 1, "PX", 20)
    time.sleep(0.2)  # The key's own time.
    with disk.hanging():
        # Whoever finds it expired deletes it, and that is a write.
        reader.send("GET", "b")
        bystander.send("EXISTS", "b")
        assert _is_silent(reader) and _is_silent(bystander)
        assert writer.cmd("GET", "c") == b"old c"
    assert (plain(reader.recv()), bystander.recv()) == (None, 0)
    writer.cmd("DEBUG", "SET-ACTIVE-EXPIRE", 1)


def test_a_failed_watch_shows_that_something_was_written(served, clients):
    _, disk = served
    watcher, writer, other, *_ = clients
    for client, key in ((watcher, "b"), (other, "c")):
        client.pipeline([("WATCH", key), ("MULTI",), ("ECHO", "x")])
    with disk.hanging():
        writer.send("SET", "b", 1)
        assert _is_silent(writer)
        watcher.send("EXEC")
        assert other.cmd("EXEC") == [b"x"]
        assert _is_silent(watcher)
    assert writer.recv() == b"OK"
    assert not watcher.recv()


def test_a_blocked_client_is_served_when_what_it_takes_is_durable(served, clients):
    """Whoever pushed, and whichever worker sends the reply; a move to another shard waits for both."""
    _, disk = served
    writer, taker, mover, last, bystander, _ = clients
    taker.send("BLPOP", "none", "list:b", 0)
    mover.send("BLMOVE", "list{b}", "list{a}", "LEFT", "LEFT", 0)
    last.send("BZPOPMIN", "set", 0)
    while b"blocked_clients:3\r\n" not in bystander.cmd("INFO", "clients"):
        pass
    with disk.hanging():
        writer.send_many([("RPUSH", "list:b", 1), ("RPUSH", "list{b}", 2), ("ZADD", "set", 3, "m")])
        assert _is_silent(writer) and _is_silent(taker) and _is_silent(mover) and _is_silent(last)
        assert bystander.cmd("GET", "c") == b"old c"
    assert [writer.recv() for _ in range(3)] == [1, 1, 1]
    assert taker.recv() == [b"list:b", b"1"]
    assert mover.recv() == b"2"
    assert last.recv() == [b"set", b"m", b"3"]


def test_replies_in_front_of_one_that_waits_do_not_wait(served, clients):
    _, disk = served
    client, other, *_ = clients
    with disk.hanging():
        client.send_many([("GET", "c"), ("GET", "a"), ("SET", "b", 1), ("GET", "c"), ("GET", "b")])
        assert [client.recv(), client.recv()] == [b"old c", b"old a"]
        assert _is_silent(client)
        client.send_many([("GET", "foo"), ("INCR", "b"), ("GET", "b")])
        assert _is_silent(client)
        assert other.cmd("GET", "foo") == b"old foo"
    assert [client.recv() for _ in range(6)] == [b"OK", b"old c", b"1", b"old foo", 2, b"2"]


def test_a_client_that_reads_no_reply_for_long_gets_them_all(served, clients):
    _, disk = served
    client = clients[0]
    count = 20_000
    with disk.hanging():
        for first in range(0, count, 500):
            client.send_many([("INCR", "b") if n % 2 else ("INCR", "a") for n in range(first, first + 500)]
                             if first else [("SET", "a", 0), ("SET", "b", 0)])
        assert _is_silent(client)
    assert [client.recv(), client.recv()] == [b"OK", b"OK"]
    replies = [client.recv() for _ in range(count - 500)]
    assert replies == [n // 2 + 1 for n in range(count - 500)]


def _segment_of(server: Server, shard: int) -> str:
    manifest = (server.dir / "appendonlydir" / "appendonly.aof.manifest").read_text()
    return re.findall(rf"file (\S+incr\.aof) .*shard {shard} of", manifest)[-1]


def _epoch(server: Server, shard: int) -> int:
    """The epoch of the shard's last block."""
    segment = server.dir / "appendonlydir" / _segment_of(server, shard)
    return int(re.findall(rb"#SEAL \d+ \d+ \d+ (\d+) ", segment.read_bytes())[-1])


def test_a_transaction_over_shards_waits_for_all_of_them(tmp_path: Path):
    """While the second shard's disk hangs, what was written in both waits in both, and nothing else does."""
    disk = BadDisk(".incr.aof", tmp_path)
    with Server(appendonly="yes", appendfsync="always", shards=2, env=disk.environment) as server:
        clients = [server.client() for _ in range(6)]
        writer, transaction, first, second, both, bystander = clients
        bystander.cmd("MSET", *(word for key in (*FIRST, *SECOND) for word in (key, f"old {key}")))
        with disk.hanging(_segment_of(server, 1)):
            writer.send("MSET", "b", 1, "a", 1)
            assert _is_silent(writer)
            transaction.send_many([("MULTI",), ("INCR", "bar"), ("INCR", "count:1"), ("INCR", "count:2"), ("EXEC",)])
            first.send("GET", "b")
            second.send("GET", "a")
            both.send("MGET", "hello", "c", "b")
            assert _is_silent(first) and _is_silent(second) and _is_silent(both)
            assert bystander.cmd("MGET", "c", "foo") == [b"old c", b"old foo"]
            assert bystander.cmd("GET", "c") == b"old c"
        assert writer.recv() == b"OK"
        assert [first.recv(), second.recv(), both.recv()] == [b"1", b"1", [b"old hello", b"old c", b"1"]]
        with disk.hanging(_segment_of(server, 1)):
            second.send("SET", "foo", 1)
            assert _is_silent(second)
            # The first shard's disk is well: what is written there alone is soon durable, whatever epoch it is.
            epoch, number = _epoch(server, 0), 0
            while _epoch(server, 0) < epoch + 2:
                number += 1
                assert bystander.cmd("SET", "c", number) == b"OK"
                assert first.cmd("GET", "c") == str(number).encode()
                time.sleep(0.02)
            assert _is_silent(second)
        assert second.recv() == b"OK"
        for client in clients:
            client.close()


def _policy(client: Client) -> bytes:
    return client.cmd("CONFIG", "GET", "appendfsync")[1]


@pytest.mark.parametrize("path", ["ring", "write"])
@pytest.mark.parametrize("policy", ["everysec", "no"])
def test_the_policy_becomes_always_when_what_was_written_before_is_safe(policy: str, path: str, tmp_path: Path):
    disk = BadDisk(".incr.aof", tmp_path)
    options = {"aof-write-path": path, "aof-ring-size": "1mb"}
    with Server(appendonly="yes", appendfsync=policy, shards=2, env=disk.environment, **options) as server:
        with server.client() as admin, server.client() as client:
            with disk.hanging():
                assert client.cmd("MSET", "a", 1, "b", 1) == b"OK"
                admin.send("CONFIG", "SET", "appendfsync", "always", "maxmemory-samples", 7)
                assert _is_silent(admin)
                # The old policy counts until then.
                assert client.cmd("MGET", "a", "b") == [b"1", b"1"]
                assert client.cmd("SET", "c", 1) == b"OK"
                assert _policy(client) == policy.encode()
            assert admin.recv() == b"OK"
            assert (_policy(client), client.cmd("CONFIG", "GET", "maxmemory-samples")[1]) == (b"always", b"7")
            with disk.hanging():
                assert client.cmd("MGET", "a", "b", "c") == [b"1", b"1", b"1"]
                # What was written before is in epochs that are whole in both segments.
                if path == "write":
                    assert _epoch(server, 0) == _epoch(server, 1)
                client.send("SET", "c", 2)
                assert _is_silent(client)
                assert admin.cmd("CONFIG", "SET", "appendfsync", policy) == b"OK"
                assert client.recv() == b"OK"


@pytest.mark.parametrize("path", ["ring", "write"])
def test_the_policy_stays_where_always_cannot_be_promised(path: str, tmp_path: Path):
    disk = BadDisk(".incr.aof", tmp_path)
    options = {"aof-write-path": path, "aof-ring-size": "1mb"}
    with Server(appendonly="yes", appendfsync="everysec", shards=2, env=disk.environment, **options) as server:
        with server.client() as client, server.client() as other:
            other.cmd("MSET", "a", 1, "b", 1)
            to_always = ("CONFIG", "SET", "appendfsync", "always")
            with disk.unsynced():
                with pytest.raises(ReplyError, match="argument 'appendfsync'\\) - the AOF cannot be"):
                    client.cmd(*to_always)
                assert _policy(client) == b"everysec"
                assert other.cmd("GET", "a") == b"1"
            replies = client.pipeline([("MULTI",), to_always, ("EXEC",)])
            assert "argument 'appendfsync') - not possible inside a transaction" in str(replies[2][0])
            assert _policy(client) == b"everysec"
            deadline = time.monotonic() + 60
            while isinstance(client.call(*to_always), ReplyError):
                assert time.monotonic() < deadline, "always is refused for good"
            assert _policy(client) == b"always"
            # Already in force, it is a change like others.
            assert client.pipeline([("MULTI",), to_always, ("EXEC",)])[2] == [b"OK"]
            assert other.cmd("SET", "a", 2) == b"OK"


def test_the_policy_becomes_always_while_a_rewrite_runs():
    with Server(appendonly="yes", appendfsync="everysec", shards=2, aof_use_rdb_preamble="no") as server, server.client() as client:
        client.cmd("DEBUG", "POPULATE", 20_000)
        client.cmd("BGREWRITEAOF")
        client.cmd("MSET", "a", 1, "b", 1)
        assert client.cmd("CONFIG", "SET", "appendfsync", "always") == b"OK"
        assert client.cmd("MSET", "a", 2, "b", 2) == b"OK"
        server.kill()
        server.start()
        with server.client() as client:
            assert client.cmd("MGET", "a", "b") == [b"2", b"2"]
