//! A hash table of one-word pointers: the keyspace's main table, and the table encoding of
//! hashes, sets and sorted sets.
//!
//! The table is extendible hashing over small segments, so it never stops the world: a full
//! segment of 512 slots splits in two, and nothing else moves. It does not own what the
//! pointers lead to, and asks its caller for the hash of a record when it splits.
//!
//! ```text
//! hash:  | directory index (global depth) ... position, 48 bits | tag, 16 bits |
//! segment: 64 displacement bytes | header | 1..=64 buckets of 8 slots, a cache line each
//! slot:  | tag, 16 bits, lowest bit set | pointer, 48 bits |   0 is an empty slot
//! ```
//!
//! Invariants:
//! - Segments stand in the directory in the order of the hash positions they hold; a segment
//!   of local depth d fills 2^(global - d) neighbouring places.
//! - All segments have the same number of buckets; it is below 64 only while there is one.
//! - An entry lies in its home bucket or, going round, no further after it than the displacement
//!   byte of its home bucket says. Insertion looks at `WINDOW` buckets before it splits.
//! - SCAN's cursor is a position in hash order, so splits and merges between two calls
//!   neither lose nor repeat an entry.

use std::alloc::{alloc_zeroed, dealloc, handle_alloc_error, Layout};
use std::ptr::NonNull;
use std::sync::OnceLock;

const SLOTS: usize = 8;
const BUCKET_BITS_MAX: u32 = 6;
const BUCKETS_MAX: usize = 1 << BUCKET_BITS_MAX;
/// How many buckets, from its home on, a new entry may lie in.
const WINDOW: usize = 4;
const POINTER_MASK: u64 = (1 << 48) - 1;
/// The part of a hash that orders entries, and that SCAN's cursor counts in.
const POSITION_BITS: u32 = 48;
const DEPTH_MAX: u32 = 40;

static HASH_STATE: OnceLock<ahash::RandomState> = OnceLock::new();

/// The keyed hash of every table. The key is drawn once per process, so that nobody outside
/// can choose keys that collide.
#[inline]
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    HASH_STATE
        .get_or_init(ahash::RandomState::new)
        .hash_one(bytes)
}

/// Fixes the hash key, so that a simulation repeats itself. Has no effect once a hash was taken.
pub fn set_hash_seed(seed: u64) {
    let _ = HASH_STATE.set(ahash::RandomState::with_seeds(
        seed,
        !seed,
        seed ^ 0x5bd1_e995,
        7,
    ));
}

#[inline]
fn tag_of(hash: u64) -> u64 {
    (hash & 0xffff) | 1
}

#[inline]
fn pack(hash: u64, ptr: NonNull<u8>) -> u64 {
    let address = ptr.as_ptr().expose_provenance() as u64;
    debug_assert_eq!(address & !POINTER_MASK, 0);
    (tag_of(hash) << 48) | address
}

#[inline]
fn unpack(slot: u64) -> NonNull<u8> {
    let address = (slot & POINTER_MASK) as usize;
    NonNull::new(std::ptr::with_exposed_provenance_mut(address))
        .expect("an occupied slot holds a pointer")
}

#[inline]
fn position(hash: u64) -> u64 {
    hash >> (64 - POSITION_BITS)
}

#[repr(C, align(64))]
struct Segment {
    /// For each home bucket, how many buckets further an entry of it may lie.
    displacement: [u8; BUCKETS_MAX],
    depth: u32,
    bucket_bits: u32,
    len: u32,
}

type Bucket = [u64; SLOTS];

/// A segment's address. Segments are owned by the table whose directory names them.
#[derive(Clone, Copy, PartialEq, Eq)]
struct SegmentPtr(NonNull<Segment>);

impl SegmentPtr {
    fn layout(bucket_bits: u32) -> Layout {
        let bytes = size_of::<Segment>() + (size_of::<Bucket>() << bucket_bits);
        Layout::from_size_align(bytes, 64).expect("a segment's size is a small constant")
    }

