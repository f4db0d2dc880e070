//! MULTI, EXEC, DISCARD, WATCH and UNWATCH.
//!
//! EXEC takes the batons of every shard that a queued command or a watched key is in, checks the
//! watches, runs the commands one after another over one view, and writes the effects of each
//! shard as one transaction of its log.

use commands::{errors, Command, CommandError, CommandResult, HostCommand, Run};
use keyspace::log::Mark;
use keyspace::{DbIndex, Key, Shard, ShardIndex, View};
use resp::{Argv, OwnedArgv};

use crate::pause::may_change;
use crate::session::{Host, ALL_SHARDS_HOST_COMMANDS, SCRIPT_HOST_COMMANDS};
use crate::worker::connection::Connection;
use crate::worker::route::ShardSet;
use crate::worker::Worker;

/// Commands queued since MULTI.
#[derive(Default)]
pub struct Transaction {
    queued: Vec<(&'static Command, OwnedArgv)>,
    /// Bytes of the queued arguments.
    bytes: usize,
    /// A command was refused when it was to be queued: EXEC will refuse as well.
    aborted: bool,
}

impl Transaction {
    pub fn len(&self) -> usize {
        self.queued.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn queue(&mut self, command: &'static Command, argv: Argv<'_>) {
        self.bytes += argv.iter().map(<[u8]>::len).sum::<usize>();
        self.queued.push((command, argv.to_owned()));
    }

    /// Whether a command is queued that is refused when memory is short.
    pub fn needs_memory(&self) -> bool {
        self.queued
            .iter()
            .any(|(command, _)| command.needs_memory())
    }

    pub fn may_change(&self) -> bool {
        self.queued.iter().any(|(command, _)| may_change(command))
    }

    fn runs_scripts(&self) -> bool {
        let runs = |command: &Command| matches!(command.run, Run::Host(host) if SCRIPT_HOST_COMMANDS.contains(&host));
        self.queued.iter().any(|(command, _)| runs(command))
    }

    pub fn abort(&mut self) {
        self.aborted = true;
    }
}

/// The keys a connection watches, with the version of each that it saw.
#[derive(Default)]
pub struct Watches {
    keys: Vec<(DbIndex, Box<[u8]>, u64)>,
}

impl Watches {
    pub fn len(&self) -> usize {
        self.keys.len()
    }
}

const EXEC_WITHOUT_MULTI: CommandError = CommandError::new("ERR EXEC without MULTI");
const DISCARD_WITHOUT_MULTI: CommandError = CommandError::new("ERR DISCARD without MULTI");
const NESTED_MULTI: CommandError = CommandError::new("ERR MULTI calls can not be nested");
const WATCH_INSIDE_MULTI: CommandError = CommandError::new("ERR WATCH inside MULTI is not allowed");
const EXEC_ABORT: CommandError =
    CommandError::new("EXECABORT Transaction discarded because of previous errors.");

impl Worker {
    pub(super) fn multi(&mut self, c: &mut Connection) -> CommandResult {
        if c.transaction.is_some() {
            return Err(NESTED_MULTI);
        }
        c.transaction = Some(Transaction::default());
        c.reply().ok();
        Ok(())
    }

    pub(super) fn discard(&mut self, c: &mut Connection) -> CommandResult {
        c.transaction.take().ok_or(DISCARD_WITHOUT_MULTI)?;
        self.forget_watches(c);
        c.reply().ok();
        Ok(())
    }

    pub(super) fn watch(&mut self, c: &mut Connection, argv: Argv<'_>) -> CommandResult {
        if c.transaction.is_some() {
            return Err(WATCH_INSIDE_MULTI);
        }
        let (server, db, now) = (self.server, c.db, self.now);
        for bytes in argv.from(1).iter() {
            if c.watches
                .keys
                .iter()
                .any(|(watched_db, key, _)| *watched_db == db && **key == *bytes)
            {
                continue;
            }
            let key = Key::new(bytes, &server.slots);
            let version = self.with_shard(key.shard, |shard| {
                // A key whose time has passed counts as absent from here on.
                shard.expire_if_due(db, key, now);
                shard.watches.watch(db, bytes)
            });
            c.watches.keys.push((db, bytes.into(), version));
        }
        c.reply().ok();
        Ok(())
    }

