//! Which write path the AOF takes, and the rings of the one that has some.
//!
//! Rings are made before the manifest that names them is stored, and removed after one that does not name them any more.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::{AofWritePath, Config};
use persistence::aof::manifest::{Manifest, RingsMark};
use persistence::aof::ring_recover::{
    remove_abandoned, remove_named, rings_prefix, take_over_tails, RingPlace, TailFound,
};
use persistence::aof::segment::SegmentWriter;
use persistence::aof::AofError;
use persistence::storage::ring::{
    probe, Prepared, RingDriver, RingSet, RingSpec, RingStore, ShmRings,
};

use super::Coordinator;
use crate::aof::WritePath;
use crate::log;

/// The longest prefix that a line of the manifest has room for.
const PREFIX_LEN_MAX: usize = 512;

/// The machine's part in rings.
pub struct RingMachine {
    pub store: Arc<dyn RingStore>,
    pub driver: RingDriver,
}

impl RingMachine {
    pub fn of_system(aof_dir: &Path) -> RingMachine {
        RingMachine {
            store: Arc::new(ShmRings::new(aof_dir)),
            driver: RingDriver::Threads,
        }
    }

    fn is_simulated(&self) -> bool {
        self.driver == RingDriver::Manual
    }

    fn dir_id(&self, dir: &Path) -> io::Result<String> {
        if self.is_simulated() {
            return Ok("simulated".into());
        }
        probe::dir_id(dir)
    }
}

impl Coordinator {
    /// Puts what the last run left in its rings into the files. Where something that it had written is lost, the manifest
    /// that is returned is one of another boot: all that follows is to see a crash of the operating system.
    pub(super) fn take_over_rings(&mut self, mut manifest: Manifest) -> Result<Manifest, AofError> {
        let dir = self.aof_files.dir().to_owned();
        let dir_id = self
            .ring_machine
            .dir_id(&dir)
            .map_err(|error| AofError::Io {
                path: dir.clone(),
                doing: "look at",
                error,
            })?;
        let place = RingPlace {
            rings: &*self.ring_machine.store,
            boot_id: &self.server.identity.boot_id,
            dir_id: &dir_id,
        };
        let tails = take_over_tails(&*self.storage, place, &dir, &manifest)?;
        for tail in &tails.0 {
            match &tail.found {
                TailFound::Nothing => {}
                TailFound::Tail { file, bytes, .. } => log!(
                    Notice,
                    "{bytes} bytes that the last run had written went from {} into {}",
                    tail.path.display(),
                    file.to_string_lossy()
                ),
                TailFound::Lost(reason) => log!(
                    Warning,
                    "The ring {} that the manifest names cannot be used: {reason}. What it held and the file \
                     does not, up to a second of acknowledged writes, IS LOST. The AOF is recovered as after a \
                     crash of the operating system.",
                    tail.path.display()
                ),
            }
        }
        if let Some(run) = manifest.run.as_mut().filter(|_| tails.any_lost()) {
            run.boot_id.push_str("-without-its-rings");
        }
        Ok(manifest)
    }

    /// Decides the write path and makes the rings that it takes. All segments are to be put behind them next.
    pub(super) fn choose_write_path(&mut self, config: &Config) -> Result<(), AofError> {
        // Of an attempt to switch the AOF on that failed.
        self.retire_rings();
        let path = self.write_path(config).map_err(|error| AofError::Io {
            path: config.aof_ring_dir.clone(),
            doing: "make the rings of aof-write-path ring in",
            error,
        })?;
        log!(Notice, "AOF write path: {} ({})", path.name(), path.reason);
        self.server.aof.set_write_path(path);
        Ok(())
    }

    fn write_path(&mut self, config: &Config) -> io::Result<WritePath> {
        let write = |reason| WritePath {
            reason,
            ..WritePath::default()
        };
        if config.aof_write_path == AofWritePath::Write {
            return Ok(write("as configured".into()));
        }
        let forced = config.aof_write_path == AofWritePath::Ring;
        let data_len = probe::data_len(config.aof_ring_size_bytes);
        if !forced && !self.ring_machine.is_simulated() {
            if let Some(objection) = self.objection_to_rings(config, data_len) {
                return Ok(write(objection));
            }
        }
        match self.make_rings(config, data_len) {
            Ok(rings) => Ok(WritePath {
                reason: format!(
                    "{} bytes of memory in {}",
                    rings.size(),
                    config.aof_ring_dir.display()
                ),
                rings: Some(Arc::new(rings)),
                rings_number: self.rings_made,
            }),
            Err(error) if forced => Err(error),
            Err(error) => Ok(write(error.to_string())),
        }
    }

