//! Eviction: which keys of a shard go when memory is short.
//!
//! As in Redis, the best of a few keys drawn at random are kept from one draw to the next in a small pool
//! ([`Candidates`]), so that what goes approaches what a list of all keys in order would give, without one.
//! How much memory is too much, and which shard gives, is decided elsewhere.

use datatypes::Rng;

use crate::db::Db;
use crate::entry::EntryRef;
use crate::shard::Shard;
use crate::types::DbIndex;
use crate::view::Key;

/// Candidates a shard keeps.
const CANDIDATES_MAX: usize = 16;

/// Which keys go first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EvictionOrder {
    /// Those not used for longest.
    Recency,
    /// Those used least often.
    Frequency,
    Random,
    /// Those that expire soonest.
    Expiry,
}

/// A `maxmemory-policy` that evicts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Eviction {
    /// Only keys with an expiry go.
    pub volatile: bool,
    pub order: EvictionOrder,
}

impl Eviction {
    /// How many keys of a shard may go.
    pub fn evictable(self, shard: &Shard) -> usize {
        let count = |db| self.evictable_in(shard.db(DbIndex(db)));
        (0..shard.databases() as u32).map(count).sum()
    }

    fn evictable_in(self, db: &Db) -> usize {
        match self.volatile {
            true => db.expires_len(),
            false => db.len(),
        }
    }

    /// How much a key is one to go; none if it may not.
    fn score(self, db: &Db, entry: EntryRef<'_>) -> Option<u64> {
        if self.volatile && entry.expire_at().is_none() {
            return None;
        }
        Some(match self.order {
            EvictionOrder::Recency => db.access.idle_seconds(entry.access_clock()).into(),
            EvictionOrder::Frequency => (255 - db.access.frequency(entry.access_clock())).into(),
            EvictionOrder::Expiry => entry
                .expire_at()
                .map_or(0, |at| u64::MAX - at.0.max(0) as u64),
            EvictionOrder::Random => 0,
        })
    }
}

struct Candidate {
    score: u64,
    db: DbIndex,
    hash: u64,
    key: Box<[u8]>,
}

/// Keys that were drawn, those to go first last.
#[derive(Default)]
pub struct Candidates {
    list: Vec<Candidate>,
    /// What the scores mean.
    of: Option<Eviction>,
}

impl Candidates {
    fn offer(&mut self, candidate: Candidate) {
        let known = |other: &Candidate| {
            other.hash == candidate.hash && other.db == candidate.db && other.key == candidate.key
        };
        if let Some(at) = self.list.iter().position(known) {
            self.list.remove(at);
        }
        let at = self
            .list
            .partition_point(|other| other.score < candidate.score);
        if self.list.len() < CANDIDATES_MAX {
            self.list.insert(at, candidate);
        } else if at > 0 {
            self.list.remove(0);
            self.list.insert(at - 1, candidate);
        }
    }

    fn would_take(&self, score: u64) -> bool {
        let lowest = self.list.first().map_or(0, |lowest| lowest.score);
        self.list.len() < CANDIDATES_MAX || score > lowest
    }
}

impl Shard {
    /// Draws `samples` keys of each database, and evicts the best to go of all that were drawn so far. False when
    /// none may go. `unlink`: the effect is written as UNLINK, and the value is freed on another thread if that
    /// takes long.
    pub fn evict_one(
        &mut self,
        eviction: Eviction,
        samples: usize,
        unlink: bool,
        rng: &mut Rng,
    ) -> bool {
        let chosen = match eviction.order {
            EvictionOrder::Random => self.draw_one(eviction, rng),
            _ => self.best_candidate(eviction, samples, rng),
        };
        let Some(Candidate { db, hash, key, .. }) = chosen else {
            return false;
        };
        let key = Key {
            bytes: &key,
            hash,
            shard: self.index(),
        };
        self.evict(db, key, unlink);
        true
    }

