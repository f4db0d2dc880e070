//! INFO: sections of fields, each section in a file of its own.
//!
//! A field is a row: its name and a function of the facts, which are gathered once per call.
//! What is asked of the shards is taken under all batons, so it is of one instant; sections that
//! ask nothing of them take none.

mod clients;
mod commandstats;
mod cpu;
mod errorstats;
mod keyspace;
mod latencystats;
mod memory;
mod memory_report;
mod persistence;
mod replication;
mod server;
mod shards;
mod stats;

use std::fmt::Write;
use std::sync::Arc;

use ::config::Config;
use ::keyspace::{Db, DbIndex, Lsn, Shard, ShardIndex, UnixMillis, View};
use commands::{args, CommandResult};
use datatypes::Rng;
use resp::Argv;

use super::Host;
use crate::shared::Server;
use crate::stats::Totals;
use crate::worker::connection::Connection;
use crate::worker::Worker;

/// What the fields are computed from.
struct Facts {
    server: &'static Server,
    config: Arc<Config>,
    now: UnixMillis,
    /// Since CONFIG RESETSTAT.
    totals: Totals,
    /// Empty unless a section that needs them was asked for.
    shards: Vec<ShardFacts>,
    dbs: Vec<DbFacts>,
    garbage_pending: usize,
}

struct ShardFacts {
    index: ShardIndex,
    keys: usize,
    expires: usize,
    hits: u64,
    misses: u64,
    expired: u64,
    expired_fields: u64,
    evicted: u64,
    changes: u64,
    log_end: Lsn,
    watched_keys: usize,
    tracked_keys: u64,
    tracked_items: u64,
    waited_keys: usize,
    waited_keys_on_deletion: usize,
    table_bytes: usize,
}

struct DbFacts {
    index: DbIndex,
    keys: usize,
    expires: usize,
    field_expiries: usize,
    /// Of all tables, and of the one of keys that expire.
    table_bytes: u64,
    expires_bytes: u64,
    avg_ttl_ms: i64,
}

