//! A small world to run commands in: shards without a server around them.
//!
//! `World::new(3).run("SET a b")` replies `OK`. Replies are shown in one line: bulk strings in
//! double quotes, simple strings bare, errors after a `-`, null as `nil`, arrays as `[1, "a"]`,
//! maps as `{"a": 1}`, sets as `#{"a"}`, doubles as `,1.5`, booleans as `true`. A command gets a
//! view of the shards of its keys and no others, as in the server. The effects of every write
//! are kept per shard; [`World::assert_replays`] replays them and compares the worlds.

use std::collections::BTreeMap;

use datatypes::list::Node;
use datatypes::{Hash, Limits, List, Listpack, Rng, Set, SortedSet, Stream, StreamId, Value};
use keyspace::{
    AccessPolicy, DbIndex, EntryRef, Shard, ShardIndex, SlotMap, UnixMillis, ValueRef, View,
};
use resp::{split_arguments, Argv, OwnedArgv, Parser, ParserLimits, Protocol, Reply, Step};

use crate::command::{Command, Run};
use crate::context::{Codec, Ctx, Keyspace, RestoredValue};
use crate::errors::{CommandError, CommandResult, BAD_PAYLOAD};
use crate::table;

pub const DATABASES: usize = 16;

/// The clock of a new world.
pub const START: UnixMillis = UnixMillis(1_700_000_000_000);

pub struct World {
    pub db: DbIndex,
    pub now: UnixMillis,
    pub protocol: Protocol,
    pub limits: Limits,
    pub string_bytes_max: u64,
    pub rng: Rng,
    pub replayed_at: Option<UnixMillis>,
    shards: Vec<Shard>,
    slots: SlotMap,
    /// Every effect so far, by shard, with its database.
    history: Vec<Vec<(DbIndex, OwnedArgv)>>,
    /// How much of each shard's history is older than the last command.
    seen: Vec<usize>,
    log_db: Vec<DbIndex>,
}

impl World {
    pub fn new(shards: u16) -> World {
        let slots = SlotMap::new(shards);
        let new_shard = |index| {
            let (garbage, _) = crossbeam_channel::unbounded();
            let mut shard = Shard::new(ShardIndex(index), slots, DATABASES, garbage);
            shard.log.set_enabled(true);
            shard.set_access_clock((START.0 / 1000) as u32, AccessPolicy::Recency);
            shard
        };
        let count = usize::from(shards);
        World {
            db: DbIndex(0),
            now: START,
            protocol: Protocol::Resp2,
            limits: Limits::default(),
            string_bytes_max: 512 << 20,
            rng: Rng::from_seed(1),
            replayed_at: None,
            shards: (0..shards).map(new_shard).collect(),
            slots,
            history: vec![Vec::new(); count],
            seen: vec![0; count],
            log_db: vec![DbIndex(0); count],
        }
    }

    /// Runs a line, quoted as in redis-cli, and shows its reply.
    pub fn run(&mut self, line: &str) -> String {
        let argv = split_arguments(line.as_bytes()).expect("a test's quotes are balanced");
        show(&self.run_argv(argv.argv()))
    }

    /// Runs a command and returns the bytes of its reply.
    pub fn run_args(&mut self, args: &[&[u8]]) -> Vec<u8> {
        let argv = OwnedArgv::from_args(args.iter().copied());
        self.run_argv(argv.argv())
    }

    /// Runs each line and compares its reply, shown as `run` shows it.
    pub fn check(&mut self, script: &[(&str, &str)]) {
        for (line, expected) in script {
            assert_eq!(self.run(line), *expected, "{line}");
        }
    }

    /// Moves the clock.
    pub fn pass(&mut self, ms: i64) {
        self.now.0 += ms;
        let seconds = (self.now.0 / 1000) as u32;
        self.shards
            .iter_mut()
            .for_each(|shard| shard.set_access_clock(seconds, AccessPolicy::Recency));
    }

