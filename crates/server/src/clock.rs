//! The time, read in one place. Commands get it passed in.

use std::time::{SystemTime, UNIX_EPOCH};

use keyspace::UnixMillis;

/// The wall clock now.
pub fn unix_millis() -> UnixMillis {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
