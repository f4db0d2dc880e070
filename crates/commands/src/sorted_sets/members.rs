//! Given members of a sorted set, their scores and ranks, and all members.

use datatypes::{Encoding, SortedSet, Value};
use resp::Argv;

use super::replies::{self, ScoreText};
use crate::args::{float, is};
use crate::command::{Command, Flags, Group, Run};
use crate::context::{Ctx, Effect};
use crate::elements;
use crate::errors::{
    CommandError, CommandResult, SCORE_NOT_A_NUMBER, SYNTAX, ZADD_INCR_OF_SEVERAL,
    ZADD_NX_AND_COMPARISON, ZADD_NX_AND_XX,
};
use crate::key_spec::KeySpec;
use crate::scan_options::{cursor, reply_empty_page, reply_page, ScanOptions, Scanned};

pub const COMMANDS: &[Command] = &[
    Command {
        name: "zadd",
        summary:
            "Adds members to a sorted set or changes their scores, creating the set if need be.",
        since: "1.2.0",
        group: Group::SortedSet,
        complexity: "O(log(N)) for each member, in a set of N members",
        arity: -4,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "update"])],
        syntax: "key [NX | XX] [GT | LT] [CH] [INCR] score member [score member ...]",
        run: Run::Keys(zadd),
        ..Command::DEFAULT
    },
    Command {
        name: "zincrby",
        summary: "Adds to the score of a member of a sorted set.",
        since: "1.2.0",
        group: Group::SortedSet,
        complexity: "O(log(N)) for a set of N members",
        arity: 4,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "access", "update"])],
        syntax: "key increment member",
        run: Run::Keys(zincrby),
        ..Command::DEFAULT
    },
    Command {
        name: "zrem",
        summary: "Removes members from a sorted set.",
        since: "1.2.0",
        group: Group::SortedSet,
        complexity: "O(M*log(N)) for M members, in a set of N members",
        arity: -3,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "delete"])],
        syntax: "key member [member ...]",
        run: Run::Keys(zrem),
        ..Command::DEFAULT
    },
    Command {
        name: "zcard",
        summary: "Replies how many members a sorted set has.",
        since: "1.2.0",
        group: Group::SortedSet,
        complexity: "O(1)",
        arity: 2,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO"])],
        syntax: "key",
        run: Run::Keys(zcard),
        ..Command::DEFAULT
    },
    Command {
        name: "zscore",
        summary: "Replies the score of a member of a sorted set.",
        since: "1.2.0",
        group: Group::SortedSet,
        complexity: "O(1)",
        arity: 3,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key member",
        run: Run::Keys(zscore),
        ..Command::DEFAULT
    },
    Command {
        name: "zmscore",
        summary: "Replies the scores of several members of a sorted set.",
        since: "6.2.0",
        group: Group::SortedSet,
        complexity: "O(N) for N members",
        arity: -3,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key member [member ...]",
        run: Run::Keys(zmscore),
        ..Command::DEFAULT
    },
    Command {
        name: "zrank",
        summary: "Replies the rank of a member of a sorted set, counted from the lowest score.",
        since: "2.0.0",
        group: Group::SortedSet,
        complexity: "O(log(N)) for a set of N members",
        arity: -3,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key member [WITHSCORE]",
        run: Run::Keys(zrank),
        ..Command::DEFAULT
    },
    Command {
        name: "zrevrank",
        summary: "Replies the rank of a member of a sorted set, counted from the highest score.",
        since: "2.0.0",
        group: Group::SortedSet,
        complexity: "O(log(N)) for a set of N members",
        arity: -3,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key member [WITHSCORE]",
        run: Run::Keys(zrevrank),
        ..Command::DEFAULT
    },
    Command {
        name: "zscan",
        summary: "Iterates over the members of a sorted set and their scores.",
        since: "2.8.0",
        group: Group::SortedSet,
        complexity: "O(1) for a call, O(N) for a whole iteration over N members",
        arity: -3,
        flags: Flags::READONLY,
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key cursor [MATCH pattern] [COUNT count]",
        run: Run::Keys(zscan),
        tips: &["nondeterministic_output"],
        ..Command::DEFAULT
    },
];

