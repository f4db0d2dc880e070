//! SLOWLOG and LATENCY, and what enters them when a command has run.

use std::sync::MutexGuard;
use std::time::Duration;

use commands::{args, Command, CommandError, CommandResult, Flags};
use resp::Argv;

use crate::command_stats::{self, Latencies};
use crate::observe::latency::{self, Monitor, Patient, Spike};
use crate::observe::slowlog::{self, Entry, SlowLog};
use crate::worker::connection::Connection;
use crate::worker::Worker;

const BAD_COUNT: CommandError =
    CommandError::new("ERR count should be greater than or equal to -1");

impl Worker {
    /// From when on a command is slow to somebody; none: never.
    pub(crate) fn slow_from(&self) -> Option<Duration> {
        let micros = u64::try_from(self.config.slowlog_log_slower_than_micros).ok();
        let ms = Some(self.config.latency_monitor_threshold_ms).filter(|ms| *ms > 0);
        [
            micros.map(Duration::from_micros),
            ms.map(Duration::from_millis),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Enters a command that has run, and took as long as [`Worker::slow_from`] at least, where its time is of interest.
    #[cold]
    pub(crate) fn note_slow(
        &self,
        c: &Connection,
        command: &'static Command,
        argv: Argv<'_>,
        took: Duration,
    ) {
        let event = match command.flags.contains(Flags::FAST) {
            true => latency::FAST_COMMAND,
            false => latency::COMMAND,
        };
        let threshold_ms = self.config.latency_monitor_threshold_ms;
        self.server.note_latency(event, took, threshold_ms);
        let micros = took.as_micros() as u64;
        let limit = u64::try_from(self.config.slowlog_log_slower_than_micros);
        if !limit.is_ok_and(|limit| micros >= limit) {
            return;
        }
        let Some(args) = slowlog::shown(command, argv) else {
            return;
        };
        let client_name = super::client::labels(&c.record).name.clone();
        let mut log = self.slowlog();
        log.add(Entry {
            id: 0,
            at_seconds: self.now.0 / 1000,
            micros,
            args,
            address: c.record.address.clone(),
            client_name,
        });
    }

    /// The slow log, with as many entries as are to be kept.
    fn slowlog(&self) -> MutexGuard<'_, SlowLog> {
        let log = self.server.slowlog.lock();
        let mut log = log.expect("no holder of this lock panics");
        log.keep(self.config.slowlog_max_len);
        log
    }

    fn monitor(&self) -> MutexGuard<'_, Monitor> {
        let monitor = self.server.latency.lock();
        monitor.expect("no holder of this lock panics")
    }

    pub(super) fn slowlog_get(&mut self, c: &mut Connection, argv: Argv<'_>) -> CommandResult {
        const SHOWN_DEFAULT: usize = 10;
        let count = match argv.len() {
            2 => SHOWN_DEFAULT,
            3 => match args::integer_or(argv.arg(2), BAD_COUNT)? {
                -1 => usize::MAX,
                count => usize::try_from(count).map_err(|_| BAD_COUNT)?,
            },
            _ => return Err(CommandError::wrong_subcommand("SLOWLOG", argv.arg(1))),
        };
        let log = self.slowlog();
        let mut reply = c.reply();
        reply.array(log.len().min(count));
        for entry in log.entries().take(count) {
            reply.array(6);
            reply.integer(entry.id as i64);
            reply.integer(entry.at_seconds);
            reply.integer(entry.micros as i64);
            reply.array(entry.args.len());
            entry.args.iter().for_each(|arg| reply.bulk(arg));
            reply.bulk(entry.address.as_bytes());
            reply.bulk(&entry.client_name);
        }
        Ok(())
    }

    pub(super) fn slowlog_len(&mut self, c: &mut Connection) -> CommandResult {
        let len = self.slowlog().len();
        c.reply().integer(len as i64);
        Ok(())
    }

    pub(super) fn slowlog_reset(&mut self, c: &mut Connection) -> CommandResult {
        self.slowlog().clear();
        c.reply().ok();
        Ok(())
    }

