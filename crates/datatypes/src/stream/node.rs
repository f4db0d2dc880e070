//! Nodes: entries of neighbouring IDs in one listpack, laid out as Redis does.
//!
//! ```text
//! node:    live count | deleted count | fields F | field x F | 0 | entry ...
//! entry:   flags | ms delta | seq delta | value x F | pieces            flags & 2: the fields are the node's
//!          flags | ms delta | seq delta | fields N | (field value) x N | pieces
//! ```
//! Deltas are those to the node's ID, under which the stream keeps it: that of the entry it began with, whose fields the
//! node has as its own. `flags & 1`: deleted. `pieces` counts the elements of the entry before it, for walks from the end.
//!
//! Invariant: every node in a stream is well formed in this sense, its counts are right, and one entry at least is in it.

use super::id::StreamId;
use crate::listpack::{Iter, Pos};
use crate::{Element, FormatError, Listpack};

const DELETED: i64 = 1;
const SAME_FIELDS: i64 = 2;

/// Flags and the two deltas.
const ENTRY_HEAD_PIECES: usize = 3;

/// A field and its value.
pub type Field<'a> = (Element<'a>, Element<'a>);

/// A live entry.
#[derive(Clone)]
pub struct Entry<'a> {
    pub id: StreamId,
    /// The node it is in, and where its flags stand there.
    pub(super) node: StreamId,
    pub(super) at: Pos,
    fields: Fields<'a>,
}

impl<'a> Entry<'a> {
    pub fn fields(&self) -> Fields<'a> {
        self.fields.clone()
    }
}

/// The fields of an entry, with their values.
#[derive(Clone)]
pub struct Fields<'a> {
    /// Where the names come from, if not from among the values.
    names: Option<Iter<'a>>,
    values: Iter<'a>,
    left: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        self.left = self.left.checked_sub(1)?;
        let name = match &mut self.names {
            Some(names) => names.next()?,
            None => self.values.next()?,
        };
        Some((name, self.values.next()?))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Fields<'_> {}

/// Walks a node's entries from either end.
#[derive(Clone)]
pub(super) struct Walk<'a> {
    key: StreamId,
    pack: &'a Listpack,
    names: Iter<'a>,
    names_count: usize,
    rest: Iter<'a>,
}

/// An entry met on a walk, deleted or not.
pub(super) struct Met<'a> {
    pub entry: Entry<'a>,
    pub deleted: bool,
}

fn int(pieces: &mut Iter<'_>) -> Option<i64> {
    pieces.next()?.as_int()
}

impl<'a> Walk<'a> {
    pub(super) fn new(key: StreamId, pack: &'a Listpack) -> Walk<'a> {
        let mut rest = pack.iter();
        rest.by_ref().take(2).for_each(drop);
        let names_count = int(&mut rest).map_or(0, |n| n as usize);
        let names = rest.clone();
        rest.by_ref().take(names_count + 1).for_each(drop);
        Walk {
            key,
            pack,
            names,
            names_count,
            rest,
        }
    }

    pub(super) fn next(&mut self) -> Option<Met<'a>> {
        let met = self.entry(&mut self.rest.clone())?;
        let pieces = met.entry.pieces();
        self.rest.by_ref().take(pieces + 1).for_each(drop);
        Some(met)
    }

    pub(super) fn next_back(&mut self) -> Option<Met<'a>> {
        let pieces = self.rest.next_back()?.as_int()?;
        for _ in 0..pieces {
            self.rest.next_back();
        }
        self.entry(&mut self.pack.iter_from(self.rest.back_pos()))
    }

    /// The entry whose flags come next in `pieces`.
    fn entry(&self, pieces: &mut Iter<'a>) -> Option<Met<'a>> {
        let at = pieces.front_pos();
        let flags = int(pieces)?;
        let delta = (int(pieces)?, int(pieces)?);
        let (names, left) = match flags & SAME_FIELDS {
            0 => (None, int(pieces)? as usize),
            _ => (Some(self.names.clone()), self.names_count),
        };
        let fields = Fields {
            names,
            values: pieces.clone(),
            left,
        };
        Some(Met {
            entry: Entry {
                id: self.key.plus(delta),
                node: self.key,
                at,
                fields,
            },
            deleted: flags & DELETED != 0,
        })
    }
}

impl Entry<'_> {
    /// Elements from the flags up to the last value.
    fn pieces(&self) -> usize {
        let Fields { names, left, .. } = &self.fields;
        match names {
            Some(_) => ENTRY_HEAD_PIECES + left,
            None => ENTRY_HEAD_PIECES + 1 + 2 * left,
        }
    }
}

/// How many live and how many deleted entries there are.
pub(super) fn counts(pack: &Listpack) -> (u64, u64) {
    let mut pieces = pack.iter();
    let mut count = || int(&mut pieces).map_or(0, |n| n as u64);
    (count(), count())
}

fn set_counts(pack: &mut Listpack, live: u64, deleted: u64) {
    let first = pack.first().expect("a node has counts");
    pack.replace_int(first, live as i64);
    let second = pack.next(first).expect("a node has two counts");
    pack.replace_int(second, deleted as i64);
}

