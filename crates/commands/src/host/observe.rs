//! The rows of SLOWLOG and LATENCY.

use crate::command::{Command, Flags, Group, HostCommand, Run};
use crate::help;

const SLOWLOG_FLAGS: Flags = Flags::ADMIN.union(Flags::LOADING).union(Flags::STALE);
const LATENCY_FLAGS: Flags = SLOWLOG_FLAGS.union(Flags::NOSCRIPT);
const HELP: Flags = Flags::LOADING.union(Flags::STALE);

const ROW: Command = Command {
    group: Group::Server,
    ..Command::DEFAULT
};

pub const COMMANDS: &[Command] = &[
    Command {
        name: "latency",
        summary: "Tells what was slow.",
        since: "2.8.13",
        complexity: "Depends on subcommand.",
        arity: -2,
        run: Run::Container,
        subcommands: LATENCY,
        ..ROW
    },
    Command {
        name: "slowlog",
        summary: "Tells which commands were slow.",
        since: "2.2.12",
        complexity: "Depends on subcommand.",
        arity: -2,
        run: Run::Container,
        subcommands: SLOWLOG,
        ..ROW
    },
];

const LATENCY: &[Command] = &[
    Command {
        name: "latency|doctor",
        summary: "Reports in words what was slow and what may help.",
        since: "2.8.13",
        arity: 2,
        flags: LATENCY_FLAGS,
        run: Run::Host(HostCommand::LatencyDoctor),
        tips: &[
            "nondeterministic_output",
            "request_policy:all_nodes",
            "response_policy:special",
        ],
        ..ROW
    },
    Command {
        name: "latency|graph",
        summary: "Draws the spikes of an event.",
        since: "2.8.13",
        arity: 3,
        flags: LATENCY_FLAGS,
        syntax: "event",
        run: Run::Host(HostCommand::LatencyGraph),
        tips: &[
            "nondeterministic_output",
            "request_policy:all_nodes",
            "response_policy:special",
        ],
        ..ROW
    },
    Command {
        name: "latency|help",
        summary: "Lists the subcommands.",
        since: "2.8.13",
        arity: 2,
        flags: HELP,
        run: Run::Nowhere(help::reply),
        ..ROW
    },
    Command {
        name: "latency|histogram",
        summary: "Replies how long commands took, as a cumulative distribution.",
        since: "7.0.0",
        complexity:
            "O(N) where N is the number of commands with latency information being retrieved.",
        arity: -2,
        flags: LATENCY_FLAGS,
        syntax: "[command [command ...]]",
        run: Run::Host(HostCommand::LatencyHistogram),
        tips: &[
            "nondeterministic_output",
            "request_policy:all_nodes",
            "response_policy:special",
        ],
        ..ROW
    },
    Command {
        name: "latency|history",
        summary: "Lists the spikes of an event.",
        since: "2.8.13",
        arity: 3,
        flags: LATENCY_FLAGS,
        syntax: "event",
        run: Run::Host(HostCommand::LatencyHistory),
        tips: &[
            "nondeterministic_output",
            "request_policy:all_nodes",
            "response_policy:special",
        ],
        ..ROW
    },
    Command {
        name: "latency|latest",
        summary: "Lists the last spike of each event.",
        since: "2.8.13",
        arity: 2,
        flags: LATENCY_FLAGS,
        run: Run::Host(HostCommand::LatencyLatest),
        tips: &[
            "nondeterministic_output",
            "request_policy:all_nodes",
            "response_policy:special",
        ],
        ..ROW
    },
    Command {
        name: "latency|reset",
        summary: "Forgets the spikes of events.",
        since: "2.8.13",
        arity: -2,
        flags: LATENCY_FLAGS,
        syntax: "[event [event ...]]",
        run: Run::Host(HostCommand::LatencyReset),
        tips: &["request_policy:all_nodes", "response_policy:agg_sum"],
        ..ROW
    },
];

const SLOWLOG: &[Command] = &[
    Command {
        name: "slowlog|get",
        summary: "Lists the commands that took long, newest first.",
        since: "2.2.12",
        complexity: "O(N) where N is the number of entries returned",
        arity: -2,
        flags: SLOWLOG_FLAGS,
        syntax: "[count]",
        run: Run::Host(HostCommand::SlowlogGet),
        tips: &["request_policy:all_nodes", "nondeterministic_output"],
        ..ROW
    },
    Command {
        name: "slowlog|help",
        summary: "Lists the subcommands.",
        since: "6.2.0",
        arity: 2,
        flags: HELP,
        run: Run::Nowhere(help::reply),
        ..ROW
    },
    Command {
        name: "slowlog|len",
        summary: "Replies how many entries there are.",
        since: "2.2.12",
        arity: 2,
        flags: SLOWLOG_FLAGS,
        run: Run::Host(HostCommand::SlowlogLen),
        tips: &[
            "request_policy:all_nodes",
            "response_policy:agg_sum",
            "nondeterministic_output",
        ],
        ..ROW
    },
    Command {
        name: "slowlog|reset",
        summary: "Forgets all entries.",
        since: "2.2.12",
        complexity: "O(N) where N is the number of entries in the slowlog",
        arity: 2,
        flags: SLOWLOG_FLAGS,
        run: Run::Host(HostCommand::SlowlogReset),
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        ..ROW
    },
];
