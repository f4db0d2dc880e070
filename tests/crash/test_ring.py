"""The ring write path, with real processes: kill -9 at any moment, rings that are full, gone or another's, disks and
systems that do not suit it.

CRASH_SEED repeats a run's choices (not its timing); CRASH_ROUNDS multiplies the kills.
"""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import time
from pathlib import Path

import pytest

from crash.faults import BadDisk, no_direct_io, no_room, slow_writes
from crash.test_kill import chance, rounds  # noqa: F401 (a fixture)
from crash.workload import Ledger, Life
from support import Client, ReplyError, Server, ServerDied, basalt_binary

SEGMENT = ".incr.aof"
PATIENCE = 20
MANIFEST = Path("appendonlydir") / "appendonly.aof.manifest"


def _until(condition, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def _info(client: Client, name: str) -> str:
    text = client.cmd("INFO", "persistence").decode()
    return re.search(rf"^{name}:(.*?)\r?$", text, re.MULTILINE).group(1)


def _path(server: Server) -> str:
    with server.client() as client:
        return _info(client, "aof_write_path")


def _ring_server(**directives) -> Server:
    return Server(**{"appendonly": "yes", "shards": 2, "aof_write_path": "ring", "aof_ring_size": "1mb", **directives})


WAYS = {
    "ring": {},
    "ring always": dict(appendfsync="always"),
    "ring no": dict(appendfsync="no"),
    "ring glommio": dict(storage_backend="glommio"),
    "ring with timestamps": dict(aof_timestamp_enabled="yes"),
    "small ring, slow disk": dict(aof_ring_size="64kb", env=slow_writes(SEGMENT, percent=30, micros=20_000)),
    "no direct writes": dict(env=no_direct_io(SEGMENT)),
    "write": dict(aof_write_path="write"),
    "write always with timestamps": dict(aof_write_path="write", appendfsync="always", aof_timestamp_enabled="yes"),
}


@pytest.mark.parametrize("way", WAYS)
def test_kill_loses_nothing(way: str, chance):  # noqa: F811
    ledger = Ledger()
    with _ring_server(**WAYS[way]) as server:
        assert _path(server) == way.split()[0] or way[0] not in "rw"
        for number in rounds(4):
            life = Life(server.port, number)
            life.wait_for(20)
            time.sleep(chance.random() * 0.3)
            server.kill()
            life.join()
            if chance.random() < 0.5:
                server.directives["shards"] = chance.choice((1, 2, 5))
            if chance.random() < 0.3:
                # Killed again while it takes the rings over, or a little later.
                server.spawn()
                time.sleep(chance.random() * 0.1)
                server.kill()
            server.start()
            with server.client() as client:
                ledger.settle(client, life)
        log = server.log()
        assert "IS LOST" not in log and "BUG REPORT" not in log


@pytest.mark.parametrize("write_path", ["ring", "write"])
def test_kill_during_switches(write_path: str, chance):  # noqa: F811
    """Rewrites, FLUSHALL, and the append-only file off and on again, each beginning new segments behind the rings."""
    ledger = Ledger()
    with _ring_server(aof_write_path=write_path, aof_ring_size="64kb") as server:
        for number in rounds(5):
            life = Life(server.port, number)
            life.wait_for(20)
            with server.client() as client:
                for _ in range(chance.randrange(1, 5)):
                    client.call("BGREWRITEAOF")
                    time.sleep(chance.random() * 0.1)
                if number % 2:
                    client.cmd("CONFIG", "SET", "appendonly", "no")
                    client.cmd("CONFIG", "SET", "appendonly", "yes")
                    _until(lambda: _info(client, "aof_rewrite_in_progress") == "0"
                           and _info(client, "aof_rewrite_scheduled") == "0"
                           and "rings" in (server.dir / MANIFEST).read_text() or write_path == "write", "no base")
                    if write_path == "write":
                        _until(lambda: _info(client, "aof_rewrite_scheduled") == "0"
                               and _info(client, "aof_rewrite_in_progress") == "0"
                               and _info(client, "aof_enabled") == "1", "no base")
            server.kill()
            life.join()
            server.start()
            with server.client() as client:
                ledger.settle(client, life)
        if write_path == "ring":
            assert len(server.rings()) == 2, "rings of earlier runs are left"


def test_a_clean_stop_leaves_whole_files_and_no_ring(tmp_path: Path):
    with _ring_server(dir=tmp_path) as server:
        with server.client() as client:
            client.pipeline([("SET", f"key:{n}", n) for n in range(3000)])
            client.cmd("BGREWRITEAOF")
            client.pipeline([("INCR", f"key:{n}") for n in range(3000)])
            assert len(server.rings()) == 2
        server.stop()
        assert server.rings() == []
    manifest = (tmp_path / MANIFEST).read_text()
    assert "ring" not in manifest and "run-id" not in manifest
    done = subprocess.run(["redis-check-aof", str(tmp_path / MANIFEST)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    with Server("redis", dir=tmp_path, appendonly="yes") as stock, stock.client() as client:
        assert client.cmd("DBSIZE") == 3000
        assert client.pipeline([("GET", f"key:{n}") for n in range(3000)]) == [str(n + 1).encode() for n in range(3000)]


def test_switching_off_removes_the_rings():
    with _ring_server() as server, server.client() as client:
        client.cmd("SET", "key", 1)
        assert len(server.rings()) == 2
        client.cmd("CONFIG", "SET", "appendonly", "no")
        _until(lambda: server.rings() == [], "the rings stay")
        client.cmd("CONFIG", "SET", "appendonly", "yes")
        _until(lambda: len(server.rings()) == 2, "no new rings")
        assert _path(server) == "ring"


def test_a_full_disk_is_told_at_once_and_loses_nothing(tmp_path: Path):
    disk = BadDisk(SEGMENT, tmp_path)
    with _ring_server(env=disk.environment) as server, server.client() as client:
        acknowledged = 0
        for _ in range(3):
            with disk.full():
                # Nowhere near a full ring: the next sync finds out.
                def refused() -> bool:
                    nonlocal acknowledged
                    reply = client.call("SET", f"key:{acknowledged}", acknowledged)
                    if isinstance(reply, ReplyError):
                        assert reply.text.startswith("MISCONF Errors writing to the AOF file: No space left on device")
                        return True
                    acknowledged += 1
                    return False
                _until(refused, "writes are accepted for good")
                assert client.cmd("GET", "key:0") == b"0"
                assert _info(client, "aof_last_write_status") == "err"
            _until(lambda: client.call("SET", "other", 1) == b"OK", "writes are refused for good")
        _until(lambda: "Their rings keep what was acknowledged" in server.log(), "the log does not tell")
        # Killed while nothing can be drained: the next start cannot take the tail over, and says so.
        with disk.full():
            client.cmd("SET", "last", 1)
            server.kill()
            with pytest.raises(ServerDied, match="take the ring's tail over"):
                server.start()
            assert len(server.rings()) == 2
        server.start()
        with server.client() as client:
            assert client.cmd("DBSIZE") == acknowledged + 2
            assert client.cmd("GET", "last") == b"1"
        assert "cut off" not in server.log()


def test_shutdown_on_a_full_disk_leaves_the_rest_in_the_ring(tmp_path: Path):
    disk = BadDisk(SEGMENT, tmp_path)
    with _ring_server(env=disk.environment) as server:
        with server.client() as client:
            client.cmd("SET", "before", 1)
            with disk.full():
                client.cmd("SET", "key", 1)
                assert isinstance(client.call("SHUTDOWN"), ReplyError), "a stop that is none is refused"
                client.send("SHUTDOWN", "FORCE")
                assert server.wait_exit() == 0
        assert len(server.rings()) == 2
        server.start()
        with server.client() as client:
            assert client.cmd("MGET", "before", "key") == [b"1", b"1"]


def test_a_slow_fdatasync_stalls_no_reply_and_is_counted(tmp_path: Path):
    for write_path in ("ring", "write"):
        disk = BadDisk(SEGMENT, tmp_path)
        with _ring_server(aof_write_path=write_path, env=disk.environment) as server, server.client() as client:
            client.cmd("SET", "key", 0)
            with disk.hanging():
                longest, began = 0.0, time.monotonic()
                while (delayed := int(_info(client, "aof_delayed_fsync"))) == 0 or time.monotonic() < began + 4:
                    assert time.monotonic() < began + PATIENCE, "no delay is counted"
                    before = time.monotonic()
                    client.pipeline([("SET", f"key:{n}", "x" * 1000) for n in range(40)])
                    longest = max(longest, time.monotonic() - before)
                assert longest < 2, write_path
                # Once for each fdatasync that hangs, however much is written.
                assert 1 <= delayed <= 2, delayed
                assert int(_info(client, "aof_pending_bio_fsync")) >= 1
            _until(lambda: _info(client, "aof_pending_bio_fsync") == "0", "an fdatasync is pending for good")


def test_a_ring_that_is_gone_is_recovered_from_as_from_a_crash_of_the_system(chance):  # noqa: F811
    ledger = Ledger()
    with _ring_server() as server:
        life = Life(server.port, 0)
        life.wait_for(200)
        time.sleep(1.2)
        server.kill()
        life.join()
        chance.choice(server.rings()).unlink()
        server.start()
        assert "cannot be used: it is gone" in server.log() and "IS LOST" in server.log()
        with server.client() as client:
            # A consistent cut: transactions and each writer's order hold.
            ledger.settle(client, life, loses_tail=True, at_least=[0] * len(life.prefixes))
            assert client.cmd("DBSIZE") > 0


def test_files_that_were_copied_and_files_that_were_changed(tmp_path: Path):
    with _ring_server() as server:
        with server.client() as client:
            client.cmd("SET", "kept", 1)
        server.restart()
        with server.client() as client:
            client.cmd("SET", "key", 1)
            client.cmd("SET", "other", 1)
        server.kill()
        shutil.copytree(server.dir / "appendonlydir", tmp_path / "appendonlydir")
        with _ring_server(dir=tmp_path) as copy:
            assert "it belongs to files in another directory" in copy.log()
            with copy.client() as client:
                assert client.cmd("GET", "kept") == b"1"
        rings = server.rings()
        assert len(rings) == 2, "the copy's server took the ring of the original"
        segments = sorted((server.dir / "appendonlydir").glob("*.incr.aof"))
        saved = [segment.read_bytes() for segment in segments]
        for segment in segments:
            segment.write_bytes(segment.read_bytes()[:-5])
        with pytest.raises(ServerDied, match="is shorter than it was.*acknowledged: restore the file, or remove the ring"):
            server.start()
        assert server.rings() == rings
        for segment, contents in zip(segments, saved):
            segment.write_bytes(contents)
        server.start()
        with server.client() as client:
            assert client.cmd("MGET", "kept", "key", "other") == [b"1"] * 3


def test_two_servers_on_one_host_and_two_on_the_same_files():
    with _ring_server() as first, _ring_server() as second:
        for server, value in ((first, "first"), (second, "second")):
            with server.client() as client:
                client.pipeline([("SET", f"key:{n}", value) for n in range(100)])
        with pytest.raises(ServerDied, match="is another server running on these files"):
            Server(dir=first.dir, appendonly="yes", shards=2, aof_write_path="ring").start()
        first.kill()
        second.kill()
        first.start()
        second.start()
        for server, value in ((first, b"first"), (second, b"second")):
            with server.client() as client:
                assert client.pipeline([("GET", f"key:{n}") for n in range(100)]) == [value] * 100


def test_abandoned_rings_are_removed():
    with _ring_server() as server:
        with server.client() as client:
            client.cmd("SET", "key", 1)
        manifest = (server.dir / MANIFEST).read_text()
        server.kill()
        stale = server.rings()
        # Another server went on with the files, and left its manifest.
        (server.dir / MANIFEST).write_text(re.sub("#basalt boot-id.*\n", "", manifest))
        server.start()
        assert len(server.rings()) == 2 and not set(server.rings()) & set(stale)
        assert server.log().count("Removed the abandoned ring") == 2


def _script(folder: Path, line: str) -> str:
    path = folder / "basalt-server-elsewhere"
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def _needs(command: str) -> None:
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"not possible here: {command}: {done.stderr.strip()}")


def test_auto_chooses_by_what_it_finds(tmp_path: Path):
    with _ring_server(aof_write_path="auto", env=no_direct_io("temp-direct")) as server:
        assert _path(server) == "write" and "cannot be written directly" in server.log()
    with _ring_server(aof_write_path="auto", aof_ring_dir=tmp_path) as server:
        assert _path(server) == "write"
    for write_path in ("auto", "ring"):
        server = _ring_server(aof_write_path=write_path, env=no_room("/dev/shm/"))
        if write_path == "ring":
            with pytest.raises(ServerDied, match="make the rings of aof-write-path ring in /dev/shm: No space left"):
                server.start()
        else:
            with server:
                assert _path(server) == "write"
        server.close()


def test_auto_does_not_trust_a_containers_memory(tmp_path: Path):
    _needs("unshare --pid --fork --mount-proc true")
    binary = _script(tmp_path, f'exec unshare --pid --fork --kill-child --mount-proc {basalt_binary()} "$@"')
    for write_path, expected in (("auto", "write"), ("ring", "ring")):
        with Server(binary, appendonly="yes", shards=2, aof_write_path=write_path) as server:
            assert _path(server) == expected
            assert write_path == "ring" or "this is a container" in server.log()


def test_a_tmpfs_that_is_too_small(tmp_path: Path):
    _needs(f"unshare --mount mount -t tmpfs tmpfs {tmp_path}")
    small = tmp_path / "small"
    small.mkdir()
    binary = _script(tmp_path, f'exec unshare --mount sh -c \'mount -t tmpfs -o size=3m tmpfs {small} && exec "$@"\' sh '
                               f'{basalt_binary()} "$@"')
    where = dict(appendonly="yes", shards=2, aof_ring_dir=small)
    with Server(binary, aof_write_path="auto", aof_ring_size="1mb", **where) as server:
        assert _path(server) == "write" and "bytes free, and should have" in server.log()
    with pytest.raises(ServerDied, match="No space left"):
        Server(binary, aof_write_path="ring", aof_ring_size="4mb", **where).start()
    with Server(binary, aof_write_path="auto", aof_ring_size="512kb", **where) as server:
        assert _path(server) == "ring"


def _forget_boot(server: Server) -> None:
    """As if the machine had been started anew."""
    manifest = server.dir / MANIFEST
    manifest.write_text(re.sub("boot-id [^ ]+", "boot-id of-another-boot", manifest.read_text()))


@pytest.mark.parametrize("write_path", ["ring", "write"])
@pytest.mark.parametrize("policy", ["everysec", "always"])
def test_what_is_durable_survives_the_system_with_timestamps(policy: str, write_path: str):
    """One key, and then nothing more for as long as one likes; the other shard has never been written to."""
    with _ring_server(aof_timestamp_enabled="yes", appendfsync=policy, aof_write_path=write_path) as server:
        for number in range(3):
            with server.client() as client:
                client.cmd("SET", "key", number)
                client.cmd("RPUSH", "list", number)
                if policy == "everysec":
                    # All synced, the marks as well.
                    _until(lambda: _info(client, "aof_ring_pending_bytes") == "0" and _marks_are_written(server), "not synced")
            server.kill()
            _forget_boot(server)
            server.start()
            with server.client() as client:
                assert client.cmd("GET", "key") == str(number).encode()
                assert client.cmd("LLEN", "list") == number + 1
        texts = [segment.read_bytes() for segment in (server.dir / "appendonlydir").glob("*.incr.aof")]
        assert any(b"#TS:" in text for text in texts)


def _marks_are_written(server: Server) -> bool:
    """Whether every segment ends with an empty block, of the same epoch."""
    last = [re.findall(rb"#SEAL (\d+) \d+ \d+ (\d+) ", segment.read_bytes())[-1:]
            for segment in (server.dir / "appendonlydir").glob("*.incr.aof")]
    seals = [seal[0] for seal in last if seal]
    return len(seals) == 2 and {seal[0] for seal in seals} == {b"0"} and len({seal[1] for seal in seals}) == 1


def test_nothing_is_acknowledged_behind_a_clean_end_that_failed(tmp_path: Path):
    """The manifest of a clean end names no rings, and may be in its place although it could not be made durable."""
    disk = BadDisk("appendonlydir", tmp_path)
    with _ring_server(env=disk.environment) as server:
        for number in range(2):
            with server.client() as client, server.client() as other:
                client.cmd("SET", f"before:{number}", 1)
                with disk.failing("names"):
                    assert isinstance(client.call("SHUTDOWN", "NOSAVE"), ReplyError)
                    other.send("SET", "behind", number)
                    _until(lambda: _info(client, "aof_last_write_status") == "err", "a write is taken")
                    assert client.call("SET", "x", 1).text.startswith("MISCONF Errors writing to the AOF file")
                    if number == 1:
                        server.kill()
                if server.running:
                    assert other.recv(timeout=PATIENCE) == b"OK"
                    _until(lambda: client.call("SET", "x", 1) == b"OK", "writes are refused for good")
        server.start()
        with server.client() as client:
            assert client.cmd("MGET", "before:0", "before:1", "x") == [b"1", b"1", b"1"]
            assert client.cmd("GET", "behind") == b"0"
        assert "IS LOST" not in server.log()
