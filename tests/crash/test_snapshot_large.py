"""Snapshots of what is large: one huge hash, very many small keys, keys that expire meanwhile. The child's own memory stays
small, loading needs little more than the data, and the file is what Redis loads and writes as well.

SNAPSHOT_HASH_MB and SNAPSHOT_KEYS make them larger: 2048 and 10000000 were tried by hand."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from crash.faults import slow_writes
from crash.test_snapshot_failures import bgsave, info, until
from support import Client, Server

HASH_MB = int(os.environ.get("SNAPSHOT_HASH_MB", 160))
KEYS = int(os.environ.get("SNAPSHOT_KEYS", 500_000))
# Buffers of a few writers, and what the parent touches anyway.
CHILD_BYTES_MAX = 32 << 20
WINDOW_BYTES_MAX = 64 << 20
PATIENCE = 60 + HASH_MB / 4 + KEYS / 20_000


def _memory(server: Server, field: str) -> int:
    for line in Path(f"/proc/{server.pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise ValueError(field)


def _assert_loading_took_little(server: Server) -> None:
    peak, now = _memory(server, "VmHWM"), _memory(server, "VmRSS")
    assert peak < now * 1.15 + WINDOW_BYTES_MAX, f"{peak >> 20} MB to load what takes {now >> 20} MB"


def _value(n: int) -> bytes:
    return b"%016x" % (n * 0x9E3779B97F4A7C15 % 2**64) * 62


def _check_hash(client: Client, fields: int) -> None:
    assert client.cmd("HLEN", "huge") == fields
    for n in range(0, fields, fields // 50):
        assert client.cmd("HGET", "huge", n) == _value(n)


@pytest.mark.parametrize("index", ["with", "without"])
def test_one_huge_hash(index: str):
    with Server(shards=2, rdbcompression="no") as server:
        fields = HASH_MB * 1000
        with server.client(timeout=PATIENCE) as client:
            for begin in range(0, fields, 2000):
                client.pipeline([("HSET", "huge", *(word for n in range(first, first + 100) for word in (n, _value(n))))
                                 for first in range(begin, min(begin + 2000, fields), 100)])
            after = bgsave(client)
            assert after["rdb_last_bgsave_status"] == "ok"
            assert int(after["rdb_last_cow_size"]) < CHILD_BYTES_MAX
        server.stop()
        assert (server.dir / "dump.rdb").stat().st_size > HASH_MB * 950_000
        if index == "without":
            # Redis loads ours and writes its own.
            with Server("redis", dir=server.dir, rdbcompression="no") as redis:
                with redis.client(timeout=PATIENCE) as client:
                    _check_hash(client, fields)
                    assert client.cmd("SAVE") == b"OK"
                redis.kill()
        server.start(timeout=PATIENCE)
        with server.client() as client:
            _check_hash(client, fields)
            _assert_loading_took_little(server)


def test_very_many_small_keys():
    with Server(shards=2) as server:
        with server.client(timeout=PATIENCE) as client:
            client.cmd("DEBUG", "POPULATE", KEYS)
            began = client.cmd("BGSAVE")
            assert began == b"Background saving started"
            seen = set()
            while (state := info(client))["rdb_bgsave_in_progress"] == "1":
                seen.add(int(state["current_save_keys_processed"]))
                assert state["current_save_keys_total"] == str(KEYS)
                assert 0 <= float(state["current_fork_perc"]) <= 100
            assert max(seen) > 0 or KEYS < 1_000_000, "no progress shows"
            assert state["rdb_last_bgsave_status"] == "ok" and int(state["rdb_last_cow_size"]) < CHILD_BYTES_MAX
        server.kill()
        with Server("redis", dir=server.dir) as redis, redis.client(timeout=PATIENCE) as client:
            assert client.cmd("DBSIZE") == KEYS
        server.start(timeout=PATIENCE)
        with server.client() as client:
            assert client.cmd("DBSIZE") == KEYS
            assert client.cmd("GET", f"key:{KEYS - 1}") == b"value:%d" % (KEYS - 1)


def test_keys_that_expire_while_they_are_saved():
    """Half of 100,000 keys are to go while the child writes: the file has each with its time, and loaders drop what is over."""
    slow = slow_writes(".rdb", percent=100, micros=400_000)
    with Server(shards=2, env=slow) as server:
        with server.client() as client:
            short = [("SET", f"short:{n}", "v" * 30, "PX", 500 + n % 1500) for n in range(50_000)]
            long = [("SET", f"long:{n}", "v" * 30, "PXAT", 4_000_000_000_000 + n) for n in range(50_000)]
            for begin in range(0, 50_000, 5000):
                client.pipeline(short[begin:begin + 5000] + long[begin:begin + 5000])
            client.cmd("BGSAVE")
            until(lambda: client.cmd("DBSIZE") <= 90_000, "keys do not expire while a child runs")
            time.sleep(1)  # by now the time of all of them is over
            until(lambda: info(client)["rdb_bgsave_in_progress"] == "0", "the child hangs")
            assert info(client)["rdb_last_bgsave_status"] == "ok"
        server.kill()
        for kind in ("redis", "basalt"):
            with Server(kind, dir=server.dir, shards=2) as loaded, loaded.client() as client:
                assert client.cmd("DBSIZE") == 50_000
                assert client.cmd("EXISTS", "short:1") == 0
                for n in (0, 777, 49_999):
                    assert client.cmd("PEXPIRETIME", f"long:{n}") == 4_000_000_000_000 + n
