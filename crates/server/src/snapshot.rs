//! What is known of snapshots and rewrites: their state for INFO and for commands that ask, and
//! the view of the shards that a snapshot is taken of. The coordinator makes them.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, OnceLock};

use commands::CommandError;
use config::Config;
use keyspace::{DbIndex, Shard, UnixMillis};
use persistence::progress::SharedProgress;
use persistence::rdb::snapshot::{OnKey, SnapshotSource};

use crate::aof::Aof;
use crate::recovery::LastRecovery;

const MISCONF_RDB: CommandError = CommandError::new(
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. \
     Commands that may modify the data set are disabled, because this instance is configured to report errors during writes \
     if RDB snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB error.",
);

/// What a child process is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChildKind {
    Snapshot,
    Rewrite,
}

impl ChildKind {
    pub fn name(self) -> &'static str {
        match self {
            ChildKind::Snapshot => "RDB",
            ChildKind::Rewrite => "AOF",
        }
    }
}

/// How large a file became, of how much memory.
#[derive(Default)]
pub struct WrittenSize {
    file_bytes: AtomicU64,
    memory_bytes: AtomicU64,
}

/// Without experience, files are taken to be at least this much smaller than the memory: rather try
/// one that fails than refuse one that would have fitted.
const MEMORY_PER_FILE_BYTE: u64 = 4;

impl WrittenSize {
    pub fn note(&self, file_bytes: u64, memory_bytes: u64) {
        self.file_bytes.store(file_bytes, Relaxed);
        self.memory_bytes.store(memory_bytes.max(1), Relaxed);
    }

    /// What a file of this much memory will take.
    pub fn estimate(&self, memory_bytes: u64) -> u64 {
        match self.memory_bytes.load(Relaxed) {
            0 => memory_bytes / MEMORY_PER_FILE_BYTE,
            before => {
                let file_bytes = u128::from(self.file_bytes.load(Relaxed));
                (file_bytes * u128::from(memory_bytes) / u128::from(before)) as u64
            }
        }
    }
}

/// Which child runs or is wanted. Commands reserve under this lock, so that their replies are
/// true; the coordinator carries out.
#[derive(Default)]
pub struct Plans {
    pub child: Option<ChildKind>,
    pub snapshot_scheduled: bool,
    pub rewrite_scheduled: bool,
}

#[derive(Default)]
pub struct SnapshotState {
    pub plans: Mutex<Plans>,
    pub last_snapshot_failed: AtomicBool,
    pub last_rewrite_failed: AtomicBool,
    /// Seconds that the last one took; -1 (stored as 0 here, hence the offset) before the first.
    pub last_snapshot_seconds_plus_1: AtomicI64,
    pub last_rewrite_seconds_plus_1: AtomicI64,
    /// Unix milliseconds at which the running child was started.
    pub child_started_at: AtomicI64,
    pub last_snapshot_cow_bytes: AtomicU64,
    pub last_rewrite_cow_bytes: AtomicU64,
    /// Of the running child, as it was seen last.
    pub current_cow_bytes: AtomicU64,
    pub current_cow_peak_bytes: AtomicU64,
    pub current_cow_seen_at: AtomicI64,
    pub current_keys_total: AtomicU64,
    /// By SAVE, or in the background.
    pub snapshots_begun: AtomicU64,
    pub snapshots_saved: AtomicU64,
    pub rewrites_done: AtomicU64,
    pub rewrite_consecutive_failures: AtomicU64,
    /// Why the last one failed, and where; empty if it did not.
    pub last_snapshot_error: Mutex<String>,
    pub last_rewrite_error: Mutex<String>,
    /// Unix seconds at which the last snapshot was read back and found right; 0: none was.
    pub last_verified_seconds: AtomicI64,
    /// Children given up for what they made the machine copy, or because they made no progress.
    pub children_over_cow_limit: AtomicU64,
    pub children_without_progress: AtomicU64,
    /// Not begun, because they would not have fitted the disk.
    pub snapshots_without_space: AtomicU64,
    pub rewrites_without_space: AtomicU64,
    /// An automatic rewrite is due, and waits for space.
    pub rewrite_waits_for_space: AtomicBool,
    /// The last dump or base (as RDB, as commands) and the memory its data took: what the next will take.
    pub sizes: [WrittenSize; 2],
    /// Bytes of the AOF when it was last rewritten, or loaded.
    pub aof_base_bytes: AtomicU64,
    pub last_load_keys_loaded: AtomicU64,
    pub last_load_keys_expired: AtomicU64,
    pub loading_started_at: AtomicI64,
    pub last_recovery: Mutex<LastRecovery>,
    /// Of the running child or load.
    progress: OnceLock<SharedProgress>,
    /// Writes are refused because a snapshot failed or the AOF cannot be written.
    writes_refused: AtomicBool,
}

