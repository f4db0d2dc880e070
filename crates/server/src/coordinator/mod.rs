//! The coordinator: the thread that runs what concerns all shards: save points, BGSAVE,
//! BGREWRITEAOF, the AOF's files, loading, shutdown, and the regular chores.
//!
//! It alone forks, stops the workers and changes which AOF files are in force. Commands that want
//! something of it post a request; those whose reply depends on the outcome wait for it.

mod always;
mod aof_files;
mod children;
mod due;
mod recovery;
mod rewrite;
mod shutdown;
mod start;
mod watch;
mod whole_databases;
mod write_path;

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::Config;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use keyspace::baton::Guard;
use keyspace::{Garbage, Shard, UnixMillis};
use nix::sys::signal::Signal;
use persistence::aof::point::Point;
use persistence::storage::Storage;

use crate::child::Forker;
use crate::load::ReplyTo;
use crate::session::config::ConfigChange;
use crate::shared::Server;
use crate::snapshot::ChildKind;
use crate::worker::environment::Observer;
use crate::worker::mailbox::Message;
use crate::{allocator, clock, log};
use aof_files::AofFiles;
use children::RunningChild;
use due::RewriteDelay;
pub use shutdown::SaveOnShutdown;
pub use whole_databases::WholeDatabases;
pub use write_path::RingMachine;

pub enum Request {
    /// Write the snapshot now, with all workers standing still.
    Save(ReplyTo),
    /// The plans have changed: start the child that is reserved there.
    StartChild(ChildKind, ReplyTo),
    /// CONFIG SET appendonly.
    SetAppendOnly(bool, Option<ReplyTo>),
    /// CONFIG SET to `appendfsync always`, while the AOF is on.
    PromiseAlways(ConfigChange),
    /// CLIENT PAUSE until then, of everything or of what may change something; CLIENT UNPAUSE.
    Pause {
        until: UnixMillis,
        all: bool,
        reply_to: Option<ReplyTo>,
    },
    Unpause(Option<ReplyTo>),
    /// A command about databases with many keys.
    BetweenGenerations(Box<WholeDatabases>),
    /// FLUSHALL has run: a snapshot under way would bring the data back.
    Flushed,
    /// Save, empty and load again.
    Reload {
        reply_to: ReplyTo,
        save: bool,
        flush: bool,
        merge: bool,
    },
    /// Write the AOF, empty and load it again.
    LoadAof(ReplyTo),
    Shutdown {
        save: SaveOnShutdown,
        now: bool,
        force: bool,
        reply_to: Option<ReplyTo>,
    },
    Signal(Signal),
}

/// Between two rounds of chores, and while a child runs.
const TICK: Duration = Duration::from_millis(100);
const TICK_WITH_CHILD: Duration = Duration::from_millis(5);

pub struct Coordinator {
    server: &'static Server,
    requests: Receiver<Request>,
    storage: Arc<dyn Storage>,
    ring_machine: RingMachine,
    /// How often rings were made.
    rings_made: u64,
    forker: Box<dyn Forker>,
    aof_files: AofFiles,
    /// `--restore-to`, until it is done.
    restore: Option<Point>,
    child: Option<RunningChild>,
    /// Unix socket and pid file, to be removed at the end.
    files_to_remove: Vec<PathBuf>,
    next_chores: Instant,
    next_second: Instant,
    /// When a snapshot was last put in force, or the server started; and when one was last begun in the background.
    last_save: Instant,
    last_save_try: Option<Instant>,
    rewrite_delay: RewriteDelay,
    ops: OpsMeter,
    /// Sees the commands that run here; only a simulation has one.
    pub(crate) observer: Option<Arc<dyn Observer>>,
}

