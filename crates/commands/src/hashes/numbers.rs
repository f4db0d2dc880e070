//! Counting in a field of a hash. A field that is absent counts from 0.

use datatypes::number::ExtendedFloat;
use datatypes::{Element, Hash, IntBuffer, Value};

use crate::args::integer;
use crate::command::{Command, Flags, Group, Run};
use crate::context::{Ctx, Effect};
use crate::errors::{
    CommandError, CommandResult, HASH_VALUE_NOT_FLOAT, HASH_VALUE_NOT_INTEGER,
    INCREMENT_NOT_FINITE, INCREMENT_OVERFLOW, NAN_OR_INFINITY, NOT_FLOAT,
};
use crate::hashes::with_expiry::log_kept_time;
use crate::key_spec::KeySpec;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "hincrby",
        summary: "Adds an integer to the one in a field, which begins at 0.",
        since: "2.0.0",
        group: Group::Hash,
        complexity: "O(1)",
        arity: 4,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "access", "update"])],
        syntax: "key field increment",
        run: Run::Keys(hincrby),
        ..Command::DEFAULT
    },
    Command {
        name: "hincrbyfloat",
        summary: "Adds a number to the one in a field, which begins at 0.",
        since: "2.6.0",
        group: Group::Hash,
        complexity: "O(1)",
        arity: 4,
        flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RW", "access", "update"])],
        syntax: "key field increment",
        run: Run::Keys(hincrbyfloat),
        ..Command::DEFAULT
    },
];

/// Sets the field in argument 2 to what `next` makes of its present value, and returns that;
/// `text` is how it is stored.
fn replace_value<N, T: AsRef<[u8]>>(
    c: &mut Ctx<'_, '_>,
    next: impl FnOnce(Option<Element<'_>>) -> Result<N, CommandError>,
    text: impl FnOnce(&N) -> T,
) -> Result<N, CommandError> {
    let (key, field, limits) = (c.key(1), c.argv.arg(2), c.limits);
    match c.keys.hash_mut(key)? {
        Some(hash) => {
            let value = next(hash.get(field))?;
            hash.set_keeping_expiry(field, text(&value).as_ref(), limits);
            Ok(value)
        }
        None => {
            let value = next(None)?;
            let mut hash = Hash::new();
            hash.set(field, text(&value).as_ref(), limits);
            c.keys.add_object(key, Value::Hash(hash));
            Ok(value)
        }
    }
}

fn hincrby(c: &mut Ctx<'_, '_>) -> CommandResult {
    let increment = integer(c.argv.arg(3))?;
    let key = c.key(1);
    let mut digits = IntBuffer::new();
    let sum = replace_value(
        c,
        |value| {
            let value = match value {
                Some(value) => value.as_int().ok_or(HASH_VALUE_NOT_INTEGER)?,
                None => 0,
            };
            value.checked_add(increment).ok_or(INCREMENT_OVERFLOW)
        },
        |&sum| digits.format(sum),
    )?;
    c.keys.wrote(key, "hincrby", 1, Effect::AsGiven);
    c.reply.integer(sum);
    Ok(())
}

fn hincrbyfloat(c: &mut Ctx<'_, '_>) -> CommandResult {
    let increment = ExtendedFloat::parse(c.argv.arg(3)).ok_or(NOT_FLOAT)?;
    if !increment.is_finite() {
        return Err(NAN_OR_INFINITY);
    }
    let (key, field) = (c.key(1), c.argv.arg(2));
    let sum = replace_value(
        c,
        |value| {
            let value = match value {
                None => ExtendedFloat::ZERO,
                Some(Element::Int(int)) => ExtendedFloat::from_i64(int),
                Some(Element::Bytes(text)) => {
                    ExtendedFloat::parse(text).ok_or(HASH_VALUE_NOT_FLOAT)?
                }
            };
            let sum = value.add(increment);
            if sum.is_finite() {
                Ok(sum.to_vec())
            } else {
                Err(INCREMENT_NOT_FINITE)
            }
        },
        Clone::clone,
    )?;
    // Sums are not added again when the log is replayed: another platform may round otherwise.
    let effect: [&[u8]; 4] = [b"HSET", key.bytes, field, &sum];
    c.keys
        .wrote(key, "hincrbyfloat", 1, Effect::Command(&effect));
    log_kept_time(c, field);
    c.reply.bulk(&sum);
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::testing::World;

    const WRONG_TYPE: &str = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    const NOT_INTEGER: &str = "-ERR hash value is not an integer";

    #[test]
    fn integers() {
        let mut world = World::new(1);
        world.check(&[
            ("HINCRBY h a 5", "5"),
            ("HINCRBY h a -7", "-2"),
            ("HGET h a", r#""-2""#),
            (
                "HSET h b word c 1.5 d \" 5\" e 007 max 9223372036854775807",
                "5",
            ),
            ("HINCRBY h b 1", NOT_INTEGER),
            ("HINCRBY h c 1", NOT_INTEGER),
            ("HINCRBY h d 1", NOT_INTEGER),
            ("HINCRBY h e 1", NOT_INTEGER),
            (
                "HINCRBY h max 1",
                "-ERR increment or decrement would overflow",
            ),
            ("HINCRBY h max -1", "9223372036854775806"),
            (
                "HINCRBY h a x",
                "-ERR value is not an integer or out of range",
            ),
            ("SET s v", "OK"),
            (
                "HINCRBY s a x",
                "-ERR value is not an integer or out of range",
            ),
            ("HINCRBY s a 1", WRONG_TYPE),
        ]);
        assert_eq!(world.dirty(), 9);
        world.assert_replays();
    }

    #[test]
    fn floats() {
        let mut world = World::new(1);
        world.check(&[
            ("HINCRBYFLOAT h a 0.1", r#""0.1""#),
            ("HINCRBYFLOAT h a 0.2", r#""0.3""#),
        ]);
        assert_eq!(world.effects(), ["HSET h a 0.3"]);
        world.check(&[
            ("HSET h b 10 c word d \"\" inf inf", "4"),
            ("HINCRBYFLOAT h b 3.0e3", r#""3010""#),
            ("HINCRBYFLOAT h c 1", "-ERR hash value is not a float"),
            ("HINCRBYFLOAT h d 1", "-ERR hash value is not a float"),
            (
                "HINCRBYFLOAT h inf 1",
                "-ERR increment would produce NaN or Infinity",
            ),
            ("HINCRBYFLOAT h b inf", "-ERR value is NaN or Infinity"),
            ("HINCRBYFLOAT h b nan", "-ERR value is not a valid float"),
            ("HINCRBYFLOAT h b x", "-ERR value is not a valid float"),
            ("SET s v", "OK"),
            ("HINCRBYFLOAT s b x", "-ERR value is not a valid float"),
            ("HINCRBYFLOAT s b 1", WRONG_TYPE),
        ]);
        world.assert_replays();
    }

    #[test]
    fn a_refused_increment_creates_nothing() {
        let mut world = World::new(1);
        world.check(&[
            ("HINCRBYFLOAT h a inf", "-ERR value is NaN or Infinity"),
            ("EXISTS h", "0"),
        ]);
        assert_eq!((world.dirty(), world.effects().len()), (0, 0));
    }
}
