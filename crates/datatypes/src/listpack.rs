//! Listpack: a sequence of strings and integers in one allocation, byte for byte as Redis stores it, so that
//! a snapshot writes the blob as it is.
//!
//! ```text
//! total bytes, u32 LE | element count, u16 LE (65535: count by walking) | entry ... | 0xFF
//! entry: encoding and data | back length: size of "encoding and data", 7 bits a byte, readable from its end
//!   0xxxxxxx             0..=127               11110000 len:u32 LE  string of any length
//!   10llllll             string up to 63       11110001 i16   11110010 i24   11110011 i32   11110100 i64, all LE
//!   110vvvvv vvvvvvvv    13 bit signed
//!   1110llll llllllll    string up to 4095
//! ```
//!
//! Invariant: `bytes` is a well-formed listpack; foreign bytes enter through [`Listpack::from_bytes_checked`] only.
//! Text that is exactly the decimal form of an i64 is stored as that integer.

use crate::number;
use crate::ptr_table::hash_bytes;
use crate::FormatError;

const HEADER: usize = 6;
const END: u8 = 0xFF;
const COUNT_UNKNOWN: u16 = u16::MAX;

/// The largest listpack a collection may grow to; beyond it, it changes its encoding.
pub const MAX_SAFE_BYTES: usize = 1 << 30;

/// What a compact encoding holds: bytes, or an integer standing for its decimal text.
#[derive(Clone, Copy, Debug)]
pub enum Element<'a> {
    Bytes(&'a [u8]),
    Int(i64),
}

impl<'a> Element<'a> {
    pub fn to_vec(&self) -> Vec<u8> {
        match self {
            Element::Bytes(bytes) => bytes.to_vec(),
            Element::Int(value) => itoa::Buffer::new().format(*value).as_bytes().to_vec(),
        }
    }

    /// Length of the text form.
    #[inline]
    pub fn len(&self) -> usize {
        match self {
            Element::Bytes(bytes) => bytes.len(),
            Element::Int(value) => number::i64_len(*value),
        }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, Element::Bytes(b""))
    }

    /// Appends the text form.
    #[inline]
    pub fn write_into(&self, out: &mut Vec<u8>) {
        match self {
            Element::Bytes(bytes) => out.extend_from_slice(bytes),
            Element::Int(value) => number::write_i64(out, *value),
        }
    }

    /// Whether the text form is `other`.
    #[inline]
    pub fn eq_bytes(&self, other: &[u8]) -> bool {
        match self {
            Element::Bytes(bytes) => *bytes == other,
            Element::Int(value) => number::parse_i64(other) == Some(*value),
        }
    }

    /// The integer, also when it is held as its canonical text.
    #[inline]
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Element::Bytes(bytes) => number::parse_i64(bytes),
            Element::Int(value) => Some(*value),
        }
    }

    /// The text form without allocating; `buffer` holds it when the element is an integer.
    #[inline]
    pub fn as_bytes<'b>(&self, buffer: &'b mut IntBuffer) -> &'b [u8]
    where
        'a: 'b,
    {
        match *self {
            Element::Bytes(bytes) => bytes,
            Element::Int(value) => buffer.0.format(value).as_bytes(),
        }
    }
}

impl PartialEq for Element<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Element::Int(a), Element::Int(b)) => a == b,
            (Element::Bytes(a), b) | (b, Element::Bytes(a)) => b.eq_bytes(a),
        }
    }
}

impl Eq for Element<'_> {}

/// Room for the text of an integer.
#[derive(Clone, Copy)]
pub struct IntBuffer(itoa::Buffer);

impl IntBuffer {
    #[inline]
    pub fn new() -> IntBuffer {
        IntBuffer(itoa::Buffer::new())
    }

    /// The decimal text of `value`.
    #[inline]
    pub fn format(&mut self, value: i64) -> &[u8] {
        self.0.format(value).as_bytes()
    }
}

impl Default for IntBuffer {
    fn default() -> Self {
        Self::new()
    }
}

/// Position of an element in one listpack; any change of the listpack invalidates it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pos(usize);

/// See the module's head.
#[derive(Clone, PartialEq, Eq)]
pub struct Listpack {
    bytes: Vec<u8>,
}

