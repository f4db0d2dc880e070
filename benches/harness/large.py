"""What a snapshot costs as the data grows: the freeze at the fork, the time, the memory copied for writes meanwhile; and one
huge hash, saved and loaded."""

from __future__ import annotations

import time
from pathlib import Path

from . import process, scenarios
from .dataset import POOL, STRIDE, Dataset
from .scenarios import Bench, Column, Figures, MeasurementError, Variant

VALUE_BYTES = 1000
QUIET_SECONDS = 2

FORK_COLUMNS = (
    Column("fork_us", "fork us", ",.0f", is_ratio=True),
    Column("freeze_us", "freeze us", ",.0f"),
    Column("quiet_write_ms", "worst write before ms", ".1f"),
    Column("worst_write_ms", "worst write ms", ".1f", is_ratio=True),
    Column("seconds", "file s", ".3f", is_ratio=True),
    Column("cow_mb", "COW MB", ",.0f", is_ratio=True),
    Column("file_mb", "file MB", ",.0f"),
)


def fork(bench: Bench, variant: Variant, *, gigabytes: float) -> Figures:
    """One BGSAVE while keys are overwritten at a fixed rate."""
    dataset = Dataset(int(gigabytes * 1e9) // VALUE_BYTES, VALUE_BYTES, "large:%011d")
    with bench.server(variant, rdbcompression="no") as server:
        bench.fill(server, dataset)
        with scenarios.Writer(server, dataset) as writer:
            time.sleep(QUIET_SECONDS)
            quiet, writer.worst_seconds = writer.worst_seconds, 0.0
            figures = scenarios.snapshot(server)
            worst = writer.worst_seconds
        with server.client() as client:
            persistence = scenarios.info(client, "persistence")
        if "latest_fork_freeze_usec" in persistence:
            figures["freeze_us"] = float(persistence["latest_fork_freeze_usec"])
        figures |= {
            "quiet_write_ms": quiet * 1e3,
            "worst_write_ms": worst * 1e3,
            "cow_mb": int(persistence["rdb_last_cow_size"]) / 1e6,
            "file_mb": (server.dir / "dump.rdb").stat().st_size / 1e6,
        }
    if gigabytes > 1:
        # Gigabytes of commands that no other measurement sends.
        for path in bench.work_dir.glob(f"set-{dataset.key_count}-{VALUE_BYTES}-*"):
            path.unlink()
    return figures


HASH_COLUMNS = (
    Column("seconds", "file s", ".3f", is_ratio=True),
    Column("cow_mb", "child MB", ",.1f"),
    Column("ready_seconds", "ready after s", ".3f", is_ratio=True),
    Column("after_mb", "MB when loaded", ",.0f"),
    Column("peak_mb", "MB peak of loading", ",.0f", is_ratio=True),
)
FIELDS_PER_COMMAND = 100


def huge_hash(bench: Bench, variant: Variant, *, gigabytes: float) -> Figures:
    """One hash of so many GB: saved at rest, and loaded."""
    fields = int(gigabytes * 1e9) // VALUE_BYTES
    with bench.server(variant, rdbcompression="no") as server:
        with server.client(timeout=120) as client:
            for first in range(0, fields, FIELDS_PER_COMMAND * 50):
                batch = []
                for begin in range(first, min(first + FIELDS_PER_COMMAND * 50, fields), FIELDS_PER_COMMAND):
                    words: list[object] = ["HSET", "huge"]
                    for n in range(begin, begin + FIELDS_PER_COMMAND):
                        at = n * STRIDE % (len(POOL) - VALUE_BYTES)
                        words += [n, POOL[at:at + VALUE_BYTES]]
                    batch.append(words)
                client.pipeline(batch)
        figures = scenarios.snapshot(server)
        with server.client() as client:
            figures["cow_mb"] = int(scenarios.info(client, "persistence")["rdb_last_cow_size"]) / 1e6
        server.kill()
        began = time.monotonic()
        server.spawn()
        scenarios.first_pong(server)
        figures["ready_seconds"] = time.monotonic() - began
        with server.client() as client:
            if client.cmd("HLEN", "huge") != fields:
                raise MeasurementError("fields are missing after loading")
        figures["after_mb"] = process.resident_bytes(server.pid) / 1e6
        figures["peak_mb"] = peak_bytes(server.pid) / 1e6
        return figures


def peak_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise MeasurementError("no VmHWM")
