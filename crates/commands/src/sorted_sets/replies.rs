//! Scores, and members with their scores, in replies.

use datatypes::{number, Element};
use resp::{Protocol, Reply};

use crate::elements;

/// A score's text, which takes no allocation when the score is a whole number.
pub struct ScoreText {
    int: itoa::Buffer,
    text: Vec<u8>,
}

impl ScoreText {
    pub fn new() -> ScoreText {
        ScoreText {
            int: itoa::Buffer::new(),
            text: Vec::new(),
        }
    }

    pub fn of(&mut self, score: f64) -> &[u8] {
        /// Beyond it, not every integer is a double.
        const WHOLE_MAX: f64 = (1u64 << 53) as f64;
        let int = score as i64;
        if int as f64 == score && score.abs() <= WHOLE_MAX && (int != 0 || score.is_sign_positive())
        {
            return self.int.format(int).as_bytes();
        }
        self.text.clear();
        number::write_f64(&mut self.text, score);
        &self.text
    }
}

/// Replies a score: a double, or a string in RESP2.
pub fn score(reply: &mut Reply<'_>, score: f64) {
    reply.double(ScoreText::new().of(score));
}

/// How members are listed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// Without scores.
    Members,
    /// Each followed by its score; in RESP3 an array for each such pair.
    Scored,
    /// An array for each pair of member and score, in RESP2 too.
    Pairs,
}

impl Shape {
    pub fn scored_if(with_scores: bool) -> Shape {
        if with_scores {
            Shape::Scored
        } else {
            Shape::Members
        }
    }
}

/// A list of members that is being replied.
pub struct MemberList {
    shape: Shape,
    text: ScoreText,
}

impl MemberList {
    /// Begins a list of `len` members.
    pub fn begin(reply: &mut Reply<'_>, shape: Shape, len: usize) -> MemberList {
        let shape = match (shape, reply.protocol()) {
            (Shape::Scored, Protocol::Resp3) => Shape::Pairs,
            _ => shape,
        };
        reply.array(if shape == Shape::Scored { 2 * len } else { len });
        MemberList {
            shape,
            text: ScoreText::new(),
        }
    }

    pub fn add(&mut self, reply: &mut Reply<'_>, member: Element<'_>, score: f64) {
        if self.shape == Shape::Pairs {
            reply.array(2);
        }
        elements::bulk(reply, member);
        if self.shape != Shape::Members {
            reply.double(self.text.of(score));
        }
    }
}

/// Replies all of these members.
pub fn members<'e>(
    reply: &mut Reply<'_>,
    shape: Shape,
    members: impl ExactSizeIterator<Item = (Element<'e>, f64)>,
) {
    let mut list = MemberList::begin(reply, shape, members.len());
    for (member, score) in members {
        list.add(reply, member, score);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_scores_have_the_text_of_all_scores() {
        let two_53 = (1u64 << 53) as f64;
        for score in [
            0.0,
            -0.0,
            1.0,
            -7.0,
            0.5,
            two_53,
            -two_53,
            2.0 * two_53,
            1e17,
            1e21,
            1e300,
            f64::INFINITY,
            f64::NEG_INFINITY,
        ] {
            let expected = number::f64_to_vec(score);
            assert_eq!(ScoreText::new().of(score), expected, "{score}");
        }
    }
}
