//! Cutting segments, so that nothing is lost for a human and no crash leaves half of it done.
//!
//! Before a byte goes, it is copied beside the segments, and a report says what went, why, and what is left. Cuts that
//! only make sense together are written down first, in [`JOURNAL`]: whoever reads the files next carries out what is in
//! it ([`finish_pending`]) before anything else. So all segments are cut or none.
//! Invariant: of each cause the newest [`REPORTS_MAX`] reports are kept, with their bytes.

use super::contents::{Contents, Position};
use super::manifest::{is_plain_name, put_word, split_words, Manifest};
use super::point::format_millis;
use super::{AofError, SegmentId};
use crate::crc::Xz;
use crate::storage::{
    read_full_at, read_small, replace_small, write_all_at, Open, Storage, StorageFile,
};
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is to be done, while it is being done.
pub const JOURNAL: &str = "recovery.journal";
/// Reports kept of each cause.
pub const REPORTS_MAX: usize = 8;
/// What reports and the bytes beside them begin with.
pub const REPORT_PREFIX: &str = "recovery-";
/// Keys named in a report for each file.
const REPORT_KEYS_MAX: usize = 1000;
const JOURNAL_BYTES_MAX: u64 = 64 << 20;
const COPY_BYTES: usize = 1 << 20;

/// Why something is cut; the gravest comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The process ended within a write. Nobody was told that it succeeded.
    TornTail,
    /// The operating system went down, and each segment may have lost a different tail.
    OsCrash,
    /// Bytes behind damage, given up by `aof-load-corrupt-tail-max-size`.
    Damage,
    /// Somebody asked for an earlier state.
    Restore,
}

impl Cause {
    const ALL: [Cause; 4] = [
        Cause::TornTail,
        Cause::OsCrash,
        Cause::Damage,
        Cause::Restore,
    ];

    /// As it stands in INFO and in the names of reports.
    pub fn name(self) -> &'static str {
        match self {
            Cause::TornTail => "torn-tail",
            Cause::OsCrash => "os-crash",
            Cause::Damage => "damage",
            Cause::Restore => "restore",
        }
    }

    fn explained(self) -> &'static str {
        match self {
            Cause::TornTail => "the process ended while it was writing",
            Cause::OsCrash => {
                "the operating system went down: what not every segment has is not kept in any"
            }
            Cause::Damage => {
                "damage within the bytes that aof-load-corrupt-tail-max-size allows to be given up"
            }
            Cause::Restore => "an earlier state was asked for",
        }
    }
}

/// A tail that does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    pub path: PathBuf,
    /// What is left of the file; what seals it comes on top.
    pub offset: u64,
    pub bytes_dropped: u64,
    pub reason: String,
    pub cause: Cause,
    /// Which segment it is, where it has a head.
    pub segment: Option<SegmentId>,
    /// Of the last seal that is left.
    pub kept: Option<Position>,
    pub kept_commands: u64,
    pub discarded: Contents,
    /// A seal for commands that lose theirs, to be appended at `offset`.
    pub(super) seal: Vec<u8>,
    /// The whole file goes, also from the manifest.
    pub drops_file: bool,
}

impl Cut {
    fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }

    /// `shard 1`, where that is known.
    pub fn shard(&self) -> String {
        self.segment.map_or("no shard's own".into(), |id| {
            format!("shard {} of {}", id.shard.0, id.shard_count)
        })
    }
}

/// A seal to be put behind a file that stays whole, together with cuts of others.
pub(super) struct Mark {
    pub path: PathBuf,
    pub len: u64,
    pub seal: Vec<u8>,
}

/// What was carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    pub unix_ms: i64,
    pub cause: Option<Cause>,
    /// Where it is written down.
    pub report: Option<PathBuf>,
    /// Why the bytes could not be kept; only ever of a torn tail.
    pub not_kept: Option<String>,
}

/// Carries out cuts: keeps the bytes, writes the report, then cuts. `manifest`: the one to store afterwards, with its
/// prefix, if files go.
pub fn carry_out(
    storage: &dyn Storage,
    dir: &Path,
    cuts: &[Cut],
    manifest: Option<(&OsStr, &Manifest)>,
    heading: &str,
    unix_ms: i64,
) -> Result<Recovery, AofError> {
    carry_out_with(storage, dir, cuts, &[], manifest, heading, unix_ms)
}

