//! Which AOF files are in force: opening them at start, rewriting, switching on and off, epochs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;

use config::Config;
use keyspace::{DbIndex, Log, Lsn, ShardIndex};
use persistence::aof::manifest::{Manifest, RunMark};
use persistence::aof::recover::RecoveredSegment;
use persistence::aof::segment::SegmentWriter;
use persistence::aof::{AofError, SegmentId, Stamp};
use persistence::storage::sync::SyncPolicy;
use persistence::storage::Storage;

use super::Coordinator;
use crate::aof::Aof;
use crate::{clock, log};

/// How long a slow disk is waited for.
const FSYNC_PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

#[derive(Default)]
pub struct AofFiles {
    dir: PathBuf,
    prefix: OsString,
    manifest: Manifest,
    /// The manifest is on disk. While the AOF was just switched on, it is not: its segments begin
    /// with the snapshot that is still being written, and mean nothing without it.
    stored: bool,
    /// The generation that a running rewrite began.
    rewriting: Option<u64>,
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

    fn store(&mut self, storage: &dyn Storage) -> Result<(), AofError> {
        self.manifest.store(storage, &self.dir, &self.prefix)?;
        self.stored = true;
        Ok(())
    }

    /// Measures the files before the newest generation.
    fn measure_older(&mut self, storage: &dyn Storage) {
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

impl Coordinator {
    fn run_mark(&self) -> RunMark {
        RunMark {
            boot_id: self.server.identity.boot_id.clone(),
            run_id: self.server.identity.run_id.clone(),
            rings: None,
        }
    }

    /// Opens the AOF for writing after a load: goes on with the segments that were loaded where
    /// they are this server's, else begins a new generation.
    pub(super) fn open_aof(&mut self, recovered: &[RecoveredSegment]) -> Result<(), AofError> {
        let server = self.server;
        self.storage
            .create_dir(self.aof_files.dir())
            .map_err(|error| AofError::Io {
                path: self.aof_files.dir.clone(),
                doing: "create",
                error,
            })?;
        let count = server.shards.len();
        let mine = recovered.len() == count
            && recovered
                .iter()
                .all(|segment| usize::from(segment.end.id.shard_count) == count);
        if mine {
            let stamp = Stamp {
                unix_ms: clock::unix_millis().0,
                epoch: server.aof.epoch.load(Relaxed),
                policy: SyncPolicy::No,
            };
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
                server.aof.install(shard, writer);
            }
        } else {
            for writer in self.new_generation()? {
                server.aof.install(writer.id().shard, writer);
            }
        }
        self.aof_files.manifest.run = Some(self.run_mark());
        self.aof_files.store(&*self.storage)?;
        self.enable_logs(true);
        self.aof_files.measure_older(&*self.storage);
        server
            .snapshot
            .aof_base_bytes
            .store(self.aof_files.size(&server.aof), Relaxed);
        self.publish_size();
        Ok(())
    }

    /// Creates the segments of the next generation and names them in the manifest, which is not
    /// stored yet. The shards' logs must be empty, and stay so until the segments are installed.
    fn new_generation(&mut self) -> Result<Vec<SegmentWriter>, AofError> {
        let server = self.server;
        let generation = self.aof_files.manifest.generation_last() + 1;
        let mut manifest = self.aof_files.manifest.clone();
        let mut writers = Vec::new();
        for shard in server.shard_indexes() {
            let id = SegmentId {
                shard,
                shard_count: server.shards.len() as u16,
                generation,
            };
            let path = self
                .aof_files
                .dir
                .join(&manifest.add_segment(&self.aof_files.prefix, id).name);
            let lsn = server.with_shard(shard, |shard| {
                shard.log.start_file();
                shard.log.end()
            });
            writers.push(SegmentWriter::create(&*self.storage, &path, id, lsn)?);
        }
        self.storage
            .sync_dir(&self.aof_files.dir)
            .map_err(|error| AofError::Io {
                path: self.aof_files.dir.clone(),
                doing: "sync",
                error,
            })?;
        self.aof_files.manifest = manifest;
        Ok(writers)
    }

    fn enable_logs(&self, on: bool) {
        self.server.aof.set_on(on);
        for shard in self.server.shard_indexes() {
            self.server.with_shard(shard, |shard| shard.enable_log(on));
        }
    }

    /// With all workers standing still: writes the logs out and switches every shard to a new
    /// segment, so that what the child is about to see and what follows meet without a gap.
    pub(super) fn begin_rewrite(&mut self, config: &Config) -> Result<(), String> {
        let server = self.server;
        self.storage
            .create_dir(self.aof_files.dir())
            .map_err(|error| format!("create {}: {error}", self.aof_files.dir.display()))?;
        if !config.appendonly && !server.aof.is_on() {
            // BGREWRITEAOF without AOF writes a base alone.
            self.aof_files.rewriting = None;
            return Ok(());
        }
        if server.aof.is_on() {
            self.make_durable()?;
        }
        let before = self.aof_files.manifest.clone();
        let result = self.switch_generation();
        if let Err(error) = result {
            self.aof_files.manifest = before;
            return Err(error.to_string());
        }
        Ok(())
    }

    /// Writes all logs and waits until they are durable. A generation that is followed by another
    /// must be whole after any crash: recovery cuts the newest only.
    pub(super) fn make_durable(&self) -> Result<(), String> {
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
            sync.wait_durable(shard, server.aof.written(shard), FSYNC_PATIENCE)
                .map_err(|error| format!("the AOF cannot be made durable: {error}"))
        })
    }

    fn switch_generation(&mut self) -> Result<(), AofError> {
        let writers = self.new_generation()?;
        if self.aof_files.stored {
            self.aof_files.manifest.run = Some(self.run_mark());
            self.aof_files.store(&*self.storage)?;
        }
        self.aof_files.rewriting = Some(self.aof_files.manifest.generation_last());
        self.install(writers);
        if !self.server.aof.is_on() {
            self.enable_logs(true);
        }
        Ok(())
    }

    /// Begins a generation behind one that holds nothing but `effect`, which is about all shards. All workers stand
    /// still. On an error nothing has changed.
    pub(super) fn begin_generation_behind(
        &mut self,
        db: DbIndex,
        effect: &[&[u8]],
    ) -> Result<(), String> {
        self.make_durable()?;
        let before = self.aof_files.manifest.clone();
        let first = ShardIndex(0);
        let lsn = self.server.with_shard(first, |shard| shard.log.end());
        let result = self.switch_behind(lsn, db, effect);
        result.map_err(|error| {
            self.aof_files.manifest = before;
            self.server
                .with_shard(first, |shard| shard.log.start_at(lsn));
            error.to_string()
        })
    }

    fn switch_behind(&mut self, lsn: Lsn, db: DbIndex, effect: &[&[u8]]) -> Result<(), AofError> {
        let server = self.server;
        let files = &mut self.aof_files;
        // A generation of one segment: of the first shard, as if it were the only one.
        let id = SegmentId {
            shard: ShardIndex(0),
            shard_count: 1,
            generation: files.manifest.generation_last() + 1,
        };
        let path = files
            .dir
            .join(&files.manifest.add_segment(&files.prefix, id).name);
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
        server.with_shard(id.shard, |shard| shard.log.start_at(end));
        let writers = self.new_generation()?;
        if self.aof_files.stored {
            self.aof_files.manifest.run = Some(self.run_mark());
            self.aof_files.store(&*self.storage)?;
        }
        self.install(writers);
        Ok(())
    }

    fn install(&mut self, writers: Vec<SegmentWriter>) {
        for writer in writers {
            self.server.aof.install(writer.id().shard, writer);
        }
        self.aof_files.measure_older(&*self.storage);
        self.publish_size();
    }

    /// The child has written the base: puts it in force and removes what it replaces.
    pub(super) fn finish_rewrite(&mut self, written: &Path) -> bool {
        match self.put_base_in_force(written) {
            Ok(()) => {
                log!(Notice, "Background AOF rewrite finished successfully");
                let state = &self.server.snapshot;
                state.rewrites_done.fetch_add(1, Relaxed);
                self.aof_files.measure_older(&*self.storage);
                state
                    .aof_base_bytes
                    .store(self.aof_files.size(&self.server.aof), Relaxed);
                self.publish_size();
                true
            }
            Err(error) => {
                log!(Warning, "Cannot put the rewritten AOF in force: {error}");
                false
            }
        }
    }

    fn put_base_in_force(&mut self, written: &Path) -> Result<(), AofError> {
        let files = &mut self.aof_files;
        let is_rdb = {
            let mut magic = [0; 5];
            let file = self
                .storage
                .open(written, persistence::storage::Open::Read)
                .map_err(|error| AofError::Io {
                    path: written.to_owned(),
                    doing: "open",
                    error,
                })?;
            let read = file.read_at(&mut magic, 0).map_err(|error| AofError::Io {
                path: written.to_owned(),
                doing: "read",
                error,
            })?;
            magic[..read] == *b"REDIS"
        };
        let base = files.manifest.next_base(&files.prefix, is_rdb);
        let path = files.dir.join(&base.name);
        let io = |doing, path: &Path, error| AofError::Io {
            path: path.to_owned(),
            doing,
            error,
        };
        self.storage
            .rename(written, &path)
            .map_err(|error| io("rename", written, error))?;
        self.storage
            .sync_dir(&files.dir)
            .map_err(|error| io("sync", &files.dir, error))?;
        let generation = files
            .rewriting
            .take()
            .unwrap_or(files.manifest.generation_last() + 1);
        let before = std::mem::take(&mut files.manifest);
        files.manifest = before.rewritten(base, generation);
        if let Err(error) = files.store(&*self.storage) {
            files.manifest = before;
            return Err(error);
        }
        let (manifest, old) = files.manifest.without_history();
        files.manifest = manifest;
        files.store(&*self.storage)?;
        for name in old {
            if let Err(error) = self.storage.remove(&files.dir.join(&name)) {
                log!(
                    Warning,
                    "Cannot remove the old AOF file {}: {error}",
                    name.to_string_lossy()
                );
            }
        }
        Ok(())
    }

    /// A rewrite failed. While the old set is in force that changes nothing; an AOF that was just
    /// switched on is tried again.
    pub(super) fn rewrite_failed(&mut self) {
        self.aof_files.rewriting = None;
        if self.server.aof.is_on() && !self.aof_files.stored {
            let mut plans = self
                .server
                .snapshot
                .plans
                .lock()
                .expect("no holder of this lock panics");
            plans.rewrite_scheduled = true;
        }
    }

    /// CONFIG SET appendonly.
    pub(super) fn set_append_only(&mut self, on: bool) {
        if on == self.server.aof.is_on() {
            return;
        }
        if on {
            self.aof_files.stored = false;
            self.server.aof.set_in_force(false);
            let manifest = Manifest::load(
                &*self.storage,
                Path::new("."),
                self.aof_files.dir.as_os_str(),
                &self.aof_files.prefix,
            );
            self.aof_files.manifest = match manifest {
                Ok(persistence::aof::manifest::Found::Manifest(manifest)) => manifest,
                // Whatever is there is replaced by what is in memory.
                _ => Manifest::default(),
            };
            self.server
                .snapshot
                .plans
                .lock()
                .expect("no holder of this lock panics")
                .rewrite_scheduled = true;
        } else {
            self.kill_child(crate::snapshot::ChildKind::Rewrite);
            self.close_aof();
        }
    }

    /// Writes the AOF out, makes it durable and takes it out of force.
    pub(super) fn close_aof(&mut self) {
        let server = self.server;
        let _stopped = server.safe_point.stop(server);
        self.write_and_sync_aof();
        self.enable_logs(false);
        for shard in server.shard_indexes() {
            server.aof.uninstall(shard);
        }
        self.publish_size();
    }

    /// Makes the AOF durable before it is closed. Then the manifest need not say which run wrote it.
    pub(super) fn write_and_sync_aof(&mut self) {
        if !self.server.aof.is_on() {
            return;
        }
        let stored = self.make_durable().and_then(|()| {
            if !self.aof_files.stored {
                return Ok(());
            }
            self.aof_files.manifest.run = None;
            self.aof_files
                .store(&*self.storage)
                .map_err(|error| error.to_string())
        });
        if let Err(error) = stored {
            log!(Warning, "{error}");
        }
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

    pub(super) fn publish_size(&self) {
        let aof = &self.server.aof;
        aof.set_older_bytes(self.aof_files.older_bytes);
        aof.set_in_force(self.aof_files.stored);
    }
}
