//! Planted bugs. A fuzzer that is blind (no instrumentation, no feedback, a target that never sees the input) does not
//! find them; one that works needs seconds. Both are out of reach of random bytes: six bytes in a row, found one by one.

/// A panic behind a keyword and a checksum of a kind.
pub fn planted_panic(input: &[u8]) {
    let Some(rest) = keyword(input) else { return };
    if let [a, b, ..] = *rest {
        assert!(a ^ b != 0x5A, "the planted panic");
    }
}

/// Believes a length.
pub fn planted_allocation(input: &[u8]) {
    let Some(rest) = keyword(input) else { return };
    if let Some((len, _)) = rest.split_first_chunk() {
        let claimed = u32::from_le_bytes(*len) as usize;
        std::hint::black_box(Vec::<u8>::with_capacity(claimed));
    }
}

/// What follows the keyword, compared byte by byte, so that each right byte is a new path.
fn keyword(input: &[u8]) -> Option<&[u8]> {
    let rest = input.strip_prefix(b"B")?;
    let rest = std::hint::black_box(rest).strip_prefix(b"A")?;
    let rest = std::hint::black_box(rest).strip_prefix(b"S")?;
    let rest = std::hint::black_box(rest).strip_prefix(b"A")?;
    let rest = std::hint::black_box(rest).strip_prefix(b"L")?;
    std::hint::black_box(rest).strip_prefix(b"T")
}
