//! A snapshot as the commands that rebuild it.
//!
//! Collections go out in commands of at most [`ITEMS_MAX`] items, as Redis's rewrite does, so that no single command is
//! huge; expiries as PEXPIREAT. Comment lines pad chunks to whole blocks.

use crate::chunks::{ChunkSink, Padding, BLOCK_BYTES};
use crate::rdb::encode::{Sink, Stop};
use datatypes::{Element, IntBuffer, Value};
use keyspace::{DbIndex, StringRef, UnixMillis, ValueRef};

/// Items (or field and value pairs, or member and score pairs) per command.
const ITEMS_MAX: usize = 64;

/// What a base of commands begins with.
pub(crate) const HEAD: &[u8] = b"#basalt base of commands\r\n";

/// Comment lines under the length that loaders allow.
pub(crate) struct CommentPadding;

const LINE_BYTES_MAX: u64 = 512;
/// `#\r\n`
const LINE_BYTES_MIN: u64 = 3;

impl Padding for CommentPadding {
    fn padding_for(&self, len: u64) -> u64 {
        let missing = len.wrapping_neg() & (BLOCK_BYTES - 1);
        if missing == 0 || missing >= LINE_BYTES_MIN {
            missing
        } else {
            missing + BLOCK_BYTES
        }
    }

    fn put(&self, out: &mut Vec<u8>, mut bytes: u64) {
        while bytes > 0 {
            // What a full line would leave must be a line too.
            let line = match bytes {
                0..=LINE_BYTES_MAX => bytes,
                _ if bytes - LINE_BYTES_MAX >= LINE_BYTES_MIN => LINE_BYTES_MAX,
                _ => LINE_BYTES_MAX - LINE_BYTES_MIN,
            };
            out.push(b'#');
            out.resize(out.len() + line as usize - LINE_BYTES_MIN as usize, b'-');
            out.extend_from_slice(b"\r\n");
            bytes -= line;
        }
    }
}

/// Appends a command to a vector.
pub fn put_command(out: &mut Vec<u8>, argv: &[&[u8]]) {
    match command(out, argv) {
        Ok(()) => {}
        Err(Stop::Full | Stop::Io(_)) => unreachable!("a vector takes everything"),
    }
}

fn command<S: Sink>(out: &mut S, argv: &[&[u8]]) -> Result<(), Stop> {
    header(out, b'*', argv.len())?;
    argv.iter().try_for_each(|arg| argument(out, arg))
}

fn header<S: Sink>(out: &mut S, kind: u8, n: usize) -> Result<(), Stop> {
    out.put(&[kind])?;
    out.put(itoa::Buffer::new().format(n).as_bytes())?;
    out.put(b"\r\n")
}

fn argument<S: Sink>(out: &mut S, arg: &[u8]) -> Result<(), Stop> {
    header(out, b'$', arg.len())?;
    out.put(arg)?;
    out.put(b"\r\n")
}

fn element<S: Sink>(out: &mut S, element: Element<'_>) -> Result<(), Stop> {
    argument(out, element.as_bytes(&mut IntBuffer::new()))
}

/// The commands of one key, behind a SELECT if `select`.
pub(crate) fn put_key(
    out: &mut ChunkSink<'_>,
    select: Option<DbIndex>,
    key: &[u8],
    expire_at: Option<UnixMillis>,
    value: ValueRef<'_>,
) -> Result<(), Stop> {
    if let Some(db) = select {
        command(
            out,
            &[b"SELECT", itoa::Buffer::new().format(db.0).as_bytes()],
        )?;
    }
    match value {
        ValueRef::String(StringRef::Int(n)) => {
            command(
                out,
                &[b"SET", key, itoa::Buffer::new().format(n).as_bytes()],
            )?;
        }
        ValueRef::String(StringRef::Bytes(bytes)) => command(out, &[b"SET", key, bytes])?,
        ValueRef::Object(Value::List(list)) => {
            batches(out, b"RPUSH", key, 1, list.iter(), element)?;
        }
        ValueRef::Object(Value::Set(set)) => {
            batches(out, b"SADD", key, 1, set.iter(), element)?;
        }
        ValueRef::Object(Value::Hash(hash)) => {
            batches(out, b"HMSET", key, 2, hash.iter(), |out, (field, value)| {
                element(out, field)?;
                element(out, value)
            })?
        }
        ValueRef::Object(Value::SortedSet(zset)) => {
            batches(out, b"ZADD", key, 2, zset.iter(), |out, (member, score)| {
                argument(out, &datatypes::number::f64_to_vec(score))?;
                element(out, member)
            })?;
        }
    }
    if let Some(UnixMillis(ms)) = expire_at {
        command(
            out,
            &[b"PEXPIREAT", key, itoa::Buffer::new().format(ms).as_bytes()],
        )?;
    }
    Ok(())
}

fn batches<'a, S: Sink, T>(
    out: &mut S,
    name: &[u8],
    key: &[u8],
    arguments_each: usize,
    mut items: impl ExactSizeIterator<Item = T> + 'a,
    mut put: impl FnMut(&mut S, T) -> Result<(), Stop>,
) -> Result<(), Stop> {
    let mut left = items.len();
    while left > 0 {
        let count = left.min(ITEMS_MAX);
        header(out, b'*', 2 + count * arguments_each)?;
        argument(out, name)?;
        argument(out, key)?;
        for item in items.by_ref().take(count) {
            put(out, item)?;
        }
        left -= count;
    }
    Ok(())
}
