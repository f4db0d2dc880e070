"""config/basalt.service and config/Containerfile work: the unit as far as systemd-analyze and its command line go, the container
file by running its steps in a root of our own, since neither systemd nor a container engine can be expected here."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from .test_supervised import Manager
from support import Client, Server, basalt_binary, free_port

CHECKOUT = Path(__file__).resolve().parents[2]
UNIT = CHECKOUT / "config" / "basalt.service"
CONTAINERFILE = CHECKOUT / "config" / "Containerfile"
PATIENCE = 30


# -- the unit --------------------------------------------------------------------------------------------------------------------
def unit() -> configparser.ConfigParser:
    parser = configparser.RawConfigParser(strict=True)
    parser.optionxform = str
    parser.read(UNIT)
    return parser


@pytest.fixture
def analyze() -> str:
    return shutil.which("systemd-analyze") or pytest.skip("systemd-analyze is not installed")


def test_systemd_finds_nothing_wrong_with_the_unit(analyze: str, tmp_path) -> None:
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/usr/local/bin/basalt-server", basalt_binary()))
    done = subprocess.run([analyze, "verify", "--man=no", copy], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    copy.write_text(copy.read_text() + "\n[Service]\nNoSuchDirective=yes\n")
    done = subprocess.run([analyze, "verify", "--man=no", copy], capture_output=True, text=True, timeout=60)
    assert "NoSuchDirective" in done.stderr, "verify would not have noticed"


def test_the_units_command_line_tells_systemd_what_it_waits_for(tmp_path) -> None:
    service = unit()["Service"]
    assert service["Type"] == "notify"
    name = str(tmp_path / "notify")
    manager = Manager(name)
    port, state = free_port(), tmp_path / "state"
    state.mkdir(mode=int(service["StateDirectoryMode"], 8))
    places = {"/usr/local/bin/basalt-server": basalt_binary(), "/etc/basalt/basalt.conf": str(CHECKOUT / "config" / "basalt.conf"),
              f"/var/lib/{service['StateDirectory']}": str(state)}
    words = shlex.split(service["ExecStart"])
    assert set(places) <= set(words)
    command = [places.get(word, word) for word in words] + ["--port", str(port)]
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(command, env={**os.environ, "NOTIFY_SOCKET": name}, cwd="/", stdin=subprocess.DEVNULL, stdout=log,
                                   stderr=log, umask=int(service["UMask"], 8))
    try:
        manager.wait_for("READY=1")
        with Client(port) as client:
            assert client.cmd("SET", "k", "v") == b"OK"
        process.send_signal(signal.SIGTERM)
        manager.wait_for("STOPPING=1")
        assert process.wait(PATIENCE) == 0, (tmp_path / "log").read_text()
    finally:
        process.kill()
    files = [path for path in state.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"dump.rdb", "appendonly.aof.manifest"}
    assert [path for path in files if path.stat().st_mode & 0o077] == []


def test_system_calls_that_the_unit_permits(analyze: str) -> None:
    """What the server cannot do without, and io_uring, are in the unit's set."""
    service = unit()["Service"]
    permitted = syscalls(analyze, service["SystemCallFilter"])
    needed = {"io_uring_setup", "io_uring_enter", "io_uring_register", "epoll_wait", "clone3", "close_range", "fdatasync", "prctl", "wait4",
              "mmap", "setrlimit", "prlimit64", "rename", "sched_getaffinity", "flock", "fallocate"}
    assert needed - permitted == set()


def syscalls(analyze: str, group: str) -> set[str]:
    text = subprocess.run([analyze, "syscall-filter", group], capture_output=True, text=True, timeout=60, check=True).stdout
    names = {line.strip() for line in text.splitlines() if line.startswith(" ") and not line.strip().startswith("#")}
    return {name for name in names if not name.startswith("@")}.union(*(syscalls(analyze, name) for name in names if name.startswith("@")))


