//! From a stream to pieces: runs of whole records, found by skipping lengths and without building anything.
//!
//! One scanner feeds several parsers: a [`Piece`] carries its bytes, its place in the file and the database that its
//! first key belongs to. The scanner also keeps what is not in a piece: magic, AUX fields, checksum.
//! Invariant: memory holds what was read, never what a length claims; a record larger than a piece is read in doubling steps.

use super::cursor::Cursor;
use super::decode::{skip_value, Dialect};
use super::format::*;
use super::window::Window;
use super::{RdbError, RdbErrorKind};
use crate::crc::Jones;
use keyspace::{DbIndex, UnixMillis};
use std::borrow::Cow;
use std::io::Read;

/// What stands before a key, or between keys.
pub enum Op<'a> {
    /// A key of this type follows.
    Type(u8),
    SelectDb(DbIndex),
    /// Keys, and keys that expire, in the database selected.
    ResizeDb(u64, u64),
    ExpireAt(UnixMillis),
    Aux(Cow<'a, [u8]>, Cow<'a, [u8]>),
    /// The code of a library.
    Function(Cow<'a, [u8]>),
    /// Read, and of no use here: access times and frequencies, sizes of slots.
    Ignored,
    Eof,
}

/// Reads a type byte, or an opcode with all that belongs to it.
pub fn op<'a>(cursor: &mut Cursor<'a>) -> Result<Op<'a>, RdbError> {
    cursor.reading = "an opcode";
    let code = cursor.byte()?;
    if code < OP_FIRST {
        return Ok(Op::Type(code));
    }
    Ok(match code {
        OP_EOF => Op::Eof,
        OP_EXPIRE_MS => Op::ExpireAt(UnixMillis(i64::from_le_bytes(cursor.array()?))),
        OP_EXPIRE => Op::ExpireAt(UnixMillis(
            i64::from(i32::from_le_bytes(cursor.array()?)).saturating_mul(1000),
        )),
        OP_SELECT_DB => {
            cursor.reading = "a database number";
            let db = cursor.length()?;
            Op::SelectDb(DbIndex(
                u32::try_from(db).map_err(|_| cursor.malformed("a database number too high"))?,
            ))
        }
        OP_RESIZE_DB => {
            cursor.reading = "the size of a database";
            Op::ResizeDb(cursor.length()?, cursor.length()?)
        }
        OP_AUX => {
            cursor.reading = "an AUX field";
            Op::Aux(cursor.bytes()?, cursor.bytes()?)
        }
        OP_FREQ => cursor.byte().map(|_| Op::Ignored)?,
        OP_IDLE => cursor.length().map(|_| Op::Ignored)?,
        OP_SLOT_INFO => {
            cursor.reading = "the size of a slot";
            (0..3).try_for_each(|_| cursor.length().map(|_| ()))?;
            Op::Ignored
        }
        OP_FUNCTION_2 => {
            cursor.reading = "a function library";
            Op::Function(cursor.bytes()?)
        }
        OP_MODULE_AUX => {
            cursor.reading = "data of a module";
            let (name, version) = module_name(cursor.length()?);
            return Err(cursor.unsupported(format!(
                "data of module \"{name}\", encoding version {version}"
            )));
        }
        _ => return Err(cursor.unsupported(format!("opcode {code:#04x}"))),
    })
}

/// Reads magic and version.
pub fn magic(bytes: &[u8]) -> Result<(Dialect, u32), RdbError> {
    let error = |kind| RdbError {
        offset: 0,
        reading: "the magic",
        key: None,
        kind,
    };
    let not_rdb = || {
        error(RdbErrorKind::Version(format!(
            "\"{}\": this is not an RDB",
            bytes.escape_ascii()
        )))
    };
    if bytes.len() < MAGIC_BYTES {
        return Err(error(RdbErrorKind::UnexpectedEnd {
            missing: (MAGIC_BYTES - bytes.len()) as u64,
        }));
    }
    let (dialect, digits) = match bytes {
        _ if bytes.starts_with(b"REDIS") => (Dialect::Redis, &bytes[5..MAGIC_BYTES]),
        _ if bytes.starts_with(b"VALKEY") => (Dialect::Valkey, &bytes[6..MAGIC_BYTES]),
        _ => return Err(not_rdb()),
    };
    let version = std::str::from_utf8(digits)
        .ok()
        .filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
    let version: u32 = version
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(not_rdb)?;
    let known = match dialect {
        Dialect::Redis => (VERSION_READ_MIN..=VERSION_READ_MAX).contains(&version),
        Dialect::Valkey => (VERSION_VALKEY_MIN..=VERSION_VALKEY_MAX).contains(&version),
    };
    if !known {
        return Err(error(RdbErrorKind::Version(format!(
            "{version} of {dialect:?}"
        ))));
    }
    Ok((dialect, version))
}

