//! A range of a file as a stream of bytes: small reads, held strings, and skips of any length in bounded memory.
//!
//! Invariants: a length that the range cannot hold fails before anything is allocated for it, and leaves the position
//! where it was; the checksum covers exactly what has been passed.

use crate::crc::Jones;
use crate::progress::Progress;
use crate::storage::{read_full_at, StorageFile};

/// What one read takes from the file.
const READ_BYTES: usize = 1 << 20;

/// Why the bytes end the check.
#[derive(Debug)]
pub enum Fault {
    /// The range ends too early.
    End,
    Io(std::io::Error),
    /// The inside of a string or value breaks a rule: `rdb.c` calls it an internal error.
    Corrupt(String),
    /// The outline of the file breaks a rule.
    Refused(String),
}

pub fn corrupt<T>(reason: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Corrupt(reason.into()))
}

pub struct Source<'a> {
    file: &'a dyn StorageFile,
    progress: &'a Progress,
    buffer: Vec<u8>,
    /// The current position within the buffer.
    at: usize,
    /// The checksum covers the buffer up to here.
    summed: usize,
    /// The file's offset of the buffer's first byte.
    base: u64,
    end: u64,
    crc: Jones,
}

impl<'a> Source<'a> {
    pub fn new(file: &'a dyn StorageFile, from: u64, end: u64, progress: &'a Progress) -> Self {
        Source {
            file,
            progress,
            buffer: Vec::new(),
            at: 0,
            summed: 0,
            base: from,
            end,
            crc: Jones::default(),
        }
    }

    /// Goes on with another range, keeping the buffer's memory.
    pub fn restart(&mut self, from: u64, end: u64) {
        self.buffer.clear();
        (self.at, self.summed, self.base, self.end) = (0, 0, from, end);
        self.crc = Jones::default();
    }

    pub fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    pub fn left(&self) -> u64 {
        self.end - self.offset()
    }

    /// Of everything passed so far.
    pub fn checksum(&mut self) -> u64 {
        self.sum_to(self.at);
        self.crc.value()
    }

    fn sum_to(&mut self, at: usize) {
        self.crc.update(&self.buffer[self.summed..at]);
        self.summed = at;
    }

    /// Brings the next `len` bytes into the buffer.
    fn fill(&mut self, len: usize) -> Result<(), Fault> {
        if self.buffer.len() - self.at >= len {
            return Ok(());
        }
        if len as u64 > self.left() {
            return Err(Fault::End);
        }
        self.sum_to(self.at);
        self.buffer.drain(..self.at);
        self.base += self.at as u64;
        (self.at, self.summed) = (0, 0);
        let held = self.buffer.len();
        let from = self.base + held as u64;
        let want = (self.end - from).min(len.max(READ_BYTES) as u64) as usize;
        self.buffer.resize(held + want, 0);
        let got = read_full_at(self.file, &mut self.buffer[held..], from).map_err(Fault::Io)?;
        self.buffer.truncate(held + got);
        self.progress.add(0, got as u64);
        // The file became shorter than it was when it was measured.
        if self.buffer.len() < len {
            return Err(Fault::End);
        }
        Ok(())
    }

    /// The next `len` bytes, without passing them. Only for lengths that are bounded by the caller.
    pub fn peek(&mut self, len: usize) -> Result<&[u8], Fault> {
        self.fill(len)?;
        Ok(&self.buffer[self.at..self.at + len])
    }

    pub fn pass(&mut self, len: usize) {
        self.at += len;
    }

    #[inline]
    pub fn byte(&mut self) -> Result<u8, Fault> {
        if self.at == self.buffer.len() {
            self.fill(1)?;
        }
        self.at += 1;
        Ok(self.buffer[self.at - 1])
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut out = [0; N];
        out.copy_from_slice(self.peek(N)?);
        self.at += N;
        Ok(out)
    }

    /// Goes past `len` bytes.
    pub fn skip(&mut self, len: u64) -> Result<(), Fault> {
        if len > self.left() {
            return Err(Fault::End);
        }
        let mut left = len;
        loop {
            let here = ((self.buffer.len() - self.at) as u64).min(left);
            self.at += here as usize;
            left -= here;
            if left == 0 {
                return Ok(());
            }
            self.fill(left.min(READ_BYTES as u64) as usize)?;
        }
    }
}
