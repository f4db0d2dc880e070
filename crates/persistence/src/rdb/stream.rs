//! Streams in RDB: written and read item by item, as they can be huge.
//!
//! ```text
//! nodes: count | { ID (16 bytes, as a string) | listpack } ...
//! entries | last ID | from type 19 on: first ID, greatest deleted ID, entries ever added      an ID: ms, sequence (lengths)
//! groups: count | { name | last ID | from type 19 on: entries read
//!                   pending: count | { ID (16 bytes) | delivered at (8 bytes) | deliveries } ...
//!                   consumers: count | { name | seen at | in type 21: active at | pending: count | ID ... } ... } ...
//! ```
//! Type 19 is what Redis 7.0 reads; a loader takes each consumer to have been active when it was seen last. Where that is
//! not so, only type 21 says all, which needs version 11.

use super::cursor::Cursor;
use super::decode::listpack;
use super::encode::{put_len, Encoder, Sink, Stop};
use super::format::*;
use super::RdbError;
use datatypes::stream::{Builder, ConsumerIndex, Group, History, Metadata, Pending};
use datatypes::{Stream, StreamId};
use std::collections::BTreeMap;

/// The number that stands for "not known" and "never".
const NONE: u64 = u64::MAX;

/// The type byte a stream is written under.
pub(super) fn type_of(stream: &Stream) -> u8 {
    let mut consumers = stream.groups.values().flat_map(Group::consumers);
    match consumers.all(|consumer| consumer.active_at == Some(consumer.seen_at)) {
        true => TYPE_STREAM_2,
        false => TYPE_STREAM_3,
    }
}

pub(super) fn put<S: Sink>(
    encoder: &mut Encoder,
    out: &mut S,
    stream: &Stream,
) -> Result<(), Stop> {
    let type_ = type_of(stream);
    put_len(out, stream.node_count())?;
    for (key, pack) in stream.nodes() {
        encoder.string(out, &key.to_bytes())?;
        encoder.string(out, pack.as_bytes())?;
    }
    put_len(out, stream.len())?;
    put_id(out, stream.last_id)?;
    put_id(out, stream.first_id())?;
    put_id(out, stream.max_deleted_id)?;
    put_number(out, stream.entries_added)?;
    put_len(out, stream.groups.len())?;
    for (name, group) in &stream.groups {
        encoder.string(out, name)?;
        put_group(encoder, out, group, type_)?;
    }
    Ok(())
}

fn put_group<S: Sink>(
    encoder: &mut Encoder,
    out: &mut S,
    group: &Group,
    type_: u8,
) -> Result<(), Stop> {
    put_id(out, group.last_id)?;
    put_number(out, group.entries_read.map_or(NONE, |read| read as u64))?;
    put_len(out, group.pending_count())?;
    for (id, pending) in group.pending_range(..) {
        out.put(&id.to_bytes())?;
        out.put(&pending.delivered_at.to_le_bytes())?;
        put_number(out, pending.deliveries)?;
    }
    put_len(out, group.consumers().len())?;
    for consumer in group.consumers() {
        encoder.string(out, consumer.name())?;
        out.put(&consumer.seen_at.to_le_bytes())?;
        if type_ == TYPE_STREAM_3 {
            let active_at = consumer.active_at.unwrap_or(NONE as i64);
            out.put(&active_at.to_le_bytes())?;
        }
        put_len(out, consumer.pending().len())?;
        for id in consumer.pending() {
            out.put(&id.to_bytes())?;
        }
    }
    Ok(())
}

fn put_number<S: Sink>(out: &mut S, number: u64) -> Result<(), Stop> {
    let (bytes, n) = length_bytes(number);
    out.put(&bytes[..n])
}

fn put_id<S: Sink>(out: &mut S, id: StreamId) -> Result<(), Stop> {
    put_number(out, id.ms)?;
    put_number(out, id.seq)
}

