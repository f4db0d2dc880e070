//! Given fields of a hash.

use datatypes::{Element, Hash, Value};
use resp::Reply;

use crate::command::{Command, Deprecated, Flags, Group, Run};
use crate::context::{Ctx, Effect};
use crate::elements;
use crate::errors::{CommandError, CommandResult};
use crate::key_spec::KeySpec;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "hset",
        summary: "Sets fields of a hash, creating the hash if need be.",
        since: "2.0.0",
        group: Group::Hash,
        complexity: "O(N) for N fields",
        arity: -4,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "update"])],
        syntax: "key field value [field value ...]",
        run: Run::Keys(hset),
        ..Command::DEFAULT
    },
    Command {
        name: "hmset",
        summary: "Sets fields of a hash, creating the hash if need be.",
        since: "2.0.0",
        group: Group::Hash,
        complexity: "O(N) for N fields",
        arity: -4,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "update"])],
        syntax: "key field value [field value ...]",
        run: Run::Keys(hmset),
        deprecated: Some(Deprecated {
            since: "4.0.0",
            replaced_by: "`HSET` with multiple field-value pairs",
        }),
        ..Command::DEFAULT
    },
    Command {
        name: "hsetnx",
        summary: "Sets a field of a hash unless it exists.",
        since: "2.0.0",
        group: Group::Hash,
        complexity: "O(1)",
        arity: 4,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "insert"])],
        syntax: "key field value",
        run: Run::Keys(hsetnx),
        ..Command::DEFAULT
    },
    Command {
        name: "hget",
        summary: "Replies the value of a field.",
        since: "2.0.0",
        group: Group::Hash,
        complexity: "O(1)",
        arity: 3,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key field",
        run: Run::Keys(hget),
        ..Command::DEFAULT
    },
    Command {
        name: "hmget",
        summary: "Replies the values of several fields.",
        since: "2.0.0",
        group: Group::Hash,
        complexity: "O(N) for N fields",
        arity: -3,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key field [field ...]",
        run: Run::Keys(hmget),
        ..Command::DEFAULT
    },
    Command {
        name: "hlen",
        summary: "Replies how many fields a hash has.",
        since: "2.0.0",
        group: Group::Hash,
        complexity: "O(1)",
        arity: 2,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO"])],
        syntax: "key",
        run: Run::Keys(hlen),
        ..Command::DEFAULT
    },
    Command {
        name: "hstrlen",
        summary: "Replies the length of a field's value.",
        since: "3.2.0",
        group: Group::Hash,
        complexity: "O(1)",
        arity: 3,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO"])],
        syntax: "key field",
        run: Run::Keys(hstrlen),
        ..Command::DEFAULT
    },
    Command {
        name: "hexists",
        summary: "Replies whether a hash has a field.",
        since: "2.0.0",
        group: Group::Hash,
        complexity: "O(1)",
        arity: 3,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO"])],
        syntax: "key field",
        run: Run::Keys(hexists),
        ..Command::DEFAULT
    },
    Command {
        name: "hdel",
        summary: "Removes fields from a hash, and the hash with its last one.",
        since: "2.0.0",
        group: Group::Hash,
        complexity: "O(N) for N fields",
        arity: -3,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "delete"])],
        syntax: "key field [field ...]",
        run: Run::Keys(hdel),
        ..Command::DEFAULT
    },
];

fn hset(c: &mut Ctx<'_, '_>) -> CommandResult {
    let new = set_fields(c, "hset")?;
    c.reply.integer(new as i64);
    Ok(())
}

fn hmset(c: &mut Ctx<'_, '_>) -> CommandResult {
    set_fields(c, "hmset")?;
    c.reply.ok();
    Ok(())
}

/// Sets the fields in the arguments from 2 on, and returns how many are new.
fn set_fields(c: &mut Ctx<'_, '_>, name: &str) -> Result<usize, CommandError> {
    let (key, pairs, limits) = (c.key(1), c.argv.from(2), c.limits);
    if !pairs.len().is_multiple_of(2) {
        return Err(CommandError::wrong_arity(name));
    }
    let fields = pairs.len() / 2;
    let set_all = |hash: &mut Hash| {
        hash.prepare(fields, limits);
        let new = (0..fields).filter(|i| hash.set(pairs.arg(2 * i), pairs.arg(2 * i + 1), limits));
        new.count()
    };
    let new = match c.keys.hash_mut(key)? {
        Some(hash) => set_all(hash),
        None => {
            let mut hash = Hash::new();
            let new = set_all(&mut hash);
            c.keys.add_object(key, Value::Hash(hash));
            new
        }
    };
    c.keys.wrote(key, "hset", fields as u64, Effect::AsGiven);
    Ok(new)
}

fn hsetnx(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, limits) = (c.key(1), c.limits);
    let (field, value) = (c.argv.arg(2), c.argv.arg(3));
    match c.keys.hash_mut(key)? {
        Some(hash) if hash.contains(field) => {
            c.reply.integer(0);
            return Ok(());
        }
        Some(hash) => {
            hash.set(field, value, limits);
        }
        None => {
            let mut hash = Hash::new();
            hash.set(field, value, limits);
            c.keys.add_object(key, Value::Hash(hash));
        }
    }
    c.keys.wrote(key, "hset", 1, Effect::AsGiven);
    c.reply.integer(1);
    Ok(())
}

