"""DUMP payloads built by hand: every value type and encoding that RDB ever had, with its footer.

    type (1) | value | version (2, little-endian) | CRC-64/Jones of all before (8, little-endian)

Servers of today write few of these any more, and all of them must be read. `samples()` lists them;
`sealed` gives a changed payload a footer that is right, so that its decoder sees the change.
"""

from __future__ import annotations

import struct

VERSION = 11
_POLYNOMIAL = 0x95AC9329AC4BC9B5


def _table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return table


_TABLE = _table()


def crc64(data: bytes) -> int:
    """CRC-64/Jones, as in RDB files."""
    crc = 0
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc


assert crc64(b"123456789") == 0xE9C6D914C4B8D9CA


def sealed(body: bytes, version: int = VERSION) -> bytes:
    """`body` (type and value) as a payload that RESTORE accepts by its footer."""
    whole = body + struct.pack("<H", version)
    return whole + struct.pack("<Q", crc64(whole))


def body_of(payload: bytes) -> bytes:
    """A payload without its footer."""
    return payload[:-10]


# -- pieces ------------------------------------------------------------------------------------
def length(n: int) -> bytes:
    if n < 1 << 6:
        return bytes([n])
    if n < 1 << 14:
        return struct.pack(">H", 0x4000 | n)
    if n < 1 << 32:
        return b"\x80" + struct.pack(">I", n)
    return b"\x81" + struct.pack(">Q", n)


def string(text: bytes) -> bytes:
    return length(len(text)) + text


def _as_int(item: bytes | int) -> int | None:
    if isinstance(item, int):
        return item
    try:
        n = int(item)
    except ValueError:
        return None
    return n if str(n).encode() == item and -(1 << 63) <= n < 1 << 63 else None


def lzf_run(byte: int, count: int) -> bytes:
    """A string of `count` (at least 12) equal bytes, LZF-compressed."""
    data = bytes([0, byte])
    left = count - 1
    while left >= 3:
        step = min(left, 264)
        data += bytes([step - 2 << 5, 0]) if step < 9 else bytes([7 << 5, step - 9, 0])
        left -= step
    if left:
        data += bytes([left - 1]) + bytes([byte]) * left
    return b"\xc3" + length(len(data)) + length(count) + data


def ziplist(items: list[bytes | int]) -> bytes:
    body, last, previous = b"", 10, 0
    for item in items:
        last = 10 + len(body)
        entry = bytes([previous]) if previous < 254 else b"\xfe" + struct.pack("<I", previous)
        n = _as_int(item)
        if n is None:
            text = bytes(item)
            if len(text) < 1 << 6:
                entry += bytes([len(text)])
            elif len(text) < 1 << 14:
                entry += struct.pack(">H", 0x4000 | len(text))
            else:
                entry += b"\x80" + struct.pack(">I", len(text))
            entry += text
        elif 0 <= n <= 12:
            entry += bytes([0xF1 + n])
        elif -(1 << 7) <= n < 1 << 7:
            entry += b"\xfe" + struct.pack("<b", n)
        elif -(1 << 15) <= n < 1 << 15:
            entry += b"\xc0" + struct.pack("<h", n)
        elif -(1 << 23) <= n < 1 << 23:
            entry += b"\xf0" + struct.pack("<i", n)[:3]
        elif -(1 << 31) <= n < 1 << 31:
            entry += b"\xd0" + struct.pack("<i", n)
        else:
            entry += b"\xe0" + struct.pack("<q", n)
        body += entry
        previous = len(entry)
    return struct.pack("<IIH", 10 + len(body) + 1, last, len(items)) + body + b"\xff"


def zipmap(pairs: list[tuple[bytes, bytes]], slack: int = 2) -> bytes:
    out = bytes([len(pairs)])
    for i, (field, value) in enumerate(pairs):
        for text in (field, value):
            out += bytes([len(text)]) if len(text) < 254 else b"\xfe" + struct.pack("<I", len(text))
            if text is value:
                out += bytes([slack * (i % 2)])
            out += text
        out += b"\0" * (slack * (i % 2))
    return out + b"\xff"


def _back_length(n: int) -> bytes:
    groups = [n & 0x7F]
    while n >> 7:
        n >>= 7
        groups.append(n & 0x7F)
    groups.reverse()
    return bytes([groups[0], *(g | 0x80 for g in groups[1:])])


