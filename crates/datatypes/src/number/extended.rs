//! The x87 extended format in software: 64 bits of mantissa, 15 of exponent, round to nearest even.
//!
//! Only what INCRBYFLOAT needs: exact reading from decimal, addition, and printing with 17 decimals. Results
//! are those of a C `long double` on x86-64, so that 0.1 + 0.2 is 0.3 and replicas of either kind agree.

use super::{is_infinity, parse_exponent, parse_hex, split_sign};
use std::cmp::Ordering;

/// Exponents of the lowest mantissa bit.
const EXPONENT_MIN: i32 = -16_445;
const EXPONENT_MAX: i32 = 16_320;
const FRACTION_DIGITS: usize = 17;
/// Longer numbers are refused, as Redis does.
const TEXT_BYTES_MAX: usize = 5 * 1024 - 1;

/// `(-1)^negative * mantissa * 2^exponent`; infinite when there is no exponent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendedFloat {
    negative: bool,
    mantissa: u64,
    exponent: Option<i32>,
}

impl ExtendedFloat {
    pub const ZERO: ExtendedFloat = ExtendedFloat {
        negative: false,
        mantissa: 0,
        exponent: Some(EXPONENT_MIN),
    };

    /// Reads what INCRBYFLOAT accepts, infinities included. NaN, surrounding spaces, and values out of range
    /// are refused.
    pub fn parse(bytes: &[u8]) -> Option<ExtendedFloat> {
        if bytes.len() > TEXT_BYTES_MAX {
            return None;
        }
        let (negative, unsigned) = split_sign(bytes);
        if is_infinity(unsigned) {
            return Some(ExtendedFloat {
                negative,
                mantissa: 0,
                exponent: None,
            });
        }
        let (is_zero, (mantissa, exponent)) = if let Some(hex) = parse_hex(unsigned) {
            let hex = hex?;
            (
                hex.mantissa == 0,
                round_extended(hex.mantissa, hex.exponent, hex.sticky),
            )
        } else {
            let decimal = Decimal::parse(unsigned)?;
            (decimal.digits.is_empty(), decimal.round())
        };
        let in_range = exponent.is_some() && (mantissa != 0 || is_zero);
        in_range.then_some(ExtendedFloat {
            negative,
            mantissa,
            exponent,
        })
    }

    pub fn from_i64(value: i64) -> ExtendedFloat {
        let (mantissa, exponent) = round_extended(u128::from(value.unsigned_abs()), 0, false);
        ExtendedFloat {
            negative: value < 0,
            mantissa,
            exponent,
        }
    }

    /// False for infinities (and what would be NaN): "increment would produce NaN or Infinity".
    pub fn is_finite(self) -> bool {
        self.exponent.is_some()
    }

    /// A thousand times as much, rounded to this format and then up to a whole number: seconds as
    /// milliseconds. None above `i64::MAX`; `i64::MIN` for all that is below it.
    pub fn thousandfold_ceiling(self) -> Option<i64> {
        let beyond = if self.negative { Some(i64::MIN) } else { None };
        let Some(exponent) = self.exponent else {
            return beyond;
        };
        let (mantissa, exponent) =
            round_extended(u128::from(self.mantissa) * 1000, exponent, false);
        let magnitude = match exponent {
            Some(exponent @ 0..) if mantissa != 0 && exponent > 63 => return beyond,
            Some(exponent @ 0..) => u128::from(mantissa) << exponent.min(63),
            Some(exponent) => {
                let down = exponent.unsigned_abs();
                let whole = mantissa.checked_shr(down).unwrap_or(0);
                let is_whole = whole.checked_shl(down).unwrap_or(0) == mantissa;
                u128::from(whole) + u128::from(!is_whole && !self.negative)
            }
            None => return beyond,
        };
        match i64::try_from(magnitude) {
            Ok(magnitude) if self.negative => Some(-magnitude),
            Ok(magnitude) => Some(magnitude),
            Err(_) => beyond,
        }
    }

