//! RDB files of real servers (`testdata`, made by Redis 7.0.15, Redis 8.0.6 and Valkey 9.1.2), old encodings built by hand,
//! our own files, and bytes that are none of these.

mod common;

use common::{Store, DATABASES};
use datatypes::stream::{Group, Pending};
use datatypes::{Limits, StreamId};
use keyspace::{NewValue, UnixMillis, ValueRef};
use persistence::crc;
use persistence::progress::Progress;
use persistence::rdb::dump::{dump_value, load_dump, DumpError};
use persistence::rdb::encode::Encoder;
use persistence::rdb::format::AUX_INDEX;
use persistence::rdb::load::{load_rdb, load_stream, LoadOptions, LoadStats, RdbLoadError};
use persistence::rdb::snapshot::{write_rdb, SnapshotError, SnapshotOptions, SnapshotStats};
use persistence::rdb::{RdbError, RdbErrorKind};
use persistence::storage::simulated::SimulatedStorage;
use persistence::storage::{Open, OsStorage, Storage, StorageFile};
use proptest::prelude::*;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;

fn options(threads: usize) -> LoadOptions {
    LoadOptions {
        threads,
        limits: Limits::default(),
        now: UnixMillis(1_700_000_000_000),
        skip_expired: true,
        databases: DATABASES as u32,
        verify_checksum: true,
    }
}

fn load_bytes(bytes: &[u8], threads: usize) -> Result<(Store, LoadStats), RdbError> {
    let store = Store::new(2);
    let stats = load_stream(
        bytes,
        Some(bytes.len() as u64),
        &options(threads),
        &store,
        &Progress::default(),
    )?;
    Ok((store, stats))
}

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("testdata")
            .join(name),
    )
    .unwrap()
}

fn save(store: &Store, disk: &SimulatedStorage, path: &Path, direct_io: bool) -> SnapshotStats {
    let options = SnapshotOptions {
        compress: true,
        checksum: true,
        threads: 2,
        direct_io,
        aof_base: false,
        unix_seconds: 1_700_000_000,
        used_memory: 12345,
        ..SnapshotOptions::default()
    };
    write_rdb(
        disk,
        Path::new("/temp"),
        path,
        store,
        &options,
        &Progress::default(),
    )
    .unwrap()
}

