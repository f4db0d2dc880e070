//! Elements of a list by index or by value.

use crate::args::{count_or, integer, is, symmetric_integer};
use crate::command::{Command, Flags, Group, Run};
use crate::context::{Ctx, Effect};
use crate::elements;
use crate::errors::{
    CommandError, CommandResult, COUNT_NEGATIVE, INDEX_OUT_OF_RANGE, MAXLEN_NEGATIVE, NO_SUCH_KEY,
    RANK_ZERO, SYNTAX,
};
use crate::key_spec::KeySpec;
use crate::lists::{included_range, place};

pub const COMMANDS: &[Command] = &[
    Command {
        name: "llen",
        summary: "Replies a list's length.",
        since: "1.0.0",
        group: Group::List,
        complexity: "O(1)",
        arity: 2,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO"])],
        syntax: "key",
        run: Run::Keys(llen),
        ..Command::DEFAULT
    },
    Command {
        name: "lrange",
        summary: "Replies the elements between two indexes.",
        since: "1.0.0",
        group: Group::List,
        complexity: "O(S+N) for N elements that begin S away from the nearer end",
        arity: 4,
        flags: Flags::READONLY,
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key start stop",
        run: Run::Keys(lrange),
        ..Command::DEFAULT
    },
    Command {
        name: "lindex",
        summary: "Replies the element at an index.",
        since: "1.0.0",
        group: Group::List,
        complexity: "O(N) for an index N away from the nearer end",
        arity: 3,
        flags: Flags::READONLY,
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key index",
        run: Run::Keys(lindex),
        ..Command::DEFAULT
    },
    Command {
        name: "lpos",
        summary: "Replies the indexes at which an element occurs.",
        since: "6.0.6",
        group: Group::List,
        complexity: "O(N) for N elements compared",
        arity: -3,
        flags: Flags::READONLY,
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key element [RANK rank] [COUNT num-matches] [MAXLEN len]",
        run: Run::Keys(lpos),
        ..Command::DEFAULT
    },
    Command {
        name: "lset",
        summary: "Replaces the element at an index.",
        since: "1.0.0",
        group: Group::List,
        complexity: "O(N) for an index N away from the nearer end",
        arity: 4,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[KeySpec::at(1, &["RW", "update"])],
        syntax: "key index element",
        run: Run::Keys(lset),
        ..Command::DEFAULT
    },
    Command {
        name: "linsert",
        summary: "Puts an element next to the first one that equals the pivot.",
        since: "2.2.0",
        group: Group::List,
        complexity: "O(N) for a pivot N behind the beginning",
        arity: 5,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[KeySpec::at(1, &["RW", "insert"])],
        syntax: "key <BEFORE | AFTER> pivot element",
        run: Run::Keys(linsert),
        ..Command::DEFAULT
    },
    Command {
        name: "lrem",
        summary: "Removes elements that equal the one given.",
        since: "1.0.0",
        group: Group::List,
        complexity: "O(N+M) for a list of N elements of which M go",
        arity: 4,
        flags: Flags::WRITE,
        keys: &[KeySpec::at(1, &["RW", "delete"])],
        syntax: "key count element",
        run: Run::Keys(lrem),
        ..Command::DEFAULT
    },
    Command {
        name: "ltrim",
        summary: "Removes the elements outside a range of indexes.",
        since: "1.0.0",
        group: Group::List,
        complexity: "O(N) for N elements removed",
        arity: 4,
        flags: Flags::WRITE,
        keys: &[KeySpec::at(1, &["RW", "delete"])],
        syntax: "key start stop",
        run: Run::Keys(ltrim),
        ..Command::DEFAULT
    },
];

fn llen(c: &mut Ctx<'_, '_>) -> CommandResult {
    let key = c.key(1);
    let len = c.keys.read_list(key)?.map_or(0, |list| list.len());
    c.reply.integer(len as i64);
    Ok(())
}

fn lrange(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (start, stop) = (integer(c.argv.arg(2))?, integer(c.argv.arg(3))?);
    let key = c.key(1);
    let Some(list) = c.keys.read_list(key)? else {
        c.reply.array(0);
        return Ok(());
    };
    let range = included_range(start, stop, list.len());
    c.reply.array(range.len());
    for element in list.range(range) {
        elements::bulk(&mut c.reply, element);
    }
    Ok(())
}

fn lindex(c: &mut Ctx<'_, '_>) -> CommandResult {
    let key = c.key(1);
    let Some(list) = c.keys.read_list(key)? else {
        // The index is not looked at unless there is a list.
        c.reply.null();
        return Ok(());
    };
    let index = integer(c.argv.arg(2))?;
    match place(index, list.len()).and_then(|index| list.get(index)) {
        Some(element) => elements::bulk(&mut c.reply, element),
        None => c.reply.null(),
    }
    Ok(())
}

/// The options of LPOS.
struct Search {
    /// Which match to begin with, from 0.
    skipped: u64,
    from_tail: bool,
    /// How many matches, 0 for all; none for one match that is no array.
    count: Option<usize>,
    max_compared: usize,
}

