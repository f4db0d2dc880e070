//! The allocator of the fuzz programs: bounds what an input may allocate, and finds writes past the end of a block.
//!
//! Behind each block lie eight guard bytes, checked when it is freed; a freed block is overwritten, so that a use after
//! free shows. While [`within`] runs, its thread may hold only so many bytes more than before: one allocation
//! beyond that ends the process. Other threads are not counted.
//! Why not AddressSanitizer: it needs a nightly compiler.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;

struct Guarded;

#[global_allocator]
static ALLOCATOR: Guarded = Guarded;

const GUARD: [u8; 8] = *b"\xB5guard\xC3\x3C";
/// What a freed block is filled with.
const FREED: u8 = 0xDF;

thread_local! {
    /// Bytes allocated less bytes freed by this thread, and how far that may rise.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static LIMIT: Cell<isize> = const { Cell::new(isize::MAX) };
}

/// Runs `work`, which may at no time hold more than `budget` bytes.
pub fn within<R>(budget: usize, work: impl FnOnce() -> R) -> R {
    struct Restored(isize);
    impl Drop for Restored {
        fn drop(&mut self) {
            LIMIT.set(self.0);
        }
    }
    let limit = LIVE.get().saturating_add_unsigned(budget);
    let _restored = Restored(LIMIT.replace(limit));
    work()
}

fn guarded(layout: Layout) -> Option<Layout> {
    let size = layout.size().checked_add(GUARD.len())?;
    Layout::from_size_align(size, layout.align()).ok()
}

/// Ends the process. The limit goes first, because telling where it happened allocates.
#[cold]
fn refused(size: usize) -> ! {
    LIMIT.set(isize::MAX);
    let (held, from) = (LIVE.get(), std::backtrace::Backtrace::force_capture());
    eprintln!("allocation of {size} bytes exceeds the input's budget; {held} are held\n{from}");
    std::process::abort()
}

// SAFETY: blocks come from and go back to `System`, always with the layout that `guarded` gives for the caller's; the
// caller's part of a block begins where the block does and is as long and as aligned as asked for.
unsafe impl GlobalAlloc for Guarded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(whole) = guarded(layout) else {
            return std::ptr::null_mut();
        };
        let live = LIVE.get().saturating_add_unsigned(layout.size());
        // A panic's report is not the input's.
        if live > LIMIT.get() && !std::thread::panicking() {
            refused(layout.size());
        }
        // SAFETY: `whole` is not empty, the guard alone has eight bytes.
        let block = unsafe { System.alloc(whole) };
        if !block.is_null() {
            LIVE.set(live);
            // SAFETY: the guard lies behind the caller's part and within `whole`.
            unsafe {
                block
                    .add(layout.size())
                    .cast::<[u8; 8]>()
                    .write_unaligned(GUARD)
            };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `block` came from `alloc` with this layout, so the guard is behind it.
        let guard = unsafe { block.add(layout.size()).cast::<[u8; 8]>().read_unaligned() };
        if guard != GUARD {
            let _ = std::io::stderr().write_all(b"a block was written past its end\n");
            std::process::abort();
        }
        let Some(whole) = guarded(layout) else {
            unreachable!("it was computed when the block was allocated")
        };
        LIVE.set(LIVE.get() - layout.size() as isize);
        // SAFETY: the block is the caller's to give up, of this layout, and came from `System`.
        unsafe {
            block.write_bytes(FREED, whole.size());
            System.dealloc(block, whole);
        }
    }
}
