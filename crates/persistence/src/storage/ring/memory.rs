//! The memory that rings live in: files on tmpfs, mapped, or pieces of a simulated machine.
//!
//! Memory is written through [`RingMemory`] alone: bytes with `put`, words with `store`. A process that is killed leaves
//! a prefix of each thread's stores behind, in program order, which is what everything in [`super`] is argued on; a
//! simulated machine keeps its pieces when the server is dropped, and a new machine begins with none.
//! A ring's file belongs to one living process, by a lock that the kernel releases when that process is gone.
//!
//! Unsafe: parts of the memory are written while others are read, so there are raw pointers and never a reference to all of
//! it. The gain is the write path itself: a record is safe from kill -9 without a system call.

use crate::storage::simulated::Stopped;
use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// Sees every store before it happens. Where it gives a number, so many bytes are stored and the process ends there.
pub(super) type Tap = Box<dyn Fn(usize, &[u8]) -> Option<usize> + Send + Sync>;

/// What a ring is made of: shared, zero at first.
pub struct RingMemory {
    base: NonNull<u8>,
    len: usize,
    /// Keeps the bytes where they are, and the ring this process's.
    _owner: Box<dyn Any + Send + Sync>,
    /// Of a simulated machine.
    tap: Option<Tap>,
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
            tap: None,
        }
    }

    /// Has stores seen, and the process ended at them.
    pub(super) fn tapped_by(mut self, tap: Tap) -> Self {
        self.tap = Some(tap);
        self
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
        let ends_after = self.tapped(offset, bytes);
        let bytes = ends_after.map_or(bytes, |done| &bytes[..done.min(bytes.len())]);
        let to = self.at(offset, bytes.len());
        // SAFETY: `at` checked the range; the caller is the only one to touch it, so nothing overlaps or races.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        if ends_after.is_some() {
            end_process();
        }
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
        if self.tapped(offset, &value.to_ne_bytes()).is_some() {
            end_process();
        }
        self.word(offset).store(value, Ordering::Release);
    }

    #[inline]
    fn tapped(&self, offset: usize, bytes: &[u8]) -> Option<usize> {
        self.tap.as_ref().and_then(|tap| tap(offset, bytes))
    }
}

#[cold]
fn end_process() -> ! {
    std::panic::resume_unwind(Box::new(Stopped))
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
