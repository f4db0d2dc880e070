//! Rows of publishing and subscribing; the functions are in `server`. No key is involved: channels
//! have names of their own, and shard channels, which only a cluster would spread, others again.

use crate::command::{Command, Flags, Group, HostCommand, Run};
use crate::help;
use crate::key_spec::KeySpec;

const ROW: Command = Command {
    group: Group::Pubsub,
    ..Command::DEFAULT
};

const SUBSCRIBING: Flags = Flags::PUBSUB
    .union(Flags::NOSCRIPT)
    .union(Flags::LOADING)
    .union(Flags::STALE);
const PUBLISHING: Flags = Flags::PUBSUB
    .union(Flags::MAY_REPLICATE)
    .union(Flags::LOADING)
    .union(Flags::STALE)
    .union(Flags::FAST);
const LOOKING: Flags = Flags::PUBSUB.union(Flags::LOADING).union(Flags::STALE);
const HELP: Flags = Flags::LOADING.union(Flags::STALE);

const NOT_KEY: &[&str] = &["not_key"];

pub const COMMANDS: &[Command] = &[
    Command {
        name: "subscribe",
        summary: "Has the connection receive what is published to channels.",
        since: "2.0.0",
        complexity: "O(N) with N channels",
        arity: -2,
        flags: SUBSCRIBING,
        syntax: "channel [channel ...]",
        run: Run::Host(HostCommand::Subscribe),
        ..ROW
    },
    Command {
        name: "psubscribe",
        summary: "Has the connection receive what is published to channels that match patterns.",
        since: "2.0.0",
        complexity: "O(N) with N patterns",
        arity: -2,
        flags: SUBSCRIBING,
        syntax: "pattern [pattern ...]",
        run: Run::Host(HostCommand::Psubscribe),
        ..ROW
    },
    Command {
        name: "ssubscribe",
        summary: "Has the connection receive what is published to shard channels.",
        since: "7.0.0",
        complexity: "O(N) with N channels",
        arity: -2,
        flags: SUBSCRIBING,
        keys: &[KeySpec::rest(1, 1, NOT_KEY)],
        syntax: "shardchannel [shardchannel ...]",
        run: Run::Host(HostCommand::Ssubscribe),
        ..ROW
    },
    Command {
        name: "unsubscribe",
        summary: "Ends subscriptions to channels, or to all of them.",
        since: "2.0.0",
        complexity: "O(N) with N channels",
        arity: -1,
        flags: SUBSCRIBING,
        syntax: "[channel [channel ...]]",
        run: Run::Host(HostCommand::Unsubscribe),
        ..ROW
    },
    Command {
        name: "punsubscribe",
        summary: "Ends subscriptions to patterns, or to all of them.",
        since: "2.0.0",
        complexity: "O(N) with N patterns",
        arity: -1,
        flags: SUBSCRIBING,
        syntax: "[pattern [pattern ...]]",
        run: Run::Host(HostCommand::Punsubscribe),
        ..ROW
    },
    Command {
        name: "sunsubscribe",
        summary: "Ends subscriptions to shard channels, or to all of them.",
        since: "7.0.0",
        complexity: "O(N) with N channels",
        arity: -1,
        flags: SUBSCRIBING,
        keys: &[KeySpec::rest(1, 1, NOT_KEY)],
        syntax: "[shardchannel [shardchannel ...]]",
        run: Run::Host(HostCommand::Sunsubscribe),
        ..ROW
    },
    Command {
        name: "publish",
        summary: "Sends a message to the subscribers of a channel.",
        since: "2.0.0",
        complexity:
            "O(N+M) with N subscribers of the channel and M patterns that anybody subscribed to",
        arity: 3,
        flags: PUBLISHING,
        syntax: "channel message",
        run: Run::Host(HostCommand::Publish),
        ..ROW
    },
    Command {
        name: "spublish",
        summary: "Sends a message to the subscribers of a shard channel.",
        since: "7.0.0",
        complexity: "O(N) with N subscribers of the channel",
        arity: 3,
        flags: PUBLISHING,
        keys: &[KeySpec::at(1, NOT_KEY)],
        syntax: "shardchannel message",
        run: Run::Host(HostCommand::Spublish),
        ..ROW
    },
    Command {
        name: "pubsub",
        summary: "Tells about channels and patterns that have subscribers.",
        since: "2.8.0",
        complexity: "Depends on subcommand.",
        arity: -2,
        run: Run::Container,
        subcommands: &[
            Command {
                name: "pubsub|channels",
                summary: "Lists the channels that have subscribers.",
                since: "2.8.0",
                complexity: "O(N) with N channels",
                arity: -2,
                flags: LOOKING,
                syntax: "[pattern]",
                run: Run::Host(HostCommand::PubsubChannels),
                ..ROW
            },
            Command {
                name: "pubsub|help",
                summary: "Lists the subcommands.",
                since: "6.2.0",
                arity: 2,
                flags: HELP,
                run: Run::Nowhere(help::reply),
                ..ROW
            },
            Command {
                name: "pubsub|numpat",
                summary: "Counts the patterns that have subscribers.",
                since: "2.8.0",
                arity: 2,
                flags: LOOKING,
                run: Run::Host(HostCommand::PubsubNumpat),
                ..ROW
            },
            Command {
                name: "pubsub|numsub",
                summary: "Counts the subscribers of channels.",
                since: "2.8.0",
                complexity: "O(N) with N channels",
                arity: -2,
                flags: LOOKING,
                syntax: "[channel [channel ...]]",
                run: Run::Host(HostCommand::PubsubNumsub),
                ..ROW
            },
            Command {
                name: "pubsub|shardchannels",
                summary: "Lists the shard channels that have subscribers.",
                since: "7.0.0",
                complexity: "O(N) with N channels",
                arity: -2,
                flags: LOOKING,
                syntax: "[pattern]",
                run: Run::Host(HostCommand::PubsubShardchannels),
                ..ROW
            },
            Command {
                name: "pubsub|shardnumsub",
                summary: "Counts the subscribers of shard channels.",
                since: "7.0.0",
                complexity: "O(N) with N channels",
                arity: -2,
                flags: LOOKING,
                syntax: "[shardchannel [shardchannel ...]]",
                run: Run::Host(HostCommand::PubsubShardnumsub),
                ..ROW
            },
        ],
        ..ROW
    },
];
