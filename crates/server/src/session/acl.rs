//! ACL: the commands, and what a worker asks before it runs a command of a restricted user.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

use commands::{args, Categories, Command, CommandError, CommandResult};
use resp::{Argv, Reply};

use super::client;
use crate::acl::{self, Context, Denied, Entry, Reason, RuleError, Selector, User, DEFAULT_USER};
use crate::command_stats;
use crate::worker::connection::Connection;
use crate::worker::mailbox::Message;
use crate::worker::Worker;
use crate::{log, pubsub};

const NO_KEY: CommandError = CommandError::new("NOPERM No permissions to access a key");
const NO_CHANNEL: CommandError = CommandError::new("NOPERM No permissions to access a channel");
const BAD_NAME: CommandError =
    CommandError::new("ERR Usernames can't contain spaces or null characters");
const DEFAULT_STAYS: CommandError = CommandError::new("ERR The 'default' user cannot be removed");
const BAD_BITS: CommandError = CommandError::new("ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096");
const NO_FILE: CommandError = CommandError::new("ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store users in the Redis configuration.");
const NOT_SAVED: CommandError = CommandError::new(
    "ERR There was an error trying to save the ACLs. Please check the server logs for more information",
);

fn reason_of(denied: Denied) -> Reason {
    match denied {
        Denied::Command => Reason::Command,
        Denied::Key(_) => Reason::Key,
        Denied::Channel(_) => Reason::Channel,
    }
}

/// What is refused: the command, or the argument that is the key or channel.
fn object<'o>(denied: Denied, command: &'o Command, argv: Argv<'o>) -> &'o [u8] {
    match denied {
        Denied::Command => command.name.as_bytes(),
        Denied::Key(at) | Denied::Channel(at) => argv.arg(at),
    }
}

fn no_command(user: &User, command: &Command) -> String {
    let name = String::from_utf8_lossy(&user.name);
    format!(
        "User {name} has no permissions to run the '{}' command",
        command.name
    )
}

fn rule_error(rule: &[u8], error: RuleError) -> CommandError {
    let text = error.text().as_bytes();
    [b"ERR Error in ACL SETUSER modifier '", rule, b"': ", text]
        .concat()
        .into()
}

