//! Scripts in Lua 5.1: a state with the libraries and the sandbox that Redis's scripts know, and the run of one script or
//! function at a time in it.
//!
//! Of the server this crate knows a [`Host`], which runs commands; it has no keys, no sockets and no files. A state
//! belongs to one thread. A run has a stack of its own, so that it can be left in the middle and gone on with later
//! ([`Engine::resume`]); nothing else of the thread is on that stack.

mod api;
mod bits;
mod context;
mod engine;
pub mod flags;
mod json;
mod memory;
mod msgpack;
mod replies;
pub mod source;
mod stack;
mod structs;

use std::time::Duration;

use resp::{Argv, Protocol};

pub use api::sha1_hex;
pub use context::Abort;
pub use engine::{Engine, Function, Invocation, Progress};

/// How long a library's code may take to register its functions.
pub const LOAD_TIMEOUT: Duration = Duration::from_millis(500);

/// A script's name: the SHA1 of its text, in hexadecimal.
pub type ScriptSha = [u8; 40];

/// What a script asks of the server, while it runs.
pub trait Host {
    /// Runs a command, and appends its reply, or the error it replies, to `reply`.
    fn call(&mut self, call: Call<'_>, reply: &mut Vec<u8>) -> Result<(), Refusal>;

    /// Whether the user may run this command; none if there is no such command.
    fn may_run(&mut self, argv: Argv<'_>) -> Option<bool>;

    fn log(&mut self, level: LogLevel, text: &[u8]);

    /// Asked now and then: whether a script that has run for so long goes on.
    fn look(&mut self, took: Duration) -> Verdict;
}

/// `redis.call`.
pub struct Call<'a> {
    pub argv: Argv<'a>,
    pub protocol: Protocol,
    /// Commands that write are refused.
    pub read_only: bool,
    /// Whether effects go to the log.
    pub logged: bool,
}

/// Why a command did not run.
pub enum Refusal {
    /// The script gets this error, which is counted already.
    Error(Vec<u8>),
    /// The script ends here, to start over under other circumstances.
    Restart,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    GoOn,
    /// The thread is wanted for something else; the script goes on with the next [`Engine::resume`].
    Suspend,
    Kill,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogLevel {
    Debug,
    Verbose,
    Notice,
    Warning,
}

/// Why a run has no result.
#[derive(Debug)]
pub struct Failure {
    /// An error reply, without the leading `-`.
    pub text: Vec<u8>,
    /// A command of the script replied it, and it is counted.
    pub is_counted: bool,
}

/// A function that a library's code has registered.
#[derive(Debug)]
pub(crate) struct Registered {
    pub name: Vec<u8>,
    pub description: Option<Vec<u8>>,
    pub flags: u8,
    /// The callback, in Lua's registry.
    pub reference: std::ffi::c_int,
}

/// Whether a library or a function may have this name.
pub fn is_function_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
}
