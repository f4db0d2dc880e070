"""TLS: who may connect and with what, reload of certificates, and that nothing of the protocol is lost on the way."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest
import redis
import redis.asyncio

from support import Client, Simple, ConnectionClosed, ReplyError, Server, ServerDied, free_port, peer_binary
from support.certificates import Authority, Pair

PATIENCE = 30
BACKENDS = ("epoll", "io_uring")
REFUSED = "Unable to update TLS configuration. Check server logs."


@pytest.fixture(scope="module")
def ca(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def own(ca) -> Pair:
    return ca.issue("server")


@pytest.fixture(scope="module")
def visitor(ca) -> Pair:
    return ca.issue("visitor")


def secured(ca: Authority, own: Pair, **directives: object) -> Server:
    """A server with TLS on `tls_port`."""
    plain = free_port()
    tls = {"port": plain, "tls_port": next(at for at in iter(free_port, None) if at != plain), "tls_cert_file": own.cert, "tls_key_file": own.key, "tls_ca_cert_file": ca.file,
           "tls_auth_clients": "no"}
    return Server("basalt", **{**tls, "shards": 2, **directives})


def port(server: Server) -> int:
    return int(server.directives["tls-port"])


def context(ca: Authority, pair: Pair | None = None, **settings: object) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=ca.file)
    if pair:
        made.load_cert_chain(pair.cert, pair.key)
    for name, value in settings.items():
        setattr(made, name, value)
    return made


class Secure(Client):
    """A Client over TLS."""

    def __init__(self, at: int, with_context: ssl.SSLContext, session: ssl.SSLSession | None = None, **options: object):
        super().__init__(at, **options)
        self.sock = with_context.wrap_socket(self.sock, server_hostname="localhost", session=session)

    def _fill(self, deadline: float) -> None:
        try:
            super()._fill(deadline)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as end:
            raise ConnectionClosed(str(end)) from end


def serial(client: Secure) -> int:
    return int(client.sock.getpeercert()["serialNumber"], 16)


def is_let_in(at: int, with_context: ssl.SSLContext) -> bool:
    """A client of TLS 1.3 learns only behind the handshake that its certificate was refused."""
    try:
        return Secure(at, with_context).cmd("PING") == b"PONG"
    except (ssl.SSLError, ConnectionClosed, ConnectionError):
        return False


# -- clients ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("io", BACKENDS)
@pytest.mark.parametrize("version", (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3))
def test_pipelines_and_large_values_arrive_as_they_were_sent(ca, own, io, version):
    with secured(ca, own, io_backend=io) as server:
        client = Secure(port(server), context(ca, minimum_version=version, maximum_version=version))
        assert client.sock.version() == ("TLSv1.2" if version == ssl.TLSVersion.TLSv1_2 else "TLSv1.3")
        seed = random.Random(7)
        values = [seed.randbytes(size) for size in (0, 1, 16383, 16384, 16385, 100_000, 9_000_000)]
        assert client.pipeline([("SET", f"k{i}", v) for i, v in enumerate(values)], batch=3) == [Simple(b"OK")] * len(values)
        for i, value in enumerate(values):
            assert client.cmd("GET", f"k{i}") == value
        # A reply of many pieces, and replies behind it.
        assert client.cmd("MGET", *(f"k{i}" for i in range(len(values)))) == values
        counts = client.pipeline([("INCR", "n")] * 5000 + [("GET", "k6"), ("INCR", "n")], batch=10_000)
        assert counts[:5000] == list(range(1, 5001)) and counts[5000:] == [values[6], 5001]
        # A request that comes byte by byte, a record each.
        for byte in b"*2\r\n$3\r\nGET\r\n$2\r\nk1\r\n":
            client.send_raw(bytes([byte]))
        assert client.recv() == values[1]
        # The other port is not changed by it.
        assert server.client().cmd("GET", "k4") == values[4]


@pytest.mark.parametrize("io", BACKENDS)
def test_many_clients_at_once_and_one_that_does_not_read(ca, own, io):
    value = random.Random(1).randbytes(2_000_000)
    with secured(ca, own, io_backend=io) as server:
        stuck = Secure(port(server), context(ca))
        stuck.cmd("SET", "k", value)
        stuck.send_many([("GET", "k")] * 20)
        with_context = context(ca)
        clients = [Secure(port(server), with_context) for _ in range(40)]
        for turn in range(20):
            for client in clients:
                client.send("INCR", "n")
            for client in clients:
                client.recv()
        assert clients[0].cmd("GET", "n") == b"800"
        assert all(stuck.recv() == value for _ in range(20))
        assert stuck.cmd("PING") == b"PONG"
        # One that reads nothing can be disconnected.
        stuck.send_many([("GET", "k")] * 20)
        address = "%s:%d" % stuck.sock.getsockname()
        assert clients[0].cmd("CLIENT", "KILL", "ADDR", address) == 1
        wait_for(lambda: address not in clients[0].cmd("CLIENT", "LIST").decode())


@pytest.mark.parametrize("io", BACKENDS)
def test_redis_py_over_tls(ca, own, visitor, io):
    with secured(ca, own, io_backend=io, tls_auth_clients="yes", shards=3) as server:
        to = {"port": port(server), "ssl": True, "ssl_ca_certs": str(ca.file), "ssl_certfile": str(visitor.cert),
              "ssl_keyfile": str(visitor.key), "decode_responses": True}
        client = redis.Redis(host="localhost", **to)
        assert client.set("k", "v") and client.get("k") == "v"
        with client.pipeline() as pipe:
            pipe.rpush("l", *range(1000)).lrange("l", 0, -1).hset("h", mapping={"a": 1})
            assert pipe.execute()[1] == [str(n) for n in range(1000)]
        listener = client.pubsub(ignore_subscribe_messages=True)
        listener.subscribe("news")
        listener.get_message(timeout=5)
        client.publish("news", "hello")
        wait_for(lambda: (message := listener.get_message(timeout=1)) and message["data"] == "hello")

        async def use() -> list[object]:
            async with redis.asyncio.Redis(host="localhost", **to) as other:
                popped = asyncio.ensure_future(other.blpop("queue", 20))
                await other.ping()
                await other.rpush("queue", "x")
                return [await popped, await other.get("k")]

        assert asyncio.run(use()) == [("queue", "x"), "v"]


def clis() -> list[str]:
    found = [shutil.which("redis-cli"), peer_binary("redis-cli"), peer_binary("valkey-cli")]
    return [path for path in found if path]


@pytest.mark.parametrize("cli", clis())
def test_the_command_line_client(ca, own, visitor, cli):
    with secured(ca, own, tls_auth_clients="yes") as server:
        line = [cli, "-p", str(port(server)), "--tls", "--cacert", str(ca.file)]
        with_certificate = [*line, "--cert", str(visitor.cert), "--key", str(visitor.key)]

        def run(*command: str) -> subprocess.CompletedProcess:
            return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)

        assert run(*with_certificate, "set", "k", "v").stdout == "OK\n"
        assert run(*with_certificate, "get", "k").stdout == "v\n"
        refused = run(*line, "ping")
        assert "PONG" not in refused.stdout


# -- who may connect -------------------------------------------------------------------------------


@pytest.mark.parametrize("io", BACKENDS)
@pytest.mark.parametrize("wanted", ("no", "optional", "yes"))
def test_certificates_of_clients(ca, own, visitor, tmp_path, io, wanted):
    stranger = Authority(tmp_path, "other").issue("stranger")
    late = ca.issue("late", days=-1)
    with secured(ca, own, io_backend=io, tls_auth_clients=wanted) as server:
        allowed = {name: is_let_in(port(server), context(ca, pair))
                   for name, pair in (("none", None), ("good", visitor), ("stranger", stranger), ("late", late))}
        expected = {
            # A certificate that nobody asked for is not even sent.
            "no": {"none": True, "good": True, "stranger": True, "late": True},
            "optional": {"none": True, "good": True, "stranger": False, "late": False},
            "yes": {"none": False, "good": True, "stranger": False, "late": False},
        }
        assert allowed == expected[wanted]
        if wanted == "yes":
            assert "Error accepting a client connection" in server.log()
        assert server.client().cmd("PING") == b"PONG"


def test_a_directory_of_authorities(ca, own, tmp_path):
    authorities = tmp_path / "authorities"
    authorities.mkdir()
    (authorities / "readme").write_text("nothing of use\n")
    visitors = []
    for name in ("first", "second"):
        authority = Authority(tmp_path, name)
        visitors.append(authority.issue(f"{name}-visitor"))
        shutil.copy(authority.file, authorities)
    outsider = ca.issue("outsider")
    with secured(ca, own, tls_auth_clients="yes", tls_ca_cert_file="", tls_ca_cert_dir=authorities) as server:
        assert all(is_let_in(port(server), context(ca, pair)) for pair in visitors)
        assert not is_let_in(port(server), context(ca, outsider))


def test_without_a_plain_port(ca, own):
    server = secured(ca, own)
    server.directives["port"] = 0
    with pytest.raises(OSError):
        server.spawn()
        wait_for(lambda: "Ready to accept" in server.log())
        Client(server.port)
    with server:
        client = Secure(port(server), context(ca))
        info = client.cmd("INFO", "server").decode()
        assert f"tcp_port:{port(server)}\r\n" in info
        assert f"listener2:name=tls,bind=127.0.0.1,port={port(server)}\r\n" in info
        assert "listener0" not in info
        assert client.cmd("CONFIG", "SET", "port", server.port) == b"OK"
        assert server.client().cmd("CONFIG", "SET", "tls-port", 0) == b"OK"
        with pytest.raises(OSError):
            Client(port(server))
        assert client.cmd("PING") == b"PONG"


# -- what peers do wrong ---------------------------------------------------------------------------


def received_until_closed(sock: socket.socket) -> bytes:
    sock.settimeout(PATIENCE)
    received = b""
    while True:
        try:
            more = sock.recv(4096)
        except ConnectionResetError:
            return received
        if not more:
            return received
        received += more


@pytest.mark.parametrize("io", BACKENDS)
def test_what_is_not_tls_is_refused(ca, own, io):
    with secured(ca, own, io_backend=io) as server, server.client() as watcher:
        for junk in (b"PING\r\n", b"*1\r\n$4\r\nPING\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x02\x00\x00", b"\x16\x03\x01" + b"\xff" * 70_000,
                     bytes(range(256)) * 50):
            with socket.create_connection(("127.0.0.1", port(server))) as sock:
                try:
                    sock.sendall(junk)
                    sock.shutdown(socket.SHUT_WR)
                except (ConnectionResetError, BrokenPipeError):
                    pass
                # An alert or nothing, and the end.
                assert received_until_closed(sock)[:1] in (b"", b"\x15"), junk[:20]
        # TLS on the plain port.
        with pytest.raises((ssl.SSLError, OSError)):
            Secure(server.port, context(ca))
        wait_for(lambda: watcher.cmd("CLIENT", "LIST").decode().count("id=") == 1)
        assert is_let_in(port(server), context(ca))


@pytest.mark.parametrize("io", BACKENDS)
def test_connections_that_end_in_every_way(ca, own, io):
    with secured(ca, own, io_backend=io) as server, server.client() as watcher:
        # In the middle of the handshake.
        half = socket.create_connection(("127.0.0.1", port(server)))
        half.sendall(b"\x16\x03\x01\x02\x00\x01")
        wait_for(lambda: watcher.cmd("CLIENT", "LIST").decode().count("id=") == 2)
        half.close()
        # Politely: both say so.
        polite = Secure(port(server), context(ca))
        assert polite.cmd("PING") == b"PONG"
        polite.sock.unwrap()
        # By QUIT behind other requests: the replies are there, then the server says that nothing follows.
        quitter = Secure(port(server), context(ca, suppress_ragged_eofs=False))
        quitter.send_many([("SET", "k", "v" * 300_000), ("GET", "k"), ("QUIT",)])
        assert [quitter.recv() for _ in range(3)] == [Simple(b"OK"), b"v" * 300_000, Simple(b"OK")]
        quitter.sock.settimeout(PATIENCE)
        assert quitter.sock.recv(1) == b""
        # Rudely, with a request cut in two.
        rude = Secure(port(server), context(ca))
        rude.send_raw(b"*2\r\n$3\r\nGET")
        rude.sock.close()
        # While it waits for a key.
        blocked = Secure(port(server), context(ca))
        blocked.send("BLPOP", "nothing", 0)
        wait_for(lambda: b"blocked_clients:1" in watcher.cmd("INFO", "clients"))
        blocked.sock.close()
        wait_for(lambda: b"blocked_clients:0" in watcher.cmd("INFO", "clients"))
        wait_for(lambda: watcher.cmd("CLIENT", "LIST").decode().count("id=") == 1)


def test_too_many_clients_and_protected_mode(ca, own):
    with secured(ca, own, maxclients=2) as server:
        held = [Secure(port(server), context(ca)) for _ in range(2)]
        assert not is_let_in(port(server), context(ca))
        assert all(client.cmd("PING") == b"PONG" for client in held)
    addresses = [line.split()[1] for line in Path("/proc/net/fib_trie").read_text().splitlines() if "|--" in line]
    outside = next((a for a in addresses if not a.startswith(("127.", "0.")) and not a.endswith((".0", ".255"))), None)
    if outside is None:
        return
    with secured(ca, own, bind=("127.0.0.1", outside)) as server:
        client = Secure(port(server), context(ca), host=outside)
        reply = client.recv()
        assert isinstance(reply, ReplyError) and reply.text.startswith("DENIED")
        assert client.closed_by_server()


# -- reload ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("io", BACKENDS)
def test_certificates_are_replaced_while_serving(ca, own, io):
    first, second = ca.issue("first"), ca.issue("second", rsa_key=True)
    with secured(ca, first, io_backend=io) as server, server.client() as admin:
        before = Secure(port(server), context(ca))
        assert serial(before) == first.serial
        assert admin.cmd("CONFIG", "SET", "tls-cert-file", second.cert, "tls-key-file", second.key) == b"OK"
        after = Secure(port(server), context(ca))
        assert serial(after) == second.serial
        assert before.cmd("PING") == after.cmd("PING") == b"PONG"
        # The same name again, for a file that has changed.
        shutil.copy(own.cert, second.cert)
        shutil.copy(own.key, second.key)
        assert admin.cmd("CONFIG", "SET", "tls-cert-file", second.cert) == b"OK"
        assert serial(Secure(port(server), context(ca))) == own.serial
        # Over TLS itself.
        assert after.cmd("CONFIG", "SET", "tls-key-file", first.key, "tls-cert-file", first.cert) == b"OK"
        assert serial(Secure(port(server), context(ca))) == first.serial
        assert before.cmd("PING") == b"PONG"


@pytest.mark.parametrize("pairs, told", [
    (("tls-cert-file", "nosuchfile"), "Failed to load certificate: nosuchfile"),
    (("tls-key-file", "{visitor}"), "Failed to use certificate"),
    (("tls-key-file", "{cert}"), "Failed to load private key"),
    (("tls-cert-file", ""), "No tls-cert-file configured!"),
    (("tls-key-file", ""), "No tls-key-file configured!"),
    (("tls-ca-cert-file", "{visitor}"), "Failed to configure CA certificate(s) file/directory"),
    (("tls-ca-cert-dir", "/nosuchdir"), "Failed to configure CA certificate(s) file/directory"),
    (("tls-ca-cert-file", ""), "Either tls-ca-cert-file or tls-ca-cert-dir must be specified"),
    (("tls-protocols", "bogus"), "Invalid tls-protocols specified"),
    (("tls-ciphers", "nonsense"), "Failed to configure ciphers"),
    (("tls-ciphersuites", "nonsense"), "Failed to configure ciphersuites"),
    (("tls-session-cache-size", "5", "tls-cert-file", "nosuchfile"), "Failed to load certificate"),
])
def test_what_cannot_be_used_is_refused_and_changes_nothing(ca, own, visitor, pairs, told):
    pairs = [word.format(visitor=visitor.key, cert=own.cert) for word in pairs]
    with secured(ca, own, tls_auth_clients="optional") as server, server.client() as client:
        before = client.cmd("CONFIG", "GET", "tls*")
        reply = client.call("CONFIG", "SET", *pairs)
        assert isinstance(reply, ReplyError) and reply.text.startswith("ERR CONFIG SET failed (possibly related to argument 'tls-")
        assert reply.text.endswith(REFUSED)
        assert told in server.log()
        assert client.cmd("CONFIG", "GET", "tls*") == before
        assert serial(Secure(port(server), context(ca))) == own.serial
    if "session" in pairs[0]:
        return
    # Nor does a server start with it.
    with pytest.raises(ServerDied, match="Failed to configure TLS"):
        secured(ca, own, tls_auth_clients="optional", **{pairs[0]: pairs[1]}).start()


def test_ports_change_while_serving(ca, own, tmp_path):
    with secured(ca, own, tls_port=0) as server, server.client() as client:
        # Without a port nobody looks at files.
        assert client.cmd("CONFIG", "SET", "tls-cert-file", "nosuchfile") == b"OK"
        new = free_port()
        reply = client.call("CONFIG", "SET", "tls-port", new)
        assert isinstance(reply, ReplyError) and reply.text.endswith(REFUSED)
        assert client.cmd("CONFIG", "SET", "tls-cert-file", own.cert, "tls-port", new) == b"OK"
        assert is_let_in(new, context(ca))
        reply = client.call("CONFIG", "SET", "tls-port", server.port)
        assert isinstance(reply, ReplyError) and reply.text.endswith("'tls-port') - Unable to listen on this port. Check server logs.")
        assert is_let_in(new, context(ca)) and server.client().cmd("PING") == b"PONG"
        # Both at once change places.
        assert client.cmd("CONFIG", "SET", "port", new, "tls-port", server.port) == b"OK"
        assert Client(new).cmd("PING") == b"PONG" and is_let_in(server.port, context(ca))
        assert client.cmd("CONFIG", "SET", "bind", "127.0.0.1 -::1") == b"OK"
        assert Client(new).cmd("PING") == b"PONG" and is_let_in(server.port, context(ca))


def test_encrypted_keys(ca, own):
    pair = ca.issue("encrypted", passphrase=b"open sesame")
    with secured(ca, pair, tls_key_file_pass="open sesame") as server, server.client() as client:
        assert serial(Secure(port(server), context(ca))) == pair.serial
        for wrong in ("wrong", ""):
            assert isinstance(client.call("CONFIG", "SET", "tls-key-file-pass", wrong), ReplyError)
        assert "cannot be decrypted" in server.log() and "there is no tls-key-file-pass" in server.log()
        assert "sesame" not in server.log()


# -- versions, ciphers, sessions -------------------------------------------------------------------


def test_versions_and_ciphers_are_those_configured(ca, own):
    def speaks(**settings: object) -> str | None:
        try:
            return Secure(port(server), context(ca, **settings)).sock.cipher()[0]
        except (ssl.SSLError, OSError):
            return None

    old = {"maximum_version": ssl.TLSVersion.TLSv1_2}
    with secured(ca, own) as server, server.client() as client:
        assert speaks() and speaks(**old)
        client.cmd("CONFIG", "SET", "tls-protocols", "TLSv1.3")
        assert speaks() and not speaks(**old)
        client.cmd("CONFIG", "SET", "tls-protocols", "TLSv1.1 TLSv1.2", "tls-ciphers", "ECDHE-ECDSA-CHACHA20-POLY1305")
        assert speaks() == "ECDHE-ECDSA-CHACHA20-POLY1305"
        client.cmd("CONFIG", "SET", "tls-protocols", "", "tls-ciphersuites", "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384")
        assert speaks() == "TLS_AES_256_GCM_SHA384"
        client.cmd("CONFIG", "SET", "tls-prefer-server-ciphers", "yes")
        assert speaks() == "TLS_AES_128_GCM_SHA256"


@pytest.mark.parametrize("caching", ("yes", "no"))
@pytest.mark.parametrize("version", (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3))
def test_sessions_are_resumed_if_they_are_kept(ca, own, version, caching):
    with secured(ca, own, tls_session_caching=caching, tls_auth_clients="no") as server:
        with_context = context(ca, minimum_version=version, maximum_version=version)
        first = Secure(port(server), with_context)
        assert first.cmd("PING") == b"PONG" and not first.sock.session_reused
        again = Secure(port(server), with_context, session=first.sock.session)
        assert again.cmd("PING") == b"PONG"
        assert again.sock.session_reused == (caching == "yes")


# -- with the rest of the server -------------------------------------------------------------------


@pytest.mark.parametrize("io", BACKENDS)
def test_replies_wait_for_the_disk_also_over_tls(ca, own, io, tmp_path):
    """Under `appendfsync always` with a killed server: what was acknowledged is there."""
    with secured(ca, own, io_backend=io, appendonly="yes", appendfsync="always", dir=tmp_path) as server:
        client = Secure(port(server), context(ca))
        for batch in range(10):
            replies = client.pipeline([("SET", f"{batch}:{n}", n) for n in range(50)] + [("GET", f"{batch}:7")])
            assert replies == [Simple(b"OK")] * 50 + [b"7"]
        server.kill()
        server.start()
        assert server.client().cmd("DBSIZE") == 500


def test_output_limits_and_what_is_counted(ca, own):
    with secured(ca, own) as server, server.client() as admin:
        client = Secure(port(server), context(ca))
        before = stats(admin)
        client.cmd("ECHO", "x" * 100_000)
        after = stats(admin)
        # Plain bytes are counted, as in Redis.
        for name in ("total_net_input_bytes", "total_net_output_bytes"):
            assert 100_000 < after[name] - before[name] < 102_000 + 20_000
        admin.cmd("CONFIG", "SET", "client-output-buffer-limit", "normal 1mb 0 0")
        admin.cmd("SET", "k", "x" * 900_000)
        slow = Secure(port(server), context(ca))
        address = "%s:%d" % slow.sock.getsockname()
        slow.send_many([("GET", "k")] * 200)
        wait_for(lambda: address not in admin.cmd("CLIENT", "LIST").decode())
        assert client.cmd("PING") == b"PONG"


def stats(client: Client) -> dict[str, int]:
    lines = client.cmd("INFO", "stats").decode().splitlines()
    return {name: int(value) for name, _, value in (line.partition(":") for line in lines) if value.isdigit()}


def wait_for(holds) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it does not come to be"
        time.sleep(0.01)
