//! hash (interim)
use crate::{Element, Encoding, FormatError, Limits, Listpack, Rng};

pub struct Hash { _p: () }
impl Hash {
    /// Empty, listpack encoding.
    pub fn new() -> Hash { todo!() }
    /// Converts up front when `new_fields` in one command are too many for a listpack (HSET, load); also reserves.
    pub fn prepare(&mut self, _new_fields: usize, _limits: &Limits) { todo!() }
    pub fn len(&self) -> usize { todo!() }
    pub fn is_empty(&self) -> bool { todo!() }
    pub fn encoding(&self) -> Encoding { todo!() }
    pub fn approximate_bytes(&self, _samples: usize) -> usize { todo!() }
    pub fn get(&self, _field: &[u8]) -> Option<Element<'_>> { todo!() }
    pub fn contains(&self, _field: &[u8]) -> bool { todo!() }
    /// True when the field is new.
    pub fn set(&mut self, _field: &[u8], _value: &[u8], _limits: &Limits) -> bool { todo!() }
    pub fn remove(&mut self, _field: &[u8]) -> bool { todo!() }
    pub fn random(&self, _rng: &mut Rng) -> Option<(Element<'_>, Element<'_>)> { todo!() }
    pub fn iter(&self) -> Iter<'_> { todo!() }
    pub fn scan(&self, _cursor: u64, _count: usize, _visit: impl FnMut(Element<'_>, Element<'_>)) -> u64 { todo!() }
    pub fn as_listpack(&self) -> Option<&Listpack> { todo!() }
    pub fn from_listpack(_blob: Listpack, _limits: &Limits) -> Result<Hash, FormatError> { todo!() }
}
impl Default for Hash { fn default() -> Self { Self::new() } }

pub struct Iter<'a> { _l: &'a Hash }
impl<'a> Iterator for Iter<'a> { type Item = (Element<'a>, Element<'a>); fn next(&mut self) -> Option<Self::Item> { todo!() } }
impl ExactSizeIterator for Iter<'_> {}
