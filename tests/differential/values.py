"""The random arguments: few keys, small values, the edges of encodings and of numbers.

Relative expiry times are either hours away or already over, so that no reply depends on how fast a
server is. The key pool holds hash tags, the empty key and binary ones.
"""

from __future__ import annotations

import random

from . import scripts
from .grammar import Emit, Terminals

KEY_POOLS: dict[str, list[bytes]] = {
    "strings": [b"s0", b"s1", b"s2", b"{t}s", b"", b"\x00\xff\r\n"],
    "bitmaps": [b"s0", b"s1", b"{t}s", b"b0"],
    "hyperloglogs": [b"p0", b"p1", b"{t}p"],
    "geo": [b"g0", b"g1", b"{t}g"],
    "sorting": [b"q0", b"q1", b"{t}q"],
    "lists": [b"l0", b"l1", b"l2", b"{t}l", b"long" * 20],
    "sets": [b"e0", b"e1", b"e2", b"{t}e"],
    "hashes": [b"h0", b"h1", b"{t}h"],
    "streams": [b"t0", b"t1", b"{t}t"],
    "field_expiry": [b"f0", b"f1", b"{t}f"],
    "sorted_sets": [b"z0", b"z1", b"z2", b"{t}z"],
}
ALL_KEYS = list(dict.fromkeys(key for pool in KEY_POOLS.values() for key in pool)) + [b"{t}", b"{}x", b"free"]
LEXICOGRAPHIC_KEYS = [b"x0", b"x1", b"{t}x"]  # used by no other commands
_SORTED_KEYS = KEY_POOLS["sorting"] * 3 + KEY_POOLS["lists"] + KEY_POOLS["sets"] + KEY_POOLS["sorted_sets"] + [b"s0", b"nokey"]
FOREIGN_KEY_CHANCE = 0.06
DATABASES = [b"0"] * 8 + [b"1", b"1", b"2", b"15"]

_WORDS = [b"a", b"b", b"c", b"aa", b"ab", b"abc", b"bcd", b"foo", b"bar", b"hello world", b"", b"\x00", b"\xff\xfe",
          b"m1", b"m2", b"m3", b"m4", b"m5", b"m6", b"m7"]
_INTS = [b"0", b"1", b"-1", b"2", b"3", b"5", b"7", b"10", b"100", b"127", b"128", b"255", b"4095", b"4096", b"-128",
         b"-129", b"32767", b"32768", b"-32769", b"65536", b"8388607", b"8388608", b"2147483647", b"2147483648",
         b"-2147483649", b"9007199254740993", b"9223372036854775807", b"-9223372036854775808"]
_LARGEST, _SMALLEST = b"9223372036854775807", b"-9223372036854775808"
_NOT_INTS = [b"9223372036854775808", b"-9223372036854775809", b"01", b"+1", b" 1", b"1 ", b"-0", b"1.5", b"1e3", b"x",
             b"", b"0x10"]
_FLOATS = [b"0", b"1", b"-1", b"0.5", b"1.5", b"-2.25", b"3", b"10", b"0.1", b"0.2", b"1e3", b"1e-5", b"100000000000000000",
           b"3.0e3", b"-0", b"5"]
_BAD_FLOATS = [b"nan", b"abc", b"", b"1.5x", b" 1", b"1e400", b"inf", b"-inf", b"+inf", b"infinity", b"0x10"]
_STRTOD_ONLY = (b" 1", b"", b"1e400", b"infinity", b"0x10")
_PATTERNS = [b"*", b"s*", b"?0", b"[a-l]*", b"*t*", b"{t}*", b"z[^1]", b"nothing", b"s0", b"\\s0", b"*\xff*"]
_LETTERS = b"abcdefghij0123456789"


def _pick(pool: list[bytes]) -> Emit:
    def emit(rng: random.Random, out: list) -> None:
        out.append(pool[int(rng.random() * len(pool))])

    return emit


def word(rng: random.Random) -> bytes:
    """A small value, most of the time."""
    roll = rng.random()
    if roll < 0.5:
        return _WORDS[int(rng.random() * len(_WORDS))]
    if roll < 0.75:
        return _INTS[int(rng.random() * len(_INTS))]
    if roll < 0.85:
        return b"%d" % rng.randrange(-50, 5000)
    if roll < 0.90:
        return _FLOATS[int(rng.random() * len(_FLOATS))]
    if roll < 0.95:
        return text(rng, rng.choice((20, 43, 44, 45, 63, 64, 65)))
    if roll < 0.995:
        return text(rng, rng.randrange(66, 400))
    return text(rng, rng.choice((4000, 8190, 9000, 20000, 70000)))


