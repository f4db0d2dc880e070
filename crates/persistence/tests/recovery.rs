//! Append-only files on a simulated disk: written, damaged, cut, recovered.

mod common;

use common::segments::*;
use common::Store;
use datatypes::Rng;
use keyspace::{DbIndex, Lsn, NewValue, ShardIndex, UnixMillis};
use persistence::aof::annotation::put_transaction;
use persistence::aof::cut::{self, Cause};
use persistence::aof::manifest::{AofFile, Closed, FileKind, Manifest};
use persistence::aof::recover::{load_aof, AofLoadOptions, ReplaySink};
use persistence::aof::replay::CommandReceiver;
use persistence::aof::scan::{scan_segment, FlawKind};
use persistence::aof::segment::SegmentWriter;
use persistence::aof::{AofError, SegmentId, Stamp};
use persistence::progress::Progress;
use persistence::rdb::snapshot::{write_commands, write_rdb, SnapshotOptions};
use persistence::storage::simulated::{Operation, SimulatedStorage, Verdict};
use persistence::storage::sync::SyncPolicy;
use persistence::storage::{write_all_at, Open, Storage};
use std::ffi::OsStr;
use std::path::Path;

#[test]
fn what_was_appended_is_replayed_and_the_writer_goes_on() {
    let mut set = Segments::new(2);
    set.append(
        0,
        1,
        &["SELECT 3", "SET a 1", "MULTI", "SET b 2", "DEL a", "EXEC"],
    );
    set.append(1, 1, &["SELECT 0", "SET c 1"]);
    set.append(1, 1, &[]);
    set.append(0, 2, &["SET d 4"]);
    let (lines, loaded) = set.load().unwrap();
    assert_eq!(
        sorted(lines),
        [
            "0: SET c 1",
            "3: DEL a",
            "3: SET a 1",
            "3: SET b 2",
            "3: SET d 4"
        ]
    );
    assert!(loaded.cuts.is_empty());
    assert_eq!(
        (loaded.epoch_last, loaded.commands, loaded.segments.len()),
        (2, 5, 2)
    );
    assert_eq!(loaded.segments[0].end.lsn, set.writers[0].lsn());
    for (shard, segment) in loaded.segments.iter().enumerate() {
        let mut writer =
            SegmentWriter::resume(&set.disk, &segment.path, &segment.end, stamp(3)).unwrap();
        assert_eq!(
            (writer.lsn(), writer.len()),
            (set.writers[shard].lsn(), set.writers[shard].len())
        );
        writer
            .append(&mut commands(&["SELECT 9", "SET later x"]), stamp(3))
            .unwrap();
    }
    assert_eq!(set.load().unwrap().0.len(), 7);
}

#[test]
fn every_torn_tail_is_cut_at_a_block() {
    let mut set = Segments::new(1);
    set.append(0, 1, &["SELECT 0", "SET a 1"]);
    let first = set.writers[0].len();
    set.append(0, 1, &["SET b 2", "SET c 3"]);
    let path = set.path(0);
    let whole = set.disk.contents(&path).unwrap();
    let head = whole.iter().position(|&b| b == b'\n').unwrap() as u64 + 1;
    for len in 0..whole.len() as u64 {
        set.disk
            .edit(&path, |bytes| *bytes = whole[..len as usize].to_vec());
        // An unsealed block that begins with SELECT is what a stock server appends.
        let foreign = (head + 23..first).contains(&len);
        let refused = load(&set.disk, &set.manifest, false, false);
        let (lines, loaded) = set.load().unwrap_or_else(|e| panic!("cut at {len}: {e}"));
        let expected = if len >= first || (foreign && len >= head + 23 + 27) {
            1
        } else {
            0
        };
        assert_eq!(lines.len(), expected, "cut at {len}");
        let clean = len == 0 || len == head || len == first;
        assert!(
            clean || !loaded.cuts.is_empty() || foreign,
            "cut at {len} is reported"
        );
        if len > 0 && !clean && !foreign {
            assert!(
                matches!(refused, Err(AofError::Truncated { .. })),
                "cut at {len}"
            );
        }
        // The cut is on disk, and a writer goes on behind it, or a new generation begins.
        let (again, repaired) = load(&set.disk, &set.manifest, false, false).unwrap();
        assert_eq!(
            (again.len(), repaired.cuts.len()),
            (expected, 0),
            "loaded again after a cut at {len}"
        );
        for segment in &loaded.segments {
            let mut writer =
                SegmentWriter::resume(&set.disk, &segment.path, &segment.end, stamp(2)).unwrap();
            writer
                .append(&mut commands(&["SELECT 0", "SET z 9"]), stamp(2))
                .unwrap();
        }
        let (lines, loaded_again) = set.load().unwrap();
        let added = loaded.segments.len();
        assert_eq!(
            (lines.len(), loaded_again.cuts.len()),
            (expected + added, 0),
            "resumed after a cut at {len}"
        );
        assert!(
            added == 1 || foreign || len < head,
            "cut at {len} can be resumed"
        );
    }
}

