//! Scripts and functions: what workers share of them, and how a worker runs one.
//!
//! Each worker has a Lua state of its own, made at the first use, and compiles there what it runs. Texts of scripts and
//! libraries are shared: a worker that finds the shared generation changed forgets what is not there any more. So what
//! SCRIPT FLUSH and FUNCTION do holds at every worker before it is answered.
//!
//! A script that runs for longer than `busy-reply-threshold` is *interrupted* again and again: the shards it
//! has are marked as reserved, their batons are given back, and its worker serves others meanwhile. Whoever needs one of
//! these shards is told BUSY.

pub mod cache;
mod host;
pub mod libraries;
mod run;

use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicU8,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::Mutex;

use commands::CommandError;

use crate::log;

use cache::ScriptCache;
use libraries::Registry;
pub use run::{count_of_keys, Program, WorkerScripts};

pub const BUSY_SCRIPT: CommandError = CommandError::new(
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
);
pub const BUSY_FUNCTION: CommandError = CommandError::new(
    "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.",
);
const NOT_BUSY: CommandError = CommandError::new("NOTBUSY No scripts in execution right now.");
const UNKILLABLE: CommandError = CommandError::new(
    "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.",
);

/// What a slow run is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Script,
    Function,
}

impl Kind {
    fn busy(self) -> CommandError {
        match self {
            Kind::Script => BUSY_SCRIPT,
            Kind::Function => BUSY_FUNCTION,
        }
    }

    fn kill_command(self) -> &'static str {
        match self {
            Kind::Script => "SCRIPT KILL",
            Kind::Function => "FUNCTION KILL",
        }
    }
}

/// What other workers may know of a worker's run that is slow.
#[derive(Default)]
pub struct SlowRun {
    /// 0: nothing; otherwise the kind and one.
    kind: AtomicU8,
    wrote: AtomicBool,
    kill: AtomicBool,
    about: Mutex<About>,
}

/// What FUNCTION STATS tells of a run.
#[derive(Clone, Default)]
pub struct About {
    pub name: Vec<u8>,
    pub command: Vec<Vec<u8>>,
    pub began_ms: i64,
}

impl SlowRun {
    fn kind(&self) -> Option<Kind> {
        match self.kind.load(Acquire) {
            0 => None,
            1 => Some(Kind::Script),
            _ => Some(Kind::Function),
        }
    }

    fn begin(&self, kind: Kind, wrote: bool, about: About) {
        *self.about.lock().expect("no holder of this lock panics") = about;
        self.kill.store(false, Relaxed);
        self.wrote.store(wrote, Relaxed);
        let value = match kind {
            Kind::Script => 1,
            Kind::Function => 2,
        };
        self.kind.store(value, Release);
    }

    fn end(&self) {
        self.kind.store(0, Release);
    }
}

/// Writes what a script says to the log.
fn log_text(level: scripting::LogLevel, text: &[u8]) {
    let text = String::from_utf8_lossy(text).escape_debug().to_string();
    match level {
        scripting::LogLevel::Debug => log!(Debug, "{text}"),
        scripting::LogLevel::Verbose => log!(Verbose, "{text}"),
        scripting::LogLevel::Notice => log!(Notice, "{text}"),
        scripting::LogLevel::Warning => log!(Warning, "{text}"),
    }
}

/// What all workers share of scripts.
pub struct Scripts {
    pub cache: ScriptCache,
    pub libraries: Registry,
    /// By worker.
    slow: Box<[SlowRun]>,
    /// Bytes of each worker's Lua state.
    lua_bytes: Box<[AtomicU64]>,
}

impl Scripts {
    pub fn new(workers: usize) -> Scripts {
        Scripts {
            cache: ScriptCache::default(),
            libraries: Registry::default(),
            slow: (0..workers).map(|_| SlowRun::default()).collect(),
            lua_bytes: (0..workers).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Bytes of all Lua states.
    pub fn lua_bytes(&self) -> u64 {
        self.lua_bytes.iter().map(|bytes| bytes.load(Relaxed)).sum()
    }

    /// What is told to who needs something that a slow script has.
    pub fn busy(&self) -> CommandError {
        let kinds = self.slow.iter().find_map(SlowRun::kind);
        kinds.unwrap_or(Kind::Script).busy()
    }

    /// Whether some script is slow, so that shards may be reserved.
    pub fn is_busy(&self) -> bool {
        self.slow.iter().any(|slow| slow.kind().is_some())
    }

    /// SCRIPT KILL and FUNCTION KILL: has what is slow end, as far as it has not written.
    pub fn kill(&self, kind: Kind) -> Result<(), CommandError> {
        let running = || {
            self.slow
                .iter()
                .filter_map(|slow| Some((slow, slow.kind()?)))
        };
        if running().next().is_none() {
            return Err(NOT_BUSY);
        }
        let mut of_kind = running().filter(|(_, running)| *running == kind).peekable();
        if of_kind.peek().is_none() {
            let other = running().next().map_or(kind, |(_, running)| running);
            return Err(other.busy());
        }
        let mut killed = false;
        for (slow, _) in of_kind {
            if !slow.wrote.load(Relaxed) {
                slow.kill.store(true, Relaxed);
                killed = true;
            }
        }
        match killed {
            true => Ok(()),
            false => Err(UNKILLABLE),
        }
    }

    /// What is slow, for FUNCTION STATS.
    pub fn slow_function(&self) -> Option<About> {
        let mut running = self
            .slow
            .iter()
            .filter(|slow| slow.kind() == Some(Kind::Function));
        let slow = running.next()?;
        Some(
            slow.about
                .lock()
                .expect("no holder of this lock panics")
                .clone(),
        )
    }
}
