//! A copy of a set as a start would find it, for servers that know nothing of seals and rings.
//!
//! The source is only read. The copy ends where recovery would cut, so that it holds whole transactions and the same
//! consistent state; what a killed server left in its rings is added first. It is a set of its own: a manifest without
//! history and without the marks of a run.

use super::cut::Cut;
use super::manifest::{FileKind, Manifest};
use super::ring_recover::{copy_tails, RingPlace, RingTails};
use super::survey::{survey, Survey, SurveyOptions};
use super::AofError;
use crate::storage::{read_full_at, write_all_at, Open, Storage};
use std::ffi::OsStr;
use std::io;
use std::path::Path;

const COPY_BYTES: usize = 1 << 20;

/// What became of an export.
#[derive(Debug)]
pub struct Exported {
    pub files: usize,
    pub bytes: u64,
    pub rings: RingTails,
    /// What the copy leaves out, by the names of the copies.
    pub cuts: Vec<Cut>,
    /// The copy, looked at again.
    pub survey: Survey,
}

/// Copies the set that a manifest names from `dir` to `to`, which must be empty or not be there.
pub fn export(
    storage: &dyn Storage,
    place: RingPlace<'_>,
    (dir, to): (&Path, &Path),
    prefix: &OsStr,
    manifest: &Manifest,
    options: &SurveyOptions,
) -> Result<Exported, AofError> {
    prepare(storage, to).map_err(AofError::io(to, "export to"))?;
    let manifest = without_history(manifest);
    let mut bytes = 0;
    for file in &manifest.files {
        let (from, copy) = (dir.join(&file.name), to.join(&file.name));
        bytes += copy_file(storage, &from, &copy).map_err(AofError::io(&copy, "copy"))?;
    }
    let rings = copy_tails(storage, place, dir, &manifest, to)?;
    let options = SurveyOptions {
        os_crashed: options.os_crashed || rings.any_lost(),
        ..options.clone()
    };
    let mut copied = Manifest {
        run: None,
        ..manifest
    };
    let found = survey(storage, to, &copied, &options)?;
    let cuts = found.start?;
    for cut in &cuts {
        cut_copy(storage, cut).map_err(AofError::io(&cut.path, "cut"))?;
    }
    copied.files = found.manifest.files;
    for file in &copied.files {
        let path = to.join(&file.name);
        let synced = storage.open(&path, Open::Write);
        synced
            .and_then(|file| file.datasync())
            .map_err(AofError::io(&path, "sync"))?;
    }
    copied.store(storage, to, prefix)?;
    let options = SurveyOptions {
        os_crashed: false,
        ..options
    };
    let survey = survey(storage, to, &copied, &options)?;
    Ok(Exported {
        files: copied.files.len(),
        bytes,
        rings,
        cuts,
        survey,
    })
}

fn without_history(manifest: &Manifest) -> Manifest {
    let files = manifest.files.iter();
    Manifest {
        files: files
            .filter(|file| file.kind != FileKind::History)
            .cloned()
            .collect(),
        run: manifest.run.clone(),
    }
}

fn prepare(storage: &dyn Storage, to: &Path) -> io::Result<()> {
    storage.create_dir(to)?;
    match storage.list(to)?.is_empty() {
        true => Ok(()),
        false => Err(io::Error::other("the directory is not empty")),
    }
}

fn copy_file(storage: &dyn Storage, from: &Path, to: &Path) -> io::Result<u64> {
    let source = storage.open(from, Open::Read)?;
    let target = storage.open(to, Open::Create)?;
    let mut buffer = vec![0; COPY_BYTES];
    let mut at = 0;
    loop {
        let got = read_full_at(&*source, &mut buffer, at)?;
        if got == 0 {
            return Ok(at);
        }
        write_all_at(&*target, &buffer[..got], at)?;
        at += got as u64;
    }
}

