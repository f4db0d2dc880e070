//! Requests out of a connection's bytes, and each run where its keys are.
//!
//! A batch is parsed and routed as a whole, then run in order: the baton of a shard is taken for
//! each run of commands on that shard and given back when the next one is elsewhere. The first
//! time a batch holds a shard's baton, the table lines of all its keys there are prefetched.
//! When a baton is taken for longer than a moment, the command is posted to the shard's inbox
//! and the connection waits for the reply, while the worker goes on with others.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use commands::{Command, CommandResult, Flags, HostCommand, Run};
use keyspace::{Key, Shard, ShardIndex, View};
use resp::{Argv, OwnedArgv, ParserLimits, Span, Step};

use super::admit::{is_http, permits, replies_by_push, resolve};
use super::batons::Held;
use super::connection::{Connection, ReplyMode};
use super::environment::Handler;
use super::posted::Logged;
use super::push::When;
use super::route::ShardSet;
use super::shown::Shows;
use super::Worker;
use crate::command_stats::{Run as TimedRun, Tally};
use crate::coordinator::Request;
use crate::session::{transaction, Host};

/// Requests parsed ahead of running.
const BATCH_COMMANDS_MAX: usize = 64;
/// Below this limit of the slow log, commands that are always fast are timed one by one as well.
const RUNS_FROM: Duration = Duration::from_millis(1);
/// Missing bytes of a request from which on it is received straight into its buffer.
const LARGE_RECEIVE_BYTES: usize = 32 * 1024;

/// A parsed request: where it ends, its arguments and where it is to run.
pub struct Planned {
    command: Option<&'static Command>,
    first_span: u32,
    span_count: u32,
    /// Bytes from the batch's begin to this request's end.
    end: u32,
    /// Hash and shard of the key of a command with one key.
    key: Option<(u64, ShardIndex)>,
    inline: Option<Box<OwnedArgv>>,
}

enum PlanEnd {
    /// The batch is full; there may be more.
    Full,
    Incomplete {
        wanted: usize,
    },
    Broken(resp::ProtocolError),
}

impl Worker {
    /// Runs all whole requests in `bytes`, unless the connection comes to wait or close. Returns
    /// how many bytes were used, and what the rest needs to become a whole request.
    pub(super) fn process(&mut self, c: &mut Connection, bytes: &[u8]) -> (usize, usize) {
        // Whoever was told that a CONFIG SET is done finds it done at every worker.
        self.refresh_config();
        if c.acl_version != self.server.acl.version() {
            self.refresh_user(c);
        }
        if let Some(observer) = &self.env.observer {
            observer.serving(self.index, c.id, Some(&c.record.address));
        }
        if c.hears_of_others() {
            // What was told before these requests were sent comes before their replies.
            self.read_pushes(Some((c, When::Now)));
        }
        let mut done = 0;
        let mut wanted = 0;
        if c.record.killed.load(Relaxed) {
            c.closing = true;
            c.discard_output();
        }
        while !c.waiting && !c.closing {
            let end = self.plan(c, &bytes[done..]);
            let (used, all) = self.run_plan(c, &bytes[done..]);
            done += used;
            if !all {
                // What was parsed ahead is parsed again when the connection goes on.
                c.parser = resp::Parser::default();
                break;
            }
            match end {
                PlanEnd::Full => {}
                PlanEnd::Incomplete { wanted: n } => {
                    wanted = n;
                    break;
                }
                PlanEnd::Broken(error) => {
                    let text = format!("ERR Protocol error: {}", error.message());
                    self.count_error(text.as_bytes());
                    c.reply().error(text.as_bytes());
                    c.closing = true;
                }
            }
        }
        (done, wanted)
    }

