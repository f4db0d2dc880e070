//! Commands posted to a shard whose baton was taken; the baton's holder runs them.
//!
//! Many threads post, the holder of the baton takes. See [`crate::post`] for the protocol.

use crate::atomics::{said_before_looking, AtomicUsize, Mutex, SeqCst};

pub struct Inbox<M> {
    /// How many messages were posted and not yet taken; what the releasing holder looks at.
    waiting: AtomicUsize,
    messages: Mutex<Vec<M>>,
}

impl<M> Default for Inbox<M> {
    fn default() -> Self {
        Inbox {
            waiting: AtomicUsize::new(0),
            messages: Mutex::new(Vec::new()),
        }
    }
}

impl<M> Inbox<M> {
    pub fn post(&self, message: M) {
        let mut messages = self.messages.lock().expect("no holder of this lock panics");
        messages.push(message);
        self.waiting.store(messages.len(), SeqCst);
        said_before_looking();
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.waiting.load(SeqCst) == 0
    }

    /// Moves all messages, oldest first, to the end of `into`.
    pub fn take(&self, into: &mut Vec<M>) {
        let mut messages = self.messages.lock().expect("no holder of this lock panics");
        into.append(&mut messages);
        self.waiting.store(0, SeqCst);
    }
}
