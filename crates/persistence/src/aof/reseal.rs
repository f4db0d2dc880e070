//! Sealing a segment again that somebody edited: a command taken out, a value changed, a comment put in.
//!
//! The edit must have left whole commands: then every block is what lies between two seals, and gets a seal that fits,
//! with the time, epoch and policy of the old one. Positions shrink by what was taken out. The new file replaces the old
//! one in one step. Whether a block was edited or damaged nobody can tell from its bytes: that is for the caller to ask.
//! Invariants: no command is lost or moved to another block; of the edited file nothing is changed but seals, the head,
//! and comment lines, which no segment has.

use super::annotation::{self, chained, put_head, put_seal, Annotation};
use super::contents::{contents, Contents};
use super::frames::{Frame, FrameError, FrameReader};
use super::{AofError, SegmentId, Stamp};
use crate::crc::Xz;
use crate::storage::{write_all_at, FileReader, Open, Storage, StorageFile};
use keyspace::Lsn;
use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Blocks that are described one by one.
const DESCRIBED_MAX: usize = 1000;
const WRITE_BYTES: usize = 1 << 20;

/// A block whose bytes are not those that were sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EditedBlock {
    pub offset: u64,
    pub bytes_sealed: u64,
    pub bytes_now: u64,
    /// What its old seal says.
    pub lsn: Lsn,
    pub stamp: Stamp,
    /// One or more blocks before it are gone altogether.
    pub follows_gap: bool,
    pub contents: Contents,
}

/// What sealing a file again would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reseal {
    pub path: PathBuf,
    /// The first of the blocks that were edited; those that only follow such a block are sealed again too.
    pub edited: Vec<EditedBlock>,
    pub edited_count: u64,
    /// The head is missing, or does not match its checksum.
    pub head: bool,
    /// Comment lines that are left out.
    pub comments: u64,
    /// Transactions that are left out because they were to be.
    pub dropped: Vec<u64>,
    /// Behind the last seal: kept as it is.
    pub unsealed_bytes: u64,
}

impl Reseal {
    pub fn is_needed(&self) -> bool {
        self.edited_count > 0 || self.head || self.comments > 0 || !self.dropped.is_empty()
    }
}

/// Finds what is to be sealed again. `id`: the segment that it is, where its head does not say. `drop`: transactions to
/// leave out, because they were taken out of other segments. An error if the edit did not leave whole commands.
pub fn plan(
    file: &Arc<dyn StorageFile>,
    path: &Path,
    id: Option<SegmentId>,
    drop: &HashSet<u64>,
) -> Result<Reseal, AofError> {
    let mut pass = Pass::new(file, path, id, drop, None)?;
    pass.run()?;
    let mut out = pass.out;
    for block in &mut out.edited {
        let end = block.offset + block.bytes_now;
        block.contents =
            contents(file, block.offset, end, None).map_err(AofError::io(path, "read"))?;
    }
    Ok(out)
}

/// Writes the file anew, durably.
pub fn apply(
    storage: &dyn Storage,
    path: &Path,
    id: Option<SegmentId>,
    drop: &HashSet<u64>,
) -> Result<Reseal, AofError> {
    let file = storage
        .open(path, Open::Read)
        .map_err(AofError::io(path, "open"))?;
    let mut name = OsString::from("temp-");
    name.push(path.file_name().unwrap_or_default());
    let temp = path.with_file_name(name);
    let written = write_anew(storage, &file, path, id, drop, &temp);
    if written.is_err() {
        // The error that is reported is the first.
        let _ = storage.remove(&temp);
    }
    written
}

fn write_anew(
    storage: &dyn Storage,
    file: &Arc<dyn StorageFile>,
    path: &Path,
    id: Option<SegmentId>,
    drop: &HashSet<u64>,
    temp: &Path,
) -> Result<Reseal, AofError> {
    let target = storage
        .open(temp, Open::Create)
        .map_err(AofError::io(temp, "create"))?;
    let mut pass = Pass::new(file, path, id, drop, Some(target.clone()))?;
    pass.run()?;
    pass.flush()
        .and_then(|()| target.datasync())
        .map_err(AofError::io(temp, "write"))?;
    let dir = path.parent().unwrap_or(Path::new(""));
    storage
        .rename(temp, path)
        .and_then(|()| storage.sync_dir(dir))
        .map_err(AofError::io(path, "replace"))?;
    Ok(pass.out)
}

