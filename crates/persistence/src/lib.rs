//! Redis's files: RDB snapshots and append-only files, written and read.
//!
//! Owns the formats (byte layouts are in `docs/design/rdb.md` and `docs/design/aof.md`), the files they live in and the
//! threads that make them durable. Leaves to others what is in them: keys come from a `SnapshotSource`, commands and
//! loaded keys go to callbacks.
//!
//! Invariants: no byte of a file reaches a panic; no length read from a file is allocated before that many bytes could
//! have been there; a file is in force only after rename and directory fsync; nothing read is skipped silently.

pub mod aof;
pub mod chunks;
pub mod clock;
pub mod commands;
pub mod crc;
pub mod lzf;
pub mod progress;
pub mod rdb;
pub mod read_back;
pub mod storage;
