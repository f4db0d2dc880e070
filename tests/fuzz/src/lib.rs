//! Fuzz targets: what reads bytes that others wrote, and what must hold whatever the bytes are.
//!
//! [`TARGETS`] is the list. Each is a plain function over bytes that panics when a promise is broken; it runs under
//! libFuzzer (`tests/fuzz/run`) and, over the committed corpus and every past finding, as an ordinary test.
//! Invariants: a target is deterministic, touches no file, clock or socket, and keeps within [`allocation`]'s budget.

pub mod allocation;
pub mod content;
pub mod targets;

use targets::{aof, canary, config, dump, lzf, manifest, rdb, resp};

/// One entry of the list.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    /// Longer inputs find nothing new and are slow.
    pub input_bytes_max: usize,
    /// It has a planted bug that a working fuzzer finds within seconds.
    pub is_canary: bool,
}

const fn target(name: &'static str, run: fn(&[u8]), input_bytes_max: usize) -> Target {
    Target {
        name,
        run,
        input_bytes_max,
        is_canary: false,
    }
}

const fn canary(name: &'static str, run: fn(&[u8])) -> Target {
    Target {
        is_canary: true,
        ..target(name, run, 64)
    }
}

pub const TARGETS: [Target; 9] = [
    target("rdb", rdb::run, 16 << 10),
    target("dump", dump::run, 4 << 10),
    target("aof", aof::run, 8 << 10),
    target("manifest", manifest::run, 2 << 10),
    target("config", config::run, 2 << 10),
    target("resp", resp::run, 1 << 10),
    target("lzf", lzf::run, 4 << 10),
    canary("canary", canary::planted_panic),
    canary("canary-memory", canary::planted_allocation),
];

/// Memory that an input may cost: fixed buffers, and a multiple of its length. LZF expands by up to 88, and a value
/// exists a few times over while it is compared.
const BUDGET_BYTES: usize = 24 << 20;
const BUDGET_PER_BYTE: usize = 1024;

impl Target {
    pub fn named(name: &str) -> Option<&'static Target> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// Runs one input within its budget of memory.
    pub fn run(&self, input: &[u8]) {
        let budget = BUDGET_BYTES + input.len() * BUDGET_PER_BYTE;
        allocation::within(budget, || (self.run)(input));
    }
}
