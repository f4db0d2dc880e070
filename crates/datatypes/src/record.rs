//! Thin records: one heap allocation per member, with its lengths in front of its bytes, reached by a single
//! pointer from a [`PtrTable`]; and [`RecordTable`], which owns the records of one such table.
//!
//! ```text
//! member of a set          | length | member |
//! field of a hash          | field length | value length | field | value |
//! member of a sorted set   | score, 8 bytes | length | member |
//! length: one byte up to 251; else 252, 253 or 254 and then 2, 4 or 8 bytes LE
//! ```
//! A first length byte of 255 is unused: it is where a field's expiry time can announce itself.
//!
//! Unsafe, because a safe record is a fat `Box<[u8]>` (8 bytes more in the table, and two allocations per field).
//! Invariants the unsafe code rests on:
//! - every pointer in a table comes from [`allocate`], holds a record of the table's own kind, and is freed exactly
//!   when it leaves the table: by the table, which alone owns it;
//! - a [`Ref`] borrows the table, so no record is freed, moved or written while one is alive;
//! - a record's lengths never change, so its allocation's size can be computed from it.

use crate::ptr_table::{hash_bytes, PtrTable};
use crate::Rng;
use std::alloc::{alloc, dealloc, handle_alloc_error, Layout};
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Lengths up to this take one byte.
const SHORT_MAX: usize = 251;

/// What kind of record a table holds: how to find key and size.
pub(crate) trait Kind {
    /// # Safety
    /// `ptr` is a live record of this kind, and stays one for `'a`.
    unsafe fn key<'a>(ptr: NonNull<u8>) -> &'a [u8];

    /// Bytes of the allocation.
    ///
    /// # Safety
    /// `ptr` is a live record of this kind.
    unsafe fn size(ptr: NonNull<u8>) -> usize;
}

/// A set's member.
pub(crate) enum Member {}
/// A hash's field and value.
pub(crate) enum Field {}
/// A sorted set's member and score.
pub(crate) enum Scored {}

const SCORE_BYTES: usize = size_of::<f64>();

/// How many bytes the length `len` takes.
#[inline]
fn length_size(len: usize) -> usize {
    match len {
        0..=SHORT_MAX => 1,
        252..=0xFFFF => 3,
        0x1_0000..=0xFFFF_FFFF => 5,
        _ => 9,
    }
}

/// Writes `len` at `to` and returns the byte behind it.
///
/// # Safety
/// `to` is valid for writing `length_size(len)` bytes.
#[inline]
unsafe fn write_length(to: *mut u8, len: usize) -> *mut u8 {
    let size = length_size(len);
    let tag = match size {
        1 => len as u8,
        3 => 252,
        5 => 253,
        _ => 254,
    };
    // SAFETY: the tag is the first and `size - 1` LE bytes are the others of the `size` bytes that the caller vouches for.
    unsafe {
        to.write(tag);
        std::ptr::copy_nonoverlapping((len as u64).to_le_bytes().as_ptr(), to.add(1), size - 1);
        to.add(size)
    }
}

/// Reads a length: the value, and the byte behind it.
///
/// # Safety
/// `write_length` has written a length at `from`.
#[inline]
unsafe fn read_length(from: *const u8) -> (usize, *const u8) {
    // SAFETY: a length has at least one byte.
    let tag = unsafe { from.read() };
    if usize::from(tag) <= SHORT_MAX {
        // SAFETY: one byte was written, so the next address is at most one past its allocation.
        return (usize::from(tag), unsafe { from.add(1) });
    }
    let width = match tag {
        252 => 2,
        253 => 4,
        _ => 8,
    };
    let mut le = [0u8; 8];
    // SAFETY: `write_length` put `width` bytes behind this tag; the buffer has eight.
    unsafe {
        std::ptr::copy_nonoverlapping(from.add(1), le.as_mut_ptr(), width);
        (u64::from_le_bytes(le) as usize, from.add(1 + width))
    }
}

