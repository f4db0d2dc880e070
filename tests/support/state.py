"""The whole content of a server as a comparable value, through public commands only.

`dump_state` reads every key of every database: type, encoding, absolute expiry, content. Content is
canonical: sets sorted, hashes as dicts, sorted sets as (member, score text) in their order. Two
servers hold the same data when `diff_states` of their dumps is empty.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Iterable

from .client import Client
from .resp import ReplyError, plain

_READ = {
    b"string": lambda key: ("GET", key),
    b"list": lambda key: ("LRANGE", key, 0, -1),
    b"set": lambda key: ("SMEMBERS", key),
    b"hash": lambda key: ("HGETALL", key),
    b"zset": lambda key: ("ZRANGE", key, 0, -1, "WITHSCORES"),
    b"stream": lambda key: ("XINFO", "STREAM", key, "FULL", "COUNT", 0),
}


@dataclass(frozen=True)
class Entry:
    type: str
    encoding: str
    expires_at_ms: int | None
    value: object


State = dict[int, dict[bytes, Entry]]


def dump_state(client: Client, dbs: Iterable[int] | None = None, batch: int = 200) -> State:
    """Every key of every database (or of `dbs`), as {db: {key: Entry}}; empty databases left out.

    `client` must speak RESP2; it is left on database 0. Nothing may write meanwhile: a key that
    changes between its TYPE and its read raises.
    """
    if dbs is None:
        dbs = range(int(client.cmd("CONFIG", "GET", "databases")[1]))
    state: State = {}
    for db in dbs:
        client.cmd("SELECT", db)
        keys = _keys(client)
        entries: dict[bytes, Entry] = {}
        for start in range(0, len(keys), batch):
            for key, entry in _entries(client, keys[start : start + batch]):
                entries[key] = entry
        if entries:
            state[db] = entries
    client.cmd("SELECT", 0)
    return state


def _keys(client: Client) -> list[bytes]:
    keys: set[bytes] = set()
    cursor: object = b"0"
    while True:
        cursor, page = client.cmd("SCAN", cursor, "COUNT", 1000)
        keys.update(page)
        if cursor == b"0":
            return sorted(keys)


def _entries(client: Client, keys: list[bytes]):
    heads = client.pipeline(
        command for key in keys
        for command in (("TYPE", key), ("OBJECT", "ENCODING", key), ("PEXPIRETIME", key))
    )
    kept = []
    for key, kind, encoding, expiry in zip(keys, heads[::3], heads[1::3], heads[2::3]):
        for reply in (kind, encoding, expiry):
            if isinstance(reply, ReplyError):
                raise ReplyError(f"{key!r}: {reply.text}")
        if kind == b"none":
            continue  # expired between SCAN and TYPE
        kept.append((key, bytes(kind), plain(encoding), expiry))
    values = client.pipeline(_READ[kind](key) for key, kind, _, _ in kept)
    times = _field_times(client, [(key, plain(value)[::2]) for (key, kind, _, _), value in zip(kept, values)
                                  if kind == b"hash" and isinstance(value, list)])
    for (key, kind, encoding, expiry), value in zip(kept, values):
        if isinstance(value, ReplyError):
            raise ReplyError(f"{key!r}: {value.text}")
        yield key, Entry(
            kind.decode(),
            encoding.decode() if encoding else "none",
            None if expiry < 0 else expiry,
            _with_times(_canonical(kind, plain(value)), times.get(key)),
        )


def _field_times(client: Client, hashes: list[tuple[bytes, list[bytes]]]) -> dict[bytes, dict[bytes, int]]:
    """When fields expire, of the hashes that have such fields; servers before Redis 7.4 have none."""
    hashes = [(key, fields) for key, fields in hashes if fields]
    replies = client.pipeline(("HPEXPIRETIME", key, "FIELDS", len(fields), *fields) for key, fields in hashes)
    found = {}
    for (key, fields), reply in zip(hashes, replies):
        times = {} if isinstance(reply, ReplyError) else {f: at for f, at in zip(fields, reply) if at >= 0}
        if times:
            found[key] = times
    return found


def _with_times(value: object, times: dict[bytes, int] | None) -> object:
    """A hash whose values are pairs with the time where the field expires."""
    return {f: (v, times[f]) if f in times else v for f, v in value.items()} if times else value


def _canonical(kind: bytes, value: object) -> object:
    if kind == b"set":
        return sorted(value)
    if kind == b"hash":
        return dict(sorted(zip(value[::2], value[1::2])))
    if kind == b"zset":
        return list(zip(value[::2], value[1::2]))
    if kind == b"stream":
        return _stream(value, exact=False)
    return value


# What servers compute differently, do not keep in an append-only file, or do not show in every version.
_OF_STREAMS_LEFT_OUT = {b"radix-tree-keys", b"radix-tree-nodes", b"lag", b"seen-time", b"active-time", b"pel-count"}


def _stream(info: list, exact: bool) -> dict:
    """XINFO STREAM FULL as dicts all the way; `exact`: also when pending entries were delivered, and how many
    entries groups have read, which versions count differently and Redis 7.0 does not always log."""
    def fields(flat: list) -> dict:
        return {name: value for name, value in zip(flat[::2], flat[1::2]) if name not in _OF_STREAMS_LEFT_OUT}

    stream = fields(info)
    stream[b"groups"] = [fields(group) for group in stream[b"groups"]]
    for group in stream[b"groups"]:
        group[b"consumers"] = [fields(consumer) for consumer in group[b"consumers"]]
        if not exact:
            del group[b"entries-read"]
            # ID, consumer of a group's, time, count.
            group[b"pending"] = [[row[0], row[1], row[3]] for row in group[b"pending"]]
            for consumer in group[b"consumers"]:
                consumer[b"pending"] = [[row[0], row[2]] for row in consumer[b"pending"]]
    return stream


def stream_info(client: Client, key: bytes | str) -> dict:
    """A stream's entries, history, groups and what is pending."""
    return _stream(plain(client.cmd("XINFO", "STREAM", key, "FULL", "COUNT", 0)), exact=True)


