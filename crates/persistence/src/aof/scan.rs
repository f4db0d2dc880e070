//! Checking a file of the append-only set without running its commands.
//!
//! A scan passes over all frames and verifies each seal. It ends at the first byte that is not as it should be, and says
//! whether seals of later blocks follow: then the middle is damaged, and no prefix may be taken for the whole. What lies behind
//! the last seal and is well formed is told apart by its first command: stock servers, which write no seals, begin with
//! SELECT when they go on with a file; a block of ours that lost its end was never acknowledged.

use super::annotation::{self, chained, Annotation, LINE_LEN_MAX};
use super::frames::{Frame, FrameError, FrameReader};
use super::segment::SegmentEnd;
use super::{AofError, SegmentId, Stamp};
use crate::storage::sync::SyncPolicy;
use crate::storage::{read_full_at, FileReader, StorageFile};
use keyspace::{DbIndex, Lsn, ShardIndex};
use std::path::Path;
use std::sync::Arc;

/// The last seal of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochMark {
    pub epoch: u64,
    /// Behind the seal.
    pub sealed_len: u64,
    pub lsn: Lsn,
}

/// A transaction over several shards, found complete in this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionMark {
    pub id: u64,
    pub participants: Vec<ShardIndex>,
    /// Where its annotation begins, and where its EXEC ends.
    pub begin: u64,
    pub end: u64,
}

/// What is wrong behind the intact part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Behind the last thing that counts; the reason names the byte.
    pub offset: u64,
    pub reason: String,
    pub kind: FlawKind,
    /// The flawed block's own seal, where it can be read. Neither this nor the next is verified: they vouch for nothing,
    /// but a seal is hardly there by chance.
    pub own: Option<SealAt>,
    /// The first and the last seal of later blocks.
    pub later: Option<(SealAt, SealAt)>,
}

impl Flaw {
    /// The first seal behind what is flawed.
    pub fn next_seal(&self) -> Option<SealAt> {
        let later = self.later.map(|(first, _)| first);
        // One that claims to be younger than what follows is not to be believed.
        let believed = |own: &SealAt| later.is_none_or(|l| own.stamp.unix_ms <= l.stamp.unix_ms);
        self.own.filter(believed).or(later)
    }
}

/// A seal line, as it stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealAt {
    /// Where the line begins.
    pub offset: u64,
    pub lsn: Lsn,
    pub stamp: Stamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlawKind {
    /// The file just ends: within a frame, a transaction or a block.
    CutShort,
    /// The last block has its seal, and does not match it; or what follows the last seal is no frame.
    TailDamaged,
    /// Seals of later blocks follow.
    MiddleDamaged,
}

/// Up to where a file is wanted; nothing set: all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// Blocks sealed later, and what follows a later `#TS` of a stock server, are beyond it.
    pub unix_ms: Option<i64>,
    /// Commands that end behind this position are beyond it.
    pub lsn: Option<Lsn>,
}

/// Where the first thing beyond a [`Limit`] begins: what is kept ends here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitMark {
    /// Behind the last command (or seal) within the limit.
    pub kept_len: u64,
    /// Behind the last seal before that, with what it says.
    pub sealed_len: u64,
    pub lsn: Lsn,
    pub crc: u64,
    /// Of the last seal (or `#TS`) within the limit.
    pub kept_ms: Option<i64>,
    /// Of the first that is beyond it.
    pub dropped_ms: Option<i64>,
}

#[derive(Debug)]
pub struct SegmentScan {
    /// Absent in files of stock servers.
    pub head: Option<(SegmentId, Lsn)>,
    pub file_len: u64,
    /// Behind the head.
    pub head_len: u64,
    /// Behind the last good seal (or the head); 0 if there is none.
    pub sealed_len: u64,
    pub lsn: Lsn,
    pub crc: u64,
    /// Behind the last thing that counts: `sealed_len`, or further where a stock server went on without seals.
    pub kept_len: u64,
    pub epochs: Vec<EpochMark>,
    /// Behind the last seal written under `appendfsync always`: what was promised to survive anything.
    pub promised_len: u64,
    pub transactions: Vec<TransactionMark>,
    pub commands: u64,
    /// What was selected last.
    pub db: Option<DbIndex>,
    pub flaw: Option<Flaw>,
    /// Where the commands begin that a stock server appended to this segment: of any shard's keys.
    pub foreign_from: Option<u64>,
    /// Unix milliseconds of the first and last seal, or of a stock server's `#TS` lines.
    pub times: Option<(i64, i64)>,
    /// `None`: the whole of what counts is within the limit.
    pub limit: Option<LimitMark>,
    pub blocks: Blocks,
}

