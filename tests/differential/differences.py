"""The differences from a reference server that are meant, each with its reason.

Basalt answers as Redis 7.4. A row holds for references below or from a version, and for the replies its
test accepts; everything not listed here is a failure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

from support import Double, Map, ReplyError

Command = tuple[bytes, ...]


@dataclass(frozen=True)
class Difference:
    reason: str
    commands: frozenset[bytes]
    accepts: Callable[[Command, object, object], bool]
    since: tuple[int, ...] = (0,)
    before: tuple[int, ...] = (99,)


def _row(reason: str, commands: str, accepts: Callable[[Command, object, object], bool], **versions) -> Difference:
    return Difference(reason, frozenset(commands.encode().split()), accepts, **versions)


# What the generator leaves out, because the answers would make the states differ, too. (what, for which references, why)
NOT_ASKED = [
    ("LSET with index 9223372036854775807", "all",
     "7.2 and later compute the index in a type that overflows and overwrite an element; we answer as for any other index"),
    ("LREM and LPOS RANK with -9223372036854775808", "before 7.2", "7.2 and later refuse it, and so do we"),
    ("score bounds ' 1', '', '1e400', 'infinity', '0x10'", "from 8.0", "8.0 reads bounds without strtod; 7.4 and we with it"),
    ("LIMIT with a negative offset", "from 7.2",
     "in a skip list they then count from the other end, in a listpack nothing is found; here, as before 7.2, nothing in either"),
    ("ZRANK and ZREVRANK with more arguments", "before 7.2", "WITHSCORE came with 7.2; before, the number of arguments was fixed"),
    ("CLIENT SETNAME with a zero byte", "all", "Redis looks no further than there; we refuse it, as what would not survive in a line of CLIENT LIST"),
    ("XSETID", "before 7.2", "later versions refuse an ID below that of an entry deleted before, and so do we"),
    ("XREADGROUP, XCLAIM, XAUTOCLAIM", "before 7.2", "7.2 and later create the consumer also when it gets nothing, and so do we"),
    ("the encoding of a hash without times, from DUMP and RESTORE", "from 7.4",
     "Redis saves it as one with times if it ever had any; here as a plain one, which older servers load"),
    ("lexicographic ranges over different scores", "all", "the outcome depends on the random heights of a skip list"),
]


def _both_errors(_: Command, reference: object, ours: object) -> bool:
    return isinstance(reference, ReplyError) and isinstance(ours, ReplyError)


def _but_for_lag(_: Command, reference: object, ours: object) -> bool:
    """What XINFO replies is the same, but for how it counts what groups have read and have to, and for the clock."""
    def left(reply: object) -> object:
        if not isinstance(reply, list) or not all(isinstance(row, list) for row in reply):
            return reply
        rows = [dict(row) if isinstance(row, Map) else dict(zip(row[::2], row[1::2])) for row in reply]
        return [{name: value for name, value in row.items() if name not in (b"lag", b"entries-read", b"idle", b"inactive")} for row in rows]

    return left(reference) == left(ours)


def _text(number: object) -> object:
    return number.text if isinstance(number, Double) else number


DIFFERENCES: list[Difference] = [
    _row("7.4 counts what groups have read and have to read in its own way, and so do we; and the clock goes on", "XINFO", _but_for_lag),
    _row("+ for the last entry came with 7.4", "XREAD",
         lambda command, reference, _: b"+" in command and isinstance(reference, ReplyError), before=(7, 4)),
    _row("every version has another text for keys and IDs that are not as many", "XREAD XREADGROUP", _both_errors),
    _row("Redis refuses to sort by numbers when errno is left from a number out of range that it read before", "SORT SORT_RO",
         lambda _, reference, ours: isinstance(reference, ReplyError) and "into double" in str(reference)),
    _row("before 7.2 doubles have 17 digits", "EVAL EVAL_RO",
         lambda command, reference, ours: b"{double" in command[1] and type(reference) is type(ours) and float(_text(reference)) == float(_text(ours)),
         before=(7, 2)),
    _row("8.0 sorts by numbers too large for a double", "SORT SORT_RO",
         lambda _, reference, ours: isinstance(ours, ReplyError) and "into double" in str(ours), since=(8,)),
    _row("of STORE twice, which SORT refuses, we tell the key after the first", "COMMAND",
         lambda command, *_: command[2].upper() == b"SORT" and [word.upper() for word in command].count(b"STORE") > 1),
    _row("before 7.2 COMMAND GETKEYSANDFLAGS wants an argument more", "COMMAND",
         lambda command, reference, ours: command[1].upper() == b"GETKEYSANDFLAGS" and len(command) == 3
         and isinstance(reference, ReplyError) and isinstance(ours, ReplyError), before=(7, 2)),
    _row("before 7.4 the key is looked at before the arguments, which do not matter when it is absent", "BITCOUNT BITPOS",
         lambda _, reference, ours: type(reference) in (int, ReplyError) and isinstance(ours, ReplyError), before=(7, 4)),
]


def known_difference(version: tuple[int, ...], command: Command, reference: object, ours: object) -> bool:
    name = command[0].upper()
    return any(
        name in row.commands and row.since <= version < row.before and row.accepts(command, reference, ours)
        for row in DIFFERENCES
    )
