//! RDB: snapshots of the keyspace, and the values of DUMP and RESTORE, in Redis's format.

/// Why bytes are not the RDB they should be.
#[derive(Debug)]
pub struct RdbError {
    /// Where in the file or payload, in bytes.
    pub offset: u64,
    /// What was being read.
    pub reading: &'static str,
    pub kind: RdbErrorKind,
}

#[derive(Debug)]
pub enum RdbErrorKind {
    /// The input ends too early.
    UnexpectedEnd,
    /// The bytes break a rule of the format.
    Malformed(String),
    /// Well formed, and not something this server can hold.
    Unsupported(String),
    /// Not an RDB, or one of a version to come.
    Version(String),
    Checksum { expected: u64, found: u64 },
    Io(std::io::Error),
}

impl std::fmt::Display for RdbError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "offset {}, reading {}: ", self.offset, self.reading)?;
        match &self.kind {
            RdbErrorKind::UnexpectedEnd => f.write_str("unexpected end"),
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
