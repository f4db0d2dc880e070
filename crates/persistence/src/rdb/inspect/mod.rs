//! Inspecting an RDB without building its values: every byte is passed, in bounded memory, and what is found is counted.
//!
//! [`walk`] follows the outline of the file, [`value`] what belongs to a key, both over a [`source`]. A file of ours is read
//! by several threads, chunk by chunk after its index; any other, and one in which a thread met damage, from its
//! start to its end by one. Findings of chunks are merged in file order, so the result does not depend on the threads.
//! Every type of Redis and Valkey is known here, also those that this server cannot hold: these are counted apart.
//! Invariants: values are skipped through, not held (but for blobs up to [`HELD_BYTES_MAX`]); no byte leads to a panic.

mod source;
mod value;
mod walk;

pub use source::Fault;
pub use value::encoding_name;

use super::load::read_index;
use crate::chunks::Written as Chunk;
use crate::progress::Progress;
use crate::storage::{Open, Storage, StorageFile};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::sync::Mutex;
use walk::Walk;

/// Compact values (listpacks and the like) and compressed strings up to this length are verified from within.
pub const HELD_BYTES_MAX: u64 = 64 << 20;
/// Bytes of a key that are kept for reports.
const KEY_BYTES_SHOWN_MAX: usize = 1024;
/// Bytes of an AUX value that are kept.
const AUX_BYTES_MAX: usize = 1024;
/// Padding is left out of the events; what is left is bounded too.
const EVENTS_MAX: usize = 1 << 20;

#[derive(Clone, Debug)]
pub struct InspectOptions {
    pub threads: usize,
    /// Keys whose time is before this count as expired.
    pub now_unix_ms: i64,
    /// How many of the largest keys are named.
    pub largest_count: usize,
    /// An RDB that commands may follow, as in an append-only file of old: its end is found by reading it.
    pub preamble: bool,
    /// As `redis-check-rdb` does it: padding and repeated databases are told, and what Redis lets pass is let pass.
    pub as_redis: bool,
}

/// What the outline of the file says, in order, with the offset behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Aux {
        offset: u64,
        name: Vec<u8>,
        value: Vec<u8>,
    },
    SelectDb {
        offset: u64,
        db: u64,
    },
    Function {
        offset: u64,
        /// The first line of the library's code.
        title: Vec<u8>,
        bytes: u64,
    },
    ModuleAux {
        offset: u64,
        module: String,
    },
}

/// Keys counted together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub keys: u64,
    /// As they lie in the file, key and value and what belongs to them.
    pub bytes: u64,
    /// Elements of collections; of strings, none.
    pub elements: u64,
    pub expires: u64,
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.keys += other.keys;
        self.bytes += other.bytes;
        self.elements += other.elements;
        self.expires += other.expires;
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LargeKey {
    pub bytes: u64,
    pub db: u64,
    /// The first [`KEY_BYTES_SHOWN_MAX`] bytes of it.
    pub key: Vec<u8>,
    pub type_name: &'static str,
    pub elements: u64,
    pub offset: u64,
}

/// What was being read, in the words of `redis-check-rdb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    Start,
    ReadType,
    ReadExpire,
    ReadKey,
    ReadValue,
    Checksum,
    ReadLength,
    ReadAux,
    ReadModuleAux,
    ReadFunctions,
}

impl Doing {
    pub fn name(self) -> &'static str {
        match self {
            Doing::Start => "start",
            Doing::ReadType => "read-type",
            Doing::ReadExpire => "read-expire",
            Doing::ReadKey => "read-key",
            Doing::ReadValue => "read-object-value",
            Doing::Checksum => "check-sum",
            Doing::ReadLength => "read-len",
            Doing::ReadAux => "read-aux",
            Doing::ReadModuleAux => "read-module-aux",
            Doing::ReadFunctions => "read-functions",
        }
    }
}

/// Where a check ended, and why.
#[derive(Debug)]
pub struct Flaw {
    /// Behind the last thing that was read whole.
    pub offset: u64,
    pub doing: Doing,
    pub key: Option<Vec<u8>>,
    pub db: u64,
    /// The type byte read last, from the start of the file on zero, and none between keys.
    pub type_: Option<u8>,
    pub fault: Fault,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    #[default]
    NotReached,
    Right,
    Wrong {
        expected: u64,
        found: u64,
    },
    /// Written with `rdbchecksum no`.
    Disabled,
    /// Versions before 5 have none.
    None,
}

/// A chunk of a file of ours whose bytes do not match the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadChunk {
    pub offset: u64,
    pub len: u64,
    pub shard: u32,
    pub keys: u64,
    /// The databases and the first and last key in it, as far as it can be read.
    pub first_key: Option<Vec<u8>>,
    pub last_key: Option<Vec<u8>>,
}

