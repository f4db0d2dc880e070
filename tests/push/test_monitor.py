"""MONITOR: what is shown, as what, and in which order."""

import re
import threading

import pytest

from support import Server, peer_binary

LINE = re.compile(rb"(\d+\.\d{6}) \[(\d+) (\S+)\] (.*)", re.S)
COMMANDS = [
    ["SET", "a", b"x\r\n\t\x07\x08\x00\xff\"\\"], ["get", "a"], ["NOSUCH"], ["GET"], ["LPUSH", "a", "b"], ["AUTH", "x"],
    ["AUTH", "u", "p"], ["HELLO", "2", "AUTH", "u", "p", "SETNAME", "n"], ["HELLO", "2"], ["MULTI"], ["SET", "q", "1"], ["CLIENT", "ID"],
    ["EXEC"], ["MULTI"], ["SET", "q", "1"], ["DISCARD"], ["CONFIG", "GET", "port"], ["CLIENT", "LIST"], ["INFO", "server"],
    ["DEBUG", "SLEEP", "0"], ["SELECT", "2"], ["SET", "in2", "1"], ["SELECT", "0"], ["MSET", "a", "1", "b", "2", "c", "3"],
    ["FLUSHALL"], ["PUBLISH", "a", "b"], ["WATCH", "k"], ["UNWATCH"], ["EVAL", "redis.call('set', KEYS[1], 'v') return 1", "1", "k"],
    ["RPUSH", "list", "x"], ["BLPOP", "list", "1"], ["SUBSCRIBE", "x"], ["UNSUBSCRIBE", "x"], ["ECHO", "end"],
]


def shown(kind, **directives):
    with Server(kind, **directives) as server:
        monitor, client = server.client(), server.client()
        assert monitor.cmd("MONITOR") == b"OK"
        client.send_many(COMMANDS)
        lines = []
        while not lines or lines[-1] != (b"0", True, b'"ECHO" "end"'):
            found = LINE.fullmatch(bytes(monitor.recv()))
            assert found, "a line of another form"
            lines.append((found[2], found[3] != b"lua", found[4]))
        return lines


@pytest.mark.skipif(not peer_binary(), reason="the newest Redis is not here")
@pytest.mark.parametrize("shards", [1, 2, 8])
def test_shows_what_redis_shows(shards):
    assert shown("basalt", shards=shards) == shown("redis-new")


@pytest.mark.parametrize("shards", [1, 4])
def test_shows_the_commands_of_a_key_in_the_order_of_their_effects(shards):
    """What monitors saw, run again, gives the same values."""
    with Server("basalt", shards=shards) as server:
        monitor, control = server.client(), server.client()
        monitor.cmd("MONITOR")

        def work(number):
            with server.client() as client:
                client.pipeline([["SET", f"k{n % 5}", f"{number}:{n}"] for n in range(400)])

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        final = control.cmd("MGET", *(f"k{n}" for n in range(5)))
        values = {}
        while b'"MGET"' not in (line := bytes(monitor.recv())):
            key, value = re.search(rb'"SET" "(\w+)" "(\S+)"', line).groups()
            values[key] = value
        assert [values[f"k{n}".encode()] for n in range(5)] == final


def test_who_monitors_may_not_touch_keys_until_it_is_reset():
    with Server("basalt", shards=2) as server:
        monitor, client = server.client(), server.client()
        monitor.cmd("MONITOR")
        for command in (["GET", "k"], ["SET", "k", "v"], ["PUBLISH", "a", "b"]):
            assert monitor.call(*command).text == "ERR Replica can't interact with the keyspace"
        assert b"flags=O " in client.cmd("CLIENT", "LIST")
        assert monitor.cmd("RESET") == b"RESET"
        client.cmd("SET", "k", "v")
        assert monitor.cmd("GET", "k") == b"v"
        assert client.cmd("MULTI") == b"OK"
        client.cmd("MONITOR")
        assert client.cmd("EXEC")[0].text == "ERR MONITOR isn't allowed for DENY BLOCKING client"
