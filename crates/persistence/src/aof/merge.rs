//! Two neighbouring generations into one.
//!
//! Each rewrite begins a generation, and one that fails leaves it behind. Where rewrites keep failing, the short ones are
//! put together, so that the number of files grows with what was written and not with how often it was tried. Only
//! generations that are no longer written to, and are whole, are touched; the blocks keep their stamps and positions.

use super::annotation::{self, Annotation};
use super::frames::{Frame, FrameError, FrameReader};
use super::manifest::{AofFile, Closed, FileKind, Manifest};
use super::scan::scan_segment;
use super::segment::SegmentWriter;
use super::{AofError, SegmentId, Stamp};
use crate::storage::{read_full_at, FileReader, Open, Storage, StorageFile};
use keyspace::Lsn;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Generations are merged while both together are at most this long: it bounds what one merge costs.
pub const MERGED_BYTES_MAX: u64 = 32 << 20;

/// A manifest in which a merged generation replaces two, which are history in it.
pub struct Merged {
    pub manifest: Manifest,
    /// The new files, which are durable. Until the manifest is stored they belong to nobody.
    pub files: Vec<OsString>,
}

/// Merges the last two generations before the newest, if they are short, whole and of the same shards. On an error no
/// new file is left.
pub fn merge_generations(
    storage: &dyn Storage,
    dir: &Path,
    prefix: &OsStr,
    manifest: &Manifest,
) -> Result<Option<Merged>, AofError> {
    let generations = manifest.generations();
    let [.., first, second, _newest] = &generations[..] else {
        return Ok(None);
    };
    let Some(pairs) = pairs(storage, dir, first, second)? else {
        return Ok(None);
    };
    let mut merged = Merged {
        manifest: manifest.clone(),
        files: Vec::new(),
    };
    for (first, second) in pairs {
        let (seq_first, seq_second) = (first.file.seq, second.file.seq);
        let mut name = prefix.to_owned();
        name.push(format!(".{seq_first}-{seq_second}.incr.aof"));
        merged.files.push(name.clone());
        let written = write(storage, &dir.join(&name), &first, &second);
        let closed = written.inspect_err(|_| discard(storage, dir, &merged.files))?;
        for file in &mut merged.manifest.files {
            if file.kind == FileKind::Incr && [seq_first, seq_second].contains(&file.seq) {
                file.kind = FileKind::History;
            }
        }
        let at = merged
            .manifest
            .files
            .iter()
            .position(|f| f.name == second.file.name);
        merged.manifest.files.insert(
            at.expect("it is in the manifest") + 1,
            AofFile {
                name,
                kind: FileKind::Incr,
                closed: Some(closed),
                ..second.file.clone()
            },
        );
    }
    storage
        .sync_dir(dir)
        .map_err(AofError::io(dir, "sync"))
        .inspect_err(|_| discard(storage, dir, &merged.files))?;
    Ok(Some(merged))
}

fn discard(storage: &dyn Storage, dir: &Path, files: &[OsString]) {
    for name in files {
        // The error that led here is the one to report.
        let _ = storage.remove(&dir.join(name));
    }
}

/// A whole segment.
struct Source<'a> {
    file: &'a AofFile,
    id: SegmentId,
    content: Arc<dyn StorageFile>,
    len: u64,
    head_len: u64,
    begin: Lsn,
    end: Lsn,
}

/// The segments of two generations, shard by shard, if they can be merged.
fn pairs<'a>(
    storage: &dyn Storage,
    dir: &Path,
    first: &[&'a AofFile],
    second: &[&'a AofFile],
) -> Result<Option<Vec<(Source<'a>, Source<'a>)>>, AofError> {
    if first.len() != second.len() {
        return Ok(None);
    }
    let mut bytes = 0;
    for file in first.iter().chain(second) {
        let path = dir.join(&file.name);
        let len = storage
            .file_len(&path)
            .map_err(AofError::io(&path, "look for"))?;
        bytes += len.unwrap_or(u64::MAX / 4);
    }
    if bytes > MERGED_BYTES_MAX {
        return Ok(None);
    }
    let mut pairs = Vec::new();
    for file in first {
        let same_shard = |other: &&&AofFile| match (file.segment, other.segment) {
            (Some(a), Some(b)) => (a.shard, a.shard_count) == (b.shard, b.shard_count),
            _ => false,
        };
        let Some(other) = second.iter().find(same_shard) else {
            return Ok(None);
        };
        let (Some(a), Some(b)) = (source(storage, dir, file)?, source(storage, dir, other)?) else {
            return Ok(None);
        };
        if a.end != b.begin {
            return Ok(None);
        }
        pairs.push((a, b));
    }
    Ok(Some(pairs))
}

/// The segment, if nothing about it is unusual.
fn source<'a>(
    storage: &dyn Storage,
    dir: &Path,
    file: &'a AofFile,
) -> Result<Option<Source<'a>>, AofError> {
    let path = dir.join(&file.name);
    let content = storage
        .open(&path, Open::Read)
        .map_err(AofError::io(&path, "open"))?;
    let len = content.len().map_err(AofError::io(&path, "measure"))?;
    let scan = scan_segment(content.clone(), &path, 0, len)?;
    let whole = scan.flaw.is_none() && scan.foreign_from.is_none() && scan.sealed_len == len;
    Ok(match (scan.head, file.segment) {
        (Some((id, begin)), Some(named)) if whole && id == named => Some(Source {
            file,
            id,
            content,
            len,
            head_len: scan.head_len,
            begin,
            end: scan.lsn,
        }),
        _ => None,
    })
}

fn write(
    storage: &dyn Storage,
    path: &Path,
    first: &Source<'_>,
    second: &Source<'_>,
) -> Result<Closed, AofError> {
    let mut writer = SegmentWriter::create(storage, path, second.id, first.begin)?;
    for source in [first, second] {
        blocks(source, &mut |block, stamp| {
            writer.append(block, stamp).map(|_| ())
        })
        .map_err(AofError::io(path, "merge into"))?;
    }
    let file = writer.file();
    file.datasync().map_err(AofError::io(path, "sync"))?;
    Ok(Closed {
        len: writer.len(),
        lsn: Some(writer.lsn()),
    })
}

/// Calls `put` for each block with what its seal says.
fn blocks(
    source: &Source<'_>,
    put: &mut dyn FnMut(&mut Vec<u8>, Stamp) -> io::Result<()>,
) -> io::Result<()> {
    let changed = || io::Error::other("a segment that is no longer written to has changed");
    let bytes = FileReader::new(source.content.clone(), 0, source.len);
    let mut reader = FrameReader::new(bytes, 0, source.len);
    let mut begin = source.head_len;
    let mut block = Vec::new();
    loop {
        match reader.next() {
            Ok(Some(Frame::Comment)) => {}
            Ok(Some(Frame::Command)) => continue,
            Ok(None) => return Ok(()),
            Err(FrameError::Io(error)) => return Err(error),
            Err(_) => return Err(changed()),
        }
        let Ok(Annotation::Seal { stamp, .. }) = annotation::parse(reader.line()) else {
            continue;
        };
        block.clear();
        block.resize((reader.offset() - begin) as usize, 0);
        if read_full_at(&*source.content, &mut block, begin)? < block.len() {
            return Err(changed());
        }
        put(&mut block, stamp)?;
        begin = reader.end_offset();
    }
}
