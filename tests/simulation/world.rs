//! One history: a machine, servers that live and die on it, clients, and all that goes wrong.

use std::any::Any;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;
use std::time::{Duration, Instant};

use keyspace::ShardIndex;
use persistence::aof::manifest::Manifest;
use persistence::clock::{self, SimulatedTime};
use persistence::storage::simulated::{OperationKind, SimulatedStorage, Stopped};
use persistence::storage::sync::{SyncPolicy, Turn};
use reactor::Simulation;
use server::simulation::{take_log, Drain, Process, SimulatedExit, SimulatedRings, Surroundings};

use crate::client::{words, Client, Request};
use crate::disk::{Nursery, SharedTrouble, UnitCount};
use crate::journal::{difference, Journal, Kind, Policy, Promise};
use crate::model::Model;
use crate::random::Random;
use crate::recorder::Recorder;
use crate::workload::{pipeline, Setup, POLICIES};

/// The wall clock at the begin of a history.
const BEGIN_UNIX_MS: i64 = 1_700_000_000_000;
/// The most time that passes in one step.
const STEP_MS_MAX: usize = 12;
/// What `everysec` may lose, without the time that fdatasyncs take: a second, and the steps that pass unused.
const EVERYSEC_MS: u64 = 1000 + 4 * STEP_MS_MAX as u64;
const CLIENTS: usize = 4;
const MANIFEST: &str = "appendonlydir/appendonly.aof.manifest";

/// How a life of the server ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    /// The process was killed at some instruction.
    Crash,
    Exit(i32),
}

struct Sync {
    turn: Turn,
    ends_at: u64,
    /// As the disk counts.
    began: u64,
}

/// A running server.
struct Running {
    process: Process,
    /// By worker: between the two halves of a turn.
    half: Vec<bool>,
    syncs: Vec<Option<Sync>>,
    ticks: Vec<Instant>,
    policy: Policy,
    was_always: bool,
    was_no: bool,
    in_force: bool,
    /// Of a hundred steps, so many drain a ring.
    drain_percent: usize,
    /// Since when the AOF cannot be written.
    failing_since: Option<u64>,
    snapshots_saved: u64,
    rewrites_done: u64,
    /// Units that had run when the child was forked that there was before this step.
    forked_at: Option<usize>,
}

#[derive(Default, Debug)]
pub struct Counts {
    pub lives: u64,
    pub lives_on_rings: u64,
    pub acknowledged: u64,
    pub process_crashes: u64,
    pub os_crashes: u64,
    /// Of the process, and the rings went with it.
    pub ring_losses: u64,
    pub crashes_while_starting: u64,
    /// On rings, too; the same goes for what else is counted twice.
    pub acknowledged_on_rings: u64,
    pub exits: u64,
    pub refusals: u64,
    pub snapshots: u64,
    pub rewrites: u64,
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        self.lives += other.lives;
        self.lives_on_rings += other.lives_on_rings;
        self.acknowledged_on_rings += other.acknowledged_on_rings;
        self.ring_losses += other.ring_losses;
        self.acknowledged += other.acknowledged;
        self.process_crashes += other.process_crashes;
        self.os_crashes += other.os_crashes;
        self.crashes_while_starting += other.crashes_while_starting;
        self.exits += other.exits;
        self.refusals += other.refusals;
        self.snapshots += other.snapshots;
        self.rewrites += other.rewrites;
    }
}

pub struct World {
    random: Random,
    verbose: bool,
    trace: Vec<String>,
    now: u64,
    storage: SimulatedStorage,
    /// Memory that outlives a process, not the system.
    rings: SimulatedRings,
    trouble: SharedTrouble,
    nursery: Nursery,
    recorder: Recorder,
    units: UnitCount,
    journal: Journal,
    network: Simulation,
    clients: Vec<Client>,
    running: Option<Running>,
    setup: Setup,
    boot: u32,
    pid: u32,
    unique: u64,
    /// Milliseconds that an fdatasync takes at most.
    sync_ms_max: u64,
    with_trouble: bool,
    /// The rings may vanish with the process.
    in_container: bool,
    /// Sends nothing any more.
    is_over: bool,
    pub counts: Counts,
}

