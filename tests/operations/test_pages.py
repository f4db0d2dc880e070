"""Runs the shell and Python blocks of docs/operations as they are written, page by page, against a server of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from .installation import DOCS, Installation
from .pages import read_page

PAGES = sorted(DOCS.glob("*.md"))
INDEX = "README.md"
SECONDS_MAX = 180


@pytest.mark.parametrize("path", PAGES, ids=[path.stem for path in PAGES])
def test_the_blocks_of_a_page_work_as_written(path: Path, installation: Installation) -> None:
    page = read_page(path)
    run = [block for block in page.blocks if block.runs]
    left_out = [f"line {block.line}: {block.options['not-run']}" for block in page.not_run()]
    print(f"{page.name}: {len(run)} blocks run, {len(left_out)} not run", *left_out, sep="\n  ")
    assert run, f"no block of {page.name} is run"
    installation.systemctl("start", "basalt")
    shell = subprocess.Popen(["bash", "-c", page.script()], cwd=installation.root / "work", env=installation.environment(),
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    try:
        output, _ = shell.communicate(timeout=SECONDS_MAX)
    finally:
        try:
            os.killpg(shell.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    print(output)
    assert shell.returncode == 0 and output.rstrip().endswith("### end"), f"{last_block(output)} failed\n{installation.logs()}"


def last_block(output: str) -> str:
    marks = [line for line in output.splitlines() if line.startswith("### ")]
    return marks[-1].removeprefix("### ") if marks else "the script itself"


def test_the_index_names_every_page() -> None:
    index = (DOCS / INDEX).read_text()
    assert [path.name for path in PAGES if path.name != INDEX and f"({path.name})" not in index] == []
    for path in PAGES:
        text = path.read_text()
        for target in links(text):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"


def links(text: str) -> list[str]:
    return [t.split("#")[0] for t in re.findall(r"\]\(([^)\s]+)\)", text) if not t.startswith(("http", "#"))]
