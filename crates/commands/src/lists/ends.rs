//! Pushing to and popping from a list's ends.

use std::ops::Range;

use datatypes::{Element, Encoding, Limits, List, Value};
use keyspace::Key;
use resp::{Argv, Reply};

use crate::args::{count_or, is, positive_or};
use crate::command::{Command, Deprecated, Flags, Group, Run};
use crate::context::{Ctx, Effect};
use crate::elements;
use crate::errors::{
    CommandError, CommandResult, COUNT_NOT_POSITIVE, NOT_POSITIVE, NUMKEYS_NOT_POSITIVE, SYNTAX,
};
use crate::key_spec::KeySpec;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "lpush",
        summary: "Puts elements before a list's first one, creating the list if need be.",
        since: "1.0.0",
        group: Group::List,
        complexity: "O(N) for N elements",
        arity: -3,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "insert"])],
        syntax: "key element [element ...]",
        run: Run::Keys(lpush),
        ..Command::DEFAULT
    },
    Command {
        name: "rpush",
        summary: "Puts elements behind a list's last one, creating the list if need be.",
        since: "1.0.0",
        group: Group::List,
        complexity: "O(N) for N elements",
        arity: -3,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "insert"])],
        syntax: "key element [element ...]",
        run: Run::Keys(rpush),
        ..Command::DEFAULT
    },
    Command {
        name: "lpushx",
        summary: "Puts elements before a list's first one, if the list exists.",
        since: "2.2.0",
        group: Group::List,
        complexity: "O(N) for N elements",
        arity: -3,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "insert"])],
        syntax: "key element [element ...]",
        run: Run::Keys(lpushx),
        ..Command::DEFAULT
    },
    Command {
        name: "rpushx",
        summary: "Puts elements behind a list's last one, if the list exists.",
        since: "2.2.0",
        group: Group::List,
        complexity: "O(N) for N elements",
        arity: -3,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "insert"])],
        syntax: "key element [element ...]",
        run: Run::Keys(rpushx),
        ..Command::DEFAULT
    },
    Command {
        name: "lpop",
        summary: "Takes elements from a list's beginning.",
        since: "1.0.0",
        group: Group::List,
        complexity: "O(N) for N elements taken",
        arity: -2,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "access", "delete"])],
        syntax: "key [count]",
        run: Run::Keys(lpop),
        ..Command::DEFAULT
    },
    Command {
        name: "rpop",
        summary: "Takes elements from a list's end.",
        since: "1.0.0",
        group: Group::List,
        complexity: "O(N) for N elements taken",
        arity: -2,
        flags: Flags::WRITE.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "access", "delete"])],
        syntax: "key [count]",
        run: Run::Keys(rpop),
        ..Command::DEFAULT
    },
    Command {
        name: "lmove",
        summary: "Takes an element from an end of one list and puts it at an end of another.",
        since: "6.2.0",
        group: Group::List,
        complexity: "O(1)",
        arity: 5,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[
            KeySpec::at(1, &["RW", "access", "delete"]),
            KeySpec::at(2, &["RW", "insert"]),
        ],
        syntax: "source destination <LEFT | RIGHT> <LEFT | RIGHT>",
        run: Run::Keys(lmove),
        ..Command::DEFAULT
    },
    Command {
        name: "rpoplpush",
        summary: "Takes the last element of one list and puts it before the first one of another.",
        since: "1.2.0",
        group: Group::List,
        complexity: "O(1)",
        arity: 3,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[
            KeySpec::at(1, &["RW", "access", "delete"]),
            KeySpec::at(2, &["RW", "insert"]),
        ],
        syntax: "source destination",
        run: Run::Keys(rpoplpush),
        deprecated: Some(Deprecated {
            since: "6.2.0",
            replaced_by: "`LMOVE` with the `RIGHT` and `LEFT` arguments",
        }),
        ..Command::DEFAULT
    },
    Command {
        name: "lmpop",
        summary: "Takes elements from the first list among several that is not empty.",
        since: "7.0.0",
        group: Group::List,
        complexity: "O(N+M) for N keys and M elements taken",
        arity: -4,
        flags: Flags::WRITE.union(Flags::MOVABLEKEYS),
        keys: &[KeySpec::counted(1, &["RW", "access", "delete"])],
        syntax: "numkeys key [key ...] <LEFT | RIGHT> [COUNT count]",
        run: Run::Keys(lmpop),
        ..Command::DEFAULT
    },
];

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Left,
    Right,
}

