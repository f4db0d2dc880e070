//! The whole server, simulated: thousands of histories, each from one seed, each with crashes and a check of what
//! the server recovered. See `docs/architecture.md` and `docs/how-to/simulate.md`.
//!
//! `make sim SEED=n` reruns one history and shows all that happened in it.

mod client;
mod disk;
mod journal;
mod model;
mod random;
mod recorder;
mod workload;
mod world;

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Mutex;

use world::{Counts, World};

const HISTORIES: u64 = 2000;
/// Beyond those, some that failed once, and what they had found.
const FAILED_ONCE: [(u64, &str); 9] = [
    (
        2997,
        "drains of a ring that only looked as if they had succeeded",
    ),
    (3721, "writes behind a clean end that had failed"),
    (
        3950,
        "writes to segments that a generation followed on the disk and not in memory",
    ),
    (
        4155,
        "marks of epochs that nothing made durable after a change to always",
    ),
    (5360, "a slow fdatasync that forgot what it was about"),
    (5555, "a second recovery that cut what the first had left"),
    (5981, "a drain that was never tried again"),
    (
        6597,
        "cuts that were written down before what they leave was durable",
    ),
    (9386, "a full disk, room, and a crash within a second of it"),
];
/// The hash key of all tables: iteration orders must repeat as well.
const HASH_SEED: u64 = 20_250_607;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs one history. The error says why it failed; with `verbose` comes what happened. `plain`: see
/// [`World::new`].
fn history(seed: u64, verbose: bool, plain: bool) -> (Result<(), String>, Vec<String>, Counts) {
    datatypes::ptr_table::set_hash_seed(HASH_SEED);
    let mut world = World::new(seed, verbose, plain);
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    let result = result.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("panic: {}", text.unwrap_or("without words")))
    });
    let (trace, counts) = (world.take_trace(), std::mem::take(&mut world.counts));
    (result, trace, counts)
}

fn report(seed: u64, error: &str) -> String {
    format!("history {seed} failed; rerun it with: make sim SEED={seed}\n{error}\n")
}

/// So many histories, on all cores. Those from `SEED` on, or `HISTORIES` of them, where the environment says so.
#[test]
fn histories_keep_every_promise() {
    let first = variable("FIRST").unwrap_or(1);
    let count = variable("HISTORIES").unwrap_or(HISTORIES);
    let next = AtomicU64::new(first);
    let failures = Mutex::new(Vec::new());
    let totals = Mutex::new(Counts::default());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| loop {
                let seed = next.fetch_add(1, Relaxed);
                if seed >= first + count {
                    return;
                }
                let (result, _, counts) = history(seed, false, false);
                totals.lock().expect("nobody panics with it").add(&counts);
                if let Err(error) = result {
                    failures
                        .lock()
                        .expect("nobody panics with it")
                        .push((seed, error));
                }
            });
        }
    });
    let totals = totals.into_inner().expect("nobody panics with it");
    println!("{count} histories: {totals:?}");
    let mut failures = failures.into_inner().expect("nobody panics with it");
    failures.sort();
    let Some((seed, error)) = failures.first() else {
        return;
    };
    let (_, trace, _) = history(*seed, true, false);
    let last = &trace[trace.len().saturating_sub(60)..];
    let lines = failures.iter().map(|(seed, error)| {
        let first = error.lines().next().unwrap_or_default();
        format!("  {seed}: {first}\n")
    });
    panic!(
        "the last steps of history {seed}:\n{}\n{}\n{} of {count} histories failed:\n{}",
        last.join("\n"),
        report(*seed, error),
        failures.len(),
        lines.collect::<String>()
    );
}

#[test]
fn histories_that_failed_once_fail_no_more() {
    for (seed, found) in FAILED_ONCE {
        if let (Err(error), ..) = history(seed, false, true) {
            panic!("as once by {found}: PLAIN=1 {}", report(seed, &error));
        }
    }
}

/// `make sim SEED=n`.
#[test]
fn one_history_in_full() {
    let Some(seed) = variable("SEED") else {
        return;
    };
    let plain = variable("PLAIN").is_some();
    let (result, trace, counts) = history(seed, true, plain);
    println!("{}\n{counts:?}", trace.join("\n"));
    if let Err(error) = result {
        panic!("{}", report(seed, &error));
    }
}

#[test]
fn a_seed_gives_the_same_history_again() {
    for seed in 1..4 {
        let (first, second) = (history(seed, true, false), history(seed, true, false));
        let differs = first.1.iter().zip(&second.1).position(|(a, b)| a != b);
        assert_eq!(differs.map(|at| (&first.1[at], &second.1[at])), None);
        assert_eq!(first.1.len(), second.1.len());
    }
}