    /// Parses and routes up to a batch of requests.
    fn plan(&mut self, c: &mut Connection, bytes: &[u8]) -> PlanEnd {
        self.plan.clear();
        self.spans.clear();
        let limits = ParserLimits {
            bulk_bytes_max: self.env.string_bytes_max,
            authenticated: c.authenticated,
        };
        let mut at = 0;
        while self.plan.len() < BATCH_COMMANDS_MAX {
            let first_span = self.spans.len();
            let (end, inline) = match c.parser.next(&bytes[at..], at, &limits, &mut self.spans) {
                Ok(Step::Command { len }) => (at + len, None),
                Ok(Step::Inline { len, argv }) => (at + len, Some(Box::new(argv))),
                Ok(Step::Nothing { len }) => {
                    at += len;
                    match self.plan.last_mut() {
                        Some(last) => last.end = at as u32,
                        None => self.plan.push(Planned::nothing(at)),
                    }
                    continue;
                }
                Ok(Step::Incomplete { wanted }) => return PlanEnd::Incomplete { wanted },
                Err(error) => return PlanEnd::Broken(error),
            };
            at = end;
            let argv = match &inline {
                Some(owned) => owned.argv(),
                None => Argv::new(bytes, &self.spans[first_span..]),
            };
            let command = match &self.server.renames {
                None => commands::find(argv.arg(0)),
                Some(renames) => renames.find(argv.arg(0)),
            };
            let key = command.and_then(|command| {
                let index = command.single_key()?;
                let bytes = argv.get(index)?;
                Some((
                    datatypes::ptr_table::hash_bytes(bytes),
                    self.server.slots.shard_of(bytes),
                ))
            });
            let span_count = (self.spans.len() - first_span) as u32;
            self.plan.push(Planned {
                command,
                first_span: first_span as u32,
                span_count,
                end: end as u32,
                key,
                inline,
            });
        }
        PlanEnd::Full
    }

    /// Runs the planned requests in order. Returns the bytes used, and whether all ran.
    fn run_plan(&mut self, c: &mut Connection, bytes: &[u8]) -> (usize, bool) {
        let plan = std::mem::take(&mut self.plan);
        let spans = std::mem::take(&mut self.spans);
        let mut held: Option<Held> = None;
        let (mut used, mut ran, mut last) = (0, 0, None);
        let stats = self.stats();
        let mut tally = Tally::new(self.config.latency_tracking);
        let slow_from = self.slow_from();
        // Single slow commands are found among those that are not always fast, or when nearly all are wanted.
        let one_by_one = slow_from.is_some_and(|least| least < RUNS_FROM);
        let request = |index: usize| argv_of(&plan[index], bytes, &spans);
        // Shards whose keys in this batch were prefetched; those beyond 64 go without.
        let mut prefetched = 0u64;
        let mut open = self.is_open();
        for (index, item) in plan.iter().enumerate() {
            let argv = request(index);
            let plain = open
                && (c.is_free || permits(c, item.command, argv))
                && c.transaction.is_none()
                && c.reply_mode == ReplyMode::On
                && !c.is_special;
            match (item.command, item.key) {
                (Some(command), Some((hash, shard)))
                    if plain
                        && command.accepts_arity(argv.len())
                        && !(command.needs_memory() && self.gate.is_due()) =>
                {
                    if held.as_ref().is_none_or(|(held, _)| *held != shard) {
                        self.release(held.take());
                        held = self.take_baton(shard);
                        let Some((_, guard)) = &held else {
                            stats.of(command).calls.add(1);
                            self.post(c, command, argv, shard);
                            used = item.end as usize;
                            ran = index + 1;
                            last = Some(command);
                            break;
                        };
                        if guard.reserved {
                            self.release(held.take());
                            tally.flush(stats);
                            self.refuse_busy(c, command);
                            tally.forget_time();
                            used = item.end as usize;
                            ran = index + 1;
                            continue;
                        }
                        if plan.len() > 1 && shard.0 < 64 && prefetched >> shard.0 & 1 == 0 {
                            prefetched |= 1 << shard.0;
                            prefetch(guard, c, &plan[index..], shard);
                        }
                    }
                    let item_bytes = item.end as usize - used;
                    if let Some(run) = tally.count(command, index, item_bytes, stats) {
                        self.note_run(c, &run, slow_from, request);
                    }
                    let (_, guard) = held.as_mut().expect("taken above");
                    self.run_on_shard(c, command, argv, hash, guard);
                    last = Some(command);
                    if guard.after_due {
                        self.after_run(Some(c.origin(self.index)), &mut [guard]);
                        self.after_reply(c);
                        if !self.deferred.is_empty() {
                            self.release(held.take());
                            self.serve_deferred();
                        }
                    }
                }
                _ if argv.is_empty() => {}
                _ => {
                    self.release(held.take());
                    if let Some(run) = tally.flush(stats) {
                        self.note_run(c, &run, slow_from, request);
                    }
                    last = self.run_any(c, item.command, argv).or(last);
                    if c.postponed {
                        break;
                    }
                    open = self.is_open();
                    self.serve_deferred();
                    tally.forget_time();
                }
            }
            used = item.end as usize;
            ran = index + 1;
            if one_by_one || item.command.is_some_and(|command| !is_short(command)) {
                if let Some(run) = tally.flush(stats) {
                    self.note_run(c, &run, slow_from, request);
                }
            }
            if c.waiting || c.closing {
                break;
            }
        }
        if let Some(run) = tally.flush(stats) {
            self.note_run(c, &run, slow_from, request);
        }
        self.release(held);
        let all = ran == plan.len();
        c.commands += ran as u64;
        stats.commands_processed.add(ran as u64);
        c.update_record(last);
        (self.plan, self.spans) = (plan, spans);
        (used, all)
    }

