//! Loading: keys out of a snapshot and commands out of the AOF, into the shards, by several
//! threads at once.
//!
//! Workers answer LOADING meanwhile, so batons are free; they are taken all the same, for a
//! batch of keys or of commands each, because a file's keys may belong to any shard.

use keyspace::{DbIndex, Entry, Key, ShardIndex};
use persistence::aof::recover::ReplaySink;
use persistence::aof::replay::CommandReceiver;
use persistence::rdb::load::{KeyReceiver, LoadOptions, LoadSink, LoadedKey};
use reactor::ConnId;

use crate::clock;
use crate::replay::Replay;
use crate::shared::Server;
use crate::worker::environment::limits;

/// Keys collected for a shard before they are put in under one baton.
const KEYS_PER_BATON: usize = 256;

/// Puts what is loaded into the shards of a server.
pub struct IntoShards {
    pub server: &'static Server,
    /// Keys that are there already give way; else they are an error.
    pub replaces: bool,
}

/// How to load, with this server's configuration.
pub fn options(server: &Server) -> LoadOptions {
    let config = server.config();
    LoadOptions {
        threads: server.shards.len().min(server.identity.cores),
        limits: limits(&config),
        now: clock::unix_millis(),
        skip_expired: true,
        databases: config.databases,
        verify_checksum: config.rdbchecksum,
    }
}

impl LoadSink for IntoShards {
    fn function(&self, code: &[u8]) -> Result<(), String> {
        let arguments: &[&[u8]] = match self.replaces {
            true => &[b"LOAD", b"REPLACE", code],
            false => &[b"LOAD", code],
        };
        self.server.scripts.libraries.redo(arguments)
    }

    fn key_receiver(&self) -> Box<dyn KeyReceiver + '_> {
        let shards = self.server.shards.len();
        Box::new(Keys {
            server: self.server,
            replaces: self.replaces,
            collected: (0..shards).map(|_| Vec::new()).collect(),
        })
    }
}

impl ReplaySink for IntoShards {
    fn command_receiver(&self) -> Box<dyn CommandReceiver + '_> {
        Box::new(Replay::new(self.server, 0))
    }

    fn command_receiver_alone(&self, threads: usize) -> Box<dyn CommandReceiver + '_> {
        Box::new(Replay::new(self.server, threads))
    }
}

/// One parser thread's keys.
struct Keys {
    server: &'static Server,
    replaces: bool,
    /// By shard.
    collected: Vec<Vec<(DbIndex, Entry)>>,
}

impl Keys {
    fn put_in(&mut self, shard: usize) -> Result<(), String> {
        let (slots, replaces) = (self.server.slots, self.replaces);
        let collected = &mut self.collected[shard];
        self.server.with_shard(ShardIndex(shard as u16), |shard| {
            for (db, entry) in collected.iter() {
                shard.db(*db).prefetch(entry.as_ref().hash());
            }
            for (db, entry) in collected.drain(..) {
                let Err(entry) = shard.db_mut(db).insert_if_absent(entry) else {
                    continue;
                };
                if !replaces {
                    return Err(format!(
                        "the key \"{}\" occurs twice",
                        entry.as_ref().key().escape_ascii()
                    ));
                }
                shard
                    .db_mut(db)
                    .remove(Key::new(entry.as_ref().key(), &slots));
                let inserted = shard.db_mut(db).insert_if_absent(entry);
                assert!(inserted.is_ok(), "its key was removed just now");
            }
            Ok(())
        })
    }
}

impl KeyReceiver for Keys {
    fn key(&mut self, key: LoadedKey<'_>) -> Result<(), String> {
        let shard = usize::from(self.server.slots.shard_of(key.key).0);
        self.collected[shard].push((key.db, Entry::new(key.key, key.value, key.expire_at)));
        if self.collected[shard].len() == KEYS_PER_BATON {
            self.put_in(shard)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        (0..self.collected.len()).try_for_each(|shard| self.put_in(shard))
    }
}

/// Where a connection waits for the coordinator's reply.
#[derive(Clone, Copy)]
pub struct ReplyTo {
    pub worker: usize,
    pub conn: ConnId,
}

impl ReplyTo {
    pub fn send(self, server: &Server, reply: &[u8]) {
        let message = crate::worker::mailbox::Message::CoordinatorReply {
            conn: self.conn,
            reply: reply.to_vec(),
        };
        server.workers[self.worker].mailbox.post(message);
    }
}
