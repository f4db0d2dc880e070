//! DEBUG: what test suites and debugging need. Off unless `enable-debug-command` allows it.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use commands::{args, errors, CommandError, CommandResult};
use config::{LocalAccess, Origin};
use datatypes::{Encoding, Value};
use keyspace::{DbIndex, EntryRef, Expiry, Key, NewValue, StringRef, ValueRef, View};
use resp::Argv;

use super::{config::origin, digest, Host};
use crate::coordinator::Request;
use crate::worker::connection::Connection;
use crate::worker::Worker;
use crate::{clock, log, startup};

const NOT_ALLOWED: CommandError = CommandError::new(
    "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server.",
);
const RELOAD_OPTIONS: CommandError =
    CommandError::new("ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.");
const NOT_IN_TRANSACTION: CommandError =
    CommandError::new("ERR DEBUG cannot load inside a transaction");
const NOT_A_HASH_TABLE: CommandError = CommandError::new(
    "ERR The value stored at the specified key is not represented using an hash table",
);
const NOT_SDS: CommandError = CommandError::new("ERR Not an sds encoded string.");
const NOT_A_LISTPACK: CommandError = CommandError::new("ERR Not a listpack encoded object.");
const NOT_A_QUICKLIST: CommandError = CommandError::new("ERR Not a quicklist encoded object.");
const DB_OUT_OF_RANGE: CommandError = CommandError::new("ERR Out of range database");
const PACKED_THRESHOLD: CommandError =
    CommandError::new("ERR argument must be a memory value bigger than 1 and smaller than 4gb");
const PROTOCOL_TYPES: CommandError = CommandError::new(
    "ERR Wrong protocol type name. Please use one of the following: string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
);

/// Subcommands with what they do.
const HELP: &[(&str, &str)] = &[
    ("AOF-FLUSH-SLEEP <microseconds>", "Lets so long pass before each write to the append-only file."),
    ("CHANGE-REPL-ID", "Draws a new replication id."),
    ("DICT-RESIZING <0|1>", "Accepted, without effect: tables grow in small steps."),
    ("DIGEST", "Replies a signature of the whole dataset."),
    ("DIGEST-VALUE <key> [<key> ...]", "Replies a signature of each key's value."),
    ("ERROR <string>", "Replies an error with this text."),
    ("HTSTATS <dbid> [full]", "Describes the tables of a database."),
    ("HTSTATS-KEY <key> [full]", "Describes the table of a value."),
    ("LISTPACK <key>", "Logs the elements of a listpack."),
    ("LOADAOF", "Writes the append-only file, empties the dataset and loads it again."),
    ("LOG <message>", "Writes a message to the log."),
    ("OBJECT <key>", "Describes a key and its value."),
    ("PANIC", "Crashes the server."),
    ("PAUSE-CRON <0|1>", "Accepted, without effect."),
    ("POPULATE <count> [<prefix>] [<size>]", "Makes string keys named prefix:number, which are not logged."),
    ("PROTOCOL <type>", "Replies an example of a type: string, integer, double, bignum, null, array, set, map, attrib, push, verbatim, true or false."),
    ("QUICKLIST <key> [<0|1>]", "Logs the nodes of a list."),
    ("QUICKLIST-PACKED-THRESHOLD <size>", "Accepted, without effect."),
    ("RELOAD [MERGE | NOFLUSH | NOSAVE ...]", "Saves, empties the dataset and loads it again; without what the options say."),
    ("REPLYBUFFER <subcommand> <value>", "Accepted, without effect."),
    ("SDSLEN <key>", "Replies how long a key and its string are."),
    ("SEGFAULT", "Ends the server as an invalid access to memory would."),
    ("SET-ACTIVE-EXPIRE <0|1>", "Stops or resumes the deletion of expired keys that nobody asks for."),
    ("SET-DISABLE-DENY-SCRIPTS <0|1>", "Accepted, without effect: there are no scripts."),
    ("SET-SKIP-CHECKSUM-VALIDATION <0|1>", "Accepted, without effect."),
    ("SLEEP <seconds>", "Stops this connection's worker for a time."),
    ("STRINGMATCH-LEN <pattern> <string>", "Replies whether a glob-style pattern fits."),
    ("STRUCTSIZE", "Replies the sizes of some structures."),
    ("HELP", "Shows this text."),
];

