"""What a start makes of files that an operating system's crash or a disk left behind, and of a wish to go back.

A crash of the operating system is staged: the server is killed, the manifest is given another boot's id, and segments
lose what was not synced. What is then loaded must be a prefix of the history, what was cut off must be kept and told, and
a second start must find nothing to cut.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from crash.test_damage import MANIFEST, _flip, _hashes, _truncate
from crash.test_kill import chance, rounds  # noqa: F401 (a fixture)
from crash.workload import Ledger, Life
from support import Client, ConnectionClosed, ReplyError, Server, ServerDied

# So many that FLUSHALL gets a generation of its own.
MANY = 20_000
OTHER_BOOT = "00000000-0000-0000-0000-00000000dead"


def info(client: Client, section: str = "persistence") -> dict[str, str]:
    lines = client.cmd("INFO", section).decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def boot_anew(folder: Path) -> None:
    """Makes it look as if the machine had been started again since the files were written."""
    path = folder / MANIFEST
    text = path.read_text()
    changed = re.sub(r"boot-id \S+", f"boot-id {OTHER_BOOT}", text)
    assert changed != text, text
    path.write_text(changed)


def segments(folder: Path) -> list[Path]:
    return sorted((folder / "appendonlydir").glob("*.incr.aof"))


def newest_segments(folder: Path) -> list[Path]:
    """Those of the newest generation: what others follow was made durable before."""
    found = re.findall(r"^file (\S+) .* generation (\d+)$", (folder / MANIFEST).read_text(), re.MULTILINE)
    newest = max(int(generation) for _, generation in found)
    return sorted(folder / "appendonlydir" / name for name, generation in found if int(generation) == newest)


def reports(folder: Path) -> list[Path]:
    return sorted((folder / "appendonlydir").glob("recovery-*.txt"))


def assert_kept(folder: Path, before: dict[Path, bytes]) -> None:
    """What was cut off is beside the segments, byte for byte."""
    text = reports(folder)[-1].read_text()
    kept = re.findall(r"the bytes are in: (\S+)\.from-(\d+)", text)
    assert kept, text
    for name, offset in kept:
        tail = (folder / "appendonlydir" / f"{name}.from-{offset}").read_bytes()
        [segment] = [path for path in before if name.endswith(path.name)]
        assert before[segment][int(offset):] == tail, f"{name}: not what was cut off"


def crash_of_the_system(server: Server, life: Life) -> dict[Path, bytes]:
    server.kill()
    life.join()
    boot_anew(server.dir)
    return {path: path.read_bytes() for path in newest_segments(server.dir)}


def lose_tails(before: dict[Path, bytes], chance: random.Random) -> dict[Path, bytes]:
    """Each segment loses what a page cache might: a tail, perhaps with zeros in the place of a part of it."""
    after = {}
    for path, data in before.items():
        # The first always loses something, so that each round has something to find.
        lost = chance.choice((int(not after), chance.randrange(1, 200), chance.randrange(1, 20_000)))
        kept = len(data) - min(lost, len(data) * 3 // 4)
        data = data[:kept]
        if chance.random() < 0.4:
            zeroed = chance.randrange(min(len(data), 5000))
            data = data[:len(data) - zeroed] + b"\0" * zeroed
        path.write_bytes(data)
        after[path] = data
    return after


@pytest.mark.parametrize("shards", (1, 2))
def test_a_crash_of_the_system_leaves_a_prefix(tmp_path: Path, chance: random.Random, shards: int):
    with Server(dir=tmp_path, appendonly="yes", appendfsync="everysec", shards=shards) as server:
        ledger, cut = Ledger(), 0
        for number in rounds(4):
            life = Life(server.port, number)
            life.wait_for(chance.randrange(50, 600))
            before = lose_tails(crash_of_the_system(server, life), chance)
            known = reports(tmp_path)
            server.log_path.unlink()
            server.start()
            with server.client() as client:
                ledger.settle(client, life, loses_tail=True)
                said = info(client)
            if reports(tmp_path) != known:
                cut += 1
                assert "cut off" in server.log(), server.log()
                assert said["aof_last_recovery_cause"] == "os-crash"
                assert int(said["aof_last_recovery_cut_bytes"]) > 0
                assert said["aof_last_recovery_report"] == reports(tmp_path)[-1].name
                assert_kept(tmp_path, before)
            else:
                assert said["aof_last_recovery_cause"] == "none", said
        assert cut, "no round cut anything: this test tests nothing"


def test_what_was_promised_always_is_never_cut(tmp_path: Path, chance: random.Random):
    with Server(dir=tmp_path, appendonly="yes", appendfsync="always", shards=2) as server:
        ledger = Ledger()
        for number in rounds(3):
            life = Life(server.port, number)
            life.wait_for(60)
            crash_of_the_system(server, life)
            server.start()
            with server.client() as client:
                ledger.settle(client, life)


def test_damage_after_a_crash_is_refused_or_cut_to_a_prefix(tmp_path: Path, chance: random.Random):
    folder = tmp_path / "data"
    with Server(dir=folder, appendonly="yes", shards=2) as server:
        life = Life(server.port, 0)
        life.wait_for(150)
        crash_of_the_system(server, life)
    outcomes = {"refused": 0, "loaded": 0}
    for _ in rounds(10):
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        (copy / "server.log").unlink()
        segment = chance.choice(segments(copy))
        offset, bits = chance.randrange(segment.stat().st_size), 1 << chance.randrange(8)
        print(f"{segment.name}: byte {offset} ^ {bits}")
        _flip(segment, offset, bits)
        before = _hashes(copy)
        server = Server(dir=copy, appendonly="yes", shards=2)
        try:
            server.start()
            outcomes["loaded"] += 1
            with server.client() as client:
                Ledger().settle(client, life, loses_tail=True)
                assert info(client)["aof_last_recovery_cause"] == "os-crash"
            assert segment.name in server.log()
        except ServerDied:
            outcomes["refused"] += 1
            assert _hashes(copy) == before, "refused, but changed files"
            assert segment.name in server.log() and "offset" in server.log(), server.log()
            assert "Three ways out" in server.log(), server.log()
        finally:
            server.close()
    print(outcomes)


def test_damage_near_the_end_can_be_given_up(tmp_path: Path, chance: random.Random):
    folder = tmp_path / "data"
    with Server(dir=folder, appendonly="yes", shards=2) as server:
        life = Life(server.port, 0)
        life.wait_for(100)
        life.stop()
        server.stop()
    [first, _] = segments(folder)
    _flip(first, first.stat().st_size * 3 // 4, 1)
    (folder / "server.log").unlink()
    before = {path: path.read_bytes() for path in segments(folder)}
    server = Server(dir=folder, appendonly="yes", shards=2)
    try:
        for too_little in ("0", "10"):
            server.directives["aof-load-corrupt-tail-max-size"] = too_little
            with pytest.raises(ServerDied):
                server.start()
            assert server.process.returncode == 1
        log = server.log()
        assert "Bad file format reading the append only file" in log and first.name in log
        assert re.search(r"offset \d+ .*LSN \d+.*block before it is of 20\d\d-.*keys there: \S", log), log
        server.directives["aof-load-corrupt-tail-max-size"] = "1gb"
        server.start()
        with server.client() as client:
            Ledger().settle(client, life, loses_tail=True)
            said = info(client)
            assert said["aof_last_recovery_cause"] == "damage", said
            assert client.cmd("CONFIG", "GET", "aof-load-corrupt-tail-max-size")[1] == b"1073741824"
        assert_kept(folder, before)
        server.directives["aof-load-corrupt-tail-max-size"] = "0"
        server.restart()
    finally:
        server.close()


def run_dry(server: Server, point: str) -> subprocess.CompletedProcess:
    line = [*server.command_line(), "--restore-to", point, "--dry-run"]
    return subprocess.run(line, capture_output=True, text=True, timeout=60)


def start_at(server: Server, point: str) -> None:
    """Starts it once with --restore-to."""
    kept = server.command_line
    server.command_line = lambda: [*kept(), "--restore-to", point]
    try:
        server.start()
    finally:
        server.command_line = kept


def test_going_back_in_time(tmp_path: Path, chance: random.Random):
    """A counter in each of several shards, all one step on at a time, by one client: every time has one right state."""
    folder, keys = tmp_path / "data", [f"counter:{i}" for i in range(8)]
    moments = []
    with Server(dir=folder, appendonly="yes", shards=2) as server:
        with server.client() as client:
            for step in range(1, 41):
                for key in keys:
                    client.cmd("INCR", key)
                client.cmd("MSET", *(word for key in keys for word in (f"all:{key}", step)))
                if step == 20:
                    client.pipeline([("SET", f"many:{i}", i) for i in range(MANY)])
                if step == 30:
                    client.cmd("FLUSHALL")
                moments.append(int(time.time() * 1000))
                # The next step is in another millisecond.
                while int(time.time() * 1000) <= moments[-1]:
                    pass
        server.stop()
    for step in sorted(chance.sample([n for n in range(1, 40) if n != 30], len(rounds(4)))) + [29]:
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        server = Server(dir=copy, appendonly="yes", shards=2)
        before = _hashes(copy)
        point = str(moments[step - 1])
        dry = run_dry(server, point)
        assert dry.returncode == 0, dry.stderr
        assert "shard 0 of" in dry.stdout and "lost:" in dry.stdout, dry.stdout
        assert _hashes(copy) == before, "a dry run changed files"
        try:
            start_at(server, point)
            expected = step if step < 30 else step - 30
            with server.client() as client:
                said = {key: client.cmd("GET", key) for key in [*keys, *(f"all:{key}" for key in keys)]}
                right = {*(str(expected).encode() for _ in keys), str(step).encode()}
                assert set(said.values()) == right, f"step {step}: {said}"
                # Their moments are those before it, and behind it.
                assert client.cmd("DBSIZE") == 16 + (MANY if 20 <= step < 30 else 0)
                assert info(client)["aof_last_recovery_cause"] == "restore"
                client.cmd("SET", "after", step)
            # It is a plain append-only file again.
            server.restart()
            with server.client() as client:
                assert client.cmd("GET", "after") == str(step).encode()
                assert client.cmd("GET", keys[0]) == str(expected).encode()
        finally:
            server.close()


def test_points_that_cannot_be_reached_say_why(tmp_path: Path):
    with Server(dir=tmp_path, appendonly="yes", shards=2) as server:
        with server.client() as client:
            client.cmd("SET", "key", "value")
        server.stop()
        for point, why in (("1000000000", "the earliest point it holds"), ("99", "SHARD:LSN"), ("7:99", "no shard 7"),
                           ("0:99999", "ends at LSN"), ("noon", "expected"), ("2026-11-21 12:00:00", "zone")):
            dry = run_dry(server, point)
            assert dry.returncode == 1 and why in dry.stderr, f"{point}: {dry}"
        (tmp_path / "server.log").unlink()
        with pytest.raises(ServerDied, match="earliest point"):
            start_at(server, "1000000000")
        server.start()
        with server.client() as client:
            assert client.cmd("GET", "key") == b"value"


def test_position_takes_back_what_followed(tmp_path: Path):
    with Server(dir=tmp_path, appendonly="yes", shards=1) as server:
        with server.client() as client:
            client.cmd("SET", "a", "1")
            client.cmd("SET", "b", "2")
        server.stop()
        seals = re.findall(rb"#SEAL \d+ (\d+) ", segments(tmp_path)[0].read_bytes())
        position = sorted({int(lsn) for lsn in seals if int(lsn)})[0]
        start_at(server, str(position))
        with server.client() as client:
            assert client.cmd("MGET", "a", "b") == [b"1", None]


def test_a_dump_of_tomorrow_and_other_files_name_what_is_wrong(tmp_path: Path):
    for name, text, why in (
        ("version", b"REDIS0099" + b"\xff" + b"\0" * 8, "99"),
        ("type", b"REDIS0011\xfe\x00\x63\x01k\x01v\xff" + b"\0" * 8, "offset"),
        ("nothing", b"", "dump.rdb"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "dump.rdb").write_bytes(text)
        with pytest.raises(ServerDied):
            Server(dir=folder).start()
        log = (folder / "server.log").read_text()
        assert why in log and "dump.rdb" in log and "Three ways out" in log, log
        assert (folder / "dump.rdb").read_bytes() == text


def test_both_files_damaged_names_both(tmp_path: Path):
    with Server(dir=tmp_path, appendonly="yes", shards=2) as server:
        with server.client() as client:
            for i in range(100):
                client.cmd("SET", f"key:{i}", "value")
            client.cmd("SAVE")
        server.stop()
        segment = segments(tmp_path)[0]
        _flip(segment, 200, 1)
        for damaged, says in ((False, "is intact: 100 keys"), (True, "is damaged too")):
            if damaged:
                _flip(tmp_path / "dump.rdb", (tmp_path / "dump.rdb").stat().st_size // 2, 1)
            before = _hashes(tmp_path)
            server.log_path.unlink()
            with pytest.raises(ServerDied):
                server.start()
            assert server.process.returncode == 1
            assert _hashes(tmp_path) == before
            log = server.log()
            for told in (segment.name, "offset", says, "1) copy", "2) Restore", "3) Move"):
                assert told in log, f"{told!r} is not in:\n{log}"


def test_files_of_redis_that_end_early(tmp_path: Path):
    """As Redis has it, word for word where people look for it."""
    with Server("redis", dir=tmp_path, appendonly="yes") as server:
        with server.client() as client:
            for i in range(10):
                client.cmd("SET", f"key:{i}", "value")
        server.stop()
    [incr] = segments(tmp_path)
    _truncate(incr, incr.stat().st_size - 5)
    before = incr.read_bytes()
    server = Server(dir=tmp_path, appendonly="yes", aof_load_truncated="no")
    try:
        server.log_path.unlink(missing_ok=True)
        with pytest.raises(ServerDied):
            server.start()
        assert f"Unexpected end of file reading the append only file {incr.name}" in server.log()
        assert server.process.returncode == 1 and incr.read_bytes() == before
        server.directives["aof-load-truncated"] = "yes"
        server.start()
        log = server.log()
        assert f"!!! Warning: short read while loading the AOF file {incr.name}!!!" in log
        assert re.search(rf"!!! Truncating the AOF {incr.name} at offset \d+ !!!", log), log
        with server.client() as client:
            assert client.cmd("DBSIZE") == 9
            assert info(client)["aof_last_recovery_cause"] == "torn-tail"
        incr_is_whole_again = incr.read_bytes()
        assert before.startswith(incr_is_whole_again)
    finally:
        server.close()


def test_clients_are_told_while_it_loads(tmp_path: Path):
    with Server(dir=tmp_path, shards=2) as server:
        with server.client() as client:
            client.cmd("DEBUG", "POPULATE", 300_000, "key", 20)
            client.cmd("SAVE")
        server.kill()
        size = (tmp_path / "dump.rdb").stat().st_size
        server.spawn()
        seen = []
        while True:
            try:
                with Client(server.port, timeout=5) as client:
                    reply = client.call("DBSIZE")
                    if not isinstance(reply, ReplyError):
                        break
                    assert reply.text == "LOADING Redis is loading the dataset in memory", reply
                    seen.append(info(client))
            except (OSError, ConnectionClosed):
                # Nobody listens yet, or the port of the one that was killed is still being torn down.
                pass
        assert reply == 300_000
        during = [said for said in seen if said["loading"] == "1"]
        assert during, "it loaded before anybody could look"
        for said in during:
            assert said["async_loading"] == "0"
            assert abs(int(said["loading_start_time"]) - time.time()) < 120
            assert int(said["loading_total_bytes"]) in (0, size)
            assert int(said["loading_loaded_bytes"]) <= size
            assert 0 <= float(said["loading_loaded_perc"]) <= 100
            assert int(said["loading_eta_seconds"]) >= 0
        assert any(int(said["loading_rdb_used_mem"]) > 0 for said in during), during[-1]
        loaded = [int(said["loading_loaded_bytes"]) for said in during]
        assert loaded == sorted(loaded)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not read")
def test_files_that_may_not_be_read_are_named(tmp_path: Path):
    with Server(dir=tmp_path, appendonly="yes", shards=1) as server:
        with server.client() as client:
            client.cmd("SET", "key", "value")
        server.stop()
        segment = segments(tmp_path)[0]
        segment.chmod(0)
        for path in (tmp_path, *tmp_path.parents[:-2]):
            os.chmod(path, 0o777)
        for path in tmp_path.rglob("*"):
            if path != segment:
                os.chmod(path, 0o777 if path.is_dir() else 0o666)
        kept = server.command_line
        server.command_line = lambda: ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *kept()]
        with pytest.raises(ServerDied):
            server.start()
        assert segment.name in server.log() and "Permission denied" in server.log(), server.log()
