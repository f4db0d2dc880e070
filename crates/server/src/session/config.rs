//! CONFIG. A change is made on a copy, put into effect, and published; if any part of it cannot
//! be put into effect, all stays as it was.
//!
//! What the server listens on belongs to the accepting worker's event loop, so a change of it
//! travels there whole and is made there. So does one to `appendfsync always`, behind the coordinator, who makes
//! what was written before as safe as what follows.

use std::path::Path;
use std::sync::Arc;

use commands::{args, errors, CommandError, CommandResult};
use config::{AppendFsync, Config, Origin, SetError, UserLine};
use nix::sys::socket::{shutdown, Shutdown};
use reactor::{Listener, Reactor};
use resp::Argv;

use super::Host;
use crate::acl::User;
use crate::clients::ClientRecord;
use crate::command_stats;
use crate::coordinator::Request;
use crate::load::ReplyTo;
use crate::shared::Server;
use crate::startup::{port_of, TCP_TAG, TLS_TAG};
use crate::stats::Totals;
use crate::worker::connection::Connection;
use crate::worker::mailbox::Message;
use crate::worker::{Worker, ACCEPTING_WORKER};
use crate::{log, logger, startup, tls};

/// Directives whose change needs the accepting worker.
const LISTENING: &[&str] = &["bind", "port", "tls-port"];
const EVENTS: &str = "notify-keyspace-events";
/// The listeners that they are about.
const ON_PORTS: [u32; 2] = [TCP_TAG, TLS_TAG];

/// A CONFIG SET on its way to the accepting worker.
pub struct ConfigChange {
    pairs: Vec<(Vec<u8>, Vec<u8>)>,
    origin: Origin,
    reply_to: ReplyTo,
}

impl ConfigChange {
    /// Replies that `appendfsync` could not be changed.
    pub fn refuse_always(&self, server: &Server, reason: &str) {
        let error = SetError::failed("appendfsync", reason);
        self.reply_to
            .send(server, format!("-{error}\r\n").as_bytes());
    }
}

/// What remains to be done of a change.
enum Changed {
    Done,
    /// `appendonly` has become this.
    AppendOnly(bool),
    /// Everything: nothing was put into effect, because the coordinator must make `appendfsync always` true first.
    BehindAlways,
}

/// Whether a client is on this machine.
pub(super) fn origin(record: &ClientRecord) -> Origin {
    if record.is_unix || record.address.starts_with("127.") || record.address.starts_with("[::1]:")
    {
        Origin::Local
    } else {
        Origin::Remote
    }
}

/// Whether a change names this directive.
fn is_about(pairs: &[(&[u8], &[u8])], name: &str) -> bool {
    pairs.iter().any(|(given, _)| args::is(given, name))
}

fn refused(error: &SetError) -> CommandError {
    error.to_string().into()
}

impl Worker {
    pub(super) fn config_get(&mut self, c: &mut Connection, argv: Argv<'_>) -> CommandResult {
        let patterns: Vec<&[u8]> = argv.from(2).iter().collect();
        let found = self.config.get(&patterns);
        let mut reply = c.reply();
        reply.map(found.len());
        for (name, value) in found {
            reply.bulk(name.as_bytes());
            reply.bulk(&value);
        }
        Ok(())
    }

    pub(super) fn config_resetstat(
        &mut self,
        c: &mut Connection,
        situation: Host<'_, '_>,
    ) -> CommandResult {
        let server = self.server;
        self.with_all_shards(c, situation, |_, _, view| {
            for shard in view.shards_mut() {
                shard.stats = Default::default();
            }
            Totals::reset(server);
            server.memory.reset();
            command_stats::forget_latencies(server);
            server.acl.denied.reset();
            server.stats.latest_fork_micros.set(0);
            server.stats.latest_fork_freeze_micros.set(0);
        });
        c.reply().ok();
        Ok(())
    }

