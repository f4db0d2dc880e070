//! Reading RDB bytes that are in memory: bounds, offsets, lengths, strings.

use super::format::*;
use super::{RdbError, RdbErrorKind};
use crate::lzf;
use std::borrow::Cow;

/// A position in a slice that begins at `base` in its file.
#[derive(Clone)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    base: u64,
    /// What is being read, for errors.
    pub reading: &'static str,
}

/// A string as stored.
pub enum Str<'a> {
    Bytes(Cow<'a, [u8]>),
    Int(i64),
}

impl<'a> Str<'a> {
    /// The text form.
    pub fn into_bytes(self) -> Cow<'a, [u8]> {
        match self {
            Str::Bytes(bytes) => bytes,
            Str::Int(n) => {
                let mut text = Vec::with_capacity(20);
                datatypes::number::write_i64(&mut text, n);
                Cow::Owned(text)
            }
        }
    }
}

/// A length, or one of the special string encodings.
enum Length {
    Plain(u64),
    Encoded(u8),
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8], base: u64) -> Self {
        Cursor {
            bytes,
            at: 0,
            base,
            reading: "a record",
        }
    }

    /// Position within the slice.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Position within the file.
    pub fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    pub fn error(&self, kind: RdbErrorKind) -> RdbError {
        RdbError {
            offset: self.offset(),
            reading: self.reading,
            key: None,
            kind,
        }
    }

    pub fn malformed(&self, reason: impl Into<String>) -> RdbError {
        self.error(RdbErrorKind::Malformed(reason.into()))
    }

    pub fn unsupported(&self, what: impl Into<String>) -> RdbError {
        self.error(RdbErrorKind::Unsupported(what.into()))
    }

    #[inline]
    pub fn take(&mut self, len: u64) -> Result<&'a [u8], RdbError> {
        if len > self.remaining() as u64 {
            let missing = len - self.remaining() as u64;
            return Err(self.error(RdbErrorKind::UnexpectedEnd { missing }));
        }
        let from = self.at;
        self.at += len as usize;
        Ok(&self.bytes[from..self.at])
    }

    #[inline]
    pub fn byte(&mut self) -> Result<u8, RdbError> {
        Ok(self.take(1)?[0])
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], RdbError> {
        Ok(self
            .take(N as u64)?
            .try_into()
            .expect("take returned N bytes"))
    }

    #[inline]
    fn length_or_encoding(&mut self) -> Result<Length, RdbError> {
        let first = self.byte()?;
        Ok(match first >> 6 {
            0 => Length::Plain(u64::from(first)),
            1 => Length::Plain(u64::from(first & 0x3f) << 8 | u64::from(self.byte()?)),
            3 => Length::Encoded(first),
            _ => match first {
                0x80 => Length::Plain(u64::from(u32::from_be_bytes(self.array()?))),
                0x81 => Length::Plain(u64::from_be_bytes(self.array()?)),
                _ => return Err(self.malformed(format!("{first:#04x} begins no length"))),
            },
        })
    }

    pub fn length(&mut self) -> Result<u64, RdbError> {
        match self.length_or_encoding()? {
            Length::Plain(len) => Ok(len),
            Length::Encoded(first) => Err(self.malformed(format!("{first:#04x} is no length"))),
        }
    }

    /// A count of items, each of which takes at least `item_bytes_min` of what follows.
    pub fn count(&mut self, item_bytes_min: u64) -> Result<usize, RdbError> {
        self.count_within(item_bytes_min, 0)
    }

    /// The same where `beyond` more bytes may follow those of the slice.
    pub fn count_within(&mut self, item_bytes_min: u64, beyond: u64) -> Result<usize, RdbError> {
        let count = self.length()?;
        let needed = count.saturating_mul(item_bytes_min);
        let there = (self.remaining() as u64).saturating_add(beyond);
        if needed > there {
            let missing = needed - there;
            return Err(self.error(RdbErrorKind::UnexpectedEnd { missing }));
        }
        Ok(count as usize)
    }

    /// The length of a string that is stored as it is, or `None`, with nothing read.
    pub fn plain_string_len(&mut self) -> Result<Option<u64>, RdbError> {
        let mut ahead = self.clone();
        Ok(match ahead.length_or_encoding()? {
            Length::Plain(len) => {
                *self = ahead;
                Some(len)
            }
            Length::Encoded(_) => None,
        })
    }

    fn encoded_int(&mut self, first: u8) -> Result<Option<i64>, RdbError> {
        Ok(match first {
            ENCODED_INT8 => Some(i64::from(self.byte()? as i8)),
            ENCODED_INT16 => Some(i64::from(i16::from_le_bytes(self.array()?))),
            ENCODED_INT32 => Some(i64::from(i32::from_le_bytes(self.array()?))),
            _ => None,
        })
    }

    pub fn string(&mut self) -> Result<Str<'a>, RdbError> {
        let first = match self.length_or_encoding()? {
            Length::Plain(len) => return Ok(Str::Bytes(Cow::Borrowed(self.take(len)?))),
            Length::Encoded(first) => first,
        };
        if let Some(n) = self.encoded_int(first)? {
            return Ok(Str::Int(n));
        }
        if first != ENCODED_LZF {
            return Err(self.malformed(format!("{first:#04x} begins no string")));
        }
        let (compressed_len, len) = (self.length()?, self.length()?);
        let compressed = self.take(compressed_len)?;
        match lzf::decompress(compressed, len) {
            Some(bytes) => Ok(Str::Bytes(Cow::Owned(bytes))),
            None => {
                Err(self.malformed(format!("LZF data does not yield the {len} bytes it claims")))
            }
        }
    }

    /// A string in its text form.
    pub fn bytes(&mut self) -> Result<Cow<'a, [u8]>, RdbError> {
        Ok(self.string()?.into_bytes())
    }

    pub fn skip_string(&mut self) -> Result<(), RdbError> {
        match self.length_or_encoding()? {
            Length::Plain(len) => self.take(len)?,
            Length::Encoded(ENCODED_INT8) => self.take(1)?,
            Length::Encoded(ENCODED_INT16) => self.take(2)?,
            Length::Encoded(ENCODED_INT32) => self.take(4)?,
            Length::Encoded(ENCODED_LZF) => {
                let (compressed_len, _) = (self.length()?, self.length()?);
                self.take(compressed_len)?
            }
            Length::Encoded(first) => {
                return Err(self.malformed(format!("{first:#04x} begins no string")))
            }
        };
        Ok(())
    }

    pub fn skip_strings(&mut self, count: u64) -> Result<(), RdbError> {
        (0..count).try_for_each(|_| self.skip_string())
    }

    /// A score of the oldest sorted sets: a length byte and text, or 253 to 255 for nan, inf, -inf.
    pub fn text_double(&mut self) -> Result<f64, RdbError> {
        match self.byte()? {
            255 => Ok(f64::NEG_INFINITY),
            254 => Ok(f64::INFINITY),
            253 => Ok(f64::NAN),
            len => {
                let text = self.take(u64::from(len))?;
                fast_float2::parse(text).map_err(|_| self.malformed("a score that is no number"))
            }
        }
    }

    pub fn skip_text_double(&mut self) -> Result<(), RdbError> {
        let len = self.byte()?;
        if len < 253 {
            self.take(u64::from(len))?;
        }
        Ok(())
    }

    pub fn double(&mut self) -> Result<f64, RdbError> {
        Ok(f64::from_le_bytes(self.array()?))
    }
}
