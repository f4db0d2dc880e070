//! RDB bytes in memory into values, of every type that five value types ever had.
//!
//! Counts are believed only as far as the bytes behind them could hold that many items. Duplicate members and broken
//! blobs are errors. An empty collection, which old servers could write, is no value.

use super::cursor::{Cursor, Str};
use super::format::*;
use super::RdbError;
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
    let value = match type_ {
        TYPE_STRING => {
            cursor.reading = "a string value";
            return Ok(Some(match cursor.string()? {
                Str::Bytes(Cow::Borrowed(bytes)) => NewValue::Bytes(bytes),
                Str::Bytes(Cow::Owned(bytes)) => NewValue::Owned(bytes),
                Str::Int(n) => NewValue::Int(n),
            }));
        }
        TYPE_LIST | TYPE_LIST_ZIPLIST | TYPE_LIST_QUICKLIST | TYPE_LIST_QUICKLIST_2 => {
            cursor.reading = "a list";
            Value::List(list(cursor, type_, limits)?)
        }
        TYPE_SET | TYPE_SET_INTSET | TYPE_SET_LISTPACK => {
            cursor.reading = "a set";
            Value::Set(set(cursor, type_, limits)?)
        }
        TYPE_ZSET | TYPE_ZSET_2 | TYPE_ZSET_ZIPLIST | TYPE_ZSET_LISTPACK => {
            cursor.reading = "a sorted set";
            Value::SortedSet(zset(cursor, type_, limits)?)
        }
        TYPE_HASH | TYPE_HASH_ZIPMAP | TYPE_HASH_ZIPLIST | TYPE_HASH_LISTPACK => {
            cursor.reading = "a hash";
            Value::Hash(hash(cursor, type_, limits)?)
        }
        TYPE_HASH_22
        | TYPE_HASH_LISTPACK_PRE_GA
        | TYPE_HASH_METADATA
        | TYPE_HASH_LISTPACK_METADATA => {
            cursor.reading = "a hash with field expiry";
            Value::Hash(hash_with_expiry(cursor, type_, dialect, limits)?)
        }
        _ => return Err(unknown_type(cursor, type_)),
    };
    Ok((!value.is_empty()).then(|| NewValue::Object(Box::new(value))))
}

/// The error for a type that is none of ours, naming it where it is known.
pub fn unknown_type(cursor: &mut Cursor<'_>, type_: u8) -> RdbError {
    cursor.reading = "a value";
    match type_ {
        TYPE_STREAM | TYPE_STREAM_2 | TYPE_STREAM_3 => {
            cursor.unsupported(format!("streams (type {type_})"))
        }
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
        TYPE_ZSET | TYPE_ZSET_2 => {
            let count = cursor.length()?;
            for _ in 0..count {
                cursor.skip_string()?;
                if type_ == TYPE_ZSET_2 {
                    cursor.take(8)?;
                } else {
                    cursor.skip_text_double()?;
                }
            }
            Ok(())
        }
        TYPE_LIST_QUICKLIST_2 => {
            let count = cursor.length()?;
            for _ in 0..count {
                cursor.length()?;
                cursor.skip_string()?;
            }
            Ok(())
        }
        TYPE_HASH_LISTPACK_METADATA => {
            cursor.take(8)?;
            cursor.skip_string()
        }
        TYPE_HASH_22 | TYPE_HASH_METADATA => {
            if type_ == TYPE_HASH_METADATA {
                cursor.take(8)?;
            }
            let count = cursor.length()?;
            for _ in 0..count {
                let valkey = type_ == TYPE_HASH_22 && dialect == Dialect::Valkey;
                if !valkey {
                    cursor.length()?;
                }
                cursor.skip_strings(2)?;
                if valkey {
                    cursor.take(8)?;
                }
            }
            Ok(())
        }
        _ => Err(unknown_type(cursor, type_)),
    }
}

fn blob<'a>(cursor: &mut Cursor<'a>) -> Result<Vec<u8>, RdbError> {
    Ok(cursor.bytes()?.into_owned())
}

fn listpack(cursor: &mut Cursor<'_>) -> Result<Listpack, RdbError> {
    let bytes = blob(cursor)?;
    Listpack::from_bytes_checked(bytes).map_err(|e| cursor.malformed(format!("listpack: {e}")))
}

fn ziplist(cursor: &mut Cursor<'_>) -> Result<Ziplist, RdbError> {
    let bytes = blob(cursor)?;
    Ziplist::from_bytes_checked(bytes).map_err(|e| cursor.malformed(format!("ziplist: {e}")))
}