pub fn value_or_null(reply: &mut Reply<'_>, value: Option<Element<'_>>) {
    match value {
        Some(value) => elements::bulk(reply, value),
        None => reply.null(),
    }
}

fn hget(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, field) = (c.key(1), c.argv.arg(2));
    let hash = c.keys.read_hash(key)?;
    value_or_null(&mut c.reply, hash.and_then(|hash| hash.get(field)));
    Ok(())
}

fn hmget(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, fields) = (c.key(1), c.argv.from(2));
    let hash = c.keys.read_hash(key)?;
    c.reply.array(fields.len());
    for field in fields.iter() {
        value_or_null(&mut c.reply, hash.and_then(|hash| hash.get(field)));
    }
    Ok(())
}

fn hlen(c: &mut Ctx<'_, '_>) -> CommandResult {
    let key = c.key(1);
    // Fields whose time has passed count until something deletes them.
    let len = c.keys.read_hash_with_due_fields(key)?.map_or(0, Hash::len);
    c.reply.integer(len as i64);
    Ok(())
}

fn hstrlen(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, field) = (c.key(1), c.argv.arg(2));
    let hash = c.keys.read_hash(key)?;
    let len = hash
        .and_then(|hash| hash.get(field))
        .map_or(0, |value| value.len());
    c.reply.integer(len as i64);
    Ok(())
}

fn hexists(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, field) = (c.key(1), c.argv.arg(2));
    let hash = c.keys.read_hash(key)?;
    let exists = hash.is_some_and(|hash| hash.contains(field));
    c.reply.integer(i64::from(exists));
    Ok(())
}

fn hdel(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, fields) = (c.key(1), c.argv.from(2));
    let Some(hash) = c.keys.hash_mut(key)? else {
        c.reply.integer(0);
        return Ok(());
    };
    let removed = fields.iter().filter(|field| hash.remove(field)).count();
    let emptied = hash.is_empty();
    if removed > 0 {
        c.keys.wrote(key, "hdel", removed as u64, Effect::AsGiven);
    }
    if emptied {
        c.keys.remove_if_empty(key);
    }
    c.reply.integer(removed as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::World;

    const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

    #[test]
    fn fields_are_set_read_and_removed() {
        for shards in [1, 3] {
            let mut world = World::new(shards);
            world.check(&[
                ("HSET h a 1 b two a 3", "2"),
                ("HSET h a 3", "0"),
                ("HMSET h c 4", "OK"),
                ("HSETNX h c 5", "0"),
                ("HSETNX h d 5", "1"),
                ("HSETNX other d 5", "1"),
                ("HGET h a", r#""3""#),
                ("HGET h zz", "nil"),
                ("HGET none zz", "nil"),
                ("HMGET h b zz d", r#"["two", nil, "5"]"#),
                ("HMGET none b zz", "[nil, nil]"),
                ("HLEN h", "4"),
                ("HLEN none", "0"),
                ("HSTRLEN h b", "3"),
                ("HSTRLEN h zz", "0"),
                ("HSTRLEN none zz", "0"),
                ("HEXISTS h a", "1"),
                ("HEXISTS h zz", "0"),
                ("HEXISTS none zz", "0"),
            ]);
            assert_eq!(world.dirty(), 7);
            world.check(&[
                ("HDEL h zz", "0"),
                ("HDEL h a zz a b", "2"),
                ("HDEL h c d e", "2"),
                ("EXISTS h", "0"),
                ("HDEL h a", "0"),
            ]);
            assert_eq!(world.dirty(), 11);
            world.assert_replays();
        }
    }

    #[test]
    fn refusals() {
        World::new(1).check(&[
            ("SET s v", "OK"),
            ("HSET s a 1", WRONG_TYPE),
            (
                "HSET s a 1 b",
                "-ERR wrong number of arguments for 'hset' command",
            ),
            (
                "HMSET h a 1 b",
                "-ERR wrong number of arguments for 'hmset' command",
            ),
            (
                "HSET h a",
                "-ERR wrong number of arguments for 'hset' command",
            ),
            ("HSETNX s a 1", WRONG_TYPE),
            ("HGET s a", WRONG_TYPE),
            ("HMGET s a", WRONG_TYPE),
            ("HDEL s a", WRONG_TYPE),
            ("EXISTS h", "0"),
        ]);
    }

    #[test]
    fn large_hashes_keep_their_fields() {
        let mut world = World::new(1);
        let pairs: Vec<String> = (0..1000).map(|i| format!("f{i} v{i}")).collect();
        world.check(&[
            (&format!("HSET h {}", pairs.join(" ")), "1000"),
            ("HGET h f999", r#""v999""#),
            ("HLEN h", "1000"),
        ]);
        world.assert_replays();
    }
}
