"""redis-py's own idea of each command: its parsing of our replies is what is tested here."""

from __future__ import annotations

import datetime

import pytest
import redis


def test_strings(r: redis.Redis) -> None:
    assert r.set("k", "v") is True
    assert r.set("k", "w", nx=True) is None
    assert r.set("k", "w", xx=True, get=True) == b"v"
    assert r.get("k") == b"w"
    assert r.get("missing") is None
    assert r.append("k", "xyz") == 4
    assert r.getrange("k", 1, 2) == b"xy"
    assert r.setrange("k", 1, "Y") == 4
    assert r.strlen("k") == 4
    assert r.mset({"a": 1, "b": 2.5, "c": b"\x00\xff"}) is True
    assert r.mget("a", "b", "c", "missing") == [b"1", b"2.5", b"\x00\xff", None]
    assert r.msetnx({"a": 1, "new": 2}) is False
    assert (r.incr("a"), r.decr("a", 5), r.incrbyfloat("b", 0.25)) == (2, -3, 2.75)
    assert r.getdel("a") == b"-3"
    assert r.getex("b", ex=100) == b"2.75"
    assert 0 < r.ttl("b") <= 100
    assert r.lcs("k", "k", len=True) == 4
    with pytest.raises(redis.ResponseError, match="value is not an integer or out of range"):
        r.incr("k")


def test_hashes(r: redis.Redis) -> None:
    assert r.hset("h", mapping={"f": "v", "n": 1, "x": 2.5}) == 3
    assert r.hset("h", "f", "w") == 0
    assert r.hget("h", "f") == b"w"
    assert r.hgetall("h") == {b"f": b"w", b"n": b"1", b"x": b"2.5"}
    assert r.hmget("h", "f", "missing") == [b"w", None]
    assert (r.hincrby("h", "n", 4), r.hincrbyfloat("h", "x", 0.5)) == (5, 3.0)
    assert (r.hexists("h", "f"), r.hexists("h", "g")) == (True, False)
    assert (r.hlen("h"), r.hstrlen("h", "f"), r.hsetnx("h", "f", 1)) == (3, 1, 0)
    assert set(r.hkeys("h")) == {b"f", b"n", b"x"}
    assert r.hrandfield("h") in {b"f", b"n", b"x"}
    assert len(r.hrandfield("h", 2)) == 2
    assert r.hdel("h", "f", "n", "x") == 3
    assert r.exists("h") == 0


def test_lists(r: redis.Redis) -> None:
    assert r.rpush("l", "a", "b", "c") == 3
    assert r.lpush("l", "z") == 4
    assert r.lrange("l", 0, -1) == [b"z", b"a", b"b", b"c"]
    assert r.lpop("l") == b"z"
    assert r.rpop("l", 2) == [b"c", b"b"]
    assert r.lpop("missing") is None
    r.rpush("l", *range(10))
    assert r.lindex("l", 1) == b"0"
    assert r.lset("l", 0, "A") is True
    assert r.linsert("l", "before", "0", "new") == 12
    assert r.lpos("l", "3") == 5
    assert r.lrem("l", 0, "new") == 1
    assert r.ltrim("l", 0, 2) is True
    assert r.lmove("l", "m", "LEFT", "RIGHT") == b"A"
    assert r.rpoplpush("l", "m") == b"1"
    assert r.lmpop(2, "nolist", "m", direction="LEFT", count=5) == [b"m", [b"1", b"A"]]
    assert r.llen("l") == 1


def test_sets(r: redis.Redis) -> None:
    assert r.sadd("s", "a", "b", "c") == 3
    assert r.sadd("t", "b", "c", "d") == 3
    assert r.smembers("s") == {b"a", b"b", b"c"}
    assert set(r.sinter("s", "t")) == {b"b", b"c"}
    assert set(r.sunion("s", "t")) == {b"a", b"b", b"c", b"d"}
    assert set(r.sdiff("s", "t")) == {b"a"}
    assert (r.sismember("s", "a"), r.sismember("s", "z")) == (1, 0)
    assert r.smismember("s", ["a", "z"]) == [1, 0]
    assert (r.sinterstore("u", "s", "t"), r.sintercard(2, ["s", "t"])) == (2, 2)
    assert r.smove("s", "t", "a") == 1
    assert r.scard("t") == 4
    assert r.srandmember("t") in {b"a", b"b", b"c", b"d"}
    assert len(r.srandmember("t", -20)) == 20
    assert r.spop("u") in {b"b", b"c"}
    assert r.srem("t", "a", "nothing") == 1


