//! The manifest: which files make up the append-only file, in which order, and what run wrote them.
//!
//! Redis 7's text: `file NAME seq N type b|h|i` per line, in load order, with `#` comments. Ours adds `shard S of N
//! generation G` to the lines of its segments (stock servers skip pairs they do not know), `length L end-lsn E` to those of
//! files that others follow, and one comment with the boot and run ids. Segments of one generation hold disjoint keys and may be replayed at once; different generations, and
//! files without these pairs, follow one another.
//! Invariants: at most one base; sequence numbers of incr files rise; the file on disk is replaced as one step.

use super::annotation::COUNTER_MAX;
use super::{AofError, SegmentId};
use crate::storage::{
    abandon_small, commit_small, prepare_small, read_small, replace_small, Open, Storage,
};
use keyspace::{Lsn, ShardIndex};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A manifest longer than this is not one.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;
/// Behind the prefix: see [`Manifest::mark_beginning`].
const BEGINNING: &str = ".beginning";
/// Redis's limit on a line.
const LINE_BYTES_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    Base,
    Incr,
    /// No longer in force, not yet deleted.
    History,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AofFile {
    /// A name within the directory of the manifest.
    pub name: OsString,
    pub seq: u64,
    pub kind: FileKind,
    /// Which segment it is; absent in lines of stock servers.
    pub segment: Option<SegmentId>,
    /// What it was when the next file began, or it was complete; absent while it grows, and in lines of stock servers.
    pub closed: Option<Closed>,
    /// Pairs of others, kept.
    pub extra: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The end of a file that grows no more. Its checksums vouch for what is in front of them: that nothing is missing behind
/// them, this says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    pub len: u64,
    /// Of a segment, where it is known.
    pub lsn: Option<Lsn>,
}

/// Who wrote the files last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunMark {
    /// `/proc/sys/kernel/random/boot_id`: equal means that no crash of the operating system lies between.
    pub boot_id: String,
    pub run_id: String,
    /// Where its segments' newest bytes may be.
    pub rings: Option<RingsMark>,
}

/// The rings of a run: see [`crate::storage::ring`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingsMark {
    /// Path and beginning of the name of each.
    pub prefix: PathBuf,
    /// One for each shard.
    pub count: u16,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    pub files: Vec<AofFile>,
    pub run: Option<RunMark>,
}

/// What [`Manifest::load`] found.
#[derive(Debug)]
pub enum Found {
    Manifest(Manifest),
    /// An append-only file from before Redis 7: moved into the directory, as the base of a new manifest.
    Upgraded(Manifest),
    Nothing,
}

impl Manifest {
    /// Reads text. The error says which line (0: the whole) and why.
    pub fn parse(text: &[u8]) -> Result<Manifest, (usize, String)> {
        let mut manifest = Manifest::default();
        let mut incr_seq_last = 0;
        let mut count = None;
        let mut lines: Vec<&[u8]> = text.split(|&b| b == b'\n').collect();
        if lines.pop().is_some_and(|tail| !tail.is_empty()) {
            return Err((lines.len() + 1, "the last line has no end".into()));
        }
        for (i, line) in lines.into_iter().enumerate() {
            let fail = |reason: &str| Err((i + 1, reason.to_string()));
            if line.len() >= LINE_BYTES_MAX {
                return fail("the line is too long");
            }
            if line.first() == Some(&b'#') {
                manifest.run = parse_run(line).or(manifest.run);
                if let Some(digits) = line.strip_prefix(COUNT_PREFIX) {
                    // A line whose end is damaged swallows the next.
                    count = match parse_count(digits) {
                        Some(count) => Some(count),
                        None => return fail("not a number of files"),
                    };
                }
                continue;
            }
            let file = match parse_line(line) {
                Ok(file) => file,
                Err(reason) => return fail(reason),
            };
            if line_len_most(&file) >= LINE_BYTES_MAX {
                return fail("the line is too long");
            }
            match file.kind {
                FileKind::Base if manifest.base().is_some() => return fail("a second base file"),
                FileKind::Incr if file.seq <= incr_seq_last => {
                    return fail("a sequence number that does not rise")
                }
                FileKind::Incr => incr_seq_last = file.seq,
                FileKind::Base | FileKind::History => {}
            }
            manifest.files.push(file);
        }
        if manifest.files.is_empty() {
            return Err((0, "the manifest names no file".into()));
        }
        let named = manifest.files.len();
        if let Some(count) = count.filter(|count| *count != named) {
            let reason = format!("the manifest names {named} files and should name {count}");
            return Err((0, reason));
        }
        Ok(manifest)
    }

