//! Glob patterns as KEYS, SCAN MATCH, PSUBSCRIBE and ACLs use them.
//!
//! `?` one byte, `*` any run of bytes, `[abc]`, `[a-z]`, `[^a]` classes, `\x` the byte x itself.
//! Every item but `*` consumes exactly one byte, so on a mismatch only the most recent `*` has to be
//! widened: the time is at most `pattern * text`, never exponential.

/// Whether `text` as a whole matches `pattern`; ASCII case is ignored when `nocase` is set.
pub fn matches(pattern: &[u8], text: &[u8], nocase: bool) -> bool {
    let (mut p, mut t) = (0, 0);
    // Where to resume when the items after the last `*` do not fit: (pattern after it, text it may still swallow).
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            if p == pattern.len() {
                return true;
            }
            star = Some((p, t));
            continue;
        }
        if t == text.len() {
            return p == pattern.len();
        }
        if p < pattern.len() {
            let (fits, next) = match_one(pattern, p, text[t], nocase);
            if fits {
                p = next;
                t += 1;
                continue;
            }
        }
        let Some((after_star, swallowed)) = star else {
            return false;
        };
        star = Some((after_star, swallowed + 1));
        p = after_star;
        t = swallowed + 1;
    }
}

fn fold(byte: u8, nocase: bool) -> u8 {
    if nocase {
        byte.to_ascii_lowercase()
    } else {
        byte
    }
}

/// Whether the item at `p` accepts `byte`, and where the next item starts.
fn match_one(pattern: &[u8], p: usize, byte: u8, nocase: bool) -> (bool, usize) {
    match pattern[p] {
        b'?' => (true, p + 1),
        b'[' => match_class(pattern, p + 1, byte, nocase),
        // A backslash that ends the pattern stands for itself.
        b'\\' if p + 1 < pattern.len() => {
            (fold(pattern[p + 1], nocase) == fold(byte, nocase), p + 2)
        }
        literal => (fold(literal, nocase) == fold(byte, nocase), p + 1),
    }
}

/// `p` is just behind the `[`. A class without `]` extends to the end of the pattern.
fn match_class(pattern: &[u8], mut p: usize, byte: u8, nocase: bool) -> (bool, usize) {
    let negated = pattern.get(p) == Some(&b'^');
    if negated {
        p += 1;
    }
    let byte = fold(byte, nocase);
    let mut found = false;
    while let Some(&c) = pattern.get(p) {
        if c == b'\\' && p + 1 < pattern.len() {
            found |= fold(pattern[p + 1], nocase) == byte;
            p += 2;
        } else if c == b']' {
            return (found != negated, p + 1);
        } else if pattern.get(p + 1) == Some(&b'-') && p + 2 < pattern.len() {
            // Ends are put in order before case is folded, so that [a-Z] without case is empty, as in Redis.
            let (low, high) = (c.min(pattern[p + 2]), c.max(pattern[p + 2]));
            found |= (fold(low, nocase)..=fold(high, nocase)).contains(&byte);
            p += 3;
        } else {
            found |= fold(c, nocase) == byte;
            p += 1;
        }
    }
    (found != negated, p)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, text: &str, expected: bool) {
        assert_eq!(
            matches(pattern.as_bytes(), text.as_bytes(), false),
            expected,
            "{pattern:?} on {text:?}"
        );
    }

    #[test]
    fn plain_patterns() {
        for (pattern, text) in [
            ("", ""),
            ("*", ""),
            ("*", "x"),
            ("a*?", "ab"),
            ("**a", "bba"),
            ("*a*", "bab"),
            ("a?c", "abc"),
            ("h*llo", "heeeello"),
            ("*a*b*c*", "xxaxxbxxcxx"),
            ("a*b", "aXbXb"),
        ] {
            check(pattern, text, true);
        }
        for (pattern, text) in [
            ("", "x"),
            ("a", ""),
            ("?", ""),
            ("a?", "a"),
            ("a*?", "a"),
            ("abc", "abcd"),
            ("abcd", "abc"),
            ("*a", "ab"),
            ("a*b", "aXbX"),
        ] {
            check(pattern, text, false);
        }
    }

    /// Oddities of Redis, taken from KEYS.
    #[test]
    fn classes_and_escapes() {
        for (pattern, text) in [
            ("[^]", "x"),
            ("[a-", "a"),
            ("[a-", "-"),
            ("[a", "a"),
            ("[z-a]", "m"),
            ("\\", "\\"),
            ("a\\", "a\\"),
            ("[\\]]", "]"),
            ("[\\", "\\"),
            ("[a-]]", "]"),
            ("[a-\\]]", "\\]"),
            ("[a-]", "a"),
            ("[^", "x"),
            ("[^a", "b"),
            ("[a-c-e]", "-"),
            ("h[^e]llo", "hallo"),
            ("\\*", "*"),
            ("[\\*]", "*"),
            ("[a-\\z]", "\\"),
        ] {
            check(pattern, text, true);
        }
        for (pattern, text) in [
            ("a[", "a"),
            ("a[", "a["),
            ("[", "x"),
            ("[]", "x"),
            ("[]a]", "a"),
            ("[]a]", "]a]"),
            ("[a-]", "-"),
            ("[a-]]", "b]"),
            ("[^^]", "^"),
            ("[!a]", "b"),
            ("[a-c-e]", "d"),
            ("x[", "x"),
            ("x[^", "x"),
            ("x*[", "x"),
        ] {
            check(pattern, text, false);
        }
    }

    #[test]
    fn case_is_ignored_on_request() {
        assert!(matches(b"MaxM?m[A-Z]*", b"maxmemory", true));
        assert!(!matches(b"MAX", b"max", false));
        assert!(matches(b"\\A", b"a", true));
        // The ends of a range are put in order before case is folded.
        assert!(!matches(b"[a-Z]", b"b", true));
    }

    #[test]
    fn many_stars_take_polynomial_time() {
        let pattern = b"a*".repeat(2_000);
        let mut text = vec![b'a'; 20_000];
        assert!(matches(&pattern, &text, false));
        text.push(b'b');
        let mut longer = pattern;
        longer.extend_from_slice(b"c");
        assert!(!matches(&longer, &text, false));
    }
}
