//! Making segments durable away from the workers: who calls datasync, and when.
//!
//! Each segment has a slot of atomics: how far it is written, how far somebody waits for it to be durable, how far it
//! is. A driver turns wishes into datasyncs: a thread per segment, one glommio executor for all, or nobody but the test
//! that calls [`SyncService::step`]. Under `Always` a request wakes the driver, and the requests that arrive while a
//! datasync runs share the next one (group commit). Under `EverySecond` each segment has its own [`PERIOD`], staggered.
//!
//! Invariants: the durable position never passes what was written when the datasync began; a failed datasync stops the
//! segment's durable position until a new file is registered or the error is forgiven, because the kernel may have
//! dropped the pages; a driver neither allocates nor holds a lock between two datasyncs, and while paused it is parked
//! or inside datasync, so that a fork finds it harmless.

pub use super::sync_times::SyncTimes;
use super::sync_times::Times;
use super::StorageFile;
use crate::clock;
use keyspace::{Lsn, ShardIndex};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicU8, Ordering::*};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// `appendfsync`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SyncPolicy {
    Always = 0,
    EverySecond = 1,
    No = 2,
}

impl SyncPolicy {
    fn from_u8(n: u8) -> SyncPolicy {
        match n {
            0 => SyncPolicy::Always,
            1 => SyncPolicy::EverySecond,
            _ => SyncPolicy::No,
        }
    }
}

/// `storage-backend`, resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncBackend {
    /// One thread per segment.
    Threads,
    /// One glommio executor, its datasyncs concurrent on one io_uring. Needs io_uring: see [`super::sync_glommio::probe`].
    Glommio,
    /// No driver: [`SyncService::step`] is called by a test.
    Manual,
}

/// Called after a segment's durable position moved or its datasync failed. Runs on the driver's thread: it must be
/// quick, not allocate, and not take a lock that a forking thread may hold.
pub type OnDurable = Box<dyn Fn(ShardIndex) + Send + Sync>;

const PARKED: u32 = 0;
const RUNNING: u32 = 1;
const SYNCING: u32 = 2;

/// The time between two datasyncs of one segment under `EverySecond`. What is promised there is that no more than a second is
/// lost: a tenth may pass until an epoch ends, this until it is durable, and the rest is for the disk and the scheduler.
pub const PERIOD: Duration = Duration::from_millis(800);
/// A datasync that runs longer than this while more is written counts as delayed.
const DELAYED_FROM: Duration = Duration::from_secs(2);
/// How soon contents that could not be handed to the operating system are tried again.
const RETRY: Duration = Duration::from_millis(100);
/// How long a parked driver sleeps when it has nothing to wait for.
const IDLE: Duration = Duration::from_secs(3600);
/// Old files of one segment whose contents are not durable yet.
const RETIRED_MAX: usize = 16;

#[derive(Default)]
struct Files {
    current: Option<Arc<dyn StorageFile>>,
    /// Predecessors of `current`, to be made durable before it, then closed.
    retired: Vec<Arc<dyn StorageFile>>,
}

/// One segment. Padded to its own cache lines: workers write `written` of theirs each turn.
#[repr(align(128))]
pub(super) struct Slot {
    written: AtomicU64,
    requested: AtomicU64,
    durable: AtomicU64,
    /// Marks in the file, which no position tells; and how many of them are durable.
    marks: AtomicU64,
    marks_durable: AtomicU64,
    /// How many marks somebody waits for.
    marks_requested: AtomicU64,
    errno: AtomicI32,
    /// Why the file's contents could not be handed to the operating system, in the last attempt.
    flush_errno: AtomicI32,
    state: AtomicU32,
    /// Milliseconds since the service began, plus one, at which the running datasync began; 0: none runs.
    began_ms: AtomicU64,
    syncs: AtomicU64,
    /// The `began_ms` of the last datasync that was counted as delayed.
    delay_counted: AtomicU64,
    delays: AtomicU64,
    times: Times,
    files: Mutex<Files>,
    thread: OnceLock<Thread>,
}

