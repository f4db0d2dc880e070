"""basalt-check-aof on sets of Basalt: what it finds, and what it mends, exports and goes back to."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import Done, our_tool, run
from support import Server, dump_state, diff_states as differences, peer_binary

SEED = int(os.environ.get("TOOLS_SEED", "20261121"))
STOCK = ["redis", *(["redis-new", "valkey-new"] if peer_binary("redis-server") and peer_binary("valkey-server") else [])]
TOOL = "basalt-check-aof"


def diff_states(left: dict, right: dict) -> list[str]:
    """Encodings depend on the server that loads."""
    return differences(left, right, encodings=False)


def check(folder: Path, *args: str, answer: bytes = b"") -> Done:
    return run([our_tool(TOOL), *args, "set"], folder, answer)


def check_json(folder: Path, *args: str) -> tuple[int, dict]:
    done = check(folder, "--json", *args)
    return done.code, json.loads(done.out)


def fill(server: Server) -> None:
    """A base, then segments with single commands, transactions within a shard and over all, in two databases."""
    with server.client() as client:
        for i in range(200):
            client.cmd("SET", f"base:{i}", "v" * 50)
        client.cmd("BGREWRITEAOF")
        wait_for_rewrite(client)
        for i in range(200):
            client.cmd("SET", f"key:{i}", f"value {i}")
        client.cmd("MSET", *(word for i in range(20) for word in (f"multi:{i}", i)))
        client.cmd("RPUSH", "list", *range(50))
        client.cmd("SELECT", 3)
        client.cmd("SET", "in three", "x")
        client.cmd("SELECT", 0)
        client.cmd("MSET", *(word for i in range(20) for word in (f"last:{i}", i)))
        for i in range(20):
            client.cmd("SET", f"after:{i}", i)


def wait_for_rewrite(client) -> None:
    while True:
        info = client.cmd("INFO", "persistence")
        if b"aof_rewrite_in_progress:0" in info and b"aof_rewrite_scheduled:0" in info:
            return


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A set as a clean stop leaves it, and the data in it."""
    folder = tmp_path_factory.mktemp("clean")
    with Server("basalt", dir=folder, shards=2, appendonly="yes") as server:
        fill(server)
        with server.client() as client:
            state = dump_state(client)
        server.stop()
    return folder / "appendonlydir", state


@pytest.fixture
def work(tmp_path: Path, clean: tuple[Path, dict]) -> Path:
    shutil.copytree(clean[0], tmp_path / "set")
    return tmp_path


def segments(folder: Path) -> list[Path]:
    return sorted((folder / "set").glob("*.incr.aof"))


def state_in(kind: str, folder: Path, tmp_path: Path) -> dict:
    """What a server makes of a set."""
    place = tmp_path / f"start-{kind}"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder, place / "appendonlydir")
    with Server(kind, dir=place, shards=2, appendonly="yes") as server, server.client() as client:
        return dump_state(client)


def frames(data: bytes) -> list[tuple[int, int]]:
    """Where each command and comment line of a segment begins and ends."""
    found, at = [], 0
    while at < len(data):
        begin = at
        if data[at : at + 1] == b"#":
            at = data.index(b"\n", at) + 1
        else:
            end = data.index(b"\r\n", at)
            count, at = int(data[at + 1 : end]), end + 2
            for _ in range(count):
                end = data.index(b"\r\n", at)
                at = end + 2 + int(data[at + 1 : end]) + 2
        found.append((begin, at))
    return found


def take_out(path: Path, wanted) -> int:
    """Removes by hand the frames that contain something; tells how many."""
    data = path.read_bytes()
    kept, gone = b"", 0
    for begin, end in frames(data):
        if wanted(data[begin:end]):
            gone += 1
        else:
            kept += data[begin:end]
    path.write_bytes(kept)
    return gone


def test_a_good_set_is_told_in_full(work: Path, clean: tuple[Path, dict]) -> None:
    code, report = check_json(work)
    assert code == 0 and report["good"] and report["start_cuts"] == []
    assert report["transactions"] == 2 and report["incomplete_transactions"] == []
    base, *rest = report["files"]
    assert base["rdb"]["keys"] == 200 and base["good"]
    assert [segment["shard"] for segment in rest] == [0, 1]
    for segment in rest:
        assert segment["blocks"] > 10 and segment["policies"]["everysec"] == segment["blocks"]
        assert segment["lsn_first"] < segment["lsn_last"] and segment["unix_ms_first"] <= segment["unix_ms_last"]
        assert segment["epoch_first"] <= segment["epoch_last"]
    done = check(work)
    assert done.code == 0 and done.err == b"" and b"All AOF files and manifest are valid" in done.out
    assert run([our_tool(TOOL), "set/appendonly.aof.manifest"], work).code == 0
    assert run([our_tool(TOOL), f"set/{segments(work)[0].name}"], work).code == 0, "a segment by itself"


