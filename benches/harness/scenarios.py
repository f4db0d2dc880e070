"""What is measured, on which servers, and how.

A scenario is a title, the variants of servers it runs on, the columns of its table, and a function that
takes one started variant through one measurement and returns figures by column name. Every measurement
starts a fresh server in an empty directory and ends with that server gone: nothing is carried over from
one to the next, and only one server is ever running.
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Callable

from support import Client, ConnectionClosed, ReplyError, Server, ServerDied

from . import process
from .dataset import Dataset
from .generator import Traffic

POLL_SECONDS = 0.002
LIMIT_SECONDS = 600  # for anything that is waited for
Figures = dict[str, float]


class MeasurementError(Exception):
    """The server did not do what the measurement is about; there is no figure."""


@dataclass(frozen=True)
class Variant:
    name: str
    kind: str  # as `Server` understands it
    directives: tuple[tuple[str, str], ...] = ()
    saved_by: "Variant | None" = None  # whose dump it starts with, where that is not its own


@dataclass(frozen=True)
class Column:
    key: str
    title: str
    form: str  # format specification
    is_ratio: bool = False  # worth a column of ratios to Redis


@dataclass(frozen=True)
class Scenario:
    name: str
    title: str
    variants: tuple[Variant, ...]
    columns: tuple[Column, ...]
    measure: Callable[["Bench", Variant], Figures]
    is_repeatable: bool = True  # False: one round is enough, the figure does not scatter
    is_default: bool = True  # False: run only when it is named
    group: str = ""  # a name for several of them


@dataclass
class Bench:
    """What a measurement needs besides its variant."""

    work_dir: Path
    generator: object
    seconds: int
    bulk_keys: int  # of the snapshot, load and replay scenarios
    basalt_directives: dict[str, str] = field(default_factory=dict)

    def server(self, variant: Variant, folder: Path | None = None, **directives: object) -> Server:
        """Not started yet. Its directory is new unless given."""
        if folder is None:
            folder = self.work_dir / "server"
            shutil.rmtree(folder, ignore_errors=True)
        directives |= {name.replace("-", "_"): value for name, value in variant.directives}
        if variant.kind == "basalt":
            directives |= self.basalt_directives
        # A benchmark's directory of several GB must not be written to by a rewrite in the middle of it.
        return Server(variant.kind, dir=folder, auto_aof_rewrite_percentage=0, **directives)

    def fill(self, server: Server, dataset: Dataset) -> None:
        dataset.send_to(server.port, self.work_dir)
        expect_keys(server, dataset.key_count)


REDIS = Variant("redis", "redis-new")
VALKEY = Variant("valkey", "valkey-new")


def basalt(shards: int, io_backend: str | None = None) -> Variant:
    directives = [("shards", str(shards))] + ([("io-backend", io_backend)] if io_backend else [])
    return Variant("-".join(["basalt", str(shards)] + ([io_backend] if io_backend else [])), "basalt",
                   tuple(directives))


# -- traffic ---------------------------------------------------------------------------------------

TRAFFIC_COLUMNS = (
    Column("throughput", "ops/s", ",.0f", is_ratio=True),
    Column("cpu_us_per_op", "CPU us/op", ".3f", is_ratio=True),
    Column("p50_ms", "p50 ms", ".2f"),
    Column("p99_ms", "p99 ms", ".2f"),
    Column("p999_ms", "p99.9 ms", ".2f"),
)


def traffic(bench: Bench, variant: Variant, *, load: Traffic, **directives: object) -> Figures:
    dataset = Dataset(load.key_count, load.value_bytes, bench.generator.key_format)
    with bench.server(variant, **directives) as server:
        bench.fill(server, dataset)
        settle_files(server)
        figures = offer(bench, server, load)
        if figures["miss_ratio"] > 0.01:
            raise MeasurementError(f"{figures['miss_ratio']:.0%} of the GETs found no key")
        return figures


def offer(bench: Bench, server: Server, load: Traffic) -> Figures:
    """Runs the generator; the server's CPU time is that between its start and its end."""
    machine, cpu, began = process.MachineTime.now(), process.cpu_seconds(server.pid), time.monotonic()
    answer = bench.generator.run(server.port, load, bench.seconds)
    elapsed = time.monotonic() - began
    cpu = process.cpu_seconds(server.pid) - cpu
    spent = process.MachineTime.now().since(machine)
    return {
        "throughput": answer.throughput,
        "cpu_us_per_op": cpu / answer.operations * 1e6,
        "p50_ms": answer.p50_ms, "p99_ms": answer.p99_ms, "p999_ms": answer.p999_ms,
        "operations": answer.operations,
        "miss_ratio": answer.miss_ratio,
        "server_cpu_seconds": cpu,
        "generator_cpu_seconds": answer.cpu_seconds,
        # What neither the server nor the generator used, as cores: other programs and the hypervisor.
        "disturbance_cores": max(0.0, spent.busy - cpu - answer.cpu_seconds + spent.stolen) / elapsed,
    }


