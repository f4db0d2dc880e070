//! Requests out of bytes as they arrive.
//!
//! A request that is not whole yet is taken up again where parsing stopped, so that a large one
//! arriving in many pieces is looked at once. Positions and spans of an unfinished request count
//! from its first byte, wherever its buffer moves meanwhile.

use crate::argv::{OwnedArgv, Span};
use crate::inline::split_arguments;

/// Bytes a line (an inline command, a length) may have.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// What a client that has not authenticated may send.
const UNAUTHENTICATED_ARGS_MAX: i64 = 10;
const UNAUTHENTICATED_BULK_BYTES_MAX: i64 = 16 * 1024;

#[derive(Clone, Copy, Debug)]
pub struct ParserLimits {
    /// `proto-max-bulk-len`.
    pub bulk_bytes_max: u64,
    pub authenticated: bool,
}

/// What makes a server reply `-ERR Protocol error: ...` and close.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProtocolError {
    MultibulkCountTooLong,
    MultibulkLength,
    MultibulkLengthUnauthenticated,
    BulkCountTooLong,
    ExpectedDollar(u8),
    BulkLength,
    BulkLengthUnauthenticated,
    InlineTooLong,
    UnbalancedQuotes,
}

impl ProtocolError {
    /// The text behind "Protocol error: ".
    pub fn message(self) -> String {
        match self {
            ProtocolError::MultibulkCountTooLong => "too big mbulk count string".into(),
            ProtocolError::MultibulkLength => "invalid multibulk length".into(),
            ProtocolError::MultibulkLengthUnauthenticated => {
                "unauthenticated multibulk length".into()
            }
            ProtocolError::BulkCountTooLong => "too big bulk count string".into(),
            ProtocolError::ExpectedDollar(0) => "expected '$', got ' '".into(),
            ProtocolError::ExpectedDollar(byte) => format!("expected '$', got '{}'", byte as char),
            ProtocolError::BulkLength => "invalid bulk length".into(),
            ProtocolError::BulkLengthUnauthenticated => "unauthenticated bulk length".into(),
            ProtocolError::InlineTooLong => "too big inline request".into(),
            ProtocolError::UnbalancedQuotes => "unbalanced quotes in request".into(),
        }
    }
}

/// What a call of [`Parser::next`] found.
pub enum Step {
    /// A request of `len` bytes, whose spans were appended.
    Command { len: usize },
    /// An inline request of `len` bytes.
    Inline { len: usize, argv: OwnedArgv },
    /// `len` bytes that ask for nothing: an empty line or array.
    Nothing { len: usize },
    /// More bytes are needed; at least `wanted` in all from the request's first byte on.
    Incomplete { wanted: usize },
}

/// The state of a connection's unfinished request.
#[derive(Default)]
pub struct Parser {
    /// Arguments still to come; 0 when the next byte begins a request.
    args_left: usize,
    /// Where parsing goes on.
    at: usize,
    spans: Vec<Span>,
}

enum Line<T> {
    Value { value: T, end: usize },
    Incomplete,
    TooLong,
    Invalid,
}

/// Reads the decimal number in `bytes[at..]` up to its `\r`, and skips that and one byte more.
#[inline]
fn read_number(bytes: &[u8], at: usize) -> Line<i64> {
    let mut value: i64 = 0;
    let mut i = at;
    let negative = bytes.get(i) == Some(&b'-');
    i += usize::from(negative);
    let first = i;
    while let Some(&byte) = bytes.get(i) {
        if byte == b'\r' {
            if i + 1 >= bytes.len() {
                return Line::Incomplete;
            }
            let digits = i - first;
            let canonical = digits > 0 && (bytes[first] != b'0' || (digits == 1 && !negative));
            if !canonical {
                return Line::Invalid;
            }
            return Line::Value {
                value: if negative { -value } else { value },
                end: i + 2,
            };
        }
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 || i - first > 17 {
            return invalid_or_unfinished(bytes, at);
        }
        value = value * 10 + i64::from(digit);
        i += 1;
    }
    if bytes.len() - at > LINE_BYTES_MAX {
        return Line::TooLong;
    }
    Line::Incomplete
}

/// A line that is no number is refused once it has ended, and not before.
#[cold]
fn invalid_or_unfinished(bytes: &[u8], at: usize) -> Line<i64> {
    let rest = &bytes[at..];
    match rest.iter().position(|&b| b == b'\r') {
        Some(end) if end + 1 < rest.len() => Line::Invalid,
        None if rest.len() > LINE_BYTES_MAX => Line::TooLong,
        _ => Line::Incomplete,
    }
}

impl Parser {
    /// Whether a request has begun and is not whole yet.
    pub fn is_in_request(&self) -> bool {
        self.args_left > 0
    }

