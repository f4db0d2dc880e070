//! DEBUG DIGEST and DIGEST-VALUE, equal to those of Redis 7.2 and later for equal data, so that
//! servers can be compared. (Redis 7.0 prints the scores of sorted sets in another way.)
//!
//! SHA-1 is used in two ways: `mix` depends on the order of what goes in (a list's elements, a
//! field and its value), `xor` does not (members, keys). A value's digest begins with its type's
//! number and ends with a mark if the key expires; that of the dataset takes in each database
//! that is not empty, in order, and its keys in any order.

use datatypes::{number, Value};
use keyspace::{DbIndex, EntryRef, Shard, ValueRef};
use sha1::{Digest as _, Sha1};

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest([u8; 20]);

/// Redis's numbers of the types.
const STRING: u32 = 0;
const LIST: u32 = 1;
const SET: u32 = 2;
const SORTED_SET: u32 = 3;
const HASH: u32 = 4;
const STREAM: u32 = 6;

impl Digest {
    fn xor(&mut self, bytes: &[u8]) {
        let hash: [u8; 20] = Sha1::digest(bytes).into();
        for (ours, theirs) in self.0.iter_mut().zip(hash) {
            *ours ^= theirs;
        }
    }

    fn mix(&mut self, bytes: &[u8]) {
        self.xor(bytes);
        self.0 = Sha1::digest(self.0).into();
    }

    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Takes in a value, with whether it expires.
    fn value(&mut self, entry: EntryRef<'_>) {
        match entry.value() {
            ValueRef::String(string) => {
                self.mix(&STRING.to_be_bytes());
                self.mix(string.bytes(&mut itoa::Buffer::new()));
            }
            ValueRef::Object(Value::List(list)) => {
                self.mix(&LIST.to_be_bytes());
                list.iter().for_each(|element| self.mix(&element.to_vec()));
            }
            ValueRef::Object(Value::Set(set)) => {
                self.mix(&SET.to_be_bytes());
                set.iter().for_each(|member| self.xor(&member.to_vec()));
            }
            ValueRef::Object(Value::SortedSet(set)) => {
                self.mix(&SORTED_SET.to_be_bytes());
                for (member, score) in set.iter() {
                    let mut text = Vec::new();
                    number::write_f64_by_digits(&mut text, score);
                    self.pair(&member.to_vec(), &text);
                }
            }
            ValueRef::Object(Value::Hash(hash)) => {
                self.mix(&HASH.to_be_bytes());
                for (field, value) in hash.iter() {
                    let field = field.to_vec();
                    let mut pair = Digest::of_pair(&field, &value.to_vec());
                    if hash.expiry_of(&field).is_some() {
                        pair.xor(b"!!hexpire!!");
                    }
                    self.xor(&pair.0);
                }
            }
            ValueRef::Object(Value::Stream(stream)) => {
                self.mix(&STREAM.to_be_bytes());
                for entry in stream.iter() {
                    self.mix(format!("{}.{}", entry.id.ms, entry.id.seq).as_bytes());
                    for (field, value) in entry.fields() {
                        self.mix(&field.to_vec());
                        self.mix(&value.to_vec());
                    }
                }
            }
        }
        if entry.expire_at().is_some() {
            self.xor(b"!!expire!!");
        }
    }

    fn pair(&mut self, first: &[u8], second: &[u8]) {
        self.xor(&Digest::of_pair(first, second).0);
    }

    fn of_pair(first: &[u8], second: &[u8]) -> Digest {
        let mut pair = Digest::default();
        pair.mix(first);
        pair.mix(second);
        pair
    }
}

/// The digest of one key's value; all zeros for none.
pub fn of_value(entry: Option<EntryRef<'_>>) -> Digest {
    let mut digest = Digest::default();
    if let Some(entry) = entry {
        digest.value(entry);
    }
    digest
}

/// The digest of all databases.
pub fn of_dataset(shards: &[&Shard]) -> Digest {
    let mut digest = Digest::default();
    let databases = shards.first().map_or(0, |shard| shard.databases()) as u32;
    for db in (0..databases).map(DbIndex) {
        if shards.iter().all(|shard| shard.db(db).is_empty()) {
            continue;
        }
        digest.mix(&db.0.to_be_bytes());
        for entry in shards.iter().flat_map(|shard| shard.db(db).iter()) {
            let mut key = Digest::default();
            key.mix(entry.key());
            key.value(entry);
            digest.xor(&key.0);
        }
    }
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use datatypes::{Limits, SortedSet};
    use keyspace::{Entry, NewValue, UnixMillis};

    fn check(value: NewValue<'_>, expire_at: Option<UnixMillis>, expected: &str) {
        let entry = Entry::new(b"key", value, expire_at);
        assert_eq!(of_value(Some(entry.as_ref())).hex(), expected);
    }

    /// What Redis 7.4 replies to DEBUG DIGEST-VALUE.
    #[test]
    fn digests_are_those_of_redis() {
        check(
            NewValue::Bytes(b"v"),
            None,
            "d79ee9fe5d5ad902d7f6620efc3b07b75ddd742f",
        );
        check(
            NewValue::Bytes(b"v"),
            Some(UnixMillis(1 << 60)),
            "311b17018163335616e089f6b951c82c477335ac",
        );
        let mut set = SortedSet::new();
        for (member, score) in [("a", 1e8), ("b", -5.693_172_113_098_716e4), ("c", 0.1)] {
            set.insert(member.as_bytes(), score, &Limits::default());
        }
        check(
            NewValue::Object(Box::new(Value::SortedSet(set))),
            None,
            "80f74cf66944ee6ae3465e3b024d6d44a917c74f",
        );
        assert_eq!(of_value(None).hex(), "0".repeat(40));
    }
}
