"""Expected replies: their text form, matching a typed reply against one, writing a reply as one.

The text form is described in README.md. `parse_pattern` reads one value, `Pattern.matches(value,
variables)` judges, `write(value)` gives the pattern that only this reply matches.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Callable

from support import (
    BigNumber, Double, Map, Nil, NIL, NIL_ARRAY, NIL_BULK, Push, ReplyError, Set, Simple, Verbatim, quote,
)
from support.resp import scan_quoted

from .substitution import Variables, substitute


class PatternError(ValueError):
    """An expectation that cannot be read."""


@dataclass
class Pattern:
    source: str
    matches: Callable[[object, Variables], bool]


Test = Callable[[object, Variables], bool]

_INTEGER = re.compile(r"-?\d+$")
_NUMBER = re.compile(r"-?(\d+(\.\d*)?([eE][-+]?\d+)?|inf|nan)")
_WORD = re.compile(r"[a-z_]+")
_STATUS = re.compile(r"[A-Za-z@_-]+")


def parse_pattern(source: str) -> Pattern:
    source = source.strip()
    if source[:1] in "+-" and source[1:2] != '"' and not _INTEGER.match(source):
        text, kind = source[1:], Simple if source[0] == "+" else ReplyError
        return Pattern(source, _text_test(kind, text.encode()))
    reader = _Reader(source)
    test = reader.value()
    reader.end()
    return Pattern(source, test)


def _text_test(kind: type, expected: bytes) -> Test:
    def test(value: object, variables: Variables) -> bool:
        if type(value) is not kind:
            return False
        actual = value.text.encode() if kind is ReplyError else bytes(value)
        return actual == substitute(expected, variables)

    return test


class _Reader:
    def __init__(self, text: str):
        self.text = text
        self.at = 0

    def fail(self, why: str) -> PatternError:
        return PatternError(f"{why} at column {self.at + 1} of {self.text!r}")

    def space(self) -> None:
        while self.at < len(self.text) and self.text[self.at] in " \t\n,":
            self.at += 1

    def end(self) -> None:
        self.space()
        if self.at != len(self.text):
            raise self.fail("text after the value")

    def take(self, token: str) -> bool:
        if self.text.startswith(token, self.at):
            self.at += len(token)
            return True
        return False

    def string(self) -> bytes:
        if self.text[self.at : self.at + 1] != '"':
            raise self.fail("a quoted string is due")
        data, self.at = scan_quoted(self.text, self.at)
        return data

    def status(self) -> bytes:
        found = _STATUS.match(self.text, self.at)
        if not found:
            return self.string()
        self.at = found.end()
        return found.group().encode()

    def number(self) -> str:
        found = _NUMBER.match(self.text, self.at)
        if not found:
            raise self.fail("a number is due")
        self.at = found.end()
        return found.group()

    def value(self) -> Test:
        self.space()
        for opening, kind in (("[", list), ("~[", Set), (">[", Push)):
            if self.take(opening):
                items = self.items("]")
                return _set_test(items) if kind is Set else _array_test(kind, items)
        if self.take("{"):
            return _map_test(self.map_items())
        if self.text[self.at : self.at + 1] == '"':
            return _text_test(bytes, self.string())
        if self.take("+"):
            return _text_test(Simple, self.status())
        if self.take('-"'):
            self.at -= 1
            return _text_test(ReplyError, self.string())
        if self.take("#t"):
            return lambda value, _: value is True
        if self.take("#f"):
            return lambda value, _: value is False
        if self.take("="):
            return self.verbatim()
        if self.take("dbl:"):
            text = self.number()
            return lambda value, _: isinstance(value, Double) and value.text == text
        if self.take("("):
            digits = self.number()
            if not self.take(")"):
                raise self.fail("`)` is due")
            return lambda value, _: isinstance(value, BigNumber) and value == int(digits)
        found = _WORD.match(self.text, self.at)
        if found:
            self.at = found.end()
            return self.word(found.group())
        number = self.number()
        if not _INTEGER.match(number):
            raise self.fail("a double is written dbl:1.5")
        return lambda value, _: type(value) is int and value == int(number)

    def items(self, closing: str) -> list[Test]:
        items: list[Test] = []
        while True:
            self.space()
            if self.take(closing):
                return items
            if self.at >= len(self.text):
                raise self.fail(f"`{closing}` is due")
            items.append(self.value())

    def map_items(self) -> list[tuple[Test, Test]]:
        items = []
        while True:
            self.space()
            if self.take("}"):
                return items
            key = self.value()
            self.space()
            if not self.take(":"):
                raise self.fail("`:` is due")
            items.append((key, self.value()))

    def verbatim(self) -> Test:
        letters = self.text[self.at : self.at + 3]
        self.at += 3
        expected = self.string()
        return lambda value, variables: (
            isinstance(value, Verbatim) and value.format == letters and bytes(value) == substitute(expected, variables)
        )

    def word(self, name: str) -> Test:
        if name in _WILDCARDS:
            return _WILDCARDS[name]
        if name == "unordered" and self.take("["):
            return _unordered_test(self.items("]"))
        if name == "pairs" and self.take("["):
            items = self.items("]")
            if len(items) % 2:
                raise self.fail("an even number of values is due")
            return _pairs_test(items)
        if name == "contains" and self.take("["):
            return _contains_test(self.items("]"))
        if name == "contains" and self.take("{"):
            return _contains_map_test(self.map_items())
        if not self.take("("):
            raise self.fail(f"unknown word {name!r}")
        return self.call(name)

    def call(self, name: str) -> Test:
        if name == "int":
            low, high = int(self.number()), self._second(int)
            test: Test = lambda value, _: type(value) is int and low <= value <= high
        elif name == "about":
            want, slack = float(self.number()), self._second(float)
            test = lambda value, _: abs(_as_float(value) - want) <= slack
        elif name == "each":
            low = high = int(self.number())
            if self.take(".."):
                high = int(self.number())
            item = self.value()
            test = lambda value, v: (
                isinstance(value, list) and low <= len(value) <= high and all(item(x, v) for x in value)
            )
        elif name in ("match", "error", "status"):
            test = _regex_test(name, self.string())
        elif name == "oneof":
            choices = self.items(")")
            self.at -= 1
            test = lambda value, v: any(choice(value, v) for choice in choices)
        else:
            raise self.fail(f"unknown word {name!r}")
        if not self.take(")"):
            raise self.fail("`)` is due")
        return test

    def _second(self, kind: type) -> int | float:
        self.space()
        return kind(self.number())


def _is(kind: type) -> Test:
    return lambda value, _: type(value) is kind


_WILDCARDS: dict[str, Test] = {
    "any": lambda value, _: not isinstance(value, ReplyError),
    "integer": _is(int),
    "string": _is(bytes),
    "simple": _is(Simple),
    "array": _is(list),
    "map": _is(Map),
    "set": _is(Set),
    "double": _is(Double),
    # In RESP3 there is one null; in RESP2 the two are told apart.
    "nil": lambda value, _: value is NIL or value is NIL_BULK,
    "nilarray": lambda value, _: value is NIL or value is NIL_ARRAY,
}


def _as_float(value: object) -> float:
    if isinstance(value, (bytes, Double)) or type(value) is int:
        try:
            return float(value)
        except ValueError:
            pass
    return float("nan")


def _regex_test(name: str, expression: bytes) -> Test:
    re.compile(expression)
    kinds = {"match": (bytes, Verbatim), "error": (ReplyError,), "status": (Simple,)}[name]

    def test(value: object, variables: Variables) -> bool:
        if type(value) not in kinds:
            return False
        text = value.text.encode() if isinstance(value, ReplyError) else bytes(value)
        return re.search(substitute(expression, variables), text, re.DOTALL) is not None

    return test


def _array_test(kind: type, items: list[Test]) -> Test:
    return lambda value, v: (
        type(value) is kind and len(value) == len(items) and all(t(x, v) for t, x in zip(items, value))
    )


def _assign(tests: list[Callable[[object], bool]], values: list, all_values: bool) -> bool:
    """Whether each test can have a value of its own (and, if asked, no value is left over)."""
    if all_values and len(tests) != len(values):
        return False
    owner: dict[int, int] = {}

    def place(index: int, seen: set[int]) -> bool:
        for at, value in enumerate(values):
            if at not in seen and tests[index](value):
                seen.add(at)
                if at not in owner or place(owner[at], seen):
                    owner[at] = index
                    return True
        return False

    return all(place(index, set()) for index in range(len(tests)))


def _bind(tests: list[Test], variables: Variables) -> list[Callable[[object], bool]]:
    return [lambda value, t=t: t(value, variables) for t in tests]


def _unordered_test(items: list[Test]) -> Test:
    return lambda value, v: type(value) is list and _assign(_bind(items, v), value, True)


def _set_test(items: list[Test]) -> Test:
    return lambda value, v: type(value) is Set and _assign(_bind(items, v), value, True)


def _contains_test(items: list[Test]) -> Test:
    return lambda value, v: (
        isinstance(value, list) and not isinstance(value, Map) and _assign(_bind(items, v), value, False)
    )


def _pair_tests(pairs: list[tuple[Test, Test]], variables: Variables) -> list[Callable[[object], bool]]:
    return [lambda pair, k=k, t=t: k(pair[0], variables) and t(pair[1], variables) for k, t in pairs]


def _as_pairs(value: list) -> list[tuple]:
    return list(value) if isinstance(value, Map) else list(zip(value[::2], value[1::2]))


def _map_test(pairs: list[tuple[Test, Test]]) -> Test:
    return lambda value, v: type(value) is Map and _assign(_pair_tests(pairs, v), value, True)


def _pairs_test(items: list[Test]) -> Test:
    pairs = list(zip(items[::2], items[1::2]))
    return lambda value, v: (
        type(value) is list and len(value) == len(items) and _assign(_pair_tests(pairs, v), _as_pairs(value), True)
    )


def _contains_map_test(pairs: list[tuple[Test, Test]]) -> Test:
    return lambda value, v: isinstance(value, list) and _assign(_pair_tests(pairs, v), _as_pairs(value), False)


# -- writing ---------------------------------------------------------------------------------------
def write(value: object, top: bool = True) -> str:
    """The pattern of exactly this reply (sets and maps: in any order)."""
    if isinstance(value, (Simple, ReplyError)):
        sign = "+" if isinstance(value, Simple) else "-"
        data = bytes(value) if sign == "+" else value.text.encode()
        plain_text = top and data and data.isascii() and data.decode().isprintable()
        if plain_text and data == data.strip() and data[:1] != b'"':
            return sign + data.decode()
        if sign == "+" and data.isascii() and _STATUS.fullmatch(data.decode()):
            return sign + data.decode()
        return sign + quote(data)
    if isinstance(value, Verbatim):
        return f"={value.format}{quote(value)}"
    if isinstance(value, bytes):
        return quote(value)
    if isinstance(value, bool):
        return "#t" if value else "#f"
    if isinstance(value, BigNumber):
        return f"({int(value)})"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Double):
        return f"dbl:{value.text}"
    if isinstance(value, Nil):
        return "nilarray" if value is NIL_ARRAY else "nil"
    if isinstance(value, Map):
        return "{" + ", ".join(f"{write(k, False)}: {write(v, False)}" for k, v in value) + "}"
    if isinstance(value, list):
        opening = {Set: "~[", Push: ">["}.get(type(value), "[")
        return opening + ", ".join(write(v, False) for v in value) + "]"
    raise TypeError(f"not a reply: {value!r}")
