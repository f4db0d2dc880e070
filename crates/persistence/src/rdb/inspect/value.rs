//! Past one value, verifying what can be verified without holding it.
//!
//! Compact blobs and compressed strings are held and checked as loading checks them. Members and fields of large
//! collections are remembered by a hash of 128 bits, up to [`MEMBERS_REMEMBERED_MAX`] of them, to find one that
//! occurs twice; beyond that only loading would find it.

use super::source::{corrupt, Fault};
use super::walk::{Length, Walk};
use super::HELD_BYTES_MAX;
use crate::lzf;
use crate::rdb::format::*;
use datatypes::legacy::{Ziplist, Zipmap};
use datatypes::{Hash, IntSet, Limits, Listpack, Set, SortedSet};
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

pub const MEMBERS_REMEMBERED_MAX: u64 = 4 << 20;
/// A string up to this length is held while it is looked at.
const STRING_HELD_MAX: u64 = 1 << 20;

/// What is used again from value to value.
#[derive(Default)]
pub struct Scratch {
    seen: HashSet<u128>,
    hashers: (RandomState, RandomState),
    /// No smaller key is among the largest.
    pub smallest_kept: u64,
}

/// The types as TYPE names them.
pub fn type_name(type_: u8) -> &'static str {
    match type_ {
        TYPE_STRING => "string",
        TYPE_LIST | TYPE_LIST_ZIPLIST | TYPE_LIST_QUICKLIST | TYPE_LIST_QUICKLIST_2 => "list",
        TYPE_SET | TYPE_SET_INTSET | TYPE_SET_LISTPACK => "set",
        TYPE_ZSET | TYPE_ZSET_2 | TYPE_ZSET_ZIPLIST | TYPE_ZSET_LISTPACK => "zset",
        TYPE_HASH
        | TYPE_HASH_ZIPMAP
        | TYPE_HASH_ZIPLIST
        | TYPE_HASH_LISTPACK
        | TYPE_HASH_22
        | TYPE_HASH_LISTPACK_PRE_GA
        | TYPE_HASH_METADATA
        | TYPE_HASH_LISTPACK_METADATA => "hash",
        TYPE_STREAM | TYPE_STREAM_2 | TYPE_STREAM_3 => "stream",
        _ => "module",
    }
}

/// The encodings in the words of `redis-check-rdb`.
pub fn encoding_name(type_: u8) -> &'static str {
    const NAMES: [&str; 26] = [
        "string",
        "list-linked",
        "set-hashtable",
        "zset-v1",
        "hash-hashtable",
        "zset-v2",
        "module-pre-release",
        "module-value",
        "",
        "hash-zipmap",
        "list-ziplist",
        "set-intset",
        "zset-ziplist",
        "hash-ziplist",
        "quicklist",
        "stream",
        "hash-listpack",
        "zset-listpack",
        "quicklist-v2",
        "stream-v2",
        "set-listpack",
        "stream-v3",
        "hash-hashtable-md-pre-release",
        "hash-listpack-md-pre-release",
        "hash-hashtable-md",
        "hash-listpack-md",
    ];
    NAMES.get(usize::from(type_)).copied().unwrap_or("unknown")
}

/// A front of bytes, kept, and how many there were in all.
type Front = (Vec<u8>, u64);

