//! Streams: entries in the order of their IDs, in listpacks of Redis's layout ([`node`]), and consumer groups.
//!
//! Redis keeps the listpacks in a radix tree; here they are in a B-tree by the ID of their first entry. What goes into one
//! listpack is decided as in Redis (`stream-node-max-bytes`, `stream-node-max-entries`), because approximate trimming takes
//! whole listpacks and snapshots store them as they are. A stream without entries is still a stream: nobody removes it for
//! being empty.
//!
//! Invariants: `len` is the number of live entries in all nodes; `first_id` is the ID of the first of them (0-0 when there
//! are none, or what a file says). IDs ascend, unless somebody took `last_id` back behind entries that were deleted; nothing
//! but the results of searches depends on it.

mod group;
mod id;
mod node;
#[cfg(test)]
mod tests;

pub use group::{Consumer, ConsumerIndex, Group, Pending};
pub use id::{GivenId, IdBuffer, StreamId};
pub use node::{Entry, Field, Fields};

use crate::{Encoding, FormatError, Limits, Listpack};
use node::Walk;
use std::collections::btree_map::{self, BTreeMap};

/// No listpack of a stream grows beyond this many bytes, and no entry has more in its fields and values.
pub const NODE_BYTES_MAX: usize = 1 << 30;

/// See the module's head.
#[derive(Clone, Default)]
pub struct Stream {
    nodes: BTreeMap<StreamId, Listpack>,
    len: u64,
    first_id: StreamId,
    /// The greatest ID ever added.
    pub last_id: StreamId,
    /// The greatest ID ever deleted by name.
    pub max_deleted_id: StreamId,
    /// Entries ever added.
    pub entries_added: u64,
    pub groups: BTreeMap<Box<[u8]>, Group>,
}

/// What is to remain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// The last so many entries.
    Newest(u64),
    /// Entries from this ID on.
    From(StreamId),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trim {
    pub keep: Keep,
    /// Whole nodes only.
    pub approximate: bool,
    /// Entries to remove at most.
    pub limit: Option<u64>,
}

/// Why an entry is not added.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AppendError {
    /// Its ID is not greater than all before.
    NotGreater,
    TooLarge,
}

impl Stream {
    pub fn new() -> Stream {
        Stream::default()
    }

