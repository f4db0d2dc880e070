"""redis-cli and redis-benchmark, the tools that every operator has at hand."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from support import Client, encode_command

CLI = shutil.which("redis-cli")
BENCHMARK = shutil.which("redis-benchmark")


@pytest.fixture(autouse=True)
def empty(server) -> None:
    with server.client() as client:
        client.cmd("FLUSHALL")


def cli(server, *args: str, stdin: str | bytes = b"", timeout: float = 20) -> str:
    data = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run([CLI, "-p", str(server.port), *args], input=data, capture_output=True, timeout=timeout)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def test_commands_and_databases(server) -> None:
    assert cli(server, "SET", "k", "v") == "OK\n"
    assert cli(server, "-n", "3", "SET", "other", "w") == "OK\n"
    assert cli(server, "GET", "k") == "v\n"
    assert cli(server, "-n", "3", "KEYS", "*") == "other\n"
    assert cli(server, "-x", "SET", "input", stdin="from stdin") == "OK\n"
    assert cli(server, "-s", str(server.dir / "s.sock"), "GET", "input") == "from stdin\n"
    assert "ERR unknown command" in cli(server, "NOSUCH")


def test_typed_output(server) -> None:
    cli(server, stdin="HSET h f v\nZADD z 1.5 m\nSADD s x\nRPUSH l a b\n")
    assert cli(server, "--no-raw", "HGETALL", "h") == '1) "f"\n2) "v"\n'
    assert cli(server, "-3", "--no-raw", "HGETALL", "h") == '1# "f" => "v"\n'
    assert cli(server, "-3", "--no-raw", "ZSCORE", "z", "m") == "(double) 1.5\n"
    assert cli(server, "-3", "--no-raw", "SMEMBERS", "s") == '1~ "x"\n'
    assert cli(server, "--no-raw", "GET", "missing") == "(nil)\n"
    assert cli(server, "--csv", "LRANGE", "l", "0", "-1") == '"a","b"\n'
    assert json.loads(cli(server, "--json", "HGETALL", "h")) == {"f": "v"}


def test_script_of_commands(server) -> None:
    out = cli(server, stdin="MULTI\nSET a 1\nINCR a\nEXEC\nSELECT 2\nSET \"quo ted\\n\" 'x y'\nGET \"quo ted\\n\"\n")
    assert out == "OK\nQUEUED\nQUEUED\nOK\n2\nOK\nOK\nx y\n"


def test_inline_protocol(server) -> None:
    with server.client() as client:
        client.send_raw(b"SET inline \"a b\"\r\nGET inline\r\n\r\nPING\r\n")
        assert [client.recv() for _ in range(3)] == [b"OK", b"a b", b"PONG"]


def test_mass_insertion(server) -> None:
    data = b"".join(encode_command("SET", f"key:{i}", "v" * (i % 300)) for i in range(50_000))
    data += b"".join(encode_command("RPUSH", "list", i) for i in range(1000))
    out = cli(server, "--pipe", stdin=data, timeout=60)
    assert "errors: 0, replies: 51000" in out
    with server.client() as client:
        assert client.cmd("DBSIZE") == 50_001


def test_scan_and_big_keys(server) -> None:
    with server.client() as client:
        client.pipeline([("SET", f"str:{i}", "x") for i in range(1000)])
        client.pipeline([("SET", "str:big", "x" * 5000), ("RPUSH", "list:big", *range(300)), ("SADD", "set:big", *range(200)),
                         ("HSET", "hash:big", "f", "v", "g", "w"), ("ZADD", "zset:big", 1, "a", 2, "b", 3, "c")])
    found = cli(server, "--scan", "--pattern", "str:1*").split()
    assert len(found) == len(set(found)) == 111
    report = cli(server, "--bigkeys")
    for line in ("Biggest string found '\"str:big\"' has 5000 bytes", "Biggest   list found '\"list:big\"' has 300 items",
                 "Biggest    set found '\"set:big\"' has 200 members", "Biggest   hash found '\"hash:big\"' has 2 fields",
                 "Biggest   zset found '\"zset:big\"' has 3 members", "1005 keys in the keyspace"):
        assert line in report, report
    assert "Biggest string found '\"str:big\"'" in cli(server, "--memkeys")


def test_stat_and_latency(server) -> None:
    with subprocess.Popen([CLI, "-p", str(server.port), "--stat", "-i", "0.01"], stdout=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline() for _ in range(5)]
        process.terminate()
    assert re.search(r"keys\s+mem\s+clients", lines[1]), lines
    assert re.match(r"\s*0\s+[\d.]+[KMG]", lines[2]), lines
    low, high, average, samples = map(float, cli(server, "--latency", "-i", "1", "--raw").split()[:4])
    assert low <= average <= high and samples > 10


def test_benchmark(server) -> None:
    tests = "ping_inline,ping_mbulk,set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin,lrange_100,mset"
    done = subprocess.run([BENCHMARK, "-p", str(server.port), "-q", "--csv", "-n", "2000", "-r", "1000", "-P", "8", "-c", "10",
                           "-t", tests], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 16, done.stdout
    assert not re.search("error", done.stdout + done.stderr, re.IGNORECASE)


def test_interactive_session_starts(server) -> None:
    """What redis-cli asks for its hints: COMMAND DOCS of everything."""
    docs = json.loads(cli(server, "--json", "COMMAND", "DOCS", "get", "set"))
    assert docs["get"]["arguments"][0]["name"] == "key"
    assert len(json.loads(cli(server, "--json", "COMMAND", "DOCS"))) > 100
