//! Writing a segment: blocks of commands, each followed by its seal, each out with one write.
//!
//! Invariants: the file ends behind a seal (or the head) whenever no append is under way; an append that failed leaves no
//! part of its block behind, or the writer refuses all further ones.

use super::annotation::{chained, put_head, put_seal};
use super::{AofError, SegmentId, Stamp};
use crate::crc::Xz;
use crate::storage::{read_full_at, Open, Storage, StorageFile};
use keyspace::Lsn;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a segment ends: what a writer needs to go on behind it. Comes from [`super::scan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentEnd {
    pub id: SegmentId,
    /// Behind the last seal that counts; 0: not even the head does.
    pub sealed_len: u64,
    pub lsn: Lsn,
    pub crc: u64,
    /// Behind the last command that counts; more than `sealed_len` after a stock server appended without seals.
    pub kept_len: u64,
}

/// The seal for what a file holds between its last seal that counts and the end of what counts, and where the file ends
/// behind it.
pub(super) fn seal_of_unsealed(
    file: &dyn StorageFile,
    end: &SegmentEnd,
    stamp: Stamp,
) -> io::Result<(Vec<u8>, SegmentEnd)> {
    let mut digest = chained(end.crc);
    let mut buffer = vec![0; 64 << 10];
    let mut at = end.sealed_len;
    while at < end.kept_len {
        let want = (end.kept_len - at).min(buffer.len() as u64) as usize;
        let got = read_full_at(file, &mut buffer[..want], at)?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        digest.update(&buffer[..got]);
        at += got as u64;
    }
    let block_len = end.kept_len - end.sealed_len;
    let lsn = Lsn(end.lsn.0 + block_len);
    let mut line = Vec::with_capacity(128);
    let crc = put_seal(&mut line, digest, block_len, lsn, stamp);
    let len = end.kept_len + line.len() as u64;
    let sealed = SegmentEnd {
        id: end.id,
        sealed_len: len,
        lsn,
        crc,
        kept_len: len,
    };
    Ok((line, sealed))
}

/// The one writer of a segment's file.
pub struct SegmentWriter {
    path: PathBuf,
    file: Arc<dyn StorageFile>,
    id: SegmentId,
    len: u64,
    lsn: Lsn,
    crc: u64,
    /// A failed append could not be undone: the file's end is unknown.
    torn: bool,
}

impl SegmentWriter {
    /// Creates (or empties) the file and writes its head. Durable only after datasync of the file and of its directory.
    pub fn create(
        storage: &dyn Storage,
        path: &Path,
        id: SegmentId,
        lsn: Lsn,
    ) -> Result<Self, AofError> {
        let file = storage
            .open(path, Open::Append)
            .map_err(AofError::io(path, "create"))?;
        file.truncate(0).map_err(AofError::io(path, "empty"))?;
        let mut head = Vec::with_capacity(128);
        let crc = put_head(&mut head, id, lsn);
        let mut writer = SegmentWriter {
            path: path.to_owned(),
            file,
            id,
            len: 0,
            lsn,
            crc,
            torn: false,
        };
        writer
            .write(&head)
            .map_err(AofError::io(path, "write the head of"))?;
        Ok(writer)
    }

    /// Goes on behind what a scan found to count: cuts what does not, seals what has no seal yet, and makes all of it
    /// durable: what a process wrote that was killed may be in the page cache alone, and is about to be served.
    pub fn resume(
        storage: &dyn Storage,
        path: &Path,
        end: &SegmentEnd,
        stamp: Stamp,
    ) -> Result<Self, AofError> {
        if end.sealed_len == 0 {
            return Self::create(storage, path, end.id, end.lsn);
        }
        let file = storage
            .open(path, Open::Append)
            .map_err(AofError::io(path, "open"))?;
        let len = file.len().map_err(AofError::io(path, "measure"))?;
        if len > end.kept_len {
            file.truncate(end.kept_len)
                .map_err(AofError::io(path, "truncate"))?;
        }
        let mut writer = SegmentWriter {
            path: path.to_owned(),
            file,
            id: end.id,
            len: end.kept_len,
            lsn: end.lsn,
            crc: end.crc,
            torn: false,
        };
        if end.kept_len > end.sealed_len {
            writer
                .seal_unsealed(end, stamp)
                .map_err(AofError::io(path, "seal"))?;
        }
        writer.file.datasync().map_err(AofError::io(path, "sync"))?;
        Ok(writer)
    }

    fn seal_unsealed(&mut self, end: &SegmentEnd, stamp: Stamp) -> io::Result<()> {
        let (line, sealed) = seal_of_unsealed(&*self.file, end, stamp)?;
        self.write(&line)?;
        (self.lsn, self.crc) = (sealed.lsn, sealed.crc);
        Ok(())
    }

    /// Appends a block: `block` is the bytes of whole commands (and annotations); the seal is added to it in place, and
    /// all goes out with one write(2), or more where that comes back short. Returns the LSN behind the block, which is
    /// now *written*. On an error the file is as before and `block` too, so that the same call may be repeated; an error
    /// of that undoing makes every later append fail. An empty block writes a seal alone: it marks a new epoch.
    pub fn append(&mut self, block: &mut Vec<u8>, stamp: Stamp) -> io::Result<Lsn> {
        if self.torn {
            return Err(io::Error::other(
                "an earlier failed append could not be undone",
            ));
        }
        let block_len = block.len();
        let lsn = Lsn(self.lsn.0 + block_len as u64);
        let mut digest: Xz = chained(self.crc);
        digest.update(block);
        let crc = put_seal(block, digest, block_len as u64, lsn, stamp);
        match self.write(block) {
            Ok(()) => {
                (self.lsn, self.crc) = (lsn, crc);
                Ok(lsn)
            }
            Err(e) => {
                block.truncate(block_len);
                Err(e)
            }
        }
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let whole = bytes.len() as u64;
        while !bytes.is_empty() {
            let error = match self.file.append(bytes) {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(n) => {
                    bytes = &bytes[n..];
                    continue;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => e,
            };
            if (bytes.len() as u64) < whole {
                self.torn = self.file.truncate(self.len).is_err();
            }
            return Err(error);
        }
        self.len += whole;
        Ok(())
    }

    /// From now on appends go through `file`, another way to the same contents.
    pub fn write_through(&mut self, file: Arc<dyn StorageFile>) {
        self.file = file;
    }

    /// The file, for [`crate::storage::sync::SyncService::register`].
    pub fn file(&self) -> Arc<dyn StorageFile> {
        self.file.clone()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn id(&self) -> SegmentId {
        self.id
    }

    /// Where it ends now.
    pub fn end(&self) -> SegmentEnd {
        let (id, lsn, crc) = (self.id, self.lsn, self.crc);
        SegmentEnd {
            id,
            sealed_len: self.len,
            lsn,
            crc,
            kept_len: self.len,
        }
    }

    /// Written up to here.
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// Bytes in the file, head and seals included.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Never: a segment has a head.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}
