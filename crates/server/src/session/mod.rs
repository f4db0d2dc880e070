//! Commands about the connection or the server as a whole: the rows are in `commands`, the
//! functions here, one file per family.

mod client;
mod connection;
pub use connection::REDIS_VERSION;
pub mod transaction;

use commands::{Command, CommandError, CommandResult, HostCommand};
use keyspace::View;
use resp::Argv;

use crate::worker::connection::Connection;
use crate::worker::route::ShardSet;
use crate::worker::Worker;

/// In which situation a command of the host runs.
pub enum Host<'h, 'v> {
    /// By itself; no baton is held.
    Alone,
    /// Inside EXEC, which holds the batons of this view.
    InTransaction(&'h mut View<'v>),
}

/// Those that look at all shards, so that EXEC takes all batons for them.
pub const ALL_SHARDS_HOST_COMMANDS: &[HostCommand] = &[
    HostCommand::Info,
    HostCommand::Debug,
    HostCommand::ConfigResetstat,
];

impl Worker {
    /// Runs a command of the host; its reply is written unless it is an error or comes later.
    pub(crate) fn host(
        &mut self,
        c: &mut Connection,
        host: HostCommand,
        _command: &'static Command,
        argv: Argv<'_>,
        _situation: Host<'_, '_>,
    ) -> CommandResult {
        match host {
            HostCommand::Auth => self.auth(c, argv),
            HostCommand::Discard => self.discard(c),
            HostCommand::Exec => self.exec(c),
            HostCommand::Hello => self.hello(c, argv),
            HostCommand::Multi => self.multi(c),
            HostCommand::Ping => self.ping(c, argv),
            HostCommand::Quit => self.quit(c),
            HostCommand::Reset => self.reset(c),
            HostCommand::Select => self.select(c, argv),
            HostCommand::Unwatch => self.unwatch(c),
            HostCommand::Watch => self.watch(c, argv),
            _ => Err(CommandError::new("ERR soon")),
        }
    }

    /// Runs `f` on a view of all shards: the transaction's, or one made for it.
    #[allow(dead_code)]
    pub(crate) fn with_all_shards<R>(
        &mut self,
        c: &mut Connection,
        situation: Host<'_, '_>,
        f: impl FnOnce(&mut Worker, &mut Connection, &mut View<'_>) -> R,
    ) -> R {
        match situation {
            Host::InTransaction(view) => f(self, c, view),
            Host::Alone => {
                let slots = self.server.slots;
                let mut guards = self.take_batons(&ShardSet::all(slots));
                let mut view = View::several(
                    guards.iter_mut().map(|(_, guard)| &mut **guard).collect(),
                    slots,
                );
                let result = f(self, c, &mut view);
                drop(view);
                self.release_batons(c, guards);
                result
            }
        }
    }
}
