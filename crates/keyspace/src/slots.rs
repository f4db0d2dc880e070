//! From a key to its hash slot and shard: CRC16 (XMODEM) of the key or its hash tag, modulo
//! 16384, as the Redis Cluster specification has it. Shards hold contiguous ranges of slots.

use crate::types::{HashSlot, ShardIndex};

pub const HASH_SLOTS: usize = 16384;

const TABLES: [[u16; 256]; 8] = tables();

/// `TABLES[k][b]` is the CRC of byte `b` followed by `k` zero bytes, so that eight bytes are
/// folded in by eight independent look-ups.
const fn tables() -> [[u16; 256]; 8] {
    let mut tables = [[0u16; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 {
                (crc << 1) ^ 0x1021
            } else {
                crc << 1
            };
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut k = 1;
    while k < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[k - 1][byte];
            tables[k][byte] = (before << 8) ^ tables[0][(before >> 8) as usize];
            byte += 1;
        }
        k += 1;
    }
    tables
}

fn crc16(bytes: &[u8]) -> u16 {
    let mut crc = 0u16;
    let mut chunks = bytes.chunks_exact(8);
    for c in &mut chunks {
        crc = TABLES[7][usize::from(c[0] ^ (crc >> 8) as u8)]
            ^ TABLES[6][usize::from(c[1] ^ crc as u8)]
            ^ TABLES[5][usize::from(c[2])]
            ^ TABLES[4][usize::from(c[3])]
            ^ TABLES[3][usize::from(c[4])]
            ^ TABLES[2][usize::from(c[5])]
            ^ TABLES[1][usize::from(c[6])]
            ^ TABLES[0][usize::from(c[7])];
    }
    for &byte in chunks.remainder() {
        crc = (crc << 8) ^ TABLES[0][usize::from((crc >> 8) as u8 ^ byte)];
    }
    crc
}

/// The part of a key that decides its slot: what stands between the first `{` and the next
/// `}`, unless that is empty; else the whole key.
fn hash_tag(key: &[u8]) -> &[u8] {
    let Some(open) = key.iter().position(|&b| b == b'{') else {
        return key;
    };
    match key[open + 1..].iter().position(|&b| b == b'}') {
        Some(length) if length > 0 => &key[open + 1..open + 1 + length],
        _ => key,
    }
}

/// The hash slot of a key.
pub fn hash_slot(key: &[u8]) -> HashSlot {
    HashSlot(crc16(hash_tag(key)) % HASH_SLOTS as u16)
}

/// How the hash slots are divided among shards.
#[derive(Clone, Copy, Debug)]
pub struct SlotMap {
    shards: u16,
}

impl SlotMap {
    /// # Panics
    /// Unless there is at least one shard, and no more than slots.
    pub fn new(shards: u16) -> Self {
        assert!((1..=HASH_SLOTS as u16).contains(&shards));
        SlotMap { shards }
    }

    pub fn shards(&self) -> u16 {
        self.shards
    }

    pub fn shard_of_slot(&self, slot: HashSlot) -> ShardIndex {
        ShardIndex((u32::from(slot.0) * u32::from(self.shards) / HASH_SLOTS as u32) as u16)
    }

    #[inline]
    pub fn shard_of(&self, key: &[u8]) -> ShardIndex {
        if self.shards == 1 {
            return ShardIndex(0);
        }
        self.shard_of_slot(hash_slot(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_is_the_specifications() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        let text: Vec<u8> = (0..100u8).collect();
        for length in 0..text.len() {
            let slow = text[..length].iter().fold(0u16, |crc, &byte| {
                (crc << 8) ^ TABLES[0][usize::from((crc >> 8) as u8 ^ byte)]
            });
            assert_eq!(crc16(&text[..length]), slow, "{length} bytes");
        }
    }

    #[test]
    fn slots_agree_with_cluster_keyslot() {
        // Replies of CLUSTER KEYSLOT on a real server.
        let check = |key: &[u8], slot| assert_eq!(hash_slot(key), HashSlot(slot), "{key:?}");
        check(b"foo", 12182);
        check(b"somekey", 11058);
        check(b"foo{hash_tag}", 2515);
        check(b"{user1000}.following", 3443);
        check(b"", 0);
        check(b"foo{}{bar}", 8363);
        check(b"foo{{bar}}zap", 4015);
        check(b"foo{bar}{zap}", 5061);
    }

    #[test]
    fn shards_hold_contiguous_and_even_ranges() {
        for shards in [1, 2, 3, 8, 1000] {
            let map = SlotMap::new(shards);
            let mut counts = vec![0; usize::from(shards)];
            let mut last = 0;
            for slot in 0..HASH_SLOTS as u16 {
                let ShardIndex(shard) = map.shard_of_slot(HashSlot(slot));
                assert!(shard == last || shard == last + 1);
                last = shard;
                counts[usize::from(shard)] += 1;
            }
            let (least, most) = (counts.iter().min(), counts.iter().max());
            assert!(
                least.zip(most).is_some_and(|(a, b)| b - a <= 1),
                "{shards} shards"
            );
        }
    }
}
