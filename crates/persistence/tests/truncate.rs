//! Going back to a point: over all segments, generations and files of stock servers.

mod common;

use common::segments::*;
use common::Store;
use datatypes::Rng;
use keyspace::{Lsn, NewValue, ShardIndex};
use persistence::aof::cut::{Cause, JOURNAL, REPORTS_MAX};
use persistence::aof::manifest::{AofFile, FileKind, Found, Manifest};
use persistence::aof::point::Point;
use persistence::aof::truncate::{apply, plan, Plan, PlanOptions};
use persistence::aof::AofError;
use persistence::progress::Progress;
use persistence::rdb::snapshot::{write_rdb, SnapshotOptions};
use persistence::storage::simulated::{Operation, Verdict};
use persistence::storage::{write_all_at, Open, Storage};
use std::ffi::OsStr;
use std::path::Path;

fn options(os_crashed: bool) -> PlanOptions {
    PlanOptions {
        threads: 2,
        os_crashed,
        now_ms: NOON + 1_000_000,
    }
}

fn plan_of(set: &Segments, point: Point) -> Result<Plan, AofError> {
    plan(&set.disk, &dir(), &set.manifest, point, &options(false))
}

/// Plans and applies, and loads what the manifest then says.
fn restore(set: &Segments, point: Point) -> Vec<String> {
    let before = all_files(set);
    let planned = plan_of(set, point).unwrap();
    assert_eq!(all_files(set), before, "a plan changes nothing");
    restore_as(set, &planned)
}

fn restore_as(set: &Segments, planned: &Plan) -> Vec<String> {
    set.manifest
        .store(&set.disk, &dir(), OsStr::new(PREFIX))
        .unwrap();
    apply(&set.disk, &dir(), Some(OsStr::new(PREFIX)), planned, NOON).unwrap();
    let manifest = stored(set);
    // What is left needs no more cuts, not even after a crash of the system.
    let (lines, loaded) = load(&set.disk, &manifest, false, false).unwrap();
    assert_eq!(loaded.cuts, []);
    sorted(lines)
}

fn stored(set: &Segments) -> Manifest {
    let (parent, name) = (Path::new("/data"), OsStr::new("appendonlydir"));
    match Manifest::load(&set.disk, parent, name, OsStr::new(PREFIX)).unwrap() {
        Found::Manifest(manifest) => manifest,
        other => panic!("{other:?}"),
    }
}

fn all_files(set: &Segments) -> Vec<(String, Vec<u8>)> {
    let mut names = set.disk.list(&dir()).unwrap();
    names.sort();
    names
        .into_iter()
        .map(|name| {
            let bytes = set.disk.contents(&dir().join(&name)).unwrap();
            (name.to_string_lossy().into_owned(), bytes)
        })
        .collect()
}

/// Writes to both shards in turn, one a second: `SET a 0` at noon, `SET b 1` a second later, and so on.
fn in_turn(count: i64) -> Segments {
    let mut set = Segments::new(2);
    for i in 0..count {
        let key = if i % 2 == 0 { "a" } else { "b" };
        let command = format!("SET {key} {i}");
        set.append_at(
            (i % 2) as usize,
            1,
            NOON + 1000 * i,
            &["SELECT 0", &command],
        );
    }
    set
}

fn first(count: usize) -> Vec<String> {
    sorted(
        (0..count)
            .map(|i| format!("0: SET {} {i}", if i % 2 == 0 { "a" } else { "b" }))
            .collect(),
    )
}

fn time(after_noon_ms: i64) -> Point {
    Point::Time(NOON + after_noon_ms)
}

#[test]
fn all_shards_go_back_to_a_time() {
    for count in 1..=6 {
        let set = in_turn(6);
        let at = time(1000 * (count - 1));
        assert_eq!(restore(&set, at), first(count as usize));
        let set = in_turn(6);
        let before_next = time(1000 * count - 1);
        assert_eq!(restore(&set, before_next), first(count as usize));
    }
}

#[test]
fn what_goes_is_told_kept_and_reported() {
    let set = in_turn(6);
    let path = set.path(1);
    let before = set.disk.contents(&path).unwrap();
    let planned = plan_of(&set, time(2000)).unwrap();
    let text = planned.describe().join("\n");
    for told in [
        "shard 0 of 2",
        "shard 1 of 2",
        "db0:\"a\"",
        "db0:\"b\"",
        "22:13:21.000Z",
    ] {
        assert!(text.contains(told), "{told} in:\n{text}");
    }
    let done = {
        set.manifest
            .store(&set.disk, &dir(), OsStr::new(PREFIX))
            .unwrap();
        apply(&set.disk, &dir(), Some(OsStr::new(PREFIX)), &planned, NOON).unwrap()
    };
    assert_eq!(done.cause, Some(Cause::Restore));
    let report = done.report.unwrap();
    let text = String::from_utf8(set.disk.contents(&report).unwrap()).unwrap();
    assert!(
        text.contains("4 commands on 2 keys") || text.contains("3 commands on 2 keys"),
        "{text}"
    );
    let cut = planned.cuts.iter().find(|cut| cut.path == path).unwrap();
    let kept_name = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("the bytes are in: "))
        .find(|name| name.contains(path.file_name().unwrap().to_str().unwrap()))
        .unwrap();
    let tail = set.disk.contents(&dir().join(kept_name)).unwrap();
    assert_eq!(tail, before[cut.offset as usize..]);
    assert_eq!(
        set.disk.contents(&path).unwrap(),
        before[..cut.offset as usize]
    );
    assert!(set.disk.contents(&dir().join(JOURNAL)).is_none());
}

