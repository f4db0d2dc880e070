//! One file of commands as `redis-check-aof` reads it: what counts, and the text of what does not.
//!
//! Values are passed over, not held. Messages are bytes: they quote what they found.

use persistence::progress::Progress;
use persistence::storage::{FileReader, StorageFile};
use std::io::{self, BufRead, BufReader};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

const LINE_BYTES: usize = 128;
const ANNOTATION_BYTES: usize = 1024;
const READ_BYTES: usize = 1 << 20;
/// The longest command name that matters.
const NAME_BYTES: usize = 8;

/// Where a scan of a file ended.
#[derive(Debug, Default)]
pub struct StockScan {
    /// Behind the last command, or transaction, that is whole.
    pub ok_up_to: u64,
    /// Neither a command nor a comment begins there.
    pub format_error: bool,
    /// Why it ended, if not at the end.
    pub error: Option<Vec<u8>>,
    /// Where the first timestamp later than the limit stands.
    pub later_than_limit: Option<u64>,
    /// A `#TS` line without a number.
    pub bad_timestamp: bool,
    pub commands: u64,
}

pub struct Scan<'a> {
    reader: BufReader<FileReader>,
    progress: &'a Progress,
    at: u64,
    error_at: u64,
    /// Counted on from file to file, as Redis does.
    pub line: u64,
    /// The name that is shown in errors.
    shown: String,
    multi: i32,
    out: StockScan,
}

/// The end of the file, or an error that has been noted.
struct Stop;

impl<'a> Scan<'a> {
    pub fn new(
        file: Arc<dyn StorageFile>,
        from: u64,
        len: u64,
        shown: String,
        line: u64,
        progress: &'a Progress,
    ) -> Self {
        let reader = FileReader::new(file, from, len);
        Scan {
            reader: BufReader::with_capacity(READ_BYTES, reader),
            progress,
            at: from,
            error_at: 0,
            line,
            shown,
            multi: 0,
            out: StockScan::default(),
        }
    }

    /// Reads on to the end, to damage, or to a timestamp later than `limit`.
    pub fn run(mut self, limit: Option<i64>) -> io::Result<(StockScan, u64)> {
        loop {
            if self.multi == 0 {
                self.out.ok_up_to = self.at;
            }
            let Some(first) = self.peek()? else {
                if self.multi != 0 && self.out.error.is_none() {
                    self.fail("Reached EOF before reading EXEC for MULTI");
                }
                break;
            };
            match first {
                b'#' => {
                    if self.annotation(limit)? {
                        break;
                    }
                }
                b'*' => match self.command()? {
                    Ok(()) => self.out.commands += 1,
                    Err(Stop) => {
                        // Its end is also the end of the file.
                        let ended = self.out.error.is_none() && self.peek()?.is_none();
                        if ended && self.multi != 0 {
                            self.fail("Reached EOF before reading EXEC for MULTI");
                        }
                        break;
                    }
                },
                _ => {
                    self.out.format_error = true;
                    break;
                }
            }
        }
        Ok((self.out, self.line))
    }

    fn fail(&mut self, reason: impl AsRef<[u8]>) {
        let mut error = format!("0x{:16x}: ", self.error_at).into_bytes();
        error.extend_from_slice(reason.as_ref());
        self.out.error = Some(error);
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        Ok(self.reader.fill_buf()?.first().copied())
    }

    fn passed(&mut self, bytes: usize) {
        self.reader.consume(bytes);
        self.at += bytes as u64;
        self.progress.bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// A line, or as much of it as fits; empty at the end of the file.
    fn line_into(&mut self, max: usize) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        loop {
            let bytes = self.reader.fill_buf()?;
            let room = bytes.len().min(max - line.len());
            let end = bytes[..room].iter().position(|&b| b == b'\n');
            let taken = end.map_or(room, |end| end + 1);
            line.extend_from_slice(&bytes[..taken]);
            self.passed(taken);
            if end.is_some() || taken == 0 || line.len() == max {
                return Ok(line);
            }
        }
    }

    /// True where the scan is to end.
    fn annotation(&mut self, limit: Option<i64>) -> io::Result<bool> {
        self.error_at = self.at;
        let line = self.line_into(ANNOTATION_BYTES - 1)?;
        let (Some(limit), Some(text)) = (limit, line.strip_prefix(b"#TS:")) else {
            return Ok(false);
        };
        let (seconds, used) = strtol(text);
        if text.get(used) != Some(&b'\r') {
            self.out.bad_timestamp = true;
            return Ok(true);
        }
        if seconds > limit {
            self.out.later_than_limit = Some(self.error_at);
            return Ok(true);
        }
        Ok(false)
    }

