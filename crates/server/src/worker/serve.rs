//! Connections: from accept to close, bytes in and replies out.

use std::sync::atomic::{
    fence, AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex};

use keyspace::{Lsn, ShardIndex};
use reactor::{CloseReason, ConnId, Handler, Reactor, Stream};

use super::blocked::UNBLOCKED;
use super::connection::Connection;
use super::mailbox::Message;
use super::posted::Reply;
use super::tls::Tls;
use super::{Worker, ACCEPTING_WORKER};
use crate::aof::Aof;
use crate::clients::{ClientRecord, Labels};
use crate::{clock, log, startup};

/// Buffers that have grown beyond this are given back when they are empty.
pub(super) const KEPT_BUFFER_BYTES: usize = 64 * 1024;

const MAX_CLIENTS: &[u8] = b"-ERR max number of clients reached\r\n";
const PROTECTED_MODE: &[u8] = b"-DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the default user. \
In this mode connections are only accepted from the loopback interface. \
If you want to connect from external computers to Redis you may adopt one of the following solutions: \
1) Just disable protected mode sending the command 'CONFIG SET protected-mode no' from the loopback interface by connecting to Redis from the same host the server is running, however MAKE SURE Redis is not publicly accessible from internet if you do so. Use CONFIG REWRITE to make this change permanent. \
2) Alternatively you can just disable the protected mode by editing the Redis configuration file, and setting the protected mode option to 'no', and then restarting the server. \
3) If you started the server manually just for testing, restart it with the '--protected-mode no' option. \
4) Set up an authentication password for the default user. \
NOTE: You only need to do one of the above things in order for the server to start accepting connections from the outside.\r\n";

impl Worker {
    pub(super) fn connection_mut(&mut self, conn: ConnId) -> Option<&mut Connection> {
        self.connections
            .get_mut(conn.slot())?
            .as_deref_mut()
            .filter(|c| c.id == conn)
    }

    /// Runs `f` on a connection taken out of the table, so that it can use the whole worker.
    pub(crate) fn with_connection<R>(
        &mut self,
        conn: ConnId,
        f: impl FnOnce(&mut Worker, &mut Connection) -> R,
    ) -> Option<R> {
        let mut c = self.connections.get_mut(conn.slot())?.take()?;
        let result = (c.id == conn).then(|| f(self, &mut c));
        self.connections[conn.slot()] = Some(c);
        result
    }

    /// The connections of this worker for which `holds` says yes.
    pub(crate) fn connections_where(&self, holds: impl Fn(&Connection) -> bool) -> Vec<ConnId> {
        let all = self.connections.iter().flatten();
        all.filter(|c| holds(c)).map(|c| c.id).collect()
    }

    pub(super) fn read_mailbox(&mut self, reactor: &mut Reactor) {
        self.collect_messages();
        // What runs here may take pushes out of the middle.
        while let Some(message) = self.messages.pop_front() {
            match message {
                Message::Connection { stream, tag } => self.add_connection(reactor, stream, tag),
                Message::Reply(reply) => self.take_reply(reactor, reply),
                Message::CoordinatorReply { conn, reply } => {
                    let is_error = reply.starts_with(b"-");
                    self.take_reply(reactor, Reply::early(conn, reply, is_error));
                }
                Message::Unblock { conn, with_error } => {
                    self.end_wait_early(reactor, conn, with_error.then_some(UNBLOCKED));
                }
                Message::AfterDue => {
                    self.with_shard(ShardIndex(self.index as u16), |_| ());
                }
                Message::Kill(conn) => self.disconnect(reactor, conn),
                Message::CheckChannels(user) => self.close_forbidden_subscribers(&user),
                Message::Push(push) => self.deliver(&push, None),
                Message::SetConfig(change) => self.set_config(reactor, change),
            }
        }
    }

