//! What happens while a server lives: what clients send, whose turn it is, how long the disk takes, and what goes wrong.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use keyspace::ShardIndex;
use persistence::clock;
use persistence::storage::simulated::OperationKind;
use persistence::storage::sync::{SyncPolicy, Turn};
use server::simulation::{Drain, Process};

use super::{Ending, Failure, World, CLIENTS, STEP_MS_MAX};
use crate::client::{words, Client, Request};
use crate::journal::Policy;
use crate::model::Model;
use crate::workload::POLICIES;

struct Sync {
    turn: Turn,
    ends_at: u64,
    /// As the disk counts.
    began: u64,
}

/// A running server.
pub(super) struct Running {
    pub(super) process: Process,
    /// By worker: between the two halves of a turn.
    half: Vec<bool>,
    syncs: Vec<Option<Sync>>,
    ticks: Vec<Instant>,
    pub(super) policy: Policy,
    pub(super) was_always: bool,
    pub(super) was_no: bool,
    pub(super) in_force: bool,
    /// Of a hundred steps, so many drain a ring.
    pub(super) drain_percent: usize,
    /// Since when the AOF cannot be written.
    pub(super) failing_since: Option<u64>,
    /// Since when the second of `everysec` stands still: it takes that long, undisturbed, until all is durable again.
    pub(super) second_stands_since: Option<u64>,
    /// When the AOF was last seen failing.
    failed_at: u64,
    snapshots_saved: u64,
    rewrites_done: u64,
    /// Units that had run when the child was forked that there was before this step.
    forked_at: Option<usize>,
}

impl World {
    pub(super) fn begin_life(&mut self, process: Process, found: Model) {
        let shards = self.setup.shards;
        self.journal.begin_life(found, shards);
        self.units.store(0, Relaxed);
        self.leapt = false;
        let policy = policy_of(&process);
        let ticks = (0..shards).map(|shard| process.next_sync_tick(ShardIndex(shard)));
        let mut running = Running {
            half: vec![false; process.worker_count()],
            syncs: (0..shards).map(|_| None).collect(),
            ticks: ticks.collect(),
            policy,
            was_always: policy == Policy::Always,
            was_no: policy == Policy::No,
            in_force: false,
            drain_percent: *self.random.pick(&[0, 1, 10]),
            failing_since: None,
            second_stands_since: None,
            failed_at: 0,
            snapshots_saved: process.snapshots_saved(),
            rewrites_done: process.rewrites_done(),
            forked_at: None,
            process,
        };
        running.in_force = running.process.is_aof_in_force();
        self.running = Some(running);
        for id in 0..CLIENTS + 1 {
            self.clients.push(Client::connect(&self.network, id));
        }
    }

    /// Runs the server for some steps. Gives how it ended, if it did.
    pub(super) fn live(&mut self, steps: usize) -> Result<Option<Ending>, Failure> {
        let crash_within = self.random.percent(50).then(|| self.random.below(steps));
        let mut trouble_ends_at = None;
        for step in 0..steps {
            if crash_within == Some(step) {
                let left = self.random.below(40) as u32;
                self.trouble.get().stop_in = Some(left);
            }
            self.change_trouble(&mut trouble_ends_at);
            if let Some(ending) = self.step()? {
                return Ok(Some(ending));
            }
        }
        self.trouble.get().stop_in = None;
        self.end_trouble();
        Ok(None)
    }

    pub(super) fn end_trouble(&mut self) {
        self.trouble.get().failing = None;
        self.storage.set_capacity(None);
    }

    fn change_trouble(&mut self, ends_at: &mut Option<u64>) {
        if ends_at.is_some_and(|at| at <= self.now) {
            *ends_at = None;
            self.end_trouble();
            self.say(|| "the trouble is over".into());
        }
        if !self.with_trouble || ends_at.is_some() || !self.random.percent(1) {
            return;
        }
        *ends_at = Some(self.now + self.random.between(50, 2500) as u64);
        if self.random.percent(50) {
            let room = self.random.below(2000) as u64;
            let used = self.storage.used_bytes();
            self.storage.set_capacity(Some(used + room));
            self.say(|| format!("room for {room} bytes"));
            return;
        }
        let kinds = [
            OperationKind::Read,
            OperationKind::Write,
            OperationKind::Datasync,
            OperationKind::Rename,
            OperationKind::Create,
            OperationKind::SyncDirectory,
            OperationKind::Truncate,
            OperationKind::Remove,
        ];
        let kind = *self.random.pick(&kinds[usize::from(self.plain)..]);
        let percent = *self.random.pick(&[10, 50, 100]);
        self.trouble.get().failing = Some((kind, percent));
        self.say(|| format!("{kind:?} fails, {percent}%"));
    }

