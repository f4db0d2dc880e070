//! The first line of scripts and libraries: `#!lua name=value ...`.

use crate::{flags, is_function_name};

/// What a script's first line says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScriptHead {
    /// None: a script of old, without a first line of the kind; it may do what it can.
    pub flags: Option<u8>,
    /// Bytes of the first line, which is no Lua.
    pub len: usize,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|b| b.is_ascii_whitespace())
        .filter(|word| !word.is_empty())
}

/// Reads a script's first line. The error is EVAL's reply.
pub fn script_head(body: &[u8]) -> Result<ScriptHead, String> {
    if !body.starts_with(b"#!") {
        return Ok(ScriptHead {
            flags: None,
            len: 0,
        });
    }
    let Some(len) = body.iter().position(|b| *b == b'\n') else {
        return Err("ERR Invalid script shebang".into());
    };
    let mut parts = words(&body[..len]);
    let engine = parts.next().unwrap_or_default();
    if engine != b"#!lua" {
        return Err(format!(
            "ERR Unexpected engine in script shebang: {}",
            text(engine)
        ));
    }
    let mut all = 0;
    for part in parts {
        let Some(list) = part.strip_prefix(b"flags=") else {
            return Err(format!("ERR Unknown lua shebang option: {}", text(part)));
        };
        if list.is_empty() {
            continue;
        }
        for name in list.split(|b| *b == b',') {
            all |= flags::by_name(name)
                .ok_or_else(|| format!("ERR Unexpected flag in script shebang: {}", text(name)))?;
        }
    }
    Ok(ScriptHead {
        flags: Some(all),
        len,
    })
}

/// What a library's first line says.
#[derive(PartialEq, Eq, Debug)]
pub struct LibraryHead {
    pub name: Vec<u8>,
    /// Bytes of the first line.
    pub len: usize,
}

/// Reads a library's first line. The error is FUNCTION LOAD's reply.
pub fn library_head(code: &[u8]) -> Result<LibraryHead, String> {
    if !code.starts_with(b"#!") {
        return Err("ERR Missing library metadata".into());
    }
    let Some(len) = code.iter().position(|b| *b == b'\n') else {
        return Err("ERR Invalid library metadata".into());
    };
    let mut parts = words(&code[..len]);
    let engine = &parts.next().unwrap_or_default()[2..];
    let mut name: Option<&[u8]> = None;
    for part in parts {
        let Some(value) = part
            .get(..5)
            .filter(|p| p.eq_ignore_ascii_case(b"name="))
            .map(|_| &part[5..])
        else {
            return Err(format!("ERR Invalid metadata value given: {}", text(part)));
        };
        if name.replace(value).is_some() {
            return Err(
                "ERR Invalid metadata value, name argument was given multiple times".into(),
            );
        }
    }
    let Some(name) = name else {
        return Err("ERR Library name was not given".into());
    };
    if !is_function_name(name) {
        return Err("ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one character long".into());
    }
    if !engine.eq_ignore_ascii_case(b"lua") {
        return Err(format!("ERR Engine '{}' not found", text(engine)));
    }
    Ok(LibraryHead {
        name: name.to_vec(),
        len,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_says_its_flags() {
        let head = |text: &str| script_head(text.as_bytes());
        assert_eq!(
            head("return 1"),
            Ok(ScriptHead {
                flags: None,
                len: 0
            })
        );
        assert_eq!(
            head("#!lua\nreturn 1"),
            Ok(ScriptHead {
                flags: Some(0),
                len: 5
            })
        );
        let both = flags::NO_WRITES | flags::ALLOW_OOM;
        assert_eq!(
            head("#!lua flags=no-writes,allow-oom\n").map(|head| head.flags),
            Ok(Some(both))
        );
        assert!(head("#!lua").is_err());
        assert!(head("#!lua flags=no-writes,\n").is_err());
        assert!(head("#!luax\n").is_err());
    }

    #[test]
    fn a_library_says_its_name() {
        let head = |text: &str| library_head(text.as_bytes()).map(|head| (head.name, head.len));
        assert_eq!(head("#!LUA name=a_1\nx"), Ok((b"a_1".to_vec(), 14)));
        for wrong in [
            "",
            "x",
            "#!lua name=a",
            "#!lua\n",
            "#!lua name=a-b\n",
            "#!js name=a\n",
            "#!lua name=a name=b\n",
            "#!\n",
        ] {
            assert!(head(wrong).is_err(), "{wrong}");
        }
    }
}
