//! The memory limit: when it is reached, keys are evicted, and what needs memory is refused if that does not help.
//!
//! Before a command that may need memory a worker compares what its own thread has allocated with a mark; only past
//! the mark it sums up what all threads have. The mark is a share of what is left to the limit, so that all workers
//! together stay below it, and eviction goes a little below the limit, so that the mark is not passed at every command.
//! Which shard gives is drawn by the number of keys that each could give, which keeps the choice of keys about what
//! it would be over all keys at once. No baton may be held here: each shard's is taken for a few keys at a time.

use std::time::Duration;

use commands::{errors, CommandError};
use config::{Config, MaxmemoryPolicy};
use keyspace::{AccessPolicy, Eviction, EvictionOrder, ShardIndex};

use super::Worker;
use crate::observe::latency;
use crate::{allocator, clock};

/// Keys evicted before the shard's baton is given back and memory is looked at again.
const KEYS_AT_A_TIME: usize = 16;
/// How far below the limit eviction goes: a fraction of it, and at most so many bytes.
const BELOW_LIMIT_FRACTION: u64 = 1024;
const BELOW_LIMIT_BYTES_MAX: u64 = 256 << 10;

/// What a worker knows about memory.
pub(super) struct MemoryGate {
    /// What this thread may have allocated until all is summed up again.
    mark: i64,
}

impl Default for MemoryGate {
    fn default() -> MemoryGate {
        MemoryGate { mark: i64::MIN }
    }
}

impl MemoryGate {
    /// Whether it is time to sum up.
    #[inline]
    pub fn is_due(&self) -> bool {
        allocator::used_by_thread() > self.mark
    }

    /// The limit may be another.
    pub fn configure(&mut self) {
        self.mark = i64::MIN;
    }
}

/// How an attempt to get below the limit ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Enough,
    /// Memory is still short, and more can be evicted.
    InTime,
    /// Memory is short, and nothing can go.
    None,
}

/// What a configuration evicts; none when it refuses instead.
fn eviction(config: &Config) -> Option<Eviction> {
    use EvictionOrder::{Expiry, Frequency, Random, Recency};
    let (volatile, order) = match config.maxmemory_policy {
        MaxmemoryPolicy::VolatileLru => (true, Recency),
        MaxmemoryPolicy::VolatileLfu => (true, Frequency),
        MaxmemoryPolicy::VolatileRandom => (true, Random),
        MaxmemoryPolicy::VolatileTtl => (true, Expiry),
        MaxmemoryPolicy::AllkeysLru => (false, Recency),
        MaxmemoryPolicy::AllkeysLfu => (false, Frequency),
        MaxmemoryPolicy::AllkeysRandom => (false, Random),
        MaxmemoryPolicy::Noeviction => return None,
    };
    Some(Eviction { volatile, order })
}

/// What the access clocks of keys mean under a configuration.
pub fn access_policy(config: &Config) -> AccessPolicy {
    match config.maxmemory_policy {
        MaxmemoryPolicy::VolatileLfu | MaxmemoryPolicy::AllkeysLfu => AccessPolicy::Frequency {
            log_factor: config.lfu_log_factor,
            decay_minutes: config.lfu_decay_minutes,
        },
        _ => AccessPolicy::Recency,
    }
}

/// How long one command may evict. Redis's figures: 50 us per step up to 10, then 15% more with each, then for ever.
fn time_limit(tenacity: u32) -> Option<Duration> {
    match tenacity {
        0..=10 => Some(Duration::from_micros(50 * u64::from(tenacity))),
        11..100 => Some(Duration::from_micros(500).mul_f64(1.15f64.powi(tenacity as i32 - 10))),
        _ => None,
    }
}

impl Worker {
    /// Gets memory below the limit if it is above, by evicting. An error when that is not possible.
    pub(super) fn make_room(&mut self) -> Result<(), CommandError> {
        match self.room() {
            Room::None => Err(errors::OUT_OF_MEMORY),
            Room::Enough | Room::InTime => Ok(()),
        }
    }

    /// Why a script may not use more memory, if it may not. With batons in hand nothing is evicted.
    pub(crate) fn memory_refusal(&mut self, has_batons: bool) -> Option<CommandError> {
        if !self.gate.is_due() {
            return None;
        }
        if !has_batons {
            return self.make_room().err();
        }
        let limit = self.config.maxmemory_bytes;
        let is_short = limit > 0 && allocator::used_bytes() > limit;
        (is_short && eviction(&self.config).is_none()).then_some(errors::OUT_OF_MEMORY)
    }

    /// Evicts what the limit asks for though no command does. True when it has to go on soon.
    pub(super) fn evict_in_background(&mut self) -> bool {
        self.gate.is_due() && self.room() == Room::InTime
    }

