//! Random members of a set.

use datatypes::Element;

use crate::args::{count_or, symmetric_integer};
use crate::command::{Command, Flags, Group, Run};
use crate::context::{Ctx, Effect};
use crate::effects;
use crate::elements::{self, visit_sample, Draw};
use crate::errors::{CommandResult, NOT_POSITIVE, SYNTAX};
use crate::key_spec::KeySpec;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "spop",
        summary: "Takes random members out of a set.",
        since: "1.0.0",
        group: Group::Set,
        complexity: "O(N) for N members taken",
        arity: -2,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "access", "delete"])],
        syntax: "key [count]",
        run: Run::Keys(spop),
        tips: &["nondeterministic_output"],
        ..Command::DEFAULT
    },
    Command {
        name: "srandmember",
        summary: "Replies random members of a set.",
        since: "1.0.0",
        group: Group::Set,
        complexity: "O(N) for N members replied",
        arity: -2,
        flags: Flags::READONLY,
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key [count]",
        run: Run::Keys(srandmember),
        tips: &["nondeterministic_output"],
        ..Command::DEFAULT
    },
];

fn spop(c: &mut Ctx<'_, '_>) -> CommandResult {
    match c.argv.len() {
        2 => spop_one(c),
        3 => spop_several(c),
        _ => Err(SYNTAX),
    }
}

fn spop_one(c: &mut Ctx<'_, '_>) -> CommandResult {
    let key = c.key(1);
    let Some(set) = c.keys.set_mut(key)? else {
        c.reply.null();
        return Ok(());
    };
    let member = set.pop(c.rng).expect("a stored set has members");
    let emptied = set.is_empty();
    let removal: [&[u8]; 3] = [b"SREM", key.bytes, &member];
    c.keys.wrote(key, "spop", 1, Effect::Command(&removal));
    if emptied {
        c.keys.remove_if_empty(key);
    }
    c.reply.bulk(&member);
    Ok(())
}

fn spop_several(c: &mut Ctx<'_, '_>) -> CommandResult {
    let count = count_or(c.argv.arg(2), NOT_POSITIVE)?;
    let key = c.key(1);
    let set = match c.keys.set_mut(key)? {
        Some(set) if count > 0 => set,
        _ => {
            c.reply.set(0);
            return Ok(());
        }
    };
    if count >= set.len() {
        return spop_all(c);
    }
    let members: Vec<Vec<u8>> = std::iter::from_fn(|| set.pop(c.rng)).take(count).collect();
    effects::log_elements(
        &mut c.keys,
        "SREM",
        key,
        members.iter().map(|member| Element::Bytes(member)),
    );
    c.keys.wrote(key, "spop", count as u64, Effect::Covered);
    c.reply.set(count);
    members.iter().for_each(|member| c.reply.bulk(member));
    Ok(())
}

/// SPOP of as many members as there are, or more.
fn spop_all(c: &mut Ctx<'_, '_>) -> CommandResult {
    let key = c.key(1);
    if let Some(set) = c.keys.set_mut(key)? {
        c.reply.set(set.len());
        set.iter()
            .for_each(|member| elements::bulk(&mut c.reply, member));
        let count = set.len() as u64;
        let deletion = [b"DEL", key.bytes];
        c.keys.wrote(key, "spop", count, Effect::Command(&deletion));
        if let Some(entry) = c.keys.remove(key) {
            c.keys.free(key, entry);
        }
        c.keys.wrote(key, "del", 0, Effect::Covered);
    }
    Ok(())
}