    /// The correctly rounded sum; not finite if an operand is not.
    #[allow(clippy::should_implement_trait)]
    pub fn add(self, other: ExtendedFloat) -> ExtendedFloat {
        let (Some(a), Some(b)) = (self.exponent, other.exponent) else {
            let negative = if self.is_finite() {
                other.negative
            } else {
                self.negative
            };
            return ExtendedFloat {
                negative,
                mantissa: 0,
                exponent: None,
            };
        };
        let (high, low, high_exponent, low_exponent) = if a >= b {
            (self, other, a, b)
        } else {
            (other, self, b, a)
        };
        // The larger operand goes up by at most 62 bits, which leaves room for a carry; what the smaller one
        // loses below that is only a sticky bit, as the result keeps 64 of at least 125 bits.
        let distance = (high_exponent - low_exponent) as u32;
        let up = distance.min(62);
        let down = distance - up;
        let left = u128::from(high.mantissa) << up;
        let whole = u128::from(low.mantissa);
        let right = whole.checked_shr(down).unwrap_or(0);
        let sticky = right.checked_shl(down).unwrap_or(0) != whole;
        let exponent = high_exponent - up as i32;
        let (negative, magnitude) = if high.negative == low.negative {
            (high.negative, left + right)
        } else if left >= right {
            // Below the exact difference, so that the sticky bit adds to it.
            (high.negative, left - right - u128::from(sticky))
        } else {
            (low.negative, right - left)
        };
        let (mantissa, exponent) = round_extended(magnitude, exponent, sticky);
        ExtendedFloat {
            negative,
            mantissa,
            exponent,
        }
    }

    /// Rounded to 17 decimals, without trailing zeros, never with an exponent.
    pub fn to_vec(self) -> Vec<u8> {
        let Some(exponent) = self.exponent else {
            return if self.negative {
                b"-inf".to_vec()
            } else {
                b"inf".to_vec()
            };
        };
        if exponent >= 0 {
            let mut out = if self.negative {
                b"-".to_vec()
            } else {
                Vec::new()
            };
            out.extend_from_slice(
                Big::from_u64(self.mantissa)
                    .shifted_left(exponent as u32)
                    .to_decimal()
                    .as_bytes(),
            );
            return out;
        }
        let scale = 10u128.pow(FRACTION_DIGITS as u32);
        let scaled =
            shift_right_to_even(u128::from(self.mantissa) * scale, exponent.unsigned_abs());
        if scaled == 0 {
            return b"0".to_vec();
        }
        let mut out = if self.negative {
            b"-".to_vec()
        } else {
            Vec::new()
        };
        out.extend_from_slice(
            itoa::Buffer::new()
                .format((scaled / scale) as u64)
                .as_bytes(),
        );
        let fraction = scaled % scale;
        if fraction != 0 {
            let digits = format!("{fraction:0width$}", width = FRACTION_DIGITS);
            out.push(b'.');
            out.extend_from_slice(digits.trim_end_matches('0').as_bytes());
        }
        out
    }
}

/// `value / 2^shift`, rounded to nearest even.
fn shift_right_to_even(value: u128, shift: u32) -> u128 {
    if shift > 127 {
        // Operands here are below 2^126: less than half.
        return 0;
    }
    let kept = value >> shift;
    let lost = value - (kept << shift);
    match (lost << 1).cmp(&(1 << shift)) {
        Ordering::Greater => kept + 1,
        Ordering::Equal => kept + (kept & 1),
        Ordering::Less => kept,
    }
}

/// 10^exponent as a mantissa of 64 bits, rounded, and the exponent of its lowest bit.
pub(super) fn power_of_ten(exponent: i32) -> (u64, i32) {
    let power = Decimal {
        digits: vec![1],
        exponent,
    };
    let (mantissa, exponent) = power.round();
    (
        mantissa,
        exponent.expect("only powers within range are asked for"),
    )
}

fn round_extended(mantissa: u128, exponent: i32, sticky: bool) -> (u64, Option<i32>) {
    round(mantissa, exponent, sticky, 64, EXPONENT_MIN, EXPONENT_MAX)
}

/// Rounds `mantissa * 2^exponent` (and a little more when `sticky`) to `precision` bits, to nearest even.
/// Gives mantissa and exponent of its lowest bit, gradually losing bits at `exponent_min`; no exponent when
/// it is beyond `exponent_max`. With `sticky`, the mantissa must have more than `precision + 1` bits.
pub(super) fn round(
    mantissa: u128,
    exponent: i32,
    sticky: bool,
    precision: i32,
    exponent_min: i32,
    exponent_max: i32,
) -> (u64, Option<i32>) {
    if mantissa == 0 {
        return (0, Some(exponent_min));
    }
    let bits = 128 - mantissa.leading_zeros() as i32;
    let shift = (bits - precision).max(exponent_min.saturating_sub(exponent));
    let exponent = exponent.saturating_add(shift);
    let kept = if shift <= 0 {
        mantissa << -shift
    } else if shift > 128 {
        0
    } else {
        let kept = mantissa.checked_shr(shift as u32).unwrap_or(0);
        let lost = mantissa - kept.checked_shl(shift as u32).unwrap_or(0);
        let half = 1u128 << (shift - 1);
        let up = match lost.cmp(&half) {
            Ordering::Greater => true,
            Ordering::Equal => sticky || kept & 1 == 1,
            Ordering::Less => false,
        };
        kept + u128::from(up)
    };
    // Rounding up all ones carries into one more bit.
    let (kept, exponent) = if kept >> precision != 0 {
        (kept >> 1, exponent + 1)
    } else {
        (kept, exponent)
    };
    (kept as u64, (exponent <= exponent_max).then_some(exponent))
}

