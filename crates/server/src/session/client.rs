//! CLIENT: what connections call themselves, and looking at and closing others.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::MutexGuard;

use commands::{args, errors, Command, CommandError, CommandResult};
use keyspace::UnixMillis;
use resp::Argv;

use super::Host;
use crate::acl::Users;
use crate::clients::{flag, ClientRecord, Labels};
use crate::coordinator::Request;
use crate::worker::connection::{Connection, ReplyMode};
use crate::worker::mailbox::Message;
use crate::worker::Worker;

const INVALID_ID: CommandError = CommandError::new("ERR Invalid client ID");
const ID_NOT_POSITIVE: CommandError = CommandError::new("ERR client-id should be greater than 0");
const MAXAGE_NOT_INTEGER: CommandError =
    CommandError::new("ERR maxage is not an integer or out of range");
const MAXAGE_NOT_POSITIVE: CommandError = CommandError::new("ERR maxage should be greater than 0");
const PAUSE_MODE: CommandError = CommandError::new("ERR CLIENT PAUSE mode must be WRITE or ALL");
const UNBLOCK_REASON: CommandError =
    CommandError::new("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
const NO_SUCH_CLIENT: CommandError = CommandError::new("ERR No such client");

/// Refuses a label that would not survive in a line of CLIENT LIST.
pub fn check_name(name: &[u8], what: &str) -> CommandResult {
    if name.iter().any(|b| !(b'!'..=b'~').contains(b)) {
        return Err(CommandError::from(format!(
            "ERR {what} cannot contain spaces, newlines or special characters."
        )));
    }
    Ok(())
}

/// What kinds of clients there are. There are no replicas.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ClientType {
    Normal,
    Master,
    Replica,
    PubSub,
}

fn client_type(name: &[u8]) -> Result<ClientType, CommandError> {
    let types = [
        ("normal", ClientType::Normal),
        ("master", ClientType::Master),
        ("replica", ClientType::Replica),
        ("slave", ClientType::Replica),
        ("pubsub", ClientType::PubSub),
    ];
    types
        .iter()
        .find(|(word, _)| args::is(name, word))
        .map(|(_, kind)| *kind)
        .ok_or_else(|| {
            let name = String::from_utf8_lossy(name);
            CommandError::from(format!("ERR Unknown client type '{name}'"))
        })
}

fn type_of(record: &ClientRecord) -> ClientType {
    match record.flags.load(Relaxed) & flag::PUBSUB {
        0 => ClientType::Normal,
        _ => ClientType::PubSub,
    }
}

/// What CLIENT KILL's filters say; all must fit.
#[derive(Default)]
struct Filters {
    id: Option<u64>,
    kind: Option<ClientType>,
    address: Option<Vec<u8>>,
    local_address: Option<Vec<u8>>,
    user: Option<Vec<u8>>,
    age_seconds_min: Option<i64>,
    spares_caller: bool,
}

impl Filters {
    fn parse(argv: Argv<'_>, users: &Users) -> Result<Filters, CommandError> {
        let mut filters = Filters {
            spares_caller: true,
            ..Filters::default()
        };
        let mut next = 2;
        while let Some(word) = argv.get(next) {
            let value = argv.get(next + 1).ok_or(errors::SYNTAX)?;
            if args::is(word, "id") {
                let id = args::positive_or(value, ID_NOT_POSITIVE)?;
                filters.id = Some(id as u64);
            } else if args::is(word, "maxage") {
                let age = args::integer_or(value, MAXAGE_NOT_INTEGER)?;
                if age <= 0 {
                    return Err(MAXAGE_NOT_POSITIVE);
                }
                filters.age_seconds_min = Some(age);
            } else if args::is(word, "type") {
                filters.kind = Some(client_type(value)?);
            } else if args::is(word, "addr") {
                filters.address = Some(value.to_vec());
            } else if args::is(word, "laddr") {
                filters.local_address = Some(value.to_vec());
            } else if args::is(word, "user") {
                if users.get(value).is_none() {
                    let user = String::from_utf8_lossy(value);
                    return Err(format!("ERR No such user '{user}'").into());
                }
                filters.user = Some(value.to_vec());
            } else if args::is(word, "skipme") {
                filters.spares_caller = match value {
                    _ if args::is(value, "yes") => true,
                    _ if args::is(value, "no") => false,
                    _ => return Err(errors::SYNTAX),
                };
            } else {
                return Err(errors::SYNTAX);
            }
            next += 2;
        }
        Ok(filters)
    }

