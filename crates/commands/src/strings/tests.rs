//! Replies are those of Redis 7.4 to the same commands.

use crate::testing::World;
use keyspace::DbIndex;
use resp::Protocol;

const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";
const NOT_INTEGER: &str = "-ERR value is not an integer or out of range";

/// A world with the list `l`.
fn world(shards: u16) -> World {
    let mut w = World::new(shards);
    assert_eq!(w.run("RPUSH l a"), "1");
    w
}

#[test]
fn set_takes_its_options_in_any_order() {
    let mut w = world(2);
    w.check(&[
        ("SET k v", "OK"),
        ("set k w XX GET", "\"v\""),
        ("SET k x NX GET", "\"w\""),
        ("SET k x NX", "nil"),
        ("SET none x XX", "nil"),
        ("SET none x XX GET", "nil"),
        ("SET none x NX GET", "nil"),
        ("GET none", "\"x\""),
        ("SET k v KEEPTTL GET", "\"w\""),
        ("SET k v PX 1500 NX", "nil"),
        ("SET k v PX 1500 XX", "OK"),
        ("PTTL k", "1500"),
        ("SET k v KEEPTTL", "OK"),
        ("PTTL k", "1500"),
        ("SET k v EX 10 GET", "\"v\""),
        ("PTTL k", "10000"),
        ("SET k v EXAT 1700000001", "OK"),
        ("PTTL k", "1000"),
        ("SET k v", "OK"),
        ("PTTL k", "-1"),
    ]);
    w.assert_replays();
}

#[test]
fn set_refuses_what_redis_refuses() {
    let mut w = world(1);
    let syntax = "-ERR syntax error";
    let expire = "-ERR invalid expire time in 'set' command";
    w.check(&[
        ("SET k v EX", syntax),
        ("SET k v EX 1 PX 5", syntax),
        ("SET k v NX XX", syntax),
        ("SET k v KEEPTTL EX 1", syntax),
        ("SET k v EX 1 KEEPTTL", syntax),
        ("SET k v FOO", syntax),
        ("SET k v EX 0", expire),
        ("SET k v EX -1", expire),
        ("SET k v EXAT -1", expire),
        ("SET k v EX 9223372036854775807", expire),
        ("SET k v PX 9223372036854775807", expire),
        ("SET k v EX x", NOT_INTEGER),
        ("SET l x GET", WRONG_TYPE),
        ("SET l x EX 0 GET", expire),
        ("SETEX k 0 v", "-ERR invalid expire time in 'setex' command"),
        (
            "PSETEX k -1 v",
            "-ERR invalid expire time in 'psetex' command",
        ),
        ("SETEX k x v", NOT_INTEGER),
        ("EXISTS k", "0"),
        ("SET l now-a-string", "OK"),
    ]);
    assert_eq!(w.dirty(), 2, "one RPUSH and one SET");
}

#[test]
fn the_older_setters_and_getters() {
    let mut w = world(3);
    w.check(&[
        ("SETNX a 1", "1"),
        ("SETNX a 2", "0"),
        ("SETNX l 2", "0"),
        ("GETSET a 3", "\"1\""),
        ("GETSET b 4", "nil"),
        ("GETSET l 4", WRONG_TYPE),
        ("SETEX a 100 5", "OK"),
        ("TTL a", "100"),
        ("GETSET a 6", "\"5\""),
        ("TTL a", "-1"),
        ("PSETEX a 1500 5", "OK"),
        ("GETDEL a", "\"5\""),
        ("GETDEL a", "nil"),
        ("GETDEL l", WRONG_TYPE),
        ("EXISTS a b l", "2"),
    ]);
    w.assert_replays();
}

#[test]
fn getex_changes_the_expiry_alone() {
    let mut w = world(1);
    w.check(&[
        ("SET k v", "OK"),
        ("GETEX k EX 10", "\"v\""),
        ("TTL k", "10"),
        ("GETEX k", "\"v\""),
        ("TTL k", "10"),
        ("GETEX k PERSIST", "\"v\""),
        ("TTL k", "-1"),
        ("GETEX none EX 0", "nil"),
        (
            "GETEX k EX 0",
            "-ERR invalid expire time in 'getex' command",
        ),
        ("GETEX k EX", "-ERR syntax error"),
        ("GETEX k PERSIST EX 1", "-ERR syntax error"),
        ("GETEX k EX 1 PERSIST", "-ERR syntax error"),
        ("GETEX l EX 0", WRONG_TYPE),
        ("GETEX k PXAT 1700000005000", "\"v\""),
    ]);
    assert_eq!(w.effects(), ["PEXPIREAT k 1700000005000"]);
    assert_eq!(w.run("GETEX k PXAT 1"), "\"v\"");
    assert_eq!(w.effects(), ["DEL k"]);
    assert_eq!(w.run("EXISTS k"), "0");
    w.assert_replays();
}

