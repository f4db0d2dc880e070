//! The AOF as the running server writes it: a segment per shard, each with a file lock of its own.
//!
//! A worker writes the logs of the shards it touched once a turn, before its replies go out. The
//! segment's lock is taken first and the shard's baton only for the moment of swapping the log's
//! buffer, so commands go on while a block is being written, and blocks reach the file in order.
//! Locks come before batons, and several of either in ascending order; nobody waits for a lock
//! with a baton in hand.
//!
//! A transaction over several shards counts when loaded only if every one of them has it; where
//! one has not, the others are cut in front of it. So nothing behind it may be acknowledged before
//! all its parts are there: logs that share one are written as one unit, swapped at one instant,
//! and count as written, and as durable, only together.
//!
//! What a failed write left behind is kept and written first by the next one; meanwhile commands
//! that write are refused. So they are while a ring cannot be drained, though it keeps everything
//! and takes more for a while.
//!
//! Written means the same on both write paths: in the page cache, or in a ring.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use commands::CommandError;
use keyspace::{Log, Lsn, ShardIndex};
use persistence::aof::segment::SegmentWriter;
use persistence::aof::{annotation, Stamp};
use persistence::storage::ring::{Drain, RingSet};
use persistence::storage::sync::{SyncPolicy, SyncService};

use crate::drains::Drains;
use crate::shared::Server;
use crate::{clock, exit, log};

/// Buffers that have grown beyond this are given back once they are written.
const KEPT_BUFFER_BYTES: usize = 4 << 20;

#[repr(align(128))]
struct Segment {
    /// How far the shard's log is in the file; not yet durable.
    written: AtomicU64,
    /// The file's length, for those who may not take its lock because they hold a baton.
    len: AtomicU64,
    file: Mutex<SegmentFile>,
    /// Blocks written together with other shards' that may not all be durable, oldest first.
    units: Mutex<VecDeque<Unit>>,
    unit_count: AtomicUsize,
    /// The last write failed.
    is_failing: AtomicBool,
}

/// The write path in force, and why.
#[derive(Clone, Default)]
pub struct WritePath {
    /// None: write(2).
    pub rings: Option<Arc<RingSet>>,
    /// Which ones of this process; 0: none.
    pub rings_number: u64,
    pub reason: String,
}

impl WritePath {
    pub fn name(&self) -> &'static str {
        match self.rings {
            Some(_) => "ring",
            None => "write",
        }
    }
}

/// Blocks of several shards that count only together.
struct Unit {
    /// Where this shard's block begins.
    begin: Lsn,
    /// Where each shard's block ends.
    ends: Arc<[(ShardIndex, Lsn)]>,
}

/// The later end of each shard that either names.
fn later_ends(a: &[(ShardIndex, Lsn)], b: &[(ShardIndex, Lsn)]) -> Arc<[(ShardIndex, Lsn)]> {
    let mut ends = a.to_vec();
    for (shard, end) in b {
        match ends.iter_mut().find(|(known, _)| known == shard) {
            Some((_, known)) => *known = (*end).max(*known),
            None => ends.push((*shard, *end)),
        }
    }
    ends.into()
}

/// What the segment's lock protects.
#[derive(Default)]
pub struct SegmentFile {
    pub writer: Option<SegmentWriter>,
    /// The buffer to swap with the log's.
    block: Vec<u8>,
    /// Blocks whose write failed, to be written before anything else.
    unwritten: Vec<u8>,
    /// The block holds a part of a transaction over several shards.
    linked: bool,
    /// Shards with which this one's last blocks are a unit, some of which could not be written.
    owed: Vec<ShardIndex>,
    /// The second that the last `#TS` line told.
    timestamp: i64,
}

impl SegmentFile {
    /// Takes what the log holds, to be written next. Returns its end. `timestamp`: the second, if it is to be told.
    pub fn swap(&mut self, log: &mut Log, timestamp: Option<i64>) -> Lsn {
        if let Some(seconds) = timestamp {
            if seconds != self.timestamp && !log.is_empty() {
                self.timestamp = seconds;
                let mut line = Vec::new();
                annotation::put_timestamp(&mut line, seconds);
                log.annotate(&line);
            }
        }
        self.linked |= !log.linked().is_empty();
        log.swap(&mut self.block)
    }

