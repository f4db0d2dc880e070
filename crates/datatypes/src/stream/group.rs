//! Consumer groups: what was delivered last, and which entries are pending with which consumer.
//!
//! A pending entry is listed twice: in the group, with its consumer and deliveries, and in its consumer, so that both can be
//! walked in order of IDs. Invariant: the two lists agree, and every pending entry's consumer exists.

use super::id::StreamId;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeBounds;

/// Names a consumer of one group until it is removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConsumerIndex(u32);

/// An entry that was delivered and not acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pending {
    pub consumer: ConsumerIndex,
    /// Unix milliseconds.
    pub delivered_at: i64,
    pub deliveries: u64,
}

#[derive(Clone)]
pub struct Consumer {
    name: Box<[u8]>,
    /// When it last tried to read or claim, in Unix milliseconds.
    pub seen_at: i64,
    /// When it last got something; none: never.
    pub active_at: Option<i64>,
    pending: BTreeSet<StreamId>,
}

impl Consumer {
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Its pending entries, in order.
    pub fn pending(&self) -> &BTreeSet<StreamId> {
        &self.pending
    }
}

#[derive(Clone, Default)]
pub struct Group {
    /// The greatest ID delivered.
    pub last_id: StreamId,
    /// How many entries of the stream's whole life lie up to `last_id`; none: not known.
    pub entries_read: Option<i64>,
    pending: BTreeMap<StreamId, Pending>,
    /// By index; a removed consumer leaves a gap that the next one fills.
    consumers: Vec<Option<Consumer>>,
    /// Indexes in the order of names.
    by_name: Vec<ConsumerIndex>,
}

impl Group {
    pub fn new(last_id: StreamId, entries_read: Option<i64>) -> Group {
        Group {
            last_id,
            entries_read,
            ..Group::default()
        }
    }

    fn place(&self, name: &[u8]) -> Result<usize, usize> {
        self.by_name
            .binary_search_by(|&index| self.consumer(index).name().cmp(name))
    }

    pub fn find(&self, name: &[u8]) -> Option<ConsumerIndex> {
        self.place(name).ok().map(|at| self.by_name[at])
    }

    /// # Panics
    /// When the consumer was removed.
    pub fn consumer(&self, index: ConsumerIndex) -> &Consumer {
        let consumer = self.consumers[index.0 as usize].as_ref();
        consumer.expect("an index is used while its consumer exists")
    }

    /// # Panics
    /// As [`Group::consumer`].
    pub fn consumer_mut(&mut self, index: ConsumerIndex) -> &mut Consumer {
        let consumer = self.consumers[index.0 as usize].as_mut();
        consumer.expect("an index is used while its consumer exists")
    }

    /// The consumer of this name, created at `now` if there is none; then it comes with true.
    pub fn find_or_add(&mut self, name: &[u8], now: i64) -> (ConsumerIndex, bool) {
        let at = match self.place(name) {
            Ok(at) => return (self.by_name[at], false),
            Err(at) => at,
        };
        let consumer = Consumer {
            name: name.into(),
            seen_at: now,
            active_at: None,
            pending: BTreeSet::new(),
        };
        let gap = self.consumers.len() > self.by_name.len();
        let place = match gap {
            true => self.consumers.iter().position(Option::is_none),
            false => None,
        };
        let place = place.unwrap_or_else(|| {
            self.consumers.push(None);
            self.consumers.len() - 1
        });
        self.consumers[place] = Some(consumer);
        let index =
            ConsumerIndex(u32::try_from(place).expect("memory ends before 4 billion consumers"));
        self.by_name.insert(at, index);
        (index, true)
    }

    /// Removes a consumer and what is pending with it; how much that was.
    pub fn remove(&mut self, name: &[u8]) -> Option<usize> {
        let index = self.by_name.remove(self.place(name).ok()?);
        let consumer = self.consumers[index.0 as usize].take()?;
        for id in &consumer.pending {
            self.pending.remove(id);
        }
        Some(consumer.pending.len())
    }

    /// In the order of their names.
    pub fn consumers(&self) -> impl ExactSizeIterator<Item = &Consumer> + Clone {
        self.by_name.iter().map(|&index| self.consumer(index))
    }

    pub fn pending_count(&self) -> usize {
        self.pending.len()
    }

    pub fn pending(&self, id: StreamId) -> Option<&Pending> {
        self.pending.get(&id)
    }

    pub fn pending_mut(&mut self, id: StreamId) -> Option<&mut Pending> {
        self.pending.get_mut(&id)
    }

    /// Pending entries of all consumers, in order.
    pub fn pending_range(
        &self,
        range: impl RangeBounds<StreamId>,
    ) -> impl DoubleEndedIterator<Item = (StreamId, &Pending)> {
        self.pending
            .range(range)
            .map(|(&id, pending)| (id, pending))
    }

    /// Makes an entry pending with a consumer, also if it was with another one.
    pub fn assign(&mut self, id: StreamId, pending: Pending) {
        match self.pending.insert(id, pending) {
            Some(old) if old.consumer == pending.consumer => return,
            Some(old) => {
                self.consumer_mut(old.consumer).pending.remove(&id);
            }
            None => {}
        }
        self.consumer_mut(pending.consumer).pending.insert(id);
    }

    /// Ends that an entry is pending; whether it was.
    pub fn acknowledge(&mut self, id: StreamId) -> bool {
        match self.pending.remove(&id) {
            Some(pending) => self.consumer_mut(pending.consumer).pending.remove(&id),
            None => false,
        }
    }

    /// Bytes allocated, from the counts.
    pub(super) fn approximate_bytes(&self) -> usize {
        /// A B-tree's nodes are between half and wholly full.
        const TREE_SHARE: (usize, usize) = (3, 2);
        let tree = |items: usize, bytes: usize| items * bytes * TREE_SHARE.0 / TREE_SHARE.1;
        let names: usize = self.consumers().map(|consumer| consumer.name.len()).sum();
        names
            + self.consumers.capacity() * size_of::<Option<Consumer>>()
            + self.by_name.capacity() * size_of::<ConsumerIndex>()
            + tree(self.pending.len(), size_of::<(StreamId, Pending)>())
            + tree(self.pending.len(), size_of::<StreamId>())
    }
}
