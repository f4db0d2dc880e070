"""Snapshots and rewrites one after another under write load: every child ends, in seconds, and leaves
nothing behind; what they wrote loads in stock Redis."""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from pathlib import Path

import pytest

from crash.faults import slow_writes
from crash.test_kill import chance  # noqa: F401 (a fixture)
from support import Client, ConnectionClosed, Server, diff_states, dump_state

COUNT = int(os.environ.get("CRASH_CHILDREN", 200))
KEYS = 2000
# In the names of the files that children write.
TEMPORARY = {"BGSAVE": ".rdb", "BGREWRITEAOF": "temp-rewriteaof"}
_fork = multiprocessing.get_context("fork")


def _churn(port: int, seed: int, stop) -> None:
    """Writes of all types over a fixed set of keys, so that the data does not grow."""
    rng = random.Random(seed)
    client = Client(port)
    try:
        while not stop.is_set():
            batch = []
            for _ in range(50):
                n = rng.randrange(KEYS)
                batch.append(rng.choice((
                    ("SET", f"string:{n}", "v" * rng.randrange(1, 300)),
                    ("SET", f"number:{n}", rng.randrange(10**6)),
                    ("HSET", f"hash:{n % 50}", f"field:{n}", rng.randrange(1000)),
                    ("SADD", f"set:{n % 50}", rng.randrange(200)),
                    ("ZADD", f"zset:{n % 50}", rng.randrange(1000), f"member:{n}"),
                    ("MSET", f"a:{n}", n, f"b:{n}", n),
                    ("SET", f"expiring:{n}", n, "EX", 1000),
                )))
            n = rng.randrange(KEYS)
            batch += [("RPUSH", f"list:{n % 50}", n, n + 1), ("LTRIM", f"list:{n % 50}", -300, -1)]
            client.pipeline(batch)
    except (ConnectionClosed, ConnectionError):
        pass


def _processes(server: Server) -> list[str]:
    children = []
    for task in Path(f"/proc/{server.pid}/task").iterdir():
        children += (task / "children").read_text().split()
    return children


def _open_files(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.pid}/fd"))


def _resident_kilobytes(server: Server) -> int:
    for line in Path(f"/proc/{server.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    raise ValueError("no VmRSS")


def _run_child(client: Client, command: str, field: str, status: str) -> float:
    """Starts a child and waits for its end. How long it took."""
    began = time.monotonic()
    client.cmd(command)
    while True:
        info = client.cmd("INFO", "persistence").decode()
        if f"{field}:0" in info:
            assert f"{status}:ok" in info, info
            return time.monotonic() - began
        assert time.monotonic() - began < 20, f"the child of {command} hangs\n{info}"
        time.sleep(0.002)


def test_children_end_and_leave_nothing_behind(chance: random.Random):
    with Server(appendonly="yes", shards=2, auto_aof_rewrite_percentage=0) as server:
        stop = _fork.Event()
        writers = [_fork.Process(target=_churn, args=(server.port, chance.random(), stop), daemon=True) for _ in range(2)]
        for writer in writers:
            writer.start()
        client = server.client()
        slowest = 0.0
        for number in range(COUNT):
            if number % 2:
                took = _run_child(client, "BGREWRITEAOF", "aof_rewrite_in_progress", "aof_last_bgrewrite_status")
            else:
                took = _run_child(client, "BGSAVE", "rdb_bgsave_in_progress", "rdb_last_bgsave_status")
            slowest = max(slowest, took)
            if number == COUNT // 4:
                files, kilobytes = _open_files(server), _resident_kilobytes(server)
        assert all(writer.is_alive() for writer in writers), "a writer failed"
        assert _open_files(server) <= files + 2, "open files grow"
        assert _resident_kilobytes(server) < kilobytes * 1.3 + 16 * 1024, "memory grows"
        assert _processes(server) == [], "a child was left"
        print(f"slowest child: {slowest:.2f} s")
        stop.set()
        for writer in writers:
            writer.join(20)
            assert writer.exitcode == 0
        _run_child(client, "BGSAVE", "rdb_bgsave_in_progress", "rdb_last_bgsave_status")
        expected = dump_state(client)
        assert len(os.listdir(server.dir / "appendonlydir")) == 4, "files of old generations were left"
        assert not [name for name in os.listdir(server.dir) if name.startswith("temp")]
        client.close()
        server.stop()
        _loads_in_redis(server, expected, appendonly="yes")
        _loads_in_redis(server, expected, appendonly="no")


def _loads_in_redis(server: Server, expected: dict, *, appendonly: str) -> None:
    with Server("redis", dir=server.dir, appendonly=appendonly) as redis, redis.client() as client:
        # Redis 7.0 calls some encodings otherwise.
        assert diff_states(expected, dump_state(client), encodings=False, ttl_tolerance_ms=1) == []


@pytest.mark.parametrize("command", ["BGSAVE", "BGREWRITEAOF"])
def test_a_child_dies_with_the_server(command: str):
    slow = slow_writes(TEMPORARY[command], percent=100, micros=20_000_000)
    with Server(appendonly="yes", shards=2, env=slow) as server:
        with server.client() as client:
            client.pipeline([("SET", f"key:{n}", "v" * 100) for n in range(2000)])
            client.cmd(command)
            deadline = time.monotonic() + 10
            while not (children := _processes(server)):
                assert time.monotonic() < deadline
            server.kill()
        deadline = time.monotonic() + 10
        while any(_is_alive(child) for child in children):
            assert time.monotonic() < deadline, "the child lives on"
            time.sleep(0.01)
        server.start()
        with server.client() as client:
            assert client.cmd("DBSIZE") == 2000


def _is_alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("command", ["BGSAVE", "BGREWRITEAOF"])
def test_a_killed_child_is_noticed_and_costs_nothing(command: str):
    slow = slow_writes(TEMPORARY[command], percent=100, micros=20_000_000)
    with Server(appendonly="yes", shards=2, env=slow) as server:
        with server.client() as client:
            client.pipeline([("SET", f"key:{n}", "v" * 100) for n in range(2000)])
            client.cmd(command)
            deadline = time.monotonic() + 10
            while not (children := _processes(server)):
                assert time.monotonic() < deadline
            os.kill(int(children[0]), 9)
            failed = "rdb_last_bgsave_status:err" if command == "BGSAVE" else "aof_last_bgrewrite_status:err"
            while failed not in client.cmd("INFO", "persistence").decode():
                assert time.monotonic() < deadline, server.log()
                time.sleep(0.01)
            assert client.cmd("SET", "after", "x") == b"OK"
        server.restart(crash=True, env=None)
        with server.client() as client:
            assert client.cmd("DBSIZE") == 2001