def test_damage_anywhere_is_found_and_located(work: Path) -> None:
    """Whatever byte of a segment changes: an error that names the file and a stretch with the byte in it."""
    rng = random.Random(SEED)
    for path in segments(work):
        whole = path.read_bytes()
        for at in [0, 1, len(whole) - 1, *rng.sample(range(len(whole)), 45)]:
            data = bytearray(whole)
            data[at] ^= 1 << rng.randrange(8)
            path.write_bytes(data)
            code, report = check_json(work)
            where = f"{path.name}, byte {at}, seed {SEED}"
            assert code == 1 and not report["good"], where
            file = next(f for f in report["files"] if f["file"] == path.name)
            assert any(d["offset"] <= at < max(d["until"], d["offset"] + 1) or d["until"] <= at < d["until"] + 200
                       for d in file["damage"]), where
            assert "start_refuses" in report or report["start_cuts"], where
        path.write_bytes(whole)


def test_damage_behind_damage_is_found_too(work: Path) -> None:
    path = segments(work)[0]
    data = bytearray(path.read_bytes())
    places = [data.index(b"value %d\r" % i) for i in range(200) if b"value %d\r" % i in data]
    for at in (places[3], places[-3]):
        data[at] ^= 1
    path.write_bytes(data)
    code, report = check_json(work)
    damage = report["files"][1]["damage"]
    assert code == 1 and len(damage) == 2
    for found, at in zip(damage, (places[3], places[-3])):
        assert found["offset"] <= at < found["until"]
        assert found["touched"]["keys"] >= 1 and found["touched"]["key_names"][0]["key"].startswith("key:")
        assert found["next_seal"]["lsn"] > 0 and found["next_seal"]["unix_ms"] > 1_600_000_000_000
    assert "start_refuses" in report


def test_a_lost_block_is_found(work: Path) -> None:
    path = segments(work)[1]
    data = path.read_bytes()
    seals = [m.start() for m in re.finditer(rb"#SEAL [1-9]", data)]
    begin = data.index(b"\n", seals[4]) + 1
    end = data.index(b"\n", seals[5]) + 1
    path.write_bytes(data[:begin] + data[end:])
    code, report = check_json(work)
    assert code == 1 and report["files"][2]["damage"][0]["offset"] == begin


def test_every_torn_tail_is_cut_on_request(work: Path, clean: tuple[Path, dict], tmp_path: Path) -> None:
    path = segments(work)[0]
    whole = path.read_bytes()
    for cut in range(len(whole) - 1, len(whole) - 700, -61):
        shutil.rmtree(work / "set")
        shutil.copytree(clean[0], work / "set")
        path.write_bytes(whole[:cut])
        code, report = check_json(work)
        before = {file.name: file.read_bytes() for file in (work / "set").iterdir()}
        if code == 0:  # the cut was behind a seal
            continue
        assert report["start_cuts"]
        for answer in (b"", b"n\n", b"no\n"):
            done = check(work, "--fix", answer=answer)
            assert done.code == 1 and b"Continue? [y/N]: " in done.out
            assert {file.name: file.read_bytes() for file in (work / "set").iterdir()} == before
        assert check(work, "--fix", answer=b"y\n").code == 0
        assert check(work).code == 0
    assert_same_everywhere(work / "set", tmp_path)


def assert_same_everywhere(folder: Path, tmp_path: Path) -> dict:
    """Basalt and stock servers make the same of a set; returns what."""
    ours = state_in("basalt", folder, tmp_path)
    for kind in STOCK:
        theirs = state_in(kind, folder, tmp_path)
        assert not diff_states(ours, theirs), kind
    return ours


def keys_of(state: dict, db: int = 0) -> set[bytes]:
    return set(state.get(db, {}))


