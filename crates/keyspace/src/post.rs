//! A baton with its inbox: flat combining.
//!
//! Who finds the baton taken posts a message, says so, and then tries for the baton once more;
//! who gives the baton back says so, and then looks at the inbox and, if anything is there, tries
//! for the baton again. Of a poster whose second try failed and a holder whose look found
//! nothing, one would have seen the other, as both accesses are in one order that all threads
//! agree on. So while anybody serves, no message is left behind, and nobody waits for a message
//! to be run. `tests/baton_model.rs` runs this code in every interleaving.

use crate::baton::{Baton, Guard};
use crate::inbox::Inbox;

/// A value that one thread at a time may use, and messages to whoever uses it.
pub struct Post<T, M> {
    pub baton: Baton<T>,
    pub inbox: Inbox<M>,
}

impl<T, M> Post<T, M> {
    pub fn new(value: T) -> Self {
        Post {
            baton: Baton::new(value),
            inbox: Inbox::default(),
        }
    }

    /// Gives the baton back, having had `run` take and run what was posted, until nothing is left
    /// or somebody else has the baton and with it the duty to look.
    #[inline]
    pub fn release<'a>(&'a self, mut guard: Guard<'a, T>, mut run: impl FnMut(&mut T, &Inbox<M>)) {
        loop {
            if !self.inbox.is_empty() {
                run(&mut guard, &self.inbox);
            }
            drop(guard);
            if self.inbox.is_empty() {
                return;
            }
            match self.baton.try_take() {
                Some(again) => guard = again,
                None => return,
            }
        }
    }

    /// Runs what is posted, unless somebody holds the baton, who then will.
    #[inline]
    pub fn serve(&self, run: impl FnMut(&mut T, &Inbox<M>)) {
        if !self.inbox.is_empty() {
            if let Some(guard) = self.baton.try_take() {
                self.release(guard, run);
            }
        }
    }

    /// Gives the baton back without running anything. True when something is posted: the caller
    /// must have some thread [`serve`](Self::serve).
    #[must_use]
    pub fn release_unserved(&self, guard: Guard<'_, T>) -> bool {
        drop(guard);
        !self.inbox.is_empty()
    }
}