impl Worker {
    /// Whether a client may use DEBUG.
    pub(crate) fn admit_debug(&self, c: &Connection) -> CommandResult {
        let allowed = match self.config.enable_debug_command {
            LocalAccess::Yes => true,
            LocalAccess::No => false,
            LocalAccess::Local => origin(&c.record) == Origin::Local,
        };
        if allowed {
            Ok(())
        } else {
            Err(NOT_ALLOWED)
        }
    }

    pub(super) fn debug(
        &mut self,
        c: &mut Connection,
        argv: Argv<'_>,
        situation: Host<'_, '_>,
    ) -> CommandResult {
        let name = argv.arg(1).to_ascii_lowercase();
        match (name.as_slice(), argv.len()) {
            (b"help", 2) => help(c),
            (b"sleep", 3) => self.sleep(c, argv.arg(2)),
            (b"reload", _) => self.debug_reload(c, argv, &situation),
            (b"loadaof", 2) if situation.in_transaction() => Err(NOT_IN_TRANSACTION),
            (b"loadaof", 2) => {
                let reply_to = self.wait_for_reply(c);
                self.request(Request::LoadAof(reply_to));
                Ok(())
            }
            (b"set-active-expire", 3) => {
                let on = args::integer(argv.arg(2)).is_ok_and(|n| n != 0);
                self.server.active_expire.store(on, Relaxed);
                c.reply().ok();
                Ok(())
            }
            (b"change-repl-id", 2) => {
                self.server.set_replication_id(startup::random_hex(40));
                c.reply().ok();
                Ok(())
            }
            (b"quicklist-packed-threshold", 3) => {
                memory_value(argv.arg(2)).ok_or(PACKED_THRESHOLD)?;
                c.reply().ok();
                Ok(())
            }
            (b"aof-flush-sleep", 3) => {
                // Redis takes what is no number for 0.
                let micros = args::integer(argv.arg(2)).map_or(0, |n| n.clamp(0, 60_000_000));
                self.server
                    .aof
                    .flush_sleep_micros
                    .store(micros as u64, Relaxed);
                c.reply().ok();
                Ok(())
            }
            (
                b"pause-cron"
                | b"dict-resizing"
                | b"set-skip-checksum-validation"
                | b"set-disable-deny-scripts",
                3,
            )
            | (b"replybuffer", 4) => {
                c.reply().ok();
                Ok(())
            }
            (b"stringmatch-len", 4) => {
                let fits = datatypes::glob::matches(argv.arg(2), argv.arg(3), false);
                c.reply().integer(i64::from(fits));
                Ok(())
            }
            (b"structsize", 2) => {
                let sizes = format!(
                    "bits:{} connection:{} value:{} shard:{}",
                    usize::BITS,
                    size_of::<Connection>(),
                    size_of::<Value>(),
                    size_of::<keyspace::Shard>()
                );
                c.reply().bulk(sizes.as_bytes());
                Ok(())
            }
            (b"error", 3) => {
                let text = String::from_utf8_lossy(argv.arg(2));
                Err(text.replace(['\r', '\n'], " ").into())
            }
            (b"log", 3) => {
                log!(
                    Warning,
                    "DEBUG LOG: {}",
                    String::from_utf8_lossy(argv.arg(2))
                );
                c.reply().ok();
                Ok(())
            }
            (b"protocol", 3) => protocol(c, argv.arg(2)),
            (b"panic", 2) => panic!("DEBUG PANIC was called"),
            (b"segfault", 2) => {
                // The default action of the signal ends the process.
                let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGSEGV);
                Ok(())
            }
            _ => self.debug_data(c, &name, argv, situation),
        }
    }

    /// Those that look at the data.
    fn debug_data(
        &mut self,
        c: &mut Connection,
        name: &[u8],
        argv: Argv<'_>,
        situation: Host<'_, '_>,
    ) -> CommandResult {
        type Look = fn(&mut Worker, &mut Connection, Argv<'_>, &mut View<'_>) -> CommandResult;
        let look: Look = match (name, argv.len()) {
            (b"object", 3..) => Worker::debug_object,
            (b"digest", 2) => |_, c, _, view| {
                let digest = digest::of_dataset(&view.shards().collect::<Vec<_>>());
                c.reply().simple(&digest.hex());
                Ok(())
            },
            (b"digest-value", 2..) => Worker::digest_values,
            (b"populate", 3..=5) => Worker::populate,
            (b"htstats", 3..) => Worker::htstats,
            (b"htstats-key", 3..) => Worker::htstats_key,
            (b"listpack", 3) => Worker::debug_listpack,
            (b"quicklist", 3..=4) => Worker::debug_quicklist,
            (b"sdslen", 3) => Worker::sdslen,
            _ => {
                return Err(CommandError::wrong_subcommand("DEBUG", argv.arg(1)));
            }
        };
        self.with_all_shards(c, situation, |worker, c, view| look(worker, c, argv, view))
    }

    fn sleep(&mut self, c: &mut Connection, seconds: &[u8]) -> CommandResult {
        // Redis takes what is no number for 0.
        let seconds = datatypes::number::parse_f64(seconds).unwrap_or(0.0);
        std::thread::sleep(Duration::try_from_secs_f64(seconds).unwrap_or_default());
        self.now = clock::unix_millis();
        c.reply().ok();
        Ok(())
    }

    fn debug_reload(
        &mut self,
        c: &mut Connection,
        argv: Argv<'_>,
        situation: &Host<'_, '_>,
    ) -> CommandResult {
        let (mut save, mut flush, mut merge) = (true, true, false);
        for word in argv.from(2).iter() {
            if args::is(word, "nosave") {
                save = false;
            } else if args::is(word, "noflush") {
                flush = false;
            } else if args::is(word, "merge") {
                merge = true;
            } else {
                return Err(RELOAD_OPTIONS);
            }
        }
        if situation.in_transaction() {
            return Err(NOT_IN_TRANSACTION);
        }
        let reply_to = self.wait_for_reply(c);
        self.request(Request::Reload {
            reply_to,
            save,
            flush,
            merge,
        });
        Ok(())
    }

    fn debug_object(
        &mut self,
        c: &mut Connection,
        argv: Argv<'_>,
        view: &mut View<'_>,
    ) -> CommandResult {
        let entry = existing(c, argv, view)?;
        let seconds = ((self.now.0 / 1000) & 0x00ff_ffff) as u32;
        let clock = entry.access_clock();
        let idle = seconds.wrapping_sub(clock) & 0x00ff_ffff;
        let mut line = format!(
            "Value at:{:p} refcount:1 encoding:{} serializedlength:{} lru:{clock} lru_seconds_idle:{idle}",
            entry.key().as_ptr(),
            entry.encoding_name(),
            serialized_len(self, entry)
        );
        if let ValueRef::Object(Value::List(list)) = entry.value() {
            if list.encoding() == Encoding::Quicklist {
                let bytes: usize = list.iter().map(|element| element.len()).sum();
                line += &format!(
                    " ql_nodes:{} ql_avg_node:{:.2} ql_listpack_max:{} ql_compressed:0 ql_uncompressed_size:{bytes}",
                    list.node_count(),
                    list.len() as f64 / list.node_count().max(1) as f64,
                    self.config.list_max_listpack_size
                );
            }
        }
        c.reply().simple(&line);
        Ok(())
    }

    fn digest_values(
        &mut self,
        c: &mut Connection,
        argv: Argv<'_>,
        view: &mut View<'_>,
    ) -> CommandResult {
        let (db, now) = (c.db, self.now);
        c.reply().array(argv.len() - 2);
        for bytes in argv.from(2).iter() {
            let key = view.key(bytes);
            let entry = view.db(db, key).find(key);
            let digest = digest::of_value(entry.filter(|entry| !entry.is_expired(now)));
            c.reply().simple(&digest.hex());
        }
        Ok(())
    }

    fn populate(
        &mut self,
        c: &mut Connection,
        argv: Argv<'_>,
        view: &mut View<'_>,
    ) -> CommandResult {
        let count = args::count_or(argv.arg(2), errors::NOT_POSITIVE)?;
        let prefix = argv.get(3).unwrap_or(b"key");
        let size = match argv.get(4) {
            Some(size) => args::count_or(size, errors::NOT_POSITIVE)?,
            None => 0,
        };
        let db = c.db;
        for number in 0..count {
            let name = [prefix, b":", number.to_string().as_bytes()].concat();
            let key = view.key(&name);
            if view.db(db, key).find(key).is_some() {
                continue;
            }
            let mut value = format!("value:{number}").into_bytes();
            if size > 0 {
                value.resize(size, 0);
            }
            view.db_mut(db, key)
                .set(key, NewValue::Bytes(&value), Expiry::Set(None));
            view.shard_mut(key.shard).changed(db, key);
        }
        c.reply().ok();
        Ok(())
    }

    fn htstats(
        &mut self,
        c: &mut Connection,
        argv: Argv<'_>,
        view: &mut View<'_>,
    ) -> CommandResult {
        let index = args::integer(argv.arg(2))?;
        let db = u32::try_from(index)
            .ok()
            .filter(|db| *db < self.config.databases)
            .map(DbIndex)
            .ok_or(DB_OUT_OF_RANGE)?;
        let sum = |f: fn(&keyspace::Db) -> usize| -> usize {
            view.shards().map(|shard| f(shard.db(db))).sum()
        };
        let text = format!(
            "[Dictionary HT]\n{}[Expires HT]\n{}",
            table_stats(sum(keyspace::Db::len), sum(keyspace::Db::table_bytes)),
            table_stats(sum(keyspace::Db::expires_len), 0)
        );
        c.reply().verbatim("txt", text.as_bytes());
        Ok(())
    }

    fn htstats_key(
        &mut self,
        c: &mut Connection,
        argv: Argv<'_>,
        view: &mut View<'_>,
    ) -> CommandResult {
        let entry = existing(c, argv, view)?;
        let ValueRef::Object(value) = entry.value() else {
            return Err(NOT_A_HASH_TABLE);
        };
        if !matches!(value.encoding(), Encoding::HashTable | Encoding::SkipList) {
            return Err(NOT_A_HASH_TABLE);
        }
        let text = table_stats(value.len(), value.approximate_bytes(0));
        c.reply().verbatim("txt", text.as_bytes());
        Ok(())
    }

    fn debug_listpack(
        &mut self,
        c: &mut Connection,
        argv: Argv<'_>,
        view: &mut View<'_>,
    ) -> CommandResult {
        let ValueRef::Object(value) = existing(c, argv, view)?.value() else {
            return Err(NOT_A_LISTPACK);
        };
        if value.encoding() != Encoding::Listpack {
            return Err(NOT_A_LISTPACK);
        }
        log!(
            Warning,
            "DEBUG LISTPACK: {} elements in about {} bytes",
            value.len(),
            value.approximate_bytes(0)
        );
        c.reply().simple("Listpack structure printed on stdout");
        Ok(())
    }

    fn debug_quicklist(
        &mut self,
        c: &mut Connection,
        argv: Argv<'_>,
        view: &mut View<'_>,
    ) -> CommandResult {
        match existing(c, argv, view)?.value() {
            ValueRef::Object(Value::List(list)) if list.encoding() == Encoding::Quicklist => {
                let lens: Vec<usize> = list.nodes().map(|node| node.len()).collect();
                log!(Warning, "DEBUG QUICKLIST: elements by node: {lens:?}");
            }
            _ => return Err(NOT_A_QUICKLIST),
        }
        c.reply().simple("Quicklist structure printed on stdout");
        Ok(())
    }

    fn sdslen(&mut self, c: &mut Connection, argv: Argv<'_>, view: &mut View<'_>) -> CommandResult {
        let entry = existing(c, argv, view)?;
        let ValueRef::String(StringRef::Bytes(value)) = entry.value() else {
            return Err(NOT_SDS);
        };
        let line = format!(
            "key_sds_len:{}, key_sds_avail:0, key_zmalloc: {}, val_sds_len:{}, val_sds_avail:0, val_zmalloc: {}",
            entry.key().len(),
            entry.key().len(),
            value.len(),
            entry.memory_bytes(0)
        );
        c.reply().simple(&line);
        Ok(())
    }
}

