//! How Redis reads and prints numbers: canonical integers, doubles (scores), and the 80-bit extended floats
//! of INCRBYFLOAT and HINCRBYFLOAT (in [`ExtendedFloat`]).
//!
//! Reading follows C's `strtod` on a whole string: decimal, hexadecimal, `inf` and `infinity` in any case.
//! Doubles print as the digits of Grisu2, which read back to the same value, laid out by Redis's own rules.

mod digits;
mod extended;

pub use extended::ExtendedFloat;

/// Reads a canonical decimal i64: no leading zeros, `+`, `-0` or spaces.
#[inline]
pub fn parse_i64(bytes: &[u8]) -> Option<i64> {
    let (negative, digits) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, bytes),
    };
    let magnitude = parse_digits(digits)?;
    if negative {
        // "-0" is not canonical.
        (magnitude != 0 && magnitude <= 1 << 63).then(|| (magnitude as i64).wrapping_neg())
    } else {
        i64::try_from(magnitude).ok()
    }
}

/// Reads a canonical decimal u64.
pub fn parse_u64(bytes: &[u8]) -> Option<u64> {
    parse_digits(bytes)
}

#[inline]
fn parse_digits(digits: &[u8]) -> Option<u64> {
    match digits {
        [b'0'] => return Some(0),
        [b'1'..=b'9', rest @ ..] if rest.len() < 20 => {}
        _ => return None,
    }
    let mut value = 0u64;
    // 19 digits always fit.
    for &byte in &digits[..digits.len().min(19)] {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    if let Some(&byte) = digits.get(19) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(value)
}

/// Appends the decimal text.
#[inline]
pub fn write_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Length of the decimal text.
#[inline]
pub fn i64_len(value: i64) -> usize {
    let digits = value.unsigned_abs().checked_ilog10().unwrap_or(0) as usize + 1;
    digits + usize::from(value < 0)
}

/// The integer that `value` is, if it is one in the range in which Redis prints and stores scores as integers.
/// Negative zero counts as 0.
#[inline]
pub(crate) fn f64_as_i64(value: f64) -> Option<i64> {
    const LIMIT: f64 = (i64::MAX / 2) as f64;
    if !(-LIMIT..=LIMIT).contains(&value) {
        return None;
    }
    let int = value as i64;
    (int as f64 == value).then_some(int)
}

/// Reads a double as ZADD, ZINCRBY and the like accept it. NaN, surrounding spaces, and values that overflow
/// to infinity or underflow to zero are refused.
#[inline]
pub fn parse_f64(bytes: &[u8]) -> Option<f64> {
    if bytes.len() < 16 {
        if let Some(int) = parse_i64(bytes) {
            return Some(int as f64);
        }
    }
    match scan_f64(bytes)? {
        Scanned {
            out_of_range: true,
            value,
        } if value == 0.0 || value.is_infinite() => None,
        scanned => Some(scanned.value),
    }
}

/// Reads a bound of a score range: as `strtod` does, so leading spaces and the empty string (0) pass, and a
/// value out of range is infinite or zero. NaN is refused.
pub(crate) fn parse_f64_bound(bytes: &[u8]) -> Option<f64> {
    scan_f64_of_c(bytes).map(|scanned| scanned.value)
}

/// Reads a double as SORT does: like a bound of a score range, but a value out of range is refused.
pub fn parse_f64_of_c(bytes: &[u8]) -> Option<f64> {
    let scanned = scan_f64_of_c(bytes).filter(|scanned| !scanned.out_of_range)?;
    Some(scanned.value)
}

fn scan_f64_of_c(bytes: &[u8]) -> Option<Scanned> {
    // The text ends at its first NUL, as it does for C.
    let text = bytes.split(|&b| b == 0).next().unwrap_or(bytes);
    if text.is_empty() {
        return Some(Scanned {
            value: 0.0,
            out_of_range: false,
        });
    }
    let start = text.iter().position(|b| !matches!(b, b' ' | 0x09..=0x0D))?;
    scan_f64(&text[start..])
}

struct Scanned {
    value: f64,
    /// The text means a number that is neither zero nor infinite, but too large or too small for the type.
    out_of_range: bool,
}

fn scan_f64(bytes: &[u8]) -> Option<Scanned> {
    let (negative, unsigned) = split_sign(bytes);
    let magnitude = match unsigned.first()? {
        b'0'..=b'9' | b'.' => {
            if let Some(hex) = parse_hex(unsigned) {
                let hex = hex?;
                let (mantissa, exponent) =
                    extended::round(hex.mantissa, hex.exponent, hex.sticky, 53, -1074, 971);
                let value = assemble_f64(mantissa, exponent);
                Scanned {
                    value,
                    out_of_range: hex.mantissa != 0 && (value == 0.0 || value.is_infinite()),
                }
            } else {
                let value: f64 = fast_float2::parse(unsigned).ok()?;
                let zero_text = || {
                    unsigned
                        .iter()
                        .take_while(|b| **b | 0x20 != b'e')
                        .all(|b| matches!(b, b'0' | b'.'))
                };
                Scanned {
                    value,
                    out_of_range: value.is_infinite() || (value == 0.0 && !zero_text()),
                }
            }
        }
        _ if is_infinity(unsigned) => Scanned {
            value: f64::INFINITY,
            out_of_range: false,
        },
        _ => return None,
    };
    Some(Scanned {
        value: if negative {
            -magnitude.value
        } else {
            magnitude.value
        },
        ..magnitude
    })
}

/// `mantissa * 2^exponent`, already rounded to what an f64 holds; no exponent means overflow.
fn assemble_f64(mantissa: u64, exponent: Option<i32>) -> f64 {
    let Some(exponent) = exponent else {
        return f64::INFINITY;
    };
    if mantissa >> 52 == 0 {
        return f64::from_bits(mantissa);
    }
    f64::from_bits((mantissa & ((1 << 52) - 1)) | ((exponent + 1075) as u64) << 52)
}

fn split_sign(bytes: &[u8]) -> (bool, &[u8]) {
    match bytes {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, bytes),
    }
}

