//! LCS: the longest common subsequence of two strings.
//!
//! The classic table: cell (i, j) is the length for the first i bytes of one string and the
//! first j of the other; walking back from the last cell finds a subsequence. Where two ways
//! back are equally long the one that drops a byte of the second string is taken, as Redis does,
//! so that the same subsequence is found.

use keyspace::{EntryRef, Key, ValueRef};

use crate::args;
use crate::command::{Command, Flags, Group, Run};
use crate::context::Ctx;
use crate::errors::{
    CommandError, CommandResult, LCS_LENGTH_AND_INDEXES, LCS_NOT_STRINGS, LCS_TOO_LARGE, SYNTAX,
};
use crate::key_spec::{Begin, Find, KeySpec};

pub const COMMANDS: &[Command] = &[Command {
    name: "lcs",
    summary: "Finds the longest common subsequence of two strings.",
    since: "7.0.0",
    group: Group::String,
    complexity: "O(N*M) with the lengths N and M of the strings",
    arity: -3,
    flags: Flags::READONLY,
    keys: &[KeySpec {
        flags: &["RO", "access"],
        begin: Begin::Index(1),
        find: Find::Range {
            last: 1,
            step: 1,
            limit: 0,
        },
        notes: "",
    }],
    syntax: "key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN]",
    run: Run::Keys(lcs),
    ..Command::DEFAULT
}];

#[derive(Default)]
struct Options {
    length: bool,
    indexes: bool,
    with_match_length: bool,
    match_length_min: usize,
}

fn lcs(c: &mut Ctx<'_, '_>) -> CommandResult {
    let keys = [c.key(1), c.key(2)];
    // Both are looked up before either is judged.
    let is_other = keys.map(|key| {
        let value = c.keys.read(key).map(EntryRef::value);
        matches!(value, Some(ValueRef::Object(_)))
    });
    if is_other.contains(&true) {
        return Err(LCS_NOT_STRINGS);
    }
    let options = options(c)?;
    let mut digits = [itoa::Buffer::new(), itoa::Buffer::new()];
    let [a_digits, b_digits] = &mut digits;
    let peek = |key: Key<'_>| c.keys.peek(key).map(EntryRef::value);
    let a = text(peek(keys[0]), a_digits);
    let b = text(peek(keys[1]), b_digits);
    let cells = (a.len() as u64 + 1).saturating_mul(b.len() as u64 + 1);
    if cells.saturating_mul(4) > c.string_bytes_max {
        return Err(LCS_TOO_LARGE);
    }
    let table = Table::new(a, b);
    if options.length {
        c.reply.integer(table.length().into());
        return Ok(());
    }
    let matches = table.matches(a, b);
    if !options.indexes {
        let runs = matches.iter().rev();
        let found: Vec<u8> = runs.flat_map(|m| &a[m.a..m.a + m.len]).copied().collect();
        c.reply.bulk(&found);
        return Ok(());
    }
    let long: Vec<&Match> = matches
        .iter()
        .filter(|m| m.len >= options.match_length_min)
        .collect();
    c.reply.map(2);
    c.reply.bulk(b"matches");
    c.reply.array(long.len());
    for m in long {
        c.reply.array(if options.with_match_length { 3 } else { 2 });
        for start in [m.a, m.b] {
            c.reply.array(2);
            c.reply.integer(start as i64);
            c.reply.integer((start + m.len - 1) as i64);
        }
        if options.with_match_length {
            c.reply.integer(m.len as i64);
        }
    }
    c.reply.bulk(b"len");
    c.reply.integer(table.length().into());
    Ok(())
}

fn options(c: &Ctx<'_, '_>) -> Result<Options, CommandError> {
    let mut options = Options::default();
    let mut index = 3;
    while let Some(word) = c.argv.get(index) {
        match word {
            w if args::is(w, "idx") => options.indexes = true,
            w if args::is(w, "len") => options.length = true,
            w if args::is(w, "withmatchlen") => options.with_match_length = true,
            w if args::is(w, "minmatchlen") => {
                index += 1;
                let min = args::integer(c.argv.get(index).ok_or(SYNTAX)?)?;
                options.match_length_min = usize::try_from(min).unwrap_or(0);
            }
            _ => return Err(SYNTAX),
        }
        index += 1;
    }
    if options.length && options.indexes {
        return Err(LCS_LENGTH_AND_INDEXES);
    }
    Ok(options)
}

/// A string's bytes; an absent key counts as empty.
fn text<'b>(value: Option<ValueRef<'b>>, digits: &'b mut itoa::Buffer) -> &'b [u8] {
    match value {
        Some(ValueRef::String(string)) => string.bytes(digits),
        Some(ValueRef::Object(_)) | None => b"",
    }
}

/// A run of bytes common to both strings: where it starts in each, and how long it is.
struct Match {
    a: usize,
    b: usize,
    len: usize,
}

struct Table {
    cells: Vec<u32>,
    width: usize,
}

impl Table {
    fn new(a: &[u8], b: &[u8]) -> Table {
        let width = b.len() + 1;
        let mut cells = vec![0u32; (a.len() + 1) * width];
        for (i, byte) in a.iter().enumerate() {
            let (above, row) = cells[i * width..(i + 2) * width].split_at_mut(width);
            for (j, other) in b.iter().enumerate() {
                row[j + 1] = if byte == other {
                    above[j] + 1
                } else {
                    row[j].max(above[j + 1])
                };
            }
        }
        Table { cells, width }
    }

    fn length(&self) -> u32 {
        self.cells.last().copied().unwrap_or(0)
    }

    fn at(&self, i: usize, j: usize) -> u32 {
        self.cells[i * self.width + j]
    }

    /// The runs that make up the subsequence, the last one first.
    fn matches(&self, a: &[u8], b: &[u8]) -> Vec<Match> {
        let mut matches: Vec<Match> = Vec::new();
        let (mut i, mut j) = (a.len(), b.len());
        while i > 0 && j > 0 {
            if a[i - 1] == b[j - 1] {
                (i, j) = (i - 1, j - 1);
                match matches.last_mut() {
                    Some(run) if run.a == i + 1 && run.b == j + 1 => {
                        (run.a, run.b, run.len) = (i, j, run.len + 1);
                    }
                    _ => matches.push(Match { a: i, b: j, len: 1 }),
                }
            } else if self.at(i - 1, j) > self.at(i, j - 1) {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        matches
    }
}
