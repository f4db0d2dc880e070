//! What a survey found, in words and as JSON.

use crate::json::{number, text, Json};
use crate::rdb::report_pairs;
use persistence::aof::contents::Contents;
use persistence::aof::cut::Cut;
use persistence::aof::point::format_millis;
use persistence::aof::reseal::Reseal;
use persistence::aof::ring_recover::{RingTails, TailFound};
use persistence::aof::scan::{FlawKind, SegmentScan};
use persistence::aof::survey::{Damage, FileSurvey, Incomplete, Survey};
use persistence::aof::AofError;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Keys that are named in a line.
const KEYS_SHOWN_MAX: usize = 20;
const KEYS_IN_JSON_MAX: usize = 1000;

type Rings = Result<RingTails, AofError>;

pub fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

pub fn head(path: &Path) -> String {
    format!("Start checking Basalt AOF {}\n", path.display())
}

pub fn body(survey: &Survey, os_crashed: bool) -> String {
    let mut out = String::new();
    // Into memory, which takes everything.
    let _ = write_body(&mut out, survey, os_crashed);
    out
}

fn write_body(out: &mut String, survey: &Survey, os_crashed: bool) -> std::fmt::Result {
    let mut generation = None;
    for file in &survey.files {
        if file.generation.is_some() && file.generation != generation {
            generation = file.generation;
            match file.segment {
                Some(id) => {
                    let (generation, shards) = (id.generation, id.shard_count);
                    writeln!(out, "Generation {generation}, {shards} shards")?
                }
                None => writeln!(out, "A file of a stock server")?,
            }
        }
        write_file(out, file)?;
    }
    let (all, lacking) = (survey.transactions, survey.incomplete.len());
    if all > 0 {
        writeln!(
            out,
            "Transactions over several shards: {all}, incomplete: {lacking}"
        )?;
    }
    for transaction in &survey.incomplete {
        write_incomplete(out, transaction)?;
    }
    if os_crashed {
        writeln!(out, "The system was booted anew since the last write, or lost the rings: a start keeps what all shards have")?;
    }
    match &survey.start {
        Err(error) => writeln!(out, "A start would refuse: {error}"),
        Ok(cuts) if cuts.is_empty() => writeln!(out, "A start would keep everything"),
        Ok(cuts) => {
            for cut in cuts {
                let (name, dropped) = (name_of(&cut.path), cut.bytes_dropped);
                let (left, reason) = (cut.offset, &cut.reason);
                writeln!(
                    out,
                    "A start would cut {name} at offset {left}, {dropped} bytes: {reason}"
                )?;
                out.push_str(&cut_details(cut));
            }
            Ok(())
        }
    }
}

fn write_file(out: &mut String, file: &FileSurvey) -> std::fmt::Result {
    let (name, len) = (name_of(&file.path), file.len);
    write!(out, "  {name}: {len} bytes")?;
    if let Some(report) = &file.rdb {
        let (keys, bytes) = (report.findings.keys, report.rdb_len);
        write!(out, ", RDB of {bytes} bytes with {keys} keys")?;
    }
    if let Some(scan) = &file.scan {
        write_scan(out, scan)?;
    }
    writeln!(out)?;
    if let Some(flaw) = file
        .rdb
        .as_ref()
        .and_then(|report| report.findings.flaw.as_ref())
    {
        let (offset, doing) = (flaw.offset, flaw.doing.name());
        let message = crate::rdb::message(&flaw.fault);
        writeln!(
            out,
            "    [damage] {name} at offset {offset}, doing {doing}: {message}"
        )?;
    }
    for damage in &file.damages {
        write_damage(out, &name, file.scan.as_ref(), damage)?;
    }
    Ok(())
}