/// Goes past one record: opcodes do not end it, a key does, and so does the end of the file. Tells about the opcodes.
fn skip_record(
    cursor: &mut Cursor<'_>,
    dialect: Dialect,
    seen: &mut dyn FnMut(Op<'_>),
) -> Result<bool, RdbError> {
    match op(cursor)? {
        Op::Type(type_) => {
            cursor.reading = "a key";
            let mut at_key = cursor.clone();
            cursor.skip_string()?;
            skip_value(cursor, type_, dialect).map_err(|e| with_key(e, &mut at_key))?;
            seen(Op::Type(type_));
            Ok(true)
        }
        Op::Eof => Ok(false),
        other => {
            seen(other);
            Ok(true)
        }
    }
}

/// Names the key in an error, `at_key` being a cursor in front of it.
pub fn with_key(mut error: RdbError, at_key: &mut Cursor<'_>) -> RdbError {
    const SHOWN_BYTES_MAX: usize = 128;
    if let Ok(key) = at_key.bytes() {
        error.key = Some(
            key[..key.len().min(SHOWN_BYTES_MAX)]
                .escape_ascii()
                .to_string(),
        );
    }
    error
}

/// Whole records.
pub struct Piece {
    pub bytes: Vec<u8>,
    /// Where they begin in the file.
    pub offset: u64,
    /// The database selected there.
    pub db: DbIndex,
}

/// What a scan comes to.
pub enum Next {
    Piece(Piece),
    /// A record longer than was asked for, in this database: to be read through the scanner's [`Window`], up to the end
    /// of its key.
    Large(DbIndex),
    /// The trailer has been read too.
    End,
}

/// A piece is handed out when it has at least this many bytes. Small under the fuzzer, whose inputs are small too.
pub const PIECE_BYTES: usize = if cfg!(fuzzing) { 64 } else { 2 << 20 };
const READ_BYTES_MIN: usize = if cfg!(fuzzing) { 50 } else { 1 << 20 };

/// See the module's head.
pub struct Scanner<R> {
    source: R,
    /// How many bytes the source has in all, where that is known.
    source_len: Option<u64>,
    /// Bytes read and not handed out; they begin at `offset`.
    buffer: Vec<u8>,
    offset: u64,
    checksum: Jones,
    checksum_found: Option<u64>,
    db: DbIndex,
    /// What was incomplete last is a key with its value, and no opcode.
    at_key: bool,
    ended: bool,
    source_ended: bool,
    pub dialect: Dialect,
    pub version: u32,
    /// AUX fields other than padding, in order.
    pub aux: Vec<(Vec<u8>, Vec<u8>)>,
    /// Codes of libraries, since somebody took them.
    pub functions: Vec<Vec<u8>>,
    pub keys: u64,
}

pub(super) const EXPIRY_ALONE: &str = "an expiry that belongs to no key";

/// AUX fields beyond these are not kept.
const AUX_COUNT_MAX: usize = 64;
const AUX_BYTES_MAX: usize = 1024;

impl<R: Read> Scanner<R> {
    /// Reads the magic. `source_len`: the bytes of the source from its current position on.
    pub fn new(source: R, source_len: Option<u64>) -> Result<Self, RdbError> {
        let mut scanner = Scanner {
            source,
            source_len,
            buffer: Vec::new(),
            offset: 0,
            checksum: Jones::default(),
            checksum_found: None,
            db: DbIndex(0),
            at_key: false,
            ended: false,
            source_ended: false,
            dialect: Dialect::Redis,
            version: 0,
            aux: Vec::new(),
            functions: Vec::new(),
            keys: 0,
        };
        while scanner.buffer.len() < MAGIC_BYTES && !scanner.source_ended {
            scanner.read_more(READ_BYTES_MIN)?;
        }
        let head = &scanner.buffer[..scanner.buffer.len().min(MAGIC_BYTES)];
        (scanner.dialect, scanner.version) = magic(head)?;
        scanner.drop_front(MAGIC_BYTES);
        Ok(scanner)
    }

    fn read_more(&mut self, want: usize) -> Result<(), RdbError> {
        let from = self.buffer.len();
        self.buffer.resize(from + want, 0);
        let mut filled = from;
        while filled < self.buffer.len() {
            match self.source.read(&mut self.buffer[filled..]) {
                Ok(0) => {
                    self.source_ended = true;
                    break;
                }
                Ok(n) => filled += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => {
                    let kind = RdbErrorKind::Io(e);
                    return Err(RdbError {
                        offset: self.offset + filled as u64,
                        reading: "the file",
                        key: None,
                        kind,
                    });
                }
            }
        }
        self.buffer.truncate(filled);
        Ok(())
    }

    /// Forgets bytes at the front of the buffer, which the checksum covers.
    fn drop_front(&mut self, len: usize) {
        self.checksum.update(&self.buffer[..len]);
        self.buffer.drain(..len);
        self.offset += len as u64;
    }

    /// The next run of records, or `None` behind the last one, when the trailer has been read too.
    pub fn next_piece(&mut self) -> Result<Option<Piece>, RdbError> {
        match self.next(usize::MAX)? {
            Next::Piece(piece) => Ok(Some(piece)),
            Next::Large(_) | Next::End => Ok(None),
        }
    }

    /// As `next_piece`, but stops at records of which `large_bytes` have been read in vain.
    pub fn next(&mut self, large_bytes: usize) -> Result<Next, RdbError> {
        if self.ended {
            return Ok(Next::End);
        }
        let db = self.db;
        let mut whole = 0;
        loop {
            let complete = self.skip_records(&mut whole)?;
            if whole >= PIECE_BYTES || (self.ended && whole > 0) {
                break;
            }
            if self.ended {
                self.read_trailer()?;
                return Ok(Next::End);
            }
            let long = self.buffer.len() - whole >= large_bytes;
            if long && complete.is_err() && self.at_key {
                if whole > 0 {
                    break;
                }
                return Ok(Next::Large(db));
            }
            self.require(complete, whole)?;
        }
        self.checksum.update(&self.buffer[..whole]);
        let rest = self.buffer.split_off(whole);
        let piece = Piece {
            bytes: std::mem::replace(&mut self.buffer, rest),
            offset: self.offset,
            db,
        };
        self.offset += whole as u64;
        if self.ended {
            self.read_trailer()?;
        }
        Ok(Next::Piece(piece))
    }

    /// Skips from `whole` on what is complete in the buffer, up to a piece. Err(missing) as Ok value: more is needed.
    fn skip_records(&mut self, whole: &mut usize) -> Result<Result<(), RdbError>, RdbError> {
        let mut cursor = Cursor::new(&self.buffer[*whole..], self.offset + *whole as u64);
        let (aux, keys, db) = (&mut self.aux, &mut self.keys, &mut self.db);
        let functions = &mut self.functions;
        let mut seen = |op: Op<'_>| match op {
            Op::Type(_) => *keys += 1,
            Op::SelectDb(index) => *db = index,
            Op::Aux(key, value) => {
                let padding = key.as_ref() == AUX_PADDING || key.as_ref() == AUX_CHUNKS;
                if !padding && aux.len() < AUX_COUNT_MAX && key.len() + value.len() <= AUX_BYTES_MAX
                {
                    aux.push((key.into_owned(), value.into_owned()));
                }
            }
            Op::Function(code) => functions.push(code.into_owned()),
            Op::ResizeDb(..) | Op::ExpireAt(_) | Op::Ignored | Op::Eof => {}
        };
        // An expiry belongs to the next key, whatever stands between: no piece ends there.
        let mut expiry_open = false;
        let mut done = *whole;
        let start = *whole;
        let result = loop {
            if done >= PIECE_BYTES {
                break Ok(Ok(()));
            }
            let mut ahead = cursor.clone();
            let first = self.buffer.get(start + ahead.at()).copied();
            match skip_record(&mut ahead, self.dialect, &mut seen) {
                Ok(true) => {
                    match first {
                        Some(OP_EXPIRE | OP_EXPIRE_MS) => expiry_open = true,
                        Some(code) if code < OP_FIRST => expiry_open = false,
                        _ => {}
                    }
                    cursor = ahead;
                    if !expiry_open {
                        done = start + cursor.at();
                    }
                }
                Ok(false) if expiry_open => break Err(cursor.malformed(EXPIRY_ALONE)),
                Ok(false) => {
                    self.ended = true;
                    break Ok(Ok(()));
                }
                Err(e) if matches!(e.kind, RdbErrorKind::UnexpectedEnd { .. }) => {
                    self.at_key = first.is_some_and(|code| code < OP_FIRST);
                    break Ok(Err(e));
                }
                Err(e) => break Err(e),
            }
        };
        *whole = done;
        result
    }

    /// Reads on after an incomplete record, or says that there is no more to read.
    fn require(&mut self, complete: Result<(), RdbError>, whole: usize) -> Result<(), RdbError> {
        let Err(error) = complete else { return Ok(()) };
        let RdbErrorKind::UnexpectedEnd { missing } = error.kind else {
            return Err(error);
        };
        let read_so_far = self.offset + self.buffer.len() as u64;
        let left = self.source_len.map(|len| len.saturating_sub(read_so_far));
        if self.source_ended || left.is_some_and(|left| missing > left) {
            return Err(error);
        }
        let incomplete = self.buffer.len() - whole;
        self.read_more(incomplete.max(READ_BYTES_MIN))
    }

    fn read_trailer(&mut self) -> Result<(), RdbError> {
        let wanted = 1 + if self.version >= 5 { CHECKSUM_BYTES } else { 0 };
        while self.buffer.len() < wanted && !self.source_ended {
            self.read_more(wanted - self.buffer.len())?;
        }
        if self.buffer.len() < wanted {
            let kind = RdbErrorKind::UnexpectedEnd {
                missing: (wanted - self.buffer.len()) as u64,
            };
            let offset = self.offset + self.buffer.len() as u64;
            return Err(RdbError {
                offset,
                reading: "the checksum",
                key: None,
                kind,
            });
        }
        self.drop_front(1);
        if wanted > 1 {
            let bytes: [u8; CHECKSUM_BYTES] = self.buffer[..CHECKSUM_BYTES]
                .try_into()
                .expect("eight bytes");
            self.checksum_found = Some(u64::from_le_bytes(bytes));
            self.buffer.drain(..CHECKSUM_BYTES);
            self.offset += CHECKSUM_BYTES as u64;
        }
        Ok(())
    }

    /// Behind the last piece: whether the checksum is right. Zero, and none at all, pass.
    pub fn check_checksum(&self) -> Result<(), RdbError> {
        let expected = self.checksum.value();
        match self.checksum_found {
            Some(found) if found != 0 && found != expected => Err(RdbError {
                offset: self.offset - CHECKSUM_BYTES as u64,
                reading: "the checksum",
                key: None,
                kind: RdbErrorKind::Checksum { expected, found },
            }),
            _ => Ok(()),
        }
    }

    /// How far the scan has come in the file; behind the last piece, the length of the RDB.
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

impl<R: Read> Window for Scanner<R> {
    fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    fn offset(&self) -> u64 {
        self.offset
    }

    fn beyond(&self) -> u64 {
        let read_so_far = self.offset + self.buffer.len() as u64;
        match self.source_len {
            _ if self.source_ended => 0,
            Some(len) => len.saturating_sub(read_so_far),
            None => u64::MAX,
        }
    }

    fn consume(&mut self, len: usize) {
        self.drop_front(len);
    }

    fn more(&mut self) -> Result<bool, RdbError> {
        let before = self.buffer.len();
        if !self.source_ended {
            self.read_more(before.max(READ_BYTES_MIN))?;
        }
        Ok(self.buffer.len() > before)
    }
}
