//! Whole databases, over all shards at once.
//!
//! With one shard, emptying and swapping databases is logged as it was asked for. With several,
//! each shard's log is about its own keys alone, and a stock server loads one after the other: it
//! would empty or swap what earlier logs brought. So each shard logs what became of its keys. Where
//! these are many, the server logs the command itself, between two generations of segments, and runs
//! the function with the logs off.

use keyspace::{Db, DbIndex, Garbage, Key, Shard, ValueRef};

use resp::Argv;

use crate::acl::Categories;
use crate::args;
use crate::command::{Command, Flags, Group, Run};
use crate::context::{Codec, Ctx};
use crate::errors::{
    CommandError, CommandResult, INVALID_FIRST_DB_INDEX, INVALID_SECOND_DB_INDEX, SYNTAX,
};
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
            "O(1) with one shard or many keys, O(N) with few, which are logged one by one; freeing is left to another thread",
        arity: -1,
        flags: Flags::WRITE.union(Flags::DANGEROUS),
        syntax: "[ASYNC | SYNC]",
        run: Run::WholeDatabases(flushdb),
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        ..ROW
    },
    Command {
        name: "flushall",
        summary: "Deletes all keys of all databases.",
        complexity:
            "O(1) with one shard or many keys, O(N) with few, which are logged one by one; freeing is left to another thread",
        arity: -1,
        flags: Flags::WRITE.union(Flags::DANGEROUS),
        syntax: "[ASYNC | SYNC]",
        run: Run::WholeDatabases(flushall),
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        ..ROW
    },
    Command {
        name: "swapdb",
        summary: "Swaps the content of two databases.",
        since: "4.0.0",
        complexity: "O(1) with one shard or many keys, O(N) with few, which are logged one by one",
        arity: 3,
        flags: Flags::WRITE.union(Flags::FAST).union(Flags::DANGEROUS),
        syntax: "index1 index2",
        run: Run::WholeDatabases(swapdb),
        ..ROW
    },
];

fn dbsize(c: &mut Ctx<'_, '_>) -> CommandResult {
    let db = c.keys.db;
    let count: usize = c.keys.view.shards().map(|shard| shard.db(db).len()).sum();
    c.reply.integer(count as i64);
    Ok(())
}

/// The databases that a command running on [`Run::WholeDatabases`] is about, of so many that there are, or why its
/// arguments are wrong.
pub fn whole_databases(
    command: &Command,
    argv: Argv<'_>,
    selected: DbIndex,
    count: u32,
) -> Result<Vec<DbIndex>, CommandError> {
    match command.name {
        "swapdb" => {
            let index = |arg, error: CommandError| {
                let n = args::integer_or(arg, error.clone())?;
                i32::try_from(n).map(i64::from).map_err(|_| error)
            };
            let a = index(argv.arg(1), INVALID_FIRST_DB_INDEX)?;
            let b = index(argv.arg(2), INVALID_SECOND_DB_INDEX)?;
            let checked = |n| keys::checked_database(n, count);
            Ok(vec![checked(a)?, checked(b)?])
        }
        name => {
            // Both words mean the same here: memory is always given back by another thread.
            let plain = match argv.get(1) {
                None => true,
                Some(word) => {
                    argv.len() == 2 && (args::is(word, "async") || args::is(word, "sync"))
                }
            };
            match (plain, name) {
                (false, _) => Err(SYNTAX),
                (true, "flushdb") => Ok(vec![selected]),
                (true, _) => Ok((0..count).map(DbIndex).collect()),
            }
        }
    }
}

fn concerned(c: &Ctx<'_, '_>, command: &str) -> Result<Vec<DbIndex>, CommandError> {
    let row = COMMANDS.iter().find(|row| row.name == command);
    let row = row.expect("the rows are in this file");
    whole_databases(row, c.argv, c.keys.db, keys::databases(c))
}

fn flushdb(c: &mut Ctx<'_, '_>) -> CommandResult {
    let databases = concerned(c, "flushdb")?;
    flush(c, &databases, b"FLUSHDB");
    c.reply.ok();
    Ok(())
}

fn flushall(c: &mut Ctx<'_, '_>) -> CommandResult {
    let databases = concerned(c, "flushall")?;
    flush(c, &databases, b"FLUSHALL");
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
    let [a, b] = concerned(c, "swapdb")?[..] else {
        unreachable!("a swap is of two databases")
    };
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
