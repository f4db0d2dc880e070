"""Clients that write what can be checked after a crash, and the check.

A writer is a process with one connection. It sends operations numbered from 1, in pipelines, and
publishes in shared memory how many it sent and how many were acknowledged. Operation n is of kind
n mod the number of kinds and drives that kind's keys one step on, so the keys alone tell how many
operations of each kind took effect: a counter, a list of 1..n, several keys in several shards that
must agree, a transfer between accounts whose sum is always nought, and so on.

After a crash each kind must have come at least as far as was acknowledged and at most as far as
was sent. Keys carry the number of the run ("life") they were written in, so what was found after
one crash must be found after all later ones as well.
"""

from __future__ import annotations

import multiprocessing
import random
import time

from support import Client, ConnectionClosed, ReplyError

ACCOUNTS = 16
PAIR_KEYS = 6
BIG = 3000

_fork = multiprocessing.get_context("fork")


def _transfer(prefix: str, step: int) -> list[tuple]:
    chooser = random.Random(f"{prefix}:{step}")
    source, target = chooser.sample(range(ACCOUNTS), 2)
    amount = chooser.randrange(1, 100)
    return [("MULTI",), ("DECRBY", f"account:{source}", amount), ("INCRBY", f"account:{target}", amount),
            ("INCR", f"{prefix}:transfers"), ("EXEC",)]


def _rename(prefix: str, step: int) -> list[tuple]:
    if step == 1:
        return [("SET", f"{prefix}:name:1", "moved")]
    return [("RENAME", f"{prefix}:name:{step - 1}", f"{prefix}:name:{step}")]


