//! From a manifest to a keyspace: how much of each file counts, and in which order all of it runs.
//!
//! The base first, then one generation after another; the segments of a generation at once, a thread each. Before its
//! first command runs, a whole generation is scanned. Only the newest may be flawed, and it is cut so that
//! - no segment reaches behind its first flaw,
//! - a transaction over several shards is in all of them or in none,
//! - after a crash of the operating system, all segments end with the same epoch (each may have lost a different tail),
//!   but nothing goes that was written under `appendfsync always`.

use super::annotation::{self, Annotation, LINE_LEN_MAX};
use super::manifest::{AofFile, FileKind, Manifest};
use super::replay::{replay, CommandReceiver};
use super::scan::{scan_segment, FlawKind, SegmentScan};
use super::segment::{SegmentEnd, SegmentWriter};
use super::{AofError, SegmentId, Stamp};
use crate::progress::Progress;
use crate::rdb::load::{load_rdb, LoadOptions, LoadSink, LoadStats, RdbLoadError};
use crate::storage::sync::SyncPolicy;
use crate::storage::{read_full_at, Open, Storage, StorageFile};
use keyspace::ShardIndex;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex};

/// Takes keys of the base and commands of the segments.
pub trait ReplaySink: LoadSink {
    /// Called on the thread that runs the file. Two files that run at once hold no key in common.
    fn command_receiver(&self) -> Box<dyn CommandReceiver + '_>;
}

#[derive(Clone, Debug)]
pub struct AofLoadOptions {
    /// For an RDB base; expired keys are kept, whatever it says, because commands follow. Its threads run segments too.
    pub rdb: LoadOptions,
    /// `aof-load-truncated`.
    pub load_truncated: bool,
    /// The operating system went down since the last write and nothing says that all was durable then.
    pub os_crashed: bool,
}

/// A tail that does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    pub path: PathBuf,
    /// What is left of the file.
    pub offset: u64,
    pub bytes_dropped: u64,
    pub reason: String,
}

/// A segment of the newest generation.
#[derive(Clone, Debug)]
pub struct RecoveredSegment {
    pub path: PathBuf,
    /// For [`super::segment::SegmentWriter::resume`].
    pub end: SegmentEnd,
}

#[derive(Clone, Debug, Default)]
pub struct AofLoaded {
    /// The manifest with the segments that it names identified. To be used from now on.
    pub manifest: Manifest,
    pub base: Option<LoadStats>,
    pub commands: u64,
    /// Empty if writers cannot go on in the newest files and a new generation must begin: they are, or end with, a stock
    /// server's, or lost their heads.
    pub segments: Vec<RecoveredSegment>,
    pub cuts: Vec<Cut>,
    /// The highest epoch seen.
    pub epoch_last: u64,
    /// The highest transaction id seen.
    pub transaction_last: u64,
    /// Bytes of all files that were loaded, the base apart.
    pub incr_bytes: u64,
    pub base_bytes: u64,
}

/// Loads what the manifest names.
pub fn load_aof(
    storage: &dyn Storage,
    dir: &Path,
    manifest: &Manifest,
    options: &AofLoadOptions,
    sink: &dyn ReplaySink,
    progress: &Progress,
) -> Result<AofLoaded, AofError> {
    let manifest = identified(storage, dir, manifest)?;
    let mut loaded = AofLoaded {
        manifest: manifest.clone(),
        ..AofLoaded::default()
    };
    let generations = manifest.generations();
    if let Some(base) = manifest.base() {
        let file = OpenFile::new(storage, dir, base)?;
        load_base(
            storage,
            &file,
            generations.is_empty(),
            options,
            sink,
            progress,
            &mut loaded,
        )?;
    }
    for (i, files) in generations.iter().enumerate() {
        let newest = i + 1 == generations.len();
        let files: Vec<OpenFile> = files
            .iter()
            .map(|file| OpenFile::new(storage, dir, file))
            .collect::<Result<_, _>>()?;
        for file in &files {
            progress.bytes_total.fetch_add(file.len, Relaxed);
        }
        let mut scans = scan_all(&files, options)?;
        let ends = decide_ends(&files, &scans, newest, options, &mut loaded.cuts)?;
        for ((file, scan), &end) in files.iter().zip(&mut scans).zip(&ends) {
            if end < scan.kept_len {
                // The positions at an earlier end are found by looking again.
                *scan = scan_segment(file.file.clone(), &file.path, 0, end)?;
            }
        }
        loaded.commands += replay_all(&files, &scans, &ends, options, sink, progress)?;
        note_generation(&scans, &ends, &mut loaded);
        if newest {
            repair(storage, &files, &scans, &ends, options, &mut loaded)?;
        }
    }
    Ok(loaded)
}

