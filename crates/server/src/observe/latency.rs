//! LATENCY: spikes of what the server does, by kind of event, one at most a second.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;

/// Spikes that are kept of an event.
const SPIKES_MAX: usize = 160;

/// What can be slow, by Redis's names.
pub const COMMAND: &str = "command";
pub const FAST_COMMAND: &str = "fast-command";
pub const FORK: &str = "fork";
pub const EXPIRE_CYCLE: &str = "expire-cycle";
pub const EVICTION_CYCLE: &str = "eviction-cycle";
pub const AOF_WRITE: &str = "aof-write";

#[derive(Clone, Copy)]
pub struct Spike {
    pub at_seconds: i64,
    pub ms: u64,
}

#[derive(Default)]
pub struct Series {
    spikes: VecDeque<Spike>,
    /// Of all that there were.
    pub max_ms: u64,
}

impl Series {
    pub fn spikes(&self) -> impl ExactSizeIterator<Item = &Spike> {
        self.spikes.iter()
    }

    pub fn last(&self) -> Option<Spike> {
        self.spikes.back().copied()
    }
}

#[derive(Default)]
pub struct Monitor {
    events: BTreeMap<&'static str, Series>,
}

impl Monitor {
    pub fn add(&mut self, event: &'static str, spike: Spike) {
        let series = self.events.entry(event).or_default();
        series.max_ms = series.max_ms.max(spike.ms);
        match series.spikes.back_mut() {
            Some(last) if last.at_seconds == spike.at_seconds => last.ms = last.ms.max(spike.ms),
            _ => series.spikes.push_back(spike),
        }
        if series.spikes.len() > SPIKES_MAX {
            series.spikes.pop_front();
        }
    }

    pub fn events(&self) -> impl ExactSizeIterator<Item = (&'static str, &Series)> {
        self.events.iter().map(|(event, series)| (*event, series))
    }

    pub fn series(&self, event: &[u8]) -> Option<&Series> {
        self.events.get(std::str::from_utf8(event).ok()?)
    }

    /// Forgets an event. True when there was something to forget.
    pub fn forget(&mut self, event: &[u8]) -> bool {
        std::str::from_utf8(event).is_ok_and(|event| self.events.remove(event).is_some())
    }

    /// Forgets all, and returns how many events that were.
    pub fn forget_all(&mut self) -> usize {
        std::mem::take(&mut self.events).len()
    }
}

