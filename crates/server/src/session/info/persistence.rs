//! `# Persistence`.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use persistence::storage::sync::SyncService;

use super::{memory, put, status, truth, Facts, Field, Section};
use crate::recovery::LastRecovery;
use crate::snapshot::ChildKind;
use persistence::aof::cut::Cause;

pub const SECTION: Section = Section {
    name: "persistence",
    title: "Persistence",
    is_default: true,
    needs_shards: true,
    write,
};

fn write(facts: &Facts, out: &mut String) {
    put(facts, out, FIELDS);
    put(facts, out, OWN_FIELDS);
    if facts.server.aof.is_on() {
        put(facts, out, AOF_FIELDS);
        put(facts, out, RECOVERY_FIELDS);
        put_shards(facts, out);
    }
    if facts.server.is_loading() {
        put(facts, out, LOADING_FIELDS);
    }
}

const FIELDS: &[Field] = &[
    ("loading", |f| truth(f.server.is_loading())),
    ("async_loading", |_| "0".into()),
    ("current_cow_peak", |f| {
        while_child(f, f.server.snapshot.current_cow_peak_bytes.load(Relaxed))
    }),
    ("current_cow_size", |f| {
        while_child(f, f.server.snapshot.current_cow_bytes.load(Relaxed))
    }),
    ("current_cow_size_age", |f| {
        let seen_at = f.server.snapshot.current_cow_seen_at.load(Relaxed);
        let age_ms = if seen_at == 0 { 0 } else { f.now.0 - seen_at };
        while_child(f, (age_ms.max(0) / 1000) as u64)
    }),
    ("current_fork_perc", |f| {
        let (done, total) = child_keys(f);
        let share = done as f64 * 100.0 / total.max(1) as f64;
        format!("{:.2}", if total == 0 { 0.0 } else { share.min(100.0) })
    }),
    ("current_save_keys_processed", |f| {
        child_keys(f).0.to_string()
    }),
    ("current_save_keys_total", |f| child_keys(f).1.to_string()),
    ("rdb_changes_since_last_save", |f| {
        f.sum(|shard| shard.changes).to_string()
    }),
    ("rdb_bgsave_in_progress", |f| {
        truth(child(f) == Some(ChildKind::Snapshot))
    }),
    ("rdb_last_save_time", |f| {
        f.server.last_save_seconds.load(Relaxed).to_string()
    }),
    ("rdb_last_bgsave_status", |f| {
        status(!f.server.snapshot.last_snapshot_failed.load(Relaxed))
    }),
    ("rdb_last_bgsave_time_sec", |f| {
        let state = &f.server.snapshot;
        (state.last_snapshot_seconds_plus_1.load(Relaxed) - 1).to_string()
    }),
    ("rdb_current_bgsave_time_sec", |f| {
        child_seconds(f, ChildKind::Snapshot).to_string()
    }),
    ("rdb_saves", |f| f.totals.snapshots_begun.to_string()),
    ("rdb_last_cow_size", |f| {
        let state = &f.server.snapshot;
        state.last_snapshot_cow_bytes.load(Relaxed).to_string()
    }),
    ("rdb_last_load_keys_expired", |f| {
        let state = &f.server.snapshot;
        state.last_load_keys_expired.load(Relaxed).to_string()
    }),
    ("rdb_last_load_keys_loaded", |f| {
        let state = &f.server.snapshot;
        state.last_load_keys_loaded.load(Relaxed).to_string()
    }),
    ("aof_enabled", |f| truth(f.server.aof.is_on())),
    ("aof_rewrite_in_progress", |f| {
        truth(child(f) == Some(ChildKind::Rewrite))
    }),
    ("aof_rewrite_scheduled", |f| {
        let plans = f.server.snapshot.plans.lock();
        truth(
            plans
                .expect("no holder of this lock panics")
                .rewrite_scheduled,
        )
    }),
    ("aof_last_rewrite_time_sec", |f| {
        let state = &f.server.snapshot;
        (state.last_rewrite_seconds_plus_1.load(Relaxed) - 1).to_string()
    }),
    ("aof_current_rewrite_time_sec", |f| {
        child_seconds(f, ChildKind::Rewrite).to_string()
    }),
    ("aof_last_bgrewrite_status", |f| {
        status(!f.server.snapshot.last_rewrite_failed.load(Relaxed))
    }),
    ("aof_rewrites", |f| f.totals.rewrites_done.to_string()),
    ("aof_rewrites_consecutive_failures", |f| {
        let state = &f.server.snapshot;
        state.rewrite_consecutive_failures.load(Relaxed).to_string()
    }),
    ("aof_last_write_status", |f| {
        status(!f.server.aof.has_failed())
    }),
    ("aof_last_cow_size", |f| {
        let state = &f.server.snapshot;
        state.last_rewrite_cow_bytes.load(Relaxed).to_string()
    }),
    ("module_fork_in_progress", |_| "0".into()),
    ("module_fork_last_cow_size", |_| "0".into()),
];

