//! Replies are those of Redis 7.4 to the same commands.

use std::collections::BTreeSet;

use crate::testing::World;
use datatypes::Rng;
use keyspace::DbIndex;

const NOT_INTEGER: &str = "-ERR value is not an integer or out of range";
const NOT_INT32: &str = "-ERR value is out of range, value must between -2147483648 and 2147483647";
const NO_DB: &str = "-ERR DB index is out of range";
const SAME: &str = "-ERR source and destination objects are the same";
const SYNTAX: &str = "-ERR syntax error";

#[test]
fn keys_are_deleted_counted_and_typed() {
    for shards in [1, 3] {
        let mut w = World::new(shards);
        w.check(&[
            ("MSET a 1 b 2 c 3 d 4", "OK"),
            ("RPUSH l x", "1"),
            ("EXISTS a a b none", "3"),
            ("TOUCH a none l", "2"),
            ("TYPE a", "string"),
            ("TYPE l", "list"),
            ("TYPE none", "none"),
            ("DEL a a none", "1"),
            ("UNLINK b l c", "3"),
            ("DBSIZE", "1"),
        ]);
        assert_eq!(w.dirty(), 9);
        w.assert_replays();
    }
}

#[test]
fn expiries_are_set_under_conditions() {
    let mut w = World::new(1);
    w.check(&[
        ("SET k v", "OK"),
        ("EXPIRE none 10", "0"),
        ("EXPIRE k 10 XX", "0"),
        ("EXPIRE k 10 GT", "0"),
        ("EXPIRE k 10 LT", "1"),
        ("EXPIRE k 20 NX", "0"),
        ("EXPIRE k 20 LT", "0"),
        ("EXPIRE k 20 GT", "1"),
        ("EXPIRE k 20 GT", "0"),
        ("PEXPIRE k 5500 XX LT", "1"),
        ("TTL k", "6"),
        ("PTTL k", "5500"),
        ("EXPIRETIME k", "1700000006"),
        ("PEXPIRETIME k", "1700000005500"),
        ("PERSIST k", "1"),
        ("PERSIST k", "0"),
        ("PERSIST none", "0"),
        ("TTL k", "-1"),
        ("TTL none", "-2"),
        ("PEXPIRETIME none", "-2"),
        ("EXPIREAT k 1700000060", "1"),
        ("TTL k", "60"),
        ("PEXPIREAT k 9223372036854775807", "1"),
        ("EXPIRE k x nx", NOT_INTEGER),
        ("EXPIRE k x foo", "-ERR Unsupported option foo"),
        (
            "EXPIRE k 10 NX XX",
            "-ERR NX and XX, GT or LT options at the same time are not compatible",
        ),
        (
            "EXPIRE k 10 GT LT",
            "-ERR GT and LT options at the same time are not compatible",
        ),
        (
            "EXPIRE k 9223372036854775807",
            "-ERR invalid expire time in 'expire' command",
        ),
        (
            "EXPIRE k -9223372036854775808",
            "-ERR invalid expire time in 'expire' command",
        ),
        (
            "PEXPIRE k 9223372036854775807",
            "-ERR invalid expire time in 'pexpire' command",
        ),
        ("EXPIRE k -1", "1"),
        ("EXISTS k", "0"),
    ]);
    w.assert_replays();
}

#[test]
fn expiry_effects_are_instants() {
    let mut w = World::new(1);
    w.run("SET k v");
    w.run("EXPIRE k 5");
    assert_eq!(w.effects(), ["PEXPIREAT k 1700000005000"]);
    w.run("EXPIRE k 5 NX");
    assert!(w.effects().is_empty());
    w.pass(5000);
    assert_eq!(w.run("GET k"), "nil");
    assert_eq!(w.effects(), ["DEL k"]);
    w.run("SET k v");
    w.run("PEXPIREAT k 5");
    assert_eq!(w.effects(), ["DEL k"]);
    w.assert_replays();
}

