//! Taking over what a killed server left in its rings, before anything else looks at the segments.
//!
//! The manifest names the rings of the run that wrote last. As long as the machine was not booted since, they hold what that
//! run had *written* and not yet handed to the files: it is put there and made durable, and the rings say so themselves, so that
//! all this may be broken off and begun again at any point. From then on the segments are plain files, as after a crash on
//! the other write path; the rings go when the manifest does not name them any more.
//!
//! A ring that should be there and is not, or is another's, means that an unknown tail is lost: the same as a crash of the
//! operating system, and to be recovered as one.

use super::manifest::{FileKind, Manifest, RingsMark, RunMark};
use super::AofError;
use crate::storage::ring::{ring_path, FoundRing, Misfit, RingStore};
use crate::storage::{read_small, Open, Storage, StorageFile};
use keyspace::ShardIndex;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a ring may still be held by a process that is ending.
const HELD_PATIENCE: Duration = Duration::from_secs(3);
const HELD_RETRY: Duration = Duration::from_millis(20);
/// A manifest longer than this is not one.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;
/// A ring that is still unfinished after this long was given up.
const UNFINISHED_FOR: Duration = Duration::from_secs(60);

/// Where rings are, and what tells this machine and directory from others.
#[derive(Clone, Copy)]
pub struct RingPlace<'a> {
    pub rings: &'a dyn RingStore,
    pub boot_id: &'a str,
    /// [`crate::storage::ring::probe::dir_id`] of the directory of the append-only files.
    pub dir_id: &'a str,
}