    /// The text that [`Manifest::parse`] and stock servers read.
    pub fn format(&self) -> Vec<u8> {
        let mut out = format!("#basalt files {}\n", self.files.len()).into_bytes();
        if let Some(run) = &self.run {
            out.extend_from_slice(
                format!("#basalt boot-id {} run-id {}", run.boot_id, run.run_id).as_bytes(),
            );
            if let Some(rings) = &run.rings {
                out.extend_from_slice(format!(" rings {} ", rings.count).as_bytes());
                put_word(&mut out, rings.prefix.as_os_str().as_bytes());
            }
            out.push(b'\n');
        }
        for file in &self.files {
            put_file(&mut out, file);
            out.push(b'\n');
        }
        out
    }

    pub fn base(&self) -> Option<&AofFile> {
        self.files.iter().find(|file| file.kind == FileKind::Base)
    }

    pub fn incrs(&self) -> impl DoubleEndedIterator<Item = &AofFile> {
        self.files.iter().filter(|file| file.kind == FileKind::Incr)
    }

    /// The incr files in groups: the files of a group may be replayed at once, the groups follow one another.
    pub fn generations(&self) -> Vec<Vec<&AofFile>> {
        let mut groups: Vec<Vec<&AofFile>> = Vec::new();
        for file in self.incrs() {
            let belongs = |group: &Vec<&AofFile>| match (file.segment, group[0].segment) {
                (Some(new), Some(first)) => {
                    new.generation == first.generation
                        && new.shard_count == first.shard_count
                        && group
                            .iter()
                            .all(|other| other.segment.is_some_and(|id| id.shard != new.shard))
                }
                _ => false,
            };
            match groups.last_mut() {
                Some(group) if belongs(group) => group.push(file),
                _ => groups.push(vec![file]),
            }
        }
        groups
    }

    /// Notes that a file has come to its end; nothing if it is not named.
    pub fn close(&mut self, name: &OsStr, closed: Closed) {
        if let Some(file) = self.files.iter_mut().find(|file| file.name == name) {
            file.closed = Some(closed);
        }
    }

    /// The highest generation, 0 if there is none.
    pub fn generation_last(&self) -> u64 {
        self.files
            .iter()
            .filter_map(|file| file.segment)
            .map(|id| id.generation)
            .max()
            .unwrap_or(0)
    }

    fn next_seq(&self, kind: FileKind) -> u64 {
        self.files
            .iter()
            .filter(|f| f.kind == kind)
            .map(|f| f.seq)
            .max()
            .unwrap_or(0)
            + 1
    }

    /// A name for a base that follows all others: `<prefix>.<seq>.base.rdb` or `.base.aof`. Not added.
    pub fn next_base(&self, prefix: &OsStr, rdb: bool) -> AofFile {
        let seq = self
            .files
            .iter()
            .filter(|f| f.kind != FileKind::Incr)
            .map(|f| f.seq)
            .max()
            .unwrap_or(0)
            + 1;
        let name = with_suffix(
            prefix,
            &format!(".{seq}.base.{}", if rdb { "rdb" } else { "aof" }),
        );
        AofFile {
            name,
            seq,
            kind: FileKind::Base,
            segment: None,
            closed: None,
            extra: Vec::new(),
        }
    }

    /// Adds a segment behind all others and returns it: `<prefix>.<seq>.incr.aof`.
    pub fn add_segment(&mut self, prefix: &OsStr, id: SegmentId) -> &AofFile {
        let history = self
            .files
            .iter()
            .filter(|f| f.kind == FileKind::History)
            .map(|f| f.seq)
            .max()
            .unwrap_or(0);
        let seq = self.next_seq(FileKind::Incr).max(history + 1);
        let name = with_suffix(prefix, &format!(".{seq}.incr.aof"));
        self.files.push(AofFile {
            name,
            seq,
            kind: FileKind::Incr,
            segment: Some(id),
            closed: None,
            extra: Vec::new(),
        });
        self.files.last().expect("just pushed")
    }

