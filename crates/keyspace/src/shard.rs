//! A shard: its slice of every database, with expiry, watches, waiting clients, counters and log.
//!
//! Nothing in a shard has a lock of its own; whoever holds the shard's baton has it whole.

use crossbeam_channel::Sender;
use datatypes::ptr_table::Slot;
use datatypes::{Rng, Value};

use crate::access::AccessPolicy;
use crate::db::{Db, Probe};
use crate::entry::{Entry, EntryRef};
use crate::evict::Candidates;
use crate::log::Log;
use crate::pending::Pending;
use crate::signals::{Events, Signal, Signals};
use crate::tracking::TrackingTable;
use crate::types::{DbIndex, ShardIndex, UnixMillis};
use crate::view::Key;
use crate::waits::WaitTable;
use crate::watch::WatchTable;
use crate::SlotMap;

/// What is freed on another thread, because freeing it takes long.
pub enum Garbage {
    Entry(Entry),
    Db(Db),
}

/// Counts of what happened in a shard since start or CONFIG RESETSTAT.
#[derive(Default, Clone, Copy)]
pub struct ShardStats {
    pub keyspace_hits: u64,
    pub keyspace_misses: u64,
    pub expired_keys: u64,
    pub expired_fields: u64,
    pub evicted_keys: u64,
}

pub struct Shard {
    index: ShardIndex,
    slots: SlotMap,
    dbs: Vec<Db>,
    pub log: Log,
    pub watches: WatchTable,
    /// Clients that wait for keys.
    pub waits: WaitTable,
    /// Changes that are not durable yet.
    pub pending: Pending,
    pub stats: ShardStats,
    /// Changes since the last save.
    pub dirty: u64,
    /// Something follows from what was run here, and is done before the baton is given back: others
    /// are told of a change, or go on because of it. Whoever notes such a thing sets this.
    pub after_due: bool,
    /// Until then keys whose time has passed are absent, but stay.
    pub expiry_paused_until: UnixMillis,
    signals: Signals,
    /// A script that is interrupted has the shard to itself, though nobody holds the baton: commands are refused, and
    /// nothing changes.
    pub reserved: bool,
    pub tracking: TrackingTable,
    garbage: Sender<Garbage>,
    /// Where the expiry cycle goes on: a database, round and round.
    expire_db: usize,
    /// Keys seen by eviction that are the best to go.
    pub(crate) candidates: Candidates,
}

impl Shard {
    /// A shard with `databases` empty databases. Values that take long to free go to `garbage`.
    pub fn new(
        index: ShardIndex,
        slots: SlotMap,
        databases: usize,
        garbage: Sender<Garbage>,
    ) -> Shard {
        Shard {
            index,
            slots,
            dbs: (0..databases).map(|_| Db::default()).collect(),
            log: Log::default(),
            watches: WatchTable::default(),
            waits: WaitTable::default(),
            pending: Pending::default(),
            stats: ShardStats::default(),
            dirty: 0,
            after_due: false,
            expiry_paused_until: UnixMillis(0),
            signals: Signals::default(),
            reserved: false,
            tracking: TrackingTable::default(),
            garbage,
            expire_db: 0,
            candidates: Candidates::default(),
        }
    }

    #[inline]
    pub fn index(&self) -> ShardIndex {
        self.index
    }

    pub fn databases(&self) -> usize {
        self.dbs.len()
    }

    #[inline]
    pub fn db(&self, db: DbIndex) -> &Db {
        &self.dbs[db.0 as usize]
    }

    #[inline]
    pub fn db_mut(&mut self, db: DbIndex) -> &mut Db {
        &mut self.dbs[db.0 as usize]
    }

    /// Sets the time and policy by which all databases note accesses.
    pub fn set_access_clock(&mut self, seconds: u32, policy: AccessPolicy) {
        self.dbs
            .iter_mut()
            .for_each(|db| db.access.set(seconds, policy));
    }

    /// What all shards have left to the other thread and it has not taken.
    pub fn garbage_pending(&self) -> usize {
        self.garbage.len()
    }

    /// Leaves freeing to another thread.
    pub fn free_later(&self, garbage: Garbage) {
        // Without its receiver (at shutdown) the value is freed here.
        let _ = self.garbage.send(garbage);
    }

