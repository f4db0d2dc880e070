//! `basalt-check-aof`: what is wrong with an append-only file, and making the best of it.
//!
//! Files of stock servers are treated as `redis-check-aof` does ([`stock`]); sets of Basalt by their seals
//! ([`basalt`]): they say more, can be cut at whole transactions, sealed again after an edit, and exported.

mod basalt;
mod report;
mod stock;
mod stock_scan;

use crate::options::{self, flag, value, Known};
use crate::rdb::{cores, print_bytes};
use crate::{fail, progress_bar, version_line, Manners};
use std::ffi::OsString;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use stock_scan::strtol;

const HELP: &str = "\
Usage: basalt-check-aof [OPTION]... FILE | MANIFEST | DIRECTORY

Checks an append-only file: a set by its manifest or directory, or one file of it. Nothing is
changed unless an option says so, and then only after asking.

  --fix           cut a torn tail; seal blocks again that were edited by hand
  --truncate-to-timestamp SECONDS
                  cut all that is later than this Unix time
  --export DIR    write into DIR, which must be empty or new, a set that stock Redis loads, of what a
                  start would keep; the source is left as it is
  --yes           answer questions with yes
  --json          print JSON instead
  --threads N     threads that read (as many as there are cores)
  --no-progress   no progress bar, also on a terminal
  -v, --version   print the version
  -h, --help      print this

Exit status: 0 if all is valid, or has been made so; 1 if not, or if the usage is wrong.
Under the name redis-check-aof it prints what that prints, and takes what that takes.
";

const REDIS_USAGE: &str = "[--fix|--truncate-to-timestamp $timestamp] <file.manifest|file.aof>";

const KNOWN: [Known; 11] = [
    flag("--fix"),
    value("--truncate-to-timestamp"),
    value("--export"),
    flag("--yes"),
    flag("--json"),
    value("--threads"),
    flag("--no-progress"),
    flag("-v"),
    flag("--version"),
    flag("-h"),
    flag("--help"),
];

/// What is wanted.
pub struct Request {
    pub path: PathBuf,
    pub manners: Manners,
    pub fix: bool,
    pub yes: bool,
    pub json: bool,
    /// Unix seconds; as in Redis, zero is no limit.
    pub to_timestamp: Option<i64>,
    pub export: Option<PathBuf>,
    pub threads: usize,
    pub bar: bool,
}

impl Request {
    /// A line of findings. With JSON it has its place there.
    pub fn say(&self, text: impl std::fmt::Display) {
        self.print(format!("{text}\n").as_bytes());
    }

    pub fn print(&self, bytes: &[u8]) {
        if !self.json {
            print_bytes(bytes);
        }
    }

    /// Asks as Redis does: only an answer that begins with y is one.
    pub fn agreed(&self) -> bool {
        let question = "Continue? [y/N]: ";
        if self.yes {
            self.print(format!("{question}y\n").as_bytes());
            return true;
        }
        match self.json {
            true => {
                eprint!("{question}");
                let _ = std::io::stderr().flush();
            }
            false => print_bytes(question.as_bytes()),
        }
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        read.is_ok() && answer.starts_with(['y', 'Y'])
    }
}

