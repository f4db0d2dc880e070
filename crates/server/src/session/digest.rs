//! DEBUG DIGEST and DIGEST-VALUE, equal to Redis's for equal data, so that the two can be compared.
//!
//! SHA-1 is used in two ways: `mix` depends on the order of what goes in (a list's elements, a
//! field and its value), `xor` does not (members, keys). A value's digest begins with its type's
//! number and ends with a mark if the key expires; that of the dataset takes in each database
//! that is not empty, in order, and its keys in any order.

use datatypes::{Encoding, Value};
use keyspace::{DbIndex, EntryRef, Shard, ValueRef};
use sha1::{Digest as _, Sha1};

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest([u8; 20]);

/// Redis's numbers of the types.
const STRING: u32 = 0;
const LIST: u32 = 1;
const SET: u32 = 2;
const SORTED_SET: u32 = 3;
const HASH: u32 = 4;

impl Digest {
    fn xor(&mut self, bytes: &[u8]) {
        let hash: [u8; 20] = Sha1::digest(bytes).into();
        for (ours, theirs) in self.0.iter_mut().zip(hash) {
            *ours ^= theirs;
        }
    }

    fn mix(&mut self, bytes: &[u8]) {
        self.xor(bytes);
        self.0 = Sha1::digest(self.0).into();
    }

    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Takes in a value, with whether it expires.
    fn value(&mut self, entry: EntryRef<'_>) {
        match entry.value() {
            ValueRef::String(string) => {
                self.mix(&STRING.to_be_bytes());
                self.mix(string.bytes(&mut itoa::Buffer::new()));
            }
            ValueRef::Object(Value::List(list)) => {
                self.mix(&LIST.to_be_bytes());
                list.iter().for_each(|element| self.mix(&element.to_vec()));
            }
            ValueRef::Object(Value::Set(set)) => {
                self.mix(&SET.to_be_bytes());
                set.iter().for_each(|member| self.xor(&member.to_vec()));
            }
            ValueRef::Object(Value::SortedSet(set)) => {
                self.mix(&SORTED_SET.to_be_bytes());
                // Redis prints scores differently in its two encodings.
                let format = match set.encoding() {
                    Encoding::Listpack => format_17_digits,
                    _ => format_shortest,
                };
                for (member, score) in set.iter() {
                    self.pair(&member.to_vec(), format(score).as_bytes());
                }
            }
            ValueRef::Object(Value::Hash(hash)) => {
                self.mix(&HASH.to_be_bytes());
                for (field, value) in hash.iter() {
                    self.pair(&field.to_vec(), &value.to_vec());
                }
            }
        }
        if entry.expire_at().is_some() {
            self.xor(b"!!expire!!");
        }
    }

    fn pair(&mut self, first: &[u8], second: &[u8]) {
        let mut pair = Digest::default();
        pair.mix(first);
        pair.mix(second);
        self.xor(&pair.0);
    }
}

/// The digest of one key's value; all zeros for none.
pub fn of_value(entry: Option<EntryRef<'_>>) -> Digest {
    let mut digest = Digest::default();
    if let Some(entry) = entry {
        digest.value(entry);
    }
    digest
}

/// The digest of all databases.
pub fn of_dataset(shards: &[&Shard]) -> Digest {
    let mut digest = Digest::default();
    let databases = shards.first().map_or(0, |shard| shard.databases()) as u32;
    for db in (0..databases).map(DbIndex) {
        if shards.iter().all(|shard| shard.db(db).is_empty()) {
            continue;
        }
        digest.mix(&db.0.to_be_bytes());
        for entry in shards.iter().flat_map(|shard| shard.db(db).iter()) {
            let mut key = Digest::default();
            key.mix(entry.key());
            key.value(entry);
            digest.xor(&key.0);
        }
    }
    digest
}

/// Infinities, and what is no number.
fn format_special(value: f64) -> Option<String> {
    match value {
        _ if value.is_nan() => Some("nan".into()),
        f64::INFINITY => Some("inf".into()),
        f64::NEG_INFINITY => Some("-inf".into()),
        _ => None,
    }
}

/// The fewest digits that tell the value from all others: without exponent as long as at most
/// six zeros follow them, or the point falls near the first.
fn format_shortest(value: f64) -> String {
    if let Some(special) = format_special(value) {
        return special;
    }
    if value == 0.0 {
        return if value.is_sign_negative() { "-0" } else { "0" }.into();
    }
    let sign = if value < 0.0 { "-" } else { "" };
    let scientific = format!("{:e}", value.abs());
    let (mantissa, exponent) = scientific
        .split_once('e')
        .expect("this format has an exponent");
    let exponent: i32 = exponent.parse().expect("this format's exponent is a number");
    let digits = mantissa.replace('.', "");
    let count = digits.len() as i32;
    // The value is the digits as an integer, times ten to this power.
    let power = exponent - (count - 1);
    if power >= 0 && exponent.abs() < count + 7 {
        return format!("{sign}{digits}{}", "0".repeat(power as usize));
    }
    if power < 0 && (power > -7 || exponent.abs() < 4) {
        return if exponent < 0 {
            format!("{sign}0.{}{digits}", "0".repeat((-exponent - 1) as usize))
        } else {
            let (whole, fraction) = digits.split_at(exponent as usize + 1);
            format!("{sign}{whole}.{fraction}")
        };
    }
    let exponent_sign = if exponent < 0 { '-' } else { '+' };
    format!("{sign}{mantissa}e{exponent_sign}{}", exponent.abs())
}

/// As C's `%.17g` prints.
fn format_17_digits(value: f64) -> String {
    if let Some(special) = format_special(value) {
        return special;
    }
    let scientific = format!("{value:.16e}");
    let (mantissa, exponent) = scientific
        .split_once('e')
        .expect("this format has an exponent");
    let exponent: i32 = exponent
        .parse()
        .expect("this format's exponent is a number");
    let trim = |digits: &str| -> String {
        if digits.contains('.') {
            digits.trim_end_matches('0').trim_end_matches('.').into()
        } else {
            digits.into()
        }
    };
    if !(-4..17).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), exponent.abs());
    }
    trim(&format!("{value:.*}", (16 - exponent) as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_c_does() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.10000000000000001"),
            (-2.5, "-2.5"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (1.5e300, "1.5000000000000001e+300"),
            (0.0001, "0.0001"),
            (0.00001, "1.0000000000000001e-05"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(format_17_digits(value), expected);
        }
    }

    #[test]
    fn numbers_are_printed_with_the_fewest_digits() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.1, "0.1"),
            (-2.5, "-2.5"),
            (123456.789, "123456.789"),
            (1e7, "10000000"),
            (1e8, "1e+8"),
            (1e-7, "1e-7"),
            (0.00001, "0.00001"),
            (1.5e300, "1.5e+300"),
        ] {
            assert_eq!(format_shortest(value), expected);
        }
    }
}
