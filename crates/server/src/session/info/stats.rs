//! `# Stats`.

use crate::pubsub::Kind;

use std::sync::atomic::Ordering::Relaxed;

use super::{put, Field, Section};

pub const SECTION: Section = Section {
    name: "stats",
    title: "Stats",
    is_default: true,
    needs_shards: true,
    write: |facts, out| put(facts, out, FIELDS),
};

const FIELDS: &[Field] = &[
    ("total_connections_received", |f| {
        f.totals.connections_received.to_string()
    }),
    ("total_commands_processed", |f| {
        f.totals.commands_processed.to_string()
    }),
    ("instantaneous_ops_per_sec", |f| {
        f.server.stats.instantaneous_ops.get().to_string()
    }),
    ("total_net_input_bytes", |f| {
        f.totals.net_input_bytes.to_string()
    }),
    ("total_net_output_bytes", |f| {
        f.totals.net_output_bytes.to_string()
    }),
    ("total_net_repl_input_bytes", |_| "0".into()),
    ("total_net_repl_output_bytes", |_| "0".into()),
    ("instantaneous_input_kbps", |f| {
        kilobytes(f.server.stats.instantaneous_input_bytes.get())
    }),
    ("instantaneous_output_kbps", |f| {
        kilobytes(f.server.stats.instantaneous_output_bytes.get())
    }),
    ("instantaneous_input_repl_kbps", |_| kilobytes(0)),
    ("instantaneous_output_repl_kbps", |_| kilobytes(0)),
    ("rejected_connections", |f| {
        f.totals.connections_rejected.to_string()
    }),
    ("sync_full", |_| "0".into()),
    ("sync_partial_ok", |_| "0".into()),
    ("sync_partial_err", |_| "0".into()),
    ("expired_subkeys", |f| {
        f.sum(|shard| shard.expired_fields).to_string()
    }),
    ("expired_keys", |f| f.sum(|shard| shard.expired).to_string()),
    // Not estimated: the cycle ends by what it finds in each shard.
    ("expired_stale_perc", |_| "0.00".into()),
    ("expired_time_cap_reached_count", |f| {
        f.totals.expired_time_cap_reached.to_string()
    }),
    ("expire_cycle_cpu_milliseconds", |f| {
        (f.totals.expire_cycle_micros / 1000).to_string()
    }),
    ("evicted_keys", |f| f.sum(|shard| shard.evicted).to_string()),
    ("evicted_clients", |f| f.totals.clients_evicted.to_string()),
    ("evicted_scripts", |f| {
        f.server.scripts.cache.evicted().to_string()
    }),
    ("total_eviction_exceeded_time", |f| {
        f.server.memory.beyond_total_ms().to_string()
    }),
    ("current_eviction_exceeded_time", |f| {
        f.server.memory.beyond_now_ms().to_string()
    }),
    ("keyspace_hits", |f| f.sum(|shard| shard.hits).to_string()),
    ("keyspace_misses", |f| {
        f.sum(|shard| shard.misses).to_string()
    }),
    ("pubsub_channels", |f| {
        f.server.pubsub.len(Kind::Channel).to_string()
    }),
    ("pubsub_patterns", |f| {
        f.server.pubsub.len(Kind::Pattern).to_string()
    }),
    ("pubsubshard_channels", |f| {
        f.server.pubsub.len(Kind::ShardChannel).to_string()
    }),
    ("latest_fork_usec", |f| {
        f.server.stats.latest_fork_micros.get().to_string()
    }),
    ("total_forks", |f| f.totals.total_forks.to_string()),
    ("migrate_cached_sockets", |_| "0".into()),
    ("slave_expires_tracked_keys", |_| "0".into()),
    ("active_defrag_hits", |_| "0".into()),
    ("active_defrag_misses", |_| "0".into()),
    ("active_defrag_key_hits", |_| "0".into()),
    ("active_defrag_key_misses", |_| "0".into()),
    ("total_active_defrag_time", |_| "0".into()),
    ("current_active_defrag_time", |_| "0".into()),
    ("tracking_total_keys", |f| {
        f.sum(|shard| shard.tracked_keys).to_string()
    }),
    ("tracking_total_items", |f| {
        f.sum(|shard| shard.tracked_items).to_string()
    }),
    ("tracking_total_prefixes", |f| {
        f.server.tracking.prefix_count().to_string()
    }),
    ("unexpected_error_replies", |f| {
        f.totals.unexpected_error_replies.to_string()
    }),
    ("total_error_replies", |f| {
        f.totals.error_replies.to_string()
    }),
    ("dump_payload_sanitizations", |_| "0".into()),
    ("total_reads_processed", |f| f.totals.reads.to_string()),
    ("total_writes_processed", |f| f.totals.writes.to_string()),
    ("io_threaded_reads_processed", |_| "0".into()),
    ("io_threaded_writes_processed", |_| "0".into()),
    ("client_query_buffer_limit_disconnections", |f| {
        f.totals.query_buffer_limit_disconnections.to_string()
    }),
    ("client_output_buffer_limit_disconnections", |f| {
        f.totals.output_buffer_limit_disconnections.to_string()
    }),
    // Buffers of replies are given back when they are empty, not resized by a timer.
    ("reply_buffer_shrinks", |_| "0".into()),
    ("reply_buffer_expands", |_| "0".into()),
    ("eventloop_cycles", |f| f.totals.turns.to_string()),
    ("eventloop_duration_sum", |_| {
        workers_cpu_micros().to_string()
    }),
    ("eventloop_duration_cmd_sum", |f| {
        let nanos: u64 = f.totals.commands.iter().map(|totals| totals.nanos).sum();
        (nanos / 1000).to_string()
    }),
    ("instantaneous_eventloop_cycles_per_sec", |f| {
        f.server.stats.instantaneous_turns.get().to_string()
    }),
    ("instantaneous_eventloop_duration_usec", |f| {
        let turns: u64 = f.server.workers.iter().map(|w| w.stats.turns.get()).sum();
        (workers_cpu_micros() / turns.max(1)).to_string()
    }),
    ("commands_posted", |f| f.totals.commands_posted.to_string()),
    ("acl_access_denied_auth", |f| {
        f.server.acl.denied.auth.load(Relaxed).to_string()
    }),
    ("acl_access_denied_cmd", |f| {
        f.server.acl.denied.command.load(Relaxed).to_string()
    }),
    ("acl_access_denied_key", |f| {
        f.server.acl.denied.key.load(Relaxed).to_string()
    }),
    ("acl_access_denied_channel", |f| {
        f.server.acl.denied.channel.load(Relaxed).to_string()
    }),
];

fn kilobytes(bytes: u64) -> String {
    format!("{:.2}", bytes as f64 / 1024.0)
}

/// What the workers have spent at work since the start: their time on a core, so that a turn costs no look at a clock.
fn workers_cpu_micros() -> u64 {
    let threads = std::fs::read_dir("/proc/self/task");
    let threads = threads.into_iter().flatten().flatten();
    let nanos: u64 = threads
        .filter_map(|thread| {
            let read = |file: &str| std::fs::read_to_string(thread.path().join(file)).ok();
            read("comm")?.starts_with("worker-").then_some(())?;
            read("schedstat")?.split(' ').next()?.parse::<u64>().ok()
        })
        .sum();
    nanos / 1000
}
