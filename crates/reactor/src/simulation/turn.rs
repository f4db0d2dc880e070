//! One turn of a simulated reactor: a part of what could happen does, in an order of the seed's choosing.

use std::io;

use crate::reactor::{Inner, Reactor};
use crate::slots::ConnId;
use crate::stream::{Kind, Stream};
use crate::{CloseReason, Handler};

use super::{SimStream, Simulated};

enum Happening {
    Wake,
    Accept,
    Receive(ConnId),
    Send(ConnId),
}

fn simulated_mut(reactor: &mut Reactor) -> Option<&mut Simulated> {
    match &mut reactor.0 {
        Inner::Simulated(simulated) => Some(simulated),
        _ => None,
    }
}

pub(crate) fn turn<H: Handler>(reactor: &mut Reactor, handler: &mut H) -> io::Result<()> {
    let Some(this) = simulated_mut(reactor) else {
        return Ok(());
    };
    let failed = std::mem::take(&mut this.failed);
    for happening in this.happenings() {
        match happening {
            Happening::Wake => wake(reactor, handler),
            Happening::Accept => accept(reactor, handler),
            Happening::Receive(conn) => receive(reactor, handler, conn),
            Happening::Send(conn) => send(reactor, handler, conn),
        }
    }
    for (conn, reason) in failed {
        report_closed(reactor, handler, conn, reason);
    }
    Ok(())
}

impl Simulated {
    /// The part of all that could happen which happens in this turn.
    fn happenings(&mut self) -> Vec<Happening> {
        let mut network = self.simulation.network();
        let mut happenings = Vec::new();
        if self.wake.is_pending() {
            happenings.push(Happening::Wake);
        }
        let arrivals = network
            .arriving
            .iter()
            .filter(|(tag, _)| self.tags.contains(tag));
        happenings.extend(arrivals.map(|_| Happening::Accept));
        for conn in self.connections.ids() {
            let Some(connection) = self.connections.get(conn) else {
                continue;
            };
            if network.links[connection.link].can_receive() {
                happenings.push(Happening::Receive(conn));
            }
            if network.links[connection.link].can_send() {
                happenings.push(Happening::Send(conn));
            }
        }
        network.shuffle(&mut happenings);
        happenings.retain(|_| network.chance(3, 4));
        happenings
    }
}

fn wake<H: Handler>(reactor: &mut Reactor, handler: &mut H) {
    if simulated_mut(reactor).is_some_and(|this| this.wake.take()) {
        handler.woken(reactor);
    }
}

fn accept<H: Handler>(reactor: &mut Reactor, handler: &mut H) {
    let Some(this) = simulated_mut(reactor) else {
        return;
    };
    let simulation = this.simulation.clone();
    let arrived = {
        let mut network = simulation.network();
        let first = network
            .arriving
            .iter()
            .position(|(tag, _)| this.tags.contains(tag));
        first.and_then(|at| network.arriving.remove(at))
    };
    if let Some((tag, id)) = arrived {
        let stream = Stream(Kind::Simulated(SimStream { simulation, id }));
        handler.accepted(reactor, tag, stream);
    }
}

/// What a receive found.
enum Found {
    Bytes(Vec<u8>),
    End(CloseReason),
}

impl Simulated {
    fn take_bytes(&mut self, conn: ConnId) -> Option<Found> {
        let connection = self.connections.get(conn)?;
        let mut network = self.simulation.network();
        let link = &network.links[connection.link];
        if !link.can_receive() {
            return None;
        }
        if link.reset {
            return Some(Found::End(CloseReason::Error(
                io::ErrorKind::ConnectionReset.into(),
            )));
        }
        let available = link.to_server.len();
        if available == 0 {
            return Some(Found::End(CloseReason::PeerClosed));
        }
        let mut count = network.portion(available);
        if let Some(target) = &connection.target {
            count = count.min(target.len_wanted - target.buf.len());
        }
        Some(Found::Bytes(
            network.links[connection.link]
                .to_server
                .drain(..count)
                .collect(),
        ))
    }
}

fn receive<H: Handler>(reactor: &mut Reactor, handler: &mut H, conn: ConnId) {
    let Some(this) = simulated_mut(reactor) else {
        return;
    };
    let bytes = match this.take_bytes(conn) {
        None => return,
        Some(Found::End(reason)) => return report_closed(reactor, handler, conn, reason),
        Some(Found::Bytes(bytes)) => bytes,
    };
    let Some(connection) = this.connections.get_mut(conn) else {
        return;
    };
    let Some(mut target) = connection.target.take() else {
        return handler.received(reactor, conn, &bytes);
    };
    target.buf.extend_from_slice(&bytes);
    if target.buf.len() == target.len_wanted {
        handler.received_into(reactor, conn, target.buf);
    } else {
        let len = target.buf.len();
        connection.target = Some(target);
        handler.receiving(reactor, conn, len);
    }
}

fn send<H: Handler>(reactor: &mut Reactor, handler: &mut H, conn: ConnId) {
    let Some(this) = simulated_mut(reactor) else {
        return;
    };
    let Some(connection) = this.connections.get_mut(conn).filter(|c| c.sending) else {
        return;
    };
    let mut network = this.simulation.network();
    if network.links[connection.link].reset {
        drop(network);
        return report_closed(
            reactor,
            handler,
            conn,
            CloseReason::Error(io::ErrorKind::BrokenPipe.into()),
        );
    }
    let rest = &connection.send[connection.send_offset..];
    let portion = network.portion(rest.len());
    let link = &mut network.links[connection.link];
    let taken = link.transmit(&rest[..portion]);
    link.unsent -= taken;
    drop(network);
    connection.send_offset += taken;
    if connection.send_offset < connection.send.len() {
        return;
    }
    connection.sending = false;
    let mut buf = std::mem::take(&mut connection.send);
    buf.clear();
    if connection.finishing {
        report_closed(reactor, handler, conn, CloseReason::Requested);
    } else {
        handler.sent(reactor, conn, buf);
    }
}

fn report_closed<H: Handler>(
    reactor: &mut Reactor,
    handler: &mut H,
    conn: ConnId,
    reason: CloseReason,
) {
    let Some(this) = simulated_mut(reactor) else {
        return;
    };
    if let Some(connection) = this.connections.remove(conn) {
        drop(connection);
        handler.closed(reactor, conn, reason);
    }
}
