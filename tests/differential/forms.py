"""Every command form that the random scripts are made of, with its weight.

A line is `[>=version] [weight *] form` in the language of grammar.py; weight 10 unless given. The
terminals are in values.py. Commands whose outcome is random (SPOP) or that need several round trips
(SCAN, DUMP with RESTORE) are steps of their own, in generator.py.
"""

STRINGS = """
20 * SET k v
15 * SET k v [EX ttl|PX pttl|EXAT at|PXAT pat|KEEPTTL] [NX|XX] [GET]
4 * SET k v [GET] [XX|NX] [EX ttlbad|PX ttlbad|EXAT ttlbad]
8 * SET k number
15 * GET k
8 * GETSET k v
5 * GETDEL k
8 * GETEX k [EX ttl|PX pttl|EXAT at|PXAT pat|PERSIST]
2 * GETEX k (EX|PX|EXAT) ttlbad
6 * SETNX k v
4 * SETEX k (ttl|ttl|ttlbad) v
4 * PSETEX k (pttl|pttl|ttlbad) v
10 * APPEND k v
8 * STRLEN k
8 * SETRANGE k offset v
8 * GETRANGE k i i
4 * SUBSTR k i i
12 * INCR k
6 * DECR k
8 * INCRBY k int
6 * DECRBY k int
8 * INCRBYFLOAT k float
8 * MSET {k v}
5 * MSETNX {k v}
8 * MGET {any}
5 * LCS k k [LEN|IDX|IDX WITHMATCHLEN|IDX MINMATCHLEN small]
"""

BITMAPS = """
15 * SETBIT k bit (0|1|1|2)
8 * GETBIT k bit
8 * BITCOUNT k [i i]
8 * BITCOUNT k bitat bitat [BIT|BYTE|BITE]
8 * BITPOS k (0|1) [bitat]
8 * BITPOS k (0|1) bitat bitat [BIT|BYTE]
8 * BITOP (AND|OR|XOR) k {k}
4 * BITOP NOT k k
2 * BITOP (AND|NOT|NAND) k {any}
10 * BITFIELD k {bitop}
4 * BITFIELD k OVERFLOW (SAT|FAIL|WRAP|NONE) {bitop}
4 * BITFIELD k GET width fieldat OVERFLOW (SAT|FAIL) {bitop}
5 * BITFIELD_RO k GET width fieldat [GET width fieldat]
1 * BITFIELD_RO k {bitop}
10 * SET k v
4 * SETRANGE k offset v
8 * GET k
"""

HYPERLOGLOGS = """
25 * PFADD k {m}
3 * PFADD k
4 * PFADD k manymembers
4 * PFADD k manyvalues
4 * PFADD k manyints
12 * PFCOUNT k
8 * PFCOUNT {k}
10 * PFMERGE k {k}
2 * PFMERGE k {any}
4 * PFDEBUG ENCODING k
4 * PFDEBUG DECODE k
2 * PFDEBUG TODENSE k
1 * PFDEBUG NONSENSE k
4 * GET k
2 * DEL k
1 * SET k v
"""

GEO = """
20 * GEOADD k {lon lat m}
6 * GEOADD k [NX|XX] [CH] {lon lat m}
3 * ZADD k score m
3 * ZREM k {m}
8 * GEOPOS k {m}
8 * GEODIST k m m [unit]
6 * GEOHASH k {m}
12 * GEOSEARCH k FROMMEMBER m BYRADIUS radius unit [ASC|DESC|WITHDIST|ASC WITHHASH] [COUNT count]
12 * GEOSEARCH k FROMLONLAT lon lat BYRADIUS radius unit [WITHDIST] [WITHCOORD] [WITHHASH]
8 * GEOSEARCH k FROMLONLAT lon lat BYBOX radius radius unit [ASC|DESC] [WITHDIST]
6 * GEOSEARCH k FROMMEMBER m BYBOX radius radius unit [COUNT count ANY] [WITHCOORD]
3 * GEOSEARCH k [FROMMEMBER m] [FROMLONLAT lon lat] [BYBOX radius radius unit] [BYRADIUS radius unit] [ANY] [STOREDIST]
6 * GEOSEARCHSTORE k k FROMMEMBER m BYRADIUS radius unit [STOREDIST]
6 * GEOSEARCHSTORE k k FROMLONLAT lon lat BYBOX radius radius unit [COUNT count ANY]
4 * GEORADIUS k lon lat radius unit [WITHDIST] [WITHHASH] [STORE k|STOREDIST k]
4 * GEORADIUSBYMEMBER k m radius unit [ASC|DESC] [STORE k|STOREDIST k]
2 * GEORADIUS_RO k lon lat radius unit [STORE k]
2 * GEORADIUSBYMEMBER_RO k m radius unit [WITHCOORD]
"""

