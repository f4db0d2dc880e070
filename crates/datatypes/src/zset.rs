//! Sorted sets: a listpack of member, score, member, score ... in order while members are few and short, else a
//! member table with a counted B+tree, which OBJECT ENCODING calls by Redis's name for its place, "skiplist".
//!
//! The order is by score, then by the bytes of the member. Everything that selects a range does so in two steps:
//! bounds give a range of ranks, ranks give members. Counting is then the length of a range, and LIMIT and REV are
//! arithmetic on it.

mod bounds;
mod ranked;
mod tree;

pub use bounds::{InvalidBound, LexBound, ScoreBound};

use crate::listpack::{self, Pos, MAX_SAFE_BYTES};
use crate::number::{f64_as_i64, parse_f64, write_f64};
use crate::{Element, Encoding, FormatError, IntBuffer, Limits, Listpack, Rng};
use ranked::Ranked;
use std::ops::Range;

/// See the module's head.
#[derive(Clone)]
pub struct SortedSet {
    body: Body,
}

#[derive(Clone)]
enum Body {
    Packed(Listpack),
    Ranked(Box<Ranked>),
}

impl SortedSet {
    /// Empty, in the listpack encoding.
    pub fn new() -> SortedSet {
        SortedSet {
            body: Body::Packed(Listpack::new()),
        }
    }

    /// Empty, in the encoding for a command that adds `size_hint` members, the longest (or, for ZADD, the first)
    /// of `value_len_hint` bytes.
    pub fn for_members(size_hint: usize, value_len_hint: usize, limits: &Limits) -> SortedSet {
        let packed = size_hint <= limits.zset_max_listpack_entries
            && value_len_hint <= limits.zset_max_listpack_value;
        let body = if packed {
            Body::Packed(Listpack::new())
        } else {
            Body::Ranked(Box::new(Ranked::new()))
        };
        SortedSet { body }
    }

    /// Announces that one command adds `size_hint` members: a listpack that could not take them is left at once.
    pub fn prepare(&mut self, size_hint: usize, limits: &Limits) {
        if size_hint > limits.zset_max_listpack_entries {
            self.become_ranked();
        }
    }

