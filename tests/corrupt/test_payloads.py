"""Corrupt DUMP payloads: RESTORE takes them or says what Redis says, and what it took can be used like any key.

Each payload is a real one, of every type and encoding that RDB ever had, changed a little, with version and
checksum made right again so that its decoder sees the change. The server must not crash, hang or grow.
A failure prints its CORRUPT_SEED, which repeats it; CORRUPT_PAYLOADS sets how many (default 8000).
"""

from __future__ import annotations

import os
import random
import time

import pytest

from corrupt import mutations, uses
from support.state import stream_info
from support import Client, ReplyError, Server, payloads

PAYLOADS = int(os.environ.get("CORRUPT_PAYLOADS") or 8000)
BATCH = 100
BAD_DATA = "ERR Bad data format"
BAD_FOOTER = "ERR DUMP payload version or checksum are wrong"
MEMORY_MOST = 256 << 20


@pytest.fixture
def chance() -> random.Random:
    seed = int(os.environ.get("CORRUPT_SEED") or time.time_ns() % 1_000_000_000)
    print(f"rerun with CORRUPT_SEED={seed}")
    return random.Random(seed)


def content(client: Client, key: str) -> object:
    """What a key holds, whatever its encoding."""
    kind = client.cmd("TYPE", key)
    match kind if isinstance(kind, str) else kind.decode():
        case "string":
            return client.cmd("GET", key)
        case "list":
            return client.cmd("LRANGE", key, 0, -1)
        case "set":
            return sorted(client.cmd("SMEMBERS", key))
        case "hash":
            flat = client.cmd("HGETALL", key)
            return sorted(zip(flat[::2], flat[1::2]))
        case "zset":
            flat = client.cmd("ZRANGE", key, 0, -1, "WITHSCORES")
            # Redis 7.0 prints some scores with more digits.
            return [(member, float(score)) for member, score in zip(flat[::2], flat[1::2])]
        case "stream":
            return client.cmd("XRANGE", key, "-", "+"), stream_info(client, key)
        case other:
            raise AssertionError(other)


def test_every_type_and_encoding_is_read():
    with Server("basalt", shards=2).start() as ours, Server("redis").start() as redis:
        with ours.client() as our_client, redis.client() as redis_client:
            compared = 0
            for name, body in payloads.samples().items():
                # Redis 7.0 reads version 10 and what that has.
                payload = payloads.sealed(body, 10)
                our_client.cmd("RESTORE", name, 0, payload)
                if isinstance(redis_client.call("RESTORE", name, 0, payload), ReplyError):
                    assert body[0] > 18, f"Redis refuses {name}"
                    continue
                assert content(our_client, name) == content(redis_client, name), name
                compared += 1
            assert compared > 20
            assert content(our_client, "set-listpack") == content(our_client, "set")
            assert content(our_client, "hash-metadata") == content(our_client, "hash-listpack-metadata")
            expiring = [name for name in payloads.samples() if name.endswith("-expiring")]
            fields = ("FIELDS", 3, "field", "n", "long")
            times = [our_client.cmd("HPEXPIRETIME", name, *fields) for name in expiring]
            assert times == [[payloads.FAR_MS, -1, payloads.FAR_MS + 70_000]] * 4


def test_what_cannot_be_held_is_refused_as_bad_data():
    with Server("basalt", shards=2).start() as server, server.client() as client:
        for name, body in payloads.refused().items():
            reply = client.call("RESTORE", name, 0, payloads.sealed(body))
            assert isinstance(reply, ReplyError) and reply.text == BAD_DATA, f"{name}: {reply}"
        good = payloads.sealed(payloads.samples()["hash"])
        for footer in (good[:-1] + bytes([good[-1] ^ 1]), payloads.sealed(good[:-10], 9999), b"", b"123456789"):
            reply = client.call("RESTORE", "k", 0, footer)
            assert isinstance(reply, ReplyError) and reply.text == BAD_FOOTER, reply
        assert client.cmd("DBSIZE") == 0


def kind_of(client_reply: object) -> str:
    text = getattr(client_reply, "text", client_reply)
    return text.decode() if isinstance(text, bytes) else str(text)


