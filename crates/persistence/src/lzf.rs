//! LZF, the compression of strings in RDB files.
//!
//! The compressor is ours: one hash table, reused for every string without being cleared, and a result only where
//! it saves at least [`SAVED_BYTES_MIN`]. The decompressor is crate `lzf`, called only after the length that the
//! header claims has been found possible, because it allocates that length at once.
//!
//! Format: a control byte below 32 announces `control + 1` literal bytes. Otherwise its top three bits are a match
//! length minus two (7: one more byte is added to it), its low five bits and the byte after that the distance minus one.

/// Strings up to this length are stored as they are.
pub const LEN_UNCOMPRESSED_MAX: usize = 20;
/// A compressed form must be this much shorter than the string.
pub const SAVED_BYTES_MIN: usize = 4;

const MATCH_LEN_MAX: usize = 264;
const MATCH_LEN_MIN: usize = 4;
const DISTANCE_MAX: usize = 8192;
const LITERALS_MAX: usize = 32;
const TABLE_BITS: u32 = 13;
/// Three bytes yield at most 264; a few bytes of slack for the literals at the ends.
pub const EXPANSION_MAX: u64 = 88;

/// A compressor with its table. Positions are stored plus `base`, which moves past each input, so what earlier inputs
/// left in the table is recognised as old without clearing 32 KiB per string.
pub struct Compressor {
    table: Vec<u32>,
    base: u32,
}

impl Default for Compressor {
    fn default() -> Self {
        Self::new()
    }
}

impl Compressor {
    pub fn new() -> Self {
        Compressor {
            table: vec![0; 1 << TABLE_BITS],
            base: 1,
        }
    }

    /// Appends the compressed form of `input` to `out` and returns its length, or leaves `out` as it was and returns
    /// `None` if that would not save [`SAVED_BYTES_MIN`] bytes (or the input is longer than 1 GiB).
    pub fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        if input.len() <= LEN_UNCOMPRESSED_MAX || input.len() > 1 << 30 {
            return None;
        }
        let input_len = input.len() as u32;
        if self.base.checked_add(input_len).is_none() {
            self.table.fill(0);
            self.base = 1;
        }
        let start = out.len();
        let limit = start + input.len() - SAVED_BYTES_MIN;
        let fits = self.run(input, out, limit);
        self.base += input_len;
        if fits && out.len() <= limit {
            return Some(out.len() - start);
        }
        out.truncate(start);
        None
    }

    /// Greedy matching. After many misses in a row the step grows, so that incompressible input costs little.
    fn run(&mut self, input: &[u8], out: &mut Vec<u8>, limit: usize) -> bool {
        let base = self.base;
        let table: &mut [u32; 1 << TABLE_BITS] = (&mut self.table[..])
            .try_into()
            .expect("the table has this length from its creation");
        let last = input.len() - 4;
        let mut literals_from = 0;
        let mut at = 0;
        let mut misses = 0usize;
        while at <= last {
            let word = word_at(input, at);
            let slot = (word.wrapping_mul(0x9E37_79B1) >> (32 - TABLE_BITS)) as usize;
            let seen = table[slot];
            table[slot] = base + at as u32;
            if seen >= base {
                let candidate = (seen - base) as usize;
                let distance = at - candidate;
                if distance <= DISTANCE_MAX && word_at(input, candidate) == word {
                    if !put_literals(out, &input[literals_from..at], limit) {
                        return false;
                    }
                    let len = match_len(input, candidate, at);
                    put_match(out, distance, len);
                    at += len;
                    literals_from = at;
                    misses = 0;
                    continue;
                }
            }
            misses += 1;
            at += 1 + (misses >> 5);
            if out.len() + (at - literals_from) > limit + DISTANCE_MAX {
                return false;
            }
        }
        put_literals(out, &input[literals_from..], limit)
    }
}

#[inline]
fn word_at(input: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([input[at], input[at + 1], input[at + 2], input[at + 3]])
}

#[inline]
fn match_len(input: &[u8], from: usize, at: usize) -> usize {
    let max = (input.len() - at).min(MATCH_LEN_MAX);
    let (earlier, later) = (&input[from..from + max], &input[at..at + max]);
    let mut len = MATCH_LEN_MIN;
    while len + 8 <= max {
        let a = u64::from_le_bytes(earlier[len..len + 8].try_into().expect("eight bytes"));
        let b = u64::from_le_bytes(later[len..len + 8].try_into().expect("eight bytes"));
        if a != b {
            return len + ((a ^ b).trailing_zeros() / 8) as usize;
        }
        len += 8;
    }
    while len < max && earlier[len] == later[len] {
        len += 1;
    }
    len
}

