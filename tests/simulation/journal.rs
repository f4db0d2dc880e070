//! What happened since the last start, and whether a recovered state is one that it may be.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use keyspace::SlotMap;

use crate::client::{Reply, Request};
use crate::model::{Entry, Model, Name};
use crate::recorder::Ran;

/// `appendfsync`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    Always,
    EverySecond,
    No,
}

/// Commands that take effect together: one, or a transaction.
#[derive(Clone, Debug)]
pub struct Unit {
    pub ran: Vec<Ran>,
    /// In force when it ran.
    pub policy: Policy,
    /// When its reply was seen, in simulated milliseconds, and what was in force then.
    pub acknowledged: Option<(u64, Policy)>,
}

/// What is promised of a recovered state.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    pub kind: Kind,
    /// Whether all that was acknowledged must be there...
    pub all: bool,
    /// ...and all that it showed, but for reads after this moment, from which on the AOF could not be written...
    pub failing_since: Option<u64>,
    /// ...or all that was under `always`...
    pub always: bool,
    /// ...and what was acknowledged until then under `everysec`.
    pub everysec_until: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// All that ran.
    Everything,
    /// The state after some prefix of all units.
    Prefix,
    /// For each shard the state after some prefix, with units of several shards whole or not at all.
    PrefixOfEachShard,
}

/// One life of the server: from a start to the next.
#[derive(Clone)]
pub struct Life {
    pub base: Model,
    pub slots: SlotMap,
    pub units: Vec<Unit>,
    /// This many units are in a base that is in force.
    pub floor: usize,
}

pub struct Journal {
    pub life: Life,
    pub past: Vec<Life>,
    /// The units of each client whose replies were not seen yet.
    unseen: HashMap<usize, VecDeque<usize>>,
    /// The states that snapshots were taken of and that were put in force, and perhaps not yet durably so.
    pub saves: Vec<Model>,
    /// The last of them that the server said is saved.
    pub saved: usize,
    pub acknowledged: u64,
}

fn is_refusal(reply: &[u8]) -> bool {
    [
        b"-MISCONF".as_slice(),
        b"-LOADING",
        b"-EXECABORT",
        b"-ERR max number",
    ]
    .iter()
    .any(|text| reply.starts_with(text))
}

impl Journal {
    pub fn new(shards: u16) -> Journal {
        Journal {
            life: Life::new(Model::default(), shards),
            past: Vec::new(),
            unseen: HashMap::new(),
            saves: vec![Model::default()],
            saved: 0,
            acknowledged: 0,
        }
    }

    /// Goes on from a recovered state.
    pub fn begin_life(&mut self, base: Model, shards: u16) {
        let before = std::mem::replace(&mut self.life, Life::new(base, shards));
        self.past.push(before);
        self.unseen.clear();
    }

    /// Takes in what ran.
    pub fn ran(&mut self, ran: Vec<Ran>, policy: Policy) {
        for ran in ran {
            let same = |unit: &&mut Unit| {
                ran.transaction.is_some() && unit.ran[0].transaction == ran.transaction
            };
            if let Some(unit) = self.life.units.last_mut().filter(same) {
                unit.ran.push(ran);
                continue;
            }
            let unseen = self.unseen.entry(ran.client).or_default();
            unseen.push_back(self.life.units.len());
            self.life.units.push(Unit {
                ran: vec![ran],
                policy,
                acknowledged: None,
            });
        }
    }

    /// Takes in a reply that a client has seen.
    pub fn seen(
        &mut self,
        client: usize,
        reply: &Reply,
        now: u64,
        policy: Policy,
    ) -> Result<(), String> {
        if reply.to == Request::Other || is_refusal(&reply.bytes) {
            return Ok(());
        }
        let unseen = self.unseen.entry(client).or_default();
        let unit = unseen
            .pop_front()
            .ok_or_else(|| format!("`{}` was replied to but did not run", reply.command))?;
        let unit = &mut self.life.units[unit];
        let head = match reply.to {
            Request::Exec(_) => format!("*{}\r\n", unit.ran.len()).into_bytes(),
            _ => Vec::new(),
        };
        let replies = unit.ran.iter().flat_map(|ran| &ran.reply);
        let expected: Vec<u8> = head.iter().chain(replies).copied().collect();
        if expected != reply.bytes {
            return Err(format!(
                "client {client} got {} to `{}`, which gave {}",
                reply.bytes.escape_ascii(),
                reply.command,
                expected.escape_ascii()
            ));
        }
        unit.acknowledged = Some((now, policy));
        self.acknowledged += 1;
        Ok(())
    }

    /// The state after all that ran.
    pub fn state(&self) -> Result<Model, String> {
        self.life.state_after(self.life.units.len())
    }
}

/// The keys that have not expired.
pub fn unexpired(model: &Model, now: i64) -> BTreeMap<&Name, &Entry> {
    model
        .0
        .iter()
        .filter(|(_, (expire_at, _))| expire_at.is_none_or(|at| at > now))
        .collect()
}