impl End {
    pub(super) fn parse(arg: &[u8]) -> Result<End, CommandError> {
        if is(arg, "left") {
            Ok(End::Left)
        } else if is(arg, "right") {
            Ok(End::Right)
        } else {
            Err(SYNTAX)
        }
    }

    /// The name of the command and of the event that push here.
    fn push_name(self) -> &'static str {
        match self {
            End::Left => "lpush",
            End::Right => "rpush",
        }
    }

    pub(super) fn pop_name(self) -> &'static str {
        match self {
            End::Left => "lpop",
            End::Right => "rpop",
        }
    }

    /// The names in capitals, as the log has commands.
    fn push_command(self) -> &'static [u8] {
        match self {
            End::Left => b"LPUSH",
            End::Right => b"RPUSH",
        }
    }

    pub(super) fn pop_command(self) -> &'static [u8] {
        match self {
            End::Left => b"LPOP",
            End::Right => b"RPOP",
        }
    }

    fn push(self, list: &mut List, value: &[u8], limits: &Limits) {
        match self {
            End::Left => list.push_front(value, limits),
            End::Right => list.push_back(value, limits),
        }
    }

    fn push_all(self, list: &mut List, values: Argv<'_>, limits: &Limits) {
        if values.len() == 1 {
            return self.push(list, values.arg(0), limits);
        }
        let values = (0..values.len()).map(move |i| values.arg(i));
        match self {
            End::Left => list.extend_front(values, limits),
            End::Right => list.extend_back(values, limits),
        }
    }

    /// The element at this end of a list that is not empty.
    pub(super) fn value(self, list: &List) -> Element<'_> {
        let end = match self {
            End::Left => list.front(),
            End::Right => list.back(),
        };
        end.expect("a stored list has elements")
    }

    pub(super) fn drop_one(self, list: &mut List, limits: &Limits) {
        match self {
            End::Left => list.drop_front(limits),
            End::Right => list.drop_back(limits),
        }
    }

    /// Moves `count` elements, which the list has, into the reply as an array.
    fn pop_array_into(self, reply: &mut Reply<'_>, list: &mut List, count: usize, limits: &Limits) {
        reply.array(count);
        let range = match self {
            End::Left => 0..count,
            End::Right => list.len() - count..list.len(),
        };
        let popped = list.range(range.clone());
        match self {
            End::Left => popped.for_each(|element| elements::bulk(reply, element)),
            End::Right => popped
                .rev()
                .for_each(|element| elements::bulk(reply, element)),
        }
        list.remove_range(range, limits);
    }
}

fn lpush(c: &mut Ctx<'_, '_>) -> CommandResult {
    push(c, End::Left, true)
}

fn rpush(c: &mut Ctx<'_, '_>) -> CommandResult {
    push(c, End::Right, true)
}

fn lpushx(c: &mut Ctx<'_, '_>) -> CommandResult {
    push(c, End::Left, false)
}

fn rpushx(c: &mut Ctx<'_, '_>) -> CommandResult {
    push(c, End::Right, false)
}

fn push(c: &mut Ctx<'_, '_>, end: End, creates: bool) -> CommandResult {
    let (key, values, limits) = (c.key(1), c.argv.from(2), c.limits);
    let len = match c.keys.list_mut(key)? {
        Some(list) => {
            end.push_all(list, values, limits);
            list.len()
        }
        None if creates => {
            let mut list = List::new();
            end.push_all(&mut list, values, limits);
            let len = list.len();
            c.keys.add_object(key, Value::List(list));
            len
        }
        None => {
            c.reply.integer(0);
            return Ok(());
        }
    };
    let pushed = values.len() as u64;
    c.keys.wrote(key, end.push_name(), pushed, Effect::AsGiven);
    c.reply.integer(len as i64);
    Ok(())
}

