//! A bar on standard error while files are read, if that is a terminal; otherwise nothing at all.

use persistence::progress::Progress;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::Arc;
use std::time::{Duration, Instant};

const REDRAW: Duration = Duration::from_millis(200);
const WIDTH: usize = 30;

/// Runs `work`, which counts in the progress given to it.
pub fn with_bar<T>(label: &str, shown: bool, work: impl FnOnce(&Arc<Progress>) -> T) -> T {
    let progress = Arc::new(Progress::default());
    if !shown || !std::io::stderr().is_terminal() {
        return work(&progress);
    }
    let done = AtomicBool::new(false);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let drawer = scope.spawn(|| {
            while !done.load(Acquire) {
                draw(label, &progress, begin.elapsed());
                std::thread::park_timeout(REDRAW);
            }
            eprint!("\r\x1b[K");
        });
        let result = work(&progress);
        done.store(true, Release);
        drawer.thread().unpark();
        result
    })
}

fn draw(label: &str, progress: &Progress, elapsed: Duration) {
    let mut line = line(label, progress.bytes(), progress.bytes_total(), elapsed);
    line.insert_str(0, "\r\x1b[K");
    // A terminal that went away is no reason to stop.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

fn line(label: &str, bytes: u64, total: u64, elapsed: Duration) -> String {
    let share = match total {
        0 => 0.0,
        total => (bytes as f64 / total as f64).min(1.0),
    };
    let filled = (share * WIDTH as f64) as usize;
    let rate = bytes as f64 / elapsed.as_secs_f64().max(1e-3) / 1e6;
    format!(
        "{label} [{}{}] {:5.1}% {rate:.0} MB/s",
        "#".repeat(filled),
        " ".repeat(WIDTH - filled),
        share * 100.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_drawn() {
        let half = line("f", 50_000_000, 100_000_000, Duration::from_secs(1));
        let bar = format!("{}{}", "#".repeat(15), " ".repeat(15));
        assert_eq!(half, format!("f [{bar}]  50.0% 50 MB/s"));
        assert!(line("f", 7, 0, Duration::ZERO).contains("0.0%"));
    }
}
