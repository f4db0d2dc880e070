//! Loading the dataset: at start, and for DEBUG RELOAD and LOADAOF.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Instant;

use persistence::aof::manifest::{Found, Manifest};
use persistence::aof::recover::{load_aof, AofLoadOptions, AofLoaded, RecoveredSegment};
use persistence::aof::AofError;
use persistence::rdb::load::{load_rdb, LoadStats, RdbLoadError};
use persistence::storage::copy;

use super::aof_files::AofFiles;
use super::Coordinator;
use crate::load::{options, IntoShards, ReplyTo};
use crate::load_progress::Telling;
use crate::recovery::os_crashed;
use crate::{allocator, clock, log, supervision};

/// Why the dataset could not be loaded; the server does not start without it.
pub enum LoadFailure {
    Aof(AofError),
    Dump(RdbLoadError),
    /// Not the files' fault.
    Other(String),
}

impl fmt::Display for LoadFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadFailure::Aof(error) => error.fmt(f),
            LoadFailure::Dump(error) => error.fmt(f),
            LoadFailure::Other(reason) => f.write_str(reason),
        }
    }
}

impl From<AofError> for LoadFailure {
    fn from(error: AofError) -> LoadFailure {
        LoadFailure::Aof(error)
    }
}

impl From<RdbLoadError> for LoadFailure {
    fn from(error: RdbLoadError) -> LoadFailure {
        LoadFailure::Dump(error)
    }
}

impl From<std::io::Error> for LoadFailure {
    fn from(error: std::io::Error) -> LoadFailure {
        LoadFailure::Other(error.to_string())
    }
}

const RELOAD_NOT_SAVED: &[u8] = b"-ERR Error trying to save the DB, check logs\r\n";
const RELOAD_NOT_LOADED: &[u8] = b"-ERR Error trying to load the DB, check server logs\r\n";

fn note_load_failure(error: LoadFailure) -> &'static [u8] {
    log!(Warning, "{error}");
    RELOAD_NOT_LOADED
}

impl Coordinator {
    /// Loads what is on disk, opens the AOF, and lets clients in.
    pub fn start(&mut self) -> Result<(), LoadFailure> {
        let server = self.server;
        let config = self.config();
        if self.restore.is_some() && !config.appendonly {
            return Err(LoadFailure::Other(
                "--restore-to needs appendonly yes".into(),
            ));
        }
        let began = clock::instant();
        server
            .snapshot
            .loading_started_at
            .store(clock::unix_millis().0, Relaxed);
        self.aof_files = AofFiles::open(&config);
        let telling = Telling::begin(server);
        if config.appendonly {
            let recovered = self.load_aof_or_dump(began)?;
            self.open_aof(&recovered)?;
            self.remove_abandoned_rings(&config);
        } else {
            self.load_dump(Path::new(&config.dbfilename), began)?;
        }
        drop(telling);
        self.remove_old_temps();
        self.forget_changes();
        server.loading.store(false, SeqCst);
        server.want_events();
        log!(Notice, "Ready to accept connections");
        supervision::ready();
        Ok(())
    }

    /// Loaded keys are no changes.
    fn forget_changes(&self) {
        for shard in self.server.shard_indexes() {
            self.server.with_shard(shard, |shard| {
                shard.dirty = 0;
                shard.stats = Default::default();
            });
        }
    }

    /// Loads the AOF or, where there is none, the snapshot, which becomes the AOF's base.
    fn load_aof_or_dump(&mut self, began: Instant) -> Result<Vec<RecoveredSegment>, LoadFailure> {
        let config = self.config();
        let manifest = match Manifest::load(
            &*self.storage,
            Path::new("."),
            self.aof_files.dir().as_os_str(),
            self.aof_files.prefix(),
        )? {
            Found::Manifest(manifest) => manifest,
            Found::Upgraded(manifest) => {
                log!(
                    Notice,
                    "An append-only file of an older version was moved into {}",
                    self.aof_files.dir().display()
                );
                manifest
            }
            Found::Nothing if self.restore.is_some() => {
                return Err(LoadFailure::Other(
                    "--restore-to: there is no append-only file".into(),
                ));
            }
            Found::Nothing => {
                let dump = PathBuf::from(&config.dbfilename);
                if self.load_dump(&dump, began)?.is_some() {
                    self.adopt_dump(&dump)?;
                }
                return Ok(Vec::new());
            }
        };
        let manifest = self.take_over_rings(manifest)?;
        let manifest = match self.restore.take() {
            Some(point) => self.restore(manifest, point)?,
            None => manifest,
        };
        let loaded = self.load_manifest(&manifest)?;
        let keys = loaded.base.as_ref().map_or(0, |base| base.keys);
        let seconds = clock::elapsed_since(began).as_secs_f64();
        log!(Notice, "DB loaded from append only file: {seconds:.3} seconds ({keys} keys of the base, {} commands)", loaded.commands);
        self.aof_files.set_manifest(loaded.manifest);
        self.server
            .aof
            .continue_from(loaded.epoch_last, loaded.transaction_last);
        Ok(loaded.segments)
    }

