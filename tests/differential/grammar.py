"""A small language for command forms, compiled to generators.

    SET k v [EX ttl|PXAT at|KEEPTTL] [NX|XX] [GET]

`UPPERCASE`, digits and symbols stand for themselves; a lowercase word is a terminal, a function that
appends one or more random arguments; `[a|b]` is left out more often than not, else one alternative;
`(a|b)` is one alternative; `{x}` repeats one to four times. Blanks separate.
"""

from __future__ import annotations

import random
import re
from typing import Callable

Emit = Callable[[random.Random, list], None]
Terminals = dict[str, Emit]

_TOKEN = re.compile(r"[\[\](){}|]|[^\s\[\](){}|]+")
_OPTION_CHANCE = 0.35
_REPEAT_CHANCE = 0.45


def compile_form(text: str, terminals: Terminals) -> Emit:
    """The form as a function that appends its arguments, the command's name first."""
    tokens = _TOKEN.findall(text)
    emit, rest = _alternatives(tokens, 0, terminals)
    if rest != len(tokens):
        raise ValueError(f"unbalanced form: {text}")
    return emit


def _alternatives(tokens: list[str], at: int, terminals: Terminals) -> tuple[Emit, int]:
    choices: list[Emit] = []
    parts: list[Emit] = []
    while at < len(tokens) and tokens[at] not in "])}":
        if tokens[at] == "|":
            choices.append(_sequence(parts))
            parts = []
            at += 1
            continue
        part, at = _part(tokens, at, terminals)
        parts.append(part)
    choices.append(_sequence(parts))
    if len(choices) == 1:
        return choices[0], at

    def choose(rng: random.Random, out: list) -> None:
        choices[int(rng.random() * len(choices))](rng, out)

    return choose, at


def _part(tokens: list[str], at: int, terminals: Terminals) -> tuple[Emit, int]:
    token = tokens[at]
    if token in "[({":
        inner, at = _alternatives(tokens, at + 1, terminals)
        if at >= len(tokens) or tokens[at] != {"[": "]", "(": ")", "{": "}"}[token]:
            raise ValueError(f"unbalanced {token}")
        wrap = {"[": _optional, "(": lambda emit: emit, "{": _repeated}[token]
        return wrap(inner), at + 1
    if token[0].islower():
        return terminals[token], at + 1
    literal = token.encode()

    def emit(rng: random.Random, out: list) -> None:
        out.append(literal)

    return emit, at + 1


def _sequence(parts: list[Emit]) -> Emit:
    if len(parts) == 1:
        return parts[0]

    def emit(rng: random.Random, out: list) -> None:
        for part in parts:
            part(rng, out)

    return emit


def _optional(inner: Emit) -> Emit:
    def emit(rng: random.Random, out: list) -> None:
        if rng.random() < _OPTION_CHANCE:
            inner(rng, out)

    return emit


def _repeated(inner: Emit) -> Emit:
    def emit(rng: random.Random, out: list) -> None:
        inner(rng, out)
        for _ in range(3):
            if rng.random() >= _REPEAT_CHANCE:
                return
            inner(rng, out)

    return emit