/// Cuts a copy: there is nothing to be kept of it, and nobody to find it half done.
fn cut_copy(storage: &dyn Storage, cut: &Cut) -> io::Result<()> {
    let file = storage.open(&cut.path, Open::Write)?;
    file.truncate(cut.offset)?;
    write_all_at(&*file, &cut.seal, cut.offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aof::manifest::{RingsMark, RunMark};
    use crate::aof::segment::SegmentWriter;
    use crate::aof::{SegmentId, Stamp};
    use crate::commands::put_command;
    use crate::storage::ring::layout::DATA_LEN_MIN;
    use crate::storage::ring::{Prepared, RingDriver, RingSet, RingSpec, SimulatedRings};
    use crate::storage::simulated::SimulatedStorage;
    use crate::storage::sync::SyncPolicy;
    use keyspace::{Lsn, ShardIndex};
    use std::sync::Arc;

    const ID: SegmentId = SegmentId {
        shard: ShardIndex(0),
        shard_count: 1,
        generation: 1,
    };

    /// A segment of some blocks, as bytes.
    fn segment() -> Vec<u8> {
        let disk = SimulatedStorage::new();
        let path = Path::new("/made");
        let mut writer = SegmentWriter::create(&disk, path, ID, Lsn(0)).expect("creates");
        for i in 0..20 {
            let mut block = Vec::new();
            if i == 0 {
                put_command(&mut block, &[b"SELECT", b"0"]);
            }
            put_command(&mut block, &[b"SET", format!("key:{i}").as_bytes(), b"v"]);
            let stamp = Stamp {
                unix_ms: 1_700_000_000_000 + i,
                epoch: 1,
                policy: SyncPolicy::EverySecond,
            };
            writer.append(&mut block, stamp).expect("appends");
        }
        drop(writer);
        disk.contents(path).expect("it is there")
    }

    fn spec() -> RingSpec {
        RingSpec {
            prefix: "/ring/basalt-x".into(),
            run_id: "run".into(),
            boot_id: "boot".into(),
            dir_id: "dir".into(),
            manifest: "/aof/x.manifest".into(),
            shard_count: 1,
            data_len: DATA_LEN_MIN,
        }
    }

    /// A killed server: so much of the segment is in the file, and the rest, up to `end`, in its ring.
    fn killed(
        disk: &SimulatedStorage,
        rings: &SimulatedRings,
        in_file: usize,
        end: usize,
    ) -> Manifest {
        let bytes = segment();
        let path = Path::new("/aof/x.1.incr.aof");
        let file = disk.open(path, Open::Create).expect("creates");
        write_all_at(&*file, &bytes[..in_file], 0).expect("writes");
        let set = RingSet::create(
            Arc::new(rings.clone()),
            &spec(),
            RingDriver::Manual,
            Arc::new(|_, _| {}),
        )
        .expect("makes rings");
        let prepared = Prepared::open(disk, path, in_file as u64, true).expect("opens");
        let ring = set.ring(ID.shard).attach(prepared).expect("attaches");
        use crate::storage::StorageFile;
        assert_eq!(
            ring.append(&bytes[in_file..end]).expect("appends"),
            end - in_file
        );
        let mut manifest = Manifest {
            files: Vec::new(),
            run: Some(RunMark {
                boot_id: "boot".into(),
                run_id: "run".into(),
                rings: Some(RingsMark {
                    prefix: spec().prefix,
                    count: 1,
                }),
            }),
        };
        manifest.add_segment(OsStr::new("x"), ID);
        manifest
    }

    fn run(
        disk: &SimulatedStorage,
        rings: &SimulatedRings,
        manifest: &Manifest,
    ) -> Result<Exported, AofError> {
        let place = RingPlace {
            rings,
            boot_id: "boot",
            dir_id: "dir",
        };
        let options = SurveyOptions {
            threads: 1,
            os_crashed: false,
            now_ms: 0,
            alone: false,
        };
        let dirs = (Path::new("/aof"), Path::new("/out"));
        export(disk, place, dirs, OsStr::new("x"), manifest, &options)
    }

    #[test]
    fn what_is_in_the_ring_is_in_the_copy_and_stays_in_the_ring() {
        let whole = segment();
        for in_file in [0, 60, whole.len() / 2, whole.len() - 1] {
            let (disk, rings) = (SimulatedStorage::new(), SimulatedRings::default());
            let manifest = killed(&disk, &rings, in_file, whole.len());
            let source = disk.contents(Path::new("/aof/x.1.incr.aof"));
            for to in ["first", "again"] {
                let done = run(&disk, &rings, &manifest).unwrap_or_else(|e| panic!("{to}: {e}"));
                assert!(done.cuts.is_empty() && done.survey.is_good());
                assert_eq!(done.rings.bytes(), (whole.len() - in_file) as u64, "{to}");
                let copy = disk.contents(Path::new("/out/x.1.incr.aof"));
                assert_eq!(copy.as_ref(), Some(&whole), "{to}, {in_file}");
                assert_eq!(disk.contents(Path::new("/aof/x.1.incr.aof")), source);
                for name in disk.list(Path::new("/out")).expect("lists") {
                    disk.remove(&Path::new("/out").join(name)).expect("removes");
                }
            }
        }
    }

    #[test]
    fn a_block_torn_in_the_ring_is_cut_from_the_copy() {
        let whole = segment();
        let (disk, rings) = (SimulatedStorage::new(), SimulatedRings::default());
        let manifest = killed(&disk, &rings, 60, whole.len() - 5);
        let done = run(&disk, &rings, &manifest).expect("exports");
        let copy = disk
            .contents(Path::new("/out/x.1.incr.aof"))
            .expect("there");
        assert_eq!(done.cuts.len(), 1);
        assert!(whole.starts_with(&copy) && copy.ends_with(b"\r\n"));
        assert!(done.survey.is_good());
        let text = disk.contents(Path::new("/out/x.manifest")).expect("there");
        assert_eq!(Manifest::parse(&text).expect("parses").run, None);
    }
}
