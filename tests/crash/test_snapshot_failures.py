"""Snapshots that fail at any step: the last good dump is as it was, nothing is left over, the server serves, and INFO and
the log say what failed and where. Then one that succeeds mends it."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from crash.faults import BadDisk, slow_writes
from crash.test_kill import chance  # noqa: F401 (a fixture)
from support import Client, ReplyError, Server

PATIENCE = 30
MISCONF = "MISCONF Redis is configured to save RDB snapshots"


def until(condition, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def info(client: Client, section: str = "persistence") -> dict[str, str]:
    lines = client.cmd("INFO", section).decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def fill(client: Client, keys: int = 3000) -> None:
    client.pipeline([("SET", f"key:{n}", f"{n}" * 50) for n in range(keys)])


def bgsave(client: Client) -> dict[str, str]:
    """Runs one to its end."""
    began = client.call("BGSAVE")
    assert began == b"Background saving started" or isinstance(began, ReplyError)
    until(lambda: info(client)["rdb_bgsave_in_progress"] == "0", "the child hangs")
    return info(client)


def children(server: Server) -> list[int]:
    pids: list[int] = []
    for task in Path(f"/proc/{server.pid}/task").iterdir():
        pids += map(int, (task / "children").read_text().split())
    return pids


@pytest.fixture
def disk(tmp_path: Path) -> BadDisk:
    return BadDisk(".rdb", tmp_path)


@pytest.mark.parametrize("fault, step", [
    ("open", "create"), ("full", "write|create"), ("io", "write|create"), ("unsynced", "fdatasync"), ("rename", "rename to"),
])
def test_a_step_fails(disk: BadDisk, fault: str, step: str):
    with Server(save=["3600", "1"], shards=2, env=disk.environment) as server, server.client() as client:
        fill(client)
        assert client.cmd("SAVE") == b"OK"
        good, saved_at = (server.dir / "dump.rdb").read_bytes(), client.cmd("LASTSAVE")
        client.cmd("SET", "one", "more")
        with disk.failing(fault):
            assert client.call("SAVE").text == "ERR"
            assert info(client)["rdb_last_bgsave_status"] == "ok", "as in Redis, SAVE tells who asked for it, and nobody else"
            after = bgsave(client)
            assert after["rdb_last_bgsave_status"] == "err"
            assert any(word in after["rdb_last_bgsave_error"] for word in step.split("|")), after["rdb_last_bgsave_error"]
            assert "temp-" in after["rdb_last_bgsave_error"] or "dump.rdb" in after["rdb_last_bgsave_error"]
            assert after["rdb_last_bgsave_error"] in server.log()
            assert after["rdb_changes_since_last_save"] == "1"
            assert client.call("SET", "x", 1).text.startswith(MISCONF)
            assert client.cmd("GET", "one") == b"more"
            assert client.cmd("LASTSAVE") == saved_at
        assert (server.dir / "dump.rdb").read_bytes() == good
        assert sorted(p.name for p in server.dir.glob("*rdb*")) == ["dump.rdb"], "something was left"
        assert bgsave(client)["rdb_last_bgsave_error"] == ""
        assert client.cmd("SET", "x", 1) == b"OK"
        server.restart(crash=True, env=None)
        with server.client() as again:
            assert again.cmd("GET", "one") == b"more"


def test_the_disk_is_full_at_any_byte(disk: BadDisk, chance: random.Random):
    with Server(shards=2, env=disk.environment, rdb_save_threads=2) as server, server.client() as client:
        fill(client, 5000)
        client.cmd("SAVE")
        good = (server.dir / "dump.rdb").read_bytes()
        for _ in range(12):
            with disk.full_after(chance.randrange(len(good))):
                assert bgsave(client)["rdb_last_bgsave_status"] == "err"
            assert (server.dir / "dump.rdb").read_bytes() == good
            assert sorted(p.name for p in server.dir.glob("*rdb*")) == ["dump.rdb"]
        assert bgsave(client)["rdb_last_bgsave_status"] == "ok"


def test_misconf_ends_by_configuration_or_by_a_good_save(disk: BadDisk):
    with Server(save=["3600", "1"], env=disk.environment) as server, server.client() as client:
        with disk.failing("full"):
            bgsave(client)
            assert client.call("SET", "x", 1).text.startswith(MISCONF)
            assert client.call("PING").text.startswith(MISCONF)
            client.cmd("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")
            assert client.cmd("SET", "x", 1) == b"OK"
            client.cmd("CONFIG", "SET", "stop-writes-on-bgsave-error", "yes")
            assert client.call("SET", "x", 1).text.startswith(MISCONF)
            client.cmd("CONFIG", "SET", "save", "")
            assert client.cmd("SET", "x", 1) == b"OK"
            client.cmd("CONFIG", "SET", "save", "3600 1")
            assert client.call("SET", "x", 1).text.startswith(MISCONF)
        assert client.cmd("SAVE") == b"OK"
        assert client.cmd("SET", "x", 1) == b"OK"


def test_the_directory_is_gone(tmp_path: Path):
    with Server(dir=tmp_path / "data", shards=2) as server, server.client() as client:
        fill(client, 10)
        (server.dir / "server.log").rename(tmp_path / "server.log")
        server.dir.rmdir()
        assert client.call("SAVE").text == "ERR"
        assert "No such file" in bgsave(client)["rdb_last_bgsave_error"]
        assert client.cmd("SET", "x", 1) == b"OK"
        server.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGUSR1])
def test_the_child_is_killed(number: signal.Signals):
    slow = slow_writes(".rdb", percent=100, micros=20_000_000)
    with Server(shards=2, env=slow) as server, server.client() as client:
        fill(client)
        client.cmd("BGSAVE")
        until(lambda: children(server), "no child")
        state = info(client)
        assert state["current_save_keys_total"] == "3000" and state["rdb_bgsave_in_progress"] == "1"
        os.kill(children(server)[0], number)
        until(lambda: info(client)["rdb_bgsave_in_progress"] == "0", "its end goes unnoticed")
        state = info(client)
        # As in Redis, SIGUSR1 ends a child without calling it failed.
        assert state["rdb_last_bgsave_status"] == ("ok" if number == signal.SIGUSR1 else "err")
        assert [state[f] for f in ("current_cow_size", "current_cow_peak", "current_save_keys_total")] == ["0"] * 3
        assert not list(server.dir.glob("temp*"))


def test_a_child_without_progress_is_given_up():
    slow = slow_writes(".rdb", percent=100, micros=60_000_000)
    with Server(shards=2, env=slow, child_progress_timeout=1) as server, server.client() as client:
        fill(client)
        after = bgsave(client)
        assert after["rdb_last_bgsave_status"] == "err"
        assert "no progress" in after["rdb_last_bgsave_error"]
        assert after["children_without_progress"] == "1"
        assert not children(server) and not list(server.dir.glob("temp*"))


@pytest.mark.parametrize("command, part", [("BGSAVE", ".rdb"), ("BGREWRITEAOF", "temp-rewriteaof")])
def test_a_killed_server_leaves_nothing_for_good(command: str, part: str):
    """Its child dies with it; what that had begun goes when the server starts again."""
    slow = slow_writes(part, percent=100, micros=60_000_000)
    with Server(shards=2, env=slow, appendonly="yes", auto_aof_rewrite_percentage=0) as server:
        temps = lambda: [*server.dir.glob("temp-*.rdb"), *server.dir.glob("appendonlydir/temp-rewrite*")]  # noqa: E731
        with server.client() as client:
            client.cmd("SET", "key", "x")
            client.cmd(command)
            until(lambda: len(temps()) == 1, "no child writes")
        server.kill()
        assert len(temps()) == 1
        of_another = server.dir / f"temp-{os.getpid()}.rdb"
        of_another.touch()
        server.start()
        assert temps() == [of_another]
        with server.client() as client:
            assert client.cmd("GET", "key") == b"x"


def test_what_was_written_is_read_back(disk: BadDisk):
    with Server(shards=2, env=disk.environment, rdb_verify="yes") as server, server.client() as client:
        fill(client)
        assert info(client)["rdb_last_verified_time"] == "0"
        after = bgsave(client)
        assert after["rdb_last_verified_time"] == after["rdb_last_save_time"] != "0"
        good = (server.dir / "dump.rdb").read_bytes()
        client.cmd("SET", "one", "more")
        with disk.failing("changed"):
            failed = bgsave(client)
            assert failed["rdb_last_bgsave_status"] == "err"
            assert "read back" in failed["rdb_last_bgsave_error"] and "not what was written" in failed["rdb_last_bgsave_error"]
            assert failed["rdb_last_verified_time"] == after["rdb_last_verified_time"]
            assert (server.dir / "dump.rdb").read_bytes() == good
            client.cmd("CONFIG", "SET", "rdb-verify", "no")
            assert bgsave(client)["rdb_last_bgsave_status"] == "ok", "nobody was to look"


def test_the_host_comes_first():
    """Writes all over the data while a child holds its copy: the snapshot is given up at the limit."""
    slow = slow_writes(".rdb", percent=100, micros=60_000_000)
    with Server(shards=2, env=slow, rdb_max_cow_bytes="8mb") as server, server.client() as client:
        client.pipeline([("SET", f"key:{n}", "v" * 900) for n in range(30_000)])
        client.cmd("BGSAVE")
        until(lambda: children(server), "no child")
        began = 0
        while info(client)["rdb_bgsave_in_progress"] == "1":
            client.pipeline([("SETRANGE", f"key:{n % 30_000}", 0, "w" * 900) for n in range(began, began + 500)])
            began += 500
            assert began < 3_000_000, "nobody cares"
        after = info(client)
        assert "rdb-max-cow-bytes" in after["rdb_last_bgsave_error"] and after["children_over_cow_limit"] == "1"
        assert int(after["rdb_last_cow_size"]) > 8 << 20
        assert client.cmd("DBSIZE") == 30_000