/// A stream of which some items have been read.
pub(super) struct StreamItems {
    type_: u8,
    next: Next,
    groups_left: u64,
    consumers_left: u64,
    built: Builder,
    group: OpenGroup,
}

/// The group that is being read.
#[derive(Default)]
struct OpenGroup {
    name: Vec<u8>,
    group: Group,
    /// Delivered at, deliveries; of entries whose consumer has not come yet.
    unassigned: BTreeMap<StreamId, (i64, u64)>,
    consumer: Option<ConsumerIndex>,
}

/// What the next item is, and of how many of its kind.
#[derive(Clone, Copy)]
enum Next {
    Node(u64),
    Metadata,
    Group,
    Pending(u64),
    ConsumerCount,
    Consumer,
    ConsumerPending(u64),
    End,
}

impl StreamItems {
    /// Reads how many nodes there are.
    pub(super) fn begin(cursor: &mut Cursor<'_>, type_: u8) -> Result<StreamItems, RdbError> {
        let mut items = StreamItems {
            type_,
            next: Next::Node(cursor.length()?),
            groups_left: 0,
            consumers_left: 0,
            built: Builder::default(),
            group: OpenGroup::default(),
        };
        items.settle(cursor)?;
        Ok(items)
    }

    pub(super) fn is_complete(&self) -> bool {
        matches!(self.next, Next::End)
    }

    pub(super) fn finish(self) -> Stream {
        self.built.finish()
    }

    /// Reads one item. When it is not whole, nothing has changed.
    pub(super) fn item(&mut self, cursor: &mut Cursor<'_>, skips: bool) -> Result<(), RdbError> {
        match self.next {
            Next::Node(left) => {
                match skips {
                    true => cursor.skip_strings(2)?,
                    false => self.node(cursor)?,
                }
                self.next = Next::Node(left - 1);
            }
            Next::Metadata => self.metadata(cursor, skips)?,
            Next::Group => self.group(cursor)?,
            Next::Pending(left) => {
                self.pending(cursor, skips)?;
                self.next = Next::Pending(left - 1);
            }
            Next::ConsumerCount => {
                self.consumers_left = cursor.length()?;
                self.next = Next::Consumer;
            }
            Next::Consumer => self.consumer(cursor, skips)?,
            Next::ConsumerPending(left) => {
                self.consumer_pending(cursor, skips)?;
                self.next = Next::ConsumerPending(left - 1);
            }
            Next::End => {}
        }
        self.settle(cursor)
    }

    /// Goes on to what is really next: past kinds of which nothing is left.
    fn settle(&mut self, cursor: &Cursor<'_>) -> Result<(), RdbError> {
        loop {
            self.next = match self.next {
                Next::Node(0) => Next::Metadata,
                Next::Pending(0) => Next::ConsumerCount,
                Next::ConsumerPending(0) => Next::Consumer,
                Next::Consumer if self.consumers_left == 0 => {
                    self.close_group(cursor)?;
                    self.groups_left -= 1;
                    Next::Group
                }
                Next::Group if self.groups_left == 0 => Next::End,
                _ => return Ok(()),
            };
        }
    }

    fn node(&mut self, cursor: &mut Cursor<'_>) -> Result<(), RdbError> {
        let key: Result<[u8; 16], _> = cursor.bytes()?.as_ref().try_into();
        let key = key.map_err(|_| cursor.malformed("a node whose ID is not of 16 bytes"))?;
        let pack = listpack(cursor)?;
        self.built
            .node(StreamId::from_bytes(key), pack)
            .map_err(|e| cursor.malformed(e.reason))
    }

