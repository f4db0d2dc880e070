//! The IDs of stream entries: a time in milliseconds and a number within it.

use std::fmt;

/// Orders entries: first by milliseconds, then by sequence number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct StreamId {
    pub ms: u64,
    pub seq: u64,
}

impl StreamId {
    pub const MIN: StreamId = StreamId { ms: 0, seq: 0 };
    pub const MAX: StreamId = StreamId {
        ms: u64::MAX,
        seq: u64::MAX,
    };
    /// The longest text form.
    pub const TEXT_BYTES_MAX: usize = 41;

    pub const fn new(ms: u64, seq: u64) -> StreamId {
        StreamId { ms, seq }
    }

    /// The next greater ID; none behind the greatest.
    pub fn next(self) -> Option<StreamId> {
        match (self.seq.checked_add(1), self.ms.checked_add(1)) {
            (Some(seq), _) => Some(StreamId { ms: self.ms, seq }),
            (None, Some(ms)) => Some(StreamId { ms, seq: 0 }),
            (None, None) => None,
        }
    }

    /// The next smaller ID; none before the smallest.
    pub fn previous(self) -> Option<StreamId> {
        match (self.seq.checked_sub(1), self.ms.checked_sub(1)) {
            (Some(seq), _) => Some(StreamId { ms: self.ms, seq }),
            (None, Some(ms)) => Some(StreamId { ms, seq: u64::MAX }),
            (None, None) => None,
        }
    }

    /// As snapshots store it: both halves big-endian.
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.ms.to_be_bytes());
        bytes[8..].copy_from_slice(&self.seq.to_be_bytes());
        bytes
    }

    pub fn from_bytes(bytes: [u8; 16]) -> StreamId {
        let number = u128::from_be_bytes(bytes);
        StreamId {
            ms: (number >> 64) as u64,
            seq: number as u64,
        }
    }

    /// `ms-seq`, in a buffer of the caller.
    pub fn write(self, buffer: &mut IdBuffer) -> &[u8] {
        let mut digits = itoa::Buffer::new();
        let mut len = 0;
        let mut put = |bytes: &[u8]| {
            buffer.0[len..len + bytes.len()].copy_from_slice(bytes);
            len += bytes.len();
        };
        put(digits.format(self.ms).as_bytes());
        put(b"-");
        put(digits.format(self.seq).as_bytes());
        &buffer.0[..len]
    }

    /// How far this ID is from an earlier one, as nodes store it; may wrap.
    pub(super) fn delta(self, from: StreamId) -> (i64, i64) {
        (
            self.ms.wrapping_sub(from.ms) as i64,
            self.seq.wrapping_sub(from.seq) as i64,
        )
    }

    pub(super) fn plus(self, (ms, seq): (i64, i64)) -> StreamId {
        StreamId {
            ms: self.ms.wrapping_add(ms as u64),
            seq: self.seq.wrapping_add(seq as u64),
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// Room for an ID's text.
pub struct IdBuffer([u8; StreamId::TEXT_BYTES_MAX]);

impl IdBuffer {
    pub const fn new() -> IdBuffer {
        IdBuffer([0; StreamId::TEXT_BYTES_MAX])
    }
}

impl Default for IdBuffer {
    fn default() -> Self {
        Self::new()
    }
}

/// An ID as clients write it, before what they left out is filled in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GivenId {
    /// `ms-seq`
    Full(StreamId),
    /// `ms`
    Ms(u64),
    /// `ms-*`
    AutoSeq(u64),
}

impl GivenId {
    /// Longer arguments are no IDs.
    const BYTES_MAX: usize = 127;

    /// Reads what Redis reads: each half as C's strtoull would, an argument up to its first zero byte.
    pub fn parse(arg: &[u8]) -> Option<GivenId> {
        if arg.len() > Self::BYTES_MAX {
            return None;
        }
        let text = arg.split(|&b| b == 0).next().unwrap_or_default();
        let mut halves = text.splitn(2, |&b| b == b'-');
        let ms = parse_half(halves.next()?)?;
        match halves.next() {
            None => Some(GivenId::Ms(ms)),
            Some(b"*") => Some(GivenId::AutoSeq(ms)),
            Some(seq) => parse_half(seq).map(|seq| GivenId::Full(StreamId { ms, seq })),
        }
    }

    /// The ID, with `seq` where none was given.
    pub fn or_seq(self, seq: u64) -> StreamId {
        match self {
            GivenId::Full(id) => id,
            GivenId::Ms(ms) | GivenId::AutoSeq(ms) => StreamId { ms, seq },
        }
    }
}

/// A half of an ID. Redis accepts what strtoull does: blanks and a sign in front, leading zeros; a number with a minus
/// that is not the very first character wraps around.
fn parse_half(text: &[u8]) -> Option<u64> {
    if let Some(value) = crate::number::parse_i64(text) {
        return u64::try_from(value).ok();
    }
    let blanks = |b: &u8| matches!(b, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r');
    let start = text.iter().position(|b| !blanks(b))?;
    let (negative, digits) = match &text[start..] {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    if digits.is_empty() {
        return None;
    }
    let value = digits.iter().try_fold(0u64, |value, &digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })?;
    Some(if negative {
        value.wrapping_neg()
    } else {
        value
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_redis_reads_them() {
        let check =
            |text: &str, expected| assert_eq!(GivenId::parse(text.as_bytes()), expected, "{text}");
        let full = |ms, seq| Some(GivenId::Full(StreamId { ms, seq }));
        check("5", Some(GivenId::Ms(5)));
        check("5-*", Some(GivenId::AutoSeq(5)));
        check("5-7", full(5, 7));
        check("007- 8", full(7, 8));
        check("5- -1", full(5, u64::MAX));
        check(
            "18446744073709551615-18446744073709551615",
            full(u64::MAX, u64::MAX),
        );
        check("5-7\0rest", full(5, 7));
        for wrong in [
            "",
            "-",
            "5-",
            "-5",
            "5-7-8",
            "5-x",
            "x",
            "18446744073709551616",
            "5-**",
            "5--1",
            "5 -1",
        ] {
            check(wrong, None);
        }
        check(&"1".repeat(128), None);
    }

    #[test]
    fn neighbours_and_bytes() {
        let id = StreamId::new(3, u64::MAX);
        assert_eq!(id.next(), Some(StreamId::new(4, 0)));
        assert_eq!(StreamId::new(4, 0).previous(), Some(id));
        assert_eq!(
            (StreamId::MAX.next(), StreamId::MIN.previous()),
            (None, None)
        );
        assert_eq!(StreamId::from_bytes(id.to_bytes()), id);
        assert_eq!(id.to_bytes()[7], 3);
        assert_eq!(
            StreamId::MAX.write(&mut IdBuffer::new()).len(),
            StreamId::TEXT_BYTES_MAX
        );
        assert_eq!(id.to_string().as_bytes(), id.write(&mut IdBuffer::new()));
    }
}
