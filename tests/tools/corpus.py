"""RDB files to check: of real Redis with what only it has, of ours with an index, and by hand."""

from __future__ import annotations

import struct
from pathlib import Path

from support import Server

LIBRARY = "#!lua name=mylib\nredis.register_function('f', function() return 1 end)"


def redis_rdb(folder: Path) -> bytes:
    """Of Redis 7.0: all types, small and large, a stream with a group, a library, expiries, two databases."""
    with Server("redis", dir=folder) as server, server.client() as client:
        client.cmd("SET", "text", "hello")
        client.cmd("SET", "number", 1234)
        client.cmd("SET", "long", "x" * 500)
        client.cmd("SET", "expires", "x", "PXAT", 4_102_444_800_000)
        client.cmd("DEBUG", "SET-ACTIVE-EXPIRE", 0)
        client.cmd("SET", "expired", "x", "PX", 1)
        client.cmd("RPUSH", "list", "a", "b", "c" * 100, 4)
        client.cmd("SADD", "numbers", 1, 2, 70000)
        client.cmd("SADD", "set", "a", "b", "c")
        client.cmd("HSET", "hash", "f", "v", "g", "w")
        client.cmd("HSET", "wide", "f", "v" * 100, "g", "w")
        client.cmd("ZADD", "zset", 1, "a", 2.5, "b")
        client.cmd("ZADD", "wide zset", 1, "a" * 100, 2.5, "b")
        client.cmd("XADD", "stream", "1-1", "a", "b")
        client.cmd("XGROUP", "CREATE", "stream", "group", "0")
        client.cmd("XREADGROUP", "GROUP", "group", "consumer", "STREAMS", "stream", ">")
        client.cmd("FUNCTION", "LOAD", LIBRARY)
        client.cmd("SELECT", 3)
        client.cmd("SET", "other", "db")
        client.cmd("SAVE")
    return (folder / "dump.rdb").read_bytes()


def basalt_rdb(folder: Path, shards: int = 2, keys: int = 3000) -> bytes:
    """Of ours: chunks with an index, and padding."""
    with Server("basalt", dir=folder, shards=shards) as server, server.client() as client:
        client.cmd("DEBUG", "POPULATE", keys, "key", 100)
        client.cmd("RPUSH", "list", *range(500))
        client.cmd("SADD", "set", *(f"m{i}" for i in range(500)))
        client.cmd("HSET", "hash", *(f"w{i}" for i in range(600)))
        client.cmd("ZADD", "zset", *(word for i in range(500) for word in (i, f"m{i}")))
        client.cmd("SET", "expires", "x", "PXAT", 4_102_444_800_000)
        client.cmd("SELECT", 5)
        client.cmd("SET", "in five", "x")
        client.cmd("SAVE")
    return (folder / "dump.rdb").read_bytes()


def length(n: int) -> bytes:
    """An RDB length, of any size."""
    return bytes([0x81]) + struct.pack(">Q", n)


def string(data: bytes) -> bytes:
    return length(len(data)) + data


def rdb(*records: bytes, version: int = 10) -> bytes:
    """A file without checksum."""
    return b"REDIS%04d" % version + b"".join(records) + b"\xff" + bytes(8)
