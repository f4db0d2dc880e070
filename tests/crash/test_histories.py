"""Sixty short histories for each write path, each ended by kill -9 at a random moment and drawn from a seed: nothing acknowledged is lost, what
was one transaction is there whole or not at all, and within a shard no write of a connection is there without its earlier ones.

A history draws its shards before and after, what goes on meanwhile (snapshot, rewrite, the append-only file switched off and on),
how the server ends (killed, or killed while it shuts down) and whether it is killed again while it starts. Two run at a time.
CRASH_SEED repeats the choices (not the timing); CRASH_ROUNDS multiplies the histories.
"""

from __future__ import annotations

import functools
import multiprocessing
import random
import signal
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from crash.faults import BadDisk
from crash.test_kill import SEED, rounds
from crash.workload import Ledger, Life, check_order
from support import Server, ServerDied

HISTORIES = 60
AT_A_TIME = 2
SHARDS = (1, 2, 3, 8)


@functools.cache
def write_paths() -> tuple[str | None, ...]:
    """Those that this build has and that serve on this machine."""
    with Server() as server, server.client() as client:
        if not client.cmd("CONFIG", "GET", "aof-write-path"):
            return (None,)
    return ("write", "ring")


def _moment(chance: random.Random, longest: float) -> None:
    # A random moment is the point; nothing is waited for.
    time.sleep(chance.random() * longest)


def _switch_off_and_on(server: Server, chance: random.Random) -> bool:
    """Whether the append-only file is known to hold everything again."""
    with server.client() as client:
        client.cmd("CONFIG", "SET", "appendonly", "no")
        _moment(chance, 0.05)
        client.cmd("CONFIG", "SET", "appendonly", "yes")
        if chance.random() < 0.3:
            _moment(chance, 0.1)
            return False
        # It replies 1 once the first base is in force.
        return client.cmd("WAITAOF", 1, 0, 20_000) == [1, 0]


def _end(server: Server, chance: random.Random) -> None:
    if chance.random() < 0.3:
        server.signal(signal.SIGTERM)
        _moment(chance, 0.04)
    server.kill()


def _begin_again(server: Server, chance: random.Random) -> None:
    """With other shards, perhaps, and killed while it starts, perhaps twice."""
    if chance.random() < 0.5:
        server.directives["shards"] = chance.choice(SHARDS)
    while chance.random() < 0.4:
        server.spawn()
        _moment(chance, 0.12)
        server.kill()
    server.start()


def run(policy: str, path: str | None, seed: str) -> str | None:
    """One history; what went wrong, if anything."""
    chance = random.Random(seed)
    story = [f"appendfsync {policy}", f"path {path}"]
    directives: dict[str, object] = dict(
        appendonly="yes", appendfsync=policy, auto_aof_rewrite_percentage=0, shards=chance.choice(SHARDS),
        aof_use_rdb_preamble=chance.choice(("yes", "no")), cross_shard=chance.choice(("auto", "message")))
    if path is not None:
        directives["aof_write_path"] = path
    server = Server(**directives)
    try:
        server.start()
        shards = server.directives["shards"]
        story.append(f"{shards} shards")
        life = Life(server.port, 0, writers=2, depths=(chance.choice((1, 5)), 30))
        life.wait_for(10)
        kept, at_least = True, None
        event = chance.choice(("none", "none", "BGSAVE", "BGREWRITEAOF", "both", "switch"))
        story.append(event)
        if event == "switch":
            at_least = life.acknowledged_now()
            kept = _switch_off_and_on(server, chance)
        elif event != "none":
            with server.client() as client:
                for command in ("BGSAVE", "BGREWRITEAOF"):
                    if event in (command, "both"):
                        client.call(command)
        _moment(chance, 0.25)
        _end(server, chance)
        life.join()
        _begin_again(server, chance)
        story.append(f"{server.directives['shards']} shards")
        ledger = Ledger()
        with server.client() as client:
            ledger.settle(client, life, loses_tail=not kept, is_prefix=False, at_least=at_least)
        check_order(life, ledger.settled, shards)
        if "BUG REPORT" in server.log():
            return f"{', '.join(story)}: {server.log()[-3000:]}"
    except (AssertionError, TimeoutError, ServerDied, OSError) as problem:
        return f"{', '.join(story)}: {problem!r}\n{server.log()[-3000:]}"
    finally:
        server.close()
    return None


@pytest.mark.parametrize("policy", ["everysec", "always"])
@pytest.mark.parametrize("path", write_paths())
def test_histories(path: str | None, policy: str, request):
    print(f"rerun: CRASH_SEED={SEED} pytest '{request.node.nodeid}'")
    seeds = [f"{SEED}:{path}:{policy}:{n}" for n in rounds(HISTORIES // 2)]
    with ProcessPoolExecutor(AT_A_TIME, multiprocessing.get_context("fork")) as pool:
        problems = list(pool.map(functools.partial(run, policy, path), seeds))
    found = [f"{seed}: {problem}" for seed, problem in zip(seeds, problems) if problem]
    assert not found, "\n\n".join(found)


def test_the_order_check_notices_a_hole():
    """The canary: operations of one shard that are no prefix of what was sent."""
    life = Life.__new__(Life)
    life.prefixes = ["p"]
    kinds = ("counter", "list", "hash", "set", "zset", "big", "database")
    check_order(life, {"p": dict.fromkeys(kinds, 4)}, 1)
    check_order(life, {"p": dict.fromkeys(kinds, 4) | {"counter": 5, "list": 5}}, 1)
    for hole in ({"counter": 3}, {"database": 5}, {"counter": 6}, {"counter": 5, "hash": 5}):
        with pytest.raises(AssertionError):
            check_order(life, {"p": dict.fromkeys(kinds, 4) | hole}, 1)


def test_a_slow_fdatasync_under_everysec_makes_no_reply_wait(tmp_path: Path):
    """Redis lets a write wait once an fdatasync has been running for two seconds; here none does, and it is counted."""
    disk = BadDisk(".incr.aof", tmp_path)
    with Server(appendonly="yes", appendfsync="everysec", shards=2, env=disk.environment) as server:
        with server.client() as client:
            longest, number = 0.0, 0
            with disk.hanging():
                until = time.monotonic() + 3.5
                while time.monotonic() < until or "aof_delayed_fsync:0" in client.cmd("INFO", "persistence").decode():
                    assert time.monotonic() < until + 30, "the delay is not counted"
                    began = time.monotonic()
                    client.pipeline([("INCR", "a"), ("MSET", "b", number, "c", number), ("GET", "a")])
                    longest, number = max(longest, time.monotonic() - began), number + 1
                    time.sleep(0.005)
            assert longest < 2, f"a reply took {longest:.1f} s"
            assert number > 20
