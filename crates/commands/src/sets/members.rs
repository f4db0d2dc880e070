//! Given members of a set, and all of them.

use datatypes::{Encoding, Limits, Set, Value};

use crate::command::{Command, Flags, Group, Run};
use crate::context::{Ctx, Effect};
use crate::elements;
use crate::errors::CommandResult;
use crate::key_spec::KeySpec;
use crate::scan_options::{cursor, reply_empty_page, reply_page, ScanOptions, Scanned};

pub const COMMANDS: &[Command] = &[
    Command {
        name: "sadd",
        summary: "Adds members to a set, creating the set if need be.",
        since: "1.0.0",
        group: Group::Set,
        complexity: "O(N) for N members",
        arity: -3,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "insert"])],
        syntax: "key member [member ...]",
        run: Run::Keys(sadd),
        ..Command::DEFAULT
    },
    Command {
        name: "srem",
        summary: "Removes members from a set.",
        since: "1.0.0",
        group: Group::Set,
        complexity: "O(N) for N members",
        arity: -3,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "delete"])],
        syntax: "key member [member ...]",
        run: Run::Keys(srem),
        ..Command::DEFAULT
    },
    Command {
        name: "smove",
        summary: "Moves a member from one set to another.",
        since: "1.0.0",
        group: Group::Set,
        complexity: "O(1)",
        arity: 4,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[
            KeySpec::at(1, &["RW", "access", "delete"]),
            KeySpec::at(2, &["RW", "insert"]),
        ],
        syntax: "source destination member",
        run: Run::Keys(smove),
        ..Command::DEFAULT
    },
    Command {
        name: "sismember",
        summary: "Replies whether a member is in a set.",
        since: "1.0.0",
        group: Group::Set,
        complexity: "O(1)",
        arity: 3,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO"])],
        syntax: "key member",
        run: Run::Keys(sismember),
        ..Command::DEFAULT
    },
    Command {
        name: "smismember",
        summary: "Replies of each of several members whether it is in a set.",
        since: "6.2.0",
        group: Group::Set,
        complexity: "O(N) for N members",
        arity: -3,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key member [member ...]",
        run: Run::Keys(smismember),
        ..Command::DEFAULT
    },
    Command {
        name: "scard",
        summary: "Replies how many members a set has.",
        since: "1.0.0",
        group: Group::Set,
        complexity: "O(1)",
        arity: 2,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO"])],
        syntax: "key",
        run: Run::Keys(scard),
        ..Command::DEFAULT
    },
    Command {
        name: "smembers",
        summary: "Replies all members of a set.",
        since: "1.0.0",
        group: Group::Set,
        complexity: "O(N) for a set of N members",
        arity: 2,
        flags: Flags::READONLY,
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key",
        run: Run::Keys(smembers),
        tips: &["nondeterministic_output_order"],
        ..Command::DEFAULT
    },
    Command {
        name: "sscan",
        summary: "Iterates over the members of a set.",
        since: "2.8.0",
        group: Group::Set,
        complexity: "O(1) for a call, O(N) for a whole iteration over N elements",
        arity: -3,
        flags: Flags::READONLY,
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key cursor [MATCH pattern] [COUNT count]",
        run: Run::Keys(sscan),
        tips: &["nondeterministic_output"],
        ..Command::DEFAULT
    },
];

fn sadd(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, members, limits) = (c.key(1), c.argv.from(2), c.limits);
    let add_all = |set: &mut Set| {
        let new = members.iter().filter(|member| set.add(member, limits));
        new.count()
    };
    let added = match c.keys.set_mut(key)? {
        Some(set) => {
            make_room(set, members.len(), limits);
            add_all(set)
        }
        None => {
            let mut set = Set::for_members(members.arg(0), members.len(), limits);
            let added = add_all(&mut set);
            c.keys.add_object(key, Value::Set(set));
            added
        }
    };
    if added > 0 {
        c.keys.wrote(key, "sadd", added as u64, Effect::AsGiven);
    }
    c.reply.integer(added as i64);
    Ok(())
}

