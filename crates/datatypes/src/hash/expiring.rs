//! A hash some of whose fields have a time to expire: a plain hash, and the times by field and in order.
//!
//! Invariant: every field in `times` is a field of `fields`. Times are milliseconds of which a double, the score of a
//! sorted set, holds every one that a client can set.

use super::Hash;
use crate::{Element, FormatError, IntBuffer, Limits, Listpack, SortedSet};

/// The largest time a field can have: 46 bits of milliseconds.
pub const FIELD_TIME_MAX: i64 = (1 << 46) - 1;

#[derive(Clone)]
pub(super) struct Expiring {
    /// Never expiring itself.
    pub(super) fields: Hash,
    times: SortedSet,
}

impl Expiring {
    pub(super) fn new(fields: Hash) -> Expiring {
        Expiring {
            fields,
            times: SortedSet::new(),
        }
    }

    pub(super) fn first_time(&self) -> Option<i64> {
        self.times.first().map(|(_, time)| time as i64)
    }

    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    pub(super) fn time_of(&self, field: &[u8]) -> Option<i64> {
        self.times.score(field).map(|time| time as i64)
    }

    /// Sets the time of a field that is there.
    pub(super) fn set_time(&mut self, field: &[u8], time: i64, limits: &Limits) {
        debug_assert!(self.fields.contains(field));
        self.times.insert(field, time as f64, limits);
    }

    pub(super) fn forget_time(&mut self, field: &[u8]) -> bool {
        !self.times.is_empty() && self.times.remove(field).is_some()
    }

    /// Removes up to `max` fields whose time is not after `now`, the earliest first.
    pub(super) fn take_due(&mut self, now: i64, max: usize) -> Vec<Vec<u8>> {
        let mut due = Vec::new();
        while due.len() < max && self.first_time().is_some_and(|time| time <= now) {
            let (field, _) = self.times.pop_min().expect("there is a first one");
            self.fields.remove(&field);
            due.push(field);
        }
        due
    }

    pub(super) fn approximate_bytes(&self, samples: usize) -> usize {
        size_of::<Expiring>()
            + self.fields.approximate_bytes(samples)
            + self.times.approximate_bytes(samples)
    }

    /// Field, value and time in turn, by time, as Redis keeps and stores a small one; those without time (0) are last.
    pub(super) fn to_listpack(&self) -> Listpack {
        let mut out = Listpack::new();
        let mut push = |field: Element<'_>, value: Element<'_>, time: i64| {
            out.push_back_element(field);
            out.push_back_element(value);
            out.push_back_int(time);
        };
        for (field, time) in self.times.iter() {
            let value = self.fields.get(field.as_bytes(&mut IntBuffer::new()));
            push(
                field,
                value.expect("every field with a time is there"),
                time as i64,
            );
        }
        for (field, value) in self.fields.iter() {
            if self
                .times
                .score(field.as_bytes(&mut IntBuffer::new()))
                .is_none()
            {
                push(field, value, 0);
            }
        }
        out
    }
}

impl Hash {
    /// How many fields have a time to expire.
    pub fn expiring_len(&self) -> usize {
        self.expiring().map_or(0, Expiring::len)
    }

    /// The earliest time that a field expires.
    #[inline]
    pub fn next_expiry(&self) -> Option<i64> {
        self.expiring().and_then(Expiring::first_time)
    }

    /// When a field expires.
    pub fn expiry_of(&self, field: &[u8]) -> Option<i64> {
        self.expiring().and_then(|expiring| expiring.time_of(field))
    }

    /// Makes room for times, as Redis does on the first command that might set one.
    pub fn prepare_expiry(&mut self) {
        self.become_expiring();
    }

    /// Makes a field expire at a time, up to [`FIELD_TIME_MAX`]. False if there is no such field.
    pub fn set_expiry(&mut self, field: &[u8], time: i64, limits: &Limits) -> bool {
        let there = self.contains(field);
        if there {
            self.become_expiring().set_time(field, time, limits);
        }
        there
    }

    /// Keeps a field from expiring. False if it did not expire, or is not there.
    pub fn persist(&mut self, field: &[u8]) -> bool {
        self.expiring_mut()
            .is_some_and(|expiring| expiring.forget_time(field))
    }

    /// Sets a field's value and leaves the time it expires as it is. True when the field is new.
    pub fn set_keeping_expiry(&mut self, field: &[u8], value: &[u8], limits: &Limits) -> bool {
        match self.expiring_mut() {
            Some(expiring) => expiring.fields.set(field, value, limits),
            None => self.set(field, value, limits),
        }
    }

    /// Removes up to `max` fields whose time is not after `now`, the earliest first.
    pub fn take_due(&mut self, now: i64, max: usize) -> Vec<Vec<u8>> {
        self.expiring_mut()
            .map(|expiring| expiring.take_due(now, max))
            .unwrap_or_default()
    }

    /// Fields, values and times as stored in one listpack, of a hash that is small enough for one and has a field that
    /// expires.
    pub fn to_listpack_with_expiries(&self) -> Option<Listpack> {
        let expiring = self.expiring().filter(|expiring| expiring.len() > 0)?;
        expiring.fields.as_listpack()?;
        Some(expiring.to_listpack())
    }

