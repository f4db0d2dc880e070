//! Files of stock servers, and everything under Redis's name: the dialogue of `redis-check-aof`.

use super::stock_scan::Scan;
use super::Request;
use crate::json::{number, text, Json};
use crate::rdb::{check_as_redis, now_unix_ms, Outcome};
use persistence::aof::manifest::{AofFile, Manifest};
use persistence::progress::Progress;
use persistence::rdb::inspect::InspectOptions;
use persistence::storage::{read_full_at, Open, OsStorage, Storage};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Ended before the end, everything having been said.
pub struct Aborted;

type Said<T> = Result<T, Aborted>;

/// What became of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Valid,
    Empty,
    Truncated,
    TruncatedToTimestamp,
}

/// A file of the set, with what Redis calls it.
struct Part {
    /// In messages about its contents.
    name: String,
    path: PathBuf,
    rdb: bool,
    last: bool,
}

pub struct Stock<'a> {
    request: &'a Request,
    progress: &'a Progress,
    /// Lines passed in all files so far, and one.
    line: u64,
    files: Vec<Json>,
}

/// Whether a file is a manifest, by its first line that is neither empty nor a comment.
pub fn is_manifest(path: &Path) -> Result<bool, String> {
    let unreadable = |_| format!("Cannot read file: {}", path.display());
    let meta = std::fs::metadata(path);
    let meta = meta.map_err(|error| cannot_open(path, &error))?;
    if meta.is_dir() {
        return Err(unreadable(std::io::ErrorKind::IsADirectory.into()));
    }
    let file = OsStorage
        .open(path, Open::Read)
        .map_err(|error| cannot_open(path, &error))?;
    let mut front = [0; 4096];
    let got = read_full_at(&*file, &mut front, 0).map_err(unreadable)?;
    let mut lines = front[..got].split(|&b| b == b'\n');
    // Redis looks at all lines, and takes an AOF in which a value begins with "file" for a manifest. Not so here.
    let first = lines.find(|line| !matches!(line.first(), None | Some(b'#' | b'\r')));
    Ok(first.is_some_and(|line| line.starts_with(b"file")))
}

/// The reason of an error without its number, as C says it.
pub fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((reason, _)) => reason.to_owned(),
        None => text,
    }
}

fn cannot_open(path: &Path, error: &std::io::Error) -> String {
    format!("Cannot open file {}: {}", path.display(), reason(error))
}

fn is_rdb(path: &Path) -> Result<bool, String> {
    let file = OsStorage
        .open(path, Open::Read)
        .map_err(|error| cannot_open(path, &error))?;
    // Redis takes nothing shorter for one.
    let mut front = [0; 8];
    let got = read_full_at(&*file, &mut front, 0).unwrap_or(0);
    let magic = front.starts_with(b"REDIS") || front.starts_with(b"VALKEY");
    Ok(magic && got == front.len())
}

impl<'a> Stock<'a> {
    pub fn new(request: &'a Request, progress: &'a Progress) -> Self {
        Stock {
            request,
            progress,
            line: 1,
            files: Vec::new(),
        }
    }

    fn say(&self, text: impl std::fmt::Display) {
        self.request.say(text);
    }

    fn abort<T>(&self, text: impl std::fmt::Display) -> Said<T> {
        self.say(text);
        Err(Aborted)
    }

    /// All of what is asked about a file or a set. True: everything is valid now.
    pub fn run(mut self, path: &Path) -> (bool, Json) {
        let done = match is_manifest(path) {
            Err(said) => self.abort(said),
            Ok(true) => self.set(path),
            Ok(false) => self.single(path),
        };
        let valid = done.is_ok();
        let json = Json::Object(vec![
            ("kind", "stock".into()),
            ("path", text(path.as_os_str().as_bytes())),
            ("good", valid.into()),
            ("files", Json::List(self.files)),
        ]);
        (valid, json)
    }

    fn single(&mut self, path: &Path) -> Said<()> {
        self.say("Start checking Old-Style AOF");
        let part = Part {
            name: path.display().to_string(),
            path: path.to_owned(),
            rdb: is_rdb(path).or_else(|said| self.abort(said))?,
            last: true,
        };
        let verdict = self.part(&part)?;
        self.conclude("AOF", &part.name, verdict);
        Ok(())
    }

