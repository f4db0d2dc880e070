"""`supervised`: what systemd and upstart are told, and when. Where Redis is built for systemd, it is told the same."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from support import Server

PATIENCE = 30


class Manager:
    """systemd's end of NOTIFY_SOCKET: collects the assignments in order."""

    def __init__(self, name: str):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + name[1:] if name.startswith("@") else name)
        self.socket.settimeout(PATIENCE)
        self.heard: list[str] = []

    def wait_for(self, *wanted: str) -> list[str]:
        """Listens until all of `wanted` were heard; everything heard since the last call."""
        missing = set(wanted)
        new: list[str] = []
        while missing:
            lines = self.socket.recv(4096).decode().splitlines()
            new += lines
            missing -= set(lines)
        self.heard += new
        return new

    def nothing_more(self) -> bool:
        self.socket.settimeout(0)
        try:
            return not self.socket.recv(4096)
        except BlockingIOError:
            return True


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path) -> tuple[Manager, str]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@basalt-test-{os.getpid()}-{time.monotonic_ns()}"
    return Manager(name), name


def supervised_by(server: Server) -> str:
    with server.client() as client:
        info = client.cmd("INFO", "server").decode()
    return info.split("process_supervised:")[1].split("\r")[0]


@pytest.mark.parametrize("how", ["systemd", "auto"])
def test_systemd_hears_of_loading_readiness_and_the_end(manager, how: str) -> None:
    listener, name = manager
    with Server("basalt", supervised=how, daemonize="yes", save=["60", "1"], env={"NOTIFY_SOCKET": name}) as server:
        heard = listener.wait_for("READY=1")
        assert heard[0] == "STATUS=Basalt is loading..."
        assert "STATUS=Ready to accept connections" in heard
        assert supervised_by(server) == "systemd"
        with server.client() as client:
            assert f"process_id:{server.pid}\r".encode() in client.cmd("INFO", "server"), "it went into the background"
        server.signal(signal.SIGTERM)
        heard = listener.wait_for("STOPPING=1")
        assert heard == ["STATUS=Saving the final RDB snapshot", "STOPPING=1"]
        assert server.wait_exit() == 0
        assert listener.nothing_more()


def test_a_stop_that_fails_is_not_announced_as_one(tmp_path) -> None:
    """Behind STOPPING=1 systemd would kill the server after TimeoutStopSec, with the data that it could not save."""
    name = str(tmp_path / "notify")
    listener = Manager(name)
    folder = tmp_path / "data"
    with Server("basalt", dir=folder, supervised="systemd", save=["60", "1"], env={"NOTIFY_SOCKET": name}) as server:
        listener.wait_for("READY=1")
        # A folder that is not empty cannot be replaced by a file, not even by root.
        (folder / "dump.rdb").mkdir()
        (folder / "dump.rdb" / "in the way").touch()
        with server.client() as client:
            client.cmd("SET", "k", "v")
            assert "Errors trying to SHUTDOWN" in str(client.call("SHUTDOWN"))
            heard = listener.wait_for("STATUS=Error trying to save the DB, can't exit.")
            assert "STOPPING=1" not in heard
            assert client.cmd("GET", "k") == b"v"


def test_without_a_manager_it_serves_all_the_same() -> None:
    for how, variables in (("systemd", {}), ("upstart", {}), ("auto", {}), ("no", {"NOTIFY_SOCKET": "/nowhere/notify"})):
        with Server("basalt", supervised=how, env=variables) as server:
            assert supervised_by(server) == "no"
            assert ("not found!" in server.log()) == (how in ("systemd", "upstart"))


def test_a_socket_that_nobody_holds_is_reported(tmp_path) -> None:
    with Server("basalt", supervised="systemd", env={"NOTIFY_SOCKET": str(tmp_path / "nobody")}) as server:
        assert supervised_by(server) == "systemd"
        assert "systemd cannot be notified" in server.log()


@pytest.mark.parametrize("how", ["upstart", "auto"])
@pytest.mark.parametrize("kind", ["basalt", "redis"])
def test_upstart_sees_the_process_stop_once(kind: str, how: str) -> None:
    server = Server(kind, supervised=how, env={"UPSTART_JOB": "basalt", "NOTIFY_SOCKET": "/nowhere/notify"})
    try:
        server.spawn()
        deadline = time.monotonic() + PATIENCE
        while state_of(server.pid) != "T":
            assert server.running and time.monotonic() < deadline
            time.sleep(0.01)
        server.signal(signal.SIGCONT)
        server.wait_ready()
        assert supervised_by(server) == "upstart"
        assert state_of(server.pid) != "T"
    finally:
        server.signal(signal.SIGCONT)
        server.close()


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
