//! Whole databases, over all shards at once.
//!
//! With one shard, emptying and swapping databases is logged as it was asked for. With several,
//! each shard's log is about its own keys alone, and a stock server loads one after the other: it
//! would empty or swap what earlier logs brought. So each shard logs what became of its keys.

use keyspace::{Db, DbIndex, Garbage, Key, Shard, ValueRef};

use crate::acl::Categories;
use crate::args;
use crate::command::{Command, Flags, Group, Run};
use crate::context::{Codec, Ctx};
use crate::errors::{CommandResult, INVALID_FIRST_DB_INDEX, INVALID_SECOND_DB_INDEX, SYNTAX};
use crate::keys;

const ROW: Command = Command {
    group: Group::Server,
    categories: Categories::KEYSPACE,
    ..Command::DEFAULT
};

pub const COMMANDS: &[Command] = &[
    Command {
        name: "dbsize",
        summary: "Counts the keys of the database.",
        arity: 1,
        flags: Flags::READONLY.union(Flags::FAST),
        run: Run::AllShards(dbsize),
        tips: &["request_policy:all_shards", "response_policy:agg_sum"],
        ..ROW
    },
    Command {
        name: "flushdb",
        summary: "Deletes all keys of the database.",
        complexity:
            "O(N) with N keys, when they are logged one by one; freeing is left to another thread",
        arity: -1,
        flags: Flags::WRITE.union(Flags::DANGEROUS),
        syntax: "[ASYNC | SYNC]",
        run: Run::AllShards(flushdb),
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        ..ROW
    },
    Command {
        name: "flushall",
        summary: "Deletes all keys of all databases.",
        complexity:
            "O(N) with N keys, when they are logged one by one; freeing is left to another thread",
        arity: -1,
        flags: Flags::WRITE.union(Flags::DANGEROUS),
        syntax: "[ASYNC | SYNC]",
        run: Run::AllShards(flushall),
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        ..ROW
    },
    Command {
        name: "swapdb",
        summary: "Swaps the content of two databases.",
        since: "4.0.0",
        complexity: "O(1); O(N) with N keys when they are logged one by one",
        arity: 3,
        flags: Flags::WRITE.union(Flags::FAST).union(Flags::DANGEROUS),
        syntax: "index1 index2",
        run: Run::AllShards(swapdb),
        ..ROW
    },
];

fn dbsize(c: &mut Ctx<'_, '_>) -> CommandResult {
    let db = c.keys.db;
    let count: usize = c.keys.view.shards().map(|shard| shard.db(db).len()).sum();
    c.reply.integer(count as i64);
    Ok(())
}

/// FLUSHDB and FLUSHALL take one word at most. Both words mean the same here: memory is always
/// given back by another thread.
fn check_flush_mode(c: &Ctx<'_, '_>) -> CommandResult {
    match c.argv.get(1) {
        None => Ok(()),
        Some(word) if c.argv.len() == 2 && (args::is(word, "async") || args::is(word, "sync")) => {
            Ok(())
        }
        Some(_) => Err(SYNTAX),
    }
}

fn flushdb(c: &mut Ctx<'_, '_>) -> CommandResult {
    check_flush_mode(c)?;
    flush(c, &[c.keys.db], b"FLUSHDB");
    c.reply.ok();
    Ok(())
}

fn flushall(c: &mut Ctx<'_, '_>) -> CommandResult {
    check_flush_mode(c)?;
    let count = c.keys.view.shards().next().map_or(0, Shard::databases);
    let all: Vec<DbIndex> = (0..count as u32).map(DbIndex).collect();
    flush(c, &all, b"FLUSHALL");
    // Redis counts an emptied server as a change even when it was empty before.
    c.keys.view.shards_mut()[0].dirty += 1;
    c.reply.ok();
    Ok(())
}

fn flush(c: &mut Ctx<'_, '_>, dbs: &[DbIndex], command: &[u8]) {
    let (selected, alone) = (c.keys.db, c.keys.view.slots().shards() == 1);
    for shard in c.keys.view.shards_mut() {
        if alone {
            shard.log.append(selected, &[command]);
        }
        for &db in dbs {
            let old = shard.take_db(db);
            shard.dirty += old.len() as u64;
            if !alone {
                log_deletions(shard, db, &old);
            }
            if !old.is_empty() {
                shard.free_later(Garbage::Db(old));
            }
        }
    }
}

fn log_deletions(shard: &mut Shard, db: DbIndex, old: &Db) {
    /// Keys of one DEL at most.
    const CHUNK_KEYS_MAX: usize = 256;
    if !shard.log.is_enabled() {
        return;
    }
    let mut entries = old.iter().map(|entry| entry.key());
    loop {
        let mut effect: Vec<&[u8]> = vec![b"DEL"];
        effect.extend(entries.by_ref().take(CHUNK_KEYS_MAX));
        if effect.len() == 1 {
            return;
        }
        shard.log.append(db, &effect);
    }
}

fn swapdb(c: &mut Ctx<'_, '_>) -> CommandResult {
    let int = |arg, error: crate::CommandError| {
        let n = args::integer_or(arg, error.clone())?;
        i32::try_from(n).map(i64::from).map_err(|_| error)
    };
    let a = int(c.argv.arg(1), INVALID_FIRST_DB_INDEX)?;
    let b = int(c.argv.arg(2), INVALID_SECOND_DB_INDEX)?;
    let a = keys::checked_database(c, a)?;
    let b = keys::checked_database(c, b)?;
    let (selected, alone) = (c.keys.db, c.keys.view.slots().shards() == 1);
    for shard in c.keys.view.shards_mut() {
        if a == b {
            continue;
        }
        if alone {
            shard
                .log
                .append(selected, &[b"SWAPDB", c.argv.arg(1), c.argv.arg(2)]);
        } else if shard.log.is_enabled() {
            log_swap(shard, a, b, c.codec);
        }
        shard.swap_dbs(a, b);
    }
    // Redis counts one change, whatever the databases held.
    c.keys.view.shards_mut()[0].dirty += 1;
    c.reply.ok();
    Ok(())
}

/// Logs a swap before it happens as moves of the keys. A key that both databases have cannot be
/// moved either way: one of its values is deleted, and stored again after the other has moved.
fn log_swap(shard: &mut Shard, a: DbIndex, b: DbIndex, codec: &dyn Codec) {
    let mut log = std::mem::take(&mut shard.log);
    let mut digits = (itoa::Buffer::new(), itoa::Buffer::new());
    let (a_name, b_name) = (
        digits.0.format(a.0).as_bytes(),
        digits.1.format(b.0).as_bytes(),
    );
    for entry in shard.db(a).iter() {
        let key = entry.key();
        let other = shard.db(b).find(Key {
            bytes: key,
            hash: entry.hash(),
            shard: shard.index(),
        });
        if other.is_some() {
            log.append(b, &[b"DEL", key]);
        }
        log.append(a, &[b"MOVE", key, b_name]);
        if let Some(other) = other {
            let command = keys::whole(other, |value: ValueRef<'_>| codec.dump(value));
            let effect: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
            log.append(a, &effect);
        }
    }
    for entry in shard.db(b).iter() {
        let in_a = shard.db(a).find(Key {
            bytes: entry.key(),
            hash: entry.hash(),
            shard: shard.index(),
        });
        if in_a.is_none() {
            log.append(b, &[b"MOVE", entry.key(), a_name]);
        }
    }
    shard.log = log;
}
