//! The library `cmsgpack`: MessagePack out of Lua's values and back, choosing forms as lua-cmsgpack does.

use std::ffi::c_int;

use crate::stack::{Binding, Kind, Lua, Raised, Returns};

/// Tables within tables beyond which nil is written.
const PACK_DEPTH_MAX: usize = 16;
/// As deep a value may be that is read.
const UNPACK_DEPTH_MAX: usize = 2000;

pub fn push_library(lua: Lua) {
    let functions: [(&str, Binding); 4] = [
        ("pack", pack),
        ("unpack", unpack),
        ("unpack_one", unpack_one),
        ("unpack_limit", unpack_limit),
    ];
    lua.new_table(0, 8);
    for (name, function) in functions {
        lua.set_binding(name, function);
    }
    let texts = [
        ("_NAME", "cmsgpack"),
        ("_VERSION", "lua-cmsgpack 0.4.0"),
        ("_COPYRIGHT", "Copyright (C) 2012, Salvatore Sanfilippo"),
        ("_DESCRIPTION", "MessagePack C implementation for Lua"),
    ];
    for (name, text) in texts {
        lua.push_bytes(text.as_bytes());
        lua.set_field(-2, name);
    }
}

fn pack(lua: Lua) -> Returns {
    let count = lua.top();
    if count == 0 {
        return Err(lua.bad_argument(0, "MessagePack pack needs input."));
    }
    if !lua.has_room(count) {
        return Err(lua.bad_argument(0, "Too many arguments for MessagePack pack."));
    }
    let mut out = Vec::new();
    for argument in 1..=count {
        lua.push_copy(argument);
        put_value(lua, 0, &mut out)?;
    }
    lua.push_bytes(&out);
    Ok(1)
}

/// Appends the value on top, and pops it.
fn put_value(lua: Lua, depth: usize, out: &mut Vec<u8>) -> Result<(), Raised> {
    match lua.kind(-1) {
        Kind::String => put_string(lua.bytes(-1).unwrap_or_default(), out),
        Kind::Boolean => out.push(if lua.boolean(-1) { 0xc3 } else { 0xc2 }),
        Kind::Number => put_number(lua.number(-1), out),
        Kind::Table if depth < PACK_DEPTH_MAX => put_table(lua, depth, out)?,
        _ => out.push(0xc0),
    }
    lua.pop(1);
    Ok(())
}

fn put_string(bytes: &[u8], out: &mut Vec<u8>) {
    match bytes.len() {
        len @ 0..=31 => out.push(0xa0 | len as u8),
        len @ 32..=0xff => out.extend_from_slice(&[0xd9, len as u8]),
        len @ 0x100..=0xffff => {
            out.push(0xda);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0xdb);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
}

fn put_number(n: f64, out: &mut Vec<u8>) {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&n) && n == n.trunc() {
        put_integer(n as i64, out);
    } else if f64::from(n as f32) == n {
        out.push(0xca);
        out.extend_from_slice(&(n as f32).to_be_bytes());
    } else {
        out.push(0xcb);
        out.extend_from_slice(&n.to_be_bytes());
    }
}

fn put_integer(n: i64, out: &mut Vec<u8>) {
    match n {
        -32..=127 => out.push(n as u8),
        128..=0xff => out.extend_from_slice(&[0xcc, n as u8]),
        0x100..=0xffff => {
            out.push(0xcd);
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xce);
            out.extend_from_slice(&(n as u32).to_be_bytes());
        }
        0x1_0000_0000.. => {
            out.push(0xcf);
            out.extend_from_slice(&n.to_be_bytes());
        }
        -128..=-33 => out.extend_from_slice(&[0xd0, n as u8]),
        -0x8000..=-129 => {
            out.push(0xd1);
            out.extend_from_slice(&(n as i16).to_be_bytes());
        }
        -0x8000_0000..=-0x8001 => {
            out.push(0xd2);
            out.extend_from_slice(&(n as i32).to_be_bytes());
        }
        _ => {
            out.push(0xd3);
            out.extend_from_slice(&n.to_be_bytes());
        }
    }
}

