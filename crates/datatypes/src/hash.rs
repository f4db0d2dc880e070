//! Hashes: a listpack of field, value, field, value ... while fields are few and short, else a hash table with
//! one allocation per field. The encoding never moves back. Once a field has been given a time to expire, either of
//! them lies within an [`Expiring`], so that other hashes pay nothing for it.
//!
//! Nothing here looks at the time: fields that are due are there until [`Hash::take_due`] removes them.

use crate::listpack::{Pos, MAX_SAFE_BYTES};
use crate::record::{Field, RecordTable, Ref};
use crate::{Element, Encoding, FormatError, IntBuffer, Limits, Listpack, Rng};

mod expiring;

use expiring::Expiring;
pub use expiring::FIELD_TIME_MAX;

/// See the module's head.
#[derive(Clone)]
pub struct Hash {
    body: Body,
}

#[derive(Clone)]
enum Body {
    Packed(Listpack),
    Table(Box<RecordTable<Field>>),
    Expiring(Box<Expiring>),
}

impl Hash {
    /// Empty, in the listpack encoding.
    pub fn new() -> Hash {
        Hash {
            body: Body::Packed(Listpack::new()),
        }
    }

    /// Announces that one command sets `new_fields` fields: too many for a listpack make it a table at once, even
    /// if some turn out to be the same.
    pub fn prepare(&mut self, new_fields: usize, limits: &Limits) {
        if new_fields > limits.hash_max_listpack_entries {
            self.plain_mut().become_table();
        }
    }

