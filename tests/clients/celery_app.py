"""The Celery application of test_celery.py: imported there and by its workers, configured by the environment."""

import os

import redis
from celery import Celery

PORT = os.environ["SERVER_PORT"]

app = Celery("tasks", broker=f"redis://127.0.0.1:{PORT}/1", backend=f"redis://127.0.0.1:{PORT}/2")
app.conf.update(
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": 1},
    task_acks_late=True,
    worker_prefetch_multiplier=8,
    task_track_started=True,
)


def notes() -> redis.Redis:
    """What tasks leave for the test to see."""
    return redis.Redis(port=int(PORT), db=3, decode_responses=True)


@app.task
def double(n: int) -> int:
    return n * 2


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task(bind=True, max_retries=5)
def flaky(self) -> int:
    tries = notes().incr("tries")
    if tries < 3:
        raise self.retry(countdown=0.01)
    return tries


@app.task
def broken() -> None:
    raise ValueError("as it should")


@app.task
def interrupted() -> str:
    """The first worker that gets it never ends it."""
    with notes() as r:
        if r.incr("begun") == 1:
            r.blpop("never")
    return "by another worker"
