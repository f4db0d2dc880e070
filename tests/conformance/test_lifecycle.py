"""What a file of commands cannot say: SHUTDOWN, and configuration that outlives the process."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import ConnectionClosed, ReplyError, Server, dump_state

from .test_conformance import target_names


def new_server(name: str, **options: object) -> Server:
    kind, _, shards = name.partition("basalt-")
    return Server("basalt", shards=int(shards), **options) if shards else Server(kind, **options)


@pytest.fixture(params=target_names())
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def shut_down(server: Server, *options: str) -> int:
    """Sends SHUTDOWN, which answers by closing; the exit status."""
    with server.client() as client:
        client.send("SHUTDOWN", *options)
        with pytest.raises(ConnectionClosed):
            client.recv()
    return server.wait_exit(20)


@pytest.mark.parametrize("options", [(), ("NOSAVE",), ("nosave", "now")], ids=" ".join)
def test_shutdown_without_save_points_saves_nothing(name: str, options: tuple[str, ...]) -> None:
    with new_server(name) as server:
        with server.client() as client:
            client.cmd("SET", "k", "v")
        assert shut_down(server, *options) == 0
        assert not (server.dir / "dump.rdb").exists()


@pytest.mark.parametrize("options", [("SAVE",), ("save", "force")], ids=" ".join)
def test_shutdown_save_keeps_the_data(name: str, options: tuple[str, ...]) -> None:
    with new_server(name) as server:
        with server.client() as client:
            client.cmd("SET", "k", "v")
            client.cmd("RPUSH", "l", "a", "b")
            before = dump_state(client)
        assert shut_down(server, *options) == 0
        server.start()
        with server.client() as client:
            assert dump_state(client) == before


def test_shutdown_with_save_points_saves(name: str) -> None:
    with new_server(name, save="3600 1") as server:
        with server.client() as client:
            client.cmd("SET", "k", "v")
        assert shut_down(server) == 0
        server.start()
        with server.client() as client:
            assert client.cmd("GET", "k") == b"v"


def test_sigterm_saves_when_there_are_save_points(name: str) -> None:
    with new_server(name, save="3600 1") as server:
        with server.client() as client:
            client.cmd("SET", "k", "v")
        assert server.stop() == 0
        server.start()
        with server.client() as client:
            assert client.cmd("GET", "k") == b"v"


@pytest.mark.parametrize(
    "arguments, error",
    [
        (("FOO",), "ERR syntax error"),
        (("SAVE", "NOSAVE"), "ERR syntax error"),
        (("ABORT", "NOW"), "ERR syntax error"),
        (("ABORT",), "ERR No shutdown in progress."),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_shutdown_refused(name: str, arguments: tuple[str, ...], error: str) -> None:
    with new_server(name) as server, server.client() as client:
        assert client.call("SHUTDOWN", *arguments) == ReplyError(error)
        assert client.cmd("PING") == b"PONG"


def test_config_rewrite_outlives_the_process(name: str) -> None:
    config = "# kept comment\ntimeout 5\nmaxmemory 10mb\n"
    with new_server(name, config=config) as server:
        path = Path(server.dir) / "server.conf"
        with server.client() as client:
            client.cmd("CONFIG", "SET", "timeout", "77", "maxmemory", "20mb", "hash-max-listpack-entries", "99")
            client.cmd("CONFIG", "REWRITE")
        text = path.read_text()
        assert "# kept comment" in text
        assert text.count("timeout 77") == 1 and "timeout 5" not in text
        assert "maxmemory 20mb" in text
        assert "hash-max-listpack-entries 99" in text
        server.restart()
        with server.client() as client:
            for directive, value in (("timeout", b"77"), ("maxmemory", b"20971520"), ("hash-max-listpack-entries", b"99")):
                assert client.cmd("CONFIG", "GET", directive)[1] == value


def test_config_rewrite_without_a_file(name: str) -> None:
    with new_server(name) as server, server.client() as client:
        assert client.call("CONFIG", "REWRITE") == ReplyError("ERR The server is running without a config file")


def test_directives_on_the_command_line(name: str) -> None:
    with new_server(name, config="timeout 5\n", timeout=9, save=("900", "1"), databases=4) as server:
        with server.client() as client:
            assert client.cmd("CONFIG", "GET", "timeout")[1] == b"9"
            assert client.cmd("CONFIG", "GET", "save")[1] == b"900 1"
            assert client.call("SELECT", 4) == ReplyError("ERR DB index is out of range")


def test_debug_is_refused_unless_allowed(name: str) -> None:
    with new_server(name, enable_debug_command="no") as server, server.client() as client:
        reply = client.call("DEBUG", "SLEEP", "0")
        assert isinstance(reply, ReplyError)
        assert reply.text.startswith("ERR DEBUG command not allowed. If the enable-debug-command option")