def listpack(items: list[bytes | int]) -> bytes:
    body = b""
    for item in items:
        n = _as_int(item)
        if n is None:
            text = bytes(item)
            if len(text) < 64:
                entry = bytes([0x80 | len(text)])
            elif len(text) < 4096:
                entry = struct.pack(">H", 0xE000 | len(text))
            else:
                entry = b"\xf0" + struct.pack("<I", len(text))
            entry += text
        elif 0 <= n <= 127:
            entry = bytes([n])
        elif -4096 <= n <= 4095:
            entry = struct.pack(">H", 0xC000 | n & 0x1FFF)
        elif -(1 << 15) <= n < 1 << 15:
            entry = b"\xf1" + struct.pack("<h", n)
        elif -(1 << 23) <= n < 1 << 23:
            entry = b"\xf2" + struct.pack("<i", n)[:3]
        elif -(1 << 31) <= n < 1 << 31:
            entry = b"\xf3" + struct.pack("<i", n)
        else:
            entry = b"\xf4" + struct.pack("<q", n)
        body += entry + _back_length(len(entry))
    return struct.pack("<IH", 6 + len(body) + 1, min(len(items), 65535)) + body + b"\xff"


def intset(numbers: list[int]) -> bytes:
    width = next(w for w in (2, 4, 8) if all(-(1 << 8 * w - 1) <= n < 1 << 8 * w - 1 for n in numbers))
    ints = b"".join(n.to_bytes(width, "little", signed=True) for n in sorted(numbers))
    return struct.pack("<II", width, len(numbers)) + ints


# -- whole values ------------------------------------------------------------------------------
MIXED: list[bytes | int] = [
    b"", b"a", b"text of some length", 0, 12, 13, -1, 127, 128, 4095, -4096, 32767, -32768, 8388607, 2147483647,
    -9223372036854775808, b"x" * 63, b"y" * 64, b"007", b"1.5",
]
PAIRS = [(b"field", b"value"), (b"n", b"17"), (b"long", b"v" * 70), (b"empty", b""), (b"big", b"123456789012")]
FAR_MS = 4_102_444_800_000  # 2100-01-01
EXPIRING = [b"field", b"value", FAR_MS, b"long", b"v" * 70, FAR_MS + 70_000, b"n", b"17", 0]
SCORED = [(b"low", b"-1.5"), (b"zero", b"0"), (b"one", b"1"), (b"two", b"2.25"), (b"top", b"1e300")]


NEAR = [(b"f1", b"v"), (b"f2", b"v"), (b"f3", b"v")]


def _flat(pairs) -> list[bytes]:
    return [text for pair in pairs for text in pair]


def _stream(type_: int) -> bytes:
    """Two nodes with deleted entries and fields of their own, two groups, pending entries, consumers."""
    def stream_id(ms: int, seq: int) -> bytes:
        return struct.pack(">QQ", ms, seq)

    first = [2, 1, 2, b"f", b"n", 0, 2, 0, 0, b"v", 100, 5, 3, 2, 0, b"w", -1, 5, 0, 3, 1, 1, b"g", b"x" * 30, 6]
    second = [1, 0, 1, b"f", 0, 2, 0, 0, 1 << 40, 4]
    body = length(2) + string(stream_id(1, 0)) + string(listpack(first)) + string(stream_id(9, 5)) + string(listpack(second))
    body += length(3) + length(9) + length(5)
    if type_ > 15:
        body += length(1) + length(0) + length(3) + length(0) + length(4)
    body += length(2)
    for name, pending in ((b"group", [(1, 0), (3, 0), (9, 5)]), (b"other", [])):
        body += string(name) + length(9) + length(5)
        if type_ > 15:
            body += length(4)
        body += length(len(pending)) + b"".join(stream_id(*i) + struct.pack("<q", 1_700_000_000_000) + length(2) for i in pending)
        consumers = [(b"alice", pending[:2]), (b"bob", pending[2:])]
        body += length(len(consumers))
        for consumer, own in consumers:
            body += string(consumer) + struct.pack("<q", 1_700_000_000_500)
            if type_ > 19:
                body += struct.pack("<q", 1_700_000_000_400 if own else -1)
            body += length(len(own)) + b"".join(stream_id(*i) for i in own)
    return body


