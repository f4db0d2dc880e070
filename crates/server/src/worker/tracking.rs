//! This worker's clients that cache what they read: their options, and what they are told.
//!
//! Who wants to hear of every change under a prefix is told once a turn, of all keys together.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use commands::{Command, Flags};
use keyspace::{Lsn, Shard, ShardIndex, View};
use reactor::ConnId;
use resp::{Argv, Protocol, Reply};

use super::after::Origin;
use super::connection::Connection;
use super::push::When;
use super::Worker;
use crate::clients::ClientId;
use crate::pubsub::{Push, To};

/// How RESP2 connections that are subscribed get what others redirect to them.
const INVALIDATION_CHANNEL: &[u8] = b"__redis__:invalidate";

/// What CLIENT TRACKING says of a connection.
#[derive(Default)]
pub struct Options {
    /// Who is told instead of this connection.
    pub redirect: Option<ClientId>,
    pub broadcast: bool,
    pub opt_in: bool,
    pub opt_out: bool,
    pub no_loop: bool,
    /// CLIENT CACHING was called for the next command.
    pub caching: bool,
    /// Whoever is to be told is gone.
    pub redirect_broken: bool,
    /// Of a connection that hears of every change.
    pub prefixes: BTreeSet<Arc<[u8]>>,
}

impl Options {
    /// Whether the keys that a command reads are remembered.
    fn remembers(&self) -> bool {
        !self.broadcast && (!self.opt_in || self.caching) && (!self.opt_out || !self.caching)
    }
}

/// The tracking connections of a worker.
#[derive(Default)]
pub struct Trackers {
    conns: HashSet<ConnId, ahash::RandomState>,
    /// Who hears of every change, by prefix.
    prefixes: BTreeMap<Arc<[u8]>, HashSet<ConnId, ahash::RandomState>>,
    /// What changed this turn, and whose doing it was last.
    changed: BTreeMap<Arc<[u8]>, Option<Origin>>,
    /// What must be written before they are told.
    shows: HashMap<ShardIndex, Lsn>,
}

impl Worker {
    /// Behind a command that reads: remembers its keys for the connection, if it tracks. The command
    /// ran on these shards.
    pub(crate) fn remember_reads(
        &mut self,
        c: &Connection,
        command: &'static Command,
        argv: Argv<'_>,
        view: &mut View<'_>,
    ) {
        let Some(tracking) = &c.tracking else {
            return;
        };
        if !command.flags.contains(Flags::READONLY) || !tracking.remembers() {
            return;
        }
        let keys_max = match self.config.tracking_table_max_keys {
            0 => usize::MAX,
            max => (max as usize).div_ceil(self.server.shards.len()),
        };
        for spec in command.keys {
            spec.for_each(argv, |index| {
                let key = view.key(argv.arg(index));
                let shard = view.shard_mut(key.shard);
                shard.after_due |= shard.tracking.remember(key.bytes, c.record.id, keys_max);
            });
        }
    }

    /// As [`remember_reads`](Self::remember_reads), of a command that ran on one shard.
    pub(super) fn remember_reads_of(
        &mut self,
        c: &Connection,
        command: &'static Command,
        argv: Argv<'_>,
        shard: &mut Shard,
    ) {
        if c.tracking.is_some() {
            let mut view = View::one(shard, self.server.slots);
            self.remember_reads(c, command, argv, &mut view);
        }
    }

    /// Begins tracking, or changes its options.
    pub(crate) fn begin_tracking(&mut self, c: &mut Connection, options: Options) {
        self.end_tracking(c);
        self.trackers.conns.insert(c.id);
        self.server.tracking.begins(self.index, options.broadcast);
        for prefix in &options.prefixes {
            let conns = self.trackers.prefixes.entry(prefix.clone()).or_default();
            conns.insert(c.id);
            self.server.tracking.add_prefix(prefix);
        }
        c.tracking = Some(Box::new(options));
        c.tracking_changed();
    }

    /// Ends it. True if all shards may have to be told, by
    /// [`note_changes_for_broadcast`](crate::shared::Server::note_changes_for_broadcast).
    pub(crate) fn end_tracking(&mut self, c: &mut Connection) -> bool {
        let Some(options) = c.tracking.take() else {
            return false;
        };
        self.trackers.conns.remove(&c.id);
        self.server.tracking.ends(self.index, options.broadcast);
        for prefix in &options.prefixes {
            if let Some(conns) = self.trackers.prefixes.get_mut(prefix) {
                conns.remove(&c.id);
                if conns.is_empty() {
                    self.trackers.prefixes.remove(prefix);
                }
            }
            self.server.tracking.remove_prefix(prefix);
        }
        c.tracking_changed();
        options.broadcast && !self.server.tracking.broadcasts()
    }

