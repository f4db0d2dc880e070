//! From a command's arguments to the shards it needs.

use commands::Command;
use keyspace::{ShardIndex, SlotMap};
use resp::Argv;

/// A set of shards, walked in ascending order.
pub struct ShardSet {
    slots: SlotMap,
    words: Vec<u64>,
}

impl ShardSet {
    pub fn new(slots: SlotMap) -> ShardSet {
        ShardSet {
            slots,
            words: vec![0; usize::from(slots.shards()).div_ceil(64)],
        }
    }

    pub fn all(slots: SlotMap) -> ShardSet {
        let mut set = Self::new(slots);
        set.add_all();
        set
    }

    pub fn add(&mut self, ShardIndex(index): ShardIndex) {
        self.words[usize::from(index / 64)] |= 1 << (index % 64);
    }

    pub fn add_all(&mut self) {
        (0..self.slots.shards()).for_each(|index| self.add(ShardIndex(index)));
    }

    /// Adds the shards of a command's keys. A call in which no key can be found gets all
    /// shards (its function will refuse it, or knows better), and so does one that looks at keys that it does not
    /// name.
    pub fn add_keys(&mut self, command: &Command, argv: Argv<'_>) {
        let mut found = false;
        let all = command.for_each_key(argv, |index, _| {
            found = true;
            let shard = self.slots.shard_of(argv.arg(index));
            self.add(shard);
        });
        if !found || !all {
            self.add_all();
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = ShardIndex> + '_ {
        (0..self.slots.shards())
            .map(ShardIndex)
            .filter(|ShardIndex(i)| self.words[usize::from(i / 64)] >> (i % 64) & 1 == 1)
    }
}
