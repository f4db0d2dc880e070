"""Many scripts from one base seed; failures come shrunk, with the line that repeats them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Callable, Sequence

from .generator import Generator, Script
from .runner import REPLY_TIMEOUT_S, Found, Target, run_script
from .shrink import shrink
from support import ConnectionClosed

SHRINK_REPLY_TIMEOUT_S = 1.5  # a script that makes a server silent is run many times
LINES_SHOWN = 60


@dataclass(frozen=True)
class Failure:
    reference: str
    found: Found
    script: Script  # shrunk

    def __str__(self) -> str:
        lines = [line for step in self.script.steps for line in step.lines()]
        if len(lines) > LINES_SHOWN:
            lines = [f"# ... {len(lines) - LINES_SHOWN} lines", *lines[-LINES_SHOWN:]]
        config = " ".join(f"{name} {value}" for name, value in self.script.config)
        return (
            f"{self.found.target} differs from {self.reference} (RESP{self.script.resp}; {config or 'default configuration'})\n"
            + "\n".join(f"    {_cut(line)}" for line in lines)
            + f"\n{self.found.text}\n"
            + f"again: python tests/differential/rerun.py --reference {self.reference} "
            + f"--target {self.found.target} --script {self.script.seed}"
        )


def _cut(line: str, limit: int = 400) -> str:
    return line if len(line) <= limit else f"{line[:limit]}... ({len(line)} characters)"


@dataclass
class Outcome:
    command_count: int
    failures: list[Failure]


class Campaign:
    def __init__(self, reference: Target, targets: Sequence[Target]):
        self.reference = reference
        self.targets = list(targets)
        self.version = reference.server.version()
        self.generator = Generator(self.version)

    def run(self, seed: int, commands: int, *, failures_max: int = 3, shrink_seconds: float = 30.0,
            on_failure: Callable[[Failure], None] = lambda failure: None) -> Outcome:
        """Scripts until so many commands ran on every target, or so many failures were found."""
        seeds = random.Random(seed)
        outcome = Outcome(0, [])
        while outcome.command_count < commands and len(outcome.failures) < failures_max:
            script = self.generator.script(seeds.randrange(1 << 48))
            failure = self.run_one(script, shrink_seconds)
            outcome.command_count += script.command_count
            if failure:
                outcome.failures.append(failure)
                on_failure(failure)
        return outcome

    def run_one(self, script: Script, shrink_seconds: float = 30.0) -> Failure | None:
        found = self._run(script, self.targets)
        if found is None:
            return None
        target = next(t for t in self.targets if t.name == found.target)
        target.patience_s = self.reference.patience_s = SHRINK_REPLY_TIMEOUT_S
        small = shrink(script, found.step_index, lambda s: self._run(s, [target]) is not None, shrink_seconds)
        found = self._run(small, [target]) or found
        target.patience_s = self.reference.patience_s = REPLY_TIMEOUT_S
        return Failure(self.reference.name, found, small)

    def _run(self, script: Script, targets: Sequence[Target]) -> Found | None:
        """As run_script; a target that hangs up, dies or stays silent differs, too."""
        try:
            return run_script(self.reference, targets, script, self.version)
        except (ConnectionClosed, OSError, AssertionError) as problem:
            if self.reference.revive():
                raise
            last = len(script.steps) - 1
            for target in targets:
                log = target.server.log()[-1500:]
                died = "is dead" if not target.server.running else "no longer answers"
                if target.revive():
                    return Found(target.name, last, f"{target.name} {died}: {problem}\n{log}")
            return Found(targets[0].name, last, f"{type(problem).__name__}: {problem}")
