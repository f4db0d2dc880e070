"""Medians, ratios and tables of measurements, and which of the project's targets they reach.

A ratio is taken within each round, where both servers met the machine in nearly the same state, and the
median of those is reported: drift of the machine over a run cancels out. `±` is half of the distance
between the smallest and the largest, in percent of the median.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import Iterable

from .results import Measurement
from .scenarios import Column, Scenario

DISTURBED_CORES = 0.15


@dataclass(frozen=True)
class Target:
    scenario: str
    variant: str
    figure: str
    limit: float
    at_least: bool
    text: str
    against: str = "redis"


def all_targets(shards: int) -> tuple[Target, ...]:
    many = f"basalt-{shards}"

    def faster(scenario: str, limit: float) -> Target:
        return Target(scenario, many, "throughput", limit, True, f"throughput, {shards} shards")

    def cheaper(scenario: str, backend: str, limit: float) -> Target:
        return Target(scenario, f"basalt-1{'-' + backend if backend else ''}", "cpu_us_per_op", limit, False,
                      f"CPU per operation, 1 shard{', ' + backend if backend else ''}")

    return (
        faster("p1", 1.3), cheaper("p1", "io_uring", 0.75), cheaper("p1", "epoll", 0.9),
        faster("p16", 1.6), cheaper("p16", "io_uring", 0.60), cheaper("p16", "epoll", 0.60),
        faster("p100", 1.8), cheaper("p100", "io_uring", 0.40), cheaper("p100", "epoll", 0.40),
        faster("aof", 1.8), cheaper("aof", "", 0.75),
        Target("aof", many, "throughput", 0.75, True, "throughput, of that without AOF", f"{many}-no-aof"),
        Target("aofmixed", many, "throughput", 0.95, True, "throughput, of that without AOF", f"{many}-no-aof"),
        Target("always", many, "mixed_gets", 0.9, True, "GETs beside SETs, of those without AOF", f"{many}-no-aof"),
        Target("bgsave", many, "seconds", 0.4, False, "time of a BGSAVE"),
        Target("load", many, "seconds", 0.5, False, "time to load the dump"),
        Target("replay", many, "seconds", 0.5, False, "time to replay the AOF"),
        *(Target(name, many, "seconds", 1 / 1.7, False, f"time of {name}, {shards} shards against 1", "basalt-1")
          for name in ("load", "replay")),
        *(Target("memory", many, f"bytes_per_key_{size}", 1.0, False, f"memory per key, {size} B values", "valkey")
          for size in (8, 100, 400)),
    )


class Table:
    """The measurements of one scenario, by variant and round."""

    def __init__(self, measurements: Iterable[Measurement]):
        self.rounds: dict[str, dict[int, dict[str, float]]] = defaultdict(dict)
        self.errors: dict[str, str] = {}
        self.versions: dict[str, str] = {}
        for one in measurements:
            self.versions[one.variant] = one.version
            if one.error is None:
                self.rounds[one.variant][one.round] = one.figures
            else:
                self.errors[one.variant] = one.error

    def values(self, variant: str, figure: str) -> list[float]:
        return [figures[figure] for figures in self.rounds[variant].values() if figure in figures]

    def ratios(self, variant: str, figure: str, against: str) -> list[float]:
        """One per round in which both were measured."""
        base = self.rounds[against]
        return [figures[figure] / base[index][figure] for index, figures in self.rounds[variant].items()
                if figure in figures and base.get(index, {}).get(figure)]


def spread(values: list[float]) -> str:
    middle = median(values)
    return f"±{(max(values) - min(values)) / 2 / middle:.0%}" if len(values) > 1 and middle else ""


def table_text(scenario: Scenario, measurements: list[Measurement]) -> str:
    """Markdown, aligned so that it reads well without being rendered."""
    table = Table(measurements)
    header = ["server"]
    for column in scenario.columns:
        header += [column.title] + (["±", "x Redis"] if column.is_ratio else [])
    rows = [row(table, scenario.columns, name) for name in table.versions]
    widths = [max(len(line[i]) for line in [header, *rows]) for i in range(len(header))]

    def line(cells: list[str]) -> str:
        padded = [cells[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:])]
        return "| " + " | ".join(padded) + " |"

    dashes = "|" + "|".join("-" * (w + 1) + ("-" if i == 0 else ":") for i, w in enumerate(widths)) + "|"
    rounds = max((len(of_variant) for of_variant in table.rounds.values()), default=0)
    lines = [f"### {scenario.name}: {scenario.title}", "",
             f"Median of {rounds} round{'s' if rounds != 1 else ''}.", "",
             line(header), dashes, *map(line, rows)]
    lines += [""] if table.errors or notes(table) else []
    lines += [f"- {name} failed: {error.splitlines()[0]}" for name, error in table.errors.items()]
    return "\n".join(lines + notes(table))


def row(table: Table, columns: tuple[Column, ...], variant: str) -> list[str]:
    cells = [variant]
    for column in columns:
        values = table.values(variant, column.key)
        cells.append(format(median(values), column.form) if values else "-")
        if column.is_ratio:
            ratios = table.ratios(variant, column.key, "redis")
            cells += [spread(values) if values else "", f"{median(ratios):.2f}" if ratios else "-"]
    return cells


def notes(table: Table) -> list[str]:
    disturbed = [f"{variant} {median(cores):.2f}" for variant in table.versions
                 if (cores := table.values(variant, "disturbance_cores")) and median(cores) > DISTURBED_CORES]
    return [f"- Disturbed: other programs or the hypervisor used cores meanwhile ({', '.join(disturbed)}); "
            "measure again on a quiet machine."] if disturbed else []


def verdict(target: Target, table: Table) -> tuple[str, str]:
    """reached, missed or unknown; and the line that says so."""
    ratios = table.ratios(target.variant, target.figure, target.against)
    bound = f"{'at least' if target.at_least else 'at most'} {target.limit:.2f} x {target.against}"
    name = f"{target.scenario:7} {target.text}"
    if not ratios:
        return "unknown", f"not measured  {name:48} {bound}"
    value = median(ratios)
    is_reached = value >= target.limit if target.at_least else value <= target.limit
    within = f"  (rounds {min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
    return ("reached" if is_reached else "missed",
            f"{'reached     ' if is_reached else 'NOT REACHED '}  {name:48} {bound}: {value:.2f}{within}")


def summary_text(scenarios: Iterable[Scenario], measurements: list[Measurement], shards: int) -> tuple[str, bool]:
    """The targets of the scenarios given, and whether all of them are reached."""
    names = {scenario.name for scenario in scenarios}
    of_scenario: dict[str, list[Measurement]] = defaultdict(list)
    for one in measurements:
        of_scenario[one.scenario].append(one)
    verdicts = [verdict(target, Table(of_scenario[target.scenario]))
                for target in all_targets(shards) if target.scenario in names]
    counts = {kind: sum(kind == got for got, _ in verdicts) for kind in ("reached", "missed", "unknown")}
    lines = ["### targets", "", *(text for _, text in verdicts), "",
             f"{counts['reached']} reached, {counts['missed']} not reached, {counts['unknown']} not measured"]
    return "\n".join(lines), counts["reached"] == len(verdicts)
