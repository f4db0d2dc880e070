//! All fields of a hash, and random ones.

use datatypes::{Element, Hash};
use resp::{Protocol, Reply};

use crate::args::{is, symmetric_integer};
use crate::command::{Command, Flags, Group, Run};
use crate::context::Ctx;
use crate::elements::{self, visit_sample, Draw};
use crate::errors::{CommandError, CommandResult, OUT_OF_RANGE, SYNTAX};
use crate::key_spec::KeySpec;
use crate::scan_options::{cursor, reply_empty_page, reply_page, ScanOptions, Scanned};

pub const COMMANDS: &[Command] = &[
    Command {
        name: "hgetall",
        summary: "Replies all fields of a hash with their values.",
        since: "2.0.0",
        group: Group::Hash,
        complexity: "O(N) for a hash of N fields",
        arity: 2,
        flags: Flags::READONLY,
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key",
        run: Run::Keys(hgetall),
        tips: &["nondeterministic_output_order"],
        ..Command::DEFAULT
    },
    Command {
        name: "hkeys",
        summary: "Replies all fields of a hash.",
        since: "2.0.0",
        group: Group::Hash,
        complexity: "O(N) for a hash of N fields",
        arity: 2,
        flags: Flags::READONLY,
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key",
        run: Run::Keys(hkeys),
        tips: &["nondeterministic_output_order"],
        ..Command::DEFAULT
    },
    Command {
        name: "hvals",
        summary: "Replies the values of all fields of a hash.",
        since: "2.0.0",
        group: Group::Hash,
        complexity: "O(N) for a hash of N fields",
        arity: 2,
        flags: Flags::READONLY,
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key",
        run: Run::Keys(hvals),
        tips: &["nondeterministic_output_order"],
        ..Command::DEFAULT
    },
    Command {
        name: "hrandfield",
        summary: "Replies random fields of a hash.",
        since: "6.2.0",
        group: Group::Hash,
        complexity: "O(N) for N fields replied",
        arity: -2,
        flags: Flags::READONLY,
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key [count [WITHVALUES]]",
        run: Run::Keys(hrandfield),
        tips: &["nondeterministic_output"],
        ..Command::DEFAULT
    },
    Command {
        name: "hscan",
        summary: "Iterates over the fields of a hash.",
        since: "2.8.0",
        group: Group::Hash,
        complexity: "O(1) for a call, O(N) for a whole iteration over N elements",
        arity: -3,
        flags: Flags::READONLY,
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key cursor [MATCH pattern] [COUNT count] [NOVALUES]",
        run: Run::Keys(hscan),
        tips: &["nondeterministic_output"],
        ..Command::DEFAULT
    },
];

fn hgetall(c: &mut Ctx<'_, '_>) -> CommandResult {
    let key = c.key(1);
    match c.keys.read_hash(key)? {
        None => c.reply.map(0),
        Some(hash) => {
            c.reply.map(hash.len());
            for (field, value) in hash.iter() {
                elements::bulk(&mut c.reply, field);
                elements::bulk(&mut c.reply, value);
            }
        }
    }
    Ok(())
}

fn hkeys(c: &mut Ctx<'_, '_>) -> CommandResult {
    let key = c.key(1);
    let hash = c.keys.read_hash(key)?;
    c.reply.array(hash.map_or(0, Hash::len));
    for (field, _) in hash.iter().flat_map(|hash| hash.iter()) {
        elements::bulk(&mut c.reply, field);
    }
    Ok(())
}

fn hvals(c: &mut Ctx<'_, '_>) -> CommandResult {
    let key = c.key(1);
    let hash = c.keys.read_hash(key)?;
    c.reply.array(hash.map_or(0, Hash::len));
    for (_, value) in hash.iter().flat_map(|hash| hash.iter()) {
        elements::bulk(&mut c.reply, value);
    }
    Ok(())
}

/// The count of HRANDFIELD, and whether it asks for values.
fn parse_draw(c: &Ctx<'_, '_>) -> Result<Option<(Draw, bool)>, CommandError> {
    let Some(count) = c.argv.get(2) else {
        return Ok(None);
    };
    let count = symmetric_integer(count)?;
    let with_values = match c.argv.get(3) {
        None => false,
        Some(option) if is(option, "withvalues") && c.argv.len() == 4 => true,
        Some(_) => return Err(SYNTAX),
    };
    if with_values && !(-i64::MAX / 2..=i64::MAX / 2).contains(&count) {
        return Err(OUT_OF_RANGE);
    }
    Ok(Some((Draw::from_count(count)?, with_values)))
}

/// The head of an array of fields, or of fields with their values: RESP3 has an array of pairs,
/// RESP2 a flat array.
fn reply_fields_head(reply: &mut Reply<'_>, count: usize, with_values: bool) {
    let flat = with_values && reply.protocol() == Protocol::Resp2;
    reply.array(if flat { 2 * count } else { count });
}

type Field<'h> = (Element<'h>, Element<'h>);

fn reply_field(reply: &mut Reply<'_>, (field, value): Field<'_>, with_values: bool) {
    if with_values && reply.protocol() == Protocol::Resp3 {
        reply.array(2);
    }
    elements::bulk(reply, field);
    if with_values {
        elements::bulk(reply, value);
    }
}

