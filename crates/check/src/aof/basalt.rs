//! Sets of Basalt: what a survey finds, and mending what can be mended.

use super::report;
use super::{manifest_in, Request};
use crate::counted::Counted;
use crate::json::{text, Json};
use crate::progress_bar;
use crate::rdb::now_unix_ms;
use persistence::aof::contents::contents;
use persistence::aof::cut::{self, Cut};
use persistence::aof::manifest::{Closed, Manifest};
use persistence::aof::point::Point;
use persistence::aof::reseal::{self, Reseal};
use persistence::aof::ring_recover::{find_tails, take_over_tails, RingPlace, RingTails};
use persistence::aof::scan::scan_segment;
use persistence::aof::survey::{
    is_torn_tail, manifest_of_one, open_again, survey, FileSurvey, Survey, SurveyOptions,
};
use persistence::aof::truncate::{self, PlanOptions};
use persistence::aof::{export, AofError, SegmentId};
use persistence::storage::ring::{probe, ShmRings};
use persistence::storage::{read_full_at, Open, OsStorage, Storage};
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A set, or one file of it.
struct Set {
    dir: PathBuf,
    /// Of the names of its files, and the whole of the manifest's but for its ending; none for a single file.
    prefix: Option<OsString>,
    manifest: Manifest,
    boot_id: String,
    dir_id: String,
    ring_store: ShmRings,
}

type Outcome<T> = Result<T, String>;

fn front_of(path: &Path) -> Vec<u8> {
    let mut front = vec![0; 4096];
    let read = OsStorage.open(path, Open::Read);
    let got = read.and_then(|file| read_full_at(&*file, &mut front, 0));
    front.truncate(got.unwrap_or(0));
    front
}

/// Whether a path is a set (or a segment) that Basalt wrote.
pub fn is_ours(path: &Path) -> bool {
    let found = manifest_in(path);
    let path = found.as_deref().unwrap_or(path);
    let front = front_of(path);
    if front.starts_with(b"#HEAD ") || front.starts_with(b"#basalt ") {
        return true;
    }
    let Ok(manifest) = std::fs::read(path).map(|text| Manifest::parse(&text)) else {
        return false;
    };
    // Stock servers that go on with a set write the manifest anew; the segments still have their heads.
    let dir = path.parent().unwrap_or(Path::new(""));
    manifest.is_ok_and(|manifest| {
        let mut incrs = manifest.incrs();
        incrs.any(|file| front_of(&dir.join(&file.name)).starts_with(b"#HEAD "))
    })
}

fn boot_id() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    read.map_or(String::new(), |id| id.trim().to_owned())
}

impl Set {
    fn open(path: &Path) -> Outcome<Set> {
        let found = manifest_in(path);
        let path = found.as_deref().unwrap_or(path);
        let dir = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let front = front_of(path);
        let (manifest, prefix) = if front.starts_with(b"#HEAD ") {
            (manifest_of_one(path), None)
        } else {
            let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
            let manifest = Manifest::parse(&bytes).map_err(|(line, reason)| {
                let path = path.to_owned();
                let error = AofError::Manifest { path, line, reason };
                error.to_string()
            })?;
            let name = path.file_name().unwrap_or_default().as_bytes();
            let prefix = name.strip_suffix(b".manifest").unwrap_or(name);
            (manifest, Some(OsString::from_vec(prefix.to_vec())))
        };
        Ok(Set {
            dir_id: probe::dir_id(&dir).map_err(|e| format!("{}: {e}", dir.display()))?,
            ring_store: ShmRings::new(&dir),
            dir,
            prefix,
            manifest,
            boot_id: boot_id(),
        })
    }

