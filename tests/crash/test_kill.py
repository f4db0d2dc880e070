"""kill -9 at random moments under write load, in every persistence mode; then what was acknowledged
is there, transactions across shards are whole, and the server may come back with other shards.

CRASH_SEED repeats a run's choices (not its timing); CRASH_ROUNDS multiplies the kills.
"""

from __future__ import annotations

import os
import random
import time

import pytest

from crash.faults import slow_writes
from crash.workload import Ledger, Life
from support import Client, Server, ServerDied

SEED = int(os.environ.get("CRASH_SEED", random.randrange(10**9)))
ROUNDS = float(os.environ.get("CRASH_ROUNDS", 1))


def rounds(count: int) -> range:
    return range(max(1, round(count * ROUNDS)))


@pytest.fixture
def chance(request) -> random.Random:
    print(f"rerun: CRASH_SEED={SEED} pytest '{request.node.nodeid}'")
    return random.Random(f"{SEED}:{request.node.name}")


def _meanwhile(chance: random.Random, longest: float) -> None:
    # The random moment of the crash; nothing is waited for.
    time.sleep(chance.random() * longest)


def _crash(server: Server, chance: random.Random, life: Life, *, reshard: bool = True) -> None:
    server.kill()
    life.join()
    if reshard and chance.random() < 0.5:
        server.directives["shards"] = chance.choice((1, 2, 3, 8))
    server.start()
    assert "BUG REPORT" not in server.log()


AOF_MODES = {
    "everysec": dict(appendfsync="everysec"),
    "always": dict(appendfsync="always"),
    "no": dict(appendfsync="no"),
    "commands as base": dict(appendfsync="everysec", aof_use_rdb_preamble="no"),
    "with timestamps": dict(appendfsync="everysec", aof_timestamp_enabled="yes"),
    "by messages": dict(appendfsync="everysec", cross_shard="message"),
    "glommio everysec": dict(appendfsync="everysec", storage_backend="glommio"),
    "glommio always": dict(appendfsync="always", storage_backend="glommio"),
    "epoll": dict(appendfsync="everysec", io_backend="epoll"),
}


@pytest.mark.parametrize("mode", AOF_MODES)
def test_append_only_file_keeps_what_was_acknowledged(mode: str, chance: random.Random):
    ledger = Ledger()
    with Server(appendonly="yes", shards=chance.choice((2, 8)), **AOF_MODES[mode]) as server:
        for number in rounds(4):
            life = Life(server.port, number)
            life.wait_for(20)
            _meanwhile(chance, 0.3)
            _crash(server, chance, life)
            with server.client() as client:
                ledger.settle(client, life)


def test_transactions_whose_parts_are_written_far_apart(chance: random.Random):
    """Writes to segments begin late, so that most kills come while a transaction is in some of them: what
    was acknowledged behind it must not be lost with it."""
    ledger = Ledger()
    with Server(appendonly="yes", shards=4, env=slow_writes(".incr.aof", percent=20, micros=5000)) as server:
        for number in rounds(10):
            life = Life(server.port, number, writers=4)
            life.wait_for(20)
            _meanwhile(chance, 0.2)
            _crash(server, chance, life)
            with server.client() as client:
                ledger.settle(client, life)


@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_kill_during_rewrites(preamble: str, chance: random.Random):
    ledger = Ledger()
    with Server(appendonly="yes", shards=2, aof_use_rdb_preamble=preamble) as server:
        for number in rounds(6):
            life = Life(server.port, number)
            life.wait_for(20)
            with server.client() as client:
                for _ in range(chance.randrange(1, 4)):
                    _rewrite(client)
                    _meanwhile(chance, 0.15)
            _crash(server, chance, life)
            with server.client() as client:
                ledger.settle(client, life)


def _rewrite(client: Client) -> None:
    reply = client.call("BGREWRITEAOF")
    # One may be running still.
    assert b"started" in bytes(reply) or b"scheduled" in bytes(reply) if isinstance(reply, bytes) else (
        "already in progress" in reply.text), reply


def test_kill_while_the_append_only_file_is_switched_on(chance: random.Random):
    """Until the first rewrite has ended there is only what was there before; afterwards, everything."""
    for number in rounds(5):
        with Server(appendonly="no", shards=2) as server:
            life = Life(server.port, number)
            life.wait_for(20)
            with server.client() as client:
                client.cmd("CONFIG", "SET", "appendonly", "yes")
                whole = number % 2 == 0
                if whole:
                    _wait_for_manifest(server)
                _meanwhile(chance, 0.1)
            has_manifest = _manifest(server).exists()
            server.kill()
            life.join()
            server.directives["appendonly"] = "yes"
            try:
                server.start()
            except ServerDied as refusal:
                # Killed after the base had its name and before the manifest had.
                assert not has_manifest and "manifest is missing" in str(refusal), refusal
                continue
            with server.client() as client:
                # The manifest may have come into being between the look and the kill.
                if has_manifest or client.cmd("DBSIZE"):
                    Ledger().settle(client, life)


