//! Crash reports: a panic in any thread is written to the log with its place and stack, and ends
//! the process. A server that went on without one of its workers would give wrong answers for
//! the keys of its shard.

use std::backtrace::Backtrace;
use std::panic::PanicHookInfo;

use crate::log;

/// Installs the report. Child processes take it out again.
pub fn report_panics() {
    std::panic::set_hook(Box::new(|info| {
        report(info);
        std::process::abort();
    }));
}

fn report(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    log!(
        Warning,
        "=== BASALT BUG REPORT START: Cut & paste starting from here ==="
    );
    log!(
        Warning,
        "{} crashed in thread {}: {info}",
        crate::startup::version_line(),
        thread.name().unwrap_or("?")
    );
    for line in Backtrace::force_capture().to_string().lines() {
        log!(Warning, "{line}");
    }
    log!(
        Warning,
        "=== BASALT BUG REPORT END. Please report it with what the clients were doing. ==="
    );
}
