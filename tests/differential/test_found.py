"""Short scripts that once told ours from Redis, named after the behaviour that was wrong."""

from __future__ import annotations

import pytest

from .generator import Script, Step
from .runner import Target, run_script
from .test_differential import REFERENCES, TARGETS
from support import split_args

SCRIPTS = {
    "UNWATCH inside a transaction of a connection that watches": """
        WATCH k
        MULTI
        UNWATCH
        SET k v
        EXEC
    """,
    "a transaction of commands about the server itself": """
        WATCH k
        MULTI
        SELECT 1
        SET k v
        CONFIG SET maxmemory-samples 5
        CONFIG RESETSTAT
        CLIENT SETNAME name
        CLIENT GETNAME
        CLIENT KILL ID 999999
        DEBUG SET-ACTIVE-EXPIRE 1
        SWAPDB 0 1
        FLUSHALL
        DBSIZE
        SELECT 0
        EXEC
    """,
    "errors quote what was sent, up to a zero byte": r"""
        NOSUCH "\xff\r\n" "a\x00b"
        "NO\x00SUCH" "\xff"
        OBJECT "a\x00\xff\r\n" k
        EXPIRE k 100 "\x00"
    """,
    "SELECT beyond 32 bits": """
        SELECT 9223372036854775807
        SELECT 2147483647
    """,
    "LSET beyond the end makes room first": """
        CONFIG SET list-max-listpack-size 4
        RPUSH l 1 2 3 4
        LSET l x a
        OBJECT ENCODING l
        LSET l 10 a
        OBJECT ENCODING l
        CONFIG SET list-max-listpack-size -2
    """,
    "ZINCRBY by an option word": """
        ZINCRBY z XX m
        ZINCRBY z incr m
    """,
    "a reload drops the functions before it loads them": r"""
        FUNCTION LOAD REPLACE "#!lua name=OTHER\nredis.register_function('ECHO', function(keys, args) return args end)"
        DEBUG RELOAD
        FCALL ECHO 0 a
        FUNCTION DELETE OTHER
    """,
    "the keys of scripts that promise others than there are": """
        COMMAND GETKEYS EVAL script 2 k
        COMMAND GETKEYS EVAL script 0 k
        COMMAND GETKEYS FCALL f x k
        COMMAND GETKEYS EVAL_RO script 1 k l
    """,
    "COPY keeps the encoding": """
        ZADD z 1 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 2 b
        ZREMRANGEBYRANK z 0 0
        COPY z y
        OBJECT ENCODING y
        SADD s aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa b
        SPOP s 0
        SREM s aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
        COPY s t DB 1
        HSET h aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa b c d
        HDEL h aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
        COPY h g
        OBJECT ENCODING g
    """,
}
SINCE_8 = {
    "HSETEX reads its options one by one": """
        HSETEX f EXAT EXAT 4061550574 FIELDS 1 a b
        HSETEX f EX -1 FNX FIELDS x a b
        HSETEX f EX 99999999999999999 nonsense FIELDS 1 a b
        HSETEX f EX 100 PX nonsense FIELDS 1 a b
    """,
    "HGETEX and HSETEX make room for times also when none is kept": """
        HSET h a 1
        HGETEX h PXAT 1 FIELDS 1 none
        OBJECT ENCODING h
        HSET g a 1
        HGETEX g PXAT 4000000000000 FIELDS 1 none
        OBJECT ENCODING g
        HSET f a 1
        HSETEX f PXAT 1 FIELDS 1 b 1
        OBJECT ENCODING f
        HSET e a 1
        HSETEX e KEEPTTL FIELDS 1 b 1
        OBJECT ENCODING e
        HGETEX e PERSIST FIELDS 1 none
        OBJECT ENCODING e
    """,
}


@pytest.fixture(scope="module", params=REFERENCES)
def servers(request: pytest.FixtureRequest):
    reference, targets = Target.named(request.param), [Target.named(name) for name in TARGETS]
    yield reference, targets
    for target in (reference, *targets):
        target.close()


@pytest.mark.parametrize("resp", [2, 3])
@pytest.mark.parametrize("name", SCRIPTS | SINCE_8)
def test_agrees_now(servers, name: str, resp: int) -> None:
    reference, targets = servers
    version = reference.server.version()
    if name in SINCE_8 and version < (8,):
        pytest.skip("commands of Redis 8")
    commands = [tuple(split_args(line.strip())) for line in (SCRIPTS | SINCE_8)[name].strip().splitlines()]
    script = Script(0, resp, (), (Step(tuple(commands)),))
    found = run_script(reference, targets, script, version)
    assert found is None, f"{found.target}: {found.text}"
