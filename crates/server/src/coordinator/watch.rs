//! Looking after the running child: what it has done, what it costs, and what becomes of it.
//!
//! A child that makes no progress, or for which more memory had to be copied than `rdb-max-cow-bytes`
//! allows, is given up: it has failed like any other, and the last good file stays in force.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::children::RunningChild;
use super::Coordinator;
use crate::child::{self, Ended};
use crate::snapshot::ChildKind;
use crate::{clock, log};

/// How often a running child is looked at for progress.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
const PAGE_BYTES: u64 = 4096;

/// What was last seen of a child.
pub struct Watch {
    progress: (u64, u64),
    progress_at: Instant,
    next_look: Instant,
    /// How often it had measured what was copied, and the parent's page faults then.
    measured: u64,
    faults: u64,
}

impl Watch {
    pub fn begin() -> Watch {
        let now = clock::instant();
        Watch {
            progress: (0, 0),
            progress_at: now,
            next_look: now + WATCH_INTERVAL,
            measured: 0,
            faults: child::page_faults(),
        }
    }
}

impl Coordinator {
    /// Looks after the running child.
    pub(super) fn watch_child(&mut self) {
        let Some(running) = &mut self.child else {
            return;
        };
        let ended = match running.child.ended() {
            Ok(None) => {
                if running.given_up.is_none() {
                    self.look_at_copies();
                    self.look_at_progress();
                }
                return;
            }
            Ok(Some(ended)) => ended,
            Err(error) => Ended::Failed(error.to_string()),
        };
        let running = self.child.take().expect("looked at above");
        self.finish_child(running, ended);
    }

    /// Measuring is dear, and the child does it now and then. In between, the page faults of this
    /// process say how much can have been copied at most: when that might be too much, the child is
    /// asked to measure at once.
    fn look_at_copies(&mut self) {
        let state = &self.server.snapshot;
        let limit = self.server.config().rdb_max_cow_bytes;
        let (Some(running), Ok(progress)) = (&mut self.child, state.progress()) else {
            return;
        };
        let measured = progress.copies_measured.load(Relaxed);
        let copied = progress.copied_bytes.load(Relaxed);
        if measured != running.watch.measured {
            running.watch.measured = measured;
            if limit > 0 {
                running.watch.faults = child::page_faults();
            }
            state.note_copied(copied);
        }
        if limit == 0 {
            return;
        }
        if measured > 0 && copied > limit {
            state.children_over_cow_limit.fetch_add(1, Relaxed);
            let reason =
                format!("{copied} bytes had to be copied, rdb-max-cow-bytes allows {limit}");
            return self.give_up(reason);
        }
        let faults = child::page_faults().saturating_sub(running.watch.faults);
        if copied + faults * PAGE_BYTES > limit {
            progress.copies_wanted.store(measured + 1, Relaxed);
        }
    }

    fn look_at_progress(&mut self) {
        let state = &self.server.snapshot;
        let timeout = self.server.config().child_progress_timeout_secs;
        let (Some(running), Ok(progress)) = (&mut self.child, state.progress()) else {
            return;
        };
        let now = clock::instant();
        let watch = &mut running.watch;
        if now < watch.next_look {
            return;
        }
        watch.next_look = now + WATCH_INTERVAL;
        let seen = (progress.keys(), progress.bytes());
        if seen != watch.progress {
            (watch.progress, watch.progress_at) = (seen, now);
        }
        let still = now.duration_since(watch.progress_at);
        if timeout > 0 && still > Duration::from_secs(timeout.into()) {
            state.children_without_progress.fetch_add(1, Relaxed);
            self.give_up(format!("no progress for {} seconds", still.as_secs()));
        }
    }

    /// Tells the child to end, and leaves the rest until it has: a disk that hangs may keep it.
    fn give_up(&mut self, reason: String) {
        if let Some(running) = &mut self.child {
            let (what, pid) = (running.kind.name(), running.child.pid());
            log!(Warning, "Giving up the {what} child {pid}: {reason}");
            running.child.end();
            running.given_up = Some(reason);
        }
    }

