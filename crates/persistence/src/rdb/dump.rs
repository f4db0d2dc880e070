//! Single values, as DUMP gives and RESTORE takes them.
//!
//! ```text
//! type (1) | value | version (2, little-endian) | CRC-64/Jones of all before (8, little-endian)
//! ```

use super::cursor::Cursor;
use super::decode::{self, Dialect};
use super::encode::{value_type, version_of, Encoder, Stop};
use super::format::*;
use super::RdbError;
use crate::crc;
use datatypes::Limits;
use keyspace::{NewValue, ValueRef};

const FOOTER_BYTES: usize = 10;

/// Of RDB, since when there are libraries in this form.
const FUNCTIONS_VERSION: u16 = 10;

/// Why RESTORE refuses a payload.
#[derive(Debug)]
pub enum DumpError {
    /// "DUMP payload version or checksum are wrong".
    VersionOrChecksum,
    /// "Bad data format".
    Value(RdbError),
}

/// Appends the payload of DUMP.
pub fn dump_value(encoder: &mut Encoder, value: ValueRef<'_>, out: &mut Vec<u8>) {
    let from = out.len();
    let type_ = value_type(value);
    out.push(type_);
    match encoder.value(out, value) {
        Ok(()) => {}
        Err(Stop::Full | Stop::Io(_)) => unreachable!("a vector takes everything"),
    }
    out.extend_from_slice(&(version_of(type_) as u16).to_le_bytes());
    let checksum = crc::jones(&out[from..]);
    out.extend_from_slice(&checksum.to_le_bytes());
}

/// The payload of FUNCTION DUMP: records as in files.
pub fn dump_functions<'a>(codes: impl Iterator<Item = &'a [u8]>, compress: bool) -> Vec<u8> {
    let mut payload = Vec::new();
    let mut encoder = Encoder::new(compress);
    for code in codes {
        payload.push(OP_FUNCTION_2);
        match encoder.string(&mut payload, code) {
            Ok(()) => {}
            Err(Stop::Full | Stop::Io(_)) => unreachable!("a vector takes everything"),
        }
    }
    payload.extend_from_slice(&FUNCTIONS_VERSION.to_le_bytes());
    let checksum = crc::jones(&payload);
    payload.extend_from_slice(&checksum.to_le_bytes());
    payload
}

/// The codes that a payload of FUNCTION DUMP holds.
pub fn load_functions(payload: &[u8]) -> Result<Vec<Vec<u8>>, DumpError> {
    let (body, _) = checked_body(payload)?;
    let mut cursor = Cursor::new(body, 0);
    let mut codes = Vec::new();
    while !cursor.is_at_end() {
        if cursor.byte().map_err(DumpError::Value)? != OP_FUNCTION_2 {
            return Err(DumpError::Value(cursor.malformed("no function library")));
        }
        codes.push(cursor.bytes().map_err(DumpError::Value)?.into_owned());
    }
    Ok(codes)
}

/// What is in front of a payload's footer, which fits it.
fn checked_body(payload: &[u8]) -> Result<(&[u8], Dialect), DumpError> {
    let Some(body_len) = payload.len().checked_sub(FOOTER_BYTES) else {
        return Err(DumpError::VersionOrChecksum);
    };
    let (body, footer) = payload.split_at(body_len);
    let version = u32::from(u16::from_le_bytes([footer[0], footer[1]]));
    let dialect = match version {
        0..=VERSION_READ_MAX => Dialect::Redis,
        VERSION_VALKEY_MIN..=VERSION_VALKEY_MAX => Dialect::Valkey,
        _ => return Err(DumpError::VersionOrChecksum),
    };
    let checksum = u64::from_le_bytes(footer[2..].try_into().expect("ten bytes less two"));
    if checksum != 0 && checksum != crc::jones(&payload[..body_len + 2]) {
        return Err(DumpError::VersionOrChecksum);
    }
    Ok((body, dialect))
}

/// Reads the payload of RESTORE. As in Redis, a checksum of zero is not checked.
pub fn load_dump<'a>(payload: &'a [u8], limits: &Limits) -> Result<NewValue<'a>, DumpError> {
    let (body, dialect) = checked_body(payload)?;
    let mut cursor = Cursor::new(body, 0);
    let type_ = cursor.byte().map_err(DumpError::Value)?;
    let value = decode::value(&mut cursor, type_, dialect, limits).map_err(DumpError::Value)?;
    let value = value.ok_or_else(|| DumpError::Value(cursor.malformed("an empty collection")))?;
    if !cursor.is_at_end() {
        return Err(DumpError::Value(cursor.malformed("bytes behind the value")));
    }
    Ok(value)
}
