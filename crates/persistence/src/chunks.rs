//! One file written by several threads at once.
//!
//! Each thread fills chunks of a few MB and writes each at an offset that it reserves with one atomic add: no second
//! pass and no merge. Where the file system allows it, chunks go past the page cache (O_DIRECT): then every chunk is
//! padded to whole blocks, with bytes that the format skips. A record that does not fit into a chunk is measured first,
//! and streamed into an extent of its own.
//! Invariants: chunks leave no gap; a chunk's buffer never grows, so that it stays aligned; the first error stops all.

use crate::crc::{self, Jones};
use crate::progress::Progress;
use crate::rdb::encode::{Bounded, Counter, Sink, Stop};
use crate::storage::{write_all_at, Open, Storage, StorageFile};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::sync::Arc;

/// Chunks are written when they have reached this size.
pub const CHUNK_BYTES: usize = 2 << 20;
/// Room for the record that crosses it, and for padding.
const CHUNK_BYTES_MAX: usize = CHUNK_BYTES + (512 << 10);
/// Alignment for O_DIRECT.
pub const BLOCK_BYTES: u64 = 4096;

/// What may stand between records and is skipped by readers.
pub trait Padding: Sync {
    /// Bytes of padding that bring `len` to a multiple of [`BLOCK_BYTES`].
    fn padding_for(&self, len: u64) -> u64;
    /// Appends exactly so many bytes, as `padding_for` gave them.
    fn put(&self, out: &mut Vec<u8>, bytes: u64);
}

/// A chunk in the file.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    pub offset: u64,
    pub len: u64,
    pub keys: u64,
    pub crc: u64,
    pub shard: u32,
}

/// The file, as its writers share it.
pub struct ChunkFile<'a> {
    file: Arc<dyn StorageFile>,
    pub direct: bool,
    next_offset: AtomicU64,
    failed: AtomicBool,
    padding: &'a dyn Padding,
    progress: &'a Progress,
    /// Pages written through the cache are sent to the disk as they come.
    write_back: bool,
}

impl<'a> ChunkFile<'a> {
    /// Creates the file, past the page cache if wished and possible, and writes `head` to its start, padded.
    pub fn create(
        storage: &dyn Storage,
        path: &Path,
        direct: bool,
        head: &[u8],
        padding: &'a dyn Padding,
        progress: &'a Progress,
    ) -> io::Result<(ChunkFile<'a>, Vec<u8>)> {
        if direct {
            let mut buffer = ChunkBuffer::new();
            buffer.bytes.extend_from_slice(head);
            buffer.pad(padding);
            let created = storage.open(path, Open::CreateDirect).and_then(|file| {
                write_all_at(&*file, buffer.contents(), 0)?;
                Ok(file)
            });
            // Some file systems refuse the flag, some only the write.
            match created {
                Ok(file) => {
                    return Ok((
                        Self::over(file, true, buffer.contents(), padding, progress),
                        buffer.take(),
                    ))
                }
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => {}
                Err(e) => return Err(e),
            }
        }
        let file = storage.open(path, Open::Create)?;
        write_all_at(&*file, head, 0)?;
        Ok((
            Self::over(file, false, head, padding, progress),
            head.to_vec(),
        ))
    }

    fn over(
        file: Arc<dyn StorageFile>,
        direct: bool,
        head: &[u8],
        padding: &'a dyn Padding,
        progress: &'a Progress,
    ) -> Self {
        let next_offset = AtomicU64::new(head.len() as u64);
        ChunkFile {
            file,
            direct,
            next_offset,
            failed: AtomicBool::new(false),
            padding,
            progress,
            write_back: true,
        }
    }

    /// Whether what goes through the page cache is sent to the disk piece by piece; else all at the end.
    pub fn set_write_back(&mut self, piecewise: bool) {
        self.write_back = piecewise;
    }

    /// Where the next chunk would begin: after all writers are done, the end.
    pub fn end(&self) -> u64 {
        self.next_offset.load(SeqCst)
    }

    fn reserve(&self, len: u64) -> u64 {
        self.next_offset.fetch_add(len, SeqCst)
    }

    /// Tells the other writers to stop.
    pub fn fail(&self) {
        self.failed.store(true, Relaxed);
    }

    pub fn has_failed(&self) -> bool {
        self.failed.load(Relaxed)
    }

    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        write_all_at(&*self.file, bytes, offset)?;
        if !self.direct && self.write_back {
            self.file.write_back(offset, bytes.len() as u64);
        }
        self.progress.add(0, bytes.len() as u64);
        Ok(())
    }
}

/// A vector of fixed capacity whose contents, behind a filling of less than a block, begin at a multiple of a block.
struct ChunkBuffer {
    bytes: Vec<u8>,
    front: usize,
}

impl ChunkBuffer {
    fn new() -> Self {
        let mut bytes: Vec<u8> = Vec::with_capacity(CHUNK_BYTES_MAX + 3 * BLOCK_BYTES as usize);
        let front = (bytes.as_ptr() as usize).wrapping_neg() & (BLOCK_BYTES as usize - 1);
        bytes.resize(front, 0);
        ChunkBuffer { bytes, front }
    }

    fn contents(&self) -> &[u8] {
        &self.bytes[self.front..]
    }

    fn len(&self) -> usize {
        self.bytes.len() - self.front
    }

    fn clear(&mut self) {
        self.bytes.truncate(self.front);
    }

    fn pad(&mut self, padding: &dyn Padding) {
        let bytes = padding.padding_for(self.len() as u64);
        padding.put(&mut self.bytes, bytes);
    }