impl Coordinator {
    pub fn new(
        server: &'static Server,
        requests: Receiver<Request>,
        files_to_remove: Vec<PathBuf>,
        storage: Arc<dyn Storage>,
        ring_machine: RingMachine,
        forker: Box<dyn Forker>,
    ) -> Coordinator {
        let now = clock::instant();
        Coordinator {
            server,
            requests,
            storage,
            ring_machine,
            rings_made: 0,
            forker,
            aof_files: AofFiles::default(),
            restore: None,
            child: None,
            files_to_remove,
            next_chores: now,
            next_second: now,
            last_save: now,
            last_save_try: None,
            rewrite_delay: RewriteDelay::default(),
            ops: OpsMeter::default(),
            observer: None,
        }
    }

    /// Serves requests and does the chores, for as long as the process lives.
    pub fn run(mut self) {
        loop {
            let until_chores = self.next_chores.saturating_duration_since(clock::instant());
            let tick = match self.child {
                Some(_) => TICK_WITH_CHILD.min(until_chores),
                None => until_chores,
            };
            let request = match self.requests.recv_timeout(tick) {
                Ok(request) => Some(request),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            self.step(request);
        }
    }

    /// One round with what has been asked for meanwhile, without waiting.
    pub fn poll(&mut self) {
        let request = self.requests.try_recv().ok();
        self.step(request);
    }

    /// Whether a start would find what is in the AOF; not while its first base is being written.
    pub fn is_aof_in_force(&self) -> bool {
        self.server.aof.is_on() && self.aof_files.is_stored()
    }

    /// One round: serves the request, if there is one, and does what is due.
    pub fn step(&mut self, request: Option<Request>) {
        if let Some(request) = request {
            self.serve(request);
        }
        self.watch_child();
        if clock::instant() >= self.next_chores {
            self.next_chores = clock::instant() + TICK;
            self.chores();
        }
    }

    fn config(&self) -> Arc<Config> {
        self.server.config()
    }

    fn serve(&mut self, request: Request) {
        match request {
            Request::Save(reply_to) => {
                // One may have been started since the command looked.
                let reply: &[u8] = if is_saving(self.server) {
                    b"-ERR Background save already in progress\r\n"
                } else if self.save_as_asked().is_ok() {
                    b"+OK\r\n"
                } else {
                    b"-ERR\r\n"
                };
                reply_to.send(self.server, reply);
            }
            Request::StartChild(kind, reply_to) => self.start_child(kind, Some(reply_to)),
            Request::SetAppendOnly(on, reply_to) => {
                self.set_append_only(on);
                // At once: who waits for the rewrite to end must not be shown that none runs yet.
                self.start_due_children(&self.config());
                if let Some(reply_to) = reply_to {
                    reply_to.send(self.server, b"+OK\r\n");
                }
            }
            Request::PromiseAlways(change) => self.promise_always(change),
            Request::Pause {
                until,
                all,
                reply_to,
            } => self.pause(Some((until, all)), reply_to),
            Request::Unpause(reply_to) => self.pause(None, reply_to),
            Request::BetweenGenerations(request) => self.run_between_generations(&request),
            Request::Flushed => self.after_flush(),
            Request::Reload {
                reply_to,
                save,
                flush,
                merge,
            } => {
                if save {
                    // What it writes is out of date as soon as this has saved.
                    self.kill_child(ChildKind::Snapshot);
                }
                self.reload(reply_to, save, flush, merge);
            }
            Request::LoadAof(reply_to) => self.reload_aof(reply_to),
            Request::Shutdown {
                save,
                now,
                force,
                reply_to,
            } => self.shut_down(save, now, force, reply_to),
            Request::Signal(signal) => self.shut_down_by_signal(signal),
        }
    }

    /// What is done ten times a second.
    fn chores(&mut self) {
        let server = self.server;
        let config = self.config();
        server
            .clock_seconds
            .store((clock::unix_millis().0 / 1000) as u32, Relaxed);
        server.stats.peak_memory_bytes.set(
            server
                .stats
                .peak_memory_bytes
                .get()
                .max(allocator::used_bytes()),
        );
        self.ops.sample(server);
        if clock::instant() >= self.next_second {
            self.next_second = clock::instant() + Duration::from_secs(1);
            self.settle_manifest();
            self.hold_while_unsettled();
            server.aof.retry(server);
        }
        self.aof_files.tell_ends(&*self.storage);
        server.aof.drains.tell();
        self.advance_epoch();
        self.remove_unnamed_rings();
        server.snapshot.refresh(&config, &server.aof);
        self.start_due_children(&config);
    }

    /// All batons, in ascending order; for short work on all shards at one instant.
    fn take_all(&self) -> Vec<Guard<'static, Shard>> {
        self.server
            .shards
            .iter()
            .map(|cell| cell.baton.take())
            .collect()
    }

