//! MONITOR: every command that ran, to the connections that asked for it.
//!
//! While anybody monitors, no command takes the fast path or travels to an inbox: each is told of where
//! it ran, with the batons held, so that monitors see the commands of a key in the order of their effects.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use commands::{args, Command, Flags, HostCommand, Run};
use keyspace::DbIndex;
use resp::Argv;

use super::connection::Connection;
use super::Worker;
use crate::clock;
use crate::pubsub::To;

/// How many connections monitor, by worker.
pub struct Monitors {
    workers: Box<[AtomicUsize]>,
    all: AtomicUsize,
}

impl Monitors {
    pub fn new(workers: usize) -> Monitors {
        Monitors {
            workers: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
            all: AtomicUsize::new(0),
        }
    }

    #[inline]
    pub fn any(&self) -> bool {
        self.all.load(Relaxed) > 0
    }
}

impl Worker {
    pub(crate) fn begin_monitoring(&mut self, c: &mut Connection) {
        c.monitors = true;
        self.monitoring.push(c.id);
        let monitors = &self.server.monitors;
        monitors.workers[self.index].fetch_add(1, Relaxed);
        monitors.all.fetch_add(1, Relaxed);
    }

    pub(crate) fn end_monitoring(&mut self, c: &mut Connection) {
        if std::mem::take(&mut c.monitors) {
            self.monitoring.retain(|conn| *conn != c.id);
            let monitors = &self.server.monitors;
            monitors.workers[self.index].fetch_sub(1, Relaxed);
            monitors.all.fetch_sub(1, Relaxed);
        }
    }

    /// Tells monitors of a command of this connection that has run.
    #[inline]
    pub(crate) fn show_to_monitors(
        &mut self,
        c: &Connection,
        command: &'static Command,
        argv: Argv<'_>,
    ) {
        if self.server.monitors.any() {
            self.was_monitored = true;
            let untold = Flags::ADMIN.union(Flags::SKIP_MONITOR);
            if !command.flags.intersects(untold) {
                self.tell_monitors(c.db, source(c), command, argv);
            }
        }
    }

    /// As [`show_to_monitors`](Self::show_to_monitors), before it runs, of a script: it is told of in front of what it calls.
    pub(crate) fn monitor_script(
        &mut self,
        c: &Connection,
        command: &'static Command,
        argv: Argv<'_>,
    ) {
        if self.server.monitors.any() && command.flags.contains(Flags::SKIP_MONITOR) {
            self.tell_monitors(c.db, source(c), command, argv);
        }
    }

    /// As [`show_to_monitors`](Self::show_to_monitors), of a command that a script called.
    pub(crate) fn monitor_called(
        &mut self,
        db: DbIndex,
        command: &'static Command,
        argv: Argv<'_>,
    ) {
        let untold = Flags::ADMIN.union(Flags::SKIP_MONITOR);
        if self.server.monitors.any() && !command.flags.intersects(untold) {
            self.tell_monitors(db, "lua", command, argv);
        }
    }

    #[cold]
    fn tell_monitors(
        &mut self,
        db: DbIndex,
        source: &str,
        command: &'static Command,
        argv: Argv<'_>,
    ) {
        let line: Arc<[u8]> = line(db, source, command, argv).into();
        let server = self.server;
        for worker in 0..server.workers.len() {
            if server.monitors.workers[worker].load(Relaxed) > 0 {
                self.publisher
                    .post(server, worker, To::Monitors, &line, &[]);
            }
        }
    }
}

fn source(c: &Connection) -> &str {
    &c.record.address
}

/// `+1700000000.123456 [0 127.0.0.1:5000] "GET" "k"`
fn line(db: DbIndex, source: &str, command: &Command, argv: Argv<'_>) -> Vec<u8> {
    let mut line = format!("+{} [{} {source}]", time(), db.0).into_bytes();
    for (index, arg) in argv.iter().enumerate() {
        if is_secret(command, argv, index) {
            line.extend_from_slice(b" \"(redacted)\"");
        } else {
            line.push(b' ');
            quote(arg, &mut line);
        }
    }
    line.extend_from_slice(b"\r\n");
    line
}

/// Seconds, with six decimals.
fn time() -> String {
    let micros = match clock::is_simulated() {
        true => clock::unix_millis().0 as u128 * 1000,
        false => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_micros(),
    };
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

/// Whether an argument is part of what somebody authenticates with.
fn is_secret(command: &Command, argv: Argv<'_>, index: usize) -> bool {
    match command.run {
        Run::Host(HostCommand::Auth) => index > 0,
        Run::Host(HostCommand::Hello) => {
            let follows = |back: usize| {
                let at = index.checked_sub(back).filter(|at| *at >= 2);
                at.is_some_and(|at| args::is(argv.arg(at), "auth"))
            };
            follows(1) || follows(2)
        }
        _ => false,
    }
}

fn quote(arg: &[u8], line: &mut Vec<u8>) {
    line.push(b'"');
    for &byte in arg {
        match byte {
            b'\\' | b'"' => line.extend_from_slice(&[b'\\', byte]),
            b'\n' => line.extend_from_slice(b"\\n"),
            b'\r' => line.extend_from_slice(b"\\r"),
            b'\t' => line.extend_from_slice(b"\\t"),
            7 => line.extend_from_slice(b"\\a"),
            8 => line.extend_from_slice(b"\\b"),
            b' '..=b'~' => line.push(byte),
            _ => line.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
        }
    }
    line.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_shown_as_redis_shows_them() {
        let mut line = Vec::new();
        quote(b"a \"\\\r\n\t\x07\x08\x00\xff~", &mut line);
        assert_eq!(line, br#""a \"\\\r\n\t\a\b\x00\xff~""#);
    }

    #[test]
    fn secrets_are_not_shown() {
        let shown = |request: &[&[u8]]| {
            let owned = resp::OwnedArgv::from_args(request.iter().copied());
            let command = commands::find(request[0]).expect("it is a command");
            let line = line(DbIndex(3), "me", command, owned.argv());
            let line = String::from_utf8(line).expect("what is shown is ASCII");
            line.split_once("] ").expect("it has a source").1.to_owned()
        };
        assert_eq!(
            shown(&[b"AUTH", b"me", b"it"]),
            "\"AUTH\" \"(redacted)\" \"(redacted)\"\r\n"
        );
        assert_eq!(
            shown(&[b"HELLO", b"3", b"AUTH", b"me", b"it", b"SETNAME", b"n"]),
            "\"HELLO\" \"3\" \"AUTH\" \"(redacted)\" \"(redacted)\" \"SETNAME\" \"n\"\r\n"
        );
    }
}
