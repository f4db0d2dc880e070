//! What all threads of the server share. It is made once and lives as long as the process.

use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use config::Config;
use crossbeam_channel::Sender;
use keyspace::{Events, Post, Shard, ShardIndex, SlotMap, UnixMillis};

use crate::acl::{Acl, Users};
use crate::aof::Aof;
use crate::clients::Clients;
use crate::clock;
use crate::coordinator;
use crate::memory_limit::MemoryLimit;
use crate::observe::latency::{Monitor, Spike};
use crate::observe::slowlog::SlowLog;
use crate::pause::Pause;
use crate::pubsub::PubSub;
use crate::renames::Renames;
use crate::safe_point::SafePoint;
use crate::scripts::Scripts;
use crate::snapshot::SnapshotState;
use crate::stats::{ServerStats, WorkerStats};
use crate::tls;
use crate::tracking::Tracking;
use crate::worker::mailbox::{Mailbox, Message};
use crate::worker::monitor::Monitors;
use crate::worker::posted::Posted;

/// A shard with its baton, and the inbox of commands posted to it.
pub type ShardCell = Post<Shard, Posted>;

/// The part of a worker that other threads see.
pub struct WorkerHandle {
    pub mailbox: Mailbox,
    pub stats: WorkerStats,
    /// Connections it has, or was handed and has not seen yet.
    pub connections: AtomicU32,
    /// Connections that are blocked, and those of them that wait until a certain time.
    pub blocked: AtomicI64,
    pub timed_waits: AtomicI64,
    /// What its connections take, while that is limited.
    pub clients_bytes: AtomicI64,
    /// It wants to be woken when a log has become durable.
    pub awaits_durable: AtomicBool,
}

/// What the process was started as; does not change.
pub struct Identity {
    /// 40 hexadecimal digits, drawn at start.
    pub run_id: String,
    /// Of the operating system; see [`boot_id`](crate::startup::boot_id).
    pub boot_id: String,
    pub pid: u32,
    /// Cores that loads and snapshots may use.
    pub cores: usize,
    pub started: Instant,
    pub started_at: UnixMillis,
    pub executable: String,
    /// Absolute path of the config file, if there is one.
    pub config_file: Option<std::path::PathBuf>,
    pub io_backend: reactor::Chosen,
}

/// Keys whose effects are logged one by one when a whole database is emptied or swapped. A generation costs some files
/// and fdatasyncs.
const LOGGED_ONE_BY_ONE_MAX: usize = 1000;

pub struct Server {
    pub identity: Identity,
    pub slots: SlotMap,
    pub shards: Box<[ShardCell]>,
    pub workers: Box<[WorkerHandle]>,
    pub clients: Clients,
    pub pubsub: PubSub,
    pub tracking: Tracking,
    pub monitors: Monitors,
    pub stats: ServerStats,
    pub safe_point: SafePoint,
    pub pause: Pause,
    pub snapshot: SnapshotState,
    pub memory: MemoryLimit,
    pub acl: Acl,
    pub tls: tls::InForce,
    pub scripts: Scripts,
    pub slowlog: Mutex<SlowLog>,
    pub latency: Mutex<Monitor>,
    pub aof: Aof,
    pub coordinator: Sender<coordinator::Request>,
    /// Read the dataset first; commands without the flag `loading` are refused meanwhile.
    pub loading: AtomicBool,
    /// DEBUG SET-ACTIVE-EXPIRE.
    pub active_expire: AtomicBool,
    /// Unix seconds, kept by the coordinator; for access clocks.
    pub clock_seconds: AtomicU32,
    /// The last time the dataset was saved, in Unix seconds.
    pub last_save_seconds: AtomicI64,
    /// 40 hexadecimal digits; names this dataset's history to replicas.
    replication_id: Mutex<String>,
    /// What clients call commands, where that is not their names.
    pub renames: Option<Renames>,
    config: RwLock<Arc<Config>>,
    /// Counts published configs, so that a worker sees at a glance that its copy is old.
    config_version: AtomicU64,
    /// Held by the thread that frees large values while it does, and by whoever forks.
    pub free_gate: Mutex<()>,
    /// Held by the worker that disconnects clients because all together take too much.
    pub client_eviction: Mutex<()>,
    /// Held while a config is changed: read, applied, published.
    pub config_change: Mutex<()>,
    /// A command about databases of more keys gets a generation of the AOF of its own. Fewer in a simulation, whose
    /// datasets are small.
    pub logged_one_by_one_max: usize,
}

