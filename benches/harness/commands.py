"""Scenarios beyond GET and SET: one command each at pipeline 16, and the memory of each type's elements.

The traffic is redis-benchmark's, whichever generator the others use: it draws each `__rand_int__` of a command anew,
so that keys and elements spread.
"""

from __future__ import annotations

import socket
import time
from functools import partial

from support import Server, peer_binary
from support.resp import encode_command

from . import process, scenarios
from .generator import GeneratorError, RedisBenchmark, Traffic
from .scenarios import REDIS, VALKEY, Bench, Column, Figures, MeasurementError, Scenario, Variant

KEYS = 100_000
PIPELINE = 16
CONNECTIONS = 100
R = "__rand_int__"
GET_SCRIPT = "return redis.call('GET', KEYS[1])"

COMMANDS = {
    "incr": ["INCR", f"counter:{R}"],
    "lpush": ["LPUSH", f"list:{R}", f"element-{R}"],
    "sadd": ["SADD", f"set:{R}", f"member-{R}"],
    "hset": ["HSET", f"hash:{R}", f"field-{R}", "value"],
    "zadd": ["ZADD", f"zset:{R}", R, f"member-{R}"],
    "xadd": ["XADD", f"stream:{R}", "*", "field", f"value-{R}"],
    "mget": ["MGET", *[f"key:{R}"] * 10],
    "mset": ["MSET", *[f"key:{R}", "x" * 100] * 10],
    "eval": ["EVAL", GET_SCRIPT, "1", f"key:{R}"],
}
ELEMENTS = 1_000_000
# One collection of all elements, and as many of ten as make the same number.
SHAPES = {"one": 1, "tens": ELEMENTS // 10}
TYPES = {
    "list": lambda key, n: ["RPUSH", key, f"element:{n:08}"],
    "set": lambda key, n: ["SADD", key, f"member:{n:08}"],
    "hash": lambda key, n: ["HSET", key, f"field:{n:08}", f"value:{n:08}"],
    "zset": lambda key, n: ["ZADD", key, str(n), f"member:{n:08}"],
    "stream": lambda key, n: ["XADD", key, f"{n + 1}-1", "field", f"value:{n:08}"],
}


def one_command(bench: Bench, variant: Variant, *, name: str) -> Figures:
    binary = peer_binary("redis-benchmark")
    if not binary:
        raise GeneratorError("redis-benchmark of the newest Redis was not found")
    generator = RedisBenchmark(binary)
    load = Traffic(0, 0, 0, PIPELINE, CONNECTIONS, KEYS)
    with bench.server(variant) as server:
        # Whoever asked while it started was told to wait.
        errors = error_replies(server)
        if name in ("mget", "eval"):
            generator.requests(server.port, load, ["SET", f"key:{R}", "x" * 100], 5 * KEYS, bench.seconds)
        rate = generator.requests(server.port, load, COMMANDS[name], generator.CALIBRATION_REQUESTS, bench.seconds).throughput
        cpu = process.cpu_seconds(server.pid)
        answer = generator.requests(server.port, load, COMMANDS[name], int(rate * bench.seconds), bench.seconds)
        cpu = process.cpu_seconds(server.pid) - cpu
        if error_replies(server) != errors:
            raise MeasurementError(f"{name} was answered with errors")
    return {"throughput": answer.throughput, "cpu_us_per_op": cpu / answer.operations * 1e6,
            "p50_ms": answer.p50_ms, "p99_ms": answer.p99_ms, "p999_ms": answer.p999_ms}


def error_replies(server: Server) -> int:
    with server.client() as client:
        return int(scenarios.info(client, "stats")["total_error_replies"])


def elements(bench: Bench, variant: Variant, *, kind: str) -> Figures:
    figures = {}
    for shape, keys in SHAPES.items():
        with bench.server(variant) as server:
            empty = scenarios.settled_bytes(server)
            send(server.port, (TYPES[kind](f"{kind}:{n % keys:06}", n) for n in range(ELEMENTS)))
            scenarios.expect_keys(server, keys)
            figures[f"bytes_{shape}"] = (scenarios.settled_bytes(server) - empty) / ELEMENTS
    return figures


def send(port: int, commands: object, batch: int = 1000) -> None:
    """Sends commands in pipelines, and looks for errors in the replies."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.settimeout(60)
        part: list[bytes] = []
        for command in commands:
            part.append(encode_command(*command))
            if len(part) == batch:
                exchange(sock, part)
                part = []
        if part:
            exchange(sock, part)


def exchange(sock: socket.socket, part: list[bytes]) -> None:
    sock.sendall(b"".join(part))
    replies, deadline, data = 0, time.monotonic() + 60, b""
    while replies < len(part):
        received = sock.recv(1 << 20)
        if not received or time.monotonic() > deadline:
            raise MeasurementError("the server stopped answering")
        # A reply is `:1` or `+OK`, or an ID behind its length.
        data += received
        lines = data.split(b"\r\n")
        data = lines.pop()
        if any(line.startswith(b"-") for line in lines):
            raise MeasurementError(f"refused: {next(line for line in lines if line.startswith(b'-'))!r}")
        replies += sum(not line.startswith(b"$") for line in lines)


def command_scenarios(many: Variant) -> list[Scenario]:
    columns = tuple(Column(f"bytes_{shape}", f"B/element, {keys:,} keys", ".1f", is_ratio=True) for shape, keys in SHAPES.items())
    return [
        *(Scenario(name, f"{words[0]}, pipeline {PIPELINE}, {CONNECTIONS} connections, {KEYS:,} keys", (REDIS, VALKEY, many),
                   scenarios.TRAFFIC_COLUMNS, partial(one_command, name=name), is_default=False, group="commands")
          for name, words in COMMANDS.items()),
        *(Scenario(f"{kind}-memory", f"memory of {ELEMENTS:,} small elements of type {kind}, by RSS", (REDIS, VALKEY, many),
                   columns, partial(elements, kind=kind), is_repeatable=False, is_default=False, group="elements")
          for kind in TYPES),
    ]
