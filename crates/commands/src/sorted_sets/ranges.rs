//! Members of a sorted set in a range of ranks, scores or names.
//!
//! Every range is first turned into a range of ranks from the lowest score; LIMIT and REV are
//! arithmetic on that.

use std::ops::Range;

use datatypes::{IntBuffer, LexBound, ScoreBound, SortedSet};
use resp::Argv;

use super::replies::{self, Shape};
use super::store::store;
use crate::args::{integer, is};
use crate::command::{Command, Deprecated, Flags, Group, Run};
use crate::context::{Ctx, Effect};
use crate::errors::{
    CommandError, CommandResult, LEX_BOUNDS_INVALID, LIMIT_OF_RANKS, SCORE_BOUNDS_INVALID, SYNTAX,
    WITHSCORES_OF_LEX,
};
use crate::key_spec::KeySpec;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "zcount",
        summary: "Replies how many members of a sorted set have scores in a range.",
        since: "2.0.0",
        group: Group::SortedSet,
        complexity: "O(log(N)) for a set of N members",
        arity: 4,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key min max",
        run: Run::Keys(zcount),
        ..Command::DEFAULT
    },
    Command {
        name: "zlexcount",
        summary: "Replies how many members of a sorted set have names in a range.",
        since: "2.8.9",
        group: Group::SortedSet,
        complexity: "O(log(N)) for a set of N members",
        arity: 4,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key min max",
        run: Run::Keys(zlexcount),
        ..Command::DEFAULT
    },
    Command {
        name: "zrange",
        summary: "Replies the members of a sorted set in a range of ranks, scores or names.",
        since: "1.2.0",
        group: Group::SortedSet,
        complexity: "O(log(N)+M) for M members replied, in a set of N members",
        arity: -4,
        flags: Flags::READONLY,
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]",
        run: Run::Keys(zrange),
        ..Command::DEFAULT
    },
    Command {
        name: "zrevrange",
        summary: "Replies the members of a sorted set in a range of ranks, counted from the highest score.",
        since: "1.2.0",
        group: Group::SortedSet,
        complexity: "O(log(N)+M) for M members replied, in a set of N members",
        arity: -4,
        flags: Flags::READONLY,
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key start stop [WITHSCORES]",
        run: Run::Keys(zrevrange),
        deprecated: Some(Deprecated { since: "6.2.0", replaced_by: "`ZRANGE` with the `REV` argument" }),
        ..Command::DEFAULT
    },
    Command {
        name: "zrangebyscore",
        summary: "Replies the members of a sorted set whose scores are in a range.",
        since: "1.0.5",
        group: Group::SortedSet,
        complexity: "O(log(N)+M) for M members replied, in a set of N members",
        arity: -4,
        flags: Flags::READONLY,
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key min max [WITHSCORES] [LIMIT offset count]",
        run: Run::Keys(zrangebyscore),
        deprecated: Some(Deprecated { since: "6.2.0", replaced_by: "`ZRANGE` with the `BYSCORE` argument" }),
        ..Command::DEFAULT
    },
    Command {
        name: "zrevrangebyscore",
        summary: "Replies the members of a sorted set whose scores are in a range, the highest first.",
        since: "2.2.0",
        group: Group::SortedSet,
        complexity: "O(log(N)+M) for M members replied, in a set of N members",
        arity: -4,
        flags: Flags::READONLY,
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key max min [WITHSCORES] [LIMIT offset count]",
        run: Run::Keys(zrevrangebyscore),
        deprecated: Some(Deprecated { since: "6.2.0", replaced_by: "`ZRANGE` with the `REV` and `BYSCORE` arguments" }),
        ..Command::DEFAULT
    },
    Command {
        name: "zrangebylex",
        summary: "Replies the members of a sorted set whose names are in a range.",
        since: "2.8.9",
        group: Group::SortedSet,
        complexity: "O(log(N)+M) for M members replied, in a set of N members",
        arity: -4,
        flags: Flags::READONLY,
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key min max [LIMIT offset count]",
        run: Run::Keys(zrangebylex),
        deprecated: Some(Deprecated { since: "6.2.0", replaced_by: "`ZRANGE` with the `BYLEX` argument" }),
        ..Command::DEFAULT
    },
    Command {
        name: "zrevrangebylex",
        summary: "Replies the members of a sorted set whose names are in a range, the last first.",
        since: "2.8.9",
        group: Group::SortedSet,
        complexity: "O(log(N)+M) for M members replied, in a set of N members",
        arity: -4,
        flags: Flags::READONLY,
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key max min [LIMIT offset count]",
        run: Run::Keys(zrevrangebylex),
        deprecated: Some(Deprecated { since: "6.2.0", replaced_by: "`ZRANGE` with the `REV` and `BYLEX` arguments" }),
        ..Command::DEFAULT
    },
    Command {
        name: "zrangestore",
        summary: "Stores the members of a sorted set in a range of ranks, scores or names.",
        since: "6.2.0",
        group: Group::SortedSet,
        complexity: "O(log(N)+M) for M members stored, from a set of N members",
        arity: -5,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[KeySpec::at(1, &["OW", "update"]), KeySpec::at(2, &["RO", "access"])],
        syntax: "dst src min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]",
        run: Run::Keys(zrangestore),
        ..Command::DEFAULT
    },
    Command {
        name: "zremrangebyrank",
        summary: "Removes the members of a sorted set in a range of ranks.",
        since: "2.0.0",
        group: Group::SortedSet,
        complexity: "O(log(N)+M) for M members removed, from a set of N members",
        arity: 4,
        flags: Flags::WRITE,
        keys: &[KeySpec::at(1, &["RW", "delete"])],
        syntax: "key start stop",
        run: Run::Keys(zremrangebyrank),
        ..Command::DEFAULT
    },
    Command {
        name: "zremrangebyscore",
        summary: "Removes the members of a sorted set in a range of scores.",
        since: "1.2.0",
        group: Group::SortedSet,
        complexity: "O(log(N)+M) for M members removed, from a set of N members",
        arity: 4,
        flags: Flags::WRITE,
        keys: &[KeySpec::at(1, &["RW", "delete"])],
        syntax: "key min max",
        run: Run::Keys(zremrangebyscore),
        ..Command::DEFAULT
    },
    Command {
        name: "zremrangebylex",
        summary: "Removes the members of a sorted set in a range of names.",
        since: "2.8.9",
        group: Group::SortedSet,
        complexity: "O(log(N)+M) for M members removed, from a set of N members",
        arity: 4,
        flags: Flags::WRITE,
        keys: &[KeySpec::at(1, &["RW", "delete"])],
        syntax: "key min max",
        run: Run::Keys(zremrangebylex),
        ..Command::DEFAULT
    },
];