    fn take(mut self) -> Vec<u8> {
        self.bytes.drain(..self.front);
        self.bytes
    }
}

/// One thread's writer.
pub struct ChunkWriter<'a> {
    shared: &'a ChunkFile<'a>,
    buffer: ChunkBuffer,
    keys: u64,
    shard: u32,
    pub written: Vec<Written>,
}

impl<'a> ChunkWriter<'a> {
    pub fn new(shared: &'a ChunkFile<'a>) -> Self {
        ChunkWriter {
            shared,
            buffer: ChunkBuffer::new(),
            keys: 0,
            shard: 0,
            written: Vec::new(),
        }
    }

    /// What follows belongs to this shard.
    pub fn set_shard(&mut self, shard: u32) -> io::Result<()> {
        self.flush()?;
        self.shard = shard;
        Ok(())
    }

    /// Nothing is in the chunk yet: a record that depends on what stood before must restate it.
    pub fn is_at_start(&self) -> bool {
        self.buffer.len() == 0
    }

    /// Adds what `encode` puts, which must be whole records. It is called with `fresh` set when it must stand by itself
    /// at the start of a chunk, and more than once if a first attempt did not fit.
    pub fn record(
        &mut self,
        keys: u64,
        encode: &mut dyn FnMut(&mut ChunkSink<'_>, bool) -> Result<(), Stop>,
    ) -> io::Result<()> {
        if self.shared.has_failed() {
            return Err(io::Error::other("another writer of the file failed"));
        }
        loop {
            let before = self.buffer.bytes.len();
            let fresh = self.is_at_start();
            // What is left of the capacity is for padding.
            let limit = self.buffer.front + CHUNK_BYTES_MAX;
            let chunk = Bounded {
                out: &mut self.buffer.bytes,
                limit,
            };
            match encode(&mut ChunkSink::Chunk(chunk), fresh) {
                Ok(()) => break,
                Err(Stop::Io(e)) => return Err(e),
                Err(Stop::Full) => self.buffer.bytes.truncate(before),
            }
            if fresh {
                return self.extent(keys, encode);
            }
            self.flush()?;
        }
        self.keys += keys;
        if self.buffer.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes the chunk, if there is anything in it.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.is_at_start() {
            return Ok(());
        }
        if self.shared.direct {
            self.buffer.pad(self.shared.padding);
        }
        let bytes = self.buffer.contents();
        let len = bytes.len() as u64;
        let offset = self.shared.reserve(len);
        let crc = crc::jones(bytes);
        self.shared.write(bytes, offset)?;
        self.written.push(Written {
            offset,
            len,
            keys: self.keys,
            crc,
            shard: self.shard,
        });
        self.shared.progress.add(self.keys, 0);
        self.keys = 0;
        self.buffer.clear();
        Ok(())
    }

    /// Streams a record into an extent of its own, through the empty chunk buffer.
    fn extent(
        &mut self,
        keys: u64,
        encode: &mut dyn FnMut(&mut ChunkSink<'_>, bool) -> Result<(), Stop>,
    ) -> io::Result<()> {
        let mut counter = Counter::default();
        let stopped = |stop| match stop {
            Stop::Io(e) => e,
            Stop::Full => io::Error::other("a sink without a limit was full"),
        };
        encode(&mut ChunkSink::Other(&mut counter), true).map_err(stopped)?;
        let padding = if self.shared.direct {
            self.shared.padding.padding_for(counter.0)
        } else {
            0
        };
        let len = counter.0 + padding;
        let offset = self.shared.reserve(len);
        let mut stream = Stream {
            shared: self.shared,
            buffer: &mut self.buffer,
            at: offset,
            end: offset + len,
            crc: Jones::default(),
        };
        encode(&mut ChunkSink::Other(&mut stream), true).map_err(stopped)?;
        let mut filling = Vec::new();
        self.shared.padding.put(&mut filling, padding);
        stream.put(&filling).map_err(stopped)?;
        stream.write_out()?;
        if stream.at != stream.end {
            return Err(io::Error::other(
                "a value had another length when it was written than when it was measured",
            ));
        }
        let crc = stream.crc.value();
        self.written.push(Written {
            offset,
            len,
            keys,
            crc,
            shard: self.shard,
        });
        self.shared.progress.add(keys, 0);
        Ok(())
    }
}

/// A chunk buffer used over and over.
pub struct Stream<'a> {
    shared: &'a ChunkFile<'a>,
    buffer: &'a mut ChunkBuffer,
    at: u64,
    end: u64,
    crc: Jones,
}

impl Stream<'_> {
    fn write_out(&mut self) -> io::Result<()> {
        let bytes = self.buffer.contents();
        if self.at + bytes.len() as u64 > self.end {
            return Err(io::Error::other(
                "a value grew between being measured and being written",
            ));
        }
        self.crc.update(bytes);
        self.shared.write(bytes, self.at)?;
        self.at += bytes.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl Sink for Stream<'_> {
    fn put(&mut self, mut bytes: &[u8]) -> Result<(), Stop> {
        while !bytes.is_empty() {
            let room = CHUNK_BYTES - self.buffer.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer.bytes.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == CHUNK_BYTES {
                self.write_out().map_err(Stop::Io)?;
            }
        }
        Ok(())
    }
}

/// What a record is encoded into: a chunk, as a rule.
pub enum ChunkSink<'a> {
    Chunk(Bounded<'a>),
    Other(&'a mut dyn Sink),
}

impl Sink for ChunkSink<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        match self {
            ChunkSink::Chunk(chunk) => chunk.put(bytes),
            ChunkSink::Other(sink) => sink.put(bytes),
        }
    }
}
