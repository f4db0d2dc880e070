"""Blocked clients under load and through crashes: who came first is served first, and every element
arrives once."""

from __future__ import annotations

import shutil
import time

import pytest

from support import Server, plain

from .workload import Workload, blocked

SERVERS = [(1, "auto"), (2, "auto"), (2, "message"), (8, "auto")]


@pytest.mark.parametrize("shards, cross_shard", SERVERS)
def test_every_element_arrives_once(shards: int, cross_shard: str) -> None:
    with Server("basalt", shards=shards, cross_shard=cross_shard) as server:
        load = Workload(server)
        load.start(*(load.consumer(i) for i in range(6)), *(load.mover(i) for i in range(6)))
        producers = [load.producer(f"p{i}", 400) for i in range(4)]
        load.start(*producers)
        load.join([w for w in load.workers if w.work in producers])
        load.over.set()
        load.join()
        got = [element for mine in load.got for element in mine]
        assert len(got) == len(set(got)), "an element arrived twice"
        assert sorted(got + load.left()) == sorted(load.pushed)
        assert len(got) > len(load.pushed) // 2, "nearly nobody was served"
        with server.client() as client:
            info = client.cmd("INFO", "clients").decode()
        assert "blocked_clients:0\r\n" in info
        assert "total_blocking_keys:0\r\n" in info
        assert "clients_in_timeout_table:0\r\n" in info


@pytest.mark.parametrize("kind, shards", [("basalt", 1), ("basalt", 2), ("basalt", 8), ("redis", 1)])
def test_who_came_first_is_served_first(kind: str, shards: int) -> None:
    with Server(kind, shards=shards) as server, server.client() as control:
        clients = [server.client() for _ in range(40)]
        # Some wait for another key as well, or by a move to a key of another shard.
        waits = [("BLPOP", "k", 0), ("BLPOP", "other", "k", 0), ("BLMOVE", "k", "to", "LEFT", "RIGHT", 0),
                 ("BLMPOP", 0, 2, "k", "more", "LEFT")]
        for i, client in enumerate(clients):
            client.send(*waits[i % len(waits)])
            _until(lambda: blocked(control) == i + 1)
        control.cmd("RPUSH", "k", *range(10))
        for i in range(10, len(clients)):
            control.cmd("RPUSH", "k", i)
        for i, client in enumerate(clients):
            reply = plain(client.recv())
            while isinstance(reply, list):
                reply = reply[-1]
            assert reply == str(i).encode(), f"client {i} was served {reply!r}"
        assert control.cmd("EXISTS", "k") == 0
        for client in clients:
            client.close()


def test_those_who_wait_at_busy_shards_are_served() -> None:
    """Moves between shards whose batons others nearly always hold."""
    with Server("basalt", shards=2) as server:
        load = Workload(server)
        rounds = 300

        # With two shards, `b` is in the first and `a` in the second.
        def traffic(client) -> None:
            while not load.over.is_set():
                client.pipeline([("SET", key, "x" * 512) for key in ("a", "b") for _ in range(100)])

        def mover(source: str, destination: str):
            def work(client) -> None:
                for _ in range(rounds):
                    assert client.cmd("BLMOVE", source, destination, "LEFT", "RIGHT", 0) is not None
            return work

        def feeder(client) -> None:
            for i in range(rounds):
                client.cmd("RPUSH", "start{b}", i)
                assert client.cmd("BLPOP", "end{b}", 15) == [b"end{b}", str(i).encode()]

        load.start(*[traffic] * 4)
        chain = [mover("start{b}", "middle{a}"), mover("middle{a}", "end{b}"), feeder]
        load.start(*chain)
        load.join([w for w in load.workers if w.work in chain])
        load.over.set()
        load.join()


@pytest.mark.parametrize("shards", [1, 2, 8])
@pytest.mark.parametrize("fsync", ["everysec", "always"])
def test_a_crash_loses_only_what_was_under_way(tmp_path, shards: int, fsync: str) -> None:
    with Server("basalt", shards=shards, dir=tmp_path / "data", appendonly="yes", appendfsync=fsync) as server:
        load = Workload(server)
        load.start(*(load.consumer(i) for i in range(6)), *(load.mover(i) for i in range(6)))
        load.start(*(load.producer(f"p{i}", 1_000_000) for i in range(4)))
        _until(lambda: sum(map(len, load.got)) > 300)
        load.killed = True
        server.kill()
        load.over.set()
        load.join()
        server.start()
        got = [element for mine in load.got for element in mine]
        left = load.left()
        assert len(set(got)) == len(got) and len(set(left)) == len(left)
        assert not set(got) & set(left), "what was taken is there again"
        assert set(got) | set(left) <= load.begun
        # The replies to six consumers may have been under way, each with up to three elements.
        lost = load.pushed - set(got) - set(left)
        assert len(lost) <= 6 * 3, lost
        with server.client() as client:
            before = {key: client.cmd("LRANGE", key, 0, -1) for key in client.cmd("KEYS", "*")}
        server.stop()
        shutil.copytree(tmp_path / "data" / "appendonlydir", tmp_path / "stock" / "appendonlydir")
    with Server("redis", dir=tmp_path / "stock", appendonly="yes") as stock, stock.client() as client:
        assert {key: client.cmd("LRANGE", key, 0, -1) for key in client.cmd("KEYS", "*")} == before


def _until(condition, timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it does not come to this"
        time.sleep(0.002)
