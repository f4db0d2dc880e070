//! From a manifest to a keyspace: how much of each file counts, and in which order all of it runs.
//!
//! The base first, then one generation after another; the segments of a generation at once, a thread each. Before its
//! first command runs, a whole generation is scanned, and [`super::ends`] says where its segments end. Cuts are made on
//! disk behind the last command, so that a load that fails has changed nothing.

use super::annotation::{self, Annotation, LINE_LEN_MAX};
use super::cut::{self, Cut, Mark, Recovery};
use super::ends::{cut_of, decide_ends, end_of_flawed, End, OpenFile, Rules};
use super::manifest::{AofFile, FileKind, Manifest};
use super::replay::{replay, CommandReceiver};
use super::scan::{scan_segment, scan_with_limit, Limit, SegmentScan};
use super::segment::SegmentEnd;
use super::{AofError, Stamp};
use crate::progress::Progress;
use crate::rdb::load::{load_rdb, LoadOptions, LoadSink, LoadStats};
use crate::storage::sync::SyncPolicy;
use crate::storage::{read_full_at, Open, Storage};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::sync::Mutex;

/// Takes keys of the base and commands of the segments.
pub trait ReplaySink: LoadSink {
    /// Called on the thread that runs the file. Two files that run at once hold no key in common.
    fn command_receiver(&self) -> Box<dyn CommandReceiver + '_>;

    /// The same for a file that runs alone, and may have its commands run by so many threads.
    fn command_receiver_alone(&self, _threads: usize) -> Box<dyn CommandReceiver + '_> {
        self.command_receiver()
    }
}

#[derive(Clone, Debug)]
pub struct AofLoadOptions {
    /// For an RDB base; expired keys are kept, whatever it says, because commands follow. Its threads run segments too.
    pub rdb: LoadOptions,
    /// `aof-load-truncated`.
    pub load_truncated: bool,
    /// `aof-load-corrupt-tail-max-size`; 0: none.
    pub corrupt_tail_bytes_max: u64,
    /// The operating system went down since the last write and nothing says that all was durable then.
    pub os_crashed: bool,
}

impl AofLoadOptions {
    fn rules(&self) -> Rules {
        Rules {
            load_truncated: self.load_truncated,
            corrupt_tail_bytes_max: self.corrupt_tail_bytes_max,
            os_crashed: self.os_crashed,
        }
    }
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
    /// What was made of the cuts.
    pub recovery: Recovery,
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
    // All of it from the start, so that nobody is told 99% in between. A base counts itself.
    for entry in generations.iter().flatten() {
        let file = OpenFile::new(storage, dir, entry)?;
        progress.bytes_total.fetch_add(file.len, Relaxed);
    }
    if let Some(base) = manifest.base() {
        let file = OpenFile::new(storage, dir, base)?;
        load_base(
            storage,
            dir,
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
        let mut scans = scan_all(&files, options.rdb.threads, Limit::default())?;
        let ends = decide_ends(&files, &scans, newest, options.rules())?;
        note_numbers(&scans, &mut loaded);
        let ours = rescan_cut(&files, &mut scans, &ends)?;
        loaded.commands += replay_all(&files, &scans, &ends, options, sink, progress)?;
        loaded.incr_bytes += ends.iter().map(|end| end.len).sum::<u64>();
        if newest {
            repair(
                storage,
                dir,
                &files,
                &scans,
                &ends,
                &ours,
                options,
                &mut loaded,
            )?;
        }
    }
    Ok(loaded)
}

/// Scans again what ends earlier: the positions there are found by looking again. Tells of each file whether its end is
/// in what this server wrote.
pub(super) fn rescan_cut(
    files: &[OpenFile],
    scans: &mut [SegmentScan],
    ends: &[End],
) -> Result<Vec<bool>, AofError> {
    let mut ours = Vec::with_capacity(files.len());
    for ((file, scan), end) in files.iter().zip(scans).zip(ends) {
        ours.push(scan.foreign_from.is_none_or(|from| end.len <= from));
        if end.len < scan.kept_len {
            *scan = scan_segment(file.file.clone(), &file.path, 0, end.len)?;
        }
    }
    Ok(ours)
}

/// The manifest with what it does not say about segments: stock servers that write it anew drop the pairs they do not
/// know, but the heads of the files still say which segment each is.
pub(super) fn identified(
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

impl OpenFile {
    pub(super) fn new(
        storage: &dyn Storage,
        dir: &Path,
        entry: &AofFile,
    ) -> Result<OpenFile, AofError> {
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
            closed: entry.closed,
        })
    }
}

