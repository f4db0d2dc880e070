//! One numbered database of one shard: a table of entries, and a second table of those that
//! expire, for the expiry cycle to draw from.
//!
//! Invariant: both tables point to the same records; an entry is in `expires` exactly when it
//! has an expiry. A `Db` neither looks at the time nor writes effects: its callers do.

use std::ptr::NonNull;

use datatypes::ptr_table::{PtrTable, Slot};
use datatypes::value::Value;
use datatypes::Rng;

use crate::access::AccessClock;
use crate::entry::{Entry, EntryRef, NewValue};
use crate::field_expiries::FieldExpiries;
use crate::signals::Signal;
use crate::types::{DbIndex, UnixMillis};
use crate::view::Key;

/// What a write does to a key's expiry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expiry {
    Keep,
    Set(Option<UnixMillis>),
}

/// What a look-up at some instant found.
pub(crate) enum Probe {
    Absent,
    Expired,
    Live(Slot),
}

#[derive(Default)]
pub struct Db {
    table: PtrTable,
    expires: PtrTable,
    field_expiries: FieldExpiries,
    /// What entries' access clocks are set by.
    pub access: AccessClock,
    /// Keys that were added, if somebody wants to know.
    new_keys: Option<Vec<Signal>>,
}

fn hash_of(ptr: NonNull<u8>) -> u64 {
    // SAFETY: the tables of a Db hold records of live entries only.
    unsafe { EntryRef::from_raw(ptr) }.hash()
}

impl Db {
    /// How many keys there are, expired ones that were not yet deleted among them.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// How many keys have an expiry.
    pub fn expires_len(&self) -> usize {
        self.expires.len()
    }

    /// Bytes of the table of keys that expire.
    pub fn expires_bytes(&self) -> usize {
        self.expires.memory_bytes()
    }

    /// The hashes with fields that expire.
    pub fn field_expiries(&self) -> &FieldExpiries {
        &self.field_expiries
    }

    /// Notes when the fields of the hash at a key expire, after a change that may have made it earlier.
    pub fn note_field_expiry(&mut self, key: Key<'_>) {
        let earliest = self.find(key).and_then(EntryRef::next_field_expiry);
        self.field_expiries.note(key.bytes, earliest);
    }

    /// Bytes of the tables, without the entries.
    pub fn table_bytes(&self) -> usize {
        self.table.memory_bytes() + self.expires.memory_bytes() + self.field_expiries.memory_bytes()
    }

    #[inline]
    pub fn prefetch(&self, hash: u64) {
        self.table.prefetch(hash);
    }

    #[inline]
    pub fn prefetch_entry(&self, hash: u64) {
        self.table.prefetch_records(hash);
    }

    #[inline]
    fn slot(&self, hash: u64, key: &[u8]) -> Option<Slot> {
        // SAFETY: the table holds records of live entries only.
        self.table
            .find_slot(hash, |ptr| unsafe { EntryRef::from_raw(ptr) }.key() == key)
    }

    /// The entry of a key, whether it has expired or not.
    #[inline]
    pub fn find(&self, key: Key<'_>) -> Option<EntryRef<'_>> {
        self.slot(key.hash, key.bytes)
            .map(|slot| self.entry_at(slot))
    }

    /// Looks a key up once, so that the caller can decide what follows before it borrows the entry.
    #[inline]
    pub(crate) fn probe(&self, key: Key<'_>, now: UnixMillis) -> Probe {
        match self.slot(key.hash, key.bytes) {
            None => Probe::Absent,
            Some(slot) if self.entry_at(slot).is_expired(now) => Probe::Expired,
            Some(slot) => Probe::Live(slot),
        }
    }

    /// The entry at a slot that was found since the table changed last.
    #[inline]
    pub(crate) fn entry_at(&self, slot: Slot) -> EntryRef<'_> {
        // SAFETY: an occupied slot of the table holds the record of a live entry, unchanged
        // while self is borrowed.
        unsafe { EntryRef::from_raw(self.table.get(slot)) }
    }

    /// Notes an access of the entry at a slot that was found since the table changed last.
    #[inline]
    pub(crate) fn touch_at(&mut self, slot: Slot) {
        // Written only when it changed: a page that a snapshot shares is not copied for it.
        let before = self.entry_at(slot).access_clock();
        let clock = self.access.touched(before);
        if clock != before {
            self.with_entry(slot, |entry| entry.set_access_clock(clock));
        }
    }

