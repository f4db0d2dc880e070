//! A whole server on one thread: its own workers, coordinator, AOF and recovery, with every thread's next step taken
//! by whoever holds the [`Process`]. For `tests/simulation`; nothing of the real server uses it.
//!
//! What a process would have for itself is passed in: storage, network, ids. The clocks are set through
//! `persistence::clock`. A step may unwind with [`SimulatedExit`], or with whatever the storage unwinds with when the
//! simulated machine stops; the process is then dropped, and with it all its memory.

use std::sync::Arc;
use std::time::Instant;

use config::Config;
use crossbeam_channel::Receiver;
use keyspace::{DbIndex, Garbage, Lsn, ShardIndex, UnixMillis, ValueRef};
use persistence::storage::ring::RingDriver;
pub use persistence::storage::ring::{Drain, RingChange, RingOperation, SimulatedRings};
use persistence::storage::sync::{SyncBackend, SyncPolicy, Turn};
use persistence::storage::Storage;
use reactor::{Backend, Chosen, Reactor, Simulation};

pub use crate::child::{Child, Ended, Forker, Work};
pub use crate::exit::SimulatedExit;
pub use crate::logger::take_kept as take_log;
pub use crate::worker::environment::Observer;

use crate::coordinator::{Coordinator, RingMachine};
use crate::shared::{Identity, Server};
use crate::startup::{self, Assembled};
use crate::worker::{Worker, ACCEPTING_WORKER};

/// The tag of the one listener.
pub const LISTENER: u32 = 0;

/// What a simulated process is started with.
pub struct Surroundings {
    pub config: Config,
    pub seed: u64,
    pub boot_id: String,
    pub run_id: String,
    pub pid: u32,
    pub storage: Arc<dyn Storage>,
    /// The machine's memory: survives the process, unless the machine goes down.
    pub rings: SimulatedRings,
    pub forker: Box<dyn Forker>,
    pub network: Simulation,
    pub observer: Arc<dyn Observer>,
    /// A FLUSHALL of more keys gets a generation of the AOF of its own.
    pub logged_one_by_one_max: usize,
}

/// A key's value, in a form that does not depend on encodings; sets and hashes in order of members.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dumped {
    String(Vec<u8>),
    List(Vec<Vec<u8>>),
    Set(Vec<Vec<u8>>),
    Hash(Vec<(Vec<u8>, Vec<u8>)>),
    /// Scores as bits.
    SortedSet(Vec<(Vec<u8>, u64)>),
    /// Entries with their fields and values.
    Stream(Vec<DumpedStreamEntry>),
}

/// A stream entry's ID, with its fields and values.
pub type DumpedStreamEntry = (datatypes::StreamId, Vec<(Vec<u8>, Vec<u8>)>);

/// A key with its database, value and expiry.
pub struct DumpedKey {
    pub db: DbIndex,
    pub key: Vec<u8>,
    pub expire_at: Option<UnixMillis>,
    pub value: Dumped,
}

struct SimulatedWorker {
    worker: Worker,
    reactor: Reactor,
}

pub struct Process {
    // In the order in which they are dropped: what refers to the server goes before it.
    workers: Vec<SimulatedWorker>,
    coordinator: Option<Box<Coordinator>>,
    garbage: Receiver<Garbage>,
    server: Owned,
}

