"""Django's and Flask's caches, Django's sessions and RQ's queues, kept in the server."""

from __future__ import annotations

import math

import pytest
import redis


@pytest.fixture(autouse=True)
def empty(server) -> None:
    with redis.Redis(port=server.port) as r:
        r.flushall()


@pytest.fixture
def django_cache(server):
    from django.conf import settings
    from django.core.cache import caches
    from django.test.utils import override_settings

    if not settings.configured:
        settings.configure(SECRET_KEY="of the tests", SESSION_ENGINE="django.contrib.sessions.backends.cache")
    backend = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": f"redis://127.0.0.1:{server.port}/4",
               "KEY_PREFIX": "site", "TIMEOUT": 300}
    with override_settings(CACHES={"default": backend}):
        yield caches["default"]


def test_django_cache(django_cache, server) -> None:
    cache = django_cache
    assert cache.add("k", {"any": ["object", 1.5]}) is True
    assert cache.add("k", "second") is False
    assert cache.get("k") == {"any": ["object", 1.5]}
    assert cache.get("missing", "default") == "default"
    assert cache.get_or_set("made", lambda: "once") == "once"
    cache.set("n", 10)
    assert (cache.incr("n"), cache.decr("n", 5)) == (11, 6)
    with pytest.raises(ValueError):
        cache.incr("missing")
    many = {f"key{i}": i for i in range(500)}
    assert cache.set_many(many, timeout=60) == []
    assert cache.get_many([*many, "missing"]) == many
    assert cache.touch("k", 1000) is True and cache.touch("missing") is False
    with redis.Redis(port=server.port, db=4) as r:
        assert 900 < r.ttl("site:1:k") <= 1000
    cache.set("short", "v", timeout=0.05)
    cache.set("never", "v", timeout=0)
    assert cache.has_key("never") is False
    cache.delete_many(many)
    assert cache.get_many(many) == {}
    cache.set("versioned", "one", version=1)
    cache.incr_version("versioned")
    assert (cache.get("versioned", version=2), cache.get("versioned")) == ("one", None)
    assert cache.delete("k") is True and cache.delete("k") is False
    cache.clear()
    assert cache.get("n") is None


def test_django_sessions(django_cache) -> None:
    from django.contrib.sessions.backends.cache import SessionStore

    session = SessionStore()
    session["user"] = 7
    session.save()
    again = SessionStore(session.session_key)
    assert again["user"] == 7
    again.cycle_key()
    assert not session.exists(session.session_key) and SessionStore(again.session_key)["user"] == 7
    again.flush()
    assert again.session_key is None


def test_flask_caching(server) -> None:
    from flask import Flask
    from flask_caching import Cache

    app = Flask("cached")
    cache = Cache(app, config={"CACHE_TYPE": "RedisCache", "CACHE_REDIS_HOST": "127.0.0.1", "CACHE_REDIS_PORT": server.port,
                               "CACHE_KEY_PREFIX": "flask:", "CACHE_DEFAULT_TIMEOUT": 100})
    calls = []

    @app.route("/page/<name>")
    @cache.cached(timeout=50)
    def page(name: str) -> str:
        calls.append(name)
        return f"page {name}"

    @cache.memoize()
    def power(base: int, exponent: int) -> int:
        calls.append((base, exponent))
        return base ** exponent

    client = app.test_client()
    assert [client.get("/page/a").data for _ in range(3)] == [b"page a"] * 3
    with app.app_context():
        assert [power(2, 10), power(2, 10), power(3, 2)] == [1024, 1024, 9]
        cache.delete_memoized(power, 2, 10)
        assert power(2, 10) == 1024
        assert calls == ["a", (2, 10), (3, 2), (2, 10)]
        assert cache.set_many({"x": 1, "y": [2]}) and cache.get_many("x", "y", "z") == [1, [2], None]
        assert cache.get_dict("x", "z") == {"x": 1, "z": None}
        assert cache.add("x", 5) is False and cache.has("x") and cache.delete("x")
        cache.clear()
    with redis.Redis(port=server.port) as r:
        assert r.keys("flask:*") == []


def test_rq(server) -> None:
    from rq import Queue, Retry, SimpleWorker
    from rq.job import Dependency, Job

    connection = redis.Redis(port=server.port)
    queue = Queue(connection=connection)
    sums = queue.enqueue_many([Queue.prepare_data(sum, ([n, n],)) for n in range(40)])
    last = queue.enqueue(max, [3, 9], depends_on=Dependency(jobs=sums))
    failing = queue.enqueue(math.factorial, -1, retry=Retry(max=2))
    high = Queue("high", connection=connection)
    first = high.enqueue(min, [1, 2])
    assert queue.count == 41 and last.get_status() == "deferred"
    # In this process: what is tried is the queue's bookkeeping, not how a worker forks.
    SimpleWorker([high, queue], connection=connection).work(burst=True, logging_level="ERROR")
    assert [job.return_value() for job in sums] == [2 * n for n in range(40)]
    assert (last.return_value(), first.return_value()) == (9, 1)
    assert failing.get_status() == "failed" and failing.id in queue.failed_job_registry.get_job_ids()
    assert Job.fetch(sums[0].id, connection=connection).ended_at is not None
    assert queue.finished_job_registry.count == 41
    assert queue.empty() == 0
    connection.close()
