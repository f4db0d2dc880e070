//! HyperLogLogs: strings that estimate how many different elements were added to them. Byte for byte Redis's, so that
//! a string of either server counts the same in the other.
//!
//! ```text
//! "HYLL" | encoding: 1 byte | 3 zero bytes | cached count: 8 bytes, little-endian | registers
//!
//! encoding 0, dense:  16384 registers of 6 bits, the lowest bits of a byte first: 12288 bytes
//! encoding 1, sparse: runs of equal registers
//!     00nnnnnn            n + 1 zeros
//!     01nnnnnn nnnnnnnn   n + 1 zeros
//!     1vvvvvnn            n + 1 registers of value v + 1
//! ```
//!
//! The highest bit of the last byte of the cached count says that it is out of date. A sparse one becomes dense when a
//! register exceeds 32 or the string its limit. Strings are whatever clients store: everything that reads registers
//! refuses those that are damaged.
//!
//! The count is Ertl's estimator ("New cardinality estimation algorithms for HyperLogLog sketches", 2017, section 4).

/// Registers: an element's hash chooses one by its lowest 14 bits.
pub const REGISTERS: usize = 1 << INDEX_BITS;
const INDEX_BITS: u32 = 14;
/// Bits of a hash that are left to count the zeros in.
const RANK_BITS: usize = 64 - INDEX_BITS as usize;
const REGISTER_BITS: usize = 6;
const REGISTER_MAX: u8 = (1 << REGISTER_BITS) - 1;

const MAGIC: &[u8; 4] = b"HYLL";
const ENCODING_AT: usize = 4;
const DENSE: u8 = 0;
const SPARSE: u8 = 1;
const CACHE_AT: usize = 8;
const CACHE_STALE: u8 = 0x80;
const HEADER_BYTES: usize = 16;
const DENSE_BYTES: usize = HEADER_BYTES + REGISTERS * REGISTER_BITS / 8;

/// The largest value and the most registers that one sparse byte holds.
const RUN_VALUE_MAX: u8 = 32;
const RUN_LEN_MAX: usize = 4;
/// The most zeros that one sparse byte stands for.
const SHORT_ZEROS_MAX: usize = 64;

/// Registers that are damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

/// One without elements.
pub fn empty() -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes[..MAGIC.len()].copy_from_slice(MAGIC);
    bytes[ENCODING_AT] = SPARSE;
    push_zeros(&mut bytes, REGISTERS);
    bytes
}

/// Whether a string says it is a HyperLogLog; its registers may be damaged all the same.
pub fn is_one(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER_BYTES
        && bytes.starts_with(MAGIC)
        && match bytes[ENCODING_AT] {
            DENSE => bytes.len() == DENSE_BYTES,
            encoding => encoding == SPARSE,
        }
}

pub fn is_dense(bytes: &[u8]) -> bool {
    bytes[ENCODING_AT] == DENSE
}

/// The count that was stored, unless something was added since.
pub fn cached_count(bytes: &[u8]) -> Option<u64> {
    let cache = bytes[CACHE_AT..HEADER_BYTES].try_into();
    let cache: [u8; 8] = cache.expect("a header has eight bytes for it");
    (cache[7] & CACHE_STALE == 0).then(|| u64::from_le_bytes(cache))
}

pub fn cache_count(bytes: &mut [u8], count: u64) {
    bytes[CACHE_AT..HEADER_BYTES].copy_from_slice(&count.to_le_bytes());
}

pub fn forget_cached_count(bytes: &mut [u8]) {
    bytes[HEADER_BYTES - 1] |= CACHE_STALE;
}

/// Adds an element. True when a register grew; a sparse one longer than the limit becomes dense.
pub fn add(bytes: &mut Vec<u8>, element: &[u8], sparse_bytes_max: usize) -> Result<bool, Corrupt> {
    let (index, rank) = place(element);
    raise(bytes, index, rank, sparse_bytes_max)
}

/// Raises a register to at least this rank. True when it grew.
pub fn raise(
    bytes: &mut Vec<u8>,
    index: usize,
    rank: u8,
    sparse_bytes_max: usize,
) -> Result<bool, Corrupt> {
    if is_dense(bytes) {
        return Ok(raise_dense(bytes, index, rank));
    }
    match raise_sparse(bytes, index, rank, sparse_bytes_max)? {
        Raised::No => Ok(false),
        Raised::Yes => Ok(true),
        Raised::TooLarge => {
            make_dense(bytes)?;
            Ok(raise_dense(bytes, index, rank))
        }
    }
}