/// A ziplist's elements as a list node.
fn ziplist_node(cursor: &mut Cursor<'_>) -> Result<Option<Node>, RdbError> {
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

fn list(cursor: &mut Cursor<'_>, type_: u8, limits: &Limits) -> Result<List, RdbError> {
    if type_ == TYPE_LIST {
        let count = cursor.count(1)?;
        let mut list = List::new();
        for _ in 0..count {
            list.push_back(&cursor.bytes()?, limits);
        }
        return Ok(list);
    }
    let mut nodes = Vec::new();
    let count = if type_ == TYPE_LIST_ZIPLIST {
        1
    } else {
        cursor.count(1)?
    };
    for _ in 0..count {
        if type_ != TYPE_LIST_QUICKLIST_2 {
            nodes.extend(ziplist_node(cursor)?);
            continue;
        }
        match cursor.length()? {
            NODE_PLAIN => nodes.push(Node::Plain(blob(cursor)?.into_boxed_slice())),
            NODE_PACKED => {
                let listpack = listpack(cursor)?;
                if !listpack.is_empty() {
                    nodes.push(Node::Packed(listpack));
                }
            }
            other => return Err(cursor.malformed(format!("list node container {other}"))),
        }
    }
    if nodes.is_empty() {
        return Ok(List::new());
    }
    List::from_nodes(nodes, limits).map_err(|e| cursor.malformed(e.to_string()))
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
    if type_ == TYPE_SET_LISTPACK {
        let listpack = listpack(cursor)?;
        return match listpack.is_empty() {
            true => Ok(Set::new()),
            false => {
                Set::from_listpack(listpack, limits).map_err(|e| cursor.malformed(e.to_string()))
            }
        };
    }
    let count = cursor.count(1)?;
    let mut set: Option<Set> = None;
    for _ in 0..count {
        let member = cursor.bytes()?;
        let set = set.get_or_insert_with(|| Set::for_members(&member, count, limits));
        if !set.add(&member, limits) {
            return Err(cursor.malformed("a member occurs twice"));
        }
    }
    Ok(set.unwrap_or_default())
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
        TYPE_ZSET_ZIPLIST => {
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
        _ => {
            let count = cursor.count(2)?;
            let mut zset = SortedSet::for_members(count, 0, limits);
            for _ in 0..count {
                let member = cursor.bytes()?;
                let score = if type_ == TYPE_ZSET_2 {
                    cursor.double()?
                } else {
                    cursor.text_double()?
                };
                add_scored(cursor, &mut zset, &member, score, limits)?;
            }
            Ok(zset)
        }
    }
}

fn add_scored(
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
        TYPE_HASH_ZIPMAP => {
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
        _ => {
            let count = cursor.count(2)?;
            let mut hash = Hash::new();
            hash.prepare(count, limits);
            for _ in 0..count {
                let (field, value) = (cursor.bytes()?, cursor.bytes()?);
                add_field(cursor, &mut hash, &field, &value, limits)?;
            }
            Ok(hash)
        }
    }
}

fn add_field(
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

/// Hashes of types that can carry an expiry per field are read if no field has one.
fn hash_with_expiry(
    cursor: &mut Cursor<'_>,
    type_: u8,
    dialect: Dialect,
    limits: &Limits,
) -> Result<Hash, RdbError> {
    let refused = "field expiry (HEXPIRE)";
    if matches!(type_, TYPE_HASH_METADATA | TYPE_HASH_LISTPACK_METADATA) {
        cursor.take(8)?;
    }
    let mut hash = Hash::new();
    if matches!(
        type_,
        TYPE_HASH_LISTPACK_METADATA | TYPE_HASH_LISTPACK_PRE_GA
    ) {
        let listpack = listpack(cursor)?;
        if listpack.len() % 3 != 0 {
            return Err(cursor.malformed("a field without value or expiry"));
        }
        hash.prepare(listpack.len() / 3, limits);
        let mut elements = listpack.iter();
        let (mut field_buffer, mut value_buffer) = (IntBuffer::new(), IntBuffer::new());
        while let (Some(field), Some(value), Some(expiry)) =
            (elements.next(), elements.next(), elements.next())
        {
            if expiry.as_int() != Some(0) {
                return Err(cursor.unsupported(refused));
            }
            let (field, value) = (
                field.as_bytes(&mut field_buffer),
                value.as_bytes(&mut value_buffer),
            );
            add_field(cursor, &mut hash, field, value, limits)?;
        }
        return Ok(hash);
    }
    let valkey = type_ == TYPE_HASH_22 && dialect == Dialect::Valkey;
    let count = cursor.count(3)?;
    hash.prepare(count, limits);
    for _ in 0..count {
        if !valkey && cursor.length()? != 0 {
            return Err(cursor.unsupported(refused));
        }
        let (field, value) = (cursor.bytes()?, cursor.bytes()?);
        if valkey && i64::from_le_bytes(cursor.array()?) != -1 {
            return Err(cursor.unsupported(refused));
        }
        add_field(cursor, &mut hash, &field, &value, limits)?;
    }
    Ok(hash)
}
