"""`maxmemory`: what is evicted under each policy, how closely the limit is kept, and who is refused when nothing can go."""

from __future__ import annotations

import random
import time

import pytest

from support import Client, ReplyError, Server

OOM = "OOM command not allowed when used memory > 'maxmemory'."
LIMIT = 10 << 20
PATIENCE = 60


def info(client: Client, section: str) -> dict[str, str]:
    text = client.cmd("INFO", section)
    text = text.decode() if isinstance(text, bytes) else str(text)
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def fill(client: Client, names, seed: int, *extra: object, size: int = 400) -> list[object]:
    """SETs values of random lengths below 2 * size; the replies."""
    rng, replies, batch = random.Random(seed), [], []
    for name in names:
        batch.append(("SET", name, "x" * rng.randrange(1, 2 * size), *extra))
        if len(batch) == 500:
            replies += client.pipeline(batch)
            batch = []
    return replies + client.pipeline(batch)


def used(client: Client) -> int:
    return int(info(client, "memory")["used_memory"])


@pytest.fixture(params=[1, 2, 8])
def limited(request: pytest.FixtureRequest):
    """A function that starts a server with a limit and a policy."""
    servers = []

    def start(policy: str, **directives: object) -> Server:
        server = Server(shards=request.param, maxmemory=LIMIT, **{"maxmemory-policy": policy}, **directives)
        servers.append(server)
        return server.start()

    yield start
    for server in servers:
        server.close()


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random"])
@pytest.mark.parametrize("tag", ["", "{all in one shard}"])
def test_the_limit_is_kept_to_two_percent(limited, policy: str, tag: str):
    server = limited(policy)
    with server.client() as client:
        replies = fill(client, (f"{tag}key:{n}" for n in range(40_000)), 1)
        assert not [reply for reply in replies if isinstance(reply, ReplyError)]
        assert 0.98 * LIMIT < used(client) < 1.02 * LIMIT
        stats = info(client, "stats")
        assert int(stats["evicted_keys"]) == 40_000 - client.cmd("DBSIZE") > 5_000
        assert int(info(client, "keyspace")["db0"].split(",")[0].split("=")[1]) == client.cmd("DBSIZE")


@pytest.mark.parametrize("policy", ["volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl"])
def test_volatile_policies_leave_the_others_alone_and_then_refuse(limited, policy: str):
    server = limited(policy)
    with server.client() as client:
        kept = [f"kept:{n}" for n in range(7_500)]
        assert not [r for r in fill(client, kept, 2) if isinstance(r, ReplyError)]
        replies = fill(client, (f"goes:{n}" for n in range(30_000)), 3, "EX", 1000)
        assert not [reply for reply in replies if isinstance(reply, ReplyError)]
        assert client.cmd("EXISTS", *kept) == len(kept)
        assert int(info(client, "stats")["evicted_keys"]) > 5_000
        # With nothing left to evict, writes are refused, and reads and deletions go on.
        replies = fill(client, (f"more:{n}" for n in range(30_000)), 4)
        refused = [reply.text for reply in replies if isinstance(reply, ReplyError)]
        assert refused and set(refused) == {OOM}
        assert client.cmd("EXISTS", *kept) == len(kept)
        assert used(client) < 1.02 * LIMIT
        assert client.cmd("GET", kept[0]) is not None and client.cmd("DEL", kept[0]) == 1


def test_keys_that_are_used_stay(limited):
    """Of as many keys as fit, the half that is read again and again survives the filling up of the other half."""
    for policy in ("allkeys-lru", "allkeys-lfu"):
        server = limited(policy)
        with server.client() as client:
            hot = [f"hot:{n}" for n in range(4_000)]
            fill(client, hot, 5, size=200)
            for n in range(12):
                time.sleep(0.25)
                client.pipeline([("GET", name) for name in hot])
                fill(client, (f"cold:{policy}:{n}:{m}" for m in range(6_000)), n, size=200)
            assert int(info(client, "stats")["evicted_keys"]) > 25_000
            left = client.cmd("EXISTS", *hot)
            assert left > 0.8 * len(hot), (policy, left)
        server.close()


def test_those_that_expire_soonest_go_first(limited):
    server = limited("volatile-ttl")
    with server.client() as client:
        fill(client, (f"late:{n}" for n in range(7_500)), 6, "EX", 100_000)
        fill(client, (f"soon:{n}" for n in range(30_000)), 7, "EX", 1000)
        keys = client.pipeline([("EXISTS", f"late:{n}") for n in range(7_500)])
        assert sum(keys) > 0.99 * 7_500


