//! Loading RDB files with several parser threads.
//!
//! A file of ours carries an index of its chunks: each parser reads the next chunk, checks its CRC and builds its keys.
//! Any other file is scanned by the calling thread, which hands pieces to the parsers. Either way each parser has a
//! receiver of its own, and keys arrive in no order.

use super::cursor::Cursor;
use super::decode::{self, Dialect};
use super::format::*;
use super::scan::{magic, op, with_key, Next, Op, Piece, Scanner, EXPIRY_ALONE};
use super::window::{Extent, LARGE_BYTES};
use super::{RdbError, RdbErrorKind};
use crate::chunks::Written as Chunk;
use crate::crc;
use crate::progress::Progress;
use crate::storage::{read_full_at, FileReader, Open, Storage, StorageFile};
use datatypes::Limits;
use keyspace::{DbIndex, NewValue, UnixMillis};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::Mutex;

#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Parser threads, at least one.
    pub threads: usize,
    pub limits: Limits,
    /// Keys whose time is before this are not loaded, but counted, if `skip_expired`.
    pub now: UnixMillis,
    /// Set for a snapshot that is loaded alone by a primary; not for one that commands follow.
    pub skip_expired: bool,
    /// A key of a database from this number on is an error.
    pub databases: u32,
    pub verify_checksum: bool,
}

/// What a client may send as a key. A longer one could not be held, nor be written to a client.
const KEY_BYTES_MAX: usize = 512 << 20;

/// A key as it was found.
pub struct LoadedKey<'a> {
    pub db: DbIndex,
    pub key: &'a [u8],
    pub expire_at: Option<UnixMillis>,
    pub value: NewValue<'a>,
}

