"""Runs a script on a reference and on any number of other servers at once, and finds the first difference.

Plain steps are sent in batches. Every batch ends with an ECHO whose reply marks its end, so that the
bytes of a batch can be compared whole; only batches that differ are parsed and judged reply by reply.
The whole state is compared every few hundred steps and at the end.
"""

from __future__ import annotations

import selectors
import socket
import time
from dataclasses import dataclass, replace
from typing import Iterator, Sequence

from .compare import TIME_TOLERANCE_S, StepComparer
from .scripts import LIBRARY
from .generator import Command, Kind, Script, Step, show
from support import (Client, ConnectionClosed, Entry, NIL, ReplyError, Server, diff_states, dump_state, encode_command)
from support.resp import Parser

DATABASES = (0, 1, 2, 15)
BATCH_STEPS = 40
STATE_EVERY_STEPS = 500
READ_BACK_EVERY_SCRIPTS = 3  # those whose seed this divides
PAUSE_S = 0.005
REPLY_TIMEOUT_S = 20.0
_SENTINEL = b"--end of batch--"
_SENTINEL_REPLY = b"$%d\r\n%b\r\n" % (len(_SENTINEL), _SENTINEL)
_SENTINEL_COMMAND = encode_command("ECHO", _SENTINEL)


class Target:
    """One server under the script, or the reference."""

    def __init__(self, name: str, server: Server):
        self.name = name
        self.server = server.start()
        self.version = self.server.version()
        self.client: Client | None = None
        self.observer: Client | None = None
        self.patience_s = REPLY_TIMEOUT_S
        self.files: str | None = None

    @classmethod
    def named(cls, name: str) -> "Target":
        """A kind of Server, or ours: `basalt-2`, with `-message` for every foreign command through the inbox, with
        `-rdb` or `-aof` for a server that reads its data back from such files after some of the scripts.
        """
        if not name.startswith("basalt-"):
            return cls(name, Server(name))
        _, shards, *words = name.split("-")
        directives: dict[str, object] = {"cross_shard": "message"} if "message" in words else {}
        if "aof" in words:
            directives |= {"appendonly": "yes", "auto_aof_rewrite_min_size": "2mb"}
        target = cls(name, Server("basalt", shards=shards, **directives))
        target.files = next((word for word in words if word in ("rdb", "aof")), None)
        return target

    def encode(self, command: Command) -> bytes:
        return encode_command(*command)

    def reset(self, script: Script, version: tuple[int, ...]) -> None:
        """An empty server, configured for the script, and a fresh connection."""
        if self.client is not None:
            self.client.close()
        if self.observer is None:
            self.observer = self.server.client(timeout=self.patience_s)
        self.observer.cmd("FLUSHALL")
        self.observer.cmd("CONFIG", "SET", *(word for pair in configuration(script, version) for word in pair))
        self.observer.cmd("SCRIPT", "FLUSH")
        self.observer.call("FUNCTION", "DELETE", "OTHER")
        self.observer.cmd("FUNCTION", "LOAD", "REPLACE", LIBRARY)
        self.client = self.server.client(resp=script.resp, timeout=self.patience_s)

    def state(self) -> dict:
        """Scores as numbers: servers before 7.2 print them with 17 digits."""
        state = dump_state(self.observer, DATABASES)
        return {db: {key: _with_numbers(entry) for key, entry in entries.items()} for db, entries in state.items()}

    def read_back(self) -> None:
        """What is in memory comes from files afterwards: of a snapshot, or of what a killed process had written."""
        if self.files == "aof":
            self.client = self.observer = None
            self.server.restart(crash=True)
            self.observer = self.server.client(timeout=self.patience_s)
        else:
            self.observer.cmd("DEBUG", "RELOAD")

    def revive(self) -> bool:
        """After a failed run: starts the server again unless it still answers. True: it had to."""
        for client in filter(None, (self.client, self.observer)):
            client.close()
        self.client = self.observer = None
        try:
            with self.server.client(timeout=2.0) as probe:
                answers = all(probe.call(*question) is not None for question in (("PING",), ("DBSIZE",), ("FLUSHALL",)))
        except (ConnectionClosed, OSError):
            answers = False
        if not answers:
            self.server.restart(crash=True)
        return not answers

    def close(self) -> None:
        self.server.close()


