//! When keys expire.
//!
//! Every way of setting an expiry is logged as PEXPIREAT, so that replaying it later means the
//! same instant; one that has passed already deletes the key.

use keyspace::{EntryRef, Key, UnixMillis};

use crate::args;
use crate::command::{Command, Flags, Run};
use crate::context::{Ctx, Effect};
use crate::errors::{CommandError, CommandResult, EXPIRE_GT_AND_LT, EXPIRE_NX_AND_OTHERS};
use crate::expiry::{Since, Time, Unit};
use crate::key_spec::KeySpec;
use crate::keys;

/// EXPIRE and its like.
const SETTER: Command = Command {
    arity: -3,
    flags: Flags::WRITE.union(Flags::FAST),
    keys: &[KeySpec::at(1, &["RW", "update"])],
    ..keys::ROW
};

/// TTL and its like.
const GETTER: Command = Command {
    arity: 2,
    flags: Flags::READONLY.union(Flags::FAST),
    keys: &[KeySpec::at(1, &["RO", "access"])],
    syntax: "key",
    ..keys::ROW
};

pub const COMMANDS: &[Command] = &[
    Command {
        name: "expire",
        summary: "Lets a key expire after some seconds.",
        syntax: "key seconds [NX | XX | GT | LT]",
        run: Run::Keys(expire),
        ..SETTER
    },
    Command {
        name: "pexpire",
        summary: "Lets a key expire after some milliseconds.",
        since: "2.6.0",
        syntax: "key milliseconds [NX | XX | GT | LT]",
        run: Run::Keys(pexpire),
        ..SETTER
    },
    Command {
        name: "expireat",
        summary: "Lets a key expire at a Unix time in seconds.",
        since: "1.2.0",
        syntax: "key unix-time-seconds [NX | XX | GT | LT]",
        run: Run::Keys(expireat),
        ..SETTER
    },
    Command {
        name: "pexpireat",
        summary: "Lets a key expire at a Unix time in milliseconds.",
        since: "2.6.0",
        syntax: "key unix-time-milliseconds [NX | XX | GT | LT]",
        run: Run::Keys(pexpireat),
        ..SETTER
    },
    Command {
        name: "ttl",
        summary: "Replies how many seconds a key still has: -1 for ever, -2 if it does not exist.",
        run: Run::Keys(ttl),
        tips: &["nondeterministic_output"],
        ..GETTER
    },
    Command {
        name: "pttl",
        summary: "Replies how many milliseconds a key still has: -1 for ever, -2 if it does not exist.",
        since: "2.6.0",
        run: Run::Keys(pttl),
        tips: &["nondeterministic_output"],
        ..GETTER
    },
    Command {
        name: "expiretime",
        summary: "Replies the Unix time in seconds at which a key expires: -1 never, -2 if it does not exist.",
        since: "7.0.0",
        run: Run::Keys(expiretime),
        ..GETTER
    },
    Command {
        name: "pexpiretime",
        summary: "Replies the Unix time in milliseconds at which a key expires: -1 never, -2 if it does not exist.",
        since: "7.0.0",
        run: Run::Keys(pexpiretime),
        ..GETTER
    },
    Command {
        name: "persist",
        summary: "Keeps a key that would expire.",
        since: "2.2.0",
        arity: 2,
        syntax: "key",
        run: Run::Keys(persist),
        ..SETTER
    },
];

fn expire(c: &mut Ctx<'_, '_>) -> CommandResult {
    set(c, "expire", Unit::Seconds, Since::Now)
}

fn pexpire(c: &mut Ctx<'_, '_>) -> CommandResult {
    set(c, "pexpire", Unit::Millis, Since::Now)
}

fn expireat(c: &mut Ctx<'_, '_>) -> CommandResult {
    set(c, "expireat", Unit::Seconds, Since::Epoch)
}

fn pexpireat(c: &mut Ctx<'_, '_>) -> CommandResult {
    set(c, "pexpireat", Unit::Millis, Since::Epoch)
}

bitflags::bitflags! {
    #[derive(Clone, Copy, PartialEq, Eq)]
    struct Conditions: u8 {
        const NX = 1;
        const XX = 1 << 1;
        const GT = 1 << 2;
        const LT = 1 << 3;
    }
}

