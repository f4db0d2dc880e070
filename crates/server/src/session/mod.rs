//! Commands about the connection or the server as a whole: the rows are in `commands`, the
//! functions here, one file per family.

mod acl;
mod client;
pub(crate) mod config;
mod connection;
mod debug;
mod digest;
mod function;
mod info;
mod observe;
mod persistence;
mod pubsub;
mod script;
mod tracking;
pub mod transaction;
pub mod wait;

use commands::{Command, CommandResult, HostCommand};
use keyspace::View;
use resp::Argv;

use crate::load::ReplyTo;
use crate::pubsub::Kind as Subscribed;
use crate::scripts::Kind;
use crate::worker::connection::Connection;
use crate::worker::route::ShardSet;
use crate::worker::Worker;

/// In which situation a command of the host runs.
pub enum Host<'h, 'v> {
    /// By itself; no baton is held.
    Alone,
    /// Inside EXEC, which holds the batons of this view.
    InTransaction(&'h mut View<'v>),
}

impl Host<'_, '_> {
    pub(crate) fn in_transaction(&self) -> bool {
        matches!(self, Host::InTransaction(_))
    }
}

/// Those that run scripts, whose keys are known when they ask for them, or change functions: EXEC takes all batons
/// for them.
pub const SCRIPT_HOST_COMMANDS: &[HostCommand] = &[
    HostCommand::Eval,
    HostCommand::Evalsha,
    HostCommand::Fcall,
    HostCommand::FunctionDelete,
    HostCommand::FunctionFlush,
    HostCommand::FunctionLoad,
    HostCommand::FunctionRestore,
];

/// Those that look at all shards, so that EXEC takes all batons for them.
pub const ALL_SHARDS_HOST_COMMANDS: &[HostCommand] = &[
    HostCommand::Info,
    HostCommand::Debug,
    HostCommand::ConfigResetstat,
    HostCommand::ConfigSet,
    HostCommand::ClientTracking,
];

