//! Unions, intersections and differences of sorted sets and sets, which may lie in different
//! shards.
//!
//! A set counts as a sorted set whose scores are all 1. All keys are read first, which expires
//! those that are due and refuses other types; then the sources are looked at side by side
//! through shared borrows, and the result holds references into them.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use datatypes::{Element, IntBuffer, Limits, Set, SortedSet, Value};
use keyspace::{Key, ValueRef};

use super::replies::{self, Shape};
use super::store::store;
use crate::args::{count_or, integer, is};
use crate::command::{Command, Flags, Group, Run};
use crate::context::{Ctx, Keyspace};
use crate::errors::{
    CommandError, CommandResult, LIMIT_NEGATIVE, SYNTAX, WEIGHT_NOT_FLOAT, WRONG_TYPE,
};
use crate::key_spec::KeySpec;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "zunion",
        summary: "Replies the members that any of several sets has, with scores made of theirs.",
        since: "6.2.0",
        group: Group::SortedSet,
        complexity: "O(N+M*log(M)) for N members in all sets together and M in the result",
        arity: -3,
        flags: Flags::READONLY.union(Flags::MOVABLEKEYS),
        keys: &[KeySpec::counted(1, &["RO", "access"])],
        syntax: "numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]",
        run: Run::Keys(zunion),
        ..Command::DEFAULT
    },
    Command {
        name: "zunionstore",
        summary: "Stores the members that any of several sets has, with scores made of theirs.",
        since: "2.0.0",
        group: Group::SortedSet,
        complexity: "O(N+M*log(M)) for N members in all sets together and M in the result",
        arity: -4,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::MOVABLEKEYS),
        keys: &[KeySpec::at(1, &["OW", "update"]), KeySpec::counted(2, &["RO", "access"])],
        syntax: "destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>]",
        run: Run::Keys(zunionstore),
        ..Command::DEFAULT
    },
    Command {
        name: "zinter",
        summary: "Replies the members that all of several sets have, with scores made of theirs.",
        since: "6.2.0",
        group: Group::SortedSet,
        complexity: "O(N*K+M*log(M)) for K sets of which the smallest has N members, and M in the result",
        arity: -3,
        flags: Flags::READONLY.union(Flags::MOVABLEKEYS),
        keys: &[KeySpec::counted(1, &["RO", "access"])],
        syntax: "numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]",
        run: Run::Keys(zinter),
        ..Command::DEFAULT
    },
    Command {
        name: "zinterstore",
        summary: "Stores the members that all of several sets have, with scores made of theirs.",
        since: "2.0.0",
        group: Group::SortedSet,
        complexity: "O(N*K+M*log(M)) for K sets of which the smallest has N members, and M in the result",
        arity: -4,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::MOVABLEKEYS),
        keys: &[KeySpec::at(1, &["OW", "update"]), KeySpec::counted(2, &["RO", "access"])],
        syntax: "destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>]",
        run: Run::Keys(zinterstore),
        ..Command::DEFAULT
    },
    Command {
        name: "zdiff",
        summary: "Replies the members of the first set that none of the others has.",
        since: "6.2.0",
        group: Group::SortedSet,
        complexity: "O(N*K+M*log(M)) for K sets of which the first has N members, and M in the result",
        arity: -3,
        flags: Flags::READONLY.union(Flags::MOVABLEKEYS),
        keys: &[KeySpec::counted(1, &["RO", "access"])],
        syntax: "numkeys key [key ...] [WITHSCORES]",
        run: Run::Keys(zdiff),
        ..Command::DEFAULT
    },
    Command {
        name: "zdiffstore",
        summary: "Stores the members of the first set that none of the others has.",
        since: "6.2.0",
        group: Group::SortedSet,
        complexity: "O(N*K+M*log(M)) for K sets of which the first has N members, and M in the result",
        arity: -4,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::MOVABLEKEYS),
        keys: &[KeySpec::at(1, &["OW", "update"]), KeySpec::counted(2, &["RO", "access"])],
        syntax: "destination numkeys key [key ...]",
        run: Run::Keys(zdiffstore),
        ..Command::DEFAULT
    },
    Command {
        name: "zintercard",
        summary: "Replies how many members all of several sets have in common.",
        since: "7.0.0",
        group: Group::SortedSet,
        complexity: "O(N*K) for K sets of which the smallest has N members",
        arity: -3,
        flags: Flags::READONLY.union(Flags::MOVABLEKEYS),
        keys: &[KeySpec::counted(1, &["RO", "access"])],
        syntax: "numkeys key [key ...] [LIMIT limit]",
        run: Run::Keys(zintercard),
        ..Command::DEFAULT
    },
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