/// Makes the set a table when one command gives it more members than a compact encoding may
/// have, even if some turn out to be the same. Redis does so to convert once.
fn make_room(set: &mut Set, new_members: usize, limits: &Limits) {
    let entries_max = match set.encoding() {
        Encoding::IntSet => limits.set_max_intset_entries,
        Encoding::Listpack => limits.set_max_listpack_entries,
        _ => return,
    };
    if new_members > entries_max {
        let mut table = Set::with_encoding(Encoding::HashTable);
        set.iter().for_each(|member| {
            table.add_element(member, limits);
        });
        *set = table;
    }
}

fn srem(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, members) = (c.key(1), c.argv.from(2));
    let Some(set) = c.keys.set_mut(key)? else {
        c.reply.integer(0);
        return Ok(());
    };
    let removed = members.iter().filter(|member| set.remove(member)).count();
    let emptied = set.is_empty();
    if removed > 0 {
        c.keys.wrote(key, "srem", removed as u64, Effect::AsGiven);
    }
    if emptied {
        c.keys.remove_if_empty(key);
    }
    c.reply.integer(removed as i64);
    Ok(())
}

fn smove(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (source, destination, member) = (c.key(1), c.key(2), c.argv.arg(3));
    let Some(set) = c.keys.set_mut(source)? else {
        // What the destination holds does not matter then.
        c.reply.integer(0);
        return Ok(());
    };
    let has_member = set.contains(member);
    if source.bytes == destination.bytes {
        c.reply.integer(i64::from(has_member));
        return Ok(());
    }
    c.keys.set_mut(destination)?;
    if !has_member {
        c.reply.integer(0);
        return Ok(());
    }
    if let Some(set) = c.keys.set_mut(source)? {
        set.remove(member);
    }
    let removal: [&[u8]; 3] = [b"SREM", source.bytes, member];
    c.keys.wrote(source, "srem", 1, Effect::Command(&removal));
    c.keys.remove_if_empty(source);

    let limits = c.limits;
    let added = match c.keys.set_mut(destination)? {
        Some(set) => set.add(member, limits),
        None => {
            let mut set = Set::for_members(member, 1, limits);
            set.add(member, limits);
            c.keys.add_object(destination, Value::Set(set));
            true
        }
    };
    if added {
        let addition: [&[u8]; 3] = [b"SADD", destination.bytes, member];
        c.keys
            .wrote(destination, "sadd", 1, Effect::Command(&addition));
    }
    c.reply.integer(1);
    Ok(())
}

fn sismember(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, member) = (c.key(1), c.argv.arg(2));
    let set = c.keys.read_set(key)?;
    let contained = set.is_some_and(|set| set.contains(member));
    c.reply.integer(i64::from(contained));
    Ok(())
}

fn smismember(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, members) = (c.key(1), c.argv.from(2));
    let set = c.keys.read_set(key)?;
    c.reply.array(members.len());
    for member in members.iter() {
        let contained = set.is_some_and(|set| set.contains(member));
        c.reply.integer(i64::from(contained));
    }
    Ok(())
}

fn scard(c: &mut Ctx<'_, '_>) -> CommandResult {
    let key = c.key(1);
    let len = c.keys.read_set(key)?.map_or(0, |set| set.len());
    c.reply.integer(len as i64);
    Ok(())
}

fn smembers(c: &mut Ctx<'_, '_>) -> CommandResult {
    let key = c.key(1);
    match c.keys.read_set(key)? {
        None => c.reply.set(0),
        Some(set) => {
            c.reply.set(set.len());
            set.iter()
                .for_each(|member| elements::bulk(&mut c.reply, member));
        }
    }
    Ok(())
}

