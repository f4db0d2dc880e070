//! The library `cjson`: JSON texts out of Lua's values and back, with the options and errors scripts know from lua-cjson.
//!
//! Options hold until the script ends: a script finds them as it would on any other worker.

use std::ffi::c_int;

use mlua_sys as ffi;

use crate::stack::{format_general, Kind, Lua, Raised, Returns};

/// Whether numbers that JSON has no words for are written, and how.
#[derive(Clone, Copy, PartialEq, Eq)]
enum InvalidNumbers {
    Refuse,
    Write,
    Null,
}

/// Plain data: a copy lives in memory of Lua's for each `cjson.new()`.
#[derive(Clone, Copy)]
pub struct JsonOptions {
    sparse_convert: bool,
    sparse_ratio: i32,
    sparse_safe: i32,
    encode_depth_max: i32,
    decode_depth_max: i32,
    encode_invalid_numbers: InvalidNumbers,
    decode_invalid_numbers: bool,
    keep_buffer: bool,
    precision: i32,
}

impl Default for JsonOptions {
    fn default() -> JsonOptions {
        JsonOptions {
            sparse_convert: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            encode_depth_max: 1000,
            decode_depth_max: 1000,
            encode_invalid_numbers: InvalidNumbers::Refuse,
            decode_invalid_numbers: true,
            keep_buffer: true,
            precision: 14,
        }
    }
}

/// Pushes the library's table. `own`: with options of its own.
fn push_table(lua: Lua, own: bool) {
    lua.new_table(0, 16);
    let functions: [(&str, crate::stack::Binding); 10] = [
        ("encode", encode),
        ("decode", decode),
        ("encode_sparse_array", encode_sparse_array),
        ("encode_max_depth", encode_max_depth),
        ("decode_max_depth", decode_max_depth),
        ("encode_number_precision", encode_number_precision),
        ("encode_keep_buffer", encode_keep_buffer),
        ("encode_invalid_numbers", encode_invalid_numbers),
        ("decode_invalid_numbers", decode_invalid_numbers),
        ("new", new),
    ];
    if own {
        // SAFETY: the memory is large enough, and lives as long as a function has it as an upvalue.
        unsafe {
            let options = ffi::lua_newuserdata(lua.0, size_of::<JsonOptions>());
            options
                .cast::<JsonOptions>()
                .write_unaligned(JsonOptions::default());
        }
    } else {
        lua.push_nil();
    }
    for (name, function) in functions {
        lua.push_copy(-1);
        lua.push_binding_with(function, 1);
        lua.set_field(-3, name);
    }
    lua.pop(1);
    lua.push_null_pointer();
    lua.set_field(-2, "null");
    lua.push_bytes(b"cjson");
    lua.set_field(-2, "_NAME");
    lua.push_bytes(b"2.1.0");
    lua.set_field(-2, "_VERSION");
}

pub fn push_library(lua: Lua) {
    push_table(lua, false);
}

fn new(lua: Lua) -> Returns {
    push_table(lua, true);
    Ok(1)
}

/// The options of the library that the running function belongs to.
fn with_options<R>(lua: Lua, f: impl FnOnce(&mut JsonOptions) -> R) -> R {
    // SAFETY: an upvalue that is userdata was written by `push_table`; Lua aligns it like any type of C. The context
    // outlives the state.
    unsafe {
        let own = ffi::lua_touserdata(lua.0, ffi::lua_upvalueindex(2)).cast::<JsonOptions>();
        match own.is_null() {
            false => f(&mut *own),
            true => f(&mut (*lua.context()).json),
        }
    }
}

/// At most so many arguments; those that are missing are there as nil.
fn arguments(lua: Lua, max: c_int) -> Result<(), Raised> {
    if lua.top() > max {
        return Err(lua.bad_argument(max + 1, "found too many arguments"));
    }
    (lua.top()..max).for_each(|_| lua.push_nil());
    Ok(())
}

fn integer_option(lua: Lua, argument: c_int, min: i64, max: i64) -> Result<Option<i32>, Raised> {
    if lua.is_none_or_nil(argument) {
        return Ok(None);
    }
    let value = lua.check_integer(argument)?;
    if !(min..=max).contains(&value) {
        let text = format!("expected integer between {min} and {max}");
        // Whichever argument it is, lua-cjson names the first.
        return Err(lua.bad_argument(1, &text));
    }
    Ok(Some(value as i32))
}

