//! A snapshot as the commands that rebuild it.
//!
//! Collections go out in commands of at most [`ITEMS_MAX`] items, as Redis's rewrite does, so that no single command is
//! huge; expiries as PEXPIREAT. Comment lines pad chunks to whole blocks.

use crate::chunks::{ChunkSink, Padding, BLOCK_BYTES};
use crate::rdb::encode::{Sink, Stop};
use datatypes::stream::{Group, IdBuffer};
use datatypes::{Element, Hash, IntBuffer, Stream, StreamId, Value};
use keyspace::{DbIndex, StringRef, UnixMillis, ValueRef};

/// Items (or field and value pairs, or member and score pairs) per command.
const ITEMS_MAX: usize = 64;

/// What a base of commands begins with.
pub(crate) const HEAD: &[u8] = b"#basalt base of commands\r\n";

/// A base's beginning, with the libraries.
pub(crate) fn head(functions: Vec<&[u8]>) -> Vec<u8> {
    let mut head = HEAD.to_vec();
    for code in functions {
        let len = code.len();
        head.extend_from_slice(b"*3\r\n$8\r\nFUNCTION\r\n$4\r\nLOAD\r\n");
        head.extend_from_slice(format!("${len}\r\n").as_bytes());
        head.extend_from_slice(code);
        head.extend_from_slice(b"\r\n");
    }
    head
}

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
            })?;
            put_field_times(out, key, hash)?;
        }
        ValueRef::Object(Value::SortedSet(zset)) => {
            batches(out, b"ZADD", key, 2, zset.iter(), |out, (member, score)| {
                argument(out, &datatypes::number::f64_to_vec(score))?;
                element(out, member)
            })?;
        }
        ValueRef::Object(Value::Stream(value)) => stream(out, key, value)?,
    }
    if let Some(UnixMillis(ms)) = expire_at {
        command(
            out,
            &[b"PEXPIREAT", key, itoa::Buffer::new().format(ms).as_bytes()],
        )?;
    }
    Ok(())
}

/// A stream: its entries, what XADD alone does not bring about, and its groups. Entries that are pending and were deleted
/// since are lost, because no command makes such entries pending.
fn stream<S: Sink>(out: &mut S, key: &[u8], stream: &Stream) -> Result<(), Stop> {
    for entry in stream.iter() {
        let fields = entry.fields();
        header(out, b'*', 3 + 2 * fields.len())?;
        argument(out, b"XADD")?;
        argument(out, key)?;
        id(out, entry.id)?;
        for (field, value) in fields {
            element(out, field)?;
            element(out, value)?;
        }
    }
    if stream.is_empty() {
        // The only way to an empty stream without a group.
        command(out, &[b"XADD", key, b"MAXLEN", b"0", b"0-1", b"x", b"y"])?;
    }
    header(out, b'*', 7)?;
    argument(out, b"XSETID")?;
    argument(out, key)?;
    id(out, stream.last_id)?;
    argument(out, b"ENTRIESADDED")?;
    number(out, stream.entries_added)?;
    argument(out, b"MAXDELETEDID")?;
    id(out, stream.max_deleted_id)?;
    for (name, value) in &stream.groups {
        group(out, key, name, value)?;
    }
    Ok(())
}

fn group<S: Sink>(out: &mut S, key: &[u8], name: &[u8], group: &Group) -> Result<(), Stop> {
    header(out, b'*', 7)?;
    argument(out, b"XGROUP")?;
    argument(out, b"CREATE")?;
    argument(out, key)?;
    argument(out, name)?;
    id(out, group.last_id)?;
    argument(out, b"ENTRIESREAD")?;
    number(out, group.entries_read.unwrap_or(-1))?;
    for consumer in group.consumers() {
        if consumer.pending().is_empty() {
            command(
                out,
                &[b"XGROUP", b"CREATECONSUMER", key, name, consumer.name()],
            )?;
        }
        for &pending_id in consumer.pending() {
            let pending = group.pending(pending_id);
            let pending = pending.expect("what is pending with a consumer is so in its group");
            header(out, b'*', 12)?;
            for arg in [b"XCLAIM", key, name, consumer.name(), b"0"] {
                argument(out, arg)?;
            }
            id(out, pending_id)?;
            argument(out, b"TIME")?;
            number(out, pending.delivered_at)?;
            argument(out, b"RETRYCOUNT")?;
            number(out, pending.deliveries)?;
            argument(out, b"JUSTID")?;
            argument(out, b"FORCE")?;
        }
    }
    Ok(())
}

/// The times at which a hash's fields expire, a command each.
fn put_field_times<S: Sink>(out: &mut S, key: &[u8], hash: &Hash) -> Result<(), Stop> {
    if hash.expiring_len() == 0 {
        return Ok(());
    }
    let (mut digits, mut buffer) = (itoa::Buffer::new(), IntBuffer::new());
    for (field, _) in hash.iter() {
        let field = field.as_bytes(&mut buffer);
        if let Some(time) = hash.expiry_of(field) {
            let time = digits.format(time).as_bytes();
            command(out, &[b"HPEXPIREAT", key, time, b"FIELDS", b"1", field])?;
        }
    }
    Ok(())
}

fn id<S: Sink>(out: &mut S, id: StreamId) -> Result<(), Stop> {
    argument(out, id.write(&mut IdBuffer::new()))
}

fn number<S: Sink>(out: &mut S, number: impl itoa::Integer) -> Result<(), Stop> {
    argument(out, itoa::Buffer::new().format(number).as_bytes())
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