    pub(super) fn unwatch(&mut self, c: &mut Connection) -> CommandResult {
        self.forget_watches(c);
        c.reply().ok();
        Ok(())
    }

    /// Takes back all watches of a connection; no baton may be held.
    pub fn forget_watches(&mut self, c: &mut Connection) {
        let slots = self.server.slots;
        for (db, key, _) in std::mem::take(&mut c.watches.keys) {
            self.with_shard(slots.shard_of(&key), |shard| {
                shard.watches.unwatch(db, &key)
            });
        }
    }

    pub(super) fn exec(&mut self, c: &mut Connection) -> CommandResult {
        let transaction = c.transaction.take().ok_or(EXEC_WITHOUT_MULTI)?;
        if transaction.aborted {
            self.forget_watches(c);
            return Err(EXEC_ABORT);
        }
        if let Some(refusal) = self.refusal_of_transaction(&transaction) {
            self.forget_watches(c);
            return Err(refusal);
        }
        let server = self.server;
        let shards = shards_of(&transaction, &c.watches, server.slots);
        let start = c.out.len();
        let guards = match transaction.runs_scripts() {
            true => self
                .check_free()
                .and_then(|()| self.take_free_batons(&shards)),
            false => self.take_free_batons(&shards),
        };
        let mut guards = match guards {
            Ok(guards) => guards,
            Err(busy) => {
                self.forget_watches(c);
                return Err(discarded_because_of(busy.text()));
            }
        };
        let marks: Vec<Mark> = guards.iter().map(|(_, guard)| guard.log.mark()).collect();
        let mut view = View::several(
            guards.iter_mut().map(|(_, guard)| &mut **guard).collect(),
            server.slots,
        );
        let unchanged = self.watches_hold(&c.watches, &mut view);
        // Before the commands run: an UNWATCH among them must find nothing that needs a baton.
        let watched = std::mem::take(&mut c.watches.keys);
        for (db, key, _) in &watched {
            view.shard_mut(server.slots.shard_of(key))
                .watches
                .unwatch(*db, key);
        }
        if unchanged {
            if let Some(observer) = &self.env.observer {
                observer.transaction(true);
            }
            c.reply().array(transaction.queued.len());
            for (command, argv) in &transaction.queued {
                self.run_queued(c, command, argv.argv(), &mut view);
            }
            self.seal_transaction(view.shards_mut(), &marks);
            if let Some(observer) = &self.env.observer {
                observer.transaction(false);
            }
        } else {
            c.reply().null_array();
        }
        drop(view);
        let shown: Vec<_> = if unchanged {
            let queued = transaction.queued.iter();
            queued
                .map(|(command, argv)| (*command, argv.argv()))
                .collect()
        } else {
            Vec::new()
        };
        self.note_shown(c, start, &mut guards, &marks, &shown);
        if !unchanged {
            // That something was written is shown as well.
            let keys = watched.iter().map(|(_, key, _)| &**key);
            self.note_shown_keys(c, start, &guards, keys);
        }
        self.after_held(Some(c.origin(self.index)), &mut guards);
        self.release_all(guards);
        Ok(())
    }

    /// EXEC checks again what may have changed since its commands were queued.
    fn refusal_of_transaction(&self, transaction: &Transaction) -> Option<CommandError> {
        let writes = transaction
            .queued
            .iter()
            .any(|(command, _)| command.is_write());
        let refusal = self.refusal_of_writes().filter(|_| writes)?;
        Some(discarded_because_of(refusal.text()))
    }

    fn watches_hold(&self, watches: &Watches, view: &mut View<'_>) -> bool {
        let (slots, now) = (self.server.slots, self.now);
        watches.keys.iter().all(|(db, bytes, version)| {
            let key = Key::new(bytes, &slots);
            let shard = view.shard_mut(key.shard);
            shard.expire_if_due(*db, key, now);
            shard.watches.is_unchanged(*db, bytes, *version)
        })
    }

