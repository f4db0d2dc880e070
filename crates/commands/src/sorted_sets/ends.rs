//! Members of a sorted set taken from its ends, and random ones.

use std::ops::Range;

use datatypes::SortedSet;
use keyspace::Key;
use resp::Argv;

use super::replies::{self, MemberList, Shape};
use crate::args::{count_or, is, positive_or, symmetric_integer};
use crate::command::{Command, Flags, Group, Run};
use crate::context::{Ctx, Effect};
use crate::elements::{self, visit_sample, Draw};
use crate::errors::{
    CommandError, CommandResult, COUNT_NOT_POSITIVE, NOT_POSITIVE, NUMKEYS_NOT_POSITIVE,
    OUT_OF_RANGE, SYNTAX,
};
use crate::key_spec::KeySpec;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "zpopmin",
        summary: "Takes the members with the lowest scores out of a sorted set.",
        since: "5.0.0",
        group: Group::SortedSet,
        complexity: "O(log(N)+M) for M members taken, from a set of N members",
        arity: -2,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "access", "delete"])],
        syntax: "key [count]",
        run: Run::Keys(zpopmin),
        ..Command::DEFAULT
    },
    Command {
        name: "zpopmax",
        summary: "Takes the members with the highest scores out of a sorted set.",
        since: "5.0.0",
        group: Group::SortedSet,
        complexity: "O(log(N)+M) for M members taken, from a set of N members",
        arity: -2,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "access", "delete"])],
        syntax: "key [count]",
        run: Run::Keys(zpopmax),
        ..Command::DEFAULT
    },
    Command {
        name: "zmpop",
        summary: "Takes the members with the lowest or highest scores out of the first sorted set that is not empty.",
        since: "7.0.0",
        group: Group::SortedSet,
        complexity: "O(K+log(N)+M) for K keys and M members taken, from a set of N members",
        arity: -4,
        flags: Flags::WRITE.union(Flags::MOVABLEKEYS),
        keys: &[KeySpec::counted(1, &["RW", "access", "delete"])],
        syntax: "numkeys key [key ...] <MIN | MAX> [COUNT count]",
        run: Run::Keys(zmpop),
        ..Command::DEFAULT
    },
    Command {
        name: "zrandmember",
        summary: "Replies random members of a sorted set.",
        since: "6.2.0",
        group: Group::SortedSet,
        complexity: "O(N) for N members replied",
        arity: -2,
        flags: Flags::READONLY,
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key [count [WITHSCORES]]",
        run: Run::Keys(zrandmember),
        tips: &["nondeterministic_output"],
        ..Command::DEFAULT
    },
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Lowest,
    Highest,
}

impl End {
    pub(super) fn parse(arg: &[u8]) -> Result<End, CommandError> {
        match arg {
            word if is(word, "min") => Ok(End::Lowest),
            word if is(word, "max") => Ok(End::Highest),
            _ => Err(SYNTAX),
        }
    }

    /// The command that takes from this end, as the log has it.
    pub(super) fn pop_command(self) -> &'static [u8] {
        match self {
            End::Lowest => b"ZPOPMIN",
            End::Highest => b"ZPOPMAX",
        }
    }
}

fn zpopmin(c: &mut Ctx<'_, '_>) -> CommandResult {
    pop_one_key(c, End::Lowest)
}

fn zpopmax(c: &mut Ctx<'_, '_>) -> CommandResult {
    pop_one_key(c, End::Highest)
}

fn pop_one_key(c: &mut Ctx<'_, '_>, end: End) -> CommandResult {
    let count = match c.argv.get(2) {
        _ if c.argv.len() > 3 => return Err(SYNTAX),
        None => None,
        Some(count) => Some(count_or(count, NOT_POSITIVE)?),
    };
    let key = c.key(1);
    match (c.keys.sorted_set_mut(key)?, count) {
        (None, _) | (_, Some(0)) => c.reply.array(0),
        (Some(_), None) => {
            // Member and score are not a pair of their own here, in RESP3 either.
            c.reply.array(2);
            pop_one(c, key, end, Effect::AsGiven)?;
        }
        (Some(set), Some(count)) => {
            let popped = count.min(set.len());
            reply_end(&mut c.reply, set, end, popped, Shape::Scored);
            remove_from(set, end, popped);
            report_popped(c, key, end, popped, Effect::AsGiven);
        }
    }
    Ok(())
}

/// Takes the member at an end out of a set that is there, and replies it and its score.
pub(super) fn pop_one(
    c: &mut Ctx<'_, '_>,
    key: Key<'_>,
    end: End,
    effect: Effect<'_>,
) -> CommandResult {
    if let Some(set) = c.keys.sorted_set_mut(key)? {
        let popped = match end {
            End::Lowest => set.first(),
            End::Highest => set.last(),
        };
        let (member, score) = popped.expect("a stored sorted set has members");
        elements::bulk(&mut c.reply, member);
        replies::score(&mut c.reply, score);
        remove_from(set, end, 1);
        report_popped(c, key, end, 1, effect);
    }
    Ok(())
}