/// The transactions over several shards that an edited file holds, whatever its seals say.
pub fn transactions(file: &Arc<dyn StorageFile>, path: &Path) -> Result<HashSet<u64>, AofError> {
    let len = file.len().map_err(AofError::io(path, "measure"))?;
    let mut reader = FrameReader::new(FileReader::new(file.clone(), 0, len), 0, len);
    let (mut found, mut annotated) = (HashSet::new(), None);
    loop {
        match reader.next() {
            Ok(Some(Frame::Comment)) => {
                annotated = match annotation::parse(reader.line()) {
                    Ok(Annotation::Transaction(transaction)) => Some(transaction.id),
                    _ => None,
                };
            }
            Ok(Some(Frame::Command)) => {
                let id = annotated.take();
                if reader.argument(0).eq_ignore_ascii_case(b"MULTI") {
                    found.extend(id);
                }
            }
            // How it ends is for others to say.
            Ok(None) | Err(FrameError::Incomplete | FrameError::Malformed(_)) => return Ok(found),
            Err(FrameError::Io(e)) => return Err(AofError::io(path, "read")(e)),
        }
    }
}

/// One walk over a file, which counts and perhaps writes.
struct Pass<'a> {
    file: Arc<dyn StorageFile>,
    path: &'a Path,
    drop: &'a HashSet<u64>,
    reader: FrameReader<FileReader>,
    out: Reseal,
    target: Option<Arc<dyn StorageFile>>,
    buffer: Vec<u8>,
    written: u64,
    /// Of the block under way: where it begins in the old file, and what the new one has of it.
    block_begin: u64,
    block_len: u64,
    digest: Xz,
    lsn: Lsn,
    /// By the old seals.
    lsn_before: Lsn,
    /// A `#TXN` line, which counts if MULTI follows.
    annotation: Option<(u64, Vec<u8>)>,
    in_multi: bool,
    dropping: bool,
    /// In the transaction that is being left out: what follows depends on it.
    select: Option<Vec<u8>>,
}

impl<'a> Pass<'a> {
    fn new(
        file: &Arc<dyn StorageFile>,
        path: &'a Path,
        id: Option<SegmentId>,
        drop: &'a HashSet<u64>,
        target: Option<Arc<dyn StorageFile>>,
    ) -> Result<Self, AofError> {
        let len = file.len().map_err(AofError::io(path, "measure"))?;
        let reader = FrameReader::new(FileReader::new(file.clone(), 0, len), 0, len);
        let mut pass = Pass {
            file: file.clone(),
            path,
            drop,
            reader,
            out: Reseal {
                path: path.to_owned(),
                ..Reseal::default()
            },
            target,
            buffer: Vec::new(),
            written: 0,
            block_begin: 0,
            block_len: 0,
            digest: Xz::default(),
            lsn: Lsn(0),
            lsn_before: Lsn(0),
            annotation: None,
            in_multi: false,
            dropping: false,
            select: None,
        };
        pass.head(id, len)?;
        Ok(pass)
    }

