"""The blocks of a page of docs/operations, and the script that runs them. The convention is described in
docs/operations/README.md under "How these pages are tested"."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

FENCE = re.compile(r"^```([a-z]*) ?(.*)$")
RUN = ("sh", "python")
OPTIONS = ("not-run", "needs", "file")


@dataclass
class Block:
    page: str
    #: Of the line that opens it.
    line: int
    language: str
    options: dict[str, str]
    text: str
    #: A check that the page does not show.
    is_hidden: bool = False

    @property
    def runs(self) -> bool:
        return not self.is_hidden and self.language in RUN and "not-run" not in self.options

    def script(self) -> str:
        """As bash. The marker is how a failure is traced to its block."""
        lines = [f"echo '### {self.page}:{self.line}' >&2", "echo"]
        if program := self.options.get("needs"):
            lines.append(f"if ! command -v {program} >/dev/null; then echo '### {program} is missing' >&2; else")
        if name := self.options.get("file"):
            lines.append(heredoc(f"cat >{shlex.quote(name)}", self.text))
            if self.text.startswith("#!"):
                lines.append(f"chmod +x {shlex.quote(name)}")
        elif self.language == "python":
            lines.append(heredoc("python3 -", self.text))
        else:
            lines.append(self.text)
        if program:
            lines.append("fi")
        return "\n".join(lines)


def heredoc(command: str, text: str) -> str:
    mark = "END_OF_BLOCK"
    assert mark not in text
    return f"{command} <<'{mark}'\n{text}\n{mark}"


@dataclass
class Page:
    path: Path
    blocks: list[Block] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.path.name

    def script(self) -> str:
        """All that runs, in the order of the page, in one shell: variables live on from block to block."""
        runs = [b for b in self.blocks if b.runs or b.is_hidden or ("file" in b.options and "not-run" not in b.options)]
        return "\n".join(["set -eu", *(block.script() for block in runs), "echo '### end' >&2", ""])

    def not_run(self) -> list[Block]:
        return [b for b in self.blocks if b.language in RUN and "not-run" in b.options]


def read_page(path: Path) -> Page:
    """Raises ValueError for what the convention does not know, lest a typing error keep a block from being run."""
    page = Page(path)
    lines = iter(enumerate(path.read_text().splitlines(), start=1))
    for number, line in lines:
        if line.startswith("<!-- test"):
            if line != "<!-- test":
                raise ValueError(f"{path.name}:{number}: a check begins on the line behind '<!-- test'")
            text = until(lines, "-->", path, number)
            page.blocks.append(Block(path.name, number, "sh", {}, text, is_hidden=True))
        elif opening := FENCE.match(line):
            language, options = opening[1], parse_options(opening[2], path, number)
            text = until(lines, "```", path, number)
            page.blocks.append(Block(path.name, number, language, options, text))
    return page


def until(lines, end: str, path: Path, opened_at: int) -> str:
    text = []
    for _, line in lines:
        if line == end:
            return "\n".join(text)
        text.append(line)
    raise ValueError(f"{path.name}:{opened_at}: the block has no end")


def parse_options(text: str, path: Path, number: int) -> dict[str, str]:
    options = {}
    for word in shlex.split(text):
        name, _, value = word.partition("=")
        if name not in OPTIONS or not value:
            raise ValueError(f"{path.name}:{number}: unknown option {word!r}")
        options[name] = value
    return options