    /// One thing happens.
    pub(super) fn step(&mut self) -> Result<Option<Ending>, Failure> {
        let ms = *self.random.pick(&[0, 0, 1, 3, STEP_MS_MAX as u64]);
        self.pass_time(ms);
        self.set_wall_clock(5);
        let mut running = self.running.take().ok_or("nothing runs")?;
        let ended = self.take_step(&mut running);
        let ended = match ended {
            Ok(()) => self.drive_syncs(&mut running).err(),
            Err(ending) => Some(ending),
        };
        self.note(&mut running, ended)?;
        self.running = Some(running);
        if let Some(ending) = ended {
            self.say(|| format!("ended: {ending:?}"));
        }
        Ok(ended)
    }

    fn take_step(&mut self, running: &mut Running) -> Result<(), Ending> {
        let workers = running.half.len();
        if self.random.percent(running.drain_percent) {
            return self.drain(running);
        }
        match self.random.below(100) {
            0..=24 if !self.is_over => {
                let client = self.random.below(CLIENTS);
                self.send(client);
            }
            0..=69 => {
                let worker = self.random.below(workers);
                if running.half[worker] {
                    return self.settle(running, worker);
                }
                running.half[worker] = true;
                return Self::guarded(|| running.process.run_commands(worker));
            }
            70..=84 => {
                for worker in 0..workers {
                    if running.half[worker] {
                        self.settle(running, worker)?;
                        self.take_in(running);
                    }
                }
                return Self::guarded(|| running.process.coordinate());
            }
            85..=94 => {
                let count = self.random.between(1, 12);
                for units in self.nursery.work(count) {
                    self.note_save(units);
                }
            }
            95..=96 => running.process.free_garbage(),
            _ if !self.is_over => self.administer(),
            _ => {}
        }
        Ok(())
    }

    /// The second half of a worker's turn.
    fn settle(&mut self, running: &mut Running, worker: usize) -> Result<(), Ending> {
        running.half[worker] = false;
        let before = self.trouble.get().segment_writes;
        let ended = Self::guarded(|| running.process.settle(worker));
        let made_room = self.trouble.get().segment_writes > before;
        self.counts.full_rings += u64::from(made_room && running.process.is_on_rings());
        ended
    }

    /// What a drain thread does.
    fn drain(&mut self, running: &mut Running) -> Result<(), Ending> {
        let shard = ShardIndex(self.random.below(running.syncs.len()) as u16);
        let how = *self
            .random
            .pick(&[Drain::Bulk, Drain::Bulk, Drain::Blocks, Drain::All]);
        let how = match running.process.has_drain_failed(shard) {
            true => Drain::All,
            false => how,
        };
        Self::guarded(|| running.process.drain(shard, how))
    }

    fn send(&mut self, client: usize) {
        if self.clients[client].waiting.len() > 20 || self.clients[client].is_closed() {
            return;
        }
        let requests = self.workload.pipeline(&mut self.random);
        let count = requests.len();
        self.clients[client].send(requests);
        self.say(|| format!("client {client} sends {count} requests"));
    }

    fn administer(&mut self) {
        let line = match self.random.below(100) {
            0..=24 => "BGSAVE".into(),
            25..=49 => "BGREWRITEAOF".into(),
            50..=54 => "SAVE".into(),
            55..=69 => format!("CONFIG SET appendfsync {}", self.random.pick(&POLICIES)),
            70..=79 => {
                let on = if self.random.percent(70) { "yes" } else { "no" };
                format!("CONFIG SET appendonly {on}")
            }
            80..=84 => "INFO persistence".into(),
            85..=89 => {
                let how = self.random.pick(&["", " NOSAVE", " SAVE", " NOW"]);
                format!("SHUTDOWN{how}")
            }
            _ => return,
        };
        let admin = &mut self.clients[CLIENTS];
        if admin.waiting.is_empty() && !admin.is_closed() {
            admin.send(vec![(Request::Other, words(&line))]);
            self.say(|| format!("admin: {line}"));
        }
    }