fn boolean_option(lua: Lua, argument: c_int) -> Result<Option<bool>, Raised> {
    Ok(match lua.kind(argument) {
        Kind::Nil | Kind::None => None,
        Kind::Boolean => Some(lua.boolean(argument)),
        _ => match lua.check_bytes(argument)? {
            b"on" => Some(true),
            b"off" => Some(false),
            other => {
                let text = format!("invalid option '{}'", String::from_utf8_lossy(other));
                return Err(lua.bad_argument(argument, &text));
            }
        },
    })
}

/// Defines the function of an option that is an integer: it sets the option, and returns it.
macro_rules! integer_options {
    ($($name:ident: $field:ident, $max:expr;)*) => {
        $(fn $name(lua: Lua) -> Returns {
            arguments(lua, 1)?;
            let new = integer_option(lua, 1, 1, $max)?;
            let value = with_options(lua, |options| {
                options.$field = new.unwrap_or(options.$field);
                options.$field
            });
            lua.push_number(value.into());
            Ok(1)
        })*
    };
}

integer_options! {
    encode_max_depth: encode_depth_max, i64::from(i32::MAX);
    decode_max_depth: decode_depth_max, i64::from(i32::MAX);
    encode_number_precision: precision, 14;
}

fn encode_sparse_array(lua: Lua) -> Returns {
    arguments(lua, 3)?;
    let convert = boolean_option(lua, 1)?;
    let ratio = integer_option(lua, 2, 0, i64::from(i32::MAX))?;
    let safe = integer_option(lua, 3, 0, i64::from(i32::MAX))?;
    let options = with_options(lua, |options| {
        options.sparse_convert = convert.unwrap_or(options.sparse_convert);
        options.sparse_ratio = ratio.unwrap_or(options.sparse_ratio);
        options.sparse_safe = safe.unwrap_or(options.sparse_safe);
        *options
    });
    lua.push_boolean(options.sparse_convert);
    lua.push_number(options.sparse_ratio.into());
    lua.push_number(options.sparse_safe.into());
    Ok(3)
}

fn encode_keep_buffer(lua: Lua) -> Returns {
    arguments(lua, 1)?;
    let new = boolean_option(lua, 1)?;
    let value = with_options(lua, |options| {
        options.keep_buffer = new.unwrap_or(options.keep_buffer);
        options.keep_buffer
    });
    lua.push_boolean(value);
    Ok(1)
}

fn encode_invalid_numbers(lua: Lua) -> Returns {
    arguments(lua, 1)?;
    let new = if lua.kind(1) == Kind::String && lua.bytes(1) == Some(b"null") {
        Some(InvalidNumbers::Null)
    } else {
        boolean_option(lua, 1)?.map(|on| {
            if on {
                InvalidNumbers::Write
            } else {
                InvalidNumbers::Refuse
            }
        })
    };
    let value = with_options(lua, |options| {
        options.encode_invalid_numbers = new.unwrap_or(options.encode_invalid_numbers);
        options.encode_invalid_numbers
    });
    match value {
        InvalidNumbers::Refuse => lua.push_boolean(false),
        InvalidNumbers::Write => lua.push_boolean(true),
        InvalidNumbers::Null => lua.push_bytes(b"null"),
    }
    Ok(1)
}

fn decode_invalid_numbers(lua: Lua) -> Returns {
    arguments(lua, 1)?;
    let new = boolean_option(lua, 1)?;
    let value = with_options(lua, |options| {
        options.decode_invalid_numbers = new.unwrap_or(options.decode_invalid_numbers);
        options.decode_invalid_numbers
    });
    lua.push_boolean(value);
    Ok(1)
}

fn one_argument(lua: Lua) -> Result<(), Raised> {
    match lua.top() {
        1 => Ok(()),
        _ => Err(lua.bad_argument(1, "expected 1 argument")),
    }
}

fn encode(lua: Lua) -> Returns {
    one_argument(lua)?;
    let options = with_options(lua, |options| *options);
    let mut out = Vec::new();
    append_value(lua, &options, 0, &mut out)?;
    lua.push_bytes(&out);
    Ok(1)
}

/// Refuses the value at `index`, which may be a table's key.
fn cannot(lua: Lua, index: c_int, reason: &str) -> Raised {
    let kind = lua.kind_name(index);
    lua.raise(&format!("Cannot serialise {kind}: {reason}"))
}

