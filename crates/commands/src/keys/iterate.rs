//! Finding keys: by pattern, step by step, at random.
//!
//! A SCAN cursor is `position * shards + shard`: the shard it goes on in, and the position in
//! that shard's table. A call that is done with a shard goes on with the next until it has seen
//! COUNT keys, so that a call with a large COUNT sees all, as in Redis.

use datatypes::glob;
use keyspace::{Key, ShardIndex};
use resp::Argv;

use crate::command::{Command, Flags, Run};
use crate::context::Ctx;
use crate::errors::CommandResult;
use crate::keys;
use crate::scan_options::{self, ScanOptions, Scanned};

pub const COMMANDS: &[Command] = &[
    Command {
        name: "keys",
        summary: "Replies all keys that match a pattern.",
        complexity: "O(N) with N keys in the database",
        arity: 2,
        flags: Flags::READONLY.union(Flags::DANGEROUS),
        syntax: "pattern",
        run: Run::AllShards(keys_),
        tips: &["request_policy:all_shards", "nondeterministic_output_order"],
        ..keys::ROW
    },
    Command {
        name: "scan",
        summary: "Replies some keys and the cursor to go on from, until that is 0.",
        since: "2.8.0",
        complexity: "O(1) a call, O(N) for all N keys",
        arity: -2,
        flags: Flags::READONLY,
        syntax: "cursor [MATCH pattern] [COUNT count] [TYPE type]",
        run: Run::Cursor(scan),
        tips: &[
            "nondeterministic_output",
            "request_policy:special",
            "response_policy:special",
        ],
        ..keys::ROW
    },
    Command {
        name: "randomkey",
        summary: "Replies a key chosen at random.",
        arity: 1,
        flags: Flags::READONLY,
        run: Run::AllShards(randomkey),
        tips: &[
            "request_policy:all_shards",
            "response_policy:special",
            "nondeterministic_output",
        ],
        ..keys::ROW
    },
];

fn keys_(c: &mut Ctx<'_, '_>) -> CommandResult {
    let pattern = c.argv.arg(1);
    let special = |byte: &u8| matches!(byte, b'*' | b'?' | b'[' | b'\\');
    if !pattern.iter().any(special) {
        let key = c.key(1);
        let found = c.keys.peek(key).is_some();
        c.reply.array(usize::from(found));
        if found {
            c.reply.bulk(pattern);
        }
        return Ok(());
    }
    let (db, now, all) = (c.keys.db, c.keys.now, pattern == b"*");
    let shards = c.keys.view.shards();
    c.reply.array_deferred(|reply| {
        let mut count = 0;
        for entry in shards.flat_map(|shard| shard.db(db).iter()) {
            let wanted = all || glob::matches(pattern, entry.key(), false);
            if wanted && !entry.is_expired(now) {
                reply.bulk(entry.key());
                count += 1;
            }
        }
        count
    });
    Ok(())
}

/// The first shard that a call of SCAN may look at; those after it may follow. Any will do for a
/// cursor that is none.
pub fn cursor_shard(argv: Argv<'_>, shards: u16) -> ShardIndex {
    let cursor = argv.get(1).map_or(Ok(0), scan_options::cursor);
    ShardIndex((cursor.unwrap_or(0) % u64::from(shards)) as u16)
}

fn scan(c: &mut Ctx<'_, '_>) -> CommandResult {
    let cursor = scan_options::cursor(c.argv.arg(1))?;
    let options = ScanOptions::parse(c.argv, 2, Scanned::Keyspace)?;
    let (db, now) = (c.keys.db, c.keys.now);
    let shards = u64::from(c.keys.view.slots().shards());
    let first = ShardIndex((cursor % shards) as u16);
    let mut expired: Vec<Vec<u8>> = Vec::new();
    let view = &*c.keys.view;
    scan_options::reply_page(&mut c.reply, |reply| {
        let (mut seen, mut replied, mut position) = (0, 0, cursor / shards);
        for shard in view.shards().filter(|shard| shard.index() >= first) {
            let wanted = options.count - seen;
            position = shard.db(db).scan(position, wanted, |entry| {
                seen += 1;
                let of_type =
                    |name: &[u8]| name.eq_ignore_ascii_case(keys::type_name(entry).as_bytes());
                if entry.is_expired(now) {
                    expired.push(entry.key().to_vec());
                } else if options.matches(entry.key()) && options.type_name.is_none_or(of_type) {
                    reply.bulk(entry.key());
                    replied += 1;
                }
            });
            let index = u64::from(shard.index().0);
            if position != 0 {
                return (position * shards + index, replied);
            }
            if seen >= options.count {
                return ((index + 1) % shards, replied);
            }
        }
        (0, replied)
    });
    for key in &expired {
        let key = c.keys.view.key(key);
        c.keys.expire_if_due(key);
    }
    Ok(())
}

fn randomkey(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (db, now) = (c.keys.db, c.keys.now);
    loop {
        let total: usize = c.keys.view.shards().map(|shard| shard.db(db).len()).sum();
        let mut place = c.rng.below(total);
        let shard = c.keys.view.shards().find(|shard| {
            let len = shard.db(db).len();
            let here = place < len;
            place = place.saturating_sub(len);
            here
        });
        let Some(entry) = shard.and_then(|shard| shard.db(db).random(c.rng)) else {
            c.reply.null();
            return Ok(());
        };
        if !entry.is_expired(now) {
            c.reply.bulk(entry.key());
            return Ok(());
        }
        // One key fewer each time, so this ends.
        let bytes = entry.key().to_vec();
        let key: Key<'_> = c.keys.view.key(&bytes);
        c.keys.expire_if_due(key);
    }
}