# -- the container file ------------------------------------------------------------------------------------------------------------
def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage: (INSTRUCTION, rest), continued lines joined."""
    text = re.sub(r"^#.*\n", "", CONTAINERFILE.read_text(), flags=re.MULTILINE)
    text = re.sub(r"\\\n\s*", " ", text)
    found: list[list[tuple[str, str]]] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        instruction, rest = line.split(None, 1)
        if instruction == "FROM":
            found.append([])
        found[-1].append((instruction, rest.strip()))
    return found


def only(stage: list[tuple[str, str]], instruction: str) -> str:
    (rest,) = [rest for name, rest in stage if name == instruction]
    return rest


def test_the_container_file_says_what_its_users_rely_on() -> None:
    build, final = stages()
    assert build[0][1].endswith(" AS build")
    assert only(final, "STOPSIGNAL") == "SIGTERM"
    assert only(final, "VOLUME") == only(final, "WORKDIR") == "/data"
    assert int(only(final, "USER").split(":")[0]) > 0
    assert "HEALTHCHECK" in dict(final)
    version = re.search(r'^rust-version = "(.*)"', (CHECKOUT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    assert f"/rust:{version}-" in build[0][1]


def test_the_build_stage_copies_what_cargo_needs(tmp_path) -> None:
    """Not the build itself, which takes minutes: that the manifests in the context are complete and that what is copied out of it will be
    there."""
    build, final = stages()
    ignored = [line for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line]
    for source, target in (rest.rsplit(None, 1) for name, rest in build if name == "COPY"):
        for path in source.split():
            assert path not in ignored
            if (CHECKOUT / path).is_dir():
                shutil.copytree(CHECKOUT / path, tmp_path / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(CHECKOUT / path, tmp_path / target)
    done = subprocess.run(["cargo", "metadata", "--no-deps", "--offline", "--format-version", "1"], cwd=tmp_path, capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == 0, done.stderr
    targets = [target for package in json.loads(done.stdout)["packages"] for target in package["targets"]]
    binaries = {target["name"] for target in targets if "bin" in target["kind"]}
    for target in targets:
        assert Path(target["src_path"]).is_file(), target["src_path"]
    taken = {Path(path).name for name, rest in final if name == "COPY" and "--from=build" in rest for path in rest.split()[1:-1]}
    assert taken and taken <= binaries
    assert "--bins" in only(build, "RUN") and "--locked" in only(build, "RUN")


class Root:
    """A file system root with this machine's programs, in which the steps of the final stage run as they do in an image."""

    def __init__(self, path: Path):
        self.path = path
        for folder in ("etc", "data", "tmp", "proc", "dev", "usr/local", "var", "root"):
            (path / folder).mkdir(parents=True)
        for name in ("bin", "sbin", "lib", "lib64", "lib32"):
            if (Path("/") / name).is_symlink():
                (path / name).symlink_to(os.readlink(Path("/") / name))
            elif (Path("/") / name).is_dir():
                (path / name).mkdir()
        for name in ("passwd", "group", "shadow", "gshadow", "login.defs", "nsswitch.conf", "ld.so.cache"):
            if (Path("/etc") / name).exists():
                shutil.copy(Path("/etc") / name, path / "etc")
        # Not those of this machine: the image's user must not be here already.
        for name in ("passwd", "group", "shadow", "gshadow"):
            lines = (path / "etc" / name).read_text().splitlines()
            (path / "etc" / name).write_text("".join(f"{line}\n" for line in lines if not re.match(r"basalt:|[^:]*:[^:]*:999:", line)))
        (path / "root" / "enter").write_text(self._script())

    def _script(self) -> str:
        lines = ["set -e", f"cd '{self.path}'"]
        folders = ["usr/" + name for name in ("bin", "sbin", "lib", "lib64", "lib32", "share") if (Path("/usr") / name).is_dir()]
        folders += [name for name in ("bin", "sbin", "lib", "lib64") if (Path("/") / name).is_dir() and not (Path("/") / name).is_symlink()]
        for folder in folders:
            lines.append(f"mkdir -p {folder}; mount --bind /{folder} {folder}; mount -o remount,bind,ro {folder}")
        lines += ["mount -t proc proc proc", "mount --rbind /dev dev", 'exec chroot . "$@"']
        return "\n".join(lines) + "\n"

    def command(self, *words: str) -> list[str]:
        """In a mount and a process namespace of its own, where the first process is number 1."""
        return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", str(self.path / "root" / "enter"), *words]

    def run(self, *words: str) -> subprocess.CompletedProcess:
        return subprocess.run(self.command(*words), capture_output=True, text=True, timeout=60)


