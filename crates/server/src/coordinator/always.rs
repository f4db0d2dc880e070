//! CONFIG SET appendfsync always.
//!
//! Under `always` no reply shows what a crash of the system takes. What was written before under another policy is safe
//! only when its epoch is whole, durably, in every segment: until then recovery may cut it, though its own segment has
//! it. So the policy changes at an instant at which there is no such write, and all that is written later is sealed as
//! promised. The bulk is made durable while clients are served; they wait only for what came meanwhile.

use persistence::storage::sync::SyncPolicy;

use super::Coordinator;
use crate::session::config::ConfigChange;
use crate::worker::mailbox::Message;
use crate::worker::ACCEPTING_WORKER;

impl Coordinator {
    /// Puts `appendfsync always` in force and has the accepting worker make the change, or replies why it cannot be.
    pub(super) fn promise_always(&mut self, change: ConfigChange) {
        let server = self.server;
        // It may have been switched off, or on, since the command looked.
        if server.aof.is_on() && !server.aof.fsyncs_always() {
            if let Err(reason) = self.promise_what_is_written() {
                return change.refuse_always(server, &reason);
            }
        }
        server.workers[ACCEPTING_WORKER]
            .mailbox
            .post(Message::SetConfig(change));
    }

    fn promise_what_is_written(&mut self) -> Result<(), String> {
        self.make_durable()?;
        let server = self.server;
        let _stopped = server.safe_point.stop(server);
        self.settle_epoch()?;
        server.aof.set_policy(SyncPolicy::Always);
        Ok(())
    }
}
