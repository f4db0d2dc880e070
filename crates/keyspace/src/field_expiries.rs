//! The hashes of a database that have fields which expire, by the earliest time of each: where the expiry cycle looks.
//!
//! Invariant: every such hash is here, with a time not later than its earliest. One whose earliest field was deleted, or
//! expires no more, may still be here with the old time, until that time comes and it is looked at.

use datatypes::{Limits, SortedSet};

use crate::types::UnixMillis;

#[derive(Default)]
pub struct FieldExpiries {
    /// Keys, with times as scores. Absent until the first one comes.
    keys: Option<Box<SortedSet>>,
}

impl FieldExpiries {
    pub fn len(&self) -> usize {
        self.keys.as_ref().map_or(0, |keys| keys.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn memory_bytes(&self) -> usize {
        /// Keys looked at to estimate the rest.
        const SAMPLES: usize = 5;
        let bytes = |keys: &SortedSet| size_of::<SortedSet>() + keys.approximate_bytes(SAMPLES);
        self.keys.as_deref().map_or(0, bytes)
    }

    /// Notes that a key holds a hash with this earliest time; none: that it holds no hash with one.
    pub(crate) fn note(&mut self, key: &[u8], earliest: Option<UnixMillis>) {
        match (earliest, &mut self.keys) {
            (Some(UnixMillis(time)), keys) => {
                let keys = keys.get_or_insert_with(Box::default);
                keys.insert(key, time as f64, &Limits::default());
            }
            (None, Some(keys)) => {
                keys.remove(key);
                if keys.is_empty() {
                    self.keys = None;
                }
            }
            (None, None) => {}
        }
    }

    /// A key that has to be looked at because its time has come.
    pub fn first_due(&self, now: UnixMillis) -> Option<Vec<u8>> {
        let (key, time) = self.keys.as_ref()?.first()?;
        (time as i64 <= now.0).then(|| key.to_vec())
    }
}
