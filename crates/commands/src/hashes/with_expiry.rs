//! Fields that are read or written together with the time they expire: HGETEX, HSETEX, HGETDEL.

use datatypes::Hash;
use keyspace::UnixMillis;
use resp::Argv;

use super::expiry::{field_time, fields, wrote_deletions, wrote_persistence, wrote_times};
use super::fields::value_or_null;
use crate::args::{self, is};
use crate::command::{Command, Flags, Group, Run};
use crate::context::{Ctx, Effect};
use crate::errors::{
    before_zero_byte, CommandError, CommandResult, FIELDS_COUNT_NOT_POSITIVE, FIELDS_MISSING,
    HSETEX_CONDITIONS, HSETEX_COUNT_INVALID, HSETEX_TIMES,
};
use crate::expiry::Time;
use crate::key_spec::KeySpec;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "hgetex",
        summary: "Replies the values of fields and sets or removes the time they expire.",
        arity: -5,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec {
            notes: "RW and UPDATE because it changes the TTL",
            ..KeySpec::at(1, &["RW", "access", "update"])
        }],
        syntax: "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST] FIELDS numfields field [field ...]",
        run: Run::Keys(hgetex),
        ..ROW
    },
    Command {
        name: "hsetex",
        summary: "Sets fields and the time they expire.",
        complexity: "O(N) for N fields",
        arity: -6,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "update"])],
        syntax: "key [FNX | FXX] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL] FIELDS numfields field value [field value ...]",
        run: Run::Keys(hsetex),
        ..ROW
    },
    Command {
        name: "hgetdel",
        summary: "Replies the values of fields and deletes them.",
        arity: -5,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "access", "delete"])],
        syntax: "key FIELDS numfields field [field ...]",
        run: Run::Keys(hgetdel),
        ..ROW
    },
];

const ROW: Command = Command {
    since: "8.0.0",
    group: Group::Hash,
    complexity: "O(N) for N fields",
    ..Command::DEFAULT
};

fn reply_values(c: &mut Ctx<'_, '_>, fields: Argv<'_>) -> CommandResult {
    let key = c.key(1);
    let hash = c.keys.read_hash(key)?;
    c.reply.array(fields.len());
    for field in fields.iter() {
        value_or_null(&mut c.reply, hash.and_then(|hash| hash.get(field)));
    }
    Ok(())
}

/// The fields of the arguments that a hash has, each once.
fn present<'a>(hash: Option<&mut Hash>, fields: Argv<'a>) -> Vec<&'a [u8]> {
    let mut found: Vec<&[u8]> = Vec::new();
    if let Some(hash) = hash {
        for field in fields.iter() {
            if hash.contains(field) && !found.contains(&field) {
                found.push(field);
            }
        }
    }
    found
}

enum Change<'a> {
    None,
    Persist,
    Time(Time<'a>),
}

fn hgetex(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, argv, now) = (c.key(1), c.argv, c.keys.now);
    c.keys.hash_mut(key)?;
    let (change, fields_at) = match Time::of_option(argv.arg(2), argv.arg(3)) {
        Some(time) => (Change::Time(time), 4),
        None if is(argv.arg(2), "persist") => (Change::Persist, 3),
        None => (Change::None, 2),
    };
    let time = match change {
        Change::Time(Time { text, unit, since }) => {
            Some(field_time(text, unit, since, now, "hgetex")?)
        }
        Change::None | Change::Persist => None,
    };
    if argv.len() < fields_at + 2 {
        return Err(CommandError::wrong_arity("hgetex"));
    }
    let fields = fields(argv, fields_at, FIELDS_COUNT_NOT_POSITIVE)?;
    reply_values(c, fields)?;
    let limits = c.limits;
    if !matches!(change, Change::None) {
        // Redis makes room for times also when no field is given one.
        if let Some(hash) = c.keys.hash_mut(key)? {
            hash.prepare_expiry();
        }
    }
    match (change, time) {
        (Change::Time(_), Some(time)) if time <= now.0 => delete(c, fields)?,
        (Change::Time(_), Some(time)) => {
            let Some(hash) = c.keys.hash_mut(key)? else {
                return Ok(());
            };
            let found = present(Some(&mut *hash), fields);
            found.iter().for_each(|field| {
                hash.set_expiry(field, time, limits);
            });
            if !found.is_empty() {
                wrote_times(c, key, time, &found);
            }
        }
        (Change::Persist, _) => {
            let Some(hash) = c.keys.hash_mut(key)? else {
                return Ok(());
            };
            let mut found = present(Some(&mut *hash), fields);
            found.retain(|field| hash.persist(field));
            if !found.is_empty() {
                wrote_persistence(c, key, &found);
            }
        }
        (Change::None | Change::Time(_), _) => {}
    }
    Ok(())
}

