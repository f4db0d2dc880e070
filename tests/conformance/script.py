"""Reading a conformance file into sections of steps. The format is described in README.md."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from .patterns import Pattern, PatternError, parse_pattern
from support import split_args


class ScriptError(ValueError):
    """A file that cannot be read; says where."""


@dataclass
class Condition:
    """`resp3`, `redis<7.4`, `basalt`, `shards>1`, each possibly negated by `!`; `redis8` is what Redis 8 and we have."""

    source: str

    def holds(self, facts: dict[str, object]) -> bool:
        text = self.source.lstrip("!")
        compare = re.match(r"(redis|shards)(<=|>=|<|>|=)([\d.]+)$", text)
        if compare:
            name, sign, number = compare.groups()
            want = tuple(int(p) for p in number.split("."))
            have = facts[name][: len(want)]
            result = {"<": have < want, "<=": have <= want, ">": have > want, ">=": have >= want, "=": have == want}[sign]
        elif text in ("resp2", "resp3"):
            result = facts["resp"] == int(text[4])
        elif text == "basalt":
            result = bool(facts["basalt"])
        elif text == "redis8":
            result = bool(facts["basalt"]) or facts["redis"] >= (8,)
        else:
            raise ValueError(f"unknown condition {self.source!r}")
        return result != self.source.startswith("!")


@dataclass
class Expectation:
    conditions: list[Condition]
    pattern: Pattern
    line: int

    def holds(self, facts: dict[str, object]) -> bool:
        return all(c.holds(facts) for c in self.conditions)


@dataclass
class Step:
    """`kind` is command, or the word of a directive; `text` is its source line."""

    kind: str
    line: int
    text: str
    connection: str = "main"
    args: list[bytes] = field(default_factory=list)
    conditions: list[Condition] = field(default_factory=list)
    name: str = ""  # of a variable (let, for), or a number of seconds (wait)
    span: tuple[int, int] = (0, 0)
    expectations: list[Expectation] = field(default_factory=list)
    # Lines of the expectations, for the recorder: [first, last].
    last_line: int = 0

    def applies(self, facts: dict[str, object]) -> bool:
        return all(c.holds(facts) for c in self.conditions)

    def expected(self, facts: dict[str, object]) -> Expectation | None:
        """The expectation in force: one with conditions that hold before one without."""
        for candidate in self.expectations:
            if candidate.conditions and candidate.holds(facts):
                return candidate
        return next((e for e in self.expectations if not e.conditions), None)

    def all_expected(self, facts: dict[str, object]) -> list[Expectation]:
        return [e for e in self.expectations if e.holds(facts)]


@dataclass
class Section:
    title: str
    line: int
    tags: list[str]
    steps: list[Step] = field(default_factory=list)

    def applies(self, facts: dict[str, object]) -> bool:
        return all(Condition(t).holds(facts) for t in self.tags if t not in SECTION_WORDS)


SECTION_WORDS = ("nocheck",)
# Directives that take several replies, one expectation line each.
MANY_REPLIES = ("raw", "pipeline")
# Directives without a reply to check, or with an optional one.
NO_REPLY = ("send", "open", "close", "closed", "for", "let", "silence")

_HEADER = re.compile(r"==\s*(.*?)\s*(?:\[([^\]]*)\])?\s*$")
_CONNECTION = re.compile(r"([a-z][a-z0-9]*)> ?(.*)$", re.DOTALL)


def read_script(path: Path) -> list[Section]:
    sections: list[Section] = []
    lines = path.read_text().split("\n")
    at = 0
    try:
        while at < len(lines):
            line = lines[at]
            at += 1
            if not line.strip() or line.lstrip().startswith("# ") or line.strip() == "#":
                continue
            if line.startswith("=="):
                title, tags = _HEADER.match(line).groups()
                sections.append(Section(title, at, (tags or "").split()))
            elif line[0] in " \t":
                at = _read_expectation(sections, lines, at)
            elif not sections:
                raise ScriptError("a step before the first section (== title)")
            else:
                sections[-1].steps.append(_read_step(line, at))
    except (ScriptError, PatternError, ValueError) as problem:
        raise ScriptError(f"{path}:{at}: {problem}") from None
    return sections


def _read_expectation(sections: list[Section], lines: list[str], at: int) -> int:
    if not sections or not sections[-1].steps:
        raise ScriptError("an expectation without a command")
    step, first, text = sections[-1].steps[-1], at, lines[at - 1].strip()
    conditions, text = _split_conditions(text)
    while not text.startswith(("+", "-")) and _open_brackets(text) > 0:
        if at >= len(lines):
            raise ScriptError("brackets left open")
        text += "\n" + lines[at].strip()
        at += 1
    step.expectations.append(Expectation(conditions, parse_pattern(text), first))
    step.last_line = at
    return at


def _open_brackets(text: str) -> int:
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', "", text)
    return sum(bare.count(c) for c in "[{(") - sum(bare.count(c) for c in "]})")


def _split_conditions(text: str) -> tuple[list[Condition], str]:
    if not text.startswith("@"):
        return [], text
    word, _, rest = text[1:].partition(" ")
    conditions = [Condition(c) for c in word.split(",")]
    for condition in conditions:
        condition.holds({"redis": (7, 4), "shards": (1,), "resp": 2, "basalt": False})
    return conditions, rest.strip()


def _read_step(line: str, number: int) -> Step:
    conditions, text = _split_conditions(line)
    step = Step("command", number, line, conditions=conditions, last_line=number)
    if text.startswith("!"):
        step.kind, _, text = text[1:].partition(" ")
        text = _read_directive(step, text)
    found = _CONNECTION.match(text)
    if found:
        step.connection, text = found.groups()
    if step.kind == "raw":
        step.args = [b"".join(split_args(text))]
    elif step.kind == "pipeline":
        step.args = [part.encode() for part in text.split(" ; ")]
    else:
        step.args = split_args(text)
        if not step.args and step.kind in ("command", "wait", "let", "for", "send", "scan"):
            raise ScriptError("no command")
    return step


def _read_directive(step: Step, text: str) -> str:
    if step.kind in ("raw", "pipeline", "send", "scan"):
        return text
    if step.kind == "wait":
        step.name, _, text = text.partition(" ")
        float(step.name)
        return text
    if step.kind == "let":
        step.name, _, text = text.partition(" ")
        return text
    if step.kind == "for":
        step.name, span, text = text.split(" ", 2)
        low, high = span.split("..")
        step.span = (int(low), int(high))
        return text
    if step.kind in ("open", "close", "closed", "recv", "silence"):
        step.connection, _, text = (text or "main").partition(" ")
        return text
    raise ScriptError(f"unknown directive !{step.kind}")