impl Server {
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        identity: Identity,
        replication_id: String,
        config: Config,
        users: Users,
        renames: Option<Renames>,
        slots: SlotMap,
        shards: Box<[ShardCell]>,
        workers: Box<[WorkerHandle]>,
        aof: Aof,
        coordinator: Sender<coordinator::Request>,
    ) -> Server {
        let worker_count = workers.len();
        Server {
            snapshot: SnapshotState::new(identity.started_at),
            memory: MemoryLimit::new(shards.len()),
            acl: Acl::new(users),
            tls: tls::InForce::default(),
            scripts: Scripts::new(worker_count),
            slowlog: Mutex::default(),
            latency: Mutex::default(),
            last_save_seconds: AtomicI64::new(identity.started_at.0 / 1000),
            clock_seconds: AtomicU32::new((identity.started_at.0 / 1000) as u32),
            identity,
            slots,
            shards,
            workers,
            clients: Clients::default(),
            pubsub: PubSub::new(worker_count),
            tracking: Tracking::new(worker_count),
            monitors: Monitors::new(worker_count),
            stats: ServerStats::default(),
            safe_point: SafePoint::new(worker_count),
            pause: Pause::default(),
            aof,
            coordinator,
            loading: AtomicBool::new(true),
            active_expire: AtomicBool::new(true),
            replication_id: Mutex::new(replication_id),
            renames,
            config: RwLock::new(Arc::new(config)),
            config_version: AtomicU64::new(1),
            free_gate: Mutex::new(()),
            client_eviction: Mutex::new(()),
            config_change: Mutex::new(()),
            logged_one_by_one_max: LOGGED_ONE_BY_ONE_MAX,
        }
    }

    pub fn replication_id(&self) -> String {
        self.replication_id
            .lock()
            .expect("no holder of this lock panics")
            .clone()
    }

    pub fn set_replication_id(&self, id: String) {
        *self
            .replication_id
            .lock()
            .expect("no holder of this lock panics") = id;
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.config
            .read()
            .expect("no holder of this lock panics")
            .clone()
    }

    /// Puts a configuration in force. The caller holds `config_change`.
    pub fn publish_config(&self, config: Config) {
        *self.config.write().expect("no holder of this lock panics") = Arc::new(config);
        self.config_version.fetch_add(1, Release);
        self.workers.iter().for_each(|worker| worker.mailbox.wake());
    }

    /// Has the shards note the events that the configuration in force names; none while a dataset is
    /// loaded. Follows a change of either.
    pub fn want_events(&self) {
        for index in self.shard_indexes() {
            self.with_shard(index, |shard| self.want_events_of(shard));
        }
    }

    /// As [`want_events`](Self::want_events), for one shard. What is in force is looked up with the
    /// baton held, so that of two changes the later one prevails.
    pub fn want_events_of(&self, shard: &mut Shard) {
        let events = if self.is_loading() {
            Events::empty()
        } else {
            Events::from_letters(&self.config().notify_keyspace_events.letters)
        };
        shard.want_events(events);
    }

    #[inline]
    pub fn config_version(&self) -> u64 {
        self.config_version.load(Acquire)
    }

    #[inline]
    pub fn shard(&self, index: ShardIndex) -> &ShardCell {
        &self.shards[usize::from(index.0)]
    }

    pub fn shard_indexes(&self) -> impl Iterator<Item = ShardIndex> {
        (0..self.shards.len() as u16).map(ShardIndex)
    }

    /// Runs `f` on a shard, waiting for its baton; for threads that are not workers. What is
    /// posted meanwhile is left to the shard's home worker.
    pub fn with_shard<R>(&self, index: ShardIndex, f: impl FnOnce(&mut Shard) -> R) -> R {
        let cell = self.shard(index);
        let mut guard = cell.baton.take();
        let result = f(&mut guard);
        let after_due = guard.after_due;
        let mailbox = &self.workers[usize::from(index.0)].mailbox;
        if cell.release_unserved(guard) {
            mailbox.wake();
        }
        if after_due {
            mailbox.post(Message::AfterDue);
        }
        result
    }

    /// Changes since the last save, over all shards.
    pub fn changes_since_save(&self) -> u64 {
        self.shard_indexes()
            .map(|index| self.with_shard(index, |shard| shard.dirty))
            .sum()
    }

    /// Notes that something took so long, if the latency monitor is to know. `threshold_ms` is the
    /// directive's.
    pub fn note_latency(&self, event: &'static str, took: Duration, threshold_ms: u64) {
        let ms = took.as_millis() as u64;
        if threshold_ms > 0 && ms >= threshold_ms {
            let at_seconds = clock::unix_millis().0 / 1000;
            let mut monitor = self.latency.lock().expect("no holder of this lock panics");
            monitor.add(event, Spike { at_seconds, ms });
        }
    }

    #[inline]
    pub fn is_loading(&self) -> bool {
        self.loading.load(Relaxed)
    }
}