    pub(super) fn config_rewrite(&mut self, c: &mut Connection) -> CommandResult {
        let Some(path) = &self.server.identity.config_file else {
            return Err(CommandError::new(
                "ERR The server is running without a config file",
            ));
        };
        match rewrite(path, self.config_with_users()) {
            Ok(()) => {
                log!(Notice, "CONFIG REWRITE executed with success.");
                c.reply().ok();
                Ok(())
            }
            Err(error) => {
                log!(Warning, "CONFIG REWRITE failed: {error}");
                let reason = reason(&error);
                Err(format!("ERR Rewriting config file: {reason}").into())
            }
        }
    }

    /// The configuration in force, with the users as they are now.
    fn config_with_users(&self) -> Config {
        let line = |(name, user): (&Vec<u8>, &Arc<User>)| UserLine {
            file: String::new(),
            line: 0,
            words: std::iter::once(name.clone())
                .chain(user.to_text().split(|b| *b == b' ').map(<[u8]>::to_vec))
                .collect(),
        };
        let mut config = Config::clone(&self.server.config());
        config.users = self.server.acl.users().iter().map(line).collect();
        config
    }

    pub(super) fn config_set(
        &mut self,
        c: &mut Connection,
        argv: Argv<'_>,
        situation: &mut Host<'_, '_>,
    ) -> CommandResult {
        if !argv.len().is_multiple_of(2) {
            return Err(errors::SYNTAX);
        }
        let args: Vec<&[u8]> = argv.from(2).iter().collect();
        let pairs: Vec<(&[u8], &[u8])> = args.chunks(2).map(|pair| (pair[0], pair[1])).collect();
        let listening = LISTENING.iter().find(|name| {
            pairs
                .iter()
                .any(|(given, _)| given.eq_ignore_ascii_case(name.as_bytes()))
        });
        let origin = origin(&c.record);
        match listening {
            Some(name) if situation.in_transaction() => {
                return Err(refused(&SetError::failed(
                    name,
                    "not possible inside a transaction",
                )))
            }
            Some(_) => {
                let change = self.travelling(c, &pairs, origin);
                self.server.workers[ACCEPTING_WORKER]
                    .mailbox
                    .post(Message::SetConfig(change));
            }
            None => {
                let changed = self
                    .change_config(&pairs, origin, None)
                    .map_err(|error| refused(&error))?;
                if is_about(&pairs, EVENTS) {
                    self.want_events(situation);
                }
                match changed {
                    Changed::AppendOnly(on) if !situation.in_transaction() => {
                        // The reply waits until the rewrite that this begins shows in INFO.
                        let reply_to = self.wait_for_reply(c);
                        self.request(Request::SetAppendOnly(on, Some(reply_to)));
                    }
                    Changed::AppendOnly(on) => {
                        self.request(Request::SetAppendOnly(on, None));
                        c.reply().ok();
                    }
                    Changed::BehindAlways if situation.in_transaction() => {
                        return Err(refused(&SetError::failed(
                            "appendfsync",
                            "not possible inside a transaction",
                        )))
                    }
                    Changed::BehindAlways => {
                        let change = self.travelling(c, &pairs, origin);
                        self.request(Request::PromiseAlways(change));
                    }
                    Changed::Done => c.reply().ok(),
                }
            }
        }
        Ok(())
    }

    /// Has the shards note the events that the configuration names.
    fn want_events(&mut self, situation: &mut Host<'_, '_>) {
        let server = self.server;
        match situation {
            Host::InTransaction(view) => {
                let shards = view.shards_mut().iter_mut();
                shards.for_each(|shard| server.want_events_of(shard));
            }
            Host::Alone => server.want_events(),
        }
    }

    /// A change that this connection waits for.
    fn travelling(
        &mut self,
        c: &mut Connection,
        pairs: &[(&[u8], &[u8])],
        origin: Origin,
    ) -> ConfigChange {
        ConfigChange {
            pairs: pairs
                .iter()
                .map(|(name, value)| (name.to_vec(), value.to_vec()))
                .collect(),
            origin,
            reply_to: self.wait_for_reply(c),
        }
    }