pub(super) struct Shared {
    slots: Vec<Slot>,
    policy: AtomicU8,
    suspended: AtomicBool,
    paused: AtomicBool,
    stopping: AtomicBool,
    epoch: Instant,
    on_durable: OnDurable,
    wake_executor: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

fn locked(files: &Mutex<Files>) -> MutexGuard<'_, Files> {
    files
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The service. Dropping it stops the drivers after the datasync they are in.
pub struct SyncService {
    shared: Arc<Shared>,
    backend: SyncBackend,
    threads: Vec<JoinHandle<()>>,
}

/// While it lives, no driver runs anything but a datasync that had begun before.
pub struct PauseGuard<'a>(&'a SyncService);

impl SyncService {
    /// A service for `segment_count` segments and its drivers. Fails where threads cannot be started or io_uring is
    /// missing (`Glommio`).
    pub fn new(
        backend: SyncBackend,
        segment_count: usize,
        policy: SyncPolicy,
        on_durable: OnDurable,
    ) -> io::Result<SyncService> {
        let slot = || Slot {
            written: AtomicU64::new(0),
            requested: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            marks: AtomicU64::new(0),
            marks_durable: AtomicU64::new(0),
            marks_requested: AtomicU64::new(0),
            errno: AtomicI32::new(0),
            flush_errno: AtomicI32::new(0),
            state: AtomicU32::new(PARKED),
            began_ms: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            delay_counted: AtomicU64::new(0),
            delays: AtomicU64::new(0),
            times: Times::default(),
            files: Mutex::new(Files {
                current: None,
                retired: Vec::with_capacity(RETIRED_MAX),
            }),
            thread: OnceLock::new(),
        };
        let shared = Arc::new(Shared {
            slots: (0..segment_count).map(|_| slot()).collect(),
            policy: AtomicU8::new(policy as u8),
            suspended: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            epoch: clock::instant(),
            on_durable,
            wake_executor: OnceLock::new(),
        });
        let threads = match backend {
            SyncBackend::Manual => Vec::new(),
            SyncBackend::Glommio => vec![super::sync_glommio::start(shared.clone())?],
            SyncBackend::Threads => (0..segment_count)
                .map(|index| start_thread(shared.clone(), index))
                .collect::<io::Result<Vec<_>>>()?,
        };
        Ok(SyncService {
            shared,
            backend,
            threads,
        })
    }

    pub fn backend(&self) -> SyncBackend {
        self.backend
    }

    /// Puts a file in force for a segment that is written, and durable, up to `lsn`. A file that was in force before
    /// is made durable first, on the driver's thread, then closed. Clears an error.
    pub fn register(&self, segment: ShardIndex, file: Arc<dyn StorageFile>, lsn: Lsn) {
        let slot = self.slot(segment);
        let mut files = locked(&slot.files);
        match files.current.replace(file) {
            Some(old) => files.retired.push(old),
            None => {
                slot.durable.fetch_max(lsn.0, SeqCst);
            }
        }
        slot.written.fetch_max(lsn.0, SeqCst);
        // Its head is a mark as well: it takes no position, and must be durable before it can be missed.
        slot.marks.fetch_add(1, SeqCst);
        slot.errno.store(0, SeqCst);
        drop(files);
        self.wake(slot);
    }

    /// Takes a segment's file out of force (appendonly no). Returns after the current datasync of it.
    pub fn unregister(&self, segment: ShardIndex) {
        let slot = self.slot(segment);
        let mut files = locked(&slot.files);
        files.current = None;
        files.retired.clear();
        slot.durable.fetch_max(slot.written.load(SeqCst), SeqCst);
        slot.marks_durable.store(slot.marks.load(SeqCst), SeqCst);
        slot.times.settle();
    }

    /// Tells that the segment's file holds everything up to `lsn`. Wakes nobody: the timer of `EverySecond` picks it up.
    #[inline]
    pub fn note_written(&self, segment: ShardIndex, lsn: Lsn) {
        let slot = self.slot(segment);
        slot.written.fetch_max(lsn.0, Release);
        let began_ms = slot.began_ms.load(Relaxed);
        if began_ms != 0 {
            self.look_at_delay(slot, began_ms);
        }
        if slot.durable.load(Relaxed) < lsn.0 {
            slot.times.wrote(|| self.shared.now_ms());
        }
    }