impl Worker {
    /// Runs a command of the host; its reply is written unless it is an error or comes later.
    pub(crate) fn host(
        &mut self,
        c: &mut Connection,
        host: HostCommand,
        command: &'static Command,
        argv: Argv<'_>,
        mut situation: Host<'_, '_>,
    ) -> CommandResult {
        match host {
            HostCommand::AclCat => self.acl_cat(c, argv),
            HostCommand::AclDeluser => self.acl_deluser(c, argv),
            HostCommand::AclDryrun => self.acl_dryrun(c, argv),
            HostCommand::AclGenpass => self.acl_genpass(c, argv),
            HostCommand::AclGetuser => self.acl_getuser(c, argv),
            HostCommand::AclList => self.acl_list(c),
            HostCommand::AclLoad => self.acl_load(c),
            HostCommand::AclLog => self.acl_log(c, argv),
            HostCommand::AclSave => self.acl_save(c),
            HostCommand::AclSetuser => self.acl_setuser(c, argv),
            HostCommand::AclUsers => self.acl_users(c),
            HostCommand::AclWhoami => self.acl_whoami(c),
            HostCommand::Auth => self.auth(c, command, argv),
            HostCommand::Bgrewriteaof => self.bgrewriteaof(c, &situation),
            HostCommand::Bgsave => self.bgsave(c, argv, &situation),
            HostCommand::ClientCaching => self.client_caching(c, argv),
            HostCommand::ClientGetname => self.client_getname(c),
            HostCommand::ClientGetredir => self.client_getredir(c),
            HostCommand::ClientId => self.client_id(c),
            HostCommand::ClientInfo => self.client_info(c, command, argv),
            HostCommand::ClientKill => self.client_kill(c, argv),
            HostCommand::ClientList => self.client_list(c, command, argv),
            HostCommand::ClientNoEvict => self.client_no_evict(c, argv),
            HostCommand::ClientNoTouch => self.client_no_touch(c, argv),
            HostCommand::ClientPause => self.client_pause(c, argv, &situation),
            HostCommand::ClientReply => self.client_reply(c, argv),
            HostCommand::ClientSetinfo => self.client_setinfo(c, argv),
            HostCommand::ClientTracking => self.client_tracking(c, argv, &mut situation),
            HostCommand::ClientTrackinginfo => self.client_trackinginfo(c),
            HostCommand::ClientSetname => self.client_setname(c, argv),
            HostCommand::ClientUnblock => self.client_unblock(c, argv),
            HostCommand::ClientUnpause => self.client_unpause(c, &situation),
            HostCommand::ConfigGet => self.config_get(c, argv),
            HostCommand::ConfigResetstat => self.config_resetstat(c, situation),
            HostCommand::ConfigRewrite => self.config_rewrite(c),
            HostCommand::ConfigSet => self.config_set(c, argv, &mut situation),
            HostCommand::Debug => self.debug(c, argv, situation),
            HostCommand::Discard => self.discard(c),
            HostCommand::Eval => self.eval(c, command, argv, situation, false),
            HostCommand::Evalsha => self.eval(c, command, argv, situation, true),
            HostCommand::Exec => self.exec(c),
            HostCommand::Fcall => self.fcall(c, command, argv, situation),
            HostCommand::FunctionDelete => self.function_delete(c, argv, situation),
            HostCommand::FunctionDump => self.function_dump(c),
            HostCommand::FunctionFlush => self.function_flush(c, argv, situation),
            HostCommand::FunctionKill => self.script_kill(c, Kind::Function),
            HostCommand::FunctionList => self.function_list(c, argv),
            HostCommand::FunctionLoad => self.function_load(c, argv, situation),
            HostCommand::FunctionRestore => self.function_restore(c, argv, situation),
            HostCommand::FunctionStats => self.function_stats(c),
            HostCommand::Hello => self.hello(c, command, argv),
            HostCommand::Info => self.info(c, argv, situation),
            HostCommand::Lastsave => self.lastsave(c),
            HostCommand::LatencyDoctor => self.latency_doctor(c),
            HostCommand::LatencyGraph => self.latency_graph(c, argv),
            HostCommand::LatencyHistogram => self.latency_histogram(c, argv),
            HostCommand::LatencyHistory => self.latency_history(c, argv),
            HostCommand::LatencyLatest => self.latency_latest(c),
            HostCommand::LatencyReset => self.latency_reset(c, argv),
            HostCommand::MemoryDoctor => self.memory_doctor(c, situation),
            HostCommand::MemoryMallocStats => self.memory_malloc_stats(c),
            HostCommand::MemoryPurge => self.memory_purge(c),
            HostCommand::MemoryStats => self.memory_stats(c, situation),
            HostCommand::Monitor => self.start_monitoring(c, &situation),
            HostCommand::Multi => self.multi(c),
            HostCommand::Ping => self.ping(c, argv),
            HostCommand::Psubscribe => self.subscribe(c, argv, Subscribed::Pattern, &situation),
            HostCommand::Publish => {
                self.publish_command(c, argv, Subscribed::Channel, &mut situation)
            }
            HostCommand::PubsubChannels => self.pubsub_channels(c, argv, Subscribed::Channel),
            HostCommand::PubsubNumpat => self.pubsub_numpat(c),
            HostCommand::PubsubNumsub => self.pubsub_numsub(c, argv, Subscribed::Channel),
            HostCommand::PubsubShardchannels => {
                self.pubsub_channels(c, argv, Subscribed::ShardChannel)
            }
            HostCommand::PubsubShardnumsub => self.pubsub_numsub(c, argv, Subscribed::ShardChannel),
            HostCommand::Punsubscribe => self.unsubscribe(c, argv, Subscribed::Pattern, &situation),
            HostCommand::Quit => self.quit(c),
            HostCommand::Reset => self.reset(c),
            HostCommand::Save => self.save(c),
            HostCommand::ScriptDebug => self.script_debug(c, argv),
            HostCommand::ScriptExists => self.script_exists(c, argv),
            HostCommand::ScriptFlush => self.script_flush(c, argv),
            HostCommand::ScriptKill => self.script_kill(c, Kind::Script),
            HostCommand::ScriptLoad => self.script_load(c, argv),
            HostCommand::Select => self.select(c, argv),
            HostCommand::Shutdown => self.shutdown(c, argv),
            HostCommand::SlowlogGet => self.slowlog_get(c, argv),
            HostCommand::SlowlogLen => self.slowlog_len(c),
            HostCommand::SlowlogReset => self.slowlog_reset(c),
            HostCommand::Spublish => {
                self.publish_command(c, argv, Subscribed::ShardChannel, &mut situation)
            }
            HostCommand::Ssubscribe => {
                self.subscribe(c, argv, Subscribed::ShardChannel, &situation)
            }
            HostCommand::Subscribe => self.subscribe(c, argv, Subscribed::Channel, &situation),
            HostCommand::Sunsubscribe => {
                self.unsubscribe(c, argv, Subscribed::ShardChannel, &situation)
            }
            HostCommand::Unsubscribe => self.unsubscribe(c, argv, Subscribed::Channel, &situation),
            HostCommand::Unwatch => self.unwatch(c),
            HostCommand::Wait => self.wait(c, command, argv, &situation),
            HostCommand::Waitaof => self.waitaof(c, command, argv, &situation),
            HostCommand::Watch => self.watch(c, argv),
        }
    }

    /// Has the connection wait for a reply that another thread sends.
    fn wait_for_reply(&self, c: &mut Connection) -> ReplyTo {
        c.waiting = true;
        ReplyTo {
            worker: self.index,
            conn: c.id,
        }
    }

    /// Runs `f` on a view of all shards: the transaction's, or one made for it.
    pub(crate) fn with_all_shards<R>(
        &mut self,
        c: &mut Connection,
        situation: Host<'_, '_>,
        f: impl FnOnce(&mut Worker, &mut Connection, &mut View<'_>) -> R,
    ) -> R {
        match situation {
            Host::InTransaction(view) => f(self, c, view),
            Host::Alone => {
                let slots = self.server.slots;
                let mut guards = self.take_batons(&ShardSet::all(slots));
                let mut view = View::several(
                    guards.iter_mut().map(|(_, guard)| &mut **guard).collect(),
                    slots,
                );
                let result = f(self, c, &mut view);
                drop(view);
                // What INFO and DEBUG show is the server's state; it does not wait for the disk.
                guards
                    .iter_mut()
                    .for_each(|(_, guard)| self.note_effects(guard));
                self.after_held(Some(c.origin(self.index)), &mut guards);
                self.release_all(guards);
                result
            }
        }
    }
}