/// The options of ZADD.
#[derive(Clone, Copy, Default)]
pub struct AddOptions {
    /// Only members that are new.
    pub nx: bool,
    /// Only members that are there.
    pub xx: bool,
    /// Only to greater scores, or new members.
    pub gt: bool,
    /// Only to lesser scores, or new members.
    pub lt: bool,
    /// Changed scores count in the reply.
    pub ch: bool,
    /// The score is added to the one there is.
    pub incr: bool,
}

impl AddOptions {
    /// Reads the options; returns them and the scores and members behind them.
    fn parse(argv: Argv<'_>) -> Result<(AddOptions, Argv<'_>), CommandError> {
        let mut options = AddOptions::default();
        let mut i = 2;
        while let Some(arg) = argv.get(i) {
            match arg {
                _ if is(arg, "nx") => options.nx = true,
                _ if is(arg, "xx") => options.xx = true,
                _ if is(arg, "gt") => options.gt = true,
                _ if is(arg, "lt") => options.lt = true,
                _ if is(arg, "ch") => options.ch = true,
                _ if is(arg, "incr") => options.incr = true,
                _ => break,
            }
            i += 1;
        }
        let pairs = argv.from(i);
        if pairs.is_empty() || !pairs.len().is_multiple_of(2) {
            return Err(SYNTAX);
        }
        if options.nx && options.xx {
            return Err(ZADD_NX_AND_XX);
        }
        if [options.nx, options.gt, options.lt]
            .iter()
            .filter(|o| **o)
            .count()
            > 1
        {
            return Err(ZADD_NX_AND_COMPARISON);
        }
        if options.incr && pairs.len() > 2 {
            return Err(ZADD_INCR_OF_SEVERAL);
        }
        Ok((options, pairs))
    }

    fn is_unconditional(self) -> bool {
        !(self.nx || self.xx || self.gt || self.lt)
    }

    /// Whether a member that has the score `old`, or is new, may get the score `new`.
    fn admit(self, old: Option<f64>, new: f64) -> bool {
        match old {
            None => !self.xx,
            Some(old) => !(self.nx || self.gt && new <= old || self.lt && new >= old),
        }
    }
}

/// What ZADD did.
#[derive(Default)]
struct Tally {
    added: usize,
    changed: usize,
}

fn zadd(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (options, pairs) = AddOptions::parse(c.argv)?;
    if options.incr {
        return increment(c, options, pairs.arg(0), pairs.arg(1));
    }
    let count = pairs.len() / 2;
    // All scores are read before anything changes; they stay on the stack when they are few.
    const FEW: usize = 8;
    let (mut few, mut many) = ([0.0; FEW], Vec::new());
    let scores = if count <= FEW {
        &mut few[..count]
    } else {
        many.resize(count, 0.0);
        &mut many[..]
    };
    for (i, score) in scores.iter_mut().enumerate() {
        *score = float(pairs.arg(2 * i))?;
    }
    add(c, options, scores, |i| pairs.arg(2 * i + 1))
}

/// Adds members, each with its score; the request itself is the effect.
#[inline]
pub fn add<'m>(
    c: &mut Ctx<'_, '_>,
    options: AddOptions,
    scores: &[f64],
    member: impl Fn(usize) -> &'m [u8],
) -> CommandResult {
    let (key, limits) = (c.key(1), c.limits);
    let add_all = |set: &mut SortedSet| {
        let mut tally = Tally::default();
        for (i, &score) in scores.iter().enumerate() {
            let member = member(i);
            if !options.is_unconditional() && !options.admit(set.score(member), score) {
                continue;
            }
            match set.insert(member, score, limits) {
                None => tally.added += 1,
                Some(old) if old != score => tally.changed += 1,
                Some(_) => {}
            }
        }
        tally
    };
    let tally = match c.keys.sorted_set_mut(key)? {
        Some(set) => {
            set.prepare(scores.len(), limits);
            add_all(set)
        }
        None if options.xx => Tally::default(),
        None => {
            let mut set = SortedSet::for_members(scores.len(), member(0).len(), limits);
            let tally = add_all(&mut set);
            c.keys.add_object(key, Value::SortedSet(set));
            tally
        }
    };
    let touched = tally.added + tally.changed;
    if touched > 0 {
        c.keys.wrote(key, "zadd", touched as u64, Effect::AsGiven);
    }
    let replied = if options.ch { touched } else { tally.added };
    c.reply.integer(replied as i64);
    Ok(())
}