#[allow(clippy::too_many_arguments)]
fn load_base(
    storage: &dyn Storage,
    dir: &Path,
    base: &OpenFile,
    newest: bool,
    options: &AofLoadOptions,
    sink: &dyn ReplaySink,
    progress: &Progress,
    loaded: &mut AofLoaded,
) -> Result<(), AofError> {
    loaded.base_bytes = base.len;
    base.check_closed(None)?;
    let mut magic = [0; 6];
    let n = read_full_at(&*base.file, &mut magic, 0).map_err(AofError::io(&base.path, "read"))?;
    let mut from = 0;
    if magic[..n].starts_with(b"REDIS") || magic[..n].starts_with(b"VALKEY") {
        let rdb = LoadOptions {
            skip_expired: false,
            ..options.rdb.clone()
        };
        let stats = load_rdb(storage, &base.path, &rdb, sink, progress)?;
        from = stats.bytes;
        loaded.base = Some(stats);
    } else {
        progress.bytes_total.fetch_add(base.len, Relaxed);
    }
    if from == base.len {
        return Ok(());
    }
    let scan = scan_segment(base.file.clone(), &base.path, from, base.len)?;
    let end = end_of_flawed(base, &scan, newest, options.rules())?;
    let mut receiver = sink.command_receiver_alone(options.rdb.threads);
    loaded.commands += replay(
        base.file.clone(),
        &base.path,
        from,
        end.len,
        &mut *receiver,
        progress,
    )?;
    if let Some((cut, _)) = cut_of(base, &scan, &end, stamp(options, 0), false)? {
        make_cuts(storage, dir, vec![cut], &[], options, loaded)?;
    }
    Ok(())
}

/// Runs `work` for each index, on as many threads as there are to use, and gives the results in order.
pub(super) fn in_parallel<T: Send>(
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

pub(super) fn scan_all(
    files: &[OpenFile],
    threads: usize,
    limit: Limit,
) -> Result<Vec<SegmentScan>, AofError> {
    in_parallel(files.len(), threads, |i| {
        let file = &files[i];
        let scan = scan_with_limit(file.file.clone(), &file.path, 0, file.len, limit)?;
        check_head(file, &scan).map(|()| scan)
    })
}

/// Whether a file is the segment that the manifest says it is.
pub(super) fn check_head(file: &OpenFile, scan: &SegmentScan) -> Result<(), AofError> {
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
        _ => Ok(()),
    }
}

/// The segments at once; behind them, one after another, what a stock server appended to them.
fn replay_all(
    files: &[OpenFile],
    scans: &[SegmentScan],
    ends: &[End],
    options: &AofLoadOptions,
    sink: &dyn ReplaySink,
    progress: &Progress,
) -> Result<u64, AofError> {
    let run = |i: usize, from: u64, end: u64, alone: bool| {
        let mut receiver = match alone {
            true => sink.command_receiver_alone(options.rdb.threads),
            false => sink.command_receiver(),
        };
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
            .map_or(ends[i].len, |from| from.min(ends[i].len))
    };
    let counts = in_parallel(files.len(), options.rdb.threads, |i| {
        run(i, 0, own_end(i), files.len() == 1)
    })?;
    let mut count = counts.into_iter().sum();
    for (i, end) in ends.iter().enumerate() {
        if own_end(i) < end.len {
            count += run(i, own_end(i), end.len, true)?;
        }
    }
    Ok(count)
}