    fn run_queued(
        &mut self,
        c: &mut Connection,
        command: &'static Command,
        argv: Argv<'_>,
        view: &mut View<'_>,
    ) {
        c.commands += 1;
        let start = c.out.len();
        let began = std::time::Instant::now();
        if let Err(refusal) = self.admit_queued(c, command, argv) {
            self.count_error(refusal.text());
            c.reply().error(refusal.text());
            return;
        }
        self.monitor_script(c, command, argv);
        let result = match command.run {
            Run::Keys(handler)
            | Run::AllShards(handler)
            | Run::WholeDatabases(handler)
            | Run::Cursor(handler)
            | Run::Nowhere(handler) => {
                let caller = c.caller();
                let result = self
                    .env
                    .call(handler, view, caller, self.now, argv, None, &mut c.out);
                self.after_call(command, &result);
                self.remember_reads(c, command, argv, view);
                result
            }
            Run::Host(host) => self.host(c, host, command, argv, Host::InTransaction(view)),
            Run::Container => Err(errors::SYNTAX),
        };
        self.show_to_monitors(c, command, argv);
        self.note_call(c, command, argv, began.elapsed(), 1);
        if let Err(error) = result {
            c.out.truncate(start);
            self.stats().of(command).failed.add(1);
            self.count_error(error.text());
            c.reply().error(error.text());
        }
    }

    /// Makes the effects since the marks one transaction in each shard's log, tied together by
    /// an annotation when there are several shards.
    pub(crate) fn seal_transaction(&mut self, shards: &mut [&mut Shard], marks: &[Mark]) {
        let effects: Vec<u64> = shards
            .iter()
            .zip(marks)
            .map(|(shard, mark)| shard.log.effects_since(*mark))
            .collect();
        let participants: Vec<ShardIndex> = shards
            .iter()
            .zip(&effects)
            .filter(|(_, effects)| **effects > 0)
            .map(|(shard, _)| shard.index())
            .collect();
        if effects.iter().sum::<u64>() < 2 {
            return;
        }
        let annotation = if participants.len() > 1 {
            self.server.aof.transaction_annotation(&participants)
        } else {
            Vec::new()
        };
        for ((shard, mark), effects) in shards.iter_mut().zip(marks).zip(&effects) {
            if *effects > 0 {
                shard.log.wrap(*mark, &annotation);
                if participants.len() > 1 {
                    shard.log.link(&participants);
                }
            }
        }
    }
}

fn discarded_because_of(reason: &[u8]) -> CommandError {
    [b"EXECABORT Transaction discarded because of: ", reason]
        .concat()
        .into()
}

fn shards_of(transaction: &Transaction, watches: &Watches, slots: keyspace::SlotMap) -> ShardSet {
    let mut shards = ShardSet::new(slots);
    for (command, argv) in &transaction.queued {
        match command.run {
            Run::AllShards(_) | Run::WholeDatabases(_) | Run::Cursor(_) => shards.add_all(),
            Run::Host(host)
                if ALL_SHARDS_HOST_COMMANDS.contains(&host)
                    || SCRIPT_HOST_COMMANDS.contains(&host) =>
            {
                shards.add_all();
            }
            Run::Keys(_) => shards.add_keys(command, argv.argv()),
            Run::Nowhere(_) | Run::Host(_) | Run::Container => {}
        }
    }
    for (_, key, _) in &watches.keys {
        shards.add(slots.shard_of(key));
    }
    shards
}

pub fn is_exec(command: &Command) -> bool {
    matches!(command.run, Run::Host(HostCommand::Exec))
}

/// Commands that run at once inside a transaction instead of being queued.
pub fn is_transaction_control(command: &Command) -> bool {
    use HostCommand::{Discard, Exec, Multi, Quit, Reset, Watch};
    matches!(
        command.run,
        Run::Host(Multi | Exec | Discard | Watch | Quit | Reset)
    )
}
