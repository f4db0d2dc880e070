//! The library `struct`: bytes laid out by a format, as in C.
//!
//! Formats: `>` and `<` choose the order of bytes, `!n` the alignment; `b B h H l L T i I` are integers (`in` of n bytes,
//! capitals without sign), `f d` floats, `s` a string that a zero byte ends, `cn` n bytes (`c0`: as many as there are, or as
//! the number before says), `x` a zero byte; blanks mean nothing.

use std::ffi::c_int;

use crate::stack::{to_integer, Binding, Lua, Raised, Returns};

/// Bytes of the largest integer.
const INTEGER_BYTES_MAX: usize = 32;
const NATIVE_ALIGNMENT: usize = 8;

pub fn push_library(lua: Lua) {
    let functions: [(&str, Binding); 3] = [("pack", pack), ("unpack", unpack), ("size", size)];
    lua.new_table(0, 3);
    for (name, function) in functions {
        lua.set_binding(name, function);
    }
}

/// A format that is being walked.
struct Format<'f> {
    rest: &'f [u8],
    big_endian: bool,
    alignment: usize,
}

impl<'f> Format<'f> {
    fn new(text: &'f [u8]) -> Format<'f> {
        // A zero byte ends the format, as it ends a string of C.
        let end = text.iter().position(|b| *b == 0).unwrap_or(text.len());
        Format {
            rest: &text[..end],
            big_endian: cfg!(target_endian = "big"),
            alignment: 1,
        }
    }

    fn number(&mut self, lua: Lua, default: usize) -> Result<usize, Raised> {
        if !self.rest.first().is_some_and(u8::is_ascii_digit) {
            return Ok(default);
        }
        let mut value = 0usize;
        while let Some(digit) = self.rest.first().filter(|b| b.is_ascii_digit()) {
            value = value * 10 + usize::from(digit - b'0');
            if value > i32::MAX as usize / 2 {
                return Err(lua.raise("integral size overflow"));
            }
            self.rest = &self.rest[1..];
        }
        Ok(value)
    }

    /// The next option, and the bytes it takes.
    fn next(&mut self, lua: Lua) -> Result<Option<(u8, usize)>, Raised> {
        let Some((&option, rest)) = self.rest.split_first() else {
            return Ok(None);
        };
        self.rest = rest;
        let len = match option {
            b'B' | b'b' | b'x' => 1,
            b'H' | b'h' => 2,
            b'L' | b'l' | b'T' | b'd' => 8,
            b'f' => 4,
            b'c' => self.number(lua, 1)?,
            b'i' | b'I' => {
                let len = self.number(lua, 4)?;
                if len > INTEGER_BYTES_MAX {
                    let text =
                        format!("integral size {len} is larger than limit of {INTEGER_BYTES_MAX}");
                    return Err(lua.raise(&text));
                }
                len
            }
            _ => 0,
        };
        Ok(Some((option, len)))
    }

    /// Bytes to skip so that an option stands aligned.
    fn padding(&self, option: u8, len: usize, at: usize) -> usize {
        if len == 0 || option == b'c' {
            return 0;
        }
        let align = len.min(self.alignment);
        if align <= 1 {
            return 0;
        }
        (align - (at & (align - 1))) & (align - 1)
    }

    /// What options do that are no data.
    fn control(&mut self, lua: Lua, option: u8) -> Result<(), Raised> {
        match option {
            b' ' => {}
            b'>' => self.big_endian = true,
            b'<' => self.big_endian = false,
            b'!' => {
                let alignment = self.number(lua, NATIVE_ALIGNMENT)?;
                if alignment == 0 || !alignment.is_power_of_two() {
                    let text = format!("alignment {alignment} is not a power of 2");
                    return Err(lua.raise(&text));
                }
                self.alignment = alignment;
            }
            other => {
                let text = format!("invalid format option '{}'", char::from(other));
                return Err(lua.bad_argument(1, &text));
            }
        }
        Ok(())
    }
}

fn put_integer(out: &mut Vec<u8>, n: f64, len: usize, big_endian: bool) {
    const SIGNED_LIMIT: f64 = 9_223_372_036_854_775_808.0;
    let value = if n < 0.0 {
        to_integer(n) as u64
    } else if n < SIGNED_LIMIT {
        n as u64
    } else if n < 2.0 * SIGNED_LIMIT {
        (n - SIGNED_LIMIT) as u64 | 1 << 63
    } else {
        0
    };
    let at = out.len();
    // Beyond eight bytes there is nothing left of the number.
    out.extend((0..len).map(|n| if n < 8 { (value >> (8 * n)) as u8 } else { 0 }));
    if big_endian {
        out[at..].reverse();
    }
}

fn pack(lua: Lua) -> Returns {
    let text = lua.check_bytes(1)?;
    let mut format = Format::new(text);
    let mut out: Vec<u8> = Vec::new();
    let mut argument: c_int = 1;
    // As an argument that is missing is refused.
    lua.push_nil();
    while let Some((option, len)) = format.next(lua)? {
        let padding = format.padding(option, len, out.len());
        out.resize(out.len() + padding, 0);
        match option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                argument += 1;
                put_integer(
                    &mut out,
                    lua.check_number(argument)?,
                    len,
                    format.big_endian,
                );
            }
            b'x' => out.push(0),
            b'f' => {
                argument += 1;
                let n = lua.check_number(argument)? as f32;
                out.extend(if format.big_endian {
                    n.to_be_bytes()
                } else {
                    n.to_le_bytes()
                });
            }
            b'd' => {
                argument += 1;
                let n = lua.check_number(argument)?;
                out.extend(if format.big_endian {
                    n.to_be_bytes()
                } else {
                    n.to_le_bytes()
                });
            }
            b'c' | b's' => {
                argument += 1;
                let bytes = lua.check_bytes(argument)?;
                let len = if len == 0 { bytes.len() } else { len };
                if bytes.len() < len {
                    // struct counts one too far here.
                    return Err(lua.bad_argument(argument + 1, "string too short"));
                }
                out.extend_from_slice(&bytes[..len]);
                if option == b's' {
                    out.push(0);
                }
            }
            _ => format.control(lua, option)?,
        }
    }
    lua.push_bytes(&out);
    Ok(1)
}