    fn place(&self) -> RingPlace<'_> {
        RingPlace {
            rings: &self.ring_store,
            boot_id: &self.boot_id,
            dir_id: &self.dir_id,
        }
    }

    /// The machine was booted anew since the last write, or lost what was in the rings.
    fn os_crashed(&self, rings: &RingTails) -> bool {
        let run = self.manifest.run.as_ref();
        run.is_some_and(|run| run.boot_id != self.boot_id) || rings.any_lost()
    }

    fn options(&self, request: &Request, rings: &RingTails) -> SurveyOptions {
        SurveyOptions {
            threads: request.threads,
            os_crashed: self.os_crashed(rings),
            now_ms: now_unix_ms(),
            alone: self.prefix.is_none(),
        }
    }

    fn survey(&self, request: &Request, rings: &RingTails) -> Outcome<Survey> {
        let options = self.options(request, rings);
        let label = self.dir.display().to_string();
        let bar = request.bar && !request.fix;
        progress_bar::with_bar(&label, bar, |progress| {
            let progress = progress.clone();
            survey(&Counted { progress }, &self.dir, &self.manifest, &options)
        })
        .map_err(|error| error.to_string())
    }

    fn rings(&self) -> Result<RingTails, AofError> {
        find_tails(&OsStorage, self.place(), &self.dir, &self.manifest)
    }
}

/// Does what is asked of a set. True: it is valid, or was made so.
pub fn run(name: &str, request: &Request) -> (bool, Json) {
    let done = Set::open(&request.path).and_then(|set| {
        if let Some(to) = &request.export {
            return export_set(&set, request, to);
        }
        if let Some(seconds) = request.to_timestamp {
            return truncate_set(set, request, seconds);
        }
        match request.fix {
            true => fix(set, request),
            false => check(&set, request),
        }
    });
    done.unwrap_or_else(|reason| {
        eprintln!("{name}: {reason}");
        let json = Json::Object(vec![
            ("kind", "basalt".into()),
            ("path", text(request.path.as_os_str().as_bytes())),
            ("good", false.into()),
            ("error", reason.into()),
        ]);
        (false, json)
    })
}

fn check(set: &Set, request: &Request) -> Outcome<(bool, Json)> {
    let pending = cut::is_pending(&OsStorage, &set.dir).map_err(|e| e.to_string())?;
    let rings = set.rings();
    let known = rings.as_ref().ok().cloned().unwrap_or_default();
    let survey = set.survey(request, &known)?;
    let os_crashed = set.os_crashed(&known);
    request.print(report::head(&request.path).as_bytes());
    request.print(report::body(&survey, os_crashed).as_bytes());
    request.print(report::rings(&rings).as_bytes());
    if pending {
        request.say("Cuts are under way: a start, or --fix, carries them out");
    }
    // What a living server has not handed to its files yet is no flaw of theirs.
    let alive = rings.as_ref().is_err_and(is_held);
    let good = survey.is_good() && !pending && (rings.is_ok() || alive);
    request.say(report::conclusion(&survey, good));
    let json = report::json(&request.path, &survey, &rings, os_crashed, good);
    Ok((good, json))
}

