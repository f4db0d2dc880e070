//! The baton: the exclusive right to run on a shard.
//!
//! `try_take` is one compare-exchange and never waits: the fast path, together with the inbox.
//! `take` waits, for whoever needs several shards at once; such a caller takes them in ascending
//! order and holds none while it waits for a lower one, so there is no deadlock.
//!
//! What is to be run by whoever holds the baton waits in an inbox: [`crate::post`].

use crate::atomics::{said_before_looking, AtomicU32, Condvar, Mutex, SeqCst, UnsafeCell};
use std::ops::{Deref, DerefMut};

const FREE: u32 = 0;
const HELD: u32 = 1;

/// How often `take` looks before it sleeps.
#[cfg(not(loom))]
const SPINS: u32 = 200;
#[cfg(loom)]
const SPINS: u32 = 1;

/// A value that one thread at a time may use. Its own cache lines, as its neighbours are other
/// cores' batons.
#[repr(align(128))]
pub struct Baton<T> {
    state: AtomicU32,
    /// Threads that sleep in `take`, or are about to.
    sleepers: AtomicU32,
    lock: Mutex<()>,
    released: Condvar,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through a Guard, and there is at most one Guard at a time
// (state goes from FREE to HELD by compare-exchange); sharing the Baton thus moves T between
// threads, which T: Send allows.
unsafe impl<T: Send> Sync for Baton<T> {}
// SAFETY: a Baton owns its value.
unsafe impl<T: Send> Send for Baton<T> {}

impl<T> Baton<T> {
    pub fn new(value: T) -> Self {
        Baton {
            state: AtomicU32::new(FREE),
            sleepers: AtomicU32::new(0),
            lock: Mutex::new(()),
            released: Condvar::new(),
            value: UnsafeCell::new(value),
        }
    }

    /// The baton, if nobody holds it.
    #[inline]
    pub fn try_take(&self) -> Option<Guard<'_, T>> {
        // A load first: a taken baton's cache line stays shared among those who only look.
        if self.state.load(SeqCst) != FREE {
            return None;
        }
        self.state
            .compare_exchange(FREE, HELD, SeqCst, SeqCst)
            .ok()
            .map(|_| Guard { baton: self })
    }

    /// The baton, if it becomes free within `spins` looks.
    #[inline]
    pub fn try_take_spinning(&self, spins: u32) -> Option<Guard<'_, T>> {
        for _ in 0..spins {
            if let Some(guard) = self.try_take() {
                return Some(guard);
            }
            pause();
        }
        None
    }

    /// The baton, however long it takes.
    pub fn take(&self) -> Guard<'_, T> {
        if let Some(guard) = self.try_take_spinning(SPINS) {
            return guard;
        }
        let mut asleep = self.lock.lock().expect("no holder of this lock panics");
        self.sleepers.fetch_add(1, SeqCst);
        said_before_looking();
        let guard = loop {
            // Looked at after `sleepers` was raised: a release after this look sees a sleeper,
            // and takes the lock, which this thread gives up only in `wait`.
            if let Some(guard) = self.try_take() {
                break guard;
            }
            asleep = self
                .released
                .wait(asleep)
                .expect("no holder of this lock panics");
        };
        self.sleepers.fetch_sub(1, SeqCst);
        guard
    }
}

#[inline]
fn pause() {
    #[cfg(loom)]
    loom::thread::yield_now();
    #[cfg(not(loom))]
    std::hint::spin_loop();
}

/// The baton in hand; dropping it gives it back.
pub struct Guard<'a, T> {
    baton: &'a Baton<T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        #[cfg(not(loom))]
        // SAFETY: a Guard exists only while the state is HELD on its behalf, so no other
        // reference to the value exists but those borrowed from this Guard.
        unsafe {
            &*self.baton.value.get()
        }
        #[cfg(loom)]
        // SAFETY: as above; loom checks it.
        self.baton.value.with(|value| unsafe { &*value })
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        #[cfg(not(loom))]
        // SAFETY: as for Deref, and the Guard is borrowed exclusively.
        unsafe {
            &mut *self.baton.value.get()
        }
        #[cfg(loom)]
        // SAFETY: as above; loom checks it.
        self.baton.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.baton.state.store(FREE, SeqCst);
        said_before_looking();
        if self.baton.sleepers.load(SeqCst) > 0 {
            let _asleep = self
                .baton
                .lock
                .lock()
                .expect("no holder of this lock panics");
            self.baton.released.notify_one();
        }
    }
}