    #[inline]
    pub fn len(&self) -> usize {
        match &self.body {
            Body::Packed(pack) => pack.len() / 2,
            Body::Ranked(ranked) => ranked.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn encoding(&self) -> Encoding {
        match &self.body {
            Body::Packed(_) => Encoding::Listpack,
            Body::Ranked(_) => Encoding::SkipList,
        }
    }

    /// Heap bytes; `samples` members stand for all, 0 looks at each.
    pub fn approximate_bytes(&self, samples: usize) -> usize {
        match &self.body {
            Body::Packed(pack) => pack.capacity(),
            Body::Ranked(ranked) => ranked.approximate_bytes(samples),
        }
    }

    #[inline]
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        match &self.body {
            Body::Packed(pack) => find(pack, member).map(|(_, score)| score),
            Body::Ranked(ranked) => ranked.score(member),
        }
    }

    pub fn contains(&self, member: &[u8]) -> bool {
        self.score(member).is_some()
    }

    /// Adds or moves; returns the previous score. `score` must not be NaN.
    pub fn insert(&mut self, member: &[u8], score: f64, limits: &Limits) -> Option<f64> {
        debug_assert!(!score.is_nan());
        let pack = match &mut self.body {
            Body::Ranked(ranked) => return ranked.insert(member, score),
            Body::Packed(pack) => pack,
        };
        let previous = find(pack, member);
        if let Some((pos, old)) = previous {
            if old != score {
                pack.remove_pair(pos);
                insert_pair(pack, member, score);
            }
            return Some(old);
        }
        let fits = pack.len() / 2 < limits.zset_max_listpack_entries
            && member.len() <= limits.zset_max_listpack_value
            && pack.byte_len() + member.len() <= MAX_SAFE_BYTES;
        if fits {
            insert_pair(pack, member, score);
            return None;
        }
        self.become_ranked().insert(member, score)
    }

    /// Converts to the tree and returns it.
    fn become_ranked(&mut self) -> &mut Ranked {
        if matches!(self.body, Body::Packed(_)) {
            let mut ranked = Ranked::new();
            let mut buffer = IntBuffer::new();
            for (member, score) in self.iter() {
                ranked.insert(member.as_bytes(&mut buffer), score);
            }
            self.body = Body::Ranked(Box::new(ranked));
        }
        match &mut self.body {
            Body::Ranked(ranked) => ranked,
            Body::Packed(_) => unreachable!("converted above"),
        }
    }

    /// Returns the score it had.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        match &mut self.body {
            Body::Packed(pack) => {
                let (pos, score) = find(pack, member)?;
                pack.remove_pair(pos);
                Some(score)
            }
            Body::Ranked(ranked) => ranked.remove(member),
        }
    }

    /// Rank from the lowest (0), and score. The reverse rank is `len - 1 - rank`.
    pub fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        match &self.body {
            Body::Packed(pack) => {
                let (pos, score) = find(pack, member)?;
                Some((pack.index_of(pos) / 2, score))
            }
            Body::Ranked(ranked) => ranked.rank(member),
        }
    }

    /// Ranks of the scores within the bounds; empty when there are none. Its length is ZCOUNT.
    pub fn ranks_by_score(&self, min: ScoreBound, max: ScoreBound) -> Range<usize> {
        let start = self.count_scores(|score| min.excludes_below(score));
        let end = self.count_scores(|score| max.admits_below(score));
        start.min(end)..end
    }

    fn count_scores(&self, mut below: impl FnMut(f64) -> bool) -> usize {
        match &self.body {
            Body::Packed(pack) => pairs(pack.iter())
                .take_while(|(_, score)| below(*score))
                .count(),
            Body::Ranked(ranked) => ranked.count_scores(below),
        }
    }

    /// Ranks of the members within the bounds, all scores being equal. Its length is ZLEXCOUNT.
    pub fn ranks_by_lex(&self, min: LexBound<'_>, max: LexBound<'_>) -> Range<usize> {
        let start = self.count_names(|member| min.excludes_below(member));
        let end = self.count_names(|member| max.admits_below(member));
        start.min(end)..end
    }

    fn count_names(&self, mut below: impl FnMut(&[u8]) -> bool) -> usize {
        match &self.body {
            Body::Packed(pack) => {
                let mut buffer = IntBuffer::new();
                pairs(pack.iter())
                    .take_while(|(member, _)| below(member.as_bytes(&mut buffer)))
                    .count()
            }
            Body::Ranked(ranked) => ranked.count_names(below),
        }
    }

    /// Members of these ranks (clamped), from either end: `.rev()` for descending.
    pub fn range(&self, ranks: Range<usize>) -> Iter<'_> {
        let end = ranks.end.min(self.len());
        let ranks = ranks.start.min(end)..end;
        match &self.body {
            Body::Packed(pack) => Iter(Members::Packed {
                elements: pack.range(2 * ranks.start, 2 * ranks.len()),
                remaining: ranks.len(),
            }),
            Body::Ranked(ranked) => Iter(Members::Ranked(ranked.range(ranks))),
        }
    }

    /// All members in order, from either end.
    pub fn iter(&self) -> Iter<'_> {
        self.range(0..usize::MAX)
    }

    /// The member with the lowest score.
    pub fn first(&self) -> Option<(Element<'_>, f64)> {
        self.range(0..1).next()
    }

    /// The member with the highest score.
    pub fn last(&self) -> Option<(Element<'_>, f64)> {
        let len = self.len();
        self.range(len.saturating_sub(1)..len).next()
    }

    pub fn pop_min(&mut self) -> Option<(Vec<u8>, f64)> {
        let (member, score) = self.first()?;
        let member = member.to_vec();
        self.remove_ranks(0..1);
        Some((member, score))
    }

    pub fn pop_max(&mut self) -> Option<(Vec<u8>, f64)> {
        let (member, score) = self.last()?;
        let member = member.to_vec();
        let len = self.len();
        self.remove_ranks(len - 1..len);
        Some((member, score))
    }

    /// Removes these ranks (clamped); returns how many went.
    pub fn remove_ranks(&mut self, ranks: Range<usize>) -> usize {
        let end = ranks.end.min(self.len());
        let ranks = ranks.start.min(end)..end;
        match &mut self.body {
            Body::Packed(pack) => pack.remove_range(2 * ranks.start, 2 * ranks.len()),
            Body::Ranked(ranked) => ranked.remove_ranks(ranks.clone()),
        }
        ranks.len()
    }

    /// A member chosen with equal chance among all.
    pub fn random(&self, rng: &mut Rng) -> Option<(Element<'_>, f64)> {
        match &self.body {
            Body::Packed(pack) => {
                let rank = rng.below(pack.len() / 2);
                self.range(rank..rank + 1).next()
            }
            Body::Ranked(ranked) => ranked
                .random(rng)
                .map(|(member, score)| (Element::Bytes(member), score)),
        }
    }

    /// ZSCAN: returns the next cursor, 0 when done. A listpack is visited whole.
    pub fn scan(&self, cursor: u64, count: usize, mut visit: impl FnMut(Element<'_>, f64)) -> u64 {
        match &self.body {
            Body::Packed(_) => {
                self.iter().for_each(|(member, score)| visit(member, score));
                0
            }
            Body::Ranked(ranked) => ranked.scan(cursor, count, |member, score| {
                visit(Element::Bytes(member), score)
            }),
        }
    }

    /// Into a listpack when few and short enough: for the results of ZUNIONSTORE and the like.
    pub fn compact(&mut self, limits: &Limits) {
        let Body::Ranked(ranked) = &self.body else {
            return;
        };
        if ranked.len() > limits.zset_max_listpack_entries {
            return;
        }
        let lens = || ranked.range(0..usize::MAX).map(|(member, _)| member.len());
        let bytes: usize = lens().sum();
        if bytes > MAX_SAFE_BYTES || lens().any(|len| len > limits.zset_max_listpack_value) {
            return;
        }
        let mut pack = Listpack::with_capacity(bytes + 8 * ranked.len());
        for (member, score) in ranked.range(0..usize::MAX) {
            pack.push_back(member);
            pack.push_back_element(ScoreText::of(score).element());
        }
        self.body = Body::Packed(pack);
    }

    pub fn as_listpack(&self) -> Option<&Listpack> {
        match &self.body {
            Body::Packed(pack) => Some(pack),
            Body::Ranked(_) => None,
        }
    }

    /// From a stored blob of members and scores, members distinct and in order; converts to the tree when it is
    /// above the limits.
    pub fn from_listpack(blob: Listpack, limits: &Limits) -> Result<SortedSet, FormatError> {
        let count = blob.len();
        if !count.is_multiple_of(2) {
            return Err(FormatError::new(
                "sorted set listpack has a member without a score",
            ));
        }
        let (mut before, mut buffer) = (Vec::new(), IntBuffer::new());
        let (mut elements, mut longest, mut last_score) = (blob.iter(), 0, f64::NEG_INFINITY);
        while let (Some(member), Some(score)) = (elements.next(), elements.next()) {
            let score = read_score(score).ok_or(FormatError::new(
                "sorted set listpack has a score that is no number",
            ))?;
            let name = member.as_bytes(&mut buffer);
            if score < last_score || (score == last_score && name < before.as_slice()) {
                return Err(FormatError::new("sorted set listpack is out of order"));
            }
            longest = longest.max(name.len());
            last_score = score;
            before.clear();
            before.extend_from_slice(name);
        }
        if !blob.is_distinct(2) {
            return Err(FormatError::new("sorted set listpack holds a member twice"));
        }
        let above = count / 2 > limits.zset_max_listpack_entries
            || longest > limits.zset_max_listpack_value
            || blob.byte_len() > MAX_SAFE_BYTES;
        let mut set = SortedSet {
            body: Body::Packed(blob),
        };
        if above {
            set.become_ranked();
        }
        Ok(set)
    }
}

