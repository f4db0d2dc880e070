"""RESP values as Python values, and redis-cli's quoting.

A reply keeps every distinction the protocol makes: `+OK` is `Simple(b"OK")`, `$2 OK` is `b"OK"`,
the three nulls are `NIL_BULK` (`$-1`), `NIL_ARRAY` (`*-1`) and `NIL` (`_`), maps, sets and pushes
are their own list types, a double keeps its text. `plain` forgets all that.
Errors are values (`ReplyError` is an exception, but parsing returns it and raises nothing).
"""

from __future__ import annotations


class ProtocolError(Exception):
    """The server sent something that is not RESP."""


class Simple(bytes):
    """A simple string, `+...`."""

    def __repr__(self) -> str:
        return f"Simple({bytes(self)!r})"


class Verbatim(bytes):
    """A verbatim string, `=...`; `format` is its three letters."""

    format = "txt"

    def __repr__(self) -> str:
        return f"Verbatim({self.format}:{bytes(self)!r})"


class ReplyError(Exception):
    """An error reply; `text` is all of it, `code` its first word."""

    def __init__(self, text: bytes | str):
        self.text = text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text
        super().__init__(self.text)

    @property
    def code(self) -> str:
        return self.text.split(" ", 1)[0]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReplyError) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"ReplyError({self.text!r})"


class Nil:
    """A null; falsy. `wire` tells the three apart."""

    def __init__(self, wire: bytes):
        self.wire = wire

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return f"Nil({self.wire.decode()})"


NIL_BULK = Nil(b"$-1")
NIL_ARRAY = Nil(b"*-1")
NIL = Nil(b"_")


class Double(float):
    """A double, `,...`; `text` is what was on the wire."""

    text: str

    def __new__(cls, text: str) -> "Double":
        value = super().__new__(cls, text)
        value.text = text
        return value


class BigNumber(int):
    """A big number, `(...`."""


class Map(list):
    """A map, `%`: a list of (key, value) in wire order."""


class Set(list):
    """A set, `~`, in wire order."""


class Push(list):
    """A push, `>`."""


def plain(value: object) -> object:
    """The value as everyday Python: bytes, int, float, bool, None, list, dict, set; errors stay."""
    if isinstance(value, Nil):
        return None
    if isinstance(value, (Simple, Verbatim)):
        return bytes(value)
    if isinstance(value, Map):
        return {_hashable(plain(k)): plain(v) for k, v in value}
    if isinstance(value, Set):
        return {_hashable(plain(v)) for v in value}
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, Double):
        return float(value)
    if isinstance(value, BigNumber):
        return int(value)
    return value


def _hashable(value: object) -> object:
    return tuple(_hashable(v) for v in value) if isinstance(value, list) else value


def encode_arg(arg: object) -> bytes:
    if isinstance(arg, (bytes, bytearray, memoryview)):
        return bytes(arg)
    if isinstance(arg, str):
        return arg.encode()
    if isinstance(arg, float):
        return repr(arg).encode()
    if isinstance(arg, int) and not isinstance(arg, bool):
        return b"%d" % arg
    raise TypeError(f"not an argument: {arg!r}")


def encode_command(*args: object) -> bytes:
    """A command as an array of bulk strings."""
    parts = [b"*%d\r\n" % len(args)]
    for arg in args:
        data = encode_arg(arg)
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(parts)


class Parser:
    """Incremental: `feed` bytes, `next` yields one reply or `Parser.MORE`."""

    MORE = object()

    def __init__(self) -> None:
        self.buffer = bytearray()
        self._open: list[_Aggregate] = []

    @property
    def idle(self) -> bool:
        """Nothing unread, not even a part of a reply."""
        return not self.buffer and not self._open

    def feed(self, data: bytes) -> None:
        self.buffer += data

    def next(self) -> object:
        while True:
            value = self._element()
            if value is Parser.MORE:
                return value
            if isinstance(value, _Aggregate):
                if value.missing:
                    self._open.append(value)
                    continue
                value = value.finish()
            while self._open:
                top = self._open[-1]
                top.items.append(value)
                top.missing -= 1
                if top.missing:
                    break
                self._open.pop()
                value = top.finish()
            else:
                return value

    def _element(self) -> object:
        """One scalar, or the opening of an aggregate."""
        end = self.buffer.find(b"\r\n")
        if end < 0:
            return Parser.MORE
        kind, rest = bytes(self.buffer[:1]), bytes(self.buffer[1:end])
        if kind in b"$=!" and kind and rest != b"-1":
            start, count = end + 2, _count(rest)
            end = start + count
            if len(self.buffer) < end + 2:
                return Parser.MORE
            if self.buffer[end : end + 2] != b"\r\n":
                raise ProtocolError(f"no CRLF after {count} bytes")
            value = _blob(kind, bytes(memoryview(self.buffer)[start:end]))
        elif kind in b"*%~>" and kind and rest != b"-1":
            value = _Aggregate(kind, _count(rest))
        else:
            value = _scalar(kind, rest)
        del self.buffer[: end + 2]
        return value


