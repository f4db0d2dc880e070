"""Configurations made for Redis and Valkey start Basalt unchanged, and docs/compatibility.md is right about the directives of
persistence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support import Server, peer_binary

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs" / "compatibility.md"
REDIS_7_4 = [name for line in (HERE / "redis-7.4-directives.txt").read_text().splitlines()
             if not line.startswith("#") for name in line.split()]
ROW = re.compile(r"^\| ((?:`[a-z-]+`(?:, )?)+) \| (yes|differs|no effect) \| ?(.*?) ?\|$", re.MULTILINE)
#: A value other than the default, for directives that are not on and off.
OTHER = {"bgsave-cpulist": "0", "aof-rewrite-cpulist": "0", "rdb-key-save-delay": "1", "key-load-delay": "1",
         "loading-process-events-interval-bytes": "4096", "repl-diskless-load": "swapdb", "oom-score-adj-values": ["0", "100", "200"]}


def rows() -> dict[str, tuple[str, str]]:
    """Verdict and remark by directive."""
    found = {}
    section = PAGE.read_text().split("\n## Configuration\n")[1].split("\n## ")[0]
    for names, verdict, remark in ROW.findall(section):
        for name in names.replace("`", "").split(", "):
            assert name not in found, f"{name} stands on the page twice"
            found[name] = verdict, remark
    return found


def stock_files() -> list[Path]:
    """The configuration files that the stock servers at hand are packaged with."""
    files = [Path("/etc/redis/redis.conf")]
    if server := peer_binary("redis-server"):
        root = Path(server).resolve().parents[1] / "root" / "etc"
        files += [root / "redis" / "redis.conf", root / "valkey" / "valkey.conf"]
    return [file for file in files if file.exists()]


@pytest.mark.parametrize("file", stock_files(), ids=str)
def test_a_stock_configuration_file_starts_basalt(file: Path, tmp_path) -> None:
    """As it is, but for places of this machine that the packages own."""
    places = {"bind": "127.0.0.1", "logfile": "", "pidfile": str(tmp_path / "pid"), "daemonize": "no", "unixsocket": str(tmp_path / "socket")}
    with Server("basalt", config=file.read_text(), dir=tmp_path, save=None, appendonly=None, **places) as server, server.client() as client:
        assert client.cmd("CONFIG", "GET", "save") == [b"save", b"3600 1 300 100 60 10000"]
        assert client.cmd("SET", "k", "v") == b"OK"
        assert "no effect" not in server.log() or file.name == "valkey.conf"


def test_there_is_a_stock_file_to_try() -> None:
    assert stock_files()


def test_every_directive_of_redis_is_known() -> None:
    assert len(REDIS_7_4) > 190
    with Server("basalt") as server, server.client() as client:
        assert [name for name in REDIS_7_4 if client.cmd("CONFIG", "GET", name) == []] == []


def test_the_page_has_the_directives_of_persistence_and_reasons() -> None:
    page = rows()
    names = {name.replace("_", "-") for name in REDIS_7_4}
    persistence = {name for name in names if re.match(r"(rdb|aof|append|auto-aof|bgsave|save$|dir$|dbfile|stop-writes|no-append)", name)}
    assert persistence - set(page) == set()
    assert [name for name, (verdict, remark) in page.items() if verdict != "yes" and not remark] == []


def test_the_page_agrees_with_the_server(tmp_path) -> None:
    """What the log calls without effect is what the page calls so."""
    page = rows()
    without = {name for name, (verdict, _) in page.items() if verdict == "no effect"}
    with Server("basalt") as server, server.client() as client:
        defaults = {name: client.cmd("CONFIG", "GET", name)[1] for name in without}
    changed = {name: OTHER.get(name, "no" if defaults[name] == b"yes" else "yes") for name in without}
    with Server("basalt", **changed) as server:
        named = re.search(r"accepted and have no effect here: (.*)", server.log())
        assert named and set(named[1].split(", ")) == without
    in_effect = [name for name, (verdict, _) in page.items() if verdict != "no effect" and name != "supervised"]
    with Server("basalt") as server, server.client() as client:
        defaults = {name: client.cmd("CONFIG", "GET", name)[1] for name in in_effect}
    switched = {name: "no" if value == b"yes" else "yes" for name, value in defaults.items() if value in (b"yes", b"no")}
    assert len(switched) > 10
    with Server("basalt", **switched) as server:
        assert "no effect here" not in server.log()
