//! XINFO.

use datatypes::stream::{Consumer, Entry, Group, Stream, StreamId};
use resp::Reply;

use super::groups::no_such_group;
use super::{entry_into, id_into};
use crate::args::{integer, is};
use crate::command::{Command, Flags, Run};
use crate::context::Ctx;
use crate::errors::{CommandError, CommandResult, NO_SUCH_KEY};
use crate::help;
use crate::key_spec::KeySpec;

pub const COMMANDS: &[Command] = &[Command {
    name: "xinfo",
    summary: "Tells about streams, their groups and consumers.",
    complexity: "Depends on subcommand.",
    arity: -2,
    run: Run::Container,
    subcommands: &[
        Command {
            name: "xinfo|consumers",
            summary: "Tells of each consumer of a group what is pending with it, and for how long it was idle.",
            arity: 4,
            flags: Flags::READONLY,
            keys: &[KeySpec::at(2, &["RO", "access"])],
            syntax: "key group",
            run: Run::Keys(consumers),
            tips: &["nondeterministic_output"],
            ..super::ROW
        },
        Command {
            name: "xinfo|groups",
            summary: "Tells of each group of a stream how far it is.",
            arity: 3,
            flags: Flags::READONLY,
            keys: &[KeySpec::at(2, &["RO", "access"])],
            syntax: "key",
            run: Run::Keys(groups),
            ..super::ROW
        },
        Command {
            name: "xinfo|help",
            summary: "Lists the subcommands.",
            arity: 2,
            flags: Flags::LOADING.union(Flags::STALE),
            run: Run::Nowhere(help::reply),
            ..super::ROW
        },
        Command {
            name: "xinfo|stream",
            summary: "Tells about a stream, with FULL also about its entries, groups and what is pending.",
            arity: -3,
            flags: Flags::READONLY,
            keys: &[KeySpec::at(2, &["RO", "access"])],
            syntax: "key [FULL [COUNT count]]",
            run: Run::Keys(stream),
            ..super::ROW
        },
    ],
    ..super::ROW
}];

fn number(reply: &mut Reply<'_>, name: &str, value: i64) {
    reply.bulk(name.as_bytes());
    reply.integer(value);
}

fn number_or_null(reply: &mut Reply<'_>, name: &str, value: Option<i64>) {
    reply.bulk(name.as_bytes());
    match value {
        Some(value) => reply.integer(value),
        None => reply.null(),
    }
}

fn text(reply: &mut Reply<'_>, name: &str, value: &[u8]) {
    reply.bulk(name.as_bytes());
    reply.bulk(value);
}

fn id(reply: &mut Reply<'_>, name: &str, value: StreamId) {
    reply.bulk(name.as_bytes());
    id_into(reply, value);
}

fn consumers(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, name, now) = (c.key(2), c.argv.arg(3), c.keys.now.0);
    let stream = c.keys.read_stream(key)?.ok_or(NO_SUCH_KEY)?;
    let group = stream
        .groups
        .get(name)
        .ok_or_else(|| no_such_group(name, key.bytes))?;
    let reply = &mut c.reply;
    reply.array(group.consumers().len());
    for consumer in group.consumers() {
        let since = |at: i64| now.wrapping_sub(at).max(0);
        reply.map(4);
        text(reply, "name", consumer.name());
        number(reply, "pending", consumer.pending().len() as i64);
        number(reply, "idle", since(consumer.seen_at));
        number(reply, "inactive", consumer.active_at.map_or(-1, since));
    }
    Ok(())
}

fn groups(c: &mut Ctx<'_, '_>) -> CommandResult {
    let key = c.key(2);
    let stream = c.keys.read_stream(key)?.ok_or(NO_SUCH_KEY)?;
    let reply = &mut c.reply;
    reply.array(stream.groups.len());
    for (name, group) in &stream.groups {
        reply.map(6);
        text(reply, "name", name);
        number(reply, "consumers", group.consumers().len() as i64);
        number(reply, "pending", group.pending_count() as i64);
        id(reply, "last-delivered-id", group.last_id);
        number_or_null(reply, "entries-read", group.entries_read);
        number_or_null(reply, "lag", stream.lag(group));
    }
    Ok(())
}

/// FULL's COUNT when it is not given, or negative.
const FULL_COUNT_DEFAULT: usize = 10;