/// The numbers that were used, also by what is about to be cut off: they are not used again.
fn note_numbers(scans: &[SegmentScan], loaded: &mut AofLoaded) {
    for scan in scans {
        let epoch = scan.epochs.iter().map(|mark| mark.epoch).max().unwrap_or(0);
        loaded.epoch_last = loaded.epoch_last.max(epoch);
        let ids = scan.transactions.iter().map(|transaction| transaction.id);
        loaded.transaction_last = loaded.transaction_last.max(ids.max().unwrap_or(0));
    }
}

/// What is written in the course of a recovery.
fn stamp(options: &AofLoadOptions, epoch: u64) -> Stamp {
    Stamp {
        unix_ms: options.rdb.now.0,
        epoch,
        policy: SyncPolicy::EverySecond,
    }
}

fn make_cuts(
    storage: &dyn Storage,
    dir: &Path,
    cuts: Vec<Cut>,
    marks: &[Mark],
    options: &AofLoadOptions,
    loaded: &mut AofLoaded,
) -> Result<(), AofError> {
    let done = cut::carry_out_with(storage, dir, &cuts, marks, None, "", options.rdb.now.0)?;
    if done.cause.is_some() {
        loaded.recovery = done;
    }
    loaded.cuts.extend(cuts);
    Ok(())
}

/// Makes the cuts on disk, so that the files are whole when they are no longer the newest, and tells where writers may
/// go on. Not behind commands of a stock server: these are of all shards, and a seal would hide it.
#[allow(clippy::too_many_arguments)]
fn repair(
    storage: &dyn Storage,
    dir: &Path,
    files: &[OpenFile],
    scans: &[SegmentScan],
    ends: &[End],
    ours: &[bool],
    options: &AofLoadOptions,
    loaded: &mut AofLoaded,
) -> Result<(), AofError> {
    // 0 would say that there are no epochs.
    let stamp = stamp(options, loaded.epoch_last.max(1));
    // What is left after a crash of the system is consistent and durable, and another one must not cut again: a new
    // epoch begins in every segment, at the same instant as the cuts. A segment that lost its head has no place for a
    // mark and so no epoch that is whole; the others keep what they have all the same, by a mark that promises it.
    let marking = options.os_crashed && loaded.epoch_last > 0;
    loaded.epoch_last += u64::from(marking);
    let next_epoch = Stamp {
        epoch: loaded.epoch_last,
        policy: SyncPolicy::Always,
        ..stamp
    };
    let mut resumable = true;
    let (mut cuts, mut marks) = (Vec::new(), Vec::new());
    for (((file, scan), end), &ours) in files.iter().zip(scans).zip(ends).zip(ours) {
        let path = file.path.clone();
        let (mut cut, mut own) = match cut_of(file, scan, end, stamp, ours)? {
            Some((cut, own)) => (Some(cut), own),
            None => (None, scan.end().filter(|_| ours)),
        };
        if let Some(own) = own.as_mut().filter(|own| marking && own.sealed_len > 0) {
            let (seal, marked) = mark_behind(own, next_epoch);
            match &mut cut {
                Some(cut) => cut.seal.extend(seal),
                None => marks.push(Mark {
                    path: path.clone(),
                    len: own.sealed_len,
                    seal,
                }),
            }
            *own = marked;
        }
        cuts.extend(cut);
        match own {
            Some(end) => loaded.segments.push(RecoveredSegment { path, end }),
            None => resumable = false,
        }
    }
    make_cuts(storage, dir, cuts, &marks, options, loaded)?;
    if !resumable {
        loaded.segments.clear();
    }
    Ok(())
}

/// The seal of an empty block, and where the segment ends behind it.
fn mark_behind(end: &SegmentEnd, stamp: Stamp) -> (Vec<u8>, SegmentEnd) {
    let mut seal = Vec::with_capacity(LINE_LEN_MAX);
    let crc = annotation::put_seal(&mut seal, annotation::chained(end.crc), 0, end.lsn, stamp);
    let len = end.sealed_len + seal.len() as u64;
    let marked = SegmentEnd {
        sealed_len: len,
        kept_len: len,
        crc,
        ..*end
    };
    (seal, marked)
}