/// Replies `count` members from an end on, which are there.
fn reply_end(reply: &mut resp::Reply<'_>, set: &SortedSet, end: End, count: usize, shape: Shape) {
    match end {
        End::Lowest => replies::members(reply, shape, set.range(0..count)),
        End::Highest => {
            let len = set.len();
            replies::members(reply, shape, set.range(len - count..len).rev());
        }
    }
}

/// Removes `count` members from an end on, which are there.
fn remove_from(set: &mut SortedSet, end: End, count: usize) {
    match end {
        End::Lowest => set.remove_ranks(0..count),
        End::Highest => {
            let len = set.len();
            set.remove_ranks(len - count..len)
        }
    };
}

fn report_popped(c: &mut Ctx<'_, '_>, key: Key<'_>, end: End, count: usize, effect: Effect<'_>) {
    let event = match end {
        End::Lowest => "zpopmin",
        End::Highest => "zpopmax",
    };
    c.keys.wrote(key, event, count as u64, effect);
    c.keys.remove_if_empty(key);
}

fn zmpop(c: &mut Ctx<'_, '_>) -> CommandResult {
    let pops = Pops::parse(c.argv, 1)?;
    if !pop_from_first(c, &pops)? {
        c.reply.null_array();
    }
    Ok(())
}

/// `numkeys key [key ...] <MIN | MAX> [COUNT count]`
pub(super) struct Pops {
    /// The arguments that are keys.
    pub keys: Range<usize>,
    end: End,
    count: usize,
}

impl Pops {
    /// Reads all arguments from `numkeys`, at `at`, to the last.
    pub(super) fn parse(argv: Argv<'_>, at: usize) -> Result<Pops, CommandError> {
        let key_count = positive_or(argv.arg(at), NUMKEYS_NOT_POSITIVE)?;
        let options = key_count.saturating_add(at + 1);
        let end = End::parse(argv.get(options).ok_or(SYNTAX)?)?;
        let count = match (argv.get(options + 1), argv.get(options + 2)) {
            (None, _) => 1,
            (Some(word), Some(count)) if is(word, "count") => {
                let count = positive_or(count, COUNT_NOT_POSITIVE)?;
                if argv.len() > options + 3 {
                    return Err(SYNTAX);
                }
                count
            }
            _ => return Err(SYNTAX),
        };
        Ok(Pops {
            keys: at + 1..options,
            end,
            count,
        })
    }
}

/// Takes members from the first sorted set that has some and replies them with its name. False, and
/// no reply, if none has.
pub(super) fn pop_from_first(c: &mut Ctx<'_, '_>, pops: &Pops) -> Result<bool, CommandError> {
    let end = pops.end;
    for i in pops.keys.clone() {
        let key = c.key(i);
        if !c.keys.holds(key) {
            continue;
        }
        let Some(set) = c.keys.sorted_set_mut(key)? else {
            continue;
        };
        let popped = pops.count.min(set.len());
        c.reply.array(2);
        c.reply.bulk(key.bytes);
        reply_end(&mut c.reply, set, end, popped, Shape::Pairs);
        remove_from(set, end, popped);
        let mut number = itoa::Buffer::new();
        let effect = [
            end.pop_command(),
            key.bytes,
            number.format(popped).as_bytes(),
        ];
        report_popped(c, key, end, popped, Effect::Command(&effect));
        return Ok(true);
    }
    Ok(false)
}

fn zrandmember(c: &mut Ctx<'_, '_>) -> CommandResult {
    let count = c.argv.get(2).map(symmetric_integer).transpose()?;
    let shape = match c.argv.get(3) {
        _ if c.argv.len() > 4 => return Err(SYNTAX),
        None => Shape::Members,
        Some(option) if is(option, "withscores") => Shape::Scored,
        Some(_) => return Err(SYNTAX),
    };
    // Twice as many replies are counted then.
    if shape == Shape::Scored && count.is_some_and(|count| count.abs() > i64::MAX / 2) {
        return Err(OUT_OF_RANGE);
    }
    let draw = count.map(Draw::from_count).transpose()?;
    let key = c.key(1);
    let Some(set) = c.keys.read_sorted_set(key)? else {
        match draw {
            None => c.reply.null(),
            Some(_) => c.reply.array(0),
        }
        return Ok(());
    };
    let reply = &mut c.reply;
    match draw {
        None => {
            let (member, _) = set.random(c.rng).expect("a stored sorted set has members");
            elements::bulk(reply, member);
        }
        Some(Draw::Repeating(count)) => {
            let mut list = MemberList::begin(reply, shape, count);
            for _ in 0..count {
                let (member, score) = set.random(c.rng).expect("a stored sorted set has members");
                list.add(reply, member, score);
            }
        }
        Some(Draw::Distinct(count)) => {
            let count = count.min(set.len());
            let mut list = MemberList::begin(reply, shape, count);
            visit_sample(
                c.rng,
                (count, set.len()),
                // All members come in descending order, as from Redis.
                set.iter().rev(),
                |rng| set.random(rng),
                |(member, _)| member.to_vec(),
                |(member, score)| list.add(reply, member, score),
            );
        }
    }
    Ok(())
}