    fn allocate(depth: u32, bucket_bits: u32) -> SegmentPtr {
        let layout = Self::layout(bucket_bits);
        // SAFETY: the layout's size is not zero.
        let raw = unsafe { alloc_zeroed(layout) }.cast::<Segment>();
        let Some(segment) = NonNull::new(raw) else {
            handle_alloc_error(layout)
        };
        let mut this = SegmentPtr(segment);
        let header = this.header_mut();
        header.depth = depth;
        header.bucket_bits = bucket_bits;
        this
    }

    fn free(self) {
        let layout = Self::layout(self.header().bucket_bits);
        // SAFETY: the segment was allocated by `allocate` with this very layout, and the caller
        // has taken it out of the directory.
        unsafe { dealloc(self.0.as_ptr().cast(), layout) }
    }

    #[inline]
    fn header(&self) -> &Segment {
        // SAFETY: a SegmentPtr in use points to a live segment; the table's own borrow rules
        // keep writers out while this reference lives.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    fn header_mut(&mut self) -> &mut Segment {
        // SAFETY: as for `header`, and the table is borrowed exclusively by whoever mutates.
        unsafe { self.0.as_mut() }
    }

    #[inline]
    fn bucket_ptr(self, bucket: usize) -> *mut Bucket {
        // SAFETY: `bucket` is below the segment's bucket count, so the address lies within the
        // allocation that `allocate` made.
        unsafe { self.0.as_ptr().add(1).cast::<Bucket>().add(bucket) }
    }

    #[inline]
    fn bucket(&self, bucket: usize) -> &Bucket {
        debug_assert!(bucket < 1 << self.header().bucket_bits);
        // SAFETY: within the allocation (above), zeroed at allocation, and not written while
        // the table is borrowed shared.
        unsafe { &*self.bucket_ptr(bucket) }
    }

    #[inline]
    fn bucket_mut(&mut self, bucket: usize) -> &mut Bucket {
        debug_assert!(bucket < 1 << self.header().bucket_bits);
        // SAFETY: as for `bucket`, with the table borrowed exclusively.
        unsafe { &mut *self.bucket_ptr(bucket) }
    }

    fn buckets(&self) -> usize {
        1 << self.header().bucket_bits
    }

    /// Puts an entry into the first free slot of the `window` buckets from its home on. False
    /// when they are full.
    fn place(&mut self, hash: u64, slot: u64, window: usize) -> bool {
        let buckets = self.buckets();
        let home = home_bucket(hash, buckets);
        for step in 0..window.min(buckets) {
            let bucket = (home + step) & (buckets - 1);
            if let Some(index) = self.bucket(bucket).iter().position(|&s| s == 0) {
                self.bucket_mut(bucket)[index] = slot;
                let header = self.header_mut();
                header.displacement[home] = header.displacement[home].max(step as u8);
                header.len += 1;
                return true;
            }
        }
        false
    }
}

#[inline]
fn home_bucket(hash: u64, buckets: usize) -> usize {
    (hash >> 16) as usize & (buckets - 1)
}

/// Where an entry lies; valid until the table changes.
#[derive(Clone, Copy)]
pub struct Slot {
    segment: SegmentPtr,
    bucket: u32,
    index: u32,
}

/// A set of pointers found by hash and a caller's comparison. See the module's head.
pub struct PtrTable {
    directory: Vec<SegmentPtr>,
    global_depth: u32,
    bucket_bits: u32,
    len: usize,
}

// SAFETY: the table owns its segments and hands out plain pointers; whether their targets may
// cross threads is its owner's obligation, stated by the owner's own Send.
unsafe impl Send for PtrTable {}
// SAFETY: `&PtrTable` gives read access only, and there is no interior mutability.
unsafe impl Sync for PtrTable {}

impl Default for PtrTable {
    fn default() -> Self {
        Self::new()
    }
}

