//! listpack (interim)
use crate::FormatError;

#[derive(Clone, Copy, Debug)]
pub enum Element<'a> {
    Bytes(&'a [u8]),
    Int(i64),
}

impl<'a> Element<'a> {
    pub fn to_vec(&self) -> Vec<u8> { todo!() }
    /// Length of the text form.
    pub fn len(&self) -> usize { todo!() }
    pub fn is_empty(&self) -> bool { todo!() }
    pub fn write_into(&self, _out: &mut Vec<u8>) { todo!() }
    pub fn eq_bytes(&self, _other: &[u8]) -> bool { todo!() }
    pub fn as_int(&self) -> Option<i64> { todo!() }
    /// The text form; `buffer` holds it when the element is an integer.
    pub fn as_bytes<'b>(&'b self, _buffer: &'b mut IntBuffer) -> &'b [u8] { todo!() }
}
impl PartialEq for Element<'_> { fn eq(&self, _other: &Self) -> bool { todo!() } }
impl Eq for Element<'_> {}

/// Room for the text of an integer.
#[derive(Clone, Copy)]
pub struct IntBuffer(pub(crate) itoa::Buffer);
impl IntBuffer { pub fn new() -> IntBuffer { IntBuffer(itoa::Buffer::new()) } }
impl Default for IntBuffer { fn default() -> Self { Self::new() } }

/// Position of an element in a listpack; any change of the listpack invalidates it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pos(pub(crate) usize);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listpack { bytes: Vec<u8> }

impl Listpack {
    pub fn new() -> Listpack { todo!() }
    pub fn with_capacity(_bytes: usize) -> Listpack { todo!() }
    pub fn from_bytes_checked(_bytes: Vec<u8>) -> Result<Listpack, FormatError> { todo!() }
    pub fn as_bytes(&self) -> &[u8] { &self.bytes }
    pub fn into_bytes(self) -> Vec<u8> { self.bytes }
    pub fn len(&self) -> usize { todo!() }
    pub fn is_empty(&self) -> bool { todo!() }
    /// Bytes of the blob (what size limits look at).
    pub fn byte_len(&self) -> usize { self.bytes.len() }
    /// Bytes allocated.
    pub fn capacity(&self) -> usize { self.bytes.capacity() }
    pub fn first(&self) -> Option<Pos> { todo!() }
    pub fn last(&self) -> Option<Pos> { todo!() }
    pub fn next(&self, _pos: Pos) -> Option<Pos> { todo!() }
    pub fn prev(&self, _pos: Pos) -> Option<Pos> { todo!() }
    pub fn seek(&self, _index: usize) -> Option<Pos> { todo!() }
    pub fn element(&self, _pos: Pos) -> Element<'_> { todo!() }
    pub fn get(&self, _index: usize) -> Option<Element<'_>> { todo!() }
    pub fn push_back(&mut self, _value: &[u8]) { todo!() }
    pub fn push_front(&mut self, _value: &[u8]) { todo!() }
    pub fn push_back_int(&mut self, _value: i64) { todo!() }
    /// Inserts before `pos` and returns the new element's position.
    pub fn insert_before(&mut self, _pos: Pos, _value: &[u8]) -> Pos { todo!() }
    pub fn insert_after(&mut self, _pos: Pos, _value: &[u8]) -> Pos { todo!() }
    pub fn replace(&mut self, _pos: Pos, _value: &[u8]) -> Pos { todo!() }
    /// Removes and returns the position of what followed.
    pub fn remove(&mut self, _pos: Pos) -> Option<Pos> { todo!() }
    pub fn remove_range(&mut self, _index: usize, _count: usize) { todo!() }
    /// Looks at `from`, then skips `skip` elements between comparisons.
    pub fn find(&self, _from: Pos, _needle: &[u8], _skip: usize) -> Option<Pos> { todo!() }
    pub fn iter(&self) -> Iter<'_> { todo!() }
}
impl Default for Listpack { fn default() -> Self { Self::new() } }

#[derive(Clone)]
pub struct Iter<'a> { _lp: &'a Listpack }
impl<'a> Iterator for Iter<'a> { type Item = Element<'a>; fn next(&mut self) -> Option<Element<'a>> { todo!() } }
impl<'a> DoubleEndedIterator for Iter<'a> { fn next_back(&mut self) -> Option<Element<'a>> { todo!() } }
