"""Hashes whose fields expire, between us and the servers that have them: files, payloads, the log."""

from __future__ import annotations

import time

import pytest

from .conftest import check_tool
from support import Client, Server, peer_binary

FAR_MS = 4_102_444_800_000  # 2100-01-01
PEERS = ["redis-new", "valkey-new"] if peer_binary("redis-server") and peer_binary("valkey-server") else []
needs_peers = pytest.mark.skipif(not PEERS, reason="servers that have field expiry are not here: see tests/get-peers")
HASHES = {
    "small": {b"a": FAR_MS + 5, b"b": None, b"c": FAR_MS, b"": FAR_MS + 70_000, b"\x00\xff": None},
    "one": {b"f": FAR_MS},
    "wide": {b"long": None, b"f": FAR_MS + 3},
    "large": {b"field %d" % i: FAR_MS + i % 500 * 1000 if i % 3 else None for i in range(1500)},
    "none left": {b"a": None, b"b": None},
}


def fill(server: Server) -> None:
    with server.client(timeout=60) as client:
        for key, fields in HASHES.items():
            client.cmd("HSET", key, *(word for i, f in enumerate(fields) for word in (f, b"v" * 65 if f == b"long" else b"%d" % i)))
            for field, at in fields.items():
                if at:
                    assert client.cmd("HPEXPIREAT", key, at, "FIELDS", 1, field) == [1]
        client.cmd("HEXPIRE", "none left", 100, "FIELDS", 2, "a", "b")
        client.cmd("HPERSIST", "none left", "FIELDS", 2, "a", "b")
        client.cmd("HSET", "plain", "f", "v")
        client.cmd("SET", "string", "v")


def assert_filled(server: Server) -> None:
    with server.client(timeout=60) as client:
        assert client.cmd("DBSIZE") == len(HASHES) + 2
        for key, fields in HASHES.items():
            assert_hash(client, key, fields)
        assert client.cmd("HGET", "plain", "f") == b"v"


def assert_hash(client: Client, key: str, fields: dict) -> None:
    values = client.cmd("HMGET", key, *fields)
    assert values == [b"v" * 65 if f == b"long" else b"%d" % i for i, f in enumerate(fields)], key
    times = client.cmd("HPEXPIRETIME", key, "FIELDS", len(fields), *fields)
    assert times == [at or -1 for at in fields.values()], key
    assert client.cmd("HLEN", key) == len(fields)


@needs_peers
@pytest.mark.parametrize("shards", [1, 3])
def test_our_snapshots_load_in_redis(shards: int, tmp_path) -> None:
    with Server("basalt", shards=shards, dir=tmp_path) as ours:
        fill(ours)
        with ours.client() as client:
            client.cmd("SAVE")
        ours.restart(crash=True)
        assert_filled(ours)
    assert (tmp_path / "dump.rdb").read_bytes()[:9] == b"REDIS0012"
    check_tool("redis-new", "rdb", tmp_path / "dump.rdb")
    with Server("redis-new", dir=tmp_path) as theirs:
        assert_filled(theirs)


def test_files_without_such_fields_stay_of_the_older_version(tmp_path) -> None:
    with Server("basalt", shards=2, dir=tmp_path) as ours, ours.client() as client:
        client.cmd("HSET", "h", "a", "1", "b", "2")
        client.cmd("HEXPIRE", "h", 100, "FIELDS", 2, "a", "b")
        client.cmd("DEL", "h")
        client.cmd("HSET", "h", "a", "1")
        client.cmd("SAVE")
        assert (tmp_path / "dump.rdb").read_bytes()[:9] == b"REDIS0010"


@needs_peers
@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("shards", [1, 3])
def test_their_snapshots_load_here(peer: str, shards: int, tmp_path) -> None:
    with Server(peer, dir=tmp_path) as theirs:
        fill(theirs)
        with theirs.client() as client:
            client.cmd("SAVE")
    with Server("basalt", shards=shards, dir=tmp_path) as ours:
        assert_filled(ours)


@needs_peers
def test_payloads_of_both_sides_restore_on_the_other() -> None:
    with Server("basalt", shards=2) as ours, Server("redis-new") as theirs:
        fill(ours)
        fill(theirs)
        with ours.client() as here, theirs.client() as there:
            for key, fields in HASHES.items():
                assert there.cmd("RESTORE", "copy", 0, here.cmd("DUMP", key), "REPLACE") == b"OK"
                assert_hash(there, "copy", fields)
                assert here.cmd("RESTORE", "copy", 0, there.cmd("DUMP", key), "REPLACE") == b"OK"
                assert_hash(here, "copy", fields)
                assert here.cmd("DEBUG", "DIGEST-VALUE", key) == there.cmd("DEBUG", "DIGEST-VALUE", key)


@needs_peers
@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_our_log_loads_in_redis(preamble: str, tmp_path) -> None:
    options = {"appendonly": "yes", "aof-use-rdb-preamble": preamble}
    with Server("basalt", shards=3, dir=tmp_path, **options) as ours:
        fill(ours)
        with ours.client() as client:
            client.cmd("HSETEX", "set", "PXAT", FAR_MS, "FIELDS", 1, "f", "0")
            client.cmd("BGREWRITEAOF")
            deadline = time.monotonic() + 60
            while b"aof_rewrite_in_progress:1" in client.cmd("INFO", "persistence") or \
                    b"aof_rewrite_scheduled:1" in client.cmd("INFO", "persistence"):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            client.cmd("HSET", "late", "f", "1.5", "g", "x")
            client.cmd("HPEXPIREAT", "late", FAR_MS, "FIELDS", 2, "f", "g")
            client.cmd("HINCRBYFLOAT", "late", "f", "1")
            client.cmd("HGETDEL", "late", "FIELDS", 1, "g")
        ours.restart(crash=True)
        assert_late(ours)
    with Server("redis-new", dir=tmp_path, **options) as theirs:
        assert_late(theirs)


def assert_late(server: Server) -> None:
    with server.client() as client:
        for key, fields in {**HASHES, "set": {b"f": FAR_MS}}.items():
            assert_hash(client, key, fields)
        assert client.cmd("HGETALL", "late") == [b"f", b"2.5"]
        assert client.cmd("HPEXPIRETIME", "late", "FIELDS", 1, "f") == [FAR_MS]


def test_fields_that_expire_leave_the_log_and_the_counts(tmp_path) -> None:
    with Server("basalt", shards=2, dir=tmp_path, appendonly="yes") as ours:
        with ours.client() as client:
            for i in range(50):
                client.cmd("HSET", f"h{i}", "stays", "1", "goes", "2")
                client.cmd("HPEXPIRE", f"h{i}", 1 + i, "FIELDS", 1, "goes")
                client.cmd("HSET", f"gone{i}", "f", "v")
                client.cmd("HPEXPIRE", f"gone{i}", 1 + i, "FIELDS", 1, "f")
            deadline = time.monotonic() + 60
            while client.cmd("DBSIZE") > 50 or b"subexpiry=0" not in client.cmd("INFO", "keyspace"):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            assert b"expired_subkeys:100" in client.cmd("INFO", "stats")
            assert [client.cmd("HLEN", f"h{i}") for i in range(50)] == [1] * 50
        ours.restart(crash=True)
        with ours.client() as client:
            assert client.cmd("DBSIZE") == 50
            assert client.cmd("HGETALL", "h7") == [b"stays", b"1"]
