//! Values into RDB bytes.
//!
//! Encodings go out as they are in memory, with one exception: a listpack set is written member by member (type 2),
//! because its own type needs version 11, which Redis 7.0 refuses; readers make a listpack of it again. What cannot be said
//! in the version that is usually written raises [`Encoder::version`].

use super::format::*;
use super::stream;
use crate::lzf::{Compressor, LEN_UNCOMPRESSED_MAX};
use datatypes::list::Node;
use datatypes::{Element, Hash, IntBuffer, List, Set, SortedSet, Value};
use keyspace::{StringRef, UnixMillis, ValueRef};
use std::io;

/// Strings longer than this are not compressed: the result has to be held in memory whole.
const COMPRESSED_BYTES_MAX: usize = 64 << 20;
/// The longest text that can be a 32-bit integer.
const INT_TEXT_LEN_MAX: usize = 11;

/// Why a sink takes no more.
#[derive(Debug)]
pub enum Stop {
    /// Its limit is reached.
    Full,
    Io(io::Error),
}

/// Where encoded bytes go.
pub trait Sink {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Stop>;
}

impl Sink for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// A vector that grows to a limit.
pub struct Bounded<'a> {
    pub out: &'a mut Vec<u8>,
    pub limit: usize,
}

impl Sink for Bounded<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        if bytes.len() > self.limit - self.out.len() {
            return Err(Stop::Full);
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }
}

/// Only counts.
#[derive(Default)]
pub struct Counter(pub u64);

impl Sink for Counter {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.0 += bytes.len() as u64;
        Ok(())
    }
}

/// Encodes values; keeps the compressor's table and room between them. Equal values give equal bytes every time.
pub struct Encoder {
    /// The lowest version that has all types of the records encoded so far.
    pub version: u32,
    compressor: Option<Compressor>,
    compressed: Vec<u8>,
}

impl Encoder {
    pub fn new(compress: bool) -> Encoder {
        Encoder {
            version: VERSION_WRITTEN,
            compressor: compress.then(Compressor::new),
            compressed: Vec::new(),
        }
    }

    /// One key: expiry, type, key, value.
    pub fn record<S: Sink>(
        &mut self,
        out: &mut S,
        key: &[u8],
        expire_at: Option<UnixMillis>,
        value: ValueRef<'_>,
    ) -> Result<(), Stop> {
        if let Some(UnixMillis(ms)) = expire_at {
            out.put(&[OP_EXPIRE_MS])?;
            out.put(&ms.to_le_bytes())?;
        }
        let type_ = value_type(value);
        self.version = self.version.max(version_of(type_));
        out.put(&[type_])?;
        self.string(out, key)?;
        self.value(out, value)
    }

    /// The value without its type.
    pub fn value<S: Sink>(&mut self, out: &mut S, value: ValueRef<'_>) -> Result<(), Stop> {
        match value {
            ValueRef::String(StringRef::Int(n)) => put_int(out, n),
            ValueRef::String(StringRef::Bytes(bytes)) => self.string(out, bytes),
            ValueRef::Object(Value::List(list)) => self.list(out, list),
            ValueRef::Object(Value::Set(set)) => self.set(out, set),
            ValueRef::Object(Value::Hash(hash)) => self.hash(out, hash),
            ValueRef::Object(Value::SortedSet(zset)) => self.zset(out, zset),
            ValueRef::Object(Value::Stream(stream)) => stream::put(self, out, stream),
        }
    }

    fn list<S: Sink>(&mut self, out: &mut S, list: &List) -> Result<(), Stop> {
        let nodes = list.nodes();
        put_len(out, nodes.len())?;
        for node in nodes {
            let (container, bytes) = match node {
                Node::Packed(listpack) => (NODE_PACKED, listpack.as_bytes()),
                Node::Plain(bytes) => (NODE_PLAIN, &bytes[..]),
            };
            out.put(&[container as u8])?;
            self.string(out, bytes)?;
        }
        Ok(())
    }

    fn set<S: Sink>(&mut self, out: &mut S, set: &Set) -> Result<(), Stop> {
        if let Some(intset) = set.as_intset() {
            return self.string(out, intset.as_bytes());
        }
        put_len(out, set.len())?;
        for member in set.iter() {
            self.element(out, member)?;
        }
        Ok(())
    }

    fn hash<S: Sink>(&mut self, out: &mut S, hash: &Hash) -> Result<(), Stop> {
        if let Some(earliest) = hash.next_expiry() {
            return self.expiring_hash(out, hash, earliest);
        }
        if let Some(listpack) = hash.as_listpack() {
            return self.string(out, listpack.as_bytes());
        }
        put_len(out, hash.len())?;
        for (field, value) in hash.iter() {
            self.element(out, field)?;
            self.element(out, value)?;
        }
        Ok(())
    }