    fn run_argv(&mut self, argv: Argv<'_>) -> Vec<u8> {
        for (seen, history) in self.seen.iter_mut().zip(&self.history) {
            *seen = history.len();
        }
        let mut out = Vec::new();
        let result = match Self::row(argv) {
            Ok(row) if !row.accepts_arity(argv.len()) => Err(CommandError::wrong_arity(row.name)),
            Ok(row) => self.call(row, argv, &mut out),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            assert!(out.is_empty(), "a refused command has written no reply");
            Reply::new(&mut out, self.protocol).error(error.text());
        }
        for index in 0..self.shards.len() {
            self.collect_effects(index);
        }
        out
    }

    fn row(argv: Argv<'_>) -> Result<&'static Command, CommandError> {
        let row = table::find(argv.arg(0)).ok_or(CommandError::new("ERR unknown command"))?;
        match argv.get(1) {
            Some(name) if !row.subcommands.is_empty() => {
                table::find_subcommand(row, name).ok_or(CommandError::new("ERR unknown subcommand"))
            }
            _ => Ok(row),
        }
    }

    fn call(&mut self, row: &'static Command, argv: Argv<'_>, out: &mut Vec<u8>) -> CommandResult {
        let mut held: Vec<ShardIndex> = Vec::new();
        let function = match row.run {
            Run::Keys(f) => {
                let all =
                    row.for_each_key(argv, |i, _| held.push(self.slots.shard_of(argv.arg(i))));
                if !all {
                    held.extend((0..self.slots.shards()).map(ShardIndex));
                }
                f
            }
            Run::AllShards(f) | Run::WholeDatabases(f) => {
                held.extend((0..self.slots.shards()).map(ShardIndex));
                f
            }
            Run::Cursor(f) => {
                let first = crate::cursor_shard(argv, self.slots.shards());
                held.extend((first.0..self.slots.shards()).map(ShardIndex));
                f
            }
            Run::Nowhere(f) => f,
            Run::Host(_) | Run::Container => panic!("{} needs a server", row.name),
        };
        let shards: Vec<&mut Shard> = self
            .shards
            .iter_mut()
            .filter(|shard| held.contains(&shard.index()))
            .collect();
        let mut view = View::several(shards, self.slots);
        let routed = (held.len() == 1 && argv.len() > 1).then(|| view.key(argv.arg(1)));
        function(&mut Ctx {
            argv,
            reply: Reply::new(out, self.protocol),
            keys: Keyspace::new(&mut view, self.db, self.now, argv, routed, false),
            rng: &mut self.rng,
            limits: &self.limits,
            string_bytes_max: self.string_bytes_max,
            codec: &TestCodec,
            waiting: None,
            replayed_at: self.replayed_at,
        })
    }

    /// Moves what a shard's log gained into its history.
    fn collect_effects(&mut self, index: usize) {
        let mut bytes = Vec::new();
        self.shards[index].log.swap(&mut bytes);
        for argv in parse_commands(&bytes) {
            if argv.argv().arg(0) == b"SELECT" {
                let db = datatypes::number::parse_i64(argv.argv().arg(1));
                self.log_db[index] = DbIndex(db.expect("logs select by number") as u32);
            } else {
                self.history[index].push((self.log_db[index], argv));
            }
        }
    }

    /// The effects of the last command, shard by shard, as lines; those on another database than
    /// 0 begin with `3: `.
    pub fn effects(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (history, &seen) in self.history.iter().zip(&self.seen) {
            for (db, argv) in &history[seen..] {
                let words: Vec<String> = argv.argv().iter().map(show_word).collect();
                let line = words.join(" ");
                lines.push(if db.0 == 0 {
                    line
                } else {
                    format!("{}: {line}", db.0)
                });
            }
        }
        lines
    }

    /// Changes counted since the world began.
    pub fn dirty(&self) -> u64 {
        self.shards.iter().map(|shard| shard.dirty).sum()
    }

    /// Everything in the world: by database and key, the time it expires and its value's text.
    pub fn state(&self) -> BTreeMap<(u32, Vec<u8>), (Option<UnixMillis>, String)> {
        let mut state = BTreeMap::new();
        for shard in &self.shards {
            for db in (0..DATABASES as u32).map(DbIndex) {
                for entry in shard.db(db).iter() {
                    let home = self.slots.shard_of(entry.key());
                    assert_eq!(home, shard.index(), "a key lies in its shard");
                    let value = (entry.expire_at(), show_value(entry));
                    let before = state.insert((db.0, entry.key().to_vec()), value);
                    assert!(before.is_none(), "a key exists once");
                }
            }
        }
        state
    }

    /// Replays all effects, one shard's after the other's as a stock server loads the segments,
    /// into new worlds of 1 and 3 shards, and compares each with this one.
    pub fn assert_replays(&self) {
        for shards in [1, 3] {
            let mut copy = World::new(shards);
            // While a file is loaded nothing expires.
            copy.now = UnixMillis(0);
            copy.replayed_at = Some(self.now);
            copy.limits = self.limits;
            for (db, argv) in self.history.iter().flatten() {
                copy.db = *db;
                let reply = copy.run_argv(argv.argv());
                assert!(
                    !reply.starts_with(b"-"),
                    "{}: {}",
                    show_argv(argv),
                    show(&reply)
                );
            }
            assert_eq!(copy.state(), self.state(), "replayed into {shards} shards");
        }
    }
}

fn parse_commands(mut bytes: &[u8]) -> Vec<OwnedArgv> {
    let limits = ParserLimits {
        bulk_bytes_max: u64::MAX,
        authenticated: true,
    };
    let mut commands = Vec::new();
    while !bytes.is_empty() {
        let mut spans = Vec::new();
        match Parser::default().next(bytes, 0, &limits, &mut spans) {
            Ok(Step::Command { len }) => {
                commands.push(Argv::new(bytes, &spans).to_owned());
                bytes = &bytes[len..];
            }
            _ => panic!("a log holds whole commands"),
        }
    }
    commands
}

fn show_argv(argv: &OwnedArgv) -> String {
    let words: Vec<String> = argv.argv().iter().map(show_word).collect();
    words.join(" ")
}

/// A word as redis-cli takes it: bare where that is possible.
fn show_word(word: &[u8]) -> String {
    let plain = |b: &u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'\'' | b'\\');
    if !word.is_empty() && word.iter().all(plain) {
        String::from_utf8_lossy(word).into_owned()
    } else {
        show_quoted(word)
    }
}

