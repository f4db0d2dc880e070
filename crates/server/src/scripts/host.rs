//! What a running script asks for: commands, on the shards it has or can get.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use commands::{CommandError, Flags, HostCommand, Run};
use keyspace::{ShardIndex, View};
use resp::{Argv, Reply};
use scripting::{Call, LogLevel, Refusal, Verdict};

use super::run::Course;
use super::About;
use crate::session::{Host, ALL_SHARDS_HOST_COMMANDS};
use crate::worker::connection::Connection;
use crate::worker::posted::Caller;
use crate::worker::route::ShardSet;
use crate::worker::Worker;
use crate::{clock, log};

/// Looks at a taken baton before a script that may start over does.
const SPINS: u32 = 2000;
/// How long a script that has written waits for a baton that it cannot wait for in order.
const PATIENCE: Duration = Duration::from_millis(100);

const UNKNOWN: CommandError = CommandError::new("ERR Unknown Redis command called from script");
const ARITY: CommandError =
    CommandError::new("ERR Wrong number of args calling Redis command from script");
const NOT_FROM_SCRIPT: CommandError =
    CommandError::new("ERR This Redis command is not allowed from script");
const READ_ONLY: CommandError =
    CommandError::new("ERR Write commands are not allowed from read-only scripts.");

/// A script in the middle of its run, with the worker and the connection it runs for.
pub struct ScriptHost<'a, 'v> {
    pub worker: &'a mut Worker,
    pub connection: &'a mut Connection,
    pub course: &'a mut Course,
    /// The shards of the transaction that the script is a part of.
    pub view: Option<&'a mut View<'v>>,
}

impl scripting::Host for ScriptHost<'_, '_> {
    fn call(&mut self, call: Call<'_>, reply: &mut Vec<u8>) -> Result<(), Refusal> {
        let found = match &self.worker.server.renames {
            None => commands::find(call.argv.arg(0)),
            Some(renames) => renames.find(call.argv.arg(0)),
        };
        let command = match resolve(found, call.argv) {
            Ok(command) => command,
            Err(error) => return Err(self.refused(None, &error)),
        };
        if let Err(error) = self.admit(command, call.argv, call.read_only) {
            return Err(self.refused(Some(command), &error));
        }
        self.get_shards(command, call.argv)?;
        if command.is_write() {
            self.course.wrote = true;
            if self.course.is_slow {
                self.slow().wrote.store(true, Relaxed);
            }
        }
        let began = Instant::now();
        let start = reply.len();
        let result = self.run(command, &call, reply);
        let db = *self.course.place().db;
        self.worker.monitor_called(db, command, call.argv);
        let stat = self.worker.stats().of(command);
        stat.calls.add(1);
        stat.nanos.add(began.elapsed().as_nanos() as u64);
        if let Err(error) = result {
            stat.failed.add(1);
            self.worker.count_error(error.text());
            reply.truncate(start);
            Reply::new(reply, call.protocol).error(error.text());
        }
        Ok(())
    }

    fn may_run(&mut self, argv: Argv<'_>) -> Option<bool> {
        let command = commands::find(argv.arg(0))?;
        let command = match argv.get(1) {
            Some(name) if !command.subcommands.is_empty() => {
                commands::find_subcommand(command, name)?
            }
            _ => command,
        };
        Some(self.connection.is_free || self.connection.user.check(command, argv).is_ok())
    }

    fn log(&mut self, level: LogLevel, text: &[u8]) {
        super::log_text(level, text);
    }

    fn look(&mut self, took: Duration) -> Verdict {
        let threshold = self.worker.config.busy_reply_threshold_ms;
        if threshold == 0 || took < Duration::from_millis(threshold) {
            return Verdict::GoOn;
        }
        if !std::mem::replace(&mut self.course.is_slow, true) {
            let kind = self.course.program.kind();
            let name = self.course.program.name();
            let about = About {
                name: name.clone(),
                command: self
                    .course
                    .request
                    .argv()
                    .iter()
                    .map(<[u8]>::to_vec)
                    .collect(),
                began_ms: clock::unix_millis().0 - took.as_millis() as i64,
            };
            self.slow().begin(kind, self.course.wrote, about);
            log!(
                Warning,
                "Slow script detected: still in execution after {} milliseconds. You can try killing the script using the {} command. Script name is: {}.",
                took.as_millis(),
                kind.kill_command(),
                String::from_utf8_lossy(&name)
            );
        }
        if self.slow().kill.load(Relaxed) && !self.course.wrote {
            return Verdict::Kill;
        }
        match self.view {
            Some(_) => Verdict::GoOn,
            None => Verdict::Suspend,
        }
    }
}

