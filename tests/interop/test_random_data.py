"""What random commands leave behind, through files to stock servers and back: DEBUG DIGEST stays the same."""

from __future__ import annotations

import pytest

from differential.generator import Generator, Kind, Script
from support import Server

STEPS = 4000
DATABASES = (0, 1, 2, 15)
OLDEST = (7, 0, 0)  # what the oldest stock server stores, all of them load


def play(server: Server, script: Script) -> int:
    """The plain commands of a script; how many did not fail."""
    with server.client(resp=script.resp, timeout=60) as client:
        done = 0
        for at in range(0, len(script.steps), 100):
            commands = [command for step in script.steps[at : at + 100] if step.kind is Kind.PLAIN and step.pause_after is None
                        for command in step.commands]
            done += sum(not isinstance(reply, Exception) for reply in client.pipeline(commands))
    return done


def digests(server: Server) -> list:
    """Of all keys, and how many there are in each database. 7.0 computes other digests than its successors: nothing in their place."""
    with server.client(timeout=60) as client:
        found = [client.cmd("DEBUG", "DIGEST") if server.version() >= (7, 2) else None]
        for db in DATABASES:
            client.cmd("SELECT", db)
            found.append(client.cmd("DBSIZE"))
    return found


def assert_digests(expected: list, server: Server) -> None:
    found = digests(server)
    assert found[1:] == expected[1:], server.kind
    assert found[0] in (None, expected[0]), server.kind


@pytest.mark.parametrize("seed", [1, 2])
def test_rdb_there_and_back(stock: str, seed: int, tmp_path) -> None:
    script = Generator(OLDEST).script(seed, STEPS)
    with Server("basalt", shards=2, dir=tmp_path) as server:
        assert play(server, script) > STEPS / 2
        expected = digests(server)
        assert sum(expected[1:]) > 20
        server.client().cmd("SAVE")
    for kind in (stock, "basalt", stock, "basalt"):
        with Server(kind, dir=tmp_path, shards=3) as server:
            assert_digests(expected, server)
            server.client().cmd("SAVE")


@pytest.mark.parametrize("seed", [3, 4])
def test_aof_there_and_back(stock: str, seed: int, tmp_path) -> None:
    script = Generator(OLDEST).script(seed, STEPS)
    with Server("basalt", shards=2, dir=tmp_path, appendonly="yes") as server:
        assert play(server, script) > STEPS / 2
        expected = digests(server)
        assert sum(expected[1:]) > 20
        server.stop()
    for kind in (stock, "basalt", stock, "basalt"):
        with Server(kind, dir=tmp_path, shards=3, appendonly="yes") as server:
            assert_digests(expected, server)
            server.stop()
