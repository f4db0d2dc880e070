//! What a command's function sees of the world.

use datatypes::{Hash, Limits, List, Rng, Set, SortedSet, Value};
use keyspace::{
    Db, DbIndex, Entry, EntryRef, Expiry, Key, NewValue, Shard, StringRef, UnixMillis, ValueRef,
    View,
};
use resp::{Argv, Reply};

use crate::errors::{CommandError, WRONG_TYPE};
use crate::wait::Wait;

/// One call of a command.
pub struct Ctx<'a, 'v> {
    pub argv: Argv<'a>,
    pub reply: Reply<'a>,
    pub keys: Keyspace<'a, 'v>,
    pub rng: &'a mut Rng,
    pub limits: &'a Limits,
    /// `proto-max-bulk-len`: the longest string a command may make.
    pub string_bytes_max: u64,
    pub codec: &'a dyn Codec,
    /// Where to say that the client is to wait; none where nothing may wait.
    pub waiting: Option<&'a mut Option<Wait>>,
    /// While a log is replayed: when that is, as [`Keyspace::now`] stands before all expiries then.
    pub replayed_at: Option<UnixMillis>,
}

impl<'a> Ctx<'a, '_> {
    /// The key at an argument, with hash and shard.
    #[inline]
    pub fn key(&self, index: usize) -> Key<'a> {
        self.keys.key_of(self.argv.arg(index))
    }
}

/// A value out of a DUMP payload.
pub enum RestoredValue {
    String(Vec<u8>),
    Object(Box<Value>),
}

/// Turns values into DUMP payloads and back; `server` implements it with `persistence`.
pub trait Codec {
    fn dump(&self, value: ValueRef<'_>) -> Vec<u8>;
    /// The value of a payload. The error is RESTORE's reply.
    fn restore(&self, payload: &[u8], limits: &Limits) -> Result<RestoredValue, CommandError>;
}

/// How a change is written to the log.
#[derive(Clone, Copy)]
pub enum Effect<'e> {
    /// As the client sent it: for commands that are deterministic and touch one key.
    AsGiven,
    /// As this command, which has the same effect on the key's shard alone.
    Command(&'e [&'e [u8]]),
    /// Not at all, because another effect of the same call covers it.
    Covered,
}

/// The keyspace as the running command may use it: the selected database, at one instant.
pub struct Keyspace<'a, 'v> {
    pub view: &'a mut View<'v>,
    pub db: DbIndex,
    pub now: UnixMillis,
    argv: Argv<'a>,
    /// The first key, worked out when the command was routed.
    routed: Option<Key<'a>>,
    /// Reads leave no trace in access clocks (CLIENT NO-TOUCH).
    no_touch: bool,
}

impl<'a, 'v> Keyspace<'a, 'v> {
    pub fn new(
        view: &'a mut View<'v>,
        db: DbIndex,
        now: UnixMillis,
        argv: Argv<'a>,
        routed: Option<Key<'a>>,
        no_touch: bool,
    ) -> Self {
        Keyspace {
            view,
            db,
            now,
            argv,
            routed,
            no_touch,
        }
    }

