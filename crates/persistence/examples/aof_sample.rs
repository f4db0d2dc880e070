//! `aof_sample write DIR`: an append-only set with everything that ours may have, for other servers to load.
//! `aof_sample load DIR`: recovers a set and prints what was found.

#[path = "../tests/common/mod.rs"]
mod common;

use common::Store;
use keyspace::{DbIndex, Lsn, NewValue, ShardIndex, UnixMillis};
use persistence::aof::annotation::{put_timestamp, put_transaction};
use persistence::aof::manifest::{Found, Manifest, RunMark};
use persistence::aof::recover::{load_aof, AofLoadOptions, ReplaySink};
use persistence::aof::replay::CommandReceiver;
use persistence::aof::segment::SegmentWriter;
use persistence::aof::{SegmentId, Stamp};
use persistence::commands::put_command;
use persistence::progress::Progress;
use persistence::rdb::load::{KeyReceiver, LoadOptions, LoadSink};
use persistence::rdb::snapshot::{write_rdb, SnapshotOptions};
use persistence::storage::sync::SyncPolicy;
use persistence::storage::OsStorage;
use std::ffi::OsStr;
use std::path::Path;

const PREFIX: &str = "appendonly.aof";
const DIRNAME: &str = "appendonlydir";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    match &args[..] {
        [_, action, dir] if action == "write" => write(Path::new(dir)),
        [_, action, dir] if action == "load" => load(Path::new(dir)),
        _ => Err("usage: aof_sample write|load DIR".into()),
    }
}

fn write(parent: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let dir = parent.join(DIRNAME);
    std::fs::create_dir_all(&dir)?;
    let run = Some(RunMark {
        boot_id: "b".into(),
        run_id: "r".into(),
        rings: None,
    });
    let mut manifest = Manifest {
        run,
        ..Manifest::default()
    };
    let store = Store::new(2);
    store.put(5, b"base", NewValue::Bytes(b"in the base"), None);
    let base = manifest.next_base(OsStr::new(PREFIX), true);
    let options = SnapshotOptions {
        compress: true,
        checksum: true,
        threads: 2,
        direct_io: true,
        aof_base: true,
        unix_seconds: 1_700_000_000,
        used_memory: 1,
        ..SnapshotOptions::default()
    };
    write_rdb(
        &OsStorage,
        &dir.join("temp"),
        &dir.join(&base.name),
        &store,
        &options,
        &Progress::default(),
    )?;
    manifest.files.push(base);
    for generation in 1..=2 {
        for shard in 0..2 {
            let id = SegmentId {
                shard: ShardIndex(shard),
                shard_count: 2,
                generation,
            };
            let path = dir.join(&manifest.add_segment(OsStr::new(PREFIX), id).name);
            let mut writer = SegmentWriter::create(&OsStorage, &path, id, Lsn(1000))?;
            let key = |i: u32| format!("g{generation}:s{shard}:{i}").into_bytes();
            for i in 0..100 {
                let mut block = Vec::new();
                put_timestamp(&mut block, 1_700_000_000 + i64::from(i));
                put_command(&mut block, &[b"SELECT", (i % 3).to_string().as_bytes()]);
                put_command(&mut block, &[b"SET", &key(i), b"value"]);
                if i == 50 {
                    put_transaction(&mut block, 77, &[ShardIndex(0), ShardIndex(1)]);
                    put_command(&mut block, &[b"MULTI"]);
                    put_command(
                        &mut block,
                        &[b"SET", b"x".repeat(100).as_slice(), &vec![b'#'; 5000]],
                    );
                    put_command(&mut block, &[b"DEL", &key(49)]);
                    put_command(&mut block, &[b"EXEC"]);
                }
                let stamp = Stamp {
                    unix_ms: 1_700_000_000_000,
                    epoch: 7,
                    policy: SyncPolicy::EverySecond,
                };
                writer.append(&mut block, stamp)?;
            }
            let stamp = Stamp {
                unix_ms: 1_700_000_000_000,
                epoch: 8,
                policy: SyncPolicy::Always,
            };
            writer.append(&mut Vec::new(), stamp)?;
        }
    }
    manifest.store(&OsStorage, &dir, OsStr::new(PREFIX))?;
    Ok(())
}

/// Counts commands, keeps nothing.
struct Count;

impl CommandReceiver for Count {
    fn command(&mut self, _db: DbIndex, _argv: &[&[u8]]) -> Result<(), String> {
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        Ok(())
    }
}

struct Sink(Store);

impl LoadSink for Sink {
    fn key_receiver(&self) -> Box<dyn KeyReceiver + '_> {
        self.0.key_receiver()
    }
}

impl ReplaySink for Sink {
    fn command_receiver(&self) -> Box<dyn CommandReceiver + '_> {
        Box::new(Count)
    }
}

fn load(parent: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let manifest =
        match Manifest::load(&OsStorage, parent, OsStr::new(DIRNAME), OsStr::new(PREFIX))? {
            Found::Manifest(manifest) | Found::Upgraded(manifest) => manifest,
            Found::Nothing => return Err("nothing there".into()),
        };
    let rdb = LoadOptions {
        threads: 2,
        limits: Default::default(),
        now: UnixMillis(0),
        skip_expired: false,
        databases: 16,
        verify_checksum: true,
    };
    let options = AofLoadOptions {
        rdb,
        load_truncated: true,
        corrupt_tail_bytes_max: 0,
        os_crashed: false,
    };
    let began = std::time::Instant::now();
    let sink = Sink(Store::new(2));
    let loaded = load_aof(
        &OsStorage,
        &parent.join(DIRNAME),
        &manifest,
        &options,
        &sink,
        &Progress::default(),
    )?;
    println!("{loaded:?} in {:.3} s", began.elapsed().as_secs_f64());
    Ok(())
}
