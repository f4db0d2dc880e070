//! A connection's state, owned by its worker.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;
use std::time::Instant;

use keyspace::{DbIndex, Lsn, ShardIndex, UnixMillis};
use reactor::ConnId;
use resp::{Parser, Protocol};

use super::after::Origin;
use super::blocked::Blocked;
use super::posted::{Caller, Logged};
use super::push::{Late, Subscriptions};
use super::tls::Tls;
use super::tracking::Options;
use super::waits::Waits;
use crate::acl::User;
use crate::clients::{flag, ClientRecord};
use crate::pubsub::Kind;
use crate::session::transaction::{Transaction, Watches};

/// What CLIENT REPLY says about the replies to come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplyMode {
    On,
    Off,
    /// The reply to the next command is left out.
    SkipNext,
    /// The reply to the command that runs is left out.
    SkipThis,
}

pub struct Connection {
    pub id: ConnId,
    pub record: Arc<ClientRecord>,
    /// Between the event loop and `input` and `out`, if it is a TLS connection.
    pub tls: Option<Box<Tls>>,
    /// Received bytes that are not processed yet; they begin with the first of a request.
    pub input: Vec<u8>,
    pub parser: Parser,
    /// Replies that are not handed to the event loop yet.
    pub out: Vec<u8>,
    /// Bytes handed to the event loop whose send has not ended.
    pub sending_bytes: usize,
    pub db: DbIndex,
    pub protocol: Protocol,
    pub authenticated: bool,
    pub user: Arc<User>,
    /// The version of the users by which `user` and `is_free` are right.
    pub acl_version: u64,
    /// Logged in as somebody who may do everything.
    pub is_free: bool,
    pub reply_mode: ReplyMode,
    pub no_touch: bool,
    pub no_evict: bool,
    pub transaction: Option<Transaction>,
    /// What is checked is a command of a script's.
    pub in_script: bool,
    pub watches: Watches,
    /// None when there are none.
    pub subscriptions: Option<Box<Subscriptions>>,
    pub monitors: bool,
    /// By CLIENT TRACKING.
    pub tracking: Option<Box<Options>>,
    /// Pushes to come behind the reply to the command that runs.
    pub late: Late,
    /// Its commands take the way of those that are checked one by one.
    pub is_special: bool,
    /// A posted command or a request to the coordinator is under way: nothing of this
    /// connection runs until its reply is here.
    pub waiting: bool,
    /// It waits for a key, or by WAIT or WAITAOF.
    pub blocked: Option<Blocked>,
    /// A pause holds it back: its next request is run when the pause is over.
    pub postponed: bool,
    /// That reply is left out, by CLIENT REPLY.
    pub drops_reply: bool,
    /// Receiving straight into `input`, which the event loop has meanwhile.
    pub receiving_large: bool,
    /// What that buffer takes.
    pub large_input_bytes: usize,
    /// What was last counted against `maxmemory-clients`.
    pub weighed_bytes: usize,
    /// Close once everything in `out` is sent; no request is processed any more.
    pub closing: bool,
    /// Already on the worker's list of connections with something to send.
    pub is_dirty: bool,
    /// What must be durable before parts of `out` may be sent.
    pub waits: Waits,
    /// Where this connection's last write ends in each shard's log, as far as it wrote.
    pub last_writes: Vec<Lsn>,
    /// Already on the worker's list of connections whose replies wait for the disk.
    pub awaits_durable: bool,
    /// Since when the output is above its soft limit.
    pub above_soft_limit_since: Option<Instant>,
    pub active_at: UnixMillis,
    pub commands: u64,
    pub net_input_bytes: u64,
    pub net_output_bytes: u64,
}

impl Connection {
    pub fn new(id: ConnId, record: Arc<ClientRecord>, user: Arc<User>) -> Connection {
        let authenticated = user.enabled && user.nopass;
        Connection {
            is_free: authenticated && user.is_unrestricted(),
            user,
            // Looked at before the first command.
            acl_version: 0,
            id,
            active_at: record.connected_at,
            record,
            tls: None,
            input: Vec::new(),
            parser: Parser::default(),
            out: Vec::new(),
            sending_bytes: 0,
            db: DbIndex(0),
            protocol: Protocol::Resp2,
            authenticated,
            reply_mode: ReplyMode::On,
            no_touch: false,
            no_evict: false,
            transaction: None,
            in_script: false,
            watches: Watches::default(),
            subscriptions: None,
            monitors: false,
            tracking: None,
            late: Late::default(),
            is_special: false,
            waiting: false,
            blocked: None,
            postponed: false,
            drops_reply: false,
            receiving_large: false,
            large_input_bytes: 0,
            weighed_bytes: 0,
            closing: false,
            is_dirty: false,
            waits: Waits::default(),
            last_writes: Vec::new(),
            awaits_durable: false,
            above_soft_limit_since: None,
            commands: 0,
            net_input_bytes: 0,
            net_output_bytes: 0,
        }
    }

    #[inline]
    pub fn caller(&self) -> Caller {
        Caller {
            db: self.db,
            protocol: self.protocol,
            no_touch: self.no_touch,
        }
    }

    /// Becomes another user, or the same one changed.
    pub fn set_user(&mut self, user: Arc<User>) {
        self.is_free = self.authenticated && user.is_unrestricted();
        self.user = user;
    }

    /// Who it is, for others to know whose doing something was; `worker` serves it.
    #[inline]
    pub fn origin(&self, worker: usize) -> Origin {
        Origin {
            worker,
            conn: self.id,
        }
    }

