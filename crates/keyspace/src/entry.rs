//! One key with its value and its expiry: a single heap record, pointed to by one word.
//!
//! ```text
//! | lengths u32 | bits u32 | expiry i64, if any | payload | key | inline value |
//! lengths: of the key; with an inline value, 20 bits for the key and 12 for the value
//! bits: kind (2) | has expiry (1) | raw encoding (1) | access clock (24)
//! payload by kind: integer i64 | inline: nothing | owned: pointer, length, capacity
//!                  | object: pointer to a boxed value
//! ```
//!
//! Records are allocated in steps of the allocator's size classes, so that a new value of
//! about the same length is written in place. Invariant: the size of the allocation is a
//! function of the record's own header, so it need not be stored.

use std::alloc::{alloc, dealloc, handle_alloc_error, Layout};
use std::marker::PhantomData;
use std::ptr::NonNull;

use datatypes::ptr_table::hash_bytes;
use datatypes::value::Value;

use crate::types::UnixMillis;

/// Strings up to here stand in the record itself; longer ones in a buffer of their own.
pub const INLINE_VALUE_BYTES_MAX: usize = (1 << (32 - INLINE_KEY_BITS)) - 1;
/// Keys longer than this have no inline value.
const INLINE_KEY_BYTES_MAX: usize = (1 << INLINE_KEY_BITS) - 1;
const INLINE_KEY_BITS: u32 = 20;

/// Redis's limit between the encodings embstr and raw.
const EMBSTR_BYTES_MAX: usize = 44;

const HEADER: usize = 8;
const KIND_MASK: u32 = 0b11;
const KIND_INT: u32 = 0;
const KIND_INLINE: u32 = 1;
const KIND_OWNED: u32 = 2;
const KIND_OBJECT: u32 = 3;
const HAS_EXPIRY: u32 = 1 << 2;
const RAW: u32 = 1 << 3;
const CLOCK_SHIFT: u32 = 8;

/// A string value: stored as a number when it is the canonical text of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StringRef<'a> {
    Int(i64),
    Bytes(&'a [u8]),
}

