//! Keys too large to be held serialised: read through a window that moves over the file.
//!
//! Small things are parsed as everywhere else, over a longer window when it turns out too short. Collections that are
//! stored item by item are built as the window passes over them, and long strings are read into their place, so that
//! beside the value itself only a window of a few MB, or one item, is in memory.

use super::cursor::Cursor;
use super::decode;
use super::format::*;
use super::items::Items;
use super::load::Parser;
use super::scan::{op, Op, EXPIRY_ALONE};
use super::{RdbError, RdbErrorKind};
use crate::chunks::Written as Chunk;
use crate::crc::Jones;
use crate::storage::{read_full_at, StorageFile};
use datatypes::Value;
use keyspace::{DbIndex, NewValue, UnixMillis};

/// Records from this length on are read through a window. Small under the fuzzer, whose inputs are small too.
pub const LARGE_BYTES: usize = if cfg!(fuzzing) { 150 } else { 8 << 20 };
const READ_BYTES: usize = if cfg!(fuzzing) { 60 } else { 2 << 20 };

/// Bytes that have been read and not used yet, of more that follow.
pub trait Window {
    fn bytes(&self) -> &[u8];
    /// Where those begin in the file.
    fn offset(&self) -> u64;
    /// How many bytes may follow those.
    fn beyond(&self) -> u64;
    /// Forgets bytes at the front.
    fn consume(&mut self, len: usize);
    /// Reads on, as much again as there is; false when nothing follows.
    fn more(&mut self) -> Result<bool, RdbError>;
}

/// An extent of a file of ours: one record, and perhaps padding.
pub struct Extent<'a> {
    file: &'a dyn StorageFile,
    chunk: Chunk,
    buffer: Vec<u8>,
    front: usize,
    /// Where the next read begins.
    at: u64,
    digest: Jones,
}

impl<'a> Extent<'a> {
    pub fn new(file: &'a dyn StorageFile, chunk: &Chunk) -> Self {
        Extent {
            file,
            chunk: *chunk,
            buffer: Vec::new(),
            front: 0,
            at: chunk.offset,
            digest: Jones::default(),
        }
    }

    /// Whether the whole extent has the checksum it should; reads what has not been read.
    pub fn check(mut self) -> Result<(), RdbError> {
        loop {
            self.consume(self.bytes().len());
            if !self.more()? {
                break;
            }
        }
        let (expected, found) = (self.chunk.crc, self.digest.value());
        match found == expected {
            true => Ok(()),
            false => Err(self.error(RdbErrorKind::Checksum { expected, found })),
        }
    }

    fn error(&self, kind: RdbErrorKind) -> RdbError {
        RdbError {
            offset: self.chunk.offset,
            reading: "a chunk",
            key: None,
            kind,
        }
    }
}

impl Window for Extent<'_> {
    fn bytes(&self) -> &[u8] {
        &self.buffer[self.front..]
    }

    fn offset(&self) -> u64 {
        self.at - self.bytes().len() as u64
    }

    fn beyond(&self) -> u64 {
        self.chunk.offset + self.chunk.len - self.at
    }

    fn consume(&mut self, len: usize) {
        self.front += len;
    }

    fn more(&mut self) -> Result<bool, RdbError> {
        self.buffer.drain(..self.front);
        self.front = 0;
        let from = self.buffer.len();
        let want = (from.max(READ_BYTES) as u64).min(self.beyond()) as usize;
        self.buffer.resize(from + want, 0);
        let got = read_full_at(self.file, &mut self.buffer[from..], self.at)
            .map_err(|e| self.error(RdbErrorKind::Io(e)))?;
        if got < want {
            let missing = (want - got) as u64;
            return Err(self.error(RdbErrorKind::UnexpectedEnd { missing }));
        }
        self.digest.update(&self.buffer[from..]);
        self.at += want as u64;
        Ok(want > 0)
    }
}

/// Reads on after something was incomplete, or passes the error on.
fn lengthen(window: &mut dyn Window, error: RdbError) -> Result<(), RdbError> {
    let RdbErrorKind::UnexpectedEnd { missing } = error.kind else {
        return Err(error);
    };
    match missing <= window.beyond() && window.more()? {
        true => Ok(()),
        false => Err(error),
    }
}

/// Parses what must be whole in memory, and goes past it.
fn parsed<T>(
    window: &mut dyn Window,
    parse: &mut dyn FnMut(&mut Cursor<'_>, u64) -> Result<T, RdbError>,
) -> Result<T, RdbError> {
    loop {
        let mut cursor = Cursor::new(window.bytes(), window.offset());
        match parse(&mut cursor, window.beyond()) {
            Ok(value) => {
                let len = cursor.at();
                window.consume(len);
                return Ok(value);
            }
            Err(error) => lengthen(window, error)?,
        }
    }
}

/// A string, read into its place if it is stored as it is.
fn string(window: &mut dyn Window) -> Result<NewValue<'static>, RdbError> {
    let len = parsed(window, &mut |cursor, beyond| {
        cursor.reading = decode::reading(TYPE_STRING);
        let len = cursor.plain_string_len()?;
        let there = (cursor.remaining() as u64).saturating_add(beyond);
        match len {
            Some(len) if len > there => {
                let missing = len - there;
                Err(cursor.error(RdbErrorKind::UnexpectedEnd { missing }))
            }
            _ => Ok(len.map(|len| len as usize)),
        }
    })?;
    let Some(len) = len else {
        return parsed(window, &mut |cursor, _| {
            cursor.reading = decode::reading(TYPE_STRING);
            Ok(NewValue::Owned(cursor.bytes()?.into_owned()))
        });
    };
    // A stream of unknown length may claim anything.
    let known = window.beyond() < u64::MAX;
    let mut bytes = Vec::with_capacity(if known { len } else { 0 });
    loop {
        let now = window.bytes().len().min(len - bytes.len());
        bytes.extend_from_slice(&window.bytes()[..now]);
        window.consume(now);
        if bytes.len() == len {
            return Ok(NewValue::Owned(bytes));
        }
        if !window.more()? {
            let missing = (len - bytes.len()) as u64;
            let cursor = Cursor::new(window.bytes(), window.offset());
            return Err(cursor.error(RdbErrorKind::UnexpectedEnd { missing }));
        }
    }
}

