"""Corrupt files: a server started on a changed dump.rdb or append-only set serves, or says which file and where.

It ends with status 1 when it refuses, never by a signal or a panic, and changes nothing then. Checksums would
find most changes at once, so that some trials run without: `rdbchecksum no`, files of a stock Redis.
A failure prints its CORRUPT_SEED, which repeats it; CORRUPT_FILES sets how many starts (default 200).
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from corrupt import mutations, uses
from corrupt.test_payloads import chance, digest  # noqa: F401 (a fixture)
from support import Server, ServerDied, payloads

FILES = int(os.environ.get("CORRUPT_FILES") or 200)


def fill(server: Server) -> None:
    with server.client() as client:
        for words in [("SET", "string", "text"), ("SET", "int", 7), ("SET", "expiring", "x", "PXAT", 4102444800000),
                      ("RPUSH", "list", "a", 1, "b" * 70), ("SADD", "set", "a", "b"), ("SADD", "ints", 1, 2, 70000),
                      ("HSET", "hash", "f", "v", "n", 3), ("ZADD", "zset", 1, "one", 2.5, "two"),
                      ("SET", "same", "z" * 300), ("MULTI",), ("SET", "m1", 1), ("SET", "m2", 2), ("EXEC",),
                      ("SELECT", 3), ("SET", "other", "db")]:
            client.cmd(*words)


def rewritten(server: Server) -> None:
    with server.client() as client:
        client.cmd("BGREWRITEAOF")
        while b"aof_rewrite_in_progress:0" not in client.cmd("INFO", "persistence") \
                or b"aof_rewrite_scheduled:0" not in client.cmd("INFO", "persistence"):
            pass


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Directories of servers that were stopped, by name."""
    made = {}
    for kind in ("basalt", "redis"):
        for name, directives in {
            "rdb": {},
            "aof": {"appendonly": "yes"},
            "aof-commands": {"appendonly": "yes", "aof_use_rdb_preamble": "no"},
        }.items():
            folder = made[f"{kind}-{name}"] = tmp_path_factory.mktemp(f"{kind}-{name}")
            with Server(kind, dir=folder, shards=2, **directives) as server:
                fill(server)
                if directives:
                    rewritten(server)
                    fill(server)
                else:
                    with server.client() as client:
                        client.cmd("SAVE")
                server.stop()
            (folder / "server.log").unlink()
    # Files of old servers: every encoding there was, and no checksum.
    old = made["old-rdb"] = tmp_path_factory.mktemp("old-rdb")
    records = b"".join(body[:1] + payloads.string(name.encode()) + body[1:]
                       for name, body in payloads.samples().items() if body[0] < 19)
    (old / "dump.rdb").write_bytes(b"REDIS0010\xfe\x00" + records + b"\xff" + b"\0" * 8)
    return made


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*")
            if path.is_file() and path.name not in ("server.log", "server.conf")}


def trial(folder: Path, directives: dict, what: str) -> bool:
    """Starts a server on the folder. True when it serves."""
    before = files_of(folder)
    server = Server("basalt", dir=folder, shards=2, rdbchecksum="no", **directives)
    try:
        try:
            server.start()
        except ServerDied:
            log = server.log()
            assert server.process.returncode == 1, f"{what}: status {server.process.returncode}\n{log}"
            assert "panicked" not in log and "BUG REPORT" not in log, f"{what}\n{log}"
            [fatal] = [line for line in log.splitlines() if " # Fatal error loading the DB: " in line]
            assert "appendonlydir/" in fatal or "dump.rdb" in fatal, f"{what}: no file is named\n{log}"
            located = any(word in fatal for word in ("offset ", "manifest", "does not exist"))
            assert located, f"{what}: no place is named\n{log}"
            assert files_of(folder) == before, f"{what}: refused, but changed files\n{log}"
            return False
        with server.client() as client:
            keys = client.cmd("KEYS", "*")
            for key in keys:
                kind = client.cmd("TYPE", key)
                kind = kind if isinstance(kind, str) else kind.decode()
                client.pipeline(uses.reads(kind, key))
            found = digest(client)
            client.cmd("DEBUG", "RELOAD")
            assert digest(client) == found, f"{what}: not the same after saving and loading"
        assert server.stop() == 0, f"{what}\n{server.log()}"
        assert "panicked" not in server.log(), f"{what}\n{server.log()}"
        return True
    finally:
        server.close()


def test_mutated_files(folders: dict[str, Path], tmp_path: Path, chance: random.Random):  # noqa: F811
    served = 0
    for i in range(FILES):
        name = sorted(folders)[i % len(folders)]
        folder = tmp_path / "trial"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(folders[name], folder)
        directives = {"appendonly": "yes" if "aof" in name else "no"}
        if chance.random() < 0.5:
            directives["aof-load-truncated"] = "no"
        if "aof" in name and (folder / "dump.rdb").exists():
            (folder / "dump.rdb").unlink()
        files = [path for path, data in files_of(folder).items() if data]
        path = chance.choice(files)
        data = mutations.mutated((folder / path).read_bytes(), chance)
        (folder / path).write_bytes(data)
        served += trial(folder, directives, f"trial {i}: {name}, {path}")
    # Both ends are reached: damage that is found, and damage that changes a value.
    assert 0 < served < FILES
