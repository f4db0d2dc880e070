//! Which AOF files are in force: opening them at start, rewriting, switching on and off, epochs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use config::Config;
use keyspace::{DbIndex, Log, Lsn, ShardIndex};
use persistence::aof::manifest::{AofFile, Closed, FileKind, Manifest, RingsMark, RunMark};
use persistence::aof::recover::RecoveredSegment;
use persistence::aof::segment::SegmentWriter;
use persistence::aof::{AofError, SegmentId, Stamp};
use persistence::storage::sync::SyncPolicy;
use persistence::storage::{Open, Storage};

use super::Coordinator;
use crate::aof::{Aof, WritePath};
use crate::{clock, log};

/// A generation that has not begun.
pub struct NextGeneration {
    /// With its segments.
    pub manifest: Manifest,
    pub segments: Vec<(SegmentId, OsString)>,
    pub writers: Vec<SegmentWriter>,
}

/// How long a slow disk is waited for.
const FSYNC_PATIENCE: Duration = Duration::from_secs(60);
/// The same while all workers stand still, and with them all clients: as long as Redis lets a write wait for an fsync. Behind
/// this, what was wanted fails, and nothing has changed.
pub(super) const STANDSTILL_MAX: Duration = Duration::from_secs(2);

#[derive(Default)]
pub struct AofFiles {
    dir: PathBuf,
    prefix: OsString,
    pub(super) manifest: Manifest,
    /// The directory is there and durable.
    dir_made: bool,
    /// The manifest is on disk. While the AOF was just switched on, it is not: its segments begin
    /// with the snapshot that is still being written, and mean nothing without it.
    pub(super) stored: bool,
    /// The rings that the manifest on disk names, and those that it did and does no more.
    pub(super) stored_rings: Option<RingsMark>,
    pub(super) unnamed_rings: Vec<RingsMark>,
    /// The generation that a running rewrite began.
    pub(super) rewriting: Option<u64>,
    /// While the AOF is being switched on: the first generation that the attempts have begun.
    pub(super) first_begun: Option<u64>,
    /// The manifest on disk may not be this one: an attempt to replace it failed half-way.
    pub(super) unsettled: bool,
    /// The ends of segments that are not the newest any more are not in the manifest on disk.
    ends_untold: bool,
    /// Files that no manifest in force names, but one half put in force may.
    pub(super) doubtful: Vec<OsString>,
    /// Bytes of the base and of older generations.
    older_bytes: u64,
    /// The sum of what the segments had written when the epoch was last advanced; none if a mark is owed.
    epoch_began: Option<u64>,
}

impl AofFiles {
    pub fn open(config: &Config) -> AofFiles {
        AofFiles {
            dir: PathBuf::from(&config.appenddirname),
            prefix: OsString::from(&config.appendfilename),
            ..AofFiles::default()
        }
    }

    pub fn set_manifest(&mut self, manifest: Manifest) {
        self.stored_rings = rings_of(&manifest);
        self.manifest = manifest;
        self.stored = true;
    }