#[test]
fn keys_are_renamed_within_and_across_shards() {
    for shards in [1, 3, 8] {
        let mut w = World::new(shards);
        w.check(&[
            ("MSET a 1 b 2", "OK"),
            ("PEXPIRE a 5000", "1"),
            ("RENAME none x", "-ERR no such key"),
            ("RENAME none none", "-ERR no such key"),
            ("RENAME a a", "OK"),
            ("RENAMENX a a", "0"),
            ("RENAMENX a b", "0"),
            ("RENAME a b", "OK"),
            ("GET b", "\"1\""),
            ("PTTL b", "5000"),
            ("RENAMENX b c", "1"),
            ("EXISTS a b c", "1"),
            ("HSET h f v g w", "2"),
            ("RENAME h i", "OK"),
            ("RENAME i j", "OK"),
            ("HGET j g", "\"w\""),
            ("RENAME j c", "OK"),
            ("TTL c", "-1"),
            ("TYPE c", "hash"),
        ]);
        assert_eq!(w.dirty(), 2 + 1 + 2 + 2 + 3);
        w.assert_replays();
    }
}

#[test]
fn a_rename_across_shards_is_two_effects() {
    let mut w = World::new(8);
    // The slots of these are far apart: 15495 and 3300.
    w.check(&[("SET a v PX 100", "OK"), ("RENAME a b", "OK")]);
    let mut effects = w.effects();
    effects.sort();
    assert_eq!(effects, ["DEL a", "SET b v PXAT 1700000000100"]);
    w.check(&[("SET a v", "OK"), ("RENAME a {a}2", "OK")]);
    assert_eq!(w.effects(), ["RENAME a {a}2"]);
}

#[test]
fn copies_are_independent() {
    for shards in [1, 3] {
        let mut w = World::new(shards);
        w.check(&[
            ("SET a 1 PX 5000", "OK"),
            ("COPY a a", SAME),
            ("COPY a b DB 99", NO_DB),
            ("COPY a b DB x", NOT_INTEGER),
            ("COPY a b DB 99999999999", NOT_INT32),
            ("COPY a b DB", SYNTAX),
            ("COPY a b FOO", SYNTAX),
            ("COPY none b", "0"),
            ("COPY a b", "1"),
            ("COPY a b", "0"),
            ("INCR b", "2"),
            ("COPY a b REPLACE", "1"),
            ("GET b", "\"1\""),
            ("PTTL b", "5000"),
            ("COPY a a DB 3", "1"),
            ("SADD s x y", "2"),
            ("COPY s t", "1"),
            ("SADD t z", "1"),
            ("SCARD s", "2"),
            ("APPEND a x", "2"),
            ("COPY a r", "1"),
            ("OBJECT ENCODING r", "\"raw\""),
        ]);
        w.db = DbIndex(3);
        w.check(&[("GET a", "\"1\""), ("DBSIZE", "1")]);
        w.assert_replays();
    }
}

#[test]
fn keys_move_between_databases() {
    let mut w = World::new(3);
    w.check(&[
        ("SET a 1 PX 5000", "OK"),
        ("MOVE a 0", SAME),
        ("MOVE a 16", NO_DB),
        ("MOVE a x", NOT_INTEGER),
        ("MOVE none 1", "0"),
        ("MOVE a 1", "1"),
        ("EXISTS a", "0"),
        ("SET a 2", "OK"),
        ("MOVE a 1", "0"),
    ]);
    w.db = DbIndex(1);
    w.check(&[("GET a", "\"1\""), ("PTTL a", "5000")]);
    w.assert_replays();
}

