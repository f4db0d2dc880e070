//! Intersections, unions and differences of sets, which may lie in different shards.
//!
//! All keys are read first, which expires those that are due and refuses other types; then the
//! sets are looked at side by side through shared borrows.

use datatypes::{Element, Encoding, IntBuffer, Limits, Set, Value};
use keyspace::{Expiry, Key, NewValue};

use crate::args::{count_or, is, positive_or};
use crate::command::{Command, Flags, Group, Run};
use crate::context::{Ctx, Effect, Keyspace};
use crate::effects;
use crate::elements;
use crate::errors::{
    CommandError, CommandResult, LIMIT_NEGATIVE, MORE_KEYS_THAN_ARGUMENTS, NUMKEYS_NOT_POSITIVE,
    SYNTAX,
};
use crate::key_spec::KeySpec;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "sinter",
        summary: "Replies the members that all of the sets have.",
        since: "1.0.0",
        group: Group::Set,
        complexity: "O(N*M) for M sets of which the smallest has N members",
        arity: -2,
        flags: Flags::READONLY,
        keys: &[KeySpec::rest(1, 1, &["RO", "access"])],
        syntax: "key [key ...]",
        run: Run::Keys(sinter),
        tips: &["nondeterministic_output_order"],
        ..Command::DEFAULT
    },
    Command {
        name: "sinterstore",
        summary: "Stores the members that all of the sets have.",
        since: "1.0.0",
        group: Group::Set,
        complexity: "O(N*M) for M sets of which the smallest has N members",
        arity: -3,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[
            KeySpec::at(1, &["OW", "update"]),
            KeySpec::rest(2, 1, &["RO", "access"]),
        ],
        syntax: "destination key [key ...]",
        run: Run::Keys(sinterstore),
        ..Command::DEFAULT
    },
    Command {
        name: "sintercard",
        summary: "Replies how many members all of the sets have in common.",
        since: "7.0.0",
        group: Group::Set,
        complexity: "O(N*M) for M sets of which the smallest has N members",
        arity: -3,
        flags: Flags::READONLY.union(Flags::MOVABLEKEYS),
        keys: &[KeySpec::counted(1, &["RO", "access"])],
        syntax: "numkeys key [key ...] [LIMIT limit]",
        run: Run::Keys(sintercard),
        ..Command::DEFAULT
    },
    Command {
        name: "sunion",
        summary: "Replies the members that any of the sets has.",
        since: "1.0.0",
        group: Group::Set,
        complexity: "O(N) for N members in all the sets together",
        arity: -2,
        flags: Flags::READONLY,
        keys: &[KeySpec::rest(1, 1, &["RO", "access"])],
        syntax: "key [key ...]",
        run: Run::Keys(sunion),
        tips: &["nondeterministic_output_order"],
        ..Command::DEFAULT
    },
    Command {
        name: "sunionstore",
        summary: "Stores the members that any of the sets has.",
        since: "1.0.0",
        group: Group::Set,
        complexity: "O(N) for N members in all the sets together",
        arity: -3,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[
            KeySpec::at(1, &["OW", "update"]),
            KeySpec::rest(2, 1, &["RO", "access"]),
        ],
        syntax: "destination key [key ...]",
        run: Run::Keys(sunionstore),
        ..Command::DEFAULT
    },
    Command {
        name: "sdiff",
        summary: "Replies the members of the first set that none of the others has.",
        since: "1.0.0",
        group: Group::Set,
        complexity: "O(N) for N members in all the sets together",
        arity: -2,
        flags: Flags::READONLY,
        keys: &[KeySpec::rest(1, 1, &["RO", "access"])],
        syntax: "key [key ...]",
        run: Run::Keys(sdiff),
        tips: &["nondeterministic_output_order"],
        ..Command::DEFAULT
    },
    Command {
        name: "sdiffstore",
        summary: "Stores the members of the first set that none of the others has.",
        since: "1.0.0",
        group: Group::Set,
        complexity: "O(N) for N members in all the sets together",
        arity: -3,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[
            KeySpec::at(1, &["OW", "update"]),
            KeySpec::rest(2, 1, &["RO", "access"]),
        ],
        syntax: "destination key [key ...]",
        run: Run::Keys(sdiffstore),
        ..Command::DEFAULT
    },
];