#[test]
fn effects_of_strings_are_absolute() {
    let mut w = world(1);
    let mut check = |line: &str, effects: &[&str]| {
        w.run(line);
        assert_eq!(w.effects(), effects, "{line}");
    };
    check("SET k v", &["SET k v"]);
    check("SET k v EX 5", &["SET k v PXAT 1700000005000"]);
    check("SET k v NX", &[]);
    check("SET k v GET KEEPTTL", &["SET k v KEEPTTL"]);
    check("SETEX k 7 v", &["SET k v PXAT 1700000007000"]);
    check("GETDEL k", &["DEL k"]);
    check("INCRBYFLOAT f 0.1", &["SET f 0.1 KEEPTTL"]);
    check("INCR n", &["INCR n"]);
    check("DECRBY n 5", &["DECRBY n 5"]);
    check("APPEND s \"a b\"", &["APPEND s \"a b\""]);
    check("SETRANGE s 0 x", &["SETRANGE s 0 x"]);
    check("SETRANGE s 0 \"\"", &[]);
    check("MSET a 1 b 2", &["SET a 1", "SET b 2"]);
    check("MSETNX a 1 c 2", &[]);
}

#[test]
fn several_keys_in_several_shards() {
    for shards in [1, 3, 8] {
        let mut w = world(shards);
        w.check(&[
            ("MSET a 1 b 2 c 3 a 4", "OK"),
            ("MGET a b c d l", "[\"4\", \"2\", \"3\", nil, nil]"),
            ("MSETNX d 1 a 2", "0"),
            ("MSETNX d 1 e 2", "1"),
            ("MGET d e", "[\"1\", \"2\"]"),
            (
                "MSET a",
                "-ERR wrong number of arguments for 'mset' command",
            ),
            (
                "MSET a 1 b",
                "-ERR wrong number of arguments for 'mset' command",
            ),
            (
                "MSETNX a 1 b",
                "-ERR wrong number of arguments for 'msetnx' command",
            ),
            ("MSET l 1", "OK"),
        ]);
        w.assert_replays();
    }
}

#[test]
fn numbers_count_and_overflow() {
    let mut w = world(1);
    let overflow = "-ERR increment or decrement would overflow";
    w.check(&[
        ("INCR n", "1"),
        ("INCRBY n 41", "42"),
        ("DECR n", "41"),
        ("DECRBY n 1", "40"),
        (
            "DECRBY n -9223372036854775808",
            "-ERR decrement would overflow",
        ),
        ("INCRBY n x", NOT_INTEGER),
        ("INCRBY l x", NOT_INTEGER),
        ("INCR l", WRONG_TYPE),
        ("SET n 9223372036854775807", "OK"),
        ("INCR n", overflow),
        ("SET n -9223372036854775808", "OK"),
        ("DECR n", overflow),
        ("SET n \" 1\"", "OK"),
        ("INCR n", NOT_INTEGER),
        ("SET n 10 EX 100", "OK"),
        ("INCR n", "11"),
        ("TTL n", "100"),
        ("OBJECT ENCODING n", "\"int\""),
        ("APPEND n 0", "3"),
        ("OBJECT ENCODING n", "\"raw\""),
        ("INCR n", "111"),
        ("OBJECT ENCODING n", "\"int\""),
    ]);
    w.assert_replays();
}

#[test]
fn floats_add_without_the_errors_of_binary_fractions() {
    let mut w = world(1);
    w.check(&[
        ("INCRBYFLOAT f 0.1", "\"0.1\""),
        ("INCRBYFLOAT f 0.2", "\"0.3\""),
        ("INCRBYFLOAT f 5.0e3", "\"5000.29999999999999982\""),
        ("SET f 10 EX 9", "OK"),
        ("INCRBYFLOAT f 5", "\"15\""),
        ("TTL f", "9"),
        ("OBJECT ENCODING f", "\"embstr\""),
        ("INCRBYFLOAT f x", "-ERR value is not a valid float"),
        (
            "INCRBYFLOAT f inf",
            "-ERR increment would produce NaN or Infinity",
        ),
        ("INCRBYFLOAT l x", WRONG_TYPE),
        ("SET f abc", "OK"),
        ("INCRBYFLOAT f 1", "-ERR value is not a valid float"),
    ]);
    w.assert_replays();
}