fn hrandfield(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, draw) = (c.key(1), parse_draw(c)?);
    let Some(hash) = c.keys.read_hash(key)? else {
        match draw {
            None => c.reply.null(),
            Some(_) => c.reply.array(0),
        }
        return Ok(());
    };
    const NOT_EMPTY: &str = "a stored hash has fields";
    let reply = &mut c.reply;
    match draw {
        None => elements::bulk(reply, hash.random(c.rng).expect(NOT_EMPTY).0),
        Some((Draw::Repeating(count), with_values)) => {
            reply_fields_head(reply, count, with_values);
            for _ in 0..count {
                reply_field(reply, hash.random(c.rng).expect(NOT_EMPTY), with_values);
            }
        }
        Some((Draw::Distinct(count), with_values)) => {
            let count = count.min(hash.len());
            reply_fields_head(reply, count, with_values);
            visit_sample(
                c.rng,
                (count, hash.len()),
                hash.iter(),
                |rng| hash.random(rng),
                |(field, _)| field.to_vec(),
                |field| reply_field(reply, field, with_values),
            );
        }
    }
    Ok(())
}

fn hscan(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, cursor) = (c.key(1), cursor(c.argv.arg(2))?);
    let Some(hash) = c.keys.read_hash(key)? else {
        // The options are not looked at unless there is a hash.
        reply_empty_page(&mut c.reply);
        return Ok(());
    };
    let options = ScanOptions::parse(c.argv, 3, Scanned::Hash)?;
    reply_page(&mut c.reply, |reply| {
        let mut replied = 0;
        let next = hash.scan(cursor, options.count, |field, value| {
            if !options.matches_element(field) {
                return;
            }
            elements::bulk(reply, field);
            replied += 1;
            if !options.no_values {
                elements::bulk(reply, value);
                replied += 1;
            }
        });
        (next, replied)
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use resp::Protocol;

    use crate::testing::World;

    const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";

    fn strings(reply: &str) -> Vec<String> {
        let quoted = reply.split('"').skip(1).step_by(2);
        quoted.map(ToString::to_string).collect()
    }

    #[test]
    fn whole_hashes_in_both_protocols() {
        let mut world = World::new(3);
        world.check(&[
            ("HSET h a 1 b two", "2"),
            ("SET s v", "OK"),
            ("HGETALL h", r#"["a", "1", "b", "two"]"#),
            ("HGETALL none", "[]"),
            ("HGETALL s", WRONG_TYPE),
            ("HKEYS h", r#"["a", "b"]"#),
            ("HKEYS none", "[]"),
            ("HVALS h", r#"["1", "two"]"#),
            ("HVALS s", WRONG_TYPE),
            ("HSCAN h 0", r#"["0", ["a", "1", "b", "two"]]"#),
            ("HSCAN h 0 NOVALUES MATCH b*", r#"["0", ["b"]]"#),
            ("HSCAN h 0 MATCH 1", r#"["0", []]"#),
            ("HSCAN none 0 x", r#"["0", []]"#),
            ("HSCAN s 0 x", WRONG_TYPE),
            ("HSCAN s x x", "-ERR invalid cursor"),
        ]);
        world.protocol = Protocol::Resp3;
        world.check(&[
            ("HGETALL h", r#"{"a": "1", "b": "two"}"#),
            ("HGETALL none", "{}"),
            ("HKEYS h", r#"["a", "b"]"#),
            ("HSCAN h 0", r#"["0", ["a", "1", "b", "two"]]"#),
        ]);
    }

    #[test]
    fn random_fields() {
        let mut world = World::new(1);
        world.check(&[
            ("HSET h a 1", "1"),
            ("HRANDFIELD h", r#""a""#),
            ("HRANDFIELD h -2", r#"["a", "a"]"#),
            ("HRANDFIELD h 2 WITHVALUES", r#"["a", "1"]"#),
            ("HRANDFIELD h 0", "[]"),
            ("HRANDFIELD none", "nil"),
            ("HRANDFIELD none 2 withvalues", "[]"),
            (
                "HRANDFIELD none x",
                "-ERR value is not an integer or out of range",
            ),
            ("HRANDFIELD none 1 foo", "-ERR syntax error"),
            ("HRANDFIELD none 1 withvalues x", "-ERR syntax error"),
            (
                "HRANDFIELD none 9223372036854775807 withvalues",
                "-ERR value is out of range",
            ),
            ("SET s v", "OK"),
            ("HRANDFIELD s", WRONG_TYPE),
        ]);
        world.protocol = Protocol::Resp3;
        world.check(&[
            ("HRANDFIELD h 2 WITHVALUES", r#"[["a", "1"]]"#),
            ("HRANDFIELD h -2 WITHVALUES", r#"[["a", "1"], ["a", "1"]]"#),
            ("HRANDFIELD none", "nil"),
        ]);
    }

    #[test]
    fn samples_and_scans_of_a_large_hash() {
        let mut world = World::new(1);
        let pairs: Vec<String> = (0..600).map(|i| format!("f{i} v{i}")).collect();
        world.run(&format!("HSET h {}", pairs.join(" ")));
        for count in [1, 10, 250, 599, 600, 1000] {
            let reply = strings(&world.run(&format!("HRANDFIELD h {count} WITHVALUES")));
            assert!(reply.chunks(2).all(|pair| pair[0][1..] == pair[1][1..]));
            let mut fields: Vec<&String> = reply.iter().step_by(2).collect();
            fields.sort();
            fields.dedup();
            assert_eq!(fields.len(), count.min(600));
        }
        let (mut cursor, mut fields) = ("0".to_string(), Vec::new());
        loop {
            let page = strings(&world.run(&format!("HSCAN h {cursor} COUNT 20 NOVALUES")));
            cursor.clone_from(&page[0]);
            fields.extend_from_slice(&page[1..]);
            if cursor == "0" {
                break;
            }
        }
        fields.sort();
        fields.dedup();
        assert_eq!(fields.len(), 600);
    }
}