/// Four blocks of three lines each, so many milliseconds apart, and where they begin.
fn four_blocks(apart_ms: i64) -> (Segments, Vec<usize>) {
    let mut set = Segments::new(1);
    let mut begins = Vec::new();
    for i in 0..4 {
        begins.push(set.writers[0].len() as usize);
        let key = format!("SET key:{i} value");
        set.append_at(0, 1, NOON + i * apart_ms, &["SELECT 0", &key, "INCR n"]);
    }
    (set, begins)
}

#[test]
fn every_flipped_byte_is_found_and_the_middle_is_never_cut() {
    let (set, begins) = four_blocks(20_000);
    let path = set.path(0);
    let whole = set.disk.contents(&path).unwrap();
    let file = set.disk.open(&path, Open::Read).unwrap();
    let shorter = scan_segment(file, &path, 0, whole.len() as u64 - 1).unwrap();
    let flaw = shorter.flaw.as_ref().map(|flaw| flaw.kind);
    assert_eq!(flaw, Some(FlawKind::CutShort));
    assert_eq!(shorter.sealed_len as usize, begins[3]);
    // Without its last newline a file looks torn, and nothing of it is lost.
    for at in 0..whole.len() - 1 {
        set.disk.edit(&path, |bytes| {
            *bytes = whole.clone();
            bytes[at] ^= 1;
        });
        match set.load() {
            Err(AofError::Damaged { offset, .. }) => {
                assert!(offset <= at as u64, "flip at {at} found at {offset}")
            }
            other => panic!("flip at {at}: {:?}", other.map(|(lines, _)| lines)),
        }
        // Where the system went down, the last block may be half written; never one that is much older. The third is
        // too old as well, unless its own seal does not say so any more.
        let after_crash = load(&set.disk, &set.manifest, true, true);
        match at {
            _ if at >= begins[3] => assert_eq!(after_crash.unwrap().0.len(), 6, "flip at {at}"),
            _ if at >= begins[2] => {
                if let Ok((lines, _)) = after_crash {
                    assert_eq!(lines.len(), 4, "flip at {at}");
                }
            }
            _ => assert!(after_crash.is_err(), "flip at {at}"),
        }
    }
}

#[test]
fn hole_among_the_last_writes_is_cut_only_after_a_crash_of_the_system() {
    let (set, begins) = four_blocks(1000);
    let path = set.path(0);
    let block = begins[1] + 5;
    set.disk
        .edit(&path, |bytes| bytes[block..block + 20].fill(0));
    let Err(AofError::Damaged { offset, reason, .. }) = set.load() else {
        panic!("only the system leaves holes");
    };
    assert_eq!(offset as usize, begins[1]);
    for told in [
        "2023-11-14 22:13:20.000Z",
        "2023-11-14 22:13:21.000Z",
        "\"n\"",
    ] {
        assert!(reason.contains(told), "{told} in: {reason}");
    }
    let (lines, loaded) = load(&set.disk, &set.manifest, true, true).unwrap();
    assert_eq!(lines, ["0: SET key:0 value", "0: INCR n"]);
    assert_eq!(loaded.recovery.cause, Some(Cause::OsCrash));
    // Of the first, only what is not zeroed.
    let keys = loaded.cuts[0].discarded.keys_in_line(9);
    assert_eq!(keys, "db0:\"n\", db0:\"key:2\", db0:\"key:3\"");
}

