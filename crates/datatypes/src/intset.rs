//! intset (interim)
use crate::FormatError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntSet { bytes: Vec<u8> }
impl IntSet {
    pub fn new() -> IntSet { todo!() }
    pub fn from_bytes_checked(_bytes: Vec<u8>) -> Result<IntSet, FormatError> { todo!() }
    pub fn as_bytes(&self) -> &[u8] { &self.bytes }
    pub fn len(&self) -> usize { todo!() }
    pub fn is_empty(&self) -> bool { todo!() }
    pub fn get(&self, _index: usize) -> Option<i64> { todo!() }
    pub fn contains(&self, _value: i64) -> bool { todo!() }
    pub fn insert(&mut self, _value: i64) -> bool { todo!() }
    pub fn remove(&mut self, _value: i64) -> bool { todo!() }
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = i64> + ExactSizeIterator + Clone + '_ { [0i64; 0].into_iter() }
}
impl Default for IntSet { fn default() -> Self { Self::new() } }
