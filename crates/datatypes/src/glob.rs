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
        let Some((after_star, swallowed)) = star else { return false };
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
        b'\\' if p + 1 < pattern.len() => (fold(pattern[p + 1], nocase) == fold(byte, nocase), p + 2),
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