#[test]
fn damage_near_the_end_is_given_up_within_the_limit_and_in_all_shards() {
    let damaged = |limit: u64| {
        let mut set = Segments::new(2);
        for epoch in 1..=6 {
            for shard in 0..2 {
                let command = format!("SET {} {epoch}", ["a", "b"][shard]);
                set.append(shard, epoch, &["SELECT 0", &command]);
            }
        }
        let path = set.path(0);
        let whole = set.disk.contents(&path).unwrap();
        // In the fourth of its six blocks.
        let offset = whole.len() * 7 / 12;
        set.disk.edit(&path, |bytes| bytes[offset] ^= 1);
        let options = AofLoadOptions {
            corrupt_tail_bytes_max: limit,
            ..load_options(true, false)
        };
        let loaded = load_with(&set.disk, &set.manifest, &options);
        (set, loaded, whole.len() as u64)
    };
    let (set, loaded, _) = damaged(1 << 20);
    let (lines, loaded) = loaded.unwrap();
    assert_eq!(loaded.recovery.cause, Some(Cause::Damage));
    let of = |key: &str| lines.iter().filter(|line| line.contains(key)).count();
    // The third epoch is not whole in the first shard: nothing says that it had ended.
    assert_eq!((of("SET a"), of("SET b")), (2, 2), "{lines:?}");
    let dropped: u64 = loaded.cuts.iter().map(|cut| cut.bytes_dropped).sum();
    // Loaded again, all is well.
    let (again, loaded) = set.load().unwrap();
    assert_eq!((sorted(again), loaded.cuts.len()), (sorted(lines), 0));

    let (set, refused, len) = damaged(dropped - 1);
    let Err(AofError::Damaged { reason, .. }) = refused else {
        panic!("more than the limit allows: {refused:?}");
    };
    assert!(reason.contains(&format!("{dropped} bytes")), "{reason}");
    assert_eq!(set.disk.contents(&set.path(0)).unwrap().len() as u64, len);
    assert!(damaged(dropped).1.is_ok());
}

#[test]
fn transactions_are_in_all_shards_or_in_none() {
    let mut set = Segments::new(2);
    set.append(0, 1, &["SELECT 0", "SET a 0"]);
    set.append(1, 1, &["SELECT 0", "SET b 0"]);
    for id in [7, 8] {
        set.append_transaction(0, 1, id, &format!("SET a {id}"));
        set.append_transaction(1, 1, id, &format!("SET b {id}"));
    }
    let before = set.writers[1].len();
    set.append_transaction(0, 1, 9, "SET a 9");
    set.append_transaction(0, 1, 10, "SET a 10");
    set.append_transaction(1, 1, 10, "SET b 10");
    // 9 never reached shard 1; cutting it takes 10 from shard 0, and so from shard 1.
    let (lines, loaded) = set.load().unwrap();
    assert_eq!(
        sorted(lines),
        [
            "0: SET a 0",
            "0: SET a 7",
            "0: SET a 8",
            "0: SET b 0",
            "0: SET b 7",
            "0: SET b 8"
        ]
    );
    assert_eq!(loaded.cuts.len(), 2);
    // Numbers of what was cut off are not used again.
    assert_eq!(loaded.transaction_last, 10);
    assert_eq!(loaded.segments[1].end.kept_len, before);
    for segment in &loaded.segments {
        SegmentWriter::resume(&set.disk, &segment.path, &segment.end, stamp(2)).unwrap();
    }
    let (lines, loaded) = set.load().unwrap();
    assert_eq!((lines.len(), loaded.cuts.len()), (6, 0));
}

/// Shard 0 has blocks of epochs 1 to 3, shard 1 of 1 and 2: only epoch 1 is whole in both.
fn uneven_epochs() -> Segments {
    let mut set = Segments::new(2);
    for epoch in 1..=3 {
        set.append(0, epoch, &["SELECT 0", &format!("SET a {epoch}")]);
        if epoch < 3 {
            set.append(1, epoch, &["SELECT 0", &format!("SET b {epoch}")]);
        }
    }
    set
}