/// Memory for a record of `size` bytes, uninitialised.
fn allocate(size: usize) -> NonNull<u8> {
    let layout = Layout::array::<u8>(size).expect("a record of slices in memory fits in memory");
    debug_assert!(size > 0);
    // SAFETY: every kind of record has at least one length byte, so the size is not zero.
    let ptr = unsafe { alloc(layout) };
    NonNull::new(ptr).unwrap_or_else(|| handle_alloc_error(layout))
}

/// # Safety
/// `ptr` is a live record of kind `R`, and nothing uses it afterwards.
unsafe fn free<R: Kind>(ptr: NonNull<u8>) {
    // SAFETY: the caller vouches for a live record of this kind, whose size is the one it was allocated with.
    unsafe {
        let layout = Layout::array::<u8>(R::size(ptr)).expect("its allocation had this layout");
        dealloc(ptr.as_ptr(), layout);
    }
}

/// Hash of a record in a table, for when the table splits.
#[inline]
fn hash_of<R: Kind>(ptr: NonNull<u8>) -> u64 {
    // SAFETY: called by a table about one of its pointers, which are live records of its kind.
    hash_bytes(unsafe { R::key(ptr) })
}

impl Kind for Member {
    #[inline]
    unsafe fn key<'a>(ptr: NonNull<u8>) -> &'a [u8] {
        // SAFETY: a member record is a length and that many bytes; it lives for 'a.
        unsafe {
            let (len, bytes) = read_length(ptr.as_ptr());
            std::slice::from_raw_parts(bytes, len)
        }
    }

    unsafe fn size(ptr: NonNull<u8>) -> usize {
        // SAFETY: as the caller vouches.
        let len = unsafe { Self::key(ptr) }.len();
        length_size(len) + len
    }
}

impl Member {
    fn allocate(member: &[u8]) -> NonNull<u8> {
        let ptr = allocate(length_size(member.len()) + member.len());
        // SAFETY: the allocation has exactly room for the length and the bytes, and is new, so it does not overlap.
        unsafe {
            let to = write_length(ptr.as_ptr(), member.len());
            std::ptr::copy_nonoverlapping(member.as_ptr(), to, member.len());
        }
        ptr
    }
}

impl Field {
    fn allocate(field: &[u8], value: &[u8]) -> NonNull<u8> {
        let lengths = length_size(field.len()) + length_size(value.len());
        let ptr = allocate(lengths + field.len() + value.len());
        // SAFETY: the allocation has exactly room for both lengths and both slices, and is new.
        unsafe {
            let to = write_length(ptr.as_ptr(), field.len());
            let to = write_length(to, value.len());
            std::ptr::copy_nonoverlapping(field.as_ptr(), to, field.len());
            std::ptr::copy_nonoverlapping(value.as_ptr(), to.add(field.len()), value.len());
        }
        ptr
    }

    /// # Safety
    /// `ptr` is a live field record, and stays one for `'a`.
    #[inline]
    unsafe fn parts<'a>(ptr: NonNull<u8>) -> (&'a [u8], &'a [u8]) {
        // SAFETY: a field record is two lengths and then the bytes they count; it lives for 'a.
        unsafe {
            let (field_len, at) = read_length(ptr.as_ptr());
            let (value_len, at) = read_length(at);
            let field = std::slice::from_raw_parts(at, field_len);
            (
                field,
                std::slice::from_raw_parts(at.add(field_len), value_len),
            )
        }
    }
}

impl Kind for Field {
    #[inline]
    unsafe fn key<'a>(ptr: NonNull<u8>) -> &'a [u8] {
        // SAFETY: as the caller vouches.
        unsafe { Self::parts(ptr) }.0
    }

    unsafe fn size(ptr: NonNull<u8>) -> usize {
        // SAFETY: as the caller vouches.
        let (field, value) = unsafe { Self::parts(ptr) };
        length_size(field.len()) + length_size(value.len()) + field.len() + value.len()
    }
}

