//! Strings as arrays of bits: single bits, counts and searches. Combining several strings and
//! fields of some bits have files of their own.
//!
//! A bit's offset may lie as far out as `proto-max-bulk-len` lets strings grow.

use datatypes::bits;

use crate::args;
use crate::command::{Command, Flags, Group, Run};
use crate::context::{Ctx, Effect};
use crate::errors::{
    CommandError, CommandResult, BIT_INVALID, BIT_NOT_0_OR_1, BIT_OFFSET_INVALID, SYNTAX,
};
use crate::key_spec::KeySpec;
use crate::strings::pieces;

pub mod combine;
pub mod fields;
#[cfg(test)]
mod tests;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "setbit",
        summary: "Sets or clears a bit of a key's string, which grows as far as needed.",
        since: "2.2.0",
        group: Group::Bitmap,
        arity: 4,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[KeySpec::at(1, &["RW", "access", "update"])],
        syntax: "key offset value",
        run: Run::Keys(setbit),
        ..Command::DEFAULT
    },
    Command {
        name: "getbit",
        summary: "Replies a bit of a key's string.",
        since: "2.2.0",
        group: Group::Bitmap,
        arity: 3,
        flags: Flags::READONLY.union(Flags::FAST),
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key offset",
        run: Run::Keys(getbit),
        ..Command::DEFAULT
    },
    Command {
        name: "bitcount",
        summary: "Counts the bits that are set in a key's string, or in a part of it.",
        since: "2.6.0",
        group: Group::Bitmap,
        complexity: "O(N) with the length N of the part",
        arity: -2,
        flags: Flags::READONLY,
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key [start end [BYTE | BIT]]",
        run: Run::Keys(bitcount),
        ..Command::DEFAULT
    },
    Command {
        name: "bitpos",
        summary: "Finds the first bit that is set, or clear, in a key's string or in a part of it.",
        since: "2.8.7",
        group: Group::Bitmap,
        complexity: "O(N) with the length N of the part",
        arity: -3,
        flags: Flags::READONLY,
        keys: &[KeySpec::at(1, &["RO", "access"])],
        syntax: "key bit [start [end [BYTE | BIT]]]",
        run: Run::Keys(bitpos),
        ..Command::DEFAULT
    },
];

/// The offset of a bit in a string that may be made.
fn bit_offset(c: &Ctx<'_, '_>, arg: &[u8]) -> Result<u64, CommandError> {
    let offset = args::integer_or(arg, BIT_OFFSET_INVALID)?;
    checked_offset(c, offset)
}

fn checked_offset(c: &Ctx<'_, '_>, offset: i64) -> Result<u64, CommandError> {
    let offset = u64::try_from(offset).ok();
    offset
        .filter(|offset| offset >> 3 < c.string_bytes_max)
        .ok_or(BIT_OFFSET_INVALID)
}

/// What a key's string becomes when it reaches to a bit.
fn len_with_bit(offset: u64) -> usize {
    (offset >> 3) as usize + 1
}

fn setbit(c: &mut Ctx<'_, '_>) -> CommandResult {
    let offset = bit_offset(c, c.argv.arg(2))?;
    let on = match args::integer_or(c.argv.arg(3), BIT_INVALID)? {
        0 => false,
        1 => true,
        _ => return Err(BIT_INVALID),
    };
    let key = c.key(1);
    let mut digits = itoa::Buffer::new();
    let string = c.keys.find_string(key)?;
    let is_absent = string.is_none();
    let bytes = string.map_or(&[][..], |string| string.bytes(&mut digits));
    let (before, len) = (bits::get(bytes, offset), bytes.len());
    let needed = len_with_bit(offset);
    if is_absent || needed > len || before != on {
        pieces::change(c, key, len, |bytes| {
            bytes.resize(needed.max(len), 0);
            bits::set(bytes, offset, on);
        });
        c.keys.wrote(key, "setbit", 1, Effect::AsGiven);
    } else if c
        .keys
        .find(key)
        .is_some_and(|entry| entry.encoding_name() != "raw")
    {
        // The bit was as wanted, but Redis makes the string one that can be changed.
        pieces::change(c, key, len, |_| {});
    }
    c.reply.integer(i64::from(before));
    Ok(())
}