#[inline]
fn put_match(out: &mut Vec<u8>, distance: usize, len: usize) {
    let (distance, len) = (distance - 1, len - 2);
    if len < 7 {
        out.extend_from_slice(&[(len << 5 | distance >> 8) as u8, distance as u8]);
    } else {
        out.extend_from_slice(&[
            (7 << 5 | distance >> 8) as u8,
            (len - 7) as u8,
            distance as u8,
        ]);
    }
}

#[inline]
fn put_literals(out: &mut Vec<u8>, literals: &[u8], limit: usize) -> bool {
    if out.len() + literals.len() + literals.len().div_ceil(LITERALS_MAX) > limit {
        return false;
    }
    for run in literals.chunks(LITERALS_MAX) {
        out.push((run.len() - 1) as u8);
        out.extend_from_slice(run);
    }
    true
}

/// Decompresses `data`, which must yield exactly `len_claimed` bytes; `None` if it does not. Allocates nothing for
/// a claim that `data` cannot fulfil.
pub fn decompress(data: &[u8], len_claimed: u64) -> Option<Vec<u8>> {
    let possible = (data.len() as u64).saturating_mul(EXPANSION_MAX);
    if len_claimed == 0 || len_claimed > possible || len_claimed > i32::MAX as u64 {
        return None;
    }
    let bytes = lzf::decompress(data, len_claimed as usize).ok()?;
    (bytes.len() as u64 == len_claimed).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(compressor: &mut Compressor, input: &[u8]) -> Option<usize> {
        let mut out = b"before".to_vec();
        let len = compressor.compress(input, &mut out);
        match len {
            None => assert_eq!(out, b"before"),
            Some(len) => {
                assert_eq!(out.len(), 6 + len);
                assert!(len + SAVED_BYTES_MIN <= input.len());
                assert_eq!(
                    decompress(&out[6..], input.len() as u64).as_deref(),
                    Some(input)
                );
            }
        }
        len
    }

    #[test]
    fn repetitive_input_shrinks_and_returns() {
        let mut compressor = Compressor::new();
        for len in [21, 24, 100, 263, 264, 265, 8191, 8192, 8193, 100_000] {
            let len_out =
                check(&mut compressor, &vec![b'x'; len]).expect("a run of one byte compresses");
            assert!(len_out < len / 80 + 12, "{len} bytes became {len_out}");
        }
        assert!(check(
            &mut compressor,
            "the same words, the same words, again".as_bytes()
        )
        .is_some());
    }

    #[test]
    fn short_or_random_input_is_refused() {
        let mut compressor = Compressor::new();
        assert_eq!(check(&mut compressor, &[b'x'; 20]), None);
        assert_eq!(check(&mut compressor, b""), None);
        let mut state = 7u64;
        let random: Vec<u8> = (0..10_000)
            .map(|_| {
                state = state
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                (state >> 56) as u8
            })
            .collect();
        assert_eq!(check(&mut compressor, &random), None);
        assert_eq!(check(&mut compressor, &random[..100]), None);
    }

    #[test]
    fn table_of_earlier_input_is_not_believed() {
        let mut compressor = Compressor::new();
        compressor.base = u32::MAX - 150;
        for round in 0..6u8 {
            let input: Vec<u8> = (0..100u8).map(|i| (i % 9).wrapping_add(round)).collect();
            assert!(check(&mut compressor, &input).is_some());
        }
    }

    #[test]
    fn impossible_claims_allocate_nothing() {
        assert_eq!(decompress(&[0, b'a'], 1 << 40), None);
        assert_eq!(decompress(&[0, b'a'], 0), None);
        assert_eq!(decompress(&[0, b'a'], 2), None);
        assert_eq!(decompress(&[0, b'a'], 1).as_deref(), Some(&b"a"[..]));
        assert_eq!(decompress(&[], 10), None);
    }

    proptest! {
        #[test]
        fn any_input_survives(words in proptest::collection::vec(
            prop_oneof![proptest::collection::vec(any::<u8>(), 0..40), Just(b"common prefix:".to_vec()),
                        (any::<u8>(), 0usize..600).prop_map(|(b, n)| vec![b; n])], 0..60)) {
            let input: Vec<u8> = words.concat();
            let mut compressor = Compressor::new();
            check(&mut compressor, &input);
            check(&mut compressor, &input);
        }

        #[test]
        fn any_bytes_decompress_without_panic(data in proptest::collection::vec(any::<u8>(), 0..200), claim in 0u64..5000) {
            if let Some(bytes) = decompress(&data, claim) {
                prop_assert_eq!(bytes.len() as u64, claim);
            }
        }
    }
}