    pub fn is_stored(&self) -> bool {
        self.stored
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn prefix(&self) -> &OsString {
        &self.prefix
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub fn temp_base(&self, pid: u32) -> PathBuf {
        self.dir.join(format!("temp-rewriteaof-bg-{pid}.aof"))
    }

    /// Bytes of all files that a start would load.
    pub fn size(&self, aof: &Aof) -> u64 {
        self.older_bytes + aof.segment_bytes()
    }

    /// Notes where segments ended that others follow now.
    pub(super) fn close(&mut self, ends: &[(OsString, Closed)]) {
        for (name, closed) in ends {
            self.manifest.close(name, *closed);
            self.ends_untold = true;
        }
    }

    /// Tells the manifest on disk where segments ended, if it is not known there.
    pub(super) fn tell_ends(&mut self, storage: &dyn Storage) {
        if self.ends_untold && self.stored {
            // Tried again soon, and with whatever else is stored.
            let _ = self.store(storage);
        }
    }

    pub(super) fn store(&mut self, storage: &dyn Storage) -> Result<(), AofError> {
        self.manifest.prepare(storage, &self.dir, &self.prefix)?;
        self.commit(storage)
    }

    /// Puts the manifest in force, which was prepared.
    fn commit(&mut self, storage: &dyn Storage) -> Result<(), AofError> {
        Manifest::commit(storage, &self.dir, &self.prefix)?;
        self.stored = true;
        self.unsettled = false;
        self.ends_untold = false;
        let rings = rings_of(&self.manifest);
        if rings != self.stored_rings {
            self.unnamed_rings.extend(self.stored_rings.take());
            self.stored_rings = rings;
        }
        let named = |name: &OsString| self.manifest.files.iter().any(|file| file.name == *name);
        for name in std::mem::take(&mut self.doubtful) {
            if !named(&name) {
                self.remove(storage, &name);
            }
        }
        Manifest::unmark_beginning(storage, &self.dir, &self.prefix);
        Ok(())
    }

    /// Puts a manifest in force, or none: when it cannot be stored, the one before is restored and
    /// the files that only the new one names are removed.
    pub(super) fn replace(
        &mut self,
        storage: &dyn Storage,
        manifest: Manifest,
        fresh: Vec<OsString>,
    ) -> Result<(), AofError> {
        let prepared = manifest.prepare(storage, &self.dir, &self.prefix);
        if let Err(error) = prepared {
            for name in fresh {
                self.remove(storage, &name);
            }
            return Err(error);
        }
        self.replace_by_prepared(storage, manifest, fresh)
    }

    /// The same for a manifest that was prepared.
    pub(super) fn replace_by_prepared(
        &mut self,
        storage: &dyn Storage,
        manifest: Manifest,
        fresh: Vec<OsString>,
    ) -> Result<(), AofError> {
        let before = std::mem::replace(&mut self.manifest, manifest);
        let stored_before = self.stored;
        let Err(error) = self.commit(storage) else {
            return Ok(());
        };
        let took_its_place = self.manifest.is_on_disk(storage, &self.dir, &self.prefix);
        (self.manifest, self.stored) = (before, stored_before);
        if matches!(took_its_place, Ok(false)) {
            for name in fresh {
                self.remove(storage, &name);
            }
            return Err(error);
        }
        // It may be what a start finds, and names these.
        self.doubtful.extend(fresh);
        if self.stored && self.store(storage).is_err() {
            self.unsettled = true;
        }
        Err(error)
    }

    /// Removes what the manifest calls history. What cannot be removed stays in it, for later.
    pub(super) fn remove_history(&mut self, storage: &dyn Storage) {
        let (manifest, old) = self.manifest.without_history();
        if old.is_empty() {
            return;
        }
        let left: Vec<_> = old
            .into_iter()
            .filter(|name| !self.remove(storage, name))
            .collect();
        if left.is_empty() {
            self.manifest = manifest;
        } else {
            let history = |file: &AofFile| file.kind == FileKind::History;
            let stays = |file: &AofFile| !history(file) || left.contains(&file.name);
            self.manifest.files.retain(stays);
        }
        if let Err(error) = self.store(storage) {
            log!(Warning, "Old AOF files were removed, but {error}");
        }
    }

    /// Whether it is gone.
    pub(super) fn remove(&self, storage: &dyn Storage, name: &OsString) -> bool {
        match storage.remove(&self.dir.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let name = name.to_string_lossy();
                log!(Warning, "Cannot remove the AOF file {name}: {error}");
                false
            }
            _ => true,
        }
    }

    /// Says, before the first of the files is there, that there is no manifest yet.
    pub(super) fn mark_beginning(&self, storage: &dyn Storage) -> Result<(), AofError> {
        Manifest::mark_beginning(storage, &self.dir, &self.prefix)
    }

    /// Measures the files before the newest generation.
    pub(super) fn measure_older(&mut self, storage: &dyn Storage) {
        let newest = self.manifest.generation_last();
        let older = self.manifest.base().into_iter().chain(
            self.manifest
                .incrs()
                .filter(|file| file.segment.is_none_or(|id| id.generation < newest)),
        );
        self.older_bytes = older
            .map(|file| {
                storage
                    .file_len(&self.dir.join(&file.name))
                    .ok()
                    .flatten()
                    .unwrap_or(0)
            })
            .sum();
    }
}

/// Takes back what a segment says that a start may find named, though it is not in force.
fn undo(writer: &SegmentWriter) {
    let file = writer.file();
    let undone = file.truncate(0).and_then(|()| file.datasync());
    if let Err(error) = undone {
        let path = writer.path().display();
        log!(
            Warning,
            "Cannot empty the AOF file {path}, which a start may find in force: {error}"
        );
    }
}

pub(super) fn rings_of(manifest: &Manifest) -> Option<RingsMark> {
    manifest.run.as_ref()?.rings.clone()
}

impl Coordinator {
    pub(super) fn run_mark(&self) -> RunMark {
        RunMark {
            boot_id: self.server.identity.boot_id.clone(),
            run_id: self.server.identity.run_id.clone(),
            rings: self.rings_mark(),
        }
    }

