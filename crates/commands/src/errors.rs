//! What commands reply when they refuse: Redis's texts, all here.

use std::borrow::Cow;

/// An error reply: its code and text, without the leading `-`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommandError(pub Cow<'static, str>);

/// A command has written its reply, or nothing and returns the error to reply.
pub type CommandResult = Result<(), CommandError>;

impl CommandError {
    pub const fn new(text: &'static str) -> CommandError {
        CommandError(Cow::Borrowed(text))
    }

    pub fn wrong_arity(name: &str) -> CommandError {
        CommandError(format!("ERR wrong number of arguments for '{name}' command").into())
    }

    /// "invalid expire time in 'set' command" and the like.
    pub fn invalid_expire(name: &str) -> CommandError {
        CommandError(format!("ERR invalid expire time in '{name}' command").into())
    }

    pub fn text(&self) -> &str {
        &self.0
    }
}

pub const WRONG_TYPE: CommandError =
    CommandError::new("WRONGTYPE Operation against a key holding the wrong kind of value");
pub const SYNTAX: CommandError = CommandError::new("ERR syntax error");
pub const NOT_INTEGER: CommandError =
    CommandError::new("ERR value is not an integer or out of range");
pub const NOT_FLOAT: CommandError = CommandError::new("ERR value is not a valid float");
pub const NO_SUCH_KEY: CommandError = CommandError::new("ERR no such key");
pub const OUT_OF_RANGE: CommandError = CommandError::new("ERR value is out of range");
pub const NOT_POSITIVE: CommandError =
    CommandError::new("ERR value is out of range, must be positive");
pub const DB_INDEX_OUT_OF_RANGE: CommandError = CommandError::new("ERR DB index is out of range");
pub const INCREMENT_OVERFLOW: CommandError =
    CommandError::new("ERR increment or decrement would overflow");
pub const STRING_TOO_LONG: CommandError =
    CommandError::new("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
