"""Known keys, sent to a server as fast as it takes them.

The SET commands of a dataset are written to a file once and sent from there by the kernel, so that filling
costs this process next to nothing and takes every server the same way. Values are random base64: LZF, which
is on by default in RDB files, finds nothing to gain in them.
"""

from __future__ import annotations

import base64
import os
import random
import socket
import threading
from dataclasses import dataclass
from pathlib import Path

REPLY = b"+OK\r\n"
POOL = base64.b64encode(random.Random(20).randbytes(3 << 18))
# Odd, and no simple fraction of the pool's size: consecutive values start far apart.
STRIDE = 389_171
KEYS_PER_CHUNK = 8192


class FillError(Exception):
    """The server refused a command, or closed the connection, while it was being filled."""


@dataclass(frozen=True)
class Dataset:
    key_count: int
    value_bytes: int
    key_format: str  # with one integer in it, from 0 to key_count - 1

    def command(self, index: int, value_seed: int | None = None) -> bytes:
        key = self.key_format % index
        start = (index if value_seed is None else value_seed) * STRIDE % (len(POOL) - self.value_bytes)
        value = POOL[start : start + self.value_bytes]
        return b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
            len(key), key.encode(), self.value_bytes, value)

    def send_to(self, port: int, folder: Path) -> None:
        """Returns when the last reply has arrived. The commands are kept in `folder` for the next time."""
        path = self._file(folder)
        with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
            reader = _ReplyCounter(connection, self.key_count)
            reader.start()
            try:
                with open(path, "rb") as commands:
                    connection.sendfile(commands)
            except OSError as problem:
                reader.join()
                raise FillError(reader.problem or str(problem)) from None
            reader.join()
        if reader.problem:
            raise FillError(reader.problem)

    def _file(self, folder: Path) -> Path:
        name = self.key_format.replace("%", "").replace(":", "")
        path = folder / f"set-{self.key_count}-{self.value_bytes}-{name}"
        if not path.exists():
            partial = path.with_suffix(".partial")
            with open(partial, "wb") as file:
                for first in range(0, self.key_count, KEYS_PER_CHUNK):
                    last = min(first + KEYS_PER_CHUNK, self.key_count)
                    file.write(b"".join([self.command(index) for index in range(first, last)]))
                file.flush()
                os.fsync(file.fileno())  # or it would reach the disk while a server is being measured
            partial.rename(path)
        return path


class _ReplyCounter(threading.Thread):
    """Reads `expected` OK replies; leaves `problem` where anything else comes."""

    def __init__(self, connection: socket.socket, expected: int):
        super().__init__(daemon=True)
        self.connection = connection
        self.bytes_left = expected * len(REPLY)
        self.problem: str | None = None

    def run(self) -> None:
        try:
            while self.bytes_left:
                data = self.connection.recv(1 << 18)
                at = data.find(b"-")
                if at >= 0 or not data:
                    self.problem = data[at : at + 200].decode(errors="replace") or "connection closed"
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.bytes_left -= len(data)
        except OSError as problem:
            self.problem = self.problem or str(problem)