def _manifest(server: Server):
    return server.dir / "appendonlydir" / "appendonly.aof.manifest"


def _wait_for_manifest(server: Server) -> None:
    deadline = time.monotonic() + 20
    while not _manifest(server).exists():
        assert time.monotonic() < deadline, f"no append-only file came into being\n{server.log()}"
        time.sleep(0.005)


def test_kill_during_snapshots(chance: random.Random):
    """Snapshots alone: what is loaded is all that was done up to one moment, no earlier than the last
    BGSAVE that ended."""
    ledger = Ledger()
    with Server(appendonly="no", shards=2) as server:
        for number in rounds(6):
            life = Life(server.port, number)
            life.wait_for(20)
            saved = [0] * len(life.prefixes)
            with server.client() as client:
                for _ in range(chance.randrange(1, 4)):
                    begun = life.acknowledged_now()
                    client.cmd("BGSAVE")
                    if chance.random() < 0.7:
                        _wait_for_snapshot(client)
                        saved = begun
                    else:
                        break
            _meanwhile(chance, 0.1)
            _crash(server, chance, life)
            with server.client() as client:
                ledger.rebase(client)
                ledger.settle(client, life, loses_tail=True, at_least=saved)


def test_kill_with_save_points(chance: random.Random):
    ledger = Ledger()
    with Server(appendonly="no", shards=2, save=["1", "1"]) as server:
        for number in rounds(2):
            life = Life(server.port, number, writers=2)
            life.wait_for(20)
            begun = life.acknowledged_now()
            with server.client() as client:
                before = client.cmd("LASTSAVE")
                deadline = time.monotonic() + 20
                while client.cmd("LASTSAVE") == before:
                    assert time.monotonic() < deadline, "no save point was reached"
                    time.sleep(0.05)
            # LASTSAVE is when the snapshot ended; it began after `begun`, as nothing was unsaved then
            # for a second.
            _meanwhile(chance, 0.5)
            _crash(server, chance, life)
            with server.client() as client:
                ledger.rebase(client)
                ledger.settle(client, life, loses_tail=True, at_least=[0] * len(begun))
                assert client.cmd("DBSIZE") > 0


def _wait_for_snapshot(client: Client, timeout: float = 30.0) -> None:
    deadline = time.monotonic() + timeout
    while True:
        info = client.cmd("INFO", "persistence").decode()
        if "rdb_bgsave_in_progress:0" in info:
            assert "rdb_last_bgsave_status:ok" in info, info
            return
        assert time.monotonic() < deadline, info
        time.sleep(0.005)


def test_both_kinds_of_files(chance: random.Random):
    """Snapshots and rewrites and the append-only file at once, as `make run` has it."""
    ledger = Ledger()
    with Server(appendonly="yes", save=["1", "1"], shards=2, auto_aof_rewrite_percentage=50,
                auto_aof_rewrite_min_size="256kb") as server:
        for number in rounds(5):
            life = Life(server.port, number)
            life.wait_for(50)
            _meanwhile(chance, 1.2)
            _crash(server, chance, life)
            with server.client() as client:
                ledger.settle(client, life)


@pytest.mark.parametrize("cleanly", [True, False])
def test_the_number_of_shards_may_change(cleanly: bool, chance: random.Random):
    ledger = Ledger()
    with Server(appendonly="yes", shards=1) as server:
        for number, shards in enumerate((2, 8, 3, 1)):
            life = Life(server.port, number, writers=2)
            life.wait_for(100)
            if cleanly:
                life.stop()
                server.stop()
            else:
                server.kill()
                life.join()
            server.directives["shards"] = shards
            server.start()
            with server.client() as client:
                ledger.settle(client, life)


def test_the_check_notices_loss(chance: random.Random):
    """The canary: a lost operation, and half a transaction, must be found."""
    with Server(appendonly="yes", shards=2) as server:
        life = Life(server.port, 0, writers=1)
        life.wait_for(40)
        life.stop()
        with server.client() as client:
            Ledger().settle(client, life)
            for breakage in (("DECR", "life:0:0:counter"), ("LPOP", "life:0:0:list"), ("INCR", "life:0:0:pair:3"),
                             ("INCR", "account:1"), ("SREM", "life:0:0:set", 1), ("SET", "life:0:0:name:0", "x")):
                restored = client.cmd("DUMP", breakage[1])
                client.cmd(*breakage)
                with pytest.raises(AssertionError):
                    Ledger().settle(client, life)
                client.cmd("DEL", breakage[1])
                if restored is not None:
                    client.cmd("RESTORE", breakage[1], 0, restored)
            Ledger().settle(client, life)