impl Scored {
    fn allocate(member: &[u8], score: f64) -> NonNull<u8> {
        let ptr = allocate(SCORE_BYTES + length_size(member.len()) + member.len());
        // SAFETY: the allocation has exactly room for the score, the length and the bytes, and is new.
        unsafe {
            ptr.cast::<f64>().as_ptr().write_unaligned(score);
            let to = write_length(ptr.as_ptr().add(SCORE_BYTES), member.len());
            std::ptr::copy_nonoverlapping(member.as_ptr(), to, member.len());
        }
        ptr
    }
}

impl Kind for Scored {
    #[inline]
    unsafe fn key<'a>(ptr: NonNull<u8>) -> &'a [u8] {
        // SAFETY: behind the score of a live record there are a length and that many bytes; they live for 'a.
        unsafe {
            let (len, bytes) = read_length(ptr.as_ptr().add(SCORE_BYTES));
            std::slice::from_raw_parts(bytes, len)
        }
    }

    unsafe fn size(ptr: NonNull<u8>) -> usize {
        // SAFETY: as the caller vouches.
        let len = unsafe { Self::key(ptr) }.len();
        SCORE_BYTES + length_size(len) + len
    }
}

/// A record in a borrowed table.
pub(crate) struct Ref<'a, R> {
    ptr: NonNull<u8>,
    table: PhantomData<(&'a u8, R)>,
}

impl<R> Clone for Ref<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Ref<'_, R> {}

impl<'a, R: Kind> Ref<'a, R> {
    fn new(ptr: NonNull<u8>) -> Self {
        Ref {
            ptr,
            table: PhantomData,
        }
    }

    #[inline]
    pub(crate) fn key(self) -> &'a [u8] {
        // SAFETY: a Ref borrows for 'a the table that keeps this record alive.
        unsafe { R::key(self.ptr) }
    }

    /// Bytes of the allocation.
    pub(crate) fn size(self) -> usize {
        // SAFETY: as in `key`.
        unsafe { R::size(self.ptr) }
    }
}

impl<'a> Ref<'a, Field> {
    #[inline]
    pub(crate) fn parts(self) -> (&'a [u8], &'a [u8]) {
        // SAFETY: a Ref borrows for 'a the table that keeps this record alive.
        unsafe { Field::parts(self.ptr) }
    }
}

impl Ref<'_, Scored> {
    #[inline]
    pub(crate) fn score(self) -> f64 {
        // SAFETY: a live record of this kind starts with its score.
        unsafe { self.ptr.cast::<f64>().as_ptr().read_unaligned() }
    }
}

/// Names a record of a table without borrowing it. Inert until `RecordTable::resolve`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Handle(NonNull<u8>);

/// A hash table that owns records of kind `R`, found by their key.
pub(crate) struct RecordTable<R: Kind> {
    table: PtrTable,
    kind: PhantomData<R>,
}

