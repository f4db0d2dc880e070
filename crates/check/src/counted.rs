//! The file system, with a count of what is read from it: what a progress bar shows.

use persistence::progress::Progress;
use persistence::storage::{Open, OsStorage, Storage, StorageFile};
use std::ffi::OsString;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

pub struct Counted {
    pub progress: Arc<Progress>,
}

struct CountedFile {
    file: Arc<dyn StorageFile>,
    progress: Arc<Progress>,
}

impl Storage for Counted {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn StorageFile>> {
        let file = OsStorage.open(path, how)?;
        if how == Open::Read {
            let len = file.len()?;
            self.progress.bytes_total.fetch_add(len, Relaxed);
        }
        let progress = self.progress.clone();
        Ok(Arc::new(CountedFile { file, progress }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsStorage.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        OsStorage.remove(path)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsStorage.link(from, to)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        OsStorage.sync_dir(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        OsStorage.create_dir(path)
    }

    fn file_len(&self, path: &Path) -> io::Result<Option<u64>> {
        OsStorage.file_len(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        OsStorage.list(dir)
    }
}

impl StorageFile for CountedFile {
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        self.file.append(bytes)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(bytes, offset)
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let got = self.file.read_at(into, offset)?;
        self.progress.bytes.fetch_add(got as u64, Relaxed);
        Ok(got)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }

    fn datasync(&self) -> io::Result<()> {
        self.file.datasync()
    }

    fn write_back(&self, offset: u64, len: u64) {
        self.file.write_back(offset, len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.file.fd()
    }
}
