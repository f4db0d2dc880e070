//! What other threads tell a worker.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use keyspace::inbox::Inbox;
use reactor::{ConnId, Notifier, Stream};

use super::posted::Reply;
use crate::acl::User;
use crate::pubsub::Push;
use crate::session::config::ConfigChange;

pub enum Message {
    /// A connection to serve from now on.
    Connection { stream: Stream, tag: u32 },
    /// The reply to a command that was posted to a shard's inbox.
    Reply(Reply),
    /// The reply to a request of a connection to the coordinator.
    CoordinatorReply { conn: ConnId, reply: Vec<u8> },
    /// End a connection's wait, by CLIENT UNBLOCK, which has taken its claim: with an error, or as if
    /// its time were over.
    Unblock { conn: ConnId, with_error: bool },
    /// Something is due in this worker's home shard: see [`after`](super::after).
    AfterDue,
    /// A user has changed: disconnect those of its connections that are subscribed to what it may
    /// no longer receive.
    CheckChannels(Arc<User>),
    /// Disconnect a client, by CLIENT KILL.
    Kill(ConnId),
    /// Something to send to some of its connections.
    Push(Push),
    /// A CONFIG SET of what is listened on. For the accepting worker.
    SetConfig(ConfigChange),
}

#[derive(Default)]
pub struct Mailbox {
    messages: Inbox<Message>,
    /// What pushes that were posted and not delivered yet weigh.
    push_bytes: AtomicUsize,
    /// Set by the worker once its event loop exists.
    notifier: OnceLock<Notifier>,
}

impl Mailbox {
    pub fn open(&self, notifier: Notifier) {
        if self.notifier.set(notifier).is_err() {
            unreachable!("a worker opens its mailbox once");
        }
    }

    pub fn post(&self, message: Message) {
        self.messages.post(message);
        self.wake();
    }

    /// Posts a push without waking the worker. Tells what all that wait there weigh.
    pub fn post_push(&self, push: Push) -> usize {
        let weight = push.weight_bytes();
        // Counted before it can be delivered.
        let before = self.push_bytes.fetch_add(weight, Relaxed);
        self.messages.post(Message::Push(push));
        before + weight
    }

    pub fn push_delivered(&self, push: &Push) {
        self.push_bytes.fetch_sub(push.weight_bytes(), Relaxed);
    }

    pub fn push_backlog_bytes(&self) -> usize {
        self.push_bytes.load(Relaxed)
    }

    /// Makes the worker's current or next wait end.
    pub fn wake(&self) {
        if let Some(notifier) = self.notifier.get() {
            notifier.wake();
        }
    }

    pub fn take(&self, into: &mut Vec<Message>) {
        if !self.messages.is_empty() {
            self.messages.take(into);
        }
    }
}