def reads_beside_writes(bench: Bench, variant: Variant, *, writers: Traffic, readers: Traffic) -> Figures:
    """Writers alone, readers alone, then both at once, each measured by itself."""
    dataset = Dataset(readers.key_count, readers.value_bytes, bench.generator.key_format)
    # A variant's own directives count: those without AOF say so.
    with bench.server(variant, appendonly="yes", appendfsync="always") as server:
        bench.fill(server, dataset)
        settle_files(server)
        figures = offer(bench, server, writers)
        figures["gets_alone"] = bench.generator.run(server.port, readers, bench.seconds).throughput
        with ThreadPoolExecutor() as pool:
            both = [pool.submit(bench.generator.run, server.port, part, bench.seconds)
                    for part in (writers, readers)]
            figures["mixed_sets"], figures["mixed_gets"] = (answer.result().throughput for answer in both)
        return figures


def settle_files(server: Server) -> None:
    """Brings what the fill left in the page cache to the disk, so that it is not written while measuring."""
    for path in server.dir.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())


# -- snapshots -------------------------------------------------------------------------------------

BULK_VALUE_BYTES = 100
WRITES_PER_SECOND = 20_000

BGSAVE_COLUMNS = (
    Column("seconds", "file s", ".3f", is_ratio=True),
    Column("reported_seconds", "INFO s", ".3f"),
    Column("fork_us", "fork us", ",.0f"),
    Column("file_mb", "file MB", ".0f"),
    Column("before_mb", "MB before", ".0f"),
    Column("peak_mb", "MB peak", ".0f", is_ratio=True),
    Column("worst_write_ms", "worst write ms", ".1f"),
)


def bulk(bench: Bench) -> Dataset:
    return Dataset(bench.bulk_keys, BULK_VALUE_BYTES, "bulk:%011d")


def bgsave(bench: Bench, variant: Variant) -> Figures:
    """One BGSAVE of a server at rest, for its duration; one under writes, for the memory it takes."""
    dataset = bulk(bench)
    with bench.server(variant) as server:
        bench.fill(server, dataset)
        figures = snapshot(server)
        figures["file_mb"] = (server.dir / "dump.rdb").stat().st_size / 1e6
        figures["before_mb"] = peak = process.family_bytes(server.pid) / 1e6
        with Writer(server, dataset) as writer:
            finished = threading.Event()
            with ThreadPoolExecutor(1) as pool:
                saving = pool.submit(snapshot, server)
                saving.add_done_callback(lambda _: finished.set())
                while not finished.wait(0.05):
                    peak = max(peak, process.family_bytes(server.pid) / 1e6)
                saving.result()
        figures["peak_mb"] = peak
        figures["worst_write_ms"] = writer.worst_seconds * 1e3
        return figures


def snapshot(server: Server) -> Figures:
    """BGSAVE. `seconds` ends when the file carries its final name, `reported_seconds` when INFO says so.

    The two differ by what the server takes to notice its child's end: Redis looks ten times a second.
    """
    file = server.dir / "dump.rdb"
    before = identity(file)
    with server.client() as client:
        began = time.monotonic()
        client.cmd("BGSAVE")
        renamed = None
        while True:
            now = time.monotonic() - began
            if renamed is None and identity(file) != before:
                renamed = now
            persistence = info(client, "persistence")
            if persistence["rdb_bgsave_in_progress"] == "0":
                break
            if now > LIMIT_SECONDS:
                raise MeasurementError(f"BGSAVE still runs after {LIMIT_SECONDS} s")
            time.sleep(POLL_SECONDS)
        reported = time.monotonic() - began
        if persistence["rdb_last_bgsave_status"] != "ok" or identity(file) == before:
            raise MeasurementError(f"BGSAVE failed:\n{server.log()[-2000:]}")
        return {
            "seconds": reported if renamed is None else renamed,
            "reported_seconds": reported,
            "fork_us": float(info(client, "stats")["latest_fork_usec"]),
        }


def identity(file: Path) -> tuple[int, int] | None:
    try:
        stat = file.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns


