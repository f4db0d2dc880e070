//! `rdb_copy IN OUT [--shards N] [--threads N] [--commands] [--buffered] [--no-compress]`
//!
//! Loads an RDB and writes it again as Basalt writes its own, as RDB or as commands, and says how long each took.

#[path = "../tests/common/mod.rs"]
mod common;

use common::Store;
use keyspace::UnixMillis;
use persistence::progress::Progress;
use persistence::rdb::load::{load_rdb, LoadOptions};
use persistence::rdb::snapshot::{write_commands, write_rdb, SnapshotOptions};
use persistence::storage::OsStorage;
use std::path::Path;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let flag = |name: &str| args.iter().any(|arg| arg == name);
    let number = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1)?.parse::<usize>().ok()
    };
    let [_, input, output, ..] = &args[..] else {
        return Err("usage: rdb_copy IN OUT [options]".into());
    };
    let threads = number("--threads").unwrap_or(2);
    let store = Store::new(number("--shards").unwrap_or(2));
    let options = LoadOptions {
        threads,
        limits: Default::default(),
        now: UnixMillis(0),
        skip_expired: false,
        databases: 16,
        verify_checksum: true,
    };
    let began = Instant::now();
    let stats = load_rdb(
        &OsStorage,
        Path::new(input),
        &options,
        &store,
        &Progress::default(),
    )?;
    println!(
        "loaded {} keys in {:.3} s: {stats:?}",
        stats.keys,
        began.elapsed().as_secs_f64()
    );
    let options = SnapshotOptions {
        compress: !flag("--no-compress"),
        checksum: true,
        threads,
        direct_io: !flag("--buffered"),
        aof_base: false,
        unix_seconds: 1_700_000_000,
        used_memory: 1,
        ..SnapshotOptions::default()
    };
    let (target, temp) = (Path::new(output), format!("{output}.temp"));
    for _ in 0..number("--rounds").unwrap_or(1) {
        let began = Instant::now();
        let write = if flag("--commands") {
            write_commands
        } else {
            write_rdb
        };
        let stats = write(
            &OsStorage,
            Path::new(&temp),
            target,
            &store,
            &options,
            &Progress::default(),
        )?;
        println!("wrote {stats:?} in {:.3} s", began.elapsed().as_secs_f64());
    }
    Ok(())
}
