//! Members of a sorted set taken from its ends, and random ones.

use datatypes::SortedSet;
use keyspace::Key;

use super::replies::{self, MemberList, Shape};
use crate::args::{count_or, is, positive_or, symmetric_integer};
use crate::command::{Command, Flags, Group, Run};
use crate::context::{Ctx, Effect};
use crate::elements::{self, visit_sample, Draw};
use crate::errors::{
    CommandResult, COUNT_NOT_POSITIVE, NOT_POSITIVE, NUMKEYS_NOT_POSITIVE, OUT_OF_RANGE, SYNTAX,
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
enum End {
    Lowest,
    Highest,
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
        (Some(set), None) => {
            // Member and score are not a pair of their own here, in RESP3 either.
            let popped = match end {
                End::Lowest => set.first(),
                End::Highest => set.last(),
            };
            let (member, score) = popped.expect("a stored sorted set has members");
            c.reply.array(2);
            elements::bulk(&mut c.reply, member);
            replies::score(&mut c.reply, score);
            remove_from(set, end, 1);
            report_popped(c, key, end, 1, Effect::AsGiven);
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
    let argv = c.argv;
    let key_count = positive_or(argv.arg(1), NUMKEYS_NOT_POSITIVE)?;
    let options = key_count.saturating_add(2);
    let end = match argv.get(options) {
        Some(word) if is(word, "min") => End::Lowest,
        Some(word) if is(word, "max") => End::Highest,
        _ => return Err(SYNTAX),
    };
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
    for i in 2..options {
        let key = c.key(i);
        let Some(set) = c.keys.sorted_set_mut(key)? else {
            continue;
        };
        let popped = count.min(set.len());
        c.reply.array(2);
        c.reply.bulk(key.bytes);
        reply_end(&mut c.reply, set, end, popped, Shape::Pairs);
        remove_from(set, end, popped);
        let name: &[u8] = match end {
            End::Lowest => b"ZPOPMIN",
            End::Highest => b"ZPOPMAX",
        };
        let mut number = itoa::Buffer::new();
        let effect = [name, key.bytes, number.format(popped).as_bytes()];
        report_popped(c, key, end, popped, Effect::Command(&effect));
        return Ok(());
    }
    c.reply.null_array();
    Ok(())
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
