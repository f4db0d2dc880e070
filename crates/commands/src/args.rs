//! Reading arguments: numbers and option words, with Redis's errors.

use datatypes::number;

use crate::errors::{CommandError, NOT_FLOAT, NOT_INTEGER};

/// A 64-bit integer in canonical decimal text.
pub fn integer(arg: &[u8]) -> Result<i64, CommandError> {
    number::parse_i64(arg).ok_or(NOT_INTEGER)
}

/// As [`integer`], with another error.
pub fn integer_or(arg: &[u8], error: CommandError) -> Result<i64, CommandError> {
    number::parse_i64(arg).ok_or(error)
}

/// A double as Redis reads it; not-a-number is refused.
pub fn float(arg: &[u8]) -> Result<f64, CommandError> {
    number::parse_f64(arg).ok_or(NOT_FLOAT)
}

/// Whether an argument is this option word (given in lowercase), in any case.
pub fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}
