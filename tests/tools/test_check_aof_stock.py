"""basalt-check-aof on files of stock servers, and under Redis's name: against real redis-check-aof."""

from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import pytest

from .conftest import normal, our_tool, real_tools, run
from support import Server

SEED = int(os.environ.get("TOOLS_SEED", "20261121"))
INCR = "set/appendonly.aof.1.incr.aof"
BASE = "set/appendonly.aof.1.base.rdb"
MANIFEST = "set/appendonly.aof.manifest"


def command(*words: str) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in words)


COMMANDS = (
    b"#TS:1700000000\r\n" + command("SELECT", "0") + command("set", "a", "1")
    + b"#TS:1700000010\r\n" + command("MULTI") + command("set", "b", "2") + command("set", "c", "3" * 50) + command("EXEC")
    + b"#TS:1700000020\r\n" + command("rpush", "l", "1", "2", "3")
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("base")
    with Server("redis", dir=folder) as server, server.client() as client:
        client.cmd("SET", "k", "v")
        client.cmd("SAVE")
    return (folder / "dump.rdb").read_bytes()


class Both:
    """Runs ours and the real ones on the same files; all must print, return and leave the same."""

    def __init__(self, named: Path, folder: Path, base: bytes):
        self.named, self.folder, self.base = named, folder, base

    def prepare(self, **files: bytes) -> None:
        shutil.rmtree(self.folder / "set", ignore_errors=True)
        (self.folder / "set").mkdir()
        content = {"incr": COMMANDS, "base": self.base,
                   "manifest": b"file appendonly.aof.1.base.rdb seq 1 type b\nfile appendonly.aof.1.incr.aof seq 1 type i\n"}
        content.update(files)
        for name, path in (("incr", INCR), ("base", BASE), ("manifest", MANIFEST)):
            (self.folder / path).write_bytes(content[name])

    def check(self, *args: str, answer: bytes = b"", **files: bytes) -> int:
        results = []
        for version, tool in [("ours", str(self.named / "redis-check-aof")), *real_tools("aof")]:
            self.prepare(**files)
            done = run([tool, *args], self.folder, answer)
            left = {path.name: path.read_bytes() for path in (self.folder / "set").iterdir()}
            results.append((version, done, left))
        _, ours, left = results[0]
        for version, theirs, their_left in results[1:]:
            assert normal(ours.out, version) == normal(theirs.out, version), f"Redis {version}: {args}"
            assert (ours.code, left) == (theirs.code, their_left), f"Redis {version}: {args}"
        return ours.code


@pytest.fixture
def both(named: Path, tmp_path: Path, base: bytes) -> Both:
    return Both(named, tmp_path, base)


def test_good_files(both: Both) -> None:
    for path in (INCR, BASE, MANIFEST):
        assert both.check(path) == 0
    assert both.check(BASE, base=both.base + COMMANDS) == 0
    assert both.check(MANIFEST, base=both.base + COMMANDS) == 0
    assert both.check(MANIFEST, base=COMMANDS) == 0
    assert both.check(MANIFEST, incr=b"") == 0
    assert both.check(INCR, incr=b"") == 0


def test_arguments(both: Both) -> None:
    for args in ([], ["--fix"], ["--other", MANIFEST], ["a", "b", "c"], ["--truncate-to-timestamp", "5"], ["set"], ["nothing"],
                 ["--truncate-to-timestamp", "soon", INCR]):
        assert both.check(*args) == 1, args
    assert both.check("--truncate-to-timestamp", "0", INCR) == 0


def test_cuts(both: Both) -> None:
    for cut in range(0, len(COMMANDS), 11):
        both.check(INCR, incr=COMMANDS[:cut])
        if cut % 3 == 0:
            both.check("--fix", MANIFEST, incr=COMMANDS[:cut], answer=b"y\n")
            both.check("--fix", INCR, incr=COMMANDS[:cut], answer=b"no\n")
            both.check("--fix", INCR, incr=COMMANDS[:cut])


def test_flips(both: Both) -> None:
    rng = random.Random(SEED)
    for at in rng.sample(range(len(COMMANDS)), 40):
        data = bytearray(COMMANDS)
        data[at] ^= rng.choice([1, 0x80, 0xFF])
        both.check(INCR, incr=bytes(data))


def test_tails(both: Both) -> None:
    for tail in (b"\0\0\0\0", b"\r\n", b"#no end", b"*0\r\n", b"*x\r\n", b"*2\r\n$-3\r\n", b"*2\r\n#3\r\n", b"*9\r\n$3\r\nset\r\n",
                 command("MULTI") + command("MULTI"), command("EXEC"), command("MULTI"), b"*1\r\n$4\r\nPINGxx", b"#" + b"x" * 2000 + b"\r\n"):
        both.check(INCR, incr=COMMANDS + tail)
        both.check("--fix", INCR, incr=COMMANDS + tail, answer=b"yes\n")
    for cut in range(0, len(both.base), 9):
        both.check(MANIFEST, base=both.base[:cut])
        both.check(BASE, base=both.base + COMMANDS[: cut * 3])


def test_timestamps(both: Both) -> None:
    for at in (1699999999, 1700000000, 1700000005, 1700000010, 1700000015, 1700000020, 1700000099, -5):
        both.check("--truncate-to-timestamp", str(at), INCR)
        both.check("--truncate-to-timestamp", str(at), MANIFEST)
    both.check("--truncate-to-timestamp", "1700000005", MANIFEST, base=COMMANDS)
    both.check("--truncate-to-timestamp", "1700000005", INCR, incr=b"#TS:soon\r\n" + COMMANDS)


def test_manifests(both: Both) -> None:
    good = b"file appendonly.aof.1.incr.aof seq 1 type i\n"
    for text in (b"", b"#\n", b"garbage\n", good, b"# a comment\n" + good, good + good, good[:-1], good.replace(b"type i", b"type q"),
                 good.replace(b"appendonly", b"../x"), good.replace(b"seq 1", b"seq 0"), good.replace(b" seq 1", b""), b'file "x seq 1 type b\n',
                 b"file missing seq 1 type b\n", b"file missing seq 1 type i\n", good.replace(b"type i", b"type h")):
        both.check(MANIFEST, manifest=text)
        both.check("--fix", MANIFEST, manifest=text, answer=b"y\n")
    two = good + b"file appendonly.aof.1.base.rdb seq 2 type i\n"
    both.check("--fix", MANIFEST, manifest=two, incr=COMMANDS[:-3], base=COMMANDS, answer=b"y\n")
    both.check("--fix", MANIFEST, manifest=two, incr=COMMANDS, base=COMMANDS[:-3], answer=b"y\n")


def test_our_own_name_speaks_the_same_and_more(tmp_path: Path, named: Path, both: Both) -> None:
    both.prepare(incr=COMMANDS[:-3])
    ours = run([our_tool("basalt-check-aof"), MANIFEST], tmp_path)
    redis = run([str(named / "redis-check-aof"), MANIFEST], tmp_path)
    assert (ours.code, ours.out) == (redis.code, redis.out) and ours.code == 1
    assert run([our_tool("basalt-check-aof"), "set"], tmp_path).code == 1, "a folder stands for its manifest"
    done = run([our_tool("basalt-check-aof"), "--json", "set"], tmp_path)
    report = json.loads(done.out)
    assert report["kind"] == "stock" and not report["good"]
    assert "Expected to read" in report["files"][1]["damage"]
    assert run([our_tool("basalt-check-aof"), "--fix", "--yes", "set"], tmp_path).code == 0
    assert run([our_tool("basalt-check-aof"), "set"], tmp_path).code == 0
    assert run([our_tool("basalt-check-aof"), "--export", "out", "set"], tmp_path).code == 1
    assert run([our_tool("basalt-check-aof"), "--fix", "--export", "out", "set"], tmp_path).code == 1
    assert run([our_tool("basalt-check-aof"), "--help"], tmp_path).code == 0
