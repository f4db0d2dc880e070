//! Intset: a sorted array of distinct integers in one allocation, byte for byte as Redis stores it.
//!
//! ```text
//! width of an integer (2, 4 or 8), u32 LE | count, u32 LE | integers, ascending, LE
//! ```
//!
//! The width is the smallest that every value ever inserted fits in; it never shrinks.

use crate::FormatError;

const HEADER: usize = 8;

/// See the module's head.
#[derive(Clone, PartialEq, Eq)]
pub struct IntSet {
    bytes: Vec<u8>,
}

fn width_for(value: i64) -> usize {
    if i16::try_from(value).is_ok() {
        2
    } else if i32::try_from(value).is_ok() {
        4
    } else {
        8
    }
}

#[inline]
fn read(bytes: &[u8], width: usize, index: usize) -> i64 {
    let at = HEADER + index * width;
    match width {
        2 => i64::from(i16::from_le_bytes([bytes[at], bytes[at + 1]])),
        4 => i64::from(i32::from_le_bytes([
            bytes[at],
            bytes[at + 1],
            bytes[at + 2],
            bytes[at + 3],
        ])),
        _ => {
            let mut le = [0; 8];
            le.copy_from_slice(&bytes[at..at + 8]);
            i64::from_le_bytes(le)
        }
    }
}

impl IntSet {
    pub fn new() -> IntSet {
        IntSet {
            bytes: vec![2, 0, 0, 0, 0, 0, 0, 0],
        }
    }

    /// Takes a blob from a file after checking width, count and order.
    pub fn from_bytes_checked(bytes: Vec<u8>) -> Result<IntSet, FormatError> {
        if bytes.len() < HEADER {
            return Err(FormatError::new("intset shorter than its header"));
        }
        let set = IntSet { bytes };
        let stated_width =
            u32::from_le_bytes([set.bytes[0], set.bytes[1], set.bytes[2], set.bytes[3]]);
        if !matches!(stated_width, 2 | 4 | 8) {
            return Err(FormatError::new("intset integer width is not 2, 4 or 8"));
        }
        if (set.bytes.len() - HEADER) as u64 != set.len() as u64 * u64::from(stated_width) {
            return Err(FormatError::new("intset length differs from its header"));
        }
        if !set.iter().zip(set.iter().skip(1)).all(|(a, b)| a < b) {
            return Err(FormatError::new("intset out of order"));
        }
        Ok(set)
    }

    /// The blob as Redis stores it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes allocated.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    #[inline]
    fn width(&self) -> usize {
        usize::from(self.bytes[0])
    }

