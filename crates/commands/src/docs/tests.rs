//! Replies are those of Redis 7.4 to the same commands, but for the summaries.

use crate::testing::World;
use resp::Protocol;

fn resp3() -> World {
    let mut w = World::new(1);
    w.protocol = Protocol::Resp3;
    w
}

#[test]
fn info_says_what_the_row_says() {
    let at_1 = "\"begin_search\": {\"type\": \"index\", \"spec\": {\"index\": 1}}, \
                \"find_keys\": {\"type\": \"range\", \"spec\": {\"lastkey\": 0, \"keystep\": 1, \"limit\": 0}}";
    resp3().check(&[
        (
            "COMMAND INFO get",
            &format!(
                "[[\"get\", 2, #{{readonly, fast}}, 1, 1, 1, #{{@read, @string, @fast}}, #{{}}, \
                 #{{{{\"flags\": #{{RO, access}}, {at_1}}}}}, #{{}}]]"
            ),
        ),
        ("COMMAND INFO none", "[nil]"),
        (
            "COMMAND INFO config|get none",
            "[[\"config|get\", -3, #{admin, noscript, loading, stale}, 0, 0, 0, \
             #{@admin, @slow, @dangerous}, #{}, #{}, #{}], nil]",
        ),
    ]);
    World::new(1).check(&[(
        "COMMAND INFO GET",
        "[[\"get\", 2, [readonly, fast], 1, 1, 1, [@read, @string, @fast], [], \
         [[\"flags\", [RO, access], \"begin_search\", [\"type\", \"index\", \"spec\", [\"index\", 1]], \
         \"find_keys\", [\"type\", \"range\", \"spec\", [\"lastkey\", 0, \"keystep\", 1, \"limit\", 0]]]], []]]",
    )]);
}

#[test]
fn key_ranges_cover_what_three_numbers_can() {
    let mut w = World::new(1);
    let mut check = |name: &str, expected: &str| {
        let reply = w.run(&format!("COMMAND INFO {name}"));
        // Behind the flags, in front of the categories.
        let range = reply
            .split("], ")
            .nth(1)
            .and_then(|rest| rest.split(", [").next());
        assert_eq!(range, Some(expected), "{name}: {reply}");
        reply.contains("movablekeys")
    };
    assert!(!check("mset", "1, -1, 2"));
    assert!(!check("rename", "1, 2, 1"));
    assert!(!check("lcs", "1, 2, 1"));
    assert!(!check("ping", "0, 0, 0"));
    assert!(check("sintercard", "0, 0, 0"));
}

#[test]
fn docs_hold_the_arguments_as_a_tree() {
    let mut w = resp3();
    let key =
        "{\"name\": \"key\", \"type\": \"key\", \"display_text\": \"key\", \"key_spec_index\": 0}";
    let token = |name: &str| {
        format!(
            "{{\"name\": \"{}\", \"type\": \"pure-token\", \"display_text\": \"{}\", \"token\": \"{name}\"}}",
            name.to_lowercase(),
            name.to_lowercase()
        )
    };
    let choice = [token("NX"), token("XX"), token("GT"), token("LT")].join(", ");
    w.check(&[
        (
            "COMMAND DOCS expire",
            &format!(
                "{{\"expire\": {{\"summary\": \"Lets a key expire after some seconds.\", \
                 \"since\": \"1.0.0\", \"group\": \"generic\", \"complexity\": \"O(1)\", \"arguments\": [{key}, \
                 {{\"name\": \"seconds\", \"type\": \"integer\", \"display_text\": \"seconds\"}}, \
                 {{\"name\": \"choice\", \"type\": \"oneof\", \"flags\": #{{optional}}, \"arguments\": [{choice}]}}]}}}}"
            ),
        ),
        (
            "COMMAND DOCS none quit",
            "{\"quit\": {\"summary\": \"Closes the connection.\", \"since\": \"1.0.0\", \
             \"group\": \"connection\", \"complexity\": \"O(1)\", \"doc_flags\": #{deprecated}, \
             \"deprecated_since\": \"7.2.0\", \"replaced_by\": \"just closing the connection\"}}",
        ),
        ("COMMAND DOCS none", "{}"),
    ]);
    let object = w.run("COMMAND DOCS object");
    assert!(
        object.contains("\"subcommands\": {\"object|encoding\": {"),
        "{object}"
    );
}

#[test]
fn lists_are_filtered() {
    let mut w = World::new(1);
    w.check(&[
        (
            "COMMAND LIST FILTERBY PATTERN Config|re*",
            "[\"config|resetstat\", \"config|rewrite\"]",
        ),
        (
            "COMMAND LIST filterby aclcat transaction",
            "[\"discard\", \"exec\", \"multi\", \"unwatch\", \"watch\"]",
        ),
        ("COMMAND LIST FILTERBY ACLCAT none", "[]"),
        ("COMMAND LIST FILTERBY MODULE none", "[]"),
        ("COMMAND LIST FILTERBY FOO bar", "-ERR syntax error"),
        ("COMMAND LIST FILTERBY", "-ERR syntax error"),
        ("COMMAND LIST foo", "-ERR syntax error"),
    ]);
    let count: usize = w.run("COMMAND COUNT").parse().expect("a count");
    assert_eq!(count, crate::all().count());
    assert!(w.run("COMMAND LIST").split(", ").count() > count);
    assert_eq!(w.run("COMMAND"), w.run("COMMAND INFO"));
    assert!(w
        .run("COMMAND HELP")
        .contains("GETKEYS command [arg [arg ...]]"));
}

#[test]
fn keys_of_requests_are_found() {
    let mut w = World::new(1);
    let invalid = "-ERR Invalid arguments specified for command";
    w.check(&[
        ("COMMAND GETKEYS MSET a 1 b 2", "[\"a\", \"b\"]"),
        ("COMMAND GETKEYS object encoding a", "[\"a\"]"),
        ("COMMAND GETKEYS eval s 0 a", "[]"),
        ("COMMAND GETKEYS eval s 2 a", "[]"),
        ("COMMAND GETKEYS eval s 1 a b", "[\"a\"]"),
        (
            "COMMAND GETKEYS object foo a",
            "-ERR Invalid command specified",
        ),
        (
            "COMMAND GETKEYS object",
            "-ERR The command has no key arguments",
        ),
        ("COMMAND GETKEYS foo bar", "-ERR Invalid command specified"),
        (
            "COMMAND GETKEYS ping",
            "-ERR The command has no key arguments",
        ),
        (
            "COMMAND GETKEYS get",
            "-ERR Invalid number of arguments specified for command",
        ),
        ("COMMAND GETKEYS sintercard 2 a b", "[\"a\", \"b\"]"),
        ("COMMAND GETKEYS sintercard 3 a b", invalid),
        ("COMMAND GETKEYS sintercard 0 a", invalid),
        ("COMMAND GETKEYS sintercard x a b", invalid),
        ("COMMAND GETKEYSANDFLAGS set a b", "[[\"a\", [OW, update]]]"),
        (
            "COMMAND GETKEYSANDFLAGS set a b get",
            "[[\"a\", [RW, access, update]]]",
        ),
        (
            "COMMAND GETKEYSANDFLAGS rename a b",
            "[[\"a\", [RW, access, delete]], [\"b\", [OW, update]]]",
        ),
    ]);
}