    fn command(&mut self) -> io::Result<Result<(), Stop>> {
        let Ok(count) = self.number(b'*')? else {
            return Ok(Err(Stop));
        };
        for i in 0..count {
            let Ok(name) = self.string()? else {
                return Ok(Err(Stop));
            };
            if i > 0 {
                continue;
            }
            if name.eq_ignore_ascii_case(b"multi") {
                self.multi += 1;
                if self.multi != 1 {
                    self.fail(format!("Unexpected MULTI in AOF {}", self.shown));
                    return Ok(Err(Stop));
                }
            } else if name.eq_ignore_ascii_case(b"exec") {
                self.multi -= 1;
                if self.multi != 0 {
                    self.fail(format!("Unexpected EXEC in AOF {}", self.shown));
                    return Ok(Err(Stop));
                }
            }
        }
        Ok(Ok(()))
    }

    /// `*3\r\n` or `$3\r\n`.
    fn number(&mut self, prefix: u8) -> io::Result<Result<i64, Stop>> {
        self.error_at = self.at;
        let line = self.line_into(LINE_BYTES - 1)?;
        if line.is_empty() {
            return Ok(Err(Stop));
        }
        if line[0] != prefix {
            let got = [
                b"Expected prefix '",
                &[prefix][..],
                b"', got: '",
                &line[..1],
                b"'",
            ];
            self.fail(got.concat());
            return Ok(Err(Stop));
        }
        let (number, used) = strtol(&line[1..]);
        // Where the line ends too early, Redis shows what happens to lie in memory behind it.
        let end = [1, 2].map(|i| line.get(used + i).copied().unwrap_or(0));
        Ok(self.newline(end).map(|()| number))
    }

    fn newline(&mut self, end: [u8; 2]) -> Result<(), Stop> {
        if end == *b"\r\n" {
            self.line += 1;
            return Ok(());
        }
        // As `%02x` shows a char, which has a sign.
        let shown = end.map(|b| format!("{:02x}", b as i8 as i32));
        self.fail(format!("Expected \\r\\n, got: {}{}", shown[0], shown[1]));
        Err(Stop)
    }

    /// Passes a string; its front, if it may be a name that matters.
    fn string(&mut self) -> io::Result<Result<Vec<u8>, Stop>> {
        let Ok(len) = self.number(b'$')? else {
            return Ok(Err(Stop));
        };
        if !(0..=i64::MAX - 2).contains(&len) {
            self.fail(format!(
                "Expected to read string of {len} bytes, which is not in the suitable range"
            ));
            return Ok(Err(Stop));
        }
        self.error_at = self.at;
        let (len, whole) = (len as u64, len as u64 + 2);
        let (mut front, mut end, mut got) = (Vec::new(), [0; 2], 0);
        while got < whole {
            let bytes = self.reader.fill_buf()?;
            let taken = (bytes.len() as u64).min(whole - got) as usize;
            if taken == 0 {
                self.fail(format!("Expected to read {whole} bytes, got {got} bytes"));
                return Ok(Err(Stop));
            }
            for (i, end) in end.iter_mut().enumerate() {
                let at = (len + i as u64).checked_sub(got);
                if let Some(&byte) = at.and_then(|at| bytes[..taken].get(at as usize)) {
                    *end = byte;
                }
            }
            let named = (len.saturating_sub(got) as usize).min(taken);
            if len as usize <= NAME_BYTES {
                front.extend_from_slice(&bytes[..named]);
            }
            got += taken as u64;
            self.passed(taken);
        }
        Ok(self.newline(end).map(|()| front))
    }
}

/// C's: the number at the front, clamped, and how many bytes it took.
pub fn strtol(text: &[u8]) -> (i64, usize) {
    let blank = |b: &u8| b.is_ascii_whitespace() || *b == 0x0b;
    let spaces = text.iter().take_while(|b| blank(b)).count();
    let sign = matches!(text.get(spaces), Some(b'-' | b'+'));
    let negative = text.get(spaces) == Some(&b'-');
    let digits_from = spaces + usize::from(sign);
    let digits = text[digits_from..]
        .iter()
        .take_while(|b| b.is_ascii_digit());
    let (mut number, mut count) = (0i64, 0);
    for digit in digits {
        let digit = i64::from(digit - b'0');
        number = number.saturating_mul(10);
        number = match negative {
            true => number.saturating_sub(digit),
            false => number.saturating_add(digit),
        };
        count += 1;
    }
    match count {
        0 => (0, 0),
        count => (number, digits_from + count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_in_c() {
        assert_eq!(strtol(b"12\r\n"), (12, 2));
        assert_eq!(strtol(b" -5x"), (-5, 3));
        assert_eq!(strtol(b"x"), (0, 0));
        assert_eq!(strtol(b"-"), (0, 0));
        assert_eq!(strtol(b"99999999999999999999"), (i64::MAX, 20));
    }
}
