//! Positions in sorted sets: the score of a member is its position in 52 bits. The geometry is in
//! `datatypes::geo`; searches have a file of their own.

use datatypes::geo::Position;
use datatypes::SortedSet;
use resp::Reply;

use crate::args;
use crate::command::{Command, Flags, Group, Run};
use crate::context::Ctx;
use crate::errors::{CommandError, CommandResult, GEO_UNIT_INVALID, SYNTAX};
use crate::key_spec::KeySpec;
use crate::sorted_sets::members::{self, AddOptions};

pub mod search;
#[cfg(test)]
mod tests;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "geoadd",
        summary: "Adds members at positions, or moves them there.",
        complexity: "O(log(N)) for each member of N",
        arity: -5,
        flags: Flags::WRITE.union(Flags::DENYOOM),
        keys: &[KeySpec::at(1, &["RW", "update"])],
        syntax: "key [NX | XX] [CH] longitude latitude member [longitude latitude member ...]",
        run: Run::Keys(geoadd),
        ..READER
    },
    Command {
        name: "geodist",
        summary: "Replies the distance between two members.",
        complexity: "O(1)",
        arity: -4,
        syntax: "key member1 member2 [M | KM | FT | MI]",
        run: Run::Keys(geodist),
        ..READER
    },
    Command {
        name: "geohash",
        summary: "Replies members' positions as Geohash strings.",
        complexity: "O(1) for each member",
        arity: -2,
        syntax: "key [member [member ...]]",
        run: Run::Keys(geohash),
        ..READER
    },
    Command {
        name: "geopos",
        summary: "Replies members' positions.",
        complexity: "O(1) for each member",
        arity: -2,
        syntax: "key [member [member ...]]",
        run: Run::Keys(geopos),
        ..READER
    },
];

/// What the rows of this family have in common.
const READER: Command = Command {
    since: "3.2.0",
    group: Group::Geo,
    flags: Flags::READONLY,
    keys: &[KeySpec::at(1, &["RO", "access"])],
    ..Command::DEFAULT
};

/// Meters of a unit.
fn unit(arg: &[u8]) -> Result<f64, CommandError> {
    match arg {
        _ if args::is(arg, "m") => Ok(1.0),
        _ if args::is(arg, "km") => Ok(1000.0),
        _ if args::is(arg, "ft") => Ok(0.3048),
        _ if args::is(arg, "mi") => Ok(1609.34),
        _ => Err(GEO_UNIT_INVALID),
    }
}

/// A longitude and a latitude.
fn position(longitude: &[u8], latitude: &[u8]) -> Result<Position, CommandError> {
    let (longitude, latitude) = (args::float(longitude)?, args::float(latitude)?);
    Position::new(longitude, latitude).ok_or_else(|| {
        format!("ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}").into()
    })
}

fn position_of(set: Option<&SortedSet>, member: &[u8]) -> Option<Position> {
    set?.score(member).map(Position::from_score)
}

/// Replies a distance, with four digits behind the point.
fn reply_distance(reply: &mut Reply<'_>, distance: f64) {
    let scaled = (distance * 10_000.0).round_ties_even() as i64;
    let text = format!("{}.{:04}", scaled / 10_000, scaled % 10_000);
    reply.bulk(text.as_bytes());
}

fn reply_position(reply: &mut Reply<'_>, position: Position) {
    reply.array(2);
    for degrees in [position.longitude, position.latitude] {
        let text = format!("{degrees:.17}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        reply.double(if text == "-0" { "0" } else { text }.as_bytes());
    }
}

fn geoadd(c: &mut Ctx<'_, '_>) -> CommandResult {
    let mut options = AddOptions::default();
    let mut first = 2;
    while let Some(arg) = c.argv.get(first) {
        match arg {
            _ if args::is(arg, "nx") => options.nx = true,
            _ if args::is(arg, "xx") => options.xx = true,
            _ if args::is(arg, "ch") => options.ch = true,
            _ => break,
        }
        first += 1;
    }
    let items = c.argv.from(first);
    if items.is_empty() || !items.len().is_multiple_of(3) || options.nx && options.xx {
        return Err(SYNTAX);
    }
    let mut scores = Vec::with_capacity(items.len() / 3);
    for i in (0..items.len()).step_by(3) {
        let position = position(items.arg(i), items.arg(i + 1))?;
        scores.push(position.bits() as f64);
    }
    members::add(c, options, &scores, |i| items.arg(3 * i + 2))
}

fn geodist(c: &mut Ctx<'_, '_>) -> CommandResult {
    let unit = match c.argv.len() {
        4 => 1.0,
        5 => unit(c.argv.arg(4))?,
        _ => return Err(SYNTAX),
    };
    let (key, argv) = (c.key(1), c.argv);
    let set = c.keys.read_sorted_set(key)?;
    let (from, to) = (position_of(set, argv.arg(2)), position_of(set, argv.arg(3)));
    match from.zip(to) {
        Some((from, to)) => reply_distance(&mut c.reply, from.distance(to) / unit),
        None => c.reply.null(),
    }
    Ok(())
}

fn geohash(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, members) = (c.key(1), c.argv.from(2));
    let set = c.keys.read_sorted_set(key)?;
    c.reply.array(members.len());
    for member in members.iter() {
        match position_of(set, member) {
            Some(position) => c.reply.bulk(&position.geohash()),
            None => c.reply.null(),
        }
    }
    Ok(())
}

fn geopos(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (key, members) = (c.key(1), c.argv.from(2));
    let set = c.keys.read_sorted_set(key)?;
    c.reply.array(members.len());
    for member in members.iter() {
        match position_of(set, member) {
            Some(position) => reply_position(&mut c.reply, position),
            None => c.reply.null_array(),
        }
    }
    Ok(())
}

/// A score as the integer it is taken for, with what x86 makes of those that are too large.
fn score_as_integer(score: f64) -> i64 {
    if score < i64::MAX as f64 {
        score as i64
    } else {
        i64::MIN
    }
}
