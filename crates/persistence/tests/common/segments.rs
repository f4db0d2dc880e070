//! Segments on a simulated disk, and what a load makes of them.

use super::DATABASES;
use keyspace::{DbIndex, Lsn, ShardIndex, UnixMillis};
use persistence::aof::annotation::put_transaction;
use persistence::aof::manifest::Manifest;
use persistence::aof::recover::{load_aof, AofLoadOptions, AofLoaded, ReplaySink};
use persistence::aof::replay::CommandReceiver;
use persistence::aof::segment::SegmentWriter;
use persistence::aof::{AofError, SegmentId, Stamp};
use persistence::commands::put_command;
use persistence::progress::Progress;
use persistence::rdb::load::{KeyReceiver, LoadOptions, LoadSink};
use persistence::storage::simulated::SimulatedStorage;
use persistence::storage::sync::SyncPolicy;
use persistence::storage::Storage;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Mutex;

pub const PREFIX: &str = "appendonly.aof";

pub fn dir() -> PathBuf {
    PathBuf::from("/data/appendonlydir")
}

/// Collects `db: command` lines per file, in any order of files; keys of a base too.
#[derive(Default)]
pub struct Log(pub Mutex<Vec<String>>);

struct LogReceiver<'a>(&'a Log, Vec<String>);

impl CommandReceiver for LogReceiver<'_> {
    fn command(&mut self, db: DbIndex, argv: &[&[u8]]) -> Result<(), String> {
        let words: Vec<_> = argv
            .iter()
            .map(|arg| arg.escape_ascii().to_string())
            .collect();
        self.1.push(format!("{}: {}", db.0, words.join(" ")));
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        self.0 .0.lock().unwrap().append(&mut self.1);
        Ok(())
    }
}

impl LoadSink for Log {
    fn key_receiver(&self) -> Box<dyn KeyReceiver + '_> {
        panic!("no RDB in this test")
    }
}

impl ReplaySink for Log {
    fn command_receiver(&self) -> Box<dyn CommandReceiver + '_> {
        Box::new(LogReceiver(self, Vec::new()))
    }
}

pub fn rdb_options() -> LoadOptions {
    LoadOptions {
        threads: 2,
        limits: Default::default(),
        now: UnixMillis(1000),
        skip_expired: true,
        databases: DATABASES as u32,
        verify_checksum: true,
    }
}

pub fn load_options(load_truncated: bool, os_crashed: bool) -> AofLoadOptions {
    AofLoadOptions {
        rdb: rdb_options(),
        load_truncated,
        corrupt_tail_bytes_max: 0,
        os_crashed,
    }
}

pub fn load(
    disk: &SimulatedStorage,
    manifest: &Manifest,
    load_truncated: bool,
    os_crashed: bool,
) -> Result<(Vec<String>, AofLoaded), AofError> {
    load_with(disk, manifest, &load_options(load_truncated, os_crashed))
}

pub fn load_with(
    disk: &SimulatedStorage,
    manifest: &Manifest,
    options: &AofLoadOptions,
) -> Result<(Vec<String>, AofLoaded), AofError> {
    let log = Log::default();
    let loaded = load_aof(disk, &dir(), manifest, options, &log, &Progress::default())?;
    Ok((log.0.into_inner().unwrap(), loaded))
}

pub const NOON: i64 = 1_700_000_000_000;

pub fn stamp(epoch: u64) -> Stamp {
    Stamp {
        unix_ms: NOON,
        epoch,
        policy: SyncPolicy::EverySecond,
    }
}

pub fn commands(list: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for command in list {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        put_command(&mut out, &words);
    }
    out
}

/// A generation of segments on a disk.
pub struct Segments {
    pub disk: SimulatedStorage,
    pub manifest: Manifest,
    pub writers: Vec<SegmentWriter>,
}

impl Segments {
    pub fn new(count: u16) -> Segments {
        let disk = SimulatedStorage::new();
        let mut manifest = Manifest::default();
        let writers = (0..count)
            .map(|shard| {
                let id = SegmentId {
                    shard: ShardIndex(shard),
                    shard_count: count,
                    generation: 1,
                };
                let name = manifest.add_segment(OsStr::new(PREFIX), id).name.clone();
                SegmentWriter::create(&disk, &dir().join(name), id, Lsn(100)).unwrap()
            })
            .collect();
        disk.sync_dir(&dir()).unwrap();
        Segments {
            disk,
            manifest,
            writers,
        }
    }

    pub fn append(&mut self, shard: usize, epoch: u64, list: &[&str]) {
        self.append_at(shard, epoch, NOON, list);
    }

    pub fn append_at(&mut self, shard: usize, epoch: u64, unix_ms: i64, list: &[&str]) {
        let stamp = Stamp {
            unix_ms,
            ..stamp(epoch)
        };
        self.writers[shard]
            .append(&mut commands(list), stamp)
            .unwrap();
    }

    /// Begins a generation behind the segments there are.
    pub fn next_generation(&mut self) {
        let generation = self.manifest.generation_last() + 1;
        let count = self.writers.len() as u16;
        for writer in &mut self.writers {
            let id = SegmentId {
                shard: writer.id().shard,
                shard_count: count,
                generation,
            };
            let name = self
                .manifest
                .add_segment(OsStr::new(PREFIX), id)
                .name
                .clone();
            *writer =
                SegmentWriter::create(&self.disk, &dir().join(name), id, writer.lsn()).unwrap();
        }
        self.disk.sync_dir(&dir()).unwrap();
    }

    pub fn append_transaction(&mut self, shard: usize, epoch: u64, id: u64, command: &str) {
        let mut block = Vec::new();
        put_transaction(&mut block, id, &[ShardIndex(0), ShardIndex(1)]);
        block.extend(commands(&["MULTI", command, "EXEC"]));
        self.writers[shard]
            .append(&mut block, stamp(epoch))
            .unwrap();
    }

    pub fn path(&self, shard: usize) -> PathBuf {
        self.writers[shard].path().to_owned()
    }

    pub fn load(&self) -> Result<(Vec<String>, AofLoaded), AofError> {
        load(&self.disk, &self.manifest, true, false)
    }
}

pub fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}