    /// Runs `change` on the entry of a key. It may change the value in place only: not the key,
    /// and the expiry only where the record has a place for it.
    #[inline]
    fn with_entry<R>(&mut self, slot: Slot, change: impl FnOnce(&mut Entry) -> R) -> R {
        // SAFETY: the record is alive, and self is borrowed exclusively; ManuallyDrop keeps the
        // table's ownership as it was.
        let mut entry =
            std::mem::ManuallyDrop::new(unsafe { Entry::from_raw(self.table.get(slot)) });
        change(&mut entry)
    }

    /// The collection a key holds, to change.
    #[inline]
    pub fn object_mut(&mut self, key: Key<'_>) -> Option<&mut Value> {
        let slot = self.slot(key.hash, key.bytes)?;
        self.object_at_mut(slot)
    }

    /// As [`Db::object_mut`], at a slot that was found since the table changed last.
    #[inline]
    pub(crate) fn object_at_mut(&mut self, slot: Slot) -> Option<&mut Value> {
        self.with_entry(slot, |entry| {
            // SAFETY: the value lives in a box of its own, owned by the record, which stays
            // while self is borrowed by the returned reference.
            entry
                .object_mut()
                .map(|value| unsafe { &mut *std::ptr::from_mut(value) })
        })
    }

    /// Changes the buffer of a long string in place; none when the key holds no such string.
    pub fn change_owned<R>(
        &mut self,
        key: Key<'_>,
        change: impl FnOnce(&mut Vec<u8>) -> R,
    ) -> Option<R> {
        let slot = self.slot(key.hash, key.bytes)?;
        self.with_entry(slot, |entry| entry.change_owned(change))
    }

    /// Sets the access clock of one key, as RESTORE does with IDLETIME or FREQ.
    pub fn set_access_clock(&mut self, key: Key<'_>, clock: u32) {
        if let Some(slot) = self.slot(key.hash, key.bytes) {
            self.with_entry(slot, |entry| entry.set_access_clock(clock));
        }
    }

    /// Whether keys that are added one by one are noted from here on.
    pub(crate) fn note_new_keys(&mut self, on: bool) {
        self.new_keys = on.then(Vec::new);
    }

    /// Moves what was noted of new keys to `into`; this is the database `own`.
    pub(crate) fn take_new_keys(&mut self, own: DbIndex, into: &mut Vec<Signal>) {
        if let Some(keys) = &mut self.new_keys {
            keys.iter_mut().for_each(|signal| signal.db = own);
            into.append(keys);
        }
    }

    #[inline]
    fn note_new(&mut self, key: &[u8]) {
        if let Some(keys) = &mut self.new_keys {
            keys.push(Signal::new(DbIndex(0), "new", key));
        }
    }

    /// Stores a value under a key, whatever was there before, which is returned where it was
    /// not overwritten in place.
    pub fn set(&mut self, key: Key<'_>, value: NewValue<'_>, expiry: Expiry) -> Option<Entry> {
        let Some(slot) = self.slot(key.hash, key.bytes) else {
            let expire_at = match expiry {
                Expiry::Keep => None,
                Expiry::Set(at) => at,
            };
            let mut entry = Entry::new(key.bytes, value, expire_at);
            entry.set_access_clock(self.access.fresh());
            self.note_new(key.bytes);
            self.insert_at(key.hash, entry);
            return None;
        };
        let (old_expiry, old_clock) = {
            let old = self.entry_at(slot);
            (old.expire_at(), old.access_clock())
        };
        let expire_at = match expiry {
            Expiry::Keep => old_expiry,
            Expiry::Set(at) => at,
        };
        let in_place = old_expiry.is_some() == expire_at.is_some()
            && self.with_entry(slot, |entry| {
                entry.overwrite(&value) && entry.set_expiry_in_place(expire_at)
            });
        let clock = self.access.touched(old_clock);
        if in_place {
            self.with_entry(slot, |entry| entry.set_access_clock(clock));
            return None;
        }
        let mut new = Entry::new(key.bytes, value, expire_at);
        new.set_access_clock(clock);
        Some(self.exchange(slot, key.hash, new))
    }

