"""The runner must notice wrong expectations: every line marked `# wrong` in canary/, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import runner
from .runner import SectionRun, Target
from .script import read_script
from support import Server

PATH = Path(__file__).resolve().parent / "canary" / "wrong.resp"


@pytest.fixture(scope="module")
def target():
    running = Target("redis", Server("redis"))
    yield running
    running.close()


@pytest.mark.parametrize("section", read_script(PATH), ids=lambda s: s.title)
def test_wrong_expectation_is_noticed(target: Target, section, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "CLOSE_TIMEOUT_S", 0.3)
    lines = PATH.read_text().split("\n")
    last = max([section.line] + [max(s.last_line, s.line) for s in section.steps])
    marked = [n for n in range(section.line, last + 1) if lines[n - 1].strip() == "# wrong"]
    assert len(marked) == 1, "one wrong line a section"
    failures = []
    for resp in (2, 3):
        if section.applies(target.facts(resp)):
            failures += SectionRun(target, section, resp).run().failures
    assert failures, "nothing was noticed"
    following = next(n for n in range(marked[0] + 1, last + 1) if lines[n - 1].strip())
    assert {f.line for f in failures} <= {following, following + 1, section.steps[-1].line}
    assert all(following <= f.line for f in failures)
