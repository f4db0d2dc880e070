//! Reading arguments: numbers and option words, with Redis's errors.

use datatypes::number;

use crate::errors::{CommandError, NOT_FLOAT, NOT_INTEGER, NOT_SYMMETRIC};

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

/// Whether an argument is this option word (given in lowercase), in any case.
pub fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}