def test_a_command_taken_out_by_hand(work: Path, tmp_path: Path) -> None:
    """As people do it with Redis: edit, then --fix. It says what it will do, asks, and both servers load the result."""
    gone = sum(take_out(path, lambda f: b"\r\nkey:17\r\n" in f) for path in segments(work))
    assert gone == 1
    code, report = check_json(work)
    assert code == 1 and "start_refuses" in report
    done = check(work, "--fix", answer=b"\n")
    assert done.code == 1 and b"They will be sealed again" in done.out and b"Aborting" in done.err
    assert b"bytes were sealed" in done.out and check(work).code == 1
    done = check(work, "--fix", "--yes")
    assert done.code == 0, done
    assert check(work).code == 0
    state = assert_same_everywhere(work / "set", tmp_path)
    assert b"key:17" not in keys_of(state) and b"key:18" in keys_of(state)


def test_a_value_edited_by_hand(work: Path, tmp_path: Path) -> None:
    for path in segments(work):
        data = path.read_bytes()
        path.write_bytes(data.replace(b"$8\r\nvalue 33\r\n", b"$14\r\nanother  value\r\n").replace(b"$8\r\nvalue 34\r\n", b"$8\r\nvalue XX\r\n"))
    assert check(work).code == 1
    done = check(work, "--fix", "--yes")
    assert done.code == 0 and b"as many as were sealed, and others" in done.out
    state_in("basalt", work / "set", tmp_path)
    place = tmp_path / "start-basalt"
    with Server("basalt", dir=place, appendonly="yes", shards=2) as server, server.client() as client:
        assert client.cmd("GET", "key:33") == b"another  value" and client.cmd("GET", "key:34") == b"value XX"


@pytest.mark.parametrize("keys", [50, 3000])
def test_a_mistaken_flushall_is_taken_out(keys: int, tmp_path: Path) -> None:
    """With few keys it is DELs in a transaction of each shard, with many a file of its own."""
    with Server("basalt", dir=tmp_path / "server", shards=2, appendonly="yes", auto_aof_rewrite_percentage=0) as server:
        with server.client() as client:
            client.pipeline([("SET", f"key:{i}", i) for i in range(keys)])
            before = dump_state(client)
            client.cmd("FLUSHALL")
            client.cmd("SET", "later", 1)
        server.stop()
    shutil.copytree(tmp_path / "server" / "appendonlydir", tmp_path / "set")
    gone = 0
    for path in segments(tmp_path):
        gone += take_out(path, lambda f: re.match(rb"\*\d+\r\n\$\d+\r\n(flushall|FLUSHALL|DEL)\r\n", f) is not None)
    assert gone > 0
    assert check(tmp_path).code == 1
    done = check(tmp_path, "--fix", "--yes")
    assert done.code == 0, done
    state = assert_same_everywhere(tmp_path / "set", tmp_path)
    assert keys_of(state) == keys_of(before) | {b"later"}


def test_a_closed_segment_that_lost_its_end_between_two_blocks(tmp_path: Path) -> None:
    """Its checksums vouch for what is left; only the manifest says that there was more."""
    with Server("basalt", dir=tmp_path / "server", shards=2, appendonly="yes", auto_aof_rewrite_percentage=0) as server:
        with server.client() as client:
            for i in range(1500):
                client.cmd("SET", f"key:{i}", i)
            client.cmd("FLUSHALL")
            client.cmd("SET", "later", 1)
        server.stop()
    shutil.copytree(tmp_path / "server" / "appendonlydir", tmp_path / "set")
    manifest = tmp_path / "set" / "appendonly.aof.manifest"
    closed = re.findall(r"file (\S+) .* generation \d+ length (\d+) end-lsn (\d+)\n", manifest.read_text())
    assert len(closed) == 3 and all((tmp_path / "set" / name).stat().st_size == int(length) for name, length, _ in closed)
    name, length, lsn = closed[0]
    segment = tmp_path / "set" / name
    data = segment.read_bytes()
    end = [begin for begin, end in frames(data) if data[begin:end].startswith(b"#SEAL ")][-3]
    left = data.index(b"\n", end) + 1
    segment.write_bytes(data[:left])
    code, found = check_json(tmp_path)
    lost = f"{name} at offset {left} "
    assert code == 1 and lost in found["start_refuses"] and f"{length} bytes, up to LSN {lsn}," in found["start_refuses"]
    refused = run([our_tool(TOOL), "--export", "exported", "set"], tmp_path)
    assert refused.code == 1 and f"{length} bytes" in (refused.err + refused.out).decode()
    before = manifest.read_bytes()
    assert check(tmp_path, "--fix", answer=b"n\n").code == 1
    assert manifest.read_bytes() == before
    done = check(tmp_path, "--fix", "--yes")
    assert done.code == 0 and f"{name} has {left} bytes, and had {length}" in done.text, done
    assert f"{name} " in manifest.read_text() and f" length {left} end-lsn " in manifest.read_text()
    assert check(tmp_path).code == 0
    assert keys_of(assert_same_everywhere(tmp_path / "set", tmp_path)) == {b"later"}