/// The command, or the subcommand, that a script means.
fn resolve(
    found: Option<&'static commands::Command>,
    argv: Argv<'_>,
) -> Result<&'static commands::Command, CommandError> {
    let mut command = found.ok_or(UNKNOWN)?;
    if !command.subcommands.is_empty() {
        if let Some(name) = argv.get(1) {
            command = commands::find_subcommand(command, name).ok_or(UNKNOWN)?;
        }
    }
    match command.accepts_arity(argv.len()) && !matches!(command.run, Run::Container) {
        true => Ok(command),
        false => Err(ARITY),
    }
}

impl ScriptHost<'_, '_> {
    fn slow(&self) -> &'static super::SlowRun {
        &self.worker.server.scripts.slow[self.worker.index]
    }

    fn refused(
        &self,
        command: Option<&'static commands::Command>,
        error: &CommandError,
    ) -> Refusal {
        self.worker.count_error(error.text());
        if let Some(command) = command {
            self.worker.stats().of(command).rejected.add(1);
        }
        Refusal::Error(error.text().to_vec())
    }

    /// The checks of a script's command, in Redis's order.
    fn admit(
        &mut self,
        command: &'static commands::Command,
        argv: Argv<'_>,
        read_only: bool,
    ) -> Result<(), CommandError> {
        if command.flags.contains(Flags::NOSCRIPT) {
            return Err(NOT_FROM_SCRIPT);
        }
        self.worker.admit_scripted(self.connection, command, argv)?;
        if command.is_write() {
            if read_only {
                return Err(READ_ONLY);
            }
            if let Some(refusal) = self.worker.refusal_of_writes() {
                return Err(refusal);
            }
        }
        // A script that has begun to write is not stopped halfway.
        match &self.course.out_of_memory {
            Some(refusal) if command.needs_memory() && !self.course.wrote => Err(refusal.clone()),
            _ => Ok(()),
        }
    }

    /// Gets the batons of the shards that a command needs.
    #[inline]
    fn get_shards(
        &mut self,
        command: &'static commands::Command,
        argv: Argv<'_>,
    ) -> Result<(), Refusal> {
        if self.course.has_all || self.view.is_some() {
            return Ok(());
        }
        let server = self.worker.server;
        if let Some(key) = command.single_key().and_then(|index| argv.get(index)) {
            return self.get_shard(server.slots.shard_of(key), Some(key));
        }
        let mut shards = ShardSet::new(server.slots);
        match command.run {
            Run::Keys(_) => shards.add_keys(command, argv),
            Run::AllShards(_) | Run::WholeDatabases(_) | Run::Cursor(_) => shards.add_all(),
            Run::Host(host) if ALL_SHARDS_HOST_COMMANDS.contains(&host) => shards.add_all(),
            Run::Nowhere(_) | Run::Host(_) | Run::Container => {}
        }
        for shard in shards.iter() {
            self.get_shard(shard, None)?;
        }
        Ok(())
    }

    fn get_shard(&mut self, shard: ShardIndex, key: Option<&[u8]>) -> Result<(), Refusal> {
        let Err(place) = self
            .course
            .guards
            .binary_search_by_key(&shard, |(held, _)| *held)
        else {
            return Ok(());
        };
        self.course.program.note_undeclared();
        let baton = &self.worker.server.shard(shard).baton;
        // In ascending order one may wait; otherwise whoever has the baton may wait for one held here.
        let guard = if place == self.course.guards.len() {
            Some(baton.take())
        } else if !self.course.wrote {
            baton.try_take_spinning(SPINS)
        } else {
            let until = Instant::now() + PATIENCE;
            loop {
                match baton.try_take_spinning(SPINS) {
                    None if Instant::now() < until => std::thread::yield_now(),
                    outcome => break outcome,
                }
            }
        };
        match guard {
            Some(guard) if guard.reserved => {
                self.worker.release(Some((shard, guard)));
                let busy = self.worker.server.scripts.busy();
                Err(self.refused(None, &busy))
            }
            Some(guard) => {
                self.course.marks.insert(place, guard.log.mark());
                self.course.guards.insert(place, (shard, guard));
                Ok(())
            }
            None if !self.course.wrote => Err(Refusal::Restart),
            None => {
                let key = String::from_utf8_lossy(key.unwrap_or_default())
                    .escape_debug()
                    .to_string();
                let text = format!(
                    "ERR Script used the undeclared key '{key}' after it had written, while another client had its shard. \
                     Declare all keys, or call the script again: it now runs with all shards in hand"
                );
                Err(self.refused(None, &text.into()))
            }
        }
    }

    fn run(
        &mut self,
        command: &'static commands::Command,
        call: &Call<'_>,
        reply: &mut Vec<u8>,
    ) -> commands::CommandResult {
        let slots = self.worker.server.slots;
        self.note_seen(command, call.argv);
        if let Some(view) = &mut self.view {
            return run_on(
                self.worker,
                self.connection,
                self.course.place(),
                view,
                command,
                call,
                reply,
            );
        }
        // Taken out, so that the course can be used meanwhile.
        let mut guards = std::mem::take(&mut self.course.guards);
        let mut view = match guards.as_mut_slice() {
            [(_, guard)] => View::one(guard, slots),
            guards => View::several(
                guards.iter_mut().map(|(_, guard)| &mut **guard).collect(),
                slots,
            ),
        };
        let result = run_on(
            self.worker,
            self.connection,
            self.course.place(),
            &mut view,
            command,
            call,
            reply,
        );
        drop(view);
        self.course.guards = guards;
        result
    }

    /// Under `appendfsync always`, remembers what the script looked at.
    fn note_seen(&mut self, command: &'static commands::Command, argv: Argv<'_>) {
        if self.worker.server.aof.fsyncs_always() {
            let seen = &mut self.course.seen;
            let by_key =
                crate::worker::shown::each_key_shown(command, argv, |key| seen.push(key.into()));
            self.course.saw_all |= !by_key;
        }
    }
}