impl Walk<'_> {
    pub(super) fn is_value_type(&self, type_: u8) -> bool {
        matches!(type_, 0..=7 | 9..=21)
            || match self.valkey {
                true => type_ == TYPE_HASH_22,
                false => matches!(type_, 22..=25),
            }
    }

    /// Goes past the value; how many elements it has, if it is a collection.
    pub(super) fn value(&mut self, type_: u8) -> Result<Option<u64>, Fault> {
        match type_ {
            TYPE_STRING => self.skip_string().map(|()| None),
            TYPE_LIST => {
                let count = self.length()?;
                (0..count).try_for_each(|_| self.skip_string())?;
                Ok(Some(count))
            }
            TYPE_SET => self
                .members(1, 0, "Duplicate set members detected")
                .map(Some),
            TYPE_HASH => self
                .members(2, 0, "Duplicate hash fields detected")
                .map(Some),
            TYPE_ZSET | TYPE_ZSET_2 => self.scored(type_).map(Some),
            TYPE_LIST_QUICKLIST | TYPE_LIST_QUICKLIST_2 => self.nodes(type_).map(Some),
            TYPE_HASH_ZIPMAP
            | TYPE_LIST_ZIPLIST
            | TYPE_SET_INTSET
            | TYPE_ZSET_ZIPLIST
            | TYPE_HASH_ZIPLIST
            | TYPE_HASH_LISTPACK
            | TYPE_ZSET_LISTPACK
            | TYPE_SET_LISTPACK
            | TYPE_HASH_LISTPACK_PRE_GA
            | TYPE_HASH_LISTPACK_METADATA => self.blob_value(type_),
            TYPE_HASH_22 | TYPE_HASH_METADATA => self.hash_with_expiry(type_).map(Some),
            TYPE_STREAM | TYPE_STREAM_2 | TYPE_STREAM_3 => self.stream(type_).map(Some),
            TYPE_MODULE_2 => {
                let (module, _) = module_name(self.length()?);
                self.unsupported("values of modules");
                self.module_value(&module).map(|()| None)
            }
            _ => Err(Fault::Refused(
                "values of modules from before Redis 4.0 cannot be passed over".into(),
            )),
        }
    }

    /// Goes past a string, which is verified if it is compressed.
    pub(super) fn skip_string(&mut self) -> Result<(), Fault> {
        match self.length_or_encoding()? {
            Length::Plain(len) => self.source.skip(len),
            Length::Encoded(first) => self.encoded_string(first).map(drop),
        }
    }

    /// What follows the first byte of an integer or compressed string. `None`: too long to be held.
    fn encoded_string(&mut self, first: u8) -> Result<Option<Vec<u8>>, Fault> {
        let number = match first {
            ENCODED_INT8 => i64::from(self.source.byte()? as i8),
            ENCODED_INT16 => i64::from(i16::from_le_bytes(self.source.array()?)),
            ENCODED_INT32 => i64::from(i32::from_le_bytes(self.source.array()?)),
            ENCODED_LZF => return self.compressed_string(),
            _ => return corrupt(format!("Unknown RDB string encoding type {}", first & 0x3f)),
        };
        let mut text = Vec::with_capacity(20);
        datatypes::number::write_i64(&mut text, number);
        Ok(Some(text))
    }

    fn compressed_string(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        let (compressed_len, len) = (self.length()?, self.length()?);
        // A claim that the compressed bytes cannot yield is refused before anything is allocated for it.
        let possible =
            len <= compressed_len.saturating_mul(lzf::EXPANSION_MAX) + lzf::EXPANSION_MAX;
        if compressed_len > HELD_BYTES_MAX || (possible && len > 4 * HELD_BYTES_MAX) {
            self.source.skip(compressed_len)?;
            self.found.unverified += 1;
            return Ok(None);
        }
        let compressed = self.source.peek(compressed_len as usize)?;
        let Some(bytes) = lzf::decompress(compressed, len) else {
            // The bytes were read before they were found wanting.
            self.source.pass(compressed_len as usize);
            return corrupt("Invalid LZF compressed string");
        };
        self.source.pass(compressed_len as usize);
        Ok(Some(bytes))
    }

    /// A string of which `max` bytes are kept.
    pub(super) fn string_front(&mut self, max: usize) -> Result<Front, Fault> {
        let mut front = Vec::new();
        let len = self.string_front_into(&mut front, max)?;
        Ok((front, len))
    }

    pub(super) fn string_front_into(
        &mut self,
        front: &mut Vec<u8>,
        max: usize,
    ) -> Result<u64, Fault> {
        match self.length_or_encoding()? {
            Length::Plain(len) => {
                if len > self.source.left() {
                    return Err(Fault::End);
                }
                let kept = len.min(max as u64);
                front.extend_from_slice(self.source.peek(kept as usize)?);
                self.source.skip(len)?;
                Ok(len)
            }
            Length::Encoded(first) => {
                let bytes = self.encoded_string(first)?.unwrap_or_default();
                front.extend_from_slice(&bytes[..bytes.len().min(max)]);
                Ok(bytes.len() as u64)
            }
        }
    }

    /// The whole of a blob. `None`: too long to be held, and passed over.
    fn blob(&mut self) -> Result<Option<Vec<u8>>, Fault> {
        match self.length_or_encoding()? {
            Length::Plain(len) if len > HELD_BYTES_MAX => {
                self.source.skip(len)?;
                self.found.unverified += 1;
                Ok(None)
            }
            Length::Plain(len) => {
                let bytes = self.source.peek(len as usize)?.to_vec();
                self.source.pass(len as usize);
                Ok(Some(bytes))
            }
            Length::Encoded(first) => self.encoded_string(first),
        }
    }

    /// Members (or fields) that must differ, each with `parts - 1` strings and `tail` bytes behind it.
    fn members(&mut self, parts: u64, tail: u64, twice: &str) -> Result<u64, Fault> {
        let count = self.length()?;
        self.scratch.seen.clear();
        for _ in 0..count {
            self.member(count, twice)?;
            (1..parts).try_for_each(|_| self.skip_string())?;
            self.source.skip(tail)?;
        }
        Ok(count)
    }

    fn member(&mut self, count: u64, twice: &str) -> Result<(), Fault> {
        if !(2..=MEMBERS_REMEMBERED_MAX).contains(&count) {
            return self.skip_string();
        }
        let hash = match self.length_or_encoding()? {
            Length::Plain(len) if len <= STRING_HELD_MAX => {
                let hashers = &self.scratch.hashers;
                let bytes = self.source.peek(len as usize)?;
                let hash = wide_hash(hashers, bytes);
                self.source.pass(len as usize);
                hash
            }
            // So long that two of them would be a curious accident.
            Length::Plain(len) => return self.source.skip(len),
            Length::Encoded(first) => match self.encoded_string(first)? {
                Some(bytes) => wide_hash(&self.scratch.hashers, &bytes),
                None => return Ok(()),
            },
        };
        match self.scratch.seen.insert(hash) {
            true => Ok(()),
            false => corrupt(twice),
        }
    }

    fn scored(&mut self, type_: u8) -> Result<u64, Fault> {
        let count = self.length()?;
        self.scratch.seen.clear();
        for _ in 0..count {
            self.member(count, "Duplicate zset fields detected")?;
            let is_nan = if type_ == TYPE_ZSET_2 {
                f64::from_le_bytes(self.source.array()?).is_nan()
            } else {
                match self.source.byte()? {
                    253 => true,
                    254 | 255 => false,
                    len => {
                        let text = self.source.peek(usize::from(len))?;
                        let known = fast_float2::parse::<f64, _>(text).is_ok();
                        self.source.pass(usize::from(len));
                        !known
                    }
                }
            };
            if is_nan {
                return corrupt("Zset with NAN score detected");
            }
        }
        Ok(count)
    }

    fn nodes(&mut self, type_: u8) -> Result<u64, Fault> {
        let mut elements = 0;
        for _ in 0..self.length()? {
            if type_ == TYPE_LIST_QUICKLIST_2 {
                match self.length()? {
                    NODE_PACKED => {}
                    NODE_PLAIN => {
                        self.skip_string()?;
                        elements += 1;
                        continue;
                    }
                    _ => return corrupt("Quicklist integrity check failed."),
                }
            }
            let Some(bytes) = self.blob()? else { continue };
            elements += match type_ {
                TYPE_LIST_QUICKLIST_2 => match Listpack::from_bytes_checked(bytes) {
                    Ok(listpack) => listpack.len() as u64,
                    Err(_) => return corrupt("Listpack integrity check failed."),
                },
                _ => match Ziplist::from_bytes_checked(bytes) {
                    Ok(ziplist) => ziplist.len() as u64,
                    Err(_) => return corrupt("Ziplist integrity check failed."),
                },
            };
        }
        Ok(elements)
    }

    fn blob_value(&mut self, type_: u8) -> Result<Option<u64>, Fault> {
        if type_ == TYPE_HASH_LISTPACK_METADATA {
            self.source.skip(8)?;
        }
        let Some(bytes) = self.blob()? else {
            return Ok(None);
        };
        let expiring = matches!(
            type_,
            TYPE_HASH_LISTPACK_METADATA | TYPE_HASH_LISTPACK_PRE_GA
        );
        let elements = match expiring {
            true => self.listpack_with_expiry(bytes),
            false => blob_elements(type_, bytes),
        };
        match elements {
            Some(elements) => Ok(Some(elements)),
            None => corrupt(format!("{} integrity check failed.", blob_name(type_))),
        }
    }

    /// Fields, values and times in turn. A time of zero is none.
    fn listpack_with_expiry(&mut self, bytes: Vec<u8>) -> Option<u64> {
        let listpack = Listpack::from_bytes_checked(bytes).ok()?;
        if listpack.len() % 3 != 0 {
            return None;
        }
        let times = listpack.iter().skip(2).step_by(3);
        if times.into_iter().any(|time| time.as_int() != Some(0)) {
            self.found.field_expires += 1;
        }
        Some(listpack.len() as u64 / 3)
    }

    fn hash_with_expiry(&mut self, type_: u8) -> Result<u64, Fault> {
        if type_ == TYPE_HASH_METADATA {
            self.source.skip(8)?;
        }
        let count = self.length()?;
        let mut expires = false;
        self.scratch.seen.clear();
        for _ in 0..count {
            if !self.valkey {
                expires |= self.length()? != 0;
            }
            self.member(count, "Duplicate hash fields detected")?;
            self.skip_string()?;
            if self.valkey {
                expires |= i64::from_le_bytes(self.source.array()?) != -1;
            }
        }
        if expires {
            self.found.field_expires += 1;
        }
        Ok(count)
    }

    /// What a module wrote: pairs of an opcode and a value, up to the opcode zero.
    pub(super) fn module_value(&mut self, module: &str) -> Result<(), Fault> {
        loop {
            let opcode = self.length()?;
            let (what, read) = match opcode {
                0 => return Ok(()),
                1 | 2 => ("integer", self.length().map(drop)),
                3 => ("float", self.source.skip(4)),
                4 => ("double", self.source.skip(8)),
                5 => ("string", self.skip_string()),
                _ => {
                    return corrupt(format!(
                        "Error reading value from module {module}: unknown opcode {opcode}"
                    ))
                }
            };
            match read {
                Err(Fault::End) => {
                    return corrupt(format!("Error reading {what} from module {module} value"))
                }
                other => other?,
            }
        }
    }

    fn stream(&mut self, type_: u8) -> Result<u64, Fault> {
        let listpacks = ending(self.length(), "Stream listpacks len loading failed.")?;
        for _ in 0..listpacks {
            let id = ending(
                self.string_front(17),
                "Stream master ID loading failed: invalid encoding or I/O error.",
            )?;
            if id.1 != 16 {
                return corrupt("Stream node key entry is not the size of a stream ID");
            }
            let blob = ending(self.blob(), "Stream listpacks loading failed.")?;
            let Some(bytes) = blob else { continue };
            match Listpack::from_bytes_checked(bytes) {
                Ok(listpack) if listpack.is_empty() => {
                    return corrupt("Empty listpack inside stream")
                }
                Ok(_) => {}
                Err(_) => return corrupt("Stream listpack integrity check failed."),
            }
        }
        let metadata = "Stream object metadata loading failed.";
        let elements = ending(self.length(), metadata)?;
        let rest = if type_ == TYPE_STREAM { 2 } else { 7 };
        for _ in 0..rest {
            ending(self.length(), metadata)?;
        }
        for _ in 0..ending(self.length(), "Stream cgroup count loading failed.")? {
            self.stream_group(type_)?;
        }
        Ok(elements)
    }

    fn stream_group(&mut self, type_: u8) -> Result<(), Fault> {
        ending(
            self.skip_string(),
            "Error reading the consumer group name from Stream",
        )?;
        for _ in 0..2 {
            ending(self.length(), "Stream cgroup ID loading failed.")?;
        }
        if type_ != TYPE_STREAM {
            ending(self.length(), "Stream cgroup offset loading failed.")?;
        }
        for _ in 0..ending(self.length(), "Stream PEL size loading failed.")? {
            ending(self.source.skip(16), "Stream PEL ID loading failed.")?;
            ending(
                self.source.skip(8).and_then(|()| self.length()),
                "Stream PEL NACK loading failed.",
            )?;
        }
        for _ in 0..ending(self.length(), "Stream consumers num loading failed.")? {
            ending(
                self.skip_string(),
                "Error reading the consumer name from Stream group.",
            )?;
            ending(self.source.skip(8), "Stream short read reading seen time.")?;
            if type_ == TYPE_STREAM_3 {
                ending(
                    self.source.skip(8),
                    "Stream short read reading active time.",
                )?;
            }
            let pending = ending(self.length(), "Stream consumer PEL num loading failed.")?;
            let ids = pending.saturating_mul(16);
            ending(
                self.source.skip(ids),
                "Stream short read reading PEL streamID.",
            )?;
        }
        Ok(())
    }
}

