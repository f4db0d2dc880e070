//! The sync service: every backend against real files, the rules against a simulated disk.

use keyspace::{Lsn, ShardIndex};
use persistence::storage::simulated::SimulatedStorage;
use persistence::storage::sync::{SyncBackend, SyncPolicy, SyncService};
use persistence::storage::{sync_glommio, Open, OsStorage, Storage};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::sync::Arc;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(30);

fn service(backend: SyncBackend, policy: SyncPolicy) -> (SyncService, Arc<AtomicU64>) {
    let calls = Arc::new(AtomicU64::new(0));
    let on_durable = Box::new({
        let calls = calls.clone();
        move |_| {
            calls.fetch_add(1, SeqCst);
        }
    });
    (
        SyncService::new(backend, 2, policy, on_durable).unwrap(),
        calls,
    )
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < LONG, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn drives_real_files(backend: SyncBackend) {
    let dir = std::env::temp_dir().join(format!("basalt-sync-{backend:?}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (service, calls) = service(backend, SyncPolicy::Always);
    let open = |name: &str| OsStorage.open(&dir.join(name), Open::Append).unwrap();
    let (first, second) = (open("0"), open("1"));
    service.register(ShardIndex(0), first.clone(), Lsn(10));
    service.register(ShardIndex(1), second, Lsn(0));
    assert_eq!(service.durable(ShardIndex(0)), Lsn(10));
    for i in 1..=100u64 {
        first.append(b"x").unwrap();
        service.request(ShardIndex(0), Lsn(10 + i));
        if i % 10 == 0 {
            service
                .wait_durable(ShardIndex(0), Lsn(10 + i), LONG)
                .unwrap();
        }
    }
    assert_eq!(service.durable(ShardIndex(0)), Lsn(110));
    until("the callbacks", || calls.load(SeqCst) >= 10);
    {
        let _paused = service.pause();
        let syncs = service.sync_count(ShardIndex(0));
        service.request(ShardIndex(0), Lsn(120));
        std::thread::sleep(Duration::from_millis(120));
        assert_eq!(
            service.sync_count(ShardIndex(0)),
            syncs,
            "nothing runs while paused"
        );
    }
    until("the request made while paused", || {
        service.durable(ShardIndex(0)) == Lsn(120)
    });
    service.register(ShardIndex(0), open("2"), Lsn(120));
    service.set_policy(SyncPolicy::EverySecond);
    service.note_written(ShardIndex(0), Lsn(130));
    service.note_written(ShardIndex(1), Lsn(5));
    until("the timer", || {
        service.durable(ShardIndex(0)) == Lsn(130) && service.durable(ShardIndex(1)) == Lsn(5)
    });
    drop(service);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn threads_drive_real_files() {
    drives_real_files(SyncBackend::Threads);
}

#[test]
fn glommio_drives_real_files_where_there_is_io_uring() {
    match sync_glommio::probe() {
        Ok(()) => drives_real_files(SyncBackend::Glommio),
        Err(reason) => {
            eprintln!("no io_uring here: {reason}");
            let refused = SyncService::new(
                SyncBackend::Glommio,
                1,
                SyncPolicy::Always,
                Box::new(|_| {}),
            );
            assert!(refused.is_err());
        }
    }
}

#[test]
fn an_error_stops_the_durable_position_until_forgiven() {
    let disk = SimulatedStorage::new();
    let (service, calls) = service(SyncBackend::Manual, SyncPolicy::Always);
    let file = disk.open(Path::new("/a"), Open::Append).unwrap();
    service.register(ShardIndex(0), file, Lsn(0));
    service.request(ShardIndex(0), Lsn(7));
    disk.set_datasync_error(Some(5));
    assert!(service.step(ShardIndex(0)));
    assert_eq!(
        (service.durable(ShardIndex(0)), calls.load(SeqCst)),
        (Lsn(0), 1)
    );
    assert_eq!(
        service.error(ShardIndex(0)).and_then(|e| e.raw_os_error()),
        Some(5)
    );
    disk.set_datasync_error(None);
    assert!(
        !service.step(ShardIndex(0)),
        "a later success would say nothing about what was lost"
    );
    assert!(service.wait_durable(ShardIndex(0), Lsn(7), LONG).is_err());
    service.forgive(ShardIndex(0));
    assert!(service.step(ShardIndex(0)));
    assert_eq!(service.durable(ShardIndex(0)), Lsn(7));
}

#[test]
fn an_old_file_is_durable_before_its_successor() {
    let disk = SimulatedStorage::new();
    let (service, _) = service(SyncBackend::Manual, SyncPolicy::Always);
    let old = disk.open(Path::new("/d/old"), Open::Append).unwrap();
    let new = disk.open(Path::new("/d/new"), Open::Append).unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    service.register(ShardIndex(0), old.clone(), Lsn(0));
    old.append(b"old").unwrap();
    service.note_written(ShardIndex(0), Lsn(3));
    service.register(ShardIndex(0), new.clone(), Lsn(3));
    new.append(b"new").unwrap();
    service.request(ShardIndex(0), Lsn(6));
    assert!(service.step(ShardIndex(0)));
    assert_eq!(service.durable(ShardIndex(0)), Lsn(0));
    assert_eq!(
        disk.after_os_crash(|| 0)
            .contents(Path::new("/d/old"))
            .unwrap(),
        b"old"
    );
    assert!(service.step(ShardIndex(0)));
    assert_eq!(service.durable(ShardIndex(0)), Lsn(6));
    assert!(!service.step(ShardIndex(0)));
}

#[test]
fn a_mark_is_made_durable_though_no_position_tells_of_it() {
    let disk = SimulatedStorage::new();
    let (service, _) = service(SyncBackend::Manual, SyncPolicy::EverySecond);
    let file = disk.open(Path::new("/a"), Open::Append).unwrap();
    service.register(ShardIndex(0), file, Lsn(7));
    assert!(service.step(ShardIndex(0)), "the file's head is one");
    assert!(!service.step(ShardIndex(0)));
    service.note_mark(ShardIndex(0));
    assert!(service.begin(ShardIndex(0), false).is_none(), "no hurry");
    assert!(service.step(ShardIndex(0)));
    assert!(!service.step(ShardIndex(0)));
}

#[test]
fn what_cannot_be_handed_over_is_tried_again_and_is_no_failed_sync() {
    use persistence::storage::ring::{Prepared, RingDriver, RingSet, RingSpec, SimulatedRings};
    let disk = SimulatedStorage::new();
    let (service, _) = service(SyncBackend::Threads, SyncPolicy::Always);
    let spec = RingSpec {
        prefix: "/ring/basalt-x".into(),
        run_id: "run".into(),
        boot_id: "boot".into(),
        dir_id: "dir".into(),
        manifest: "/m".into(),
        shard_count: 1,
        data_len: 64 << 10,
    };
    let store = Arc::new(SimulatedRings::new());
    let set = RingSet::create(store, &spec, RingDriver::Manual, Arc::new(|_, _| {})).unwrap();
    let path = Path::new("/aof/a");
    drop(disk.open(path, Open::Create).unwrap());
    let prepared = Prepared::open(&disk, path, 0, true).unwrap();
    let file = set.ring(ShardIndex(0)).attach(prepared).unwrap();
    service.register(ShardIndex(0), file.clone(), Lsn(0));
    disk.set_space_left(Some(0));
    assert_eq!(
        persistence::storage::StorageFile::append(&*file, b"effects").unwrap(),
        7
    );
    let refused = service
        .wait_durable(ShardIndex(0), Lsn(7), LONG)
        .unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(28), "told at once");
    assert_eq!(service.sync_count(ShardIndex(0)), 0);
    assert!(service.error(ShardIndex(0)).is_none());
    assert_eq!(service.pending_count(), 1);
    disk.set_space_left(None);
    until("the next attempt", || {
        service.durable(ShardIndex(0)) == Lsn(7)
    });
    assert_eq!(disk.contents(path).unwrap(), b"effects");
    until("the end of it", || service.pending_count() == 0);
}

#[test]
fn a_long_datasync_is_counted_once_when_more_is_written() {
    use persistence::clock::{simulate, SimulatedTime};
    let at = |millis| {
        simulate(Some(SimulatedTime {
            unix_millis: 0,
            elapsed: Duration::from_millis(millis),
        }))
    };
    at(0);
    let disk = SimulatedStorage::new();
    let (service, _) = service(SyncBackend::Manual, SyncPolicy::EverySecond);
    for shard in [0, 1] {
        let file = disk.open(Path::new("/a"), Open::Append).unwrap();
        service.register(ShardIndex(shard), file, Lsn(0));
    }
    let write = |lsn| service.note_written(ShardIndex(0), Lsn(lsn));
    write(1);
    at(1000);
    let turn = service.begin(ShardIndex(0), true).unwrap();
    at(2990);
    write(2);
    assert_eq!(service.delayed_count(), 0, "less than two seconds");
    at(3010);
    service.note_written(ShardIndex(1), Lsn(1));
    assert_eq!(service.delayed_count(), 0, "another segment's");
    (3..6).for_each(write);
    assert_eq!(service.delayed_count(), 1);
    service.end(ShardIndex(0), turn);
    at(9000);
    write(7);
    assert_eq!(service.delayed_count(), 1, "none runs");
    let turn = service.begin(ShardIndex(0), true).unwrap();
    at(12_000);
    write(8);
    service.end(ShardIndex(0), turn);
    assert_eq!(service.delayed_count(), 2);
    simulate(None);
}
