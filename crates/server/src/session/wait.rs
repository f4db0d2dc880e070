//! WAIT and WAITAOF: a connection waits until its own writes are in so many places.
//!
//! Nothing here has replicas, so a wish for some is met by the timeout alone. The local part is met when the logs are durable as
//! far as this connection wrote; under which policy, and when, is the sync service's affair: nobody
//! hurries it.

use commands::{args, errors, Command, CommandError, CommandResult};
use keyspace::{Lsn, ShardIndex, UnixMillis};
use resp::{Argv, Protocol, Reply};

use super::Host;
use crate::aof::Aof;
use crate::worker::connection::Connection;
use crate::worker::Worker;

const NOT_LOGGED: CommandError = CommandError::new(
    "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.",
);

/// What a connection waits for.
pub struct Wish {
    /// `numlocal`; none for WAIT.
    local: Option<bool>,
    replicas: i64,
    /// None: however long it takes.
    pub until: Option<UnixMillis>,
}

impl Wish {
    fn is_met(&self, is_durable: bool) -> bool {
        // There are no replicas.
        self.replicas <= 0 && (is_durable || self.local != Some(true))
    }

    fn reply(&self, is_durable: bool, mut reply: Reply<'_>) {
        if self.local.is_some() {
            reply.array(2);
            reply.integer(is_durable.into());
        }
        reply.integer(0);
    }

    /// Replies how things are.
    pub fn reply_now(&self, aof: &Aof, writes: &[Lsn], reply: Reply<'_>) {
        self.reply(is_durable(aof, writes), reply);
    }

    /// The reply, if it is time for one. `is_logged`: the AOF is switched on.
    pub fn outcome(
        &self,
        aof: &Aof,
        is_logged: bool,
        writes: &[Lsn],
        now: UnixMillis,
        protocol: Protocol,
    ) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut reply = Reply::new(&mut bytes, protocol);
        if self.local == Some(true) && !is_logged {
            // It was switched off meanwhile.
            reply.error(NOT_LOGGED.text());
            return Some(bytes);
        }
        let is_durable = is_durable(aof, writes);
        if !self.is_met(is_durable) && self.until.is_none_or(|until| now < until) {
            return None;
        }
        self.reply(is_durable, reply);
        Some(bytes)
    }
}

/// Whether the logs are durable up to a connection's last writes.
fn is_durable(aof: &Aof, writes: &[Lsn]) -> bool {
    let durable = |(index, lsn): (usize, &Lsn)| aof.durable(ShardIndex(index as u16)) >= *lsn;
    aof.is_in_force() && writes.iter().enumerate().all(durable)
}

impl Worker {
    pub(super) fn wait(
        &mut self,
        c: &mut Connection,
        command: &'static Command,
        argv: Argv<'_>,
        situation: &Host<'_, '_>,
    ) -> CommandResult {
        let wish = Wish {
            local: None,
            replicas: args::integer(argv.arg(1))?,
            until: self.deadline(argv.arg(2))?,
        };
        self.await_wish(c, command, argv, wish, situation);
        Ok(())
    }

    pub(super) fn waitaof(
        &mut self,
        c: &mut Connection,
        command: &'static Command,
        argv: Argv<'_>,
        situation: &Host<'_, '_>,
    ) -> CommandResult {
        let local = match args::integer(argv.arg(1))? {
            0 => false,
            1 => true,
            _ => return Err(errors::NOT_0_OR_1),
        };
        let replicas = args::count_or(argv.arg(2), errors::NOT_POSITIVE)?;
        let wish = Wish {
            local: Some(local),
            // Redis keeps 32 bits of it.
            replicas: i64::from(replicas as i32),
            until: self.deadline(argv.arg(3))?,
        };
        if local && !self.config.appendonly {
            return Err(NOT_LOGGED);
        }
        self.await_wish(c, command, argv, wish, situation);
        Ok(())
    }

    /// When a timeout in milliseconds is over; 0: never.
    fn deadline(&self, timeout: &[u8]) -> Result<Option<UnixMillis>, CommandError> {
        let ms = args::integer_or(timeout, errors::TIMEOUT_NOT_INTEGER)?;
        args::timeout_over(ms, self.now)
    }

    /// Replies at once if the wish is met, or inside a transaction, where nothing may wait.
    fn await_wish(
        &mut self,
        c: &mut Connection,
        command: &'static Command,
        argv: Argv<'_>,
        wish: Wish,
        situation: &Host<'_, '_>,
    ) {
        self.await_durable();
        let is_durable = is_durable(&self.server.aof, &c.last_writes);
        if wish.is_met(is_durable) || situation.in_transaction() {
            wish.reply(is_durable, c.reply());
            return;
        }
        c.record.note_argv(argv);
        self.block_on_wish(c, command, wish);
    }
}
