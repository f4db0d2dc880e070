//! The numbers of the RDB format, and its lengths and strings as they are written.
//!
//! A length: `00xxxxxx` 6 bits; `01xxxxxx` and a byte, 14 bits; `0x80` and 4 bytes, `0x81` and 8 bytes, big-endian.
//! `11xxxxxx` instead of a string's length: 0, 1, 2 an integer of 1, 2, 4 bytes, little-endian; 3 LZF: compressed length,
//! length, bytes.

/// The version written: servers from Redis 7.0 on read it, and nearly every type and opcode used here exists in it.
pub const VERSION_WRITTEN: u32 = 10;
/// The version of files with a type that came later.
pub const VERSION_OF_STREAM_3: u32 = 11;
/// That of hashes whose fields expire, which servers from Redis 7.4 on read.
pub const VERSION_OF_FIELD_EXPIRY: u32 = 12;
/// The oldest and newest Redis versions read.
pub const VERSION_READ_MIN: u32 = 1;
pub const VERSION_READ_MAX: u32 = 12;
/// Valkey's own numbering begins here; older servers of its family stop before 12.
pub const VERSION_VALKEY_MIN: u32 = 80;
pub const VERSION_VALKEY_MAX: u32 = 80;

pub const TYPE_STRING: u8 = 0;
pub const TYPE_LIST: u8 = 1;
pub const TYPE_SET: u8 = 2;
pub const TYPE_ZSET: u8 = 3;
pub const TYPE_HASH: u8 = 4;
pub const TYPE_ZSET_2: u8 = 5;
pub const TYPE_MODULE_PRE_GA: u8 = 6;
pub const TYPE_MODULE_2: u8 = 7;
pub const TYPE_HASH_ZIPMAP: u8 = 9;
pub const TYPE_LIST_ZIPLIST: u8 = 10;
pub const TYPE_SET_INTSET: u8 = 11;
pub const TYPE_ZSET_ZIPLIST: u8 = 12;
pub const TYPE_HASH_ZIPLIST: u8 = 13;
pub const TYPE_LIST_QUICKLIST: u8 = 14;
pub const TYPE_STREAM: u8 = 15;
pub const TYPE_HASH_LISTPACK: u8 = 16;
pub const TYPE_ZSET_LISTPACK: u8 = 17;
pub const TYPE_LIST_QUICKLIST_2: u8 = 18;
pub const TYPE_STREAM_2: u8 = 19;
pub const TYPE_SET_LISTPACK: u8 = 20;
pub const TYPE_STREAM_3: u8 = 21;
/// Redis: a hash with field expiry from before its release. Valkey 9: its hash with field expiry.
pub const TYPE_HASH_22: u8 = 22;
pub const TYPE_HASH_LISTPACK_PRE_GA: u8 = 23;
pub const TYPE_HASH_METADATA: u8 = 24;
pub const TYPE_HASH_LISTPACK_METADATA: u8 = 25;

pub const NODE_PLAIN: u64 = 1;
pub const NODE_PACKED: u64 = 2;

pub const OP_SLOT_INFO: u8 = 0xF4;
pub const OP_FUNCTION_2: u8 = 0xF5;
pub const OP_FUNCTION_PRE_GA: u8 = 0xF6;
pub const OP_MODULE_AUX: u8 = 0xF7;
pub const OP_IDLE: u8 = 0xF8;
pub const OP_FREQ: u8 = 0xF9;
pub const OP_AUX: u8 = 0xFA;
pub const OP_RESIZE_DB: u8 = 0xFB;
pub const OP_EXPIRE_MS: u8 = 0xFC;
pub const OP_EXPIRE: u8 = 0xFD;
pub const OP_SELECT_DB: u8 = 0xFE;
pub const OP_EOF: u8 = 0xFF;

/// From this byte on, a record is an opcode and not a type.
pub const OP_FIRST: u8 = 0xF0;

