//! CLIENT TRACKING: which workers have clients that cache what they read, and telling them of changes.
//!
//! What a client has read stands in the shards ([`keyspace::tracking`]); its options are known to its
//! worker (`worker::tracking`). A change is posted to the workers concerned with the shard's baton held,
//! so that a client hears of it before anything that it could read afterwards; each worker then
//! applies its clients' options.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use keyspace::tracking::Due;
use keyspace::{Lsn, Shard, ShardIndex};

use crate::pubsub::{Publisher, To};
use crate::shared::Server;
use crate::worker::after::Origin;

/// Of one worker.
#[derive(Default)]
struct Clients {
    tracking: AtomicUsize,
    /// Those of them that hear of every change.
    broadcast: AtomicUsize,
}

pub struct Tracking {
    workers: Box<[Clients]>,
    /// How many clients want to hear of each prefix.
    prefixes: Mutex<HashMap<Arc<[u8]>, usize>>,
}

impl Tracking {
    pub fn new(workers: usize) -> Tracking {
        Tracking {
            workers: (0..workers).map(|_| Clients::default()).collect(),
            prefixes: Mutex::default(),
        }
    }

    pub fn begins(&self, worker: usize, broadcast: bool) {
        self.workers[worker].tracking.fetch_add(1, Relaxed);
        self.workers[worker]
            .broadcast
            .fetch_add(usize::from(broadcast), Relaxed);
    }

    pub fn ends(&self, worker: usize, broadcast: bool) {
        self.workers[worker].tracking.fetch_sub(1, Relaxed);
        self.workers[worker]
            .broadcast
            .fetch_sub(usize::from(broadcast), Relaxed);
    }

    pub fn add_prefix(&self, prefix: &Arc<[u8]>) {
        let mut prefixes = self.prefixes.lock().expect("no holder of this lock panics");
        *prefixes.entry(prefix.clone()).or_default() += 1;
    }

    pub fn remove_prefix(&self, prefix: &[u8]) {
        let mut prefixes = self.prefixes.lock().expect("no holder of this lock panics");
        if let Some(count) = prefixes.get_mut(prefix) {
            *count -= 1;
            if *count == 0 {
                prefixes.remove(prefix);
            }
        }
    }

    pub fn prefix_count(&self) -> usize {
        let prefixes = self.prefixes.lock().expect("no holder of this lock panics");
        prefixes.len()
    }

    pub fn client_count(&self) -> usize {
        self.workers.iter().map(|w| w.tracking.load(Relaxed)).sum()
    }

    /// Whether anybody hears of every change.
    pub fn broadcasts(&self) -> bool {
        self.workers.iter().any(|w| w.broadcast.load(Relaxed) > 0)
    }

    fn workers_with(
        &self,
        count: fn(&Clients) -> &AtomicUsize,
    ) -> impl Iterator<Item = usize> + '_ {
        let workers = self.workers.iter().enumerate();
        workers.filter_map(move |(index, w)| (count(w).load(Relaxed) > 0).then_some(index))
    }
}

impl Server {
    /// Tells clients that cache of what changed in these shards, whose batons the caller holds.
    pub fn tell_changes(
        &self,
        by: Option<Origin>,
        shards: &mut [&mut Shard],
        publisher: &mut Publisher,
    ) {
        let mut due = Due::default();
        for shard in shards.iter_mut() {
            shard.tracking.take_due(&mut due);
        }
        if due.is_empty() {
            return;
        }
        due.sort();
        let shows = shown_ends(shards);
        for one in &due.invalidations {
            let keys = publisher.encode_keys([&*one.key].into_iter());
            for number in &one.readers {
                if let Some(record) = self.clients.get(*number) {
                    let to = To::Reader {
                        conn: record.conn,
                        by,
                    };
                    publisher.post(self, record.worker, to, &keys, &shows);
                }
            }
        }
        for key in due.changed {
            let key: Arc<[u8]> = key.into();
            for worker in self.tracking.workers_with(|w| &w.broadcast) {
                publisher.post(self, worker, To::Broadcast { by }, &key, &shows);
            }
        }
        if due.emptied {
            let nothing: Arc<[u8]> = [].into();
            for worker in self.tracking.workers_with(|w| &w.tracking) {
                publisher.post(self, worker, To::AllReaders, &nothing, &shows);
            }
        }
    }

    /// Has the shards note every change if anybody wants to hear of it.
    pub fn note_changes_for_broadcast(&self) {
        for index in self.shard_indexes() {
            self.with_shard(index, |shard| {
                shard.tracking.note_all(self.tracking.broadcasts())
            });
        }
    }
}

/// Where the logs of these shards end: what is told of them must be written up to there.
pub fn shown_ends(shards: &[&mut Shard]) -> Vec<(ShardIndex, Lsn)> {
    let logged = shards.iter().filter(|shard| shard.log.is_enabled());
    logged
        .map(|shard| (shard.index(), shard.log.end()))
        .collect()
}
