//! A ring that another process left: what of it is not in its file.

use super::layout::{align_down, Identity, Layout, Slot, PAGE};
use super::memory::RingMemory;
use crate::storage::{read_full_at, write_all_at, StorageFile};
use std::ffi::OsStr;
use std::io;

/// Bytes compared or written at a time.
const STEP: u64 = 1 << 20;

/// A ring that was opened, and is nobody else's while this lives.
pub struct FoundRing {
    layout: Layout,
    identity: Identity,
    slot: Option<Slot>,
}

/// Why a ring's bytes cannot be put behind what is in the file.
#[derive(Debug)]
pub enum Misfit {
    Io(io::Error),
    /// The file is not the one that the ring's bytes follow: somebody changed it.
    Changed(&'static str),
}

impl FoundRing {
    /// The error says why it is no ring.
    pub fn new(memory: RingMemory) -> Result<FoundRing, &'static str> {
        let (layout, identity) = Layout::found(memory)?;
        let slot = layout.slot();
        let found = FoundRing {
            layout,
            identity,
            slot,
        };
        let (head, tail) = found.pending();
        if tail.wrapping_sub(head) > found.layout.data_len() {
            return Err("its positions contradict each other");
        }
        Ok(found)
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The file that its bytes are of; none if none was ever behind it.
    pub fn file_name(&self) -> Option<&OsStr> {
        self.slot.as_ref().map(|slot| slot.name.as_os_str())
    }

    /// The positions of what was not handed to the file. Both may lie before the slot's: see the invariants in [`super`].
    fn pending(&self) -> (u64, u64) {
        let first = self.slot.as_ref().map_or(0, |slot| slot.anchor.position);
        let head = self.layout.head().max(first);
        (head, self.layout.tail().max(head))
    }

    pub fn pending_bytes(&self) -> u64 {
        let (head, tail) = self.pending();
        tail - head
    }

    /// How long the file was said to be, and how long it is to be.
    pub fn offsets(&self) -> Option<(u64, u64)> {
        let (head, tail) = self.pending();
        let anchor = self.slot.as_ref()?.anchor;
        Some((anchor.offset_of(head), anchor.offset_of(tail)))
    }

    /// Makes sure that the file is what the pending bytes follow: neither shorter than what was handed to it, nor longer
    /// than what there was, and the same as the ring where both have it.
    pub fn check(&self, file: &dyn StorageFile) -> Result<(), Misfit> {
        let Some(slot) = &self.slot else {
            return Ok(());
        };
        let (head, tail) = self.pending();
        let offset_of = |position| slot.anchor.offset_of(position);
        let len = file.len().map_err(Misfit::Io)?;
        if len < offset_of(head) {
            return Err(Misfit::Changed("is shorter than it was"));
        }
        if len > offset_of(tail) {
            return Err(Misfit::Changed("is longer than it was"));
        }
        let first = align_down(slot.anchor.position).max(align_down(head).saturating_sub(PAGE));
        let last = slot.anchor.position_of(len).min(tail);
        self.each(first, last, |bytes, position| {
            let mut there = vec![0; bytes.len()];
            read_full_at(file, &mut there, offset_of(position)).map_err(Misfit::Io)?;
            match there == bytes {
                true => Ok(()),
                false => Err(Misfit::Changed("has changed near its end")),
            }
        })
    }

    /// Puts the pending bytes into the file. Not yet durable. May be repeated.
    pub fn write(&self, file: &dyn StorageFile) -> io::Result<()> {
        let Some(slot) = &self.slot else {
            return Ok(());
        };
        let (head, tail) = self.pending();
        self.each(head, tail, |bytes, position| {
            write_all_at(file, bytes, slot.anchor.offset_of(position))
        })
    }

    /// Says that the file has it all, durably.
    pub fn settle(&self) {
        self.layout.set_head(self.pending().1);
    }

    fn each<E>(
        &self,
        mut from: u64,
        until: u64,
        mut work: impl FnMut(&[u8], u64) -> Result<(), E>,
    ) -> Result<(), E> {
        while from < until {
            let bytes = self.layout.slice(from, (until - from).min(STEP));
            work(bytes, from)?;
            from += bytes.len() as u64;
        }
        Ok(())
    }
}