#[test]
fn positions_go_back_in_one_shard_and_in_time_in_the_others() {
    let set = in_turn(6);
    let ends: Vec<u64> = plan_of(&set, time(5000))
        .unwrap()
        .kept
        .iter()
        .map(|file| file.end.unwrap().lsn.0)
        .collect();
    assert_eq!(ends.len(), 2);
    let block = (ends[0] - 100) / 3;
    // The first shard up to its second block (the third command of all): the other keeps what is earlier than the
    // first one that goes.
    let point = Point::Lsn(Some(ShardIndex(0)), Lsn(100 + 2 * block));
    assert_eq!(restore(&set, point), first(4));
    for (point, why) in [
        (Point::Lsn(None, Lsn(100 + block)), "SHARD:LSN"),
        (Point::Lsn(Some(ShardIndex(2)), Lsn(100)), "no shard 2"),
        (
            Point::Lsn(Some(ShardIndex(0)), Lsn(99)),
            "begins at LSN 100",
        ),
        (Point::Lsn(Some(ShardIndex(0)), Lsn(ends[0] + 1)), "ends at"),
    ] {
        let error = plan_of(&in_turn(6), point).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn position_within_a_block_cuts_between_commands() {
    let block = [
        "SELECT 0", "SET a 1", "MULTI", "SET b 2", "DEL a", "EXEC", "SET c 3",
    ];
    let lens: Vec<u64> = block
        .iter()
        .map(|line| commands(&[line]).len() as u64)
        .collect();
    let position = |lines: usize| 100 + lens[..lines].iter().sum::<u64>();
    for lsn in 100..=position(block.len()) {
        let mut set = Segments::new(1);
        set.append(0, 1, &block);
        set.append_at(0, 1, NOON + 1000, &["SET d 4"]);
        let lines = restore(&set, Point::Lsn(None, Lsn(lsn)));
        let expected = match lsn {
            _ if lsn < position(2) => 0,
            _ if lsn < position(6) => 1,
            _ if lsn < position(7) => 3,
            _ => 4,
        };
        assert_eq!(lines.len(), expected, "LSN {lsn}");
        // And again, by the time of that block: the seal put in did not make it younger.
        set.manifest = stored(&set);
        if lsn >= position(1) {
            assert_eq!(restore(&set, time(0)).len(), expected, "LSN {lsn}");
        }
    }
}

#[test]
fn transactions_stay_whole() {
    let mut set = in_turn(2);
    set.append_transaction(0, 1, 7, "SET a 7");
    // The other half reached its file a moment later.
    let mut block = Vec::new();
    persistence::aof::annotation::put_transaction(&mut block, 7, &[ShardIndex(0), ShardIndex(1)]);
    block.extend(commands(&["MULTI", "SET b 7", "EXEC"]));
    let later = persistence::aof::Stamp {
        unix_ms: NOON + 5000,
        ..stamp(1)
    };
    set.writers[1].append(&mut block, later).unwrap();
    assert_eq!(restore(&set, time(4999)), first(2));
}

#[test]
fn later_generations_go_whole_and_the_manifest_with_them() {
    let with_three = || {
        let mut set = in_turn(2);
        set.next_generation();
        set.append_at(0, 2, NOON + 10_000, &["SELECT 0", "SET a later"]);
        set.next_generation();
        set.append_at(1, 3, NOON + 20_000, &["SELECT 0", "SET b last"]);
        set
    };
    let set = with_three();
    assert_eq!(restore(&set, time(500)), first(1));
    assert_eq!(stored(&set).generation_last(), 1);
    let set = with_three();
    let lines = restore(&set, time(15_000));
    assert_eq!(lines, ["0: SET a 0", "0: SET a later", "0: SET b 1"]);
    // The last generation is there, and empty.
    assert_eq!(stored(&set).generation_last(), 3);
    // A position that both the end of the first generation and the head of the second have is of the first.
    let set = with_three();
    let end = plan_of(&set, time(500)).unwrap().kept[0].end.unwrap().lsn;
    let lines = restore(&set, Point::Lsn(Some(ShardIndex(0)), end));
    assert_eq!(lines, first(2));
    assert_eq!(stored(&set).generation_last(), 1);
}

#[test]
fn point_before_everything_names_the_earliest() {
    let set = in_turn(2);
    let error = plan_of(&set, time(-1)).unwrap_err().to_string();
    assert!(error.contains("2023-11-14 22:13:20.000Z"), "{error}");

    let mut set = in_turn(2);
    let source = Store::new(1);
    source.put(0, b"base", NewValue::Bytes(b"1"), None);
    let base = set.manifest.next_base(OsStr::new(PREFIX), true);
    let path = dir().join(&base.name);
    set.manifest.files.insert(0, base);
    let snapshot = SnapshotOptions {
        compress: true,
        checksum: true,
        threads: 1,
        direct_io: false,
        aof_base: true,
        unix_seconds: NOON / 1000 - 3,
        used_memory: 1,
        incremental_sync: false,
        verify: false,
    };
    write_rdb(
        &set.disk,
        Path::new("/t"),
        &path,
        &source,
        &snapshot,
        &Progress::default(),
    )
    .unwrap();
    let error = plan_of(&set, time(-3000)).unwrap_err().to_string();
    assert!(error.contains("2023-11-14 22:13:17.999Z"), "{error}");
    let planned = plan_of(&set, time(-2001)).unwrap();
    assert_eq!(planned.cuts.len(), 2);
    // Its checksum is looked at before anything goes.
    set.disk
        .edit(&path, |bytes| *bytes.last_mut().unwrap() ^= 1);
    let error = plan_of(&set, time(0)).unwrap_err();
    assert!(matches!(error, AofError::Rdb { .. }), "{error}");
}

#[test]
fn damage_before_the_point_stops_it_and_behind_it_does_not() {
    let damaged = |at: u64| {
        let set = in_turn(6);
        set.disk.edit(&set.path(0), |bytes| bytes[at as usize] ^= 1);
        set
    };
    let offsets: Vec<u64> = (0..3)
        .map(|i| {
            let planned = plan_of(&in_turn(6), time(2000 * i)).unwrap();
            planned.kept[0].len
        })
        .collect();
    let set = damaged(offsets[1] + 30);
    assert_eq!(restore(&set, time(2000)), first(3));
    let set = damaged(offsets[0] + 30);
    let error = plan_of(&set, time(2000)).unwrap_err();
    let AofError::Damaged { lsn: Some(lsn), .. } = error else {
        panic!("{error}");
    };
    // The position that the error names as intact is a way out.
    assert_eq!(
        restore(&set, Point::Lsn(Some(ShardIndex(0)), lsn)),
        first(2)
    );
}

/// Two shards with a mistake in the second generation, all of it durable, and the manifest stored.
fn durable_set() -> Segments {
    let mut set = in_turn(6);
    set.next_generation();
    set.append_at(0, 2, NOON + 10_000, &["SELECT 0", "SET a later"]);
    for entry in &set.manifest.files {
        let file = set
            .disk
            .open(&dir().join(&entry.name), Open::Write)
            .unwrap();
        file.datasync().unwrap();
    }
    set.manifest
        .store(&set.disk, &dir(), OsStr::new(PREFIX))
        .unwrap();
    set
}

#[test]
fn crash_at_any_operation_leaves_all_of_it_done_or_nothing() {
    // In the middle of a block, so that there is a seal to be written too.
    let point = {
        let kept = plan_of(&durable_set(), time(2000)).unwrap().kept;
        Point::Lsn(Some(ShardIndex(0)), Lsn(kept[0].end.unwrap().lsn.0 + 25))
    };
    let before = sorted(
        load(&durable_set().disk, &durable_set().manifest, false, false)
            .unwrap()
            .0,
    );
    let after = restore(&durable_set(), point);
    assert_ne!(before, after);
    let (mut seen_before, mut seen_after) = (0, 0);
    for (stop_at, system) in (0..200).flat_map(|n| [(n, false), (n, true)]) {
        let set = durable_set();
        let planned = plan_of(&set, point).unwrap();
        let mut operations = 0;
        let faults = move |operation: &Operation<'_>| {
            operations += 1;
            match operations > stop_at {
                true => Verdict::Stop(operation.bytes / 2),
                false => Verdict::Proceed,
            }
        };
        set.disk.set_faults(Some(Box::new(faults)), 1);
        let applied = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            apply(&set.disk, &dir(), Some(OsStr::new(PREFIX)), &planned, NOON).map(|_| ())
        }));
        let mut rng = Rng::from_seed(stop_at as u64);
        let disk = match system {
            true => set.disk.after_os_crash(|| rng.next_u64()),
            false => set.disk.after_process_crash(),
        };
        let context = format!("stopped at operation {stop_at}, the system too: {system}");
        let set = Segments { disk, ..set };
        let (lines, loaded) = load(&set.disk, &stored(&set), false, false)
            .unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(loaded.cuts, [], "{context}");
        let lines = sorted(lines);
        match lines == after {
            true => seen_after += 1,
            false => {
                assert_eq!(lines, before, "{context}: neither before nor after");
                assert!(applied.is_err(), "{context}: done, and not there");
                seen_before += 1;
            }
        }
        if applied.is_ok() && system {
            break;
        }
    }
    assert!(
        seen_before > 10 && seen_after > 10,
        "{seen_before} {seen_after}"
    );
}

