//! Sets: an intset while all members are integers and few, a listpack while they are few and short, else a
//! hash table. The encoding only ever moves that way, except in [`Set::compact`].

use crate::listpack::MAX_SAFE_BYTES;
use crate::number::{i64_len, parse_i64};
use crate::record::{Member, RecordTable, Ref};
use crate::{Element, Encoding, FormatError, IntBuffer, IntSet, Limits, Listpack, Rng};

/// See the module's head.
#[derive(Clone)]
pub struct Set {
    body: Body,
}

#[derive(Clone)]
enum Body {
    Ints(IntSet),
    Packed(Listpack),
    Table(Box<RecordTable<Member>>),
}

/// Redis never lets an intset grow beyond this, whatever the configuration says.
const INTSET_ENTRIES_CAP: usize = 1 << 30;

fn table() -> Body {
    Body::Table(Box::new(RecordTable::new()))
}

impl Set {
    /// Empty, in the intset encoding.
    pub fn new() -> Set {
        Set {
            body: Body::Ints(IntSet::new()),
        }
    }

    /// Empty, in the encoding SADD picks for `size_hint` members of which `first` is one.
    pub fn for_members(first: &[u8], size_hint: usize, limits: &Limits) -> Set {
        let body = if parse_i64(first).is_some() && size_hint <= limits.set_max_intset_entries {
            Body::Ints(IntSet::new())
        } else if size_hint <= limits.set_max_listpack_entries {
            Body::Packed(Listpack::new())
        } else {
            table()
        };
        Set { body }
    }

    /// Empty, in the given encoding; anything but the compact two is the table.
    pub fn with_encoding(encoding: Encoding) -> Set {
        let body = match encoding {
            Encoding::IntSet => Body::Ints(IntSet::new()),
            Encoding::Listpack => Body::Packed(Listpack::new()),
            _ => table(),
        };
        Set { body }
    }

    /// Announces that one command adds `size_hint` members: too many for the present compact encoding make it a
    /// table at once, even if some turn out to be the same.
    pub fn prepare(&mut self, size_hint: usize, limits: &Limits) {
        let max = match &self.body {
            Body::Ints(_) => limits.set_max_intset_entries,
            Body::Packed(_) => limits.set_max_listpack_entries,
            Body::Table(_) => return,
        };
        if size_hint > max {
            self.become_table();
        }
    }

