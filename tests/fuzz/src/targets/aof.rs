//! A set of append-only files. Input: a byte of choices, and files: `%%FILE NAME`, a line end, bytes up to the next one.
//! Without a manifest among them, one is made up that names them all.
//!
//! A set is loaded or refused; what was refused is as it was; what was loaded can be gone on with, and loads again,
//! without a word and with the same content. A set that was cut back to a point loads, with nothing in it that was not
//! there before.

mod seals;

use crate::content::{Collected, Command, Keys};
use keyspace::{Lsn, ShardIndex, UnixMillis};
use persistence::aof::cut::{finish_pending, JOURNAL};
use persistence::aof::manifest::{AofFile, FileKind, Found, Manifest};
use persistence::aof::point::Point;
use persistence::aof::recover::{load_aof, AofLoadOptions, AofLoaded};
use persistence::aof::reseal;
use persistence::aof::scan::{scan_segment, SegmentScan};
use persistence::aof::segment::SegmentWriter;
use persistence::aof::survey::{survey, SurveyOptions};
use persistence::aof::truncate::{apply, plan, PlanOptions};
use persistence::aof::{AofError, Stamp};
use persistence::commands::put_command;
use persistence::progress::Progress;
use persistence::rdb::load::LoadOptions;
use persistence::storage::simulated::SimulatedStorage;
use persistence::storage::sync::SyncPolicy;
use persistence::storage::{write_all_at, Open, Storage};
use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

const MARK: &[u8] = b"%%FILE ";
const PREFIX: &str = "appendonly.aof";
const FILES_MAX: usize = 8;

type Files = BTreeMap<Vec<u8>, Vec<u8>>;

fn dir() -> &'static Path {
    Path::new("/data/appendonlydir")
}

fn manifest_path() -> PathBuf {
    dir().join(format!("{PREFIX}.manifest"))
}

pub fn run(input: &[u8]) {
    let Some((&choice, rest)) = input.split_first() else {
        return;
    };
    let mut files = split(rest);
    if choice & 1 != 0 {
        for (name, bytes) in &mut files {
            *bytes = match name == JOURNAL.as_bytes() {
                true => seals::journal(bytes),
                false => seals::renewed(bytes),
            };
        }
    }
    let options = AofLoadOptions {
        rdb: LoadOptions {
            threads: if choice & 2 != 0 { 2 } else { 1 },
            limits: Default::default(),
            now: UnixMillis(1_000_000),
            skip_expired: true,
            databases: 16,
            verify_checksum: choice & 4 != 0,
        },
        load_truncated: choice & 8 == 0,
        corrupt_tail_bytes_max: if choice & 32 != 0 { 100 } else { 0 },
        os_crashed: choice & 16 != 0,
    };
    let disk = SimulatedStorage::new();
    for (name, bytes) in &files {
        put(&disk, &dir().join(OsStr::from_bytes(name)), bytes);
    }
    for name in files.keys() {
        scan(&disk, &dir().join(OsStr::from_bytes(name)));
    }
    // As a server does before it reads anything else. A damaged journal stops it.
    match finish_pending(&disk, dir()) {
        Ok(true) => files.retain(|name, _| name != JOURNAL.as_bytes()),
        Ok(false) => {}
        Err(error) => return drop(error.to_string()),
    }
    // Cuts may have dropped some.
    files.retain(|name, _| {
        disk.contents(&dir().join(OsStr::from_bytes(name)))
            .is_some()
    });
    let Some(manifest) = manifest_of(&disk, &files) else {
        return;
    };
    // Its own journal is no place for a file of the set.
    if manifest.files.iter().any(|file| file.name == JOURNAL) {
        return;
    }
    survey_and_reseal(&disk, &manifest, &options);
    recover(&disk, &manifest, &options);
    if choice & 64 != 0 {
        go_back(&disk, &manifest, &options, persistence::crc::jones(input));
    }
}

fn put(disk: &SimulatedStorage, path: &Path, bytes: &[u8]) {
    let file = disk.open(path, Open::Create).expect("a disk in memory");
    write_all_at(&*file, bytes, 0).expect("a disk in memory");
}