/// `digits * 10^exponent`, digits without zeros at either end.
struct Decimal {
    digits: Vec<u8>,
    exponent: i32,
}

impl Decimal {
    fn parse(bytes: &[u8]) -> Option<Decimal> {
        let split = bytes.iter().position(|b| matches!(b, b'e' | b'E'));
        let (number, mut exponent) = match split {
            Some(at) => (&bytes[..at], parse_exponent(&bytes[at + 1..])?),
            None => (bytes, 0),
        };
        let mut digits = Vec::with_capacity(number.len());
        let mut seen_point = false;
        let mut any = false;
        for &byte in number {
            match byte {
                b'.' if !seen_point => seen_point = true,
                b'0'..=b'9' => {
                    any = true;
                    exponent -= i32::from(seen_point);
                    if byte != b'0' || !digits.is_empty() {
                        digits.push(byte - b'0');
                    }
                }
                _ => return None,
            }
        }
        if !any {
            return None;
        }
        while digits.last() == Some(&0) {
            digits.pop();
            exponent += 1;
        }
        Some(Decimal { digits, exponent })
    }

    /// The nearest extended float.
    fn round(&self) -> (u64, Option<i32>) {
        if self.digits.is_empty() {
            return (0, Some(EXPONENT_MIN));
        }
        let magnitude = self.exponent.saturating_add(self.digits.len() as i32);
        if magnitude > 4_940 {
            return (0, None);
        }
        if magnitude < -4_960 {
            return (0, Some(EXPONENT_MIN));
        }
        if self.digits.len() <= 19 && (-19..=0).contains(&self.exponent) {
            return self.round_short();
        }
        let digits = Big::from_digits(&self.digits);
        if self.exponent >= 0 {
            let (top, exponent, sticky) =
                digits.times_power_of_ten(self.exponent as u32).top_bits();
            return round_extended(top, exponent, sticky);
        }
        let divisor = Big::from_u64(1).times_power_of_ten(self.exponent.unsigned_abs());
        let (quotient, exponent, sticky) = digits.divide(divisor);
        round_extended(quotient, exponent, sticky)
    }

    /// The common case, in machine integers: at most 19 digits over a power of ten up to 10^19.
    fn round_short(&self) -> (u64, Option<i32>) {
        let value = self.digits.iter().fold(0u64, |v, d| v * 10 + u64::from(*d));
        let divisor = 10u128.pow(self.exponent.unsigned_abs());
        // A numerator of 128 bits over at most 64 bits leaves at least 64 bits; make that 66 and a remainder.
        let shift = value.leading_zeros() + 64;
        let numerator = u128::from(value) << shift;
        let (quotient, remainder) = (numerator / divisor, numerator % divisor);
        let refined = (quotient << 2) | ((remainder << 2) / divisor);
        if quotient >> 126 != 0 {
            return round_extended(quotient, -(shift as i32), remainder != 0);
        }
        round_extended(
            refined,
            -(shift as i32) - 2,
            (remainder << 2) % divisor != 0,
        )
    }
}

/// An unsigned integer of any size: 32-bit limbs, the lowest first, no zero limb at the top.
struct Big {
    limbs: Vec<u32>,
}

impl Big {
    fn from_u64(value: u64) -> Big {
        let mut big = Big {
            limbs: vec![value as u32, (value >> 32) as u32],
        };
        big.trim();
        big
    }

    fn from_digits(digits: &[u8]) -> Big {
        let mut big = Big { limbs: Vec::new() };
        for chunk in digits.chunks(9) {
            let value = chunk.iter().fold(0u32, |v, d| v * 10 + u32::from(*d));
            big.multiply_add(10u32.pow(chunk.len() as u32), value);
        }
        big
    }

