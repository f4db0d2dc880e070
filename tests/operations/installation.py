"""What a page of docs/operations finds: Basalt, and the servers that people come from, installed as units."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .pages import read_page
from support import basalt_binary, free_port, peer_binary, redis_binary

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
DOCS = CHECKOUT / "docs" / "operations"
#: Programs of ours that pages use, beside the server's executable.
OURS = ("basalt-server", "basalt-check-rdb", "basalt-check-aof")


class Installation:
    """What a page finds: Basalt, Redis and, where it is at hand, Valkey as units on one port, each with its directory."""

    def __init__(self, root: Path):
        self.root = root
        self.port = free_port()
        self.bin = root / "bin"
        for folder in ("bin", "run", "etc", "basalt", "redis", "valkey", "backups", "work"):
            (root / folder).mkdir()
        (root / "basalt").chmod(0o750)
        self.units = root / "units.json"
        config = (CHECKOUT / "config" / "basalt.conf").read_text()
        (root / "etc" / "basalt.conf").write_text(config + f"\nport {self.port}\ndir {root}/basalt\nbind 127.0.0.1\nshards 2\n")
        common = ["--port", str(self.port), "--bind", "127.0.0.1"]
        commands = {"basalt": [basalt_binary(), str(root / "etc" / "basalt.conf")],
                    "redis-server": [redis_binary(), *common, "--dir", f"{root}/redis", "--appendonly", "yes"]}
        if valkey := peer_binary("valkey-server"):
            commands["valkey-server"] = [valkey, *common, "--dir", f"{root}/valkey", "--appendonly", "yes"]
            (self.bin / "valkey-server").symlink_to(valkey)
        self.units.write_text(json.dumps({name: {"command": command, "port": self.port, "pid": f"{root}/run/{name}.pid",
                                                 "log": f"{root}/run/{name}.log"} for name, command in commands.items()}))
        self._install()

    def _install(self) -> None:
        for program in OURS:
            path = Path(basalt_binary()).with_name(program)
            if path.exists():
                (self.bin / program).symlink_to(path)
        (self.bin / "systemctl").symlink_to(HERE / "shims" / "systemctl")
        (self.bin / "python3").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        (self.bin / "redis-cli").write_text(f'#!/bin/sh\nexec "{shutil.which("redis-cli")}" -p {self.port} "$@"\n')
        (self.bin / "journalctl").write_text(f'#!/bin/sh\ncat "{self.root}/run/basalt.log"\n')
        for shim in ("python3", "redis-cli", "journalctl"):
            (self.bin / shim).chmod(0o755)

    def environment(self) -> dict[str, str]:
        return {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}", "UNITS": str(self.units), "LC_ALL": "C.UTF-8",
                "BASALT_DIR": f"{self.root}/basalt", "BASALT_CONF": f"{self.root}/etc/basalt.conf", "BACKUPS": f"{self.root}/backups",
                "REDIS_DIR": f"{self.root}/redis", "VALKEY_DIR": f"{self.root}/valkey",
                "BASALT_URL": f"redis://127.0.0.1:{self.port}", "BASALT_SOURCE": str(CHECKOUT)}

    def systemctl(self, *args: str) -> None:
        subprocess.run(["systemctl", *args], env=self.environment(), check=True, timeout=60)

    def configure(self, directive: str, value: str) -> None:
        """For the next start."""
        with open(self.root / "etc" / "basalt.conf", "a") as config:
            config.write(f"{directive} {value}\n")

    def script(self, page: str, name: str) -> Path:
        """A script that a page shows (`file=name`), ready to be run."""
        (block,) = [block for block in read_page(DOCS / page).blocks if block.options.get("file") == name]
        path = self.root / "work" / name
        path.write_text(block.text + "\n")
        path.chmod(0o755)
        return path

    def run(self, *command: object, **options: object) -> subprocess.CompletedProcess:
        return subprocess.run([str(word) for word in command], env=self.environment(), cwd=self.root / "work", capture_output=True,
                              text=True, timeout=120, **options)

    def close(self) -> None:
        """Ends the units that were left running; in peace, so that they leave nothing in shared memory."""
        for name in json.loads(self.units.read_text()):
            subprocess.run(["systemctl", "stop", name], env=self.environment(), timeout=60)
            subprocess.run(["systemctl", "kill", "--signal=SIGKILL", name], env=self.environment(), timeout=60)

    def logs(self) -> str:
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-2500:]}" for path in (self.root / "run").glob("*.log"))