/// Appends the value on top, and leaves it there.
fn append_value(
    lua: Lua,
    options: &JsonOptions,
    depth: i32,
    out: &mut Vec<u8>,
) -> Result<(), Raised> {
    match lua.kind(-1) {
        Kind::String => append_string(lua.bytes(-1).unwrap_or_default(), out),
        Kind::Number => append_number(lua, options, lua.number(-1), out)?,
        Kind::Boolean if lua.boolean(-1) => out.extend_from_slice(b"true"),
        Kind::Boolean => out.extend_from_slice(b"false"),
        Kind::Nil => out.extend_from_slice(b"null"),
        Kind::LightUserdata if lua.is_null_pointer(-1) => out.extend_from_slice(b"null"),
        Kind::Table => {
            let depth = depth + 1;
            if depth > options.encode_depth_max || !lua.has_room(6) {
                return Err(lua.raise(&format!("Cannot serialise, excessive nesting ({depth})")));
            }
            match array_len(lua, options)? {
                Some(len @ 1..) => append_array(lua, options, depth, len, out)?,
                _ => append_object(lua, options, depth, out)?,
            }
        }
        _ => return Err(cannot(lua, -1, "type not supported")),
    }
    Ok(())
}

/// The largest index of the table on top, if all keys are positive whole numbers; 0 of an empty table.
fn array_len(lua: Lua, options: &JsonOptions) -> Result<Option<i32>, Raised> {
    let (mut max, mut items) = (0i32, 0i64);
    lua.push_nil();
    while lua.next(-2) {
        let key = if lua.kind(-2) == Kind::Number {
            lua.number(-2)
        } else {
            0.0
        };
        lua.pop(1);
        if key < 1.0 || key.floor() != key || key > f64::from(i32::MAX) {
            lua.pop(1);
            return Ok(None);
        }
        max = max.max(key as i32);
        items += 1;
    }
    let (ratio, safe) = (i64::from(options.sparse_ratio), options.sparse_safe);
    if ratio > 0 && i64::from(max) > items * ratio && max > safe {
        if !options.sparse_convert {
            return Err(cannot(lua, -1, "excessively sparse array"));
        }
        return Ok(None);
    }
    Ok(Some(max))
}

fn append_array(
    lua: Lua,
    options: &JsonOptions,
    depth: i32,
    len: i32,
    out: &mut Vec<u8>,
) -> Result<(), Raised> {
    out.push(b'[');
    for n in 1..=len {
        if n > 1 {
            out.push(b',');
        }
        lua.raw_get_at(-1, n);
        append_value(lua, options, depth, out)?;
        lua.pop(1);
    }
    out.push(b']');
    Ok(())
}

fn append_object(
    lua: Lua,
    options: &JsonOptions,
    depth: i32,
    out: &mut Vec<u8>,
) -> Result<(), Raised> {
    out.push(b'{');
    let mut first = true;
    lua.push_nil();
    while lua.next(-2) {
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        match lua.kind(-2) {
            Kind::Number => {
                out.push(b'"');
                append_number(lua, options, lua.number(-2), out)?;
                out.push(b'"');
            }
            Kind::String => append_string(lua.bytes(-2).unwrap_or_default(), out),
            _ => {
                return Err(cannot(lua, -2, "table key must be a number or string"));
            }
        }
        out.push(b':');
        append_value(lua, options, depth, out)?;
        lua.pop(1);
    }
    out.push(b'}');
    Ok(())
}

fn append_number(lua: Lua, options: &JsonOptions, n: f64, out: &mut Vec<u8>) -> Result<(), Raised> {
    if !n.is_finite() {
        match options.encode_invalid_numbers {
            InvalidNumbers::Refuse => {
                return Err(lua.raise("Cannot serialise number: must not be NaN or Inf"));
            }
            InvalidNumbers::Null => {
                out.extend_from_slice(b"null");
                return Ok(());
            }
            InvalidNumbers::Write if n.is_nan() => {
                out.extend_from_slice(b"nan");
                return Ok(());
            }
            InvalidNumbers::Write => {}
        }
    }
    let precision = options.precision as usize;
    if n == n.trunc()
        && n.abs() < 10f64.powi(options.precision)
        && !(n == 0.0 && n.is_sign_negative())
    {
        datatypes::number::write_i64(out, n as i64);
    } else {
        out.extend_from_slice(format_general(n, precision).as_bytes());
    }
    Ok(())
}

