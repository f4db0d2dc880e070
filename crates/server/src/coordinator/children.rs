//! Snapshots: in place for SAVE, by a forked child for BGSAVE, save points and AOF rewrites.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use config::Config;
use persistence::progress::SharedProgress;
use persistence::rdb::snapshot::{write_commands, write_rdb, SnapshotOptions, SnapshotStats};
use persistence::storage::Storage;

use super::{warn_failed, Coordinator};
use crate::child::{self, Child, Ended};
use crate::snapshot::{ChildKind, ShardsSource};
use crate::{allocator, clock, log};

/// A failed snapshot is tried again by save points after so long.
const RETRY_AFTER_FAILURE: Duration = Duration::from_secs(5);
/// A child that neither writes nor ends for so long is given up.
const STUCK_AFTER: Duration = Duration::from_secs(120);
/// How often a running child is logged and looked at for progress.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

pub struct RunningChild {
    kind: ChildKind,
    child: Box<dyn Child>,
    started: Instant,
    temp: PathBuf,
    /// What each shard counted as changes when the child was forked.
    dirty: Vec<u64>,
    last_progress: (u64, u64),
    last_progress_at: Instant,
    next_look: Instant,
}

/// What a snapshot is to be.
struct Job {
    temp: PathBuf,
    target: PathBuf,
    options: SnapshotOptions,
    as_commands: bool,
}

impl Job {
    fn run(
        &self,
        storage: &dyn Storage,
        source: &ShardsSource<'_>,
        progress: &SharedProgress,
    ) -> Result<SnapshotStats, String> {
        let write = if self.as_commands {
            write_commands
        } else {
            write_rdb
        };
        write(
            storage,
            &self.temp,
            &self.target,
            source,
            &self.options,
            progress,
        )
        .map_err(|error| error.to_string())
    }
}

impl Coordinator {
    fn snapshot_options(&self, config: &Config, aof_base: bool) -> SnapshotOptions {
        let cores = self.server.identity.cores;
        SnapshotOptions {
            compress: config.rdbcompression,
            checksum: config.rdbchecksum,
            threads: if config.rdb_save_threads == 0 {
                cores
            } else {
                config.rdb_save_threads as usize
            },
            direct_io: true,
            incremental_sync: match aof_base {
                true => config.aof_rewrite_incremental_fsync,
                false => config.rdb_save_incremental_fsync,
            },
            verify: false,
            aof_base,
            unix_seconds: clock::unix_millis().0 / 1000,
            used_memory: allocator::used_bytes(),
        }
    }

    fn job(&self, config: &Config, kind: ChildKind) -> Job {
        match kind {
            ChildKind::Snapshot => Job {
                temp: PathBuf::from(format!("temp-{}.rdb", self.server.identity.pid)),
                target: PathBuf::from(&config.dbfilename),
                options: self.snapshot_options(config, false),
                as_commands: false,
            },
            ChildKind::Rewrite => {
                let temp = self.aof_files.temp_base(self.server.identity.pid);
                Job {
                    // Written under one temporary name and finished under another: the parent
                    // moves it to its place when the child has ended well.
                    target: temp.with_extension("done"),
                    temp,
                    options: self.snapshot_options(config, config.aof_use_rdb_preamble),
                    as_commands: !config.aof_use_rdb_preamble,
                }
            }
        }
    }

    /// Writes the snapshot in this process while all workers stand still.
    pub(super) fn save_now(&mut self) -> Result<(), ()> {
        let server = self.server;
        let _stopped = server.safe_point.stop(server);
        self.save_stopped()
    }

    /// Writes the snapshot in this process; all workers stand still already.
    pub(super) fn save_stopped(&mut self) -> Result<(), ()> {
        let server = self.server;
        let config = self.config();
        let progress = match server.snapshot.progress() {
            Ok(progress) => progress,
            Err(error) => {
                warn_failed("Cannot save", &error);
                return Err(());
            }
        };
        let mut guards = self.take_all();
        let job = self.job(&config, ChildKind::Snapshot);
        let source = ShardsSource {
            shards: guards.iter().map(|guard| &**guard).collect(),
        };
        let result = job.run(&*self.storage, &source, progress);
        drop(source);
        match &result {
            Ok(_) => {
                guards.iter_mut().for_each(|guard| guard.dirty = 0);
                log!(Notice, "DB saved on disk");
                self.note_snapshot(true);
            }
            Err(error) => {
                log!(Warning, "Error saving DB on disk: {error}");
                self.note_snapshot(false);
            }
        }
        self.give_back(guards);
        result.map(|_| ()).map_err(|_| ())
    }

