//! CLIENT PAUSE: until when clients are held back, and which commands.
//!
//! The coordinator begins and ends a pause with all workers standing still, so that no command that is held back
//! runs on any of them once the reply is there; one that waits in the inbox of a busy shard may still. Meanwhile
//! no key is deleted because its time has passed, and none is evicted: shards know of that themselves.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};

use commands::Command;
use keyspace::UnixMillis;

#[derive(Default)]
pub struct Pause {
    /// Unix milliseconds.
    until: AtomicI64,
    /// Everything is held back, not only what may change something.
    all: AtomicBool,
}

impl Pause {
    #[inline]
    pub fn is_on(&self, now: UnixMillis) -> bool {
        self.until.load(Relaxed) > now.0
    }

    /// Whether a command is held back while the pause is on.
    pub fn holds_back(&self, may_change: bool) -> bool {
        may_change || self.all.load(Relaxed)
    }

    pub fn until(&self) -> UnixMillis {
        UnixMillis(self.until.load(Relaxed))
    }

    /// Begins a pause, or makes the one that is on longer or stricter.
    pub fn begin(&self, until: UnixMillis, all: bool, now: UnixMillis) {
        let goes_on = self.is_on(now);
        let all = all || (goes_on && self.all.load(Relaxed));
        self.all.store(all, Relaxed);
        self.until.fetch_max(until.0, Relaxed);
    }

    pub fn end(&self) {
        self.until.store(0, Relaxed);
    }
}

/// Whether a command may change something, here or for those who follow.
pub fn may_change(command: &Command) -> bool {
    command
        .flags
        .intersects(commands::Flags::WRITE | commands::Flags::MAY_REPLICATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_gets_longer_and_stricter_only() {
        let pause = Pause::default();
        let at = UnixMillis;
        assert!(!pause.is_on(at(0)));
        pause.begin(at(100), false, at(0));
        assert!(pause.is_on(at(99)) && !pause.is_on(at(100)) && !pause.holds_back(false));
        pause.begin(at(50), true, at(10));
        assert!(pause.is_on(at(99)) && pause.holds_back(false));
        pause.begin(at(200), false, at(20));
        assert!(pause.is_on(at(199)) && pause.holds_back(false));
        pause.begin(at(300), false, at(200));
        assert!(!pause.holds_back(false) && pause.holds_back(true));
        pause.end();
        assert!(!pause.is_on(at(1)));
    }
}
