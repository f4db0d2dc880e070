//! Rows of the commands whose functions are in `server`: connections, transactions and the
//! server as a whole. Those that need nothing but their arguments and the time stand here whole.

use crate::acl::Categories;
use crate::command::{Command, Deprecated, Flags, Group, HostCommand, Run};
use crate::context::Ctx;
use crate::errors::CommandResult;
use crate::help;
use crate::key_spec::KeySpec;

pub mod acl;
mod lolwut;
pub mod observe;
pub mod scripting;

/// Flags of most commands about a connection: allowed whatever state the server is in.
const SESSION: Flags = Flags::NOSCRIPT.union(Flags::LOADING).union(Flags::STALE);
/// As `SESSION`, of commands that answer at once.
const SESSION_FAST: Flags = SESSION.union(Flags::FAST);
const ADMIN: Flags = SESSION.union(Flags::ADMIN);
const ADMIN_WRITER: Flags = Flags::ADMIN
    .union(Flags::NOSCRIPT)
    .union(Flags::NO_ASYNC_LOADING);
const HELP: Flags = Flags::LOADING.union(Flags::STALE);

const ALL_NODES: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];

const CONNECTION: Command = Command {
    group: Group::Connection,
    ..Command::DEFAULT
};
const SERVER: Command = Command {
    group: Group::Server,
    ..Command::DEFAULT
};
const TRANSACTIONS: Command = Command {
    group: Group::Transactions,
    arity: 1,
    ..Command::DEFAULT
};