/// The intact blocks of a file, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blocks {
    pub count: u64,
    /// Those of them that are empty and mark an epoch.
    pub marks: u64,
    /// Those written under `appendfsync` always, everysec, no.
    pub always: u64,
    pub every_second: u64,
    pub no: u64,
}

impl Blocks {
    fn add(&mut self, block_len: u64, policy: SyncPolicy) {
        self.count += 1;
        self.marks += u64::from(block_len == 0);
        *match policy {
            SyncPolicy::Always => &mut self.always,
            SyncPolicy::EverySecond => &mut self.every_second,
            SyncPolicy::No => &mut self.no,
        } += 1;
    }
}

impl SegmentScan {
    /// What a writer needs to go on, for a file with a head.
    pub fn end(&self) -> Option<SegmentEnd> {
        let (id, _) = self.head?;
        let (sealed_len, lsn, crc, kept_len) = (self.sealed_len, self.lsn, self.crc, self.kept_len);
        Some(SegmentEnd {
            id,
            sealed_len,
            lsn,
            crc,
            kept_len,
        })
    }
}

struct Scan {
    reader: FrameReader<FileReader>,
    out: SegmentScan,
    /// The open transaction: its annotation, if it has one, and where it begins.
    multi: Option<(Option<annotation::Transaction>, u64)>,
    annotated: Option<(annotation::Transaction, u64)>,
    /// The first frame behind the last seal is a SELECT as stock servers write it.
    unsealed_is_foreign: Option<bool>,
    limit: Limit,
    /// Behind the last whole command within the limit's position.
    whole_len: u64,
    /// Behind the last seal: the first `#TS` beyond the limit, and what the one before it says.
    late: Option<(u64, Option<i64>, i64)>,
}

/// Scans a file from `from` (0, or behind its RDB preamble) to `end` (its length, or where it was cut).
pub fn scan_segment(
    file: Arc<dyn StorageFile>,
    path: &Path,
    from: u64,
    end: u64,
) -> Result<SegmentScan, AofError> {
    scan_with_limit(file, path, from, end, Limit::default())
}

/// As [`scan_segment`]; notes where the limit lies.
pub fn scan_with_limit(
    file: Arc<dyn StorageFile>,
    path: &Path,
    from: u64,
    end: u64,
    limit: Limit,
) -> Result<SegmentScan, AofError> {
    let mut scan = Scan::new(&file, from, end, limit);
    scan.run_to_end(&*file, path)?;
    Ok(scan.out)
}

/// Scans on behind a seal that is taken for good: where it ends, and the position and checksum that it says.
pub fn scan_behind(
    file: &Arc<dyn StorageFile>,
    path: &Path,
    head: (SegmentId, Lsn),
    (from, lsn, crc): (u64, Lsn, u64),
    end: u64,
) -> Result<SegmentScan, AofError> {
    let mut scan = Scan::new(file, from, end, Limit::default());
    let out = &mut scan.out;
    out.head = Some(head);
    (out.sealed_len, out.lsn, out.crc) = (from, lsn, crc);
    scan.reader.restart_digest(chained(crc));
    scan.run_to_end(&**file, path)?;
    Ok(scan.out)
}

/// Why a run over the frames ended before the end of the file.
struct Stopped {
    reason: String,
    cut_short: bool,
    /// A seal was there and did not match.
    at_seal: bool,
}

impl Scan {
    fn new(file: &Arc<dyn StorageFile>, from: u64, end: u64, limit: Limit) -> Scan {
        let source = FileReader::new(file.clone(), from, end);
        let reader = FrameReader::new(source, from, end.saturating_sub(from));
        let out = SegmentScan {
            head: None,
            file_len: end,
            head_len: 0,
            sealed_len: 0,
            lsn: Lsn(0),
            crc: 0,
            kept_len: from,
            epochs: Vec::new(),
            promised_len: 0,
            transactions: Vec::new(),
            commands: 0,
            db: None,
            flaw: None,
            foreign_from: None,
            times: None,
            limit: None,
            blocks: Blocks::default(),
        };
        Scan {
            reader,
            out,
            multi: None,
            annotated: None,
            unsealed_is_foreign: None,
            limit,
            whole_len: from,
            late: None,
        }
    }

    fn run_to_end(&mut self, file: &dyn StorageFile, path: &Path) -> Result<(), AofError> {
        let stopped = self.run().map_err(AofError::io(path, "read"))?;
        self.finish(stopped, file)
            .map_err(AofError::io(path, "read"))?;
        if self.out.head.is_some() && self.out.kept_len > self.out.sealed_len {
            self.out.foreign_from = Some(self.out.sealed_len);
        }
        self.limit_unsealed();
        Ok(())
    }

