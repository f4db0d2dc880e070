//! What INFO commandstats shows: calls, time, rejections and failures of each command.
//!
//! Commands get small numbers at the first use, found by the address of their row. Each worker
//! has a table of its own. In a batch, commands that run on one shard are counted and timed in runs
//! of the same command, so that the clock is read once a run; each call of a run counts as having
//! taken the same time. Everything else is timed call by call.

use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use commands::Command;
use hdrhistogram::Histogram;

use crate::shared::Server;
use crate::stats::{Counter, WorkerStats};

/// A worker's counts of one command.
#[derive(Default)]
pub struct CommandStat {
    pub calls: Counter,
    pub nanos: Counter,
    /// Refused before they ran.
    pub rejected: Counter,
    /// Replied an error.
    pub failed: Counter,
    /// Made at the first use.
    latency: Mutex<Option<Box<Latencies>>>,
}

/// The counts of one command over all workers.
#[derive(Default, Clone, Copy)]
pub struct CommandTotals {
    pub calls: u64,
    pub nanos: u64,
    pub rejected: u64,
    pub failed: u64,
}

impl CommandTotals {
    pub fn add(&mut self, stat: &CommandStat) {
        self.calls += stat.calls.get();
        self.nanos += stat.nanos.get();
        self.rejected += stat.rejected.get();
        self.failed += stat.failed.get();
    }

    pub fn for_each_pair(&mut self, other: &CommandTotals, mut f: impl FnMut(&mut u64, u64)) {
        f(&mut self.calls, other.calls);
        f(&mut self.nanos, other.nanos);
        f(&mut self.rejected, other.rejected);
        f(&mut self.failed, other.failed);
    }
}

/// Numbers by address of the row: open addressing, at most a quarter full.
struct Numbers {
    slots: Vec<(usize, usize)>,
    commands: Vec<&'static Command>,
}

fn numbers() -> &'static Numbers {
    static NUMBERS: OnceLock<Numbers> = OnceLock::new();
    NUMBERS.get_or_init(|| {
        let commands: Vec<_> = commands::all()
            .flat_map(|command| std::iter::once(command).chain(command.subcommands))
            .collect();
        let slots = vec![(0, 0); (commands.len() * 4).next_power_of_two()];
        let mut numbers = Numbers { slots, commands };
        for number in 0..numbers.commands.len() {
            let address = std::ptr::from_ref(numbers.commands[number]).addr();
            let slot = numbers.slot(address);
            numbers.slots[slot] = (address, number);
        }
        numbers
    })
}

impl Numbers {
    /// Where an address is, or would be put.
    #[inline]
    fn slot(&self, address: usize) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = (address >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as usize) >> 40 & mask;
        while self.slots[slot].0 != address && self.slots[slot].0 != 0 {
            slot = (slot + 1) & mask;
        }
        slot
    }
}

/// How many commands there are, subcommands among them.
pub fn count() -> usize {
    numbers().commands.len()
}

/// All commands in the order of their numbers.
pub fn commands() -> &'static [&'static Command] {
    &numbers().commands
}

/// The number of a command, below [`count`].
#[inline]
pub fn number(command: &'static Command) -> usize {
    let numbers = numbers();
    numbers.slots[numbers.slot(std::ptr::from_ref(command).addr())].1
}

pub fn table() -> Box<[CommandStat]> {
    (0..count()).map(|_| CommandStat::default()).collect()
}

impl WorkerStats {
    /// The counts of one command.
    #[inline]
    pub fn of(&self, command: &'static Command) -> &CommandStat {
        &self.commands[number(command)]
    }
}

/// A run of the same command that has ended.
pub struct Run {
    pub command: &'static Command,
    /// The place, in its batch, of the command that brought the most bytes.
    pub largest: usize,
    pub took: Duration,
}

/// Counts and times a batch's commands in runs of the same one.
pub struct Tally {
    command: Option<&'static Command>,
    calls: u64,
    largest: (usize, usize),
    began: Instant,
    distributes: bool,
}

impl Tally {
    #[inline]
    pub fn new(distributes: bool) -> Tally {
        Tally {
            command: None,
            calls: 0,
            largest: (0, 0),
            began: Instant::now(),
            distributes,
        }
    }

