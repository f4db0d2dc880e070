//! Heads and seals made right again, so that what a mutation did behind them is seen.
//!
//! A line of a segment that begins with `#HEAD ` or `#SEAL ` gets the length, position and checksum that belong to the
//! bytes before it; shard, generation, time, epoch and policy stay. Lines within arguments are taken for lines, which
//! breaks the command around them and does no other harm.

use keyspace::Lsn;
use persistence::aof::annotation::{chained, parse, put_head, put_seal, Annotation};
use persistence::crc::Xz;

pub fn renewed(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let (mut lsn, mut digest) = (0u64, Xz::default());
    // The block behind the last head or seal, in `out`.
    let mut block_from = 0;
    for line in bytes.split_inclusive(|&b| b == b'\n') {
        let text = line.strip_suffix(b"\r\n").unwrap_or(line);
        match parse(text) {
            Ok(Annotation::Head { id, lsn: at, .. }) => {
                lsn = at.0;
                digest = chained(put_head(&mut out, id, at));
                block_from = out.len();
            }
            Ok(Annotation::Seal { stamp, .. }) => {
                let len = (out.len() - block_from) as u64;
                lsn = lsn.wrapping_add(len);
                digest.update(&out[block_from..]);
                digest = chained(put_seal(&mut out, digest, len, Lsn(lsn), stamp));
                block_from = out.len();
            }
            _ => out.extend_from_slice(line),
        }
    }
    out
}

/// A journal of cuts whose last line is the checksum of what is before.
pub fn journal(bytes: &[u8]) -> Vec<u8> {
    let end = bytes.len().saturating_sub("crc 0123456789abcdef\n".len());
    let mut digest = Xz::default();
    digest.update(&bytes[..end]);
    let crc = format!("crc {:016x}\n", digest.value());
    [&bytes[..end], crc.as_bytes()].concat()
}
