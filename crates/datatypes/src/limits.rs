//! The thresholds at which a collection leaves its compact encoding. They come from the configuration
//! and are passed by reference to every operation that can grow a value, so a value never stores them.

/// Thresholds of the compact encodings; the defaults are those of Redis 7.4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub hash_max_listpack_entries: usize,
    pub hash_max_listpack_value: usize,
    pub set_max_intset_entries: usize,
    pub set_max_listpack_entries: usize,
    pub set_max_listpack_value: usize,
    pub zset_max_listpack_entries: usize,
    pub zset_max_listpack_value: usize,
    /// A HyperLogLog longer than this becomes dense.
    pub hll_sparse_max_bytes: usize,
    /// Positive: elements per list node. -1 to -5: 4, 8, 16, 32 or 64 KiB per list node.
    pub list_max_listpack_size: i32,
    /// Accepted for compatibility; list nodes are never compressed in memory.
    pub list_compress_depth: u32,
    /// Bytes of a stream's listpack; 0: as many as are safe.
    pub stream_node_max_bytes: usize,
    /// Entries of a stream's listpack, deleted ones among them; 0: no limit.
    pub stream_node_max_entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            hash_max_listpack_entries: 128,
            hash_max_listpack_value: 64,
            set_max_intset_entries: 512,
            set_max_listpack_entries: 128,
            set_max_listpack_value: 64,
            zset_max_listpack_entries: 128,
            zset_max_listpack_value: 64,
            hll_sparse_max_bytes: 3000,
            list_max_listpack_size: -2,
            list_compress_depth: 0,
            stream_node_max_bytes: 4096,
            stream_node_max_entries: 100,
        }
    }
}
