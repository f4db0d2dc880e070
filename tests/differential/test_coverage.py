"""Every command is in the generator, or left out by name with a reason."""

from __future__ import annotations

import random

from . import forms
from .generator import Generator, Kind
from support import Server

NEWEST = (99,)


def asked() -> set[str]:
    """The commands of the forms and the steps; of containers, also each subcommand."""
    generator = Generator(NEWEST)
    rng = random.Random(1)
    commands = []
    for name, family in generator.families.items():
        for emit in family.emits:
            for _ in range(40):
                commands.append(out := [])
                emit(rng, out)
    for seed in range(3):
        commands += (command for step in generator.script(seed).steps for command in step.commands
                     if step.kind in (Kind.PLAIN, Kind.ITERATE) and command)
    names = set()
    for command in commands:
        words = [word.decode(errors="replace").upper() for word in command[:2]]
        names |= {words[0], "|".join(words)}
    return names | {"DUMP", "RESTORE"}


def test_every_command_is_asked_or_left_out_for_a_reason() -> None:
    with Server("basalt", shards=1) as server:
        table = {name.decode().upper() for name in server.client().cmd("COMMAND", "LIST")}
    containers = {name.split("|")[0] for name in table if "|" in name}
    left_out = {name for names in forms.LEFT_OUT.values() for name in names.split()}
    here = asked()
    missing = {name for name in table - here - left_out
               if name not in containers and name.split("|")[0] not in left_out}
    assert not missing, f"add forms, or reasons to forms.LEFT_OUT: {sorted(missing)}"
    assert not left_out & here & table - containers, "both asked and left out"
