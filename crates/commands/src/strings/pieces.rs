//! Parts of strings.
//!
//! A string too long for its record lies in a buffer of its own, which APPEND and SETRANGE
//! change in place; it grows by doubling. A short one is written anew.

use keyspace::entry::INLINE_VALUE_BYTES_MAX;
use keyspace::{Expiry, Key, NewValue, StringRef};

use crate::args;
use crate::command::{Command, Deprecated, Flags, Group, Run};
use crate::context::{Ctx, Effect};
use crate::errors::{CommandResult, OFFSET_OUT_OF_RANGE, STRING_TOO_LONG};
use crate::key_spec::KeySpec;
use crate::strings::store;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "append",
        summary: "Appends to a key's string; an absent key counts as empty.",
        since: "2.0.0",
        group: Group::String,
        complexity: "O(1) amortized over appends of short strings",
        arity: 3,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "insert"])],
        syntax: "key value",
        run: Run::Keys(append),
        ..Command::DEFAULT
    },
    Command {
        name: "strlen",
        summary: "Replies the length of a key's string.",
        since: "2.2.0",
        group: Group::String,
        arity: 2,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO"])],
        syntax: "key",
        run: Run::Keys(strlen),
        ..Command::DEFAULT
    },
    Command {
        name: "setrange",
        summary: "Overwrites a part of a key's string, which grows as far as needed.",
        since: "2.2.0",
        group: Group::String,
        complexity: "O(M) with the length M of the value",
        arity: 4,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[KeySpec::at(1, &["RW", "update"])],
        syntax: "key offset value",
        run: Run::Keys(setrange),
        ..Command::DEFAULT
    },
    Command {
        name: "getrange",
        summary: "Replies a part of a key's string.",
        since: "2.4.0",
        run: Run::Keys(getrange),
        ..GETRANGE
    },
    Command {
        name: "substr",
        summary: "Replies a part of a key's string: the old name of GETRANGE.",
        run: Run::Keys(getrange),
        deprecated: Some(Deprecated {
            since: "2.0.0",
            replaced_by: "`GETRANGE`",
        }),
        ..GETRANGE
    },
];

const GETRANGE: Command = Command {
    group: Group::String,
    complexity: "O(N) with the length N of the reply",
    arity: 4,
    flags: Flags::READONLY,
    keys: &[KeySpec::at(1, &["RO", "access"])],
    syntax: "key start end",
    ..Command::DEFAULT
};

/// Refuses to make a string of `len` and `more` bytes when that is too long.
fn check_length(c: &Ctx<'_, '_>, len: usize, more: usize) -> CommandResult {
    match (len as u64).checked_add(more as u64) {
        Some(total) if total <= c.string_bytes_max => Ok(()),
        _ => Err(STRING_TOO_LONG),
    }
}

/// Changes the string at `key`, which is `len` bytes long now (0: it may be absent).
pub(crate) fn change(
    c: &mut Ctx<'_, '_>,
    key: Key<'_>,
    len: usize,
    edit: impl FnOnce(&mut Vec<u8>),
) {
    let db = c.keys.db_of_mut(key);
    if len > INLINE_VALUE_BYTES_MAX {
        db.change_owned(key, edit)
            .expect("a string longer than any inline one has a buffer of its own");
        return;
    }
    let mut bytes = Vec::new();
    if let Some(keyspace::ValueRef::String(old)) = db.find(key).map(|entry| entry.value()) {
        bytes.extend_from_slice(old.bytes(&mut itoa::Buffer::new()));
    }
    edit(&mut bytes);
    if bytes.len() > INLINE_VALUE_BYTES_MAX {
        store(c, key, NewValue::Owned(bytes), Expiry::Keep);
    } else {
        store(c, key, NewValue::RawBytes(&bytes), Expiry::Keep);
    }
}

fn append(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, tail) = (c.key(1), c.argv.arg(2));
    let len = match c.keys.find_string(key)?.map(StringRef::len) {
        Some(len) => {
            check_length(c, len, tail.len())?;
            change(c, key, len, |bytes| bytes.extend_from_slice(tail));
            len + tail.len()
        }
        None => {
            store(c, key, NewValue::Bytes(tail), Expiry::Set(None));
            tail.len()
        }
    };
    c.keys.wrote(key, "append", 1, Effect::AsGiven);
    c.reply.integer(len as i64);
    Ok(())
}

fn strlen(c: &mut Ctx<'_, '_>) -> CommandResult {
    let key = c.key(1);
    let len = c.keys.read_string(key)?.map_or(0, StringRef::len);
    c.reply.integer(len as i64);
    Ok(())
}

fn setrange(c: &mut Ctx<'_, '_>) -> CommandResult {
    let key = c.key(1);
    let offset = args::integer(c.argv.arg(2))?;
    let offset = usize::try_from(offset).map_err(|_| OFFSET_OUT_OF_RANGE)?;
    let patch = c.argv.arg(3);
    let len = c.keys.find_string(key)?.map_or(0, StringRef::len);
    if patch.is_empty() {
        c.reply.integer(len as i64);
        return Ok(());
    }
    check_length(c, offset, patch.len())?;
    let end = offset + patch.len();
    change(c, key, len, |bytes| {
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[offset..end].copy_from_slice(patch);
    });
    c.keys.wrote(key, "setrange", 1, Effect::AsGiven);
    c.reply.integer(len.max(end) as i64);
    Ok(())
}

fn getrange(c: &mut Ctx<'_, '_>) -> CommandResult {
    let key = c.key(1);
    let start = args::integer(c.argv.arg(2))?;
    let end = args::integer(c.argv.arg(3))?;
    let mut digits = itoa::Buffer::new();
    let bytes = match c.keys.read_string(key)? {
        Some(string) => string.bytes(&mut digits),
        None => b"",
    };
    c.reply.bulk(&bytes[range(start, end, bytes.len())]);
    Ok(())
}

/// The bytes from `start` to `end`, both included and, when negative, counted from the end.
fn range(start: i64, end: i64, len: usize) -> std::ops::Range<usize> {
    let last = len as i64 - 1;
    if start < 0 && end < 0 && start > end {
        return 0..0;
    }
    let clamp = |at: i64| {
        if at < 0 {
            at.saturating_add(last + 1).max(0)
        } else {
            at
        }
    };
    let (start, end) = (clamp(start), clamp(end).min(last));
    if start > end {
        return 0..0;
    }
    start as usize..end as usize + 1
}