def diff_states(
    left: State, right: State, *, encodings: bool = True, ttl_tolerance_ms: int = 0, limit: int = 20
) -> list[str]:
    """What differs, a line per key, at most `limit` lines; empty when the states are the same."""
    lines: list[str] = []
    for db in sorted(set(left) | set(right)):
        ours, theirs = left.get(db, {}), right.get(db, {})
        for key in sorted(set(ours) | set(theirs)):
            a, b = ours.get(key), theirs.get(key)
            problem = _difference(a, b, encodings, ttl_tolerance_ms)
            if problem:
                lines.append(f"db {db} key {key!r}: {problem}")
                if len(lines) >= limit:
                    return lines
    return lines


def _difference(a: Entry | None, b: Entry | None, encodings: bool, tolerance: int) -> str | None:
    if a is None or b is None:
        return "only right" if a is None else "only left"
    if a.type != b.type:
        return f"type {a.type} / {b.type}"
    if encodings and a.encoding != b.encoding:
        return f"encoding {a.encoding} / {b.encoding}"
    if (a.expires_at_ms is None) != (b.expires_at_ms is None):
        return f"expiry {a.expires_at_ms} / {b.expires_at_ms}"
    if a.expires_at_ms is not None and abs(a.expires_at_ms - b.expires_at_ms) > tolerance:
        return f"expiry {a.expires_at_ms} / {b.expires_at_ms}"
    if a.value != b.value:
        return f"{a.type} {_shorten(a.value)} / {_shorten(b.value)}"
    return None


def _shorten(value: object, limit: int = 300) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def state_digest(state: State) -> str:
    """One hex digest of a whole state."""
    digest = hashlib.sha256()
    for db in sorted(state):
        for key in sorted(state[db]):
            digest.update(repr((db, key, state[db][key])).encode())
    return digest.hexdigest()
