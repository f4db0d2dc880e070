//! Strings that are numbers.

use datatypes::number::ExtendedFloat;
use keyspace::{Expiry, NewValue, StringRef};

use crate::args;
use crate::command::{Command, Flags, Group, Run};
use crate::context::{Ctx, Effect};
use crate::errors::{
    CommandResult, DECREMENT_OVERFLOW, INCREMENT_NOT_FINITE, INCREMENT_OVERFLOW, NOT_FLOAT,
};
use crate::key_spec::KeySpec;
use crate::strings::store;

/// What the rows of this file share.
const ROW: Command = Command {
    group: Group::String,
    flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
    keys: &[KeySpec::at(1, &["RW", "access", "update"])],
    ..Command::DEFAULT
};

pub const COMMANDS: &[Command] = &[
    Command {
        name: "incr",
        summary: "Adds one to a number; an absent key counts as 0.",
        arity: 2,
        syntax: "key",
        run: Run::Keys(incr),
        ..ROW
    },
    Command {
        name: "decr",
        summary: "Subtracts one from a number; an absent key counts as 0.",
        arity: 2,
        syntax: "key",
        run: Run::Keys(decr),
        ..ROW
    },
    Command {
        name: "incrby",
        summary: "Adds an integer to a number; an absent key counts as 0.",
        arity: 3,
        syntax: "key increment",
        run: Run::Keys(incrby),
        ..ROW
    },
    Command {
        name: "decrby",
        summary: "Subtracts an integer from a number; an absent key counts as 0.",
        arity: 3,
        syntax: "key decrement",
        run: Run::Keys(decrby),
        ..ROW
    },
    Command {
        name: "incrbyfloat",
        summary: "Adds a floating point number to a number; an absent key counts as 0.",
        since: "2.6.0",
        arity: 3,
        syntax: "key increment",
        run: Run::Keys(incrbyfloat),
        ..ROW
    },
];

fn incr(c: &mut Ctx<'_, '_>) -> CommandResult {
    add(c, 1)
}

fn decr(c: &mut Ctx<'_, '_>) -> CommandResult {
    add(c, -1)
}

fn incrby(c: &mut Ctx<'_, '_>) -> CommandResult {
    let by = args::integer(c.argv.arg(2))?;
    add(c, by)
}

fn decrby(c: &mut Ctx<'_, '_>) -> CommandResult {
    let by = args::integer(c.argv.arg(2))?;
    add(c, by.checked_neg().ok_or(DECREMENT_OVERFLOW)?)
}

fn add(c: &mut Ctx<'_, '_>, by: i64) -> CommandResult {
    let key = c.key(1);
    let old = match c.keys.find_string(key)? {
        None => 0,
        Some(StringRef::Int(n)) => n,
        Some(StringRef::Bytes(text)) => args::integer(text)?,
    };
    let new = old.checked_add(by).ok_or(INCREMENT_OVERFLOW)?;
    store(c, key, NewValue::Int(new), Expiry::Keep);
    c.keys.wrote(key, "incrby", 1, Effect::AsGiven);
    c.reply.integer(new);
    Ok(())
}

fn incrbyfloat(c: &mut Ctx<'_, '_>) -> CommandResult {
    let key = c.key(1);
    let old = match c.keys.find_string(key)? {
        None => ExtendedFloat::ZERO,
        Some(StringRef::Int(n)) => ExtendedFloat::from_i64(n),
        Some(StringRef::Bytes(text)) => ExtendedFloat::parse(text).ok_or(NOT_FLOAT)?,
    };
    let by = ExtendedFloat::parse(c.argv.arg(2)).ok_or(NOT_FLOAT)?;
    let new = old.add(by);
    if !new.is_finite() {
        return Err(INCREMENT_NOT_FINITE);
    }
    let text = new.to_vec();
    store(c, key, NewValue::Text(&text), Expiry::Keep);
    // Logged as its result, which no other server's arithmetic can change.
    let effect = [b"SET", key.bytes, &text, b"KEEPTTL"];
    c.keys
        .wrote(key, "incrbyfloat", 1, Effect::Command(&effect));
    c.reply.bulk(&text);
    Ok(())
}
