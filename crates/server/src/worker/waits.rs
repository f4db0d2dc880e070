//! Which of a connection's replies wait for the disk, under `appendfsync always`.
//!
//! Replies leave in order, so those behind one that waits wait with it, and those before it do not.

use std::collections::VecDeque;

use keyspace::{Lsn, ShardIndex};

/// Waits of one connection that are told apart. Beyond, replies wait for those behind them.
const WAITS_MAX: usize = 256;

struct Wait {
    /// Where in the connection's output the first reply begins that waits for this.
    from: usize,
    shard: ShardIndex,
    lsn: Lsn,
}

#[derive(Default)]
pub struct Waits {
    /// By `from`, and for each shard by `lsn`.
    list: VecDeque<Wait>,
    /// How many of the list are from earlier turns.
    earlier: usize,
}

impl Waits {
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The reply that begins at `from`, and those behind it, wait for this position. The replies of
    /// one turn wait together, as their effects are written together.
    pub fn add(&mut self, from: usize, shard: ShardIndex, lsn: Lsn) {
        let alike = if self.list.len() < WAITS_MAX {
            self.earlier
        } else {
            0
        };
        let mut alike = self.list.range_mut(alike..).rev();
        match alike.find(|wait| wait.shard == shard) {
            Some(wait) => wait.lsn = lsn.max(wait.lsn),
            None => self.list.push_back(Wait { from, shard, lsn }),
        }
    }

    /// How many of `len` bytes of output may leave, now that a turn is over.
    pub fn ready(&mut self, len: usize, arrived: impl Fn(ShardIndex, Lsn) -> bool) -> usize {
        while let Some(wait) = self.list.front() {
            if !arrived(wait.shard, wait.lsn) {
                break;
            }
            self.list.pop_front();
        }
        self.earlier = self.list.len();
        self.list.front().map_or(len, |wait| wait.from.min(len))
    }

    /// So many bytes have left the front of the output.
    pub fn left(&mut self, bytes: usize) {
        for wait in &mut self.list {
            wait.from = wait.from.saturating_sub(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_leave_in_order_as_far_as_they_may() {
        let mut waits = Waits::default();
        waits.add(10, ShardIndex(0), Lsn(100));
        waits.add(20, ShardIndex(1), Lsn(5));
        waits.add(30, ShardIndex(0), Lsn(120));
        assert_eq!(waits.ready(40, |_, _| false), 10);
        waits.left(10);
        waits.add(30, ShardIndex(0), Lsn(200));
        // The first turn's part of shard 0 has not arrived as a whole.
        let upto =
            |lsns: [u64; 2]| move |shard: ShardIndex, lsn: Lsn| lsn.0 <= lsns[shard.0 as usize];
        assert_eq!(waits.ready(40, upto([100, 5])), 0);
        assert_eq!(waits.ready(40, upto([120, 4])), 10);
        assert_eq!(waits.ready(40, upto([120, 5])), 30);
        assert_eq!(waits.ready(40, upto([200, 5])), 40);
        assert!(waits.is_empty());
    }

    #[test]
    fn a_client_that_never_pauses_gets_its_replies() {
        let mut waits = Waits::default();
        let (mut len, mut left) = (0, 0);
        for turn in 1..10_000u64 {
            waits.add(len, ShardIndex(0), Lsn(turn));
            len += 5;
            let ready = waits.ready(len, |_, lsn| lsn.0 + 500 <= turn);
            waits.left(ready);
            (len, left) = (len - ready, left + ready);
            assert!(waits.list.len() <= WAITS_MAX);
        }
        assert!(left > 5 * 9_000, "{left}");
    }
}
