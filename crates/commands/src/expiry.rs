//! Expiry times as commands are given them: relative or absolute, in seconds or milliseconds.

use keyspace::UnixMillis;

use crate::args;
use crate::errors::CommandError;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    Seconds,
    Millis,
}

/// From where a time counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Since {
    Now,
    Epoch,
}

/// A time as a client gave it, not looked at yet.
#[derive(Clone, Copy, Debug)]
pub struct Time<'a> {
    pub text: &'a [u8],
    pub unit: Unit,
    pub since: Since,
}

impl<'a> Time<'a> {
    pub fn new(text: &'a [u8], unit: Unit, since: Since) -> Time<'a> {
        Time { text, unit, since }
    }

    /// The time behind one of the options EX, PX, EXAT and PXAT.
    pub fn of_option(word: &[u8], text: &'a [u8]) -> Option<Time<'a>> {
        let (unit, since) = match word {
            w if args::is(w, "ex") => (Unit::Seconds, Since::Now),
            w if args::is(w, "px") => (Unit::Millis, Since::Now),
            w if args::is(w, "exat") => (Unit::Seconds, Since::Epoch),
            w if args::is(w, "pxat") => (Unit::Millis, Since::Epoch),
            _ => return None,
        };
        Some(Time { text, unit, since })
    }

    /// Whether both came with the same option, which may be given twice: the last one counts.
    pub fn is_same_option(&self, other: Time<'_>) -> bool {
        self.unit == other.unit && self.since == other.since
    }

    /// The instant it means; the error names `command`. Times in the past are instants too.
    pub fn instant(self, now: UnixMillis, command: &str) -> Result<UnixMillis, CommandError> {
        self.resolve(now, command, false)
    }

    /// As [`Time::instant`], of commands that refuse times that are not positive.
    pub fn positive(self, now: UnixMillis, command: &str) -> Result<UnixMillis, CommandError> {
        self.resolve(now, command, true)
    }

    fn resolve(
        self,
        now: UnixMillis,
        command: &str,
        positive: bool,
    ) -> Result<UnixMillis, CommandError> {
        let n = args::integer(self.text)?;
        if positive && n <= 0 {
            return Err(CommandError::invalid_expire(command));
        }
        let ms = match self.unit {
            Unit::Seconds => n.checked_mul(1000),
            Unit::Millis => Some(n),
        };
        let base = match self.since {
            Since::Now => now.0,
            Since::Epoch => 0,
        };
        ms.and_then(|ms| ms.checked_add(base))
            .map(UnixMillis)
            .ok_or_else(|| CommandError::invalid_expire(command))
    }
}
