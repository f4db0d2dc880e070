"""Runs conformance files against a server and says where replies differ from what is expected.

Each section starts on empty databases, with fresh connections and the configuration that the server
was started with, and runs once per protocol version. A wrong reply does not end a section; a
missing one does.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from pathlib import Path

from .patterns import write
from .script import NO_REPLY, Section, Step, read_script
from .substitution import Variables, fresh_variables, substitute
from support import Client, ConnectionClosed, ReplyError, Server, encode_command, split_args
from support.resp import ProtocolError

REPLY_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 5.0
SCAN_STEPS_MAX = 10_000
# Ours is measured against this version of Redis.
TRACKED_VERSION = (7, 4)


class Missing(Exception):
    """A reply that did not come: the section cannot go on."""


@dataclass
class Failure:
    line: int
    section: str
    resp: int
    step: str
    expected: str
    actual: str

    def __str__(self) -> str:
        return (
            f"line {self.line} ({self.section}, RESP{self.resp}): {self.step}\n"
            f"    expected {_shorten(self.expected)}\n    actual   {_shorten(self.actual)}"
        )


def _shorten(text: str, limit: int = 1500) -> str:
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


class Target:
    """A server to run files against, kept for all of them; restarted if one brings it down."""

    def __init__(self, name: str, server: Server, shards: int = 1):
        self.name = name
        self.server = server
        self.shards = shards
        server.start()
        self._after_start()

    def _after_start(self) -> None:
        self.control = self.server.client(timeout=REPLY_TIMEOUT_S)
        self.version = TRACKED_VERSION if self.server.is_basalt else self.server.version()

    def facts(self, resp: int) -> dict[str, object]:
        return {
            "redis": self.version, "shards": (self.shards,), "resp": resp, "basalt": self.server.is_basalt,
        }

    def revive(self) -> str | None:
        """None when the server still answers; otherwise why not, and a new one runs."""
        for _ in range(2):
            try:
                self.control.cmd("PING")
                return None
            except (OSError, ConnectionClosed, ReplyError) as problem:
                why = f"{problem!r}; log ends: {self.server.log()[-1500:]}"
            try:
                self.control = self.server.client(timeout=REPLY_TIMEOUT_S)  # an idle one may be closed
            except OSError:
                break
        self.server.kill()
        self.server.start()
        self._after_start()
        return why

    def close(self) -> None:
        self.server.close()


@dataclass
class SectionRun:
    """The state of one section while it runs, and what it found."""

    target: Target
    section: Section
    resp: int
    failures: list[Failure] = field(default_factory=list)
    # What each step answered, for the recorder: by line, the replies in order.
    replies: dict[int, list[object]] = field(default_factory=dict)
    recording: bool = False

    def __post_init__(self) -> None:
        self.facts = self.target.facts(self.resp)
        self.connections: dict[str, Client] = {}
        self.variables: Variables = fresh_variables(self.target.server.port)
        self.saved_config: dict[bytes, bytes] = {}
        self.active_expire_touched = False

    # -- the section ---------------------------------------------------------------------------
    def run(self) -> "SectionRun":
        try:
            self.target.control.cmd("FLUSHALL")
            for step in self.section.steps:
                if step.applies(self.facts):
                    self.step(step)
            if "nocheck" not in self.section.tags:
                self.check_in_step()
        except Missing:
            pass
        finally:
            for client in self.connections.values():
                client.close()
        dead = self.target.revive()
        if dead:
            self.fail(self.section.steps[-1], "the server alive", dead)
        else:
            self.restore()
        return self

    def restore(self) -> None:
        if self.active_expire_touched:
            self.target.control.call("DEBUG", "SET-ACTIVE-EXPIRE", "1")
        for name, value in reversed(self.saved_config.items()):  # aliases: the first value saved last
            if self.target.control.call("CONFIG", "GET", name) == [name, value]:
                continue
            reply = self.target.control.call("CONFIG", "SET", name, value)
            if isinstance(reply, ReplyError):
                self.fail(self.section.steps[-1], f"CONFIG SET {name!r} back to {value!r}", reply.text)

    def check_in_step(self) -> None:
        """A connection with a reply too many would answer the next command with the wrong one."""
        for name, client in self.connections.items():
            try:
                reply = client.call("ECHO", "in step")
            except (ConnectionClosed, OSError):
                continue
            if reply not in (b"in step", b"QUEUED"):
                self.fail(self.section.steps[-1], f"nothing unread on connection {name}", write(reply))

    # -- connections ---------------------------------------------------------------------------
    def connection(self, name: str) -> Client:
        if name not in self.connections:
            self.open(name, self.resp)
        return self.connections[name]

    def open(self, name: str, resp: int) -> None:
        self.connections[name] = self.target.server.client(resp=resp, timeout=REPLY_TIMEOUT_S)

    def receive(self, client: Client, step: Step) -> object:
        try:
            return client.recv()
        except (ConnectionClosed, TimeoutError, ProtocolError, OSError) as problem:
            self.fail(step, "a reply", repr(problem))
            raise Missing from problem

    def call(self, client: Client, args: list[bytes], step: Step) -> object:
        self.before(args)
        try:
            client.send(*args)
        except OSError as problem:
            self.fail(step, "an open connection", repr(problem))
            raise Missing from problem
        return self.receive(client, step)

    def before(self, args: list[bytes]) -> None:
        words = [a.lower() for a in args[:2]]
        if words == [b"config", b"set"]:
            for name in args[2::2]:
                if name not in self.saved_config:
                    found = self.target.control.call("CONFIG", "GET", name)
                    if isinstance(found, list) and len(found) == 2:
                        self.saved_config[found[0]] = found[1]
        elif words == [b"debug", b"set-active-expire"]:
            self.active_expire_touched = True

    # -- steps ---------------------------------------------------------------------------------
    def step(self, step: Step) -> None:
        try:
            args = [substitute(a, self.variables) for a in step.args] if step.kind != "for" else step.args
            getattr(self, f"do_{step.kind}")(step, args)
        except KeyError as problem:
            self.fail(step, "a known variable", str(problem))

    def fail(self, step: Step, expected: str, actual: str, line: int | None = None) -> None:
        self.failures.append(
            Failure(line or step.line, self.section.title, self.resp, step.text, expected, actual)
        )

    def judge(self, step: Step, value: object) -> None:
        self.replies.setdefault(step.line, []).append(value)
        if self.recording:
            return
        expected = step.expected(self.facts)
        if expected is None:
            if step.kind in NO_REPLY:
                if isinstance(value, ReplyError):
                    self.fail(step, "no error", write(value))
            else:
                self.fail(step, "an expectation in the file for this case", write(value))
        elif not expected.pattern.matches(value, self.variables):
            self.fail(step, expected.pattern.source, write(value), expected.line)

    def do_command(self, step: Step, args: list[bytes]) -> None:
        self.judge(step, self.call(self.connection(step.connection), args, step))

    def do_let(self, step: Step, args: list[bytes]) -> None:
        value = self.call(self.connection(step.connection), args, step)
        self.judge(step, value)
        if isinstance(value, list) and value:
            value = value[0]  # the cursor of a scan
        data = b"%d" % value if type(value) is int else bytes(value) if isinstance(value, bytes) else b""
        name, _, expression = step.name.partition("=")
        if expression:
            found = re.search(expression.encode(), data)
            data = found.group(1) if found else b""
        self.variables[name] = data

    def do_for(self, step: Step, args: list[bytes]) -> None:
        client = self.connection(step.connection)
        numbers = list(range(step.span[0], step.span[1] + 1))
        value: object = None
        for start in range(0, len(numbers), 500):
            part = numbers[start : start + 500]
            commands = []
            for number in part:
                self.variables[step.name] = b"%d" % number
                commands.append([substitute(a, self.variables) for a in args])
            client.send_many(commands)
            for _ in part:
                value = self.receive(client, step)
                if isinstance(value, ReplyError) and not step.expectations:
                    self.fail(step, "no error", write(value))
        self.judge(step, value)

    def do_wait(self, step: Step, args: list[bytes]) -> None:
        deadline = time.monotonic() + float(step.name)
        expected = step.expected(self.facts)
        while True:
            value = self.call(self.connection(step.connection), args, step)
            if expected and expected.pattern.matches(value, self.variables):
                break
            if time.monotonic() > deadline:
                break
            time.sleep(0.002)
        self.judge(step, value)

    def do_scan(self, step: Step, args: list[bytes]) -> None:
        """A whole iteration: `!scan SCAN MATCH a*`, `!scan HSCAN key COUNT 5`."""
        client = self.connection(step.connection)
        head, rest = (args[:1], args[1:]) if args[0].upper() == b"SCAN" else (args[:2], args[2:])
        cursor, found, paired = b"0", [], args[0].upper() in (b"HSCAN", b"ZSCAN") and b"NOVALUES" not in rest
        for _ in range(SCAN_STEPS_MAX):
            reply = self.call(client, [*head, cursor, *rest], step)
            if not (isinstance(reply, list) and len(reply) == 2 and isinstance(reply[1], list)):
                return self.judge(step, reply)
            cursor = reply[0]
            elements = list(zip(reply[1][::2], reply[1][1::2])) if paired else reply[1]
            found += [e for e in elements if e not in found] if len(found) < 5000 else elements
            if cursor == b"0":
                return self.judge(step, [x for e in found for x in e] if paired else found)
        self.fail(step, "an end of the iteration", f"{SCAN_STEPS_MAX} steps")

    def do_raw(self, step: Step, args: list[bytes]) -> None:
        client = self.connection(step.connection)
        try:
            client.send_raw(args[0])
        except OSError:
            pass  # the server may close before it has read everything; the replies tell
        self.sequence(client, step)

    def do_pipeline(self, step: Step, args: list[bytes]) -> None:
        client = self.connection(step.connection)
        client.send_raw(b"".join(encode_command(*split_args(a.decode())) for a in args))
        self.sequence(client, step, len(args))

    def sequence(self, client: Client, step: Step, count: int | None = None) -> None:
        if self.recording:
            replies = self.replies.setdefault(step.line, [])
            try:
                while count is None or len(replies) < count:
                    replies.append(client.recv(REPLY_TIMEOUT_S if count else 0.05))
            except (ConnectionClosed, TimeoutError):
                pass
            return
        expected = step.all_expected(self.facts)
        if count is not None and len(expected) != count:
            return self.fail(step, f"{count} expectations", f"{len(expected)} in the file")
        for one in expected:
            value = self.receive(client, step)
            if not one.pattern.matches(value, self.variables):
                self.fail(step, one.pattern.source, write(value), one.line)

    def do_send(self, step: Step, args: list[bytes]) -> None:
        self.before(args)
        self.connection(step.connection).send(*args)

    def do_recv(self, step: Step, args: list[bytes]) -> None:
        self.judge(step, self.receive(self.connection(step.connection), step))

    def do_open(self, step: Step, args: list[bytes]) -> None:
        """`!open name` in the section's protocol, `!open name plain` without HELLO."""
        if step.connection in self.connections:
            self.connections.pop(step.connection).close()
        self.open(step.connection, 2 if args == [b"plain"] else self.resp)

    def do_close(self, step: Step, args: list[bytes]) -> None:
        self.connections.pop(step.connection).close()

    def do_closed(self, step: Step, args: list[bytes]) -> None:
        client = self.connection(step.connection)
        if not client.closed_by_server(CLOSE_TIMEOUT_S):
            self.fail(step, "the connection closed by the server", "it is open, or sent more")
        self.connections.pop(step.connection).close()

    def do_silence(self, step: Step, args: list[bytes]) -> None:
        """No reply is under way: what is asked next is answered next."""
        client = self.connection(step.connection)
        client.send("ECHO", "after silence")
        value = self.receive(client, step)
        if value != b"after silence":
            self.fail(step, "no reply", write(value))


def run_file(target: Target, path: Path, sections: list[Section] | None = None) -> list[Failure]:
    failures: list[Failure] = []
    for section in sections if sections is not None else read_script(path):
        for resp in (2, 3):
            if section.applies(target.facts(resp)):
                failures += SectionRun(target, section, resp).run().failures
    return failures


__all__ = ["Failure", "SectionRun", "Target", "run_file"]