    fn fit(&self, record: &ClientRecord, now_ms: i64) -> bool {
        let age_seconds = (now_ms - record.connected_at.0) / 1000;
        self.id.is_none_or(|id| id == record.id)
            && self.kind.is_none_or(|kind| kind == type_of(record))
            && self
                .address
                .as_ref()
                .is_none_or(|address| address == record.address.as_bytes())
            && self
                .local_address
                .as_ref()
                .is_none_or(|address| address == record.local_address.as_bytes())
            && self
                .user
                .as_ref()
                .is_none_or(|user| *user == labels(record).user)
            && self.age_seconds_min.is_none_or(|min| age_seconds >= min)
    }
}

pub fn labels(record: &ClientRecord) -> MutexGuard<'_, Labels> {
    record.labels.lock().expect("no holder of this lock panics")
}

/// ON or OFF.
fn switch(argv: Argv<'_>) -> Result<bool, CommandError> {
    match argv.arg(2) {
        word if args::is(word, "on") => Ok(true),
        word if args::is(word, "off") => Ok(false),
        _ => Err(errors::SYNTAX),
    }
}

impl Worker {
    pub(super) fn client_id(&mut self, c: &mut Connection) -> CommandResult {
        let id = c.record.id as i64;
        c.reply().integer(id);
        Ok(())
    }

    pub(super) fn client_getname(&mut self, c: &mut Connection) -> CommandResult {
        let name = labels(&c.record).name.clone();
        c.reply()
            .bulk_or_null((!name.is_empty()).then_some(name.as_slice()));
        Ok(())
    }

    pub(super) fn client_setname(&mut self, c: &mut Connection, argv: Argv<'_>) -> CommandResult {
        check_name(argv.arg(2), "Client names")?;
        labels(&c.record).name = argv.arg(2).to_vec();
        c.reply().ok();
        Ok(())
    }

    pub(super) fn client_setinfo(&mut self, c: &mut Connection, argv: Argv<'_>) -> CommandResult {
        let (attribute, value) = (argv.arg(2), argv.arg(3));
        let shown = String::from_utf8_lossy(attribute);
        let is_name = args::is(attribute, "lib-name");
        if !is_name && !args::is(attribute, "lib-ver") {
            return Err(format!("ERR Unrecognized option '{shown}'").into());
        }
        check_name(value, &shown)?;
        let mut labels = labels(&c.record);
        if is_name {
            labels.library_name = value.to_vec();
        } else {
            labels.library_version = value.to_vec();
        }
        drop(labels);
        c.reply().ok();
        Ok(())
    }

    pub(super) fn client_no_evict(&mut self, c: &mut Connection, argv: Argv<'_>) -> CommandResult {
        c.no_evict = switch(argv)?;
        c.reply().ok();
        Ok(())
    }

    pub(super) fn client_no_touch(&mut self, c: &mut Connection, argv: Argv<'_>) -> CommandResult {
        c.no_touch = switch(argv)?;
        c.reply().ok();
        Ok(())
    }

    pub(super) fn client_reply(&mut self, c: &mut Connection, argv: Argv<'_>) -> CommandResult {
        let mode = argv.arg(2);
        if args::is(mode, "on") {
            c.reply_mode = ReplyMode::On;
            c.reply().ok();
        } else if args::is(mode, "off") {
            c.reply_mode = ReplyMode::Off;
        } else if args::is(mode, "skip") {
            if c.reply_mode != ReplyMode::Off {
                c.reply_mode = ReplyMode::SkipNext;
            }
        } else {
            return Err(errors::SYNTAX);
        }
        Ok(())
    }

    pub(super) fn client_info(
        &mut self,
        c: &mut Connection,
        command: &'static Command,
        argv: Argv<'_>,
    ) -> CommandResult {
        c.update_record(Some(command));
        c.record.note_argv(argv);
        let mut text = Vec::new();
        describe(&c.record, self.now.0, &mut text);
        c.record.argv_bytes.store(0, Relaxed);
        c.reply().verbatim("txt", &text);
        Ok(())
    }