/// Takes the keys of one parser thread.
pub trait KeyReceiver {
    /// An error ends the load: a key twice, say.
    fn key(&mut self, key: LoadedKey<'_>) -> Result<(), String>;
    /// Called once behind the last key, unless the load has failed.
    fn finish(&mut self) -> Result<(), String>;
}

/// Makes the receivers.
pub trait LoadSink: Sync {
    /// A hint, before keys come: about so many of them for this database, so many of which expire. Claimed by the file.
    fn expect(&self, _db: DbIndex, _keys: u64, _expiring: u64) {}
    /// The code of a library, in the order of the file. An error ends the load.
    fn function(&self, _code: &[u8]) -> Result<(), String> {
        Ok(())
    }
    /// Called on the parser's thread.
    fn key_receiver(&self) -> Box<dyn KeyReceiver + '_>;
}

#[derive(Clone, Debug, Default)]
pub struct LoadStats {
    pub keys: u64,
    /// Not loaded, because their time had passed.
    pub expired: u64,
    /// Not loaded, because they were empty collections.
    pub empty: u64,
    /// The length of the RDB.
    pub bytes: u64,
    pub version: u32,
    pub aux: Vec<(Vec<u8>, Vec<u8>)>,
    /// Chunk boundaries came from the file's own index.
    pub indexed: bool,
}

#[derive(Debug)]
pub enum RdbLoadError {
    Io {
        path: PathBuf,
        error: std::io::Error,
    },
    Rdb {
        path: PathBuf,
        error: RdbError,
    },
}

impl std::fmt::Display for RdbLoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RdbLoadError::Io { path, error } => write!(f, "{}: {error}", path.display()),
            RdbLoadError::Rdb { path, error } => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for RdbLoadError {}

/// Loads a file. It must end behind its checksum.
pub fn load_rdb(
    storage: &dyn Storage,
    path: &Path,
    options: &LoadOptions,
    sink: &dyn LoadSink,
    progress: &Progress,
) -> Result<LoadStats, RdbLoadError> {
    let io = |error| RdbLoadError::Io {
        path: path.to_owned(),
        error,
    };
    let file = storage.open(path, Open::Read).map_err(io)?;
    let len = file.len().map_err(io)?;
    progress.bytes_total.fetch_add(len, Relaxed);
    let result = match read_index(&*file, len).map_err(io)? {
        Some(index) => load_indexed(&*file, &index, options, sink, progress),
        None => load_stream(
            FileReader::new(file, 0, len),
            Some(len),
            options,
            sink,
            progress,
        ),
    };
    result.map_err(|error| RdbLoadError::Rdb {
        path: path.to_owned(),
        error,
    })
}

/// Loads from a stream, which is read up to the end of the RDB and perhaps further; `LoadStats::bytes` tells where
/// the RDB ended. `len`: bytes in the stream, where known.
pub fn load_stream(
    source: impl Read,
    len: Option<u64>,
    options: &LoadOptions,
    sink: &dyn LoadSink,
    progress: &Progress,
) -> Result<LoadStats, RdbError> {
    let mut scanner = Scanner::new(source, len)?;
    let shared = Parsing::new(options, sink, progress, scanner.dialect);
    if options.threads <= 1 {
        let mut parser = shared.parser();
        loop {
            let next = scanner.next(LARGE_BYTES)?;
            progress.note_aux(&scanner.aux);
            let at = scanner.offset();
            take_functions(&mut scanner.functions, at, sink)?;
            match next {
                Next::Piece(piece) => parser.piece(&piece.bytes, piece.offset, Some(piece.db))?,
                Next::Large(db) => parser.large(&mut scanner, db)?,
                Next::End => break,
            }
        }
        parser.finish()?;
    } else {
        scan_and_parse(&mut scanner, &shared)?;
    }
    if options.verify_checksum {
        scanner.check_checksum()?;
    }
    let mut stats = shared.into_stats()?;
    stats.bytes = scanner.offset();
    stats.version = scanner.version;
    stats.aux = scanner.aux;
    Ok(stats)
}

/// Hands over codes of libraries that were found in front of an offset.
fn take_functions(
    codes: &mut Vec<Vec<u8>>,
    offset: u64,
    sink: &dyn LoadSink,
) -> Result<(), RdbError> {
    for code in codes.drain(..) {
        sink.function(&code).map_err(|reason| RdbError {
            offset,
            reading: "a function library",
            key: None,
            kind: RdbErrorKind::Malformed(reason),
        })?;
    }
    Ok(())
}

fn scan_and_parse<R: Read>(scanner: &mut Scanner<R>, shared: &Parsing<'_>) -> Result<(), RdbError> {
    let threads = shared.options.threads;
    let (sender, receiver) = crossbeam_channel::bounded::<Piece>(threads * 2);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let receiver = receiver.clone();
            scope.spawn(move || {
                let mut parser = shared.parser();
                let parsed = receiver.iter().try_for_each(|piece| {
                    if shared.failed.load(Relaxed) {
                        return Ok(());
                    }
                    parser.piece(&piece.bytes, piece.offset, Some(piece.db))
                });
                shared.note(parsed.and_then(|()| parser.finish()));
            });
        }
        drop(receiver);
        // For what is too large to be handed over.
        let mut parser = shared.parser();
        let scanned = scan_pieces(scanner, shared, &sender, &mut parser);
        if scanned.is_err() {
            shared.failed.store(true, Relaxed);
        } else {
            shared.note(parser.finish());
        }
        // The parsers end when no piece can come any more.
        drop(sender);
        scanned
    })
}

fn scan_pieces<R: Read>(
    scanner: &mut Scanner<R>,
    shared: &Parsing<'_>,
    sender: &crossbeam_channel::Sender<Piece>,
    parser: &mut Parser<'_>,
) -> Result<(), RdbError> {
    while !shared.failed.load(Relaxed) {
        let next = scanner.next(LARGE_BYTES)?;
        shared.progress.note_aux(&scanner.aux);
        let at = scanner.offset();
        take_functions(&mut scanner.functions, at, shared.sink)?;
        match next {
            Next::Piece(piece) => {
                // Without receivers, a parser has failed and says why.
                if sender.send(piece).is_err() {
                    break;
                }
            }
            Next::Large(db) => parser.large(scanner, db)?,
            Next::End => break,
        }
    }
    Ok(())
}

/// What the parsers of one load share.
pub(super) struct Parsing<'a> {
    pub(super) options: &'a LoadOptions,
    sink: &'a dyn LoadSink,
    pub(super) progress: &'a Progress,
    pub(super) dialect: Dialect,
    failed: AtomicBool,
    outcome: Mutex<(LoadStats, Option<RdbError>)>,
}

