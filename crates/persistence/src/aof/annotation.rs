//! The text of our comment lines in a segment.
//!
//! ```text
//! #HEAD 1 <shard> <shard count> <generation> <lsn> <crc>\r\n           first line of a segment
//! #SEAL <block length> <lsn after> <unix ms> <epoch> <a|e|n> <crc>\r\n  behind each block
//! #TXN <id> <shard>,<shard>...\r\n                                      before the MULTI of a cross-shard transaction
//! #TS:<unix seconds>\r\n                                                Redis's own timestamps
//! ```
//! Decimal numbers, checksums of sixteen hexadecimal digits. A checksum is CRC-64/XZ over: the previous checksum of the
//! file (eight bytes, little-endian; a head has none), the bytes since the line that carries it, and its own line up to
//! and with the space before it. Padding lines of base files are `#` followed by dashes.
//! Invariant: stock servers skip a line that starts with `#` and has fewer than [`LINE_LEN_MAX`] bytes.

use super::{SegmentId, Stamp};
use crate::crc::Xz;
use crate::storage::sync::SyncPolicy;
use keyspace::{Lsn, ShardIndex};

/// No annotation reaches this length; a longer comment line is damage.
pub const LINE_LEN_MAX: usize = 1000;

/// Positions, epochs and generations beyond this are no server's: they can be counted on without overflow.
pub const COUNTER_MAX: u64 = i64::MAX as u64;

/// A comment line, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Annotation {
    Head {
        id: SegmentId,
        lsn: Lsn,
        crc: u64,
    },
    Seal {
        block_len: u64,
        lsn: Lsn,
        stamp: Stamp,
        crc: u64,
    },
    Transaction(Transaction),
    /// Unix seconds.
    Timestamp(i64),
    /// Somebody else's, or padding.
    Other,
}

/// A transaction over several shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Unique within the data directory.
    pub id: u64,
    /// Ascending.
    pub participants: Vec<ShardIndex>,
}

fn put_number(out: &mut Vec<u8>, n: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
    out.push(b' ');
}

