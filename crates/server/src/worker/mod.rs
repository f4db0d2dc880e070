//! A worker: a thread with an event loop and its connections, home of one shard.
//!
//! A turn has phases: collect events; read, parse and run commands; write the logs of the shards
//! touched; send replies; timers. Replies leave only after the writes they show are in the log.
//! Between turns a worker holds no baton, no lock and nothing of the allocator.

mod admit;
pub mod after;
pub mod batons;
pub mod blocked;
mod client_memory;
pub mod connection;
pub mod environment;
pub mod mailbox;
pub mod memory;
pub mod monitor;
pub mod posted;
pub mod push;
mod ready;
pub mod route;
pub(crate) mod run;
mod serve;
pub(crate) mod shown;
pub mod tls;
mod touched;
pub mod tracking;
mod waits;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use commands::CommandError;
use config::{Config, CrossShard};
use keyspace::{ShardIndex, UnixMillis};
use reactor::{ConnId, Listener, Options, Reactor};
use resp::Span;

use crate::clock;
use crate::observe::latency;
use crate::pubsub::Publisher;
use crate::scripts::WorkerScripts;
use crate::session::wait::Wish;
use crate::shared::Server;
use crate::stats::WorkerStats;
use connection::Connection;
use environment::Environment;
use mailbox::Message;
use memory::MemoryGate;
use posted::{Posted, Reply};
use push::Subscribers;
use ready::Deferred;
use run::Planned;
use touched::Touched;
use tracking::Trackers;

/// The accepting worker; it hands connections to the others.
pub const ACCEPTING_WORKER: usize = 0;

/// Between two looks at timers: as often as Redis at its default `hz`.
const CRON_INTERVAL: Duration = Duration::from_millis(100);
/// Between two looks at whether those who were held up may go on.
const HELD_UP_INTERVAL: Duration = Duration::from_millis(1);

pub struct Worker {
    pub(crate) index: usize,
    pub(crate) server: &'static Server,
    pub(crate) config: Arc<Config>,
    config_version: u64,
    cross_shard: CrossShard,
    pub(crate) env: Environment,
    /// The time of this turn.
    pub(crate) now: UnixMillis,
    /// The turn may have waited since `now` was read.
    now_is_old: bool,
    /// By the slot of their ConnId.
    connections: Vec<Option<Box<Connection>>>,
    /// Connections with replies to send.
    dirty: Vec<ConnId>,
    /// Connections whose replies wait for writes to become durable.
    awaiting_durable: Vec<ConnId>,
    /// What its handle says: that it wants to be woken when a log has become durable.
    awaits_durable: bool,
    /// Connections that wait by WAIT or WAITAOF.
    pub(crate) wishes: Vec<(ConnId, Wish)>,
    gate: MemoryGate,
    /// When connections have waited long enough.
    deadlines: BTreeSet<(UnixMillis, ConnId)>,
    /// What all clients may take together; 0: any amount.
    clients_bytes_max: u64,
    /// They take more, but nobody can be disconnected.
    weighed_in_vain: bool,
    /// Connections that a pause holds back, in the order in which they came.
    postponed: Vec<ConnId>,
    /// Keys are being served that have become ready.
    serving_ready: bool,
    /// Keys that are ready, and served when no baton is held.
    deferred: VecDeque<Deferred>,
    pub(crate) scripts: WorkerScripts,
    plan: Vec<Planned>,
    spans: Vec<Span>,
    /// What came out of TLS records, while it is processed.
    opened: Vec<u8>,
    touched: Touched,
    posted: Vec<Posted>,
    /// Replies to commands run for other workers, to be delivered when the logs are written.
    posted_replies: Vec<(usize, Reply)>,
    /// Taken from the mailbox and not looked at yet.
    messages: VecDeque<Message>,
    taken: Vec<Message>,
    subscribers: Subscribers,
    trackers: Trackers,
    /// Connections that monitor.
    monitoring: Vec<ConnId>,
    /// Monitors were told of the command that runs.
    was_monitored: bool,
    pub(crate) publisher: Publisher,
    /// Connections that go on when less is to be delivered.
    held_up: Vec<ConnId>,
    next_cron: Instant,
    next_listener: usize,
    /// Handles on what it listens on, if it is the accepting worker.
    pub(crate) listening: Vec<(Listener, u32)>,
}

