//! Blobs that old RDB files hold and nothing writes any more: ziplists (lists, hashes, sorted sets before Redis 7)
//! and zipmaps (hashes before Redis 2.6). Both are checked as a whole when they are taken in, so that iteration
//! cannot fail.
//!
//! ```text
//! ziplist: bytes u32 LE | offset of the last entry u32 LE | count u16 LE (65535: unknown) | entry ... | 0xFF
//!   entry: length of the one before (1 byte, or 254 and u32 LE) | encoding | data
//!   00llllll string   01llllll llllllll string, BE   10...... u32 BE string
//!   0xC0 i16   0xD0 i32   0xE0 i64   0xF0 i24   0xFE i8, all LE   0xF1..=0xFD: 0..=12
//! zipmap: count (1 byte, 254: unknown) | key | value ... | 0xFF
//!   key: length (1 byte up to 253, or 254 and u32 LE) | bytes    value: length | slack (1 byte) | bytes | slack bytes
//! ```

use crate::{Element, FormatError};

const ZIPLIST_HEADER: usize = 10;
const END: u8 = 0xFF;

/// A checked ziplist.
pub struct Ziplist {
    bytes: Vec<u8>,
    count: usize,
}

/// `width` bytes at `at` as a little-endian signed integer.
fn read_int(bytes: &[u8], at: usize, width: usize) -> Option<i64> {
    let mut le = [0; 8];
    le[8 - width..].copy_from_slice(bytes.get(at..at + width)?);
    Some(i64::from_le_bytes(le) >> (64 - 8 * width as u32))
}

fn read_u32_le(bytes: &[u8], at: usize) -> Option<usize> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize)
}

fn slice(bytes: &[u8], at: usize, len: usize) -> Option<&[u8]> {
    bytes.get(at..at.checked_add(len)?)
}

/// A ziplist entry: the stated length of the one before, the element, and where the next one starts.
fn ziplist_entry(bytes: &[u8], at: usize) -> Option<(usize, Element<'_>, usize)> {
    let (previous_len, at) = match *bytes.get(at)? {
        254 => (read_u32_le(bytes, at + 1)?, at + 5),
        END => return None,
        len => (usize::from(len), at + 1),
    };
    let first = *bytes.get(at)?;
    let (text_at, text_len) = match first >> 6 {
        0 => (at + 1, usize::from(first & 0x3F)),
        1 => (
            at + 2,
            usize::from(first & 0x3F) << 8 | usize::from(*bytes.get(at + 1)?),
        ),
        2 => (
            at + 5,
            u32::from_be_bytes(bytes.get(at + 1..at + 5)?.try_into().ok()?) as usize,
        ),
        _ => {
            let (value, width) = match first {
                0xC0 => (read_int(bytes, at + 1, 2)?, 2),
                0xD0 => (read_int(bytes, at + 1, 4)?, 4),
                0xE0 => (read_int(bytes, at + 1, 8)?, 8),
                0xF0 => (read_int(bytes, at + 1, 3)?, 3),
                0xFE => (read_int(bytes, at + 1, 1)?, 1),
                0xF1..=0xFD => (i64::from(first & 0x0F) - 1, 0),
                _ => return None,
            };
            return Some((previous_len, Element::Int(value), at + 1 + width));
        }
    };
    let text = slice(bytes, text_at, text_len)?;
    Some((previous_len, Element::Bytes(text), text_at + text_len))
}