/// Gives a sparse one a place for each register. False when it has been dense before.
pub fn make_dense(bytes: &mut Vec<u8>) -> Result<bool, Corrupt> {
    if is_dense(bytes) {
        return Ok(false);
    }
    let mut dense = vec![0; DENSE_BYTES];
    dense[..HEADER_BYTES].copy_from_slice(&bytes[..HEADER_BYTES]);
    dense[ENCODING_AT] = DENSE;
    for_each_run(bytes, |first, run| {
        if run.value > 0 {
            (first..first + run.len).for_each(|index| set_dense(&mut dense, index, run.value));
        }
    })?;
    *bytes = dense;
    Ok(true)
}

/// The number of different elements, as estimated from the registers.
pub fn count(bytes: &[u8]) -> Result<u64, Corrupt> {
    let mut histogram = Histogram::default();
    if is_dense(bytes) {
        (0..REGISTERS).for_each(|index| histogram.0[usize::from(get_dense(bytes, index))] += 1);
    } else {
        for_each_run(bytes, |_, run| {
            histogram.0[usize::from(run.value)] += run.len
        })?;
    }
    Ok(histogram.estimate())
}

/// The encoded runs of a sparse one, as PFDEBUG DECODE shows them, whether they make sense or not.
pub fn describe_runs(bytes: &[u8]) -> String {
    let (mut words, mut at) = (Vec::new(), HEADER_BYTES);
    while let Some(run) = bytes.get(at).and_then(|_| run_at(bytes, at).ok()) {
        words.push(match (run.value, run.bytes) {
            (0, 1) => format!("z:{}", run.len),
            (0, _) => format!("Z:{}", run.len),
            (value, _) => format!("v:{value},{}", run.len),
        });
        at += run.bytes;
    }
    words.join(" ")
}

/// All registers, unpacked: what several HyperLogLogs are merged into.
pub struct Registers(Box<[u8; REGISTERS]>);

impl Default for Registers {
    fn default() -> Self {
        Registers(Box::new([0; REGISTERS]))
    }
}

impl Registers {
    /// Raises each register to at least what it is in `bytes`.
    pub fn merge(&mut self, bytes: &[u8]) -> Result<(), Corrupt> {
        if is_dense(bytes) {
            for (index, register) in self.0.iter_mut().enumerate() {
                *register = (*register).max(get_dense(bytes, index));
            }
            return Ok(());
        }
        for_each_run(bytes, |first, run| {
            for register in &mut self.0[first..first + run.len] {
                *register = (*register).max(run.value);
            }
        })
    }

    pub fn values(&self) -> &[u8] {
        &self.0[..]
    }

    pub fn count(&self) -> u64 {
        let mut histogram = Histogram::default();
        self.0
            .iter()
            .for_each(|&value| histogram.0[usize::from(value)] += 1);
        histogram.estimate()
    }
}

fn get_dense(bytes: &[u8], index: usize) -> u8 {
    let bit = index * REGISTER_BITS;
    let at = HEADER_BYTES + bit / 8;
    let low = u16::from(bytes[at]);
    let high = u16::from(bytes.get(at + 1).copied().unwrap_or(0));
    ((low | high << 8) >> (bit % 8)) as u8 & REGISTER_MAX
}

fn set_dense(bytes: &mut [u8], index: usize, value: u8) {
    let bit = index * REGISTER_BITS;
    let (at, shift) = (HEADER_BYTES + bit / 8, bit % 8);
    let mask = u16::from(REGISTER_MAX) << shift;
    let bits = u16::from(value) << shift;
    bytes[at] = bytes[at] & !(mask as u8) | bits as u8;
    if let Some(high) = bytes.get_mut(at + 1) {
        *high = *high & !((mask >> 8) as u8) | (bits >> 8) as u8;
    }
}

fn raise_dense(bytes: &mut [u8], index: usize, rank: u8) -> bool {
    let grows = get_dense(bytes, index) < rank;
    if grows {
        set_dense(bytes, index, rank);
    }
    grows
}

/// A run of equal registers as it is encoded.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Run {
    value: u8,
    len: usize,
    /// The length of its encoding.
    bytes: usize,
}

fn run_at(bytes: &[u8], at: usize) -> Result<Run, Corrupt> {
    let byte = bytes[at];
    let low = usize::from(byte & 0x3f);
    Ok(match byte >> 6 {
        0 => Run {
            value: 0,
            len: low + 1,
            bytes: 1,
        },
        1 => {
            let next = bytes.get(at + 1).ok_or(Corrupt)?;
            Run {
                value: 0,
                len: (low << 8 | usize::from(*next)) + 1,
                bytes: 2,
            }
        }
        _ => Run {
            value: (byte >> 2 & 0x1f) + 1,
            len: usize::from(byte & 3) + 1,
            bytes: 1,
        },
    })
}

