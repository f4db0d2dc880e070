"""appendonlydir from ours to stock servers and back: before and after rewrites, in turns, in Redis 6's shape."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from . import content
from .conftest import check_tool
from .content import assert_same, state_of
from support import Server, encode_command

MANIFEST = Path("appendonlydir") / "appendonly.aof.manifest"


def rewrite(server: Server) -> None:
    """BGREWRITEAOF, waited for."""
    with server.client() as client:
        client.cmd("BGREWRITEAOF")
        wait_for_rewrite(client)


def wait_for_rewrite(client) -> None:
    deadline = time.monotonic() + 30
    while True:
        info = client.cmd("INFO", "persistence").decode()
        if "aof_rewrite_in_progress:0" in info and "aof_rewrite_scheduled:0" in info:
            assert "aof_last_bgrewrite_status:ok" in info
            return
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("preamble", ["yes", "no"])
@pytest.mark.parametrize("rewritten", [False, True], ids=["segments", "rewritten"])
@pytest.mark.parametrize("source", ["basalt-1", "basalt-4", "stock"])
def test_there_and_back(stock: str, source: str, rewritten: bool, preamble: str, tmp_path) -> None:
    aof = {"dir": tmp_path, "appendonly": "yes", "aof_use_rdb_preamble": preamble}
    if source == "stock":
        first, second = Server(stock, **aof), Server("basalt", shards=3, **aof)
    else:
        first, second = Server("basalt", shards=source.split("-")[1], **aof), Server(stock, **aof)
    with first:
        content.fill(first)
        if rewritten:
            rewrite(first)
        content.churn(first, 5)
        expected = state_of(first)
        first.stop()
    if first.is_basalt:
        check_tool(stock, "aof", tmp_path / MANIFEST)
    with second:
        assert_same(expected, second)


def test_in_turns(stock: str, tmp_path) -> None:
    """Each goes on with the files that the other left, rewriting or not."""
    kinds = ["basalt", stock, "basalt", "basalt", stock, stock, "basalt"]
    expected: dict | None = None
    for turn, kind in enumerate(kinds):
        # On the write path that leaves nothing in shared memory, where stock servers do not look after a kill.
        with Server(kind, shards=1 + turn % 4, dir=tmp_path, appendonly="yes", aof_write_path="write") as server:
            if expected is None:
                content.fill(server)
            else:
                assert_same(expected, server)
            content.churn(server, turn)
            if turn % 3 == 1:
                rewrite(server)
                content.churn(server, turn + 1)
            expected = state_of(server)
            if turn % 2:
                server.stop()
            else:
                server.kill()
        if not any(base.read_bytes().startswith(b"VALKEY") for base in (tmp_path / MANIFEST).parent.glob("*.base.rdb")):
            check_tool(stock, "aof", tmp_path / MANIFEST)  # valkey-check-aof refuses the bases of its own server


def test_other_numbers_of_shards(tmp_path) -> None:
    with Server("basalt", shards=4, dir=tmp_path, appendonly="yes") as server:
        content.fill(server)
        for turn, shards in enumerate((1, 8, 3, 2)):
            content.churn(server, turn)
            expected = state_of(server)
            server.restart(crash=turn % 2 == 0, shards=shards)
            assert_same(expected, server)


def test_transaction_over_shards_is_a_transaction_there(stock: str, tmp_path) -> None:
    with Server("basalt", shards=8, dir=tmp_path, appendonly="yes") as ours:
        with ours.client() as client:
            for round_ in range(50):
                client.cmd("MULTI")
                for key in range(16):
                    client.cmd("SET", f"key:{key}", round_)
                    client.cmd("RPUSH", f"list:{key}", round_)
                client.cmd("EXEC")
                client.cmd("MSET", *(word for key in range(16) for word in (f"mset:{key}", round_)))
        expected = state_of(ours)
        ours.stop()
    check_tool(stock, "aof", tmp_path / MANIFEST)
    with Server(stock, dir=tmp_path, appendonly="yes") as theirs:
        assert_same(expected, theirs)


@pytest.mark.parametrize("shape", ["commands", "preamble", "commands behind a preamble"])
def test_single_file_of_older_versions(shape: str, tmp_path) -> None:
    """`appendonly.aof` as Redis before 7 wrote it."""
    source = tmp_path / "source"
    with Server("redis", dir=source) as theirs:
        content.fill(theirs)
        with theirs.client() as client:
            client.cmd("SAVE")
        expected = state_of(theirs)
        folder = tmp_path / "old"
        folder.mkdir()
        data = b""
        if shape != "commands":
            data = (source / "dump.rdb").read_bytes()
        if shape != "preamble":
            with theirs.client() as client:
                client.cmd("SET", "tail", "of the file")
            expected = state_of(theirs) if data else {9: {k: e for k, e in state_of(theirs)[0].items() if k == b"tail"}}
            data += encode_command("SELECT", 0 if data else 9) + encode_command("SET", "tail", "of the file")
    (folder / "appendonly.aof").write_bytes(data)
    twin = tmp_path / "twin"
    shutil.copytree(folder, twin)
    with Server("redis", dir=twin, appendonly="yes") as theirs:
        assert_same(expected, theirs)
    with Server("basalt", shards=3, dir=folder, appendonly="yes") as ours:
        assert_same(expected, ours)
        with ours.client() as client:
            client.cmd("SET", "new", "write")
        expected = state_of(ours)
        ours.restart(crash=True)
        assert_same(expected, ours)
        ours.stop()
    with Server("redis", dir=folder, appendonly="yes") as theirs:
        assert_same(expected, theirs)


def test_only_a_dump_and_appendonly_yes(stock: str, tmp_path) -> None:
    """Stock Redis would start empty; we load the dump and make it the base."""
    with Server(stock, dir=tmp_path) as theirs:
        content.fill(theirs)
        with theirs.client() as client:
            client.cmd("SAVE")
        expected = state_of(theirs)
    with Server("basalt", shards=2, dir=tmp_path, appendonly="yes") as ours:
        assert_same(expected, ours)
        (tmp_path / "dump.rdb").unlink()
        content.churn(ours, 3)
        expected = state_of(ours)
        ours.restart(crash=True)
        assert_same(expected, ours)
        ours.stop()
    with Server(stock, dir=tmp_path, appendonly="yes") as theirs:
        assert_same(expected, theirs)


def test_switched_at_run_time(stock: str, tmp_path) -> None:
    with Server("basalt", shards=2, dir=tmp_path, aof_write_path="write") as ours:
        content.fill(ours)
        with ours.client() as client:
            client.cmd("CONFIG", "SET", "appendonly", "yes")
            wait_for_rewrite(client)
        content.churn(ours, 1)
        expected = state_of(ours)
        ours.restart(crash=True, appendonly="yes")
        assert_same(expected, ours)
        with ours.client() as client:
            client.cmd("CONFIG", "SET", "appendonly", "no")
            client.cmd("SET", "not in the log", 1)
            client.cmd("CONFIG", "SET", "appendonly", "yes")
            wait_for_rewrite(client)
            client.cmd("SET", "in the log", 1)
        expected = state_of(ours)
        ours.kill()
        check_tool(stock, "aof", tmp_path / MANIFEST)
        with Server(stock, dir=tmp_path, appendonly="yes") as theirs:
            assert_same(expected, theirs)
        ours.start()
        assert_same(expected, ours)


def test_100_mb_value(tmp_path) -> None:
    value = bytes(range(256)) * (100 << 12)
    with Server("basalt", shards=2, dir=tmp_path, appendonly="yes") as ours, ours.client(timeout=60) as client:
        client.cmd("SET", "big", value)
        client.cmd("APPEND", "big", "end")
        client.cmd("HSET", "hash", "field", value)
        ours.stop()
    with Server("redis", dir=tmp_path, appendonly="yes") as theirs, theirs.client(timeout=60) as client:
        assert client.cmd("GET", "big") == value + b"end"
        assert client.cmd("HGET", "hash", "field") == value
        client.cmd("APPEND", "big", "!")
    with Server("basalt", shards=3, dir=tmp_path, appendonly="yes") as ours, ours.client(timeout=60) as client:
        assert client.cmd("GET", "big") == value + b"end!"


def test_appenddirname_and_appendfilename(tmp_path) -> None:
    names = {"appenddirname": "logs", "appendfilename": "store.aof", "appendonly": "yes"}
    with Server("basalt", shards=2, dir=tmp_path, **names) as ours:
        content.fill(ours)
        expected = state_of(ours)
        ours.stop()
    assert (tmp_path / "logs" / "store.aof.manifest").exists()
    with Server("redis", dir=tmp_path, **names) as theirs:
        assert_same(expected, theirs)
