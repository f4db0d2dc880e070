//! The append-only file: a manifest, a base, and one segment per shard and generation.
//!
//! [`manifest`] names the files and their order; [`annotation`] is the text of the comment lines in which segments carry
//! lengths, positions, epochs and checksums past stock servers; [`segment`] writes them; [`scan`] checks a file without
//! running it; [`replay`] yields its commands; [`recover`] decides how much of each file counts; [`truncate`] goes back
//! to a [`point`] before the end; [`cut`] carries out what these two decide, and [`contents`] says what that costs.
//! [`merge`] keeps generations from piling up.
//! [`ring_recover`] completes the files, before all this, with what a killed server left in memory.
//! [`survey`] looks at a whole set without changing it, [`reseal`] puts an edited segment right, [`export`] copies a set.
//! The byte layout is in `docs/design/aof.md`.

pub mod annotation;
pub mod contents;
pub mod cut;
mod ends;
pub mod export;
pub mod frames;
pub mod manifest;
pub mod merge;
pub mod point;
pub mod recover;
pub mod replay;
pub mod reseal;
pub mod ring_recover;
pub mod scan;
pub mod segment;
pub mod survey;
pub mod truncate;

use crate::storage::sync::SyncPolicy;
use keyspace::Lsn;
pub use keyspace::ShardIndex;
use std::path::PathBuf;

/// What went wrong with an append-only file, and where.
#[derive(Debug)]
pub enum AofError {
    /// The operating system refused.
    Io {
        path: PathBuf,
        doing: &'static str,
        error: std::io::Error,
    },
    /// The manifest is not one.
    Manifest {
        path: PathBuf,
        line: usize,
        reason: String,
    },
    /// A file that the manifest names is not there.
    Missing { path: PathBuf },
    /// The bytes at `offset` are not what they should be. `lsn`: what is intact before them, where it is known.
    Damaged {
        path: PathBuf,
        offset: u64,
        lsn: Option<Lsn>,
        reason: String,
    },
    /// The file ends in the middle of a command, block or transaction, and cutting it was not allowed.
    Truncated {
        path: PathBuf,
        offset: u64,
        lsn: Option<Lsn>,
        reason: String,
    },
    /// The RDB part of a base file.
    Rdb {
        path: PathBuf,
        error: crate::rdb::RdbError,
    },
    /// The files do not reach to the point asked for.
    OutOfReach { point: String, reason: String },
    /// What a ring holds does not follow what is in the file.
    RingMisfit {
        path: PathBuf,
        ring: PathBuf,
        bytes: u64,
        how: &'static str,
    },
    /// The receiver of the commands refused one.
    Rejected {
        path: PathBuf,
        offset: u64,
        reason: String,
    },
}

impl AofError {
    pub(crate) fn io<'a>(
        path: &'a std::path::Path,
        doing: &'static str,
    ) -> impl FnOnce(std::io::Error) -> AofError + 'a {
        move |error| AofError::Io {
            path: path.to_owned(),
            doing,
            error,
        }
    }
}

impl From<crate::rdb::load::RdbLoadError> for AofError {
    fn from(error: crate::rdb::load::RdbLoadError) -> AofError {
        use crate::rdb::load::RdbLoadError;
        match error {
            RdbLoadError::Io { path, error } => AofError::Io {
                path,
                doing: "read",
                error,
            },
            RdbLoadError::Rdb { path, error } => AofError::Rdb { path, error },
        }
    }
}

impl std::fmt::Display for AofError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at =
            |f: &mut std::fmt::Formatter<'_>, path: &PathBuf, offset: &u64, lsn: &Option<Lsn>| {
                write!(f, "{} at offset {offset}", path.display())?;
                lsn.map_or(Ok(()), |lsn| write!(f, " (intact up to LSN {})", lsn.0))
            };
        match self {
            AofError::Io { path, doing, error } => write!(f, "{doing} {}: {error}", path.display()),
            AofError::Manifest {
                path,
                line: 0,
                reason,
            } => write!(f, "{}: {reason}", path.display()),
            AofError::Manifest { path, line, reason } => {
                write!(f, "{} line {line}: {reason}", path.display())
            }
            AofError::Missing { path } => write!(
                f,
                "{} is named by the manifest and does not exist",
                path.display()
            ),
            AofError::Damaged {
                path,
                offset,
                lsn,
                reason,
            } => {
                f.write_str("damaged append-only file ")?;
                at(f, path, offset, lsn)?;
                write!(f, ": {reason}")
            }
            AofError::Truncated {
                path,
                offset,
                lsn,
                reason,
            } => {
                f.write_str("unexpected end of append-only file ")?;
                at(f, path, offset, lsn)?;
                write!(f, ": {reason}")
            }
            AofError::OutOfReach { point, reason } => {
                write!(
                    f,
                    "the append-only file cannot be restored to {point}: {reason}"
                )
            }
            AofError::Rdb { path, error } => write!(f, "{}: {error}", path.display()),
            AofError::RingMisfit {
                path,
                ring,
                bytes,
                how,
            } => write!(
                f,
                "{} {how}, and {} holds {bytes} more bytes that were acknowledged: restore the file, or remove the ring to do without them",
                path.display(),
                ring.display()
            ),
            AofError::Rejected {
                path,
                offset,
                reason,
            } => {
                write!(
                    f,
                    "command at offset {offset} of {}: {reason}",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for AofError {}

/// What a block is stamped with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub unix_ms: i64,
    /// The global epoch under which the block's effects happened.
    pub epoch: u64,
    /// The policy in force: what it promised about this block.
    pub policy: SyncPolicy,
}

/// Which segment a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentId {
    pub shard: ShardIndex,
    pub shard_count: u16,
    pub generation: u64,
}