fn lpop(c: &mut Ctx<'_, '_>) -> CommandResult {
    pop(c, End::Left)
}

fn rpop(c: &mut Ctx<'_, '_>) -> CommandResult {
    pop(c, End::Right)
}

fn pop(c: &mut Ctx<'_, '_>, end: End) -> CommandResult {
    if c.argv.len() > 3 {
        return Err(CommandError::wrong_arity(end.pop_name()));
    }
    let count = match c.argv.get(2) {
        Some(arg) => Some(count_or(arg, NOT_POSITIVE)?),
        None => None,
    };
    let (key, limits) = (c.key(1), c.limits);
    let (popped, emptied) = match (c.keys.list_mut(key)?, count) {
        (None, None) => {
            c.reply.null();
            return Ok(());
        }
        (None, Some(_)) => {
            c.reply.null_array();
            return Ok(());
        }
        (Some(_), Some(0)) => {
            c.reply.array(0);
            return Ok(());
        }
        (Some(list), None) => {
            elements::bulk(&mut c.reply, end.value(list));
            end.drop_one(list, limits);
            (1, list.is_empty())
        }
        (Some(list), Some(count)) => {
            let count = count.min(list.len());
            end.pop_array_into(&mut c.reply, list, count, limits);
            (count as u64, list.is_empty())
        }
    };
    c.keys.wrote(key, end.pop_name(), popped, Effect::AsGiven);
    if emptied {
        c.keys.remove_if_empty(key);
    }
    Ok(())
}

fn lmove(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (from, to) = (End::parse(c.argv.arg(3))?, End::parse(c.argv.arg(4))?);
    move_or_null(c, from, to)
}

fn rpoplpush(c: &mut Ctx<'_, '_>) -> CommandResult {
    move_or_null(c, End::Right, End::Left)
}

fn move_or_null(c: &mut Ctx<'_, '_>, from: End, to: End) -> CommandResult {
    if !move_element(c, from, to)? {
        c.reply.null();
    }
    Ok(())
}

/// Moves an element from the first key's list to the second's and replies it. False, and no reply,
/// if there is none.
pub(super) fn move_element(c: &mut Ctx<'_, '_>, from: End, to: End) -> Result<bool, CommandError> {
    let (source, destination, limits) = (c.key(1), c.key(2), c.limits);
    if c.keys.list_mut(source)?.is_none() {
        return Ok(false);
    }
    if source.bytes == destination.bytes {
        rotate(c, source, from, to)?;
        return Ok(true);
    }
    // Both types are known to be right before anything changes.
    c.keys.list_mut(destination)?;
    let list = c.keys.list_mut(source)?;
    let list = list.expect("the source was found above");
    let value = from.value(list).to_vec();
    from.drop_one(list, limits);
    let emptied = list.is_empty();
    match c.keys.list_mut(destination)? {
        Some(list) => to.push(list, &value, limits),
        None => {
            let mut list = List::new();
            to.push(&mut list, &value, limits);
            c.keys.add_object(destination, Value::List(list));
        }
    }
    let push: [&[u8]; 3] = [to.push_command(), destination.bytes, &value];
    let pop = [from.pop_command(), source.bytes];
    c.keys
        .wrote(destination, to.push_name(), 0, Effect::Command(&push));
    c.keys
        .wrote(source, from.pop_name(), 1, Effect::Command(&pop));
    if emptied {
        c.keys.remove_if_empty(source);
    }
    c.reply.bulk(&value);
    Ok(true)
}