#[test]
fn values_are_dumped_and_restored() {
    let mut w = World::new(1);
    w.check(&[("HSET h f v", "1"), ("DUMP none", "nil")]);
    let reply = w.run_args(&[b"DUMP", b"h"]);
    let start = reply
        .windows(2)
        .position(|b| b == b"\r\n")
        .map_or(0, |at| at + 2);
    let payload = &reply[start..reply.len() - 2];
    let mut restore = |args: &[&[u8]], expected: &str| {
        let mut argv = args.to_vec();
        argv.insert(3, payload);
        assert_eq!(
            crate::testing::show(&w.run_args(&argv)),
            expected,
            "{args:?}"
        );
        w.effects()
    };
    let busy = "-BUSYKEY Target key name already exists.";
    restore(&[b"RESTORE", b"h", b"0"], busy);
    restore(&[b"RESTORE", b"h", b"x"], busy);
    restore(&[b"RESTORE", b"h", b"x", b"REPLACE"], NOT_INTEGER);
    restore(
        &[b"RESTORE", b"h", b"-1", b"REPLACE"],
        "-ERR Invalid TTL value, must be >= 0",
    );
    restore(&[b"RESTORE", b"h", b"-1", b"FOO"], SYNTAX);
    let idle = "-ERR Invalid IDLETIME value, must be >= 0";
    restore(&[b"RESTORE", b"h", b"0", b"IDLETIME", b"-1"], idle);
    let freq = "-ERR Invalid FREQ value, must be >= 0 and <= 255";
    restore(&[b"RESTORE", b"h", b"0", b"FREQ", b"256"], freq);
    restore(
        &[b"RESTORE", b"h", b"0", b"FREQ", b"1", b"IDLETIME", b"1"],
        SYNTAX,
    );
    let effects = restore(&[b"RESTORE", b"i", b"5000", b"IDLETIME", b"77"], "OK");
    assert!(effects[0].starts_with("RESTORE i 1700000005000 "));
    assert!(effects[0].ends_with(" REPLACE ABSTTL"));
    restore(&[b"RESTORE", b"h", b"1", b"ABSTTL", b"REPLACE"], "OK");
    w.check(&[
        ("EXISTS h", "0"),
        ("PTTL i", "5000"),
        ("OBJECT IDLETIME i", "77"),
        ("HGET i f", "\"v\""),
        (
            "RESTORE new 0 junk",
            "-ERR DUMP payload version or checksum are wrong",
        ),
    ]);
    w.assert_replays();
}

/// All keys that a whole SCAN replies, which must be no key twice.
fn scan_all(w: &mut World, options: &str) -> BTreeSet<String> {
    let (mut cursor, mut found) = ("0".to_string(), BTreeSet::new());
    loop {
        let page = w.run(&format!("SCAN {cursor} {options}"));
        let page = page.strip_prefix("[\"").and_then(|p| p.strip_suffix("]]"));
        let (next, keys) = page.and_then(|p| p.split_once("\", [")).expect("a page");
        for key in keys.split(", ").filter(|key| !key.is_empty()) {
            assert!(found.insert(key.to_string()), "{key} came twice");
        }
        if next == "0" {
            return found;
        }
        cursor = next.to_string();
    }
}

#[test]
fn scan_sees_every_key_once() {
    for shards in [1, 2, 3, 8] {
        let mut w = World::new(shards);
        assert!(scan_all(&mut w, "").is_empty());
        for n in 0..500 {
            w.run(&format!("SET key:{n} v"));
        }
        w.check(&[("RPUSH list x", "1"), ("SET due v PX 1", "OK")]);
        w.pass(2);
        assert_eq!(w.run("DBSIZE"), "502");
        assert_eq!(scan_all(&mut w, "").len(), 501);
        assert_eq!(w.run("DBSIZE"), "501", "SCAN deletes what has expired");
        assert_eq!(scan_all(&mut w, "COUNT 1000").len(), 501);
        assert_eq!(scan_all(&mut w, "MATCH key:4* COUNT 7").len(), 111);
        assert_eq!(scan_all(&mut w, "TYPE LIST").len(), 1);
        assert_eq!(scan_all(&mut w, "TYPE foo").len(), 0);
        w.check(&[
            ("SCAN x", "-ERR invalid cursor"),
            ("SCAN -1", "-ERR invalid cursor"),
            ("SCAN 0 COUNT 0", SYNTAX),
            ("SCAN 0 COUNT x", NOT_INTEGER),
            ("SCAN 0 MATCH", SYNTAX),
            ("SCAN 0 FOO bar", SYNTAX),
        ]);
        assert!(!w.run("SCAN 18446744073709551615").starts_with('-'));
        w.assert_replays();
    }
}