// SAFETY: the table owns its records (plain bytes without thread affinity), so they move with it.
unsafe impl<R: Kind> Send for RecordTable<R> {}
// SAFETY: `&RecordTable` only reads records; nothing in them is interior-mutable.
unsafe impl<R: Kind> Sync for RecordTable<R> {}
// SAFETY: a handle by itself gives no access; `resolve`, which does, needs the table.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl<R: Kind> RecordTable<R> {
    pub(crate) const fn new() -> Self {
        RecordTable {
            table: PtrTable::new(),
            kind: PhantomData,
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Bytes of the table without its records.
    pub(crate) fn table_bytes(&self) -> usize {
        self.table.memory_bytes()
    }

    #[inline]
    fn find_ptr(&self, hash: u64, key: &[u8]) -> Option<NonNull<u8>> {
        // SAFETY: the table passes its own pointers, all live records of its kind.
        self.table.find(hash, |ptr| unsafe { R::key(ptr) } == key)
    }

    #[inline]
    pub(crate) fn get(&self, key: &[u8]) -> Option<Ref<'_, R>> {
        self.find_ptr(hash_bytes(key), key).map(Ref::new)
    }

    pub(crate) fn remove(&mut self, key: &[u8]) -> bool {
        let Some(ptr) = self.detach(key) else {
            return false;
        };
        // SAFETY: just taken out of the table, so this was the last pointer to a live record.
        unsafe { free::<R>(ptr) };
        true
    }

    /// Takes the record out of the table without freeing it.
    fn detach(&mut self, key: &[u8]) -> Option<NonNull<u8>> {
        // SAFETY: the table passes its own pointers, all live records of its kind.
        self.table.remove(
            hash_bytes(key),
            |ptr| unsafe { R::key(ptr) } == key,
            hash_of::<R>,
        )
    }

    /// In no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Ref<'_, R>> + '_ {
        self.table.iter().map(Ref::new)
    }

    pub(crate) fn random(&self, rng: &mut Rng) -> Option<Ref<'_, R>> {
        self.table.random(|| rng.next_u64()).map(Ref::new)
    }

    pub(crate) fn scan<'a>(
        &'a self,
        cursor: u64,
        count: usize,
        mut visit: impl FnMut(Ref<'a, R>),
    ) -> u64 {
        self.table
            .scan(cursor, count, hash_of::<R>, |ptr| visit(Ref::new(ptr)))
    }

    /// Allocated bytes of table and records; `samples` records stand for all, 0 looks at each.
    pub(crate) fn approximate_bytes(&self, samples: usize) -> usize {
        let len = self.len();
        let samples = if samples == 0 { len } else { samples.min(len) };
        let sampled: usize = self.iter().take(samples).map(Ref::size).sum();
        let records = (sampled as u128 * len as u128)
            .checked_div(samples as u128)
            .unwrap_or(0);
        self.table_bytes() + records as usize
    }
}

impl<R: Kind> Drop for RecordTable<R> {
    fn drop(&mut self) {
        for ptr in self.table.iter() {
            // SAFETY: each pointer is in the table once, and the table is not used again.
            unsafe { free::<R>(ptr) };
        }
    }
}

impl RecordTable<Member> {
    /// True when it was absent.
    pub(crate) fn insert(&mut self, member: &[u8]) -> bool {
        let hash = hash_bytes(member);
        if self.find_ptr(hash, member).is_some() {
            return false;
        }
        self.table
            .insert(hash, Member::allocate(member), hash_of::<Member>);
        true
    }
}

impl Clone for RecordTable<Member> {
    fn clone(&self) -> Self {
        let mut copy = RecordTable::new();
        for record in self.iter() {
            copy.insert(record.key());
        }
        copy
    }
}

impl Clone for RecordTable<Field> {
    fn clone(&self) -> Self {
        let mut copy = RecordTable::new();
        for record in self.iter() {
            let (field, value) = record.parts();
            copy.set(field, value);
        }
        copy
    }
}

impl RecordTable<Field> {
    /// True when the field is new.
    pub(crate) fn set(&mut self, field: &[u8], value: &[u8]) -> bool {
        let hash = hash_bytes(field);
        let Some(old) = self.find_ptr(hash, field) else {
            self.table
                .insert(hash, Field::allocate(field, value), hash_of::<Field>);
            return true;
        };
        // SAFETY: `old` is in the table, hence live. The slice made here is dead before the write below: only its
        // length and its distance from the start of the record are kept.
        let (offset, len) = unsafe {
            let (_, current) = Field::parts(old);
            (
                current.as_ptr() as usize - old.as_ptr() as usize,
                current.len(),
            )
        };
        if len == value.len() {
            // SAFETY: the record holds `len` bytes at that offset, which no reference covers, as `self` is borrowed
            // mutably; for the same reason the caller's `value` does not lie inside the record.
            unsafe { std::ptr::copy_nonoverlapping(value.as_ptr(), old.as_ptr().add(offset), len) };
            return false;
        }
        let replaced = self.table.replace(hash, old, Field::allocate(field, value));
        debug_assert!(replaced);
        // SAFETY: the table now points to the new record, so this was the last pointer to the old one.
        unsafe { free::<Field>(old) };
        false
    }
}