    /// Puts another record of the same key into an occupied slot.
    fn exchange(&mut self, slot: Slot, hash: u64, new: Entry) -> Entry {
        let expires = new.as_ref().expire_at().is_some();
        let (old_ptr, new_ptr) = (self.table.get(slot), new.into_raw());
        self.table.set(slot, hash, new_ptr);
        // SAFETY: the record was the table's, which no longer points to it; `expires` follows.
        let old = unsafe { Entry::from_raw(old_ptr) };
        // SAFETY: the record that the table points to now.
        let new = unsafe { EntryRef::from_raw(new_ptr) };
        if old.as_ref().next_field_expiry().is_some() || new.next_field_expiry().is_some() {
            self.field_expiries.note(new.key(), new.next_field_expiry());
        }
        match (old.as_ref().expire_at().is_some(), expires) {
            (true, true) => {
                self.expires.replace(hash, old_ptr, new_ptr);
            }
            (true, false) => {
                self.expires.remove(hash, |ptr| ptr == old_ptr, hash_of);
            }
            (false, true) => self.expires.insert(hash, new_ptr, hash_of),
            (false, false) => {}
        }
        old
    }

    /// Adds an entry whose key the caller knows to be absent.
    pub fn insert(&mut self, entry: Entry) {
        let hash = entry.as_ref().hash();
        self.note_new(entry.as_ref().key());
        self.insert_at(hash, entry);
    }

    /// Adds an entry unless its key is there already; then gives it back.
    pub fn insert_if_absent(&mut self, entry: Entry) -> Result<(), Entry> {
        let hash = entry.as_ref().hash();
        if self.slot(hash, entry.as_ref().key()).is_some() {
            return Err(entry);
        }
        self.insert_at(hash, entry);
        Ok(())
    }

    fn insert_at(&mut self, hash: u64, entry: Entry) {
        let expires = entry.as_ref().expire_at().is_some();
        if let Some(earliest) = entry.as_ref().next_field_expiry() {
            self.field_expiries
                .note(entry.as_ref().key(), Some(earliest));
        }
        let ptr = entry.into_raw();
        self.table.insert(hash, ptr, hash_of);
        if expires {
            self.expires.insert(hash, ptr, hash_of);
        }
    }

    /// Takes a key out.
    pub fn remove(&mut self, key: Key<'_>) -> Option<Entry> {
        let slot = self.slot(key.hash, key.bytes)?;
        let ptr = self.table.get(slot);
        // SAFETY: a live record; the reference ends before the record changes owner.
        if unsafe { EntryRef::from_raw(ptr) }.expire_at().is_some() {
            self.expires.remove(key.hash, |p| p == ptr, hash_of);
        }
        self.table.remove_slot(slot, key.hash, hash_of);
        // SAFETY: neither table points to the record any more.
        let entry = unsafe { Entry::from_raw(ptr) };
        if entry.as_ref().next_field_expiry().is_some() {
            self.field_expiries.note(key.bytes, None);
        }
        Some(entry)
    }

    /// Sets or takes away a key's expiry. False when the key is absent.
    pub fn set_expiry(&mut self, key: Key<'_>, expire_at: Option<UnixMillis>) -> bool {
        let Some(slot) = self.slot(key.hash, key.bytes) else {
            return false;
        };
        if self.with_entry(slot, |entry| entry.set_expiry_in_place(expire_at)) {
            return true;
        }
        let old_ptr = self.table.get(slot);
        // SAFETY: a live record; the reference ends before the record changes owner.
        let had_expiry = unsafe { EntryRef::from_raw(old_ptr) }.expire_at().is_some();
        if had_expiry {
            self.expires.remove(key.hash, |p| p == old_ptr, hash_of);
        }
        // SAFETY: the table's record, which the rebuilt one replaces in the table right below;
        // `expires` does not hold it.
        let new = unsafe { Entry::from_raw(old_ptr) }
            .rebuilt(None, expire_at)
            .into_raw();
        self.table.set(slot, key.hash, new);
        if expire_at.is_some() {
            self.expires.insert(key.hash, new, hash_of);
        }
        true
    }

