//! RDB bytes in memory into values, of every type that the value types ever had.
//!
//! Counts are believed only as far as the bytes behind them could hold that many items. Duplicate members and broken
//! blobs are errors. An empty collection, which old servers could write, is no value.

use super::cursor::{Cursor, Str};
use super::format::*;
use super::items::{skip_item, Items};
use super::{stream, RdbError};
use datatypes::legacy::{Ziplist, Zipmap};
use datatypes::list::Node;
use datatypes::{Element, Hash, IntBuffer, IntSet, Limits, List, Listpack, Set, SortedSet, Value};
use keyspace::NewValue;
use std::borrow::Cow;

/// Whose numbering of types a file follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Redis,
    Valkey,
}

/// Reads what follows the key of a record of this type. `None`: an empty collection.
pub fn value<'a>(
    cursor: &mut Cursor<'a>,
    type_: u8,
    dialect: Dialect,
    limits: &Limits,
) -> Result<Option<NewValue<'a>>, RdbError> {
    if let Some(items) = {
        cursor.reading = reading(type_);
        Items::begin(cursor, type_, dialect, limits, 0)?
    } {
        return whole(items, cursor, limits);
    }
    let value = match type_ {
        TYPE_STRING => {
            return Ok(Some(match cursor.string()? {
                Str::Bytes(Cow::Borrowed(bytes)) => NewValue::Bytes(bytes),
                Str::Bytes(Cow::Owned(bytes)) => NewValue::Owned(bytes),
                Str::Int(n) => NewValue::Int(n),
            }));
        }
        TYPE_LIST_ZIPLIST => Value::List(list_of_ziplist(cursor, limits)?),
        TYPE_SET_INTSET | TYPE_SET_LISTPACK => Value::Set(set(cursor, type_, limits)?),
        TYPE_ZSET_ZIPLIST | TYPE_ZSET_LISTPACK => Value::SortedSet(zset(cursor, type_, limits)?),
        TYPE_HASH_ZIPMAP | TYPE_HASH_ZIPLIST | TYPE_HASH_LISTPACK => {
            Value::Hash(hash(cursor, type_, limits)?)
        }
        TYPE_HASH_LISTPACK_PRE_GA | TYPE_HASH_LISTPACK_METADATA => {
            Value::Hash(hash_with_expiry(cursor, type_, limits)?)
        }
        _ => return Err(unknown_type(cursor, type_)),
    };
    Ok((!value.is_empty()).then(|| NewValue::Object(Box::new(value))))
}

/// What a value of this type is called in errors.
pub(super) fn reading(type_: u8) -> &'static str {
    match type_ {
        TYPE_STRING => "a string value",
        TYPE_LIST | TYPE_LIST_ZIPLIST | TYPE_LIST_QUICKLIST | TYPE_LIST_QUICKLIST_2 => "a list",
        TYPE_SET | TYPE_SET_INTSET | TYPE_SET_LISTPACK => "a set",
        TYPE_ZSET | TYPE_ZSET_2 | TYPE_ZSET_ZIPLIST | TYPE_ZSET_LISTPACK => "a sorted set",
        TYPE_HASH | TYPE_HASH_ZIPMAP | TYPE_HASH_ZIPLIST | TYPE_HASH_LISTPACK => "a hash",
        TYPE_HASH_22
        | TYPE_HASH_LISTPACK_PRE_GA
        | TYPE_HASH_METADATA
        | TYPE_HASH_LISTPACK_METADATA => "a hash with field expiry",
        TYPE_STREAM | TYPE_STREAM_2 | TYPE_STREAM_3 => "a stream",
        _ => "a value",
    }
}

/// A collection whose items are all in the cursor's bytes.
fn whole<'a>(
    mut items: Items,
    cursor: &mut Cursor<'_>,
    limits: &Limits,
) -> Result<Option<NewValue<'a>>, RdbError> {
    items.read(cursor, limits)??;
    let value = items.finish(cursor, limits)?;
    Ok((!value.is_empty()).then(|| NewValue::Object(Box::new(value))))
}

