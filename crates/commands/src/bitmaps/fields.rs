//! BITFIELD: integers of any width at any bit of a string.
//!
//! All subcommands are read before the first one runs. One that writes makes the string reach to
//! its end even if it then fails on an overflow.

use datatypes::{bits, number};

use super::{checked_offset, len_with_bit};
use crate::args;
use crate::command::{Command, Flags, Group, Run};
use crate::context::{Ctx, Effect};
use crate::errors::{
    CommandError, CommandResult, BITFIELD_OVERFLOW_INVALID, BITFIELD_RO_WRITES,
    BITFIELD_TYPE_INVALID, BIT_OFFSET_INVALID, SYNTAX,
};
use crate::key_spec::KeySpec;
use crate::strings::pieces;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "bitfield",
        summary: "Reads and writes integers of any width within a key's string.",
        since: "3.2.0",
        group: Group::Bitmap,
        complexity: "O(1) for each subcommand",
        arity: -2,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[KeySpec {
            notes: "This command allows both access and modification of the key",
            ..KeySpec::at(1, &["RW", "access", "update", "variable_flags"])
        }],
        syntax: "key [<GET encoding offset | [OVERFLOW <WRAP | SAT | FAIL>] <SET encoding offset value | INCRBY encoding offset increment>> [<GET encoding offset | [OVERFLOW <WRAP | SAT | FAIL>] <SET encoding offset value | INCRBY encoding offset increment>> ...]]",
        run: Run::Keys(bitfield),
        ..Command::DEFAULT
    },
    Command {
        name: "bitfield_ro",
        summary: "Reads integers of any width within a key's string.",
        since: "6.0.0",
        group: Group::Bitmap,
        complexity: "O(1) for each subcommand",
        arity: -2,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key [GET encoding offset [GET encoding offset ...]]",
        run: Run::Keys(bitfield_ro),
        ..Command::DEFAULT
    },
];

#[derive(Clone, Copy)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

#[derive(Clone, Copy)]
enum Action {
    Get,
    Set(i64),
    IncrBy(i64),
}

/// An integer type: `i1` to `i64`, `u1` to `u63`.
#[derive(Clone, Copy)]
struct Width {
    signed: bool,
    bits: u32,
}

impl Width {
    fn parse(arg: &[u8]) -> Option<Width> {
        let (kind, digits) = arg.split_first()?;
        let (signed, max) = match kind {
            b'i' => (true, 64),
            b'u' => (false, 63),
            _ => return None,
        };
        let bits = number::parse_i64(digits).filter(|bits| (1..=max).contains(bits))?;
        Some(Width {
            signed,
            bits: bits as u32,
        })
    }

    fn range(self) -> (i128, i128) {
        if self.signed {
            (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1)
        } else {
            (0, (1 << self.bits) - 1)
        }
    }

    /// The number that a field's bits stand for.
    fn number(self, field: u64) -> i64 {
        if self.signed {
            let unused = 64 - self.bits;
            ((field << unused) as i64) >> unused
        } else {
            field as i64
        }
    }

    /// What a number that may not fit is stored as; none if it is not to be stored.
    fn fit(self, value: i128, overflow: Overflow) -> Option<i64> {
        let (min, max) = self.range();
        match overflow {
            _ if (min..=max).contains(&value) => Some(value as i64),
            Overflow::Wrap => Some(self.number(value as u64 & (u64::MAX >> (64 - self.bits)))),
            Overflow::Saturate => Some(value.clamp(min, max) as i64),
            Overflow::Fail => None,
        }
    }
}

#[derive(Clone, Copy)]
struct Operation {
    offset: u64,
    width: Width,
    action: Action,
    overflow: Overflow,
}

impl Operation {
    /// The offset of the field's last bit.
    fn last_bit(&self) -> u64 {
        self.offset + u64::from(self.width.bits) - 1
    }

    fn is_read(&self) -> bool {
        matches!(self.action, Action::Get)
    }

    fn read(&self, bytes: &[u8]) -> i64 {
        self.width
            .number(bits::read_field(bytes, self.offset, self.width.bits))
    }

    /// Runs on a string that reaches to the field's end, if it writes. Replies what the client is told; none
    /// for an overflow that fails.
    fn run(&self, bytes: &mut [u8]) -> Option<i64> {
        let old = self.read(bytes);
        let (wanted, tells_old) = match self.action {
            Action::Get => return Some(old),
            // A negative number is a large one to an unsigned field.
            Action::Set(value) if !self.width.signed => (i128::from(value as u64), true),
            Action::Set(value) => (i128::from(value), true),
            Action::IncrBy(by) => (i128::from(old) + i128::from(by), false),
        };
        let new = self.width.fit(wanted, self.overflow)?;
        bits::write_field(bytes, self.offset, self.width.bits, new as u64);
        Some(if tells_old { old } else { new })
    }
}