/// A node without entries, for entries with these fields.
pub(super) fn begin<'f>(fields: impl ExactSizeIterator<Item = &'f [u8]>) -> Listpack {
    let mut pack = Listpack::new();
    let head = [0, 0, fields.len() as i64].map(Element::Int);
    pack.extend_growing(
        head.into_iter()
            .chain(fields.map(Element::Bytes))
            .chain([Element::Int(0)]),
    );
    pack
}

/// Appends an entry: field, value, field, value...
pub(super) fn append<'f>(
    key: StreamId,
    pack: &mut Listpack,
    id: StreamId,
    pairs: impl ExactSizeIterator<Item = &'f [u8]> + Clone,
) {
    let count = pairs.len() / 2;
    let same = {
        let walk = Walk::new(key, pack);
        walk.names_count == count
            && pairs
                .clone()
                .step_by(2)
                .zip(walk.names)
                .all(|(field, own)| own.eq_bytes(field))
    };
    let (live, _) = counts(pack);
    let first = pack.first().expect("a node has counts");
    pack.replace_int(first, live as i64 + 1);
    let (ms, seq) = id.delta(key);
    let head = [if same { SAME_FIELDS } else { 0 }, ms, seq].map(Element::Int);
    if same {
        let values = pairs.skip(1).step_by(2).map(Element::Bytes);
        let pieces = Element::Int((ENTRY_HEAD_PIECES + count) as i64);
        pack.extend_growing(head.into_iter().chain(values).chain([pieces]));
    } else {
        let pieces = Element::Int((ENTRY_HEAD_PIECES + 1 + 2 * count) as i64);
        let count = Element::Int(count as i64);
        let pairs = pairs.map(Element::Bytes);
        pack.extend_growing(head.into_iter().chain([count]).chain(pairs).chain([pieces]));
    }
}

/// Marks the entry at a place, which is live, as deleted.
pub(super) fn delete(pack: &mut Listpack, at: Pos) {
    let flags = pack
        .element(at)
        .as_int()
        .expect("an entry begins with its flags");
    pack.replace_int(at, flags | DELETED);
    let (live, deleted) = counts(pack);
    set_counts(pack, live - 1, deleted + 1);
}

/// Marks entries from the first on as deleted, while `doomed` says so of each that is live; how many.
pub(super) fn delete_front(
    key: StreamId,
    pack: &mut Listpack,
    mut doomed: impl FnMut(StreamId) -> bool,
) -> u64 {
    let mut places = Vec::new();
    let mut walk = Walk::new(key, pack);
    while let Some(met) = walk.next() {
        if !met.deleted {
            if !doomed(met.entry.id) {
                break;
            }
            places.push(met.entry.at);
        }
    }
    // From the last to the first: writing flags moves what is behind them.
    for &at in places.iter().rev() {
        let flags = pack
            .element(at)
            .as_int()
            .expect("an entry begins with its flags");
        pack.replace_int(at, flags | DELETED);
    }
    let (live, deleted) = counts(pack);
    let count = places.len() as u64;
    set_counts(pack, live - count, deleted + count);
    count
}

/// Whether foreign bytes keep to the module's layout; how many live entries there are.
pub(super) fn check(pack: &Listpack) -> Result<u64, FormatError> {
    let fail = |reason| FormatError::new(reason);
    let mut pieces = pack.iter();
    let number = |pieces: &mut Iter<'_>, reason| int(pieces).ok_or(fail(reason));
    let live = number(&mut pieces, "a node without a count")?;
    let deleted = number(&mut pieces, "a node without a count of deleted entries")?;
    let names = number(&mut pieces, "a node without a count of fields")?;
    if live < 0 || deleted < 0 || names < 0 {
        return Err(fail("a node with a negative count"));
    }
    skip(&mut pieces, names)?;
    if number(&mut pieces, "a node whose fields do not end")? != 0 {
        return Err(fail("a node whose fields do not end"));
    }
    let (mut live_seen, mut deleted_seen) = (0, 0);
    while let Some(flags) = pieces.next() {
        let flags = flags.as_int().ok_or(fail("an entry without flags"))?;
        for _ in 0..2 {
            number(&mut pieces, "an entry without an ID")?;
        }
        let (values, head) = match flags & SAME_FIELDS {
            0 => {
                let count = number(&mut pieces, "an entry without a count of fields")?;
                let values = count.checked_mul(2).filter(|&n| n >= 0);
                (values.ok_or(fail("an entry with too many fields"))?, 1)
            }
            _ => (names, 0),
        };
        skip(&mut pieces, values)?;
        let expected = values.checked_add((ENTRY_HEAD_PIECES + head) as i64);
        if Some(number(&mut pieces, "an entry without its length")?) != expected {
            return Err(fail("an entry with a wrong length"));
        }
        match flags & DELETED {
            0 => live_seen += 1,
            _ => deleted_seen += 1,
        }
    }
    if (live, deleted) != (live_seen, deleted_seen) {
        return Err(fail("a node whose counts are wrong"));
    }
    if live + deleted == 0 {
        return Err(fail("a node without entries"));
    }
    Ok(live as u64)
}

fn skip(pieces: &mut Iter<'_>, count: i64) -> Result<(), FormatError> {
    for _ in 0..count {
        pieces
            .next()
            .ok_or(FormatError::new("a node that ends inside an entry"))?;
    }
    Ok(())
}