/// The error for a type that is none of ours, naming it where it is known.
pub fn unknown_type(cursor: &mut Cursor<'_>, type_: u8) -> RdbError {
    cursor.reading = "a value";
    match type_ {
        TYPE_MODULE_PRE_GA | TYPE_MODULE_2 => match cursor.length() {
            Ok(id) => {
                let (name, version) = module_name(id);
                cursor.unsupported(format!(
                    "values of module \"{name}\", encoding version {version}"
                ))
            }
            Err(e) => e,
        },
        _ => cursor.unsupported(format!("value type {type_}")),
    }
}

/// Goes past what follows the key of a record of this type.
pub fn skip_value(cursor: &mut Cursor<'_>, type_: u8, dialect: Dialect) -> Result<(), RdbError> {
    cursor.reading = "a value";
    match type_ {
        TYPE_STRING
        | TYPE_HASH_ZIPMAP
        | TYPE_LIST_ZIPLIST
        | TYPE_SET_INTSET
        | TYPE_ZSET_ZIPLIST
        | TYPE_HASH_ZIPLIST
        | TYPE_HASH_LISTPACK
        | TYPE_ZSET_LISTPACK
        | TYPE_SET_LISTPACK
        | TYPE_HASH_LISTPACK_PRE_GA => cursor.skip_string(),
        TYPE_LIST | TYPE_SET | TYPE_LIST_QUICKLIST => {
            let count = cursor.length()?;
            cursor.skip_strings(count)
        }
        TYPE_HASH => {
            let count = cursor.length()?;
            cursor.skip_strings(count.saturating_mul(2))
        }
        TYPE_HASH_LISTPACK_METADATA => {
            cursor.take(8)?;
            cursor.skip_string()
        }
        TYPE_ZSET | TYPE_ZSET_2 | TYPE_LIST_QUICKLIST_2 | TYPE_HASH_22 | TYPE_HASH_METADATA => {
            if type_ == TYPE_HASH_METADATA {
                cursor.take(8)?;
            }
            let count = cursor.length()?;
            for _ in 0..count {
                skip_item(cursor, type_, dialect)?;
            }
            Ok(())
        }
        TYPE_STREAM | TYPE_STREAM_2 | TYPE_STREAM_3 => stream::skip(cursor, type_),
        _ => Err(unknown_type(cursor, type_)),
    }
}

pub(super) fn blob<'a>(cursor: &mut Cursor<'a>) -> Result<Vec<u8>, RdbError> {
    Ok(cursor.bytes()?.into_owned())
}

pub(super) fn listpack(cursor: &mut Cursor<'_>) -> Result<Listpack, RdbError> {
    let bytes = blob(cursor)?;
    Listpack::from_bytes_checked(bytes).map_err(|e| cursor.malformed(format!("listpack: {e}")))
}

fn ziplist(cursor: &mut Cursor<'_>) -> Result<Ziplist, RdbError> {
    let bytes = blob(cursor)?;
    Ziplist::from_bytes_checked(bytes).map_err(|e| cursor.malformed(format!("ziplist: {e}")))
}

/// A ziplist's elements as a list node.
pub(super) fn ziplist_node(cursor: &mut Cursor<'_>) -> Result<Option<Node>, RdbError> {
    let ziplist = ziplist(cursor)?;
    if ziplist.is_empty() {
        return Ok(None);
    }
    let mut listpack = Listpack::new();
    for element in ziplist.iter() {
        match element {
            Element::Bytes(bytes) => listpack.push_back(bytes),
            Element::Int(n) => listpack.push_back_int(n),
        }
    }
    Ok(Some(Node::Packed(listpack)))
}

fn list_of_ziplist(cursor: &mut Cursor<'_>, limits: &Limits) -> Result<List, RdbError> {
    let Some(node) = ziplist_node(cursor)? else {
        return Ok(List::new());
    };
    List::from_nodes(vec![node], limits).map_err(|e| cursor.malformed(e.to_string()))
}

fn set(cursor: &mut Cursor<'_>, type_: u8, limits: &Limits) -> Result<Set, RdbError> {
    if type_ == TYPE_SET_INTSET {
        let bytes = blob(cursor)?;
        let intset = IntSet::from_bytes_checked(bytes)
            .map_err(|e| cursor.malformed(format!("intset: {e}")))?;
        return match intset.is_empty() {
            true => Ok(Set::new()),
            false => Set::from_intset(intset, limits).map_err(|e| cursor.malformed(e.to_string())),
        };
    }
    let listpack = listpack(cursor)?;
    match listpack.is_empty() {
        true => Ok(Set::new()),
        false => Set::from_listpack(listpack, limits).map_err(|e| cursor.malformed(e.to_string())),
    }
}