/// What becomes of the result; each has options of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Replied,
    Stored,
    Counted,
}

/// How a member's scores are made one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn parse(word: &[u8]) -> Result<Aggregate, CommandError> {
        match word {
            _ if is(word, "sum") => Ok(Aggregate::Sum),
            _ if is(word, "min") => Ok(Aggregate::Min),
            _ if is(word, "max") => Ok(Aggregate::Max),
            _ => Err(SYNTAX),
        }
    }

    /// The sum of both infinities is 0. A comparison with not-a-number keeps `one`.
    fn combine(self, one: f64, other: f64) -> f64 {
        match self {
            Aggregate::Sum => zero_if_nan(one + other),
            Aggregate::Min if other < one => other,
            Aggregate::Max if other > one => other,
            Aggregate::Min | Aggregate::Max => one,
        }
    }
}

fn zero_if_nan(score: f64) -> f64 {
    if score.is_nan() {
        0.0
    } else {
        score
    }
}

/// What a key holds.
#[derive(Clone, Copy)]
enum Source<'k> {
    Sorted(&'k SortedSet),
    Plain(&'k Set),
}

/// A source and the weight of its scores.
#[derive(Clone, Copy)]
struct Weighted<'k> {
    source: Source<'k>,
    weight: f64,
}

/// The members of a result with their scores.
type Members<'k> = Vec<(Element<'k>, f64)>;

impl<'k> Source<'k> {
    fn of(value: ValueRef<'k>) -> Result<Source<'k>, CommandError> {
        match value {
            ValueRef::Object(Value::SortedSet(set)) => Ok(Source::Sorted(set)),
            ValueRef::Object(Value::Set(set)) => Ok(Source::Plain(set)),
            _ => Err(WRONG_TYPE),
        }
    }

    fn len(self) -> usize {
        match self {
            Source::Sorted(set) => set.len(),
            Source::Plain(set) => set.len(),
        }
    }

    fn score(self, member: Element<'_>) -> Option<f64> {
        match self {
            Source::Sorted(set) => set.score(member.as_bytes(&mut IntBuffer::new())),
            Source::Plain(set) => set.contains_element(member).then_some(1.0),
        }
    }

    /// Visits all members until `visit` returns false.
    fn visit(self, mut visit: impl FnMut(Element<'k>, f64) -> bool) {
        match self {
            Source::Sorted(set) => {
                let _ = set.iter().all(|(member, score)| visit(member, score));
            }
            Source::Plain(set) => {
                let _ = set.iter().all(|member| visit(member, 1.0));
            }
        }
    }
}

/// A member as a key of hash tables: the same for all forms of one text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Name<'k> {
    Int(i64),
    Bytes(&'k [u8]),
}

impl<'k> From<Element<'k>> for Name<'k> {
    fn from(member: Element<'k>) -> Name<'k> {
        match (member.as_int(), member) {
            (Some(int), _) | (None, Element::Int(int)) => Name::Int(int),
            (None, Element::Bytes(bytes)) => Name::Bytes(bytes),
        }
    }
}

/// A request, its keys read and found to hold sets and sorted sets.
struct Request<'a> {
    operation: Operation,
    keys: Vec<Key<'a>>,
    weights: Vec<f64>,
    aggregate: Aggregate,
    shape: Shape,
    /// How many members are counted at most.
    limit: usize,
}

impl<'a> Request<'a> {
    /// Reads the number of keys in the argument `at`, then the keys, then the options.
    fn read(
        c: &mut Ctx<'a, '_>,
        at: usize,
        operation: Operation,
        outcome: Outcome,
    ) -> Result<Request<'a>, CommandError> {
        let argv = c.argv;
        let count = integer(argv.arg(at))?;
        if count < 1 {
            return Err(CommandError::no_input_key(argv.arg(0)));
        }
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count > argv.len() - (at + 1) {
            return Err(SYNTAX);
        }
        let first_option = at + 1 + count;
        let keys: Vec<Key<'a>> = (at + 1..first_option).map(|i| c.key(i)).collect();
        for &key in &keys {
            if let Some(entry) = c.keys.read(key) {
                Source::of(entry.value())?;
            }
        }
        let mut request = Request {
            operation,
            weights: vec![1.0; count],
            keys,
            aggregate: Aggregate::Sum,
            shape: Shape::Members,
            limit: usize::MAX,
        };
        request.read_options(argv.from(first_option), outcome)?;
        Ok(request)
    }