fn srandmember(c: &mut Ctx<'_, '_>) -> CommandResult {
    let key = c.key(1);
    let draw = match c.argv.len() {
        2 => None,
        3 => Some(Draw::from_count(symmetric_integer(c.argv.arg(2))?)?),
        _ => return Err(SYNTAX),
    };
    let Some(set) = c.keys.read_set(key)? else {
        match draw {
            None => c.reply.null(),
            Some(_) => c.reply.array(0),
        }
        return Ok(());
    };
    let reply = &mut c.reply;
    match draw {
        None => elements::bulk(reply, set.random(c.rng).expect("a stored set has members")),
        Some(Draw::Repeating(count)) => {
            reply.array(count);
            for _ in 0..count {
                elements::bulk(reply, set.random(c.rng).expect("a stored set has members"));
            }
        }
        Some(Draw::Distinct(count)) => {
            let count = count.min(set.len());
            reply.array(count);
            visit_sample(
                c.rng,
                (count, set.len()),
                set.iter(),
                |rng| set.random(rng),
                Element::to_vec,
                |member| elements::bulk(reply, member),
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::World;

    /// The bulk strings of a reply, sorted.
    fn strings(reply: &str) -> Vec<String> {
        let quoted = reply.split('"').skip(1).step_by(2);
        let mut strings: Vec<String> = quoted.map(ToString::to_string).collect();
        strings.sort();
        strings
    }

    #[test]
    fn refusals_and_absent_keys() {
        let mut world = World::new(1);
        world.check(&[
            ("SPOP none", "nil"),
            ("SPOP none 2", "[]"),
            ("SPOP none -1", "-ERR value is out of range, must be positive"),
            ("SPOP none 1 2", "-ERR syntax error"),
            ("SRANDMEMBER none", "nil"),
            ("SRANDMEMBER none -2", "[]"),
            ("SRANDMEMBER none x", "-ERR value is not an integer or out of range"),
            (
                "SRANDMEMBER none -9223372036854775808",
                "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
            ),
            ("SRANDMEMBER none 1 2", "-ERR syntax error"),
            ("SADD s a", "1"),
            ("SPOP s 0", "[]"),
            ("SRANDMEMBER s 0", "[]"),
            ("SRANDMEMBER s -3", r#"["a", "a", "a"]"#),
        ]);
    }

    #[test]
    fn what_is_popped_is_logged_and_gone() {
        for (shards, members, count) in
            [(1, 3, 1), (1, 10, 4), (3, 1000, 600), (1, 5, 5), (1, 5, 9)]
        {
            let mut world = World::new(shards);
            let names: Vec<String> = (0..members).map(|i| format!("m{i}")).collect();
            world.run(&format!("SADD s {}", names.join(" ")));
            let popped = strings(&world.run(&format!("SPOP s {count}")));
            let chunks = world.effects();
            assert!(chunks.iter().all(|effect| effect.len() < 8000));
            let left = strings(&world.run("SMEMBERS s"));
            assert_eq!(popped.len(), count.min(members));
            let mut together = [popped, left].concat();
            together.sort();
            let mut names = names;
            names.sort();
            assert_eq!(together, names);
            assert_eq!(world.dirty(), (members + count.min(members)) as u64);
            world.assert_replays();
        }
    }

    #[test]
    fn single_pops_empty_the_set() {
        let mut world = World::new(1);
        world.run("SADD s 1 2 3");
        let popped: Vec<String> = (0..3).map(|_| world.run("SPOP s")).collect();
        assert_eq!(strings(&popped.concat()), ["1", "2", "3"]);
        world.check(&[("EXISTS s", "0"), ("SPOP s", "nil")]);
        world.assert_replays();
    }

    #[test]
    fn samples_have_no_member_twice() {
        let mut world = World::new(1);
        let names: Vec<String> = (0..600).map(|i| format!("m{i}")).collect();
        world.run(&format!("SADD s {}", names.join(" ")));
        for count in [1, 10, 250, 599, 600, 1000] {
            let mut sample = strings(&world.run(&format!("SRANDMEMBER s {count}")));
            assert_eq!(sample.len(), count.min(600));
            sample.dedup();
            assert_eq!(sample.len(), count.min(600));
        }
        assert_eq!(strings(&world.run("SRANDMEMBER s -1000")).len(), 1000);
    }
}