impl<'a> Parsing<'a> {
    fn new(
        options: &'a LoadOptions,
        sink: &'a dyn LoadSink,
        progress: &'a Progress,
        dialect: Dialect,
    ) -> Self {
        let outcome = Mutex::new((LoadStats::default(), None));
        Parsing {
            options,
            sink,
            progress,
            dialect,
            failed: AtomicBool::new(false),
            outcome,
        }
    }

    fn parser(&self) -> Parser<'_> {
        Parser {
            shared: self,
            receiver: self.sink.key_receiver(),
            stats: LoadStats::default(),
        }
    }

    /// Keeps the error that is nearest to the start of the file.
    fn note(&self, result: Result<(), RdbError>) {
        let Err(error) = result else { return };
        self.failed.store(true, Relaxed);
        let mut outcome = self
            .outcome
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if outcome
            .1
            .as_ref()
            .is_none_or(|known| error.offset < known.offset)
        {
            outcome.1 = Some(error);
        }
    }

    fn into_stats(self) -> Result<LoadStats, RdbError> {
        match self
            .outcome
            .into_inner()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
        {
            (_, Some(error)) => Err(error),
            (stats, None) => Ok(stats),
        }
    }
}

pub(super) struct Parser<'a> {
    pub(super) shared: &'a Parsing<'a>,
    receiver: Box<dyn KeyReceiver + 'a>,
    pub(super) stats: LoadStats,
}

impl Parser<'_> {
    /// Builds the keys of whole records. `db`: the one selected before them; a chunk selects its own, so that a file is
    /// the same with its index and without.
    fn piece(
        &mut self,
        bytes: &[u8],
        offset: u64,
        mut db: Option<DbIndex>,
    ) -> Result<(), RdbError> {
        let options = self.shared.options;
        let mut cursor = Cursor::new(bytes, offset);
        let mut expire_at = None;
        let keys_before = self.stats.keys;
        while !cursor.is_at_end() {
            match op(&mut cursor)? {
                Op::SelectDb(index) => db = Some(index),
                Op::ExpireAt(at) => expire_at = Some(at),
                Op::ResizeDb(keys, expiring) => {
                    if let Some(db) = db.filter(|db| db.0 < options.databases) {
                        self.shared.sink.expect(db, keys, expiring);
                    }
                }
                Op::Aux(..) | Op::Function(_) | Op::Ignored => {}
                Op::Eof => return Err(cursor.malformed("the end of the file inside a chunk")),
                Op::Type(type_) => {
                    let mut at_key = cursor.clone();
                    self.key(&mut cursor, type_, db, expire_at.take())
                        .map_err(|e| with_key(e, &mut at_key))?;
                }
            }
        }
        if expire_at.is_some() {
            return Err(cursor.malformed(EXPIRY_ALONE));
        }
        self.shared
            .progress
            .add(self.stats.keys - keys_before, bytes.len() as u64);
        Ok(())
    }

    fn key(
        &mut self,
        cursor: &mut Cursor<'_>,
        type_: u8,
        db: Option<DbIndex>,
        expire_at: Option<UnixMillis>,
    ) -> Result<(), RdbError> {
        cursor.reading = "a key";
        let db = self.checked_db(cursor, db)?;
        let key = cursor.bytes()?;
        if self.is_expired(expire_at) {
            self.stats.expired += 1;
            return decode::skip_value(cursor, type_, self.shared.dialect);
        }
        let limits = &self.shared.options.limits;
        let value = decode::value(cursor, type_, self.shared.dialect, limits)?;
        self.deliver(cursor, db, &key, expire_at, value)
    }

    pub(super) fn checked_db(
        &self,
        cursor: &Cursor<'_>,
        db: Option<DbIndex>,
    ) -> Result<DbIndex, RdbError> {
        let databases = self.shared.options.databases;
        let db = db.ok_or_else(|| cursor.malformed("a key of no database in a chunk"))?;
        if db.0 < databases {
            return Ok(db);
        }
        let reason = format!("database {} of a server with {databases}", db.0);
        Err(cursor.error(RdbErrorKind::Unsupported(reason)))
    }

    pub(super) fn is_expired(&self, expire_at: Option<UnixMillis>) -> bool {
        let options = self.shared.options;
        options.skip_expired && expire_at.is_some_and(|at| at < options.now)
    }

    /// Hands a key over. `cursor`: behind it, for errors.
    pub(super) fn deliver(
        &mut self,
        cursor: &Cursor<'_>,
        db: DbIndex,
        key: &[u8],
        expire_at: Option<UnixMillis>,
        value: Option<NewValue<'_>>,
    ) -> Result<(), RdbError> {
        let Some(value) = value else {
            self.stats.empty += 1;
            return Ok(());
        };
        if key.len() > KEY_BYTES_MAX {
            return Err(cursor.unsupported(format!("a key of {} bytes", key.len())));
        }
        self.stats.keys += 1;
        let received = self.receiver.key(LoadedKey {
            db,
            key,
            expire_at,
            value,
        });
        received.map_err(|reason| RdbError {
            reading: "what was read",
            ..cursor.error(RdbErrorKind::Malformed(reason))
        })
    }

    /// Builds the one key that a scanner found too large for a piece.
    fn large<R: Read>(&mut self, scanner: &mut Scanner<R>, db: DbIndex) -> Result<(), RdbError> {
        self.through(scanner, Some(db), true)?;
        scanner.keys += 1;
        Ok(())
    }

    /// Builds the keys of an extent.
    fn extent(&mut self, file: &dyn StorageFile, chunk: &Chunk) -> Result<(), RdbError> {
        let mut extent = Extent::new(file, chunk);
        let built = self.through(&mut extent, None, false);
        if self.shared.options.verify_checksum {
            // Damage is what explains anything else that was wrong.
            extent.check()?;
        }
        built
    }

    fn finish(mut self) -> Result<(), RdbError> {
        let ended = self.receiver.finish();
        let kind = RdbErrorKind::Malformed;
        ended.map_err(|e| RdbError {
            offset: u64::MAX,
            reading: "the end",
            key: None,
            kind: kind(e),
        })?;
        let mut outcome = self
            .shared
            .outcome
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        outcome.0.keys += self.stats.keys;
        outcome.0.expired += self.stats.expired;
        outcome.0.empty += self.stats.empty;
        Ok(())
    }
}

