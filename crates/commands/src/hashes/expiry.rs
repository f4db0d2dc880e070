//! When single fields of a hash expire: HEXPIRE and its relatives.
//!
//! A field that is given a time in the past is deleted at once. Effects carry absolute times and
//! name those fields alone that were changed, so that replaying them later gives the same hash.

use datatypes::hash::FIELD_TIME_MAX;
use datatypes::Hash;
use keyspace::{Key, UnixMillis};
use resp::Argv;

use crate::args::{self, is};
use crate::command::{Command, Flags, Group, Run};
use crate::context::{Ctx, Effect};
use crate::errors::{
    CommandError, CommandResult, FIELDS_COUNT_NOT_POSITIVE, FIELDS_MISMATCH, FIELDS_MISSING,
    FIELD_TIME_NEGATIVE, HEXPIRE_COUNT_NOT_POSITIVE,
};
use crate::expiry::{Since, Unit};
use crate::key_spec::KeySpec;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "hexpire",
        summary: "Makes fields of a hash expire after some seconds.",
        syntax: "key seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
        run: Run::Keys(hexpire),
        ..EXPIRE
    },
    Command {
        name: "hpexpire",
        summary: "Makes fields of a hash expire after some milliseconds.",
        syntax: "key milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
        run: Run::Keys(hpexpire),
        ..EXPIRE
    },
    Command {
        name: "hexpireat",
        summary: "Makes fields of a hash expire at a Unix time in seconds.",
        syntax: "key unix-time-seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
        run: Run::Keys(hexpireat),
        ..EXPIRE
    },
    Command {
        name: "hpexpireat",
        summary: "Makes fields of a hash expire at a Unix time in milliseconds.",
        syntax: "key unix-time-milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
        run: Run::Keys(hpexpireat),
        ..EXPIRE
    },
    Command {
        name: "httl",
        summary: "Replies in how many seconds fields of a hash expire.",
        run: Run::Keys(httl),
        ..TIME
    },
    Command {
        name: "hpttl",
        summary: "Replies in how many milliseconds fields of a hash expire.",
        run: Run::Keys(hpttl),
        ..TIME
    },
    Command {
        name: "hexpiretime",
        summary: "Replies the Unix time in seconds at which fields of a hash expire.",
        run: Run::Keys(hexpiretime),
        tips: &[],
        ..TIME
    },
    Command {
        name: "hpexpiretime",
        summary: "Replies the Unix time in milliseconds at which fields of a hash expire.",
        run: Run::Keys(hpexpiretime),
        tips: &[],
        ..TIME
    },
    Command {
        name: "hpersist",
        summary: "Keeps fields of a hash from expiring.",
        arity: -5,
        flags: Flags::WRITE.union(Flags::FAST),
        syntax: "key FIELDS numfields field [field ...]",
        run: Run::Keys(hpersist),
        ..EXPIRE
    },
];

const EXPIRE: Command = Command {
    since: "7.4.0",
    group: Group::Hash,
    complexity: "O(N) for N fields",
    arity: -6,
    flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
    keys: &[KeySpec::at(1, &["RW", "update"])],
    ..Command::DEFAULT
};

const TIME: Command = Command {
    arity: -5,
    flags: Flags::READONLY.union(Flags::FAST),
    keys: &[KeySpec::at(1, &["RO", "access"])],
    syntax: "key FIELDS numfields field [field ...]",
    tips: &["nondeterministic_output"],
    ..EXPIRE
};

/// What the replies say of a field.
const NO_FIELD: i64 = -2;
const NO_TIME: i64 = -1;
const CONDITION_UNMET: i64 = 0;
const DONE: i64 = 1;
const DELETED: i64 = 2;

