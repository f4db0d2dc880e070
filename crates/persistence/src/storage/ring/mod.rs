//! The *ring* write path: a segment's newest bytes stay in memory that outlives the process, and are written to the file
//! in large blocks, past the page cache.
//!
//! [`RingFile`] is a [`StorageFile`] like any other: `append` copies into the shard's [`Ring`] and makes no system call;
//! what it took is *written*, as by write(2): after kill -9 the next start takes it from the ring
//! ([`crate::aof::ring_recover`]). [`RingSet`] holds the rings of all shards and drains them.
//!
//! The file is at any moment an exact prefix of what was appended, without padding. Whole blocks of 4096 go out with
//! O_DIRECT; the rest of a block only when everything must be in the file (`flush`, `datasync`), through the page cache; the
//! direct write that completes the block later writes the same bytes again. So the ring's position and the file's offset
//! are equal modulo 4096, and a file is put behind a ring together with the beginning of its last block.
//!
//! A process can be killed between any two stores, and then a prefix of each thread's stores is there. Invariants:
//! 1. `tail` is stored behind the bytes before it: all of `head..tail` are whole.
//! 2. `head` is stored behind the write that handed the bytes before it to the file. The file may be ahead of `head`.
//! 3. Nothing from one page before `head`'s own page on is overwritten: what is to be handed over or is handed over again,
//!    and a page by which recovery recognises the file.
//! 4. A slot says which file the ring's bytes are of, and from where on; two slots take turns, so that one is always whole.
//!    The ring goes over to another file when nothing is pending: slot first, then head and tail, which until then
//!    lie before the slot's position, and are read as if they were there.
//!
//! Locks: the appender's, then the drain's. Draining neither allocates nor logs, so a fork may find it anywhere.

mod found;
pub mod layout;
mod memory;
pub mod probe;
mod set;
mod shm;
mod simulated;
#[cfg(test)]
mod tests;

pub use found::{FoundRing, Misfit};
pub use layout::{ring_path, Identity};
pub use memory::{RingMemory, RingStore};
pub use set::{RingDriver, RingPause, RingSet, RingSpec};
pub use shm::ShmRings;
pub use simulated::{RingChange, RingFaults, RingOperation, SimulatedRings};

use super::{read_full_at, Open, Storage, StorageFile};
use keyspace::ShardIndex;
use layout::{align_down, align_up, Anchor, Layout, Slot, PAGE};
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering::*};
use std::sync::{Arc, Mutex, MutexGuard};

/// The longest single write.
const CHUNK_BYTES_MAX: u64 = 1 << 20;
/// Less than this goes through the page cache when it has to go at once: a direct write costs a trip to the disk.
const DIRECT_BYTES_MIN: u64 = 64 << 10;

/// How far to drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// As long as there is enough for a large write.
    Bulk,
    /// All whole blocks.
    Blocks,
    /// Everything there is when it begins.
    All,
}

/// Told when draining a shard's ring begins to fail (an errno) and when it succeeds again (0). Runs within the drain: it
/// must not allocate, log or wait.
pub type OnTrouble = Arc<dyn Fn(ShardIndex, i32) + Send + Sync>;

/// A shard's ring.
pub struct Ring {
    layout: Layout,
    shard: ShardIndex,
    /// The most that is appended at once.
    usable: u64,
    /// Pending bytes from which on the driver is woken.
    wake_at: u64,
    appender: Mutex<Appender>,
    drain: Mutex<Draining>,
    /// The errno with which the last drain failed.
    errno: AtomicI32,
    on_trouble: OnTrouble,
    driver: set::Bell,
}

/// What the one who appends knows.
#[derive(Default)]
struct Appender {
    /// The attachment in force; 0: none.
    attachment: u64,
    anchor: Anchor,
    /// `head`, as it was when last looked at.
    head: u64,
    sequence: u64,
}

/// What the one who drains knows.
#[derive(Default)]
struct Draining {
    attachment: u64,
    anchor: Anchor,
    file: Option<Arc<dyn StorageFile>>,
    /// The same file past the page cache; absent where that is refused.
    direct: Option<Arc<dyn StorageFile>>,
}

