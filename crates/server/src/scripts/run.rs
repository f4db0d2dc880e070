//! A worker's Lua state, and the course of a script's run: from its batons to its effects and its reply.

use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

use ahash::RandomState;
use commands::{errors, Command, CommandError, CommandResult};
use keyspace::log::{Cut, Mark};
use keyspace::{DbIndex, UnixMillis};
use reactor::{ConnId, Reactor};
use resp::{Argv, OwnedArgv};
use scripting::{flags, Abort, Engine, Invocation, Progress, ScriptSha};

use super::cache::Script;
use super::host::{Place, ScriptHost};
use super::libraries::{Libraries, Library};
use super::Kind;
use crate::session::Host;
use crate::worker::batons::Held;
use crate::worker::connection::Connection;
use crate::worker::route::ShardSet;
use crate::worker::Worker;

/// Texts of scripts that a worker remembers with their SHA1s, and how long they may be all together.
const REMEMBERED_MAX: usize = 1000;
const REMEMBERED_BYTES_MAX: usize = 4 << 20;

const NO_SCRIPT: CommandError = CommandError::new("NOSCRIPT No matching script. Please use EVAL.");
const KEYS_NEGATIVE: CommandError = CommandError::new("ERR Number of keys can't be negative");
const WRITES_READ_ONLY: CommandError =
    CommandError::new("ERR Can not execute a script with write flag using *_ro command.");
const OUT_OF_MEMORY: CommandError = CommandError::new(
    "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'",
);

/// A worker's part of scripting.
#[derive(Default)]
pub struct WorkerScripts {
    engine: Option<Engine>,
    /// Of the cache, when this worker looked last.
    generation: u64,
    by_body: HashMap<Box<[u8]>, Arc<Script>, RandomState>,
    by_body_bytes: usize,
    by_sha: HashMap<ScriptSha, Arc<Script>, RandomState>,
    interrupted: Option<Box<Interrupted>>,
    libraries: Arc<Libraries>,
    libraries_version: u64,
}

/// What runs.
#[derive(Clone)]
pub enum Program {
    Script(Arc<Script>),
    /// One of a library's, by its place there.
    Function(Arc<Library>, usize),
}

impl Program {
    pub fn kind(&self) -> Kind {
        match self {
            Program::Script(_) => Kind::Script,
            Program::Function(..) => Kind::Function,
        }
    }

    /// As errors and the log name it.
    pub fn name(&self) -> Vec<u8> {
        match self {
            Program::Script(script) => script.sha.to_vec(),
            Program::Function(library, place) => library.functions[*place].name.clone(),
        }
    }

    /// None: it may do what it can.
    fn flags(&self) -> Option<u8> {
        match self {
            Program::Script(script) => script.head.flags,
            Program::Function(library, place) => Some(library.functions[*place].flags),
        }
    }

    fn is_undeclared(&self) -> bool {
        match self {
            Program::Script(script) => script.undeclared.load(Relaxed),
            Program::Function(library, _) => library.undeclared.load(Relaxed),
        }
    }

    /// It uses keys that it does not declare: it will have all shards from the next time on.
    pub fn note_undeclared(&self) {
        match self {
            Program::Script(script) => script.undeclared.store(true, Relaxed),
            Program::Function(library, _) => library.undeclared.store(true, Relaxed),
        }
    }
}

/// A run under way.
pub struct Course {
    pub program: Program,
    /// The whole request.
    pub request: OwnedArgv,
    command: &'static Command,
    /// In ascending order, with the marks in front of the script's effects.
    pub guards: Vec<Held>,
    pub marks: Vec<Mark>,
    pub has_all: bool,
    /// What the script has selected.
    db: DbIndex,
    /// Time stands still for a script.
    now: UnixMillis,
    pub wrote: bool,
    pub is_slow: bool,
    /// Memory was short when it began.
    pub out_of_memory: Option<CommandError>,
    /// Under `appendfsync always`: keys it looked at, and whether it looked at more.
    pub seen: Vec<Box<[u8]>>,
    pub saw_all: bool,
}

impl Course {
    pub fn place(&mut self) -> Place<'_> {
        Place {
            db: &mut self.db,
            now: self.now,
        }
    }
}

/// A slow script whose thread serves others.
struct Interrupted {
    engine: Engine,
    course: Course,
    conn: ConnId,
    /// The script's effects so far, by shard.
    cuts: Vec<(keyspace::ShardIndex, Cut)>,
    /// The connection, if it was closed meanwhile.
    closed: Option<Box<Connection>>,
}

