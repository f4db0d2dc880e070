//! What follows from a run, done while the batons of its shards are still held.
//!
//! A run is a command, or a whole EXEC. Its functions note in its shards what is to follow, and set
//! [`Shard::after_due`]; nothing more costs anything while that is false. Its own effects are in the
//! logs by then, made one transaction where they have to be, and its reply is written: what is done
//! here comes behind both. It happens after each run, on every path: alone or in a batch, on several
//! shards, out of an inbox, in the expiry cycle.

use keyspace::Shard;
use reactor::ConnId;

use super::run::Held;
use super::Worker;

/// The connection whose command ran, which another worker may serve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    pub worker: usize,
    pub conn: ConnId,
}

impl Worker {
    /// As [`after_run`](Self::after_run), where it is not known whether anything is due.
    pub(crate) fn after_held(&mut self, by: Option<Origin>, guards: &mut [Held]) {
        if guards.iter().any(|(_, guard)| guard.after_due) {
            let mut shards: Vec<&mut Shard> =
                guards.iter_mut().map(|(_, guard)| &mut **guard).collect();
            self.after_run(by, &mut shards);
        }
    }

    /// Does what is due in these shards, which are all that the run held, in ascending order. Nobody
    /// is named where no client's command ran. Effects that are appended here are noted here.
    #[cold]
    pub(crate) fn after_run(&mut self, by: Option<Origin>, shards: &mut [&mut Shard]) {
        let _ = by;
        for shard in shards.iter_mut() {
            shard.after_due = false;
        }
        self.serve_ready(shards);
    }
}