impl Search {
    fn parse(c: &Ctx<'_, '_>) -> Result<Search, CommandError> {
        let mut search = Search {
            skipped: 0,
            from_tail: false,
            count: None,
            max_compared: usize::MAX,
        };
        for i in (3..c.argv.len()).step_by(2) {
            let (option, value) = (c.argv.arg(i), c.argv.get(i + 1).ok_or(SYNTAX)?);
            if is(option, "rank") {
                let rank = symmetric_integer(value)?;
                search.from_tail = rank < 0;
                search.skipped = rank.unsigned_abs().checked_sub(1).ok_or(RANK_ZERO)?;
            } else if is(option, "count") {
                search.count = Some(count_or(value, COUNT_NEGATIVE)?);
            } else if is(option, "maxlen") {
                search.max_compared = match count_or(value, MAXLEN_NEGATIVE)? {
                    0 => usize::MAX,
                    max => max,
                };
            } else {
                return Err(SYNTAX);
            }
        }
        Ok(search)
    }
}

fn lpos(c: &mut Ctx<'_, '_>) -> CommandResult {
    let search = Search::parse(c)?;
    let (key, value) = (c.key(1), c.argv.arg(2));
    let Some(list) = c.keys.read_list(key)? else {
        match search.count {
            Some(_) => c.reply.array(0),
            None => c.reply.null(),
        }
        return Ok(());
    };
    let mut skipped = 0;
    let mut matches = |wanted: usize, found: &mut dyn FnMut(usize)| {
        let mut left = wanted;
        list.positions(value, search.from_tail, search.max_compared, |index| {
            if skipped < search.skipped {
                skipped += 1;
                return true;
            }
            found(index);
            left -= 1;
            left > 0
        });
    };
    match search.count {
        None => {
            let mut first = None;
            matches(1, &mut |index| first = Some(index));
            match first {
                Some(index) => c.reply.integer(index as i64),
                None => c.reply.null(),
            }
        }
        Some(count) => c.reply.array_deferred(|reply| {
            let mut found = 0;
            let wanted = if count == 0 { usize::MAX } else { count };
            matches(wanted, &mut |index| {
                reply.integer(index as i64);
                found += 1;
            });
            found
        }),
    }
    Ok(())
}

fn lset(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, limits) = (c.key(1), c.limits);
    let list = c.keys.list_mut(key)?.ok_or(NO_SUCH_KEY)?;
    let index = place(integer(c.argv.arg(2))?, list.len());
    // Redis makes room for the value before it looks for the place: the encoding may change even so.
    list.set(index.unwrap_or(usize::MAX), c.argv.arg(3), limits);
    index.ok_or(INDEX_OUT_OF_RANGE)?;
    c.keys.wrote(key, "lset", 1, Effect::AsGiven);
    c.reply.ok();
    Ok(())
}

fn linsert(c: &mut Ctx<'_, '_>) -> CommandResult {
    let after = is(c.argv.arg(2), "after");
    if !after && !is(c.argv.arg(2), "before") {
        return Err(SYNTAX);
    }
    let (key, limits) = (c.key(1), c.limits);
    let (pivot, value) = (c.argv.arg(3), c.argv.arg(4));
    let Some(list) = c.keys.list_mut(key)? else {
        c.reply.integer(0);
        return Ok(());
    };
    let inserted = if after {
        list.insert_after(pivot, value, limits)
    } else {
        list.insert_before(pivot, value, limits)
    };
    if !inserted {
        c.reply.integer(-1);
        return Ok(());
    }
    c.reply.integer(list.len() as i64);
    c.keys.wrote(key, "linsert", 1, Effect::AsGiven);
    Ok(())
}

fn lrem(c: &mut Ctx<'_, '_>) -> CommandResult {
    let count = symmetric_integer(c.argv.arg(2))?;
    let max = match count.unsigned_abs() as usize {
        0 => usize::MAX,
        max => max,
    };
    let (key, value, limits) = (c.key(1), c.argv.arg(3), c.limits);
    let Some(list) = c.keys.list_mut(key)? else {
        c.reply.integer(0);
        return Ok(());
    };
    let removed = list.remove_value(value, max, count < 0, limits);
    c.reply.integer(removed as i64);
    if removed > 0 {
        c.keys.wrote(key, "lrem", removed as u64, Effect::AsGiven);
        c.keys.remove_if_empty(key);
    }
    Ok(())
}

