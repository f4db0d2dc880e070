"""The stock servers: Redis 7.0 always, the newest Redis and Valkey when PEERS_BIN (or the cache) has them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from support import peer_binary

STOCK = ["redis", *(["redis-new", "valkey-new"] if peer_binary("redis-server") and peer_binary("valkey-server") else [])]


@pytest.fixture(params=STOCK)
def stock(request: pytest.FixtureRequest) -> str:
    """A kind of Server that is not ours."""
    return request.param


def check_tool(stock: str, what: str, path: Path) -> str:
    """Output of `redis-check-rdb` or `redis-check-aof` (`what`: rdb, aof) of that server on a file it must accept."""
    program = {"redis": f"redis-check-{what}", "redis-new": f"redis-check-{what}", "valkey-new": f"valkey-check-{what}"}[stock]
    binary = shutil.which(program) if stock == "redis" else peer_binary(program)
    assert binary, f"{program} is missing"
    done = subprocess.run([binary, str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
