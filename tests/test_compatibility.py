"""docs/compatibility.md says of every command of Redis 7.4 whether it is here; the command table agrees."""

import re
from pathlib import Path

from support import Server

PAGE = Path(__file__).resolve().parent.parent / "docs" / "compatibility.md"
ROW = re.compile(r"^\| `([a-z_|\\-]+)` \| (yes|differs|no) \| ?(.*?) ?\|$", re.MULTILINE)


def rows():
    found = ROW.findall(PAGE.read_text().split("\n## Commands\n")[1])
    assert len(found) > 300, "the page's tables were not recognised"
    found = [(name.replace("\\|", "|"), verdict, remark) for name, verdict, remark in found]
    names = [name for name, _, _ in found]
    assert len(set(names)) == len(names), "a command stands on the page twice"
    return found


def test_the_page_agrees_with_the_command_table():
    here = {name for name, verdict, _ in rows() if verdict != "no"}
    with Server("basalt", shards=1) as server:
        listed = {name.decode() for name in server.client().cmd("COMMAND", "LIST")}
    assert here == listed


def test_what_is_missing_or_differs_says_why():
    assert [name for name, verdict, remark in rows() if verdict != "yes" and not remark] == []