fn ltrim(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (start, stop) = (integer(c.argv.arg(2))?, integer(c.argv.arg(3))?);
    let (key, limits) = (c.key(1), c.limits);
    let Some(list) = c.keys.list_mut(key)? else {
        c.reply.ok();
        return Ok(());
    };
    let kept = included_range(start, stop, list.len());
    let removed = (list.len() - kept.len()) as u64;
    if removed == 0 {
        // Redis counts this as no change, but says that the key was touched.
        c.keys.wrote(key, "ltrim", 0, Effect::Covered);
    } else if kept.is_empty() {
        c.keys.wrote(key, "ltrim", removed, Effect::AsGiven);
        if let Some(entry) = c.keys.remove(key) {
            c.keys.free(key, entry);
        }
        c.keys.wrote(key, "del", 0, Effect::Covered);
    } else {
        list.trim(kept, limits);
        c.keys.wrote(key, "ltrim", removed, Effect::AsGiven);
    }
    c.reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::World;

    const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    const NOT_INTEGER: &str = "-ERR value is not an integer or out of range";

    fn world() -> World {
        let mut world = World::new(3);
        world.check(&[("RPUSH l a b c b a 12", "6"), ("SET s v", "OK")]);
        world
    }

    #[test]
    fn elements_are_read_by_index() {
        world().check(&[
            ("LLEN l", "6"),
            ("LLEN none", "0"),
            ("LLEN s", WRONG_TYPE),
            ("LINDEX l 0", r#""a""#),
            ("LINDEX l -1", r#""12""#),
            ("LINDEX l 6", "nil"),
            ("LINDEX l x", NOT_INTEGER),
            ("LINDEX none x", "nil"),
            ("LINDEX s x", WRONG_TYPE),
            ("LRANGE l 1 2", r#"["b", "c"]"#),
            ("LRANGE l -2 100", r#"["a", "12"]"#),
            ("LRANGE l 4 2", "[]"),
            ("LRANGE none 0 -1", "[]"),
            ("LRANGE s x 0", NOT_INTEGER),
            ("LRANGE s 0 0", WRONG_TYPE),
        ]);
    }

    #[test]
    fn lpos_counts_matches_and_comparisons() {
        world().check(&[
            ("LPOS l b", "1"),
            ("LPOS l zz", "nil"),
            ("LPOS none b", "nil"),
            ("LPOS none b COUNT 1", "[]"),
            ("LPOS l b RANK 2", "3"),
            ("LPOS l b RANK 3", "nil"),
            ("LPOS l b RANK -1", "3"),
            ("LPOS l b COUNT 0", "[1, 3]"),
            ("LPOS l b COUNT 0 RANK -1", "[3, 1]"),
            ("LPOS l b COUNT 1 RANK -2", "[1]"),
            ("LPOS l b COUNT 0 MAXLEN 3", "[1]"),
            ("LPOS l b COUNT 0 MAXLEN 0", "[1, 3]"),
            ("LPOS l 12 RANK -1 MAXLEN 1", "5"),
            ("LPOS l a RANK -1 MAXLEN 1", "nil"),
            ("LPOS l a RANK 9223372036854775807", "nil"),
            ("LPOS l a COUNT", "-ERR syntax error"),
            ("LPOS l a COUNT -1", "-ERR COUNT can't be negative"),
            ("LPOS l a MAXLEN x", "-ERR MAXLEN can't be negative"),
            ("LPOS l a RANK x", NOT_INTEGER),
            ("LPOS s a", WRONG_TYPE),
        ]);
        assert!(world()
            .run("LPOS l a RANK 0")
            .starts_with("-ERR RANK can't be zero: use 1"));
    }

    #[test]
    fn elements_are_changed() {
        let mut world = world();
        world.check(&[
            ("LSET l 1 B", "OK"),
            ("LSET l -1 34", "OK"),
            ("LSET l 6 x", "-ERR index out of range"),
            ("LSET none x x", "-ERR no such key"),
            ("LSET s x x", WRONG_TYPE),
            ("LSET l x x", NOT_INTEGER),
            ("LINSERT l before a first", "7"),
            ("LINSERT l AFTER 34 last", "8"),
            ("LINSERT l AFTER zz last", "-1"),
            ("LINSERT none AFTER zz last", "0"),
            ("LINSERT none beside zz last", "-ERR syntax error"),
            (
                "LRANGE l 0 -1",
                r#"["first", "a", "B", "c", "b", "a", "34", "last"]"#,
            ),
            ("LREM l -1 a", "1"),
            ("LREM l 0 zz", "0"),
            ("LREM none 0 zz", "0"),
            ("LREM l x a", NOT_INTEGER),
            (
                "LRANGE l 0 -1",
                r#"["first", "a", "B", "c", "b", "34", "last"]"#,
            ),
            ("LTRIM l 1 -2", "OK"),
            ("LRANGE l 0 -1", r#"["a", "B", "c", "b", "34"]"#),
        ]);
        world.assert_replays();
        let dirty = world.dirty();
        world.check(&[("LTRIM l 0 -1", "OK"), ("LTRIM none 0 1", "OK")]);
        assert_eq!((world.dirty(), world.effects().len()), (dirty, 0));
        world.check(&[("LTRIM l 3 1", "OK"), ("EXISTS l", "0")]);
        assert_eq!(world.dirty(), dirty + 5);
        world.check(&[("RPUSH l x x", "2"), ("LREM l 0 x", "2"), ("EXISTS l", "0")]);
        world.assert_replays();
    }
}