    /// Opens the AOF for writing after a load: goes on with the segments that were loaded where
    /// they are this server's, else begins a new generation.
    pub(super) fn open_aof(&mut self, recovered: &[RecoveredSegment]) -> Result<(), AofError> {
        let server = self.server;
        self.make_dir()?;
        self.aof_files.mark_beginning(&*self.storage)?;
        self.choose_write_path(&self.config())?;
        let count = server.shards.len();
        let mine = recovered.len() == count
            && recovered
                .iter()
                .all(|segment| usize::from(segment.end.id.shard_count) == count);
        let writers = if mine {
            let stamp = Stamp {
                unix_ms: clock::unix_millis().0,
                epoch: server.aof.epoch.load(Relaxed),
                policy: SyncPolicy::No,
            };
            self.mark_unclean()?;
            let mut writers = Vec::new();
            for segment in recovered {
                let mut writer =
                    SegmentWriter::resume(&*self.storage, &segment.path, &segment.end, stamp)?;
                // The epochs that were loaded are whole, and a crash of the system from here on must find them so.
                let marked = writer.append(&mut Vec::new(), stamp);
                marked
                    .and_then(|_| writer.file().datasync())
                    .map_err(|error| AofError::Io {
                        path: segment.path.clone(),
                        doing: "begin an epoch in",
                        error,
                    })?;
                let shard = segment.end.id.shard;
                server.with_shard(shard, |shard| {
                    shard.log.start_at(writer.lsn());
                    shard.log.start_file();
                });
                writers.push(writer);
            }
            writers
        } else {
            self.sync_loaded()?;
            self.new_generation()?
        };
        let prepared = self.prepare_rings(&writers)?;
        self.install(writers, prepared);
        self.aof_files.manifest.run = Some(self.run_mark());
        self.aof_files.store(&*self.storage)?;
        // Left by a server that was killed in the middle of it.
        self.aof_files.remove_history(&*self.storage);
        self.remove_unnamed_rings();
        self.enable_logs(true);
        self.aof_files.measure_older(&*self.storage);
        server
            .snapshot
            .aof_base_bytes
            .store(self.aof_files.size(&server.aof), Relaxed);
        self.publish_size();
        Ok(())
    }

    /// After a clean end the manifest names no run. It must, before the first byte goes behind what that run left:
    /// otherwise a crash of the system in the middle of this start would be taken for damage.
    fn mark_unclean(&mut self) -> Result<(), AofError> {
        if self.aof_files.manifest.run.is_some() {
            return Ok(());
        }
        let rings = None;
        self.aof_files.manifest.run = Some(RunMark {
            rings,
            ..self.run_mark()
        });
        self.aof_files.store(&*self.storage)
    }

    /// Creates the segments of the next generation and names them in the manifest, which is not
    /// stored yet. The shards' logs must be empty, and stay so until the segments are installed.
    fn new_generation(&mut self) -> Result<Vec<SegmentWriter>, AofError> {
        let mut next = self.reserve_generation()?;
        self.open_generation(&mut next)?;
        self.aof_files.manifest = next.manifest;
        Ok(next.writers)
    }