#[test]
fn files_of_real_servers_hold_the_same() {
    let contents: Vec<_> = ["redis-7.0.rdb", "redis-8.0.rdb", "valkey-9.1.rdb"]
        .map(|name| {
            load_bytes(&golden(name), 1)
                .unwrap_or_else(|e| panic!("{name}: {e}"))
                .0
                .contents()
        })
        .into();
    assert_eq!(contents[0], contents[1]);
    assert_eq!(contents[1], contents[2]);
    let get = |db: usize, key: &[u8]| contents[0][&(db, key.to_vec())].as_str();
    assert_eq!(contents[0].len(), 18);
    assert_eq!(get(0, b""), "embstr None \"empty key\"");
    assert_eq!(get(0, b"int64"), "int None \"9223372036854775807\"");
    assert_eq!(get(0, b"not-int"), "embstr None \"007\"");
    assert_eq!(get(0, b"ttl"), "embstr Some(4102444800123) \"v\"");
    assert_eq!(
        get(0, b"set:int"),
        r#"intset None ["-70000", "1", "1099511627776"]"#
    );
    assert_eq!(get(0, b"hash"), r#"listpack None {"f": "v", "n": "42"}"#);
    assert_eq!(
        get(0, b"zset"),
        r#"listpack None [("d", -inf), ("b", -2.5), ("a", 1.0), ("c", inf)]"#
    );
    assert!(get(0, b"list:nodes").starts_with("quicklist None"));
    assert_eq!(get(9, b"nine"), "int None \"9\"");
}

#[test]
fn our_files_hold_what_was_saved() {
    let (store, _) = load_bytes(&golden("redis-8.0.rdb"), 2).unwrap();
    store.put(
        3,
        b"large",
        NewValue::Owned(
            (0..9 << 20)
                .map(|i: u32| (i.wrapping_mul(i) >> 11) as u8)
                .collect(),
        ),
        None,
    );
    for i in 0..20_000u32 {
        store.put(
            4,
            format!("key:{i}").as_bytes(),
            NewValue::Bytes(&i.to_le_bytes().repeat(i as usize % 200)),
            None,
        );
    }
    for direct_io in [false, true] {
        let (disk, path) = (SimulatedStorage::new(), Path::new("/dump.rdb"));
        let saved = save(&store, &disk, path, direct_io);
        assert_eq!(saved.keys, 20_019);
        let bytes = disk.contents(path).unwrap();
        assert_eq!(bytes.len() as u64, saved.bytes);
        assert!(bytes.starts_with(b"REDIS0010"));
        let checksum = u64::from_le_bytes(bytes[bytes.len() - 8..].try_into().unwrap());
        assert_eq!(checksum, crc::jones(&bytes[..bytes.len() - 8]));
        for threads in [1, 3] {
            // By the index, and by a scan, as other servers read it.
            let loaded = Store::new(3);
            let stats = load_rdb(
                &disk,
                path,
                &options(threads),
                &loaded,
                &Progress::default(),
            )
            .unwrap();
            assert!(stats.indexed);
            assert_eq!(loaded.contents(), store.contents());
            let (loaded, stats) = load_bytes(&bytes, threads).unwrap();
            assert!(!stats.indexed);
            assert_eq!((stats.keys, stats.bytes), (20_019, bytes.len() as u64));
            assert_eq!(loaded.contents(), store.contents());
        }
    }
}

#[test]
fn every_flipped_byte_of_a_file_of_ours_is_refused() {
    let (store, _) = load_bytes(&golden("redis-8.0.rdb"), 1).unwrap();
    let (disk, path) = (SimulatedStorage::new(), Path::new("/dump.rdb"));
    save(&store, &disk, path, false);
    let whole = disk.contents(path).unwrap();
    for at in (0..whole.len()).step_by(7) {
        disk.edit(path, |bytes| {
            *bytes = whole.clone();
            bytes[at] ^= 0x10;
        });
        let loaded = load_rdb(
            &disk,
            path,
            &options(2),
            &Store::new(2),
            &Progress::default(),
        );
        assert!(
            matches!(loaded, Err(RdbLoadError::Rdb { .. })),
            "flip at {at}"
        );
    }
}

#[test]
fn every_cut_of_a_file_is_refused() {
    for name in ["redis-7.0.rdb", "valkey-9.1.rdb"] {
        let whole = golden(name);
        for len in (0..whole.len()).step_by(11) {
            match load_bytes(&whole[..len], 1 + len % 2) {
                Err(RdbError {
                    kind: RdbErrorKind::UnexpectedEnd { .. },
                    ..
                }) => {}
                other => panic!("{name} cut at {len}: {:?}", other.map(|(_, stats)| stats)),
            }
        }
    }
}

#[test]
fn libraries_of_real_servers_are_read() {
    for server in ["redis-7.0", "redis-8.0", "valkey-9.1"] {
        let (store, _) = load_bytes(&golden(&format!("{server}-function.rdb")), 1).unwrap();
        let codes = store.functions.lock().unwrap();
        let [code] = codes.as_slice() else {
            panic!("{server}: {} libraries", codes.len());
        };
        let code = String::from_utf8_lossy(code);
        assert!(code.starts_with("#!lua name=mylib"), "{code}");
    }
}

#[test]
fn hashes_with_fields_that_expire_are_read() {
    for server in ["redis-8.0", "valkey-9.1"] {
        let (store, _) = load_bytes(&golden(&format!("{server}-field-expiry.rdb")), 1).unwrap();
        let contents = store.contents();
        let expiring = &contents[&(0, b"hash:expiring".to_vec())];
        assert!(expiring.contains(" until "), "{expiring}");
        let (store, _) = load_bytes(&golden(&format!("{server}-field-persisted.rdb")), 1).unwrap();
        let contents = store.contents();
        assert_eq!(
            contents[&(0, b"hash:persisted".to_vec())],
            r#"listpack None {"f": "v", "g": "w"}"#
        );
        assert!(contents[&(0, b"hash:wide".to_vec())].starts_with("hashtable"));
    }
}

#[test]
fn a_version_to_come_is_named() {
    let error = match load_bytes(b"REDIS9999\xff", 1) {
        Err(e) => e.to_string(),
        Ok(_) => panic!("a version to come"),
    };
    assert!(error.contains("9999"), "{error}");
}

#[test]
fn streams_of_real_servers_are_read() {
    for server in ["redis-7.0", "redis-8.0", "valkey-9.1"] {
        let name = format!("{server}-stream.rdb");
        let (store, _) = load_bytes(&golden(&name), 1).unwrap();
        let contents = store.contents();
        let stream = &contents[&(0, b"a-stream".to_vec())];
        assert!(stream.starts_with("stream None"), "{stream}");
    }
}

/// A stream with a consumer for each way in which it can have been active.
fn stream_with_groups(idle: bool) -> datatypes::Stream {
    let mut stream = datatypes::Stream::new();
    let limits = Limits::default();
    for ms in 1..=250 {
        let id = StreamId::new(ms, 7);
        let pairs = [b"field".as_slice(), b"value", b"n", b"17"];
        stream.append(id, pairs.into_iter(), &limits).unwrap();
    }
    stream.delete([StreamId::new(3, 7)].into_iter());
    let mut group = Group::new(StreamId::new(9, 7), Some(8));
    let (alice, _) = group.find_or_add(b"alice", 1_700_000_000_000);
    group.consumer_mut(alice).active_at = Some(1_700_000_000_000);
    let pending = Pending {
        consumer: alice,
        delivered_at: 1_600_000_000_000,
        deliveries: 300,
    };
    (3..9).for_each(|ms| group.assign(StreamId::new(ms, 7), pending));
    if idle {
        group.find_or_add(b"bob", 5);
    }
    stream.groups.insert((*b"group").into(), group);
    let empty = Group::new(StreamId::MAX, None);
    stream.groups.insert((*b"").into(), empty);
    stream
}

#[test]
fn what_only_a_later_version_can_say_raises_that_of_the_file() {
    for (idle, magic) in [(false, b"REDIS0010"), (true, b"REDIS0011")] {
        let store = Store::new(2);
        let stream = datatypes::Value::Stream(Box::new(stream_with_groups(idle)));
        let Some(payload) = dumped(ValueRef::Object(&stream)) else {
            panic!("a stream has a payload")
        };
        assert_eq!(payload[payload.len() - 10], if idle { 11 } else { 10 });
        store.put(0, b"stream", NewValue::Object(Box::new(stream)), None);
        store.put(0, b"other", NewValue::Bytes(b"x"), None);
        for direct_io in [false, true] {
            let (disk, path) = (SimulatedStorage::new(), Path::new("/dump.rdb"));
            save(&store, &disk, path, direct_io);
            let bytes = disk.contents(path).unwrap();
            assert_eq!(&bytes[..9], magic);
            for bytes in [without_index(bytes.clone()), bytes] {
                let (loaded, _) = load_bytes(&bytes, 2).unwrap();
                assert_eq!(loaded.contents(), store.contents());
            }
        }
    }
}

fn dumped(value: ValueRef<'_>) -> Option<Vec<u8>> {
    let mut payload = Vec::new();
    dump_value(&mut Encoder::new(true), value, &mut payload);
    let is_read = load_dump(&payload, &Limits::default()).is_ok();
    is_read.then_some(payload)
}

#[test]
fn access_times_and_frequencies_are_passed_over() {
    for name in ["redis-7.0-lfu.rdb", "redis-7.0-lru.rdb"] {
        assert_eq!(load_bytes(&golden(name), 1).unwrap().1.keys, 1, "{name}");
    }
}

/// A file of version 6 with these records, without AUX fields.
fn old_file(records: &[u8]) -> Vec<u8> {
    let mut file = b"REDIS0006\xfe\x00".to_vec();
    file.extend_from_slice(records);
    file.push(0xff);
    file.extend_from_slice(&crc::jones(&file).to_le_bytes());
    file
}

/// A ziplist of short strings.
fn ziplist(items: &[&str]) -> Vec<u8> {
    let mut entries = Vec::new();
    let (mut previous_len, mut tail) = (0u8, 10u32);
    for item in items {
        tail = 10 + entries.len() as u32;
        entries.push(previous_len);
        entries.push(item.len() as u8);
        entries.extend_from_slice(item.as_bytes());
        previous_len = 2 + item.len() as u8;
    }
    let mut out = (11 + entries.len() as u32).to_le_bytes().to_vec();
    out.extend_from_slice(&tail.to_le_bytes());
    out.extend_from_slice(&(items.len() as u16).to_le_bytes());
    out.extend_from_slice(&entries);
    out.push(0xff);
    out
}

fn record(type_: u8, key: &str, value: &[u8]) -> Vec<u8> {
    [&[type_, key.len() as u8][..], key.as_bytes(), value].concat()
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&[bytes.len() as u8][..], bytes].concat()
}