pub type Failure = String;

impl World {
    pub fn new(seed: u64, verbose: bool) -> World {
        let mut random = Random::new(seed);
        let setup = Setup::random(&mut random);
        let storage = SimulatedStorage::new();
        let recorder = Recorder::default();
        let units = UnitCount::default();
        let trouble = SharedTrouble::default();
        trouble.get().trace = verbose.then(Vec::new);
        trouble.get().lies = random.percent(4);
        if random.percent(20) {
            trouble.get().short_percent = 10;
        }
        if random.percent(10) {
            trouble.get().ringless_percent = 20;
        }
        let sync_ms_max = *random.pick(&[0, 0, 5, 30, 30, 400]);
        World {
            with_trouble: random.percent(40),
            in_container: random.percent(15),
            nursery: Nursery::new(storage.clone(), units.clone(), random.branch(), 0, 0),
            network: Simulation::new(random.next()),
            journal: Journal::new(setup.shards),
            random,
            verbose,
            trace: Vec::new(),
            now: 0,
            storage,
            rings: SimulatedRings::new(),
            trouble,
            recorder,
            units,
            clients: Vec::new(),
            running: None,
            setup,
            boot: 0,
            pid: 100,
            unique: 0,
            sync_ms_max,
            is_over: false,
            counts: Counts::default(),
        }
    }

    pub fn take_trace(&mut self) -> Vec<String> {
        std::mem::take(&mut self.trace)
    }

    fn say(&mut self, text: impl FnOnce() -> String) {
        if self.verbose {
            let disk = self.trouble.get().trace.as_mut().map(std::mem::take);
            self.trace.extend(disk.unwrap_or_default());
            self.log_says("");
            let line = format!("{:>6} {}", self.now, text());
            self.trace.push(line);
        } else {
            take_log();
        }
    }

    /// Whether something new in the log contains this; then it is not new any more.
    fn log_says(&mut self, text: &str) -> bool {
        let log = take_log();
        let says = log.iter().any(|line| line.contains(text));
        if self.verbose {
            let lines = log.into_iter().map(|line| format!("    log: {line}"));
            self.trace.extend(lines);
        }
        says
    }

    fn set_clock(&self) {
        clock::simulate(Some(SimulatedTime {
            unix_millis: BEGIN_UNIX_MS + self.now as i64,
            elapsed: Duration::from_millis(self.now),
        }));
    }

    fn unix_now(&self) -> i64 {
        BEGIN_UNIX_MS + self.now as i64
    }

    fn pass_time(&mut self, ms: u64) {
        self.now += ms;
        self.set_clock();
    }

    /// The whole history.
    pub fn run(&mut self) -> Result<(), Failure> {
        self.set_clock();
        let setup = format!("{:?}", self.setup);
        self.say(|| setup);
        self.start(None)?;
        let lives = self.random.between(2, 4);
        for life in 0..lives {
            let steps = *self.random.pick(&[20, 100, 200, 400]);
            let ending = self.live(steps)?;
            if let (None, true) = (ending, life + 1 == lives) {
                self.wind_up()?;
            }
            let ending = ending.unwrap_or(Ending::Crash);
            if !self.end_and_start(ending)? {
                return Ok(());
            }
        }
        self.wind_up()
    }

