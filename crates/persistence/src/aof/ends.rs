//! How much of each segment of a generation counts.
//!
//! Only the newest generation may be flawed, and its segments are cut so that
//! - none reaches behind its first flaw,
//! - a transaction over several shards is in all of them or in none,
//! - after a crash of the operating system, and where damage is given up, all segments end with the same epoch (each may
//!   have lost a different tail), but nothing goes that was written under `appendfsync always`.

use super::contents::{contents, Contents, Position};
use super::cut::{Cause, Cut};
use super::manifest::Closed;
use super::point::format_millis;
use super::scan::{Flaw, FlawKind, SegmentScan};
use super::segment::{seal_of_unsealed, SegmentEnd};
use super::{AofError, SegmentId, Stamp};
use crate::storage::sync::SyncPolicy;
use crate::storage::StorageFile;
use keyspace::{Lsn, ShardIndex};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

/// After a crash of the operating system, a hole may be a write that never reached the disk, with later ones behind it
/// that did. All of them are younger than this, or the hole is damage of another kind.
const UNSYNCED_MS_MAX: i64 = 10_000;
/// Where only the kernel decides when to write: twice its usual half minute.
const UNSYNCED_MS_MAX_NO_FSYNC: i64 = 60_000;
/// Keys named in an error.
const ERROR_KEYS_MAX: usize = 10;

/// A file of the generation.
pub(super) struct OpenFile {
    pub path: PathBuf,
    pub file: Arc<dyn StorageFile>,
    pub len: u64,
    pub segment: Option<SegmentId>,
    pub closed: Option<Closed>,
}

impl OpenFile {
    /// Whether all is there that was when it came to its end. `lsn`: up to which it is intact.
    pub fn check_closed(&self, lsn: Option<Lsn>) -> Result<(), AofError> {
        let Some(closed) = self.closed.filter(|closed| self.len < closed.len) else {
            return Ok(());
        };
        let upto = closed
            .lsn
            .map_or(String::new(), |lsn| format!(", up to LSN {}", lsn.0));
        Err(AofError::Truncated {
            path: self.path.clone(),
            offset: self.len,
            lsn,
            reason: format!(
                "its end is lost: the manifest says that it had {} bytes{upto}, when it was complete",
                closed.len
            ),
        })
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// `aof-load-truncated`.
    pub load_truncated: bool,
    /// `aof-load-corrupt-tail-max-size`; 0: none.
    pub corrupt_tail_bytes_max: u64,
    pub os_crashed: bool,
}

/// Where a file ends, and why before its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub len: u64,
    pub why: Option<(Cause, String)>,
}

impl End {
    /// Makes it end earlier. The gravest cause stands.
    pub fn cut(&mut self, len: u64, cause: Cause, reason: &str) {
        if len >= self.len {
            return;
        }
        self.len = len;
        self.why = match self.why.take() {
            Some((known, _)) if known < cause => Some((cause, reason.into())),
            None => Some((cause, reason.into())),
            known => known,
        };
    }
}

/// Where a file ends by its own flaw alone, or the error that this is.
pub(super) fn end_of_flawed(
    file: &OpenFile,
    scan: &SegmentScan,
    newest: bool,
    rules: Rules,
) -> Result<End, AofError> {
    let Some(flaw) = &scan.flaw else {
        if !newest {
            file.check_closed(scan.head.map(|_| scan.lsn))?;
        }
        let len = file.len;
        return Ok(End { len, why: None });
    };
    let (path, offset) = (file.path.clone(), flaw.offset);
    let lsn = scan.head.map(|_| scan.lsn);
    // A write that the end of the process cut is short; only the end of the system can leave a hole in it.
    let explained = match flaw.kind {
        FlawKind::CutShort => true,
        // A segment of ours that was never synced may have lost its head too.
        FlawKind::TailDamaged => {
            (scan.head.is_some() || file.segment.is_some()) && rules.os_crashed
        }
        FlawKind::MiddleDamaged => rules.os_crashed && unsynced(flaw),
    };
    if explained {
        if !newest || !rules.load_truncated {
            return Err(AofError::Truncated {
                path,
                offset,
                lsn,
                reason: flaw.reason.clone(),
            });
        }
        let cause = match rules.os_crashed {
            true => Cause::OsCrash,
            false => Cause::TornTail,
        };
        return Ok(End {
            len: offset,
            why: Some((cause, flaw.reason.clone())),
        });
    }
    if newest && file.len - offset <= rules.corrupt_tail_bytes_max {
        return Ok(End {
            len: offset,
            why: Some((Cause::Damage, flaw.reason.clone())),
        });
    }
    Err(AofError::Damaged {
        path,
        offset,
        lsn,
        reason: describe_damage(file, scan)?,
    })
}