    fn load_manifest(&self, manifest: &Manifest) -> Result<AofLoaded, LoadFailure> {
        let server = self.server;
        let config = self.config();
        let progress = server.snapshot.progress()?;
        progress.reset();
        let aof_options = AofLoadOptions {
            rdb: options(server),
            load_truncated: config.aof_load_truncated,
            corrupt_tail_bytes_max: config.aof_load_corrupt_tail_max_size,
            os_crashed: os_crashed(manifest, &server.identity.boot_id),
        };
        let loaded = load_aof(
            &*self.storage,
            self.aof_files.dir(),
            manifest,
            &aof_options,
            &IntoShards {
                server,
                replaces: false,
            },
            progress,
        )?;
        self.note_recovery(&loaded.recovery, &loaded.cuts);
        if let Some(base) = &loaded.base {
            self.note_loaded(base);
        }
        Ok(loaded)
    }

    fn note_loaded(&self, stats: &LoadStats) {
        let state = &self.server.snapshot;
        state.last_load_keys_loaded.store(stats.keys, Relaxed);
        state.last_load_keys_expired.store(stats.expired, Relaxed);
        state.sizes[0].note(stats.bytes, allocator::used_bytes());
    }

    /// Loads a snapshot, if there is one.
    fn load_dump(&self, path: &Path, began: Instant) -> Result<Option<LoadStats>, LoadFailure> {
        self.load_dump_over(path, began, false)
    }

    /// As `load_dump`; keys that are there already are replaced, or an error.
    fn load_dump_over(
        &self,
        path: &Path,
        began: Instant,
        replaces: bool,
    ) -> Result<Option<LoadStats>, LoadFailure> {
        let server = self.server;
        if self.storage.file_len(path)?.is_none() {
            return Ok(None);
        }
        let progress = server.snapshot.progress()?;
        progress.reset();
        let stats = load_rdb(
            &*self.storage,
            path,
            &options(server),
            &IntoShards { server, replaces },
            progress,
        )?;
        self.note_loaded(&stats);
        let seconds = clock::elapsed_since(began).as_secs_f64();
        log!(
            Notice,
            "Done loading RDB, keys loaded: {}, keys expired: {}, empty keys skipped: {}.",
            stats.keys,
            stats.expired,
            stats.empty
        );
        log!(Notice, "DB loaded from disk: {seconds:.3} seconds");
        Ok(Some(stats))
    }

    /// Makes the snapshot that was loaded the base of a new AOF: by a link, so that nothing is
    /// written twice, or a copy where the file system has no links.
    fn adopt_dump(&mut self, dump: &Path) -> Result<(), LoadFailure> {
        self.make_dir()?;
        self.aof_files.mark_beginning(&*self.storage)?;
        let mut manifest = Manifest::default();
        let base = manifest.next_base(self.aof_files.prefix(), true);
        let path = self.aof_files.dir().join(&base.name);
        // A start that did not get as far as the manifest left its link, which a copy would write
        // through into the dump itself.
        if self.storage.file_len(&path)?.is_some() {
            self.storage.remove(&path)?;
        }
        if self.storage.link(dump, &path).is_err() {
            copy(&*self.storage, dump, &path)?;
        }
        manifest.files.push(base);
        log!(
            Notice,
            "{} becomes the base of the append only file",
            dump.display()
        );
        self.aof_files.set_manifest(manifest);
        Ok(())
    }

    /// DEBUG RELOAD.
    pub(super) fn reload(&mut self, reply_to: ReplyTo, save: bool, flush: bool, merge: bool) {
        let dump = PathBuf::from(&self.config().dbfilename);
        self.load_again(reply_to, |this| {
            if save && this.save_now().is_err() {
                return Err(RELOAD_NOT_SAVED);
            }
            if flush {
                this.empty_all();
            }
            let loaded = this.load_dump_over(&dump, clock::instant(), merge);
            loaded.map(|_| ()).map_err(note_load_failure)
        });
    }

    /// DEBUG LOADAOF.
    pub(super) fn reload_aof(&mut self, reply_to: ReplyTo) {
        self.load_again(reply_to, |this| {
            let server = this.server;
            if server.aof.is_on() {
                server
                    .shard_indexes()
                    .for_each(|shard| server.aof.write_all(server, shard));
            }
            this.empty_all();
            let manifest = this.aof_files.manifest().clone();
            if let Err(error) = server.aof.drain_rings() {
                return Err(note_load_failure(error.into()));
            }
            let loaded = this.load_manifest(&manifest);
            loaded.map(|_| ()).map_err(note_load_failure)
        });
    }

    /// Runs `load` while clients are answered LOADING and nothing is logged, and replies OK or the
    /// error that it returns.
    fn load_again(
        &mut self,
        reply_to: ReplyTo,
        load: impl FnOnce(&mut Self) -> Result<(), &'static [u8]>,
    ) {
        let server = self.server;
        let state = &server.snapshot;
        state
            .loading_started_at
            .store(clock::unix_millis().0, Relaxed);
        server.loading.store(true, SeqCst);
        // Past this stop, every worker knows.
        drop(server.safe_point.stop(server));
        server.want_events();
        let logged = server.aof.is_on();
        self.log_effects(false);
        let telling = Telling::begin(server);
        let result = load(self);
        drop(telling);
        self.log_effects(logged);
        self.forget_changes();
        server.loading.store(false, SeqCst);
        server.want_events();
        reply_to.send(server, result.err().unwrap_or(b"+OK\r\n"));
    }

    pub(super) fn log_effects(&self, on: bool) {
        for shard in self.server.shard_indexes() {
            self.server.with_shard(shard, |shard| shard.enable_log(on));
        }
    }
}
