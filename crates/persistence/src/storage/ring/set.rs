//! The rings of all shards, and who drains them: a thread per ring (`aof-drain-i`), or nobody but the simulation that calls
//! [`RingSet::step`].
//!
//! A thread sleeps until its ring holds enough for a large write; now and then it hands over what little has been lying
//! there, so that under `appendfsync no` the operating system gets it at all. After a failure it tries again at intervals.
//! For a fork the threads are brought to rest like those of [`crate::storage::sync`]: parked, or within a drain.

use super::layout::{ring_path, total_len, Identity, Layout};
use super::memory::RingStore;
use super::{locked, Drain, OnTrouble, Ring};
use keyspace::ShardIndex;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

/// How long bytes may lie in a ring that nobody syncs.
const LINGER: Duration = Duration::from_secs(1);
/// How long a drain that failed is not tried again.
const RETRY: Duration = Duration::from_millis(100);

const PARKED: u32 = 0;
const RUNNING: u32 = 1;
const DRAINING: u32 = 2;

/// Wakes the thread of a ring.
#[derive(Default)]
pub(super) struct Bell {
    state: AtomicU32,
    thread: OnceLock<Thread>,
}

impl Bell {
    /// May be missed by a thread that is about to rest: then the next one, or its own clock, wakes it.
    #[inline]
    pub fn ring(&self) {
        if self.state.load(Relaxed) == PARKED {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingDriver {
    Threads,
    /// Nobody drains but [`RingSet::step`], an appender without room, and `flush`.
    Manual,
}

/// What rings are to be made.
#[derive(Clone, Debug)]
pub struct RingSpec {
    /// Path and beginning of the name of each.
    pub prefix: PathBuf,
    pub run_id: String,
    pub boot_id: String,
    /// See [`Identity::dir_id`].
    pub dir_id: String,
    pub manifest: PathBuf,
    pub shard_count: u16,
    /// Bytes of each: see [`super::probe::data_len`].
    pub data_len: u64,
}

impl RingSpec {
    fn identity(&self, shard: ShardIndex) -> Identity {
        Identity {
            run_id: self.run_id.clone(),
            boot_id: self.boot_id.clone(),
            shard,
            shard_count: self.shard_count,
            dir_id: self.dir_id.clone(),
            manifest: self.manifest.clone(),
            data_len: self.data_len,
        }
    }
}

#[derive(Default)]
struct Shared {
    paused: AtomicBool,
    stopping: AtomicBool,
}

/// Dropping it ends the threads and leaves the rings where they are, for the next start to find.
pub struct RingSet {
    prefix: PathBuf,
    store: Arc<dyn RingStore>,
    rings: Vec<Arc<Ring>>,
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// While it lives, no thread does anything but a drain that had begun before.
pub struct RingPause<'a>(&'a RingSet);

impl RingSet {
    /// Makes a ring per shard, with nothing in it and no file behind it. On an error there is none.
    pub fn create(
        store: Arc<dyn RingStore>,
        spec: &RingSpec,
        driver: RingDriver,
        on_trouble: OnTrouble,
    ) -> io::Result<RingSet> {
        let mut set = RingSet {
            prefix: spec.prefix.clone(),
            store,
            rings: Vec::new(),
            shared: Arc::default(),
            threads: Mutex::default(),
        };
        match set.fill(spec, driver, &on_trouble) {
            Ok(()) => Ok(set),
            Err(error) => {
                set.remove_files();
                Err(error)
            }
        }
    }

    fn fill(
        &mut self,
        spec: &RingSpec,
        driver: RingDriver,
        on_trouble: &OnTrouble,
    ) -> io::Result<()> {
        for shard in (0..spec.shard_count).map(ShardIndex) {
            let identity = spec.identity(shard);
            let page = identity.format().map_err(io::Error::other)?;
            let path = ring_path(&self.prefix, shard);
            let memory = self.store.create(&path, total_len(spec.data_len), &page)?;
            let layout = Layout::new(memory, &identity).map_err(io::Error::other)?;
            let ring = Arc::new(Ring::new(layout, shard, on_trouble.clone()));
            self.rings.push(ring.clone());
            if driver == RingDriver::Threads {
                let shared = self.shared.clone();
                let handle = std::thread::Builder::new()
                    .name(format!("aof-drain-{}", shard.0))
                    .spawn({
                        let ring = ring.clone();
                        move || run(&shared, &ring)
                    })?;
                let thread = handle.thread().clone();
                ring.driver.thread.set(thread).expect("each ring gets one");
                locked(&self.threads).push(handle);
            }
        }
        Ok(())
    }

    pub fn prefix(&self) -> &Path {
        &self.prefix
    }

    pub fn ring(&self, shard: ShardIndex) -> &Arc<Ring> {
        &self.rings[usize::from(shard.0)]
    }

    pub fn rings(&self) -> &[Arc<Ring>] {
        &self.rings
    }

    /// Bytes that the rings hold and the files do not.
    pub fn pending_bytes(&self) -> u64 {
        self.rings.iter().map(|ring| ring.pending_bytes()).sum()
    }

    /// Bytes of memory of all rings.
    pub fn size(&self) -> u64 {
        let total = self.rings.iter().map(|ring| ring.layout.data_len());
        total.map(|data_len| total_len(data_len) as u64).sum()
    }

    /// `Manual`: does what a driver may do for this shard at any time.
    pub fn step(&self, shard: ShardIndex, how: Drain) -> io::Result<bool> {
        self.ring(shard).drain(how)
    }

    /// Brings the threads to a point where a fork finds them harmless and keeps them there.
    pub fn pause(&self) -> RingPause<'_> {
        self.shared.paused.store(true, SeqCst);
        for ring in &self.rings {
            while ring.driver.state.load(SeqCst) == RUNNING {
                std::thread::yield_now();
            }
        }
        RingPause(self)
    }

    fn stop_threads(&self) {
        self.shared.stopping.store(true, SeqCst);
        self.rings.iter().for_each(|ring| ring.driver.wake());
        for thread in std::mem::take(&mut *locked(&self.threads)) {
            // One that panicked has said so itself.
            let _ = thread.join();
        }
    }

    /// Ends the threads and removes the rings, unless one holds what its file does not. Nothing is to be appended any more.
    pub fn remove(&self) -> io::Result<()> {
        self.stop_threads();
        if self.pending_bytes() > 0 {
            return Err(io::Error::other("a ring holds what its file does not"));
        }
        self.remove_files();
        Ok(())
    }

    fn remove_files(&self) {
        self.stop_threads();
        for index in 0..self.rings.len() {
            // One that stays is found to be abandoned at the next start.
            let _ = self
                .store
                .remove(&ring_path(&self.prefix, ShardIndex(index as u16)));
        }
    }
}

impl Drop for RingSet {
    fn drop(&mut self) {
        self.stop_threads();
    }
}

impl Drop for RingPause<'_> {
    fn drop(&mut self) {
        self.0.shared.paused.store(false, SeqCst);
        self.0.rings.iter().for_each(|ring| ring.driver.wake());
    }
}

fn run(shared: &Shared, ring: &Ring) {
    let state = &ring.driver.state;
    let mut head_seen = 0;
    let mut rested = false;
    loop {
        state.store(RUNNING, SeqCst);
        if shared.stopping.load(SeqCst) {
            return;
        }
        let mut sleep = LINGER;
        if !shared.paused.load(SeqCst) {
            let head = ring.layout.head();
            let lingers = rested && head == head_seen;
            let how = if lingers || ring.error().is_some() {
                Drain::All
            } else {
                Drain::Bulk
            };
            state.store(DRAINING, SeqCst);
            if ring.drain(how).is_err() {
                sleep = RETRY;
            }
            state.store(RUNNING, SeqCst);
            head_seen = ring.layout.head();
        }
        state.store(PARKED, SeqCst);
        let parked = std::time::Instant::now();
        if shared.paused.load(SeqCst) || sleep == RETRY || ring.pending_bytes() < ring.wake_at {
            std::thread::park_timeout(sleep);
        }
        rested = parked.elapsed() >= LINGER;
    }
}