# With BY and ALPHA, equal weights leave the order of a set, which is no server's promise. Nothing that was
# sorted by numbers is stored: see differences.py.
SORTING = """
20 * SORT sortkey [LIMIT i i] [ASC|DESC]
8 * SORT sortkey [LIMIT i i] [ASC|DESC] ALPHA
10 * SORT sortkey BY sortpattern [LIMIT i i] [ASC|DESC]
6 * SORT sortkey BY sortpattern ALPHA
10 * SORT sortkey [BY sortpattern] GET getpattern [GET getpattern]
8 * SORT sortkey GET getpattern [DESC] ALPHA STORE k
5 * SORT sortkey [LIMIT i i] ALPHA STORE k
5 * SORT_RO sortkey [BY sortpattern] [GET getpattern]
2 * SORT_RO sortkey STORE k
10 * RPUSH k {int}
6 * RPUSH k {m}
6 * SADD k {int}
2 * RPUSH k (manyints|manyvalues)
2 * SADD k (manyints|manymembers)
4 * SET weightkey v
6 * SET weightkey number
4 * HSET weightkey F v
"""

LISTS = """
15 * LPUSH k {v}
15 * RPUSH k {v}
3 * RPUSH k manyvalues
2 * LPUSH k manyvalues
6 * LPUSHX k {v}
6 * RPUSHX k {v}
12 * LPOP k
12 * RPOP k
8 * LPOP k count
8 * RPOP k count
8 * LLEN k
10 * LINDEX k i
12 * LRANGE k i i
3 * LRANGE k 0 -1
8 * LSET k near v
10 * LINSERT k (BEFORE|AFTER|SIDEWAYS) v v
3 * LINSERT k (BEFORE|AFTER) m v
10 * LREM k near m
8 * LTRIM k i i
10 * LMOVE k k (LEFT|RIGHT) (LEFT|RIGHT)
5 * RPOPLPUSH k k
8 * LMPOP numkeys (LEFT|RIGHT) [COUNT count]
1 * (BLPOP|BRPOP) {k} 0.001
1 * BLMOVE k k (LEFT|RIGHT) (LEFT|RIGHT) 0.001
1 * BRPOPLPUSH k k 0.001
1 * BLMPOP 0.001 numkeys (LEFT|RIGHT) [COUNT count]
10 * LPOS k m [RANK rank] [COUNT count] [MAXLEN count]
"""

SETS = """
20 * SADD k {m}
8 * SADD k {int}
2 * SADD k manymembers
2 * SADD k manyints
12 * SREM k {m}
5 * SREM k {int}
8 * SISMEMBER k m
6 * SMISMEMBER k {m}
6 * SCARD k
8 * SMEMBERS k
8 * SMOVE k k m
6 * SINTER {k}
6 * SUNION {k}
6 * SDIFF {k}
5 * SINTERCARD numkeys [LIMIT count]
8 * SINTERSTORE k {k}
8 * SUNIONSTORE k {k}
8 * SDIFFSTORE k {k}
"""

HASHES = """
25 * HSET k {m v}
8 * HSET k m number
3 * HSET k manyfields
4 * HMSET k {m v}
6 * HSETNX k m v
10 * HGET k m
8 * HMGET k {m}
8 * HDEL k {m}
6 * HEXISTS k m
6 * HLEN k
5 * HSTRLEN k m
8 * HGETALL k
4 * HKEYS k
4 * HVALS k
10 * HINCRBY k m int
8 * HINCRBYFLOAT k m float
"""

