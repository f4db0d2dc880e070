"""Producers, movers and consumers of queues, each with a connection and a thread of its own."""

from __future__ import annotations

import threading

from support import Client, ConnectionClosed, ReplyError, Server, plain

QUEUES = [f"queue:{i}" for i in range(6)]
MOVED = [f"moved:{i}" for i in range(6)]


class Worker(threading.Thread):
    """Runs `work` until the workload is over or the server is gone."""

    def __init__(self, load: "Workload", work):
        super().__init__(daemon=True)
        self.load, self.work, self.problem = load, work, None
        self.client = load.server.client()

    def run(self) -> None:
        try:
            self.work(self.client)
        except TimeoutError:
            self.problem = "no reply came"
        except (ConnectionClosed, OSError):
            if not self.load.killed:
                self.problem = "the connection was closed"
        except Exception as problem:  # reported by `join`
            self.problem = repr(problem)
        finally:
            self.client.close()


class Workload:
    def __init__(self, server: Server):
        self.server = server
        self.killed = False
        self.over = threading.Event()
        self.workers: list[Worker] = []
        # Elements whose push was acknowledged, and those about to be pushed.
        self.pushed: set[bytes] = set()
        self.begun: set[bytes] = set()
        # What each consumer has got, in order.
        self.got: list[list[bytes]] = []

    def start(self, *works) -> None:
        started = [Worker(self, work) for work in works]
        self.workers += started
        for worker in started:
            worker.start()

    def join(self, workers=None, timeout: float = 120) -> None:
        for worker in workers or self.workers:
            worker.join(timeout)
            assert not worker.is_alive(), "a client waits for ever"
            assert worker.problem is None, worker.problem

    # -- what clients do -----------------------------------------------------------------------
    def producer(self, name: str, count: int):
        """Pushes `count` elements: alone, in a transaction, several at once, and by other commands."""

        def work(client: Client) -> None:
            for i in range(count):
                if self.over.is_set():
                    return
                queue = QUEUES[(i * 7 + len(name)) % len(QUEUES)]
                element = f"{name}:{i}".encode()
                self.begun.add(element)
                if i % 5 == 0:
                    other = QUEUES[(i // 5) % len(QUEUES)]
                    second = f"{name}:{i}b".encode()
                    self.begun.add(second)
                    client.send_many([("MULTI",), ("RPUSH", queue, element), ("RPUSH", other, second), ("EXEC",)])
                    replies = [plain(client.recv()) for _ in range(4)]
                    assert isinstance(replies[-1], list), replies
                    self.pushed.add(second)
                elif i % 11 == 0:
                    client.cmd("RPUSH", f"scratch:{name}", element)
                    client.cmd("LMOVE", f"scratch:{name}", queue, "LEFT", "RIGHT")
                else:
                    client.cmd("RPUSH", queue, element)
                self.pushed.add(element)

        return work

    def mover(self, index: int):
        """Moves from one queue to another, which mostly lies in another shard."""

        def work(client: Client) -> None:
            while not self.over.is_set():
                if index % 2:
                    client.cmd("BLMOVE", QUEUES[index], MOVED[index], "LEFT", "RIGHT", 0.05)
                else:
                    client.cmd("BRPOPLPUSH", QUEUES[index], MOVED[index], 0.05)

        return work

    def consumer(self, kind: int):
        """Takes from queues, whichever has something."""
        mine: list[bytes] = []
        self.got.append(mine)
        keys = (QUEUES + MOVED)[kind % 3 :: 2] + MOVED

        def work(client: Client) -> None:
            while True:
                # When all is pushed, what is still there is taken without haste.
                last = self.over.is_set()
                if kind % 3 == 0:
                    reply = client.cmd("BLPOP", *keys, 0.05)
                    elements = reply[1:] if reply else []
                elif kind % 3 == 1:
                    reply = client.cmd("BLMPOP", 0.05, len(keys), *keys, "LEFT", "COUNT", 3)
                    elements = reply[1] if reply else []
                else:
                    reply = client.cmd("BRPOP", *QUEUES, *MOVED, 0.05)
                    elements = reply[1:] if reply else []
                mine.extend(elements)
                if last and not elements:
                    return

        return work

    # -- what is left --------------------------------------------------------------------------
    def left(self) -> list[bytes]:
        with self.server.client() as client:
            keys = client.cmd("KEYS", "*")
            return [element for key in keys for element in client.cmd("LRANGE", key, 0, -1)]


def blocked(client: Client) -> int:
    info = client.cmd("INFO", "clients").decode()
    return int(info.split("blocked_clients:")[1].split("\r")[0])


__all__ = ["Workload", "QUEUES", "MOVED", "ReplyError", "blocked"]