impl Worker {
    /// EVAL and EVALSHA with their read-only forms.
    pub(crate) fn eval(
        &mut self,
        c: &mut Connection,
        command: &'static Command,
        argv: Argv<'_>,
        situation: Host<'_, '_>,
        by_sha: bool,
    ) -> CommandResult {
        if by_sha && argv.arg(1).len() != size_of::<ScriptSha>() {
            return Err(NO_SCRIPT);
        }
        let keys = count_of_keys(argv)?;
        self.check_free()?;
        let script = if by_sha {
            self.known_script(argv.arg(1))?
        } else {
            self.script_of(argv.arg(1), false)?
        };
        script.note_use();
        self.run_program(c, command, Program::Script(script), argv, keys, situation)
    }

    /// The state can be used: no script of this worker is interrupted.
    pub(crate) fn check_free(&self) -> CommandResult {
        match &self.scripts.interrupted {
            Some(interrupted) => Err(interrupted.course.program.kind().busy()),
            None => Ok(()),
        }
    }

    /// Forgets compiled scripts that the cache does not have any more.
    fn refresh_scripts(&mut self) {
        let cache = &self.server.scripts.cache;
        let generation = cache.generation();
        if self.scripts.generation != generation {
            self.scripts.generation = generation;
            let is_known = |script: &Arc<Script>| {
                cache
                    .get(&script.sha)
                    .is_some_and(|known| Arc::ptr_eq(&known, script))
            };
            self.scripts.by_sha.retain(|_, script| is_known(script));
            self.scripts.by_body.clear();
            self.scripts.by_body_bytes = 0;
            let by_sha = &self.scripts.by_sha;
            if let Some(engine) = &mut self.scripts.engine {
                engine.retain_scripts(|sha| by_sha.contains_key(sha));
            }
        }
    }

    fn engine(&mut self) -> &mut Engine {
        let limit = self.config.script_memory_limit_bytes as usize;
        let engine = self
            .scripts
            .engine
            .get_or_insert_with(|| Engine::new(limit, commands::REDIS_VERSION));
        engine.set_memory_limit(limit);
        engine
    }

    /// The Lua state, of which no script is interrupted.
    pub(crate) fn script_engine(&mut self) -> &mut Engine {
        self.engine()
    }

    /// The libraries there are; those that are gone are forgotten here.
    pub(crate) fn libraries(&mut self) -> Arc<Libraries> {
        let registry = &self.server.scripts.libraries;
        let version = registry.version();
        if self.scripts.libraries_version != version {
            self.scripts.libraries = registry.current();
            self.scripts.libraries_version = version;
        }
        let libraries = self.scripts.libraries.clone();
        if let Some(engine) = &mut self.scripts.engine {
            if engine.library_count() > libraries.by_name.len() {
                engine.retain_libraries(|id| libraries.has(id));
            }
        }
        libraries
    }

    /// Has a library's functions in this worker's state.
    pub(crate) fn load_here(&mut self, library: &Library) -> CommandResult {
        let server = self.server;
        let engine = self.engine();
        if !engine.has_library(library.id) {
            server.scripts.libraries.load_again(engine, library)?;
        }
        Ok(())
    }

    /// The script of a text, compiled here. `stays`: SCRIPT LOAD brings it.
    pub(crate) fn script_of(
        &mut self,
        body: &[u8],
        stays: bool,
    ) -> Result<Arc<Script>, CommandError> {
        self.refresh_scripts();
        if let Some(script) = self.scripts.by_body.get(body).filter(|_| !stays) {
            return Ok(script.clone());
        }
        let sha = scripting::sha1_hex(body);
        let head = scripting::source::script_head(body)?;
        self.engine().compile(&sha, body)?;
        let script = self.server.scripts.cache.add(sha, body, head, stays);
        let scripts = &mut self.scripts;
        if scripts.by_body.len() >= REMEMBERED_MAX
            || scripts.by_body_bytes + body.len() > REMEMBERED_BYTES_MAX
        {
            scripts.by_body.clear();
            scripts.by_body_bytes = 0;
        }
        if body.len() <= REMEMBERED_BYTES_MAX
            && scripts
                .by_body
                .insert(body.into(), script.clone())
                .is_none()
        {
            scripts.by_body_bytes += body.len();
        }
        scripts.by_sha.insert(sha, script.clone());
        Ok(script)
    }

    /// The script of a SHA1, compiled here.
    fn known_script(&mut self, sha: &[u8]) -> Result<Arc<Script>, CommandError> {
        self.refresh_scripts();
        let sha: ScriptSha = sha.to_ascii_lowercase().try_into().map_err(|_| NO_SCRIPT)?;
        if let Some(script) = self.scripts.by_sha.get(&sha) {
            return Ok(script.clone());
        }
        let script = self.server.scripts.cache.get(&sha).ok_or(NO_SCRIPT)?;
        self.engine().compile(&sha, &script.body)?;
        self.scripts.by_sha.insert(sha, script.clone());
        Ok(script)
    }

