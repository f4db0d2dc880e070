"""Keyspace notifications: the same commands to a real Redis and to ours, and the events that both publish, one by one.

EVENTS_COMMANDS (default 6000) and EVENTS_SEED change the length and the commands.
"""

import os

import pytest

from differential.generator import Generator, Kind, show
from support import ConnectionClosed, ReplyError, Server, peer_binary

COMMANDS = int(os.environ.get("EVENTS_COMMANDS", "6000"))
SEED = int(os.environ.get("EVENTS_SEED", "7"))
REFERENCES = ("redis", "redis-new") if peer_binary() else ("redis",)
ALL_CLASSES = "KEAmn"
BATCH = 200
# They look at other keys in the order of a set.
ANY_ORDER = {b"SORT", b"SORT_RO"}
# Redis looks their keys up before it refuses the call, or as for a write: it tells of other misses.
OTHER_MISSES = {b"XAUTOCLAIM", b"HGETEX"}


class Listening:
    """A server, a connection that changes keys, and one that hears of it."""

    def __init__(self, kind, **directives):
        self.server = Server(kind, notify_keyspace_events=ALL_CLASSES, **directives).start()
        self.client = self.server.client()
        self.client.cmd("DEBUG", "SET-ACTIVE-EXPIRE", "0")
        self.listener = self.server.client()
        self.listener.call("SUBSCRIBE", "marker")
        self.listener.call("PSUBSCRIBE", "__key*@*__:*")

    def send(self, groups):
        """Groups of commands, each with a mark behind it."""
        for group in groups:
            self.client.send_many([*group, ["PUBLISH", "marker", "x"]])

    def events(self, groups):
        """The events of each of the groups that were sent."""
        events, self.refused = [], []
        for group in groups:
            try:
                replies = [self.client.recv() for _ in range(len(group) + 1)]
                self.refused.append(any(map(refuses, replies)))
            except ConnectionClosed:
                raise AssertionError(f"{group}: {self.server.log()[-9000:]}") from None
            heard = []
            while (message := self.listener.recv())[0] != b"message":
                heard.append(tuple(message[2:]))
            events.append(heard)
        return events

    def close(self):
        self.server.close()


def refuses(reply):
    return isinstance(reply, ReplyError) or isinstance(reply, list) and any(map(refuses, reply))


def without_misses(events):
    return [event for event in events if b"keymiss" not in event and event[0].split(b":")[1] != b"keymiss"]


def steps(version):
    generator, seed = Generator(version), SEED
    while True:
        for step in generator.script(seed).steps:
            if step.kind is Kind.PLAIN and step.pause_after is None:
                yield step.commands
        seed += 1