fn show_quoted(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend(['\\', byte as char]),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b' '..=b'~' => out.push(byte as char),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out + "\""
}

/// Replies in one line; several are separated by blanks.
pub fn show(mut reply: &[u8]) -> String {
    let mut shown = Vec::new();
    while !reply.is_empty() {
        shown.push(show_one(&mut reply));
    }
    shown.join(" ")
}

fn show_one(rest: &mut &[u8]) -> String {
    let end = rest.windows(2).position(|w| w == b"\r\n");
    let end = end.expect("a reply's line ends");
    let (kind, line) = (rest[0], &rest[1..end]);
    let text = String::from_utf8_lossy(line).into_owned();
    *rest = &rest[end + 2..];
    let len: i64 = text.parse().unwrap_or(0);
    match kind {
        b'+' | b':' => text,
        b'-' | b',' => format!("{}{text}", kind as char),
        b'#' => (text == "t").to_string(),
        b'_' => "nil".into(),
        b'$' | b'*' if len < 0 => if kind == b'$' { "nil" } else { "nil-array" }.into(),
        b'$' | b'=' => {
            let (bytes, after) = rest.split_at(len as usize);
            *rest = after.strip_prefix(b"\r\n").expect("a bulk string ends");
            show_quoted(bytes)
        }
        b'*' | b'~' | b'>' | b'%' => show_aggregate(kind, len as usize, rest),
        _ => panic!("no such kind of reply: {}", kind as char),
    }
}

