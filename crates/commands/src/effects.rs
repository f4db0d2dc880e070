//! Effects that do not fit one command: many elements, logged a chunk at a time.
//!
//! The chunks stand for one change of one key, which the caller reports with
//! [`Effect::Covered`](crate::Effect::Covered). A chunk is a whole command, so that no reader of
//! the log meets an endless one.

use datatypes::Element;
use keyspace::Key;

use crate::context::Keyspace;

/// Elements of a chunk at most.
const CHUNK_ELEMENTS_MAX: usize = 256;
/// A chunk is closed once its elements have this many bytes.
const CHUNK_BYTES_MAX: usize = 64 << 10;

/// Logs one command about a key.
pub fn log(keys: &mut Keyspace<'_, '_>, key: Key<'_>, argv: &[&[u8]]) {
    let db = keys.db;
    keys.shard_of_mut(key).log.append(db, argv);
}

/// Logs `name key element...` for all elements, in as many commands as it takes.
pub fn log_elements<'e>(
    keys: &mut Keyspace<'_, '_>,
    name: &str,
    key: Key<'_>,
    elements: impl Iterator<Item = Element<'e>>,
) {
    if !keys.shard_of_mut(key).log.is_enabled() {
        return;
    }
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    for element in elements {
        element.write_into(&mut bytes);
        ends.push(bytes.len());
        if ends.len() == CHUNK_ELEMENTS_MAX || bytes.len() >= CHUNK_BYTES_MAX {
            log_chunk(keys, name, key, &bytes, &ends);
            bytes.clear();
            ends.clear();
        }
    }
    if !ends.is_empty() {
        log_chunk(keys, name, key, &bytes, &ends);
    }
}

/// `ends` are where the elements end in `bytes`.
fn log_chunk(keys: &mut Keyspace<'_, '_>, name: &str, key: Key<'_>, bytes: &[u8], ends: &[usize]) {
    let mut argv: Vec<&[u8]> = Vec::with_capacity(2 + ends.len());
    argv.extend([name.as_bytes(), key.bytes]);
    let mut start = 0;
    for &end in ends {
        argv.push(&bytes[start..end]);
        start = end;
    }
    log(keys, key, &argv);
}
