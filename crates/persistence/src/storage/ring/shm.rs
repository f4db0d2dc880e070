//! [`RingStore`] on the operating system: mapped files, meant for tmpfs. Unsafe: mapping and unmapping.

use super::memory::{RingMemory, RingStore};
use nix::fcntl::{fallocate, FallocateFlags, Flock, FlockArg, OFlag};
use nix::sys::mman::{madvise, mmap, munmap, MapFlags, MmapAdvise, ProtFlags};
use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

/// Files that are owned by this process's user or by the owner of the directory that holds the append-only files: whoever
/// could put commands into a ring can put them into the files as well.
#[derive(Clone, Debug)]
pub struct ShmRings {
    aof_dir: PathBuf,
}

impl ShmRings {
    /// `aof_dir`: whose owner is trusted, if it is there.
    pub fn new(aof_dir: &Path) -> ShmRings {
        ShmRings {
            aof_dir: aof_dir.to_owned(),
        }
    }

    fn trusts(&self, owner: u32) -> bool {
        owner == nix::unistd::geteuid().as_raw()
            || std::fs::metadata(&self.aof_dir).is_ok_and(|dir| dir.uid() == owner)
    }
}

struct Mapping {
    base: NonNull<c_void>,
    len: usize,
    /// Locked, until the last descriptor of it is closed.
    _file: Flock<File>,
}

// SAFETY: a mapping is not bound to a thread.
unsafe impl Send for Mapping {}
// SAFETY: it is only kept and dropped.
unsafe impl Sync for Mapping {}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this base and length, and its user, which owns `self`, is gone.
        let unmapped = unsafe { munmap(self.base, self.len) };
        debug_assert!(unmapped.is_ok(), "a mapping of our own can be unmapped");
    }
}

fn lock(file: File) -> io::Result<Flock<File>> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno.into())
}

fn map(file: Flock<File>, len: usize) -> io::Result<RingMemory> {
    let size = NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidData)?;
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // Populated: no page fault on the path of a write.
    let flags = MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE;
    // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing of ours; the file is as long as `len`,
    // and nobody shortens it: it is private to its owner, and this process holds its lock.
    let base = unsafe { mmap(None, size, protection, flags, &*file, 0)? };
    let mapping = Mapping {
        base,
        len,
        _file: file,
    };
    // A forked child has no business in here. Where this is refused, the child merely could.
    // SAFETY: advice about the mapping just made; the child never touches it.
    let _ = unsafe { madvise(base, len, MmapAdvise::MADV_DONTFORK) };
    // SAFETY: mapped, page-aligned and kept by `mapping`; a file's bytes are initialised; the lock keeps other servers out.
    Ok(unsafe { RingMemory::new(base.cast(), len, Box::new(mapping)) })
}

impl RingStore for ShmRings {
    fn create(&self, path: &Path, len: usize, first: &[u8]) -> io::Result<RingMemory> {
        // Under another name until it is complete, so that nobody takes it for one that is damaged or abandoned.
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".new");
        let unfinished = PathBuf::from(unfinished);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags((OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW).bits())
            .open(&unfinished)?;
        let made = || {
            let file = lock(file)?;
            fallocate(&*file, FallocateFlags::empty(), 0, len as libc::off_t)?;
            file.write_all_at(first, 0)?;
            let memory = map(file, len)?;
            std::fs::rename(&unfinished, path)?;
            Ok(memory)
        };
        let made = made();
        if made.is_err() {
            // The error that is returned is the one that matters.
            let _ = std::fs::remove_file(&unfinished);
        }
        made
    }

    fn open(&self, path: &Path) -> io::Result<RingMemory> {
        let owner = std::fs::symlink_metadata(path)?.uid();
        if !self.trusts(owner) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags((OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
            .open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() || !self.trusts(meta.uid()) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        map(lock(file)?, meta.len() as usize)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        match std::fs::read_dir(dir) {
            Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(e),
        }
    }
}