/// Memory that the rings of so many shards take.
pub fn total_bytes(shard_count: u16, data_len: u64) -> u64 {
    u64::from(shard_count) * layout::total_len(data_len) as u64
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A file that is about to be put behind a ring.
pub struct Prepared {
    file: Arc<dyn StorageFile>,
    direct: Option<Arc<dyn StorageFile>>,
    len: u64,
    /// From the beginning of the last block on, if it is not full.
    partial: Vec<u8>,
    name: std::ffi::OsString,
}

impl Prepared {
    /// Opens a file of `len` bytes, past the page cache as well if `direct` and the file system allow.
    pub fn open(storage: &dyn Storage, path: &Path, len: u64, direct: bool) -> io::Result<Self> {
        let name = path.file_name().filter(|name| layout::fits(name));
        let name = name.ok_or(io::ErrorKind::InvalidFilename)?.to_owned();
        let file = storage.open(path, Open::Write)?;
        if file.len()? != len {
            return Err(io::Error::other("the file is not as long as it should be"));
        }
        let partial = read_partial(&*file, len)?;
        let direct = match direct.then(|| storage.open(path, Open::WriteDirect)) {
            Some(Ok(file)) => Some(file),
            Some(Err(e)) if e.kind() != io::ErrorKind::InvalidInput => return Err(e),
            _ => None,
        };
        Ok(Prepared {
            file,
            direct,
            len,
            partial,
            name,
        })
    }
}

fn read_partial(file: &dyn StorageFile, len: u64) -> io::Result<Vec<u8>> {
    let mut partial = vec![0; (len - align_down(len)) as usize];
    if read_full_at(file, &mut partial, align_down(len))? != partial.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(partial)
}

impl Ring {
    fn new(layout: Layout, shard: ShardIndex, on_trouble: OnTrouble) -> Ring {
        let data_len = layout.data_len();
        Ring {
            usable: data_len - 2 * PAGE,
            wake_at: (data_len / 4).min(CHUNK_BYTES_MAX),
            layout,
            shard,
            appender: Mutex::default(),
            drain: Mutex::default(),
            errno: AtomicI32::new(0),
            on_trouble,
            driver: set::Bell::default(),
        }
    }

    /// Bytes that are *written* and not yet handed to the file.
    pub fn pending_bytes(&self) -> u64 {
        let head = self.layout.head();
        self.layout.tail().saturating_sub(head)
    }

    /// Why the last drain failed, if it did.
    pub fn error(&self) -> Option<io::Error> {
        match self.errno.load(Acquire) {
            0 => None,
            errno => Some(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Puts a file in force. Everything of the one before must have been made durable, and nothing appended since:
    /// otherwise an error, and all is as before.
    pub fn attach(self: &Arc<Self>, prepared: Prepared) -> io::Result<Arc<RingFile>> {
        let mut appender = locked(&self.appender);
        let mut draining = locked(&self.drain);
        if self.pending_bytes() > 0 {
            return Err(io::Error::other("the ring is not drained"));
        }
        let Prepared {
            file,
            direct,
            len,
            partial,
            name,
        } = prepared;
        self.anchor(&mut appender, &partial, len, &name);
        appender.attachment += 1;
        *draining = Draining {
            attachment: appender.attachment,
            anchor: appender.anchor,
            file: Some(file.clone()),
            direct,
        };
        drop(draining);
        Ok(Arc::new(RingFile {
            ring: self.clone(),
            attachment: appender.attachment,
            file,
            name,
        }))
    }

    /// Begins anew behind everything that was in the ring, at an offset of a file whose last block begins with
    /// `partial`. Nothing that is pending counts any more.
    fn anchor(&self, appender: &mut Appender, partial: &[u8], offset: u64, name: &std::ffi::OsStr) {
        let base = align_up(self.layout.tail().max(self.layout.head()));
        self.layout.put(base, partial);
        let position = base + partial.len() as u64;
        appender.anchor = Anchor { position, offset };
        appender.sequence += 1;
        self.layout.publish(&Slot {
            sequence: appender.sequence,
            anchor: appender.anchor,
            name: name.to_owned(),
        });
        self.layout.set_head(position);
        self.layout.set_tail(position);
        appender.head = position;
    }

    /// How much may be appended behind `tail` (invariant 3).
    fn room(&self, head: u64, tail: u64) -> u64 {
        (align_down(head) + self.layout.data_len() - PAGE).saturating_sub(tail)
    }

    fn append(&self, attachment: u64, bytes: &[u8]) -> io::Result<usize> {
        let mut appender = locked(&self.appender);
        if appender.attachment != attachment {
            return Err(io::Error::other("another file is behind the ring now"));
        }
        let mut wanted = bytes.len() as u64;
        if wanted > self.usable {
            // In pieces, as write(2) may do it.
            wanted = self.usable / 2;
        }
        let tail = self.layout.tail();
        while self.room(appender.head, tail) < wanted {
            appender.head = self.layout.head();
            if self.room(appender.head, tail) < wanted {
                self.drain(Drain::Blocks)?;
            }
        }
        self.layout.put(tail, &bytes[..wanted as usize]);
        let tail = tail + wanted;
        self.layout.set_tail(tail);
        if tail - appender.head >= self.wake_at {
            appender.head = self.layout.head();
            if tail - appender.head >= self.wake_at {
                self.driver.ring();
            }
        }
        Ok(wanted as usize)
    }

    /// Hands pending bytes to the file. True if it wrote anything. An error is remembered until the next drain.
    pub fn drain(&self, how: Drain) -> io::Result<bool> {
        let draining = &mut locked(&self.drain);
        self.drain_locked(draining, how)
    }

    fn drain_locked(&self, draining: &mut Draining, how: Drain) -> io::Result<bool> {
        let result = self.write_out(draining, how);
        let errno = match &result {
            // There was not enough to try anything: whether it would go well is not known.
            Ok(false) if self.pending_bytes() > 0 => return result,
            Ok(_) => 0,
            Err(error) => error.raw_os_error().unwrap_or(libc::EIO),
        };
        if self.errno.swap(errno, SeqCst) != errno {
            (self.on_trouble)(self.shard, errno);
        }
        result
    }

    fn write_out(&self, draining: &mut Draining, how: Drain) -> io::Result<bool> {
        let target = self.layout.tail();
        let mut wrote = false;
        loop {
            let head = self.layout.head();
            let pending = target.saturating_sub(head);
            let enough = match how {
                Drain::Bulk => pending >= self.wake_at / 2,
                Drain::Blocks => align_down(target) > head,
                Drain::All => pending > 0,
            };
            let Some(file) = draining.file.as_ref().filter(|_| enough) else {
                return Ok(wrote);
            };
            let whole = align_down(target) > head;
            let direct = draining.direct.as_ref().filter(|_| {
                whole && (how != Drain::All || align_down(target) - head >= DIRECT_BYTES_MIN)
            });
            let (file, from, until) = match direct {
                Some(direct) => (direct, align_down(head), align_down(target)),
                None if how == Drain::All => (file, head, target),
                None => (file, head, align_down(target)),
            };
            let bytes = self.layout.slice(from, (until - from).min(CHUNK_BYTES_MAX));
            let written = match file.write_at(bytes, draining.anchor.offset_of(from)) {
                Ok(n) => from + n as u64,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == io::ErrorKind::InvalidInput && direct.is_some() => {
                    draining.direct = None;
                    continue;
                }
                Err(e) => return Err(e),
            };
            if written <= head {
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
            self.layout.set_head(written);
            wrote = true;
        }
    }

    /// Hands everything to the file of this attachment; nothing to do where another one is in force, which began with
    /// the ring empty.
    fn flush(&self, attachment: u64) -> io::Result<()> {
        let draining = &mut locked(&self.drain);
        if draining.attachment != attachment {
            return Ok(());
        }
        self.drain_locked(draining, Drain::All).map(|_| ())
    }

    fn truncate(&self, file: &RingFile, len: u64) -> io::Result<()> {
        let mut appender = locked(&self.appender);
        if appender.attachment != file.attachment {
            return Err(io::Error::other("another file is behind the ring now"));
        }
        let mut draining = locked(&self.drain);
        let end = appender.anchor.offset_of(self.layout.tail());
        if len > end {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let position = appender.anchor.position_of(len);
        if len >= appender.anchor.offset_of(self.layout.head()) {
            self.layout.set_tail(position);
            return Ok(());
        }
        let partial = read_partial(&*file.file, len)?;
        // What is pending does not count any more. Until the file is cut as well, it ends within what is being undone.
        self.anchor(&mut appender, &partial, len, &file.name);
        draining.anchor = appender.anchor;
        file.file.truncate(len)
    }

    fn end_offset(&self, attachment: u64) -> Option<u64> {
        let appender = locked(&self.appender);
        (appender.attachment == attachment).then(|| appender.anchor.offset_of(self.layout.tail()))
    }
}

/// A file behind a ring, until the ring goes over to another one; from then on, the plain file.
pub struct RingFile {
    ring: Arc<Ring>,
    attachment: u64,
    file: Arc<dyn StorageFile>,
    name: std::ffi::OsString,
}

impl StorageFile for RingFile {
    /// All of `bytes`, unless they are longer than the ring; blocks while there is no room for them. An error means that
    /// there is none and none can be made.
    fn append(&self, bytes: &[u8]) -> io::Result<usize> {
        self.ring.append(self.attachment, bytes)
    }

    /// Refused: the bytes may not be in the file yet.
    fn write_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        self.flush()?;
        self.file.read_at(into, offset)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.ring.truncate(self, len)
    }

    fn flush(&self) -> io::Result<()> {
        self.ring.flush(self.attachment)
    }

    fn datasync(&self) -> io::Result<()> {
        self.flush()?;
        self.file.datasync()
    }

    fn write_back(&self, offset: u64, len: u64) {
        self.file.write_back(offset, len);
    }

    fn len(&self) -> io::Result<u64> {
        match self.ring.end_offset(self.attachment) {
            Some(len) => Ok(len),
            None => self.file.len(),
        }
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.file.fd()
    }
}
