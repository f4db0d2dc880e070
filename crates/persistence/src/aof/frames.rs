//! A segment's bytes as frames: commands and comment lines, from a stream, in bounded memory.
//!
//! Invariant: memory grows only with bytes that were read; a length that the rest of the file cannot hold is refused at
//! once. The reader also keeps the digest of what it has passed since [`FrameReader::restart_digest`].

use super::annotation::LINE_LEN_MAX;
use crate::crc::Xz;
use std::io::{self, Read};
use std::ops::Range;

/// Small under the fuzzer, whose inputs are small too.
const READ_BYTES: usize = if cfg!(fuzzing) { 50 } else { 1 << 20 };
/// Digits of a length, with its kind and end.
const HEADER_LEN_MAX: usize = 24;

/// Where the frame's bytes are: valid until the next call.
pub enum Frame {
    /// Its arguments: [`FrameReader::argument`].
    Command,
    /// A comment line, `#` included, end excluded: [`FrameReader::line`].
    Comment,
}

/// Why there is no frame here.
#[derive(Debug)]
pub enum FrameError {
    /// The input ends within it.
    Incomplete,
    Malformed(&'static str),
    Io(io::Error),
}

pub struct FrameReader<R> {
    source: R,
    /// Bytes of the source that are not in the buffer yet.
    source_left: u64,
    buffer: Vec<u8>,
    /// The file's offset of the buffer's first byte.
    base: u64,
    /// The current frame begins at `start` and ends at `next`; the digest covers what is before `digested`.
    start: usize,
    next: usize,
    digested: usize,
    digest: Xz,
    arguments: Vec<Range<usize>>,
    line: Range<usize>,
}

impl<R: Read> FrameReader<R> {
    /// `offset`: where in its file the source begins; `len`: how many bytes of it there are.
    pub fn new(source: R, offset: u64, len: u64) -> Self {
        FrameReader {
            source,
            source_left: len,
            buffer: Vec::new(),
            base: offset,
            start: 0,
            next: 0,
            digested: 0,
            digest: Xz::default(),
            arguments: Vec::new(),
            line: 0..0,
        }
    }

    /// The next frame; `None` at the end. After an error the reader stays where the bad frame begins.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        self.start = self.next;
        loop {
            let found = match self.buffer.get(self.start) {
                None => Err(Missing::Bytes(1)),
                Some(b'#') => self.comment(),
                Some(b'*') => self.command(),
                Some(_) => {
                    return Err(FrameError::Malformed(
                        "neither a command nor a comment begins here",
                    ))
                }
            };
            match found {
                Ok((frame, next)) => {
                    self.next = next;
                    return Ok(Some(frame));
                }
                Err(Missing::Bad(reason)) => return Err(FrameError::Malformed(reason)),
                Err(Missing::Bytes(missing)) => {
                    if self.start == self.buffer.len() && self.source_left == 0 {
                        return Ok(None);
                    }
                    if missing as u64 > self.source_left {
                        return Err(FrameError::Incomplete);
                    }
                    self.read_more(missing).map_err(FrameError::Io)?;
                }
            }
        }
    }

