"""The tour of README.md is run as written, with the shipped configuration; only the port is another."""

from __future__ import annotations

import os
import re
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import Server

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
TIMEOUT_S = 20


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def steps(block: str) -> list[tuple[str, str]]:
    """(command, expected output) of a console block."""
    return [(command, output) for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    config = (ROOT / "config" / "basalt.conf").read_text()
    with Server("basalt", dir=tmp_path_factory.mktemp("data"), config=config, save=None, appendonly=None,
                enable_debug_command=None, bind=None) as running:
        yield running


def in_terminal(command: str, server: Server, folder: Path) -> str:
    """Output of a shell command whose standard output is a terminal, with redis-cli talking to `server`."""
    folder.mkdir(exist_ok=True)
    wrapper = folder / "redis-cli"
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("redis-cli")} -p {server.port} "$@"\n')
    wrapper.chmod(0o755)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(["bash", "-c", command], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
                               env={**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "TERM": "dumb"})
    os.close(theirs)
    output = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # EIO: the last process on the other side is gone
            break
        if not data:
            break
        output += data
    os.close(ours)
    assert process.wait(TIMEOUT_S) == 0, output.decode()
    return output.decode().replace("\r\n", "\n")


def test_console_tour(server: Server, tmp_path: Path) -> None:
    tour = blocks("console")
    assert len(tour) >= 3
    kills = 0
    for block in tour:
        for command, expected in steps(block):
            if command.startswith("kill -9 "):
                in_terminal(command, server, tmp_path / "bin")
                server.wait_exit(TIMEOUT_S)
                server.start()
                kills += 1
                continue
            assert in_terminal(command, server, tmp_path / "bin") == expected, command
            if "BGSAVE" in command:
                wait_for_snapshot(server)
    assert kills == 1


def wait_for_snapshot(server: Server) -> None:
    import time

    deadline = time.monotonic() + TIMEOUT_S
    with server.client() as client:
        while b"rdb_bgsave_in_progress:1" in client.cmd("INFO", "persistence"):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_python_tour(server: Server, tmp_path: Path) -> None:
    tour = blocks("python")
    assert tour
    for number, block in enumerate(tour):
        script = tmp_path / f"tour{number}.py"
        assert "port=6379" in block
        script.write_text(block.replace("port=6379", f"port={server.port}"))
        for _ in range(2):  # a reader may run it twice
            done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
