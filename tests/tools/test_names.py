"""The server under the names that Debian's package gives to one binary."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import run
from support import Client, basalt_binary, free_port


@pytest.fixture
def links(tmp_path: Path) -> Path:
    for name in ("redis-server", "redis-check-rdb", "redis-check-aof", "basalt-check-rdb"):
        (tmp_path / name).symlink_to(Path(basalt_binary()).resolve())
    return tmp_path


def test_the_version_line_is_taken_apart_as_redis_is(links: Path) -> None:
    """Scripts take the word after `v=`, and pairs behind it."""
    real = run([shutil.which("redis-server"), "--version"], links).text
    for option in ("-v", "--version"):
        ours = run([str(links / "redis-server"), option], links)
        assert ours.code == 0
        assert re.search(r"v=([0-9.]+) ", ours.text)[1] == "7.4.0"
        assert re.sub(r"=\S+", "=", ours.text) == re.sub(r"=\S+", "=", real)
    assert run([basalt_binary(), "--version"], links).text.startswith("Basalt server v=")


def test_help_is_where_redis_has_it(links: Path) -> None:
    ours, real = (run([path, "--help"], links) for path in (str(links / "redis-server"), shutil.which("redis-server")))
    assert (ours.code, ours.out) == (real.code, real.out)
    assert ours.err.startswith(b"Usage: ./redis-server [/path/to/redis.conf]")
    assert run([basalt_binary(), "--help"], links).code == 0


def test_it_serves_under_the_name(links: Path) -> None:
    port = free_port()
    process = subprocess.Popen([str(links / "redis-server"), "--port", str(port), "--save", "", "--bind", "127.0.0.1"], cwd=links,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        for line in process.stdout:
            if b"Ready to accept connections" in line:
                break
        with Client(port) as client:
            assert client.cmd("PING") == b"PONG"
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_the_tools_are_in_the_server(links: Path) -> None:
    (links / "f.rdb").write_bytes(b"REDIS0010\xff" + bytes(8))
    done = run([str(links / "redis-check-rdb"), "f.rdb"], links)
    assert done.code == 0 and done.text.startswith("[offset 0] Checking RDB file f.rdb\n")
    assert "Sections" not in done.text
    assert "Sections" in run([str(links / "basalt-check-rdb"), "f.rdb"], links).text
    (links / "f.aof").write_bytes(b"*1\r\n$4\r\nPING\r\n")
    done = run([str(links / "redis-check-aof"), "f.aof"], links)
    assert done.code == 0 and "AOF f.aof is valid" in done.text
    assert run([str(links / "redis-check-aof")], links).text.startswith("Usage: redis-check-aof ")
