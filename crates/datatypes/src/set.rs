//! set (interim)
use crate::{Element, Encoding, FormatError, IntSet, Limits, Listpack, Rng};

pub struct Set { _p: () }
impl Set {
    /// Empty, intset encoding (what an all-integer result starts from).
    pub fn new() -> Set { todo!() }
    /// Empty, in the encoding SADD picks for `size_hint` members of which `first` is one.
    pub fn for_members(_first: &[u8], _size_hint: usize, _limits: &Limits) -> Set { todo!() }
    /// Empty, in the given encoding (Intset, Listpack or HashTable).
    pub fn with_encoding(_encoding: Encoding) -> Set { todo!() }
    pub fn len(&self) -> usize { todo!() }
    pub fn is_empty(&self) -> bool { todo!() }
    pub fn encoding(&self) -> Encoding { todo!() }
    pub fn approximate_bytes(&self, _samples: usize) -> usize { todo!() }
    /// True when it was absent.
    pub fn add(&mut self, _member: &[u8], _limits: &Limits) -> bool { todo!() }
    /// True when it was present.
    pub fn remove(&mut self, _member: &[u8]) -> bool { todo!() }
    pub fn contains(&self, _member: &[u8]) -> bool { todo!() }
    pub fn contains_element(&self, _member: Element<'_>) -> bool { todo!() }
    pub fn add_element(&mut self, _member: Element<'_>, _limits: &Limits) -> bool { todo!() }
    pub fn random(&self, _rng: &mut Rng) -> Option<Element<'_>> { todo!() }
    pub fn pop(&mut self, _rng: &mut Rng) -> Option<Vec<u8>> { todo!() }
    pub fn iter(&self) -> Iter<'_> { todo!() }
    /// SSCAN: returns the next cursor, 0 when done. Compact encodings are visited whole.
    pub fn scan(&self, _cursor: u64, _count: usize, _visit: impl FnMut(Element<'_>)) -> u64 { todo!() }
    /// Into an intset when all members are integers and few enough; into a listpack when small enough (results of set algebra).
    pub fn compact(&mut self, _limits: &Limits) { todo!() }
    pub fn as_intset(&self) -> Option<&IntSet> { todo!() }
    pub fn as_listpack(&self) -> Option<&Listpack> { todo!() }
    pub fn from_intset(_blob: IntSet, _limits: &Limits) -> Result<Set, FormatError> { todo!() }
    pub fn from_listpack(_blob: Listpack, _limits: &Limits) -> Result<Set, FormatError> { todo!() }
}
impl Default for Set { fn default() -> Self { Self::new() } }

pub struct Iter<'a> { _l: &'a Set }
impl<'a> Iterator for Iter<'a> { type Item = Element<'a>; fn next(&mut self) -> Option<Element<'a>> { todo!() } }
impl ExactSizeIterator for Iter<'_> {}