# Times are absolute: when a field expires is part of the state that is compared.
FIELD_EXPIRY = """
>=7.4 20 * HSET k {m v}
>=7.4 4 * HSET k manyfields
>=7.4 12 * (HPEXPIREAT|HEXPIREAT) k pat [NX|XX|GT|LT] FIELDS 1 m
>=7.4 12 * HEXPIREAT k at [NX|XX|GT|LT] FIELDS 2 m m
>=7.4 6 * HPEXPIREAT k pat FIELDS 3 m m m
>=7.4 3 * (HEXPIRE|HPEXPIRE) k (0|ttlbad) FIELDS 1 m
>=7.4 3 * HEXPIREAT k (1|0|ttlbad) FIELDS count m
>=7.4 8 * HPEXPIRETIME k FIELDS 2 m m
>=7.4 4 * HEXPIRETIME k FIELDS 1 m
>=7.4 3 * (HTTL|HPTTL) k FIELDS count m
>=7.4 8 * HPERSIST k FIELDS 1 m
>=7.4 4 * HPERSIST k FIELDS 2 m m
>=7.4 6 * HDEL k {m}
>=7.4 4 * HINCRBY k m int
>=7.4 4 * HINCRBYFLOAT k m float
>=7.4 3 * HSETNX k m v
>=7.4 4 * HMGET k {m}
>=7.4 4 * HGETALL k
>=7.4 3 * COPY k k [REPLACE]
>=7.4 2 * RENAME k k
>=8.0 8 * HGETEX k [EXAT at|PXAT pat|PERSIST|PXAT 1] FIELDS 2 m m
>=8.0 8 * HSETEX k [FNX|FXX] [EXAT at|PXAT pat|KEEPTTL|PXAT 1] FIELDS 2 m v m v
>=8.0 6 * HGETDEL k FIELDS 2 m m
"""

SORTED_SETS = """
20 * ZADD k {score m}
12 * ZADD k [NX|XX] [GT|LT] [CH] {score m}
5 * ZADD k [NX|XX] [GT|LT] [CH] INCR score m
5 * ZADD k {0 m}
3 * ZADD k manyscores
8 * ZINCRBY k score m
10 * ZREM k {m}
5 * ZCARD k
8 * ZSCORE k m
5 * ZMSCORE k {m}
6 * ZRANK k m
6 * ZREVRANK k m
>=7.2 3 * ZRANK k m WITHSCORE
>=7.2 3 * ZREVRANK k m WITHSCORE
10 * ZRANGE k i i [REV] [WITHSCORES]
8 * ZRANGE k bound bound BYSCORE [REV] [LIMIT skip i] [WITHSCORES]
5 * ZREVRANGE k i i [WITHSCORES]
6 * ZRANGEBYSCORE k bound bound [WITHSCORES] [LIMIT skip i]
6 * ZREVRANGEBYSCORE k bound bound [WITHSCORES] [LIMIT skip i]
6 * ZCOUNT k bound bound
8 * ZRANGESTORE k k i i [REV]
6 * ZRANGESTORE k k bound bound BYSCORE [REV] [LIMIT skip i]
5 * ZREMRANGEBYRANK k i i
5 * ZREMRANGEBYSCORE k bound bound
8 * ZPOPMIN k [count]
8 * ZPOPMAX k [count]
6 * ZMPOP numkeys (MIN|MAX) [COUNT count]
1 * (BZPOPMIN|BZPOPMAX) {k} 0.001
1 * BZMPOP 0.001 numkeys (MIN|MAX) [COUNT count]
6 * ZUNION numkeys [WEIGHTS float float] [AGGREGATE (SUM|MIN|MAX)] [WITHSCORES]
6 * ZINTER numkeys [AGGREGATE (SUM|MIN|MAX)] [WITHSCORES]
6 * ZDIFF numkeys [WITHSCORES]
4 * ZINTERCARD numkeys [LIMIT count]
7 * ZUNIONSTORE k twokeys [WEIGHTS weight weight] [AGGREGATE (SUM|MIN|MAX)]
7 * ZINTERSTORE k twokeys [WEIGHTS weight weight] [AGGREGATE (SUM|MIN|MAX)]
4 * ZUNIONSTORE k numkeys [AGGREGATE (SUM|MIN|MAX)]
4 * ZINTERSTORE k numkeys [AGGREGATE (SUM|MIN|MAX)]
6 * ZDIFFSTORE k numkeys
"""

# Only keys whose scores are all the same: otherwise the outcome depends on the heights of Redis's skip list.
LEXICOGRAPHIC = """
25 * ZADD lexkey {0 m}
3 * ZADD lexkey 0 m 0 m 0 m 0 m 0 m 0 m 0 m 0 m 0 m
6 * ZRANGE lexkey lex lex BYLEX [REV] [LIMIT skip i]
2 * ZRANGE lexkey lex lex BYLEX WITHSCORES
5 * ZRANGEBYLEX lexkey lex lex [LIMIT skip i]
5 * ZREVRANGEBYLEX lexkey lex lex [LIMIT skip i]
5 * ZLEXCOUNT lexkey lex lex
6 * ZRANGESTORE k lexkey lex lex BYLEX [REV] [LIMIT skip i]
5 * ZREMRANGEBYLEX lexkey lex lex
3 * ZREM lexkey {m}
1 * DEL lexkey
1 * SET lexkey v
"""

