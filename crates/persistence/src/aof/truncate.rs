//! Going back to a point before the end of the log, over all segments.
//!
//! [`plan`] finds where the point lies in each file, checking every block up to there, and says what lies behind it;
//! it changes nothing. [`apply`] cuts, as [`super::cut`] does: what goes is kept beside the files, and all is cut or
//! nothing. Blocks are kept or cut whole, by the time of their seals, and files of stock servers by their `#TS` lines;
//! at a position of one shard's log a block is cut between its commands, and sealed again. Transactions over several
//! shards stay whole. From the first block that is too late on, a segment goes whatever its later times say: clocks may
//! be set back.

use super::cut::{self, Cause, Cut, Recovery};
use super::ends::{
    cut_at_epoch, cut_incomplete_transactions, cut_of, cut_of_whole, end_of_flawed, End, OpenFile,
    Rules,
};
use super::manifest::{Closed, Manifest};
use super::point::{format_millis, Point};
use super::recover::{identified, rescan_cut, scan_all};
use super::scan::{scan_with_limit, Limit, SegmentScan};
use super::segment::SegmentEnd;
use super::{AofError, Stamp};
use crate::rdb::check::{check_rdb, written_at};
use crate::storage::sync::SyncPolicy;
use crate::storage::{read_full_at, Open, Storage};
use keyspace::{Lsn, ShardIndex};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug)]
pub struct PlanOptions {
    /// Files are read by so many threads at once.
    pub threads: usize,
    /// As in [`super::recover::AofLoadOptions`]: what a crash left inconsistent goes as well.
    pub os_crashed: bool,
    /// For seals that are written anew.
    pub now_ms: i64,
}

/// A file that stays whole or in part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptFile {
    pub path: PathBuf,
    pub len: u64,
    /// Where a segment ends then; none for files of stock servers.
    pub end: Option<SegmentEnd>,
}

/// What going back to a point means.
#[derive(Clone, Debug)]
pub struct Plan {
    pub point: Point,
    /// Empty: nothing lies behind the point.
    pub cuts: Vec<Cut>,
    /// In load order, the base first.
    pub kept: Vec<KeptFile>,
    /// Files whose commands carry no times, so that nobody knows which of them are earlier; kept whole.
    pub undated: Vec<PathBuf>,
    /// The set afterwards.
    pub manifest: Manifest,
}

impl Plan {
    /// What would be lost, in lines for people.
    pub fn describe(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.cuts.is_empty() {
            lines.push(format!("Nothing lies behind {}.", self.point));
        }
        for cut in &self.cuts {
            let name = cut.path.file_name().unwrap_or_default().to_string_lossy();
            let keeps = match (cut.drops_file, cut.kept) {
                (true, _) => "goes whole".to_owned(),
                (false, Some(kept)) => format!("is cut at offset {} ({kept})", cut.offset),
                (false, None) => format!("is cut at offset {}", cut.offset),
            };
            lines.push(format!("{name} ({}) {keeps}", cut.shard()));
            lines.push(format!("  lost: {}", cut.discarded.summary()));
            if let (Some(first), Some(last)) = (cut.discarded.first, cut.discarded.last) {
                lines.push(format!("  of: {first} to {last}"));
            }
            lines.push(format!(
                "  keys: {}",
                cut.discarded.keys_in_line(KEYS_IN_LINE_MAX)
            ));
        }
        for path in &self.undated {
            lines.push(format!(
                "{} carries no times and is kept whole",
                path.display()
            ));
        }
        lines
    }
}

const KEYS_IN_LINE_MAX: usize = 20;

/// Finds where the point lies. Changes nothing.
pub fn plan(
    storage: &dyn Storage,
    dir: &Path,
    manifest: &Manifest,
    point: Point,
    options: &PlanOptions,
) -> Result<Plan, AofError> {
    let manifest = identified(storage, dir, manifest)?;
    let planner = Planner {
        storage,
        dir,
        manifest: &manifest,
        point,
        options,
    };
    planner.plan()
}