    fn read_more(&mut self, missing: usize) -> io::Result<()> {
        self.digest_to(self.start);
        self.buffer.drain(..self.start);
        self.base += self.start as u64;
        (self.start, self.next, self.digested) = (0, 0, 0);
        let want = missing
            .max(READ_BYTES)
            .min(usize::try_from(self.source_left).unwrap_or(usize::MAX));
        // What is missing may be a claim: believe it a few reads at a time.
        let want = want.min(self.buffer.len().max(READ_BYTES));
        let from = self.buffer.len();
        self.buffer.resize(from + want, 0);
        let mut filled = from;
        while filled < self.buffer.len() {
            match self.source.read(&mut self.buffer[filled..]) {
                Ok(0) => {
                    self.source_left = (filled - from) as u64;
                    break;
                }
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.buffer.truncate(from);
                    return Err(e);
                }
            }
        }
        self.buffer.truncate(filled);
        self.source_left -= (filled - from) as u64;
        Ok(())
    }

    fn comment(&mut self) -> Result<(Frame, usize), Missing> {
        let window = &self.buffer[self.start..self.buffer.len().min(self.start + LINE_LEN_MAX)];
        let Some(end) = window.iter().position(|&b| b == b'\n') else {
            return Err(match window.len() {
                LINE_LEN_MAX.. => Missing::Bad("a comment line without end"),
                _ => Missing::Bytes(1),
            });
        };
        let text = if window[..end].ends_with(b"\r") {
            end - 1
        } else {
            end
        };
        self.line = self.start..self.start + text;
        Ok((Frame::Comment, self.start + end + 1))
    }

    fn command(&mut self) -> Result<(Frame, usize), Missing> {
        self.arguments.clear();
        let (count, mut at) = header(&self.buffer, self.start, b'*')?;
        if count == 0 {
            return Err(Missing::Bad("a command without arguments"));
        }
        for _ in 0..count {
            let (len, from) = header(&self.buffer, at, b'$')?;
            let end = from
                .checked_add(len)
                .and_then(|end| end.checked_add(2))
                .ok_or(Missing::Bad("an impossible length"))?;
            if end > self.buffer.len() {
                return Err(Missing::Bytes(end - self.buffer.len()));
            }
            if &self.buffer[end - 2..end] != b"\r\n" {
                return Err(Missing::Bad(
                    "an argument does not end where its length says",
                ));
            }
            self.arguments.push(from..end - 2);
            at = end;
        }
        Ok((Frame::Command, at))
    }

    /// The current command's arguments, at least one.
    pub fn argument_count(&self) -> usize {
        self.arguments.len()
    }

    pub fn argument(&self, i: usize) -> &[u8] {
        &self.buffer[self.arguments[i].clone()]
    }

    /// The current comment.
    pub fn line(&self) -> &[u8] {
        &self.buffer[self.line.clone()]
    }

    /// All of the current frame, after it was returned.
    pub fn frame(&self) -> &[u8] {
        &self.buffer[self.start..self.next]
    }

    /// Where in the file the current frame begins.
    pub fn offset(&self) -> u64 {
        self.base + self.start as u64
    }

    /// Where in the file the current frame ends; after an error, where the bad one begins.
    pub fn end_offset(&self) -> u64 {
        self.base + self.next as u64
    }

    fn digest_to(&mut self, at: usize) {
        if at > self.digested {
            self.digest.update(&self.buffer[self.digested..at]);
            self.digested = at;
        }
    }

    /// The digest of what was passed up to the current frame, and of `len` bytes of that.
    pub fn digest_with(&mut self, len: usize) -> u64 {
        self.digest_to(self.start);
        let mut digest = self.digest.clone();
        digest.update(&self.buffer[self.start..self.start + len]);
        digest.value()
    }

    /// From behind the current frame on, the digest is `digest` and what is passed.
    pub fn restart_digest(&mut self, digest: Xz) {
        self.digest = digest;
        self.digested = self.next;
    }
}