    fn drive_syncs(&mut self, running: &mut Running) -> Result<(), Ending> {
        for shard in 0..running.syncs.len() {
            let index = ShardIndex(shard as u16);
            if let Some(sync) = running.syncs[shard].take_if(|sync| sync.ends_at <= self.now) {
                let end = || Self::guarded(|| running.process.end_sync(index, sync.turn));
                self.storage.end_datasync(sync.began, end)?;
            }
            if running.syncs[shard].is_some() {
                continue;
            }
            let timer = clock::instant() >= running.ticks[shard];
            if timer {
                running.ticks[shard] = running.process.next_sync_tick(index);
            }
            let turn = Self::guarded(|| running.process.begin_sync(index, timer))?;
            if let Some(turn) = turn {
                let most = self.sync_ms_max as usize;
                running.syncs[shard] = Some(Sync {
                    turn,
                    ends_at: self.now + self.random.below(most + 1) as u64,
                    began: self.storage.begin_datasync(),
                });
            }
        }
        Ok(())
    }

    /// Takes in what ran.
    fn take_in(&mut self, running: &mut Running) {
        let ran = self.recorder.take();
        for ran in &ran {
            self.say(|| {
                format!(
                    "client {} db {}: {} -> {}",
                    ran.client,
                    ran.db,
                    ran.argv.join(&b' ').escape_ascii(),
                    ran.reply.escape_ascii()
                )
            });
        }
        self.journal.ran(ran, running.policy);
        self.units.store(self.journal.life.units.len(), Relaxed);
    }

    fn note_save(&mut self, units: usize) {
        self.dump_is_tainted = false;
        let state = self.journal.life.state_after(units);
        // A reply that the model did not expect is found when the life is checked.
        if let Ok(state) = state {
            self.journal.saves.push(state);
            self.say(|| format!("a snapshot of {units} units is in force"));
        }
    }

    /// Takes in all that a step changed.
    fn note(&mut self, running: &mut Running, ended: Option<Ending>) -> Result<(), Failure> {
        self.take_in(running);
        let saves = std::mem::take(&mut self.trouble.get().saves);
        for units in saves {
            self.note_save(units);
        }
        let process = &mut running.process;
        let saved = process.snapshots_saved();
        if saved > running.snapshots_saved {
            running.snapshots_saved = saved;
            self.journal.saved = self.journal.saves.len() - 1;
            self.counts.snapshots += 1;
        }
        match process.has_aof_failed() {
            true => {
                running.failing_since = running.failing_since.or(Some(self.now));
                running.second_stands_since = running.second_stands_since.or(Some(self.now));
                running.failed_at = self.now;
            }
            false => {
                running.failing_since = None;
                if self.now > running.failed_at + self.second() {
                    running.second_stands_since = None;
                }
            }
        }
        if ended.is_some() {
            return Ok(());
        }
        let in_force = process.is_aof_in_force();
        let rewrites = process.rewrites_done();
        if rewrites > running.rewrites_done {
            running.rewrites_done = rewrites;
            self.counts.rewrites += 1;
            if let (true, Some(forked_at)) = (in_force, running.forked_at) {
                self.journal.life.floor = forked_at;
            }
        }
        // By the end of the next step, another child may be there.
        running.forked_at = self.nursery.forked_at();
        if running.in_force != in_force {
            running.in_force = in_force;
            self.say(|| format!("AOF in force: {in_force}"));
        }
        running.policy = policy_of(&running.process);
        running.was_always |= running.policy == Policy::Always;
        running.was_no |= running.policy == Policy::No;
        self.take_replies(running)
    }

    pub(super) fn take_replies(&mut self, running: &Running) -> Result<(), Failure> {
        let on_rings = running.process.is_aof_on() && running.process.is_on_rings();
        for client in &mut self.clients {
            for reply in client.replies() {
                if self.verbose && client.id == CLIENTS {
                    let line = format!("{:>6} admin got {}", self.now, reply.bytes.escape_ascii());
                    self.trace.push(line);
                }
                self.journal
                    .seen(client.id, &reply, self.now, running.policy)?;
                let acknowledged = u64::from(!reply.is_error());
                self.counts.acknowledged += acknowledged;
                self.counts.acknowledged_on_rings += acknowledged * u64::from(on_rings);
            }
        }
        Ok(())
    }
}

fn policy_of(process: &Process) -> Policy {
    match process.policy() {
        SyncPolicy::Always => Policy::Always,
        SyncPolicy::EverySecond => Policy::EverySecond,
        SyncPolicy::No => Policy::No,
    }
}
