//! The server: workers, coordinator, sessions, persistence at work. `main.rs` only starts it.

mod acl;
pub mod allocator;
mod aof;
mod child;
mod clients;
mod clock;
mod codec;
mod command_stats;
mod coordinator;
pub mod crash;
mod drains;
mod exit;
mod load;
mod load_progress;
mod logger;
mod memory_limit;
pub mod names;
mod observe;
mod pause;
mod pubsub;
pub mod recovery;
mod renames;
mod replay;
mod safe_point;
mod scripts;
mod session;
mod shared;
mod signals;
#[doc(hidden)]
pub mod simulation;
mod snapshot;
pub mod startup;
mod stats;
pub mod supervision;
pub mod tls;
mod tracking;
mod worker;