fn zincrby(c: &mut Ctx<'_, '_>) -> CommandResult {
    // Redis reads ZADD's options here, too, and then misses an argument.
    let word = c.argv.arg(2);
    if ["nx", "xx", "ch", "incr", "gt", "lt"]
        .iter()
        .any(|option| is(word, option))
    {
        return Err(SYNTAX);
    }
    increment(c, AddOptions::default(), c.argv.arg(2), c.argv.arg(3))
}

/// Adds to a member's score and replies the new one, or null if the options forbid it.
fn increment(c: &mut Ctx<'_, '_>, options: AddOptions, by: &[u8], member: &[u8]) -> CommandResult {
    let (by, key, limits) = (float(by)?, c.key(1), c.limits);
    let (old, new) = match c.keys.sorted_set_mut(key)? {
        Some(set) => {
            set.prepare(1, limits);
            let old = set.score(member);
            let new = old.map_or(by, |old| old + by);
            if options.nx && old.is_some() {
                c.reply.null();
                return Ok(());
            }
            if new.is_nan() {
                return Err(SCORE_NOT_A_NUMBER);
            }
            if !options.admit(old, new) {
                c.reply.null();
                return Ok(());
            }
            if old != Some(new) {
                set.insert(member, new, limits);
            }
            (old, new)
        }
        None if options.xx => {
            c.reply.null();
            return Ok(());
        }
        None => {
            let mut set = SortedSet::for_members(1, member.len(), limits);
            set.insert(member, by, limits);
            c.keys.add_object(key, Value::SortedSet(set));
            (None, by)
        }
    };
    let mut text = ScoreText::new();
    let text = text.of(new);
    if old != Some(new) {
        let addition: [&[u8]; 4] = [b"ZADD", key.bytes, text, member];
        c.keys.wrote(key, "zincr", 1, Effect::Command(&addition));
    }
    c.reply.double(text);
    Ok(())
}

fn zrem(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, members) = (c.key(1), c.argv.from(2));
    let Some(set) = c.keys.sorted_set_mut(key)? else {
        c.reply.integer(0);
        return Ok(());
    };
    let removed = members.iter().filter(|member| set.remove(member).is_some());
    let removed = removed.count();
    let emptied = set.is_empty();
    if removed > 0 {
        c.keys.wrote(key, "zrem", removed as u64, Effect::AsGiven);
    }
    if emptied {
        c.keys.remove_if_empty(key);
    }
    c.reply.integer(removed as i64);
    Ok(())
}

fn zcard(c: &mut Ctx<'_, '_>) -> CommandResult {
    let key = c.key(1);
    let len = c.keys.read_sorted_set(key)?.map_or(0, SortedSet::len);
    c.reply.integer(len as i64);
    Ok(())
}

fn zscore(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, member) = (c.key(1), c.argv.arg(2));
    let set = c.keys.read_sorted_set(key)?;
    match set.and_then(|set| set.score(member)) {
        Some(score) => replies::score(&mut c.reply, score),
        None => c.reply.null(),
    }
    Ok(())
}

fn zmscore(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, members) = (c.key(1), c.argv.from(2));
    let set = c.keys.read_sorted_set(key)?;
    c.reply.array(members.len());
    for member in members.iter() {
        match set.and_then(|set| set.score(member)) {
            Some(score) => replies::score(&mut c.reply, score),
            None => c.reply.null(),
        }
    }
    Ok(())
}

fn zrank(c: &mut Ctx<'_, '_>) -> CommandResult {
    reply_rank(c, "zrank", |rank, _| rank)
}

fn zrevrank(c: &mut Ctx<'_, '_>) -> CommandResult {
    reply_rank(c, "zrevrank", |rank, len| len - 1 - rank)
}

