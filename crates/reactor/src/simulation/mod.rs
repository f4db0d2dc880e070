//! A network in memory whose every choice comes from a seed: how bytes are split, when they arrive, which connection
//! is served first, when a send is taken and when a wake is noticed.
//!
//! Within a connection bytes stay in order; nothing is ever lost except by a reset. All state that both ends share
//! lies in `Network`; the lock is held only between callbacks. With everything on one thread, a run depends on the
//! seed alone.

mod network;
mod turn;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::listener::{self, Listener};
use crate::notifier::Wake;
use crate::reactor::{Inner, Reactor};
use crate::slots::{ConnId, Slots};
use crate::stream::{self, Stream};
use crate::CloseReason;

use network::Network;

pub(crate) use turn::turn;

/// A simulated network; the handle is cheap to clone.
#[derive(Clone)]
pub struct Simulation(Arc<Mutex<Network>>);

impl Simulation {
    pub fn new(seed: u64) -> Simulation {
        Simulation(Arc::new(Mutex::new(Network::new(seed))))
    }

    fn network(&self) -> MutexGuard<'_, Network> {
        self.0
            .lock()
            .expect("no callback runs under the lock, so none can panic there")
    }

    /// Another worker's reactor on this network.
    pub fn reactor(&self) -> Reactor {
        let wake = Wake::simulated();
        self.network().notifiers.push(wake.notifier());
        Reactor(Inner::Simulated(Box::new(Simulated {
            simulation: self.clone(),
            wake,
            tags: Vec::new(),
            connections: Slots::new(),
            failed: Vec::new(),
        })))
    }

    /// For [`Reactor::listen`]. Several reactors may listen with the same tag: the seed chooses who accepts.
    pub fn listener(&self) -> Listener {
        Listener(listener::Kind::Simulated(self.clone()))
    }

    /// A client that connects to the listener registered with `tag`; refused if there is none.
    pub fn connect(&self, tag: u32) -> SimClient {
        let id = self.network().connect(tag);
        SimClient {
            simulation: self.clone(),
            id,
        }
    }

    /// Nothing is on its way: turns without new input would do nothing. Bytes that wait for a paused connection or
    /// a full window do not count.
    pub fn is_quiet(&self) -> bool {
        self.network().is_quiet()
    }
}

/// The far end of a simulated connection, in the hands of a test. Dropping it closes it.
pub struct SimClient {
    simulation: Simulation,
    id: usize,
}

impl SimClient {
    pub fn send(&self, bytes: &[u8]) {
        let mut network = self.simulation.network();
        let link = &mut network.links[self.id];
        if !link.client_closed && !link.reset {
            link.to_server.extend(bytes);
        }
    }

    /// What has arrived since the last call.
    pub fn take_received(&self) -> Vec<u8> {
        std::mem::take(&mut self.simulation.network().links[self.id].to_client)
    }

    /// Closes in order: the server receives everything sent before. What it answered to that can still be taken.
    pub fn close(&self) {
        self.simulation.network().links[self.id].client_closed = true;
    }

    /// Breaks off: what was sent but not received is lost.
    pub fn reset(&self) {
        let mut network = self.simulation.network();
        let link = &mut network.links[self.id];
        link.reset = true;
        link.to_server.clear();
    }

    pub fn is_closed_by_server(&self) -> bool {
        self.simulation.network().links[self.id].server_closed
    }

    /// Makes a slow reader: at most `bytes` wait to be taken; the server's sends stall beyond that.
    pub fn set_window(&self, bytes: usize) {
        self.simulation.network().links[self.id].window = bytes;
    }
}

impl Drop for SimClient {
    fn drop(&mut self) {
        self.close();
    }
}

/// The server's end of a simulated connection.
pub(crate) struct SimStream {
    simulation: Simulation,
    id: usize,
}

impl SimStream {
    pub(crate) fn peer_address(&self) -> String {
        format!("127.0.0.1:{}", 10_000 + self.id)
    }

    pub(crate) fn local_address(&self) -> String {
        "127.0.0.1:6379".to_string()
    }

    pub(crate) fn write_now(&self, bytes: &[u8]) {
        self.simulation.network().links[self.id].transmit(bytes);
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let mut network = self.simulation.network();
        let link = &mut network.links[self.id];
        link.server_closed = true;
        link.receiving = false;
        link.unsent = 0;
    }
}

struct Target {
    buf: Vec<u8>,
    len_wanted: usize,
}

