//! LZF. Input: a length (four bytes, little-endian) and data; both are tried as what a file may hold, and the data as
//! what is to be compressed.

use persistence::lzf::{decompress, Compressor, SAVED_BYTES_MIN};

pub fn run(input: &[u8]) {
    let mut compressor = Compressor::new();
    round_trip(&mut compressor, input);
    // Again, over what the first time left in the table.
    round_trip(&mut compressor, input);
    let Some((len, data)) = input.split_first_chunk() else {
        return;
    };
    let claimed = u64::from(u32::from_le_bytes(*len));
    for claimed in [claimed, claimed & 0xFFFF, claimed & 0xFF] {
        if let Some(plain) = decompress(data, claimed) {
            assert_eq!(plain.len() as u64, claimed);
            round_trip(&mut compressor, &plain);
        }
    }
}

fn round_trip(compressor: &mut Compressor, plain: &[u8]) {
    let mut out = b"before".to_vec();
    let Some(len) = compressor.compress(plain, &mut out) else {
        assert_eq!(out, b"before");
        return;
    };
    assert_eq!(out.len(), 6 + len);
    assert!(len + SAVED_BYTES_MIN <= plain.len());
    assert_eq!(
        decompress(&out[6..], plain.len() as u64).as_deref(),
        Some(plain)
    );
}
