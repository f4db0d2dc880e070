"""A server that is wrong on purpose must be caught, and the script that shows it must come out small."""

from __future__ import annotations

import random

import pytest

from .campaign import Campaign
from .generator import Command
from .runner import Target
from .shrink import shrink
from support import Server


class Mutant(Target):
    """A real Redis that is given other commands than it was sent."""

    def __init__(self, change):
        super().__init__("mutant", Server("redis"))
        self.change = change

    def encode(self, command: Command) -> bytes:
        return super().encode(self.change(command) or command)


def _wrong_reply(command: Command):
    return (b"STRLEN", b"another key") if command[0] == b"STRLEN" else None


def _wrong_side(command: Command):
    return (b"LPUSH", *command[1:]) if command[0] == b"RPUSH" and len(command) > 3 else None


def _lost_write(command: Command):
    """The reply is right; only the state read back gives it away."""
    return (b"LASTSAVE",) if command[0] == b"PERSIST" else (b"EXISTS", command[1]) if command[0] == b"HSETNX" else None


def _lost_expiry(command: Command):
    return (b"SET", *command[1:3]) if command[0] == b"SET" and len(command) == 5 and command[3] == b"PXAT" else None


def _wrong_order(command: Command):
    return (b"ZREVRANGE", *command[1:4]) if command[0] == b"ZRANGE" and len(command) == 4 else None


@pytest.mark.parametrize("change", [_wrong_reply, _wrong_side, _lost_write, _lost_expiry, _wrong_order],
                         ids=lambda c: c.__name__.strip("_"))
def test_mutant_is_caught(change) -> None:
    reference, mutant = Target.named("redis"), Mutant(change)
    try:
        outcome = Campaign(reference, [mutant]).run(1, 30_000, failures_max=1, shrink_seconds=10)
    finally:
        reference.close()
        mutant.close()
    assert outcome.failures, "not caught"
    assert outcome.failures[0].script.command_count <= 8, str(outcome.failures[0])


class Forgetful(Target):
    """Loses a key whenever it reads its data back."""

    def read_back(self) -> None:
        self.observer.cmd("DEL", self.observer.cmd("RANDOMKEY") or "none")


def test_loss_while_reading_back_is_caught() -> None:
    reference, forgetful = Target.named("redis"), Forgetful("forgetful", Server("redis"))
    forgetful.files = "aof"
    try:
        outcome = Campaign(reference, [forgetful]).run(2, 20_000, failures_max=1, shrink_seconds=3)
    finally:
        reference.close()
        forgetful.close()
    assert "read back from aof" in outcome.failures[0].found.text


def test_redis_agrees_with_itself() -> None:
    """The generator asks nothing whose answer is not determined."""
    reference, other = Target.named("redis"), Target.named("redis")
    try:
        outcome = Campaign(reference, [other]).run(random.randrange(1 << 32), 40_000, shrink_seconds=5)
    finally:
        reference.close()
        other.close()
    assert not outcome.failures, "\n\n".join(map(str, outcome.failures))


def test_same_seed_same_script() -> None:
    from .generator import Generator

    first, second = Generator((7, 0, 15)), Generator((7, 0, 15))
    first.script(1)
    assert first.script(2) == second.script(2)
    assert first.script(3) != second.script(4)


def test_shrinking_keeps_what_matters() -> None:
    from .generator import Generator

    script = Generator((7, 0, 15)).script(5)
    steps = script.steps
    needed = {steps[100], steps[700], steps[1200]}
    small = shrink(script, 1300, lambda s: needed <= set(s.steps), seconds=20)
    assert set(small.steps) == needed