/// A living process has the ring.
fn is_held(error: &AofError) -> bool {
    matches!(error, AofError::Io { error, .. } if error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Completes the files with what is in the rings, and with cuts that are under way.
fn complete(set: &mut Set, request: &Request) -> Outcome<RingTails> {
    let text = |error: AofError| error.to_string();
    if cut::is_pending(&OsStorage, &set.dir).map_err(text)? {
        request.say("Cuts are under way: carrying them out");
        cut::finish_pending(&OsStorage, &set.dir).map_err(text)?;
        *set = Set::open(&request.path)?;
    }
    // Whoever holds a ring is a server that runs on these files.
    let found = set.rings().map_err(text)?;
    if found.bytes() > 0 {
        let bytes = found.bytes();
        request.say(format!(
            "The rings of the last run hold {bytes} bytes that are not in the files yet: putting them there"
        ));
        return take_over_tails(&OsStorage, set.place(), &set.dir, &set.manifest).map_err(text);
    }
    Ok(found)
}

fn fix(mut set: Set, request: &Request) -> Outcome<(bool, Json)> {
    request.print(report::head(&request.path).as_bytes());
    let rings = complete(&mut set, request)?;
    let mut survey = set.survey(request, &rings)?;
    request.print(report::body(&survey, set.os_crashed(&rings)).as_bytes());
    let sealed = reseal_files(&survey, request)?;
    if tell_ends(&mut set, &survey, &sealed, request)? || !sealed.is_empty() {
        survey = set.survey(request, &rings)?;
        request.say(match sealed.is_empty() {
            true => "Without it:",
            false => "After sealing again:",
        });
        request.print(report::body(&survey, set.os_crashed(&rings)).as_bytes());
    }
    if let Some(gone) = survey.incomplete.iter().find(|t| t.taken_out) {
        return Err(format!(
            "transaction {} is missing in some shards and would take with it all that follows it: nothing was cut",
            gone.id
        ));
    }
    let cuts = survey.start.as_ref().map_err(|error| error.to_string())?;
    if !cuts.is_empty() {
        cut_files(&mut set, cuts, &rings, request)?;
        survey = set.survey(request, &RingTails::default())?;
    }
    let good = survey.is_good();
    request.say(report::conclusion(&survey, good));
    let json = report::json(
        &request.path,
        &survey,
        &Ok(RingTails::default()),
        set.os_crashed(&RingTails::default()),
        good,
    );
    Ok((good, json))
}

fn cut_files(set: &mut Set, cuts: &[Cut], rings: &RingTails, request: &Request) -> Outcome<()> {
    for cut in cuts {
        let (name, len) = (report::name_of(&cut.path), cut.offset + cut.bytes_dropped);
        let (dropped, left) = (cut.bytes_dropped, cut.offset);
        request.say(format!(
            "This will shrink the AOF {name} from {len} bytes, with {dropped} bytes, to {left} bytes"
        ));
        request.print(report::cut_details(cut).as_bytes());
    }
    if !request.agreed() {
        return Err("Aborting...".into());
    }
    // After a crash of the system, what is left must not be taken for the remains of that crash again.
    let crashed = set.os_crashed(rings);
    if crashed {
        for file in set.manifest.incrs() {
            let opened = OsStorage.open(&set.dir.join(&file.name), Open::Write);
            let synced = opened.and_then(|file| file.datasync());
            synced.map_err(|e| format!("{}: {e}", report::name_of(Path::new(&file.name))))?;
        }
        set.manifest.run = None;
    }
    let manifest = set.prefix.as_deref().filter(|_| crashed);
    let manifest = manifest.map(|prefix: &OsStr| (prefix, &set.manifest));
    let heading = "cut by basalt-check-aof --fix";
    let done = cut::carry_out(&OsStorage, &set.dir, cuts, manifest, heading, now_unix_ms());
    let done = done.map_err(|error| error.to_string())?;
    for cut in cuts {
        let name = report::name_of(&cut.path);
        request.say(format!("Successfully truncated AOF {name}"));
    }
    if let Some(path) = done.report {
        let path = path.display();
        request.say(format!("What was cut is kept, and described in {path}"));
    }
    Ok(())
}

/// Has the manifest say how long files are that others follow: those that were sealed again, and, if that is agreed to,
/// those that lost their end. True: it says something else now.
fn tell_ends(
    set: &mut Set,
    survey: &Survey,
    sealed: &HashSet<PathBuf>,
    request: &Request,
) -> Outcome<bool> {
    let text = |error: AofError| error.to_string();
    let Some(prefix) = set.prefix.clone() else {
        return Ok(false);
    };
    let mut ends = Vec::new();
    let mut asks = false;
    for file in &survey.files {
        let name = file.path.file_name().unwrap_or_default();
        let entry = set.manifest.files.iter().find(|entry| entry.name == name);
        let Some(closed) = entry.and_then(|entry| entry.closed) else {
            continue;
        };
        let is_sealed = sealed.contains(&file.path);
        let open = open_again(&OsStorage, file).map_err(text)?;
        let len = open
            .len()
            .map_err(|e| io_error(&file.path, e).to_string())?;
        let is_short = len < closed.len;
        if len == closed.len || !(is_short || is_sealed) {
            continue;
        }
        if !is_sealed {
            asks = true;
            request.say(format!(
                "{} has {len} bytes, and had {} when it was complete: {} bytes at its end are lost. What follows it was made on top of them.",
                report::name_of(&file.path),
                closed.len,
                closed.len - len
            ));
        }
        let scan = scan_segment(open, &file.path, 0, len).map_err(text)?;
        let lsn = closed.lsn.and(scan.head).map(|_| scan.lsn);
        ends.push((name.to_owned(), Closed { len, lsn }));
    }
    if asks {
        request.say("The manifest can be made to say that these are their lengths. If nobody took the bytes out, that makes the loss final.");
        if !request.agreed() {
            return Err("Aborting...".into());
        }
    }
    for (name, closed) in &ends {
        set.manifest.close(name, *closed);
    }
    if !ends.is_empty() {
        let stored = set.manifest.store(&OsStorage, &set.dir, &prefix);
        stored.map_err(text)?;
    }
    Ok(!ends.is_empty())
}

/// Seals again what was edited, if that is agreed to. Gives the files that were.
fn reseal_files(survey: &Survey, request: &Request) -> Outcome<HashSet<PathBuf>> {
    let text = |error: AofError| error.to_string();
    let none = HashSet::new();
    let mut plans: Vec<(&FileSurvey, Reseal)> = Vec::new();
    for file in &survey.files {
        let only_torn = file.damages.iter().all(is_torn_tail);
        if file.generation.is_none() || only_torn {
            continue;
        }
        let open = open_again(&OsStorage, file).map_err(text)?;
        let plan = reseal::plan(&open, &file.path, file.segment, &none).map_err(|error| {
            format!("{error}\nThis is no edit of whole commands: it cannot be sealed again.")
        })?;
        if plan.is_needed() {
            plans.push((file, plan));
        }
    }
    let drop = taken_out(survey, &plans).map_err(text)?;
    if plans.is_empty() && drop.is_empty() {
        return Ok(HashSet::new());
    }
    for (_, plan) in &plans {
        request.print(report::reseal(plan).as_bytes());
    }
    let also = also_drop(survey, &drop, request);
    request.say("If nobody edited these files, the blocks are damaged, and sealing them again makes that final.");
    if !request.agreed() {
        return Err("Aborting...".into());
    }
    let edited = plans.iter().map(|(file, _)| *file);
    let dropping = survey.files.iter().filter(|file| also.contains(&file.path));
    let mut done: HashSet<PathBuf> = HashSet::new();
    for file in edited.chain(dropping) {
        if !done.insert(file.path.clone()) {
            continue;
        }
        let id: Option<SegmentId> = file.segment;
        let written = reseal::apply(&OsStorage, &file.path, id, &drop).map_err(text)?;
        let name = report::name_of(&file.path);
        let blocks = written.edited_count;
        request.say(format!(
            "Sealed again: {name}, {blocks} blocks that were edited"
        ));
    }
    Ok(done)
}

/// An edited segment, read through whatever its seals say.
struct Edited {
    shard: u16,
    generation: Option<usize>,
    transactions: HashSet<u64>,
    /// Of its last seal.
    last_ms: i64,
}

/// Transactions that an edit took out of one segment and left in others. A crash takes only what is later than the last
/// seal of a segment.
fn taken_out(survey: &Survey, plans: &[(&FileSurvey, Reseal)]) -> Result<HashSet<u64>, AofError> {
    let mut edited = Vec::new();
    for (file, _) in plans {
        let Some(id) = file.segment else { continue };
        let open = open_again(&OsStorage, file)?;
        let seals = contents(&open, 0, file.len, None).map_err(|e| io_error(&file.path, e))?;
        edited.push(Edited {
            shard: id.shard.0,
            generation: file.generation,
            transactions: reseal::transactions(&open, &file.path)?,
            last_ms: seals.last.map_or(i64::MIN, |seal| seal.unix_ms),
        });
    }
    let mut gone = HashSet::new();
    for file in &survey.files {
        let is_edited = plans.iter().any(|(other, _)| other.path == file.path);
        let Some(scan) = file.scan.as_ref().filter(|_| !is_edited) else {
            continue;
        };
        for mark in &scan.transactions {
            let lacks = |other: &&Edited| {
                mark.participants.iter().any(|shard| shard.0 == other.shard)
                    && other.generation == file.generation
                    && !other.transactions.contains(&mark.id)
            };
            let Some(other) = edited.iter().find(lacks) else {
                continue;
            };
            let open = open_again(&OsStorage, file)?;
            let behind =
                contents(&open, mark.end, file.len, None).map_err(|e| io_error(&file.path, e))?;
            let sealed_ms = behind.first.map_or(i64::MAX, |seal| seal.unix_ms);
            if sealed_ms <= other.last_ms {
                gone.insert(mark.id);
            }
        }
    }
    Ok(gone)
}

fn io_error(path: &Path, error: std::io::Error) -> AofError {
    AofError::Io {
        path: path.to_owned(),
        doing: "read",
        error,
    }
}

/// Says where transactions are that go because an editor took them out elsewhere; the files that hold them.
fn also_drop(survey: &Survey, drop: &HashSet<u64>, request: &Request) -> HashSet<PathBuf> {
    let mut files = HashSet::new();
    for file in &survey.files {
        let Some(scan) = &file.scan else { continue };
        for mark in scan
            .transactions
            .iter()
            .filter(|mark| drop.contains(&mark.id))
        {
            let (name, id) = (report::name_of(&file.path), mark.id);
            let (begin, end) = (mark.begin, mark.end);
            request.say(format!(
                "Transaction {id} was taken out of another segment: it will be taken out of {name} too (bytes {begin} to {end})"
            ));
            files.insert(file.path.clone());
        }
    }
    files
}

fn truncate_set(mut set: Set, request: &Request, seconds: i64) -> Outcome<(bool, Json)> {
    let text = |error: AofError| error.to_string();
    request.print(report::head(&request.path).as_bytes());
    let rings = complete(&mut set, request)?;
    // All of that second, as a #TS line counts.
    let point = Point::Time(seconds.saturating_mul(1000).saturating_add(999));
    let options = PlanOptions {
        threads: request.threads,
        os_crashed: set.os_crashed(&rings),
        now_ms: now_unix_ms(),
    };
    let plan =
        truncate::plan(&OsStorage, &set.dir, &set.manifest, point, &options).map_err(text)?;
    for line in plan.describe() {
        request.say(line);
    }
    if plan.cuts.is_empty() {
        request.say(format!("Truncate nothing in AOF to timestamp {seconds}"));
        return Ok((true, report::simple(&request.path, true)));
    }
    if !request.agreed() {
        return Err("Aborting...".into());
    }
    let prefix = set.prefix.as_deref();
    let done = truncate::apply(&OsStorage, &set.dir, prefix, &plan, now_unix_ms()).map_err(text)?;
    request.say(format!("Successfully truncated AOF to timestamp {seconds}"));
    if let Some(path) = done.report {
        let path = path.display();
        request.say(format!("What was cut is kept, and described in {path}"));
    }
    let set = Set::open(&request.path)?;
    let survey = set.survey(request, &RingTails::default())?;
    let good = survey.is_good();
    request.say(report::conclusion(&survey, good));
    Ok((good, report::simple(&request.path, good)))
}

fn export_set(set: &Set, request: &Request, to: &Path) -> Outcome<(bool, Json)> {
    let text = |error: AofError| error.to_string();
    let Some(prefix) = &set.prefix else {
        return Err("a single segment is no set: name the manifest or the directory".into());
    };
    if cut::is_pending(&OsStorage, &set.dir).map_err(text)? {
        return Err("cuts are under way: start a server on it, or run --fix, first".into());
    }
    request.print(report::head(&request.path).as_bytes());
    let options = set.options(request, &RingTails::default());
    let done = export::export(
        &OsStorage,
        set.place(),
        (&set.dir, to),
        prefix,
        &set.manifest,
        &options,
    );
    let done = done.map_err(|error| {
        format!("{error}\nNothing that stock servers load can be made of it; what is in {} is of no use.", to.display())
    })?;
    request.print(report::rings(&Ok(done.rings)).as_bytes());
    for cut in &done.cuts {
        let name = report::name_of(&cut.path);
        let (left, dropped) = (cut.offset, cut.bytes_dropped);
        request.say(format!(
            "{name}: {left} bytes, without the last {dropped}: {}",
            cut.reason
        ));
        request.print(report::cut_details(cut).as_bytes());
    }
    let good = done.survey.is_good();
    let (files, bytes) = (done.files, done.bytes);
    request.say(format!(
        "Exported {files} files, {bytes} bytes, to {}",
        to.display()
    ));
    request.say(report::conclusion(&done.survey, good));
    let json = report::json(
        &request.path,
        &done.survey,
        &Ok(RingTails::default()),
        false,
        good,
    );
    Ok((good, json))
}