def _with_numbers(entry: Entry) -> Entry:
    if entry.type != "zset":
        return entry
    return replace(entry, value=[(member, float(score)) for member, score in entry.value])


_DEFAULTS = {
    "hash-max-listpack-entries": "128", "hash-max-listpack-value": "64", "zset-max-listpack-entries": "128",
    "zset-max-listpack-value": "64", "set-max-intset-entries": "512", "list-max-listpack-size": "-2",
    "list-compress-depth": "0", "proto-max-bulk-len": "512mb",
}
_NEWER_DEFAULTS = {"set-max-listpack-entries": "128", "set-max-listpack-value": "64"}


def configuration(script: Script, version: tuple[int, ...]) -> list[tuple[str, str]]:
    """What the script sets, and everything that an earlier one may have set, at its default."""
    newer = _NEWER_DEFAULTS if version >= (7, 2) else {}
    return list({**_DEFAULTS, **newer, **dict(script.config)}.items())


@dataclass(frozen=True)
class Found:
    """The first difference of a run."""

    target: str
    step_index: int
    text: str


def run_script(reference: Target, targets: Sequence[Target], script: Script, version: tuple[int, ...]) -> Found | None:
    everyone = [reference, *targets]
    for target in everyone:
        target.reset(script, version)
    since_state = 0
    at = 0
    for batch in _batches(script.steps):
        replies = [_Replies(raw) for raw in _run_batch(everyone, batch)]
        for target, ours in zip(targets, replies[1:]):
            problem = _judge(batch, replies[0], ours, version)
            if problem:
                return Found(target.name, at + problem[0], problem[1])
        at += len(batch)
        since_state += len(batch)
        if since_state >= STATE_EVERY_STEPS or at == len(script.steps):
            since_state = 0
            expected = reference.state()
            for target in targets:
                found = _compare_state(expected, target, at - 1, "state", encodings=version >= (7, 2))
                if found:
                    return found
    if script.seed % READ_BACK_EVERY_SCRIPTS == 0:
        for target in targets:
            if target.files:
                target.read_back()
                found = _compare_state(expected, target, at - 1, f"state read back from {target.files}", encodings=False)
                if found:
                    return found
    return None


def _compare_state(expected: dict, target: Target, step_index: int, what: str, encodings: bool) -> Found | None:
    lines = diff_states(expected, target.state(), encodings=encodings, ttl_tolerance_ms=TIME_TOLERANCE_S * 1000)
    if not lines:
        return None
    return Found(target.name, step_index, f"{what} (reference / ours):\n  " + "\n  ".join(lines))


def _batches(steps: Sequence[Step]) -> Iterator[list[Step]]:
    batch: list[Step] = []
    for step in steps:
        alone = step.kind is not Kind.PLAIN or step.pause_after is not None
        if batch and (alone or len(batch) >= BATCH_STEPS):
            yield batch
            batch = []
        if alone:
            yield [step]
        else:
            batch.append(step)
    if batch:
        yield batch


class _Replies:
    """The replies to a batch: bytes as they came, or values already."""

    def __init__(self, raw: bytes | list):
        self.raw = raw

    def values(self) -> list:
        if isinstance(self.raw, bytes):
            parser = Parser()
            parser.feed(self.raw)
            parsed = []
            while parser.buffer:
                parsed.append(parser.next())
            self.raw = parsed
        return self.raw


def _judge(batch: list[Step], reference: _Replies, ours: _Replies, version: tuple[int, ...]) -> tuple[int, str] | None:
    if isinstance(ours.raw, bytes) and reference.raw == ours.raw:
        return None
    theirs, own = iter(reference.values()), iter(ours.values())
    for index, step in enumerate(batch):
        comparer = StepComparer(version)
        commands = step.commands if step.kind is Kind.PLAIN else ((b"", *step.commands[0]),)
        for command in commands:
            problem = comparer.check(command, next(theirs, NIL), next(own, NIL))
            if problem:
                return index, problem
    return None