def text(rng: random.Random, length: int) -> bytes:
    if rng.random() < 0.5:
        return bytes([_LETTERS[int(rng.random() * len(_LETTERS))]]) * length  # compresses well
    if rng.random() < 0.5:
        return rng.randbytes(length)
    return b"%0*x" % (length, rng.getrandbits(4 * length))


def member(rng: random.Random) -> bytes:
    return word(rng) if rng.random() < 0.35 else _WORDS[int(rng.random() * len(_WORDS))]


def integer(rng: random.Random) -> bytes:
    roll = rng.random()
    if roll < 0.55:
        return b"%d" % rng.randrange(-20, 40)
    return (_INTS if roll < 0.93 else _NOT_INTS)[int(rng.random() * 12)]


def score(rng: random.Random) -> bytes:
    roll = rng.random()
    if roll < 0.5:
        return b"%d" % rng.randrange(-5, 12)
    if roll < 0.85:
        return _FLOATS[int(rng.random() * len(_FLOATS))]
    if roll < 0.93:
        return repr(round(rng.uniform(-100, 100), rng.randrange(0, 17))).encode()
    if roll < 0.97:
        return rng.choice((b"inf", b"-inf", b"+inf", b"1e308", b"-1e308", b"5e-324", b"1.7976931348623157e308"))
    return _BAD_FLOATS[int(rng.random() * len(_BAD_FLOATS))]


def _floating(rng: random.Random, out: list) -> None:
    roll = rng.random()
    out.append(rng.choice(_FLOATS) if roll < 0.75 else
               repr(round(rng.uniform(-1000, 1000), 4)).encode() if roll < 0.93 else rng.choice(_BAD_FLOATS))


def _index(rng: random.Random, out: list, far=(b"-1000", b"1000", b"130", b"2147483648", _LARGEST, _SMALLEST)) -> None:
    roll = rng.random()
    if roll < 0.9:
        out.append(b"%d" % rng.randrange(-9, 14))
    elif roll < 0.97:
        out.append(rng.choice(far))
    else:
        out.append(rng.choice(_NOT_INTS))


def _skip(rng: random.Random, out: list) -> None:
    """An offset that is not negative."""
    _index(rng, out, (b"1000", b"130", b"2147483648", _LARGEST))
    out[-1] = out[-1].lstrip(b"-")


def _near_index(rng: random.Random, out: list) -> None:
    _index(rng, out, (b"-1000", b"1000", b"130", b"-2147483649"))


def _count(rng: random.Random, out: list) -> None:
    roll = rng.random()
    out.append(b"%d" % rng.randrange(0, 8) if roll < 0.85 else
               rng.choice((b"-1", b"1000", b"200", b"9223372036854775807")) if roll < 0.95 else rng.choice(_NOT_INTS))


def _offset(rng: random.Random, out: list) -> None:
    roll = rng.random()
    out.append(b"%d" % rng.randrange(0, 30) if roll < 0.85 else
               rng.choice((b"-1", b"300", b"5000", b"1048575", b"1048576", b"9223372036854775807", b"x")))


def _bit(rng: random.Random, out: list) -> None:
    roll = rng.random()
    out.append(b"%d" % rng.randrange(0, 90) if roll < 0.8 else b"%d" % rng.randrange(0, 3000) if roll < 0.95 else
               rng.choice((b"40000", b"8388607", b"8388608", b"-1", b"4294967296", b"9223372036854775807", b"x")))


def _bit_at(rng: random.Random, out: list) -> None:
    """An end of a range in bits or bytes, from either side."""
    roll = rng.random()
    out.append(b"%d" % rng.randrange(-90, 90) if roll < 0.9 else
               rng.choice((b"3000", b"-3000", _LARGEST, _SMALLEST, b"x", b"1.5")))


def _width(rng: random.Random, out: list) -> None:
    out.append(rng.choice((b"i", b"u")) + b"%d" % rng.choice((1, 2, 3, 5, 7, 8, 8, 13, 16, 31, 32, 33, 62, 63))
               if rng.random() < 0.9 else rng.choice((b"i64", b"i64", b"u64", b"i0", b"u0", b"x8", b"i65", b"8")))


def _field_at(rng: random.Random, out: list) -> None:
    _bit(rng, out) if rng.random() < 0.7 else out.append(b"#%d" % rng.randrange(0, 12))


def _bit_operation(rng: random.Random, out: list) -> None:
    kind = rng.choice((b"GET", b"SET", b"SET", b"INCRBY", b"INCRBY"))
    out.append(kind)
    _width(rng, out)
    _field_at(rng, out)
    if kind != b"GET":
        out.append(integer(rng))


def _degrees(limit: float, edges: tuple[bytes, ...]) -> Emit:
    def emit(rng: random.Random, out: list) -> None:
        roll = rng.random()
        degrees = 10 + rng.uniform(-1, 1) if roll < 0.5 else rng.uniform(-limit, limit)
        out.append(b"%.6f" % degrees if roll < 0.95 else rng.choice(edges))

    return emit


