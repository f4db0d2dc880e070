//! The effects of a shard's writes, in the order they happened, as RESP commands.
//!
//! Whoever holds the shard's baton appends; the worker that flushes swaps the buffer out and
//! writes it to the shard's AOF segment. An effect is deterministic and about this shard only.
//! Positions are LSNs: bytes of effects appended since the shard came to life.

use crate::types::{DbIndex, Lsn, ShardIndex};

#[derive(Default)]
pub struct Log {
    enabled: bool,
    buf: Vec<u8>,
    /// The database that the commands appended last are about; none at the start of a file.
    selected: Option<DbIndex>,
    appended: u64,
    effects: u64,
    /// The shards that share a transaction with what is in `buf`, this one among them.
    linked: Vec<ShardIndex>,
}

/// A point in the log from which on effects can be made one transaction.
#[derive(Clone, Copy)]
pub struct Mark {
    at: usize,
    effects: u64,
    selected: Option<DbIndex>,
}

/// Effects that were taken out of the log, to be put back later.
pub struct Cut {
    bytes: Vec<u8>,
    effects: u64,
    /// The selected database in front of them and behind them.
    selected: [Option<DbIndex>; 2],
}

impl Log {
    /// Switches the log on or off. Off, effects are dropped; what was appended before stays.
    pub fn set_enabled(&mut self, enabled: bool) {
        self.enabled = enabled;
    }

    #[inline]
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    pub fn is_empty(&self) -> bool {
        self.buf.is_empty()
    }

    /// The position behind the last effect.
    pub fn end(&self) -> Lsn {
        Lsn(self.appended)
    }

    /// Continues the positions of a log that was recovered up to `lsn`.
    pub fn start_at(&mut self, lsn: Lsn) {
        self.appended = lsn.0;
    }

    /// Forgets the selected database, so that the next effect states its own: each file starts so.
    pub fn start_file(&mut self) {
        self.selected = None;
    }

    /// Appends one effect on `db`.
    pub fn append(&mut self, db: DbIndex, argv: &[&[u8]]) {
        self.append_args(db, argv.iter().copied());
    }

    /// As [`Log::append`], of arguments that are not side by side in memory.
    pub fn append_args<'a>(&mut self, db: DbIndex, argv: impl ExactSizeIterator<Item = &'a [u8]>) {
        if !self.enabled {
            return;
        }
        let before = self.buf.len();
        if self.selected != Some(db) {
            self.selected = Some(db);
            self.put_select(db);
        }
        put_command(&mut self.buf, argv);
        self.appended += (self.buf.len() - before) as u64;
        self.effects += 1;
    }

    pub fn mark(&self) -> Mark {
        Mark {
            at: self.buf.len(),
            effects: self.effects,
            selected: self.selected,
        }
    }

    /// Takes out what was appended since the mark, which no swap may have followed.
    pub fn cut(&mut self, mark: Mark) -> Cut {
        let bytes = self.buf.split_off(mark.at);
        self.appended -= bytes.len() as u64;
        let effects = self.effects_since(mark);
        self.effects -= effects;
        let selected = [mark.selected, self.selected];
        self.selected = mark.selected;
        Cut {
            bytes,
            effects,
            selected,
        }
    }

    /// Appends what was cut out, and returns the mark in front of it.
    pub fn put_back(&mut self, cut: Cut) -> Mark {
        let mark = self.mark();
        let [before, behind] = cut.selected;
        if cut.bytes.is_empty() || !self.enabled {
            return mark;
        }
        let len = self.buf.len();
        if let Some(db) = before.filter(|db| self.selected != Some(*db)) {
            self.put_select(db);
        }
        self.buf.extend_from_slice(&cut.bytes);
        self.appended += (self.buf.len() - len) as u64;
        self.effects += cut.effects;
        self.selected = behind;
        mark
    }

    fn put_select(&mut self, db: DbIndex) {
        let mut index = itoa::Buffer::new();
        let select = [b"SELECT".as_slice(), index.format(db.0).as_bytes()];
        put_command(&mut self.buf, select.into_iter());
    }

    /// How many effects were appended since the mark, which no swap may have followed.
    pub fn effects_since(&self, mark: Mark) -> u64 {
        self.effects - mark.effects
    }

    /// Makes the effects since the mark a transaction: MULTI before, EXEC after. `annotation`,
    /// a whole comment line or nothing, goes in front.
    pub fn wrap(&mut self, mark: Mark, annotation: &[u8]) {
        let mut head = annotation.to_vec();
        put_command(&mut head, [b"MULTI".as_slice()].into_iter());
        let before = self.buf.len();
        self.buf.splice(mark.at..mark.at, head);
        put_command(&mut self.buf, [b"EXEC".as_slice()].into_iter());
        self.appended += (self.buf.len() - before) as u64;
    }

    /// Says that a transaction that was just appended has parts in all of these shards: what is
    /// in the buffer is to be written together with theirs.
    pub fn link(&mut self, shards: &[ShardIndex]) {
        for shard in shards {
            if !self.linked.contains(shard) {
                self.linked.push(*shard);
            }
        }
    }

    /// The shards that [`link`](Self::link) named since the last swap.
    pub fn linked(&self) -> &[ShardIndex] {
        &self.linked
    }

    /// Puts a whole comment line in front of what is in the buffer. It counts in the positions like everything else, so
    /// those of effects in the buffer are then behind what was told before, but not behind the buffer's end.
    pub fn annotate(&mut self, line: &[u8]) {
        self.buf.splice(..0, line.iter().copied());
        self.appended += line.len() as u64;
    }

    /// Takes what was appended, leaving `empty` (cleared) to append to, and tells its end.
    pub fn swap(&mut self, empty: &mut Vec<u8>) -> Lsn {
        empty.clear();
        self.linked.clear();
        std::mem::swap(&mut self.buf, empty);
        self.end()
    }
}

