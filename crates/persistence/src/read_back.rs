//! Reading a file that was just written from its disk, and comparing it with the checksums of what was sent there.
//!
//! The page cache would return what was written whatever the disk has made of it, so the file is read past the cache
//! (O_DIRECT) or, where the file system cannot, after its pages were dropped. That finds lost, misplaced and flipped
//! writes of everything below the cache, and of the cache itself where it was dropped.

use crate::crc::Jones;
use crate::progress::Progress;
use crate::storage::{Open, Storage, StorageFile};
use std::io;
use std::path::Path;
use std::sync::Arc;

const READ_BYTES: usize = 1 << 20;
const BLOCK_BYTES: usize = crate::chunks::BLOCK_BYTES as usize;

/// Neighbouring bytes of the file; parts follow one another without a gap from the start.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub len: u64,
    /// CRC-64/Jones.
    pub crc: u64,
}

/// Reads the file whole. An error of kind `InvalidData` names the part that is not what was written.
pub fn read_back(
    storage: &dyn Storage,
    path: &Path,
    parts: impl Iterator<Item = Part>,
    progress: &Progress,
) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES + BLOCK_BYTES];
    let front = (buffer.as_ptr() as usize).wrapping_neg() % BLOCK_BYTES;
    let buffer = &mut buffer[front..front + READ_BYTES];
    let (file, mut got) = open(storage, path, buffer)?;
    let mut at = 0;
    let mut check = Check::new(parts);
    while got > 0 {
        check.update(&buffer[..got])?;
        progress.add(0, got as u64);
        at += got as u64;
        // Past the cache, only the end of the file is no whole block.
        got = match got % BLOCK_BYTES {
            0 => read(&*file, buffer, at)?,
            _ => 0,
        };
    }
    check.finish()
}

/// Opens the file and reads its front: some file systems refuse the flag, some only the read.
fn open(
    storage: &dyn Storage,
    path: &Path,
    buffer: &mut [u8],
) -> io::Result<(Arc<dyn StorageFile>, usize)> {
    let direct = storage
        .open(path, Open::ReadDirect)
        .and_then(|file| read(&*file, buffer, 0).map(|got| (file, got)));
    match direct {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
        other => return other,
    }
    let file = storage.open(path, Open::Read)?;
    file.forget_cached();
    let got = read(&*file, buffer, 0)?;
    Ok((file, got))
}

/// Fills the buffer in whole blocks, less at the end of the file only.
fn read(file: &dyn StorageFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() && done % BLOCK_BYTES == 0 {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

struct Check<I> {
    parts: I,
    /// The part that is being read, and its bytes that are still to come.
    part: Option<(Part, u64)>,
    crc: Jones,
    /// Where that part begins.
    offset: u64,
}

impl<I: Iterator<Item = Part>> Check<I> {
    fn new(parts: I) -> Self {
        let mut check = Check {
            parts,
            part: None,
            crc: Jones::default(),
            offset: 0,
        };
        check.next();
        check
    }

    fn next(&mut self) {
        let part = self.parts.find(|part| part.len > 0);
        self.part = part.map(|part| (part, part.len));
        self.crc = Jones::default();
    }

    fn update(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let Some((part, left)) = &mut self.part else {
                return Err(damaged(format!(
                    "bytes behind offset {} that were not written",
                    self.offset
                )));
            };
            let (now, later) = bytes.split_at((*left).min(bytes.len() as u64) as usize);
            self.crc.update(now);
            *left -= now.len() as u64;
            if *left == 0 {
                let (len, crc, found) = (part.len, part.crc, self.crc.value());
                if found != crc {
                    return Err(damaged(format!(
                        "the {len} bytes at offset {} have checksum {found:016x}, what was written {crc:016x}",
                        self.offset
                    )));
                }
                self.offset += len;
                self.next();
            }
            bytes = later;
        }
        Ok(())
    }

    fn finish(self) -> io::Result<()> {
        match self.part {
            None => Ok(()),
            Some((part, left)) => Err(damaged(format!(
                "it ends at offset {}, {left} bytes too early",
                self.offset + part.len - left
            ))),
        }
    }
}

fn damaged(what: String) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the file is not what was written to it: {what}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crc;
    use crate::storage::simulated::SimulatedStorage;
    use crate::storage::{write_all_at, OsStorage};

    /// A file of three parts, changed as the test wishes.
    fn check(
        storage: &dyn Storage,
        dir: &Path,
        change: impl FnOnce(&mut Vec<u8>),
    ) -> Option<String> {
        let bytes: Vec<u8> = (0..3 * READ_BYTES as u32 + 777)
            .map(|i| (i / 7) as u8)
            .collect();
        let lens = [0, 4096, 2 * READ_BYTES + 5, READ_BYTES + 777 - 4101];
        let mut at = 0;
        let parts: Vec<Part> = lens
            .map(|len| {
                at += len;
                let crc = crc::jones(&bytes[at - len..at]);
                Part {
                    len: len as u64,
                    crc,
                }
            })
            .into();
        assert_eq!(at, bytes.len());
        let mut written = bytes;
        change(&mut written);
        let path = dir.join("file");
        let file = storage.open(&path, Open::Create).unwrap();
        write_all_at(&*file, &written, 0).unwrap();
        file.datasync().unwrap();
        let progress = Progress::default();
        let result = read_back(storage, &path, parts.into_iter(), &progress);
        if result.is_ok() {
            assert_eq!(progress.bytes(), written.len() as u64);
        }
        storage.remove(&path).unwrap();
        result.err().map(|error| error.to_string())
    }

    #[test]
    fn any_other_byte_and_any_other_length_is_found() {
        let dir = std::env::temp_dir().join(format!("basalt-read-back-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        for storage in [&OsStorage as &dyn Storage, &SimulatedStorage::new()] {
            assert_eq!(check(storage, &dir, |_| {}), None);
            let flipped = |at: usize| {
                let error = check(storage, &dir, |bytes| bytes[at] ^= 1);
                error.expect("a flipped byte goes unnoticed")
            };
            assert!(flipped(0).contains("4096 bytes at offset 0 "));
            assert!(flipped(4096).contains("at offset 4096 "));
            assert!(flipped(3 * READ_BYTES + 776).contains("at offset 2101253 "));
            let shorter = check(storage, &dir, |bytes| bytes.truncate(5000)).unwrap();
            assert!(shorter.contains("ends at offset 5000"), "{shorter}");
            assert!(check(storage, &dir, |bytes| bytes.push(0)).is_some());
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
