//! Files as the rest of the crate sees them: a narrow interface over the operating system, with a simulated twin.
//!
//! [`Storage`] opens, renames, removes and makes directories durable; [`StorageFile`] appends, writes and reads at an
//! offset and makes contents durable. Who calls `datasync`, and on which thread, is the business of [`sync`].
//! Invariant: every method is usable from any thread at any time; none keeps state that a fork could tear.

mod os;
pub mod ring;
pub mod simulated;
pub mod sync;
pub mod sync_glommio;
mod sync_times;

pub use os::OsStorage;

use std::ffi::OsString;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// For reading; must exist.
    Read,
    /// As `Read`, past the page cache: buffers, offsets and lengths must be multiples of 4096. Fails with EINVAL, here or
    /// when read, where the file system cannot.
    ReadDirect,
    /// For writing at offsets; created or emptied.
    Create,
    /// As `Create`, past the page cache: buffers, offsets and lengths must be multiples of 4096. Fails with EINVAL
    /// where the file system cannot.
    CreateDirect,
    /// For writing at offsets; must exist.
    Write,
    /// As `Write`, past the page cache, with the limits of `CreateDirect`.
    WriteDirect,
    /// For appending; created if missing.
    Append,
}

pub trait Storage: Send + Sync {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn StorageFile>>;
    /// Replaces `to` if it exists. Durable only after [`Storage::sync_dir`] of the directories concerned.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Gives a file a second name, which must not exist. Fails where the file system has no links.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Creates a directory; fine if it exists.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// The length of a regular file, or `None` if there is no such file.
    fn file_len(&self, path: &Path) -> io::Result<Option<u64>>;
    /// Bytes that the file system of this directory has left for us; `None` where it does not say.
    fn free_bytes(&self, _dir: &Path) -> io::Result<Option<u64>> {
        Ok(None)
    }
    /// The names in a directory, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>>;
}

pub trait StorageFile: Send + Sync {
    /// One write at the end of the file; returns how many bytes went out, which may be fewer than given.
    fn append(&self, bytes: &[u8]) -> io::Result<usize>;
    /// One write at an offset; may be short.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// One read at an offset; may be short, 0 means end of file.
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize>;
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Hands what an implementation keeps back to the operating system. An error loses nothing, and may be tried again.
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
    /// Returns when the contents (and the length) survive the operating system.
    fn datasync(&self) -> io::Result<()>;
    /// Asks the operating system to begin writing this range back, without waiting. A hint.
    fn write_back(&self, offset: u64, len: u64);
    /// Asks the operating system to drop what it caches of the file, so that it is read from the disk. A hint.
    fn forget_cached(&self) {}
    fn len(&self) -> io::Result<u64>;
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// The descriptor, where there is one.
    fn fd(&self) -> Option<BorrowedFd<'_>>;
}

/// Writes all of `bytes` at `offset`.
pub fn write_all_at(file: &dyn StorageFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                bytes = &bytes[n..];
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Reads until `into` is full or the file ends; returns the number of bytes read.
pub fn read_full_at(file: &dyn StorageFile, into: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < into.len() {
        match file.read_at(&mut into[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// The whole of a small file; an error if it is longer than `len_max`.
pub fn read_small(storage: &dyn Storage, path: &Path, len_max: u64) -> io::Result<Vec<u8>> {
    let file = storage.open(path, Open::Read)?;
    let len = file.len()?;
    if len > len_max {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the file is too long to be what it should be",
        ));
    }
    let mut bytes = vec![0; len as usize];
    let read = read_full_at(&*file, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Replaces the file `dir/name` as one step: a temporary file beside it, datasync, rename, directory sync.
pub fn replace_small(
    storage: &dyn Storage,
    dir: &Path,
    name: &std::ffi::OsStr,
    bytes: &[u8],
) -> io::Result<()> {
    prepare_small(storage, dir, name, bytes)?;
    commit_small(storage, dir, name)
}

fn temp_of(dir: &Path, name: &std::ffi::OsStr) -> std::path::PathBuf {
    let mut temp_name = OsString::from("temp-");
    temp_name.push(name);
    dir.join(temp_name)
}

/// The first half of [`replace_small`]: the temporary file, durable. On an error there is none.
pub fn prepare_small(
    storage: &dyn Storage,
    dir: &Path,
    name: &std::ffi::OsStr,
    bytes: &[u8],
) -> io::Result<()> {
    let temp = temp_of(dir, name);
    let written = storage.open(&temp, Open::Create).and_then(|file| {
        write_all_at(&*file, bytes, 0)?;
        file.datasync()
    });
    written.inspect_err(|_| abandon_small(storage, dir, name))
}

/// The second half: the temporary file takes its place. On an error before it has, there is none any more.
pub fn commit_small(storage: &dyn Storage, dir: &Path, name: &std::ffi::OsStr) -> io::Result<()> {
    storage
        .rename(&temp_of(dir, name), &dir.join(name))
        .inspect_err(|_| abandon_small(storage, dir, name))?;
    storage.sync_dir(dir)
}

/// Instead of the second half.
pub fn abandon_small(storage: &dyn Storage, dir: &Path, name: &std::ffi::OsStr) {
    // What is not there need not be removed; what led here is the error to report.
    let _ = storage.remove(&temp_of(dir, name));
}

/// Copies a file to a new name and makes the contents durable.
pub fn copy(storage: &dyn Storage, from: &Path, to: &Path) -> io::Result<()> {
    const PIECE_BYTES: usize = 1 << 20;
    let source = storage.open(from, Open::Read)?;
    let target = storage.open(to, Open::Create)?;
    let mut piece = vec![0; PIECE_BYTES.min(source.len()?.max(1) as usize)];
    let mut at = 0;
    loop {
        let got = read_full_at(&*source, &mut piece, at)?;
        if got == 0 {
            return target.datasync();
        }
        write_all_at(&*target, &piece[..got], at)?;
        at += got as u64;
    }
}

/// A [`std::io::Read`] over a storage file, from an offset up to a limit.
pub struct FileReader {
    file: Arc<dyn StorageFile>,
    offset: u64,
    end: u64,
}

impl FileReader {
    pub fn new(file: Arc<dyn StorageFile>, offset: u64, end: u64) -> Self {
        FileReader { file, offset, end }
    }
}

impl io::Read for FileReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let want = (into.len() as u64).min(self.end.saturating_sub(self.offset)) as usize;
        if want == 0 {
            return Ok(0);
        }
        let n = self.file.read_at(&mut into[..want], self.offset)?;
        self.offset += n as u64;
        Ok(n)
    }
}
