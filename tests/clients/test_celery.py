"""Celery with the server as broker and result backend: worker processes, chords, retries, a worker that dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

HERE = Path(__file__).resolve().parent
TIMEOUT_S = 90


@pytest.fixture(scope="module")
def tasks(server):
    """The application's module, as a user's code would import it, for this module's server."""
    os.environ["SERVER_PORT"] = str(server.port)
    sys.path.insert(0, str(HERE))
    sys.modules.pop("celery_app", None)
    import celery_app

    yield celery_app
    celery_app.app.close()
    sys.path.remove(str(HERE))
    del sys.modules["celery_app"], os.environ["SERVER_PORT"]


class Worker:
    def __init__(self, name: str, log: Path):
        self.log = log
        # Two processes for the tasks; what workers tell each other is not looked at here.
        command = [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "-c", "2", "-n", name, "-l", "info",
                   "--without-gossip", "--without-mingle"]
        with open(log, "wb") as out:
            self.process = subprocess.Popen(command, cwd=HERE, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
                                            start_new_session=True, env={**os.environ, "C_FORCE_ROOT": "1"})

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


@pytest.fixture(scope="module")
def worker(tasks, tmp_path_factory):
    running = Worker("first", tmp_path_factory.mktemp("celery") / "worker.log")
    yield running
    running.stop()
    if running.process.returncode:
        pytest.fail(running.log.read_text()[-4000:])


def wait(holds, what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_hundreds_of_tasks(tasks, worker) -> None:
    from celery import group

    result = group(tasks.double.s(n) for n in range(300)).apply_async()
    assert result.get(timeout=TIMEOUT_S) == [n * 2 for n in range(300)]
    assert result.successful()


def test_chords_and_chains(tasks, worker) -> None:
    from celery import chain, chord

    chords = [chord([tasks.double.s(n) for n in range(20)], tasks.total.s()).apply_async() for _ in range(5)]
    chained = chain(tasks.double.s(5), tasks.double.s(), tasks.double.s()).apply_async()
    assert [each.get(timeout=TIMEOUT_S) for each in chords] == [380] * 5
    assert chained.get(timeout=TIMEOUT_S) == 40


def test_retries_failures_and_delays(tasks, worker) -> None:
    flaky, broken = tasks.flaky.delay(), tasks.broken.delay()
    late = tasks.double.apply_async((1,), countdown=0.3)
    assert flaky.get(timeout=TIMEOUT_S) >= 3
    with pytest.raises(ValueError, match="as it should"):
        broken.get(timeout=TIMEOUT_S)
    assert broken.state == "FAILURE" and "ValueError" in broken.traceback
    assert late.get(timeout=TIMEOUT_S) == 2
    late.forget()
    with redis.Redis(port=int(tasks.PORT), db=2) as backend:
        assert backend.exists(f"celery-task-meta-{late.id}") == 0


def test_remote_control_and_revoke(tasks, worker) -> None:
    assert "ok" in str(tasks.app.control.ping(timeout=10, limit=1))
    revoked = tasks.double.apply_async((1,), countdown=3600)
    wait(lambda: any(tasks.app.control.inspect(timeout=5, limit=1).scheduled().values()), "the task to be scheduled")
    tasks.app.control.revoke(revoked.id)
    wait(lambda: revoked.id in str(tasks.app.control.inspect(timeout=5, limit=1).revoked()), "the task to be revoked")
    tasks.app.control.purge()


def test_a_task_of_a_killed_worker_is_done_by_another(tasks, worker, tmp_path) -> None:
    """What was taken and not acknowledged is given out again when the visibility time-out is over."""
    worker.stop()
    with redis.Redis(port=int(tasks.PORT), db=1) as broker, tasks.notes() as notes:
        broker.flushdb()  # what was revoked went back to its queue
        victim = Worker("victim", tmp_path / "victim.log")
        try:
            result = tasks.interrupted.delay()
            wait(lambda: notes.get("begun") == "1", "the task to begin")
        finally:
            victim.kill()
        taken = broker.zrange("unacked_index", 0, -1, withscores=True)
        assert len(taken) == 1 and broker.hlen("unacked") == 1
        wait(lambda: time.time() > taken[0][1] + 1.1, "the visibility time-out")
        second = Worker("second", tmp_path / "second.log")
        try:
            assert result.get(timeout=TIMEOUT_S) == "by another worker"
            wait(lambda: broker.zcard("unacked_index") == 0, "the acknowledgement")
        finally:
            second.stop()