#[test]
fn after_a_crash_of_the_system_all_shards_end_with_one_epoch() {
    let set = uneven_epochs();
    assert_eq!(set.load().unwrap().0.len(), 5);
    for cuts in [2, 0, 0] {
        // Found again after another crash, it is not cut again.
        let (lines, loaded) = load(&set.disk, &set.manifest, true, true).unwrap();
        assert_eq!(sorted(lines), ["0: SET a 1", "0: SET b 1"]);
        assert_eq!(loaded.cuts.len(), cuts);
    }
    // What appendfsync always promised stays, whatever the epoch.
    let mut set = uneven_epochs();
    let always = Stamp {
        policy: SyncPolicy::Always,
        ..stamp(3)
    };
    set.writers[0]
        .append(&mut commands(&["SET a 4"]), always)
        .unwrap();
    let (lines, _) = load(&set.disk, &set.manifest, true, true).unwrap();
    assert_eq!(
        sorted(lines),
        [
            "0: SET a 1",
            "0: SET a 2",
            "0: SET a 3",
            "0: SET a 4",
            "0: SET b 1"
        ]
    );
}

#[test]
fn what_always_promised_keeps_the_transactions_before_it_in_all_shards() {
    let mut set = Segments::new(2);
    set.append(0, 1, &["SELECT 0", "SET a 1"]);
    set.append(1, 1, &["SELECT 0", "SET b 1"]);
    set.append_transaction(0, 1, 7, "SET a 7");
    set.append_transaction(1, 1, 7, "SET b 7");
    set.append(1, 1, &["SET c 1"]);
    let always = Stamp {
        policy: SyncPolicy::Always,
        ..stamp(1)
    };
    set.writers[0]
        .append(&mut commands(&["SET a 8"]), always)
        .unwrap();
    // Epoch 1 is whole nowhere; without its part of 7, shard 1 would take 7, and a 8 behind it, from shard 0.
    let (lines, _) = load(&set.disk, &set.manifest, true, true).unwrap();
    assert_eq!(
        sorted(lines),
        [
            "0: SET a 1",
            "0: SET a 7",
            "0: SET a 8",
            "0: SET b 1",
            "0: SET b 7"
        ]
    );
}

#[test]
fn what_is_left_beside_a_segment_that_lost_its_head_is_not_cut_again() {
    let always = Stamp {
        policy: SyncPolicy::Always,
        ..stamp(1)
    };
    let mut set = Segments::new(3);
    set.append(1, 1, &["SELECT 0", "SET b 1"]);
    let mut block = commands(&["SELECT 0", "SET a 0"]);
    set.writers[0].append(&mut block, always).unwrap();
    let mut block = commands(&["SELECT 0", "SET a 1"]);
    put_transaction(&mut block, 7, &[ShardIndex(0), ShardIndex(1)]);
    block.extend(commands(&["MULTI", "SET a 7", "EXEC"]));
    set.writers[0].append(&mut block, always).unwrap();
    set.disk.edit(&set.path(2), Vec::clear);
    // Promised, but for the transaction that shard 1 lacks. What else there is belongs to an epoch that is whole nowhere.
    for cuts in [2, 0, 0] {
        let (lines, loaded) = load(&set.disk, &set.manifest, true, true).unwrap();
        assert_eq!(sorted(lines), ["0: SET a 0", "0: SET a 1"]);
        assert_eq!(loaded.cuts.len(), cuts);
    }
}

#[test]
fn epochs_go_on_where_every_block_with_one_was_cut_off() {
    let mut set = Segments::new(2);
    let mut block = commands(&["SELECT 0", "SET a 1"]);
    put_transaction(&mut block, 7, &[ShardIndex(0), ShardIndex(1)]);
    block.extend(commands(&["MULTI", "SET a 7", "EXEC"]));
    set.writers[0].append(&mut block, stamp(5)).unwrap();
    let (lines, loaded) = set.load().unwrap();
    assert_eq!((lines.len(), loaded.epoch_last), (1, 5));
    // What is written now is cut by epoch after a crash of the system, together with what was left.
    let path = loaded.segments[0].path.clone();
    let end = &loaded.segments[0].end;
    let mut writer = SegmentWriter::resume(&set.disk, &path, end, stamp(6)).unwrap();
    for epoch in [6, 7] {
        let mut block = commands(&["SELECT 0", &format!("SET a {epoch}")]);
        writer.append(&mut block, stamp(epoch)).unwrap();
    }
    set.append(1, 6, &["SELECT 0", "SET b 6"]);
    let (lines, _) = load(&set.disk, &set.manifest, true, true).unwrap();
    assert_eq!(sorted(lines), ["0: SET a 1"]);
}