fn is_infinity(bytes: &[u8]) -> bool {
    bytes.eq_ignore_ascii_case(b"inf") || bytes.eq_ignore_ascii_case(b"infinity")
}

/// `mantissa * 2^exponent`, plus something less than one unit of the mantissa when `sticky`.
struct Hex {
    mantissa: u128,
    exponent: i32,
    sticky: bool,
}

/// Reads `0x1.8p3`. None: not hexadecimal; Some(None): malformed.
fn parse_hex(bytes: &[u8]) -> Option<Option<Hex>> {
    let [b'0', b'x' | b'X', rest @ ..] = bytes else {
        return None;
    };
    Some(parse_hex_digits(rest))
}

fn parse_hex_digits(bytes: &[u8]) -> Option<Hex> {
    let mut hex = Hex {
        mantissa: 0,
        exponent: 0,
        sticky: false,
    };
    let (mut digits, mut seen_point, mut rest) = (0usize, false, bytes);
    while let [byte, tail @ ..] = rest {
        if *byte == b'.' && !seen_point {
            seen_point = true;
        } else if let Some(digit) = char::from(*byte).to_digit(16) {
            digits += 1;
            if hex.mantissa >> 124 == 0 {
                hex.mantissa = hex.mantissa << 4 | u128::from(digit);
                hex.exponent -= if seen_point { 4 } else { 0 };
            } else {
                hex.sticky |= digit != 0;
                hex.exponent += if seen_point { 0 } else { 4 };
            }
        } else {
            break;
        }
        rest = tail;
    }
    if digits == 0 {
        return None;
    }
    match rest {
        [] => {}
        [b'p' | b'P', exponent @ ..] => {
            hex.exponent = hex.exponent.saturating_add(parse_exponent(exponent)?)
        }
        _ => return None,
    }
    Some(hex)
}

/// Reads an exponent with optional sign; absurd ones saturate.
fn parse_exponent(bytes: &[u8]) -> Option<i32> {
    const SATURATED: i32 = 1 << 24;
    let (negative, digits) = split_sign(bytes);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits
        .iter()
        .fold(0i32, |v, d| (v * 10 + i32::from(d - b'0')).min(SATURATED));
    Some(if negative { -value } else { value })
}

/// The text of `value` as Redis prints it: `1`, `1e+21`, `0.1`, `1e-7`, `inf`.
pub fn f64_to_vec(value: f64) -> Vec<u8> {
    let mut out = Vec::new();
    write_f64(&mut out, value);
    out
}

/// Appends the text of `value` as Redis prints it.
///
/// Integers print all their digits as long as at most six zeros follow the significant ones, or the value
/// is within half of i64's range. Fractions print without exponent when it is above -7, or when the point
/// falls less than four places from the first digit.
pub fn write_f64(out: &mut Vec<u8>, value: f64) {
    match f64_as_i64(value) {
        Some(int) if value != 0.0 => write_i64(out, int),
        _ => write_f64_by_digits(out, value),
    }
}

/// As [`write_f64`], without its rule for integers: what Redis's digests take in.
pub fn write_f64_by_digits(out: &mut Vec<u8>, value: f64) {
    if value == 0.0 {
        out.extend_from_slice(if value.is_sign_negative() {
            b"-0"
        } else {
            b"0"
        });
    } else if value.is_nan() {
        out.extend_from_slice(b"nan");
    } else if value.is_infinite() {
        out.extend_from_slice(if value < 0.0 { b"-inf" } else { b"inf" });
    } else {
        write_fraction(out, value);
    }
}

fn write_fraction(out: &mut Vec<u8>, value: f64) {
    let digits::Digits {
        digits,
        count,
        exponent,
    } = digits::digits_of(value.abs());
    let digits = &digits[..count];
    if value < 0.0 {
        out.push(b'-');
    }
    // The value is 0.d1d2d3... * 10^point.
    let point = exponent + count as i32;
    let scientific = (point - 1).abs();
    if exponent >= 0 && scientific < count as i32 + 7 {
        out.extend_from_slice(digits);
        out.resize(out.len() + exponent as usize, b'0');
    } else if exponent < 0 && (exponent > -7 || scientific < 4) {
        if point <= 0 {
            out.extend_from_slice(b"0.");
            out.resize(out.len() + point.unsigned_abs() as usize, b'0');
            out.extend_from_slice(digits);
        } else {
            out.extend_from_slice(&digits[..point as usize]);
            out.push(b'.');
            out.extend_from_slice(&digits[point as usize..]);
        }
    } else {
        out.push(digits[0]);
        if count > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        out.extend_from_slice(if point > 0 { b"e+" } else { b"e-" });
        write_i64(out, i64::from(scientific));
    }
}

#[cfg(test)]
#[path = "number/tests.rs"]
mod tests;
