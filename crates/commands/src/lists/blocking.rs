//! List commands that wait for an element where there is none.

use std::ops::Range;

use datatypes::Value;
use keyspace::{UnixMillis, ValueRef};
use resp::Reply;

use super::ends::{move_element, pop_from_first, End, Pops};
use crate::args::timeout_seconds;
use crate::command::{Command, Deprecated, Flags, Group, Run};
use crate::context::{Ctx, Effect};
use crate::elements;
use crate::errors::CommandResult;
use crate::key_spec::KeySpec;
use crate::wait::Wait;

const ROW: Command = Command {
    group: Group::List,
    flags: Flags::WRITE.union(Flags::BLOCKING),
    ..Command::DEFAULT
};

pub const COMMANDS: &[Command] = &[
    Command {
        name: "blpop",
        summary: "Takes the first element of the first list that is not empty; waits for one.",
        since: "2.0.0",
        complexity: "O(N) for N keys",
        arity: -3,
        keys: &[KeySpec::until(1, -2, &["RW", "access", "delete"])],
        syntax: "key [key ...] timeout",
        run: Run::Keys(blpop),
        ..ROW
    },
    Command {
        name: "brpop",
        summary: "Takes the last element of the first list that is not empty; waits for one.",
        since: "2.0.0",
        complexity: "O(N) for N keys",
        arity: -3,
        keys: &[KeySpec::until(1, -2, &["RW", "access", "delete"])],
        syntax: "key [key ...] timeout",
        run: Run::Keys(brpop),
        ..ROW
    },
    Command {
        name: "blmove",
        summary: "Moves an element from an end of one list to an end of another; waits for one.",
        since: "6.2.0",
        arity: 6,
        flags: ROW.flags.union(Flags::DENYOOM),
        keys: &[
            KeySpec::at(1, &["RW", "access", "delete"]),
            KeySpec::at(2, &["RW", "insert"]),
        ],
        syntax: "source destination <LEFT | RIGHT> <LEFT | RIGHT> timeout",
        run: Run::Keys(blmove),
        ..ROW
    },
    Command {
        name: "brpoplpush",
        summary:
            "Moves the last element of one list before the first one of another; waits for one.",
        since: "2.2.0",
        arity: 4,
        flags: ROW.flags.union(Flags::DENYOOM),
        keys: &[
            KeySpec::at(1, &["RW", "access", "delete"]),
            KeySpec::at(2, &["RW", "insert"]),
        ],
        syntax: "source destination timeout",
        run: Run::Keys(brpoplpush),
        deprecated: Some(Deprecated {
            since: "6.2.0",
            replaced_by: "`BLMOVE` with the `RIGHT` and `LEFT` arguments",
        }),
        ..ROW
    },
    Command {
        name: "blmpop",
        summary: "Takes elements from the first list that is not empty; waits for some.",
        since: "7.0.0",
        complexity: "O(N+M) for N keys and M elements taken",
        arity: -5,
        flags: ROW.flags.union(Flags::MOVABLEKEYS),
        keys: &[KeySpec::counted(2, &["RW", "access", "delete"])],
        syntax: "timeout numkeys key [key ...] <LEFT | RIGHT> [COUNT count]",
        run: Run::Keys(blmpop),
        ..ROW
    },
];

fn is_list(value: ValueRef<'_>) -> bool {
    matches!(value, ValueRef::Object(Value::List(_)))
}

fn wait_for(keys: Range<usize>, until: Option<UnixMillis>) -> Wait {
    Wait {
        keys,
        wanted: is_list,
        on_deletion: false,
        until,
        needs_all_keys: false,
        again: None,
    }
}

fn blpop(c: &mut Ctx<'_, '_>) -> CommandResult {
    pop(c, End::Left)
}

fn brpop(c: &mut Ctx<'_, '_>) -> CommandResult {
    pop(c, End::Right)
}