/// Calls `f` with each run of a sparse one and its first register. All of them together are all registers.
fn for_each_run(bytes: &[u8], mut f: impl FnMut(usize, Run)) -> Result<(), Corrupt> {
    let (mut at, mut first) = (HEADER_BYTES, 0);
    while at < bytes.len() {
        let run = run_at(bytes, at)?;
        if first + run.len > REGISTERS {
            return Err(Corrupt);
        }
        f(first, run);
        at += run.bytes;
        first += run.len;
    }
    if first == REGISTERS {
        Ok(())
    } else {
        Err(Corrupt)
    }
}

fn push_zeros(out: &mut Vec<u8>, len: usize) {
    let n = len - 1;
    if len <= SHORT_ZEROS_MAX {
        out.push(n as u8);
    } else {
        out.extend_from_slice(&[0x40 | (n >> 8) as u8, n as u8]);
    }
}

fn encode_values(value: u8, len: usize) -> u8 {
    0x80 | (value - 1) << 2 | (len - 1) as u8
}

enum Raised {
    No,
    Yes,
    /// The string would be longer than it may be, or the rank does not fit.
    TooLarge,
}

/// Raises a register of a sparse one: its run is split around it, and then joined with equal neighbours.
fn raise_sparse(
    bytes: &mut Vec<u8>,
    index: usize,
    rank: u8,
    bytes_max: usize,
) -> Result<Raised, Corrupt> {
    if rank > RUN_VALUE_MAX {
        return Ok(Raised::TooLarge);
    }
    let (mut at, mut first, mut previous) = (HEADER_BYTES, 0, HEADER_BYTES);
    let run = loop {
        if at >= bytes.len() {
            return Err(Corrupt);
        }
        let run = run_at(bytes, at)?;
        if index < first + run.len {
            break run;
        }
        previous = at;
        at += run.bytes;
        first += run.len;
    };
    if run.value >= rank {
        return Ok(Raised::No);
    }
    let mut split = Vec::with_capacity(5);
    let same = |out: &mut Vec<u8>, len| match (len, run.value) {
        (0, _) => {}
        (len, 0) => push_zeros(out, len),
        (len, value) => out.push(encode_values(value, len)),
    };
    same(&mut split, index - first);
    split.push(encode_values(rank, 1));
    same(&mut split, first + run.len - 1 - index);
    let grown = bytes.len() - run.bytes + split.len();
    if split.len() > run.bytes && grown > bytes_max {
        return Ok(Raised::TooLarge);
    }
    bytes.splice(at..at + run.bytes, split);
    join_values(bytes, previous)?;
    Ok(Raised::Yes)
}

/// Joins neighbouring runs of the same value, from the run before the one that was split on. Five runs are looked
/// at: more cannot have changed.
fn join_values(bytes: &mut Vec<u8>, mut at: usize) -> Result<(), Corrupt> {
    const RUNS_LOOKED_AT: usize = 5;
    for _ in 0..RUNS_LOOKED_AT {
        if at >= bytes.len() {
            break;
        }
        let run = run_at(bytes, at)?;
        let next = bytes.get(at + 1).filter(|byte| **byte & 0x80 != 0);
        if run.value > 0 && next.is_some() {
            let next = run_at(bytes, at + 1)?;
            if next.value == run.value && run.len + next.len <= RUN_LEN_MAX {
                bytes[at + 1] = encode_values(run.value, run.len + next.len);
                bytes.remove(at);
                continue;
            }
        }
        at += run.bytes;
    }
    Ok(())
}

/// An element's register, and the rank it raises that to: the zeros at the end of the rest of its hash, and one.
fn place(element: &[u8]) -> (usize, u8) {
    let hash = murmur64a(element);
    let index = hash as usize & (REGISTERS - 1);
    let rest = hash >> INDEX_BITS | 1 << RANK_BITS;
    (index, rest.trailing_zeros() as u8 + 1)
}

/// MurmurHash64A, the little-endian variant, with the seed that Redis gives it.
fn murmur64a(bytes: &[u8]) -> u64 {
    const SEED: u64 = 0xadc8_3b19;
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    const R: u32 = 47;
    let mut hash = SEED ^ (bytes.len() as u64).wrapping_mul(M);
    let (words, tail) = bytes.as_chunks::<8>();
    for word in words {
        let mut k = u64::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = (hash ^ k.wrapping_mul(M)).wrapping_mul(M);
    }
    if !tail.is_empty() {
        let mut word = [0; 8];
        word[..tail.len()].copy_from_slice(tail);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(M);
    }
    hash = (hash ^ hash >> R).wrapping_mul(M);
    hash ^ hash >> R
}

