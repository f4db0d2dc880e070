//! The two checksums of the files: CRC-64/Jones (RDB files, DUMP payloads) and CRC-64/XZ (AOF seals).
//!
//! Jones is what Redis's readers verify; its combine lets chunks be checksummed apart and in any order. XZ guards only
//! what is ours to read. Both take the previous value first, so a checksum can be continued over several slices.

use crc_fast::{checksum_combine, CrcAlgorithm};

const JONES: CrcAlgorithm = CrcAlgorithm::Crc64Redis;

/// CRC-64/Jones of `bytes`.
pub fn jones(bytes: &[u8]) -> u64 {
    crc_fast::checksum(JONES, bytes)
}

/// CRC-64/Jones of two neighbours from that of each; `second_len` is the length in bytes of what `second` covers.
pub fn jones_combine(first: u64, second: u64, second_len: u64) -> u64 {
    if second_len == 0 {
        return first;
    }
    checksum_combine(JONES, first, second, second_len)
}

/// A CRC-64/Jones that grows.
pub struct Jones(crc_fast::Digest);

impl Default for Jones {
    fn default() -> Self {
        Jones(crc_fast::Digest::new(JONES))
    }
}

impl Jones {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn value(&self) -> u64 {
        self.0.finalize()
    }
}

/// A CRC-64/XZ that grows.
#[derive(Clone, Default)]
pub struct Xz(crc64fast::Digest);

impl Xz {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    pub fn value(&self) -> u64 {
        self.0.sum64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jones_is_the_polynomial_of_redis() {
        assert_eq!(jones(b"123456789"), 0xe9c6d914c4b8d9ca);
        assert_eq!(jones(b""), 0);
        let mut growing = Jones::default();
        growing.update(b"1234");
        growing.update(b"56789");
        assert_eq!(growing.value(), 0xe9c6d914c4b8d9ca);
    }

    #[test]
    fn jones_combines() {
        let bytes: Vec<u8> = (0..100_000u32).map(|i| ((i * 7) >> 3) as u8).collect();
        for at in [0, 1, 9, 4096, 65_537, 99_999, 100_000] {
            let (first, second) = bytes.split_at(at);
            assert_eq!(
                jones_combine(jones(first), jones(second), second.len() as u64),
                jones(&bytes)
            );
        }
    }

    #[test]
    fn xz_is_the_polynomial_of_xz() {
        let mut growing = Xz::default();
        growing.update(b"12345");
        growing.update(b"6789");
        assert_eq!(growing.value(), 0x995dc9bbdf1939fa);
    }
}
