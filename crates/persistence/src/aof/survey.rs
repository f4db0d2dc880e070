//! A look at a whole set: what is in each file, what is wrong with it, and what a start would make of it. Nothing changes.
//!
//! Every seal of every segment is verified, several files at once; behind damage the survey goes on at the next seal, by
//! what that says of itself, so that all damage is found and not the first alone. What a start would cut is decided by
//! the same functions that decide it at a start.

use super::annotation::{self, Annotation, LINE_LEN_MAX};
use super::contents::{contents, Contents};
use super::cut::Cut;
use super::ends::{cut_of, decide_ends, end_of_flawed, End, OpenFile, Rules};
use super::manifest::{AofFile, Manifest};
use super::recover::{check_head, identified, in_parallel, rescan_cut};
use super::scan::{scan_behind, scan_segment, Flaw, FlawKind, SegmentScan};
use super::{AofError, SegmentId, Stamp};
use crate::progress::Progress;
use crate::rdb::inspect::{inspect_rdb, InspectOptions, RdbReport};
use crate::storage::sync::SyncPolicy;
use crate::storage::{read_full_at, Storage, StorageFile};
use keyspace::ShardIndex;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Places of damage that are told of one file.
const DAMAGES_MAX: usize = 100;

#[derive(Clone, Debug)]
pub struct SurveyOptions {
    pub threads: usize,
    /// As in [`super::recover::AofLoadOptions`].
    pub os_crashed: bool,
    pub now_ms: i64,
    /// A single file of a set: what concerns the others is left out.
    pub alone: bool,
}

/// A stretch that is not what was written.
#[derive(Clone, Debug)]
pub struct Damage {
    pub flaw: Flaw,
    /// Where the next seal begins, or the file ends.
    pub until: u64,
    /// What is between: commands and the keys they name, as far as they can be read.
    pub touched: Contents,
}

/// One file.
#[derive(Debug)]
pub struct FileSurvey {
    pub path: PathBuf,
    pub len: u64,
    /// Counted from zero; none for the base.
    pub generation: Option<usize>,
    pub segment: Option<SegmentId>,
    /// Of a base that is one.
    pub rdb: Option<RdbReport>,
    /// Of the commands; none for a base without.
    pub scan: Option<SegmentScan>,
    pub damages: Vec<Damage>,
}

impl FileSurvey {
    pub fn is_good(&self) -> bool {
        self.damages.is_empty() && self.rdb.as_ref().is_none_or(RdbReport::is_good)
    }
}

/// A transaction that some shard lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incomplete {
    pub id: u64,
    pub participants: Vec<ShardIndex>,
    pub missing: Vec<ShardIndex>,
    /// A shard lacks it that has what was written later: no crash does that, but an editor does.
    pub taken_out: bool,
    /// Where it is: file, and from where to where.
    pub present: Vec<(PathBuf, u64, u64)>,
}

#[derive(Debug)]
pub struct Survey {
    /// With the segments identified.
    pub manifest: Manifest,
    /// In load order.
    pub files: Vec<FileSurvey>,
    /// Over several shards, in all files.
    pub transactions: u64,
    pub incomplete: Vec<Incomplete>,
    /// What a start would cut, or why it would refuse.
    pub start: Result<Vec<Cut>, AofError>,
}

impl Survey {
    pub fn is_good(&self) -> bool {
        self.files.iter().all(FileSurvey::is_good)
            && self.incomplete.is_empty()
            && self.start.as_ref().is_ok_and(Vec::is_empty)
    }
}

/// Looks at all files that the manifest names.
pub fn survey(
    storage: &dyn Storage,
    dir: &Path,
    manifest: &Manifest,
    options: &SurveyOptions,
) -> Result<Survey, AofError> {
    let manifest = identified(storage, dir, manifest)?;
    let mut base = None;
    if let Some(entry) = manifest.base() {
        let open = OpenFile::new(storage, dir, entry)?;
        base = Some(survey_base(storage, open, options)?);
    }
    let mut opened = Vec::new();
    for (generation, files) in manifest.generations().iter().enumerate() {
        for file in files {
            opened.push((generation, OpenFile::new(storage, dir, file)?));
        }
    }
    let surveyed = in_parallel(opened.len(), options.threads, |i| {
        let (generation, open) = &opened[i];
        survey_segment(open, *generation)
    })?;
    let mut out = Survey {
        manifest,
        files: surveyed,
        transactions: 0,
        incomplete: Vec::new(),
        start: Ok(Vec::new()),
    };
    if !options.alone {
        find_incomplete(&mut out);
    }
    let opened: Vec<OpenFile> = opened.into_iter().map(|(_, open)| open).collect();
    out.start = verdict(base.as_ref(), &opened, &mut out.files, options);
    if let Some((_, base)) = base {
        out.files.insert(0, base);
    }
    Ok(out)
}

