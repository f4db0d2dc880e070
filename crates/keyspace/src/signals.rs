//! What commands did to the keys of a shard, for those who listen to keyspace notifications.
//!
//! Signals gather while a command or a transaction runs, and are told by the server behind it, with
//! the batons still held. Those of several shards are put in order by a number that all share. What
//! nobody listens to is not noted, and costs no more than a look at one word.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::types::DbIndex;

bitflags::bitflags! {
    /// Classes of events, and through which channels they are told; by the letters of
    /// `notify-keyspace-events`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Events: u32 {
        /// `K`: told in `__keyspace@<db>__:<key>`.
        const BY_KEY = 1;
        /// `E`: told in `__keyevent@<db>__:<event>`.
        const BY_EVENT = 1 << 1;
        const GENERIC = 1 << 2;
        const STRING = 1 << 3;
        const LIST = 1 << 4;
        const SET = 1 << 5;
        const HASH = 1 << 6;
        const SORTED_SET = 1 << 7;
        const EXPIRED = 1 << 8;
        const EVICTED = 1 << 9;
        const STREAM = 1 << 10;
        const MODULE = 1 << 11;
        const MISS = 1 << 12;
        const NEW = 1 << 13;
    }
}

impl Events {
    /// The classes of these letters; nothing if no channel is among them.
    pub fn from_letters(letters: &str) -> Events {
        let of_letter = |letter| match letter {
            'K' => Events::BY_KEY,
            'E' => Events::BY_EVENT,
            'g' => Events::GENERIC,
            '$' => Events::STRING,
            'l' => Events::LIST,
            's' => Events::SET,
            'h' => Events::HASH,
            'z' => Events::SORTED_SET,
            'x' => Events::EXPIRED,
            'e' => Events::EVICTED,
            't' => Events::STREAM,
            'd' => Events::MODULE,
            'm' => Events::MISS,
            'n' => Events::NEW,
            _ => Events::empty(),
        };
        let events: Events = letters.chars().map(of_letter).collect();
        if events.intersects(Events::BY_KEY | Events::BY_EVENT) {
            events
        } else {
            Events::empty()
        }
    }

    /// The class of an event, by its name.
    pub fn of(event: &str) -> Option<Events> {
        Some(match event {
            "del" | "rename_from" | "rename_to" | "move_from" | "move_to" | "copy_to"
            | "restore" | "expire" | "persist" => Events::GENERIC,
            "set" | "setrange" | "incrby" | "incrbyfloat" | "append" | "setbit" | "pfadd" => {
                Events::STRING
            }
            "lpush" | "rpush" | "lpop" | "rpop" | "linsert" | "lset" | "lrem" | "ltrim"
            | "sortstore" => Events::LIST,
            "sadd" | "srem" | "spop" | "sinterstore" | "sunionstore" | "sdiffstore" => Events::SET,
            "hset" | "hincrby" | "hincrbyfloat" | "hdel" | "hexpire" | "hpersist" | "hexpired" => {
                Events::HASH
            }
            "zadd" | "zincr" | "zrem" | "zremrangebyscore" | "zremrangebyrank"
            | "zremrangebylex" | "zpopmin" | "zpopmax" | "zrangestore" | "zinterstore"
            | "zunionstore" | "zdiffstore" | "geosearchstore" | "georadiusstore" => {
                Events::SORTED_SET
            }
            "expired" => Events::EXPIRED,
            "evicted" => Events::EVICTED,
            "keymiss" => Events::MISS,
            "new" => Events::NEW,
            _ if event.starts_with('x') => Events::STREAM,
            _ => return None,
        })
    }
}

/// A number above all that were given before: what happened in several shards is told in its order.
pub(crate) fn next_number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Relaxed)
}

/// Something that happened to a key.
#[derive(PartialEq, Eq, Debug)]
pub struct Signal {
    number: u64,
    pub db: DbIndex,
    pub event: &'static str,
    pub key: Box<[u8]>,
}

impl Signal {
    pub fn new(db: DbIndex, event: &'static str, key: &[u8]) -> Signal {
        Signal {
            number: next_number(),
            db,
            event,
            key: key.into(),
        }
    }
}

/// Signals of one shard that are not told yet.
#[derive(Default)]
pub struct Signals {
    wanted: Events,
    pub(crate) noted: Vec<Signal>,
}

impl Signals {
    pub fn wanted(&self) -> Events {
        self.wanted
    }

    pub(crate) fn want(&mut self, events: Events) {
        self.wanted = events;
        self.noted.clear();
    }

    /// Whether anything is wanted that a write may be.
    #[inline]
    pub fn are_wanted(&self) -> bool {
        !self.wanted.is_empty()
    }

    #[cold]
    pub(crate) fn note(&mut self, db: DbIndex, event: &'static str, key: &[u8]) {
        if Events::of(event).is_some_and(|class| self.wanted.contains(class)) {
            self.noted.push(Signal::new(db, event, key));
        }
    }

    pub(crate) fn take(&mut self, into: &mut Vec<Signal>) {
        into.append(&mut self.noted);
    }
}

/// Puts signals of several shards in the order in which they happened.
pub fn sort(signals: &mut [Signal]) {
    signals.sort_unstable_by_key(|signal| signal.number);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_stand_for_classes() {
        assert_eq!(Events::from_letters("g$lshzxetd"), Events::empty());
        assert_eq!(Events::from_letters("K$"), Events::BY_KEY | Events::STRING);
        let all = Events::from_letters("Eg$lshzxetd");
        assert!(!all.intersects(Events::MISS | Events::NEW | Events::BY_KEY));
        assert_eq!(Events::of("xgroup-create"), Some(Events::STREAM));
        assert_eq!(Events::of("nosuch"), None);
    }
}