fn write_scan(out: &mut String, scan: &SegmentScan) -> std::fmt::Result {
    let commands = scan.commands;
    let Some((id, lsn)) = scan.head else {
        return write!(out, ", {commands} commands");
    };
    let blocks = scan.blocks;
    let (shard, from, to) = (id.shard.0, lsn.0, scan.lsn.0);
    let (count, marks) = (blocks.count, blocks.marks);
    write!(out, ", shard {shard}, {count} blocks ({marks} of them marks), {commands} commands, LSN {from} to {to}")?;
    if let Some((first, last)) = scan.times {
        let (first, last) = (format_millis(first), format_millis(last));
        write!(out, ", {first} to {last}")?;
    }
    if let (Some(first), Some(last)) = (scan.epochs.first(), scan.epochs.last()) {
        let (first, last) = (first.epoch, last.epoch);
        write!(out, ", epochs {first} to {last}")?;
    }
    for (count, policy) in policies(scan) {
        if count > 0 {
            write!(out, ", {count} {policy}")?;
        }
    }
    if let Some(from) = scan.foreign_from {
        write!(out, ", from offset {from} on written by a stock server")?;
    }
    Ok(())
}

fn policies(scan: &SegmentScan) -> [(u64, &'static str); 3] {
    let blocks = scan.blocks;
    [
        (blocks.always, "always"),
        (blocks.every_second, "everysec"),
        (blocks.no, "no"),
    ]
}

fn kind_name(kind: FlawKind) -> &'static str {
    match kind {
        FlawKind::CutShort => "torn tail",
        FlawKind::TailDamaged => "damaged tail",
        FlawKind::MiddleDamaged => "damage",
    }
}

fn write_damage(
    out: &mut String,
    name: &str,
    scan: Option<&SegmentScan>,
    damage: &Damage,
) -> std::fmt::Result {
    let flaw = &damage.flaw;
    let (kind, offset, until) = (kind_name(flaw.kind), flaw.offset, damage.until);
    let reason = &flaw.reason;
    write!(
        out,
        "    [{kind}] {name}, bytes {offset} to {until}: {reason}"
    )?;
    if let Some(scan) = scan.filter(|scan| scan.head.is_some() && offset == scan.kept_len) {
        write!(out, "; intact up to LSN {}", scan.lsn.0)?;
        if let Some((_, last)) = scan.times {
            write!(out, ", {}", format_millis(last))?;
        }
    }
    if let Some(seal) = flaw.next_seal() {
        let (lsn, time) = (seal.lsn.0, format_millis(seal.stamp.unix_ms));
        write!(out, "; the next seal says LSN {lsn}, {time}")?;
    }
    writeln!(out)?;
    out.push_str(&touched("    ", &damage.touched));
    Ok(())
}

fn touched(indent: &str, contents: &Contents) -> String {
    let mut out = format!("{indent}  it holds {}\n", contents.summary());
    if contents.keys > 0 {
        let keys = contents.keys_in_line(KEYS_SHOWN_MAX);
        let _ = writeln!(out, "{indent}  keys: {keys}");
    }
    out
}

pub fn cut_details(cut: &Cut) -> String {
    touched("  ", &cut.discarded)
}

fn write_incomplete(out: &mut String, transaction: &Incomplete) -> std::fmt::Result {
    let shards = |shards: &[persistence::aof::ShardIndex]| {
        let shards: Vec<String> = shards.iter().map(|shard| shard.0.to_string()).collect();
        shards.join(",")
    };
    let (id, of) = (transaction.id, shards(&transaction.participants));
    let missing = shards(&transaction.missing);
    write!(
        out,
        "  [incomplete] transaction {id} of shards {of} is missing in {missing}; it is in"
    )?;
    for (path, begin, end) in &transaction.present {
        write!(out, " {} (bytes {begin} to {end})", name_of(path))?;
    }
    match transaction.taken_out {
        true => writeln!(
            out,
            "; later blocks are there, so it was taken out or damaged"
        ),
        false => writeln!(out),
    }
}

