"""Are two replies the same answer?

Exactly the same bytes, except where Redis itself promises less: the order of a set, a random draw,
the clock. `StepComparer` follows one step, because a reply to EXEC is many replies, and a draw is
judged by the members read before it.
"""

from __future__ import annotations

from . import scripts
from .differences import known_difference
from .generator import Command, show
from support import Double, Map, Nil, ReplyError, Simple

TIME_TOLERANCE_S = 10
_UNORDERED = {b"SMEMBERS", b"SINTER", b"SUNION", b"SDIFF", b"KEYS", b"HKEYS", b"HVALS"}
_SHAPE_ONLY = {b"RANDOMKEY", b"DUMP", b"MEMORY", b"TIME"}
_DRAWS = {b"SRANDMEMBER", b"HRANDFIELD", b"ZRANDMEMBER", b"SPOP"}
_WHOLE = {b"SMEMBERS", b"HGETALL", b"ZRANGE"}
_COMPACT = {b"listpack", b"intset"}


def same(a: object, b: object, numbers: bool = False) -> bool:
    """The same reply, types included; with `numbers`, texts of the same double are the same."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y, numbers) for x, y in zip(a, b))
    if isinstance(a, Nil):
        return a.wire == b.wire
    if isinstance(a, Double):
        return a.text == b.text or (numbers and float(a) == float(b))
    if a == b:
        return True
    if numbers and isinstance(a, bytes):
        try:
            return float(a) == float(b)
        except ValueError:
            return False
    return False


def _same_positions(a: object, b: object) -> bool:
    """Before 8.0 degrees have 17 digits behind the point, which are not all of a small number."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same_positions, a, b))
    if same(a, b, numbers=True):
        return True
    try:
        one, other = (float(x.text if isinstance(x, Double) else x) for x in (a, b))
        return type(a) is type(b) and abs(one - other) < 1e-16
    except (TypeError, ValueError):
        return False


def _sorted(reply: object) -> object:
    return type(reply)(sorted(reply, key=repr)) if isinstance(reply, list) else reply


def _pairs(reply: object) -> object:
    if isinstance(reply, Map) or not isinstance(reply, list):
        return reply
    if reply and all(isinstance(item, list) for item in reply):
        return [tuple(item) for item in reply]
    return list(zip(reply[::2], reply[1::2]))


def _without_idle(reply: object) -> object:
    """What XPENDING lists, but for how long ago it was delivered."""
    return [[*row[:2], *row[3:]] if isinstance(row, list) else row for row in reply] if isinstance(reply, list) else reply


def _within(a: object, b: object, tolerance: int) -> bool:
    """Both are measures that differ little, or the same special number (-1, -2)."""
    return type(a) is int and type(b) is int and (a == b or (a >= 0 and b >= 0 and abs(a - b) <= tolerance))