    /// The set after a rewrite: `base` instead of the old one, only the segments of generations from `generation` on;
    /// all else becomes history.
    pub fn rewritten(&self, base: AofFile, generation: u64) -> Manifest {
        let mut history = Vec::new();
        let mut kept = Vec::new();
        for file in &self.files {
            let stays = file.kind == FileKind::Incr
                && file.segment.is_some_and(|id| id.generation >= generation);
            if stays {
                kept.push(file.clone());
            } else {
                history.push(AofFile {
                    kind: FileKind::History,
                    ..file.clone()
                });
            }
        }
        let files = std::iter::once(base).chain(history).chain(kept).collect();
        Manifest {
            files,
            run: self.run.clone(),
        }
    }

    /// The set without its history, whose names are returned too: store this, then delete those.
    pub fn without_history(&self) -> (Manifest, Vec<OsString>) {
        let (history, files) = self
            .files
            .iter()
            .cloned()
            .partition::<Vec<_>, _>(|f| f.kind == FileKind::History);
        (
            Manifest {
                files,
                run: self.run.clone(),
            },
            history.into_iter().map(|file| file.name).collect(),
        )
    }

    /// Writes what [`Manifest::commit`] will put in force, durably: the half that can be done beforehand.
    pub fn prepare(
        &self,
        storage: &dyn Storage,
        dir: &Path,
        prefix: &OsStr,
    ) -> Result<(), AofError> {
        let name = with_suffix(prefix, ".manifest");
        prepare_small(storage, dir, &name, &self.format())
            .map_err(AofError::io(&dir.join(&name), "prepare"))
    }

    /// Replaces `<dir>/<prefix>.manifest` by what was prepared last, durably.
    pub fn commit(storage: &dyn Storage, dir: &Path, prefix: &OsStr) -> Result<(), AofError> {
        let name = with_suffix(prefix, ".manifest");
        commit_small(storage, dir, &name).map_err(AofError::io(&dir.join(&name), "store"))
    }

    /// Drops what was prepared.
    pub fn abandon(storage: &dyn Storage, dir: &Path, prefix: &OsStr) {
        abandon_small(storage, dir, &with_suffix(prefix, ".manifest"));
    }

    /// Replaces `<dir>/<prefix>.manifest`, durably.
    pub fn store(&self, storage: &dyn Storage, dir: &Path, prefix: &OsStr) -> Result<(), AofError> {
        let name = with_suffix(prefix, ".manifest");
        replace_small(storage, dir, &name, &self.format())
            .map_err(AofError::io(&dir.join(&name), "store"))
    }

    /// Reads the file as it is.
    pub fn read(storage: &dyn Storage, path: &Path) -> Result<Manifest, AofError> {
        let text =
            read_small(storage, path, MANIFEST_BYTES_MAX).map_err(AofError::io(path, "read"))?;
        let refused = |(line, reason)| AofError::Manifest {
            path: path.to_owned(),
            line,
            reason,
        };
        let manifest = Manifest::parse(&text).map_err(refused)?;
        if !manifest.can_grow() {
            return Err(refused((0, "its numbers are used up".into())));
        }
        Ok(manifest)
    }

    /// Whether files can follow those that are named. Nobody gets beyond that by counting.
    pub fn can_grow(&self) -> bool {
        const ROOM: u64 = 1 << 32;
        let generations = self.files.iter().filter_map(|file| file.segment);
        let numbers = self.files.iter().map(|file| file.seq);
        numbers
            .chain(generations.map(|id| id.generation))
            .all(|number| number < COUNTER_MAX - ROOM)
    }

    /// Its name in the directory.
    pub fn file_name(prefix: &OsStr) -> OsString {
        with_suffix(prefix, ".manifest")
    }