/// A score as a listpack holds it: an integer where Redis stores one, else text.
struct ScoreText {
    int: Option<i64>,
    text: Vec<u8>,
}

impl ScoreText {
    fn of(score: f64) -> ScoreText {
        let int = f64_as_i64(score);
        let mut text = Vec::new();
        if int.is_none() {
            write_f64(&mut text, score);
        }
        ScoreText { int, text }
    }

    fn element(&self) -> Element<'_> {
        match self.int {
            Some(int) => Element::Int(int),
            None => Element::Bytes(&self.text),
        }
    }
}

/// The score that a listpack element stands for; None when it is no number.
fn read_score(element: Element<'_>) -> Option<f64> {
    match element {
        Element::Int(int) => Some(int as f64),
        Element::Bytes(text) => parse_f64(text),
    }
}

/// The members and scores of a checked listpack.
fn pairs(mut elements: listpack::Iter<'_>) -> impl Iterator<Item = (Element<'_>, f64)> {
    std::iter::from_fn(move || next_pair(&mut elements))
}

#[inline]
fn next_pair<'a>(elements: &mut listpack::Iter<'a>) -> Option<(Element<'a>, f64)> {
    let member = elements.next()?;
    let score = elements.next().and_then(read_score);
    Some((member, score.expect("members have scores that are numbers")))
}