    /// Live entries.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn encoding(&self) -> Encoding {
        Encoding::Stream
    }

    /// The ID of the first live entry; 0-0 without one.
    pub fn first_id(&self) -> StreamId {
        self.first_id
    }

    /// The listpacks with their IDs, as they are stored.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (StreamId, &Listpack)> {
        self.nodes.iter().map(|(&key, pack)| (key, pack))
    }

    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// The ID an entry added at this time gets.
    pub fn next_id(&self, now_ms: u64) -> Option<StreamId> {
        if now_ms > self.last_id.ms {
            Some(StreamId::new(now_ms, 0))
        } else {
            self.last_id.next()
        }
    }

    /// The ID an entry gets that leaves its sequence number open.
    pub fn next_id_in(&self, ms: u64) -> Option<StreamId> {
        if self.last_id.ms == ms {
            let seq = self.last_id.seq.checked_add(1)?;
            Some(StreamId { ms, seq })
        } else {
            Some(StreamId { ms, seq: 0 })
        }
    }

    /// Adds an entry at the end: field, value, field, value...
    pub fn append<'f>(
        &mut self,
        id: StreamId,
        pairs: impl ExactSizeIterator<Item = &'f [u8]> + Clone,
        limits: &Limits,
    ) -> Result<(), AppendError> {
        if id <= self.last_id {
            return Err(AppendError::NotGreater);
        }
        let bytes: usize = pairs.clone().map(<[u8]>::len).sum();
        if bytes > NODE_BYTES_MAX {
            return Err(AppendError::TooLarge);
        }
        let open = self
            .nodes
            .last_entry()
            .filter(|last| has_room(last.get(), bytes, limits));
        match open {
            Some(mut last) => node::append(*last.key(), last.get_mut(), id, pairs),
            None => {
                if let Some(mut full) = self.nodes.last_entry() {
                    full.get_mut().shrink_to_fit();
                }
                let fields = pairs.clone().step_by(2);
                let mut pack = node::begin(fields);
                node::append(id, &mut pack, id, pairs);
                self.nodes.insert(id, pack);
            }
        }
        self.len += 1;
        self.entries_added = self.entries_added.wrapping_add(1);
        self.last_id = id;
        if self.len == 1 {
            self.first_id = id;
        }
        Ok(())
    }

    /// Live entries from `start` to `end`, both included.
    pub fn range(&self, start: StreamId, end: StreamId) -> Entries<'_> {
        let from = self.nodes.range(..=start).next_back().map(|(&key, _)| key);
        let nodes = match from {
            Some(key) => self.nodes.range(key..),
            None => self.nodes.range(..),
        };
        Entries {
            nodes,
            walk: None,
            start,
            end,
        }
    }

    /// The same from `end` down to `start`.
    pub fn range_rev(&self, start: StreamId, end: StreamId) -> EntriesRev<'_> {
        let mut nodes = self.nodes.range(..=end);
        if nodes.clone().next().is_none() {
            nodes = self.nodes.range(..);
        }
        EntriesRev {
            nodes,
            walk: None,
            start,
            end,
        }
    }

    pub fn iter(&self) -> Entries<'_> {
        self.range(StreamId::MIN, StreamId::MAX)
    }

    pub fn get(&self, id: StreamId) -> Option<Entry<'_>> {
        self.range(id, id).next()
    }

    pub fn contains(&self, id: StreamId) -> bool {
        self.get(id).is_some()
    }

    pub fn first(&self) -> Option<Entry<'_>> {
        self.iter().next()
    }

    pub fn last(&self) -> Option<Entry<'_>> {
        self.range_rev(StreamId::MIN, StreamId::MAX).next()
    }

    /// The ID of the last live entry; 0-0 without one.
    pub fn last_live_id(&self) -> StreamId {
        // The last entry added is nearly always live: then its node need not be walked.
        self.last().map_or(StreamId::MIN, |entry| entry.id)
    }

    /// Deletes entries by their IDs; how many there were.
    pub fn delete(&mut self, ids: impl Iterator<Item = StreamId>) -> u64 {
        let (mut deleted, mut first_gone) = (0, false);
        for id in ids {
            if self.delete_one(id) {
                deleted += 1;
                first_gone |= id == self.first_id;
                self.max_deleted_id = self.max_deleted_id.max(id);
            }
        }
        if first_gone {
            self.first_id = self.first().map_or(StreamId::MIN, |entry| entry.id);
        }
        deleted
    }

    fn delete_one(&mut self, id: StreamId) -> bool {
        let Some((key, at)) = self.get(id).map(|entry| (entry.node, entry.at)) else {
            return false;
        };
        let pack = self
            .nodes
            .get_mut(&key)
            .expect("the entry was found in this node");
        if node::counts(pack).0 == 1 {
            self.nodes.remove(&key);
        } else {
            node::delete(pack, at);
        }
        self.len -= 1;
        true
    }

    /// Removes entries from the front; how many.
    pub fn trim(&mut self, trim: &Trim) -> u64 {
        let mut removed = 0;
        while let Some(mut front) = self.nodes.first_entry() {
            let (key, len) = (*front.key(), self.len);
            let (live, _) = node::counts(front.get());
            if matches!(trim.keep, Keep::Newest(count) if len <= count) {
                break;
            }
            if trim.limit.is_some_and(|limit| removed + live > limit) {
                break;
            }
            let whole = match trim.keep {
                Keep::Newest(count) => len - live >= count,
                Keep::From(id) => {
                    let last = Walk::new(key, front.get()).next_back();
                    last.is_some_and(|last| last.entry.id < id)
                }
            };
            if whole {
                front.remove();
                self.len -= live;
                removed += live;
                continue;
            }
            if !trim.approximate {
                let mut left = len;
                let count = node::delete_front(key, front.get_mut(), |id| match trim.keep {
                    Keep::Newest(count) if left <= count => false,
                    Keep::From(first) if id >= first => false,
                    _ => {
                        left -= 1;
                        true
                    }
                });
                self.len -= count;
                removed += count;
            }
            break;
        }
        if self.len == 0 {
            self.first_id = StreamId::MIN;
        } else if removed > 0 {
            self.first_id = self.first().map_or(StreamId::MIN, |entry| entry.id);
        }
        removed
    }

    /// Whether entries may have been deleted by name between `start` and the end.
    fn has_tombstones_from(&self, start: StreamId) -> bool {
        let none = self.len == 0
            || self.max_deleted_id == StreamId::MIN
            || self.max_deleted_id < self.first_id;
        !none && start <= self.max_deleted_id
    }

    /// How many entries of the stream's whole life lie up to an ID, where that can be told.
    pub fn entries_up_to(&self, id: StreamId) -> Option<i64> {
        let added = self.entries_added as i64;
        if self.entries_added == 0 {
            return Some(0);
        }
        if self.len == 0 && id < self.last_id.next().unwrap_or(StreamId::MAX) {
            return Some(added);
        }
        match id.cmp(&self.last_id) {
            std::cmp::Ordering::Equal => return Some(added),
            std::cmp::Ordering::Greater => return None,
            std::cmp::Ordering::Less => {}
        }
        if self.max_deleted_id == StreamId::MIN || self.max_deleted_id < self.first_id {
            let before = added.wrapping_sub(self.len as i64);
            match id.cmp(&self.first_id) {
                std::cmp::Ordering::Less => return Some(before),
                std::cmp::Ordering::Equal => return Some(before.wrapping_add(1)),
                std::cmp::Ordering::Greater => {}
            }
        }
        None
    }

    /// How many entries a group has yet to read, where that can be told.
    pub fn lag(&self, group: &Group) -> Option<i64> {
        if self.entries_added == 0 {
            return Some(0);
        }
        let added = self.entries_added as i64;
        match group.entries_read {
            Some(read) if !self.has_tombstones_from(group.last_id) => {
                Some(added.wrapping_sub(read))
            }
            _ => self
                .entries_up_to(group.last_id)
                .map(|read| added.wrapping_sub(read)),
        }
    }

    /// Notes that a group was given the entry with this ID, if it is beyond what it had; whether it was.
    pub fn advance(&self, group: &mut Group, id: StreamId) -> bool {
        if id <= group.last_id {
            return false;
        }
        group.entries_read = match group.entries_read {
            Some(read) if !self.has_tombstones_from(id) => Some(read.wrapping_add(1)),
            read if self.entries_added == 0 => read,
            _ => self.entries_up_to(id),
        };
        group.last_id = id;
        true
    }

    /// Heap bytes. `samples` listpacks stand for all; 0 looks at each.
    pub fn approximate_bytes(&self, samples: usize) -> usize {
        let count = self.nodes.len();
        let samples = if samples == 0 {
            count
        } else {
            samples.min(count)
        };
        let packs: usize = self
            .nodes
            .values()
            .take(samples)
            .map(Listpack::capacity)
            .sum();
        let packs = (packs as u128 * count as u128)
            .checked_div(samples as u128)
            .unwrap_or(0) as usize;
        // The tree's nodes are between half and wholly full.
        let tree = count * size_of::<(StreamId, Listpack)>() * 3 / 2;
        let groups: usize = self
            .groups
            .iter()
            .map(|(name, group)| name.len() + size_of::<Group>() + group.approximate_bytes())
            .sum();
        packs + tree + groups + size_of::<Stream>()
    }

    /// Allocations that freeing costs.
    pub fn free_effort(&self) -> usize {
        let groups = self.groups.values();
        1 + self.nodes.len()
            + groups
                .map(|group| 1 + group.pending_count() / 4)
                .sum::<usize>()
    }
}

