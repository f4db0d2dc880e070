//! Keys that change their name, their database or their server.
//!
//! A key may move to another shard. Then its new shard logs a command that stores it whole, and
//! its old one a deletion, as neither can be replayed from the other's log.

use keyspace::{
    AccessPolicy, DbIndex, EntryRef, Expiry, Key, NewValue, StringRef, UnixMillis, ValueRef,
};

use crate::args;
use crate::command::{Command, Flags, Run};
use crate::context::{Ctx, Effect, RestoredValue};
use crate::errors::{
    CommandError, CommandResult, BUSY_KEY, INVALID_FREQ, INVALID_IDLETIME, INVALID_TTL,
    NO_SUCH_KEY, SAME_OBJECT, SYNTAX,
};
use crate::key_spec::KeySpec;
use crate::keys;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "rename",
        summary: "Gives a key another name, in place of whatever had it.",
        complexity:
            "O(1); O(N) in the value's size when the new name lies in another shard and is logged",
        arity: 3,
        flags: Flags::WRITE,
        keys: &[
            KeySpec::at(1, &["RW", "access", "delete"]),
            KeySpec::at(2, &["OW", "update"]),
        ],
        syntax: "key newkey",
        run: Run::Keys(rename),
        ..keys::ROW
    },
    Command {
        name: "renamenx",
        summary: "Gives a key another name that nothing has yet.",
        complexity:
            "O(1); O(N) in the value's size when the new name lies in another shard and is logged",
        arity: 3,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[
            KeySpec::at(1, &["RW", "access", "delete"]),
            KeySpec::at(2, &["OW", "insert"]),
        ],
        syntax: "key newkey",
        run: Run::Keys(renamenx),
        ..keys::ROW
    },
    Command {
        name: "copy",
        summary: "Copies what a key holds to another key.",
        since: "6.2.0",
        complexity: "O(N) in the size of the value",
        arity: -3,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[
            KeySpec::at(1, &["RO", "access"]),
            KeySpec::at(2, &["OW", "update"]),
        ],
        syntax: "source destination [DB destination-db] [REPLACE]",
        run: Run::Keys(copy),
        ..keys::ROW
    },
    Command {
        name: "move",
        summary: "Moves a key to another database.",
        arity: 3,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "access", "update"])],
        syntax: "key db",
        run: Run::Keys(move_),
        ..keys::ROW
    },
    Command {
        name: "dump",
        summary: "Replies what a key holds as bytes that RESTORE takes.",
        since: "2.6.0",
        complexity: "O(N) in the size of the value",
        arity: 2,
        flags: Flags::READONLY,
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key",
        run: Run::Keys(dump),
        tips: &["nondeterministic_output"],
        ..keys::ROW
    },
    Command {
        name: "restore",
        summary: "Creates a key from the bytes that DUMP replied.",
        since: "2.6.0",
        complexity: "O(N) in the size of the value; O(N*log(N)) for a sorted set of N members",
        arity: -4,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::DANGEROUS),
        keys: &[KeySpec::at(1, &["OW", "update"])],
        syntax: "key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]",
        run: Run::Keys(restore),
        ..keys::ROW
    },
];

fn rename(c: &mut Ctx<'_, '_>) -> CommandResult {
    rename_key(c, false)?;
    c.reply.ok();
    Ok(())
}

fn renamenx(c: &mut Ctx<'_, '_>) -> CommandResult {
    let done = rename_key(c, true)?;
    c.reply.integer(i64::from(done));
    Ok(())
}

fn rename_key(c: &mut Ctx<'_, '_>, only_if_absent: bool) -> Result<bool, CommandError> {
    let (from, to) = (c.key(1), c.key(2));
    if !c.keys.exists(from) {
        return Err(NO_SUCH_KEY);
    }
    if from.bytes == to.bytes {
        return Ok(false);
    }
    if c.keys.exists(to) {
        if only_if_absent {
            return Ok(false);
        }
        discard(c, c.keys.db, to);
    }
    let entry = c.keys.remove(from).ok_or(NO_SUCH_KEY)?;
    let expire_at = entry.as_ref().expire_at();
    let entry = entry.rebuilt(Some(to.bytes), expire_at);
    c.keys.db_of_mut(to).insert(entry);
    if from.shard == to.shard {
        let effect = [b"RENAME", from.bytes, to.bytes];
        c.keys
            .wrote(from, "rename_from", 1, Effect::Command(&effect));
        c.keys.wrote(to, "rename_to", 0, Effect::Covered);
    } else {
        let effect = [b"DEL", from.bytes];
        c.keys
            .wrote(from, "rename_from", 1, Effect::Command(&effect));
        keys::wrote_whole(c, c.keys.db, to, "rename_to", 0);
    }
    Ok(true)
}

/// Drops what a key holds; what is put in its place covers that in the log.
fn discard(c: &mut Ctx<'_, '_>, db: DbIndex, key: Key<'_>) {
    if let Some(old) = c.keys.view.db_mut(db, key).remove(key) {
        c.keys.free(key, old);
    }
}

fn copy(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (from, to) = (c.key(1), c.key(2));
    let (mut to_db, mut replace) = (c.keys.db, false);
    let mut index = 3;
    while let Some(word) = c.argv.get(index) {
        if args::is(word, "replace") {
            replace = true;
        } else if args::is(word, "db") && index + 1 < c.argv.len() {
            index += 1;
            to_db = keys::database(c, index)?;
        } else {
            return Err(SYNTAX);
        }
        index += 1;
    }
    if to_db == c.keys.db && from.bytes == to.bytes {
        return Err(SAME_OBJECT);
    }
    let done = c.keys.read(from).is_some() && (replace || c.keys.find_in(to_db, to).is_none());
    if done {
        copy_key(c, from, to, to_db);
    }
    c.reply.integer(i64::from(done));
    Ok(())
}

