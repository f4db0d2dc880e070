"""The check tools under their own names and under Redis's, and the real ones beside them."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import basalt_binary, peer_binary

TIMEOUT_SECONDS = 120


@dataclass
class Done:
    code: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        return self.out.decode("utf-8", "backslashreplace")


def run(command: list[str], cwd: Path, answer: bytes = b"") -> Done:
    done = subprocess.run(command, cwd=cwd, input=answer, capture_output=True, timeout=TIMEOUT_SECONDS)
    return Done(done.returncode, done.stdout, done.stderr)


def our_tool(name: str) -> str:
    """`basalt-check-rdb` or `basalt-check-aof`, which lie beside the server."""
    server = basalt_binary()
    assert server, "build the server first"
    path = Path(server).with_name(name)
    assert path.exists(), f"{path} is missing: build all binaries"
    return str(path)


def real_tools(what: str) -> list[tuple[str, str]]:
    """Redis's tools that are here: (version, path). Redis 7.0 is always there."""
    debian = shutil.which(f"redis-check-{what}")
    assert debian, f"redis-check-{what} is missing"
    found = [("7.0", debian)]
    new = peer_binary(f"redis-check-{what}")
    return found + ([("8", new)] if new else [])


@pytest.fixture(scope="session")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with our tools under Redis's names."""
    folder = tmp_path_factory.mktemp("named")
    for what in ("rdb", "aof"):
        (folder / f"redis-check-{what}").symlink_to(our_tool(f"basalt-check-{what}"))
    return folder


def normal(out: bytes, version: str) -> bytes:
    """What may differ: log lines with their times, places in source files, what newer versions count, bytes that Redis
    shows from behind the end of a line, and 7.0's file name without its folder."""
    out = re.sub(rb"rdb\.c:\d+", b"rdb.c:0", out)
    out = re.sub(rb"(?m)^\d+:[CM] \d+ \w+ \d+ [\d:.]+ [*#-] ?", b"", out)
    out = out.replace(b"Terminating server after rdb file reading failure.\n", b"")
    out = out.replace(b"[info] 0 subexpires\n", b"")
    out = re.sub(rb"(Usage: )\S*/", rb"\1", out)
    out = re.sub(rb"got: 00\S*", b"got: 00", out)
    if version == "7.0":
        out = re.sub(rb"(Checking RDB file ).*/", rb"\1", out)
        out = re.sub(rb"(Reading type (?:19|2\d)) \(.*\)", rb"\1 (unknown)", out)
    return out
