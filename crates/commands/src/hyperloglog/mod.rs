//! HyperLogLogs: strings that estimate how many different elements were added to them. The bytes
//! and the estimator are in `datatypes::hyperloglog`.
//!
//! PFMERGE reads strings of any shard, so what is logged is its result. PFCOUNT of one key stores
//! the count in the string, which is a change like any other.

use datatypes::hyperloglog::{self as hll, Registers};
use keyspace::entry::INLINE_VALUE_BYTES_MAX;
use keyspace::{Expiry, Key, NewValue, StringRef, ValueRef};

use crate::command::{Command, Flags, Group, Run};
use crate::context::{Ctx, Effect, Keyspace};
use crate::errors::{CommandError, CommandResult, HLL_CORRUPT, HLL_INVALID};
use crate::key_spec::KeySpec;
use crate::strings::store;

mod debug;
#[cfg(test)]
mod tests;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "pfadd",
        summary: "Adds elements to a HyperLogLog, which is created if need be.",
        since: "2.8.9",
        group: Group::HyperLogLog,
        complexity: "O(1) for each element",
        arity: -2,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "insert"])],
        syntax: "key [element [element ...]]",
        run: Run::Keys(pfadd),
        ..Command::DEFAULT
    },
    Command {
        name: "pfcount",
        summary: "Estimates how many different elements HyperLogLogs have together.",
        since: "2.8.9",
        group: Group::HyperLogLog,
        complexity: "O(1) for one key; O(N) with the number N of keys",
        arity: -2,
        flags: Flags::READONLY.union(Flags::MAY_REPLICATE),
        keys: &[KeySpec {
            notes: "RW because it may change the internal representation of the key, and propagate to replicas",
            ..KeySpec::rest(1, 1, &["RW", "access"])
        }],
        syntax: "key [key ...]",
        run: Run::Keys(pfcount),
        ..Command::DEFAULT
    },
    Command {
        name: "pfmerge",
        summary: "Adds to a HyperLogLog all that others have.",
        since: "2.8.9",
        group: Group::HyperLogLog,
        complexity: "O(N) with the number N of keys",
        arity: -2,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[
            KeySpec::at(1, &["RW", "access", "insert"]),
            KeySpec::rest(2, 1, &["RO", "access"]),
        ],
        syntax: "destkey [sourcekey [sourcekey ...]]",
        run: Run::Keys(pfmerge),
        ..Command::DEFAULT
    },
    debug::PFDEBUG,
    debug::PFSELFTEST,
];

impl From<hll::Corrupt> for CommandError {
    fn from(_: hll::Corrupt) -> CommandError {
        HLL_CORRUPT
    }
}

/// Runs `f` on the bytes of a key that was read and holds a string or nothing.
fn with_bytes<R>(keys: &Keyspace<'_, '_>, key: Key<'_>, f: impl FnOnce(&[u8]) -> R) -> Option<R> {
    match keys.peek(key).map(|entry| entry.value()) {
        Some(ValueRef::String(string)) => Some(f(string.bytes(&mut itoa::Buffer::new()))),
        _ => None,
    }
}

/// An error unless the string is a HyperLogLog.
fn check(string: Option<StringRef<'_>>) -> Result<Option<usize>, CommandError> {
    let Some(string) = string else {
        return Ok(None);
    };
    if hll::is_one(string.bytes(&mut itoa::Buffer::new())) {
        Ok(Some(string.len()))
    } else {
        Err(HLL_INVALID)
    }
}

/// Edits the HyperLogLog at a key, whose string is `len` bytes long; none if there is no key. What
/// `edit` returns tells whether it changed anything.
fn edit(
    c: &mut Ctx<'_, '_>,
    key: Key<'_>,
    len: Option<usize>,
    edit: impl FnOnce(&mut Vec<u8>) -> Result<bool, CommandError>,
) -> Result<bool, CommandError> {
    if len.is_some_and(|len| len > INLINE_VALUE_BYTES_MAX) {
        let edited = c.keys.db_of_mut(key).change_owned(key, edit);
        return edited.expect("a string longer than any inline one has a buffer of its own");
    }
    let mut bytes = match len {
        Some(_) => with_bytes(&c.keys, key, <[u8]>::to_vec).expect("it was found"),
        None => hll::empty(),
    };
    let edited = edit(&mut bytes);
    // What was done until damage was found stays done.
    if len.is_none() || edited != Ok(false) {
        let value = match bytes.len() {
            0..=INLINE_VALUE_BYTES_MAX => NewValue::RawBytes(&bytes),
            _ => NewValue::Owned(bytes),
        };
        store(c, key, value, Expiry::Keep);
    }
    edited
}

