"""dump.rdb from ours to stock servers and back, key by key."""

from __future__ import annotations

import random
import time

import pytest

from . import content
from .conftest import check_tool
from .content import assert_same, state_of
from support import Server, ServerDied, payloads


@pytest.mark.parametrize("shards", [1, 3])
def test_ours_loads_there(stock: str, shards: int, tmp_path) -> None:
    with Server("basalt", shards=shards, dir=tmp_path) as ours:
        content.fill(ours)
        content.churn(ours, 1)
        with ours.client() as client:
            client.cmd("SAVE")
        expected = state_of(ours)
        assert len(expected) == 16 and len(expected[0]) > 5000
        assert_encodings(expected[0])
    check_tool(stock, "rdb", tmp_path / "dump.rdb")
    with Server(stock, dir=tmp_path) as theirs:
        assert_same(expected, theirs)


def assert_encodings(entries: dict) -> None:
    """The content is what it claims to be: every encoding is there."""
    found = {(entry.type, entry.encoding) for entry in entries.values()}
    assert found >= {("string", "int"), ("string", "embstr"), ("string", "raw"), ("list", "listpack"), ("list", "quicklist"),
                     ("set", "intset"), ("set", "listpack"), ("set", "hashtable"), ("hash", "listpack"), ("hash", "hashtable"),
                     ("zset", "listpack"), ("zset", "skiplist")}


@pytest.mark.parametrize("shards", [1, 3])
def test_theirs_loads_here(stock: str, shards: int, tmp_path) -> None:
    with Server(stock, dir=tmp_path) as theirs:
        content.fill(theirs)
        content.churn(theirs, 2)
        with theirs.client() as client:
            client.cmd("SAVE")
        expected = state_of(theirs)
    with Server("basalt", shards=shards, dir=tmp_path) as ours:
        assert_same(expected, ours)
        if stock != "redis":
            found = state_of(ours)[0]
            kinds = ("list", "set", "hash", "zset") if stock == "valkey-new" else ("string", "list", "set", "hash", "zset")
            differ = [(key, entry.encoding, found[key].encoding) for key, entry in expected[0].items()
                      if entry.type in kinds and entry.encoding != found[key].encoding]
            assert not differ  # Valkey embeds longer strings than Redis


@pytest.mark.parametrize("option", ["rdbcompression", "rdbchecksum"])
def test_option_off(stock: str, option: str, tmp_path) -> None:
    off = {option: "no"}
    with Server("basalt", shards=2, dir=tmp_path, **off) as ours:
        content.fill(ours)
        with ours.client() as client:
            client.cmd("SAVE")
        expected = state_of(ours)
    check_tool(stock, "rdb", tmp_path / "dump.rdb")
    data = (tmp_path / "dump.rdb").read_bytes()
    assert (data[-8:] == bytes(8)) == (option == "rdbchecksum")
    assert (b"x" * 5000 in data) == (option == "rdbcompression")
    with Server(stock, dir=tmp_path, **off) as theirs:
        assert_same(expected, theirs)
        with theirs.client() as client:
            client.cmd("SAVE")
    with Server("basalt", shards=3, dir=tmp_path) as ours:
        assert_same(expected, ours)


def test_background_save_and_other_numbers_of_shards(tmp_path) -> None:
    with Server("basalt", shards=1, dir=tmp_path) as server:
        content.fill(server)
        expected = state_of(server)
        for shards in (8, 2, 5, 1):
            with server.client() as client:
                client.cmd("BGSAVE")
                deadline = time.monotonic() + 20
                while b"rdb_bgsave_in_progress:1" in client.cmd("INFO", "persistence"):
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
            server.restart(crash=True, shards=shards)
            assert_same(expected, server)


