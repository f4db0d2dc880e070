"""Rewrites of the AOF that fail at any step, that do not fit, or that are the first of an AOF being switched on: nothing
acknowledged is lost, nothing piles up, and the next one that can succeed does."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from pathlib import Path

import pytest

from crash.faults import BadDisk
from crash.test_kill import chance  # noqa: F401 (a fixture)
from crash.test_snapshot_failures import children, info, until
from support import Client, ConnectionClosed, ReplyError, Server

# No rewrite by itself, and no second try of a failed one within the test.
MANUAL = {"appendonly": "yes", "shards": 2, "auto_aof_rewrite_percentage": 0}


def rewrite(client: Client) -> dict[str, str]:
    """Runs one to its end."""
    began = client.call("BGREWRITEAOF")
    assert began == b"Background append only file rewriting started" or isinstance(began, ReplyError)
    until(lambda: info(client)["aof_rewrite_in_progress"] == "0", "the child hangs")
    return info(client)


def files(server: Server) -> list[str]:
    return sorted(os.listdir(server.dir / "appendonlydir"))


def named_files(server: Server) -> set[str]:
    lines = (server.dir / "appendonlydir" / "appendonly.aof.manifest").read_text().splitlines()
    return {line.split()[1] for line in lines if line.startswith("file ")}


def assert_tidy(server: Server) -> None:
    """The manifest's files are there, and no others, as soon as no manifest is being stored: segments may be merged meanwhile."""
    until(lambda: set(files(server)) - {"appendonly.aof.manifest"} == named_files(server), "files are left")


@pytest.mark.parametrize("part, fault", [
    ("incr.aof", "open"), ("temp-appendonly.aof.manifest", "open"), ("temp-appendonly.aof.manifest", "full"),
    ("temp-appendonly.aof.manifest", "unsynced"), ("temp-appendonly.aof.manifest", "rename"), ("temp-rewriteaof", "open"),
    ("temp-rewriteaof", "full"), ("temp-rewriteaof", "io"), ("temp-rewriteaof", "unsynced"), ("base.rdb", "rename"),
])
@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_a_step_fails(part: str, fault: str, preamble: str, tmp_path: Path):
    if part == "base.rdb" and preamble == "no":
        part = "base.aof"
    disk = BadDisk(part, tmp_path)
    with Server(**MANUAL, aof_use_rdb_preamble=preamble, env=disk.environment) as server, server.client() as client:
        client.pipeline([("SET", f"key:{n}", n) for n in range(1000)])
        assert rewrite(client)["aof_last_bgrewrite_status"] == "ok"
        client.cmd("SET", "after", 0)
        for attempt in range(1, 4):
            with disk.failing(fault):
                state = rewrite(client)
                assert state["aof_last_bgrewrite_status"] == "err"
                assert state["aof_last_bgrewrite_error"] in server.log() and state["aof_last_bgrewrite_error"]
                assert state["aof_rewrites_consecutive_failures"] == str(attempt)
            assert client.cmd("INCR", "after") == attempt
            assert_tidy(server)
        server.restart(crash=True)
        with server.client() as again:
            assert again.cmd("DBSIZE") == 1001 and again.cmd("GET", "after") == b"3"
            assert rewrite(again)["aof_last_bgrewrite_status"] == "ok"
            assert len(files(server)) == 4
            assert_tidy(server)
        server.stop()
        with Server("redis", dir=server.dir, appendonly="yes") as redis, redis.client() as again:
            assert again.cmd("DBSIZE") == 1001 and again.cmd("GET", "after") == b"3"