fn unsynced(flaw: &Flaw) -> bool {
    let (Some(next), Some((_, last))) = (flaw.next_seal(), flaw.later) else {
        return false;
    };
    let allowed = match last.stamp.policy {
        SyncPolicy::No => UNSYNCED_MS_MAX_NO_FSYNC,
        SyncPolicy::EverySecond | SyncPolicy::Always => UNSYNCED_MS_MAX,
    };
    last.stamp.unix_ms.saturating_sub(next.stamp.unix_ms) <= allowed
}

/// Where and when the damage is, between what is intact before and after it, and which keys it touches.
fn describe_damage(file: &OpenFile, scan: &SegmentScan) -> Result<String, AofError> {
    let flaw = scan.flaw.as_ref().expect("the caller found one");
    let mut text = flaw.reason.clone();
    if let Some((_, last)) = scan.times {
        text += &format!(
            "; the last intact block before it is of {}",
            format_millis(last)
        );
    }
    let until = match flaw.next_seal() {
        Some(seal) => {
            text += &format!(
                "; the next seal, at offset {}, is of {} (LSN {})",
                seal.offset,
                format_millis(seal.stamp.unix_ms),
                seal.lsn.0
            );
            seal.offset
        }
        None => file.len,
    };
    let read = contents(&file.file, flaw.offset, until, scan.db);
    let touched = read.map_err(AofError::io(&file.path, "read"))?;
    if touched.keys > 0 {
        text += &format!("; keys there: {}", touched.keys_in_line(ERROR_KEYS_MAX));
    }
    Ok(text)
}

/// Where each file of a generation ends.
pub(super) fn decide_ends(
    files: &[OpenFile],
    scans: &[SegmentScan],
    newest: bool,
    rules: Rules,
) -> Result<Vec<End>, AofError> {
    let mut ends = Vec::with_capacity(files.len());
    for (file, scan) in files.iter().zip(scans) {
        ends.push(end_of_flawed(file, scan, newest, rules)?);
    }
    if !newest {
        return Ok(ends);
    }
    let causes = ends.iter().filter_map(|end| Some(end.why.as_ref()?.0));
    let gravest = causes.max().unwrap_or(Cause::TornTail);
    let given_up = gravest == Cause::Damage;
    if rules.os_crashed || given_up {
        cut_at_epoch(files, scans, &mut ends, gravest.max(Cause::OsCrash));
    }
    cut_incomplete_transactions(scans, &mut ends, gravest);
    if given_up {
        refuse_too_much(files, &ends, rules)?;
    }
    Ok(ends)
}

/// What damage costs all segments together must be within what may be given up.
fn refuse_too_much(files: &[OpenFile], ends: &[End], rules: Rules) -> Result<(), AofError> {
    let cut = |(file, end): (&OpenFile, &End)| file.len - end.len;
    let total: u64 = files.iter().zip(ends).map(cut).sum();
    let damaged = |(_, end): &(&OpenFile, &End)| {
        end.why
            .as_ref()
            .is_some_and(|(cause, _)| *cause == Cause::Damage)
    };
    match files.iter().zip(ends).find(damaged) {
        Some((file, end)) if total > rules.corrupt_tail_bytes_max => Err(AofError::Damaged {
            path: file.path.clone(),
            offset: end.len,
            lsn: None,
            reason: format!(
                "to load without it, {total} bytes would have to go from all segments together, more than \
                 aof-load-corrupt-tail-max-size ({}) allows",
                rules.corrupt_tail_bytes_max
            ),
        }),
        _ => Ok(()),
    }
}

/// Cuts all segments at the last epoch that each has whole. An epoch is whole when a later one has begun.
pub(super) fn cut_at_epoch(
    files: &[OpenFile],
    scans: &[SegmentScan],
    ends: &mut [End],
    cause: Cause,
) {
    // In files of stock servers and with epoch 0 there are no epochs to compare. A segment of ours without its head
    // lost everything, and has no epoch whole.
    let epochs_used = files.iter().zip(scans).all(|(file, scan)| {
        (scan.head.is_some() || (file.segment.is_some() && scan.kept_len == 0))
            && scan.epochs.iter().all(|mark| mark.epoch > 0)
    });
    if scans.len() < 2 || !epochs_used {
        return;
    }
    let last_whole = |scan: &SegmentScan| scan.epochs.last().map_or(0, |mark| mark.epoch - 1);
    let cut = scans.iter().map(last_whole).min().unwrap_or(0);
    for ((scan, promised), end) in scans.iter().zip(promised_lens(scans)).zip(ends) {
        let kept = scan.epochs.iter().rev().find(|mark| mark.epoch <= cut);
        // Marks alone behind it are no loss. Commands without a seal have no epoch, and go.
        let begins_at = scan.head.map(|(_, lsn)| lsn);
        let kept_len = match kept.map(|mark| mark.lsn).or(begins_at) {
            Some(lsn) if lsn == scan.lsn => scan.sealed_len,
            _ => kept
                .map_or(scan.head_len, |mark| mark.sealed_len)
                .max(promised),
        };
        end.cut(kept_len, cause, "later than what every shard has");
    }
}

