//! The bytes of a ring.
//!
//! ```text
//! page 0   who it belongs to: lines of text, the last of them a checksum
//! page 1   slot 0: which file the ring's bytes belong to, and where
//! page 2   slot 1: the same; the valid one with the higher sequence counts
//! page 3   word 0: head, everything before it was handed to the file
//!          word 128: tail, behind the last byte that is *written*
//! page 4.. the data; position p lies at p mod its length
//! ```
//! A slot: sequence, position and offset at which the file's part begins (equal modulo 4096), length of the name, the name, CRC-64/XZ
//! of all that. Words are in the machine's byte order: a ring does not outlive the machine's uptime.

use super::memory::RingMemory;
use crate::crc::Xz;
use keyspace::ShardIndex;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

pub const PAGE: u64 = 4096;
pub(super) const HEADER_LEN: usize = 4 * PAGE as usize;
const HEAD: usize = 3 * PAGE as usize;
const TAIL: usize = HEAD + 128;
const NAME_LEN_MAX: usize = 255;
const SLOT_WORDS: usize = 4;
const SLOT_LEN: usize = SLOT_WORDS * 8 + NAME_LEN_MAX + 1;

/// The shortest and the longest data part.
pub const DATA_LEN_MIN: u64 = 64 << 10;
pub const DATA_LEN_MAX: u64 = 1 << 30;

/// Who a ring belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub run_id: String,
    pub boot_id: String,
    pub shard: ShardIndex,
    pub shard_count: u16,
    /// What tells the directory of the append-only files from all others, also when it was moved.
    pub dir_id: String,
    /// The manifest's path, absolute; for people, and to find out whether a ring was abandoned.
    pub manifest: PathBuf,
    pub data_len: u64,
}

impl Identity {
    /// The first page. An error says what cannot be put into it.
    pub(super) fn format(&self) -> Result<Vec<u8>, &'static str> {
        let mut page = format!(
            "basalt ring 1\nrun-id {}\nboot-id {}\nshard {} of {}\ndata {}\ndir-id {}\nmanifest ",
            self.run_id, self.boot_id, self.shard.0, self.shard_count, self.data_len, self.dir_id
        )
        .into_bytes();
        let manifest = self.manifest.as_os_str().as_bytes();
        if manifest.contains(&b'\n') {
            return Err("the path of the append-only files contains a line break");
        }
        page.extend_from_slice(manifest);
        page.push(b'\n');
        let mut crc = Xz::default();
        crc.update(&page);
        page.extend_from_slice(format!("crc {:016x}\n", crc.value()).as_bytes());
        if page.len() > PAGE as usize {
            return Err("the path of the append-only files is too long");
        }
        page.resize(PAGE as usize, 0);
        Ok(page)
    }

    pub(super) fn parse(page: &[u8]) -> Option<Identity> {
        let mut lines = page.split(|&b| b == b'\n');
        let mut crc = Xz::default();
        let mut next = |key: &str| -> Option<&[u8]> {
            let line = lines.next()?;
            let value = line.strip_prefix(key.as_bytes())?;
            if key != "crc " {
                crc.update(line);
                crc.update(b"\n");
                return Some(value);
            }
            (value == format!("{:016x}", crc.value()).as_bytes()).then_some(value)
        };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        next("basalt ring 1")?;
        let run_id = text(next("run-id ")?)?;
        let boot_id = text(next("boot-id ")?)?;
        let shard = text(next("shard ")?)?;
        let data_len = text(next("data ")?)?.parse().ok()?;
        let dir_id = text(next("dir-id ")?)?;
        let manifest = PathBuf::from(OsString::from_vec(next("manifest ")?.to_vec()));
        next("crc ")?;
        let (shard, shard_count) = shard.split_once(" of ")?;
        Some(Identity {
            run_id,
            boot_id,
            shard: ShardIndex(shard.parse().ok()?),
            shard_count: shard_count.parse().ok()?,
            dir_id,
            manifest,
            data_len,
        })
    }
}

/// Whose bytes a ring holds: those of a file in the directory of the append-only files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub sequence: u64,
    pub anchor: Anchor,
    pub name: OsString,
}

/// Which position of the ring is which offset of the file. Equal modulo [`PAGE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Anchor {
    pub position: u64,
    pub offset: u64,
}

impl Anchor {
    pub fn offset_of(self, position: u64) -> u64 {
        position
            .wrapping_sub(self.position)
            .wrapping_add(self.offset)
    }

    pub fn position_of(self, offset: u64) -> u64 {
        offset.wrapping_sub(self.offset).wrapping_add(self.position)
    }
}

pub(super) fn align_down(position: u64) -> u64 {
    position & !(PAGE - 1)
}

pub(super) fn align_up(position: u64) -> u64 {
    align_down(position + PAGE - 1)
}

/// The memory of one ring, with names for its parts.
pub(super) struct Layout {
    memory: RingMemory,
    data_len: u64,
}