fn copy_key(c: &mut Ctx<'_, '_>, from: Key<'_>, to: Key<'_>, to_db: DbIndex) {
    discard(c, to_db, to);
    let Some(entry) = c.keys.peek(from) else {
        return;
    };
    let expiry = Expiry::Set(entry.expire_at());
    let raw = entry.encoding_name() == "raw";
    let bytes;
    let value = match entry.value() {
        ValueRef::String(StringRef::Int(n)) => NewValue::Int(n),
        ValueRef::String(StringRef::Bytes(text)) => {
            bytes = text.to_vec();
            if raw {
                NewValue::RawBytes(&bytes)
            } else {
                NewValue::Text(&bytes)
            }
        }
        ValueRef::Object(value) => NewValue::Object(value.clone().into()),
    };
    c.keys.view.db_mut(to_db, to).set(to, value, expiry);
    keys::wrote_whole(c, to_db, to, "copy_to", 1);
}

fn move_(c: &mut Ctx<'_, '_>) -> CommandResult {
    let key = c.key(1);
    let to_db = keys::database(c, 2)?;
    if to_db == c.keys.db {
        return Err(SAME_OBJECT);
    }
    let done = c.keys.exists(key) && c.keys.find_in(to_db, key).is_none();
    if done {
        if let Some(entry) = c.keys.remove(key) {
            c.keys.view.db_mut(to_db, key).insert(entry);
            c.keys.wrote(key, "move_from", 1, Effect::AsGiven);
            c.keys.wrote_in(to_db, key, "move_to", 0, Effect::Covered);
        }
    }
    c.reply.integer(i64::from(done));
    Ok(())
}

fn dump(c: &mut Ctx<'_, '_>) -> CommandResult {
    let key = c.key(1);
    match c.keys.read(key).map(EntryRef::value) {
        Some(value) => c.reply.bulk(&c.codec.dump(value)),
        None => c.reply.null(),
    }
    Ok(())
}

#[derive(Default)]
struct RestoreOptions {
    replace: bool,
    absolute: bool,
    idle_seconds: Option<u64>,
    frequency: Option<u8>,
}

fn restore_options(c: &Ctx<'_, '_>) -> Result<RestoreOptions, CommandError> {
    let mut options = RestoreOptions::default();
    let mut index = 4;
    while let Some(word) = c.argv.get(index) {
        let value = c.argv.get(index + 1);
        match value {
            _ if args::is(word, "replace") => options.replace = true,
            _ if args::is(word, "absttl") => options.absolute = true,
            Some(value) if args::is(word, "idletime") && options.frequency.is_none() => {
                let seconds = args::integer(value)?;
                let seconds = u64::try_from(seconds).map_err(|_| INVALID_IDLETIME)?;
                options.idle_seconds = Some(seconds);
                index += 1;
            }
            Some(value) if args::is(word, "freq") && options.idle_seconds.is_none() => {
                let frequency = args::integer(value)?;
                let frequency = u8::try_from(frequency).map_err(|_| INVALID_FREQ)?;
                options.frequency = Some(frequency);
                index += 1;
            }
            _ => return Err(SYNTAX),
        }
        index += 1;
    }
    Ok(options)
}

fn restore(c: &mut Ctx<'_, '_>) -> CommandResult {
    let options = restore_options(c)?;
    let key = c.key(1);
    if c.keys.exists(key) && !options.replace {
        return Err(BUSY_KEY);
    }
    let ttl = args::integer(c.argv.arg(2))?;
    if ttl < 0 {
        return Err(INVALID_TTL);
    }
    let payload = c.argv.arg(3);
    let value = c.codec.restore(payload, c.limits)?;
    let expire_at = match ttl {
        0 => None,
        ttl if options.absolute => Some(UnixMillis(ttl)),
        ttl => Some(UnixMillis(c.keys.now.0.saturating_add(ttl))),
    };
    if expire_at.is_some_and(|at| at <= c.keys.now) {
        // What expired before it was restored takes the key with it.
        keys::delete(c, key);
        c.reply.ok();
        return Ok(());
    }
    discard(c, c.keys.db, key);
    let value = match value {
        RestoredValue::String(bytes) => NewValue::Owned(bytes),
        RestoredValue::Object(value) => NewValue::Object(value),
    };
    let db = c.keys.db_of_mut(key);
    db.set(key, value, Expiry::Set(expire_at));
    // Redis heeds what the policy in force has a use for.
    let clock = match (db.access.policy(), options.idle_seconds, options.frequency) {
        (AccessPolicy::Recency, Some(idle), _) => Some(db.access.of_idle(idle)),
        (AccessPolicy::Frequency { .. }, _, Some(often)) => Some(db.access.of_frequency(often)),
        _ => None,
    };
    if let Some(clock) = clock {
        db.set_access_clock(key, clock);
    }
    let mut digits = itoa::Buffer::new();
    let at = digits.format(expire_at.map_or(0, |at| at.0)).as_bytes();
    let effect = [b"RESTORE", key.bytes, at, payload, b"REPLACE", b"ABSTTL"];
    c.keys.wrote(key, "restore", 1, Effect::Command(&effect));
    c.reply.ok();
    Ok(())
}
