"""What INFO tells of the AOF's shards, while a disk hangs and afterwards."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from crash.faults import BadDisk
from support import Client, Server

PATIENCE = 20
FIELDS = ["written_lsn", "durable_lsn", "file_bytes", "buffer_bytes", "fsyncs", "fsync_ms_last", "fsync_ms_max", "pending_ms"]


def _shards(client: Client) -> list[dict[str, int]]:
    lines = [line for line in client.cmd("INFO", "persistence").decode().splitlines() if line.startswith("aof_shard")]
    shards = [dict(pair.split("=") for pair in line.split(":")[1].split(",")) for line in lines]
    assert [line.split(":")[0] for line in lines] == [f"aof_shard{n}" for n in range(len(lines))]
    assert all(list(shard) == FIELDS for shard in shards)
    return [{name: int(value) for name, value in shard.items()} for shard in shards]


def _until(condition, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@pytest.mark.parametrize("backend", ["threads", "glommio"])
def test_info_tells_how_far_each_shard_is(backend: str, tmp_path: Path):
    with Server(appendonly="yes", appendfsync="everysec", shards=2, storage_backend=backend) as server, server.client() as client:
        # The one key is in the second shard.
        client.cmd("SET", "a", "x" * 1000)
        _until(lambda: _shards(client)[1]["durable_lsn"] > 1000, "nothing became durable")
        first, second = _shards(client)
        assert first["durable_lsn"] == first["written_lsn"] == 0
        assert second["durable_lsn"] == second["written_lsn"]
        assert second["file_bytes"] > 1000 and second["fsyncs"] >= 1 and second["buffer_bytes"] == 0
        # Nothing waits, also when an epoch ends with nothing written in it.
        _until(lambda: _shards(client)[1]["pending_ms"] == 0, "something waits for good")


def test_info_tells_of_a_disk_that_hangs(tmp_path: Path):
    disk = BadDisk(".incr.aof", tmp_path)
    with Server(appendonly="yes", appendfsync="everysec", shards=2, env=disk.environment) as server, server.client() as client:
        with disk.hanging():
            client.cmd("MSET", "a", 1, "b", 1)
            _until(lambda: min(shard["pending_ms"] for shard in _shards(client)) > 1200, "pending_ms does not grow")
            for shard in _shards(client):
                assert shard["durable_lsn"] == 0 < shard["written_lsn"]
        _until(lambda: max(shard["pending_ms"] for shard in _shards(client)) == 0, "something waits for good")
        for shard in _shards(client):
            assert shard["durable_lsn"] == shard["written_lsn"]
            # The first datasync began within a second of the write.
            assert 100 < shard["fsync_ms_max"], shard
        client.cmd("CONFIG", "SET", "appendonly", "no")
        assert _shards(client) == []