def test_sorted_sets(r: redis.Redis) -> None:
    assert r.zadd("z", {"a": 1, "b": 2.5, "c": float("inf")}) == 3
    assert r.zadd("z", {"a": 5}, gt=True, ch=True) == 1
    assert r.zadd("z", {"a": 1}, incr=True) == 6.0
    assert r.zscore("z", "c") == float("inf")
    assert r.zscore("z", "missing") is None
    assert r.zmscore("z", ["a", "x"]) == [6.0, None]
    assert [tuple(p) for p in r.zrange("z", 0, -1, withscores=True)] == [(b"b", 2.5), (b"a", 6.0), (b"c", float("inf"))]
    assert r.zrange("z", 0, 0, desc=True) == [b"c"]
    assert r.zrangebyscore("z", "-inf", "(6") == [b"b"]
    assert r.zrevrangebyscore("z", "+inf", 0, start=1, num=1) == [b"a"]
    assert (r.zrank("z", "a"), r.zrevrank("z", "a"), r.zrank("z", "x")) == (1, 1, None)
    assert (r.zincrby("z", 0.5, "a"), r.zcount("z", 0, 10), r.zcard("z")) == (6.5, 2, 3)
    assert r.zpopmin("z") in ([(b"b", 2.5)], [b"b", 2.5])  # redis-py: pairs with RESP2, flat with RESP3
    r.zadd("y", {"a": 1, "d": 4})
    assert r.zunionstore("u", ["z", "y"], aggregate="MAX") == 3
    assert r.zinter(["z", "y"]) == [b"a"]
    assert r.zdiff(["y", "z"]) == [b"d"]
    assert r.zremrangebyrank("u", 0, 0) == 1
    r.zadd("lex", dict.fromkeys("abcde", 0))
    assert r.zrangebylex("lex", "[b", "(d") == [b"b", b"c"]
    assert r.zlexcount("lex", "-", "+") == 5


def test_keys_and_expiry(r: redis.Redis) -> None:
    r.set("k", "v")
    assert (r.ttl("k"), r.pttl("k"), r.ttl("missing")) == (-1, -1, -2)
    assert r.expire("k", 100) and 0 < r.ttl("k") <= 100
    assert r.expire("k", 50, gt=True) is False
    assert r.expire("k", datetime.timedelta(hours=1)) is True
    assert 3590 < r.ttl("k") <= 3600
    when = datetime.datetime(2099, 1, 1, tzinfo=datetime.timezone.utc)
    assert r.expireat("k", when) is True
    assert r.expiretime("k") == int(when.timestamp())
    assert r.pexpiretime("k") == int(when.timestamp()) * 1000
    assert r.persist("k") is True and r.ttl("k") == -1
    r.psetex("soon", 20, "v")
    r.set("past", "v", exat=1)
    assert r.exists("k", "past") == 1
    assert r.type("k") == b"string"
    assert r.rename("k", "k2") is True
    with pytest.raises(redis.ResponseError, match="no such key"):
        r.rename("k", "k3")
    assert r.copy("k2", "k3") and not r.copy("k2", "k3") and r.copy("k2", "k3", replace=True)
    payload = r.dump("k3")
    assert r.restore("restored", 100_000, payload) == b"OK"
    assert r.get("restored") == b"v" and 0 < r.pttl("restored") <= 100_000
    with pytest.raises(redis.ResponseError, match="BUSYKEY"):
        r.restore("restored", 0, payload)
    assert r.move("k3", 5) is True
    assert sorted(k for k in r.keys("*") if k != b"soon") == [b"k2", b"restored"]
    assert r.object("encoding", "k2") == b"embstr"
    assert r.memory_usage("k2") > 0
    assert r.touch("k2", "missing") == 1
    assert r.unlink("k2", "restored", "missing") == 2
    wait_until(lambda: r.dbsize() == 0)
    assert r.randomkey() is None


def wait_until(holds, seconds: float = 5.0) -> None:
    import time

    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_scan_iterators(r: redis.Redis) -> None:
    with r.pipeline(transaction=False) as pipe:
        for i in range(3000):
            pipe.set(f"item:{i}", i)
            pipe.hset("hash", f"f{i}", i)
            pipe.sadd("set", f"m{i}")
            pipe.zadd("zset", {f"m{i}": i})
        pipe.execute()
    found = list(r.scan_iter("item:*", count=100))
    assert len(set(found)) == 3000
    assert set(r.scan_iter(_type="HASH")) == {b"hash"}
    assert dict(r.hscan_iter("hash", count=50)) == {b"f%d" % i: b"%d" % i for i in range(3000)}
    assert set(r.sscan_iter("set", match="m1*")) == {b"m%d" % i for i in range(3000) if str(i).startswith("1")}
    assert dict(r.zscan_iter("zset")) == {b"m%d" % i: float(i) for i in range(3000)}