    /// Creates the files of the next generation, empty, and makes their names durable: what takes
    /// long and needs nobody to stand still. On an error none is left.
    pub(super) fn reserve_generation(&self) -> Result<NextGeneration, AofError> {
        let files = &self.aof_files;
        let mut manifest = files.manifest.clone();
        let generation = manifest.generation_last() + 1;
        let shard_count = self.server.shards.len() as u16;
        let segments = self.server.shard_indexes().map(|shard| {
            let id = SegmentId {
                shard,
                shard_count,
                generation,
            };
            (id, manifest.add_segment(&files.prefix, id).name.clone())
        });
        let segments: Vec<_> = segments.collect();
        let next = NextGeneration {
            manifest,
            segments,
            writers: Vec::new(),
        };
        let created = next.segments.iter().try_for_each(|(_, name)| {
            let path = files.dir.join(name);
            // Durably empty: a crash of the system must not bring back what another segment left under this name.
            let left = self.storage.file_len(&path);
            let emptied = left.and_then(|left| {
                let file = self.storage.open(&path, Open::Create)?;
                left.map_or(Ok(()), |_| file.datasync())
            });
            emptied.map_err(|error| AofError::Io {
                path,
                doing: "create",
                error,
            })
        });
        let synced = created.and_then(|()| {
            self.storage
                .sync_dir(&files.dir)
                .map_err(|error| AofError::Io {
                    path: files.dir.clone(),
                    doing: "sync",
                    error,
                })
        });
        synced.inspect_err(|_| self.discard_generation(&next))?;
        Ok(next)
    }

    /// Writes the heads of the segments: the shards' logs end there, and must be empty.
    pub(super) fn open_generation(&self, next: &mut NextGeneration) -> Result<(), AofError> {
        for (id, name) in &next.segments {
            let lsn = self.server.with_shard(id.shard, |shard| {
                shard.log.start_file();
                shard.log.end()
            });
            let path = self.aof_files.dir.join(name);
            let writer = SegmentWriter::create(&*self.storage, &path, *id, lsn)?;
            next.writers.push(writer);
        }
        Ok(())
    }

    /// Removes the files of a generation that did not begin.
    pub(super) fn discard_generation(&self, next: &NextGeneration) {
        for (_, name) in &next.segments {
            self.aof_files.remove(&*self.storage, name);
        }
        let files = &self.aof_files;
        Manifest::abandon(&*self.storage, &files.dir, &files.prefix);
    }

    pub(super) fn enable_logs(&self, on: bool) {
        self.server.aof.set_on(on);
        for shard in self.server.shard_indexes() {
            self.server.with_shard(shard, |shard| shard.enable_log(on));
        }
    }

    /// What was loaded may be in the page cache alone. Only the newest generation may lose its end in a crash of the
    /// system, so it must be durable before another one follows.
    fn sync_loaded(&mut self) -> Result<(), AofError> {
        let mut ends = Vec::new();
        for file in self.aof_files.manifest.incrs() {
            let path = self.aof_files.dir.join(&file.name);
            let synced = self
                .storage
                .open(&path, persistence::storage::Open::Write)
                .and_then(|file| file.datasync().and_then(|()| file.len()));
            let len = synced.map_err(|error| AofError::Io {
                path,
                doing: "sync",
                error,
            })?;
            ends.push((file.name.clone(), Closed { len, lsn: None }));
        }
        self.aof_files.close(&ends);
        Ok(())
    }

    /// Makes the directory, durably: without it, what is made durable in it is gone all the same.
    pub(super) fn make_dir(&mut self) -> Result<(), AofError> {
        if self.aof_files.dir_made {
            return Ok(());
        }
        let dir = &self.aof_files.dir;
        let parent = dir.parent().unwrap_or(Path::new(""));
        self.storage
            .create_dir(dir)
            .and_then(|()| self.storage.sync_dir(parent))
            .map_err(|error| AofError::Io {
                path: dir.clone(),
                doing: "create",
                error,
            })?;
        self.aof_files.dir_made = true;
        Ok(())
    }