/// An offset in bits, or `#n` for the nth field of this width.
fn field_offset(c: &Ctx<'_, '_>, arg: &[u8], width: Width) -> Result<u64, CommandError> {
    let (digits, unit) = match arg.split_first() {
        Some((b'#', digits)) => (digits, i64::from(width.bits)),
        _ => (arg, 1),
    };
    let number = args::integer_or(digits, BIT_OFFSET_INVALID)?;
    // Redis multiplies without looking for an overflow.
    checked_offset(c, number.wrapping_mul(unit))
}

fn operations(c: &Ctx<'_, '_>) -> Result<Vec<Operation>, CommandError> {
    let mut found = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut index = 2;
    while let Some(word) = c.argv.get(index) {
        let (two, three) = (c.argv.len() - index > 2, c.argv.len() - index > 3);
        if args::is(word, "overflow") && c.argv.len() - index > 1 {
            overflow = match c.argv.arg(index + 1) {
                word if args::is(word, "wrap") => Overflow::Wrap,
                word if args::is(word, "sat") => Overflow::Saturate,
                word if args::is(word, "fail") => Overflow::Fail,
                _ => return Err(BITFIELD_OVERFLOW_INVALID),
            };
            index += 2;
            continue;
        }
        let is_get = args::is(word, "get") && two;
        let is_set = args::is(word, "set") && three;
        let is_incrby = args::is(word, "incrby") && three;
        if !(is_get || is_set || is_incrby) {
            return Err(SYNTAX);
        }
        let width = Width::parse(c.argv.arg(index + 1)).ok_or(BITFIELD_TYPE_INVALID)?;
        let offset = field_offset(c, c.argv.arg(index + 2), width)?;
        let action = if is_get {
            Action::Get
        } else {
            let number = args::integer(c.argv.arg(index + 3))?;
            if is_set {
                Action::Set(number)
            } else {
                Action::IncrBy(number)
            }
        };
        found.push(Operation {
            offset,
            width,
            action,
            overflow,
        });
        index += if is_get { 3 } else { 4 };
    }
    Ok(found)
}

fn reply_all(c: &mut Ctx<'_, '_>, results: &[Option<i64>]) {
    c.reply.array(results.len());
    for result in results {
        match result {
            Some(number) => c.reply.integer(*number),
            None => c.reply.null(),
        }
    }
}

fn read_all(c: &mut Ctx<'_, '_>, operations: &[Operation]) -> CommandResult {
    let key = c.key(1);
    let mut digits = itoa::Buffer::new();
    let string = c.keys.read_string(key)?;
    let bytes = string.map_or(&[][..], |string| string.bytes(&mut digits));
    let results: Vec<Option<i64>> = operations.iter().map(|op| Some(op.read(bytes))).collect();
    reply_all(c, &results);
    Ok(())
}

fn bitfield_ro(c: &mut Ctx<'_, '_>) -> CommandResult {
    let operations = operations(c)?;
    if !operations.iter().all(Operation::is_read) {
        return Err(BITFIELD_RO_WRITES);
    }
    read_all(c, &operations)
}

fn bitfield(c: &mut Ctx<'_, '_>) -> CommandResult {
    let operations = operations(c)?;
    let writes = operations.iter().filter(|op| !op.is_read());
    let Some(last_bit) = writes.map(Operation::last_bit).max() else {
        return read_all(c, &operations);
    };
    let key = c.key(1);
    let len = c.keys.find_string(key)?.map(|string| string.len());
    let grown = len_with_bit(last_bit).max(len.unwrap_or(0));
    let grows = len != Some(grown);
    let mut results = Vec::with_capacity(operations.len());
    let mut changes = 0;
    pieces::change(c, key, len.unwrap_or(0), |bytes| {
        bytes.resize(grown, 0);
        for op in &operations {
            let before = op.read(bytes);
            let result = op.run(bytes);
            let wrote = !op.is_read() && result.is_some();
            changes += usize::from(wrote && (grows || op.read(bytes) != before));
            results.push(result);
        }
    });
    if changes > 0 || grows {
        // Growth alone, for what then overflows, is told to nobody.
        let event = if changes > 0 { "setbit" } else { "" };
        c.keys.wrote(key, event, changes as u64, Effect::AsGiven);
    }
    reply_all(c, &results);
    Ok(())
}