/// What a check found. Keys are counted up to where it ended.
#[derive(Debug, Default)]
pub struct Findings {
    pub events: Vec<Event>,
    /// By the name of the type, as TYPE says it.
    pub types: BTreeMap<&'static str, Tally>,
    /// By encoding in the file.
    pub encodings: BTreeMap<u8, Tally>,
    pub dbs: BTreeMap<u64, Tally>,
    pub keys: u64,
    pub expires: u64,
    pub expired: u64,
    /// Hashes some of whose fields expire.
    pub field_expires: u64,
    /// Empty collections, which loading drops.
    pub empty: u64,
    pub functions: u64,
    pub module_aux: u64,
    pub padding_bytes: u64,
    pub largest: Vec<LargeKey>,
    /// What a Basalt server would refuse to load, and how often it occurs.
    pub unsupported: BTreeMap<String, u64>,
    /// Blobs too long to be verified from within.
    pub unverified: u64,
    pub flaw: Option<Flaw>,
    first_key: Option<Vec<u8>>,
    last_key: Option<Vec<u8>>,
}

impl Findings {
    /// Adds what was found behind it.
    fn absorb(&mut self, other: Findings, largest_count: usize) {
        for event in other.events {
            self.event(event);
        }
        for (name, tally) in &other.types {
            self.types.entry(name).or_default().add(tally);
        }
        for (&encoding, tally) in &other.encodings {
            self.encodings.entry(encoding).or_default().add(tally);
        }
        for (&db, tally) in &other.dbs {
            self.dbs.entry(db).or_default().add(tally);
        }
        for (what, count) in other.unsupported {
            *self.unsupported.entry(what).or_default() += count;
        }
        self.keys += other.keys;
        self.expires += other.expires;
        self.expired += other.expired;
        self.field_expires += other.field_expires;
        self.empty += other.empty;
        self.functions += other.functions;
        self.module_aux += other.module_aux;
        self.padding_bytes += other.padding_bytes;
        self.unverified += other.unverified;
        self.largest.extend(other.largest);
        self.keep_largest(largest_count);
        self.flaw = self.flaw.take().or(other.flaw);
    }

    fn event(&mut self, event: Event) {
        if self.events.len() < EVENTS_MAX {
            self.events.push(event);
        }
    }

    /// The largest first; equals in file order.
    fn keep_largest(&mut self, count: usize) {
        self.largest
            .sort_by_key(|key| (std::cmp::Reverse(key.bytes), key.offset));
        self.largest.truncate(count);
    }
}

#[derive(Debug, Default)]
pub struct RdbReport {
    pub file_len: u64,
    /// Behind the checksum; 0 if it was not reached.
    pub rdb_len: u64,
    /// As it stands at the start.
    pub version: u32,
    pub valkey: bool,
    /// Chunks of the index, for a file of ours.
    pub chunks: Option<usize>,
    pub shards: usize,
    pub bad_chunks: Vec<BadChunk>,
    pub checksum: Checksum,
    pub findings: Findings,
}

impl RdbReport {
    pub fn is_good(&self) -> bool {
        self.findings.flaw.is_none()
    }

    /// Bytes behind the end of the RDB, which servers do not look at.
    pub fn trailing(&self) -> u64 {
        match self.rdb_len {
            0 => 0,
            len => self.file_len - len,
        }
    }
}

/// Checks a file.
pub fn inspect_rdb(
    storage: &dyn Storage,
    path: &Path,
    options: &InspectOptions,
    progress: &Progress,
) -> std::io::Result<RdbReport> {
    let file = storage.open(path, Open::Read)?;
    let len = file.len()?;
    progress.bytes_total.fetch_add(len, Relaxed);
    let mut bad_chunks = Vec::new();
    if !options.preamble && options.threads > 1 {
        if let Some(index) = index_of(&*file, len) {
            let mut report = check_chunks(&*file, len, &index, options, progress);
            if report.is_good() && report.bad_chunks.is_empty() {
                return Ok(report);
            }
            // Damage is described by a walk from the start, which knows all that stands before it.
            bad_chunks = std::mem::take(&mut report.bad_chunks);
            progress.bytes_total.fetch_add(len, Relaxed);
        }
    }
    let mut report = check_from_start(&*file, len, options, progress);
    if bad_chunks.is_empty() && !report.is_good() {
        if let Some(index) = index_of(&*file, len) {
            progress.bytes_total.fetch_add(len, Relaxed);
            bad_chunks = check_chunks(&*file, len, &index, options, progress).bad_chunks;
        }
    }
    report.bad_chunks = bad_chunks;
    Ok(report)
}

/// The index, if there is one and it can be read: what cannot is found by the walk.
fn index_of(file: &dyn StorageFile, len: u64) -> Option<super::load::ChunkIndex> {
    read_index(file, len).ok().flatten()
}

