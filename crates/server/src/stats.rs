//! Counters for INFO. A worker's are written by that worker alone, so that counting is a plain
//! addition; readers sum them. CONFIG RESETSTAT remembers what the sums were.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A counter that one thread adds to and any thread reads.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Only the owning thread may call this.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Any thread may call this, if every one does.
    pub fn add_shared(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Sets it; races with additions are the caller's affair.
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }
}

#[derive(Default)]
#[repr(align(128))]
pub struct WorkerStats {
    pub commands_processed: Counter,
    pub connections_received: Counter,
    pub connections_rejected: Counter,
    pub net_input_bytes: Counter,
    pub net_output_bytes: Counter,
    pub error_replies: Counter,
    /// Commands of this worker's connections that went through another shard's inbox.
    pub commands_posted: Counter,
    pub query_buffer_limit_disconnections: Counter,
    pub output_buffer_limit_disconnections: Counter,
    pub expire_cycle_micros: Counter,
    /// Turns of the event loop that had something to do.
    pub turns: Counter,
}

/// Counters of the server as a whole; any thread adds to them.
#[derive(Default)]
pub struct ServerStats {
    pub total_forks: Counter,
    pub latest_fork_micros: Counter,
    pub peak_memory_bytes: Counter,
    /// Commands a second, over the last 1.6 seconds; kept by the coordinator.
    pub instantaneous_ops: Counter,
    pub instantaneous_input_bytes: Counter,
    pub instantaneous_output_bytes: Counter,
    pub expired_time_cap_reached: Counter,
    pub unexpected_error_replies: Counter,
}