/// The option by which a SORT reads keys that its arguments do not name.
fn pattern_option(command: &Command, argv: Argv<'_>) -> Option<&'static str> {
    if !matches!(command.name, "sort" | "sort_ro") {
        return None;
    }
    let mut at = 2;
    while let Some(word) = argv.get(at) {
        let pattern = argv.get(at + 1);
        at += match pattern {
            Some(pattern) if args::is(word, "by") && pattern.contains(&b'*') => return Some("BY"),
            Some(_) if args::is(word, "get") => return Some("GET"),
            _ if args::is(word, "limit") => 3,
            _ if args::is(word, "by") || args::is(word, "store") => 2,
            _ => 1,
        };
    }
    None
}

impl Worker {
    /// Takes over what became of a connection's user since its last command.
    pub(crate) fn refresh_user(&mut self, c: &mut Connection) {
        let acl = &self.server.acl;
        c.acl_version = acl.version();
        match acl.user(&c.user.name) {
            Some(user) => c.set_user(user),
            None => {
                c.closing = true;
                c.discard_output();
            }
        }
    }

    /// Whether the user of a connection may do a request.
    pub(crate) fn admit_user(
        &self,
        c: &Connection,
        command: &'static Command,
        argv: Argv<'_>,
    ) -> CommandResult {
        let Some(denied) = self.denied(c, command, argv) else {
            return match pattern_option(command, argv) {
                Some(option) if !c.is_free && !c.user.may_read_all_keys(command, argv) => {
                    Err(format!(
                        "ERR {option} option of SORT denied due to insufficient ACL permissions."
                    )
                    .into())
                }
                _ => Ok(()),
            };
        };
        Err(match denied {
            Denied::Command => format!("NOPERM {}", no_command(&c.user, command)).into(),
            Denied::Key(_) => NO_KEY,
            Denied::Channel(_) => NO_CHANNEL,
        })
    }

    /// As [`Worker::admit_user`], of a command of a script.
    pub(crate) fn admit_scripted(
        &self,
        c: &mut Connection,
        command: &'static Command,
        argv: Argv<'_>,
    ) -> CommandResult {
        c.in_script = true;
        let result = self.admit_user(c, command, argv);
        c.in_script = false;
        result.map_err(|refusal| {
            let text = refusal.text();
            let text = text.strip_prefix(b"NOPERM ").unwrap_or(text);
            [b"ERR ACL failure in script: ", text].concat().into()
        })
    }

    /// As [`Worker::admit_user`], of a command that was allowed when it was queued by MULTI.
    pub(crate) fn admit_queued(
        &self,
        c: &Connection,
        command: &'static Command,
        argv: Argv<'_>,
    ) -> CommandResult {
        let Some(denied) = self.denied(c, command, argv) else {
            return Ok(());
        };
        let why = match denied {
            Denied::Command => "no permission to execute the command or subcommand",
            Denied::Key(_) => "no permission to touch the specified keys",
            Denied::Channel(_) => "no permission to access one of the channels used as arguments",
        };
        Err(format!("NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This command is no longer allowed for the following reason: {why}").into())
    }

    /// What the user of a connection may not do of a request; counted and entered in ACL LOG.
    fn denied(&self, c: &Connection, command: &'static Command, argv: Argv<'_>) -> Option<Denied> {
        if c.is_free {
            return None;
        }
        let denied = c.user.check(command, argv).err()?;
        let object = object(denied, command, argv);
        self.note_denied(c, command, reason_of(denied), object, &c.user.name);
        Some(denied)
    }

    /// Counts a refusal and enters it in ACL LOG.
    pub(crate) fn note_denied(
        &self,
        c: &Connection,
        command: &'static Command,
        reason: Reason,
        object: &[u8],
        user: &[u8],
    ) {
        c.update_record(Some(command));
        let acl = &self.server.acl;
        acl.denied.of(reason).fetch_add(1, Relaxed);
        let mut client = Vec::new();
        client::describe(&c.record, self.now.0, &mut client);
        let entry = Entry {
            id: 0,
            count: 1,
            reason,
            context: match c.transaction {
                _ if c.in_script => Context::Lua,
                Some(_) => Context::Multi,
                None => Context::Toplevel,
            },
            object: object.to_vec(),
            user: user.to_vec(),
            client: String::from_utf8_lossy(client.trim_ascii_end()).into_owned(),
            created_at: self.now,
            updated_at: self.now,
        };
        let len_max = usize::try_from(self.config.acllog_max_len).unwrap_or(usize::MAX);
        acl.log().add(entry, len_max);
    }

    pub(super) fn acl_whoami(&mut self, c: &mut Connection) -> CommandResult {
        let user = c.user.clone();
        c.reply().bulk(&user.name);
        Ok(())
    }

    pub(super) fn acl_users(&mut self, c: &mut Connection) -> CommandResult {
        let users = self.server.acl.users();
        let mut reply = c.reply();
        reply.array(users.len());
        users.keys().for_each(|name| reply.bulk(name));
        Ok(())
    }

    pub(super) fn acl_list(&mut self, c: &mut Connection) -> CommandResult {
        let users = self.server.acl.users();
        let mut reply = c.reply();
        reply.array(users.len());
        for (name, user) in users.iter() {
            reply.bulk(&[b"user ", &name[..], b" ", &user.to_text()].concat());
        }
        Ok(())
    }

    pub(super) fn acl_getuser(&mut self, c: &mut Connection, argv: Argv<'_>) -> CommandResult {
        let Some(user) = self.server.acl.user(argv.arg(2)) else {
            c.reply().null();
            return Ok(());
        };
        let mut reply = c.reply();
        reply.map(6);
        reply.bulk(b"flags");
        let flags = user.flags();
        reply.set(flags.len());
        flags.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
        reply.bulk(b"passwords");
        reply.array(user.passwords().len());
        user.passwords()
            .iter()
            .for_each(|hash| reply.bulk(hash.as_bytes()));
        reply_selector(&mut reply, user.root());
        reply.bulk(b"selectors");
        reply.array(user.further_selectors().len());
        for selector in user.further_selectors() {
            reply.map(3);
            reply_selector(&mut reply, selector);
        }
        Ok(())
    }

    pub(super) fn acl_setuser(&mut self, c: &mut Connection, argv: Argv<'_>) -> CommandResult {
        let name = argv.arg(2);
        if name.iter().any(|b| b.is_ascii_whitespace() || *b == 0) {
            return Err(BAD_NAME);
        }
        let rules: Vec<&[u8]> = argv.from(3).iter().collect();
        let rules = acl::join_selectors(&rules).map_err(|start| {
            let text = b"ERR Unmatched parenthesis in acl selector starting at '";
            CommandError::from([text, &start[..], b"'."].concat())
        })?;
        let all_channels = acl::all_channels(&self.config);
        self.server.acl.change(|users| {
            let user = users
                .entry(name.to_vec())
                .or_insert_with(|| Arc::new(User::new(name, all_channels)));
            let user = Arc::make_mut(user);
            for rule in &rules {
                user.apply(rule, all_channels)
                    .map_err(|error| rule_error(rule, error))?;
            }
            Ok::<_, CommandError>(())
        })?;
        self.user_changed(name);
        c.reply().ok();
        Ok(())
    }

    /// Has connections of a user closed that receive what it may not.
    fn user_changed(&self, name: &[u8]) {
        let Some(user) = self.server.acl.user(name) else {
            return;
        };
        for worker in &self.server.workers {
            worker.mailbox.post(Message::CheckChannels(user.clone()));
        }
    }

    /// Closes this worker's connections of a user that are subscribed to what it may not receive.
    pub(crate) fn close_forbidden_subscribers(&mut self, user: &Arc<User>) {
        use pubsub::Kind;
        let forbidden = |c: &Connection| {
            let own = c.subscriptions.as_ref();
            c.user.name == user.name
                && Kind::ALL.iter().any(|kind| {
                    own.is_some_and(|own| {
                        own.names(*kind)
                            .any(|name| !user.may_subscribe(name, *kind == Kind::Pattern))
                    })
                })
        };
        for conn in self.connections_where(forbidden) {
            self.with_connection(conn, |worker, c| {
                c.closing = true;
                c.discard_output();
                worker.mark_dirty(c);
            });
        }
    }

    pub(super) fn acl_deluser(&mut self, c: &mut Connection, argv: Argv<'_>) -> CommandResult {
        let names: Vec<&[u8]> = argv.from(2).iter().collect();
        if names.contains(&DEFAULT_USER) {
            return Err(DEFAULT_STAYS);
        }
        let deleted = self.server.acl.change(|users| {
            let deleted = names
                .iter()
                .filter(|name| users.remove(**name).is_some())
                .count();
            Ok::<_, CommandError>(deleted)
        })?;
        self.close_users(c, |name| names.contains(&name));
        c.reply().integer(deleted as i64);
        Ok(())
    }

    /// Closes connections of users that are no more; the one that asks, behind its reply.
    fn close_users(&self, c: &mut Connection, is_gone: impl Fn(&[u8]) -> bool) {
        for record in self.server.clients.all() {
            let user = client::labels(&record).user.clone();
            if !is_gone(&user) {
                continue;
            }
            if record.id == c.record.id {
                c.closing = true;
            } else {
                self.kill(&record);
            }
        }
    }

    pub(super) fn acl_cat(&mut self, c: &mut Connection, argv: Argv<'_>) -> CommandResult {
        let names: Vec<String> = match argv.len() {
            2 => Categories::all().names().collect(),
            3 => {
                let category =
                    Categories::from_name_ignoring_case(argv.arg(2)).ok_or_else(|| {
                        let name = argv.arg(2);
                        CommandError::from([b"ERR Unknown category '", name, b"'"].concat())
                    })?;
                command_stats::commands()
                    .iter()
                    .filter(|command| command.acl_categories().contains(category))
                    .map(|command| command.name.to_owned())
                    .collect()
            }
            _ => return Err(CommandError::wrong_subcommand("ACL", argv.arg(1))),
        };
        let mut reply = c.reply();
        reply.array(names.len());
        names.iter().for_each(|name| reply.bulk(name.as_bytes()));
        Ok(())
    }

    pub(super) fn acl_genpass(&mut self, c: &mut Connection, argv: Argv<'_>) -> CommandResult {
        const BITS_DEFAULT: i64 = 256;
        const BITS_MAX: i64 = 4096;
        let bits = match argv.len() {
            2 => BITS_DEFAULT,
            3 => args::integer(argv.arg(2))?,
            _ => return Err(CommandError::wrong_subcommand("ACL", argv.arg(1))),
        };
        if !(1..=BITS_MAX).contains(&bits) {
            return Err(BAD_BITS);
        }
        let digits = (bits as usize).div_ceil(4);
        let mut bytes = vec![0; digits.div_ceil(2)];
        getrandom::fill(&mut bytes).map_err(|error| format!("ERR No randomness: {error}"))?;
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        c.reply().bulk(&text.as_bytes()[..digits]);
        Ok(())
    }

    pub(super) fn acl_dryrun(&mut self, c: &mut Connection, argv: Argv<'_>) -> CommandResult {
        let user = self.server.acl.user(argv.arg(2)).ok_or_else(|| {
            CommandError::from([b"ERR User '", argv.arg(2), b"' not found"].concat())
        })?;
        let request = argv.from(3);
        let mut command = commands::find(request.arg(0)).ok_or_else(|| {
            CommandError::from([b"ERR Command '", request.arg(0), b"' not found"].concat())
        })?;
        if let Some(name) = request.get(1).filter(|_| !command.subcommands.is_empty()) {
            command = commands::find_subcommand(command, name).ok_or_else(|| {
                CommandError::from([b"ERR Command '", request.arg(0), b"' not found"].concat())
            })?;
        }
        if !command.accepts_arity(request.len()) {
            return Err(CommandError::wrong_arity(command.name));
        }
        let Err(denied) = user.check(command, request) else {
            c.reply().ok();
            return Ok(());
        };
        let name = String::from_utf8_lossy(&user.name).into_owned();
        let what = object(denied, command, request);
        let text = match denied {
            Denied::Command => no_command(&user, command).into_bytes(),
            Denied::Key(_) | Denied::Channel(_) => {
                let kind = reason_of(denied).word();
                let begin = format!("User {name} has no permissions to access the '");
                [begin.as_bytes(), what, b"' ", kind.as_bytes()].concat()
            }
        };
        c.reply().bulk(&text);
        Ok(())
    }

    pub(super) fn acl_log(&mut self, c: &mut Connection, argv: Argv<'_>) -> CommandResult {
        const SHOWN_DEFAULT: usize = 10;
        let count = match argv.len() {
            2 => SHOWN_DEFAULT,
            3 if args::is(argv.arg(2), "reset") => {
                self.server.acl.log().clear();
                c.reply().ok();
                return Ok(());
            }
            3 => usize::try_from(args::integer(argv.arg(2))?).unwrap_or(0),
            _ => return Err(CommandError::wrong_subcommand("ACL", argv.arg(1))),
        };
        let log = self.server.acl.log();
        let now = self.now;
        let mut reply = c.reply();
        reply.array(log.entries().count().min(count));
        for entry in log.entries().take(count) {
            reply.map(10);
            reply.bulk(b"count");
            reply.integer(entry.count as i64);
            let age_seconds = (now.0 - entry.created_at.0) as f64 / 1000.0;
            for (name, text) in [
                ("reason", entry.reason.word().as_bytes()),
                ("context", entry.context.word().as_bytes()),
                ("object", &entry.object),
                ("username", &entry.user),
            ] {
                reply.bulk(name.as_bytes());
                reply.bulk(text);
            }
            reply.bulk(b"age-seconds");
            reply.double(&datatypes::number::f64_to_vec(age_seconds));
            reply.bulk(b"client-info");
            reply.bulk(entry.client.as_bytes());
            for (name, number) in [
                ("entry-id", entry.id as i64),
                ("timestamp-created", entry.created_at.0),
                ("timestamp-last-updated", entry.updated_at.0),
            ] {
                reply.bulk(name.as_bytes());
                reply.integer(number);
            }
        }
        Ok(())
    }

    pub(super) fn acl_load(&mut self, c: &mut Connection) -> CommandResult {
        let path = self.config.aclfile.clone().ok_or(NO_FILE)?;
        let loaded = acl::load(&path, &self.config).map_err(|error| format!("ERR {error}"))?;
        let before = self.server.acl.users();
        self.server.acl.change(|users| {
            *users = loaded;
            Ok::<_, CommandError>(())
        })?;
        let after = self.server.acl.users();
        self.close_users(c, |name| !after.contains_key(name));
        for (name, user) in after.iter() {
            // Those that say the same are left alone.
            let same = |old: &Arc<User>| old.to_text() == user.to_text();
            if !before.get(name).is_some_and(same) {
                self.user_changed(name);
            }
        }
        c.reply().ok();
        Ok(())
    }

    pub(super) fn acl_save(&mut self, c: &mut Connection) -> CommandResult {
        use persistence::storage::{replace_small, OsStorage};
        let path = self.config.aclfile.clone().ok_or(NO_FILE)?;
        let text = acl::to_text(&self.server.acl.users());
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let saved = match path.file_name() {
            Some(name) => replace_small(&OsStorage, dir.unwrap_or(Path::new(".")), name, &text),
            None => Err(std::io::ErrorKind::InvalidInput.into()),
        };
        if let Err(error) = saved {
            log!(
                Warning,
                "Cannot save the ACL file {}: {error}",
                path.display()
            );
            return Err(NOT_SAVED);
        }
        c.reply().ok();
        Ok(())
    }
}

fn reply_selector(reply: &mut Reply<'_>, selector: &Selector) {
    for (name, text) in [
        ("commands", selector.commands_text().into_bytes()),
        ("keys", selector.keys_text()),
        ("channels", selector.channels_text()),
    ] {
        reply.bulk(name.as_bytes());
        reply.bulk(&text);
    }
}