/// LMOVE within one list, which exists.
fn rotate(c: &mut Ctx<'_, '_>, key: Key<'_>, from: End, to: End) -> CommandResult {
    let limits = c.limits;
    if let Some(list) = c.keys.list_mut(key)? {
        let value = from.value(list).to_vec();
        // The list does not shrink: neither order may find it short of the limit where it
        // changes its encoding.
        if list.encoding() == Encoding::Quicklist {
            to.push(list, &value, limits);
            from.drop_one(list, limits);
        } else {
            from.drop_one(list, limits);
            to.push(list, &value, limits);
        }
        c.reply.bulk(&value);
    }
    c.keys.wrote(key, to.push_name(), 0, Effect::Covered);
    c.keys.wrote(key, from.pop_name(), 1, Effect::AsGiven);
    Ok(())
}

fn lmpop(c: &mut Ctx<'_, '_>) -> CommandResult {
    let pops = Pops::parse(c.argv, 1)?;
    if !pop_from_first(c, &pops)? {
        c.reply.null_array();
    }
    Ok(())
}

/// `numkeys key [key ...] <LEFT | RIGHT> [COUNT count]`
pub(super) struct Pops {
    /// The arguments that are keys.
    pub keys: Range<usize>,
    end: End,
    count: usize,
}

impl Pops {
    /// Reads all arguments from `numkeys`, at `at`, to the last.
    pub(super) fn parse(argv: Argv<'_>, at: usize) -> Result<Pops, CommandError> {
        let keys = positive_or(argv.arg(at), NUMKEYS_NOT_POSITIVE)?;
        let end_at = keys.saturating_add(at + 1);
        let end = End::parse(argv.get(end_at).ok_or(SYNTAX)?)?;
        let count = match (argv.get(end_at + 1), argv.get(end_at + 2)) {
            (None, _) => 1,
            (Some(option), Some(count)) if is(option, "count") => {
                let count = positive_or(count, COUNT_NOT_POSITIVE)?;
                if argv.len() > end_at + 3 {
                    return Err(SYNTAX);
                }
                count
            }
            _ => return Err(SYNTAX),
        };
        Ok(Pops {
            keys: at + 1..end_at,
            end,
            count,
        })
    }
}

