//! Counters for INFO. A worker's are written by that worker alone, so that counting is a plain
//! addition; readers sum them. CONFIG RESETSTAT sets none of them back: it remembers what the
//! sums were, and INFO subtracts that.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Mutex;

use crate::command_stats::{self, CommandStat, CommandTotals};

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
    /// For `maxmemory-clients`.
    pub clients_evicted: Counter,
    pub expire_cycle_micros: Counter,
    /// Receives and sends.
    pub reads: Counter,
    pub writes: Counter,
    /// Turns of the event loop.
    pub turns: Counter,
    /// By command number; see [`command_stats`].
    pub commands: Box<[CommandStat]>,
    /// Error replies by their first word.
    errors: Mutex<BTreeMap<String, u64>>,
}

impl WorkerStats {
    pub fn new() -> WorkerStats {
        WorkerStats {
            commands: command_stats::table(),
            ..WorkerStats::default()
        }
    }

    /// Counts an error reply, given without its `-`.
    #[cold]
    pub fn count_error(&self, text: &[u8]) {
        /// A client that makes up error codes (with DEBUG ERROR, or in scripts) fills no memory.
        const CODES_MAX: usize = 128;
        self.error_replies.add(1);
        let code = text.split(|b| *b == b' ').next().unwrap_or_default();
        let code = String::from_utf8_lossy(code);
        let mut errors = self.errors.lock().expect("no holder of this lock panics");
        if let Some(count) = errors.get_mut(&*code) {
            *count += 1;
        } else if errors.len() < CODES_MAX {
            errors.insert(code.into_owned(), 1);
        }
    }
}

/// Counters of the server as a whole; any thread adds to them.
#[derive(Default)]
pub struct ServerStats {
    pub total_forks: Counter,
    pub latest_fork_micros: Counter,
    /// How long nobody was served for it.
    pub latest_fork_freeze_micros: Counter,
    pub peak_memory_bytes: Counter,
    /// Bytes allocated before anything was loaded.
    pub startup_memory_bytes: Counter,
    /// Commands a second, over the last 1.6 seconds; kept by the coordinator.
    pub instantaneous_ops: Counter,
    pub instantaneous_input_bytes: Counter,
    pub instantaneous_output_bytes: Counter,
    pub instantaneous_turns: Counter,
    pub expired_time_cap_reached: Counter,
    /// Values that another thread has freed.
    pub garbage_freed: Counter,
    pub unexpected_error_replies: Counter,
    /// What the sums were at the last CONFIG RESETSTAT.
    baseline: Mutex<Totals>,
}

/// The sums over all workers.
#[derive(Default, Clone)]
pub struct Totals {
    pub commands_processed: u64,
    pub connections_received: u64,
    pub connections_rejected: u64,
    pub net_input_bytes: u64,
    pub net_output_bytes: u64,
    pub error_replies: u64,
    pub commands_posted: u64,
    pub query_buffer_limit_disconnections: u64,
    pub output_buffer_limit_disconnections: u64,
    pub clients_evicted: u64,
    pub expire_cycle_micros: u64,
    pub reads: u64,
    pub writes: u64,
    pub turns: u64,
    pub expired_time_cap_reached: u64,
    pub garbage_freed: u64,
    pub unexpected_error_replies: u64,
    pub total_forks: u64,
    pub snapshots_begun: u64,
    pub rewrites_done: u64,
    pub errors: BTreeMap<String, u64>,
    pub commands: Vec<CommandTotals>,
}

impl Totals {
    /// The sums since the process began.
    pub fn since_start(server: &crate::shared::Server) -> Totals {
        let mut totals = Totals {
            expired_time_cap_reached: server.stats.expired_time_cap_reached.get(),
            garbage_freed: server.stats.garbage_freed.get(),
            unexpected_error_replies: server.stats.unexpected_error_replies.get(),
            total_forks: server.stats.total_forks.get(),
            snapshots_begun: server.snapshot.snapshots_begun.load(Relaxed),
            rewrites_done: server.snapshot.rewrites_done.load(Relaxed),
            commands: vec![CommandTotals::default(); command_stats::count()],
            ..Totals::default()
        };
        for worker in &server.workers {
            totals.add_worker(&worker.stats);
        }
        totals
    }