fn getbit(c: &mut Ctx<'_, '_>) -> CommandResult {
    let offset = bit_offset(c, c.argv.arg(2))?;
    let key = c.key(1);
    let string = c.keys.read_string(key)?;
    let on = string.is_some_and(|string| bits::get(string.bytes(&mut itoa::Buffer::new()), offset));
    c.reply.integer(i64::from(on));
    Ok(())
}

/// A part of a string as a client names it: both ends included, negative ones counted from the end.
#[derive(Clone, Copy)]
struct Part {
    start: i64,
    end: i64,
    /// The ends are offsets of bits, not of bytes.
    in_bits: bool,
}

impl Part {
    /// The bits of the part of a string of `len` bytes.
    fn bits(self, len: usize) -> std::ops::Range<u64> {
        let unit = if self.in_bits { 1 } else { 8 };
        let total = len as i64 * 8 / unit;
        let from_start = |at: i64| {
            if at < 0 {
                at.saturating_add(total).max(0)
            } else {
                at
            }
        };
        let (start, end) = (from_start(self.start), from_start(self.end).min(total - 1));
        if start > end {
            return 0..0;
        }
        (start * unit) as u64..((end + 1) * unit) as u64
    }
}

/// Whether the ends of a part are offsets of bits.
fn in_bits(word: Option<&[u8]>) -> Result<bool, CommandError> {
    match word {
        None => Ok(false),
        Some(word) if args::is(word, "bit") => Ok(true),
        Some(word) if args::is(word, "byte") => Ok(false),
        Some(_) => Err(SYNTAX),
    }
}

fn bitcount(c: &mut Ctx<'_, '_>) -> CommandResult {
    let part = match c.argv.len() {
        2 => Part {
            start: 0,
            end: -1,
            in_bits: false,
        },
        4 | 5 => Part {
            start: args::integer(c.argv.arg(2))?,
            end: args::integer(c.argv.arg(3))?,
            in_bits: in_bits(c.argv.get(4))?,
        },
        _ => return Err(SYNTAX),
    };
    let key = c.key(1);
    let mut digits = itoa::Buffer::new();
    let string = c.keys.read_string(key)?;
    let bytes = string.map_or(&[][..], |string| string.bytes(&mut digits));
    // Ends in the wrong order, both counted from the end, are nothing, also where both lie in
    // front of the string.
    let reversed = part.start < 0 && part.end < 0 && part.start > part.end;
    let count = if reversed {
        0
    } else {
        bits::count(bytes, part.bits(bytes.len()))
    };
    c.reply.integer(count as i64);
    Ok(())
}

fn bitpos(c: &mut Ctx<'_, '_>) -> CommandResult {
    let on = match args::integer(c.argv.arg(2))? {
        0 => false,
        1 => true,
        _ => return Err(BIT_NOT_0_OR_1),
    };
    if c.argv.len() > 6 {
        return Err(SYNTAX);
    }
    let part = Part {
        start: c.argv.get(3).map_or(Ok(0), args::integer)?,
        in_bits: in_bits(c.argv.get(5))?,
        end: c.argv.get(4).map_or(Ok(-1), args::integer)?,
    };
    let has_end = c.argv.len() > 4;
    let key = c.key(1);
    let Some(string) = c.keys.read_string(key)? else {
        c.reply.integer(if on { -1 } else { 0 });
        return Ok(());
    };
    let mut digits = itoa::Buffer::new();
    let bytes = string.bytes(&mut digits);
    let range = part.bits(bytes.len());
    // A string goes on with zeros, unless the client says where it looks no further.
    let found = match bits::position(bytes, on, range.clone()) {
        None if !on && !has_end && !range.is_empty() => Some(bytes.len() as u64 * 8),
        found => found,
    };
    c.reply.integer(found.map_or(-1, |at| at as i64));
    Ok(())
}
