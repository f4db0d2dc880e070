"""SCAN and its kin return every element that is there from the start to the end of an iteration, also
when the table grows and shrinks meanwhile, and the iteration ends."""

from __future__ import annotations

from typing import Callable

import pytest

from support import Client, Server

from .test_conformance import target_names

STABLE = 500
STEPS_MAX = 20_000

Commands = Callable[[bytes], tuple]

# How an element is added and removed, and how an iteration begins.
KINDS: dict[str, tuple[Commands, Commands, tuple, int]] = {
    "SCAN": (lambda e: ("SET", e, "v"), lambda e: ("DEL", e), ("SCAN",), 1),
    "SSCAN": (lambda e: ("SADD", "s", e), lambda e: ("SREM", "s", e), ("SSCAN", "s"), 1),
    "HSCAN": (lambda e: ("HSET", "h", e, "v"), lambda e: ("HDEL", "h", e), ("HSCAN", "h"), 2),
    "ZSCAN": (lambda e: ("ZADD", "z", 1, e), lambda e: ("ZREM", "z", e), ("ZSCAN", "z"), 2),
}


@pytest.fixture(scope="module", params=target_names())
def client(request: pytest.FixtureRequest):
    kind, _, shards = request.param.partition("basalt-")
    server = Server("basalt", shards=int(shards)) if shards else Server(kind)
    with server, server.client() as connection:
        yield connection


def iterate(client: Client, kind: str, between: Callable[[int], list[tuple]]) -> set[bytes]:
    _, _, head, stride = KINDS[kind]
    seen: set[bytes] = set()
    cursor = b"0"
    for step in range(STEPS_MAX):
        cursor, page = client.cmd(*head, cursor, "COUNT", 7)
        seen.update(page[::stride])
        if cursor == b"0":
            return seen
        client.pipeline(between(step))
    raise AssertionError("the iteration does not end")


def stable(client: Client, kind: str) -> set[bytes]:
    client.cmd("FLUSHALL")
    elements = {b"stable:%d" % i for i in range(STABLE)}
    client.pipeline(KINDS[kind][0](e) for e in elements)
    return elements


@pytest.mark.parametrize("kind", KINDS)
def test_while_it_grows(client: Client, kind: str) -> None:
    elements = stable(client, kind)
    add = KINDS[kind][0]
    # Growth stops after a while: an iteration over what grows for ever need not end.
    seen = iterate(client, kind, lambda step: [add(b"new:%d:%d" % (step, i)) for i in range(100)] if step < 60 else [])
    assert elements <= seen


@pytest.mark.parametrize("kind", KINDS)
def test_while_it_shrinks(client: Client, kind: str) -> None:
    elements = stable(client, kind)
    add, remove = KINDS[kind][:2]
    others = [b"other:%d" % i for i in range(5000)]
    client.pipeline(add(e) for e in others)
    seen = iterate(client, kind, lambda step: [remove(e) for e in others[step * 200 : step * 200 + 200]])
    assert elements <= seen


@pytest.mark.parametrize("kind", KINDS)
def test_while_it_grows_and_shrinks(client: Client, kind: str) -> None:
    elements = stable(client, kind)
    add, remove = KINDS[kind][:2]

    def churn(step: int) -> list[tuple]:
        if step > 200:
            return []
        batch = [b"churn:%d:%d" % (step // 20, i) for i in range(2000)]
        change = add if step // 20 % 2 == 0 else remove
        if change is remove:
            batch = [b"churn:%d:%d" % (step // 20 - 1, i) for i in range(2000)]
        return [change(e) for e in batch[step % 20 * 100 : step % 20 * 100 + 100]]

    assert elements <= iterate(client, kind, churn)
