"""A disk that fills up under the append-only file: writes are refused with a clear error, a write that could not be logged
is not acknowledged, reads go on, and when there is room again the server recovers by itself with all it acknowledged.

Each disk runs every test: one whose writes fail by preload, anywhere; a small tmpfs, real to the last byte, for root.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from crash.faults import BadDisk
from support import Client, ConnectionClosed, ReplyError, Server

PATIENCE = 30
ROOM = 1 << 20
VALUE = "v" * 500


class PreloadedDisk:
    """A write that does not fit is cut short, then fails."""

    def __init__(self, folder: Path):
        self.folder = folder / "data"
        self._flags = folder / "flags"
        self._flags.mkdir()
        self._disk = BadDisk("appendonlydir", self._flags)
        self.environment = self._disk.environment

    @contextlib.contextmanager
    def small(self):
        used = sum(path.stat().st_size for path in self.folder.glob("appendonlydir/*"))
        with self._disk.room(used + ROOM):
            yield

    def close(self) -> None:
        pass


class SmallTmpfs:
    """Nearly filled by a file that is removed to make room."""

    BYTES = 16 << 20

    def __init__(self, folder: Path):
        self.folder = folder / "tmpfs"
        self.folder.mkdir()
        self.environment: dict[str, str] = {}
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={self.BYTES}", "tmpfs", str(self.folder)], check=True)

    @contextlib.contextmanager
    def small(self):
        ballast, free = self.folder / "ballast", os.statvfs(self.folder)
        ballast.write_bytes(bytes(max(0, free.f_bavail * free.f_frsize - ROOM)))
        try:
            yield
        finally:
            ballast.unlink()

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=True)


@pytest.fixture(params=[PreloadedDisk] + ([SmallTmpfs] if os.geteuid() == 0 else []))
def disk(request, tmp_path: Path):
    disk = request.param(tmp_path)
    yield disk
    disk.close()


def _until(condition, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


class Writer(threading.Thread):
    """Writes one pipeline after another until one is refused; what is acknowledged counts."""

    DEPTH = 8

    def __init__(self, port: int, name: str):
        super().__init__(daemon=True)
        self.name = name
        self.acknowledged: list[int] = []
        self.refusal: str | None = None
        self.stopping = False
        self._client = Client(port, timeout=2 * PATIENCE)
        self.start()

    def commands(self, number: int) -> tuple:
        """Every other write goes to several shards."""
        if number % 2:
            return ("SET", f"{self.name}:{number}", VALUE)
        return ("MSET", *(word for part in "abc" for word in (f"{self.name}:{number}:{part}", number)))

    def run(self) -> None:
        number = 0
        with contextlib.suppress(ConnectionClosed, ConnectionError):
            while self.refusal is None and not self.stopping:
                self._client.send_many([self.commands(number + n) for n in range(self.DEPTH)])
                for n in range(self.DEPTH):
                    reply = self._client.recv()
                    if isinstance(reply, ReplyError):
                        self.refusal = reply.text
                    else:
                        self.acknowledged.append(number + n)
                number += self.DEPTH
        self._client.close()

    def check(self, client: Client) -> None:
        for number in self.acknowledged:
            _, *words = self.commands(number)
            expected = [str(word).encode() for word in words[1::2]]
            assert client.cmd("MGET", *words[::2]) == expected, f"{self.name} lost {number} of {len(self.acknowledged)}"


def _is_refusing(server: Server) -> bool:
    with server.client(timeout=1) as client:
        try:
            reply = client.call("SET", "probe", 1)
        except TimeoutError:
            return False  # It was let in before the disk was known to be full, and waits as a writer does.
    if not isinstance(reply, ReplyError):
        return False
    assert reply.text.startswith("MISCONF Errors writing to the AOF file: No space left on device"), reply.text
    return True


def _look_while_full(server: Server, writers: list[Writer]) -> None:
    with server.client(timeout=PATIENCE) as client:
        _until(lambda: "Error writing to the AOF file" in server.log(), f"the disk does not fill up: {[len(w.acknowledged) for w in writers]}")
        _until(lambda: _is_refusing(server), "writes are accepted for good")
        _until(lambda: isinstance(client.call("PING"), ReplyError), "PING does not tell")
        for writer in writers:
            if 1 in writer.acknowledged:
                assert client.cmd("GET", f"{writer.name}:1") == VALUE.encode()
        assert "aof_last_write_status:err" in client.cmd("INFO", "persistence").decode()
        assert client.call("MULTI") == b"OK"
        assert client.call("SET", "probe", 1).text.startswith("MISCONF")
        assert client.call("EXEC").text.startswith("EXECABORT")


@pytest.mark.parametrize("policy", ["always", "everysec", "no"])
def test_a_full_disk_under_the_append_only_file(policy: str, disk):
    with Server(dir=disk.folder, env=disk.environment, appendonly="yes", appendfsync=policy, shards=3,
                auto_aof_rewrite_percentage=0) as server:
        kept: list[Writer] = []
        for round in range(2):
            with disk.small():
                writers = [Writer(server.port, f"{round}:{n}") for n in range(3)]
                kept += writers
                _look_while_full(server, writers)
            # What was in flight is acknowledged or refused, and all goes on.
            for writer in writers:
                writer.stopping = True
            for writer in writers:
                writer.join(PATIENCE)
                assert not writer.is_alive(), "a reply never came"
            with server.client(timeout=PATIENCE) as client:
                _until(lambda: client.call("SET", "after", round) == b"OK", "writes are refused for good")
                assert "aof_last_write_status:ok" in client.cmd("INFO", "persistence").decode()
                for writer in kept:
                    writer.check(client)
            _until(lambda: "AOF write error looks solved" in server.log(), "the log does not say that it is over")
        server.restart(crash=True)
        with server.client() as client:
            assert client.cmd("GET", "after") == b"1"
            for writer in kept:
                writer.check(client)
        assert "BUG REPORT" not in server.log()


@pytest.mark.parametrize("policy", ["always", "everysec"])
def test_kill_while_the_disk_is_full(policy: str, disk):
    with Server(dir=disk.folder, env=disk.environment, appendonly="yes", appendfsync=policy, shards=3,
                auto_aof_rewrite_percentage=0) as server:
        with disk.small():
            writers = [Writer(server.port, f"0:{n}") for n in range(3)]
            _look_while_full(server, writers)
            server.kill()
            for writer in writers:
                writer.join(PATIENCE)
        server.start()
        with server.client() as client:
            for writer in writers:
                writer.check(client)
            assert client.cmd("SET", "after", 1) == b"OK"


@pytest.mark.parametrize("by_force", [False, True])
def test_a_stop_while_the_disk_is_full(by_force: bool, disk):
    """It would lose what is in memory alone, and is refused; by force it loses nothing that was acknowledged."""
    with Server(dir=disk.folder, env=disk.environment, appendonly="yes", appendfsync="everysec", shards=3,
                auto_aof_rewrite_percentage=0) as server:
        with disk.small():
            writers = [Writer(server.port, f"0:{n}") for n in range(3)]
            _look_while_full(server, writers)
            with server.client(timeout=PATIENCE) as client:
                if by_force:
                    client.send("SHUTDOWN", "FORCE")
                    assert server.wait_exit() == 0
                else:
                    assert client.call("SHUTDOWN").text.startswith("ERR Errors trying to SHUTDOWN")
                    server.signal(signal.SIGTERM)
                    _until(lambda: server.log().count("The AOF could not be written, can't exit.") == 2, "nothing is said")
                    assert client.cmd("EXISTS", "0:0:1") in (0, 1)
        for writer in writers:
            writer.stopping = True
        for writer in writers:
            writer.join(PATIENCE)
        server.stop()
        server.start()
        with server.client() as client:
            for writer in writers:
                writer.check(client)