    #[inline]
    pub fn len(&self) -> usize {
        match &self.body {
            Body::Packed(pack) => pack.len() / 2,
            Body::Table(table) => table.len(),
            Body::Expiring(expiring) => expiring.fields.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn encoding(&self) -> Encoding {
        match &self.body {
            Body::Packed(_) => Encoding::Listpack,
            Body::Table(_) => Encoding::HashTable,
            Body::Expiring(expiring) => match expiring.fields.encoding() {
                Encoding::Listpack => Encoding::ListpackEx,
                other => other,
            },
        }
    }

    /// Heap bytes; `samples` fields stand for all, 0 looks at each.
    pub fn approximate_bytes(&self, samples: usize) -> usize {
        match &self.body {
            Body::Packed(pack) => pack.capacity(),
            Body::Table(table) => {
                size_of::<RecordTable<Field>>() + table.approximate_bytes(samples)
            }
            Body::Expiring(expiring) => expiring.approximate_bytes(samples),
        }
    }

    #[inline]
    pub fn get(&self, field: &[u8]) -> Option<Element<'_>> {
        match &self.body {
            Body::Packed(pack) => {
                let value = pack.next(find(pack, field)?)?;
                Some(pack.element(value))
            }
            Body::Table(table) => table
                .get(field)
                .map(|record| Element::Bytes(record.parts().1)),
            Body::Expiring(expiring) => expiring.fields.get(field),
        }
    }

    pub fn contains(&self, field: &[u8]) -> bool {
        match &self.body {
            Body::Packed(pack) => find(pack, field).is_some(),
            Body::Table(table) => table.get(field).is_some(),
            Body::Expiring(expiring) => expiring.fields.contains(field),
        }
    }

    /// True when the field is new. It does not expire any more.
    pub fn set(&mut self, field: &[u8], value: &[u8], limits: &Limits) -> bool {
        let longest = field.len().max(value.len());
        let pack = match &mut self.body {
            Body::Table(table) => return table.set(field, value),
            Body::Packed(pack) => pack,
            Body::Expiring(expiring) => {
                expiring.forget_time(field);
                return expiring.fields.set(field, value, limits);
            }
        };
        if longest > limits.hash_max_listpack_value
            || pack.byte_len() + field.len() + value.len() > MAX_SAFE_BYTES
        {
            return self.become_table().set(field, value);
        }
        if let Some(at) = find(pack, field).and_then(|pos| pack.next(pos)) {
            pack.replace(at, value);
            return false;
        }
        pack.push_back(field);
        pack.push_back(value);
        if pack.len() / 2 > limits.hash_max_listpack_entries {
            self.become_table();
        }
        true
    }

    /// Converts to the table and returns it.
    fn become_table(&mut self) -> &mut RecordTable<Field> {
        if matches!(self.body, Body::Packed(_)) {
            let mut records = RecordTable::new();
            let (mut field_buffer, mut value_buffer) = (IntBuffer::new(), IntBuffer::new());
            for (field, value) in self.iter() {
                records.set(
                    field.as_bytes(&mut field_buffer),
                    value.as_bytes(&mut value_buffer),
                );
            }
            self.body = Body::Table(Box::new(records));
        }
        match &mut self.body {
            Body::Table(table) => table,
            Body::Packed(_) | Body::Expiring(_) => {
                unreachable!("converted above, and called on plain ones only")
            }
        }
    }

    fn expiring(&self) -> Option<&Expiring> {
        match &self.body {
            Body::Expiring(expiring) => Some(expiring),
            Body::Packed(_) | Body::Table(_) => None,
        }
    }

    fn expiring_mut(&mut self) -> Option<&mut Expiring> {
        match &mut self.body {
            Body::Expiring(expiring) => Some(expiring),
            Body::Packed(_) | Body::Table(_) => None,
        }
    }

    /// Makes room for times, and returns it.
    fn become_expiring(&mut self) -> &mut Expiring {
        if !matches!(self.body, Body::Expiring(_)) {
            let plain = std::mem::take(self);
            self.body = Body::Expiring(Box::new(Expiring::new(plain)));
        }
        self.expiring_mut().expect("it was just made one")
    }

    /// The hash without its times.
    fn plain(&self) -> &Hash {
        self.expiring().map_or(self, |expiring| &expiring.fields)
    }

    fn plain_mut(&mut self) -> &mut Hash {
        match self.body {
            Body::Expiring(_) => &mut self.become_expiring().fields,
            Body::Packed(_) | Body::Table(_) => self,
        }
    }

    /// True when the field was there.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        match &mut self.body {
            Body::Packed(pack) => find(pack, field).map(|pos| pack.remove_pair(pos)).is_some(),
            Body::Table(table) => table.remove(field),
            Body::Expiring(expiring) => {
                expiring.forget_time(field);
                expiring.fields.remove(field)
            }
        }
    }

    /// A field chosen with equal chance among all, and its value.
    pub fn random(&self, rng: &mut Rng) -> Option<(Element<'_>, Element<'_>)> {
        match &self.body {
            Body::Packed(pack) => {
                let field = pack.seek(2 * rng.below(pack.len() / 2))?;
                Some((pack.element(field), pack.element(pack.next(field)?)))
            }
            Body::Table(table) => table.random(rng).map(elements),
            Body::Expiring(expiring) => expiring.fields.random(rng),
        }
    }

    /// Fields with their values: in order of insertion in a listpack, in none in a table.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Element<'_>, Element<'_>)> + '_ {
        let fields = match &self.plain().body {
            Body::Packed(pack) => Fields::Packed(pack.iter()),
            Body::Table(table) => Fields::Table(table.iter()),
            Body::Expiring(_) => unreachable!("a plain hash has no times"),
        };
        Iter {
            fields,
            remaining: self.len(),
        }
    }

    /// HSCAN: returns the next cursor, 0 when done. A listpack is visited whole.
    pub fn scan(
        &self,
        cursor: u64,
        count: usize,
        mut visit: impl FnMut(Element<'_>, Element<'_>),
    ) -> u64 {
        match &self.plain().body {
            Body::Packed(_) => {
                self.iter().for_each(|(field, value)| visit(field, value));
                0
            }
            Body::Table(table) => table.scan(cursor, count, |record| {
                let (field, value) = elements(record);
                visit(field, value);
            }),
            Body::Expiring(_) => unreachable!("a plain hash has no times"),
        }
    }

    /// The fields and values of one that is small enough, without times.
    pub fn as_listpack(&self) -> Option<&Listpack> {
        match &self.plain().body {
            Body::Packed(pack) => Some(pack),
            Body::Table(_) | Body::Expiring(_) => None,
        }
    }

    /// From a stored blob of pairs with distinct fields; converts to a table when it is above the limits.
    pub fn from_listpack(blob: Listpack, limits: &Limits) -> Result<Hash, FormatError> {
        let count = blob.len();
        if !count.is_multiple_of(2) {
            return Err(FormatError::new(
                "hash listpack has a field without a value",
            ));
        }
        if !blob.is_distinct(2) {
            return Err(FormatError::new("hash listpack holds a field twice"));
        }
        let above = count / 2 > limits.hash_max_listpack_entries
            || blob.byte_len() > MAX_SAFE_BYTES
            || blob
                .iter()
                .any(|element| element.len() > limits.hash_max_listpack_value);
        let mut hash = Hash {
            body: Body::Packed(blob),
        };
        if above {
            hash.become_table();
        }
        Ok(hash)
    }
}

/// Position of `field`; values are skipped.
#[inline]
fn find(pack: &Listpack, field: &[u8]) -> Option<Pos> {
    pack.first().and_then(|first| pack.find(first, field, 1))
}

fn elements<'a>(record: Ref<'a, Field>) -> (Element<'a>, Element<'a>) {
    let (field, value) = record.parts();
    (Element::Bytes(field), Element::Bytes(value))
}

impl Default for Hash {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

enum Fields<P, T> {
    Packed(P),
    Table(T),
}

struct Iter<P, T> {
    fields: Fields<P, T>,
    remaining: usize,
}

impl<'a, P, T> Iterator for Iter<P, T>
where
    P: Iterator<Item = Element<'a>>,
    T: Iterator<Item = Ref<'a, Field>>,
{
    type Item = (Element<'a>, Element<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let pair = match &mut self.fields {
            Fields::Packed(pack) => (pack.next()?, pack.next()?),
            Fields::Table(table) => elements(table.next()?),
        };
        self.remaining -= 1;
        Some(pair)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl<'a, P, T> ExactSizeIterator for Iter<P, T>
where
    P: Iterator<Item = Element<'a>>,
    T: Iterator<Item = Ref<'a, Field>>,
{
}
