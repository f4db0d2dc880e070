//! XCLAIM and XAUTOCLAIM: pending entries change hands.

use datatypes::stream::{ConsumerIndex, Group, Pending, Stream, StreamId};
use keyspace::Key;
use resp::Argv;

use super::groups::seen_consumer;
use super::{
    entry_into, exact_id, id_into, interval_end, no_group, put_back, stamp, take_group, End,
    GroupEffects,
};
use crate::args::{integer, integer_or, is};
use crate::command::{Command, Flags, Run};
use crate::context::Ctx;
use crate::errors::{
    before_zero_byte, CommandError, CommandResult, AUTOCLAIM_COUNT_INVALID,
    AUTOCLAIM_COUNT_TOO_HIGH, AUTOCLAIM_IDLE_INVALID, CLAIM_IDLE_INVALID,
    CLAIM_IDLE_OPTION_INVALID, CLAIM_RETRYCOUNT_INVALID, CLAIM_TIME_INVALID, SYNTAX,
};
use crate::key_spec::KeySpec;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "xclaim",
        summary: "Gives pending entries to a consumer, whoever had them before.",
        complexity: "O(log(N)) per entry with N pending entries",
        arity: -6,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "update"])],
        syntax: "key group consumer min-idle-time id [id ...] [IDLE ms] [TIME unix-time-milliseconds] [RETRYCOUNT count] [FORCE] [JUSTID] [LASTID lastid]",
        run: Run::Keys(xclaim),
        tips: &["nondeterministic_output"],
        ..super::ROW
    },
    Command {
        name: "xautoclaim",
        summary: "Gives pending entries that were idle for long enough to a consumer.",
        since: "6.2.0",
        complexity: "O(1) if COUNT is small",
        arity: -6,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "delete"])],
        syntax: "key group consumer min-idle-time start [COUNT count] [JUSTID]",
        run: Run::Keys(xautoclaim),
        tips: &["nondeterministic_output"],
        ..super::ROW
    },
];

/// What XCLAIM says behind the IDs.
#[derive(Default)]
struct ClaimOptions {
    force: bool,
    just_id: bool,
    delivered_at: Option<i64>,
    deliveries: Option<u64>,
    last_id: StreamId,
}

impl ClaimOptions {
    fn parse(argv: Argv<'_>, now: i64) -> Result<ClaimOptions, CommandError> {
        let mut options = ClaimOptions::default();
        // Redis keeps "not given" as a number: a time computed to be -1 counts as not given.
        let given = |at: i64| Some(at).filter(|&at| at != -1);
        let mut at = 0;
        while let Some(word) = argv.get(at) {
            at += 1;
            if is(word, "force") {
                options.force = true;
                continue;
            } else if is(word, "justid") {
                options.just_id = true;
                continue;
            }
            let unknown = || unrecognized(word);
            let value = argv.get(at).ok_or_else(unknown)?;
            if is(word, "idle") {
                let idle = integer_or(value, CLAIM_IDLE_OPTION_INVALID)?;
                options.delivered_at = given(now.wrapping_sub(idle));
            } else if is(word, "time") {
                options.delivered_at = given(integer_or(value, CLAIM_TIME_INVALID)?);
            } else if is(word, "retrycount") {
                let count = integer_or(value, CLAIM_RETRYCOUNT_INVALID)?;
                options.deliveries = u64::try_from(count).ok();
            } else if is(word, "lastid") {
                options.last_id = exact_id(value)?;
            } else {
                return Err(unknown());
            }
            at += 1;
        }
        Ok(options)
    }
}

fn unrecognized(option: &[u8]) -> CommandError {
    let option = before_zero_byte(option);
    [b"ERR Unrecognized XCLAIM option '", option, b"'"]
        .concat()
        .into()
}

/// Whom the claims of one call are for, and what has come of them.
struct Claims<'s, 'k> {
    stream: &'s Stream,
    group: Group,
    consumer: ConsumerIndex,
    now: i64,
    just_id: bool,
    effects: GroupEffects<'k>,
}

impl Claims<'_, '_> {
    /// An entry that was deleted is pending no longer.
    fn forget(&mut self, id: StreamId, pending: &Pending) {
        self.effects.claim(&self.group, id, pending);
        self.effects.changes += 1;
        self.group.acknowledge(id);
    }

    fn give(&mut self, id: StreamId, pending: Pending, reply: &mut resp::Reply<'_>) {
        self.group.assign(id, pending);
        match self.stream.get(id).filter(|_| !self.just_id) {
            Some(entry) => entry_into(reply, &entry),
            None => id_into(reply, id),
        }
        self.group.consumer_mut(self.consumer).active_at = Some(self.now);
        self.effects.claim(&self.group, id, &pending);
        self.effects.changes += 1;
    }
}

/// Has `claim` run on a group, which was seen to exist, and reports what it did.
fn claiming<'k>(
    c: &mut Ctx<'k, '_>,
    key: Key<'k>,
    last_id: StreamId,
    just_id: bool,
    claim: impl FnOnce(&mut Claims<'_, 'k>, &mut resp::Reply<'_>),
) -> CommandResult {
    let (name, consumer, now) = (c.argv.arg(2), c.argv.arg(3), stamp(c));
    let stream = c.keys.stream_mut(key)?;
    let Some((stream, mut group)) =
        stream.and_then(|stream| take_group(stream, name).map(|group| (stream, group)))
    else {
        return Err(no_group(key.bytes, name, ""));
    };
    let mut effects = GroupEffects::new(key, name);
    let moves_on = last_id > group.last_id;
    if moves_on {
        group.last_id = last_id;
    }
    let consumer = seen_consumer(&mut group, consumer, now, &mut effects);
    let mut claims = Claims {
        stream,
        group,
        consumer,
        now,
        just_id,
        effects,
    };
    let before = claims.effects.changes;
    claim(&mut claims, &mut c.reply);
    let Claims {
        group, mut effects, ..
    } = claims;
    if moves_on && effects.changes == before {
        effects.position(&group);
        effects.changes += 1;
    }
    put_back(stream, name, group);
    effects.report(&mut c.keys, key);
    Ok(())
}

