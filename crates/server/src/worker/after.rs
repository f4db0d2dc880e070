//! What follows from a run, done while the batons of its shards are still held.
//!
//! A run is a command, or a whole EXEC. Its functions note in its shards what is to follow, and set
//! [`Shard::after_due`]; nothing more costs anything while that is false. Its own effects are in the
//! logs by then, made one transaction where they have to be, and its reply is written: what is done
//! here comes behind both. It happens after each run, on every path: alone or in a batch, on several
//! shards, out of an inbox, in the expiry cycle.

use keyspace::{Events, Shard, Signal};
use reactor::ConnId;

use super::batons::Held;
use super::Worker;
use crate::pubsub::{Kind, Publisher};
use crate::shared::Server;
use crate::tracking::shown_ends;

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
        for shard in shards.iter_mut() {
            shard.after_due = false;
        }
        self.tell(by, shards);
        self.serve_ready(shards);
    }

    /// Tells others what happened to keys of these shards.
    pub(crate) fn tell(&mut self, by: Option<Origin>, shards: &mut [&mut Shard]) {
        let server = self.server;
        server.tell_changes(by, shards, &mut self.publisher);
        server.tell_events(shards, &mut self.publisher);
    }
}

impl Server {
    /// Publishes what happened to keys of these shards, whose batons the caller holds.
    pub fn tell_events(&self, shards: &mut [&mut Shard], publisher: &mut Publisher) {
        let Some(wanted) = shards.first().map(|shard| shard.wanted_events()) else {
            return;
        };
        let mut signals = Vec::new();
        shards
            .iter_mut()
            .for_each(|shard| shard.take_signals(&mut signals));
        if signals.is_empty() {
            return;
        }
        keyspace::signals::sort(&mut signals);
        // Who hears of a change finds it after a crash as well as who made it.
        let shows = shown_ends(shards);
        for Signal { db, event, key, .. } in &signals {
            if wanted.contains(Events::BY_KEY) {
                let mut channel = format!("__keyspace@{}__:", db.0).into_bytes();
                channel.extend_from_slice(key);
                publisher.publish(self, Kind::Channel, &channel, event.as_bytes(), &shows);
            }
            if wanted.contains(Events::BY_EVENT) {
                let channel = format!("__keyevent@{}__:{event}", db.0);
                publisher.publish(self, Kind::Channel, channel.as_bytes(), key, &shows);
            }
        }
    }
}
