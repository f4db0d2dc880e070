//! What is in an RDB beyond what Redis's tool tells, for people and as JSON.

use super::lines::message;
use crate::json::{number, text, Json};
use persistence::rdb::inspect::{
    encoding_name, Checksum, Event, Fault, Findings, Flaw, LargeKey, RdbReport, Tally,
};
use std::fmt::Write;

/// Bytes of a key that are shown in a line.
const KEY_BYTES_SHOWN: usize = 64;

pub fn put_text(out: &mut Vec<u8>, report: &RdbReport) {
    let mut text = String::new();
    // Into memory, which takes everything.
    let _ = write_text(&mut text, report);
    out.extend_from_slice(text.as_bytes());
}

pub fn shown_key(key: &[u8]) -> String {
    let front = &key[..key.len().min(KEY_BYTES_SHOWN)];
    let dots = if key.len() > front.len() { "..." } else { "" };
    format!("\"{}{dots}\"", front.escape_ascii())
}

fn write_text(out: &mut String, report: &RdbReport) -> std::fmt::Result {
    let found = &report.findings;
    writeln!(out, "\n{}", sections(report))?;
    if !found.types.is_empty() {
        writeln!(
            out,
            "\nBy type          keys        elements           bytes"
        )?;
        for (name, tally) in &found.types {
            write_tally(out, name, tally)?;
        }
        writeln!(out, "By encoding")?;
        for (&encoding, tally) in &found.encodings {
            write_tally(out, encoding_name(encoding), tally)?;
        }
        writeln!(out, "By database")?;
        for (db, tally) in &found.dbs {
            let expires = tally.expires;
            write_tally(out, &format!("db{db}, {expires} expire"), tally)?;
        }
    }
    if !found.largest.is_empty() {
        writeln!(out, "\nLargest keys, by their bytes in the file")?;
    }
    for key in &found.largest {
        let (db, shown) = (key.db, shown_key(&key.key));
        write!(out, "{:>12}  {:6} db{db} {shown}", key.bytes, key.type_name)?;
        match key.elements {
            0 => writeln!(out)?,
            n => writeln!(out, ", {n} elements")?,
        }
    }
    for (what, count) in &found.unsupported {
        writeln!(out, "[note] a Basalt server cannot load {what}: {count}")?;
    }
    if found.empty > 0 {
        let empty = found.empty;
        writeln!(
            out,
            "[note] {empty} empty collections, which are not loaded"
        )?;
    }
    if found.unverified > 0 {
        let count = found.unverified;
        writeln!(
            out,
            "[note] {count} blobs too large to be verified from within"
        )?;
    }
    if report.trailing() > 0 {
        let trailing = report.trailing();
        writeln!(out, "[note] {trailing} bytes behind the end of the RDB")?;
    }
    write_damage(out, report)
}

fn write_tally(out: &mut String, name: &str, tally: &Tally) -> std::fmt::Result {
    let (keys, elements, bytes) = (tally.keys, tally.elements, tally.bytes);
    writeln!(out, "  {name:20}{keys:>12} {elements:>15} {bytes:>15}")
}

fn sections(report: &RdbReport) -> String {
    let found = &report.findings;
    let aux = found
        .events
        .iter()
        .filter(|event| matches!(event, Event::Aux { .. }))
        .count();
    let server = if report.valkey { "Valkey" } else { "Redis" };
    let mut parts = vec![
        format!("version {} of {server}", report.version),
        format!("{aux} AUX fields"),
    ];
    if let Some(chunks) = report.chunks {
        let shards = report.shards;
        parts.push(format!("an index of {chunks} chunks of {shards} shards"));
    }
    for (count, what) in [
        (found.padding_bytes, "bytes of padding"),
        (found.functions, "function libraries"),
        (found.module_aux, "sections of modules"),
    ] {
        if count > 0 {
            parts.push(format!("{count} {what}"));
        }
    }
    parts.push(match report.checksum {
        Checksum::Right => "checksum right".into(),
        Checksum::Wrong { expected, found } => {
            format!("checksum {found:016x}, the file's bytes make {expected:016x}")
        }
        Checksum::Disabled => "checksum disabled".into(),
        Checksum::None => "no checksum in this version".into(),
        Checksum::NotReached => "checksum not reached".into(),
    });
    format!("Sections: {}", parts.join(", "))
}

fn write_damage(out: &mut String, report: &RdbReport) -> std::fmt::Result {
    let Some(flaw) = &report.findings.flaw else {
        return Ok(());
    };
    let (offset, doing, db) = (flaw.offset, flaw.doing.name(), flaw.db);
    write!(
        out,
        "[damage] behind byte {offset}, doing {doing}, in db{db}"
    )?;
    if let Some(key) = &flaw.key {
        write!(out, ", key {}", shown_key(key))?;
    }
    match &flaw.fault {
        Fault::Io(error) => writeln!(out, ": {error}")?,
        fault => writeln!(out, ": {}", message(fault))?,
    }
    for chunk in &report.bad_chunks {
        let (from, to) = (chunk.offset, chunk.offset + chunk.len);
        let (shard, keys) = (chunk.shard, chunk.keys);
        write!(
            out,
            "[damage] bytes {from} to {to}, {keys} keys of shard {shard}, do not match the index"
        )?;
        match (&chunk.first_key, &chunk.last_key) {
            (Some(first), Some(last)) => {
                let (first, last) = (shown_key(first), shown_key(last));
                writeln!(out, ": from key {first} to {last}")?
            }
            _ => writeln!(out)?,
        }
    }
    if report.bad_chunks.is_empty() && matches!(report.checksum, Checksum::Wrong { .. }) {
        writeln!(
            out,
            "[damage] the outline of the file is intact: the wrong byte is in a key, a value or a number"
        )?;
    }
    Ok(())
}

