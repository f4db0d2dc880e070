//! The commands: a row of data and a function for each, side by side in one file per family.
//!
//! A function sees the shards it may touch, the time and its arguments through [`Ctx`]; it has
//! no socket, clock, file or random source of its own. Commands that concern the connection or
//! the whole server have their rows here and their functions in `server` (see [`HostCommand`]).

#![forbid(unsafe_code)]

pub mod acl;
pub mod args;
pub mod command;
pub mod context;
pub mod errors;
pub mod help;
pub mod key_spec;
pub mod table;
pub mod wait;

mod bitmaps;
mod docs;
mod effects;
mod elements;
mod expiry;
mod geo;
mod hashes;
mod host;
mod hyperloglog;
mod keys;
mod lists;
mod pubsub;
mod scan_options;
mod sets;
mod sorted_sets;
mod streams;
mod strings;
#[cfg(test)]
mod testing;

pub use acl::Categories;
pub use command::{Command, Deprecated, Flags, Group, HostCommand, Run};
pub use context::{Codec, Ctx, Effect, Keyspace, RestoredValue};
pub use errors::{CommandError, CommandResult};
pub use key_spec::{Begin, Find, KeySpec};
pub use keys::databases::whole_databases;
pub use keys::iterate::cursor_shard;
pub use table::{all, find, find_by_full_name, find_subcommand};
pub use wait::Wait;

/// The version of Redis whose behaviour is tracked; clients decide by it what they may use.
pub const REDIS_VERSION: &str = "7.4.0";