    /// Counts a call, which is about to run; `index` is its place in the batch. Returns the run that
    /// ends before it.
    #[inline]
    pub fn count(
        &mut self,
        command: &'static Command,
        index: usize,
        bytes: usize,
        stats: &WorkerStats,
    ) -> Option<Run> {
        let mut ended = None;
        if !self
            .command
            .is_some_and(|counted| std::ptr::eq(counted, command))
        {
            ended = self.flush(stats);
            self.command = Some(command);
            self.largest = (index, bytes);
        } else if bytes > self.largest.1 {
            self.largest = (index, bytes);
        }
        self.calls += 1;
        ended
    }

    /// Ends a run: adds what was counted.
    pub fn flush(&mut self, stats: &WorkerStats) -> Option<Run> {
        let command = self.command.take()?;
        let now = Instant::now();
        let took = now.duration_since(self.began);
        self.began = now;
        let calls = std::mem::take(&mut self.calls);
        let stat = stats.of(command);
        stat.calls.add(calls);
        stat.nanos.add(took.as_nanos() as u64);
        if self.distributes {
            stat.distribute(took, calls);
        }
        Some(Run {
            command,
            largest: self.largest.0,
            took,
        })
    }

    /// Charges nothing of what went on since the last run to the next.
    pub fn forget_time(&mut self) {
        self.began = Instant::now();
    }
}

impl CommandStat {
    /// Adds calls that took so long together to the distribution.
    pub fn distribute(&self, took: Duration, calls: u64) {
        let nanos = took.as_nanos() as u64 / calls.max(1);
        let mut latency = self.latency.lock().expect("no holder of this lock panics");
        latency
            .get_or_insert_with(|| Box::new(no_latencies()))
            .saturating_record_n(nanos.max(1), u32::try_from(calls).unwrap_or(u32::MAX));
    }
}

/// A distribution of nanoseconds up to a second, right to two digits.
pub type Latencies = Histogram<u32>;

fn no_latencies() -> Latencies {
    Histogram::new_with_bounds(1, 1_000_000_000, 2).expect("bounds in order")
}

/// How long calls of each command took, of those that were called.
pub fn latencies(server: &Server) -> Vec<(&'static Command, Latencies)> {
    let of = |number: usize| {
        let mut sum: Option<Latencies> = None;
        for worker in &server.workers {
            let latency = worker.stats.commands[number]
                .latency
                .lock()
                .expect("no holder of this lock panics");
            if let Some(latency) = latency.as_deref() {
                sum.get_or_insert_with(no_latencies)
                    .add(latency)
                    .expect("all have the same bounds");
            }
        }
        sum.filter(|sum| !sum.is_empty())
    };
    let all = commands().iter().enumerate();
    all.filter_map(|(number, command)| Some((*command, of(number)?)))
        .collect()
}

/// Forgets all distributions, as CONFIG RESETSTAT does.
pub fn forget_latencies(server: &Server) {
    for stat in server
        .workers
        .iter()
        .flat_map(|worker| &worker.stats.commands)
    {
        *stat.latency.lock().expect("no holder of this lock panics") = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_number_of_its_own() {
        let stats = WorkerStats::new();
        for command in commands() {
            stats.of(command).calls.add(1);
        }
        assert!(stats.commands.iter().all(|stat| stat.calls.get() == 1));
        assert!(count() > 150);
    }

    #[test]
    fn runs_are_counted_as_calls() {
        let stats = WorkerStats::new();
        let (get, set) = (commands::find(b"get"), commands::find(b"set"));
        let (get, set) = (get.expect("a command"), set.expect("a command"));
        let mut tally = Tally::new(true);
        let mut ended = Vec::new();
        for (index, (command, bytes)) in [(get, 3), (get, 5), (get, 4), (set, 1), (get, 2)]
            .into_iter()
            .enumerate()
        {
            ended.extend(tally.count(command, index, bytes, &stats));
        }
        ended.extend(tally.flush(&stats));
        let ended: Vec<_> = ended
            .iter()
            .map(|run| (run.command.name, run.largest))
            .collect();
        assert_eq!(ended, [("get", 1), ("set", 3), ("get", 4)]);
        assert_eq!(stats.of(get).calls.get(), 4);
        assert_eq!(stats.of(set).calls.get(), 1);
    }
}