/// The entry of the key in the third argument.
fn existing<'v>(
    c: &Connection,
    argv: Argv<'_>,
    view: &'v View<'_>,
) -> Result<EntryRef<'v>, CommandError> {
    let key: Key<'_> = view.key(argv.arg(2));
    view.db(c.db, key).find(key).ok_or(errors::NO_SUCH_KEY)
}

/// Bytes of the value in a snapshot.
fn serialized_len(worker: &Worker, entry: EntryRef<'_>) -> usize {
    /// A payload's type before the value, version and checksum behind it.
    const AROUND: usize = 1 + 2 + 8;
    let payload = commands::Codec::dump(&worker.env.codec, entry.value());
    payload.len() - AROUND
}

fn table_stats(elements: usize, bytes: usize) -> String {
    if elements == 0 {
        return String::new();
    }
    let size = if bytes > 0 {
        format!(" table bytes: {bytes}\n")
    } else {
        String::new()
    };
    format!("Hash table 0 stats (main hash table):\n{size} number of elements: {elements}\n")
}

/// A number of bytes with a unit, as in the configuration, below 4 GiB.
fn memory_value(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?.to_ascii_lowercase();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" | "b" => 1,
        "k" => 1000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => return None,
    };
    let bytes = digits.parse::<u64>().ok()?.checked_mul(factor)?;
    (bytes < 4 << 30).then_some(bytes)
}

