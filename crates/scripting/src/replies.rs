//! Replies of commands as values of Lua, and values of Lua as replies.

use std::ffi::c_int;

use datatypes::number::f64_to_vec;
use resp::{Protocol, Reply};

use crate::api::push_counted_error;
use crate::stack::{to_integer, Kind, Lua};

/// Slots of Lua's stack that a level of a value needs at most.
const SLOTS: c_int = 4;

/// Pushes a command's reply, which is whole. True when it is an error.
pub fn push_reply(lua: Lua, reply: &[u8]) -> bool {
    let mut at = 0;
    push_next(lua, reply, &mut at);
    reply.first() == Some(&b'-')
}

fn line<'a>(reply: &'a [u8], at: &mut usize) -> &'a [u8] {
    let rest = &reply[*at..];
    let len = rest
        .iter()
        .position(|&byte| byte == b'\r')
        .expect("replies of ours are whole");
    *at += len + 2;
    &rest[..len]
}

fn count(text: &[u8]) -> i64 {
    datatypes::number::parse_i64(text).expect("lengths of ours are numbers")
}

fn text(line: &[u8]) -> f64 {
    match line {
        b"inf" => f64::INFINITY,
        b"-inf" => f64::NEG_INFINITY,
        _ => std::str::from_utf8(line)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(f64::NAN),
    }
}

fn push_next(lua: Lua, reply: &[u8], at: &mut usize) {
    let kind = reply[*at];
    *at += 1;
    let head = line(reply, at);
    if !lua.has_room(SLOTS) {
        // Replies of commands are a few levels deep; only a script that filled the stack itself gets here.
        return lua.push_nil();
    }
    match kind {
        b':' => lua.push_number(count(head) as f64),
        b'$' | b'=' => {
            let Ok(len) = usize::try_from(count(head)) else {
                return lua.push_boolean(false);
            };
            let body = &reply[*at..*at + len];
            *at += len + 2;
            if kind == b'$' {
                return lua.push_bytes(body);
            }
            lua.new_table(0, 1);
            lua.new_table(0, 2);
            lua.push_bytes(&body[4..]);
            lua.set_field(-2, "string");
            lua.push_bytes(&body[..3]);
            lua.set_field(-2, "format");
            lua.set_field(-2, "verbatim_string");
        }
        b'+' => {
            lua.new_table(0, 1);
            lua.push_bytes(head);
            lua.set_field(-2, "ok");
        }
        b'-' => push_counted_error(lua, head),
        b'*' | b'>' => match c_int::try_from(count(head)) {
            Ok(len @ 0..) => {
                lua.new_table(len, 0);
                for n in 1..=len {
                    push_next(lua, reply, at);
                    lua.raw_set_at(-2, n);
                }
            }
            _ => lua.push_boolean(false),
        },
        b'%' => {
            let len = count(head) as c_int;
            lua.new_table(0, 1);
            lua.new_table(0, len);
            for _ in 0..len {
                push_next(lua, reply, at);
                push_next(lua, reply, at);
                lua.raw_set(-3);
            }
            lua.set_field(-2, "map");
        }
        b'~' => {
            let len = count(head) as c_int;
            lua.new_table(0, 1);
            lua.new_table(0, len);
            for _ in 0..len {
                push_next(lua, reply, at);
                lua.push_boolean(true);
                lua.raw_set(-3);
            }
            lua.set_field(-2, "set");
        }
        b'_' => lua.push_nil(),
        b'#' => lua.push_boolean(head == b"t"),
        b',' => {
            lua.new_table(0, 1);
            lua.push_number(text(head));
            lua.set_field(-2, "double");
        }
        b'(' => {
            lua.new_table(0, 1);
            lua.push_bytes(head);
            lua.set_field(-2, "big_number");
        }
        other => unreachable!("no reply of ours begins with {other}"),
    }
}

