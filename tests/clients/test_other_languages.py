"""Libraries of JavaScript and Rust, each with tests in its own language (tests/clients/node, tests/clients/rust)."""

from __future__ import annotations

import pytest

from .languages import run_node, run_rust


@pytest.mark.parametrize("file", ["ioredis.test.js", "node-redis.test.js", "bullmq.test.js"])
def test_node(server, file: str) -> None:
    run_node(file, server)


@pytest.mark.parametrize("name", ["redis_rs", "fred"])
def test_rust(server, name: str) -> None:
    run_rust(name, server)
