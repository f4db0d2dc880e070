//! A point in the life of the append-only files, as people write it: a time or a position.
//!
//! | written | means |
//! |---|---|
//! | `1795230161` (10 digits) | Unix seconds: all of that second, as Redis's `#TS` lines count |
//! | `1795230161250` (13 digits) | Unix milliseconds |
//! | `2026-11-21 03:02:41Z`, `...T03:02:41+02:00` | the same as a date; also all of that second |
//! | `2026-11-21 03:02:41.250Z` | to the millisecond |
//! | `1:40960` | LSN 40960 of shard 1 |
//! | `40960` (any other number) | that LSN, where there is one shard |
//!
//! A date needs `Z` or an offset: what is about to be cut must not depend on who set TZ.

use keyspace::{Lsn, ShardIndex};

/// Up to where files are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// All that was written up to this Unix millisecond, and with it.
    Time(i64),
    /// A position in one shard's log, and what the other shards had then. `None`: of the only shard.
    Lsn(Option<ShardIndex>, Lsn),
}

const SECONDS_DIGITS: usize = 10;
const MILLIS_DIGITS: usize = 13;

impl Point {
    /// Reads what the table above shows. The error says what is expected.
    pub fn parse(text: &str) -> Result<Point, String> {
        let text = text.trim();
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = |text: &str| text.parse::<u64>().ok().filter(|_| is_number(text));
        if is_number(text) {
            let Some(n) = number(text) else {
                return Err(format!("{text} is too large a number"));
            };
            return Ok(match text.len() {
                SECONDS_DIGITS => Point::Time(n as i64 * 1000 + 999),
                MILLIS_DIGITS => Point::Time(n as i64),
                _ => Point::Lsn(None, Lsn(n)),
            });
        }
        if let Some((shard, lsn)) = text.split_once(':') {
            if is_number(shard) && is_number(lsn) {
                let shard = shard.parse().map(ShardIndex).ok();
                let lsn = number(lsn).map(Lsn);
                return match (shard, lsn) {
                    (Some(shard), Some(lsn)) => Ok(Point::Lsn(Some(shard), lsn)),
                    _ => Err(format!("{text}: no such shard or LSN")),
                };
            }
        }
        parse_date(text).map(Point::Time)
    }
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Point::Time(unix_ms) => f.write_str(&format_millis(*unix_ms)),
            Point::Lsn(Some(shard), lsn) => write!(f, "LSN {} of shard {}", lsn.0, shard.0),
            Point::Lsn(None, lsn) => write!(f, "LSN {}", lsn.0),
        }
    }
}

/// Days in 400 years.
const CYCLE_DAYS: i64 = 400 * 365 + 97;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// `2026-11-21 03:02:41.250Z`.
pub fn format_millis(unix_ms: i64) -> String {
    let (days, in_day) = (unix_ms.div_euclid(DAY_MS), unix_ms.rem_euclid(DAY_MS));
    let (year, month, day) = date_of(days);
    let (seconds, millis) = (in_day / 1000, in_day % 1000);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}.{millis:03}Z",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// Days before a month in a year that is no leap year.
const DAYS_BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// Days from 1970-01-01 to the first of January.
fn days_before_year(year: i64) -> i64 {
    let before = year - 1;
    let leap_days = |y: i64| y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400);
    (year - 1970) * 365 + leap_days(before) - leap_days(1969)
}

fn days_before_month(year: i64, month: i64) -> i64 {
    DAYS_BEFORE[month as usize - 1] + i64::from(month > 2 && is_leap(year))
}

fn date_of(days: i64) -> (i64, i64, i64) {
    // The calendar repeats itself every 400 years.
    let cycle_years = 400 * days.div_euclid(CYCLE_DAYS);
    let in_cycle = days.rem_euclid(CYCLE_DAYS);
    let mut year = 1970 + in_cycle / 366;
    while days_before_year(year + 1) <= in_cycle {
        year += 1;
    }
    let (year, days) = (
        year + cycle_years,
        in_cycle + days_before_year(year + cycle_years) - days_before_year(year),
    );
    let in_year = days - days_before_year(year);
    let month = (1..=12)
        .rev()
        .find(|month| days_before_month(year, *month) <= in_year)
        .expect("nothing is before January");
    (year, month, in_year - days_before_month(year, month) + 1)
}