impl Parser<'_> {
    /// Builds the keys of the records in the window: of one, or of all up to its end.
    pub(super) fn through(
        &mut self,
        window: &mut dyn Window,
        mut db: Option<DbIndex>,
        one: bool,
    ) -> Result<(), RdbError> {
        let mut expire_at = None;
        while !window.bytes().is_empty() || window.more()? {
            let next = parsed(window, &mut |cursor, _| {
                Ok(match op(cursor)? {
                    Op::Type(type_) => Op::Type(type_),
                    Op::SelectDb(index) => Op::SelectDb(index),
                    Op::ExpireAt(at) => Op::ExpireAt(at),
                    Op::Eof => return Err(cursor.malformed("the end of the file inside a chunk")),
                    Op::ResizeDb(..) | Op::Aux(..) | Op::Function(_) | Op::Ignored => Op::Ignored,
                })
            })?;
            match next {
                Op::SelectDb(index) => db = Some(index),
                Op::ExpireAt(at) => expire_at = Some(at),
                Op::Type(type_) => {
                    self.large_key(window, type_, db, expire_at.take())?;
                    if one {
                        break;
                    }
                }
                _ => {}
            }
        }
        match expire_at {
            Some(_) => Err(Cursor::new(&[], window.offset()).malformed(EXPIRY_ALONE)),
            None => Ok(()),
        }
    }

    fn large_key(
        &mut self,
        window: &mut dyn Window,
        type_: u8,
        db: Option<DbIndex>,
        expire_at: Option<UnixMillis>,
    ) -> Result<(), RdbError> {
        const SHOWN_BYTES_MAX: usize = 128;
        let (db, key) = parsed(window, &mut |cursor, _| {
            cursor.reading = "a key";
            let db = self.checked_db(cursor, db)?;
            Ok((db, cursor.bytes()?.into_owned()))
        })?;
        let skips = self.is_expired(expire_at);
        let value = self
            .large_value(window, type_, skips)
            .map_err(|mut error| {
                let shown = &key[..key.len().min(SHOWN_BYTES_MAX)];
                error.key = Some(shown.escape_ascii().to_string());
                error
            })?;
        self.shared.progress.add(1, 0);
        if skips {
            self.stats.expired += 1;
            return Ok(());
        }
        let cursor = Cursor::new(&[], window.offset());
        self.deliver(&cursor, db, &key, expire_at, value)
    }

    /// `None`: an empty collection, or one that was passed over.
    fn large_value(
        &mut self,
        window: &mut dyn Window,
        type_: u8,
        skips: bool,
    ) -> Result<Option<NewValue<'static>>, RdbError> {
        let (limits, dialect) = (&self.shared.options.limits, self.shared.dialect);
        let items = parsed(window, &mut |cursor, beyond| {
            cursor.reading = decode::reading(type_);
            Items::begin(cursor, type_, dialect, limits, beyond)
        })?;
        if let Some(items) = items {
            let items = if skips { items.skipping() } else { items };
            let value = self.items(window, items, type_)?;
            return Ok((!skips && !value.is_empty()).then(|| NewValue::Object(Box::new(value))));
        }
        let from = window.offset();
        let value = match type_ {
            _ if skips => parsed(window, &mut |cursor, _| {
                decode::skip_value(cursor, type_, dialect).map(|()| None)
            })?,
            TYPE_STRING => Some(string(window)?),
            _ => parsed(window, &mut |cursor, _| {
                Ok(match decode::value(cursor, type_, dialect, limits)? {
                    Some(NewValue::Object(value)) => Some(NewValue::Object(value)),
                    None => None,
                    Some(_) => return Err(cursor.malformed("a collection that is none")),
                })
            })?,
        };
        self.shared.progress.add(0, window.offset() - from);
        Ok(value)
    }

    fn items(
        &mut self,
        window: &mut dyn Window,
        mut items: Items,
        type_: u8,
    ) -> Result<Value, RdbError> {
        let limits = &self.shared.options.limits;
        loop {
            let mut cursor = Cursor::new(window.bytes(), window.offset());
            cursor.reading = decode::reading(type_);
            let complete = items.read(&mut cursor, limits)?;
            let len = cursor.at();
            self.shared.progress.add(0, len as u64);
            match complete {
                Ok(()) => {
                    let value = items.finish(&cursor, limits)?;
                    window.consume(len);
                    return Ok(value);
                }
                Err(error) => {
                    window.consume(len);
                    lengthen(window, error)?;
                }
            }
        }
    }
}