fn check_group(c: &mut Ctx<'_, '_>, key: Key<'_>) -> CommandResult {
    let name = c.argv.arg(2);
    match c.keys.read_stream(key)? {
        Some(stream) if stream.groups.contains_key(name) => Ok(()),
        _ => Err(no_group(key.bytes, name, "")),
    }
}

fn xclaim(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, argv, now) = (c.key(1), c.argv, stamp(c));
    check_group(c, key)?;
    let idle_ms_min = integer_or(argv.arg(4), CLAIM_IDLE_INVALID)?.max(0);
    let ids: Vec<StreamId> = argv
        .from(5)
        .iter()
        .map_while(|arg| exact_id(arg).ok())
        .collect();
    let options = ClaimOptions::parse(argv.from(5 + ids.len()), now)?;
    let delivered_at = match options.delivered_at {
        Some(at) if (0..=now).contains(&at) => at,
        _ => now,
    };
    claiming(c, key, options.last_id, options.just_id, |claims, reply| {
        reply.array_deferred(|reply| {
            let mut given = 0;
            for id in ids {
                let old = claims.group.pending(id).copied();
                if !claims.stream.contains(id) {
                    if let Some(old) = old {
                        claims.forget(id, &old);
                    }
                    continue;
                }
                let deliveries = match old {
                    Some(old)
                        if idle_ms_min > 0 && now.wrapping_sub(old.delivered_at) < idle_ms_min =>
                    {
                        continue
                    }
                    Some(old) => old.deliveries,
                    None if options.force => 1,
                    None => continue,
                };
                let counted = u64::from(!options.just_id);
                let deliveries = options
                    .deliveries
                    .unwrap_or(deliveries.wrapping_add(counted));
                let pending = Pending {
                    consumer: claims.consumer,
                    delivered_at,
                    deliveries,
                };
                claims.give(id, pending, reply);
                given += 1;
            }
            given
        });
    })
}

/// How much one XAUTOCLAIM may look at, for each entry it may claim.
const ATTEMPTS_PER_ENTRY: usize = 10;

/// COUNT and JUSTID.
fn autoclaim_options(argv: Argv<'_>) -> Result<(usize, bool), CommandError> {
    const COUNT_DEFAULT: usize = 100;
    /// So that the count times the size of an ID is a number in C.
    const COUNT_MAX: i64 = i64::MAX / 16;
    /// Redis allocates an ID for each; beyond this it cannot.
    const COUNT_ALLOCATED_MAX: i64 = 1 << 42;
    let (mut count, mut just_id) = (COUNT_DEFAULT, false);
    let mut at = 6;
    while let Some(word) = argv.get(at) {
        at += 1;
        if is(word, "justid") {
            just_id = true;
            continue;
        }
        let value = argv.get(at).filter(|_| is(word, "count"));
        count = match integer(value.ok_or(SYNTAX)?) {
            Ok(n @ 1..=COUNT_MAX) if n > COUNT_ALLOCATED_MAX => {
                return Err(AUTOCLAIM_COUNT_TOO_HIGH)
            }
            Ok(n @ 1..=COUNT_MAX) => n as usize,
            Ok(_) | Err(_) => return Err(AUTOCLAIM_COUNT_INVALID),
        };
        at += 1;
    }
    Ok((count, just_id))
}

fn xautoclaim(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, argv, now) = (c.key(1), c.argv, stamp(c));
    let idle_ms_min = integer_or(argv.arg(4), AUTOCLAIM_IDLE_INVALID)?.max(0);
    let start = interval_end(argv.arg(5), End::Start)?;
    let (count, just_id) = autoclaim_options(argv)?;
    check_group(c, key)?;
    claiming(c, key, StreamId::MIN, just_id, |claims, reply| {
        let looked_at = count.saturating_mul(ATTEMPTS_PER_ENTRY);
        let mut next = Some(start);
        let (mut given, mut deleted, mut given_replies) = (0, Vec::new(), Vec::new());
        let mut given_reply = resp::Reply::new(&mut given_replies, reply.protocol());
        let mut attempts = 0;
        while attempts < looked_at && given + deleted.len() < count {
            let Some(from) = next else { break };
            let Some((id, &old)) = claims.group.pending_range(from..).next() else {
                next = None;
                break;
            };
            attempts += 1;
            next = id.next();
            if !claims.stream.contains(id) {
                claims.forget(id, &old);
                deleted.push(id);
                continue;
            }
            if idle_ms_min > 0 && now.wrapping_sub(old.delivered_at) < idle_ms_min {
                continue;
            }
            let pending = Pending {
                consumer: claims.consumer,
                delivered_at: now,
                deliveries: old.deliveries.wrapping_add(u64::from(!just_id)),
            };
            claims.give(id, pending, &mut given_reply);
            given += 1;
        }
        let rest = next.and_then(|from| claims.group.pending_range(from..).next());
        reply.array(3);
        id_into(reply, rest.map_or(StreamId::MIN, |(id, _)| id));
        reply.array(given);
        reply.raw(&given_replies);
        reply.array(deleted.len());
        deleted.iter().for_each(|&id| id_into(reply, id));
    })
}
