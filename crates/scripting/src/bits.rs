//! The library `bit`: operations on numbers as 32 bits, whose results are signed.

use crate::stack::{Binding, Lua, Raised, Returns};

pub fn push_library(lua: Lua) {
    let functions: [(&str, Binding); 12] = [
        ("tobit", tobit),
        ("bnot", bnot),
        ("band", band),
        ("bor", bor),
        ("bxor", bxor),
        ("lshift", lshift),
        ("rshift", rshift),
        ("arshift", arshift),
        ("rol", rol),
        ("ror", ror),
        ("bswap", bswap),
        ("tohex", tohex),
    ];
    lua.new_table(0, functions.len() as i32);
    for (name, function) in functions {
        lua.set_binding(name, function);
    }
}

/// The lowest 32 bits of a number, rounded to the nearest integer.
fn bits(lua: Lua, argument: i32) -> Result<u32, Raised> {
    /// Added, it leaves the integer in the lowest bits of the mantissa.
    const SHIFT: f64 = 6_755_399_441_055_744.0;
    Ok((lua.check_number(argument)? + SHIFT).to_bits() as u32)
}

fn reply(lua: Lua, bits: u32) -> Returns {
    lua.push_number(f64::from(bits as i32));
    Ok(1)
}

fn fold(lua: Lua, f: impl Fn(u32, u32) -> u32) -> Returns {
    let mut result = bits(lua, 1)?;
    for argument in 2..=lua.top() {
        result = f(result, bits(lua, argument)?);
    }
    reply(lua, result)
}

fn shift(lua: Lua, f: impl Fn(u32, u32) -> u32) -> Returns {
    let value = bits(lua, 1)?;
    let by = bits(lua, 2)? & 31;
    reply(lua, f(value, by))
}

fn tobit(lua: Lua) -> Returns {
    let value = bits(lua, 1)?;
    reply(lua, value)
}

fn bnot(lua: Lua) -> Returns {
    let value = bits(lua, 1)?;
    reply(lua, !value)
}

fn band(lua: Lua) -> Returns {
    fold(lua, |a, b| a & b)
}

fn bor(lua: Lua) -> Returns {
    fold(lua, |a, b| a | b)
}

fn bxor(lua: Lua) -> Returns {
    fold(lua, |a, b| a ^ b)
}

fn lshift(lua: Lua) -> Returns {
    shift(lua, |value, by| value << by)
}

fn rshift(lua: Lua) -> Returns {
    shift(lua, |value, by| value >> by)
}

fn arshift(lua: Lua) -> Returns {
    shift(lua, |value, by| (value as i32 >> by) as u32)
}

fn rol(lua: Lua) -> Returns {
    shift(lua, u32::rotate_left)
}

fn ror(lua: Lua) -> Returns {
    shift(lua, u32::rotate_right)
}

fn bswap(lua: Lua) -> Returns {
    let value = bits(lua, 1)?;
    reply(lua, value.swap_bytes())
}

/// At most eight digits; a negative count asks for uppercase ones.
fn tohex(lua: Lua) -> Returns {
    let value = bits(lua, 1)?;
    let count = if lua.is_none_or_nil(2) && lua.top() < 2 {
        8
    } else {
        bits(lua, 2)? as i32
    };
    let text = if count < 0 {
        format!("{value:08X}")
    } else {
        format!("{value:08x}")
    };
    let len = count.unsigned_abs().min(8) as usize;
    lua.push_bytes(&text.as_bytes()[8 - len..]);
    Ok(1)
}