#[test]
fn pieces_of_strings() {
    let mut w = world(1);
    w.check(&[
        ("APPEND s 12", "2"),
        ("OBJECT ENCODING s", "\"int\""),
        ("APPEND s abc", "5"),
        ("OBJECT ENCODING s", "\"raw\""),
        ("STRLEN s", "5"),
        ("STRLEN none", "0"),
        ("STRLEN l", WRONG_TYPE),
        ("APPEND l x", WRONG_TYPE),
        ("GETRANGE s 0 -1", "\"12abc\""),
        ("SUBSTR s -3 -2", "\"ab\""),
        ("GETRANGE s 3 1", "\"\""),
        ("GETRANGE s -1 -3", "\"\""),
        ("GETRANGE s -100 1", "\"12\""),
        ("GETRANGE s 2 100", "\"abc\""),
        ("GETRANGE s 9 100", "\"\""),
        (
            "GETRANGE s -9223372036854775808 9223372036854775807",
            "\"12abc\"",
        ),
        ("GETRANGE none 0 -1", "\"\""),
        ("GETRANGE l x 1", NOT_INTEGER),
        ("GETRANGE l 0 1", WRONG_TYPE),
        ("SETRANGE s 1 XYZ", "5"),
        ("GET s", "\"1XYZc\""),
        ("SETRANGE new 3 a", "4"),
        ("GET new", "\"\\x00\\x00\\x00a\""),
        ("OBJECT ENCODING new", "\"raw\""),
        ("SETRANGE none 5 \"\"", "0"),
        ("EXISTS none", "0"),
        ("SETRANGE s 99 \"\"", "5"),
        ("SETRANGE s -1 \"\"", "-ERR offset is out of range"),
        ("SETRANGE l 0 \"\"", WRONG_TYPE),
        (
            "SETRANGE s 536870912 a",
            "-ERR string exceeds maximum allowed size (proto-max-bulk-len)",
        ),
        (
            "SETRANGE s 9223372036854775807 a",
            "-ERR string exceeds maximum allowed size (proto-max-bulk-len)",
        ),
    ]);
    w.assert_replays();
}

#[test]
fn strings_grow_past_every_way_of_storing_them() {
    let mut w = World::new(1);
    let mut model = Vec::new();
    for step in 0..600usize {
        let piece = vec![b'a' + (step % 26) as u8; step % 97];
        if step % 5 == 4 {
            let offset = model.len() * 2 / 3;
            let end = (offset + piece.len()).max(model.len());
            model.resize(end, 0);
            model[offset..offset + piece.len()].copy_from_slice(&piece);
            let digits = offset.to_string();
            w.run_args(&[b"SETRANGE", b"s", digits.as_bytes(), &piece]);
        } else {
            model.extend_from_slice(&piece);
            w.run_args(&[b"APPEND", b"s", &piece]);
        }
        let expected = format!(
            "${}\r\n{}\r\n",
            model.len(),
            String::from_utf8_lossy(&model)
        );
        assert_eq!(
            String::from_utf8_lossy(&w.run_args(&[b"GET", b"s"])),
            expected,
            "step {step}"
        );
    }
    assert!(model.len() > 4 * 4096);
    w.string_bytes_max = model.len() as u64;
    assert_eq!(
        w.run("APPEND s x"),
        "-ERR string exceeds maximum allowed size (proto-max-bulk-len)"
    );
    w.assert_replays();
}

#[test]
fn lcs_finds_the_subsequence_that_redis_finds() {
    let mut w = world(3);
    w.check(&[
        ("MSET a ohmytext b mynewtext", "OK"),
        ("LCS a b", "\"mytext\""),
        ("LCS a b LEN", "6"),
        (
            "LCS a b IDX",
            "[\"matches\", [[[4, 7], [5, 8]], [[2, 3], [0, 1]]], \"len\", 6]",
        ),
        (
            "LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN",
            "[\"matches\", [[[4, 7], [5, 8], 4]], \"len\", 6]",
        ),
        ("LCS a none", "\"\""),
        ("LCS none a IDX", "[\"matches\", [], \"len\", 0]"),
        (
            "LCS l b foo",
            "-ERR The specified keys must contain string values",
        ),
        (
            "LCS a b LEN IDX",
            "-ERR If you want both the length and indexes, please just use IDX.",
        ),
        ("LCS a b MINMATCHLEN x", NOT_INTEGER),
        ("LCS a b MINMATCHLEN", "-ERR syntax error"),
    ]);
    w.protocol = Protocol::Resp3;
    w.check(&[(
        "LCS a b IDX MINMATCHLEN 4",
        "{\"matches\": [[[4, 7], [5, 8]]], \"len\": 6}",
    )]);
    w.string_bytes_max = 200;
    w.check(&[(
        "LCS a b",
        "-ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
    )]);
}

#[test]
fn databases_and_expired_keys_do_not_mix_with_the_rest() {
    let mut w = World::new(2);
    w.check(&[("SET k zero PX 10", "OK")]);
    w.db = DbIndex(3);
    w.check(&[("SET k three", "OK"), ("GET k", "\"three\"")]);
    assert_eq!(w.run("APPEND k !"), "6");
    assert_eq!(w.effects(), ["3: APPEND k !"]);
    w.db = DbIndex(0);
    w.pass(10);
    assert_eq!(w.run("INCR k"), "1");
    assert_eq!(w.effects(), ["DEL k", "INCR k"]);
    w.assert_replays();
}
