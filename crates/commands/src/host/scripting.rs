//! Rows of scripts and functions; `server` has what they do.

use super::HELP;
use crate::command::{Command, Flags, Group, HostCommand, Run};
use crate::help;
use crate::key_spec::KeySpec;

const SCRIPTING: Command = Command {
    group: Group::Scripting,
    ..Command::DEFAULT
};

const CALLING: Flags = Flags::NOSCRIPT
    .union(Flags::STALE)
    .union(Flags::SKIP_MONITOR)
    .union(Flags::NO_MANDATORY_KEYS)
    .union(Flags::MOVABLEKEYS);
const CALL: Flags = CALLING.union(Flags::MAY_REPLICATE);
const CALL_READ_ONLY: Flags = CALLING.union(Flags::READONLY);
const KILL: Flags = Flags::NOSCRIPT.union(Flags::ALLOW_BUSY);
const READ_WRITE: &[&str] = &["RW", "access", "update"];
const READ: &[&str] = &["RO", "access"];
const ALL_SHARDS: &[&str] = &["request_policy:all_shards", "response_policy:all_succeeded"];

pub const COMMANDS: &[Command] = &[
    Command {
        name: "eval",
        summary: "Runs a script in Lua.",
        since: "2.6.0",
        complexity: "Depends on the script that is executed.",
        arity: -3,
        flags: CALL,
        keys: &[KeySpec {
            notes: "We cannot tell how the keys will be used so we assume the worst, RW and UPDATE",
            ..KeySpec::counted(2, READ_WRITE)
        }],
        syntax: "script numkeys [key [key ...]] [arg [arg ...]]",
        run: Run::Host(HostCommand::Eval),
        ..SCRIPTING
    },
    Command {
        name: "evalsha",
        summary: "Runs a script in Lua that is known by its SHA1.",
        since: "2.6.0",
        complexity: "Depends on the script that is executed.",
        arity: -3,
        flags: CALL,
        keys: &[KeySpec::counted(2, READ_WRITE)],
        syntax: "sha1 numkeys [key [key ...]] [arg [arg ...]]",
        run: Run::Host(HostCommand::Evalsha),
        ..SCRIPTING
    },
    Command {
        name: "eval_ro",
        summary: "Runs a script in Lua that may not write.",
        since: "7.0.0",
        complexity: "Depends on the script that is executed.",
        arity: -3,
        flags: CALL_READ_ONLY,
        keys: &[KeySpec {
            notes: "We cannot tell how the keys will be used so we assume the worst, RO and ACCESS",
            ..KeySpec::counted(2, READ)
        }],
        syntax: "script numkeys [key [key ...]] [arg [arg ...]]",
        run: Run::Host(HostCommand::Eval),
        ..SCRIPTING
    },
    Command {
        name: "evalsha_ro",
        summary: "Runs a script in Lua that is known by its SHA1 and may not write.",
        since: "7.0.0",
        complexity: "Depends on the script that is executed.",
        arity: -3,
        flags: CALL_READ_ONLY,
        keys: &[KeySpec::counted(2, READ)],
        syntax: "sha1 numkeys [key [key ...]] [arg [arg ...]]",
        run: Run::Host(HostCommand::Evalsha),
        ..SCRIPTING
    },
    Command {
        name: "fcall",
        summary: "Calls a function of a library.",
        since: "7.0.0",
        complexity: "Depends on the function that is executed.",
        arity: -3,
        flags: CALL,
        keys: &[KeySpec {
            notes: "We cannot tell how the keys will be used so we assume the worst, RW and UPDATE",
            ..KeySpec::counted(2, READ_WRITE)
        }],
        syntax: "function numkeys [key [key ...]] [arg [arg ...]]",
        run: Run::Host(HostCommand::Fcall),
        ..SCRIPTING
    },
    Command {
        name: "fcall_ro",
        summary: "Calls a function of a library that may not write.",
        since: "7.0.0",
        complexity: "Depends on the function that is executed.",
        arity: -3,
        flags: CALL_READ_ONLY,
        keys: &[KeySpec {
            notes: "We cannot tell how the keys will be used so we assume the worst, RO and ACCESS",
            ..KeySpec::counted(2, READ)
        }],
        syntax: "function numkeys [key [key ...]] [arg [arg ...]]",
        run: Run::Host(HostCommand::Fcall),
        ..SCRIPTING
    },
    Command {
        name: "script",
        summary: "Manages the cache of scripts.",
        since: "2.6.0",
        complexity: "Depends on subcommand.",
        arity: -2,
        run: Run::Container,
        subcommands: &[
            Command {
                name: "script|debug",
                summary: "Chooses how the connection's scripts are debugged.",
                since: "3.2.0",
                arity: 3,
                flags: Flags::NOSCRIPT,
                syntax: "<YES | SYNC | NO>",
                run: Run::Host(HostCommand::ScriptDebug),
                ..SCRIPTING
            },
            Command {
                name: "script|exists",
                summary: "Tells which scripts are in the cache.",
                since: "2.6.0",
                complexity: "O(N) with N scripts asked for",
                arity: -3,
                flags: Flags::NOSCRIPT,
                syntax: "sha1 [sha1 ...]",
                run: Run::Host(HostCommand::ScriptExists),
                tips: &[
                    "request_policy:all_shards",
                    "response_policy:agg_logical_and",
                ],
                ..SCRIPTING
            },
            Command {
                name: "script|flush",
                summary: "Empties the cache of scripts.",
                since: "2.6.0",
                complexity: "O(N) with N scripts in the cache",
                arity: -2,
                flags: Flags::NOSCRIPT,
                syntax: "[ASYNC | SYNC]",
                run: Run::Host(HostCommand::ScriptFlush),
                tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
                ..SCRIPTING
            },
            Command {
                name: "script|help",
                summary: "Lists the subcommands.",
                since: "5.0.0",
                arity: 2,
                flags: HELP,
                run: Run::Nowhere(help::reply),
                ..SCRIPTING
            },
            Command {
                name: "script|kill",
                summary: "Stops a script that takes long and has not written.",
                since: "2.6.0",
                arity: 2,
                flags: KILL,
                run: Run::Host(HostCommand::ScriptKill),
                tips: &["request_policy:all_shards", "response_policy:one_succeeded"],
                ..SCRIPTING
            },
            Command {
                name: "script|load",
                summary: "Puts a script into the cache.",
                since: "2.6.0",
                complexity: "O(N) with N bytes of the script",
                arity: 3,
                flags: Flags::NOSCRIPT.union(Flags::STALE),
                syntax: "script",
                run: Run::Host(HostCommand::ScriptLoad),
                tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
                ..SCRIPTING
            },
        ],
        ..SCRIPTING
    },
    Command {
        name: "function",
        summary: "Manages libraries of functions.",
        since: "7.0.0",
        complexity: "Depends on subcommand.",
        arity: -2,
        run: Run::Container,
        subcommands: &[
            Command {
                name: "function|delete",
                summary: "Deletes a library.",
                since: "7.0.0",
                arity: 3,
                flags: Flags::WRITE.union(Flags::NOSCRIPT),
                syntax: "library-name",
                run: Run::Host(HostCommand::FunctionDelete),
                tips: ALL_SHARDS,
                ..SCRIPTING
            },
            Command {
                name: "function|dump",
                summary: "Replies all libraries as a payload.",
                since: "7.0.0",
                complexity: "O(N) with N functions",
                arity: 2,
                flags: Flags::NOSCRIPT,
                run: Run::Host(HostCommand::FunctionDump),
                ..SCRIPTING
            },
            Command {
                name: "function|flush",
                summary: "Deletes all libraries.",
                since: "7.0.0",
                complexity: "O(N) with N functions deleted",
                arity: -2,
                flags: Flags::WRITE.union(Flags::NOSCRIPT),
                syntax: "[ASYNC | SYNC]",
                run: Run::Host(HostCommand::FunctionFlush),
                tips: ALL_SHARDS,
                ..SCRIPTING
            },
            Command {
                name: "function|help",
                summary: "Lists the subcommands.",
                since: "7.0.0",
                arity: 2,
                flags: HELP,
                run: Run::Nowhere(help::reply),
                ..SCRIPTING
            },
            Command {
                name: "function|kill",
                summary: "Stops a function that takes long and has not written.",
                since: "7.0.0",
                arity: 2,
                flags: KILL,
                run: Run::Host(HostCommand::FunctionKill),
                tips: &["request_policy:all_shards", "response_policy:one_succeeded"],
                ..SCRIPTING
            },
            Command {
                name: "function|list",
                summary: "Describes the libraries.",
                since: "7.0.0",
                complexity: "O(N) with N functions",
                arity: -2,
                flags: Flags::NOSCRIPT,
                syntax: "[LIBRARYNAME library-name-pattern] [WITHCODE]",
                run: Run::Host(HostCommand::FunctionList),
                tips: &["nondeterministic_output_order"],
                ..SCRIPTING
            },
            Command {
                name: "function|load",
                summary: "Adds a library.",
                since: "7.0.0",
                arity: -3,
                flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::NOSCRIPT),
                syntax: "[REPLACE] function-code",
                run: Run::Host(HostCommand::FunctionLoad),
                tips: ALL_SHARDS,
                ..SCRIPTING
            },
            Command {
                name: "function|restore",
                summary: "Adds the libraries of a payload.",
                since: "7.0.0",
                complexity: "O(N) with N functions of the payload",
                arity: -3,
                flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::NOSCRIPT),
                syntax: "serialized-value [FLUSH | APPEND | REPLACE]",
                run: Run::Host(HostCommand::FunctionRestore),
                tips: ALL_SHARDS,
                ..SCRIPTING
            },
            Command {
                name: "function|stats",
                summary: "Tells what function runs, and how many there are.",
                since: "7.0.0",
                arity: 2,
                flags: KILL,
                run: Run::Host(HostCommand::FunctionStats),
                tips: &[
                    "nondeterministic_output",
                    "request_policy:all_shards",
                    "response_policy:special",
                ],
                ..SCRIPTING
            },
        ],
        ..SCRIPTING
    },
];
