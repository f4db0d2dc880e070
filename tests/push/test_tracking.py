"""CLIENT TRACKING between workers: caches that are never stale, limits, whole databases."""

import random
import re
import threading

import pytest

from support import ReplyError, Server
from support.resp import Push, plain

SHARDS = [1, 2, 4]


@pytest.fixture(params=SHARDS)
def server(request):
    with Server("basalt", shards=request.param) as server:
        yield server


def info(client, name):
    return int(re.search(rf"^{name}:(\S+)", client.cmd("INFO", "everything").decode(), re.M).group(1))


class Cache:
    """Caches what it reads until it is told otherwise."""

    def __init__(self, server, *options):
        self.client = server.client(resp=3)
        assert self.client.cmd("CLIENT", "TRACKING", "ON", *options) == b"OK"
        self.cached = {}
        self.hits = 0

    def reply(self):
        """The next reply, after the pushes in front of it."""
        while isinstance(value := self.client.recv(), Push):
            self.invalidate(value)
        return plain(value)

    def invalidate(self, push):
        assert push[0] == b"invalidate"
        if not isinstance(push[1], list):
            self.cached.clear()
        else:
            for key in push[1]:
                self.cached.pop(key.decode(), None)

    def get(self, key):
        self.client.send("PING")
        self.reply()
        if key in self.cached:
            self.hits += 1
            return self.cached[key]
        self.client.send("GET", key)
        value = self.reply()
        self.cached[key] = value
        return value


@pytest.mark.parametrize("options", [(), ("BCAST",), ("BCAST", "PREFIX", "k")])
def test_what_was_written_before_is_not_hidden_by_a_cache(server, options):
    """A write that was acknowledged is seen by whoever then reads through its cache, after one exchange with the server."""
    caches = [Cache(server, *options) for _ in range(5)]
    writers = [server.client() for _ in range(3)]
    rng, values = random.Random(3), {}
    for n in range(1500):
        key = f"k{rng.randrange(12)}"
        if rng.random() < 0.4:
            rng.choice(writers).cmd("SET", key, n)
            values[key] = str(n).encode()
        else:
            assert rng.choice(caches).get(key) == values.get(key)
    assert sum(cache.hits for cache in caches) > 100


def test_many_threads_never_read_back_in_time(server):
    """Values only grow: a cache that shows an older one than was seen before is stale."""
    stop, problems = threading.Event(), []

    def write(seed):
        client, rng = server.client(), random.Random(seed)
        while not stop.is_set():
            client.cmd("INCR", f"k{rng.randrange(4)}")

    def read(seed):
        cache, rng, seen = Cache(server), random.Random(seed), {}
        for _ in range(800):
            key = f"k{rng.randrange(4)}"
            value = int(cache.get(key) or 0)
            if value < seen.get(key, 0):
                problems.append((key, value, seen[key]))
            seen[key] = value

    writers = [threading.Thread(target=write, args=(n,)) for n in range(2)]
    readers = [threading.Thread(target=read, args=(n,)) for n in range(3)]
    for thread in writers + readers:
        thread.start()
    for thread in readers:
        thread.join()
    stop.set()
    for thread in writers:
        thread.join()
    assert not problems


def test_no_more_keys_are_remembered_than_allowed_and_readers_know(server):
    control = server.client()
    control.cmd("CONFIG", "SET", "tracking-table-max-keys", 100)
    cache = Cache(server)
    for n in range(1000):
        cache.get(f"key:{n}")
    cache.client.send("PING")
    cache.reply()
    assert 80 <= len(cache.cached) <= 104
    assert info(control, "tracking_total_keys") == info(control, "tracking_total_items") == len(cache.cached)
    assert info(control, "tracking_clients") == 1
    for n in range(1000):
        control.cmd("SET", f"key:{n}", "v")
    cache.client.send("PING")
    cache.reply()
    assert cache.cached == {} and info(control, "tracking_total_keys") == 0


def test_emptied_databases_empty_caches_also_when_they_are_large(server):
    control = server.client()
    control.cmd("CONFIG", "SET", "appendonly", "yes")
    control.pipeline([["SET", f"key:{n}", "v"] for n in range(3000)])
    caches = [Cache(server), Cache(server, "BCAST")]
    for cache in caches:
        assert cache.get("key:1") == b"v"
    assert control.cmd("FLUSHALL") == b"OK"
    for cache in caches:
        assert cache.get("key:1") is None


def test_keys_that_are_evicted_or_expire_are_told_of(server):
    control, cache = server.client(), Cache(server)
    control.pipeline([["SET", f"key:{n}", "v", "PX", 50] for n in range(20)])
    for n in range(20):
        cache.get(f"key:{n}")
    while cache.cached:
        cache.get("none")
        cache.cached.pop("none", None)


def test_a_client_that_is_gone_is_told_nothing_and_leaves_nothing(server):
    control = server.client()
    for options in ((), ("BCAST",)):
        cache = Cache(server, *options)
        cache.get("k")
        cache.client.close()
    while info(control, "tracking_clients"):
        pass
    assert info(control, "tracking_total_prefixes") == 0
    control.cmd("SET", "k", "v")
    assert info(control, "tracking_total_keys") == 0
    assert not isinstance(control.call("GET", "k"), ReplyError)