    /// Whether what is to be written shares a transaction with other shards.
    fn is_linked(&self) -> bool {
        self.linked || !self.owed.is_empty()
    }

    /// Whether there is nothing to write.
    fn is_clean(&self) -> bool {
        self.block.is_empty() && self.unwritten.is_empty()
    }
}

pub struct Aof {
    on: AtomicBool,
    always: AtomicBool,
    timestamps: AtomicBool,
    segments: Box<[Segment]>,
    sync: OnceLock<SyncService>,
    /// Advanced about ten times a second; see `docs/design/aof.md`.
    pub epoch: AtomicU64,
    next_transaction: AtomicU64,
    /// Bytes of the base and of older generations.
    older_bytes: AtomicU64,
    /// The last write of some segment failed.
    failed: AtomicBool,
    /// A segment could not be made durable, and has not been since.
    unsynced: AtomicBool,
    failure: Mutex<String>,
    write_path: Mutex<WritePath>,
    pub drains: Drains,
    /// The manifest on disk names the segments: what is durable in them is found again.
    in_force: AtomicBool,
    /// Nothing may be written: see [`Aof::hold`].
    held: AtomicBool,
    /// Connections that wait by WAIT or WAITAOF.
    pub sync_waiters: AtomicUsize,
    /// DEBUG AOF-FLUSH-SLEEP.
    pub flush_sleep_micros: AtomicU64,
}

impl Aof {
    pub fn new(shards: usize) -> Aof {
        let segment = || Segment {
            written: AtomicU64::new(0),
            len: AtomicU64::new(0),
            file: Mutex::default(),
            units: Mutex::default(),
            unit_count: AtomicUsize::new(0),
            is_failing: AtomicBool::new(false),
        };
        Aof {
            on: AtomicBool::new(false),
            always: AtomicBool::new(false),
            timestamps: AtomicBool::new(false),
            segments: (0..shards).map(|_| segment()).collect(),
            sync: OnceLock::new(),
            epoch: AtomicU64::new(1),
            next_transaction: AtomicU64::new(1),
            older_bytes: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            unsynced: AtomicBool::new(false),
            failure: Mutex::default(),
            write_path: Mutex::default(),
            drains: Drains::new(shards),
            in_force: AtomicBool::new(false),
            held: AtomicBool::new(false),
            sync_waiters: AtomicUsize::new(0),
            flush_sleep_micros: AtomicU64::new(0),
        }
    }

    /// Hands over the service that makes segments durable; once, before the AOF is switched on.
    pub fn set_sync(&self, sync: SyncService) {
        assert!(self.sync.set(sync).is_ok(), "the sync service is made once");
    }

    pub fn sync(&self) -> Option<&SyncService> {
        self.sync.get()
    }

    pub fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    pub fn set_on(&self, on: bool) {
        self.on.store(on, Relaxed);
    }

    /// Whether a start would load what is written. Not while the AOF was just switched on and its
    /// first base is being written.
    pub fn is_in_force(&self) -> bool {
        self.is_on() && self.in_force.load(Acquire)
    }

    pub fn set_in_force(&self, in_force: bool) {
        self.in_force.store(in_force, Release);
    }

    /// Has every write to a segment fail until it is let go again: while the manifest on disk may be another one than it
    /// should be, a start may not find it, or find it where it does not belong.
    pub fn hold(&self, held: bool) {
        self.held.store(held, Release);
    }

    pub fn configure(&self, config: &config::Config) {
        let policy = match config.appendfsync {
            config::AppendFsync::Always => SyncPolicy::Always,
            config::AppendFsync::EverySec => SyncPolicy::EverySecond,
            config::AppendFsync::No => SyncPolicy::No,
        };
        self.timestamps.store(config.aof_timestamp_enabled, Relaxed);
        self.set_policy(policy);
    }

    /// To `always` only while nothing is written or everything that was counts after a crash of the system.
    pub fn set_policy(&self, policy: SyncPolicy) {
        self.always.store(policy == SyncPolicy::Always, Relaxed);
        if let Some(sync) = self.sync() {
            sync.set_policy(policy);
        }
    }

    /// Continues epochs and transaction numbers behind those that were loaded.
    pub fn continue_from(&self, epoch: u64, transaction: u64) {
        self.epoch.store(epoch + 1, Relaxed);
        self.next_transaction.store(transaction + 1, Relaxed);
    }

