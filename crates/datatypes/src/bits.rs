//! Strings seen as arrays of bits, as SETBIT and its relatives see them.
//!
//! Bit 0 is the highest bit of the first byte. Bits behind the end of a string read as zero; nothing here grows one.

use std::ops::Range;

/// The bit at an offset.
pub fn get(bytes: &[u8], offset: u64) -> bool {
    let at = usize::try_from(offset >> 3).ok();
    at.and_then(|at| bytes.get(at))
        .is_some_and(|byte| byte & mask(offset) != 0)
}

/// Sets the bit at an offset that lies within the string.
pub fn set(bytes: &mut [u8], offset: u64, on: bool) {
    let byte = &mut bytes[(offset >> 3) as usize];
    if on {
        *byte |= mask(offset);
    } else {
        *byte &= !mask(offset);
    }
}

fn mask(offset: u64) -> u8 {
    0x80 >> (offset & 7)
}

/// The bits of a byte in front of an offset within it.
fn mask_before(offset: u64) -> u8 {
    !(0xff >> (offset & 7))
}

/// How many bits are set in a range that lies within the string.
pub fn count(bytes: &[u8], range: Range<u64>) -> u64 {
    if range.is_empty() {
        return 0;
    }
    let (first, last) = ((range.start >> 3) as usize, ((range.end - 1) >> 3) as usize);
    let before = bytes[first] & mask_before(range.start);
    let after = match range.end & 7 {
        0 => 0,
        _ => bytes[last] & !mask_before(range.end),
    };
    let (words, rest) = bytes[first..=last].as_chunks::<8>();
    let in_words: u64 = words
        .iter()
        .map(|word| u64::from(u64::from_ne_bytes(*word).count_ones()))
        .sum();
    let in_rest: u64 = rest.iter().map(|byte| u64::from(byte.count_ones())).sum();
    in_words + in_rest - u64::from(before.count_ones()) - u64::from(after.count_ones())
}

/// The offset of the first bit in a range within the string that is as wanted.
pub fn position(bytes: &[u8], on: bool, range: Range<u64>) -> Option<u64> {
    if range.is_empty() {
        return None;
    }
    let (first, last) = ((range.start >> 3) as usize, ((range.end - 1) >> 3) as usize);
    let unwanted = if on { 0 } else { 0xff };
    let head = (bytes[first] ^ unwanted) & !mask_before(range.start);
    let (at, wanted) = if head != 0 {
        (first, head)
    } else {
        let rest = &bytes[first + 1..=last];
        let (words, _) = rest.as_chunks::<8>();
        let skipped = words
            .iter()
            .take_while(|word| **word == [unwanted; 8])
            .count()
            * 8;
        let found = rest[skipped..].iter().position(|byte| *byte != unwanted)?;
        let at = first + 1 + skipped + found;
        (at, bytes[at] ^ unwanted)
    };
    let offset = (at as u64) * 8 + u64::from(wanted.leading_zeros());
    (offset < range.end).then_some(offset)
}

/// Bytes that a field of up to 64 bits reaches into, wherever it begins.
const WINDOW_BYTES: usize = 9;

/// The bytes around a field as one number, and how far to the left of its lowest bit the field ends.
fn window(bytes: &[u8], offset: u64, bits: u32) -> (u128, u32) {
    let start = usize::try_from(offset >> 3).unwrap_or(usize::MAX);
    let there = bytes.get(start..).unwrap_or_default();
    let len = there.len().min(WINDOW_BYTES);
    let mut padded = [0; 16];
    padded[..len].copy_from_slice(&there[..len]);
    (
        u128::from_be_bytes(padded),
        128 - (offset & 7) as u32 - bits,
    )
}

fn field_mask(bits: u32) -> u128 {
    (1 << bits) - 1
}

/// The unsigned number of 1 to 64 bits at an offset.
pub fn read_field(bytes: &[u8], offset: u64, bits: u32) -> u64 {
    let (window, shift) = window(bytes, offset, bits);
    ((window >> shift) & field_mask(bits)) as u64
}

/// Writes the lowest 1 to 64 bits of a number at an offset; the field lies within the string.
pub fn write_field(bytes: &mut [u8], offset: u64, bits: u32, value: u64) {
    let (window, shift) = window(bytes, offset, bits);
    let mask = field_mask(bits);
    let changed = window & !(mask << shift) | (u128::from(value) & mask) << shift;
    let there = &mut bytes[(offset >> 3) as usize..];
    let len = there.len().min(WINDOW_BYTES);
    there[..len].copy_from_slice(&changed.to_be_bytes()[..len]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    /// A string of random bytes, some of its stretches all zeros or all ones.
    fn string(rng: &mut Rng) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..rng.below(6) {
            let fill = [0, 0xff, rng.below(256) as u8][rng.below(3)];
            bytes.extend(std::iter::repeat_n(fill, rng.below(20)));
        }
        bytes
    }

    #[test]
    fn counts_and_positions_agree_with_looking_at_each_bit() {
        let mut rng = Rng::from_seed(7);
        for _ in 0..3000 {
            let bytes = string(&mut rng);
            let len = bytes.len() * 8;
            let (a, b) = (rng.below(len + 1) as u64, rng.below(len + 1) as u64);
            let range = a.min(b)..a.max(b);
            let ones = range.clone().filter(|&at| get(&bytes, at)).count() as u64;
            assert_eq!(count(&bytes, range.clone()), ones, "{bytes:?} {range:?}");
            for on in [false, true] {
                let first = range.clone().find(|&at| get(&bytes, at) == on);
                assert_eq!(
                    position(&bytes, on, range.clone()),
                    first,
                    "{bytes:?} {range:?} {on}"
                );
            }
        }
    }

    #[test]
    fn fields_agree_with_looking_at_each_bit() {
        let mut rng = Rng::from_seed(8);
        for _ in 0..3000 {
            let mut bytes = string(&mut rng);
            let bits = 1 + rng.below(64) as u32;
            let offset = rng.below(bytes.len() * 8 + 20) as u64;
            let each =
                (0..u64::from(bits)).fold(0, |n, i| n << 1 | u64::from(get(&bytes, offset + i)));
            assert_eq!(read_field(&bytes, offset, bits), each);
            let mut expected = bytes.clone();
            let needed = (offset + u64::from(bits)).div_ceil(8) as usize;
            bytes.resize(needed.max(bytes.len()), 0);
            expected.resize(bytes.len(), 0);
            let value = rng.next_u64();
            for i in 0..bits {
                set(
                    &mut expected,
                    offset + u64::from(i),
                    value >> (bits - 1 - i) & 1 != 0,
                );
            }
            write_field(&mut bytes, offset, bits, value);
            assert_eq!(bytes, expected);
        }
    }
}