    /// A key with its hash and shard.
    #[inline]
    pub fn key_of<'k>(&self, bytes: &'k [u8]) -> Key<'k> {
        match self.routed {
            Some(routed) if std::ptr::eq(routed.bytes, bytes) => Key { bytes, ..routed },
            _ => self.view.key(bytes),
        }
    }

    /// The selected database in the key's shard.
    #[inline]
    pub fn db_of(&self, key: Key<'_>) -> &Db {
        self.view.db(self.db, key)
    }

    #[inline]
    pub fn db_of_mut(&mut self, key: Key<'_>) -> &mut Db {
        self.view.db_mut(self.db, key)
    }

    pub fn shard_of_mut(&mut self, key: Key<'_>) -> &mut Shard {
        self.view.shard_mut(key.shard)
    }

    /// Deletes the key if its time has passed. A function that looks at several keys at once
    /// with [`Keyspace::peek`] calls this for each of them first.
    #[inline]
    pub fn expire_if_due(&mut self, key: Key<'_>) -> bool {
        let (db, now) = (self.db, self.now);
        self.view.shard_mut(key.shard).expire_if_due(db, key, now)
    }

    /// Reads a key: expires it if due, counts a hit or a miss, notes the access.
    #[inline]
    pub fn read(&mut self, key: Key<'_>) -> Option<EntryRef<'_>> {
        let (db, now, touch) = (self.db, self.now, !self.no_touch);
        self.shard_of_mut(key).read(db, key, now, touch)
    }

    /// As `read`, of commands that look at a key without using it (TTL, TYPE...): the access is
    /// counted, but not noted.
    pub fn look_at(&mut self, key: Key<'_>) -> Option<EntryRef<'_>> {
        let (db, now) = (self.db, self.now);
        self.shard_of_mut(key).read(db, key, now, false)
    }

    /// As `look_at`, of OBJECT and its like: that there is no such key is told to nobody.
    pub fn inspect(&mut self, key: Key<'_>) -> Option<EntryRef<'_>> {
        let (db, now) = (self.db, self.now);
        self.shard_of_mut(key)
            .read_telling(db, key, now, false, false)
    }

    /// Looks a key up on the way to changing it: expires it if due, counts and notes nothing.
    #[inline]
    pub fn find(&mut self, key: Key<'_>) -> Option<EntryRef<'_>> {
        self.find_in(self.db, key)
    }

    /// As [`Keyspace::find`], in another database than the selected one.
    #[inline]
    pub fn find_in(&mut self, db: DbIndex, key: Key<'_>) -> Option<EntryRef<'_>> {
        let now = self.now;
        self.shard_of_mut(key).find(db, key, now)
    }

    /// As `find`, through a shared borrow: a key whose time has passed is absent, but stays.
    pub fn peek(&self, key: Key<'_>) -> Option<EntryRef<'_>> {
        self.db_of(key)
            .find(key)
            .filter(|entry| !entry.is_expired(self.now))
    }

    pub fn exists(&mut self, key: Key<'_>) -> bool {
        self.find(key).is_some()
    }

    /// Puts a new collection under an absent key.
    pub fn add_object(&mut self, key: Key<'_>, value: Value) {
        self.db_of_mut(key)
            .set(key, NewValue::Object(Box::new(value)), Expiry::Set(None));
    }

    /// Takes a key out of the database; the caller reports it with [`Keyspace::wrote`].
    pub fn remove(&mut self, key: Key<'_>) -> Option<Entry> {
        self.db_of_mut(key).remove(key)
    }

    /// Drops an entry, on another thread when that takes long.
    pub fn free(&self, key: Key<'_>, entry: Entry) {
        self.view.shard(key.shard).free_later_if_large(entry);
    }

    /// Reports a change of a key: `event` is its name in keyspace notifications, `changes` what
    /// it adds to `rdb_changes_since_last_save`. Every change is reported exactly once.
    #[inline]
    pub fn wrote(&mut self, key: Key<'_>, event: &'static str, changes: u64, effect: Effect<'_>) {
        self.wrote_in(self.db, key, event, changes, effect);
    }

    /// As [`Keyspace::wrote`], of a key in another database than the selected one.
    pub fn wrote_in(
        &mut self,
        db: DbIndex,
        key: Key<'_>,
        event: &'static str,
        changes: u64,
        effect: Effect<'_>,
    ) {
        let argv = self.argv;
        let shard = self.view.shard_mut(key.shard);
        shard.dirty += changes;
        shard.changed(db, key);
        shard.tell(db, event, key);
        match effect {
            Effect::AsGiven => shard.log.append_args(db, argv.iter()),
            Effect::Covered => {}
            Effect::Command(argv) => shard.log.append(db, argv),
        }
    }

    /// As [`Keyspace::wrote`], of a change that Redis does not show to those who watch the key. One without a name
    /// (`""`) is told to nobody.
    pub fn noted(&mut self, key: Key<'_>, event: &'static str, changes: u64, effect: Effect<'_>) {
        let (db, argv) = (self.db, self.argv);
        let shard = self.view.shard_mut(key.shard);
        shard.dirty += changes;
        shard.pending.changed(key.hash);
        shard.tell(db, event, key);
        match effect {
            Effect::AsGiven => shard.log.append_args(db, argv.iter()),
            Effect::Covered => {}
            Effect::Command(argv) => shard.log.append(db, argv),
        }
    }

    /// Removes the key if the collection it holds has become empty, and says so. The write that
    /// emptied it is the effect; the removal follows from it.
    pub fn remove_if_empty(&mut self, key: Key<'_>) -> bool {
        let empty = matches!(self.db_of(key).find(key).map(EntryRef::value), Some(ValueRef::Object(value)) if value.is_empty());
        if empty {
            self.remove(key);
            self.wrote(key, "del", 0, Effect::Covered);
        }
        empty
    }

    /// Reads a key that should hold a string.
    #[inline]
    pub fn read_string(&mut self, key: Key<'_>) -> Result<Option<StringRef<'_>>, CommandError> {
        string_of(self.read(key))
    }

    /// Finds a string on the way to changing it.
    pub fn find_string(&mut self, key: Key<'_>) -> Result<Option<StringRef<'_>>, CommandError> {
        string_of(self.find(key))
    }
}

fn string_of(entry: Option<EntryRef<'_>>) -> Result<Option<StringRef<'_>>, CommandError> {
    match entry.map(EntryRef::value) {
        None => Ok(None),
        Some(ValueRef::String(string)) => Ok(Some(string)),
        Some(ValueRef::Object(_)) => Err(WRONG_TYPE),
    }
}

/// The accessors of one collection type: to read, to peek at, to change, to change or create.
macro_rules! accessors {
    ($type:ident, $read:ident, $peek:ident, $change:ident, $change_or_add:ident) => {
        impl Keyspace<'_, '_> {
            /// Reads the key; an error unless it holds this type or nothing.
            pub fn $read(&mut self, key: Key<'_>) -> Result<Option<&$type>, CommandError> {
                match self.read(key).map(EntryRef::value) {
                    None => Ok(None),
                    Some(ValueRef::Object(Value::$type(value))) => Ok(Some(value)),
                    Some(_) => Err(WRONG_TYPE),
                }
            }

            /// Looks at the key through a shared borrow; see [`Keyspace::peek`].
            pub fn $peek(&self, key: Key<'_>) -> Result<Option<&$type>, CommandError> {
                match self.peek(key).map(EntryRef::value) {
                    None => Ok(None),
                    Some(ValueRef::Object(Value::$type(value))) => Ok(Some(value)),
                    Some(_) => Err(WRONG_TYPE),
                }
            }

            /// The value to change; an error unless the key holds this type or nothing.
            pub fn $change(&mut self, key: Key<'_>) -> Result<Option<&mut $type>, CommandError> {
                let (db, now) = (self.db, self.now);
                match self.shard_of_mut(key).find_object_mut(db, key, now) {
                    None => Ok(None),
                    Some(Some(Value::$type(value))) => Ok(Some(value)),
                    Some(_) => Err(WRONG_TYPE),
                }
            }

            /// The value to change, added empty if the key is absent. Whoever adds no element
            /// after all calls [`Keyspace::remove_if_empty`].
            pub fn $change_or_add(&mut self, key: Key<'_>) -> Result<&mut $type, CommandError> {
                if self.find(key).is_none() {
                    self.add_object(key, Value::$type($type::new()));
                }
                match self.db_of_mut(key).object_mut(key) {
                    Some(Value::$type(value)) => Ok(value),
                    _ => Err(WRONG_TYPE),
                }
            }
        }
    };
}

accessors!(List, read_list, peek_list, list_mut, list_mut_or_add);
accessors!(Set, read_set, peek_set, set_mut, set_mut_or_add);
accessors!(Hash, read_hash, peek_hash, hash_mut, hash_mut_or_add);
accessors!(
    SortedSet,
    read_sorted_set,
    peek_sorted_set,
    sorted_set_mut,
    sorted_set_mut_or_add
);

impl Keyspace<'_, '_> {
    /// As [`Keyspace::read_hash`], but fields whose time has passed are left where they are.
    pub fn read_hash_with_due_fields(
        &mut self,
        key: Key<'_>,
    ) -> Result<Option<&Hash>, CommandError> {
        let (db, now, touch) = (self.db, self.now, !self.no_touch);
        let shard = self.shard_of_mut(key);
        match shard
            .read_with_due_fields(db, key, now, touch)
            .map(EntryRef::value)
        {
            None => Ok(None),
            Some(ValueRef::Object(Value::Hash(hash))) => Ok(Some(hash)),
            Some(_) => Err(WRONG_TYPE),
        }
    }
}
