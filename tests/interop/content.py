"""A keyspace with one of everything: all types, encodings, expiries, 16 databases, awkward keys and values."""

from __future__ import annotations

import random
from typing import Iterator

from support import Client, Entry, Server, diff_states, dump_state

FAR_MS = 4_102_444_800_000  # 2100-01-01
Commands = Iterator[tuple]


def strings() -> Commands:
    noise = random.Random(1)
    for number in (0, 1, -1, 127, 128, 32768, 2147483648, -9223372036854775808, 9223372036854775807):
        yield "SET", f"int:{number}", number
    for length in (0, 1, 44, 45, 63, 64, 5000, 70_000):
        yield "SET", f"same:{length}", "x" * length
        yield "SET", f"noise:{length}", noise.randbytes(length)
    yield "SET", "text", b"the quick brown fox jumps over the lazy dog, " * 300
    yield "SET", "", "the empty key"
    yield "SET", bytes(range(256)), bytes(range(255, -1, -1))
    yield "SET", b"line\r\nbreak", b"*1\r\n$4\r\nPING\r\n"
    yield "SET", "#comment", "#TS:1"
    yield "SET", "k" * 3000, "a long key"
    yield "APPEND", "appended", "raw"
    yield "SETRANGE", "zeros", 100, "end"


def lists() -> Commands:
    yield "RPUSH", "list:small", "a", "", "b", 1, -1, 4095, 4096, 2147483648, 9223372036854775807, b"\x00\xff", "x" * 63, "x" * 64
    yield "RPUSH", "list:numbers", *range(-300, 300)
    yield "RPUSH", "list:long", *(f"element {i} " * 5 for i in range(2000))
    yield "LPUSH", "list:large", "before", "L" * 9000, "between", bytes(20_000), "after"
    yield "RPUSH", "list:mixed", *("y" * size for size in (1, 8000, 8192, 3, 70_000, 5))


def sets() -> Commands:
    yield "SADD", "set:16", *range(-100, 100)
    yield "SADD", "set:32", 1, 40_000, -40_000
    yield "SADD", "set:64", 1, 5_000_000_000, -5_000_000_000, 9223372036854775807
    yield "SADD", "set:ints in a table", *range(1000)
    yield "SADD", "set:small", "a", "b", "", 7, b"\x00\xff"
    yield "SADD", "set:wide", "a", "w" * 65
    yield "SADD", "set:large", *(f"member {i}" for i in range(3000))


def hashes() -> Commands:
    yield "HSET", "hash:small", "f", "v", "", "empty field", "empty", "", "n", 12345, b"\x00\xff", b"\xff\x00"
    yield "HSET", "hash:wide", "f", "v" * 65
    yield "HSET", "hash:large", *(word for i in range(2000) for word in (f"field {i}", i * 3))
    yield "HSET", "hash:noise", "f", random.Random(2).randbytes(30_000)


def sorted_sets() -> Commands:
    odd = (0, -0.0, 1, -1, 0.1, 1 / 3, 1e-300, 1.7976931348623157e308, 5e-324, 123456789012345678, 3.0e20, "inf", "-inf")
    yield "ZADD", "zset:scores", *(word for i, s in enumerate(odd) for word in (s if isinstance(s, str) else repr(s), f"m{i}"))
    yield "ZADD", "zset:ties", *(word for m in ("b", "a", "", "c", b"\xff", 10) for word in (1, m))
    yield "ZADD", "zset:large", *(word for i in range(2000) for word in (repr(i * 0.37 % 11), f"member {i}"))
    yield "ZADD", "zset:wide", 1, "w" * 65, -1, "v"


def streams() -> Commands:
    """All consumers are as active as they were seen: Redis 7.0 cannot keep anything else."""
    for i in range(1, 301):
        yield "XADD", "stream:long", f"{i // 3 + 1}-{i % 3}", "field", f"value {i}", "n", i * 1000
    for i in range(1, 6):
        yield "XADD", "stream", f"{i}-1", *(("same", i) if i != 3 else ("other", b"\x00\xff", "more", "z" * 5000))
    yield "XADD", "stream", "9223372036854775808-18446744073709551615", "", ""
    yield "XDEL", "stream", "2-1", "9223372036854775808-18446744073709551615"
    yield "XTRIM", "stream:long", "MAXLEN", 250
    yield "XTRIM", "stream:long", "MINID", "~", "50"
    yield "XGROUP", "CREATE", "stream", "group", "0"
    yield "XGROUP", "CREATE", "stream", "second group", "$", "ENTRIESREAD", 5
    yield "XREADGROUP", "GROUP", "group", "alice", "COUNT", 2, "STREAMS", "stream", ">"
    yield "XREADGROUP", "GROUP", "group", "bob", "STREAMS", "stream", ">"
    yield "XCLAIM", "stream", "group", "bob", 0, "1-1", "TIME", 1_700_000_000_000, "RETRYCOUNT", 7
    yield "XACK", "stream", "group", "5-1"
    yield "XGROUP", "CREATE", "stream:empty", "group", "0-5", "MKSTREAM"
    yield "XADD", "stream:emptied", "MAXLEN", 0, "7-7", "f", "v"
    yield "XSETID", "stream:emptied", "9-9", "ENTRIESADDED", 12, "MAXDELETEDID", "8-8"


