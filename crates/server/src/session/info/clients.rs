//! `# Clients`.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use super::{put, Facts, Section};
use crate::shared::WorkerHandle;

pub const SECTION: Section = Section {
    name: "clients",
    title: "Clients",
    is_default: true,
    needs_shards: true,
    write,
};

fn write(facts: &Facts, out: &mut String) {
    put(
        facts,
        out,
        &[
            ("connected_clients", |f| f.server.clients.len().to_string()),
            ("cluster_connections", |_| "0".into()),
            ("maxclients", |f| f.config.maxclients.to_string()),
            ("client_recent_max_input_buffer", |f| {
                max(f, |record| &record.input_bytes)
            }),
            ("client_recent_max_output_buffer", |f| {
                max(f, |record| &record.output_bytes)
            }),
            ("blocked_clients", |f| sum(f, |worker| &worker.blocked)),
            ("tracking_clients", |f| {
                f.server.tracking.client_count().to_string()
            }),
            ("pubsub_clients", |f| {
                let all = f.server.clients.all();
                let subscribed = all
                    .iter()
                    .filter(|r| r.subscriptions.iter().any(|count| count.load(Relaxed) > 0));
                subscribed.count().to_string()
            }),
            ("watching_clients", |f| {
                let all = f.server.clients.all();
                let watching = all.iter().filter(|r| r.watches.load(Relaxed) > 0);
                watching.count().to_string()
            }),
            ("clients_in_timeout_table", |f| {
                sum(f, |worker| &worker.timed_waits)
            }),
            ("total_watched_keys", |f| {
                f.sum(|shard| shard.watched_keys as u64).to_string()
            }),
            ("total_blocking_keys", |f| {
                f.sum(|shard| shard.waited_keys as u64).to_string()
            }),
            ("total_blocking_keys_on_nokey", |f| {
                f.sum(|shard| shard.waited_keys_on_deletion as u64)
                    .to_string()
            }),
        ],
    );
}

fn sum(facts: &Facts, count: fn(&WorkerHandle) -> &AtomicI64) -> String {
    let workers = facts.server.workers.iter();
    let sum: i64 = workers.map(|worker| count(worker).load(Relaxed)).sum();
    sum.to_string()
}

fn max(
    facts: &Facts,
    bytes: fn(&crate::clients::ClientRecord) -> &std::sync::atomic::AtomicUsize,
) -> String {
    let all = facts.server.clients.all();
    let max = all.iter().map(|record| bytes(record).load(Relaxed)).max();
    max.unwrap_or(0).to_string()
}
