//! MEMORY STATS, DOCTOR, PURGE and MALLOC-STATS: what INFO memory says, as a map, and what may be wrong about it.

use commands::CommandResult;
use resp::Reply;

use super::memory;
use super::{Facts, Worker};
use crate::allocator;
use crate::session::Host;
use crate::worker::connection::Connection;

/// Below so many bytes, ratios say nothing.
const TELLING_BYTES_MIN: u64 = 5 << 20;
/// The peak is worth a word from this multiple of the present on.
const PEAK_FACTOR: f64 = 1.5;
const FRAGMENTATION_FACTOR: f64 = 1.4;
const FRAGMENTED_BYTES_MIN: i64 = 10 << 20;
/// Bytes of a client's buffers that are much, on the average.
const CLIENT_BYTES_MAX: u64 = 200 << 10;

impl Worker {
    pub(in crate::session) fn memory_stats(
        &mut self,
        c: &mut Connection,
        situation: Host<'_, '_>,
    ) -> CommandResult {
        let facts = self.facts(c, situation, true);
        stats(&facts, &mut c.reply());
        Ok(())
    }

    pub(in crate::session) fn memory_doctor(
        &mut self,
        c: &mut Connection,
        situation: Host<'_, '_>,
    ) -> CommandResult {
        let facts = self.facts(c, situation, true);
        c.reply().verbatim("txt", diagnosis(&facts).as_bytes());
        Ok(())
    }

    pub(in crate::session) fn memory_purge(&mut self, c: &mut Connection) -> CommandResult {
        allocator::purge();
        c.reply().ok();
        Ok(())
    }

    pub(in crate::session) fn memory_malloc_stats(&mut self, c: &mut Connection) -> CommandResult {
        c.reply()
            .bulk(b"Stats not supported for the current allocator");
        Ok(())
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn stats(facts: &Facts, reply: &mut Reply<'_>) {
    let used = allocator::used_bytes();
    let (startup, resident) = (memory::startup_bytes(facts), memory::resident_bytes());
    let (peak, dataset) = (memory::peak_bytes(facts), memory::dataset_bytes(facts));
    let net = used.saturating_sub(startup);
    let keys: u64 = facts.dbs.iter().map(|db| db.keys as u64).sum();
    let before: [(&str, u64); 10] = [
        ("peak.allocated", peak),
        ("total.allocated", used),
        ("startup.allocated", startup),
        ("replication.backlog", 0),
        ("clients.slaves", 0),
        ("clients.normal", memory::client_bytes(facts)),
        ("cluster.links", 0),
        ("aof.buffer", memory::aof_buffer_bytes(facts)),
        ("lua.caches", facts.server.scripts.cache.bytes()),
        ("functions.caches", 0),
    ];
    let between: [(&str, u64); 7] = [
        (
            "overhead.db.hashtable.lut",
            facts.dbs.iter().map(|db| db.table_bytes).sum(),
        ),
        ("overhead.db.hashtable.rehashing", 0),
        ("overhead.total", memory::overhead_bytes(facts)),
        ("db.dict.rehashing.count", 0),
        ("keys.count", keys),
        ("keys.bytes-per-key", net.checked_div(keys).unwrap_or(0)),
        ("dataset.bytes", dataset),
    ];
    let percentages = [
        ("dataset.percentage", 100.0 * ratio(dataset, net)),
        ("peak.percentage", 100.0 * ratio(used, peak)),
    ];
    let allocator_bytes: [(&str, u64); 4] = [
        ("allocator.allocated", used),
        ("allocator.active", resident),
        ("allocator.resident", resident),
        ("allocator.muzzy", 0),
    ];
    let fragmentation = ratio(resident, used);
    let fragmented = memory::fragmented_bytes();
    let ratios = [
        ("allocator-fragmentation", fragmentation, fragmented),
        ("allocator-rss", 1.0, 0),
        ("rss-overhead", 1.0, 0),
    ];
    let fields = before.len() + facts.dbs.len() + between.len() + percentages.len();
    reply.map(fields + allocator_bytes.len() + 2 * ratios.len() + 2);
    integers(reply, &before);
    for db in &facts.dbs {
        reply.bulk(format!("db.{}", db.index.0).as_bytes());
        reply.map(2);
        integers(
            reply,
            &[
                ("overhead.hashtable.main", db.table_bytes - db.expires_bytes),
                ("overhead.hashtable.expires", db.expires_bytes),
            ],
        );
    }
    integers(reply, &between);
    percentages
        .iter()
        .for_each(|(name, value)| double(reply, name, *value));
    integers(reply, &allocator_bytes);
    for (name, value, bytes) in ratios {
        double(reply, &format!("{name}.ratio"), value);
        integer(reply, &format!("{name}.bytes"), bytes);
    }
    double(reply, "fragmentation", fragmentation);
    integer(reply, "fragmentation.bytes", fragmented);
}

fn integer(reply: &mut Reply<'_>, name: &str, value: i64) {
    reply.bulk(name.as_bytes());
    reply.integer(value);
}

fn integers(reply: &mut Reply<'_>, fields: &[(&str, u64)]) {
    fields
        .iter()
        .for_each(|(name, value)| integer(reply, name, *value as i64));
}

fn double(reply: &mut Reply<'_>, name: &str, value: f64) {
    reply.bulk(name.as_bytes());
    reply.double(&datatypes::number::f64_to_vec(value));
}

fn diagnosis(facts: &Facts) -> String {
    let (used, peak) = (allocator::used_bytes(), memory::peak_bytes(facts));
    if used < TELLING_BYTES_MIN {
        return "There is too little data here to tell anything about its memory.\n".into();
    }
    let mut found = Vec::new();
    if ratio(peak, used) > PEAK_FACTOR {
        found.push(format!(
            "Peak: {peak} bytes were in use once, {used} are now. What was freed may stay with the process; \
             its resident set is no measure of the data."
        ));
    }
    let resident = memory::resident_bytes();
    if ratio(resident, used) > FRAGMENTATION_FACTOR
        && memory::fragmented_bytes() > FRAGMENTED_BYTES_MIN
    {
        found.push(format!(
            "Fragmentation: the process has {resident} bytes for {used} in use. MEMORY PURGE gives back what is free; \
             a restart packs the rest."
        ));
    }
    let (clients, bytes) = (
        facts.server.clients.all().len() as u64,
        memory::client_bytes(facts),
    );
    if bytes
        .checked_div(clients)
        .is_some_and(|each| each > CLIENT_BYTES_MAX)
    {
        found.push(format!(
            "Clients: {clients} of them have {bytes} bytes in buffers. CLIENT LIST shows which (tot-mem)."
        ));
    }
    if found.is_empty() {
        return "Nothing is wrong with the memory of this server.\n".into();
    }
    found.iter().map(|line| format!("* {line}\n")).collect()
}
