//! number (interim)

/// Canonical decimal i64: no leading zeros, `+`, `-0` or spaces.
pub fn parse_i64(_bytes: &[u8]) -> Option<i64> { todo!() }
/// Canonical decimal u64.
pub fn parse_u64(_bytes: &[u8]) -> Option<u64> { todo!() }
pub fn write_i64(_out: &mut Vec<u8>, _value: i64) { todo!() }
/// Length of the decimal text.
pub fn i64_len(_value: i64) -> usize { todo!() }
/// A double as Redis accepts it in ZADD and friends; NaN refused.
pub fn parse_f64(_bytes: &[u8]) -> Option<f64> { todo!() }
/// A double as Redis 7.4 prints it.
pub fn write_f64(_out: &mut Vec<u8>, _value: f64) { todo!() }
pub fn f64_to_vec(_value: f64) -> Vec<u8> { todo!() }

/// x87 80-bit extended float, for INCRBYFLOAT and HINCRBYFLOAT.
#[derive(Clone, Copy, Debug)]
pub struct ExtendedFloat { _p: u8 }
impl ExtendedFloat {
    pub const ZERO: ExtendedFloat = ExtendedFloat { _p: 0 };
    /// What INCRBYFLOAT accepts (inf included); NaN refused.
    pub fn parse(_bytes: &[u8]) -> Option<ExtendedFloat> { todo!() }
    pub fn from_i64(_value: i64) -> ExtendedFloat { todo!() }
    pub fn add(self, _other: ExtendedFloat) -> ExtendedFloat { todo!() }
    /// False: "ERR increment would produce NaN or Infinity".
    pub fn is_finite(self) -> bool { todo!() }
    /// `%.17Lf` without trailing zeros.
    pub fn to_vec(self) -> Vec<u8> { todo!() }
}
