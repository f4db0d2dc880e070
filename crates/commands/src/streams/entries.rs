//! Commands that add and delete entries, and XSETID.

use datatypes::stream::{AppendError, GivenId, IdBuffer, Stream, StreamId};
use datatypes::Value;
use keyspace::Key;

use super::trims::{exact_trim, Options};
use super::{exact_id, id_into};
use crate::args::{integer, is};
use crate::command::{Command, Flags, Run};
use crate::context::{Ctx, Effect};
use crate::errors::{
    CommandError, CommandResult, ENTRIES_ADDED_NEGATIVE, ENTRIES_ADDED_TOO_SMALL, ENTRY_TOO_LARGE,
    NO_SUCH_KEY, STREAM_IDS_EXHAUSTED, STREAM_ID_NOT_GREATER, STREAM_ID_ZERO, SYNTAX,
    XSETID_BELOW_DELETED, XSETID_BELOW_GIVEN_DELETED, XSETID_BELOW_TOP,
};
use crate::key_spec::KeySpec;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "xadd",
        summary: "Adds an entry at the end of a stream, which is created if absent.",
        complexity: "O(1), and O(N) with N entries deleted by trimming",
        arity: -5,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec {
            notes: "UPDATE instead of INSERT because of the optional trimming feature",
            ..KeySpec::at(1, &["RW", "update"])
        }],
        syntax: "key [NOMKSTREAM] [<MAXLEN | MINID> [= | ~] threshold [LIMIT count]] <* | id> field value [field value ...]",
        run: Run::Keys(xadd),
        tips: &["nondeterministic_output"],
        ..super::ROW
    },
    Command {
        name: "xdel",
        summary: "Deletes entries of a stream by their IDs; replies how many there were.",
        complexity: "O(1) per entry",
        arity: -3,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "delete"])],
        syntax: "key id [id ...]",
        run: Run::Keys(xdel),
        ..super::ROW
    },
    Command {
        name: "xlen",
        summary: "Replies how many entries a stream has.",
        arity: 2,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO"])],
        syntax: "key",
        run: Run::Keys(xlen),
        ..super::ROW
    },
    Command {
        name: "xsetid",
        summary: "Sets what a stream remembers of its past: its last ID and its counters.",
        arity: -3,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "update"])],
        syntax: "key last-id [ENTRIESADDED entries-added] [MAXDELETEDID max-deleted-id]",
        run: Run::Keys(xsetid),
        ..super::ROW
    },
];

fn xadd(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (argv, limits) = (c.argv, c.limits);
    let options = Options::parse(argv, true, limits, c.replayed_at.is_some())?;
    let fields = argv.from(options.id_at + 1);
    if fields.len() < 2 || fields.len() % 2 == 1 {
        return Err(CommandError::wrong_arity("xadd"));
    }
    let zero = |given: GivenId| given.or_seq(1) == StreamId::MIN || given == GivenId::Ms(0);
    if options.id.is_some_and(zero) {
        return Err(STREAM_ID_ZERO);
    }
    let (key, now_ms) = (c.key(1), c.keys.now.0.max(0) as u64);
    let trim = options.trim;
    let (id, removed, left) = match c.keys.stream_mut(key)? {
        Some(stream) => {
            let id = add(stream, &options, now_ms, fields, limits)?;
            let removed = trim.map_or(0, |trim| stream.trim(&trim));
            (id, removed, stream.len())
        }
        None if options.no_mkstream => {
            c.reply.null();
            return Ok(());
        }
        None => {
            let mut stream = Stream::new();
            let id = add(&mut stream, &options, now_ms, fields, limits)?;
            let removed = trim.map_or(0, |trim| stream.trim(&trim));
            let left = stream.len();
            c.keys.add_object(key, Value::Stream(Box::new(stream)));
            (id, removed, left)
        }
    };
    id_into(&mut c.reply, id);
    let is_exact = matches!(options.id, Some(GivenId::Full(_) | GivenId::Ms(_)));
    if is_exact && !trim.is_some_and(|trim| trim.approximate) {
        c.keys.wrote(key, "xadd", 1, Effect::AsGiven);
    } else {
        log_exact(c, key, id, options.id_at, (removed > 0).then_some(left));
    }
    if removed > 0 {
        c.keys.wrote(key, "xtrim", 0, Effect::Covered);
    }
    Ok(())
}