#[test]
fn journal_that_is_damaged_is_refused() {
    let set = in_turn(6);
    set.manifest
        .store(&set.disk, &dir(), OsStr::new(PREFIX))
        .unwrap();
    let file = set.disk.open(&dir().join(JOURNAL), Open::Create).unwrap();
    write_all_at(
        &*file,
        b"basalt-recovery 1\ncut x 0 \"\"\ncrc 0000000000000000\n",
        0,
    )
    .unwrap();
    let (parent, name) = (Path::new("/data"), OsStr::new("appendonlydir"));
    assert!(Manifest::load(&set.disk, parent, name, OsStr::new(PREFIX)).is_err());
}

#[test]
fn crash_of_the_system_and_a_point_go_together() {
    let mut set = in_turn(2);
    // Only the first shard's write of the second epoch survived, and the third epoch's of the other.
    set.append_at(0, 2, NOON + 2000, &["SET a 2"]);
    set.append_at(0, 3, NOON + 4000, &["SET a 4"]);
    let planned = plan(&set.disk, &dir(), &set.manifest, time(3000), &options(true)).unwrap();
    // Epoch 1 is not whole in the second shard: nothing of it counts.
    assert_eq!(restore_as(&set, &planned), Vec::<String>::new());
    assert_eq!(stored(&set).run, None);
}