def samples() -> dict[str, bytes]:
    """A body (type and value) of every type and encoding that can hold a value of ours, by name."""
    texts = [item if isinstance(item, bytes) else str(item).encode() for item in MIXED]
    strings = b"".join(map(string, texts))
    hash_items = b"".join(map(string, _flat(PAIRS)))
    many = [b"member:%d" % i for i in range(150)]
    return {
        "string": b"\x00" + string(b"plain text, no number"),
        "string-int8": b"\x00\xc0\xf6",
        "string-int16": b"\x00\xc1\x39\x30",
        "string-int32": b"\x00\xc2\x15\xcd\x5b\x07",
        "string-lzf": b"\x00" + lzf_run(ord("z"), 1000),
        "list": b"\x01" + length(len(texts)) + strings,
        "set": b"\x02" + length(len(texts)) + strings,
        "set-table": b"\x02" + length(len(many)) + b"".join(map(string, many)),
        "zset-text": b"\x03" + length(3) + string(b"a") + b"\x031.5" + string(b"b") + b"\xfe" + string(b"c") + b"\xff",
        "hash": b"\x04" + length(len(PAIRS)) + hash_items,
        "hash-table": b"\x04" + length(75) + b"".join(map(string, many)),
        "zset-binary": b"\x05" + length(len(SCORED))
        + b"".join(string(m) + struct.pack("<d", float(s)) for m, s in SCORED),
        "zset-tree": b"\x05" + length(len(many)) + b"".join(string(m) + struct.pack("<d", i) for i, m in enumerate(many)),
        "hash-zipmap": b"\x09" + string(zipmap([(b"foo", b"bar"), (b"hello", b"world"), (b"e", b"")])),
        "list-ziplist": b"\x0a" + string(ziplist(MIXED)),
        "set-intset16": b"\x0b" + string(intset([-3, 1, 2, 500])),
        "set-intset32": b"\x0b" + string(intset([-70000, 1, 2])),
        "set-intset64": b"\x0b" + string(intset([-(1 << 40), 0, 1 << 62])),
        "zset-ziplist": b"\x0c" + string(ziplist(_flat(SCORED))),
        "hash-ziplist": b"\x0d" + string(ziplist(_flat(PAIRS))),
        "list-quicklist": b"\x0e" + length(2) + string(ziplist(MIXED[:9])) + string(ziplist(MIXED[9:])),
        "hash-listpack": b"\x10" + string(listpack(_flat(PAIRS[:2]))),
        "hash-listpack-long": b"\x10" + string(listpack(_flat(PAIRS))),
        "zset-listpack": b"\x11" + string(listpack(_flat(SCORED))),
        "list-quicklist2": b"\x12" + length(3) + b"\x02" + string(listpack(MIXED[:9]))
        + b"\x01" + string(b"plain node " * 20) + b"\x02" + string(listpack(MIXED[9:])),
        "list-listpack": b"\x12" + length(1) + b"\x02" + string(listpack(MIXED[:6])),
        "set-listpack": b"\x14" + string(listpack(MIXED)),
        # One byte away from a member that occurs twice, or from the wrong order.
        "hash-listpack-near": b"\x10" + string(listpack(_flat(NEAR))),
        "hash-ziplist-near": b"\x0d" + string(ziplist(_flat(NEAR))),
        "hash-zipmap-near": b"\x09" + string(zipmap(NEAR)),
        "hash-near": b"\x04" + length(len(NEAR)) + b"".join(map(string, _flat(NEAR))),
        "set-listpack-near": b"\x14" + string(listpack([b"f1", b"f2", 3, 4])),
        "set-near": b"\x02" + length(3) + b"\x02f1\x02f2\x02f3",
        "zset-listpack-near": b"\x11" + string(listpack([b"f1", 1, b"f2", 1, b"f3", 2])),
        "zset-ziplist-near": b"\x0c" + string(ziplist([b"f1", 1, b"f2", 1, b"f3", 2])),
        "stream": b"\x0f" + _stream(15),
        "stream-2": b"\x13" + _stream(19),
        "stream-3": b"\x15" + _stream(21),
        "stream-empty": b"\x13" + length(0) * 10,
        # Hashes of types that can carry an expiry per field, with none set.
        "hash-metadata": b"\x18" + b"\0" * 8 + length(2)
        + b"".join(b"\0" + string(f) + string(v) for f, v in PAIRS[:2]),
        "hash-listpack-metadata": b"\x19" + b"\0" * 8
        + string(listpack([part for f, v in PAIRS[:2] for part in (f, v, 0)])),
        # And with some: the earliest time first, in the second form only.
        "hash-metadata-expiring": b"\x18" + struct.pack("<Q", FAR_MS) + length(3)
        + b"".join(length(at) + string(f) + string(v) for at, (f, v) in zip((1, 0, 70_001), PAIRS)),
        "hash-listpack-metadata-expiring": b"\x19" + struct.pack("<Q", FAR_MS) + string(listpack(EXPIRING)),
        "hash-pre-ga-expiring": b"\x16" + length(3)
        + b"".join(length(at) + string(f) + string(v) for at, (f, v) in zip((FAR_MS, 0, FAR_MS + 70_000), PAIRS)),
        "hash-listpack-pre-ga-expiring": b"\x17" + string(listpack(EXPIRING)),
    }


def refused() -> dict[str, bytes]:
    """Bodies of types that other servers have and ours does not hold."""
    return {
        "module": b"\x07" + b"\x81" + b"\x11" * 8 + b"\x00",
        "unknown": b"\x63abc",
    }