    /// Ends what is left of the process, lets the system crash or not, and starts the next. False if the history is
    /// over, because the disk lost what it had promised.
    fn end_and_start(&mut self, ending: Ending) -> Result<bool, Failure> {
        let Some(running) = self.running.take() else {
            return Err("nothing runs".into());
        };
        self.take_replies(&running)?;
        let crashed_at = self.now;
        let mut os_crashed = self.random.percent(50);
        let (was_always, was_no) = (running.was_always, running.was_no);
        let (in_force, failing_since) = (running.in_force, running.failing_since);
        self.say(|| format!("--- {ending:?}, of the system: {os_crashed}"));
        drop(running);
        self.clients.clear();
        self.setup.append_only = in_force;
        let mut after = After {
            ending,
            os_crashed,
            crashed_at,
            was_always,
            was_no,
            in_force,
            failing_since,
            restarted_before_loss: false,
            may_end_early: false,
            tainted: false,
            settled: None,
            rings_lost: false,
        };
        match ending {
            Ending::Exit(_) => self.counts.exits += 1,
            Ending::Crash if os_crashed => self.counts.os_crashes += 1,
            Ending::Crash => self.counts.process_crashes += 1,
        }
        let mut restarted = false;
        loop {
            if os_crashed {
                // What is there now is what the disk has; what goes wrong from now on is for the next crash.
                after.tainted |= std::mem::take(&mut self.trouble.get().tainted);
            }
            after.rings_lost |= self.next_machine(os_crashed);
            after.restarted_before_loss |= restarted && after.has_lost();
            let pause = self.random.below(300) as u64;
            self.pass_time(pause);
            if self.random.percent(25) {
                self.setup.shards = self.random.between(1, 4) as u16;
            }
            if self.random.percent(20) {
                self.setup.on_rings = !self.setup.on_rings;
            }
            if self.random.percent(30) {
                let left = self.random.below(30) as u32;
                self.trouble.get().stop_in = Some(left);
            }
            match self.start(Some(&mut after))? {
                Started::Yes => return Ok(true),
                Started::Refused => return Ok(false),
                Started::Crashed(settled) => {
                    self.counts.crashes_while_starting += 1;
                    os_crashed = self.random.percent(50);
                    restarted = !after.has_lost();
                    after.os_crashed |= os_crashed;
                    after.settled = after.settled.or(settled);
                    self.say(|| format!("--- crashed while starting, of the system: {os_crashed}"));
                }
            }
        }
    }

    /// Disk and memory as the next process finds them. True if rings are gone that it will look for.
    fn next_machine(&mut self, os_crashed: bool) -> bool {
        {
            let mut trouble = self.trouble.get();
            trouble.stop_in = None;
            trouble.failing = None;
        }
        self.storage.set_capacity(None);
        if os_crashed {
            let mut random = self.random.branch();
            self.storage = self.storage.after_os_crash(|| random.next());
            self.boot += 1;
            self.rings = SimulatedRings::new();
            return false;
        }
        self.storage = self.storage.after_process_crash();
        if !self.in_container || self.rings.count() == 0 || self.random.percent(40) {
            return false;
        }
        self.rings = SimulatedRings::new();
        let lost = self.expects_rings();
        self.counts.ring_losses += u64::from(lost);
        self.say(|| format!("the rings are gone, expected: {lost}"));
        lost
    }

    /// Whether the manifest on the disk names rings of this boot.
    fn expects_rings(&self) -> bool {
        let manifest = self.storage.contents(Path::new(MANIFEST));
        let text = manifest.unwrap_or_default();
        let mark = format!("#basalt boot-id {} ", self.boot_id());
        String::from_utf8_lossy(&text)
            .lines()
            .any(|line| line.starts_with(&mark) && line.contains(" rings "))
    }

    fn boot_id(&self) -> String {
        format!("boot-{:04}", self.boot)
    }

    /// Runs something of the server, which may end meanwhile.
    fn guarded<R>(f: impl FnOnce() -> R) -> Result<R, Ending> {
        catch_unwind(AssertUnwindSafe(f)).map_err(ending_of)
    }