/// How much of each segment was promised to survive anything: what was written under `appendfsync always`, and the parts of
/// all transactions before it, which would go where another segment lacks its part.
fn promised_lens(scans: &[SegmentScan]) -> Vec<u64> {
    let mut lens: Vec<u64> = scans.iter().map(|scan| scan.promised_len).collect();
    if lens.iter().all(|len| *len == 0) {
        return lens;
    }
    let ends_of = |scan: &SegmentScan| -> HashMap<u64, u64> {
        scan.transactions.iter().map(|t| (t.id, t.end)).collect()
    };
    let ends: Vec<_> = scans.iter().map(ends_of).collect();
    loop {
        let before = lens.clone();
        for (i, scan) in scans.iter().enumerate() {
            for transaction in scan.transactions.iter().filter(|t| t.end <= before[i]) {
                for (len, ends) in lens.iter_mut().zip(&ends) {
                    *len = (*len).max(ends.get(&transaction.id).copied().unwrap_or(0));
                }
            }
        }
        if lens == before {
            return lens;
        }
    }
}

/// Cuts before each transaction that some participant lacks, until no cut makes another one incomplete.
pub(super) fn cut_incomplete_transactions(scans: &[SegmentScan], ends: &mut [End], cause: Cause) {
    let shards: HashMap<ShardIndex, usize> = scans
        .iter()
        .enumerate()
        .filter_map(|(i, scan)| Some((scan.head?.0.shard, i)))
        .collect();
    loop {
        let present: Vec<HashSet<u64>> = scans
            .iter()
            .zip(ends.iter())
            .map(|(scan, end)| {
                let kept = scan.transactions.iter().filter(|t| t.end <= end.len);
                kept.map(|t| t.id).collect()
            })
            .collect();
        let mut changed = false;
        for (scan, end) in scans.iter().zip(ends.iter_mut()) {
            let everywhere = |shard: &ShardIndex, id: &u64| {
                shards.get(shard).is_some_and(|&i| present[i].contains(id))
            };
            let first_incomplete = scan.transactions.iter().find(|transaction| {
                transaction.end <= end.len
                    && !transaction
                        .participants
                        .iter()
                        .all(|shard| everywhere(shard, &transaction.id))
            });
            if let Some(transaction) = first_incomplete {
                end.cut(
                    transaction.begin,
                    cause,
                    "a transaction that not every shard has",
                );
                changed = true;
            }
        }
        if !changed {
            return;
        }
    }
}

/// The cut that an end means, with what it costs, and where a writer goes on. `scan`: of the file up to `end`. `stamp`:
/// for commands that lose their seal. `ends_in_ours`: not within what a stock server appended.
pub(super) fn cut_of(
    file: &OpenFile,
    scan: &SegmentScan,
    end: &End,
    stamp: Stamp,
    ends_in_ours: bool,
) -> Result<Option<(Cut, Option<SegmentEnd>)>, AofError> {
    let own = scan.end().filter(|_| ends_in_ours);
    let unsealed = own.filter(|own| own.sealed_len < end.len);
    let Some((cause, reason)) = end.why.clone().filter(|_| end.len < file.len) else {
        return Ok(None);
    };
    let io = |error| AofError::io(&file.path, "read")(error);
    let discarded: Contents = contents(&file.file, end.len, file.len, scan.db).map_err(io)?;
    let (seal, own) = match unsealed {
        Some(own) => {
            let kept_len = end.len;
            let at_cut = SegmentEnd { kept_len, ..own };
            // The commands are as old as the block that they were in.
            let unix_ms = discarded.first.map_or(stamp.unix_ms, |seal| seal.unix_ms);
            let stamp = Stamp { unix_ms, ..stamp };
            let (line, sealed) = seal_of_unsealed(&*file.file, &at_cut, stamp).map_err(io)?;
            (line, Some(sealed))
        }
        None => (Vec::new(), own),
    };
    let last_seal = scan.head.and(scan.times);
    let cut = Cut {
        path: file.path.clone(),
        offset: end.len,
        bytes_dropped: file.len - end.len,
        reason,
        cause,
        segment: scan.head.map(|(id, _)| id),
        kept: last_seal.map(|(_, unix_ms)| Position {
            lsn: own.map_or(scan.lsn, |own| own.lsn),
            unix_ms,
        }),
        kept_commands: scan.commands,
        discarded,
        seal,
        drops_file: false,
    };
    Ok(Some((cut, own)))
}

/// A file that goes whole, with its place in the manifest.
pub(super) fn cut_of_whole(file: &OpenFile, reason: &str) -> Result<Cut, AofError> {
    let read = contents(&file.file, 0, file.len, None);
    Ok(Cut {
        path: file.path.clone(),
        offset: 0,
        bytes_dropped: file.len,
        reason: reason.into(),
        cause: Cause::Restore,
        segment: file.segment,
        kept: None,
        kept_commands: 0,
        discarded: read.map_err(AofError::io(&file.path, "read"))?,
        seal: Vec::new(),
        drops_file: true,
    })
}
