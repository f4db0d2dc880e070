//! The check tools: `basalt-check-rdb` and `basalt-check-aof`, and what they are under Redis's names.
//!
//! Reading and repairing files is the business of `persistence`; here are arguments, texts and questions. Started under
//! a name that begins with `redis-` or `valkey-`, a tool says what Redis's says, byte for byte, and nothing more; under
//! its own it says that too for files of stock servers, and adds what it knows. The server hands over to
//! [`run_by_name`] when it is started under one of Redis's names, as a link to `redis-server` may be.
//! Invariants: nothing is changed without a question or `--yes`; standard output carries the findings and nothing else.

#![forbid(unsafe_code)]

pub mod aof;
mod counted;
pub mod json;
pub mod options;
pub mod progress_bar;
pub mod rdb;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

/// The version of Redis whose texts are spoken under its names.
pub use persistence::rdb::snapshot::REDIS_VERSION;

/// Whose manners a tool has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manners {
    Basalt,
    Redis,
}

/// The name a process was started under, without its folder.
pub fn started_as(argv0: &OsStr) -> String {
    let name = Path::new(argv0).file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Runs the tool that goes by this name of Redis's (or ours), if there is one.
pub fn run_by_name(name: &str, args: &[OsString]) -> Option<ExitCode> {
    let manners = match name.split_once("-check-") {
        Some(("redis" | "valkey", _)) => Manners::Redis,
        Some(("basalt", _)) => Manners::Basalt,
        _ => return None,
    };
    match name.split_once("-check-")?.1 {
        "rdb" => Some(rdb::main(name, manners, args)),
        "aof" => Some(aof::main(name, manners, args)),
        _ => None,
    }
}

/// The main function of both tools. `own_name` is what it is if it was started under a name of no meaning.
pub fn main_of(own_name: &str) -> ExitCode {
    let mut args = std::env::args_os();
    let name = started_as(&args.next().unwrap_or_default());
    let args: Vec<OsString> = args.collect();
    run_by_name(&name, &args)
        .or_else(|| run_by_name(own_name, &args))
        .expect("a tool knows its own name")
}

/// What `--version` prints.
pub fn version_line(name: &str, manners: Manners) -> String {
    let bits = usize::BITS;
    let ours = env!("CARGO_PKG_VERSION");
    match manners {
        Manners::Redis => format!(
            "{name} v={REDIS_VERSION} sha=00000000:0 malloc=libc bits={bits} build=basalt-{ours}"
        ),
        Manners::Basalt => format!("{name} v={ours} redis={REDIS_VERSION} bits={bits}"),
    }
}

/// What went wrong before there was anything to report.
pub fn fail(name: &str, reason: impl std::fmt::Display) -> ExitCode {
    eprintln!("{name}: {reason}");
    ExitCode::FAILURE
}