    /// A push that is about tracking has arrived.
    pub(super) fn deliver_change(
        &mut self,
        push: &Push,
        mut running: Option<(&mut Connection, When)>,
    ) {
        match &push.to {
            To::Reader { conn, by } => {
                self.tell_reader(
                    *conn,
                    *by,
                    Some(&push.frame),
                    &push.shows,
                    false,
                    &mut running,
                );
            }
            To::AllReaders => {
                for conn in self.trackers.conns.iter().copied().collect::<Vec<_>>() {
                    self.tell_reader(conn, None, None, &push.shows, true, &mut running);
                }
            }
            To::Broadcast { by } => {
                self.trackers.changed.insert(push.frame.clone(), *by);
                for (shard, lsn) in &push.shows {
                    let end = self.trackers.shows.entry(*shard).or_insert(*lsn);
                    *end = (*end).max(*lsn);
                }
            }
            To::Redirected { conn } => {
                self.with_receiver(*conn, &mut running, |worker, c, when| {
                    worker.send_invalidation(c, &push.frame, &push.shows, when, true);
                });
            }
            To::Subscribers { .. } | To::Monitors => unreachable!("not about tracking"),
        }
    }

    /// Tells a connection, or whom it redirects to, that keys have changed: those encoded in `keys`, or
    /// all. `broadcast`: it is told whether or not it read them.
    fn tell_reader(
        &mut self,
        conn: ConnId,
        by: Option<Origin>,
        keys: Option<&[u8]>,
        shows: &[(ShardIndex, Lsn)],
        broadcast: bool,
        running: &mut Option<(&mut Connection, When)>,
    ) {
        let own = Origin {
            worker: self.index,
            conn,
        };
        self.with_receiver(conn, running, |worker, c, when| {
            let Some(tracking) = &mut c.tracking else {
                return;
            };
            if (tracking.broadcast && !broadcast) || (tracking.no_loop && by == Some(own)) {
                return;
            }
            let keys = keys.unwrap_or(match c.protocol {
                Protocol::Resp2 => b"$-1\r\n",
                Protocol::Resp3 => b"_\r\n",
            });
            let Some(redirect) = tracking.redirect else {
                worker.send_invalidation(c, keys, shows, when, false);
                return;
            };
            match worker.server.clients.get(redirect) {
                Some(record) => {
                    let to = To::Redirected { conn: record.conn };
                    let keys: Arc<[u8]> = keys.into();
                    let server = worker.server;
                    worker
                        .publisher
                        .post(server, record.worker, to, &keys, shows);
                }
                None => {
                    tracking.redirect_broken = true;
                    c.tracking_changed();
                    if c.protocol == Protocol::Resp3 {
                        let mut bytes = Vec::new();
                        let mut message = Reply::new(&mut bytes, Protocol::Resp3);
                        message.push(2);
                        message.bulk(b"tracking-redir-broken");
                        message.integer(redirect as i64);
                        c.receive(&bytes, &[], when, &worker.server.aof);
                    }
                }
            }
        });
    }

    /// Sends the message itself, if the connection can be sent one.
    fn send_invalidation(
        &self,
        c: &mut Connection,
        keys: &[u8],
        shows: &[(ShardIndex, Lsn)],
        when: When,
        redirected: bool,
    ) {
        let mut bytes = Vec::new();
        let mut message = Reply::new(&mut bytes, c.protocol);
        if c.protocol == Protocol::Resp3 {
            message.push(2);
            message.bulk(b"invalidate");
        } else if redirected && c.is_subscribed() {
            message.push(3);
            message.bulk(b"message");
            message.bulk(INVALIDATION_CHANNEL);
        } else {
            return;
        }
        message.raw(keys);
        c.receive(&bytes, shows, when, &self.server.aof);
    }

    /// At the end of a turn: tells those who hear of every change. False if there was nothing to tell.
    pub(super) fn tell_broadcast(&mut self) -> bool {
        if self.trackers.changed.is_empty() {
            return false;
        }
        let changed = std::mem::take(&mut self.trackers.changed);
        let shows: Vec<_> = self.trackers.shows.drain().collect();
        let prefixes: Vec<_> = self
            .trackers
            .prefixes
            .iter()
            .map(|(prefix, conns)| (prefix.clone(), conns.iter().copied().collect::<Vec<_>>()))
            .collect();
        for (prefix, conns) in prefixes {
            let matching: Vec<_> = changed
                .range::<[u8], _>((
                    std::ops::Bound::Included(&*prefix),
                    std::ops::Bound::Unbounded,
                ))
                .take_while(|(key, _)| key.starts_with(&prefix))
                .collect();
            if matching.is_empty() {
                continue;
            }
            let all = self
                .publisher
                .encode_keys(matching.iter().map(|(key, _)| &***key));
            for conn in conns {
                let own = Origin {
                    worker: self.index,
                    conn,
                };
                let found = self.connection_mut(conn).and_then(|c| c.tracking.as_ref());
                let keys = match found {
                    Some(tracking) if tracking.no_loop => {
                        let others = matching.iter().filter(|(_, by)| **by != Some(own));
                        let others: Vec<&[u8]> = others.map(|(key, _)| &***key).collect();
                        if others.is_empty() {
                            continue;
                        }
                        self.publisher.encode_keys(others.into_iter())
                    }
                    Some(_) => all.clone(),
                    None => continue,
                };
                self.tell_reader(conn, None, Some(&keys), &shows, true, &mut None);
            }
        }
        true
    }
}
