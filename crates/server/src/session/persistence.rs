//! SAVE, BGSAVE, BGREWRITEAOF, LASTSAVE and SHUTDOWN. The coordinator does the work; which child
//! may start is settled here, under the lock of the plans, so that the replies are true.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::MutexGuard;

use commands::{args, errors, Command, CommandError, CommandResult};
use resp::Argv;

use super::Host;
use crate::coordinator::{Request, SaveOnShutdown, WholeDatabases};
use crate::snapshot::{ChildKind, Plans};
use crate::worker::connection::Connection;
use crate::worker::Worker;

const SAVE_IN_PROGRESS: CommandError = CommandError::new("ERR Background save already in progress");
const OTHER_CHILD: CommandError = CommandError::new(
    "ERR Another child process is active (AOF?): can't BGSAVE right now. \
     Use BGSAVE SCHEDULE in order to schedule a BGSAVE whenever possible.",
);
const REWRITE_IN_PROGRESS: CommandError =
    CommandError::new("ERR Background append only file rewriting already in progress");
const NO_SHUTDOWN: CommandError = CommandError::new("ERR No shutdown in progress.");

impl Worker {
    fn plans(&self) -> MutexGuard<'static, Plans> {
        self.server
            .snapshot
            .plans
            .lock()
            .expect("no holder of this lock panics")
    }

    /// Posts a request to the coordinator.
    pub(super) fn request(&self, request: Request) {
        // Without its receiver the process is about to end.
        let _ = self.server.coordinator.send(request);
    }

    /// Whether a command about whole databases would log more keys one by one than a new generation of the AOF costs.
    pub(crate) fn concerns_many_keys(
        &mut self,
        c: &Connection,
        command: &'static Command,
        argv: Argv<'_>,
    ) -> Result<bool, CommandError> {
        let server = self.server;
        let count = self.config.databases;
        let databases = commands::whole_databases(command, argv, c.db, count)?;
        if !server.aof.is_on() || server.shards.len() == 1 {
            return Ok(false);
        }
        let keys: usize = server
            .shard_indexes()
            .map(|index| {
                let lens = |shard: &mut keyspace::Shard| {
                    databases
                        .iter()
                        .map(|db| shard.db(*db).len())
                        .sum::<usize>()
                };
                server.with_shard(index, lens)
            })
            .sum();
        Ok(keys > server.logged_one_by_one_max)
    }

    /// Has the coordinator run the command with an AOF generation of its own.
    pub(crate) fn run_between_generations(
        &mut self,
        c: &mut Connection,
        command: &'static Command,
        argv: Argv<'_>,
    ) {
        let caller = c.caller();
        let reply_to = self.wait_for_reply(c);
        self.request(Request::BetweenGenerations(Box::new(WholeDatabases {
            command,
            argv: argv.to_owned(),
            caller,
            reply_to,
        })));
    }

    pub(super) fn save(&mut self, c: &mut Connection) -> CommandResult {
        if self.plans().child == Some(ChildKind::Snapshot) {
            return Err(SAVE_IN_PROGRESS);
        }
        let reply_to = self.wait_for_reply(c);
        self.request(Request::Save(reply_to));
        Ok(())
    }

    pub(super) fn bgsave(
        &mut self,
        c: &mut Connection,
        argv: Argv<'_>,
        situation: &Host<'_, '_>,
    ) -> CommandResult {
        let schedule = match (argv.len(), argv.get(1)) {
            (1, _) => false,
            (2, Some(word)) if args::is(word, "schedule") => true,
            _ => return Err(errors::SYNTAX),
        };
        let mut plans = self.plans();
        match plans.child {
            Some(ChildKind::Snapshot) => return Err(SAVE_IN_PROGRESS),
            // Children are forked between transactions only.
            _ if situation.in_transaction() => plans.snapshot_scheduled = true,
            Some(ChildKind::Rewrite) if schedule => plans.snapshot_scheduled = true,
            Some(ChildKind::Rewrite) => return Err(OTHER_CHILD),
            None => {
                plans.child = Some(ChildKind::Snapshot);
                drop(plans);
                // It replies once the child is there.
                let reply_to = self.wait_for_reply(c);
                self.request(Request::StartChild(ChildKind::Snapshot, reply_to));
                return Ok(());
            }
        }
        c.reply().simple("Background saving scheduled");
        Ok(())
    }

    pub(super) fn bgrewriteaof(
        &mut self,
        c: &mut Connection,
        situation: &Host<'_, '_>,
    ) -> CommandResult {
        let mut plans = self.plans();
        match plans.child {
            Some(ChildKind::Rewrite) => return Err(REWRITE_IN_PROGRESS),
            None if !situation.in_transaction() => {
                plans.child = Some(ChildKind::Rewrite);
                drop(plans);
                let reply_to = self.wait_for_reply(c);
                self.request(Request::StartChild(ChildKind::Rewrite, reply_to));
            }
            _ => {
                plans.rewrite_scheduled = true;
                c.reply()
                    .simple("Background append only file rewriting scheduled");
            }
        }
        Ok(())
    }

    pub(super) fn lastsave(&mut self, c: &mut Connection) -> CommandResult {
        c.reply()
            .integer(self.server.last_save_seconds.load(Relaxed));
        Ok(())
    }

    pub(super) fn shutdown(&mut self, c: &mut Connection, argv: Argv<'_>) -> CommandResult {
        let (mut save, mut nosave, mut now, mut force, mut abort) =
            (false, false, false, false, false);
        for word in argv.from(1).iter() {
            let option = [
                ("save", &mut save),
                ("nosave", &mut nosave),
                ("now", &mut now),
                ("force", &mut force),
                ("abort", &mut abort),
            ]
            .into_iter()
            .find(|(name, _)| args::is(word, name));
            *option.ok_or(errors::SYNTAX)?.1 = true;
        }
        if (save && nosave) || (abort && (save || nosave || now || force)) {
            return Err(errors::SYNTAX);
        }
        if abort {
            // Nothing here delays a shutdown, so there is never one to take back.
            return Err(NO_SHUTDOWN);
        }
        if !nosave && self.server.scripts.is_busy() {
            return Err(self.server.scripts.busy());
        }
        let save = match (save, nosave) {
            (true, _) => SaveOnShutdown::Always,
            (_, true) => SaveOnShutdown::Never,
            _ => SaveOnShutdown::Default,
        };
        let reply_to = Some(self.wait_for_reply(c));
        self.request(Request::Shutdown {
            save,
            now,
            force,
            reply_to,
        });
        Ok(())
    }
}