pub const ENCODED_INT8: u8 = 0xC0;
pub const ENCODED_INT16: u8 = 0xC1;
pub const ENCODED_INT32: u8 = 0xC2;
pub const ENCODED_LZF: u8 = 0xC3;

/// Bytes of magic and version at the start of a file.
pub const MAGIC_BYTES: usize = 9;
/// Bytes of the checksum at its end.
pub const CHECKSUM_BYTES: usize = 8;

/// Our AUX fields: the chunk index, where it lies, and padding.
pub const AUX_CHUNKS: &[u8] = b"basalt-chunks";
pub const AUX_INDEX: &[u8] = b"basalt-index";
pub const AUX_PADDING: &[u8] = b"pad";

/// Encodes a length; the bytes used are the first `n` of the array.
#[inline]
pub fn length_bytes(len: u64) -> ([u8; 9], usize) {
    let mut out = [0; 9];
    if len < 1 << 6 {
        out[0] = len as u8;
        (out, 1)
    } else if len < 1 << 14 {
        out[0] = 0x40 | (len >> 8) as u8;
        out[1] = len as u8;
        (out, 2)
    } else if let Ok(len) = u32::try_from(len) {
        out[0] = 0x80;
        out[1..5].copy_from_slice(&len.to_be_bytes());
        (out, 5)
    } else {
        out[0] = 0x81;
        out[1..9].copy_from_slice(&len.to_be_bytes());
        (out, 9)
    }
}

pub fn put_length(out: &mut Vec<u8>, len: u64) {
    let (bytes, n) = length_bytes(len);
    out.extend_from_slice(&bytes[..n]);
}

/// A string as it is, neither compressed nor as a number.
pub fn put_raw_string(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub fn put_aux(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    out.push(OP_AUX);
    put_raw_string(out, key);
    put_raw_string(out, value);
}

/// The shortest padding record: opcode, key, a length of five bytes.
const PADDING_BYTES_MIN: usize = 1 + 1 + AUX_PADDING.len() + 5;

/// How many bytes of padding bring a length to a multiple of `align` (a power of two).
pub fn padding_for(len: u64, align: u64) -> u64 {
    let missing = len.wrapping_neg() & (align - 1);
    if missing == 0 || missing >= PADDING_BYTES_MIN as u64 {
        missing
    } else {
        missing + align
    }
}

/// Appends a padding record of exactly this many bytes, which [`padding_for`] computed. Zeros: printed, they are nothing.
pub fn put_padding(out: &mut Vec<u8>, bytes: u64) {
    if bytes == 0 {
        return;
    }
    let filling = bytes as usize - PADDING_BYTES_MIN;
    out.push(OP_AUX);
    put_raw_string(out, AUX_PADDING);
    out.push(0x80);
    out.extend_from_slice(&(filling as u32).to_be_bytes());
    out.resize(out.len() + filling, 0);
}

/// An integer string in its short form, if it has one.
#[inline]
pub fn encoded_int(n: i64) -> Option<([u8; 5], usize)> {
    let mut out = [0; 5];
    if let Ok(n) = i8::try_from(n) {
        out[..2].copy_from_slice(&[ENCODED_INT8, n as u8]);
        Some((out, 2))
    } else if let Ok(n) = i16::try_from(n) {
        out[0] = ENCODED_INT16;
        out[1..3].copy_from_slice(&n.to_le_bytes());
        Some((out, 3))
    } else if let Ok(n) = i32::try_from(n) {
        out[0] = ENCODED_INT32;
        out[1..5].copy_from_slice(&n.to_le_bytes());
        Some((out, 5))
    } else {
        None
    }
}

/// The name that the 64 bits of a module type carry, and its encoding version.
pub fn module_name(id: u64) -> (String, u64) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let name = (0..9)
        .map(|i| ALPHABET[(id >> (64 - 6 * (i + 1)) & 63) as usize] as char)
        .collect();
    (name, id & 1023)
}