#[test]
fn encodings_of_old_servers_are_read() {
    let zipmap = b"\x02\x01a\x01\x00x\x02bb\x02\x00yy\xff";
    let records = [
        record(1, "list", b"\x02\x01a\xc0\x05"),
        record(10, "list:ziplist", &string(&ziplist(&["a", "b"]))),
        record(
            14,
            "list:quicklist",
            &[
                &[2][..],
                &string(&ziplist(&["a"])),
                &string(&ziplist(&["b", "c"])),
            ]
            .concat(),
        ),
        record(3, "zset", b"\x03\x01a\x031.5\x01b\xff\x01c\xfe"),
        record(
            12,
            "zset:ziplist",
            &string(&ziplist(&["m", "-1", "n", "2.5"])),
        ),
        record(9, "hash:zipmap", &string(zipmap)),
        record(13, "hash:ziplist", &string(&ziplist(&["f", "v"]))),
        [
            &b"\xfd\xff\xff\xff\x7f"[..],
            &record(0, "seconds", b"\x01v"),
        ]
        .concat(),
        [
            &b"\xfd\x01\x00\x00\x00"[..],
            &record(4, "expired", b"\x01\x01f\x01v"),
        ]
        .concat(),
        record(2, "empty", b"\x00"),
    ]
    .concat();
    for threads in [1, 2] {
        let (store, stats) = load_bytes(&old_file(&records), threads).unwrap();
        assert_eq!((stats.keys, stats.expired, stats.empty), (8, 1, 1));
        let contents = store.contents();
        let check = |key: &str, expected: &str| {
            assert_eq!(contents[&(0, key.as_bytes().to_vec())], expected)
        };
        check("list", r#"listpack None ["a", "5"]"#);
        check("list:ziplist", r#"listpack None ["a", "b"]"#);
        check("list:quicklist", r#"quicklist None ["a", "b", "c"]"#);
        check(
            "zset",
            r#"listpack None [("b", -inf), ("a", 1.5), ("c", inf)]"#,
        );
        check("zset:ziplist", r#"listpack None [("m", -1.0), ("n", 2.5)]"#);
        check("hash:zipmap", r#"listpack None {"a": "x", "bb": "yy"}"#);
        check("hash:ziplist", r#"listpack None {"f": "v"}"#);
        check("seconds", r#"embstr Some(2147483647000) "v""#);
    }
}

#[test]
fn wrong_values_are_refused_with_their_key() {
    let check = |value: Vec<u8>, reason: &str| {
        let error = match load_bytes(&old_file(&value), 1) {
            Err(e) => e.to_string(),
            Ok(_) => panic!("loaded in spite of {reason}"),
        };
        assert!(error.contains("\"k\"") && error.contains(reason), "{error}");
    };
    check(record(2, "k", b"\x02\x01a\x01a"), "twice");
    check(record(4, "k", b"\x02\x01a\x01x\x01a\x01y"), "twice");
    check(record(3, "k", b"\x01\x01a\xfd"), "NaN");
    check(record(10, "k", b"\x03abc"), "ziplist");
    check(record(16, "k", b"\x03abc"), "listpack");
    check(record(11, "k", b"\x03abc"), "intset");
    check(record(99, "k", b""), "type 99");
    check(record(0, "k", b"\xc3\x02\x82\x00a"), "begins no");
    check(record(0, "k", b"\xc3\x02\x32\x00a"), "LZF");
    check(
        record(7, "k", b"\x81\x81\xe7\x9d\x3c\xf8\x49\x08\x00"),
        "module",
    );
}

#[test]
fn lengths_that_cannot_be_are_refused_at_once() {
    let huge = b"\x81\x00\x00\x10\x00\x00\x00\x00\x00";
    for type_ in [0, 1, 2, 3, 4, 5, 9, 10, 11, 12, 13, 14, 16, 17, 18, 20] {
        let bytes = old_file(&record(type_, "k", huge));
        assert!(load_bytes(&bytes, 1).is_err(), "type {type_}");
        let mut payload = vec![type_];
        payload.extend_from_slice(huge);
        assert!(
            matches!(
                load_dump(&sealed(payload, 10), &Limits::default()),
                Err(DumpError::Value(_))
            ),
            "type {type_}"
        );
    }
}

fn sealed(mut body: Vec<u8>, version: u16) -> Vec<u8> {
    body.extend_from_slice(&version.to_le_bytes());
    let checksum = crc::jones(&body);
    body.extend_from_slice(&checksum.to_le_bytes());
    body
}

#[test]
fn dumped_values_restore() {
    let (store, _) = load_bytes(&golden("redis-8.0.rdb"), 1).unwrap();
    let (copy, mut encoder) = (Store::new(2), Encoder::new(true));
    for shard in &store.shards {
        for (db, keys) in shard.lock().unwrap().iter().enumerate() {
            for entry in keys.iter() {
                let mut payload = Vec::new();
                dump_value(&mut encoder, entry.value(), &mut payload);
                let value = load_dump(&payload, &Limits::default()).unwrap();
                copy.put(db as u32, entry.key(), value, entry.expire_at());
                let last = payload.len() - 1;
                payload[last] ^= 1;
                assert!(matches!(
                    load_dump(&payload, &Limits::default()),
                    Err(DumpError::VersionOrChecksum)
                ));
            }
        }
    }
    assert_eq!(copy.contents(), store.contents());
}

#[test]
fn dump_is_what_redis_gives() {
    // DUMP of SET k 10 in Redis 7.0.
    let mut payload = Vec::new();
    dump_value(
        &mut Encoder::new(true),
        ValueRef::String(keyspace::StringRef::Int(10)),
        &mut payload,
    );
    assert_eq!(payload, b"\x00\xc0\n\n\x00n\x9fWE\x0e\xaec\xbb");
    assert!(load_dump(&sealed(b"\x00\x01v".to_vec(), 12), &Limits::default()).is_ok());
    assert!(load_dump(&sealed(b"\x00\x01v".to_vec(), 80), &Limits::default()).is_ok());
    for payload in [
        sealed(b"\x00\x01v".to_vec(), 13),
        b"short".to_vec(),
        Vec::new(),
    ] {
        assert!(matches!(
            load_dump(&payload, &Limits::default()),
            Err(DumpError::VersionOrChecksum)
        ));
    }
}

/// A disk where one step fails, or where what is read is not what was written.
struct Faulty {
    disk: SimulatedStorage,
    fails: &'static str,
}

impl Faulty {
    fn at(&self, step: &str) -> io::Result<()> {
        match step == self.fails {
            true => Err(io::Error::from_raw_os_error(5)),
            false => Ok(()),
        }
    }
}

impl Storage for Faulty {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn StorageFile>> {
        match how {
            Open::Create | Open::CreateDirect => self.at("create")?,
            Open::ReadDirect if self.fails == "flip" => {
                self.disk.edit(path, |bytes| bytes[100] ^= 1)
            }
            _ => self.at("read back")?,
        }
        self.disk.open(path, how)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.at("rename to")?;
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.link(from, to)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.at("fsync")?;
        self.disk.sync_dir(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }
    fn file_len(&self, path: &Path) -> io::Result<Option<u64>> {
        self.disk.file_len(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        self.disk.list(dir)
    }
}

fn save_to(
    storage: &dyn Storage,
    store: &Store,
    direct_io: bool,
) -> Result<SnapshotStats, SnapshotError> {
    let options = SnapshotOptions {
        threads: 2,
        direct_io,
        verify: true,
        ..SnapshotOptions::default()
    };
    let (temp, path) = (Path::new("/temp"), Path::new("/dump.rdb"));
    let progress = Progress::default();
    write_rdb(storage, temp, path, store, &options, &progress)
}

#[test]
fn failed_save_leaves_the_old_file() {
    let (store, _) = load_bytes(&golden("redis-8.0.rdb"), 1).unwrap();
    let (disk, path) = (SimulatedStorage::new(), Path::new("/dump.rdb"));
    save_to(&disk, &store, false).unwrap();
    let before = disk.contents(path).unwrap();
    let untouched = |disk: &SimulatedStorage| {
        assert_eq!(disk.contents(path).unwrap(), before);
        assert_eq!(disk.contents(Path::new("/temp")), None);
    };
    for direct_io in [false, true] {
        for space in (0..before.len() as u64).step_by(7) {
            disk.set_space_left(Some(space));
            let failed = save_to(&disk, &store, direct_io).unwrap_err();
            assert_eq!(failed.error.raw_os_error(), Some(28), "{failed}");
            untouched(&disk);
        }
    }
    disk.set_space_left(None);
    disk.set_datasync_error(Some(5));
    assert_eq!(save_to(&disk, &store, true).unwrap_err().doing, "fdatasync");
    untouched(&disk);
    disk.set_datasync_error(None);
    for fails in ["create", "read back", "rename to", "flip"] {
        let faulty = Faulty {
            disk: disk.clone(),
            fails,
        };
        let failed = save_to(&faulty, &store, true).unwrap_err();
        let step = fails.replace("flip", "read back");
        // The end of the file is written through a file opened once more.
        let step = step.replace("read back", "read back|write the end of");
        assert!(step.contains(failed.doing), "{fails}: {failed}");
        untouched(&disk);
    }
    let faulty = Faulty {
        disk,
        fails: "fsync",
    };
    assert_eq!(save_to(&faulty, &store, true).unwrap_err().doing, "fsync");
    assert_eq!(faulty.disk.contents(Path::new("/temp")), None);
}

#[test]
fn snapshot_goes_past_the_page_cache_where_it_can() {
    let dir = std::env::temp_dir().join(format!("basalt-rdb-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let store = Store::new(2);
    for i in 0..30_000u32 {
        store.put(
            0,
            format!("key:{i}").as_bytes(),
            NewValue::Bytes(&i.to_le_bytes().repeat(40)),
            None,
        );
    }
    let options_of_save = SnapshotOptions {
        compress: false,
        checksum: true,
        threads: 2,
        direct_io: true,
        aof_base: false,
        unix_seconds: 0,
        used_memory: 0,
        ..SnapshotOptions::default()
    };
    let (temp, path) = (dir.join("temp"), dir.join("dump.rdb"));
    let saved = write_rdb(
        &OsStorage,
        &temp,
        &path,
        &store,
        &options_of_save,
        &Progress::default(),
    )
    .unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), saved.bytes);
    let loaded = Store::new(1);
    let stats = load_rdb(
        &OsStorage,
        &path,
        &options(2),
        &loaded,
        &Progress::default(),
    )
    .unwrap();
    assert!(stats.indexed);
    assert_eq!(loaded.contents(), store.contents());
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Values of some 9 MB, one of each form that is stored item by item, and strings.
fn store_of_large_values() -> Store {
    let store = Store::new(2);
    let limits = Limits::default();
    let text = |i: u32| format!("{:0>300}", i.wrapping_mul(2_654_435_761));
    let (mut hash, mut set) = (datatypes::Hash::new(), datatypes::Set::new());
    let (mut zset, mut list) = (datatypes::SortedSet::new(), datatypes::List::new());
    for i in 0..30_000 {
        hash.set(text(i).as_bytes(), b"the value of a field", &limits);
        set.add(text(i).as_bytes(), &limits);
        zset.insert(text(i).as_bytes(), f64::from(i), &limits);
        list.push_back(text(i).as_bytes(), &limits);
    }
    let value = |value| NewValue::Object(Box::new(value));
    let later = Some(UnixMillis(1_800_000_000_000));
    store.put(0, b"hash", value(datatypes::Value::Hash(hash)), None);
    store.put(1, b"set", value(datatypes::Value::Set(set)), later);
    store.put(0, b"zset", value(datatypes::Value::SortedSet(zset)), None);
    store.put(3, b"list", value(datatypes::Value::List(list)), None);
    store.put(0, b"small", NewValue::Bytes(b"x"), None);
    let mut stream = stream_with_groups(true);
    for i in 0..30_000 {
        let id = stream.last_id.next().unwrap();
        let (field, value) = (text(i / 100), text(i));
        let pairs = [field.as_bytes(), value.as_bytes()];
        stream.append(id, pairs.into_iter(), &limits).unwrap();
    }
    let stream = datatypes::Value::Stream(Box::new(stream));
    store.put(2, b"stream", value(stream), later);
    store.put(
        0,
        b"string",
        NewValue::Bytes(&b"0123456789".repeat(900_000)),
        None,
    );
    store
}

fn save_uncompressed(store: &Store, disk: &SimulatedStorage, path: &Path) {
    let options = SnapshotOptions {
        compress: false,
        ..SnapshotOptions::default()
    };
    let (temp, progress) = (Path::new("/temp"), Progress::default());
    write_rdb(disk, temp, path, store, &options, &progress).unwrap();
}

/// The same file as other servers write it, without an index.
fn without_index(mut bytes: Vec<u8>) -> Vec<u8> {
    let pointer = bytes
        .windows(AUX_INDEX.len())
        .rposition(|window| window == AUX_INDEX)
        .unwrap();
    bytes[pointer] ^= 0x20;
    let end = bytes.len() - 8;
    let checksum = crc::jones(&bytes[..end]);
    bytes[end..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// An AUX field, of lengths that a four-byte length tells.
fn aux(value: &[u8]) -> Vec<u8> {
    let len = (value.len() as u32).to_be_bytes();
    [&b"\xfa\x01a\x80"[..], &len, value].concat()
}

#[test]
fn fields_of_many_megabytes_are_passed_over() {
    let long = aux(&vec![b'x'; 20 << 20]);
    let set = |key: &str| record(0, key, b"\x01v");
    let file = old_file(&[long.clone(), b"\xfe\x03".to_vec(), set("a"), set("b"), long].concat());
    for threads in [1, 2] {
        let (store, stats) = load_bytes(&file, threads).unwrap();
        let keys: Vec<_> = store.contents().into_keys().collect();
        assert_eq!(keys, [(3, b"a".to_vec()), (3, b"b".to_vec())]);
        assert_eq!(stats.bytes, file.len() as u64);
    }
}

#[test]
fn an_expiry_is_of_the_next_key_whatever_stands_between() {
    let expiry = b"\xfc\x00\x00\x00\x00\x00\x00\x00\x7f";
    // The end of a piece would be behind the field.
    let between = [&aux(&vec![b'x'; 3 << 20])[..], b"\xfe\x02"].concat();
    let file = old_file(&[&expiry[..], &between, &record(0, "k", b"\x01v")].concat());
    let (store, _) = load_bytes(&file, 1).unwrap();
    let found = &store.contents()[&(2, b"k".to_vec())];
    assert!(found.contains("Some(9151314442816847872)"), "{found}");

    let loaded = load_bytes(&old_file(expiry), 1).map(|_| ());
    let error = loaded.expect_err("an expiry without a key");
    assert!(error.to_string().contains("belongs to no key"), "{error}");
}

/// The index says where records begin. A file that means something else with it than without is refused, or its index
/// is not believed.
#[test]
fn an_index_does_not_change_what_a_file_holds() {
    let (disk, path) = (SimulatedStorage::new(), Path::new("/dump.rdb"));
    let store = Store::new(2);
    store.put(5, b"k", NewValue::Bytes(b"v"), None);
    save_uncompressed(&store, &disk, path);
    let file = disk.contents(path).unwrap();
    let load = |change: &dyn Fn(&mut Vec<u8>)| {
        disk.edit(path, |bytes| {
            bytes.clone_from(&file);
            change(bytes);
        });
        let loaded = Store::new(1);
        let unchecked = LoadOptions {
            verify_checksum: false,
            ..options(1)
        };
        load_rdb(&disk, path, &unchecked, &loaded, &Progress::default())
            .map(|stats| stats.indexed)
            .map_err(|e| e.to_string())
    };
    assert_eq!(load(&|_| ()), Ok(true));
    // Without its SELECTDB the chunk would be of database 0 with the index, and of the one before without.
    let select = file.windows(2).rposition(|w| w == b"\xfe\x05").unwrap();
    let without_db = load(&|bytes| bytes[select..select + 2].copy_from_slice(b"\xf9\x00"));
    assert!(without_db.unwrap_err().contains("of no database"));
    // What stands behind the pointer to the index is the end of the file, or the pointer is none.
    let end = file.len() - 9;
    assert!(load(&|bytes| bytes[end] = 0x21).is_err());
}

#[test]
fn values_of_many_megabytes_load_through_a_window() {
    let store = store_of_large_values();
    let (disk, path) = (SimulatedStorage::new(), Path::new("/dump.rdb"));
    save_uncompressed(&store, &disk, path);
    let load = |options: &LoadOptions| {
        let loaded = Store::new(3);
        let progress = Progress::default();
        load_rdb(&disk, path, options, &loaded, &progress).map(|stats| (loaded, stats, progress))
    };
    let same = |loaded: &Store| loaded.contents() == store.contents();
    let (loaded, stats, _) = load(&options(2)).unwrap();
    assert!(stats.indexed && same(&loaded));
    let indexed = disk.contents(path).unwrap();
    for at in [indexed.len() / 9, indexed.len() - (3 << 20)] {
        disk.edit(path, |bytes| bytes[at] ^= 0x41);
        let Err(RdbLoadError::Rdb { error, .. }) = load(&options(2)).map(|_| ()) else {
            panic!("a damaged file loads")
        };
        assert!(
            matches!(error.kind, RdbErrorKind::Checksum { .. }),
            "{error}"
        );
        disk.edit(path, |bytes| bytes[at] ^= 0x41);
    }
    let plain = without_index(indexed);
    disk.edit(path, |bytes| bytes.clone_from(&plain));
    for threads in [1, 2] {
        let (loaded, stats, progress) = load(&options(threads)).unwrap();
        assert!(!stats.indexed && stats.keys == 7 && same(&loaded));
        assert_eq!(progress.keys(), 7);
        assert!(progress.bytes() > stats.bytes * 9 / 10 && progress.bytes() <= stats.bytes);
    }
    let late = LoadOptions {
        now: UnixMillis(1_900_000_000_000),
        ..options(2)
    };
    let (_, stats, _) = load(&late).unwrap();
    assert_eq!((stats.keys, stats.expired), (5, 2));
    // Cut off anywhere, it is an error at an offset within what is left.
    for len in [plain.len() / 7, plain.len() / 2, plain.len() * 6 / 7] {
        disk.edit(path, |bytes| *bytes = plain[..len].to_vec());
        let Err(RdbLoadError::Rdb { error, .. }) = load(&options(2)).map(|_| ()) else {
            panic!("half a file loads")
        };
        assert!(
            matches!(error.kind, RdbErrorKind::UnexpectedEnd { .. }),
            "{error}"
        );
        assert!(error.offset <= len as u64);
    }
}

proptest! {
    #[test]
    fn any_records_load_or_fail(records in proptest::collection::vec(any::<u8>(), 0..300), threads in 1usize..3) {
        let _ = load_bytes(&old_file(&records), threads);
        let _ = load_bytes(&records, threads);
    }

    #[test]
    fn any_change_of_a_real_file_loads_or_fails(
        which in 0usize..3,
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = golden(["redis-7.0.rdb", "redis-8.0.rdb", "valkey-9.1.rdb"][which]);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let unchecked = LoadOptions { verify_checksum: false, ..options(1) };
        let _ = load_stream(&bytes[..], Some(bytes.len() as u64), &unchecked, &Store::new(2), &Progress::default());
    }

    #[test]
    fn any_payload_restores_or_fails(type_ in 0u8..30, body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = load_dump(&body, &Limits::default());
        let _ = load_dump(&sealed([&[type_][..], &body].concat(), 11), &Limits::default());
    }
}