    pub(super) fn latency_latest(&mut self, c: &mut Connection) -> CommandResult {
        let monitor = self.monitor();
        let mut reply = c.reply();
        reply.array(monitor.events().len());
        for (event, series) in monitor.events() {
            let last = series.last().unwrap_or(Spike {
                at_seconds: 0,
                ms: 0,
            });
            reply.array(4);
            reply.bulk(event.as_bytes());
            reply.integer(last.at_seconds);
            reply.integer(last.ms as i64);
            reply.integer(series.max_ms as i64);
        }
        Ok(())
    }

    pub(super) fn latency_history(&mut self, c: &mut Connection, argv: Argv<'_>) -> CommandResult {
        let monitor = self.monitor();
        let mut reply = c.reply();
        let Some(series) = monitor.series(argv.arg(2)) else {
            reply.array(0);
            return Ok(());
        };
        reply.array(series.spikes().len());
        for spike in series.spikes() {
            reply.array(2);
            reply.integer(spike.at_seconds);
            reply.integer(spike.ms as i64);
        }
        Ok(())
    }

    pub(super) fn latency_reset(&mut self, c: &mut Connection, argv: Argv<'_>) -> CommandResult {
        let mut monitor = self.monitor();
        let forgotten = match argv.len() {
            2 => monitor.forget_all(),
            _ => {
                let events = argv.from(2);
                events.iter().filter(|event| monitor.forget(event)).count()
            }
        };
        c.reply().integer(forgotten as i64);
        Ok(())
    }

    pub(super) fn latency_graph(&mut self, c: &mut Connection, argv: Argv<'_>) -> CommandResult {
        let event = argv.arg(2);
        let monitor = self.monitor();
        let series = monitor.series(event).ok_or_else(|| {
            let text = b"ERR No samples available for event '";
            CommandError::from([text, event, b"'"].concat())
        })?;
        let event = String::from_utf8_lossy(event);
        let text = latency::graph(&event, series, self.now.0 / 1000);
        c.reply().verbatim("txt", text.as_bytes());
        Ok(())
    }

    pub(super) fn latency_doctor(&mut self, c: &mut Connection) -> CommandResult {
        let huge_pages = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
        let patient = Patient {
            threshold_ms: self.config.latency_monitor_threshold_ms,
            slower_than_micros: self.config.slowlog_log_slower_than_micros,
            huge_pages: !self.config.disable_thp
                && huge_pages.is_ok_and(|text| text.contains("[always]")),
        };
        let text = latency::report(&self.monitor(), &patient);
        c.reply().verbatim("txt", text.as_bytes());
        Ok(())
    }

    pub(super) fn latency_histogram(
        &mut self,
        c: &mut Connection,
        argv: Argv<'_>,
    ) -> CommandResult {
        let wanted = |command: &Command| {
            // A container stands for its subcommands.
            let own = command.name.split('|').next().unwrap_or_default();
            argv.len() == 2
                || argv
                    .from(2)
                    .iter()
                    .any(|name| args::is(name, command.name) || args::is(name, own))
        };
        let shown: Vec<(&Command, Latencies)> = command_stats::latencies(self.server)
            .into_iter()
            .filter(|(command, _)| wanted(command))
            .collect();
        let mut reply = c.reply();
        reply.map(shown.len());
        for (command, latencies) in shown {
            let steps = cumulative(&latencies);
            reply.bulk(command.name.as_bytes());
            reply.map(2);
            reply.bulk(b"calls");
            reply.integer(latencies.len() as i64);
            reply.bulk(b"histogram_usec");
            reply.map(steps.len());
            for (micros, count) in steps {
                reply.integer(micros as i64);
                reply.integer(count as i64);
            }
        }
        Ok(())
    }
}

/// How many calls took up to about 1, 2, 4... microseconds, where that is more than for the step before.
fn cumulative(latencies: &Latencies) -> Vec<(u64, u64)> {
    let mut steps = Vec::new();
    let (mut seen, mut nanos) = (0, 1024);
    while seen < latencies.len() {
        let upto = latencies.highest_equivalent(nanos);
        let count = latencies.count_between(0, upto);
        if count > seen {
            steps.push((upto / 1000, count));
            seen = count;
        }
        nanos *= 2;
    }
    steps
}