    /// Writes all logs and waits until they are durable. A generation that is followed by another
    /// must be whole after any crash: recovery cuts the newest only.
    pub(super) fn make_durable(&self) -> Result<(), String> {
        self.make_durable_within(FSYNC_PATIENCE)
    }

    pub(super) fn make_durable_within(&self, patience: Duration) -> Result<(), String> {
        let deadline = clock::instant() + patience;
        let server = self.server;
        let Some(sync) = server.aof.sync() else {
            return Ok(());
        };
        let shards = || server.shard_indexes();
        shards().for_each(|shard| server.aof.write_all(server, shard));
        if server.aof.has_failed() {
            return Err("the AOF cannot be written".into());
        }
        shards().for_each(|shard| sync.request(shard, server.aof.written(shard)));
        shards().try_for_each(|shard| {
            let left = deadline.saturating_duration_since(clock::instant());
            sync.wait_durable(shard, server.aof.written(shard), left)
                .map_err(|error| format!("the AOF cannot be made durable: {error}"))
        })
    }

    /// Where the segments in force end. Everything is durable, and all workers stand still.
    pub(super) fn ends(&self) -> Vec<(OsString, Closed)> {
        let aof = &self.server.aof;
        let end = |shard| {
            let file = aof.segment(shard);
            let writer = file.writer.as_ref()?;
            let (len, lsn) = (writer.len(), Some(writer.lsn()));
            let name = writer.path().file_name()?.to_owned();
            Some((name, Closed { len, lsn }))
        };
        self.server.shard_indexes().filter_map(end).collect()
    }

    /// Begins a generation behind one that holds nothing but `effect`, which is about all shards. All workers stand
    /// still. On an error nothing has changed.
    pub(super) fn begin_generation_behind(
        &mut self,
        db: DbIndex,
        effect: &[&[u8]],
    ) -> Result<(), String> {
        self.make_durable_within(STANDSTILL_MAX)?;
        let before = self.aof_files.manifest.clone();
        let first = ShardIndex(0);
        let lsn = self.server.with_shard(first, |shard| shard.log.end());
        let result = self.switch_behind(lsn, db, effect);
        result.map_err(|error| {
            self.aof_files.manifest = before;
            self.hold_while_unsettled();
            self.server
                .with_shard(first, |shard| shard.log.start_at(lsn));
            error.to_string()
        })
    }

    fn switch_behind(&mut self, lsn: Lsn, db: DbIndex, effect: &[&[u8]]) -> Result<(), AofError> {
        let server = self.server;
        let mut ends = self.ends();
        let files = &mut self.aof_files;
        let before = files.manifest.clone();
        // A generation of one segment: of the first shard, as if it were the only one.
        let id = SegmentId {
            shard: ShardIndex(0),
            shard_count: 1,
            generation: files.manifest.generation_last() + 1,
        };
        let name = files.manifest.add_segment(&files.prefix, id).name.clone();
        let path = files.dir.join(&name);
        let mut log = Log::default();
        log.set_enabled(true);
        log.append(db, effect);
        let mut block = Vec::new();
        log.swap(&mut block);
        let mut writer = SegmentWriter::create(&*self.storage, &path, id, lsn)?;
        let io = |doing| {
            let path = path.clone();
            move |error| AofError::Io { path, doing, error }
        };
        let end = writer
            .append(&mut block, server.aof.stamp())
            .map_err(io("write"))?;
        writer.file().datasync().map_err(io("sync"))?;
        let (len, lsn) = (writer.len(), Some(end));
        ends.push((name.clone(), Closed { len, lsn }));
        server.with_shard(id.shard, |shard| shard.log.start_at(end));
        let writers = self.new_generation()?;
        let prepared = self.prepare_rings(&writers)?;
        if self.aof_files.stored {
            let mut manifest = std::mem::replace(&mut self.aof_files.manifest, before);
            manifest.run = Some(self.run_mark());
            let names = writers
                .iter()
                .filter_map(|writer| writer.path().file_name());
            let fresh = names.map(OsString::from).chain([name]).collect();
            let stored = self.aof_files.replace(&*self.storage, manifest, fresh);
            if let Err(error) = stored {
                undo(&writer);
                return Err(error);
            }
        }
        // Not before: where this failed, the segments go on, and the file is emptied.
        self.aof_files.close(&ends);
        self.install(writers, prepared);
        Ok(())
    }

