"""The scripts and functions that the random commands run: some of their own, and two that run the commands of other forms."""

from __future__ import annotations

import hashlib
from typing import Sequence

Command = tuple[bytes, ...]

RUN_ONE = b"return redis.call(unpack(ARGV))"
RUN_SOME = (b"local replies, at = {}, 1 while ARGV[at] do local count = tonumber(ARGV[at]) "
            b"replies[#replies + 1] = redis.pcall(unpack(ARGV, at + 1, at + count)) at = at + count + 1 end return replies")

ONE_KEY = [
    b"return redis.call('GET', KEYS[1])",
    b"return redis.call('SET', KEYS[1], ARGV[1])",
    b"return redis.pcall('INCRBY', KEYS[1], ARGV[1])",
    b"redis.call('APPEND', KEYS[1], ARGV[1])\nreturn redis.call('STRLEN', KEYS[1])",
    b"local t = redis.call('TYPE', KEYS[1]) return {t, t.ok, redis.call('EXISTS', KEYS[1])}",
    b"redis.call('DEL', KEYS[1]) for i = 1, 5 do redis.call('RPUSH', KEYS[1], i .. ARGV[1]) end return redis.call('LRANGE', KEYS[1], 0, -1)",
    b"local r = redis.pcall('LPUSH', KEYS[1], ARGV[1]) if type(r) == 'table' then return r.err end return r + 0.7",
    b"redis.setresp(3) return {redis.pcall('ZSCORE', KEYS[1], ARGV[1]), redis.pcall('GET', KEYS[1]), redis.pcall('EXISTS', KEYS[1])}",
    b"return redis.call('GET', KEYS[1], 'too many')",
    b"redis.call('SET', KEYS[1], 'written before the error') return redis.call('LPUSH', KEYS[1], ARGV[1])",
    b"return redis.pcall('NOSUCH', KEYS[1])",
    b"return redis.pcall('MULTI')",
]
TWO_KEYS = [
    b"local v = redis.call('GET', KEYS[1]) if v then redis.call('SET', KEYS[2], v .. ARGV[1]) end return v",
    b"return redis.call('RENAME', KEYS[1], KEYS[2])",
    b"return redis.pcall('SUNIONSTORE', KEYS[2], KEYS[1], KEYS[2])",
    b"return redis.call('MSET', KEYS[1], ARGV[1], KEYS[2], 'x')",
    b"return {redis.pcall('LMOVE', KEYS[1], KEYS[2], 'LEFT', 'RIGHT'), redis.pcall('COPY', KEYS[2], KEYS[1])}",
]
PURE = [
    b"return {1, 2.7, -3.2, 'x', true, false, {4}, {}}",
    b"return {1, 2, nil, 4}",
    b"return ARGV",
    b"return {#KEYS, #ARGV, ARGV[2]}",
    b"return tonumber(ARGV[2])",
    b"return tostring(tonumber(ARGV[2]))",
    b"return cjson.encode({ARGV[2], tonumber(ARGV[2])})",
    b"return cjson.decode('[1, 2.5, \"a\", null, {\"b\": 1}]')[2]",
    b"return cmsgpack.pack({ARGV[1], tonumber(ARGV[2]), true})",
    b"return cmsgpack.unpack(cmsgpack.pack(ARGV))",
    b"return redis.sha1hex(ARGV[1])",
    b"return struct.pack('>I2i4', 513, #ARGV[1])",
    b"return bit.tohex(bit.bxor(tonumber(ARGV[2]) or 5, 255))",
    b"return redis.error_reply('MINE ' .. #ARGV[1])",
    b"return redis.status_reply('fine ' .. #ARGV[1])",
    b"return {err = 'MINE text'}",
    b"return {ok = 'FINE'}",
    b"return {double = tonumber(ARGV[2]) or 0.5}",
    b"return {map = {a = 1}}",
    b"return {big_number = '123456789012345678901234567890'}",
    b"error('text')",
    b"error({err = 'MINE table'})",
    b"return nosuch",
    b"nosuch = 1",
    b"return 1 +",
    b"return string.rep(ARGV[1], 3):upper():len()",
    b"return {redis.REDIS_VERSION ~= nil, type(redis.log), rawget(_G, 'io')}",
]
DIGESTS = [hashlib.sha1(script).hexdigest().encode() for script in ONE_KEY[:6]] + [b"x", b"f" * 40]

LIBRARY = b"""#!lua name=base
redis.register_function('WRITE', function(keys, args) return redis.call('SET', keys[1], args[1]) end)
redis.register_function{function_name='READ', flags={'no-writes'}, callback=function(keys) return redis.pcall('TYPE', keys[1]) end}
redis.register_function('PUSH', function(keys, args) return redis.call('RPUSH', keys[1], unpack(args)) end)
"""
LIBRARIES = [
    b"#!lua name=OTHER\nredis.register_function('ECHO', function(keys, args) return {keys, args} end)",
    b"#!lua name=OTHER\nredis.register_function('ECHO', function(keys, args) return #keys + #args end)",
    b"#!lua name=third\nredis.register_function('WRITE', function() end)",
    b"#!lua name=bad\nreturn 1",
    b"#!lua\n",
    b"",
]


def running(commands: Sequence[Command], keys: Sequence[bytes]) -> Command:
    """EVAL of the commands, with these keys declared."""
    declared = (b"%d" % len(keys), *keys)
    if len(commands) == 1:
        return (b"EVAL", RUN_ONE, *declared, *commands[0])
    words = [word for command in commands for word in (b"%d" % len(command), *command)]
    return (b"EVAL", RUN_SOME, *declared, *words)


def commands_of(command: Command) -> list[Command]:
    """What `running` was given; nothing of other commands."""
    if len(command) < 3 or command[0].upper() != b"EVAL" or command[1] not in (RUN_ONE, RUN_SOME):
        return []
    words = command[3 + int(command[2]):]
    if command[1] == RUN_ONE:
        return [words]
    commands = []
    while words:
        count = int(words[0])
        commands.append(words[1 : count + 1])
        words = words[count + 1 :]
    return commands