def _radius(rng: random.Random, out: list) -> None:
    roll = rng.random()
    out.append(b"%.3f" % 10 ** rng.uniform(-1, 7) if roll < 0.95 else rng.choice((b"0", b"-1", b"x", b"1e9", b"nan")))


def _bound(rng: random.Random, out: list) -> None:
    roll = rng.random()
    if roll < 0.3:
        out.append(rng.choice((b"-inf", b"+inf", b"inf")))
    elif roll < 0.55:
        out.append(b"(" + score(rng))
    else:
        out.append(score(rng))


def _plain_bound(rng: random.Random, out: list) -> None:
    """As `_bound`, without the spellings that only strtod reads."""
    _bound(rng, out)
    if out[-1].lstrip(b"(") in _STRTOD_ONLY:
        out[-1] = b"2"


def _lex(rng: random.Random, out: list) -> None:
    roll = rng.random()
    if roll < 0.4:
        out.append(rng.choice((b"-", b"+")))
    elif roll < 0.97:
        out.append(rng.choice((b"[", b"(")) + member(rng))
    else:
        out.append(rng.choice((b"", b"a", b"+x", b"-inf")))


def _far_seconds(rng: random.Random, out: list) -> None:
    out.append(b"%d" % rng.randrange(20_000, 2_000_000))


def _far_milliseconds(rng: random.Random, out: list) -> None:
    out.append(b"%d" % rng.randrange(20_000_000, 2_000_000_000))


def _far_time(rng: random.Random, out: list) -> None:
    out.append(b"%d" % rng.randrange(4_000_000_000, 4_100_000_000))


def _far_time_milliseconds(rng: random.Random, out: list) -> None:
    out.append(b"%d" % rng.randrange(4_000_000_000_000, 4_100_000_000_000))


_BAD_TTL = [b"0", b"-1", b"-100", b"1.5", b"x", b"", b"9223372036854775807", b"9223372036854775", b"-9223372036854775808",
            b"9223372036854775808", b"99999999999999"]


def _many(one) -> Emit:
    def emit(rng: random.Random, out: list) -> None:
        low = rng.choice((0, 100, 5000))
        for number in range(rng.choice((10, 40, 120, 130, 300, 520))):
            one(rng, out, low + number)

    return emit


def _many_values(rng: random.Random, out: list, number: int) -> None:
    out.append(b"value-%d" % number if number % 3 else word(rng))


def _many_fields(rng: random.Random, out: list, number: int) -> None:
    out += (b"field-%d" % number, b"%d" % (number * 7))


