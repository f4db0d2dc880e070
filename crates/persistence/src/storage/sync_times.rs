//! How long a segment's datasyncs take, and how long something has been waiting for one; for those who watch a server.
//!
//! Times are milliseconds on the sync service's own clock, plus one, so that 0 can mean never. They inform; nothing is decided
//! by them, and a reader may see one of two that belong together before the other.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Default)]
pub(super) struct Times {
    /// Since when something that was written is not durable; 0: all is.
    pending_since: AtomicU64,
    last: AtomicU64,
    max: AtomicU64,
}

/// In milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncTimes {
    /// How long the last datasync took.
    pub last_ms: u64,
    /// How long the longest took.
    pub max_ms: u64,
    /// Since when the oldest write that is not durable has been waiting; 0 when all is durable.
    pub pending_ms: u64,
}

impl Times {
    /// Something was written: it waits from now on, unless something did already.
    #[inline]
    pub(super) fn wrote(&self, now: impl FnOnce() -> u64) {
        if self.pending_since.load(Relaxed) == 0 {
            self.pending_since.store(now(), Relaxed);
        }
    }

    /// A datasync has ended. `is_behind` says whether more was written while it ran: that has waited since the
    /// datasync began, at most.
    pub(super) fn synced(&self, began: u64, now: u64, is_done: bool, is_behind: impl Fn() -> bool) {
        let took = now.saturating_sub(began);
        self.last.store(took, Relaxed);
        self.max.fetch_max(took, Relaxed);
        if is_done {
            self.settle();
            if is_behind() {
                self.pending_since.store(began, Relaxed);
            }
        }
    }

    /// Nothing waits any more.
    pub(super) fn settle(&self) {
        self.pending_since.store(0, Relaxed);
    }

    pub(super) fn read(&self, now: u64) -> SyncTimes {
        let since = self.pending_since.load(Relaxed);
        SyncTimes {
            last_ms: self.last.load(Relaxed),
            max_ms: self.max.load(Relaxed),
            pending_ms: if since == 0 {
                0
            } else {
                now.saturating_sub(since)
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_write_is_what_has_waited() {
        let times = Times::default();
        let read = |now| {
            let read = times.read(now);
            (read.last_ms, read.max_ms, read.pending_ms)
        };
        assert_eq!(read(50), (0, 0, 0));
        times.wrote(|| 100);
        times.wrote(|| 900);
        assert_eq!(read(1000), (0, 0, 900));
        times.synced(950, 1250, true, || true);
        assert_eq!(read(1300), (300, 300, 350));
        times.synced(1300, 1310, false, || false);
        assert_eq!(read(1310), (10, 300, 360));
        times.synced(1320, 1340, true, || false);
        assert_eq!(read(1400), (20, 300, 0));
    }
}