    pub fn reply(&mut self) -> resp::Reply<'_> {
        resp::Reply::new(&mut self.out, self.protocol)
    }

    /// Bytes of replies that the client has not read.
    pub fn output_bytes(&self) -> usize {
        self.out.len() + self.late.len() + self.sending_bytes
    }

    /// Remembers what the command whose reply begins at `start` has to do with a shard's log.
    #[inline]
    pub fn note_logged(&mut self, start: usize, shard: ShardIndex, logged: Logged) {
        if let Some(end) = logged.wrote {
            self.wrote(shard, end);
        }
        if let Some(lsn) = logged.awaits {
            self.waits.add(start, shard, lsn);
        }
    }

    /// Remembers that this connection's effects in a shard's log end here.
    #[inline]
    pub fn wrote(&mut self, shard: ShardIndex, end: Lsn) {
        let index = usize::from(shard.0);
        if index >= self.last_writes.len() {
            self.last_writes.resize(index + 1, Lsn(0));
        }
        self.last_writes[index] = end;
    }

    /// It speaks RESP2, where a reply and a message cannot be told apart, and is subscribed: few
    /// commands are allowed.
    pub fn is_confined(&self) -> bool {
        self.protocol == Protocol::Resp2 && self.is_subscribed()
    }

    /// What depends on subscriptions and protocol follows a change of either.
    pub fn subscriptions_changed(&mut self) {
        self.subscriptions.take_if(|own| own.is_empty());
        self.decide_special();
        let own = self.subscriptions.as_ref();
        for kind in Kind::ALL {
            let count = own.map_or(0, |own| own.count(kind));
            self.record.subscriptions[kind as usize].store(count, Relaxed);
        }
    }

    fn decide_special(&mut self) {
        let remembers = self.tracking.as_ref().is_some_and(|own| !own.broadcast);
        self.is_special = self.is_confined() || remembers;
    }

    /// What depends on the options of tracking follows a change of them.
    pub fn tracking_changed(&mut self) {
        self.decide_special();
        let own = self.tracking.as_ref();
        let redirect = own.map_or(-1, |own| own.redirect.unwrap_or(0) as i64);
        self.record.redirect.store(redirect, Relaxed);
        if own.is_some_and(|own| own.redirect_broken) {
            self.record.flags.fetch_or(flag::REDIRECT_BROKEN, Relaxed);
        }
    }

    /// Publishes what CLIENT LIST shows of the output.
    pub fn update_output(&self) {
        let record = &*self.record;
        let output = &record.output_capacity_bytes;
        output.store(self.out.capacity(), Relaxed);
        record.output_bytes.store(self.output_bytes(), Relaxed);
        record.memory_bytes.store(self.memory_bytes(), Relaxed);
    }

    /// What this client takes.
    pub fn memory_bytes(&self) -> usize {
        let subscriptions = self.subscriptions.as_ref();
        let tls = self.tls.as_ref();
        let own = size_of::<Connection>() + size_of::<ClientRecord>();
        own + self.input.capacity()
            + self.large_input_bytes
            + self.out.capacity()
            + self.late.len()
            + self.sending_bytes
            + self.transaction.as_ref().map_or(0, Transaction::bytes)
            + subscriptions.map_or(0, |own| own.memory_bytes())
            + tls.map_or(0, |tls| tls.memory_bytes())
    }

    /// Publishes what CLIENT LIST shows.
    pub fn update_record(&self, last_command: Option<&'static commands::Command>) {
        let record = &*self.record;
        record.active_at.store(self.active_at.0, Relaxed);
        record.db.store(self.db.0, Relaxed);
        record.resp.store(
            if self.protocol == Protocol::Resp3 {
                3
            } else {
                2
            },
            Relaxed,
        );
        record.multi.store(
            self.transaction.as_ref().map_or(-1, |t| t.len() as i64),
            Relaxed,
        );
        record.watches.store(self.watches.len(), Relaxed);
        record.multi_bytes.store(
            self.transaction.as_ref().map_or(0, Transaction::bytes),
            Relaxed,
        );
        record.input_bytes.store(self.input.len(), Relaxed);
        record
            .input_free_bytes
            .store(self.input.capacity() - self.input.len(), Relaxed);
        self.update_output();
        record.net_input_bytes.store(self.net_input_bytes, Relaxed);
        record
            .net_output_bytes
            .store(self.net_output_bytes, Relaxed);
        record.commands.store(self.commands, Relaxed);
        if let Some(command) = last_command {
            record
                .last_command
                .store(std::ptr::from_ref(command).addr(), Relaxed);
        }
        let bit = |on: bool, bit: u32| if on { bit } else { 0 };
        let flags = bit(self.transaction.is_some(), flag::MULTI)
            | bit(self.closing, flag::CLOSE_AFTER_REPLY)
            | bit(self.no_evict, flag::NO_EVICT)
            | bit(self.no_touch, flag::NO_TOUCH)
            | bit(self.monitors, flag::MONITOR)
            | bit(self.is_subscribed(), flag::PUBSUB)
            | self.tracking.as_ref().map_or(0, |own| {
                flag::TRACKING
                    | bit(own.broadcast, flag::BROADCAST)
                    | bit(own.redirect_broken, flag::REDIRECT_BROKEN)
            })
            | bit(self.blocked.is_some() || self.postponed, flag::BLOCKED);
        record.flags.store(flags, Relaxed);
    }
}