    #[inline]
    pub fn len(&self) -> usize {
        match &self.body {
            Body::Ints(ints) => ints.len(),
            Body::Packed(pack) => pack.len(),
            Body::Table(table) => table.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn encoding(&self) -> Encoding {
        match &self.body {
            Body::Ints(_) => Encoding::IntSet,
            Body::Packed(_) => Encoding::Listpack,
            Body::Table(_) => Encoding::HashTable,
        }
    }

    /// Heap bytes; `samples` members stand for all, 0 looks at each.
    pub fn approximate_bytes(&self, samples: usize) -> usize {
        match &self.body {
            Body::Ints(ints) => ints.capacity(),
            Body::Packed(pack) => pack.capacity(),
            Body::Table(table) => {
                size_of::<RecordTable<Member>>() + table.approximate_bytes(samples)
            }
        }
    }

    /// True when it was absent.
    pub fn add(&mut self, member: &[u8], limits: &Limits) -> bool {
        match &mut self.body {
            Body::Table(table) => return table.insert(member),
            Body::Packed(pack) => {
                if find(pack, member) {
                    return false;
                }
                if fits_listpack(pack.len(), pack.byte_len(), member.len(), limits) {
                    pack.push_back(member);
                    return true;
                }
            }
            Body::Ints(ints) => {
                if let Some(int) = parse_i64(member) {
                    return self.add_int(int, limits);
                }
                // The longest member is one of the two ends.
                let widest = ints
                    .get(0)
                    .map_or(0, i64_len)
                    .max(ints.get(ints.len().wrapping_sub(1)).map_or(0, i64_len));
                let fits = widest <= limits.set_max_listpack_value
                    && fits_listpack(ints.len(), ints.as_bytes().len(), member.len(), limits);
                if fits {
                    let mut pack =
                        Listpack::with_capacity(ints.as_bytes().len() + member.len() + 6);
                    ints.iter().for_each(|int| pack.push_back_int(int));
                    pack.push_back(member);
                    self.body = Body::Packed(pack);
                    return true;
                }
            }
        }
        self.become_table().insert(member)
    }

    fn add_int(&mut self, int: i64, limits: &Limits) -> bool {
        let Body::Ints(ints) = &mut self.body else {
            return self.add(IntBuffer::new().format(int), limits);
        };
        if !ints.insert(int) {
            return false;
        }
        if ints.len() > limits.set_max_intset_entries.min(INTSET_ENTRIES_CAP) {
            self.become_table();
        }
        true
    }

    pub fn add_element(&mut self, member: Element<'_>, limits: &Limits) -> bool {
        match member {
            Element::Bytes(bytes) => self.add(bytes, limits),
            Element::Int(int) => self.add_int(int, limits),
        }
    }

    /// Converts to the table and returns it.
    fn become_table(&mut self) -> &mut RecordTable<Member> {
        if !matches!(self.body, Body::Table(_)) {
            let mut records = RecordTable::new();
            let mut buffer = IntBuffer::new();
            for member in self.iter() {
                records.insert(member.as_bytes(&mut buffer));
            }
            self.body = Body::Table(Box::new(records));
        }
        match &mut self.body {
            Body::Table(table) => table,
            Body::Ints(_) | Body::Packed(_) => unreachable!("converted above"),
        }
    }

    /// True when it was present.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match &mut self.body {
            Body::Ints(ints) => parse_i64(member).is_some_and(|int| ints.remove(int)),
            Body::Packed(pack) => {
                let found = pack.first().and_then(|first| pack.find(first, member, 0));
                found.map(|pos| pack.remove(pos)).is_some()
            }
            Body::Table(table) => table.remove(member),
        }
    }

    #[inline]
    pub fn contains(&self, member: &[u8]) -> bool {
        match &self.body {
            Body::Ints(ints) => parse_i64(member).is_some_and(|int| ints.contains(int)),
            Body::Packed(pack) => find(pack, member),
            Body::Table(table) => table.get(member).is_some(),
        }
    }

    pub fn contains_element(&self, member: Element<'_>) -> bool {
        match (&self.body, member) {
            (Body::Ints(ints), Element::Int(int)) => ints.contains(int),
            _ => self.contains(member.as_bytes(&mut IntBuffer::new())),
        }
    }