struct Connection {
    stream: Stream,
    link: usize,
    paused: bool,
    finishing: bool,
    broken: bool,
    sending: bool,
    send: Vec<u8>,
    send_offset: usize,
    target: Option<Target>,
}

/// The backend of one simulated reactor.
pub(crate) struct Simulated {
    simulation: Simulation,
    wake: Wake,
    tags: Vec<u32>,
    connections: Slots<Connection>,
    failed: Vec<(ConnId, CloseReason)>,
}

impl Simulated {
    pub(crate) fn listen(&mut self, listener: Listener, tag: u32) -> io::Result<()> {
        match listener.0 {
            listener::Kind::Simulated(other) if Arc::ptr_eq(&other.0, &self.simulation.0) => {
                self.simulation.network().listening.push(tag);
                self.tags.push(tag);
                Ok(())
            }
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    pub(crate) fn stop_listening(&mut self) {
        let mut network = self.simulation.network();
        for tag in self.tags.drain(..) {
            network.stop_listening(tag);
        }
    }

    pub(crate) fn add(&mut self, stream: Stream) -> io::Result<ConnId> {
        let stream::Kind::Simulated(end) = &stream.0 else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let link = end.id;
        self.simulation.network().links[link].receiving = true;
        Ok(self.connections.insert(Connection {
            stream,
            link,
            paused: false,
            finishing: false,
            broken: false,
            sending: false,
            send: Vec::new(),
            send_offset: 0,
            target: None,
        }))
    }

    pub(crate) fn send(&mut self, conn: ConnId, mut buf: Vec<u8>) -> Option<Vec<u8>> {
        let Some(connection) = self
            .connections
            .get_mut(conn)
            .filter(|c| !c.finishing && !c.broken)
        else {
            buf.clear();
            return Some(buf);
        };
        assert!(!connection.sending, "one send at a time");
        let mut network = self.simulation.network();
        // Sometimes taken at once, as epoll does, and sometimes only later, as io_uring does.
        let at_once = if network.chance(1, 2) { buf.len() } else { 0 };
        let link = &mut network.links[connection.link];
        if link.reset {
            connection.broken = true;
            link.unsent = 1;
            self.failed.push((
                conn,
                CloseReason::Error(io::ErrorKind::ConnectionReset.into()),
            ));
            buf.clear();
            return Some(buf);
        }
        let taken = link.transmit(&buf[..at_once]);
        if taken == buf.len() {
            buf.clear();
            return Some(buf);
        }
        link.unsent = buf.len() - taken;
        connection.send_offset = taken;
        connection.send = buf;
        connection.sending = true;
        None
    }

    pub(crate) fn is_sending(&self, conn: ConnId) -> bool {
        self.connections.get(conn).is_some_and(|c| c.sending)
    }

    pub(crate) fn pause(&mut self, conn: ConnId) {
        self.set_paused(conn, true);
    }

    pub(crate) fn resume(&mut self, conn: ConnId) {
        self.set_paused(conn, false);
    }

    fn set_paused(&mut self, conn: ConnId, paused: bool) {
        if let Some(connection) = self.connections.get_mut(conn) {
            connection.paused = paused;
            self.simulation.network().links[connection.link].receiving =
                !paused && !connection.finishing;
        }
    }

    pub(crate) fn receive_into(&mut self, conn: ConnId, mut buf: Vec<u8>, len_wanted: usize) {
        if let Some(connection) = self.connections.get_mut(conn) {
            assert!(connection.target.is_none(), "one receive_into at a time");
            buf.reserve_exact(len_wanted - buf.len());
            connection.target = Some(Target { buf, len_wanted });
        }
    }

    pub(crate) fn close(&mut self, conn: ConnId) {
        self.connections.remove(conn);
    }

    pub(crate) fn close_after_send(&mut self, conn: ConnId) -> bool {
        let Some(connection) = self.connections.get_mut(conn) else {
            return true;
        };
        if !connection.sending {
            self.close(conn);
            return true;
        }
        connection.finishing = true;
        self.simulation.network().links[connection.link].receiving = false;
        false
    }

    pub(crate) fn stream(&self, conn: ConnId) -> Option<&Stream> {
        Some(&self.connections.get(conn)?.stream)
    }

    pub(crate) fn connection_count(&self) -> usize {
        self.connections.len()
    }

    pub(crate) fn wake(&self) -> &Wake {
        &self.wake
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        self.stop_listening();
    }
}