/// Makes the cuts of a plan, durably. `prefix`: of the manifest, which then says that all is durable and which files
/// are left; none where there is no manifest to keep, for a single file.
pub fn apply(
    storage: &dyn Storage,
    dir: &Path,
    prefix: Option<&OsStr>,
    plan: &Plan,
    now_ms: i64,
) -> Result<Recovery, AofError> {
    if plan.cuts.is_empty() {
        return Ok(Recovery::default());
    }
    for kept in &plan.kept {
        let file = storage.open(&kept.path, Open::Write);
        file.and_then(|file| file.datasync())
            .map_err(AofError::io(&kept.path, "sync"))?;
    }
    let heading = format!("restored to: {}", plan.point);
    let manifest = prefix.map(|prefix| (prefix, &plan.manifest));
    cut::carry_out(storage, dir, &plan.cuts, manifest, &heading, now_ms)
}

struct Planner<'a> {
    storage: &'a dyn Storage,
    dir: &'a Path,
    manifest: &'a Manifest,
    point: Point,
    options: &'a PlanOptions,
}

/// A generation that was looked at; the base is one of its own.
struct Looked {
    files: Vec<OpenFile>,
    scans: Vec<SegmentScan>,
}

impl Planner<'_> {
    fn plan(&self) -> Result<Plan, AofError> {
        let mut plan = Plan {
            point: self.point,
            cuts: Vec::new(),
            kept: Vec::new(),
            undated: Vec::new(),
            manifest: self.manifest.clone(),
        };
        plan.manifest.run = None;
        self.check_shard()?;
        let generations = self.manifest.generations();
        let base_ms = match self.manifest.base() {
            Some(entry) => self.base(
                OpenFile::new(self.storage, self.dir, entry)?,
                generations.is_empty(),
                &mut plan,
            )?,
            None => None,
        };
        let mut reached = !plan.cuts.is_empty();
        let mut first_ms: Option<i64> = None;
        for (i, entries) in generations.iter().enumerate() {
            let files: Vec<OpenFile> = entries
                .iter()
                .map(|entry| OpenFile::new(self.storage, self.dir, entry))
                .collect::<Result<_, _>>()?;
            if reached {
                drop_files(&files, &mut plan)?;
                continue;
            }
            let newest = i + 1 == generations.len();
            let looked = self.look(files, newest)?;
            let times = looked.scans.iter().filter_map(|scan| scan.times);
            let earliest = times.map(|(first, _)| first).min();
            if first_ms.is_none() {
                first_ms = earliest;
                self.check_earliest(base_ms, first_ms)?;
            }
            if let (Point::Time(unix_ms), Some(earliest)) = (self.point, earliest) {
                // What is dated later dates what is before it.
                if earliest <= unix_ms {
                    plan.undated.clear();
                }
            }
            reached = self.cut_generation(looked, newest, &mut plan)?;
        }
        if generations.is_empty() {
            self.check_earliest(base_ms, None)?;
        }
        match self.point {
            Point::Lsn(_, lsn) if !reached => {
                Err(self.out_of_reach(format!("the log does not hold LSN {}", lsn.0)))
            }
            _ => Ok(plan),
        }
    }

    fn out_of_reach(&self, reason: String) -> AofError {
        AofError::OutOfReach {
            point: self.point.to_string(),
            reason,
        }
    }

    /// The shard that a position is of.
    fn shard(&self) -> ShardIndex {
        match self.point {
            Point::Lsn(Some(shard), _) => shard,
            _ => ShardIndex(0),
        }
    }

    fn check_shard(&self) -> Result<(), AofError> {
        let Point::Lsn(shard, _) = self.point else {
            return Ok(());
        };
        let segments = || self.manifest.incrs().filter_map(|file| file.segment);
        let Some(shards) = segments().map(|id| id.shard_count).max() else {
            return Err(self.out_of_reach("no file of it has positions: give a time".into()));
        };
        if shard.is_none() && shards > 1 {
            let reason = format!("it has {shards} shards: write SHARD:LSN");
            return Err(self.out_of_reach(reason));
        }
        if !segments().any(|id| id.shard == self.shard()) {
            let reason = format!("it has no shard {}", self.shard().0);
            return Err(self.out_of_reach(reason));
        }
        Ok(())
    }

    /// The base holds all up to one instant: nothing before that can be had again.
    fn check_earliest(&self, base_ms: Option<i64>, first_ms: Option<i64>) -> Result<(), AofError> {
        let Point::Time(unix_ms) = self.point else {
            return Ok(());
        };
        // The base says the second, and was complete when the first block behind it was written.
        let earliest = match (base_ms, first_ms) {
            (Some(base), Some(first)) => Some(first.min(base)),
            (base, first) => base.or(first),
        };
        match earliest {
            Some(earliest) if unix_ms < earliest => Err(self.out_of_reach(format!(
                "the earliest point it holds is {}",
                format_millis(earliest)
            ))),
            _ => Ok(()),
        }
    }

    /// Checks the base, and cuts what commands it has behind the point. Returns the last millisecond of the second in
    /// which it was written, where it says so.
    fn base(&self, base: OpenFile, newest: bool, plan: &mut Plan) -> Result<Option<i64>, AofError> {
        let mut magic = [0; 6];
        let read = read_full_at(&*base.file, &mut magic, 0);
        let n = read.map_err(AofError::io(&base.path, "read"))?;
        let is_rdb = magic[..n].starts_with(b"REDIS") || magic[..n].starts_with(b"VALKEY");
        let (from, base_ms) = match is_rdb {
            true => {
                let stats = check_rdb(self.storage, &base.path, self.options.threads)?;
                // The last millisecond of the second.
                let last = |seconds: i64| seconds.saturating_mul(1000).saturating_add(999);
                (stats.bytes, written_at(&stats).map(last))
            }
            false => (0, None),
        };
        let limit = self.time_limit();
        base.check_closed(None)?;
        let scan = scan_with_limit(base.file.clone(), &base.path, from, base.len, limit)?;
        let end = self.end_of(&base, &scan, newest)?;
        let cut = cut_of(&base, &scan, &end, self.stamp(0), false)?;
        if newest && scan.commands > 0 && scan.times.is_none() {
            plan.undated.push(base.path.clone());
        }
        let base_name = base.path.file_name().unwrap_or_default();
        if let Some(closed) = base.closed.filter(|closed| end.len < closed.len) {
            let len = end.len;
            plan.manifest.close(base_name, Closed { len, ..closed });
        }
        let nothing_left = scan.limit.is_some_and(|mark| mark.kept_ms.is_none());
        if nothing_left && base_ms.is_none() {
            self.check_earliest(None, scan.times.map(|(first, _)| first))?;
        }
        plan.kept.push(KeptFile {
            path: base.path,
            len: end.len,
            end: None,
        });
        plan.cuts.extend(cut.map(|(cut, _)| cut));
        // Times in the base are of what it took in before.
        Ok(base_ms.or(scan.times.map(|(first, _)| first)))
    }

    fn time_limit(&self) -> Limit {
        match self.point {
            Point::Time(unix_ms) => Limit {
                unix_ms: Some(unix_ms),
                lsn: None,
            },
            Point::Lsn(..) => Limit::default(),
        }
    }

    /// Scans a generation, with the limit that the point means there.
    fn look(&self, files: Vec<OpenFile>, newest: bool) -> Result<Looked, AofError> {
        let threads = self.options.threads;
        let Point::Lsn(_, lsn) = self.point else {
            let scans = scan_all(&files, threads, self.time_limit())?;
            return Ok(Looked { files, scans });
        };
        let shard = self.shard();
        let is_its = |file: &OpenFile| file.segment.is_some_and(|id| id.shard == shard);
        let at = files.iter().position(is_its);
        let mut its = None;
        let mut limit = Limit::default();
        if let Some(file) = at.map(|at| &files[at]) {
            let by_lsn = Limit {
                unix_ms: None,
                lsn: Some(lsn),
            };
            let scan = scan_with_limit(file.file.clone(), &file.path, 0, file.len, by_lsn)?;
            let begins = scan.head.map_or(Lsn(0), |(_, lsn)| lsn);
            if lsn < begins {
                let reason = format!("the log of shard {} begins at LSN {}", shard.0, begins.0);
                return Err(self.out_of_reach(reason));
            }
            if newest && lsn > scan.lsn && scan.limit.is_none() {
                let reason = format!("the log of shard {} ends at LSN {}", shard.0, scan.lsn.0);
                return Err(self.out_of_reach(reason));
            }
            // The other shards: as they were when the first thing that goes was written.
            if let Some(mark) = scan.limit {
                let before = mark.dropped_ms.map(|dropped| dropped.saturating_sub(1));
                limit.unix_ms = before.max(mark.kept_ms);
            }
            its = Some(scan);
        }
        let mut scans = scan_all(&files, threads, limit)?;
        if let (Some(at), Some(scan)) = (at, its) {
            scans[at] = scan;
        }
        Ok(Looked { files, scans })
    }

    fn rules(&self) -> Rules {
        Rules {
            load_truncated: true,
            corrupt_tail_bytes_max: 0,
            os_crashed: self.options.os_crashed,
        }
    }

    fn stamp(&self, epoch: u64) -> Stamp {
        Stamp {
            unix_ms: self.options.now_ms,
            epoch,
            policy: SyncPolicy::EverySecond,
        }
    }

    /// Where a file ends by the point, or before that by its own flaw. Damage behind the point is no matter.
    fn end_of(&self, file: &OpenFile, scan: &SegmentScan, newest: bool) -> Result<End, AofError> {
        let mut end = match scan.limit {
            Some(_) => End {
                len: file.len,
                why: None,
            },
            None => end_of_flawed(file, scan, newest, self.rules())?,
        };
        if let Some(mark) = scan.limit {
            let reason = format!("behind {}", self.point);
            end.cut(mark.kept_len, Cause::Restore, &reason);
        }
        Ok(end)
    }

    /// Cuts a generation at the point. Tells whether the point lies in it, so that all later ones go.
    fn cut_generation(
        &self,
        looked: Looked,
        newest: bool,
        plan: &mut Plan,
    ) -> Result<bool, AofError> {
        let Looked { files, mut scans } = looked;
        let mut ends = Vec::with_capacity(files.len());
        for (file, scan) in files.iter().zip(&scans) {
            ends.push(self.end_of(file, scan, newest)?);
        }
        let reached = match self.point {
            Point::Time(_) => scans.iter().any(|scan| scan.limit.is_some()),
            Point::Lsn(_, lsn) => files.iter().zip(&scans).any(|(file, scan)| {
                let its = file.segment.is_some_and(|id| id.shard == self.shard());
                its && (scan.limit.is_some() || lsn <= scan.lsn)
            }),
        };
        if newest && self.options.os_crashed {
            cut_at_epoch(&files, &scans, &mut ends, Cause::OsCrash);
        }
        if newest || reached {
            let cause = match reached {
                true => Cause::Restore,
                false => Cause::TornTail,
            };
            cut_incomplete_transactions(&scans, &mut ends, cause);
        }
        for (file, scan) in files.iter().zip(&scans) {
            let foreign = scan.head.is_none() || scan.foreign_from.is_some();
            let commands = scan.head.is_none() && scan.commands > 0;
            if foreign && (commands || scan.head.is_some()) && scan.times.is_none() {
                plan.undated.push(file.path.clone());
            }
        }
        let epoch_of = |scan: &SegmentScan| scan.epochs.iter().map(|mark| mark.epoch).max();
        let epoch = scans.iter().filter_map(epoch_of).max().unwrap_or(0);
        let ours = rescan_cut(&files, &mut scans, &ends)?;
        for (((file, scan), end), ours) in files.iter().zip(&scans).zip(&ends).zip(ours) {
            let cut = cut_of(file, scan, end, self.stamp(epoch), ours)?;
            let (cut, own) = match cut {
                Some((cut, own)) => (Some(cut), own),
                None => (None, scan.end().filter(|_| ours)),
            };
            plan.kept.push(KeptFile {
                path: file.path.clone(),
                len: end.len,
                end: own,
            });
            plan.cuts.extend(cut);
        }
        Ok(reached)
    }
}

/// The files of a generation that lies behind the point.
fn drop_files(files: &[OpenFile], plan: &mut Plan) -> Result<(), AofError> {
    for file in files {
        let reason = format!("begun behind {}", plan.point);
        plan.cuts.push(cut_of_whole(file, &reason)?);
        let name = file.path.file_name().unwrap_or_default();
        plan.manifest.files.retain(|entry| entry.name != name);
    }
    Ok(())
}
