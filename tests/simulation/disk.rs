//! What goes wrong with the disk, and children that work on a copy of it.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};

use persistence::aof::cut::JOURNAL;
use persistence::storage::simulated::{Deed, Operation, OperationKind, SimulatedStorage, Verdict};
use persistence::storage::Storage;
use server::simulation::{Child, Ended, Forker, RingChange, RingOperation, SimulatedRings, Work};

use crate::random::Random;

/// How many units have run, for those who cannot ask the journal.
pub type UnitCount = Arc<AtomicUsize>;

/// What is wrong with the disk at present.
#[derive(Default)]
pub struct Trouble {
    /// The machine stops after so many more changes.
    pub stop_in: Option<u32>,
    /// Of a hundred operations of the kind that so many fail, with EIO.
    pub failing: Option<(OperationKind, usize)>,
    pub short_percent: usize,
    /// Of a hundred rings that are to be made, there is no room for so many.
    pub ringless_percent: usize,
    pub lies: bool,
    /// A datasync failed or lied, so that what it was for may be gone.
    pub tainted: bool,
    /// Reads that failed, and looks at what is there.
    pub unreadable: u64,
    /// How often a segment was written to.
    pub segment_writes: u64,
    /// Snapshots put in force by the server itself: how many units had run.
    pub saves: Vec<usize>,
    /// Of the journal of a recovery's cuts: nothing if this start wrote none, then whether it is durable.
    pub cuts_are_durable: Option<bool>,
    pub trace: Option<Vec<String>>,
}

#[derive(Clone, Default)]
pub struct SharedTrouble(Arc<Mutex<Trouble>>);

impl SharedTrouble {
    pub fn get(&self) -> MutexGuard<'_, Trouble> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Has the disk judge its operations by this.
    pub fn rule(&self, storage: &SimulatedStorage, random: &mut Random, units: &UnitCount) {
        let (this, mut random, units) = (self.clone(), random.branch(), units.clone());
        let seed = random.next();
        let judge = move |operation: &Operation<'_>| {
            let mut trouble = this.get();
            let verdict = trouble.judge(operation, &mut random);
            if operation.kind == OperationKind::Rename && is_dump(operation.path) {
                trouble.saves.push(units.load(Relaxed));
            }
            trouble.note_journal(operation, verdict);
            if let Some(trace) = &mut trouble.trace {
                let Operation { kind, path, bytes } = operation;
                let remark = match verdict {
                    Verdict::Proceed => String::new(),
                    other => format!(" {other:?}"),
                };
                if !matches!(
                    kind,
                    OperationKind::Read | OperationKind::List | OperationKind::Look
                ) || !remark.is_empty()
                {
                    trace.push(format!(
                        "    disk: {kind:?} {} {bytes}{remark}",
                        path.display()
                    ));
                }
            }
            verdict
        };
        storage.set_faults(Some(Box::new(judge)), seed);
    }

    /// The same for the rings of the machine.
    pub fn rule_rings(&self, rings: &SimulatedRings, random: &mut Random) {
        let (this, mut random) = (self.clone(), random.branch());
        let judge = move |operation: &RingOperation<'_>| {
            let mut trouble = this.get();
            let verdict = trouble.judge_ring(operation, &mut random);
            if let Some(trace) = &mut trouble.trace {
                let RingOperation {
                    change,
                    path,
                    offset,
                    bytes,
                } = operation;
                let name = path.file_name().unwrap_or_default().display();
                let remark = match verdict {
                    Verdict::Proceed => String::new(),
                    other => format!(" {other:?}"),
                };
                trace.push(format!(
                    "    ring: {change:?} {name} {offset} {bytes}{remark}"
                ));
            }
            verdict
        };
        rings.set_faults(Some(Box::new(judge)));
    }
}

pub fn is_dump(path: &Path) -> bool {
    path == Path::new("dump.rdb")
}

impl Trouble {
    fn note_journal(&mut self, operation: &Operation<'_>, verdict: Verdict) {
        if !matches!(verdict, Verdict::Proceed) {
            return;
        }
        match operation.kind {
            OperationKind::Rename if operation.path.ends_with(JOURNAL) => {
                self.cuts_are_durable = Some(false);
            }
            OperationKind::SyncDirectory if self.cuts_are_durable.is_some() => {
                self.cuts_are_durable = Some(true);
            }
            _ => {}
        }
    }

