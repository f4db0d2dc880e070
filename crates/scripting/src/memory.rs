//! Lua's memory: taken from the process's allocator, counted, and limited.
//!
//! What is beyond the limit is refused, and the script that asked for it fails with "not enough memory". Nothing is
//! refused while a function of ours runs: the error would pass its frames by `longjmp`, and leave what they own behind.

use std::alloc::{alloc, dealloc, handle_alloc_error, realloc, Layout};
use std::ffi::c_void;

use crate::context::Context;

/// What any type of Lua's needs.
const ALIGNMENT: usize = 16;

#[derive(Default)]
pub struct Memory {
    pub used_bytes: usize,
    /// 0: none.
    pub limit_bytes: usize,
    /// Functions of ours under way.
    pub unlimited: u32,
}

impl Memory {
    fn refuses(&self, more: usize) -> bool {
        self.unlimited == 0
            && self.limit_bytes > 0
            && self.used_bytes.saturating_add(more) > self.limit_bytes
    }
}

/// Lua's allocation function.
///
/// # Safety
/// `user` is the state's context, `old` null or from here with this size.
pub unsafe extern "C" fn allocate(
    user: *mut c_void,
    old: *mut c_void,
    old_bytes: usize,
    bytes: usize,
) -> *mut c_void {
    // SAFETY: as the function's; sizes that Lua passes are those it asked for, so layouts match. `ALIGNMENT` is a
    // power of two, and sizes are far below isize::MAX, or refused.
    unsafe {
        let memory = &raw mut (*user.cast::<Context>()).memory;
        let memory = &mut *memory;
        let old_bytes = if old.is_null() { 0 } else { old_bytes };
        if bytes == 0 {
            if !old.is_null() {
                dealloc(
                    old.cast(),
                    Layout::from_size_align_unchecked(old_bytes, ALIGNMENT),
                );
                memory.used_bytes -= old_bytes;
            }
            return std::ptr::null_mut();
        }
        if bytes > old_bytes && memory.refuses(bytes - old_bytes) {
            return std::ptr::null_mut();
        }
        let Ok(layout) = Layout::from_size_align(bytes, ALIGNMENT) else {
            return std::ptr::null_mut();
        };
        let new = if old.is_null() {
            alloc(layout)
        } else {
            realloc(
                old.cast(),
                Layout::from_size_align_unchecked(old_bytes, ALIGNMENT),
                bytes,
            )
        };
        if new.is_null() {
            handle_alloc_error(layout);
        }
        memory.used_bytes = memory.used_bytes - old_bytes + bytes;
        new.cast()
    }
}