/// What the ends of a range are about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum By {
    Rank,
    Score,
    Lex,
}

/// The ends of a range.
#[derive(Clone, Copy, Debug)]
enum Bounds<'a> {
    /// Both included; negative ones count from the end.
    Ranks(i64, i64),
    Scores(ScoreBound, ScoreBound),
    Names(LexBound<'a>, LexBound<'a>),
}

impl<'a> Bounds<'a> {
    fn parse(by: By, min: &'a [u8], max: &'a [u8]) -> Result<Bounds<'a>, CommandError> {
        Ok(match by {
            By::Rank => Bounds::Ranks(integer(min)?, integer(max)?),
            By::Score => {
                let bound = |text| ScoreBound::parse(text).map_err(|_| SCORE_BOUNDS_INVALID);
                Bounds::Scores(bound(min)?, bound(max)?)
            }
            By::Lex => {
                let bound = |text| LexBound::parse(text).map_err(|_| LEX_BOUNDS_INVALID);
                Bounds::Names(bound(min)?, bound(max)?)
            }
        })
    }

    /// The ranks within the bounds, counted from the lowest score.
    fn ranks(self, set: &SortedSet) -> Range<usize> {
        match self {
            Bounds::Ranks(start, stop) => ranks_between(start, stop, set.len()),
            Bounds::Scores(min, max) => set.ranks_by_score(min, max),
            Bounds::Names(min, max) => set.ranks_by_lex(min, max),
        }
    }
}

/// The ranks from `start` to `stop`, both included; negative ones count from the end.
fn ranks_between(start: i64, stop: i64, len: usize) -> Range<usize> {
    let from_front = |index: i64| match index {
        0.. => index,
        _ => index + len as i64,
    };
    let start = from_front(start).max(0) as usize;
    let end = (from_front(stop).saturating_add(1).max(0) as usize).min(len);
    start.min(end)..end
}

