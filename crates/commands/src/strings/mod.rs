//! String commands: reading and writing whole values. Numbers, pieces of strings, several keys
//! and LCS have files of their own.
//!
//! GET and SET are what most servers do most of the time: one look-up, no allocation but the
//! stored record.

use keyspace::{Expiry, Key, NewValue, UnixMillis};

use crate::args;
use crate::command::{Command, Deprecated, Flags, Group, Run};
use crate::context::{Ctx, Effect};
use crate::errors::{CommandResult, SYNTAX};
use crate::expiry::{Since, Time, Unit};
use crate::key_spec::KeySpec;

pub mod lcs;
pub mod numbers;
pub mod pieces;
pub mod several;
#[cfg(test)]
mod tests;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "get",
        summary: "Replies a key's string.",
        group: Group::String,
        arity: 2,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key",
        run: Run::Keys(get),
        ..Command::DEFAULT
    },
    Command {
        name: "set",
        summary: "Stores a string under a key, whatever the key held before.",
        group: Group::String,
        arity: -3,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[KeySpec {
            notes: "Read as well when `GET` is given",
            ..KeySpec::at(1, &["RW", "access", "update", "variable_flags"])
        }],
        syntax: "key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]",
        run: Run::Keys(set),
        ..Command::DEFAULT
    },
    Command {
        name: "setnx",
        summary: "Stores a string under a key that does not exist yet.",
        group: Group::String,
        arity: 3,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::at(1, &["OW", "insert"])],
        syntax: "key value",
        run: Run::Keys(setnx),
        deprecated: Some(Deprecated { since: "2.6.12", replaced_by: "`SET` with the `NX` argument" }),
        ..Command::DEFAULT
    },
    Command {
        name: "setex",
        summary: "Stores a string that expires after some seconds.",
        since: "2.0.0",
        group: Group::String,
        arity: 4,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[KeySpec::at(1, &["OW", "update"])],
        syntax: "key seconds value",
        run: Run::Keys(setex),
        deprecated: Some(Deprecated { since: "2.6.12", replaced_by: "`SET` with the `EX` argument" }),
        ..Command::DEFAULT
    },
    Command {
        name: "psetex",
        summary: "Stores a string that expires after some milliseconds.",
        since: "2.6.0",
        group: Group::String,
        arity: 4,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[KeySpec::at(1, &["OW", "update"])],
        syntax: "key milliseconds value",
        run: Run::Keys(psetex),
        deprecated: Some(Deprecated { since: "2.6.12", replaced_by: "`SET` with the `PX` argument" }),
        ..Command::DEFAULT
    },
    Command {
        name: "getset",
        summary: "Stores a string under a key and replies the one it held.",
        group: Group::String,
        arity: 3,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "access", "update"])],
        syntax: "key value",
        run: Run::Keys(getset),
        deprecated: Some(Deprecated { since: "6.2.0", replaced_by: "`SET` with the `!GET` argument" }),
        ..Command::DEFAULT
    },
    Command {
        name: "getdel",
        summary: "Replies a key's string and deletes the key.",
        since: "6.2.0",
        group: Group::String,
        arity: 2,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "access", "delete"])],
        syntax: "key",
        run: Run::Keys(getdel),
        ..Command::DEFAULT
    },
    Command {
        name: "getex",
        summary: "Replies a key's string and sets or removes the time it expires.",
        since: "6.2.0",
        group: Group::String,
        arity: -2,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec {
            notes: "An update because the expiry may change",
            ..KeySpec::at(1, &["RW", "access", "update"])
        }],
        syntax: "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]",
        run: Run::Keys(getex),
        ..Command::DEFAULT
    },
];

/// Stores a value, leaving what was there to be freed where that is quickest.
#[inline]
pub(crate) fn store(c: &mut Ctx<'_, '_>, key: Key<'_>, value: NewValue<'_>, expiry: Expiry) {
    if let Some(old) = c.keys.db_of_mut(key).set(key, value, expiry) {
        c.keys.free(key, old);
    }
}