def test_100_mb_values(tmp_path) -> None:
    """A string that compresses, one that does not, and a collection of that size, there and back."""
    values = {"flat": b"basalt " * 15_000_000, "noise": random.Random(3).randbytes(100 << 20)}
    with Server("basalt", shards=2, dir=tmp_path) as ours:
        with ours.client(timeout=60) as client:
            for key, value in values.items():
                client.cmd("SET", key, value)
            client.pipeline([("RPUSH", "list", *(b"%d" % i * 1000 for i in range(start, start + 100))) for start in range(0, 20_000, 100)])
            client.cmd("SAVE")
    with Server("redis", dir=tmp_path) as theirs:
        assert_big(theirs, values)
        with theirs.client(timeout=60) as client:
            client.cmd("SAVE")
    with Server("basalt", shards=3, dir=tmp_path) as ours:
        assert_big(ours, values)


def assert_big(server: Server, values: dict) -> None:
    with server.client(timeout=60) as client:
        for key, value in values.items():
            assert client.cmd("GET", key) == value
        assert client.cmd("LLEN", "list") == 20_000
        assert client.cmd("LRANGE", "list", 12_340, 12_341) == [b"12340" * 1000, b"12341" * 1000]


def test_keys_that_expire_while_nobody_serves(stock: str, tmp_path) -> None:
    for source, target in (("basalt", stock), (stock, "basalt")):
        folder = tmp_path / source
        with Server(source, dir=folder) as server, server.client() as client:
            client.cmd("DEBUG", "SET-ACTIVE-EXPIRE", 0)
            client.cmd("SET", "short", "lived", "PX", 400)
            client.cmd("SET", "long", "lived", "PX", 4_000_000)
            client.cmd("SAVE")
            left = client.cmd("PTTL", "short")
        time.sleep(max(left, 0) / 1000 + 0.05)
        with Server(target, dir=folder) as server, server.client() as client:
            assert client.cmd("KEYS", "*") == [b"long"]
            assert client.cmd("DBSIZE") == 1
            assert 3_000_000 < client.cmd("PTTL", "long") < 4_000_000


# A type of values that only its module can read, and what a module keeps beside the keys.
MODULE = b"\x81" + b"\x11" * 8
UNREADABLE = {
    "a value of a module": b"\x07" + payloads.string(b"key") + MODULE + b"\x00",
    "data of a module": b"\xf7" + MODULE + b"\x02\x02" + b"\x00",
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_what_we_do_not_hold_is_refused_not_skipped(stock: str, what: str, tmp_path) -> None:
    with Server(stock, dir=tmp_path) as theirs, theirs.client() as client:
        client.cmd("SET", "k", "v")
        client.cmd("SAVE")
    written = (tmp_path / "dump.rdb").read_bytes()
    assert written[-9] == 0xFF and payloads.crc64(written[:-8]) == int.from_bytes(written[-8:], "little")
    changed = written[:-9] + UNREADABLE[what] + b"\xff"
    (tmp_path / "dump.rdb").write_bytes(changed + payloads.crc64(changed).to_bytes(8, "little"))
    before = (tmp_path / "dump.rdb").read_bytes()
    ours = Server("basalt", dir=tmp_path, save=["1", "1"])
    with pytest.raises(ServerDied, match="dump.rdb"):
        ours.start()
    ours.close()
    assert (tmp_path / "dump.rdb").read_bytes() == before


def test_libraries_of_functions_are_loaded_and_given_back(stock: str, tmp_path) -> None:
    code = "#!lua name=lib\nredis.register_function('f', function() return 1 end)"
    with Server(stock, dir=tmp_path) as theirs, theirs.client() as client:
        client.cmd("SET", "k", "v")
        client.cmd("FUNCTION", "LOAD", code)
        client.cmd("SAVE")
    for kind in ("basalt", stock):
        with Server(kind, dir=tmp_path) as server, server.client() as client:
            assert client.cmd("FCALL", "f", 0) == 1
            assert client.cmd("GET", "k") == b"v"
            client.cmd("SAVE")
