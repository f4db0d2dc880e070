//! BITOP: strings combined bit by bit into another.
//!
//! The strings may lie in different shards, so what is logged is the result.

use keyspace::{Expiry, Key, NewValue, ValueRef};

use crate::args;
use crate::command::{Command, Flags, Group, Run};
use crate::context::{Ctx, Effect, Keyspace};
use crate::errors::{CommandResult, BITOP_NOT_OF_SEVERAL, SYNTAX};
use crate::key_spec::KeySpec;
use crate::strings::store;

pub const COMMANDS: &[Command] = &[Command {
    name: "bitop",
    summary: "Combines strings bit by bit and stores the result.",
    since: "2.6.0",
    group: Group::Bitmap,
    complexity: "O(N) with the length N of the longest string",
    arity: -4,
    flags: Flags::WRITE.union(Flags::DENYOOM),
    keys: &[
        KeySpec::at(2, &["OW", "update"]),
        KeySpec::rest(3, 1, &["RO", "access"]),
    ],
    syntax: "<AND | OR | XOR | NOT> destkey key [key ...]",
    run: Run::Keys(bitop),
    ..Command::DEFAULT
}];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    And,
    Or,
    Xor,
    Not,
}

fn operation(word: &[u8]) -> Option<Operation> {
    [
        ("and", Operation::And),
        ("or", Operation::Or),
        ("xor", Operation::Xor),
        ("not", Operation::Not),
    ]
    .into_iter()
    .find_map(|(name, operation)| args::is(word, name).then_some(operation))
}

/// Runs `f` on the bytes of a key that was read and found to hold a string or nothing.
fn with_bytes<R>(keys: &Keyspace<'_, '_>, key: Key<'_>, f: impl FnOnce(&[u8]) -> R) -> R {
    match keys.peek(key).map(|entry| entry.value()) {
        Some(ValueRef::String(string)) => f(string.bytes(&mut itoa::Buffer::new())),
        _ => f(&[]),
    }
}

/// The strings combined; shorter ones go on with zeros.
fn combined(keys: &Keyspace<'_, '_>, operation: Operation, sources: &[Key<'_>]) -> Vec<u8> {
    let (first, others) = sources.split_first().expect("the arity asks for a source");
    let mut result = with_bytes(keys, *first, <[u8]>::to_vec);
    if operation == Operation::Not {
        result.iter_mut().for_each(|byte| *byte = !*byte);
    }
    for &key in others {
        with_bytes(keys, key, |bytes| {
            let common = result.len().min(bytes.len());
            let pairs = result.iter_mut().zip(bytes);
            match operation {
                Operation::And => {
                    pairs.for_each(|(a, b)| *a &= b);
                    result[common..].fill(0);
                    result.resize(result.len().max(bytes.len()), 0);
                    return;
                }
                Operation::Or => pairs.for_each(|(a, b)| *a |= b),
                Operation::Xor | Operation::Not => pairs.for_each(|(a, b)| *a ^= b),
            }
            result.extend_from_slice(&bytes[common..]);
        });
    }
    result
}

fn bitop(c: &mut Ctx<'_, '_>) -> CommandResult {
    let operation = operation(c.argv.arg(1)).ok_or(SYNTAX)?;
    if operation == Operation::Not && c.argv.len() != 4 {
        return Err(BITOP_NOT_OF_SEVERAL);
    }
    let sources: Vec<Key<'_>> = (3..c.argv.len()).map(|i| c.key(i)).collect();
    for &key in &sources {
        c.keys.read_string(key)?;
    }
    let result = combined(&c.keys, operation, &sources);
    let len = result.len();
    let destination = c.key(2);
    if len > 0 {
        let effect = [b"SET", destination.bytes, &result];
        c.keys.expire_if_due(destination);
        store(
            c,
            destination,
            NewValue::RawBytes(&result),
            Expiry::Set(None),
        );
        c.keys
            .wrote(destination, "set", 1, Effect::Command(&effect));
    } else if c.keys.exists(destination) {
        let old = c.keys.remove(destination).expect("it was just found");
        c.keys.free(destination, old);
        let effect = [b"DEL", destination.bytes];
        c.keys
            .wrote(destination, "del", 1, Effect::Command(&effect));
    }
    c.reply.integer(len as i64);
    Ok(())
}
