//! SLOWLOG: the commands that took long, newest first.

use std::collections::VecDeque;

use commands::{Command, Flags, HostCommand, Run};
use resp::Argv;

/// Arguments that an entry shows, the last of which may tell how many there are more.
const ARGS_MAX: usize = 32;
/// Bytes of an argument that it shows.
const ARG_BYTES_MAX: usize = 128;

pub struct Entry {
    pub id: u64,
    pub at_seconds: i64,
    pub micros: u64,
    pub args: Vec<Vec<u8>>,
    pub address: String,
    pub client_name: Vec<u8>,
}

#[derive(Default)]
pub struct SlowLog {
    entries: VecDeque<Entry>,
    next_id: u64,
}

impl SlowLog {
    /// Adds an entry, whose id is given here.
    pub fn add(&mut self, mut entry: Entry) {
        entry.id = self.next_id;
        self.next_id += 1;
        self.entries.push_front(entry);
    }

    /// Forgets what is beyond the length allowed.
    pub fn keep(&mut self, len_max: u64) {
        self.entries
            .truncate(usize::try_from(len_max).unwrap_or(usize::MAX));
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

/// The first argument of a command that must not be shown, nor those behind it.
fn redacted_from(command: &Command, argv: Argv<'_>) -> usize {
    let is = |at: usize, word: &str| {
        argv.get(at)
            .is_some_and(|arg| commands::args::is(arg, word))
    };
    match command.run {
        Run::Host(HostCommand::Auth) => 1,
        Run::Host(HostCommand::AclSetuser) => 2,
        Run::Host(HostCommand::Hello) => {
            let auth = (1..argv.len()).find(|at| is(*at, "auth"));
            auth.map_or(usize::MAX, |at| at + 1)
        }
        _ => usize::MAX,
    }
}

/// Whether an argument of CONFIG SET is the value of a directive that must not be shown.
fn is_secret_value(command: &Command, argv: Argv<'_>, at: usize) -> bool {
    matches!(command.run, Run::Host(HostCommand::ConfigSet))
        && at >= 3
        && at % 2 == 1
        && config::find(argv.arg(at - 1))
            .is_some_and(|row| row.flags.contains(config::Flags::SENSITIVE))
}

/// What an entry shows of a command's arguments. Nothing for commands that are not to be logged.
pub fn shown(command: &Command, argv: Argv<'_>) -> Option<Vec<Vec<u8>>> {
    if command.flags.contains(Flags::SKIP_SLOWLOG) {
        return None;
    }
    let redacted = redacted_from(command, argv);
    let whole = if argv.len() > ARGS_MAX {
        ARGS_MAX - 1
    } else {
        argv.len()
    };
    let show = |at: usize| {
        let arg = argv.arg(at);
        if at >= redacted || is_secret_value(command, argv, at) {
            return b"(redacted)".to_vec();
        }
        match arg.len() {
            0..=ARG_BYTES_MAX => arg.to_vec(),
            len => {
                let more = format!("... ({} more bytes)", len - ARG_BYTES_MAX);
                [&arg[..ARG_BYTES_MAX], more.as_bytes()].concat()
            }
        }
    };
    let mut args: Vec<Vec<u8>> = (0..whole).map(show).collect();
    if whole < argv.len() {
        let more = format!("... ({} more arguments)", argv.len() - whole);
        args.push(more.into_bytes());
    }
    Some(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(request: &[&str], expected: &[&str]) {
        let args: Vec<&[u8]> = request.iter().map(|arg| arg.as_bytes()).collect();
        let owned = resp::OwnedArgv::from_args(args.iter().copied());
        let name = match request {
            ["acl" | "config", sub, ..] => format!("{}|{sub}", request[0]),
            _ => request[0].to_owned(),
        };
        let command = commands::find_by_full_name(name.as_bytes()).expect("a command");
        let shown = shown(command, owned.argv()).expect("is logged");
        let shown: Vec<_> = shown
            .iter()
            .map(|arg| String::from_utf8_lossy(arg))
            .collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn long_requests_are_cut_and_secrets_are_not_shown() {
        check(&["get", "a"], &["get", "a"]);
        check(
            &["auth", "bob", "pw"],
            &["auth", "(redacted)", "(redacted)"],
        );
        check(
            &["hello", "3", "auth", "bob", "pw"],
            &["hello", "3", "auth", "(redacted)", "(redacted)"],
        );
        check(
            &["config", "set", "port", "1", "requirepass", "x"],
            &["config", "set", "port", "1", "requirepass", "(redacted)"],
        );
        check(
            &["acl", "setuser", "bob", ">pw"],
            &["acl", "setuser", "(redacted)", "(redacted)"],
        );
        let long = "x".repeat(200);
        let cut = format!("{}... (72 more bytes)", "x".repeat(128));
        check(&["get", &long], &["get", &cut]);
        let mut many = vec!["del"];
        many.resize(40, "k");
        let mut expected = vec!["del"];
        expected.resize(31, "k");
        expected.push("... (9 more arguments)");
        check(&many, &expected);
    }
}