/// As [`carry_out`], with marks at the same instant.
pub(super) fn carry_out_with(
    storage: &dyn Storage,
    dir: &Path,
    cuts: &[Cut],
    marks: &[Mark],
    manifest: Option<(&OsStr, &Manifest)>,
    heading: &str,
    unix_ms: i64,
) -> Result<Recovery, AofError> {
    let Some(cause) = cuts.iter().map(|cut| cut.cause).max() else {
        for mark in marks {
            cut_file(storage, &mark.path, mark.len, &mark.seal)?;
        }
        return Ok(Recovery::default());
    };
    let mut done = Recovery {
        unix_ms,
        cause: Some(cause),
        report: None,
        not_kept: None,
    };
    let stem = free_stem(storage, dir, unix_ms, cause)?;
    match keep_bytes(storage, dir, &stem, cuts, heading, unix_ms, cause) {
        Ok(report) => done.report = Some(report),
        // What nobody was told of need not stop the server on a full disk.
        Err(error) if cause == Cause::TornTail => done.not_kept = Some(error.to_string()),
        Err(error) => return Err(error),
    }
    // Torn tails are found again and cut alike, whatever was already done.
    if cause > Cause::TornTail || !marks.is_empty() {
        // The journal counts on what it leaves, which may be in the page cache alone.
        let cut = cuts.iter().filter(|cut| !cut.drops_file);
        let mut left = cut
            .map(|cut| &cut.path)
            .chain(marks.iter().map(|mark| &mark.path));
        left.try_for_each(|path| sync(storage, path))?;
        write_journal(storage, dir, cuts, marks, &stem, manifest)?;
        finish_pending(storage, dir)?;
    } else {
        for cut in cuts {
            cut_file(storage, &cut.path, cut.offset, &cut.seal)?;
        }
    }
    prune(storage, dir);
    Ok(done)
}

fn sync(storage: &dyn Storage, path: &Path) -> Result<(), AofError> {
    let synced = storage
        .open(path, Open::Write)
        .and_then(|file| file.datasync());
    synced.map_err(AofError::io(path, "sync"))
}

/// `recovery-<unix ms>-<cause>`, of no report that is there.
fn free_stem(
    storage: &dyn Storage,
    dir: &Path,
    unix_ms: i64,
    cause: Cause,
) -> Result<String, AofError> {
    for later in 0.. {
        let stem = format!("{REPORT_PREFIX}{}-{}", unix_ms + later, cause.name());
        let path = dir.join(format!("{stem}.txt"));
        let len = storage.file_len(&path);
        if len.map_err(AofError::io(&path, "look for"))?.is_none() {
            return Ok(stem);
        }
    }
    unreachable!("there are fewer files than numbers")
}

fn tail_name(stem: &str, cut: &Cut) -> OsString {
    let mut name = OsString::from(format!("{stem}."));
    name.push(cut.name());
    if !cut.drops_file {
        name.push(format!(".from-{}", cut.offset));
    }
    name
}

fn keep_bytes(
    storage: &dyn Storage,
    dir: &Path,
    stem: &str,
    cuts: &[Cut],
    heading: &str,
    unix_ms: i64,
    cause: Cause,
) -> Result<PathBuf, AofError> {
    let mut written = Vec::new();
    let result = (|| {
        for cut in cuts.iter().filter(|cut| !cut.drops_file) {
            let to = dir.join(tail_name(stem, cut));
            written.push(to.clone());
            copy_tail(storage, &cut.path, cut.offset, &to)?;
        }
        let text = report(stem, cuts, heading, unix_ms, cause);
        let name = OsString::from(format!("{stem}.txt"));
        let path = dir.join(&name);
        written.push(path.clone());
        replace_small(storage, dir, &name, text.as_bytes())
            .map_err(AofError::io(&path, "write the report"))?;
        Ok(path)
    })();
    if result.is_err() {
        for path in written {
            // It may not have come to be.
            let _ = storage.remove(&path);
        }
    }
    result
}

fn copy_tail(storage: &dyn Storage, from: &Path, offset: u64, to: &Path) -> Result<(), AofError> {
    let source = storage
        .open(from, Open::Read)
        .map_err(AofError::io(from, "open"))?;
    let copied = storage.open(to, Open::Create).and_then(|file| {
        copy(&source, offset, &*file)?;
        file.datasync()
    });
    copied.map_err(AofError::io(to, "keep what is cut off in"))
}

fn copy(source: &Arc<dyn StorageFile>, offset: u64, to: &dyn StorageFile) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut done = 0;
    loop {
        let got = read_full_at(&**source, &mut buffer, offset + done)?;
        if got == 0 {
            return Ok(());
        }
        write_all_at(to, &buffer[..got], done)?;
        done += got as u64;
    }
}