def _many_scores(rng: random.Random, out: list, number: int) -> None:
    out += (b"%d" % (number // 3), b"member-%d" % number)


class KeyChooser:
    """Picks keys: of the family at work mostly; all the time the one in `forced`, while it is set."""

    def __init__(self) -> None:
        self.pool = ALL_KEYS
        self.forced: bytes | None = None

    def key(self, rng: random.Random) -> bytes:
        if self.forced is not None and rng.random() < 0.7:
            return self.forced
        pool = ALL_KEYS if rng.random() < FOREIGN_KEY_CHANCE else self.pool
        return pool[int(rng.random() * len(pool))]

    def emit(self, rng: random.Random, out: list) -> None:
        out.append(self.key(rng))

    def emit_any(self, rng: random.Random, out: list) -> None:
        if self.forced is not None and rng.random() < 0.7:
            out.append(self.forced)
        else:
            out.append(ALL_KEYS[int(rng.random() * len(ALL_KEYS))])

    def emit_counted(self, rng: random.Random, out: list) -> None:
        """`numkeys key...`; the number is wrong now and then."""
        count = rng.choice((1, 1, 2, 2, 3))
        said = count if rng.random() < 0.95 else rng.choice((0, -1, count + 1, 1000))
        out.append(b"%d" % said)
        for _ in range(count):
            self.emit(rng, out)

    def emit_two(self, rng: random.Random, out: list) -> None:
        out.append(b"2")
        self.emit(rng, out)
        self.emit(rng, out)


class StreamIds:
    """IDs of entries, which grow while a script goes on; most of those that are asked for exist or existed lately."""

    _ODD = (b"0", b"0-0", b"0-1", b"-", b"+", b"*x", b"x", b"1-x", b"18446744073709551615-18446744073709551615", b"007-1", b"")

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """A script depends on its seed, not on those before it."""
        self.ms = 1

    def emit_new(self, rng: random.Random, out: list) -> None:
        roll = rng.random()
        if roll < 0.03:
            out.append(self._ODD[int(rng.random() * 8)])
            return
        self.ms += rng.randrange(3)
        out.append(b"%d-*" % self.ms if roll < 0.7 else b"%d-%d" % (self.ms, rng.randrange(4)) if roll < 0.95 else b"%d" % self.ms)

    def emit(self, rng: random.Random, out: list) -> None:
        roll = rng.random()
        ms = max(0, self.ms - rng.randrange(25))
        out.append(b"%d-%d" % (ms, rng.randrange(3)) if roll < 0.75 else b"%d" % ms if roll < 0.95 else rng.choice(self._ODD))

    def emit_end(self, rng: random.Random, out: list) -> None:
        if rng.random() < 0.5:
            out.append(rng.choice((b"-", b"+")))
            return
        self.emit(rng, out)
        if rng.random() < 0.3:
            out[-1] = b"(" + out[-1]


def terminals(keys: KeyChooser, ids: StreamIds, version: tuple[int, ...]) -> Terminals:
    """Every lowercase word that forms.py may use, for a reference of this version (see NOT_ASKED in differences.py)."""
    smallest = _SMALLEST if version >= (7, 2) else b"-1"
    return {
        "k": keys.emit,
        "any": keys.emit_any,
        "lexkey": _pick(LEXICOGRAPHIC_KEYS),
        "numkeys": keys.emit_counted,
        "twokeys": keys.emit_two,
        "v": lambda rng, out: out.append(word(rng)),
        "m": lambda rng, out: out.append(member(rng)),
        "int": lambda rng, out: out.append(integer(rng)),
        "number": lambda rng, out: out.append(rng.choice(_INTS + _FLOATS)),
        "float": _floating,
        "weight": _pick([b"1", b"2", b"0", b"-1", b"0.5", b"inf", b"x"]),
        "score": lambda rng, out: out.append(score(rng)),
        "bound": _bound if version < (8,) else _plain_bound,
        "lex": _lex,
        "i": _index,
        "skip": _index if version < (7, 2) else _skip,
        "near": _near_index,
        "count": _count,
        "rank": _pick([b"1", b"-1", b"2", b"-2", b"3", b"0", smallest, b"x"]),
        "small": _pick([b"0", b"1", b"2", b"4", b"-1", b"x"]),
        "offset": _offset,
        "sortkey": lambda rng, out: out.append(rng.choice(_SORTED_KEYS)),
        "sortpattern": _pick([b"w-*", b"w-*", b"w-*->F", b"*->F", b"*", b"w-*x", b"{t}*"]),
        "getpattern": _pick([b"w-*", b"w-*->F", b"*->F", b"*", b"#", b"nosuch", b"w-*x", b"{t}*"]),
        "weightkey": _pick([b"w-0", b"w-1", b"w-2", b"w-3", b"w-5", b"w-a", b"w-b", b"w-7x", b"{t}1", b"{t}2"]),
        "newid": ids.emit_new,
        "id": ids.emit,
        "idend": ids.emit_end,
        "onekey": _pick(scripts.ONE_KEY),
        "twokeyed": _pick(scripts.TWO_KEYS),
        "pure": _pick(scripts.PURE),
        "sha": _pick(scripts.DIGESTS),
        "library": _pick(scripts.LIBRARIES),
        "clientname": _pick([b"a", b"m1", b"hello world", b"", b"\xff\xfe", b"a\n"]),
        "username": _pick([b"default", b"nobody"]),
        "limitname": _pick([b"hash-max-listpack-entries", b"zset-max-listpack-entries", b"set-max-intset-entries"]),
        "group": _pick([b"g0", b"g0", b"g1", b"none"]),
        "consumer": _pick([b"alice", b"bob", b"carol"]),
        "lon": _degrees(180, (b"180", b"-180", b"0", b"181", b"x", b"inf")),
        "lat": _degrees(85, (b"85.05112878", b"-85.05112878", b"0", b"86", b"x", b"nan")),
        "radius": _radius,
        "unit": _pick([b"m", b"km", b"km", b"KM", b"ft", b"mi", b"xx"]),
        "bit": _bit,
        "bitat": _bit_at,
        "width": _width,
        "fieldat": _field_at,
        "bitop": _bit_operation,
        "ttl": _far_seconds,
        "pttl": _far_milliseconds,
        "at": _far_time,
        "pat": _far_time_milliseconds,
        "ttlbad": _pick(_BAD_TTL),
        "pattern": _pick(_PATTERNS),
        "db": lambda rng, out: out.append(rng.choice(DATABASES) if rng.random() < 0.97 else rng.choice((b"16", b"-1", b"x"))),
        "manyvalues": _many(_many_values),
        "manymembers": _many(lambda rng, out, n: out.append(b"member-%d" % n)),
        "manyints": _many(lambda rng, out, n: out.append(b"%d" % (n * 3))),
        "manyfields": _many(_many_fields),
        "manyscores": _many(_many_scores),
    }