def fill(server: Server) -> None:
    """Writes the content: all of it into database 0, some of it into each of the others."""
    with server.client(timeout=60) as client:
        if server.kind == "redis":  # 7.2 and later keep large elements in nodes of their own without being told
            client.cmd("DEBUG", "QUICKLIST-PACKED-THRESHOLD", "4000b")
        everything = [*strings(), *lists(), *sets(), *hashes(), *sorted_sets()]
        run(client, everything)
        run(client, [*streams()])
        for key in ("int:1", "same:45", "list:small", "list:long", "set:16", "set:small", "hash:large", "zset:ties"):
            client.cmd("PEXPIREAT", key, FAR_MS + len(key))
        run(client, [("SET", f"many:{i}", f"value {i}", *(("PXAT", FAR_MS + i) if i % 7 == 0 else ())) for i in range(5000)])
        for db in range(1, 16):
            client.cmd("SELECT", db)
            run(client, [command for i, command in enumerate(everything) if i % 15 == db - 1 or i % 20 == 0])
            run(client, [*streams()])
            client.cmd("SET", "database", db, "PXAT", FAR_MS + db)


def churn(server: Server, seed: int) -> None:
    """Changes of every kind on top, transactions over several keys among them."""
    rng = random.Random(seed)
    with server.client(timeout=60) as client:
        client.cmd("SELECT", seed % 16)
        run(client, [
            ("INCRBYFLOAT", f"float:{seed}", "0.1"), ("SET", "int:1", seed), ("EXPIRE", "database", 1_000_000),
            ("PERSIST", "list:small"), ("RENAME", f"float:{seed}", f"renamed:{seed}"), ("COPY", f"renamed:{seed}", f"copied:{seed}"),
            ("LPUSH", f"churn:list:{seed}", *range(100)), ("LTRIM", f"churn:list:{seed}", 10, 60), ("LMOVE", f"churn:list:{seed}", "moved", "LEFT", "RIGHT"),
            ("SADD", "churn:set", *(rng.randrange(1000) for _ in range(50))), ("SPOP", "churn:set", 5), ("SMOVE", "churn:set", "set:small", 1),
            ("SUNIONSTORE", "churn:union", "churn:set", "set:small"), ("HINCRBY", "hash:small", "n", 5), ("HDEL", "hash:small", "f"),
            ("XADD", "stream:long", "MAXLEN", "~", 100, "*", "churn", seed), ("XADD", "stream", "9223372036854775900-*", "s", seed),
            ("XREADGROUP", "GROUP", "group", "carol", "STREAMS", "stream", ">"), ("XAUTOCLAIM", "stream", "group", "alice", 0, "-", "COUNT", 1),
            ("XGROUP", "SETID", "stream", "second group", "4-1"), ("XDEL", "stream", "3-1"), ("COPY", "stream", f"stream:{seed}"),
            ("ZINCRBY", "zset:ties", 0.5, "a"), ("ZRANGESTORE", "churn:zset", "zset:ties", 0, -1), ("ZPOPMAX", "churn:zset"),
            ("GETDEL", f"many:{seed}"), ("SET", "short", "lived", "PXAT", FAR_MS), ("GETEX", "short", "PERSIST"),
            ("DEL", "same:1", "same:44", "noise:45"), ("MSET", *(w for i in range(50) for w in (f"mset:{i}", seed))),
        ])
        for i in range(20):
            run(client, [("MULTI",), ("INCR", f"counter:{i}"), ("RPUSH", f"log:{i % 3}", i), ("SET", f"{{same}}{i}", seed),
                         ("DEL", f"mset:{i}"), ("EXEC",)])
        client.cmd("SELECT", 7)
        client.cmd("FLUSHDB")
        client.cmd("SWAPDB", 3, 4)
        client.cmd("SET", "after the swap", seed)


def run(client: Client, commands: list) -> None:
    for command, reply in zip(commands, client.pipeline(commands)):
        if isinstance(reply, Exception):
            raise AssertionError(f"{command[:3]}: {reply}")


def state_of(server: Server) -> dict:
    """The whole content; scores as numbers, because Redis 7.0 prints them with 17 digits."""
    with server.client(timeout=60) as client:
        state = dump_state(client)
    for entries in state.values():
        for key, entry in entries.items():
            if entry.type == "zset":
                value = [(member, float(score)) for member, score in entry.value]
                entries[key] = Entry(entry.type, entry.encoding, entry.expires_at_ms, value)
    return state


def assert_same(expected: dict, server: Server) -> None:
    """`server` holds `expected`: types, values, expiries."""
    lines = diff_states(expected, state_of(server), encodings=False)
    assert not lines, "expected / found:\n" + "\n".join(lines)