/// Whether an entry of so many bytes goes into this node.
fn has_room(pack: &Listpack, bytes: usize, limits: &Limits) -> bool {
    let bytes_max = match limits.stream_node_max_bytes {
        0 => NODE_BYTES_MAX,
        bytes => bytes.min(NODE_BYTES_MAX),
    };
    if pack.byte_len() + bytes >= bytes_max {
        return false;
    }
    let (live, deleted) = node::counts(pack);
    limits.stream_node_max_entries == 0 || live + deleted < limits.stream_node_max_entries
}

/// Live entries, ascending.
#[derive(Clone)]
pub struct Entries<'a> {
    nodes: btree_map::Range<'a, StreamId, Listpack>,
    walk: Option<Walk<'a>>,
    start: StreamId,
    end: StreamId,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            let Some(walk) = &mut self.walk else {
                let (&key, pack) = self.nodes.next()?;
                self.walk = Some(Walk::new(key, pack));
                continue;
            };
            match walk.next() {
                None => self.walk = None,
                Some(met) if met.deleted || met.entry.id < self.start => {}
                Some(met) if met.entry.id > self.end => return None,
                Some(met) => return Some(met.entry),
            }
        }
    }
}

/// Live entries, descending.
pub struct EntriesRev<'a> {
    nodes: btree_map::Range<'a, StreamId, Listpack>,
    walk: Option<Walk<'a>>,
    start: StreamId,
    end: StreamId,
}

