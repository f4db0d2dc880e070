//! Keys that have become ready: those who wait for them go first.
//!
//! Whoever made a key ready tries the blocked commands again, in the order in which they came, after
//! its own command (or whole EXEC, or script) and before it gives the batons back: nobody else can come
//! between. Keys are served in the order in which they became ready. A command that is tried may make
//! others ready, which are served in the same go. Each is a run of its own, with effects of its own in
//! the logs; its reply travels to its connection's worker like that of a posted command.
//!
//! A blocked command may have keys in shards that are not in hand. Batons are only ever waited for in
//! ascending order, so here they are merely tried. If that fails, a command that can do without the other
//! keys is tried without them: they had nothing for it when it came, and have become ready for nobody
//! since, or the wait would be over. One that cannot (BLMOVE to another shard) puts the key off: as
//! soon as no baton is held, all that it needs are taken in order, and the key is served then. It keeps
//! its place among those who wait; others who do not wait may have emptied the key meanwhile.

use commands::CommandError;
use keyspace::log::Mark;
use keyspace::waits::{Ready, Round};
use keyspace::{DbIndex, Key, Shard, ShardIndex, View, Waiter};

use super::after::Origin;
use super::batons::{Held, BATON_SPINS};
use super::blocked::{request_of, Request};
use super::posted::{Logged, Reply};
use super::route::ShardSet;
use super::shown::Shows;
use super::Worker;

/// A key that is served once these batons can be taken.
pub struct Deferred {
    db: DbIndex,
    key: Box<[u8]>,
    shards: ShardSet,
}

/// Shards in hand: those of the run, and those taken for who waits.
struct Hand<'h, 's> {
    held: &'h mut [&'s mut Shard],
    extra: Vec<Held>,
}

impl Hand<'_, '_> {
    fn shard(&mut self, index: ShardIndex) -> Option<&mut Shard> {
        let held = self.held.iter_mut().map(|shard| &mut **shard);
        let extra = self.extra.iter_mut().map(|(_, guard)| &mut **guard);
        held.chain(extra).find(|shard| shard.index() == index)
    }

    /// All of them, in ascending order.
    fn all(&mut self) -> Vec<&mut Shard> {
        let held = self.held.iter_mut().map(|shard| &mut **shard);
        let extra = self.extra.iter_mut().map(|(_, guard)| &mut **guard);
        let mut all: Vec<_> = held.chain(extra).collect();
        all.sort_unstable_by_key(|shard| shard.index());
        all
    }

    /// The shard of the key that has been ready for longest.
    fn next_ready(&mut self) -> Option<ShardIndex> {
        let all = self.all();
        let ready = all
            .iter()
            .filter_map(|shard| Some((shard.waits.next_ready()?, shard.index())));
        ready.min().map(|(_, index)| index)
    }
}

impl Worker {
    /// Serves the keys that are ready in shards that are held.
    pub(super) fn serve_ready(&mut self, held: &mut [&mut Shard]) {
        if self.serving_ready || !held.iter().any(|shard| shard.waits.has_ready()) {
            return;
        }
        self.serving_ready = true;
        let mut hand = Hand {
            held,
            extra: Vec::new(),
        };
        while let Some(index) = hand.next_ready() {
            let shard = hand.shard(index).expect("it is in hand");
            let (ready, round) = shard.waits.take_ready().expect("it has one");
            self.serve_key(&mut hand, index, &ready, round);
        }
        hand.all()
            .into_iter()
            .for_each(|shard| self.note_effects(shard));
        // What those did who went on.
        self.tell(None, &mut hand.all());
        self.serving_ready = false;
        let extra = hand.extra;
        self.release_all(extra);
    }

    fn serve_key(&mut self, hand: &mut Hand, index: ShardIndex, ready: &Ready, mut round: Round) {
        let key = Key {
            shard: index,
            ..Key::new(&ready.key, &self.server.slots)
        };
        loop {
            let shard = hand.shard(index).expect("it is in hand");
            let Some(waiter) = shard.waits.next(ready.db, &ready.key, &mut round) else {
                return;
            };
            let found = shard.find(ready.db, key, self.now);
            let is_wanted = found.map(|entry| (waiter.wanted)(entry.value()));
            if is_wanted.is_none() && !shard.waits.any_on_deletion(ready.db, &ready.key) {
                return;
            }
            if is_wanted != Some(true) && !waiter.on_deletion {
                continue;
            }
            if let Err(shards) = self.hold_for(hand, request_of(&waiter)) {
                self.deferred.push_back(Deferred {
                    db: ready.db,
                    key: ready.key.clone(),
                    shards,
                });
                return;
            }
            self.try_again(hand, &waiter);
        }
    }