    /// Tells that the segment's file holds something more, at the same position.
    pub fn note_mark(&self, segment: ShardIndex) {
        self.slot(segment).marks.fetch_add(1, Release);
    }

    /// More was written while a datasync runs. Where Redis would make the write wait for it after two seconds, it is only
    /// counted, once.
    #[cold]
    fn look_at_delay(&self, slot: &Slot, began_ms: u64) {
        let ran = clock::elapsed_since(self.shared.epoch)
            .saturating_sub(Duration::from_millis(began_ms - 1));
        if ran > DELAYED_FROM
            && self.policy() == SyncPolicy::EverySecond
            && slot.delay_counted.swap(began_ms, Relaxed) != began_ms
        {
            slot.delays.fetch_add(1, Relaxed);
        }
    }

    /// Datasyncs that went on for so long that Redis would have made writes wait.
    pub fn delayed_count(&self) -> u64 {
        let slots = self.shared.slots.iter();
        slots.map(|slot| slot.delays.load(Relaxed)).sum()
    }

    /// Segments whose datasync runs or was asked for.
    pub fn pending_count(&self) -> usize {
        let pending = |slot: &&Slot| {
            slot.began_ms.load(Relaxed) != 0
                || slot.requested.load(Relaxed) > slot.durable.load(Relaxed)
        };
        self.shared.slots.iter().filter(pending).count()
    }

    /// Wishes that everything up to `lsn`, which has been written, become durable soon. Returns at once.
    pub fn request(&self, segment: ShardIndex, lsn: Lsn) {
        let slot = self.slot(segment);
        slot.written.fetch_max(lsn.0, SeqCst);
        if slot.durable.load(SeqCst) >= lsn.0 || slot.requested.fetch_max(lsn.0, SeqCst) >= lsn.0 {
            return;
        }
        slot.times.wrote(|| self.shared.now_ms());
        // A driver that is at work on this segment looks again before it rests.
        let resting = match self.backend {
            SyncBackend::Glommio => slot.began_ms.load(SeqCst) == 0,
            SyncBackend::Threads | SyncBackend::Manual => slot.state.load(SeqCst) == PARKED,
        };
        if resting {
            self.wake(slot);
        }
    }

    /// Everything up to here survives the operating system.
    #[inline]
    pub fn durable(&self, segment: ShardIndex) -> Lsn {
        Lsn(self.slot(segment).durable.load(Acquire))
    }

    pub fn written(&self, segment: ShardIndex) -> Lsn {
        Lsn(self.slot(segment).written.load(Acquire))
    }