    fn damaged<T>(&self, offset: u64, reason: impl Into<String>) -> Result<T, AofError> {
        Err(AofError::Damaged {
            path: self.path.to_owned(),
            offset,
            lsn: None,
            reason: reason.into(),
        })
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), AofError> {
        if self.target.is_none() {
            return Ok(());
        }
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WRITE_BYTES {
            self.flush().map_err(AofError::io(self.path, "write"))?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(target) = &self.target {
            write_all_at(&**target, &self.buffer, self.written)?;
            self.written += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }

    /// The head is written from what the file, or else the manifest, says of the segment.
    fn head(&mut self, id: Option<SegmentId>, len: u64) -> Result<(), AofError> {
        let first = self.reader.next();
        let (known, line) = match first {
            Ok(Some(Frame::Comment)) => (annotation::parse(self.reader.line()), true),
            _ => (Ok(Annotation::Other), false),
        };
        let (id, lsn) = match (known, id) {
            (Ok(Annotation::Head { id, lsn, crc }), _) => {
                let without_crc = self.reader.line().len().saturating_sub(16);
                self.out.head = self.reader.digest_with(without_crc) != crc;
                self.reader.restart_digest(chained(crc));
                self.block_begin = self.reader.end_offset();
                (id, lsn)
            }
            (known, Some(id)) => {
                self.out.head = true;
                // A damaged head goes; anything else is of the first block.
                let head = line && known.is_err();
                let from = if head { self.reader.end_offset() } else { 0 };
                self.block_begin = from;
                let source = FileReader::new(self.file.clone(), from, len);
                self.reader = FrameReader::new(source, from, len - from);
                (id, self.lsn_of_first_block()?)
            }
            _ => return self.damaged(0, "it has no head that says which segment it is"),
        };
        let mut head = Vec::new();
        let crc = put_head(&mut head, id, lsn);
        (self.lsn, self.lsn_before) = (lsn, lsn);
        self.digest = chained(crc);
        self.put(&head)
    }

    /// Where the log of a file without head begins, by its first seal.
    fn lsn_of_first_block(&self) -> Result<Lsn, AofError> {
        let len = self
            .file
            .len()
            .map_err(AofError::io(self.path, "measure"))?;
        let from = self.block_begin;
        let source = FileReader::new(self.file.clone(), from, len);
        let mut reader = FrameReader::new(source, from, len - from);
        loop {
            match reader.next() {
                Ok(Some(Frame::Comment)) => {
                    if let Ok(Annotation::Seal { block_len, lsn, .. }) =
                        annotation::parse(reader.line())
                    {
                        return Ok(Lsn(lsn.0.saturating_sub(block_len)));
                    }
                }
                Ok(Some(Frame::Command)) => {}
                _ => return Ok(Lsn(0)),
            }
        }
    }

    fn run(&mut self) -> Result<(), AofError> {
        loop {
            match self.reader.next() {
                Ok(Some(Frame::Command)) => self.command()?,
                Ok(Some(Frame::Comment)) => self.comment()?,
                Ok(None) => break,
                Err(FrameError::Incomplete) => {
                    self.refuse_if_seals_follow()?;
                    break;
                }
                Err(FrameError::Malformed(reason)) => {
                    return self.damaged(self.reader.end_offset(), reason)
                }
                Err(FrameError::Io(e)) => return Err(AofError::io(self.path, "read")(e)),
            }
        }
        self.unsealed()
    }

    /// What claims to reach behind the end of the file is a torn tail, unless there are seals in it.
    fn refuse_if_seals_follow(&self) -> Result<(), AofError> {
        let at = self.reader.end_offset();
        let len = self
            .file
            .len()
            .map_err(AofError::io(self.path, "measure"))?;
        let rest = contents(&self.file, at, len, None).map_err(AofError::io(self.path, "read"))?;
        match rest.last {
            Some(_) => self.damaged(at, "a length reaches behind the end of the file"),
            None => Ok(()),
        }
    }

    /// What is behind the last seal stays as it is.
    fn unsealed(&mut self) -> Result<(), AofError> {
        let len = self
            .file
            .len()
            .map_err(AofError::io(self.path, "measure"))?;
        self.out.unsealed_bytes = len - self.block_begin;
        if self.target.is_none() {
            return Ok(());
        }
        // Of the frames passed since, the front is written already.
        let passed = self.reader.end_offset();
        if let Some((_, line)) = self.annotation.take() {
            self.put(&line)?;
        }
        let mut buffer = vec![0; WRITE_BYTES];
        let mut at = passed;
        while at < len {
            let want = buffer.len().min((len - at) as usize);
            let got = crate::storage::read_full_at(&*self.file, &mut buffer[..want], at);
            let got = got.map_err(AofError::io(self.path, "read"))?;
            if got == 0 {
                break;
            }
            self.put(&buffer[..got])?;
            at += got as u64;
        }
        Ok(())
    }

    /// Takes the current frame, or bytes put before it, into the block.
    fn keep(&mut self, bytes: &[u8]) -> Result<(), AofError> {
        self.block_len += bytes.len() as u64;
        self.digest.update(bytes);
        self.put(bytes)
    }

    fn command(&mut self) -> Result<(), AofError> {
        let name = self.reader.argument(0);
        let (is_multi, is_exec) = (
            name.eq_ignore_ascii_case(b"MULTI"),
            name.eq_ignore_ascii_case(b"EXEC"),
        );
        let at = self.reader.offset();
        if is_multi && self.in_multi {
            return self.damaged(at, "MULTI within MULTI");
        }
        if is_exec && !self.in_multi {
            return self.damaged(at, "EXEC without MULTI");
        }
        let annotation = self.annotation.take();
        if is_multi {
            self.in_multi = true;
            let dropped = annotation.as_ref().map(|(id, _)| *id);
            self.dropping = dropped.is_some_and(|id| self.drop.contains(&id));
            match (annotation, self.dropping) {
                (Some((id, _)), true) => self.out.dropped.push(id),
                (Some((_, line)), false) => self.keep(&line)?,
                (None, _) => {}
            }
        } else {
            self.out.comments += u64::from(annotation.is_some());
        }
        if !self.dropping {
            let frame = self.reader.frame().to_vec();
            self.keep(&frame)?;
        } else if self.reader.argument(0).eq_ignore_ascii_case(b"SELECT") {
            self.select = Some(self.reader.frame().to_vec());
        }
        if is_exec {
            (self.in_multi, self.dropping) = (false, false);
            if let Some(select) = self.select.take() {
                self.keep(&select)?;
            }
        }
        Ok(())
    }

    fn comment(&mut self) -> Result<(), AofError> {
        let at = self.reader.offset();
        let orphan = self.annotation.take().is_some();
        match annotation::parse(self.reader.line()) {
            Ok(Annotation::Transaction(transaction)) => {
                let line = self.reader.frame().to_vec();
                self.annotation = Some((transaction.id, line));
            }
            Ok(Annotation::Timestamp(_)) => {
                let line = self.reader.frame().to_vec();
                self.keep(&line)?;
            }
            Ok(Annotation::Seal {
                block_len,
                lsn,
                stamp,
                crc,
            }) => {
                if self.in_multi {
                    return self.damaged(at, "a seal within a transaction");
                }
                self.seal(block_len, lsn, stamp, crc)?;
            }
            Ok(Annotation::Other) => self.out.comments += 1,
            Ok(Annotation::Head { .. }) => {
                return self.damaged(at, "a head that is not the first line")
            }
            Err(reason) => return self.damaged(at, reason),
        }
        self.out.comments += u64::from(orphan);
        Ok(())
    }

    fn seal(&mut self, sealed: u64, lsn: Lsn, stamp: Stamp, crc: u64) -> Result<(), AofError> {
        let begin = self.block_begin;
        let now = self.reader.offset() - begin;
        let without_crc = self.reader.line().len().saturating_sub(16);
        let follows_gap = lsn.0.checked_sub(sealed) != Some(self.lsn_before.0);
        let intact = now == sealed && self.reader.digest_with(without_crc) == crc;
        if !intact || follows_gap {
            self.out.edited_count += 1;
            if self.out.edited.len() < DESCRIBED_MAX {
                self.out.edited.push(EditedBlock {
                    offset: begin,
                    bytes_sealed: sealed,
                    bytes_now: now,
                    lsn,
                    stamp,
                    follows_gap,
                    contents: Contents::default(),
                });
            }
        }
        let new_lsn = Lsn(self.lsn.0 + self.block_len);
        let mut line = Vec::with_capacity(128);
        let digest = std::mem::take(&mut self.digest);
        let new_crc = put_seal(&mut line, digest, self.block_len, new_lsn, stamp);
        self.put(&line)?;
        self.digest = chained(new_crc);
        (self.lsn, self.lsn_before, self.block_len) = (new_lsn, lsn, 0);
        self.block_begin = self.reader.end_offset();
        self.reader.restart_digest(chained(crc));
        Ok(())
    }
}