    fn expiring_hash<S: Sink>(
        &mut self,
        out: &mut S,
        hash: &Hash,
        earliest: i64,
    ) -> Result<(), Stop> {
        out.put(&earliest.to_le_bytes())?;
        if let Some(listpack) = hash.to_listpack_with_expiries() {
            return self.string(out, listpack.as_bytes());
        }
        put_len(out, hash.len())?;
        let mut buffer = IntBuffer::new();
        for (field, value) in hash.iter() {
            let time = hash.expiry_of(field.as_bytes(&mut buffer));
            put_len(out, time.map_or(0, |time| (time - earliest + 1) as usize))?;
            self.element(out, field)?;
            self.element(out, value)?;
        }
        Ok(())
    }

    /// From the highest score down: readers that insert in this order always insert at the front.
    fn zset<S: Sink>(&mut self, out: &mut S, zset: &SortedSet) -> Result<(), Stop> {
        if let Some(listpack) = zset.as_listpack() {
            return self.string(out, listpack.as_bytes());
        }
        put_len(out, zset.len())?;
        for (member, score) in zset.iter().rev() {
            self.element(out, member)?;
            out.put(&score.to_le_bytes())?;
        }
        Ok(())
    }

    fn element<S: Sink>(&mut self, out: &mut S, element: Element<'_>) -> Result<(), Stop> {
        match element {
            Element::Bytes(bytes) => self.string(out, bytes),
            Element::Int(n) => put_int(out, n),
        }
    }

    /// A string: as an integer where it is the text of one, compressed where that pays.
    pub fn string<S: Sink>(&mut self, out: &mut S, bytes: &[u8]) -> Result<(), Stop> {
        if bytes.len() <= INT_TEXT_LEN_MAX {
            if let Some((encoded, n)) = datatypes::number::parse_i64(bytes).and_then(encoded_int) {
                return out.put(&encoded[..n]);
            }
        } else if bytes.len() > LEN_UNCOMPRESSED_MAX && bytes.len() <= COMPRESSED_BYTES_MAX {
            if let Some(compressor) = &mut self.compressor {
                self.compressed.clear();
                if let Some(len) = compressor.compress(bytes, &mut self.compressed) {
                    out.put(&[ENCODED_LZF])?;
                    put_len(out, len)?;
                    put_len(out, bytes.len())?;
                    return out.put(&self.compressed);
                }
            }
        }
        put_len(out, bytes.len())?;
        out.put(bytes)
    }
}

#[inline]
pub(super) fn put_len<S: Sink>(out: &mut S, len: usize) -> Result<(), Stop> {
    let (bytes, n) = length_bytes(len as u64);
    out.put(&bytes[..n])
}

#[inline]
fn put_int<S: Sink>(out: &mut S, n: i64) -> Result<(), Stop> {
    if let Some((encoded, len)) = encoded_int(n) {
        return out.put(&encoded[..len]);
    }
    let mut buffer = IntBuffer::new();
    let element = Element::Int(n);
    let text = element.as_bytes(&mut buffer);
    put_len(out, text.len())?;
    out.put(text)
}

/// The type byte under which [`Encoder::value`] writes a value.
pub fn value_type(value: ValueRef<'_>) -> u8 {
    match value {
        ValueRef::String(_) => TYPE_STRING,
        ValueRef::Object(Value::List(_)) => TYPE_LIST_QUICKLIST_2,
        ValueRef::Object(Value::Set(set)) if set.as_intset().is_some() => TYPE_SET_INTSET,
        ValueRef::Object(Value::Set(_)) => TYPE_SET,
        ValueRef::Object(Value::Hash(hash)) => {
            match (hash.as_listpack().is_some(), hash.expiring_len() > 0) {
                (true, false) => TYPE_HASH_LISTPACK,
                (false, false) => TYPE_HASH,
                (true, true) => TYPE_HASH_LISTPACK_METADATA,
                (false, true) => TYPE_HASH_METADATA,
            }
        }
        ValueRef::Object(Value::SortedSet(zset)) if zset.as_listpack().is_some() => {
            TYPE_ZSET_LISTPACK
        }
        ValueRef::Object(Value::SortedSet(_)) => TYPE_ZSET_2,
        ValueRef::Object(Value::Stream(stream)) => stream::type_of(stream),
    }
}

/// The version that has a type that [`value_type`] gives.
pub fn version_of(type_: u8) -> u32 {
    match type_ {
        TYPE_STREAM_3 => VERSION_OF_STREAM_3,
        TYPE_HASH_METADATA | TYPE_HASH_LISTPACK_METADATA => VERSION_OF_FIELD_EXPIRY,
        _ => VERSION_WRITTEN,
    }
}
