"""CONFIG SET appendonly yes, then waiting for the rewrite, then a crash: what people do who come from snapshots."""

from __future__ import annotations

import time

import pytest

from support import Client, Server


def persistence(client: Client) -> dict[str, str]:
    lines = client.cmd("INFO", "persistence").decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


@pytest.mark.parametrize("kind", ["basalt", "redis"])
def test_the_rewrite_shows_as_soon_as_the_aof_is_switched_on(kind: str, tmp_path) -> None:
    with Server(kind, dir=tmp_path, appendonly="no") as server:
        for round_ in range(5):
            with server.client() as client:
                client.cmd("SET", f"before:{round_}", 1)
                assert client.cmd("CONFIG", "SET", "appendonly", "yes") == b"OK"
                info = persistence(client)
                assert info["aof_enabled"] == "1"
                assert info["aof_rewrite_in_progress"] == "1" or info["aof_rewrites"] == "1"
                deadline = time.monotonic() + 30
                while persistence(client)["aof_rewrite_in_progress"] != "0":
                    assert time.monotonic() < deadline
                assert persistence(client)["aof_last_bgrewrite_status"] == "ok"
                client.cmd("SET", f"after:{round_}", 1)
            server.restart(crash=True, appendonly="yes")
            with server.client() as client:
                assert client.cmd("DBSIZE") == 2 * (round_ + 1)
                client.cmd("CONFIG", "SET", "appendonly", "no")
