"""basalt-check-rdb, against real redis-check-rdb and for what it knows beyond that."""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
from pathlib import Path

import pytest

from . import corpus
from .conftest import Done, normal, our_tool, real_tools, run
from support import Server

SEED = int(os.environ.get("TOOLS_SEED", "20261121"))


@pytest.fixture(scope="module")
def redis_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return corpus.redis_rdb(tmp_path_factory.mktemp("redis"))


@pytest.fixture(scope="module")
def basalt_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return corpus.basalt_rdb(tmp_path_factory.mktemp("basalt"))


def same_as_real(named: Path, folder: Path, *args: str) -> Done:
    """Runs ours under Redis's name and each real tool: output and exit code must be the same. Returns ours."""
    ours = run([str(named / "redis-check-rdb"), *args], folder)
    for version, real in real_tools("rdb"):
        theirs = run([real, *args], folder)
        assert normal(ours.out, version) == normal(theirs.out, version), f"Redis {version}, {args}"
        if b"Usage" not in theirs.err:
            assert (ours.code, ours.err) == (theirs.code, theirs.err), f"Redis {version}, {args}"
    return ours


def check_json(folder: Path, *args: str) -> tuple[int, dict]:
    done = run([our_tool("basalt-check-rdb"), "--json", *args], folder)
    assert not done.err, done.err
    return done.code, json.loads(done.out)


def test_good_files_read_as_redis_reads_them(named: Path, tmp_path: Path, redis_file: bytes, basalt_file: bytes) -> None:
    for name, data in {
        "redis": redis_file,
        "basalt": basalt_file,
        "trailing": redis_file + b"more",
        "without checksum": redis_file[:-8] + bytes(8),
        "empty": corpus.rdb(),
        "version 1": b"REDIS0001\xff",
    }.items():
        (tmp_path / name).write_bytes(data)
        assert same_as_real(named, tmp_path, name).code == 0, name


def test_arguments_are_those_of_redis(named: Path, tmp_path: Path) -> None:
    for args in ([], ["no such file"], ["."], ["a", "b"], ["-h"], ["--help"], [""]):
        assert same_as_real(named, tmp_path, *args).code == 1, args
    done = run([str(named / "redis-check-rdb"), "--version"], tmp_path)
    assert done.code == 0 and done.text.startswith("redis-check-rdb v=7.4.0 "), done


def test_every_cut_reads_as_redis_reads_it(named: Path, tmp_path: Path, redis_file: bytes) -> None:
    for cut in [*range(0, 30, 3), *range(40, len(redis_file), 13)]:
        (tmp_path / "cut").write_bytes(redis_file[:cut])
        assert same_as_real(named, tmp_path, "cut").code == 1, f"cut at {cut}"


def test_most_flips_read_as_redis_reads_them(named: Path, tmp_path: Path, redis_file: bytes) -> None:
    """The verdict is always the same; the words may differ where damage makes nonsense that Redis reads on in."""
    rng = random.Random(SEED)
    same = total = 0
    for at in rng.sample(range(len(redis_file)), 60):
        data = bytearray(redis_file)
        data[at] ^= rng.choice([1, 0x80, 0xFF])
        (tmp_path / "flipped").write_bytes(data)
        ours = run([str(named / "redis-check-rdb"), "flipped"], tmp_path)
        version, real = real_tools("rdb")[0]
        theirs = run([real, "flipped"], tmp_path)
        assert ours.code == theirs.code, f"byte {at}, seed {SEED}: {ours} {theirs}"
        assert b"panicked" not in ours.err, f"byte {at}, seed {SEED}"
        total += 1
        same += normal(ours.out, version) == normal(theirs.out, version)
    assert same >= total * 3 // 4, f"{same} of {total}, seed {SEED}"


def test_damage_anywhere_is_found(tmp_path: Path, redis_file: bytes, basalt_file: bytes) -> None:
    """Whatever byte changes, in a file with checksum: a located error, and never a panic."""
    rng = random.Random(SEED)
    for name, whole in {"redis": redis_file, "basalt": basalt_file}.items():
        places = rng.sample(range(len(whole)), 50)
        places += [at for at in range(0, 9)] + [len(whole) - 1 - at for at in range(0, 120, 12)]
        for at in places:
            data = bytearray(whole)
            data[at] ^= 1 << rng.randrange(8)
            (tmp_path / "f").write_bytes(data)
            code, report = check_json(tmp_path, "f")
            damage = report["files"][0]["damage"]
            where = f"{name}, byte {at}, seed {SEED}"
            assert code == 1 and damage is not None, where
            assert 0 <= damage["offset"] <= len(whole) and damage["reason"], where


