//! The ends of score and lexicographic ranges, and how commands write them.

use crate::number::parse_f64_bound;

/// One end of a score range.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreBound {
    pub score: f64,
    pub exclusive: bool,
}

/// The text is no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidBound;

impl ScoreBound {
    pub const MIN: ScoreBound = ScoreBound {
        score: f64::NEG_INFINITY,
        exclusive: false,
    };
    pub const MAX: ScoreBound = ScoreBound {
        score: f64::INFINITY,
        exclusive: false,
    };

    /// Reads `1.5`, `(1.5`, `-inf`, `+inf`. Err stands for "ERR min or max is not a float".
    pub fn parse(text: &[u8]) -> Result<ScoreBound, InvalidBound> {
        let (exclusive, number) = match text {
            [b'(', rest @ ..] => (true, rest),
            _ => (false, text),
        };
        let score = parse_f64_bound(number).ok_or(InvalidBound)?;
        Ok(ScoreBound { score, exclusive })
    }

    /// Whether `score` is too low for a range that starts here.
    #[inline]
    pub(super) fn excludes_below(self, score: f64) -> bool {
        score < self.score || (self.exclusive && score == self.score)
    }

    /// Whether `score` is low enough for a range that ends here.
    #[inline]
    pub(super) fn admits_below(self, score: f64) -> bool {
        score < self.score || (!self.exclusive && score == self.score)
    }
}

/// One end of a lexicographic range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LexBound<'a> {
    Min,
    Max,
    Inclusive(&'a [u8]),
    Exclusive(&'a [u8]),
}

impl<'a> LexBound<'a> {
    /// Reads `-`, `+`, `[a`, `(a`. Err stands for "ERR min or max not valid string range item".
    pub fn parse(text: &'a [u8]) -> Result<LexBound<'a>, InvalidBound> {
        match text {
            b"-" => Ok(LexBound::Min),
            b"+" => Ok(LexBound::Max),
            [b'[', rest @ ..] => Ok(LexBound::Inclusive(rest)),
            [b'(', rest @ ..] => Ok(LexBound::Exclusive(rest)),
            _ => Err(InvalidBound),
        }
    }

    /// Whether `member` is too low for a range that starts here.
    pub(super) fn excludes_below(self, member: &[u8]) -> bool {
        match self {
            LexBound::Min => false,
            LexBound::Max => true,
            LexBound::Inclusive(bound) => member < bound,
            LexBound::Exclusive(bound) => member <= bound,
        }
    }

    /// Whether `member` is low enough for a range that ends here.
    pub(super) fn admits_below(self, member: &[u8]) -> bool {
        match self {
            LexBound::Min => false,
            LexBound::Max => true,
            LexBound::Inclusive(bound) => member <= bound,
            LexBound::Exclusive(bound) => member < bound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn score_bounds_read_as_strtod_does() {
        let bound = |score, exclusive| Ok(ScoreBound { score, exclusive });
        let cases: [(&[u8], Result<ScoreBound, InvalidBound>); 17] = [
            (b"1.5", bound(1.5, false)),
            (b"(1.5", bound(1.5, true)),
            (b"-inf", bound(f64::NEG_INFINITY, false)),
            (b"(+inf", bound(f64::INFINITY, true)),
            (b"", bound(0.0, false)),
            (b"(", bound(0.0, true)),
            (b" 1", bound(1.0, false)),
            (b"( 1", bound(1.0, true)),
            (b"0x10", bound(16.0, false)),
            (b"1e400", bound(f64::INFINITY, false)),
            (b"1e-400", bound(0.0, false)),
            (b"((1", Err(InvalidBound)),
            (b"nan", Err(InvalidBound)),
            (b"(nan", Err(InvalidBound)),
            (b"1 ", Err(InvalidBound)),
            (b"1e", Err(InvalidBound)),
            (b"[1", Err(InvalidBound)),
        ];
        for (text, expected) in cases {
            assert_eq!(
                ScoreBound::parse(text),
                expected,
                "{:?}",
                String::from_utf8_lossy(text)
            );
        }
    }

    #[test]
    fn lex_bounds_need_their_bracket() {
        assert_eq!(LexBound::parse(b"-"), Ok(LexBound::Min));
        assert_eq!(LexBound::parse(b"+"), Ok(LexBound::Max));
        assert_eq!(LexBound::parse(b"["), Ok(LexBound::Inclusive(b"")));
        assert_eq!(LexBound::parse(b"(a"), Ok(LexBound::Exclusive(b"a")));
        for text in [b"".as_slice(), b"a", b"-x", b"+x"] {
            assert_eq!(LexBound::parse(text), Err(InvalidBound));
        }
    }
}