    /// Notes that a key has changed, for those who watch it, wait for it, or wait for the disk.
    #[inline]
    pub fn changed(&mut self, db: DbIndex, key: Key<'_>) {
        self.watches.changed(db, key.bytes);
        if self.waits.changed(db, key.bytes) {
            self.after_due = true;
        }
        self.pending.changed(key.hash);
        if self.tracking.is_on() {
            self.after_due |= self.tracking.changed(key.bytes);
        }
    }

    /// Has those who wait for a key tried again, though nobody who watches it is to see a change.
    pub fn serve_waits(&mut self, db: DbIndex, key: Key<'_>) {
        if self.waits.changed(db, key.bytes) {
            self.after_due = true;
        }
    }

    /// Sets which events are noted from here on.
    pub fn want_events(&mut self, events: Events) {
        self.signals.want(events);
        for db in &mut self.dbs {
            db.note_new_keys(events.contains(Events::NEW));
        }
    }

    pub fn wanted_events(&self) -> Events {
        self.signals.wanted()
    }

    /// Notes what happened to a key, for those who listen. A change without a name (a cache inside
    /// the value, say) is told to nobody.
    #[inline]
    pub fn tell(&mut self, db: DbIndex, event: &'static str, key: Key<'_>) {
        debug_assert!(
            event.is_empty() || Events::of(event).is_some(),
            "{event} has no class"
        );
        if self.signals.are_wanted() {
            self.signals.note(db, event, key.bytes);
            self.after_due = true;
        }
    }

    /// Moves what was noted to `into`; in order only after [`crate::signals::sort`].
    pub fn take_signals(&mut self, into: &mut Vec<Signal>) {
        self.gather_new_keys();
        self.signals.take(into);
    }

    /// Notes the new keys of all databases, before these may become others.
    fn gather_new_keys(&mut self) {
        if self.signals.wanted().contains(Events::NEW) {
            for (index, db) in self.dbs.iter_mut().enumerate() {
                db.take_new_keys(DbIndex(index as u32), &mut self.signals.noted);
            }
        }
    }

    /// Switches the log on or off; see [`Log::set_enabled`].
    pub fn enable_log(&mut self, enabled: bool) {
        self.log.set_enabled(enabled);
        // Positions mean something only while the log is on.
        self.pending.stop();
    }

    /// Empties a database and returns what was in it.
    pub fn take_db(&mut self, db: DbIndex) -> Db {
        self.gather_new_keys();
        self.tracking.emptied();
        self.after_due = true;
        let old = std::mem::take(self.db_mut(db));
        self.db_mut(db).access = old.access.clone();
        let notes_new = self.signals.wanted().contains(Events::NEW);
        self.db_mut(db).note_new_keys(notes_new);
        if !old.is_empty() {
            self.pending.changed_all();
        }
        let held = |key: &[u8]| old.find(Key::new(key, &self.slots)).is_some();
        self.watches.changed_where(db, held);
        self.after_due |= self.waits.changed_where(db, held);
        old
    }

    /// Swaps two databases.
    pub fn swap_dbs(&mut self, a: DbIndex, b: DbIndex) {
        self.gather_new_keys();
        self.dbs.swap(a.0 as usize, b.0 as usize);
        self.pending.changed_all();
        let (in_a, in_b) = (&self.dbs[a.0 as usize], &self.dbs[b.0 as usize]);
        let slots = self.slots;
        let held = |key: &[u8]| {
            let key = Key::new(key, &slots);
            in_a.find(key).is_some() || in_b.find(key).is_some()
        };
        for db in [a, b] {
            self.watches.changed_where(db, held);
            self.after_due |= self.waits.changed_where(db, held);
        }
    }

