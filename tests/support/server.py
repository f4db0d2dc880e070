"""Starting, killing and restarting servers under test: ours, Debian's Redis, the newest peers.

Each server has a directory, a port of 127.0.0.1 and a log file of its own. Nothing outlives the
test process: what is still running at exit is killed.

Environment:
  BASALT_BIN    our binary (default: target/release/basalt-server of this checkout)
  REDIS_BIN     Redis 7.0 (default: redis-server on PATH)
  PEERS_BIN     folder with the newest redis-server and valkey-server
                (default: .cache/peers/bin of this checkout, then ~/.cache/redis-peers/bin)
  TEST_PORTS    range to take ports from, "22000-22999" (default: the system picks)
"""

from __future__ import annotations

import atexit
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from .client import Client, ConnectionClosed
from .resp import ReplyError

CHECKOUT = Path(__file__).resolve().parents[2]
_running: "set[Server]" = set()
_with_rings: "list[Server]" = []


class ServerDied(Exception):
    """The process ended while it was expected to serve; carries the end of its log."""


def basalt_binary() -> str | None:
    """Our server, or None when it has not been built."""
    path = os.environ.get("BASALT_BIN") or str(CHECKOUT / "target" / "release" / "basalt-server")
    return path if os.access(path, os.X_OK) else None


def redis_binary() -> str | None:
    """Debian's Redis 7.0."""
    return os.environ.get("REDIS_BIN") or shutil.which("redis-server")


def peer_binary(name: str = "redis-server") -> str | None:
    """A program of the newest Redis or Valkey (`valkey-server`, `redis-check-rdb` ...), or None."""
    folders = [os.environ.get("PEERS_BIN"), str(CHECKOUT / ".cache" / "peers" / "bin"),
               str(Path.home() / ".cache" / "redis-peers" / "bin")]
    for folder in filter(None, folders):
        if os.access(os.path.join(folder, name), os.X_OK):
            return os.path.join(folder, name)
    return None


def free_port() -> int:
    """A port of 127.0.0.1 nobody listens on; from TEST_PORTS when that is set."""
    ports = os.environ.get("TEST_PORTS")
    if not ports:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]
    first, last = (int(p) for p in ports.split("-"))
    # Not `random`: processes that were forked a moment ago would draw the same.
    for port in random.SystemRandom().sample(range(first, last + 1), last - first + 1):
        with socket.socket() as probe:
            # As servers do; a port whose last connections are just gone will do.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port in {ports}")