/// Where and when a script's commands run.
pub struct Place<'a> {
    pub db: &'a mut keyspace::DbIndex,
    pub now: keyspace::UnixMillis,
}

fn run_on(
    worker: &mut Worker,
    c: &mut Connection,
    place: Place<'_>,
    view: &mut View<'_>,
    command: &'static commands::Command,
    call: &Call<'_>,
    reply: &mut Vec<u8>,
) -> commands::CommandResult {
    if !call.logged {
        return without_log(view, |view| {
            let call = Call {
                logged: true,
                ..*call
            };
            run_on(worker, c, place, view, command, &call, reply)
        });
    }
    match command.run {
        Run::Keys(handler)
        | Run::AllShards(handler)
        | Run::WholeDatabases(handler)
        | Run::Cursor(handler)
        | Run::Nowhere(handler) => {
            let caller = Caller {
                db: *place.db,
                protocol: call.protocol,
                ..c.caller()
            };
            let result = worker
                .env
                .call(handler, view, caller, place.now, call.argv, None, reply);
            worker.after_call(command, &result);
            result
        }
        Run::Host(host) => run_host(worker, c, place, view, (host, command), call, reply),
        Run::Container => unreachable!("resolved to a subcommand"),
    }
}

/// Commands of the host reply to the connection: what they replied is taken from there.
fn run_host(
    worker: &mut Worker,
    c: &mut Connection,
    place: Place<'_>,
    view: &mut View<'_>,
    (host, command): (HostCommand, &'static commands::Command),
    call: &Call<'_>,
    reply: &mut Vec<u8>,
) -> commands::CommandResult {
    let start = c.out.len();
    let protocol = std::mem::replace(&mut c.protocol, call.protocol);
    let db = std::mem::replace(&mut c.db, *place.db);
    let result = worker.host(c, host, command, call.argv, Host::InTransaction(view));
    c.protocol = protocol;
    *place.db = std::mem::replace(&mut c.db, db);
    reply.extend(c.out.drain(start..));
    result
}

/// Runs `f` with the effects on these shards going nowhere.
fn without_log<'v, R>(view: &mut View<'v>, f: impl FnOnce(&mut View<'v>) -> R) -> R {
    let enabled: Vec<bool> = view.shards().map(|shard| shard.log.is_enabled()).collect();
    view.shards_mut()
        .iter_mut()
        .for_each(|shard| shard.log.set_enabled(false));
    let result = f(view);
    for (shard, enabled) in view.shards_mut().iter_mut().zip(enabled) {
        shard.log.set_enabled(enabled);
    }
    result
}
