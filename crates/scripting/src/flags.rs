//! What a script or a function says of itself, in its first line or when it is registered.

pub const NO_WRITES: u8 = 1;
pub const ALLOW_OOM: u8 = 1 << 1;
pub const ALLOW_STALE: u8 = 1 << 2;
pub const NO_CLUSTER: u8 = 1 << 3;
pub const ALLOW_CROSS_SLOT_KEYS: u8 = 1 << 4;

const NAMES: [(&str, u8); 5] = [
    ("no-writes", NO_WRITES),
    ("allow-oom", ALLOW_OOM),
    ("allow-stale", ALLOW_STALE),
    ("no-cluster", NO_CLUSTER),
    ("allow-cross-slot-keys", ALLOW_CROSS_SLOT_KEYS),
];

pub fn by_name(name: &[u8]) -> Option<u8> {
    NAMES
        .iter()
        .find(|(known, _)| known.as_bytes() == name)
        .map(|(_, flag)| *flag)
}

/// The names of the flags that are set.
pub fn names(flags: u8) -> impl Iterator<Item = &'static str> {
    NAMES
        .iter()
        .filter(move |(_, flag)| flags & flag != 0)
        .map(|(name, _)| *name)
}