pub fn json(path: &[u8], checked: &Result<RdbReport, String>) -> Json {
    let report = match checked {
        Ok(report) => report,
        Err(reason) => {
            return Json::Object(vec![
                ("file", text(path)),
                ("good", false.into()),
                ("error", reason.as_str().into()),
            ])
        }
    };
    let mut pairs = vec![("file", text(path))];
    pairs.extend(report_pairs(report));
    Json::Object(pairs)
}

/// The pairs of a report, for the RDB of an append-only file too.
pub fn report_pairs(report: &RdbReport) -> Vec<(&'static str, Json)> {
    let found = &report.findings;
    let by_name = |(name, tally): (&&'static str, &Tally)| (name.to_string(), tally_json(tally));
    let encodings = found.encodings.iter();
    let encodings = encodings.map(|(&e, tally)| (encoding_name(e).to_owned(), tally_json(tally)));
    let dbs = found.dbs.iter();
    let dbs = dbs.map(|(db, tally)| (db.to_string(), tally_json(tally)));
    vec![
        ("good", report.is_good().into()),
        ("bytes", number(report.file_len)),
        ("rdb_bytes", number(report.rdb_len)),
        ("version", number(report.version)),
        ("valkey", report.valkey.into()),
        ("checksum", checksum_json(report.checksum)),
        ("keys", number(found.keys)),
        ("expires", number(found.expires)),
        ("expired", number(found.expired)),
        ("field_expires", number(found.field_expires)),
        ("empty", number(found.empty)),
        (
            "types",
            Json::Map(found.types.iter().map(by_name).collect()),
        ),
        ("encodings", Json::Map(encodings.collect())),
        ("databases", Json::Map(dbs.collect())),
        (
            "largest",
            Json::List(found.largest.iter().map(large_json).collect()),
        ),
        ("sections", sections_json(report)),
        (
            "not_loadable",
            Json::Map(
                found
                    .unsupported
                    .iter()
                    .map(|(what, &count)| (what.clone(), number(count)))
                    .collect(),
            ),
        ),
        ("unverified_blobs", number(found.unverified)),
        ("trailing_bytes", number(report.trailing())),
        ("damage", found.flaw.as_ref().map(flaw_json).into()),
        ("damaged_chunks", bad_chunks_json(report)),
    ]
}

fn tally_json(tally: &Tally) -> Json {
    Json::Object(vec![
        ("keys", number(tally.keys)),
        ("elements", number(tally.elements)),
        ("bytes", number(tally.bytes)),
        ("expires", number(tally.expires)),
    ])
}

fn large_json(key: &LargeKey) -> Json {
    Json::Object(vec![
        ("key", text(&key.key)),
        ("db", number(key.db)),
        ("type", key.type_name.into()),
        ("bytes", number(key.bytes)),
        ("elements", number(key.elements)),
        ("offset", number(key.offset)),
    ])
}

fn checksum_json(checksum: Checksum) -> Json {
    match checksum {
        Checksum::Right => "right",
        Checksum::Wrong { .. } => "wrong",
        Checksum::Disabled => "disabled",
        Checksum::None => "none",
        Checksum::NotReached => "not reached",
    }
    .into()
}

fn sections_json(report: &RdbReport) -> Json {
    let found: &Findings = &report.findings;
    let (mut aux, mut functions, mut modules) = (Vec::new(), Vec::new(), Vec::new());
    for event in &found.events {
        match event {
            Event::Aux { name, value, .. } => {
                aux.push((String::from_utf8_lossy(name).into_owned(), text(value)))
            }
            Event::Function { title, bytes, .. } => functions.push(Json::Object(vec![
                ("title", text(title)),
                ("bytes", number(*bytes)),
            ])),
            Event::ModuleAux { module, .. } => modules.push(module.as_str().into()),
            Event::SelectDb { .. } => {}
        }
    }
    let index = report.chunks.map(|chunks| {
        Json::Object(vec![
            ("chunks", number(chunks as u64)),
            ("shards", number(report.shards as u64)),
        ])
    });
    Json::Object(vec![
        ("aux", Json::Map(aux)),
        ("index", index.into()),
        ("functions", Json::List(functions)),
        ("modules", Json::List(modules)),
        ("padding_bytes", number(found.padding_bytes)),
    ])
}

fn flaw_json(flaw: &Flaw) -> Json {
    Json::Object(vec![
        ("offset", number(flaw.offset)),
        ("doing", flaw.doing.name().into()),
        ("db", number(flaw.db)),
        ("key", flaw.key.as_deref().map(text).into()),
        ("type", flaw.type_.map(encoding_name).into()),
        ("reason", message(&flaw.fault).into()),
    ])
}

fn bad_chunks_json(report: &RdbReport) -> Json {
    let one = |chunk: &persistence::rdb::inspect::BadChunk| {
        Json::Object(vec![
            ("offset", number(chunk.offset)),
            ("bytes", number(chunk.len)),
            ("shard", number(chunk.shard)),
            ("keys", number(chunk.keys)),
            ("first_key", chunk.first_key.as_deref().map(text).into()),
            ("last_key", chunk.last_key.as_deref().map(text).into()),
        ])
    };
    Json::List(report.bad_chunks.iter().map(one).collect())
}