/// The index of a file of ours, checked against the file's length and checksum.
#[derive(Debug)]
pub struct ChunkIndex {
    pub chunks: Vec<Chunk>,
    dialect: Dialect,
    version: u32,
    /// All before the first chunk.
    head: Vec<u8>,
    file_len: u64,
    /// Offset, found and expected value of the whole file's checksum.
    checksum: (u64, u64, u64),
}

impl ChunkIndex {
    /// Where the index itself begins: behind the last chunk.
    pub fn footer_offset(&self) -> u64 {
        match self.chunks.last() {
            Some(last) => last.offset + last.len,
            None => self.head.len() as u64,
        }
    }

    /// Where the whole file's checksum lies, what it is, and what the index makes it.
    pub fn checksum(&self) -> (u64, u64, u64) {
        self.checksum
    }
}

/// Bytes of a chunk in the index, behind its version byte.
const CHUNK_ENTRY_BYTES: usize = 40;
const INDEX_VERSION: u8 = 1;
/// Digits of the offset and of the length in [`AUX_INDEX`].
const POINTER_DIGITS: usize = 16;
/// The AUX record that points to the index: opcode, key, value.
const POINTER_BYTES: usize = 1 + 1 + AUX_INDEX.len() + 1 + 2 * POINTER_DIGITS;
const HEAD_BYTES_MAX: u64 = 1 << 20;

/// Appends the index, the pointer to it and the end of the file, but for the checksum. `offset`: where this goes.
pub(super) fn put_index(out: &mut Vec<u8>, offset: u64, chunks: &[Chunk]) {
    // A leading zero keeps tools that print AUX fields quiet.
    let mut value = Vec::with_capacity(2 + chunks.len() * CHUNK_ENTRY_BYTES);
    value.extend_from_slice(&[0, INDEX_VERSION]);
    for chunk in chunks {
        for number in [
            chunk.offset,
            chunk.len,
            chunk.keys,
            chunk.crc,
            u64::from(chunk.shard),
        ] {
            value.extend_from_slice(&number.to_le_bytes());
        }
    }
    let from = out.len();
    put_aux(out, AUX_CHUNKS, &value);
    let pointer = format!("{offset:016x}{:016x}", out.len() - from);
    put_aux(out, AUX_INDEX, pointer.as_bytes());
    out.push(OP_EOF);
}

