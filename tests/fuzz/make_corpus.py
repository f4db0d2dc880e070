#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets (tests/fuzz/corpus) from real servers and hand-made payloads.

Servers: ours (BASALT_BIN), Debian's Redis 7.0, and, where PEERS_BIN has them, the newest Redis and Valkey. Run it
when a format grows; what is committed already stays. Names tell where a file comes from.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from support import Client, Server, ServerDied, payloads  # noqa: E402

CORPUS = HERE / "corpus"
KINDS = ["basalt", "redis", "redis-new", "valkey-new"]


def write(target: str, name: str, data: bytes) -> None:
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def fill(client: Client) -> None:
    """A few small keys of each type and encoding, over two databases."""
    for words in [
        ("SET", "int", 5), ("SET", "wide", 1234567), ("SET", "embstr", "text"), ("SET", "raw", "z" * 90),
        ("SET", "expiring", "x", "PXAT", 4102444800000), ("SET", "past", "x"),
        ("RPUSH", "list", "a", 1, -5000, "b" * 70), ("RPUSH", "nodes", *range(20)),
        ("SADD", "intset", 1, 2, 70000), ("SADD", "packed", "a", "b", 3), ("SADD", "table", "w" * 70, "v"),
        ("HSET", "hash", "f", "v", "n", 3), ("HSET", "wide-hash", "f", "v" * 70),
        ("ZADD", "zset", 1, "a", 2.5, "b", "-inf", "c"), ("ZADD", "tree", 1, "m" * 70, 2, "n"),
        ("SELECT", 3), ("SET", "other", "db"), ("SELECT", 0),
    ]:
        client.cmd(*words)
    for key in ("hash", "wide-hash"):  # refused where fields do not expire
        client.cmd("COPY", key, f"{key}-expiring")
        client.call("HPEXPIREAT", f"{key}-expiring", 4102444800000, "FIELDS", 1, "f")


def dumps_and_payloads(kind: str) -> None:
    with Server(kind, shards=2, list_max_listpack_size=8).start() as server, server.client() as client:
        fill(client)
        client.cmd("SAVE")
        write("rdb", f"{kind}-all", (server.dir / "dump.rdb").read_bytes())
        version = 1 if kind == "valkey-new" else 0
        for key in client.cmd("KEYS", "*"):
            body = payloads.body_of(client.cmd("DUMP", key))
            write("dump", f"{kind}-{key.decode()}", bytes([version]) + body)
        for directive in ("rdbcompression", "rdbchecksum"):
            client.call("CONFIG", "SET", directive, "no")
        for key in ("list", "hash", "zset", "intset"):
            client.cmd("FLUSHALL")
            fill(client)
            for other in client.cmd("KEYS", "*"):
                if other.decode() not in (key, "expiring"):
                    client.cmd("DEL", other)
            client.cmd("SAVE")
            write("rdb", f"{kind}-{key}", (server.dir / "dump.rdb").read_bytes())


def container(folder: Path) -> bytes:
    files = sorted(folder.iterdir(), key=lambda path: path.name)
    return b"".join(b"%%FILE " + path.name.encode() + b"\n" + path.read_bytes() for path in files)


def append_only(kind: str, name: str, **directives: object) -> None:
    try:
        server = Server(kind, appendonly="yes", appendfsync="always", **directives).start()
    except ServerDied:
        return  # a directive that this version does not know
    with server, server.client() as client:
        for key in ("a", "b", "c"):
            client.cmd("SET", key, "1")
        client.cmd("HSET", "h", "f", "v")
        client.cmd("BGREWRITEAOF")
        while b"aof_rewrite_in_progress:1" in client.cmd("INFO", "persistence"):
            time.sleep(0.01)
        for words in [("MULTI",), ("SET", "a", 2), ("SET", "b", 2), ("LPUSH", "l", "x"), ("EXEC",), ("SELECT", 2),
                      ("SET", "d", "4"), ("DEL", "d"), ("SELECT", 0), ("INCR", "a")]:
            client.cmd(*words)
        server.stop()
        data = container(server.dir / "appendonlydir")
        if len(data) > 6000:
            return print(f"{kind} {name}: {len(data)} bytes are too many for a seed")
        write("aof", f"{kind}-{name}", b"\0" + data)
        write("aof", f"{kind}-{name}-renewed", b"\1" + data)
        write("aof", f"{kind}-{name}-crashed", b"\x11" + data)
        manifest = next((server.dir / "appendonlydir").glob("*.manifest")).read_bytes()
        write("manifest", f"{kind}-{name}", manifest)