fn put_crc_and_end(out: &mut Vec<u8>, crc: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for shift in (0..64).step_by(4).rev() {
        out.push(DIGITS[(crc >> shift & 15) as usize]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends a head line; returns its checksum.
pub fn put_head(out: &mut Vec<u8>, id: SegmentId, lsn: Lsn) -> u64 {
    let from = out.len();
    out.extend_from_slice(b"#HEAD 1 ");
    put_number(out, id.shard.0);
    put_number(out, id.shard_count);
    put_number(out, id.generation);
    put_number(out, lsn.0);
    let mut crc = Xz::default();
    crc.update(&out[from..]);
    put_crc_and_end(out, crc.value());
    crc.value()
}

/// Appends the seal line of a block of `block_len` bytes whose digest, started with the previous checksum, is `digest`;
/// returns the new checksum.
pub fn put_seal(out: &mut Vec<u8>, mut digest: Xz, block_len: u64, lsn: Lsn, stamp: Stamp) -> u64 {
    let from = out.len();
    out.extend_from_slice(b"#SEAL ");
    put_number(out, block_len);
    put_number(out, lsn.0);
    put_number(out, stamp.unix_ms);
    put_number(out, stamp.epoch);
    out.extend_from_slice(match stamp.policy {
        SyncPolicy::Always => b"a ",
        SyncPolicy::EverySecond => b"e ",
        SyncPolicy::No => b"n ",
    });
    digest.update(&out[from..]);
    let crc = digest.value();
    put_crc_and_end(out, crc);
    crc
}

/// The digest a block starts from.
pub fn chained(previous_crc: u64) -> Xz {
    let mut digest = Xz::default();
    digest.update(&previous_crc.to_le_bytes());
    digest
}

/// Appends the line that goes before the MULTI of a transaction over several shards. The ids of as many participants
/// as a process may have fit into the line.
pub fn put_transaction(out: &mut Vec<u8>, id: u64, participants: &[ShardIndex]) {
    out.extend_from_slice(b"#TXN ");
    put_number(out, id);
    for (i, shard) in participants.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(itoa::Buffer::new().format(shard.0).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends Redis's timestamp line (`aof-timestamp-enabled`).
pub fn put_timestamp(out: &mut Vec<u8>, unix_seconds: i64) {
    out.extend_from_slice(b"#TS:");
    out.extend_from_slice(itoa::Buffer::new().format(unix_seconds).as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Reads a line (with its `#`, without its end). A line of ours that is not well formed is an error that says why.
pub fn parse(line: &[u8]) -> Result<Annotation, &'static str> {
    let text = match std::str::from_utf8(line) {
        Ok(text) => text,
        Err(_) => return Ok(Annotation::Other),
    };
    if let Some(seconds) = text.strip_prefix("#TS:") {
        return Ok(seconds
            .parse()
            .map_or(Annotation::Other, Annotation::Timestamp));
    }
    let mut words = text.split(' ');
    match words.next() {
        Some("#SEAL") => parse_seal(words).ok_or("malformed seal"),
        Some("#HEAD") => parse_head(words).ok_or("malformed head, or one of a later format"),
        Some("#TXN") => parse_transaction(words).ok_or("malformed transaction line"),
        _ => Ok(Annotation::Other),
    }
}

type Words<'a> = std::str::Split<'a, char>;

fn number<T: std::str::FromStr>(words: &mut Words<'_>) -> Option<T> {
    words.next()?.parse().ok()
}

fn counter(words: &mut Words<'_>) -> Option<u64> {
    number(words).filter(|&n| n <= COUNTER_MAX)
}

fn last_crc(mut words: Words<'_>) -> Option<u64> {
    // As they are written: a letter of the other case is a flipped bit, and no byte covers the checksum itself.
    let is_written = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let digits = words.next()?;
    if digits.len() != 16 || !digits.bytes().all(is_written) {
        return None;
    }
    words
        .next()
        .is_none()
        .then(|| u64::from_str_radix(digits, 16).ok())?
}

fn parse_head(mut words: Words<'_>) -> Option<Annotation> {
    if words.next()? != "1" {
        return None;
    }
    let shard = ShardIndex(number(&mut words)?);
    let shard_count = number(&mut words)?;
    let generation = counter(&mut words)?;
    let lsn = Lsn(counter(&mut words)?);
    let id = SegmentId {
        shard,
        shard_count,
        generation,
    };
    Some(Annotation::Head {
        id,
        lsn,
        crc: last_crc(words)?,
    })
}

fn parse_seal(mut words: Words<'_>) -> Option<Annotation> {
    let block_len = counter(&mut words)?;
    let lsn = Lsn(counter(&mut words)?);
    let unix_ms = number(&mut words)?;
    let epoch = counter(&mut words)?;
    let policy = match words.next()? {
        "a" => SyncPolicy::Always,
        "e" => SyncPolicy::EverySecond,
        "n" => SyncPolicy::No,
        _ => return None,
    };
    let stamp = Stamp {
        unix_ms,
        epoch,
        policy,
    };
    Some(Annotation::Seal {
        block_len,
        lsn,
        stamp,
        crc: last_crc(words)?,
    })
}

fn parse_transaction(mut words: Words<'_>) -> Option<Annotation> {
    let id = counter(&mut words)?;
    let participants: Option<Vec<_>> = words
        .next()?
        .split(',')
        .map(|shard| shard.parse().ok().map(ShardIndex))
        .collect();
    Some(Annotation::Transaction(Transaction {
        id,
        participants: participants?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_back(line: &[u8]) -> Annotation {
        let line = line.strip_suffix(b"\r\n").expect("a line ends with CRLF");
        assert!(line.len() < LINE_LEN_MAX);
        parse(line).expect("our own line")
    }

    #[test]
    fn lines_read_back() {
        let id = SegmentId {
            shard: ShardIndex(3),
            shard_count: 8,
            generation: 12,
        };
        let mut out = Vec::new();
        let crc = put_head(&mut out, id, Lsn(COUNTER_MAX));
        assert_eq!(
            read_back(&out),
            Annotation::Head {
                id,
                lsn: Lsn(COUNTER_MAX),
                crc
            }
        );

        let stamp = Stamp {
            unix_ms: -5,
            epoch: COUNTER_MAX,
            policy: SyncPolicy::Always,
        };
        out.clear();
        let crc = put_seal(&mut out, chained(crc), 77, Lsn(100), stamp);
        assert_eq!(
            read_back(&out),
            Annotation::Seal {
                block_len: 77,
                lsn: Lsn(100),
                stamp,
                crc
            }
        );

        out.clear();
        let participants: Vec<_> = (0..128).map(ShardIndex).collect();
        put_transaction(&mut out, 9, &participants);
        assert_eq!(
            read_back(&out),
            Annotation::Transaction(Transaction {
                id: 9,
                participants
            })
        );

        out.clear();
        put_timestamp(&mut out, 1_700_000_000);
        assert_eq!(out, b"#TS:1700000000\r\n");
        assert_eq!(read_back(&out), Annotation::Timestamp(1_700_000_000));
    }

    #[test]
    fn foreign_lines_pass_and_broken_ones_do_not() {
        for line in ["#", "# a comment", "#TS:x", "#----", "#SEALED 1"] {
            assert_eq!(parse(line.as_bytes()), Ok(Annotation::Other), "{line}");
        }
        assert_eq!(parse(b"#\xff\xfe"), Ok(Annotation::Other));
        for line in [
            "#SEAL",
            "#SEAL 1 2 3 4 x 0123456789abcdef",
            "#SEAL 1 2 3 4 a 0123",
            "#SEAL 1 2 3 4 a 0123456789abcdeF",
            "#SEAL 1 9223372036854775808 3 4 a 0123456789abcdef",
            "#HEAD 2 0 1 1 0 0123456789abcdef",
            "#HEAD 1 0 1 9223372036854775808 0 0123456789abcdef",
            "#TXN 1",
            "#TXN 1 a,b",
            "#SEAL 1 2 3 4 a 0123456789abcdef more",
        ] {
            assert!(parse(line.as_bytes()).is_err(), "{line}");
        }
    }
}
