//! Snapshots: in place for SAVE, by a forked child for BGSAVE, save points and AOF rewrites.
//!
//! What starts a child is in `due`, what becomes of it in `watch`. A child that cannot be started
//! has failed: nothing of it is left, on disk or in the plans.

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use config::Config;
use persistence::progress::SharedProgress;
use persistence::rdb::snapshot::{
    write_commands, write_rdb, SnapshotOptions, SnapshotSource, SnapshotStats,
};
use persistence::storage::Storage;

use super::watch::Watch;
use super::{warn_failed, Coordinator};
use crate::child::{self, Child};
use crate::load::ReplyTo;
use crate::observe::latency;
use crate::snapshot::{ChildKind, ShardsSource};
use crate::{allocator, clock, log};

pub struct RunningChild {
    pub(super) kind: ChildKind,
    pub(super) child: Box<dyn Child>,
    pub(super) started: Instant,
    pub(super) temp: PathBuf,
    pub(super) as_commands: bool,
    pub(super) verified: bool,
    /// The memory that its data takes.
    pub(super) used_memory: u64,
    /// What each shard counted as changes when the child was forked.
    pub(super) dirty: Vec<u64>,
    pub(super) watch: Watch,
    /// It is being ended, and this is why.
    pub(super) given_up: Option<String>,
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
    fn snapshot_options(&self, config: &Config, kind: ChildKind) -> SnapshotOptions {
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
            incremental_sync: match kind {
                ChildKind::Snapshot => config.rdb_save_incremental_fsync,
                ChildKind::Rewrite => config.aof_rewrite_incremental_fsync,
            },
            verify: config.rdb_verify,
            aof_base: kind == ChildKind::Rewrite,
            unix_seconds: clock::unix_millis().0 / 1000,
            used_memory: allocator::used_bytes(),
        }
    }

    fn job(&self, config: &Config, kind: ChildKind) -> Job {
        match kind {
            ChildKind::Snapshot => Job {
                temp: PathBuf::from(format!("temp-{}.rdb", self.server.identity.pid)),
                target: PathBuf::from(&config.dbfilename),
                options: self.snapshot_options(config, kind),
                as_commands: false,
            },
            ChildKind::Rewrite => {
                let temp = self.aof_files.temp_base(self.server.identity.pid);
                Job {
                    // Written under one temporary name and finished under another: the parent
                    // moves it to its place when the child has ended well.
                    target: temp.with_extension("done"),
                    temp,
                    options: self.snapshot_options(config, kind),
                    as_commands: !config.aof_use_rdb_preamble,
                }
            }
        }
    }

    /// SAVE.
    pub(super) fn save_as_asked(&mut self) -> Result<(), ()> {
        self.server.snapshot.snapshots_begun.fetch_add(1, Relaxed);
        self.save_now()
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
        progress.reset();
        let mut guards = self.take_all();
        if guards.iter().any(|guard| guard.reserved) {
            self.give_back(guards);
            log!(
                Warning,
                "Cannot save: a slow script is in the middle of its writes"
            );
            return Err(());
        }
        let job = self.job(&config, ChildKind::Snapshot);
        let source = ShardsSource {
            shards: guards.iter().map(|guard| &**guard).collect(),
            libraries: server.scripts.libraries.current(),
        };
        let result = job.run(&*self.storage, &source, progress);
        drop(source);
        match &result {
            Ok(stats) => {
                guards.iter_mut().for_each(|guard| guard.dirty = 0);
                log!(Notice, "DB saved on disk");
                let state = &server.snapshot;
                state.sizes[0].note(stats.bytes, job.options.used_memory);
                self.note_saved(job.options.verify);
            }
            // Redis calls only background saves failed, and refuses writes after those only.
            Err(error) => log!(Warning, "Error saving DB on disk: {error}"),
        }
        self.give_back(guards);
        result.map(|_| ()).map_err(|_| ())
    }

    /// A snapshot has been put in force.
    pub(super) fn note_saved(&mut self, verified: bool) {
        let state = &self.server.snapshot;
        let now = clock::unix_millis().0 / 1000;
        self.server.last_save_seconds.store(now, Relaxed);
        self.last_save = clock::instant();
        state.snapshots_saved.fetch_add(1, Relaxed);
        if verified {
            state.last_verified_seconds.store(now, Relaxed);
        }
        state.last_snapshot_failed.store(false, Relaxed);
        state.last_error(ChildKind::Snapshot).clear();
        state.refresh(&self.config(), &self.server.aof);
    }

    /// Starts the child that is reserved in the plans, and says so to who asked for it.
    pub(super) fn start_child(&mut self, kind: ChildKind, reply_to: Option<ReplyTo>) {
        let (what, started, failed): (_, &[u8], &[u8]) = match kind {
            ChildKind::Snapshot => (
                "save in background",
                b"+Background saving started\r\n",
                b"-ERR\r\n",
            ),
            ChildKind::Rewrite => (
                "rewrite append only file in background",
                b"+Background append only file rewriting started\r\n",
                b"-ERR Can't execute an AOF background rewriting. Please check the server logs for more information.\r\n",
            ),
        };
        if kind == ChildKind::Snapshot {
            self.server.snapshot.snapshots_begun.fetch_add(1, Relaxed);
            self.last_save_try = Some(clock::instant());
        }
        let forked = match self.refusal_for_space(kind) {
            Some(reason) => Err(reason),
            None => self.fork_child(kind),
        };
        let reply = match forked {
            Ok(running) => {
                let pid = running.child.pid();
                match kind {
                    ChildKind::Snapshot => {
                        log!(Notice, "Background saving started by pid {pid}")
                    }
                    ChildKind::Rewrite => log!(
                        Notice,
                        "Background append only file rewriting started by pid {pid}"
                    ),
                }
                self.child = Some(running);
                started
            }
            Err(error) => {
                log!(Warning, "Can't {what}: {error}");
                self.child_ended(kind, Some(error));
                failed
            }
        };
        if let Some(reply_to) = reply_to {
            reply_to.send(self.server, reply);
        }
    }

    fn fork_child(&mut self, kind: ChildKind) -> Result<RunningChild, String> {
        let server = self.server;
        let config = self.config();
        let progress = server
            .snapshot
            .progress()
            .map_err(|error| error.to_string())?;
        progress.reset();
        let mut rewrite = match kind {
            ChildKind::Rewrite => self.prepare_rewrite(&config)?,
            ChildKind::Snapshot => None,
        };
        let _freeing = server
            .free_gate
            .lock()
            .expect("no holder of this lock panics");
        let began = clock::instant();
        let stopped = server.safe_point.stop(server);
        if server.scripts.is_busy() {
            return Err("a slow script is in the middle of what it does".into());
        }
        if let Some(rewrite) = &mut rewrite {
            self.open_segments(rewrite)?;
        }
        let job = self.job(&config, kind);
        let sync_paused = server.aof.sync().map(|sync| sync.pause());
        let rings = server.aof.write_path().rings;
        let rings_paused = rings.as_ref().map(|rings| rings.pause());
        let guards = self.take_all();
        let dirty = guards.iter().map(|guard| guard.dirty).collect();
        let source = ShardsSource {
            shards: guards.iter().map(|guard| &**guard).collect(),
            libraries: server.scripts.libraries.current(),
        };
        let keys: u64 = SnapshotSource::db_sizes(&source)
            .iter()
            .map(|(_, keys, _)| keys)
            .sum();
        let began_fork = clock::instant();
        // SAFETY: all workers stand at the safe point, the storage threads are paused, the thread
        // that frees is kept out by its gate, and the signal thread only waits; so nobody is
        // inside the allocator or holds a lock of ours.
        let forked = unsafe {
            self.forker.fork(&*self.storage, &|storage| {
                child::measuring_copies(progress, || {
                    job.run(storage, &source, progress).map(|_| ())
                })
            })
        };
        let fork_micros = clock::elapsed_since(began_fork).as_micros() as u64;
        drop(source);
        self.give_back(guards);
        drop(rings_paused);
        drop(sync_paused);
        let child = match (forked, rewrite) {
            (Ok(child), None) => child,
            (Ok(child), Some(rewrite)) => match self.switch_generation(rewrite) {
                Ok(()) => child,
                Err(error) => {
                    child.kill();
                    self.remove_temp(&job.temp);
                    return Err(error);
                }
            },
            (Err(error), rewrite) => {
                if let Some(rewrite) = rewrite {
                    self.discard_generation(&rewrite);
                }
                return Err(format!("fork: {error}"));
            }
        };
        drop(stopped);
        let freeze_micros = clock::elapsed_since(began).as_micros() as u64;
        server.stats.total_forks.add_shared(1);
        server.note_latency(
            latency::FORK,
            Duration::from_micros(fork_micros),
            config.latency_monitor_threshold_ms,
        );
        server.stats.latest_fork_micros.set(fork_micros);
        server.stats.latest_fork_freeze_micros.set(freeze_micros);
        let state = &server.snapshot;
        state
            .child_started_at
            .store(clock::unix_millis().0, Relaxed);
        state.current_keys_total.store(keys, Relaxed);
        if config.no_appendfsync_on_rewrite {
            server.aof.suspend_fsync(true);
        }
        Ok(RunningChild {
            kind,
            child,
            started: clock::instant(),
            as_commands: job.as_commands,
            verified: job.options.verify,
            used_memory: job.options.used_memory,
            temp: job.temp,
            dirty,
            watch: Watch::begin(),
            given_up: None,
        })
    }
}