fn append_string(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    for &byte in bytes {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'/' => out.extend_from_slice(b"\\/"),
            8 => out.extend_from_slice(b"\\b"),
            9 => out.extend_from_slice(b"\\t"),
            10 => out.extend_from_slice(b"\\n"),
            12 => out.extend_from_slice(b"\\f"),
            13 => out.extend_from_slice(b"\\r"),
            0..32 | 127 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

fn decode(lua: Lua) -> Returns {
    one_argument(lua)?;
    let text = lua.check_bytes(1)?;
    if text.len() >= 2 && (text[0] == 0 || text[1] == 0) {
        return Err(lua.raise("JSON parser does not support UTF-16 or UTF-32"));
    }
    let mut decoder = Decoder {
        lua,
        text,
        at: 0,
        depth: 0,
        options: with_options(lua, |options| *options),
        buffer: Vec::new(),
    };
    let first = decoder.token();
    decoder.value(first)?;
    match decoder.token() {
        (Token::End, _) => Ok(1),
        (found, at) => Err(decoder.unexpected("the end", found, at)),
    }
}

enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    /// Its bytes are in the decoder's buffer.
    String,
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    Error(&'static str),
}

impl Token {
    /// As errors name it.
    fn name(&self) -> &'static str {
        match self {
            Token::ObjectBegin => "T_OBJ_BEGIN",
            Token::ObjectEnd => "T_OBJ_END",
            Token::ArrayBegin => "T_ARR_BEGIN",
            Token::ArrayEnd => "T_ARR_END",
            Token::String => "T_STRING",
            Token::Number(_) => "T_NUMBER",
            Token::Boolean(_) => "T_BOOLEAN",
            Token::Null => "T_NULL",
            Token::Colon => "T_COLON",
            Token::Comma => "T_COMMA",
            Token::End => "T_END",
            Token::Error(text) => text,
        }
    }
}

struct Decoder<'t> {
    lua: Lua,
    text: &'t [u8],
    at: usize,
    depth: i32,
    options: JsonOptions,
    /// The string of the token read last.
    buffer: Vec<u8>,
}

