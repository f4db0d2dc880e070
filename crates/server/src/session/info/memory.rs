//! `# Memory`.

use std::sync::atomic::Ordering::Relaxed;

use super::{human, percent, put, Facts, Section};
use crate::allocator;

pub const SECTION: Section = Section {
    name: "memory",
    title: "Memory",
    is_default: true,
    needs_shards: true,
    write,
};

/// Of all Lua states.
fn lua_bytes(facts: &Facts) -> u64 {
    facts.server.scripts.lua_bytes()
}

fn libraries(facts: &Facts) -> std::sync::Arc<crate::scripts::libraries::Libraries> {
    facts.server.scripts.libraries.current()
}

/// Of the texts of scripts and libraries.
fn script_bytes(facts: &Facts) -> u64 {
    facts.server.scripts.cache.bytes() + libraries(facts).code_bytes()
}

fn write(facts: &Facts, out: &mut String) {
    put(
        facts,
        out,
        &[
            ("used_memory", |_| allocator::used_bytes().to_string()),
            ("used_memory_human", |_| human(allocator::used_bytes())),
            ("used_memory_rss", |_| resident_bytes().to_string()),
            ("used_memory_rss_human", |_| human(resident_bytes())),
            ("used_memory_peak", |f| peak_bytes(f).to_string()),
            ("used_memory_peak_human", |f| human(peak_bytes(f))),
            ("used_memory_peak_perc", |f| {
                percent(allocator::used_bytes(), peak_bytes(f))
            }),
            ("used_memory_overhead", |f| overhead_bytes(f).to_string()),
            ("used_memory_startup", |f| startup_bytes(f).to_string()),
            ("used_memory_dataset", |f| dataset_bytes(f).to_string()),
            ("used_memory_dataset_perc", |f| {
                let net = allocator::used_bytes().saturating_sub(startup_bytes(f));
                percent(dataset_bytes(f), net)
            }),
            ("allocator_allocated", |_| {
                allocator::used_bytes().to_string()
            }),
            ("allocator_active", |_| resident_bytes().to_string()),
            ("allocator_resident", |_| resident_bytes().to_string()),
            ("allocator_muzzy", |_| "0".into()),
            ("total_system_memory", |_| system_bytes().to_string()),
            ("total_system_memory_human", |_| human(system_bytes())),
            // One state of a worker runs scripts and functions.
            ("used_memory_lua", |f| lua_bytes(f).to_string()),
            ("used_memory_vm_eval", |f| lua_bytes(f).to_string()),
            ("used_memory_lua_human", |f| human(lua_bytes(f))),
            ("used_memory_scripts_eval", |f| {
                f.server.scripts.cache.bytes().to_string()
            }),
            ("number_of_cached_scripts", |f| {
                f.server.scripts.cache.len().to_string()
            }),
            ("number_of_functions", |f| {
                libraries(f).function_count().to_string()
            }),
            ("number_of_libraries", |f| {
                libraries(f).by_name.len().to_string()
            }),
            ("used_memory_vm_functions", |_| "0".into()),
            ("used_memory_vm_total", |f| lua_bytes(f).to_string()),
            ("used_memory_vm_total_human", |f| human(lua_bytes(f))),
            ("used_memory_functions", |f| {
                libraries(f).code_bytes().to_string()
            }),
            ("used_memory_scripts", |f| script_bytes(f).to_string()),
            ("used_memory_scripts_human", |f| human(script_bytes(f))),
            ("maxmemory", |f| setting(f, "maxmemory")),
            ("maxmemory_human", |f| {
                human(setting(f, "maxmemory").parse().unwrap_or(0))
            }),
            ("maxmemory_policy", |f| setting(f, "maxmemory-policy")),
            ("allocator_frag_ratio", |_| fragmentation()),
            ("allocator_frag_bytes", |_| fragmented_bytes().to_string()),
            ("allocator_rss_ratio", |_| "1.00".into()),
            ("allocator_rss_bytes", |_| "0".into()),
            ("rss_overhead_ratio", |_| "1.00".into()),
            ("rss_overhead_bytes", |_| "0".into()),
            ("mem_fragmentation_ratio", |_| fragmentation()),
            ("mem_fragmentation_bytes", |_| {
                fragmented_bytes().to_string()
            }),
            ("mem_not_counted_for_evict", |_| "0".into()),
            ("mem_replication_backlog", |_| "0".into()),
            ("mem_total_replication_buffers", |_| "0".into()),
            ("mem_clients_slaves", |_| "0".into()),
            ("mem_clients_normal", |f| client_bytes(f).to_string()),
            ("mem_cluster_links", |_| "0".into()),
            ("mem_aof_buffer", |f| aof_buffer_bytes(f).to_string()),
            // Tables grow a segment at a time, and have no second copy meanwhile.
            ("mem_overhead_db_hashtable_rehashing", |_| "0".into()),
            ("mem_allocator", |_| "mimalloc".into()),
            ("active_defrag_running", |_| "0".into()),
            ("lazyfree_pending_objects", |f| {
                f.garbage_pending.to_string()
            }),
            ("lazyfreed_objects", |f| f.totals.garbage_freed.to_string()),
        ],
    );
}

fn setting(facts: &Facts, name: &str) -> String {
    let value = facts.config.value_of(name).unwrap_or_default();
    String::from_utf8_lossy(&value).into_owned()
}

pub fn peak_bytes(facts: &Facts) -> u64 {
    let peak = facts.server.stats.peak_memory_bytes.get();
    peak.max(allocator::used_bytes())
}

/// The resident set: the second number of statm, in pages.
pub fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok());
    pages.unwrap_or(0) * page_bytes()
}

fn page_bytes() -> u64 {
    sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
}

fn system_bytes() -> u64 {
    sysconf(nix::unistd::SysconfVar::_PHYS_PAGES) * page_bytes()
}

fn sysconf(name: nix::unistd::SysconfVar) -> u64 {
    let value = nix::unistd::sysconf(name).ok().flatten();
    value.and_then(|n| u64::try_from(n).ok()).unwrap_or(0)
}

fn fragmentation() -> String {
    let used = allocator::used_bytes().max(1);
    format!("{:.2}", resident_bytes() as f64 / used as f64)
}

pub fn fragmented_bytes() -> i64 {
    resident_bytes() as i64 - allocator::used_bytes() as i64
}

pub fn client_bytes(facts: &Facts) -> u64 {
    let all = facts.server.clients.all();
    all.iter()
        .map(|record| record.memory_bytes.load(Relaxed) as u64)
        .sum()
}

pub fn startup_bytes(facts: &Facts) -> u64 {
    facts.server.stats.startup_memory_bytes.get()
}

/// Everything that is not keys and values: the start, clients and tables.
pub fn overhead_bytes(facts: &Facts) -> u64 {
    startup_bytes(facts) + client_bytes(facts) + facts.sum(|shard| shard.table_bytes as u64)
}

pub fn dataset_bytes(facts: &Facts) -> u64 {
    allocator::used_bytes().saturating_sub(overhead_bytes(facts))
}

/// Effects that are not yet written.
pub fn aof_buffer_bytes(facts: &Facts) -> u64 {
    let aof = &facts.server.aof;
    if !aof.is_on() {
        return 0;
    }
    facts
        .shards
        .iter()
        .map(|shard| shard.log_end.0.saturating_sub(aof.written(shard.index).0))
        .sum()
}