pub fn main(name: &str, manners: Manners, args: &[OsString]) -> ExitCode {
    let request = match manners {
        Manners::Redis => redis_request(name, args),
        Manners::Basalt => basalt_request(name, args),
    };
    let request = match request {
        Ok(request) => request,
        Err(code) => return code,
    };
    let label = request.path.display().to_string();
    let stock = manners == Manners::Redis || !basalt::is_ours(&request.path);
    if stock && request.export.is_some() {
        return fail(
            name,
            format!("{label} is no set of Basalt: nothing to export"),
        );
    }
    let (good, json) = if stock {
        let path = stock_path(&request);
        // Questions and a bar do not go together.
        let bar = request.bar && !request.fix;
        progress_bar::with_bar(&label, bar, |progress| {
            stock::Stock::new(&request, progress).run(&path)
        })
    } else {
        basalt::run(name, &request)
    };
    if request.json {
        println!("{json}");
    }
    match good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Under our own name a directory stands for the manifest in it.
fn stock_path(request: &Request) -> PathBuf {
    match request.manners {
        Manners::Basalt => manifest_in(&request.path).unwrap_or(request.path.clone()),
        Manners::Redis => request.path.clone(),
    }
}

/// The only manifest in a directory, or in the `appendonlydir` below it.
pub fn manifest_in(dir: &Path) -> Option<PathBuf> {
    if !dir.is_dir() {
        return None;
    }
    let only = |dir: &Path| {
        let names = std::fs::read_dir(dir).ok()?;
        let mut found = names
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|end| end == "manifest"))
            .filter(|path| {
                let name = path.file_name().unwrap_or_default();
                !name.to_string_lossy().starts_with("temp-")
            });
        let first = found.next()?;
        found.next().is_none().then_some(first)
    };
    only(dir).or_else(|| only(&dir.join("appendonlydir")))
}

fn redis_request(name: &str, args: &[OsString]) -> Result<Request, ExitCode> {
    let usage = || {
        println!("Usage: {name} {REDIS_USAGE}");
        ExitCode::FAILURE
    };
    let mut request = Request {
        path: PathBuf::new(),
        manners: Manners::Redis,
        fix: false,
        yes: false,
        json: false,
        to_timestamp: None,
        export: None,
        threads: cores(),
        bar: false,
    };
    match args {
        [arg] if arg == "-v" || arg == "--version" => {
            println!("{}", version_line(name, Manners::Redis));
            return Err(ExitCode::SUCCESS);
        }
        [path] => request.path = path.into(),
        [fix, path] if fix == "--fix" => {
            request.fix = true;
            request.path = path.into();
        }
        [option, limit, path] if option == "--truncate-to-timestamp" => {
            request.to_timestamp = timestamp(limit)?;
            request.path = path.into();
        }
        _ => return Err(usage()),
    }
    Ok(request)
}

fn timestamp(text: &OsString) -> Result<Option<i64>, ExitCode> {
    let text = text.to_string_lossy();
    let (seconds, used) = strtol(text.as_bytes());
    if used < text.len() || text.is_empty() {
        println!("Invalid timestamp, aborting...");
        return Err(ExitCode::FAILURE);
    }
    Ok(Some(seconds).filter(|&seconds| seconds != 0))
}

fn basalt_request(name: &str, args: &[OsString]) -> Result<Request, ExitCode> {
    let parsed =
        options::parse(args, &KNOWN).map_err(|reason| fail(name, format!("{reason}\n\n{HELP}")))?;
    if parsed.has("-h") || parsed.has("--help") {
        print!("{HELP}");
        return Err(ExitCode::SUCCESS);
    }
    if parsed.has("-v") || parsed.has("--version") {
        println!("{}", version_line(name, Manners::Basalt));
        return Err(ExitCode::SUCCESS);
    }
    let [path] = parsed.operands.as_slice() else {
        eprint!("{HELP}");
        return Err(ExitCode::FAILURE);
    };
    let changes = ["--fix", "--truncate-to-timestamp", "--export"];
    if changes.iter().filter(|option| parsed.has(option)).count() > 1 {
        let reason = "--fix, --truncate-to-timestamp and --export exclude one another";
        return Err(fail(name, reason));
    }
    let to_timestamp = match parsed.value("--truncate-to-timestamp") {
        Some(text) => timestamp(text)?,
        None => None,
    };
    let threads = parsed.number("--threads").map_err(|e| fail(name, e))?;
    Ok(Request {
        path: path.into(),
        manners: Manners::Basalt,
        fix: parsed.has("--fix"),
        yes: parsed.has("--yes"),
        json: parsed.has("--json"),
        to_timestamp,
        export: parsed.value("--export").map(PathBuf::from),
        threads: threads.unwrap_or_else(cores).max(1),
        bar: !parsed.has("--no-progress"),
    })
}
