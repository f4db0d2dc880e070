//! Connections that wait: for keys, by WAIT and WAITAOF for the disk, or for the end of a pause.
//!
//! A blocking command takes the batons of all its keys and runs like any other. If it finds nothing,
//! the connection is left in the queue of each key (`keyspace::waits`), under those batons, and runs
//! nothing until its reply is here: from whoever made a key ready (`ready.rs`), from the clock, or
//! from CLIENT UNBLOCK. Whoever takes the claim of a wait sees to exactly one reply.
//!
//! The connection's worker owns what is here. It takes the connection out of the queues that still
//! have it when the wait is over, which is also when the client has vanished.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

use commands::{Command, CommandError, CommandResult, Wait};
use keyspace::{Claim, ShardIndex, UnixMillis, View, Waiter};
use reactor::{ConnId, Reactor};
use resp::{Argv, OwnedArgv};

use super::batons::Held;
use super::connection::Connection;
use super::environment::Handler;
use super::posted::{Caller, Reply};
use super::route::ShardSet;
use super::Worker;
use crate::clients::flag;
use crate::pause::may_change;
use crate::session::transaction::{is_exec, Transaction};
use crate::session::wait::Wish;

pub const UNBLOCKED: CommandError =
    CommandError::new("UNBLOCKED client unblocked via CLIENT UNBLOCK");

/// That a connection waits.
pub struct Blocked {
    command: &'static Command,
    claim: Arc<Claim>,
    /// When it has waited long enough.
    until: Option<UnixMillis>,
    /// In the queues of keys; none with WAIT and WAITAOF.
    waiter: Option<Arc<Waiter>>,
}

impl Blocked {
    pub fn claim(&self) -> &Claim {
        &self.claim
    }
}

/// A blocked command, as whoever makes a key ready tries it again.
pub struct Request {
    pub worker: usize,
    pub conn: ConnId,
    pub caller: Caller,
    pub command: &'static Command,
    pub handler: Handler,
    pub argv: OwnedArgv,
    /// The keys it waits for, each once.
    pub keys: Vec<(ShardIndex, Box<[u8]>)>,
    /// The shards of all its keys, in ascending order.
    pub shards: Vec<ShardIndex>,
    /// It cannot be tried unless all of them are in hand.
    pub needs_all: bool,
}

impl Worker {
    /// Runs a command that may wait.
    pub(super) fn run_blocking(
        &mut self,
        c: &mut Connection,
        command: &'static Command,
        handler: Handler,
        argv: Argv<'_>,
    ) -> CommandResult {
        let mut shards = ShardSet::new(self.server.slots);
        shards.add_keys(command, argv);
        let start = c.out.len();
        let mut guards = self.take_batons(&shards);
        let marks: Vec<_> = guards.iter().map(|(_, guard)| guard.log.mark()).collect();
        let mut view = View::several(
            guards.iter_mut().map(|(_, guard)| &mut **guard).collect(),
            self.server.slots,
        );
        let result =
            self.env
                .call_or_wait(handler, &mut view, c.caller(), self.now, argv, &mut c.out);
        if command.is_write() {
            self.seal_transaction(view.shards_mut(), &marks);
        }
        drop(view);
        let wait = match result {
            Ok(wait) => Ok(wait),
            Err(error) => {
                c.out.truncate(start);
                Err(error)
            }
        };
        let shown: &[_] = match wait {
            Ok(Some(_)) => &[],
            _ => &[(command, argv)],
        };
        self.note_shown(c, start, &mut guards, &marks, shown);
        let result = wait.map(|wait| {
            if let Some(wait) = wait {
                self.block_on_keys(c, (command, handler, argv), wait, &mut guards);
            }
        });
        self.after_held(Some(c.origin(self.index)), &mut guards);
        self.show_to_monitors(c, command, argv);
        self.release_all(guards);
        result
    }

    fn block_on_keys(
        &mut self,
        c: &mut Connection,
        (command, handler, argv): (&'static Command, Handler, Argv<'_>),
        wait: Wait,
        guards: &mut [Held],
    ) {
        let argv = wait.again.unwrap_or_else(|| argv.to_owned());
        c.record.note_argv(argv.argv());
        let mut keys: Vec<(ShardIndex, Box<[u8]>)> = Vec::new();
        for index in wait.keys {
            let key: Box<[u8]> = argv.argv().arg(index).into();
            let shard = self.server.slots.shard_of(&key);
            keys.push((shard, key));
        }
        keys.sort_unstable();
        keys.dedup();
        let claim = Arc::new(Claim::default());
        let request = Request {
            worker: self.index,
            conn: c.id,
            caller: c.caller(),
            command,
            handler,
            argv,
            keys: keys.clone(),
            shards: guards.iter().map(|(shard, _)| *shard).collect(),
            needs_all: wait.needs_all_keys,
        };
        let waiter = Arc::new(Waiter::new(
            wait.wanted,
            wait.on_deletion,
            claim.clone(),
            Box::new(request),
        ));
        for (shard, key) in &keys {
            let held = guards.iter_mut().find(|(index, _)| index == shard);
            let (_, guard) = held.expect("the batons of all keys are held");
            guard.waits.add(c.db, key, &waiter);
        }
        self.block(
            c,
            Blocked {
                command,
                claim,
                until: wait.until,
                waiter: Some(waiter),
            },
        );
    }

    /// Has the connection wait by WAIT or WAITAOF.
    pub(crate) fn block_on_wish(
        &mut self,
        c: &mut Connection,
        command: &'static Command,
        wish: Wish,
    ) {
        let blocked = Blocked {
            command,
            claim: Arc::default(),
            until: wish.until,
            waiter: None,
        };
        self.block(c, blocked);
        self.server.aof.sync_waiters.fetch_add(1, Relaxed);
        self.wishes.push((c.id, wish));
    }

