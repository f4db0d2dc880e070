//! XGROUP, XACK and XPENDING.

use datatypes::stream::{Group, Stream, StreamId};
use datatypes::Value;
use keyspace::Key;

use super::{exact_id, id_into, interval_end, no_group, End, GroupEffects};
use crate::args::{integer, is};
use crate::command::{Command, Flags, Run};
use crate::context::{Ctx, Effect};
use crate::errors::{
    before_zero_byte, CommandError, CommandResult, ENTRIES_READ_INVALID, GROUP_EXISTS, SYNTAX,
    XGROUP_WITHOUT_KEY,
};
use crate::help;
use crate::key_spec::KeySpec;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "xgroup",
        summary: "Changes the consumer groups of a stream.",
        complexity: "Depends on subcommand.",
        arity: -2,
        run: Run::Container,
        subcommands: &[
            Command {
                name: "xgroup|create",
                summary: "Creates a consumer group.",
                arity: -5,
                flags: Flags::WRITE.union(Flags::DENYOOM),
                keys: &[KeySpec::at(2, &["RW", "insert"])],
                syntax: "key group <id | $> [MKSTREAM] [ENTRIESREAD entriesread]",
                run: Run::Keys(create),
                ..super::ROW
            },
            Command {
                name: "xgroup|createconsumer",
                summary: "Creates a consumer in a group.",
                since: "6.2.0",
                arity: 5,
                flags: Flags::WRITE.union(Flags::DENYOOM),
                keys: &[KeySpec::at(2, &["RW", "insert"])],
                syntax: "key group consumer",
                run: Run::Keys(create_consumer),
                ..super::ROW
            },
            Command {
                name: "xgroup|delconsumer",
                summary:
                    "Removes a consumer and what is pending with it; replies how much that was.",
                arity: 5,
                flags: Flags::WRITE,
                keys: &[KeySpec::at(2, &["RW", "delete"])],
                syntax: "key group consumer",
                run: Run::Keys(delete_consumer),
                ..super::ROW
            },
            Command {
                name: "xgroup|destroy",
                summary: "Removes a consumer group.",
                complexity: "O(N) with N pending entries",
                arity: 4,
                flags: Flags::WRITE,
                keys: &[KeySpec::at(2, &["RW", "delete"])],
                syntax: "key group",
                run: Run::Keys(destroy),
                ..super::ROW
            },
            Command {
                name: "xgroup|help",
                summary: "Lists the subcommands.",
                arity: 2,
                flags: Flags::LOADING.union(Flags::STALE),
                run: Run::Nowhere(help::reply),
                ..super::ROW
            },
            Command {
                name: "xgroup|setid",
                summary: "Sets up to where a group's entries count as delivered.",
                arity: -5,
                flags: Flags::WRITE,
                keys: &[KeySpec::at(2, &["RW", "update"])],
                syntax: "key group <id | $> [ENTRIESREAD entriesread]",
                run: Run::Keys(set_id),
                ..super::ROW
            },
        ],
        ..super::ROW
    },
    Command {
        name: "xack",
        summary:
            "Acknowledges entries that were delivered to a group; replies how many were pending.",
        complexity: "O(1) per entry",
        arity: -4,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "update"])],
        syntax: "key group id [id ...]",
        run: Run::Keys(xack),
        ..super::ROW
    },
    Command {
        name: "xpending",
        summary: "Tells which entries were delivered to a group and not acknowledged.",
        complexity: "O(N) with N entries looked at, or N consumers",
        arity: -3,
        flags: Flags::READONLY,
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key group [[IDLE min-idle-time] start end count [consumer]]",
        run: Run::Keys(xpending),
        tips: &["nondeterministic_output"],
        ..super::ROW
    },
];

/// What CREATE and SETID say besides the ID.
#[derive(Default)]
struct GroupOptions {
    makes_stream: bool,
    entries_read: Option<i64>,
}

fn options(c: &Ctx<'_, '_>, creates: bool) -> Result<GroupOptions, CommandError> {
    let mut options = GroupOptions::default();
    let mut at = 5;
    while let Some(word) = c.argv.get(at) {
        if creates && is(word, "mkstream") {
            options.makes_stream = true;
            at += 1;
            continue;
        }
        let value = c.argv.get(at + 1).filter(|_| is(word, "entriesread"));
        options.entries_read = match integer(value.ok_or_else(|| malformed(c))?)? {
            -1 => None,
            ..-1 => return Err(ENTRIES_READ_INVALID),
            count => Some(count),
        };
        at += 2;
    }
    Ok(options)
}

fn malformed(c: &Ctx<'_, '_>) -> CommandError {
    CommandError::wrong_subcommand("XGROUP", c.argv.arg(1))
}

