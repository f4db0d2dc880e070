//! Results that replace whatever a key holds.

use datatypes::{Element, SortedSet, Value};
use keyspace::{Expiry, Key, NewValue};

use super::replies::ScoreText;
use crate::context::{Ctx, Effect, Keyspace};
use crate::effects;
use crate::errors::CommandResult;

/// Members that one logged command adds at most.
const CHUNK_MEMBERS_MAX: usize = 128;
/// A logged command is closed once its members and scores have this many bytes.
const CHUNK_BYTES_MAX: usize = 64 << 10;

/// Puts a result under the key in the first argument, whatever is there, and replies its size.
/// An empty result deletes the key.
pub fn store(c: &mut Ctx<'_, '_>, result: SortedSet, event: &'static str) -> CommandResult {
    store_at(c, 1, result, event, 1)
}

/// As [`store`], under the key in another argument; a result that is not empty counts as so many
/// changes.
pub fn store_at(
    c: &mut Ctx<'_, '_>,
    destination: usize,
    result: SortedSet,
    event: &'static str,
    changes: u64,
) -> CommandResult {
    let destination = c.key(destination);
    let deletion = [b"DEL", destination.bytes];
    let existed = c.keys.exists(destination);
    let len = result.len();
    if len == 0 {
        if let Some(entry) = c.keys.remove(destination) {
            c.keys.free(destination, entry);
            let effect = Effect::Command(&deletion);
            c.keys.wrote(destination, "del", 1, effect);
        }
    } else {
        if existed {
            effects::log(&mut c.keys, destination, &deletion);
        }
        log_additions(&mut c.keys, destination, result.iter());
        let value = NewValue::Object(Box::new(Value::SortedSet(result)));
        let db = c.keys.db_of_mut(destination);
        if let Some(entry) = db.set(destination, value, Expiry::Set(None)) {
            c.keys.free(destination, entry);
        }
        c.keys.wrote(destination, event, changes, Effect::Covered);
    }
    c.reply.integer(len as i64);
    Ok(())
}

/// Logs the members as ZADD, in as many commands as it takes.
fn log_additions<'e>(
    keys: &mut Keyspace<'_, '_>,
    key: Key<'_>,
    mut members: impl Iterator<Item = (Element<'e>, f64)>,
) {
    if !keys.shard_of_mut(key).log.is_enabled() {
        return;
    }
    let (mut bytes, mut ends, mut text) = (Vec::new(), Vec::new(), ScoreText::new());
    loop {
        bytes.clear();
        ends.clear();
        while ends.len() < 2 * CHUNK_MEMBERS_MAX && bytes.len() < CHUNK_BYTES_MAX {
            let Some((member, score)) = members.next() else {
                break;
            };
            bytes.extend_from_slice(text.of(score));
            ends.push(bytes.len());
            member.write_into(&mut bytes);
            ends.push(bytes.len());
        }
        if ends.is_empty() {
            return;
        }
        let mut argv: Vec<&[u8]> = vec![b"ZADD", key.bytes];
        let starts = std::iter::once(0).chain(ends.iter().copied());
        argv.extend(starts.zip(&ends).map(|(start, &end)| &bytes[start..end]));
        effects::log(keys, key, &argv);
    }
}
