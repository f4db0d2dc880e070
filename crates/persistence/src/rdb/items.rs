//! Collections that are stored item by item: built as their items are read, so that the serialised form of a huge one
//! need not be in memory while it is loaded.
//!
//! The bytes come in windows. An item that is not whole in its window is an `UnexpectedEnd` and leaves the collection as
//! it was, so that the same step may be repeated over a longer window.

use super::cursor::Cursor;
use super::decode::{add_field, add_scored, blob, listpack, ziplist_node, Dialect};
use super::format::*;
use super::stream::StreamItems;
use super::{RdbError, RdbErrorKind};
use datatypes::hash::FIELD_TIME_MAX;
use datatypes::list::Node;
use datatypes::{Hash, Limits, List, Set, SortedSet, Value};

/// A collection of which some items have been read.
pub struct Items {
    type_: u8,
    dialect: Dialect,
    count: usize,
    left: usize,
    /// Items are only passed over.
    skips: bool,
    built: Built,
}

enum Built {
    List(List),
    Nodes(Vec<Node>),
    Set(Option<Set>),
    SortedSet(SortedSet),
    Hash {
        hash: Hash,
        /// Times are told as what they are after this, and one.
        earliest: i64,
    },
    /// Counts its items itself.
    Stream(Box<StreamItems>),
}

impl Items {
    /// Reads what stands before the items. `None`: the type is stored as one piece. `beyond`: how many bytes may follow
    /// those of the cursor.
    pub fn begin(
        cursor: &mut Cursor<'_>,
        type_: u8,
        dialect: Dialect,
        limits: &Limits,
        beyond: u64,
    ) -> Result<Option<Items>, RdbError> {
        if matches!(type_, TYPE_STREAM | TYPE_STREAM_2 | TYPE_STREAM_3) {
            let built = Built::Stream(Box::new(StreamItems::begin(cursor, type_)?));
            return Ok(Some(Items {
                type_,
                dialect,
                count: 0,
                left: 0,
                skips: false,
                built,
            }));
        }
        // Bytes that an item takes at least.
        let item_bytes_min = match type_ {
            TYPE_LIST | TYPE_SET | TYPE_LIST_QUICKLIST | TYPE_LIST_QUICKLIST_2 => 1,
            TYPE_ZSET | TYPE_ZSET_2 | TYPE_HASH => 2,
            TYPE_HASH_22 | TYPE_HASH_METADATA => 3,
            _ => return Ok(None),
        };
        let earliest = match type_ {
            TYPE_HASH_METADATA => i64::from_le_bytes(cursor.array()?),
            _ => 0,
        };
        let count = cursor.count_within(item_bytes_min, beyond)?;
        let built = match type_ {
            TYPE_LIST => Built::List(List::new()),
            TYPE_LIST_QUICKLIST | TYPE_LIST_QUICKLIST_2 => Built::Nodes(Vec::new()),
            TYPE_SET => Built::Set(None),
            TYPE_ZSET | TYPE_ZSET_2 => Built::SortedSet(SortedSet::for_members(count, 0, limits)),
            _ => {
                let mut hash = Hash::new();
                hash.prepare(count, limits);
                Built::Hash { hash, earliest }
            }
        };
        Ok(Some(Items {
            type_,
            dialect,
            count,
            left: count,
            skips: false,
            built,
        }))
    }

    /// Passes over the items instead of keeping them.
    pub fn skipping(mut self) -> Items {
        self.skips = true;
        self
    }

    /// Reads as many items as are whole; the cursor is behind the last of them. True when there are no more to come,
    /// else what is missing.
    pub fn read(
        &mut self,
        cursor: &mut Cursor<'_>,
        limits: &Limits,
    ) -> Result<Result<(), RdbError>, RdbError> {
        while !self.is_complete() {
            let mut ahead = cursor.clone();
            match self.item(&mut ahead, limits) {
                Ok(()) => *cursor = ahead,
                Err(e) if matches!(e.kind, RdbErrorKind::UnexpectedEnd { .. }) => {
                    return Ok(Err(e));
                }
                Err(e) => return Err(e),
            }
            self.left = self.left.saturating_sub(1);
        }
        Ok(Ok(()))
    }

    fn is_complete(&self) -> bool {
        match &self.built {
            Built::Stream(stream) => stream.is_complete(),
            _ => self.left == 0,
        }
    }