class _Aggregate:
    def __init__(self, kind: bytes, count: int):
        self.kind = kind
        self.missing = count * 2 if kind == b"%" else count
        self.items: list[object] = []

    def finish(self) -> object:
        if self.kind == b"*":
            return self.items
        if self.kind == b"%":
            return Map(zip(self.items[::2], self.items[1::2]))
        return Set(self.items) if self.kind == b"~" else Push(self.items)


def _blob(kind: bytes, data: bytes) -> object:
    if kind == b"$":
        return data
    if kind == b"!":
        return ReplyError(data)
    text = Verbatim(data[4:])
    text.format = data[:3].decode()
    return text


def _scalar(kind: bytes, rest: bytes) -> object:
    if kind == b":":
        return _integer(rest)
    if kind == b"+":
        return Simple(rest)
    if kind == b"-":
        return ReplyError(rest)
    if kind == b"$":
        return NIL_BULK
    if kind == b"*":
        return NIL_ARRAY
    if kind == b"_" and not rest:
        return NIL
    if kind == b",":
        return Double(rest.decode())
    if kind == b"#" and rest in (b"t", b"f"):
        return rest == b"t"
    if kind == b"(":
        return BigNumber(_integer(rest))
    raise ProtocolError(f"not a reply: {(kind + rest)[:64]!r}")


def _integer(text: bytes) -> int:
    digits = text[1:] if text[:1] == b"-" else text
    if not digits.isdigit():
        raise ProtocolError(f"not a number: {text!r}")
    return int(text)


def _count(text: bytes) -> int:
    if not text.isdigit():
        raise ProtocolError(f"not a length: {text!r}")
    return int(text)


_ESCAPES = {"n": b"\n", "r": b"\r", "t": b"\t", "b": b"\b", "a": b"\a"}
_ESCAPED = {0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t", 0x08: "\\b", 0x07: "\\a", 0x22: '\\"', 0x5C: "\\\\"}


def quote(data: bytes) -> str:
    """`data` in double quotes, as redis-cli would print it."""
    out = []
    for byte in data:
        if byte in _ESCAPED:
            out.append(_ESCAPED[byte])
        elif 0x20 <= byte < 0x7F:
            out.append(chr(byte))
        else:
            out.append(f"\\x{byte:02x}")
    return '"' + "".join(out) + '"'


def scan_quoted(text: str, at: int) -> tuple[bytes, int]:
    """Reads the quoted string that opens at `at`; returns it and the position after its end."""
    mark = text[at]
    at += 1
    out = bytearray()
    while at < len(text):
        ch = text[at]
        if ch == mark:
            return bytes(out), at + 1
        if mark == '"' and ch == "\\" and at + 1 < len(text):
            nxt = text[at + 1]
            if nxt == "x":
                out.append(int(text[at + 2 : at + 4], 16))
                at += 4
                continue
            out += _ESCAPES.get(nxt, nxt.encode())
            at += 2
            continue
        if mark == "'" and text.startswith("\\'", at):
            out += b"'"
            at += 2
            continue
        out += ch.encode()
        at += 1
    raise ValueError(f"unbalanced quotes: {text!r}")


def split_args(line: str) -> list[bytes]:
    """Splits a command line the way redis-cli does."""
    args: list[bytes] = []
    at = 0
    while True:
        while at < len(line) and line[at].isspace():
            at += 1
        if at >= len(line):
            return args
        word = bytearray()
        while at < len(line) and not line[at].isspace():
            if line[at] in "\"'" and not word:
                data, at = scan_quoted(line, at)
                word += data
                if at < len(line) and not line[at].isspace():
                    raise ValueError(f"text after a closing quote: {line!r}")
                break
            word += line[at].encode()
            at += 1
        args.append(bytes(word))
