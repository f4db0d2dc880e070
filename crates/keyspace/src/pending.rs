//! Which keys of a shard have changed since its log was last durable, for `appendfsync always`.
//!
//! A reply may show a key only when the key's last change is durable; a reply about other keys
//! need not wait. A change is noted when it happens, under the baton, and gets its position in the
//! log when the command has ended, because its effects may still be wrapped in a transaction.
//! Keys are known by their hash, in whatever database: two keys of one hash wait for each other,
//! which is allowed, and a key is known as well after SWAPDB.
//!
//! What has become durable is forgotten; beyond [`PENDING_MAX`] changes, all are taken as one that
//! concerns every key. Nothing is noted until [`Pending::start`], and nothing costs more than a
//! look at a flag until then.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use crate::types::Lsn;

/// Changes of single keys that are remembered.
const PENDING_MAX: usize = 1 << 18;
/// Room for so many is kept when nothing is pending.
const KEPT_MAX: usize = 1 << 12;

/// Keys' hashes are keyed already, and spread over all bits.
#[derive(Default)]
struct AsGiven(u64);

impl Hasher for AsGiven {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only 64-bit hashes are keys of this map");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[derive(Default)]
pub struct Pending {
    on: bool,
    /// Hashes of keys that were changed since the last call of [`settle`](Self::settle).
    fresh: Vec<u64>,
    /// Something that concerns every key was changed since then.
    fresh_all: bool,
    /// The position behind each key's last change.
    keys: HashMap<u64, Lsn, BuildHasherDefault<AsGiven>>,
    /// The changes in order of their positions, by which they are forgotten.
    order: VecDeque<(Lsn, u64)>,
    /// The position behind the last change that concerns every key; 0: none is pending.
    all: Lsn,
}

impl Pending {
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// Begins to note changes. All before `end`, the log's, may not be durable.
    pub fn start(&mut self, end: Lsn) {
        *self = Pending {
            on: true,
            all: end,
            ..Pending::default()
        };
    }

    /// Forgets everything, and notes nothing more.
    pub fn stop(&mut self) {
        *self = Pending::default();
    }

    /// Notes a change of a key.
    #[inline]
    pub fn changed(&mut self, hash: u64) {
        if self.on {
            self.note(hash);
        }
    }

    fn note(&mut self, hash: u64) {
        if self.fresh_all || self.fresh.len() >= PENDING_MAX {
            self.changed_all();
        } else {
            self.fresh.push(hash);
        }
    }

    /// Notes a change that concerns every key.
    pub fn changed_all(&mut self) {
        if self.on {
            self.fresh_all = true;
            self.fresh.clear();
        }
    }

    /// Whether something was noted that has no position yet.
    #[inline]
    pub fn has_unsettled(&self) -> bool {
        self.fresh_all || !self.fresh.is_empty()
    }

    /// Gives what was noted its position: the log's end, when no effect of it can be added or
    /// moved any more.
    #[inline]
    pub fn settle(&mut self, end: Lsn) {
        if self.fresh_all || self.order.len() + self.fresh.len() > PENDING_MAX {
            self.forget();
            self.fresh.clear();
            self.fresh_all = false;
            self.all = end;
        }
        for hash in self.fresh.drain(..) {
            self.keys.insert(hash, end);
            self.order.push_back((end, hash));
        }
    }

    fn forget(&mut self) {
        self.keys = HashMap::default();
        self.order = VecDeque::new();
    }

    /// The position behind the last change that concerns the key; none when none is pending.
    /// The caller has settled what was noted.
    #[inline]
    pub fn of(&self, hash: u64) -> Option<Lsn> {
        debug_assert!(!self.has_unsettled(), "changes have their positions first");
        let own = if self.keys.is_empty() {
            None
        } else {
            self.keys.get(&hash).copied()
        };
        own.max((self.all > Lsn(0)).then_some(self.all))
    }

    /// Whether no change is pending.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty() && self.all == Lsn(0)
    }

    /// Forgets what is durable.
    pub fn prune(&mut self, durable: Lsn) {
        if self.all <= durable {
            self.all = Lsn(0);
        }
        while let Some(&(lsn, hash)) = self.order.front() {
            if lsn > durable {
                return;
            }
            self.order.pop_front();
            // Unless the key was changed once more.
            if self.keys.get(&hash) == Some(&lsn) {
                self.keys.remove(&hash);
            }
        }
        if self.order.capacity() > KEPT_MAX {
            self.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datatypes::Rng;

    #[test]
    fn a_key_is_pending_until_its_last_change_is_durable() {
        let mut pending = Pending::default();
        pending.changed(7);
        pending.settle(Lsn(5));
        assert!(pending.is_empty(), "nothing is noted before the start");
        pending.start(Lsn(10));
        assert_eq!(pending.of(7), Some(Lsn(10)));
        pending.prune(Lsn(10));
        assert_eq!(pending.of(7), None);
        pending.changed(7);
        pending.settle(Lsn(20));
        pending.changed(7);
        pending.changed(8);
        pending.settle(Lsn(30));
        pending.prune(Lsn(20));
        assert_eq!(pending.of(7), Some(Lsn(30)));
        assert_eq!(pending.of(9), None);
        pending.changed_all();
        pending.settle(Lsn(40));
        assert_eq!(pending.of(9), Some(Lsn(40)));
        pending.prune(Lsn(40));
        assert!(pending.is_empty());
        pending.changed(7);
        pending.stop();
        assert_eq!((pending.of(7), pending.is_on()), (None, false));
    }

    #[test]
    fn forgets_nothing_that_is_not_durable() {
        let (mut pending, mut rng) = (Pending::default(), Rng::from_seed(3));
        let mut model: HashMap<u64, u64> = HashMap::new();
        pending.start(Lsn(0));
        let mut durable = 0;
        for end in 1..20_000 {
            for _ in 0..rng.below(4) {
                let hash = rng.below(50) as u64;
                pending.changed(hash);
                model.insert(hash, end);
            }
            pending.settle(Lsn(end));
            if rng.below(3) == 0 {
                durable = durable.max(end - rng.below(20).min(end as usize) as u64);
                pending.prune(Lsn(durable));
            }
            let hash = rng.below(50) as u64;
            let expected = model.get(&hash).filter(|lsn| **lsn > durable);
            assert_eq!(pending.of(hash), expected.map(|lsn| Lsn(*lsn)));
        }
    }

    #[test]
    fn holds_a_bounded_number_of_keys() {
        let mut pending = Pending::default();
        pending.start(Lsn(0));
        for hash in 0..PENDING_MAX as u64 + 1 {
            pending.changed(hash);
            pending.settle(Lsn(hash + 1));
        }
        assert!(pending.order.is_empty());
        assert_eq!(pending.of(u64::MAX), Some(Lsn(PENDING_MAX as u64 + 1)));
        for hash in 0..PENDING_MAX as u64 + 1 {
            pending.changed(hash);
        }
        assert!(pending.fresh.is_empty());
        pending.settle(Lsn(PENDING_MAX as u64 + 9));
        assert_eq!(pending.of(3), Some(Lsn(PENDING_MAX as u64 + 9)));
    }
}