    fn item(&mut self, cursor: &mut Cursor<'_>, limits: &Limits) -> Result<(), RdbError> {
        let type_ = self.type_;
        if self.skips && !matches!(self.built, Built::Stream(_)) {
            return skip_item(cursor, type_, self.dialect);
        }
        match &mut self.built {
            Built::List(list) => list.push_back(&cursor.bytes()?, limits),
            Built::Nodes(nodes) if type_ == TYPE_LIST_QUICKLIST => {
                nodes.extend(ziplist_node(cursor)?)
            }
            Built::Nodes(nodes) => match cursor.length()? {
                NODE_PLAIN => nodes.push(Node::Plain(blob(cursor)?.into_boxed_slice())),
                NODE_PACKED => {
                    let listpack = listpack(cursor)?;
                    if !listpack.is_empty() {
                        nodes.push(Node::Packed(listpack));
                    }
                }
                other => return Err(cursor.malformed(format!("list node container {other}"))),
            },
            Built::Set(set) => {
                let member = cursor.bytes()?;
                let count = self.count;
                let set = set.get_or_insert_with(|| Set::for_members(&member, count, limits));
                if !set.add(&member, limits) {
                    return Err(cursor.malformed("a member occurs twice"));
                }
            }
            Built::SortedSet(zset) => {
                let member = cursor.bytes()?;
                let score = match type_ {
                    TYPE_ZSET_2 => cursor.double()?,
                    _ => cursor.text_double()?,
                };
                add_scored(cursor, zset, &member, score, limits)?;
            }
            Built::Hash { hash, earliest } => {
                let valkey = type_ == TYPE_HASH_22 && self.dialect == Dialect::Valkey;
                let told = match type_ == TYPE_HASH || valkey {
                    true => 0,
                    false => cursor.length()?,
                };
                let (field, value) = (cursor.bytes()?, cursor.bytes()?);
                let time = match (valkey, type_, told) {
                    (true, ..) => {
                        Some(i64::from_le_bytes(cursor.array()?)).filter(|time| *time != -1)
                    }
                    (_, _, 0) => None,
                    (_, TYPE_HASH_22, told) => Some(i64::try_from(told).unwrap_or(-1)),
                    (.., told) => {
                        let time = i64::try_from(told - 1).ok();
                        Some(
                            time.and_then(|time| time.checked_add(*earliest))
                                .unwrap_or(-1),
                        )
                    }
                };
                add_field(cursor, hash, &field, &value, limits)?;
                if let Some(time) = time {
                    let time = Some(time).filter(|time| (0..=FIELD_TIME_MAX).contains(time));
                    let time = time.ok_or_else(|| cursor.malformed("a field's time is none"))?;
                    hash.set_expiry(&field, time, limits);
                }
            }
            Built::Stream(stream) => stream.item(cursor, self.skips)?,
        }
        Ok(())
    }

    /// The collection, all items having been read.
    pub fn finish(self, cursor: &Cursor<'_>, limits: &Limits) -> Result<Value, RdbError> {
        Ok(match self.built {
            Built::List(list) => Value::List(list),
            Built::Nodes(nodes) if nodes.is_empty() => Value::List(List::new()),
            Built::Nodes(nodes) => Value::List(
                List::from_nodes(nodes, limits).map_err(|e| cursor.malformed(e.to_string()))?,
            ),
            Built::Set(set) => Value::Set(set.unwrap_or_default()),
            Built::SortedSet(zset) => Value::SortedSet(zset),
            Built::Hash { hash, .. } => Value::Hash(hash),
            Built::Stream(stream) => Value::Stream(Box::new(stream.finish())),
        })
    }
}

/// Goes past one item of a type that [`Items::begin`] knows.
pub(super) fn skip_item(
    cursor: &mut Cursor<'_>,
    type_: u8,
    dialect: Dialect,
) -> Result<(), RdbError> {
    match type_ {
        TYPE_LIST | TYPE_SET | TYPE_LIST_QUICKLIST => cursor.skip_string(),
        TYPE_LIST_QUICKLIST_2 => {
            cursor.length()?;
            cursor.skip_string()
        }
        TYPE_ZSET => {
            cursor.skip_string()?;
            cursor.skip_text_double()
        }
        TYPE_ZSET_2 => {
            cursor.skip_string()?;
            cursor.take(8).map(|_| ())
        }
        TYPE_HASH => cursor.skip_strings(2),
        _ => {
            let valkey = type_ == TYPE_HASH_22 && dialect == Dialect::Valkey;
            if !valkey {
                cursor.length()?;
            }
            cursor.skip_strings(2)?;
            if valkey {
                cursor.take(8)?;
            }
            Ok(())
        }
    }
}
