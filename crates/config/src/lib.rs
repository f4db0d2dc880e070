//! The server's configuration: the table of directives, redis.conf syntax, CONFIG GET, SET and REWRITE.
//!
//! What this crate owns: the names, kinds, defaults and error texts of all directives (one row each, in
//! [`table`] and [`accepted`]), and the typed [`Config`] that they fill. What it leaves to the server: acting on a
//! value (listening, changing directory, opening logs) and publishing the new `Config` to the workers.
//!
//! Invariants:
//! - a `Config` only ever holds values that its rows accept;
//! - [`Config::set`] changes everything it was asked to or nothing;
//! - no bytes, from a file, an argument or a client, make any function here panic.

#![forbid(unsafe_code)]

mod accepted;
mod choices;
mod get_set;
mod glob;
mod kind;
mod load;
mod rewrite;
mod settings;
mod table;
mod words;

pub use choices::{
    AclPubsubDefault, AofWritePath, AppendFsync, CrossShard, IoBackend, LocalAccess, LogLevel,
    MaxmemoryPolicy, SanitizeDump, StorageBackend, Supervised, TlsAuthClients,
};
pub use get_set::{Origin, SetError};
pub use kind::{
    BufferLimit, BufferLimits, EventClasses, Kind, MemoryShare, SavePoint, ShutdownOn, Value,
};
pub use load::{ConfigFileError, FileSystem, IncludeFiles, Source};
pub use rewrite::{rewrite, REWRITE_HEADING};
pub use settings::{Config, UserLine};
pub use table::{accepted_only_names, directives, find, Directive, Flags};
pub use words::{quote, split_args};

/// The name and version that error reports and the log show.
pub const SERVER_NAME_AND_VERSION: &str = concat!("Basalt ", env!("CARGO_PKG_VERSION"));
