//! Snapshots. Input: a file. Loading it by its index and by scanning, from memory and from a stream that yields little
//! at a time, tells the same; what loads is written by our own writer and loads the same again.

use crate::content::{Collected, Keys};
use keyspace::{Db, DbIndex, Entry, UnixMillis};
use persistence::progress::Progress;
use persistence::rdb::check::check_rdb;
use persistence::rdb::inspect::{inspect_rdb, InspectOptions};
use persistence::rdb::load::{load_rdb, load_stream, KeyReceiver, LoadOptions, LoadSink};
use persistence::rdb::load::{LoadStats, LoadedKey, RdbLoadError};
use persistence::rdb::snapshot::{write_rdb, OnKey, SnapshotOptions, SnapshotSource};
use persistence::rdb::RdbError;
use persistence::storage::simulated::SimulatedStorage;
use persistence::storage::{write_all_at, Open, Storage};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Mutex;

const DATABASES: u32 = 16;

fn options(verify_checksum: bool, threads: usize) -> LoadOptions {
    LoadOptions {
        threads,
        limits: Default::default(),
        now: UnixMillis(1_000_000),
        skip_expired: verify_checksum,
        databases: DATABASES,
        verify_checksum,
    }
}

fn disk_with(path: &Path, bytes: &[u8]) -> SimulatedStorage {
    let disk = SimulatedStorage::new();
    let file = disk.open(path, Open::Create).expect("a disk in memory");
    write_all_at(&*file, bytes, 0).expect("a disk in memory");
    disk
}

pub fn run(input: &[u8]) {
    let path = Path::new("/dump.rdb");
    let disk = disk_with(path, input);
    // As the check tool and a server go over it, checksums included.
    let checked = check_rdb(&disk, path, 1);
    inspect(&disk, path, &checked);
    shown(checked.err());
    shown(load(&disk, path, &options(true, 1)).err());
    let checksum = persistence::crc::jones(input);
    if checksum.is_multiple_of(16) {
        shown(load(&disk, path, &options(true, 3)).err());
    }
    let loaded = load(&disk, path, &options(false, 1));
    let scanned = scan(input, Some(input.len() as u64));
    match (&scanned, scan(Trickle(input), None)) {
        (Ok((keys, _)), Ok((again, _))) => assert_eq!(keys, &again),
        // Where the length is known, some claims are refused earlier.
        (Err(error), Err(again)) => drop((error.to_string(), again.to_string())),
        (one, other) => panic!("the same bytes: {one:?}, {other:?}"),
    }
    let (keys, stats) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => return shown(Some(error)),
    };
    // The index says where records begin, not what they are.
    let (from_scan, _) = scanned.expect("what loads by its index loads without it");
    assert_eq!(keys, from_scan);
    assert!(stats.bytes <= input.len() as u64);
    if checksum.is_multiple_of(4) {
        write_and_load(input, &keys);
    }
}

/// What `basalt-check-rdb` does: it finds nothing wrong with a file that loads.
fn inspect(disk: &SimulatedStorage, path: &Path, checked: &Result<LoadStats, RdbLoadError>) {
    for as_redis in [false, true] {
        let options = InspectOptions {
            threads: 1,
            now_unix_ms: 1_000_000,
            largest_count: 3,
            preamble: false,
            as_redis,
        };
        let report = inspect_rdb(disk, path, &options, &Progress::default())
            .expect("a disk in memory does not fail");
        if checked.is_ok() && !as_redis {
            assert!(report.is_good(), "{:?}", report.findings.flaw);
        }
    }
}

fn shown(error: Option<RdbLoadError>) {
    drop(error.map(|error| error.to_string()));
}

type Loaded = (Keys, LoadStats);

fn load(
    disk: &SimulatedStorage,
    path: &Path,
    options: &LoadOptions,
) -> Result<Loaded, RdbLoadError> {
    let found = Collected::default();
    let stats = load_rdb(disk, path, options, &found, &Progress::default())?;
    let keys = found.into_keys();
    assert_eq!(keys.len() as u64, stats.keys);
    Ok((keys, stats))
}

fn scan(source: impl Read, len: Option<u64>) -> Result<Loaded, RdbError> {
    let found = Collected::default();
    let stats = load_stream(
        source,
        len,
        &options(false, 1),
        &found,
        &Progress::default(),
    )?;
    Ok((found.into_keys(), stats))
}

/// A source that yields a few bytes at a time, and is interrupted.
struct Trickle<'a>(&'a [u8]);

impl Read for Trickle<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let want = 1 + self.0.len() % 7;
        if want == 5 && !into.is_empty() && into[0] == 0 {
            into[0] = 1;
            return Err(io::ErrorKind::Interrupted.into());
        }
        let len = into.len().min(want);
        self.0.read(&mut into[..len])
    }
}

/// A keyspace of one shard.
struct Store(Mutex<BTreeMap<u32, Db>>);

impl LoadSink for Store {
    fn key_receiver(&self) -> Box<dyn KeyReceiver + '_> {
        Box::new(self)
    }
}

impl KeyReceiver for &Store {
    fn key(&mut self, key: LoadedKey<'_>) -> Result<(), String> {
        let mut dbs = self.0.lock().expect("no target goes on after a panic");
        let db = dbs.entry(key.db.0).or_default();
        db.insert(Entry::new(key.key, key.value, key.expire_at));
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        Ok(())
    }
}

impl SnapshotSource for Store {
    fn shard_count(&self) -> usize {
        1
    }

    fn for_each_key(&self, _shard: usize, on_key: &mut OnKey<'_>) -> io::Result<()> {
        for (&db, keys) in self
            .0
            .lock()
            .expect("no target goes on after a panic")
            .iter()
        {
            for entry in keys.iter() {
                on_key(DbIndex(db), entry.key(), entry.expire_at(), entry.value())?;
            }
        }
        Ok(())
    }

    fn db_sizes(&self) -> Vec<(DbIndex, u64, u64)> {
        let dbs = self.0.lock().expect("no target goes on after a panic");
        let size =
            |(&db, keys): (&u32, &Db)| (DbIndex(db), keys.len() as u64, keys.expires_len() as u64);
        dbs.iter().map(size).collect()
    }
}

fn write_and_load(input: &[u8], expected: &Keys) {
    let store = Store(Mutex::default());
    let loaded = load_stream(
        input,
        None,
        &options(false, 1),
        &store,
        &Progress::default(),
    );
    loaded.expect("it loaded before");
    let disk = SimulatedStorage::new();
    let (temp, path) = (Path::new("/temp.rdb"), Path::new("/dump.rdb"));
    let how = SnapshotOptions {
        direct_io: false,
        ..SnapshotOptions::default()
    };
    write_rdb(&disk, temp, path, &store, &how, &Progress::default()).expect("a disk in memory");
    let verified = LoadOptions {
        skip_expired: false,
        ..options(true, 1)
    };
    let (keys, stats) = load(&disk, path, &verified).expect("our own file");
    assert!(stats.indexed);
    assert_eq!(&keys, expected);
}