    fn read_options(&mut self, argv: resp::Argv<'_>, outcome: Outcome) -> CommandResult {
        let aggregates = self.operation != Operation::Difference && outcome != Outcome::Counted;
        let mut i = 0;
        while let Some(option) = argv.get(i) {
            let values = argv.from(i + 1);
            match values.get(0) {
                _ if aggregates && is(option, "weights") && values.len() >= self.weights.len() => {
                    for (weight, text) in self.weights.iter_mut().zip(values.iter()) {
                        *weight = datatypes::number::parse_f64(text).ok_or(WEIGHT_NOT_FLOAT)?;
                    }
                    i += self.weights.len();
                }
                Some(word) if aggregates && is(option, "aggregate") => {
                    self.aggregate = Aggregate::parse(word)?;
                    i += 1;
                }
                _ if outcome == Outcome::Replied && is(option, "withscores") => {
                    self.shape = Shape::Scored;
                }
                Some(limit) if outcome == Outcome::Counted && is(option, "limit") => {
                    self.limit = match count_or(limit, LIMIT_NEGATIVE)? {
                        0 => usize::MAX,
                        limit => limit,
                    };
                    i += 1;
                }
                _ => return Err(SYNTAX),
            }
            i += 1;
        }
        Ok(())
    }

    /// What the keys hold; none where a key is absent.
    fn sources<'k>(
        &self,
        keys: &'k Keyspace<'_, '_>,
    ) -> Result<Vec<Option<Weighted<'k>>>, CommandError> {
        let source = |(&key, &weight)| match keys.peek(key) {
            None => Ok(None),
            Some(entry) => {
                Source::of(entry.value()).map(|source| Some(Weighted { source, weight }))
            }
        };
        self.keys.iter().zip(&self.weights).map(source).collect()
    }

    /// The result, in no particular order.
    fn evaluate<'k>(&self, keys: &'k Keyspace<'_, '_>) -> Result<Members<'k>, CommandError> {
        let sources = self.sources(keys)?;
        Ok(match self.operation {
            Operation::Union => union(sources.into_iter().flatten().collect(), self.aggregate),
            Operation::Intersection => {
                let mut members = Vec::new();
                intersect(sources, self.aggregate, |member, score| {
                    members.push((member, score));
                    true
                });
                members
            }
            Operation::Difference => difference(&sources),
        })
    }
}

/// Visits the members that all sources have, until `visit` returns false. The smallest source
/// is gone through, and the next smallest is asked first, as it is the likeliest to say no.
/// Scores are combined in that order too, which decides how sums are rounded.
fn intersect<'k>(
    sources: Vec<Option<Weighted<'k>>>,
    aggregate: Aggregate,
    mut visit: impl FnMut(Element<'k>, f64) -> bool,
) {
    let sources: Option<Vec<Weighted<'k>>> = sources.into_iter().collect();
    let Some(mut sources) = sources else { return };
    sources.sort_by_key(|weighted| weighted.source.len());
    let Some((smallest, others)) = sources.split_first() else {
        return;
    };
    smallest.source.visit(|member, score| {
        let mut combined = zero_if_nan(smallest.weight * score);
        for other in others {
            let Some(score) = other.source.score(member) else {
                return true;
            };
            combined = aggregate.combine(combined, other.weight * score);
        }
        visit(member, combined)
    });
}

/// The members of any of the sources. Scores are combined in the order of the sources' sizes.
fn union<'k>(mut sources: Vec<Weighted<'k>>, aggregate: Aggregate) -> Members<'k> {
    sources.sort_by_key(|weighted| weighted.source.len());
    let largest = sources.last().map_or(0, |weighted| weighted.source.len());
    let mut members: Members<'k> = Vec::with_capacity(largest);
    let is_only = sources.len() == 1;
    let mut places: HashMap<Name<'k>, usize> =
        HashMap::with_capacity(if is_only { 0 } else { largest });
    for Weighted { source, weight } in sources {
        source.visit(|member, score| {
            let score = zero_if_nan(weight * score);
            let place = if is_only {
                members.len()
            } else {
                *places.entry(Name::from(member)).or_insert(members.len())
            };
            match members.get_mut(place) {
                Some((_, combined)) => *combined = aggregate.combine(*combined, score),
                None => members.push((member, score)),
            }
            true
        });
    }
    members
}