@pytest.mark.parametrize("which", [0, 1])
def test_a_transaction_taken_out_of_one_segment_goes_from_all(which: int, work: Path, tmp_path: Path) -> None:
    """Otherwise a start would cut all that follows it in the others."""
    path = segments(work)[which]
    data = path.read_bytes()
    begin = data.rindex(b"#TXN ")
    end = data.index(b"EXEC\r\n", begin) + 6
    select = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"
    kept = select if select in data[begin:end] else b""  # the tool looks after that itself in the other segment
    path.write_bytes(data[:begin] + kept + data[end:])
    done = check(work, "--fix", "--yes")
    assert done.code == 0 and b"it will be taken out of" in done.out, done
    code, report = check_json(work)
    assert code == 0 and report["transactions"] == 1
    state = assert_same_everywhere(work / "set", tmp_path)
    assert not any(key.startswith(b"last:") for key in keys_of(state))
    assert sum(key.startswith(b"after:") for key in keys_of(state)) == 20
    assert sum(key.startswith(b"multi:") for key in keys_of(state)) == 20


def test_comments_and_a_lost_head_are_put_right(work: Path, clean: tuple[Path, dict], tmp_path: Path) -> None:
    first, second = segments(work)
    data = first.read_bytes()
    at = data.index(b"#SEAL")
    first.write_bytes(data[:at] + b"# I was here\r\n" + data[at:])
    data = second.read_bytes()
    second.write_bytes(data[data.index(b"\n") + 1 :])
    done = check(work, "--fix", "--yes")
    assert done.code == 0 and b"comment lines" in done.out and b"the head is missing" in done.out, done
    assert first.read_bytes() == (clean[0] / first.name).read_bytes()
    assert second.read_bytes() == (clean[0] / second.name).read_bytes()


def test_what_is_no_edit_is_refused(work: Path) -> None:
    path = segments(work)[0]
    data = path.read_bytes()
    at = data.index(b"$8\r\nvalue ")
    path.write_bytes(data[:at] + b"$9" + data[at + 2 :])
    before = path.read_bytes()
    done = check(work, "--fix", "--yes")
    assert done.code == 1 and b"no edit of whole commands" in done.err and b"offset" in done.err
    assert path.read_bytes() == before