fn pfadd(c: &mut Ctx<'_, '_>) -> CommandResult {
    let key = c.key(1);
    let len = check(c.keys.find_string(key)?)?;
    let (argv, sparse_max) = (c.argv, c.limits.hll_sparse_max_bytes);
    let changes = std::cell::Cell::new(u64::from(len.is_none()));
    edit(c, key, len, |bytes| {
        for element in argv.iter().skip(2) {
            let grew = hll::add(bytes, element, sparse_max)?;
            changes.set(changes.get() + u64::from(grew));
        }
        if changes.get() > 0 {
            hll::forget_cached_count(bytes);
        }
        Ok(changes.get() > 0)
    })?;
    let changes = changes.get();
    if changes > 0 {
        c.keys.wrote(key, "pfadd", changes, Effect::AsGiven);
    }
    c.reply.integer(i64::from(changes > 0));
    Ok(())
}

fn pfcount(c: &mut Ctx<'_, '_>) -> CommandResult {
    if c.argv.len() > 2 {
        return count_union(c);
    }
    let key = c.key(1);
    let len = check(c.keys.read_string(key)?)?;
    let known = with_bytes(&c.keys, key, |bytes| match hll::cached_count(bytes) {
        Some(count) => Ok((count, true)),
        None => hll::count(bytes).map(|count| (count, false)),
    });
    let Some((count, is_cached)) = known.transpose()? else {
        c.reply.integer(0);
        return Ok(());
    };
    if !is_cached {
        edit(c, key, len, |bytes| {
            hll::cache_count(bytes, count);
            Ok(true)
        })?;
        c.keys.wrote(key, "", 1, Effect::AsGiven);
    }
    c.reply.integer(count as i64);
    Ok(())
}

/// All registers of the keys in the arguments from `first` on, and whether one of them is dense.
fn merged(c: &mut Ctx<'_, '_>, first: usize) -> Result<(Registers, bool), CommandError> {
    let (mut registers, mut any_dense) = (Registers::default(), false);
    for index in first..c.argv.len() {
        let key = c.key(index);
        check(c.keys.read_string(key)?)?;
        let merge = |bytes: &[u8]| {
            any_dense |= hll::is_dense(bytes);
            registers.merge(bytes)
        };
        with_bytes(&c.keys, key, merge).transpose()?;
    }
    Ok((registers, any_dense))
}

fn count_union(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (registers, _) = merged(c, 1)?;
    c.reply.integer(registers.count() as i64);
    Ok(())
}

fn pfmerge(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (registers, any_dense) = merged(c, 1)?;
    let key = c.key(1);
    let sparse_max = c.limits.hll_sparse_max_bytes;
    let len = check(c.keys.find_string(key)?)?;
    edit(c, key, len, |bytes| {
        if any_dense {
            hll::make_dense(bytes)?;
        }
        for (index, &value) in registers.values().iter().enumerate() {
            if value > 0 {
                hll::raise(bytes, index, value, sparse_max)?;
            }
        }
        hll::forget_cached_count(bytes);
        Ok(true)
    })?;
    wrote_whole(c, key, "pfadd");
    c.reply.ok();
    Ok(())
}

/// Reports a change of a HyperLogLog whose effect is all of it.
fn wrote_whole(c: &mut Ctx<'_, '_>, key: Key<'_>, event: &'static str) {
    let bytes = with_bytes(&c.keys, key, <[u8]>::to_vec).expect("it was just written");
    let effect = [b"SET", key.bytes, &bytes, b"KEEPTTL"];
    c.keys.wrote(key, event, 1, Effect::Command(&effect));
}
