//! The cursor, options and reply that SCAN, HSCAN, SSCAN and ZSCAN have in common.

use datatypes::{glob, Element, IntBuffer};
use resp::{Argv, Reply};

use crate::args::{integer, is};
use crate::errors::{CommandError, INVALID_CURSOR, NOVALUES_OUTSIDE_HSCAN, SYNTAX};

/// What is scanned, which decides the options there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scanned {
    Keyspace,
    Hash,
    /// A set or a sorted set.
    Members,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScanOptions<'a> {
    /// MATCH; none also for `*`, which everything matches.
    pub pattern: Option<&'a [u8]>,
    pub count: usize,
    /// TYPE, as given.
    pub type_name: Option<&'a [u8]>,
    pub no_values: bool,
}

impl<'a> ScanOptions<'a> {
    /// Reads the options that begin at an argument.
    pub fn parse(
        argv: Argv<'a>,
        from: usize,
        scanned: Scanned,
    ) -> Result<ScanOptions<'a>, CommandError> {
        let mut options = ScanOptions {
            pattern: None,
            count: 10,
            type_name: None,
            no_values: false,
        };
        let mut i = from;
        while let Some(option) = argv.get(i) {
            match argv.get(i + 1) {
                Some(value) if is(option, "count") => {
                    let count = integer(value)?;
                    options.count = usize::try_from(count).map_err(|_| SYNTAX)?;
                    if count == 0 {
                        return Err(SYNTAX);
                    }
                    i += 1;
                }
                Some(value) if is(option, "match") => {
                    options.pattern = (value != b"*").then_some(value);
                    i += 1;
                }
                Some(value) if is(option, "type") && scanned == Scanned::Keyspace => {
                    options.type_name = Some(value);
                    i += 1;
                }
                _ if is(option, "novalues") && scanned == Scanned::Hash => options.no_values = true,
                _ if is(option, "novalues") => return Err(NOVALUES_OUTSIDE_HSCAN),
                _ => return Err(SYNTAX),
            }
            i += 1;
        }
        Ok(options)
    }

    pub fn matches(&self, text: &[u8]) -> bool {
        self.pattern
            .is_none_or(|pattern| glob::matches(pattern, text, false))
    }

    pub fn matches_element(&self, element: Element<'_>) -> bool {
        self.pattern.is_none() || self.matches(element.as_bytes(&mut IntBuffer::new()))
    }
}

/// Reads a cursor as C's `strtoull` does: white space and a plus sign may come before the
/// digits, and the text ends at a NUL. Negative numbers are refused.
pub fn cursor(arg: &[u8]) -> Result<u64, CommandError> {
    let text = arg.split(|&byte| byte == 0).next().unwrap_or(arg);
    let blanks = text
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\t'..=b'\r'))
        .count();
    let digits = text[blanks..].strip_prefix(b"+").unwrap_or(&text[blanks..]);
    let mut value: Option<u64> = None;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return Err(INVALID_CURSOR);
        }
        let next = value.unwrap_or(0).checked_mul(10);
        value = next.and_then(|value| value.checked_add(u64::from(digit - b'0')));
        if value.is_none() {
            return Err(INVALID_CURSOR);
        }
    }
    value.ok_or(INVALID_CURSOR)
}

/// Replies one page: `scan` writes its elements and returns the next cursor and their number.
pub fn reply_page(reply: &mut Reply<'_>, scan: impl FnOnce(&mut Reply<'_>) -> (u64, usize)) {
    // The cursor stands in front of the elements, but is known after them.
    let mut elements = Vec::new();
    let (cursor, count) = scan(&mut Reply::new(&mut elements, reply.protocol()));
    reply.array(2);
    reply.bulk(itoa::Buffer::new().format(cursor).as_bytes());
    reply.array(count);
    reply.raw(&elements);
}

/// Replies the only page of nothing.
pub fn reply_empty_page(reply: &mut Reply<'_>) {
    reply_page(reply, |_| (0, 0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use resp::OwnedArgv;

    #[test]
    fn cursors_are_read_leniently() {
        let check = |arg: &[u8], expected: Option<u64>| assert_eq!(cursor(arg).ok(), expected);
        check(b"0", Some(0));
        check(b"18446744073709551615", Some(u64::MAX));
        check(b"18446744073709551616", None);
        check(b" +017", Some(17));
        check(b"5\0x", Some(5));
        for refused in [&b""[..], b"-1", b"0 ", b"x", b"+", b"0x1", b"\0"] {
            check(refused, None);
        }
    }

    #[test]
    fn options_and_their_refusals() {
        let check = |line: &[&[u8]], scanned, expected: Result<(usize, bool), CommandError>| {
            let argv = OwnedArgv::from_args(line.iter().copied());
            let options = ScanOptions::parse(argv.argv(), 0, scanned);
            assert_eq!(options.map(|o| (o.count, o.no_values)), expected);
        };
        check(&[], Scanned::Members, Ok((10, false)));
        check(
            &[b"Count", b"5", b"MATCH", b"*", b"count", b"6"],
            Scanned::Members,
            Ok((6, false)),
        );
        check(&[b"novalues", b"count", b"1"], Scanned::Hash, Ok((1, true)));
        check(&[b"type", b"set"], Scanned::Keyspace, Ok((10, false)));
        check(&[b"type", b"set"], Scanned::Hash, Err(SYNTAX));
        check(&[b"count"], Scanned::Hash, Err(SYNTAX));
        check(&[b"count", b"0"], Scanned::Hash, Err(SYNTAX));
        check(&[b"count", b"-3"], Scanned::Hash, Err(SYNTAX));
        check(
            &[b"count", b"x"],
            Scanned::Hash,
            Err(crate::errors::NOT_INTEGER),
        );
        check(
            &[b"novalues"],
            Scanned::Members,
            Err(NOVALUES_OUTSIDE_HSCAN),
        );
    }
}
