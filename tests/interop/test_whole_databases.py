"""FLUSHALL, FLUSHDB and SWAPDB over many keys and several shards: a generation of the AOF to themselves, which stock
servers load in its place, and which can be taken out by hand."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from .content import assert_same, state_of
from .test_aof import rewrite, wait_for_rewrite
from support import Server

DIRECTORY = Path("appendonlydir")
MANIFEST = DIRECTORY / "appendonly.aof.manifest"
MANY = 3000


def fill(client, mark: str, count: int = MANY) -> None:
    client.pipeline([("SET", f"{mark}:{i}", i) for i in range(count)])


def files_with(folder: Path, text: bytes) -> list[Path]:
    return [path for path in sorted((folder / DIRECTORY).glob("*.incr.aof")) if text in path.read_bytes()]


@pytest.mark.parametrize("ending", ["stop", "kill"])
@pytest.mark.parametrize("command", [("FLUSHALL",), ("FLUSHDB",), ("SWAPDB", "0", "1"), ("FLUSHALL", "ASYNC")], ids="-".join)
def test_loaded_in_its_place(stock: str, command: tuple, ending: str, tmp_path) -> None:
    with Server("basalt", shards=3, dir=tmp_path, appendonly="yes") as server:
        with server.client() as client:
            fill(client, "zero")
            client.cmd("SELECT", "1")
            fill(client, "one", 10)
            client.cmd("SELECT", "0")
            assert client.cmd(*command) == b"OK"
            fill(client, "later", 50)
            client.cmd("SET", "zero:1", "again")
        files = files_with(tmp_path, command[0].encode())
        assert len(files) == 1 and files[0].stat().st_size < 500
        expected = state_of(server)
        if ending == "stop":
            server.stop()
        else:
            os.kill(server.process.pid, signal.SIGKILL)
            server.process.wait()
    with Server("basalt", shards=2, dir=tmp_path, appendonly="yes") as server:
        assert_same(expected, server)
        server.stop()
    with Server(stock, dir=tmp_path, appendonly="yes") as server:
        assert_same(expected, server)


def test_few_keys_are_logged_one_by_one(tmp_path) -> None:
    with Server("basalt", shards=3, dir=tmp_path, appendonly="yes") as server:
        with server.client() as client:
            fill(client, "few", 20)
            assert client.cmd("FLUSHALL") == b"OK"
            assert not files_with(tmp_path, b"FLUSHALL")


def test_errors_come_before_any_file(tmp_path) -> None:
    with Server("basalt", shards=3, dir=tmp_path, appendonly="yes") as server:
        with server.client() as client:
            fill(client, "zero")
            before = (tmp_path / MANIFEST).read_bytes()
            for command, text in [
                (("FLUSHALL", "NOW"), "ERR syntax error"),
                (("FLUSHDB", "SYNC", "ASYNC"), "ERR syntax error"),
                (("SWAPDB", "x", "1"), "ERR invalid first DB index"),
                (("SWAPDB", "0", "99"), "ERR DB index is out of range"),
            ]:
                [reply] = client.pipeline([command])
                assert str(reply) == text
            assert (tmp_path / MANIFEST).read_bytes() == before
            assert client.cmd("DBSIZE") == MANY


def test_during_a_rewrite_and_within_multi(tmp_path) -> None:
    with Server("basalt", shards=3, dir=tmp_path, appendonly="yes") as server:
        with server.client() as client:
            fill(client, "zero", 50_000)
            client.cmd("BGREWRITEAOF")
            assert client.cmd("FLUSHALL") == b"OK"
            fill(client, "later")
            client.cmd("MULTI")
            client.cmd("SET", "in-multi", "1")
            client.cmd("SWAPDB", "0", "2")
            assert client.cmd("EXEC") == [b"OK", b"OK"]
        with server.client() as client:
            wait_for_rewrite(client)
        rewrite(server)
        expected = state_of(server)
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        server.start()
        assert_same(expected, server)


def test_a_mistake_is_undone_by_taking_its_file_out(stock: str, tmp_path) -> None:
    with Server("basalt", shards=3, dir=tmp_path, appendonly="yes") as server:
        with server.client() as client:
            fill(client, "precious")
            expected = state_of(server)
            assert client.cmd("FLUSHALL") == b"OK"
        server.stop()
    [mistake] = files_with(tmp_path, b"FLUSHALL")
    manifest = (tmp_path / MANIFEST).read_text()
    kept = [line for line in manifest.splitlines() if mistake.name not in line and not line.startswith("#basalt files")]
    (tmp_path / MANIFEST).write_text("\n".join(kept) + "\n")
    for kind in (stock, "basalt"):
        with Server(kind, dir=tmp_path, appendonly="yes") as server:
            assert_same(expected, server)
            server.stop()