    /// Parses one request from `bytes`, which begin with its first byte. The spans of a whole
    /// request are appended to `spans`, each moved by `base`, the place of `bytes` in the buffer
    /// that the spans are about.
    #[inline]
    pub fn next(
        &mut self,
        bytes: &[u8],
        base: usize,
        limits: &ParserLimits,
        spans: &mut Vec<Span>,
    ) -> Result<Step, ProtocolError> {
        let mut at = self.at;
        let mut left = self.args_left;
        let resumed = left > 0;
        if !resumed {
            match bytes.first() {
                None => return Ok(Step::Incomplete { wanted: 1 }),
                Some(b'*') => {}
                Some(_) => return inline_request(bytes),
            }
            match read_number(bytes, 1) {
                Line::Value { value, end } => {
                    if value > i64::from(i32::MAX) {
                        return Err(ProtocolError::MultibulkLength);
                    }
                    if value > UNAUTHENTICATED_ARGS_MAX && !limits.authenticated {
                        return Err(ProtocolError::MultibulkLengthUnauthenticated);
                    }
                    if value <= 0 {
                        return Ok(Step::Nothing { len: end });
                    }
                    (left, at) = (value as usize, end);
                }
                Line::Incomplete => {
                    return Ok(Step::Incomplete {
                        wanted: bytes.len() + 1,
                    })
                }
                Line::TooLong => return Err(ProtocolError::MultibulkCountTooLong),
                Line::Invalid => return Err(ProtocolError::MultibulkLength),
            }
        }
        let first_span = spans.len();
        let wanted = loop {
            let Some(&kind) = bytes.get(at) else {
                break at + 1;
            };
            if kind != b'$' {
                // The length line must have ended before its first byte is judged.
                match invalid_or_unfinished(bytes, at) {
                    Line::Incomplete => break bytes.len() + 1,
                    Line::TooLong => return Err(ProtocolError::BulkCountTooLong),
                    _ => return Err(ProtocolError::ExpectedDollar(kind)),
                }
            }
            let (len, start) = match read_number(bytes, at + 1) {
                Line::Value { value, end } => (self.check_bulk_length(value, limits)?, end),
                Line::Incomplete => break bytes.len() + 1,
                Line::TooLong => return Err(ProtocolError::BulkCountTooLong),
                Line::Invalid => return Err(ProtocolError::BulkLength),
            };
            let end = start + len + 2;
            if end > u32::MAX as usize {
                return Err(ProtocolError::BulkLength);
            }
            if end > bytes.len() {
                break end;
            }
            spans.push(Span {
                start: (base + start) as u32,
                len: len as u32,
            });
            at = end;
            left -= 1;
            if left == 0 {
                if resumed {
                    self.finish(base, first_span, spans);
                }
                return Ok(Step::Command { len: at });
            }
        };
        self.suspend(at, left, base, first_span, spans);
        Ok(Step::Incomplete { wanted })
    }

    #[inline]
    fn check_bulk_length(&self, value: i64, limits: &ParserLimits) -> Result<usize, ProtocolError> {
        if value < 0 || value as u64 > limits.bulk_bytes_max {
            return Err(ProtocolError::BulkLength);
        }
        if value > UNAUTHENTICATED_BULK_BYTES_MAX && !limits.authenticated {
            return Err(ProtocolError::BulkLengthUnauthenticated);
        }
        Ok(value as usize)
    }

    /// Remembers an unfinished request.
    #[cold]
    fn suspend(
        &mut self,
        at: usize,
        left: usize,
        base: usize,
        first_span: usize,
        spans: &mut Vec<Span>,
    ) {
        (self.at, self.args_left) = (at, left);
        self.spans.extend(spans.drain(first_span..).map(|s| Span {
            start: s.start - base as u32,
            len: s.len,
        }));
    }

    /// Puts the spans found in earlier calls before those of this one.
    #[cold]
    fn finish(&mut self, base: usize, first_span: usize, spans: &mut Vec<Span>) {
        let earlier = self.spans.drain(..).map(|s| Span {
            start: s.start + base as u32,
            len: s.len,
        });
        spans.splice(first_span..first_span, earlier);
        (self.at, self.args_left) = (0, 0);
        if self.spans.capacity() > 1024 {
            self.spans = Vec::new();
        }
    }
}