    /// Writes the AOF out, makes it durable and takes it out of force.
    pub(super) fn close_aof(&mut self) {
        let server = self.server;
        let _stopped = server.safe_point.stop(server);
        // It was asked to be given up; what could not be written is said in the log.
        let _ = self.write_and_sync_aof();
        self.enable_logs(false);
        for shard in server.shard_indexes() {
            server.aof.uninstall(shard);
        }
        server.aof.set_write_path(WritePath::default());
        self.publish_size();
    }

    /// Makes the AOF durable before it is closed; an error if that is not possible. Then the manifest need not say which
    /// run wrote it.
    pub(super) fn write_and_sync_aof(&mut self) -> Result<(), ()> {
        if !self.server.aof.is_on() {
            return Ok(());
        }
        // A crash of the system in the middle of the next start is to find all epochs whole.
        self.advance_epoch();
        if let Err(error) = self.make_durable() {
            log!(Warning, "{error}");
            return Err(());
        }
        if self.aof_files.stored {
            let files = &mut self.aof_files;
            let clean = Manifest {
                run: None,
                ..files.manifest.clone()
            };
            if let Err(error) = files.replace(&*self.storage, clean, Vec::new()) {
                log!(Warning, "{error}");
                self.hold_while_unsettled();
                return Err(());
            }
        }
        self.retire_rings();
        Ok(())
    }

    /// Lets nothing be written as long as the manifest on disk may be another one: that of a clean end, behind which
    /// bytes are damage and rings are not looked for, or one with a generation that then did not begin, behind whose
    /// beginning the segments that are still being written count as whole.
    pub(super) fn hold_while_unsettled(&self) {
        self.server.aof.hold(self.aof_files.unsettled);
    }

    /// Begins a new epoch at one instant for all shards, if anything was written in this one, and marks it in
    /// every segment: only then is this one known to be whole everywhere.
    pub(super) fn advance_epoch(&mut self) {
        let server = self.server;
        let aof = &server.aof;
        let written = || server.shard_indexes().map(|shard| aof.written(shard).0);
        if !aof.is_on() || self.aof_files.epoch_began == Some(written().sum()) {
            return;
        }
        let mut files: Vec<_> = server
            .shard_indexes()
            .map(|shard| aof.segment(shard))
            .collect();
        let mut guards = self.take_all();
        let (stamp, timestamp) = (aof.stamp(), aof.timestamp());
        let pairs = files.iter_mut().zip(&mut guards);
        let ends: Vec<_> = pairs
            .map(|(file, guard)| file.swap(&mut guard.log, timestamp))
            .collect();
        aof.epoch.fetch_add(1, Relaxed);
        self.give_back(guards);
        let blocks = server.shard_indexes().zip(files).zip(ends);
        let mut blocks: Vec<_> = blocks
            .map(|((shard, file), end)| (shard, file, end))
            .collect();
        let mut whole = aof.write_blocks(&mut blocks, stamp);
        if whole {
            let stamp = aof.stamp();
            for (shard, file, _) in &mut blocks {
                whole &= aof.mark_epoch(*shard, file, stamp);
            }
        }
        self.aof_files.epoch_began = whole.then(|| written().sum());
    }

    /// Makes sure that everything written so far counts after a crash of the system. Nothing may be written meanwhile.
    pub(super) fn settle_epoch(&mut self) -> Result<(), String> {
        self.advance_epoch();
        // The marks as well, in every segment.
        self.make_durable_within(STANDSTILL_MAX)?;
        match self.aof_files.epoch_began {
            Some(_) => Ok(()),
            None => Err("the AOF cannot be written".into()),
        }
    }

    pub(super) fn publish_size(&self) {
        let aof = &self.server.aof;
        aof.set_older_bytes(self.aof_files.older_bytes);
        aof.set_in_force(self.aof_files.stored);
    }
}