/// Writes a script's result, the value on top, and pops it. `script` is the protocol that the script chose.
pub fn write_value(lua: Lua, reply: &mut Reply<'_>, script: Protocol) {
    if !lua.has_room(SLOTS) {
        reply.error(b"ERR reached lua stack limit");
        lua.pop(1);
        return;
    }
    match lua.kind(-1) {
        Kind::String => reply.bulk(lua.bytes(-1).unwrap_or_default()),
        Kind::Boolean => {
            let value = lua.boolean(-1);
            match (script, value) {
                (Protocol::Resp3, value) => reply.boolean(value),
                (Protocol::Resp2, true) => reply.integer(1),
                (Protocol::Resp2, false) => reply.null(),
            }
        }
        Kind::Number => reply.integer(to_integer(lua.number(-1))),
        Kind::Table => return write_table(lua, reply, script),
        _ => reply.null(),
    }
    lua.pop(1);
}

/// A field of the table on top that is a string, left on the stack.
fn string_field(lua: Lua, name: &str) -> bool {
    lua.push_field(-1, name);
    let found = matches!(lua.kind(-1), Kind::String);
    if !found {
        lua.pop(1);
    }
    found
}

fn table_field(lua: Lua, name: &str) -> bool {
    lua.push_field(-1, name);
    let found = lua.kind(-1) == Kind::Table;
    if !found {
        lua.pop(1);
    }
    found
}

fn write_table(lua: Lua, reply: &mut Reply<'_>, script: Protocol) {
    if string_field(lua, "err") {
        reply.error(lua.bytes(-1).unwrap_or_default());
        return lua.pop(2);
    }
    if string_field(lua, "ok") {
        let text = String::from_utf8_lossy(lua.bytes(-1).unwrap_or_default()).into_owned();
        reply.status(lua.bytes(-1).unwrap_or(text.as_bytes()));
        return lua.pop(2);
    }
    lua.push_field(-1, "double");
    if lua.kind(-1) == Kind::Number {
        reply.double(&double_text(lua.number(-1)));
        return lua.pop(2);
    }
    lua.pop(1);
    if string_field(lua, "big_number") {
        reply.big_number(lua.bytes(-1).unwrap_or_default());
        return lua.pop(2);
    }
    if table_field(lua, "verbatim_string") {
        if string_field(lua, "string") {
            lua.push_field(-2, "format");
            if lua.kind(-1) == Kind::String {
                let format =
                    String::from_utf8_lossy(lua.bytes(-1).unwrap_or_default()).into_owned();
                reply.verbatim(&padded_format(&format), lua.bytes(-2).unwrap_or_default());
                return lua.pop(4);
            }
            lua.pop(2);
        }
        lua.pop(1);
    }
    if table_field(lua, "map") {
        write_pairs(lua, reply, script, true);
        return lua.pop(2);
    }
    if table_field(lua, "set") {
        write_pairs(lua, reply, script, false);
        return lua.pop(2);
    }
    let at = reply.position();
    let mut len = 0;
    loop {
        len += 1;
        lua.raw_get_at(-1, len);
        if lua.kind(-1) == Kind::Nil {
            lua.pop(1);
            break;
        }
        write_value(lua, reply, script);
    }
    reply.insert_array(at, (len - 1) as usize);
    lua.pop(1);
}

/// A verbatim string's format has three bytes.
fn padded_format(format: &str) -> String {
    let mut bytes = format.as_bytes().to_vec();
    bytes.resize(3, b' ');
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The pairs of the table on top, or its keys alone.
fn write_pairs(lua: Lua, reply: &mut Reply<'_>, script: Protocol, values: bool) {
    let at = reply.position();
    let mut len = 0;
    lua.push_nil();
    while lua.next(-2) {
        if values {
            lua.push_copy(-2);
            write_value(lua, reply, script);
            write_value(lua, reply, script);
        } else {
            lua.pop(1);
            lua.push_copy(-1);
            write_value(lua, reply, script);
        }
        len += 1;
    }
    if values {
        reply.insert_map(at, len);
    } else {
        reply.insert_set(at, len);
    }
}

fn double_text(n: f64) -> Vec<u8> {
    if n.is_nan() {
        b"nan".to_vec()
    } else {
        f64_to_vec(n)
    }
}