    pub(super) fn client_list(
        &mut self,
        c: &mut Connection,
        command: &'static Command,
        argv: Argv<'_>,
    ) -> CommandResult {
        c.update_record(Some(command));
        let clients = &self.server.clients;
        let filter = argv.get(2);
        let listed = match filter {
            None => clients.all(),
            Some(word) if args::is(word, "type") && argv.len() == 4 => {
                let kind = client_type(argv.arg(3))?;
                let mut all = clients.all();
                all.retain(|record| type_of(record) == kind);
                all
            }
            Some(word) if args::is(word, "id") && argv.len() > 3 => {
                let mut listed = Vec::new();
                for arg in argv.from(3).iter() {
                    let id = args::integer_or(arg, INVALID_ID)?;
                    listed.extend(u64::try_from(id).ok().and_then(|id| clients.get(id)));
                }
                listed
            }
            Some(_) => return Err(errors::SYNTAX),
        };
        c.record.note_argv(argv);
        let mut text = Vec::new();
        for record in listed {
            describe(&record, self.now.0, &mut text);
        }
        c.record.argv_bytes.store(0, Relaxed);
        c.reply().verbatim("txt", &text);
        Ok(())
    }

    pub(super) fn client_kill(&mut self, c: &mut Connection, argv: Argv<'_>) -> CommandResult {
        let by_address = argv.len() == 3;
        let filters = if by_address {
            Filters {
                address: Some(argv.arg(2).to_vec()),
                ..Filters::default()
            }
        } else {
            Filters::parse(argv, &self.server.acl.users())?
        };
        let mut killed = 0;
        for record in self.server.clients.all() {
            let is_caller = record.id == c.record.id;
            if (is_caller && filters.spares_caller) || !filters.fit(&record, self.now.0) {
                continue;
            }
            killed += 1;
            if is_caller {
                c.closing = true;
            } else {
                self.kill(&record);
            }
        }
        match (by_address, killed) {
            (true, 0) => return Err(NO_SUCH_CLIENT),
            (true, _) => c.reply().ok(),
            (false, _) => c.reply().integer(killed),
        }
        Ok(())
    }

    pub(super) fn client_unblock(&mut self, c: &mut Connection, argv: Argv<'_>) -> CommandResult {
        if argv.len() > 4 {
            return Err(CommandError::wrong_subcommand("CLIENT", argv.arg(1)));
        }
        let with_error = match argv.get(3) {
            None => false,
            Some(word) if args::is(word, "timeout") => false,
            Some(word) if args::is(word, "error") => true,
            Some(_) => return Err(UNBLOCK_REASON),
        };
        let id = args::integer(argv.arg(2))?;
        let client = u64::try_from(id).ok();
        let client = client.and_then(|id| self.server.clients.get(id));
        let blocked = client.filter(|record| record.take_wait());
        if let Some(record) = &blocked {
            let conn = record.conn;
            self.server.workers[record.worker]
                .mailbox
                .post(Message::Unblock { conn, with_error });
        }
        c.reply().integer(i64::from(blocked.is_some()));
        Ok(())
    }

    pub(super) fn client_pause(
        &mut self,
        c: &mut Connection,
        argv: Argv<'_>,
        situation: &Host<'_, '_>,
    ) -> CommandResult {
        if argv.len() > 4 {
            return Err(CommandError::wrong_subcommand("CLIENT", argv.arg(1)));
        }
        let all = match argv.get(3) {
            None => true,
            Some(word) if args::is(word, "all") => true,
            Some(word) if args::is(word, "write") => false,
            Some(_) => return Err(PAUSE_MODE),
        };
        let ms = args::integer_or(argv.arg(2), errors::TIMEOUT_NOT_INTEGER)?;
        let until = args::timeout_over(ms, self.now)?.unwrap_or(UnixMillis(0));
        let reply_to = if situation.in_transaction() {
            // Nothing may wait here. The coordinator makes it exact.
            self.server.pause.begin(until, all, self.now);
            c.reply().ok();
            None
        } else {
            Some(self.wait_for_reply(c))
        };
        self.request(Request::Pause {
            until,
            all,
            reply_to,
        });
        Ok(())
    }

    pub(super) fn client_unpause(
        &mut self,
        c: &mut Connection,
        situation: &Host<'_, '_>,
    ) -> CommandResult {
        let reply_to = if situation.in_transaction() {
            self.server.pause.end();
            c.reply().ok();
            None
        } else {
            Some(self.wait_for_reply(c))
        };
        self.request(Request::Unpause(reply_to));
        Ok(())
    }

