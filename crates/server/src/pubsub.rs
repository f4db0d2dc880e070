//! Channels: which workers have subscribers of what, and how a message gets to them.
//!
//! Who subscribed is known to the worker of the connection alone (`worker::push`); here stands only how
//! many subscribers each worker has. A publisher looks that up, encodes the message once, and posts a
//! reference to it to each of these workers' mailboxes, where it is when PUBLISH replies. So whatever
//! happens after that reply comes behind the message, and what one connection publishes stays in order.
//! There is no thread that all messages pass, and no lock that two messages of different channels share.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, RwLock};

use ahash::RandomState;
use dashmap::DashMap;
use datatypes::glob;
use keyspace::{Lsn, ShardIndex};
use reactor::ConnId;

use crate::shared::Server;
use crate::worker::after::Origin;

/// Bytes of pushes that may wait at a worker before those who cause more are held up.
const BACKLOG_BYTES_MAX: usize = 16 << 20;

/// What is subscribed to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Channel,
    Pattern,
    ShardChannel,
}

impl Kind {
    pub const ALL: [Kind; 3] = [Kind::Channel, Kind::Pattern, Kind::ShardChannel];

    pub fn subscribe_word(self) -> &'static str {
        ["subscribe", "psubscribe", "ssubscribe"][self as usize]
    }

    pub fn unsubscribe_word(self) -> &'static str {
        ["unsubscribe", "punsubscribe", "sunsubscribe"][self as usize]
    }

    fn message_word(self) -> &'static str {
        ["message", "pmessage", "smessage"][self as usize]
    }
}

/// A message of its own accord, for connections of one worker.
pub struct Push {
    pub to: To,
    /// What subscribers get, in RESP2: in RESP3 the first byte is `>`. Or what the addressee takes it for.
    pub frame: Arc<[u8]>,
    /// What it tells of: logs have to be written up to here before it may leave, as for a reply.
    pub shows: Vec<(ShardIndex, Lsn)>,
}

pub enum To {
    /// Those subscribed to the channel or pattern whose name stands here in the frame.
    Subscribers { kind: Kind, name: Range<u32> },
    /// Who read the keys that the frame names, changed by that connection.
    Reader { conn: ConnId, by: Option<Origin> },
    /// Everybody who tracks: nothing of what they have cached is worth anything any more.
    AllReaders,
    /// Whoever hears of all changes; the frame is the key.
    Broadcast { by: Option<Origin> },
    /// Who gets another connection's invalidations; the frame names the keys.
    Redirected { conn: ConnId },
    /// Whoever monitors.
    Monitors,
}

impl Push {
    pub fn weight_bytes(&self) -> usize {
        size_of::<Push>() + self.frame.len()
    }
}

/// How many subscribers workers have, without those that have none.
#[derive(Default)]
struct Audience {
    workers: Vec<(u16, u32)>,
}

impl Audience {
    fn add(&mut self, worker: u16) {
        match self.workers.iter_mut().find(|(at, _)| *at == worker) {
            Some((_, count)) => *count += 1,
            None => self.workers.push((worker, 1)),
        }
    }

    fn remove(&mut self, worker: u16) {
        if let Some(at) = self.workers.iter().position(|(at, _)| *at == worker) {
            self.workers[at].1 -= 1;
            if self.workers[at].1 == 0 {
                self.workers.swap_remove(at);
            }
        }
    }

    fn total(&self) -> u64 {
        self.workers
            .iter()
            .map(|(_, count)| u64::from(*count))
            .sum()
    }
}

struct Pattern {
    text: Arc<[u8]>,
    /// Subscribers by worker.
    workers: Box<[AtomicU32]>,
}

type Patterns = Arc<Vec<Arc<Pattern>>>;
type Channels = DashMap<Arc<[u8]>, Audience, RandomState>;

/// The registry; one for all threads.
pub struct PubSub {
    channels: Channels,
    shard_channels: Channels,
    /// In the order in which they were subscribed to first. Replaced as a whole.
    patterns: RwLock<Patterns>,
    /// Counts replacements, so that a publisher sees at a glance that its copy is old.
    patterns_version: AtomicU64,
    /// Held while patterns are changed.
    by_pattern: Mutex<HashMap<Arc<[u8]>, Arc<Pattern>>>,
    workers: usize,
}

impl PubSub {
    pub fn new(workers: usize) -> PubSub {
        PubSub {
            channels: Channels::default(),
            shard_channels: Channels::default(),
            patterns: RwLock::default(),
            patterns_version: AtomicU64::new(0),
            by_pattern: Mutex::default(),
            workers,
        }
    }

    fn channels(&self, kind: Kind) -> &Channels {
        match kind {
            Kind::ShardChannel => &self.shard_channels,
            Kind::Channel | Kind::Pattern => &self.channels,
        }
    }

