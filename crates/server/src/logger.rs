//! The log, with Redis's look: `pid:role time level message`, a line an event.
//!
//! A line is one write(2) to the log file or standard output. A message's bytes that would
//! break the line, or a terminal, are escaped: keys may stand in it.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use config::LogLevel;
use persistence::clock;

static THRESHOLD: AtomicU8 = AtomicU8::new(Level::Notice as u8);
static FILE: Mutex<Option<File>> = Mutex::new(None);

thread_local! {
    /// What a simulated server logged, for the simulation to show.
    static KEPT: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Takes what the server simulated by this thread has logged.
pub fn take_kept() -> Vec<String> {
    KEPT.take()
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    Debug,
    Verbose,
    Notice,
    Warning,
}

impl Level {
    fn mark(self) -> char {
        match self {
            Level::Debug => '.',
            Level::Verbose => '-',
            Level::Notice => '*',
            Level::Warning => '#',
        }
    }
}

/// Sets the least level that is logged.
pub fn set_level(level: LogLevel) {
    let threshold = match level {
        LogLevel::Debug => Level::Debug as u8,
        LogLevel::Verbose => Level::Verbose as u8,
        LogLevel::Notice => Level::Notice as u8,
        LogLevel::Warning => Level::Warning as u8,
        LogLevel::Nothing => u8::MAX,
    };
    THRESHOLD.store(threshold, Relaxed);
}

/// Logs to a file from now on (none: to standard output).
pub fn set_file(path: Option<&Path>) -> io::Result<()> {
    let file = path
        .map(|path| OpenOptions::new().append(true).create(true).open(path))
        .transpose()?;
    *FILE.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = file;
    Ok(())
}

/// Writes one line if `level` is logged. Use through [`log!`](crate::log).
pub fn write(level: Level, message: &str) {
    if clock::is_simulated() {
        KEPT.with_borrow_mut(|kept| kept.push(format!("{} {message}", level.mark())));
        return;
    }
    if (level as u8) < THRESHOLD.load(Relaxed) {
        return;
    }
    let mut line = format!(
        "{}:M {} {} ",
        std::process::id(),
        local_time(SystemTime::now()),
        level.mark()
    );
    for c in message.chars() {
        match c {
            '\n' | '\r' | '\x1b' | '\0' => line.extend(c.escape_default()),
            _ => line.push(c),
        }
    }
    line.push('\n');
    let mut file = FILE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    // A log that cannot be written must not stop the server.
    let _ = match file.as_mut() {
        Some(file) => file.write_all(line.as_bytes()),
        None => io::stdout().write_all(line.as_bytes()),
    };
}

/// `20 Nov 2026 13:37:00.123`, in local time.
pub fn local_time(time: SystemTime) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs() as libc::time_t;
    // SAFETY: `tm` is plain data for which zeroes are valid; localtime_r writes it and reads
    // `seconds`, both alive for the call.
    let tm = unsafe {
        let mut tm: libc::tm = std::mem::zeroed();
        libc::localtime_r(&seconds, &mut tm);
        tm
    };
    let month = MONTHS[tm.tm_mon as usize % 12];
    format!(
        "{:02} {month} {} {:02}:{:02}:{:02}.{:03}",
        tm.tm_mday,
        tm.tm_year + 1900,
        tm.tm_hour,
        tm.tm_min,
        tm.tm_sec,
        since.subsec_millis()
    )
}

/// `log!(Notice, "format {}", arguments)`.
#[macro_export]
macro_rules! log {
    ($level:ident, $($arg:tt)*) => {
        $crate::logger::write($crate::logger::Level::$level, &format!($($arg)*))
    };
}
