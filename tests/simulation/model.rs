//! What the commands of the histories do, written once more and simply: the judge of replies and of recovered states.

use std::collections::BTreeMap;

use server::simulation::Dumped;

pub type Name = (u32, Vec<u8>);

/// A key's expiry and value.
pub type Entry = (Option<i64>, Dumped);

/// All keys. Expired ones may still be there, as in the server.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Model(pub BTreeMap<Name, Entry>);

/// What a command did.
#[derive(Default)]
pub struct Outcome {
    pub written: Vec<Name>,
    pub read: Vec<Name>,
    /// The reply, where the model foretells it.
    pub reply: Option<Vec<u8>>,
}

fn integer(n: i64) -> Vec<u8> {
    format!(":{n}\r\n").into_bytes()
}

fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

fn array(items: &[Vec<u8>]) -> Vec<u8> {
    let parts = items.iter().flat_map(|item| bulk(item));
    format!("*{}\r\n", items.len())
        .into_bytes()
        .into_iter()
        .chain(parts)
        .collect()
}

fn ok() -> Vec<u8> {
    b"+OK\r\n".to_vec()
}

const NULL: &[u8] = b"$-1\r\n";

fn number(bytes: &[u8]) -> i64 {
    std::str::from_utf8(bytes)
        .expect("the workload's numbers are ASCII")
        .parse()
        .expect("and numbers")
}

impl Model {
    pub fn get(&self, name: &Name, now: i64) -> Option<&Entry> {
        self.0
            .get(name)
            .filter(|(expire_at, _)| expire_at.is_none_or(|at| at > now))
    }

    /// The value, removed for a change; without its expiry having passed.
    fn take(&mut self, name: &Name, now: i64) -> Option<Entry> {
        let entry = self.0.remove(name)?;
        entry.0.is_none_or(|at| at > now).then_some(entry)
    }

    /// Runs a command that succeeded on the server. `reply` is what it said, for commands whose effect is chance.
    pub fn run(&mut self, now: i64, db: u32, argv: &[Vec<u8>], reply: &[u8]) -> Outcome {
        let name = |index: usize| (db, argv[index].clone());
        let command = String::from_utf8_lossy(&argv[0]).to_ascii_lowercase();
        match command.as_str() {
            "get" | "lrange" | "scard" | "hget" | "zscore" => {
                self.read(now, name(1), &command, argv)
            }
            "mget" => {
                let read: Vec<Name> = (1..argv.len()).map(name).collect();
                Outcome {
                    read,
                    ..Outcome::default()
                }
            }
            "set" => {
                let expire_at = argv.get(4).map(|ms| now + number(ms));
                self.0
                    .insert(name(1), (expire_at, Dumped::String(argv[2].clone())));
                Outcome::of(name(1), Some(ok()))
            }
            "mset" => {
                let written: Vec<Name> = (1..argv.len()).step_by(2).map(name).collect();
                for (index, name) in written.iter().enumerate() {
                    let value = argv[2 * index + 2].clone();
                    self.0.insert(name.clone(), (None, Dumped::String(value)));
                }
                Outcome {
                    written,
                    reply: Some(ok()),
                    ..Outcome::default()
                }
            }
            "del" => {
                let written: Vec<Name> = (1..argv.len()).map(name).collect();
                let removed = written.iter().filter(|name| self.take(name, now).is_some());
                let reply = integer(removed.count() as i64);
                Outcome {
                    written,
                    reply: Some(reply),
                    ..Outcome::default()
                }
            }
            "rename" => {
                let entry = self.take(&name(1), now).expect("the server found it");
                self.0.insert(name(2), entry);
                Outcome {
                    written: vec![name(1), name(2)],
                    reply: Some(ok()),
                    ..Outcome::default()
                }
            }
            "pexpire" => {
                let at = now + number(&argv[2]);
                let found = self.take(&name(1), now);
                let reply = integer(i64::from(found.is_some()));
                if let Some((_, value)) = found.filter(|_| at > now) {
                    self.0.insert(name(1), (Some(at), value));
                }
                Outcome::of(name(1), Some(reply))
            }
            "persist" => {
                let found = self.take(&name(1), now);
                let reply = integer(i64::from(
                    found.as_ref().is_some_and(|(at, _)| at.is_some()),
                ));
                if let Some((_, value)) = found {
                    self.0.insert(name(1), (None, value));
                }
                Outcome::of(name(1), Some(reply))
            }
            "flushall" => {
                let written = self.0.keys().cloned().collect();
                self.0.clear();
                Outcome {
                    written,
                    reply: Some(ok()),
                    ..Outcome::default()
                }
            }
            _ => self.change(now, name(1), &command, argv, reply),
        }
    }