    /// A member chosen with equal chance among all.
    pub fn random(&self, rng: &mut Rng) -> Option<Element<'_>> {
        match &self.body {
            Body::Ints(ints) => ints.get(rng.below(ints.len())).map(Element::Int),
            Body::Packed(pack) => pack.get(rng.below(pack.len())),
            Body::Table(table) => table.random(rng).map(|record| Element::Bytes(record.key())),
        }
    }

    /// Removes a member chosen with equal chance among all.
    pub fn pop(&mut self, rng: &mut Rng) -> Option<Vec<u8>> {
        let member = self.random(rng)?.to_vec();
        self.remove(&member);
        Some(member)
    }

    /// In the order of the encoding: ascending, insertion, none.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Element<'_>> + '_ {
        let members = match &self.body {
            Body::Ints(ints) => Members::Ints(ints.iter()),
            Body::Packed(pack) => Members::Packed(pack.iter()),
            Body::Table(table) => Members::Table(table.iter()),
        };
        Iter {
            members,
            remaining: self.len(),
        }
    }

    /// SSCAN: returns the next cursor, 0 when done. Compact encodings are visited whole.
    pub fn scan(&self, cursor: u64, count: usize, mut visit: impl FnMut(Element<'_>)) -> u64 {
        match &self.body {
            Body::Ints(_) | Body::Packed(_) => {
                self.iter().for_each(visit);
                0
            }
            Body::Table(table) => {
                table.scan(cursor, count, |record| visit(Element::Bytes(record.key())))
            }
        }
    }

    /// Moves to the smallest encoding that takes all members: for results of set algebra and for loading.
    pub fn compact(&mut self, limits: &Limits) {
        let len = self.len();
        if matches!(self.body, Body::Ints(_)) {
            return;
        }
        if len <= limits.set_max_intset_entries
            && self.iter().all(|member| member.as_int().is_some())
        {
            let mut ints: Vec<i64> = self.iter().filter_map(|member| member.as_int()).collect();
            ints.sort_unstable();
            let mut set = IntSet::new();
            for int in ints {
                set.insert(int);
            }
            self.body = Body::Ints(set);
            return;
        }
        let Body::Table(table) = &self.body else {
            return;
        };
        let bytes: usize = table.iter().map(|record| record.key().len()).sum();
        let fits = len <= limits.set_max_listpack_entries
            && bytes < MAX_SAFE_BYTES
            && table
                .iter()
                .all(|record| record.key().len() <= limits.set_max_listpack_value);
        if fits {
            let mut pack = Listpack::with_capacity(bytes + 2 * len);
            table.iter().for_each(|record| pack.push_back(record.key()));
            self.body = Body::Packed(pack);
        }
    }

    pub fn as_intset(&self) -> Option<&IntSet> {
        match &self.body {
            Body::Ints(ints) => Some(ints),
            Body::Packed(_) | Body::Table(_) => None,
        }
    }

    pub fn as_listpack(&self) -> Option<&Listpack> {
        match &self.body {
            Body::Packed(pack) => Some(pack),
            Body::Ints(_) | Body::Table(_) => None,
        }
    }

    /// From a stored blob; converts to a table when it is above the limits.
    pub fn from_intset(blob: IntSet, limits: &Limits) -> Result<Set, FormatError> {
        let above = blob.len() > limits.set_max_intset_entries.min(INTSET_ENTRIES_CAP);
        let mut set = Set {
            body: Body::Ints(blob),
        };
        if above {
            set.become_table();
        }
        Ok(set)
    }

    /// From a stored blob, whose members must be distinct; converts to a table when it is above the limits.
    pub fn from_listpack(blob: Listpack, limits: &Limits) -> Result<Set, FormatError> {
        if !blob.is_distinct(1) {
            return Err(FormatError::new("set listpack holds a member twice"));
        }
        let above = blob.len() > limits.set_max_listpack_entries
            || blob.byte_len() > MAX_SAFE_BYTES
            || blob
                .iter()
                .any(|member| member.len() > limits.set_max_listpack_value);
        let mut set = Set {
            body: Body::Packed(blob),
        };
        if above {
            set.become_table();
        }
        Ok(set)
    }
}

fn find(pack: &Listpack, member: &[u8]) -> bool {
    pack.first()
        .is_some_and(|first| pack.find(first, member, 0).is_some())
}

/// Whether one more member of `member_len` bytes may join `len` others that take `bytes`.
fn fits_listpack(len: usize, bytes: usize, member_len: usize, limits: &Limits) -> bool {
    len < limits.set_max_listpack_entries
        && member_len <= limits.set_max_listpack_value
        && bytes + member_len <= MAX_SAFE_BYTES
}

impl Default for Set {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Set {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

enum Members<I, P, T> {
    Ints(I),
    Packed(P),
    Table(T),
}

struct Iter<I, P, T> {
    members: Members<I, P, T>,
    remaining: usize,
}

impl<'a, I, P, T> Iterator for Iter<I, P, T>
where
    I: Iterator<Item = i64>,
    P: Iterator<Item = Element<'a>>,
    T: Iterator<Item = Ref<'a, Member>>,
{
    type Item = Element<'a>;

    #[inline]
    fn next(&mut self) -> Option<Element<'a>> {
        let member = match &mut self.members {
            Members::Ints(ints) => ints.next().map(Element::Int),
            Members::Packed(pack) => pack.next(),
            Members::Table(table) => table.next().map(|record| Element::Bytes(record.key())),
        }?;
        self.remaining -= 1;
        Some(member)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl<'a, I, P, T> ExactSizeIterator for Iter<I, P, T>
where
    I: Iterator<Item = i64>,
    P: Iterator<Item = Element<'a>>,
    T: Iterator<Item = Ref<'a, Member>>,
{
}
