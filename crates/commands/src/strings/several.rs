//! Strings of several keys at once.

use keyspace::{EntryRef, ValueRef};

use crate::command::{Command, Flags, Group, Run};
use crate::context::{Ctx, Effect};
use crate::errors::{CommandError, CommandResult};
use crate::key_spec::KeySpec;
use crate::strings::store;
use keyspace::{Expiry, NewValue};

pub const COMMANDS: &[Command] = &[
    Command {
        name: "mget",
        summary: "Replies the strings of several keys, read at one instant.",
        group: Group::String,
        complexity: "O(N) with N keys",
        arity: -2,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::rest(1, 1, &["RO", "access"])],
        syntax: "key [key ...]",
        run: Run::Keys(mget),
        tips: &["request_policy:multi_shard"],
        ..Command::DEFAULT
    },
    Command {
        name: "mset",
        summary: "Stores several strings at one instant.",
        since: "1.0.1",
        group: Group::String,
        complexity: "O(N) with N keys",
        arity: -3,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[KeySpec::rest(1, 2, &["OW", "update"])],
        syntax: "key value [key value ...]",
        run: Run::Keys(mset),
        tips: &[
            "request_policy:multi_shard",
            "response_policy:all_succeeded",
        ],
        ..Command::DEFAULT
    },
    Command {
        name: "msetnx",
        summary: "Stores several strings at one instant, if none of the keys exists.",
        since: "1.0.1",
        group: Group::String,
        complexity: "O(N) with N keys",
        arity: -3,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[KeySpec::rest(1, 2, &["OW", "insert"])],
        syntax: "key value [key value ...]",
        run: Run::Keys(msetnx),
        ..Command::DEFAULT
    },
];

fn mget(c: &mut Ctx<'_, '_>) -> CommandResult {
    c.reply.array(c.argv.len() - 1);
    for index in 1..c.argv.len() {
        let key = c.key(index);
        match c.keys.read(key).map(EntryRef::value) {
            Some(ValueRef::String(string)) => {
                c.reply.bulk(string.bytes(&mut itoa::Buffer::new()));
            }
            // Another type is no error here.
            Some(ValueRef::Object(_)) | None => c.reply.null(),
        }
    }
    Ok(())
}

fn mset(c: &mut Ctx<'_, '_>) -> CommandResult {
    if c.argv.len().is_multiple_of(2) {
        return Err(CommandError::wrong_arity("mset"));
    }
    set_all(c);
    c.reply.ok();
    Ok(())
}

fn msetnx(c: &mut Ctx<'_, '_>) -> CommandResult {
    if c.argv.len().is_multiple_of(2) {
        return Err(CommandError::wrong_arity("msetnx"));
    }
    for index in (1..c.argv.len()).step_by(2) {
        let key = c.key(index);
        if c.keys.exists(key) {
            c.reply.integer(0);
            return Ok(());
        }
    }
    set_all(c);
    c.reply.integer(1);
    Ok(())
}

fn set_all(c: &mut Ctx<'_, '_>) {
    for index in (1..c.argv.len()).step_by(2) {
        let (key, value) = (c.key(index), c.argv.arg(index + 1));
        store(c, key, NewValue::Bytes(value), Expiry::Set(None));
        let effect = [b"SET", key.bytes, value];
        c.keys.wrote(key, "set", 1, Effect::Command(&effect));
    }
}