def test_fifty_failures_leave_no_fifty_generations(tmp_path: Path):
    disk = BadDisk("temp-rewriteaof", tmp_path)
    with Server(**MANUAL, env=disk.environment) as server, server.client() as client:
        client.cmd("MSET", "a", 0, "b", 0, "c", 0)
        with disk.failing("full"):
            most = 0
            for n in range(50):
                assert rewrite(client)["aof_last_bgrewrite_status"] == "err"
                client.cmd("MSET", "a", n, "b", n, "c", n)
                client.cmd("RPUSH", "list", n)
                most = max(most, len(files(server)))
        assert most <= 1 + 2 * 4, f"{most} files"
        assert_tidy(server)
        server.restart(crash=True)
        with server.client() as again:
            assert again.cmd("MGET", "a", "b", "c") == [b"49"] * 3
            assert again.cmd("LRANGE", "list", 0, -1) == [str(n).encode() for n in range(50)]
        server.stop()
        with Server("redis", dir=server.dir, appendonly="yes") as redis, redis.client() as again:
            assert again.cmd("LRANGE", "list", 0, -1) == [str(n).encode() for n in range(50)]


def test_a_full_disk_for_a_while_does_not_begin_a_rewrite_without_end(tmp_path: Path):
    """An AOF that cannot be switched on is tried again, but not all the time."""
    disk = BadDisk("temp-rewriteaof", tmp_path)
    with Server(shards=2, env=disk.environment) as server, server.client() as client:
        client.cmd("SET", "a", 1)
        with disk.failing("full"):
            client.cmd("CONFIG", "SET", "appendonly", "yes")
            until(lambda: int(info(client)["aof_rewrites_consecutive_failures"]) >= 2, "it is not tried again")
            assert "will retry in 1 seconds" in server.log()
            time.sleep(1)
            assert int(info(client)["aof_rewrites_consecutive_failures"]) <= 4, "it is tried all the time"
            assert len([name for name in files(server) if "incr" in name]) <= 2
            client.cmd("CONFIG", "SET", "appendonly", "no")
            assert files(server) == [], "what was begun is left"
        client.cmd("CONFIG", "SET", "appendonly", "yes")
        until(lambda: len(files(server)) == 4 and info(client)["aof_rewrite_in_progress"] == "0", "it is not tried again")
        assert_tidy(server)


def _write(port: int, acknowledged: list[int], stop: threading.Event) -> None:
    try:
        with Client(port) as client:
            while not stop.is_set():
                n = len(acknowledged)
                client.cmd("SET", f"n:{n}", n)
                acknowledged.append(n)
    except (ConnectionClosed, ConnectionError, OSError):
        pass


def test_a_kill_while_the_aof_is_switched_on(tmp_path: Path, chance: random.Random):
    """Whenever it is: the next start finds the snapshot, or the AOF with all that was acknowledged since it was in force."""
    slow = {**BadDisk("appendonlydir", tmp_path).environment, "FAULT_SLOW_PERCENT": "100", "FAULT_SLOW_MICROS": "20000"}
    for round_ in range(12):
        with Server(shards=2, env=slow, appendonly="no") as server:
            acknowledged: list[int] = []
            with server.client() as client:
                client.pipeline([("SET", f"old:{n}", n) for n in range(500)])
                client.cmd("SAVE")
                stop = threading.Event()
                writer = threading.Thread(target=_write, args=(server.port, acknowledged, stop))
                writer.start()
                client.cmd("CONFIG", "SET", "appendonly", "yes")
                in_force = -1
                deadline = time.monotonic() + chance.random() * 0.4
                while time.monotonic() < deadline:
                    state = info(client)
                    if in_force < 0 and state["aof_rewrite_in_progress"] == "0" and state["aof_last_bgrewrite_status"] == "ok":
                        in_force = len(acknowledged)
                server.kill()
            stop.set()
            writer.join(20)
            server.restart(appendonly="yes", env=None)
            with server.client() as client:
                assert client.cmd("GET", "old:499") == b"499", f"round {round_}"
                if in_force >= 0:
                    assert client.cmd("EXISTS", *(f"n:{n}" for n in acknowledged)) == len(acknowledged)
                assert client.cmd("SET", "goes", "on") == b"OK"
            assert not [name for name in files(server) if "temp" in name or "beginning" in name]
            assert_tidy(server)


