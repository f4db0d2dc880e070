//! Whether a history is linearizable: whether its operations can be put in one order in which
//! each gives the reply it gave, no operation comes before one that had ended when it began, and
//! those of one connection stay in the order they were sent.
//!
//! The search of Wing and Gong (1993): run any operation all of whose predecessors have run; go
//! back when none fits. What was tried is remembered as the set of operations run and the state
//! they led to, as Lowe (2017) proposes.

use std::collections::HashSet;

use crate::model::{run, Op, Reply, State};

/// An operation as a client saw it. Times are nanoseconds since the round began.
#[derive(Clone, Debug)]
pub struct Event {
    pub client: usize,
    pub begun: u64,
    pub ended: u64,
    pub op: Op,
    pub reply: Reply,
}

/// Longest history: a set of operations is the bits of one word.
pub const EVENTS_MAX: usize = 64;

pub fn is_linearizable(events: &[Event]) -> bool {
    assert!(events.len() <= EVENTS_MAX);
    // Events of one client are in the order they were sent.
    let before = |i: usize, j: usize| {
        let (first, then) = (&events[i], &events[j]);
        first.ended < then.begun || (first.client == then.client && i < j)
    };
    let predecessors: Vec<u64> = (0..events.len())
        .map(|j| {
            (0..events.len())
                .filter(|&i| before(i, j))
                .fold(0, |set, i| set | 1 << i)
        })
        .collect();
    let all = events
        .iter()
        .enumerate()
        .fold(0, |set, (i, _)| set | 1 << i);
    let mut tried = HashSet::new();
    let mut open: Vec<(u64, State)> = vec![(0, State::default())];
    while let Some((done, state)) = open.pop() {
        if done == all {
            return true;
        }
        for (i, event) in events.iter().enumerate() {
            let ready = done >> i & 1 == 0 && predecessors[i] & !done == 0;
            let mut after = state;
            if ready && run(&mut after, &event.op, &event.reply) {
                let next = (done | 1 << i, after);
                if tried.insert(next) {
                    open.push(next);
                }
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(client: usize, begun: u64, ended: u64, op: Op, reply: Reply) -> Event {
        Event {
            client,
            begun,
            ended,
            op,
            reply,
        }
    }

    fn pair(a: i64, b: i64) -> Reply {
        Reply::Array(vec![Reply::Int(a), Reply::Int(b)])
    }

    #[test]
    fn overlapping_operations_may_come_in_any_order() {
        let read = |value| {
            [
                event(0, 0, 1, Op::Set(0, 1), Reply::Ok),
                event(0, 2, 9, Op::Set(0, 2), Reply::Ok),
                event(1, 3, 8, Op::Get(0), Reply::Int(value)),
            ]
        };
        assert!(is_linearizable(&read(1)));
        assert!(is_linearizable(&read(2)));
        assert!(!is_linearizable(&read(3)));
    }

    #[test]
    fn a_stale_read_is_rejected() {
        let events = [
            event(0, 0, 1, Op::Set(0, 1), Reply::Ok),
            event(0, 2, 3, Op::Set(0, 2), Reply::Ok),
            event(1, 4, 5, Op::Get(0), Reply::Int(1)),
        ];
        assert!(!is_linearizable(&events));
    }

    #[test]
    fn half_of_a_transaction_is_rejected() {
        let seen = |reply| {
            [
                event(0, 0, 1, Op::MSet(vec![(0, 1), (1, 1)]), Reply::Ok),
                event(0, 2, 9, Op::MSet(vec![(0, 2), (1, 2)]), Reply::Ok),
                event(1, 3, 8, Op::MGet(vec![0, 1]), reply),
            ]
        };
        assert!(is_linearizable(&seen(pair(1, 1))));
        assert!(is_linearizable(&seen(pair(2, 2))));
        assert!(!is_linearizable(&seen(pair(2, 1))));
        assert!(!is_linearizable(&seen(pair(1, 2))));
    }

    #[test]
    fn two_readers_must_agree_on_the_order_of_two_writes() {
        let events = [
            event(0, 0, 9, Op::Set(0, 1), Reply::Ok),
            event(1, 0, 9, Op::Set(1, 1), Reply::Ok),
            event(
                2,
                0,
                9,
                Op::MGet(vec![0, 1]),
                Reply::Array(vec![Reply::Int(1), Reply::Nil]),
            ),
            event(
                3,
                0,
                9,
                Op::MGet(vec![0, 1]),
                Reply::Array(vec![Reply::Nil, Reply::Int(1)]),
            ),
        ];
        assert!(is_linearizable(&events[..3]));
        assert!(!is_linearizable(&events));
    }

    #[test]
    fn a_lost_increment_is_rejected() {
        let events = [
            event(0, 0, 9, Op::Incr(0), Reply::Int(1)),
            event(1, 0, 9, Op::Incr(0), Reply::Int(1)),
        ];
        assert!(!is_linearizable(&events));
    }

    #[test]
    fn a_connection_keeps_its_order() {
        // All sent at once: only the order of sending says that the read comes second.
        let events = [
            event(0, 0, 9, Op::Set(0, 1), Reply::Ok),
            event(0, 0, 9, Op::Get(0), Reply::Nil),
        ];
        assert!(!is_linearizable(&events));
    }

    #[test]
    fn a_watched_key_that_changed_unseen_is_rejected() {
        let op = Op::SetIfUnchanged {
            key: 0,
            seen: Some(1),
            value: 7,
        };
        let done = Reply::Array(vec![Reply::Int(2), Reply::Ok]);
        let events = |reply| {
            [
                event(0, 0, 1, Op::Set(0, 2), Reply::Ok),
                event(1, 2, 3, op.clone(), reply),
            ]
        };
        assert!(!is_linearizable(&events(done)));
        assert!(is_linearizable(&events(Reply::Nil)));
    }
}