class Writer(threading.Thread):
    """Overwrites keys of the dataset at a fixed rate, and remembers the longest wait for a reply."""

    BATCH = WRITES_PER_SECOND // 100

    def __init__(self, server: Server, dataset: Dataset):
        super().__init__(daemon=True)
        self.server, self.dataset = server, dataset
        self.worst_seconds = 0.0
        self.problem: Exception | None = None
        self.stopping = threading.Event()

    def __enter__(self) -> "Writer":
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stopping.set()
        self.join()
        if self.problem and not exc[0]:
            raise MeasurementError(f"a write failed: {self.problem}")

    def run(self) -> None:
        try:
            with self.server.client() as client:
                index, due = 0, time.monotonic()
                while not self.stopping.is_set():
                    batch = []
                    for _ in range(self.BATCH):
                        index = (index + 1_000_003) % self.dataset.key_count
                        batch.append(self.dataset.command(index, index + 7))
                    began = time.monotonic()
                    client.send_raw(b"".join(batch))
                    left = self.BATCH * len(b"+OK\r\n")
                    while left:
                        data = client.sock.recv(left)
                        if not data or b"-" in data:
                            raise MeasurementError(data.decode(errors="replace") or "connection closed")
                        left -= len(data)
                    self.worst_seconds = max(self.worst_seconds, time.monotonic() - began)
                    due += self.BATCH / WRITES_PER_SECOND
                    time.sleep(max(0.0, due - time.monotonic()))
        except Exception as problem:
            self.problem = problem


# -- start-up --------------------------------------------------------------------------------------

START_COLUMNS = (
    Column("seconds", "ready after s", ".3f", is_ratio=True),
    Column("logged_seconds", "by its log s", ".3f"),
    Column("cpu_seconds", "CPU s", ".2f", is_ratio=True),
    Column("file_mb", "files MB", ".0f"),
)


def load(bench: Bench, variant: Variant) -> Figures:
    """Start with a dump.rdb, the variant's own or one that another server wrote."""
    with bench.server(variant.saved_by or variant) as server:
        bench.fill(server, bulk(bench))
        snapshot(server)
        server.stop()
    return timed_start(bench.server(variant, server.dir), bench.bulk_keys)


def replay(bench: Bench, variant: Variant) -> Figures:
    """Start with an AOF of nothing but SET commands."""
    with bench.server(variant, appendonly="yes", aof_use_rdb_preamble="no") as server:
        bench.fill(server, bulk(bench))
        server.stop()
    return timed_start(bench.server(variant, server.dir, appendonly="yes", aof_use_rdb_preamble="no"),
                       bench.bulk_keys)


def timed_start(server: Server, key_count: int) -> Figures:
    """From the start of the process to the first PONG, its files being in the page cache."""
    (server.dir / "server.log").unlink(missing_ok=True)
    size = 0
    for path in server.dir.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
                while part := file.read(1 << 22):
                    size += len(part)
    try:
        began = time.monotonic()
        server.spawn()
        first_pong(server)
        seconds = time.monotonic() - began
        figures = {"seconds": seconds, "cpu_seconds": process.cpu_seconds(server.pid), "file_mb": size / 1e6}
        expect_keys(server, key_count)
        if (logged := logged_seconds(server.log())) is not None:
            figures["logged_seconds"] = logged
        return figures
    finally:
        server.close()


def first_pong(server: Server) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        if not server.running:
            raise ServerDied(f"{server.binary} ended while loading\n{server.log()[-4000:]}")
        try:
            with Client(server.port, timeout=LIMIT_SECONDS) as client:
                while isinstance(reply := client.call("PING"), ReplyError):
                    if reply.code != "LOADING":
                        raise MeasurementError(f"PING: {reply.text}")
                    time.sleep(POLL_SECONDS)
                return
        except (OSError, ConnectionClosed):
            time.sleep(POLL_SECONDS)
    raise MeasurementError(f"not ready after {LIMIT_SECONDS} s\n{server.log()[-4000:]}")


def logged_seconds(log: str) -> float | None:
    """What the server's log says that loading took; the last such line counts."""
    found = re.findall(r"loaded .*?([\d.]+) seconds", log)
    return float(found[-1]) if found else None


# -- memory ----------------------------------------------------------------------------------------

MEMORY_KEYS = 1_000_000
MEMORY_VALUE_BYTES = (8, 100, 400)
MEMORY_COLUMNS = tuple(
    Column(f"bytes_per_key_{size}", f"B/key, {size} B values", ".1f", is_ratio=True) for size in MEMORY_VALUE_BYTES)


def memory(bench: Bench, variant: Variant) -> Figures:
    figures = {}
    for size in MEMORY_VALUE_BYTES:
        with bench.server(variant) as server:
            empty = settled_bytes(server)
            bench.fill(server, Dataset(MEMORY_KEYS, size, "key:%012d"))
            figures[f"bytes_per_key_{size}"] = (settled_bytes(server) - empty) / MEMORY_KEYS
    return figures