    fn policy(&self) -> SyncPolicy {
        self.sync().map_or(SyncPolicy::No, SyncService::policy)
    }

    /// Whether replies wait for their writes to be durable.
    #[inline]
    pub fn fsyncs_always(&self) -> bool {
        self.always.load(Relaxed)
    }

    /// How far a shard's log survives the operating system.
    pub fn durable(&self, shard: ShardIndex) -> Lsn {
        match self.sync() {
            // Without a file in force there is nothing to wait for.
            Some(sync) if self.is_on() => self.durable_in_units(sync, shard),
            _ => Lsn(u64::MAX),
        }
    }

    #[inline]
    fn durable_in_units(&self, sync: &SyncService, shard: ShardIndex) -> Lsn {
        let segment = &self.segments[usize::from(shard.0)];
        let durable = sync.durable(shard);
        if segment.unit_count.load(Acquire) == 0 {
            return durable;
        }
        let mut units = segment.units.lock().expect("no holder of this lock panics");
        while let Some(unit) = units.front() {
            let mut missing = unit
                .ends
                .iter()
                .filter(|(shard, end)| sync.durable(*shard) < *end)
                .peekable();
            if missing.peek().is_some() {
                if self.fsyncs_always() {
                    // Written before that policy was chosen, they were not asked for yet.
                    missing.for_each(|(shard, end)| sync.request(*shard, *end));
                }
                return durable.min(unit.begin);
            }
            units.pop_front();
        }
        segment.unit_count.store(units.len(), Release);
        durable
    }

    /// Whether what ends here in a shard's log may be told to clients who did not write it: by the policy in force it
    /// would survive what its writer is promised that it survives.
    pub fn shows_to_others(&self, shard: ShardIndex, lsn: Lsn) -> bool {
        match (self.is_on(), self.fsyncs_always()) {
            (false, _) => true,
            (true, false) => self.written(shard) >= lsn,
            (true, true) => self.durable(shard) >= lsn,
        }
    }

    /// How far a shard's log is in its file.
    pub fn written(&self, shard: ShardIndex) -> Lsn {
        Lsn(self.segments[usize::from(shard.0)].written.load(Acquire))
    }