fn report(stem: &str, cuts: &[Cut], heading: &str, unix_ms: i64, cause: Cause) -> String {
    let mut all = Contents::default();
    cuts.iter().for_each(|cut| all.add(&cut.discarded));
    let mut out = String::new();
    let mut line = |text: std::fmt::Arguments<'_>| {
        writeln!(out, "{text}").expect("a string takes everything");
    };
    line(format_args!("Recovery of the append-only file"));
    line(format_args!("time: {}", format_millis(unix_ms)));
    line(format_args!(
        "cause: {} ({})",
        cause.name(),
        cause.explained()
    ));
    if !heading.is_empty() {
        line(format_args!("{heading}"));
    }
    line(format_args!("discarded in all: {}", all.summary()));
    for cut in cuts {
        line(format_args!(""));
        line(format_args!(
            "{} ({})",
            cut.name().to_string_lossy(),
            cut.segment
                .map_or("no segment of this server".into(), |id| {
                    format!("{}, generation {}", cut.shard(), id.generation)
                })
        ));
        line(format_args!("  why: {}", cut.reason));
        let position = |position: Option<Position>| {
            position.map_or("unknown".to_owned(), |position| position.to_string())
        };
        line(format_args!(
            "  kept: {} bytes, {} commands, up to {}",
            cut.offset,
            cut.kept_commands,
            position(cut.kept)
        ));
        line(format_args!("  discarded: {}", cut.discarded.summary()));
        if cut.discarded.first.is_some() {
            line(format_args!(
                "  discarded blocks: from {} to {}",
                position(cut.discarded.first),
                position(cut.discarded.last)
            ));
        }
        line(format_args!(
            "  the bytes are in: {}",
            tail_name(stem, cut).to_string_lossy()
        ));
        line(format_args!("  keys:"));
        for key in cut.discarded.key_names.iter().take(REPORT_KEYS_MAX) {
            line(format_args!("    {key}"));
        }
        let named = cut.discarded.key_names.len().min(REPORT_KEYS_MAX) as u64;
        if cut.discarded.keys > named {
            line(format_args!("    and {} more", cut.discarded.keys - named));
        }
    }
    out
}

fn write_journal(
    storage: &dyn Storage,
    dir: &Path,
    cuts: &[Cut],
    marks: &[Mark],
    stem: &str,
    manifest: Option<(&OsStr, &Manifest)>,
) -> Result<(), AofError> {
    let mut out = b"basalt-recovery 1\n".to_vec();
    let mut words = |words: &[&[u8]]| {
        for (i, word) in words.iter().enumerate() {
            if i > 0 {
                out.push(b' ');
            }
            put_word(&mut out, word);
        }
        out.push(b'\n');
    };
    for cut in cuts {
        let name = cut.name().as_bytes();
        if cut.drops_file {
            words(&[b"drop", name, tail_name(stem, cut).as_bytes()]);
        } else {
            let offset = cut.offset.to_string();
            words(&[b"cut", name, offset.as_bytes(), &cut.seal]);
        }
    }
    for mark in marks {
        let name = mark.path.file_name().unwrap_or_default().as_bytes();
        words(&[b"cut", name, mark.len.to_string().as_bytes(), &mark.seal]);
    }
    if let Some((prefix, manifest)) = manifest {
        words(&[b"manifest", prefix.as_bytes(), &manifest.format()]);
    }
    let mut crc = Xz::default();
    crc.update(&out);
    out.extend_from_slice(format!("crc {:016x}\n", crc.value()).as_bytes());
    replace_small(storage, dir, OsStr::new(JOURNAL), &out)
        .map_err(AofError::io(&dir.join(JOURNAL), "write"))
}

enum Step {
    Cut {
        name: OsString,
        offset: u64,
        seal: Vec<u8>,
    },
    Drop {
        name: OsString,
        to: OsString,
    },
    Manifest {
        prefix: OsString,
        manifest: Manifest,
    },
}

fn read_journal(bytes: &[u8]) -> Option<Vec<Step>> {
    let end = bytes.len().checked_sub("crc 0123456789abcdef\n".len())?;
    let (text, crc) = bytes.split_at(end);
    let mut digest = Xz::default();
    digest.update(text);
    if crc != format!("crc {:016x}\n", digest.value()).as_bytes() {
        return None;
    }
    let mut lines = text.split(|&b| b == b'\n').filter(|line| !line.is_empty());
    if lines.next()? != b"basalt-recovery 1" {
        return None;
    }
    lines.map(read_step).collect()
}