    /// Whether this is what a load would read, durable or not.
    pub fn is_on_disk(
        &self,
        storage: &dyn Storage,
        dir: &Path,
        prefix: &OsStr,
    ) -> std::io::Result<bool> {
        let path = dir.join(with_suffix(prefix, ".manifest"));
        match read_small(storage, &path, MANIFEST_BYTES_MAX) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            read => Ok(read? == self.format()),
        }
    }

    /// Says, durably, that files are being made that the first manifest will name: until it is there they mean nothing.
    /// Where there is a manifest, nothing is to be said.
    pub fn mark_beginning(
        storage: &dyn Storage,
        dir: &Path,
        prefix: &OsStr,
    ) -> Result<(), AofError> {
        let manifest = dir.join(with_suffix(prefix, ".manifest"));
        let exists = storage
            .file_len(&manifest)
            .map_err(AofError::io(&manifest, "look for"))?
            .is_some();
        if exists {
            return Ok(());
        }
        let mark = dir.join(with_suffix(prefix, BEGINNING));
        storage
            .open(&mark, Open::Create)
            .map_err(AofError::io(&mark, "create"))?;
        storage.sync_dir(dir).map_err(AofError::io(dir, "sync"))
    }

    /// Behind the first [`Manifest::store`].
    pub fn unmark_beginning(storage: &dyn Storage, dir: &Path, prefix: &OsStr) {
        // As a rule there is none; beside a manifest it has no meaning.
        let _ = storage.remove(&dir.join(with_suffix(prefix, BEGINNING)));
    }

    /// Reads `<parent>/<dirname>/<prefix>.manifest`; where there is none, takes over `<parent>/<prefix>`, the single
    /// append-only file of servers before Redis 7. Cuts that an earlier process had begun are carried out first.
    pub fn load(
        storage: &dyn Storage,
        parent: &Path,
        dirname: &OsStr,
        prefix: &OsStr,
    ) -> Result<Found, AofError> {
        let dir = parent.join(dirname);
        super::cut::finish_pending(storage, &dir)?;
        let path = dir.join(with_suffix(prefix, ".manifest"));
        let old = parent.join(prefix);
        let old_exists = storage
            .file_len(&old)
            .map_err(AofError::io(&old, "look for"))?
            .is_some();
        if storage
            .file_len(&path)
            .map_err(AofError::io(&path, "look for"))?
            .is_none()
        {
            let mark = dir.join(with_suffix(prefix, BEGINNING));
            let began = storage
                .file_len(&mark)
                .map_err(AofError::io(&mark, "look for"))?
                .is_some();
            if !old_exists && began {
                return Ok(Found::Nothing);
            }
            if !old_exists {
                refuse_orphans(storage, &dir, prefix, &path)?;
                return Ok(Found::Nothing);
            }
            storage
                .create_dir(&dir)
                .map_err(AofError::io(&dir, "create"))?;
            storage
                .sync_dir(parent)
                .map_err(AofError::io(parent, "sync"))?;
            let base = AofFile {
                name: prefix.into(),
                seq: 1,
                kind: FileKind::Base,
                segment: None,
                closed: None,
                extra: Vec::new(),
            };
            let manifest = Manifest {
                files: vec![base],
                run: None,
            };
            manifest.store(storage, &dir, prefix)?;
            move_old(storage, parent, &dir, prefix)?;
            return Ok(Found::Upgraded(manifest));
        }
        let manifest = Manifest::read(storage, &path)?;
        // A crash between the two steps of an upgrade leaves the manifest without the file.
        let upgrading =
            manifest.files.len() == 1 && manifest.base().is_some_and(|base| base.name == prefix);
        let moved = storage
            .file_len(&dir.join(prefix))
            .map_err(AofError::io(&dir, "look into"))?
            .is_some();
        if upgrading && !moved && old_exists {
            move_old(storage, parent, &dir, prefix)?;
            return Ok(Found::Upgraded(manifest));
        }
        Ok(Found::Manifest(manifest))
    }
}

fn move_old(
    storage: &dyn Storage,
    parent: &Path,
    dir: &Path,
    prefix: &OsStr,
) -> Result<(), AofError> {
    let old = parent.join(prefix);
    storage
        .rename(&old, &dir.join(prefix))
        .map_err(AofError::io(&old, "move"))?;
    storage.sync_dir(dir).map_err(AofError::io(dir, "sync"))?;
    storage
        .sync_dir(parent)
        .map_err(AofError::io(parent, "sync"))
}

fn with_suffix(prefix: &OsStr, suffix: &str) -> OsString {
    let mut name = prefix.to_owned();
    name.push(suffix);
    name
}

/// How many files there should be: a manifest that lost its last lines would else be one of less data.
const COUNT_PREFIX: &[u8] = b"#basalt files ";

fn parse_count(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.trim_end().parse().ok()
}

fn parse_run(line: &[u8]) -> Option<RunMark> {
    let words = split_words(line.strip_prefix(b"#basalt ")?)?;
    let text = |word: &[u8]| String::from_utf8(word.to_vec()).ok();
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    let (boot_id, run_id, rings) = match words[..] {
        [b"boot-id", boot_id, b"run-id", run_id] => (boot_id, run_id, None),
        [b"boot-id", boot_id, b"run-id", run_id, b"rings", count, prefix] => {
            let rings = RingsMark {
                prefix: OsString::from_vec(prefix.to_vec()).into(),
                count: text(count)?.parse().ok()?,
            };
            (boot_id, run_id, Some(rings))
        }
        _ => return None,
    };
    Some(RunMark {
        boot_id: text(boot_id)?,
        run_id: text(run_id)?,
        rings,
    })
}

