"""The ways a server ends that are no crash of the machine: SIGTERM, a second one, a panic."""

from __future__ import annotations

import random
import signal
import time

import pytest

from crash.faults import slow_writes
from crash.test_kill import chance, rounds  # noqa: F401 (a fixture)
from crash.workload import Ledger, Life
from support import ConnectionClosed, Server

MODES = {
    "snapshot": dict(appendonly="no", save=["3600", "1"]),
    "everysec": dict(appendonly="yes", appendfsync="everysec"),
    "always": dict(appendonly="yes", appendfsync="always"),
    "glommio": dict(appendonly="yes", storage_backend="glommio"),
}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("mode", MODES)
def test_a_clean_end_under_load_keeps_everything(mode: str, number: int, chance: random.Random):
    ledger = Ledger()
    with Server(shards=2, **MODES[mode]) as server:
        for life_number in rounds(3):
            life = Life(server.port, life_number)
            life.wait_for(20)
            time.sleep(chance.random() * 0.1)
            server.signal(number)
            assert server.wait_exit(20) == 0, server.log()
            life.join()
            server.directives["shards"] = chance.choice((1, 2, 8))
            server.start()
            assert "cut off" not in server.log(), server.log()
            with server.client() as client:
                ledger.settle(client, life)


def test_a_second_sigterm_ends_at_once():
    """The first one's snapshot takes very long."""
    slow = slow_writes("temp-", percent=100, micros=2_000_000_000)
    with Server(save=["3600", "1"], shards=2, env=slow) as server:
        with server.client() as client:
            client.cmd("SET", "key", "value")
        server.signal(signal.SIGTERM)
        deadline = time.monotonic() + 20
        while "Saving the final" not in server.log():
            assert time.monotonic() < deadline, server.log()
            time.sleep(0.01)
        server.signal(signal.SIGTERM)
        assert server.wait_exit(5) == 1
        assert "You insist" in server.log()


def test_a_panic_is_reported_and_ends_the_server():
    with Server(appendonly="yes", shards=2) as server:
        with server.client() as client:
            client.cmd("SET", "key", "value")
            with pytest.raises(ConnectionClosed):
                client.call("DEBUG", "PANIC")
        assert server.wait_exit(20) == -signal.SIGABRT
        log = server.log()
        assert "BUG REPORT START" in log and "BUG REPORT END" in log
        assert "panicked" in log or "crashed" in log
        assert "session" in log, "the report has the stack"
        server.start()
        with server.client() as client:
            assert client.cmd("GET", "key") == b"value"