#[test]
fn keys_are_found_by_pattern_and_at_random() {
    let mut w = World::new(3);
    w.check(&[
        ("RANDOMKEY", "nil"),
        ("KEYS *", "[]"),
        ("MSET one 1 two 2 a*b 3", "OK"),
        ("SET due 1 PX 1", "OK"),
    ]);
    w.pass(1);
    let sorted = |reply: String| {
        let mut keys: Vec<String> = reply
            .trim_matches(|c| c == '[' || c == ']')
            .split(", ")
            .map(String::from)
            .collect();
        keys.sort();
        keys.join(" ")
    };
    assert_eq!(sorted(w.run("KEYS *")), "\"a*b\" \"one\" \"two\"");
    assert_eq!(sorted(w.run("KEYS *o*")), "\"one\" \"two\"");
    w.check(&[
        ("KEYS one", "[\"one\"]"),
        ("KEYS due", "[]"),
        ("KEYS none", "[]"),
        ("KEYS a\\*b", "[\"a*b\"]"),
        ("KEYS [o]ne", "[\"one\"]"),
    ]);
    let mut seen = BTreeSet::new();
    for _ in 0..200 {
        seen.insert(w.run("RANDOMKEY"));
    }
    assert_eq!(seen.len(), 3, "{seen:?}");
    w.check(&[("DEL one two a*b", "3"), ("SET due 1 PX 1", "OK")]);
    w.pass(1);
    w.check(&[("RANDOMKEY", "nil"), ("DBSIZE", "0")]);
}

#[test]
fn databases_are_emptied() {
    for shards in [1, 3] {
        let mut w = World::new(shards);
        for n in 0..600 {
            w.run(&format!("SET key:{n} v"));
        }
        w.db = DbIndex(1);
        w.check(&[
            ("SET a 1", "OK"),
            ("FLUSHDB FOO", SYNTAX),
            ("FLUSHALL SYNC ASYNC", SYNTAX),
            ("FLUSHDB sync", "OK"),
            ("DBSIZE", "0"),
            ("SET b 1", "OK"),
        ]);
        w.db = DbIndex(0);
        assert_eq!(w.run("DBSIZE"), "600");
        w.assert_replays();
        assert_eq!(w.run("FLUSHALL ASYNC"), "OK");
        assert!(w.state().is_empty());
        assert_eq!(w.dirty(), 600 + 1 + 1 + 1 + 601);
        w.check(&[("SET after 1", "OK")]);
        w.assert_replays();
    }
}

#[test]
fn databases_are_swapped() {
    for shards in [1, 3] {
        let mut w = World::new(shards);
        w.check(&[
            ("MSET a 1 b 2", "OK"),
            ("PEXPIRE a 100", "1"),
            ("SADD s x", "1"),
        ]);
        w.db = DbIndex(2);
        w.check(&[
            ("MSET b 3 c 4", "OK"),
            ("SADD s y z", "2"),
            ("PEXPIRE s 100", "1"),
            ("SWAPDB x 1", "-ERR invalid first DB index"),
            ("SWAPDB 0 x", "-ERR invalid second DB index"),
            ("SWAPDB 99999999999 0", "-ERR invalid first DB index"),
            ("SWAPDB 0 16", NO_DB),
            ("SWAPDB -1 0", NO_DB),
            ("SWAPDB 1 1", "OK"),
            ("SWAPDB 0 2", "OK"),
            ("MGET a b c", "[\"1\", \"2\", nil]"),
            ("PTTL a", "100"),
            ("SCARD s", "1"),
        ]);
        w.db = DbIndex(0);
        w.check(&[
            ("MGET a b c", "[nil, \"3\", \"4\"]"),
            ("SCARD s", "2"),
            ("PTTL s", "100"),
        ]);
        w.assert_replays();
    }
}

