//! What all workers know about the memory limit: how many keys each shard could give, and for how long memory has
//! been above the limit. Numbers here are hints; no decision that must be right rests on them alone.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use keyspace::ShardIndex;

use crate::clock;

pub struct MemoryLimit {
    evictable: Box<[AtomicUsize]>,
    /// Since when times here count.
    epoch: Instant,
    /// Microseconds of the epoch since which memory has been above the limit; 0: it is not.
    beyond_since: AtomicU64,
    beyond_total_micros: AtomicU64,
}

impl MemoryLimit {
    pub fn new(shards: usize) -> MemoryLimit {
        MemoryLimit {
            evictable: (0..shards).map(|_| AtomicUsize::new(0)).collect(),
            epoch: clock::instant(),
            beyond_since: AtomicU64::new(0),
            beyond_total_micros: AtomicU64::new(0),
        }
    }

    /// How many keys a shard could give when it was last seen.
    pub fn evictable(&self, shard: ShardIndex) -> usize {
        self.evictable[usize::from(shard.0)].load(Relaxed)
    }

    pub fn note_evictable(&self, shard: ShardIndex, count: usize) {
        self.evictable[usize::from(shard.0)].store(count, Relaxed);
    }

    pub fn beyond_limit(&self) {
        let now = self.micros().max(1);
        // Whoever noticed first set it.
        let _ = self.beyond_since.compare_exchange(0, now, Relaxed, Relaxed);
    }

    #[inline]
    pub fn within_limit(&self) {
        if self.beyond_since.load(Relaxed) == 0 {
            return;
        }
        let since = self.beyond_since.swap(0, Relaxed);
        if since != 0 {
            let micros = self.micros().saturating_sub(since);
            self.beyond_total_micros.fetch_add(micros, Relaxed);
        }
    }

    /// Milliseconds above the limit in all, up to now.
    pub fn beyond_total_ms(&self) -> u64 {
        self.beyond_total_micros.load(Relaxed) / 1000 + self.beyond_now_ms()
    }

    /// Milliseconds since memory went above the limit; 0 if it is not.
    pub fn beyond_now_ms(&self) -> u64 {
        match self.beyond_since.load(Relaxed) {
            0 => 0,
            since => self.micros().saturating_sub(since) / 1000,
        }
    }

    /// Forgets the total, as CONFIG RESETSTAT does.
    pub fn reset(&self) {
        self.beyond_total_micros.store(0, Relaxed);
    }

    fn micros(&self) -> u64 {
        clock::elapsed_since(self.epoch).as_micros() as u64
    }
}
