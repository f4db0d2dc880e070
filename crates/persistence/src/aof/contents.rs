//! What a stretch of a segment holds, for people who decide whether they can do without it: commands, keys, times.
//!
//! Reading is lenient: it goes on behind what it cannot read, at the next thing that looks like a command, so that a
//! damaged block still names its keys. Memory is bounded whatever the stretch's length.

use super::annotation::{self, Annotation};
use super::frames::{Frame, FrameError, FrameReader};
use super::point::format_millis;
use crate::storage::{read_full_at, FileReader, StorageFile};
use keyspace::{DbIndex, Lsn};
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;

/// Keys that are told apart exactly; beyond them the count is a lower bound.
pub const KEYS_COUNTED_MAX: usize = 1 << 20;
/// Keys that are kept by name.
pub const KEYS_NAMED_MAX: usize = 1000;
/// A longer key is named by its beginning.
const KEY_NAME_BYTES_MAX: usize = 200;

/// A place in a shard's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub lsn: Lsn,
    pub unix_ms: i64,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LSN {}, {}", self.lsn.0, format_millis(self.unix_ms))
    }
}

/// A key that some command names; its database where a SELECT stands before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TouchedKey {
    pub db: Option<DbIndex>,
    pub key: Vec<u8>,
}

impl std::fmt::Display for TouchedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(db) = self.db {
            write!(f, "db{}:", db.0)?;
        }
        write!(f, "\"{}\"", self.key.escape_ascii())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    pub bytes: u64,
    pub commands: u64,
    /// How many different keys they name.
    pub keys: u64,
    /// There are more keys than that.
    pub keys_uncounted: bool,
    /// The first of them.
    pub key_names: Vec<TouchedKey>,
    /// Of commands that concern all keys, such as FLUSHALL.
    pub whole_keyspace: u64,
    /// Of the first and the last seal in it.
    pub first: Option<Position>,
    pub last: Option<Position>,
    /// Bytes that are no commands.
    pub unreadable_bytes: u64,
}

impl Contents {
    /// Adds those of another stretch.
    pub fn add(&mut self, other: &Contents) {
        self.bytes += other.bytes;
        self.commands += other.commands;
        // Stretches of different shards have no key in common.
        self.keys += other.keys;
        self.keys_uncounted |= other.keys_uncounted;
        let room = KEYS_NAMED_MAX - self.key_names.len().min(KEYS_NAMED_MAX);
        self.key_names
            .extend(other.key_names.iter().take(room).cloned());
        self.whole_keyspace += other.whole_keyspace;
        self.unreadable_bytes += other.unreadable_bytes;
    }

    /// `3 commands on 2 keys`, and what else there is to say in a line.
    pub fn summary(&self) -> String {
        let more = if self.keys_uncounted {
            "more than "
        } else {
            ""
        };
        let mut text = format!(
            "{} bytes, {} commands on {more}{} keys",
            self.bytes, self.commands, self.keys
        );
        if self.whole_keyspace > 0 {
            text += &format!(", {} on the whole keyspace", self.whole_keyspace);
        }
        if self.unreadable_bytes > 0 {
            text += &format!(", {} bytes unreadable", self.unreadable_bytes);
        }
        text
    }

    /// Up to `max` keys in a line.
    pub fn keys_in_line(&self, max: usize) -> String {
        let named: Vec<String> = self
            .key_names
            .iter()
            .take(max)
            .map(|k| k.to_string())
            .collect();
        let left = self.keys.saturating_sub(named.len() as u64);
        match (named.is_empty(), left) {
            (true, _) => "none".into(),
            (_, 0) => named.join(", "),
            _ => format!("{} and {left} more", named.join(", ")),
        }
    }
}

/// Reads what is between two offsets of a file. `db`: what was selected there, where it is known.
pub fn contents(
    file: &Arc<dyn StorageFile>,
    from: u64,
    end: u64,
    mut db: Option<DbIndex>,
) -> io::Result<Contents> {
    let mut out = Contents {
        bytes: end.saturating_sub(from),
        ..Contents::default()
    };
    let mut seen = Seen {
        hasher: RandomState::new(),
        keys: HashSet::new(),
    };
    let mut at = from;
    while at < end {
        let source = FileReader::new(file.clone(), at, end);
        let mut reader = FrameReader::new(source, at, end - at);
        let bad_at = loop {
            match reader.next() {
                Ok(None) => return Ok(out),
                Ok(Some(Frame::Comment)) => note_comment(reader.line(), &mut out),
                Ok(Some(Frame::Command)) => note_command(&reader, &mut db, &mut seen, &mut out),
                Err(FrameError::Io(error)) => return Err(error),
                Err(FrameError::Incomplete | FrameError::Malformed(_)) => break reader.offset(),
            }
        };
        at = next_frame(&**file, bad_at + 1, end)?;
        out.unreadable_bytes += at - bad_at;
    }
    Ok(out)
}

fn note_comment(line: &[u8], out: &mut Contents) {
    if let Ok(Annotation::Seal { lsn, stamp, .. }) = annotation::parse(line) {
        let unix_ms = stamp.unix_ms;
        out.first = out.first.or(Some(Position { lsn, unix_ms }));
        out.last = Some(Position { lsn, unix_ms });
    }
}

struct Seen {
    hasher: RandomState,
    keys: HashSet<u64>,
}