#[test]
fn object_and_memory_tell_about_keys() {
    let mut w = World::new(1);
    w.check(&[
        ("SET a 1", "OK"),
        ("OBJECT ENCODING a", "\"int\""),
        ("OBJECT ENCODING none", "nil"),
        ("OBJECT IDLETIME a", "0"),
        ("OBJECT REFCOUNT a", "1"),
        ("OBJECT FREQ none", "nil"),
        ("MEMORY USAGE none", "nil"),
        ("MEMORY USAGE a SAMPLES x", NOT_INTEGER),
        ("MEMORY USAGE a SAMPLES -1", SYNTAX),
        ("MEMORY USAGE a SAMPLES", SYNTAX),
        ("MEMORY USAGE a FOO 1", SYNTAX),
        ("MEMORY USAGE none FOO", SYNTAX),
    ]);
    assert!(w
        .run("OBJECT FREQ a")
        .starts_with("-ERR An LFU maxmemory policy is not selected"));
    w.pass(5_000);
    w.check(&[
        ("TTL a", "-1"),
        ("EXISTS a", "1"),
        ("TYPE a", "string"),
        ("OBJECT IDLETIME a", "5"),
        ("TOUCH a", "1"),
        ("OBJECT IDLETIME a", "0"),
        ("MEMORY USAGE a", "32"),
    ]);
    let help = w.run("OBJECT HELP");
    assert!(help.starts_with("[OBJECT <subcommand> "), "{help}");
    assert!(help.contains("ENCODING key, "), "{help}");
}

/// A random command about a few keys of several types, databases and shards.
fn random_command(rng: &mut Rng) -> String {
    const KEYS: [&str; 8] = ["a", "b", "c", "{a}1", "{a}2", "l", "h", "s"];
    const VALUES: [&str; 6] = ["1", "-7", "x", "\"a b\"", "3.5", "\"\""];
    const TIMES: [&str; 5] = ["1", "20", "5000", "-1", "0"];
    const FORMS: [&str; 40] = [
        "SET K V",
        "SET K V EX T",
        "SET K V PX T NX",
        "SET K V XX GET",
        "SET K V KEEPTTL",
        "SETNX K V",
        "SETEX K T V",
        "GETSET K V",
        "GETDEL K",
        "GETEX K PX T",
        "GETEX K PERSIST",
        "APPEND K V",
        "SETRANGE K T V",
        "INCR K",
        "DECRBY K V",
        "INCRBYFLOAT K V",
        "MSET K V K V K V",
        "MSETNX K V K V",
        "DEL K K",
        "UNLINK K",
        "TOUCH K",
        "RENAME K K",
        "RENAMENX K K",
        "COPY K K",
        "COPY K K REPLACE DB 2",
        "COPY K K DB 0 REPLACE",
        "MOVE K 2",
        "MOVE K 0",
        "EXPIRE K T",
        "PEXPIRE K T GT",
        "PEXPIRE K T NX",
        "PERSIST K",
        "SWAPDB 0 2",
        "RPUSH K V V",
        "SADD K V V",
        "HSET K V V",
        "RANDOMKEY",
        "SCAN 0",
        "FLUSHDB",
        "FLUSHALL",
    ];
    let form = FORMS[rng.below(FORMS.len())];
    let rare = form.starts_with("FLUSH") || form.starts_with("SWAP");
    if rare && rng.below(10) > 0 {
        return random_command(rng);
    }
    let words = form.split(' ').map(|word| match word {
        "K" => KEYS[rng.below(KEYS.len())],
        "V" => VALUES[rng.below(VALUES.len())],
        "T" => TIMES[rng.below(TIMES.len())],
        word => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn random_commands_reply_the_same_on_any_shards_and_replay() {
    for seed in 0..8 {
        println!("seed {seed}");
        let mut rng = Rng::from_seed(seed);
        let mut worlds = [World::new(1), World::new(3), World::new(8)];
        for _ in 0..1500 {
            let (line, db, pause) = (random_command(&mut rng), rng.below(8), rng.below(30));
            let replies = worlds.each_mut().map(|w| {
                w.pass(if pause > 20 { pause as i64 } else { 0 });
                w.db = DbIndex(if db == 0 { 2 } else { 0 });
                w.run(&line)
            });
            // What these reply depends on where keys lie.
            if !line.starts_with("RANDOMKEY") && !line.starts_with("SCAN") {
                assert_eq!(replies[0], replies[1], "{line}");
                assert_eq!(replies[0], replies[2], "{line}");
            }
        }
        for w in &worlds {
            w.assert_replays();
        }
    }
}