#[test]
fn crash_during_the_recovery_from_one_changes_nothing() {
    let expected = ["0: SET a 1", "0: SET b 1"];
    for (stop_at, system) in (0..400).flat_map(|n| [(n, false), (n, true)]) {
        let set = uneven_epochs();
        for writer in &set.writers {
            writer.file().datasync().unwrap();
        }
        let mut operations = 0;
        let faults = move |operation: &Operation<'_>| {
            operations += 1;
            match operations > stop_at {
                true => Verdict::Stop(operation.bytes / 2),
                false => Verdict::Proceed,
            }
        };
        set.disk.set_faults(Some(Box::new(faults)), 1);
        // On this thread alone: what stops a machine unwinds.
        let mut options = load_options(true, true);
        options.rdb.threads = 1;
        let loaded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            load_with(&set.disk, &set.manifest, &options).map(|_| ())
        }));
        let mut rng = Rng::from_seed(stop_at as u64);
        let disk = match system {
            true => set.disk.after_os_crash(|| rng.next_u64()),
            false => set.disk.after_process_crash(),
        };
        cut::finish_pending(&disk, &dir()).unwrap();
        let (lines, _) = load(&disk, &set.manifest, true, true).unwrap();
        assert_eq!(sorted(lines), expected, "stopped at {stop_at}, {system}");
        if loaded.is_ok() && system {
            assert!(stop_at > 20, "{stop_at} operations");
            return;
        }
    }
    panic!("it never came to an end");
}

/// A recovery as after a crash of the system, because rings are gone, finds files that no fdatasync has covered.
#[test]
fn cuts_that_are_under_way_find_all_that_they_leave() {
    let mut pending = 0;
    for (stop_at, chance) in (0..200).flat_map(|n| (0..8).map(move |chance| (n, chance))) {
        let set = uneven_epochs();
        set.disk.sync_dir(&dir()).unwrap();
        let mut operations = 0;
        let faults = move |_: &Operation<'_>| {
            operations += 1;
            match operations > stop_at {
                true => Verdict::Stop(0),
                false => Verdict::Proceed,
            }
        };
        set.disk.set_faults(Some(Box::new(faults)), 1);
        let mut options = load_options(true, true);
        options.rdb.threads = 1;
        let loaded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            load_with(&set.disk, &set.manifest, &options).map(|_| ())
        }));
        let mut rng = Rng::from_seed(chance);
        let disk = set.disk.after_os_crash(|| rng.next_u64());
        if cut::finish_pending(&disk, &dir()).unwrap() {
            pending += 1;
            let (lines, _) = load(&disk, &set.manifest, true, true).unwrap();
            assert_eq!(sorted(lines), ["0: SET a 1", "0: SET b 1"]);
        }
        if loaded.is_ok() {
            assert!(pending > 10, "{pending} of {stop_at} operations");
            return;
        }
    }
    panic!("it never came to an end");
}