fn get(c: &mut Ctx<'_, '_>) -> CommandResult {
    let key = c.key(1);
    match c.keys.read_string(key)? {
        Some(string) => c.reply.bulk(string.bytes(&mut itoa::Buffer::new())),
        None => c.reply.null(),
    }
    Ok(())
}

/// When SET goes ahead.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    IfAbsent,
    IfPresent,
}

struct SetOptions<'a> {
    condition: Condition,
    get: bool,
    keep_ttl: bool,
    time: Option<Time<'a>>,
}

fn set_options<'a>(c: &Ctx<'a, '_>) -> Result<SetOptions<'a>, crate::CommandError> {
    let mut options = SetOptions {
        condition: Condition::Always,
        get: false,
        keep_ttl: false,
        time: None,
    };
    let mut index = 3;
    while let Some(word) = c.argv.get(index) {
        let free = options.condition == Condition::Always;
        if args::is(word, "nx") && (free || options.condition == Condition::IfAbsent) {
            options.condition = Condition::IfAbsent;
        } else if args::is(word, "xx") && (free || options.condition == Condition::IfPresent) {
            options.condition = Condition::IfPresent;
        } else if args::is(word, "get") {
            options.get = true;
        } else if args::is(word, "keepttl") && options.time.is_none() {
            options.keep_ttl = true;
        } else {
            let text = c.argv.get(index + 1).ok_or(SYNTAX)?;
            let time = Time::of_option(word, text).ok_or(SYNTAX)?;
            if options.keep_ttl
                || options
                    .time
                    .is_some_and(|before| !before.is_same_option(time))
            {
                return Err(SYNTAX);
            }
            options.time = Some(time);
            index += 1;
        }
        index += 1;
    }
    Ok(options)
}

fn set(c: &mut Ctx<'_, '_>) -> CommandResult {
    if c.argv.len() > 3 {
        return set_with_options(c);
    }
    let key = c.key(1);
    let value = NewValue::Bytes(c.argv.arg(2));
    store(c, key, value, Expiry::Set(None));
    c.keys.wrote(key, "set", 1, Effect::AsGiven);
    c.reply.ok();
    Ok(())
}

fn set_with_options(c: &mut Ctx<'_, '_>) -> CommandResult {
    let options = set_options(c)?;
    let (key, value) = (c.key(1), c.argv.arg(2));
    let time = options.time.map(|time| time.positive(c.keys.now, "set"));
    let expire_at = time.transpose()?;
    let present = if options.get {
        let old = c.keys.read_string(key)?;
        c.reply.bulk_or_null(
            old.map(|s| s.bytes(&mut itoa::Buffer::new()).to_vec())
                .as_deref(),
        );
        old.is_some()
    } else {
        c.keys.exists(key)
    };
    let goes_ahead = match options.condition {
        Condition::Always => true,
        Condition::IfAbsent => !present,
        Condition::IfPresent => present,
    };
    if goes_ahead {
        set_with_expiry(c, key, value, options.keep_ttl, expire_at);
    }
    match (options.get, goes_ahead) {
        (true, _) => {}
        (false, true) => c.reply.ok(),
        (false, false) => c.reply.null(),
    }
    Ok(())
}

fn set_with_expiry(
    c: &mut Ctx<'_, '_>,
    key: Key<'_>,
    value: &[u8],
    keep_ttl: bool,
    expire_at: Option<UnixMillis>,
) {
    let expiry = if keep_ttl {
        Expiry::Keep
    } else {
        Expiry::Set(expire_at)
    };
    store(c, key, NewValue::Bytes(value), expiry);
    match expire_at {
        Some(UnixMillis(ms)) => {
            let mut digits = itoa::Buffer::new();
            let ms = digits.format(ms).as_bytes();
            let effect = [b"SET", key.bytes, value, b"PXAT", ms];
            c.keys.wrote(key, "set", 1, Effect::Command(&effect));
            c.keys.wrote(key, "expire", 0, Effect::Covered);
        }
        None => {
            let effect = [b"SET", key.bytes, value, b"KEEPTTL"];
            let words = if keep_ttl { 4 } else { 3 };
            let effect = Effect::Command(&effect[..words]);
            c.keys.wrote(key, "set", 1, effect);
        }
    }
}

