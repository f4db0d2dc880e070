"""How scripts and functions run over shards: undeclared keys, slow scripts, what is logged and saved, the sandbox."""

import threading
import time

import pytest
from support import ReplyError, Server, peer_binary

LIBRARY = """#!lua name=lib
local function add(keys, args) return redis.call('INCRBY', keys[1], args[1]) end
redis.register_function('add', add)
redis.register_function{function_name='look', callback=function(keys) return redis.call('GET', keys[1]) end, flags={'no-writes'}}
"""


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come to pass")


@pytest.mark.parametrize("shards", [1, 2, 8])
def test_undeclared_keys_work_and_are_one_transaction(shards):
    with Server("basalt", shards=shards, appendonly="yes") as server, server.client() as client:
        body = "for i = 1, 50 do redis.call('INCR', 'k' .. i) end return redis.call('DBSIZE')"
        assert client.cmd("EVAL", body, "0") == 50
        assert client.cmd("EVAL", body, "1", "k7") == 50
        server.restart(crash=True)
        with server.client() as again:
            assert again.cmd("MGET", "k1", "k50") == [b"2", b"2"]


@pytest.mark.parametrize("shards", [2, 8])
def test_scripts_with_undeclared_keys_side_by_side(shards):
    """Scripts that take further shards in any order, while others hold them: nothing is lost and nothing hangs."""
    rounds = 150
    body = "redis.call('INCR', ARGV[1]) redis.call('INCR', ARGV[2]) return 1"
    with Server("basalt", shards=shards) as server:
        failed = []

        def run(first, second):
            with server.client() as client:
                for _ in range(rounds):
                    try:
                        client.cmd("EVAL", body, "1", first, first, second)
                        client.cmd("MSET", first + "x", "1", second + "x", "1")
                    except ReplyError as error:
                        failed.append(error)

        threads = [threading.Thread(target=run, args=pair) for pair in [("a", "b"), ("b", "a"), ("c", "a"), ("b", "c")]]
        [thread.start() for thread in threads]
        [thread.join(120) for thread in threads]
        assert not any(thread.is_alive() for thread in threads)
        with server.client() as client:
            total = sum(int(client.cmd("GET", key)) for key in "abc")
        # A script that has written and cannot get a shard says so, once: then it has all.
        assert len(failed) <= 4, failed
        assert all("undeclared key" in str(error) for error in failed)
        assert total == 8 * rounds - len(failed)


@pytest.mark.parametrize("shards", [1, 2, 8])
def test_a_slow_script_is_busy_and_can_be_killed(shards):
    with Server("basalt", shards=shards, busy_reply_threshold="100") as server:
        runner, other = server.client(), server.client()
        other.cmd("SET", "k", "v")
        runner.send("EVAL", "while true do pcall(function() error('x') end) end", "1", "k")

        def is_busy():
            try:
                other.cmd("GET", "k")
            except ReplyError as error:
                assert str(error) == (
                    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
                )
                return True
            return False

        wait_for(is_busy)
        # Other shards, and what concerns none, go on.
        assert other.cmd("PING") == b"PONG"
        with pytest.raises(ReplyError, match="BUSY"):
            other.cmd("DBSIZE")
        assert other.cmd("SCRIPT", "KILL") == b"OK"
        assert "Script killed by user with SCRIPT KILL" in str(runner.recv())
        assert other.cmd("GET", "k") == b"v"
        assert runner.cmd("EVAL", "return 1", "0") == 1
        with pytest.raises(ReplyError, match="NOTBUSY"):
            other.cmd("SCRIPT", "KILL")


def test_a_slow_script_that_has_written_cannot_be_killed():
    with Server("basalt", shards=2, appendonly="yes", busy_reply_threshold="50") as server:
        runner, other = server.client(), server.client()
        runner.send("EVAL", "redis.call('SET', KEYS[1], 1) while true do end", "1", "k")

        def is_unkillable():
            try:
                other.cmd("SCRIPT", "KILL")
            except ReplyError as error:
                return str(error).startswith("UNKILLABLE")
            return False

        wait_for(is_unkillable)
        with pytest.raises(ReplyError, match="BUSY"):
            other.cmd("SHUTDOWN")
        try:
            other.cmd("SHUTDOWN", "NOSAVE")
        except Exception:
            pass
        assert server.wait_exit() == 0
        server.spawn()
        server.wait_ready()
        with server.client() as client:
            # Half of a script is nothing.
            assert client.cmd("EXISTS", "k") == 0


def test_a_slow_script_that_writes_ends_as_a_whole():
    with Server("basalt", shards=2, appendonly="yes", busy_reply_threshold="20") as server:
        with server.client() as client:
            body = "for i = 1, 40 do redis.call('INCR', KEYS[1]) local n = 0 while n < 400000 do n = n + 1 end end return redis.call('INCR', KEYS[2])"
            assert client.cmd("EVAL", body, "2", "a", "b") == 1
            assert client.cmd("SET", "a2", "1") == b"OK"
        server.restart(crash=True)
        with server.client() as client:
            assert client.cmd("MGET", "a", "b", "a2") == [b"40", b"1", b"1"]