    fn block(&mut self, c: &mut Connection, blocked: Blocked) {
        c.waiting = true;
        if let Some(until) = blocked.until {
            self.deadlines.insert((until, c.id));
        }
        *c.record.blocked() = Some(blocked.claim.clone());
        c.blocked = Some(blocked);
        self.count_blocked(1);
    }

    fn count_blocked(&self, change: i64) {
        let handle = &self.server.workers[self.index];
        handle.blocked.fetch_add(change, Relaxed);
        handle
            .timed_waits
            .store(self.deadlines.len() as i64, Relaxed);
    }

    /// A connection's wait is over, or the connection is. Tells which command has waited. No baton
    /// may be held.
    pub(super) fn end_wait(&mut self, c: &mut Connection) -> Option<&'static Command> {
        let blocked = c.blocked.take()?;
        *c.record.blocked() = None;
        c.record.argv_bytes.store(0, Relaxed);
        c.record.flags.fetch_and(!flag::BLOCKED, Relaxed);
        c.active_at = self.now;
        if let Some(until) = blocked.until {
            self.deadlines.remove(&(until, c.id));
        }
        self.count_blocked(-1);
        match &blocked.waiter {
            Some(waiter) => self.leave_queues(waiter),
            None => {
                self.wishes.retain(|(conn, _)| *conn != c.id);
                self.server.aof.sync_waiters.fetch_sub(1, Relaxed);
            }
        }
        Some(blocked.command)
    }

    fn leave_queues(&mut self, waiter: &Waiter) {
        if !waiter.is_queued() {
            return;
        }
        let request = request_of(waiter);
        for (shard, key) in &request.keys {
            self.with_shard(*shard, |shard| {
                shard.waits.remove(request.caller.db, key, waiter);
            });
        }
    }

    /// Whether a pause holds this command back.
    pub(super) fn is_held_back(&self, c: &Connection, command: &'static Command) -> bool {
        if !self.server.pause.is_on(self.now) {
            return false;
        }
        let queued = c.transaction.as_ref().filter(|_| is_exec(command));
        let may_change = may_change(command) || queued.is_some_and(Transaction::may_change);
        self.server.pause.holds_back(may_change)
    }

    /// Has the connection's request run once the pause is over; it is still in the input.
    pub(super) fn postpone(&mut self, c: &mut Connection, argv: Argv<'_>) {
        c.record.note_argv(argv);
        (c.waiting, c.postponed) = (true, true);
        self.postponed.push(c.id);
        self.count_blocked(1);
    }

    /// Lets those go on whom a pause held back, once it is over.
    pub(super) fn serve_postponed(&mut self, reactor: &mut Reactor) {
        if self.postponed.is_empty() || self.server.pause.is_on(self.now) {
            return;
        }
        for conn in std::mem::take(&mut self.postponed) {
            self.with_connection(conn, |worker, c| {
                (c.waiting, c.postponed) = (false, false);
                c.active_at = worker.now;
                c.record.argv_bytes.store(0, Relaxed);
                worker.count_blocked(-1);
                worker.go_on(reactor, c);
                c.update_record(None);
            });
        }
    }

    /// The client has vanished: what becomes ready goes to others.
    pub(super) fn forget_wait(&mut self, c: &mut Connection) {
        if std::mem::take(&mut c.postponed) {
            self.postponed.retain(|conn| *conn != c.id);
            self.count_blocked(-1);
        }
        if let Some(blocked) = &c.blocked {
            // Whoever has it sends a reply that finds nobody.
            let _ = blocked.claim.take();
            self.end_wait(c);
        }
    }

    /// Replies to those who have waited for keys long enough.
    pub(super) fn end_overdue_waits(&mut self, reactor: &mut Reactor) {
        while let Some(&(until, conn)) = self.deadlines.first() {
            if until > self.now {
                break;
            }
            self.deadlines.pop_first();
            let claimed = self.connection_mut(conn).and_then(|c| {
                let blocked = c.blocked.as_ref()?;
                // A wish is looked at every turn, and replies what it has.
                blocked.waiter.as_ref()?;
                blocked.claim.take().then_some(())
            });
            if claimed.is_some() {
                self.end_wait_early(reactor, conn, None);
            }
        }
    }

    /// Replies to a connection whose claim was taken: an error, or as if its time were over.
    pub(super) fn end_wait_early(
        &mut self,
        reactor: &mut Reactor,
        conn: ConnId,
        error: Option<CommandError>,
    ) {
        let wish = self.wishes.iter().position(|(waits, _)| *waits == conn);
        let wish = wish.map(|index| self.wishes.swap_remove(index).1);
        let aof = &self.server.aof;
        let Some(c) = self.connection_mut(conn) else {
            return;
        };
        let mut bytes = Vec::new();
        let mut reply = resp::Reply::new(&mut bytes, c.protocol);
        match (&error, wish) {
            (Some(error), _) => reply.error(error.text()),
            (None, Some(wish)) => wish.reply_now(aof, &c.last_writes, reply),
            // Redis replies a null array here, also for commands that else reply a null bulk string.
            (None, None) => reply.null_array(),
        }
        let reply = Reply::early(conn, bytes, error.is_some());
        self.take_reply(reactor, reply);
    }
}

/// What a waiter in a queue waits with.
pub fn request_of(waiter: &Waiter) -> &Request {
    let request = waiter.request.downcast_ref();
    request.expect("only workers make waiters, each with a request")
}
