//! Words of a configuration line: splitting with Redis's quoting rules, and quoting back.
//!
//! A word is either bare, `"..."` with escapes (`\n \r \t \b \a \xHH`, any other escaped byte stands for itself), or
//! `'...'` where only `\'` is an escape. A closing quote must be followed by a blank or the end. Quotes may open in
//! the middle of a bare word, whose text they continue. The same rules serve inline commands.
//! `quote` and `split_args` are inverse: `split_args(quote(x)) == [x]` for any bytes.

/// Splits `line` into words; `None` when a quote is not closed or is followed by something else than a blank.
pub fn split_args(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        while at < line.len() && is_blank(line[at]) {
            at += 1;
        }
        if at == line.len() {
            return Some(words);
        }
        let mut word = Vec::new();
        while let Some(&byte) = line.get(at) {
            match byte {
                b' ' | b'\n' | b'\r' | b'\t' => break,
                b'"' => {
                    at = take_double_quoted(line, at + 1, &mut word)?;
                    break;
                }
                b'\'' => {
                    at = take_single_quoted(line, at + 1, &mut word)?;
                    break;
                }
                _ => {
                    word.push(byte);
                    at += 1;
                }
            }
        }
        words.push(word);
    }
}

/// The blanks of C's `isspace`.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// Reads from behind an opening `"`; returns the position behind the closing one.
fn take_double_quoted(line: &[u8], mut at: usize, word: &mut Vec<u8>) -> Option<usize> {
    loop {
        match *line.get(at)? {
            b'"' => return closed_at(line, at + 1),
            b'\\' if at + 1 < line.len() => {
                if let Some(byte) = hex_escape(&line[at..]) {
                    word.push(byte);
                    at += 4;
                    continue;
                }
                word.push(match line[at + 1] {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => other,
                });
                at += 2;
            }
            byte => {
                word.push(byte);
                at += 1;
            }
        }
    }
}

/// Reads from behind an opening `'`; returns the position behind the closing one.
fn take_single_quoted(line: &[u8], mut at: usize, word: &mut Vec<u8>) -> Option<usize> {
    loop {
        match *line.get(at)? {
            b'\'' => return closed_at(line, at + 1),
            b'\\' if line.get(at + 1) == Some(&b'\'') => {
                word.push(b'\'');
                at += 2;
            }
            byte => {
                word.push(byte);
                at += 1;
            }
        }
    }
}

fn closed_at(line: &[u8], at: usize) -> Option<usize> {
    match line.get(at) {
        Some(&byte) if !is_blank(byte) => None,
        _ => Some(at),
    }
}

/// The byte that `\xHH` at the start of `text` stands for.
fn hex_escape(text: &[u8]) -> Option<u8> {
    let [b'\\', b'x', high, low, ..] = text else {
        return None;
    };
    let high = (*high as char).to_digit(16)?;
    let low = (*low as char).to_digit(16)?;
    Some((high * 16 + low) as u8)
}

/// `text` between double quotes, with everything escaped that is not printable ASCII.
pub fn quote(text: &[u8]) -> Vec<u8> {
    let mut quoted = Vec::with_capacity(text.len() + 2);
    quoted.push(b'"');
    for &byte in text {
        match byte {
            b'\\' | b'"' => quoted.extend([b'\\', byte]),
            b'\n' => quoted.extend(b"\\n"),
            b'\r' => quoted.extend(b"\\r"),
            b'\t' => quoted.extend(b"\\t"),
            0x07 => quoted.extend(b"\\a"),
            0x08 => quoted.extend(b"\\b"),
            0x20..=0x7e => quoted.push(byte),
            _ => quoted.extend(format!("\\x{byte:02x}").into_bytes()),
        }
    }
    quoted.push(b'"');
    quoted
}

/// `line` without blanks, tabs and line ends around it.
pub(crate) fn trim(line: &[u8]) -> &[u8] {
    let is_edge = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    let start = line.iter().position(|b| !is_edge(b)).unwrap_or(line.len());
    let end = line
        .iter()
        .rposition(|b| !is_edge(b))
        .map_or(start, |i| i + 1);
    &line[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(line: &str, expected: Option<&[&str]>) {
        let expected = expected.map(|words| {
            words
                .iter()
                .map(|w| w.as_bytes().to_vec())
                .collect::<Vec<_>>()
        });
        assert_eq!(split_args(line.as_bytes()), expected, "{line:?}");
    }

    #[test]
    fn splits_as_redis_does() {
        check("", Some(&[]));
        check("  a\tb\r\n", Some(&["a", "b"]));
        check(r#"a "b c" 'd e'"#, Some(&["a", "b c", "d e"]));
        check(r#""\x41\n\q\"""#, Some(&["A\nq\""]));
        check(r#""\xzz""#, Some(&["xzz"]));
        check(r"'a\'b\n'", Some(&["a'b\\n"]));
        check(r#"ab"cd" e"#, Some(&["abcd", "e"]));
        check(r#""""#, Some(&[""]));
        check("a\u{b}b", Some(&["a\u{b}b"]));
        check(r#""5"#, None);
        check(r#""5"x"#, None);
        check(r#""5""6""#, None);
        check(r"'a", None);
        check(r#""a\"#, None);
    }

    proptest! {
        #[test]
        fn quoting_is_undone_by_splitting(text: Vec<u8>) {
            prop_assert_eq!(split_args(&quote(&text)), Some(vec![text]));
        }

        #[test]
        fn any_bytes_split_or_are_refused(line: Vec<u8>) {
            let _ = split_args(&line);
        }
    }
}