pub fn rings(rings: &Rings) -> String {
    let mut out = String::new();
    let tails = match rings {
        Ok(tails) => tails,
        Err(error) => return format!("Rings: {error}\n"),
    };
    for tail in &tails.0 {
        let (path, shard) = (tail.path.display(), tail.shard.0);
        let _ = match &tail.found {
            TailFound::Nothing => writeln!(out, "Ring of shard {shard}: everything is in the file"),
            TailFound::Tail {
                file,
                offset,
                bytes,
            } => {
                let file = file.to_string_lossy();
                writeln!(out, "Ring of shard {shard}: {bytes} bytes for {file} from offset {offset} on, which a start adds ({path})")
            }
            TailFound::Lost(reason) => {
                writeln!(
                    out,
                    "Ring of shard {shard}: what was in {path} is lost: {reason}"
                )
            }
        };
    }
    out
}

pub fn reseal(plan: &Reseal) -> String {
    let name = name_of(&plan.path);
    let count = plan.edited_count;
    let mut out =
        format!("{name}: {count} blocks do not match their seals, and consist of whole commands\n");
    for block in &plan.edited {
        let (offset, sealed, now) = (block.offset, block.bytes_sealed, block.bytes_now);
        let (lsn, time) = (block.lsn.0, format_millis(block.stamp.unix_ms));
        let how = match () {
            () if now != sealed => format!("{sealed} bytes were sealed, {now} are there"),
            () if block.follows_gap => "blocks before it are gone".to_owned(),
            () => format!("{now} bytes, as many as were sealed, and others"),
        };
        let _ = writeln!(out, "  block at offset {offset}, LSN {lsn}, {time}: {how}");
        out.push_str(&touched("  ", &block.contents));
    }
    if plan.head {
        out.push_str("  the head is missing or does not match\n");
    }
    if plan.comments > 0 {
        let comments = plan.comments;
        let _ = writeln!(out, "  {comments} comment lines, which will go");
    }
    out.push_str("They will be sealed again, as they are now.\n");
    out
}

pub fn conclusion(survey: &Survey, good: bool) -> String {
    if good {
        return "All AOF files and manifest are valid".into();
    }
    let edited = |file: &FileSurvey| {
        let sealed = file.damages.iter();
        file.generation.is_some() && sealed.clone().any(|d| d.flaw.kind != FlawKind::CutShort)
    };
    match survey.files.iter().any(edited) {
        true => {
            "AOF is not valid. If a file was edited by hand, use the --fix option to seal it again."
                .into()
        }
        false => "AOF is not valid. Use the --fix option to try fixing it.".into(),
    }
}

pub fn simple(path: &Path, good: bool) -> Json {
    Json::Object(vec![
        ("kind", "basalt".into()),
        ("path", text(path.as_os_str().as_bytes())),
        ("good", good.into()),
    ])
}

pub fn json(path: &Path, survey: &Survey, rings: &Rings, os_crashed: bool, good: bool) -> Json {
    let start = match &survey.start {
        Ok(cuts) => (
            "start_cuts",
            Json::List(cuts.iter().map(cut_json).collect()),
        ),
        Err(error) => ("start_refuses", error.to_string().into()),
    };
    let incomplete = survey.incomplete.iter().map(incomplete_json);
    Json::Object(vec![
        ("kind", "basalt".into()),
        ("path", text(path.as_os_str().as_bytes())),
        ("good", good.into()),
        ("system_crashed", os_crashed.into()),
        (
            "files",
            Json::List(survey.files.iter().map(file_json).collect()),
        ),
        ("transactions", number(survey.transactions)),
        ("incomplete_transactions", Json::List(incomplete.collect())),
        start,
        ("rings", rings_json(rings)),
    ])
}

fn file_json(file: &FileSurvey) -> Json {
    let mut pairs = vec![
        ("file", text(name_of(&file.path).as_bytes())),
        ("bytes", number(file.len)),
        ("good", file.is_good().into()),
    ];
    if let Some(id) = file.segment {
        pairs.push(("shard", number(id.shard.0)));
        pairs.push(("shards", number(id.shard_count)));
        pairs.push(("generation", number(id.generation)));
    }
    if let Some(report) = &file.rdb {
        pairs.push(("rdb", Json::Object(report_pairs(report))));
    }
    if let Some(scan) = &file.scan {
        pairs.extend(scan_pairs(scan));
    }
    let damages = file.damages.iter().map(damage_json);
    pairs.push(("damage", Json::List(damages.collect())));
    Json::Object(pairs)
}

