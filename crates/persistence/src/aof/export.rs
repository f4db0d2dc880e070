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
