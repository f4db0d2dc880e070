//! JSON, written. Bytes that are no UTF-8 appear as `\u00XX`, each byte by itself, so that nothing is lost.

use std::fmt::Write;

/// A value to be written.
#[derive(Clone, Debug)]
pub enum Json {
    Null,
    Bool(bool),
    Number(i128),
    Text(String),
    List(Vec<Json>),
    /// In the order given.
    Object(Vec<(&'static str, Json)>),
    /// Names that are found in data.
    Map(Vec<(String, Json)>),
}

/// Bytes as text: UTF-8 as it is, and otherwise a character per byte (Latin-1).
pub fn text(bytes: &[u8]) -> Json {
    Json::Text(match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|&b| char::from(b)).collect(),
    })
}

pub fn number(n: impl Into<i128>) -> Json {
    Json::Number(n.into())
}

impl From<bool> for Json {
    fn from(value: bool) -> Json {
        Json::Bool(value)
    }
}

impl From<String> for Json {
    fn from(value: String) -> Json {
        Json::Text(value)
    }
}

impl From<&str> for Json {
    fn from(value: &str) -> Json {
        Json::Text(value.to_owned())
    }
}

impl<T: Into<Json>> From<Option<T>> for Json {
    fn from(value: Option<T>) -> Json {
        value.map_or(Json::Null, Into::into)
    }
}

impl std::fmt::Display for Json {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write(f, self, 0)
    }
}

fn write(f: &mut std::fmt::Formatter<'_>, json: &Json, depth: usize) -> std::fmt::Result {
    match json {
        Json::Null => f.write_str("null"),
        Json::Bool(value) => write!(f, "{value}"),
        Json::Number(value) => write!(f, "{value}"),
        Json::Text(value) => quoted(f, value),
        Json::List(items) => {
            let items = items.iter().map(|item| (None, item));
            nested(f, depth, ['[', ']'], items)
        }
        Json::Object(pairs) => {
            let pairs = pairs.iter().map(|(name, value)| (Some(*name), value));
            nested(f, depth, ['{', '}'], pairs)
        }
        Json::Map(pairs) => {
            let pairs = pairs
                .iter()
                .map(|(name, value)| (Some(name.as_str()), value));
            nested(f, depth, ['{', '}'], pairs)
        }
    }
}

fn nested<'a>(
    f: &mut std::fmt::Formatter<'_>,
    depth: usize,
    brackets: [char; 2],
    items: impl ExactSizeIterator<Item = (Option<&'a str>, &'a Json)>,
) -> std::fmt::Result {
    let indent = |f: &mut std::fmt::Formatter<'_>, depth| write!(f, "\n{:1$}", "", depth * 2);
    f.write_char(brackets[0])?;
    let empty = items.len() == 0;
    for (i, (name, value)) in items.enumerate() {
        if i > 0 {
            f.write_char(',')?;
        }
        indent(f, depth + 1)?;
        if let Some(name) = name {
            quoted(f, name)?;
            f.write_str(": ")?;
        }
        write(f, value, depth + 1)?;
    }
    if !empty {
        indent(f, depth)?;
    }
    f.write_char(brackets[1])
}

fn quoted(f: &mut std::fmt::Formatter<'_>, text: &str) -> std::fmt::Result {
    f.write_char('"')?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            c if c < ' ' || ('\x7f'..='\u{9f}').contains(&c) => write!(f, "\\u{:04x}", c as u32)?,
            c => f.write_char(c)?,
        }
    }
    f.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written() {
        let json = Json::Object(vec![
            ("a", Json::List(vec![number(1), Json::Null, true.into()])),
            ("empty", Json::List(vec![])),
            ("t\"", text(b"x\n\x01\\")),
            ("latin", text(b"\xff\x80")),
        ]);
        let expected = "{\n  \"a\": [\n    1,\n    null,\n    true\n  ],\n  \"empty\": [],\n  \"t\\\"\": \"x\\n\\u0001\\\\\",\n  \"latin\": \"\u{ff}\\u0080\"\n}";
        assert_eq!(json.to_string(), expected);
    }
}
