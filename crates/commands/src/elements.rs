//! Elements of collections in replies, and random draws of them.

use std::collections::HashSet;

use datatypes::{Element, Rng};
use resp::Reply;

use crate::errors::{CommandError, OUT_OF_RANGE};

/// Elements that a draw with repetition replies at most. Redis has no such limit, but closes the
/// connection once the reply is too large for its output buffer.
const DRAWS_MAX: u64 = 1 << 28;

/// An element as a bulk string.
#[inline]
pub fn bulk(reply: &mut Reply<'_>, element: Element<'_>) {
    match element {
        Element::Bytes(bytes) => reply.bulk(bytes),
        Element::Int(int) => reply.bulk_integer(int),
    }
}

/// What a count argument of SRANDMEMBER and its like asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Draw {
    /// So many different elements, or all if there are not so many.
    Distinct(usize),
    /// Exactly so many, drawn independently.
    Repeating(usize),
}

impl Draw {
    /// A negative count asks for repetition.
    pub fn from_count(count: i64) -> Result<Draw, CommandError> {
        let magnitude = count.unsigned_abs();
        match usize::try_from(magnitude) {
            Ok(n) if count >= 0 => Ok(Draw::Distinct(n)),
            Ok(n) if magnitude <= DRAWS_MAX => Ok(Draw::Repeating(n)),
            _ => Err(OUT_OF_RANGE),
        }
    }
}

/// Visits `count` different items of the `len` that there are, chosen with equal chance.
///
/// Few of many are drawn one by one with `random`, and drawn again when they were seen before
/// (told by `name`). Otherwise one pass over `all` takes each item with the chance that the rest
/// of the sample needs (Knuth's algorithm S), in the order of the pass.
pub fn visit_sample<T>(
    rng: &mut Rng,
    (count, len): (usize, usize),
    all: impl Iterator<Item = T>,
    mut random: impl FnMut(&mut Rng) -> Option<T>,
    name: impl Fn(&T) -> Vec<u8>,
    mut visit: impl FnMut(T),
) {
    /// Below this share of the whole, repeated draws are rare.
    const DRAWN_SHARE: usize = 3;
    if count.saturating_mul(DRAWN_SHARE) > len {
        let mut wanted = count;
        for (seen, item) in all.enumerate() {
            if rng.below(len - seen) < wanted {
                wanted -= 1;
                visit(item);
            }
        }
        return;
    }
    let mut seen = HashSet::with_capacity(count);
    while seen.len() < count {
        let Some(item) = random(rng) else { return };
        if seen.insert(name(&item)) {
            visit(item);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_distinct_and_fair() {
        let mut rng = Rng::from_seed(5);
        for (count, len) in [(0, 10), (1, 10), (3, 10), (4, 10), (9, 10), (10, 10)] {
            let mut hits = vec![0u32; len];
            let rounds = 20_000;
            for _ in 0..rounds {
                let mut sample = Vec::new();
                let draw = |rng: &mut Rng| Some(rng.below(len));
                let name = |i: &usize| vec![*i as u8];
                visit_sample(&mut rng, (count, len), 0..len, draw, name, |i| {
                    sample.push(i)
                });
                sample.iter().for_each(|&i| hits[i] += 1);
                sample.sort_unstable();
                sample.dedup();
                assert_eq!(sample.len(), count);
            }
            let expected = f64::from(rounds) * count as f64 / len as f64;
            for hit in hits {
                assert!(
                    (f64::from(hit) - expected).abs() <= expected * 0.1,
                    "{count} of {len}: {hit}"
                );
            }
        }
    }

    #[test]
    fn counts_choose_the_kind_of_draw() {
        assert_eq!(Draw::from_count(5), Ok(Draw::Distinct(5)));
        assert_eq!(Draw::from_count(0), Ok(Draw::Distinct(0)));
        assert_eq!(Draw::from_count(-5), Ok(Draw::Repeating(5)));
        assert_eq!(Draw::from_count(-i64::MAX), Err(OUT_OF_RANGE));
    }
}