    fn set(&mut self, path: &Path) -> Said<()> {
        self.say("Start checking Multi Part AOF");
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) => return self.abort(cannot_open(path, &error)),
        };
        let manifest = match Manifest::parse(&text) {
            Ok(manifest) => manifest,
            Err((line, reason)) => return self.bad_manifest(&text, line, &reason),
        };
        let dir = path.parent().unwrap_or(Path::new(""));
        let incr_count = manifest.incrs().count();
        if let Some(base) = manifest.base() {
            let mut part = part(dir, base, incr_count == 0);
            part.rdb = is_rdb(&part.path).or_else(|said| self.abort(said))?;
            let format = if part.rdb { "RDB" } else { "RESP" };
            self.say(format!("Start to check BASE AOF ({format} format)."));
            let verdict = self.part(&part)?;
            self.conclude("BASE AOF", &part.name, verdict);
        }
        if incr_count > 0 {
            self.say("Start to check INCR files.");
        }
        for (i, incr) in manifest.incrs().enumerate() {
            let part = part(dir, incr, i + 1 == incr_count);
            let verdict = self.part(&part)?;
            self.conclude("INCR AOF", &part.name, verdict);
        }
        self.say("All AOF files and manifest are valid");
        Ok(())
    }

    fn bad_manifest(&self, text: &[u8], line: usize, reason: &str) -> Said<()> {
        self.say("\n*** FATAL AOF MANIFEST FILE ERROR ***\n");
        // A line that does not end is refused before it is looked at.
        if line > 0 && !reason.contains("has no end") {
            let shown = text.split(|&b| b == b'\n').nth(line - 1);
            let shown = String::from_utf8_lossy(shown.unwrap_or_default()).into_owned();
            self.say(format!("Reading the manifest file, at line {line}\n"));
            self.say(format!(">>> '{shown}'\n"));
        }
        self.abort(format!("{}\n", manifest_reason(reason)))
    }

    fn conclude(&self, kind: &str, name: &str, verdict: Verdict) {
        match verdict {
            Verdict::Valid => self.say(format!("{kind} {name} is valid")),
            Verdict::Empty => self.say(format!("{kind} {name} is empty")),
            Verdict::Truncated => self.say(format!("Successfully truncated AOF {name}")),
            Verdict::TruncatedToTimestamp => {
                let limit = self.request.to_timestamp.unwrap_or(0);
                self.say(format!(
                    "Successfully truncated AOF {name} to timestamp {limit}"
                ))
            }
        }
    }

    fn part(&mut self, part: &Part) -> Said<Verdict> {
        let changes = self.request.fix || self.request.to_timestamp.is_some();
        let how = if changes { Open::Write } else { Open::Read };
        let opened = OsStorage
            .open(&part.path, how)
            .and_then(|file| Ok((file.len()?, file)));
        let (size, file) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let said = cannot_open(&part.path, &error);
                return self.abort(format!("{said}, aborting..."));
            }
        };
        if size == 0 {
            return Ok(Verdict::Empty);
        }
        let from = if part.rdb { self.preamble(part)? } else { 0 };
        self.progress
            .bytes_total
            .fetch_add(size - from.min(size), std::sync::atomic::Ordering::Relaxed);
        let shown = part.path.display().to_string();
        let scan = Scan::new(file.clone(), from, size, shown, self.line, self.progress);
        let (scan, line) = match scan.run(self.request.to_timestamp) {
            Ok(done) => done,
            Err(_) => {
                let path = part.path.display();
                return self.abort(format!("Failed to read from AOF {path}, aborting..."));
            }
        };
        self.line = line;
        if scan.bad_timestamp {
            return self.abort("Invalid timestamp annotation");
        }
        if let Some(at) = scan.later_than_limit {
            return self.truncate_to_timestamp(part, &*file, at);
        }
        let name = &part.name;
        if scan.format_error {
            self.say(format!("AOF {name} format error"));
        }
        if let Some(error) = &scan.error {
            self.request.print(&[error, &b"\n"[..]].concat());
        }
        let format_error = scan.format_error.then(|| "format error".into());
        let damage = scan.error.as_deref().map(text).or(format_error);
        let (ok_up_to, diff) = (scan.ok_up_to, size - scan.ok_up_to);
        self.files.push(Json::Object(vec![
            ("file", part.name.as_str().into()),
            ("bytes", number(size)),
            ("ok_up_to", number(ok_up_to)),
            ("ok_up_to_line", number(line)),
            ("commands", number(scan.commands)),
            ("damage", damage.into()),
        ]));
        if let (0, Some(limit)) = (diff, self.request.to_timestamp) {
            self.say(format!(
                "Truncate nothing in AOF {name} to timestamp {limit}"
            ));
            return Ok(Verdict::Valid);
        }
        self.say(format!("AOF analyzed: filename={name}, size={size}, ok_up_to={ok_up_to}, ok_up_to_line={line}, diff={diff}"));
        match diff {
            0 => Ok(Verdict::Valid),
            _ => self.shrink(part, &*file, size, ok_up_to),
        }
    }

    /// Cuts what does not count, if that is wanted, possible, and agreed to.
    fn shrink(
        &self,
        part: &Part,
        file: &dyn persistence::storage::StorageFile,
        size: u64,
        ok_up_to: u64,
    ) -> Said<Verdict> {
        let (name, diff) = (&part.name, size - ok_up_to);
        if !self.request.fix {
            return self.abort(format!(
                "AOF {name} is not valid. Use the --fix option to try fixing it."
            ));
        }
        if !part.last {
            return self.abort(format!(
                "Failed to truncate AOF {name} because it is not the last file"
            ));
        }
        self.say(format!("This will shrink the AOF {name} from {size} bytes, with {diff} bytes, to {ok_up_to} bytes"));
        if !self.request.agreed() {
            return self.abort("Aborting...");
        }
        match file.truncate(ok_up_to).and_then(|()| file.datasync()) {
            Ok(()) => Ok(Verdict::Truncated),
            Err(_) => self.abort(format!("Failed to truncate AOF {name}")),
        }
    }

    /// Checks the RDB that a file begins with; where its commands begin.
    fn preamble(&self, part: &Part) -> Said<u64> {
        let options = InspectOptions {
            threads: 1,
            now_unix_ms: now_unix_ms(),
            largest_count: 0,
            preamble: true,
            as_redis: true,
        };
        let mut out = Vec::new();
        let shown = part.path.as_os_str().as_bytes();
        let (outcome, rdb_len) =
            check_as_redis(&part.path, shown, &options, self.progress, &mut out);
        self.request.print(&out);
        match outcome {
            Outcome::Good => {
                self.say("RDB preamble is OK, proceeding with AOF tail...");
                Ok(rdb_len)
            }
            Outcome::Damaged => self.abort("RDB preamble of AOF file is not sane, aborting."),
            Outcome::Ended => Err(Aborted),
        }
    }

    fn truncate_to_timestamp(
        &self,
        part: &Part,
        file: &dyn persistence::storage::StorageFile,
        at: u64,
    ) -> Said<Verdict> {
        let limit = self.request.to_timestamp.unwrap_or(0);
        let path = part.path.display();
        if at == 0 {
            return self.abort(format!(
                "AOF {path} has nothing before timestamp {limit}, aborting..."
            ));
        }
        if !part.last {
            self.say(format!("Failed to truncate AOF {path} to timestamp {limit} to offset {at} because it is not the last file."));
            return self.abort("If you insist, please delete all files after this file according to the manifest file and delete the corresponding records in manifest file manually. Then re-run redis-check-aof.");
        }
        match file.truncate(at).and_then(|()| file.datasync()) {
            Ok(()) => Ok(Verdict::TruncatedToTimestamp),
            Err(_) => self.abort(format!(
                "Failed to truncate AOF {path} to timestamp {limit}"
            )),
        }
    }
}

fn part(dir: &Path, file: &AofFile, last: bool) -> Part {
    let name: &OsStr = &file.name;
    Part {
        name: name.to_string_lossy().into_owned(),
        path: dir.join(name),
        rdb: false,
        last,
    }
}

/// What is wrong with a manifest, as Redis words it.
fn manifest_reason(reason: &str) -> &str {
    match reason {
        "the manifest names no file" => "Found an empty AOF manifest",
        "a second base file" => "Found duplicate base file information",
        "a sequence number that does not rise" => "Found a non-monotonic sequence number",
        "the line is too long" | "the last line has no end" => {
            "The AOF manifest file contains too long line"
        }
        "unknown type" => "Unknown AOF file type",
        "the file name is not a plain name" => "File can't be a path, just a filename",
        _ => "Invalid AOF manifest file format",
    }
}