impl PtrTable {
    /// An empty table, which allocates nothing.
    pub const fn new() -> Self {
        PtrTable {
            directory: Vec::new(),
            global_depth: 0,
            bucket_bits: 0,
            len: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the table itself, without what its pointers lead to.
    pub fn memory_bytes(&self) -> usize {
        let segments: usize = self
            .segments()
            .map(|s| SegmentPtr::layout(s.header().bucket_bits).size())
            .sum();
        segments + self.directory.capacity() * size_of::<SegmentPtr>()
    }

    #[inline]
    fn directory_index(&self, hash: u64) -> usize {
        if self.global_depth == 0 {
            0
        } else {
            (hash >> (64 - self.global_depth)) as usize
        }
    }

    #[inline]
    fn segment_of(&self, hash: u64) -> Option<SegmentPtr> {
        self.directory.get(self.directory_index(hash)).copied()
    }

    /// Asks the processor for the home bucket of `hash`; a hint, with no other effect.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        if let Some(segment) = self.segment_of(hash) {
            prefetch_line(
                segment
                    .bucket_ptr(home_bucket(hash, 1 << self.bucket_bits))
                    .cast(),
            );
        }
    }

    /// Asks the processor for the records whose tags match in the home bucket of `hash`.
    #[inline]
    pub fn prefetch_records(&self, hash: u64) {
        if let Some(segment) = self.segment_of(hash) {
            let tag = tag_of(hash);
            for &slot in segment.bucket(home_bucket(hash, 1 << self.bucket_bits)) {
                if slot >> 48 == tag {
                    prefetch_line(std::ptr::with_exposed_provenance(
                        (slot & POINTER_MASK) as usize,
                    ));
                }
            }
        }
    }

    /// The record with this hash for which `eq` holds.
    #[inline]
    pub fn find(&self, hash: u64, eq: impl FnMut(NonNull<u8>) -> bool) -> Option<NonNull<u8>> {
        self.find_slot(hash, eq).map(|slot| self.get(slot))
    }

    /// Where the record with this hash lies for which `eq` holds.
    #[inline]
    pub fn find_slot(&self, hash: u64, mut eq: impl FnMut(NonNull<u8>) -> bool) -> Option<Slot> {
        let segment = self.segment_of(hash)?;
        let tag = tag_of(hash);
        let buckets = 1usize << self.bucket_bits;
        let home = home_bucket(hash, buckets);
        let mut step = 0;
        loop {
            let bucket = (home + step) & (buckets - 1);
            for (index, &slot) in segment.bucket(bucket).iter().enumerate() {
                if slot >> 48 == tag && eq(unpack(slot)) {
                    return Some(Slot {
                        segment,
                        bucket: bucket as u32,
                        index: index as u32,
                    });
                }
            }
            if step >= usize::from(segment.header().displacement[home]) {
                return None;
            }
            step += 1;
        }
    }

    #[inline]
    pub fn get(&self, slot: Slot) -> NonNull<u8> {
        unpack(slot.segment.bucket(slot.bucket as usize)[slot.index as usize])
    }

    /// Makes an occupied slot point to another record of the same hash.
    #[inline]
    pub fn set(&mut self, mut slot: Slot, hash: u64, ptr: NonNull<u8>) {
        slot.segment.bucket_mut(slot.bucket as usize)[slot.index as usize] = pack(hash, ptr);
    }

    /// Replaces `old` by `new`, both of this hash. False when `old` is not in the table.
    pub fn replace(&mut self, hash: u64, old: NonNull<u8>, new: NonNull<u8>) -> bool {
        let Some(slot) = self.find_slot(hash, |p| p == old) else {
            return false;
        };
        self.set(slot, hash, new);
        true
    }

    /// Adds a record that the caller knows to be absent.
    pub fn insert(&mut self, hash: u64, ptr: NonNull<u8>, hash_of: impl Fn(NonNull<u8>) -> u64) {
        if self.directory.is_empty() {
            self.directory.push(SegmentPtr::allocate(0, 0));
            self.global_depth = 0;
            self.bucket_bits = 0;
        }
        let slot = pack(hash, ptr);
        loop {
            let index = self.directory_index(hash);
            if self.directory[index].place(hash, slot, WINDOW) {
                self.len += 1;
                return;
            }
            if self.bucket_bits < BUCKET_BITS_MAX {
                self.resize_only_segment(self.bucket_bits + 1, &hash_of);
            } else {
                self.split(index, &hash_of);
            }
        }
    }

