//! Messages of their own accord, to this worker's connections: who subscribed to what, and delivery.
//!
//! Every push comes through the mailbox, those of this worker's own connections too, so all of them
//! have one order here. What a connection has been sent stays in order with its replies as in Redis:
//! what its own command causes comes behind that command's reply (EXEC's as a whole), and never in
//! the middle of one.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use ahash::RandomState;
use keyspace::{Lsn, ShardIndex};
use reactor::{ConnId, Reactor};
use resp::Protocol;

use super::connection::Connection;
use super::mailbox::Message;
use super::Worker;
use crate::aof::Aof;
use crate::pubsub::{is_clear, Kind, Push, To};

type Conns = HashSet<ConnId, RandomState>;

/// The subscriptions of a worker's connections.
#[derive(Default)]
pub struct Subscribers {
    tables: [HashMap<Arc<[u8]>, Conns, RandomState>; 3],
}

impl Subscribers {
    fn of(&self, kind: Kind, name: &[u8]) -> Option<&Conns> {
        self.tables[kind as usize].get(name)
    }

    fn add(&mut self, kind: Kind, name: &Arc<[u8]>, conn: ConnId) {
        let table = &mut self.tables[kind as usize];
        match table.get_mut(name) {
            Some(conns) => {
                conns.insert(conn);
            }
            None => {
                let conns = HashSet::from_iter([conn]);
                table.insert(name.clone(), conns);
            }
        }
    }

    fn remove(&mut self, kind: Kind, name: &[u8], conn: ConnId) {
        let table = &mut self.tables[kind as usize];
        if let Some(conns) = table.get_mut(name) {
            conns.remove(&conn);
            if conns.is_empty() {
                table.remove(name);
            }
        }
    }
}

/// What one connection is subscribed to.
#[derive(Default)]
pub struct Subscriptions {
    names: [BTreeSet<Arc<[u8]>>; 3],
}

impl Subscriptions {
    pub fn count(&self, kind: Kind) -> usize {
        self.names[kind as usize].len()
    }

    pub fn is_empty(&self) -> bool {
        self.names.iter().all(BTreeSet::is_empty)
    }

    /// What the confirmation of a change says: shard channels are counted for themselves.
    pub fn counted_with(&self, kind: Kind) -> usize {
        match kind {
            Kind::ShardChannel => self.count(kind),
            Kind::Channel | Kind::Pattern => self.count(Kind::Channel) + self.count(Kind::Pattern),
        }
    }

    pub fn names(&self, kind: Kind) -> impl Iterator<Item = &Arc<[u8]>> {
        self.names[kind as usize].iter()
    }

    pub fn memory_bytes(&self) -> usize {
        /// Of a name's entry in this set and in the worker's table.
        const ENTRY_BYTES: usize = 96;
        let names = self.names.iter().flatten();
        names.map(|name| name.len() + ENTRY_BYTES).sum()
    }
}

/// Pushes that leave behind the reply to the command that runs.
#[derive(Default)]
pub struct Late {
    bytes: Vec<u8>,
    shows: Vec<(ShardIndex, Lsn)>,
}

impl Late {
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// When the connection whose command runs gets what it is to be sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum When {
    Now,
    BehindTheReply,
}

impl Connection {
    pub fn is_subscribed(&self) -> bool {
        self.subscriptions.is_some()
    }

    pub fn hears_of_others(&self) -> bool {
        self.is_subscribed() || self.tracking.is_some() || self.monitors
    }

    /// Appends a message to what it is sent.
    pub(super) fn receive(
        &mut self,
        message: &[u8],
        shows: &[(ShardIndex, Lsn)],
        when: When,
        aof: &Aof,
    ) {
        if self.closing {
            return;
        }
        let out = match when {
            When::BehindTheReply => {
                self.late.shows.extend_from_slice(shows);
                &mut self.late.bytes
            }
            When::Now => {
                self.await_shown_by_push(shows, aof);
                &mut self.out
            }
        };
        let start = out.len();
        out.extend_from_slice(message);
        if self.protocol == Protocol::Resp3 && out[start] == b'*' {
            out[start] = b'>';
        }
    }

    /// Its command runs elsewhere, and the reply is not there yet.
    fn awaits_reply(&self) -> bool {
        self.waiting && self.blocked.is_none() && !self.postponed
    }

    fn when_it_receives(&self) -> When {
        match self.awaits_reply() {
            true => When::BehindTheReply,
            false => When::Now,
        }
    }

    fn await_shown_by_push(&mut self, shows: &[(ShardIndex, Lsn)], aof: &Aof) {
        for (shard, lsn) in shows {
            if !aof.shows_to_others(*shard, *lsn) {
                self.waits.add(self.out.len(), *shard, *lsn);
            }
        }
    }

    /// The reply is there: what was to come behind it follows.
    pub fn flush_late(&mut self, aof: &Aof) {
        if self.late.bytes.is_empty() || self.awaits_reply() {
            return;
        }
        let late = std::mem::take(&mut self.late);
        self.await_shown_by_push(&late.shows, aof);
        self.out.extend_from_slice(&late.bytes);
    }
}

impl Worker {
    /// Moves what is in the mailbox behind what was taken from it before.
    pub(super) fn collect_messages(&mut self) {
        let mut taken = std::mem::take(&mut self.taken);
        self.server.workers[self.index].mailbox.take(&mut taken);
        self.messages.extend(taken.drain(..));
        self.taken = taken;
    }