pub(super) fn no_such_group(group: &[u8], key: &[u8]) -> CommandError {
    let (group, key) = (before_zero_byte(group), before_zero_byte(key));
    [
        b"NOGROUP No such consumer group '",
        group,
        b"' for key name '",
        key,
        b"'",
    ]
    .concat()
    .into()
}

/// The stream of XGROUP's subcommands, which must exist.
fn stream<'s>(c: &'s mut Ctx<'_, '_>, key: Key<'_>) -> Result<&'s mut Stream, CommandError> {
    c.keys.stream_mut(key)?.ok_or(XGROUP_WITHOUT_KEY)
}

/// The group of XGROUP's subcommands, which must exist.
fn group<'s>(c: &'s mut Ctx<'_, '_>, key: Key<'_>) -> Result<&'s mut Group, CommandError> {
    let name = c.argv.arg(3);
    let group = stream(c, key)?.groups.get_mut(name);
    group.ok_or_else(|| no_such_group(name, key.bytes))
}

/// An ID, or `$` for the last one.
fn position(arg: &[u8], stream: Option<&Stream>) -> Result<StreamId, CommandError> {
    match arg {
        b"$" => Ok(stream.map_or(StreamId::MIN, |stream| stream.last_id)),
        arg => exact_id(arg),
    }
}

fn create(c: &mut Ctx<'_, '_>) -> CommandResult {
    let options = options(c, true)?;
    let (key, name, at) = (c.key(2), c.argv.arg(3), c.argv.arg(4));
    let found = c.keys.stream_mut(key)?;
    if found.is_none() && !options.makes_stream {
        return Err(XGROUP_WITHOUT_KEY);
    }
    let exists = found.is_some();
    // More arguments than one of each option may have.
    const ARGUMENTS_MAX: usize = 8;
    if c.argv.len() > ARGUMENTS_MAX {
        return Err(malformed(c));
    }
    let found = c.keys.stream_mut(key)?;
    let group = Group::new(position(at, found.as_deref())?, options.entries_read);
    match found {
        Some(stream) if stream.groups.contains_key(name) => return Err(GROUP_EXISTS),
        Some(stream) => drop(stream.groups.insert(name.into(), group)),
        None => {
            let mut stream = Stream::new();
            stream.groups.insert(name.into(), group);
            c.keys.add_object(key, Value::Stream(Box::new(stream)));
        }
    }
    if exists {
        let effect = Effect::AsGiven;
        c.keys.noted(key, "xgroup-create", 1, effect);
    } else {
        c.keys.wrote(key, "xgroup-create", 1, Effect::AsGiven);
    }
    c.reply.ok();
    Ok(())
}

fn set_id(c: &mut Ctx<'_, '_>) -> CommandResult {
    let options = options(c, false)?;
    let (key, at) = (c.key(2), c.argv.arg(4));
    group(c, key)?;
    // ENTRIESREAD given twice is one too many.
    const ARGUMENTS_MAX: usize = 7;
    if c.argv.len() > ARGUMENTS_MAX {
        return Err(malformed(c));
    }
    // Unlike CREATE, it takes - and + as well.
    let last_id = match at {
        b"-" => StreamId::MIN,
        b"+" => StreamId::MAX,
        at => position(at, Some(stream(c, key)?))?,
    };
    let group = group(c, key)?;
    group.last_id = last_id;
    group.entries_read = options.entries_read;
    c.keys.noted(key, "xgroup-setid", 1, Effect::AsGiven);
    c.reply.ok();
    Ok(())
}

fn destroy(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, name) = (c.key(2), c.argv.arg(3));
    let removed = stream(c, key)?.groups.remove(name).is_some();
    if removed {
        c.keys.noted(key, "xgroup-destroy", 1, Effect::AsGiven);
        // Those who wait for the group have it no longer.
        let db = c.keys.db;
        c.keys.shard_of_mut(key).serve_waits(db, key);
    }
    c.reply.integer(i64::from(removed));
    Ok(())
}

fn create_consumer(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, name) = (c.key(2), c.argv.arg(4));
    let now = super::stamp(c);
    let (_, created) = group(c, key)?.find_or_add(name, now);
    if created {
        let event = "xgroup-createconsumer";
        c.keys.noted(key, event, 1, Effect::AsGiven);
    }
    c.reply.integer(i64::from(created));
    Ok(())
}

fn delete_consumer(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, name) = (c.key(2), c.argv.arg(4));
    let pending = group(c, key)?.remove(name);
    if pending.is_some() {
        let event = "xgroup-delconsumer";
        c.keys.noted(key, event, 1, Effect::AsGiven);
    }
    c.reply.integer(pending.unwrap_or(0) as i64);
    Ok(())
}