def test_a_damaged_value_is_located_by_its_chunk(tmp_path: Path, basalt_file: bytes) -> None:
    """The values of POPULATE are plain bytes, where no structure breaks: the index names the stretch and its keys."""
    at = basalt_file.index(b"value:17")
    data = bytearray(basalt_file)
    data[at + 20] ^= 1
    (tmp_path / "f").write_bytes(data)
    code, report = check_json(tmp_path, "f")
    report = report["files"][0]
    assert code == 1 and report["damage"]["reason"] == "RDB CRC error"
    [chunk] = report["damaged_chunks"]
    assert chunk["offset"] <= at + 20 < chunk["offset"] + chunk["bytes"]
    assert chunk["keys"] > 0 and chunk["first_key"] and chunk["last_key"]
    done = run([our_tool("basalt-check-rdb"), "f"], tmp_path)
    assert f"bytes {chunk['offset']} to {chunk['offset'] + chunk['bytes']}" in done.text


def test_a_damaged_structure_is_located_by_its_key(tmp_path: Path, redis_file: bytes) -> None:
    data = bytearray(redis_file)
    at = data.index(b"\x04hash") + 5 + 1 + 4 + 2  # behind the listpack's header
    data[at] ^= 0xFF
    (tmp_path / "f").write_bytes(data)
    code, report = check_json(tmp_path, "f")
    damage = report["files"][0]["damage"]
    assert code == 1
    assert damage["key"] == "hash" and damage["doing"] == "read-object-value" and damage["type"] == "hash-listpack"


def test_what_is_in_a_file_is_counted(tmp_path: Path, basalt_file: bytes) -> None:
    (tmp_path / "f").write_bytes(basalt_file)
    reports = []
    for threads in ("1", "3"):
        code, report = check_json(tmp_path, "--threads", threads, "--top", "3", "f")
        assert code == 0
        reports.append(report["files"][0])
    parallel, serial = reports[1], reports[0]
    assert parallel["sections"].pop("index")["shards"] == 2 and serial["sections"].pop("index") is None
    assert parallel == serial, "threads change nothing"
    assert serial["good"] and serial["checksum"] == "right"
    assert serial["keys"] == 3006 and serial["expires"] == 1 and serial["expired"] == 0
    counts = {name: (t["keys"], t["elements"]) for name, t in serial["types"].items()}
    assert counts == {"string": (3002, 0), "list": (1, 500), "set": (1, 500), "hash": (1, 300), "zset": (1, 500)}
    assert {db: t["keys"] for db, t in serial["databases"].items()} == {"0": 3005, "5": 1}
    assert len(serial["largest"]) == 3
    assert {key["key"] for key in serial["largest"]} < {"list", "set", "hash", "zset"}
    assert serial["sections"]["aux"]["redis-ver"] == "7.4.0"


def test_libraries_and_streams_are_named(tmp_path: Path, redis_file: bytes) -> None:
    (tmp_path / "f").write_bytes(redis_file)
    code, report = check_json(tmp_path, "f")
    report = report["files"][0]
    assert code == 0 and report["good"]
    assert report["not_loadable"] == {}
    assert report["sections"]["functions"][0]["title"] == "#!lua name=mylib"
    assert report["types"]["stream"]["keys"] == 1
    done = run([our_tool("basalt-check-rdb"), "f"], tmp_path)
    assert "1 function libraries" in done.text


def test_several_files_and_the_exit_code(tmp_path: Path, redis_file: bytes) -> None:
    (tmp_path / "good").write_bytes(redis_file)
    (tmp_path / "bad").write_bytes(redis_file[:-1])
    tool = our_tool("basalt-check-rdb")
    assert run([tool, "good", "good"], tmp_path).code == 0
    done = run([tool, "good", "bad", "missing"], tmp_path)
    assert done.code == 1 and b"No such file" in done.err
    assert done.text.count("Checking RDB file") == 3
    assert run([tool, "--top", "x", "good"], tmp_path).code == 1
    assert run([tool, "--help"], tmp_path).code == 0
    code, report = check_json_of(tool, tmp_path, "good", "bad", "missing")
    assert code == 1 and [file["good"] for file in report["files"]] == [True, False, False]


def check_json_of(tool: str, folder: Path, *files: str) -> tuple[int, dict]:
    done = run([tool, "--json", *files], folder)
    return done.code, json.loads(done.out)


def test_lengths_that_lie_cost_nothing(tmp_path: Path) -> None:
    """Claims of terabytes end at once, with an error and in little memory."""
    huge = corpus.length(1 << 44)
    for record in (
        b"\x00" + huge + b"k",
        b"\x00" + corpus.string(b"k") + huge + b"v",
        b"\x02" + corpus.string(b"k") + huge + corpus.string(b"m"),
        b"\x0b" + corpus.string(b"k") + huge,
        b"\x0b" + corpus.string(b"k") + b"\xc3" + huge + huge,
        b"\x0b" + corpus.string(b"k") + b"\xc3" + corpus.length(4) + huge + b"abcd",
        b"\x12" + corpus.string(b"k") + huge + b"\x02" + huge,
        b"\x07" + corpus.string(b"k") + huge + b"\x05" + huge,
        b"\x15" + corpus.string(b"k") + huge,
        b"\xfa" + huge,
    ):
        (tmp_path / "f").write_bytes(corpus.rdb(record))
        done = limited([our_tool("basalt-check-rdb"), "f"], tmp_path)
        assert done.code == 1 and b"RDB ERROR DETECTED" in done.out, record