/// A time that a field may be given; times in the past are allowed, those before 1970 are not.
pub fn field_time(
    text: &[u8],
    unit: Unit,
    since: Since,
    now: UnixMillis,
    name: &str,
) -> Result<i64, CommandError> {
    let n = args::integer(text)?;
    if n < 0 {
        return Err(FIELD_TIME_NEGATIVE);
    }
    let millis = match unit {
        Unit::Seconds => n.checked_mul(1000),
        Unit::Millis => Some(n),
    };
    let base = match since {
        Since::Now => now.0,
        Since::Epoch => 0,
    };
    millis
        .and_then(|millis| millis.checked_add(base))
        .filter(|time| *time <= FIELD_TIME_MAX)
        .ok_or_else(|| CommandError::invalid_expire(name))
}

/// The fields behind `FIELDS numfields`, which begin at an argument and reach to the end.
pub fn fields(
    argv: Argv<'_>,
    at: usize,
    bad_count: CommandError,
) -> Result<Argv<'_>, CommandError> {
    if !argv.get(at).is_some_and(|word| is(word, "fields")) {
        return Err(FIELDS_MISSING);
    }
    let count = argv.get(at + 1).ok_or(FIELDS_MISSING)?;
    let count = args::positive_or(count, bad_count)?;
    let fields = argv.from(at + 2);
    if fields.len() == count {
        Ok(fields)
    } else {
        Err(FIELDS_MISMATCH)
    }
}

#[derive(Clone, Copy)]
enum Condition {
    Always,
    NoTime,
    Time,
    Later,
    Earlier,
}

impl Condition {
    fn parse(word: &[u8]) -> Option<Condition> {
        match word {
            _ if is(word, "nx") => Some(Condition::NoTime),
            _ if is(word, "xx") => Some(Condition::Time),
            _ if is(word, "gt") => Some(Condition::Later),
            _ if is(word, "lt") => Some(Condition::Earlier),
            _ => None,
        }
    }

    /// A field without a time expires later than any other.
    fn admits(self, old: Option<i64>, new: i64) -> bool {
        match self {
            Condition::Always => true,
            Condition::NoTime => old.is_none(),
            Condition::Time => old.is_some(),
            Condition::Later => old.is_some_and(|old| new > old),
            Condition::Earlier => old.is_none_or(|old| new < old),
        }
    }
}

fn hexpire(c: &mut Ctx<'_, '_>) -> CommandResult {
    expire(c, Unit::Seconds, Since::Now, "hexpire")
}

fn hpexpire(c: &mut Ctx<'_, '_>) -> CommandResult {
    expire(c, Unit::Millis, Since::Now, "hpexpire")
}

fn hexpireat(c: &mut Ctx<'_, '_>) -> CommandResult {
    expire(c, Unit::Seconds, Since::Epoch, "hexpireat")
}

fn hpexpireat(c: &mut Ctx<'_, '_>) -> CommandResult {
    expire(c, Unit::Millis, Since::Epoch, "hpexpireat")
}

fn expire(c: &mut Ctx<'_, '_>, unit: Unit, since: Since, name: &str) -> CommandResult {
    let (key, argv, now, limits) = (c.key(1), c.argv, c.keys.now, c.limits);
    // The type comes before the arguments.
    c.keys.hash_mut(key)?;
    let time = field_time(argv.arg(2), unit, since, now, name)?;
    let condition = argv.get(3).and_then(Condition::parse);
    let fields_at = if condition.is_some() { 4 } else { 3 };
    let fields = fields(argv, fields_at, HEXPIRE_COUNT_NOT_POSITIVE)?;
    let condition = condition.unwrap_or(Condition::Always);
    let Some(hash) = c.keys.hash_mut(key)? else {
        reply_all(c, fields.len(), NO_FIELD);
        return Ok(());
    };
    hash.prepare_expiry();
    let (mut replies, mut set, mut deleted) = (Vec::new(), Vec::new(), Vec::new());
    for field in fields.iter() {
        replies.push(if !hash.contains(field) {
            NO_FIELD
        } else if !condition.admits(hash.expiry_of(field), time) {
            CONDITION_UNMET
        } else if time <= now.0 {
            hash.remove(field);
            deleted.push(field);
            DELETED
        } else {
            hash.set_expiry(field, time, limits);
            set.push(field);
            DONE
        });
    }
    if !set.is_empty() {
        wrote_times(c, key, time, &set);
    }
    if !deleted.is_empty() {
        wrote_deletions(c, key, &deleted);
    }
    c.reply.array(replies.len());
    replies.iter().for_each(|reply| c.reply.integer(*reply));
    Ok(())
}