/// An entry about to be written: its head (for integers all of it) and the bytes that follow.
struct Encoded<'v> {
    head: [u8; 9],
    head_len: usize,
    payload: &'v [u8],
}

impl<'v> Encoded<'v> {
    #[inline]
    fn of(value: &'v [u8]) -> Encoded<'v> {
        match number::parse_i64(value) {
            Some(int) => Encoded::of_int(int),
            None => Encoded::of_text(value),
        }
    }

    fn of_element(value: Element<'v>) -> Encoded<'v> {
        match value {
            Element::Int(int) => Encoded::of_int(int),
            Element::Bytes(bytes) => Encoded::of(bytes),
        }
    }

    fn of_int(int: i64) -> Encoded<'v> {
        let mut head = [0; 9];
        let le = int.to_le_bytes();
        let head_len = if (0..=127).contains(&int) {
            head[0] = int as u8;
            1
        } else if (-4096..=4095).contains(&int) {
            head[0] = 0xC0 | ((int >> 8) as u8 & 0x1F);
            head[1] = int as u8;
            2
        } else {
            let (tag, width) = match int {
                -0x8000..=0x7FFF => (0xF1, 2),
                -0x80_0000..=0x7F_FFFF => (0xF2, 3),
                -0x8000_0000..=0x7FFF_FFFF => (0xF3, 4),
                _ => (0xF4, 8),
            };
            head[0] = tag;
            head[1..1 + width].copy_from_slice(&le[..width]);
            1 + width
        };
        Encoded {
            head,
            head_len,
            payload: &[],
        }
    }

    fn of_text(payload: &'v [u8]) -> Encoded<'v> {
        let mut head = [0; 9];
        let len = payload.len();
        let head_len = if len < 64 {
            head[0] = 0x80 | len as u8;
            1
        } else if len < 4096 {
            head[0] = 0xE0 | (len >> 8) as u8;
            head[1] = len as u8;
            2
        } else {
            let len =
                u32::try_from(len).expect("collections keep elements above 1 GiB out of listpacks");
            head[0] = 0xF0;
            head[1..5].copy_from_slice(&len.to_le_bytes());
            5
        };
        Encoded {
            head,
            head_len,
            payload,
        }
    }

    fn len(&self) -> usize {
        self.head_len + self.payload.len()
    }

    /// Bytes of the whole entry.
    fn entry_len(&self) -> usize {
        self.len() + back_len_size(self.len())
    }

    fn write(&self, to: &mut [u8]) {
        to[..self.head_len].copy_from_slice(&self.head[..self.head_len]);
        let data_len = self.len();
        to[self.head_len..data_len].copy_from_slice(self.payload);
        write_back_len(&mut to[data_len..], data_len);
    }
}

/// How many bytes the back length of `len` takes.
#[inline]
fn back_len_size(len: usize) -> usize {
    match len {
        0..=127 => 1,
        128..=16_382 => 2,
        16_383..=2_097_150 => 3,
        2_097_151..=268_435_454 => 4,
        _ => 5,
    }
}

/// Fills `to`: the most significant 7 bits first, and the top bit set in all bytes but the first, so that a
/// reader coming from the right knows where to stop.
fn write_back_len(to: &mut [u8], len: usize) {
    let size = to.len().min(back_len_size(len));
    for (i, byte) in to[..size].iter_mut().enumerate() {
        let group = (len >> (7 * (size - 1 - i))) as u8 & 0x7F;
        *byte = if i == 0 { group } else { group | 0x80 };
    }
}

/// Reads the back length whose last byte is just before `end`: (length, bytes it takes).
#[inline]
fn read_back_len(bytes: &[u8], end: usize) -> Option<(usize, usize)> {
    let mut len = 0usize;
    for i in 0..5 {
        let byte = *bytes.get(end.checked_sub(i + 1)?)?;
        len |= usize::from(byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((len, i + 1));
        }
    }
    None
}

/// Decodes the entry at `at`: its element and the bytes of encoding and data. None past the end or malformed.
#[inline]
fn decode(bytes: &[u8], at: usize) -> Option<(Element<'_>, usize)> {
    let text = |head: usize, len: usize| {
        let start = at + head;
        Some((
            Element::Bytes(bytes.get(start..start.checked_add(len)?)?),
            head + len,
        ))
    };
    let first = *bytes.get(at)?;
    match first {
        0..=0x7F => Some((Element::Int(i64::from(first)), 1)),
        0x80..=0xBF => text(1, usize::from(first & 0x3F)),
        0xC0..=0xDF => {
            let raw = u16::from(first & 0x1F) << 8 | u16::from(*bytes.get(at + 1)?);
            // Sign-extends 13 bits.
            Some((Element::Int(i64::from((raw << 3) as i16 >> 3)), 2))
        }
        0xE0..=0xEF => text(
            2,
            usize::from(first & 0x0F) << 8 | usize::from(*bytes.get(at + 1)?),
        ),
        0xF0 => text(
            5,
            u32::from_le_bytes(bytes.get(at + 1..at + 5)?.try_into().ok()?) as usize,
        ),
        0xF1..=0xF4 => {
            let width = [2, 3, 4, 8][usize::from(first - 0xF1)];
            let mut le = [0; 8];
            le[8 - width..].copy_from_slice(bytes.get(at + 1..at + 1 + width)?);
            let shift = 64 - 8 * width as u32;
            Some((Element::Int(i64::from_le_bytes(le) >> shift), 1 + width))
        }
        _ => None,
    }
}

impl Listpack {
    /// Bytes of an empty listpack.
    pub const OVERHEAD: usize = HEADER + 1;

    pub fn new() -> Listpack {
        Listpack::with_capacity(0)
    }

    /// Empty, with room for `bytes` bytes of entries.
    pub fn with_capacity(bytes: usize) -> Listpack {
        let mut blob = Vec::with_capacity(round_capacity(HEADER + 1 + bytes));
        blob.extend_from_slice(&[HEADER as u8 + 1, 0, 0, 0, 0, 0, END]);
        Listpack { bytes: blob }
    }

    /// Takes a blob from a file after checking every entry.
    pub fn from_bytes_checked(bytes: Vec<u8>) -> Result<Listpack, FormatError> {
        let fail = |reason| Err(FormatError::new(reason));
        if bytes.len() < HEADER + 1 {
            return fail("listpack shorter than its header");
        }
        if u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize != bytes.len() {
            return fail("listpack length differs from its header");
        }
        let end = bytes.len() - 1;
        let (mut at, mut count) = (HEADER, 0usize);
        while at < end {
            let Some((_, len)) = decode(&bytes[..end], at) else {
                return fail("listpack entry malformed");
            };
            let after = at + len + back_len_size(len);
            if after > end || read_back_len(&bytes, after) != Some((len, back_len_size(len))) {
                return fail("listpack entry has a wrong back length");
            }
            at = after;
            count += 1;
        }
        if bytes[end] != END {
            return fail("listpack lacks its end mark");
        }
        let stated = u16::from_le_bytes([bytes[4], bytes[5]]);
        if stated != COUNT_UNKNOWN && usize::from(stated) != count {
            return fail("listpack count differs from its header");
        }
        Ok(Listpack { bytes })
    }

    /// The blob as Redis stores it.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Number of elements; walks when there are 65535 or more.
    #[inline]
    pub fn len(&self) -> usize {
        match self.stated_count() {
            COUNT_UNKNOWN => self.iter().count(),
            count => usize::from(count),
        }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == HEADER + 1
    }

    /// Bytes of the blob, which is what size limits look at.
    #[inline]
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes allocated.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    #[inline]
    fn stated_count(&self) -> u16 {
        u16::from_le_bytes([self.bytes[4], self.bytes[5]])
    }

    #[inline]
    fn end(&self) -> usize {
        self.bytes.len() - 1
    }

    /// Bytes of the whole entry at `at`.
    #[inline]
    fn entry_len(&self, at: usize) -> usize {
        let len = match self.bytes[at] {
            0..=0x7F => 1,
            first @ 0x80..=0xBF => 1 + usize::from(first & 0x3F),
            0xC0..=0xDF => 2,
            _ => decode(&self.bytes, at).expect("entries are well formed").1,
        };
        len + back_len_size(len)
    }

    #[inline]
    pub fn first(&self) -> Option<Pos> {
        (!self.is_empty()).then_some(Pos(HEADER))
    }

    pub fn last(&self) -> Option<Pos> {
        self.before(self.end())
    }

    #[inline]
    pub fn next(&self, pos: Pos) -> Option<Pos> {
        let at = pos.0 + self.entry_len(pos.0);
        (at < self.end()).then_some(Pos(at))
    }

    pub fn prev(&self, pos: Pos) -> Option<Pos> {
        self.before(pos.0)
    }

    /// The entry that ends just before `at`.
    #[inline]
    fn before(&self, at: usize) -> Option<Pos> {
        if at == HEADER {
            return None;
        }
        let (len, size) = read_back_len(&self.bytes, at).expect("back lengths are well formed");
        Some(Pos(at - len - size))
    }

    /// Position of the element with this index.
    pub fn seek(&self, index: usize) -> Option<Pos> {
        let count = self.stated_count();
        if count != COUNT_UNKNOWN {
            let count = usize::from(count);
            if index >= count {
                return None;
            }
            if index > count / 2 {
                let mut pos = self.last()?;
                for _ in index + 1..count {
                    pos = self.prev(pos)?;
                }
                return Some(pos);
            }
        }
        let mut pos = self.first()?;
        for _ in 0..index {
            pos = self.next(pos)?;
        }
        Some(pos)
    }

    #[inline]
    pub fn element(&self, pos: Pos) -> Element<'_> {
        decode(&self.bytes, pos.0)
            .expect("positions stand at entries")
            .0
    }

    pub fn get(&self, index: usize) -> Option<Element<'_>> {
        self.seek(index).map(|pos| self.element(pos))
    }