/// Where two states differ.
pub fn difference(expected: &Model, found: &Model, now: i64) -> Option<String> {
    let (expected, found) = (unexpired(expected, now), unexpired(found, now));
    let names = expected.keys().chain(found.keys());
    let mut lines = Vec::new();
    for name in names.collect::<std::collections::BTreeSet<_>>() {
        let (a, b) = (expected.get(name), found.get(name));
        if a != b {
            let key = name.1.escape_ascii();
            lines.push(format!(
                "{}/{key}: expected {}, found {}",
                name.0,
                shown(a),
                shown(b)
            ));
        }
    }
    (!lines.is_empty()).then(|| lines.join("\n  "))
}

fn shown(entry: Option<&&Entry>) -> String {
    let Some((expire_at, value)) = entry else {
        return "nothing".into();
    };
    use server::simulation::Dumped;
    let text = |bytes: &Vec<u8>| bytes.escape_ascii().to_string();
    let value = match value {
        Dumped::String(bytes) => text(bytes),
        Dumped::List(items) | Dumped::Set(items) => {
            format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(" "))
        }
        other => format!("{other:?}"),
    };
    let mut value: String = value.chars().take(200).collect();
    if let Some(at) = expire_at {
        value += &format!(" until {at}");
    }
    value
}

fn hash_of(name: &Name, entry: &Entry) -> u64 {
    let mut hasher = DefaultHasher::new();
    (name, entry).hash(&mut hasher);
    hasher.finish()
}

impl Life {
    fn new(base: Model, shards: u16) -> Life {
        Life {
            base,
            slots: SlotMap::new(shards),
            units: Vec::new(),
            floor: 0,
        }
    }

    pub fn state_after(&self, count: usize) -> Result<Model, String> {
        let mut model = self.base.clone();
        for unit in &self.units[..count] {
            run(&mut model, unit)?;
        }
        Ok(model)
    }

    /// Whether `found`, the state recovered at `now`, keeps the promise; where not, why. Gives how many units of each
    /// shard it has.
    pub fn check(&self, found: &Model, now: i64, promise: Promise) -> Result<Vec<usize>, String> {
        let shards = usize::from(self.slots.shards());
        let count = self.units.len();
        let replay = Replay::of(self, found, now, promise)?;
        let Replay {
            matches,
            written_in,
            bounds,
        } = replay;
        let fits = |prefix: usize| (0..shards).all(|shard| matches[shard][prefix]);
        let bound = bounds.iter().copied().max().unwrap_or(0);
        let complain = |text: String| -> Result<Vec<usize>, String> {
            let nearest = self.describe(found, now, bound.max(1));
            Err(format!("{text}\n{nearest}"))
        };
        match promise.kind {
            Kind::Everything if fits(count) => Ok(vec![count; shards]),
            Kind::Everything => {
                let differs = difference(&self.state_after(count)?, found, now);
                Err(format!("not everything is there:\n  {}", differs.unwrap_or_default()))
            }
            Kind::Prefix => match (bound..=count).rev().find(|prefix| fits(*prefix)) {
                Some(prefix) => Ok(vec![prefix; shards]),
                None => match (0..bound).rev().find(|prefix| fits(*prefix)) {
                    Some(prefix) => complain(format!(
                        "the state after {prefix} of {count} units, but {bound} were promised"
                    )),
                    None => complain("the state after no prefix of what ran".into()),
                },
            },
            Kind::PrefixOfEachShard => {
                match greatest_cut(&matches, &written_in) {
                    None => complain("no prefix of each shard with whole transactions".into()),
                    Some(cut) => match (0..shards).find(|&shard| cut[shard] < bounds[shard]) {
                        None => Ok(cut),
                        Some(shard) => complain(format!(
                            "shard {shard} has {} of {count} units, but {} were promised (cut {cut:?}, bounds {bounds:?})",
                            cut[shard], bounds[shard]
                        )),
                    },
                }
            }
        }
    }

    /// What is different after all units, and what the last promised ones were.
    fn describe(&self, found: &Model, now: i64, bound: usize) -> String {
        let mut text = String::new();
        for (index, unit) in self.units.iter().enumerate() {
            for ran in &unit.ran {
                let argv: Vec<String> = ran
                    .argv
                    .iter()
                    .map(|arg| arg.escape_ascii().to_string())
                    .collect();
                text += &format!(
                    "  {}{} client {} db {} at {}: {} -> {} {:?}\n",
                    index + 1,
                    if index + 1 == bound { "*" } else { "" },
                    ran.client,
                    ran.db,
                    ran.now,
                    argv.join(" "),
                    ran.reply.escape_ascii(),
                    (unit.policy, unit.acknowledged)
                );
            }
        }
        let all = self.state_after(self.units.len());
        let differs = all.map(|all| difference(&all, found, now).unwrap_or_default());
        format!(
            "{text}against all that ran:\n  {}",
            differs.unwrap_or_else(|error| error)
        )
    }
}