fn xack(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, name, argv) = (c.key(1), c.argv.arg(2), c.argv.from(3));
    let known = c
        .keys
        .read_stream(key)?
        .is_some_and(|stream| stream.groups.contains_key(name));
    let stream = c.keys.stream_mut(key)?.filter(|_| known);
    let Some(group) = stream.and_then(|stream| stream.groups.get_mut(name)) else {
        c.reply.integer(0);
        return Ok(());
    };
    let ids: Vec<StreamId> = argv.iter().map(exact_id).collect::<Result<_, _>>()?;
    let acknowledged = ids.iter().filter(|&&id| group.acknowledge(id)).count();
    if acknowledged > 0 {
        c.keys.noted(key, "", acknowledged as u64, Effect::AsGiven);
    }
    c.reply.integer(acknowledged as i64);
    Ok(())
}

/// Which pending entries XPENDING is to list.
struct Listed<'a> {
    idle_ms_min: i64,
    start: StreamId,
    end: StreamId,
    count: usize,
    consumer: Option<&'a [u8]>,
}

impl<'a> Listed<'a> {
    /// None: a summary is asked for.
    fn parse(argv: resp::Argv<'a>) -> Result<Option<Listed<'a>>, CommandError> {
        let len = argv.len();
        if len == 3 {
            return Ok(None);
        }
        if !(6..=9).contains(&len) {
            return Err(SYNTAX);
        }
        let (mut at, mut idle_ms_min) = (3, 0);
        if is(argv.arg(3), "idle") {
            idle_ms_min = integer(argv.arg(4))?;
            if len < 8 {
                return Err(SYNTAX);
            }
            at = 5;
        }
        let count = integer(argv.arg(at + 2))?.max(0) as usize;
        Ok(Some(Listed {
            idle_ms_min,
            start: interval_end(argv.arg(at), End::Start)?,
            end: interval_end(argv.arg(at + 1), End::Stop)?,
            count,
            consumer: argv.get(at + 3),
        }))
    }
}

fn xpending(c: &mut Ctx<'_, '_>) -> CommandResult {
    let listed = Listed::parse(c.argv)?;
    let (key, name, now) = (c.key(1), c.argv.arg(2), c.keys.now.0);
    let stream = c.keys.read_stream(key)?;
    let group = stream.and_then(|stream| stream.groups.get(name));
    let group = group.ok_or_else(|| no_group(key.bytes, name, ""))?;
    match listed {
        None => summary_into(&mut c.reply, group),
        Some(listed) => listed_into(&mut c.reply, group, &listed, now),
    }
    Ok(())
}

fn summary_into(reply: &mut resp::Reply<'_>, group: &Group) {
    reply.array(4);
    reply.integer(group.pending_count() as i64);
    let first = group.pending_range(..).next();
    let last = group.pending_range(..).next_back();
    let (Some((first, _)), Some((last, _))) = (first, last) else {
        reply.null();
        reply.null();
        return reply.null_array();
    };
    id_into(reply, first);
    id_into(reply, last);
    let having = group
        .consumers()
        .filter(|consumer| !consumer.pending().is_empty());
    reply.array(having.clone().count());
    for consumer in having {
        reply.array(2);
        reply.bulk(consumer.name());
        reply.bulk_integer(consumer.pending().len() as i64);
    }
}

fn listed_into(reply: &mut resp::Reply<'_>, group: &Group, listed: &Listed<'_>, now: i64) {
    let row = |reply: &mut resp::Reply<'_>, id: StreamId| {
        let Some(pending) = group.pending(id) else {
            return false;
        };
        let idle_ms = now.wrapping_sub(pending.delivered_at);
        if listed.idle_ms_min != 0 && idle_ms < listed.idle_ms_min {
            return false;
        }
        reply.array(4);
        id_into(reply, id);
        reply.bulk(group.consumer(pending.consumer).name());
        reply.integer(idle_ms.max(0));
        reply.integer(pending.deliveries as i64);
        true
    };
    if listed.start > listed.end {
        return reply.array(0);
    }
    let interval = listed.start..=listed.end;
    reply.array_deferred(|reply| match listed.consumer {
        None => {
            let ids = group.pending_range(interval).map(|(id, _)| id);
            ids.filter(|&id| row(reply, id)).take(listed.count).count()
        }
        Some(name) => group.find(name).map_or(0, |index| {
            let ids = group.consumer(index).pending().range(interval);
            ids.filter(|&&id| row(reply, id)).take(listed.count).count()
        }),
    });
}

/// A consumer of this name, created if there is none, that was seen just now.
pub(super) fn seen_consumer(
    group: &mut Group,
    name: &[u8],
    now: i64,
    effects: &mut GroupEffects<'_>,
) -> datatypes::stream::ConsumerIndex {
    let (index, created) = group.find_or_add(name, now);
    group.consumer_mut(index).seen_at = now;
    if created {
        effects.consumer(name);
    }
    index
}
