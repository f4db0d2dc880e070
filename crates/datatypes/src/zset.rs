//! zset (interim)
use crate::{Element, Encoding, FormatError, Limits, Listpack, Rng};
use std::ops::Range;

/// One end of a score range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreBound { pub score: f64, pub exclusive: bool }
impl ScoreBound {
    pub const MIN: ScoreBound = ScoreBound { score: f64::NEG_INFINITY, exclusive: false };
    pub const MAX: ScoreBound = ScoreBound { score: f64::INFINITY, exclusive: false };
    /// "1.5", "(1.5", "-inf", "+inf". Err: "ERR min or max is not a float".
    pub fn parse(_text: &[u8]) -> Result<ScoreBound, InvalidBound> { todo!() }
}

/// One end of a lexicographic range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LexBound<'a> { Min, Max, Inclusive(&'a [u8]), Exclusive(&'a [u8]) }
impl<'a> LexBound<'a> {
    /// "-", "+", "[a", "(a". Err: "ERR min or max not valid string range item".
    pub fn parse(_text: &'a [u8]) -> Result<LexBound<'a>, InvalidBound> { todo!() }
}

/// The text is no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidBound;

pub struct SortedSet { _p: () }
impl SortedSet {
    /// Empty, listpack encoding.
    pub fn new() -> SortedSet { todo!() }
    /// Empty, in the encoding Redis picks for a command that adds `size_hint` members, the longest of `value_len_hint` bytes.
    pub fn for_members(_size_hint: usize, _value_len_hint: usize, _limits: &Limits) -> SortedSet { todo!() }
    pub fn len(&self) -> usize { todo!() }
    pub fn is_empty(&self) -> bool { todo!() }
    pub fn encoding(&self) -> Encoding { todo!() }
    pub fn approximate_bytes(&self, _samples: usize) -> usize { todo!() }
    pub fn score(&self, _member: &[u8]) -> Option<f64> { todo!() }
    pub fn contains(&self, _member: &[u8]) -> bool { todo!() }
    /// Adds or moves; returns the previous score. `score` must not be NaN.
    pub fn insert(&mut self, _member: &[u8], _score: f64, _limits: &Limits) -> Option<f64> { todo!() }
    /// Returns the score it had.
    pub fn remove(&mut self, _member: &[u8]) -> Option<f64> { todo!() }
    /// Rank from the lowest (0) and score. The reverse rank is `len - 1 - rank`.
    pub fn rank(&self, _member: &[u8]) -> Option<(usize, f64)> { todo!() }
    /// Ranks whose scores lie within the bounds; empty when none. O(log n); its length is ZCOUNT.
    pub fn ranks_by_score(&self, _min: ScoreBound, _max: ScoreBound) -> Range<usize> { todo!() }
    /// Ranks whose members lie within the bounds, all scores being equal. Its length is ZLEXCOUNT.
    pub fn ranks_by_lex(&self, _min: LexBound<'_>, _max: LexBound<'_>) -> Range<usize> { todo!() }
    /// Members of these ranks (clamped), from either end: use `.rev()` for descending.
    pub fn range(&self, _ranks: Range<usize>) -> Iter<'_> { todo!() }
    pub fn iter(&self) -> Iter<'_> { todo!() }
    pub fn first(&self) -> Option<(Element<'_>, f64)> { todo!() }
    pub fn last(&self) -> Option<(Element<'_>, f64)> { todo!() }
    pub fn pop_min(&mut self) -> Option<(Vec<u8>, f64)> { todo!() }
    pub fn pop_max(&mut self) -> Option<(Vec<u8>, f64)> { todo!() }
    /// Removes these ranks (clamped); returns how many went.
    pub fn remove_ranks(&mut self, _ranks: Range<usize>) -> usize { todo!() }
    pub fn random(&self, _rng: &mut Rng) -> Option<(Element<'_>, f64)> { todo!() }
    pub fn scan(&self, _cursor: u64, _count: usize, _visit: impl FnMut(Element<'_>, f64)) -> u64 { todo!() }
    /// Into a listpack when small enough (results of ZUNIONSTORE and the like).
    pub fn compact(&mut self, _limits: &Limits) { todo!() }
    pub fn as_listpack(&self) -> Option<&Listpack> { todo!() }
    pub fn from_listpack(_blob: Listpack, _limits: &Limits) -> Result<SortedSet, FormatError> { todo!() }
}
impl Default for SortedSet { fn default() -> Self { Self::new() } }

pub struct Iter<'a> { _l: &'a SortedSet }
impl<'a> Iterator for Iter<'a> { type Item = (Element<'a>, f64); fn next(&mut self) -> Option<Self::Item> { todo!() } }
impl DoubleEndedIterator for Iter<'_> { fn next_back(&mut self) -> Option<Self::Item> { todo!() } }
impl ExactSizeIterator for Iter<'_> {}
