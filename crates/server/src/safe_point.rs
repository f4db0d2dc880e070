//! Bringing all workers to a stop between two turns, where they hold no baton, no lock and
//! nothing of the allocator: before a fork, and for work on all shards that takes long.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Condvar, Mutex};

use crate::clock;
use crate::shared::Server;

pub struct SafePoint {
    wanted: AtomicBool,
    workers: usize,
    /// How many workers stand still.
    stopped: Mutex<usize>,
    changed: Condvar,
}

/// While it lives, every worker stands still.
pub struct Stopped<'a> {
    safe_point: &'a SafePoint,
}

impl SafePoint {
    pub fn new(workers: usize) -> SafePoint {
        SafePoint {
            wanted: AtomicBool::new(false),
            // Simulated workers share the coordinator's thread, which steps them or does this.
            workers: if clock::is_simulated() { 0 } else { workers },
            stopped: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Stops all workers. Only the coordinator calls this, so there is one stop at a time.
    pub fn stop<'a>(&'a self, server: &Server) -> Stopped<'a> {
        self.wanted.store(true, SeqCst);
        server
            .workers
            .iter()
            .for_each(|worker| worker.mailbox.wake());
        let mut stopped = self.stopped.lock().expect("no holder of this lock panics");
        while *stopped < self.workers {
            stopped = self
                .changed
                .wait(stopped)
                .expect("no holder of this lock panics");
        }
        Stopped { safe_point: self }
    }

    /// Called by a worker between two turns.
    #[inline]
    pub fn pass(&self) {
        if self.wanted.load(SeqCst) {
            self.wait();
        }
    }

    #[cold]
    fn wait(&self) {
        let mut stopped = self.stopped.lock().expect("no holder of this lock panics");
        *stopped += 1;
        self.changed.notify_all();
        while self.wanted.load(SeqCst) {
            stopped = self
                .changed
                .wait(stopped)
                .expect("no holder of this lock panics");
        }
        *stopped -= 1;
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        let stopped = self
            .safe_point
            .stopped
            .lock()
            .expect("no holder of this lock panics");
        self.safe_point.wanted.store(false, SeqCst);
        drop(stopped);
        self.safe_point.changed.notify_all();
    }
}
