//! The keyspace: shards with their databases, keys, expiries, watches and logs, and the batons
//! that give one thread at a time the right to run on a shard.
//!
//! What a value is made of belongs to `datatypes`; what a command does with it to `commands`.
//! Nothing here reads a clock, opens a file or knows a socket.

pub mod access;
mod atomics;
pub mod baton;
pub mod db;
pub mod entry;
pub mod evict;
pub mod field_expiries;
pub mod inbox;
pub mod log;
pub mod pending;
pub mod post;
pub mod shard;
pub mod signals;
pub mod slots;
pub mod tracking;
pub mod types;
pub mod view;
pub mod waits;
pub mod watch;

pub use access::{AccessClock, AccessPolicy};
pub use baton::Baton;
pub use db::{Db, Expiry};
pub use entry::{Entry, EntryRef, NewValue, OwnedValue, StringRef, ValueRef};
pub use evict::{Eviction, EvictionOrder};
pub use log::Log;
pub use pending::Pending;
pub use post::Post;
pub use shard::{Garbage, Shard};
pub use signals::{Events, Signal};
pub use slots::SlotMap;
pub use types::{DbIndex, HashSlot, Lsn, ShardIndex, UnixMillis};
pub use view::{Key, View};
pub use waits::{Claim, WaitTable, Waiter, Wanted};
