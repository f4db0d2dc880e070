"""What clients do with a key, by its type: every command that reads it, then every command that changes it."""

from __future__ import annotations

READS = {
    "string": [("GET",), ("STRLEN",), ("GETRANGE", 0, -1), ("GETRANGE", -3, 2), ("GETBIT", 7), ("BITCOUNT",),
               ("BITPOS", 1), ("LCS", "other:string"), ("SUBSTR", 0, 3)],
    "list": [("LLEN",), ("LRANGE", 0, -1), ("LRANGE", -3, -2), ("LINDEX", 0), ("LINDEX", -1), ("LINDEX", 5),
             ("LPOS", "a", "COUNT", 0), ("LPOS", "x", "RANK", -1)],
    "set": [("SCARD",), ("SMEMBERS",), ("SISMEMBER", "a"), ("SISMEMBER", 1), ("SMISMEMBER", "a", 2, ""),
            ("SRANDMEMBER", 5), ("SRANDMEMBER", -5), ("SSCAN", 0, "COUNT", 100), ("SINTER", "other:set"),
            ("SUNION", "other:set"), ("SDIFF", "other:set")],
    "hash": [("HLEN",), ("HGETALL",), ("HKEYS",), ("HVALS",), ("HGET", "field"), ("HMGET", "n", "no"),
             ("HEXISTS", "n"), ("HSTRLEN", "n"), ("HRANDFIELD", 5, "WITHVALUES"), ("HPEXPIRETIME", "FIELDS", 2, "field", "no"),
             ("HRANDFIELD", -5),
             ("HSCAN", 0, "COUNT", 100)],
    "zset": [("ZCARD",), ("ZRANGE", 0, -1, "WITHSCORES"), ("ZRANGE", 0, -1, "REV"), ("ZSCORE", "one"), ("ZRANK", "one"),
             ("ZREVRANK", "one"), ("ZMSCORE", "one", "no"), ("ZCOUNT", "-inf", "+inf"), ("ZLEXCOUNT", "-", "+"),
             ("ZRANGEBYSCORE", "-inf", "(5", "LIMIT", 1, 3), ("ZREVRANGEBYLEX", "+", "-"), ("ZRANDMEMBER", 4, "WITHSCORES"),
             ("ZSCAN", 0, "COUNT", 100)],
    "stream": [("XLEN",), ("XRANGE", "-", "+"), ("XRANGE", "(3", "9-5", "COUNT", 2), ("XREVRANGE", "+", "-"),
               ("XPENDING", "group"), ("XPENDING", "group", "-", "+", 10), ("XPENDING", "other", "-", "+", 10, "bob")],
}

WRITES = {
    "string": [("APPEND", "tail"), ("SETRANGE", 3, "mid"), ("INCR",), ("INCRBYFLOAT", 1.5), ("SETBIT", 9, 1),
               ("GETEX", "PERSIST"), ("SET", "new", "KEEPTTL", "GET")],
    "list": [("LPUSH", "a", 7), ("RPUSH", "y" * 100, -1), ("LINSERT", "BEFORE", "a", "b"), ("LSET", 0, "first"),
             ("LSET", -1, 5), ("LREM", 1, "a"), ("LREM", -1, "x"), ("LPOP", 2), ("RPOP",), ("LTRIM", 1, -2),
             ("RPUSHX", "again")],
    "set": [("SADD", "a", 1, 70000), ("SREM", "a"), ("SPOP", 2), ("SADD", "w" * 80), ("SREM", "w" * 80, 1)],
    "hash": [("HSET", "field", "v", "n", 1), ("HINCRBY", "n", 5), ("HINCRBYFLOAT", "n", "0.5"), ("HSETNX", "new", "x"),
             ("HPEXPIREAT", 4_102_444_800_000, "FIELDS", 2, "field", "n"), ("HPERSIST", "FIELDS", 2, "n", "no"),
             ("HDEL", "field", "no"), ("HSET", "wide", "w" * 80)],
    "zset": [("ZADD", 1, "one", "-inf", "low"), ("ZADD", "GT", "CH", 5, "one"), ("ZINCRBY", 2, "one"), ("ZPOPMIN", 1),
             ("ZPOPMAX", 1), ("ZREM", "low"), ("ZREMRANGEBYRANK", 0, 0), ("ZREMRANGEBYSCORE", "(100", "inf"),
             ("ZADD", 3, "w" * 80)],
    "stream": [("XADD", "*", "f", "v", "n", 7), ("XADD", "MAXLEN", "~", 2, "*", "f", "v"), ("XDEL", "1-0", "4-1"),
               ("XACK", "group", "1-0", "9-5"), ("XCLAIM", "group", "carol", 0, "3-0", "4-1", "9-5", "FORCE"),
               ("XAUTOCLAIM", "group", "bob", 0, "-", "COUNT", 3), ("XTRIM", "MINID", 5), ("XTRIM", "MAXLEN", 1),
               ("XADD", "NOMKSTREAM", "*", "wide", "w" * 5000)],
}

ANY_READ = [("TYPE",), ("STRLEN",), ("EXISTS",), ("TTL",), ("TOUCH",)]
# Behind the command's name and word: OBJECT ENCODING key.
WITH_WORD = [("OBJECT", "ENCODING"), ("OBJECT", "FREQ"), ("OBJECT", "IDLETIME"), ("MEMORY", "USAGE"),
             ("DEBUG", "DIGEST-VALUE"), ("DEBUG", "OBJECT")]
OTHERS = [("SADD", "other:set", "a", "b", 1, 2), ("SET", "other:string", "plain text")]


def of_key(command: tuple, key: str) -> tuple:
    return (command[0], key, *command[1:])


def reads(kind: str, key: str) -> list[tuple]:
    plain = [of_key(command, key) for command in ANY_READ + READS[kind]]
    algebra = [("ZUNION", 2, key, "other:set"), ("SORT", key, "ALPHA", "LIMIT", 0, 5)] if kind in ("set", "zset") else []
    if kind == "stream":
        algebra = [("XINFO", "STREAM", key, "FULL", "COUNT", 0), ("XINFO", "GROUPS", key), ("XINFO", "CONSUMERS", key, "group"),
                   ("XREAD", "STREAMS", key, "0"), ("XREADGROUP", "GROUP", "group", "alice", "STREAMS", key, ">"),
                   ("XREADGROUP", "GROUP", "group", "alice", "STREAMS", key, "0")]
    return plain + [(*words, key) for words in WITH_WORD] + algebra


def writes(kind: str, key: str) -> list[tuple]:
    return [of_key(command, key) for command in WRITES[kind]]