    pub fn push_back(&mut self, value: &[u8]) {
        self.splice(self.end(), 0, &Encoded::of(value), 1);
    }

    pub fn push_front(&mut self, value: &[u8]) {
        self.splice(HEADER, 0, &Encoded::of(value), 1);
    }

    pub fn push_back_int(&mut self, value: i64) {
        self.splice(self.end(), 0, &Encoded::of_int(value), 1);
    }

    pub fn push_back_element(&mut self, value: Element<'_>) {
        self.splice(self.end(), 0, &Encoded::of_element(value), 1);
    }

    /// Appends elements to a listpack that will take more: room is made for half as much again.
    pub(crate) fn extend_growing<'e>(&mut self, elements: impl Iterator<Item = Element<'e>>) {
        let mut count = usize::from(self.stated_count());
        self.bytes.pop();
        for element in elements {
            let entry = Encoded::of_element(element);
            let (from, len) = (self.bytes.len(), entry.entry_len());
            if from + len + 1 > self.bytes.capacity() {
                let wanted = round_capacity((from + len + 1).max(from + from / 2));
                self.bytes.reserve_exact(wanted - from);
            }
            self.bytes.resize(from + len, 0);
            entry.write(&mut self.bytes[from..]);
            count += 1;
        }
        self.bytes.push(END);
        self.write_header(count);
    }

    /// Gives back room that was made for growth.
    pub(crate) fn shrink_to_fit(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// Inserts before `pos` and returns the new element's position.
    pub fn insert_before(&mut self, pos: Pos, value: &[u8]) -> Pos {
        self.splice(pos.0, 0, &Encoded::of(value), 1);
        pos
    }

    /// Inserts after `pos` and returns the new element's position.
    pub fn insert_after(&mut self, pos: Pos, value: &[u8]) -> Pos {
        let at = pos.0 + self.entry_len(pos.0);
        self.splice(at, 0, &Encoded::of(value), 1);
        Pos(at)
    }

    /// Like [`Listpack::insert_after`], for an element of another listpack or a number.
    pub(crate) fn insert_element_after(&mut self, pos: Pos, value: Element<'_>) {
        let at = pos.0 + self.entry_len(pos.0);
        self.splice(at, 0, &Encoded::of_element(value), 1);
    }

    /// Puts `value` in the place of the element at `pos`, which stays its position.
    pub fn replace(&mut self, pos: Pos, value: &[u8]) -> Pos {
        self.splice(pos.0, self.entry_len(pos.0), &Encoded::of(value), 0);
        pos
    }

    /// The same for a number.
    pub(crate) fn replace_int(&mut self, pos: Pos, value: i64) {
        self.splice(pos.0, self.entry_len(pos.0), &Encoded::of_int(value), 0);
    }

    /// Removes and returns the position of what followed.
    pub fn remove(&mut self, pos: Pos) -> Option<Pos> {
        self.cut(pos.0, pos.0 + self.entry_len(pos.0), 1);
        (pos.0 < self.end()).then_some(pos)
    }

    /// Removes the element at `pos` and the one after it (a field and its value).
    pub(crate) fn remove_pair(&mut self, pos: Pos) {
        let second = pos.0 + self.entry_len(pos.0);
        self.cut(pos.0, second + self.entry_len(second), 2);
    }

    /// Removes `count` elements from `index` on, or as many as there are.
    pub fn remove_range(&mut self, index: usize, count: usize) {
        let Some(start) = self.seek(index) else {
            return;
        };
        let (mut at, mut removed) = (start.0, 0);
        while removed < count && at < self.end() {
            at += self.entry_len(at);
            removed += 1;
        }
        self.cut(start.0, at, removed);
    }

    /// Splits off the elements from `index` on.
    pub(crate) fn split_off(&mut self, index: usize) -> Listpack {
        let Some(start) = self.seek(index) else {
            return Listpack::new();
        };
        let count = self.len();
        let tail = &self.bytes[start.0..self.end()];
        let mut other = Listpack::with_capacity(tail.len());
        other.bytes.truncate(HEADER);
        other.bytes.extend_from_slice(tail);
        other.bytes.push(END);
        other.write_header(count - index);
        self.cut(start.0, self.end(), count - index);
        other
    }

    /// Appends all elements of `other`.
    pub(crate) fn append(&mut self, other: &Listpack) {
        let count = self.len() + other.len();
        self.reserve(other.bytes.len());
        self.bytes.pop();
        self.bytes.extend_from_slice(&other.bytes[HEADER..]);
        self.write_header(count);
    }

    /// Index of the element at `pos`.
    pub(crate) fn index_of(&self, pos: Pos) -> usize {
        let (mut at, mut index) = (HEADER, 0);
        while at < pos.0 {
            at += self.entry_len(at);
            index += 1;
        }
        index
    }

    /// Whether every `step`th element, from the first on, is different from the others.
    pub(crate) fn is_distinct(&self, step: usize) -> bool {
        let mut buffer = IntBuffer::new();
        let mut hashes: Vec<u64> = self
            .iter()
            .step_by(step)
            .map(|element| hash_bytes(element.as_bytes(&mut buffer)))
            .collect();
        hashes.sort_unstable();
        if hashes.windows(2).all(|pair| pair[0] != pair[1]) {
            return true;
        }
        // Equal hashes: all but certainly equal elements. Make sure.
        let mut elements: Vec<Vec<u8>> = self
            .iter()
            .step_by(step)
            .map(|element| element.to_vec())
            .collect();
        elements.sort_unstable();
        elements.windows(2).all(|pair| pair[0] != pair[1])
    }

    /// Looks at `from`, then skips `skip` elements between comparisons.
    #[inline]
    pub fn find(&self, from: Pos, needle: &[u8], skip: usize) -> Option<Pos> {
        let int = number::parse_i64(needle);
        let end = self.end();
        let mut at = from.0;
        while at < end {
            let first = self.bytes[at];
            let (found, len) = match first {
                0x80..=0xBF => {
                    let len = usize::from(first & 0x3F);
                    (
                        len == needle.len() && self.bytes[at + 1..at + 1 + len] == *needle,
                        1 + len,
                    )
                }
                _ => {
                    let (element, len) = decode(&self.bytes, at).expect("entries are well formed");
                    let found = match element {
                        Element::Bytes(bytes) => bytes == needle,
                        Element::Int(value) => int == Some(value),
                    };
                    (found, len)
                }
            };
            if found {
                return Some(Pos(at));
            }
            at += len + back_len_size(len);
            for _ in 0..skip {
                if at >= end {
                    return None;
                }
                at += self.entry_len(at);
            }
        }
        None
    }

    #[inline]
    pub fn iter(&self) -> Iter<'_> {
        Iter {
            bytes: &self.bytes,
            front: HEADER,
            back: self.end(),
        }
    }

    /// Elements from `pos` to the end.
    #[inline]
    pub fn iter_from(&self, pos: Pos) -> Iter<'_> {
        Iter {
            bytes: &self.bytes,
            front: pos.0,
            back: self.end(),
        }
    }

    /// `count` elements from `index` on, or as many as there are.
    pub fn range(&self, index: usize, count: usize) -> Iter<'_> {
        let end = self.end();
        let front = self.seek(index).map_or(end, |pos| pos.0);
        let mut back = end;
        if count < usize::MAX - index && self.stated_count() != 0 {
            back = self.seek(index + count).map_or(end, |pos| pos.0);
        }
        Iter {
            bytes: &self.bytes,
            front,
            back,
        }
    }

    fn reserve(&mut self, more: usize) {
        let needed = self.bytes.len() + more;
        if needed > self.bytes.capacity() {
            self.bytes
                .reserve_exact(round_capacity(needed) - self.bytes.len());
        }
    }

    /// Replaces `old_len` bytes at `at` by the entry and adds `added` to the count.
    #[inline]
    fn splice(&mut self, at: usize, old_len: usize, entry: &Encoded<'_>, added: u16) {
        let new_len = entry.entry_len();
        let tail = at + old_len;
        if new_len > old_len {
            self.reserve(new_len - old_len);
            let from = self.bytes.len();
            self.bytes.resize(from + new_len - old_len, 0);
            self.bytes.copy_within(tail..from, at + new_len);
        } else if new_len < old_len {
            self.bytes.copy_within(tail.., at + new_len);
            self.bytes.truncate(self.bytes.len() - (old_len - new_len));
        }
        entry.write(&mut self.bytes[at..at + new_len]);
        let count = self.stated_count();
        // 65534 and one more make 65535, which reads "unknown" from then on.
        let count = if count == COUNT_UNKNOWN {
            count
        } else {
            count + added
        };
        self.write_header(usize::from(count));
    }

    /// Removes the bytes `from..to`, which are `removed` whole entries.
    fn cut(&mut self, from: usize, to: usize, removed: usize) {
        self.bytes.drain(from..to);
        let count = self.stated_count();
        let count = if count == COUNT_UNKNOWN {
            usize::from(count)
        } else {
            usize::from(count) - removed
        };
        self.write_header(count);
        if self.bytes.capacity() > 2 * self.bytes.len() + 64 {
            self.bytes.shrink_to(round_capacity(self.bytes.len()));
        }
    }

    #[inline]
    fn write_header(&mut self, count: usize) {
        let total = u32::try_from(self.bytes.len()).expect("collections leave listpacks at 1 GiB");
        self.bytes[..4].copy_from_slice(&total.to_le_bytes());
        let count = u16::try_from(count).unwrap_or(COUNT_UNKNOWN);
        self.bytes[4..6].copy_from_slice(&count.to_le_bytes());
    }
}

