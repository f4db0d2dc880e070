//! What a worker's commands run with, apart from the shards: limits, randomness, codec.

use std::sync::Arc;

use commands::{Codec, CommandError, CommandResult, Ctx, Keyspace, Wait};
use datatypes::{Limits, Rng};
use keyspace::{DbIndex, Key, UnixMillis, View};
use reactor::ConnId;
use resp::{Argv, Reply};

use super::posted::Caller;
use crate::codec::RdbCodec;

pub type Handler = fn(&mut Ctx<'_, '_>) -> CommandResult;

pub struct Environment {
    pub rng: Rng,
    pub limits: Limits,
    pub string_bytes_max: u64,
    pub codec: RdbCodec,
    /// When a replay runs these commands, and not a client.
    pub replayed_at: Option<UnixMillis>,
    /// Sees every command that runs; only a simulation has one.
    pub observer: Option<Arc<dyn Observer>>,
}

/// Who watches commands run, in the order in which they take effect.
pub trait Observer: Send + Sync {
    /// The commands that run next are this connection's. The address comes at the first time at
    /// least.
    fn serving(&self, worker: usize, conn: ConnId, address: Option<&str>);
    /// The commands that run next are those of the connection that came with an address last.
    fn served(&self);
    /// The commands that run next are one transaction, or no longer.
    fn transaction(&self, begins: bool);
    /// A command is about to be logged before it runs, and may be found in the log by a start even if it never does...
    fn begins(&self, now: UnixMillis, db: DbIndex, argv: Argv<'_>);
    /// ...unless this comes: it was refused, and is not there.
    fn refused(&self);
    fn ran(
        &self,
        now: UnixMillis,
        db: DbIndex,
        argv: Argv<'_>,
        result: &CommandResult,
        reply: &[u8],
    );
}

impl Environment {
    pub fn new(seed: u64, config: &config::Config) -> Environment {
        let mut this = Environment {
            rng: Rng::from_seed(seed),
            limits: Limits::default(),
            string_bytes_max: 0,
            codec: RdbCodec,
            replayed_at: None,
            observer: None,
        };
        this.configure(config);
        this
    }

    /// Takes over what the configuration says.
    pub fn configure(&mut self, config: &config::Config) {
        self.string_bytes_max = config.proto_max_bulk_len_bytes;
        self.limits = limits(config);
    }

    /// Runs a command's function where it may not wait. On an error it may have written a part of a
    /// reply, which the caller takes back.
    #[inline]
    #[allow(clippy::too_many_arguments)]
    pub fn call<'a>(
        &'a mut self,
        handler: Handler,
        view: &'a mut View<'_>,
        caller: Caller,
        now: UnixMillis,
        argv: Argv<'a>,
        routed: Option<Key<'a>>,
        out: &'a mut Vec<u8>,
    ) -> CommandResult {
        self.run(handler, view, caller, now, argv, routed, out, None)
    }

    /// Runs the function of a command that may wait. When it is to wait, it has written no reply.
    pub fn call_or_wait(
        &mut self,
        handler: Handler,
        view: &mut View<'_>,
        caller: Caller,
        now: UnixMillis,
        argv: Argv<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Wait>, CommandError> {
        let mut wait = None;
        let waiting = Some(&mut wait);
        self.run(handler, view, caller, now, argv, None, out, waiting)?;
        Ok(wait)
    }

    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    fn run<'a>(
        &'a mut self,
        handler: Handler,
        view: &'a mut View<'_>,
        caller: Caller,
        now: UnixMillis,
        argv: Argv<'a>,
        routed: Option<Key<'a>>,
        out: &'a mut Vec<u8>,
        waiting: Option<&'a mut Option<Wait>>,
    ) -> CommandResult {
        let start = out.len();
        let mut ctx = Ctx {
            argv,
            reply: Reply::new(out, caller.protocol),
            keys: Keyspace::new(view, caller.db, now, argv, routed, caller.no_touch),
            rng: &mut self.rng,
            limits: &self.limits,
            string_bytes_max: self.string_bytes_max,
            codec: &self.codec as &dyn Codec,
            waiting,
            replayed_at: self.replayed_at,
        };
        let result = handler(&mut ctx);
        let waits = ctx.waiting.is_some_and(|waiting| waiting.is_some());
        if let Some(observer) = self.observer.as_ref().filter(|_| !waits) {
            observer.ran(now, caller.db, argv, &result, &out[start..]);
        }
        result
    }
}

/// The encoding thresholds of a configuration.
pub fn limits(config: &config::Config) -> Limits {
    Limits {
        hash_max_listpack_entries: config.hash_max_listpack_entries as usize,
        hash_max_listpack_value: config.hash_max_listpack_value_bytes as usize,
        set_max_intset_entries: config.set_max_intset_entries as usize,
        set_max_listpack_entries: config.set_max_listpack_entries as usize,
        set_max_listpack_value: config.set_max_listpack_value_bytes as usize,
        zset_max_listpack_entries: config.zset_max_listpack_entries as usize,
        zset_max_listpack_value: config.zset_max_listpack_value_bytes as usize,
        hll_sparse_max_bytes: config.hll_sparse_max_bytes as usize,
        list_max_listpack_size: config.list_max_listpack_size,
        list_compress_depth: config.list_compress_depth,
        stream_node_max_bytes: config.stream_node_max_bytes as usize,
        stream_node_max_entries: config.stream_node_max_entries,
    }
}
