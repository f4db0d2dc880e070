//! Which clients may have keys of a shard in their caches, for CLIENT TRACKING.
//!
//! A key that a tracking client reads is remembered with the client's number, whatever database it is
//! in; the first change afterwards tells the client and forgets the key. For clients that want to hear
//! of every change, all changed keys are noted while there is one. What is to be told gathers here
//! until the command or transaction is over; the server tells it with the batons still held.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::signals::next_number;

/// A client's number.
pub type ClientNumber = u64;

/// Who is to be told that a key has changed.
#[derive(PartialEq, Eq, Debug)]
pub struct Invalidation {
    number: u64,
    pub key: Arc<[u8]>,
    pub readers: BTreeSet<ClientNumber>,
}

struct Remembered {
    readers: BTreeSet<ClientNumber>,
    /// Its place in the list of keys.
    place: usize,
}

/// What is to be told of a run.
#[derive(Default)]
pub struct Due {
    pub invalidations: Vec<Invalidation>,
    /// Every changed key, if that is wanted.
    pub changed: Vec<Box<[u8]>>,
    /// A database was emptied: caches are worth nothing any more.
    pub emptied: bool,
}

impl Due {
    pub fn is_empty(&self) -> bool {
        self.invalidations.is_empty() && self.changed.is_empty() && !self.emptied
    }

    /// Puts what several shards have to tell in the order in which it happened.
    pub fn sort(&mut self) {
        self.invalidations.sort_unstable_by_key(|one| one.number);
    }

    fn append(&mut self, other: &mut Due) {
        self.invalidations.append(&mut other.invalidations);
        self.changed.append(&mut other.changed);
        self.emptied |= std::mem::take(&mut other.emptied);
    }
}

#[derive(Default)]
pub struct TrackingTable {
    keys: HashMap<Arc<[u8]>, Remembered>,
    /// The same keys, to draw one from.
    list: Vec<Arc<[u8]>>,
    items: usize,
    notes_all: bool,
    draws: u64,
    due: Due,
}

impl TrackingTable {
    /// Whether a change may be of interest to anybody.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.notes_all || !self.list.is_empty()
    }

    pub fn key_count(&self) -> usize {
        self.list.len()
    }

    /// Pairs of a key and a client that read it.
    pub fn item_count(&self) -> usize {
        self.items
    }

    /// Whether every changed key is noted from here on.
    pub fn note_all(&mut self, on: bool) {
        self.notes_all = on;
    }

    /// Remembers that a client has read a key. Beyond `keys_max` keys some are given up, which their
    /// readers are told of. True if anything is to be told.
    pub fn remember(&mut self, key: &[u8], reader: ClientNumber, keys_max: usize) -> bool {
        if let Some(remembered) = self.keys.get_mut(key) {
            self.items += usize::from(remembered.readers.insert(reader));
            return false;
        }
        let mut given_up = false;
        while self.list.len() >= keys_max.max(1) {
            // Any will do, as long as it is not always the same few.
            self.draws = self
                .draws
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(1);
            let place = (self.draws >> 33) as usize % self.list.len();
            let victim = self.list[place].clone();
            self.invalidate(&victim);
            given_up = true;
        }
        let key: Arc<[u8]> = key.into();
        let remembered = Remembered {
            readers: BTreeSet::from([reader]),
            place: self.list.len(),
        };
        self.list.push(key.clone());
        self.keys.insert(key, remembered);
        self.items += 1;
        given_up
    }

    /// Notes a change of a key. True if anything is to be told.
    #[cold]
    pub fn changed(&mut self, key: &[u8]) -> bool {
        if self.notes_all {
            self.due.changed.push(key.into());
        }
        self.invalidate(key) || self.notes_all
    }

    fn invalidate(&mut self, key: &[u8]) -> bool {
        let Some((key, Remembered { readers, place })) = self.keys.remove_entry(key) else {
            return false;
        };
        self.list.swap_remove(place);
        if let Some(moved) = self.list.get(place).and_then(|key| self.keys.get_mut(key)) {
            moved.place = place;
        }
        self.items -= readers.len();
        self.due.invalidations.push(Invalidation {
            number: next_number(),
            key,
            readers,
        });
        true
    }

    /// A database was emptied.
    pub fn emptied(&mut self) {
        self.keys.clear();
        self.list.clear();
        self.items = 0;
        self.due.emptied = true;
    }

    /// Moves what is to be told to `into`.
    pub fn take_due(&mut self, into: &mut Due) {
        into.append(&mut self.due);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datatypes::Rng;

    fn told(table: &mut TrackingTable) -> Due {
        let mut due = Due::default();
        table.take_due(&mut due);
        due
    }

    #[test]
    fn readers_are_told_once() {
        let mut table = TrackingTable::default();
        assert!(!table.is_on());
        table.remember(b"a", 7, 10);
        table.remember(b"a", 8, 10);
        table.remember(b"a", 8, 10);
        table.remember(b"b", 7, 10);
        assert_eq!((table.key_count(), table.item_count()), (2, 3));
        assert!(table.changed(b"a"));
        assert!(!table.changed(b"a"));
        let due = told(&mut table);
        assert_eq!(due.invalidations.len(), 1);
        assert_eq!(due.invalidations[0].readers, BTreeSet::from([7, 8]));
        table.emptied();
        assert!(told(&mut table).emptied && !table.is_on());
        table.note_all(true);
        assert!(table.changed(b"c"));
        assert_eq!(told(&mut table).changed.len(), 1);
    }

    #[test]
    fn no_more_keys_are_remembered_than_allowed_and_none_is_forgotten_silently() {
        let (mut table, mut rng) = (TrackingTable::default(), Rng::from_seed(5));
        let mut model = std::collections::HashSet::new();
        for _ in 0..20_000 {
            let key = (rng.below(500) as u32).to_le_bytes();
            if rng.below(3) == 0 {
                table.changed(&key);
            } else {
                table.remember(&key, 1, 100);
                model.insert(key.to_vec());
            }
            for one in told(&mut table).invalidations {
                assert!(model.remove(&*one.key));
            }
            assert_eq!(table.key_count(), model.len());
            assert!(model.len() <= 100);
        }
    }
}