    /// Takes out the record with this hash for which `eq` holds.
    pub fn remove(
        &mut self,
        hash: u64,
        eq: impl FnMut(NonNull<u8>) -> bool,
        hash_of: impl Fn(NonNull<u8>) -> u64,
    ) -> Option<NonNull<u8>> {
        let slot = self.find_slot(hash, eq)?;
        let ptr = self.get(slot);
        self.remove_slot(slot, hash, hash_of);
        Some(ptr)
    }

    /// Takes out the record at `slot`, whose hash is `hash`.
    pub fn remove_slot(&mut self, mut slot: Slot, hash: u64, hash_of: impl Fn(NonNull<u8>) -> u64) {
        slot.segment.bucket_mut(slot.bucket as usize)[slot.index as usize] = 0;
        slot.segment.header_mut().len -= 1;
        self.len -= 1;
        self.shrink(hash, hash_of);
    }

    fn shrink(&mut self, hash: u64, hash_of: impl Fn(NonNull<u8>) -> u64) {
        if self.len == 0 {
            self.clear();
            return;
        }
        if self.global_depth == 0 {
            if self.bucket_bits > 0 && self.len * 8 <= SLOTS << self.bucket_bits {
                self.resize_only_segment(self.bucket_bits - 1, &hash_of);
            }
            return;
        }
        self.merge(self.directory_index(hash), &hash_of);
    }

    /// Rebuilds the one segment with another number of buckets.
    fn resize_only_segment(&mut self, bucket_bits: u32, hash_of: &impl Fn(NonNull<u8>) -> u64) {
        let old = self.directory[0];
        self.directory[0] = rebuilt(segment_slots(old), 0, bucket_bits, hash_of);
        self.bucket_bits = bucket_bits;
        old.free();
    }

    /// Splits the segment at `index` of the directory by the next bit of its hashes. Entries
    /// keep their bucket and slot, so both halves fit by construction.
    fn split(&mut self, mut index: usize, hash_of: &impl Fn(NonNull<u8>) -> u64) {
        let mut low = self.directory[index];
        let depth = low.header().depth;
        assert!(
            depth < DEPTH_MAX,
            "a keyed hash does not send 512 entries to one position"
        );
        if depth == self.global_depth {
            self.directory = self.directory.iter().flat_map(|&s| [s, s]).collect();
            self.global_depth += 1;
            index *= 2;
        }
        let mut high = SegmentPtr::allocate(depth + 1, BUCKET_BITS_MAX);
        low.header_mut().depth = depth + 1;
        low.header_mut().displacement = [0; BUCKETS_MAX];
        let bit = 63 - depth;
        for bucket in 0..BUCKETS_MAX {
            for &slot in low.bucket(bucket).iter().filter(|&&s| s != 0) {
                prefetch_line(unpack(slot).as_ptr());
            }
        }
        for bucket in 0..BUCKETS_MAX {
            for index in 0..SLOTS {
                let slot = low.bucket(bucket)[index];
                if slot == 0 {
                    continue;
                }
                let hash = hash_of(unpack(slot));
                let home = home_bucket(hash, BUCKETS_MAX);
                let step = (bucket.wrapping_sub(home) & (BUCKETS_MAX - 1)) as u8;
                let side = if hash >> bit & 1 == 1 {
                    high.bucket_mut(bucket)[index] = slot;
                    low.bucket_mut(bucket)[index] = 0;
                    high.header_mut().len += 1;
                    low.header_mut().len -= 1;
                    high.header_mut()
                } else {
                    low.header_mut()
                };
                side.displacement[home] = side.displacement[home].max(step);
            }
        }
        let (first, places) = self.places(index, depth);
        self.directory[first + places / 2..first + places].fill(high);
    }

    /// The directory places of the segment of `depth` that `index` lies in: first and count.
    fn places(&self, index: usize, depth: u32) -> (usize, usize) {
        let places = 1usize << (self.global_depth - depth);
        (index & !(places - 1), places)
    }

