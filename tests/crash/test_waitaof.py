"""WAITAOF: it replies 1 when this connection's writes are durable here, and no earlier."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from crash.faults import BadDisk
from support import Client, ReplyError, Server

SILENCE = 0.15
PATIENCE = 20_000


def _is_silent(client: Client) -> bool:
    try:
        reply = client.recv(timeout=SILENCE)
    except TimeoutError:
        return True
    raise AssertionError(f"a reply came too early: {reply!r}")


@pytest.mark.parametrize("cross_shard", ["auto", "message"])
@pytest.mark.parametrize("policy", ["everysec", "always"])
def test_waitaof_waits_for_what_this_connection_wrote(policy: str, cross_shard: str, tmp_path: Path):
    disk = BadDisk(".incr.aof", tmp_path)
    with Server(appendonly="yes", appendfsync=policy, shards=3, cross_shard=cross_shard, env=disk.environment) as server:
        writes = (("SET", "a", 1), ("MSET", "a", 1, "b", 1, "c", 1), ("EXEC",))
        clients = [server.client() for _ in writes]
        with server.client() as bystander:
            clients[2].pipeline([("MULTI",), ("INCR", "b"), ("INCR", "c")])
            with disk.hanging():
                for client, write in zip(clients, writes):
                    client.send_many([write, ("WAITAOF", 1, 0, 0)])
                    if policy == "everysec":
                        assert client.recv() is not None
                for client in clients:
                    assert _is_silent(client)
                # Who wrote nothing waits for nothing, and a timeout is one.
                assert bystander.cmd("WAITAOF", 1, 0, 0) == [1, 0]
                if policy == "everysec":
                    with server.client() as other:
                        other.cmd("SET", "a", 2)
                        assert other.cmd("WAITAOF", 1, 0, 1) == [0, 0]
                        assert other.cmd("WAITAOF", 0, 0, 0) == [0, 0]
            for client in clients:
                if policy == "always":
                    client.recv()
                assert client.recv(timeout=PATIENCE / 1000) == [1, 0]
            assert "blocked_clients:0" in bystander.cmd("INFO", "clients").decode()
        for client in clients:
            client.close()


def test_waitaof_while_the_append_only_file_is_switched_on(tmp_path: Path):
    """Before the first base is in force, a start would find nothing."""
    disk = BadDisk("temp-rewriteaof", tmp_path)
    with Server(shards=2, env=disk.environment) as server, server.client() as client, server.client() as other:
        client.cmd("SET", "a", 1)
        with disk.full():
            assert other.cmd("CONFIG", "SET", "appendonly", "yes") == b"OK"
            assert client.cmd("SET", "b", 1) == b"OK"
            client.send("WAITAOF", 1, 0, 0)
            deadline = time.monotonic() + PATIENCE / 1000
            while "aof_last_bgrewrite_status:err" not in other.cmd("INFO", "persistence").decode():
                assert time.monotonic() < deadline, "the rewrite succeeds on a full disk"
                time.sleep(0.02)
            assert _is_silent(client)
            assert "blocked_clients:1" in other.cmd("INFO", "clients").decode()
            assert b"flags=b" in other.cmd("CLIENT", "LIST", "ID", client_id(other, b"cmd=waitaof"))
        # By itself the server tries again later and later; one that has failed already may still be about to be noticed.
        deadline = time.monotonic() + PATIENCE / 1000
        while isinstance(other.call("BGREWRITEAOF"), ReplyError):
            assert time.monotonic() < deadline, "a rewrite never ends"
            time.sleep(0.02)
        assert client.recv(timeout=PATIENCE / 1000) == [1, 0]
        server.restart(crash=True, appendonly="yes")
        with server.client() as client:
            assert client.cmd("MGET", "a", "b") == [b"1", b"1"]


def client_id(client: Client, part: bytes) -> bytes:
    line = next(line for line in client.cmd("CLIENT", "LIST").splitlines() if part in line)
    return line.split()[0].removeprefix(b"id=")


def test_a_waiting_client_may_leave(tmp_path: Path):
    with Server(appendonly="yes", appendfsync="no", shards=2) as server, server.client() as other:
        with server.client() as client:
            client.cmd("SET", "a", 1)
            client.send("WAITAOF", 1, 0, 0)
            assert _is_silent(client)
            assert other.cmd("CLIENT", "KILL", "ID", client_id(other, b"cmd=waitaof")) == 1
            assert client.closed_by_server()
        deadline = time.monotonic() + PATIENCE / 1000
        while "blocked_clients:0" not in other.cmd("INFO", "clients").decode():
            assert time.monotonic() < deadline, "a client that left is still waited for"
            time.sleep(0.02)