    fn metadata(&mut self, cursor: &mut Cursor<'_>, skips: bool) -> Result<(), RdbError> {
        let (len, last_id) = (cursor.length()?, id(cursor)?);
        let history = match self.type_ {
            TYPE_STREAM => None,
            _ => Some(History {
                first_id: id(cursor)?,
                max_deleted_id: id(cursor)?,
                entries_added: cursor.length()?,
            }),
        };
        let groups = cursor.length()?;
        let metadata = Metadata {
            len,
            last_id,
            history,
        };
        if !skips {
            let built = self.built.metadata(metadata);
            built.map_err(|e| cursor.malformed(e.reason))?;
        }
        self.groups_left = groups;
        self.next = Next::Group;
        Ok(())
    }

    fn group(&mut self, cursor: &mut Cursor<'_>) -> Result<(), RdbError> {
        let name = cursor.bytes()?.into_owned();
        let last_id = id(cursor)?;
        let entries_read = match self.type_ {
            TYPE_STREAM => self.built.stream().entries_up_to(last_id),
            _ => i64::try_from(cursor.length()?).ok(),
        };
        let pending = cursor.length()?;
        self.group = OpenGroup {
            name,
            group: Group::new(last_id, entries_read),
            ..OpenGroup::default()
        };
        self.next = Next::Pending(pending);
        Ok(())
    }

    fn pending(&mut self, cursor: &mut Cursor<'_>, skips: bool) -> Result<(), RdbError> {
        let id = StreamId::from_bytes(cursor.array()?);
        let delivered_at = i64::from_le_bytes(cursor.array()?);
        let deliveries = cursor.length()?;
        if skips {
            return Ok(());
        }
        match self.group.unassigned.insert(id, (delivered_at, deliveries)) {
            None => Ok(()),
            Some(_) => Err(cursor.malformed("an entry is pending twice")),
        }
    }

    fn consumer(&mut self, cursor: &mut Cursor<'_>, skips: bool) -> Result<(), RdbError> {
        let name = cursor.bytes()?;
        let seen_at = i64::from_le_bytes(cursor.array()?);
        let active_at = match self.type_ {
            TYPE_STREAM_3 => Some(i64::from_le_bytes(cursor.array()?)).filter(|&at| at >= 0),
            _ => Some(seen_at),
        };
        let pending = cursor.length()?;
        if !skips {
            let (index, created) = self.group.group.find_or_add(&name, seen_at);
            if !created {
                return Err(cursor.malformed("two consumers of one name"));
            }
            self.group.group.consumer_mut(index).active_at = active_at;
            self.group.consumer = Some(index);
        }
        self.consumers_left -= 1;
        self.next = Next::ConsumerPending(pending);
        Ok(())
    }

    fn consumer_pending(&mut self, cursor: &mut Cursor<'_>, skips: bool) -> Result<(), RdbError> {
        let id = StreamId::from_bytes(cursor.array()?);
        let (Some(consumer), false) = (self.group.consumer, skips) else {
            return Ok(());
        };
        let Some((delivered_at, deliveries)) = self.group.unassigned.remove(&id) else {
            return Err(
                cursor.malformed("an entry is pending with a consumer and not in its group")
            );
        };
        let pending = Pending {
            consumer,
            delivered_at,
            deliveries,
        };
        self.group.group.assign(id, pending);
        Ok(())
    }

    fn close_group(&mut self, cursor: &Cursor<'_>) -> Result<(), RdbError> {
        let open = std::mem::take(&mut self.group);
        if !open.unassigned.is_empty() {
            return Err(cursor.malformed("an entry is pending with no consumer"));
        }
        self.built
            .group(&open.name, open.group)
            .map_err(|e| cursor.malformed(e.reason))
    }
}

fn id(cursor: &mut Cursor<'_>) -> Result<StreamId, RdbError> {
    Ok(StreamId::new(cursor.length()?, cursor.length()?))
}

/// Goes past what follows the key of a stream.
pub(super) fn skip(cursor: &mut Cursor<'_>, type_: u8) -> Result<(), RdbError> {
    let mut items = StreamItems::begin(cursor, type_)?;
    while !items.is_complete() {
        items.item(cursor, true)?;
    }
    Ok(())
}