    /// Begins a pause of clients, or ends it.
    fn pause(&self, pause: Option<(UnixMillis, bool)>, reply_to: Option<ReplyTo>) {
        let server = self.server;
        {
            let _stopped = server.safe_point.stop(server);
            match pause {
                Some((until, all)) => server.pause.begin(until, all, clock::unix_millis()),
                None => server.pause.end(),
            }
            let until = server.pause.until();
            for shard in server.shard_indexes() {
                server.with_shard(shard, |shard| shard.expiry_paused_until = until);
            }
        }
        server
            .workers
            .iter()
            .for_each(|worker| worker.mailbox.wake());
        if let Some(reply_to) = reply_to {
            reply_to.send(server, b"+OK\r\n");
        }
    }

    /// Gives all batons back and has what was posted meanwhile served.
    fn give_back(&self, guards: Vec<Guard<'static, Shard>>) {
        let cells = self.server.shards.iter().zip(&self.server.workers);
        for ((cell, worker), guard) in cells.zip(guards) {
            let after_due = guard.after_due;
            if cell.release_unserved(guard) {
                worker.mailbox.wake();
            }
            if after_due {
                worker.mailbox.post(Message::AfterDue);
            }
        }
    }

    /// Empties all databases, and drops all functions.
    fn empty_all(&self) {
        let mut guards = self.take_all();
        self.server.scripts.libraries.publish(Default::default());
        for guard in &mut guards {
            for db in 0..guard.databases() as u32 {
                let old = guard.take_db(keyspace::DbIndex(db));
                guard.free_later(Garbage::Db(old));
            }
        }
        self.give_back(guards);
    }
}

/// Operations and bytes a second, as a mean over the last samples.
#[derive(Default)]
struct OpsMeter {
    last: Option<(Instant, [u64; 4])>,
    samples: [[u64; 4]; 16],
    next: usize,
}

impl OpsMeter {
    fn sample(&mut self, server: &Server) {
        let sum = |f: fn(&crate::stats::WorkerStats) -> u64| {
            server.workers.iter().map(|w| f(&w.stats)).sum::<u64>()
        };
        let now = clock::instant();
        let counts = [
            sum(|s| s.commands_processed.get()),
            sum(|s| s.net_input_bytes.get()),
            sum(|s| s.net_output_bytes.get()),
            sum(|s| s.turns.get()),
        ];
        if let Some((at, before)) = self.last {
            let micros = now.duration_since(at).as_micros().max(1) as u64;
            for (i, (count, before)) in counts.iter().zip(before).enumerate() {
                self.samples[self.next][i] = count.saturating_sub(before) * 1_000_000 / micros;
            }
            self.next = (self.next + 1) % self.samples.len();
        }
        self.last = Some((now, counts));
        let mean = |i: usize| {
            self.samples.iter().map(|sample| sample[i]).sum::<u64>() / self.samples.len() as u64
        };
        server.stats.instantaneous_ops.set(mean(0));
        server.stats.instantaneous_input_bytes.set(mean(1));
        server.stats.instantaneous_output_bytes.set(mean(2));
        server.stats.instantaneous_turns.set(mean(3));
    }
}

/// Whether a snapshot is being written in the background, or about to be.
fn is_saving(server: &Server) -> bool {
    server.snapshot.child() == Some(ChildKind::Snapshot)
}

/// Whether the coordinator should say more about this, which it could not do.
fn warn_failed(what: &str, error: &dyn std::fmt::Display) {
    log!(Warning, "{what}: {error}");
}
