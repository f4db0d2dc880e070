//! XREAD and XREADGROUP.

use datatypes::stream::{ConsumerIndex, Group, IdBuffer, Pending, Stream, StreamId};
use datatypes::Value;
use keyspace::{Key, UnixMillis, ValueRef};
use resp::{Argv, OwnedArgv, Protocol, Reply};

use super::groups::seen_consumer;
use super::{entry_into, exact_id, id_into, no_group, put_back, stamp, take_group, GroupEffects};
use crate::args::{integer, integer_or, is, timeout_over};
use crate::command::{Command, Flags, Run};
use crate::context::Ctx;
use crate::errors::{
    CommandError, CommandResult, GROUP_OF_XREAD, NOACK_OF_XREAD, SYNTAX, TIMEOUT_NOT_INTEGER,
    XREADGROUP_DOLLAR, XREADGROUP_PLUS, XREADGROUP_UNBALANCED, XREADGROUP_WITHOUT_GROUP,
    XREAD_GREATER, XREAD_UNBALANCED,
};
use crate::key_spec::{Begin, Find, KeySpec};
use crate::wait::Wait;

/// The first half of what follows STREAMS.
const fn keys_behind_streams(from: i32) -> KeySpec {
    KeySpec {
        flags: &["RO", "access"],
        begin: Begin::Keyword {
            word: "STREAMS",
            from,
        },
        find: Find::Range {
            last: -1,
            step: 1,
            limit: 2,
        },
        notes: "",
    }
}

pub const COMMANDS: &[Command] = &[
    Command {
        name: "xread",
        summary: "Replies entries of one or more streams behind given IDs, and waits for some if asked to.",
        complexity: "O(N) with N entries replied",
        arity: -4,
        flags: Flags::READONLY
            .union(Flags::BLOCKING)
            .union(Flags::MOVABLEKEYS),
        keys: &[keys_behind_streams(1)],
        syntax: "[COUNT count] [BLOCK milliseconds] STREAMS key [key ...] id [id ...]",
        run: Run::Keys(xread),
        ..super::ROW
    },
    Command {
        name: "xreadgroup",
        summary: "Delivers entries of streams to a consumer of a group, new ones or those pending with it.",
        complexity: "O(N) with N entries replied",
        arity: -7,
        flags: Flags::WRITE
            .union(Flags::BLOCKING)
            .union(Flags::MOVABLEKEYS),
        keys: &[keys_behind_streams(4)],
        syntax: "GROUP group consumer [COUNT count] [BLOCK milliseconds] [NOACK] STREAMS key [key ...] id [id ...]",
        run: Run::Keys(xreadgroup),
        ..super::ROW
    },
];

/// A consumer and its group.
#[derive(Clone, Copy)]
struct Reader<'a> {
    group: &'a [u8],
    consumer: &'a [u8],
    no_ack: bool,
}

struct Request<'a> {
    reader: Option<Reader<'a>>,
    count: usize,
    block_ms: Option<i64>,
    /// Where the first key stands, and how many there are.
    first: usize,
    streams: usize,
}

/// From where on a stream is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    /// What was not delivered to the group yet.
    New,
    /// Of a consumer: what is pending with it. Otherwise, what is there.
    After(StreamId),
}

fn xread(c: &mut Ctx<'_, '_>) -> CommandResult {
    read(c, false)
}

fn xreadgroup(c: &mut Ctx<'_, '_>) -> CommandResult {
    read(c, true)
}