    /// Takes the batons that a blocked command has its keys under, as far as they are free. When that
    /// does not do, those that it takes.
    fn hold_for(&mut self, hand: &mut Hand, request: &Request) -> Result<(), ShardSet> {
        /// Looks at a baton that would be good to have.
        const SPINS: u32 = 4;
        let spins = if request.needs_all {
            BATON_SPINS
        } else {
            SPINS
        };
        for &index in &request.shards {
            if hand.shard(index).is_some() {
                continue;
            }
            match self.server.shard(index).baton.try_take_spinning(spins) {
                Some(guard) => hand.extra.push((index, guard)),
                None if !request.needs_all => {}
                None => {
                    let mut shards = ShardSet::new(self.server.slots);
                    request.shards.iter().for_each(|shard| shards.add(*shard));
                    return Err(shards);
                }
            }
        }
        Ok(())
    }

    /// Runs a blocked command again, and ends its wait if it replies.
    fn try_again(&mut self, hand: &mut Hand, waiter: &Waiter) {
        if !waiter.claim.try_again() {
            // Its worker is about to take it out of the queues.
            return;
        }
        let request = request_of(waiter);
        let (conn, worker) = (request.conn, request.worker);
        if let Some(observer) = &self.env.observer {
            observer.serving(worker, conn, None);
        }
        let mut all = hand.all();
        let marks: Vec<Mark> = all.iter().map(|shard| shard.log.mark()).collect();
        let mut view = View::several(all, self.server.slots);
        let mut bytes = Vec::new();
        let result = self.env.call_or_wait(
            request.handler,
            &mut view,
            request.caller,
            self.now,
            request.argv.argv(),
            &mut bytes,
        );
        if let Some(observer) = &self.env.observer {
            observer.served();
        }
        let error = match result {
            Ok(Some(_)) => {
                waiter.claim.resume();
                return;
            }
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if request.command.is_write() {
            self.seal_transaction(view.shards_mut(), &marks);
        }
        drop(view);
        all = hand.all();
        for (index, key) in &request.keys {
            if let Some(shard) = all.iter_mut().find(|shard| shard.index() == *index) {
                shard.waits.remove(request.caller.db, key, waiter);
            }
        }
        waiter.claim.end();
        let reply = self.reply_of(&mut all, request, &marks, bytes, error);
        self.posted_replies.push((worker, reply));
        self.after_run(Some(Origin { worker, conn }), &mut all);
    }

    /// The reply of a blocked command that was tried, with what it has to do with the logs.
    fn reply_of(
        &mut self,
        shards: &mut [&mut Shard],
        request: &Request,
        marks: &[Mark],
        mut bytes: Vec<u8>,
        error: Option<CommandError>,
    ) -> Reply {
        if let Some(error) = &error {
            bytes.clear();
            resp::Reply::new(&mut bytes, request.caller.protocol).error(error.text());
        }
        let mut reply = Reply::early(request.conn, bytes, error.is_some());
        for (shard, mark) in shards.iter_mut().zip(marks) {
            if !request.shards.contains(&shard.index()) || !shard.log.is_enabled() {
                continue;
            }
            let effects = shard.log.effects_since(*mark);
            let end = shard.log.end();
            let mut logged = Logged {
                wrote: (effects > 0).then_some(end),
                awaits: None,
            };
            if self.server.aof.fsyncs_always() {
                let shows = if effects > 0 {
                    Shows::All
                } else {
                    Shows::Command(request.command, request.argv.argv())
                };
                logged.awaits = self.shown(shard, shows);
            } else {
                self.touched.note(shard.index(), end);
            }
            reply.also_logged.push((shard.index(), logged));
        }
        reply
    }

    /// Serves the keys that had to be put off. No baton may be held.
    pub(super) fn serve_deferred(&mut self) {
        while let Some(deferred) = self.deferred.pop_front() {
            let Deferred {
                db,
                key,
                mut shards,
            } = deferred;
            let home = self.server.slots.shard_of(&key);
            shards.add(home);
            let mut guards = self.take_batons(&shards);
            let (_, guard) = guards
                .iter_mut()
                .find(|(shard, _)| *shard == home)
                .expect("taken above");
            if guard.waits.changed(db, &key) {
                guard.after_due = true;
            }
            self.after_held(None, &mut guards);
            self.release_all(guards);
        }
    }
}
