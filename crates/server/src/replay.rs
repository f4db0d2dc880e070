//! Replaying the commands of the AOF into the shards.
//!
//! Commands are collected by shard and run in batches, each under one baton, with their keys' table lines prefetched.
//! A file that runs alone has its batches run by several threads, each with shards of its own, while the calling thread
//! reads on. Invariants: the commands of a shard run in the order of the file; one about several shards runs when all
//! that came before it have, and before any that comes behind it; what is collected and under way is bounded.

use std::thread::JoinHandle;

use commands::{Command, Run};
use crossbeam_channel::{bounded, unbounded, Receiver, Sender};
use keyspace::{DbIndex, Key, ShardIndex, UnixMillis, View};
use persistence::aof::replay::CommandReceiver;
use resp::{Argv, OwnedArgv, Protocol, Span};

use crate::clock;
use crate::shared::Server;
use crate::worker::environment::{Environment, Handler};
use crate::worker::posted::Caller;
use crate::worker::route::ShardSet;

/// A batch is run when it has so many commands, or bytes.
const BATCH_COMMANDS: usize = 128;
const BATCH_BYTES: usize = 256 << 10;
/// A batch counts its bytes in 32 bits.
const COMMAND_BYTES_MAX: usize = u32::MAX as usize - BATCH_BYTES;
/// Batches waiting for a thread.
const BATCHES_WAITING_MAX: usize = 4;
/// Keys prefetched ahead of the command that runs.
const PREFETCH_AHEAD: usize = 16;

/// The time during replay: before any expiry, so that keys live until the log deletes them or
/// the server runs.
const REPLAY_TIME: UnixMillis = UnixMillis(0);

/// Commands for one shard, copied out of the file.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    spans: Vec<Span>,
    commands: Vec<Collected>,
}

struct Collected {
    handler: Handler,
    db: DbIndex,
    /// Of its arguments, in the batch's.
    first: u32,
    count: u32,
    /// Of its one key, where it has one.
    key: Option<(u32, u64)>,
}

impl Batch {
    fn push(&mut self, handler: Handler, db: DbIndex, args: &[&[u8]], key: Option<(u32, u64)>) {
        self.commands.push(Collected {
            handler,
            db,
            first: self.spans.len() as u32,
            count: args.len() as u32,
            key,
        });
        for arg in args {
            self.spans.push(Span {
                start: self.bytes.len() as u32,
                len: arg.len() as u32,
            });
            self.bytes.extend_from_slice(arg);
        }
    }

    fn is_full(&self) -> bool {
        self.commands.len() >= BATCH_COMMANDS || self.bytes.len() >= BATCH_BYTES
    }

    fn clear(&mut self) {
        self.commands.clear();
        self.spans.clear();
        self.bytes.clear();
        self.bytes.shrink_to(2 * BATCH_BYTES);
    }
}

/// Runs batches.
struct Runner {
    server: &'static Server,
    env: Environment,
    out: Vec<u8>,
}

impl Runner {
    fn new(server: &'static Server) -> Runner {
        let now = clock::unix_millis();
        let mut env = Environment::new(now.0 as u64, &server.config());
        env.replayed_at = Some(now);
        Runner {
            server,
            env,
            out: Vec::new(),
        }
    }

    fn run(&mut self, shard: ShardIndex, batch: &Batch) {
        let slots = self.server.slots;
        let (env, out) = (&mut self.env, &mut self.out);
        self.server.with_shard(shard, |held| {
            for (i, command) in batch.commands.iter().enumerate() {
                if i % PREFETCH_AHEAD == 0 {
                    let ahead = &batch.commands[i..batch.commands.len().min(i + PREFETCH_AHEAD)];
                    let keys = || ahead.iter().filter_map(|c| Some((c.db, c.key?.1)));
                    keys().for_each(|(db, hash)| held.db(db).prefetch(hash));
                    keys().for_each(|(db, hash)| held.db(db).prefetch_entry(hash));
                }
                let from = command.first as usize;
                let spans = &batch.spans[from..from + command.count as usize];
                let argv = Argv::new(&batch.bytes, spans);
                let routed = command.key.map(|(index, hash)| Key {
                    bytes: argv.arg(index as usize),
                    hash,
                    shard,
                });
                out.clear();
                // An error reply changes nothing, here as when the command ran first.
                let _ = env.call(
                    command.handler,
                    &mut View::one(held, slots),
                    caller(command.db),
                    REPLAY_TIME,
                    argv,
                    routed,
                    out,
                );
            }
        });
    }