    fn evict(&mut self, db: DbIndex, key: Key<'_>, unlink: bool) {
        self.stats.evicted_keys += 1;
        let command: &[u8] = if unlink { b"UNLINK" } else { b"DEL" };
        self.log.append(db, &[command, key.bytes]);
        self.changed(db, key);
        self.tell(db, "evicted", key);
        match self.db_mut(db).remove(key) {
            Some(entry) if unlink => self.free_later_if_large(entry),
            entry => drop(entry),
        }
    }

    /// An evictable key chosen with about equal chance among all.
    fn draw_one(&self, eviction: Eviction, rng: &mut Rng) -> Option<Candidate> {
        let mut place = rng.below(eviction.evictable(self));
        for db in (0..self.databases() as u32).map(DbIndex) {
            let count = eviction.evictable_in(self.db(db));
            if place < count {
                return draw(self.db(db), eviction, rng).map(|entry| Candidate::new(0, db, entry));
            }
            place -= count;
        }
        None
    }

    fn best_candidate(
        &mut self,
        eviction: Eviction,
        samples: usize,
        rng: &mut Rng,
    ) -> Option<Candidate> {
        let mut candidates = std::mem::take(&mut self.candidates);
        if candidates.of != Some(eviction) {
            candidates = Candidates {
                list: Vec::with_capacity(CANDIDATES_MAX),
                of: Some(eviction),
            };
        }
        let best = loop {
            self.draw_candidates(&mut candidates, eviction, samples, rng);
            let before = candidates.list.len();
            if let Some(best) = self.take_best(&mut candidates, eviction) {
                break Some(best);
            }
            // All that were known are gone or were used meanwhile; others may be there.
            if before == 0 {
                break None;
            }
        };
        self.candidates = candidates;
        best
    }

    fn draw_candidates(
        &self,
        candidates: &mut Candidates,
        eviction: Eviction,
        samples: usize,
        rng: &mut Rng,
    ) {
        for index in (0..self.databases() as u32).map(DbIndex) {
            let db = self.db(index);
            for _ in 0..samples.min(eviction.evictable_in(db)) {
                let Some(entry) = draw(db, eviction, rng) else {
                    break;
                };
                if let Some(score) = eviction.score(db, entry) {
                    if candidates.would_take(score) {
                        candidates.offer(Candidate::new(score, index, entry));
                    }
                }
            }
        }
    }

    /// Takes the first to go out of the candidates, leaving out what is no longer there and
    /// putting back what was used since it was drawn.
    fn take_best(&self, candidates: &mut Candidates, eviction: Eviction) -> Option<Candidate> {
        while let Some(mut candidate) = candidates.list.pop() {
            let db = self.db(candidate.db);
            let key = Key {
                bytes: &candidate.key,
                hash: candidate.hash,
                shard: self.index(),
            };
            let Some(score) = db.find(key).and_then(|entry| eviction.score(db, entry)) else {
                continue;
            };
            let next = candidates.list.last().map_or(0, |next| next.score);
            if score >= candidate.score || score >= next {
                return Some(candidate);
            }
            candidate.score = score;
            candidates.offer(candidate);
        }
        None
    }
}

impl Candidate {
    fn new(score: u64, db: DbIndex, entry: EntryRef<'_>) -> Candidate {
        Candidate {
            score,
            db,
            hash: entry.hash(),
            key: entry.key().into(),
        }
    }
}