    /// Whether the machine stops now: it is told of a change.
    fn stops(&mut self) -> bool {
        match &mut self.stop_in {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    fn judge_ring(&mut self, operation: &RingOperation<'_>, random: &mut Random) -> Verdict {
        if self.stops() {
            return Verdict::Stop(random.below(operation.bytes + 1));
        }
        if operation.change == RingChange::Create && random.percent(self.ringless_percent) {
            return Verdict::Fail(libc::ENOSPC);
        }
        Verdict::Proceed
    }

    fn judge(&mut self, operation: &Operation<'_>, random: &mut Random) -> Verdict {
        use OperationKind::{Datasync, List, Look, Open, Read, SyncDirectory, Write};
        let kind = operation.kind;
        if kind == Write && operation.path.to_string_lossy().ends_with(".incr.aof") {
            self.segment_writes += 1;
        }
        if !matches!(kind, Read | List | Look | Open) && self.stops() {
            return Verdict::Stop(match kind {
                Write => random.below(operation.bytes + 1),
                _ => 0,
            });
        }
        if let Some((_, percent)) = self.failing.filter(|(failing, _)| *failing == kind) {
            if random.percent(percent) {
                self.tainted |= kind == Datasync;
                self.unreadable += u64::from(matches!(kind, Read | List | Look | Open));
                return Verdict::Fail(libc::EIO);
            }
        }
        if matches!(kind, Datasync | SyncDirectory) && self.lies {
            self.tainted = true;
            return Verdict::Lie;
        }
        if kind == Write && operation.bytes > 1 && random.percent(self.short_percent) {
            return Verdict::Short(random.between(1, operation.bytes - 1));
        }
        Verdict::Proceed
    }
}

/// A child whose work was done, on a copy of the disk, at the moment of the fork; its deeds reach the disk later.
pub struct ChildState {
    pub pid: i32,
    pub deeds: VecDeque<Deed>,
    result: Option<Result<(), String>>,
    /// Is killed before it does so many more things.
    pub killed_in: Option<usize>,
    pub killed: bool,
    /// How many units had run when it was forked.
    pub forked_at: usize,
}

#[derive(Clone)]
pub struct Nursery(Arc<Mutex<NurseryState>>);

struct NurseryState {
    storage: SimulatedStorage,
    units: UnitCount,
    random: Random,
    /// Of a hundred forks or children, so many go wrong.
    trouble_percent: usize,
    next_pid: i32,
    child: Option<ChildState>,
}

struct SimulatedChild {
    pid: i32,
    nursery: Nursery,
}

impl Nursery {
    pub fn new(
        storage: SimulatedStorage,
        units: UnitCount,
        random: Random,
        trouble_percent: usize,
        pid: u32,
    ) -> Nursery {
        Nursery(Arc::new(Mutex::new(NurseryState {
            storage,
            units,
            random,
            trouble_percent,
            next_pid: pid as i32,
            child: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, NurseryState> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Units that had run when the present child was forked.
    pub fn forked_at(&self) -> Option<usize> {
        Some(self.state().child.as_ref()?.forked_at)
    }

    /// Lets the child do `count` things. Gives the unit counts at the forks of snapshots that came in force.
    pub fn work(&self, count: usize) -> Vec<usize> {
        let mut state = self.state();
        let storage = state.storage.clone();
        let Some(child) = &mut state.child else {
            return Vec::new();
        };
        let mut saves = Vec::new();
        for _ in 0..count {
            if child.killed {
                break;
            }
            if let Some(left) = &mut child.killed_in {
                if *left == 0 {
                    child.killed = true;
                    break;
                }
                *left -= 1;
            }
            let Some(deed) = child.deeds.pop_front() else {
                break;
            };
            if deed.renamed_to().is_some_and(is_dump) {
                saves.push(child.forked_at);
            }
            storage.repeat(&deed);
        }
        saves
    }
}

impl Forker for Nursery {
    unsafe fn fork(&self, _: &dyn Storage, work: Work<'_>) -> io::Result<Box<dyn Child>> {
        let mut state = self.state();
        let percent = state.trouble_percent;
        if state.random.percent(percent / 4) {
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        }
        let disk = state.storage.fork();
        if state.random.percent(percent) {
            let room = state.random.below(3000) as u64;
            disk.set_space_left(Some(room));
        } else if state.random.percent(percent / 2) {
            disk.set_datasync_error(Some(libc::EIO));
        }
        let result = work(&disk);
        let deeds: VecDeque<Deed> = disk.take_deeds().into();
        let killed = state.random.percent(percent);
        let killed_in = killed.then(|| state.random.below(deeds.len() + 1));
        state.next_pid += 1;
        let pid = state.next_pid;
        state.child = Some(ChildState {
            pid,
            deeds,
            result: Some(result),
            killed_in,
            killed: false,
            forked_at: state.units.load(Relaxed),
        });
        Ok(Box::new(SimulatedChild {
            pid,
            nursery: self.clone(),
        }))
    }
}

impl Child for SimulatedChild {
    fn pid(&self) -> i32 {
        self.pid
    }

    fn ended(&mut self) -> io::Result<Option<Ended>> {
        let mut state = self.nursery.state();
        let Some(child) = state.child.as_mut().filter(|child| child.pid == self.pid) else {
            return Err(io::Error::from_raw_os_error(libc::ECHILD));
        };
        if child.killed {
            return Ok(Some(Ended::Killed(nix::sys::signal::Signal::SIGKILL)));
        }
        if !child.deeds.is_empty() {
            return Ok(None);
        }
        Ok(Some(match child.result.take() {
            Some(Err(error)) => Ended::Failed(error),
            _ => Ended::Done,
        }))
    }

    fn end(&self) {
        let mut state = self.nursery.state();
        if let Some(child) = state.child.as_mut().filter(|child| child.pid == self.pid) {
            child.killed = true;
            child.deeds.clear();
        }
    }

    fn kill(self: Box<Self>) {
        self.end();
    }
}