def settled_bytes(server: Server) -> int:
    """RSS once it has kept still for a second (buffers given back, tables done with growing)."""
    deadline = time.monotonic() + 15
    history = [process.resident_bytes(server.pid)]
    while time.monotonic() < deadline:
        time.sleep(0.1)
        history.append(process.resident_bytes(server.pid))
        recent = history[-10:]
        if len(recent) == 10 and max(recent) - min(recent) < 64 << 10:
            break
    return history[-1]


# -- small things ----------------------------------------------------------------------------------

def info(client: Client, section: str) -> dict[str, str]:
    lines = client.cmd("INFO", section).decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def expect_keys(server: Server, count: int) -> None:
    with server.client() as client:
        found = client.cmd("DBSIZE")
    if found != count:
        raise MeasurementError(f"{found} keys in the server where {count} were sent")


# -- the list --------------------------------------------------------------------------------------

def all_scenarios(shards: int, sizes: tuple[float, ...] = ()) -> tuple[Scenario, ...]:
    from . import commands, large  # which use what is above

    many, ring, epoll = basalt(shards), basalt(1, "io_uring"), basalt(1, "epoll")
    peers = (REDIS, VALKEY)
    every = (*peers, many, ring, epoll)
    without_aof = replace(many, name=f"{many.name}-no-aof", directives=(*many.directives, ("appendonly", "no")))

    def mixed(name: str, value_bytes: int, pipeline: int) -> Scenario:
        return Scenario(
            name, f"GET/SET 10:1, {value_bytes} B, pipeline {pipeline}, 100 connections", every, TRAFFIC_COLUMNS,
            partial(traffic, load=Traffic(1, 10, value_bytes, pipeline, 100, 1_000_000)))

    return (
        mixed("p1", 256, 1),
        mixed("p16", 256, 16),
        mixed("p100", 64, 100),
        Scenario("aof", "SET, 256 B, pipeline 16, 100 connections, AOF everysec",
                 (*peers, many, without_aof, basalt(1)), TRAFFIC_COLUMNS,
                 partial(traffic, load=Traffic(1, 0, 256, 16, 100, 1_000_000),
                         appendonly="yes", appendfsync="everysec")),
        Scenario("aofmixed", "GET/SET 10:1, 256 B, pipeline 16, 100 connections, AOF everysec",
                 (REDIS, many, without_aof), TRAFFIC_COLUMNS,
                 partial(traffic, load=Traffic(1, 10, 256, 16, 100, 1_000_000),
                         appendonly="yes", appendfsync="everysec")),
        Scenario("always", "SET, 256 B, pipeline 1, 8 connections, AOF always; 50 that GET; then both at once",
                 (REDIS, replace(REDIS, name="redis-no-aof", directives=(("appendonly", "no"),)), VALKEY, many, without_aof),
                 (*TRAFFIC_COLUMNS, Column("gets_alone", "GET/s of 50 alone", ",.0f"),
                  Column("mixed_sets", "SET/s of 8 beside", ",.0f"),
                  Column("mixed_gets", "GET/s of 50 beside", ",.0f", is_ratio=True)),
                 partial(reads_beside_writes, writers=Traffic(1, 0, 256, 1, 8, 100_000),
                         readers=Traffic(0, 1, 256, 1, 50, 100_000))),
        Scenario("bgsave", f"BGSAVE, {BULK_VALUE_BYTES} B strings; memory of parent and child under "
                 f"{WRITES_PER_SECOND:,} SET/s", (*peers, many), BGSAVE_COLUMNS, bgsave),
        Scenario("load", "start with that dump (basalt-of-redis: Basalt with the dump that Redis wrote)",
                 (*peers, many, basalt(1), replace(many, name="basalt-of-redis", saved_by=REDIS)), START_COLUMNS, load),
        Scenario("replay", "start with an AOF of the same SETs", (*peers, many, basalt(1)), START_COLUMNS, replay),
        Scenario("memory", f"memory per key: {MEMORY_KEYS:,} keys of 16 B, by RSS", (*peers, many), MEMORY_COLUMNS,
                 memory, is_repeatable=False),
        *(Scenario(f"fork-{size:g}", f"BGSAVE of {size:g} GB of {large.VALUE_BYTES} B strings, under {WRITES_PER_SECOND:,} SET/s",
                   (*peers, many), large.FORK_COLUMNS, partial(large.fork, gigabytes=size), is_repeatable=False,
                   is_default=False, group="fork") for size in sizes),
        *(Scenario(f"hash-{size:g}", f"one hash of {size:g} GB: BGSAVE, and start with that dump", (*peers, many),
                   large.HASH_COLUMNS, partial(large.huge_hash, gigabytes=size), is_repeatable=False,
                   is_default=False, group="hash") for size in sizes),
        *commands.command_scenarios(many),
    )

