//! Inline commands: a line of words, quoted as in redis-cli.

use crate::argv::OwnedArgv;

/// Splits a line into arguments as Redis does: blanks separate; double quotes allow `\n`, `\r`,
/// `\t`, `\b`, `\a`, `\xHH` and a backslash before anything else; single quotes allow `\'`. A
/// closing quote must be followed by a blank or the end. None when quotes are unbalanced.
pub fn split_arguments(line: &[u8]) -> Option<OwnedArgv> {
    let mut argv = OwnedArgv::default();
    let mut rest = line;
    loop {
        let blanks = rest.iter().take_while(|b| is_blank(**b)).count();
        rest = &rest[blanks..];
        if rest.first().is_none_or(|&b| b == 0) {
            return Some(argv);
        }
        let (word, after) = take_word(rest)?;
        argv.push(&word);
        rest = after;
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// A word from the start of `rest`, and what follows it.
fn take_word(mut rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut word = Vec::new();
    loop {
        match rest {
            [] | [b' ' | b'\t' | b'\n' | b'\r' | 0, ..] => return Some((word, rest)),
            [quote @ (b'"' | b'\''), after @ ..] => {
                rest = take_quoted(*quote, after, &mut word)?;
                if rest.first().is_some_and(|&b| !is_blank(b)) {
                    return None;
                }
                return Some((word, rest));
            }
            [byte, after @ ..] => {
                word.push(*byte);
                rest = after;
            }
        }
    }
}

/// Appends a quoted string's content to `word`; returns what follows the closing quote.
fn take_quoted<'a>(quote: u8, mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        rest = match (quote, rest) {
            (_, []) => return None,
            (q, [byte, after @ ..]) if *byte == q => return Some(after),
            (b'"', [b'\\', b'x', high, low, after @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                word.push(hex(*high) << 4 | hex(*low));
                after
            }
            (b'"', [b'\\', byte, after @ ..]) => {
                word.push(match byte {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                after
            }
            (b'\'', [b'\\', b'\'', after @ ..]) => {
                word.push(b'\'');
                after
            }
            (_, [byte, after @ ..]) => {
                word.push(*byte);
                after
            }
        };
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<&[&[u8]]>) {
        let split = split_arguments(line.as_bytes());
        let words = split.as_ref().map(|argv| argv.argv().to_slices());
        assert_eq!(words.as_deref(), expected, "{line:?}");
    }

    #[test]
    fn words_quotes_and_escapes() {
        check("", Some(&[]));
        check("  SET  a\tb ", Some(&[b"SET", b"a", b"b"]));
        check(r#""a b" 'c d' """#, Some(&[b"a b", b"c d", b""]));
        check(r#""\x41\n\"\\\q" '\'\n'"#, Some(&[b"A\n\"\\q", b"'\\n"]));
        check(r#"pre"fix""#, Some(&[b"prefix"]));
        check(r#""open"#, None);
        check(r#""a"b"#, None);
        check("'a", None);
        check(r#""\xzz""#, Some(&[b"xzz"]));
    }
}
