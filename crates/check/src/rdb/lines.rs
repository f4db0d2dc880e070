//! The lines of `redis-check-rdb`, byte for byte.

use persistence::rdb::inspect::{encoding_name, Checksum, Event, Fault, Flaw, RdbReport};
use std::io::Write;

/// Redis formats a message into a buffer of this size, its zero included.
const MESSAGE_BYTES_MAX: usize = 1024;

/// How a check ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Good,
    Damaged,
    /// Damage at which Redis's loader ends the process, whatever it was doing.
    Ended,
}

pub fn outcome(report: &RdbReport) -> Outcome {
    match &report.findings.flaw {
        None => Outcome::Good,
        Some(Flaw {
            fault: Fault::Corrupt(_),
            ..
        }) => Outcome::Ended,
        Some(_) => Outcome::Damaged,
    }
}

/// Bytes up to the first zero, as C prints a string.
fn c_string(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|&b| b == 0);
    &bytes[..end.unwrap_or(bytes.len())]
}

fn put_info(out: &mut Vec<u8>, offset: u64, message: &[u8]) {
    out.extend_from_slice(format!("[offset {offset}] ").as_bytes());
    out.extend_from_slice(&message[..message.len().min(MESSAGE_BYTES_MAX - 1)]);
    out.push(b'\n');
}

pub fn put_first_line(out: &mut Vec<u8>, path: &[u8]) {
    put_info(out, 0, &[b"Checking RDB file ", path].concat());
}

/// All that Redis's tool says about a file that could be read.
pub fn put_lines(out: &mut Vec<u8>, path: &[u8], report: &RdbReport) {
    put_first_line(out, path);
    for event in &report.findings.events {
        put_event(out, event);
    }
    match &report.findings.flaw {
        Some(flaw) => put_error(out, flaw),
        None => {
            let said = match report.checksum {
                Checksum::Right => Some("Checksum OK"),
                Checksum::Disabled => {
                    Some("RDB file was saved with checksum disabled: no check performed.")
                }
                Checksum::None | Checksum::NotReached | Checksum::Wrong { .. } => None,
            };
            if let Some(said) = said {
                put_info(out, report.rdb_len, said.as_bytes());
            }
            put_info(out, report.rdb_len, b"\\o/ RDB looks OK! \\o/");
        }
    }
    let found = &report.findings;
    for (count, what) in [
        (found.keys, "keys read"),
        (found.expires, "expires"),
        (found.expired, "already expired"),
        (found.field_expires, "subexpires"),
    ] {
        // Into memory, which takes everything.
        let _ = writeln!(out, "[info] {count} {what}");
    }
}

fn put_event(out: &mut Vec<u8>, event: &Event) {
    match event {
        Event::Aux {
            offset,
            name,
            value,
        } => {
            let message = [
                b"AUX FIELD ",
                c_string(name),
                b" = '",
                c_string(value),
                b"'",
            ];
            put_info(out, *offset, &message.concat());
        }
        Event::SelectDb { offset, db } => {
            put_info(out, *offset, format!("Selecting DB ID {db}").as_bytes())
        }
        Event::ModuleAux { offset, module } => {
            put_info(out, *offset, format!("MODULE AUX for: {module}").as_bytes())
        }
        // Redis passes over libraries in silence.
        Event::Function { .. } => {}
    }
}

fn put_error(out: &mut Vec<u8>, flaw: &Flaw) {
    out.extend_from_slice(b"--- RDB ERROR DETECTED ---\n");
    put_info(out, flaw.offset, message(&flaw.fault).as_bytes());
    let doing = flaw.doing.name();
    let _ = writeln!(out, "[additional info] While doing: {doing}");
    if let Some(key) = &flaw.key {
        out.extend_from_slice(b"[additional info] Reading key '");
        out.extend_from_slice(c_string(key));
        out.extend_from_slice(b"'\n");
    }
    if let Some(type_) = flaw.type_ {
        let name = encoding_name(type_);
        let _ = writeln!(out, "[additional info] Reading type {type_} ({name})");
    }
}

/// The message of an error, as Redis words it.
pub fn message(fault: &Fault) -> String {
    match fault {
        // Redis does not tell a failed read from the end of the file.
        Fault::End | Fault::Io(_) => "Unexpected EOF reading RDB file".into(),
        Fault::Refused(reason) => reason.clone(),
        // The place in the program that found it is another in every version.
        Fault::Corrupt(reason) => {
            format!("Internal error in RDB reading offset 0, function at rdb.c:0 -> {reason}")
        }
    }
}