#[cold]
fn inline_request(bytes: &[u8]) -> Result<Step, ProtocolError> {
    let Some(newline) = bytes.iter().position(|&b| b == b'\n') else {
        if bytes.len() > LINE_BYTES_MAX {
            return Err(ProtocolError::InlineTooLong);
        }
        return Ok(Step::Incomplete {
            wanted: bytes.len() + 1,
        });
    };
    let line = bytes[..newline]
        .strip_suffix(b"\r")
        .unwrap_or(&bytes[..newline]);
    let argv = split_arguments(line).ok_or(ProtocolError::UnbalancedQuotes)?;
    let len = newline + 1;
    Ok(if argv.argv().is_empty() {
        Step::Nothing { len }
    } else {
        Step::Inline { len, argv }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::argv::Argv;

    const LIMITS: ParserLimits = ParserLimits {
        bulk_bytes_max: 512 << 20,
        authenticated: true,
    };

    /// Feeds `input` in pieces of `piece` bytes; returns the commands, or the error.
    fn parse_in_pieces(
        input: &[u8],
        piece: usize,
        limits: &ParserLimits,
    ) -> Result<Vec<Vec<Vec<u8>>>, ProtocolError> {
        let (mut parser, mut buf, mut commands) = (Parser::default(), Vec::new(), Vec::new());
        for chunk in input.chunks(piece) {
            buf.extend_from_slice(chunk);
            let mut done = 0;
            loop {
                let mut spans = Vec::new();
                match parser.next(&buf[done..], done, limits, &mut spans)? {
                    Step::Command { len } => {
                        commands.push(Argv::new(&buf, &spans).iter().map(<[u8]>::to_vec).collect());
                        done += len;
                    }
                    Step::Inline { len, argv } => {
                        commands.push(argv.argv().iter().map(<[u8]>::to_vec).collect());
                        done += len;
                    }
                    Step::Nothing { len } => done += len,
                    Step::Incomplete { wanted } => {
                        assert!(wanted > buf.len() - done);
                        break;
                    }
                }
            }
            buf.drain(..done);
        }
        Ok(commands)
    }

    #[test]
    fn requests_are_the_same_however_they_are_cut() {
        let input = b"*2\r\n$3\r\nGET\r\n$1\r\na\r\nPING\r\n\r\n*0\r\n*-1\r\n*3\r\n$3\r\nSET\r\n$0\r\n\r\n$4\r\n\r\n$1\r\nECHO \"a b\"\n";
        let expected: Vec<Vec<Vec<u8>>> = vec![
            vec![b"GET".to_vec(), b"a".to_vec()],
            vec![b"PING".to_vec()],
            vec![b"SET".to_vec(), b"".to_vec(), b"\r\n$1".to_vec()],
            vec![b"ECHO".to_vec(), b"a b".to_vec()],
        ];
        for piece in 1..=input.len() {
            assert_eq!(
                parse_in_pieces(input, piece, &LIMITS).as_ref(),
                Ok(&expected),
                "pieces of {piece}"
            );
        }
    }

    #[test]
    fn protocol_errors_are_found() {
        let check = |input: &[u8], error| {
            assert_eq!(
                parse_in_pieces(input, input.len(), &LIMITS),
                Err(error),
                "{}",
                String::from_utf8_lossy(input)
            )
        };
        check(b"*x\r\n", ProtocolError::MultibulkLength);
        check(b"*03\r\n", ProtocolError::MultibulkLength);
        check(b"*3000000000\r\n", ProtocolError::MultibulkLength);
        check(
            b"*99999999999999999999999\r\n",
            ProtocolError::MultibulkLength,
        );
        check(b"*1\r\nfoo\r\n", ProtocolError::ExpectedDollar(b'f'));
        check(b"*1\r\n$-1\r\n", ProtocolError::BulkLength);
        check(b"*1\r\n$x\r\n", ProtocolError::BulkLength);
        check(b"*1\r\n$2147483648\r\n", ProtocolError::BulkLength);
        check(b"SET \"a\r\n", ProtocolError::UnbalancedQuotes);
        check(&[b'a'; LINE_BYTES_MAX + 1], ProtocolError::InlineTooLong);
        let mut long = b"*".to_vec();
        long.resize(LINE_BYTES_MAX + 3, b'1');
        check(&long, ProtocolError::MultibulkCountTooLong);
        let mut long = b"*1\r\n$".to_vec();
        long.resize(LINE_BYTES_MAX + 10, b'1');
        check(&long, ProtocolError::BulkCountTooLong);
    }

    #[test]
    fn clients_that_have_not_authenticated_may_send_little() {
        let limits = ParserLimits {
            authenticated: false,
            ..LIMITS
        };
        assert_eq!(
            parse_in_pieces(b"*11\r\n", 99, &limits),
            Err(ProtocolError::MultibulkLengthUnauthenticated)
        );
        assert_eq!(
            parse_in_pieces(b"*1\r\n$16385\r\n", 99, &limits),
            Err(ProtocolError::BulkLengthUnauthenticated)
        );
    }

    #[test]
    fn random_bytes_never_panic() {
        let seed = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(1, |d| d.as_nanos() as u64);
        println!("seed {seed}");
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let alphabet = b"*$0123456789-\r\n\r\n\r\nab\"'\\ \0\xff";
        for _ in 0..20_000 {
            let input: Vec<u8> = (0..next() % 60)
                .map(|_| alphabet[(next() % alphabet.len() as u64) as usize])
                .collect();
            let whole = parse_in_pieces(&input, 60, &LIMITS);
            let pieces = parse_in_pieces(&input, 1 + (next() % 9) as usize, &LIMITS);
            assert_eq!(whole, pieces, "{}", String::from_utf8_lossy(&input));
        }
    }
}