    fn start(&mut self, mut after: Option<&mut After>) -> Result<Started, Failure> {
        self.pid += 10;
        self.trouble.get().cuts_are_durable = None;
        let mut random = self.random.branch();
        let trouble_percent = if self.with_trouble { 15 } else { 0 };
        self.trouble.rule(&self.storage, &mut random, &self.units);
        self.trouble.rule_rings(&self.rings, &mut random);
        self.nursery = Nursery::new(
            self.storage.clone(),
            self.units.clone(),
            random.branch(),
            trouble_percent,
            self.pid,
        );
        self.network = Simulation::new(random.next());
        let surroundings = Surroundings {
            config: self.setup.config(),
            seed: random.next(),
            boot_id: self.boot_id(),
            run_id: format!("{:040x}", random.next()),
            pid: self.pid,
            storage: Arc::new(self.storage.clone()),
            rings: self.rings.clone(),
            forker: Box::new(self.nursery.clone()),
            network: self.network.clone(),
            observer: Arc::new(self.recorder.clone()),
        };
        let files = self.storage.files();
        self.say(|| format!("start: {files:?}"));
        let must_tell = self.setup.append_only && self.rings.count() == 0 && self.expects_rings();
        let may_end_early = self.may_end_early();
        if let Some(after) = &mut after {
            after.may_end_early |= may_end_early;
        }
        let mut process = Process::launch(surroundings)?;
        let loaded = match Self::guarded(|| process.load()) {
            Ok(loaded) => loaded,
            // All that counts was in memory before the cuts were written down.
            Err(Ending::Crash) => {
                let settled = self.trouble.get().cuts_are_durable == Some(true);
                return Ok(Started::Crashed(settled.then(|| dumped(&process))));
            }
            Err(Ending::Exit(status)) => return Err(format!("exit {status} while loading")),
        };
        self.trouble.get().stop_in = None;
        if let Err(error) = loaded {
            self.counts.refusals += 1;
            self.say(|| format!("refused: {error}"));
            if after.is_some_and(|after| after.tainted) {
                return Ok(Started::Refused);
            }
            return Err(format!("the server refuses to start: {error}"));
        }
        if must_tell && !self.log_says("IS LOST") {
            return Err("the rings are gone, and the log does not say so".into());
        }
        self.counts.lives += 1;
        let on_rings = process.is_aof_on() && process.is_on_rings();
        self.counts.lives_on_rings += u64::from(on_rings);
        let found = dumped(&process);
        self.say(|| format!("started with {} keys", found.0.len()));
        if let Some(after) = after {
            self.check(&found, after)?;
        }
        self.begin_life(process, found);
        Ok(Started::Yes)
    }

    /// Whether, on a disk that lies, a file may be shorter than it was and look whole: no checksum is behind the last
    /// block of a generation that another follows, or the last command of a base of commands.
    fn may_end_early(&self) -> bool {
        if !self.trouble.get().lies {
            return false;
        }
        let Some(text) = self.storage.contents(Path::new(MANIFEST)) else {
            return false;
        };
        Manifest::parse(&text).is_ok_and(|manifest| {
            let base = manifest.base();
            let of_commands =
                base.is_some_and(|base| base.name.to_string_lossy().ends_with(".aof"));
            of_commands || manifest.generations().len() > 1
        })
    }

