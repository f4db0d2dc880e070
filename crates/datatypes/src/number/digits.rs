//! The digits of a double: Grisu2 of Florian Loitsch, "Printing Floating-Point Numbers Quickly and Accurately with
//! Integers" (PLDI 2010), with 64-bit mantissas and powers of ten at every eighth exponent.
//!
//! The digits always read back to the same double. For about one double in a thousand they are one more than needed,
//! or not the nearest of the shortest. Redis prints by this algorithm since 7.2, and what it prints ends up in
//! replies, in listpacks and in files: so an exact shortest printer would differ there.

use super::extended::power_of_ten;
use std::sync::LazyLock;

/// Exponents of the powers in the table: -348, -340, ... 340.
const FIRST_POWER: i32 = -348;
const POWER_STEP: i32 = 8;
const POWERS: usize = 87;
/// A scaled value has an exponent of at least this, and less than 29 above it: its integer part fits in 32 bits.
const SCALED_EXPONENT_MIN: i32 = -60;

const HIDDEN_BIT: u64 = 1 << 52;

/// At most 17 digits of a double, and the power of ten of the last.
pub(super) struct Digits {
    pub(super) digits: [u8; 18],
    pub(super) count: usize,
    pub(super) exponent: i32,
}

/// `mantissa * 2^exponent`
#[derive(Clone, Copy)]
struct Scaled {
    mantissa: u64,
    exponent: i32,
}

static POWER_TABLE: LazyLock<[Scaled; POWERS]> = LazyLock::new(|| {
    std::array::from_fn(|i| {
        let (mantissa, exponent) = power_of_ten(FIRST_POWER + POWER_STEP * i as i32);
        Scaled { mantissa, exponent }
    })
});

impl Scaled {
    fn normalized(self) -> Scaled {
        let shift = self.mantissa.leading_zeros();
        Scaled {
            mantissa: self.mantissa << shift,
            exponent: self.exponent - shift as i32,
        }
    }

    /// The product's upper 64 bits, rounded.
    fn times(self, other: Scaled) -> Scaled {
        let product = u128::from(self.mantissa) * u128::from(other.mantissa) + (1 << 63);
        Scaled {
            mantissa: (product >> 64) as u64,
            exponent: self.exponent + other.exponent + 64,
        }
    }
}

/// The smallest power in the table that lifts `exponent` to the wanted range, and its decimal exponent.
fn power_for(exponent: i32) -> (Scaled, i32) {
    // The power's own exponent must be this; log10(2) is a little above 1233/4096.
    let wanted = SCALED_EXPONENT_MIN - 64 - exponent;
    let decimal = ((wanted + 63) * 1233) >> 12;
    let mut index = ((decimal - FIRST_POWER) / POWER_STEP - 1).clamp(0, POWERS as i32 - 1) as usize;
    while POWER_TABLE[index].exponent < wanted {
        index += 1;
    }
    (POWER_TABLE[index], FIRST_POWER + POWER_STEP * index as i32)
}

/// Digits of a positive finite double.
pub(super) fn digits_of(value: f64) -> Digits {
    let bits = value.to_bits();
    let (fraction, biased) = (bits & (HIDDEN_BIT - 1), (bits >> 52) as i32 & 0x7FF);
    let exact = match biased {
        0 => Scaled {
            mantissa: fraction,
            exponent: -1074,
        },
        _ => Scaled {
            mantissa: fraction | HIDDEN_BIT,
            exponent: biased - 1075,
        },
    };
    // Half-way to the neighbours on either side; at a power of two the lower one is nearer.
    let upper = Scaled {
        mantissa: 2 * exact.mantissa + 1,
        exponent: exact.exponent - 1,
    }
    .normalized();
    let nearer = if exact.mantissa == HIDDEN_BIT { 2 } else { 1 };
    let lower = (exact.mantissa << nearer) - 1;
    let lower = Scaled {
        mantissa: lower << (exact.exponent - nearer - upper.exponent),
        exponent: upper.exponent,
    };

    let (power, decimal) = power_for(upper.exponent);
    let exact = exact.normalized().times(power);
    let mut upper = upper.times(power);
    let mut lower = lower.times(power);
    // The products are off by up to one: stay inside on both sides.
    upper.mantissa -= 1;
    lower.mantissa += 1;
    generate(
        exact.mantissa,
        upper,
        upper.mantissa - lower.mantissa,
        -decimal,
    )
}

/// The first digits of `upper` that fall within `width` below it, moved towards `exact`.
fn generate(exact: u64, upper: Scaled, width: u64, exponent: i32) -> Digits {
    let shift = upper.exponent.unsigned_abs();
    let one = 1u64 << shift;
    let mut out = Digits {
        digits: [0; 18],
        count: 0,
        exponent,
    };
    let (mut whole, mut fraction) = ((upper.mantissa >> shift) as u32, upper.mantissa & (one - 1));
    let mut distance = upper.mantissa - exact;
    let mut width = width;
    for place in (0..10u32).rev() {
        let unit = 10u32.pow(place);
        out.push((whole / unit) as u8);
        whole %= unit;
        let rest = (u64::from(whole) << shift) + fraction;
        if rest <= width {
            out.exponent += place as i32;
            out.approach(distance, width, rest, u64::from(unit) << shift);
            return out;
        }
    }
    loop {
        fraction *= 10;
        width *= 10;
        distance *= 10;
        out.exponent -= 1;
        out.push((fraction >> shift) as u8);
        fraction &= one - 1;
        if fraction < width {
            out.approach(distance, width, fraction, one);
            return out;
        }
    }
}

impl Digits {
    /// Appends a digit, unless it is a leading zero.
    fn push(&mut self, digit: u8) {
        if digit != 0 || self.count > 0 {
            self.digits[self.count] = b'0' + digit;
            self.count += 1;
        }
    }

    /// Lowers the last digit while that brings the number, `rest` below the upper end, nearer to the exact value,
    /// `distance` below it, and does not leave the interval.
    fn approach(&mut self, distance: u64, width: u64, mut rest: u64, unit: u64) {
        while rest < distance
            && width - rest >= unit
            && (rest + unit < distance || distance - rest > rest + unit - distance)
        {
            self.digits[self.count - 1] -= 1;
            rest += unit;
        }
    }
}
