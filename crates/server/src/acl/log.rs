//! What ACL LOG shows: who tried what it may not, newest first.

use std::collections::VecDeque;

use keyspace::UnixMillis;

/// Entries alike within this time are one.
const GROUPING_MS: i64 = 60_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    Command,
    Key,
    Channel,
    Auth,
}

impl Reason {
    pub fn word(self) -> &'static str {
        match self {
            Reason::Command => "command",
            Reason::Key => "key",
            Reason::Channel => "channel",
            Reason::Auth => "auth",
        }
    }
}

/// Where a command was to run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Context {
    Toplevel,
    Lua,
    Multi,
}

impl Context {
    pub fn word(self) -> &'static str {
        match self {
            Context::Toplevel => "toplevel",
            Context::Lua => "lua",
            Context::Multi => "multi",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub id: u64,
    pub count: u64,
    pub reason: Reason,
    pub context: Context,
    /// The command, key or channel.
    pub object: Vec<u8>,
    pub user: Vec<u8>,
    /// As CLIENT INFO describes it.
    pub client: String,
    pub created_at: UnixMillis,
    pub updated_at: UnixMillis,
}

impl Entry {
    fn is_like(&self, other: &Entry) -> bool {
        self.reason == other.reason
            && self.context == other.context
            && self.object == other.object
            && self.user == other.user
            && (other.created_at.0 - self.created_at.0).abs() <= GROUPING_MS
    }
}

#[derive(Default)]
pub struct AclLog {
    entries: VecDeque<Entry>,
    next_id: u64,
}

impl AclLog {
    /// Adds an entry, or counts it with one like it, which comes to the front.
    pub fn add(&mut self, mut entry: Entry, len_max: usize) {
        let known = self.entries.iter().position(|known| known.is_like(&entry));
        match known.and_then(|at| self.entries.remove(at)) {
            Some(known) => {
                entry.id = known.id;
                entry.count = known.count + 1;
                entry.created_at = known.created_at;
            }
            None => {
                entry.id = self.next_id;
                self.next_id += 1;
            }
        }
        self.entries.push_front(entry);
        self.entries.truncate(len_max);
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_alike_are_counted_for_a_minute() {
        let mut log = AclLog::default();
        let entry = |object: &[u8], at| Entry {
            id: 0,
            count: 1,
            reason: Reason::Key,
            context: Context::Toplevel,
            object: object.to_vec(),
            user: b"bob".to_vec(),
            client: String::new(),
            created_at: UnixMillis(at),
            updated_at: UnixMillis(at),
        };
        for (object, at) in [
            (b"a", 0),
            (b"b", 1),
            (b"a", 59_000),
            (b"a", 61_000),
            (b"c", 62_000),
        ] {
            log.add(entry(object, at), 3);
        }
        let seen: Vec<_> = log
            .entries()
            .map(|e| (e.id, e.count, &e.object[..], e.created_at.0, e.updated_at.0))
            .collect();
        assert_eq!(
            seen,
            [
                (3, 1, b"c".as_slice(), 62_000, 62_000),
                (2, 1, b"a", 61_000, 61_000),
                (0, 2, b"a", 0, 59_000),
            ]
        );
    }
}
