//! A whole keyspace into a file, by one writer thread per core: as RDB, or as the commands that rebuild it.
//!
//! ```text
//! magic | AUX ... | SELECTDB, RESIZEDB ... | chunk | chunk | ... | AUX chunk index | AUX pointer to it | EOF | checksum
//! chunk: SELECTDB | record | record | ... | AUX padding
//! ```
//! Runs in a forked child, or in the server while it holds all batons. It takes shards one after another from a counter,
//! so that a thread writes a shard whole. It reads no locale, writes no log, and frees nothing that it did not allocate.

use super::encode::{Encoder, Sink, Stop};
use super::format::*;
use super::load::put_index;
use crate::chunks::{ChunkFile, ChunkSink, ChunkWriter, Padding, Written};
use crate::progress::Progress;
use crate::read_back::{read_back, Part};
use crate::storage::{write_all_at, Open, Storage};
use crate::{commands, crc};
use keyspace::{DbIndex, UnixMillis, ValueRef};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::*};
use std::sync::Mutex;

/// What [`SnapshotSource::for_each_key`] calls for each key.
pub type OnKey<'a> =
    dyn FnMut(DbIndex, &[u8], Option<UnixMillis>, ValueRef<'_>) -> io::Result<()> + 'a;

/// A keyspace that does not change while it is written.
pub trait SnapshotSource: Sync {
    fn shard_count(&self) -> usize;
    /// All keys of a shard, best one database after another. An error of `on_key` ends it and is returned.
    fn for_each_key(&self, shard: usize, on_key: &mut OnKey<'_>) -> io::Result<()>;
    /// The codes of libraries.
    fn functions(&self) -> Vec<&[u8]> {
        Vec::new()
    }
    /// Database, keys, keys that expire; databases without keys may be left out.
    fn db_sizes(&self) -> Vec<(DbIndex, u64, u64)>;
}

#[derive(Clone, Copy, Debug)]
pub struct SnapshotOptions {
    /// `rdbcompression`.
    pub compress: bool,
    /// `rdbchecksum`.
    pub checksum: bool,
    /// Writer threads, at least one.
    pub threads: usize,
    /// Past the page cache where that is possible.
    pub direct_io: bool,
    /// What goes through the page cache is sent to the disk piece by piece.
    pub incremental_sync: bool,
    /// Read the whole file back before it is put in force.
    pub verify: bool,
    /// The snapshot is the base of an append-only file.
    pub aof_base: bool,
    /// For the AUX field `ctime`.
    pub unix_seconds: i64,
    /// For the AUX field `used-mem`.
    pub used_memory: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotStats {
    pub keys: u64,
    pub bytes: u64,
}

impl Default for SnapshotOptions {
    fn default() -> Self {
        SnapshotOptions {
            compress: true,
            checksum: true,
            threads: 1,
            direct_io: true,
            incremental_sync: true,
            verify: false,
            aof_base: false,
            unix_seconds: 0,
            used_memory: 0,
        }
    }
}

/// Why there is no snapshot, and at which step that was found.
#[derive(Debug)]
pub struct SnapshotError {
    pub path: PathBuf,
    pub doing: &'static str,
    /// How many bytes had been written, or read back, before.
    pub bytes_done: u64,
    pub error: io::Error,
}

impl std::fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (doing, path) = (self.doing, self.path.display());
        match self.bytes_done {
            0 => write!(f, "{doing} {path}: {}", self.error),
            bytes => write!(f, "{doing} {path} after {bytes} bytes: {}", self.error),
        }
    }
}

impl std::error::Error for SnapshotError {}

/// The version of Redis that our AUX field names: the one whose behaviour is followed.
pub const REDIS_VERSION: &str = "7.4.0";

struct AuxPadding;

impl Padding for AuxPadding {
    fn padding_for(&self, len: u64) -> u64 {
        padding_for(len, crate::chunks::BLOCK_BYTES)
    }

    fn put(&self, out: &mut Vec<u8>, bytes: u64) {
        put_padding(out, bytes);
    }
}

/// Writes `temp`, makes it durable and renames it to `target`. On an error `temp` is removed and `target` is as before,
/// unless the last step failed: then it is the new file, but that may not survive the operating system.
pub fn write_rdb(
    storage: &dyn Storage,
    temp: &Path,
    target: &Path,
    source: &dyn SnapshotSource,
    options: &SnapshotOptions,
    progress: &Progress,
) -> Result<SnapshotStats, SnapshotError> {
    replace(storage, temp, target, options, progress, |step| {
        let head = rdb_head(source, options);
        let (mut file, mut head) = ChunkFile::create(
            storage,
            temp,
            options.direct_io,
            &head,
            &AuxPadding,
            progress,
        )
        .map_err(step.failed("create"))?;
        file.set_write_back(options.incremental_sync);
        let (mut chunks, version) =
            write_chunks(&file, source, options, false).map_err(step.failed("write"))?;
        chunks.sort_unstable_by_key(|chunk| chunk.offset);
        let end = file.end();
        drop(file);
        head[..MAGIC_BYTES].copy_from_slice(&magic_of(version));
        let mut footer = Vec::new();
        put_index(&mut footer, end, &chunks);
        let mut checksum = crc::jones(&head);
        for chunk in &chunks {
            checksum = crc::jones_combine(checksum, chunk.crc, chunk.len);
        }
        checksum = crc::jones_combine(checksum, crc::jones(&footer), footer.len() as u64);
        let checksum = if options.checksum { checksum } else { 0 };
        footer.extend_from_slice(&checksum.to_le_bytes());
        // Not with the flag of the chunks: the end of the file is no whole block.
        let written = storage
            .open(temp, Open::Write)
            .and_then(|file| write_all_at(&*file, &footer, end).map(|()| file))
            .and_then(|file| match version {
                VERSION_WRITTEN => Ok(file),
                _ => write_all_at(&*file, &magic_of(version), 0).map(|()| file),
            });
        let file = written.map_err(step.failed("write the end of"))?;
        file.datasync().map_err(step.failed("fdatasync"))?;
        Ok(Content {
            parts: parts(&head, &chunks, &footer),
            keys: chunks.iter().map(|chunk| chunk.keys).sum(),
        })
    })
}

/// As [`write_rdb`], but as commands: the base of an append-only file without RDB preamble.
pub fn write_commands(
    storage: &dyn Storage,
    temp: &Path,
    target: &Path,
    source: &dyn SnapshotSource,
    options: &SnapshotOptions,
    progress: &Progress,
) -> Result<SnapshotStats, SnapshotError> {
    replace(storage, temp, target, options, progress, |step| {
        let padding = &commands::CommentPadding;
        let (mut file, head) = ChunkFile::create(
            storage,
            temp,
            options.direct_io,
            &commands::head(source.functions()),
            padding,
            progress,
        )
        .map_err(step.failed("create"))?;
        file.set_write_back(options.incremental_sync);
        let (mut chunks, _) =
            write_chunks(&file, source, options, true).map_err(step.failed("write"))?;
        chunks.sort_unstable_by_key(|chunk| chunk.offset);
        drop(file);
        let synced = storage
            .open(temp, Open::Write)
            .and_then(|file| file.datasync());
        synced.map_err(step.failed("fdatasync"))?;
        Ok(Content {
            parts: parts(&head, &chunks, &[]),
            keys: chunks.iter().map(|chunk| chunk.keys).sum(),
        })
    })
}

/// What a temporary file holds.
struct Content {
    parts: Vec<Part>,
    keys: u64,
}

fn parts(head: &[u8], chunks: &[Written], footer: &[u8]) -> Vec<Part> {
    let part = |bytes: &[u8]| Part {
        len: bytes.len() as u64,
        crc: crc::jones(bytes),
    };
    let chunks = chunks.iter().map(|chunk| Part {
        len: chunk.len,
        crc: chunk.crc,
    });
    std::iter::once(part(head))
        .chain(chunks)
        .chain([part(footer)])
        .collect()
}

/// Names the steps that work on the temporary file.
struct Step<'a> {
    temp: &'a Path,
    progress: &'a Progress,
}