#[test]
fn files_of_stock_servers_are_cut_at_their_timestamps() {
    let stock = |text: &[u8]| {
        let mut set = Segments::new(1);
        let file = set.disk.open(&dir().join("x.aof"), Open::Create).unwrap();
        write_all_at(&*file, text, 0).unwrap();
        set.disk.sync_dir(&dir()).unwrap();
        set.manifest.files = vec![AofFile {
            name: "x.aof".into(),
            seq: 1,
            kind: FileKind::Incr,
            segment: None,
            closed: None,
            extra: Vec::new(),
        }];
        set
    };
    let mut text = Vec::new();
    for i in 0..4 {
        text.extend(format!("#TS:{}\r\n", NOON / 1000 + i).bytes());
        let command = format!("SET k {i}");
        text.extend(commands(&["SELECT 0", "MULTI", &command, "EXEC"]));
    }
    for i in 0..4 {
        let set = stock(&text);
        // As Redis does: all of the second that is named.
        let point = Point::parse(&format!("{}", NOON / 1000 + i)).unwrap();
        assert_eq!(restore(&set, point).len(), i as usize + 1);
    }
    let error = plan_of(&stock(&text), time(-1)).unwrap_err();
    assert!(matches!(error, AofError::OutOfReach { .. }), "{error}");
    let error = plan_of(&stock(&text), Point::Lsn(None, Lsn(5))).unwrap_err();
    assert!(error.to_string().contains("positions"), "{error}");
    let undated = plan_of(&stock(&commands(&["SELECT 0", "SET a 1"])), time(0)).unwrap();
    assert_eq!((undated.undated.len(), undated.cuts.len()), (1, 0));

    // A stock server went on with a segment of ours.
    let mut set = in_turn(1);
    set.manifest.files.truncate(1);
    let tail = [&text[..], b"#TS:9999999999\r\n", &commands(&["SET z 1"])].concat();
    set.disk.edit(&set.path(0), |bytes| bytes.extend(tail));
    assert_eq!(restore(&set, time(2500)).len(), 1 + 3);
}

#[test]
fn reports_are_bounded() {
    let set = in_turn(6);
    let path = set.path(0);
    let whole = set.disk.contents(&path).unwrap();
    for i in 0..2 * REPORTS_MAX {
        set.disk.edit(&path, |bytes| {
            *bytes = whole.clone();
            bytes.truncate(whole.len() - 1 - i % 20);
        });
        set.load().unwrap();
    }
    let names: Vec<String> = all_files(&set).into_iter().map(|(name, _)| name).collect();
    let reports = names.iter().filter(|name| name.ends_with(".txt")).count();
    let tails = names.iter().filter(|name| name.contains(".from-")).count();
    assert_eq!((reports, tails), (REPORTS_MAX, REPORTS_MAX), "{names:?}");
}
