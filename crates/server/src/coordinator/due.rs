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
const SAVE_RETRY: Duration = Duration::from_secs(5);
/// How rewrites wait that nobody asked for just now, after so many failures, one after another.
#[derive(Clone, Copy)]
pub struct Patience {
    failures: u64,
    delay_min: Duration,
    delay_max: Duration,
}

/// As Redis does.
const FOR_GROWTH: Patience = Patience {
    failures: 3,
    delay_min: Duration::from_secs(60),
    delay_max: Duration::from_secs(3600),
};
/// Until an AOF that is being switched on has a base, nothing that is written is safe.
const FOR_FIRST_BASE: Patience = Patience {
    failures: 1,
    delay_min: Duration::from_secs(1),
    delay_max: Duration::from_secs(60),
};

/// Rewrites that keep failing are tried at growing distances.
#[derive(Default)]
pub struct RewriteDelay {
    delay: Duration,
    until: Option<Instant>,
    /// The next one was asked for.
    asked: bool,
}

impl RewriteDelay {
    /// Somebody asked for a rewrite: the next one does not wait, whatever came before.
    pub fn ask(&mut self) {
        *self = RewriteDelay {
            asked: true,
            ..RewriteDelay::default()
        };
    }

    /// Whether a rewrite has to wait now. `failures`: one after another, up to now.
    pub fn holds(&mut self, failures: u64, now: Instant, patience: Patience) -> bool {
        if failures < patience.failures || std::mem::take(&mut self.asked) {
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
        self.delay = (self.delay * 2).clamp(patience.delay_min, patience.delay_max);
        self.until = Some(now + self.delay);
        log!(
            Warning,
            "Background AOF rewrite has repeatedly failed and triggered the limit, will retry in {} seconds",
            self.delay.as_secs()
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
        let failed = self.server.snapshot.last_snapshot_failed.load(Relaxed);
        let tried_lately = |tried| clock::elapsed_since(tried) <= SAVE_RETRY;
        if failed && self.last_save_try.is_some_and(tried_lately) {
            return false;
        }
        let changes = self.server.changes_since_save();
        // Not by the wall clock: one that is set back must not put snapshots off.
        let seconds = clock::elapsed_since(self.last_save).as_secs();
        let reached = config
            .save
            .iter()
            .find(|point| changes >= point.changes && seconds > point.seconds);
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
        let patience = match self.server.aof.is_on() && !self.aof_files.stored {
            true => FOR_FIRST_BASE,
            false => FOR_GROWTH,
        };
        let now = clock::instant();
        self.rewrite_delay
            .holds(failures.load(Relaxed), now, patience)
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
        let (mut kept, start) = (RewriteDelay::default(), Instant::now());
        let minutes = |n: u64| start + Duration::from_secs(60 * n);
        let mut holds = |failures, now| kept.holds(failures, now, FOR_GROWTH);
        assert!(!holds(2, start));
        assert!(holds(3, start));
        assert!(holds(3, minutes(1) - Duration::from_millis(1)));
        assert!(!holds(3, minutes(1)));
        assert!(holds(4, minutes(1)));
        assert!(holds(4, minutes(2)));
        assert!(!holds(4, minutes(3)));
        assert!(!holds(0, minutes(3)));
        assert!(holds(3, minutes(3)));
        assert!(!holds(3, minutes(4)), "a success in between begins anew");
        let last = (5..15).fold(minutes(4), |now, failures| {
            assert!(holds(failures, now));
            let next = now + FOR_GROWTH.delay_max;
            assert!(!holds(failures, next));
            next
        });
        assert!(holds(15, last));
        assert!(holds(
            15,
            last + FOR_GROWTH.delay_max - Duration::from_millis(1)
        ));
        assert!(!holds(15, last + FOR_GROWTH.delay_max));
    }
}
