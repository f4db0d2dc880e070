//! LOLWUT: columns of basalt, seen from the side, of heights drawn anew each time.

use crate::args;
use crate::context::Ctx;
use crate::errors::CommandResult;
use crate::REDIS_VERSION;

const COLUMNS: usize = 24;
const ROWS: usize = 9;

pub fn lolwut(c: &mut Ctx<'_, '_>) -> CommandResult {
    if let (Some(word), Some(version)) = (c.argv.get(1), c.argv.get(2)) {
        if args::is(word, "version") {
            // There is one picture, whichever version is asked for.
            args::integer(version)?;
        }
    }
    let mut heights = [0; COLUMNS];
    let mut height = ROWS / 2;
    for column in &mut heights {
        height = (height + c.rng.below(3)).saturating_sub(1).clamp(1, ROWS);
        *column = height;
    }
    let text = picture(&heights) + &format!("\nColumns of basalt. Redis ver. {REDIS_VERSION}\n");
    c.reply.verbatim("txt", text.as_bytes());
    Ok(())
}

/// The columns as text; a column's top is drawn where the one to its left is lower.
fn picture(heights: &[usize]) -> String {
    let mut out = String::new();
    for row in (1..=ROWS).rev() {
        let mut line = String::new();
        for &height in heights {
            line.push_str(match row {
                row if row > height => "   ",
                row if row == height => "/_\\",
                _ => "| |",
            });
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[test]
    fn columns_stand_as_high_as_they_are() {
        let drawn = picture(&[1, 2]);
        assert!(drawn.ends_with("   /_\\\n/_\\| |\n"), "{drawn}");
        assert_eq!(drawn.lines().count(), ROWS);
    }

    #[test]
    fn the_version_ends_the_picture() {
        let mut w = World::new(1);
        for line in [
            "LOLWUT",
            "LOLWUT VERSION 5",
            "LOLWUT VERSION 99",
            "LOLWUT FOO",
        ] {
            let ending = format!("Redis ver. {REDIS_VERSION}\\n\"");
            assert!(w.run(line).ends_with(&ending), "{line}");
        }
        assert!(w
            .run("LOLWUT VERSION x")
            .starts_with("-ERR value is not an integer"));
    }
}