fn parse_line(line: &[u8]) -> Result<AofFile, &'static str> {
    let words = split_words(line).ok_or("unbalanced quotes")?;
    if words.len() < 6 || words.len() % 2 != 0 {
        return Err("not key value pairs with file, seq and type");
    }
    let (mut name, mut seq, mut kind) = (None, None, None);
    let (mut shard, mut shard_count, mut generation) = (None, None, None);
    let (mut len, mut lsn) = (None, None);
    let mut extra = Vec::new();
    for pair in words.chunks_exact(2) {
        let (key, value) = (&pair[0], &pair[1]);
        let text = || std::str::from_utf8(value).ok();
        match key.to_ascii_lowercase().as_slice() {
            b"file" => name = Some(value.clone()),
            b"seq" => {
                seq = Some(
                    text()
                        .and_then(|t| t.parse().ok())
                        .filter(|&seq| seq <= COUNTER_MAX)
                        .ok_or("seq is not a number")?,
                )
            }
            b"type" => {
                kind = Some(match value.as_slice() {
                    b"b" => FileKind::Base,
                    b"i" => FileKind::Incr,
                    b"h" => FileKind::History,
                    _ => return Err("unknown type"),
                })
            }
            b"shard" => {
                shard = Some(
                    text()
                        .and_then(|t| t.parse().ok())
                        .ok_or("shard is not a number")?,
                )
            }
            b"of" => {
                shard_count = Some(
                    text()
                        .and_then(|t| t.parse().ok())
                        .ok_or("of is not a number")?,
                )
            }
            b"generation" => {
                generation = Some(
                    text()
                        .and_then(|t| t.parse().ok())
                        .filter(|&generation| generation <= COUNTER_MAX)
                        .ok_or("generation is not a number")?,
                )
            }
            b"length" => len = Some(parse_position(value).ok_or("length is not a number")?),
            b"end-lsn" => lsn = Some(parse_position(value).ok_or("end-lsn is not a number")?),
            _ => extra.push((key.clone(), value.clone())),
        }
    }
    let name = name.ok_or("no file")?;
    if !is_plain_name(&name) {
        return Err("the file name is not a plain name");
    }
    let segment = match (shard, shard_count, generation) {
        (Some(shard), Some(shard_count), Some(generation)) => Some(SegmentId {
            shard: ShardIndex(shard),
            shard_count,
            generation,
        }),
        (None, None, None) => None,
        _ => return Err("shard, of and generation go together"),
    };
    let closed = match (len, lsn) {
        (Some(len), lsn) => Some(Closed {
            len,
            lsn: lsn.map(Lsn),
        }),
        (None, None) => None,
        (None, Some(_)) => return Err("end-lsn goes with length"),
    };
    let (seq, kind) = (
        seq.filter(|&seq| seq > 0).ok_or("no seq")?,
        kind.ok_or("no type")?,
    );
    Ok(AofFile {
        name: OsString::from_vec(name),
        seq,
        kind,
        segment,
        closed,
        extra,
    })
}

fn parse_position(text: &[u8]) -> Option<u64> {
    datatypes::number::parse_u64(text).filter(|&position| position <= COUNTER_MAX)
}

/// Splits a line at blanks; words may be quoted as in redis.conf.
pub(super) fn split_words(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line.trim_ascii();
    while let Some(&first) = rest.first() {
        let mut word = Vec::new();
        if first == b'"' || first == b'\'' {
            rest = &rest[1..];
            loop {
                let (&b, after) = rest.split_first()?;
                rest = after;
                match b {
                    b'\\' if first == b'"' => rest = take_escape(rest, &mut word)?,
                    b'\\' if rest.first() == Some(&b'\'') => {
                        word.push(b'\'');
                        rest = &rest[1..];
                    }
                    _ if b == first => break,
                    _ => word.push(b),
                }
            }
            if rest.first().is_some_and(|b| !b.is_ascii_whitespace()) {
                return None;
            }
        } else {
            let end = rest
                .iter()
                .position(|b| b.is_ascii_whitespace())
                .unwrap_or(rest.len());
            word.extend_from_slice(&rest[..end]);
            rest = &rest[end..];
        }
        words.push(word);
        rest = rest.trim_ascii_start();
    }
    Some(words)
}