fn split(input: &[u8]) -> Files {
    let mut files = Files::new();
    let mut rest = input;
    while files.len() < FILES_MAX {
        let Some(named) = rest.strip_prefix(MARK) else {
            break;
        };
        let Some(at) = named.iter().position(|&b| b == b'\n') else {
            break;
        };
        let (name, bytes) = (&named[..at], &named[at + 1..]);
        let end = bytes
            .windows(MARK.len())
            .position(|window| window == MARK)
            .unwrap_or(bytes.len());
        let plain = !name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/');
        if plain && !name.contains(&0) {
            files.insert(name.to_vec(), bytes[..end].to_vec());
        }
        rest = &bytes[end..];
    }
    files
}

/// The set's own manifest as the server reads it, or one that names all files in order.
fn manifest_of(disk: &SimulatedStorage, files: &Files) -> Option<Manifest> {
    if disk.contents(&manifest_path()).is_some() {
        let names = (OsStr::new("appendonlydir"), OsStr::new(PREFIX));
        return match Manifest::load(disk, Path::new("/data"), names.0, names.1) {
            Ok(Found::Manifest(manifest) | Found::Upgraded(manifest)) => Some(manifest),
            Ok(Found::Nothing) => unreachable!("it is there"),
            Err(error) => {
                drop(error.to_string());
                None
            }
        };
    }
    let mut manifest = Manifest::default();
    for (i, name) in files.keys().enumerate() {
        let is_base = name.windows(6).any(|part| part == b".base.");
        let kind = match manifest.base() {
            None if is_base => FileKind::Base,
            _ => FileKind::Incr,
        };
        manifest.files.push(AofFile {
            name: OsStr::from_bytes(name).to_owned(),
            seq: i as u64 + 1,
            kind,
            segment: None,
            closed: None,
            extra: Vec::new(),
        });
    }
    (!manifest.files.is_empty()).then_some(manifest)
}

/// Scans a file by itself: positions in order, and the part that counts is without flaw.
fn scan(disk: &SimulatedStorage, path: &Path) {
    let file = disk.open(path, Open::Read).expect("it was put there");
    let len = file.len().expect("a disk in memory");
    let scan = |end| -> SegmentScan {
        scan_segment(file.clone(), path, 0, end).expect("a disk in memory does not fail")
    };
    let first = scan(len);
    assert!(first.head_len <= first.sealed_len && first.sealed_len <= first.kept_len);
    assert!(first.promised_len <= first.sealed_len && first.kept_len <= len);
    assert!(first.flaw.is_some() || first.kept_len == len || first.head.is_none());
    for transaction in &first.transactions {
        assert!(transaction.begin < transaction.end && transaction.end <= first.kept_len);
    }
    let again = scan(first.kept_len);
    assert_eq!(again.flaw, None, "{first:?}");
    assert_eq!(
        (again.sealed_len, again.lsn, again.crc),
        (first.sealed_len, first.lsn, first.crc)
    );
}

fn load(
    disk: &SimulatedStorage,
    manifest: &Manifest,
    options: &AofLoadOptions,
) -> Result<(Keys, Vec<Command>, AofLoaded), AofError> {
    let found = Collected::default();
    let progress = Progress::default();
    let loaded = load_aof(disk, dir(), manifest, options, &found, &progress)?;
    let keys = std::mem::take(&mut *found.keys.lock().expect("no target goes on after a panic"));
    Ok((keys, found.into_commands(), loaded))
}

fn contents(disk: &SimulatedStorage, manifest: &Manifest) -> Vec<Option<Vec<u8>>> {
    let paths = manifest.files.iter().map(|file| dir().join(&file.name));
    paths.map(|path| disk.contents(&path)).collect()
}

fn recover(disk: &SimulatedStorage, manifest: &Manifest, options: &AofLoadOptions) {
    let before = contents(disk, manifest);
    let (keys, commands, loaded) = match load(disk, manifest, options) {
        Ok(loaded) => loaded,
        Err(error) => {
            drop(error.to_string());
            assert_eq!(
                contents(disk, manifest),
                before,
                "refused and changed: {error}"
            );
            return;
        }
    };
    assert_eq!(loaded.commands, commands.len() as u64);
    // Whatever was cut, what is left is whole: also for a server that may cut nothing.
    let strict = AofLoadOptions {
        load_truncated: false,
        corrupt_tail_bytes_max: 0,
        ..options.clone()
    };
    let (keys_again, commands_again, again) =
        load(disk, manifest, &strict).expect("what was recovered loads");
    assert_eq!((&keys, &commands), (&keys_again, &commands_again));
    assert_eq!(again.cuts, []);
    go_on(disk, manifest, &strict, &loaded, (keys, commands));
}