    fn run(&mut self) -> std::io::Result<Option<Stopped>> {
        let stop = |reason: &str, cut_short| {
            Some(Stopped {
                reason: reason.into(),
                cut_short,
                at_seal: false,
            })
        };
        loop {
            match self.reader.next() {
                Ok(Some(Frame::Command)) => {
                    if let Err(reason) = self.command() {
                        return Ok(stop(reason, false));
                    }
                }
                Ok(Some(Frame::Comment)) => {
                    if let Err(stopped) = self.comment() {
                        return Ok(Some(stopped));
                    }
                }
                Ok(None) if self.multi.is_some() => return Ok(stop("MULTI without EXEC", true)),
                Ok(None) => return Ok(None),
                Err(FrameError::Incomplete) => return Ok(stop("it ends within a command", true)),
                Err(FrameError::Malformed(reason)) => return Ok(stop(reason, false)),
                Err(FrameError::Io(e)) => return Err(e),
            }
        }
    }

    fn command(&mut self) -> Result<(), &'static str> {
        let reader = &self.reader;
        let name = reader.argument(0);
        if self.unsealed_is_foreign.is_none() {
            self.unsealed_is_foreign = Some(name == b"SELECT");
        }
        if name.eq_ignore_ascii_case(b"MULTI") {
            if self.multi.is_some() {
                return Err("MULTI within MULTI");
            }
            let (transaction, begin) = match self.annotated.take() {
                Some((transaction, begin)) => (Some(transaction), begin),
                None => (None, reader.offset()),
            };
            self.multi = Some((transaction, begin));
        } else if name.eq_ignore_ascii_case(b"EXEC") {
            let (transaction, begin) = self.multi.take().ok_or("EXEC without MULTI")?;
            if let Some(annotation::Transaction { id, participants }) = transaction {
                let end = reader.end_offset();
                self.out.transactions.push(TransactionMark {
                    id,
                    participants,
                    begin,
                    end,
                });
            }
        } else if name.eq_ignore_ascii_case(b"SELECT") && reader.argument_count() == 2 {
            let db = datatypes::number::parse_u64(reader.argument(1));
            self.out.db = db.and_then(|db| u32::try_from(db).ok()).map(DbIndex);
        } else {
            self.out.commands += 1;
        }
        self.annotated = None;
        if self.multi.is_none() {
            self.note_whole();
        }
        if self.multi.is_none()
            && (self.out.head.is_none() || self.unsealed_is_foreign == Some(true))
        {
            self.out.kept_len = self.reader.end_offset();
        }
        Ok(())
    }

    fn comment(&mut self) -> Result<(), Stopped> {
        let bad = |reason: &str, at_seal| Stopped {
            reason: reason.into(),
            cut_short: false,
            at_seal,
        };
        let (line, offset) = (self.reader.line(), self.reader.offset());
        match annotation::parse(line).map_err(|reason| bad(reason, line.starts_with(b"#SEAL")))? {
            // It may be a seal whose first letters changed.
            Annotation::Other if self.out.head.is_some() => {
                return Err(bad("a comment line that no server writes", true));
            }
            Annotation::Other => {}
            Annotation::Timestamp(seconds) => self.note_timestamp(seconds, offset),
            Annotation::Transaction(transaction) => self.annotated = Some((transaction, offset)),
            Annotation::Head { id, lsn, crc } => {
                if offset != 0 {
                    return Err(bad("a head that is not the first line", false));
                }
                if self
                    .reader
                    .digest_with(line_len_without_crc(self.reader.line()))
                    != crc
                {
                    return Err(bad("the head does not match its checksum", true));
                }
                self.out.head = Some((id, lsn));
                self.sealed(lsn, crc);
                self.out.head_len = self.out.sealed_len;
            }
            Annotation::Seal {
                block_len,
                lsn,
                stamp,
                crc,
            } => {
                if self.out.head.is_none() {
                    self.out.kept_len = 0;
                    return Err(bad("a seal in a file without head", false));
                }
                if self.multi.is_some() {
                    return Err(bad("a seal within a transaction", true));
                }
                let matches = offset - self.out.sealed_len == block_len
                    && self.out.lsn.0.checked_add(block_len) == Some(lsn.0)
                    && self
                        .reader
                        .digest_with(line_len_without_crc(self.reader.line()))
                        == crc;
                if !matches {
                    return Err(bad("the block does not match its seal", true));
                }
                self.limit_at_seal(lsn, stamp.unix_ms);
                self.note_time(stamp.unix_ms);
                self.out.blocks.add(block_len, stamp.policy);
                self.sealed(lsn, crc);
                let sealed_len = self.out.sealed_len;
                if stamp.policy == SyncPolicy::Always {
                    self.out.promised_len = sealed_len;
                }
                // Epochs rise. One that does not tells nothing: its block goes with the one before.
                match self.out.epochs.last_mut() {
                    Some(last) if last.epoch >= stamp.epoch => {
                        (last.sealed_len, last.lsn) = (sealed_len, lsn)
                    }
                    _ => self.out.epochs.push(EpochMark {
                        epoch: stamp.epoch,
                        sealed_len,
                        lsn,
                    }),
                }
            }
        }
        Ok(())
    }

    fn sealed(&mut self, lsn: Lsn, crc: u64) {
        let end = self.reader.end_offset();
        (self.out.sealed_len, self.out.kept_len) = (end, end);
        (self.out.lsn, self.out.crc) = (lsn, crc);
        self.unsealed_is_foreign = None;
        (self.whole_len, self.late) = (end, None);
        self.reader.restart_digest(chained(crc));
    }

    fn note_time(&mut self, unix_ms: i64) {
        let first = self.out.times.map_or(unix_ms, |(first, _)| first);
        self.out.times = Some((first, unix_ms));
    }

    /// A `#TS` counts in what stock servers wrote; blocks of ours have their seals.
    fn note_timestamp(&mut self, seconds: i64, offset: u64) {
        let unix_ms = seconds.saturating_mul(1000);
        if self.limit.unix_ms.is_some_and(|limit| unix_ms > limit) && self.late.is_none() {
            let annotated = self.annotated.as_ref().map(|(_, begin)| *begin);
            let multi = self.multi.as_ref().map(|(_, begin)| *begin);
            let begin = multi.or(annotated).unwrap_or(offset);
            self.late = Some((begin, self.out.times.map(|(_, last)| last), unix_ms));
        }
        if self.out.head.is_none() {
            self.note_time(unix_ms);
        }
    }

    /// Behind a command that stands alone, or a transaction.
    fn note_whole(&mut self) {
        let end = self.reader.end_offset();
        let lsn = self.out.lsn.0.saturating_add(end - self.out.sealed_len);
        if self.limit.lsn.is_some_and(|limit| lsn <= limit.0) {
            self.whole_len = end;
        }
    }

    /// At a good seal, before it is taken in: whether its block is beyond the limit, or a part of it.
    fn limit_at_seal(&mut self, lsn: Lsn, unix_ms: i64) {
        let late = self.limit.unix_ms.is_some_and(|limit| unix_ms > limit);
        let far = self.limit.lsn.is_some_and(|limit| lsn > limit);
        if self.out.limit.is_some() || !(late || far) {
            return;
        }
        let kept_len = if late {
            self.out.sealed_len
        } else {
            self.whole_len
        };
        let within = kept_len > self.out.sealed_len;
        let kept_ms = self.out.times.map(|(_, last)| last);
        let kept_ms = if within { Some(unix_ms) } else { kept_ms };
        self.mark_limit(kept_len, kept_ms, Some(unix_ms));
    }

    /// The flawed block may be the first beyond the limit: then nothing is missing within it.
    fn limit_at_flaw(&mut self) {
        let (Some(flaw), None) = (&self.out.flaw, self.out.limit) else {
            return;
        };
        let late = |own: SealAt| {
            self.limit
                .unix_ms
                .is_some_and(|limit| own.stamp.unix_ms > limit)
        };
        let far = self.out.head.is_some() && self.limit.lsn == Some(self.out.lsn);
        if far || flaw.own.is_some_and(late) {
            let dropped_ms = flaw.next_seal().map(|seal| seal.stamp.unix_ms);
            let kept_ms = self.out.times.map(|(_, last)| last);
            self.mark_limit(self.out.sealed_len, kept_ms, dropped_ms);
        }
    }

    fn mark_limit(&mut self, kept_len: u64, kept_ms: Option<i64>, dropped_ms: Option<i64>) {
        self.out.limit = Some(LimitMark {
            kept_len,
            sealed_len: self.out.sealed_len,
            lsn: self.out.lsn,
            crc: self.out.crc,
            kept_ms,
            dropped_ms,
        });
    }

    /// At the end: what counts without a seal, which positions do not reach.
    fn limit_unsealed(&mut self) {
        if self.out.limit.is_some() || self.out.kept_len == self.out.sealed_len {
            return;
        }
        match self.late {
            Some((begin, kept_ms, dropped_ms)) if begin < self.out.kept_len => {
                self.mark_limit(begin, kept_ms, Some(dropped_ms));
            }
            _ if self.out.head.is_some() && self.limit.lsn == Some(self.out.lsn) => {
                let kept_ms = self.out.times.map(|(_, last)| last);
                self.mark_limit(self.out.sealed_len, kept_ms, None);
            }
            _ => {}
        }
    }

    fn finish(&mut self, stopped: Option<Stopped>, file: &dyn StorageFile) -> std::io::Result<()> {
        let out = &mut self.out;
        // A file of ours without SELECT behind its last seal lost the end of a block.
        let block_open = out.head.is_some() && out.kept_len < out.file_len;
        let stopped = match stopped {
            Some(stopped) => stopped,
            None if block_open => Stopped {
                reason: "the last block has no seal".into(),
                cut_short: true,
                at_seal: false,
            },
            None => return Ok(()),
        };
        let SealsBehind { own, later } = seals_behind(file, out)?;
        let kind = if later.is_some() {
            FlawKind::MiddleDamaged
        } else if stopped.cut_short && !stopped.at_seal {
            FlawKind::CutShort
        } else {
            FlawKind::TailDamaged
        };
        if out.head.is_some() && kind != FlawKind::CutShort {
            // What looked like commands of a stock server belongs to a block that is not intact.
            out.kept_len = out.sealed_len;
        }
        let kept = out.kept_len;
        out.transactions
            .retain(|transaction| transaction.end <= kept);
        let reason = format!("{} (byte {})", stopped.reason, self.reader.end_offset());
        out.flaw = Some(Flaw {
            offset: kept,
            reason,
            kind,
            own,
            later,
        });
        self.limit_at_flaw();
        Ok(())
    }
}