fn integer(bytes: &[u8], signed: bool, big_endian: bool) -> f64 {
    let fold = |value: u64, byte: &u8| value << 8 | u64::from(*byte);
    let value = if big_endian {
        bytes.iter().fold(0, fold)
    } else {
        bytes.iter().rev().fold(0, fold)
    };
    if !signed {
        return value as f64;
    }
    match bytes.len() {
        0 => 0.0,
        len @ 1..8 => {
            let unused = 64 - 8 * len as u32;
            ((value << unused) as i64 >> unused) as f64
        }
        _ => value as i64 as f64,
    }
}

fn unpack(lua: Lua) -> Returns {
    let text = lua.check_bytes(1)?;
    let data = lua.check_bytes(2)?;
    let position = if lua.is_none_or_nil(3) {
        1
    } else {
        lua.check_integer(3)?
    };
    if position == 0 {
        return Err(lua.bad_argument(3, "offset must be 1 or greater"));
    }
    // A negative one is far behind the data.
    let mut at = usize::try_from(position - 1).unwrap_or(usize::MAX);
    let mut format = Format::new(text);
    let mut count: c_int = 0;
    // The number read last, which is still on top.
    while let Some((option, len)) = format.next(lua)? {
        at = at.saturating_add(format.padding(option, len, at));
        if len > data.len() || at > data.len() - len {
            return Err(lua.bad_argument(2, "data string too short"));
        }
        if !lua.has_room(2) {
            return Err(lua.raise("stack overflow (too many results)"));
        }
        let bytes = &data[at..at + len];
        let mut taken = len;
        match option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let signed = option.is_ascii_lowercase();
                lua.push_number(integer(bytes, signed, format.big_endian));
                count += 1;
            }
            b'x' => {}
            b'f' => {
                let bytes = bytes.try_into().expect("an f is four bytes");
                let n = if format.big_endian {
                    f32::from_be_bytes(bytes)
                } else {
                    f32::from_le_bytes(bytes)
                };
                lua.push_number(n.into());
                count += 1;
            }
            b'd' => {
                let bytes = bytes.try_into().expect("a d is eight bytes");
                let n = if format.big_endian {
                    f64::from_be_bytes(bytes)
                } else {
                    f64::from_le_bytes(bytes)
                };
                lua.push_number(n);
                count += 1;
            }
            b'c' => {
                if len == 0 {
                    if count == 0 || !lua.is_number(-1) {
                        return Err(lua.raise("format 'c0' needs a previous size"));
                    }
                    let len = lua.number(-1);
                    taken = if len >= 0.0 { len as usize } else { usize::MAX };
                    lua.pop(1);
                    count -= 1;
                    if taken > data.len() - at {
                        return Err(lua.bad_argument(2, "data string too short"));
                    }
                }
                lua.push_bytes(&data[at..at + taken]);
                count += 1;
            }
            b's' => {
                let Some(len) = data[at..].iter().position(|b| *b == 0) else {
                    return Err(lua.raise("unfinished string in data"));
                };
                lua.push_bytes(&data[at..at + len]);
                count += 1;
                taken = len + 1;
            }
            _ => format.control(lua, option)?,
        }
        at += taken;
    }
    lua.push_number((at + 1) as f64);
    Ok(count + 1)
}

fn size(lua: Lua) -> Returns {
    let text = lua.check_bytes(1)?;
    let mut format = Format::new(text);
    let mut at = 0;
    while let Some((option, len)) = format.next(lua)? {
        at += format.padding(option, len, at);
        match option {
            b's' => return Err(lua.bad_argument(1, "option 's' has no fixed size")),
            b'c' if len == 0 => return Err(lua.bad_argument(1, "option 'c0' has no fixed size")),
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' | b'x' | b'f' | b'd'
            | b'c' => {}
            // What else is a letter is passed over here.
            _ if option.is_ascii_alphanumeric() => {}
            _ => format.control(lua, option)?,
        }
        at += len;
    }
    lua.push_number(at as f64);
    Ok(1)
}