/// The number of elements of the table on top, if its keys are 1 to that.
fn array_len(lua: Lua) -> Option<usize> {
    let (mut count, mut max) = (0usize, 0usize);
    lua.push_nil();
    while lua.next(-2) {
        lua.pop(1);
        let key = if lua.kind(-1) == Kind::Number {
            lua.number(-1)
        } else {
            0.0
        };
        if key < 1.0 || key != key.trunc() || key > 4_294_967_295.0 {
            lua.pop(1);
            return None;
        }
        max = max.max(key as usize);
        count += 1;
    }
    (max == count).then_some(count)
}

fn put_len(len: usize, small: u8, two: u8, four: u8, out: &mut Vec<u8>) {
    match len {
        0..=15 => out.push(small | len as u8),
        16..=0xffff => {
            out.push(two);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        _ => {
            out.push(four);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
}

fn put_table(lua: Lua, depth: usize, out: &mut Vec<u8>) -> Result<(), Raised> {
    if !lua.has_room(6) {
        return Err(lua.raise("stack overflow (in function mp_encode_lua_table)"));
    }
    if let Some(len) = array_len(lua) {
        put_len(len, 0x90, 0xdc, 0xdd, out);
        for n in 1..=len {
            lua.raw_get_at(-1, n as c_int);
            put_value(lua, depth + 1, out)?;
        }
        return Ok(());
    }
    let mut len = 0;
    lua.push_nil();
    while lua.next(-2) {
        lua.pop(1);
        len += 1;
    }
    put_len(len, 0x80, 0xde, 0xdf, out);
    lua.push_nil();
    while lua.next(-2) {
        lua.push_copy(-2);
        put_value(lua, depth + 1, out)?;
        put_value(lua, depth + 1, out)?;
    }
    Ok(())
}

enum Failure {
    Missing,
    BadFormat,
    Raised(Raised),
}

/// Bytes being read.
struct Input<'b> {
    bytes: &'b [u8],
}

impl<'b> Input<'b> {
    fn take(&mut self, len: usize) -> Result<&'b [u8], Failure> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(Failure::Missing)?;
        self.bytes = rest;
        Ok(taken)
    }

    /// A number of so many bytes.
    fn unsigned(&mut self, len: usize) -> Result<u64, Failure> {
        Ok(self
            .take(len)?
            .iter()
            .fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    fn push_string(&mut self, lua: Lua, len: u64) -> Result<(), Failure> {
        lua.push_bytes(self.take(len as usize)?);
        Ok(())
    }

    fn push_value(&mut self, lua: Lua, depth: usize) -> Result<(), Failure> {
        if depth > UNPACK_DEPTH_MAX || !lua.has_room(4) {
            let text = "too many return values at once; use unpack_one or unpack_limit instead.";
            return Err(Failure::Raised(
                lua.raise(&format!("stack overflow ({text})")),
            ));
        }
        let kind = self.take(1)?[0];
        match kind {
            0..=0x7f => lua.push_number(kind.into()),
            0xe0.. => lua.push_number((kind as i8).into()),
            0x80..=0x8f => return self.push_map(lua, u64::from(kind & 15), depth),
            0x90..=0x9f => return self.push_array(lua, u64::from(kind & 15), depth),
            0xa0..=0xbf => return self.push_string(lua, u64::from(kind & 31)),
            0xc0 => lua.push_nil(),
            0xc2 => lua.push_boolean(false),
            0xc3 => lua.push_boolean(true),
            0xd9 => {
                let len = self.unsigned(1)?;
                return self.push_string(lua, len);
            }
            0xda => {
                let len = self.unsigned(2)?;
                return self.push_string(lua, len);
            }
            0xdb => {
                let len = self.unsigned(4)?;
                return self.push_string(lua, len);
            }
            0xca => lua.push_number(f32::from_bits(self.unsigned(4)? as u32).into()),
            0xcb => lua.push_number(f64::from_bits(self.unsigned(8)?)),
            0xcc => lua.push_number(self.unsigned(1)? as f64),
            0xcd => lua.push_number(self.unsigned(2)? as f64),
            0xce => lua.push_number(self.unsigned(4)? as f64),
            0xcf => lua.push_number(self.unsigned(8)? as f64),
            0xd0 => lua.push_number((self.unsigned(1)? as i8).into()),
            0xd1 => lua.push_number((self.unsigned(2)? as i16).into()),
            0xd2 => lua.push_number((self.unsigned(4)? as i32).into()),
            0xd3 => lua.push_number(self.unsigned(8)? as i64 as f64),
            0xdc => {
                let len = self.unsigned(2)?;
                return self.push_array(lua, len, depth);
            }
            0xdd => {
                let len = self.unsigned(4)?;
                return self.push_array(lua, len, depth);
            }
            0xde => {
                let len = self.unsigned(2)?;
                return self.push_map(lua, len, depth);
            }
            0xdf => {
                let len = self.unsigned(4)?;
                return self.push_map(lua, len, depth);
            }
            0xc1 | 0xc4..=0xc9 | 0xd4..=0xd8 => return Err(Failure::BadFormat),
        }
        Ok(())
    }

    fn push_array(&mut self, lua: Lua, len: u64, depth: usize) -> Result<(), Failure> {
        lua.new_table(0, 0);
        for n in 1..=len {
            self.push_value(lua, depth + 1)?;
            lua.raw_set_at(-2, n as c_int);
        }
        Ok(())
    }

    fn push_map(&mut self, lua: Lua, len: u64, depth: usize) -> Result<(), Failure> {
        lua.new_table(0, 0);
        for _ in 0..len {
            self.push_value(lua, depth + 1)?;
            let is_nan = lua.kind(-1) == Kind::Number && lua.number(-1).is_nan();
            if lua.kind(-1) == Kind::Nil || is_nan {
                let text = if is_nan {
                    "table index is NaN"
                } else {
                    "table index is nil"
                };
                return Err(Failure::Raised(lua.raise_plain(text.as_bytes())));
            }
            self.push_value(lua, depth + 1)?;
            lua.raw_set(-3);
        }
        Ok(())
    }
}

/// Pushes the values from `offset` on: all, or at most `limit` and in front of them where the next one begins.
fn unpack_values(lua: Lua, limit: i64, offset: i64) -> Returns {
    let text = lua.check_bytes(1)?;
    let all = limit == 0 && offset == 0;
    if offset < 0 || limit < 0 {
        let text = format!(
            "Invalid request to unpack with offset of {offset} and limit of {}.",
            text.len()
        );
        return Err(lua.raise(&text));
    }
    if offset > text.len() as i64 {
        let text = format!(
            "Start offset {offset} greater than input length {}.",
            text.len()
        );
        return Err(lua.raise(&text));
    }
    let limit = if all { i64::from(i32::MAX) } else { limit };
    let mut input = Input {
        bytes: &text[offset as usize..],
    };
    let mut count = 0;
    while !input.bytes.is_empty() && i64::from(count) < limit {
        input.push_value(lua, 0).map_err(|failure| match failure {
            Failure::Missing => lua.raise("Missing bytes in input."),
            Failure::BadFormat => lua.raise("Bad data format in input."),
            Failure::Raised(raised) => raised,
        })?;
        count += 1;
    }
    if !all {
        let next = if input.bytes.is_empty() {
            -1.0
        } else {
            (text.len() - input.bytes.len()) as f64
        };
        lua.push_number(next);
        lua.insert(2);
        count += 1;
    }
    Ok(count)
}

fn unpack(lua: Lua) -> Returns {
    unpack_values(lua, 0, 0)
}

fn optional_integer(lua: Lua, argument: c_int) -> Result<i64, Raised> {
    if lua.is_none_or_nil(argument) {
        return Ok(0);
    }
    lua.check_integer(argument)
}

fn unpack_one(lua: Lua) -> Returns {
    let offset = optional_integer(lua, 2)?;
    lua.set_top(1);
    unpack_values(lua, 1, i64::from(offset as i32))
}

fn unpack_limit(lua: Lua) -> Returns {
    let limit = lua.check_integer(2)?;
    let offset = optional_integer(lua, 3)?;
    lua.set_top(1);
    unpack_values(lua, i64::from(limit as i32), i64::from(offset as i32))
}