fn scan_pairs(scan: &SegmentScan) -> Vec<(&'static str, Json)> {
    let mut pairs = vec![("commands", number(scan.commands))];
    let Some((_, lsn)) = scan.head else {
        return pairs;
    };
    let by_policy = policies(scan).map(|(count, policy)| (policy, number(count)));
    pairs.extend([
        ("blocks", number(scan.blocks.count)),
        ("marks", number(scan.blocks.marks)),
        ("policies", Json::Object(by_policy.to_vec())),
        ("lsn_first", number(lsn.0)),
        ("lsn_last", number(scan.lsn.0)),
        (
            "unix_ms_first",
            scan.times.map(|(first, _)| number(first)).into(),
        ),
        (
            "unix_ms_last",
            scan.times.map(|(_, last)| number(last)).into(),
        ),
        (
            "epoch_first",
            scan.epochs.first().map(|mark| number(mark.epoch)).into(),
        ),
        (
            "epoch_last",
            scan.epochs.last().map(|mark| number(mark.epoch)).into(),
        ),
        ("intact_bytes", number(scan.kept_len)),
        ("stock_from", scan.foreign_from.map(number).into()),
    ]);
    pairs
}

fn contents_json(contents: &Contents) -> Json {
    let keys = contents.key_names.iter().take(KEYS_IN_JSON_MAX);
    let keys = keys.map(|key| {
        Json::Object(vec![
            ("db", key.db.map(|db| number(db.0)).into()),
            ("key", text(&key.key)),
        ])
    });
    Json::Object(vec![
        ("bytes", number(contents.bytes)),
        ("commands", number(contents.commands)),
        ("keys", number(contents.keys)),
        ("key_names", Json::List(keys.collect())),
        ("unreadable_bytes", number(contents.unreadable_bytes)),
    ])
}

fn damage_json(damage: &Damage) -> Json {
    let flaw = &damage.flaw;
    let seal = flaw.next_seal().map(|seal| {
        Json::Object(vec![
            ("offset", number(seal.offset)),
            ("lsn", number(seal.lsn.0)),
            ("unix_ms", number(seal.stamp.unix_ms)),
        ])
    });
    Json::Object(vec![
        ("kind", kind_name(flaw.kind).into()),
        ("offset", number(flaw.offset)),
        ("until", number(damage.until)),
        ("reason", flaw.reason.as_str().into()),
        ("next_seal", seal.into()),
        ("touched", contents_json(&damage.touched)),
    ])
}

fn cut_json(cut: &Cut) -> Json {
    Json::Object(vec![
        ("file", text(name_of(&cut.path).as_bytes())),
        ("offset", number(cut.offset)),
        ("bytes_dropped", number(cut.bytes_dropped)),
        ("cause", cut.cause.name().into()),
        ("reason", cut.reason.as_str().into()),
        ("lost", contents_json(&cut.discarded)),
    ])
}

fn incomplete_json(transaction: &Incomplete) -> Json {
    let missing = transaction.missing.iter().map(|shard| number(shard.0));
    Json::Object(vec![
        ("id", number(transaction.id)),
        ("missing", Json::List(missing.collect())),
        ("taken_out", transaction.taken_out.into()),
    ])
}

fn rings_json(rings: &Rings) -> Json {
    let tails = match rings {
        Ok(tails) => tails,
        Err(error) => return error.to_string().into(),
    };
    let one = |tail: &persistence::aof::ring_recover::RingTail| {
        let (found, bytes) = match &tail.found {
            TailFound::Nothing => ("nothing".to_owned(), 0),
            TailFound::Tail { bytes, .. } => ("tail".to_owned(), *bytes),
            TailFound::Lost(reason) => (format!("lost: {reason}"), 0),
        };
        Json::Object(vec![
            ("shard", number(tail.shard.0)),
            ("found", found.into()),
            ("bytes", number(bytes)),
        ])
    };
    Json::List(tails.0.iter().map(one).collect())
}