def test_functions_survive_in_both_kinds_of_files():
    with Server("basalt", shards=2, appendonly="yes") as server:
        with server.client() as client:
            assert client.cmd("FUNCTION", "LOAD", LIBRARY) == b"lib"
            assert client.cmd("FCALL", "add", "1", "n", "5") == 5
        server.restart(crash=True)
        with server.client() as client:
            assert client.cmd("FCALL", "add", "1", "n", "5") == 10
            assert client.cmd("FCALL_RO", "look", "1", "n") == b"10"
            client.cmd("SAVE")
            listed = client.cmd("FUNCTION", "LIST", "WITHCODE")
        server.restart(appendonly="no")
        with server.client() as client:
            assert client.cmd("FUNCTION", "LIST", "WITHCODE") == listed
            payload = client.cmd("FUNCTION", "DUMP")
            stock = peer_binary()
            if stock:
                with Server("redis-new") as redis, redis.client() as other:
                    assert other.cmd("FUNCTION", "RESTORE", payload) == b"OK"
                    theirs = other.cmd("FUNCTION", "DUMP")
                    other.cmd("FUNCTION", "FLUSH")
                    assert other.cmd("FUNCTION", "RESTORE", payload) == b"OK"
                assert theirs


@pytest.mark.parametrize(
    "body, expected",
    [
        # CVE-2025-46817.
        ("return {pcall(unpack, {}, -2147483648, 2147483647)}", [None, b"too many results to unpack"]),
        ("return {pcall(unpack, {}, 0, 2147483647)}", [None, b"too many results to unpack"]),
        # CVE-2025-46818.
        ("return {pcall(function() getmetatable('').__index = 1 end)}", [None, b"user_script:1: Attempt to modify a readonly table"]),
        ("return {pcall(rawset, getmetatable(''), '__call', print_)}", None),
        # CVE-2025-49844: the chunk's name is the only reference to it.
        (
            "local n = 0 for i = 1, 200 do local s = ('x'):rep(20) .. i "
            "local f = load(function() n = n + 1 collectgarbage() if n % 50 == 0 then return nil end return 'local a' .. n .. ' = 1 ' end, s) end "
            "return n > 0",
            1,
        ),
        # CVE-2025-46819.
        ("return (loadstring('return [' .. ('='):rep(1000000) .. '[x]' .. ('='):rep(1000000) .. ']')())", b"x"),
        ("local s = ('='):rep(1e6) return tostring(loadstring('[' .. s))", b"nil"),
        # A pattern of many items.
        ("return {pcall(string.find, ('a'):rep(200000), ('a?'):rep(200000))}", [None, b"pattern too complex"]),
        # Precompiled code.
        ("return tostring(loadstring(string.dump(function() end)))", b"nil"),
        ("setfenv(0, {}) return 1", 1),
        ("return type(redis)", b"table"),
        ("return tostring(newproxy_)", None),
    ],
)
def test_nobody_leaves_the_sandbox(body, expected):
    with Server("basalt", shards=1) as server, server.client() as client:
        if expected is None:
            with pytest.raises(ReplyError):
                client.cmd("EVAL", body, "0")
        else:
            reply = client.cmd("EVAL", body, "0")
            plain = [item if isinstance(item, bytes) else None for item in reply] if isinstance(reply, list) else reply
            assert plain == expected
        assert client.cmd("EVAL", "return type(redis.call) .. type(('x').rep)", "0") == b"functionfunction"


def test_memory_is_limited():
    with Server("basalt", shards=1, script_memory_limit="20mb") as server, server.client() as client:
        with pytest.raises(ReplyError, match="not enough memory"):
            client.cmd("EVAL", "local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end", "0")
        with pytest.raises(ReplyError, match="not enough memory"):
            client.cmd("EVAL", "return ('x'):rep(100000000)", "0")
        assert client.cmd("EVAL", "return #('x'):rep(1000000)", "0") == 1000000


UNLOCK = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end"
LIMITER = """
local now = redis.call('TIME') local window = tonumber(ARGV[1]) local limit = tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, now[1] - window)
if redis.call('ZCARD', KEYS[1]) < limit then
  redis.call('ZADD', KEYS[1], now[1], now[1] .. ':' .. now[2] .. ':' .. redis.call('INCR', KEYS[1] .. ':n'))
  redis.call('EXPIRE', KEYS[1], window) redis.call('EXPIRE', KEYS[1] .. ':n', window)
  return 1
end
return 0
"""
ADD_JOB = """
local args = cmsgpack.unpack(ARGV[1])
local id = redis.call('INCR', KEYS[2])
local fields = {} for k, v in pairs(args.options) do fields[#fields + 1] = k fields[#fields + 1] = type(v) == 'table' and cjson.encode(v) or v end
redis.call('HMSET', args.prefix .. id, 'name', args.name, unpack(fields))
redis.call('LPUSH', KEYS[1], id)
return {id, cjson.encode({name = args.name, list = {1, 2}})}
"""
FETCH_DUE = """
local jobs = redis.call('zrangebyscore', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, 1)
if jobs[1] then redis.call('zrem', KEYS[1], jobs[1]) return jobs[1] end
"""