impl RecordTable<Scored> {
    /// Adds a member known to be absent.
    pub(crate) fn insert_new(&mut self, member: &[u8], score: f64) -> Handle {
        let ptr = Scored::allocate(member, score);
        self.table
            .insert(hash_bytes(member), ptr, hash_of::<Scored>);
        Handle(ptr)
    }

    /// The handle of a member that is present.
    #[inline]
    pub(crate) fn handle(&self, member: &[u8]) -> Option<Handle> {
        self.find_ptr(hash_bytes(member), member).map(Handle)
    }

    /// # Safety
    /// `handle` names a record that is in this table.
    #[inline]
    pub(crate) unsafe fn resolve(&self, handle: Handle) -> Ref<'_, Scored> {
        Ref::new(handle.0)
    }

    /// # Safety
    /// `handle` names a record that is in this table.
    pub(crate) unsafe fn set_score(&mut self, handle: Handle, score: f64) {
        // SAFETY: the record is live and starts with its score; no Ref exists while `self` is borrowed mutably.
        unsafe { handle.0.cast::<f64>().as_ptr().write_unaligned(score) };
    }

    /// # Safety
    /// `handle` names a record that is in this table; it and its copies must not be resolved again.
    pub(crate) unsafe fn remove_handle(&mut self, handle: Handle) {
        // SAFETY: the caller vouches that the record is live.
        let hash = hash_of::<Scored>(handle.0);
        let removed = self
            .table
            .remove(hash, |ptr| ptr == handle.0, hash_of::<Scored>);
        debug_assert!(removed.is_some());
        // SAFETY: just taken out of the table, so this was the last pointer that may be used.
        unsafe { free::<Scored>(handle.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn lengths_of_every_width_read_back() {
        let mut room = [0u8; 9];
        for len in [
            0,
            1,
            250,
            251,
            252,
            255,
            256,
            65_535,
            65_536,
            0xFFFF_FFFF,
            0x1_0000_0000,
            usize::MAX,
        ] {
            let size = length_size(len);
            // SAFETY: nine bytes hold the longest length.
            let (read, end) = unsafe {
                write_length(room.as_mut_ptr(), len);
                read_length(room.as_ptr())
            };
            assert_eq!((read, end as usize - room.as_ptr() as usize), (len, size));
        }
    }

    #[test]
    fn fields_keep_their_values_through_growth_and_replacement() {
        let mut rng = Rng::from_seed(11);
        let mut table = RecordTable::<Field>::new();
        let mut model = BTreeMap::new();
        for step in 0..20_000u32 {
            let field = format!("f{}", rng.below(3_000)).into_bytes();
            if rng.below(4) == 0 {
                assert_eq!(table.remove(&field), model.remove(&field).is_some());
            } else {
                let value = vec![
                    step as u8;
                    [0, 3, 251, 252, 300, 70_000]
                        [rng.below(if step % 50 == 0 { 6 } else { 4 })]
                ];
                assert_eq!(
                    table.set(&field, &value),
                    model.insert(field, value).is_none()
                );
            }
        }
        assert_eq!(table.len(), model.len());
        let mut all: Vec<_> = table.iter().map(Ref::parts).collect();
        all.sort();
        assert!(all
            .iter()
            .copied()
            .eq(model.iter().map(|(f, v)| (f.as_slice(), v.as_slice()))));
        let exact: usize = table.iter().map(Ref::size).sum();
        assert_eq!(table.approximate_bytes(0), table.table_bytes() + exact);
    }
}
