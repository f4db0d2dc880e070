//! PFDEBUG and PFSELFTEST: the inside of HyperLogLogs, for tests.

use datatypes::hyperloglog::{self as hll, Registers};

use super::{check, edit, with_bytes, wrote_whole};
use crate::args;
use crate::command::{Command, Flags, Group, Run};
use crate::context::Ctx;
use crate::errors::{
    before_zero_byte, CommandError, CommandResult, PFDEBUG_NOT_SPARSE, PFDEBUG_NO_KEY,
};
use crate::key_spec::KeySpec;

pub const PFDEBUG: Command = Command {
    name: "pfdebug",
    summary: "Shows the inside of a HyperLogLog.",
    since: "2.8.9",
    group: Group::HyperLogLog,
    complexity: "N/A",
    arity: 3,
    flags: Flags::WRITE.union(Flags::DENYOOM).union(Flags::ADMIN),
    keys: &[KeySpec::at(2, &["RW", "access"])],
    syntax: "subcommand key",
    run: Run::Keys(pfdebug),
    ..Command::DEFAULT
};

pub const PFSELFTEST: Command = Command {
    name: "pfselftest",
    summary: "Tests how HyperLogLogs keep registers and estimate counts.",
    since: "2.8.9",
    group: Group::HyperLogLog,
    complexity: "N/A",
    arity: 1,
    flags: Flags::ADMIN,
    run: Run::Nowhere(pfselftest),
    ..Command::DEFAULT
};

fn pfdebug(c: &mut Ctx<'_, '_>) -> CommandResult {
    let key = c.key(2);
    let len = check(c.keys.find_string(key)?)?;
    let is_dense = with_bytes(&c.keys, key, hll::is_dense).ok_or(PFDEBUG_NO_KEY)?;
    match c.argv.arg(1) {
        word if args::is(word, "getreg") => {
            make_dense(c, len)?;
            let mut registers = Registers::default();
            with_bytes(&c.keys, key, |bytes| registers.merge(bytes)).transpose()?;
            c.reply.array(hll::REGISTERS);
            let values = registers.values().iter();
            values.for_each(|&value| c.reply.integer(value.into()));
        }
        word if args::is(word, "decode") => {
            if is_dense {
                return Err(PFDEBUG_NOT_SPARSE);
            }
            let runs = with_bytes(&c.keys, key, hll::describe_runs);
            c.reply.bulk(runs.expect("it was found").as_bytes());
        }
        word if args::is(word, "encoding") => {
            c.reply.simple(if is_dense { "dense" } else { "sparse" });
        }
        word if args::is(word, "todense") => {
            let changed = make_dense(c, len)?;
            c.reply.integer(i64::from(changed));
        }
        word => {
            let word = String::from_utf8_lossy(before_zero_byte(word));
            return Err(format!("ERR Unknown PFDEBUG subcommand '{word}'").into());
        }
    }
    Ok(())
}

fn make_dense(c: &mut Ctx<'_, '_>, len: Option<usize>) -> Result<bool, CommandError> {
    let key = c.key(2);
    let changed = edit(c, key, len, |bytes| Ok(hll::make_dense(bytes)?))?;
    if changed {
        wrote_whole(c, key, "");
    }
    Ok(changed)
}

/// How far the estimates of the self-test may be off: this many standard errors.
const STANDARD_ERRORS_MAX: f64 = 6.0;
const STANDARD_ERROR: f64 = 1.04 / 128.0;

fn pfselftest(c: &mut Ctx<'_, '_>) -> CommandResult {
    let (mut sparse, mut dense) = (hll::empty(), hll::empty());
    hll::make_dense(&mut dense)?;
    let sparse_max = c.limits.hll_sparse_max_bytes;
    let (seed, mut checkpoint) = (c.rng.next_u64(), 1);
    for n in 1..=1_000_000_u64 {
        let element = (n ^ seed).to_le_bytes();
        let grew = hll::add(&mut dense, &element, sparse_max)?;
        if n <= 10_000 && hll::add(&mut sparse, &element, sparse_max)? != grew {
            return Err(failed("sparse and dense registers differ", n));
        }
        if n != checkpoint {
            continue;
        }
        checkpoint *= 10;
        let estimate = hll::count(&dense)?;
        if n <= 10_000 && hll::count(&sparse)? != estimate {
            return Err(failed("sparse and dense counts differ", n));
        }
        let off = (estimate as f64 - n as f64).abs();
        if off > (STANDARD_ERRORS_MAX * STANDARD_ERROR * n as f64).ceil() {
            return Err(failed("too large an error", n));
        }
    }
    c.reply.ok();
    Ok(())
}

fn failed(what: &str, elements: u64) -> CommandError {
    format!("TESTFAILED {what} after {elements} elements").into()
}
