//! Where a command's keys stand among its arguments, in the terms of COMMAND INFO's key specs.

use resp::Argv;

/// Where to begin looking.
#[derive(Clone, Copy, Debug)]
pub enum Begin {
    /// At this argument; the command's name is argument 0.
    Index(usize),
    /// Only the command itself can tell; see [`Command::keys_in`](crate::Command::keys_in).
    Unknown,
    /// Behind this word, searched from the argument `from` on (negative: from the end backwards).
    Keyword { word: &'static str, from: i32 },
}

/// How to go on from there.
#[derive(Clone, Copy, Debug)]
pub enum Find {
    /// Every `step`th argument up to `last`, counted from the beginning (0: just that one) or,
    /// negative, from the end of the arguments (-1: the last). With `limit` n above 1, only the
    /// first nth part of the arguments.
    Range {
        last: i32,
        step: usize,
        limit: usize,
    },
    Unknown,
    /// As many as the argument `count_at` (counted from the beginning) says, from `first` on.
    Count {
        count_at: usize,
        first: usize,
        step: usize,
    },
}

/// A group of keys with the same use. `flags` are Redis's words: `RW` `RO` `OW` `RM`, `access`
/// `update` `insert` `delete`, `not_key` `incomplete` `variable_flags`.
#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    pub flags: &'static [&'static str],
    pub begin: Begin,
    pub find: Find,
    /// A remark for COMMAND INFO; mostly empty.
    pub notes: &'static str,
}

impl KeySpec {
    /// One key, at an argument.
    pub const fn at(index: usize, flags: &'static [&'static str]) -> KeySpec {
        KeySpec {
            flags,
            begin: Begin::Index(index),
            find: Find::Range {
                last: 0,
                step: 1,
                limit: 0,
            },
            notes: "",
        }
    }

    /// All arguments from one to another, which is counted from the end (-1: the last).
    pub const fn until(index: usize, last: i32, flags: &'static [&'static str]) -> KeySpec {
        KeySpec {
            flags,
            begin: Begin::Index(index),
            find: Find::Range {
                last,
                step: 1,
                limit: 0,
            },
            notes: "",
        }
    }

    /// All arguments from one on, every `step`th.
    pub const fn rest(index: usize, step: usize, flags: &'static [&'static str]) -> KeySpec {
        KeySpec {
            flags,
            begin: Begin::Index(index),
            find: Find::Range {
                last: -1,
                step,
                limit: 0,
            },
            notes: "",
        }
    }

    /// `numkeys key [key ...]`, with the count at an argument.
    pub const fn counted(index: usize, flags: &'static [&'static str]) -> KeySpec {
        KeySpec {
            flags,
            begin: Begin::Index(index),
            find: Find::Count {
                count_at: 0,
                first: 1,
                step: 1,
            },
            notes: "",
        }
    }

    /// Calls `f` with the index of each key. Keys that a malformed call lacks are left out.
    pub fn for_each(&self, argv: Argv<'_>, mut f: impl FnMut(usize)) {
        let Some(begin) = self.begin_index(argv) else {
            return;
        };
        let len = argv.len();
        match self.find {
            Find::Range { last, step, limit } => {
                let end = match last {
                    0.. => begin + last as usize,
                    -1 if limit > 1 => begin + (len - begin.min(len)) / limit - 1,
                    _ => (len as i64 + i64::from(last)).max(0) as usize,
                };
                (begin..=end)
                    .step_by(step)
                    .take_while(|&i| i < len)
                    .for_each(f);
            }
            Find::Unknown => {}
            Find::Count {
                count_at,
                first,
                step,
            } => {
                let count = argv
                    .get(begin + count_at)
                    .and_then(datatypes::number::parse_i64)
                    .unwrap_or(0);
                let count = usize::try_from(count).unwrap_or(0).min(len);
                (0..count)
                    .map(|n| begin + first + n * step)
                    .take_while(|&i| i < len)
                    .for_each(&mut f);
            }
        }
    }

    fn begin_index(&self, argv: Argv<'_>) -> Option<usize> {
        match self.begin {
            Begin::Index(index) => (index < argv.len()).then_some(index),
            Begin::Unknown => None,
            Begin::Keyword { word, from } => {
                let matches = |&i: &usize| crate::args::is(argv.arg(i), word);
                let found = if from >= 0 {
                    (from as usize..argv.len()).find(matches)
                } else {
                    (1..=(argv.len() as i64 + i64::from(from)).max(0) as usize)
                        .rev()
                        .find(matches)
                };
                found.map(|i| i + 1)
            }
        }
    }
}