    /// One step of SCAN over the table; see [`PtrTable::scan`].
    pub fn scan(&self, cursor: u64, count: usize, mut f: impl FnMut(EntryRef<'_>)) -> u64 {
        self.table.scan(cursor, count, hash_of, |ptr| {
            // SAFETY: the record of a live entry, unchanged while self is borrowed.
            f(unsafe { EntryRef::from_raw(ptr) })
        })
    }

    /// An entry chosen with equal chance among all.
    pub fn random(&self, rng: &mut Rng) -> Option<EntryRef<'_>> {
        // SAFETY: a record of a live entry, unchanged while self is borrowed.
        self.table
            .random(|| rng.next_u64())
            .map(|ptr| unsafe { EntryRef::from_raw(ptr) })
    }

    /// An entry chosen with equal chance among those that expire.
    pub fn random_expiring(&self, rng: &mut Rng) -> Option<EntryRef<'_>> {
        // SAFETY: a record of a live entry, unchanged while self is borrowed.
        self.expires
            .random(|| rng.next_u64())
            .map(|ptr| unsafe { EntryRef::from_raw(ptr) })
    }

    pub fn iter(&self) -> impl Iterator<Item = EntryRef<'_>> + '_ {
        // SAFETY: records of live entries, unchanged while self is borrowed.
        self.table
            .iter()
            .map(|ptr| unsafe { EntryRef::from_raw(ptr) })
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        self.expires.clear();
        for ptr in self.table.iter() {
            // SAFETY: the table owns its records, and is cleared without being looked at again.
            drop(unsafe { Entry::from_raw(ptr) });
        }
        self.table.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{StringRef, ValueRef};
    use std::collections::HashMap;

    fn key(bytes: &[u8]) -> Key<'_> {
        Key::new(bytes, &crate::SlotMap::new(1))
    }

    fn string(db: &Db, name: &[u8]) -> Option<Vec<u8>> {
        match db.find(key(name))?.value() {
            ValueRef::String(s) => Some(s.bytes(&mut itoa::Buffer::new()).to_vec()),
            ValueRef::Object(_) => None,
        }
    }

    #[test]
    fn agrees_with_a_map_of_values_and_expiries() {
        let (mut db, mut rng) = (Db::default(), Rng::from_seed(11));
        let mut model: HashMap<Vec<u8>, (Vec<u8>, Option<UnixMillis>)> = HashMap::new();
        for step in 0..60_000 {
            let name = format!("key:{}", rng.below(2_000)).into_bytes();
            let expire_at = (rng.below(3) == 0).then_some(UnixMillis(step));
            match rng.below(6) {
                0 => {
                    let removed = db.remove(key(&name)).is_some();
                    assert_eq!(removed, model.remove(&name).is_some());
                }
                1 => {
                    let changed = db.set_expiry(key(&name), expire_at);
                    assert_eq!(
                        changed,
                        model.get_mut(&name).map(|m| m.1 = expire_at).is_some()
                    );
                }
                choice => {
                    let value = vec![
                        b'a' + (step % 26) as u8;
                        rng.below(if choice == 5 { 9_000 } else { 60 })
                    ];
                    let expiry = if choice == 2 {
                        Expiry::Keep
                    } else {
                        Expiry::Set(expire_at)
                    };
                    let kept = model.get(&name).and_then(|m| m.1);
                    db.set(key(&name), NewValue::Bytes(&value), expiry);
                    model.insert(name, (value, if choice == 2 { kept } else { expire_at }));
                }
            }
        }
        assert_eq!(db.len(), model.len());
        assert_eq!(
            db.expires_len(),
            model.values().filter(|m| m.1.is_some()).count()
        );
        for (name, (value, expire_at)) in &model {
            assert_eq!(string(&db, name).as_ref(), Some(value));
            assert_eq!(db.find(key(name)).and_then(EntryRef::expire_at), *expire_at);
        }
        assert!((0..100).all(|_| db
            .random_expiring(&mut rng)
            .is_some_and(|e| e.expire_at().is_some())));
    }

    #[test]
    fn numbers_stay_numbers() {
        let mut db = Db::default();
        db.set(key(b"n"), NewValue::Bytes(b"41"), Expiry::Keep);
        db.set(key(b"n"), NewValue::Int(42), Expiry::Keep);
        let value = db.find(key(b"n")).map(EntryRef::value);
        assert!(matches!(value, Some(ValueRef::String(StringRef::Int(42)))));
    }
}