fn zset(cursor: &mut Cursor<'_>, type_: u8, limits: &Limits) -> Result<SortedSet, RdbError> {
    match type_ {
        TYPE_ZSET_LISTPACK => {
            let listpack = listpack(cursor)?;
            match listpack.is_empty() {
                true => Ok(SortedSet::new()),
                false => SortedSet::from_listpack(listpack, limits)
                    .map_err(|e| cursor.malformed(e.to_string())),
            }
        }
        _ => {
            let ziplist = ziplist(cursor)?;
            let mut zset = SortedSet::for_members(ziplist.len() / 2, 0, limits);
            let mut elements = ziplist.iter();
            let (mut member_buffer, mut score_buffer) = (IntBuffer::new(), IntBuffer::new());
            while let Some(member) = elements.next() {
                let score = elements
                    .next()
                    .ok_or_else(|| cursor.malformed("a member without a score"))?;
                let score = datatypes::number::parse_f64(score.as_bytes(&mut score_buffer));
                let score = score.ok_or_else(|| cursor.malformed("a score that is no number"))?;
                add_scored(
                    cursor,
                    &mut zset,
                    member.as_bytes(&mut member_buffer),
                    score,
                    limits,
                )?;
            }
            Ok(zset)
        }
    }
}

pub(super) fn add_scored(
    cursor: &Cursor<'_>,
    zset: &mut SortedSet,
    member: &[u8],
    score: f64,
    limits: &Limits,
) -> Result<(), RdbError> {
    if score.is_nan() {
        return Err(cursor.malformed("a score that is NaN"));
    }
    match zset.insert(member, score, limits) {
        None => Ok(()),
        Some(_) => Err(cursor.malformed("a member occurs twice")),
    }
}

fn hash(cursor: &mut Cursor<'_>, type_: u8, limits: &Limits) -> Result<Hash, RdbError> {
    match type_ {
        TYPE_HASH_LISTPACK => {
            let listpack = listpack(cursor)?;
            match listpack.is_empty() {
                true => Ok(Hash::new()),
                false => Hash::from_listpack(listpack, limits)
                    .map_err(|e| cursor.malformed(e.to_string())),
            }
        }
        TYPE_HASH_ZIPLIST => {
            let ziplist = ziplist(cursor)?;
            let mut hash = Hash::new();
            hash.prepare(ziplist.len() / 2, limits);
            let mut elements = ziplist.iter();
            let (mut field_buffer, mut value_buffer) = (IntBuffer::new(), IntBuffer::new());
            while let Some(field) = elements.next() {
                let value = elements
                    .next()
                    .ok_or_else(|| cursor.malformed("a field without a value"))?;
                let (field, value) = (
                    field.as_bytes(&mut field_buffer),
                    value.as_bytes(&mut value_buffer),
                );
                add_field(cursor, &mut hash, field, value, limits)?;
            }
            Ok(hash)
        }
        _ => {
            let bytes = blob(cursor)?;
            let zipmap = Zipmap::from_bytes_checked(bytes)
                .map_err(|e| cursor.malformed(format!("zipmap: {e}")))?;
            let mut hash = Hash::new();
            hash.prepare(zipmap.len(), limits);
            for (field, value) in zipmap.iter() {
                add_field(cursor, &mut hash, field, value, limits)?;
            }
            Ok(hash)
        }
    }
}

pub(super) fn add_field(
    cursor: &Cursor<'_>,
    hash: &mut Hash,
    field: &[u8],
    value: &[u8],
    limits: &Limits,
) -> Result<(), RdbError> {
    match hash.set(field, value, limits) {
        true => Ok(()),
        false => Err(cursor.malformed("a field occurs twice")),
    }
}

/// Fields, values and times in one listpack.
fn hash_with_expiry(cursor: &mut Cursor<'_>, type_: u8, limits: &Limits) -> Result<Hash, RdbError> {
    if type_ == TYPE_HASH_LISTPACK_METADATA {
        // The earliest time, which the times themselves tell.
        cursor.take(8)?;
    }
    let listpack = listpack(cursor)?;
    Hash::from_listpack_with_expiries(&listpack, limits)
        .map_err(|e| cursor.malformed(e.to_string()))
}
