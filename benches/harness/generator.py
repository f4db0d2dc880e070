"""The load generator: memtier_benchmark, or redis-benchmark where that is missing.

Both are told the same thing (`Traffic`) and answer the same thing (`Answer`). They differ in one point:
redis-benchmark cannot mix commands, so it sends the GETs first and the SETs after them, and it counts
requests instead of seconds.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from support import peer_binary

THREADS = 2
GRACE_SECONDS = 60


class GeneratorError(Exception):
    """The generator is missing, failed or hung."""


@dataclass(frozen=True)
class Traffic:
    sets: int  # SET and GET are sent in this proportion
    gets: int
    value_bytes: int
    pipeline: int
    connections: int
    key_count: int


@dataclass
class Answer:
    operations: int
    throughput: float  # operations per second
    p50_ms: float
    p99_ms: float
    p999_ms: float
    miss_ratio: float  # of the GETs; 0 where the generator does not tell
    cpu_seconds: float  # of the generator itself


def find(same_keys: bool = False) -> "Memtier | RedisBenchmark":
    memtier = os.environ.get("MEMTIER") or shutil.which("memtier_benchmark")
    if memtier:
        if not os.access(memtier, os.X_OK):
            raise GeneratorError(f"MEMTIER is {memtier}, which cannot be executed")
        return Memtier(memtier, same_keys)
    benchmark = peer_binary("redis-benchmark") or shutil.which("redis-benchmark")
    if benchmark:
        return RedisBenchmark(benchmark)
    raise GeneratorError("neither memtier_benchmark (on PATH or in $MEMTIER) nor redis-benchmark was found")


class Memtier:
    name = "memtier_benchmark"
    key_format = "memtier-%d"

    def __init__(self, path: str, same_keys: bool):
        self.path = path
        # memtier's default is one random sequence for all connections. Running nearly in step, they then
        # find each key in the processor's cache where another has just been: twice the
        # throughput, and not what clients do.
        self.seeds = [] if same_keys else ["--distinct-client-seed"]

    def run(self, port: int, traffic: Traffic, seconds: int) -> Answer:
        with tempfile.TemporaryDirectory(prefix="memtier-") as folder:
            answer = Path(folder) / "answer.json"
            cpu = _run(self.command(port, traffic, seconds) + ["--json-out-file", str(answer)], seconds)[1]
            stats = json.loads(answer.read_text())["ALL STATS"]
        totals = stats["Totals"]
        errors = totals.get("Connection Errors", 0)
        if errors or not totals["Count"]:
            raise GeneratorError(f"memtier counted {totals['Count']} operations and {errors:.0f} connection errors")
        latency = totals["Percentile Latencies"]
        gets = totals["Hits/sec"] + totals["Misses/sec"]
        return Answer(
            operations=totals["Count"],
            throughput=whole_seconds(stats, seconds),
            p50_ms=latency["p50.00"], p99_ms=latency["p99.00"], p999_ms=latency["p99.90"],
            miss_ratio=totals["Misses/sec"] / gets if gets else 0.0,
            cpu_seconds=cpu,
        )

    def command(self, port: int, traffic: Traffic, seconds: int) -> list[str]:
        return [
            self.path, "-s", "127.0.0.1", "-p", str(port), "-P", "redis",
            "-t", str(THREADS), "-c", str(traffic.connections // THREADS),
            "--ratio", f"{traffic.sets}:{traffic.gets}", "-d", str(traffic.value_bytes),
            "--key-maximum", str(traffic.key_count), "--key-pattern", "R:R",
            "--pipeline", str(traffic.pipeline), "--test-time", str(seconds), "--hide-histogram", *self.seeds,
        ]


def whole_seconds(stats: dict, seconds: int) -> float:
    """Operations per second by memtier's count of each second.

    Not its "Ops/sec", which divides by a duration that is now and then a whole second too long or too short:
    20% of a run of 5 seconds. (It averages the seconds and the microseconds of its clients' times apart.)
    """
    counted = sum(second["Count"] for kind in ("Sets", "Gets") for index, second in stats[kind]["Time-Serie"].items()
                  if int(index) < seconds)
    total = stats["Totals"]["Count"]
    if counted < 0.97 * total:
        raise GeneratorError(f"memtier counted {total} operations, only {counted} of them within {seconds} s")
    return counted / seconds


class RedisBenchmark:
    name = "redis-benchmark"
    key_format = "memtier-%012d"
    CALIBRATION_REQUESTS = 200_000

    def __init__(self, path: str):
        self.path = path

    def run(self, port: int, traffic: Traffic, seconds: int) -> Answer:
        phases = [(["GET", "memtier-__rand_int__"], traffic.gets),
                  (["SET", "memtier-__rand_int__", "x" * traffic.value_bytes], traffic.sets)]
        phases = [(words, share / (traffic.gets + traffic.sets)) for words, share in phases if share]
        rate = self.requests(port, traffic, phases[0][0], self.CALIBRATION_REQUESTS, seconds).throughput
        parts = [self.requests(port, traffic, words, int(rate * seconds * share), seconds)
                 for words, share in phases]
        operations = sum(part.operations for part in parts)
        main = parts[0]  # the percentiles of the more frequent command
        return Answer(
            operations=operations + self.CALIBRATION_REQUESTS,
            throughput=operations / sum(part.operations / part.throughput for part in parts),
            p50_ms=main.p50_ms, p99_ms=main.p99_ms, p999_ms=main.p999_ms, miss_ratio=0.0,
            cpu_seconds=sum(part.cpu_seconds for part in parts),
        )

    def requests(self, port: int, traffic: Traffic, words: list[str], requests: int, seconds: int) -> Answer:
        """So many requests of one command, given as its words."""
        command = [self.path, "-h", "127.0.0.1", "-p", str(port), "-c", str(traffic.connections),
                   "--threads", str(THREADS), "-P", str(traffic.pipeline), "-r", str(traffic.key_count),
                   "-n", str(requests), "--precision", "3", *words]
        text, cpu = _run(command, seconds)
        return parse_redis_benchmark(text, cpu)


def parse_redis_benchmark(text: str, cpu_seconds: float) -> Answer:
    """The percentiles printed first, before the cumulative distribution, and the throughput at the end."""
    rate = re.search(r"throughput summary: ([\d.]+) requests per second", text)
    rows = [(float(percent), float(ms), int(count)) for percent, ms, count in re.findall(
        r"^([\d.]+)% <= ([\d.]+) milliseconds \(cumulative count (\d+)\)",
        text.partition("Cumulative distribution")[0], re.MULTILINE)]
    if not rate or not rows:
        raise GeneratorError(f"redis-benchmark printed no summary:\n{text[-1000:]}")

    def at(percentile: float) -> float:
        return next(ms for percent, ms, _ in rows if percent >= percentile)

    return Answer(rows[-1][2], float(rate[1]), at(50), at(99), at(99.9), 0.0, cpu_seconds)


def _run(command: list[str], seconds: int) -> tuple[str, float]:
    """Standard output, and the CPU time used."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace",
                              stdin=subprocess.DEVNULL, timeout=seconds + GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        raise GeneratorError(f"no end after {seconds + GRACE_SECONDS} s: {' '.join(command)}") from None
    if done.returncode != 0:
        raise GeneratorError(f"{' '.join(command)}\nended with {done.returncode}\n{done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
