//! What was slow, for whoever looks: the slow log, and the latency monitor's spikes.
//!
//! Workers time every run of commands; what took longer than `slowlog-log-slower-than` or
//! `latency-monitor-threshold` comes here, under a lock that nothing takes otherwise.

pub mod latency;
pub mod slowlog;