fn run(model: &mut Model, unit: &Unit) -> Result<Vec<crate::model::Outcome>, String> {
    let mut outcomes = Vec::new();
    for ran in unit.ran.iter().filter(|ran| ran.succeeded) {
        let outcome = model.run(ran.now, ran.db, &ran.argv, &ran.reply);
        if let Some(reply) = outcome.reply.as_ref().filter(|reply| **reply != ran.reply) {
            return Err(format!(
                "`{}` gave {}, expected {}",
                ran.argv.join(&b' ').escape_ascii(),
                ran.reply.escape_ascii(),
                reply.escape_ascii()
            ));
        }
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

/// All prefixes of a life beside a state.
struct Replay {
    /// By shard and length of prefix: whether the shard's part of the state is the one after that prefix.
    matches: Vec<Vec<bool>>,
    /// By unit: the shards it wrote in.
    written_in: Vec<Vec<usize>>,
    /// By shard: how long the prefix must be at least.
    bounds: Vec<usize>,
}

impl Replay {
    fn of(life: &Life, found: &Model, now: i64, promise: Promise) -> Result<Replay, String> {
        let shards = usize::from(life.slots.shards());
        let shard_of = |name: &Name| usize::from(life.slots.shard_of(&name.1).0);
        let sums = |model: &Model| {
            let mut sums = vec![0u64; shards];
            for (name, entry) in unexpired(model, now) {
                let sum = &mut sums[shard_of(name)];
                *sum = sum.wrapping_add(hash_of(name, entry));
            }
            sums
        };
        let wanted = sums(found);
        let mut model = life.base.clone();
        let mut present = sums(&model);
        let mut matches: Vec<Vec<bool>> = (0..shards)
            .map(|shard| vec![present[shard] == wanted[shard]])
            .collect();
        let mut written_in = Vec::new();
        let mut bounds = vec![life.floor; shards];
        let mut last_write: HashMap<Name, usize> = HashMap::new();
        for (index, unit) in life.units.iter().enumerate() {
            let before = model.clone();
            let mut touched = std::collections::BTreeSet::new();
            let mut read = Vec::new();
            for outcome in run(&mut model, unit)? {
                touched.extend(outcome.written);
                read.extend(outcome.read);
            }
            let mut here: Vec<usize> = Vec::new();
            for name in &touched {
                let shard = shard_of(name);
                let hash = |model: &Model| {
                    let entry = model.get(name, now);
                    entry.map_or(0, |entry| hash_of(name, entry))
                };
                present[shard] = present[shard]
                    .wrapping_sub(hash(&before))
                    .wrapping_add(hash(&model));
                // A write that changed nothing is not in the log, nor one that removed what had expired.
                let then = unit.ran[0].now;
                if before.get(name, then) != model.get(name, then) {
                    last_write.insert(name.clone(), index + 1);
                    if !here.contains(&shard) {
                        here.push(shard);
                    }
                }
            }
            written_in.push(here);
            for (shard, matches) in matches.iter_mut().enumerate() {
                matches.push(present[shard] == wanted[shard]);
            }
            let due = promised(unit, promise);
            for name in touched.iter().chain(&read) {
                let Some(&write) = last_write.get(name) else {
                    continue;
                };
                if due.shown || (due.own && write == index + 1) {
                    let bound = &mut bounds[shard_of(name)];
                    *bound = (*bound).max(write);
                }
            }
        }
        Ok(Replay {
            matches,
            written_in,
            bounds,
        })
    }
}

/// What must be there because a unit was acknowledged.
#[derive(Default)]
struct Due {
    /// What it changed.
    own: bool,
    /// What it showed as well, whoever wrote that, and under whatever policy.
    shown: bool,
}

fn promised(unit: &Unit, promise: Promise) -> Due {
    let Some((at, policy)) = unit.acknowledged else {
        return Due::default();
    };
    let always = unit.policy == Policy::Always && policy == Policy::Always && promise.always;
    let everysec = |until| policy != Policy::No && unit.policy != Policy::No && at <= until;
    let everysec = promise.everysec_until.is_some_and(everysec);
    let unwritten = promise.failing_since.is_some_and(|since| at >= since);
    Due {
        own: promise.all || everysec || always,
        shown: (promise.all && !unwritten) || everysec || always,
    }
}

/// The longest prefixes of all shards that fit and in which every unit of several shards is whole or absent.
fn greatest_cut(matches: &[Vec<bool>], written_in: &[Vec<usize>]) -> Option<Vec<usize>> {
    let longest =
        |shard: usize, below: usize| (0..below).rev().find(|&prefix| matches[shard][prefix]);
    let mut cut: Vec<usize> = (0..matches.len())
        .map(|shard| longest(shard, written_in.len() + 1))
        .collect::<Option<_>>()?;
    loop {
        let mut changed = false;
        for (index, shards) in written_in.iter().enumerate() {
            if shards.iter().all(|&shard| cut[shard] > index) {
                continue;
            }
            for &shard in shards {
                if cut[shard] > index {
                    cut[shard] = longest(shard, index + 1)?;
                    changed = true;
                }
            }
        }
        if !changed {
            return Some(cut);
        }
    }
}
