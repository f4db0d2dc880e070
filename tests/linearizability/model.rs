//! What the server is to look like from outside: a few keys with small numbers as their values,
//! and the commands of the test on them, one at a time.

use std::fmt;

/// Keys of a round.
pub const KEYS: usize = 4;

/// The value of each key, if it exists.
pub type State = [Option<i64>; KEYS];

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    Get(usize),
    Set(usize, i64),
    GetSet(usize, i64),
    Incr(usize),
    Del(Vec<usize>),
    MSet(Vec<(usize, i64)>),
    MSetNx(Vec<(usize, i64)>),
    MGet(Vec<usize>),
    Exists(Vec<usize>),
    Rename(usize, usize),
    /// MULTI, these, EXEC.
    Transaction(Vec<Op>),
    /// MULTI, GET and SET, EXEC after WATCH and a GET that saw this value: runs only if the key
    /// still has it, and is no operation if the reply is nil.
    SetIfUnchanged {
        key: usize,
        seen: Option<i64>,
        value: i64,
    },
}

#[derive(Clone, PartialEq, Eq)]
pub enum Reply {
    Ok,
    Nil,
    Int(i64),
    Error,
    Array(Vec<Reply>),
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Ok => f.write_str("OK"),
            Reply::Nil => f.write_str("nil"),
            Reply::Int(n) => write!(f, "{n}"),
            Reply::Error => f.write_str("error"),
            Reply::Array(items) => items.fmt(f),
        }
    }
}

/// Runs an operation. False when it cannot have given this reply in this state.
pub fn run(state: &mut State, op: &Op, reply: &Reply) -> bool {
    if let (Op::SetIfUnchanged { key, seen, .. }, reply) = (op, reply) {
        if *reply == Reply::Nil {
            return true;
        }
        if state[*key] != *seen {
            return false;
        }
    }
    apply(state, op) == *reply
}

fn value(value: Option<i64>) -> Reply {
    value.map_or(Reply::Nil, Reply::Int)
}

fn apply(state: &mut State, op: &Op) -> Reply {
    match op {
        Op::Get(key) => value(state[*key]),
        Op::Set(key, new) => {
            state[*key] = Some(*new);
            Reply::Ok
        }
        Op::GetSet(key, new) => value(state[*key].replace(*new)),
        Op::Incr(key) => {
            let new = state[*key].unwrap_or(0) + 1;
            state[*key] = Some(new);
            Reply::Int(new)
        }
        Op::Del(keys) => Reply::Int(
            keys.iter()
                .filter(|key| state[**key].take().is_some())
                .count() as i64,
        ),
        Op::MSet(pairs) => {
            pairs.iter().for_each(|(key, new)| state[*key] = Some(*new));
            Reply::Ok
        }
        Op::MSetNx(pairs) => {
            if pairs.iter().any(|(key, _)| state[*key].is_some()) {
                return Reply::Int(0);
            }
            pairs.iter().for_each(|(key, new)| state[*key] = Some(*new));
            Reply::Int(1)
        }
        Op::MGet(keys) => Reply::Array(keys.iter().map(|key| value(state[*key])).collect()),
        Op::Exists(keys) => {
            Reply::Int(keys.iter().filter(|key| state[**key].is_some()).count() as i64)
        }
        Op::Rename(from, to) => match state[*from].take() {
            Some(moved) => {
                state[*to] = Some(moved);
                Reply::Ok
            }
            None => Reply::Error,
        },
        Op::Transaction(ops) => Reply::Array(ops.iter().map(|op| apply(state, op)).collect()),
        Op::SetIfUnchanged {
            key, value: new, ..
        } => {
            let old = value(state[*key]);
            state[*key] = Some(*new);
            Reply::Array(vec![old, Reply::Ok])
        }
    }
}
