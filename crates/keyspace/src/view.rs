//! The shards whose batons a command holds, seen as one keyspace.
//!
//! A command is written once against a view; whether its keys lie in one shard or in several is
//! decided before it runs, by taking batons.

use datatypes::ptr_table::hash_bytes;

use crate::db::Db;
use crate::shard::Shard;
use crate::slots::SlotMap;
use crate::types::{DbIndex, ShardIndex};

/// A key with what is worked out once per command: its hash and its shard.
#[derive(Clone, Copy, Debug)]
pub struct Key<'a> {
    pub bytes: &'a [u8],
    pub hash: u64,
    pub shard: ShardIndex,
}

impl<'a> Key<'a> {
    #[inline]
    pub fn new(bytes: &'a [u8], slots: &SlotMap) -> Key<'a> {
        Key {
            bytes,
            hash: hash_bytes(bytes),
            shard: slots.shard_of(bytes),
        }
    }
}

/// The shards a command may touch. Asking for another is an error of ours, and panics.
pub struct View<'a> {
    slots: SlotMap,
    held: Held<'a>,
}

enum Held<'a> {
    One(&'a mut Shard),
    /// In ascending order of index.
    Several(Vec<&'a mut Shard>),
}

impl<'a> View<'a> {
    #[inline]
    pub fn one(shard: &'a mut Shard, slots: SlotMap) -> View<'a> {
        View {
            slots,
            held: Held::One(shard),
        }
    }

    /// A view of several shards, which come in ascending order of index.
    pub fn several(shards: Vec<&'a mut Shard>, slots: SlotMap) -> View<'a> {
        debug_assert!(shards.is_sorted_by_key(|shard| shard.index()));
        View {
            slots,
            held: Held::Several(shards),
        }
    }

    pub fn slots(&self) -> &SlotMap {
        &self.slots
    }

    pub fn key<'k>(&self, bytes: &'k [u8]) -> Key<'k> {
        Key::new(bytes, &self.slots)
    }

    /// Whether the shard is among those that may be touched.
    pub fn holds(&self, index: ShardIndex) -> bool {
        self.shards().any(|shard| shard.index() == index)
    }

    #[inline]
    pub fn shard(&self, index: ShardIndex) -> &Shard {
        match &self.held {
            Held::One(shard) => {
                assert_eq!(
                    shard.index(),
                    index,
                    "a command keeps to the shards it took batons for"
                );
                shard
            }
            Held::Several(shards) => {
                let at = shards.binary_search_by_key(&index, |shard| shard.index());
                shards[at.expect("a command keeps to the shards it took batons for")]
            }
        }
    }

    #[inline]
    pub fn shard_mut(&mut self, index: ShardIndex) -> &mut Shard {
        match &mut self.held {
            Held::One(shard) => {
                assert_eq!(
                    shard.index(),
                    index,
                    "a command keeps to the shards it took batons for"
                );
                shard
            }
            Held::Several(shards) => {
                let at = shards.binary_search_by_key(&index, |shard| shard.index());
                shards[at.expect("a command keeps to the shards it took batons for")]
            }
        }
    }

    /// All shards of the view, in ascending order.
    pub fn shards_mut(&mut self) -> &mut [&'a mut Shard] {
        match &mut self.held {
            Held::One(shard) => std::slice::from_mut(shard),
            Held::Several(shards) => shards,
        }
    }

    pub fn shards(&self) -> impl Iterator<Item = &Shard> {
        let shards = match &self.held {
            Held::One(shard) => std::slice::from_ref(shard),
            Held::Several(shards) => shards.as_slice(),
        };
        shards.iter().map(|shard| &**shard)
    }

    #[inline]
    pub fn db(&self, db: DbIndex, key: Key<'_>) -> &Db {
        self.shard(key.shard).db(db)
    }

    #[inline]
    pub fn db_mut(&mut self, db: DbIndex, key: Key<'_>) -> &mut Db {
        self.shard_mut(key.shard).db_mut(db)
    }
}
