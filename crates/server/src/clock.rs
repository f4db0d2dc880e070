//! The time, read in one place. Commands get it passed in.

pub use persistence::clock::{elapsed_since, instant, is_simulated, unix_millis};
