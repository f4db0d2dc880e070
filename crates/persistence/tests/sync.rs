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
