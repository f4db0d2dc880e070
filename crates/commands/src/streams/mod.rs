//! Stream commands.
//!
//! Consumer groups change by reading. Their effects are the commands by which they can be rebuilt on one shard: XCLAIM for
//! each entry that became pending or changed hands, XGROUP for what was delivered last and for new consumers. Such changes do
//! not touch the stream itself: clients that watch the key do not see them.

pub mod claims;
pub mod entries;
pub mod groups;
pub mod info;
pub mod ranges;
pub mod read;
#[cfg(test)]
mod tests;
pub mod trims;

use datatypes::stream::{Entry, GivenId, Group, IdBuffer, Stream, StreamId};
use datatypes::Value;
use keyspace::{Key, ValueRef};
use resp::Reply;

use crate::command::{Command, Group as CommandGroup};
use crate::context::{Ctx, Effect, Keyspace};
use crate::elements;
use crate::errors::{
    before_zero_byte, CommandError, INVALID_INTERVAL_END, INVALID_INTERVAL_START,
    INVALID_STREAM_ID, WRONG_TYPE,
};

/// What the rows of this family have in common.
const ROW: Command = Command {
    since: "5.0.0",
    group: CommandGroup::Stream,
    ..Command::DEFAULT
};

impl Keyspace<'_, '_> {
    /// Reads the key; an error unless it holds a stream or nothing.
    pub fn read_stream(&mut self, key: Key<'_>) -> Result<Option<&Stream>, CommandError> {
        stream_of(self.read(key).map(|entry| entry.value()))
    }

    /// The stream to change; an error unless the key holds one or nothing.
    pub fn stream_mut(&mut self, key: Key<'_>) -> Result<Option<&mut Stream>, CommandError> {
        let (db, now) = (self.db, self.now);
        match self.shard_of_mut(key).find_object_mut(db, key, now) {
            None => Ok(None),
            Some(Some(Value::Stream(stream))) => Ok(Some(stream)),
            Some(_) => Err(WRONG_TYPE),
        }
    }
}

fn stream_of(value: Option<ValueRef<'_>>) -> Result<Option<&Stream>, CommandError> {
    match value {
        None => Ok(None),
        Some(ValueRef::Object(Value::Stream(stream))) => Ok(Some(stream)),
        Some(_) => Err(WRONG_TYPE),
    }
}

/// An ID that stands for itself; `-` and `+` do not.
fn exact_id(arg: &[u8]) -> Result<StreamId, CommandError> {
    let given = GivenId::parse(arg).filter(|given| !matches!(given, GivenId::AutoSeq(_)));
    Ok(given.ok_or(INVALID_STREAM_ID)?.or_seq(0))
}

/// Which end of an interval an argument is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Start,
    Stop,
}

/// An end of an interval, included in it: an ID, `-`, `+`, or an ID that is left out by `(`.
fn interval_end(arg: &[u8], end: End) -> Result<StreamId, CommandError> {
    let seq = match end {
        End::Start => 0,
        End::Stop => u64::MAX,
    };
    let exact = |arg| match GivenId::parse(arg) {
        Some(GivenId::AutoSeq(_)) | None => Err(INVALID_STREAM_ID),
        Some(given) => Ok(given.or_seq(seq)),
    };
    match (arg, end) {
        (b"-", _) => Ok(StreamId::MIN),
        (b"+", _) => Ok(StreamId::MAX),
        ([b'(', left_out @ ..], End::Start) if !left_out.is_empty() => {
            exact(left_out)?.next().ok_or(INVALID_INTERVAL_START)
        }
        ([b'(', left_out @ ..], End::Stop) if !left_out.is_empty() => {
            exact(left_out)?.previous().ok_or(INVALID_INTERVAL_END)
        }
        _ => exact(arg),
    }
}

/// "There is neither" of XREADGROUP and its like.
fn no_group(key: &[u8], group: &[u8], in_which: &str) -> CommandError {
    let (key, group) = (before_zero_byte(key), before_zero_byte(group));
    [
        b"NOGROUP No such key '",
        key,
        b"' or consumer group '",
        group,
        b"'",
        in_which.as_bytes(),
    ]
    .concat()
    .into()
}

