//! Commands about keys whatever they hold: deleting, existence, type. Expiry, iteration, moving
//! keys about, whole databases and what OBJECT and MEMORY tell have files of their own.

use keyspace::{DbIndex, EntryRef, Key, UnixMillis, ValueRef};

use crate::args;
use crate::command::{Command, Flags, Group, Run};
use crate::context::{Ctx, Effect};
use crate::errors::{CommandError, CommandResult, DB_INDEX_OUT_OF_RANGE, NOT_INT32};
use crate::key_spec::KeySpec;

pub mod databases;
pub mod expire;
pub mod introspect;
pub mod iterate;
pub mod relocate;
pub mod sort;
#[cfg(test)]
mod tests;

pub use expire::{expire_at, persist_key};

/// What the rows of this family share.
const ROW: Command = Command {
    group: Group::Generic,
    ..Command::DEFAULT
};

pub const COMMANDS: &[Command] = &[
    Command {
        name: "del",
        summary: "Deletes keys.",
        complexity: "O(N) with N keys; a large value is freed by another thread",
        arity: -2,
        flags: Flags::WRITE,
        keys: &[KeySpec::rest(1, 1, &["RM", "delete"])],
        syntax: "key [key ...]",
        run: Run::Keys(del),
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        ..ROW
    },
    Command {
        name: "unlink",
        summary: "Deletes keys and frees what they held on another thread.",
        since: "4.0.0",
        complexity: "O(N) with N keys",
        arity: -2,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::rest(1, 1, &["RM", "delete"])],
        syntax: "key [key ...]",
        run: Run::Keys(del),
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        ..ROW
    },
    Command {
        name: "exists",
        summary: "Counts those of the given keys that exist.",
        complexity: "O(N) with N keys",
        arity: -2,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::rest(1, 1, &["RO"])],
        syntax: "key [key ...]",
        run: Run::Keys(exists),
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        ..ROW
    },
    Command {
        name: "type",
        summary: "Replies the type of what a key holds.",
        arity: 2,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO"])],
        syntax: "key",
        run: Run::Keys(type_),
        ..ROW
    },
    Command {
        name: "touch",
        summary: "Counts those of the given keys that exist, and notes that they were accessed.",
        since: "3.2.1",
        complexity: "O(N) with N keys",
        arity: -2,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::rest(1, 1, &["RO"])],
        syntax: "key [key ...]",
        run: Run::Keys(touch),
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        ..ROW
    },
];

/// Deletes a key and reports it as this event; false when it does not exist.
fn delete(c: &mut Ctx<'_, '_>, key: Key<'_>) -> bool {
    c.keys.expire_if_due(key);
    let Some(entry) = c.keys.remove(key) else {
        return false;
    };
    c.keys.free(key, entry);
    let effect = [b"DEL", key.bytes];
    c.keys.wrote(key, "del", 1, Effect::Command(&effect));
    true
}

/// Calls `f` for each argument from the first on as a key; replies how often it said yes.
fn count_keys(
    c: &mut Ctx<'_, '_>,
    mut f: impl FnMut(&mut Ctx<'_, '_>, Key<'_>) -> bool,
) -> CommandResult {
    let mut count = 0;
    for index in 1..c.argv.len() {
        let key = c.key(index);
        count += i64::from(f(c, key));
    }
    c.reply.integer(count);
    Ok(())
}

fn del(c: &mut Ctx<'_, '_>) -> CommandResult {
    count_keys(c, delete)
}

fn exists(c: &mut Ctx<'_, '_>) -> CommandResult {
    count_keys(c, |c, key| c.keys.look_at(key).is_some())
}

fn touch(c: &mut Ctx<'_, '_>) -> CommandResult {
    count_keys(c, |c, key| c.keys.read(key).is_some())
}

fn type_(c: &mut Ctx<'_, '_>) -> CommandResult {
    let key = c.key(1);
    let name = c.keys.look_at(key).map_or("none", type_name);
    c.reply.simple(name);
    Ok(())
}

/// The word for an entry's type.
fn type_name(entry: EntryRef<'_>) -> &'static str {
    match entry.value() {
        ValueRef::String(_) => "string",
        ValueRef::Object(value) => value.value_type().name(),
    }
}

/// The number of a database, from an argument.
fn database(c: &Ctx<'_, '_>, index: usize) -> Result<DbIndex, CommandError> {
    let n = args::integer(c.argv.arg(index))?;
    let n = i32::try_from(n).map_err(|_| NOT_INT32)?;
    checked_database(n.into(), databases(c))
}

/// How many databases there are.
fn databases(c: &Ctx<'_, '_>) -> u32 {
    c.keys.view.shards().next().map_or(0, |s| s.databases()) as u32
}

/// The database of this number, of so many that there are.
fn checked_database(n: i64, count: u32) -> Result<DbIndex, CommandError> {
    match u32::try_from(n) {
        Ok(n) if n < count => Ok(DbIndex(n)),
        _ => Err(DB_INDEX_OUT_OF_RANGE),
    }
}

/// Reports a change after which a key holds what it could not have got from its own shard, by a
/// command that stores it whole.
fn wrote_whole(c: &mut Ctx<'_, '_>, db: DbIndex, key: Key<'_>, event: &'static str, changes: u64) {
    let stored = if c.keys.view.shard(key.shard).log.is_enabled() {
        c.keys.view.db(db, key).find(key)
    } else {
        None
    };
    let Some(entry) = stored else {
        return c.keys.wrote_in(db, key, event, changes, Effect::Covered);
    };
    let command = whole(entry, |value| c.codec.dump(value));
    let effect: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
    c.keys
        .wrote_in(db, key, event, changes, Effect::Command(&effect));
}

/// The command that stores an entry as it is.
fn whole(entry: EntryRef<'_>, dump: impl FnOnce(ValueRef<'_>) -> Vec<u8>) -> Vec<Vec<u8>> {
    let expire_at = entry.expire_at().map(|UnixMillis(ms)| ms);
    let digits = |ms: i64| itoa::Buffer::new().format(ms).as_bytes().to_vec();
    let key = entry.key().to_vec();
    match entry.value() {
        ValueRef::String(string) => {
            let value = string.bytes(&mut itoa::Buffer::new()).to_vec();
            let mut command = vec![b"SET".to_vec(), key, value];
            if let Some(ms) = expire_at {
                command.extend([b"PXAT".to_vec(), digits(ms)]);
            }
            command
        }
        object @ ValueRef::Object(_) => vec![
            b"RESTORE".to_vec(),
            key,
            digits(expire_at.unwrap_or(0)),
            dump(object),
            b"REPLACE".to_vec(),
            b"ABSTTL".to_vec(),
        ],
    }
}