    fn add_connection(&mut self, reactor: &mut Reactor, stream: Stream, tag: u32) {
        self.refresh_config();
        let server = self.server;
        let config = &self.config;
        self.stats().connections_received.add(1);
        let connected: u32 = server
            .workers
            .iter()
            .map(|w| w.connections.load(Relaxed))
            .sum();
        let refusal = if connected > config.maxclients {
            Some(MAX_CLIENTS)
        } else if config.protected_mode && !server.acl.demands_login() && !stream.peer_is_loopback()
        {
            Some(PROTECTED_MODE)
        } else {
            None
        };
        let is_tls = tag == startup::TLS_TAG;
        if let Some(text) = refusal {
            self.stats().connections_rejected.add(1);
            // Whoever speaks TLS would not understand a word of plain text. Redis tells it after the handshake why
            // protected mode turns it away, and nothing where there are too many clients.
            if !is_tls || text == MAX_CLIENTS {
                if !is_tls {
                    stream.write_now(text);
                }
                server.workers[self.index].connections.fetch_sub(1, Relaxed);
                return;
            }
        }
        let session = server.tls.get().filter(|_| is_tls);
        let tls = match session.map(Tls::new).transpose() {
            Ok(tls) if tls.is_some() == is_tls => tls,
            _ => {
                log!(Warning, "Cannot serve a new connection with TLS");
                server.workers[self.index].connections.fetch_sub(1, Relaxed);
                return;
            }
        };
        // A socket without these options still works.
        let _ = stream.set_nodelay();
        let _ = stream.set_keepalive(config.tcp_keepalive_secs);
        let (address, local_address) = (stream.peer_address(), stream.local_address());
        let (is_unix, fd) = (stream.is_unix(), stream.raw_fd().unwrap_or(-1));
        let conn = match reactor.add(stream) {
            Ok(conn) => conn,
            Err(error) => {
                log!(Warning, "Cannot serve a new connection: {error}");
                server.workers[self.index].connections.fetch_sub(1, Relaxed);
                return;
            }
        };
        let record = Arc::new(ClientRecord {
            id: server.clients.next_id(),
            worker: self.index,
            conn,
            fd,
            address,
            local_address,
            connected_at: self.now,
            is_unix,
            labels: Mutex::new(Labels {
                user: b"default".to_vec(),
                ..Labels::default()
            }),
            active_at: AtomicI64::new(self.now.0),
            db: AtomicU32::new(0),
            resp: AtomicU32::new(2),
            flags: AtomicU32::new(0),
            multi: AtomicI64::new(-1),
            watches: AtomicUsize::new(0),
            redirect: AtomicI64::new(-1),
            subscriptions: Default::default(),
            multi_bytes: AtomicUsize::new(0),
            input_bytes: AtomicUsize::new(0),
            argv_bytes: AtomicUsize::new(0),
            input_free_bytes: AtomicUsize::new(0),
            output_bytes: AtomicUsize::new(0),
            output_capacity_bytes: AtomicUsize::new(0),
            memory_bytes: AtomicUsize::new(0),
            net_input_bytes: AtomicU64::new(0),
            net_output_bytes: AtomicU64::new(0),
            commands: AtomicU64::new(0),
            last_command: AtomicUsize::new(0),
            killed: AtomicBool::new(false),
            blocked: Mutex::default(),
        });
        server.clients.add(record.clone());
        let mut connection = Box::new(Connection::new(conn, record, server.acl.default_user()));
        connection.tls = tls.map(Box::new);
        if let Some(text) = refusal {
            connection.out.extend_from_slice(text);
            connection.closing = true;
        }
        if self.connections.len() <= conn.slot() {
            self.connections.resize_with(conn.slot() + 1, || None);
        }
        self.connections[conn.slot()] = Some(connection);
    }

    /// Closes a connection at once, whatever it has yet to read.
    pub(super) fn disconnect(&mut self, reactor: &mut Reactor, conn: ConnId) {
        if self.connection_mut(conn).is_some() {
            reactor.close(conn);
            self.drop_connection(conn);
        }
    }

    /// Forgets a connection whose socket is closed or about to be.
    fn drop_connection(&mut self, conn: ConnId) {
        let Some(mut c) = self
            .connections
            .get_mut(conn.slot())
            .and_then(|slot| slot.take_if(|c| c.id == conn))
        else {
            return;
        };
        self.forget_watches(&mut c);
        self.forget_subscriptions(&mut c);
        self.end_monitoring(&mut c);
        if self.end_tracking(&mut c) {
            self.server.note_changes_for_broadcast();
        }
        self.forget_wait(&mut c);
        self.count_bytes(&mut c, 0);
        self.server.clients.remove(c.record.id);
        self.server.workers[self.index]
            .connections
            .fetch_sub(1, Relaxed);
        self.keep_for_script(c);
    }

    /// A script that was interrupted has replied to this connection, which goes on.
    pub(crate) fn script_ended(&mut self, reactor: &mut Reactor, conn: ConnId) {
        self.with_connection(conn, |worker, c| {
            c.waiting = false;
            c.flush_late(&worker.server.aof);
            worker.go_on(reactor, c);
        });
    }