    /// Runs a command about several shards.
    fn run_on(&mut self, shards: &ShardSet, handler: Handler, db: DbIndex, args: &[&[u8]]) {
        let mut batch = Batch::default();
        batch.push(handler, db, args, None);
        let slots = self.server.slots;
        let mut guards: Vec<_> = shards
            .iter()
            .map(|shard| self.server.shard(shard).baton.take())
            .collect();
        let mut view = View::several(guards.iter_mut().map(|guard| &mut **guard).collect(), slots);
        self.out.clear();
        // As above.
        let _ = self.env.call(
            handler,
            &mut view,
            caller(db),
            REPLAY_TIME,
            Argv::new(&batch.bytes, &batch.spans),
            None,
            &mut self.out,
        );
    }
}

fn caller(db: DbIndex) -> Caller {
    Caller {
        db,
        protocol: Protocol::Resp2,
        no_touch: false,
    }
}

enum Work {
    Run(ShardIndex, Batch),
    /// All before it has run when this is answered.
    Answer(Sender<()>),
}

/// Threads that run batches, each for its shards.
struct Threads {
    work: Vec<Sender<Work>>,
    used: Receiver<Batch>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    fn start(server: &'static Server, count: usize) -> std::io::Result<Threads> {
        let (give_back, used) = unbounded();
        let mut threads = Threads {
            work: Vec::new(),
            used,
            handles: Vec::new(),
        };
        for i in 0..count {
            let (sender, receiver) = bounded::<Work>(BATCHES_WAITING_MAX);
            let give_back = give_back.clone();
            let run = move || {
                let mut runner = Runner::new(server);
                for work in receiver {
                    match work {
                        Work::Run(shard, mut batch) => {
                            runner.run(shard, &batch);
                            batch.clear();
                            // Nobody wants it back at the end.
                            let _ = give_back.send(batch);
                        }
                        Work::Answer(to) => drop(to),
                    }
                }
            };
            let name = format!("replay-{i}");
            threads
                .handles
                .push(std::thread::Builder::new().name(name).spawn(run)?);
            threads.work.push(sender);
        }
        Ok(threads)
    }

    fn send(&self, shard: ShardIndex, batch: &mut Batch) {
        let fresh = self.used.try_recv().unwrap_or_default();
        let batch = std::mem::replace(batch, fresh);
        self.work[usize::from(shard.0) % self.work.len()]
            .send(Work::Run(shard, batch))
            .expect("a replay thread ends only when its sender is gone");
    }

    /// Waits until all that was sent has run.
    fn wait(&self) {
        let (answer, answered) = bounded::<()>(0);
        for work in &self.work {
            work.send(Work::Answer(answer.clone()))
                .expect("a replay thread ends only when its sender is gone");
        }
        drop(answer);
        // Nothing is ever sent: it ends when the last thread has dropped its end.
        let _ = answered.recv();
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.work.clear();
        for handle in self.handles.drain(..) {
            // A panic has ended the process already.
            let _ = handle.join();
        }
    }
}

/// Takes the commands of one file.
pub struct Replay {
    runner: Runner,
    databases: u32,
    /// By shard.
    collected: Vec<Batch>,
    threads: Option<Threads>,
    /// For finding keys.
    argv: OwnedArgv,
}

impl Replay {
    /// `threads`: how many may run commands besides the calling one, which then only reads; 0: that one runs them.
    pub fn new(server: &'static Server, threads: usize) -> Replay {
        let threads = match threads.min(server.shards.len()) {
            0 | 1 => None,
            // Without threads it goes on as well.
            count => Threads::start(server, count).ok(),
        };
        Replay {
            runner: Runner::new(server),
            databases: server.config().databases,
            collected: server.shard_indexes().map(|_| Batch::default()).collect(),
            threads,
            argv: OwnedArgv::default(),
        }
    }