/// Takes elements from the first list that has some and replies them with its name. False, and no
/// reply, if none has.
pub(super) fn pop_from_first(c: &mut Ctx<'_, '_>, pops: &Pops) -> Result<bool, CommandError> {
    let (end, limits) = (pops.end, c.limits);
    for i in pops.keys.clone() {
        let key = c.key(i);
        if !c.keys.holds(key) {
            continue;
        }
        let Some(list) = c.keys.list_mut(key)? else {
            continue;
        };
        let count = pops.count.min(list.len());
        c.reply.array(2);
        c.reply.bulk(key.bytes);
        end.pop_array_into(&mut c.reply, list, count, limits);
        let emptied = list.is_empty();
        let mut digits = itoa::Buffer::new();
        let count_text = digits.format(count).as_bytes();
        let pop = [end.pop_command(), key.bytes, count_text];
        c.keys
            .wrote(key, end.pop_name(), count as u64, Effect::Command(&pop));
        if emptied {
            c.keys.remove_if_empty(key);
        }
        return Ok(true);
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use crate::testing::World;

    #[test]
    fn pushes_and_pops() {
        for shards in [1, 3] {
            let mut world = World::new(shards);
            world.check(&[
                ("LPUSH l a b c", "3"),
                ("RPUSH l 1 22", "5"),
                ("RPUSHX l x", "6"),
                ("LPUSHX none x", "0"),
                ("LRANGE l 0 -1", r#"["c", "b", "a", "1", "22", "x"]"#),
                ("LPOP l", r#""c""#),
                ("RPOP l 2", r#"["x", "22"]"#),
                ("LPOP l 0", "[]"),
                ("LPOP l 100", r#"["b", "a", "1"]"#),
                ("EXISTS l", "0"),
                ("LPOP l", "nil"),
                ("LPOP l 0", "nil-array"),
                ("LPOP l -1", "-ERR value is out of range, must be positive"),
                ("LPOP l x", "-ERR value is out of range, must be positive"),
                (
                    "LPOP l 1 2",
                    "-ERR wrong number of arguments for 'lpop' command",
                ),
                ("SET s v", "OK"),
                (
                    "RPUSH s a",
                    "-WRONGTYPE Operation against a key holding the wrong kind of value",
                ),
                (
                    "LPOP s 1",
                    "-WRONGTYPE Operation against a key holding the wrong kind of value",
                ),
                ("RPUSH l again", "1"),
            ]);
            world.assert_replays();
        }
    }

    #[test]
    fn changes_are_counted_and_logged_once() {
        let mut world = World::new(1);
        world.run("RPUSH l a b c");
        assert_eq!(
            (world.dirty(), world.effects()),
            (3, vec!["RPUSH l a b c".into()])
        );
        world.run("LPUSHX none a");
        world.run("LPOP l 0");
        assert_eq!((world.dirty(), world.effects().len()), (3, 0));
        world.run("RPOP l 2");
        assert_eq!(
            (world.dirty(), world.effects()),
            (5, vec!["RPOP l 2".into()])
        );
        world.run("LPOP l");
        assert_eq!((world.dirty(), world.effects()), (6, vec!["LPOP l".into()]));
    }

    #[test]
    fn moves_have_an_effect_per_key() {
        for shards in [1, 3] {
            let mut world = World::new(shards);
            world.check(&[
                ("RPUSH src a b c", "3"),
                ("LMOVE src dst LEFT right", r#""a""#),
            ]);
            let mut effects = world.effects();
            effects.sort();
            assert_eq!(effects, ["LPOP src", "RPUSH dst a"]);
            assert_eq!(world.dirty(), 4);
            world.check(&[
                ("LMOVE dst dst LEFT RIGHT", r#""a""#),
                ("RPOPLPUSH src src", r#""c""#),
                ("RPOPLPUSH src dst", r#""b""#),
                ("LRANGE src 0 -1", r#"["c"]"#),
                ("LRANGE dst 0 -1", r#"["b", "a"]"#),
                ("LMOVE src dst RIGHT RIGHT", r#""c""#),
                ("EXISTS src", "0"),
                ("LMOVE src dst RIGHT RIGHT", "nil"),
                ("LMOVE src dst RIGHT up", "-ERR syntax error"),
                ("SET s v", "OK"),
                ("LMOVE src s LEFT LEFT", "nil"),
                (
                    "LMOVE dst s LEFT LEFT",
                    "-WRONGTYPE Operation against a key holding the wrong kind of value",
                ),
                (
                    "LMOVE s dst LEFT LEFT",
                    "-WRONGTYPE Operation against a key holding the wrong kind of value",
                ),
                ("LRANGE dst 0 -1", r#"["b", "a", "c"]"#),
            ]);
            world.assert_replays();
        }
    }

    #[test]
    fn lmpop_takes_from_the_first_list() {
        for shards in [1, 3] {
            let mut world = World::new(shards);
            world.check(&[
                ("RPUSH b 1 2 3", "3"),
                ("LMPOP 3 a b c RIGHT COUNT 2", r#"["b", ["3", "2"]]"#),
            ]);
            assert_eq!(world.effects(), ["RPOP b 2"]);
            world.check(&[
                ("LMPOP 2 a b LEFT", r#"["b", ["1"]]"#),
                ("LMPOP 2 a b LEFT", "nil-array"),
                ("LMPOP 0 a LEFT", "-ERR numkeys should be greater than 0"),
                ("LMPOP 9223372036854775807 a LEFT", "-ERR syntax error"),
                (
                    "LMPOP 1 a LEFT COUNT 0",
                    "-ERR count should be greater than 0",
                ),
                ("LMPOP 1 a LEFT COUNT 1 COUNT 1", "-ERR syntax error"),
                ("LMPOP 1 a LEFT COUNT", "-ERR syntax error"),
            ]);
            world.assert_replays();
        }
    }
}