def use(client: Client, keys: list[str]) -> None:
    """Reads, copies by DUMP and RESTORE, compares, changes, and copies again."""
    kinds = dict(zip(keys, map(kind_of, client.pipeline([("TYPE", key) for key in keys]))))
    commands = [command for key in keys for command in uses.reads(kinds[key], key)]
    for command, reply in zip(commands, client.pipeline(commands)):
        if isinstance(reply, ReplyError):
            assert reply.text.split()[0] in ("ERR", "WRONGTYPE", "NOTKEY", "NOGROUP"), (command, reply)
    check_copies(client, keys)
    client.pipeline([command for key in keys for command in uses.writes(kinds[key], key)])
    check_copies(client, [key for key, there in zip(keys, client.pipeline([("EXISTS", key) for key in keys])) if there])


def check_copies(client: Client, keys: list[str]) -> None:
    dumps = client.pipeline([("DUMP", key) for key in keys])
    copied = client.pipeline([("RESTORE", f"copy:{key}", 0, dump, "REPLACE") for key, dump in zip(keys, dumps)])
    for key, reply in zip(keys, copied):
        assert not isinstance(reply, ReplyError), f"{key}: its own DUMP is refused: {reply}"
    both = client.pipeline([("DEBUG", "DIGEST-VALUE", key, f"copy:{key}") for key in keys])
    for key, (original, copy) in zip(keys, both):
        assert original == copy, f"{key} and its copy differ"
    client.pipeline([("DEL", f"copy:{key}") for key in keys])


def used_memory(client: Client) -> int:
    for line in client.cmd("INFO", "memory").decode().splitlines():
        if line.startswith("used_memory_peak:"):
            return int(line.split(":")[1])
    raise AssertionError("INFO memory without used_memory_peak")


def digest(client: Client) -> object:
    return client.cmd("DEBUG", "DIGEST")


def test_mutated_payloads(chance: random.Random):
    bodies = payloads.samples()
    names = sorted(bodies)
    taken = 0
    with Server("basalt", shards=2, appendonly="yes", appendfsync="no").start() as server, server.client() as client:
        client.pipeline(uses.OTHERS)
        for first in range(0, PAYLOADS, BATCH):
            # Everything is always checked: the directive that lets Redis skip that changes nothing.
            client.cmd("CONFIG", "SET", "sanitize-dump-payload", chance.choice(["yes", "no", "clients"]))
            batch = {}
            for i in range(first, min(first + BATCH, PAYLOADS)):
                name = names[i % len(names)]
                body = mutations.mutated(bodies[name], chance)
                batch[f"{i}:{name}"] = payloads.sealed(body, chance.choice((1, 6, 9, 10, 11, 12, 80)))
            replies = client.pipeline([("RESTORE", key, 0, payload) for key, payload in batch.items()])
            keys = []
            for (key, payload), reply in zip(batch.items(), replies):
                if isinstance(reply, ReplyError):
                    assert reply.text == BAD_DATA, f"{key}: {reply} for {payload.hex()}"
                else:
                    keys.append(key)
            use(client, keys)
            taken += len(keys)
            # Some stay, to be saved and loaded.
            client.pipeline([("DEL", key) for key in keys if chance.random() < 0.8])
        assert PAYLOADS // 50 < taken < PAYLOADS, "the mutations are too harsh, or the decoder believes everything"
        peak = used_memory(client)
        assert peak < MEMORY_MOST, f"{peak} bytes for payloads of a few kilobytes"
        before = digest(client)
        client.cmd("DEBUG", "RELOAD")
        assert digest(client) == before, "not the same after saving and loading"
        server.restart(crash=True)
        with server.client() as again:
            assert digest(again) == before, "not the same after replaying the append-only file"
        assert "panicked" not in server.log(), server.log()


def test_random_bytes_behind_every_type(chance: random.Random):
    """Not near anything valid: every type byte, with noise behind it."""
    with Server("basalt", shards=2).start() as server, server.client() as client:
        commands = []
        for i in range(3000):
            noise = bytes(chance.choice(mutations.INTERESTING) if chance.random() < 0.7 else chance.randrange(256)
                          for _ in range(chance.randrange(40)))
            body = bytes([chance.randrange(30)]) + noise
            commands.append(("RESTORE", f"k{i}", 0, payloads.sealed(body)))
        replies = client.pipeline(commands)
        taken = [command[1] for command, reply in zip(commands, replies) if not isinstance(reply, ReplyError)]
        assert {reply.text for reply in replies if isinstance(reply, ReplyError)} == {BAD_DATA}
        use(client, taken)
        assert used_memory(client) < MEMORY_MOST
        assert "panicked" not in server.log(), server.log()
