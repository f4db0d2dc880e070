//! A client: draws operations, sends them, and writes down when and what it was answered.

use std::sync::OnceLock;
use std::time::Instant;

use crate::checker::Event;
use crate::model::{Op, Reply, KEYS};
use crate::server::{encode, Connection};

/// Turns of a client in a round; a turn is up to two operations.
const TURNS: usize = 3;
/// Keys that do not matter, between two that do.
const FILLERS: usize = 40;

/// SplitMix64.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

pub struct Client {
    index: usize,
    seed: u64,
    round: u64,
    random: Random,
    connection: Connection,
}

impl Client {
    pub fn new(port: u16, seed: u64, index: usize) -> Client {
        Client {
            index,
            seed,
            round: 0,
            random: Random::new(0),
            connection: Connection::open(port).expect("a connection"),
        }
    }

    /// Plays a round and returns what it saw.
    pub fn play(&mut self, round: u64) -> Vec<Event> {
        self.round = round;
        self.random = Random::new(self.seed ^ round << 8 ^ (self.index as u64) << 40);
        let mut events = Vec::new();
        for _ in 0..TURNS {
            match self.random.below(8) {
                0 => self.set_if_unchanged(&mut events),
                1 | 2 => {
                    let ops = [self.draw(true), self.draw(true)];
                    self.perform(&ops, &mut events);
                }
                _ => {
                    let ops = [self.draw(true)];
                    self.perform(&ops, &mut events);
                }
            }
        }
        events
    }

    fn key(&mut self) -> usize {
        self.random.below(KEYS as u64) as usize
    }

    fn keys(&mut self) -> Vec<usize> {
        let first = self.key();
        let mut keys = vec![first];
        for step in 1..KEYS {
            if keys.len() < 2 || self.random.below(2) == 0 {
                keys.push((first + step) % KEYS);
            }
        }
        keys
    }

    fn value(&mut self) -> i64 {
        self.random.below(1000) as i64
    }

    fn draw(&mut self, transactions: bool) -> Op {
        match self.random.below(if transactions { 14 } else { 11 }) {
            0 | 1 => Op::Get(self.key()),
            2 => Op::Set(self.key(), self.value()),
            3 => Op::GetSet(self.key(), self.value()),
            4 => Op::Incr(self.key()),
            5 => {
                let keys = self.keys();
                match self.random.below(3) {
                    0 => Op::Del(keys),
                    1 => Op::Exists(keys),
                    _ => Op::MSetNx(keys.into_iter().map(|key| (key, self.value())).collect()),
                }
            }
            6 | 7 => Op::MSet(
                self.keys()
                    .into_iter()
                    .map(|key| (key, self.value()))
                    .collect(),
            ),
            8 | 9 => Op::MGet(self.keys()),
            10 => {
                let keys = self.keys();
                Op::Rename(keys[0], keys[1])
            }
            _ => {
                let count = 2 + self.random.below(2);
                Op::Transaction((0..count).map(|_| self.draw(false)).collect())
            }
        }
    }

    /// Sends operations in one piece and takes their replies.
    fn perform(&mut self, ops: &[Op], events: &mut Vec<Event>) {
        let names = Names {
            seed: self.seed,
            round: self.round,
        };
        let (mut bytes, mut shapes) = (Vec::new(), Vec::new());
        for op in ops {
            shapes.push(names.encode(op, &mut bytes));
        }
        let begun = now();
        self.connection.send(&bytes).expect("the server reads");
        for (op, shape) in ops.iter().zip(shapes) {
            let mut reply = None;
            for _ in 0..shape.replies {
                reply = Some(self.connection.receive().expect("the server replies"));
            }
            let reply = without_fillers(op, reply.expect("a reply"));
            events.push(Event {
                client: self.index,
                begun,
                ended: now(),
                op: op.clone(),
                reply,
            });
        }
    }

