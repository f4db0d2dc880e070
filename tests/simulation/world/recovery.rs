//! The end of a server, what is left of its machine, and what the next one makes of it: the judge of recovered states.

use std::path::Path;
use std::sync::Arc;

use persistence::aof::manifest::Manifest;
use persistence::storage::simulated::OperationKind;
use reactor::Simulation;
use server::simulation::{Process, SimulatedRings, Surroundings};

use super::{dumped, Ending, Failure, World, STEP_MS_MAX};
use crate::disk::Nursery;
use crate::journal::{difference, Kind, Promise};
use crate::model::Model;

/// What `everysec` may lose, without the time that fdatasyncs take: a second, and the steps that pass unused.
const EVERYSEC_MS: u64 = 1000 + 4 * STEP_MS_MAX as u64;
const MANIFEST: &str = "appendonlydir/appendonly.aof.manifest";

pub(super) struct After {
    ending: Ending,
    os_crashed: bool,
    crashed_at: u64,
    was_always: bool,
    was_no: bool,
    in_force: bool,
    failing_since: Option<u64>,
    second_stands_since: Option<u64>,
    /// The process died, and a start was cut short, before the system crashed or the rings went.
    restarted_before_loss: bool,
    /// A lying disk was given files to keep of which nothing says yet how long they are.
    may_end_early: bool,
    /// A datasync failed or lied before the system crashed, so that what it was for may be gone.
    tainted: bool,
    /// The wall clock was set forth while the server lived.
    leapt: bool,
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

pub(super) enum Started {
    Yes,
    Refused,
    /// By a crash, or because something could not be read. With what was recovered, if the cuts for it are durable.
    CutShort(Option<Model>),
}

impl World {
    /// Ends what is left of the process, lets the system crash or not, and starts the next. False if the history is
    /// over, because the disk lost what it had promised.
    pub(super) fn end_and_start(&mut self, ending: Ending) -> Result<bool, Failure> {
        let Some(running) = self.running.take() else {
            return Err("nothing runs".into());
        };
        self.take_replies(&running)?;
        let begun = self.recorder.take_begun();
        self.journal
            .ran(begun.into_iter().collect(), running.policy);
        let crashed_at = self.now;
        let mut os_crashed = self.random.percent(50);
        let (was_always, was_no) = (running.was_always, running.was_no);
        let (in_force, failing_since) = (running.in_force, running.failing_since);
        let second_stands_since = running.second_stands_since;
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
            second_stands_since,
            restarted_before_loss: false,
            may_end_early: false,
            tainted: false,
            leapt: std::mem::take(&mut self.leapt),
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
                self.dump_is_tainted |= after.tainted;
            }
            after.rings_lost |= self.next_machine(os_crashed);
            after.restarted_before_loss |= restarted && after.has_lost();
            let pause = self.random.below(300) as u64;
            self.pass_time(pause);
            self.set_wall_clock(300);
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
            if !self.plain && self.random.percent(8) {
                let kinds = [
                    OperationKind::Read,
                    OperationKind::Open,
                    OperationKind::List,
                ];
                let kind = *self.random.pick(&kinds);
                let percent = *self.random.pick(&[3, 20, 100]);
                self.trouble.get().failing = Some((kind, percent));
                self.say(|| format!("{kind:?} fails, {percent}%"));
            }
            match self.start(Some(&mut after))? {
                Started::Yes => return Ok(true),
                Started::Refused => return Ok(false),
                Started::CutShort(settled) => {
                    os_crashed = self.random.percent(50);
                    restarted = !after.has_lost();
                    after.os_crashed |= os_crashed;
                    after.settled = after.settled.or(settled);
                    self.say(|| {
                        format!("--- the start was cut short; of the system, a crash: {os_crashed}")
                    });
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

    /// What `everysec` may lose.
    pub(super) fn second(&self) -> u64 {
        EVERYSEC_MS + 2 * self.sync_ms_max
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

    pub(super) fn start(&mut self, mut after: Option<&mut After>) -> Result<Started, Failure> {
        self.pid += 10;
        {
            let mut trouble = self.trouble.get();
            (trouble.cuts_are_durable, trouble.unreadable) = (None, 0);
        }
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
            logged_one_by_one_max: self.setup.logged_one_by_one_max,
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
            Err(Ending::Crash) => {
                self.counts.crashes_while_starting += 1;
                return Ok(self.cut_short(&process));
            }
            Err(Ending::Exit(status)) => return Err(format!("exit {status} while loading")),
        };
        {
            let mut trouble = self.trouble.get();
            (trouble.stop_in, trouble.failing) = (None, None);
        }
        if let Err(error) = loaded {
            self.say(|| format!("refused: {error}"));
            if self.trouble.get().unreadable > 0 {
                self.counts.unreadable += 1;
                return Ok(self.cut_short(&process));
            }
            self.counts.refusals += 1;
            // A dump that is not whole may be looked at for the first time long after it was lost.
            let of_dump = self.dump_is_tainted && !self.setup.append_only;
            // A hole is taken for damage if the clock was set forth while what is behind it was written.
            let leapt = |after: &&mut After| after.leapt && after.os_crashed;
            let of_hole =
                after.as_ref().is_some_and(leapt) && error.contains("damaged append-only file");
            if of_dump || of_hole || after.is_some_and(|after| after.tainted) {
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

    fn cut_short(&self, process: &Process) -> Started {
        // All that counts was in memory before the cuts were written down.
        let settled = self.trouble.get().cuts_are_durable == Some(true);
        Started::CutShort(settled.then(|| dumped(process)))
    }

    /// Whether, on a disk that lies, a file may be shorter than it was and look whole: the manifest does not say yet how
    /// long one is that another follows.
    fn may_end_early(&self) -> bool {
        if !self.trouble.get().lies {
            return false;
        }
        let Some(text) = self.storage.contents(Path::new(MANIFEST)) else {
            return false;
        };
        Manifest::parse(&text).is_ok_and(|manifest| {
            let base = manifest.base();
            let of_commands = base.filter(|base| base.name.to_string_lossy().ends_with(".aof"));
            let generations = manifest.generations();
            let followed = generations.iter().rev().skip(1).flatten().copied();
            followed
                .chain(of_commands)
                .any(|file| file.closed.is_none())
        })
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
            .min(after.second_stands_since.unwrap_or(u64::MAX))
            .saturating_sub(self.second());
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
}