    fn room(&mut self) -> Room {
        let server = self.server;
        let limit = self.config.maxmemory_bytes;
        if limit == 0 || server.is_loading() {
            self.gate.mark = if limit == 0 { i64::MAX } else { i64::MIN };
            server.memory.within_limit();
            return Room::Enough;
        }
        if server.pause.is_on(self.now) {
            // What is evicted now would be a change.
            return Room::Enough;
        }
        let used = allocator::used_bytes();
        if used <= limit {
            self.set_mark(limit - used);
            server.memory.within_limit();
            return Room::Enough;
        }
        server.memory.beyond_limit();
        let room = match eviction(&self.config) {
            Some(eviction) => {
                let begun = clock::instant();
                let room = self.evict(eviction, limit);
                server.note_latency(
                    latency::EVICTION_CYCLE,
                    clock::elapsed_since(begun),
                    self.config.latency_monitor_threshold_ms,
                );
                room
            }
            None => Room::None,
        };
        if room == Room::Enough {
            server.memory.within_limit();
        } else {
            self.gate.mark = i64::MIN;
        }
        room
    }

    /// All workers together may use half of what is left until one of them looks again.
    fn set_mark(&mut self, left: u64) {
        let share = left / (2 * self.server.workers.len() as u64);
        let share = i64::try_from(share).unwrap_or(i64::MAX);
        self.gate.mark = allocator::used_by_thread().saturating_add(share);
    }

    fn evict(&mut self, eviction: Eviction, limit: u64) -> Room {
        let target = limit - (limit / BELOW_LIMIT_FRACTION).min(BELOW_LIMIT_BYTES_MAX);
        let time_limit = time_limit(self.config.maxmemory_eviction_tenacity);
        let begun = clock::instant();
        loop {
            let shard = self.draw_shard();
            if self.evict_from(shard, eviction, target) == 0 && !self.anything_evictable(eviction) {
                return match allocator::used_bytes() > limit {
                    true => Room::None,
                    false => Room::Enough,
                };
            }
            let used = allocator::used_bytes();
            if used <= target {
                self.set_mark(limit - used);
                return Room::Enough;
            }
            if time_limit.is_some_and(|most| clock::elapsed_since(begun) >= most) {
                return match used > limit {
                    true => Room::InTime,
                    false => Room::Enough,
                };
            }
        }
    }

    /// A shard, drawn by how many keys each could give when last seen.
    fn draw_shard(&mut self) -> ShardIndex {
        let memory = &self.server.memory;
        let total: usize = self
            .server
            .shard_indexes()
            .map(|shard| memory.evictable(shard))
            .sum();
        let mut place = self.env.rng.below(total);
        for shard in self.server.shard_indexes() {
            let count = memory.evictable(shard);
            if place < count {
                return shard;
            }
            place -= count;
        }
        ShardIndex(self.env.rng.below(self.server.shards.len()) as u16)
    }

    /// Evicts a few keys of one shard, and returns how many.
    fn evict_from(&mut self, shard: ShardIndex, eviction: Eviction, target: u64) -> usize {
        let samples = self.config.maxmemory_samples as usize;
        let unlink = self.config.lazyfree_lazy_eviction;
        let mut guard = self.server.shard(shard).baton.take();
        let before = allocator::used_bytes().saturating_sub(target);
        let begun = allocator::used_by_thread();
        let mut evicted = 0;
        while evicted < KEYS_AT_A_TIME
            && !guard.reserved
            && guard.evict_one(eviction, samples, unlink, &mut self.env.rng)
        {
            evicted += 1;
            let freed = begun - allocator::used_by_thread();
            if freed >= before as i64 {
                break;
            }
        }
        self.server
            .memory
            .note_evictable(shard, eviction.evictable(&guard));
        self.note_effects(&mut guard);
        if guard.after_due {
            self.after_run(None, &mut [&mut guard]);
        }
        self.release(Some((shard, guard)));
        evicted
    }

    /// Whether any shard has a key that may go, seen anew.
    fn anything_evictable(&mut self, eviction: Eviction) -> bool {
        let server = self.server;
        let counts: Vec<usize> = server
            .shard_indexes()
            .map(|shard| {
                let count = self.with_shard(shard, |shard| eviction.evictable(shard));
                server.memory.note_evictable(shard, count);
                count
            })
            .collect();
        counts.iter().any(|count| *count > 0)
    }

    /// Publishes how many keys the home shard could give; its baton is held.
    pub(super) fn note_evictable(&self, shard: &keyspace::Shard) {
        if let Some(eviction) = eviction(&self.config).filter(|_| self.config.maxmemory_bytes > 0) {
            let count = eviction.evictable(shard);
            self.server.memory.note_evictable(shard.index(), count);
        }
    }
}