    /// From field, value and time in turn; a time of 0 is none. Times are in order, those without last, as every
    /// server stores them.
    pub fn from_listpack_with_expiries(
        blob: &Listpack,
        limits: &Limits,
    ) -> Result<Hash, FormatError> {
        if !blob.len().is_multiple_of(3) {
            return Err(FormatError::new(
                "hash listpack has a field without value or time",
            ));
        }
        let mut hash = Hash::new();
        hash.prepare(blob.len() / 3, limits);
        let mut elements = blob.iter();
        let (mut field_buffer, mut value_buffer) = (IntBuffer::new(), IntBuffer::new());
        while let (Some(field), Some(value), Some(time)) =
            (elements.next(), elements.next(), elements.next())
        {
            let time = time
                .as_int()
                .filter(|time| (0..=FIELD_TIME_MAX).contains(time));
            let time = time.ok_or(FormatError::new("hash listpack has a time that is none"))?;
            let field = field.as_bytes(&mut field_buffer);
            if !hash.set(field, value.as_bytes(&mut value_buffer), limits) {
                return Err(FormatError::new("hash listpack holds a field twice"));
            }
            if time > 0 {
                hash.set_expiry(field, time, limits);
            }
        }
        Ok(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Encoding, Rng};
    use std::collections::BTreeMap;

    type Model = BTreeMap<Vec<u8>, (Vec<u8>, Option<i64>)>;

    fn contents(hash: &Hash) -> Model {
        let pairs = hash
            .iter()
            .map(|(field, value)| (field.to_vec(), value.to_vec()));
        pairs
            .map(|(field, value)| {
                let time = hash.expiry_of(&field);
                (field, (value, time))
            })
            .collect()
    }

    #[test]
    fn agrees_with_a_map_of_values_and_times_in_every_encoding() {
        let small = Limits {
            hash_max_listpack_entries: 8,
            ..Limits::default()
        };
        for (limits, fields) in [
            (small, 40),
            (Limits::default(), 40),
            (Limits::default(), 400),
        ] {
            let (mut hash, mut model, mut rng) = (Hash::new(), Model::new(), Rng::from_seed(9));
            for now in 0..20_000_i64 {
                let field = format!("{}", rng.below(fields)).into_bytes();
                let time = now + 1 + rng.below(3000) as i64;
                match rng.below(12) {
                    0 => assert_eq!(hash.remove(&field), model.remove(&field).is_some()),
                    1..=3 => {
                        let value = format!("v{now}").into_bytes();
                        let new = hash.set(&field, &value, &limits);
                        assert_eq!(new, model.insert(field, (value, None)).is_none());
                    }
                    4 => {
                        hash.set_keeping_expiry(&field, b"kept", &limits);
                        model.entry(field).or_default().0 = b"kept".to_vec();
                    }
                    5..=8 => {
                        let set = hash.set_expiry(&field, time, &limits);
                        assert_eq!(
                            set,
                            model
                                .get_mut(&field)
                                .map(|entry| entry.1 = Some(time))
                                .is_some()
                        );
                    }
                    9 => {
                        let old = model.get_mut(&field).and_then(|entry| entry.1.take());
                        assert_eq!(hash.persist(&field), old.is_some());
                    }
                    _ => {
                        let first = model.values().filter_map(|entry| entry.1).min();
                        assert_eq!(hash.next_expiry(), first);
                        let due = hash.take_due(now, rng.below(5));
                        for field in due {
                            let time = model.remove(&field).and_then(|entry| entry.1);
                            assert!(time.is_some_and(|time| time <= now));
                        }
                    }
                }
                assert_eq!(hash.len(), model.len());
            }
            assert_eq!(contents(&hash), model);
            assert_eq!(
                hash.expiring_len(),
                model.values().filter(|entry| entry.1.is_some()).count()
            );
            assert_eq!(contents(&hash.clone()), model);
            let Some(blob) = hash.to_listpack_with_expiries() else {
                assert_eq!(hash.encoding(), Encoding::HashTable);
                continue;
            };
            assert_eq!(hash.encoding(), Encoding::ListpackEx);
            let times: Vec<i64> = blob
                .iter()
                .skip(2)
                .step_by(3)
                .filter_map(|time| time.as_int())
                .collect();
            let told: Vec<i64> = times.iter().copied().filter(|time| *time > 0).collect();
            assert!(told.is_sorted() && times[..told.len()] == told[..]);
            let back = Hash::from_listpack_with_expiries(&blob, &limits).expect("it was just made");
            assert_eq!(contents(&back), model);
        }
    }

    #[test]
    fn blobs_that_are_no_hash_are_refused() {
        let refused = |parts: &[&[u8]]| {
            let mut blob = Listpack::new();
            parts.iter().for_each(|part| blob.push_back(part));
            Hash::from_listpack_with_expiries(&blob, &Limits::default()).is_err()
        };
        assert!(!refused(&[b"f", b"v", b"5", b"g", b"v", b"0"]));
        assert!(refused(&[b"f", b"v"]));
        assert!(refused(&[b"f", b"v", b"soon"]));
        assert!(refused(&[b"f", b"v", b"-1"]));
        assert!(refused(&[b"f", b"v", b"70368744177664"]));
        assert!(refused(&[b"f", b"v", b"5", b"f", b"w", b"0"]));
    }
}
