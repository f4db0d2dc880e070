"""Messages between connections of different workers: order, limits for slow readers, backlog."""

import re
import time

import pytest

from support import ConnectionClosed, Server

SHARDS = [1, 2, 4]


@pytest.fixture(params=SHARDS)
def server(request):
    with Server("basalt", shards=request.param) as server:
        yield server


def info(client, name):
    found = re.search(rf"^{name}:(\S+)", client.cmd("INFO", "everything").decode(), re.M)
    assert found, f"INFO has no field {name}"
    return int(found.group(1))


def until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.01)


def subscribed(server, *names, command="SUBSCRIBE", resp=2):
    client = server.client(resp=resp)
    client.send(command, *names)
    for _ in names:
        client.recv()
    return client


def test_every_subscriber_gets_every_message_in_the_order_of_its_publisher(server):
    subscribers = [subscribed(server, "a", resp=2 + i % 2) for i in range(6)]
    subscribers += [subscribed(server, "?", command="PSUBSCRIBE") for _ in range(3)]
    publishers = [server.client() for _ in range(4)]
    for publisher_index, publisher in enumerate(publishers):
        publisher.send_many([["PUBLISH", "a", f"{publisher_index} {n}"] for n in range(500)])
    for publisher in publishers:
        assert [publisher.recv() for _ in range(500)] == [9] * 500
    for subscriber in subscribers:
        following = [0] * len(publishers)
        for _ in range(500 * len(publishers)):
            publisher_index, n = map(int, subscriber.recv()[-1].split())
            assert n == following[publisher_index]
            following[publisher_index] += 1


def test_what_is_published_after_a_reply_comes_behind_what_was_published_before(server):
    subscribers = [subscribed(server, "a") for _ in range(4)]
    publishers = [server.client() for _ in range(5)]
    for n in range(600):
        assert publishers[n % len(publishers)].call("PUBLISH", "a", n) == 4
    for subscriber in subscribers:
        assert [int(subscriber.recv()[-1]) for _ in range(600)] == list(range(600))


def test_a_subscription_gets_what_is_published_after_its_confirmation_and_nothing_before(server):
    publisher = server.client()
    others = [subscribed(server, "a") for _ in range(3)]
    for n in range(200):
        publisher.cmd("PUBLISH", "a", "before")
        newcomer = subscribed(server, "a")
        publisher.cmd("PUBLISH", "a", f"during {n}")
        newcomer.send("UNSUBSCRIBE", "a")
        assert newcomer.recv() == [b"message", b"a", f"during {n}".encode()]
        assert newcomer.recv() == [b"unsubscribe", b"a", 0]
        publisher.cmd("PUBLISH", "a", "after")
        assert newcomer.cmd("PING") == b"PONG"
        newcomer.close()
    assert len(others) == 3


def slow_subscriber(server, control, limit):
    control.cmd("CONFIG", "SET", "client-output-buffer-limit", limit)
    return subscribed(server, "a")


def test_a_subscriber_over_its_hard_limit_is_disconnected(server):
    control = server.client()
    slow, quick = slow_subscriber(server, control, "pubsub 2mb 0 0"), subscribed(server, "b")
    message = b"x" * 100_000
    # Sockets take some megabytes before anything stays with the server.
    sent = 0
    while control.call("PUBLISH", "a", message) == 1:
        sent += 1
        assert sent < 1000, "nobody was disconnected"
    assert info(control, "client_output_buffer_limit_disconnections") == 1
    assert control.cmd("PUBLISH", "b", "still there") == 1
    assert quick.recv()[-1] == b"still there"
    with pytest.raises(ConnectionClosed):
        while True:
            slow.recv()


def test_a_subscriber_above_its_soft_limit_for_too_long_is_disconnected(server):
    control = server.client()
    slow = slow_subscriber(server, control, "pubsub 0 200kb 1")
    message = b"x" * 100_000
    for _ in range(300):
        assert control.cmd("PUBLISH", "a", message) == 1
    line = control.cmd("CLIENT", "LIST", "TYPE", "pubsub").decode()
    fields = dict(field.split("=", 1) for field in line.split())
    assert int(fields["omem"]) > 200_000 and int(fields["tot-mem"]) > int(fields["omem"])
    assert int(fields["oll"]) > 10 and fields["events"] == "rw"
    until(lambda: control.cmd("CLIENT", "LIST", "TYPE", "pubsub") == b"")
    assert info(control, "client_output_buffer_limit_disconnections") == 1
    slow.close()


def test_the_limit_of_ordinary_clients_is_theirs(server):
    control = server.client()
    control.cmd("CONFIG", "SET", "client-output-buffer-limit", "normal 1mb 0 0 pubsub 0 0 0")
    control.cmd("SET", "k", b"x" * 400_000)
    reader, subscriber = server.client(), subscribed(server, "a")
    for _ in range(100):
        control.cmd("PUBLISH", "a", b"x" * 100_000)
    reader.send_many([["GET", "k"]] * 100)
    until(lambda: info(control, "client_output_buffer_limit_disconnections") == 1)
    assert control.cmd("PUBLISH", "a", "last") == 1
    for _ in range(100):
        subscriber.recv()
    assert subscriber.recv()[-1] == b"last"
    reader.close()


def test_a_flood_of_messages_waits_at_its_publisher(server):
    """Nothing is dropped, and no more is under way than the named limit."""
    subscribers = [subscribed(server, "a") for _ in range(20)]
    publisher, message, count = server.client(), b"x" * 2000, 4000
    server_memory = info(publisher, "used_memory")
    publisher.send_many([["PUBLISH", "a", message]] * count)
    for subscriber in subscribers:
        for _ in range(count):
            assert subscriber.recv()[-1] == message
    assert [publisher.recv() for _ in range(count)] == [20] * count
    until(lambda: info(publisher, "used_memory") < server_memory + 8_000_000)