fn note_command(
    reader: &FrameReader<FileReader>,
    db: &mut Option<DbIndex>,
    seen: &mut Seen,
    out: &mut Contents,
) {
    let name = reader.argument(0).to_ascii_uppercase();
    let count = reader.argument_count();
    match name.as_slice() {
        b"SELECT" if count == 2 => {
            *db = std::str::from_utf8(reader.argument(1))
                .ok()
                .and_then(|n| n.parse().ok())
                .map(DbIndex);
            return;
        }
        b"MULTI" | b"EXEC" => return,
        _ => out.commands += 1,
    }
    let keys = keys_of(&name, count);
    if keys.is_empty() {
        out.whole_keyspace += 1;
    }
    for i in keys {
        let key = reader.argument(i);
        if seen.keys.len() >= KEYS_COUNTED_MAX {
            out.keys_uncounted = true;
        } else if seen
            .keys
            .insert(seen.hasher.hash_one((db.map(|db| db.0), key)))
        {
            out.keys += 1;
            if out.key_names.len() < KEYS_NAMED_MAX {
                let key = key[..key.len().min(KEY_NAME_BYTES_MAX)].to_vec();
                out.key_names.push(TouchedKey { db: *db, key });
            }
        }
    }
}

/// Which arguments of an effect are the keys that it changes.
fn keys_of(name: &[u8], count: usize) -> Vec<usize> {
    match name {
        b"FLUSHALL" | b"FLUSHDB" | b"SWAPDB" | b"SCRIPT" | b"FUNCTION" => Vec::new(),
        b"DEL" | b"UNLINK" => (1..count).collect(),
        b"MSET" | b"MSETNX" => (1..count).step_by(2).collect(),
        b"RENAME" | b"RENAMENX" | b"SMOVE" | b"LMOVE" | b"RPOPLPUSH" | b"BLMOVE"
        | b"BRPOPLPUSH" => (1..count.min(3)).collect(),
        b"COPY" | b"BITOP" => (2..count.min(3)).collect(),
        b"LMPOP" | b"ZMPOP" => (2..count.min(3)).collect(),
        _ => (1..count.min(2)).collect(),
    }
}

const WINDOW_BYTES: usize = 64 << 10;

/// Where the next command or comment line may begin: at the start of the line, with `*` and a digit, or `#`.
fn next_frame(file: &dyn StorageFile, from: u64, end: u64) -> io::Result<u64> {
    let mut window = vec![0; WINDOW_BYTES];
    // The byte before may be the end of a line.
    let mut at = from - 1;
    while at < end {
        let want = window.len().min((end - at) as usize);
        let got = read_full_at(file, &mut window[..want], at)?;
        if got == 0 {
            break;
        }
        let begins =
            |w: &[u8]| w[0] == b'\n' && (w[1] == b'#' || w[1] == b'*' && w[2].is_ascii_digit());
        if let Some(found) = window[..got].windows(3).position(begins) {
            return Ok(at + found as u64 + 1);
        }
        if at + got as u64 >= end {
            break;
        }
        // Two bytes again, which may begin what the window's end cut.
        at += (got as u64).saturating_sub(2).max(1);
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aof::annotation::{chained, put_seal};
    use crate::aof::Stamp;
    use crate::commands::put_command;
    use crate::storage::simulated::SimulatedStorage;
    use crate::storage::sync::SyncPolicy;
    use crate::storage::{write_all_at, Open, Storage};
    use std::path::Path;

    fn read(bytes: &[u8]) -> Contents {
        let disk = SimulatedStorage::new();
        let file = disk.open(Path::new("/f"), Open::Create).unwrap();
        write_all_at(&*file, bytes, 0).unwrap();
        contents(&file, 0, bytes.len() as u64, None).unwrap()
    }

    fn stretch() -> Vec<u8> {
        let mut bytes = Vec::new();
        let commands: [&[&[u8]]; 8] = [
            &[b"SET", b"early", b"1"],
            &[b"SELECT", b"3"],
            &[b"MULTI"],
            &[b"mset", b"a", b"1", b"b", b"2"],
            &[b"DEL", b"a", b"c"],
            &[b"EXEC"],
            &[b"FLUSHDB"],
            &[b"RENAME", b"b", b"d\n"],
        ];
        commands
            .iter()
            .for_each(|argv| put_command(&mut bytes, argv));
        let stamp = Stamp {
            unix_ms: 5000,
            epoch: 1,
            policy: SyncPolicy::No,
        };
        put_seal(&mut bytes, chained(0), 1, Lsn(77), stamp);
        bytes
    }

    #[test]
    fn commands_keys_and_times_are_told() {
        let found = read(&stretch());
        assert_eq!(
            (found.commands, found.keys, found.whole_keyspace),
            (5, 5, 1)
        );
        assert_eq!(found.unreadable_bytes, 0);
        let names: Vec<String> = found.key_names.iter().map(|k| k.to_string()).collect();
        assert_eq!(
            names,
            [
                "\"early\"",
                "db3:\"a\"",
                "db3:\"b\"",
                "db3:\"c\"",
                "db3:\"d\\n\""
            ]
        );
        let at = Some(Position {
            lsn: Lsn(77),
            unix_ms: 5000,
        });
        assert_eq!((found.first, found.last), (at, at));
        assert_eq!(found.keys_in_line(2), "\"early\", db3:\"a\" and 3 more");
    }

    #[test]
    fn damage_hides_no_more_than_it_must() {
        let whole = stretch();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] = 0;
            let found = read(&bytes);
            // A broken length may hide the command behind it as well.
            assert!(found.commands >= 3, "byte {at}: {found:?}");
            assert!(found.unreadable_bytes < bytes.len() as u64, "byte {at}");
        }
        let mut garbage = vec![7; 3 * WINDOW_BYTES];
        garbage.extend_from_slice(b"\r\n");
        garbage.extend_from_slice(&whole);
        assert_eq!(read(&garbage).commands, 5);
        assert_eq!(read(&vec![0; 200_000]).unreadable_bytes, 200_000);
    }
}