    fn trim(&mut self) {
        while self.limbs.last() == Some(&0) {
            self.limbs.pop();
        }
    }

    fn multiply_add(&mut self, factor: u32, addend: u32) {
        let mut carry = u64::from(addend);
        for limb in &mut self.limbs {
            let product = u64::from(*limb) * u64::from(factor) + carry;
            *limb = product as u32;
            carry = product >> 32;
        }
        if carry != 0 {
            self.limbs.push(carry as u32);
        }
    }

    fn times_power_of_ten(mut self, exponent: u32) -> Big {
        for _ in 0..exponent / 9 {
            self.multiply_add(1_000_000_000, 0);
        }
        self.multiply_add(10u32.pow(exponent % 9), 0);
        self
    }

    fn bits(&self) -> i32 {
        match self.limbs.last() {
            Some(top) => self.limbs.len() as i32 * 32 - top.leading_zeros() as i32,
            None => 0,
        }
    }

    fn shifted_left(&self, shift: u32) -> Big {
        let mut limbs = vec![0; shift as usize / 32];
        let bits = shift % 32;
        let mut carry = 0;
        for &limb in &self.limbs {
            let wide = u64::from(limb) << bits;
            limbs.push(wide as u32 | carry);
            carry = (wide >> 32) as u32;
        }
        limbs.push(carry);
        let mut big = Big { limbs };
        big.trim();
        big
    }

    /// The highest bits, the exponent of the lowest of them, and whether any lower bit is set.
    fn top_bits(&self) -> (u128, i32, bool) {
        let skipped = self.limbs.len().saturating_sub(4);
        let top = self.limbs[skipped..]
            .iter()
            .rev()
            .fold(0u128, |v, limb| v << 32 | u128::from(*limb));
        (
            top,
            skipped as i32 * 32,
            self.limbs[..skipped].iter().any(|limb| *limb != 0),
        )
    }

    fn compare(&self, other: &Big) -> Ordering {
        self.limbs
            .len()
            .cmp(&other.limbs.len())
            .then_with(|| self.limbs.iter().rev().cmp(other.limbs.iter().rev()))
    }

    /// Subtracts what is not larger.
    fn subtract(&mut self, other: &Big) {
        let mut borrow = false;
        for (i, limb) in self.limbs.iter_mut().enumerate() {
            let (value, under) = limb.overflowing_sub(other.limbs.get(i).copied().unwrap_or(0));
            let (value, under_too) = value.overflowing_sub(u32::from(borrow));
            *limb = value;
            borrow = under || under_too;
        }
        self.trim();
    }

    /// A quotient of 67 or 68 bits, the exponent of its lowest bit, and whether there is a remainder.
    fn divide(self, divisor: Big) -> (u128, i32, bool) {
        const QUOTIENT_BITS: i32 = 68;
        // Aligned so that the quotient's first bit weighs 2^67, one bit is gained per doubling.
        let exponent = self.bits() - divisor.bits() - (QUOTIENT_BITS - 1);
        let (mut rest, divisor) = if exponent + QUOTIENT_BITS > 0 {
            let up = (exponent + QUOTIENT_BITS - 1).max(0) as u32;
            (self, divisor.shifted_left(up))
        } else {
            (
                self.shifted_left((-(exponent + QUOTIENT_BITS - 1)) as u32),
                divisor,
            )
        };
        let mut quotient = 0u128;
        for _ in 0..QUOTIENT_BITS {
            quotient <<= 1;
            if rest.compare(&divisor) != Ordering::Less {
                rest.subtract(&divisor);
                quotient |= 1;
            }
            rest = rest.shifted_left(1);
        }
        (quotient, exponent, !rest.limbs.is_empty())
    }

    fn to_decimal(&self) -> String {
        const CHUNK: u64 = 1_000_000_000;
        let mut limbs = self.limbs.clone();
        let mut chunks = Vec::new();
        while !limbs.is_empty() {
            let mut remainder = 0u64;
            for limb in limbs.iter_mut().rev() {
                let value = remainder << 32 | u64::from(*limb);
                *limb = (value / CHUNK) as u32;
                remainder = value % CHUNK;
            }
            chunks.push(remainder);
            while limbs.last() == Some(&0) {
                limbs.pop();
            }
        }
        let Some(first) = chunks.pop() else {
            return "0".to_owned();
        };
        let mut text = first.to_string();
        for chunk in chunks.iter().rev() {
            text.push_str(&format!("{chunk:09}"));
        }
        text
    }
}