fn draw<'d>(db: &'d Db, eviction: Eviction, rng: &mut Rng) -> Option<EntryRef<'d>> {
    match eviction.volatile {
        true => db.random_expiring(rng),
        false => db.random(rng),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::AccessPolicy;
    use crate::{Expiry, NewValue, ShardIndex, SlotMap, UnixMillis};

    const KEYS: usize = 2_000;

    /// A shard of keys `0..KEYS`, of which key n was used at second n and expires n seconds after `KEYS`, every second
    /// one not at all.
    fn shard() -> Shard {
        let (garbage, _) = crossbeam_channel::unbounded();
        let mut shard = Shard::new(ShardIndex(0), SlotMap::new(1), 2, garbage);
        for n in 0..KEYS {
            shard.set_access_clock(n as u32, AccessPolicy::Recency);
            let expiry = (n % 2 == 0).then_some(UnixMillis(1_000 * (KEYS + n) as i64));
            set(&mut shard, n, expiry);
        }
        shard
    }

    fn set(shard: &mut Shard, n: usize, expiry: Option<UnixMillis>) {
        let name = n.to_string();
        let key = Key::new(name.as_bytes(), &SlotMap::new(1));
        shard
            .db_mut(DbIndex(0))
            .set(key, NewValue::Bytes(b"v"), Expiry::Set(expiry));
    }

    fn left(shard: &Shard) -> Vec<usize> {
        let number = |entry: EntryRef<'_>| {
            let text = String::from_utf8_lossy(entry.key()).into_owned();
            text.parse().expect("keys are numbers")
        };
        shard.db(DbIndex(0)).iter().map(number).collect()
    }

    fn evict(volatile: bool, order: EvictionOrder, times: usize) -> Vec<usize> {
        let mut shard = shard();
        shard.set_access_clock(KEYS as u32, AccessPolicy::Recency);
        let eviction = Eviction { volatile, order };
        let mut rng = Rng::from_seed(times as u64);
        for _ in 0..times {
            assert!(shard.evict_one(eviction, 5, false, &mut rng));
        }
        assert_eq!(shard.stats.evicted_keys, times as u64);
        left(&shard)
    }

    #[test]
    fn those_not_used_for_longest_go_first() {
        let left = evict(false, EvictionOrder::Recency, KEYS / 2);
        let old = left.iter().filter(|n| **n < KEYS / 2).count();
        assert!(old < KEYS / 20, "{old} of the older half are left");
        let recent = left.iter().filter(|n| **n >= KEYS * 3 / 4).count();
        assert!(
            recent > KEYS / 4 * 98 / 100,
            "{recent} of the newest quarter are left"
        );
    }

    #[test]
    fn those_that_expire_soonest_go_first_and_the_rest_stays() {
        let left = evict(true, EvictionOrder::Expiry, KEYS / 4);
        assert_eq!(left.iter().filter(|n| **n % 2 == 1).count(), KEYS / 2);
        let soon = left
            .iter()
            .filter(|n| **n % 2 == 0 && **n < KEYS / 2)
            .count();
        assert!(
            soon < KEYS / 20,
            "{soon} of those that expire soon are left"
        );
    }

    #[test]
    fn used_keys_outlive_their_place_among_the_candidates() {
        let mut shard = shard();
        shard.set_access_clock(KEYS as u32, AccessPolicy::Recency);
        let eviction = Eviction {
            volatile: false,
            order: EvictionOrder::Recency,
        };
        let mut rng = Rng::from_seed(3);
        assert!(shard.evict_one(eviction, 64, false, &mut rng));
        // All candidates are used now.
        for n in 0..KEYS / 4 {
            set(&mut shard, n, None);
        }
        assert!(shard.evict_one(eviction, 64, false, &mut rng));
        let gone = KEYS - left(&shard).len();
        assert_eq!(gone, 1, "the first that went was set again");
        assert!((0..KEYS / 4).all(|n| left(&shard).contains(&n)));
    }

    #[test]
    fn random_takes_all_and_then_none() {
        let mut shard = shard();
        let mut rng = Rng::from_seed(1);
        for (volatile, count) in [(true, KEYS / 2), (false, KEYS / 2)] {
            let eviction = Eviction {
                volatile,
                order: EvictionOrder::Random,
            };
            for _ in 0..count {
                assert!(shard.evict_one(eviction, 5, true, &mut rng));
            }
            assert!(!volatile || !shard.evict_one(eviction, 5, true, &mut rng));
        }
        assert!(shard.db(DbIndex(0)).is_empty());
    }
}