    /// The checks that a program's flags ask for.
    fn admit_program(
        &mut self,
        program: &Program,
        command: &'static Command,
        in_transaction: bool,
    ) -> Result<(bool, Option<CommandError>), CommandError> {
        let read_only_command = command.flags.contains(commands::Flags::READONLY);
        let out_of_memory = self.memory_refusal(in_transaction);
        let Some(flags) = program.flags() else {
            return Ok((read_only_command, out_of_memory));
        };
        let writes = flags & flags::NO_WRITES == 0;
        if writes {
            if read_only_command {
                return Err(WRITES_READ_ONLY);
            }
            if let Some(refusal) = self.refusal_of_writes() {
                return Err(refusal);
            }
        }
        let allows_oom = flags & flags::ALLOW_OOM != 0;
        match out_of_memory {
            Some(_) if writes && !allows_oom => Err(OUT_OF_MEMORY),
            refusal => Ok((!writes, refusal.filter(|_| !allows_oom))),
        }
    }

    /// Runs a program whose request has so many keys from argument 3 on.
    pub(crate) fn run_program(
        &mut self,
        c: &mut Connection,
        command: &'static Command,
        program: Program,
        argv: Argv<'_>,
        keys: usize,
        mut situation: Host<'_, '_>,
    ) -> CommandResult {
        let in_transaction = situation.in_transaction();
        let (read_only, out_of_memory) = self.admit_program(&program, command, in_transaction)?;
        let mut has_all = program.is_undeclared();
        loop {
            let mut course = Course {
                program: program.clone(),
                request: OwnedArgv::default(),
                command,
                guards: Vec::new(),
                marks: Vec::new(),
                has_all,
                db: c.db,
                now: self.now,
                wrote: false,
                is_slow: false,
                out_of_memory: out_of_memory.clone(),
                seen: Vec::new(),
                saw_all: false,
            };
            if !in_transaction {
                let mut shards = ShardSet::new(self.server.slots);
                if has_all {
                    shards.add_all();
                } else {
                    (3..3 + keys).for_each(|n| shards.add(self.server.slots.shard_of(argv.arg(n))));
                }
                course.guards = self.take_free_batons(&shards)?;
                course.marks = course
                    .guards
                    .iter()
                    .map(|(_, guard)| guard.log.mark())
                    .collect();
            }
            let mut engine = self
                .scripts
                .engine
                .take()
                .expect("it has compiled the program");
            let call = Invocation {
                keys: &mut (3..3 + keys).map(|n| argv.arg(n)),
                args: &mut argv.from(3 + keys).iter(),
                read_only,
                protocol: c.protocol,
            };
            match &program {
                Program::Script(script) => engine.start_script(&script.sha, call),
                Program::Function(library, place) => {
                    let name = &library.functions[*place].name;
                    engine.start_function(library.id, name, call);
                }
            }
            let mut host = ScriptHost {
                worker: self,
                connection: c,
                course: &mut course,
                view: match &mut situation {
                    Host::Alone => None,
                    Host::InTransaction(view) => Some(view),
                },
            };
            host.remember_request(argv);
            let progress = engine.resume(&mut host);
            if progress == Progress::Suspended {
                self.interrupt(c, engine, course);
                return Ok(());
            }
            if engine.aborted() == Some(Abort::Restart) {
                self.scripts.engine = Some(engine);
                self.release_all(course.guards);
                has_all = true;
                continue;
            }
            self.finish(c, engine, course, in_transaction);
            return Ok(());
        }
    }

    /// A run has ended: its reply is written, its effects become one transaction.
    fn finish(
        &mut self,
        c: &mut Connection,
        mut engine: Engine,
        mut course: Course,
        in_transaction: bool,
    ) {
        let start = c.out.len();
        match engine.take_result() {
            Ok(reply) => c.out.extend_from_slice(reply),
            Err(failure) => {
                if !failure.is_counted {
                    self.count_error(&failure.text);
                }
                self.stats().of(course.command).failed.add(1);
                c.reply().error(&failure.text);
            }
        }
        let memory = engine.memory_bytes() as u64;
        self.server.scripts.lua_bytes[self.index].store(memory, Relaxed);
        self.scripts.engine = Some(engine);
        if course.is_slow {
            self.server.scripts.slow[self.index].end();
        }
        if in_transaction {
            return;
        }
        let mut guards = std::mem::take(&mut course.guards);
        if course.wrote {
            let mut shards: Vec<_> = guards.iter_mut().map(|(_, guard)| &mut **guard).collect();
            self.seal_transaction(&mut shards, &course.marks);
        }
        self.note_shown(c, start, &mut guards, &course.marks, &[]);
        if course.saw_all {
            self.note_shown_shards(c, start, &guards);
        } else {
            self.note_shown_keys(c, start, &guards, course.seen.iter().map(|key| &**key));
        }
        self.after_held(Some(c.origin(self.index)), &mut guards);
        self.release_all(guards);
    }