/// How many registers have each value.
struct Histogram([usize; REGISTER_MAX as usize + 1]);

impl Default for Histogram {
    fn default() -> Self {
        Histogram([0; REGISTER_MAX as usize + 1])
    }
}

impl Histogram {
    fn estimate(&self) -> u64 {
        /// 1 / (2 ln 2)
        const ALPHA: f64 = 0.721_347_520_444_481_7;
        let m = REGISTERS as f64;
        let of = |value: usize| self.0[value] as f64;
        let mut z = m * tau((m - of(RANK_BITS + 1)) / m);
        for value in (1..=RANK_BITS).rev() {
            z = 0.5 * (z + of(value));
        }
        z += m * sigma(of(0) / m);
        let estimate = (ALPHA * m * m / z).round();
        if estimate.is_finite() {
            estimate as u64
        } else {
            // Only registers that no elements can have lead here; so does Redis on x86.
            1 << 63
        }
    }
}

/// The sum of x^(2^k) * 2^(k-1) over k from 1 on, plus x.
fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

/// A third of: 1 - x, less the sum of (1 - x^(2^-k))^2 * 2^-k over k from 1 on.
fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Rng;

    const SPARSE_MAX: usize = 3000;

    #[test]
    fn both_encodings_hold_the_same_registers() {
        let mut rng = Rng::from_seed(3);
        for limit in [0, 40, SPARSE_MAX] {
            let (mut sparse, mut dense) = (empty(), empty());
            assert_eq!(make_dense(&mut dense), Ok(true));
            for _ in 0..2000 {
                let index = rng.below(60) * rng.below(273);
                let rank = 1 + rng.below(35) as u8;
                let grew = raise(&mut sparse, index, rank, limit);
                assert_eq!(grew, raise(&mut dense, index, rank, limit));
                assert!(is_one(&sparse) && is_one(&dense));
            }
            let (mut a, mut b) = (Registers::default(), Registers::default());
            assert_eq!((a.merge(&sparse), b.merge(&dense)), (Ok(()), Ok(())));
            assert_eq!(a.values(), b.values());
            assert_eq!(count(&sparse), count(&dense));
            assert_eq!(count(&sparse), Ok(a.count()));
        }
    }

    #[test]
    fn estimates_are_within_a_few_standard_errors() {
        let mut bytes = empty();
        let mut next = 1;
        for n in 1..=100_000_u64 {
            assert!(add(&mut bytes, &n.to_le_bytes(), SPARSE_MAX).is_ok());
            if n == next {
                let estimate = count(&bytes).expect("nothing has damaged it");
                let error = (estimate as f64 - n as f64).abs();
                assert!(error <= 4.0 * 0.0082 * n as f64 + 1.0, "{n}: {estimate}");
                next *= 10;
            }
        }
        assert!(is_dense(&bytes));
    }

    #[test]
    fn damage_is_refused_wherever_it_is() {
        let mut rng = Rng::from_seed(4);
        let mut sound = empty();
        for n in 0..300_u64 {
            assert!(add(&mut sound, &n.to_le_bytes(), SPARSE_MAX).is_ok());
        }
        let mut refused = 0;
        for _ in 0..5000 {
            let mut bytes = sound.clone();
            bytes.truncate(HEADER_BYTES + rng.below(bytes.len() - HEADER_BYTES));
            for _ in 0..rng.below(4) {
                let at = HEADER_BYTES + rng.below(bytes.len() - HEADER_BYTES + 1);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = rng.next_u64() as u8;
                }
            }
            refused += usize::from(count(&bytes).is_err());
            let verdict = Registers::default().merge(&bytes);
            assert_eq!(verdict.is_err(), count(&bytes).is_err());
            // These look at a part only; they must not panic.
            let _ = describe_runs(&bytes);
            let _ = add(&mut bytes.clone(), &[rng.next_u64() as u8], SPARSE_MAX);
            let _ = raise(&mut bytes.clone(), rng.below(REGISTERS), 33, SPARSE_MAX);
            assert_eq!(make_dense(&mut bytes).is_err(), verdict.is_err());
        }
        assert!(refused > 4000);
    }

    #[test]
    fn elements_land_where_other_servers_put_them() {
        let mut bytes = empty();
        for element in [b"foo", b"bar", b"zap"] {
            assert_eq!(add(&mut bytes, element, SPARSE_MAX), Ok(true));
            assert_eq!(add(&mut bytes, element, SPARSE_MAX), Ok(false));
        }
        let runs = "Z:7348 v:5,1 Z:520 v:2,1 Z:2137 v:1,1 Z:6376";
        assert_eq!(describe_runs(&bytes), runs);
    }
}