fn read_step(line: &[u8]) -> Option<Step> {
    let mut words = split_words(line)?.into_iter();
    let (kind, first) = (words.next()?, words.next()?);
    let second = words.next()?;
    if !is_plain_name(&first) || (kind == b"drop" && !is_plain_name(&second)) {
        return None;
    }
    let first = OsString::from_vec(first);
    match kind.as_slice() {
        b"cut" => Some(Step::Cut {
            name: first,
            offset: std::str::from_utf8(&second).ok()?.parse().ok()?,
            seal: words.next()?,
        }),
        b"drop" => Some(Step::Drop {
            name: first,
            to: OsString::from_vec(second),
        }),
        b"manifest" => Some(Step::Manifest {
            prefix: first,
            manifest: Manifest::parse(&second).ok()?,
        }),
        _ => None,
    }
}

/// Whether cuts are under way that [`finish_pending`] would carry out.
pub fn is_pending(storage: &dyn Storage, dir: &Path) -> Result<bool, AofError> {
    let path = dir.join(JOURNAL);
    let len = storage.file_len(&path);
    Ok(len.map_err(AofError::io(&path, "look for"))?.is_some())
}

/// Carries out what a process that ended in the middle of it had begun. To be called before anything is read, the
/// manifest included. Tells whether there was something.
pub fn finish_pending(storage: &dyn Storage, dir: &Path) -> Result<bool, AofError> {
    if !is_pending(storage, dir)? {
        return Ok(false);
    }
    let path = dir.join(JOURNAL);
    let bytes =
        read_small(storage, &path, JOURNAL_BYTES_MAX).map_err(AofError::io(&path, "read"))?;
    let steps = read_journal(&bytes).ok_or_else(|| AofError::Manifest {
        path: path.clone(),
        line: 0,
        reason: "a journal of cuts that are under way, and it is damaged".into(),
    })?;
    for step in &steps {
        if let Step::Cut { name, offset, seal } = step {
            cut_file(storage, &dir.join(name), *offset, seal)?;
        }
    }
    for step in &steps {
        if let Step::Manifest { prefix, manifest } = step {
            manifest.store(storage, dir, prefix)?;
        }
    }
    for step in &steps {
        let Step::Drop { name, to } = step else {
            continue;
        };
        let from = dir.join(name);
        match storage.rename(&from, &dir.join(to)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(AofError::io(&from, "rename")(error))
            }
            // Renamed already, before what ended that process.
            _ => {}
        }
    }
    storage
        .sync_dir(dir)
        .and_then(|()| storage.remove(&path))
        .and_then(|()| storage.sync_dir(dir))
        .map_err(AofError::io(&path, "remove"))?;
    Ok(true)
}

/// Leaves `offset` bytes and a seal. Repeating it changes nothing.
fn cut_file(storage: &dyn Storage, path: &Path, offset: u64, seal: &[u8]) -> Result<(), AofError> {
    let file = storage
        .open(path, Open::Write)
        .map_err(AofError::io(path, "open"))?;
    let len = file.len().map_err(AofError::io(path, "measure"))?;
    if len < offset {
        return Err(AofError::Truncated {
            path: path.to_owned(),
            offset: len,
            lsn: None,
            reason: format!("a cut at {offset} is under way"),
        });
    }
    file.truncate(offset)
        .and_then(|()| write_all_at(&*file, seal, offset))
        .and_then(|()| file.datasync())
        .map_err(AofError::io(path, "cut"))
}

/// Removes the oldest reports, and the bytes kept with them, of each cause beyond [`REPORTS_MAX`].
fn prune(storage: &dyn Storage, dir: &Path) {
    // What cannot be listed or removed is looked at again next time.
    let Ok(names) = storage.list(dir) else { return };
    let stem_of = |name: &OsString| {
        let name = name.to_str()?.strip_prefix(REPORT_PREFIX)?;
        let (stem, _) = name.split_once('.')?;
        let (unix_ms, cause) = stem.split_once('-')?;
        let cause = Cause::ALL.into_iter().find(|c| c.name() == cause)?;
        Some((cause, unix_ms.parse::<i64>().ok()?))
    };
    for cause in Cause::ALL {
        let mut of_cause: Vec<(i64, &OsString)> = names
            .iter()
            .filter_map(|name| Some((stem_of(name)?, name)))
            .filter(|((found, _), _)| *found == cause)
            .map(|((_, unix_ms), name)| (unix_ms, name))
            .collect();
        let mut times: Vec<i64> = of_cause.iter().map(|(unix_ms, _)| *unix_ms).collect();
        times.sort_unstable();
        times.dedup();
        let keep_from = times.len().saturating_sub(REPORTS_MAX);
        let oldest_kept = times.get(keep_from).copied().unwrap_or(i64::MIN);
        of_cause.retain(|(unix_ms, _)| *unix_ms < oldest_kept);
        for (_, name) in of_cause {
            let _ = storage.remove(&dir.join(name));
        }
    }
}