fn help(c: &mut Connection) -> CommandResult {
    let mut reply = c.reply();
    reply.array(1 + 2 * HELP.len());
    reply.simple("DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:");
    for (usage, text) in HELP {
        reply.simple(usage);
        reply.simple(&format!("    {text}"));
    }
    Ok(())
}

/// DEBUG PROTOCOL: an example of each type of reply.
fn protocol(c: &mut Connection, kind: &[u8]) -> CommandResult {
    let is_resp3 = c.protocol == resp::Protocol::Resp3;
    let mut reply = c.reply();
    match kind.to_ascii_lowercase().as_slice() {
        b"string" => reply.bulk(b"Hello World"),
        b"integer" => reply.integer(12345),
        b"double" => reply.double(b"3.141"),
        b"null" => reply.null(),
        b"array" => {
            reply.array(3);
            (0..3).for_each(|n| reply.integer(n));
        }
        b"set" => {
            reply.set(3);
            (0..3).for_each(|n| reply.integer(n));
        }
        b"map" => {
            reply.map(3);
            for n in 0..3 {
                reply.integer(n);
                reply.boolean(n == 1);
            }
        }
        b"attrib" => {
            // RESP2 has no attributes: only what they are about is sent.
            if is_resp3 {
                reply.raw(b"|1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n");
            }
            reply.bulk(b"Some real reply following the attribute");
        }
        b"push" => {
            if !is_resp3 {
                return Err(CommandError::new(
                    "ERR RESP2 is not supported by this command",
                ));
            }
            reply.push(2);
            reply.bulk(b"server-cpu-usage");
            reply.integer(42);
        }
        b"bignum" if is_resp3 => reply.raw(b"(1234567999999999999999999999999999999\r\n"),
        b"bignum" => reply.bulk(b"1234567999999999999999999999999999999"),
        b"verbatim" => reply.verbatim("txt", b"This is a verbatim\nstring"),
        b"true" => reply.boolean(true),
        b"false" => reply.boolean(false),
        _ => return Err(PROTOCOL_TYPES),
    }
    Ok(())
}