fn put_command<'a>(out: &mut Vec<u8>, argv: impl ExactSizeIterator<Item = &'a [u8]>) {
    put_length(out, b'*', argv.len());
    for arg in argv {
        put_length(out, b'$', arg.len());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
}

fn put_length(out: &mut Vec<u8>, kind: u8, length: usize) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_select_their_database_and_can_be_wrapped() {
        let mut log = Log::default();
        log.append(DbIndex(0), &[b"DEL", b"lost"]);
        log.set_enabled(true);
        log.append(DbIndex(0), &[b"DEL", b"a"]);
        let mark = log.mark();
        log.append(DbIndex(0), &[b"DEL", b"b"]);
        log.append(DbIndex(3), &[b"DEL", b""]);
        assert_eq!(log.effects_since(mark), 2);
        log.wrap(mark, b"#note\r\n");
        let mut bytes = Vec::new();
        let end = log.swap(&mut bytes);
        let expected = "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*2\r\n$3\r\nDEL\r\n$1\r\na\r\n#note\r\n*1\r\n$5\r\nMULTI\r\n\
             *2\r\n$3\r\nDEL\r\n$1\r\nb\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n*2\r\n$3\r\nDEL\r\n$0\r\n\r\n*1\r\n$4\r\nEXEC\r\n";
        assert_eq!(String::from_utf8_lossy(&bytes), expected);
        assert_eq!(end, Lsn(expected.len() as u64));
        assert!(log.is_empty());
        let mark = log.mark();
        log.append(DbIndex(3), &[b"DEL", b"cut"]);
        log.append(DbIndex(4), &[b"DEL", b"cut"]);
        let cut = log.cut(mark);
        assert_eq!((log.is_empty(), log.end()), (true, end));
        let before_cut = (log.start_file(), log.put_back(cut)).1;
        assert_eq!(log.effects_since(before_cut), 2);
        log.swap(&mut bytes);
        let expected = "*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n*2\r\n$3\r\nDEL\r\n$3\r\ncut\r\n\
             *2\r\n$6\r\nSELECT\r\n$1\r\n4\r\n*2\r\n$3\r\nDEL\r\n$3\r\ncut\r\n";
        assert_eq!(String::from_utf8_lossy(&bytes), expected);
        log.append(DbIndex(3), &[b"DEL", b"gone"]);
        log.swap(&mut bytes);
        let end = log.end();
        log.append(DbIndex(3), &[b"DEL", b"c"]);
        log.annotate(b"#note\r\n");
        let before = end;
        let end = log.swap(&mut bytes);
        assert_eq!(bytes, b"#note\r\n*2\r\n$3\r\nDEL\r\n$1\r\nc\r\n");
        assert_eq!(end, Lsn(before.0 + bytes.len() as u64));
    }
}