class Server:
    """One server process. `Server("basalt", shards=2, appendonly="yes").start()`.

    `kind` is "basalt", "redis" (7.0), "redis-new", "valkey-new", or the path of a binary.
    Keyword arguments are configuration directives with `_` for `-`; a list or tuple gives several
    words. Defaults: no snapshots, no AOF, DEBUG allowed, 127.0.0.1. `shards` is dropped for
    servers that are not ours. A directive given as None is left out, also a default one.
    """

    def __init__(
        self,
        kind: str = "basalt",
        *,
        dir: str | os.PathLike | None = None,
        port: int | None = None,
        config: str | None = None,
        env: dict[str, str] | None = None,
        **directives: object,
    ):
        self.kind = kind
        self.binary = _binary(kind)
        self.is_basalt = "basalt" in os.path.basename(self.binary)
        self.port = port or free_port()
        self._owns_dir = dir is None
        self.dir = Path(dir or tempfile.mkdtemp(prefix="server-test-"))
        self.dir.mkdir(parents=True, exist_ok=True)
        self.log_path = self.dir / "server.log"
        self.config = config
        self.env = env
        self.directives: dict[str, object] = {
            "bind": "127.0.0.1",
            "save": "",
            "appendonly": "no",
            "enable-debug-command": "yes",
        }
        if self.is_basalt:
            # Rings of killed servers stay in memory until the tests are over.
            self.directives["aof-ring-size"] = "1mb"
            _with_rings.append(self)
        self.directives.update(_dashed(directives))
        if not self.is_basalt:
            for ours in ("shards", "io-backend", "storage-backend", "cross-shard", "aof-write-path", "aof-ring-dir",
                         "aof-ring-size"):
                self.directives.pop(ours, None)
        self.process: subprocess.Popen | None = None

    # -- life ----------------------------------------------------------------------------------
    def command_line(self) -> list[str]:
        line = [self.binary]
        if self.config is not None:
            path = self.dir / "server.conf"
            if not path.exists():
                path.write_text(self.config)
            line.append(str(path))
        line += ["--port", str(self.port), "--dir", str(self.dir)]
        for name, value in self.directives.items():
            if value is None:
                continue
            words = value if isinstance(value, (list, tuple)) else [value]
            line += [f"--{name}", *(str(w) for w in words)]
        return line

    def spawn(self) -> "Server":
        """Starts the process and returns at once."""
        if self.running:
            raise RuntimeError("already running")
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.command_line(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.dir, env={**os.environ, **(self.env or {})}, start_new_session=True,
            )
        _running.add(self)
        return self

    def start(self, timeout: float = 30.0) -> "Server":
        """Starts and waits until PING answers (loading is over)."""
        self.spawn()
        self.wait_ready(timeout)
        return self

    def wait_ready(self, timeout: float = 30.0) -> None:
        deadline = time.monotonic() + timeout
        why = "no connection"
        while time.monotonic() < deadline:
            if not self.running:
                raise ServerDied(f"{self.binary} ended with {self.process.returncode}\n{self.log()[-4000:]}")
            try:
                with Client(self.port, timeout=5.0) as client:
                    reply = client.call("PING")
                if not isinstance(reply, ReplyError) or reply.code == "NOAUTH":
                    return
                why = reply.text
            except (OSError, ConnectionClosed) as problem:
                why = repr(problem)
            time.sleep(0.01)
        raise TimeoutError(f"{self.binary} did not answer PING: {why}\n{self.log()[-4000:]}")

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait_exit(self, timeout: float = 30.0) -> int:
        """Waits for the process to end by itself; its exit status (negative: a signal)."""
        assert self.process is not None
        status = self.process.wait(timeout)
        _running.discard(self)
        return status

    def kill(self) -> None:
        """kill -9, as a crash."""
        if self.running:
            self.signal(signal.SIGKILL)
            self.wait_exit()

    def stop(self, timeout: float = 30.0) -> int | None:
        """SIGTERM; kill -9 and TimeoutError when that does not end it in time."""
        if not self.running:
            return None
        self.signal(signal.SIGTERM)
        try:
            return self.wait_exit(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise TimeoutError(f"{self.binary} ignored SIGTERM\n{self.log()[-4000:]}") from None

    def restart(self, *, crash: bool = False, timeout: float = 30.0, **directives: object) -> "Server":
        """Stops (or kills) and starts again on the same port and directory; directives are updated."""
        if crash:
            self.kill()
        else:
            self.stop()
        self.directives.update(_dashed(directives))
        return self.start(timeout)

    def close(self) -> None:
        """Kills it and deletes its directory, if the directory is its own."""
        self.kill()
        if self._owns_dir:
            self.remove_rings()
            shutil.rmtree(self.dir, ignore_errors=True)

    def rings(self) -> list[Path]:
        """The files in shared memory in which this server's log has its newest bytes."""
        where = Path(str(self.directives.get("aof-ring-dir") or "/dev/shm"))
        return [ring for ring in sorted(where.glob("basalt-*.ring")) if _is_of(ring, self.dir)]

    def remove_rings(self) -> None:
        """What only a start with the same files would do."""
        for ring in self.rings():
            ring.unlink(missing_ok=True)

    def __enter__(self) -> "Server":
        return self if self.running else self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- use -----------------------------------------------------------------------------------
    def client(self, **options: object) -> Client:
        """A new connection; options as for Client (resp=3, db=1, timeout=...)."""
        return Client(self.port, **options)

    def log(self) -> str:
        try:
            return self.log_path.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def version(self) -> tuple[int, ...]:
        """redis_version of INFO."""
        with self.client() as client:
            info = client.cmd("INFO", "server")
        for line in info.decode().splitlines():
            if line.startswith("redis_version:"):
                return tuple(int(p) for p in line.split(":")[1].split(".")[:3] if p.isdigit())
        raise ValueError("INFO without redis_version")


def _binary(kind: str) -> str:
    found = {
        "basalt": basalt_binary,
        "redis": redis_binary,
        "redis-new": lambda: peer_binary("redis-server"),
        "valkey-new": lambda: peer_binary("valkey-server"),
    }.get(kind, lambda: kind)()
    if not found:
        raise FileNotFoundError(f"no binary for {kind}")
    return found


def _is_of(ring: Path, folder: Path) -> bool:
    try:
        with open(ring, "rb") as file:
            return f"\nmanifest {folder.resolve()}/".encode() in file.read(4096)
    except OSError:
        return False


def _dashed(directives: dict[str, object]) -> dict[str, object]:
    return {name.replace("_", "-"): value for name, value in directives.items()}


@atexit.register
def _kill_all() -> None:
    for server in list(_running):
        server.close()
    for server in _with_rings:
        server.remove_rings()