    /// A connection's posted command has been run: its reply goes out and the connection goes on.
    pub(super) fn take_reply(&mut self, reactor: &mut Reactor, reply: Reply) {
        if reply.is_error {
            self.count_error(reply.bytes.strip_prefix(b"-").unwrap_or_default());
        }
        self.with_connection(reply.conn, |worker, c| {
            for (shard, logged) in reply.logged.into_iter().chain(reply.also_logged) {
                c.note_logged(c.out.len(), shard, logged);
            }
            if let Some(command) = worker.end_wait(c) {
                let stat = worker.stats().of(command);
                stat.calls.add(1);
                stat.failed.add(u64::from(reply.is_error));
            }
            if !std::mem::take(&mut c.drops_reply) {
                c.out.extend_from_slice(&reply.bytes);
            }
            c.waiting = false;
            c.flush_late(&worker.server.aof);
            worker.go_on(reactor, c);
        });
    }

    /// Replies to those who waited by WAIT or WAITAOF long enough.
    pub(super) fn serve_wishes(&mut self, reactor: &mut Reactor) {
        let wishes = std::mem::take(&mut self.wishes);
        for (conn, wish) in wishes {
            let (aof, now, is_logged) = (&self.server.aof, self.now, self.config.appendonly);
            let outcome = self.connection_mut(conn).and_then(|c| {
                let outcome = wish.outcome(aof, is_logged, &c.last_writes, now, c.protocol)?;
                c.blocked.as_ref()?.claim().take().then_some(outcome)
            });
            match outcome {
                None => self.wishes.push((conn, wish)),
                Some(bytes) => {
                    let is_error = bytes.starts_with(b"-");
                    self.take_reply(reactor, Reply::early(conn, bytes, is_error));
                }
            }
        }
    }

    /// Processes what a connection has received.
    pub(super) fn go_on(&mut self, reactor: &mut Reactor, c: &mut Connection) {
        if !c.waiting && !c.closing && !c.receiving_large && !c.input.is_empty() {
            let mut input = std::mem::take(&mut c.input);
            let (used, wanted) = self.process(c, &input);
            if used == input.len() && input.capacity() > KEPT_BUFFER_BYTES {
                input = Vec::new();
            } else {
                input.drain(..used);
            }
            c.input = input;
            self.receive_rest(reactor, c, wanted);
        }
        self.mark_dirty(c);
    }

    /// Has the rest of a large request received straight into its buffer.
    pub(super) fn receive_rest(
        &mut self,
        reactor: &mut Reactor,
        c: &mut Connection,
        wanted: usize,
    ) {
        if c.waiting || c.closing {
            return;
        }
        if let Some(len) = Self::large_receive(c.input.len(), wanted) {
            if len as u64 > self.config.client_query_buffer_limit_bytes {
                return;
            }
            if let Some(tls) = &mut c.tls {
                // It arrives in records, so only the room can be made.
                tls.input_wanted = len;
                c.input.reserve_exact(len - c.input.len());
                return;
            }
            c.receiving_large = true;
            let mut input = std::mem::take(&mut c.input);
            input.reserve_exact(len - input.len());
            c.large_input_bytes = input.capacity();
            reactor.receive_into(c.id, input, len);
        }
    }

    pub(crate) fn mark_dirty(&mut self, c: &mut Connection) {
        let has_records = |c: &Connection| c.tls.as_ref().is_some_and(|tls| tls.wants_send());
        if !c.is_dirty && (!c.out.is_empty() || c.closing || has_records(c)) {
            c.is_dirty = true;
            self.dirty.push(c.id);
        }
    }

    pub(super) fn check_query_buffer(&mut self, c: &mut Connection) {
        if c.input.len() as u64 > self.config.client_query_buffer_limit_bytes {
            log!(
                Warning,
                "Closing client that reached max query buffer length: id={} addr={}",
                c.record.id,
                c.record.address
            );
            self.stats().query_buffer_limit_disconnections.add(1);
            c.closing = true;
            c.discard_output();
            self.mark_dirty(c);
        }
    }

    /// Hands over what the turn has produced, where the logs and the disk allow it.
    pub(super) fn send_replies(&mut self, reactor: &mut Reactor) {
        let mut dirty = std::mem::take(&mut self.dirty);
        let mut awaiting = std::mem::take(&mut self.awaiting_durable);
        for conn in awaiting.drain(..) {
            if let Some(c) = self.connection_mut(conn) {
                c.awaits_durable = false;
                if !std::mem::replace(&mut c.is_dirty, true) {
                    dirty.push(conn);
                }
            }
        }
        self.awaiting_durable = awaiting;
        for conn in dirty.drain(..) {
            let Some(close) = self.with_connection(conn, |worker, c| worker.send(reactor, c))
            else {
                continue;
            };
            if close {
                self.drop_connection(conn);
            }
        }
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
        if self.awaits_durable && self.awaiting_durable.is_empty() && self.wishes.is_empty() {
            self.awaits_durable = false;
            let handle = &self.server.workers[self.index];
            handle.awaits_durable.store(false, SeqCst);
        }
    }

