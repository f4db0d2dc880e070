//! The texts of scripts, by their SHA1.
//!
//! Those that SCRIPT LOAD brought stay until SCRIPT FLUSH. Of those that EVAL brought the newest are kept, and of older
//! ones those that were used since they were looked at last.

use std::collections::VecDeque;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex};

use dashmap::DashMap;
use scripting::source::ScriptHead;
use scripting::ScriptSha;

/// Scripts that EVAL brought and that are kept.
const EVALUATED_MAX: usize = 500;

pub struct Script {
    pub sha: ScriptSha,
    pub body: Box<[u8]>,
    pub head: ScriptHead,
    /// It has used keys that it did not declare, of shards it did not have.
    pub undeclared: AtomicBool,
    /// EVAL brought it.
    evictable: AtomicBool,
    /// Since it was looked at last.
    used: AtomicBool,
}

#[derive(Default)]
pub struct ScriptCache {
    by_sha: DashMap<ScriptSha, Arc<Script>>,
    evaluated: Mutex<VecDeque<Arc<Script>>>,
    /// Counts removals.
    generation: AtomicU64,
    evicted: AtomicU64,
    bytes: AtomicU64,
}

impl ScriptCache {
    pub fn generation(&self) -> u64 {
        self.generation.load(Acquire)
    }

    pub fn get(&self, sha: &ScriptSha) -> Option<Arc<Script>> {
        self.by_sha.get(sha).map(|script| script.clone())
    }

    pub fn len(&self) -> usize {
        self.by_sha.len()
    }

    pub fn evicted(&self) -> u64 {
        self.evicted.load(Relaxed)
    }

    /// Bytes of the texts, with what belongs to each.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    fn weight(script: &Script) -> u64 {
        (script.body.len() + size_of::<Script>() + size_of::<ScriptSha>()) as u64
    }

    /// Adds a script that compiles. `stays`: SCRIPT LOAD brought it.
    pub fn add(&self, sha: ScriptSha, body: &[u8], head: ScriptHead, stays: bool) -> Arc<Script> {
        let mut is_new = false;
        let entry = self.by_sha.entry(sha).or_insert_with(|| {
            is_new = true;
            Arc::new(Script {
                sha,
                body: body.into(),
                head,
                undeclared: AtomicBool::new(false),
                evictable: AtomicBool::new(!stays),
                used: AtomicBool::new(false),
            })
        });
        let script = entry.clone();
        drop(entry);
        if stays {
            script.evictable.store(false, Relaxed);
        }
        if is_new {
            self.bytes.fetch_add(Self::weight(&script), Relaxed);
            if !stays {
                self.evict(script.clone());
            }
        }
        script
    }

    fn evict(&self, newest: Arc<Script>) {
        let mut evaluated = self
            .evaluated
            .lock()
            .expect("no holder of this lock panics");
        evaluated.push_back(newest);
        while evaluated.len() > EVALUATED_MAX {
            let Some(oldest) = evaluated.pop_front() else {
                return;
            };
            if !oldest.evictable.load(Relaxed) {
                continue;
            }
            if oldest.used.swap(false, Relaxed) {
                evaluated.push_back(oldest);
                continue;
            }
            if self.by_sha.remove(&oldest.sha).is_some() {
                self.bytes.fetch_sub(Self::weight(&oldest), Relaxed);
                self.evicted.fetch_add(1, Relaxed);
                self.generation.fetch_add(1, Release);
            }
        }
    }

    pub fn flush(&self) {
        let mut evaluated = self
            .evaluated
            .lock()
            .expect("no holder of this lock panics");
        evaluated.clear();
        self.by_sha.clear();
        self.bytes.store(0, Relaxed);
        self.generation.fetch_add(1, Release);
    }
}

impl Script {
    #[inline]
    pub fn note_use(&self) {
        if !self.used.load(Relaxed) {
            self.used.store(true, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(cache: &ScriptCache, n: usize, stays: bool) -> ScriptSha {
        let body = format!("return {n}");
        let sha = scripting::sha1_hex(body.as_bytes());
        let head = ScriptHead {
            flags: None,
            len: 0,
        };
        cache.add(sha, body.as_bytes(), head, stays);
        sha
    }

    #[test]
    fn scripts_of_eval_make_room_and_loaded_ones_stay() {
        let cache = ScriptCache::default();
        let loaded = add(&cache, 0, true);
        let shas: Vec<_> = (1..=2 * EVALUATED_MAX)
            .map(|n| add(&cache, n, false))
            .collect();
        assert_eq!(cache.len(), EVALUATED_MAX + 1);
        assert_eq!(cache.evicted(), EVALUATED_MAX as u64);
        assert!(cache.get(&loaded).is_some());
        assert!(cache.get(&shas[0]).is_none());
        let used = shas
            .iter()
            .find_map(|sha| cache.get(sha))
            .expect("some are kept");
        used.note_use();
        for n in 0..EVALUATED_MAX {
            add(&cache, 10_000 + n, false);
        }
        assert!(cache.get(&used.sha).is_some());
        cache.flush();
        assert_eq!((cache.len(), cache.bytes()), (0, 0));
    }
}
