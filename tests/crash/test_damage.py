"""Damaged files: torn tails, flipped bytes, missing files, broken manifests.

The server either cuts what docs/design/aof.md says it may cut, says so, and has nothing in part; or it
refuses to start with an error that names the file, and has touched nothing. It never panics and
never starts with less than the files hold without a word.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from pathlib import Path

import pytest

from crash.test_kill import chance, rounds  # noqa: F401 (a fixture)
from crash.workload import Life, check_accounts, read_back
from support import Server, ServerDied

MANIFEST = "appendonlydir/appendonly.aof.manifest"


class Dataset:
    """Files of a server that was stopped, and what is in them."""

    def __init__(self, folder: Path, **directives: object):
        self.folder = folder
        self.directives = directives
        self.found: dict[str, dict[str, int]] = {}
        with Server(dir=folder, **directives) as server:
            self._write(server, 0)
            if server.directives["appendonly"] == "yes":
                # A base as well.
                self._rewrite(server)
                self._write(server, 1)
            server.stop()
        (folder / "server.log").unlink()

    def _write(self, server: Server, number: int) -> None:
        life = Life(server.port, number, writers=2, depths=(3, 10))
        life.wait_for(60)
        life.stop()
        with server.client() as client:
            for prefix in life.prefixes:
                self.found[prefix] = read_back(client, prefix)

    @staticmethod
    def _rewrite(server: Server) -> None:
        folder = server.dir / "appendonlydir"
        before = set(os.listdir(folder))
        with server.client() as client:
            client.cmd("BGREWRITEAOF")
            while not any(".base." in name for name in set(os.listdir(folder)) - before):
                client.cmd("PING")
            while len([name for name in os.listdir(folder) if ".incr." in name]) > 2:
                client.cmd("PING")

    def segments(self) -> list[Path]:
        """The non-empty segments, relative to the folder."""
        return sorted(p.relative_to(self.folder) for p in (self.folder / "appendonlydir").glob("*.incr.aof"))

    def base(self) -> Path:
        [path] = (self.folder / "appendonlydir").glob("*.base.*")
        return path.relative_to(self.folder)


@pytest.fixture(scope="module")
def aof(tmp_path_factory) -> Dataset:
    return Dataset(tmp_path_factory.mktemp("aof"), appendonly="yes", shards=2)


@pytest.fixture(scope="module")
def dump(tmp_path_factory) -> Dataset:
    return Dataset(tmp_path_factory.mktemp("dump"), appendonly="no", save=["3600", "1"], shards=2)


def _hashes(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in folder.rglob("*") if p.is_file() and p.name != "server.log"}


class Trial:
    """A copy of a dataset, damaged by `damage(folder)`, and what a server makes of it."""

    def __init__(self, data: Dataset, folder: Path, damage, **directives: object):
        self.data = data
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(data.folder, folder)
        damage(folder)
        before = _hashes(folder)
        self.found: dict[str, dict[str, int]] | None = None
        server = Server(dir=folder, **{**data.directives, "save": "", **directives})
        try:
            server.start()
            with server.client() as client:
                check_accounts(client)
                self.found = {prefix: read_back(client, prefix) for prefix in data.found}
            server.stop()
            # What was made of it is whole: it loads without a word.
            first = server.log()
            server.log_path.unlink()
            server.start()
            with server.client() as client:
                again = {prefix: read_back(client, prefix) for prefix in data.found}
            assert again == self.found
            assert "cut off" not in server.log(), f"cut again:\n{first}\n{server.log()}"
            self.log = first
        except ServerDied:
            self.log = server.log()
            assert _hashes(folder) == before, f"refused, but changed files:\n{self.log}"
        finally:
            server.close()
        assert "BUG REPORT" not in self.log, self.log
        assert "panicked" not in self.log, self.log

    @property
    def refused(self) -> bool:
        return self.found is None

    @property
    def complete(self) -> bool:
        return self.found == self.data.found

    def assert_loud(self, name: str) -> None:
        """Complete, or it was said which file is at fault."""
        if not self.complete:
            assert name in self.log, f"{name} is not named:\n{self.log}"
            assert self.refused or "cut off" in self.log, self.log

    def assert_no_more_than_written(self) -> None:
        for prefix, known in self.data.found.items():
            for kind, steps in (self.found or {}).get(prefix, {}).items():
                assert steps <= known[kind]


def _truncate(path: Path, offset: int) -> None:
    with open(path, "r+b") as file:
        file.truncate(offset)


def _flip(path: Path, offset: int, bits: int) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ bits]))


def test_undamaged_files_load(aof: Dataset, dump: Dataset, tmp_path: Path):
    for data in (aof, dump):
        assert Trial(data, tmp_path / "copy", lambda folder: None).complete


def test_torn_tails_are_cut(aof: Dataset, tmp_path: Path, chance: random.Random):
    for _ in rounds(25):
        segment = chance.choice(aof.segments())
        offset = chance.randrange((aof.folder / segment).stat().st_size)
        print(f"{segment} is cut to {offset} bytes")
        trial = Trial(aof, tmp_path / "copy", lambda folder: _truncate(folder / segment, offset))
        assert not trial.refused, trial.log
        trial.assert_no_more_than_written()
        assert not trial.complete


def test_torn_tails_are_refused_when_asked_to(aof: Dataset, tmp_path: Path, chance: random.Random):
    refused = 0
    for _ in rounds(12):
        segment = chance.choice(aof.segments())
        offset = chance.randrange(1, (aof.folder / segment).stat().st_size)
        print(f"{segment} is cut to {offset} bytes")
        trial = Trial(aof, tmp_path / "copy", lambda folder: _truncate(folder / segment, offset),
                      aof_load_truncated="no")
        if trial.refused:
            refused += 1
            assert segment.name in trial.log and "offset" in trial.log, trial.log
    assert refused > 0


def test_flipped_bytes_are_found(aof: Dataset, tmp_path: Path, chance: random.Random):
    for _ in rounds(30):
        file = chance.choice([*aof.segments(), aof.base()])
        offset = chance.randrange((aof.folder / file).stat().st_size)
        bits = 1 << chance.randrange(8)
        print(f"{file}: byte {offset} ^ {bits}")
        trial = Trial(aof, tmp_path / "copy", lambda folder: _flip(folder / file, offset, bits))
        trial.assert_loud(file.name)
        assert trial.refused or not trial.complete, f"the flip went unnoticed:\n{trial.log}"
        if trial.refused and ".incr." in file.name:
            assert "offset" in trial.log, trial.log


def test_bytes_behind_the_end(aof: Dataset, tmp_path: Path):
    for tail in (b"\0" * 512, b"garbage", b"*2\r\n$3\r\nDEL\r\n$", b"*1\r\n$99999999999999999999\r\n"):
        for segment in aof.segments():
            def damage(folder: Path) -> None:
                with open(folder / segment, "ab") as file:
                    file.write(tail)

            trial = Trial(aof, tmp_path / "copy", damage)
            if trial.refused:
                assert segment.name in trial.log, trial.log
            else:
                assert trial.complete, f"{tail[:20]!r} behind {segment} cost data:\n{trial.log}"
                assert segment.name in trial.log and "cut off" in trial.log, trial.log


def test_missing_files_are_named(aof: Dataset, tmp_path: Path):
    for file in [*aof.segments(), aof.base()]:
        trial = Trial(aof, tmp_path / "copy", lambda folder: (folder / file).unlink())
        assert trial.refused and file.name in trial.log, trial.log


def test_a_missing_manifest_loses_nothing(aof: Dataset, tmp_path: Path):
    trial = Trial(aof, tmp_path / "copy", lambda folder: (folder / MANIFEST).unlink())
    assert trial.refused, f"started without the data that is there:\n{trial.log}"
    assert "manifest" in trial.log, trial.log


def test_truncated_manifests(aof: Dataset, tmp_path: Path, chance: random.Random):
    text = (aof.folder / MANIFEST).read_bytes()
    ends_of_lines = {at for at in range(1, len(text)) if text[at - 1:at] == b"\n"}
    for offset in sorted(ends_of_lines | set(chance.sample(range(len(text)), len(rounds(15))))):
        trial = Trial(aof, tmp_path / "copy", lambda folder: _truncate(folder / MANIFEST, offset))
        assert trial.refused or trial.complete, f"{offset} bytes of the manifest lose data:\n{trial.log}"
        if trial.refused:
            assert "manifest" in trial.log or ".aof" in trial.log, trial.log


def test_flipped_bytes_in_manifests(aof: Dataset, tmp_path: Path, chance: random.Random):
    size = (aof.folder / MANIFEST).stat().st_size
    for _ in rounds(20):
        offset, bits = chance.randrange(size), 1 << chance.randrange(8)
        print(f"manifest: byte {offset} ^ {bits}")
        trial = Trial(aof, tmp_path / "copy", lambda folder: _flip(folder / MANIFEST, offset, bits))
        assert trial.refused or trial.complete, trial.log


def test_damaged_snapshots_are_refused(dump: Dataset, tmp_path: Path, chance: random.Random):
    size = (dump.folder / "dump.rdb").stat().st_size
    for _ in rounds(12):
        offset, bits = chance.randrange(size), 1 << chance.randrange(8)
        for what, damage in (("cut", lambda folder: _truncate(folder / "dump.rdb", offset)),
                             ("flip", lambda folder: _flip(folder / "dump.rdb", offset, bits))):
            print(f"dump.rdb: {what} at {offset}, {bits}")
            trial = Trial(dump, tmp_path / "copy", damage)
            assert trial.refused, f"{what} at {offset} went unnoticed:\n{trial.log}"
            assert "dump.rdb" in trial.log, trial.log


def test_a_dump_survives_a_start_that_did_not_finish(dump: Dataset, tmp_path: Path):
    """A first start with an append-only file makes the dump its base by a link. One that ended before the
    manifest was there leaves the link behind."""
    def damage(folder: Path) -> None:
        (folder / "appendonlydir").mkdir()
        os.link(folder / "dump.rdb", folder / "appendonlydir" / "appendonly.aof.1.base.rdb")

    size = (dump.folder / "dump.rdb").stat().st_size
    assert Trial(dump, tmp_path / "copy", damage, appendonly="yes").complete
    assert (tmp_path / "copy" / "dump.rdb").stat().st_size == size