STREAMS = """
34 * XADD k newid {m v}
6 * XADD k [NOMKSTREAM] [MAXLEN [=|~] count|MINID [=|~] id] newid {m v}
2 * XADD k MAXLEN ~ count LIMIT count newid m v
6 * XDEL k {id}
4 * XTRIM k (MAXLEN|MAXLEN =|MAXLEN ~) count [LIMIT count]
3 * XTRIM k (MINID|MINID =|MINID ~) id
6 * XLEN k
8 * XRANGE k idend idend [COUNT count]
6 * XREVRANGE k idend idend [COUNT count]
4 * XREAD [COUNT count] STREAMS k id
3 * XREAD [COUNT count] STREAMS k k id (id|$)
>=7.2 2 * XSETID k id [ENTRIESADDED count] [MAXDELETEDID id]
7 * XGROUP CREATE k group (id|$|0) [MKSTREAM]
2 * XGROUP (CREATE|SETID) k group (id|$) [ENTRIESREAD count]
1 * XGROUP DESTROY k group
3 * XGROUP (CREATECONSUMER|DELCONSUMER) k group consumer
>=7.2 16 * XREADGROUP GROUP group consumer [COUNT count] [NOACK] STREAMS k >
>=7.2 5 * XREADGROUP GROUP group consumer [COUNT count] STREAMS k id
>=7.2 3 * XREADGROUP GROUP group consumer [COUNT count] STREAMS k k (>|id) >
6 * XACK k group {id}
5 * XPENDING k group
5 * XPENDING k group [IDLE 0] idend idend count [consumer]
>=7.2 7 * XCLAIM k group consumer (0|3600000) {id} [RETRYCOUNT count] [FORCE] [JUSTID] [LASTID id]
>=7.2 5 * XAUTOCLAIM k group consumer (0|3600000) idend [COUNT count] [JUSTID]
5 * XINFO STREAM k
3 * XINFO GROUPS k
1 * XINFO (STREAM|CONSUMERS) k (group|FULLER)
2 * DEL k
"""

KEYS = """
12 * DEL {any}
5 * UNLINK {any}
8 * EXISTS {any}
8 * TYPE any
4 * TOUCH {any}
3 * KEYS pattern
8 * RENAME any any
6 * RENAMENX any any
10 * COPY any any [DB db] [REPLACE]
6 * MOVE any db
2 * RANDOMKEY
10 * EXPIRE any ttl [NX|XX|GT|LT|XX GT|NX GT]
6 * PEXPIRE any pttl [NX|XX|GT|LT]
5 * EXPIREAT any at [NX|XX|GT|LT]
5 * PEXPIREAT any pat [NX|XX|GT|LT]
3 * (EXPIRE|PEXPIRE|EXPIREAT|PEXPIREAT) any ttlbad
8 * TTL any
6 * PTTL any
5 * EXPIRETIME any
5 * PEXPIRETIME any
6 * PERSIST any
14 * OBJECT ENCODING any
2 * OBJECT REFCOUNT any
2 * OBJECT IDLETIME any
1 * OBJECT FREQ any
2 * DUMP any
2 * MEMORY USAGE any
3 * DBSIZE
12 * SELECT db
"""

RARE = """
4 * FLUSHDB [ASYNC|SYNC]
1 * FLUSHALL [ASYNC|SYNC]
6 * SWAPDB db db
5 * PING [v]
3 * ECHO v
3 * RESTORE any (0|pttl|ttlbad) v [REPLACE] [ABSTTL] [IDLETIME count]
2 * UNWATCH
2 * DISCARD
2 * EXEC
2 * OBJECT HELPME any
2 * NOSUCHCOMMAND v v
"""

# What is run by redis.call alone is a step of its own, too: every other command within a script.
SCRIPTS = """
20 * EVAL onekey 1 k v
8 * EVAL onekey 1 k number
8 * EVAL twokeyed 2 k k v
8 * EVAL pure 0 v number
3 * EVAL_RO onekey 1 k v
2 * EVAL_RO pure 0 v v
3 * EVAL pure (X|-1|3) v
8 * EVALSHA sha 1 k v
2 * EVALSHA_RO sha 1 k v
4 * SCRIPT LOAD onekey
4 * SCRIPT EXISTS sha sha
1 * SCRIPT FLUSH [SYNC|ASYNC|X]
12 * FCALL (WRITE|PUSH|NOSUCH) 1 k v
3 * FCALL (READ|WRITE|NOSUCH) 0
8 * FCALL_RO (READ|WRITE) 1 k
3 * FUNCTION LOAD [REPLACE] library
1 * FUNCTION DELETE (OTHER|NOSUCH)
4 * SET k number
"""