fn add(
    stream: &mut Stream,
    options: &Options,
    now_ms: u64,
    fields: resp::Argv<'_>,
    limits: &datatypes::Limits,
) -> Result<StreamId, CommandError> {
    if stream.last_id == StreamId::MAX {
        return Err(STREAM_IDS_EXHAUSTED);
    }
    let id = match options.id {
        None => stream.next_id(now_ms),
        Some(GivenId::AutoSeq(ms)) => stream.next_id_in(ms),
        Some(given) => Some(given.or_seq(0)),
    };
    let id = id.ok_or(STREAM_ID_NOT_GREATER)?;
    match stream.append(id, fields.iter(), limits) {
        Ok(()) => Ok(id),
        Err(AppendError::NotGreater) => Err(STREAM_ID_NOT_GREATER),
        Err(AppendError::TooLarge) => Err(ENTRY_TOO_LARGE),
    }
}

/// Reports an XADD with the ID it chose, and how many entries its trimming left if it did anything.
fn log_exact(c: &mut Ctx<'_, '_>, key: Key<'_>, id: StreamId, id_at: usize, left: Option<usize>) {
    let (mut id_text, mut digits) = (IdBuffer::new(), Vec::new());
    let id_text = id.write(&mut id_text);
    let trim = left.map(|left| exact_trim(left, &mut digits));
    let mut args: Vec<&[u8]> = Vec::with_capacity(c.argv.len() + 3);
    args.extend([b"XADD", key.bytes]);
    if let Some(trim) = trim {
        args.extend(trim);
        args.push(&digits);
    }
    args.push(id_text);
    args.extend(c.argv.from(id_at + 1).iter());
    c.keys.wrote(key, "xadd", 1, Effect::Command(&args));
}

fn xdel(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, argv) = (c.key(1), c.argv.from(2));
    let Some(stream) = c.keys.stream_mut(key)? else {
        c.reply.integer(0);
        return Ok(());
    };
    let ids: Vec<StreamId> = argv.iter().map(exact_id).collect::<Result<_, _>>()?;
    let deleted = stream.delete(ids.into_iter());
    if deleted > 0 {
        c.keys.wrote(key, "xdel", deleted, Effect::AsGiven);
    }
    c.reply.integer(deleted as i64);
    Ok(())
}

fn xlen(c: &mut Ctx<'_, '_>) -> CommandResult {
    let key = c.key(1);
    let len = c.keys.read_stream(key)?.map_or(0, Stream::len);
    c.reply.integer(len as i64);
    Ok(())
}

fn xsetid(c: &mut Ctx<'_, '_>) -> CommandResult {
    let argv = c.argv;
    let last_id = exact_id(argv.arg(2))?;
    let (mut added, mut deleted) = (None, None);
    let mut at = 3;
    while let Some(word) = argv.get(at) {
        let value = argv.get(at + 1).ok_or(SYNTAX)?;
        if is(word, "entriesadded") {
            let count = u64::try_from(integer(value)?);
            added = Some(count.map_err(|_| ENTRIES_ADDED_NEGATIVE)?);
        } else if is(word, "maxdeletedid") {
            let id = exact_id(value)?;
            if last_id < id {
                return Err(XSETID_BELOW_GIVEN_DELETED);
            }
            deleted = Some(id);
        } else {
            return Err(SYNTAX);
        }
        at += 2;
    }
    let key = c.key(1);
    let stream = c.keys.stream_mut(key)?.ok_or(NO_SUCH_KEY)?;
    if last_id < stream.max_deleted_id {
        return Err(XSETID_BELOW_DELETED);
    }
    if !stream.is_empty() {
        if last_id < stream.last_live_id() {
            return Err(XSETID_BELOW_TOP);
        }
        if added.is_some_and(|added| added < stream.len() as u64) {
            return Err(ENTRIES_ADDED_TOO_SMALL);
        }
    }
    stream.last_id = last_id;
    stream.entries_added = added.unwrap_or(stream.entries_added);
    let deleted = deleted.filter(|&id| id != StreamId::MIN);
    stream.max_deleted_id = deleted.unwrap_or(stream.max_deleted_id);
    c.keys.noted(key, "xsetid", 1, Effect::AsGiven);
    c.reply.ok();
    Ok(())
}
