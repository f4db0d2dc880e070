//! How far logs must be before replies may leave.
//!
//! Without `appendfsync always` a reply leaves when the logs of the shards it was made on are
//! written. Under `always` it leaves when what it shows is durable: its own effects, the last
//! change of every key it read, and of a reply about no key in particular (DBSIZE, SCAN) the whole
//! log of each shard it looked at. Who read other keys waits for nobody, not even for a write(2).
//!
//! A shard begins to note changes ([`keyspace::Pending`]) when the first reply under `always` asks;
//! what came before counts as not durable until the log is durable up to there.

use commands::{Command, Run};
use datatypes::ptr_table::hash_bytes;
use keyspace::log::Mark;
use keyspace::{Key, Lsn, Shard, ShardIndex};
use resp::Argv;

use super::batons::Held;
use super::connection::Connection;
use super::Worker;
use crate::session::SCRIPT_HOST_COMMANDS;

/// What a reply shows of a shard.
#[derive(Clone, Copy)]
pub enum Shows<'a> {
    /// The shard as a whole, or an effect that was just appended.
    All,
    /// The key of this hash.
    Key(u64),
    /// Whatever this command looks at.
    Command(&'static Command, Argv<'a>),
}

impl Worker {
    /// Notes effects that no reply shows. No more of them is about to be appended.
    pub(crate) fn note_effects(&mut self, shard: &mut Shard) {
        if !shard.log.is_enabled() {
            return;
        }
        let end = shard.log.end();
        if !self.server.aof.fsyncs_always() {
            self.touched.note(shard.index(), end);
        } else if shard.pending.has_unsettled() || !shard.pending.is_on() {
            self.touched.note(shard.index(), end);
            self.note_changes(shard);
        }
    }

    /// Under `appendfsync always`: what of the shard's log must be durable before a reply that
    /// shows this may leave, if anything must. The shard's log has the reply's effects.
    pub(super) fn shown(&mut self, shard: &mut Shard, shows: Shows<'_>) -> Option<Lsn> {
        self.note_changes(shard);
        let lsn = match shows {
            Shows::All => Some(shard.log.end()),
            _ if shard.pending.is_empty() => None,
            Shows::Key(hash) => shard.pending.of(hash),
            Shows::Command(command, argv) => {
                let mut last = None;
                let by_key = each_key_shown(command, argv, |key| {
                    last = last.max(shard.pending.of(hash_bytes(key)));
                });
                if by_key {
                    last
                } else {
                    Some(shard.log.end())
                }
            }
        };
        self.awaited(shard.index(), lsn)
    }

    /// Notes the effects of commands that ran on several shards, those since the marks, and what
    /// of the shards' logs the commands' reply shows; it begins at `start`.
    pub(crate) fn note_shown(
        &mut self,
        c: &mut Connection,
        start: usize,
        guards: &mut [Held],
        marks: &[Mark],
        commands: &[(&'static Command, Argv<'_>)],
    ) {
        for ((shard, guard), mark) in guards.iter().zip(marks) {
            if guard.log.effects_since(*mark) > 0 {
                c.wrote(*shard, guard.log.end());
            }
        }
        if !self.server.aof.fsyncs_always() {
            guards
                .iter_mut()
                .for_each(|(_, guard)| self.note_effects(guard));
            return;
        }
        for ((_, guard), mark) in guards.iter_mut().zip(marks) {
            if guard.log.is_enabled() {
                self.note_changes(guard);
                if guard.log.effects_since(*mark) > 0 {
                    self.await_shown(c, start, guard, Some(guard.log.end()));
                }
            }
        }
        for (command, argv) in commands {
            let by_key = each_key_shown(command, *argv, |key| {
                self.await_key(c, start, guards, key);
            });
            if !by_key {
                for (_, guard) in guards.iter().filter(|(_, guard)| guard.log.is_enabled()) {
                    self.await_shown(c, start, guard, Some(guard.log.end()));
                }
            }
        }
    }

    /// Has the reply wait for the last change of these keys.
    pub(crate) fn note_shown_keys<'k>(
        &mut self,
        c: &mut Connection,
        start: usize,
        guards: &[Held],
        keys: impl Iterator<Item = &'k [u8]>,
    ) {
        if self.server.aof.fsyncs_always() {
            keys.for_each(|key| self.await_key(c, start, guards, key));
        }
    }

    /// Has the reply wait for all that these shards' logs hold.
    pub(crate) fn note_shown_shards(&mut self, c: &mut Connection, start: usize, guards: &[Held]) {
        if self.server.aof.fsyncs_always() {
            for (_, guard) in guards.iter().filter(|(_, guard)| guard.log.is_enabled()) {
                self.await_shown(c, start, guard, Some(guard.log.end()));
            }
        }
    }

    fn await_key(&mut self, c: &mut Connection, start: usize, guards: &[Held], key: &[u8]) {
        let key = Key::new(key, &self.server.slots);
        let held = guards.iter().find(|(shard, _)| *shard == key.shard);
        if let Some((_, guard)) = held.filter(|(_, guard)| guard.log.is_enabled()) {
            self.await_shown(c, start, guard, guard.pending.of(key.hash));
        }
    }

    fn await_shown(&mut self, c: &mut Connection, start: usize, shard: &Shard, lsn: Option<Lsn>) {
        if let Some(lsn) = self.awaited(shard.index(), lsn) {
            c.waits.add(start, shard.index(), lsn);
        }
    }

    /// `lsn`, if it is not durable; then the log will be written up to there, if it is not.
    fn awaited(&mut self, shard: ShardIndex, lsn: Option<Lsn>) -> Option<Lsn> {
        let lsn = lsn.filter(|lsn| self.server.aof.durable(shard) < *lsn)?;
        self.touched.note(shard, lsn);
        Some(lsn)
    }

    fn note_changes(&self, shard: &mut Shard) {
        let end = shard.log.end();
        if !shard.pending.is_on() {
            shard.pending.start(end);
        }
        if shard.pending.has_unsettled() {
            shard.pending.settle(end);
            self.forget_durable(shard);
        }
    }

    /// Forgets which changes were pending and are not any more.
    pub(super) fn forget_durable(&self, shard: &mut Shard) {
        if !shard.pending.is_empty() {
            shard.pending.prune(self.server.aof.durable(shard.index()));
        }
    }
}

/// Calls `f` with each key that the command looks at. False when it looks at more than those, or
/// at no key in particular.
pub(crate) fn each_key_shown<'a>(
    command: &'static Command,
    argv: Argv<'a>,
    mut f: impl FnMut(&'a [u8]),
) -> bool {
    match command.run {
        Run::Keys(_) => {
            let mut found = false;
            let all = command.for_each_key(argv, |index, _| {
                found = true;
                f(argv.arg(index));
            });
            found && all
        }
        Run::AllShards(_) | Run::WholeDatabases(_) | Run::Cursor(_) => false,
        // What a script in a transaction looks at is not noted.
        Run::Host(host) => !SCRIPT_HOST_COMMANDS.contains(&host),
        Run::Nowhere(_) | Run::Container => true,
    }
}
