//! Taking batons and giving them back, and the way of a command whose shard's baton is taken.
//!
//! Several batons are only ever waited for in ascending order. Whoever gives a baton back first runs what was posted to
//! the shard's inbox meanwhile; see [`keyspace::post`].

use commands::{Command, Run};
use config::CrossShard;
use keyspace::baton::Guard;
use keyspace::inbox::Inbox;
use keyspace::{Shard, ShardIndex};
use resp::Argv;

use super::after::Origin;
use super::connection::Connection;
use super::posted::{Logged, Posted, Reply};
use super::route::ShardSet;
use super::Worker;

/// Looks at a taken baton before its command is posted: a microsecond or two.
pub(super) const BATON_SPINS: u32 = 100;

/// A baton in hand, with its shard.
pub type Held = (ShardIndex, Guard<'static, Shard>);

impl Worker {
    /// The shard's baton, unless it is taken for longer than a moment or the policy forbids.
    #[inline]
    pub(super) fn take_baton(&mut self, shard: ShardIndex) -> Option<Held> {
        if self.cross_shard == CrossShard::Message && usize::from(shard.0) != self.index {
            return None;
        }
        self.server
            .shard(shard)
            .baton
            .try_take_spinning(BATON_SPINS)
            .map(|guard| self.after_others((shard, guard)))
    }

    /// Does what is due from who had the baton before and could not do it.
    #[inline]
    pub(super) fn after_others(&mut self, mut held: Held) -> Held {
        if held.1.after_due {
            self.after_run(None, &mut [&mut held.1]);
        }
        held
    }

    /// The batons of several shards, in ascending order, however long it takes.
    pub(crate) fn take_batons(&mut self, shards: &ShardSet) -> Vec<Held> {
        let server = self.server;
        let mut guards = shards
            .iter()
            .map(|shard| (shard, server.shard(shard).baton.take()))
            .collect::<Vec<_>>();
        self.after_held(None, &mut guards);
        guards
    }

    /// Gives batons back.
    pub(crate) fn release_all(&mut self, guards: Vec<Held>) {
        for held in guards {
            self.release(Some(held));
        }
    }

    /// Runs `f` on a shard, waiting for its baton.
    pub(crate) fn with_shard<R>(
        &mut self,
        shard: ShardIndex,
        f: impl FnOnce(&mut Shard) -> R,
    ) -> R {
        let mut guard = self.server.shard(shard).baton.take();
        let result = f(&mut guard);
        self.note_effects(&mut guard);
        if guard.after_due {
            self.after_run(None, &mut [&mut guard]);
        }
        self.release(Some((shard, guard)));
        result
    }

    /// Gives a baton back, after running what was posted meanwhile; see [`keyspace::post`].
    #[inline]
    pub(crate) fn release(&mut self, held: Option<Held>) {
        if let Some((shard, guard)) = held {
            self.server
                .shard(shard)
                .release(guard, |shard, inbox| self.run_posted(shard, inbox));
        }
    }

    /// Posts a command to a shard's inbox; its connection waits.
    #[cold]
    pub(super) fn post(
        &mut self,
        c: &mut Connection,
        command: &'static Command,
        argv: Argv<'_>,
        shard: ShardIndex,
    ) {
        c.waiting = true;
        self.stats().commands_posted.add(1);
        let cell = self.server.shard(shard);
        cell.inbox.post(Posted {
            worker: self.index,
            conn: c.id,
            caller: c.caller(),
            command,
            argv: argv.to_owned(),
        });
        if self.cross_shard == CrossShard::Message && usize::from(shard.0) != self.index {
            self.server.workers[usize::from(shard.0)].mailbox.wake();
        } else {
            self.serve_inbox(shard);
        }
    }

    /// Runs what is posted to a shard, if nobody holds its baton.
    pub(super) fn serve_inbox(&mut self, shard: ShardIndex) {
        self.server
            .shard(shard)
            .serve(|shard, inbox| self.run_posted(shard, inbox));
    }

    #[cold]
    pub(super) fn run_posted(&mut self, shard: &mut Shard, inbox: &Inbox<Posted>) {
        let mut posted = std::mem::take(&mut self.posted);
        inbox.take(&mut posted);
        for message in posted.drain(..) {
            let Posted {
                worker,
                conn,
                caller,
                command,
                argv,
            } = message;
            let (Run::Keys(handler) | Run::Cursor(handler)) = command.run else {
                unreachable!("only commands for one shard are posted");
            };
            if let Some(observer) = &self.env.observer {
                observer.serving(worker, conn, None);
            }
            let mut bytes = Vec::new();
            let (result, logged) = if shard.reserved {
                (Err(self.server.scripts.busy()), Logged::default())
            } else {
                self.run_handler(
                    handler,
                    command,
                    argv.argv(),
                    None,
                    caller,
                    shard,
                    &mut bytes,
                )
            };
            let is_error = result.is_err();
            if let Err(error) = result {
                resp::Reply::new(&mut bytes, caller.protocol).error(error.text());
            }
            self.posted_replies.push((
                worker,
                Reply {
                    conn,
                    bytes,
                    is_error,
                    logged: Some((shard.index(), logged)),
                    also_logged: Vec::new(),
                },
            ));
            if shard.after_due {
                self.after_run(Some(Origin { worker, conn }), &mut [&mut *shard]);
            }
        }
        if let Some(observer) = &self.env.observer {
            observer.served();
        }
        self.posted = posted;
    }
}