fn pop(c: &mut Ctx<'_, '_>, end: End) -> CommandResult {
    let last = c.argv.len() - 1;
    let until = timeout_seconds(c.argv.arg(last), c.keys.now)?;
    let limits = c.limits;
    for i in 1..last {
        let key = c.key(i);
        if !c.keys.holds(key) {
            continue;
        }
        let Some(list) = c.keys.list_mut(key)? else {
            continue;
        };
        c.reply.array(2);
        c.reply.bulk(key.bytes);
        elements::bulk(&mut c.reply, end.value(list));
        end.drop_one(list, limits);
        let emptied = list.is_empty();
        let effect = [end.pop_command(), key.bytes];
        c.keys
            .wrote(key, end.pop_name(), 1, Effect::Command(&effect));
        if emptied {
            c.keys.remove_if_empty(key);
        }
        return Ok(());
    }
    c.wait(wait_for(1..last, until), Reply::null_array);
    Ok(())
}

fn blmove(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (from, to) = (End::parse(c.argv.arg(3))?, End::parse(c.argv.arg(4))?);
    wait_to_move(c, from, to, 5)
}

fn brpoplpush(c: &mut Ctx<'_, '_>) -> CommandResult {
    wait_to_move(c, End::Right, End::Left, 3)
}

fn wait_to_move(c: &mut Ctx<'_, '_>, from: End, to: End, timeout_at: usize) -> CommandResult {
    let until = timeout_seconds(c.argv.arg(timeout_at), c.keys.now)?;
    if !move_element(c, from, to)? {
        let wait = Wait {
            needs_all_keys: true,
            ..wait_for(1..2, until)
        };
        c.wait(wait, Reply::null);
    }
    Ok(())
}

fn blmpop(c: &mut Ctx<'_, '_>) -> CommandResult {
    let pops = Pops::parse(c.argv, 2)?;
    let until = timeout_seconds(c.argv.arg(1), c.keys.now)?;
    if !pop_from_first(c, &pops)? {
        c.wait(wait_for(pops.keys, until), Reply::null_array);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::World;

    #[test]
    fn what_is_there_is_taken_at_once() {
        for shards in [1, 3] {
            let mut world = World::new(shards);
            world.check(&[
                ("RPUSH b 1 2 3 4 5 6", "6"),
                ("BLPOP a b c 0", r#"["b", "1"]"#),
            ]);
            assert_eq!(world.effects(), ["LPOP b"]);
            world.check(&[("BRPOP a b 0.5", r#"["b", "6"]"#)]);
            assert_eq!(world.effects(), ["RPOP b"]);
            world.check(&[("BLMPOP 0 2 a b RIGHT COUNT 2", r#"["b", ["5", "4"]]"#)]);
            assert_eq!(world.effects(), ["RPOP b 2"]);
            world.check(&[
                ("BLMOVE b c LEFT LEFT 0", r#""2""#),
                ("BRPOPLPUSH b c 0", r#""3""#),
                ("EXISTS b", "0"),
                ("BLPOP c 0", r#"["c", "3"]"#),
            ]);
            world.assert_replays();
        }
    }

    #[test]
    fn where_nothing_may_wait_there_is_a_reply() {
        let mut world = World::new(3);
        world.check(&[
            ("BLPOP a b 0", "nil-array"),
            ("BLMPOP 0 2 a b LEFT", "nil-array"),
            ("BLMOVE a b LEFT LEFT 0", "nil"),
            ("BRPOPLPUSH a b 0", "nil"),
            ("BLPOP a x", "-ERR timeout is not a float or out of range"),
            ("BLPOP a -0.1", "-ERR timeout is negative"),
            ("BLPOP a 1e30", "-ERR timeout is out of range"),
            ("BLMPOP x 0 a LEFT", "-ERR numkeys should be greater than 0"),
            ("BLMPOP x 1 a MIDDLE", "-ERR syntax error"),
            ("BLMOVE a b UP LEFT x", "-ERR syntax error"),
            ("SET s v", "OK"),
            (
                "BLPOP a s 0",
                "-WRONGTYPE Operation against a key holding the wrong kind of value",
            ),
        ]);
    }
}