impl Decoder<'_> {
    fn unexpected(&self, wanted: &str, found: Token, at: usize) -> Raised {
        let found = found.name();
        self.lua.raise(&format!(
            "Expected {wanted} but found {found} at character {}",
            at + 1
        ))
    }

    fn byte(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    /// The next token, and where it begins.
    fn token(&mut self) -> (Token, usize) {
        while matches!(self.byte(0), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        let at = self.at;
        if at >= self.text.len() {
            return (Token::End, at);
        }
        let single = match self.byte(0) {
            b'{' => Some(Token::ObjectBegin),
            b'}' => Some(Token::ObjectEnd),
            b'[' => Some(Token::ArrayBegin),
            b']' => Some(Token::ArrayEnd),
            b':' => Some(Token::Colon),
            b',' => Some(Token::Comma),
            // A zero byte ends the text, as it ends a string of C.
            0 => return (Token::End, at),
            _ => None,
        };
        if let Some(token) = single {
            self.at += 1;
            return (token, at);
        }
        let token = match self.byte(0) {
            b'"' => return self.string(),
            b'-' | b'0'..=b'9' => {
                if !self.options.decode_invalid_numbers && self.is_invalid_number() {
                    Token::Error("invalid number")
                } else {
                    self.number()
                }
            }
            _ => {
                let words = [
                    ("true", Token::Boolean(true)),
                    ("false", Token::Boolean(false)),
                    ("null", Token::Null),
                ];
                let rest = &self.text[at..];
                let word = words
                    .into_iter()
                    .find(|(word, _)| rest.starts_with(word.as_bytes()));
                match word {
                    Some((word, token)) => {
                        self.at += word.len();
                        token
                    }
                    None if self.options.decode_invalid_numbers && self.is_invalid_number() => {
                        self.number()
                    }
                    None => Token::Error("invalid token"),
                }
            }
        };
        (token, at)
    }

    /// Numbers that C reads and JSON does not have.
    fn is_invalid_number(&self) -> bool {
        if self.byte(0) == b'+' {
            return true;
        }
        let skip = usize::from(self.byte(0) == b'-');
        let rest = &self.text[self.at + skip..];
        match rest.first() {
            Some(b'0') => matches!(rest.get(1), Some(b'x' | b'X' | b'0'..=b'9')),
            Some(..=b'9') | None => false,
            _ => {
                let word = rest.get(..3).unwrap_or_default();
                word.eq_ignore_ascii_case(b"inf") || word.eq_ignore_ascii_case(b"nan")
            }
        }
    }

    /// As much of a number as C reads.
    fn number(&mut self) -> Token {
        let rest = &self.text[self.at..];
        let sign = usize::from(matches!(rest.first(), Some(b'-' | b'+')));
        let body = &rest[sign..];
        let negative = rest.first() == Some(&b'-');
        let word = |word: &[u8]| {
            body.get(..word.len())
                .is_some_and(|b| b.eq_ignore_ascii_case(word))
        };
        let (value, len) = if word(b"infinity") {
            (f64::INFINITY, 8)
        } else if word(b"inf") {
            (f64::INFINITY, 3)
        } else if word(b"nan") {
            (f64::NAN, 3)
        } else if word(b"0x")
            && body
                .get(2)
                .is_some_and(|b| b.is_ascii_hexdigit() || *b == b'.')
        {
            hexadecimal(body)
        } else {
            decimal(body)
        };
        if len == 0 {
            return Token::Error("invalid number");
        }
        self.at += sign + len;
        Token::Number(if negative { -value } else { value })
    }

    fn string(&mut self) -> (Token, usize) {
        let begin = self.at;
        self.at += 1;
        self.buffer.clear();
        loop {
            let rest = &self.text[self.at.min(self.text.len())..];
            let plain = rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0));
            let plain = plain.unwrap_or(rest.len());
            self.buffer.extend_from_slice(&rest[..plain]);
            self.at += plain;
            match rest.get(plain) {
                Some(b'"') => {
                    self.at += 1;
                    return (Token::String, begin);
                }
                Some(b'\\') => {
                    let plain = match rest.get(plain + 1) {
                        Some(b'b') => 8,
                        Some(b't') => b'\t',
                        Some(b'n') => b'\n',
                        Some(b'f') => 12,
                        Some(b'r') => b'\r',
                        Some(c @ (b'"' | b'\\' | b'/')) => *c,
                        Some(b'u') => {
                            if !self.unicode_escape() {
                                return (Token::Error("invalid unicode escape code"), self.at);
                            }
                            continue;
                        }
                        _ => return (Token::Error("invalid escape code"), self.at),
                    };
                    self.buffer.push(plain);
                    self.at += 2;
                }
                Some(0) if self.at < self.text.len() => {
                    // Unlike elsewhere a zero byte is part of a string.
                    self.buffer.push(0);
                    self.at += 1;
                }
                _ => return (Token::Error("unexpected end of string"), self.at),
            }
        }
    }

    /// The code unit of a `\uXXXX` so many bytes ahead.
    fn code_unit(&self, ahead: usize) -> Option<u32> {
        let digits = self
            .text
            .get(self.at + ahead..self.at + ahead + 6)?
            .strip_prefix(b"\\u")?;
        digits.iter().try_fold(0, |value, digit| {
            Some(value << 4 | char::from(*digit).to_digit(16)?)
        })
    }

    /// Takes a `\uXXXX`, or two that make a surrogate pair.
    fn unicode_escape(&mut self) -> bool {
        let Some(first) = self.code_unit(0) else {
            return false;
        };
        let (code, len) = match first {
            0xdc00..=0xdfff => return false,
            0xd800..=0xdbff => match self.code_unit(6) {
                Some(second @ 0xdc00..=0xdfff) => {
                    (0x10000 + ((first & 0x3ff) << 10 | second & 0x3ff), 12)
                }
                _ => return false,
            },
            _ => (first, 6),
        };
        let Some(char) = char::from_u32(code) else {
            return false;
        };
        self.buffer
            .extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
        self.at += len;
        true
    }

    /// Pushes the value that begins with this token.
    fn value(&mut self, (token, at): (Token, usize)) -> Result<(), Raised> {
        let lua = self.lua;
        match token {
            Token::String => lua.push_bytes(&self.buffer),
            Token::Number(n) => lua.push_number(n),
            Token::Boolean(value) => lua.push_boolean(value),
            Token::Null => lua.push_null_pointer(),
            Token::ObjectBegin => return self.object(),
            Token::ArrayBegin => return self.array(),
            found => return Err(self.unexpected("value", found, at)),
        }
        Ok(())
    }

    fn descend(&mut self) -> Result<(), Raised> {
        self.depth += 1;
        if self.depth <= self.options.decode_depth_max && self.lua.has_room(6) {
            return Ok(());
        }
        let (depth, at) = (self.depth, self.at);
        Err(self.lua.raise(&format!(
            "Found too many nested data structures ({depth}) at character {at}"
        )))
    }

    fn object(&mut self) -> Result<(), Raised> {
        self.descend()?;
        self.lua.new_table(0, 0);
        let mut next = self.token();
        if matches!(next.0, Token::ObjectEnd) {
            self.depth -= 1;
            return Ok(());
        }
        loop {
            match next {
                (Token::String, _) => self.lua.push_bytes(&self.buffer),
                (found, at) => return Err(self.unexpected("object key string", found, at)),
            }
            match self.token() {
                (Token::Colon, _) => {}
                (found, at) => return Err(self.unexpected("colon", found, at)),
            }
            let value = self.token();
            self.value(value)?;
            self.lua.raw_set(-3);
            match self.token() {
                (Token::ObjectEnd, _) => {
                    self.depth -= 1;
                    return Ok(());
                }
                (Token::Comma, _) => next = self.token(),
                (found, at) => return Err(self.unexpected("comma or object end", found, at)),
            }
        }
    }

    fn array(&mut self) -> Result<(), Raised> {
        self.descend()?;
        self.lua.new_table(0, 0);
        let mut next = self.token();
        if matches!(next.0, Token::ArrayEnd) {
            self.depth -= 1;
            return Ok(());
        }
        for n in 1.. {
            self.value(next)?;
            self.lua.raw_set_at(-2, n);
            match self.token() {
                (Token::ArrayEnd, _) => {
                    self.depth -= 1;
                    return Ok(());
                }
                (Token::Comma, _) => next = self.token(),
                (found, at) => return Err(self.unexpected("comma or array end", found, at)),
            }
        }
        unreachable!("a text has fewer values than there are numbers")
    }
}