/// A field's name and value.
type Field = (&'static str, fn(&Facts) -> String);

struct Section {
    /// As it is asked for.
    name: &'static str,
    title: &'static str,
    /// Shown when no section is named.
    is_default: bool,
    needs_shards: bool,
    write: fn(&Facts, &mut String),
}

/// In the order in which they are shown.
const SECTIONS: &[Section] = &[
    server::SECTION,
    clients::SECTION,
    memory::SECTION,
    persistence::SECTION,
    stats::SECTION,
    replication::SECTION,
    cpu::SECTION,
    MODULES,
    commandstats::SECTION,
    errorstats::SECTION,
    latencystats::SECTION,
    CLUSTER,
    shards::SECTION,
    keyspace::SECTION,
];

/// There are no modules; health checks ask all the same.
const MODULES: Section = Section {
    name: "modules",
    title: "Modules",
    is_default: true,
    needs_shards: false,
    write: |_, _| {},
};

const CLUSTER: Section = Section {
    name: "cluster",
    title: "Cluster",
    is_default: true,
    needs_shards: false,
    write: |facts, out| put(facts, out, &[("cluster_enabled", |_| "0".into())]),
};

impl Section {
    fn is_wanted(&self, asked: &[&[u8]]) -> bool {
        if asked.is_empty() {
            return self.is_default;
        }
        asked.iter().any(|word| match *word {
            word if args::is(word, "all") || args::is(word, "everything") => true,
            word if args::is(word, "default") => self.is_default,
            word => args::is(word, self.name),
        })
    }
}

/// Writes fields, one a line.
fn put(facts: &Facts, out: &mut String, fields: &[Field]) {
    for (name, value) in fields {
        // Writing to a string cannot fail.
        let _ = write!(out, "{name}:{}\r\n", value(facts));
    }
}

impl Worker {
    pub(super) fn info(
        &mut self,
        c: &mut Connection,
        argv: Argv<'_>,
        situation: Host<'_, '_>,
    ) -> CommandResult {
        let asked: Vec<&[u8]> = argv.from(1).iter().collect();
        let wanted: Vec<&Section> = SECTIONS
            .iter()
            .filter(|section| section.is_wanted(&asked))
            .collect();
        let needs_shards = wanted.iter().any(|section| section.needs_shards);
        let facts = self.facts(c, situation, needs_shards);
        let mut text = String::new();
        for section in wanted {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            // Writing to a string cannot fail.
            let _ = write!(text, "# {}\r\n", section.title);
            (section.write)(&facts, &mut text);
        }
        c.reply().verbatim("txt", text.as_bytes());
        Ok(())
    }

    fn facts(&mut self, c: &mut Connection, situation: Host<'_, '_>, needs_shards: bool) -> Facts {
        let mut facts = Facts {
            server: self.server,
            config: self.config.clone(),
            now: self.now,
            totals: Totals::since_reset(self.server),
            shards: Vec::new(),
            dbs: Vec::new(),
            garbage_pending: 0,
        };
        if needs_shards {
            self.with_all_shards(c, situation, |worker, _, view| {
                facts.look_at_shards(view, &mut worker.env.rng);
            });
        }
        facts
    }
}

impl Facts {
    fn look_at_shards(&mut self, view: &View<'_>, rng: &mut Rng) {
        let databases = view.shards().next().map_or(0, Shard::databases) as u32;
        self.garbage_pending = view.shards().next().map_or(0, Shard::garbage_pending);
        for shard in view.shards() {
            let sum = |f: fn(&Db) -> usize| (0..databases).map(|db| f(shard.db(DbIndex(db)))).sum();
            self.shards.push(ShardFacts {
                index: shard.index(),
                keys: sum(Db::len),
                expires: sum(Db::expires_len),
                hits: shard.stats.keyspace_hits,
                misses: shard.stats.keyspace_misses,
                expired: shard.stats.expired_keys,
                expired_fields: shard.stats.expired_fields,
                evicted: shard.stats.evicted_keys,
                changes: shard.dirty,
                log_end: shard.log.end(),
                watched_keys: shard.watches.len(),
                tracked_keys: shard.tracking.key_count() as u64,
                tracked_items: shard.tracking.item_count() as u64,
                waited_keys: shard.waits.len(),
                waited_keys_on_deletion: shard.waits.len_on_deletion(),
                table_bytes: sum(Db::table_bytes),
            });
        }
        for index in (0..databases).map(DbIndex) {
            let dbs: Vec<&Db> = view.shards().map(|shard| shard.db(index)).collect();
            let keys = dbs.iter().map(|db| db.len()).sum();
            if keys > 0 {
                self.dbs.push(DbFacts {
                    index,
                    keys,
                    expires: dbs.iter().map(|db| db.expires_len()).sum(),
                    table_bytes: dbs.iter().map(|db| db.table_bytes() as u64).sum(),
                    expires_bytes: dbs.iter().map(|db| db.expires_bytes() as u64).sum(),
                    field_expiries: dbs.iter().map(|db| db.field_expiries().len()).sum(),
                    avg_ttl_ms: average_ttl_ms(&dbs, self.now, rng),
                });
            }
        }
    }

    fn sum(&self, f: fn(&ShardFacts) -> u64) -> u64 {
        self.shards.iter().map(f).sum()
    }
}

/// The mean time to live, from a few keys of each shard.
fn average_ttl_ms(dbs: &[&Db], now: UnixMillis, rng: &mut Rng) -> i64 {
    const DRAWS_PER_SHARD: usize = 16;
    let (mut weighted, mut expires) = (0f64, 0f64);
    for db in dbs {
        let draws = DRAWS_PER_SHARD.min(db.expires_len());
        let sum: f64 = (0..draws)
            .filter_map(|_| db.random_expiring(rng)?.expire_at())
            .map(|at| (at.0 - now.0).max(0) as f64)
            .sum();
        if draws > 0 {
            weighted += sum / draws as f64 * db.expires_len() as f64;
            expires += db.expires_len() as f64;
        }
    }
    if expires > 0.0 {
        (weighted / expires) as i64
    } else {
        0
    }
}

fn truth(yes: bool) -> String {
    u8::from(yes).to_string()
}

fn status(ok: bool) -> String {
    if ok { "ok" } else { "err" }.into()
}

/// Bytes for people: `982.83K`.
fn human(bytes: u64) -> String {
    const UNITS: [char; 5] = ['K', 'M', 'G', 'T', 'P'];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.2}{}", UNITS[unit])
}

/// `part` of `whole` in percent, as Redis prints it.
fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "0.00%".into();
    }
    format!("{:.2}%", part as f64 * 100.0 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_for_people() {
        for (bytes, expected) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.00K"),
            (1_006_416, "982.83K"),
            (25_276_502_016, "23.54G"),
        ] {
            assert_eq!(human(bytes), expected);
        }
        assert_eq!(percent(1, 3), "33.33%");
        assert_eq!(percent(1, 0), "0.00%");
    }

    #[test]
    fn names_choose_sections() {
        let names = |asked: &[&[u8]]| -> Vec<&str> {
            SECTIONS
                .iter()
                .filter(|section| section.is_wanted(asked))
                .map(|section| section.name)
                .collect()
        };
        assert_eq!(names(&[b"SERVER", b"nosuch"]), ["server"]);
        assert_eq!(names(&[b"all"]).len(), SECTIONS.len());
        assert_eq!(names(&[]), names(&[b"default"]));
        assert!(!names(&[]).contains(&"commandstats"));
    }
}