impl<'a> StringRef<'a> {
    /// The string's bytes; a number is written into `buf`.
    pub fn bytes<'b>(self, buf: &'b mut itoa::Buffer) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            StringRef::Int(n) => buf.format(n).as_bytes(),
            StringRef::Bytes(bytes) => bytes,
        }
    }

    /// The string's length in bytes.
    pub fn len(self) -> usize {
        self.bytes(&mut itoa::Buffer::new()).len()
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// What a key holds, to read.
#[derive(Clone, Copy)]
pub enum ValueRef<'a> {
    String(StringRef<'a>),
    Object(&'a Value),
}

/// A new value for a key.
pub enum NewValue<'a> {
    /// Copied into the record, as a number where it is one.
    Bytes(&'a [u8]),
    /// As `Bytes`, of a string that a command has changed in place: encoding raw.
    RawBytes(&'a [u8]),
    /// As `Bytes`, but kept as text even where it is a number, as INCRBYFLOAT's results are.
    Text(&'a [u8]),
    Int(i64),
    /// Taken over without a copy when it is long.
    Owned(Vec<u8>),
    Object(Box<Value>),
}

/// An entry as its table owns it. Dropping it frees key and value.
pub struct Entry(NonNull<u8>);

// SAFETY: an Entry owns its record, and everything in it (bytes, Box<Value>) is Send.
unsafe impl Send for Entry {}

/// An entry to read.
#[derive(Clone, Copy)]
pub struct EntryRef<'a>(NonNull<u8>, PhantomData<&'a Entry>);

/// The bytes a record takes: its logical size rounded up as the allocator would, so that
/// in-place overwrites find all the room there is.
fn allocation_bytes(logical: usize) -> usize {
    if logical <= 128 {
        return logical.next_multiple_of(16);
    }
    let step = (logical - 1).ilog2() - 2;
    logical.next_multiple_of(1 << step)
}

struct Shape {
    kind: u32,
    has_expiry: bool,
    key_len: usize,
    value_len: usize,
}

impl Shape {
    fn payload_at(&self) -> usize {
        HEADER + if self.has_expiry { 8 } else { 0 }
    }

    fn key_at(&self) -> usize {
        self.payload_at()
            + match self.kind {
                KIND_INLINE => 0,
                KIND_OWNED => 24,
                _ => 8,
            }
    }

    fn value_at(&self) -> usize {
        self.key_at() + self.key_len
    }

    /// The header's first word.
    fn lengths(&self) -> u32 {
        let key_len = u32::try_from(self.key_len).expect("the protocol bounds keys to 512 MB");
        if self.kind == KIND_INLINE {
            key_len | (self.value_len as u32) << INLINE_KEY_BITS
        } else {
            key_len
        }
    }

    fn layout(&self) -> Layout {
        let logical = self.value_at()
            + if self.kind == KIND_INLINE {
                self.value_len
            } else {
                0
            };
        Layout::from_size_align(allocation_bytes(logical), 8)
            .expect("keys and inline values are far below isize::MAX")
    }
}

/// `bytes` as the number it is the canonical text of.
fn canonical_int(bytes: &[u8]) -> Option<i64> {
    if bytes.len() > 20 {
        return None;
    }
    datatypes::number::parse_i64(bytes)
}

impl Entry {
    pub fn new(key: &[u8], value: NewValue<'_>, expire_at: Option<UnixMillis>) -> Entry {
        match value {
            NewValue::Int(n) => Self::with_int(key, n, expire_at),
            NewValue::Bytes(bytes) => match canonical_int(bytes) {
                Some(n) => Self::with_int(key, n, expire_at),
                None => Self::with_bytes(key, bytes, false, expire_at),
            },
            NewValue::RawBytes(bytes) => Self::with_bytes(key, bytes, true, expire_at),
            NewValue::Text(bytes) => Self::with_bytes(key, bytes, false, expire_at),
            NewValue::Owned(bytes) if bytes.len() > INLINE_VALUE_BYTES_MAX => {
                Self::with_owned(key, bytes, false, expire_at)
            }
            NewValue::Owned(bytes) => Self::new(key, NewValue::Bytes(&bytes), expire_at),
            NewValue::Object(value) => Self::with_object(key, value, expire_at),
        }
    }

    fn with_int(key: &[u8], n: i64, expire_at: Option<UnixMillis>) -> Entry {
        let entry = Self::allocate(key, KIND_INT, 0, expire_at);
        entry.write_payload(n);
        entry
    }

    fn with_bytes(key: &[u8], bytes: &[u8], raw: bool, expire_at: Option<UnixMillis>) -> Entry {
        if bytes.len() > INLINE_VALUE_BYTES_MAX || key.len() > INLINE_KEY_BYTES_MAX {
            return Self::with_owned(key, bytes.to_vec(), raw, expire_at);
        }
        let entry = Self::allocate(key, KIND_INLINE, bytes.len(), expire_at);
        let at = entry.as_ref().shape().value_at();
        // SAFETY: the record was allocated with room for the value behind the key, and a fresh
        // allocation does not overlap the caller's slice.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), entry.0.as_ptr().add(at), bytes.len())
        };
        if raw {
            entry.set_bits(entry.as_ref().bits() | RAW);
        }
        entry
    }

    fn with_owned(
        key: &[u8],
        mut bytes: Vec<u8>,
        raw: bool,
        expire_at: Option<UnixMillis>,
    ) -> Entry {
        if bytes.capacity() > bytes.len() + bytes.len() / 8 {
            bytes.shrink_to_fit();
        }
        let entry = Self::allocate(key, KIND_OWNED, 0, expire_at);
        entry.put_owned(bytes);
        if raw {
            entry.set_bits(entry.as_ref().bits() | RAW);
        }
        entry
    }

    fn with_object(key: &[u8], value: Box<Value>, expire_at: Option<UnixMillis>) -> Entry {
        let entry = Self::allocate(key, KIND_OBJECT, 0, expire_at);
        entry.write_payload(Box::into_raw(value));
        entry
    }

    /// A record with header, expiry and key written; payload and inline value are the caller's.
    fn allocate(key: &[u8], kind: u32, value_len: usize, expire_at: Option<UnixMillis>) -> Entry {
        let shape = Shape {
            kind,
            has_expiry: expire_at.is_some(),
            key_len: key.len(),
            value_len,
        };
        let layout = shape.layout();
        // SAFETY: the size is at least that of the header, so not zero.
        let Some(ptr) = NonNull::new(unsafe { alloc(layout) }) else {
            handle_alloc_error(layout)
        };
        let bits = kind | if shape.has_expiry { HAS_EXPIRY } else { 0 };
        // SAFETY: all four writes lie within the layout computed from the same shape, are
        // aligned (offsets 0, 4, 8), and the fresh allocation overlaps nothing.
        unsafe {
            ptr.cast::<u32>().write(shape.lengths());
            ptr.cast::<u32>().add(1).write(bits);
            if let Some(UnixMillis(ms)) = expire_at {
                ptr.add(HEADER).cast::<i64>().write(ms);
            }
            std::ptr::copy_nonoverlapping(
                key.as_ptr(),
                ptr.as_ptr().add(shape.key_at()),
                key.len(),
            );
        }
        Entry(ptr)
    }

    fn write_payload<T: Copy>(&self, payload: T) {
        let at = self.as_ref().payload_at();
        // SAFETY: the payload of this kind has room for a T (the constructors and accessors of
        // each kind agree on T), and it stands at a multiple of 8.
        unsafe { self.0.add(at).cast::<T>().write(payload) }
    }

    fn put_owned(&self, bytes: Vec<u8>) {
        let mut bytes = std::mem::ManuallyDrop::new(bytes);
        self.write_payload([bytes.as_mut_ptr() as usize, bytes.len(), bytes.capacity()]);
    }

    /// Takes the buffer out of an owned string, leaving an empty one behind.
    fn take_owned(&self) -> Vec<u8> {
        let [ptr, len, capacity] = self.as_ref().payload::<[usize; 3]>();
        self.put_owned(Vec::new());
        // SAFETY: the three words came from a Vec in `put_owned`, and the record no longer
        // holds them.
        unsafe { Vec::from_raw_parts(std::ptr::with_exposed_provenance_mut(ptr), len, capacity) }
    }

    fn set_bits(&self, bits: u32) {
        // SAFETY: the header's second word; this entry is its only user while it is changed.
        unsafe { self.0.cast::<u32>().add(1).write(bits) }
    }

    pub fn as_ref(&self) -> EntryRef<'_> {
        EntryRef(self.0, PhantomData)
    }

    pub fn into_raw(self) -> NonNull<u8> {
        let ptr = self.0;
        std::mem::forget(self);
        ptr
    }

    /// # Safety
    /// `ptr` must come from `into_raw` and be used for no other Entry.
    pub unsafe fn from_raw(ptr: NonNull<u8>) -> Entry {
        Entry(ptr)
    }

    /// The collection, to change.
    pub fn object_mut(&mut self) -> Option<&mut Value> {
        let entry = self.as_ref();
        if entry.kind() != KIND_OBJECT {
            return None;
        }
        // SAFETY: an object's payload is the pointer `with_object` got from its Box; the
        // exclusive borrow of the entry makes this the only reference.
        Some(unsafe { &mut *entry.payload::<*mut Value>() })
    }

    /// An owned (long) string's buffer, to change. Its encoding becomes raw, as it is already.
    pub fn change_owned<R>(&mut self, change: impl FnOnce(&mut Vec<u8>) -> R) -> Option<R> {
        if self.as_ref().kind() != KIND_OWNED {
            return None;
        }
        let mut bytes = self.take_owned();
        let result = change(&mut bytes);
        self.put_owned(bytes);
        Some(result)
    }

    /// Changes the expiry where the record has a place for it (or needs none).
    pub fn set_expiry_in_place(&mut self, expire_at: Option<UnixMillis>) -> bool {
        match (self.as_ref().has_expiry(), expire_at) {
            (true, Some(UnixMillis(ms))) => {
                // SAFETY: HAS_EXPIRY says that eight aligned bytes behind the header are the expiry.
                unsafe { self.0.add(HEADER).cast::<i64>().write(ms) };
                true
            }
            (false, None) => true,
            _ => false,
        }
    }

    /// Writes a new string value into the record, expiry untouched, when kind and allocation
    /// allow; else leaves it as it was and says no.
    pub fn overwrite(&mut self, value: &NewValue<'_>) -> bool {
        let shape = self.as_ref().shape();
        let (bytes, raw) = match value {
            NewValue::Int(n) if shape.kind == KIND_INT => {
                self.write_payload(*n);
                return true;
            }
            NewValue::Bytes(bytes) => match canonical_int(bytes) {
                Some(n) => return self.overwrite(&NewValue::Int(n)) && shape.kind == KIND_INT,
                None => (*bytes, false),
            },
            NewValue::RawBytes(bytes) => (*bytes, true),
            NewValue::Text(bytes) => (*bytes, false),
            _ => return false,
        };
        let new = Shape {
            value_len: bytes.len(),
            ..shape
        };
        if new.kind != KIND_INLINE
            || bytes.len() > INLINE_VALUE_BYTES_MAX
            || new.layout() != self.as_ref().shape().layout()
        {
            return false;
        }
        // SAFETY: the header's first word; this entry is its only user while it is changed.
        unsafe { self.0.cast::<u32>().write(new.lengths()) };
        // SAFETY: the layouts are the same, so the value's place lies within the allocation;
        // the caller's slice cannot borrow from this record, which is borrowed exclusively.
        unsafe {
            std::ptr::copy_nonoverlapping(
                bytes.as_ptr(),
                self.0.as_ptr().add(new.value_at()),
                bytes.len(),
            )
        };
        let bits = self.as_ref().bits() & !RAW;
        self.set_bits(bits | if raw { RAW } else { 0 });
        true
    }

    /// A record of the same value under another key or with another expiry; nothing of the
    /// value is copied but inline bytes.
    pub fn rebuilt(mut self, key: Option<&[u8]>, expire_at: Option<UnixMillis>) -> Entry {
        let old = self.as_ref();
        let key = key.unwrap_or(old.key());
        let new = match old.kind() {
            KIND_INT => Self::with_int(key, old.payload(), expire_at),
            KIND_INLINE => {
                Self::with_bytes(key, old.inline_bytes(), old.bits() & RAW != 0, expire_at)
            }
            KIND_OWNED => {
                let new = Self::allocate(key, KIND_OWNED, 0, expire_at);
                new.put_owned(self.take_owned());
                new
            }
            _ => {
                let new = Self::allocate(key, KIND_OBJECT, 0, expire_at);
                new.write_payload(old.payload::<*mut Value>());
                self.forget_object();
                new
            }
        };
        let old = self.as_ref();
        new.set_bits(new.as_ref().bits() | old.bits() & RAW | old.access_clock() << CLOCK_SHIFT);
        new
    }

    /// Turns the record into one whose payload owns nothing, after its object moved away.
    fn forget_object(&mut self) {
        self.write_payload(0i64);
        self.set_bits((self.as_ref().bits() & !KIND_MASK) | KIND_INT);
    }

    /// The value, taken out of the record.
    pub fn into_value(mut self) -> OwnedValue {
        let entry = self.as_ref();
        match entry.kind() {
            KIND_INT => OwnedValue::String(
                itoa::Buffer::new()
                    .format(entry.payload::<i64>())
                    .as_bytes()
                    .to_vec(),
            ),
            KIND_INLINE => OwnedValue::String(entry.inline_bytes().to_vec()),
            KIND_OWNED => OwnedValue::String(self.take_owned()),
            _ => {
                let object = entry.payload::<*mut Value>();
                self.forget_object();
                // SAFETY: the pointer came from Box::into_raw and the record has forgotten it.
                OwnedValue::Object(unsafe { Box::from_raw(object) })
            }
        }
    }

    pub fn set_access_clock(&mut self, clock: u32) {
        let bits = self.as_ref().bits() & ((1 << CLOCK_SHIFT) - 1);
        self.set_bits(bits | clock << CLOCK_SHIFT);
    }
}

/// A value without its key.
pub enum OwnedValue {
    String(Vec<u8>),
    Object(Box<Value>),
}

impl<'a> EntryRef<'a> {
    /// # Safety
    /// `ptr` must be the record of an entry that is alive, and not changed, for `'a`.
    #[inline]
    pub unsafe fn from_raw(ptr: NonNull<u8>) -> EntryRef<'a> {
        EntryRef(ptr, PhantomData)
    }

    #[inline]
    fn bits(self) -> u32 {
        // SAFETY: the header's second word, written at allocation.
        unsafe { self.0.cast::<u32>().add(1).read() }
    }

    #[inline]
    fn kind(self) -> u32 {
        self.bits() & KIND_MASK
    }

    #[inline]
    fn has_expiry(self) -> bool {
        self.bits() & HAS_EXPIRY != 0
    }

    #[inline]
    fn lengths(self) -> u32 {
        // SAFETY: the header's first word, written at allocation.
        unsafe { self.0.cast::<u32>().read() }
    }

    #[inline]
    fn key_len(self) -> usize {
        if self.kind() == KIND_INLINE {
            self.lengths() as usize & INLINE_KEY_BYTES_MAX
        } else {
            self.lengths() as usize
        }
    }

    /// Of an inline value.
    #[inline]
    fn value_len(self) -> usize {
        (self.lengths() >> INLINE_KEY_BITS) as usize
    }

    fn shape(self) -> Shape {
        let kind = self.kind();
        let value_len = if kind == KIND_INLINE {
            self.value_len()
        } else {
            0
        };
        Shape {
            kind,
            has_expiry: self.has_expiry(),
            key_len: self.key_len(),
            value_len,
        }
    }

    #[inline]
    fn payload_at(self) -> usize {
        HEADER + if self.has_expiry() { 8 } else { 0 }
    }

    #[inline]
    fn payload<T: Copy>(self) -> T {
        // SAFETY: callers ask for the type that this kind's constructor wrote there.
        unsafe { self.0.add(self.payload_at()).cast::<T>().read() }
    }

    /// Bytes of the record at `at`.
    #[inline]
    fn bytes_at(self, at: usize, len: usize) -> &'a [u8] {
        // SAFETY: key and inline value lie within the allocation and were written when it was
        // made; the record lives unchanged for 'a.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().add(at), len) }
    }

    #[inline]
    fn inline_bytes(self) -> &'a [u8] {
        self.bytes_at(self.payload_at() + self.key_len(), self.value_len())
    }

    #[inline]
    pub fn key(self) -> &'a [u8] {
        let payload = match self.kind() {
            KIND_INLINE => 0,
            KIND_OWNED => 24,
            _ => 8,
        };
        self.bytes_at(self.payload_at() + payload, self.key_len())
    }

    #[inline]
    pub fn expire_at(self) -> Option<UnixMillis> {
        if !self.has_expiry() {
            return None;
        }
        // SAFETY: HAS_EXPIRY says that eight aligned bytes behind the header are the expiry.
        Some(UnixMillis(unsafe {
            self.0.add(HEADER).cast::<i64>().read()
        }))
    }

    #[inline]
    pub fn is_expired(self, now: UnixMillis) -> bool {
        self.expire_at().is_some_and(|at| at <= now)
    }

    #[inline]
    pub fn value(self) -> ValueRef<'a> {
        match self.kind() {
            KIND_INT => ValueRef::String(StringRef::Int(self.payload())),
            KIND_INLINE => ValueRef::String(StringRef::Bytes(self.inline_bytes())),
            KIND_OWNED => {
                let [ptr, len, _] = self.payload::<[usize; 3]>();
                // SAFETY: pointer and length of the Vec the record owns, unchanged for 'a.
                ValueRef::String(StringRef::Bytes(unsafe {
                    std::slice::from_raw_parts(std::ptr::with_exposed_provenance(ptr), len)
                }))
            }
            // SAFETY: the pointer of a Box that the record owns, unchanged for 'a.
            _ => ValueRef::Object(unsafe { &*self.payload::<*const Value>() }),
        }
    }

    /// The earliest time that a field of the hash it holds expires.
    #[inline]
    pub fn next_field_expiry(self) -> Option<UnixMillis> {
        if self.kind() != KIND_OBJECT {
            return None;
        }
        match self.value() {
            ValueRef::Object(Value::Hash(hash)) => hash.next_expiry().map(UnixMillis),
            _ => None,
        }
    }

    /// The encoding's name, as OBJECT ENCODING has it.
    pub fn encoding_name(self) -> &'static str {
        match self.value() {
            ValueRef::String(StringRef::Int(_)) => "int",
            ValueRef::String(StringRef::Bytes(b))
                if b.len() <= EMBSTR_BYTES_MAX && self.bits() & RAW == 0 =>
            {
                "embstr"
            }
            ValueRef::String(StringRef::Bytes(_)) => "raw",
            ValueRef::Object(value) => value.encoding().name(),
        }
    }

    /// The access clock: 24 bits of seconds, for OBJECT IDLETIME and eviction.
    pub fn access_clock(self) -> u32 {
        self.bits() >> CLOCK_SHIFT
    }

    /// Bytes this entry takes: its record and what it owns; a collection is estimated from
    /// `samples` elements (0: all).
    pub fn memory_bytes(self, samples: usize) -> usize {
        let record = self.shape().layout().size();
        match self.value() {
            ValueRef::String(StringRef::Bytes(b)) if self.kind() == KIND_OWNED => record + b.len(),
            ValueRef::String(_) => record,
            ValueRef::Object(value) => {
                record + size_of::<Value>() + value.approximate_bytes(samples)
            }
        }
    }

    pub fn hash(self) -> u64 {
        hash_bytes(self.key())
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let layout = self.as_ref().shape().layout();
        match self.as_ref().kind() {
            KIND_OWNED => drop(self.take_owned()),
            // SAFETY: the pointer came from Box::into_raw, and the record goes away with it.
            KIND_OBJECT => drop(unsafe { Box::from_raw(self.as_ref().payload::<*mut Value>()) }),
            _ => {}
        }
        // SAFETY: allocated by `allocate` with the layout of the same shape: kind, expiry and
        // key never change, and `overwrite` keeps to lengths of the same layout. An object
        // forgotten by `forget_object` has the payload size, hence the layout, of an integer.
        unsafe { dealloc(self.0.as_ptr(), layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(entry: &Entry) -> Vec<u8> {
        match entry.as_ref().value() {
            ValueRef::String(s) => s.bytes(&mut itoa::Buffer::new()).to_vec(),
            ValueRef::Object(_) => panic!("a string was stored"),
        }
    }

    #[test]
    fn strings_of_all_lengths_and_expiries_are_kept() {
        for len in [0, 1, 7, 20, 44, 45, 100, 4095, 4096, 100_000] {
            for expire_at in [None, Some(UnixMillis(i64::MAX)), Some(UnixMillis(-5))] {
                let bytes = vec![b'x'; len];
                let entry = Entry::new(b"the key", NewValue::Bytes(&bytes), expire_at);
                assert_eq!(entry.as_ref().key(), b"the key");
                assert_eq!(entry.as_ref().expire_at(), expire_at);
                assert_eq!(string(&entry), bytes);
                let entry = entry.rebuilt(Some(b"another, longer key"), Some(UnixMillis(9)));
                assert_eq!(entry.as_ref().key(), b"another, longer key");
                assert_eq!(string(&entry), bytes);
                assert_eq!(entry.as_ref().expire_at(), Some(UnixMillis(9)));
            }
        }
    }

    #[test]
    fn keys_too_long_to_stand_beside_a_value_keep_it_elsewhere() {
        let long = vec![b'k'; INLINE_KEY_BYTES_MAX + 1];
        for value in [b"".as_slice(), b"short", &[b'v'; 5000]] {
            let entry = Entry::new(&long, NewValue::RawBytes(value), Some(UnixMillis(3)));
            assert_eq!(entry.as_ref().key(), long);
            assert_eq!(entry.as_ref().encoding_name(), "raw");
            let entry = entry.rebuilt(Some(b"k"), None);
            assert_eq!(
                (entry.as_ref().key(), string(&entry)),
                (b"k".as_slice(), value.to_vec())
            );
            assert_eq!(entry.as_ref().encoding_name(), "raw");
            let entry = entry.rebuilt(Some(&long), None);
            assert_eq!(
                (entry.as_ref().key(), string(&entry)),
                (long.as_slice(), value.to_vec())
            );
        }
    }

    #[test]
    fn canonical_numbers_are_stored_as_such() {
        let encoding = |bytes: &[u8]| {
            Entry::new(b"k", NewValue::Bytes(bytes), None)
                .as_ref()
                .encoding_name()
        };
        assert_eq!(encoding(b"-9223372036854775808"), "int");
        assert_eq!(encoding(b"9223372036854775808"), "embstr");
        assert_eq!(encoding(b"012"), "embstr");
        assert_eq!(encoding(&[b'a'; 44]), "embstr");
        assert_eq!(encoding(&[b'a'; 45]), "raw");
        let raw = Entry::new(b"k", NewValue::RawBytes(b"12"), None);
        assert_eq!(raw.as_ref().encoding_name(), "raw");
        let text = Entry::new(b"k", NewValue::Text(b"12"), None);
        assert_eq!(text.as_ref().encoding_name(), "embstr");
    }

    #[test]
    fn a_value_of_the_same_size_class_is_overwritten_in_place() {
        let mut entry = Entry::new(b"key", NewValue::Bytes(b"abcdef"), Some(UnixMillis(1)));
        let before = entry.as_ref().0;
        assert!(entry.overwrite(&NewValue::Bytes(b"ghijk")));
        assert_eq!(
            (string(&entry), entry.as_ref().0),
            (b"ghijk".to_vec(), before)
        );
        assert!(!entry.overwrite(&NewValue::Bytes(&[b'z'; 300])));
        assert!(
            !entry.overwrite(&NewValue::Bytes(b"12")),
            "a number has another payload"
        );
        assert_eq!(string(&entry), b"ghijk");
    }

    #[test]
    fn small_records_take_their_bytes_and_little_more() {
        let size = |value: usize| {
            Entry::new(&[b'k'; 16], NewValue::Bytes(&vec![b'v'; value]), None)
                .as_ref()
                .memory_bytes(5)
        };
        assert_eq!((size(8), size(100), size(400)), (32, 128, 448));
    }
}