/// Reads what follows a backslash within double quotes.
fn take_escape<'a>(rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (&b, after) = rest.split_first()?;
    if b == b'x' && after.len() >= 2 {
        let hex = std::str::from_utf8(&after[..2])
            .ok()
            .filter(|h| h.bytes().all(|b| b.is_ascii_hexdigit()));
        if let Some(byte) = hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            word.push(byte);
            return Some(&after[2..]);
        }
    }
    word.push(match b {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    });
    Some(after)
}

/// A line without its end.
fn put_file(out: &mut Vec<u8>, file: &AofFile) {
    out.extend_from_slice(b"file ");
    put_word(out, file.name.as_bytes());
    let kind = match file.kind {
        FileKind::Base => 'b',
        FileKind::Incr => 'i',
        FileKind::History => 'h',
    };
    out.extend_from_slice(format!(" seq {} type {kind}", file.seq).as_bytes());
    if let Some(id) = file.segment {
        let pairs = format!(
            " shard {} of {} generation {}",
            id.shard.0, id.shard_count, id.generation
        );
        out.extend_from_slice(pairs.as_bytes());
    }
    if let Some(closed) = file.closed {
        out.extend_from_slice(format!(" length {}", closed.len).as_bytes());
        if let Some(lsn) = closed.lsn {
            out.extend_from_slice(format!(" end-lsn {}", lsn.0).as_bytes());
        }
    }
    for (key, value) in &file.extra {
        out.push(b' ');
        put_word(out, key);
        out.push(b' ');
        put_word(out, value);
    }
}

/// How long the line may become when it is written anew: quoted, with what the file's head says and where it ends.
fn line_len_most(file: &AofFile) -> usize {
    let mut line = Vec::new();
    let segment = Some(SegmentId {
        shard: ShardIndex(u16::MAX),
        shard_count: u16::MAX,
        generation: COUNTER_MAX,
    });
    let closed = Some(Closed {
        len: COUNTER_MAX,
        lsn: Some(Lsn(COUNTER_MAX)),
    });
    put_file(
        &mut line,
        &AofFile {
            segment,
            closed,
            ..file.clone()
        },
    );
    line.len()
}

/// Whether a name that a file gives is one within its directory: no other file must be reached through it.
pub(super) fn is_plain_name(name: &[u8]) -> bool {
    let leads_away = name.contains(&b'/') || name == b"." || name == b"..";
    !name.is_empty() && !leads_away && !name.contains(&0)
}

/// Writes a word, quoted if it must be.
pub(super) fn put_word(out: &mut Vec<u8>, word: &[u8]) {
    let plain = |b: &u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'\\' | b'#');
    if !word.is_empty() && word.iter().all(plain) {
        out.extend_from_slice(word);
        return;
    }
    out.push(b'"');
    for &b in word {
        match b {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', b]),
            b' '..=b'~' => out.push(b),
            _ => out.extend_from_slice(format!("\\x{b:02x}").as_bytes()),
        }
    }
    out.push(b'"');
}