    /// Delivers the pushes that are in the mailbox, ahead of everything else there. `running` is
    /// the connection that was taken out of the table.
    pub(crate) fn read_pushes(&mut self, mut running: Option<(&mut Connection, When)>) {
        self.collect_messages();
        for _ in 0..self.messages.len() {
            match self.messages.pop_front() {
                Some(Message::Push(push)) => {
                    let running = running.as_mut().map(|(c, when)| (&mut **c, *when));
                    self.deliver(&push, running);
                }
                Some(other) => self.messages.push_back(other),
                None => break,
            }
        }
    }

    pub(super) fn deliver(&mut self, push: &Push, mut running: Option<(&mut Connection, When)>) {
        self.server.workers[self.index].mailbox.push_delivered(push);
        match &push.to {
            To::Subscribers { kind, name } => {
                let name = &push.frame[name.start as usize..name.end as usize];
                self.deliver_to_subscribers(*kind, name, push, running);
            }
            To::Monitors => {
                for conn in self.monitoring.clone() {
                    self.with_receiver(conn, &mut running, |worker, c, when| {
                        c.receive(&push.frame, &[], when, &worker.server.aof);
                    });
                }
            }
            _ => self.deliver_change(push, running),
        }
    }

    fn deliver_to_subscribers(
        &mut self,
        kind: Kind,
        name: &[u8],
        push: &Push,
        mut running: Option<(&mut Connection, When)>,
    ) {
        let Worker {
            server,
            subscribers,
            connections,
            dirty,
            ..
        } = self;
        let aof = &server.aof;
        for conn in subscribers.of(kind, name).into_iter().flatten() {
            if let Some((c, when)) = running.as_mut().filter(|(c, _)| c.id == *conn) {
                c.receive(&push.frame, &push.shows, *when, aof);
                continue;
            }
            let found = connections
                .get_mut(conn.slot())
                .and_then(Option::as_deref_mut);
            let Some(c) = found.filter(|c| c.id == *conn) else {
                continue;
            };
            let when = c.when_it_receives();
            c.receive(&push.frame, &push.shows, when, aof);
            if !c.is_dirty && when == When::Now {
                c.is_dirty = true;
                dirty.push(*conn);
            }
        }
    }

    /// Runs `f` on a connection that is sent something, the one that runs among them.
    pub(super) fn with_receiver(
        &mut self,
        conn: ConnId,
        running: &mut Option<(&mut Connection, When)>,
        f: impl FnOnce(&mut Worker, &mut Connection, When),
    ) {
        if let Some((c, when)) = running.as_mut().filter(|(c, _)| c.id == conn) {
            f(self, c, *when);
            return;
        }
        self.with_connection(conn, |worker, c| {
            let when = c.when_it_receives();
            f(worker, c, when);
            worker.mark_dirty(c);
        });
    }

    /// Behind the reply to a command of this connection: what the command has it sent follows. Who
    /// causes more than others can deliver is held up.
    pub(super) fn after_reply(&mut self, c: &mut Connection) {
        if c.hears_of_others() && self.publisher.has_posted_to(self.index) {
            self.read_pushes(Some((c, When::BehindTheReply)));
        }
        c.flush_late(&self.server.aof);
        if self.publisher.congested && !c.waiting && !c.closing {
            c.waiting = true;
            self.held_up.push(c.id);
        }
        self.publisher.congested = false;
    }

    /// Lets those go on who were held up, once there is room.
    pub(super) fn serve_held_up(&mut self, reactor: &mut Reactor) {
        if self.held_up.is_empty() || !is_clear(self.server) {
            return;
        }
        for conn in std::mem::take(&mut self.held_up) {
            self.with_connection(conn, |worker, c| {
                c.waiting = false;
                c.flush_late(&worker.server.aof);
                worker.go_on(reactor, c);
            });
        }
    }

    /// At the end of a turn, when its logs are written: others learn of what is in their mailboxes.
    pub(super) fn wake_receivers(&mut self) {
        loop {
            let mut own = false;
            for worker in self.publisher.unwoken() {
                if worker == self.index {
                    own = true;
                } else {
                    self.server.workers[worker].mailbox.wake();
                }
            }
            if own {
                self.read_pushes(None);
            }
            // What is told then may be redirected to others.
            if !self.tell_broadcast() && !self.publisher.has_posted() {
                return;
            }
        }
    }

    /// Subscribes a connection; nothing happens if it was.
    pub(crate) fn subscribe_to(&mut self, c: &mut Connection, kind: Kind, name: &[u8]) {
        let own = c.subscriptions.get_or_insert_default();
        if own.names[kind as usize].contains(name) {
            return;
        }
        let name: Arc<[u8]> = name.into();
        own.names[kind as usize].insert(name.clone());
        self.subscribers.add(kind, &name, c.id);
        self.server.pubsub.add(kind, &name, self.index);
    }

    /// Ends a subscription, if there is one.
    pub(crate) fn unsubscribe_from(&mut self, c: &mut Connection, kind: Kind, name: &[u8]) {
        let own = c.subscriptions.as_mut();
        if let Some(name) = own.and_then(|own| own.names[kind as usize].take(name)) {
            self.subscribers.remove(kind, &name, c.id);
            self.server.pubsub.remove(kind, &name, self.index);
        }
    }

    /// Ends all subscriptions of a connection, without a word.
    pub(crate) fn forget_subscriptions(&mut self, c: &mut Connection) {
        let Some(own) = c.subscriptions.take() else {
            return;
        };
        for kind in Kind::ALL {
            for name in own.names(kind) {
                self.subscribers.remove(kind, name, c.id);
                self.server.pubsub.remove(kind, name, self.index);
            }
        }
        c.subscriptions_changed();
    }
}
