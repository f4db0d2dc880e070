//! Commands that wait when they find nothing.
//!
//! Such a command is written as one that does not wait. Where its keys have nothing for it, it calls
//! [`Ctx::wait`] instead of replying and returns. When one of the keys changes, or was put in
//! place by a rename, it is run again from its begin, and so on until it replies. The server keeps it
//! meanwhile, under `keyspace::waits`.

use std::ops::Range;

use keyspace::{Key, UnixMillis, Wanted};
use resp::{OwnedArgv, Reply};

use crate::context::{Ctx, Keyspace};

/// What a command waits for.
pub struct Wait {
    /// The arguments that are the keys to wait for.
    pub keys: Range<usize>,
    /// Which values are worth trying again.
    pub wanted: Wanted,
    /// A key that is gone is worth trying as well.
    pub on_deletion: bool,
    /// When the client has waited long enough; none: never.
    pub until: Option<UnixMillis>,
    /// Whether all keys must be in hand to try again, as for one that moves something between
    /// them. Otherwise it is tried with those whose shards are in hand: it must pass over
    /// keys that [`Keyspace::holds`] says no to.
    pub needs_all_keys: bool,
    /// What to run next time, if not the same request: one in which words about the present are
    /// replaced by what they meant.
    pub again: Option<OwnedArgv>,
}

impl<'a> Ctx<'a, '_> {
    /// Has the client wait. Where nothing may wait, in transactions and scripts, `instead` replies.
    pub fn wait(&mut self, wait: Wait, instead: impl FnOnce(&mut Reply<'a>)) {
        match &mut self.waiting {
            Some(waiting) => **waiting = Some(wait),
            None => instead(&mut self.reply),
        }
    }
}

impl Keyspace<'_, '_> {
    /// Whether the key's shard is in hand. Always, except for commands that are tried again.
    pub fn holds(&self, key: Key<'_>) -> bool {
        self.view.holds(key.shard)
    }
}
