//! The rows of ACL: users, and what they may do.

use crate::command::{Command, Flags, Group, HostCommand, Run};
use crate::help;

const ADMIN: Flags = Flags::ADMIN
    .union(Flags::NOSCRIPT)
    .union(Flags::LOADING)
    .union(Flags::STALE);
const ANYBODY: Flags = Flags::NOSCRIPT.union(Flags::LOADING).union(Flags::STALE);
/// For proxies: users are changed everywhere.
const EVERYWHERE: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];

const ROW: Command = Command {
    since: "6.0.0",
    group: Group::Server,
    ..Command::DEFAULT
};

pub const COMMANDS: &[Command] = &[Command {
    name: "acl",
    summary: "Manages users and what they may do.",
    complexity: "Depends on subcommand.",
    arity: -2,
    run: Run::Container,
    subcommands: SUBCOMMANDS,
    ..ROW
}];

const SUBCOMMANDS: &[Command] = &[
    Command {
        name: "acl|cat",
        summary: "Lists the categories, or the commands of one.",
        arity: -2,
        flags: ANYBODY,
        syntax: "[category]",
        run: Run::Host(HostCommand::AclCat),
        ..ROW
    },
    Command {
        name: "acl|deluser",
        summary: "Deletes users and disconnects who is logged in as one.",
        complexity: "O(1) amortized time considering the typical user.",
        arity: -3,
        flags: ADMIN,
        syntax: "username [username ...]",
        run: Run::Host(HostCommand::AclDeluser),
        tips: EVERYWHERE,
        ..ROW
    },
    Command {
        name: "acl|dryrun",
        summary: "Tells whether a user could run a command, without running it.",
        since: "7.0.0",
        arity: -4,
        flags: ADMIN,
        syntax: "username command [arg [arg ...]]",
        run: Run::Host(HostCommand::AclDryrun),
        ..ROW
    },
    Command {
        name: "acl|genpass",
        summary: "Replies a random password.",
        arity: -2,
        flags: ANYBODY,
        syntax: "[bits]",
        run: Run::Host(HostCommand::AclGenpass),
        ..ROW
    },
    Command {
        name: "acl|getuser",
        summary: "Replies the rules of a user.",
        complexity:
            "O(N). Where N is the number of password, command and pattern rules that the user has.",
        arity: 3,
        flags: ADMIN,
        syntax: "username",
        run: Run::Host(HostCommand::AclGetuser),
        ..ROW
    },
    Command {
        name: "acl|help",
        summary: "Lists the subcommands.",
        arity: 2,
        flags: Flags::LOADING.union(Flags::STALE),
        run: Run::Nowhere(help::reply),
        ..ROW
    },
    Command {
        name: "acl|list",
        summary: "Lists all users with their rules, as an ACL file has them.",
        complexity: "O(N). Where N is the number of configured users.",
        arity: 2,
        flags: ADMIN,
        run: Run::Host(HostCommand::AclList),
        ..ROW
    },
    Command {
        name: "acl|load",
        summary: "Replaces all users by those of the ACL file.",
        complexity: "O(N). Where N is the number of configured users.",
        arity: 2,
        flags: ADMIN,
        run: Run::Host(HostCommand::AclLoad),
        ..ROW
    },
    Command {
        name: "acl|log",
        summary: "Lists what was refused lately.",
        complexity: "O(N) with N being the number of entries shown.",
        arity: -2,
        flags: ADMIN,
        syntax: "[count | RESET]",
        run: Run::Host(HostCommand::AclLog),
        ..ROW
    },
    Command {
        name: "acl|save",
        summary: "Writes all users to the ACL file.",
        complexity: "O(N). Where N is the number of configured users.",
        arity: 2,
        flags: ADMIN,
        run: Run::Host(HostCommand::AclSave),
        tips: EVERYWHERE,
        ..ROW
    },
    Command {
        name: "acl|setuser",
        summary: "Makes a user, or changes one, by rules.",
        complexity: "O(N). Where N is the number of rules provided.",
        arity: -3,
        flags: ADMIN,
        syntax: "username [rule [rule ...]]",
        run: Run::Host(HostCommand::AclSetuser),
        tips: EVERYWHERE,
        ..ROW
    },
    Command {
        name: "acl|users",
        summary: "Lists the names of all users.",
        complexity: "O(N). Where N is the number of configured users.",
        arity: 2,
        flags: ADMIN,
        run: Run::Host(HostCommand::AclUsers),
        ..ROW
    },
    Command {
        name: "acl|whoami",
        summary: "Replies the name of the user that this connection is.",
        arity: 2,
        flags: ANYBODY,
        run: Run::Host(HostCommand::AclWhoami),
        ..ROW
    },
];