#[test]
fn random_crashes_of_the_system_leave_a_consistent_prefix() {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(20_240_607u64);
    for round in 0..300 {
        let mut rng = Rng::from_seed(seed + round);
        let mut set = Segments::new(2);
        let mut durable = [0, 0];
        let mut written = 0;
        for epoch in 1..10 {
            for _ in 0..rng.below(5) {
                let shard = rng.below(2);
                written += 1;
                // Each write is numbered in the order in which it happened, over both shards.
                set.append(shard, epoch, &["SELECT 0", &format!("SET k {written}")]);
            }
            for (shard, durable) in durable.iter_mut().enumerate() {
                set.append(shard, epoch + 1, &[]);
                if rng.below(2) == 0 {
                    set.writers[shard].file().datasync().unwrap();
                    *durable = written;
                }
            }
        }
        let disk = set.disk.after_os_crash(|| rng.next_u64());
        let context = format!("seed {}", seed + round);
        let (lines, loaded) =
            load(&disk, &set.manifest, true, true).unwrap_or_else(|e| panic!("{context}: {e}"));
        let number = |line: &String| line.rsplit(' ').next().unwrap().parse::<i32>().unwrap();
        let mut numbers: Vec<_> = lines.iter().map(number).collect();
        numbers.sort_unstable();
        let expected: Vec<_> = (1..=numbers.len() as i32).collect();
        assert_eq!(
            numbers, expected,
            "{context}: no write survives an earlier one that was lost"
        );
        assert!(
            numbers.len() as i32 >= durable[0].min(durable[1]),
            "{context}: what was durable in all is kept"
        );
        for segment in &loaded.segments {
            SegmentWriter::resume(&disk, &segment.path, &segment.end, stamp(20)).unwrap();
        }
        assert_eq!(
            load(&disk, &set.manifest, true, false).unwrap().0.len(),
            numbers.len(),
            "{context}"
        );
    }
}

#[test]
fn failed_append_leaves_the_file_as_it_was() {
    let mut set = Segments::new(1);
    set.append(0, 1, &["SELECT 0", "SET a 1"]);
    let mut block = commands(&["SET b 2"]);
    let as_given = block.clone();
    for space in [0, 1, 20, 60] {
        set.disk.set_space_left(Some(space));
        assert!(set.writers[0].append(&mut block, stamp(1)).is_err());
        assert_eq!(block, as_given);
        set.disk.set_space_left(None);
        assert_eq!(set.load().unwrap().0, ["0: SET a 1"]);
    }
    set.writers[0].append(&mut block, stamp(1)).unwrap();
    assert_eq!(set.load().unwrap().0, ["0: SET a 1", "0: SET b 2"]);
}

fn stock_file(disk: &SimulatedStorage, name: &str, bytes: &[u8]) -> AofFile {
    let file = disk.open(&dir().join(name), Open::Create).unwrap();
    write_all_at(&*file, bytes, 0).unwrap();
    AofFile {
        name: name.into(),
        seq: 1,
        kind: FileKind::Incr,
        segment: None,
        closed: None,
        extra: Vec::new(),
    }
}

#[test]
fn files_of_stock_servers_load_as_there() {
    let disk = SimulatedStorage::new();
    let whole = commands(&["SELECT 1", "SET a 1", "MULTI", "SET b 2", "EXEC"]);
    let check = |bytes: &[u8]| {
        let manifest = Manifest {
            files: vec![stock_file(&disk, "x.aof", bytes)],
            run: None,
        };
        load(&disk, &manifest, true, false).map(|(lines, loaded)| (lines.len(), loaded.cuts.len()))
    };
    assert_eq!(check(&whole).unwrap(), (2, 0));
    assert_eq!(check(&whole[..whole.len() - 1]).unwrap(), (1, 1));
    assert_eq!(check(&whole[..60]).unwrap(), (1, 1));
    assert_eq!(
        check(&[&whole[..], b"#TS:1700000000\r\n"].concat()).unwrap(),
        (2, 0)
    );
    for tail in [&b"\0\0\0\0"[..], b"PING\r\n"] {
        let bytes = [&whole[..], tail].concat();
        assert!(matches!(check(&bytes), Err(AofError::Damaged { .. })));
        let manifest = Manifest {
            files: vec![stock_file(&disk, "x.aof", &bytes)],
            run: None,
        };
        for (limit, loads) in [(tail.len() as u64, true), (tail.len() as u64 - 1, false)] {
            let options = AofLoadOptions {
                corrupt_tail_bytes_max: limit,
                ..load_options(true, false)
            };
            stock_file(&disk, "x.aof", &bytes);
            let loaded = load_with(&disk, &manifest, &options);
            assert_eq!(loaded.is_ok(), loads, "{limit} bytes may go");
            let left = disk.contents(&dir().join("x.aof")).unwrap();
            assert_eq!(left.len() == whole.len(), loads);
        }
    }
}

