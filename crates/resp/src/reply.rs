//! Replies, written into an output buffer in the client's protocol version.
//!
//! A method per kind of reply; where RESP2 lacks the kind, the method writes what Redis writes
//! there instead (a map becomes an array of twice the length, a double a bulk string).

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Protocol {
    #[default]
    Resp2,
    Resp3,
}

/// Writes replies to the end of a buffer.
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    protocol: Protocol,
}

impl<'a> Reply<'a> {
    #[inline]
    pub fn new(out: &'a mut Vec<u8>, protocol: Protocol) -> Reply<'a> {
        Reply { out, protocol }
    }

    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    fn is_resp3(&self) -> bool {
        self.protocol == Protocol::Resp3
    }

    #[inline]
    fn header(&mut self, kind: u8, n: i64) {
        self.out.push(kind);
        self.out
            .extend_from_slice(itoa::Buffer::new().format(n).as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    fn line(&mut self, kind: u8, text: &[u8]) {
        self.out.push(kind);
        // A line break inside would end the reply early.
        self.out.extend(
            text.iter()
                .map(|&b| if matches!(b, b'\r' | b'\n') { b' ' } else { b }),
        );
        self.out.extend_from_slice(b"\r\n");
    }

    #[inline]
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// A simple string; line breaks become blanks.
    pub fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    /// As [`Reply::simple`], of bytes.
    pub fn status(&mut self, text: &[u8]) {
        self.line(b'+', text);
    }

    /// An error: its code (`ERR`, `WRONGTYPE`...) and text, without the leading `-`.
    pub fn error(&mut self, text: &[u8]) {
        self.line(b'-', text);
    }

    #[inline]
    pub fn integer(&mut self, n: i64) {
        self.header(b':', n);
    }

    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.out.reserve(bytes.len() + 24);
        self.header(b'$', bytes.len() as i64);
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// A number as a bulk string.
    pub fn bulk_integer(&mut self, n: i64) {
        self.bulk(itoa::Buffer::new().format(n).as_bytes());
    }

    /// The null that stands for a missing string.
    #[inline]
    pub fn null(&mut self) {
        self.out.extend_from_slice(if self.is_resp3() {
            b"_\r\n"
        } else {
            b"$-1\r\n"
        });
    }

    /// The null that stands for a missing array.
    pub fn null_array(&mut self) {
        self.out.extend_from_slice(if self.is_resp3() {
            b"_\r\n"
        } else {
            b"*-1\r\n"
        });
    }

    /// A bulk string, or null.
    pub fn bulk_or_null(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    /// An array's head; `len` replies follow.
    pub fn array(&mut self, len: usize) {
        self.header(b'*', len as i64);
    }

    /// A map's head; `len` pairs of replies follow.
    pub fn map(&mut self, len: usize) {
        if self.is_resp3() {
            self.header(b'%', len as i64);
        } else {
            self.header(b'*', 2 * len as i64);
        }
    }

    /// A set's head; `len` replies follow.
    pub fn set(&mut self, len: usize) {
        self.header(if self.is_resp3() { b'~' } else { b'*' }, len as i64);
    }

    /// The head of an out-of-band message; `len` replies follow.
    pub fn push(&mut self, len: usize) {
        self.header(if self.is_resp3() { b'>' } else { b'*' }, len as i64);
    }

    /// A double, by its text (`datatypes::number::format_f64` or Redis's `inf`, `-inf`, `nan`).
    pub fn double(&mut self, text: &[u8]) {
        if self.is_resp3() {
            self.line(b',', text);
        } else {
            self.bulk(text);
        }
    }

    /// An integer of any size, by its digits; a bulk string in RESP2.
    pub fn big_number(&mut self, digits: &[u8]) {
        if self.is_resp3() {
            self.line(b'(', digits);
        } else {
            let clean: Vec<u8> = digits
                .iter()
                .map(|&b| if matches!(b, b'\r' | b'\n') { b' ' } else { b })
                .collect();
            self.bulk(&clean);
        }
    }

    /// A truth value: `#t` or `#f`, in RESP2 the integers 1 and 0.
    pub fn boolean(&mut self, value: bool) {
        match (self.is_resp3(), value) {
            (true, true) => self.out.extend_from_slice(b"#t\r\n"),
            (true, false) => self.out.extend_from_slice(b"#f\r\n"),
            (false, _) => self.integer(i64::from(value)),
        }
    }

    /// A text with its format (`txt` or `mkd`); a bulk string in RESP2.
    pub fn verbatim(&mut self, format: &str, text: &[u8]) {
        if !self.is_resp3() {
            return self.bulk(text);
        }
        self.header(b'=', text.len() as i64 + 4);
        self.out.extend_from_slice(format.as_bytes());
        self.out.push(b':');
        self.out.extend_from_slice(text);
        self.out.extend_from_slice(b"\r\n");
    }

    /// An array whose length is known only after its elements: `elements` writes them and
    /// returns how many there are.
    pub fn array_deferred(&mut self, elements: impl FnOnce(&mut Reply<'_>) -> usize) {
        let at = self.out.len();
        let count = elements(self);
        self.insert_header(at, b'*', count);
    }

    /// As [`Reply::array_deferred`], for a map; `pairs` writes keys and values and returns how many pairs there are.
    pub fn map_deferred(&mut self, pairs: impl FnOnce(&mut Reply<'_>) -> usize) {
        let at = self.out.len();
        let count = pairs(self);
        match self.protocol {
            Protocol::Resp3 => self.insert_header(at, b'%', count),
            Protocol::Resp2 => self.insert_header(at, b'*', 2 * count),
        }
    }

    /// As [`Reply::array_deferred`], for a set.
    pub fn set_deferred(&mut self, elements: impl FnOnce(&mut Reply<'_>) -> usize) {
        let at = self.out.len();
        let count = elements(self);
        self.insert_header(at, if self.is_resp3() { b'~' } else { b'*' }, count);
    }

    /// Puts an array's head in front of `len` replies that were written from `at` on.
    pub fn insert_array(&mut self, at: usize, len: usize) {
        self.insert_header(at, b'*', len);
    }

    /// As [`Reply::insert_array`], for a map of `len` pairs.
    pub fn insert_map(&mut self, at: usize, len: usize) {
        let (kind, len) = if self.is_resp3() {
            (b'%', len)
        } else {
            (b'*', 2 * len)
        };
        self.insert_header(at, kind, len);
    }

    /// As [`Reply::insert_array`], for a set.
    pub fn insert_set(&mut self, at: usize, len: usize) {
        let kind = if self.is_resp3() { b'~' } else { b'*' };
        self.insert_header(at, kind, len);
    }

    fn insert_header(&mut self, at: usize, kind: u8, count: usize) {
        let head = format!("{}{count}\r\n", kind as char);
        self.out.splice(at..at, head.into_bytes());
    }

    /// How much has been written to the buffer: a point to [`Reply::truncate`] to.
    pub fn position(&self) -> usize {
        self.out.len()
    }

    /// Takes back what was written after `position`.
    pub fn truncate(&mut self, position: usize) {
        self.out.truncate(position);
    }

    /// Appends a reply that was written elsewhere.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(write: impl Fn(&mut Reply<'_>), resp2: &str, resp3: &str) {
        for (protocol, expected) in [(Protocol::Resp2, resp2), (Protocol::Resp3, resp3)] {
            let mut out = Vec::new();
            write(&mut Reply::new(&mut out, protocol));
            assert_eq!(String::from_utf8_lossy(&out), expected);
        }
    }

    #[test]
    fn each_kind_in_both_protocols() {
        check(|r| r.null(), "$-1\r\n", "_\r\n");
        check(|r| r.null_array(), "*-1\r\n", "_\r\n");
        check(|r| r.map(2), "*4\r\n", "%2\r\n");
        check(|r| r.set(2), "*2\r\n", "~2\r\n");
        check(|r| r.push(2), "*2\r\n", ">2\r\n");
        check(|r| r.double(b"1.5"), "$3\r\n1.5\r\n", ",1.5\r\n");
        check(|r| r.boolean(true), ":1\r\n", "#t\r\n");
        check(|r| r.boolean(false), ":0\r\n", "#f\r\n");
        check(
            |r| r.verbatim("txt", b"hi"),
            "$2\r\nhi\r\n",
            "=6\r\ntxt:hi\r\n",
        );
        check(|r| r.error(b"ERR a\r\nb"), "-ERR a  b\r\n", "-ERR a  b\r\n");
        check(|r| r.bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n");
        check(|r| r.integer(-7), ":-7\r\n", ":-7\r\n");
    }

    #[test]
    fn a_deferred_array_gets_its_length_in_front() {
        let elements = |r: &mut Reply<'_>| {
            r.integer(1);
            r.integer(2);
            2
        };
        check(
            |r| r.array_deferred(elements),
            "*2\r\n:1\r\n:2\r\n",
            "*2\r\n:1\r\n:2\r\n",
        );
        check(
            |r| r.map_deferred(|r| elements(r) / 2),
            "*2\r\n:1\r\n:2\r\n",
            "%1\r\n:1\r\n:2\r\n",
        );
        check(
            |r| r.set_deferred(elements),
            "*2\r\n:1\r\n:2\r\n",
            "~2\r\n:1\r\n:2\r\n",
        );
    }
}