/// Reads the index at the end of a file, if there is one that fits the file.
pub fn read_index(file: &dyn StorageFile, len: u64) -> std::io::Result<Option<ChunkIndex>> {
    let tail_len = (POINTER_BYTES + 1 + CHECKSUM_BYTES) as u64;
    if len < MAGIC_BYTES as u64 + tail_len {
        return Ok(None);
    }
    let mut tail = vec![0; tail_len as usize];
    if read_full_at(file, &mut tail, len - tail_len)? < tail.len() {
        return Ok(None);
    }
    let Some((offset, index_len)) = parse_pointer(&tail) else {
        return Ok(None);
    };
    if offset.checked_add(index_len) != Some(len - tail_len) {
        return Ok(None);
    }
    let mut footer = vec![0; index_len as usize];
    if read_full_at(file, &mut footer, offset)? < footer.len() {
        return Ok(None);
    }
    let Some(chunks) = parse_chunks(&footer, offset) else {
        return Ok(None);
    };
    let head_len = chunks.first().map_or(offset, |chunk| chunk.offset);
    if !(MAGIC_BYTES as u64..=HEAD_BYTES_MAX).contains(&head_len) {
        return Ok(None);
    }
    let mut head = vec![0; head_len as usize];
    if read_full_at(file, &mut head, 0)? < head.len() {
        return Ok(None);
    }
    let Ok((dialect, version)) = magic(&head) else {
        return Ok(None);
    };
    footer.extend_from_slice(&tail[..tail.len() - CHECKSUM_BYTES]);
    let mut expected = crc::jones(&head);
    for chunk in &chunks {
        expected = crc::jones_combine(expected, chunk.crc, chunk.len);
    }
    expected = crc::jones_combine(expected, crc::jones(&footer), footer.len() as u64);
    let found: [u8; 8] = tail[tail.len() - CHECKSUM_BYTES..]
        .try_into()
        .expect("eight bytes");
    let checksum = (
        len - CHECKSUM_BYTES as u64,
        u64::from_le_bytes(found),
        expected,
    );
    Ok(Some(ChunkIndex {
        chunks,
        dialect,
        version,
        head,
        file_len: len,
        checksum,
    }))
}

fn parse_pointer(tail: &[u8]) -> Option<(u64, u64)> {
    let mut cursor = Cursor::new(&tail[..POINTER_BYTES], 0);
    let Op::Aux(key, value) = op(&mut cursor).ok()? else {
        return None;
    };
    let well_formed = key.as_ref() == AUX_INDEX && value.len() == 2 * POINTER_DIGITS;
    if !well_formed || !cursor.is_at_end() || tail[POINTER_BYTES] != OP_EOF {
        return None;
    }
    let text = std::str::from_utf8(&value).ok()?;
    let number = |digits: &str| u64::from_str_radix(digits, 16).ok();
    Some((
        number(&text[..POINTER_DIGITS])?,
        number(&text[POINTER_DIGITS..])?,
    ))
}

/// The chunks, if they follow one another without a gap up to `end`.
fn parse_chunks(footer: &[u8], end: u64) -> Option<Vec<Chunk>> {
    let mut cursor = Cursor::new(footer, 0);
    let Op::Aux(key, value) = op(&mut cursor).ok()? else {
        return None;
    };
    let entries = value.strip_prefix(&[0, INDEX_VERSION])?;
    if key.as_ref() != AUX_CHUNKS || entries.len() % CHUNK_ENTRY_BYTES != 0 || !cursor.is_at_end() {
        return None;
    }
    let mut chunks = Vec::with_capacity(entries.len() / CHUNK_ENTRY_BYTES);
    for entry in entries.chunks_exact(CHUNK_ENTRY_BYTES) {
        let number =
            |i: usize| u64::from_le_bytes(entry[i * 8..i * 8 + 8].try_into().expect("eight bytes"));
        let (offset, len, keys, crc) = (number(0), number(1), number(2), number(3));
        chunks.push(Chunk {
            offset,
            len,
            keys,
            crc,
            shard: u32::try_from(number(4)).ok()?,
        });
    }
    let mut at = chunks.first().map_or(end, |chunk| chunk.offset);
    for chunk in &chunks {
        if chunk.offset != at || chunk.len == 0 {
            return None;
        }
        at = at.checked_add(chunk.len)?;
    }
    (at == end).then_some(chunks)
}