impl Conditions {
    fn parse(c: &Ctx<'_, '_>) -> Result<Conditions, CommandError> {
        let mut found = Conditions::empty();
        for word in c.argv.from(3).iter() {
            found |= match word {
                w if args::is(w, "nx") => Conditions::NX,
                w if args::is(w, "xx") => Conditions::XX,
                w if args::is(w, "gt") => Conditions::GT,
                w if args::is(w, "lt") => Conditions::LT,
                other => return Err(CommandError::unsupported_option(other)),
            };
        }
        if found.contains(Conditions::NX) && found != Conditions::NX {
            return Err(EXPIRE_NX_AND_OTHERS);
        }
        if found.contains(Conditions::GT | Conditions::LT) {
            return Err(EXPIRE_GT_AND_LT);
        }
        Ok(found)
    }

    /// Whether an expiry may take the place of another; a key without one lasts for ever.
    fn allow(self, old: Option<UnixMillis>, new: UnixMillis) -> bool {
        let refused = (self.contains(Conditions::NX) && old.is_some())
            || (self.contains(Conditions::XX) && old.is_none())
            || (self.contains(Conditions::GT) && old.is_none_or(|old| new <= old))
            || (self.contains(Conditions::LT) && old.is_some_and(|old| new >= old));
        !refused
    }
}

fn set(c: &mut Ctx<'_, '_>, name: &str, unit: Unit, since: Since) -> CommandResult {
    let conditions = Conditions::parse(c)?;
    let at = Time::new(c.argv.arg(2), unit, since).instant(c.keys.now, name)?;
    let key = c.key(1);
    let old = c.keys.find(key).map(EntryRef::expire_at);
    let allowed = old.is_some_and(|old| conditions.allow(old, at));
    if allowed {
        expire_at(c, key, at);
    }
    c.reply.integer(i64::from(allowed));
    Ok(())
}

/// Lets an existing key expire at an instant: at once, if that has passed.
pub fn expire_at(c: &mut Ctx<'_, '_>, key: Key<'_>, at: UnixMillis) {
    if at <= c.keys.now {
        keys::delete(c, key);
        return;
    }
    c.keys.db_of_mut(key).set_expiry(key, Some(at));
    let mut digits = itoa::Buffer::new();
    let effect = [b"PEXPIREAT", key.bytes, digits.format(at.0).as_bytes()];
    c.keys.wrote(key, "expire", 1, Effect::Command(&effect));
}

/// Takes an existing key's expiry away; false when it has none.
pub fn persist_key(c: &mut Ctx<'_, '_>, key: Key<'_>) -> bool {
    if c.keys.find(key).and_then(EntryRef::expire_at).is_none() {
        return false;
    }
    c.keys.db_of_mut(key).set_expiry(key, None);
    let effect = [b"PERSIST", key.bytes];
    c.keys.wrote(key, "persist", 1, Effect::Command(&effect));
    true
}

fn persist(c: &mut Ctx<'_, '_>) -> CommandResult {
    let key = c.key(1);
    let done = persist_key(c, key);
    c.reply.integer(i64::from(done));
    Ok(())
}

/// Replies what `f` makes of the expiry, or -1 or -2.
fn tell(c: &mut Ctx<'_, '_>, f: impl FnOnce(i64) -> i64) -> CommandResult {
    let key = c.key(1);
    let answer = match c.keys.look_at(key).map(EntryRef::expire_at) {
        None => -2,
        Some(None) => -1,
        Some(Some(UnixMillis(ms))) => f(ms),
    };
    c.reply.integer(answer);
    Ok(())
}

/// Milliseconds to the nearest second.
fn seconds(ms: i64) -> i64 {
    ms.saturating_add(500) / 1000
}

fn ttl(c: &mut Ctx<'_, '_>) -> CommandResult {
    let now = c.keys.now.0;
    tell(c, |ms| seconds((ms - now).max(0)))
}

fn pttl(c: &mut Ctx<'_, '_>) -> CommandResult {
    let now = c.keys.now.0;
    tell(c, |ms| (ms - now).max(0))
}

fn expiretime(c: &mut Ctx<'_, '_>) -> CommandResult {
    tell(c, seconds)
}

fn pexpiretime(c: &mut Ctx<'_, '_>) -> CommandResult {
    tell(c, |ms| ms)
}