def limited(command: list[str], folder: Path) -> Done:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))

    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=120, preexec_fn=limit)
    return Done(done.returncode, done.stdout, done.stderr)


def test_values_larger_than_memory_are_passed_through(tmp_path: Path) -> None:
    """A sparse file with a string of 700 MB and a set whose one member has 600: in less address space than either."""
    big, bigger = 600 << 20, 700 << 20
    with open(tmp_path / "f", "wb") as file:
        file.write(b"REDIS0010\x00" + corpus.string(b"big") + corpus.length(bigger))
        file.seek(bigger, os.SEEK_CUR)
        file.write(b"\x02" + corpus.string(b"set") + corpus.length(1) + corpus.length(big))
        file.seek(big, os.SEEK_CUR)
        file.write(b"\xff" + bytes(8))
    done = limited([our_tool("basalt-check-rdb"), "--json", "f"], tmp_path)
    report = json.loads(done.out)["files"][0]
    assert done.code == 0 and report["keys"] == 2
    assert [key["key"] for key in report["largest"]] == ["big", "set"]
    assert report["largest"][0]["bytes"] > bigger


def test_nothing_is_said_of_progress_where_no_terminal_is(tmp_path: Path, basalt_file: bytes) -> None:
    (tmp_path / "f").write_bytes(basalt_file)
    done = run([our_tool("basalt-check-rdb"), "f"], tmp_path)
    assert done.code == 0 and done.err == b"" and b"\r" not in done.out and b"\x1b" not in done.out


def test_progress_is_shown_on_a_terminal(tmp_path: Path) -> None:
    import pty

    with open(tmp_path / "f", "wb") as file:
        file.write(b"REDIS0010\x00" + corpus.string(b"big") + corpus.length(64 << 20))
        file.seek(64 << 20, os.SEEK_CUR)
        file.write(b"\xff" + bytes(8))
    master, slave = pty.openpty()
    process = subprocess.Popen([our_tool("basalt-check-rdb"), "f"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=slave)
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:  # the terminal is gone with the process
            break
        if not part:
            break
        shown += part
    out = process.communicate(timeout=60)[0]
    assert process.returncode == 0 and b"MB/s" in shown and b"%" in shown
    assert b"MB/s" not in out


def test_old_and_new_types_are_known(named: Path, tmp_path: Path) -> None:
    """Sorted sets and hashes of old, modules' data, and hashes whose fields expire."""
    key = corpus.string(b"k")
    module = corpus.length(0x1234_5678_9ABC_DEF0)
    value = module + b"\x02" + b"\x05" + b"\x05" + corpus.string(b"text") + b"\x00"
    for name, record, version in (
        ("zset 1", b"\x03" + key + b"\x02" + b"\x01m" + b"\x03" + b"1.5" + b"\x01n" + b"\xfe", 5),
        ("list 1", b"\x01" + key + b"\x02" + b"\x01m" + b"\x01m", 5),
        ("module", b"\x07" + key + value, 10),
        ("expiry in seconds", b"\xfd" + bytes(4) + b"\x00" + key + b"\x01v", 3),
        ("hints", b"\xf9\x05\xf8\x07\x00" + key + b"\x01v", 10),
    ):
        (tmp_path / "f").write_bytes(corpus.rdb(record, version=version))
        done = run([our_tool("basalt-check-rdb"), "--json", "f"], tmp_path)
        assert done.code == 0, (name, done)
        assert json.loads(done.out)["files"][0]["keys"] == 1, name
    for name, record in (
        ("a member twice", b"\x02" + key + b"\x02" + b"\x01m" + b"\x01m"),
        ("a score that is none", b"\x05" + key + b"\x01" + b"\x01m" + bytes.fromhex("000000000000f87f")),
        ("an unknown opcode", b"\xf3"),
        ("an unknown type", b"\x1f" + key),
        ("a module's value cut", b"\x07" + key + module + b"\x09"),
    ):
        (tmp_path / "f").write_bytes(corpus.rdb(record))
        assert run([our_tool("basalt-check-rdb"), "f"], tmp_path).code == 1, name
        if "module" not in name:
            same_as_real(named, tmp_path, "f")


def test_what_valkey_writes_is_read(tmp_path: Path) -> None:
    from support import peer_binary

    if not peer_binary("valkey-server"):
        pytest.skip("no Valkey here")
    with Server("valkey-new", dir=tmp_path) as server, server.client() as client:
        client.cmd("HSET", "h", "f", "v")
        client.cmd("HEXPIRE", "h", 10_000, "FIELDS", 1, "f")
        client.cmd("SET", "s", "v")
        client.cmd("SAVE")
    code, report = check_json(tmp_path, "dump.rdb")
    report = report["files"][0]
    assert code == 0 and report["valkey"] and report["keys"] == 2 and report["field_expires"] == 1
