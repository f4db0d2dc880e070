//! The registry of connected clients: what CLIENT LIST shows and CLIENT KILL finds.
//!
//! A connection's worker writes its record with plain relaxed stores once a batch; other threads
//! read it. Nothing that a command's result depends on lives here.

use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed,
};
use std::sync::{Arc, Mutex, MutexGuard};

use dashmap::DashMap;
use keyspace::{Claim, UnixMillis};
use reactor::ConnId;
use resp::Argv;

/// A client's number, never used twice.
pub type ClientId = u64;

/// What others may see of a connection.
pub struct ClientRecord {
    pub id: ClientId,
    pub worker: usize,
    pub conn: ConnId,
    pub fd: i32,
    pub address: String,
    pub local_address: String,
    pub connected_at: UnixMillis,
    pub is_unix: bool,
    pub labels: Mutex<Labels>,
    /// Unix milliseconds of the last request.
    pub active_at: AtomicI64,
    pub db: AtomicU32,
    pub resp: AtomicU32,
    pub flags: AtomicU32,
    /// Commands queued by MULTI; -1 outside.
    pub multi: AtomicI64,
    pub watches: AtomicUsize,
    /// The client that gets its invalidations; 0: itself, -1: it does not track.
    pub redirect: AtomicI64,
    /// To channels, patterns and shard channels.
    pub subscriptions: [AtomicUsize; 3],
    /// Bytes of the commands queued by MULTI.
    pub multi_bytes: AtomicUsize,
    pub input_bytes: AtomicUsize,
    /// Bytes of the arguments of the command that runs or waits.
    pub argv_bytes: AtomicUsize,
    pub input_free_bytes: AtomicUsize,
    pub output_bytes: AtomicUsize,
    pub output_capacity_bytes: AtomicUsize,
    pub memory_bytes: AtomicUsize,
    pub net_input_bytes: AtomicU64,
    pub net_output_bytes: AtomicU64,
    pub commands: AtomicU64,
    /// The last command's row, as an address of the static table; 0 before the first.
    pub last_command: AtomicUsize,
    /// Set by CLIENT KILL.
    pub killed: AtomicBool,
    /// The claim to its wait, while it is blocked.
    pub blocked: Mutex<Option<Arc<Claim>>>,
}

/// What a client calls itself.
#[derive(Default, Clone)]
pub struct Labels {
    pub name: Vec<u8>,
    pub library_name: Vec<u8>,
    pub library_version: Vec<u8>,
    pub user: Vec<u8>,
}

/// Bits of `ClientRecord::flags`.
pub mod flag {
    pub const MULTI: u32 = 1;
    pub const CLOSE_AFTER_REPLY: u32 = 1 << 1;
    pub const WATCH_BROKEN: u32 = 1 << 2;
    pub const NO_EVICT: u32 = 1 << 3;
    pub const NO_TOUCH: u32 = 1 << 4;
    pub const BLOCKED: u32 = 1 << 5;
    pub const PUBSUB: u32 = 1 << 6;
    pub const MONITOR: u32 = 1 << 12;
    pub const TRACKING: u32 = 1 << 7;
    pub const BROADCAST: u32 = 1 << 8;
    pub const REDIRECT_BROKEN: u32 = 1 << 9;
}

impl ClientRecord {
    pub fn note_argv(&self, argv: Argv<'_>) {
        let bytes = argv.iter().map(<[u8]>::len).sum();
        self.argv_bytes.store(bytes, Relaxed);
    }

    pub fn blocked(&self) -> MutexGuard<'_, Option<Arc<Claim>>> {
        self.blocked.lock().expect("no holder of this lock panics")
    }

    /// Takes the claim to the client's wait; whoever has it sees to the reply.
    pub fn take_wait(&self) -> bool {
        let claim = self.blocked().clone();
        claim.is_some_and(|claim| claim.take())
    }

    pub fn last_command(&self) -> Option<&'static commands::Command> {
        let address = self.last_command.load(Relaxed);
        commands::all()
            .flat_map(|c| std::iter::once(c).chain(c.subcommands))
            .find(|c| std::ptr::from_ref(*c).addr() == address)
    }
}

#[derive(Default)]
pub struct Clients {
    by_id: DashMap<ClientId, Arc<ClientRecord>>,
    last_id: AtomicU64,
}

impl Clients {
    pub fn next_id(&self) -> ClientId {
        self.last_id.fetch_add(1, Relaxed) + 1
    }

    pub fn add(&self, record: Arc<ClientRecord>) {
        self.by_id.insert(record.id, record);
    }

    pub fn remove(&self, id: ClientId) {
        self.by_id.remove(&id);
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn get(&self, id: ClientId) -> Option<Arc<ClientRecord>> {
        self.by_id.get(&id).map(|record| record.clone())
    }

    /// All clients, oldest first.
    pub fn all(&self) -> Vec<Arc<ClientRecord>> {
        let mut all: Vec<_> = self
            .by_id
            .iter()
            .map(|entry| entry.value().clone())
            .collect();
        all.sort_unstable_by_key(|record| record.id);
        all
    }
}