def _run_batch(everyone: list[Target], batch: list[Step]) -> list:
    step = batch[0]
    if step.kind is Kind.ITERATE:
        return [[_iterate(target, step.commands[0])] for target in everyone]
    if step.kind is Kind.TRANSPLANT:
        key, destination = step.commands[0]
        payload = everyone[0].client.call("DUMP", key)
        replies = [[_restore(target, destination, payload)] for target in everyone]
        return _with_room_for_times(everyone, destination, replies)
    if step.kind is Kind.ROUND_TRIP:
        key, destination = step.commands[0]
        replies = [[_restore(target, destination, target.client.call("DUMP", key))] for target in everyone]
        return _with_room_for_times(everyone, destination, replies)
    if step.pause_after is not None:
        before = exchange(everyone, step.commands[: step.pause_after])
        time.sleep(PAUSE_S)
        after = exchange(everyone, step.commands[step.pause_after :])
        return [a + b for a, b in zip(before, after)]
    return exchange(everyone, [command for step in batch for command in step.commands])


def _with_room_for_times(everyone: list[Target], key: bytes, replies: list) -> list:
    """The replies; a hash at the key has the encoding of one with times everywhere: see NOT_ASKED."""
    if everyone[0].version >= (7, 4):
        for target in everyone:
            target.client.call("HPEXPIREAT", key, 4_000_000_000_000, "FIELDS", 1, "no such field")
    return replies


def _restore(target: Target, key: bytes, payload: object) -> object:
    if not isinstance(payload, bytes):
        return payload  # no such key
    return target.client.call("RESTORE", key, 0, payload, "REPLACE")


def _iterate(target: Target, command: Command) -> object:
    """Everything a whole iteration returns, sorted and without repetitions; or the error."""
    before, after = (1, command[1:]) if command[0] == b"SCAN" else (2, command[2:])
    paired = command[0] in (b"HSCAN", b"ZSCAN") and b"NOVALUES" not in command
    seen = set()
    cursor: object = b"0"
    for _ in range(200_000):
        reply = target.client.call(*command[:before], cursor, *after)
        if isinstance(reply, ReplyError):
            return reply
        cursor, page = reply
        if paired:
            page = zip(page[::2], (float(s) for s in page[1::2]) if command[0] == b"ZSCAN" else page[1::2])
        seen.update(page)
        if cursor == b"0":
            return sorted(seen)
    raise AssertionError(f"{target.name}: {show(command)} does not end")


def exchange(everyone: Sequence[Target], commands: Sequence[Command]) -> list[bytes]:
    """Sends the commands to all; the bytes of all their replies. Reads while it writes."""
    outgoing = {}
    encoded: dict[type, bytes] = {}
    for target in everyone:
        if type(target) not in encoded:
            encoded[type(target)] = b"".join([*map(target.encode, commands), _SENTINEL_COMMAND])
        outgoing[target] = memoryview(encoded[type(target)])
    incoming = {target: bytearray() for target in everyone}
    deadline = time.monotonic() + max(target.patience_s for target in everyone)
    with selectors.DefaultSelector() as selector:
        for target in everyone:
            target.client.sock.setblocking(False)
            selector.register(target.client.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, target)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                waiting = [key.data.name for key in selector.get_map().values()]
                raise TimeoutError(f"no end of replies from {waiting} to:\n" + "\n".join(map(show, commands)))
            for key, events in ready:
                _progress(key.data, events, outgoing, incoming[key.data], selector, commands)
    return [bytes(incoming[target][: -len(_SENTINEL_REPLY)]) for target in everyone]


def _progress(target: Target, events: int, outgoing: dict, received: bytearray, selector, commands) -> None:
    sock: socket.socket = target.client.sock
    if events & selectors.EVENT_WRITE:
        outgoing[target] = outgoing[target][sock.send(outgoing[target][: 1 << 18]) :]
        if not outgoing[target]:
            selector.modify(sock, selectors.EVENT_READ, target)
    if events & selectors.EVENT_READ:
        data = sock.recv(1 << 20)
        if not data:
            raise ConnectionClosed(f"{target.name} closed the connection during:\n" + "\n".join(map(show, commands)))
        received += data
        if not outgoing[target] and received.endswith(_SENTINEL_REPLY):
            selector.unregister(sock)
            sock.setblocking(True)
            sock.settimeout(target.client.timeout)