/// Deletes the fields of the arguments that are there.
fn delete(c: &mut Ctx<'_, '_>, fields: Argv<'_>) -> CommandResult {
    let key = c.key(1);
    let Some(hash) = c.keys.hash_mut(key)? else {
        return Ok(());
    };
    let found = present(Some(&mut *hash), fields);
    found.iter().for_each(|field| {
        hash.remove(field);
    });
    if !found.is_empty() {
        wrote_deletions(c, key, &found);
    }
    Ok(())
}

fn hgetdel(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, argv) = (c.key(1), c.argv);
    c.keys.hash_mut(key)?;
    let fields = fields(argv, 2, FIELDS_COUNT_NOT_POSITIVE)?;
    // A field that is named twice is gone the second time.
    let mut values = Vec::with_capacity(fields.len());
    let mut taken: Vec<&[u8]> = Vec::new();
    if let Some(hash) = c.keys.hash_mut(key)? {
        for field in fields.iter() {
            values.push(hash.get(field).map(|value| value.to_vec()));
            if hash.remove(field) {
                taken.push(field);
            }
        }
    }
    values.resize(fields.len(), None);
    if !taken.is_empty() {
        wrote_deletions(c, key, &taken);
    }
    c.reply.array(values.len());
    for value in &values {
        c.reply.bulk_or_null(value.as_deref());
    }
    Ok(())
}

/// HSETEX's arguments.
#[derive(Default)]
struct SetOptions<'a> {
    if_none_there: bool,
    if_all_there: bool,
    keep_time: bool,
    time: Option<i64>,
    pairs: Option<Argv<'a>>,
}

impl<'a> SetOptions<'a> {
    fn parse(argv: Argv<'a>, now: UnixMillis) -> Result<SetOptions<'a>, CommandError> {
        let mut options = SetOptions::default();
        let mut i = 2;
        while let Some(word) = argv.get(i) {
            i += 1;
            if is(word, "fields") {
                let count = argv
                    .get(i)
                    .ok_or_else(|| CommandError::wrong_arity("hsetex"))?;
                let count = args::positive_or(count, HSETEX_COUNT_INVALID)?;
                let pairs = argv.from(i + 1);
                if count.checked_mul(2) != Some(pairs.len()) {
                    return Err(CommandError::wrong_arity("hsetex"));
                }
                options.pairs = Some(pairs);
                return Ok(options);
            }
            let has_condition = options.if_none_there || options.if_all_there;
            let has_time = options.keep_time || options.time.is_some();
            match word {
                _ if is(word, "fnx") || is(word, "fxx") => {
                    if has_condition {
                        return Err(HSETEX_CONDITIONS);
                    }
                    options.if_none_there = is(word, "fnx");
                    options.if_all_there = !options.if_none_there;
                }
                _ if is(word, "keepttl") => {
                    if has_time {
                        return Err(HSETEX_TIMES);
                    }
                    options.keep_time = true;
                }
                _ => {
                    let text = argv.get(i).unwrap_or_default();
                    let time = Time::of_option(word, text).ok_or_else(|| unknown(word))?;
                    if has_time {
                        return Err(HSETEX_TIMES);
                    }
                    let Time { text, unit, since } = time;
                    options.time = Some(field_time(text, unit, since, now, "hsetex")?);
                    i += 1;
                }
            }
        }
        Err(FIELDS_MISSING)
    }
}

fn unknown(word: &[u8]) -> CommandError {
    let word = String::from_utf8_lossy(before_zero_byte(word));
    format!("ERR unknown argument: {word}").into()
}

fn hsetex(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, argv, now, limits) = (c.key(1), c.argv, c.keys.now, c.limits);
    let options = SetOptions::parse(argv, now)?;
    let time = options.time;
    let pairs = options.pairs.expect("without fields it was refused");
    let count = pairs.len() / 2;
    let hash = c.keys.hash_mut(key)?;
    let there = |field: &[u8]| hash.as_ref().is_some_and(|hash| hash.contains(field));
    let mut names = (0..count).map(|i| pairs.arg(2 * i));
    let refused = options.if_none_there && names.clone().any(there)
        || options.if_all_there && !names.all(there);
    if refused {
        c.reply.integer(0);
        return Ok(());
    }
    let hash = c.keys.hash_mut_or_add(key)?;
    hash.prepare(count, limits);
    for i in 0..count {
        let (field, value) = (pairs.arg(2 * i), pairs.arg(2 * i + 1));
        if options.keep_time {
            hash.set_keeping_expiry(field, value, limits);
        } else {
            hash.set(field, value, limits);
        }
    }
    wrote_pairs(c, pairs, options.keep_time);
    c.reply.integer(1);
    let Some(time) = time else {
        return Ok(());
    };
    let hash = c.keys.hash_mut(key)?.expect("fields were just set");
    hash.prepare_expiry();
    let mut set: Vec<&[u8]> = Vec::with_capacity(count);
    for field in (0..count).map(|i| pairs.arg(2 * i)) {
        let is_done = match time <= now.0 {
            true => hash.remove(field),
            false => hash.set_expiry(field, time, limits) && !set.contains(&field),
        };
        if is_done {
            set.push(field);
        }
    }
    if time <= now.0 {
        wrote_deletions(c, key, &set);
    } else {
        wrote_times(c, key, time, &set);
    }
    Ok(())
}

