//! Commands that travel to a shard's inbox, and their replies that travel back.

use commands::Command;
use keyspace::{DbIndex, Lsn, ShardIndex};
use reactor::ConnId;
use resp::{OwnedArgv, Protocol};

/// What a command's run depends on of its connection.
#[derive(Clone, Copy)]
pub struct Caller {
    pub db: DbIndex,
    pub protocol: Protocol,
    pub no_touch: bool,
}

/// A command for one shard, to be run by whoever holds the shard's baton.
pub struct Posted {
    /// The worker and connection that wait for the reply.
    pub worker: usize,
    pub conn: ConnId,
    pub caller: Caller,
    pub command: &'static Command,
    pub argv: OwnedArgv,
}

/// What a command that has run has to do with its shard's log.
#[derive(Clone, Copy, Default)]
pub struct Logged {
    /// Where its effects end, if it has any.
    pub wrote: Option<Lsn>,
    /// What must be durable before its reply may leave.
    pub awaits: Option<Lsn>,
}

/// A posted command's reply.
pub struct Reply {
    pub conn: ConnId,
    pub bytes: Vec<u8>,
    pub is_error: bool,
    /// The shard it ran on, and what it has to do with that shard's log.
    pub logged: Option<(ShardIndex, Logged)>,
    /// The same of more shards.
    pub also_logged: Vec<(ShardIndex, Logged)>,
}

impl Reply {
    /// A reply that shows nothing of any log.
    pub fn early(conn: ConnId, bytes: Vec<u8>, is_error: bool) -> Reply {
        Reply {
            conn,
            bytes,
            is_error,
            logged: None,
            also_logged: Vec::new(),
        }
    }
}