impl Step<'_> {
    fn failed(&self, doing: &'static str) -> impl FnOnce(io::Error) -> SnapshotError + '_ {
        move |error| SnapshotError {
            path: self.temp.to_owned(),
            doing,
            bytes_done: self.progress.bytes(),
            error,
        }
    }
}

fn replace(
    storage: &dyn Storage,
    temp: &Path,
    target: &Path,
    options: &SnapshotOptions,
    progress: &Progress,
    write: impl FnOnce(&Step<'_>) -> Result<Content, SnapshotError>,
) -> Result<SnapshotStats, SnapshotError> {
    let step = Step { temp, progress };
    let moving = |path: &Path, doing| {
        let path = path.to_owned();
        move |error| SnapshotError {
            path,
            doing,
            bytes_done: 0,
            error,
        }
    };
    let written = write(&step).and_then(|content| {
        if options.verify {
            read_back(storage, temp, content.parts.iter().copied(), progress)
                .map_err(step.failed("read back"))?;
        }
        storage
            .rename(temp, target)
            .map_err(moving(target, "rename to"))?;
        Ok(SnapshotStats {
            keys: content.keys,
            bytes: content.parts.iter().map(|part| part.len).sum(),
        })
    });
    let stats = written.inspect_err(|_| {
        // The error that led here is the one to report.
        let _ = storage.remove(temp);
    })?;
    let dir = target.parent().unwrap_or(Path::new("."));
    storage.sync_dir(dir).map_err(moving(dir, "fsync"))?;
    Ok(stats)
}

/// What a file of this version begins with.
fn magic_of(version: u32) -> [u8; MAGIC_BYTES] {
    let mut magic = *b"REDIS0000";
    for (at, divisor) in (5..).zip([1000, 100, 10, 1]) {
        magic[at] += (version / divisor % 10) as u8;
    }
    magic
}

fn rdb_head(source: &dyn SnapshotSource, options: &SnapshotOptions) -> Vec<u8> {
    let mut head = magic_of(VERSION_WRITTEN).to_vec();
    let mut aux = |key: &[u8], value: &[u8]| {
        head.push(OP_AUX);
        put_raw_string(&mut head, key);
        let number = datatypes::number::parse_i64(value).and_then(encoded_int);
        match number {
            Some((bytes, n)) => head.extend_from_slice(&bytes[..n]),
            None => put_raw_string(&mut head, value),
        }
    };
    aux(b"redis-ver", REDIS_VERSION.as_bytes());
    aux(
        b"redis-bits",
        if cfg!(target_pointer_width = "64") {
            b"64"
        } else {
            b"32"
        },
    );
    aux(b"ctime", options.unix_seconds.to_string().as_bytes());
    aux(b"used-mem", options.used_memory.to_string().as_bytes());
    aux(b"aof-base", if options.aof_base { b"1" } else { b"0" });
    for code in source.functions() {
        head.push(OP_FUNCTION_2);
        put_raw_string(&mut head, code);
    }
    for (db, keys, expiring) in source.db_sizes() {
        if keys > 0 {
            put_select(&mut head, db);
            head.push(OP_RESIZE_DB);
            put_length(&mut head, keys);
            put_length(&mut head, expiring);
        }
    }
    head
}

fn put_select(out: &mut Vec<u8>, db: DbIndex) {
    out.push(OP_SELECT_DB);
    put_length(out, u64::from(db.0));
}

/// Runs the writer threads; the calling thread is one of them. Returns the chunks and the version that they need.
fn write_chunks(
    file: &ChunkFile<'_>,
    source: &dyn SnapshotSource,
    options: &SnapshotOptions,
    as_commands: bool,
) -> io::Result<(Vec<Written>, u32)> {
    let next_shard = AtomicUsize::new(0);
    let version = AtomicU32::new(VERSION_WRITTEN);
    let outcome: Mutex<io::Result<Vec<Written>>> = Mutex::new(Ok(Vec::new()));
    let work = || {
        let mut encoder = Encoder::new(options.compress);
        let result = write_shards(file, source, &mut encoder, as_commands, &next_shard);
        version.fetch_max(encoder.version, SeqCst);
        if result.is_err() {
            file.fail();
        }
        let mut outcome = outcome
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        match (&mut *outcome, result) {
            (Ok(all), Ok(written)) => all.extend(written),
            // The first error is the cause of the others.
            (Err(_), _) => {}
            (slot, Err(e)) => *slot = Err(e),
        }
    };
    std::thread::scope(|scope| -> io::Result<()> {
        for _ in 1..options.threads.clamp(1, source.shard_count().max(1)) {
            std::thread::Builder::new().spawn_scoped(scope, work)?;
        }
        work();
        Ok(())
    })?;
    let outcome = outcome
        .into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    Ok((outcome?, version.into_inner()))
}

fn write_shards(
    file: &ChunkFile<'_>,
    source: &dyn SnapshotSource,
    encoder: &mut Encoder,
    as_commands: bool,
    next_shard: &AtomicUsize,
) -> io::Result<Vec<Written>> {
    let mut writer = ChunkWriter::new(file);
    loop {
        let shard = next_shard.fetch_add(1, SeqCst);
        if shard >= source.shard_count() {
            writer.flush()?;
            return Ok(writer.written);
        }
        writer.set_shard(shard as u32)?;
        let mut db_selected = None;
        source.for_each_key(shard, &mut |db, key, expire_at, value| {
            let reselect = db_selected != Some(db);
            db_selected = Some(db);
            writer.record(1, &mut |sink, fresh| {
                if as_commands {
                    return commands::put_key(
                        sink,
                        (fresh || reselect).then_some(db),
                        key,
                        expire_at,
                        value,
                    );
                }
                if fresh || reselect {
                    put_select_into(sink, db)?;
                }
                encoder.record(sink, key, expire_at, value)
            })
        })?;
    }
}

fn put_select_into(sink: &mut ChunkSink<'_>, db: DbIndex) -> Result<(), Stop> {
    let (bytes, n) = length_bytes(u64::from(db.0));
    sink.put(&[OP_SELECT_DB])?;
    sink.put(&bytes[..n])
}