@pytest.fixture
def root(tmp_path):
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("needs root, to be in a root of its own")
    tmp_path.chmod(0o755)
    found = Root(tmp_path / "root")
    for parent in found.path.parents:
        if parent.stat().st_mode & 0o005 != 0o005 and parent != Path("/"):
            # pytest makes its folders private, and the image's user has to get in. They are ours.
            parent.chmod(parent.stat().st_mode | 0o055)
    done = found.run("true")
    if done.returncode:
        pytest.skip(f"no namespaces here: {done.stderr}")
    return found


def test_the_final_stage_makes_a_container_that_works(root: Root) -> None:
    _, final = stages()
    for instruction, rest in final:
        if instruction == "RUN":
            done = root.run("sh", "-c", rest)
            assert done.returncode == 0, done.stderr
        elif instruction == "COPY":
            words = [word for word in rest.split() if not word.startswith("--")]
            for source in words[:-1]:
                target = root.path / words[-1].lstrip("/")
                target = target / Path(source).name if words[-1].endswith("/") else target
                target.parent.mkdir(parents=True, exist_ok=True)
                if "--from=build" in rest:
                    shutil.copy(Path(basalt_binary()).with_name(Path(source).name), target)
                else:
                    shutil.copy(CHECKOUT / source, target)
    port = free_port()
    user, group = only(final, "USER").split(":")
    entry = json.loads(only(final, "ENTRYPOINT"))
    as_user = ["setpriv", "--reuid", user, "--regid", group, "--clear-groups", "env", "-i", "PATH=/usr/local/bin:/usr/bin:/bin", "sh", "-c",
               f'cd {only(final, "WORKDIR")} && exec "$@"', "sh"]
    with open(root.path / "log", "wb") as log:
        process = subprocess.Popen(root.command(*as_user, *entry, "--port", str(port)), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        check = health_check(final, port)
        deadline = time.monotonic() + PATIENCE
        while subprocess.run(check, capture_output=True).returncode:
            assert process.poll() is None and time.monotonic() < deadline, (root.path / "log").read_text()
            time.sleep(0.05)
        with Client(port) as client:
            assert b"process_id:1\r" in client.cmd("INFO", "server"), "in a container it is the first process"
            assert client.cmd("CONFIG", "GET", "dir") == [b"dir", b"/data"]
            assert b"aof_write_path:write\r" in client.cmd("INFO", "persistence"), "its shared memory may end with it"
            assert client.cmd("SET", "k", "v") == b"OK"
            assert client.cmd("CONFIG", "SET", "requirepass", "secret") == b"OK"
            assert subprocess.run(check, capture_output=True).returncode == 0, "with a password"
        os.kill(server_of(process.pid), getattr(signal, only(final, "STOPSIGNAL")))
        assert process.wait(PATIENCE) == 0, (root.path / "log").read_text()
        assert subprocess.run(check, capture_output=True).returncode != 0
    finally:
        process.kill()
    files = [path for path in (root.path / "data").rglob("*") if path.is_file()]
    assert "dump.rdb" in {path.name for path in files}
    assert {path.stat().st_uid for path in files} == {int(user)}
    with Server("basalt", dir=root.path / "data", appendonly="yes") as server, server.client() as client:
        assert client.cmd("GET", "k") == b"v"


def health_check(final: list[tuple[str, str]], port: int) -> list[str]:
    words = json.loads(only(final, "HEALTHCHECK").split("CMD", 1)[1])
    return [word.replace("/6379", f"/{port}") for word in words]


def server_of(unshare: int) -> int:
    """The process that `unshare` has forked."""
    return int(Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split()[0])
