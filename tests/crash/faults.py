"""Faults put around a server under test: writes that begin late or fail, system calls that are forbidden."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from support import basalt_binary

_HERE = Path(__file__).resolve().parent


@functools.cache
def _library() -> str:
    folder = tempfile.mkdtemp(prefix="faults-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = os.path.join(folder, "faults.so")
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", path, str(_HERE / "faults.c"), "-ldl"], check=True)
    return path


def slow_writes(path_part: str, *, percent: int, micros: int) -> dict[str, str]:
    """An environment in which some writes to files with `path_part` in their path wait up to `micros`."""
    return {"LD_PRELOAD": _library(), "FAULT_PATH": path_part,
            "FAULT_SLOW_PERCENT": str(percent), "FAULT_SLOW_MICROS": str(micros)}


def no_direct_io(path_part: str) -> dict[str, str]:
    """An environment in which files with `path_part` in their path cannot be opened past the page cache."""
    return {"LD_PRELOAD": _library(), "FAULT_NO_DIRECT": path_part}


def no_room(path_part: str) -> dict[str, str]:
    """An environment in which no room can be had for files with `path_part` in their path."""
    return {"LD_PRELOAD": _library(), "FAULT_NO_ROOM": path_part}


class BadDisk:
    """Files with `path_part` in their path lie on a disk that a test can fill up, or break."""

    def __init__(self, path_part: str, flags: Path):
        self._flags = flags
        self.environment = {"LD_PRELOAD": _library(), "FAULT_PATH": path_part, "FAULT_FLAGS": str(flags)}

    @contextlib.contextmanager
    def full(self):
        yield from self._while_set("full")

    @contextlib.contextmanager
    def unsynced(self):
        yield from self._while_set("unsynced")

    @contextlib.contextmanager
    def room(self, bytes: int):
        """A folder that is written to has room for so many bytes."""
        part = self._flags / "part"
        part.write_text(str(bytes))
        part.rename(self._flags / "room")
        try:
            yield
        finally:
            (self._flags / "room").unlink()

    @contextlib.contextmanager
    def hanging(self, path_part: str = ""):
        """fdatasync and fsync of the files with this in their path do not end."""
        part = self._flags / "part"
        part.write_text(path_part)
        part.rename(self._flags / "hanging")
        try:
            yield
        finally:
            (self._flags / "hanging").unlink()

    @contextlib.contextmanager
    def failing(self, fault: str):
        """While `full`, `io`, `unsynced`, `names`, `open`, `rename` or `changed`: see faults.c."""
        yield from self._while_set(fault)

    @contextlib.contextmanager
    def full_after(self, length: int):
        """Files can become no longer than this."""
        yield from self._while_set("full", str(length))

    def _while_set(self, flag: str, content: str = ""):
        (self._flags / flag).write_text(content)
        try:
            yield
        finally:
            (self._flags / flag).unlink()


_WITHOUT_IO_URING = """#!/usr/bin/env python3
import ctypes, os, struct, sys
IO_URING = (425, 426, 427)  # setup, enter, register; the same numbers on every architecture
ALLOW, EPERM = 0x7FFF0000, 0x00050001
code = [struct.pack("HBBI", 0x20, 0, 0, 0)]  # load the number of the system call
for at, number in enumerate(IO_URING):
    code.append(struct.pack("HBBI", 0x15, len(IO_URING) - at, 0, number))  # to EPERM, if it is this one
code += [struct.pack("HBBI", 0x06, 0, 0, ALLOW), struct.pack("HBBI", 0x06, 0, 0, EPERM)]
filters = ctypes.create_string_buffer(b"".join(code))
program = struct.pack("HxxxxxxP", len(code), ctypes.addressof(filters))
libc = ctypes.CDLL(None, use_errno=True)
for arguments in ((38, 1, 0, 0, 0), (22, 2, program, 0, 0)):  # NO_NEW_PRIVS; SECCOMP, filter
    if libc.prctl(*arguments) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
os.execv(BINARY, [BINARY, *sys.argv[1:]])
"""


def without_io_uring(folder: Path) -> str:
    """A program that runs our server where io_uring is forbidden, as in many containers."""
    path = folder / "basalt-server-without-io-uring"
    text = _WITHOUT_IO_URING.replace("BINARY, [BINARY", f"{basalt_binary()!r}, [{basalt_binary()!r}")
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)
