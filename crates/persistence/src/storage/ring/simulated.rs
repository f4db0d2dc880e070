//! Rings in the memory of a simulated machine: they outlive the server that is dropped, and a process can end between any
//! two stores, or within one.
//!
//! [`RingFaults`] judges each change before it happens, as [`crate::storage::simulated::Faults`] does for the disk. Where it
//! says stop, the process is unwound with [`Stopped`], and nothing of it changes a ring any more.

use super::memory::{RingMemory, RingStore};
use crate::storage::simulated::{Stopped, Verdict};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RingChange {
    Create,
    Remove,
    /// Bytes, or a word.
    Store,
}

/// A change about to happen.
#[derive(Debug)]
pub struct RingOperation<'a> {
    pub change: RingChange,
    pub path: &'a Path,
    pub offset: usize,
    pub bytes: usize,
}

/// Judges changes: `Proceed`, `Fail` (not of a store), or `Stop`, within a store after so many bytes.
pub type RingFaults = Box<dyn FnMut(&RingOperation<'_>) -> Verdict + Send>;

#[derive(Default)]
struct Judge {
    faults: Option<RingFaults>,
    stopped: bool,
}

/// Rings on a simulated machine. Clones share them; dropping a server leaves them, as a killed process does.
#[derive(Clone, Default)]
pub struct SimulatedRings {
    rings: Arc<Mutex<BTreeMap<PathBuf, SimulatedRing>>>,
    judge: Arc<Mutex<Judge>>,
}

#[derive(Clone)]
struct SimulatedRing {
    pages: Arc<Vec<Page>>,
    /// Held by the memory of the process that has it open.
    lock: Arc<Mutex<bool>>,
}

#[repr(C, align(4096))]
struct Page(std::cell::UnsafeCell<[u8; 4096]>);

// SAFETY: the bytes are reached through `RingMemory` alone, which has its own rules.
unsafe impl Sync for Page {}

struct Held {
    _pages: Arc<Vec<Page>>,
    lock: Arc<Mutex<bool>>,
}

impl Drop for Held {
    fn drop(&mut self) {
        *locked(&self.lock) = false;
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl Judge {
    fn judge(&mut self, operation: &RingOperation<'_>) -> Verdict {
        if self.stopped {
            return Verdict::Stop(0);
        }
        let verdict = match &mut self.faults {
            Some(faults) => faults(operation),
            None => Verdict::Proceed,
        };
        self.stopped = matches!(verdict, Verdict::Stop(_));
        verdict
    }
}

impl SimulatedRings {
    pub fn new() -> Self {
        Self::default()
    }

    /// Who judges what the next process does.
    pub fn set_faults(&self, faults: Option<RingFaults>) {
        *locked(&self.judge) = Judge {
            faults,
            stopped: false,
        };
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        locked(&self.rings).len()
    }

    /// Puts a ring there, as a process that is gone left it.
    #[cfg(test)]
    pub(super) fn insert(&self, path: &Path, image: &[u8]) {
        drop(self.create(path, image.len(), image).unwrap());
    }

    fn hold(&self, path: &Path, ring: &SimulatedRing) -> io::Result<RingMemory> {
        if std::mem::replace(&mut *locked(&ring.lock), true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let base = NonNull::new(ring.pages.as_ptr().cast_mut().cast::<u8>()).expect("not null");
        let held = Held {
            _pages: ring.pages.clone(),
            lock: ring.lock.clone(),
        };
        // SAFETY: the pages are initialised, aligned, and kept by `held`; the lock admits one `RingMemory` at a time,
        // and nothing else reads or writes them.
        let memory = unsafe { RingMemory::new(base, ring.pages.len() * 4096, Box::new(held)) };
        let (judge, path) = (self.judge.clone(), path.to_owned());
        Ok(memory.tapped_by(Box::new(move |offset, bytes| {
            let operation = RingOperation {
                change: RingChange::Store,
                path: &path,
                offset,
                bytes: bytes.len(),
            };
            match locked(&judge).judge(&operation) {
                Verdict::Stop(done) => Some(done),
                _ => None,
            }
        })))
    }

    fn judge(&self, change: RingChange, path: &Path) -> io::Result<()> {
        let operation = RingOperation {
            change,
            path,
            offset: 0,
            bytes: 0,
        };
        let verdict = locked(&self.judge).judge(&operation);
        match verdict {
            Verdict::Stop(_) => std::panic::resume_unwind(Box::new(Stopped)),
            Verdict::Fail(errno) => Err(io::Error::from_raw_os_error(errno)),
            _ => Ok(()),
        }
    }
}

impl RingStore for SimulatedRings {
    fn create(&self, path: &Path, len: usize, first: &[u8]) -> io::Result<RingMemory> {
        self.judge(RingChange::Create, path)?;
        let mut rings = locked(&self.rings);
        if rings.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let page = || Page(std::cell::UnsafeCell::new([0; 4096]));
        let ring = SimulatedRing {
            pages: Arc::new((0..len.div_ceil(4096)).map(|_| page()).collect()),
            lock: Arc::default(),
        };
        let memory = self.hold(path, &ring)?;
        memory.put(0, first);
        rings.insert(path.to_owned(), ring);
        Ok(memory)
    }

    fn open(&self, path: &Path) -> io::Result<RingMemory> {
        let ring = locked(&self.rings).get(path).cloned();
        self.hold(path, &ring.ok_or(io::ErrorKind::NotFound)?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.judge(RingChange::Remove, path)?;
        let removed = locked(&self.rings).remove(path);
        removed
            .map(|_| ())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let rings = locked(&self.rings);
        Ok(rings
            .keys()
            .filter(|path| path.parent() == Some(dir))
            .cloned()
            .collect())
    }
}
