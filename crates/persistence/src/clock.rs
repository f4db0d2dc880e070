//! The time, read in one place: the wall clock, and a clock that only goes forward. Commands get it passed in.
//!
//! A simulation sets both for its own thread; a process that never simulates pays one load for it.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use keyspace::UnixMillis;

/// What the clocks of a simulating thread show.
#[derive(Clone, Copy, Debug)]
pub struct SimulatedTime {
    pub unix_millis: i64,
    /// Since the simulated machine was started.
    pub elapsed: Duration,
}

/// Some thread of this process simulates, or did.
static SIMULATING: AtomicBool = AtomicBool::new(false);
/// An `Instant` can only be had from the real clock: simulated ones count from this one.
static ORIGIN: OnceLock<Instant> = OnceLock::new();

thread_local! {
    static SIMULATED: Cell<Option<SimulatedTime>> = const { Cell::new(None) };
}

#[inline]
fn simulated() -> Option<SimulatedTime> {
    if SIMULATING.load(Relaxed) {
        SIMULATED.get()
    } else {
        None
    }
}

/// Sets this thread's clocks, or gives it the real ones back.
pub fn simulate(time: Option<SimulatedTime>) {
    SIMULATING.store(true, Relaxed);
    SIMULATED.set(time);
}

/// Whether this thread's clocks are simulated, and with them all it does.
#[inline]
pub fn is_simulated() -> bool {
    simulated().is_some()
}

/// The wall clock now.
#[inline]
pub fn unix_millis() -> UnixMillis {
    if let Some(time) = simulated() {
        return UnixMillis(time.unix_millis);
    }
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The clock that only goes forward.
#[inline]
pub fn instant() -> Instant {
    match simulated() {
        Some(time) => *ORIGIN.get_or_init(Instant::now) + time.elapsed,
        None => Instant::now(),
    }
}

/// How long ago `instant` was.
#[inline]
pub fn elapsed_since(since: Instant) -> Duration {
    instant().saturating_duration_since(since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulating_thread_has_clocks_of_its_own() {
        simulate(Some(SimulatedTime {
            unix_millis: 5,
            elapsed: Duration::from_secs(1),
        }));
        let before = instant();
        assert_eq!(unix_millis(), UnixMillis(5));
        simulate(Some(SimulatedTime {
            unix_millis: 3,
            elapsed: Duration::from_secs(3),
        }));
        assert_eq!(unix_millis(), UnixMillis(3));
        assert_eq!(elapsed_since(before), Duration::from_secs(2));
        let other = std::thread::spawn(|| (is_simulated(), unix_millis()));
        let (simulated, real) = other.join().expect("does not panic");
        assert!(!simulated && real > UnixMillis(1_000_000));
        simulate(None);
        assert!(!is_simulated());
    }
}