/// The manifest with what it does not say about segments: stock servers that write it anew drop the pairs they do not
/// know, but the heads of the files still say which segment each is.
fn identified(
    storage: &dyn Storage,
    dir: &Path,
    manifest: &Manifest,
) -> Result<Manifest, AofError> {
    let mut manifest = manifest.clone();
    for entry in &mut manifest.files {
        if entry.kind != FileKind::Incr || entry.segment.is_some() {
            continue;
        }
        let file = OpenFile::new(storage, dir, entry)?;
        let mut line = [0; LINE_LEN_MAX];
        let read = read_full_at(&*file.file, &mut line, 0);
        let read = read.map_err(AofError::io(&file.path, "read"))?;
        let end = line[..read].iter().position(|&b| b == b'\n');
        let text = line[..end.unwrap_or(0)]
            .strip_suffix(b"\r")
            .unwrap_or_default();
        // Whether the head matches its checksum is the scan's to say.
        if let Ok(Annotation::Head { id, .. }) = annotation::parse(text) {
            entry.segment = Some(id);
        }
    }
    Ok(manifest)
}

struct OpenFile {
    path: PathBuf,
    file: Arc<dyn StorageFile>,
    len: u64,
    segment: Option<SegmentId>,
}

impl OpenFile {
    fn new(storage: &dyn Storage, dir: &Path, entry: &AofFile) -> Result<OpenFile, AofError> {
        let path = dir.join(&entry.name);
        let file = match storage.open(&path, Open::Read) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(AofError::Missing { path })
            }
            Err(e) => return Err(AofError::io(&path, "open")(e)),
        };
        let len = file.len().map_err(AofError::io(&path, "measure"))?;
        Ok(OpenFile {
            path,
            file,
            len,
            segment: entry.segment,
        })
    }
}

fn load_base(
    storage: &dyn Storage,
    base: &OpenFile,
    newest: bool,
    options: &AofLoadOptions,
    sink: &dyn ReplaySink,
    progress: &Progress,
    loaded: &mut AofLoaded,
) -> Result<(), AofError> {
    loaded.base_bytes = base.len;
    let mut magic = [0; 6];
    let n = read_full_at(&*base.file, &mut magic, 0).map_err(AofError::io(&base.path, "read"))?;
    let mut from = 0;
    if magic[..n].starts_with(b"REDIS") || magic[..n].starts_with(b"VALKEY") {
        let rdb = LoadOptions {
            skip_expired: false,
            ..options.rdb.clone()
        };
        let stats = load_rdb(storage, &base.path, &rdb, sink, progress).map_err(|e| match e {
            RdbLoadError::Io { path, error } => AofError::Io {
                path,
                doing: "read",
                error,
            },
            RdbLoadError::Rdb { path, error } => AofError::Rdb { path, error },
        })?;
        from = stats.bytes;
        loaded.base = Some(stats);
    } else {
        progress.bytes_total.fetch_add(base.len, Relaxed);
    }
    if from == base.len {
        return Ok(());
    }
    let scan = scan_segment(base.file.clone(), &base.path, from, base.len)?;
    let end = end_of_flawed(base, &scan, newest, options, &mut loaded.cuts)?;
    let mut receiver = sink.command_receiver();
    loaded.commands += replay(
        base.file.clone(),
        &base.path,
        from,
        end,
        &mut *receiver,
        progress,
    )?;
    Ok(())
}

/// Runs `work` for each index, on as many threads as there are to use, and gives the results in order.
fn in_parallel<T: Send>(
    count: usize,
    threads: usize,
    work: impl Fn(usize) -> Result<T, AofError> + Sync,
) -> Result<Vec<T>, AofError> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, Result<T, AofError>)>> = Mutex::new(Vec::with_capacity(count));
    let run = || loop {
        let i = next.fetch_add(1, SeqCst);
        if i >= count {
            return;
        }
        let result = work(i);
        results
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .push((i, result));
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.clamp(1, count.max(1)) {
            scope.spawn(run);
        }
        run();
    });
    let mut results = results
        .into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    results.sort_unstable_by_key(|(i, _)| *i);
    results.into_iter().map(|(_, result)| result).collect()
}

fn scan_all(files: &[OpenFile], options: &AofLoadOptions) -> Result<Vec<SegmentScan>, AofError> {
    in_parallel(files.len(), options.rdb.threads, |i| {
        let file = &files[i];
        let scan = scan_segment(file.file.clone(), &file.path, 0, file.len)?;
        let damaged = |reason: String| {
            Err(AofError::Damaged {
                path: file.path.clone(),
                offset: 0,
                lsn: None,
                reason,
            })
        };
        match (scan.head, file.segment) {
            (Some((id, _)), Some(expected)) if id != expected => {
                damaged(format!("the head says {id:?}, the manifest {expected:?}"))
            }
            (None, Some(_)) if scan.kept_len > 0 => {
                damaged("the head of the segment is missing".into())
            }
            _ => Ok(scan),
        }
    })
}

