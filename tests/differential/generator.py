"""Random scripts: a seed determines every byte of them.

A script is a list of steps. A step is the unit that shrinking keeps or drops: commands that only make
sense together (MULTI to EXEC, a random pop and the deletion that makes both servers equal again).
Nothing here knows a server; what the generator avoids is only what no two servers could agree on.
"""

from __future__ import annotations

import bisect
import itertools
import random
import re
from dataclasses import dataclass
from enum import Enum

from . import forms, scripts, values
from .grammar import Emit, compile_form
from support import quote

Command = tuple[bytes, ...]


class Kind(Enum):
    PLAIN = "plain"  # commands, sent at once (with a pause after `pause_after` of them)
    ITERATE = "iterate"  # one SCAN-like command without its cursor: a whole iteration
    TRANSPLANT = "transplant"  # (key, destination): the reference's DUMP payload, restored everywhere
    ROUND_TRIP = "round trip"  # (key, destination): each server's own DUMP payload, restored there


@dataclass(frozen=True)
class Step:
    commands: tuple[Command, ...]
    kind: Kind = Kind.PLAIN
    pause_after: int | None = None

    def lines(self) -> list[str]:
        """As a reader would type it."""
        if self.kind is Kind.ITERATE:
            return [f"# all of: {show(self.commands[0])}"]
        if self.kind in (Kind.TRANSPLANT, Kind.ROUND_TRIP):
            key, destination = self.commands[0]
            whose = "the reference's" if self.kind is Kind.TRANSPLANT else "its own"
            return [f"# RESTORE {quote(destination)} 0 <{whose} DUMP of {quote(key)}> REPLACE"]
        lines = [show(command) for command in self.commands]
        if self.pause_after is not None:
            lines.insert(self.pause_after, "# wait 5 ms")
        return lines


def show(command: Command) -> str:
    return " ".join(a.decode() if re.fullmatch(rb"[\w.:{}+()\[-]+", a) else quote(a) for a in command)


@dataclass(frozen=True)
class Script:
    seed: int
    resp: int
    config: tuple[tuple[str, str], ...]
    steps: tuple[Step, ...]

    @property
    def command_count(self) -> int:
        return sum(len(step.commands) for step in self.steps)


# One line is chosen for a script and set on both servers.
_CONFIGS = [
    {},
    {},
    {"hash-max-listpack-entries": "6", "zset-max-listpack-entries": "6", "set-max-intset-entries": "6",
     "set-max-listpack-entries": "6", "list-max-listpack-size": "4"},
    {"hash-max-listpack-value": "8", "zset-max-listpack-value": "8", "set-max-listpack-value": "8",
     "list-max-listpack-size": "-1", "list-compress-depth": "1"},
    {"hash-max-listpack-entries": "0", "zset-max-listpack-entries": "0", "set-max-intset-entries": "0",
     "set-max-listpack-entries": "0", "list-max-listpack-size": "1", "list-compress-depth": "2"},
]
_COMMON_CONFIG = {"proto-max-bulk-len": "1mb"}  # strings reach their limit; LCS stays small
_NEEDS = {"set-max-listpack-entries": (7, 2), "set-max-listpack-value": (7, 2)}

_GARBAGE = [b"", b"abc", b"-1", b"0", b"1.5", b"nan", b"9223372036854775807", b"-9223372036854775809", b"\x00", b"XX", b"GT",
            b"WITHSCORES", b"COUNT", b"LIMIT"]
# When expired keys leave a database is nobody's promise: not asked while some are due.
_COUNTS_EXPIRED = {b"MEMORY", b"DBSIZE", b"KEYS", b"RANDOMKEY", b"SELECT", b"SWAPDB", b"MOVE", b"FLUSHALL", b"FLUSHDB"}


# A timeout of zero is forever.
_WAITING = {b"BLPOP", b"BRPOP", b"BLMOVE", b"BRPOPLPUSH", b"BLMPOP", b"BZPOPMIN", b"BZPOPMAX", b"BZMPOP"}


class Family:
    def __init__(self, text: str, terminals: dict[str, Emit], version: tuple[int, ...]):
        self.emits: list[Emit] = []
        weights: list[int] = []
        for line in filter(None, map(str.strip, text.splitlines())):
            since, weight, form = re.fullmatch(r"(?:>=(\S+) )?(?:(\d+) \* )?(.*)", line).groups()
            if since and version < tuple(map(int, since.split("."))):
                continue
            self.emits.append(compile_form(form, terminals))
            weights.append(int(weight or 10))
        self.cumulated = list(itertools.accumulate(weights))

    def command(self, rng: random.Random) -> list[bytes]:
        out: list[bytes] = []
        self.emits[bisect.bisect_right(self.cumulated, rng.random() * self.cumulated[-1])](rng, out)
        return out


