//! `basalt-check-rdb`: what Redis's tool says about a file, then what is in it.

mod details;
mod lines;

pub use details::report_pairs;
pub use lines::{message, outcome, put_lines, Outcome};

use crate::json::Json;
use crate::options::{self, flag, value, Known};
use crate::{fail, progress_bar, version_line, Manners};
use persistence::progress::Progress;
use persistence::rdb::inspect::{inspect_rdb, InspectOptions, RdbReport};
use persistence::storage::OsStorage;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

const HELP: &str = "\
Usage: basalt-check-rdb [OPTION]... FILE...

Checks RDB files from the first byte to the last: what redis-check-rdb prints, then keys and bytes
by type and database, the largest keys and the sections of the file. Files of Basalt are read by
several threads.

  --top N         name the N largest keys (10)
  --threads N     threads that read a file with a chunk index (as many as there are cores)
  --json          print JSON instead
  --no-progress   no progress bar, also on a terminal
  -v, --version   print the version
  -h, --help      print this

Exit status: 0 if every file is good, 1 if one is damaged or cannot be read, or the usage is wrong.
Under the name redis-check-rdb it prints what that prints, and takes what that takes.
";

const KNOWN: [Known; 8] = [
    value("--top"),
    value("--threads"),
    flag("--json"),
    flag("--no-progress"),
    flag("-v"),
    flag("--version"),
    flag("-h"),
    flag("--help"),
];

const LARGEST_COUNT: usize = 10;

/// The threads that files are read with unless it is said.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

pub fn now_unix_ms() -> i64 {
    let now = std::time::SystemTime::now();
    let since = now
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

pub fn main(name: &str, manners: Manners, args: &[OsString]) -> ExitCode {
    match manners {
        Manners::Redis => as_redis(name, args),
        Manners::Basalt => as_basalt(name, args),
    }
}

fn as_redis(name: &str, args: &[OsString]) -> ExitCode {
    let [arg] = args else {
        eprintln!("Usage: {name} <rdb-file-name>");
        return ExitCode::FAILURE;
    };
    if arg == "-v" || arg == "--version" {
        println!("{}", version_line(name, Manners::Redis));
        return ExitCode::SUCCESS;
    }
    let options = InspectOptions {
        threads: cores(),
        now_unix_ms: now_unix_ms(),
        largest_count: 0,
        preamble: false,
        as_redis: true,
    };
    let mut out = Vec::new();
    let (path, progress) = (Path::new(arg), Progress::default());
    let (outcome, _) = check_as_redis(path, arg.as_bytes(), &options, &progress, &mut out);
    print_bytes(&out);
    match outcome {
        Outcome::Good => ExitCode::SUCCESS,
        Outcome::Damaged | Outcome::Ended => ExitCode::FAILURE,
    }
}

/// Checks one file and says what Redis says; how that ended, and the length of the RDB. A file that cannot be opened is
/// damaged, without a word about why.
pub fn check_as_redis(
    path: &Path,
    shown: &[u8],
    options: &InspectOptions,
    progress: &Progress,
    out: &mut Vec<u8>,
) -> (Outcome, u64) {
    match inspect_rdb(&OsStorage, path, options, progress) {
        Ok(report) => {
            put_lines(out, shown, &report);
            (outcome(&report), report.rdb_len)
        }
        Err(_) => {
            lines::put_first_line(out, shown);
            (Outcome::Damaged, 0)
        }
    }
}

pub fn print_bytes(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    // A reader that closed the pipe wants no more.
    let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
}

fn as_basalt(name: &str, args: &[OsString]) -> ExitCode {
    let parsed = match options::parse(args, &KNOWN) {
        Ok(parsed) => parsed,
        Err(reason) => return fail(name, format!("{reason}\n\n{HELP}")),
    };
    if parsed.has("-h") || parsed.has("--help") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    if parsed.has("-v") || parsed.has("--version") {
        println!("{}", version_line(name, Manners::Basalt));
        return ExitCode::SUCCESS;
    }
    if parsed.operands.is_empty() {
        eprint!("{HELP}");
        return ExitCode::FAILURE;
    }
    let numbers = parsed.number::<usize>("--top").and_then(|top| {
        let threads = parsed.number::<usize>("--threads")?;
        Ok((top.unwrap_or(LARGEST_COUNT), threads.unwrap_or_else(cores)))
    });
    let (largest_count, threads) = match numbers {
        Ok(numbers) => numbers,
        Err(reason) => return fail(name, reason),
    };
    let options = InspectOptions {
        threads: threads.max(1),
        now_unix_ms: now_unix_ms(),
        largest_count,
        preamble: false,
        as_redis: false,
    };
    let json = parsed.has("--json");
    let bar = !parsed.has("--no-progress");
    let mut all_good = true;
    let mut reports = Vec::new();
    for path in &parsed.operands {
        let label = path.to_string_lossy();
        let checked = progress_bar::with_bar(&label, bar, |progress| {
            inspect_rdb(&OsStorage, Path::new(path), &options, progress)
        });
        let checked = checked.map_err(|error| error.to_string());
        all_good &= checked.as_ref().is_ok_and(RdbReport::is_good);
        match json {
            true => reports.push(details::json(path.as_bytes(), &checked)),
            false => print_one(name, path, &checked),
        }
    }
    if json {
        println!("{}", Json::Object(vec![("files", Json::List(reports))]));
    }
    match all_good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn print_one(name: &str, path: &OsString, checked: &Result<RdbReport, String>) {
    let mut out = Vec::new();
    match checked {
        Ok(report) => {
            put_lines(&mut out, path.as_bytes(), report);
            details::put_text(&mut out, report);
        }
        Err(reason) => {
            lines::put_first_line(&mut out, path.as_bytes());
            eprintln!("{name}: {}: {reason}", path.to_string_lossy());
        }
    }
    print_bytes(&out);
}