/// The segments at once; behind them, one after another, what a stock server appended to them.
fn replay_all(
    files: &[OpenFile],
    scans: &[SegmentScan],
    ends: &[u64],
    options: &AofLoadOptions,
    sink: &dyn ReplaySink,
    progress: &Progress,
) -> Result<u64, AofError> {
    let run = |i: usize, from: u64, end: u64| {
        let mut receiver = sink.command_receiver();
        let file: &OpenFile = &files[i];
        replay(
            file.file.clone(),
            &file.path,
            from,
            end,
            &mut *receiver,
            progress,
        )
    };
    let own_end = |i: usize| {
        scans[i]
            .foreign_from
            .map_or(ends[i], |from| from.min(ends[i]))
    };
    let counts = in_parallel(files.len(), options.rdb.threads, |i| run(i, 0, own_end(i)))?;
    let mut count = counts.into_iter().sum();
    for (i, &end) in ends.iter().enumerate() {
        if own_end(i) < end {
            count += run(i, own_end(i), end)?;
        }
    }
    Ok(count)
}

/// Where a file ends, by its own flaw alone, or the error that it is.
fn end_of_flawed(
    file: &OpenFile,
    scan: &SegmentScan,
    newest: bool,
    options: &AofLoadOptions,
    cuts: &mut Vec<Cut>,
) -> Result<u64, AofError> {
    let Some(flaw) = &scan.flaw else {
        return Ok(file.len);
    };
    let (path, offset, reason) = (file.path.clone(), flaw.offset, flaw.reason.clone());
    let lsn = scan.head.map(|_| scan.lsn);
    // A write that the end of the process cut is short; only the end of the system can leave a hole in it.
    let explained = match flaw.kind {
        FlawKind::CutShort => true,
        FlawKind::TailDamaged => scan.head.is_some() && options.os_crashed,
        FlawKind::MiddleDamaged => false,
    };
    if !explained {
        return Err(AofError::Damaged {
            path,
            offset,
            lsn,
            reason,
        });
    }
    if !newest || !options.load_truncated {
        return Err(AofError::Truncated {
            path,
            offset,
            lsn,
            reason,
        });
    }
    cuts.push(Cut {
        path,
        offset,
        bytes_dropped: file.len - offset,
        reason,
    });
    Ok(scan.kept_len)
}

fn decide_ends(
    files: &[OpenFile],
    scans: &[SegmentScan],
    newest: bool,
    options: &AofLoadOptions,
    cuts: &mut Vec<Cut>,
) -> Result<Vec<u64>, AofError> {
    let mut ends = Vec::with_capacity(files.len());
    for (file, scan) in files.iter().zip(scans) {
        ends.push(end_of_flawed(file, scan, newest, options, cuts)?);
    }
    if !newest {
        return Ok(ends);
    }
    let before = ends.clone();
    if options.os_crashed {
        cut_at_epoch(scans, &mut ends);
    }
    let at_epoch = ends.clone();
    cut_incomplete_transactions(scans, &mut ends);
    for i in 0..files.len() {
        if ends[i] < before[i] {
            let reason = match ends[i] < at_epoch[i] {
                true => "a transaction that not every shard has",
                false => "later than what every shard has",
            };
            let (path, bytes_dropped) = (files[i].path.clone(), before[i] - ends[i]);
            cuts.push(Cut {
                path,
                offset: ends[i],
                bytes_dropped,
                reason: reason.into(),
            });
        }
    }
    Ok(ends)
}

/// Cuts all segments at the last epoch that each has whole. An epoch is whole when a later one has begun.
fn cut_at_epoch(scans: &[SegmentScan], ends: &mut [u64]) {
    // Without heads or with epoch 0 there are no epochs to compare.
    let epochs_used = scans
        .iter()
        .all(|scan| scan.head.is_some() && scan.epochs.iter().all(|mark| mark.epoch > 0));
    if scans.len() < 2 || !epochs_used {
        return;
    }
    let last_whole = |scan: &SegmentScan| scan.epochs.last().map_or(0, |mark| mark.epoch - 1);
    let cut = scans.iter().map(last_whole).min().unwrap_or(0);
    for (scan, end) in scans.iter().zip(ends) {
        let kept = scan.epochs.iter().rev().find(|mark| mark.epoch <= cut);
        // Marks alone behind it are no loss. Commands without a seal have no epoch, and go.
        if kept.is_some_and(|mark| mark.lsn == scan.lsn) {
            *end = (*end).min(scan.sealed_len);
            continue;
        }
        let kept_len = kept.map_or(scan.head_len, |mark| mark.sealed_len);
        *end = (*end).min(kept_len.max(scan.promised_len));
    }
}