/// The decimal number that a text begins with, and its length; 0 if there is none.
fn decimal(text: &[u8]) -> (f64, usize) {
    let digits = |from: usize| {
        text[from..]
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count()
    };
    let whole = digits(0);
    let mut len = whole;
    let mut fraction = 0;
    if text.get(len) == Some(&b'.') {
        fraction = digits(len + 1);
        if whole + fraction > 0 {
            len += 1 + fraction;
        }
    }
    if whole + fraction == 0 {
        return (0.0, 0);
    }
    if matches!(text.get(len), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(len + 1), Some(b'+' | b'-')));
        let exponent = text
            .get(len + 1 + sign..)
            .map_or(0, |_| digits(len + 1 + sign));
        if exponent > 0 {
            len += 1 + sign + exponent;
        }
    }
    let value = std::str::from_utf8(&text[..len])
        .ok()
        .and_then(|text| text.parse().ok());
    (value.unwrap_or(0.0), len)
}

/// As [`decimal`], of a number that begins with `0x`.
fn hexadecimal(text: &[u8]) -> (f64, usize) {
    let (mut value, mut at, mut scale, mut is_fraction) = (0.0, 2, 1.0, false);
    while let Some(&byte) = text.get(at) {
        match char::from(byte).to_digit(16) {
            Some(digit) if is_fraction => {
                scale /= 16.0;
                value += f64::from(digit) * scale;
            }
            Some(digit) => value = value * 16.0 + f64::from(digit),
            None if byte == b'.' && !is_fraction => is_fraction = true,
            None => break,
        }
        at += 1;
    }
    if matches!(text.get(at), Some(b'p' | b'P')) {
        let sign = usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
        let digits: &[u8] = text.get(at + 1 + sign..).unwrap_or_default();
        let len = digits.iter().take_while(|b| b.is_ascii_digit()).count();
        if len > 0 {
            let exponent = digits[..len]
                .iter()
                .fold(0i32, |v, d| (v * 10 + i32::from(d - b'0')).min(1 << 14));
            let exponent = if text.get(at + 1) == Some(&b'-') {
                -exponent
            } else {
                exponent
            };
            value *= 2f64.powi(exponent);
            at += 1 + sign + len;
        }
    }
    (value, at)
}