fn check_from_start(
    file: &dyn StorageFile,
    len: u64,
    options: &InspectOptions,
    progress: &Progress,
) -> RdbReport {
    let mut walk = Walk::new(file, 0, len, options, progress);
    let mut report = RdbReport {
        file_len: len,
        ..RdbReport::default()
    };
    let ended = walk.head(&mut report).and_then(|()| walk.records(true));
    let ended = ended.and_then(|()| walk.trailer(report.version, &mut report.checksum));
    match ended {
        Ok(()) => report.rdb_len = walk.offset(),
        Err(fault) => walk.note(fault),
    }
    report.findings = walk.into_findings();
    report
}

/// Merges the findings of chunks in their order, whatever the order in which they come.
struct InOrder {
    next: usize,
    waiting: BTreeMap<usize, Findings>,
    merged: Findings,
    bad_chunks: Vec<BadChunk>,
}

fn check_chunks(
    file: &dyn StorageFile,
    len: u64,
    index: &super::load::ChunkIndex,
    options: &InspectOptions,
    progress: &Progress,
) -> RdbReport {
    let chunks = &index.chunks;
    let mut report = RdbReport {
        file_len: len,
        rdb_len: len,
        chunks: Some(chunks.len()),
        shards: chunks
            .iter()
            .map(|chunk| chunk.shard)
            .collect::<std::collections::BTreeSet<_>>()
            .len(),
        ..RdbReport::default()
    };
    let footer = index.footer_offset();
    let head_end = chunks.first().map_or(footer, |chunk| chunk.offset);
    let mut head = Walk::new(file, 0, head_end, options, progress);
    let ended = head.head(&mut report).and_then(|()| head.records(false));
    if let Err(fault) = ended {
        head.note(fault);
    }
    let merged = InOrder {
        next: 0,
        waiting: BTreeMap::new(),
        merged: head.into_findings(),
        bad_chunks: Vec::new(),
    };
    let merged = walk_chunks(file, chunks, merged, options, progress);
    report.findings = merged.merged;
    report.bad_chunks = merged.bad_chunks;
    report.bad_chunks.sort_by_key(|chunk| chunk.offset);
    if report.findings.flaw.is_none() {
        let mut walk = Walk::new(file, footer, len, options, progress);
        let ended = walk.records(true);
        let ended = ended.and_then(|()| walk.found_checksum());
        let (_, found, expected) = index.checksum();
        report.checksum = match ended {
            Err(fault) => {
                walk.note(fault);
                Checksum::NotReached
            }
            Ok(()) if found == 0 => Checksum::Disabled,
            Ok(()) if found != expected => Checksum::Wrong { expected, found },
            Ok(()) => Checksum::Right,
        };
        let wrong = matches!(report.checksum, Checksum::Wrong { .. });
        if wrong || !report.bad_chunks.is_empty() {
            walk.note_checksum();
        }
        report
            .findings
            .absorb(walk.into_findings(), options.largest_count);
    }
    report
}

/// Each chunk by whichever thread is free.
fn walk_chunks(
    file: &dyn StorageFile,
    chunks: &[Chunk],
    merged: InOrder,
    options: &InspectOptions,
    progress: &Progress,
) -> InOrder {
    let merged = Mutex::new(merged);
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let work = || {
        let mut walk = Walk::new(file, 0, 0, options, progress);
        loop {
            let i = next.fetch_add(1, Relaxed);
            let (Some(chunk), false) = (chunks.get(i), failed.load(Relaxed)) else {
                return;
            };
            walk.restart(chunk.offset, chunk.offset + chunk.len);
            if let Err(fault) = walk.records(false) {
                walk.note(fault);
            }
            let crc = walk.checksum_of_rest();
            let found = walk.take_findings();
            let mut merged = merged.lock().unwrap_or_else(|e| e.into_inner());
            if crc != Some(chunk.crc) {
                merged.bad_chunks.push(BadChunk {
                    offset: chunk.offset,
                    len: chunk.len,
                    shard: chunk.shard,
                    keys: chunk.keys,
                    first_key: found.first_key.clone(),
                    last_key: found.last_key.clone(),
                });
            } else if found.flaw.is_some() {
                failed.store(true, Relaxed);
            }
            merged.waiting.insert(i, found);
            merged.advance(options.largest_count);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..options.threads.min(chunks.len()) {
            scope.spawn(work);
        }
        work();
    });
    merged.into_inner().unwrap_or_else(|e| e.into_inner())
}

impl InOrder {
    fn advance(&mut self, largest_count: usize) {
        while let Some(found) = self.waiting.remove(&self.next) {
            self.merged.absorb(found, largest_count);
            self.next += 1;
        }
    }
}
