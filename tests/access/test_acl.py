"""Users: where they are kept, and what becomes of connections when they change. Rules and refusals are conformance files."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from support import Client, ConnectionClosed, ReplyError, Server, ServerDied

PATIENCE = 30
HASH_OF_PW = "30c952fab122c3f9759f02a6d95c3758b246b4fee239957b2d4fee46e26170c4"


def listed(client: Client) -> list[str]:
    return [line.decode() for line in client.cmd("ACL", "LIST")]


def login(server: Server, user: str, password: str = "pw") -> Client:
    client = server.client()
    assert client.cmd("AUTH", user, password) == b"OK"
    return client


def is_closed(client: Client) -> bool:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            client.recv(timeout=0.1)
        except TimeoutError:
            continue
        except ConnectionClosed:
            return True
    return False


def test_a_user_that_is_deleted_is_disconnected_also_while_it_waits():
    with Server(shards=2) as server, server.client() as admin:
        admin.cmd("ACL", "SETUSER", "bob", "on", ">pw", "~*", "&*", "+@all")
        idle, subscribed = login(server, "bob"), login(server, "bob")
        subscribed.cmd("SUBSCRIBE", "channel")
        other = server.client()
        assert admin.cmd("ACL", "DELUSER", "bob") == 1
        assert is_closed(idle) and is_closed(subscribed)
        assert other.cmd("PING") == b"PONG"
        # One that deletes its own user is told so first.
        admin.cmd("ACL", "SETUSER", "carl", "on", ">pw", "+@all")
        carl = login(server, "carl")
        assert carl.cmd("ACL", "DELUSER", "carl") == 1
        assert is_closed(carl)


def test_subscribers_are_disconnected_when_their_channels_are_taken():
    with Server(shards=3) as server, server.client() as admin:
        admin.cmd("ACL", "SETUSER", "bob", "on", ">pw", "&news*", "&*.log", "+@all")
        to = {}
        for name, command in (("news", "SUBSCRIBE"), ("news*", "PSUBSCRIBE"), ("a.log", "SSUBSCRIBE"), ("*.log", "PSUBSCRIBE")):
            to[name] = login(server, "bob")
            to[name].cmd(command, name)
        # What it may still receive it goes on receiving.
        admin.cmd("ACL", "SETUSER", "bob", "resetchannels", "&news*")
        assert is_closed(to["a.log"]) and is_closed(to["*.log"])
        assert admin.cmd("PUBLISH", "news", "x") == 2
        assert to["news"].recv() == [b"message", b"news", b"x"]
        # A pattern is only covered by itself or by all channels.
        admin.cmd("ACL", "SETUSER", "bob", "resetchannels", "&n*")
        assert is_closed(to["news*"])
        assert admin.cmd("PUBLISH", "news", "y") == 1


@pytest.mark.parametrize("shards", [1, 2, 8])
def test_changes_hold_for_who_is_logged_in_already(shards: int):
    with Server(shards=shards) as server, server.client() as admin:
        admin.cmd("ACL", "SETUSER", "bob", "on", ">pw", "~a*", "+@all")
        bobs = [login(server, "bob") for _ in range(4)]
        for number, bob in enumerate(bobs):
            assert bob.cmd("SET", f"a{number}", number) == b"OK"
        admin.cmd("ACL", "SETUSER", "bob", "resetkeys", "~b*")
        for number, bob in enumerate(bobs):
            # A whole pipeline, so that it would take the way of commands that need no look at the rules.
            replies = bob.pipeline([("SET", f"{key}{number}", number) for key in "abab"])
            assert [isinstance(reply, ReplyError) for reply in replies] == [True, False, True, False]
            assert replies[0].text == "NOPERM No permissions to access a key"
        assert admin.cmd("MGET", "b0", "b3") == [b"0", b"3"]
        # Over several shards too: all keys of a command must be allowed.
        error = bobs[0].call("MSET", "b1", 1, "b2", 2, "c", 3)
        assert isinstance(error, ReplyError) and admin.cmd("GET", "b2") == b"2"


def test_an_acl_file_is_loaded_saved_and_read_at_start(tmp_path: Path):
    file = tmp_path / "users.acl"
    file.write_text("# who may do what\nuser default on nopass ~* &* +@all\n\nuser bob on #" + HASH_OF_PW + " ~a* (~b* +get) +set\n")
    server = Server(dir=tmp_path, aclfile=file, shards=2)
    with server, server.client() as admin:
        bob = login(server, "bob")
        assert bob.cmd("SET", "a", 1) == b"OK"
        admin.cmd("ACL", "SETUSER", "carl", "on", "nopass", "+get", "~*")
        before = listed(admin)
        assert admin.cmd("ACL", "SAVE") == b"OK"
        assert file.read_text() == "".join(f"{line}\n" for line in before)
        # What is wrong is named with its line, and changes nothing.
        kept = file.read_text()
        file.write_text(kept + "user dan +nosuch\nusr x\nuser bob on\n")
        error = admin.call("ACL", "LOAD")
        assert isinstance(error, ReplyError)
        for place in (":4: ", ":5: ", ":6: ", "Unknown command or category name in ACL", "Duplicate user"):
            assert place in error.text, error.text
        assert listed(admin) == before and bob.cmd("SET", "a", 2) == b"OK"
        # Who is no longer there is disconnected; who is unchanged stays.
        file.write_text("".join(line + "\n" for line in kept.splitlines() if "carl" not in line))
        carl = login(server, "carl")
        assert admin.cmd("ACL", "LOAD") == b"OK"
        assert is_closed(carl) and bob.cmd("SET", "a", 3) == b"OK"
        now = listed(admin)
        server.restart()
        with server.client() as again:
            assert listed(again) == now


def test_users_of_the_configuration_and_its_rewriting(tmp_path: Path):
    config = "user bob on >pw ~a* +@all -flushall\nappendonly no\nsave \"\"\nrequirepass secret\n"
    with Server(dir=tmp_path, config=config, shards=2, save=None, appendonly=None) as server:
        with server.client(password="secret") as admin:
            lines = listed(admin)
            assert lines == [f"user bob on sanitize-payload #{HASH_OF_PW} ~a* resetchannels +@all -flushall",
                             f"user default on sanitize-payload #{sha256('secret')} ~* &* +@all"]
            admin.cmd("ACL", "SETUSER", "carl", "on", "nopass", "+get")
            admin.cmd("ACL", "DELUSER", "bob")
            assert admin.cmd("CONFIG", "REWRITE") == b"OK"
            lines = listed(admin)
        text = (tmp_path / "server.conf").read_text()
        assert [line for line in text.splitlines() if line.startswith("user ")] == lines
        server.restart()
        with server.client(password="secret") as admin:
            assert listed(admin) == lines


def sha256(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("config, told", [
    ("port 0\nuser bob +nosuch\n", "server.conf:2: Error in user declaration 'bob', at '+nosuch': Unknown command"),
    ("user bob on\nuser bob off\n", "Duplicate user found"),
    ("user bob (+get\n", "Unmatched parenthesis in acl selector starting at '(+get'"),
    ("aclfile nosuch.acl\n", "nosuch.acl"),
    ("aclfile nosuch.acl\nuser bob on\n", "but not both"),
])
def test_a_start_with_wrong_users_is_refused(tmp_path: Path, config: str, told: str):
    server = Server(dir=tmp_path, config=config)
    with pytest.raises(ServerDied):
        server.start()
    assert told in server.log(), server.log()
    server.close()


def test_protected_mode_and_login_follow_the_default_user():
    with Server(shards=2) as server, server.client() as admin:
        admin.cmd("ACL", "SETUSER", "root", "on", ">pw", "~*", "&*", "+@all")
        root = login(server, "root")
        admin.cmd("ACL", "SETUSER", "default", "off")
        # Who is connected stays; who comes has to log in.
        assert admin.cmd("PING") == b"PONG"
        with server.client() as late:
            error = late.call("PING")
            assert isinstance(error, ReplyError) and error.code == "NOAUTH"
            assert late.cmd("AUTH", "root", "pw") == b"OK" and late.cmd("ACL", "WHOAMI") == b"root"
        assert b"user=root" in root.cmd("CLIENT", "INFO")
        assert root.cmd("CLIENT", "KILL", "USER", "default") == 1
        assert is_closed(admin)
