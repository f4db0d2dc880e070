//! How far a load or a snapshot has come, readable from another thread or, in shared memory, from the parent process.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters that only grow. All zero bytes are a valid start.
#[derive(Default)]
#[repr(C)]
pub struct Progress {
    /// Keys (or commands) written or loaded.
    pub keys: AtomicU64,
    /// Bytes written or read.
    pub bytes: AtomicU64,
    /// Bytes in all, where that is known beforehand.
    pub bytes_total: AtomicU64,
    /// Of a load: the memory in use when the snapshot was taken, by what it says.
    pub used_memory_bytes: AtomicU64,
    /// Memory that a child no longer shares with its parent, as it was measured last.
    pub copied_bytes: AtomicU64,
    /// How often that was measured.
    pub copies_measured: AtomicU64,
    /// Up to which measurement the parent does not want to wait for the next regular one.
    pub copies_wanted: AtomicU64,
}

impl Progress {
    pub(crate) fn add(&self, keys: u64, bytes: u64) {
        self.keys.fetch_add(keys, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }

    /// Begins anew, before a load or a child.
    pub fn reset(&self) {
        for counter in [
            &self.keys,
            &self.bytes,
            &self.bytes_total,
            &self.used_memory_bytes,
            &self.copied_bytes,
            &self.copies_measured,
            &self.copies_wanted,
        ] {
            counter.store(0, Relaxed);
        }
    }

    pub fn keys(&self) -> u64 {
        self.keys.load(Relaxed)
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// Takes up what the first fields of a snapshot say.
    pub(crate) fn note_aux(&self, aux: &[(Vec<u8>, Vec<u8>)]) {
        let said = aux.iter().find(|(key, _)| key == b"used-mem");
        let bytes = said.and_then(|(_, value)| datatypes::number::parse_u64(value));
        if let Some(bytes) = bytes {
            self.used_memory_bytes.store(bytes, Relaxed);
        }
    }

    pub fn bytes_total(&self) -> u64 {
        self.bytes_total.load(Relaxed)
    }
}

/// A [`Progress`] that a forked child writes and its parent reads.
pub struct SharedProgress(std::ptr::NonNull<Progress>);

// SAFETY: it points to atomics that live until it is dropped, and owns nothing bound to a thread.
unsafe impl Send for SharedProgress {}
// SAFETY: all access is through `&Progress`, which is made of atomics.
unsafe impl Sync for SharedProgress {}

const SHARED_BYTES: std::num::NonZeroUsize =
    std::num::NonZeroUsize::new(std::mem::size_of::<Progress>()).unwrap();

impl SharedProgress {
    pub fn new() -> std::io::Result<SharedProgress> {
        use nix::sys::mman::{mmap_anonymous, MapFlags, ProtFlags};
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh anonymous mapping aliases nothing.
        let memory =
            unsafe { mmap_anonymous(None, SHARED_BYTES, protection, MapFlags::MAP_SHARED)? };
        Ok(SharedProgress(memory.cast()))
    }
}

impl std::ops::Deref for SharedProgress {
    type Target = Progress;

    fn deref(&self) -> &Progress {
        // SAFETY: the mapping is page-aligned, large enough, zeroed by the kernel (a valid Progress), and stays until
        // `self` is dropped; only shared references to it are ever made.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for SharedProgress {
    fn drop(&mut self) {
        // SAFETY: address and length are those of the mapping made in `new`, and no reference outlives `self`.
        let unmapped = unsafe { nix::sys::mman::munmap(self.0.cast(), SHARED_BYTES.get()) };
        debug_assert!(unmapped.is_ok());
    }
}