def test_switching_on_and_off_under_load(tmp_path: Path, chance: random.Random):
    with Server(shards=2, appendonly="yes") as server:
        acknowledged: list[int] = []
        stop = threading.Event()
        writer = threading.Thread(target=_write, args=(server.port, acknowledged, stop))
        writer.start()
        with server.client() as client:
            for _ in range(6):
                client.cmd("CONFIG", "SET", "appendonly", "no")
                client.cmd("CONFIG", "SET", "aof-use-rdb-preamble", chance.choice(["yes", "no"]))
                client.cmd("CONFIG", "SET", "appendonly", "yes")
                until(lambda: info(client)["aof_rewrite_in_progress"] == "0", "the child hangs")
                assert info(client)["aof_last_bgrewrite_status"] == "ok"
            mark = len(acknowledged)
            until(lambda: len(acknowledged) > mark + 50, "the writer stands still")
        server.kill()
        stop.set()
        writer.join(20)
        server.start()
        with server.client() as client:
            assert client.cmd("EXISTS", *(f"n:{n}" for n in acknowledged)) == len(acknowledged)
        assert_tidy(server)


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 24 MB of its own."""
    if os.geteuid() != 0:
        pytest.skip("mounting takes root")
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"mount: {mounted.stderr.decode()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def _noise(n: int) -> bytes:
    return random.Random(n).randbytes(1000)


def test_what_would_not_fit_is_not_begun(small_disk: Path):
    with Server(dir=small_disk, shards=2, save=["3600", "1"]) as server, server.client() as client:
        client.pipeline([("SET", f"key:{n}", _noise(n)) for n in range(5000)])
        assert client.cmd("SAVE") == b"OK"
        good = (small_disk / "dump.rdb").read_bytes()
        (small_disk / "filling").write_bytes(bytes(15 << 20))
        client.cmd("SET", "one", "more")
        assert client.call("BGSAVE").text == "ERR"
        state = info(client)
        assert state["rdb_last_bgsave_status"] == "err" and state["rdb_refused_without_space"] == "1"
        assert "it would take about" in state["rdb_last_bgsave_error"] and state["rdb_last_bgsave_error"] in server.log()
        assert (small_disk / "dump.rdb").read_bytes() == good
        (small_disk / "filling").unlink()
        assert client.cmd("BGSAVE") == b"Background saving started"
        until(lambda: info(client)["rdb_last_bgsave_status"] == "ok", "snapshots fail for good")
        server.kill()


def test_an_automatic_rewrite_waits_for_space(small_disk: Path):
    with Server(dir=small_disk, **MANUAL) as server, server.client() as client:
        client.pipeline([("SET", f"key:{n}", _noise(n)) for n in range(5000)])
        assert rewrite(client)["aof_last_bgrewrite_status"] == "ok"
        (small_disk / "filling").write_bytes(bytes(12 << 20))
        client.pipeline([("SET", f"key:{n % 10}", _noise(n)) for n in range(3000)])
        assert "Can't execute" in client.call("BGREWRITEAOF").text
        assert info(client)["aof_rewrites_refused_without_space"] == "1"
        before = named_files(server)
        client.cmd("CONFIG", "SET", "auto-aof-rewrite-min-size", 1, "auto-aof-rewrite-percentage", 20)
        until(lambda: info(client)["aof_rewrite_waits_for_space"] == "1", "it is not due")
        assert info(client)["aof_rewrites_consecutive_failures"] == "1", "waiting is no failure"
        assert server.log().count("is due and waits") == 1
        assert named_files(server) == before and client.cmd("SET", "x", 1) == b"OK"
        (small_disk / "filling").unlink()
        until(lambda: info(client)["aof_rewrites"] == "2", "it is not tried again when there is space")
        assert info(client)["aof_rewrite_waits_for_space"] == "0" and not children(server)
        assert_tidy(server)
        server.kill()