    /// Notes one more subscriber at a worker.
    pub fn add(&self, kind: Kind, name: &Arc<[u8]>, worker: usize) {
        if kind != Kind::Pattern {
            let mut audience = self.channels(kind).entry(name.clone()).or_default();
            audience.add(worker as u16);
            return;
        }
        let mut by_pattern = self
            .by_pattern
            .lock()
            .expect("no holder of this lock panics");
        if let Some(pattern) = by_pattern.get(name) {
            pattern.workers[worker].fetch_add(1, Relaxed);
        } else {
            let workers: Box<[AtomicU32]> = (0..self.workers).map(|_| AtomicU32::new(0)).collect();
            workers[worker].store(1, Relaxed);
            let pattern = Arc::new(Pattern {
                text: name.clone(),
                workers,
            });
            by_pattern.insert(name.clone(), pattern.clone());
            self.change_patterns(|patterns| patterns.push(pattern));
        }
    }

    /// Notes one subscriber less at a worker.
    pub fn remove(&self, kind: Kind, name: &Arc<[u8]>, worker: usize) {
        if kind != Kind::Pattern {
            let channels = self.channels(kind);
            if let Some(mut audience) = channels.get_mut(name) {
                audience.remove(worker as u16);
            }
            channels.remove_if(name, |_, audience| audience.workers.is_empty());
            return;
        }
        let mut by_pattern = self
            .by_pattern
            .lock()
            .expect("no holder of this lock panics");
        let Some(pattern) = by_pattern.get(name) else {
            return;
        };
        pattern.workers[worker].fetch_sub(1, Relaxed);
        if pattern.workers.iter().all(|count| count.load(Relaxed) == 0) {
            by_pattern.remove(name);
            self.change_patterns(|patterns| patterns.retain(|pattern| pattern.text != *name));
        }
    }

    fn change_patterns(&self, change: impl FnOnce(&mut Vec<Arc<Pattern>>)) {
        let mut patterns = self
            .patterns
            .write()
            .expect("no holder of this lock panics");
        change(Arc::make_mut(&mut patterns));
        self.patterns_version.fetch_add(1, Release);
    }

    fn patterns(&self) -> Patterns {
        self.patterns
            .read()
            .expect("no holder of this lock panics")
            .clone()
    }

    /// The channels that have subscribers, and whose names match.
    pub fn names(&self, kind: Kind, pattern: Option<&[u8]>) -> Vec<Arc<[u8]>> {
        self.channels(kind)
            .iter()
            .map(|entry| entry.key().clone())
            .filter(|name| pattern.is_none_or(|pattern| glob::matches(pattern, name, false)))
            .collect()
    }

    pub fn subscribers(&self, kind: Kind, name: &[u8]) -> u64 {
        self.channels(kind)
            .get(name)
            .map_or(0, |audience| audience.total())
    }

    /// How many channels or patterns have subscribers.
    pub fn len(&self, kind: Kind) -> usize {
        match kind {
            Kind::Pattern => self.patterns().len(),
            Kind::Channel | Kind::ShardChannel => self.channels(kind).len(),
        }
    }
}

/// What a thread needs to publish; each has its own.
pub struct Publisher {
    patterns: Patterns,
    patterns_version: u64,
    scratch: Vec<u8>,
    /// Workers that were posted to and not woken.
    unwoken: Vec<usize>,
    /// Some worker has more to deliver than it should.
    pub congested: bool,
}

impl Publisher {
    pub fn new() -> Publisher {
        Publisher {
            patterns: Patterns::default(),
            patterns_version: 0,
            scratch: Vec::new(),
            unwoken: Vec::new(),
            congested: false,
        }
    }

    /// Posts a message to the workers of all who get it, and tells how many these are: a client
    /// counts for its channel and for each pattern that matches. Nobody is woken yet.
    pub fn publish(
        &mut self,
        server: &Server,
        kind: Kind,
        channel: &[u8],
        message: &[u8],
        shows: &[(ShardIndex, Lsn)],
    ) -> u64 {
        let pubsub = &server.pubsub;
        let mut receivers = 0;
        if let Some(audience) = pubsub.channels(kind).get(channel) {
            receivers += audience.total();
            let (frame, name) = self.encode(&[kind.message_word().as_bytes(), channel, message]);
            for (worker, _) in &audience.workers {
                let to = To::Subscribers {
                    kind,
                    name: name.clone(),
                };
                self.post(server, usize::from(*worker), to, &frame, shows);
            }
        }
        if kind == Kind::Channel {
            receivers += self.publish_to_patterns(server, channel, message, shows);
        }
        receivers
    }

