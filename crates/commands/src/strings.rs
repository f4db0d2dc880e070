//! String commands.

use crate::command::{Command, Flags, Group, Run};
use crate::context::Ctx;
use crate::errors::CommandResult;
use crate::key_spec::KeySpec;

pub const COMMANDS: &[Command] = &[Command {
    name: "get",
    summary: "Replies a key's string.",
    since: "1.0.0",
    group: Group::String,
    complexity: "O(1)",
    arity: 2,
    flags: Flags::READONLY.union(Flags::FAST),
    keys: &[KeySpec::at(1, &["RO", "access"])],
    syntax: "key",
    run: Run::Keys(get),
    ..Command::DEFAULT
}];

fn get(c: &mut Ctx<'_, '_>) -> CommandResult {
    let key = c.key(1);
    match c.keys.read_string(key)? {
        Some(string) => c.reply.bulk(string.bytes(&mut itoa::Buffer::new())),
        None => c.reply.null(),
    }
    Ok(())
}