    fn note_snapshot(&self, saved: bool) {
        let state = &self.server.snapshot;
        state.last_snapshot_failed.store(!saved, Relaxed);
        if saved {
            state.snapshots_saved.fetch_add(1, Relaxed);
            state.snapshot_consecutive_failures.store(0, Relaxed);
            self.server
                .last_save_seconds
                .store(clock::unix_millis().0 / 1000, Relaxed);
        } else {
            state.snapshot_consecutive_failures.fetch_add(1, Relaxed);
        }
        state.refresh(&self.config(), &self.server.aof);
    }

    /// Starts the children that save points, scheduled commands and growth ask for.
    pub(super) fn start_due_children(&mut self, config: &Config) {
        if self.child.is_some() || self.server.is_loading() {
            return;
        }
        let kind = {
            let mut plans = self
                .server
                .snapshot
                .plans
                .lock()
                .expect("no holder of this lock panics");
            if plans.child.is_some() {
                return;
            }
            let kind = if std::mem::take(&mut plans.rewrite_scheduled) {
                Some(ChildKind::Rewrite)
            } else if std::mem::take(&mut plans.snapshot_scheduled)
                || self.save_point_reached(config)
            {
                Some(ChildKind::Snapshot)
            } else if self.rewrite_is_due(config) {
                Some(ChildKind::Rewrite)
            } else {
                None
            };
            plans.child = kind;
            kind
        };
        if let Some(kind) = kind {
            self.start_child(kind);
        }
    }

    fn save_point_reached(&self, config: &Config) -> bool {
        if config.save.is_empty() {
            return false;
        }
        let failed = self.server.snapshot.last_snapshot_failed.load(Relaxed);
        if failed && clock::elapsed_since(self.last_save_try) < RETRY_AFTER_FAILURE {
            return false;
        }
        let changes = self.server.changes_since_save();
        let seconds = clock::unix_millis().0 / 1000 - self.server.last_save_seconds.load(Relaxed);
        let reached = config.save.iter().find(|point| {
            changes >= point.changes && changes > 0 && seconds > point.seconds as i64
        });
        if let Some(point) = reached {
            log!(
                Notice,
                "{} changes in {} seconds. Saving...",
                point.changes,
                point.seconds
            );
        }
        reached.is_some()
    }

    fn rewrite_is_due(&self, config: &Config) -> bool {
        let aof = &self.server.aof;
        if !aof.is_on() || config.auto_aof_rewrite_percentage == 0 {
            return false;
        }
        let size = self.aof_files.size(aof);
        if size < config.auto_aof_rewrite_min_size_bytes {
            return false;
        }
        let base = self.server.snapshot.aof_base_bytes.load(Relaxed).max(1);
        let growth = (size * 100 / base).saturating_sub(100);
        let due = growth >= u64::from(config.auto_aof_rewrite_percentage);
        if due {
            log!(
                Notice,
                "Starting automatic rewriting of AOF on {growth}% growth"
            );
        }
        due
    }

    /// Forks the child that is reserved in the plans.
    pub(super) fn start_child(&mut self, kind: ChildKind) {
        let started = self.fork_child(kind);
        match started {
            Ok(running) => {
                log!(
                    Notice,
                    "Background {} started by pid {}",
                    if kind == ChildKind::Snapshot {
                        "saving"
                    } else {
                        "append only file rewriting"
                    },
                    running.child.pid()
                );
                self.child = Some(running);
            }
            Err(error) => {
                warn_failed(
                    if kind == ChildKind::Snapshot {
                        "Can't save in background"
                    } else {
                        "Can't rewrite append only file in background"
                    },
                    &error,
                );
                self.child_ended(kind, false);
            }
        }
    }