/// Position and score of `member`.
fn find(pack: &Listpack, member: &[u8]) -> Option<(Pos, f64)> {
    let pos = pack.find(pack.first()?, member, 1)?;
    let score = pack.next(pos).and_then(|at| read_score(pack.element(at)));
    Some((pos, score.expect("members have scores that are numbers")))
}

/// Inserts a member known to be absent at its place.
fn insert_pair(pack: &mut Listpack, member: &[u8], score: f64) {
    let text = ScoreText::of(score);
    let score_element = text.element();
    let Some(pos) = place_of(pack, member, score) else {
        pack.push_back(member);
        pack.push_back_element(score_element);
        return;
    };
    let pos = pack.insert_before(pos, member);
    pack.insert_element_after(pos, score_element);
}

/// The first member that comes after (score, member).
fn place_of(pack: &Listpack, member: &[u8], score: f64) -> Option<Pos> {
    let mut buffer = IntBuffer::new();
    // Members often arrive in order: look at the last one first.
    let last_score = pack.last()?;
    let last = pack.prev(last_score)?;
    let is_after = |at: Pos, other: f64, buffer: &mut IntBuffer| {
        other > score || (other == score && pack.element(at).as_bytes(buffer) > member)
    };
    let score_at = |at: Pos| read_score(pack.element(at)).expect("scores are numbers");
    if !is_after(last, score_at(last_score), &mut buffer) {
        return None;
    }
    let mut at = pack.first();
    while let Some(pos) = at {
        let score_pos = pack.next(pos)?;
        if is_after(pos, score_at(score_pos), &mut buffer) {
            return Some(pos);
        }
        at = pack.next(score_pos);
    }
    None
}

impl Default for SortedSet {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for SortedSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Members with their scores, in order, from either end.
pub struct Iter<'a>(Members<'a>);

enum Members<'a> {
    Packed {
        elements: listpack::Iter<'a>,
        remaining: usize,
    },
    Ranked(ranked::Iter<'a>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = (Element<'a>, f64);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Members::Packed {
                elements,
                remaining,
            } => {
                *remaining = remaining.checked_sub(1)?;
                next_pair(elements)
            }
            Members::Ranked(ranked) => ranked
                .next()
                .map(|(member, score)| (Element::Bytes(member), score)),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let remaining = match &self.0 {
            Members::Packed { remaining, .. } => *remaining,
            Members::Ranked(ranked) => ranked.len(),
        };
        (remaining, Some(remaining))
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Members::Packed {
                elements,
                remaining,
            } => {
                *remaining = remaining.checked_sub(1)?;
                let score = elements.next_back().and_then(read_score);
                Some((
                    elements.next_back()?,
                    score.expect("members have scores that are numbers"),
                ))
            }
            Members::Ranked(ranked) => ranked
                .next_back()
                .map(|(member, score)| (Element::Bytes(member), score)),
        }
    }
}

impl ExactSizeIterator for Iter<'_> {}
