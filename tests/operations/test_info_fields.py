"""INFO has every field of Redis 7.4, in the section where monitoring looks for it, and those that count do count."""

from __future__ import annotations

import re
import time
from pathlib import Path

from support import Client, Server

PATIENCE = 30
EXPECTED = Path(__file__).resolve().parent / "redis-7.4-info-fields.txt"


def expected() -> dict[str, list[str]]:
    sections: dict[str, list[str]] = {}
    for line in EXPECTED.read_text().splitlines():
        if line.startswith("  "):
            sections[name] += line.split()
        elif not line.startswith("#"):
            name = line.rstrip(":")
            sections[name] = []
    return sections


def shown(client: Client, section: str = "everything") -> dict[str, dict[str, str]]:
    sections: dict[str, dict[str, str]] = {}
    for line in client.cmd("INFO", section).decode().splitlines():
        if line.startswith("# "):
            fields = sections.setdefault(line[2:], {})
        elif line:
            name, _, value = line.partition(":")
            assert name not in fields, f"{name} is shown twice"
            fields[name] = value
    return sections


def test_every_field_of_redis_is_there_and_of_its_kind() -> None:
    wanted = expected()
    assert sum(map(len, wanted.values())) > 180
    with Server("basalt", shards=2, appendonly="yes") as server, server.client() as client:
        found = shown(client)
        missing = {section: [name for name in names if name not in found.get(section, {})] for section, names in wanted.items()}
        assert {section: names for section, names in missing.items() if names} == {}
        for name in ("expired_stale_perc", "used_cpu_sys_main_thread", "used_cpu_user_main_thread", "instantaneous_eventloop_duration_usec"):
            value = next(fields[name] for fields in found.values() if name in fields)
            assert re.fullmatch(r"[0-9]+(\.[0-9]+)?", value), name
        assert re.fullmatch("[0-9a-f]{16}", found["Server"]["redis_build_id"])


def test_fields_that_count_do_count() -> None:
    with Server("basalt", shards=2) as server, server.client() as client:
        before = shown(client)
        assert client.cmd("SADD", "large", *range(5000)) == 5000
        client.cmd("UNLINK", "large")
        deadline = time.monotonic() + PATIENCE
        while shown(client)["Memory"]["lazyfreed_objects"] == "0" or shown(client)["Memory"]["lazyfree_pending_objects"] != "0":
            assert time.monotonic() < deadline
        for _ in range(200):
            client.cmd("PING")
        while shown(client)["Stats"]["instantaneous_eventloop_cycles_per_sec"] == "0":
            assert time.monotonic() < deadline
        after = shown(client)
        for name in ("eventloop_duration_sum", "eventloop_duration_cmd_sum", "eventloop_cycles"):
            assert int(after["Stats"][name]) > int(before["Stats"][name]), name
        client.cmd("CONFIG", "RESETSTAT")
        assert shown(client)["Memory"]["lazyfreed_objects"] == "0"