/// Reports fields that were set, by commands that servers before this one have, too.
fn wrote_pairs(c: &mut Ctx<'_, '_>, pairs: Argv<'_>, keep_time: bool) {
    let (key, count) = (c.key(1), pairs.len() / 2);
    let mut argv: Vec<&[u8]> = vec![b"HSET", key.bytes];
    argv.extend(pairs.iter());
    c.keys
        .wrote(key, "hset", count as u64, Effect::Command(&argv));
    if !keep_time {
        return;
    }
    // HSET takes the times away; they are given back one by one.
    let mut times: Vec<(i64, &[u8])> = Vec::new();
    if let Ok(Some(hash)) = c.keys.peek_hash(key) {
        let fields = (0..count).map(|i| pairs.arg(2 * i));
        times.extend(fields.filter_map(|field| Some((hash.expiry_of(field)?, field))));
    }
    for (time, field) in times {
        log_time(c, time, field);
    }
}

/// Logs that a field has a time, which is no change.
fn log_time(c: &mut Ctx<'_, '_>, time: i64, field: &[u8]) {
    let key = c.key(1);
    let mut text = itoa::Buffer::new();
    let time = text.format(time).as_bytes();
    let argv = [b"HPEXPIREAT", key.bytes, time, b"FIELDS", b"1", field];
    crate::effects::log(&mut c.keys, key, &argv);
}

/// As [`log_time`], of the field of a command that has just written it and kept its time.
pub fn log_kept_time(c: &mut Ctx<'_, '_>, field: &[u8]) {
    let key = c.key(1);
    let time = match c.keys.peek_hash(key) {
        Ok(Some(hash)) => hash.expiry_of(field),
        Ok(None) | Err(_) => None,
    };
    if let Some(time) = time {
        log_time(c, time, field);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::World;

    #[test]
    fn values_and_times_are_logged_for_older_servers() {
        for shards in [1, 3] {
            let mut w = World::new(shards);
            w.check(&[("HSETEX h EX 10 FIELDS 2 a 1 b 2", "1")]);
            assert_eq!(
                w.effects(),
                ["HSET h a 1 b 2", "HPEXPIREAT h 1700000010000 FIELDS 2 a b"]
            );
            w.check(&[
                ("HSETEX h KEEPTTL FIELDS 2 a 3 c 4", "1"),
                ("HPTTL h FIELDS 3 a b c", "[10000, 10000, -1]"),
                ("HGETEX h PX 500 FIELDS 2 a none", "[\"3\", nil]"),
                ("HGETEX h PERSIST FIELDS 2 b c", "[\"2\", \"4\"]"),
                ("HPTTL h FIELDS 3 a b c", "[500, -1, -1]"),
            ]);
            w.assert_replays();
            w.check(&[
                ("HGETDEL h FIELDS 3 b b none", "[\"2\", nil, nil]"),
                ("HSETEX h FNX FIELDS 2 a 1 z 1", "0"),
                ("HSETEX h FXX FIELDS 2 a 1 z 1", "0"),
                ("HSETEX h PXAT 1 FIELDS 2 a 1 c 1", "1"),
                ("EXISTS h", "0"),
            ]);
            w.assert_replays();
        }
    }
}