/// Cuts before each transaction that some participant lacks, until no cut makes another one incomplete.
fn cut_incomplete_transactions(scans: &[SegmentScan], ends: &mut [u64]) {
    let shards: HashMap<ShardIndex, usize> = scans
        .iter()
        .enumerate()
        .filter_map(|(i, scan)| Some((scan.head?.0.shard, i)))
        .collect();
    loop {
        let present: Vec<HashSet<u64>> = scans
            .iter()
            .zip(ends.iter())
            .map(|(scan, &end)| {
                scan.transactions
                    .iter()
                    .filter(|t| t.end <= end)
                    .map(|t| t.id)
                    .collect()
            })
            .collect();
        let mut changed = false;
        for (scan, end) in scans.iter().zip(ends.iter_mut()) {
            let everywhere = |shard: &ShardIndex, id: &u64| {
                shards.get(shard).is_some_and(|&i| present[i].contains(id))
            };
            let first_incomplete = scan.transactions.iter().find(|transaction| {
                transaction.end <= *end
                    && !transaction
                        .participants
                        .iter()
                        .all(|shard| everywhere(shard, &transaction.id))
            });
            if let Some(transaction) = first_incomplete {
                *end = transaction.begin;
                changed = true;
            }
        }
        if !changed {
            return;
        }
    }
}

fn note_generation(scans: &[SegmentScan], ends: &[u64], loaded: &mut AofLoaded) {
    loaded.incr_bytes += ends.iter().sum::<u64>();
    for scan in scans {
        let epoch = scan.epochs.iter().map(|mark| mark.epoch).max().unwrap_or(0);
        loaded.epoch_last = loaded.epoch_last.max(epoch);
        let ids = scan.transactions.iter().map(|transaction| transaction.id);
        loaded.transaction_last = loaded.transaction_last.max(ids.max().unwrap_or(0));
    }
}

/// Makes the cuts on disk, so that the files are whole when they are no longer the newest, and tells where writers may
/// go on. Not behind commands of a stock server: these are of all shards, and a seal would hide it.
fn repair(
    storage: &dyn Storage,
    files: &[OpenFile],
    scans: &[SegmentScan],
    ends: &[u64],
    options: &AofLoadOptions,
    loaded: &mut AofLoaded,
) -> Result<(), AofError> {
    let stamp = Stamp {
        unix_ms: options.rdb.now.0,
        epoch: loaded.epoch_last,
        policy: SyncPolicy::EverySecond,
    };
    let mut resumable = true;
    for ((file, scan), &end) in files.iter().zip(scans).zip(ends) {
        let path = &file.path;
        let own = scan.end().filter(|_| scan.foreign_from.is_none());
        if let Some(own) = own.filter(|own| own.sealed_len < end) {
            let at_cut = SegmentEnd {
                kept_len: end,
                ..own
            };
            let writer = SegmentWriter::resume(storage, path, &at_cut, stamp)?;
            writer
                .file()
                .datasync()
                .map_err(AofError::io(path, "sync"))?;
            loaded.segments.push(RecoveredSegment {
                path: path.clone(),
                end: writer.end(),
            });
            continue;
        }
        if end < file.len {
            let writable = storage
                .open(path, Open::Write)
                .map_err(AofError::io(path, "open"))?;
            writable
                .truncate(end)
                .map_err(AofError::io(path, "truncate"))?;
            writable.datasync().map_err(AofError::io(path, "sync"))?;
        }
        match own {
            Some(end) => loaded.segments.push(RecoveredSegment {
                path: path.clone(),
                end,
            }),
            None => resumable = false,
        }
    }
    if options.os_crashed && loaded.epoch_last > 0 {
        mark_epoch(storage, stamp, loaded)?;
    }
    if !resumable {
        loaded.segments.clear();
    }
    Ok(())
}

/// After cuts at an epoch, begins a new one in every segment: what is left is consistent and durable, and another crash
/// must not cut again.
fn mark_epoch(storage: &dyn Storage, stamp: Stamp, loaded: &mut AofLoaded) -> Result<(), AofError> {
    loaded.epoch_last += 1;
    let stamp = Stamp {
        epoch: loaded.epoch_last,
        ..stamp
    };
    for segment in &mut loaded.segments {
        let path = &segment.path;
        let mut writer = SegmentWriter::resume(storage, path, &segment.end, stamp)?;
        writer
            .append(&mut Vec::new(), stamp)
            .map_err(AofError::io(path, "mark the epoch in"))?;
        writer
            .file()
            .datasync()
            .map_err(AofError::io(path, "sync"))?;
        segment.end = writer.end();
    }
    Ok(())
}