    /// Closes another client's connection: from here on it runs nothing and is not listed.
    pub(crate) fn kill(&self, record: &ClientRecord) {
        record.killed.store(true, Relaxed);
        // What becomes ready from here on goes to others.
        let _ = record.take_wait();
        self.server.clients.remove(record.id);
        self.server.workers[record.worker]
            .mailbox
            .post(Message::Kill(record.conn));
    }
}

/// The flags of CLIENT LIST as letters.
fn flag_letters(record: &ClientRecord) -> String {
    let flags = record.flags.load(Relaxed);
    let letters: String = [
        (flags & flag::MONITOR != 0, 'O'),
        (flags & flag::PUBSUB != 0, 'P'),
        (flags & flag::MULTI != 0, 'x'),
        (flags & flag::BLOCKED != 0, 'b'),
        (flags & flag::TRACKING != 0, 't'),
        (flags & flag::REDIRECT_BROKEN != 0, 'R'),
        (flags & flag::BROADCAST != 0, 'B'),
        (flags & flag::WATCH_BROKEN != 0, 'd'),
        (flags & flag::CLOSE_AFTER_REPLY != 0, 'c'),
        (record.is_unix, 'U'),
        (flags & flag::NO_EVICT != 0, 'e'),
        (flags & flag::NO_TOUCH != 0, 'T'),
    ]
    .iter()
    .filter(|(on, _)| *on)
    .map(|(_, letter)| *letter)
    .collect();
    if letters.is_empty() {
        "N".to_owned()
    } else {
        letters
    }
}

/// Output in front of this counts as `obl`, what is behind it in blocks of this size as `oll` and `omem`.
const OUTPUT_BLOCK_BYTES: usize = 16 << 10;

/// Appends a client's line of CLIENT LIST.
pub fn describe(record: &ClientRecord, now_ms: i64, out: &mut Vec<u8>) {
    let load = |counter: &std::sync::atomic::AtomicUsize| counter.load(Relaxed);
    let labels = labels(record).clone();
    let seconds_since = |ms: i64| (now_ms - ms).max(0) / 1000;
    let output = load(&record.output_bytes);
    let queued = output.saturating_sub(OUTPUT_BLOCK_BYTES);
    let capacity = load(&record.output_capacity_bytes);
    let mut line = String::new();
    // Writing to a string cannot fail.
    let _ = write!(
        line,
        "id={} addr={} laddr={} fd={} name=",
        record.id, record.address, record.local_address, record.fd
    );
    out.extend_from_slice(line.as_bytes());
    out.extend_from_slice(&labels.name);
    line.clear();
    let _ = write!(
        line,
        " age={} idle={} flags={} db={} sub={} psub={} ssub={} multi={} watch={} qbuf={} qbuf-free={} \
         argv-mem={} multi-mem={} rbs={capacity} rbp={capacity} obl={} oll={} omem={} tot-mem={} \
         events={} cmd={} user=",
        seconds_since(record.connected_at.0),
        seconds_since(record.active_at.load(Relaxed)),
        flag_letters(record),
        record.db.load(Relaxed),
        load(&record.subscriptions[0]),
        load(&record.subscriptions[1]),
        load(&record.subscriptions[2]),
        record.multi.load(Relaxed),
        load(&record.watches),
        load(&record.input_bytes),
        load(&record.input_free_bytes),
        load(&record.argv_bytes),
        load(&record.multi_bytes),
        output - queued,
        queued.div_ceil(OUTPUT_BLOCK_BYTES),
        queued,
        load(&record.memory_bytes),
        if output > 0 { "rw" } else { "r" },
        record.last_command().map_or("NULL", |command| command.name),
    );
    out.extend_from_slice(line.as_bytes());
    out.extend_from_slice(&labels.user);
    line.clear();
    let _ = write!(
        line,
        " redir={} resp={} lib-name=",
        record.redirect.load(Relaxed),
        record.resp.load(Relaxed)
    );
    out.extend_from_slice(line.as_bytes());
    out.extend_from_slice(&labels.library_name);
    out.extend_from_slice(b" lib-ver=");
    out.extend_from_slice(&labels.library_version);
    out.push(b'\n');
}
