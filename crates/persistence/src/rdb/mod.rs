//! RDB: snapshots of the keyspace, and the values of DUMP and RESTORE, in Redis's format.
//!
//! Writing: [`encode`] turns values into bytes, [`snapshot`] a keyspace into a file, by several threads at once.
//! Reading: [`cursor`] and [`decode`] turn bytes in memory into values, [`scan`] finds the boundaries of records in a
//! stream without building anything, [`load`] feeds parser threads by one or by the index in our own files; what is too
//! large to be held is built item by item ([`items`], [`window`]). [`check`] reads a file as a load does and keeps
//! nothing, [`inspect`] passes over its values, of all servers, and counts.
//! [`dump`] wraps single values. The byte layout is in `docs/design/rdb.md`.

pub mod check;
pub mod cursor;
pub mod decode;
pub mod dump;
pub mod encode;
pub mod format;
pub mod inspect;
mod items;
pub mod load;
pub mod scan;
pub mod snapshot;
mod stream;
mod window;

/// Why bytes are not the RDB they should be.
#[derive(Debug)]
pub struct RdbError {
    /// Where in the file or payload, in bytes.
    pub offset: u64,
    /// What was being read.
    pub reading: &'static str,
    /// The key concerned, escaped, where it was known.
    pub key: Option<String>,
    pub kind: RdbErrorKind,
}

#[derive(Debug)]
pub enum RdbErrorKind {
    /// The input ends too early, by at least this many bytes.
    UnexpectedEnd {
        missing: u64,
    },
    /// The bytes break a rule of the format.
    Malformed(String),
    /// Well formed, and not something this server can hold.
    Unsupported(String),
    /// Not an RDB, or one of a version to come.
    Version(String),
    Checksum {
        expected: u64,
        found: u64,
    },
    Io(std::io::Error),
}

impl std::fmt::Display for RdbError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "offset {}, reading {}", self.offset, self.reading)?;
        if let Some(key) = &self.key {
            write!(f, " of key \"{key}\"")?;
        }
        f.write_str(": ")?;
        match &self.kind {
            RdbErrorKind::UnexpectedEnd { .. } => f.write_str("unexpected end"),
            RdbErrorKind::Malformed(reason) => f.write_str(reason),
            RdbErrorKind::Unsupported(what) => write!(f, "unsupported: {what}"),
            RdbErrorKind::Version(version) => write!(f, "cannot read version {version}"),
            RdbErrorKind::Checksum { expected, found } => {
                write!(f, "checksum {found:016x} instead of {expected:016x}")
            }
            RdbErrorKind::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RdbError {}
