//! The memory that rings live in: files on tmpfs, mapped, or pieces of a simulated machine.
//!
//! Memory is written through [`RingMemory`] alone: bytes with `put`, words with `store`. A process that is killed leaves
//! a prefix of each thread's stores behind, in program order, which is what everything in [`super`] is argued on; a
//! simulated machine keeps its pieces when the server is dropped, and a new machine begins with none.
//! A ring's file belongs to one living process, by a lock that the kernel releases when that process is gone.
//!
//! Unsafe: parts of the memory are written while others are read, so there are raw pointers and never a reference to all of
//! it. The gain is the write path itself: a record is safe from kill -9 without a system call.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

pub use super::shm::ShmRings;

/// Sees every store before it happens.
#[cfg(test)]
pub(super) type Tap = Box<dyn Fn(usize, &[u8]) + Send + Sync>;

/// What a ring is made of: shared, zero at first.
pub struct RingMemory {
    base: NonNull<u8>,
    len: usize,
    /// Keeps the bytes where they are, and the ring this process's.
    _owner: Box<dyn Any + Send + Sync>,
    #[cfg(test)]
    pub(super) tap: Option<Tap>,
}

// SAFETY: it points to memory that lives as long as `_owner` and is bound to no thread.
unsafe impl Send for RingMemory {}
// SAFETY: words are atomics; who may `put` where, and who may read there, is settled by the words (see `super`).
unsafe impl Sync for RingMemory {}

impl RingMemory {
    /// # Safety
    /// `base` points to `len` initialised bytes, aligned to 4096, that stay there, and are accessed by nothing in this
    /// process but the returned value, for as long as `owner` lives.
    pub unsafe fn new(base: NonNull<u8>, len: usize, owner: Box<dyn Any + Send + Sync>) -> Self {
        RingMemory {
            base,
            len,
            _owner: owner,
            #[cfg(test)]
            tap: None,
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(
            len <= self.len && offset <= self.len - len,
            "within the ring"
        );
        // SAFETY: the range lies within the `len` bytes behind `base`.
        unsafe { self.base.as_ptr().add(offset) }
    }

    /// Writes bytes. Nobody else may write or read them until a later `store` has told about them.
    pub fn put(&self, offset: usize, bytes: &[u8]) {
        #[cfg(test)]
        self.record(offset, bytes);
        let to = self.at(offset, bytes.len());
        // SAFETY: `at` checked the range; the caller is the only one to touch it, so nothing overlaps or races.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }

    /// The bytes of a range that nobody writes while the slice lives.
    pub fn slice(&self, offset: usize, len: usize) -> &[u8] {
        // SAFETY: `at` checked the range, its bytes are initialised, and by the contract above nobody writes them.
        unsafe { std::slice::from_raw_parts(self.at(offset, len), len) }
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8), "a word is aligned");
        // SAFETY: in range, aligned (the base is to 4096), alive as long as `self`, and only ever used as an atomic.
        unsafe { AtomicU64::from_ptr(self.at(offset, 8).cast()) }
    }

    /// Reads a word; what was written before it was stored is visible then.
    #[inline]
    pub fn load(&self, offset: usize) -> u64 {
        self.word(offset).load(Ordering::Acquire)
    }

    /// Stores a word, after everything that this thread wrote before.
    #[inline]
    pub fn store(&self, offset: usize, value: u64) {
        #[cfg(test)]
        self.record(offset, &value.to_ne_bytes());
        self.word(offset).store(value, Ordering::Release);
    }

    #[cfg(test)]
    fn record(&self, offset: usize, bytes: &[u8]) {
        if let Some(tap) = &self.tap {
            tap(offset, bytes);
        }
    }
}

/// Where rings are made and found.
pub trait RingStore: Send + Sync {
    /// Makes a ring of `len` zero bytes that begins with `first`, all of it there from the start so that no later access
    /// can fail, and this process's until it is dropped. Its name appears when it is complete.
    fn create(&self, path: &Path, len: usize, first: &[u8]) -> io::Result<RingMemory>;
    /// Opens a ring that no living process holds; `WouldBlock` if one does, `InvalidData` if it is none of ours.
    fn open(&self, path: &Path) -> io::Result<RingMemory>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The files in a directory, in no order; none if there is no such directory.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
}

/// Rings on a simulated machine. Clones share them; dropping a server leaves them, as a killed process does.
#[derive(Clone, Default)]
pub struct SimulatedRings(Arc<Mutex<BTreeMap<PathBuf, SimulatedRing>>>);

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
        *self.lock.lock().unwrap_or_else(|e| e.into_inner()) = false;
    }
}

impl SimulatedRings {
    pub fn new() -> Self {
        Self::default()
    }

    fn rings(&self) -> MutexGuard<'_, BTreeMap<PathBuf, SimulatedRing>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Puts a ring there, as a process that is gone left it.
    #[cfg(test)]
    pub(super) fn insert(&self, path: &Path, image: &[u8]) {
        drop(self.create(path, image.len(), image).unwrap());
    }

    fn hold(ring: &SimulatedRing) -> io::Result<RingMemory> {
        let mut locked = ring.lock.lock().unwrap_or_else(|e| e.into_inner());
        if std::mem::replace(&mut *locked, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let base = NonNull::new(ring.pages.as_ptr().cast_mut().cast::<u8>()).expect("not null");
        let held = Held {
            _pages: ring.pages.clone(),
            lock: ring.lock.clone(),
        };
        // SAFETY: the pages are initialised, aligned, and kept by `held`; the lock admits one `RingMemory` at a time,
        // and nothing else reads or writes them.
        Ok(unsafe { RingMemory::new(base, ring.pages.len() * 4096, Box::new(held)) })
    }
}

impl RingStore for SimulatedRings {
    fn create(&self, path: &Path, len: usize, first: &[u8]) -> io::Result<RingMemory> {
        let mut rings = self.rings();
        if rings.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let page = || Page(std::cell::UnsafeCell::new([0; 4096]));
        let ring = SimulatedRing {
            pages: Arc::new((0..len.div_ceil(4096)).map(|_| page()).collect()),
            lock: Arc::default(),
        };
        let memory = Self::hold(&ring)?;
        memory.put(0, first);
        rings.insert(path.to_owned(), ring);
        Ok(memory)
    }

    fn open(&self, path: &Path) -> io::Result<RingMemory> {
        let rings = self.rings();
        Self::hold(rings.get(path).ok_or(io::ErrorKind::NotFound)?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.rings().remove(path);
        removed
            .map(|_| ())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let rings = self.rings();
        Ok(rings
            .keys()
            .filter(|path| path.parent() == Some(dir))
            .cloned()
            .collect())
    }
}