    fn objection_to_rings(&self, config: &Config, data_len: u64) -> Option<String> {
        let shards = self.server.shards.len() as u16;
        if self.server.identity.boot_id.is_empty() {
            return Some("the system has no boot id".into());
        }
        let refused = probe::direct_io(&*self.storage, self.aof_files.dir()).err();
        let refused = refused.map(|error| {
            format!(
                "{} cannot be written directly: {error}",
                self.aof_files.dir().display()
            )
        });
        probe::objection(&config.aof_ring_dir, shards, data_len).or(refused)
    }

    fn make_rings(&mut self, config: &Config, data_len: u64) -> io::Result<RingSet> {
        let server = self.server;
        let dir_id = self.ring_machine.dir_id(self.aof_files.dir())?;
        self.rings_made += 1;
        let (run_id, number) = (&server.identity.run_id, self.rings_made);
        let prefix = rings_prefix(&config.aof_ring_dir, &dir_id, run_id, number);
        if prefix.as_os_str().len() > PREFIX_LEN_MAX {
            return Err(io::ErrorKind::InvalidFilename.into());
        }
        let mut manifest = self.aof_files.prefix().clone();
        manifest.push(".manifest");
        let spec = RingSpec {
            prefix,
            run_id: run_id.clone(),
            boot_id: server.identity.boot_id.clone(),
            dir_id,
            manifest: config.dir.join(self.aof_files.dir()).join(manifest),
            shard_count: server.shards.len() as u16,
            data_len,
        };
        let on_trouble = Arc::new(move |shard, errno| server.aof.drains.note(number, shard, errno));
        let (store, driver) = (self.ring_machine.store.clone(), self.ring_machine.driver);
        RingSet::create(store, &spec, driver, on_trouble)
    }

    /// Opens the files of new writers for the rings, if there are some. Nothing has changed yet.
    pub(super) fn prepare_rings(
        &self,
        writers: &[SegmentWriter],
    ) -> Result<Vec<Option<Prepared>>, AofError> {
        let rings = self.server.aof.write_path().rings;
        let direct = rings.is_some();
        let prepare = |writer: &SegmentWriter| {
            if rings.is_none() {
                return Ok(None);
            }
            Prepared::open(&*self.storage, writer.path(), writer.len(), direct)
                .map(Some)
                .map_err(|error| AofError::Io {
                    path: writer.path().to_owned(),
                    doing: "open",
                    error,
                })
        };
        writers.iter().map(prepare).collect()
    }

    /// Puts segments in force. Everything of those before is durable, and all workers stand still.
    pub(super) fn install(&mut self, writers: Vec<SegmentWriter>, prepared: Vec<Option<Prepared>>) {
        let aof = &self.server.aof;
        let rings = aof.write_path().rings;
        for (mut writer, prepared) in writers.into_iter().zip(prepared) {
            let shard = writer.id().shard;
            if let (Some(rings), Some(prepared)) = (&rings, prepared) {
                let file = rings.ring(shard).attach(prepared);
                writer.write_through(file.expect("made durable with all workers standing still"));
            }
            aof.install(shard, writer);
        }
        self.aof_files.measure_older(&*self.storage);
        self.publish_size();
    }

    /// What the manifest says of the rings in force.
    pub(super) fn rings_mark(&self) -> Option<RingsMark> {
        let rings = self.server.aof.write_path().rings?;
        Some(RingsMark {
            prefix: rings.prefix().to_owned(),
            count: self.server.shards.len() as u16,
        })
    }

    /// Removes the rings that the manifest does not name any more.
    pub(super) fn remove_unnamed_rings(&mut self) {
        let unnamed = std::mem::take(&mut self.aof_files.unnamed_rings);
        if unnamed.is_empty() {
            return;
        }
        if let Ok(dir_id) = self.ring_machine.dir_id(self.aof_files.dir()) {
            for mark in &unnamed {
                remove_named(&*self.ring_machine.store, mark, &dir_id);
            }
        }
    }

    /// The manifest does not name the rings: they go, if the files have everything.
    pub(super) fn retire_rings(&mut self) {
        let path = self.server.aof.write_path();
        if let Some(Err(error)) = path.rings.map(|rings| rings.remove()) {
            log!(Warning, "The rings are kept: {error}");
        }
    }

    /// Removes what servers left behind that nobody will start again.
    pub(super) fn remove_abandoned_rings(&self, config: &Config) {
        let removed: Vec<PathBuf> = remove_abandoned(
            &*self.storage,
            &*self.ring_machine.store,
            &config.aof_ring_dir,
            &self.server.identity.boot_id,
        );
        for path in removed {
            log!(Notice, "Removed the abandoned ring {}", path.display());
        }
    }
}
