//! The handler that serves real sockets, on the simulated network.

mod common;

use std::collections::HashMap;

use common::{frame, Echo, Protocol, Random};
use reactor::{
    Backend, CloseReason, ConnId, Handler, Notifier, Reactor, SimClient, Simulation, Stream,
};

/// Turns the reactors until nothing is on its way any more.
fn settle(simulation: &Simulation, workers: &mut [(Reactor, Echo)]) {
    for _ in 0..1_000_000 {
        let mut sending = false;
        for (reactor, echo) in workers.iter_mut() {
            reactor.turn(None, echo).unwrap();
            echo.turns += 1;
            echo.flush(reactor);
            sending |= echo
                .clients
                .values()
                .any(|client| !client.output.is_empty());
        }
        if simulation.is_quiet() && !sending {
            return;
        }
    }
    panic!("the network never comes to rest");
}

fn worker(simulation: &Simulation, protocol: Protocol) -> (Reactor, Echo) {
    let mut reactor = simulation.reactor();
    assert_eq!(reactor.backend(), Backend::Simulated);
    reactor.listen(simulation.listener(), 1).unwrap();
    (reactor, Echo::new(protocol))
}

/// Two workers, six clients, framed values of all sizes; a digest of everything that happened.
fn conversation(seed: u64) -> String {
    let simulation = Simulation::new(seed);
    let mut random = Random(seed);
    let mut workers = [
        worker(&simulation, Protocol::Framed),
        worker(&simulation, Protocol::Framed),
    ];
    let clients: Vec<SimClient> = (0..6).map(|_| simulation.connect(1)).collect();
    let mut expected = vec![Vec::new(); clients.len()];
    let mut received = vec![Vec::new(); clients.len()];
    for _ in 0..20 {
        let at = random.below(clients.len());
        let most = [5, 3000, 150_000][random.below(3)];
        let len = random.below(most);
        let value = random.bytes(len);
        clients[at].send(&frame(&value));
        expected[at].extend(value);
        if random.below(3) == 0 {
            settle(&simulation, &mut workers);
            received[at].extend(clients[at].take_received());
        }
    }
    settle(&simulation, &mut workers);
    for (at, client) in clients.iter().enumerate() {
        received[at].extend(client.take_received());
        assert!(received[at] == expected[at], "seed {seed}, client {at}");
        assert!(!client.is_closed_by_server());
    }
    drop(clients);
    settle(&simulation, &mut workers);
    let mut digest = String::new();
    for (reactor, echo) in &workers {
        assert_eq!(reactor.connection_count(), 0);
        assert_eq!(echo.closed.len(), echo.accepted);
        let summary = (
            echo.turns,
            echo.accepted,
            echo.direct_values,
            echo.progress_reports,
            &echo.closed,
        );
        digest.push_str(&format!("{summary:?}"));
    }
    digest
}

#[test]
fn every_seed_serves_everyone() {
    for seed in 0..100 {
        conversation(seed);
    }
}

#[test]
fn a_seed_replays_exactly_and_another_does_not() {
    assert_eq!(conversation(42), conversation(42));
    assert_ne!(conversation(42), conversation(43));
}

#[test]
fn connections_spread_over_the_reactors_that_listen() {
    let simulation = Simulation::new(5);
    let mut workers = [
        worker(&simulation, Protocol::Raw),
        worker(&simulation, Protocol::Raw),
    ];
    let clients: Vec<SimClient> = (0..40).map(|_| simulation.connect(1)).collect();
    settle(&simulation, &mut workers);
    assert!(workers
        .iter()
        .all(|(reactor, _)| reactor.connection_count() >= 5));
    workers[0].0.stop_listening();
    workers[1].0.stop_listening();
    assert!(
        simulation.connect(1).is_closed_by_server(),
        "nobody listens"
    );
    assert!(
        simulation.connect(2).is_closed_by_server(),
        "nobody ever did"
    );
    assert!(!clients[0].is_closed_by_server());
}

#[test]
fn a_slow_reader_stalls_its_sends_only() {
    for seed in 0..50 {
        let simulation = Simulation::new(seed);
        let mut workers = [worker(&simulation, Protocol::Raw)];
        workers[0].1.output_limit = 1000;
        let (slow, quick) = (simulation.connect(1), simulation.connect(1));
        slow.set_window(100);
        let bytes = Random(seed).bytes(50_000);
        slow.send(&bytes);
        quick.send(&bytes);
        settle_stalled(&mut workers);
        assert_eq!(quick.take_received(), bytes, "seed {seed}");
        let mut received = slow.take_received();
        assert_eq!(received.len(), 100);
        while received.len() < bytes.len() {
            settle_stalled(&mut workers);
            let more = slow.take_received();
            assert!(!more.is_empty() && more.len() <= 100, "seed {seed}");
            received.extend(more);
        }
        assert!(received == bytes);
        assert!(
            workers[0].1.output_peak < 20_000,
            "the peer was not slowed down"
        );
    }
}

/// A hundred turns: enough for what can move to move, though the network is not at rest.
fn settle_stalled(workers: &mut [(Reactor, Echo)]) {
    for _ in 0..100 {
        for (reactor, echo) in workers.iter_mut() {
            reactor.turn(None, echo).unwrap();
            echo.flush(reactor);
        }
    }
}