def test_binary_and_big(r: redis.Redis) -> None:
    every_byte = bytes(range(256))
    r.set(every_byte, every_byte * 4)
    assert r.get(every_byte) == every_byte * 4
    assert r.keys() == [every_byte]
    r.set("", "the empty key")
    assert r.get("") == b"the empty key"
    big = bytes(1 << 20) * 24 + b"end"
    assert r.set("big", big) is True
    assert r.get("big") == big
    assert r.strlen("big") == len(big)
    r.hset("h", "big", big)
    assert r.hget("h", "big") == big
    assert r.getrange("big", -3, -1) == b"end"
    many = {f"key:{i}": "x" * 100 for i in range(20_000)}
    assert r.mset(many) is True
    assert r.mget(list(many)) == [b"x" * 100] * 20_000
    r.rpush("l", *range(50_000))
    assert r.lrange("l", 0, -1) == [b"%d" % i for i in range(50_000)]


def test_server_commands(r: redis.Redis, server) -> None:
    assert r.ping() is True
    assert r.echo("hello") == b"hello"
    info = r.info()
    for field in ("redis_version", "connected_clients", "used_memory", "used_memory_human", "total_commands_processed",
                  "keyspace_hits", "role", "rdb_last_save_time", "aof_enabled", "uptime_in_seconds", "process_id"):
        assert field in info, field
    assert info["redis_version"].split(".")[0] == "7"
    assert info["process_id"] == server.pid
    r.set("k", "v", ex=100)
    r.select(3)
    r.set("k", "v")
    r.select(0)
    keyspace = r.info("keyspace")
    assert keyspace["db0"]["keys"] == 1 and keyspace["db0"]["expires"] == 1 and keyspace["db3"]["keys"] == 1
    assert r.config_get("maxmemory*")["maxmemory"] == "0"
    assert r.config_set("hash-max-listpack-entries", 64) is True
    assert r.config_get("hash-max-listpack-entries") == {"hash-max-listpack-entries": "64"}
    assert r.config_set("hash-max-listpack-entries", 128) is True
    assert r.config_resetstat() is True
    assert r.client_setname("tester") is True
    assert r.client_getname() in ("tester", b"tester")
    me = r.client_id()
    mine = next(c for c in r.client_list() if c["id"] == str(me))
    assert mine["name"] == "tester" and mine["db"] == "0" and mine["resp"] in ("2", "3")
    assert r.client_info()["id"] == me
    seconds, micros = r.time()
    assert abs(seconds - datetime.datetime.now().timestamp()) < 60 and 0 <= micros < 1_000_000
    assert r.dbsize() == 1
    assert r.swapdb(0, 3) is True
    assert isinstance(r.lastsave(), datetime.datetime)
    assert r.command_count() > 100
    assert r.command()["get"]["arity"] == 2
    assert r.command_getkeys("MSET", "a", 1, "b", 2) in (["a", "b"], [b"a", b"b"])
    assert r.execute_command("OBJECT", "ENCODING", "k") == b"embstr"
    assert r.execute_command("SET", "k2", "v") in (True, b"OK")
    assert r.flushdb() is True and r.flushall(asynchronous=True) is True


def test_save_and_lastsave(r: redis.Redis) -> None:
    r.set("k", "v")
    before = r.lastsave()
    assert r.save() is True
    assert r.lastsave() >= before
    r.set("k", "w")
    assert r.bgsave()
    wait_until(lambda: not r.info("persistence")["rdb_bgsave_in_progress"], 20)
    persistence = r.info("persistence")
    assert persistence["rdb_last_bgsave_status"] == "ok"
    assert persistence["rdb_changes_since_last_save"] == 0


@pytest.mark.parametrize("call, message", [
    (lambda r: r.execute_command("NOSUCH", "a"), "unknown command"),
    (lambda r: r.execute_command("GET"), "wrong number of arguments"),
    (lambda r: r.lpush("string", "x"), "WRONGTYPE"),
    (lambda r: r.expire("string", 10, nx=True, gt=True), "NX and XX, GT or LT"),
    (lambda r: r.select(99), "DB index is out of range"),
    (lambda r: r.zadd("z", {"a": "x"}), "not a valid float"),
])
def test_errors(r: redis.Redis, call, message: str) -> None:
    r.set("string", "v")
    with pytest.raises(redis.ResponseError, match=message):
        call(r)
    assert r.get("string") == b"v"  # and the connection goes on
