//! The large encoding of a sorted set: a table that owns the members with their scores, and a [`Tree`] of them
//! in order of score, then bytes.
//!
//! Unsafe, because the tree names the table's records by plain pointers: with indices instead, each step of
//! a search would go through one more table, and each member would take 8 bytes more.
//! Invariant: the tree holds exactly one entry per record of the table, with the record's score. So every handle
//! in the tree may be resolved, and a record is freed only after its entry has left the tree.

use super::tree::{self, Tree};
use crate::record::{Handle, RecordTable, Ref, Scored};
use crate::Rng;
use std::ops::Range;

/// A member in the order; the score stands beside the pointer so that most comparisons need no other memory.
#[derive(Clone, Copy)]
struct Entry {
    score: f64,
    handle: Handle,
}

/// See the module's head.
pub(super) struct Ranked {
    table: RecordTable<Scored>,
    tree: Tree<Entry>,
}

impl Clone for Ranked {
    fn clone(&self) -> Ranked {
        let mut copy = Ranked::new();
        for (member, score) in self.range(0..self.len()) {
            copy.insert(member, score);
        }
        copy
    }
}

/// Whether the entry comes before (score, member).
#[inline]
fn is_before(table: &RecordTable<Scored>, entry: &Entry, score: f64, member: &[u8]) -> bool {
    // SAFETY: entries in the tree name records in the table.
    entry.score < score
        || (entry.score == score && unsafe { table.resolve(entry.handle) }.key() < member)
}

impl Ranked {
    pub(super) const fn new() -> Ranked {
        Ranked {
            table: RecordTable::new(),
            tree: Tree::new(),
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.tree.len()
    }

    #[inline]
    pub(super) fn score(&self, member: &[u8]) -> Option<f64> {
        self.table.get(member).map(Ref::score)
    }

    /// Adds or moves; returns the previous score.
    pub(super) fn insert(&mut self, member: &[u8], score: f64) -> Option<f64> {
        let Some(handle) = self.table.handle(member) else {
            // The table first: the tree must not name a record that is not there.
            let handle = self.table.insert_new(member, score);
            self.place(handle, score, member);
            return None;
        };
        // SAFETY: the table just gave this handle.
        let old = unsafe { self.table.resolve(handle) }.score();
        // Redis leaves a 0 that becomes -0 as it is.
        if old == score {
            return Some(old);
        }
        let rank = self.place_of(old, member);
        let table = &self.table;
        let moved = self
            .tree
            .replace_in_place(rank, Entry { score, handle }, |below, above| {
                let key = |entry: Entry| {
                    // SAFETY: entries in the tree name records in the table.
                    unsafe { table.resolve(entry.handle) }.key()
                };
                below.is_none_or(|b| is_before(table, &b, score, member))
                    && above
                        .is_none_or(|a| score < a.score || (score == a.score && member < key(a)))
            });
        if !moved {
            self.tree.remove(rank);
            self.place(handle, score, member);
        }
        // SAFETY: the record is still in the table.
        unsafe { self.table.set_score(handle, score) };
        Some(old)
    }

    fn place(&mut self, handle: Handle, score: f64, member: &[u8]) {
        let table = &self.table;
        self.tree.insert(Entry { score, handle }, |entry| {
            is_before(table, entry, score, member)
        });
    }

    /// The rank of (score, member), present or not.
    fn place_of(&self, score: f64, member: &[u8]) -> usize {
        self.tree
            .partition_point(|entry| is_before(&self.table, entry, score, member))
    }

    /// Returns the score it had.
    pub(super) fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let handle = self.table.handle(member)?;
        // SAFETY: the table just gave this handle.
        let score = unsafe { self.table.resolve(handle) }.score();
        let rank = self.place_of(score, member);
        self.tree.remove(rank);
        // SAFETY: the record is in the table, and its only entry has just left the tree.
        unsafe { self.table.remove_handle(handle) };
        Some(score)
    }

    pub(super) fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        let score = self.score(member)?;
        Some((self.place_of(score, member), score))
    }

    /// How many members, from the lowest on, have a score for which `below` holds.
    pub(super) fn count_scores(&self, mut below: impl FnMut(f64) -> bool) -> usize {
        self.tree.partition_point(|entry| below(entry.score))
    }

    /// How many members, from the lowest on, have a name for which `below` holds.
    pub(super) fn count_names(&self, mut below: impl FnMut(&[u8]) -> bool) -> usize {
        // SAFETY: entries in the tree name records in the table.
        self.tree
            .partition_point(|entry| below(unsafe { self.table.resolve(entry.handle) }.key()))
    }

    pub(super) fn range(&self, ranks: Range<usize>) -> Iter<'_> {
        Iter {
            table: &self.table,
            entries: self.tree.range(ranks),
        }
    }

    /// Removes the members with these ranks.
    pub(super) fn remove_ranks(&mut self, ranks: Range<usize>) {
        let table = &mut self.table;
        // SAFETY: the record is in the table, and its only entry has just left the tree for good.
        self.tree
            .remove_range(ranks, |entry| unsafe { table.remove_handle(entry.handle) });
    }

    pub(super) fn random(&self, rng: &mut Rng) -> Option<(&[u8], f64)> {
        self.table
            .random(rng)
            .map(|record| (record.key(), record.score()))
    }

    pub(super) fn scan(&self, cursor: u64, count: usize, mut visit: impl FnMut(&[u8], f64)) -> u64 {
        self.table
            .scan(cursor, count, |record| visit(record.key(), record.score()))
    }

    pub(super) fn approximate_bytes(&self, samples: usize) -> usize {
        size_of::<Ranked>() + self.tree.bytes() + self.table.approximate_bytes(samples)
    }
}

/// Members with their scores from either end.
pub(super) struct Iter<'a> {
    table: &'a RecordTable<Scored>,
    entries: tree::Iter<'a, Entry>,
}

impl<'a> Iter<'a> {
    #[inline]
    fn named(&self, entry: Entry) -> (&'a [u8], f64) {
        // SAFETY: entries in the tree name records in the table, which this iterator borrows.
        (
            unsafe { self.table.resolve(entry.handle) }.key(),
            entry.score,
        )
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a [u8], f64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.entries.next()?;
        Some(self.named(entry))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.entries.size_hint()
    }
}

impl DoubleEndedIterator for Iter<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        let entry = self.entries.next_back()?;
        Some(self.named(entry))
    }
}

impl ExactSizeIterator for Iter<'_> {}