def test_export_is_what_recovery_would_keep(work: Path, tmp_path: Path) -> None:
    """Torn tails: whole transactions only, over all shards; and the source stays as it is."""
    rng = random.Random(SEED)
    first, second = segments(work)
    whole = first.read_bytes()
    at = whole.rindex(b"#TXN ")
    for cut in [at + 30, rng.randrange(len(whole) // 2, len(whole))]:
        first.write_bytes(whole[:cut])
        before = {file.name: file.read_bytes() for file in (work / "set").iterdir()}
        shutil.rmtree(work / "out", ignore_errors=True)
        done = check(work, "--export", "out")
        assert done.code == 0, done
        assert {file.name: file.read_bytes() for file in (work / "set").iterdir()} == before
        assert not list((work / "out").glob("recovery*"))
        recovered = state_in("basalt", work / "set", tmp_path)
        for kind in ("basalt", *STOCK):
            assert not diff_states(recovered, state_in(kind, work / "out", tmp_path)), kind
    assert check(work, "--export", "out").code == 1, "it must be empty"


def test_a_set_that_kill_left_is_checked_and_exported(tmp_path: Path) -> None:
    """Whatever is only in the rings is in the copy; with the path that has rings and the one without."""
    with Server("basalt", dir=tmp_path / "probe") as server, server.client() as client:
        paths = ["auto", "write"] if client.cmd("CONFIG", "GET", "aof-write-path") else [None]
    for path in paths:
        place = tmp_path / str(path)
        with Server("basalt", dir=place, shards=2, appendonly="yes", aof_write_path=path) as server:
            with server.client() as client:
                client.pipeline([("SET", f"key:{i}", i) for i in range(2000)])
                client.cmd("MSET", "a", 1, "b", 2, "c", 3)
                expected = dump_state(client)
            server.kill()
            folder = place / "appendonlydir"
            done = run([our_tool(TOOL), "--json", str(folder)], place)
            report = json.loads(done.out)
            assert done.code == 0, done
            before = {file.name: file.read_bytes() for file in folder.iterdir()}
            done = run([our_tool(TOOL), "--export", "out", str(folder)], place)
            assert done.code == 0, done
            assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
            for kind in STOCK:
                assert not diff_states(expected, state_in(kind, place / "out", tmp_path)), (kind, report["rings"])
            # The rings are still there for the start.
            server.start()
            with server.client() as client:
                assert not diff_states(expected, dump_state(client))
            server.stop()


def test_fix_takes_over_the_rings(tmp_path: Path) -> None:
    with Server("basalt", dir=tmp_path, shards=2, appendonly="yes") as server:
        with server.client() as client:
            client.pipeline([("SET", f"key:{i}", i) for i in range(500)])
            expected = dump_state(client)
        server.kill()
    folder = tmp_path / "appendonlydir"
    assert run([our_tool(TOOL), "--fix", "--yes", str(folder)], tmp_path).code == 0
    assert not diff_states(expected, state_in("redis", folder, tmp_path))


def test_back_to_a_time(tmp_path: Path) -> None:
    with Server("basalt", dir=tmp_path / "server", shards=2, appendonly="yes") as server:
        with server.client() as client:
            client.cmd("MSET", *(word for i in range(20) for word in (f"early:{i}", i)))
            then = int(client.cmd("TIME")[0])
            while int(client.cmd("TIME")[0]) < then + 2:
                client.cmd("PING")
            client.cmd("MSET", *(word for i in range(20) for word in (f"late:{i}", i)))
        server.stop()
    shutil.copytree(tmp_path / "server" / "appendonlydir", tmp_path / "set")
    done = check(tmp_path, "--truncate-to-timestamp", str(then), answer=b"n\n")
    assert done.code == 1 and b"lost: " in done.out
    done = check(tmp_path, "--truncate-to-timestamp", str(then), "--yes")
    assert done.code == 0, done
    state = assert_same_everywhere(tmp_path / "set", tmp_path)
    assert keys_of(state) == {b"early:%d" % i for i in range(20)}
    done = check(tmp_path, "--truncate-to-timestamp", str(then + 1000), "--yes")
    assert done.code == 0 and b"Truncate nothing" in done.out
    assert check(tmp_path, "--truncate-to-timestamp", "soon").code == 1


def test_a_living_server_keeps_its_files(tmp_path: Path) -> None:
    """Its set may be looked at, but not mended under it."""
    with Server("basalt", dir=tmp_path, shards=2, appendonly="yes") as server, server.client() as client:
        client.cmd("SET", "k", "v")
        if b"aof_write_path:ring" not in client.cmd("INFO", "persistence"):
            pytest.skip("only rings tell that a server is alive")
        folder = str(tmp_path / "appendonlydir")
        assert b"living process" in run([our_tool(TOOL), folder], tmp_path).out
        done = run([our_tool(TOOL), "--fix", "--yes", folder], tmp_path)
        assert done.code == 1 and b"another server" in done.err
        assert client.cmd("GET", "k") == b"v"


def test_manifests_that_are_none(work: Path) -> None:
    manifest = work / "set" / "appendonly.aof.manifest"
    text = manifest.read_bytes()
    for damaged in (text[:-5], text.replace(b"type i", b"type x", 1), text.replace(b"files 3", b"files 4"), b"#basalt files 0\n"):
        manifest.write_bytes(damaged)
        done = check(work)
        assert done.code == 1 and b"appendonly.aof.manifest" in done.err, damaged
        assert not json.loads(check(work, "--json").out)["good"]
    manifest.write_bytes(text)
    segments(work)[0].unlink()
    done = check(work)
    assert done.code == 1 and b"does not exist" in done.err


def test_no_progress_in_a_pipe(work: Path) -> None:
    done = subprocess.run([our_tool(TOOL), "set"], cwd=work, capture_output=True, timeout=60)
    assert done.returncode == 0 and not done.stderr and b"\r" not in done.stdout
