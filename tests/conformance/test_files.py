"""The files themselves: readable, complete, and about every command our server has."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import Server

from .script import NO_REPLY, read_script
from .test_conformance import FILES, HERE


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(HERE)))
def test_every_step_says_what_it_expects(path: Path) -> None:
    sections = read_script(path)
    assert sections, "no section"
    titles = [s.title for s in sections]
    assert len(set(titles)) == len(titles), "two sections with one title"
    for section in sections:
        assert section.steps, f"{section.title}: no steps"
        for step in section.steps:
            if step.kind in NO_REPLY or step.expectations:
                continue
            # Bytes that are answered by nothing must be followed by what becomes of the connection.
            follows = section.steps[section.steps.index(step) + 1 :]
            assert step.kind == "raw" and (follows or "nocheck" in section.tags), f"line {step.line}: no expectation"


def test_every_command_of_ours_is_in_a_file() -> None:
    with Server("basalt", shards=1) as server, server.client() as client:
        listed = {name.decode() for name in client.cmd("COMMAND", "LIST")}
    listed = {name for name in listed if "|" not in name} - {"shutdown"}  # test_lifecycle.py
    covered = set()
    for path in FILES:
        for section in read_script(path):
            for step in section.steps:
                if step.kind == "raw":
                    continue
                parts = [a.split(b" ")[0] for a in step.args] if step.kind == "pipeline" else step.args[:1]
                covered |= {p.decode("latin-1").lower() for p in parts}
    assert sorted(listed - covered) == []