#[test]
fn resets_and_closes_are_reported_and_end_in_nothing() {
    for seed in 0..50 {
        let simulation = Simulation::new(seed);
        let mut workers = [worker(&simulation, Protocol::Raw)];
        let (reset, closed, kept) = (
            simulation.connect(1),
            simulation.connect(1),
            simulation.connect(1),
        );
        for client in [&reset, &closed, &kept] {
            client.send(b"hello");
        }
        settle(&simulation, &mut workers);
        closed.send(b"last words");
        closed.close();
        reset.send(b"lost");
        reset.reset();
        settle(&simulation, &mut workers);
        assert_eq!(
            closed.take_received(),
            b"hellolast words",
            "seed {seed} {:?}",
            workers[0].1.closed
        );
        assert_eq!(reset.take_received(), b"hello");
        let (reactor, echo) = &mut workers[0];
        assert_eq!(reactor.connection_count(), 1);
        let mut reasons: Vec<&str> = echo
            .closed
            .iter()
            .map(|(_, reason)| reason.as_str())
            .collect();
        reasons.sort();
        assert_eq!(reasons.len(), 2);
        assert!(
            reasons[0].starts_with("Error") && reasons[1] == "PeerClosed",
            "{reasons:?}"
        );
        // The server closes the third.
        let conn = *echo.clients.keys().next().unwrap();
        reactor.close(conn);
        echo.clients.clear();
        assert!(kept.is_closed_by_server());
        assert_eq!(reactor.send(conn, b"late".to_vec()), Some(Vec::new()));
        settle(&simulation, &mut workers);
        assert_eq!(workers[0].1.closed.len(), 2, "no callback after close");
    }
}

#[test]
fn close_after_send_delivers_everything() {
    for seed in 0..50 {
        let simulation = Simulation::new(seed);
        let mut workers = [worker(&simulation, Protocol::Raw)];
        let client = simulation.connect(1);
        client.set_window(10);
        settle(&simulation, &mut workers);
        let (reactor, echo) = &mut workers[0];
        let conn = *echo.clients.keys().next().unwrap();
        assert!(reactor.send(conn, vec![b'x'; 1000]).is_none());
        assert!(!reactor.close_after_send(conn));
        client.send(b"unheard");
        let mut received = 0;
        while !client.is_closed_by_server() {
            settle_stalled(&mut workers);
            received += client.take_received().len();
        }
        assert_eq!(received, 1000);
        assert_eq!(workers[0].1.closed, [(conn, "Requested".to_string())]);
    }
}

/// Hands each stream it accepts to the other worker, by way of a mailbox and a wake.
struct Passing {
    mailbox: std::sync::mpsc::Receiver<Stream>,
    other: std::sync::mpsc::Sender<Stream>,
    notifier: Notifier,
    received: HashMap<ConnId, Vec<u8>>,
}

impl Handler for Passing {
    fn accepted(&mut self, _: &mut Reactor, _: u32, stream: Stream) {
        self.other.send(stream).unwrap();
        self.notifier.wake();
    }

    fn received(&mut self, reactor: &mut Reactor, conn: ConnId, data: &[u8]) {
        self.received
            .entry(conn)
            .or_default()
            .extend_from_slice(data);
        if !reactor.is_sending(conn) {
            let _ = reactor.send(conn, b"!".to_vec());
        }
        reactor.pause(conn);
    }

    fn received_into(&mut self, _: &mut Reactor, _: ConnId, _: Vec<u8>) {}

    fn sent(&mut self, _: &mut Reactor, _: ConnId, _: Vec<u8>) {}

    fn closed(&mut self, _: &mut Reactor, _: ConnId, _: CloseReason) {}

    fn woken(&mut self, reactor: &mut Reactor) {
        for stream in self.mailbox.try_iter() {
            assert!(stream.peer_address().starts_with("127.0.0.1:"));
            reactor.add(stream).unwrap();
        }
    }
}

#[test]
fn streams_and_wakes_cross_between_reactors() {
    for seed in 0..50 {
        let simulation = Simulation::new(seed);
        let (mut first, mut second) = (simulation.reactor(), simulation.reactor());
        first.listen(simulation.listener(), 1).unwrap();
        let (to_first, first_mail) = std::sync::mpsc::channel();
        let (to_second, second_mail) = std::sync::mpsc::channel();
        let passing = |mailbox, other, notifier| Passing {
            mailbox,
            other,
            notifier,
            received: HashMap::new(),
        };
        let mut one = passing(first_mail, to_second, second.notifier());
        let mut two = passing(second_mail, to_first, first.notifier());
        let client = simulation.connect(1);
        client.send(b"to whom?");
        while !simulation.is_quiet() || second.connection_count() == 0 {
            first.turn(None, &mut one).unwrap();
            second.turn(None, &mut two).unwrap();
        }
        assert_eq!(
            (first.connection_count(), second.connection_count()),
            (0, 1)
        );
        assert_eq!(two.received.len(), 1);
        assert_eq!(client.take_received(), b"!");
        // Paused: what comes now waits until it is wanted.
        client.send(b"more");
        let conn = *two.received.keys().next().unwrap();
        let before = two.received[&conn].len();
        for _ in 0..20 {
            second.turn(None, &mut two).unwrap();
        }
        assert_eq!(two.received[&conn].len(), before);
        while !two.received[&conn].ends_with(b"more") {
            second.resume(conn);
            second.turn(None, &mut two).unwrap();
        }
    }
}