/// What Redis does not have.
const OWN_FIELDS: &[Field] = &[
    ("rdb_last_bgsave_error", |f| {
        last_error(f, ChildKind::Snapshot)
    }),
    ("rdb_last_verified_time", |f| {
        let state = &f.server.snapshot;
        state.last_verified_seconds.load(Relaxed).to_string()
    }),
    ("rdb_refused_without_space", |f| {
        count(&f.server.snapshot.snapshots_without_space)
    }),
    ("aof_last_bgrewrite_error", |f| {
        last_error(f, ChildKind::Rewrite)
    }),
    ("aof_rewrites_refused_without_space", |f| {
        count(&f.server.snapshot.rewrites_without_space)
    }),
    ("aof_rewrite_waits_for_space", |f| {
        truth(f.server.snapshot.rewrite_waits_for_space.load(Relaxed))
    }),
    ("latest_fork_freeze_usec", |f| {
        f.server.stats.latest_fork_freeze_micros.get().to_string()
    }),
    ("children_over_cow_limit", |f| {
        count(&f.server.snapshot.children_over_cow_limit)
    }),
    ("children_without_progress", |f| {
        count(&f.server.snapshot.children_without_progress)
    }),
];

const AOF_FIELDS: &[Field] = &[
    ("aof_write_path", |f| {
        f.server.aof.write_path().name().into()
    }),
    ("aof_write_path_reason", |f| {
        f.server.aof.write_path().reason
    }),
    ("aof_ring_bytes", |f| {
        let rings = f.server.aof.write_path().rings;
        rings.map_or(0, |rings| rings.size()).to_string()
    }),
    ("aof_ring_pending_bytes", |f| {
        let rings = f.server.aof.write_path().rings;
        rings.map_or(0, |rings| rings.pending_bytes()).to_string()
    }),
    ("aof_current_size", |f| f.server.aof.size().to_string()),
    ("aof_base_size", |f| {
        f.server.snapshot.aof_base_bytes.load(Relaxed).to_string()
    }),
    ("aof_pending_rewrite", |_| "0".into()),
    ("aof_buffer_length", |f| {
        memory::aof_buffer_bytes(f).to_string()
    }),
    ("aof_pending_bio_fsync", |f| {
        let sync = f.server.aof.sync();
        sync.map_or(0, SyncService::pending_count).to_string()
    }),
    // A write never waits for an fsync here: these are the times it would have in Redis.
    ("aof_delayed_fsync", |f| {
        let sync = f.server.aof.sync();
        sync.map_or(0, SyncService::delayed_count).to_string()
    }),
];

/// What the last start cut off.
const RECOVERY_FIELDS: &[Field] = &[
    ("aof_last_recovery_time", |f| {
        recovery(f, |last| last.unix_ms / 1000).to_string()
    }),
    ("aof_last_recovery_cause", |f| {
        recovery(f, |last| last.cause.map_or("none", Cause::name)).into()
    }),
    ("aof_last_recovery_cut_bytes", |f| {
        recovery(f, |last| last.cut_bytes).to_string()
    }),
    ("aof_last_recovery_cut_commands", |f| {
        recovery(f, |last| last.cut_commands).to_string()
    }),
    ("aof_last_recovery_cut_keys", |f| {
        recovery(f, |last| last.cut_keys).to_string()
    }),
    // By shard that was cut: where its log ends now.
    ("aof_last_recovery_lsn", |f| {
        recovery(f, LastRecovery::lsns_in_line)
    }),
    ("aof_last_recovery_report", |f| {
        recovery(f, |last| last.report.clone())
    }),
];

