//! What INFO commandstats shows: calls, time, rejections and failures of each command.
//!
//! Commands get small numbers at the first use, found by the address of their row. Each worker
//! has a table of its own. Commands that run on one shard are counted in runs of the same
//! command, and only every 16th batch of them is timed (reading the clock takes longer than a
//! GET's share of a batch); everything else is timed call by call.

use std::sync::OnceLock;
use std::time::Instant;

use commands::Command;

use crate::stats::{Counter, WorkerStats};

/// One of so many batches is timed.
pub const TIMED_EVERY: u64 = 16;

/// A worker's counts of one command.
#[derive(Default)]
pub struct CommandStat {
    pub calls: Counter,
    pub nanos: Counter,
    /// Refused before they ran.
    pub rejected: Counter,
    /// Replied an error.
    pub failed: Counter,
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

/// Counts a batch's commands in runs of the same one.
pub struct Tally {
    command: Option<&'static Command>,
    calls: u64,
    began: Option<Instant>,
}

impl Tally {
    #[inline]
    pub fn new(timed: bool) -> Tally {
        Tally {
            command: None,
            calls: 0,
            began: timed.then(Instant::now),
        }
    }

    /// Counts a call, which is about to run.
    #[inline]
    pub fn count(&mut self, command: &'static Command, stats: &WorkerStats) {
        if !self
            .command
            .is_some_and(|counted| std::ptr::eq(counted, command))
        {
            self.flush(stats);
            self.command = Some(command);
        }
        self.calls += 1;
    }

    /// Ends a run: adds what was counted.
    pub fn flush(&mut self, stats: &WorkerStats) {
        let Some(command) = self.command.take() else {
            return;
        };
        let stat = stats.of(command);
        stat.calls.add(std::mem::take(&mut self.calls));
        if let Some(began) = &mut self.began {
            let now = Instant::now();
            let nanos = now.duration_since(*began).as_nanos() as u64;
            stat.nanos.add(nanos * TIMED_EVERY);
            *began = now;
        }
    }

    /// Charges nothing of what went on since the last run to the next.
    pub fn forget_time(&mut self) {
        if let Some(began) = &mut self.began {
            *began = Instant::now();
        }
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
        for command in [get, get, set, get] {
            tally.count(command, &stats);
        }
        tally.flush(&stats);
        assert_eq!(stats.of(get).calls.get(), 3);
        assert_eq!(stats.of(set).calls.get(), 1);
    }
}