    /// On the accepting worker: makes a change that another worker's client asked for.
    pub(crate) fn set_config(&mut self, reactor: &mut Reactor, change: ConfigChange) {
        let pairs: Vec<(&[u8], &[u8])> = change
            .pairs
            .iter()
            .map(|(name, value)| (name.as_slice(), value.as_slice()))
            .collect();
        let result = self.change_config(&pairs, change.origin, Some(reactor));
        if is_about(&pairs, EVENTS) {
            self.server.want_events();
        }
        match result {
            Ok(Changed::AppendOnly(on)) => {
                self.request(Request::SetAppendOnly(on, Some(change.reply_to)));
            }
            Ok(Changed::Done) => change.reply_to.send(self.server, b"+OK\r\n"),
            // Or again, because another change came between.
            Ok(Changed::BehindAlways) => self.request(Request::PromiseAlways(change)),
            Err(error) => {
                // The coordinator may have chosen `always` for this change.
                self.keep_policy();
                let reply = format!("-{error}\r\n");
                change.reply_to.send(self.server, reply.as_bytes());
            }
        }
    }

    /// Puts the policy in force that the configuration names.
    fn keep_policy(&self) {
        let server = self.server;
        let _change = server
            .config_change
            .lock()
            .expect("no holder of this lock panics");
        server.aof.configure(&server.config());
    }

    /// Changes the configuration in force.
    fn change_config(
        &mut self,
        pairs: &[(&[u8], &[u8])],
        origin: Origin,
        reactor: Option<&mut Reactor>,
    ) -> Result<Changed, SetError> {
        let server = self.server;
        let _change = server
            .config_change
            .lock()
            .expect("no holder of this lock panics");
        let old = server.config();
        let mut new = Config::clone(&old);
        let changed = new.set(pairs, origin)?;
        let has = |names: &[&str]| names.iter().any(|name| changed.contains(name));
        // Seen by a worker, so that the AOF is not switched on in between.
        let promises = new.appendfsync == AppendFsync::Always && server.aof.is_on();
        if promises && !server.aof.fsyncs_always() {
            return Ok(Changed::BehindAlways);
        }
        if has(&["maxclients"]) {
            startup::allow_clients(new.maxclients).map_err(|possible| {
                SetError::failed("maxclients", format!("The operating system is not able to handle the specified number of clients, try with {possible}"))
            })?;
        }
        if has(&["dir"]) {
            enter(&mut new).map_err(|error| SetError::failed("dir", reason(&error)))?;
        }
        // A file may hold something else now than when it was named.
        let is_about_tls = |name: &&&str| is_about(pairs, name);
        let tls = match tls::DIRECTIVES.iter().find(is_about_tls) {
            Some(name) if new.tls_port != 0 => Some(tls::make(&new).map_err(|reason| {
                log!(Warning, "{reason}");
                // Where the process was a moment ago, it can be again.
                let _ = std::env::set_current_dir(&old.dir);
                SetError::failed(
                    name,
                    "Unable to update TLS configuration. Check server logs.",
                )
            })?),
            _ => None,
        };
        if has(LISTENING) {
            let reactor = reactor.expect("such a change is made on the accepting worker");
            if let Err(error) = self.relisten(reactor, &old, &new) {
                log!(Warning, "{error}");
                // Where the process was a moment ago, it can be again.
                let _ = std::env::set_current_dir(&old.dir);
                let ports = ["port", "tls-port"].into_iter();
                return Err(match ports.rev().find(|name| has(&[name])) {
                    Some(name) => {
                        SetError::failed(name, "Unable to listen on this port. Check server logs.")
                    }
                    None => SetError::failed("bind", "Failed to bind to specified addresses."),
                });
            }
        }
        if has(&["loglevel"]) {
            logger::set_level(new.loglevel);
        }
        if has(&["appendfsync", "aof-timestamp-enabled"]) {
            server.aof.configure(&new);
        }
        server.snapshot.refresh(&new, &server.aof);
        if has(&["requirepass"]) {
            server.acl.require_password(new.requirepass.as_deref());
        }
        if let Some(tls) = tls {
            server.tls.replace(tls);
        }
        let append_only = has(&["appendonly"]).then_some(new.appendonly);
        server.publish_config(new);
        self.refresh_config();
        Ok(append_only.map_or(Changed::Done, Changed::AppendOnly))
    }

