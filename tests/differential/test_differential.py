"""Random commands to a real Redis and to ours, in every layout of shards at once; some of ours read their data
back from their files after every few scripts.

DIFFERENTIAL_COMMANDS (per reference and server; default 250000) and DIFFERENTIAL_SEED (default: a fixed
one, so that a failure of CI is a failure at home) change the length and the scripts.
"""

from __future__ import annotations

import os

import pytest

from .campaign import Campaign
from .runner import Target
from support import peer_binary

TARGETS = ("basalt-1-rdb", "basalt-2", "basalt-8-aof", "basalt-2-message-aof")
REFERENCES = ("redis", "redis-new") if peer_binary() else ("redis",)
COMMANDS = int(os.environ.get("DIFFERENTIAL_COMMANDS", "250000"))
SEED = int(os.environ.get("DIFFERENTIAL_SEED", "20240729"))


@pytest.mark.parametrize("reference_name", REFERENCES)
def test_same_answers_and_state(reference_name: str) -> None:
    reference = Target.named(reference_name)
    targets = [Target.named(name) for name in TARGETS]
    try:
        outcome = Campaign(reference, targets).run(SEED, COMMANDS)
    finally:
        for target in (reference, *targets):
            target.close()
    print(f"seed {SEED}: {outcome.command_count} commands")
    assert not outcome.failures, "\n\n".join(map(str, outcome.failures))
    assert outcome.command_count >= COMMANDS
