//! Glob patterns as CONFIG GET and `include` use them: `* ? [abc] [^a] [a-z] \x`.
//!
//! Matching never takes more than pattern length times text length steps: on a mismatch only the last `*` is
//! retried, which is enough because an earlier `*` can always give up what a later one takes.

/// Whether `text` matches `pattern`; letters match in either case when `ignore_case`.
pub(crate) fn matches(pattern: &[u8], text: &[u8], ignore_case: bool) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            retry = Some((p, t));
            continue;
        }
        match match_one(&pattern[p..], text[t], ignore_case) {
            Some(used) => {
                p += used;
                t += 1;
            }
            None => {
                let Some((after_star, from)) = retry else {
                    return false;
                };
                p = after_star;
                t = from + 1;
                retry = Some((after_star, t));
            }
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// How many pattern bytes the element that matches `byte` takes, `None` if it does not match.
fn match_one(pattern: &[u8], byte: u8, ignore_case: bool) -> Option<usize> {
    let fold = |b: u8| {
        if ignore_case {
            b.to_ascii_lowercase()
        } else {
            b
        }
    };
    match *pattern.first()? {
        b'?' => Some(1),
        b'[' => match_class(pattern, fold(byte), fold),
        b'\\' if pattern.len() > 1 => (fold(pattern[1]) == fold(byte)).then_some(2),
        plain => (fold(plain) == fold(byte)).then_some(1),
    }
}

/// A class ends at `]` or, when there is none, at the end of the pattern.
fn match_class(pattern: &[u8], byte: u8, fold: impl Fn(u8) -> u8) -> Option<usize> {
    let mut at = 1;
    let negated = pattern.get(at) == Some(&b'^');
    at += usize::from(negated);
    let mut found = false;
    while let Some(&c) = pattern.get(at) {
        match (c, pattern.get(at + 1), pattern.get(at + 2)) {
            (b']', _, _) => break,
            (b'\\', Some(&escaped), _) => {
                found |= fold(escaped) == byte;
                at += 2;
            }
            (first, Some(b'-'), Some(&last)) => {
                let (first, last) = (fold(first), fold(last));
                found |= (first.min(last)..=first.max(last)).contains(&byte);
                at += 3;
            }
            (plain, _, _) => {
                found |= fold(plain) == byte;
                at += 1;
            }
        }
    }
    (found != negated).then_some((at + 1).min(pattern.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, text: &str, expected: bool) {
        assert_eq!(
            matches(pattern.as_bytes(), text.as_bytes(), true),
            expected,
            "{pattern} {text}"
        );
    }

    #[test]
    fn patterns() {
        check("*", "", true);
        check("", "", true);
        check("", "a", false);
        check("hash-*-entries", "hash-max-listpack-entries", true);
        check("HASH*", "hash-max", true);
        check("[st]ave", "save", true);
        check("[^s]ave", "save", false);
        check("[a-c]x", "bx", true);
        check("a?c", "abc", true);
        check(r"a\*c", "abc", false);
        check(r"a\*c", "a*c", true);
        check("[abc", "b", true);
        check("*a*b*c", "xxaxxbxxc", true);
        check("*a*b*c", "xxaxxcxxb", false);
        check(&"*a".repeat(50), &"a".repeat(40), false);
    }
}