    fn fork_child(&mut self, kind: ChildKind) -> Result<RunningChild, String> {
        let server = self.server;
        let config = self.config();
        self.last_save_try = clock::instant();
        let progress = server
            .snapshot
            .progress()
            .map_err(|error| error.to_string())?;
        progress.reset();
        if kind == ChildKind::Rewrite && server.aof.is_on() {
            // The bulk of it now, while clients are served, so that what is left to be made durable
            // with all workers standing still is little.
            self.make_durable()?;
        }
        let _freeing = server
            .free_gate
            .lock()
            .expect("no holder of this lock panics");
        let stopped = server.safe_point.stop(server);
        if kind == ChildKind::Rewrite {
            self.begin_rewrite(&config)?;
        }
        let job = self.job(&config, kind);
        let sync_paused = server.aof.sync().map(|sync| sync.pause());
        let guards = self.take_all();
        let dirty = guards.iter().map(|guard| guard.dirty).collect();
        let keys: u64 = guards
            .iter()
            .map(|guard| {
                (0..guard.databases() as u32)
                    .map(|db| guard.db(keyspace::DbIndex(db)).len() as u64)
                    .sum::<u64>()
            })
            .sum();
        let began = clock::instant();
        let source = ShardsSource {
            shards: guards.iter().map(|guard| &**guard).collect(),
        };
        // SAFETY: all workers stand at the safe point, the storage threads are paused, the thread
        // that frees is kept out by its gate, and the signal thread only waits; so nobody is
        // inside the allocator or holds a lock of ours.
        let forked = unsafe {
            self.forker.fork(&*self.storage, &|storage| {
                child::measuring_copies(
                    |bytes| progress.copied_bytes.store(bytes, Relaxed),
                    || job.run(storage, &source, progress).map(|_| ()),
                )
            })
        };
        let micros = clock::elapsed_since(began).as_micros() as u64;
        drop(source);
        self.give_back(guards);
        drop(sync_paused);
        drop(stopped);
        let child = forked.map_err(|error| format!("fork: {error}"))?;
        server.stats.total_forks.add_shared(1);
        server.stats.latest_fork_micros.set(micros);
        let state = &server.snapshot;
        state
            .child_started_at
            .store(clock::unix_millis().0, Relaxed);
        state.current_keys_total.store(keys, Relaxed);
        state.current_cow_bytes.store(0, Relaxed);
        state.current_cow_peak_bytes.store(0, Relaxed);
        if config.no_appendfsync_on_rewrite {
            server.aof.suspend_fsync(true);
        }
        let now = clock::instant();
        Ok(RunningChild {
            kind,
            child,
            started: now,
            temp: job.temp,
            dirty,
            last_progress: (0, 0),
            last_progress_at: now,
            next_look: now + WATCH_INTERVAL,
        })
    }

    /// Looks after the running child.
    pub(super) fn watch_child(&mut self) {
        let Some(running) = &mut self.child else {
            return;
        };
        let ended = match running.child.ended() {
            Ok(None) => {
                if clock::instant() >= running.next_look {
                    self.look_at_progress();
                }
                return;
            }
            Ok(Some(ended)) => ended,
            Err(error) => Ended::Failed(error.to_string()),
        };
        let running = self.child.take().expect("looked at above");
        self.finish_child(running, ended);
    }

    fn look_at_progress(&mut self) {
        let state = &self.server.snapshot;
        let (Some(running), Ok(progress)) = (&mut self.child, state.progress()) else {
            return;
        };
        let now = clock::instant();
        running.next_look = now + WATCH_INTERVAL;
        let seen = (progress.keys(), progress.bytes());
        if seen != running.last_progress {
            (running.last_progress, running.last_progress_at) = (seen, now);
        }
        state.note_copied(progress.copied_bytes.load(Relaxed));
        if now.duration_since(running.last_progress_at) > STUCK_AFTER {
            log!(
                Warning,
                "The child {} has made no progress for {} seconds: it is given up.",
                running.child.pid(),
                STUCK_AFTER.as_secs()
            );
            let running = self.child.take().expect("looked at above");
            self.kill(running);
        }
    }