/// Replies what `count` makes of a member's rank from the lowest score and the set's size.
fn reply_rank(
    c: &mut Ctx<'_, '_>,
    name: &str,
    count: impl Fn(usize, usize) -> usize,
) -> CommandResult {
    let with_score = match c.argv.get(3) {
        _ if c.argv.len() > 4 => return Err(CommandError::wrong_arity(name)),
        None => false,
        Some(option) if is(option, "withscore") => true,
        Some(_) => return Err(SYNTAX),
    };
    let (key, member) = (c.key(1), c.argv.arg(2));
    let set = c.keys.read_sorted_set(key)?;
    let found = set.and_then(|set| {
        let (rank, score) = set.rank(member)?;
        Some((count(rank, set.len()), score))
    });
    match found {
        None if with_score => c.reply.null_array(),
        None => c.reply.null(),
        Some((rank, score)) => {
            if with_score {
                c.reply.array(2);
            }
            c.reply.integer(rank as i64);
            if with_score {
                replies::score(&mut c.reply, score);
            }
        }
    }
    Ok(())
}

fn zscan(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, cursor) = (c.key(1), cursor(c.argv.arg(2))?);
    let Some(set) = c.keys.read_sorted_set(key)? else {
        // The options are not looked at unless there is a set.
        reply_empty_page(&mut c.reply);
        return Ok(());
    };
    let options = ScanOptions::parse(c.argv, 3, Scanned::Members)?;
    // Redis replies the scores as strings in RESP3 too, and has them in another notation when
    // the set is not a listpack.
    let is_listpack = set.encoding() == Encoding::Listpack;
    let mut text = ScoreText::new();
    reply_page(&mut c.reply, |reply| {
        let mut replied = 0;
        let next = set.scan(cursor, options.count, |member, score| {
            if options.matches_element(member) {
                elements::bulk(reply, member);
                if is_listpack {
                    reply.bulk(text.of(score));
                } else {
                    reply.bulk(seventeen_digits(score).as_bytes());
                }
                replied += 2;
            }
        });
        (next, replied)
    });
    Ok(())
}

/// A score with up to 17 significant digits, as C's `printf("%.17g")` has it.
fn seventeen_digits(score: f64) -> String {
    if !score.is_finite() {
        return if score > 0.0 { "inf" } else { "-inf" }.to_string();
    }
    // Like 1.2500000000000000e-7: sixteen digits follow the point.
    let exact = format!("{:.16e}", score.abs());
    let (digits, exponent) = exact.split_once('e').expect("the format has an exponent");
    let exponent: i32 = exponent.parse().expect("an exponent is a number");
    let digits = digits.replace('.', "");
    let digits = digits.trim_end_matches('0');
    let digits = if digits.is_empty() { "0" } else { digits };
    let unsigned = match exponent {
        -4..=-1 => {
            let zeros = "0".repeat(exponent.unsigned_abs() as usize - 1);
            format!("0.{zeros}{digits}")
        }
        0..=16 => {
            let whole = exponent as usize + 1;
            match digits.split_at_checked(whole) {
                None | Some((_, "")) => format!("{digits:0<whole$}"),
                Some((whole, fraction)) => format!("{whole}.{fraction}"),
            }
        }
        _ => {
            let (first, rest) = digits.split_at(1);
            let point = if rest.is_empty() { "" } else { "." };
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{first}{point}{rest}e{sign}{:02}", exponent.unsigned_abs())
        }
    };
    if score.is_sign_negative() {
        format!("-{unsigned}")
    } else {
        unsigned
    }
}

#[cfg(test)]
mod tests {
    use super::seventeen_digits;

    #[test]
    fn seventeen_digits_are_those_of_printf() {
        let check = |score: f64, expected| assert_eq!(seventeen_digits(score), expected);
        check(0.0, "0");
        check(-0.0, "-0");
        check(3.0, "3");
        check(-120.5, "-120.5");
        check(0.1, "0.10000000000000001");
        check(0.0001, "0.0001");
        check(1e-5, "1.0000000000000001e-05");
        check(2f64.powi(-25), "2.9802322387695312e-08");
        check(1234567890123456.0, "1234567890123456");
        check(1e16, "10000000000000000");
        check(1e17, "1e+17");
        check(-1e300, "-1.0000000000000001e+300");
        check(5e-324, "4.9406564584124654e-324");
        check(f64::INFINITY, "inf");
        check(f64::NEG_INFINITY, "-inf");
    }
}