def test_without_eviction_what_needs_memory_is_refused(limited):
    server = limited("noeviction")
    with server.client() as client, server.client() as other:
        refused = [r.text for r in fill(client, range(40_000), 8) if isinstance(r, ReplyError)]
        assert set(refused) == {OOM}
        assert used(client) < 1.02 * LIMIT
        error = client.call("LPUSH", "list", "element")
        assert isinstance(error, ReplyError) and error.text == OOM
        assert client.cmd("PING") == b"PONG" and client.cmd("GET", 0) is not None
        # A transaction is refused when a command that needs memory is queued, and so is queueing itself.
        assert client.cmd("MULTI") == b"OK"
        error = client.call("SET", "a", "b")
        assert isinstance(error, ReplyError) and error.text == OOM
        error = client.call("EXEC")
        assert isinstance(error, ReplyError)
        assert error.text == "EXECABORT Transaction discarded because of previous errors."
        other.cmd("CONFIG", "SET", "maxmemory", "100mb")
        assert client.cmd("MULTI") == b"OK" and client.cmd("SET", "a", "b") == b"QUEUED"
        other.cmd("CONFIG", "SET", "maxmemory", LIMIT)
        error = client.call("EXEC")
        assert isinstance(error, ReplyError) and error.text == f"EXECABORT Transaction discarded because of: {OOM}"
        deadline = time.monotonic() + PATIENCE
        while int(info(client, "stats")["current_eviction_exceeded_time"]) == 0:
            assert time.monotonic() < deadline
        other.cmd("CONFIG", "SET", "maxmemory", "0")
        assert client.cmd("SET", "a", "b") == b"OK"
        assert info(client, "stats")["current_eviction_exceeded_time"] == "0"
        assert int(info(client, "stats")["total_eviction_exceeded_time"]) > 0
        stats = info(client, "commandstats")["cmdstat_set"]
        assert "rejected_calls=0" not in stats and "failed_calls=0" in stats, stats


def test_a_lower_limit_is_reached_without_a_command(limited):
    server = limited("allkeys-lru")
    with server.client() as client:
        fill(client, range(20_000), 9)
        client.cmd("CONFIG", "SET", "maxmemory", LIMIT // 2)
        deadline = time.monotonic() + PATIENCE
        while used(client) > 1.02 * LIMIT / 2:
            assert time.monotonic() < deadline, used(client)
            time.sleep(0.05)


def test_what_is_evicted_stays_away(limited, tmp_path):
    server = limited("allkeys-random", dir=tmp_path, appendonly="yes", **{"aof-write-path": "write"})
    with server.client() as client:
        fill(client, range(30_000), 10)
        # The reply of KEYS takes memory itself, and would have more keys evicted while it is read.
        client.cmd("CONFIG", "SET", "maxmemory", 0)
        deadline, before = time.monotonic() + PATIENCE, None
        while before != (before := info(client, "stats")["evicted_keys"]):
            assert time.monotonic() < deadline, "evictions go on without a limit"
            keys = set(client.cmd("KEYS", "*"))
    server.kill()
    # A limit that would evict again when it is loaded says nothing of what was in the log.
    server.directives["maxmemory"] = 0
    server.start()
    with server.client() as client:
        assert set(client.cmd("KEYS", "*")) == keys
        assert 2_500 < len(keys) < 29_000


def test_frequency_and_idle_time_are_told_as_the_policy_keeps_them():
    with Server(shards=2, **{"maxmemory-policy": "allkeys-lfu", "lfu-log-factor": 0}) as server, server.client() as client:
        client.cmd("SET", "key", "value")
        assert client.cmd("OBJECT", "FREQ", "key") == 5
        for _ in range(3):
            client.cmd("GET", "key")
        assert client.cmd("OBJECT", "FREQ", "key") == 8
        error = client.call("OBJECT", "IDLETIME", "key")
        assert isinstance(error, ReplyError) and error.text.startswith("ERR An LFU maxmemory policy is selected, idle time")
        payload = client.cmd("DUMP", "key")
        client.cmd("RESTORE", "often", 0, payload, "FREQ", 200)
        assert client.cmd("OBJECT", "FREQ", "often") == 200
        client.cmd("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        # Each shard takes the policy over by itself.
        spread = [f"spread:{number}" for number in range(20)]
        client.cmd("MSET", *(word for name in spread for word in (name, "value")))
        deadline = time.monotonic() + PATIENCE
        while any(isinstance(client.call("OBJECT", "IDLETIME", name), ReplyError) for name in spread):
            assert time.monotonic() < deadline
        error = client.call("OBJECT", "FREQ", "key")
        assert isinstance(error, ReplyError) and error.text.startswith("ERR An LFU maxmemory policy is not selected")
        client.cmd("RESTORE", "idle", 0, payload, "IDLETIME", 500)
        assert 500 <= client.cmd("OBJECT", "IDLETIME", "idle") <= 500 + PATIENCE


def test_used_memory_is_what_the_process_takes():
    """Without what it takes to start, used_memory and the resident set grow together."""
    for size in (30, 300, 3_000):
        with Server(shards=2) as server, server.client() as client:
            before = info(client, "memory")
            fill(client, range(40_000_000 // (size + 60)), size, size=size)
            after = info(client, "memory")
        grown = [int(after[name]) - int(before[name]) for name in ("used_memory", "used_memory_rss")]
        assert 0.75 < grown[0] / grown[1] < 1.1, (size, grown)
