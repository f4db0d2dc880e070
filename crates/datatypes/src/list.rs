//! list (interim)
use crate::{Element, Encoding, FormatError, Limits, Listpack};
use std::ops::Range;

pub struct List { _p: () }

/// A node as stored: a listpack of several elements, or one large element as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node { Packed(Listpack), Plain(Box<[u8]>) }

impl List {
    pub fn new() -> List { todo!() }
    pub fn len(&self) -> usize { todo!() }
    pub fn is_empty(&self) -> bool { todo!() }
    pub fn encoding(&self) -> Encoding { todo!() }
    pub fn approximate_bytes(&self, _samples: usize) -> usize { todo!() }
    /// Converts first if all `values` together would not fit, as one LPUSH does.
    pub fn extend_front<'v>(&mut self, _values: impl Iterator<Item = &'v [u8]> + Clone, _limits: &Limits) { todo!() }
    pub fn extend_back<'v>(&mut self, _values: impl Iterator<Item = &'v [u8]> + Clone, _limits: &Limits) { todo!() }
    pub fn push_front(&mut self, _value: &[u8], _limits: &Limits) { todo!() }
    pub fn push_back(&mut self, _value: &[u8], _limits: &Limits) { todo!() }
    pub fn front(&self) -> Option<Element<'_>> { todo!() }
    pub fn back(&self) -> Option<Element<'_>> { todo!() }
    pub fn pop_front(&mut self, _limits: &Limits) -> Option<Vec<u8>> { todo!() }
    pub fn pop_back(&mut self, _limits: &Limits) -> Option<Vec<u8>> { todo!() }
    pub fn get(&self, _index: usize) -> Option<Element<'_>> { todo!() }
    /// False when `index` is out of range.
    pub fn set(&mut self, _index: usize, _value: &[u8], _limits: &Limits) -> bool { todo!() }
    /// LINSERT: false when `pivot` is absent (the encoding may change even then, as in Redis).
    pub fn insert_before(&mut self, _pivot: &[u8], _value: &[u8], _limits: &Limits) -> bool { todo!() }
    pub fn insert_after(&mut self, _pivot: &[u8], _value: &[u8], _limits: &Limits) -> bool { todo!() }
    /// Inserts so that the new element has `index` (`index <= len`).
    pub fn insert_at(&mut self, _index: usize, _value: &[u8], _limits: &Limits) { todo!() }
    /// LREM: at most `max` occurrences, from the tail when `from_tail`. Returns how many went.
    pub fn remove_value(&mut self, _value: &[u8], _max: usize, _from_tail: bool, _limits: &Limits) -> usize { todo!() }
    pub fn remove_range(&mut self, _range: Range<usize>, _limits: &Limits) { todo!() }
    /// Keeps only `range`.
    pub fn trim(&mut self, _range: Range<usize>, _limits: &Limits) { todo!() }
    pub fn iter(&self) -> Iter<'_> { todo!() }
    /// Elements of `range` (clamped to the list), from either end.
    pub fn range(&self, _range: Range<usize>) -> Iter<'_> { todo!() }
    /// LPOS: calls `found(index)` for each match until it returns false; looks at `max_compared` elements at most.
    pub fn positions(&self, _value: &[u8], _from_tail: bool, _max_compared: usize, _found: impl FnMut(usize) -> bool) { todo!() }
    /// Nodes from head to tail, for a snapshot. A listpack-encoded list is one packed node.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Node> + '_ { [].iter() }
    /// Builds from stored nodes; empty packed nodes are an error. Picks the encoding as Redis does on load.
    pub fn from_nodes(_nodes: impl IntoIterator<Item = Node>, _limits: &Limits) -> Result<List, FormatError> { todo!() }
}
impl Default for List { fn default() -> Self { Self::new() } }

pub struct Iter<'a> { _l: &'a List }
impl<'a> Iterator for Iter<'a> { type Item = Element<'a>; fn next(&mut self) -> Option<Element<'a>> { todo!() } }
impl DoubleEndedIterator for Iter<'_> { fn next_back(&mut self) -> Option<Self::Item> { todo!() } }
impl ExactSizeIterator for Iter<'_> {}
