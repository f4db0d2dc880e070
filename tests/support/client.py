"""A connection to a server: raw bytes or commands out, typed replies in. One thread at a time."""

from __future__ import annotations

import socket
import time
from typing import Iterable, Sequence

from .resp import Parser, ReplyError, encode_command, plain


class ConnectionClosed(Exception):
    """The server closed the connection where a reply was due."""


class Client:
    def __init__(
        self,
        port: int | None = None,
        host: str = "127.0.0.1",
        *,
        path: str | None = None,
        resp: int = 2,
        db: int = 0,
        password: str | None = None,
        timeout: float = 20.0,
    ):
        if path is not None:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(timeout)
            self.sock.connect(path)
        else:
            self.sock = socket.create_connection((host, port), timeout=timeout)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.timeout = timeout
        self._parser = Parser()
        if password is not None:
            self.cmd("AUTH", password)
        if resp != 2:
            self.cmd("HELLO", resp)
        if db:
            self.cmd("SELECT", db)

    # -- bytes ---------------------------------------------------------------------------------
    def send_raw(self, data: bytes) -> None:
        self.sock.sendall(data)

    def send(self, *args: object) -> None:
        """Sends one command, reads nothing."""
        self.sock.sendall(encode_command(*args))

    def send_many(self, commands: Iterable[Sequence[object]]) -> None:
        self.sock.sendall(b"".join(encode_command(*c) for c in commands))

    def recv(self, timeout: float | None = None) -> object:
        """The next reply, typed (pushes included). Raises ConnectionClosed, TimeoutError."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            value = self._parser.next() if self._parser.buffer else Parser.MORE
            if value is not Parser.MORE:
                return value
            self._fill(deadline)

    def _fill(self, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no reply in time")
        self.sock.settimeout(left)
        try:
            data = self.sock.recv(1 << 18)
        except (ConnectionResetError, BrokenPipeError):
            data = b""
        finally:
            self.sock.settimeout(self.timeout)
        if not data:
            raise ConnectionClosed(f"closed with {bytes(self._parser.buffer[:64])!r} unread")
        self._parser.feed(data)

    def closed_by_server(self, timeout: float = 5.0) -> bool:
        """True when the server closes the connection within `timeout` without sending more."""
        try:
            self.recv(timeout)
        except ConnectionClosed:
            return self._parser.idle
        except TimeoutError:
            return False
        return False

    # -- commands ------------------------------------------------------------------------------
    def call(self, *args: object) -> object:
        """One command; the typed reply, an error being a ReplyError value."""
        self.send(*args)
        return self.recv()

    def cmd(self, *args: object) -> object:
        """One command; the reply as everyday Python, an error raised."""
        value = self.call(*args)
        if isinstance(value, ReplyError):
            raise value
        return plain(value)

    def pipeline(self, commands: Iterable[Sequence[object]], batch: int = 500) -> list[object]:
        """Many commands; their typed replies, errors being values."""
        replies: list[object] = []
        commands = list(commands)
        for start in range(0, len(commands), batch):
            part = commands[start : start + batch]
            self.send_many(part)
            replies.extend(self.recv() for _ in part)
        return replies

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