impl<'a> Request<'a> {
    fn parse(argv: Argv<'a>, is_group: bool, now: UnixMillis) -> Result<Request<'a>, CommandError> {
        let (mut group, mut no_ack, mut count, mut block_ms) = (None, false, usize::MAX, None);
        let mut at = 1;
        let (first, streams) = loop {
            let word = argv.get(at).ok_or(SYNTAX)?;
            let more = argv.len() - 1 - at;
            at += 1;
            if is(word, "block") && more > 0 {
                let ms = integer_or(argv.arg(at), TIMEOUT_NOT_INTEGER)?;
                timeout_over(ms, now)?;
                block_ms = Some(ms);
                at += 1;
            } else if is(word, "count") && more > 0 {
                count = match integer(argv.arg(at))? {
                    ..=0 => usize::MAX,
                    count => count as usize,
                };
                at += 1;
            } else if is(word, "streams") && more > 0 {
                if !more.is_multiple_of(2) {
                    return Err(if is_group {
                        XREADGROUP_UNBALANCED
                    } else {
                        XREAD_UNBALANCED
                    });
                }
                break (at, more / 2);
            } else if is(word, "group") && more > 1 {
                if !is_group {
                    return Err(GROUP_OF_XREAD);
                }
                group = Some((argv.arg(at), argv.arg(at + 1)));
                at += 2;
            } else if is(word, "noack") {
                if !is_group {
                    return Err(NOACK_OF_XREAD);
                }
                no_ack = true;
            } else {
                return Err(SYNTAX);
            }
        };
        if is_group && group.is_none() {
            return Err(XREADGROUP_WITHOUT_GROUP);
        }
        let reader = group.map(|(group, consumer)| Reader {
            group,
            consumer,
            no_ack,
        });
        Ok(Request {
            reader,
            count,
            block_ms,
            first,
            streams,
        })
    }
}

/// From where a stream is to be read, with all that may be wrong about that.
fn from(
    stream: Option<&Stream>,
    key: Key<'_>,
    id: &[u8],
    reader: Option<Reader<'_>>,
) -> Result<From, CommandError> {
    if let Some(reader) = reader {
        if !stream.is_some_and(|stream| stream.groups.contains_key(reader.group)) {
            let in_which = " in XREADGROUP with GROUP option";
            return Err(no_group(key.bytes, reader.group, in_which));
        }
    }
    let is_group = reader.is_some();
    let last_id = stream.map_or(StreamId::MIN, |stream| stream.last_id);
    match id {
        b"$" if is_group => Err(XREADGROUP_DOLLAR),
        b"+" if is_group => Err(XREADGROUP_PLUS),
        b">" if !is_group => Err(XREAD_GREATER),
        b"$" => Ok(From::After(last_id)),
        // The last entry, unless that was deleted.
        b"+" => Ok(From::After(last_id.previous().unwrap_or(StreamId::MIN))),
        b">" => Ok(From::New),
        id => match exact_id(id)? {
            // The greatest ID is how Redis says ">" to itself.
            StreamId::MAX if is_group => Ok(From::New),
            id => Ok(From::After(id)),
        },
    }
}

fn read(c: &mut Ctx<'_, '_>, is_group: bool) -> CommandResult {
    let argv = c.argv;
    let request = Request::parse(argv, is_group, c.keys.now)?;
    let (first, streams) = (request.first, request.streams);
    let mut froms = Vec::with_capacity(streams);
    for i in 0..streams {
        let key = c.key(first + i);
        if !c.keys.holds(key) {
            froms.push(None);
            continue;
        }
        let id = argv.arg(first + streams + i);
        let stream = c.keys.read_stream(key)?;
        froms.push(Some(from(stream, key, id, request.reader)?));
    }
    let start = c.reply.position();
    let resp3 = c.reply.protocol() == Protocol::Resp3;
    let now = stamp(c);
    let keys = &mut c.keys;
    let mut served = 0;
    let mut serve = |reply: &mut Reply<'_>| {
        for (i, &from) in froms.iter().enumerate() {
            let Some(from) = from else { continue };
            let key = keys.key_of(argv.arg(first + i));
            // Redis looks each key up a second time here: it counts, and tells of a missing one, again.
            if keys.read(key).is_none() {
                continue;
            }
            // The types were looked at above.
            let Ok(Some(stream)) = keys.stream_mut(key) else {
                continue;
            };
            let at = reply.position();
            if !resp3 {
                reply.array(2);
            }
            reply.bulk(key.bytes);
            let found = match request.reader {
                None => entries_into(reply, stream, from, request.count),
                Some(reader) => {
                    let mut effects = GroupEffects::new(key, reader.group);
                    let delivery = Delivery {
                        reader,
                        count: request.count,
                        now,
                    };
                    let found = delivery.run(reply, stream, from, &mut effects);
                    effects.report(keys, key);
                    found
                }
            };
            match found {
                true => served += 1,
                false => reply.truncate(at),
            }
        }
        served
    };
    match resp3 {
        true => c.reply.map_deferred(&mut serve),
        false => c.reply.array_deferred(&mut serve),
    }
    if served > 0 {
        return Ok(());
    }
    c.reply.truncate(start);
    let Some(block_ms) = request.block_ms else {
        c.reply.null_array();
        return Ok(());
    };
    let wait = Wait {
        keys: first..first + streams,
        wanted: is_stream,
        // Its group is gone with the key.
        on_deletion: is_group,
        until: timeout_over(block_ms, c.keys.now)?,
        needs_all_keys: false,
        again: without_dollars(argv, first + streams, &froms),
    };
    c.wait(wait, Reply::null_array);
    Ok(())
}