fn reply_all(c: &mut Ctx<'_, '_>, count: usize, reply: i64) {
    c.reply.array(count);
    (0..count).for_each(|_| c.reply.integer(reply));
}

/// Reports that fields were given a time.
pub fn wrote_times(c: &mut Ctx<'_, '_>, key: Key<'_>, time: i64, fields: &[&[u8]]) {
    let (mut time_text, mut count_text) = (itoa::Buffer::new(), itoa::Buffer::new());
    let time = time_text.format(time).as_bytes();
    let count = count_text.format(fields.len()).as_bytes();
    let head: [&[u8]; 5] = [b"HPEXPIREAT", key.bytes, time, b"FIELDS", count];
    let argv = [&head, fields].concat();
    c.keys.db_of_mut(key).note_field_expiry(key);
    let effect = Effect::Command(&argv);
    c.keys.wrote(key, "hexpire", fields.len() as u64, effect);
}

/// Reports that fields were deleted, and deletes the key if they were the last ones.
pub fn wrote_deletions(c: &mut Ctx<'_, '_>, key: Key<'_>, fields: &[&[u8]]) {
    let head: [&[u8]; 2] = [b"HDEL", key.bytes];
    let argv = [&head, fields].concat();
    let effect = Effect::Command(&argv);
    c.keys.wrote(key, "hdel", fields.len() as u64, effect);
    c.keys.remove_if_empty(key);
}

/// Reports that fields expire no more.
pub fn wrote_persistence(c: &mut Ctx<'_, '_>, key: Key<'_>, fields: &[&[u8]]) {
    let mut count_text = itoa::Buffer::new();
    let count = count_text.format(fields.len()).as_bytes();
    let head: [&[u8]; 4] = [b"HPERSIST", key.bytes, b"FIELDS", count];
    let argv = [&head, fields].concat();
    c.keys.db_of_mut(key).note_field_expiry(key);
    let effect = Effect::Command(&argv);
    c.keys.wrote(key, "hpersist", fields.len() as u64, effect);
}

fn httl(c: &mut Ctx<'_, '_>) -> CommandResult {
    // Rounded up: a field that is there has time left.
    times(c, |time, now| (time - now.0 + 999) / 1000)
}

fn hpttl(c: &mut Ctx<'_, '_>) -> CommandResult {
    times(c, |time, now| time - now.0)
}

fn hexpiretime(c: &mut Ctx<'_, '_>) -> CommandResult {
    times(c, |time, _| (time + 999) / 1000)
}

fn hpexpiretime(c: &mut Ctx<'_, '_>) -> CommandResult {
    times(c, |time, _| time)
}

/// Replies what `show` makes of the time of each field.
fn times(c: &mut Ctx<'_, '_>, show: impl Fn(i64, UnixMillis) -> i64) -> CommandResult {
    let (key, argv, now) = (c.key(1), c.argv, c.keys.now);
    let hash = c.keys.read_hash(key)?;
    let fields = fields(argv, 2, FIELDS_COUNT_NOT_POSITIVE)?;
    c.reply.array(fields.len());
    for field in fields.iter() {
        let shown = |hash: &Hash| match hash.expiry_of(field) {
            Some(time) => show(time, now),
            None if hash.contains(field) => NO_TIME,
            None => NO_FIELD,
        };
        c.reply.integer(hash.map_or(NO_FIELD, shown));
    }
    Ok(())
}