/// What a command of the ZRANGE family has settled by its name. `None`: an option says.
#[derive(Clone, Copy)]
struct Dialect {
    by: Option<By>,
    reverse: Option<bool>,
    /// Members are stored, so that there is no WITHSCORES.
    stores: bool,
}

impl Dialect {
    const fn settled(by: By, reverse: bool) -> Dialect {
        Dialect {
            by: Some(by),
            reverse: Some(reverse),
            stores: false,
        }
    }
}

/// A request of the ZRANGE family.
struct Query<'a> {
    bounds: Bounds<'a>,
    reverse: bool,
    offset: i64,
    /// Negative: no limit.
    count: i64,
    shape: Shape,
}

impl<'a> Query<'a> {
    /// Reads the two ends from the argument `ends` on, and the options behind them.
    fn parse(argv: Argv<'a>, ends: usize, dialect: Dialect) -> Result<Query<'a>, CommandError> {
        let (mut by, mut reverse) = (dialect.by, dialect.reverse);
        let (mut offset, mut count, mut with_scores) = (0, -1, false);
        let mut i = ends + 2;
        while let Some(option) = argv.get(i) {
            match (argv.get(i + 1), argv.get(i + 2)) {
                _ if is(option, "withscores") && !dialect.stores => with_scores = true,
                (Some(first), Some(second)) if is(option, "limit") => {
                    (offset, count) = (integer(first)?, integer(second)?);
                    i += 2;
                }
                _ if is(option, "rev") && reverse.is_none() => reverse = Some(true),
                _ if is(option, "byscore") && by.is_none() => by = Some(By::Score),
                _ if is(option, "bylex") && by.is_none() => by = Some(By::Lex),
                _ => return Err(SYNTAX),
            }
            i += 1;
        }
        let (by, reverse) = (by.unwrap_or(By::Rank), reverse.unwrap_or(false));
        // A count of -1 is the same as no LIMIT, which is why it is let pass.
        if by == By::Rank && count != -1 {
            return Err(LIMIT_OF_RANKS);
        }
        if by == By::Lex && with_scores {
            return Err(WITHSCORES_OF_LEX);
        }
        let (start, stop) = (argv.arg(ends), argv.arg(ends + 1));
        let bounds = if reverse && by != By::Rank {
            Bounds::parse(by, stop, start)?
        } else {
            Bounds::parse(by, start, stop)?
        };
        Ok(Query {
            bounds,
            reverse,
            offset,
            count,
            shape: Shape::scored_if(with_scores),
        })
    }

    /// The ranks asked for, counted from the lowest score.
    fn ranks(&self, set: &SortedSet) -> Range<usize> {
        let len = set.len();
        let Range { start, end } = self.bounds.ranks(set);
        if let Bounds::Ranks(..) = self.bounds {
            return if self.reverse {
                len - end..len - start
            } else {
                start..end
            };
        }
        // A negative offset is beyond every end.
        let offset = usize::try_from(self.offset).unwrap_or(usize::MAX);
        let skipped = offset.min(end - start);
        let count = usize::try_from(self.count).unwrap_or(usize::MAX);
        let count = count.min(end - start - skipped);
        if self.reverse {
            end - skipped - count..end - skipped
        } else {
            start + skipped..start + skipped + count
        }
    }
}

fn zcount(c: &mut Ctx<'_, '_>) -> CommandResult {
    reply_count(c, By::Score)
}

fn zlexcount(c: &mut Ctx<'_, '_>) -> CommandResult {
    reply_count(c, By::Lex)
}

fn reply_count(c: &mut Ctx<'_, '_>, by: By) -> CommandResult {
    let bounds = Bounds::parse(by, c.argv.arg(2), c.argv.arg(3))?;
    let key = c.key(1);
    let set = c.keys.read_sorted_set(key)?;
    let count = set.map_or(0, |set| bounds.ranks(set).len());
    c.reply.integer(count as i64);
    Ok(())
}

fn zrange(c: &mut Ctx<'_, '_>) -> CommandResult {
    let dialect = Dialect {
        by: None,
        reverse: None,
        stores: false,
    };
    reply_range(c, dialect)
}

fn zrevrange(c: &mut Ctx<'_, '_>) -> CommandResult {
    reply_range(c, Dialect::settled(By::Rank, true))
}

fn zrangebyscore(c: &mut Ctx<'_, '_>) -> CommandResult {
    reply_range(c, Dialect::settled(By::Score, false))
}

fn zrevrangebyscore(c: &mut Ctx<'_, '_>) -> CommandResult {
    reply_range(c, Dialect::settled(By::Score, true))
}

fn zrangebylex(c: &mut Ctx<'_, '_>) -> CommandResult {
    reply_range(c, Dialect::settled(By::Lex, false))
}

fn zrevrangebylex(c: &mut Ctx<'_, '_>) -> CommandResult {
    reply_range(c, Dialect::settled(By::Lex, true))
}

fn reply_range(c: &mut Ctx<'_, '_>, dialect: Dialect) -> CommandResult {
    let query = Query::parse(c.argv, 2, dialect)?;
    let key = c.key(1);
    let Some(set) = c.keys.read_sorted_set(key)? else {
        c.reply.array(0);
        return Ok(());
    };
    let members = set.range(query.ranks(set));
    if query.reverse {
        replies::members(&mut c.reply, query.shape, members.rev());
    } else {
        replies::members(&mut c.reply, query.shape, members);
    }
    Ok(())
}

fn zrangestore(c: &mut Ctx<'_, '_>) -> CommandResult {
    let dialect = Dialect {
        by: None,
        reverse: None,
        stores: true,
    };
    let query = Query::parse(c.argv, 3, dialect)?;
    let (source, limits) = (c.key(2), c.limits);
    let mut result = SortedSet::new();
    if let Some(set) = c.keys.read_sorted_set(source)? {
        let ranks = query.ranks(set);
        // Redis counts beforehand in this case only. In the others the first members pass through
        // a listpack, which makes a 0 of -0.
        if let Bounds::Ranks(..) = query.bounds {
            result.prepare(ranks.len(), limits);
        }
        let mut buffer = IntBuffer::new();
        for (member, score) in set.range(ranks) {
            result.insert(member.as_bytes(&mut buffer), score, limits);
        }
    }
    store(c, result, "zrangestore")
}

fn zremrangebyrank(c: &mut Ctx<'_, '_>) -> CommandResult {
    remove_range(c, By::Rank, "zremrangebyrank")
}

fn zremrangebyscore(c: &mut Ctx<'_, '_>) -> CommandResult {
    remove_range(c, By::Score, "zremrangebyscore")
}

fn zremrangebylex(c: &mut Ctx<'_, '_>) -> CommandResult {
    remove_range(c, By::Lex, "zremrangebylex")
}

fn remove_range(c: &mut Ctx<'_, '_>, by: By, event: &'static str) -> CommandResult {
    let bounds = Bounds::parse(by, c.argv.arg(2), c.argv.arg(3))?;
    let key = c.key(1);
    let Some(set) = c.keys.sorted_set_mut(key)? else {
        c.reply.integer(0);
        return Ok(());
    };
    let ranks = bounds.ranks(set);
    let removed = set.remove_ranks(ranks);
    let emptied = set.is_empty();
    if removed > 0 {
        c.keys.wrote(key, event, removed as u64, Effect::AsGiven);
    }
    if emptied {
        c.keys.remove_if_empty(key);
    }
    c.reply.integer(removed as i64);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_clamped_and_counted_from_either_end() {
        let check = |start, stop, expected: Range<usize>| {
            let ranks = ranks_between(start, stop, 5);
            assert_eq!(
                ranks.clone().collect::<Vec<_>>(),
                expected.collect::<Vec<_>>()
            );
            assert!(ranks.start <= ranks.end && ranks.end <= 5);
        };
        check(0, -1, 0..5);
        check(1, 3, 1..4);
        check(-2, -1, 3..5);
        check(-100, 100, 0..5);
        check(3, 2, 0..0);
        check(5, 9, 0..0);
        check(0, -6, 0..0);
        check(i64::MIN, i64::MAX, 0..5);
        check(i64::MAX, i64::MIN, 0..0);
        check(i64::MIN, i64::MIN, 0..0);
    }
}