    pub fn segment(&self, shard: ShardIndex) -> MutexGuard<'_, SegmentFile> {
        self.segments[usize::from(shard.0)]
            .file
            .lock()
            .expect("no holder of this lock panics")
    }

    /// The comment line that ties the parts of a transaction across shards together.
    pub fn transaction_annotation(&self, participants: &[ShardIndex]) -> Vec<u8> {
        let mut line = Vec::new();
        if self.is_on() {
            annotation::put_transaction(
                &mut line,
                self.next_transaction.fetch_add(1, Relaxed),
                participants,
            );
        }
        line
    }

    /// What a block written now is stamped with; see `docs/design/aof.md` for its epoch.
    pub fn stamp(&self) -> Stamp {
        Stamp {
            unix_ms: clock::unix_millis().0,
            epoch: self.epoch.load(Relaxed),
            policy: self.policy(),
        }
    }

    /// The second to tell in the segments, under `aof-timestamp-enabled`.
    #[inline]
    pub fn timestamp(&self) -> Option<i64> {
        self.timestamps
            .load(Relaxed)
            .then(|| clock::unix_millis().0 / 1000)
    }

    /// Makes a shard's log *written* up to `lsn` at least.
    #[inline]
    pub fn write(&self, server: &Server, shard: ShardIndex, lsn: Lsn) {
        if self.written(shard) < lsn {
            let file = self.segment(shard);
            if self.written(shard) < lsn {
                self.write_file(server, shard, file);
            }
        } else if self.fsyncs_always() {
            // It may have been written before that policy was chosen.
            self.request_sync(shard, lsn);
        }
    }

    fn request_sync(&self, shard: ShardIndex, lsn: Lsn) {
        if let Some(sync) = self.sync() {
            sync.request(shard, lsn);
        }
    }

    /// Writes what the shard's log holds.
    pub fn write_all(&self, server: &Server, shard: ShardIndex) {
        self.write_file(server, shard, self.segment(shard));
    }

    fn write_file(
        &self,
        server: &Server,
        shard: ShardIndex,
        mut file: MutexGuard<'_, SegmentFile>,
    ) {
        let timestamp = self.timestamp();
        let swapped = server.with_shard(shard, |shard| {
            if file.owed.is_empty() && shard.log.linked().is_empty() {
                return Ok(file.swap(&mut shard.log, timestamp));
            }
            Err([shard.log.linked(), &file.owed].concat())
        });
        match swapped {
            Ok(end) => {
                self.write_blocks(&mut [(shard, file, end)], self.stamp());
            }
            Err(mut unit) => {
                drop(file);
                unit.push(shard);
                self.write_unit(server, unit);
            }
        }
    }

    /// Writes the logs of these shards and of all that share a transaction with them.
    #[cold]
    fn write_unit(&self, server: &Server, mut shards: Vec<ShardIndex>) {
        loop {
            shards.sort_unstable();
            shards.dedup();
            let mut files: Vec<_> = shards.iter().map(|shard| self.segment(*shard)).collect();
            let mut guards: Vec<_> = shards
                .iter()
                .map(|shard| server.shard(*shard).baton.take())
                .collect();
            let linked: Vec<ShardIndex> = guards
                .iter()
                .zip(&files)
                .flat_map(|(guard, file)| guard.log.linked().iter().chain(&file.owed))
                .copied()
                .collect();
            let complete = linked
                .iter()
                .all(|shard| shards.binary_search(shard).is_ok());
            let ends: Vec<Lsn> = if complete {
                let pairs = guards.iter_mut().zip(&mut files);
                let timestamp = self.timestamp();
                pairs
                    .map(|(guard, file)| file.swap(&mut guard.log, timestamp))
                    .collect()
            } else {
                Vec::new()
            };
            for (shard, guard) in shards.iter().zip(guards) {
                if server.shard(*shard).release_unserved(guard) {
                    server.workers[usize::from(shard.0)].mailbox.wake();
                }
            }
            if complete {
                let blocks = shards.into_iter().zip(files).zip(ends);
                let mut blocks: Vec<_> = blocks
                    .map(|((shard, file), end)| (shard, file, end))
                    .collect();
                self.write_blocks(&mut blocks, self.stamp());
                return;
            }
            drop(files);
            shards.extend(linked);
        }
    }

    /// Writes blocks that were swapped out of the logs at one instant; each comes with its end.
    /// Those that share transactions count as written when all of them are. False if one could not be written.
    pub fn write_blocks(
        &self,
        blocks: &mut [(ShardIndex, MutexGuard<'_, SegmentFile>, Lsn)],
        stamp: Stamp,
    ) -> bool {
        let (mut all, mut whole) = (true, true);
        for (shard, file, end) in blocks.iter_mut() {
            let is_written = file.is_clean() || self.write_block(*shard, file, stamp);
            all &= is_written;
            if file.is_linked() {
                whole &= is_written;
            } else if is_written {
                self.note_written(*shard, *end);
            }
        }
        let linked = || blocks.iter().filter(|(_, file, _)| file.is_linked());
        let unit: Arc<[(ShardIndex, Lsn)]> =
            linked().map(|(shard, _, end)| (*shard, *end)).collect();
        if whole && unit.len() > 1 {
            self.note_unit(&unit);
        }
        for (shard, file, end) in blocks.iter_mut() {
            if !file.is_linked() {
                continue;
            }
            file.linked = false;
            file.owed.clear();
            if whole {
                self.note_written(*shard, *end);
            } else {
                file.owed.extend(unit.iter().map(|(shard, _)| *shard));
            }
        }
        all
    }

    /// Remembers whether a segment's last write failed.
    fn note_outcome(&self, shard: ShardIndex, is_written: bool) {
        let segment = &self.segments[usize::from(shard.0)];
        if !is_written {
            segment.is_failing.store(true, SeqCst);
            self.failed.store(true, SeqCst);
        } else if segment.is_failing.load(Relaxed) && segment.is_failing.swap(false, SeqCst) {
            self.failed.store(false, SeqCst);
            // One that fails meanwhile says so before or after this look.
            if self
                .segments
                .iter()
                .any(|segment| segment.is_failing.load(SeqCst))
            {
                self.failed.store(true, SeqCst);
            } else {
                log!(
                    Warning,
                    "AOF write error looks solved, commands that write are accepted again."
                );
            }
        }
    }

    /// Whether something that was logged could not be written: then replies may have to wait.
    #[inline]
    pub fn has_unwritten(&self) -> bool {
        self.failed.load(Relaxed)
    }

    /// Begins an epoch in a segment that has everything of the one before, so that this one is known to be whole.
    pub fn mark_epoch(&self, shard: ShardIndex, file: &mut SegmentFile, stamp: Stamp) -> bool {
        file.block.clear();
        let marked = self.write_block(shard, file, stamp);
        if let Some(sync) = self.sync().filter(|_| marked) {
            sync.note_mark(shard);
        }
        marked
    }

    /// Remembers that these blocks are durable only together. Unless `appendfsync always` asks all the
    /// time how far that is, all such blocks of a shard are remembered as one.
    fn note_unit(&self, ends: &Arc<[(ShardIndex, Lsn)]>) {
        let always = self.fsyncs_always();
        for (shard, _) in ends.iter() {
            let segment = &self.segments[usize::from(shard.0)];
            let mut units = segment.units.lock().expect("no holder of this lock panics");
            match units.back_mut() {
                Some(last) if !always => last.ends = later_ends(&last.ends, ends),
                _ => units.push_back(Unit {
                    begin: self.written(*shard),
                    ends: ends.clone(),
                }),
            }
            segment.unit_count.store(units.len(), Release);
        }
    }

    /// Appends the swapped-out block to the file. False when that failed.
    fn write_block(&self, shard: ShardIndex, file: &mut SegmentFile, stamp: Stamp) -> bool {
        if !file.unwritten.is_empty() {
            file.unwritten.append(&mut file.block);
            std::mem::swap(&mut file.unwritten, &mut file.block);
        }
        let Some(writer) = file.writer.as_mut() else {
            // Switched off: effects appended before that are not wanted any more.
            return true;
        };
        let sleep_micros = self.flush_sleep_micros.load(Relaxed);
        if sleep_micros > 0 {
            std::thread::sleep(Duration::from_micros(sleep_micros));
        }
        let appended = match self.held.load(Acquire) {
            true => Err(std::io::Error::other("the manifest cannot be stored")),
            false => writer.append(&mut file.block, stamp),
        };
        match appended {
            Ok(_) => {
                self.note_outcome(shard, true);
                self.segments[usize::from(shard.0)]
                    .len
                    .store(writer.len(), Relaxed);
                if file.block.capacity() > KEPT_BUFFER_BYTES {
                    file.block = Vec::new();
                }
                true
            }
            Err(error) => {
                std::mem::swap(&mut file.unwritten, &mut file.block);
                self.note_failure(writer.path(), &error);
                self.note_outcome(shard, false);
                false
            }
        }
    }

    fn note_written(&self, shard: ShardIndex, end: Lsn) {
        self.segments[usize::from(shard.0)]
            .written
            .store(end.0, Release);
        if let Some(sync) = self.sync() {
            if self.fsyncs_always() {
                sync.request(shard, end);
            } else {
                sync.note_written(shard, end);
            }
        }
    }

    fn note_failure(&self, path: &Path, error: &std::io::Error) {
        *self.failure.lock().expect("no holder of this lock panics") = error.to_string();
        if !self.failed.load(Relaxed) {
            log!(
                Warning,
                "Error writing to the AOF file {}: {error}",
                path.display()
            );
        }
    }

    /// Whether the last write or fdatasync failed, so that commands that write are refused.
    #[inline]
    pub fn has_failed(&self) -> bool {
        self.failed.load(Relaxed) || self.unsynced.load(Relaxed) || self.drains.have_failed()
    }

    pub fn refusal(&self) -> Option<CommandError> {
        let failure = match self.drains.error() {
            Some(error) => error.to_string(),
            None => {
                let failure = self.failure.lock().expect("no holder of this lock panics");
                failure.clone()
            }
        };
        self.has_failed().then(|| {
            CommandError::from(format!("MISCONF Errors writing to the AOF file: {failure}"))
        })
    }

    pub fn write_path(&self) -> WritePath {
        let path = self.write_path.lock();
        path.expect("no holder of this lock panics").clone()
    }

    pub fn set_write_path(&self, path: WritePath) {
        self.drains.put_in_force(path.rings_number);
        *self
            .write_path
            .lock()
            .expect("no holder of this lock panics") = path;
    }

    /// Hands what the rings hold to the files, for someone who reads those.
    pub fn drain_rings(&self) -> std::io::Result<()> {
        let rings = self.write_path().rings;
        let mut rings = rings.iter().flat_map(|rings| rings.rings());
        rings.try_for_each(|ring| ring.drain(Drain::All).map(|_| ()))
    }

    /// Tries again what could not be written or made durable; for the coordinator, once in a
    /// while.
    pub fn retry(&self, server: &Server) {
        self.look_after_sync(server);
        if !self.failed.load(Relaxed) {
            return;
        }
        for shard in server.shard_indexes() {
            let file = self.segment(shard);
            if !file.unwritten.is_empty() {
                self.write_file(server, shard, file);
            }
        }
    }

    /// Has writes refused while fdatasync fails. What it failed on may be lost without a trace, even
    /// if the next one succeeds: under `always`, where each reply is a promise, the process ends, as
    /// Redis does.
    fn look_after_sync(&self, server: &Server) {
        let Some(sync) = self.sync().filter(|_| self.is_on()) else {
            self.unsynced.store(false, Relaxed);
            return;
        };
        let mut settled = true;
        for shard in server.shard_indexes() {
            settled &= sync.running_for(shard).is_none();
            let Some(error) = sync.error(shard) else {
                continue;
            };
            settled = false;
            if self.fsyncs_always() {
                log!(Warning, "Cannot make the AOF of shard {} durable under appendfsync always: {error}. Exiting.", shard.0);
                exit::exit(1);
            }
            *self.failure.lock().expect("no holder of this lock panics") = error.to_string();
            if !self.unsynced.swap(true, Relaxed) {
                log!(
                    Warning,
                    "Cannot make the AOF of shard {} durable: {error}",
                    shard.0
                );
            }
            sync.forgive(shard);
            sync.request(shard, self.written(shard));
        }
        if settled && self.unsynced.swap(false, Relaxed) {
            log!(
                Warning,
                "The AOF is durable again, commands that write are accepted again."
            );
        }
    }

    /// Puts a segment's new file in force. All workers stand still, and the shard's log is empty
    /// and ends where the writer begins.
    pub fn install(&self, shard: ShardIndex, writer: SegmentWriter) {
        let lsn = writer.lsn();
        if let Some(sync) = self.sync() {
            sync.register(shard, writer.file(), lsn);
        }
        let segment = &self.segments[usize::from(shard.0)];
        segment.written.store(lsn.0, Release);
        segment.len.store(writer.len(), Relaxed);
        self.segment(shard).writer = Some(writer);
    }

    /// Takes a segment's file out of force, and forgets what could not be written to it.
    pub fn uninstall(&self, shard: ShardIndex) -> Option<PathBuf> {
        let mut file = self.segment(shard);
        file.unwritten.clear();
        file.linked = false;
        file.owed.clear();
        let writer = file.writer.take()?;
        self.segments[usize::from(shard.0)].len.store(0, Relaxed);
        if let Some(sync) = self.sync() {
            sync.unregister(shard);
        }
        self.note_outcome(shard, true);
        Some(writer.path().to_owned())
    }

    /// `no-appendfsync-on-rewrite`: a child's writes would make every fsync slow.
    pub fn suspend_fsync(&self, suspended: bool) {
        if let Some(sync) = self.sync() {
            sync.suspend_timer(suspended);
        }
    }

    pub fn set_older_bytes(&self, bytes: u64) {
        self.older_bytes.store(bytes, Relaxed);
    }

    /// Bytes of all files that a start would load.
    pub fn size(&self) -> u64 {
        self.older_bytes.load(Relaxed) + self.segment_bytes()
    }

    /// Bytes of a shard's segment.
    pub fn segment_len(&self, shard: ShardIndex) -> u64 {
        self.segments[usize::from(shard.0)].len.load(Relaxed)
    }

    /// Bytes of all segments in force.
    pub fn segment_bytes(&self) -> u64 {
        self.segments
            .iter()
            .map(|segment| segment.len.load(Relaxed))
            .sum()
    }
}