# Each kind: the commands of its step `n` (from 1).
KINDS = {
    "counter": lambda p, n: [("INCR", f"{p}:counter")],
    "list": lambda p, n: [("RPUSH", f"{p}:list", n)],
    "pair": lambda p, n: [("MSET", *(w for i in range(PAIR_KEYS) for w in (f"{p}:pair:{i}", n)))],
    "transfer": _transfer,
    "hash": lambda p, n: [("HSET", f"{p}:hash", f"field:{n}", n, "last", n)],
    "rename": _rename,
    "set": lambda p, n: [("SADD", f"{p}:set", n)],
    "zset": lambda p, n: [("ZADD", f"{p}:zset", n, f"member:{n}")],
    "big": lambda p, n: [("SET", f"{p}:big", f"{n:08}" * (BIG // 8))],
    "database": lambda p, n: [("MULTI",), ("SELECT", 3), ("INCR", f"{p}:database"), ("SELECT", 0), ("EXEC",)],
}
_KIND_LIST = list(KINDS.items())


def steps_of(kind_index: int, operations: int) -> int:
    """How many of the operations 1..operations are of a kind."""
    return (operations - 1 - kind_index) // len(_KIND_LIST) + 1 if operations > kind_index else 0


def _commands(prefix: str, operation: int) -> list[tuple]:
    index = (operation - 1) % len(_KIND_LIST)
    return _KIND_LIST[index][1](prefix, (operation - 1) // len(_KIND_LIST) + 1)


def _write(port: int, prefix: str, depth: int, sent, acknowledged, stop, problems) -> None:
    try:
        client = Client(port)
        operation = 0
        while not stop.is_set():
            batch = [_commands(prefix, operation + 1 + i) for i in range(depth)]
            sent.value = operation + depth
            client.send_many([command for commands in batch for command in commands])
            for commands in batch:
                for command in commands:
                    reply = client.recv()
                    if isinstance(reply, ReplyError):
                        problems.put(f"{prefix}: {command[:2]}: {reply.text}")
                        return
                    if isinstance(reply, list) and any(isinstance(r, ReplyError) for r in reply):
                        problems.put(f"{prefix}: {commands}: {reply}")
                        return
                operation += 1
                acknowledged.value = operation
    except (ConnectionClosed, ConnectionError):
        pass  # The crash.
    except TimeoutError as problem:
        problems.put(f"{prefix}: no reply: {problem!r}")


class Life:
    """The writers of one run of the server, and what they know."""

    def __init__(self, port: int, number: int, writers: int = 3, depths: tuple[int, ...] = (1, 10, 40)):
        self.number = number
        self.prefixes = [f"life:{number}:{i}" for i in range(writers)]
        self.sent = [_fork.RawValue("q", 0) for _ in self.prefixes]
        self.acknowledged = [_fork.RawValue("q", 0) for _ in self.prefixes]
        self._stop = _fork.Event()
        self._problems = _fork.SimpleQueue()
        self._processes = [
            _fork.Process(target=_write, daemon=True, args=(
                port, prefix, depths[i % len(depths)], self.sent[i], self.acknowledged[i], self._stop, self._problems))
            for i, prefix in enumerate(self.prefixes)
        ]
        for process in self._processes:
            process.start()

    def acknowledged_now(self) -> list[int]:
        return [value.value for value in self.acknowledged]

    def wait_for(self, operations: int, timeout: float = 30.0) -> None:
        """Waits until every writer has had so many operations acknowledged."""
        deadline = time.monotonic() + timeout
        while min(self.acknowledged_now()) < operations:
            self.raise_problems()
            if time.monotonic() > deadline:
                raise TimeoutError(f"only {self.acknowledged_now()} of {operations} operations were acknowledged")
            time.sleep(0.002)

    def raise_problems(self) -> None:
        if not self._problems.empty():
            raise AssertionError(self._problems.get())

    def stop(self) -> None:
        """Ends the writers between two pipelines, all of which are acknowledged."""
        self._stop.set()
        self.join()

    def join(self) -> None:
        """Waits for the writers to notice that the server is gone."""
        for process in self._processes:
            process.join(30)
            if process.is_alive():
                process.kill()
                raise AssertionError("a writer did not notice the end of its server")
        self.raise_problems()


def read_back(client: Client, prefix: str) -> dict[str, int]:
    """How far each kind of a writer has come. AssertionError if something is there in part."""
    pairs = [("GET", f"{prefix}:pair:{i}") for i in range(PAIR_KEYS)]
    counter, values, transfers, last, fields, members, scored, big, names, *pair = client.pipeline([
        ("GET", f"{prefix}:counter"), ("LRANGE", f"{prefix}:list", 0, -1), ("GET", f"{prefix}:transfers"),
        ("HGET", f"{prefix}:hash", "last"), ("HGETALL", f"{prefix}:hash"), ("SMEMBERS", f"{prefix}:set"),
        ("ZRANGE", f"{prefix}:zset", 0, -1, "WITHSCORES"), ("GET", f"{prefix}:big"), ("KEYS", f"{prefix}:name:*"), *pairs])
    found = {"counter": int(counter or 0), "transfer": int(transfers or 0)}

    assert [int(v) for v in values] == list(range(1, len(values) + 1)), f"{prefix}: the list has holes"
    found["list"] = len(values)

    assert len({bytes(value) if value else None for value in pair}) == 1, f"{prefix}: half of an MSET: {pair}"
    found["pair"] = int(pair[0] or 0)

    found["hash"] = int(last or 0)
    pairs_of_hash = dict(zip(map(bytes, fields[::2]), map(int, fields[1::2])))
    expected = {f"field:{n}".encode(): n for n in range(1, found["hash"] + 1)}
    if expected:
        expected[b"last"] = found["hash"]
    assert pairs_of_hash == expected, f"{prefix}: the hash has holes"

    assert sorted(map(int, members)) == list(range(1, len(members) + 1)), f"{prefix}: the set has holes"
    found["set"] = len(members)

    scores = [int(score) for score in scored[1::2]]
    assert scores == list(range(1, len(scores) + 1)), f"{prefix}: the sorted set has holes"
    found["zset"] = len(scores)

    found["big"] = int(big[:8]) if big else 0
    assert not big or bytes(big) == f"{found['big']:08}".encode() * (BIG // 8), f"{prefix}: half of a value"

    assert len(names) <= 1, f"{prefix}: a RENAME left both names: {names}"
    found["rename"] = int(names[0].rsplit(b":", 1)[1]) if names else 0

    client.cmd("SELECT", 3)
    found["database"] = int(client.cmd("GET", f"{prefix}:database") or 0)
    client.cmd("SELECT", 0)
    return found


def check_order(life: Life, found: dict[str, dict[str, int]], shards: int) -> None:
    """Within a shard, no operation of a connection is there without its earlier ones, acknowledged or not."""
    for prefix in life.prefixes:
        groups: dict[int, list[int]] = {}
        for index, (name, _) in enumerate(_KIND_LIST):
            if name in ("counter", "list", "hash", "set", "zset", "big", "database"):
                groups.setdefault(_slot(f"{prefix}:{name}") * shards // 16384, []).append(index)
        for kinds in groups.values():
            steps = [found[prefix][_KIND_LIST[kind][0]] for kind in kinds]
            # The operations of these kinds in the order sent: all up to one, and none behind it.
            in_order = all(a >= b for a, b in zip(steps, steps[1:]))
            assert in_order and steps[0] - steps[-1] <= 1, (
                f"{prefix}: {[_KIND_LIST[kind][0] for kind in kinds]} are at {steps}: no prefix of what was sent")


def _slot(key: str) -> int:
    crc = 0
    for byte in key.encode():
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc % 16384


def check_accounts(client: Client) -> None:
    balances = [int(v or 0) for v in client.cmd("MGET", *(f"account:{i}" for i in range(ACCOUNTS)))]
    assert sum(balances) == 0, f"transfers were kept in part: {balances}"


class Ledger:
    """What must be in the data, over the crashes of one server."""

    KEPT_LIVES = 3

    def __init__(self) -> None:
        self.settled: dict[str, dict[str, int]] = {}
        self._lives: list[Life] = []

    def settle(self, client: Client, life: Life, *, loses_tail: bool = False, is_prefix: bool = True,
               at_least: list[int] | None = None) -> None:
        """Checks the data after a crash or stop that ended `life`.

        `loses_tail`: only snapshots were kept, so anything from `at_least` operations on may be
        missing, but what is there must be all operations up to one, for each writer (`is_prefix`).
        """
        check_accounts(client)
        for prefix, known in self.settled.items():
            found = read_back(client, prefix)
            assert found == known, f"{prefix}: what was there after an earlier crash changed: {known} -> {found}"
        for i, prefix in enumerate(life.prefixes):
            found = read_back(client, prefix)
            low = (at_least[i] if at_least else 0) if loses_tail else life.acknowledged[i].value
            high = life.sent[i].value
            for kind, (name, _) in enumerate(_KIND_LIST):
                least, most = steps_of(kind, low), steps_of(kind, high)
                assert least <= found[name] <= most, (
                    f"{prefix}: {name} is at {found[name]}; {least} steps were acknowledged, {most} sent "
                    f"(operations {life.acknowledged[i].value} and {high}): {found}")
            if loses_tail and is_prefix:
                count = sum(found.values())
                expected = {name: steps_of(kind, count) for kind, (name, _) in enumerate(_KIND_LIST)}
                assert found == expected, f"{prefix}: no prefix of what was written: {found}"
            self.settled[prefix] = found
        self._lives.append(life)
        self._forget_old_lives(client)

    def rebase(self, client: Client) -> None:
        """Takes the data as it is: for servers that go back to an older snapshot."""
        self.settled = {prefix: read_back(client, prefix) for prefix in self.settled}

    def _forget_old_lives(self, client: Client) -> None:
        while len(self._lives) > self.KEPT_LIVES:
            for prefix in self._lives.pop(0).prefixes:
                del self.settled[prefix]
                keys = client.cmd("KEYS", f"{prefix}:*")
                if keys:
                    client.cmd("UNLINK", *keys)