/// The server, which its parts take for living as long as the process.
struct Owned(*mut Server);

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: the pointer came from Box::into_raw and is freed once. All that refers to it (workers with their
        // guards, the coordinator) was dropped before, as the fields of `Process` are in that order, and a simulated
        // process has no threads. The sync service inside holds such a reference too, but its drop only stops threads.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

impl Process {
    /// A process with nothing loaded yet.
    pub fn launch(surroundings: Surroundings) -> Result<Process, String> {
        let Surroundings {
            config,
            seed,
            boot_id,
            run_id,
            pid,
            storage,
            rings,
            forker,
            network,
            observer,
            logged_one_by_one_max,
        } = surroundings;
        let identity = Identity {
            run_id: run_id.clone(),
            boot_id,
            pid,
            cores: 1,
            started: crate::clock::instant(),
            started_at: crate::clock::unix_millis(),
            executable: String::new(),
            config_file: None,
            io_backend: Chosen {
                backend: Backend::Simulated,
                reason: String::new(),
            },
        };
        let Assembled {
            mut server,
            garbage,
            coordinator_requests,
            ..
        } = startup::assemble(identity, run_id, config)?;
        server.logged_one_by_one_max = logged_one_by_one_max;
        let raw = Box::into_raw(server);
        let owned = Owned(raw);
        // SAFETY: `owned` keeps it alive for as long as anything made here refers to it: see `Owned::drop`. Nobody
        // makes a mutable reference to it before.
        let server: &'static Server = unsafe { &*raw };
        startup::open_sync(server, SyncBackend::Manual)?;
        let mut workers = Vec::new();
        for index in 0..server.workers.len() {
            let mut reactor = network.reactor();
            let mut worker = Worker::new(index, server, seed ^ index as u64);
            worker.env.observer = Some(observer.clone());
            server.workers[index].mailbox.open(reactor.notifier());
            if index == ACCEPTING_WORKER {
                worker
                    .listen(&mut reactor, network.listener(), LISTENER)
                    .map_err(|error| error.to_string())?;
            }
            workers.push(SimulatedWorker { worker, reactor });
        }
        let rings = RingMachine {
            store: Arc::new(rings),
            driver: RingDriver::Manual,
        };
        let mut coordinator = Coordinator::new(
            server,
            coordinator_requests,
            Vec::new(),
            storage,
            rings,
            forker,
        );
        coordinator.observer = Some(observer);
        Ok(Process {
            workers,
            coordinator: Some(Box::new(coordinator)),
            garbage,
            server: owned,
        })
    }

    fn server(&self) -> &Server {
        // SAFETY: alive until `self.server` is dropped.
        unsafe { &*self.server.0 }
    }

    fn coordinator(&mut self) -> &mut Coordinator {
        self.coordinator.as_mut().expect("there until the drop")
    }

    /// Loads what is on disk and lets clients in. The error is what a real process would log before it exits.
    pub fn load(&mut self) -> Result<(), String> {
        self.coordinator()
            .start()
            .map_err(|error| error.to_string())
    }

    pub fn worker_count(&self) -> usize {
        self.workers.len()
    }

    /// The first half of a worker's turn.
    pub fn run_commands(&mut self, index: usize) {
        let SimulatedWorker { worker, reactor } = &mut self.workers[index];
        let ran = worker.run_commands(reactor);
        ran.expect("a simulated turn cannot fail");
    }

    /// The second half.
    pub fn settle(&mut self, index: usize) {
        let SimulatedWorker { worker, reactor } = &mut self.workers[index];
        worker.settle(reactor);
    }

    /// A round of the coordinator. All workers must stand between two turns.
    pub fn coordinate(&mut self) {
        self.coordinator().poll();
    }

    /// What the thread does that frees large values.
    pub fn free_garbage(&mut self) {
        self.garbage.try_iter().for_each(drop);
    }

    /// What a sync driver does: begins a datasync, which takes until [`Process::end_sync`].
    pub fn begin_sync(&self, shard: ShardIndex, timer: bool) -> Option<Turn> {
        self.server().aof.sync()?.begin(shard, timer)
    }

    pub fn end_sync(&self, shard: ShardIndex, turn: Turn) {
        if let Some(sync) = self.server().aof.sync() {
            sync.end(shard, turn);
        }
    }

    /// What a shard's drain thread does, at any moment; nothing on the other write path.
    pub fn drain(&self, shard: ShardIndex, how: Drain) {
        if let Some(rings) = self.server().aof.write_path().rings {
            // An error is told to the server by the ring itself.
            let _ = rings.step(shard, how);
        }
    }

    /// Whether the last attempt to drain a shard's ring failed.
    pub fn has_drain_failed(&self, shard: ShardIndex) -> bool {
        let rings = self.server().aof.write_path().rings;
        rings.is_some_and(|rings| rings.ring(shard).error().is_some())
    }

    /// Whether the write path in force is *ring*.
    pub fn is_on_rings(&self) -> bool {
        self.server().aof.write_path().rings.is_some()
    }

    /// The segment's own next moment of the second.
    pub fn next_sync_tick(&self, shard: ShardIndex) -> Instant {
        let now = crate::clock::instant();
        let sync = self.server().aof.sync();
        sync.map_or(now, |sync| sync.next_tick(shard, now))
    }

    pub fn is_loading(&self) -> bool {
        self.server().is_loading()
    }

    pub fn is_aof_on(&self) -> bool {
        self.server().aof.is_on()
    }

    pub fn is_aof_in_force(&mut self) -> bool {
        self.coordinator().is_aof_in_force()
    }

    /// Whether commands that write are refused because of the AOF.
    pub fn has_aof_failed(&self) -> bool {
        self.server().aof.has_failed()
    }

    pub fn durable(&self, shard: ShardIndex) -> Lsn {
        self.server().aof.durable(shard)
    }

    /// Snapshots that were saved since the process began.
    pub fn snapshots_saved(&self) -> u64 {
        self.server()
            .snapshot
            .snapshots_saved
            .load(std::sync::atomic::Ordering::Relaxed)
    }

    pub fn rewrites_done(&self) -> u64 {
        self.server()
            .snapshot
            .rewrites_done
            .load(std::sync::atomic::Ordering::Relaxed)
    }

    /// `appendfsync`, as it is in force.
    pub fn policy(&self) -> SyncPolicy {
        let sync = self.server().aof.sync();
        sync.map_or(SyncPolicy::No, |sync| sync.policy())
    }

    /// Everything in memory, expired keys included.
    pub fn dump(&self) -> Vec<DumpedKey> {
        let server = self.server();
        let mut keys = Vec::new();
        for index in server.shard_indexes() {
            server.with_shard(index, |shard| {
                for db in (0..shard.databases() as u32).map(DbIndex) {
                    keys.extend(shard.db(db).iter().map(|entry| DumpedKey {
                        db,
                        key: entry.key().to_vec(),
                        expire_at: entry.expire_at(),
                        value: dumped(entry.value()),
                    }));
                }
            });
        }
        keys
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.workers.clear();
        self.coordinator = None;
    }
}

fn dumped(value: ValueRef<'_>) -> Dumped {
    use datatypes::Value;
    match value {
        ValueRef::String(string) => Dumped::String(string.bytes(&mut itoa::Buffer::new()).to_vec()),
        ValueRef::Object(Value::List(list)) => {
            Dumped::List(list.iter().map(|element| element.to_vec()).collect())
        }
        ValueRef::Object(Value::Set(set)) => {
            let mut members: Vec<_> = set.iter().map(|member| member.to_vec()).collect();
            members.sort_unstable();
            Dumped::Set(members)
        }
        ValueRef::Object(Value::Hash(hash)) => {
            let mut pairs: Vec<_> = hash
                .iter()
                .map(|(field, value)| (field.to_vec(), value.to_vec()))
                .collect();
            pairs.sort_unstable();
            Dumped::Hash(pairs)
        }
        ValueRef::Object(Value::SortedSet(set)) => {
            let mut members: Vec<_> = set
                .iter()
                .map(|(member, score)| (member.to_vec(), score.to_bits()))
                .collect();
            members.sort_unstable();
            Dumped::SortedSet(members)
        }
        ValueRef::Object(Value::Stream(stream)) => {
            let fields = |entry: datatypes::stream::Entry<'_>| {
                entry
                    .fields()
                    .map(|(field, value)| (field.to_vec(), value.to_vec()))
                    .collect()
            };
            Dumped::Stream(
                stream
                    .iter()
                    .map(|entry| (entry.id, fields(entry)))
                    .collect(),
            )
        }
    }
}
