"""I/O backends: which one serves where io_uring is forbidden, both at work, and neither when idle."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from crash.faults import without_io_uring
from support import Server, ServerDied


def _has_io_uring() -> bool:
    with Server(io_backend="auto") as server:
        return "I/O backend: io_uring" in server.log()


def _at_work(server: Server) -> None:
    """Many connections, deep pipelines, large values, half requests."""
    clients = [server.client() for _ in range(50)]
    for number, client in enumerate(clients):
        client.send("SET", f"key:{number}", number)
    for client in clients:
        assert client.recv() == b"OK"
    replies = clients[0].pipeline([("INCR", "counter") for _ in range(5000)])
    assert replies == list(range(1, 5001))
    large = bytes(range(256)) * 20_000
    assert clients[1].cmd("SET", "large", large) == b"OK"
    for client in clients[:4]:
        assert client.cmd("GET", "large") == large
    clients[2].send_raw(b"*2\r\n$3\r\nGET\r\n$5\r\nke")
    clients[3].send_raw(b"*2\r\n$3\r\nGET\r\n$5\r\nke")
    clients[3].close()
    clients[2].send_raw(b"y:7\r\nPING\r\n")
    assert clients[2].recv() == b"7"
    assert clients[2].recv() == b"PONG"
    clients[4].send_raw(b"*1\r\n$x\r\n")
    assert "Protocol error" in clients[4].recv().text
    assert clients[4].closed_by_server(5)
    assert clients[5].cmd("MGET", *(f"key:{n}" for n in range(50))) == [str(n).encode() for n in range(50)]
    for client in clients:
        client.close()


@pytest.mark.parametrize("backend", ["auto", "epoll", "io_uring"])
@pytest.mark.parametrize("shards", [1, 3])
def test_backends_at_work(backend: str, shards: int):
    if backend == "io_uring" and not _has_io_uring():
        with pytest.raises(ServerDied):
            Server(io_backend=backend).start(10)
        return
    with Server(io_backend=backend, shards=shards) as server:
        _at_work(server)


def test_where_io_uring_is_forbidden_epoll_serves(tmp_path: Path):
    with Server(without_io_uring(tmp_path), io_backend="auto", appendonly="yes", shards=2) as server:
        assert "I/O backend: epoll" in server.log()
        _at_work(server)
        server.restart(crash=True)
        with server.client() as client:
            assert client.cmd("GET", "counter") == b"5000"


@pytest.mark.parametrize("directive", ["io_backend", "storage_backend"])
def test_what_needs_io_uring_is_refused_where_it_is_forbidden(directive: str, tmp_path: Path):
    value = {"io_backend": "io_uring", "storage_backend": "glommio"}[directive]
    server = Server(without_io_uring(tmp_path), appendonly="yes", **{directive: value})
    try:
        with pytest.raises(ServerDied) as died:
            server.start(10)
        assert "io_uring" in str(died.value) and "BUG REPORT" not in str(died.value)
        assert server.wait_exit() == 1
    finally:
        server.close()


def _cpu_seconds(pid: int) -> float:
    """Processor time of all threads, to the nanosecond."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9


@pytest.mark.parametrize("backend", ["auto", "epoll"])
@pytest.mark.parametrize("shards", [2, 8])
def test_an_idle_server_uses_no_processor_to_speak_of(backend: str, shards: int):
    with Server(io_backend=backend, shards=shards, appendonly="yes", save=["60", "1"]) as server:
        clients = [server.client() for _ in range(20)]
        for client in clients:
            client.cmd("SET", "key", "value")
        began, before = time.monotonic(), _cpu_seconds(server.pid)
        # Doing nothing is what is measured.
        time.sleep(3)
        share = (_cpu_seconds(server.pid) - before) / (time.monotonic() - began)
        assert share < 0.03, f"{share:.2%} of a processor"
