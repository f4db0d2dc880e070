//! Waking a reactor from other threads.
//!
//! One atomic says whether the reactor runs, sleeps or has been notified. Only the first notifier to find it asleep
//! pays for a system call: one write to an eventfd that the backend watches edge-triggered, so it is never read back.
//! Argument for "no wake is lost": a reactor sleeps only after exchanging AWAKE for SLEEPING, and a notifier
//! exchanges whatever it finds for NOTIFIED. Whichever comes first, the other sees it: the reactor does not sleep,
//! or the notifier writes. All exchanges are sequentially consistent, so what was stored before `wake` is visible
//! in `woken`.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::Arc;

const AWAKE: u8 = 0;
const SLEEPING: u8 = 1;
const NOTIFIED: u8 = 2;

struct Shared {
    state: AtomicU8,
    /// Absent in a simulation, which never sleeps.
    eventfd: Option<File>,
}

/// Wakes one reactor; cheap to clone and to keep anywhere.
#[derive(Clone)]
pub struct Notifier(Arc<Shared>);

impl Notifier {
    /// Makes the reactor report `woken` soon. Coalesces with other wakes it has not reported yet.
    pub fn wake(&self) {
        if self.0.state.swap(NOTIFIED, Ordering::SeqCst) == SLEEPING {
            if let Some(mut eventfd) = self.0.eventfd.as_ref() {
                // The counter would have to reach 2^64 for this to fail.
                let _ = eventfd.write(&1u64.to_ne_bytes());
            }
        }
    }
}

impl Notifier {
    pub(crate) fn is_pending(&self) -> bool {
        self.0.state.load(Ordering::SeqCst) == NOTIFIED
    }
}

/// The reactor's side.
pub(crate) struct Wake(Notifier);

impl Wake {
    pub(crate) fn new() -> io::Result<Wake> {
        // SAFETY: eventfd takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just created and nobody else owns it.
        let eventfd = unsafe { File::from_raw_fd(fd) };
        Ok(Wake::with(Some(eventfd)))
    }

    pub(crate) fn simulated() -> Wake {
        Wake::with(None)
    }

    fn with(eventfd: Option<File>) -> Wake {
        Wake(Notifier(Arc::new(Shared {
            state: AtomicU8::new(AWAKE),
            eventfd,
        })))
    }

    pub(crate) fn notifier(&self) -> Notifier {
        self.0.clone()
    }

    pub(crate) fn eventfd(&self) -> RawFd {
        self.0
             .0
            .eventfd
            .as_ref()
            .map_or(-1, |file| file.as_raw_fd())
    }

    /// False: a wake is pending, do not sleep.
    #[inline]
    pub(crate) fn prepare_sleep(&self) -> bool {
        let state = &self.0 .0.state;
        state
            .compare_exchange(AWAKE, SLEEPING, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// Takes the pending wake, if any. The reactor is awake from here on.
    #[inline]
    pub(crate) fn take(&self) -> bool {
        self.0 .0.state.swap(AWAKE, Ordering::SeqCst) == NOTIFIED
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.0.is_pending()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(wake: &Wake) -> u64 {
        let mut count = 0u64;
        // SAFETY: reads eight bytes into eight bytes.
        let read = unsafe { libc::read(wake.eventfd(), (&raw mut count).cast(), 8) };
        if read == 8 {
            count
        } else {
            0
        }
    }

    #[test]
    fn only_a_sleeping_reactor_costs_a_write_and_only_one() {
        let wake = Wake::new().unwrap();
        let notifier = wake.notifier();
        notifier.wake();
        assert_eq!(written(&wake), 0);
        assert!(!wake.prepare_sleep());
        assert!(wake.take());
        assert!(!wake.take());
        assert!(wake.prepare_sleep());
        notifier.wake();
        notifier.wake();
        assert_eq!(written(&wake), 1);
        assert!(wake.take());
    }
}