/// What was in one ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TailFound {
    /// Everything is in the file.
    Nothing,
    /// `bytes` from `offset` of the file on; those up to the file's length may be there already.
    Tail {
        file: OsString,
        offset: u64,
        bytes: u64,
    },
    /// There should be a ring, and there is none that counts.
    Lost(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingTail {
    pub path: PathBuf,
    pub shard: ShardIndex,
    pub found: TailFound,
}

/// What was in all of them; empty if none were to be expected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RingTails(pub Vec<RingTail>);

impl RingTails {
    /// Which rings are missing, and why.
    pub fn lost(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.0.iter().filter_map(|tail| match &tail.found {
            TailFound::Lost(reason) => Some((tail.path.as_path(), reason.as_str())),
            _ => None,
        })
    }

    /// Something that was written is gone: recover as after a crash of the operating system.
    pub fn any_lost(&self) -> bool {
        self.lost().next().is_some()
    }

    pub fn bytes(&self) -> u64 {
        let bytes = self.0.iter().map(|tail| match tail.found {
            TailFound::Tail { bytes, .. } => bytes,
            TailFound::Nothing | TailFound::Lost(_) => 0,
        });
        bytes.sum()
    }
}

/// Says what is in the rings, and whether it fits, changing nothing.
pub fn find_tails(
    storage: &dyn Storage,
    place: RingPlace<'_>,
    dir: &Path,
    manifest: &Manifest,
) -> Result<RingTails, AofError> {
    let found = open_all(storage, place, dir, manifest)?;
    Ok(RingTails(found.into_iter().map(|(tail, _)| tail).collect()))
}

/// Puts what is in the rings into the files, durably. On an error the rings keep it all, and this may be repeated.
pub fn take_over_tails(
    storage: &dyn Storage,
    place: RingPlace<'_>,
    dir: &Path,
    manifest: &Manifest,
) -> Result<RingTails, AofError> {
    let found = open_all(storage, place, dir, manifest)?;
    for (_, open) in &found {
        if let Some(Fitting { ring, file, path }) = open {
            ring.write(&**file)
                .map_err(AofError::io(path, "take the ring's tail over into"))?;
            file.datasync().map_err(AofError::io(path, "sync"))?;
        }
    }
    for fitting in found.iter().filter_map(|(_, open)| open.as_ref()) {
        fitting.ring.settle();
    }
    Ok(RingTails(found.into_iter().map(|(tail, _)| tail).collect()))
}

/// Puts what is in the rings into copies of the files, of the same names in another directory. The rings, and the files
/// that they belong to, stay as they are.
pub fn copy_tails(
    storage: &dyn Storage,
    place: RingPlace<'_>,
    dir: &Path,
    manifest: &Manifest,
    to: &Path,
) -> Result<RingTails, AofError> {
    let found = open_all(storage, place, dir, manifest)?;
    for (tail, open) in &found {
        let (TailFound::Tail { file, .. }, Some(Fitting { ring, .. })) = (&tail.found, open) else {
            continue;
        };
        let path = to.join(file);
        storage
            .open(&path, Open::Write)
            .and_then(|copy| ring.write(&*copy))
            .map_err(AofError::io(&path, "copy the ring's tail into"))?;
    }
    Ok(RingTails(found.into_iter().map(|(tail, _)| tail).collect()))
}

/// A ring with something in it, and the file that it belongs to.
struct Fitting {
    ring: FoundRing,
    file: Arc<dyn StorageFile>,
    path: PathBuf,
}

fn open_all(
    storage: &dyn Storage,
    place: RingPlace<'_>,
    dir: &Path,
    manifest: &Manifest,
) -> Result<Vec<(RingTail, Option<Fitting>)>, AofError> {
    let Some(run) = &manifest.run else {
        return Ok(Vec::new());
    };
    let Some(mark) = run.rings.as_ref().filter(|_| run.boot_id == place.boot_id) else {
        return Ok(Vec::new());
    };
    let shards = (0..mark.count).map(ShardIndex);
    shards
        .map(|shard| open_one(storage, place, dir, manifest, run, mark, shard))
        .collect()
}

fn open_one(
    storage: &dyn Storage,
    place: RingPlace<'_>,
    dir: &Path,
    manifest: &Manifest,
    run: &RunMark,
    mark: &RingsMark,
    shard: ShardIndex,
) -> Result<(RingTail, Option<Fitting>), AofError> {
    let path = ring_path(&mark.prefix, shard);
    let tail = |found| RingTail {
        path: path.clone(),
        shard,
        found,
    };
    let lost = |reason: &str| Ok((tail(TailFound::Lost(reason.into())), None));
    let memory = match open_patiently(place.rings, &path) {
        Ok(memory) => memory,
        Err(e) if e.kind() == ErrorKind::NotFound => return lost("it is gone"),
        Err(e) if e.kind() == ErrorKind::InvalidData => return lost("it is not ours"),
        Err(e) if e.kind() == ErrorKind::WouldBlock => {
            let error = io::Error::new(
                e.kind(),
                "a living process holds it; is another server running on these files?",
            );
            return Err(AofError::io(&path, "open the ring")(error));
        }
        Err(e) => return Err(AofError::io(&path, "open the ring")(e)),
    };
    let ring = match FoundRing::new(memory) {
        Ok(ring) => ring,
        Err(reason) => return lost(reason),
    };
    let identity = ring.identity();
    if identity.run_id != run.run_id || identity.boot_id != run.boot_id {
        return lost("it is of another run");
    }
    if identity.shard != shard || identity.shard_count != mark.count {
        return lost("it is of another shard");
    }
    if identity.dir_id != place.dir_id {
        return lost("it belongs to files in another directory");
    }
    let (Some((head, _)), Some(name), bytes @ 1..) =
        (ring.offsets(), ring.file_name(), ring.pending_bytes())
    else {
        return Ok((tail(TailFound::Nothing), None));
    };
    let named = |file: &&super::manifest::AofFile| file.kind == FileKind::Incr && file.name == name;
    if !manifest.files.iter().any(|file| named(&file)) {
        return lost("it belongs to a file that the manifest does not name");
    }
    let found = tail(TailFound::Tail {
        file: name.to_owned(),
        offset: head,
        bytes,
    });
    let file_path = dir.join(name);
    let file = storage.open(&file_path, Open::Write).map_err(|e| {
        if e.kind() == ErrorKind::NotFound {
            return AofError::Missing {
                path: file_path.clone(),
            };
        }
        AofError::io(&file_path, "open")(e)
    })?;
    match ring.check(&*file) {
        Ok(()) => {}
        Err(Misfit::Io(error)) => return Err(AofError::io(&file_path, "compare")(error)),
        Err(Misfit::Changed(how)) => {
            return Err(AofError::RingMisfit {
                path: file_path,
                ring: path,
                bytes,
                how,
            })
        }
    }
    let fitting = Fitting {
        ring,
        file,
        path: file_path,
    };
    Ok((found, Some(fitting)))
}

fn open_patiently(
    rings: &dyn RingStore,
    path: &Path,
) -> io::Result<crate::storage::ring::RingMemory> {
    let began = Instant::now();
    loop {
        match rings.open(path) {
            Err(e) if e.kind() == ErrorKind::WouldBlock && began.elapsed() < HELD_PATIENCE => {
                std::thread::sleep(HELD_RETRY);
            }
            other => return other,
        }
    }
}

/// Removes the rings that a manifest named and names no more, as far as they are of this directory: that of a copy may
/// name another one's.
pub fn remove_named(rings: &dyn RingStore, mark: &RingsMark, dir_id: &str) {
    for shard in (0..mark.count).map(ShardIndex) {
        let path = ring_path(&mark.prefix, shard);
        let ring = rings.open(&path).ok().map(FoundRing::new);
        if ring.is_some_and(|ring| ring.is_ok_and(|ring| ring.identity().dir_id == dir_id)) {
            // One that stays is found to be abandoned at the next start.
            let _ = rings.remove(&path);
        }
    }
}

/// Removes rings in `ring_dir` that nobody will ask for again: no living process holds them, and they are of another boot, or
/// their manifest is there and does not name them. Returns their paths.
pub fn remove_abandoned(
    storage: &dyn Storage,
    rings: &dyn RingStore,
    ring_dir: &Path,
    boot_id: &str,
) -> Vec<PathBuf> {
    let paths = rings.list(ring_dir).unwrap_or_default();
    let abandoned = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.filter(|name| name.starts_with(RINGS_NAME))?;
        if name.ends_with(".ring.new") {
            let age = std::fs::metadata(path).ok()?.modified().ok()?.elapsed();
            return age.is_ok_and(|age| age > UNFINISHED_FOR).then_some(());
        }
        let stem = name.strip_suffix(".ring")?.rsplit_once('.')?.0;
        let ring = FoundRing::new(rings.open(path).ok()?).ok()?;
        let identity = ring.identity();
        if identity.boot_id != boot_id {
            return Some(());
        }
        let manifest = read_small(storage, &identity.manifest, MANIFEST_BYTES_MAX).ok()?;
        let is_named = manifest
            .windows(stem.len())
            .any(|window| window == stem.as_bytes());
        (!is_named).then_some(())
    };
    let found = paths.into_iter().filter(|path| abandoned(path).is_some());
    found.filter(|path| rings.remove(path).is_ok()).collect()
}

/// How the names of all rings begin.
const RINGS_NAME: &str = "basalt-";

/// Path and beginning of the names of a run's rings: `number` counts how often the run has made some.
pub fn rings_prefix(ring_dir: &Path, dir_id: &str, run_id: &str, number: u64) -> PathBuf {
    let mut crc = crate::crc::Xz::default();
    crc.update(dir_id.as_bytes());
    ring_dir.join(format!(
        "{RINGS_NAME}{:016x}-{run_id}-{number}",
        crc.value()
    ))
}
