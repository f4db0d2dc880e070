#!/usr/bin/env python3
"""Holds the layers: which of our crates may use which. Run by `make check`.

Imports point one way, so that a lower crate can be read, tested and fuzzed without the upper ones.
Development dependencies count as well: what a crate's tests need is part of what it rests on.
"""

import json
import subprocess
import sys
from pathlib import Path

ALLOWED = {
    "resp": set(),
    "config": set(),
    "datatypes": set(),
    "reactor": set(),
    "keyspace": {"datatypes"},
    "commands": {"keyspace", "datatypes", "resp"},
    "persistence": {"keyspace", "datatypes"},
    "check": {"persistence"},
    "scripting": {"datatypes", "resp"},
    "fuzz": {"config", "datatypes", "keyspace", "persistence", "resp"},
    "server": {"check", "commands", "config", "datatypes", "keyspace", "persistence", "reactor", "resp", "scripting"},
}


def uses(metadata: dict) -> dict[str, set[str]]:
    """By crate of the workspace, the other crates of the workspace that it names."""
    ours = {package["name"] for package in metadata["packages"]}
    return {
        package["name"]: {d["name"] for d in package["dependencies"]} & ours - {package["name"]}
        for package in metadata["packages"]
    }


def violations(used: dict[str, set[str]]) -> list[str]:
    """What is not allowed, in words."""
    found = []
    for crate, others in sorted(used.items()):
        if crate not in ALLOWED:
            found.append(f"{crate}: give the new crate its place in tests/layers.py")
            continue
        for other in sorted(others - ALLOWED[crate]):
            found.append(f"{crate} must not use {other}")
    return found


def main() -> int:
    # What must be noticed, so that a list that allows everything is too.
    assert violations({"keyspace": {"commands"}}) == ["keyspace must not use commands"]
    root = Path(__file__).resolve().parents[1]
    command = ["cargo", "metadata", "--format-version", "1", "--no-deps"]
    metadata = json.loads(subprocess.run(command, cwd=root, check=True, capture_output=True).stdout)
    found = violations(uses(metadata))
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