fn load_indexed(
    file: &dyn StorageFile,
    index: &ChunkIndex,
    options: &LoadOptions,
    sink: &dyn LoadSink,
    progress: &Progress,
) -> Result<LoadStats, RdbError> {
    let (offset, found, expected) = index.checksum;
    if options.verify_checksum && found != 0 && found != expected {
        let kind = RdbErrorKind::Checksum { expected, found };
        return Err(RdbError {
            offset,
            reading: "the checksum",
            key: None,
            kind,
        });
    }
    let mut aux = Vec::new();
    read_head(index, options, sink, &mut aux)?;
    progress.note_aux(&aux);
    let shared = Parsing::new(options, sink, progress, index.dialect);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut parser = shared.parser();
        let mut buffer = Vec::new();
        while let Some(chunk) = index.chunks.get(next.fetch_add(1, Relaxed)) {
            if shared.failed.load(Relaxed) {
                return Ok(());
            }
            if chunk.len >= LARGE_BYTES as u64 {
                parser.extent(file, chunk)?;
                continue;
            }
            read_chunk(file, chunk, options, &mut buffer)?;
            parser.piece(&buffer[..chunk.len as usize], chunk.offset, None)?;
        }
        parser.finish()
    };
    std::thread::scope(|scope| {
        for _ in 1..options.threads.max(1) {
            scope.spawn(|| shared.note(work()));
        }
        shared.note(work());
    });
    let mut stats = shared.into_stats()?;
    (stats.bytes, stats.version, stats.aux, stats.indexed) =
        (index.file_len, index.version, aux, true);
    Ok(stats)
}

fn read_head(
    index: &ChunkIndex,
    options: &LoadOptions,
    sink: &dyn LoadSink,
    aux: &mut Vec<(Vec<u8>, Vec<u8>)>,
) -> Result<(), RdbError> {
    let mut cursor = Cursor::new(&index.head[MAGIC_BYTES..], MAGIC_BYTES as u64);
    let mut db = DbIndex(0);
    while !cursor.is_at_end() {
        match op(&mut cursor)? {
            Op::SelectDb(index) => db = index,
            Op::ResizeDb(keys, expiring) if db.0 < options.databases => {
                sink.expect(db, keys, expiring)
            }
            Op::Function(code) => {
                let at = cursor.at() as u64;
                take_functions(&mut vec![code.into_owned()], at, sink)?;
            }
            Op::Aux(key, _) if key.as_ref() == AUX_PADDING => {}
            Op::Aux(key, value) => aux.push((key.into_owned(), value.into_owned())),
            Op::ResizeDb(..) | Op::Ignored => {}
            Op::Type(_) | Op::ExpireAt(_) | Op::Eof => {
                return Err(cursor.malformed("a key before the first chunk"))
            }
        }
    }
    Ok(())
}

/// Fills the front of `buffer` with the chunk, which keeps its room for the next one.
fn read_chunk(
    file: &dyn StorageFile,
    chunk: &Chunk,
    options: &LoadOptions,
    buffer: &mut Vec<u8>,
) -> Result<(), RdbError> {
    let error = |kind| RdbError {
        offset: chunk.offset,
        reading: "a chunk",
        key: None,
        kind,
    };
    if buffer.len() < chunk.len as usize {
        buffer.resize(chunk.len as usize, 0);
    }
    let bytes = &mut buffer[..chunk.len as usize];
    let read = read_full_at(file, bytes, chunk.offset).map_err(|e| error(RdbErrorKind::Io(e)))?;
    if read < bytes.len() {
        return Err(error(RdbErrorKind::UnexpectedEnd {
            missing: chunk.len - read as u64,
        }));
    }
    if options.verify_checksum {
        let found = crc::jones(bytes);
        if found != chunk.crc {
            return Err(error(RdbErrorKind::Checksum {
                expected: chunk.crc,
                found,
            }));
        }
    }
    Ok(())
}