    /// Whether commands run without further checks, as far as the server is concerned.
    fn is_open(&self) -> bool {
        !self.server.is_loading()
            && !self.server.monitors.any()
            && self.refusal_of_writes().is_none()
            && !self.server.pause.is_on(self.now)
    }

    /// Enters a run that was slow where its time is of interest, as the time of its largest request.
    #[inline]
    fn note_run<'r>(
        &self,
        c: &Connection,
        run: &TimedRun,
        slow_from: Option<Duration>,
        request: impl Fn(usize) -> Argv<'r>,
    ) {
        if slow_from.is_some_and(|least| run.took >= least) {
            self.note_slow(c, run.command, request(run.largest), run.took);
        }
    }

    /// Counts and times a command that ran by itself.
    pub(crate) fn note_call(
        &self,
        c: &Connection,
        command: &'static Command,
        argv: Argv<'_>,
        took: Duration,
        calls: u64,
    ) {
        let stat = self.stats().of(command);
        stat.nanos.add(took.as_nanos() as u64);
        stat.calls.add(calls);
        if self.config.latency_tracking && calls > 0 {
            stat.distribute(took, calls);
        }
        if self.slow_from().is_some_and(|least| took >= least) {
            self.note_slow(c, command, argv, took);
        }
    }

    /// Runs a command of one key on the shard in hand.
    #[inline]
    fn run_on_shard(
        &mut self,
        c: &mut Connection,
        command: &'static Command,
        argv: Argv<'_>,
        hash: u64,
        guard: &mut Shard,
    ) {
        let Run::Keys(handler) = command.run else {
            unreachable!("only commands that run on their keys are routed by key");
        };
        let shard = guard.index();
        let bytes = argv.arg(command.single_key().expect("routed by its one key"));
        let (caller, start) = (c.caller(), c.out.len());
        let key = Key { bytes, hash, shard };
        let (result, logged) =
            self.run_handler(handler, command, argv, Some(key), caller, guard, &mut c.out);
        if let Err(error) = result {
            self.stats().of(command).failed.add(1);
            self.count_error(error.text());
            c.reply().error(error.text());
        }
        c.note_logged(start, shard, logged);
    }

    /// Runs a handler on one shard, makes several effects one transaction, and tells where they
    /// are in the log and what the reply waits for. On an error, nothing is left in `out`.
    #[inline]
    #[allow(clippy::too_many_arguments)]
    pub(super) fn run_handler(
        &mut self,
        handler: Handler,
        command: &'static Command,
        argv: Argv<'_>,
        key: Option<Key<'_>>,
        caller: super::posted::Caller,
        shard: &mut Shard,
        out: &mut Vec<u8>,
    ) -> (CommandResult, Logged) {
        let (start, mark) = (out.len(), shard.log.mark());
        let mut view = View::one(shard, self.server.slots);
        let result = self
            .env
            .call(handler, &mut view, caller, self.now, argv, key, out);
        if result.is_err() {
            out.truncate(start);
        }
        if !shard.log.is_enabled() {
            return (result, Logged::default());
        }
        let effects = shard.log.effects_since(mark);
        if effects > 1 && command.is_write() {
            shard.log.wrap(mark, b"");
        }
        let end = shard.log.end();
        let mut logged = Logged {
            wrote: (effects > 0).then_some(end),
            awaits: None,
        };
        if !self.server.aof.fsyncs_always() {
            self.touched.note(shard.index(), end);
            return (result, logged);
        }
        let shows = match key {
            _ if effects > 0 => Shows::All,
            Some(key) => Shows::Key(key.hash),
            None => Shows::Command(command, argv),
        };
        logged.awaits = self.shown(shard, shows);
        (result, logged)
    }

    /// Answers a command that needs a shard which a slow script has.
    #[cold]
    fn refuse_busy(&mut self, c: &mut Connection, command: &'static Command) {
        let busy = self.server.scripts.busy();
        self.stats().of(command).rejected.add(1);
        self.count_error(busy.text());
        c.reply().error(busy.text());
    }

    /// Everything that is not the fast path: checks as Redis makes them, then the command.
    fn run_any(
        &mut self,
        c: &mut Connection,
        command: Option<&'static Command>,
        argv: Argv<'_>,
    ) -> Option<&'static Command> {
        let start = c.out.len();
        if c.reply_mode == ReplyMode::SkipNext {
            c.reply_mode = ReplyMode::SkipThis;
        }
        let resolved = resolve(command, argv);
        let result = match &resolved {
            Ok(command) => self.admit_and_run(c, command, argv),
            Err((None, _)) if is_http(argv) => {
                self.refuse_http(c);
                return None;
            }
            Err((command, error)) => {
                if let Some(transaction) = &mut c.transaction {
                    transaction.abort();
                }
                match command {
                    Some(command) => Err(self.rejected(c, command, error.clone())),
                    None => Err(error.clone()),
                }
            }
        };
        if c.postponed {
            if c.reply_mode == ReplyMode::SkipThis {
                c.reply_mode = ReplyMode::SkipNext;
            }
            return resolved.ok();
        }
        if let Err(error) = result {
            c.out.truncate(start);
            self.count_error(error.text());
            c.reply().error(error.text());
        }
        if matches!(c.reply_mode, ReplyMode::Off | ReplyMode::SkipThis) {
            // What is pushed is sent all the same.
            if !resolved
                .as_ref()
                .is_ok_and(|command| replies_by_push(command))
            {
                c.out.truncate(start);
            }
            c.drops_reply = c.waiting;
        }
        if c.reply_mode == ReplyMode::SkipThis {
            c.reply_mode = ReplyMode::On;
        }
        self.after_reply(c);
        let resolved = resolved.ok();
        if let Some(tracking) = &mut c.tracking {
            // CLIENT CACHING is about the next command, or the next transaction as a whole.
            let is_client = resolved.is_some_and(|command| command.name.starts_with("client|"));
            if c.transaction.is_none() && !is_client {
                tracking.caching = false;
            }
        }
        resolved
    }

    fn admit_and_run(
        &mut self,
        c: &mut Connection,
        command: &'static Command,
        argv: Argv<'_>,
    ) -> CommandResult {
        let admitted = self
            .admit(c, command, argv)
            .map_err(|error| self.rejected(c, command, error));
        if admitted.is_ok() && self.is_held_back(c, command) {
            self.postpone(c, argv);
            return Ok(());
        }
        if let Some(transaction) = c
            .transaction
            .as_mut()
            .filter(|_| !transaction::is_transaction_control(command))
        {
            if let Err(error) = admitted {
                transaction.abort();
                return Err(error);
            }
            transaction.queue(command, argv);
            c.reply().simple("QUEUED");
            return Ok(());
        }
        admitted?;
        let began = Instant::now();
        self.was_monitored = false;
        self.monitor_script(c, command, argv);
        let result = self.run_admitted(c, command, argv);
        let is_exec = matches!(command.run, Run::Host(HostCommand::Exec));
        if !self.was_monitored || is_exec {
            self.show_to_monitors(c, command, argv);
        }
        // One that waits is counted when its reply is there.
        let calls = u64::from(c.blocked.is_none());
        self.note_call(c, command, argv, began.elapsed(), calls);
        if result.is_err() {
            self.stats().of(command).failed.add(1);
        }
        result
    }

    fn run_admitted(
        &mut self,
        c: &mut Connection,
        command: &'static Command,
        argv: Argv<'_>,
    ) -> CommandResult {
        let server = self.server;
        let handler = match command.run {
            Run::Host(host) => return self.host(c, host, command, argv, Host::Alone),
            Run::Nowhere(handler) => {
                let mut view = View::several(Vec::new(), server.slots);
                let caller = c.caller();
                return self
                    .env
                    .call(handler, &mut view, caller, self.now, argv, None, &mut c.out);
            }
            Run::WholeDatabases(handler) => {
                if self.concerns_many_keys(c, command, argv)? {
                    self.run_between_generations(c, command, argv);
                    return Ok(());
                }
                handler
            }
            Run::Keys(handler) | Run::AllShards(handler) | Run::Cursor(handler) => handler,
            Run::Container => unreachable!("resolved to a subcommand"),
        };
        if command.flags.contains(Flags::BLOCKING) {
            return self.run_blocking(c, command, handler, argv);
        }
        let mut shards = ShardSet::new(server.slots);
        match command.run {
            Run::Keys(_) => shards.add_keys(command, argv),
            Run::Cursor(_) => {
                let first = commands::cursor_shard(argv, server.slots.shards());
                (first.0..server.slots.shards()).for_each(|index| shards.add(ShardIndex(index)));
            }
            _ => shards.add_all(),
        }
        let mut indexes = shards.iter();
        if let (Some(shard), None) = (indexes.next(), indexes.next()) {
            return self.run_on_one(c, command, handler, argv, shard);
        }
        let start = c.out.len();
        let mut guards = self.take_free_batons(&shards)?;
        let marks: Vec<_> = guards.iter().map(|(_, guard)| guard.log.mark()).collect();
        let mut view = View::several(
            guards.iter_mut().map(|(_, guard)| &mut **guard).collect(),
            server.slots,
        );
        let caller = c.caller();
        let result = self
            .env
            .call(handler, &mut view, caller, self.now, argv, None, &mut c.out);
        if command.is_write() {
            self.seal_transaction(view.shards_mut(), &marks);
        }
        self.remember_reads(c, command, argv, &mut view);
        drop(view);
        self.note_shown(c, start, &mut guards, &marks, &[(command, argv)]);
        self.after_held(Some(c.origin(self.index)), &mut guards);
        self.show_to_monitors(c, command, argv);
        self.release_all(guards);
        self.after_call(command, &result);
        result
    }

    /// What follows from a command besides its effects on keys.
    pub(crate) fn after_call(&self, command: &'static Command, result: &CommandResult) {
        if command.name == "flushall" && result.is_ok() {
            // Without its receiver the server is about to end.
            let _ = self.server.coordinator.send(Request::Flushed);
        }
    }

    /// A command whose keys all lie in one shard, off the fast path.
    fn run_on_one(
        &mut self,
        c: &mut Connection,
        command: &'static Command,
        handler: Handler,
        argv: Argv<'_>,
        shard: ShardIndex,
    ) -> CommandResult {
        let suppressed =
            c.reply_mode != ReplyMode::On || c.tracking.is_some() || self.server.monitors.any();
        let held = if suppressed {
            Some((shard, self.server.shard(shard).baton.take()))
        } else {
            self.take_baton(shard)
        };
        let Some(mut held) = held else {
            self.post(c, command, argv, shard);
            return Ok(());
        };
        if held.1.reserved {
            self.release(Some(held));
            return Err(self.server.scripts.busy());
        }
        let (caller, start) = (c.caller(), c.out.len());
        let (result, logged) = self.run_handler(
            handler,
            command,
            argv,
            None,
            caller,
            &mut held.1,
            &mut c.out,
        );
        c.note_logged(start, shard, logged);
        self.remember_reads_of(c, command, argv, &mut held.1);
        self.show_to_monitors(c, command, argv);
        if held.1.after_due {
            self.after_run(Some(c.origin(self.index)), &mut [&mut held.1]);
        }
        self.release(Some(held));
        result
    }

    /// The number of bytes a connection's next receive should wait for, where it is large.
    pub(super) fn large_receive(input_len: usize, wanted: usize) -> Option<usize> {
        (wanted > input_len + LARGE_RECEIVE_BYTES).then_some(wanted)
    }
}