def by_hand() -> None:
    for name, body in {**payloads.samples(), **payloads.refused()}.items():
        write("dump", f"made-{name}", b"\0" + body)
        if name not in ("set-table", "hash-table", "zset-tree"):
            # A file of an old server: one key, no checksum to be wrong.
            data = b"REDIS0011\xfe\x00" + body[:1] + payloads.string(b"k") + body[1:] + b"\xff" + b"\0" * 8
            write("rdb", f"made-{name}", data)
    write("rdb", "made-version-1", b"REDIS0001\xfe\x00\xfd\xff\xff\xff\x7f\x00\x01k\x01v\xff")
    write("rdb", "made-opcodes", b"REDIS0011\xfa\x01a\x01b\xfe\x01\xfb\x02\x01\xf4\x01\x02\x01"
          b"\xfc" + b"\xff" * 7 + b"\x7f" + b"\xf9\x05\x00\x01k\x01v\xf8\x40\x64\x00\x02k2\xc0\x05\xff" + b"\0" * 8)
    for name, text in {
        "truncated": "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nval",
        "comments": "#TS:1700000000\r\n*1\r\n$4\r\nPING\r\n# a note\r\n*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n",
        "multi": "*1\r\n$5\r\nMULTI\r\n*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n*1\r\n$4\r\nEXEC\r\n",
    }.items():
        write("aof", f"made-{name}", b"\0%%FILE appendonly.aof\n" + text.encode())
    crc = "0123456789abcdef"
    head, seal = "#HEAD 1 {} 2 1 0 " + crc, "#SEAL 1 1 1700000000000 {} {} " + crc
    one, two = ("%%FILE {}.incr.aof\n" + head.replace("{}", str(shard), 1) + "\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"
                "#TXN 7 0,1\r\n*1\r\n$5\r\nMULTI\r\n*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n*1\r\n$4\r\nEXEC\r\n"
                + seal.format(1, "e") + "\r\n*2\r\n$4\r\nINCR\r\n$1\r\nk\r\n" + seal.format(2, policy) + "\r\n"
                for shard, policy in ((0, "a"), (1, "n")))
    for name, text in {
        "transaction": one.format(1) + two.format(2),
        "transaction-half": one.format(1) + two.format(2)[:170],
    }.items():
        for choice in (1, 0x11):
            write("aof", f"made-{name}-{choice}", bytes([choice]) + text.encode())


def texts() -> None:
    conf = (HERE.parents[1] / "config" / "basalt.conf").read_text().splitlines()
    lines = [line.lstrip("# ") for line in conf]
    lines = [line for line in lines if line and line.split()[0].islower() and 2 <= len(line.split()) <= 5]
    for i in range(0, len(lines), 12):
        text = "\n".join(lines[i:i + 12])
        write("config", f"shipped-{i // 12}", b"\2" + text.encode()[:1500])
        write("config", f"shipped-set-{i // 12}", b"\1" + text.encode()[:1500])
    for name, data in {
        "quotes": b'\2requirepass "a\\x41 \\"b\\""\ndir \'/tmp\'\n# note\nsave 60 1 300 10\nsave ""\n',
        "include": b"\2include a\ninclude *\ninclude c\n",
        "user": b"\2user default on nopass sanitize-payload ~* &* +@all\nrename-command FLUSHALL \"\"\n",
        "limits": b"\2client-output-buffer-limit normal 0 0 0 replica 256mb 64mb 60\nmaxmemory 50%\nmaxmemory 100mb\n",
        "args": b"\0--port\n7000\n--save\n60\n1\n--save\n--appendonly yes\n--maxmemory\n1gb",
    }.items():
        write("config", name, data)
    for name, data in {
        "pipeline": b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nPING\r\n*3\r\n$3\r\nSET\r\n$0\r\n\r\n$4\r\n\r\n$1\r\n",
        "inline": b"PING\r\nSET k \"a\\x41 b\"\nECHO 'it\\'s'\r\n\r\n",
        "nothing": b"*0\r\n*-1\r\n\r\n",
        "wrong": b"*1\r\n+a\r\n", "long": b"*1\r\n$16385\r\n", "many": b"*11\r\n$1\r\na\r\n",
    }.items():
        for choice in (0, 1, 2, 0x13):
            write("resp", f"{name}-{choice}", bytes([choice]) + data)
    for name, data in {
        "run": b"\xe8\x03\0\0" + payloads.lzf_run(ord("z"), 1000)[5:],
        "text": b"\x40\0\0\0" + b"the same words, the same words, again and again and again",
        "zeros": b"\0\1\0\0" + bytes(300),
    }.items():
        write("lzf", name, data)
    write("canary", "nothing", b"nothing")
    write("canary-memory", "nothing", b"nothing")


def main() -> None:
    by_hand()
    texts()
    for kind in KINDS:
        try:
            dumps_and_payloads(kind)
        except FileNotFoundError as missing:
            print(f"left out: {missing}")
            continue
        append_only(kind, "plain", shards=2)
        append_only(kind, "commands", shards=2, aof_use_rdb_preamble="no")
        append_only(kind, "timestamps", shards=1, aof_timestamp_enabled="yes")
    total = sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file())
    print(f"{sum(1 for _ in CORPUS.rglob('*'))} files, {total} bytes")


if __name__ == "__main__":
    main()