fn stream(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, argv) = (c.key(2), c.argv);
    let stream = c.keys.read_stream(key)?.ok_or(NO_SUCH_KEY)?;
    let malformed = || CommandError::wrong_subcommand("XINFO", argv.arg(1));
    let full = match argv.len() {
        3 => None,
        4 | 6 if is(argv.arg(3), "full") => match argv.get(5) {
            None => Some(FULL_COUNT_DEFAULT),
            Some(_) if !is(argv.arg(4), "count") => return Err(malformed()),
            Some(count) => Some(match integer(count)? {
                ..0 => FULL_COUNT_DEFAULT,
                0 => usize::MAX,
                count => count as usize,
            }),
        },
        _ => return Err(malformed()),
    };
    let reply = &mut c.reply;
    reply.map(if full.is_some() { 9 } else { 10 });
    number(reply, "length", stream.len() as i64);
    number(reply, "radix-tree-keys", stream.node_count() as i64);
    number(reply, "radix-tree-nodes", radix_tree_nodes(stream) as i64);
    id(reply, "last-generated-id", stream.last_id);
    id(reply, "max-deleted-entry-id", stream.max_deleted_id);
    number(reply, "entries-added", stream.entries_added as i64);
    id(reply, "recorded-first-entry-id", stream.first_id());
    match full {
        Some(count) => full_into(reply, stream, count),
        None => {
            number(reply, "groups", stream.groups.len() as i64);
            entry(reply, "first-entry", stream.first());
            entry(reply, "last-entry", stream.last());
        }
    }
    Ok(())
}

fn entry(reply: &mut Reply<'_>, name: &str, entry: Option<Entry<'_>>) {
    reply.bulk(name.as_bytes());
    match entry {
        Some(entry) => entry_into(reply, &entry),
        None => reply.null(),
    }
}

fn full_into(reply: &mut Reply<'_>, stream: &Stream, count: usize) {
    reply.bulk(b"entries");
    reply.array(stream.len().min(count));
    stream
        .iter()
        .take(count)
        .for_each(|entry| entry_into(reply, &entry));
    reply.bulk(b"groups");
    reply.array(stream.groups.len());
    for (name, group) in &stream.groups {
        reply.map(7);
        text(reply, "name", name);
        id(reply, "last-delivered-id", group.last_id);
        number_or_null(reply, "entries-read", group.entries_read);
        number_or_null(reply, "lag", stream.lag(group));
        number(reply, "pel-count", group.pending_count() as i64);
        reply.bulk(b"pending");
        reply.array(group.pending_count().min(count));
        for (id, pending) in group.pending_range(..).take(count) {
            reply.array(4);
            id_into(reply, id);
            reply.bulk(group.consumer(pending.consumer).name());
            reply.integer(pending.delivered_at);
            reply.integer(pending.deliveries as i64);
        }
        reply.bulk(b"consumers");
        reply.array(group.consumers().len());
        for consumer in group.consumers() {
            consumer_into(reply, group, consumer, count);
        }
    }
}

fn consumer_into(reply: &mut Reply<'_>, group: &Group, consumer: &Consumer, count: usize) {
    reply.map(5);
    text(reply, "name", consumer.name());
    number(reply, "seen-time", consumer.seen_at);
    number(reply, "active-time", consumer.active_at.unwrap_or(-1));
    number(reply, "pel-count", consumer.pending().len() as i64);
    reply.bulk(b"pending");
    reply.array(consumer.pending().len().min(count));
    for &id in consumer.pending().iter().take(count) {
        let pending = group.pending(id);
        reply.array(3);
        id_into(reply, id);
        reply.integer(pending.map_or(0, |pending| pending.delivered_at));
        reply.integer(pending.map_or(0, |pending| pending.deliveries as i64));
    }
}

/// How many nodes the radix tree has in which Redis would keep this stream's listpacks. Exact for small streams; of large
/// ones a part is looked at and the rest taken to be alike.
fn radix_tree_nodes(stream: &Stream) -> usize {
    const KEYS_MAX: usize = 1024;
    let keys: Vec<[u8; 16]> = stream
        .nodes()
        .take(KEYS_MAX)
        .map(|(key, _)| key.to_bytes())
        .collect();
    let nodes = match keys.is_empty() {
        true => 1,
        false => tree_nodes(&keys, 0),
    };
    nodes * stream.node_count().max(1) / keys.len().max(1)
}

/// The nodes of the compressed tree of sorted keys, below their first `depth` bytes, which are equal.
fn tree_nodes(keys: &[[u8; 16]], depth: usize) -> usize {
    let (first, last) = (&keys[0][depth..], &keys[keys.len() - 1][depth..]);
    let common = first.iter().zip(last).take_while(|(a, b)| a == b).count();
    if first.is_empty() {
        return 1;
    }
    if common > 0 {
        return 1 + tree_nodes(keys, depth + common);
    }
    let branches = keys.chunk_by(|a, b| a[depth] == b[depth]);
    1 + branches
        .map(|branch| tree_nodes(branch, depth + 1))
        .sum::<usize>()
}
