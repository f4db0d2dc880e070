"""What scripts reply, byte for byte as Redis 7.4, in RESP2 and RESP3.

`scripts.lua` has the scripts, each behind a line `--- name`; they run in their order on one connection. What Redis replied
is in `replies.txt`: the name, the protocol and the reply as a Python literal. To renew it with a server of version 7.4:

    RECORD_PORT=6379 python -m pytest tests/scripting
"""

import ast
import os
import re
from pathlib import Path

import pytest
from support import Server

HERE = Path(__file__).resolve().parent
REPLIES = HERE / "replies.txt"
SCRIPTS = re.findall(
    r"^--- (\S+)\n(.*?)\n?(?=^--- |\Z)", (HERE / "scripts.lua").read_text("latin1"), re.MULTILINE | re.DOTALL
)


class Raw:
    """A connection whose replies are bytes."""

    def __init__(self, client, protocol):
        self.socket = client
        self.file = client.makefile("rb")
        if protocol == 3:
            self.cmd("HELLO", "3")

    def cmd(self, *args):
        parts = [b"*%d\r\n" % len(args)]
        for arg in args:
            arg = arg.encode("latin1")
            parts.append(b"$%d\r\n%s\r\n" % (len(arg), arg))
        self.socket.sendall(b"".join(parts))
        return self.reply()

    def reply(self):
        out, left = [], 1
        while left:
            line = self.file.readline()
            assert line, "the server closed the connection"
            out.append(line)
            left -= 1
            kind, rest = line[:1], line[1:-2]
            if kind in b"$=" and int(rest) >= 0:
                out.append(self.file.read(int(rest) + 2))
            elif kind in b"*~>%" and int(rest) > 0:
                left += int(rest) * (2 if kind == b"%" else 1)
        return b"".join(out)


def connect(port, protocol):
    import socket

    client = socket.create_connection(("127.0.0.1", port), timeout=60)
    return Raw(client, protocol)


def replies_of(port, protocol):
    connection = connect(port, protocol)
    connection.cmd("FLUSHALL")
    for name, body in SCRIPTS:
        # Addresses differ from one process to the next.
        yield name, re.sub(rb"0x[0-9a-f]+", b"0x", connection.cmd("EVAL", body, "0"))


def recorded():
    lines = (line.split(" ", 2) for line in REPLIES.read_text().splitlines())
    return {(name, int(protocol)): ast.literal_eval(reply) for name, protocol, reply in lines}


if "RECORD_PORT" in os.environ:

    def test_record():
        lines = [
            f"{name} {protocol} {reply!r}\n"
            for protocol in (2, 3)
            for name, reply in replies_of(int(os.environ["RECORD_PORT"]), protocol)
        ]
        REPLIES.write_text("".join(lines))

else:

    @pytest.mark.parametrize("shards", [1, 2, 8])
    def test_scripts_reply_as_redis(shards):
        expected = recorded()
        assert len(expected) == 2 * len(SCRIPTS) > 200
        with Server("basalt", shards=shards, **{"enable-debug-command": "yes"}) as server:
            for protocol in (2, 3):
                for name, reply in replies_of(server.port, protocol):
                    # The generator's state is the worker's: only one worker has drawn what Redis has.
                    if shards == 1 or not name.startswith("random"):
                        assert reply == expected[name, protocol], (name, protocol)