/// Reads `count` keys from an argument on, refusing those of other types.
fn read_sources<'a>(
    c: &mut Ctx<'a, '_>,
    first: usize,
    count: usize,
) -> Result<Vec<Key<'a>>, CommandError> {
    let keys: Vec<Key<'a>> = (first..first + count).map(|i| c.key(i)).collect();
    for &key in &keys {
        c.keys.read_set(key)?;
    }
    Ok(keys)
}

/// The sets of keys that were read; none where the key is absent.
fn peek_sources<'k>(
    keys: &'k Keyspace<'_, '_>,
    sources: &[Key<'_>],
) -> Result<Vec<Option<&'k Set>>, CommandError> {
    sources.iter().map(|&key| keys.peek_set(key)).collect()
}

/// Calls `visit` with the members that all sets have, until it returns false. The smallest set
/// is gone through, and the next smallest is asked first, as it is the likeliest to say no.
fn intersect(mut sets: Vec<&Set>, mut visit: impl FnMut(Element<'_>) -> bool) {
    sets.sort_by_key(|set| set.len());
    let Some((smallest, others)) = sets.split_first() else {
        return;
    };
    for member in smallest.iter() {
        if others.iter().all(|set| set.contains_element(member)) && !visit(member) {
            return;
        }
    }
}

/// The sets, unless a key is absent, so that the intersection is empty.
fn all_present(sets: Vec<Option<&Set>>) -> Option<Vec<&Set>> {
    sets.into_iter().collect()
}

fn sinter(c: &mut Ctx<'_, '_>) -> CommandResult {
    let sources = read_sources(c, 1, c.argv.len() - 1)?;
    match all_present(peek_sources(&c.keys, &sources)?) {
        None => c.reply.set(0),
        Some(sets) => c.reply.set_deferred(|reply| {
            let mut found = 0;
            intersect(sets, |member| {
                elements::bulk(reply, member);
                found += 1;
                true
            });
            found
        }),
    }
    Ok(())
}

fn sinterstore(c: &mut Ctx<'_, '_>) -> CommandResult {
    let sources = read_sources(c, 2, c.argv.len() - 2)?;
    let mut result = Set::new();
    if let Some(sets) = all_present(peek_sources(&c.keys, &sources)?) {
        let smallest = sets.iter().min_by_key(|set| set.len());
        if smallest.is_some_and(|set| set.encoding() != Encoding::IntSet) {
            result = Set::with_encoding(Encoding::Listpack);
        }
        intersect(sets, |member| {
            result.add_element(member, c.limits);
            true
        });
        result.compact(c.limits);
    }
    store(c, result, "sinterstore")
}

fn sintercard(c: &mut Ctx<'_, '_>) -> CommandResult {
    let count = positive_or(c.argv.arg(1), NUMKEYS_NOT_POSITIVE)?;
    if count > c.argv.len() - 2 {
        return Err(MORE_KEYS_THAN_ARGUMENTS);
    }
    let mut limit = usize::MAX;
    for i in (2 + count..c.argv.len()).step_by(2) {
        match c.argv.get(i + 1) {
            Some(value) if is(c.argv.arg(i), "limit") => {
                limit = match count_or(value, LIMIT_NEGATIVE)? {
                    0 => usize::MAX,
                    limit => limit,
                };
            }
            _ => return Err(SYNTAX),
        }
    }
    let sources = read_sources(c, 2, count)?;
    let mut found = 0;
    if let Some(sets) = all_present(peek_sources(&c.keys, &sources)?) {
        intersect(sets, |_| {
            found += 1;
            found < limit
        });
    }
    c.reply.integer(found as i64);
    Ok(())
}

/// Adds the members of all sets to `result`.
fn unite(sets: &[&Set], result: &mut Set, limits: &Limits) {
    for set in sets {
        for member in set.iter() {
            result.add_element(member, limits);
        }
    }
}

fn sunion(c: &mut Ctx<'_, '_>) -> CommandResult {
    let sources = read_sources(c, 1, c.argv.len() - 1)?;
    let sets = peek_sources(&c.keys, &sources)?;
    let sets: Vec<&Set> = sets.into_iter().flatten().collect();
    let mut union = Set::with_encoding(Encoding::HashTable);
    let result = match sets[..] {
        [only] => only,
        _ => {
            unite(&sets, &mut union, c.limits);
            &union
        }
    };
    c.reply.set(result.len());
    for member in result.iter() {
        elements::bulk(&mut c.reply, member);
    }
    Ok(())
}

fn sunionstore(c: &mut Ctx<'_, '_>) -> CommandResult {
    let sources = read_sources(c, 2, c.argv.len() - 2)?;
    let sets = peek_sources(&c.keys, &sources)?;
    let sets: Vec<&Set> = sets.into_iter().flatten().collect();
    let mut result = Set::new();
    unite(&sets, &mut result, c.limits);
    store(c, result, "sunionstore")
}

/// How a difference is worked out.
#[derive(PartialEq, Eq)]
enum DifferenceBy {
    /// Each member of the first set is looked up in the others, until one has it.
    LookingUp,
    /// The first set is copied, and the others' members are removed from the copy.
    Removing,
}

/// Looking up costs up to a look-up for each pair of member and other set, but on the average
/// only about half of that, as one set that has the member suffices. Removing costs a look-up
/// for each member of any set.
fn cheaper_difference(first: &Set, others: &[&Set]) -> DifferenceBy {
    let looking_up = first.len() * (others.len() + 1) / 2;
    let removing = first.len() + others.iter().map(|set| set.len()).sum::<usize>();
    if looking_up <= removing {
        DifferenceBy::LookingUp
    } else {
        DifferenceBy::Removing
    }
}

/// Takes the members of the other sets from `result`, which holds those of the first.
fn remove_members(result: &mut Set, others: &[&Set]) {
    let mut buffer = IntBuffer::new();
    for member in others.iter().flat_map(|set| set.iter()) {
        result.remove(member.as_bytes(&mut buffer));
        if result.is_empty() {
            return;
        }
    }
}

/// Calls `visit` with the first set's members that the others lack. The largest of the others
/// is asked first, as it is the likeliest to have a member.
fn subtract(first: &Set, mut others: Vec<&Set>, mut visit: impl FnMut(Element<'_>)) {
    others.sort_by_key(|set| std::cmp::Reverse(set.len()));
    for member in first.iter() {
        if !others.iter().any(|set| set.contains_element(member)) {
            visit(member);
        }
    }
}

/// The first of several sets, and those of the others that exist.
fn first_and_others(sets: Vec<Option<&Set>>) -> Option<(&Set, Vec<&Set>)> {
    let mut sets = sets.into_iter();
    let first = sets.next()??;
    Some((first, sets.flatten().collect()))
}

fn sdiff(c: &mut Ctx<'_, '_>) -> CommandResult {
    let sources = read_sources(c, 1, c.argv.len() - 1)?;
    let Some((first, others)) = first_and_others(peek_sources(&c.keys, &sources)?) else {
        c.reply.set(0);
        return Ok(());
    };
    if cheaper_difference(first, &others) == DifferenceBy::LookingUp {
        c.reply.set_deferred(|reply| {
            let mut found = 0;
            subtract(first, others, |member| {
                elements::bulk(reply, member);
                found += 1;
            });
            found
        });
        return Ok(());
    }
    let mut result = Set::with_encoding(Encoding::HashTable);
    unite(&[first], &mut result, c.limits);
    remove_members(&mut result, &others);
    c.reply.set(result.len());
    for member in result.iter() {
        elements::bulk(&mut c.reply, member);
    }
    Ok(())
}

fn sdiffstore(c: &mut Ctx<'_, '_>) -> CommandResult {
    let sources = read_sources(c, 2, c.argv.len() - 2)?;
    let mut result = Set::new();
    if let Some((first, others)) = first_and_others(peek_sources(&c.keys, &sources)?) {
        match cheaper_difference(first, &others) {
            DifferenceBy::LookingUp => subtract(first, others, |member| {
                result.add_element(member, c.limits);
            }),
            DifferenceBy::Removing => {
                unite(&[first], &mut result, c.limits);
                remove_members(&mut result, &others);
            }
        }
    }
    store(c, result, "sdiffstore")
}

/// Puts a result under the key in the first argument, whatever is there, and replies its size.
/// An empty result deletes the key.
fn store(c: &mut Ctx<'_, '_>, result: Set, event: &'static str) -> CommandResult {
    let destination = c.key(1);
    let deletion = [b"DEL", destination.bytes];
    let existed = c.keys.exists(destination);
    let len = result.len();
    if len == 0 {
        if let Some(entry) = c.keys.remove(destination) {
            c.keys.free(destination, entry);
            c.keys
                .wrote(destination, "del", 1, Effect::Command(&deletion));
        }
    } else {
        if existed {
            effects::log(&mut c.keys, destination, &deletion);
        }
        effects::log_elements(&mut c.keys, "SADD", destination, result.iter());
        let value = NewValue::Object(Box::new(Value::Set(result)));
        let db = c.keys.db_of_mut(destination);
        if let Some(entry) = db.set(destination, value, Expiry::Set(None)) {
            c.keys.free(destination, entry);
        }
        c.keys.wrote(destination, event, 1, Effect::Covered);
    }
    c.reply.integer(len as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use datatypes::Rng;

    use crate::testing::World;

    const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

    fn strings(reply: &str) -> Vec<String> {
        let quoted = reply.split('"').skip(1).step_by(2);
        let mut strings: Vec<String> = quoted.map(ToString::to_string).collect();
        strings.sort();
        strings
    }

    #[test]
    fn replies_refusals_and_types() {
        for shards in [1, 3] {
            let mut world = World::new(shards);
            world.check(&[
                ("SADD a 1 2 3", "3"),
                ("SADD b 2 3 4", "3"),
                ("SET str v", "OK"),
                ("SINTER a b", r#"["2", "3"]"#),
                ("SINTER a none", "[]"),
                ("SINTER none str", WRONG_TYPE),
                ("SUNION none", "[]"),
                ("SUNION a str", WRONG_TYPE),
                ("SDIFF a b", r#"["1"]"#),
                ("SDIFF none a", "[]"),
                ("SDIFF none str", WRONG_TYPE),
                ("SINTERCARD 2 a b", "2"),
                ("SINTERCARD 2 a b LIMIT 1", "1"),
                ("SINTERCARD 2 a b LIMIT 1 LIMIT 0", "2"),
                ("SINTERCARD 2 a none", "0"),
                ("SINTERCARD 0 a", "-ERR numkeys should be greater than 0"),
                (
                    "SINTERCARD 2 a",
                    "-ERR Number of keys can't be greater than number of args",
                ),
                ("SINTERCARD 1 a b", "-ERR syntax error"),
                ("SINTERCARD 1 str LIMIT -1", "-ERR LIMIT can't be negative"),
                ("SINTERCARD 1 str LIMIT", "-ERR syntax error"),
                ("SINTERSTORE d none str", WRONG_TYPE),
                ("SINTERSTORE d a b", "2"),
                ("SUNIONSTORE str a b", "4"),
                ("SMEMBERS str", r#"["1", "2", "3", "4"]"#),
                ("SDIFFSTORE a a b", "1"),
                ("SMEMBERS a", r#"["1"]"#),
                ("SDIFFSTORE a a a", "0"),
                ("EXISTS a", "0"),
                ("SINTERSTORE d none none", "0"),
                ("SINTERSTORE d none none", "0"),
                ("EXISTS d", "0"),
            ]);
            assert_eq!(world.dirty(), 12);
            world.assert_replays();
        }
    }

    #[test]
    fn a_stored_result_replaces_what_was_there() {
        let mut world = World::new(1);
        world.run("SADD a x");
        world.run("SUNIONSTORE d a");
        assert_eq!(world.effects(), ["SADD d x"]);
        world.run("SADD a y");
        world.run("SDIFFSTORE d a none");
        assert_eq!(world.effects(), ["DEL d", "SADD d x y"]);
        world.run("SINTERSTORE d a none");
        assert_eq!(world.effects(), ["DEL d"]);
        world.run("SINTERSTORE d a none");
        assert_eq!(world.effects().len(), 0);
        let names: Vec<String> = (0..1000).map(|i| format!("m{i}")).collect();
        world.run(&format!("SADD big {}", names.join(" ")));
        world.run("SUNIONSTORE d big");
        let words: Vec<usize> = world
            .effects()
            .iter()
            .map(|e| e.split(' ').count())
            .collect();
        assert_eq!(words, [258, 258, 258, 234]);
        world.assert_replays();
    }

    #[test]
    fn keys_that_are_due_are_absent_in_every_place() {
        for shards in [1, 3] {
            let mut world = World::new(shards);
            let due = world.now.0 + 10;
            for key in ["a", "b", "c", "d"] {
                world.run(&format!("SADD {key} x {key}"));
            }
            world.run(&format!("PEXPIREAT b {due}"));
            world.run(&format!("PEXPIREAT d {due}"));
            world.run(&format!("PEXPIREAT c {}", due + 1000));
            world.pass(20);
            world.check(&[
                ("SINTER a b c", "[]"),
                ("SUNIONSTORE b b", "0"),
                ("SDIFF b a", "[]"),
                ("SMOVE d a x", "0"),
                ("SUNIONSTORE c a b", "2"),
                ("PTTL c", "-1"),
                ("SADD d new", "1"),
                ("SCARD d", "1"),
            ]);
            assert_eq!(strings(&world.run("SDIFF a b d")), ["a", "x"]);
            world.assert_replays();
        }
    }

    #[test]
    fn agrees_with_a_model() {
        let mut rng = Rng::from_seed(3);
        for round in 0..60 {
            let mut world = World::new(if round % 2 == 0 { 1 } else { 3 });
            let mut model: Vec<BTreeSet<String>> = vec![BTreeSet::new(); 4];
            for (i, set) in model.iter_mut().enumerate() {
                let (size, spread) = ([0, 5, 60, 900][rng.below(4)], 20 + rng.below(900));
                for _ in 0..size {
                    let n = rng.below(spread);
                    let name = if round % 3 == 0 {
                        format!("{n}")
                    } else {
                        format!("m{n}")
                    };
                    world.run(&format!("SADD s{i} {name}"));
                    set.insert(name);
                }
            }
            let fold = |f: fn(&BTreeSet<String>, &BTreeSet<String>) -> BTreeSet<String>| {
                let folded = model[1..].iter().fold(model[0].clone(), |a, b| f(&a, b));
                let mut sorted: Vec<String> = folded.into_iter().collect();
                sorted.sort();
                sorted
            };
            for (name, expected) in [
                ("SINTER", fold(|a, b| a & b)),
                ("SUNION", fold(|a, b| a | b)),
                ("SDIFF", fold(|a, b| a - b)),
            ] {
                assert_eq!(
                    strings(&world.run(&format!("{name} s0 s1 s2 s3"))),
                    expected
                );
                let stored = world.run(&format!("{name}STORE d s0 s1 s2 s3"));
                assert_eq!(stored, expected.len().to_string());
                assert_eq!(strings(&world.run("SMEMBERS d")), expected);
            }
            world.assert_replays();
        }
    }
}