impl Ziplist {
    /// Takes a blob from a file after checking every entry.
    pub fn from_bytes_checked(bytes: Vec<u8>) -> Result<Ziplist, FormatError> {
        let fail = |reason| Err(FormatError::new(reason));
        if bytes.len() < ZIPLIST_HEADER + 1 || read_u32_le(&bytes, 0) != Some(bytes.len()) {
            return fail("ziplist length differs from its header");
        }
        let end = bytes.len() - 1;
        if bytes[end] != END {
            return fail("ziplist lacks its end mark");
        }
        let (mut at, mut last, mut count) = (ZIPLIST_HEADER, ZIPLIST_HEADER, 0usize);
        while at < end {
            let Some((previous_len, _, next)) = ziplist_entry(&bytes[..end], at) else {
                return fail("ziplist entry malformed");
            };
            if previous_len != at - last {
                return fail("ziplist entry has a wrong length of the one before");
            }
            (last, at, count) = (at, next, count + 1);
        }
        if read_u32_le(&bytes, 4) != Some(last) {
            return fail("ziplist has a wrong offset of its last entry");
        }
        let stated = u16::from_le_bytes([bytes[8], bytes[9]]);
        if stated != u16::MAX && usize::from(stated) != count {
            return fail("ziplist count differs from its header");
        }
        Ok(Ziplist { bytes, count })
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = Element<'_>> + Clone + '_ {
        let entries = &self.bytes[..self.bytes.len() - 1];
        let mut at = ZIPLIST_HEADER;
        std::iter::repeat_with(move || {
            let (_, element, next) = ziplist_entry(entries, at)?;
            at = next;
            Some(element)
        })
        .map_while(|element| element)
    }
}

/// A checked zipmap: fields and their values.
pub struct Zipmap {
    bytes: Vec<u8>,
    count: usize,
}

/// A length and where the byte behind it is; None at the end mark or past the end.
fn zipmap_len(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    match *bytes.get(at)? {
        254 => Some((read_u32_le(bytes, at + 1)?, at + 5)),
        END => None,
        len => Some((usize::from(len), at + 1)),
    }
}

/// A field, its value, and where the next field starts.
fn zipmap_pair(bytes: &[u8], at: usize) -> Option<(&[u8], &[u8], usize)> {
    let (field_len, at) = zipmap_len(bytes, at)?;
    let field = slice(bytes, at, field_len)?;
    let (value_len, at) = zipmap_len(bytes, at + field_len)?;
    let slack = usize::from(*bytes.get(at)?);
    let value = slice(bytes, at + 1, value_len)?;
    Some((field, value, at + 1 + value_len + slack))
}

impl Zipmap {
    /// Takes a blob from a file after checking every pair.
    pub fn from_bytes_checked(bytes: Vec<u8>) -> Result<Zipmap, FormatError> {
        let fail = |reason| Err(FormatError::new(reason));
        let (Some(&stated), Some(&END)) = (bytes.first(), bytes.get(1..).and_then(<[u8]>::last))
        else {
            return fail("zipmap lacks its end mark");
        };
        let end = bytes.len() - 1;
        let (mut at, mut count) = (1, 0usize);
        while at < end {
            let Some((_, _, next)) = zipmap_pair(&bytes[..end], at) else {
                return fail("zipmap pair malformed");
            };
            (at, count) = (next, count + 1);
        }
        if at != end {
            return fail("zipmap slack runs past the end");
        }
        if stated < 254 && usize::from(stated) != count {
            return fail("zipmap count differs from its header");
        }
        Ok(Zipmap { bytes, count })
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Fields and their values.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone + '_ {
        let pairs = &self.bytes[..self.bytes.len() - 1];
        let mut at = 1;
        std::iter::repeat_with(move || {
            let (field, value, next) = zipmap_pair(pairs, at)?;
            at = next;
            Some((field, value))
        })
        .map_while(|pair| pair)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    fn ziplist(entries: &[&[u8]]) -> Vec<u8> {
        let (mut body, mut last, mut previous_len) = (Vec::new(), ZIPLIST_HEADER, 0);
        for entry in entries {
            last = ZIPLIST_HEADER + body.len();
            let start = body.len();
            if previous_len < 254 {
                body.push(previous_len as u8);
            } else {
                body.push(254);
                body.extend_from_slice(&(previous_len as u32).to_le_bytes());
            }
            body.extend_from_slice(entry);
            previous_len = body.len() - start;
        }
        let mut blob = ((ZIPLIST_HEADER + body.len() + 1) as u32)
            .to_le_bytes()
            .to_vec();
        blob.extend_from_slice(&(last as u32).to_le_bytes());
        blob.extend_from_slice(&(entries.len() as u16).to_le_bytes());
        blob.extend_from_slice(&body);
        blob.push(END);
        blob
    }

    #[test]
    fn ziplist_entries_of_every_encoding_decode() {
        let medium = [[0x41, 0x00].as_slice(), &[b'm'; 256]].concat();
        let long = [[0x80, 0x00, 0x00, 0x40, 0x00].as_slice(), &[b'l'; 16_384]].concat();
        let entries: [&[u8]; 12] = [
            b"\x03abc",
            b"\x00",
            &medium,
            &long,
            b"\xC0\xFE\xFF",
            b"\xD0\x00\x00\x01\x00",
            b"\xE0\x00\x00\x00\x00\x00\x00\x00\x80",
            b"\xF0\x00\x00\x80",
            b"\xFE\x80",
            b"\xF1",
            b"\xFD",
            b"\x01z",
        ];
        let list = Ziplist::from_bytes_checked(ziplist(&entries)).unwrap();
        let decoded: Vec<Vec<u8>> = list.iter().map(|e| e.to_vec()).collect();
        let expected: [&[u8]; 12] = [
            b"abc",
            b"",
            &medium[2..],
            &long[5..],
            b"-2",
            b"65536",
            b"-9223372036854775808",
            b"-8388608",
            b"-128",
            b"0",
            b"12",
            b"z",
        ];
        assert_eq!(decoded, expected);
        assert_eq!(list.len(), 12);
        assert!(Ziplist::from_bytes_checked(ziplist(&[]))
            .unwrap()
            .is_empty());
    }

    #[test]
    fn a_zipmap_from_redis_2_4_decodes() {
        let blob = b"\x02\x03foo\x03\x00bar\x05hello\x05\x02world..\xFF".to_vec();
        let map = Zipmap::from_bytes_checked(blob).unwrap();
        let pairs: Vec<_> = map.iter().collect();
        assert_eq!(
            pairs,
            [(b"foo".as_slice(), b"bar".as_slice()), (b"hello", b"world")]
        );
        assert!(Zipmap::from_bytes_checked(b"\x00\xFF".to_vec())
            .unwrap()
            .is_empty());
        for bad in [
            b"".as_slice(),
            b"\xFF",
            b"\x00",
            b"\x01\x03foo\xFF",
            b"\x01\x03foo\x01\x09b\xFF",
            b"\x03\x01a\x01\x00b\xFF",
        ] {
            assert!(Zipmap::from_bytes_checked(bad.to_vec()).is_err(), "{bad:?}");
        }
    }

    /// Flips, cuts and overwrites; whatever is accepted must iterate without a panic.
    #[test]
    fn damaged_blobs_never_panic() {
        let medium = [[0x41, 0x00].as_slice(), &[b'm'; 256]].concat();
        let whole_list = ziplist(&[
            b"\x03abc",
            &medium,
            b"\xC0\xFE\xFF",
            b"\xF3",
            b"\xF0\x00\x00\x80",
        ]);
        let whole_map =
            b"\x02\x03foo\x03\x00bar\xFE\x05\x00\x00\x00hello\x05\x02world..\xFF".to_vec();
        let mut rng = Rng::from_seed(5);
        let mut accepted = 0;
        for round in 0..40_000 {
            let mut blob = if round % 2 == 0 {
                whole_list.clone()
            } else {
                whole_map.clone()
            };
            for _ in 0..=rng.below(3) {
                let at = rng.below(blob.len());
                blob[at] = rng.next_u64() as u8;
            }
            if rng.below(4) == 0 {
                blob.truncate(rng.below(blob.len()));
            }
            if round % 2 == 0 {
                if let Ok(list) = Ziplist::from_bytes_checked(blob) {
                    assert_eq!(
                        list.iter().filter(|e| e.len() < 100_000).count(),
                        list.len()
                    );
                    accepted += 1;
                }
            } else if let Ok(map) = Zipmap::from_bytes_checked(blob) {
                assert_eq!(map.iter().count(), map.len());
                accepted += 1;
            }
        }
        assert!(
            accepted > 100,
            "only {accepted} damaged blobs were accepted: the check compares too much"
        );
    }
}