    /// Listens on what `new` says instead of what `old` said. On an error nothing has changed.
    fn relisten(
        &mut self,
        reactor: &mut Reactor,
        old: &Config,
        new: &Config,
    ) -> Result<(), String> {
        let now = std::time::Duration::ZERO;
        let listeners = |config: &Config| -> Result<Vec<(Listener, u32)>, String> {
            let mut all = Vec::new();
            for tag in ON_PORTS {
                all.extend(startup::port_listeners(config, tag, now)?);
            }
            Ok(all)
        };
        let port_changes = |tag: &u32| port_of(new, *tag) != port_of(old, *tag);
        let takes_over = |tag: &u32| {
            let others = ON_PORTS.iter().filter(|other| *other != tag);
            others
                .clone()
                .any(|other| port_of(new, *tag) == port_of(old, *other))
        };
        // Another port can be tried while the old one is still listened on. Addresses of the
        // same port may overlap (`*` and 127.0.0.1), so there the old ones are let go first.
        let overlaps =
            new.bind != old.bind || ON_PORTS.iter().filter(|t| port_changes(t)).any(takes_over);
        let (gone, bound, result) = if overlaps {
            self.let_go_of(&ON_PORTS);
            match listeners(new) {
                Ok(bound) => (ON_PORTS.to_vec(), bound, Ok(())),
                Err(error) => {
                    let restored = listeners(old).unwrap_or_else(|error| {
                        log!(Warning, "{error}");
                        Vec::new()
                    });
                    (ON_PORTS.to_vec(), restored, Err(error))
                }
            }
        } else {
            let changed: Vec<u32> = ON_PORTS.into_iter().filter(port_changes).collect();
            let mut bound = Vec::new();
            for tag in &changed {
                bound.extend(startup::port_listeners(new, *tag, now)?);
            }
            self.let_go_of(&changed);
            (changed, bound, Ok(()))
        };
        reactor.stop_listening();
        let kept = std::mem::take(&mut self.listening);
        let others = kept.into_iter().filter(|(_, tag)| !gone.contains(tag));
        let all: Vec<(Listener, u32)> = others.chain(bound).collect();
        for (listener, tag) in all {
            if let Err(error) = self.listen(reactor, listener, tag) {
                log!(Warning, "Cannot listen: {error}");
            }
        }
        result
    }

    /// Ends listening there at once: a socket that is shut down keeps no address, whoever still
    /// has a handle on it.
    fn let_go_of(&self, tags: &[u32]) {
        for (listener, _) in self.listening.iter().filter(|(_, tag)| tags.contains(tag)) {
            if let Some(fd) = listener.raw_fd() {
                // One that was shut down already is as wanted.
                let _ = shutdown(fd, Shutdown::Both);
            }
        }
    }

    /// Listens, and keeps a handle for a later change.
    pub(crate) fn listen(
        &mut self,
        reactor: &mut Reactor,
        listener: Listener,
        tag: u32,
    ) -> std::io::Result<()> {
        let handle = listener.try_clone()?;
        reactor.listen(listener, tag)?;
        self.listening.push((handle, tag));
        Ok(())
    }
}

/// Makes `dir` the process's directory, and absolute.
fn enter(config: &mut Config) -> std::io::Result<()> {
    std::env::set_current_dir(&config.dir)?;
    config.dir = std::env::current_dir()?;
    Ok(())
}

/// Replaces the config file by one brought in line with `config`, whole or not at all.
fn rewrite(path: &Path, config: Config) -> std::io::Result<()> {
    use persistence::storage::{replace_small, OsStorage};
    let existing = match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        read => read?,
    };
    let text = config::rewrite(&existing, &config);
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(std::io::ErrorKind::InvalidInput.into());
    };
    replace_small(&OsStorage, dir, name, &text)
}

/// What the operating system says of an error, without its number.
fn reason(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}
