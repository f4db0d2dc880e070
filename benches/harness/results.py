"""One JSON line per measurement, appended to a file that outlives the run.

A line carries all that its figure depends on: when, which commit, which versions, on what machine, with which
options. `run` is the same for all lines of one run of `benches/run`.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Measurement:
    run: str
    scenario: str
    variant: str
    round: int
    figures: dict[str, float]
    error: str | None
    version: str
    command: list[str]
    generator: str
    options: dict[str, object]
    commit: str
    machine: dict[str, object]
    time: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%S%z"))


def append(file: Path, measurement: Measurement) -> None:
    with open(file, "a") as lines:
        lines.write(json.dumps(asdict(measurement)) + "\n")


def latest(file: Path, scenarios: list[str]) -> list[Measurement]:
    """Of each scenario, the measurements of the last run that had it."""
    if not file.exists():
        return []
    of_scenario: dict[str, list[Measurement]] = {name: [] for name in scenarios}
    for line in file.read_text().splitlines():
        measurement = Measurement(**json.loads(line))
        kept = of_scenario.get(measurement.scenario)
        if kept is None:
            continue
        if kept and kept[0].run != measurement.run:
            kept.clear()
        kept.append(measurement)
    return [measurement for kept in of_scenario.values() for measurement in kept]


def commit(checkout: Path) -> str:
    """The commit that is checked out, with a plus sign where files differ from it; empty outside git."""
    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(checkout), *words], capture_output=True, text=True).stdout.strip()
    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except FileNotFoundError:
        return ""


def machine() -> dict[str, object]:
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    return {"cores": len(os.sched_getaffinity(0)), "cpu": model, "kernel": platform.release(),
            "load_average": round(os.getloadavg()[0], 2)}
