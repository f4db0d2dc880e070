"""Fills in the replies that a conformance file leaves out, from real servers; then read what it wrote.

    record.py FILE... [--server BINARY ...] [--redo] [--check]

A step without an expectation gets one. With --redo, a step whose expectation is wrong for a server
gets a new one. Servers go from the oldest to the newest (default: redis-server 7.0, then the
newest); the newest below Redis 8 (else the newest) gives the plain line, others become conditional
lines where they answer differently. --check writes nothing and lists what is wrong.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from conformance.patterns import parse_pattern, write  # noqa: E402
from conformance.runner import SectionRun, Target, run_file  # noqa: E402
from conformance.script import MANY_REPLIES, NO_REPLY, Section, Step, read_script  # noqa: E402
from support import Server, Set, peer_binary, redis_binary  # noqa: E402

UNORDERED = {
    b"SMEMBERS", b"SUNION", b"SINTER", b"SDIFF", b"KEYS", b"HKEYS", b"HVALS",
}
Case = tuple[tuple[int, ...], int]  # version, protocol


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("files", nargs="+", type=Path)
    options.add_argument("--server", action="append", default=[])
    options.add_argument("--redo", action="store_true")
    options.add_argument("--check", action="store_true")
    chosen = options.parse_args()
    binaries = chosen.server or [b for b in (redis_binary(), peer_binary()) if b]
    targets = [Target(b, Server(b, config="# for CONFIG REWRITE\n")) for b in binaries]
    wrong = 0
    try:
        for path in chosen.files:
            if not chosen.check:
                record(path, targets, chosen.redo)
            for target in targets:
                for failure in run_file(target, path):
                    print(f"{path}: Redis {'.'.join(map(str, target.version))}: {failure}")
                    wrong += 1
    finally:
        for target in targets:
            target.close()
    return 1 if wrong else 0


def record(path: Path, targets: list[Target], redo: bool) -> None:
    sections = read_script(path)
    stale: set[int] = set()
    if redo:
        stale = {f.line for target in targets for f in run_file(target, path, sections)}
    insert: dict[int, list[str]] = {}
    drop: set[int] = set()
    for section in sections:
        todo = [s for s in section.steps if _needs(s, stale)]
        if not todo:
            continue
        answers = _answers(section, targets)
        for step in todo:
            lines = _expectations(step, answers)
            if lines:
                insert[step.line] = lines
                drop |= set(range(step.expectations[0].line, step.last_line + 1)) if step.expectations else set()
    out = []
    for number, line in enumerate(path.read_text().split("\n"), 1):
        if number not in drop:
            out.append(line)
        out += [f"  {text}" for text in insert.get(number, [])]
    path.write_text("\n".join(out))


def _needs(step: Step, stale: set[int]) -> bool:
    if step.expectations:
        return any(e.line in stale for e in step.expectations) or step.line in stale
    return step.kind not in NO_REPLY


def _answers(section: Section, targets: list[Target]) -> dict[Case, dict[int, list[object]]]:
    answers = {}
    for target in targets:
        for resp in (2, 3):
            if section.applies(target.facts(resp)):
                run = SectionRun(target, section, resp, recording=True).run()
                answers[(target.version[:2], resp)] = run.replies
                for failure in run.failures:
                    print(f"while recording: {failure}", file=sys.stderr)
    return answers


def _expectations(step: Step, answers: dict[Case, dict[int, list[object]]]) -> list[str]:
    values: dict[Case, list[object]] = {}
    for case, replies in answers.items():
        if step.line in replies:
            values[case] = replies[step.line] if step.kind in MANY_REPLIES else replies[step.line][-1:]
    if not values:
        return []
    versions = sorted({version for version, _ in values})
    tracked = max((v for v in versions if v < (8,)), default=versions[-1])
    if tracked < (7, 2):
        tracked = versions[-1]
    if step.kind in MANY_REPLIES:
        return _many(step, values, tracked)
    lines: dict[str, str] = {}

    def agrees(condition: str, case: Case) -> bool:
        return condition in lines and parse_pattern(lines[condition]).matches(values[case][0], {})

    resps = sorted({resp for _, resp in values})
    lines[""] = _text(step, values[(tracked, resps[0])][0])
    if not agrees("", (tracked, resps[-1])):
        lines["resp3"] = _text(step, values[(tracked, 3)][0])
    special: dict[str, str] = {}
    for version in versions:
        odd = [r for r in resps if not agrees("resp3" if r == 3 and "resp3" in lines else "", (version, r))]
        texts = {r: _text(step, values[(version, r)][0]) for r in odd}
        bound = _bound(version, tracked)
        if len(odd) == len(resps) and len(set(texts.values())) == 1:
            special[bound] = texts[odd[0]]
        else:
            special.update({f"{bound},resp{r}": t for r, t in texts.items()})
    return [lines.pop("")] + [f"@{c} {t}" for c, t in (special | lines).items()]


def _bound(version: tuple[int, ...], tracked: tuple[int, ...]) -> str:
    if version < tracked:
        return "redis<" + ".".join(map(str, tracked))
    return "redis>=" + ".".join(map(str, version))


def _many(step: Step, values: dict[Case, list[object]], tracked: tuple[int, ...]) -> list[str]:
    texts = {case: [_text(step, v) for v in replies] for case, replies in values.items()}
    first = next(iter(texts.values()))
    if all(t == first for t in texts.values()):
        return first
    lines = []
    for (version, resp), replies in texts.items():
        bound = f"redis={version[0]}.{version[1]}" if version == tracked else _bound(version, tracked)
        lines += [f"@{bound},resp{resp} {t}" for t in replies]
    return lines


def _text(step: Step, value: object) -> str:
    name = step.args[0].upper() if step.args else b""
    unordered = name in UNORDERED or step.kind == "scan" and (name not in (b"HSCAN", b"ZSCAN") or b"NOVALUES" in step.args)
    if isinstance(value, list) and (unordered or type(value) is Set):
        value = type(value)(sorted(value, key=lambda v: write(v, False)))
    text = write(value)
    if type(value) is list and value:
        if unordered:
            text = "unordered" + text
        elif name == b"HGETALL" or step.kind == "scan":
            text = "pairs" + text
    return re.sub(r"([A-Za-z0-9_.])\1{39,}", lambda run: "${%s*%d}" % (run.group(1), len(run.group())), text)


if __name__ == "__main__":
    sys.exit(main())
