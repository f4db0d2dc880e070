use crate::testing::World;

/// Runs the same on one shard and on several, and replays the effects.
fn check(script: &[(&str, &str)]) {
    for shards in [1, 3] {
        let mut world = World::new(shards);
        world.check(script);
        world.assert_replays();
    }
}

#[test]
fn entries_are_added_read_and_deleted() {
    check(&[
        ("XADD s 1-1 f v", r#""1-1""#),
        ("XADD s 1-* f v n 5", r#""1-2""#),
        ("XADD s * f v", r#""1700000000000-0""#),
        ("XADD s * f v", r#""1700000000000-1""#),
        (
            "XADD s 1-3 f v",
            "-ERR The ID specified in XADD is equal or smaller than the target stream top item",
        ),
        ("XADD none NOMKSTREAM * f v", "nil"),
        (
            "XADD none 0-0 f v",
            "-ERR The ID specified in XADD must be greater than 0-0",
        ),
        (
            "XADD none 0 f v",
            "-ERR The ID specified in XADD must be greater than 0-0",
        ),
        ("EXISTS none", "0"),
        ("XLEN s", "4"),
        (
            "XRANGE s - 1",
            r#"[["1-1", ["f", "v"]], ["1-2", ["f", "v", "n", "5"]]]"#,
        ),
        (
            "XREVRANGE s + (1-2 COUNT 1",
            r#"[["1700000000000-1", ["f", "v"]]]"#,
        ),
        ("XDEL s 1-1 1-1 9", "1"),
        (
            "XADD s 18446744073709551615-18446744073709551615 f v",
            r#""18446744073709551615-18446744073709551615""#,
        ),
        (
            "XADD s * f v",
            "-ERR The stream has exhausted the last possible ID, unable to add more items",
        ),
        ("OBJECT ENCODING s", r#""stream""#),
        ("TYPE s", "stream"),
    ]);
}

#[test]
fn a_stream_without_entries_stays() {
    check(&[
        ("XADD s MAXLEN 0 5-5 f v", r#""5-5""#),
        ("XLEN s", "0"),
        ("EXISTS s", "1"),
        (
            "XADD s 5-5 f v",
            "-ERR The ID specified in XADD is equal or smaller than the target stream top item",
        ),
        ("XADD s 6-1 f v", r#""6-1""#),
        ("XDEL s 6-1", "1"),
        ("EXISTS s", "1"),
        ("XGROUP CREATE t g $ MKSTREAM", "OK"),
        ("TYPE t", "stream"),
    ]);
}

#[test]
fn effects_name_ids_and_lengths() {
    let mut world = World::new(1);
    world.limits.stream_node_max_entries = 2;
    world.run("XADD s * f v");
    assert_eq!(world.effects(), ["XADD s 1700000000000-0 f v"]);
    world.run("XADD s 1700000000001 f v");
    assert_eq!(world.effects(), ["XADD s 1700000000001 f v"]);
    world.run("XADD s MAXLEN ~ 10 * f v");
    assert_eq!(world.effects(), ["XADD s 1700000000001-1 f v"]);
    world.run("XADD s MAXLEN ~ 2 * f v");
    assert_eq!(world.effects(), ["XADD s MAXLEN = 2 1700000000001-2 f v"]);
    world.run("XTRIM s MINID ~ 1700000000001-1");
    assert_eq!(world.effects().len(), 0);
    world.run("XTRIM s MAXLEN ~ 0");
    assert_eq!(world.effects(), ["XTRIM s MAXLEN = 0"]);
    world.run("XTRIM s MAXLEN 0");
    assert_eq!(world.effects().len(), 0);
    world.assert_replays();
}

#[test]
fn what_a_group_is_given_is_logged_as_claims() {
    let mut world = World::new(1);
    world.check(&[
        ("XADD s 1-1 f v", r#""1-1""#),
        ("XADD s 2-1 f v", r#""2-1""#),
        ("XGROUP CREATE s g 0", "OK"),
        (
            "XREADGROUP GROUP g alice COUNT 1 STREAMS s >",
            r#"[["s", [["1-1", ["f", "v"]]]]]"#,
        ),
    ]);
    assert_eq!(
        world.effects(),
        [
            "XGROUP CREATECONSUMER s g alice",
            "XCLAIM s g alice 0 1-1 TIME 1700000000000 RETRYCOUNT 1 FORCE JUSTID LASTID 1-1",
            "XGROUP SETID s g 1-1 ENTRIESREAD 1",
        ]
    );
    world.pass(50);
    world.check(&[
        (
            "XREADGROUP GROUP g bob NOACK STREAMS s >",
            r#"[["s", [["2-1", ["f", "v"]]]]]"#,
        ),
        ("XREADGROUP GROUP g bob STREAMS s >", "nil-array"),
        (
            "XREADGROUP GROUP g alice STREAMS s 0",
            r#"[["s", [["1-1", ["f", "v"]]]]]"#,
        ),
        ("XPENDING s g", r#"[1, "1-1", "1-1", [["alice", "1"]]]"#),
        ("XPENDING s g - + 5", r#"[["1-1", "alice", 0, 2]]"#),
        ("XCLAIM s g bob 1000 1-1", "[]"),
        (
            "XCLAIM s g bob 0 1-1 2-1 IDLE 5",
            r#"[["1-1", ["f", "v"]]]"#,
        ),
        ("XPENDING s g IDLE 5 - + 5 bob", r#"[["1-1", "bob", 5, 3]]"#),
        (
            "XCLAIM s g bob 0 2-1 FORCE JUSTID RETRYCOUNT 9",
            r#"["2-1"]"#,
        ),
        ("XDEL s 1-1", "1"),
        (
            "XAUTOCLAIM s g alice 0 - COUNT 1",
            r#"["2-1", [], ["1-1"]]"#,
        ),
        ("XAUTOCLAIM s g alice 0 - JUSTID", r#"["0-0", ["2-1"], []]"#),
        ("XACK s g 2-1 2-1 3-1", "1"),
        ("XGROUP DELCONSUMER s g bob", "0"),
    ]);
    world.assert_replays();
}

#[test]
fn groups_of_streams_in_several_shards() {
    check(&[
        ("XADD a 1-1 f v", r#""1-1""#),
        ("XADD b 2-1 f v", r#""2-1""#),
        ("XADD c 3-1 f v", r#""3-1""#),
        ("XGROUP CREATE a g 0", "OK"),
        ("XGROUP CREATE b g 0", "OK"),
        (
            "XGROUP CREATE b g 0",
            "-BUSYGROUP Consumer Group name already exists",
        ),
        (
            "XREADGROUP GROUP g c STREAMS a b > >",
            r#"[["a", [["1-1", ["f", "v"]]]], ["b", [["2-1", ["f", "v"]]]]]"#,
        ),
        (
            "XREADGROUP GROUP g c STREAMS a c > >",
            "-NOGROUP No such key 'c' or consumer group 'g' in XREADGROUP with GROUP option",
        ),
        (
            "XREAD STREAMS a none c 1 0 +",
            r#"[["a", [["1-1", ["f", "v"]]]], ["c", [["3-1", ["f", "v"]]]]]"#,
        ),
        ("XREAD COUNT 1 STREAMS a b $ $", "nil-array"),
        ("XGROUP DESTROY a g", "1"),
        ("XGROUP DESTROY a g", "0"),
    ]);
}

#[test]
fn a_change_of_groups_is_none_of_the_key() {
    let mut world = World::new(1);
    world.check(&[
        ("XADD s 1-1 f v", r#""1-1""#),
        ("XGROUP CREATE s g 0", "OK"),
    ]);
    assert_eq!(world.dirty(), 2);
    world.run("XREADGROUP GROUP g c STREAMS s >");
    assert_eq!(world.dirty(), 4, "a consumer, and what was delivered");
    world.run("XREADGROUP GROUP g c STREAMS s 0");
    assert_eq!(world.dirty(), 4);
    world.run("XACK s g 1-1 1-2");
    assert_eq!(world.dirty(), 5);
}
