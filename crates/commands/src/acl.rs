//! ACL categories, derived from flags and groups.

use crate::command::{Command, Flags, Group, Run};

bitflags::bitflags! {
    /// The categories of ACL CAT that commands here are in, in the order of Redis's lists.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Categories: u32 {
        const KEYSPACE = 1;
        const READ = 1 << 1;
        const WRITE = 1 << 2;
        const SET = 1 << 3;
        const SORTEDSET = 1 << 4;
        const LIST = 1 << 5;
        const HASH = 1 << 6;
        const STRING = 1 << 7;
        const BITMAP = 1 << 8;
        const HYPERLOGLOG = 1 << 9;
        const GEO = 1 << 10;
        const STREAM = 1 << 11;
        const PUBSUB = 1 << 12;
        const ADMIN = 1 << 13;
        const FAST = 1 << 14;
        const SLOW = 1 << 15;
        const BLOCKING = 1 << 16;
        const DANGEROUS = 1 << 17;
        const CONNECTION = 1 << 18;
        const TRANSACTION = 1 << 19;
        const SCRIPTING = 1 << 20;
    }
}

impl Categories {
    /// The names, without `@`.
    pub fn names(self) -> impl Iterator<Item = String> {
        self.iter_names().map(|(name, _)| name.to_ascii_lowercase())
    }

    /// The category of this name, in any case.
    pub fn from_name_ignoring_case(name: &[u8]) -> Option<Categories> {
        let name = std::str::from_utf8(name).ok()?.to_ascii_uppercase();
        Categories::from_name(&name)
    }
}

/// The categories that flags give.
const BY_FLAG: &[(Flags, Categories)] = &[
    (Flags::WRITE, Categories::WRITE),
    (Flags::READONLY, Categories::READ),
    (Flags::ADMIN, Categories::ADMIN.union(Categories::DANGEROUS)),
    (Flags::DANGEROUS, Categories::DANGEROUS),
    (Flags::PUBSUB, Categories::PUBSUB),
    (Flags::BLOCKING, Categories::BLOCKING),
    (Flags::FAST, Categories::FAST),
];

fn of_group(group: Group) -> Categories {
    match group {
        Group::Generic => Categories::KEYSPACE,
        Group::String => Categories::STRING,
        Group::List => Categories::LIST,
        Group::Set => Categories::SET,
        Group::SortedSet => Categories::SORTEDSET,
        Group::Hash => Categories::HASH,
        Group::Bitmap => Categories::BITMAP,
        Group::HyperLogLog => Categories::HYPERLOGLOG,
        Group::Geo => Categories::GEO,
        Group::Stream => Categories::STREAM,
        Group::Connection => Categories::CONNECTION,
        Group::Server => Categories::empty(),
        Group::Transactions => Categories::TRANSACTION,
        Group::Scripting => Categories::SCRIPTING,
        Group::Pubsub => Categories::empty(),
    }
}

impl Command {
    /// All ACL categories the command is in.
    pub fn acl_categories(&self) -> Categories {
        let mut found = self.categories;
        for &(flag, category) in BY_FLAG {
            if self.flags.contains(flag) {
                found |= category;
            }
        }
        if !self.flags.contains(Flags::FAST) {
            found |= Categories::SLOW;
        }
        // A container does nothing itself. A generic command that is about the connection (WAIT) is
        // not about keys, and one that is about some types (SORT) is in their categories.
        let types = Categories::SET
            .union(Categories::SORTEDSET)
            .union(Categories::LIST);
        let is_stated = self
            .categories
            .intersects(Categories::CONNECTION.union(types));
        if !matches!(self.run, Run::Container) && !is_stated {
            found |= of_group(self.group);
        }
        found
    }
}