    #[inline]
    pub fn len(&self) -> usize {
        u32::from_le_bytes([self.bytes[4], self.bytes[5], self.bytes[6], self.bytes[7]]) as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value with this rank.
    pub fn get(&self, index: usize) -> Option<i64> {
        (index < self.len()).then(|| read(&self.bytes, self.width(), index))
    }

    /// Rank of `value`, or where it would be inserted.
    fn search(&self, value: i64) -> Result<usize, usize> {
        let width = self.width();
        let (mut low, mut high) = (0, self.len());
        // Ascending insertion is common: look at the end first.
        if high > 0 && read(&self.bytes, width, high - 1) < value {
            return Err(high);
        }
        while low < high {
            let middle = (low + high) / 2;
            match read(&self.bytes, width, middle).cmp(&value) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    pub fn contains(&self, value: i64) -> bool {
        width_for(value) <= self.width() && self.search(value).is_ok()
    }

    /// True when it was absent.
    pub fn insert(&mut self, value: i64) -> bool {
        let Err(index) = self.search(value) else {
            return false;
        };
        self.widen(width_for(value));
        let (width, len) = (self.width(), self.len());
        if self.bytes.len() + width > self.bytes.capacity() {
            let slack = (self.bytes.len() / 8).max(width);
            self.bytes.reserve_exact(slack.next_multiple_of(16));
        }
        let at = HEADER + index * width;
        let old_end = self.bytes.len();
        self.bytes.resize(old_end + width, 0);
        self.bytes.copy_within(at..old_end, at + width);
        self.bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
        self.set_len(len + 1);
        true
    }

    /// True when it was present.
    pub fn remove(&mut self, value: i64) -> bool {
        let Ok(index) = self.search(value) else {
            return false;
        };
        let (width, len) = (self.width(), self.len());
        let at = HEADER + index * width;
        self.bytes.drain(at..at + width);
        self.set_len(len - 1);
        true
    }

    /// Ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = i64> + ExactSizeIterator + Clone + '_ {
        let width = self.width();
        (0..self.len()).map(move |index| read(&self.bytes, width, index))
    }

    fn set_len(&mut self, len: usize) {
        let len =
            u32::try_from(len).expect("sets leave the intset encoding far below 2^32 members");
        self.bytes[4..8].copy_from_slice(&len.to_le_bytes());
    }

    fn widen(&mut self, width: usize) {
        if width <= self.width() {
            return;
        }
        let mut bytes = Vec::with_capacity(HEADER + (self.len() + 1) * width);
        bytes.extend_from_slice(&(width as u32).to_le_bytes());
        bytes.extend_from_slice(&self.bytes[4..HEADER]);
        for value in self.iter() {
            bytes.extend_from_slice(&value.to_le_bytes()[..width]);
        }
        self.bytes = bytes;
    }
}

impl Default for IntSet {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for IntSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;
    use std::collections::BTreeSet;

    #[test]
    fn the_blob_is_that_of_redis() {
        let mut set = IntSet::new();
        assert_eq!(set.as_bytes(), b"\x02\0\0\0\0\0\0\0");
        assert!(set.insert(5) && set.insert(-1) && !set.insert(5));
        assert_eq!(set.as_bytes(), b"\x02\0\0\0\x02\0\0\0\xFF\xFF\x05\0");
        assert!(set.insert(70_000));
        assert_eq!(
            set.as_bytes(),
            b"\x04\0\0\0\x03\0\0\0\xFF\xFF\xFF\xFF\x05\0\0\0\x70\x11\x01\0"
        );
        assert!(set.remove(70_000) && !set.remove(70_000) && !set.remove(i64::MIN));
        assert_eq!(
            set.as_bytes(),
            b"\x04\0\0\0\x02\0\0\0\xFF\xFF\xFF\xFF\x05\0\0\0"
        );
    }

    #[test]
    fn agrees_with_a_tree() {
        let mut rng = Rng::from_seed(1);
        let (mut set, mut model) = (IntSet::new(), BTreeSet::new());
        for step in 0..20_000 {
            let bits = [4, 8, 12, 30, 60][step / 4_000];
            let value = rng.next_u64() as i64 >> (63 - bits);
            match rng.below(3) {
                0 => assert_eq!(set.remove(value), model.remove(&value)),
                1 => assert_eq!(set.contains(value), model.contains(&value)),
                _ => assert_eq!(set.insert(value), model.insert(value)),
            }
        }
        assert!(set.iter().eq(model.iter().copied()));
        assert!(set.iter().rev().eq(model.iter().rev().copied()));
        assert_eq!(set.get(3), model.iter().nth(3).copied());
        assert_eq!(set.get(set.len()), None);
        assert_eq!(IntSet::from_bytes_checked(set.as_bytes().to_vec()), Ok(set));
    }

    #[test]
    fn malformed_blobs_are_refused() {
        for bad in [
            b"".as_slice(),
            b"\x02\0\0\0\0\0\0",
            b"\x03\0\0\0\0\0\0\0",
            b"\x02\x01\0\0\0\0\0\0",
            b"\x02\0\0\0\x01\0\0\0",
            b"\x02\0\0\0\x01\0\0\0\x01\0\x02\0",
            b"\x02\0\0\0\x02\0\0\0\x02\0\x01\0",
            b"\x02\0\0\0\x02\0\0\0\x01\0\x01\0",
            b"\x08\0\0\0\xFF\xFF\xFF\xFF\x01\0\x01\0",
        ] {
            assert!(IntSet::from_bytes_checked(bad.to_vec()).is_err(), "{bad:?}");
        }
    }
}