    fn finish_child(&mut self, running: RunningChild, ended: Ended) {
        let state = &self.server.snapshot;
        let seconds = clock::elapsed_since(running.started).as_secs() as i64;
        if let Ok(progress) = state.progress() {
            state.note_copied(progress.copied_bytes.load(Relaxed));
        }
        let peak = state.current_cow_peak_bytes.load(Relaxed);
        let what = running.kind.name();
        let (took, copied) = match running.kind {
            ChildKind::Snapshot => (
                &state.last_snapshot_seconds_plus_1,
                &state.last_snapshot_cow_bytes,
            ),
            ChildKind::Rewrite => (
                &state.last_rewrite_seconds_plus_1,
                &state.last_rewrite_cow_bytes,
            ),
        };
        took.store(seconds + 1, Relaxed);
        copied.store(peak, Relaxed);
        let error = match ended {
            Ended::Done => None,
            Ended::Failed(error) => Some(error),
            // Redis's way to end a child without calling it failed.
            Ended::Killed(Signal::SIGUSR1) => {
                log!(Notice, "Background {what} child ended by SIGUSR1");
                return self.forget_child(running.kind, &running.temp);
            }
            Ended::Killed(signal) => Some(format!("terminated by signal {}", signal as i32)),
        };
        // A child may have finished in spite of being given up.
        let error = error.map(|error| running.given_up.clone().unwrap_or(error));
        let error = match (error, running.kind) {
            (Some(error), _) => {
                log!(Warning, "Background {what} child failed: {error}");
                Some(error)
            }
            (None, ChildKind::Snapshot) => {
                log!(Notice, "Background saving terminated with success");
                self.subtract_dirty(&running.dirty);
                self.note_size(&running, Path::new(&self.config().dbfilename));
                self.note_saved(running.verified);
                None
            }
            (None, ChildKind::Rewrite) => {
                let written = running.temp.with_extension("done");
                self.note_size(&running, &written);
                self.finish_rewrite(&written).err()
            }
        };
        if error.is_some() {
            self.remove_temp(&running.temp);
        }
        self.child_ended(running.kind, error);
    }

    fn note_size(&self, running: &RunningChild, written: &Path) {
        // What cannot be measured now is estimated from what was before.
        if let Ok(Some(bytes)) = self.storage.file_len(written) {
            let size = &self.server.snapshot.sizes[usize::from(running.as_commands)];
            size.note(bytes, running.used_memory);
        }
    }

    /// Puts the plans and the state right after a child, or the attempt to start one; with why it
    /// failed, if it did.
    pub(super) fn child_ended(&mut self, kind: ChildKind, error: Option<String>) {
        let state = &self.server.snapshot;
        let failed = error.is_some();
        *state.last_error(kind) = error.unwrap_or_default();
        match kind {
            ChildKind::Snapshot => {
                state.last_snapshot_failed.store(failed, Relaxed);
                state.refresh(&self.config(), &self.server.aof);
            }
            ChildKind::Rewrite => {
                state.last_rewrite_failed.store(failed, Relaxed);
                if failed {
                    state.rewrite_consecutive_failures.fetch_add(1, Relaxed);
                } else {
                    state.rewrite_consecutive_failures.store(0, Relaxed);
                }
            }
        }
        if failed && kind == ChildKind::Rewrite {
            self.rewrite_failed();
        }
        self.no_child();
    }

    /// After a child that was ended by intention, which is no failure.
    fn forget_child(&mut self, kind: ChildKind, temp: &Path) {
        self.remove_temp(temp);
        if kind == ChildKind::Rewrite {
            self.rewrite_failed();
        }
        self.no_child();
    }

    fn no_child(&mut self) {
        let state = &self.server.snapshot;
        self.server.aof.suspend_fsync(false);
        for figure in [
            &state.current_cow_bytes,
            &state.current_cow_peak_bytes,
            &state.current_keys_total,
        ] {
            figure.store(0, Relaxed);
        }
        state.current_cow_seen_at.store(0, Relaxed);
        state.child_started_at.store(0, Relaxed);
        state
            .plans
            .lock()
            .expect("no holder of this lock panics")
            .child = None;
    }

    /// Changes made before the fork are saved; those made since are not.
    fn subtract_dirty(&self, at_fork: &[u64]) {
        for (index, saved) in self.server.shard_indexes().zip(at_fork) {
            self.server.with_shard(index, |shard| {
                shard.dirty = shard.dirty.saturating_sub(*saved)
            });
        }
    }

    /// Ends a child that is no longer wanted.
    pub(super) fn kill_child(&mut self, kind: ChildKind) {
        if self
            .child
            .as_ref()
            .is_none_or(|running| running.kind != kind)
        {
            return;
        }
        let RunningChild { child, temp, .. } = self.child.take().expect("looked at above");
        let (what, pid) = (kind.name(), child.pid());
        log!(Notice, "Killing the running {what} child: {pid}");
        child.kill();
        self.forget_child(kind, &temp);
    }

    pub(super) fn remove_temp(&self, temp: &Path) {
        for path in [temp.to_owned(), temp.with_extension("done")] {
            // Whoever failed may have removed it already.
            let _ = self.storage.remove(&path);
        }
    }

    /// After FLUSHALL: a child's snapshot would be of what was flushed, and the file on disk is.
    pub(super) fn after_flush(&mut self) {
        self.kill_child(ChildKind::Snapshot);
        if !self.config().save.is_empty() {
            // A failure is logged, and shown by INFO.
            let _ = self.save_now();
        }
    }
}