# Of this connection and of the server, as far as nothing outlives the script.
CONNECTION = """
4 * CLIENT SETNAME clientname
4 * CLIENT GETNAME
2 * CLIENT NO-EVICT (ON|OFF|X)
>=7.2 2 * CLIENT NO-TOUCH (ON|OFF|X)
2 * CLIENT TRACKINGINFO
2 * CLIENT GETREDIR
1 * CLIENT CACHING (YES|NO)
1 * CLIENT KILL ID 999999
2 * CLIENT UNBLOCK 999999 [TIMEOUT|ERROR|X]
6 * PUBLISH m v
4 * SPUBLISH m v
3 * PUBSUB NUMSUB {m}
3 * PUBSUB SHARDNUMSUB {m}
2 * PUBSUB (CHANNELS|SHARDCHANNELS) [pattern]
1 * PUBSUB NUMPAT
4 * COMMAND GETKEYS SET k v
4 * COMMAND GETKEYS (ZUNIONSTORE k|ZINTER|LMPOP) numkeys
3 * COMMAND GETKEYS (EVAL|FCALL) v numkeys
3 * COMMAND GETKEYSANDFLAGS (GET|LPUSH|ECHO) k [v]
3 * COMMAND GETKEYSANDFLAGS XREADGROUP GROUP group consumer STREAMS k k id id
2 * COMMAND GETKEYS SORT k [BY m] [STORE k]
2 * ACL WHOAMI
3 * ACL DRYRUN username GET k
1 * TIME
1 * WAIT 0 0
2 * WAIT 0 X
3 * CONFIG SET limitname (0|6|128)
"""

# Commands that no form and no step is made of, each with its reason: test_coverage.py. A container stands for its subcommands.
LEFT_OUT = {
    "other tests compare it; its effects outlive a script": "ACL CONFIG|REWRITE CONFIG|RESETSTAT FUNCTION|DUMP FUNCTION|FLUSH FUNCTION|RESTORE FUNCTION|LIST "
        "CLIENT|SETINFO CLIENT|REPLY CLIENT|TRACKING CLIENT|PAUSE CLIENT|UNPAUSE",
    "it changes what the connection can be sent": "AUTH HELLO RESET QUIT SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE PUNSUBSCRIBE "
        "SUNSUBSCRIBE MONITOR SYNC PSYNC REPLCONF",
    "it tells of this server alone": "INFO CONFIG|GET SLOWLOG LATENCY LOLWUT CLIENT|ID CLIENT|INFO CLIENT|LIST FUNCTION|STATS LASTSAVE COMMAND "
        "MEMORY|STATS MEMORY|DOCTOR MEMORY|MALLOC-STATS MEMORY|PURGE WAITAOF PFSELFTEST ROLE",
    "it needs something that goes on, or another server": "SCRIPT|KILL SCRIPT|DEBUG FUNCTION|KILL SHUTDOWN MIGRATE REPLICAOF SLAVEOF "
        "FAILOVER CLUSTER MODULE",
    "it writes files; runs with -rdb and -aof read them back": "SAVE BGSAVE BGREWRITEAOF DEBUG",
    "help is text": "ACL|HELP CLIENT|HELP COMMAND|HELP CONFIG|HELP FUNCTION|HELP LATENCY|HELP MEMORY|HELP OBJECT|HELP PUBSUB|HELP "
        "SCRIPT|HELP SLOWLOG|HELP XGROUP|HELP XINFO|HELP",
}

# Family: (its forms, its share of all commands).
FAMILIES = {
    "strings": (STRINGS, 20),
    "bitmaps": (BITMAPS, 10),
    "hyperloglogs": (HYPERLOGLOGS, 6),
    "geo": (GEO, 7),
    "sorting": (SORTING, 6),
    "lists": (LISTS, 20),
    "sets": (SETS, 18),
    "hashes": (HASHES, 17),
    "field_expiry": (FIELD_EXPIRY, 8),
    "sorted_sets": (SORTED_SETS, 24),
    "lexicographic": (LEXICOGRAPHIC, 4),
    "streams": (STREAMS, 22),
    "keys": (KEYS, 16),
    "scripts": (SCRIPTS, 5),
    "connection": (CONNECTION, 2),
    "rare": (RARE, 1),
}