/// An early end has a text of its own here.
fn ending<T>(read: Result<T, Fault>, reason: &str) -> Result<T, Fault> {
    read.map_err(|fault| match fault {
        Fault::End => Fault::Corrupt(reason.into()),
        other => other,
    })
}

fn wide_hash(hashers: &(RandomState, RandomState), bytes: &[u8]) -> u128 {
    u128::from(hashers.0.hash_one(bytes)) << 64 | u128::from(hashers.1.hash_one(bytes))
}

fn blob_name(type_: u8) -> &'static str {
    match type_ {
        TYPE_HASH_ZIPMAP => "Zipmap",
        TYPE_LIST_ZIPLIST => "List ziplist",
        TYPE_SET_INTSET => "Intset",
        TYPE_ZSET_ZIPLIST => "Zset ziplist",
        TYPE_HASH_ZIPLIST => "Hash ziplist",
        TYPE_ZSET_LISTPACK => "Zset listpack",
        TYPE_SET_LISTPACK => "Set listpack",
        _ => "Hash listpack",
    }
}

/// How many elements a blob has, if it is what loading takes for intact.
fn blob_elements(type_: u8, bytes: Vec<u8>) -> Option<u64> {
    let limits = Limits::default();
    let ziplist = |bytes| Ziplist::from_bytes_checked(bytes).ok();
    let pairs = |bytes| ziplist(bytes).filter(|list| list.len() % 2 == 0);
    Some(match type_ {
        TYPE_SET_INTSET => IntSet::from_bytes_checked(bytes).ok()?.len(),
        TYPE_LIST_ZIPLIST => ziplist(bytes)?.len(),
        TYPE_ZSET_ZIPLIST => pairs(bytes)?.len() / 2,
        TYPE_HASH_ZIPLIST => pairs(bytes)?.len() / 2,
        TYPE_HASH_ZIPMAP => Zipmap::from_bytes_checked(bytes).ok()?.len(),
        _ => {
            let listpack = Listpack::from_bytes_checked(bytes).ok()?;
            if listpack.is_empty() {
                return Some(0);
            }
            match type_ {
                TYPE_SET_LISTPACK => Set::from_listpack(listpack, &limits).ok()?.len(),
                TYPE_ZSET_LISTPACK => SortedSet::from_listpack(listpack, &limits).ok()?.len(),
                _ => Hash::from_listpack(listpack, &limits).ok()?.len(),
            }
        }
    } as u64)
}