fn hpersist(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, argv) = (c.key(1), c.argv);
    c.keys.hash_mut(key)?;
    let fields = fields(argv, 2, FIELDS_COUNT_NOT_POSITIVE)?;
    let Some(hash) = c.keys.hash_mut(key)? else {
        reply_all(c, fields.len(), NO_FIELD);
        return Ok(());
    };
    let (mut replies, mut persisted) = (Vec::new(), Vec::new());
    for field in fields.iter() {
        replies.push(if hash.persist(field) {
            persisted.push(field);
            DONE
        } else if hash.contains(field) {
            NO_TIME
        } else {
            NO_FIELD
        });
    }
    if !persisted.is_empty() {
        wrote_persistence(c, key, &persisted);
    }
    c.reply.array(replies.len());
    replies.iter().for_each(|reply| c.reply.integer(*reply));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::World;

    #[test]
    fn effects_have_absolute_times_and_the_fields_that_changed() {
        for shards in [1, 3] {
            let mut w = World::new(shards);
            w.check(&[
                ("HSET h a 1 b 2 c 3", "3"),
                ("HEXPIRE h 10 FIELDS 2 a none", "[1, -2]"),
            ]);
            assert_eq!(w.effects(), ["HPEXPIREAT h 1700000010000 FIELDS 1 a"]);
            w.check(&[("HEXPIRE h 0 FIELDS 2 b none", "[2, -2]")]);
            assert_eq!(w.effects(), ["HDEL h b"]);
            w.check(&[("HPERSIST h FIELDS 2 a c", "[1, -1]")]);
            assert_eq!(w.effects(), ["HPERSIST h FIELDS 1 a"]);
            w.check(&[("HPERSIST h FIELDS 1 a", "[-1]")]);
            assert!(w.effects().is_empty());
            w.check(&[
                ("HPEXPIRE h 500 FIELDS 1 a", "[1]"),
                ("HINCRBYFLOAT h a 1.5", "\"2.5\""),
                ("HPTTL h FIELDS 1 a", "[500]"),
                ("COPY h other", "1"),
                ("RENAME other third", "OK"),
                ("HPTTL third FIELDS 2 a c", "[500, -1]"),
            ]);
            w.assert_replays();
        }
    }

    #[test]
    fn fields_are_gone_when_their_time_has_come() {
        let mut w = World::new(3);
        w.check(&[("HSET h a 1 b 2", "2"), ("HPEXPIRE h 10 FIELDS 1 a", "[1]")]);
        w.pass(10);
        w.check(&[("HLEN h", "2"), ("HGETALL h", "[\"b\", \"2\"]")]);
        assert_eq!(w.effects(), ["HDEL h a"]);
        w.check(&[("HLEN h", "1"), ("HPEXPIRE h 10 FIELDS 1 b", "[1]")]);
        w.pass(10);
        w.check(&[
            ("EXISTS h", "0"),
            ("HSET h a 2", "1"),
            ("HTTL h FIELDS 1 a", "[-1]"),
        ]);
        w.assert_replays();
    }

    #[test]
    fn large_hashes_expire_field_by_field() {
        let mut w = World::new(1);
        let pairs: Vec<String> = (0..1000).map(|i| format!("f{i} v")).collect();
        w.run(&format!("HSET h {}", pairs.join(" ")));
        for i in 0..500 {
            w.run(&format!("HPEXPIRE h {} FIELDS 1 f{i}", 1000 - i));
        }
        w.check(&[("OBJECT ENCODING h", "\"hashtable\"")]);
        w.pass(600);
        w.check(&[
            ("HGET h f450", "nil"),
            ("HLEN h", "900"),
            ("HPTTL h FIELDS 2 f0 f999", "[400, -1]"),
        ]);
        w.pass(400);
        w.check(&[("HGET h f0", "nil"), ("HLEN h", "500")]);
        w.assert_replays();
    }
}
