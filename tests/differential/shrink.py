"""Makes a failing script small: delta debugging over its steps, then over the commands inside steps."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Callable, Sequence

from .generator import Kind, Script, Step

Fails = Callable[[Script], bool]


def shrink(script: Script, last_step: int, fails: Fails, seconds: float = 30.0) -> Script:
    """A script, small as time allows, for which `fails` still holds. `last_step`: nothing after it matters."""
    deadline = time.monotonic() + seconds
    steps = list(script.steps[: last_step + 1])
    if not fails(replace(script, steps=tuple(steps))):
        return script
    steps = _reduce(steps, lambda some: fails(replace(script, steps=tuple(some))), deadline)
    for position in range(len(steps) - 1, -1, -1):
        step = steps[position]
        if step.kind is not Kind.PLAIN or step.pause_after is not None or len(step.commands) < 2:
            continue

        def still(commands: Sequence, position: int = position) -> bool:
            return _closed(commands) and fails(replace(script, steps=(*steps[:position], Step(tuple(commands)), *steps[position + 1 :])))

        steps[position] = Step(tuple(_reduce(list(step.commands), still, deadline)))
    for position in range(len(steps)):
        if time.monotonic() > deadline:
            break
        steps[position] = _shorter(script, steps, position, fails, deadline)
    small = replace(script, steps=tuple(steps))
    if script.config and time.monotonic() < deadline and fails(replace(small, config=())):
        small = replace(small, config=())
    return small


def _closed(commands: Sequence) -> bool:
    """No transaction is left open, nor ended without having begun."""
    names = [command[0].upper() for command in commands]
    return (b"MULTI" in names) == (names[-1] in (b"EXEC", b"DISCARD"))


def _reduce(items: list, fails: Callable[[Sequence], bool], deadline: float) -> list:
    """Zeller's ddmin, by complements, largest pieces first."""
    pieces = 2
    while len(items) >= 2 and time.monotonic() < deadline:
        size = max(1, len(items) // pieces)
        for start in range(0, len(items), size):
            rest = items[:start] + items[start + size :]
            if rest and time.monotonic() < deadline and fails(rest):
                items = rest
                pieces = max(2, pieces - 1)
                break
        else:
            if size == 1:
                break
            pieces = min(len(items), pieces * 2)
    return items


def _shorter(script: Script, steps: list[Step], position: int, fails: Fails, deadline: float) -> Step:
    """The step with fewer arguments in long commands (pairs first, so that HSET and ZADD stay valid)."""
    step = steps[position]
    if step.kind is not Kind.PLAIN:
        return step
    for index, command in enumerate(step.commands):
        if len(command) < 8:
            continue
        head, tail = command[:2], list(zip(command[2::2], command[3::2]))

        def with_tail(pairs: Sequence, index: int = index, head=head) -> Step:
            shorter = (*head, *(word for pair in pairs for word in pair))
            return replace(step, commands=(*step.commands[:index], shorter, *step.commands[index + 1 :]))

        def still(pairs: Sequence) -> bool:
            return fails(replace(script, steps=(*steps[:position], with_tail(pairs), *steps[position + 1 :])))

        if len(tail) * 2 + 2 == len(command) and still(tail):
            step = with_tail(_reduce(tail, still, deadline))
    return step