    /// Has this worker woken when a log becomes durable. Before a look at how far one is.
    pub(crate) fn await_durable(&mut self) {
        if !self.awaits_durable {
            self.awaits_durable = true;
            let handle = &self.server.workers[self.index];
            handle.awaits_durable.store(true, SeqCst);
            fence(SeqCst);
        }
    }

    /// Sends a connection's replies. True when the connection is to be forgotten.
    fn send(&mut self, reactor: &mut Reactor, c: &mut Connection) -> bool {
        c.is_dirty = false;
        let ready = if c.waits.is_empty() && !self.server.aof.has_unwritten() {
            c.out.len()
        } else {
            self.ready_bytes(c)
        };
        if c.tls.is_some() {
            self.send_sealed(reactor, c, ready);
        } else if ready > 0 && !reactor.is_sending(c.id) {
            let buf = self.take_output(c, ready);
            if let Some(buf) = reactor.send(c.id, buf) {
                c.sending_bytes = 0;
                keep_buffer(c, buf);
            }
        }
        if c.closing && c.has_handed_over() {
            reactor.close_after_send(c.id);
            return true;
        }
        c.update_output();
        self.weigh(c);
        self.exceeds_output_limit(reactor, c)
    }

    /// Takes the first bytes of a connection's output, to be sent.
    #[inline]
    pub(super) fn take_output(&mut self, c: &mut Connection, bytes: usize) -> Vec<u8> {
        let mut buf = std::mem::take(&mut c.out);
        if bytes < buf.len() {
            c.out = buf.split_off(bytes);
        }
        c.waits.left(bytes);
        c.sending_bytes = bytes;
        c.net_output_bytes += bytes as u64;
        self.stats().writes.add(1);
        self.stats().net_output_bytes.add(bytes as u64);
        buf
    }

    /// How much of the output may leave: that in front of the first reply that waits for the disk.
    fn ready_bytes(&mut self, c: &mut Connection) -> usize {
        self.await_durable();
        let aof = &self.server.aof;
        let always = aof.fsyncs_always();
        let mut ready = c.waits.ready(c.out.len(), |shard, lsn| {
            if always {
                aof.durable(shard) >= lsn
            } else {
                // The policy was changed meanwhile.
                !aof.is_on() || aof.written(shard) >= lsn
            }
        });
        let mut waits = !c.waits.is_empty();
        let may_owe = !waits || aof.has_unwritten();
        if may_owe && aof.is_on() && !wrote_all(aof, &c.last_writes) {
            // What this connection wrote last could not be written, on a full disk say. Which of
            // its replies show that is known of those made under `always` alone, and the policy
            // may have changed since: one that waits says nothing about those in front of it.
            (ready, waits) = (0, true);
        }
        if waits && !std::mem::replace(&mut c.awaits_durable, true) {
            self.awaiting_durable.push(c.id);
        }
        ready
    }

    /// Disconnects a client that does not read its replies, as `client-output-buffer-limit` says.
    fn exceeds_output_limit(&mut self, reactor: &mut Reactor, c: &mut Connection) -> bool {
        let limits = &self.config.client_output_buffer_limit;
        let limit = match c.is_subscribed() {
            true => &limits.pubsub,
            false => &limits.normal,
        };
        let bytes = c.output_bytes() as u64;
        let hard = limit.hard_bytes > 0 && bytes > limit.hard_bytes;
        let soft = limit.soft_bytes > 0 && bytes > limit.soft_bytes;
        if !soft {
            c.above_soft_limit_since = None;
        }
        let too_long = soft && {
            let since = *c.above_soft_limit_since.get_or_insert_with(clock::instant);
            clock::elapsed_since(since).as_secs() > limit.soft_seconds
        };
        if !hard && !too_long {
            return false;
        }
        log!(Warning, "Client id={} addr={} scheduled to be closed ASAP for overcoming of output buffer limits.", c.record.id, c.record.address);
        self.stats().output_buffer_limit_disconnections.add(1);
        reactor.close(c.id);
        true
    }