impl<'a> Iterator for EntriesRev<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            let Some(walk) = &mut self.walk else {
                let (&key, pack) = self.nodes.next_back()?;
                self.walk = Some(Walk::new(key, pack));
                continue;
            };
            match walk.next_back() {
                None => self.walk = None,
                Some(met) if met.deleted || met.entry.id > self.end => {}
                Some(met) if met.entry.id < self.start => return None,
                Some(met) => return Some(met.entry),
            }
        }
    }
}

/// A stream out of parts that any file may hold; each is checked.
#[derive(Default)]
pub struct Builder {
    stream: Stream,
    live: u64,
}

/// What a file says of a stream besides its entries. Older files leave out the last three.
#[derive(Clone, Copy, Debug)]
pub struct Metadata {
    pub len: u64,
    pub last_id: StreamId,
    pub history: Option<History>,
}

#[derive(Clone, Copy, Debug)]
pub struct History {
    pub first_id: StreamId,
    pub max_deleted_id: StreamId,
    pub entries_added: u64,
}

impl Builder {
    pub fn node(&mut self, key: StreamId, pack: Listpack) -> Result<(), FormatError> {
        let live = node::check(&pack)?;
        self.live = self.live.saturating_add(live);
        match self.stream.nodes.insert(key, pack) {
            None => Ok(()),
            Some(_) => Err(FormatError::new("two nodes of one ID")),
        }
    }

    /// Comes behind the nodes and before the groups.
    pub fn metadata(&mut self, metadata: Metadata) -> Result<(), FormatError> {
        if metadata.len != self.live {
            return Err(FormatError::new(
                "a stream's length is not that of its nodes",
            ));
        }
        let stream = &mut self.stream;
        stream.len = metadata.len;
        stream.last_id = metadata.last_id;
        match metadata.history {
            Some(history) => {
                stream.first_id = history.first_id;
                stream.max_deleted_id = history.max_deleted_id;
                stream.entries_added = history.entries_added;
            }
            None => {
                stream.first_id = stream.first().map_or(StreamId::MIN, |entry| entry.id);
                stream.entries_added = stream.len;
            }
        }
        Ok(())
    }

    /// What has been built so far.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    pub fn group(&mut self, name: &[u8], group: Group) -> Result<(), FormatError> {
        match self.stream.groups.insert(name.into(), group) {
            None => Ok(()),
            Some(_) => Err(FormatError::new("two groups of one name")),
        }
    }

    pub fn finish(self) -> Stream {
        self.stream
    }
}