    /// WATCH, GET, and a transaction that must not run if the key has changed since.
    fn set_if_unchanged(&mut self, events: &mut Vec<Event>) {
        let (key, value) = (self.key(), self.value());
        let names = Names {
            seed: self.seed,
            round: self.round,
        };
        self.connection
            .send(&encode(&["WATCH", &names.key(key)]))
            .expect("the server reads");
        self.connection.receive().expect("the server replies");
        self.perform(&[Op::Get(key)], events);
        let seen = match &events.last().expect("the GET").reply {
            Reply::Int(n) => Some(*n),
            _ => None,
        };
        self.perform(&[Op::SetIfUnchanged { key, seen, value }], events);
    }
}

/// Nanoseconds since the first call.
fn now() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    BEGAN.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// How keys are called in a round.
struct Names {
    seed: u64,
    round: u64,
}

/// What an operation is on the wire.
struct Shape {
    /// Replies to it, the last of which counts.
    replies: usize,
}

impl Names {
    fn key(&self, key: usize) -> String {
        format!("{}:{}:{key}", self.seed, self.round)
    }

    fn fillers(&self) -> impl Iterator<Item = String> {
        (0..FILLERS).map(|i| format!("filler:{i}"))
    }

    fn encode(&self, op: &Op, bytes: &mut Vec<u8>) -> Shape {
        let inner: Vec<Op> = match op {
            Op::Transaction(ops) => ops.clone(),
            Op::SetIfUnchanged { key, value, .. } => vec![Op::Get(*key), Op::Set(*key, *value)],
            _ => {
                bytes.extend(encode(&self.args(op)));
                return Shape { replies: 1 };
            }
        };
        bytes.extend(encode(&["MULTI"]));
        for op in &inner {
            bytes.extend(encode(&self.args(op)));
        }
        bytes.extend(encode(&["EXEC"]));
        Shape {
            replies: inner.len() + 2,
        }
    }

    fn args(&self, op: &Op) -> Vec<String> {
        let mut args: Vec<String> = Vec::new();
        match op {
            Op::Get(key) => args.extend(["GET".into(), self.key(*key)]),
            Op::Set(key, value) => {
                args.extend(["SET".into(), self.key(*key), value.to_string()]);
            }
            Op::GetSet(key, value) => {
                args.extend(["GETSET".into(), self.key(*key), value.to_string()]);
            }
            Op::Incr(key) => args.extend(["INCR".into(), self.key(*key)]),
            Op::Rename(from, to) => {
                args.extend(["RENAME".into(), self.key(*from), self.key(*to)]);
            }
            Op::Del(keys) | Op::Exists(keys) => {
                args.push(
                    if matches!(op, Op::Del(_)) {
                        "DEL"
                    } else {
                        "EXISTS"
                    }
                    .into(),
                );
                args.extend(keys.iter().map(|key| self.key(*key)));
            }
            Op::MSetNx(pairs) => {
                args.push("MSETNX".into());
                for (key, value) in pairs {
                    args.extend([self.key(*key), value.to_string()]);
                }
            }
            Op::MSet(pairs) => {
                args.push("MSET".into());
                for (i, (key, value)) in pairs.iter().enumerate() {
                    if i > 0 {
                        args.extend(self.fillers().flat_map(|key| [key, "0".into()]));
                    }
                    args.extend([self.key(*key), value.to_string()]);
                }
            }
            Op::MGet(keys) => {
                args.push("MGET".into());
                for (i, key) in keys.iter().enumerate() {
                    if i > 0 {
                        args.extend(self.fillers());
                    }
                    args.push(self.key(*key));
                }
            }
            Op::Transaction(_) | Op::SetIfUnchanged { .. } => {
                unreachable!("transactions are sent as their parts")
            }
        }
        args
    }
}

/// An MGET's reply without the values of the keys that do not matter.
fn without_fillers(op: &Op, reply: Reply) -> Reply {
    match (op, reply) {
        (Op::MGet(_), Reply::Array(values)) => {
            Reply::Array(values.into_iter().step_by(FILLERS + 1).collect())
        }
        (Op::Transaction(ops), Reply::Array(replies)) => Reply::Array(
            ops.iter()
                .zip(replies)
                .map(|(op, reply)| without_fillers(op, reply))
                .collect(),
        ),
        (_, reply) => reply,
    }
}