    /// Disconnects clients that were idle for `timeout` seconds.
    pub(super) fn close_idle(&mut self, reactor: &mut Reactor) {
        let timeout_ms = i64::from(self.config.timeout_secs) * 1000;
        let now = self.now.0;
        let idle: Vec<ConnId> = self
            .connections
            .iter()
            .flatten()
            .filter(|c| timeout_ms > 0 && now - c.active_at.0 > timeout_ms && !c.waiting)
            .map(|c| c.id)
            .collect();
        for conn in idle {
            log!(Verbose, "Closing idle client");
            reactor.close(conn);
            self.drop_connection(conn);
        }
        let slow: Vec<ConnId> = self
            .connections
            .iter()
            .flatten()
            .filter(|c| c.above_soft_limit_since.is_some())
            .map(|c| c.id)
            .collect();
        for conn in slow {
            if self.with_connection(conn, |worker, c| worker.exceeds_output_limit(reactor, c))
                == Some(true)
            {
                self.drop_connection(conn);
            }
        }
    }
}

/// Whether a connection's last writes are in the files.
fn wrote_all(aof: &Aof, last_writes: &[Lsn]) -> bool {
    let is_written = |(index, lsn): (usize, &Lsn)| aof.written(ShardIndex(index as u16)) >= *lsn;
    last_writes.iter().enumerate().all(is_written)
}

/// Keeps a sent buffer for the next replies, unless one has begun or it is large.
pub(super) fn keep_buffer(c: &mut Connection, buf: Vec<u8>) {
    if c.out.capacity() == 0 && buf.capacity() <= KEPT_BUFFER_BYTES {
        c.out = buf;
    }
}

impl Handler for Worker {
    fn accepted(&mut self, reactor: &mut Reactor, tag: u32, stream: Stream) {
        let workers = &self.server.workers;
        // The least loaded; among equals the one after the last that got one.
        let count = workers.len();
        let least = (0..count)
            .map(|i| (self.next_listener + i) % count)
            .min_by_key(|&i| workers[i].connections.load(Relaxed));
        let worker = least.unwrap_or(ACCEPTING_WORKER);
        self.next_listener = (worker + 1) % count;
        workers[worker].connections.fetch_add(1, Relaxed);
        if worker == self.index {
            self.add_connection(reactor, stream, tag);
        } else {
            workers[worker]
                .mailbox
                .post(Message::Connection { stream, tag });
        }
    }

    fn accept_failed(&mut self, _: &mut Reactor, _tag: u32, error: std::io::Error) {
        log!(Warning, "Accepting client connection: {error}");
    }

    fn received(&mut self, reactor: &mut Reactor, conn: ConnId, data: &[u8]) {
        self.read_clock();
        self.stats().reads.add(1);
        self.with_connection(conn, |worker, c| {
            c.active_at = worker.now;
            if c.tls.is_some() {
                return worker.received_sealed(reactor, c, data);
            }
            worker.stats().net_input_bytes.add(data.len() as u64);
            c.net_input_bytes += data.len() as u64;
            if c.closing {
                return;
            }
            if !c.input.is_empty() || c.waiting {
                c.input.extend_from_slice(data);
                worker.go_on(reactor, c);
            } else {
                let (used, wanted) = worker.process(c, data);
                c.input.extend_from_slice(&data[used..]);
                worker.receive_rest(reactor, c, wanted);
                worker.mark_dirty(c);
            }
            worker.check_query_buffer(c);
            worker.weigh(c);
        });
    }

    fn received_into(&mut self, reactor: &mut Reactor, conn: ConnId, buf: Vec<u8>) {
        self.read_clock();
        self.stats().net_input_bytes.add(buf.len() as u64);
        self.stats().reads.add(1);
        self.with_connection(conn, |worker, c| {
            c.active_at = worker.now;
            c.receiving_large = false;
            c.large_input_bytes = 0;
            c.net_input_bytes += buf.len() as u64;
            c.input = buf;
            worker.go_on(reactor, c);
            worker.weigh(c);
        });
    }

    fn receiving(&mut self, _: &mut Reactor, conn: ConnId, _len: usize) {
        let now = self.now;
        if let Some(c) = self.connection_mut(conn) {
            c.active_at = now;
        }
    }

    fn sent(&mut self, _: &mut Reactor, conn: ConnId, buf: Vec<u8>) {
        if self.connection_mut(conn).is_some_and(|c| c.tls.is_some()) {
            return self.sent_sealed(conn, buf);
        }
        self.with_connection(conn, |worker, c| {
            c.sending_bytes = 0;
            keep_buffer(c, buf);
            c.update_output();
            worker.weigh(c);
            worker.mark_dirty(c);
        });
    }

    fn closed(&mut self, _: &mut Reactor, conn: ConnId, _reason: CloseReason) {
        self.drop_connection(conn);
    }

    fn woken(&mut self, _: &mut Reactor) {
        // The mailbox is read after every turn.
    }
}
