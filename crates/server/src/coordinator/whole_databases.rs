//! Commands that empty or swap databases with many keys, of several shards, under an AOF.
//!
//! Logged key by key they would fill the AOF; logged as they are in some shard's segment they would mislead a server that
//! loads one segment after another. So the command gets a generation of its own: everything before it is in older
//! segments, everything after it in newer ones, for our loader and for stock ones alike.

use commands::{Command, Run};
use keyspace::View;
use resp::{OwnedArgv, Reply};

use super::Coordinator;
use crate::load::ReplyTo;
use crate::pubsub::Publisher;
use crate::worker::environment::Environment;
use crate::worker::posted::Caller;
use crate::{clock, log};

/// A command with what it depends on of its connection.
pub struct WholeDatabases {
    pub command: &'static Command,
    pub argv: OwnedArgv,
    pub caller: Caller,
    pub reply_to: ReplyTo,
}

impl Coordinator {
    pub(super) fn run_between_generations(&mut self, request: &WholeDatabases) {
        let server = self.server;
        if server.aof.is_on() {
            // The bulk of it now, so that what is left for the stop is little. If it fails, it does so there too.
            let _ = self.make_durable();
        }
        let reply = {
            let _stopped = server.safe_point.stop(server);
            let effect: Vec<&[u8]> = request.argv.argv().iter().collect();
            if let Some(observer) = &self.observer {
                let ReplyTo { worker, conn } = request.reply_to;
                observer.serving(worker, conn, None);
                observer.begins(clock::unix_millis(), request.caller.db, request.argv.argv());
            }
            // It may have been switched off since the command looked.
            let logged = match server.aof.is_on() {
                true => self.begin_generation_behind(request.caller.db, &effect),
                false => Ok(()),
            };
            match logged {
                Ok(()) => self.run_unlogged(request),
                Err(error) => {
                    if let Some(observer) = &self.observer {
                        observer.refused();
                    }
                    log!(Warning, "{} was not run: {error}", request.command.name);
                    format!("-MISCONF {} was not run: {error}\r\n", request.command.name)
                        .into_bytes()
                }
            }
        };
        if request.command.name == "flushall" && reply.starts_with(b"+") {
            self.after_flush();
        }
        request.reply_to.send(server, &reply);
    }

    /// Runs the command on all shards; it is in the log already.
    fn run_unlogged(&mut self, request: &WholeDatabases) -> Vec<u8> {
        let Run::WholeDatabases(handler) = request.command.run else {
            unreachable!("the worker looked at where it runs");
        };
        let server = self.server;
        let logged = server.aof.is_on();
        self.log_effects(false);
        let mut reply = Vec::new();
        let mut guards = self.take_all();
        let now = clock::unix_millis();
        let mut environment = Environment::new(now.0 as u64, &self.config());
        environment.observer = self.observer.clone();
        let mut view = View::several(
            guards.iter_mut().map(|guard| &mut **guard).collect(),
            server.slots,
        );
        let result = environment.call(
            handler,
            &mut view,
            request.caller,
            now,
            request.argv.argv(),
            None,
            &mut reply,
        );
        let mut publisher = Publisher::new();
        server.tell_changes(None, view.shards_mut(), &mut publisher);
        drop(view);
        for worker in publisher.unwoken() {
            server.workers[worker].mailbox.wake();
        }
        self.give_back(guards);
        self.log_effects(logged);
        if let Err(error) = result {
            reply.clear();
            Reply::new(&mut reply, request.caller.protocol).error(error.text());
        }
        reply
    }
}
