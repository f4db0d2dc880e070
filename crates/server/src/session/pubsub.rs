//! SUBSCRIBE and its kin, PUBLISH, PUBSUB; MONITOR.

use std::sync::Arc;

use commands::{errors, CommandError, CommandResult};
use keyspace::{Lsn, ShardIndex, View};
use resp::Argv;

use super::Host;
use crate::pubsub::Kind;
use crate::worker::connection::Connection;
use crate::worker::push::When;
use crate::worker::Worker;

const DENY_BLOCKING: CommandError =
    CommandError::new("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client");

impl Worker {
    pub(super) fn subscribe(
        &mut self,
        c: &mut Connection,
        argv: Argv<'_>,
        kind: Kind,
        situation: &Host<'_, '_>,
    ) -> CommandResult {
        if kind == Kind::ShardChannel && situation.in_transaction() {
            return Err(DENY_BLOCKING);
        }
        self.settle_with_publishers(c, situation);
        for name in argv.from(1).iter() {
            self.subscribe_to(c, kind, name);
            confirm(c, kind, kind.subscribe_word(), Some(name));
        }
        c.subscriptions_changed();
        Ok(())
    }

    pub(super) fn unsubscribe(
        &mut self,
        c: &mut Connection,
        argv: Argv<'_>,
        kind: Kind,
        situation: &Host<'_, '_>,
    ) -> CommandResult {
        self.settle_with_publishers(c, situation);
        let word = kind.unsubscribe_word();
        let named: Vec<Arc<[u8]>> = match argv.len() {
            1 => match &c.subscriptions {
                Some(own) => own.names(kind).cloned().collect(),
                None => Vec::new(),
            },
            _ => argv.from(1).iter().map(Arc::from).collect(),
        };
        if named.is_empty() {
            confirm(c, kind, word, None);
        }
        for name in &named {
            self.unsubscribe_from(c, kind, name);
            confirm(c, kind, word, Some(name));
        }
        c.subscriptions_changed();
        Ok(())
    }

    pub(super) fn start_monitoring(
        &mut self,
        c: &mut Connection,
        situation: &Host<'_, '_>,
    ) -> CommandResult {
        if situation.in_transaction() {
            return Err(errors::MONITOR_DENY_BLOCKING);
        }
        // Redis says nothing to one that monitors already.
        if !c.monitors {
            self.read_pushes(Some((c, When::Now)));
            self.begin_monitoring(c);
            c.reply().ok();
        }
        Ok(())
    }

    /// What was published before a connection's subscriptions change is for those it had.
    fn settle_with_publishers(&mut self, c: &mut Connection, situation: &Host<'_, '_>) {
        let when = match situation.in_transaction() {
            true => When::BehindTheReply,
            false => When::Now,
        };
        self.read_pushes(Some((c, when)));
    }

    pub(super) fn publish_command(
        &mut self,
        c: &mut Connection,
        argv: Argv<'_>,
        kind: Kind,
        situation: &mut Host<'_, '_>,
    ) -> CommandResult {
        let view = match situation {
            Host::Alone => None,
            Host::InTransaction(view) => Some(&mut **view),
        };
        let receivers = self.publish(c, view, kind, argv.arg(1), argv.arg(2));
        c.reply().integer(receivers as i64);
        Ok(())
    }

    /// Publishes on behalf of a connection, which may be in the middle of something on these
    /// shards. Tells how many clients get the message.
    pub(crate) fn publish(
        &mut self,
        c: &Connection,
        view: Option<&mut View<'_>>,
        kind: Kind,
        channel: &[u8],
        message: &[u8],
    ) -> u64 {
        let mut view = view;
        if let Some(view) = &mut view {
            // What its transaction did before comes first.
            self.tell(Some(c.origin(self.index)), view.shards_mut());
        }
        let mut shows = Vec::new();
        let aof = &self.server.aof;
        if aof.is_on() {
            // Whoever hears of what it wrote may look at it, and must find it after a crash too.
            let shards = (0..).map(ShardIndex).zip(&c.last_writes);
            shows.extend(
                shards
                    .filter(|(shard, lsn)| **lsn > Lsn(0) && !aof.shows_to_others(*shard, **lsn))
                    .map(|(shard, lsn)| (shard, *lsn)),
            );
            if let Some(view) = view {
                shows.extend(view.shards().map(|shard| (shard.index(), shard.log.end())));
            }
        }
        self.publisher
            .publish(self.server, kind, channel, message, &shows)
    }

    pub(super) fn pubsub_channels(
        &mut self,
        c: &mut Connection,
        argv: Argv<'_>,
        kind: Kind,
    ) -> CommandResult {
        if argv.len() > 3 {
            return Err(CommandError::wrong_subcommand("PUBSUB", argv.arg(1)));
        }
        let names = self.server.pubsub.names(kind, argv.get(2));
        let mut reply = c.reply();
        reply.array(names.len());
        names.iter().for_each(|name| reply.bulk(name));
        Ok(())
    }

    pub(super) fn pubsub_numsub(
        &mut self,
        c: &mut Connection,
        argv: Argv<'_>,
        kind: Kind,
    ) -> CommandResult {
        let names = argv.from(2);
        let mut reply = c.reply();
        reply.array(2 * names.len());
        for name in names.iter() {
            reply.bulk(name);
            reply.integer(self.server.pubsub.subscribers(kind, name) as i64);
        }
        Ok(())
    }

    pub(super) fn pubsub_numpat(&mut self, c: &mut Connection) -> CommandResult {
        let count = self.server.pubsub.len(Kind::Pattern);
        c.reply().integer(count as i64);
        Ok(())
    }
}

/// Replies that a subscription has begun or ended.
fn confirm(c: &mut Connection, kind: Kind, word: &str, name: Option<&[u8]>) {
    let own = c.subscriptions.as_ref();
    let count = own.map_or(0, |own| own.counted_with(kind)) as i64;
    let mut reply = c.reply();
    reply.push(3);
    reply.bulk(word.as_bytes());
    reply.bulk_or_null(name);
    reply.integer(count);
}