/// One line for each shard's segment. A position is never ahead of those before it in this list: durable, written.
fn put_shards(facts: &Facts, out: &mut String) {
    let aof = &facts.server.aof;
    let Some(sync) = aof.sync() else {
        return;
    };
    for shard in &facts.shards {
        let index = shard.index;
        let durable = aof.durable(index).0;
        let written = aof.written(index).0.max(durable);
        let times = sync.times(index);
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "aof_shard{}:written_lsn={written},durable_lsn={durable},file_bytes={},buffer_bytes={},fsyncs={},\
             fsync_ms_last={},fsync_ms_max={},pending_ms={}\r\n",
            index.0,
            aof.segment_len(index),
            shard.log_end.0.saturating_sub(written),
            sync.sync_count(index),
            times.last_ms,
            times.max_ms,
            times.pending_ms,
        );
    }
}

const LOADING_FIELDS: &[Field] = &[
    ("loading_start_time", |f| {
        (f.server.snapshot.loading_started_at.load(Relaxed) / 1000).to_string()
    }),
    ("loading_total_bytes", |f| load_bytes(f).1.to_string()),
    ("loading_rdb_used_mem", |f| {
        let progress = f.server.snapshot.progress();
        let bytes = progress.map_or(0, |p| p.used_memory_bytes.load(Relaxed));
        bytes.to_string()
    }),
    ("loading_loaded_bytes", |f| load_bytes(f).0.to_string()),
    ("loading_loaded_perc", |f| {
        let (loaded, total) = load_bytes(f);
        format!("{:.2}", loaded as f64 * 100.0 / total.max(1) as f64)
    }),
    ("loading_eta_seconds", |f| {
        let (loaded, total) = load_bytes(f);
        if loaded == 0 {
            return "1".into();
        }
        let began = f.server.snapshot.loading_started_at.load(Relaxed);
        let seconds = (f.now.0 - began).max(0) as f64 / 1000.0;
        let left = total.saturating_sub(loaded) as f64;
        ((seconds * left / loaded as f64) as u64).to_string()
    }),
];

fn recovery<T>(facts: &Facts, of: impl FnOnce(&LastRecovery) -> T) -> T {
    let last = &facts.server.snapshot.last_recovery;
    of(&last.lock().expect("no holder of this lock panics"))
}

fn last_error(facts: &Facts, kind: ChildKind) -> String {
    facts
        .server
        .snapshot
        .last_error(kind)
        .replace(['\r', '\n'], " ")
}

fn count(counter: &AtomicU64) -> String {
    counter.load(Relaxed).to_string()
}

fn child(facts: &Facts) -> Option<ChildKind> {
    facts.server.snapshot.child()
}

/// A figure that is 0 while there is no child.
fn while_child(facts: &Facts, value: u64) -> String {
    child(facts).map_or(0, |_| value).to_string()
}

/// Keys the child has written, and has to write.
fn child_keys(facts: &Facts) -> (u64, u64) {
    let state = &facts.server.snapshot;
    let total = state.current_keys_total.load(Relaxed);
    match (child(facts), state.progress()) {
        (Some(_), Ok(progress)) => (progress.keys().min(total), total),
        _ => (0, 0),
    }
}

fn child_seconds(facts: &Facts, kind: ChildKind) -> i64 {
    if child(facts) != Some(kind) {
        return -1;
    }
    let began = facts.server.snapshot.child_started_at.load(Relaxed);
    // Reserved, but not yet forked.
    if began == 0 {
        0
    } else {
        (facts.now.0 - began).max(0) / 1000
    }
}

/// Bytes loaded, and to be loaded.
fn load_bytes(facts: &Facts) -> (u64, u64) {
    facts.server.snapshot.progress().map_or((0, 0), |progress| {
        (progress.bytes(), progress.bytes_total())
    })
}
