"""A disk that is full, or that cannot keep what it was given: writes are refused with Redis's words,
reads go on, and when the disk is well again so is the server, with all it ever acknowledged."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from crash.faults import BadDisk
from support import Client, ConnectionClosed, ReplyError, Server

PATIENCE = 20


def _until(condition, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def _write_until_refused(client: Client, acknowledged: list[int]) -> ReplyError:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        number = len(acknowledged)
        reply = client.call("MSET", f"a:{number}", number, f"b:{number}", number, f"c:{number}", number)
        if isinstance(reply, ReplyError):
            return reply
        acknowledged.append(number)
    raise AssertionError("writes are accepted for good on a full disk")


def _check(client: Client, acknowledged: list[int]) -> None:
    for number in acknowledged:
        value = str(number).encode()
        assert client.cmd("MGET", f"a:{number}", f"b:{number}", f"c:{number}") == [value] * 3




def test_a_full_disk_under_a_snapshot(tmp_path: Path):
    disk = BadDisk(".rdb", tmp_path)
    with Server(save=["3600", "1"], shards=2, env=disk.environment) as server, server.client() as client:
        client.pipeline([("SET", f"key:{n}", "v" * 100) for n in range(1000)])
        status = lambda: client.cmd("INFO", "persistence").decode()  # noqa: E731
        with disk.full():
            assert isinstance(client.call("SAVE"), ReplyError)
            client.call("BGSAVE")
            _until(lambda: "rdb_bgsave_in_progress:0" in status(), "the child hangs")
            assert "rdb_last_bgsave_status:err" in status()
            _until(lambda: isinstance(client.call("SET", "x", 1), ReplyError), "writes are accepted")
            assert client.call("SET", "x", 1).text.startswith("MISCONF Redis is configured to save RDB snapshots")
            assert client.cmd("GET", "key:1") == b"v" * 100
            assert not list(server.dir.glob("*.rdb")), "a temporary file was left"
        client.cmd("BGSAVE")
        _until(lambda: "rdb_last_bgsave_status:ok" in status(), "snapshots fail for good")
        _until(lambda: client.call("SET", "x", 1) == b"OK", "writes are refused for good")


def test_a_full_disk_under_a_rewrite(tmp_path: Path):
    disk = BadDisk("temp-rewriteaof", tmp_path)
    with Server(appendonly="yes", shards=2, env=disk.environment) as server:
        with server.client() as client:
            client.pipeline([("SET", f"key:{n}", "v" * 100) for n in range(1000)])
            status = lambda: client.cmd("INFO", "persistence").decode()  # noqa: E731
            with disk.full():
                client.cmd("BGREWRITEAOF")
                _until(lambda: "aof_last_bgrewrite_status:err" in status(), "the rewrite succeeds on a full disk")
                _until(lambda: "aof_rewrite_in_progress:0" in status(), "the child hangs")
            client.cmd("SET", "after", 1)
            assert not list((server.dir / "appendonlydir").glob("temp*"))
            server.restart(crash=True)
        with server.client() as client:
            assert client.cmd("DBSIZE") == 1001
            client.cmd("BGREWRITEAOF")
            _until(lambda: list((server.dir / "appendonlydir").glob("*.base.rdb")), "rewrites fail for good")


def test_a_disk_that_does_not_sync(tmp_path: Path):
    disk = BadDisk(".incr.aof", tmp_path)
    with Server(appendonly="yes", appendfsync="everysec", shards=2, env=disk.environment) as server:
        with server.client() as client:
            with disk.unsynced():
                acknowledged: list[int] = []
                refusal = _write_until_refused(client, acknowledged)
                assert refusal.text.startswith("MISCONF Errors writing to the AOF file: Input/output error")
                assert client.cmd("GET", "a:0") == b"0"
                assert "aof_last_write_status:err" in client.cmd("INFO", "persistence").decode()
            _until(lambda: client.call("SET", "x", 1) == b"OK", "writes are refused for good")
        server.restart(crash=True)
        with server.client() as client:
            _check(client, acknowledged)


def test_a_disk_that_does_not_sync_ends_a_server_that_promised_it_would(tmp_path: Path):
    disk = BadDisk(".incr.aof", tmp_path)
    with Server(appendonly="yes", appendfsync="always", shards=2, env=disk.environment) as server:
        with server.client() as client:
            client.cmd("SET", "before", 1)
            with disk.unsynced():
                client.send("SET", "key", "value")
                with pytest.raises(ConnectionClosed):
                    client.recv(timeout=PATIENCE)
                assert server.wait_exit() == 1
        assert "durable" in server.log() and "BUG REPORT" not in server.log()
        server.start()
        with server.client() as client:
            assert client.cmd("GET", "before") == b"1"


@pytest.mark.parametrize("command", ["BGREWRITEAOF", "FLUSHALL", "CONFIG SET appendfsync always"])
def test_a_disk_that_hangs_stops_nobody_who_only_reads(command: str, tmp_path: Path):
    """What concerns all files waits for the disk before it stops the workers."""
    disk = BadDisk(".incr.aof", tmp_path)
    with Server(appendonly="yes", shards=2, env=disk.environment) as server:
        with server.client() as client, server.client() as other:
            client.pipeline([("SET", f"key:{n}", n) for n in range(3000)])
            with disk.hanging():
                client.cmd("SET", "key:1", "last")
                client.send(*command.split())
                began = time.monotonic()
                while time.monotonic() < began + 2:
                    other.send("PING")
                    assert other.recv(timeout=PATIENCE) == b"PONG"
                    time.sleep(0.01)
            assert not isinstance(client.recv(timeout=PATIENCE), ReplyError)
            assert other.cmd("EXISTS", "key:1") == (command != "FLUSHALL")