/// How long ago, in at most three characters: `59s`, `7m`, `23h`, `9d`.
fn age(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{}s", seconds.max(0)),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// The spikes of an event as columns of characters, four lines high, with the age of each written
/// below it from top to bottom.
pub fn graph(event: &str, series: &Series, now_seconds: i64) -> String {
    const COLUMNS_MAX: usize = 80;
    const LINES: u64 = 4;
    /// From nearly nothing to a whole line.
    const STEPS: [char; 3] = ['_', 'o', '#'];
    let skip = series.spikes.len().saturating_sub(COLUMNS_MAX);
    let shown: Vec<Spike> = series.spikes.iter().skip(skip).copied().collect();
    let high = shown.iter().map(|spike| spike.ms).max().unwrap_or(0);
    let low = shown.iter().map(|spike| spike.ms).min().unwrap_or(0);
    let mut text = format!(
        "{event} - high {high} ms, low {low} ms (all time high {} ms)\n{}\n",
        series.max_ms,
        "-".repeat(COLUMNS_MAX)
    );
    let steps = LINES * STEPS.len() as u64;
    // The lowest has one step, the highest all of them, unless all are alike.
    let height = |ms: u64| match high - low {
        0 => 1,
        range => 1 + (ms - low) * (steps - 1) / range,
    };
    for line in (0..LINES).rev() {
        let below = line * STEPS.len() as u64;
        let column = |spike: &Spike| match height(spike.ms).saturating_sub(below) {
            0 => ' ',
            above => STEPS[(above as usize).min(STEPS.len()) - 1],
        };
        text.extend(shown.iter().map(column));
        text.push('\n');
    }
    text.push('\n');
    let ages: Vec<Vec<char>> = shown
        .iter()
        .map(|spike| age(now_seconds - spike.at_seconds).chars().collect())
        .collect();
    let lines = ages.iter().map(Vec::len).max().unwrap_or(0);
    for line in 0..lines {
        text.extend(ages.iter().map(|age| age.get(line).copied().unwrap_or(' ')));
        text.push('\n');
    }
    text
}

/// What DOCTOR has to know besides the spikes.
pub struct Patient {
    pub threshold_ms: u64,
    pub slower_than_micros: i64,
    pub huge_pages: bool,
}

/// A report in words.
pub fn report(monitor: &Monitor, patient: &Patient) -> String {
    if patient.threshold_ms == 0 {
        return "Latency monitoring is off: nothing was observed. CONFIG SET latency-monitor-threshold <milliseconds> switches it on.\n".into();
    }
    if monitor.events.is_empty() {
        return format!(
            "No latency spike of {} ms or more was observed.\n",
            patient.threshold_ms
        );
    }
    let mut text = String::from("Latency spikes were observed:\n\n");
    for (index, (event, series)) in monitor.events().enumerate() {
        let count = series.spikes.len() as f64;
        let mean = series
            .spikes
            .iter()
            .map(|spike| spike.ms as f64)
            .sum::<f64>()
            / count;
        let deviation = series
            .spikes
            .iter()
            .map(|spike| (spike.ms as f64 - mean).abs())
            .sum::<f64>()
            / count;
        let (first, last) = (series.spikes.front(), series.spikes.back());
        let seconds = first
            .zip(last)
            .map_or(0, |(first, last)| last.at_seconds - first.at_seconds);
        let period = seconds as f64 / (count - 1.0).max(1.0);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{}. {event}: {count} latency spikes (average {mean:.0}ms, mean deviation {deviation:.0}ms, period {period:.2} sec). Worst all time event {}ms.",
            index + 1,
            series.max_ms
        );
    }
    text += "\nWhat may help:\n\n";
    let has = |event: &str| monitor.events.contains_key(event);
    if has(COMMAND) || has(FAST_COMMAND) {
        let threshold_micros = i64::try_from(patient.threshold_ms * 1000).unwrap_or(i64::MAX);
        if patient.slower_than_micros < 0 || patient.slower_than_micros > threshold_micros {
            let _ = writeln!(text, "- The slow log shows less than this monitor sees. CONFIG SET slowlog-log-slower-than {threshold_micros} makes it show the commands.");
        }
        text += "- SLOWLOG GET shows which commands are slow; those over many elements can be split, and SCAN and its kin go in steps.\n";
    }
    if has(FORK) {
        text += "- A fork stops all shards for the time the system takes to copy page tables. Fewer snapshots and rewrites, or less data in one process, make it rarer and shorter.\n";
    }
    if patient.huge_pages {
        text += "- Transparent huge pages are on for this process: each page that a fork shares is copied as 2 MB. Set /sys/kernel/mm/transparent_hugepage/enabled to madvise or never.\n";
    }
    if has(EXPIRE_CYCLE) || has(EVICTION_CYCLE) {
        text += "- Many keys expire or are evicted at once: spread their times to live, lower active-expire-effort or maxmemory-eviction-tenacity, and delete large values in small parts.\n";
    }
    if has(AOF_WRITE) {
        text += "- The disk holds writes up: appendfsync everysec instead of always, no-appendfsync-on-rewrite, or a faster disk for the append-only file.\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_one_spike_and_a_series_an_end() {
        let mut monitor = Monitor::default();
        for (at_seconds, ms) in [(1, 5), (1, 9), (1, 3), (2, 4)] {
            monitor.add(COMMAND, Spike { at_seconds, ms });
        }
        let series = monitor.series(b"command").expect("was added");
        let spikes: Vec<_> = series.spikes().map(|s| (s.at_seconds, s.ms)).collect();
        assert_eq!((spikes, series.max_ms), (vec![(1, 9), (2, 4)], 9));
        for at_seconds in 3..500 {
            monitor.add(FORK, Spike { at_seconds, ms: 1 });
        }
        assert_eq!(
            monitor.series(b"fork").map(|s| s.spikes().len()),
            Some(SPIKES_MAX)
        );
        assert!(monitor.forget(b"fork") && !monitor.forget(b"fork"));
        assert_eq!(monitor.forget_all(), 1);
    }

    #[test]
    fn graphs_have_a_column_for_each_spike() {
        let mut monitor = Monitor::default();
        for (at_seconds, ms) in [(0, 10), (50, 22), (100, 40)] {
            monitor.add(COMMAND, Spike { at_seconds, ms });
        }
        let series = monitor.series(b"command").expect("was added");
        let lines = graph("command", series, 100);
        let expected = format!(
            "command - high 40 ms, low 10 ms (all time high 40 ms)\n{}\n  #\n  #\n o#\n_##\n\n150\nm0s\n s \n",
            "-".repeat(80)
        );
        assert_eq!(lines, expected);
    }
}