fn show_aggregate(kind: u8, len: usize, rest: &mut &[u8]) -> String {
    let one = |_| match kind {
        b'%' => {
            let key = show_one(rest);
            format!("{key}: {}", show_one(rest))
        }
        _ => show_one(rest),
    };
    let elements: Vec<String> = (0..len).map(one).collect();
    let (open, close) = match kind {
        b'*' => ("[", "]"),
        b'~' => ("#{", "}"),
        b'%' => ("{", "}"),
        _ => (">[", "]"),
    };
    format!("{open}{}{close}", elements.join(", "))
}

/// A value's type and content, the same for equal values however they are encoded.
fn show_value(entry: EntryRef<'_>) -> String {
    match entry.value() {
        ValueRef::String(string) => {
            format!(
                "string {}",
                show_quoted(string.bytes(&mut itoa::Buffer::new()))
            )
        }
        ValueRef::Object(value) => {
            let mut parts: Vec<String> = parts_of(value).iter().map(|p| show_quoted(p)).collect();
            let name = value.value_type().name();
            let width = match value {
                Value::List(_) => return format!("{name} {}", parts.join(" ")),
                Value::Set(_) => 1,
                Value::Hash(_) => 3,
                Value::SortedSet(_) => 2,
                Value::Stream(stream) => return show_stream(stream),
            };
            let mut rows: Vec<String> = parts.chunks_mut(width).map(|c| c.join("=")).collect();
            rows.sort();
            format!("{name} {}", rows.join(" "))
        }
    }
}

/// A collection's elements, flat.
fn parts_of(value: &Value) -> Vec<Vec<u8>> {
    match value {
        Value::List(list) => list.iter().map(|e| e.to_vec()).collect(),
        Value::Set(set) => set.iter().map(|e| e.to_vec()).collect(),
        Value::Hash(hash) => hash
            .iter()
            .flat_map(|(f, v)| {
                let time = hash.expiry_of(&f.to_vec()).unwrap_or(0);
                [f.to_vec(), v.to_vec(), time.to_string().into_bytes()]
            })
            .collect(),
        Value::SortedSet(set) => set
            .iter()
            .flat_map(|(m, s)| [m.to_vec(), datatypes::number::f64_to_vec(s)])
            .collect(),
        Value::Stream(stream) => stream.iter().flat_map(entry_parts).collect(),
    }
}

/// An entry's ID, how many fields it has, fields and values.
fn entry_parts(entry: datatypes::stream::Entry<'_>) -> Vec<Vec<u8>> {
    let fields = entry.fields();
    let mut parts = vec![entry.id.to_bytes().to_vec(), vec![fields.len() as u8]];
    parts.extend(fields.flat_map(|(field, value)| [field.to_vec(), value.to_vec()]));
    parts
}

/// All but the times at which consumers were seen, which a replay cannot bring back.
fn show_stream(stream: &Stream) -> String {
    let (last, deleted, added) = (stream.last_id, stream.max_deleted_id, stream.entries_added);
    let mut shown = format!("stream {last} {deleted} {added}");
    for entry in stream.iter() {
        let parts: Vec<String> = entry_parts(entry.clone())[2..]
            .iter()
            .map(|p| show_quoted(p))
            .collect();
        shown += &format!(" [{} {}]", entry.id, parts.join(" "));
    }
    for (name, group) in &stream.groups {
        shown += &format!(
            " {}@{}/{:?}",
            show_quoted(name),
            group.last_id,
            group.entries_read
        );
        for consumer in group.consumers() {
            shown += &format!(" {}:", show_quoted(consumer.name()));
            for &id in consumer.pending() {
                let pending = group.pending(id).expect("both lists agree");
                shown += &format!(" {id}x{}@{}", pending.deliveries, pending.delivered_at);
            }
        }
    }
    shown
}

/// A stand-in for the RDB format: the type's name and the parts, each behind its length, and
/// the number of bytes before that as a check.
pub struct TestCodec;