impl Worker {
    pub fn new(index: usize, server: &'static Server, seed: u64) -> Worker {
        let config = server.config();
        let clients_bytes_max = config.maxmemory_clients.of(config.maxmemory_bytes);
        Worker {
            index,
            server,
            config_version: server.config_version(),
            cross_shard: config.cross_shard,
            env: Environment::new(seed, &config),
            config,
            now: clock::unix_millis(),
            now_is_old: false,
            connections: Vec::new(),
            dirty: Vec::new(),
            awaiting_durable: Vec::new(),
            awaits_durable: false,
            wishes: Vec::new(),
            gate: MemoryGate::default(),
            deadlines: BTreeSet::new(),
            clients_bytes_max,
            weighed_in_vain: false,
            postponed: Vec::new(),
            serving_ready: false,
            deferred: VecDeque::new(),
            scripts: WorkerScripts::default(),
            plan: Vec::new(),
            spans: Vec::new(),
            opened: Vec::new(),
            touched: Touched::new(server.shards.len()),
            posted: Vec::new(),
            posted_replies: Vec::new(),
            messages: VecDeque::new(),
            taken: Vec::new(),
            subscribers: Subscribers::default(),
            trackers: Trackers::default(),
            monitoring: Vec::new(),
            was_monitored: false,
            publisher: Publisher::new(),
            held_up: Vec::new(),
            next_cron: clock::instant(),
            next_listener: 0,
            listening: Vec::new(),
        }
    }

    /// The worker's thread, until it is told to stop.
    pub fn run(mut self, listeners: Vec<(Listener, u32)>) -> std::io::Result<()> {
        let mut reactor =
            Reactor::new(self.server.identity.io_backend.backend, Options::default())?;
        self.server.workers[self.index]
            .mailbox
            .open(reactor.notifier());
        for (listener, tag) in listeners {
            self.listen(&mut reactor, listener, tag)?;
        }
        loop {
            self.server.safe_point.pass();
            self.turn(&mut reactor)?;
        }
    }

    /// One turn of the event loop.
    fn turn(&mut self, reactor: &mut Reactor) -> std::io::Result<()> {
        self.run_commands(reactor)?;
        self.settle(reactor);
        Ok(())
    }

    /// The first half of a turn: what is there is read and run.
    pub fn run_commands(&mut self, reactor: &mut Reactor) -> std::io::Result<()> {
        let timeout = self.turn_timeout();
        self.now_is_old = true;
        reactor.turn(Some(timeout), self)?;
        self.stats().turns.add(1);
        self.read_clock();
        self.read_mailbox(reactor);
        self.serve_inbox(ShardIndex(self.index as u16));
        self.refresh_config();
        self.serve_wishes(reactor);
        self.go_on_with_script(reactor);
        self.serve_held_up(reactor);
        self.end_overdue_waits(reactor);
        self.serve_postponed(reactor);
        self.cron(reactor);
        self.serve_deferred();
        Ok(())
    }

    /// How long the event loop may sleep: until timers or the first deadline.
    fn turn_timeout(&self) -> Duration {
        let mut timeout = self.next_cron.saturating_duration_since(clock::instant());
        if !self.held_up.is_empty() {
            timeout = timeout.min(HELD_UP_INTERVAL);
        }
        if self.is_interrupted() {
            timeout = Duration::ZERO;
        }
        let deadline = self.deadlines.first().map(|(until, _)| *until);
        let pause_end = (!self.postponed.is_empty()).then(|| self.server.pause.until());
        let Some(until) = deadline.into_iter().chain(pause_end).min() else {
            return timeout;
        };
        let left_ms = until.0.saturating_sub(clock::unix_millis().0).max(0);
        timeout.min(Duration::from_millis(left_ms as u64))
    }

    /// The second half: what the replies show is written, then they leave.
    pub fn settle(&mut self, reactor: &mut Reactor) {
        self.evict_clients(reactor);
        self.write_logs();
        self.deliver_posted_replies();
        self.wake_receivers();
        self.send_replies(reactor);
        // Where connections were dropped, somebody else's command may have been run on the way.
        self.serve_deferred();
        if !self.posted_replies.is_empty() {
            self.write_logs();
            self.deliver_posted_replies();
        }
    }

    /// Reads the clock, once a turn.
    #[inline]
    fn read_clock(&mut self) {
        if self.now_is_old {
            self.now = clock::unix_millis();
            self.now_is_old = false;
        }
    }