@pytest.mark.parametrize("shards", [1, 2, 8])
def test_scripts_that_people_use(shards):
    with Server("basalt", shards=shards) as server, server.client() as client:
        client.cmd("SET", "lock", "token")
        assert client.cmd("EVAL", UNLOCK, "1", "lock", "other") == 0
        assert client.cmd("EVAL", UNLOCK, "1", "lock", "token") == 1
        assert [client.cmd("EVAL", LIMITER, "1", "limit", "60", "3") for _ in range(5)] == [1, 1, 1, 0, 0]
        # {"prefix": "bull:", "name": "job", "options": {"attempts": 3, "backoff": {"delay": 1}}}
        packed = (
            b"\x83\xa6prefix\xa5bull:\xa4name\xa3job\xa7options\x82\xa8attempts\x03\xa7backoff\x81\xa5delay\x01"
        )
        sha = client.cmd("SCRIPT", "LOAD", ADD_JOB)
        job, text = client.cmd("EVALSHA", sha, "2", "bull:wait", "bull:id", packed)
        assert job == 1 and text in (b'{"name":"job","list":[1,2]}', b'{"list":[1,2],"name":"job"}')
        assert client.cmd("HGET", "bull:1", "backoff") == b'{"delay":1}'
        client.cmd("ZADD", "schedule", "5", "a", "50", "b")
        assert client.cmd("EVAL", FETCH_DUE, "1", "schedule", "10") == b"a"
        assert client.cmd("ZCARD", "schedule") == 1


def test_flushing_scripts_reaches_all_workers():
    with Server("basalt", shards=4) as server:
        clients = [server.client() for _ in range(8)]
        sha = clients[0].cmd("SCRIPT", "LOAD", "return 7")
        assert [client.cmd("EVALSHA", sha, "0") for client in clients] == [7] * 8
        assert clients[1].cmd("SCRIPT", "FLUSH") == b"OK"
        for client in clients:
            with pytest.raises(ReplyError, match="NOSCRIPT"):
                client.cmd("EVALSHA", sha, "0")
        clients[0].cmd("FUNCTION", "LOAD", LIBRARY)
        assert [client.cmd("FCALL", "add", "1", "n", "1") for client in clients] == list(range(1, 9))
        clients[2].cmd("FUNCTION", "DELETE", "lib")
        for client in clients:
            with pytest.raises(ReplyError, match="Function not found"):
                client.cmd("FCALL", "add", "1", "n", "1")


@pytest.mark.parametrize("shards", [1, 2, 8])
def test_who_waits_is_served_when_the_script_has_ended(shards):
    with Server("basalt", shards=shards) as server, server.client() as client, server.client() as waiter:
        waiter.send("BLPOP", "list", "0")
        wait_for(lambda: b"blocked_clients:1" in client.cmd("INFO", "clients"))
        body = "redis.call('RPUSH', KEYS[1], '1', '2') redis.call('LPOP', KEYS[1]) return 1"
        assert client.cmd("EVAL", body, "1", "list") == 1
        assert waiter.recv() == [b"list", b"2"]


def test_info_tells_of_scripts():
    with Server("basalt", shards=2) as server, server.client() as client:

        def info():
            lines = (line.split(":") for line in client.cmd("INFO", "everything").decode().splitlines() if ":" in line)
            return {name: value for name, value, *_ in lines}

        before = info()
        assert [before[name] for name in ("used_memory_vm_eval", "number_of_cached_scripts")] == ["0", "0"]
        for n in range(600):
            client.cmd("EVAL", f"return {n}", "0")
        client.cmd("FUNCTION", "LOAD", LIBRARY)
        after = info()
        assert int(after["used_memory_vm_eval"]) > 20000
        assert (after["number_of_cached_scripts"], after["evicted_scripts"]) == ("500", "100")
        assert (after["number_of_functions"], after["number_of_libraries"]) == ("2", "1")
        assert int(after["used_memory_scripts"]) > 10000


def test_scripts_in_transactions():
    with Server("basalt", shards=2) as server, server.client() as client:
        client.cmd("WATCH", "w")
        client.cmd("MULTI")
        client.cmd("EVAL", "redis.call('SET', 'a', 1) return redis.call('INCR', 'b')", "0")
        client.cmd("EVAL", "return redis.call('INCR', 'a')", "1", "a")
        client.cmd("EVAL", "error('no')", "0")
        first, second, third = client.cmd("EXEC")
        assert (first, second) == (1, 2)
        assert "user_script:1: no" in str(third)