/// The next size class of the allocator (eighths of a power of two), so that slack costs nothing.
#[inline]
fn round_capacity(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 8).max(16);
    bytes.div_ceil(step) * step
}

impl Default for Listpack {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Listpack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Elements from either end.
#[derive(Clone)]
pub struct Iter<'a> {
    bytes: &'a [u8],
    front: usize,
    back: usize,
}

impl Iter<'_> {
    /// Where the element that `next` gives begins.
    pub(crate) fn front_pos(&self) -> Pos {
        Pos(self.front)
    }

    /// Where the element that `next_back` gave last begins.
    pub(crate) fn back_pos(&self) -> Pos {
        Pos(self.back)
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Element<'a>;

    #[inline]
    fn next(&mut self) -> Option<Element<'a>> {
        if self.front >= self.back {
            return None;
        }
        let (element, len) = decode(self.bytes, self.front).expect("entries are well formed");
        self.front += len + back_len_size(len);
        Some(element)
    }
}

impl<'a> DoubleEndedIterator for Iter<'a> {
    #[inline]
    fn next_back(&mut self) -> Option<Element<'a>> {
        if self.front >= self.back {
            return None;
        }
        let (len, size) =
            read_back_len(self.bytes, self.back).expect("back lengths are well formed");
        self.back -= len + size;
        decode(self.bytes, self.back).map(|(element, _)| element)
    }
}

#[cfg(test)]
#[path = "listpack_tests.rs"]
mod tests;
