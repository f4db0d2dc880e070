//! Linearizability over real sockets: clients run commands on keys in all shards at once, single
//! and multi-key, in transactions and pipelines; each round's history of invocations and replies
//! must have an order that explains it (`checker`).
//!
//! A round is short and has keys of its own, so that its history can be checked; there are
//! thousands. Commands on several keys name many others between those that matter, so that the
//! moment in which half of one could be seen is long, and other clients keep all batons busy.
//! A server that takes only the first baton of a command on several shards fails within twenty to
//! four hundred rounds, at two shards and at eight.
//!
//! `LINEARIZABILITY_SEED` and `LINEARIZABILITY_ROUNDS` repeat or prolong a run. The seed decides
//! what is sent, not how threads are scheduled: run a failing one a few times.

mod checker;
mod client;
mod model;
mod server;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Barrier, Mutex};
use std::time::Instant;

use checker::{is_linearizable, Event};
use client::{Client, Random};
use server::{encode, Connection, Server};

const CLIENTS: usize = 6;
const NOISE_CLIENTS: usize = 2;
const ROUNDS: u64 = 1500;

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Commands on other keys, as many as go, so that batons are found taken.
fn make_noise(port: u16, seed: u64, stop: &AtomicBool) {
    let mut random = Random::new(seed);
    let mut connection = Connection::open(port).expect("a connection");
    while !stop.load(Relaxed) {
        let mut bytes = Vec::new();
        for _ in 0..40 {
            let key = format!("noise:{}", random.below(1000));
            bytes.extend(match random.below(3) {
                0 => encode(&["SET", &key, "1"]),
                1 => encode(&["GET", &key]),
                _ => encode(&["INCR", &key]),
            });
        }
        connection.send(&bytes).expect("the server reads");
        for _ in 0..40 {
            connection.receive().expect("the server replies");
        }
    }
}

/// One client's part of a run: a round after the other, together with the other clients.
fn run_client(
    port: u16,
    seed: u64,
    index: usize,
    rounds: u64,
    barrier: &Barrier,
    history: &Mutex<Vec<Event>>,
    failed: &Mutex<Option<(u64, Vec<Event>)>>,
) {
    let mut client = Client::new(port, seed, index);
    for round in 0..rounds {
        barrier.wait();
        let events = client.play(round);
        history.lock().expect("no client panics").extend(events);
        if barrier.wait().is_leader() {
            let events = std::mem::take(&mut *history.lock().expect("no client panics"));
            if !is_linearizable(&events) {
                *failed.lock().expect("no client panics") = Some((round, events));
            }
        }
        barrier.wait();
        if failed.lock().expect("no client panics").is_some() {
            return;
        }
    }
}

fn check(directives: &[(&str, &str)]) {
    let seed = from_environment("LINEARIZABILITY_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("after 1970");
        now.as_nanos() as u64 % 1_000_000_000
    });
    let rounds = from_environment("LINEARIZABILITY_ROUNDS").unwrap_or(ROUNDS);
    println!(
        "{directives:?}: rerun with LINEARIZABILITY_SEED={seed} LINEARIZABILITY_ROUNDS={rounds}"
    );
    let server = Server::start(directives);
    let port = server.port;
    let began = Instant::now();
    let barrier = Barrier::new(CLIENTS);
    let (history, failed) = (Mutex::default(), Mutex::default());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for i in 0..NOISE_CLIENTS as u64 {
            let stop = &stop;
            scope.spawn(move || make_noise(port, seed + i, stop));
        }
        let clients: Vec<_> = (0..CLIENTS)
            .map(|i| {
                let (barrier, history, failed) = (&barrier, &history, &failed);
                scope.spawn(move || run_client(port, seed, i, rounds, barrier, history, failed))
            })
            .collect();
        let panicked = clients
            .into_iter()
            .map(|client| client.join())
            .filter(Result::is_err)
            .count();
        stop.store(true, Relaxed);
        assert_eq!(panicked, 0, "clients failed\n{}", server.log());
    });
    if let Some((round, events)) = failed.into_inner().expect("no client panics") {
        for event in &events {
            println!(
                "client {} {:>10}..{:<10} {:?} -> {:?}",
                event.client, event.begun, event.ended, event.op, event.reply
            );
        }
        panic!("round {round} of seed {seed} with {directives:?} is not linearizable");
    }
    println!("{rounds} rounds in {:.1} s", began.elapsed().as_secs_f64());
}

#[test]
fn one_shard() {
    check(&[("shards", "1")]);
}

#[test]
fn one_shard_by_messages() {
    check(&[("shards", "1"), ("cross-shard", "message")]);
}

#[test]
fn two_shards() {
    check(&[("shards", "2")]);
}

#[test]
fn two_shards_by_messages() {
    check(&[("shards", "2"), ("cross-shard", "message")]);
}

#[test]
fn eight_shards() {
    check(&[("shards", "8")]);
}

#[test]
fn eight_shards_by_messages() {
    check(&[("shards", "8"), ("cross-shard", "message")]);
}

#[test]
fn replies_that_wait_for_the_disk() {
    check(&[
        ("shards", "2"),
        ("appendonly", "yes"),
        ("appendfsync", "always"),
    ]);
}