    /// Joins the segment at `index` with its buddy when both together would be sparse.
    fn merge(&mut self, index: usize, hash_of: &impl Fn(NonNull<u8>) -> u64) {
        const SPARSE: u32 = (SLOTS * BUCKETS_MAX) as u32 / 4;
        let one = self.directory[index];
        let depth = one.header().depth;
        if depth == 0 || one.header().len > SPARSE {
            return;
        }
        let (first, places) = self.places(index, depth);
        let other = self.directory[first ^ places];
        if other.header().depth != depth || one.header().len + other.header().len > SPARSE {
            return;
        }
        let slots = segment_slots(one).chain(segment_slots(other));
        let joined = rebuilt(slots, depth - 1, BUCKET_BITS_MAX, hash_of);
        let start = first & !(2 * places - 1);
        self.directory[start..start + 2 * places].fill(joined);
        one.free();
        other.free();
        self.halve_directory();
    }

    /// Halves the directory while no segment needs its last bit.
    fn halve_directory(&mut self) {
        while self.global_depth > 0
            && self
                .directory
                .chunks_exact(2)
                .all(|pair| pair[0] == pair[1])
        {
            self.directory = self.directory.iter().step_by(2).copied().collect();
            self.global_depth -= 1;
        }
    }

    /// Forgets all pointers.
    pub fn clear(&mut self) {
        let segments: Vec<SegmentPtr> = self.segments().collect();
        self.directory = Vec::new();
        self.global_depth = 0;
        self.bucket_bits = 0;
        self.len = 0;
        segments.into_iter().for_each(SegmentPtr::free);
    }

    fn segments(&self) -> impl Iterator<Item = SegmentPtr> + '_ {
        let mut index = 0;
        std::iter::from_fn(move || {
            let segment = *self.directory.get(index)?;
            index += 1 << (self.global_depth - segment.header().depth);
            Some(segment)
        })
    }

    /// All pointers, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = NonNull<u8>> + '_ {
        self.segments().flat_map(segment_slots).map(unpack)
    }

    /// One step of SCAN: calls `f` for about `count` records from `cursor` on and returns the
    /// next cursor, 0 at the end. Every record that stays in the table from the first call to
    /// the last is seen exactly once. Cursors are below 2^48.
    pub fn scan(
        &self,
        cursor: u64,
        count: usize,
        hash_of: impl Fn(NonNull<u8>) -> u64,
        mut f: impl FnMut(NonNull<u8>),
    ) -> u64 {
        let mut cursor = cursor;
        let mut seen = 0;
        let mut found: Vec<(u64, NonNull<u8>)> = Vec::new();
        while cursor >> POSITION_BITS == 0 && !self.directory.is_empty() {
            let index = self.directory_index(cursor << (64 - POSITION_BITS));
            let segment = self.directory[index];
            found.clear();
            // To hash its records is most of a segment's cost, and most of that is waiting for them to come to the cache.
            segment_slots(segment).for_each(|s| prefetch_line(unpack(s).as_ptr()));
            found.extend(
                segment_slots(segment)
                    .map(|s| (position(hash_of(unpack(s))), unpack(s)))
                    .filter(|(p, _)| *p >= cursor),
            );
            let cut_behind = sort_first(&mut found, count.saturating_sub(seen));
            let mut last = None;
            for &(at, ptr) in &found {
                if seen >= count && last != Some(at) {
                    return at;
                }
                f(ptr);
                seen += 1;
                last = Some(at);
            }
            if let Some(at) = cut_behind {
                return at + 1;
            }
            let depth = segment.header().depth;
            let (first, places) = self.places(index, depth);
            cursor = ((first + places) as u64) << (POSITION_BITS - self.global_depth);
            if seen >= count && cursor >> POSITION_BITS == 0 {
                return cursor;
            }
        }
        0
    }

    /// A record chosen with equal chance among all.
    ///
    /// A segment of depth d is reached 2^(global - d) times as often as one at full depth, so
    /// its entries are accepted that many times less often.
    pub fn random(&self, mut next_u64: impl FnMut() -> u64) -> Option<NonNull<u8>> {
        if self.len == 0 {
            return None;
        }
        const TRIES: usize = 4096;
        for _ in 0..TRIES {
            let draw = next_u64();
            let index = self.directory_index(draw);
            let segment = self.directory[index];
            let place = index & ((1 << (self.global_depth - segment.header().depth)) - 1);
            let low = draw as usize;
            let slot = segment.bucket(low >> 3 & (segment.buckets() - 1))[low & (SLOTS - 1)];
            if slot != 0 && place == 0 {
                return Some(unpack(slot));
            }
        }
        // A table so sparse that drawing slots does not find an entry: walk from a random place.
        let start = self.directory_index(next_u64());
        (start..self.directory.len())
            .chain(0..start)
            .find_map(|i| segment_slots(self.directory[i]).next().map(unpack))
    }
}