class StepComparer:
    def __init__(self, reference_version: tuple[int, ...]):
        self.version = reference_version
        self.queued: list[Command] = []
        self.whole: tuple[bytes, object] | None = None
        self.encodings: tuple[bytes, object, object] | None = None

    def check(self, command: Command, reference: object, ours: object) -> str | None:
        """None, or what is wrong with our reply. To be called for every command of a step, in order."""
        name = command[0].upper()
        if name == b"MULTI" and isinstance(reference, Simple):
            self.queued = []
        elif isinstance(reference, Simple) and reference == b"QUEUED":
            self.queued.append(command)
        elif name == b"EXEC" and isinstance(reference, list) and isinstance(ours, list):
            return self._check_exec(reference, ours)
        run = scripts.commands_of(command)
        if run and command[1] == scripts.RUN_SOME and isinstance(reference, list) and isinstance(ours, list) and len(reference) == len(ours) == len(run):
            return next(filter(None, map(self.check, run, reference, ours)), None)
        if run and command[1] == scripts.RUN_ONE:
            command, name = run[0], run[0][0].upper()
        if self._agree(name, command, reference, ours) or known_difference(self.version, command, reference, ours):
            return None
        return f"{show(command)}\n  reference: {_shorten(reference)}\n  ours:      {_shorten(ours)}"

    def _check_exec(self, reference: list, ours: list) -> str | None:
        queued, self.queued = self.queued, []
        if len(reference) == len(ours) == len(queued):
            for command, theirs, own in zip(queued, reference, ours):
                problem = self.check(command, theirs, own)
                if problem:
                    return f"in EXEC: {problem}"
            return None
        return f"EXEC with {len(queued)} queued: {len(reference)} replies / {len(ours)} replies"

    def _agree(self, name: bytes, command: Command, reference: object, ours: object) -> bool:
        key = command[1] if len(command) > 1 else b""
        if name in _WHOLE:
            self.whole = (key, ours)
        if name == b"OBJECT":
            return self._agree_object(command, reference, ours)
        if same(reference, ours):
            return name not in _DRAWS or self._drawn_from_whole(command, ours)
        if isinstance(reference, ReplyError) or isinstance(ours, ReplyError):
            return False
        if name in _UNORDERED or name == b"HGETALL":
            if self.encodings and self.encodings[0] == key and self.encodings[1] == self.encodings[2] in _COMPACT:
                return False
            if name == b"HGETALL":
                return type(reference) is type(ours) and same(sorted(_pairs(reference)), sorted(_pairs(ours)))
            return same(_sorted(reference), _sorted(ours))
        if name in _DRAWS:
            return self._same_draw(command, reference, ours)
        if name == b"XPENDING" and len(command) > 3:
            return same(_without_idle(reference), _without_idle(ours))
        if name in (b"TTL", b"EXPIRETIME"):
            return _within(reference, ours, TIME_TOLERANCE_S)
        if name in (b"PTTL", b"PEXPIRETIME"):
            return _within(reference, ours, TIME_TOLERANCE_S * 1000)
        if name in _SHAPE_ONLY:
            return type(reference) is type(ours)
        if name in (b"SORT", b"SORT_RO"):
            return same(_sorted(reference), _sorted(ours))
        # Texts of doubles became shorter with 7.2, those of positions with 8.0.
        if self.version >= (8,) and name[:3] == b"GEO":
            return _same_positions(reference, ours)
        return self.version < (7, 2) and name.removeprefix(b"B")[:1] == b"Z" and same(reference, ours, numbers=True)

    def _agree_object(self, command: Command, reference: object, ours: object) -> bool:
        what = command[1].upper() if len(command) > 2 else b""
        if what == b"ENCODING":
            self.encodings = (command[2], reference, ours)
            if self.version < (7, 2) and ours == b"listpack" and reference in (b"quicklist", b"hashtable"):
                return True  # small lists and sets became listpacks in 7.2
        if what in (b"REFCOUNT", b"IDLETIME"):  # Redis shares small integers between keys
            return type(reference) is type(ours)
        return same(reference, ours)

    def _same_draw(self, command: Command, reference: object, ours: object) -> bool:
        if type(reference) is not type(ours):
            return False
        if isinstance(reference, list):
            if len(reference) != len(ours) or [type(x) for x in reference] != [type(x) for x in ours]:
                return False
        return self._drawn_from_whole(command, ours)

    def _drawn_from_whole(self, command: Command, ours: object) -> bool:
        """What was drawn is in the whole read before; distinct unless the count is negative."""
        if self.whole is None or self.whole[0] != command[1] or isinstance(ours, (ReplyError, Nil)):
            return True
        whole = self.whole[1]
        if isinstance(whole, ReplyError):
            return True
        with_values = len(command) > 3
        is_set = command[0].upper() in (b"SRANDMEMBER", b"SPOP")
        members = list(whole) if is_set else _pairs(whole) if with_values else [m for m, _ in _pairs(whole)]
        drawn = [ours] if isinstance(ours, bytes) else _pairs(ours) if with_values else list(ours)
        if any(d not in members for d in drawn):
            return False
        repeats_allowed = len(command) > 2 and command[2].startswith(b"-")
        return repeats_allowed or all(d not in drawn[i + 1:] for i, d in enumerate(drawn))


def _shorten(reply: object, limit: int = 600) -> str:
    text = repr(reply)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"