/// A base and segments are a dataset, even if the manifest that names them is lost: to start without them would
/// end in writing over them. Segments alone are what a crash leaves of an append-only file that was being switched on.
fn refuse_orphans(
    storage: &dyn Storage,
    dir: &Path,
    prefix: &OsStr,
    manifest: &Path,
) -> Result<(), AofError> {
    let names = match storage.list(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        listed => listed.map_err(AofError::io(dir, "list"))?,
    };
    let find = |kind: &str| {
        names.iter().find_map(|name| {
            let rest = name.as_bytes().strip_prefix(prefix.as_bytes())?;
            let rest = rest.strip_prefix(b".")?;
            let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
            rest[digits..]
                .starts_with(kind.as_bytes())
                .then(|| name.to_string_lossy().into_owned())
        })
    };
    match (find(".base."), find(".incr.")) {
        (Some(base), Some(_)) => Err(AofError::Manifest {
            path: manifest.to_owned(),
            line: 0,
            reason: format!("the manifest is missing, but {base} and segments are beside it"),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::simulated::SimulatedStorage;
    use crate::storage::{write_all_at, Open};
    use proptest::prelude::*;

    fn id(shard: u16, generation: u64) -> SegmentId {
        SegmentId {
            shard: ShardIndex(shard),
            shard_count: 2,
            generation,
        }
    }

    fn names(files: &[&AofFile]) -> Vec<String> {
        files
            .iter()
            .map(|f| f.name.to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn text_of_redis_is_read() {
        let text = b"file appendonly.aof.2.base.rdb seq 2 type b\nfile appendonly.aof.1.incr.aof seq 1 type h\n\
            file \"a \\x41\\\".aof\" seq 4 type i startoffset 12\n# note\nfile b seq 5 type i\n";
        let manifest = Manifest::parse(text).expect("well formed");
        assert_eq!(manifest.base().map(|b| b.seq), Some(2));
        assert_eq!(
            names(&manifest.incrs().collect::<Vec<_>>()),
            ["a A\".aof", "b"]
        );
        assert_eq!(
            manifest.files[2].extra,
            [(b"startoffset".to_vec(), b"12".to_vec())]
        );
        assert_eq!(manifest.generations().len(), 2);
        let again = Manifest::parse(&manifest.format()).expect("our own text");
        assert_eq!(again, manifest);
    }

    #[test]
    fn lengths_of_closed_files_are_kept() {
        let text = b"file a seq 1 type b length 17\nfile b seq 2 type i shard 0 of 1 generation 1 length 4096 end-lsn 3000\n";
        let mut manifest = Manifest::parse(text).expect("well formed");
        let closed = |len, lsn: Option<u64>| {
            let lsn = lsn.map(Lsn);
            Some(Closed { len, lsn })
        };
        let ends = |manifest: &Manifest| -> Vec<_> {
            manifest.files.iter().map(|file| file.closed).collect()
        };
        assert_eq!(
            ends(&manifest),
            [closed(17, None), closed(4096, Some(3000))]
        );
        manifest.close(OsStr::new("b"), Closed { len: 5, lsn: None });
        let again = Manifest::parse(&manifest.format()).expect("our own text");
        assert_eq!(ends(&again), [closed(17, None), closed(5, None)]);
    }

    #[test]
    fn a_manifest_that_no_file_can_follow_is_refused() {
        let disk = SimulatedStorage::new();
        let check = |seq: u64, can_grow: bool| {
            let text = format!("file a seq {seq} type i\n");
            let name = Manifest::file_name(OsStr::new("a"));
            replace_small(&disk, Path::new("/d"), &name, text.as_bytes()).expect("room");
            let read = Manifest::read(&disk, &Path::new("/d").join(name));
            assert_eq!(read.is_ok(), can_grow, "{seq}");
        };
        check(1 << 60, true);
        check(COUNTER_MAX, false);
    }

    #[test]
    fn bad_text_is_refused_with_its_line() {
        let check = |text: &str, line: usize| {
            let (at, reason) = Manifest::parse(text.as_bytes()).expect_err(text);
            assert_eq!(at, line, "{text:?}: {reason}");
        };
        check("", 0);
        check("# only a comment\n", 0);
        check("file a seq 1 type b", 1);
        check(
            "#basalt files 2Jfile a seq 1 type b\nfile b seq 1 type i\n",
            1,
        );
        check("\n", 1);
        check("file a seq 1 type b\nfile b seq 2 type b\n", 2);
        check("file a seq 2 type i\nfile b seq 2 type i\n", 2);
        check("file ../a seq 1 type b\n", 1);
        check("file a seq x type b\n", 1);
        check("file a seq 18446744073709551615 type b\n", 1);
        check(
            "file a seq 1 type i shard 0 of 1 generation 18446744073709551615\n",
            1,
        );
        check("file a seq 1 type i length -1\n", 1);
        check("file a seq 1 type i end-lsn 5\n", 1);
        check("file a seq 1 type q\n", 1);
        check("file a seq 1 type i shard 3\n", 1);
        check("file \"a seq 1 type i\n", 1);
        check("file a seq 1\n", 1);
        // It could be read, but not be written again.
        let quoted = "\x01".repeat(300);
        check(&format!("file {quoted} seq 1 type b\n"), 1);
    }

    #[test]
    fn generations_group_segments() {
        let mut manifest = Manifest {
            run: Some(RunMark {
                boot_id: "b".into(),
                run_id: "r".into(),
                rings: Some(RingsMark {
                    prefix: "/dev/shm/a \"b\"/basalt-1".into(),
                    count: 2,
                }),
            }),
            ..Default::default()
        };
        let prefix = OsStr::new("appendonly.aof");
        manifest.files.push(manifest.next_base(prefix, true));
        for (shard, generation) in [(0, 1), (1, 1), (0, 2), (1, 2)] {
            manifest.add_segment(prefix, id(shard, generation));
        }
        let text = manifest.format();
        let manifest = Manifest::parse(&text).expect("our own text");
        assert_eq!(manifest.format(), text);
        assert_eq!(
            manifest.run.as_ref().unwrap().rings.as_ref().unwrap().count,
            2
        );
        let groups: Vec<_> = manifest
            .generations()
            .iter()
            .map(|group| names(group))
            .collect();
        assert_eq!(
            groups,
            [
                ["appendonly.aof.1.incr.aof", "appendonly.aof.2.incr.aof"],
                ["appendonly.aof.3.incr.aof", "appendonly.aof.4.incr.aof"]
            ]
        );
        assert_eq!(manifest.generation_last(), 2);

        let base = manifest.next_base(prefix, false);
        assert_eq!(base.name, "appendonly.aof.2.base.aof");
        let rewritten =
            Manifest::parse(&manifest.rewritten(base, 2).format()).expect("our own text");
        let (clean, deleted) = rewritten.without_history();
        assert_eq!(deleted.len(), 3);
        assert_eq!(
            names(&clean.files.iter().collect::<Vec<_>>()),
            [
                "appendonly.aof.2.base.aof",
                "appendonly.aof.3.incr.aof",
                "appendonly.aof.4.incr.aof"
            ]
        );
        assert_eq!(clean.run, manifest.run);
    }

    #[test]
    fn single_file_of_old_is_taken_over_even_after_a_crash_halfway() {
        let disk = SimulatedStorage::new();
        let (parent, dirname, prefix) = (
            Path::new("/d"),
            OsStr::new("appendonlydir"),
            OsStr::new("appendonly.aof"),
        );
        let load =
            |disk: &SimulatedStorage| Manifest::load(disk, parent, dirname, prefix).expect("loads");
        assert!(matches!(load(&disk), Found::Nothing));
        let file = disk
            .open(&parent.join(prefix), Open::Create)
            .expect("opens");
        write_all_at(&*file, b"*1\r\n$4\r\nPING\r\n", 0).expect("writes");
        assert!(matches!(load(&disk), Found::Upgraded(_)));
        let inside = parent.join(dirname).join(prefix);
        assert!(disk.contents(&inside).is_some());
        assert!(matches!(load(&disk), Found::Manifest(_)));
        disk.rename(&inside, &parent.join(prefix)).expect("renames");
        assert!(matches!(load(&disk), Found::Upgraded(_)));
        assert!(disk.contents(&inside).is_some());
    }

    #[test]
    fn files_without_their_manifest_are_refused() {
        let disk = SimulatedStorage::new();
        let dir = Path::new("/d/appendonlydir");
        let load = || {
            let (dirname, prefix) = (OsStr::new("appendonlydir"), OsStr::new("appendonly.aof"));
            Manifest::load(&disk, Path::new("/d"), dirname, prefix)
        };
        let create = |name: &str| drop(disk.open(&dir.join(name), Open::Create).expect("opens"));
        create("appendonly.aof.1.incr.aof");
        create("other.aof.1.base.rdb");
        assert!(matches!(load(), Ok(Found::Nothing)));
        create("appendonly.aof.12.base.rdb");
        match load() {
            Err(AofError::Manifest { path, reason, .. }) => {
                assert_eq!(path, dir.join("appendonly.aof.manifest"));
                assert!(reason.contains("appendonly.aof.12.base.rdb"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_panic(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Manifest::parse(&text);
        }

        #[test]
        fn any_line_like_text_is_parsed_or_refused(text in "(file|seq|type|shard|of|generation|[a-z]|[0-9]{1,3}| |\"|'|\\\\x[0-9]|#|\n){0,40}") {
            if let Ok(manifest) = Manifest::parse(text.as_bytes()) {
                prop_assert_eq!(&Manifest::parse(&manifest.format()).expect("formatted text parses").files, &manifest.files);
            }
        }

        #[test]
        fn any_name_survives(name in proptest::collection::vec(any::<u8>().prop_filter("plain", |b| *b != b'/' && *b != 0), 1..40)) {
            prop_assume!(name != b"." && name != b"..");
            let file = AofFile { name: OsString::from_vec(name), seq: 1, kind: FileKind::Base, segment: None, closed: None, extra: vec![] };
            let manifest = Manifest { files: vec![file], run: None };
            prop_assert_eq!(Manifest::parse(&manifest.format()).expect("our own text"), manifest);
        }
    }
}