/// The members of the first source that the others lack, with their scores.
fn difference<'k>(sources: &[Option<Weighted<'k>>]) -> Members<'k> {
    let Some((Some(first), others)) = sources.split_first() else {
        return Vec::new();
    };
    let first = first.source;
    let mut others: Vec<Source<'k>> = others.iter().flatten().map(|w| w.source).collect();
    let mut members = Vec::new();
    // Few others are gathered in one table; many are asked where they are, the largest first, as
    // it is the likeliest to have a member.
    if others.iter().map(|other| other.len()).sum::<usize>() <= first.len() {
        let mut taken: HashSet<Name<'k>> = HashSet::new();
        for other in others {
            other.visit(|member, _| {
                taken.insert(Name::from(member));
                true
            });
        }
        first.visit(|member, score| {
            if !taken.contains(&Name::from(member)) {
                members.push((member, score));
            }
            true
        });
    } else {
        others.sort_by_key(|other| std::cmp::Reverse(other.len()));
        first.visit(|member, score| {
            if !others.iter().any(|other| other.score(member).is_some()) {
                members.push((member, score));
            }
            true
        });
    }
    members
}

/// The order of sorted sets: by score, then by the bytes of the member.
fn in_order(
    (one, score): &(Element<'_>, f64),
    (other, other_score): &(Element<'_>, f64),
) -> Ordering {
    let by_score = score.partial_cmp(other_score);
    by_score.expect("no score is not-a-number").then_with(|| {
        let (mut buffer, mut other_buffer) = (IntBuffer::new(), IntBuffer::new());
        one.as_bytes(&mut buffer)
            .cmp(other.as_bytes(&mut other_buffer))
    })
}

fn into_sorted_set(members: &[(Element<'_>, f64)], limits: &Limits) -> SortedSet {
    let longest = members.iter().map(|(member, _)| member.len()).max();
    let mut set = SortedSet::for_members(members.len(), longest.unwrap_or(0), limits);
    let mut buffer = IntBuffer::new();
    for (member, score) in members {
        set.insert(member.as_bytes(&mut buffer), *score, limits);
    }
    set
}

fn zunion(c: &mut Ctx<'_, '_>) -> CommandResult {
    reply_result(c, Operation::Union)
}

fn zinter(c: &mut Ctx<'_, '_>) -> CommandResult {
    reply_result(c, Operation::Intersection)
}

fn zdiff(c: &mut Ctx<'_, '_>) -> CommandResult {
    reply_result(c, Operation::Difference)
}

fn reply_result(c: &mut Ctx<'_, '_>, operation: Operation) -> CommandResult {
    let request = Request::read(c, 1, operation, Outcome::Replied)?;
    let mut members = request.evaluate(&c.keys)?;
    members.sort_unstable_by(in_order);
    replies::members(&mut c.reply, request.shape, members.into_iter());
    Ok(())
}

fn zunionstore(c: &mut Ctx<'_, '_>) -> CommandResult {
    store_result(c, Operation::Union, "zunionstore")
}

fn zinterstore(c: &mut Ctx<'_, '_>) -> CommandResult {
    store_result(c, Operation::Intersection, "zinterstore")
}

fn zdiffstore(c: &mut Ctx<'_, '_>) -> CommandResult {
    store_result(c, Operation::Difference, "zdiffstore")
}

fn store_result(c: &mut Ctx<'_, '_>, operation: Operation, event: &'static str) -> CommandResult {
    let request = Request::read(c, 2, operation, Outcome::Stored)?;
    let mut members = request.evaluate(&c.keys)?;
    members.sort_unstable_by(in_order);
    let result = into_sorted_set(&members, c.limits);
    store(c, result, event)
}

fn zintercard(c: &mut Ctx<'_, '_>) -> CommandResult {
    let request = Request::read(c, 1, Operation::Intersection, Outcome::Counted)?;
    let mut count = 0;
    intersect(request.sources(&c.keys)?, Aggregate::Sum, |_, _| {
        count += 1;
        count < request.limit
    });
    c.reply.integer(count as i64);
    Ok(())
}
