//! A keyspace of shards for tests: source of snapshots, sink of loads, digest by content.

// Each test program uses a part of it.
#![allow(dead_code)]

pub mod segments;

use datatypes::{Element, Value};
use keyspace::{Db, DbIndex, Entry, EntryRef, Key, NewValue, SlotMap, UnixMillis, ValueRef};
use persistence::rdb::load::{KeyReceiver, LoadSink, LoadedKey};
use persistence::rdb::snapshot::{OnKey, SnapshotSource};
use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;

pub const DATABASES: usize = 16;

pub struct Store {
    pub slots: SlotMap,
    pub shards: Vec<Mutex<Vec<Db>>>,
    /// The codes of libraries, in the order of the file.
    pub functions: Mutex<Vec<Vec<u8>>>,
}

impl Store {
    pub fn new(shards: usize) -> Store {
        let dbs = || Mutex::new((0..DATABASES).map(|_| Db::default()).collect());
        Store {
            slots: SlotMap::new(shards as u16),
            shards: (0..shards).map(|_| dbs()).collect(),
            functions: Mutex::default(),
        }
    }

    pub fn key<'k>(&self, key: &'k [u8]) -> Key<'k> {
        Key::new(key, &self.slots)
    }

    pub fn put(&self, db: u32, key: &[u8], value: NewValue<'_>, expire_at: Option<UnixMillis>) {
        let shard = self.slots.shard_of(key);
        let mut dbs = self.shards[shard.0 as usize].lock().unwrap();
        dbs[db as usize].insert(Entry::new(key, value, expire_at));
    }

    /// Everything in it as text that two equal keyspaces share.
    pub fn contents(&self) -> BTreeMap<(usize, Vec<u8>), String> {
        let mut all = BTreeMap::new();
        for shard in &self.shards {
            for (db, keys) in shard.lock().unwrap().iter().enumerate() {
                for entry in keys.iter() {
                    all.insert((db, entry.key().to_vec()), describe(entry));
                }
            }
        }
        all
    }
}

fn text(element: Element<'_>) -> String {
    element.to_vec().escape_ascii().to_string()
}

fn describe(entry: EntryRef<'_>) -> String {
    let value = match entry.value() {
        ValueRef::String(s) => format!(
            "{:?}",
            s.bytes(&mut itoa::Buffer::new()).escape_ascii().to_string()
        ),
        ValueRef::Object(Value::List(list)) => {
            format!("{:?}", list.iter().map(text).collect::<Vec<_>>())
        }
        ValueRef::Object(Value::Set(set)) => {
            let mut members: Vec<_> = set.iter().map(text).collect();
            members.sort();
            format!("{members:?}")
        }
        ValueRef::Object(Value::Hash(hash)) => {
            let until = |field: Element<'_>| match hash.expiry_of(&field.to_vec()) {
                Some(time) => format!(" until {time}"),
                None => String::new(),
            };
            let fields = hash.iter().map(|(f, v)| (text(f), text(v) + &until(f)));
            format!("{:?}", fields.collect::<BTreeMap<_, _>>())
        }
        ValueRef::Object(Value::SortedSet(zset)) => {
            format!(
                "{:?}",
                zset.iter().map(|(m, s)| (text(m), s)).collect::<Vec<_>>()
            )
        }
        ValueRef::Object(Value::Stream(stream)) => describe_stream(stream),
    };
    format!(
        "{} {:?} {value}",
        entry.encoding_name(),
        entry.expire_at().map(|at| at.0)
    )
}

impl SnapshotSource for Store {
    fn shard_count(&self) -> usize {
        self.shards.len()
    }

    fn for_each_key(&self, shard: usize, on_key: &mut OnKey<'_>) -> io::Result<()> {
        for (db, keys) in self.shards[shard].lock().unwrap().iter().enumerate() {
            for entry in keys.iter() {
                on_key(
                    DbIndex(db as u32),
                    entry.key(),
                    entry.expire_at(),
                    entry.value(),
                )?;
            }
        }
        Ok(())
    }

    fn db_sizes(&self) -> Vec<(DbIndex, u64, u64)> {
        (0..DATABASES)
            .map(|db| {
                let sum = |f: &dyn Fn(&Db) -> usize| {
                    self.shards
                        .iter()
                        .map(|shard| f(&shard.lock().unwrap()[db]) as u64)
                        .sum::<u64>()
                };
                (DbIndex(db as u32), sum(&Db::len), sum(&Db::expires_len))
            })
            .collect()
    }
}

struct Receiver<'a> {
    store: &'a Store,
    batches: Vec<Vec<(DbIndex, Entry)>>,
}

const BATCH: usize = 512;

impl Receiver<'_> {
    fn flush(&mut self, shard: usize) -> Result<(), String> {
        let mut dbs = self.store.shards[shard].lock().unwrap();
        for (db, entry) in self.batches[shard].drain(..) {
            if dbs[db.0 as usize]
                .find(self.store.key(entry.as_ref().key()))
                .is_some()
            {
                return Err("a key twice".into());
            }
            dbs[db.0 as usize].insert(entry);
        }
        Ok(())
    }
}

impl KeyReceiver for Receiver<'_> {
    fn key(&mut self, key: LoadedKey<'_>) -> Result<(), String> {
        let shard = self.store.slots.shard_of(key.key).0 as usize;
        self.batches[shard].push((key.db, Entry::new(key.key, key.value, key.expire_at)));
        if self.batches[shard].len() >= BATCH {
            self.flush(shard)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), String> {
        (0..self.batches.len()).try_for_each(|shard| self.flush(shard))
    }
}

impl LoadSink for Store {
    fn function(&self, code: &[u8]) -> Result<(), String> {
        self.functions.lock().unwrap().push(code.to_vec());
        Ok(())
    }

    fn key_receiver(&self) -> Box<dyn KeyReceiver + '_> {
        let batches = self
            .shards
            .iter()
            .map(|_| Vec::with_capacity(BATCH))
            .collect();
        Box::new(Receiver {
            store: self,
            batches,
        })
    }
}

/// Everything a stream has.
fn describe_stream(stream: &datatypes::Stream) -> String {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let mut lines = vec![format!(
        "{} {} {} {}",
        stream.first_id(),
        stream.last_id,
        stream.max_deleted_id,
        stream.entries_added
    )];
    for (id, pack) in stream.nodes() {
        lines.push(format!("{id} {}", text(pack.as_bytes())));
    }
    for (name, group) in &stream.groups {
        lines.push(format!(
            "{} {} {:?}",
            text(name),
            group.last_id,
            group.entries_read
        ));
        for consumer in group.consumers() {
            let (seen, active) = (consumer.seen_at, consumer.active_at);
            lines.push(format!("{} {seen} {active:?}", text(consumer.name())));
            let pending = consumer
                .pending()
                .iter()
                .map(|&id| (id, group.pending(id).copied()));
            lines.extend(pending.map(|pending| format!("{pending:?}")));
        }
    }
    lines.join("; ")
}