/// A new segment of these entries, which are fewer than its slots. A rebuild may use any
/// bucket, so that it cannot fail; only insertion keeps to the window.
fn rebuilt(
    slots: impl Iterator<Item = u64>,
    depth: u32,
    bucket_bits: u32,
    hash_of: &impl Fn(NonNull<u8>) -> u64,
) -> SegmentPtr {
    let mut segment = SegmentPtr::allocate(depth, bucket_bits);
    for slot in slots {
        let placed = segment.place(hash_of(unpack(slot)), slot, BUCKETS_MAX);
        assert!(placed, "a rebuilt segment has more slots than entries");
    }
    segment
}

/// Orders by position at least one more than are wanted. Those behind may be left out, but none that shares its position
/// with one that is not: returns the last position then.
fn sort_first(found: &mut Vec<(u64, NonNull<u8>)>, wanted: usize) -> Option<u64> {
    /// Below so many, sorting all is as cheap as finding those that are wanted.
    const FEW: usize = 32;
    let (mut cut_behind, all) = (None, found.len());
    if found.len() > FEW && wanted < found.len() / 2 {
        let (_, (bound, _), _) = found.select_nth_unstable_by_key(wanted, |(p, _)| *p);
        let bound = *bound;
        found.retain(|(p, _)| *p <= bound);
        cut_behind = (found.len() < all).then_some(bound);
    }
    found.sort_unstable_by_key(|(p, _)| *p);
    cut_behind
}

fn segment_slots(segment: SegmentPtr) -> impl Iterator<Item = u64> {
    let buckets = segment.buckets();
    (0..buckets * SLOTS)
        .map(move |i| segment.bucket(i / SLOTS)[i % SLOTS])
        .filter(|&slot| slot != 0)
}

