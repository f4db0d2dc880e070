//! Sorted set commands that wait for a member where there is none.

use std::ops::Range;

use datatypes::Value;
use keyspace::{UnixMillis, ValueRef};
use resp::Reply;

use super::ends::{pop_from_first, pop_one, End, Pops};
use crate::args::timeout_seconds;
use crate::command::{Command, Flags, Group, Run};
use crate::context::{Ctx, Effect};
use crate::errors::CommandResult;
use crate::key_spec::KeySpec;
use crate::wait::Wait;

const ROW: Command = Command {
    group: Group::SortedSet,
    flags: Flags::WRITE.union(Flags::BLOCKING),
    ..Command::DEFAULT
};

pub const COMMANDS: &[Command] = &[
    Command {
        name: "bzpopmin",
        summary: "Takes the member with the lowest score of the first sorted set that is not empty; waits for one.",
        since: "5.0.0",
        complexity: "O(log(N)) for a set of N members",
        arity: -3,
        flags: ROW.flags.union(Flags::FAST),
        keys: &[KeySpec::until(1, -2, &["RW", "access", "delete"])],
        syntax: "key [key ...] timeout",
        run: Run::Keys(bzpopmin),
        ..ROW
    },
    Command {
        name: "bzpopmax",
        summary: "Takes the member with the highest score of the first sorted set that is not empty; waits for one.",
        since: "5.0.0",
        complexity: "O(log(N)) for a set of N members",
        arity: -3,
        flags: ROW.flags.union(Flags::FAST),
        keys: &[KeySpec::until(1, -2, &["RW", "access", "delete"])],
        syntax: "key [key ...] timeout",
        run: Run::Keys(bzpopmax),
        ..ROW
    },
    Command {
        name: "bzmpop",
        summary: "Takes the members with the lowest or highest scores of the first sorted set that is not empty; waits for some.",
        since: "7.0.0",
        complexity: "O(K+log(N)+M) for K keys and M members taken, from a set of N members",
        arity: -5,
        flags: ROW.flags.union(Flags::MOVABLEKEYS),
        keys: &[KeySpec::counted(2, &["RW", "access", "delete"])],
        syntax: "timeout numkeys key [key ...] <MIN | MAX> [COUNT count]",
        run: Run::Keys(bzmpop),
        ..ROW
    },
];

fn is_sorted_set(value: ValueRef<'_>) -> bool {
    matches!(value, ValueRef::Object(Value::SortedSet(_)))
}

fn wait_for(keys: Range<usize>, until: Option<UnixMillis>) -> Wait {
    Wait {
        keys,
        wanted: is_sorted_set,
        on_deletion: false,
        until,
        needs_all_keys: false,
        again: None,
    }
}

fn bzpopmin(c: &mut Ctx<'_, '_>) -> CommandResult {
    pop(c, End::Lowest)
}

fn bzpopmax(c: &mut Ctx<'_, '_>) -> CommandResult {
    pop(c, End::Highest)
}

fn pop(c: &mut Ctx<'_, '_>, end: End) -> CommandResult {
    let last = c.argv.len() - 1;
    let until = timeout_seconds(c.argv.arg(last), c.keys.now)?;
    for i in 1..last {
        let key = c.key(i);
        if !c.keys.holds(key) || c.keys.sorted_set_mut(key)?.is_none() {
            continue;
        }
        c.reply.array(3);
        c.reply.bulk(key.bytes);
        let effect = [end.pop_command(), key.bytes];
        return pop_one(c, key, end, Effect::Command(&effect));
    }
    c.wait(wait_for(1..last, until), Reply::null_array);
    Ok(())
}

fn bzmpop(c: &mut Ctx<'_, '_>) -> CommandResult {
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
                ("ZADD b 1 a 2 b 3 c 4 d", "4"),
                ("BZPOPMIN a b 0", r#"["b", "a", "1"]"#),
            ]);
            assert_eq!(world.effects(), ["ZPOPMIN b"]);
            world.check(&[("BZPOPMAX a b 0", r#"["b", "d", "4"]"#)]);
            assert_eq!(world.effects(), ["ZPOPMAX b"]);
            world.check(&[(
                "BZMPOP 0 2 a b MAX COUNT 9",
                r#"["b", [["c", "3"], ["b", "2"]]]"#,
            )]);
            assert_eq!(world.effects(), ["ZPOPMAX b 2"]);
            world.check(&[
                ("EXISTS b", "0"),
                ("BZPOPMIN a b 0", "nil-array"),
                ("BZMPOP 0 1 b MIN", "nil-array"),
                (
                    "BZPOPMIN a x",
                    "-ERR timeout is not a float or out of range",
                ),
                ("BZMPOP x 1 a UP", "-ERR syntax error"),
            ]);
            world.assert_replays();
        }
    }
}
