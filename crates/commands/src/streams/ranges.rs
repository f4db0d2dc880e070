//! XRANGE and XREVRANGE.

use super::{entry_into, interval_end, End};
use crate::args::{integer, is};
use crate::command::{Command, Flags, Run};
use crate::context::Ctx;
use crate::errors::{CommandResult, SYNTAX};
use crate::key_spec::KeySpec;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "xrange",
        summary: "Replies the entries of a stream within an interval of IDs.",
        complexity: "O(N) with N entries replied",
        arity: -4,
        flags: Flags::READONLY,
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key start end [COUNT count]",
        run: Run::Keys(xrange),
        ..super::ROW
    },
    Command {
        name: "xrevrange",
        summary: "Replies the entries of a stream within an interval of IDs, the last one first.",
        complexity: "O(N) with N entries replied",
        arity: -4,
        flags: Flags::READONLY,
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key end start [COUNT count]",
        run: Run::Keys(xrevrange),
        ..super::ROW
    },
];

fn xrange(c: &mut Ctx<'_, '_>) -> CommandResult {
    range(c, 2, 3)
}

fn xrevrange(c: &mut Ctx<'_, '_>) -> CommandResult {
    range(c, 3, 2)
}

/// The arguments of start and end are at these places.
fn range(c: &mut Ctx<'_, '_>, start: usize, end: usize) -> CommandResult {
    let argv = c.argv;
    let from = interval_end(argv.arg(start), End::Start)?;
    let to = interval_end(argv.arg(end), End::Stop)?;
    let mut count = None;
    let mut at = 4;
    while let Some(word) = argv.get(at) {
        let value = argv.get(at + 1).filter(|_| is(word, "count"));
        count = Some(integer(value.ok_or(SYNTAX)?)?);
        at += 2;
    }
    let key = c.key(1);
    let Some(stream) = c.keys.read_stream(key)? else {
        c.reply.array(0);
        return Ok(());
    };
    let count = match count {
        None => usize::MAX,
        // An explicit 0 gets null, unlike an interval without entries.
        Some(..=0) => {
            c.reply.null_array();
            return Ok(());
        }
        Some(count) => count as usize,
    };
    c.reply.array_deferred(|reply| {
        let mut seen = 0;
        let mut entry = |entry: datatypes::stream::Entry<'_>| {
            entry_into(reply, &entry);
            seen += 1;
        };
        if start < end {
            stream.range(from, to).take(count).for_each(&mut entry);
        } else {
            stream.range_rev(from, to).take(count).for_each(&mut entry);
        }
        seen
    });
    Ok(())
}