fn is_stream(value: ValueRef<'_>) -> bool {
    matches!(value, ValueRef::Object(Value::Stream(_)))
}

/// The request with the IDs that `$` stands for now, if it has any. The IDs begin at an argument.
fn without_dollars(argv: Argv<'_>, ids: usize, froms: &[Option<From>]) -> Option<OwnedArgv> {
    if argv.from(ids).iter().all(|id| id != b"$") {
        return None;
    }
    let mut again = OwnedArgv::from_args(argv.iter().take(ids));
    for (id, from) in argv.from(ids).iter().zip(froms) {
        match from {
            Some(From::After(last)) if id == b"$" => again.push(last.write(&mut IdBuffer::new())),
            _ => again.push(id),
        }
    }
    Some(again)
}

/// The entries of a stream behind an ID; false, and nothing that counts, if there are none.
fn entries_into(reply: &mut Reply<'_>, stream: &Stream, from: From, count: usize) -> bool {
    let From::After(id) = from else {
        return false;
    };
    if stream.is_empty() || stream.last_live_id() <= id {
        return false;
    }
    let Some(start) = id.next() else {
        return false;
    };
    reply.array_deferred(|reply| {
        let entries = stream.range(start, StreamId::MAX).take(count);
        entries.map(|entry| entry_into(reply, &entry)).count()
    });
    true
}

/// What is delivered from one stream.
struct Delivery<'a> {
    reader: Reader<'a>,
    count: usize,
    now: i64,
}

impl Delivery<'_> {
    /// False if there is nothing to reply of this stream.
    fn run(
        &self,
        reply: &mut Reply<'_>,
        stream: &mut Stream,
        from: From,
        effects: &mut GroupEffects<'_>,
    ) -> bool {
        let name = self.reader.group;
        let Some(mut group) = take_group(stream, name) else {
            return false;
        };
        let consumer = seen_consumer(&mut group, self.reader.consumer, self.now, effects);
        let found = match from {
            From::After(id) => {
                self.history(reply, stream, &mut group, (consumer, id), effects);
                true
            }
            From::New if stream.is_empty() || stream.last_live_id() <= group.last_id => false,
            From::New => {
                self.fresh(reply, stream, &mut group, consumer, effects);
                effects.changes += 1;
                true
            }
        };
        put_back(stream, name, group);
        found
    }

    fn fresh(
        &self,
        reply: &mut Reply<'_>,
        stream: &Stream,
        group: &mut Group,
        consumer: ConsumerIndex,
        effects: &mut GroupEffects<'_>,
    ) {
        let Some(start) = group.last_id.next() else {
            return reply.array(0);
        };
        let mut advanced = false;
        reply.array_deferred(|reply| {
            let mut delivered = 0;
            for entry in stream.range(start, StreamId::MAX).take(self.count) {
                entry_into(reply, &entry);
                delivered += 1;
                advanced |= stream.advance(group, entry.id);
                if self.reader.no_ack {
                    continue;
                }
                let pending = Pending {
                    consumer,
                    delivered_at: self.now,
                    deliveries: 1,
                };
                group.assign(entry.id, pending);
                group.consumer_mut(consumer).active_at = Some(self.now);
                effects.claim(group, entry.id, &pending);
            }
            delivered
        });
        if advanced {
            effects.position(group);
        }
    }

    /// What is pending with the consumer, delivered once more.
    fn history(
        &self,
        reply: &mut Reply<'_>,
        stream: &Stream,
        group: &mut Group,
        (consumer, after): (ConsumerIndex, StreamId),
        effects: &mut GroupEffects<'_>,
    ) {
        let ids: Vec<StreamId> = match after.next() {
            None => Vec::new(),
            Some(start) => {
                let pending = group.consumer(consumer).pending().range(start..);
                pending.take(self.count).copied().collect()
            }
        };
        reply.array(ids.len());
        for id in ids {
            let Some(entry) = stream.get(id) else {
                reply.array(2);
                id_into(reply, id);
                reply.null_array();
                continue;
            };
            entry_into(reply, &entry);
            if let Some(pending) = group.pending_mut(id) {
                pending.delivered_at = self.now;
                pending.deliveries = pending.deliveries.wrapping_add(1);
                let pending = *pending;
                effects.claim(group, id, &pending);
            }
        }
    }
}