impl SnapshotState {
    /// Of a server that starts, and so is loading: clients may ask how far it is before it has begun.
    pub fn new(started_at: UnixMillis) -> SnapshotState {
        SnapshotState {
            loading_started_at: AtomicI64::new(started_at.0),
            ..SnapshotState::default()
        }
    }

    /// The counters that child processes and loads write to. Made at start, before any of them.
    pub fn progress(&self) -> io::Result<&SharedProgress> {
        if let Some(progress) = self.progress.get() {
            return Ok(progress);
        }
        let made = SharedProgress::new()?;
        Ok(self.progress.get_or_init(|| made))
    }

    /// Works out anew whether writes are refused; the coordinator calls this regularly.
    pub fn refresh(&self, config: &Config, aof: &Aof) {
        let rdb = config.stop_writes_on_bgsave_error
            && !config.save.is_empty()
            && self.last_snapshot_failed.load(Relaxed);
        self.writes_refused.store(rdb || aof.has_failed(), Relaxed);
    }

    /// Why writes are refused, if they are.
    #[inline]
    pub fn refusal_of_writes(&self, aof: &Aof) -> Option<CommandError> {
        if !self.writes_refused.load(Relaxed) && !aof.has_failed() {
            return None;
        }
        aof.refusal()
            .or(self.writes_refused.load(Relaxed).then_some(MISCONF_RDB))
    }

    /// Why the last child of a kind failed; empty if it did not.
    pub fn last_error(&self, kind: ChildKind) -> MutexGuard<'_, String> {
        let error = match kind {
            ChildKind::Snapshot => &self.last_snapshot_error,
            ChildKind::Rewrite => &self.last_rewrite_error,
        };
        error.lock().expect("no holder of this lock panics")
    }

    /// Publishes how much memory the running child has had copied.
    pub fn note_copied(&self, bytes: u64) {
        self.current_cow_bytes.store(bytes, Relaxed);
        self.current_cow_peak_bytes.fetch_max(bytes, Relaxed);
        self.current_cow_seen_at
            .store(crate::clock::unix_millis().0, Relaxed);
    }

    pub fn child(&self) -> Option<ChildKind> {
        self.plans
            .lock()
            .expect("no holder of this lock panics")
            .child
    }
}

/// The shards as a snapshot sees them: all batons are held, or this is a fork's child.
pub struct ShardsSource<'a> {
    pub shards: Vec<&'a Shard>,
    pub libraries: std::sync::Arc<crate::scripts::libraries::Libraries>,
}

impl SnapshotSource for ShardsSource<'_> {
    fn shard_count(&self) -> usize {
        self.shards.len()
    }

    fn for_each_key(&self, shard: usize, on_key: &mut OnKey<'_>) -> io::Result<()> {
        let shard = self.shards[shard];
        for db in (0..shard.databases() as u32).map(DbIndex) {
            for entry in shard.db(db).iter() {
                on_key(db, entry.key(), entry.expire_at(), entry.value())?;
            }
        }
        Ok(())
    }

    fn functions(&self) -> Vec<&[u8]> {
        let libraries = self.libraries.by_name.values();
        libraries.map(|library| &*library.code).collect()
    }

    fn db_sizes(&self) -> Vec<(DbIndex, u64, u64)> {
        let databases = self.shards.first().map_or(0, |shard| shard.databases()) as u32;
        let sum = |db, count: fn(&keyspace::Db) -> usize| {
            self.shards
                .iter()
                .map(|shard| count(shard.db(db)) as u64)
                .sum()
        };
        (0..databases)
            .map(DbIndex)
            .map(|db| {
                (
                    db,
                    sum(db, keyspace::Db::len),
                    sum(db, keyspace::Db::expires_len),
                )
            })
            .filter(|(_, keys, _)| *keys > 0)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_estimated_from_the_last_file() {
        let size = WrittenSize::default();
        assert_eq!(size.estimate(4 << 30), 1 << 30);
        size.note(3 << 30, 2 << 30);
        assert_eq!(size.estimate(4 << 30), 6 << 30);
        size.note(0, 0);
        assert_eq!(size.estimate(4 << 30), 0);
    }
}