fn survey_base(
    storage: &dyn Storage,
    open: OpenFile,
    options: &SurveyOptions,
) -> Result<(OpenFile, FileSurvey), AofError> {
    let mut magic = [0; 6];
    let read = read_full_at(&*open.file, &mut magic, 0);
    let n = read.map_err(AofError::io(&open.path, "read"))?;
    let (mut rdb, mut from) = (None, 0);
    if magic[..n].starts_with(b"REDIS") || magic[..n].starts_with(b"VALKEY") {
        let check = InspectOptions {
            threads: options.threads,
            now_unix_ms: options.now_ms,
            largest_count: 0,
            preamble: false,
            as_redis: false,
        };
        let report = inspect_rdb(storage, &open.path, &check, &Progress::default());
        let report = report.map_err(AofError::io(&open.path, "read"))?;
        from = match report.is_good() {
            true => report.rdb_len,
            false => open.len,
        };
        rdb = Some(report);
    }
    let mut out = FileSurvey {
        path: open.path.clone(),
        len: open.len,
        generation: None,
        segment: None,
        rdb,
        scan: None,
        damages: Vec::new(),
    };
    if from < open.len {
        let scan = scan_segment(open.file.clone(), &open.path, from, open.len)?;
        out.damages = damages(&open, &scan)?;
        out.scan = Some(scan);
    }
    Ok((open, out))
}

fn survey_segment(open: &OpenFile, generation: usize) -> Result<FileSurvey, AofError> {
    let scan = scan_segment(open.file.clone(), &open.path, 0, open.len)?;
    Ok(FileSurvey {
        path: open.path.clone(),
        len: open.len,
        generation: Some(generation),
        segment: open.segment.or(scan.head.map(|(id, _)| id)),
        rdb: None,
        damages: damages(open, &scan)?,
        scan: Some(scan),
    })
}

/// The flaw at which a scan ended and, going on behind each one's own seal, those behind it.
fn damages(open: &OpenFile, scan: &SegmentScan) -> Result<Vec<Damage>, AofError> {
    let mut found = Vec::new();
    let mut flaw = scan.flaw.clone();
    while let Some(at) = flaw.take() {
        let seal = at.next_seal();
        let until = seal.map_or(open.len, |seal| seal.offset);
        let touched = contents(&open.file, at.offset, until, None);
        let touched = touched.map_err(AofError::io(&open.path, "read"))?;
        if let Some(seal) = seal.filter(|_| found.len() + 1 < DAMAGES_MAX) {
            if let Some(later) = scan_behind_seal(open, scan, seal.offset)? {
                flaw = later.flaw.filter(|later| later.offset > at.offset);
            }
        }
        found.push(Damage {
            flaw: at,
            until,
            touched,
        });
    }
    Ok(found)
}

/// Goes on behind a seal as if it were good.
fn scan_behind_seal(
    open: &OpenFile,
    scan: &SegmentScan,
    offset: u64,
) -> Result<Option<SegmentScan>, AofError> {
    let mut bytes = [0; LINE_LEN_MAX];
    let read = read_full_at(&*open.file, &mut bytes, offset);
    let got = read.map_err(AofError::io(&open.path, "read"))?;
    let Some(end) = bytes[..got].iter().position(|&b| b == b'\n') else {
        return Ok(None);
    };
    let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
    let (Some(head), Ok(Annotation::Seal { lsn, crc, .. })) = (scan.head, annotation::parse(line))
    else {
        return Ok(None);
    };
    let from = offset + end as u64 + 1;
    scan_behind(&open.file, &open.path, head, (from, lsn, crc), open.len).map(Some)
}