class Generator:
    """Writes scripts that a reference of this version understands."""

    def __init__(self, reference_version: tuple[int, ...]):
        self.version = reference_version
        self.keys = values.KeyChooser()
        self.stream_ids = values.StreamIds()
        terminals = values.terminals(self.keys, self.stream_ids, reference_version)
        self.families = {name: Family(text, terminals, reference_version)
                         for name, (text, _) in forms.FAMILIES.items()}
        self.families = {name: family for name, family in self.families.items() if family.emits}
        self.names = list(self.families)
        self.shares = list(itertools.accumulate(forms.FAMILIES[name][1] for name in self.names))

    def script(self, seed: int, steps: int = 1500) -> Script:
        self.rng = random.Random(seed)
        self.keys.forced = None
        self.stream_ids.begin()
        chosen = {**_COMMON_CONFIG, **self.rng.choice(_CONFIGS)}
        config = tuple((k, v) for k, v in chosen.items() if self.version >= _NEEDS.get(k, (0,)))
        return Script(seed, self.rng.choice((2, 3)), config, tuple(self._step() for _ in range(steps)))

    def _step(self) -> Step:
        roll = self.rng.random()
        if roll < 0.926:
            return Step((self._mangled(self._command()),))
        if roll < 0.951:
            return self._transaction()
        if roll < 0.961:
            return self._draw()
        if roll < 0.971:
            return self._pop()
        if roll < 0.979:
            return self._ordered()
        if roll < 0.983:
            return self._scripted()
        if roll < 0.988:
            return self._due()
        if roll < 0.992:
            return self._iteration()
        kind = self.rng.choice((Kind.TRANSPLANT, Kind.ROUND_TRIP))
        return Step(((self._any_key(), self._any_key()),), kind)

    def _family(self) -> str:
        return self.names[bisect.bisect_right(self.shares, self.rng.random() * self.shares[-1])]

    def _command(self, family: str | None = None) -> Command:
        family = family or self._family()
        self.keys.pool = values.KEY_POOLS.get(family, values.ALL_KEYS)
        return tuple(self.families[family].command(self.rng))

    def _mangled(self, command: Command) -> Command:
        """The command, rarely with an argument lost, repeated, replaced or added."""
        rng = self.rng
        if rng.random() >= 0.02 or command[1:2] and command[1] in values.LEXICOGRAPHIC_KEYS:
            return command
        if self.version < (7, 2) and command[0] in (b"ZRANK", b"ZREVRANK"):
            return command
        if command[0] in _WAITING:
            return command
        args = list(command)
        at = rng.randrange(1, len(args)) if len(args) > 1 else 0
        change = rng.randrange(5)
        if change == 0 and len(args) > 1:
            del args[at]
        elif change == 1:
            args.insert(at, args[at])
        elif change == 2 and at:
            args[at] = rng.choice(_GARBAGE)
        elif change == 3:
            args.append(rng.choice(_GARBAGE))
        else:
            args[0] = args[0].lower() if rng.random() < 0.5 else args[0].title()
        return tuple(args)

    def _any_key(self) -> bytes:
        return self.rng.choice(values.ALL_KEYS)

    def _pool_key(self, family: str) -> bytes:
        return self.rng.choice(values.KEY_POOLS[family])

    def _transaction(self) -> Step:
        rng = self.rng
        commands: list[Command] = []
        if rng.random() < 0.3:
            commands.append((b"WATCH", self._any_key()))
            if rng.random() < 0.5:
                commands.append(self._command())
        commands.append((b"MULTI",))
        commands += (self._mangled(self._command()) for _ in range(rng.randrange(0, 7)))
        if rng.random() < 0.05:
            commands.append(rng.choice(((b"MULTI",), (b"WATCH", b"s0"), (b"NOSUCH",), (b"GET",))))
        commands.append((b"EXEC",) if rng.random() < 0.9 else (b"DISCARD",))
        return Step(tuple(commands))

    def _scripted(self) -> Step:
        """Commands that a script runs, one or some, with their keys declared."""
        rng = self.rng
        families = [name for name in self.names if name in values.KEY_POOLS and name != "sorting"]
        wanted = 1 if rng.random() < 0.6 else rng.randrange(2, 6)
        commands = [self._command(rng.choice(families)) for _ in range(wanted)]
        if self.version < (7, 2):
            # Some that wait were not allowed in scripts then.
            commands = [command for command in commands if command[0] not in _WAITING] or [(b"PING",)]
        keys = dict.fromkeys(word for command in commands for word in command[1:] if word in values.ALL_KEYS)
        return Step((scripts.running(commands, list(keys)),))

    def _draw(self) -> Step:
        """Random elements, after the whole that they must come from."""
        rng = self.rng
        family, whole, command, tail = rng.choice((
            ("sets", (b"SMEMBERS", None), b"SRANDMEMBER", None),
            ("hashes", (b"HGETALL", None), b"HRANDFIELD", b"WITHVALUES"),
            ("sorted_sets", (b"ZRANGE", None, b"0", b"-1", b"WITHSCORES"), b"ZRANDMEMBER", b"WITHSCORES"),
        ))
        key = self._pool_key(family) if rng.random() < 0.9 else self._any_key()
        draw: list[bytes] = [command, key]
        if rng.random() < 0.8:
            draw.append(rng.choice((b"0", b"1", b"2", b"5", b"300", b"-1", b"-3", b"-50", b"x")))
            if tail and rng.random() < 0.5:
                draw.append(tail)
        return Step((tuple(key if a is None else a for a in whole), tuple(draw)))

    def _pop(self) -> Step:
        key = self._pool_key("sets") if self.rng.random() < 0.9 else self._any_key()
        count = self.rng.choice(((), (b"1",), (b"3",), (b"1000",), (b"0",), (b"-1",), (b"x",)))
        return Step(((b"SMEMBERS", key), (b"SPOP", key, *count), (b"SCARD", key), (b"DEL", key)))

    def _ordered(self) -> Step:
        """A collection built anew, then read: its order is defined while the encoding is a compact one."""
        family, reads, writes = self.rng.choice((
            ("sets", (b"SMEMBERS",), (b"SADD", b"SREM")),
            ("hashes", (b"HGETALL", b"HKEYS", b"HVALS"), (b"HSET", b"HMSET", b"HSETNX", b"HDEL", b"HINCRBY", b"HINCRBYFLOAT")),
        ))
        key = self._pool_key(family)
        commands: list[Command] = [(b"DEL", key)]
        wanted = self.rng.randrange(2, 8)
        while len(commands) < wanted:
            command = self._command(family)
            if command[0] in writes:
                commands.append((command[0], key, *command[2:]))
        return Step((*commands, (b"OBJECT", b"ENCODING", key), (self.rng.choice(reads), key)))

    def _due(self) -> Step:
        """Commands that meet a key whose time has come."""
        family = self.rng.choice([name for name in self.names if name in values.KEY_POOLS])
        key = self.keys.forced = self._any_key()
        try:
            commands = [self._command(family) for _ in range(self.rng.randrange(1, 3))]
            commands.append((b"PEXPIRE", key, b"1"))
            pause_after = len(commands)
            wanted = pause_after + self.rng.randrange(1, 4)
            while len(commands) < wanted:
                command = self._command(self.rng.choice((family, "keys")))
                if command[0] not in _COUNTS_EXPIRED:
                    commands.append(command)
            commands.append((b"DEL", key))
        finally:
            self.keys.forced = None
        return Step(tuple(commands), pause_after=pause_after)

    def _iteration(self) -> Step:
        rng = self.rng
        name, family = rng.choice(((b"SCAN", None), (b"SSCAN", "sets"), (b"HSCAN", "hashes"), (b"ZSCAN", "sorted_sets")))
        command = [name] + ([self._pool_key(family)] if family else [])
        if name == b"HSCAN" and self.version >= (7, 4) and rng.random() < 0.2:
            command.append(b"NOVALUES")
        if rng.random() < 0.5:
            command += (b"COUNT", rng.choice((b"1", b"3", b"100", b"100000", b"0", b"x")))
        if rng.random() < 0.4:
            command += (b"MATCH", rng.choice((b"*", b"m*", b"s*", b"[a-c]*", b"*1", b"field-1*", b"nothing")))
        if not family and rng.random() < 0.4:
            command += (b"TYPE", rng.choice((b"string", b"list", b"set", b"hash", b"ZSET", b"stream")))
        return Step((tuple(command),), Kind.ITERATE)
