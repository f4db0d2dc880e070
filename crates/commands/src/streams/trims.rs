//! XTRIM, and how much of a stream a command leaves.

use datatypes::number;
use datatypes::stream::{GivenId, Keep, Trim};
use datatypes::Limits;
use resp::Argv;

use super::exact_id;
use crate::args::{integer, is};
use crate::command::{Command, Flags, Run};
use crate::context::{Ctx, Effect};
use crate::errors::{
    CommandError, CommandResult, INVALID_STREAM_ID, LIMIT_WITHOUT_TILDE, LIMIT_WITHOUT_TRIMMING,
    SYNTAX, TRIM_LIMIT_NEGATIVE, TRIM_MAXLEN_NEGATIVE, TRIM_TWICE, XTRIM_WITHOUT_STRATEGY,
};
use crate::key_spec::KeySpec;

pub const COMMANDS: &[Command] = &[Command {
    name: "xtrim",
    summary: "Deletes entries from the beginning of a stream.",
    complexity: "O(N) with N entries deleted; most go a node at a time",
    arity: -4,
    flags: Flags::WRITE,
    keys: &[KeySpec::at(1, &["RW", "delete"])],
    syntax: "key <MAXLEN | MINID> [= | ~] threshold [LIMIT count]",
    run: Run::Keys(xtrim),
    tips: &["nondeterministic_output"],
    ..super::ROW
}];

/// Entries that an approximate trim without LIMIT takes at most, in nodes and in all.
const NODES_TRIMMED_MAX: u64 = 100;
const ENTRIES_TRIMMED_IF_UNLIMITED: u64 = 10_000;
const ENTRIES_TRIMMED_MAX: u64 = 1_000_000;

/// What stands between XADD's or XTRIM's key and what follows.
pub(super) struct Options {
    pub trim: Option<Trim>,
    pub no_mkstream: bool,
    /// Where XADD's ID stands; behind the end if it is missing.
    pub id_at: usize,
    /// None: `*`.
    pub id: Option<GivenId>,
}

impl Options {
    pub(super) fn parse(
        argv: Argv<'_>,
        is_xadd: bool,
        limits: &Limits,
        is_replay: bool,
    ) -> Result<Options, CommandError> {
        let mut options = Options {
            trim: None,
            no_mkstream: false,
            id_at: argv.len(),
            id: None,
        };
        let mut limit = None;
        let mut at = 2;
        while let Some(word) = argv.get(at) {
            let more = argv.len() - 1 - at;
            if is_xadd && word == b"*" {
                options.id_at = at;
                break;
            } else if more > 0 && (is(word, "maxlen") || is(word, "minid")) {
                if options.trim.is_some() {
                    return Err(TRIM_TWICE);
                }
                let how = argv.arg(at + 1);
                let has_how = more > 1 && matches!(how, b"~" | b"=");
                at += 1 + usize::from(has_how);
                options.trim = Some(Trim {
                    keep: threshold(word, argv.arg(at))?,
                    approximate: has_how && how == b"~",
                    limit: None,
                });
            } else if more > 0 && is(word, "limit") {
                at += 1;
                let count = u64::try_from(integer(argv.arg(at))?);
                limit = Some(count.map_err(|_| TRIM_LIMIT_NEGATIVE)?);
            } else if is_xadd && is(word, "nomkstream") {
                options.no_mkstream = true;
            } else if is_xadd {
                options.id = Some(GivenId::parse(word).ok_or(INVALID_STREAM_ID)?);
                options.id_at = at;
                break;
            } else {
                return Err(SYNTAX);
            }
            at += 1;
        }
        match &mut options.trim {
            None if limit.is_some_and(|limit| limit > 0) => return Err(LIMIT_WITHOUT_TRIMMING),
            None if !is_xadd => return Err(XTRIM_WITHOUT_STRATEGY),
            // Servers log what an approximate trim did as an exact one, and leave its LIMIT where it was.
            _ if is_replay => {}
            Some(trim) if trim.approximate => {
                trim.limit = match limit {
                    Some(0) => None,
                    Some(limit) => Some(limit),
                    None => Some(entries_max(limits)),
                };
            }
            _ if limit.is_some() => return Err(LIMIT_WITHOUT_TILDE),
            _ => {}
        }
        Ok(options)
    }
}

fn threshold(word: &[u8], arg: &[u8]) -> Result<Keep, CommandError> {
    if is(word, "minid") {
        return exact_id(arg).map(Keep::From);
    }
    let count = u64::try_from(integer(arg)?);
    count.map(Keep::Newest).map_err(|_| TRIM_MAXLEN_NEGATIVE)
}

fn entries_max(limits: &Limits) -> u64 {
    match limits
        .stream_node_max_entries
        .saturating_mul(NODES_TRIMMED_MAX)
    {
        0 => ENTRIES_TRIMMED_IF_UNLIMITED,
        entries => entries.min(ENTRIES_TRIMMED_MAX),
    }
}

fn xtrim(c: &mut Ctx<'_, '_>) -> CommandResult {
    let options = Options::parse(c.argv, false, c.limits, c.replayed_at.is_some())?;
    let key = c.key(1);
    let (Some(stream), Some(trim)) = (c.keys.stream_mut(key)?, options.trim) else {
        c.reply.integer(0);
        return Ok(());
    };
    let removed = stream.trim(&trim);
    let left = stream.len();
    if removed > 0 {
        let mut digits = itoa::Buffer::new();
        let exact: [&[u8]; 5] = [
            b"XTRIM",
            key.bytes,
            b"MAXLEN",
            b"=",
            digits.format(left).as_bytes(),
        ];
        let effect = match trim.approximate {
            true => Effect::Command(&exact),
            false => Effect::AsGiven,
        };
        c.keys.wrote(key, "xtrim", removed, effect);
    }
    c.reply.integer(removed as i64);
    Ok(())
}

/// The arguments by which an exact trim leaves so many entries.
pub(super) fn exact_trim(left: usize, out: &mut Vec<u8>) -> [&'static [u8]; 2] {
    number::write_i64(out, left as i64);
    [b"MAXLEN", b"="]
}
