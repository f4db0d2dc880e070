"""What /proc says about a process and about the machine. Times in seconds, sizes in bytes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads of the process, also of those that have ended."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    # The command name is in parentheses and may contain anything; state is the first field behind it.
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def resident_bytes(pid: int) -> int:
    return _kib(f"/proc/{pid}/status", "VmRSS:") * 1024


def shared_out_bytes(pid: int) -> int:
    """Proportional set size: pages shared by parent and child count half in each, so sums are true."""
    return _kib(f"/proc/{pid}/smaps_rollup", "Pss:") * 1024


def _kib(path: str, name: str) -> int:
    for line in Path(path).read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1])
    raise ValueError(f"{path} has no {name}")


def children(pid: int) -> list[int]:
    """Processes forked by any thread of the process and still there."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            found += (int(child) for child in (task / "children").read_text().split())
        except OSError:
            continue  # the thread has just ended
    return found


def family_bytes(pid: int) -> int:
    """Memory of a process and its children, each page counted once."""
    total = shared_out_bytes(pid)
    for child in children(pid):
        try:
            total += shared_out_bytes(child)
        except (OSError, ValueError):
            continue  # the child has just ended
    return total


@dataclass
class MachineTime:
    """Time the machine's cores spent: busy at all, and taken away by the hypervisor."""

    busy: float
    stolen: float

    @classmethod
    def now(cls) -> "MachineTime":
        with open("/proc/stat") as stat:
            user, nice, system, _idle, _iowait, irq, softirq, steal = (
                int(field) / TICKS_PER_SECOND for field in stat.readline().split()[1:9]
            )
        return cls(user + nice + system + irq + softirq, steal)

    def since(self, start: "MachineTime") -> "MachineTime":
        return MachineTime(self.busy - start.busy, self.stolen - start.stolen)