/// Bytes of a sealing line before its checksum.
fn line_len_without_crc(line: &[u8]) -> usize {
    line.len().saturating_sub(16)
}

/// The shortest seal line.
const SEAL_LEN_MIN: u64 = 34;

/// As in [`Flaw`].
struct SealsBehind {
    own: Option<SealAt>,
    later: Option<(SealAt, SealAt)>,
}

/// The seals behind a flawed block, which begins behind the last good seal. The flawed block's own seal is told
/// from a later one by where its block begins, and by the seal lines that positions do not count: one flipped byte
/// cannot make both wrong.
fn seals_behind(file: &dyn StorageFile, out: &SegmentScan) -> std::io::Result<SealsBehind> {
    let mut own: Option<SealAt> = None;
    let mut later: Option<(SealAt, SealAt)> = None;
    const WINDOW_BYTES: usize = if cfg!(fuzzing) { 64 } else { 1 << 20 };
    let mut window = vec![0; WINDOW_BYTES + LINE_LEN_MAX];
    let mut at = out.sealed_len;
    while at < out.file_len {
        let want = window.len().min((out.file_len - at) as usize);
        let got = read_full_at(file, &mut window[..want], at)?;
        if got == 0 {
            break;
        }
        let bytes = &window[..got];
        let searched = got.min(WINDOW_BYTES);
        let mut i = 0;
        while let Some(found) = bytes[i..]
            .windows(7)
            .position(|w| w == b"\n#SEAL ")
            .map(|p| p + i)
        {
            if found >= searched {
                break;
            }
            i = found + 1;
            let rest = &bytes[i..];
            let Some(line_end) = rest.iter().take(LINE_LEN_MAX).position(|&b| b == b'\n') else {
                continue;
            };
            let line = rest[..line_end]
                .strip_suffix(b"\r")
                .unwrap_or(&rest[..line_end]);
            let Ok(Annotation::Seal {
                block_len,
                lsn,
                stamp,
                ..
            }) = annotation::parse(line)
            else {
                continue;
            };
            let begin = at + i as u64;
            let seal = SealAt {
                offset: begin,
                lsn,
                stamp,
            };
            let block = begin.checked_sub(block_len);
            let uncounted =
                (begin - out.sealed_len).saturating_sub(lsn.0.saturating_sub(out.lsn.0));
            if block.is_some_and(|block| block > out.sealed_len) && uncounted >= SEAL_LEN_MIN {
                later = Some((later.map_or(seal, |(first, _)| first), seal));
            } else if block == Some(out.sealed_len) {
                own = own.or(Some(seal));
            }
        }
        at += searched as u64;
    }
    Ok(SealsBehind { own, later })
}