fn id_into(reply: &mut Reply<'_>, id: StreamId) {
    reply.bulk(id.write(&mut IdBuffer::new()));
}

/// An entry: its ID, and its fields with their values in one array.
fn entry_into(reply: &mut Reply<'_>, entry: &Entry<'_>) {
    let fields = entry.fields();
    reply.array(2);
    id_into(reply, entry.id);
    reply.array(2 * fields.len());
    for (field, value) in fields {
        elements::bulk(reply, field);
        elements::bulk(reply, value);
    }
}

/// A group taken out of its stream, so that both can be used at once. It must be put back.
fn take_group(stream: &mut Stream, name: &[u8]) -> Option<Group> {
    stream.groups.get_mut(name).map(std::mem::take)
}

fn put_back(stream: &mut Stream, name: &[u8], group: Group) {
    if let Some(place) = stream.groups.get_mut(name) {
        *place = group;
    }
}

/// The effects of what a command does to one group, collected while it runs.
struct GroupEffects<'k> {
    key: &'k [u8],
    group: &'k [u8],
    commands: Vec<Vec<Vec<u8>>>,
    /// What it adds to the count of changes.
    changes: u64,
    /// A consumer came into being.
    created: bool,
}

impl<'k> GroupEffects<'k> {
    fn new(key: Key<'k>, group: &'k [u8]) -> GroupEffects<'k> {
        GroupEffects {
            key: key.bytes,
            group,
            commands: Vec::new(),
            changes: 0,
            created: false,
        }
    }

    fn push(&mut self, args: &[&[u8]]) {
        self.commands
            .push(args.iter().map(|arg| arg.to_vec()).collect());
    }

    /// A consumer was created.
    fn consumer(&mut self, name: &[u8]) {
        self.created = true;
        self.changes += 1;
        self.push(&[b"XGROUP", b"CREATECONSUMER", self.key, self.group, name]);
    }

    /// An entry is pending as the group says, or is no longer, which XCLAIM finds out by itself when the entry is gone.
    fn claim(&mut self, group: &Group, id: StreamId, pending: &datatypes::stream::Pending) {
        let (mut time, mut count) = (itoa::Buffer::new(), itoa::Buffer::new());
        let (mut id_text, mut last_text) = (IdBuffer::new(), IdBuffer::new());
        self.push(&[
            b"XCLAIM",
            self.key,
            self.group,
            group.consumer(pending.consumer).name(),
            b"0",
            id.write(&mut id_text),
            b"TIME",
            time.format(pending.delivered_at).as_bytes(),
            b"RETRYCOUNT",
            count.format(pending.deliveries).as_bytes(),
            b"FORCE",
            b"JUSTID",
            b"LASTID",
            group.last_id.write(&mut last_text),
        ]);
    }

    /// What was delivered last has changed.
    fn position(&mut self, group: &Group) {
        let mut read = itoa::Buffer::new();
        self.push(&[
            b"XGROUP",
            b"SETID",
            self.key,
            self.group,
            group.last_id.write(&mut IdBuffer::new()),
            b"ENTRIESREAD",
            read.format(group.entries_read.unwrap_or(-1)).as_bytes(),
        ]);
    }

    /// Reports what was collected.
    fn report(self, keys: &mut Keyspace<'_, '_>, key: Key<'_>) {
        if self.commands.is_empty() && self.changes == 0 {
            return;
        }
        for command in &self.commands {
            let args: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
            crate::effects::log(keys, key, &args);
        }
        let event = match self.created {
            true => "xgroup-createconsumer",
            false => "",
        };
        keys.noted(key, event, self.changes, Effect::Covered);
    }
}

/// The time that consumers and deliveries are stamped with.
fn stamp(c: &Ctx<'_, '_>) -> i64 {
    c.replayed_at.unwrap_or(c.keys.now).0
}