impl Codec for TestCodec {
    fn dump(&self, value: ValueRef<'_>) -> Vec<u8> {
        let (name, parts) = match value {
            ValueRef::String(s) => ("string", vec![s.bytes(&mut itoa::Buffer::new()).to_vec()]),
            ValueRef::Object(value) => (value.value_type().name(), parts_of(value)),
        };
        let mut out = Vec::new();
        for part in std::iter::once(name.as_bytes()).chain(parts.iter().map(Vec::as_slice)) {
            out.extend_from_slice(&(part.len() as u32).to_le_bytes());
            out.extend_from_slice(part);
        }
        out.extend_from_slice(&(out.len() as u32).to_le_bytes());
        out
    }

    fn restore(&self, payload: &[u8], limits: &Limits) -> Result<RestoredValue, CommandError> {
        let (mut rest, check) = payload.split_last_chunk::<4>().ok_or(BAD_PAYLOAD)?;
        if u32::from_le_bytes(*check) as usize != rest.len() {
            return Err(BAD_PAYLOAD);
        }
        let mut parts: Vec<&[u8]> = Vec::new();
        while let Some((len, after)) = rest.split_first_chunk::<4>() {
            let part = after.split_at_checked(u32::from_le_bytes(*len) as usize);
            let (part, after) = part.ok_or(BAD_PAYLOAD)?;
            parts.push(part);
            rest = after;
        }
        let (name, parts) = parts.split_first().ok_or(BAD_PAYLOAD)?;
        build(name, parts, limits).ok_or(BAD_PAYLOAD)
    }
}

fn build(name: &[u8], parts: &[&[u8]], limits: &Limits) -> Option<RestoredValue> {
    let value = match name {
        b"string" => return Some(RestoredValue::String(parts.first()?.to_vec())),
        b"list" => {
            let mut blob = Listpack::new();
            parts.iter().for_each(|part| blob.push_back(part));
            Value::List(List::from_nodes([Node::Packed(blob)], limits).ok()?)
        }
        b"set" => {
            let mut set = Set::new();
            parts.iter().for_each(|part| {
                set.add(part, limits);
            });
            Value::Set(set)
        }
        b"hash" => {
            let mut hash = Hash::new();
            for part in parts.chunks_exact(3) {
                hash.set(part[0], part[1], limits);
                match datatypes::number::parse_i64(part[2])? {
                    0 => {}
                    time => _ = hash.set_expiry(part[0], time, limits),
                }
            }
            Value::Hash(hash)
        }
        b"zset" => {
            let mut set = SortedSet::new();
            for pair in parts.chunks_exact(2) {
                set.insert(pair[0], datatypes::number::parse_f64(pair[1])?, limits);
            }
            Value::SortedSet(set)
        }
        b"stream" => {
            let mut stream = Stream::new();
            let mut rest = parts;
            while let [id, [count], after @ ..] = rest {
                let (pairs, after) = after.split_at_checked(2 * usize::from(*count))?;
                let id = StreamId::from_bytes((*id).try_into().ok()?);
                stream.append(id, pairs.iter().copied(), limits).ok()?;
                rest = after;
            }
            Value::Stream(Box::new(stream))
        }
        _ => return None,
    };
    Some(RestoredValue::Object(Box::new(value)))
}

#[test]
fn replies_are_shown_in_one_line() {
    let check = |reply: &[u8], expected| assert_eq!(show(reply), expected);
    check(b"+OK\r\n:3\r\n-ERR no\r\n", "OK 3 -ERR no");
    check(
        b"*3\r\n$3\r\na\"\n\r\n$-1\r\n*-1\r\n",
        "[\"a\\\"\\n\", nil, nil-array]",
    );
    check(
        b"%1\r\n$1\r\na\r\n~2\r\n,1.5\r\n#t\r\n_\r\n",
        "{\"a\": #{,1.5, true}} nil",
    );
}
