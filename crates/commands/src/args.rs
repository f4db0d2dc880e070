//! Reading arguments: numbers and option words, with Redis's errors.

use datatypes::number::{self, ExtendedFloat};
use keyspace::UnixMillis;

use crate::errors::{
    CommandError, NOT_FLOAT, NOT_INTEGER, NOT_SYMMETRIC, TIMEOUT_NEGATIVE, TIMEOUT_NOT_FLOAT,
    TIMEOUT_OUT_OF_RANGE,
};

/// A 64-bit integer in canonical decimal text.
pub fn integer(arg: &[u8]) -> Result<i64, CommandError> {
    number::parse_i64(arg).ok_or(NOT_INTEGER)
}

/// As [`integer`], with another error.
pub fn integer_or(arg: &[u8], error: CommandError) -> Result<i64, CommandError> {
    number::parse_i64(arg).ok_or(error)
}

/// An integer from 0 up; anything else is the given error.
pub fn count_or(arg: &[u8], error: CommandError) -> Result<usize, CommandError> {
    let value = number::parse_i64(arg).and_then(|value| usize::try_from(value).ok());
    value.ok_or(error)
}

/// An integer from 1 up; anything else is the given error.
pub fn positive_or(arg: &[u8], error: CommandError) -> Result<usize, CommandError> {
    match count_or(arg, error.clone())? {
        0 => Err(error),
        value => Ok(value),
    }
}

/// An integer whose negative is one as well, so that its magnitude can be taken.
pub fn symmetric_integer(arg: &[u8]) -> Result<i64, CommandError> {
    match integer(arg)? {
        i64::MIN => Err(NOT_SYMMETRIC),
        value => Ok(value),
    }
}

/// A double as Redis reads it; not-a-number is refused.
pub fn float(arg: &[u8]) -> Result<f64, CommandError> {
    number::parse_f64(arg).ok_or(NOT_FLOAT)
}

/// When a timeout in seconds, fractions included, is over; none for 0: never.
pub fn timeout_seconds(arg: &[u8], now: UnixMillis) -> Result<Option<UnixMillis>, CommandError> {
    let seconds = ExtendedFloat::parse(arg).ok_or(TIMEOUT_NOT_FLOAT)?;
    let ms = seconds.thousandfold_ceiling();
    timeout_over(ms.ok_or(TIMEOUT_OUT_OF_RANGE)?, now)
}

/// When a timeout in milliseconds is over; none for 0: never.
pub fn timeout_over(ms: i64, now: UnixMillis) -> Result<Option<UnixMillis>, CommandError> {
    match ms {
        ..0 => Err(TIMEOUT_NEGATIVE),
        0 => Ok(None),
        ms => match now.0.checked_add(ms) {
            Some(at) => Ok(Some(UnixMillis(at))),
            None => Err(TIMEOUT_OUT_OF_RANGE),
        },
    }
}

/// Whether an argument is this option word (given in lowercase), in any case.
pub fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}
