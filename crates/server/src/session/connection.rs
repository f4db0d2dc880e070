//! PING, SELECT, HELLO, AUTH, RESET and QUIT.

use std::sync::Arc;

use commands::{args, errors, Command, CommandError, CommandResult};
use keyspace::DbIndex;
use resp::{Argv, Protocol};

use crate::acl::{Reason, User, DEFAULT_USER};
use crate::worker::connection::{Connection, ReplyMode};
use crate::worker::push::When;
use crate::worker::Worker;

const WRONG_PASS: CommandError =
    CommandError::new("WRONGPASS invalid username-password pair or user is disabled.");
const NO_PASSWORD_SET: CommandError = CommandError::new(
    "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
);
const HELLO_NO_AUTH: CommandError = CommandError::new(
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
);
const NO_PROTO: CommandError = CommandError::new("NOPROTO unsupported protocol version");
const PROTO_NOT_INTEGER: CommandError =
    CommandError::new("ERR Protocol version is not an integer or out of range");

impl Worker {
    pub(super) fn ping(&mut self, c: &mut Connection, argv: Argv<'_>) -> CommandResult {
        match argv.len() {
            1 | 2 if c.is_confined() => {
                let mut reply = c.reply();
                reply.array(2);
                reply.bulk(b"pong");
                reply.bulk(argv.get(1).unwrap_or_default());
            }
            1 => c.reply().simple("PONG"),
            2 => c.reply().bulk(argv.arg(1)),
            _ => return Err(CommandError::wrong_arity("ping")),
        }
        Ok(())
    }

    pub(super) fn select(&mut self, c: &mut Connection, argv: Argv<'_>) -> CommandResult {
        let index = args::integer(argv.arg(1))?;
        if i32::try_from(index).is_err() {
            return Err(errors::NOT_INT32);
        }
        if !(0..i64::from(self.config.databases)).contains(&index) {
            return Err(errors::DB_INDEX_OUT_OF_RANGE);
        }
        c.db = DbIndex(index as u32);
        c.reply().ok();
        Ok(())
    }

    pub(super) fn auth(
        &mut self,
        c: &mut Connection,
        command: &'static Command,
        argv: Argv<'_>,
    ) -> CommandResult {
        match argv.len() {
            2 if self.server.acl.default_user().nopass => return Err(NO_PASSWORD_SET),
            2 => self.authenticate(c, DEFAULT_USER, argv.arg(1), command, argv.arg(0))?,
            3 => self.authenticate(c, argv.arg(1), argv.arg(2), command, argv.arg(0))?,
            _ => return Err(errors::SYNTAX),
        }
        c.reply().ok();
        Ok(())
    }

    /// Logs a connection in, by `command`, which was called `called`.
    fn authenticate(
        &mut self,
        c: &mut Connection,
        name: &[u8],
        password: &[u8],
        command: &'static Command,
        called: &[u8],
    ) -> CommandResult {
        let user = self.server.acl.user(name);
        let Some(user) = user.filter(|user| user.accepts(password)) else {
            self.note_denied(c, command, Reason::Auth, called, name);
            return Err(WRONG_PASS);
        };
        c.authenticated = true;
        self.change_user(c, user);
        Ok(())
    }

    /// Makes a connection another user.
    fn change_user(&mut self, c: &mut Connection, user: Arc<User>) {
        let mut labels = c
            .record
            .labels
            .lock()
            .expect("no holder of this lock panics");
        labels.user.clone_from(&user.name);
        drop(labels);
        c.set_user(user);
    }

    pub(super) fn hello(
        &mut self,
        c: &mut Connection,
        command: &'static Command,
        argv: Argv<'_>,
    ) -> CommandResult {
        let mut protocol = c.protocol;
        let mut next = 1;
        if let Some(version) = argv.get(1) {
            protocol = match args::integer_or(version, PROTO_NOT_INTEGER)? {
                2 => Protocol::Resp2,
                3 => Protocol::Resp3,
                _ => return Err(NO_PROTO),
            };
            next = 2;
        }
        let (mut name, mut credentials) = (None, None);
        while let Some(option) = argv.get(next) {
            if args::is(option, "auth") && argv.len() > next + 2 {
                credentials = Some((argv.arg(next + 1), argv.arg(next + 2)));
                next += 3;
            } else if args::is(option, "setname") && argv.len() > next + 1 {
                super::client::check_name(argv.arg(next + 1), "Client names")?;
                name = Some(argv.arg(next + 1).to_vec());
                next += 2;
            } else {
                let option = String::from_utf8_lossy(option);
                return Err(format!("ERR Syntax error in HELLO option '{option}'").into());
            }
        }
        if let Some((user, password)) = credentials {
            self.authenticate(c, user, password, command, argv.arg(0))?;
        }
        if !c.authenticated && self.server.acl.demands_login() {
            return Err(HELLO_NO_AUTH);
        }
        if let Some(name) = name {
            c.record
                .labels
                .lock()
                .expect("no holder of this lock panics")
                .name = name;
        }
        c.protocol = protocol;
        c.subscriptions_changed();
        let id = c.record.id as i64;
        let mut reply = c.reply();
        reply.map(7);
        reply.bulk(b"server");
        reply.bulk(b"redis");
        reply.bulk(b"version");
        reply.bulk(commands::REDIS_VERSION.as_bytes());
        reply.bulk(b"proto");
        reply.integer(if protocol == Protocol::Resp3 { 3 } else { 2 });
        reply.bulk(b"id");
        reply.integer(id);
        reply.bulk(b"mode");
        reply.bulk(b"standalone");
        reply.bulk(b"role");
        reply.bulk(b"master");
        reply.bulk(b"modules");
        reply.array(0);
        Ok(())
    }

    pub(super) fn reset(&mut self, c: &mut Connection) -> CommandResult {
        c.transaction = None;
        self.forget_watches(c);
        self.read_pushes(Some((c, When::Now)));
        self.forget_subscriptions(c);
        self.end_monitoring(c);
        if self.end_tracking(c) {
            self.server.note_changes_for_broadcast();
        }
        c.db = DbIndex(0);
        c.protocol = Protocol::Resp2;
        c.reply_mode = ReplyMode::On;
        c.no_touch = false;
        c.no_evict = false;
        c.authenticated = !self.server.acl.demands_login();
        self.change_user(c, self.server.acl.default_user());
        let mut labels = c
            .record
            .labels
            .lock()
            .expect("no holder of this lock panics");
        labels.name.clear();
        drop(labels);
        c.reply().simple("RESET");
        Ok(())
    }

    pub(super) fn quit(&mut self, c: &mut Connection) -> CommandResult {
        c.reply().ok();
        c.closing = true;
        Ok(())
    }
}
