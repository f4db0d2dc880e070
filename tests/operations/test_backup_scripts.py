"""The scripts of docs/operations/backups.md, run while clients write: what they copy is the state of one instant."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from .installation import Installation
from support import Client, Server

KEYS = 16
WRITERS = 3
#: Rare: transactions over all shards also hold copies together, and the rest must be held together without them.
TOGETHER = 1000
#: `cp -a` of a directory that takes its time between two files, as for large ones.
SLOW_CP = """#!/bin/bash
if [ "$1" != -a ]; then exec /bin/cp "$@"; fi
mkdir "$3"
for file in "$2"/*; do /bin/cp -a "$file" "$3"; sleep 0.4; done
"""


class Writer(threading.Thread):
    """Counts up over keys of all shards, one after another, and in a transaction over all of them now and then. Every count that a
    state shows for a key is then known to imply the counts of the keys before."""

    def __init__(self, port: int, name: str):
        super().__init__()
        self.port, self.counter, self.ending = port, name, threading.Event()
        self.acknowledged = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            with Client(self.port) as client:
                while not self.ending.is_set():
                    count = self.acknowledged + 1
                    if count % TOGETHER == 0:
                        client.cmd("MSET", *(word for key in range(KEYS) for word in (f"{self.counter}:together:{key}", count)))
                    client.cmd("SET", f"{self.counter}:{count % KEYS}", count)
                    self.acknowledged = count
        except BaseException as failure:  # noqa: BLE001 - shown by the test
            self.failure = failure


@pytest.fixture(params=[("everysec", "write"), ("everysec", "ring"), ("always", "ring")], ids="-".join)
def busy(request, installation: Installation):
    policy, path = request.param
    installation.configure("appendfsync", policy)
    installation.configure("aof-write-path", path)
    installation.systemctl("start", "basalt")
    writers = [Writer(installation.port, f"writer-{i}") for i in range(WRITERS)]
    for writer in writers:
        writer.start()
    until(writers, lambda: min(writer.acknowledged for writer in writers) > 100)
    yield installation, writers
    for writer in writers:
        writer.ending.set()
    for writer in writers:
        writer.join()
        assert writer.failure is None


def until(writers: list[Writer], condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert not any(writer.failure for writer in writers) and time.monotonic() < deadline
        time.sleep(0.01)


def check_is_one_instant(client: Client, writers: list[Writer], before: list[int], after: list[int]) -> None:
    for writer, low, high in zip(writers, before, after):
        counts = sorted(int(client.cmd("GET", f"{writer.counter}:{key}") or 0) for key in range(KEYS))
        newest = counts[-1]
        assert counts == list(range(newest - KEYS + 1, newest + 1)), "a later write is there and an earlier one is not"
        assert low <= newest <= high + 1
        together = {int(client.cmd("GET", f"{writer.counter}:together:{key}") or 0) for key in range(KEYS)}
        assert together <= {newest // TOGETHER * TOGETHER} or together <= {(newest + 1) // TOGETHER * TOGETHER}, "a transaction was taken apart"


def test_the_copy_of_the_aof_is_one_instant(busy, tmp_path) -> None:
    installation, writers = busy
    script = installation.script("backups.md", "basalt-backup-aof")
    slow = installation.bin / "cp"
    slow.write_text(SLOW_CP)
    slow.chmod(0o755)
    copies = []
    for round_ in range(2):
        before = [writer.acknowledged for writer in writers]
        done = installation.run(script)
        after = [writer.acknowledged for writer in writers]
        assert done.returncode == 0, done.stderr
        # Names count in seconds.
        copies.append((Path(done.stdout.strip()).rename(tmp_path / f"copy-{round_}"), before, after))
    for path, before, after in copies:
        folder = tmp_path / f"restored-{path.name}"
        shutil.copytree(path, folder / "appendonlydir")
        with Server("basalt", dir=folder, appendonly="yes", shards=3) as restored, restored.client() as client:
            assert "cut off" not in restored.log()
            check_is_one_instant(client, writers, before, after)
        shutil.copytree(path, tmp_path / f"redis-{path.name}" / "appendonlydir")
        with Server("redis", dir=tmp_path / f"redis-{path.name}", appendonly="yes") as restored, restored.client() as client:
            check_is_one_instant(client, writers, before, after)


def test_a_copy_that_is_not_final_is_not_called_one(installation: Installation) -> None:
    """Without the rewrite (refused for lack of space, say) the links still grow."""
    installation.systemctl("start", "basalt")
    redis_cli = installation.bin / "redis-cli"
    redis_cli.rename(installation.bin / "redis-cli.real")
    redis_cli.write_text('#!/bin/sh\n[ "$1" != BGREWRITEAOF ] || { echo "ERR no space"; exit 0; }\nexec "$0.real" "$@"\n')
    redis_cli.chmod(0o755)
    done = installation.run(installation.script("backups.md", "basalt-backup-aof"))
    assert done.returncode == 1 and "no rewrite began" in done.stderr
    assert list((installation.root / "backups").iterdir()) == []
    assert not (installation.root / "basalt" / "appendonlydir.backup").exists()
    with Client(installation.port) as client:
        assert client.cmd("CONFIG", "GET", "auto-aof-rewrite-percentage")[1] == b"100"


def test_the_copy_of_the_snapshot_is_one_instant(busy, tmp_path) -> None:
    installation, writers = busy
    script = installation.script("backups.md", "basalt-backup-rdb")
    before = [writer.acknowledged for writer in writers]
    done = installation.run(script)
    after = [writer.acknowledged for writer in writers]
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (copy,) = (installation.root / "backups").glob("dump-*.rdb")
    (tmp_path / "restored").mkdir()
    shutil.copy(copy, tmp_path / "restored" / "dump.rdb")
    with Server("basalt", dir=tmp_path / "restored") as restored, restored.client() as client:
        check_is_one_instant(client, writers, before, after)


def last_epoch(segment: Path) -> int:
    """Of the last whole seal that is in the file."""
    seals = re.findall(rb"#SEAL \d+ \d+ \d+ (\d+) [aen] [0-9a-f]{16}\r\n", segment.read_bytes())
    return int(seals[-1]) if seals else 0


def test_copying_without_a_rewrite_is_a_power_failure_to_recovery(installation: Installation, tmp_path) -> None:
    """Under everysec: files of slightly different moments are cut back to one that all of them have."""
    installation.systemctl("start", "basalt")
    writers = [Writer(installation.port, f"writer-{i}") for i in range(WRITERS)]
    for writer in writers:
        writer.start()
    try:
        installation.run("redis-cli", "CONFIG", "SET", "auto-aof-rewrite-percentage", "0")
        aof = installation.root / "basalt" / "appendonlydir"
        until(writers, lambda: min(writer.acknowledged for writer in writers) > 10 * KEYS)
        # An epoch that holds all that, whole in every file.
        whole = max(last_epoch(file) for file in aof.glob("*.incr.aof")) + 2
        until(writers, lambda: min(last_epoch(file) for file in aof.glob("*.incr.aof")) > whole)
        folder = tmp_path / "copy" / "appendonlydir"
        folder.mkdir(parents=True)
        # The files of one shard are older than those of the other, by many writes.
        for file in sorted(aof.iterdir()):
            shutil.copy(file, folder)
            mark = writers[0].acknowledged
            while writers[0].acknowledged < mark + 200:
                pass
    finally:
        for writer in writers:
            writer.ending.set()
    manifest = folder / "appendonly.aof.manifest"
    subprocess.run(["sed", "-i", "s/^#basalt boot-id [^ ]*/#basalt boot-id copied/", manifest], check=True)
    with Server("basalt", dir=tmp_path / "copy", appendonly="yes", shards=2) as restored, restored.client() as client:
        check_is_one_instant(client, writers, [0] * WRITERS, [writer.acknowledged for writer in writers])
        assert "cut off" in restored.log()