/// Which of the transactions of each generation are not in all shards that they are about.
fn find_incomplete(out: &mut Survey) {
    let generations = out.files.iter().filter_map(|file| file.generation).max();
    for generation in 0..=generations.unwrap_or(0) {
        let of_it = |file: &&FileSurvey| file.generation == Some(generation);
        let files: Vec<&FileSurvey> = out.files.iter().filter(of_it).collect();
        let scans: HashMap<ShardIndex, &SegmentScan> = files
            .iter()
            .filter_map(|file| Some((file.segment?.shard, file.scan.as_ref()?)))
            .collect();
        let mut seen: BTreeMap<u64, Incomplete> = BTreeMap::new();
        for file in &files {
            let Some(scan) = &file.scan else { continue };
            for mark in &scan.transactions {
                let entry = seen.entry(mark.id).or_insert_with(|| Incomplete {
                    id: mark.id,
                    participants: mark.participants.clone(),
                    missing: Vec::new(),
                    taken_out: false,
                    present: Vec::new(),
                });
                let place = (file.path.clone(), mark.begin, mark.end);
                entry.present.push(place);
            }
        }
        out.transactions += seen.len() as u64;
        for mut transaction in seen.into_values() {
            if transaction.present.len() < transaction.participants.len() {
                complete(&mut transaction, &scans, &files);
                if !transaction.missing.is_empty() {
                    out.incomplete.push(transaction);
                }
            }
        }
    }
}

/// Says which shards lack it, and how that may be.
fn complete(
    transaction: &mut Incomplete,
    scans: &HashMap<ShardIndex, &SegmentScan>,
    files: &[&FileSurvey],
) {
    let (id, present) = (transaction.id, &transaction.present);
    // Behind damage nobody has looked; a torn tail has nothing behind it.
    let is_whole = |scan: &SegmentScan| {
        let flaw = scan.flaw.as_ref();
        flaw.is_none_or(|flaw| flaw.kind == FlawKind::CutShort)
    };
    let has = |shard: &&ShardIndex| {
        let scan = scans.get(*shard);
        scan.is_some_and(|scan| {
            !is_whole(scan) || scan.transactions.iter().any(|mark| mark.id == id)
        })
    };
    let missing = transaction.participants.iter().filter(|shard| !has(shard));
    transaction.missing = missing.copied().collect();
    // The epoch in which it was written, by the first seal behind it.
    let epoch_of = |(path, _, end): &(PathBuf, u64, u64)| {
        let file = files.iter().find(|file| file.path == *path)?;
        let epochs = &file.scan.as_ref()?.epochs;
        Some(epochs.iter().find(|mark| mark.sealed_len >= *end)?.epoch)
    };
    let epoch = present.iter().filter_map(epoch_of).min();
    let has_later = |shard: &ShardIndex| {
        scans.get(shard).is_some_and(|scan| {
            let last = scan.epochs.last().map(|mark| mark.epoch);
            scan.transactions.iter().any(|mark| mark.id > id) || last > epoch && epoch.is_some()
        })
    };
    transaction.taken_out = transaction.missing.iter().any(has_later);
}

/// What a start would do: it is asked generation by generation.
fn verdict(
    base: Option<&(OpenFile, FileSurvey)>,
    opened: &[OpenFile],
    files: &mut [FileSurvey],
    options: &SurveyOptions,
) -> Result<Vec<Cut>, AofError> {
    let rules = Rules {
        load_truncated: true,
        corrupt_tail_bytes_max: 0,
        os_crashed: options.os_crashed,
    };
    let mut cuts = Vec::new();
    if let Some((open, base)) = base {
        cuts.extend(verdict_of_base(
            open,
            base,
            opened.is_empty(),
            rules,
            options,
        )?);
    }
    let last = files.iter().filter_map(|file| file.generation).max();
    let mut at = 0;
    while at < files.len() {
        let generation = files[at].generation;
        let count = files[at..].partition_point(|file| file.generation <= generation);
        let range = at..at + count;
        let newest = generation == last;
        let (opened, files) = (&opened[range.clone()], &mut files[range]);
        cuts.extend(verdict_of_generation(
            opened, files, newest, rules, options,
        )?);
        at += count;
    }
    Ok(cuts)
}

