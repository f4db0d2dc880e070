//! The global allocator, mimalloc, with the bytes in use counted.
//!
//! Counts are kept in one padded slot per thread (threads beyond the slots share them), so that
//! counting costs an addition to a line that no other core writes; `used_bytes` sums the slots. What counts is
//! the size class an allocation takes, not what was asked for: so the sum stays close to the resident set.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed};

use mimalloc::MiMalloc;

pub struct CountingAllocator;

const SLOTS: usize = 64;

#[repr(align(128))]
struct Slot(AtomicI64);

static USED: [Slot; SLOTS] = [const { Slot(AtomicI64::new(0)) }; SLOTS];
static NEXT_SLOT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SLOT: Cell<usize> = const { Cell::new(usize::MAX) };
}

#[inline]
fn slot_of_thread() -> usize {
    let slot = SLOT.try_with(|slot| {
        if slot.get() == usize::MAX {
            slot.set(NEXT_SLOT.fetch_add(1, Relaxed) % SLOTS);
        }
        slot.get()
    });
    slot.unwrap_or(0)
}

#[inline]
fn count(bytes: i64) {
    USED[slot_of_thread()].0.fetch_add(bytes, Relaxed);
}

/// The bytes that an allocation takes. mimalloc's classes are 16 bytes apart up to 128 and then four to a power of
/// two; what is larger takes whole pages, and what is very large slices of 64 KiB, eight sizes to a power of two.
#[inline]
fn class_bytes(size: usize) -> usize {
    const PAGES_FROM: usize = 64 << 10;
    const SLICES_FROM: usize = 512 << 10;
    match size {
        0..=128 => size.next_multiple_of(16),
        129..=PAGES_FROM => size.next_multiple_of(1 << ((size - 1).ilog2() - 2)),
        _ if size <= SLICES_FROM => size.next_multiple_of(4096),
        _ => very_large_bytes(size),
    }
}

#[cold]
fn very_large_bytes(size: usize) -> usize {
    const SLICE: usize = 64 << 10;
    let slices = size.div_ceil(SLICE);
    slices.next_multiple_of(1 << ((slices - 1).ilog2() - 3)) * SLICE
}

/// Bytes that are allocated now.
pub fn used_bytes() -> u64 {
    let slots = NEXT_SLOT.load(Relaxed).min(SLOTS);
    let sum: i64 = USED[..slots].iter().map(|slot| slot.0.load(Relaxed)).sum();
    u64::try_from(sum).unwrap_or(0)
}

/// What this thread (and those that share its slot) has allocated more than freed: a number whose growth tells
/// when to look at the sum again.
#[inline]
pub fn used_by_thread() -> i64 {
    USED[slot_of_thread()].0.load(Relaxed)
}

// SAFETY: every call is passed on to mimalloc unchanged; counting allocates nothing (the
// thread-local is const-initialised and has no destructor).
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(class_bytes(layout.size()) as i64);
        // SAFETY: the caller's obligations are MiMalloc's.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(class_bytes(layout.size()) as i64);
        // SAFETY: as above.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-(class_bytes(layout.size()) as i64));
        // SAFETY: as above.
        unsafe { MiMalloc.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(class_bytes(new_size) as i64 - class_bytes(layout.size()) as i64);
        // SAFETY: as above.
        unsafe { MiMalloc.realloc(ptr, layout, new_size) }
    }
}

/// Gives memory that nobody uses back to the system, as far as the calling thread can.
pub fn purge() {
    extern "C" {
        fn mi_collect(force: bool);
    }
    // SAFETY: the allocator's own function, which any thread may call at any time.
    unsafe { mi_collect(true) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_what_the_allocator_takes() {
        for size in (1..9_000).chain([
            20_000, 65_000, 65_536, 65_537, 100_001, 200_000, 500_000, 524_289, 600_001, 1_000_000,
            15_000_001, 20_000_001,
        ]) {
            let layout = Layout::from_size_align(size, 8).expect("small");
            // SAFETY: the layout is not empty; the block is freed by the layout it was allocated by.
            let usable = unsafe {
                let block = MiMalloc.alloc(layout);
                let usable = MiMalloc.usable_size(block);
                MiMalloc.dealloc(block, layout);
                usable
            };
            let counted = class_bytes(size);
            assert!(
                counted >= size && counted.abs_diff(usable) * 50 <= usable.max(800),
                "{size}: counted {counted}, takes {usable}"
            );
        }
    }
}
