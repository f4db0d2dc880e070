//! The synchronisation that batons and inboxes are made of: the standard library's, or loom's
//! when the model test is built, which runs every interleaving of it.

#[cfg(loom)]
pub use loom::{
    cell::UnsafeCell,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst},
    sync::{Condvar, Mutex},
};
#[cfg(not(loom))]
pub use std::{
    cell::UnsafeCell,
    sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst},
    sync::{Condvar, Mutex},
};

/// Stands between a store and a load of another place where the protocol needs the single order
/// of sequentially consistent accesses: "I said so, then I looked".
///
/// Our accesses are all SeqCst, so there is nothing to do. Loom takes a SeqCst access for an
/// acquire or release only, but knows what a fence is.
#[inline(always)]
pub fn said_before_looking() {
    #[cfg(loom)]
    loom::sync::atomic::fence(SeqCst);
}