/// The arguments of a planned request.
fn argv_of<'r>(item: &'r Planned, bytes: &'r [u8], spans: &'r [Span]) -> Argv<'r> {
    match &item.inline {
        Some(owned) => owned.argv(),
        None => {
            let first = item.first_span as usize;
            Argv::new(bytes, &spans[first..first + item.span_count as usize])
        }
    }
}

/// Whether a command takes about as long as others of its name: not worth a reading of the clock of its own.
#[inline]
fn is_short(command: &Command) -> bool {
    command.flags.contains(Flags::FAST) || command.name == "set"
}

impl Planned {
    /// Bytes without a request, at the begin of a batch.
    fn nothing(end: usize) -> Planned {
        Planned {
            command: None,
            first_span: 0,
            span_count: 0,
            end: end as u32,
            key: None,
            inline: None,
        }
    }
}

/// Asks the processor for the table lines, then the entries, of the keys that the batch has in
/// the shard in hand.
fn prefetch(shard: &Shard, c: &Connection, plan: &[Planned], index: ShardIndex) {
    let db = shard.db(c.db);
    let hashes = || {
        plan.iter()
            .filter_map(|item| item.key)
            .filter(|(_, shard)| *shard == index)
            .map(|(hash, _)| hash)
    };
    hashes().for_each(|hash| db.prefetch(hash));
    hashes().for_each(|hash| db.prefetch_entry(hash));
}
