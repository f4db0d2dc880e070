//! legacy (interim)
use crate::{Element, FormatError};

/// A checked ziplist blob.
pub struct Ziplist { _bytes: Vec<u8> }
impl Ziplist {
    pub fn from_bytes_checked(_bytes: Vec<u8>) -> Result<Ziplist, FormatError> { todo!() }
    pub fn len(&self) -> usize { todo!() }
    pub fn is_empty(&self) -> bool { todo!() }
    pub fn iter(&self) -> impl Iterator<Item = Element<'_>> + Clone + '_ { [0i64; 0].into_iter().map(Element::Int) }
}

/// A checked zipmap blob: fields and their values.
pub struct Zipmap { _bytes: Vec<u8> }
impl Zipmap {
    pub fn from_bytes_checked(_bytes: Vec<u8>) -> Result<Zipmap, FormatError> { todo!() }
    pub fn len(&self) -> usize { todo!() }
    pub fn is_empty(&self) -> bool { todo!() }
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> + Clone + '_ { let v: [(&[u8], &[u8]); 0] = []; v.into_iter() }
}