    fn read(&self, now: i64, name: Name, command: &str, argv: &[Vec<u8>]) -> Outcome {
        let value = self.get(&name, now).map(|(_, value)| value);
        let reply = match (command, value) {
            ("get", Some(Dumped::String(value))) => bulk(value),
            ("get" | "hget" | "zscore", None) => NULL.to_vec(),
            ("lrange", Some(Dumped::List(items))) => array(items),
            ("lrange", None) => array(&[]),
            ("scard", Some(Dumped::Set(members))) => integer(members.len() as i64),
            ("scard", None) => integer(0),
            ("hget", Some(Dumped::Hash(fields))) => {
                let found = fields.iter().find(|(field, _)| *field == argv[2]);
                found.map_or(NULL.to_vec(), |(_, value)| bulk(value))
            }
            ("zscore", Some(Dumped::SortedSet(members))) => {
                let found = members.iter().find(|(member, _)| *member == argv[2]);
                found.map_or(NULL.to_vec(), |(_, score)| {
                    bulk(f64::from_bits(*score).to_string().as_bytes())
                })
            }
            (_, value) => panic!("{command} succeeded on {value:?}"),
        };
        Outcome {
            read: vec![name],
            reply: Some(reply),
            ..Outcome::default()
        }
    }

    /// Commands that change a value of their own type in place.
    fn change(
        &mut self,
        now: i64,
        name: Name,
        command: &str,
        argv: &[Vec<u8>],
        reply: &[u8],
    ) -> Outcome {
        let (expire_at, value) = match self.take(&name, now) {
            Some((expire_at, value)) => (expire_at, Some(value)),
            None => (None, None),
        };
        let rest = &argv[2..];
        let (value, reply) = match command {
            "append" => {
                let mut text = string(value).unwrap_or_default();
                text.extend_from_slice(&rest[0]);
                let len = text.len();
                (Some(Dumped::String(text)), integer(len as i64))
            }
            "incrby" => {
                let before = string(value).map_or(0, |text| number(&text));
                let after = before + number(&rest[0]);
                (
                    Some(Dumped::String(after.to_string().into_bytes())),
                    integer(after),
                )
            }
            "lpush" | "rpush" => {
                let mut items = list(value);
                for item in rest {
                    let at = if command == "lpush" { 0 } else { items.len() };
                    items.insert(at, item.clone());
                }
                let len = items.len();
                (Some(Dumped::List(items)), integer(len as i64))
            }
            "lpop" => {
                let mut items = list(value);
                let reply = match items.is_empty() {
                    true => NULL.to_vec(),
                    false => bulk(&items.remove(0)),
                };
                ((!items.is_empty()).then_some(Dumped::List(items)), reply)
            }
            "sadd" | "srem" | "spop" => set_changed(value, command, rest, reply),
            "hset" => {
                let mut fields = match value {
                    Some(Dumped::Hash(fields)) => fields,
                    _ => Vec::new(),
                };
                let before = fields.len();
                fields.retain(|(field, _)| *field != rest[0]);
                let added = i64::from(fields.len() == before);
                fields.push((rest[0].clone(), rest[1].clone()));
                fields.sort_unstable();
                (Some(Dumped::Hash(fields)), integer(added))
            }
            "zadd" => {
                let mut members = match value {
                    Some(Dumped::SortedSet(members)) => members,
                    _ => Vec::new(),
                };
                let before = members.len();
                members.retain(|(member, _)| *member != rest[1]);
                let added = i64::from(members.len() == before);
                members.push((rest[1].clone(), (number(&rest[0]) as f64).to_bits()));
                members.sort_unstable();
                (Some(Dumped::SortedSet(members)), integer(added))
            }
            _ => panic!("the model does not know {command}"),
        };
        if let Some(value) = value {
            self.0.insert(name.clone(), (expire_at, value));
        }
        Outcome::of(name, Some(reply))
    }
}

impl Outcome {
    fn of(name: Name, reply: Option<Vec<u8>>) -> Outcome {
        Outcome {
            written: vec![name],
            read: Vec::new(),
            reply,
        }
    }
}

fn string(value: Option<Dumped>) -> Option<Vec<u8>> {
    match value? {
        Dumped::String(text) => Some(text),
        other => panic!("a string command succeeded on {other:?}"),
    }
}

fn list(value: Option<Dumped>) -> Vec<Vec<u8>> {
    match value {
        None => Vec::new(),
        Some(Dumped::List(items)) => items,
        Some(other) => panic!("a list command succeeded on {other:?}"),
    }
}

fn set_changed(
    value: Option<Dumped>,
    command: &str,
    rest: &[Vec<u8>],
    reply: &[u8],
) -> (Option<Dumped>, Vec<u8>) {
    let mut members = match value {
        None => Vec::new(),
        Some(Dumped::Set(members)) => members,
        Some(other) => panic!("a set command succeeded on {other:?}"),
    };
    let before = members.len();
    let reply = match command {
        "spop" if before == 0 => NULL.to_vec(),
        "spop" => {
            // Which one is the server's choice.
            let popped = members.iter().position(|member| bulk(member) == reply);
            members.remove(popped.unwrap_or_else(|| {
                panic!("SPOP gave what was not there: {}", reply.escape_ascii())
            }));
            reply.to_vec()
        }
        "srem" => {
            members.retain(|member| !rest.contains(member));
            integer((before - members.len()) as i64)
        }
        _ => {
            for member in rest {
                if !members.contains(member) {
                    members.push(member.clone());
                }
            }
            members.sort_unstable();
            integer((members.len() - before) as i64)
        }
    };
    ((!members.is_empty()).then_some(Dumped::Set(members)), reply)
}