pub const COMMANDS: &[Command] = &[
    Command {
        name: "auth",
        summary: "Authenticates the connection.",
        complexity: "O(1)",
        arity: -2,
        flags: SESSION_FAST.union(Flags::NO_AUTH).union(Flags::ALLOW_BUSY),
        syntax: "[username] password",
        run: Run::Host(HostCommand::Auth),
        ..CONNECTION
    },
    Command {
        name: "bgrewriteaof",
        summary: "Rewrites the append-only files in the background.",
        arity: 1,
        flags: ADMIN_WRITER,
        run: Run::Host(HostCommand::Bgrewriteaof),
        ..SERVER
    },
    Command {
        name: "bgsave",
        summary: "Saves all databases in the background.",
        arity: -1,
        flags: ADMIN_WRITER,
        syntax: "[SCHEDULE]",
        run: Run::Host(HostCommand::Bgsave),
        ..SERVER
    },
    Command {
        name: "client",
        summary: "Tells about connections and changes them.",
        since: "2.4.0",
        complexity: "Depends on subcommand.",
        arity: -2,
        run: Run::Container,
        subcommands: &[
            Command {
                name: "client|caching",
                summary: "Says whether the next request's keys are tracked.",
                since: "6.0.0",
                arity: 3,
                flags: SESSION,
                syntax: "<YES | NO>",
                run: Run::Host(HostCommand::ClientCaching),
                ..CONNECTION
            },
            Command {
                name: "client|getname",
                summary: "Replies the connection's name.",
                since: "2.6.9",
                arity: 2,
                flags: SESSION,
                run: Run::Host(HostCommand::ClientGetname),
                ..CONNECTION
            },
            Command {
                name: "client|getredir",
                summary: "Replies the number of the client that gets the connection's invalidations.",
                since: "6.0.0",
                arity: 2,
                flags: SESSION,
                run: Run::Host(HostCommand::ClientGetredir),
                ..CONNECTION
            },
            Command {
                name: "client|help",
                summary: "Lists the subcommands.",
                since: "5.0.0",
                arity: 2,
                flags: HELP,
                run: Run::Nowhere(help::reply),
                ..CONNECTION
            },
            Command {
                name: "client|id",
                summary: "Replies the connection's number.",
                since: "5.0.0",
                arity: 2,
                flags: SESSION,
                run: Run::Host(HostCommand::ClientId),
                ..CONNECTION
            },
            Command {
                name: "client|info",
                summary: "Describes the connection.",
                since: "6.2.0",
                arity: 2,
                flags: SESSION,
                run: Run::Host(HostCommand::ClientInfo),
                tips: &["nondeterministic_output"],
                ..CONNECTION
            },
            Command {
                name: "client|kill",
                summary: "Closes connections, chosen by address or by filters that must all fit.",
                since: "2.4.0",
                complexity: "O(N) with N connections",
                arity: -3,
                flags: ADMIN,
                syntax: "<ip:port | <[ID client-id] | [TYPE <NORMAL | MASTER | SLAVE | REPLICA | PUBSUB>] | [USER username] | [ADDR ip:port] | [LADDR ip:port] | [SKIPME <YES | NO>] | [MAXAGE maxage]> [<[ID client-id] | [TYPE <NORMAL | MASTER | SLAVE | REPLICA | PUBSUB>] | [USER username] | [ADDR ip:port] | [LADDR ip:port] | [SKIPME <YES | NO>] | [MAXAGE maxage]> ...]>",
                run: Run::Host(HostCommand::ClientKill),
                ..CONNECTION
            },
            Command {
                name: "client|list",
                summary: "Describes all connections.",
                since: "2.4.0",
                complexity: "O(N) with N connections",
                arity: -2,
                flags: ADMIN,
                syntax: "[TYPE <NORMAL | MASTER | REPLICA | PUBSUB>] [ID client-id [client-id ...]]",
                run: Run::Host(HostCommand::ClientList),
                tips: &["nondeterministic_output"],
                ..CONNECTION
            },
            Command {
                name: "client|no-evict",
                summary: "Exempts the connection from being closed when memory is short.",
                since: "7.0.0",
                arity: 3,
                flags: ADMIN,
                syntax: "<ON | OFF>",
                run: Run::Host(HostCommand::ClientNoEvict),
                ..CONNECTION
            },
            Command {
                name: "client|no-touch",
                summary: "Lets the connection's reads leave no trace in the access clocks of keys.",
                since: "7.2.0",
                arity: 3,
                flags: SESSION,
                syntax: "<ON | OFF>",
                run: Run::Host(HostCommand::ClientNoTouch),
                ..CONNECTION
            },
            Command {
                name: "client|pause",
                summary: "Holds back commands, all or those that may change something, for a time.",
                since: "3.0.0",
                arity: -3,
                flags: ADMIN,
                syntax: "timeout [WRITE | ALL]",
                run: Run::Host(HostCommand::ClientPause),
                ..CONNECTION
            },
            Command {
                name: "client|reply",
                summary: "Switches replies off and on.",
                since: "3.2.0",
                arity: 3,
                flags: SESSION,
                syntax: "<ON | OFF | SKIP>",
                run: Run::Host(HostCommand::ClientReply),
                ..CONNECTION
            },
            Command {
                name: "client|setinfo",
                summary: "Tells the server about the client library.",
                since: "7.2.0",
                arity: 4,
                flags: SESSION,
                syntax: "<LIB-NAME libname | LIB-VER libver>",
                run: Run::Host(HostCommand::ClientSetinfo),
                tips: ALL_NODES,
                ..CONNECTION
            },
            Command {
                name: "client|setname",
                summary: "Names the connection.",
                since: "2.6.9",
                arity: 3,
                flags: SESSION,
                syntax: "connection-name",
                run: Run::Host(HostCommand::ClientSetname),
                tips: ALL_NODES,
                ..CONNECTION
            },
            Command {
                name: "client|tracking",
                summary: "Has the connection told when keys change that it may have cached.",
                since: "6.0.0",
                complexity: "O(N) with N prefixes",
                arity: -3,
                flags: SESSION,
                syntax: "<ON | OFF> [REDIRECT client-id] [PREFIX prefix [PREFIX prefix ...]] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]",
                run: Run::Host(HostCommand::ClientTracking),
                ..CONNECTION
            },
            Command {
                name: "client|trackinginfo",
                summary: "Describes the connection's tracking.",
                since: "6.2.0",
                arity: 2,
                flags: SESSION,
                run: Run::Host(HostCommand::ClientTrackinginfo),
                ..CONNECTION
            },
            Command {
                name: "client|unblock",
                summary: "Ends the wait of a client that a command blocks.",
                since: "5.0.0",
                arity: -3,
                flags: ADMIN,
                syntax: "client-id [TIMEOUT | ERROR]",
                run: Run::Host(HostCommand::ClientUnblock),
                ..CONNECTION
            },
            Command {
                name: "client|unpause",
                summary: "Ends a pause of commands.",
                since: "6.2.0",
                complexity: "O(N) Where N is the number of paused clients",
                arity: 2,
                flags: ADMIN,
                run: Run::Host(HostCommand::ClientUnpause),
                ..CONNECTION
            },
        ],
        ..CONNECTION
    },
    Command {
        name: "config",
        summary: "Reads and changes the configuration.",
        since: "2.0.0",
        complexity: "Depends on subcommand.",
        arity: -2,
        run: Run::Container,
        subcommands: &[
            Command {
                name: "config|get",
                summary: "Replies the values of configuration directives.",
                since: "2.0.0",
                complexity: "O(N) with N patterns",
                arity: -3,
                flags: ADMIN,
                syntax: "parameter [parameter ...]",
                run: Run::Host(HostCommand::ConfigGet),
                ..SERVER
            },
            Command {
                name: "config|help",
                summary: "Lists the subcommands.",
                since: "5.0.0",
                arity: 2,
                flags: HELP,
                run: Run::Nowhere(help::reply),
                ..SERVER
            },
            Command {
                name: "config|resetstat",
                summary: "Sets the counters of INFO back to zero.",
                since: "2.0.0",
                arity: 2,
                flags: ADMIN,
                run: Run::Host(HostCommand::ConfigResetstat),
                tips: ALL_NODES,
                ..SERVER
            },
            Command {
                name: "config|rewrite",
                summary: "Writes the configuration in force to its file.",
                since: "2.8.0",
                arity: 2,
                flags: ADMIN,
                run: Run::Host(HostCommand::ConfigRewrite),
                tips: ALL_NODES,
                ..SERVER
            },
            Command {
                name: "config|set",
                summary: "Changes configuration directives while the server runs.",
                since: "2.0.0",
                complexity: "O(N) with N directives",
                arity: -4,
                flags: ADMIN,
                syntax: "parameter value [parameter value ...]",
                run: Run::Host(HostCommand::ConfigSet),
                tips: ALL_NODES,
                ..SERVER
            },
        ],
        ..SERVER
    },
    Command {
        name: "debug",
        summary: "Things that only tests and debugging need.",
        complexity: "Depends on subcommand.",
        arity: -2,
        flags: ADMIN,
        run: Run::Host(HostCommand::Debug),
        ..SERVER
    },
    Command {
        name: "discard",
        summary: "Drops the commands queued since MULTI.",
        since: "2.0.0",
        complexity: "O(N) with N queued commands",
        flags: SESSION_FAST.union(Flags::ALLOW_BUSY),
        run: Run::Host(HostCommand::Discard),
        ..TRANSACTIONS
    },
    Command {
        name: "echo",
        summary: "Replies its argument.",
        arity: 2,
        flags: Flags::LOADING.union(Flags::STALE).union(Flags::FAST),
        syntax: "message",
        run: Run::Nowhere(echo),
        ..CONNECTION
    },
    Command {
        name: "exec",
        summary: "Runs the commands queued since MULTI, as one.",
        since: "1.2.0",
        complexity: "Depends on commands in the transaction",
        flags: SESSION.union(Flags::SKIP_SLOWLOG),
        run: Run::Host(HostCommand::Exec),
        ..TRANSACTIONS
    },
    Command {
        name: "hello",
        summary: "Agrees on the protocol version; authenticates and names the connection on the way.",
        since: "6.0.0",
        arity: -1,
        flags: SESSION_FAST.union(Flags::NO_AUTH).union(Flags::ALLOW_BUSY),
        syntax: "[protover [AUTH username password] [SETNAME clientname]]",
        run: Run::Host(HostCommand::Hello),
        ..CONNECTION
    },
    Command {
        name: "info",
        summary: "Describes the state of the server.",
        arity: -1,
        flags: Flags::LOADING.union(Flags::STALE).union(Flags::DANGEROUS),
        syntax: "[section [section ...]]",
        run: Run::Host(HostCommand::Info),
        tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        ..SERVER
    },
    Command {
        name: "lastsave",
        summary: "Replies the Unix time of the last save that succeeded.",
        arity: 1,
        flags: Flags::LOADING.union(Flags::STALE).union(Flags::FAST).union(Flags::DANGEROUS),
        categories: Categories::ADMIN,
        run: Run::Host(HostCommand::Lastsave),
        tips: &["nondeterministic_output"],
        ..SERVER
    },
    Command {
        name: "lolwut",
        summary: "Shows a picture that was computed, and the version of Redis that is tracked.",
        since: "5.0.0",
        complexity: "",
        arity: -1,
        flags: Flags::READONLY.union(Flags::FAST),
        syntax: "[VERSION version]",
        run: Run::Nowhere(lolwut::lolwut),
        ..SERVER
    },
    Command {
        name: "module",
        summary: "Tells which modules are loaded: none.",
        since: "4.0.0",
        complexity: "Depends on subcommand.",
        arity: -2,
        run: Run::Container,
        subcommands: &[
            Command {
                name: "module|help",
                summary: "Lists the subcommands.",
                since: "5.0.0",
                arity: 2,
                flags: HELP,
                run: Run::Nowhere(help::reply),
                ..SERVER
            },
            Command {
                name: "module|list",
                summary: "Lists the modules that are loaded: none.",
                since: "4.0.0",
                complexity: "O(N) where N is the number of loaded modules.",
                arity: 2,
                flags: Flags::ADMIN.union(Flags::NOSCRIPT),
                run: Run::Nowhere(module_list),
                tips: &["nondeterministic_output_order"],
                ..SERVER
            },
        ],
        ..SERVER
    },
    Command {
        name: "monitor",
        summary: "Has the connection see every command that the server runs.",
        complexity: "",
        arity: 1,
        flags: ADMIN,
        run: Run::Host(HostCommand::Monitor),
        ..SERVER
    },
    Command {
        name: "multi",
        summary: "Begins a transaction: commands are queued until EXEC.",
        since: "1.2.0",
        flags: SESSION_FAST.union(Flags::ALLOW_BUSY),
        run: Run::Host(HostCommand::Multi),
        ..TRANSACTIONS
    },
    Command {
        name: "ping",
        summary: "Replies PONG, or its argument.",
        arity: -1,
        flags: Flags::FAST,
        syntax: "[message]",
        run: Run::Host(HostCommand::Ping),
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        ..CONNECTION
    },
    Command {
        name: "quit",
        summary: "Closes the connection.",
        arity: -1,
        flags: SESSION_FAST.union(Flags::NO_AUTH).union(Flags::ALLOW_BUSY),
        run: Run::Host(HostCommand::Quit),
        deprecated: Some(Deprecated { since: "7.2.0", replaced_by: "just closing the connection" }),
        ..CONNECTION
    },
    Command {
        name: "reset",
        summary: "Makes the connection as it was when it was new.",
        since: "6.2.0",
        arity: 1,
        flags: SESSION_FAST.union(Flags::NO_AUTH).union(Flags::ALLOW_BUSY),
        run: Run::Host(HostCommand::Reset),
        ..CONNECTION
    },
    Command {
        name: "role",
        summary: "Replies the part that the server has in replication: that of a master without replicas.",
        since: "2.8.12",
        arity: 1,
        flags: SESSION_FAST.union(Flags::DANGEROUS),
        categories: Categories::ADMIN,
        run: Run::Nowhere(role),
        ..SERVER
    },
    Command {
        name: "save",
        summary: "Saves all databases while everything else waits.",
        complexity: "O(N) with N keys in all databases",
        arity: 1,
        flags: ADMIN_WRITER.union(Flags::NO_MULTI),
        run: Run::Host(HostCommand::Save),
        ..SERVER
    },
    Command {
        name: "select",
        summary: "Selects the database that the following commands are about.",
        arity: 2,
        flags: Flags::LOADING.union(Flags::STALE).union(Flags::FAST),
        syntax: "index",
        run: Run::Host(HostCommand::Select),
        ..CONNECTION
    },
    Command {
        name: "shutdown",
        summary: "Saves all databases, if it should, and ends the server.",
        complexity: "O(N) with N keys in all databases when saving",
        arity: -1,
        flags: ADMIN.union(Flags::NO_MULTI).union(Flags::ALLOW_BUSY),
        syntax: "[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]",
        run: Run::Host(HostCommand::Shutdown),
        ..SERVER
    },
    Command {
        name: "time",
        summary: "Replies the Unix time in seconds, and the microseconds of the current one.",
        since: "2.6.0",
        arity: 1,
        flags: Flags::LOADING.union(Flags::STALE).union(Flags::FAST),
        run: Run::Nowhere(time),
        tips: &["nondeterministic_output"],
        ..SERVER
    },
    Command {
        name: "unwatch",
        summary: "Forgets the watched keys.",
        since: "2.2.0",
        flags: SESSION_FAST.union(Flags::ALLOW_BUSY),
        run: Run::Host(HostCommand::Unwatch),
        ..TRANSACTIONS
    },
    Command {
        name: "wait",
        summary: "Waits until replicas have the writes of this connection.",
        since: "3.0.0",
        group: Group::Generic,
        arity: 3,
        flags: Flags::BLOCKING,
        categories: Categories::CONNECTION,
        syntax: "numreplicas timeout",
        run: Run::Host(HostCommand::Wait),
        tips: &["request_policy:all_shards", "response_policy:agg_min"],
        ..Command::DEFAULT
    },
    Command {
        name: "waitaof",
        summary: "Waits until the writes of this connection are durable here or in replicas.",
        since: "7.2.0",
        group: Group::Generic,
        arity: 4,
        flags: Flags::BLOCKING,
        categories: Categories::CONNECTION,
        syntax: "numlocal numreplicas timeout",
        run: Run::Host(HostCommand::Waitaof),
        tips: &["request_policy:all_shards", "response_policy:agg_min"],
        ..Command::DEFAULT
    },
    Command {
        name: "watch",
        summary: "Watches keys: the next EXEC runs nothing if one of them has changed.",
        since: "2.2.0",
        complexity: "O(1) for every key.",
        arity: -2,
        flags: SESSION_FAST.union(Flags::ALLOW_BUSY),
        keys: &[KeySpec::rest(1, 1, &["RO"])],
        syntax: "key [key ...]",
        run: Run::Host(HostCommand::Watch),
        ..TRANSACTIONS
    },
];

fn module_list(c: &mut Ctx<'_, '_>) -> CommandResult {
    c.reply.array(0);
    Ok(())
}

/// There is no replication: no bytes of a stream, and nobody who reads it.
fn role(c: &mut Ctx<'_, '_>) -> CommandResult {
    c.reply.array(3);
    c.reply.bulk(b"master");
    c.reply.integer(0);
    c.reply.array(0);
    Ok(())
}

fn echo(c: &mut Ctx<'_, '_>) -> CommandResult {
    c.reply.bulk(c.argv.arg(1));
    Ok(())
}

fn time(c: &mut Ctx<'_, '_>) -> CommandResult {
    let ms = c.keys.now.0;
    c.reply.array(2);
    c.reply.bulk_integer(ms.div_euclid(1000));
    // The clock of commands counts milliseconds.
    c.reply.bulk_integer(ms.rem_euclid(1000) * 1000);
    Ok(())
}