/// Unix milliseconds of a date; of the end of the second where it says none.
fn parse_date(text: &str) -> Result<i64, String> {
    let expected = || {
        format!(
            "'{text}' is neither a time nor an LSN: expected 'YYYY-MM-DD HH:MM:SS[.mmm]' with Z or an offset such as \
             +02:00, Unix seconds (10 digits), Unix milliseconds (13 digits), SHARD:LSN, or an LSN"
        )
    };
    let mut rest = text.as_bytes();
    let mut field = |digits: usize, after: &[u8]| -> Option<i64> {
        let (number, tail) = rest.split_at_checked(digits)?;
        let number = std::str::from_utf8(number)
            .ok()
            .filter(|n| n.bytes().all(|b| b.is_ascii_digit()))?;
        rest = match after {
            [] => tail,
            _ => tail
                .split_first()
                .filter(|(b, _)| after.contains(b))
                .map(|(_, tail)| tail)?,
        };
        number.parse().ok()
    };
    let date = (|| {
        let (year, month, day) = (field(4, b"-")?, field(2, b"-")?, field(2, b" T")?);
        let (hour, minute, second) = (field(2, b":")?, field(2, b":")?, field(2, b"")?);
        Some((year, month, day, hour, minute, second))
    })();
    let (year, month, day, hour, minute, second) = date.ok_or_else(expected)?;
    let month_ends = match month {
        12 => 31,
        1..12 => days_before_month(year, month + 1) - days_before_month(year, month),
        _ => 0,
    };
    if !(1..=month_ends).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return Err(format!("'{text}' is no date of the calendar"));
    }
    let mut millis = 999;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        if !(1..=3).contains(&digits) {
            return Err(expected());
        }
        millis = fraction[..digits]
            .iter()
            .fold(0, |n, b| n * 10 + i64::from(b - b'0'))
            * 10i64.pow(3 - digits as u32);
        rest = &fraction[digits..];
    }
    let offset_minutes = parse_offset(rest.trim_ascii()).ok_or_else(|| match rest.is_empty() {
        true => format!("'{text}' needs its zone: Z for UTC, or an offset such as +02:00"),
        false => expected(),
    })?;
    let days = days_before_year(year) + days_before_month(year, month) + day - 1;
    let seconds = (days * 24 + hour) * 3600 + (minute - offset_minutes) * 60 + second;
    Ok(seconds * 1000 + millis)
}

/// Minutes east of UTC: `Z`, `+02`, `+0200`, `+02:00`.
fn parse_offset(text: &[u8]) -> Option<i64> {
    if text.eq_ignore_ascii_case(b"Z") || text.eq_ignore_ascii_case(b"UTC") {
        return Some(0);
    }
    let (sign, digits) = text.split_first()?;
    let sign = match sign {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits: Vec<u8> = digits.iter().copied().filter(|b| *b != b':').collect();
    if !matches!(digits.len(), 2 | 4) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let two = |at: usize| {
        digits.get(at..at + 2).map_or(0, |pair| {
            i64::from(pair[0] - b'0') * 10 + i64::from(pair[1] - b'0')
        })
    };
    (two(0) <= 23 && two(2) <= 59).then_some(sign * (two(0) * 60 + two(2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_read() {
        let check =
            |text: &str, expected: Point| assert_eq!(Point::parse(text), Ok(expected), "{text}");
        check("1795230161", Point::Time(1_795_230_161_999));
        check("1795230161250", Point::Time(1_795_230_161_250));
        check("40960", Point::Lsn(None, Lsn(40960)));
        check("0", Point::Lsn(None, Lsn(0)));
        check(
            "3:1795230161",
            Point::Lsn(Some(ShardIndex(3)), Lsn(1_795_230_161)),
        );
        check("2026-11-21 03:02:41Z", Point::Time(1_795_230_161_999));
        check("2026-11-21T03:02:41.25Z", Point::Time(1_795_230_161_250));
        check(
            "2026-11-21 05:02:41.250+02:00",
            Point::Time(1_795_230_161_250),
        );
        check(
            "2026-11-20 21:32:41.250 -0530",
            Point::Time(1_795_230_161_250),
        );
        check("2024-02-29 00:00:00.000Z", Point::Time(1_709_164_800_000));
        check("1969-12-31 23:59:59.999Z", Point::Time(-1));
    }

    #[test]
    fn what_is_no_point_is_refused_with_a_hint() {
        for text in [
            "",
            "yesterday",
            "2026-11-21",
            "2026-11-21 03:02Z",
            "2026-11-21 03:02:41",
            "2026-11-21 03:02:41.1234Z",
            "2026-13-01 00:00:00Z",
            "2026-02-29 00:00:00Z",
            "2026-00-01 00:00:00Z",
            "2026-11-21 24:00:00Z",
            "2026-11-21 03:02:41+2",
            "2026-11-21 03:02:41+24:00",
            "99999:1",
            "1:",
            "-5",
            "99999999999999999999999",
            "2026-11-21 03:02:41\u{e9}",
        ] {
            assert!(Point::parse(text).is_err(), "{text}");
        }
        let unzoned = Point::parse("2026-11-21 03:02:41").unwrap_err();
        assert!(unzoned.contains("zone"), "{unzoned}");
    }

    #[test]
    fn times_read_back() {
        for unix_ms in (-3_000_000_000_000..7_000_000_000_000).step_by(12_345_678_901) {
            let text = format_millis(unix_ms);
            assert_eq!(Point::parse(&text), Ok(Point::Time(unix_ms)), "{text}");
        }
        assert!(format_millis(i64::MIN).ends_with('Z') && format_millis(i64::MAX).ends_with('Z'));
        assert_eq!(format_millis(951_782_399_000), "2000-02-28 23:59:59.000Z");
        assert_eq!(format_millis(951_868_799_999), "2000-02-29 23:59:59.999Z");
    }
}
