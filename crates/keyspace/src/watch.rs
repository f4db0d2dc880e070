//! Which keys of a shard clients WATCH, and how often those were changed since.
//!
//! A key has a version only while somebody watches it, so writes of unwatched keys cost one
//! look at an empty map.

use std::collections::HashMap;

use crate::types::DbIndex;

#[derive(Default)]
struct Watched {
    version: u64,
    watchers: u32,
}

#[derive(Default)]
pub struct WatchTable {
    dbs: HashMap<DbIndex, HashMap<Box<[u8]>, Watched>>,
    next_version: u64,
}

impl WatchTable {
    /// Registers a watcher and returns the version it saw.
    pub fn watch(&mut self, db: DbIndex, key: &[u8]) -> u64 {
        let watched = self
            .dbs
            .entry(db)
            .or_default()
            .entry(key.into())
            .or_default();
        watched.watchers += 1;
        watched.version
    }

    /// Takes one watcher back.
    pub fn unwatch(&mut self, db: DbIndex, key: &[u8]) {
        let Some(keys) = self.dbs.get_mut(&db) else {
            return;
        };
        if let Some(watched) = keys.get_mut(key) {
            watched.watchers -= 1;
            if watched.watchers == 0 {
                keys.remove(key);
            }
        }
        if keys.is_empty() {
            self.dbs.remove(&db);
        }
    }

    /// Whether the key is still at the version that `watch` returned.
    pub fn is_unchanged(&self, db: DbIndex, key: &[u8], version: u64) -> bool {
        self.dbs
            .get(&db)
            .and_then(|keys| keys.get(key))
            .is_some_and(|w| w.version == version)
    }

    /// Notes a change of the key.
    #[inline]
    pub fn changed(&mut self, db: DbIndex, key: &[u8]) {
        if !self.dbs.is_empty() {
            self.changed_slow(db, key);
        }
    }

    fn changed_slow(&mut self, db: DbIndex, key: &[u8]) {
        if let Some(watched) = self.dbs.get_mut(&db).and_then(|keys| keys.get_mut(key)) {
            self.next_version += 1;
            watched.version = self.next_version;
        }
    }

    /// Notes a change of every watched key of `db` for which `held` says yes.
    pub fn changed_where(&mut self, db: DbIndex, mut held: impl FnMut(&[u8]) -> bool) {
        for (key, watched) in self.dbs.get_mut(&db).into_iter().flatten() {
            if held(key) {
                self.next_version += 1;
                watched.version = self.next_version;
            }
        }
    }

    /// How many keys are watched.
    pub fn len(&self) -> usize {
        self.dbs.values().map(HashMap::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.dbs.is_empty()
    }
}