#[test]
fn stock_server_may_go_on_with_our_segments() {
    let mut set = Segments::new(2);
    set.append_transaction(0, 1, 5, "SET a 1");
    set.append_transaction(1, 1, 5, "SET b 1");
    set.append(0, 1, &["SELECT 0", "SET a 2"]);
    // It goes on with the last file, keys of all shards alike, and writes the manifest without our pairs.
    let path = set.path(1);
    let tail = [
        "SELECT 0", "SET a 3", "MULTI", "SET b 3", "EXEC", "MULTI", "SET c 3",
    ];
    set.disk.edit(&path, |bytes| bytes.extend(commands(&tail)));
    for file in &mut set.manifest.files {
        file.segment = None;
    }
    let (lines, loaded) = set.load().unwrap();
    assert_eq!(
        lines[lines.len() - 2..],
        ["0: SET a 3", "0: SET b 3"],
        "behind all segments"
    );
    assert_eq!((lines.len(), loaded.cuts.len()), (5, 1));
    assert!(
        loaded.segments.is_empty(),
        "a seal would hide whose commands these are"
    );
    assert_eq!(loaded.manifest.generation_last(), 1);
    // The cut is made on disk: as an older generation the files are whole.
    let mut manifest = loaded.manifest;
    let id = SegmentId {
        shard: ShardIndex(0),
        shard_count: 1,
        generation: 2,
    };
    let name = manifest.add_segment(OsStr::new(PREFIX), id).name.clone();
    SegmentWriter::create(&set.disk, &dir().join(name), id, Lsn(0)).unwrap();
    let (again, loaded) = load(&set.disk, &manifest, true, false).unwrap();
    assert_eq!((sorted(again), loaded.cuts.len()), (sorted(lines), 0));
}

#[test]
fn flaw_in_an_older_generation_is_refused() {
    let mut set = Segments::new(1);
    set.append(0, 1, &["SELECT 0", "SET a 1"]);
    let id = SegmentId {
        shard: ShardIndex(0),
        shard_count: 1,
        generation: 2,
    };
    let name = set
        .manifest
        .add_segment(OsStr::new(PREFIX), id)
        .name
        .clone();
    SegmentWriter::create(&set.disk, &dir().join(name), id, set.writers[0].lsn()).unwrap();
    assert_eq!(set.load().unwrap().0.len(), 1);
    let path = set.path(0);
    set.disk
        .edit(&path, |bytes| bytes.truncate(bytes.len() - 3));
    assert!(matches!(set.load(), Err(AofError::Truncated { .. })));
    set.disk.remove(&path).unwrap();
    assert!(matches!(set.load(), Err(AofError::Missing { .. })));
}

#[test]
fn an_older_generation_that_lost_its_end_between_two_blocks_is_refused() {
    let mut set = Segments::new(1);
    set.append(0, 1, &["SELECT 0", "SET a 1"]);
    let kept = set.writers[0].len() as usize;
    set.append(0, 1, &["SET a 2"]);
    let (path, len, lsn) = (set.path(0), set.writers[0].len(), set.writers[0].lsn());
    let name = path.file_name().unwrap().to_owned();
    set.next_generation();
    set.append(0, 2, &["SELECT 0", "SET b 1"]);
    let closed = Closed {
        len,
        lsn: Some(lsn),
    };
    set.manifest.close(&name, closed);
    assert_eq!(set.load().unwrap().0.len(), 3);
    set.disk.edit(&path, |bytes| bytes.truncate(kept));
    let error = set.load().unwrap_err();
    assert!(matches!(error, AofError::Truncated { .. }), "{error}");
    let text = error.to_string();
    for part in [
        format!("offset {kept}"),
        format!("{len} bytes"),
        format!("up to LSN {}", lsn.0),
    ] {
        assert!(text.contains(&part), "{text}");
    }
    // A manifest that a stock server wrote anew says nothing of it.
    set.manifest.files[0].closed = None;
    assert_eq!(set.load().unwrap().0.len(), 2);
}

struct StoreReceiver<'a>(&'a Store);

impl CommandReceiver for StoreReceiver<'_> {
    fn command(&mut self, db: DbIndex, argv: &[&[u8]]) -> Result<(), String> {
        match argv {
            [b"SET", key, value] => self.0.put(db.0, key, NewValue::Bytes(value), None),
            [b"PEXPIREAT", key, at] => {
                let at = std::str::from_utf8(at).unwrap().parse().unwrap();
                let key = self.0.key(key);
                let mut dbs = self.0.shards[key.shard.0 as usize].lock().unwrap();
                dbs[db.0 as usize].set_expiry(key, Some(UnixMillis(at)));
            }
            other => return Err(format!("unexpected {other:?}")),
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        Ok(())
    }
}

