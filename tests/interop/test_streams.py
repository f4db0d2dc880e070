"""Streams with all that belongs to them: digests, groups, deliveries and their times, from ours to stock servers and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import content
from .conftest import check_tool
from .test_aof import rewrite
from support import Server
from support.state import stream_info

KEYS = ("stream", "stream:long", "stream:empty", "stream:emptied")


def facts(server: Server) -> dict:
    with server.client(timeout=60) as client:
        return {key: (client.cmd("DEBUG", "DIGEST-VALUE", key), stream_info(client, key)) for key in KEYS}


def times(server: Server) -> list:
    """When the consumers of `stream` were seen and active."""
    with server.client() as client:
        full = client.cmd("XINFO", "STREAM", "stream", "FULL")
    groups = full[full.index(b"groups") + 1]
    consumers = [consumer for group in groups for consumer in group[group.index(b"consumers") + 1]]
    return [[name, consumer[consumer.index(name) + 1]] for consumer in consumers for name in (b"seen-time", b"active-time")]


def fill(server: Server) -> None:
    with server.client() as client:
        content.run(client, [*content.streams()])


@pytest.mark.parametrize("source", ["basalt", "stock"])
def test_dumps(stock: str, source: str, tmp_path: Path) -> None:
    first, second = ("basalt", stock) if source == "basalt" else (stock, "basalt")
    with Server(first, dir=tmp_path) as server:
        fill(server)
        expected = facts(server)
        seen = times(server) if stock != "redis" else None
        with server.client() as client:
            client.cmd("SAVE")
            payloads = {key: client.cmd("DUMP", key) for key in KEYS}
    if source == "basalt":
        assert (tmp_path / "dump.rdb").read_bytes()[:9] == b"REDIS0010"
    with Server(second, dir=tmp_path) as server:
        assert facts(server) == expected
        assert seen is None or times(server) == seen
        with server.client() as client:
            if not (stock == "redis" and source == "stock") and stock != "valkey-new":
                for key, payload in payloads.items():
                    client.cmd("RESTORE", key, 0, payload, "REPLACE")
        assert facts(server) == expected


def test_idle_consumers_raise_the_version(stock: str, tmp_path: Path) -> None:
    with Server("basalt", shards=2, dir=tmp_path, rdb_verify="yes") as ours:
        fill(ours)
        with ours.client() as client:
            client.cmd("XGROUP", "CREATECONSUMER", "stream", "group", "dave")
            client.cmd("SAVE")
            payload = client.cmd("DUMP", "stream")
        expected, seen = facts(ours), times(ours)
        ours.restart(crash=True)
        assert (facts(ours), times(ours)) == (expected, seen)
    assert [b"active-time", -1] in seen
    assert (tmp_path / "dump.rdb").read_bytes()[:9] == b"REDIS0011" and payload[-10:-8] == b"\x0b\x00"
    if stock == "redis":
        return  # 7.0 reads version 10
    check_tool(stock, "rdb", tmp_path / "dump.rdb")
    with Server(stock, dir=tmp_path) as theirs:
        assert (facts(theirs), times(theirs)) == (expected, seen)


@pytest.mark.parametrize("preamble", ["yes", "no"])
@pytest.mark.parametrize("rewritten", [False, True], ids=["segments", "rewritten"])
def test_append_only_files(stock: str, rewritten: bool, preamble: str, tmp_path: Path) -> None:
    aof = {"dir": tmp_path, "appendonly": "yes", "aof_use_rdb_preamble": preamble}
    with Server("basalt", shards=3, **aof) as ours:
        fill(ours)
        expected = facts(ours)
        if rewritten:
            rewrite(ours)
        ours.restart(crash=True)
        assert facts(ours) == expected
        ours.stop()
    with Server(stock, **aof) as theirs:
        assert facts(theirs) == expected


def test_logs_of_stock_servers_with_trims(stock: str, tmp_path: Path) -> None:
    """They log an approximate trim as an exact one, and leave its LIMIT where it was."""
    aof = {"dir": tmp_path, "appendonly": "yes"}
    with Server(stock, stream_node_max_entries=10, **aof) as theirs:
        with theirs.client() as client:
            for i in range(1, 100):
                client.cmd("XADD", "stream", "MAXLEN", "~", 50, "LIMIT", 100, f"{i}-1", "f", i)
            client.cmd("XTRIM", "stream", "MINID", "~", "75", "LIMIT", 20)
            expected = client.cmd("XRANGE", "stream", "-", "+")
        theirs.stop()
    assert 1 < len(expected) < 60
    with Server("basalt", shards=2, **aof) as ours, ours.client() as client:
        assert client.cmd("XRANGE", "stream", "-", "+") == expected