fn setnx(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, value) = (c.key(1), c.argv.arg(2));
    let absent = !c.keys.exists(key);
    if absent {
        set_with_expiry(c, key, value, false, None);
    }
    c.reply.integer(i64::from(absent));
    Ok(())
}

fn setex(c: &mut Ctx<'_, '_>) -> CommandResult {
    set_expiring(c, Unit::Seconds, "setex")
}

fn psetex(c: &mut Ctx<'_, '_>) -> CommandResult {
    set_expiring(c, Unit::Millis, "psetex")
}

fn set_expiring(c: &mut Ctx<'_, '_>, unit: Unit, name: &str) -> CommandResult {
    let (key, value) = (c.key(1), c.argv.arg(3));
    let time = Time::new(c.argv.arg(2), unit, Since::Now);
    let expire_at = time.positive(c.keys.now, name)?;
    set_with_expiry(c, key, value, false, Some(expire_at));
    c.reply.ok();
    Ok(())
}

fn getset(c: &mut Ctx<'_, '_>) -> CommandResult {
    get(c)?;
    let (key, value) = (c.key(1), c.argv.arg(2));
    set_with_expiry(c, key, value, false, None);
    Ok(())
}

fn getdel(c: &mut Ctx<'_, '_>) -> CommandResult {
    get(c)?;
    let key = c.key(1);
    if let Some(old) = c.keys.remove(key) {
        c.keys.free(key, old);
        let effect = [b"DEL", key.bytes];
        c.keys.wrote(key, "del", 1, Effect::Command(&effect));
    }
    Ok(())
}

/// What GETEX does to the expiry.
enum GetexOption<'a> {
    Nothing,
    Persist,
    Time(Time<'a>),
}

fn getex_option<'a>(c: &Ctx<'a, '_>) -> Result<GetexOption<'a>, crate::CommandError> {
    let mut option = GetexOption::Nothing;
    let mut index = 2;
    while let Some(word) = c.argv.get(index) {
        if args::is(word, "persist") && !matches!(option, GetexOption::Time(_)) {
            option = GetexOption::Persist;
            index += 1;
            continue;
        }
        let text = c.argv.get(index + 1).ok_or(SYNTAX)?;
        let time = Time::of_option(word, text).ok_or(SYNTAX)?;
        match option {
            GetexOption::Nothing => {}
            GetexOption::Time(before) if before.is_same_option(time) => {}
            GetexOption::Time(_) | GetexOption::Persist => return Err(SYNTAX),
        }
        option = GetexOption::Time(time);
        index += 2;
    }
    Ok(option)
}

fn getex(c: &mut Ctx<'_, '_>) -> CommandResult {
    let option = getex_option(c)?;
    let (key, now) = (c.key(1), c.keys.now);
    let Some(string) = c.keys.read_string(key)? else {
        c.reply.null();
        return Ok(());
    };
    let expire_at = match option {
        GetexOption::Time(time) => Some(time.positive(now, "getex")?),
        GetexOption::Nothing | GetexOption::Persist => None,
    };
    c.reply.bulk(string.bytes(&mut itoa::Buffer::new()));
    match expire_at {
        Some(at) => crate::keys::expire_at(c, key, at),
        None if matches!(option, GetexOption::Persist) => {
            crate::keys::persist_key(c, key);
        }
        None => {}
    }
    Ok(())
}
