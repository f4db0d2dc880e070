//! One history: a machine, servers that live and die on it, clients, and all that goes wrong.

mod life;
mod recovery;
mod told;

use std::any::Any;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::time::Duration;

use persistence::clock::{self, SimulatedTime};
use persistence::storage::simulated::{SimulatedStorage, Stopped};
use reactor::Simulation;
use server::simulation::{take_log, Process, SimulatedExit, SimulatedRings};

use crate::client::{words, Client, Request};
use crate::disk::{Nursery, SharedTrouble, UnitCount};
use crate::journal::{difference, Journal};
use crate::model::Model;
use crate::random::Random;
use crate::recorder::Recorder;
use crate::workload::{Setup, Workload};
use life::Running;

/// The wall clock at the begin of a history.
const BEGIN_UNIX_MS: i64 = 1_700_000_000_000;
/// The most time that passes in one step.
const STEP_MS_MAX: usize = 12;
const CLIENTS: usize = 4;
const LEAP_MS: i64 = 10_000;

/// How a life of the server ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    /// The process was killed at some instruction.
    Crash,
    Exit(i32),
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
    /// Starts that ended because something could not be read.
    pub unreadable: u64,
    /// Turns of workers that had to make room in a ring.
    pub full_rings: u64,
    pub clock_jumps: u64,
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
        self.unreadable += other.unreadable;
        self.full_rings += other.full_rings;
        self.clock_jumps += other.clock_jumps;
        self.snapshots += other.snapshots;
        self.rewrites += other.rewrites;
    }
}

pub struct World {
    random: Random,
    verbose: bool,
    trace: Vec<String>,
    now: u64,
    /// Of the wall clock, against that which only goes forward.
    clock_ahead_ms: i64,
    clock: WallClock,
    /// It was set forth in this life, by so much that what was written before looks too old to be lost.
    leapt: bool,
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
    workload: Workload,
    /// Milliseconds that an fdatasync takes at most.
    sync_ms_max: u64,
    plain: bool,
    with_trouble: bool,
    /// The disk lied, the system crashed, and no snapshot has been put in force since.
    dump_is_tainted: bool,
    /// The rings may vanish with the process.
    in_container: bool,
    /// Sends nothing any more.
    is_over: bool,
    pub counts: Counts,
}

/// What the wall clock does in a history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum WallClock {
    Steady,
    JumpsAhead,
    /// Back as well. Then no key expires: whether one is there whose time was over, and is not any more, is chance.
    Jumps,
}

pub type Failure = String;

impl World {
    /// A plain history has no values that fill a ring, clocks that leap, reads that fail or very slow fdatasyncs: so the
    /// seeds that failed before there were such histories still give theirs.
    pub fn new(seed: u64, verbose: bool, plain: bool) -> World {
        let mut random = Random::new(seed);
        let setup = Setup::random(&mut random);
        let storage = SimulatedStorage::new();
        let units = UnitCount::default();
        let recorder = Recorder::new(units.clone());
        let trouble = SharedTrouble::default();
        trouble.get().trace = verbose.then(Vec::new);
        trouble.get().lies = random.percent(4);
        if random.percent(20) {
            trouble.get().short_percent = 10;
        }
        if random.percent(10) {
            trouble.get().ringless_percent = 20;
        }
        let (mut clock, mut workload) = (WallClock::Steady, Workload::plain(&setup));
        if !plain {
            clock = match random.below(20) {
                0 => WallClock::Jumps,
                1 | 2 => WallClock::JumpsAhead,
                _ => WallClock::Steady,
            };
            workload.vary(&mut random, clock != WallClock::Jumps);
        }
        let sync_ms_max = *random.pick(&[0, 0, 5, 30, 30, 400, 1500][..7 - usize::from(plain)]);
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
            clock_ahead_ms: 0,
            clock,
            leapt: false,
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
            workload,
            sync_ms_max,
            plain,
            dump_is_tainted: false,
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
            unix_millis: self.unix_now(),
            elapsed: Duration::from_millis(self.now),
        }));
    }

    fn unix_now(&self) -> i64 {
        BEGIN_UNIX_MS + self.now as i64 + self.clock_ahead_ms
    }

    /// Somebody sets the wall clock, in so many cases of a thousand.
    fn set_wall_clock(&mut self, permille: usize) {
        if self.clock == WallClock::Steady || self.random.below(1000) >= permille {
            return;
        }
        let by = *self.random.pick(&[50, 2000, 3_600_000, 86_400_000]);
        let back = self.clock == WallClock::Jumps && self.random.percent(50);
        self.leapt |= by >= LEAP_MS && !back;
        self.clock_ahead_ms += if back { -by } else { by };
        self.counts.clock_jumps += 1;
        self.set_clock();
        self.say(|| {
            format!(
                "the wall clock is set {} by {by} ms",
                if back { "back" } else { "forth" }
            )
        });
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

    /// Runs something of the server, which may end meanwhile.
    fn guarded<R>(f: impl FnOnce() -> R) -> Result<R, Ending> {
        catch_unwind(AssertUnwindSafe(f)).map_err(ending_of)
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

fn dumped(process: &Process) -> Model {
    let entries = process.dump().into_iter().map(|key| {
        let expire_at = key.expire_at.map(|at| at.0);
        ((key.db.0, key.key), (expire_at, key.value))
    });
    Model(entries.collect())
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
