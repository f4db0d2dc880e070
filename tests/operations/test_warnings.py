"""What is warned about at start is what Redis warns about: memory overcommit and huge pages, under every setting of the system.

The settings are not touched: in a mount namespace of its own, each server reads files of ours in their place."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support import Server

OVERCOMMIT = "/proc/sys/vm/overcommit_memory"
HUGE_PAGES = "/sys/kernel/mm/transparent_hugepage/enabled"
UNSHARE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]


def can_unshare() -> bool:
    if shutil.which("unshare") is None or not Path(HUGE_PAGES).exists():
        return False
    bind = ["sh", "-c", 'mount --bind "$0" "$1"', __file__, OVERCOMMIT]
    return subprocess.run([*UNSHARE, *bind], capture_output=True).returncode == 0


@pytest.fixture(scope="module", autouse=True)
def namespaces():
    if not can_unshare():
        pytest.skip("no mount namespaces here, or no huge pages in this kernel")


class InNamespace(Server):
    """A server that sees `settings` (path: text) instead of the system's."""

    settings: dict[str, str] = {}

    def command_line(self) -> list[str]:
        script = ""
        for i, (path, text) in enumerate(self.settings.items()):
            source = self.dir / f"setting-{i}"
            source.write_text(text + "\n")
            script += f"mount --bind '{source}' {path} && "
        return [*UNSHARE, "sh", "-c", script + 'exec "$@"', "sh", *super().command_line()]


def start(kind: str, overcommit: str, huge_pages: str, **directives: object) -> InNamespace:
    server = InNamespace(kind, **directives)
    server.settings = {OVERCOMMIT: overcommit, HUGE_PAGES: huge_pages}
    return server.start()


def warnings(server: Server) -> set[str]:
    texts = {"Memory overcommit must be enabled!": "overcommit",
             "WARNING You have Transparent Huge Pages (THP) support enabled in your kernel": "huge pages"}
    return {name for text, name in texts.items() if text in server.log()}


@pytest.mark.parametrize("disable_thp", ["yes", "no"])
@pytest.mark.parametrize("huge_pages", ["[always] madvise never", "always [madvise] never", "always madvise [never]"])
@pytest.mark.parametrize("overcommit", ["0", "1", "2"])
def test_the_same_warnings_as_redis(overcommit: str, huge_pages: str, disable_thp: str) -> None:
    found = []
    for kind in ("redis", "basalt"):
        with start(kind, overcommit, huge_pages, disable_thp=disable_thp) as server:
            found.append(warnings(server))
    assert found[0] == found[1]


@pytest.mark.parametrize("huge_pages, directive, enabled", [
    ("[always] madvise never", "yes", "0"),
    ("[always] madvise never", "no", "1"),
    ("always [madvise] never", "yes", "1"),
])
def test_huge_pages_are_off_for_this_process_only_where_they_would_be_used(huge_pages: str, directive: str, enabled: str) -> None:
    with start("basalt", "1", huge_pages, disable_thp=directive) as server:
        status = Path(f"/proc/{server.pid}/status").read_text()
        assert status.split("THP_enabled:")[1].split()[0] == enabled
        assert "huge pages" not in warnings(server) or directive == "no"
