//! A slab of connections whose ids carry a generation, so that an id outlives its connection without harm.
//!
//! ```text
//! ConnId: | 0000 | generation, 36 bits | slot, 24 bits |
//! ```
//! The upper four bits stay clear: io_uring completions carry an id and the kind of operation in one word.
//! Generations start at 1, so no id is zero.

use std::fmt;

/// Names one connection of one reactor, for as long as it lives.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub struct ConnId(pub u64);

const SLOT_BITS: u32 = 24;
const GENERATION_MASK: u64 = (1 << 36) - 1;

impl ConnId {
    fn new(slot: usize, generation: u64) -> ConnId {
        ConnId(generation << SLOT_BITS | slot as u64)
    }

    /// A small number, unique among the living connections of a reactor and reused later: an index for tables.
    pub fn slot(self) -> usize {
        (self.0 & ((1 << SLOT_BITS) - 1)) as usize
    }

    fn generation(self) -> u64 {
        self.0 >> SLOT_BITS
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnId({}#{})", self.slot(), self.generation())
    }
}

struct Entry<T> {
    generation: u64,
    value: Option<T>,
}

pub(crate) struct Slots<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
}

impl<T> Slots<T> {
    pub(crate) fn new() -> Slots<T> {
        Slots {
            entries: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(crate) fn insert(&mut self, value: T) -> ConnId {
        if let Some(slot) = self.free.pop() {
            let entry = &mut self.entries[slot as usize];
            entry.value = Some(value);
            return ConnId::new(slot as usize, entry.generation);
        }
        let slot = self.entries.len();
        assert!(
            slot < 1 << SLOT_BITS,
            "more connections than a ConnId can name"
        );
        self.entries.push(Entry {
            generation: 1,
            value: Some(value),
        });
        ConnId::new(slot, 1)
    }

    #[inline]
    pub(crate) fn get(&self, conn: ConnId) -> Option<&T> {
        match self.entries.get(conn.slot()) {
            Some(entry) if entry.generation == conn.generation() => entry.value.as_ref(),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, conn: ConnId) -> Option<&mut T> {
        match self.entries.get_mut(conn.slot()) {
            Some(entry) if entry.generation == conn.generation() => entry.value.as_mut(),
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, conn: ConnId) -> Option<T> {
        let entry = self.entries.get_mut(conn.slot())?;
        if entry.generation != conn.generation() {
            return None;
        }
        let value = entry.value.take()?;
        entry.generation = (entry.generation + 1) & GENERATION_MASK;
        if entry.generation == 0 {
            entry.generation = 1;
        }
        self.free.push(conn.slot() as u32);
        Some(value)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    pub(crate) fn ids(&self) -> Vec<ConnId> {
        let live = self
            .entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.value.is_some());
        live.map(|(slot, entry)| ConnId::new(slot, entry.generation))
            .collect()
    }

    /// Empties the slab without running a destructor.
    pub(crate) fn forget(&mut self) {
        std::mem::forget(std::mem::take(&mut self.entries));
        self.free.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_dies_with_its_value() {
        let mut slots = Slots::new();
        let first = slots.insert("first");
        assert_eq!(slots.get(first), Some(&"first"));
        assert_eq!(slots.remove(first), Some("first"));
        let second = slots.insert("second");
        assert_eq!(second.slot(), first.slot());
        assert_ne!(second, first);
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get_mut(second), Some(&mut "second"));
        assert_eq!(slots.len(), 1);
        assert_eq!(slots.ids(), [second]);
    }

    #[test]
    fn ids_fit_beside_an_operation_kind_and_are_never_zero() {
        let mut slots = Slots::new();
        let mut conn = slots.insert(());
        slots.entries[0].generation = GENERATION_MASK;
        conn = ConnId::new(conn.slot(), GENERATION_MASK);
        assert_eq!(conn.0 >> 60, 0);
        slots.remove(conn);
        let next = slots.insert(());
        assert_eq!(next, ConnId::new(0, 1));
        assert_ne!(next.0, 0);
    }

    #[test]
    fn an_id_from_nowhere_is_nobody() {
        let mut slots: Slots<()> = Slots::new();
        assert!(slots.get(ConnId(u64::MAX)).is_none());
        assert!(slots.remove(ConnId(0)).is_none());
    }
}
