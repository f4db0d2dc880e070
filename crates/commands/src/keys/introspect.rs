//! What the server knows about a key besides its value: OBJECT and MEMORY.

use keyspace::{AccessClock, AccessPolicy, EntryRef};

use crate::args;
use crate::command::{Command, Flags, Group, HostCommand, Run};
use crate::context::Ctx;
use crate::errors::{CommandResult, LFU_POLICY, NO_LFU_POLICY, SYNTAX};
use crate::help;
use crate::key_spec::KeySpec;
use crate::keys;

/// The subcommands of OBJECT that look at a key.
const OBJECT: Command = Command {
    since: "2.2.3",
    arity: 3,
    flags: Flags::READONLY,
    keys: &[KeySpec::at(2, &["RO"])],
    syntax: "key",
    tips: &["nondeterministic_output"],
    ..keys::ROW
};

pub const COMMANDS: &[Command] = &[
    Command {
        name: "object",
        summary: "Tells how values are stored.",
        since: "2.2.3",
        complexity: "Depends on subcommand.",
        arity: -2,
        run: Run::Container,
        subcommands: &[
            Command {
                name: "object|encoding",
                summary: "Replies the encoding of what a key holds.",
                run: Run::Keys(object_encoding),
                ..OBJECT
            },
            Command {
                name: "object|freq",
                summary:
                    "Replies how often a key is accessed, where the eviction policy keeps count.",
                since: "4.0.0",
                run: Run::Keys(object_freq),
                ..OBJECT
            },
            Command {
                name: "object|help",
                summary: "Lists the subcommands.",
                since: "6.2.0",
                arity: 2,
                flags: Flags::LOADING.union(Flags::STALE),
                run: Run::Nowhere(help::reply),
                ..keys::ROW
            },
            Command {
                name: "object|idletime",
                summary: "Replies for how many seconds a key was not accessed.",
                run: Run::Keys(object_idletime),
                ..OBJECT
            },
            Command {
                name: "object|refcount",
                summary:
                    "Replies how often a value is referred to: once, as values are not shared.",
                run: Run::Keys(object_refcount),
                ..OBJECT
            },
        ],
        ..keys::ROW
    },
    Command {
        name: "memory",
        summary: "Tells what memory is used for.",
        since: "4.0.0",
        group: Group::Server,
        complexity: "Depends on subcommand.",
        arity: -2,
        run: Run::Container,
        subcommands: &[
            Command {
                name: "memory|doctor",
                summary: "Tells what may be wrong with the use of memory.",
                run: Run::Host(HostCommand::MemoryDoctor),
                ..MEMORY_REPORT
            },
            Command {
                name: "memory|help",
                summary: "Lists the subcommands.",
                since: "4.0.0",
                group: Group::Server,
                arity: 2,
                flags: Flags::LOADING.union(Flags::STALE),
                run: Run::Nowhere(help::reply),
                ..Command::DEFAULT
            },
            Command {
                name: "memory|malloc-stats",
                summary: "Replies the allocator's own report, if it has one.",
                run: Run::Host(HostCommand::MemoryMallocStats),
                ..MEMORY_REPORT
            },
            Command {
                name: "memory|purge",
                summary: "Gives free memory back to the system.",
                run: Run::Host(HostCommand::MemoryPurge),
                tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
                ..MEMORY_REPORT
            },
            Command {
                name: "memory|stats",
                summary: "Replies what memory is used for.",
                run: Run::Host(HostCommand::MemoryStats),
                ..MEMORY_REPORT
            },
            Command {
                name: "memory|usage",
                summary: "Estimates how many bytes a key and its value take.",
                since: "4.0.0",
                group: Group::Server,
                complexity: "O(N) with N samples",
                arity: -3,
                flags: Flags::READONLY,
                keys: &[KeySpec::at(2, &["RO"])],
                syntax: "key [SAMPLES count]",
                run: Run::Keys(memory_usage),
                ..Command::DEFAULT
            },
        ],
        ..Command::DEFAULT
    },
];

const MEMORY_REPORT: Command = Command {
    since: "4.0.0",
    group: Group::Server,
    arity: 2,
    tips: &[
        "nondeterministic_output",
        "request_policy:all_shards",
        "response_policy:special",
    ],
    ..Command::DEFAULT
};

/// Replies what `tell` says of the key's entry, or null.
fn about(
    c: &mut Ctx<'_, '_>,
    tell: impl FnOnce(EntryRef<'_>, &mut resp::Reply<'_>) -> CommandResult,
) -> CommandResult {
    let key = c.key(2);
    match c.keys.inspect(key) {
        Some(entry) => tell(entry, &mut c.reply),
        None => {
            c.reply.null();
            Ok(())
        }
    }
}

fn object_encoding(c: &mut Ctx<'_, '_>) -> CommandResult {
    about(c, |entry, reply| {
        reply.bulk(entry.encoding_name().as_bytes());
        Ok(())
    })
}

fn object_freq(c: &mut Ctx<'_, '_>) -> CommandResult {
    let access = access_clock(c);
    about(c, |entry, reply| {
        if access.policy() == AccessPolicy::Recency {
            return Err(NO_LFU_POLICY);
        }
        reply.integer(access.frequency(entry.access_clock()).into());
        Ok(())
    })
}

fn object_idletime(c: &mut Ctx<'_, '_>) -> CommandResult {
    let access = access_clock(c);
    about(c, |entry, reply| {
        if access.policy() != AccessPolicy::Recency {
            return Err(LFU_POLICY);
        }
        reply.integer(access.idle_seconds(entry.access_clock()).into());
        Ok(())
    })
}

/// By which accesses of the key are noted, at the time of this command.
fn access_clock(c: &mut Ctx<'_, '_>) -> AccessClock {
    let key = c.key(2);
    let mut access = c.keys.db_of(key).access.clone();
    access.set((c.keys.now.0 / 1000) as u32, access.policy());
    access
}

fn object_refcount(c: &mut Ctx<'_, '_>) -> CommandResult {
    about(c, |_, reply| {
        reply.integer(1);
        Ok(())
    })
}

fn memory_usage(c: &mut Ctx<'_, '_>) -> CommandResult {
    const SAMPLES_DEFAULT: usize = 5;
    let mut samples = SAMPLES_DEFAULT;
    let mut index = 3;
    while let Some(word) = c.argv.get(index) {
        let count = c.argv.get(index + 1);
        let Some(count) = count.filter(|_| args::is(word, "samples")) else {
            return Err(SYNTAX);
        };
        samples = usize::try_from(args::integer(count)?).map_err(|_| SYNTAX)?;
        index += 2;
    }
    // Redis tells it of a key whose time has passed as well, as long as it takes memory.
    let key = c.key(2);
    match c.keys.db_of(key).find(key) {
        Some(entry) => c.reply.integer(entry.memory_bytes(samples) as i64),
        None => c.reply.null(),
    }
    Ok(())
}
