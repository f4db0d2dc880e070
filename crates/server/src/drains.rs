//! Whether the rings can be drained: who drains says so here, and commands that write are refused meanwhile.
//!
//! Rings that were taken out of force may be drained for a while yet, by an fdatasync that is under way, say. What becomes
//! of them concerns nobody: only what is said of the rings in force counts.

use std::io;
use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};

use keyspace::ShardIndex;

use crate::log;

pub struct Drains {
    /// Which rings of this process are in force; 0: none.
    rings_number: AtomicU64,
    /// By shard: why its ring cannot be drained, or 0.
    errnos: Box<[AtomicI32]>,
    /// How many cannot.
    failing: AtomicUsize,
    /// The log says so.
    told: AtomicBool,
    /// Of a failed drain that the log has not told of.
    untold_errno: AtomicI32,
}

impl Drains {
    pub fn new(shards: usize) -> Drains {
        Drains {
            rings_number: AtomicU64::new(0),
            errnos: (0..shards).map(|_| AtomicI32::new(0)).collect(),
            failing: AtomicUsize::new(0),
            told: AtomicBool::new(false),
            untold_errno: AtomicI32::new(0),
        }
    }

    /// From now on these rings count, of which nothing bad is known.
    pub fn put_in_force(&self, rings_number: u64) {
        self.rings_number.store(rings_number, SeqCst);
        for shard in 0..self.errnos.len() {
            self.set(ShardIndex(shard as u16), 0);
        }
    }

    /// Draining a shard's ring fails with this errno, or succeeds (0). Called within the drain: does not allocate.
    pub fn note(&self, rings_number: u64, shard: ShardIndex, errno: i32) {
        let in_force = || self.rings_number.load(SeqCst) == rings_number;
        if in_force() {
            self.set(shard, errno);
            if !in_force() {
                self.set(shard, 0);
            }
        }
    }

    fn set(&self, shard: ShardIndex, errno: i32) {
        match (
            self.errnos[usize::from(shard.0)].swap(errno, Relaxed),
            errno,
        ) {
            (0, 0) => {}
            (0, _) => {
                self.failing.fetch_add(1, Relaxed);
                self.untold_errno.store(errno, Relaxed);
            }
            (_, 0) => _ = self.failing.fetch_sub(1, Relaxed),
            _ => {}
        }
    }

    #[inline]
    pub fn have_failed(&self) -> bool {
        self.failing.load(Relaxed) > 0
    }

    /// Why one cannot be drained.
    pub fn error(&self) -> Option<io::Error> {
        let mut errnos = self.errnos.iter().map(|errno| errno.load(Relaxed));
        errnos
            .find(|errno| *errno != 0)
            .map(io::Error::from_raw_os_error)
    }

    /// Logs what happened since the last call, be it over already; for the coordinator, often.
    pub fn tell(&self) {
        let errno = self.untold_errno.swap(0, Relaxed);
        if errno != 0 && !self.told.swap(true, Relaxed) {
            let error = io::Error::from_raw_os_error(errno);
            log!(
                Warning,
                "Error writing to the AOF files: {error}. Their rings keep what was acknowledged."
            );
        }
        if !self.have_failed() && self.told.swap(false, Relaxed) {
            log!(
                Warning,
                "AOF write error looks solved, commands that write are accepted again."
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_out_of_force_refuse_no_writes() {
        let (drains, shard) = (Drains::new(2), ShardIndex(1));
        drains.put_in_force(1);
        drains.note(1, shard, libc::ENOSPC);
        assert!(drains.have_failed());
        let error = drains.error().and_then(|error| error.raw_os_error());
        assert_eq!(error, Some(libc::ENOSPC));
        drains.put_in_force(0);
        assert!(!drains.have_failed());
        drains.note(1, shard, libc::ENOSPC);
        assert!(!drains.have_failed() && drains.error().is_none());
        drains.put_in_force(2);
        drains.note(2, shard, libc::EIO);
        drains.note(1, shard, 0);
        assert!(drains.have_failed());
        drains.note(2, shard, 0);
        assert!(!drains.have_failed());
    }
}