/// Appends a command to each segment that writers may go on with.
fn go_on(
    disk: &SimulatedStorage,
    manifest: &Manifest,
    options: &AofLoadOptions,
    loaded: &AofLoaded,
    (keys, mut commands): (Keys, Vec<Command>),
) {
    let stamp = Stamp {
        unix_ms: 1_000_000,
        epoch: loaded.epoch_last + 1,
        policy: SyncPolicy::EverySecond,
    };
    for segment in &loaded.segments {
        let mut writer = SegmentWriter::resume(disk, &segment.path, &segment.end, stamp)
            .expect("a disk in memory does not fail");
        let words: [&[u8]; 2] = [b"DEL", b"appended"];
        let mut block = Vec::new();
        put_command(&mut block, &[b"SELECT", b"0"]);
        put_command(&mut block, &words);
        writer
            .append(&mut block, stamp)
            .expect("a disk in memory does not fail");
        commands.push((0, words.map(<[u8]>::to_vec).to_vec()));
    }
    commands.sort();
    let options = AofLoadOptions {
        os_crashed: false,
        ..options.clone()
    };
    let (keys_again, commands_again, _) =
        load(disk, manifest, &options).expect("what was appended loads");
    assert_eq!((keys, commands), (keys_again, commands_again));
}

/// What `basalt-check-aof` does: it looks and changes nothing, and it seals copies again.
fn survey_and_reseal(disk: &SimulatedStorage, manifest: &Manifest, options: &AofLoadOptions) {
    let before = contents(disk, manifest);
    let looked = SurveyOptions {
        threads: 1,
        os_crashed: options.os_crashed,
        now_ms: 1_000_000,
        alone: false,
    };
    match survey(disk, dir(), manifest, &looked) {
        Ok(survey) => {
            survey.is_good();
        }
        Err(error) => drop(error.to_string()),
    }
    assert_eq!(contents(disk, manifest), before, "a survey changes nothing");
    for (file, bytes) in manifest.files.iter().zip(before) {
        let (Some(bytes), path) = (bytes, dir().join(&file.name)) else {
            continue;
        };
        let copy = SimulatedStorage::new();
        put(&copy, &path, &bytes);
        match reseal::apply(&copy, &path, file.segment, &HashSet::new()) {
            Ok(_) => scan(&copy, &path),
            Err(error) => drop(error.to_string()),
        }
    }
}

/// Cuts back to a time or a position.
fn go_back(disk: &SimulatedStorage, manifest: &Manifest, options: &AofLoadOptions, number: u64) {
    let point = match number % 4 {
        0 => Point::Time(1_700_000_000_000 + (number >> 8 & 3) as i64 - 1),
        1 => Point::Time((number >> 8) as i64),
        _ => Point::Lsn(
            Some(ShardIndex((number >> 8 & 1) as u16)),
            Lsn(number >> 16 & 0xFF),
        ),
    };
    let planned = PlanOptions {
        threads: 1,
        os_crashed: options.os_crashed,
        now_ms: 1_000_000,
    };
    let Ok((_, all, _)) = load(disk, manifest, options) else {
        return;
    };
    let before = contents(disk, manifest);
    let plan = plan(disk, dir(), manifest, point, &planned);
    assert_eq!(contents(disk, manifest), before, "a plan changes nothing");
    let Ok(plan) = plan.map_err(|error| error.to_string()) else {
        return;
    };
    plan.describe();
    apply(disk, dir(), None, &plan, 1_000_000).expect("a disk in memory does not fail");
    let strict = AofLoadOptions {
        load_truncated: false,
        corrupt_tail_bytes_max: 0,
        ..options.clone()
    };
    let (_, left, again) = load(disk, &plan.manifest, &strict).expect("what was cut back loads");
    assert_eq!(again.cuts, []);
    let mut all = all.iter();
    for command in &left {
        assert!(
            all.any(|known| known == command),
            "{command:?} was not there"
        );
    }
}