fn sscan(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, cursor) = (c.key(1), cursor(c.argv.arg(2))?);
    let Some(set) = c.keys.read_set(key)? else {
        // The options are not looked at unless there is a set.
        reply_empty_page(&mut c.reply);
        return Ok(());
    };
    let options = ScanOptions::parse(c.argv, 3, Scanned::Members)?;
    reply_page(&mut c.reply, |reply| {
        let mut replied = 0;
        let next = set.scan(cursor, options.count, |member| {
            if options.matches_element(member) {
                elements::bulk(reply, member);
                replied += 1;
            }
        });
        (next, replied)
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::World;

    const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

    #[test]
    fn members_are_added_found_and_removed() {
        for shards in [1, 3] {
            let mut world = World::new(shards);
            world.check(&[
                ("SADD s 1 2 2 3", "3"),
                ("SMEMBERS s", r#"["1", "2", "3"]"#),
                ("SADD s 1", "0"),
                ("SADD s x", "1"),
                ("SCARD s", "4"),
                ("SCARD none", "0"),
                ("SISMEMBER s 2", "1"),
                ("SISMEMBER s y", "0"),
                ("SISMEMBER none y", "0"),
                ("SMISMEMBER s x y", "[1, 0]"),
                ("SMISMEMBER none x y", "[0, 0]"),
                ("SREM s 1 1 y", "1"),
                ("SREM s 2 3 x z", "3"),
                ("EXISTS s", "0"),
                ("SREM s 2", "0"),
                ("SMEMBERS s", "[]"),
                ("SET str v", "OK"),
                ("SADD str a", WRONG_TYPE),
                ("SMISMEMBER str a", WRONG_TYPE),
                ("SSCAN str 0 COUNT x", WRONG_TYPE),
            ]);
            assert_eq!(world.dirty(), 9);
            world.assert_replays();
        }
    }

    #[test]
    fn smove_has_an_effect_per_key() {
        for shards in [1, 3] {
            let mut world = World::new(shards);
            world.check(&[
                ("SADD a x y", "2"),
                ("SADD b y", "1"),
                ("SET str v", "OK"),
                ("SMOVE a c x", "1"),
            ]);
            let mut effects = world.effects();
            effects.sort();
            assert_eq!(effects, ["SADD c x", "SREM a x"]);
            assert_eq!(world.dirty(), 6);
            world.check(&[
                ("SMOVE a b y", "1"),
                ("EXISTS a", "0"),
                ("SMEMBERS b", r#"["y"]"#),
                ("SMOVE a str y", "0"),
                ("SMOVE b str zz", WRONG_TYPE),
                ("SMOVE str b zz", WRONG_TYPE),
                ("SMOVE b b y", "1"),
                ("SMOVE b b zz", "0"),
                ("SMOVE b c zz", "0"),
            ]);
            assert_eq!(world.dirty(), 7);
            world.assert_replays();
        }
    }

    #[test]
    fn sscan_visits_every_member() {
        let mut world = World::new(3);
        world.check(&[
            ("SADD small a b 12", "3"),
            ("SSCAN small 0 COUNT 1", r#"["0", ["a", "b", "12"]]"#),
            ("SSCAN small 7 MATCH [a-z]", r#"["0", ["a", "b"]]"#),
            ("SSCAN small 0 MATCH 1*", r#"["0", ["12"]]"#),
            ("SSCAN none 0 FOO", r#"["0", []]"#),
            ("SSCAN small 0 FOO", "-ERR syntax error"),
            (
                "SSCAN small 0 NOVALUES",
                "-ERR NOVALUES option can only be used in HSCAN",
            ),
            ("SSCAN small x", "-ERR invalid cursor"),
        ]);
        for i in 0..1000 {
            world.run(&format!("SADD big member:{i}"));
        }
        let (mut cursor, mut members, mut pages) = ("0".to_string(), Vec::new(), 0);
        loop {
            let page = world.run(&format!("SSCAN big {cursor} COUNT 50"));
            let words: Vec<&str> = page.split('"').skip(1).step_by(2).collect();
            cursor = words[0].to_string();
            members.extend(words[1..].iter().map(ToString::to_string));
            pages += 1;
            if cursor == "0" {
                break;
            }
        }
        members.sort();
        members.dedup();
        assert_eq!(members.len(), 1000);
        assert!((5..=40).contains(&pages), "{pages} pages");
    }
}