    fn publish_to_patterns(
        &mut self,
        server: &Server,
        channel: &[u8],
        message: &[u8],
        shows: &[(ShardIndex, Lsn)],
    ) -> u64 {
        let version = server.pubsub.patterns_version.load(Acquire);
        if version != self.patterns_version {
            self.patterns_version = version;
            self.patterns = server.pubsub.patterns();
        }
        let patterns = std::mem::take(&mut self.patterns);
        let mut receivers = 0;
        for pattern in patterns.iter() {
            if !glob::matches(&pattern.text, channel, false) {
                continue;
            }
            let word = Kind::Pattern.message_word().as_bytes();
            let (frame, name) = self.encode(&[word, &pattern.text, channel, message]);
            for (worker, count) in pattern.workers.iter().enumerate() {
                let count = count.load(Relaxed);
                if count > 0 {
                    receivers += u64::from(count);
                    let to = To::Subscribers {
                        kind: Kind::Pattern,
                        name: name.clone(),
                    };
                    self.post(server, worker, to, &frame, shows);
                }
            }
        }
        self.patterns = patterns;
        receivers
    }

    /// An array of bulk strings, and where the second of them stands in it.
    fn encode(&mut self, words: &[&[u8]]) -> (Arc<[u8]>, Range<u32>) {
        self.scratch.clear();
        let mut reply = resp::Reply::new(&mut self.scratch, resp::Protocol::Resp2);
        reply.array(words.len());
        reply.bulk(words[0]);
        reply.bulk(words[1]);
        let end = reply.position() as u32 - 2;
        words[2..].iter().for_each(|word| reply.bulk(word));
        (self.scratch[..].into(), end - words[1].len() as u32..end)
    }

    /// An array of keys.
    pub fn encode_keys<'k>(&mut self, keys: impl ExactSizeIterator<Item = &'k [u8]>) -> Arc<[u8]> {
        self.scratch.clear();
        let mut reply = resp::Reply::new(&mut self.scratch, resp::Protocol::Resp2);
        reply.array(keys.len());
        keys.for_each(|key| reply.bulk(key));
        self.scratch[..].into()
    }

    /// Posts a push to a worker, which is not woken yet.
    pub fn post(
        &mut self,
        server: &Server,
        worker: usize,
        to: To,
        frame: &Arc<[u8]>,
        shows: &[(ShardIndex, Lsn)],
    ) {
        let backlog = server.workers[worker].mailbox.post_push(Push {
            to,
            frame: frame.clone(),
            shows: shows.to_vec(),
        });
        self.congested |= backlog > BACKLOG_BYTES_MAX;
        if !self.unwoken.contains(&worker) {
            self.unwoken.push(worker);
        }
    }

    /// The workers that were posted to since the last call; the caller has to wake them.
    pub fn unwoken(&mut self) -> impl Iterator<Item = usize> + '_ {
        self.unwoken.drain(..)
    }

    pub fn has_posted(&self) -> bool {
        !self.unwoken.is_empty()
    }

    pub fn has_posted_to(&self, worker: usize) -> bool {
        self.unwoken.contains(&worker)
    }
}

/// Whether no worker has more pushes to deliver than is well.
pub fn is_clear(server: &Server) -> bool {
    let mut workers = server.workers.iter();
    workers.all(|worker| worker.mailbox.push_backlog_bytes() <= BACKLOG_BYTES_MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Arc<[u8]> {
        text.as_bytes().into()
    }

    #[test]
    fn counts_subscribers_by_worker() {
        let pubsub = PubSub::new(3);
        for kind in Kind::ALL {
            for worker in [0, 2, 2] {
                pubsub.add(kind, &name("c"), worker);
            }
            assert_eq!(pubsub.len(kind), 1);
        }
        assert_eq!(pubsub.subscribers(Kind::Channel, b"c"), 3);
        assert_eq!(pubsub.names(Kind::ShardChannel, Some(b"x*")).len(), 0);
        pubsub.remove(Kind::Channel, &name("c"), 2);
        assert_eq!(pubsub.subscribers(Kind::Channel, b"c"), 2);
        for kind in Kind::ALL {
            for worker in [0, 2, 2] {
                pubsub.remove(kind, &name("c"), worker);
            }
            assert_eq!(pubsub.len(kind), 0);
        }
    }

    #[test]
    fn a_frame_tells_where_its_name_stands() {
        let (frame, range) = Publisher::new().encode(&[b"message", b"ab", b"x\r\ny"]);
        assert_eq!(
            &frame[..],
            b"*3\r\n$7\r\nmessage\r\n$2\r\nab\r\n$4\r\nx\r\ny\r\n"
        );
        assert_eq!(&frame[range.start as usize..range.end as usize], b"ab");
    }
}