#[inline]
fn prefetch_line(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing architecturally; any address is allowed.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

impl Drop for PtrTable {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    fn next(state: &mut u64) -> u64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Records are boxed u64s whose hash is a mix of the number.
    fn hash_number(n: u64) -> u64 {
        next(&mut { n })
    }

    fn number(ptr: NonNull<u8>) -> u64 {
        // SAFETY: every pointer in these tests comes from `record` and is alive.
        unsafe { *ptr.cast::<u64>().as_ref() }
    }

    fn record(n: u64) -> NonNull<u8> {
        NonNull::from(Box::leak(Box::new(n))).cast()
    }

    fn free(ptr: NonNull<u8>) {
        // SAFETY: made by `record`, removed from the table by the caller.
        drop(unsafe { Box::from_raw(ptr.cast::<u64>().as_ptr()) });
    }

    fn hash_of(ptr: NonNull<u8>) -> u64 {
        hash_number(number(ptr))
    }

    fn insert(table: &mut PtrTable, n: u64) {
        table.insert(hash_number(n), record(n), hash_of);
    }

    fn remove(table: &mut PtrTable, n: u64) -> bool {
        let found = table.remove(hash_number(n), |p| number(p) == n, hash_of);
        found.map(free).is_some()
    }

    fn contains(table: &PtrTable, n: u64) -> bool {
        table.find(hash_number(n), |p| number(p) == n).is_some()
    }

    fn free_all(table: &mut PtrTable) {
        let all: Vec<_> = table.iter().collect();
        table.clear();
        all.into_iter().for_each(free);
    }

    #[test]
    fn agrees_with_a_set_through_growth_and_shrinking() {
        let mut table = PtrTable::new();
        let mut model = HashSet::new();
        let mut state = 42;
        for round in 0..6 {
            for _ in 0..40_000 {
                let n = next(&mut state) % 50_000;
                let add = next(&mut state) % 100 < if round % 2 == 0 { 80 } else { 15 };
                if add && model.insert(n) {
                    insert(&mut table, n);
                } else if !add {
                    assert_eq!(remove(&mut table, n), model.remove(&n));
                }
                assert_eq!(table.len(), model.len());
            }
            for n in 0..50_000 {
                assert_eq!(contains(&table, n), model.contains(&n), "number {n}");
            }
            assert_eq!(table.iter().map(number).collect::<HashSet<_>>(), model);
        }
        for n in model {
            assert!(remove(&mut table, n));
        }
        assert_eq!(table.memory_bytes(), 0);
    }

    #[test]
    fn scan_sees_every_lasting_entry_once_while_the_table_grows_and_shrinks() {
        let mut table = PtrTable::new();
        for n in 0..10_000 {
            insert(&mut table, n);
        }
        let (mut seen, mut cursor, mut extra) = (HashMap::<u64, u32>::new(), 0, 10_000);
        let mut step = 0;
        loop {
            cursor = table.scan(cursor, 10, hash_of, |p| {
                *seen.entry(number(p)).or_default() += 1
            });
            if cursor == 0 {
                break;
            }
            step += 1;
            for _ in 0..50 {
                if step < 500 {
                    insert(&mut table, extra);
                    extra += 1;
                } else if extra > 10_000 {
                    extra -= 1;
                    remove(&mut table, extra);
                }
            }
        }
        assert!((0..10_000).all(|n| seen.get(&n) == Some(&1)));
        free_all(&mut table);
    }

    #[test]
    fn scan_returns_about_count_records_a_call() {
        let mut table = PtrTable::new();
        for n in 0..5_000 {
            insert(&mut table, n);
        }
        let (mut cursor, mut calls) = (0, 0);
        loop {
            let mut got = 0;
            cursor = table.scan(cursor, 100, hash_of, |_| got += 1);
            calls += 1;
            assert!(got <= 101 && (got >= 100 || cursor == 0), "{got} records");
            if cursor == 0 {
                break;
            }
        }
        assert_eq!(calls, 50);
        free_all(&mut table);
    }

    #[test]
    fn random_choice_is_even() {
        let mut table = PtrTable::new();
        for n in 0..1_500 {
            insert(&mut table, n);
        }
        let (mut counts, mut state) = (vec![0u32; 1_500], 7);
        for _ in 0..300_000 {
            let ptr = table
                .random(|| next(&mut state))
                .expect("the table is not empty");
            counts[number(ptr) as usize] += 1;
        }
        assert!(
            counts.iter().all(|&c| (120..290).contains(&c)),
            "expected about 200 of each: {counts:?}"
        );
        free_all(&mut table);
    }

    #[test]
    fn a_full_table_uses_little_more_than_its_pointers() {
        let mut table = PtrTable::new();
        for n in 0..200_000 {
            insert(&mut table, n);
        }
        let bytes = table.memory_bytes() / table.len();
        assert!(bytes <= 16, "{bytes} bytes an entry");
        free_all(&mut table);
    }

    #[test]
    fn replace_and_slots_address_the_same_entry() {
        let mut table = PtrTable::new();
        insert(&mut table, 5);
        let old = table
            .find(hash_number(5), |p| number(p) == 5)
            .expect("inserted");
        let new = record(5);
        assert!(table.replace(hash_number(5), old, new));
        assert!(!table.replace(hash_number(5), old, new));
        free(old);
        let slot = table
            .find_slot(hash_number(5), |p| p == new)
            .expect("replaced");
        assert_eq!(table.get(slot), new);
        table.remove_slot(slot, hash_number(5), hash_of);
        free(new);
        assert!(table.is_empty());
    }
}
