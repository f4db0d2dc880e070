"""Every file of commands and replies, against real Redis (which proves the file) and against ours.

CONFORMANCE_TARGETS picks servers: a comma-separated list of redis, redis-new, basalt-1, basalt-2,
basalt-8 (or any other number of shards). Default: redis 7.0, the newest Redis if it is there, ours at 1, 2 and 8.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .runner import Target, run_file
from support import Server, peer_binary

HERE = Path(__file__).resolve().parent
FILES = sorted(p for p in HERE.rglob("*.resp") if "canary" not in p.parts)
FAILURES_SHOWN = 25


def target_names() -> list[str]:
    chosen = os.environ.get("CONFORMANCE_TARGETS")
    if chosen:
        return [name.strip() for name in chosen.split(",") if name.strip()]
    newest = ["redis-new"] if peer_binary() else []
    return ["redis", *newest, "basalt-1", "basalt-2", "basalt-8"]


@pytest.fixture(scope="module")
def target(request: pytest.FixtureRequest):
    kind, _, shards = request.param.partition("basalt-")
    server = Server("basalt", shards=int(shards), config="") if shards else Server(kind, config="")
    running = Target(request.param, server, int(shards or 1))
    yield running
    running.close()


@pytest.mark.parametrize("target", target_names(), indirect=True, scope="module")
@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(HERE)))
def test_file(target: Target, path: Path) -> None:
    failures = run_file(target, path)
    if failures:
        shown = "\n".join(map(str, failures[:FAILURES_SHOWN]))
        pytest.fail(f"{path.relative_to(HERE)} on {target.name}: {len(failures)} wrong\n{shown}", pytrace=False)