@pytest.mark.parametrize("shards", [1, 2, 8])
@pytest.mark.parametrize("reference_kind", REFERENCES)
def test_publishes_the_same_events_in_the_same_order(reference_kind, shards):
    reference, ours = Listening(reference_kind), Listening("basalt", shards=shards)
    try:
        stream = steps(reference.server.version())
        # Older servers look keys up before they refuse some calls, or do not refuse them.
        older = reference.server.version() < (7, 4)
        heard = 0
        for _ in range(COMMANDS // BATCH):
            batch = [next(stream) for _ in range(BATCH)]
            for one in (reference, ours):
                one.send(batch)
            for at, (group, wanted, got) in enumerate(zip(batch, reference.events(batch), ours.events(batch))):
                if any(command[0].upper() in ANY_ORDER for command in group):
                    wanted, got = sorted(wanted), sorted(got)
                if any(command[0].upper() in OTHER_MISSES for command in group):
                    wanted, got = without_misses(wanted), without_misses(got)
                if got != wanted and not (older and (reference.refused[at] or ours.refused[at])):
                    before = [show(command) for group in batch[max(0, at - 30):at] for command in group]
                    lines = [*before, *(f"> {show(command)}" for command in group)]
                    raise AssertionError("\n".join([*lines, f"redis: {wanted}", f"ours:  {got}"]))
                heard += len(wanted)
        assert heard > COMMANDS
    finally:
        reference.close()
        ours.close()


# What the generator has no forms for; `{...}` keeps keys of one command in one shard or not, alike.
BY_HAND = """
SET a 1 EX 100
SET a 1 KEEPTTL GET
SET a 2 NX
SET b 1 XX
SETEX c 100 v
PSETEX c 100000 v
SETNX c w
SETNX d w
GETSET a x
GETEX a PERSIST
GETEX a EX 100
GETEX a
GETEX none EX 10
GETDEL d
GETDEL d
EXPIRE a -1
SET a 1
EXPIREAT a 1
SET a 1 PX 100000
SET a 1 PXAT 1
GET a
EXISTS none none2
TTL none
TYPE none
OBJECT ENCODING none
OBJECT IDLETIME none
MEMORY USAGE none
STRLEN none
DUMP none
TOUCH none
UNLINK none c
MSET a 1 b 2 c 3 a 4
MSETNX a 1 e 2
MSETNX e 1 f 2
DEL a b none c
RPUSH l a b c d
LMOVE l m LEFT RIGHT
LMOVE l l LEFT RIGHT
RPOPLPUSH l m
LPOP l 5
LMPOP 2 none m LEFT COUNT 10
SADD s a b c
SMOVE s t a
SMOVE s t none
SPOP t
SUNIONSTORE u s none
SINTERSTORE u s none
SINTERSTORE u none none2
SDIFFSTORE u s
HSET h f v g w
HDEL h f g
ZADD z 1 a 2 b 3 c
ZADD z XX INCR 1 a
ZADD z GT 0 a
ZINCRBY z 1 a
ZPOPMIN z
ZMPOP 1 z MAX COUNT 5
ZADD z 1 a
ZUNIONSTORE y 2 z none
ZINTERSTORE y 2 z none
ZRANGESTORE y z 0 -1
ZREMRANGEBYRANK z 0 -1
XREAD STREAMS none 0
XREAD STREAMS none none2 0 $
XADD j 1-1 f v
XREAD STREAMS j none 0 0
XREAD STREAMS none j 0 wrong
XGROUP CREATE j g 0
XREADGROUP GROUP g c STREAMS j >
XREADGROUP GROUP g c STREAMS none >
RENAME y x
RENAME x z
COPY z y
COPY z y REPLACE
COPY z y DB 3
COPY z y DB 3 REPLACE
MOVE z 4
SWAPDB 0 4
FLUSHDB
FLUSHALL
SET k v
SELECT 5
SET k v
GET none
MULTI
SET p 1
INCR p
APPEND p x
LPUSH p y
RENAME p q
PUBLISH marker-of-another-name x
SET q 2
EXEC
SELECT 0
"""


@pytest.mark.parametrize("shards", [1, 2, 8])
@pytest.mark.parametrize("reference_kind", REFERENCES)
def test_publishes_the_events_of_commands_by_hand(reference_kind, shards):
    lines, groups = [line.split() for line in BY_HAND.split("\n") if line], []
    for line in lines:
        if groups and groups[-1][0] == ["MULTI"] and groups[-1][-1] != ["EXEC"]:
            groups[-1].append(line)
        else:
            groups.append([line])
    reference, ours = Listening(reference_kind), Listening("basalt", shards=shards)
    try:
        for one in (reference, ours):
            one.send(groups)
        differing = [(group, wanted, got)
                     for group, wanted, got in zip(groups, reference.events(groups), ours.events(groups))
                     if wanted != got]
        assert not differing, "\n".join(f"{group}\n  redis {wanted}\n  ours  {got}" for group, wanted, got in differing)
    finally:
        reference.close()
        ours.close()


@pytest.mark.parametrize("shards", [1, 2])
def test_keys_that_nobody_asks_for_are_told_to_have_expired(shards):
    with Server("basalt", shards=shards, notify_keyspace_events="Ex") as server:
        client, listener = server.client(), server.client()
        listener.call("PSUBSCRIBE", "*")
        names = {f"key:{n}" for n in range(50)}
        client.pipeline([["SET", name, "v", "PX", 5] for name in names])
        heard = {listener.recv()[3].decode() for _ in names}
        assert heard == names


def test_only_the_classes_that_are_asked_for_are_told():
    with Server("basalt", shards=2) as server:
        client, listener = server.client(), server.client()
        listener.call("PSUBSCRIBE", "*")
        cases = [
            ("", []), ("A", []), ("K$", [b"__keyspace@0__:a"]), ("E$", [b"__keyevent@0__:set"]),
            ("Eg", [b"__keyevent@0__:del"]), ("El", [b"__keyevent@0__:lpush"]), ("En", [b"__keyevent@0__:new"] * 2),
            ("Em", [b"__keyevent@0__:keymiss"]),
            ("KEA", [b"__keyspace@0__:a", b"__keyevent@0__:set", b"__keyspace@0__:l", b"__keyevent@0__:lpush",
                     b"__keyspace@0__:a", b"__keyevent@0__:del"]),
        ]
        for classes, expected in cases:
            client.cmd("FLUSHALL")
            client.cmd("CONFIG", "SET", "notify-keyspace-events", classes)
            client.pipeline([["SET", "a", "1"], ["LPUSH", "l", "x"], ["GET", "none"], ["DEL", "a"], ["PUBLISH", "end", ""]])
            heard = []
            while (channel := listener.recv()[2]) != b"end":
                heard.append(channel)
            assert heard == expected, classes


def test_can_be_changed_inside_a_transaction():
    with Server("basalt", shards=4) as server:
        client, listener = server.client(), server.client()
        listener.call("PSUBSCRIBE", "*")
        client.pipeline([["MULTI"], ["SET", "a", "1"], ["CONFIG", "SET", "notify-keyspace-events", "E$"], ["SET", "b", "1"],
                         ["EXEC"]])
        assert listener.recv()[2:] == [b"__keyevent@0__:set", b"b"]


def test_notifications_go_on_after_a_reload():
    with Server("basalt", shards=2, notify_keyspace_events="KEAn") as server:
        client, listener = server.client(), server.client()
        listener.call("PSUBSCRIBE", "*")
        client.cmd("SET", "a", "1")
        assert [listener.recv()[2] for _ in range(4)][0] == b"__keyspace@0__:a"
        client.cmd("DEBUG", "RELOAD")
        client.cmd("PUBLISH", "end", "")
        assert listener.recv()[2] == b"end", "loaded keys are no news"
        client.cmd("DEL", "a")
        assert listener.recv()[2:] == [b"__keyspace@0__:a", b"del"]




@pytest.mark.parametrize("shards", [1, 2])
def test_evicted_keys_are_told_of(shards):
    with Server("basalt", shards=shards, notify_keyspace_events="Ee", maxmemory_policy="allkeys-random") as server:
        client, listener = server.client(), server.client()
        listener.call("SUBSCRIBE", "__keyevent@0__:evicted")
        client.pipeline([["SET", f"key:{n}", b"x" * 1000] for n in range(2000)])
        used = int(client.cmd("INFO", "memory").split(b"used_memory:")[1].split(b"\r\n")[0])
        client.cmd("CONFIG", "SET", "maxmemory", used)
        client.pipeline([["SET", f"more:{n}", b"x" * 1000] for n in range(500)])
        gone = {listener.recv()[2].decode() for _ in range(100)}
        alive = client.pipeline([["EXISTS", name] for name in gone])
        assert len(gone) == 100 and sum(alive) == 0


@pytest.mark.parametrize("shards", [1, 2, 8])
def test_what_blocked_clients_do_is_told_behind_what_let_them_go_on(shards):
    with Server("basalt", shards=shards, notify_keyspace_events="El") as server:
        client, blocked, listener = server.client(), server.client(), server.client()
        listener.call("PSUBSCRIBE", "*")
        for n in range(50):
            blocked.send("BLMOVE", f"from:{n}", f"to:{n}", "LEFT", "RIGHT", 0)
            while b"cmd=blmove" not in (listed := client.cmd("CLIENT", "LIST")) or b"flags=b" not in listed:
                pass
            client.cmd("RPUSH", f"from:{n}", "x")
            assert blocked.recv() == b"x"
            heard = [tuple(listener.recv()[2:]) for _ in range(3)]
            from_key, to_key = f"from:{n}".encode(), f"to:{n}".encode()
            assert heard[0] == (b"__keyevent@0__:rpush", from_key)
            assert set(heard[1:]) == {(b"__keyevent@0__:rpush", to_key), (b"__keyevent@0__:lpop", from_key)}