    fn begin_life(&mut self, process: Process, found: Model) {
        let shards = self.setup.shards;
        self.journal.begin_life(found, shards);
        self.units.store(0, Relaxed);
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

    fn check(&mut self, found: &Model, after: &After) -> Result<(), Failure> {
        let now = self.unix_now();
        let tainted = after.tainted;
        if tainted {
            // A snapshot that was said to be saved may be gone, now or at the next start.
            self.journal.saved = 0;
        }
        if !after.in_force {
            return self.check_snapshot(found, now);
        }
        let kind = match after.ending {
            Ending::Exit(0) if !tainted => Kind::Everything,
            _ if after.has_lost() && !after.was_always && !tainted => Kind::Prefix,
            _ => Kind::PrefixOfEachShard,
        };
        // While a segment cannot be written, no epoch becomes whole in all.
        let until = after
            .crashed_at
            .min(after.failing_since.unwrap_or(u64::MAX))
            .saturating_sub(EVERYSEC_MS + 2 * self.sync_ms_max);
        let promise = Promise {
            kind,
            all: !after.has_lost() || after.ending == Ending::Exit(0),
            failing_since: after.failing_since,
            always: true,
            everysec_until: (!after.was_no && until > 0).then_some(until),
        };
        if !tainted {
            let settled = after.settled.as_ref();
            if let Some(text) = settled.and_then(|settled| difference(settled, found, now)) {
                return Err(format!("a recovery that was over changed:\n  {text}"));
            }
            let life = &self.journal.life;
            let mut checked = life.check(found, now, promise);
            if checked.is_err() && after.restarted_before_loss {
                // The first start made durable, in all shards or none, what the death of the process had left.
                let of_process = Promise {
                    kind: Kind::PrefixOfEachShard,
                    all: true,
                    ..promise
                };
                checked = life.check(found, now, of_process).or(checked);
            }
            let cut = checked?;
            self.say(|| format!("recovered {cut:?} units; {promise:?}"));
            return Ok(());
        }
        if after.may_end_early {
            // Such a file may have lost what makes no difference to its checksums.
            return Ok(());
        }
        let nothing = Promise {
            all: false,
            always: false,
            everysec_until: None,
            ..promise
        };
        let mut lives = self.journal.past.iter().chain([&self.journal.life]);
        let some = lives.any(|life| {
            let mut life = life.clone();
            life.floor = 0;
            life.check(found, now, nothing).is_ok()
        });
        some.then_some(())
            .ok_or_else(|| "a lying disk led to a state that never was".into())
    }

    fn check_snapshot(&self, found: &Model, now: i64) -> Result<(), Failure> {
        let journal = &self.journal;
        let differences: Vec<String> = journal.saves[journal.saved..]
            .iter()
            .map(|save| difference(save, found, now).unwrap_or_default())
            .collect();
        if differences.iter().any(String::is_empty) {
            return Ok(());
        }
        Err(format!(
            "what was loaded is none of the {} last snapshots:\n  {}",
            differences.len(),
            differences.join("\n or:\n  ")
        ))
    }

    /// Runs the server for some steps. Gives how it ended, if it did.
    fn live(&mut self, steps: usize) -> Result<Option<Ending>, Failure> {
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

    fn end_trouble(&mut self) {
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
        let kind = *self.random.pick(&[
            OperationKind::Write,
            OperationKind::Datasync,
            OperationKind::Rename,
            OperationKind::Create,
            OperationKind::SyncDirectory,
            OperationKind::Truncate,
            OperationKind::Remove,
        ]);
        let percent = *self.random.pick(&[10, 50, 100]);
        self.trouble.get().failing = Some((kind, percent));
        self.say(|| format!("{kind:?} fails, {percent}%"));
    }

    /// One thing happens.
    fn step(&mut self) -> Result<Option<Ending>, Failure> {
        let ms = *self.random.pick(&[0, 0, 1, 3, STEP_MS_MAX as u64]);
        self.pass_time(ms);
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
                    running.half[worker] = false;
                    return Self::guarded(|| running.process.settle(worker));
                }
                running.half[worker] = true;
                return Self::guarded(|| running.process.run_commands(worker));
            }
            70..=84 => {
                for worker in 0..workers {
                    if std::mem::take(&mut running.half[worker]) {
                        Self::guarded(|| running.process.settle(worker))?;
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
        let requests = pipeline(&mut self.random, &mut self.unique);
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
            true => running.failing_since = running.failing_since.or(Some(self.now)),
            false => running.failing_since = None,
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

    fn take_replies(&mut self, running: &Running) -> Result<(), Failure> {
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

    /// Without trouble, all that was asked is answered, writes are accepted, and what is in memory is what should be.
    fn wind_up(&mut self) -> Result<(), Failure> {
        /// Enough for every timer of the server, several times over.
        const STEPS: usize = 3000;
        const DRAIN_PERCENT_AT_END: usize = 5;
        self.is_over = true;
        self.end_trouble();
        self.trouble.get().stop_in = None;
        if let Some(running) = &mut self.running {
            // No thread is kept from running for ever.
            running.drain_percent = running.drain_percent.max(DRAIN_PERCENT_AT_END);
        }
        for step in 0..STEPS {
            if self.step()?.is_some() {
                // A SHUTDOWN that was under way, or an fdatasync that had failed under `always`.
                self.is_over = false;
                return Ok(());
            }
            let idle = self.clients.iter().all(|client| client.waiting.is_empty());
            if idle && step > STEPS / 3 {
                break;
            }
        }
        if let Some(client) = self
            .clients
            .iter()
            .find(|c| !c.waiting.is_empty() && !c.is_closed())
        {
            let (_, command) = &client.waiting[0];
            return Err(format!("client {} got no reply to `{command}`", client.id));
        }
        self.expect_writable()?;
        let running = self.running.as_ref().ok_or("nothing runs")?;
        let found = dumped(&running.process);
        let expected = self.journal.state()?;
        self.is_over = false;
        match difference(&expected, &found, self.unix_now()) {
            None => Ok(()),
            Some(text) => Err(format!("what is in memory is not what ran:\n  {text}")),
        }
    }

    fn expect_writable(&mut self) -> Result<(), Failure> {
        /// Some seconds each: what failed is looked at once a second.
        const ATTEMPTS: usize = 5;
        for _ in 0..ATTEMPTS {
            self.ask("SAVE", Request::Other)?;
            self.ask("SET s0 last", Request::Command)?;
            let last = self.journal.life.units.last();
            if last.is_some_and(|unit| unit.ran[0].argv[2..] == [b"last".to_vec()]) {
                return Ok(());
            }
            self.ask("PING", Request::Other)?;
        }
        Err("writes are refused although nothing is wrong".into())
    }

    /// Sends a command and waits until it is replied to, and a little longer.
    fn ask(&mut self, line: &str, kind: Request) -> Result<(), Failure> {
        const STEPS: usize = 1500;
        self.clients[CLIENTS].send(vec![(kind, words(line))]);
        for step in 0..STEPS {
            if self.step()?.is_some() {
                return Err("the server ended without reason".into());
            }
            if self.clients[CLIENTS].waiting.is_empty() && step > STEPS / 5 {
                return Ok(());
            }
        }
        Err(format!("no reply to `{line}`"))
    }
}

struct After {
    ending: Ending,
    os_crashed: bool,
    crashed_at: u64,
    was_always: bool,
    was_no: bool,
    in_force: bool,
    failing_since: Option<u64>,
    /// The process died, and a start was cut short, before the system crashed or the rings went.
    restarted_before_loss: bool,
    /// A lying disk was given files to keep of which nothing says how long they are.
    may_end_early: bool,
    /// A datasync failed or lied before the system crashed, so that what it was for may be gone.
    tainted: bool,
    /// What a start had recovered that was cut short when its cuts were durably written down.
    settled: Option<Model>,
    /// The system did not crash, but the rings went with the process.
    rings_lost: bool,
}

impl After {
    /// Whether what was written and not durable may be gone.
    fn has_lost(&self) -> bool {
        self.os_crashed || self.rings_lost
    }
}

enum Started {
    Yes,
    Refused,
    Crashed(Option<Model>),
}

fn dumped(process: &Process) -> Model {
    let entries = process.dump().into_iter().map(|key| {
        let expire_at = key.expire_at.map(|at| at.0);
        ((key.db.0, key.key), (expire_at, key.value))
    });
    Model(entries.collect())
}

fn policy_of(process: &Process) -> Policy {
    match process.policy() {
        SyncPolicy::Always => Policy::Always,
        SyncPolicy::EverySecond => Policy::EverySecond,
        SyncPolicy::No => Policy::No,
    }
}

fn ending_of(payload: Box<dyn Any + Send>) -> Ending {
    if payload.is::<Stopped>() {
        return Ending::Crash;
    }
    match payload.downcast::<SimulatedExit>() {
        Ok(exit) => Ending::Exit(exit.0),
        Err(panic) => resume_unwind(panic),
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.running = None;
        clock::simulate(None);
    }
}