    /// Reads a key: expires it if due, counts a hit or a miss, and notes the access in its clock
    /// when asked to.
    #[inline]
    pub fn read(
        &mut self,
        db: DbIndex,
        key: Key<'_>,
        now: UnixMillis,
        touch: bool,
    ) -> Option<EntryRef<'_>> {
        self.read_telling(db, key, now, touch, true)
    }

    /// As `read`; that a key was missed is told only if `tells`.
    #[inline]
    pub fn read_telling(
        &mut self,
        db: DbIndex,
        key: Key<'_>,
        now: UnixMillis,
        touch: bool,
        tells: bool,
    ) -> Option<EntryRef<'_>> {
        match self.db(db).probe(key, now) {
            Probe::Absent => {
                self.missed(db, key, tells);
                None
            }
            Probe::Expired => {
                self.expire_unless_paused(db, key, now);
                self.missed(db, key, tells);
                None
            }
            Probe::Live(slot) => {
                let Some(slot) = self.without_due_fields(db, key, slot, now) else {
                    self.missed(db, key, tells);
                    return None;
                };
                self.stats.keyspace_hits += 1;
                if touch {
                    self.db_mut(db).touch_at(slot);
                }
                Some(self.db(db).entry_at(slot))
            }
        }
    }

    #[inline]
    fn missed(&mut self, db: DbIndex, key: Key<'_>, tells: bool) {
        self.stats.keyspace_misses += 1;
        if tells {
            self.tell(db, "keymiss", key);
        }
    }

    /// As [`Shard::read`], but leaves the fields of a hash whose time has passed.
    pub fn read_with_due_fields(
        &mut self,
        db: DbIndex,
        key: Key<'_>,
        now: UnixMillis,
        touch: bool,
    ) -> Option<EntryRef<'_>> {
        match self.db(db).probe(key, now) {
            Probe::Live(slot) => {
                self.stats.keyspace_hits += 1;
                if touch {
                    self.db_mut(db).touch_at(slot);
                }
                Some(self.db(db).entry_at(slot))
            }
            Probe::Absent | Probe::Expired => self.read(db, key, now, touch),
        }
    }

    /// The entry of a key, which is expired if due. Counts and notes nothing.
    #[inline]
    pub fn find(&mut self, db: DbIndex, key: Key<'_>, now: UnixMillis) -> Option<EntryRef<'_>> {
        match self.db(db).probe(key, now) {
            Probe::Absent => None,
            Probe::Expired => {
                self.expire_unless_paused(db, key, now);
                None
            }
            Probe::Live(slot) => {
                let slot = self.without_due_fields(db, key, slot, now)?;
                Some(self.db(db).entry_at(slot))
            }
        }
    }

    /// The key's collection on the way to changing it, with one look-up: none when the key is
    /// absent, no value when it holds a string. Notes the access.
    #[inline]
    pub fn find_object_mut(
        &mut self,
        db: DbIndex,
        key: Key<'_>,
        now: UnixMillis,
    ) -> Option<Option<&mut Value>> {
        match self.db(db).probe(key, now) {
            Probe::Absent => None,
            Probe::Expired => {
                self.expire_unless_paused(db, key, now);
                None
            }
            Probe::Live(slot) => {
                let slot = self.without_due_fields(db, key, slot, now)?;
                let db = self.db_mut(db);
                db.touch_at(slot);
                Some(db.object_at_mut(slot))
            }
        }
    }

    /// Deletes the key if its time has passed. True when it was deleted.
    #[inline]
    pub fn expire_if_due(&mut self, db: DbIndex, key: Key<'_>, now: UnixMillis) -> bool {
        match self.db(db).probe(key, now) {
            Probe::Absent => false,
            Probe::Expired => self.expire_unless_paused(db, key, now),
            Probe::Live(slot) => self.without_due_fields(db, key, slot, now).is_none(),
        }
    }

    /// Deletes a key whose time has passed, except while that is to wait. True when it was deleted.
    #[cold]
    fn expire_unless_paused(&mut self, db: DbIndex, key: Key<'_>, now: UnixMillis) -> bool {
        let may_expire = now >= self.expiry_paused_until;
        if may_expire {
            self.expire(db, key);
        }
        may_expire
    }

    /// Deletes the fields of a hash whose time has passed, where a key was found. None if the key went with them.
    #[inline]
    fn without_due_fields(
        &mut self,
        db: DbIndex,
        key: Key<'_>,
        slot: Slot,
        now: UnixMillis,
    ) -> Option<Slot> {
        match self.db(db).entry_at(slot).next_field_expiry() {
            Some(time) if time <= now && now >= self.expiry_paused_until => {
                self.expire_found_fields(db, key, now)
            }
            _ => Some(slot),
        }
    }

    #[cold]
    fn expire_found_fields(&mut self, db: DbIndex, key: Key<'_>, now: UnixMillis) -> Option<Slot> {
        self.expire_fields(db, key, now, usize::MAX);
        match self.db(db).probe(key, now) {
            Probe::Live(slot) => Some(slot),
            Probe::Absent | Probe::Expired => None,
        }
    }

    /// Deletes up to `max` fields whose time has passed from the hash at a key, with all that follows from it. Returns
    /// how many there were.
    pub fn expire_fields(
        &mut self,
        db: DbIndex,
        key: Key<'_>,
        now: UnixMillis,
        max: usize,
    ) -> usize {
        /// Fields that one logged command deletes at most.
        const LOGGED_FIELDS_MAX: usize = 256;
        let (fields, is_empty) = match self.db_mut(db).object_mut(key) {
            Some(Value::Hash(hash)) => (hash.take_due(now.0, max), hash.is_empty()),
            _ => (Vec::new(), false),
        };
        for fields in fields.chunks(LOGGED_FIELDS_MAX) {
            let head = [b"HDEL", key.bytes].into_iter();
            let argv: Vec<&[u8]> = head.chain(fields.iter().map(Vec::as_slice)).collect();
            self.log.append(db, &argv);
        }
        if !fields.is_empty() {
            self.stats.expired_fields += fields.len() as u64;
            self.dirty += fields.len() as u64;
            self.changed(db, key);
            self.tell(db, "hexpired", key);
        }
        if is_empty {
            self.tell(db, "del", key);
            if let Some(entry) = self.db_mut(db).remove(key) {
                self.free_later_if_large(entry);
            }
        }
        self.db_mut(db).note_field_expiry(key);
        fields.len()
    }

    /// Deletes a key whose time has passed, with all that follows from it.
    pub fn expire(&mut self, db: DbIndex, key: Key<'_>) {
        self.stats.expired_keys += 1;
        self.dirty += 1;
        self.log.append(db, &[b"DEL", key.bytes]);
        self.changed(db, key);
        self.tell(db, "expired", key);
        if let Some(entry) = self.db_mut(db).remove(key) {
            self.free_later_if_large(entry);
        }
    }

    /// Drops an entry, here when that is quick.
    pub fn free_later_if_large(&self, entry: Entry) {
        /// Elements beyond which freeing is left to another thread.
        const FREE_EFFORT_MAX: usize = 64;
        let effort = match entry.as_ref().value() {
            crate::ValueRef::String(_) => 1,
            crate::ValueRef::Object(value) => value.free_effort(),
        };
        if effort > FREE_EFFORT_MAX {
            self.free_later(Garbage::Entry(entry));
        }
    }

    /// One round of active expiry: draws `samples` keys with an expiry per database and deletes
    /// those that are due, again while more than `stale_percent` of a draw were, for at most
    /// `rounds` draws. True when it stopped because of `rounds`, so that more is likely due.
    pub fn expire_cycle(
        &mut self,
        now: UnixMillis,
        rng: &mut Rng,
        samples: usize,
        stale_percent: usize,
        rounds: usize,
    ) -> bool {
        if now < self.expiry_paused_until {
            return false;
        }
        let mut left = rounds;
        for _ in 0..self.dbs.len() {
            let db = DbIndex(self.expire_db as u32);
            loop {
                let draw = samples.min(self.db(db).expires_len());
                if draw == 0 {
                    break;
                }
                if left == 0 {
                    return true;
                }
                left -= 1;
                let due = (0..draw)
                    .filter(|_| self.expire_random(db, now, rng))
                    .count();
                if due * 100 <= draw * stale_percent {
                    break;
                }
            }
            self.expire_db = (self.expire_db + 1) % self.dbs.len();
        }
        false
    }

    /// One round of active expiry of fields: deletes up to about `fields_max` that are due, in the order of their time.
    /// True when it stopped because of that.
    pub fn expire_fields_cycle(&mut self, now: UnixMillis, fields_max: usize) -> bool {
        /// Fields of one hash that are deleted before another one has its turn.
        const FIELDS_AT_A_TIME: usize = 64;
        let mut left = fields_max;
        if now < self.expiry_paused_until {
            return false;
        }
        for db in (0..self.dbs.len() as u32).map(DbIndex) {
            while let Some(bytes) = self.db(db).field_expiries().first_due(now) {
                if left == 0 {
                    return true;
                }
                let key = Key::new(&bytes, &self.slots);
                let expired = self.expire_fields(db, key, now, FIELDS_AT_A_TIME.min(left));
                left -= expired.clamp(1, left);
            }
        }
        false
    }

    fn expire_random(&mut self, db: DbIndex, now: UnixMillis, rng: &mut Rng) -> bool {
        let Some(entry) = self
            .db(db)
            .random_expiring(rng)
            .filter(|entry| entry.is_expired(now))
        else {
            return false;
        };
        let bytes = entry.key().to_vec();
        self.expire(
            db,
            Key {
                bytes: &bytes,
                hash: entry.hash(),
                shard: self.index,
            },
        );
        true
    }
}
