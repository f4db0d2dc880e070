//! Rewriting the AOF, and switching it on, which begins with a rewrite.
//!
//! A rewrite begins a generation at the instant of the fork; the child's base and that generation
//! replace all that was before. Everything that takes long is done before the workers are stopped.
//! Invariants: whatever fails, at any step, the set on disk is the one before or the one after, and
//! files that belong to neither are removed; an old file is removed when the manifest under which
//! it is history is durable; generations that failed rewrites leave behind are merged.

use std::ffi::OsString;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use config::Config;
use persistence::aof::manifest::{Closed, Found, Manifest};
use persistence::aof::merge::{merge_generations, Merged};
use persistence::aof::{AofError, SegmentId};
use persistence::storage::Open;

use super::aof_files::{rings_of, NextGeneration, STANDSTILL_MAX};
use super::{Coordinator, TICK};
use crate::snapshot::ChildKind;
use crate::{clock, log};

/// What a base in RDB form begins with.
const RDB_MAGIC: &[u8; 5] = b"REDIS";
/// How often the thread that merges is looked at.
const MERGE_LOOK: Duration = Duration::from_millis(2);

impl Coordinator {
    /// What can be done for a rewrite while clients are served. `None`: the AOF is off, and only a
    /// base will be written.
    pub(super) fn prepare_rewrite(
        &mut self,
        config: &Config,
    ) -> Result<Option<NextGeneration>, String> {
        if config.appendonly && !self.server.aof.is_on() {
            // Also if a rewrite of before that has ended meanwhile: what it wrote lacks what came after it.
            self.aof_files.stored = false;
        }
        self.prepare_files(config)
            .map_err(|error| error.to_string())?;
        if !config.appendonly && !self.server.aof.is_on() {
            self.aof_files.rewriting = None;
            if !self.aof_files.stored {
                self.take_over_manifest();
            }
            return Ok(None);
        }
        if self.server.aof.is_on() {
            // The bulk of it now, so that what is left for the stop is little.
            self.make_durable()?;
        } else {
            self.choose_write_path(config)
                .map_err(|error| error.to_string())?;
        }
        let mut next = self
            .reserve_generation()
            .map_err(|error| error.to_string())?;
        if self.aof_files.stored {
            next.manifest.run = Some(self.run_mark());
            let files = &self.aof_files;
            let prepared = next
                .manifest
                .prepare(&*self.storage, files.dir(), files.prefix());
            prepared
                .map_err(|error| error.to_string())
                .inspect_err(|_| self.discard_generation(&next))?;
        }
        Ok(Some(next))
    }

    fn prepare_files(&mut self, config: &Config) -> Result<(), AofError> {
        self.make_dir()?;
        let dir = self.aof_files.dir().to_owned();
        if self.aof_files.unsettled {
            self.aof_files.store(&*self.storage)?;
        }
        if !self.aof_files.stored {
            if config.appendonly {
                self.aof_files.mark_beginning(&*self.storage)?;
            }
            return Ok(());
        }
        if let Some(merged) = self.merge_generations(&dir)? {
            self.aof_files
                .replace(&*self.storage, merged.manifest, merged.files)?;
            self.aof_files.remove_history(&*self.storage);
        }
        Ok(())
    }