    fn collect(
        &mut self,
        shard: ShardIndex,
        handler: Handler,
        db: DbIndex,
        args: &[&[u8]],
        key: Option<(u32, u64)>,
    ) {
        let batch = &mut self.collected[usize::from(shard.0)];
        batch.push(handler, db, args, key);
        if batch.is_full() {
            self.run(shard);
        }
    }

    fn run(&mut self, shard: ShardIndex) {
        let batch = &mut self.collected[usize::from(shard.0)];
        if batch.commands.is_empty() {
            return;
        }
        match &self.threads {
            Some(threads) => threads.send(shard, batch),
            None => {
                self.runner.run(shard, batch);
                batch.clear();
            }
        }
    }

    fn run_all(&mut self) {
        for shard in 0..self.collected.len() {
            self.run(ShardIndex(shard as u16));
        }
        if let Some(threads) = &self.threads {
            threads.wait();
        }
    }

    fn route(&mut self, command: &Command, db: DbIndex, args: &[&[u8]]) -> Result<(), String> {
        let slots = self.runner.server.slots;
        let mut shards = ShardSet::new(slots);
        let handler = match command.run {
            Run::Keys(handler) => {
                let single = command.single_key().filter(|index| *index < args.len());
                if let Some(index) = single {
                    let Key { hash, shard, .. } = Key::new(args[index], &slots);
                    self.collect(shard, handler, db, args, Some((index as u32, hash)));
                    return Ok(());
                }
                self.argv.clear();
                args.iter().for_each(|arg| self.argv.push(arg));
                shards.add_keys(command, self.argv.argv());
                let mut concerned = shards.iter();
                if let (Some(shard), None) = (concerned.next(), concerned.next()) {
                    self.collect(shard, handler, db, args, None);
                    return Ok(());
                }
                handler
            }
            Run::AllShards(handler) | Run::WholeDatabases(handler) => {
                shards.add_all();
                handler
            }
            _ => {
                return Err(format!(
                    "'{}' has no place in an append-only file",
                    command.name
                ))
            }
        };
        self.run_all();
        self.runner.run_on(&shards, handler, db, args);
        Ok(())
    }
}

fn check_bytes(name: &str, args: &[&[u8]]) -> Result<(), String> {
    let bytes: usize = args.iter().map(|arg| arg.len()).sum();
    match bytes {
        0..=COMMAND_BYTES_MAX => Ok(()),
        _ => Err(format!(
            "'{name}' has {bytes} bytes of arguments, and this server takes no more than {COMMAND_BYTES_MAX} in one command"
        )),
    }
}

impl CommandReceiver for Replay {
    fn command(&mut self, db: DbIndex, args: &[&[u8]]) -> Result<(), String> {
        if db.0 >= self.databases {
            return Err(format!("database {} is beyond `databases`", db.0));
        }
        let name = args.first().copied().unwrap_or_default();
        if name.eq_ignore_ascii_case(b"function") {
            return self.runner.server.scripts.libraries.redo(&args[1..]);
        }
        let command = commands::find(name)
            .ok_or_else(|| format!("unknown command '{}'", name.escape_ascii()))?;
        let own = args.get(1).copied().unwrap_or_default();
        let command = match command.run {
            Run::Container => commands::find_subcommand(command, own)
                .ok_or_else(|| format!("'{}' without a subcommand", command.name))?,
            _ => command,
        };
        if !command.accepts_arity(args.len()) {
            return Err(format!("wrong number of arguments for '{}'", command.name));
        }
        check_bytes(command.name, args)?;
        self.route(command, db, args)
    }

    fn finish(&mut self) -> Result<(), String> {
        self.run_all();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_more_than_four_gigabytes_are_refused() {
        let part = vec![0; 1 << 20];
        let check = |parts: usize| check_bytes("mset", &vec![&part[..]; parts]);
        assert_eq!(check(4095), Ok(()));
        let reason = check(4096).unwrap_err();
        assert!(reason.contains("'mset' has 4294967296 bytes"), "{reason}");
    }
}