fn stamp(options: &SurveyOptions, epoch: u64) -> Stamp {
    Stamp {
        unix_ms: options.now_ms,
        epoch,
        policy: SyncPolicy::EverySecond,
    }
}

fn verdict_of_base(
    open: &OpenFile,
    base: &FileSurvey,
    newest: bool,
    rules: Rules,
    options: &SurveyOptions,
) -> Result<Option<Cut>, AofError> {
    let refused = |offset, reason| AofError::Damaged {
        path: open.path.clone(),
        offset,
        lsn: None,
        reason,
    };
    open.check_closed(None)?;
    if let Some(report) = &base.rdb {
        if let Some(flaw) = &report.findings.flaw {
            let reason = format!("the RDB is damaged, doing {}", flaw.doing.name());
            return Err(refused(flaw.offset, reason));
        }
        if let Some((what, count)) = report.findings.unsupported.iter().next() {
            let reason = format!("the RDB has {what} ({count}), which this server cannot hold");
            return Err(refused(0, reason));
        }
    }
    let Some(scan) = &base.scan else {
        return Ok(None);
    };
    let end = end_of_flawed(open, scan, newest, rules)?;
    let cut = cut_of(open, scan, &end, stamp(options, 0), false)?;
    Ok(cut.map(|(cut, _)| cut))
}

fn verdict_of_generation(
    opened: &[OpenFile],
    files: &mut [FileSurvey],
    newest: bool,
    rules: Rules,
    options: &SurveyOptions,
) -> Result<Vec<Cut>, AofError> {
    // The scans go to the functions that decide, and come back.
    let mut scans: Vec<SegmentScan> = files
        .iter_mut()
        .map(|file| file.scan.take().expect("every segment was scanned"))
        .collect();
    let decided = decide(opened, &scans, newest, rules, options);
    let cuts = decided.and_then(|ends| cuts_of(opened, &mut scans, &ends, options));
    for (file, scan) in files.iter_mut().zip(scans) {
        file.scan = Some(scan);
    }
    cuts
}

fn decide(
    opened: &[OpenFile],
    scans: &[SegmentScan],
    newest: bool,
    rules: Rules,
    options: &SurveyOptions,
) -> Result<Vec<End>, AofError> {
    for (file, scan) in opened.iter().zip(scans) {
        check_head(file, scan)?;
    }
    if options.alone {
        let each = opened.iter().zip(scans);
        return each
            .map(|(file, scan)| end_of_flawed(file, scan, newest, rules))
            .collect();
    }
    decide_ends(opened, scans, newest, rules)
}

fn cuts_of(
    opened: &[OpenFile],
    scans: &mut [SegmentScan],
    ends: &[End],
    options: &SurveyOptions,
) -> Result<Vec<Cut>, AofError> {
    if ends.iter().all(|end| end.why.is_none()) {
        return Ok(Vec::new());
    }
    let epochs = scans.iter().flat_map(|scan| &scan.epochs);
    let epoch_last = epochs.map(|mark| mark.epoch).max().unwrap_or(0);
    let ours = rescan_cut(opened, scans, ends)?;
    let mut cuts = Vec::new();
    for (((file, scan), end), &ours) in opened.iter().zip(scans).zip(ends).zip(&ours) {
        let cut = cut_of(file, scan, end, stamp(options, epoch_last), ours)?;
        cuts.extend(cut.map(|(cut, _)| cut));
    }
    Ok(cuts)
}

/// The manifest of a single segment, so that it can be looked at by itself.
pub fn manifest_of_one(file: &Path) -> Manifest {
    let entry = AofFile {
        name: file.file_name().unwrap_or_default().to_owned(),
        seq: 1,
        kind: super::manifest::FileKind::Incr,
        segment: None,
        closed: None,
        extra: Vec::new(),
    };
    Manifest {
        files: vec![entry],
        run: None,
    }
}

/// Whether damage is a torn tail and nothing else.
pub fn is_torn_tail(damage: &Damage) -> bool {
    damage.flaw.kind == FlawKind::CutShort
}

/// The file of a surveyed one, opened anew.
pub fn open_again(
    storage: &dyn Storage,
    file: &FileSurvey,
) -> Result<Arc<dyn StorageFile>, AofError> {
    storage
        .open(&file.path, crate::storage::Open::Read)
        .map_err(AofError::io(&file.path, "open"))
}