    pub(crate) fn stats(&self) -> &'static WorkerStats {
        &self.server.workers[self.index].stats
    }

    /// Counts an error reply, given without its `-`.
    pub(crate) fn count_error(&self, text: &[u8]) {
        self.stats().count_error(text);
    }

    /// Why writes are refused at present, if they are.
    #[inline]
    pub(crate) fn refusal_of_writes(&self) -> Option<CommandError> {
        self.server.snapshot.refusal_of_writes(&self.server.aof)
    }

    /// Takes over the configuration in force, if it is another than this worker's.
    #[inline]
    pub(crate) fn refresh_config(&mut self) {
        let version = self.server.config_version();
        if version != self.config_version {
            self.config_version = version;
            self.config = self.server.config();
            self.cross_shard = self.config.cross_shard;
            self.env.configure(&self.config);
            self.configure_client_memory();
            self.gate.configure();
        }
    }

    fn cron(&mut self, reactor: &mut Reactor) {
        let now = clock::instant();
        if now < self.next_cron {
            return;
        }
        self.expire_cycle();
        self.close_idle(reactor);
        self.weigh_all();
        self.next_cron = match self.evict_in_background() {
            true => now,
            false => now + CRON_INTERVAL,
        };
    }

    /// Deletes keys of the home shard whose time has passed.
    fn expire_cycle(&mut self) {
        /// Keys drawn from a database at a time, and more of each with `active-expire-effort`.
        const SAMPLES: usize = 20;
        const SAMPLES_PER_EFFORT: usize = 5;
        /// Draws a cycle may take; they bound its time to about a millisecond per effort.
        const ROUNDS: usize = 200;
        /// Fields of hashes that a cycle may delete, likewise.
        const FIELDS: usize = 2000;
        let server = self.server;
        let Some(cell) = server.shards.get(self.index) else {
            return;
        };
        let Some(mut guard) = cell.baton.try_take() else {
            return;
        };
        guard.set_access_clock(
            server
                .clock_seconds
                .load(std::sync::atomic::Ordering::Relaxed),
            memory::access_policy(&self.config),
        );
        self.note_evictable(&guard);
        let active = server
            .active_expire
            .load(std::sync::atomic::Ordering::Relaxed)
            && !server.is_loading()
            && !guard.reserved;
        let databases = guard.databases() as u32;
        let expiring = (0..databases).any(|db| {
            let db = guard.db(keyspace::DbIndex(db));
            db.expires_len() > 0 || !db.field_expiries().is_empty()
        });
        if active && expiring {
            let effort = self.config.active_expire_effort as usize - 1;
            let begun = clock::instant();
            let samples = SAMPLES + SAMPLES_PER_EFFORT * effort;
            let stale_percent = 10usize.saturating_sub(effort);
            let capped = guard.expire_cycle(
                clock::unix_millis(),
                &mut self.env.rng,
                samples,
                stale_percent,
                ROUNDS * (1 + effort),
            );
            let fields_capped =
                guard.expire_fields_cycle(clock::unix_millis(), FIELDS * (1 + effort));
            if capped || fields_capped {
                server.stats.expired_time_cap_reached.add_shared(1);
            }
            let took = clock::elapsed_since(begun);
            self.stats()
                .expire_cycle_micros
                .add(took.as_micros() as u64);
            server.note_latency(
                latency::EXPIRE_CYCLE,
                took,
                self.config.latency_monitor_threshold_ms,
            );
            self.note_effects(&mut guard);
        }
        if guard.after_due {
            self.after_run(None, &mut [&mut guard]);
        }
        self.forget_durable(&mut guard);
        self.release(Some((ShardIndex(self.index as u16), guard)));
    }

    /// Writes the logs that this turn's replies show.
    fn write_logs(&mut self) {
        let server = self.server;
        let threshold_ms = self.config.latency_monitor_threshold_ms;
        let begun = (threshold_ms > 0).then(clock::instant);
        self.touched
            .drain(|shard, lsn| server.aof.write(server, shard, lsn));
        if let Some(begun) = begun {
            server.note_latency(
                latency::AOF_WRITE,
                clock::elapsed_since(begun),
                threshold_ms,
            );
        }
    }

    fn deliver_posted_replies(&mut self) {
        for (worker, reply) in std::mem::take(&mut self.posted_replies) {
            self.server.workers[worker]
                .mailbox
                .post(Message::Reply(reply));
        }
    }
}
