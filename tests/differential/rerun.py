#!/usr/bin/env python3
"""Repeats one script, or runs a campaign of any length. Prints what differs, shrunk.

    rerun.py --reference redis --target basalt-2 --script 123456
    rerun.py --reference redis-new --target basalt-1 --target basalt-8-message --seed 7 --commands 1000000
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from differential.campaign import Campaign, Failure, Outcome  # noqa: E402
from differential.runner import Target  # noqa: E402


def show(failure: Failure) -> None:
    print(f"\n{failure}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", default="redis")
    parser.add_argument("--target", action="append", help="default: basalt-2")
    parser.add_argument("--script", type=int, help="the seed of one script")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the seed of a campaign")
    parser.add_argument("--commands", type=int, default=100_000)
    parser.add_argument("--failures", type=int, default=3, help="stop after so many")
    parser.add_argument("--shrink-seconds", type=float, default=30.0)
    options = parser.parse_args()
    reference = Target.named(options.reference)
    campaign = Campaign(reference, [Target.named(name) for name in options.target or ["basalt-2"]])
    started = time.monotonic()
    if options.script is not None:
        script = campaign.generator.script(options.script)
        failure = campaign.run_one(script, options.shrink_seconds)
        outcome = Outcome(script.command_count, [failure] if failure else [])
        for failure in outcome.failures:
            show(failure)
    else:
        print(f"seed {options.seed}")
        outcome = campaign.run(options.seed, options.commands, failures_max=options.failures,
                               shrink_seconds=options.shrink_seconds, on_failure=show)
    seconds = time.monotonic() - started
    print(f"\n{outcome.command_count} commands, {len(outcome.failures)} failures, {seconds:.1f} s")
    return 1 if outcome.failures else 0


if __name__ == "__main__":
    sys.exit(main())
