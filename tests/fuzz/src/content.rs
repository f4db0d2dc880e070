//! Values as plain data, to be compared: what a collection holds, whatever its encoding.

use datatypes::{Element, Stream, StreamId, Value};
use keyspace::{Entry, NewValue, StringRef, UnixMillis, ValueRef};
use persistence::aof::recover::ReplaySink;
use persistence::aof::replay::CommandReceiver;
use persistence::rdb::load::{KeyReceiver, LoadSink, LoadedKey};
use std::collections::BTreeMap;
use std::sync::Mutex;

pub type Bytes = Vec<u8>;

/// What a key holds. Sets, hashes and sorted sets are sorted by member: their order in memory means nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    String(Bytes),
    List(Vec<Bytes>),
    Set(Vec<Bytes>),
    Hash(Vec<(Bytes, Bytes)>),
    SortedSet(Vec<(Bytes, f64)>),
    /// Its entries, and everything else that it has as text.
    Stream(Vec<(StreamId, Vec<Bytes>)>, String),
}

/// Fields and values of an entry, in turns.
pub fn fields(entry: &datatypes::stream::Entry<'_>) -> Vec<Bytes> {
    let fields = entry.fields();
    fields.flat_map(|(f, v)| [f.to_vec(), v.to_vec()]).collect()
}

fn history(stream: &Stream) -> String {
    let mut shown = format!(
        "{} {} {} {}",
        stream.first_id(),
        stream.last_id,
        stream.max_deleted_id,
        stream.entries_added
    );
    for (name, group) in &stream.groups {
        shown += &format!(" {name:?} {} {:?}", group.last_id, group.entries_read);
        for consumer in group.consumers() {
            let (seen, active) = (consumer.seen_at, consumer.active_at);
            shown += &format!(" {:?} {seen} {active:?}", consumer.name());
            for &id in consumer.pending() {
                let pending = group.pending(id).expect("both lists agree");
                let (at, count) = (pending.delivered_at, pending.deliveries);
                shown += &format!(" {id} {at} {count}");
            }
        }
    }
    shown
}

fn sorted<T: PartialOrd>(mut items: Vec<T>) -> Vec<T> {
    items.sort_by(|a, b| a.partial_cmp(b).expect("no score is NaN"));
    items
}

impl Content {
    pub fn of(value: ValueRef<'_>) -> Content {
        match value {
            ValueRef::String(StringRef::Bytes(bytes)) => Content::String(bytes.to_vec()),
            ValueRef::String(StringRef::Int(n)) => Content::String(Element::Int(n).to_vec()),
            ValueRef::Object(value) => Content::of_value(value),
        }
    }

    pub fn of_value(value: &Value) -> Content {
        match value {
            Value::List(list) => Content::List(list.iter().map(|e| e.to_vec()).collect()),
            Value::Set(set) => Content::Set(sorted(set.iter().map(|e| e.to_vec()).collect())),
            Value::Hash(hash) => Content::Hash(sorted(
                hash.iter().map(|(f, v)| (f.to_vec(), v.to_vec())).collect(),
            )),
            Value::SortedSet(zset) => {
                Content::SortedSet(sorted(zset.iter().map(|(m, s)| (m.to_vec(), s)).collect()))
            }
            Value::Stream(stream) => Content::Stream(
                stream.iter().map(|e| (e.id, fields(&e))).collect(),
                history(stream),
            ),
        }
    }
}

/// The value as a key holds it.
pub fn entry(value: NewValue<'_>, expire_at: Option<UnixMillis>) -> Entry {
    Entry::new(b"key", value, expire_at)
}

pub type Keys = BTreeMap<(u32, Bytes), (Option<i64>, Content)>;

/// A command that a file holds: its database and its words.
pub type Command = (u32, Vec<Bytes>);

/// Takes what a file holds. A key twice is an error, as it is to the server.
#[derive(Default)]
pub struct Collected {
    pub keys: Mutex<Keys>,
    pub commands: Mutex<Vec<Command>>,
}

struct Receiver<'a>(&'a Collected);

impl Collected {
    pub fn into_keys(self) -> Keys {
        self.keys
            .into_inner()
            .expect("no target goes on after a panic")
    }

    /// Sorted: files that run at once come in no order.
    pub fn into_commands(self) -> Vec<Command> {
        let commands = self.commands.into_inner();
        sorted(commands.expect("no target goes on after a panic"))
    }
}

impl KeyReceiver for Receiver<'_> {
    fn key(&mut self, key: LoadedKey<'_>) -> Result<(), String> {
        let entry = entry(key.value, key.expire_at);
        let content = Content::of(entry.as_ref().value());
        let expire_at = entry.as_ref().expire_at().map(|at| at.0);
        let mut keys = self.0.keys.lock().expect("no target goes on after a panic");
        match keys.insert((key.db.0, key.key.to_vec()), (expire_at, content)) {
            None => Ok(()),
            Some(_) => Err("a key twice".into()),
        }
    }

    fn finish(&mut self) -> Result<(), String> {
        Ok(())
    }
}

impl CommandReceiver for Receiver<'_> {
    fn command(&mut self, db: keyspace::DbIndex, argv: &[&[u8]]) -> Result<(), String> {
        let words = argv.iter().map(|word| word.to_vec()).collect();
        let mut commands = self
            .0
            .commands
            .lock()
            .expect("no target goes on after a panic");
        commands.push((db.0, words));
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        Ok(())
    }
}

impl LoadSink for Collected {
    fn key_receiver(&self) -> Box<dyn KeyReceiver + '_> {
        Box::new(Receiver(self))
    }
}

impl ReplaySink for Collected {
    fn command_receiver(&self) -> Box<dyn CommandReceiver + '_> {
        Box::new(Receiver(self))
    }
}