impl ReplaySink for Store {
    fn command_receiver(&self) -> Box<dyn CommandReceiver + '_> {
        Box::new(StoreReceiver(self))
    }
}

#[test]
fn bases_of_both_kinds_load_with_expired_keys_and_commands_behind() {
    let source = Store::new(3);
    for i in 0..5000 {
        let expire_at = (i % 3 == 0).then_some(UnixMillis(500 + i));
        source.put(
            i as u32 % 3,
            format!("key:{i}").as_bytes(),
            NewValue::Bytes(&vec![b'v'; i as usize % 700]),
            expire_at,
        );
    }
    source.put(
        1,
        b"large",
        NewValue::Owned(
            (0..6 << 20)
                .map(|i: u32| (i.wrapping_mul(i) >> 9) as u8)
                .collect(),
        ),
        None,
    );
    for (as_rdb, direct_io) in [(true, false), (true, true), (false, true), (false, false)] {
        let disk = SimulatedStorage::new();
        let mut manifest = Manifest::default();
        let base = manifest.next_base(OsStr::new(PREFIX), as_rdb);
        let path = dir().join(&base.name);
        manifest.files.push(base);
        let options = SnapshotOptions {
            compress: true,
            checksum: true,
            threads: 2,
            direct_io,
            aof_base: true,
            unix_seconds: 1,
            used_memory: 1,
            ..SnapshotOptions::default()
        };
        let write = if as_rdb { write_rdb } else { write_commands };
        let stats = write(
            &disk,
            Path::new("/t"),
            &path,
            &source,
            &options,
            &Progress::default(),
        )
        .unwrap();
        assert_eq!(stats.keys, 5001);
        let loaded = Store::new(2);
        let options = AofLoadOptions {
            rdb: rdb_options(),
            load_truncated: true,
            corrupt_tail_bytes_max: 0,
            os_crashed: false,
        };
        load_aof(
            &disk,
            &dir(),
            &manifest,
            &options,
            &loaded,
            &Progress::default(),
        )
        .unwrap();
        assert_eq!(loaded.contents(), source.contents());
        if as_rdb {
            // Commands behind an RDB preamble, as files before Redis 7 have them.
            disk.edit(&path, |bytes| {
                bytes.extend(commands(&["SELECT 4", "SET behind 1"]))
            });
            let loaded = Store::new(2);
            load_aof(
                &disk,
                &dir(),
                &manifest,
                &options,
                &loaded,
                &Progress::default(),
            )
            .unwrap();
            assert_eq!(loaded.contents().len(), 5002);
        }
    }
}

/// A journal of cuts reaches no file but those beside it.
#[test]
fn journals_that_lead_out_of_the_directory_are_refused() {
    let outside = std::path::PathBuf::from("/data/outside");
    for step in [
        "cut ../outside 1 \"\"",
        "drop ../outside x",
        "drop inside ../outside",
    ] {
        let disk = SimulatedStorage::new();
        for path in [&outside, &dir().join("inside")] {
            let file = disk.open(path, Open::Create).unwrap();
            write_all_at(&*file, b"kept", 0).unwrap();
        }
        let mut journal = format!("basalt-recovery 1\n{step}\n");
        let mut crc = persistence::crc::Xz::default();
        crc.update(journal.as_bytes());
        journal.push_str(&format!("crc {:016x}\n", crc.value()));
        let path = dir().join(persistence::aof::cut::JOURNAL);
        let file = disk.open(&path, Open::Create).unwrap();
        write_all_at(&*file, journal.as_bytes(), 0).unwrap();
        let refused = persistence::aof::cut::finish_pending(&disk, &dir());
        assert!(
            matches!(refused, Err(AofError::Manifest { .. })),
            "{step}: {refused:?}"
        );
        assert_eq!(disk.contents(&outside).as_deref(), Some(&b"kept"[..]));
    }
}