    /// The sums since the last CONFIG RESETSTAT.
    pub fn since_reset(server: &crate::shared::Server) -> Totals {
        let mut totals = Totals::since_start(server);
        let baseline = server
            .stats
            .baseline
            .lock()
            .expect("no holder of this lock panics");
        totals.for_each_pair(&baseline, |sum, before| *sum = sum.saturating_sub(before));
        totals
    }

    /// CONFIG RESETSTAT.
    pub fn reset(server: &crate::shared::Server) {
        let totals = Totals::since_start(server);
        *server
            .stats
            .baseline
            .lock()
            .expect("no holder of this lock panics") = totals;
    }

    fn add_worker(&mut self, stats: &WorkerStats) {
        self.commands_processed += stats.commands_processed.get();
        self.connections_received += stats.connections_received.get();
        self.connections_rejected += stats.connections_rejected.get();
        self.net_input_bytes += stats.net_input_bytes.get();
        self.net_output_bytes += stats.net_output_bytes.get();
        self.error_replies += stats.error_replies.get();
        self.commands_posted += stats.commands_posted.get();
        self.query_buffer_limit_disconnections += stats.query_buffer_limit_disconnections.get();
        self.output_buffer_limit_disconnections += stats.output_buffer_limit_disconnections.get();
        self.clients_evicted += stats.clients_evicted.get();
        self.expire_cycle_micros += stats.expire_cycle_micros.get();
        self.reads += stats.reads.get();
        self.writes += stats.writes.get();
        self.turns += stats.turns.get();
        let errors = stats.errors.lock().expect("no holder of this lock panics");
        for (code, count) in errors.iter() {
            *self.errors.entry(code.clone()).or_default() += count;
        }
        for (totals, stat) in self.commands.iter_mut().zip(&stats.commands) {
            totals.add(stat);
        }
    }

    fn for_each_pair(&mut self, other: &Totals, mut f: impl FnMut(&mut u64, u64)) {
        for (sum, before) in [
            (&mut self.commands_processed, other.commands_processed),
            (&mut self.connections_received, other.connections_received),
            (&mut self.connections_rejected, other.connections_rejected),
            (&mut self.net_input_bytes, other.net_input_bytes),
            (&mut self.net_output_bytes, other.net_output_bytes),
            (&mut self.error_replies, other.error_replies),
            (&mut self.commands_posted, other.commands_posted),
            (
                &mut self.query_buffer_limit_disconnections,
                other.query_buffer_limit_disconnections,
            ),
            (
                &mut self.output_buffer_limit_disconnections,
                other.output_buffer_limit_disconnections,
            ),
            (&mut self.clients_evicted, other.clients_evicted),
            (&mut self.expire_cycle_micros, other.expire_cycle_micros),
            (&mut self.reads, other.reads),
            (&mut self.writes, other.writes),
            (&mut self.turns, other.turns),
            (&mut self.garbage_freed, other.garbage_freed),
            (
                &mut self.expired_time_cap_reached,
                other.expired_time_cap_reached,
            ),
            (
                &mut self.unexpected_error_replies,
                other.unexpected_error_replies,
            ),
            (&mut self.total_forks, other.total_forks),
            (&mut self.snapshots_begun, other.snapshots_begun),
            (&mut self.rewrites_done, other.rewrites_done),
        ] {
            f(sum, before);
        }
        for (code, sum) in &mut self.errors {
            f(sum, other.errors.get(code).copied().unwrap_or(0));
        }
        for (totals, before) in self.commands.iter_mut().zip(&other.commands) {
            totals.for_each_pair(before, &mut f);
        }
    }
}
