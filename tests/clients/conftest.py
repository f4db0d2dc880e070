"""One server per module: real Redis first, which proves the test, then ours."""

from __future__ import annotations

import pytest
import redis

from support import Server

TARGETS = {"redis": {"kind": "redis"}, "basalt-1": {"kind": "basalt", "shards": 1}, "basalt-4": {"kind": "basalt", "shards": 4}}


@pytest.fixture(scope="module", params=TARGETS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("server")
    running = Server(**TARGETS[request.param], dir=folder, unixsocket=folder / "s.sock")
    with running:
        yield running


@pytest.fixture(params=[2, 3], ids=["resp2", "resp3"])
def r(request: pytest.FixtureRequest, server: Server):
    """A client over an empty server."""
    with redis.Redis(port=server.port, protocol=request.param) as client:
        client.flushall()
        yield client