enum Missing {
    /// At least so many bytes.
    Bytes(usize),
    Bad(&'static str),
}

/// Reads `*3\r\n` or `$3\r\n`: the number and where it ends.
#[inline]
fn header(buffer: &[u8], at: usize, kind: u8) -> Result<(usize, usize), Missing> {
    let Some(&first) = buffer.get(at) else {
        return Err(Missing::Bytes(1));
    };
    if first != kind {
        return Err(Missing::Bad("an argument does not begin with its length"));
    }
    let mut number = 0usize;
    let mut i = at + 1;
    loop {
        match buffer.get(i) {
            Some(digit @ b'0'..=b'9') => {
                number = number * 10 + usize::from(digit - b'0');
                if i - at > HEADER_LEN_MAX - 8 {
                    return Err(Missing::Bad("a length of too many digits"));
                }
            }
            Some(b'\r') if i > at + 1 => break,
            Some(_) => return Err(Missing::Bad("a length that is no number")),
            None => return Err(Missing::Bytes(1)),
        }
        i += 1;
    }
    match buffer.get(i + 1) {
        Some(b'\n') => Ok((number, i + 2)),
        Some(_) => Err(Missing::Bad("a length that does not end its line")),
        None => Err(Missing::Bytes(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames(bytes: &[u8]) -> (Vec<String>, Result<(), String>) {
        let mut reader = FrameReader::new(bytes, 0, bytes.len() as u64);
        let mut seen = Vec::new();
        loop {
            match reader.next() {
                Ok(None) => return (seen, Ok(())),
                Ok(Some(Frame::Comment)) => {
                    seen.push(String::from_utf8_lossy(reader.line()).into_owned())
                }
                Ok(Some(Frame::Command)) => {
                    let words = (0..reader.argument_count())
                        .map(|i| String::from_utf8_lossy(reader.argument(i)));
                    seen.push(words.collect::<Vec<_>>().join(" "));
                }
                Err(e) => return (seen, Err(format!("{e:?} at {}", reader.offset()))),
            }
        }
    }

    #[test]
    fn commands_and_comments_are_found() {
        let (seen, end) =
            frames(b"#note\r\n*2\r\n$3\r\nDEL\r\n$0\r\n\r\n# other\n*1\r\n$4\r\nEXEC\r\n");
        assert_eq!(seen, ["#note", "DEL ", "# other", "EXEC"]);
        assert_eq!(end, Ok(()));
    }

    #[test]
    fn every_cut_is_incomplete_at_the_frame_it_cuts() {
        let bytes = b"*2\r\n$3\r\nDEL\r\n$1\r\na\r\n#x\r\n*1\r\n$4\r\nEXEC\r\n";
        let (first, second) = (20, 24);
        for cut in 0..bytes.len() {
            let (_, end) = frames(&bytes[..cut]);
            let at = if cut < first {
                0
            } else if cut < second {
                first
            } else {
                second
            };
            let whole = cut == 0 || cut == first || cut == second;
            assert_eq!(
                end,
                if whole {
                    Ok(())
                } else {
                    Err(format!("Incomplete at {at}"))
                },
                "cut {cut}"
            );
        }
    }

    #[test]
    fn bad_bytes_are_refused() {
        for bytes in [
            &b"PING\r\n"[..],
            b"*0\r\n",
            b"*-1\r\n",
            b"*1\r\n+a\r\n",
            b"*1\r\n$1\r\nab\r\n",
            b"\0\0\0\0",
            b"*99999999999999999999999999\r\n",
            b"*1\r\n$\r\n",
        ] {
            let (_, end) = frames(bytes);
            assert!(
                end.expect_err("refused").starts_with("Malformed"),
                "{bytes:?}"
            );
        }
        let (_, end) = frames(b"*1\r\n$1000000000000\r\nabc");
        assert_eq!(end, Err("Incomplete at 0".into()));
    }

    #[test]
    fn long_arguments_cross_reads() {
        let long = vec![b'v'; 3 * READ_BYTES + 5];
        let mut bytes = Vec::new();
        for _ in 0..3 {
            crate::commands::put_command(&mut bytes, &[b"SET", b"k", &long]);
        }
        let (seen, end) = frames(&bytes);
        assert_eq!((seen.len(), end), (3, Ok(())));
        assert_eq!(seen[2].len(), 6 + long.len());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = frames(&bytes);
        }

        #[test]
        fn any_frame_like_bytes_are_read_without_panic(text in "([*$#][0-9]{0,3}(\r\n)?|[a-z]{0,3}|\r\n){0,30}") {
            let _ = frames(text.as_bytes());
        }
    }
}