    /// The error that keeps the segment from becoming durable.
    pub fn error(&self, segment: ShardIndex) -> Option<io::Error> {
        match self.slot(segment).errno.load(Acquire) {
            0 => None,
            errno => Some(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Tries again in spite of an error, for which the caller takes the blame: what was written before it may be lost.
    pub fn forgive(&self, segment: ShardIndex) {
        let slot = self.slot(segment);
        slot.errno.store(0, SeqCst);
        self.wake(slot);
    }

    /// For how long the segment's running datasync has been running.
    pub fn running_for(&self, segment: ShardIndex) -> Option<Duration> {
        match self.slot(segment).began_ms.load(Acquire) {
            0 => None,
            began => Some(
                clock::elapsed_since(self.shared.epoch)
                    .saturating_sub(Duration::from_millis(began - 1)),
            ),
        }
    }

    /// Datasyncs done for this segment.
    pub fn sync_count(&self, segment: ShardIndex) -> u64 {
        self.slot(segment).syncs.load(Relaxed)
    }

    /// How long the segment's datasyncs take, and how long something has been waiting for one.
    pub fn times(&self, segment: ShardIndex) -> SyncTimes {
        self.slot(segment).times.read(self.shared.now_ms())
    }

    pub fn set_policy(&self, policy: SyncPolicy) {
        self.shared.policy.store(policy as u8, SeqCst);
        self.wake_all();
    }

    pub fn policy(&self) -> SyncPolicy {
        SyncPolicy::from_u8(self.shared.policy.load(Relaxed))
    }

    /// While suspended, no timer starts a datasync (`no-appendfsync-on-rewrite`); requests still do.
    pub fn suspend_timer(&self, suspended: bool) {
        self.shared.suspended.store(suspended, SeqCst);
        self.wake_all();
    }

    /// Blocks until `lsn` and the marks made so far are durable, an error stops it, or the time is over.
    pub fn wait_durable(&self, segment: ShardIndex, lsn: Lsn, timeout: Duration) -> io::Result<()> {
        let deadline = clock::instant() + timeout;
        let slot = self.slot(segment);
        slot.flush_errno.store(0, SeqCst);
        self.request(segment, lsn);
        let marks = slot.marks.load(SeqCst);
        slot.marks_requested.fetch_max(marks, SeqCst);
        self.wake(slot);
        while self.durable(segment) < lsn || slot.marks_durable.load(SeqCst) < marks {
            if let Some(error) = self.error(segment) {
                return Err(error);
            }
            match slot.flush_errno.load(SeqCst) {
                0 => {}
                errno => return Err(io::Error::from_raw_os_error(errno)),
            }
            if clock::instant() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            if self.backend == SyncBackend::Manual {
                self.step(segment);
            } else {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
        Ok(())
    }

    /// Brings every driver to a point where a fork finds it harmless and keeps it there. Does not wait for a datasync
    /// that runs: its thread stays in the kernel or parks right behind it.
    pub fn pause(&self) -> PauseGuard<'_> {
        self.shared.paused.store(true, SeqCst);
        self.shared.wake_executor();
        if self.backend != SyncBackend::Manual {
            for slot in &self.shared.slots {
                while slot.state.load(SeqCst) == RUNNING {
                    std::thread::yield_now();
                }
            }
        }
        PauseGuard(self)
    }

    /// `Manual`: does what a driver would do for this segment right now. True if it called datasync.
    pub fn step(&self, segment: ShardIndex) -> bool {
        let slot = self.slot(segment);
        slot.has_wish(true) && self.shared.sync_blocking(segment.0 as usize)
    }

    /// `Manual`: begins a datasync that takes time, if a driver would begin one now; `timer` says that the segment's
    /// moment of the second has come. It is called when it is to end: [`SyncService::end`].
    pub fn begin(&self, segment: ShardIndex, timer: bool) -> Option<Turn> {
        let timer = timer && self.shared.timer_runs();
        if !self.slot(segment).has_wish(timer) {
            return None;
        }
        let turn = self.shared.begin(segment.0 as usize)?;
        if let Err(error) = turn.file.flush() {
            self.shared.hold_back(segment.0 as usize, &error);
            return None;
        }
        Some(turn)
    }

    /// `Manual`: ends what [`SyncService::begin`] began.
    pub fn end(&self, segment: ShardIndex, turn: Turn) {
        self.shared.run_turn(segment.0 as usize, turn);
    }

    /// The first instant at or after `now` that is the segment's own moment of the second.
    pub fn next_tick(&self, segment: ShardIndex, now: Instant) -> Instant {
        self.shared.next_tick(segment.0 as usize, now)
    }

    fn slot(&self, segment: ShardIndex) -> &Slot {
        &self.shared.slots[segment.0 as usize]
    }

    fn wake(&self, slot: &Slot) {
        if let Some(thread) = slot.thread.get() {
            thread.unpark();
        }
        self.shared.wake_executor();
    }

    fn wake_all(&self) {
        for slot in &self.shared.slots {
            if let Some(thread) = slot.thread.get() {
                thread.unpark();
            }
        }
        self.shared.wake_executor();
    }
}

impl Drop for PauseGuard<'_> {
    fn drop(&mut self) {
        self.0.shared.paused.store(false, SeqCst);
        self.0.wake_all();
    }
}

impl Drop for SyncService {
    fn drop(&mut self) {
        self.shared.stopping.store(true, SeqCst);
        self.wake_all();
        for thread in self.threads.drain(..) {
            // A driver that panicked has said so itself; there is nothing left to stop.
            let _ = thread.join();
        }
    }
}

/// One datasync about to happen: taken before, given back after.
pub struct Turn {
    pub(super) file: Arc<dyn StorageFile>,
    /// What the file held when the turn began: durable once it is over, unless the file is a retired one.
    upto: u64,
    marks: u64,
    retired: bool,
}

impl Slot {
    /// Something waits to become durable: a request, or (if `timer`) anything written, or an old file to close.
    pub(super) fn has_wish(&self, timer: bool) -> bool {
        if self.errno.load(SeqCst) != 0 {
            return false;
        }
        let durable = self.durable.load(SeqCst);
        self.requested.load(SeqCst) > durable
            || (timer && self.written.load(SeqCst) > durable)
            || self.marks_requested.load(SeqCst) > self.marks_durable.load(SeqCst)
            || (timer && self.marks.load(SeqCst) > self.marks_durable.load(SeqCst))
            || !locked(&self.files).retired.is_empty()
    }

    fn begin(&self) -> Option<Turn> {
        let files = locked(&self.files);
        if let Some(file) = files.retired.first() {
            return Some(Turn {
                file: file.clone(),
                upto: 0,
                marks: 0,
                retired: true,
            });
        }
        let (upto, marks) = (self.written.load(SeqCst), self.marks.load(SeqCst));
        files.current.clone().map(|file| Turn {
            file,
            upto,
            marks,
            retired: false,
        })
    }

    fn end(&self, turn: Turn, result: io::Result<()>) {
        self.syncs.fetch_add(1, Relaxed);
        match result {
            Ok(()) if turn.retired => {
                let mut files = locked(&self.files);
                files.retired.retain(|file| !Arc::ptr_eq(file, &turn.file));
            }
            Ok(()) => {
                self.durable.fetch_max(turn.upto, SeqCst);
                self.marks_durable.fetch_max(turn.marks, SeqCst);
            }
            Err(e) => self
                .errno
                .store(e.raw_os_error().unwrap_or(libc::EIO), SeqCst),
        }
    }
}

impl Shared {
    pub(super) fn segment_count(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn slot(&self, index: usize) -> &Slot {
        &self.slots[index]
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(SeqCst)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.load(SeqCst)
    }

    /// Whether the clock alone may start a datasync.
    pub(super) fn timer_runs(&self) -> bool {
        SyncPolicy::from_u8(self.policy.load(SeqCst)) == SyncPolicy::EverySecond
            && !self.suspended.load(SeqCst)
    }

    pub(super) fn set_waker(&self, wake: Box<dyn Fn() + Send + Sync>) {
        // The executor is started once per service, so the cell is empty.
        let _ = self.wake_executor.set(wake);
    }

    fn wake_executor(&self) {
        if let Some(wake) = self.wake_executor.get() {
            wake();
        }
    }

    /// All slots at once: the executor's thread runs for all of them.
    pub(super) fn set_states(&self, running: bool) {
        for slot in &self.slots {
            slot.state
                .store(if running { RUNNING } else { PARKED }, SeqCst);
        }
    }

    /// No driver will ever run: every wait ends with this error.
    pub(super) fn give_up(&self, errno: i32) {
        self.set_states(false);
        for (index, slot) in self.slots.iter().enumerate() {
            slot.errno.store(errno, SeqCst);
            (self.on_durable)(ShardIndex(index as u16));
        }
    }

    /// The first instant at or after `now` that is this segment's own moment of the period.
    pub(super) fn next_tick(&self, index: usize, now: Instant) -> Instant {
        let stagger = PERIOD * index as u32 / self.slots.len().max(1) as u32;
        let first = self.epoch + stagger;
        if now <= first {
            return first;
        }
        let periods = (now - first).as_millis() / PERIOD.as_millis() + 1;
        first + PERIOD * periods as u32
    }

    /// Milliseconds since the service began, plus one.
    fn now_ms(&self) -> u64 {
        clock::elapsed_since(self.epoch).as_millis() as u64 + 1
    }

    pub(super) fn begin(&self, index: usize) -> Option<Turn> {
        let slot = &self.slots[index];
        let turn = slot.begin();
        if turn.is_none() {
            // Nothing is in force here: a wish cannot be fulfilled, and must not be tried for ever.
            slot.requested.store(slot.durable.load(SeqCst), SeqCst);
            slot.marks_requested.store(0, SeqCst);
            slot.marks_durable.store(slot.marks.load(SeqCst), SeqCst);
            return None;
        }
        let elapsed = clock::elapsed_since(self.epoch);
        slot.began_ms.store(elapsed.as_millis() as u64 + 1, Release);
        turn
    }

    pub(super) fn end(&self, index: usize, turn: Turn, result: io::Result<()>) {
        let slot = &self.slots[index];
        let is_done = result.is_ok() && !turn.retired;
        slot.end(turn, result);
        let is_behind = || slot.written.load(SeqCst) > slot.durable.load(SeqCst);
        let began = slot.began_ms.load(SeqCst);
        slot.times.synced(began, self.now_ms(), is_done, is_behind);
        slot.began_ms.store(0, SeqCst);
        (self.on_durable)(ShardIndex(index as u16));
    }

    /// The file's contents cannot be handed to the operating system, but nothing of them is lost: there is no datasync, and
    /// the wish stays.
    pub(super) fn hold_back(&self, index: usize, error: &io::Error) {
        let slot = &self.slots[index];
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        slot.flush_errno.store(errno, SeqCst);
        slot.began_ms.store(0, SeqCst);
    }

    /// True if it called datasync.
    fn run_turn(&self, index: usize, turn: Turn) -> bool {
        if let Err(error) = turn.file.flush() {
            self.hold_back(index, &error);
            return false;
        }
        self.slots[index].flush_errno.store(0, SeqCst);
        let result = turn.file.datasync();
        self.settle(index);
        self.end(index, turn, result);
        true
    }

    /// A datasync on this thread. During the call itself the slot says so: a fork may happen.
    fn sync_blocking(&self, index: usize) -> bool {
        let Some(turn) = self.begin(index) else {
            return false;
        };
        let slot = &self.slots[index];
        slot.state.store(SYNCING, SeqCst);
        let synced = self.run_turn(index, turn);
        self.settle(index);
        synced
    }

    /// Behind what a fork may interrupt: rests as long as one is under way.
    fn settle(&self, index: usize) {
        let slot = &self.slots[index];
        slot.state.store(RUNNING, SeqCst);
        while self.is_paused() && !self.is_stopping() && slot.thread.get().is_some() {
            slot.state.store(PARKED, SeqCst);
            std::thread::park();
            slot.state.store(RUNNING, SeqCst);
        }
    }

    fn run_thread(&self, index: usize) {
        let slot = &self.slots[index];
        let mut tick = self.next_tick(index, Instant::now());
        loop {
            slot.state.store(RUNNING, SeqCst);
            if self.is_stopping() {
                return;
            }
            let mut sleep = IDLE;
            if !self.is_paused() {
                let timer = self.timer_runs();
                let now = Instant::now();
                if slot.has_wish(timer && now >= tick) && self.sync_blocking(index) {
                    tick = if now >= tick {
                        self.next_tick(index, Instant::now())
                    } else {
                        tick
                    };
                    continue;
                }
                if now >= tick {
                    tick = self.next_tick(index, now);
                }
                if timer {
                    sleep = tick - now;
                }
            }
            let is_held_back = slot.flush_errno.load(SeqCst) != 0;
            if is_held_back {
                sleep = sleep.min(RETRY);
            }
            // A wish that arrives after the look above finds PARKED (or unparks in advance): it is not lost.
            slot.state.store(PARKED, SeqCst);
            if self.is_paused() || is_held_back || !slot.has_wish(false) {
                std::thread::park_timeout(sleep);
            }
        }
    }
}

fn start_thread(shared: Arc<Shared>, index: usize) -> io::Result<JoinHandle<()>> {
    let handle = std::thread::Builder::new()
        .name(format!("aof-sync-{index}"))
        .spawn({
            let shared = shared.clone();
            move || shared.run_thread(index)
        })?;
    shared.slots[index]
        .thread
        .set(handle.thread().clone())
        .expect("each slot gets one thread");
    shared.slots[index].thread.get().expect("just set").unpark();
    Ok(handle)
}
