//! When a child is due: save points, scheduled commands, the growth of the AOF; and when not: soon
//! after a failure, or where its file would not fit.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use config::Config;

use super::Coordinator;
use crate::snapshot::ChildKind;
use crate::{allocator, clock, log};

/// Save points try again when more than so many seconds have passed since a snapshot that failed.
const SAVE_RETRY_SECONDS: i64 = 5;
/// After so many rewrites that failed, one after another, those that nobody asked for just now wait.
const FAILURES_WITHOUT_DELAY: u64 = 3;
const DELAY_MIN: Duration = Duration::from_secs(60);
const DELAY_MAX: Duration = Duration::from_secs(3600);

/// Rewrites that keep failing are tried at growing distances.
#[derive(Default)]
pub struct RewriteDelay {
    delay: Duration,
    until: Option<Instant>,
}

impl RewriteDelay {
    /// Whether a rewrite has to wait now. `failures`: one after another, up to now.
    pub fn holds(&mut self, failures: u64, now: Instant) -> bool {
        if failures < FAILURES_WITHOUT_DELAY {
            *self = RewriteDelay::default();
            return false;
        }
        if let Some(until) = self.until {
            if now >= until {
                self.until = None;
                return false;
            }
            return true;
        }
        self.delay = (self.delay * 2).clamp(DELAY_MIN, DELAY_MAX);
        self.until = Some(now + self.delay);
        log!(
            Warning,
            "Background AOF rewrite has repeatedly failed and triggered the limit, will retry in {} minutes",
            self.delay.as_secs() / 60
        );
        true
    }
}

impl Coordinator {
    /// Starts the children that save points, scheduled commands and growth ask for.
    pub(super) fn start_due_children(&mut self, config: &Config) {
        if self.child.is_some() || self.server.is_loading() {
            return;
        }
        let kind = {
            let mut plans = self
                .server
                .snapshot
                .plans
                .lock()
                .expect("no holder of this lock panics");
            if plans.child.is_some() {
                return;
            }
            let kind = if plans.rewrite_scheduled && !self.rewrite_has_to_wait() {
                plans.rewrite_scheduled = false;
                Some(ChildKind::Rewrite)
            } else if std::mem::take(&mut plans.snapshot_scheduled)
                || self.save_point_reached(config)
            {
                Some(ChildKind::Snapshot)
            } else if self.rewrite_is_due(config) {
                Some(ChildKind::Rewrite)
            } else {
                None
            };
            plans.child = kind;
            kind
        };
        if let Some(kind) = kind {
            self.start_child(kind, None);
        }
    }

    fn save_point_reached(&self, config: &Config) -> bool {
        if config.save.is_empty() {
            return false;
        }
        let now = clock::unix_millis().0 / 1000;
        let failed = self.server.snapshot.last_snapshot_failed.load(Relaxed);
        if failed && now - self.last_save_try_seconds <= SAVE_RETRY_SECONDS {
            return false;
        }
        let changes = self.server.changes_since_save();
        let seconds = now - self.server.last_save_seconds.load(Relaxed);
        let reached = config
            .save
            .iter()
            .find(|point| changes >= point.changes && seconds > point.seconds as i64);
        if let Some(point) = reached {
            log!(
                Notice,
                "{} changes in {} seconds. Saving...",
                point.changes,
                point.seconds
            );
        }
        reached.is_some()
    }

    fn rewrite_has_to_wait(&mut self) -> bool {
        let failures = &self.server.snapshot.rewrite_consecutive_failures;
        self.rewrite_delay
            .holds(failures.load(Relaxed), clock::instant())
    }

    fn rewrite_is_due(&mut self, config: &Config) -> bool {
        let aof = &self.server.aof;
        if !aof.is_on() || config.auto_aof_rewrite_percentage == 0 {
            return false;
        }
        let size = self.aof_files.size(aof);
        if size < config.auto_aof_rewrite_min_size_bytes {
            return false;
        }
        let base = self.server.snapshot.aof_base_bytes.load(Relaxed).max(1);
        let growth = (size * 100 / base).saturating_sub(100);
        let due = growth >= u64::from(config.auto_aof_rewrite_percentage);
        if !due || self.rewrite_has_to_wait() || !self.has_space_for_rewrite() {
            return false;
        }
        log!(
            Notice,
            "Starting automatic rewriting of AOF on {growth}% growth"
        );
        true
    }

    /// Whether an automatic rewrite would fit. One that would not has not failed: it waits.
    fn has_space_for_rewrite(&self) -> bool {
        let waits = &self.server.snapshot.rewrite_waits_for_space;
        match self.lack_of_space(ChildKind::Rewrite) {
            None => {
                waits.store(false, Relaxed);
                true
            }
            Some(reason) => {
                if !waits.swap(true, Relaxed) {
                    log!(
                        Warning,
                        "Automatic rewriting of AOF is due and waits: {reason}"
                    );
                }
                false
            }
        }
    }

    /// Why a child must not be started, if its file would not fit; counted.
    pub(super) fn refusal_for_space(&self, kind: ChildKind) -> Option<String> {
        let reason = self.lack_of_space(kind)?;
        let state = &self.server.snapshot;
        let refused = match kind {
            ChildKind::Snapshot => &state.snapshots_without_space,
            ChildKind::Rewrite => &state.rewrites_without_space,
        };
        refused.fetch_add(1, Relaxed);
        Some(reason)
    }

    fn lack_of_space(&self, kind: ChildKind) -> Option<String> {
        let (dir, as_commands) = match kind {
            ChildKind::Snapshot => (Path::new("."), false),
            ChildKind::Rewrite => (self.aof_files.dir(), !self.config().aof_use_rdb_preamble),
        };
        let size = &self.server.snapshot.sizes[usize::from(as_commands)];
        let needed = size.estimate(allocator::used_bytes());
        // A directory that is not there yet, or cannot be asked, is no reason.
        let free = self.storage.free_bytes(dir).ok().flatten()?;
        (needed > free).then(|| {
            format!("it would take about {needed} bytes, and the file system has {free} left")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewrites_that_keep_failing_are_delayed_more_and_more() {
        let (mut delay, start) = (RewriteDelay::default(), Instant::now());
        let minutes = |n: u64| start + Duration::from_secs(60 * n);
        assert!(!delay.holds(2, start));
        assert!(delay.holds(3, start));
        assert!(delay.holds(3, minutes(1) - Duration::from_millis(1)));
        assert!(!delay.holds(3, minutes(1)));
        assert!(delay.holds(4, minutes(1)));
        assert!(delay.holds(4, minutes(2)));
        assert!(!delay.holds(4, minutes(3)));
        for _ in 0..10 {
            delay.holds(5, minutes(3));
            delay.until = None;
        }
        assert!(delay.holds(5, minutes(3)));
        assert!(!delay.holds(5, minutes(63)));
        assert!(!delay.holds(0, minutes(63)));
        assert!(delay.holds(3, minutes(63)));
        assert!(!delay.holds(3, minutes(64)));
    }
}