impl Layout {
    /// Over memory whose first page is `identity`'s.
    pub fn new(memory: RingMemory, identity: &Identity) -> Result<Layout, &'static str> {
        let data_len = identity.data_len;
        if !data_len.is_power_of_two() || !(DATA_LEN_MIN..=DATA_LEN_MAX).contains(&data_len) {
            return Err("its length is none that a ring can have");
        }
        if memory.len() != total_len(data_len) {
            return Err("it is not as long as it says");
        }
        Ok(Layout { memory, data_len })
    }

    /// Over memory that was found.
    pub fn found(memory: RingMemory) -> Result<(Layout, Identity), &'static str> {
        if memory.len() < HEADER_LEN {
            return Err("it is too short to be a ring");
        }
        let page = memory.slice(0, PAGE as usize);
        let identity = Identity::parse(page).ok_or("it does not begin as a ring does")?;
        Ok((Layout::new(memory, &identity)?, identity))
    }

    pub fn data_len(&self) -> u64 {
        self.data_len
    }

    #[inline]
    pub fn head(&self) -> u64 {
        self.memory.load(HEAD)
    }

    #[inline]
    pub fn tail(&self) -> u64 {
        self.memory.load(TAIL)
    }

    pub fn set_head(&self, position: u64) {
        self.memory.store(HEAD, position);
    }

    #[inline]
    pub fn set_tail(&self, position: u64) {
        self.memory.store(TAIL, position);
    }

    /// Copies bytes in from a position on, around the end.
    #[inline]
    pub fn put(&self, position: u64, bytes: &[u8]) {
        let at = (position & (self.data_len - 1)) as usize;
        let first = bytes.len().min(self.data_len as usize - at);
        self.memory.put(HEADER_LEN + at, &bytes[..first]);
        if first < bytes.len() {
            self.memory.put(HEADER_LEN, &bytes[first..]);
        }
    }

    /// The bytes from a position on, up to `len` of them and not around the end.
    pub fn slice(&self, position: u64, len: u64) -> &[u8] {
        let at = position & (self.data_len - 1);
        let len = len.min(self.data_len - at);
        self.memory.slice(HEADER_LEN + at as usize, len as usize)
    }

    /// Makes a slot the one that counts. The other one stays, and counts as long as this one is not whole.
    pub fn publish(&self, slot: &Slot) {
        let at = slot_at(slot.sequence);
        let bytes = encode(slot);
        let (body, crc) = bytes.split_at(SLOT_LEN);
        self.memory.put(at, body);
        let crc = u64::from_ne_bytes(crc.try_into().expect("eight bytes"));
        self.memory.store(at + SLOT_LEN, crc);
    }

    /// The slot that counts.
    pub fn slot(&self) -> Option<Slot> {
        let slots = [0, 1].into_iter().filter_map(|sequence| {
            let bytes = self.memory.slice(slot_at(sequence), SLOT_LEN + 8);
            decode(bytes)
        });
        slots.max_by_key(|slot| slot.sequence)
    }
}

pub(super) fn total_len(data_len: u64) -> usize {
    HEADER_LEN + data_len as usize
}

fn slot_at(sequence: u64) -> usize {
    (1 + (sequence & 1) as usize) * PAGE as usize
}

/// Whether a file of this name can be a ring's.
pub(super) fn fits(name: &OsStr) -> bool {
    !name.is_empty() && name.len() <= NAME_LEN_MAX
}

fn encode(slot: &Slot) -> Vec<u8> {
    let name = slot.name.as_bytes();
    let words = [
        slot.sequence,
        slot.anchor.position,
        slot.anchor.offset,
        name.len() as u64,
    ];
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    bytes.extend_from_slice(name);
    bytes.resize(SLOT_LEN, 0);
    let mut crc = Xz::default();
    crc.update(&bytes);
    bytes.extend_from_slice(&crc.value().to_ne_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Slot> {
    let (body, crc) = bytes.split_at_checked(SLOT_LEN)?;
    let mut expected = Xz::default();
    expected.update(body);
    if crc != expected.value().to_ne_bytes() {
        return None;
    }
    let word = |i: usize| body[i * 8..i * 8 + 8].try_into().map(u64::from_ne_bytes);
    let name_len = word(3).ok()? as usize;
    let name = body[SLOT_WORDS * 8..].get(..name_len)?;
    let anchor = Anchor {
        position: word(1).ok()?,
        offset: word(2).ok()?,
    };
    if !fits(OsStr::from_bytes(name)) || !(anchor.position ^ anchor.offset).is_multiple_of(PAGE) {
        return None;
    }
    Some(Slot {
        sequence: word(0).ok()?,
        anchor,
        name: OsString::from_vec(name.to_vec()),
    })
}

/// The file of a shard's ring.
pub fn ring_path(prefix: &Path, shard: ShardIndex) -> PathBuf {
    let mut name = prefix.as_os_str().to_owned();
    name.push(format!(".{}.ring", shard.0));
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            run_id: "5".repeat(40),
            boot_id: "7f0c-51ab".into(),
            shard: ShardIndex(3),
            shard_count: 8,
            dir_id: "2049:77".into(),
            manifest: "/var/lib/some where/appendonly.aof.manifest".into(),
            data_len: DATA_LEN_MIN,
        }
    }

    #[test]
    fn an_identity_is_read_back_and_any_flipped_bit_is_noticed() {
        let page = identity().format().unwrap();
        assert_eq!(Identity::parse(&page), Some(identity()));
        let end = page.iter().position(|&b| b == 0).unwrap();
        for bit in 0..end * 8 {
            let mut damaged = page.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(Identity::parse(&damaged), Some(identity()), "bit {bit}");
        }
        let long = Identity {
            manifest: "x".repeat(4000).into(),
            ..identity()
        };
        assert!(long.format().is_err());
    }

    #[test]
    fn a_slot_is_read_back_and_any_flipped_bit_is_noticed() {
        let slot = Slot {
            sequence: 7,
            anchor: Anchor {
                position: 8192 + 5,
                offset: 5,
            },
            name: "appendonly.aof.3.incr.aof".into(),
        };
        let bytes = encode(&slot);
        assert_eq!(decode(&bytes), Some(slot));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&damaged), None, "bit {bit}");
        }
        assert_eq!(decode(&vec![0; SLOT_LEN + 8]), None);
    }
}