    /// Merges short generations. That may take some tenths of a second: a thread does it, and epochs go on.
    fn merge_generations(&mut self, dir: &Path) -> Result<Option<Merged>, AofError> {
        let (storage, prefix) = (self.storage.clone(), self.aof_files.prefix().clone());
        let manifest = self.aof_files.manifest().clone();
        let merge = || merge_generations(&*storage, dir, &prefix, &manifest);
        if manifest.generations().len() < 3 || clock::is_simulated() {
            return merge();
        }
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("aof-merge".into());
            let Ok(thread) = thread.spawn_scoped(scope, merge) else {
                return merge();
            };
            let mut epoch_ends = clock::instant() + TICK;
            while !thread.is_finished() {
                std::thread::sleep(MERGE_LOOK);
                if clock::instant() >= epoch_ends {
                    epoch_ends = clock::instant() + TICK;
                    self.advance_epoch();
                }
            }
            thread.join().expect("a panic has ended the process")
        })
    }

    /// With all workers standing still: writes the logs out and opens the new segments where they
    /// end, so that what the child is about to see and what follows meet without a gap.
    pub(super) fn open_segments(&mut self, next: &mut NextGeneration) -> Result<(), String> {
        let durable = match self.server.aof.is_on() {
            true => self.make_durable_within(STANDSTILL_MAX),
            false => Ok(()),
        };
        durable
            .and_then(|()| {
                self.open_generation(next)
                    .map_err(|error| error.to_string())
            })
            .inspect_err(|_| self.discard_generation(next))
    }

    /// Puts the new generation in force, the child having been forked. On an error the old one is.
    pub(super) fn switch_generation(&mut self, next: NextGeneration) -> Result<(), String> {
        let prepared = self.prepare_rings(&next.writers).map_err(|error| {
            self.discard_generation(&next);
            error.to_string()
        })?;
        let NextGeneration {
            manifest,
            segments,
            writers,
        } = next;
        let ends = self.ends();
        let names: Vec<OsString> = segments.into_iter().map(|(_, name)| name).collect();
        if self.aof_files.stored {
            let stored = self
                .aof_files
                .replace_by_prepared(&*self.storage, manifest, names);
            self.hold_while_unsettled();
            stored.map_err(|error| error.to_string())?;
        } else {
            // The set on disk is another one, or none, until there is a base.
            self.aof_files.manifest = manifest;
        }
        self.aof_files.close(&ends);
        let generation = self.aof_files.manifest.generation_last();
        self.aof_files.rewriting = Some(generation);
        self.install(writers, prepared);
        if !self.aof_files.stored {
            self.aof_files.first_begun.get_or_insert(generation);
            self.remove_attempts(generation);
        }
        if !self.server.aof.is_on() {
            self.enable_logs(true);
        }
        Ok(())
    }

    /// The child has written the base: puts it in force and removes what it replaces.
    pub(super) fn finish_rewrite(&mut self, written: &Path) -> Result<(), String> {
        if let Err(error) = self.put_base_in_force(written) {
            log!(Warning, "Cannot put the rewritten AOF in force: {error}");
            return Err(error.to_string());
        }
        log!(Notice, "Background AOF rewrite finished successfully");
        let state = &self.server.snapshot;
        state.rewrites_done.fetch_add(1, Relaxed);
        self.aof_files.measure_older(&*self.storage);
        state
            .aof_base_bytes
            .store(self.aof_files.size(&self.server.aof), Relaxed);
        self.publish_size();
        Ok(())
    }

    fn put_base_in_force(&mut self, written: &Path) -> Result<(), AofError> {
        let io = |doing, path: &Path| {
            let path = path.to_owned();
            move |error| AofError::Io { path, doing, error }
        };
        let mut magic = [0; RDB_MAGIC.len()];
        let read = self
            .storage
            .open(written, Open::Read)
            .and_then(|file| file.read_at(&mut magic, 0))
            .map_err(io("read", written))?;
        let is_rdb = magic[..read] == *RDB_MAGIC;
        // The segments are being written, also where this is the first manifest that names them.
        let run = self.server.aof.is_on().then(|| self.run_mark());
        let files = &mut self.aof_files;
        let mut base = files.manifest().next_base(files.prefix(), is_rdb);
        let (name, path) = (base.name.clone(), files.dir().join(&base.name));
        if !is_rdb {
            // An RDB says itself where it ends.
            let len = self
                .storage
                .file_len(written)
                .map_err(io("measure", written))?;
            base.closed = len.map(|len| Closed { len, lsn: None });
        }
        self.storage
            .rename(written, &path)
            .map_err(io("rename", written))?;
        let synced = self.storage.sync_dir(files.dir());
        if let Err(error) = synced {
            files.remove(&*self.storage, &name);
            return Err(io("sync", files.dir())(error));
        }
        let generation = files
            .rewriting
            .take()
            .unwrap_or(files.manifest().generation_last() + 1);
        let mut manifest = files.manifest().rewritten(base, generation);
        if let Some(run) = run {
            manifest.run = Some(run);
        }
        files.replace(&*self.storage, manifest, vec![name])?;
        files.remove_history(&*self.storage);
        Ok(())
    }

    /// A rewrite failed. While a set is in force that changes nothing; an AOF that was just
    /// switched on is tried again, and the segments of this attempt mean nothing.
    pub(super) fn rewrite_failed(&mut self) {
        self.aof_files.rewriting = None;
        if self.server.aof.is_on() && !self.aof_files.stored {
            self.plan_rewrite(true);
        }
    }

    /// Removes what attempts to switch the AOF on have begun, up to this generation.
    fn remove_attempts(&mut self, before: u64) {
        let files = &mut self.aof_files;
        let Some(first) = files.first_begun else {
            return;
        };
        let attempts = first..before;
        let (abandoned, kept) = std::mem::take(&mut files.manifest.files)
            .into_iter()
            .partition::<Vec<_>, _>(|file| {
                let begun = |id: SegmentId| attempts.contains(&id.generation);
                file.segment.is_some_and(begun)
            });
        files.manifest.files = kept;
        for file in abandoned {
            files.remove(&*self.storage, &file.name);
        }
    }

    /// Tries again to make sure which manifest a start will find.
    pub(super) fn settle_manifest(&mut self) {
        if self.aof_files.unsettled && self.aof_files.store(&*self.storage).is_ok() {
            log!(Notice, "The AOF manifest could be stored again.");
        }
    }

    fn plan_rewrite(&self, wanted: bool) {
        let mut plans = self
            .server
            .snapshot
            .plans
            .lock()
            .expect("no holder of this lock panics");
        plans.rewrite_scheduled = wanted;
    }

    /// CONFIG SET appendonly.
    pub(super) fn set_append_only(&mut self, on: bool) {
        if on == self.server.aof.is_on() {
            return;
        }
        if on {
            self.aof_files.stored = false;
            self.server.aof.set_in_force(false);
            self.aof_files.first_begun = None;
            self.take_over_manifest();
            self.rewrite_delay.ask();
            self.plan_rewrite(true);
        } else {
            self.kill_child(ChildKind::Rewrite);
            self.plan_rewrite(false);
            self.close_aof();
            if !self.aof_files.stored {
                self.remove_attempts(u64::MAX);
                let (dir, prefix) = (self.aof_files.dir(), self.aof_files.prefix());
                Manifest::unmark_beginning(&*self.storage, dir, prefix);
            }
        }
    }

    /// Continues the numbers of a set that is there; whatever it holds is about to be replaced.
    fn take_over_manifest(&mut self) {
        let files = &self.aof_files;
        let found = Manifest::load(
            &*self.storage,
            Path::new("."),
            files.dir().as_os_str(),
            files.prefix(),
        );
        self.aof_files.manifest = match found {
            Ok(Found::Manifest(manifest)) => manifest,
            _ => Manifest::default(),
        };
        self.aof_files.stored_rings = rings_of(&self.aof_files.manifest);
    }

    /// Removes what children of servers that were killed have left. Of snapshots only those whose
    /// server is gone: another one may share the directory.
    pub(super) fn remove_old_temps(&self) {
        let remove = |dir: &Path, is_old: &dyn Fn(&[u8]) -> bool| {
            let names = self.storage.list(dir).unwrap_or_default();
            for name in names.iter().filter(|name| is_old(name.as_encoded_bytes())) {
                let path = dir.join(name);
                match self.storage.remove(&path) {
                    Ok(()) => log!(Notice, "Removed {}, left by a child", path.display()),
                    Err(error) => log!(Warning, "Cannot remove {}: {error}", path.display()),
                }
            }
        };
        remove(Path::new("."), &|name| {
            let digits = name
                .strip_prefix(b"temp-")
                .and_then(|rest| rest.strip_suffix(b".rdb"));
            let pid = digits
                .filter(|digits| !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
                .and_then(|digits| std::str::from_utf8(digits).ok());
            pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
        });
        remove(self.aof_files.dir(), &|name| {
            name.starts_with(b"temp-rewriteaof-bg-")
        });
    }
}
