//! Whether a request may run: what is checked before it does, in Redis's order, and the words of refusals.

use commands::{errors, Command, CommandError, CommandResult, Flags, HostCommand, Run};
use resp::Argv;

use super::connection::Connection;
use super::Worker;
use crate::log;
use crate::session::transaction;

const NO_AUTH: CommandError = CommandError::new("NOAUTH Authentication required.");
const LOADING: CommandError = CommandError::new("LOADING Redis is loading the dataset in memory");
const NOT_IN_MULTI: CommandError =
    CommandError::new("ERR Command not allowed inside a transaction");

impl Worker {
    /// Counts a command that is refused before it runs. An EXEC that is refused ends its
    /// transaction.
    pub(super) fn rejected(
        &mut self,
        c: &mut Connection,
        command: &'static Command,
        error: CommandError,
    ) -> CommandError {
        self.stats().of(command).rejected.add(1);
        if !matches!(command.run, Run::Host(HostCommand::Exec)) {
            return error;
        }
        c.transaction = None;
        self.forget_watches(c);
        let reason = error.text();
        let reason = reason.strip_prefix(b"ERR ").unwrap_or(reason);
        [b"EXECABORT Transaction discarded because of: ", reason]
            .concat()
            .into()
    }

    /// Closes the connection of what talks HTTP: a web page's script may be behind it.
    #[cold]
    pub(super) fn refuse_http(&self, c: &mut Connection) {
        log!(Warning, "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: commands to Redis. This is likely due to an attacker attempting to use Cross Protocol Scripting to compromise your server. Connection from {} aborted.", c.record.address);
        c.closing = true;
        c.discard_output();
    }

    /// The checks before a command runs or is queued, in Redis's order.
    pub(super) fn admit(
        &mut self,
        c: &Connection,
        command: &'static Command,
        argv: Argv<'_>,
    ) -> CommandResult {
        if matches!(command.run, Run::Host(HostCommand::Debug)) {
            self.admit_debug(c)?;
        }
        if !c.authenticated
            && self.server.acl.demands_login()
            && !command.flags.contains(Flags::NO_AUTH)
        {
            return Err(NO_AUTH);
        }
        if c.transaction.is_some() && command.flags.contains(Flags::NO_MULTI) {
            return Err(NOT_IN_MULTI);
        }
        self.admit_user(c, command, argv)?;
        if c.monitors && concerns_keys(command) {
            return Err(errors::MONITOR_AND_KEYS);
        }
        if c.is_confined() && !is_allowed_when_confined(command) {
            return Err(errors::not_while_subscribed(command.name));
        }
        if self.server.is_loading() && !command.flags.contains(Flags::LOADING) {
            return Err(LOADING);
        }
        if self.gate.is_due() {
            self.make_room_for(c, command)?;
        }
        match self.refusal_of_writes() {
            Some(refusal) if command.is_write() || command.name == "ping" => Err(refusal),
            _ => Ok(()),
        }
    }

    /// Evicts if memory is short. Refuses what needs memory if that does not help; what is queued always needs some.
    pub(super) fn make_room_for(
        &mut self,
        c: &Connection,
        command: &'static Command,
    ) -> CommandResult {
        let needs_memory = match &c.transaction {
            Some(queued) if matches!(command.run, Run::Host(HostCommand::Exec)) => {
                queued.needs_memory()
            }
            Some(_) => !transaction::is_transaction_control(command),
            None => command.needs_memory(),
        };
        match self.make_room() {
            Err(refusal) if needs_memory => Err(refusal),
            _ => Ok(()),
        }
    }
}

/// Whether the user that a connection is logged in as may do a request.
pub(super) fn permits(c: &Connection, command: Option<&'static Command>, argv: Argv<'_>) -> bool {
    let arity_fits = |command: &&Command| command.accepts_arity(argv.len());
    c.authenticated
        && command
            .filter(arity_fits)
            .is_some_and(|command| c.user.check(command, argv).is_ok())
}

/// The command, or the subcommand of a container, with a well-formed number of arguments.
/// With the error comes the command that is refused, if there is one.
pub(super) fn resolve(
    command: Option<&'static Command>,
    argv: Argv<'_>,
) -> Result<&'static Command, (Option<&'static Command>, CommandError)> {
    let Some(mut command) = command else {
        return Err((None, unknown_command(argv)));
    };
    if !command.subcommands.is_empty() {
        if let Some(name) = argv.get(1) {
            command = commands::find_subcommand(command, name)
                .ok_or_else(|| (None, unknown_subcommand(command, name)))?;
        }
    }
    if !command.accepts_arity(argv.len()) || matches!(command.run, Run::Container) {
        return Err((Some(command), CommandError::wrong_arity(command.name)));
    }
    Ok(command)
}

/// Whether a monitoring connection may not call it.
pub(super) fn concerns_keys(command: &Command) -> bool {
    let of_keys = Flags::WRITE
        .union(Flags::READONLY)
        .union(Flags::MAY_REPLICATE);
    command.flags.intersects(of_keys)
        || matches!(
            command.run,
            Run::Host(HostCommand::Publish | HostCommand::Spublish)
        )
}

/// Whether the command's reply is a push, or what stands for one in RESP2.
pub(super) fn replies_by_push(command: &Command) -> bool {
    use HostCommand as H;
    matches!(
        command.run,
        Run::Host(
            H::Subscribe
                | H::Psubscribe
                | H::Ssubscribe
                | H::Unsubscribe
                | H::Punsubscribe
                | H::Sunsubscribe
        )
    )
}

/// Whether a subscribed connection that speaks RESP2 may call it.
pub(super) fn is_allowed_when_confined(command: &Command) -> bool {
    use HostCommand as H;
    replies_by_push(command) || matches!(command.run, Run::Host(H::Ping | H::Quit | H::Reset))
}

/// A request's first line or header, in HTTP.
pub(super) fn is_http(argv: Argv<'_>) -> bool {
    [b"host:".as_slice(), b"post"]
        .iter()
        .any(|word| argv.arg(0).eq_ignore_ascii_case(word))
}

pub(super) fn unknown_command(argv: Argv<'_>) -> CommandError {
    /// Redis shows so many bytes of the name, and about as many of the arguments.
    const SHOWN_BYTES: usize = 128;
    let mut args = Vec::new();
    for arg in argv.from(1).iter() {
        if args.len() >= SHOWN_BYTES {
            break;
        }
        let room = SHOWN_BYTES - args.len();
        args.extend([b"'", visible(arg, room), b"' "].concat());
    }
    let name = visible(argv.arg(0), SHOWN_BYTES);
    let with_args = b"', with args beginning with: ";
    [b"ERR unknown command '", name, with_args, &args]
        .concat()
        .into()
}

/// At most `room` bytes of an argument, and only those in front of a zero byte, as Redis shows it.
pub(super) fn visible(bytes: &[u8], room: usize) -> &[u8] {
    let bytes = errors::before_zero_byte(bytes);
    &bytes[..bytes.len().min(room)]
}

pub(super) fn unknown_subcommand(container: &Command, name: &[u8]) -> CommandError {
    let container = container.name.to_ascii_uppercase();
    [
        b"ERR unknown subcommand '",
        visible(name, 128),
        b"'. Try ",
        container.as_bytes(),
        b" HELP.",
    ]
    .concat()
    .into()
}