    fn finish_child(&mut self, running: RunningChild, ended: Ended) {
        let state = &self.server.snapshot;
        let seconds = clock::elapsed_since(running.started).as_secs() as i64;
        let copied = state
            .progress()
            .map_or(0, |progress| progress.copied_bytes.load(Relaxed));
        state.note_copied(copied);
        let peak = state.current_cow_peak_bytes.load(Relaxed);
        let what = running.kind.name();
        let mut done = match ended {
            Ended::Done => true,
            Ended::Failed(error) => {
                log!(Warning, "Background {what} child failed: {error}");
                false
            }
            Ended::Killed(signal) => {
                log!(
                    Warning,
                    "Background {what} child terminated by signal {}",
                    signal as i32
                );
                false
            }
        };
        match running.kind {
            ChildKind::Snapshot => {
                state
                    .last_snapshot_seconds_plus_1
                    .store(seconds + 1, Relaxed);
                state.last_snapshot_cow_bytes.store(peak, Relaxed);
                if done {
                    log!(Notice, "Background saving terminated with success");
                    self.subtract_dirty(&running.dirty);
                }
                self.note_snapshot(done);
            }
            ChildKind::Rewrite => {
                state
                    .last_rewrite_seconds_plus_1
                    .store(seconds + 1, Relaxed);
                state.last_rewrite_cow_bytes.store(peak, Relaxed);
                done = done && self.finish_rewrite(&running.temp.with_extension("done"));
            }
        }
        if !done {
            self.remove_temp(&running.temp);
        }
        self.child_ended(running.kind, done);
    }

    /// Puts the plans and the state right after a child, or the attempt to start one.
    fn child_ended(&mut self, kind: ChildKind, done: bool) {
        let state = &self.server.snapshot;
        self.server.aof.suspend_fsync(false);
        state.current_cow_bytes.store(0, Relaxed);
        state.child_started_at.store(0, Relaxed);
        if kind == ChildKind::Rewrite {
            state.last_rewrite_failed.store(!done, Relaxed);
            if done {
                state.rewrite_consecutive_failures.store(0, Relaxed);
            } else {
                state.rewrite_consecutive_failures.fetch_add(1, Relaxed);
                self.rewrite_failed();
            }
        } else if !done {
            self.note_snapshot(false);
        }
        state
            .plans
            .lock()
            .expect("no holder of this lock panics")
            .child = None;
    }

    /// Changes made before the fork are saved; those made since are not.
    fn subtract_dirty(&self, at_fork: &[u64]) {
        for (index, saved) in self.server.shard_indexes().zip(at_fork) {
            self.server.with_shard(index, |shard| {
                shard.dirty = shard.dirty.saturating_sub(*saved)
            });
        }
    }

    fn kill(&mut self, running: RunningChild) {
        let (kind, temp) = (running.kind, running.temp.clone());
        running.child.kill();
        self.remove_temp(&temp);
        self.child_ended(kind, false);
    }

    /// Ends a child that is no longer wanted.
    pub(super) fn kill_child(&mut self, kind: ChildKind) {
        if self
            .child
            .as_ref()
            .is_some_and(|running| running.kind == kind)
        {
            let running = self.child.take().expect("looked at above");
            log!(
                Notice,
                "Killing the running {} child: {}",
                kind.name(),
                running.child.pid()
            );
            let failed_before = self.server.snapshot.last_snapshot_failed.load(Relaxed);
            self.kill(running);
            if kind == ChildKind::Snapshot {
                // Given up by intention, which is no failure.
                self.server
                    .snapshot
                    .last_snapshot_failed
                    .store(failed_before, Relaxed);
                self.server
                    .snapshot
                    .refresh(&self.config(), &self.server.aof);
            }
        }
    }

    fn remove_temp(&self, temp: &Path) {
        for path in [temp.to_owned(), temp.with_extension("done")] {
            // Whoever failed may have removed it already.
            let _ = self.storage.remove(&path);
        }
    }

    /// After FLUSHALL: a child's snapshot would be of what was flushed, and the file on disk is.
    pub(super) fn after_flush(&mut self) {
        self.kill_child(ChildKind::Snapshot);
        if !self.config().save.is_empty() {
            // A failure is logged, and shown by INFO.
            let _ = self.save_now();
        }
    }
}
