//! Telling in the log how far a load has come.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use persistence::progress::Progress;

use crate::shared::Server;
use crate::{clock, log, supervision};

/// Between two lines.
const EVERY: Duration = Duration::from_secs(2);

/// A thread that tells, until this is dropped. A simulation has none.
pub struct Telling {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Telling {
    pub fn begin(server: &'static Server) -> Telling {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = ended.clone();
        let tell = move || {
            let Ok(progress) = server.snapshot.progress() else {
                return;
            };
            let began = Instant::now();
            let mut last = (began, 0);
            loop {
                std::thread::park_timeout(EVERY);
                if seen.load(Relaxed) {
                    return;
                }
                // A thread may wake for no reason.
                if last.0.elapsed() >= EVERY {
                    let line = line(progress, began.elapsed(), last.0.elapsed(), last.1);
                    last = (Instant::now(), progress.bytes());
                    log!(Notice, "{line}");
                    supervision::status(&line);
                }
            }
        };
        let thread = match clock::is_simulated() {
            true => None,
            // Without it a load is silent, no more.
            false => std::thread::Builder::new()
                .name("load-progress".into())
                .spawn(tell)
                .ok(),
        };
        Telling { ended, thread }
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic has ended the process already.
            let _ = thread.join();
        }
    }
}

/// `Loading: 45.3% (543.1 of 1200.0 MB), 120.4 MB/s, 1300000 keys and commands so far, about 5 seconds left`
fn line(
    progress: &Progress,
    since_start: Duration,
    since_last: Duration,
    bytes_before: u64,
) -> String {
    let (bytes, total) = (progress.bytes(), progress.bytes_total());
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let rate = megabytes(bytes.saturating_sub(bytes_before)) / since_last.as_secs_f64().max(0.001);
    let mean = bytes as f64 / since_start.as_secs_f64().max(0.001);
    let left = match bytes {
        0 => String::new(),
        _ => {
            let seconds = total.saturating_sub(bytes) as f64 / mean.max(1.0);
            format!(", about {seconds:.0} seconds left")
        }
    };
    format!(
        "Loading: {:.1}% ({:.1} of {:.1} MB), {rate:.1} MB/s, {} keys and commands so far{left}",
        (bytes as f64 * 100.0 / total.max(1) as f64).min(100.0),
        megabytes(bytes),
        megabytes(total),
        progress.keys(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_how_far_and_how_fast() {
        let progress = Progress::default();
        progress.bytes_total.store(4_000_000, Relaxed);
        let begun = line(&progress, Duration::from_secs(2), Duration::from_secs(2), 0);
        assert_eq!(
            begun,
            "Loading: 0.0% (0.0 of 4.0 MB), 0.0 MB/s, 0 keys and commands so far"
        );
        progress.bytes.store(3_000_000, Relaxed);
        progress.keys.store(77, Relaxed);
        let later = line(
            &progress,
            Duration::from_secs(6),
            Duration::from_secs(2),
            1_000_000,
        );
        assert_eq!(
            later,
            "Loading: 75.0% (3.0 of 4.0 MB), 1.0 MB/s, 77 keys and commands so far, about 2 seconds left"
        );
    }
}
