//! The receive buffers that io_uring picks from: a ring of descriptors shared with the kernel, and the memory they
//! describe.
//!
//! A buffer belongs to the kernel from `recycle` until a completion names it, and to us from then until it is
//! recycled. The kernel sees recycled buffers after `publish`. Both areas are mappings of their own, which keeps
//! them page-aligned and untouched (so not resident) until used.

use std::cell::Cell;
use std::io;
use std::mem::size_of;
use std::ptr::{self, addr_of_mut};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::{types::BufRingEntry, IoUring};

/// The one buffer group of a ring.
pub(crate) const GROUP: u16 = 1;

/// An entry as the kernel lays it out (`struct io_uring_buf`). The tail of the ring lies in `reserved` of the first.
#[repr(C)]
struct Descriptor {
    address: u64,
    len: u32,
    buffer: u16,
    reserved: u16,
}

const _: () = assert!(size_of::<Descriptor>() == size_of::<BufRingEntry>());

struct Mapping {
    start: *mut u8,
    len: usize,
}

impl Mapping {
    fn new(len: usize) -> io::Result<Mapping> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new anonymous mapping touches no existing memory.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // A snapshot child has no use for received bytes, and pages it does not share are not copied when the kernel
        // next writes to them. Failure costs only that.
        // SAFETY: advice about the mapping just made.
        unsafe { libc::madvise(start, len, libc::MADV_DONTFORK) };
        Ok(Mapping {
            start: start.cast(),
            len,
        })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped; the owner gives up all pointers into it.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}

pub(crate) struct Buffers {
    descriptors: Mapping,
    memory: Mapping,
    count: u16,
    bytes: usize,
    tail: Cell<u16>,
}

impl Buffers {
    pub(crate) fn new(count: u16, bytes: usize) -> io::Result<Buffers> {
        let count = count.clamp(1, 1 << 14).next_power_of_two();
        let buffers = Buffers {
            descriptors: Mapping::new(usize::from(count) * size_of::<Descriptor>())?,
            memory: Mapping::new(usize::from(count) * bytes)?,
            count,
            bytes,
            tail: Cell::new(0),
        };
        for buffer in 0..count {
            buffers.recycle(buffer);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// Makes the buffers known to `ring`, which must be dropped, or have let go of them, before `self` is.
    pub(crate) fn register(&self, ring: &IoUring) -> io::Result<()> {
        // SAFETY: the descriptors are page-aligned, hold `count` entries and outlive the ring's use of them (contract
        // above); each describes memory of ours that nothing else refers to while the kernel owns it.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                self.descriptors.start as u64,
                self.count,
                GROUP,
                0,
            )
        }
    }

    /// The first `len` bytes of a buffer.
    ///
    /// # Safety
    /// A completion has named `buffer` with at least `len` bytes, and it is not recycled while the slice lives.
    #[inline]
    pub(crate) unsafe fn filled(&self, buffer: u16, len: usize) -> &[u8] {
        assert!(
            buffer < self.count && len <= self.bytes,
            "the kernel keeps within the buffers it was given"
        );
        // SAFETY: in bounds as just checked; initialised by the kernel (and by the mapping before that); not written
        // while we own the buffer, which the caller promises.
        unsafe {
            std::slice::from_raw_parts(self.memory.start.add(usize::from(buffer) * self.bytes), len)
        }
    }

    /// Gives a buffer to the kernel, at the next `publish`.
    #[inline]
    pub(crate) fn recycle(&self, buffer: u16) {
        assert!(buffer < self.count, "a buffer of this ring");
        let tail = self.tail.get();
        let index = usize::from(tail & (self.count - 1));
        // SAFETY: both offsets are within their mappings, by the assertion and the mask. The kernel does not read
        // this entry before the tail moves past it. Fields are written singly, because `reserved` of the first entry
        // is the tail.
        unsafe {
            let entry = self.descriptors.start.cast::<Descriptor>().add(index);
            let address = self.memory.start.add(usize::from(buffer) * self.bytes);
            addr_of_mut!((*entry).address).write(address as u64);
            addr_of_mut!((*entry).len).write(self.bytes as u32);
            addr_of_mut!((*entry).buffer).write(buffer);
        }
        self.tail.set(tail.wrapping_add(1));
    }

    #[inline]
    pub(crate) fn publish(&self) {
        // SAFETY: the tail is a u16 in the first entry, aligned, and only ever accessed atomically.
        let shared = unsafe {
            let first = self.descriptors.start.cast::<Descriptor>();
            AtomicU16::from_ptr(addr_of_mut!((*first).reserved))
        };
        shared.store(self.tail.get(), Ordering::Release);
    }
}
