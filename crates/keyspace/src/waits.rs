//! Who waits for which keys of a shard, and which of those keys are ready.
//!
//! A command that finds nothing in its keys leaves a [`Waiter`] in the shard of each of them, in the
//! order in which clients came. A change of such a key makes it *ready*: whoever holds the baton has
//! the waiters try again, first come first, before anybody else runs on the shard. What they try, and
//! for whom, is the server's affair and travels along as it is.
//!
//! Several threads may want to end one wait: holders of the batons of its keys, its own worker when the
//! time is over, whoever unblocks or kills the client. Its [`Claim`] sees to it that one of them does.
//! Writes of shards in which nobody waits cost one look at an empty map.

use std::any::Any;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound::{Excluded, Included};
use std::sync::atomic::{
    AtomicU64, AtomicU8, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::sync::Arc;

use crate::entry::ValueRef;
use crate::types::DbIndex;

/// Whether a value is one that a waiter can use.
pub type Wanted = fn(ValueRef<'_>) -> bool;

/// Numbers what becomes ready, over all shards: keys are served in this order.
static READY: AtomicU64 = AtomicU64::new(0);

const WAITING: u8 = 0;
const TRYING: u8 = 1;
const ENDED: u8 = 2;

/// The right to end a wait. Waiting, being tried (for as long as a command runs), or ended.
#[derive(Default)]
pub struct Claim(AtomicU8);

impl Claim {
    /// Begins to try again; false if the wait is over. [`Claim::resume`] or [`Claim::end`] follows,
    /// and nothing that waits for another thread comes before that.
    #[must_use]
    pub fn try_again(&self) -> bool {
        self.0
            .compare_exchange(WAITING, TRYING, AcqRel, Acquire)
            .is_ok()
    }

    /// There was nothing: the wait goes on.
    pub fn resume(&self) {
        self.0.store(WAITING, Release);
    }

    /// The try ended the wait.
    pub fn end(&self) {
        self.0.store(ENDED, Release);
    }

    /// Ends the wait from outside; false if it was over. Waits while somebody tries.
    #[must_use]
    pub fn take(&self) -> bool {
        loop {
            match self.0.compare_exchange(WAITING, ENDED, AcqRel, Acquire) {
                Ok(_) => return true,
                Err(ENDED) => return false,
                Err(_) => std::thread::yield_now(),
            }
        }
    }
}

/// A client that waits for keys.
pub struct Waiter {
    /// Its place in every queue; given out under the batons of its keys.
    number: u64,
    pub wanted: Wanted,
    /// To be tried as well when a key is gone or holds something else.
    pub on_deletion: bool,
    pub claim: Arc<Claim>,
    /// In how many queues it is.
    queues: AtomicUsize,
    /// What to try, and for whom.
    pub request: Box<dyn Any + Send + Sync>,
}

impl Waiter {
    /// A waiter that comes behind all that were made before. The caller holds the batons of its keys.
    pub fn new(
        wanted: Wanted,
        on_deletion: bool,
        claim: Arc<Claim>,
        request: Box<dyn Any + Send + Sync>,
    ) -> Waiter {
        static WAITERS: AtomicU64 = AtomicU64::new(1);
        Waiter {
            number: WAITERS.fetch_add(1, Relaxed),
            wanted,
            on_deletion,
            claim,
            queues: AtomicUsize::new(0),
            request,
        }
    }

    /// Whether some queue still has it.
    pub fn is_queued(&self) -> bool {
        self.queues.load(Acquire) > 0
    }
}

/// Those who wait for one key, in the order in which they came.
#[derive(Default)]
struct Queue {
    waiters: BTreeMap<u64, Arc<Waiter>>,
    on_deletion: usize,
    /// On the list of keys that are ready.
    is_ready: bool,
}

/// A key that has changed and that somebody waits for.
pub struct Ready {
    number: u64,
    pub db: DbIndex,
    pub key: Box<[u8]>,
}

/// Which waiters are to be tried: those up to the last that was there when the key's turn came.
pub struct Round {
    behind: u64,
    last: u64,
}

#[derive(Default)]
pub struct WaitTable {
    dbs: HashMap<DbIndex, HashMap<Box<[u8]>, Queue>>,
    ready: VecDeque<Ready>,
}

impl WaitTable {
    /// Puts a waiter at the end of a key's queue, unless it is there.
    pub fn add(&mut self, db: DbIndex, key: &[u8], waiter: &Arc<Waiter>) {
        let queue = self
            .dbs
            .entry(db)
            .or_default()
            .entry(key.into())
            .or_default();
        if queue
            .waiters
            .insert(waiter.number, waiter.clone())
            .is_none()
        {
            queue.on_deletion += usize::from(waiter.on_deletion);
            waiter.queues.fetch_add(1, AcqRel);
        }
    }

    /// Takes a waiter out of a key's queue, if it is there.
    pub fn remove(&mut self, db: DbIndex, key: &[u8], waiter: &Waiter) {
        let Some(keys) = self.dbs.get_mut(&db) else {
            return;
        };
        let Some(queue) = keys.get_mut(key) else {
            return;
        };
        if queue.waiters.remove(&waiter.number).is_some() {
            queue.on_deletion -= usize::from(waiter.on_deletion);
            waiter.queues.fetch_sub(1, AcqRel);
        }
        if queue.waiters.is_empty() {
            keys.remove(key);
        }
        if keys.is_empty() {
            self.dbs.remove(&db);
        }
    }

    /// Notes that a key has changed: it is ready if somebody waits for it. Tells whether any is.
    #[inline]
    pub fn changed(&mut self, db: DbIndex, key: &[u8]) -> bool {
        if self.dbs.is_empty() {
            return false;
        }
        self.changed_slow(db, key)
    }

    #[cold]
    fn changed_slow(&mut self, db: DbIndex, key: &[u8]) -> bool {
        let queue = self.dbs.get_mut(&db).and_then(|keys| keys.get_mut(key));
        if let Some(queue) = queue.filter(|queue| !queue.is_ready) {
            queue.is_ready = true;
            self.ready.push_back(Ready {
                number: READY.fetch_add(1, Relaxed),
                db,
                key: key.into(),
            });
        }
        self.has_ready()
    }

    /// Makes every key of `db` ready that somebody waits for and `changed` says yes to. Tells whether
    /// any key is.
    pub fn changed_where(&mut self, db: DbIndex, changed: impl Fn(&[u8]) -> bool) -> bool {
        let keys = self.dbs.get(&db).into_iter().flatten();
        let changed: Vec<_> = keys
            .map(|(key, _)| key.clone())
            .filter(|key| changed(key))
            .collect();
        for key in &changed {
            self.changed_slow(db, key);
        }
        self.has_ready()
    }

    /// Whether a key waits for its turn to be served.
    #[inline]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The number of the key that has been ready for longest; the lowest of all shards held is next.
    pub fn next_ready(&self) -> Option<u64> {
        self.ready.front().map(|ready| ready.number)
    }

    /// Takes the key that has been ready for longest off the list, with the waiters to try. A change
    /// from here on makes it ready again.
    pub fn take_ready(&mut self) -> Option<(Ready, Round)> {
        let ready = self.ready.pop_front()?;
        let mut last = 0;
        let queue = self.dbs.get_mut(&ready.db);
        if let Some(queue) = queue.and_then(|keys| keys.get_mut(&ready.key)) {
            queue.is_ready = false;
            last = queue.waiters.keys().next_back().copied().unwrap_or(0);
        }
        Some((ready, Round { behind: 0, last }))
    }

    /// The next waiter of a key's round.
    pub fn next(&self, db: DbIndex, key: &[u8], round: &mut Round) -> Option<Arc<Waiter>> {
        if round.behind >= round.last {
            return None;
        }
        let rest = (Excluded(round.behind), Included(round.last));
        let queue = self.dbs.get(&db)?.get(key)?;
        let (number, waiter) = queue.waiters.range(rest).next()?;
        round.behind = *number;
        Some(waiter.clone())
    }

    /// Whether somebody wants to hear when the key is gone.
    pub fn any_on_deletion(&self, db: DbIndex, key: &[u8]) -> bool {
        let queue = self.dbs.get(&db).and_then(|keys| keys.get(key));
        queue.is_some_and(|queue| queue.on_deletion > 0)
    }

    /// How many keys are waited for.
    pub fn len(&self) -> usize {
        self.dbs.values().map(HashMap::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.dbs.is_empty()
    }

    /// How many keys are waited for by somebody who wants to hear when they are gone.
    pub fn len_on_deletion(&self) -> usize {
        let queues = self.dbs.values().flat_map(HashMap::values);
        queues.filter(|queue| queue.on_deletion > 0).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DB: DbIndex = DbIndex(0);

    fn waiter(on_deletion: bool) -> Arc<Waiter> {
        let claim = Arc::new(Claim::default());
        Arc::new(Waiter::new(|_| true, on_deletion, claim, Box::new(())))
    }

    fn round(table: &mut WaitTable) -> (Box<[u8]>, Vec<u64>) {
        let (ready, mut round) = table.take_ready().expect("a key is ready");
        let mut numbers = Vec::new();
        while let Some(waiter) = table.next(ready.db, &ready.key, &mut round) {
            numbers.push(waiter.number);
        }
        (ready.key, numbers)
    }

    #[test]
    fn waiters_are_tried_in_the_order_they_came() {
        let mut table = WaitTable::default();
        table.changed(DB, b"a");
        assert!(!table.has_ready());
        let [first, second, third] = [waiter(false), waiter(true), waiter(false)];
        for (key, waiter) in [(b"a", &first), (b"b", &second), (b"a", &second)] {
            table.add(DB, key, waiter);
            table.add(DB, key, waiter);
        }
        for key in [b"b", b"c", b"a", b"b"] {
            table.changed(DB, key);
        }
        assert_eq!(round(&mut table), ((*b"b").into(), vec![second.number]));
        table.add(DB, b"a", &third);
        table.remove(DB, b"a", &first);
        let both = vec![second.number, third.number];
        assert_eq!(round(&mut table), ((*b"a").into(), both));
        assert!(!table.has_ready());
        table.changed_where(DB, |key| key == b"b");
        assert_eq!(round(&mut table).1, [second.number]);
        assert_eq!((table.len(), table.len_on_deletion()), (2, 2));
        assert!(table.any_on_deletion(DB, b"a") && second.is_queued());
        for (key, waiter) in [(b"a", &second), (b"b", &second), (b"a", &third)] {
            table.remove(DB, key, waiter);
        }
        assert!(table.is_empty() && !second.is_queued() && !first.is_queued());
    }

    #[test]
    fn a_round_ends_with_who_was_there_at_its_begin() {
        let mut table = WaitTable::default();
        table.add(DB, b"a", &waiter(false));
        table.changed(DB, b"a");
        let (ready, mut round) = table.take_ready().expect("a key is ready");
        table.add(DB, b"a", &waiter(false));
        assert!(table.next(DB, &ready.key, &mut round).is_some());
        assert!(table.next(DB, &ready.key, &mut round).is_none());
        table.changed(DB, b"a");
        assert!(table.has_ready());
    }

    #[test]
    fn one_of_many_ends_a_wait() {
        let claim = Claim::default();
        assert!(claim.try_again());
        assert!(!claim.try_again());
        claim.resume();
        let ended = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for i in 0..4 {
                let (claim, ended) = (&claim, &ended);
                scope.spawn(move || {
                    let tried = i % 2 == 0 && claim.try_again();
                    if tried {
                        claim.end();
                    }
                    if tried || claim.take() {
                        ended.fetch_add(1, Relaxed);
                    }
                });
            }
        });
        assert_eq!(ended.load(Relaxed), 1);
        assert!(!claim.take() && !claim.try_again());
    }
}