    /// Leaves a slow script where it is, to serve others.
    fn interrupt(&mut self, c: &mut Connection, engine: Engine, mut course: Course) {
        c.waiting = true;
        let interrupted = Box::new(Interrupted {
            engine,
            conn: c.id,
            cuts: self.reserve(&mut course),
            course,
            closed: None,
        });
        self.scripts.interrupted = Some(interrupted);
    }

    /// Gives the batons back, with the shards reserved and the script's effects kept apart.
    fn reserve(&mut self, course: &mut Course) -> Vec<(keyspace::ShardIndex, Cut)> {
        let mut cuts = Vec::new();
        for ((shard, mut guard), mark) in course.guards.drain(..).zip(course.marks.drain(..)) {
            cuts.push((shard, guard.log.cut(mark)));
            guard.reserved = true;
            self.release(Some((shard, guard)));
        }
        cuts
    }

    /// Whether a script waits to go on.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.scripts.interrupted.is_some()
    }

    /// Lets the interrupted script go on for a while.
    pub(crate) fn go_on_with_script(&mut self, reactor: &mut Reactor) {
        let Some(mut interrupted) = self.scripts.interrupted.take() else {
            return;
        };
        for (shard, cut) in interrupted.cuts.drain(..) {
            let mut guard = self.server.shard(shard).baton.take();
            guard.reserved = false;
            interrupted.course.marks.push(guard.log.put_back(cut));
            // Changes that were settled meanwhile were not in the log.
            guard.pending.changed_all();
            interrupted.course.guards.push((shard, guard));
        }
        let (conn, mut closed) = (interrupted.conn, interrupted.closed.take());
        let mut slot = Some(interrupted);
        let mut step = |worker: &mut Worker, c: &mut Connection| {
            let mut interrupted = slot.take().expect("one step is taken");
            let mut host = ScriptHost {
                worker,
                connection: c,
                course: &mut interrupted.course,
                view: None,
            };
            if interrupted.engine.resume(&mut host) == Progress::Suspended {
                interrupted.cuts = worker.reserve(&mut interrupted.course);
                worker.scripts.interrupted = Some(interrupted);
                return false;
            }
            let Interrupted { engine, course, .. } = *interrupted;
            worker.finish(c, engine, course, false);
            true
        };
        match &mut closed {
            Some(c) => {
                step(self, c);
            }
            None => {
                let ended = self.with_connection(conn, step);
                if ended == Some(true) {
                    self.script_ended(reactor, conn);
                }
            }
        }
        if let Some(interrupted) = &mut self.scripts.interrupted {
            interrupted.closed = closed;
        }
    }

    /// The connection of an interrupted script is closed: it is kept until the script has ended.
    pub(crate) fn keep_for_script(&mut self, c: Box<Connection>) {
        if let Some(interrupted) = &mut self.scripts.interrupted {
            if interrupted.conn == c.id {
                interrupted.closed = Some(c);
            }
        }
    }

    /// Takes batons as [`Worker::take_batons`] does; an error if a slow script has one of the shards.
    pub(crate) fn take_free_batons(
        &mut self,
        shards: &ShardSet,
    ) -> Result<Vec<Held>, CommandError> {
        let guards = self.take_batons(shards);
        if guards.iter().any(|(_, guard)| guard.reserved) {
            self.release_all(guards);
            return Err(self.server.scripts.busy());
        }
        Ok(guards)
    }
}

impl ScriptHost<'_, '_> {
    /// Keeps the request for those who ask what runs so long. Only where something may be slow is it worth a copy, and
    /// that is not known yet; but what is kept is small in most cases, and one allocation.
    fn remember_request(&mut self, argv: Argv<'_>) {
        /// More is not told of.
        const SHOWN_ARGS: usize = 32;
        if self.course.program.kind() == Kind::Function {
            self.course.request = OwnedArgv::from_args(argv.iter().take(SHOWN_ARGS));
        }
    }
}

/// The number of keys, out of argument 2.
pub fn count_of_keys(argv: Argv<'_>) -> Result<usize, CommandError> {
    let count = commands::args::integer_or(argv.arg(2), errors::NOT_INTEGER)?;
    if count > argv.len() as i64 - 3 {
        return Err(errors::MORE_KEYS_THAN_ARGUMENTS);
    }
    usize::try_from(count).map_err(|_| KEYS_NEGATIVE)
}
